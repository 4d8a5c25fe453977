// SPDX-License-Identifier: GPL-2.0
/* Values that programs keep with whatever they meet while all of it changes. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"
#include "progs/stress.h"

char _license[] SEC("license") = "GPL";

#define CREATE	BPF_LOCAL_STORAGE_GET_F_CREATE

struct value {
	__u64 words[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct value);
} sockets SEC(".maps");

STORAGE(tasks, BPF_MAP_TYPE_TASK_STORAGE, struct value);
STORAGE(cgroups, BPF_MAP_TYPE_CGRP_STORAGE, struct value);
STORAGE(inodes, BPF_MAP_TYPE_INODE_STORAGE, struct value);

/* By kind, in the order of these maps. */
struct calls calls[4];
__u64 values_seen;

/* One of so many calls; what a run's seed decides is userspace's part. */
static bool one_in(__u32 n)
{
	return bpf_get_prandom_u32() % n == 0;
}

static void count_get(struct calls *of, const struct value *value, bool create)
{
	if (!value)
		__sync_fetch_and_add(&of->missing, 1);
	else if (create)
		__sync_fetch_and_add(&of->created, 1);
	else
		__sync_fetch_and_add(&of->found, 1);
}

static void count_delete(struct calls *of, long err)
{
	if (!err)
		__sync_fetch_and_add(&of->deleted, 1);
}

#define WORK_ON(get, delete, map, owner, kind) do {			\
	bool create = one_in(2);					\
	struct value *value;						\
									\
	value = get(&map, owner, 0, create ? CREATE : 0);		\
	count_get(&calls[kind], value, create);				\
	if (value)							\
		__sync_fetch_and_add(&value->words[0], 1);		\
	if (one_in(4))							\
		count_delete(&calls[kind], delete(&map, owner));	\
} while (0)

static __always_inline int work_on_socket(struct bpf_sock *sk)
{
	if (sk)
		WORK_ON(bpf_sk_storage_get, bpf_sk_storage_delete, sockets, sk,
			0);
	return 1;
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ops)
{
	return work_on_socket(ops->sk);
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	return work_on_socket(skb->sk);
}

SEC("fentry/tcp_close")
int BPF_PROG(on_close, struct sock *sk)
{
	WORK_ON(bpf_sk_storage_get, bpf_sk_storage_delete, sockets, sk, 0);
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(on_new_task, struct task_struct *task)
{
	WORK_ON(bpf_task_storage_get, bpf_task_storage_delete, tasks, task, 1);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev)
{
	struct cgroup *cgroup;

	if (!one_in(16))
		return 0;
	WORK_ON(bpf_task_storage_get, bpf_task_storage_delete, tasks, prev, 1);
	cgroup = prev->cgroups->dfl_cgrp;
	WORK_ON(bpf_cgrp_storage_get, bpf_cgrp_storage_delete, cgroups, cgroup,
		2);
	return 0;
}

SEC("lsm/file_open")
int BPF_PROG(on_open, struct file *file)
{
	struct inode *inode = file->f_inode;

	WORK_ON(bpf_inode_storage_get, bpf_inode_storage_delete, inodes, inode,
		3);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int visit(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	__u64 *value = ctx->value;

	if (ctx->sk && value) {
		BPF_SEQ_PRINTF(seq, "%llu\n", *value);
		__sync_fetch_and_add(&values_seen, 1);
	}
	return 0;
}
