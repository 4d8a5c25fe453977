// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that the verifier has to judge.  The prefix says how: bad_ ones are
 * refused, good_ ones load.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define __kptr __attribute__((btf_type_tag("kptr")))

struct locked {
	struct bpf_spin_lock lock;
	__u32 number;
};

struct pointing {
	struct task_struct __kptr *task;
};

STORAGE(plain, BPF_MAP_TYPE_SK_STORAGE, __u64);
STORAGE(locked, BPF_MAP_TYPE_SK_STORAGE, struct locked);
STORAGE(pointing, BPF_MAP_TYPE_SK_STORAGE, struct pointing);
STORAGE(of_tasks, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(of_cgroups, BPF_MAP_TYPE_CGRP_STORAGE, __u64);
STORAGE(of_inodes, BPF_MAP_TYPE_INODE_STORAGE, __u64);
STORAGE(locked_of_tasks, BPF_MAP_TYPE_TASK_STORAGE, struct locked);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, __u64);
} hash SEC(".maps");

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

#define CREATE BPF_SK_STORAGE_GET_F_CREATE

SEC("tc")
int good_spin_lock(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct locked *v;

	if (!sk)
		return 0;
	v = bpf_sk_storage_get(&locked, sk, 0, CREATE);
	if (!v)
		return 0;
	bpf_spin_lock(&v->lock);
	v->number++;
	bpf_spin_unlock(&v->lock);
	return 0;
}

SEC("lsm/socket_bind")
int BPF_PROG(good_kptr, struct socket *sock, struct sockaddr *addr, int len)
{
	struct sock *sk = sock->sk;
	struct task_struct *task, *old;
	struct pointing *v;

	if (!sk)
		return 0;
	v = bpf_sk_storage_get(&pointing, sk, 0, CREATE);
	if (!v)
		return 0;
	task = bpf_task_acquire(bpf_get_current_task_btf());
	if (!task)
		return 0;
	old = bpf_kptr_xchg(&v->task, task);
	if (old)
		bpf_task_release(old);
	return 0;
}

SEC("tc")
int good_initial_value(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 init = 1;

	if (sk)
		bpf_sk_storage_get(&plain, sk, &init, CREATE);
	return 0;
}

SEC("tc")
int bad_maybe_null_socket(struct __sk_buff *skb)
{
	bpf_sk_storage_get(&plain, skb->sk, 0, CREATE);
	return 0;
}

SEC("tc")
int bad_unchecked_value(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 *v;

	if (!sk)
		return 0;
	v = bpf_sk_storage_get(&plain, sk, 0, CREATE);
	return *v;
}

SEC("tc")
int bad_beyond_value(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 *v;

	if (!sk)
		return 0;
	v = bpf_sk_storage_get(&plain, sk, 0, CREATE);
	return v ? v[1] : 0;
}

SEC("tc")
int bad_short_initial_value(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u32 init = 1;

	if (sk)
		bpf_sk_storage_get(&plain, sk, &init, CREATE);
	return 0;
}

SEC("tc")
int bad_map_type(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		bpf_sk_storage_get(&hash, sk, 0, CREATE);
	return 0;
}

SEC("tc")
int bad_map_type_of_delete(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		bpf_sk_storage_delete(&hash, sk);
	return 0;
}

SEC("tc")
int bad_lookup_elem(struct __sk_buff *skb)
{
	int key = 0;

	return !!bpf_map_lookup_elem(&plain, &key);
}

SEC("tc")
int bad_update_elem(struct __sk_buff *skb)
{
	__u64 value = 0;
	int key = 0;

	return bpf_map_update_elem(&plain, &key, &value, 0);
}

SEC("tc")
int bad_delete_elem(struct __sk_buff *skb)
{
	int key = 0;

	return bpf_map_delete_elem(&plain, &key);
}

SEC("tc")
int bad_socket_number(struct __sk_buff *skb)
{
	bpf_sk_storage_get(&plain, (void *)16, 0, 0);
	return 0;
}

SEC("tc")
int bad_lock_left(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct locked *v;

	if (!sk)
		return 0;
	v = bpf_sk_storage_get(&locked, sk, 0, CREATE);
	if (v)
		bpf_spin_lock(&v->lock);
	return 0;
}

SEC("tc")
int bad_get_under_lock(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct locked *v;

	if (!sk)
		return 0;
	v = bpf_sk_storage_get(&locked, sk, 0, CREATE);
	if (!v)
		return 0;
	bpf_spin_lock(&v->lock);
	bpf_sk_storage_get(&plain, sk, 0, CREATE);
	bpf_spin_unlock(&v->lock);
	return 0;
}

SEC("cgroup/sock_create")
int bad_delete_in_cgroup_sock(struct bpf_sock *ctx)
{
	return bpf_sk_storage_delete(&plain, ctx) + 1;
}

SEC("socket")
int bad_socket_filter(struct __sk_buff *skb)
{
	return !!bpf_sk_storage_get(&plain, skb, 0, 0);
}

