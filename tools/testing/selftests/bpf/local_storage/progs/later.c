// SPDX-License-Identifier: GPL-2.0
/* A task's values that point to pages of the user's. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#ifndef __uptr
#define __uptr __attribute__((btf_type_tag("uptr")))
#endif

struct shared {
	__u64 calls;
};

/* Or the compiler leaves its members out. */
struct shared whole __hidden;

struct pointing {
	struct shared __uptr *page;
	__u64 number;
};

struct pointing_locked {
	struct bpf_spin_lock lock;
	struct shared __uptr *page;
};

STORAGE(values, BPF_MAP_TYPE_TASK_STORAGE, struct pointing);
STORAGE(locked, BPF_MAP_TYPE_TASK_STORAGE, struct pointing_locked);

STORAGE(sockets, BPF_MAP_TYPE_SK_STORAGE, __u64);

/* Where this program's copy of a value points to. */
bool copy_points;

SEC("syscall")
int count_call(void *ctx)
{
	struct pointing *value;

	value = bpf_task_storage_get(&values, bpf_get_current_task_btf(), 0, 0);
	if (!value || !value->page)
		return 1;
	__sync_fetch_and_add(&value->page->calls, 1);
	return 0;
}

/* Numbers of a program's own choice are no pointers. */
SEC("syscall")
int create(void *ctx)
{
	struct pointing initial = { .number = 5 }, *value;
	struct task_struct *task = bpf_get_current_task_btf();

	*(__u64 *)&initial = -4096ull;
	value = bpf_task_storage_get(&values, task, &initial,
				     BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!value)
		return 1;
	copy_points = value->page;
	return value->number != 5;
}

SEC("?fentry/inet_csk_destroy_sock")
int BPF_PROG(does_nothing, struct sock *sk)
{
	return 0;
}

SEC("?fentry/inet_csk_destroy_sock")
int BPF_PROG(finds_a_value, struct sock *sk)
{
	bpf_sk_storage_get(&sockets, sk, 0, 0);
	return 0;
}
