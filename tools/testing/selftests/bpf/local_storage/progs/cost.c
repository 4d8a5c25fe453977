// SPDX-License-Identifier: GPL-2.0
/* What local storage costs: every program here is compared with another. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/shared.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

struct storage_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
};

/* Every map that the next socket is to get a value of. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, OUTER_ENTRIES);
	__type(key, __u32);
	__array(values, struct storage_map);
} outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} array SEC(".maps");

STORAGE(of_task, BPF_MAP_TYPE_TASK_STORAGE, __u64);

STORAGE(of_cgroup, BPF_MAP_TYPE_CGRP_STORAGE, __u64);

/* The maps that a program names itself; the test puts its own in their place. */
#define SUBJECT_MAP(n, _)	struct storage_map subject##n SEC(".maps");
FOR_EACH_SUBJECT(SUBJECT_MAP, _)

const volatile int nr_subjects = 1;

/* How many of `outer` the next socket gets a value of. */
int nr_maps;
bool fresh;
__u64 hits;
/* How often a program did not find what it is to measure. */
__u64 failures;

static int failed(void)
{
	++failures;
	return 0;
}

static __always_inline int count(__u64 *value)
{
	if (!value)
		return failed();
	++*value;
	return 0;
}

static void prepare(struct bpf_sock *sk)
{
	if (!fresh)
		return;
	fresh = false;
	for (__u32 i = 0; i < OUTER_ENTRIES && i < nr_maps; i++) {
		__u32 key = i;
		void *map = bpf_map_lookup_elem(&outer, &key);

		if (map)
			bpf_sk_storage_get(map, sk, 0,
					   BPF_SK_STORAGE_GET_F_CREATE);
	}
}

/* The shell of every program on a socket: what is not counted. */
static struct bpf_sock *begin(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		prepare(sk);
	return sk;
}

/* Programs that differ in nothing but which value they count in. */
#define COUNTS_IN(name, value)						\
	SEC("tc")							\
	int name(struct __sk_buff *skb)					\
	{								\
		struct bpf_sock *sk = begin(skb);			\
									\
		return sk ? count(value) : failed();			\
	}

COUNTS_IN(nothing, &hits)
COUNTS_IN(hit, bpf_sk_storage_get(&subject0, sk, 0, 0))
COUNTS_IN(hit_or_create, bpf_sk_storage_get(&subject0, sk, 0,
					    BPF_SK_STORAGE_GET_F_CREATE))
COUNTS_IN(hash_hit, bpf_map_lookup_elem(&hash, &(__u64){ 1 }))
COUNTS_IN(array_hit, bpf_map_lookup_elem(&array, &(__u32){ 0 }))

SEC("tc")
int nothing_full(struct __sk_buff *skb)
{
	struct bpf_sock *sk = begin(skb);

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return failed();
	return count(&hits);
}

SEC("tc")
int hit_full(struct __sk_buff *skb)
{
	struct bpf_sock *sk = begin(skb);

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return failed();
	return count(bpf_sk_storage_get(&subject0, sk, 0, 0));
}

/* Counts the calls, as `nothing` does: there is no value. */
SEC("tc")
int miss(struct __sk_buff *skb)
{
	struct bpf_sock *sk = begin(skb);

	if (!sk || bpf_sk_storage_get(&subject0, sk, 0, 0))
		return failed();
	return count(&hits);
}

/* A map that no verifier knows: the helper has to be called. */
static void *some_map(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&outer, &key);
}

SEC("tc")
int nothing_by_helper(struct __sk_buff *skb)
{
	if (!begin(skb) || !some_map())
		return failed();
	return count(&hits);
}

SEC("tc")
int hit_by_helper(struct __sk_buff *skb)
{
	struct bpf_sock *sk = begin(skb);
	void *map;

	if (!sk)
		return failed();
	map = some_map();
	if (!map)
		return failed();
	return count(bpf_sk_storage_get(map, sk, 0,
					BPF_SK_STORAGE_GET_F_CREATE));
}