SEC("xdp")
int bad_xdp(struct xdp_md *ctx)
{
	return !!bpf_sk_storage_get(&plain, ctx, 0, 0);
}

SEC("sk_skb/stream_verdict")
int bad_sk_skb(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		bpf_sk_storage_get(&plain, sk, 0, 0);
	return SK_PASS;
}

SEC("sk_lookup")
int bad_sk_lookup(struct bpf_sk_lookup *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk)
		bpf_sk_storage_get(&plain, sk, 0, 0);
	return SK_PASS;
}

SEC("flow_dissector")
int bad_flow_dissector(struct __sk_buff *skb)
{
	bpf_sk_storage_get(&plain, skb, 0, 0);
	return 0;
}

SEC("lwt_xmit")
int bad_lwt(struct __sk_buff *skb)
{
	bpf_sk_storage_get(&plain, skb, 0, 0);
	return 0;
}

SEC("cgroup/sysctl")
int bad_sysctl(struct bpf_sysctl *ctx)
{
	bpf_sk_storage_get(&plain, ctx, 0, 0);
	return 1;
}

SEC("kprobe/tcp_close")
int bad_kprobe(struct pt_regs *ctx)
{
	bpf_sk_storage_get(&plain, ctx, 0, 0);
	return 0;
}

SEC("syscall")
int bad_syscall(void *ctx)
{
	bpf_sk_storage_get(&plain, ctx, 0, 0);
	return 0;
}

/* Tasks, cgroups and inodes. */

SEC("tc")
int bad_task_in_tc(struct __sk_buff *skb)
{
	bpf_task_storage_get(&of_tasks, bpf_get_current_task_btf(), 0, 0);
	return 0;
}

SEC("tc")
int bad_task_delete_in_tc(struct __sk_buff *skb)
{
	bpf_task_storage_delete(&of_tasks, bpf_get_current_task_btf());
	return 0;
}

SEC("fentry/security_inode_unlink")
int BPF_PROG(bad_inode_in_fentry, struct inode *dir)
{
	bpf_inode_storage_get(&of_inodes, dir, 0, 0);
	return 0;
}

SEC("fentry/security_inode_unlink")
int BPF_PROG(bad_inode_delete_in_fentry, struct inode *dir)
{
	bpf_inode_storage_delete(&of_inodes, dir);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_map_of_task, struct inode *dir)
{
	bpf_task_storage_get(&plain, bpf_get_current_task_btf(), 0, 0);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_map_of_cgroup, struct inode *dir)
{
	bpf_cgrp_storage_get(&of_tasks,
			     bpf_get_current_task_btf()->cgroups->dfl_cgrp, 0,
			     0);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_map_of_inode, struct inode *dir)
{
	bpf_inode_storage_get(&of_cgroups, dir, 0, 0);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_inode_as_task, struct inode *dir)
{
	bpf_task_storage_get(&of_tasks, (void *)dir, 0, 0);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_task_as_cgroup, struct inode *dir)
{
	bpf_cgrp_storage_get(&of_cgroups, (void *)bpf_get_current_task_btf(),
			     0, 0);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_task_as_inode, struct inode *dir)
{
	bpf_inode_storage_get(&of_inodes, bpf_get_current_task_btf(), 0, 0);
	return 0;
}

SEC("kprobe/security_inode_unlink")
int bad_task_number(struct pt_regs *ctx)
{
	bpf_task_storage_get(&of_tasks, (void *)bpf_get_current_task(), 0, 0);
	return 0;
}

SEC("lsm.s/inode_unlink")
int BPF_PROG(bad_sleepable_cgroup, struct inode *dir)
{
	bpf_cgrp_storage_get(&of_cgroups,
			     bpf_get_current_task_btf()->cgroups->dfl_cgrp, 0,
			     0);
	return 0;
}

SEC("kprobe/security_inode_unlink")
int bad_lock_in_kprobe(struct pt_regs *ctx)
{
	bpf_task_storage_get(&locked_of_tasks, bpf_get_current_task_btf(), 0,
			     0);
	return 0;
}

SEC("kprobe/security_inode_unlink")
int bad_lookup_elem_of_tasks(struct pt_regs *ctx)
{
	int key = 0;

	return !bpf_map_lookup_elem(&of_tasks, &key);
}

SEC("kprobe/security_inode_unlink")
int bad_update_elem_of_cgroups(struct pt_regs *ctx)
{
	__u64 value = 1;
	int key = 0;

	return bpf_map_update_elem(&of_cgroups, &key, &value, 0);
}

SEC("kprobe/security_inode_unlink")
int bad_delete_elem_of_inodes(struct pt_regs *ctx)
{
	int key = 0;

	return bpf_map_delete_elem(&of_inodes, &key);
}

SEC("lsm/inode_unlink")
int BPF_PROG(bad_unchecked_value_of_task, struct inode *dir)
{
	__u64 *v = bpf_task_storage_get(&of_tasks, bpf_get_current_task_btf(),
					0, CREATE);

	*v = 1;
	return 0;
}
