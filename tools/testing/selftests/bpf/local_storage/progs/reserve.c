// SPDX-License-Identifier: GPL-2.0
/* Values in the sockets, of sockets that a program looks up. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define BPF_F_CURRENT_NETNS (-1L)
#define TC_ACT_OK	0

struct numbers {
	struct bpf_spin_lock lock;
	__u32 numbers[7];
};

/* The tests add the flag that puts the values into the sockets. */
STORAGE(values, BPF_MAP_TYPE_SK_STORAGE, struct numbers);

struct bpf_sock_tuple tuple;
__u32 number;

/* What was found: the state, or -1, and whether there was a value. */
int state, got;
unsigned int torn;

static bool is_torn(const struct numbers *copy)
{
	for (int i = 1; i < 7; i++)
		if (copy->numbers[i] != copy->numbers[0])
			return true;
	return false;
}

/* A connection, or what is left or not yet there of one. */
SEC("tc")
int get_of_any(struct __sk_buff *skb)
{
	struct bpf_sock *sk;

	state = -1;
	got = 0;
	sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4),
				BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return TC_ACT_OK;
	state = sk->state;
	got = !!bpf_sk_storage_get(&values, sk, 0, 0);
	got |= !!bpf_sk_storage_get(&values, sk, 0,
				    BPF_SK_STORAGE_GET_F_CREATE) << 1;
	bpf_sk_release(sk);
	return TC_ACT_OK;
}

/* The socket may be freed before its value is used. */
SEC("tc")
int use_after_release(struct __sk_buff *skb)
{
	struct numbers *value, copy;
	struct bpf_sock *sk;

	got = 0;
	sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4),
			       BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return TC_ACT_OK;
	value = bpf_sk_storage_get(&values, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_sk_release(sk);
	if (!value)
		return TC_ACT_OK;
	got = 1;
	number++;
	bpf_spin_lock(&value->lock);
	for (int i = 0; i < 7; i++) {
		copy.numbers[i] = value->numbers[i];
		value->numbers[i] = number;
	}
	bpf_spin_unlock(&value->lock);
	if (is_torn(&copy))
		torn++;
	return TC_ACT_OK;
}

/* Sockets before the first reference to them, and after the last */

int pid;
int unborn, dead;

SEC("?lsm/sk_alloc_security")
int BPF_PROG(at_alloc, struct sock *sk)
{
	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	unborn++;
	if (bpf_sk_storage_get(&values, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
		got++;
	return 0;
}

SEC("?lsm/sk_free_security")
int BPF_PROG(at_free, struct sock *sk)
{
	dead++;
	if (bpf_sk_storage_get(&values, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
		got++;
	return 0;
}

/* Programs, and callbacks, that can sleep, and one that cannot */

struct storage_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} one SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct storage_map);
} outer SEC(".maps");

struct work {
	struct bpf_wq wq;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern int bpf_wq_init(struct bpf_wq *wq, void *map, unsigned int flags)
	__weak __ksym;
/* One of the two, which take the same. */
extern int bpf_wq_set_callback(struct bpf_wq *wq,
			       int (callback_fn)(void *map, int *key, void *value),
			       unsigned int flags) __ksym __weak;
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq,
				    int (callback_fn)(void *map, int *key,
						      void *value),
				    unsigned int flags,
				    void *aux) __ksym __weak;

static int get_by(void *map, struct sock *sk)
{
	if (map && sk)
		got = !!bpf_sk_storage_get(map, sk, 0, 0);
	return 0;
}

SEC("?lsm/socket_bind")
int BPF_PROG(not_sleepable, struct socket *sock)
{
	return get_by(&one, sock->sk);
}

SEC("?lsm.s/socket_bind")
int BPF_PROG(sleepable, struct socket *sock)
{
	return get_by(&one, sock->sk);
}

SEC("?lsm.s/socket_bind")
int BPF_PROG(sleepable_by_inner_map, struct socket *sock)
{
	return get_by(bpf_map_lookup_elem(&outer, &(__u32){ 0 }), sock->sk);
}

/* In an RCU read section, but with a pointer that is good beyond it. */
static int on_work(void *map, int *key, void *value)
{
	struct task_struct *task = bpf_get_current_task_btf();

	bpf_rcu_read_lock();
	get_by(&one, task->nsproxy->net_ns->rtnl);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("?fentry/bpf_fentry_test1")
int BPF_PROG(sleepable_callback)
{
	struct work *work = bpf_map_lookup_elem(&works, &(__u32){ 0 });

	if (!work || bpf_wq_init(&work->wq, &works, 0))
		return 0;
	if (bpf_ksym_exists(bpf_wq_set_callback))
		bpf_wq_set_callback(&work->wq, on_work, 0);
	else
		bpf_wq_set_callback_impl(&work->wq, on_work, 0, NULL);
	return 0;
}