SEC("tc")
int create_delete(struct __sk_buff *skb)
{
	struct bpf_sock *sk = begin(skb);

	if (!sk || !bpf_sk_storage_get(&subject0, sk, 0,
				       BPF_SK_STORAGE_GET_F_CREATE))
		return failed();
	if (bpf_sk_storage_delete(&subject0, sk))
		return failed();
	return count(&hits);
}

/* Nanoseconds and memory that values on sockets without any have taken. */
__u64 elapsed, bytes, allocations;
static __u64 counting_task;

SEC("tc")
int first_nothing(struct __sk_buff *skb)
{
	__u64 start = bpf_ktime_get_ns();

	elapsed += bpf_ktime_get_ns() - start;
	return skb->sk ? 1 : 0;
}

SEC("tc")
int first_write(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 start, *value;

	if (!sk)
		return 0;
	start = bpf_ktime_get_ns();
	value = bpf_sk_storage_get(&subject0, sk, 0,
				   BPF_SK_STORAGE_GET_F_CREATE);
	elapsed += bpf_ktime_get_ns() - start;
	if (!value)
		return 0;
	++*value;
	return 1;
}

SEC("tc")
int first_memory(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	void *value;

	if (!sk)
		return 0;
	counting_task = (__u64)bpf_get_current_task();
	value = bpf_sk_storage_get(&subject0, sk, 0,
				   BPF_SK_STORAGE_GET_F_CREATE);
	counting_task = 0;
	return value ? 1 : 0;
}

SEC("tp_btf/kmalloc")
int BPF_PROG(on_kmalloc, unsigned long site, const void *ptr, size_t asked,
	     size_t got)
{
	if (counting_task == (__u64)bpf_get_current_task()) {
		bytes += got;
		allocations++;
	}
	return 0;
}

/* Where a program cannot be repeated from outside, it repeats the get. */
#define TIMES(op)						\
	do {							\
		__u64 start = bpf_ktime_get_ns();		\
								\
		_Pragma("clang loop unroll(disable)")		\
		for (int i = 0; i < IN_PROGRAM; i++)		\
			op;					\
		elapsed += bpf_ktime_get_ns() - start;		\
	} while (0)

#define COUNT_IN(value)						\
	do {							\
		__u64 *where = (value);				\
								\
		if (where)					\
			++*where;				\
	} while (0)

SEC("raw_tp")
int task_nothing(void *ctx)
{
	volatile __u64 *count = &hits;

	TIMES(++*count);
	return hits;
}

SEC("raw_tp")
int task_hit(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 *value;

	value = bpf_task_storage_get(&of_task, task, 0,
				     BPF_LOCAL_STORAGE_GET_F_CREATE);
	TIMES(COUNT_IN(bpf_task_storage_get(&of_task, task, 0, 0)));
	return value ? *value : 0;
}

SEC("raw_tp")
int cgroup_hit(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	__u64 *value;

	value = bpf_cgrp_storage_get(&of_cgroup, cgroup, 0,
				     BPF_LOCAL_STORAGE_GET_F_CREATE);
	TIMES(COUNT_IN(bpf_cgrp_storage_get(&of_cgroup, cgroup, 0, 0)));
	return value ? *value : 0;
}

#define HIT_SUBJECT(n, sk)						\
	if (n >= nr)							\
		goto out;						\
	value = bpf_sk_storage_get(&subject##n, sk, 0, 0);		\
	if (!value)							\
		return failed();					\
	++*value;

SEC("tc")
int hit_subjects(struct __sk_buff *skb)
{
	struct bpf_sock *sk = begin(skb);
	int nr = nr_subjects;
	__u64 *value;

	if (!sk)
		return failed();
	FOR_EACH_SUBJECT(HIT_SUBJECT, sk)
out:
	return count(&hits);
}
