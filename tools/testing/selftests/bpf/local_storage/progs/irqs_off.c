// SPDX-License-Identifier: GPL-2.0
/*
 * Values that are made with interrupts off: under the lock of a run queue, in
 * hard interrupts and in NMIs.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/irqs_off.h"
#include "progs/machine.h"
#include "progs/preempt.h"
#include "progs/shared.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define CREATE BPF_LOCAL_STORAGE_GET_F_CREATE

/* Of the preemption count. */
#define HARDIRQ	0x000f0000
#define NMI	0x00f00000

#define OUTER(name)						\
	struct {						\
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);	\
		__uint(max_entries, 1);				\
		__type(key, __u32);				\
		__array(values, typeof(name));		\
	} outer_##name SEC(".maps")

STORAGE(small, BPF_MAP_TYPE_TASK_STORAGE, char[8]);
STORAGE(page, BPF_MAP_TYPE_TASK_STORAGE, char[PAGE]);
STORAGE(medium, BPF_MAP_TYPE_TASK_STORAGE, char[MEDIUM]);
STORAGE(large, BPF_MAP_TYPE_TASK_STORAGE, char[LARGE]);
STORAGE(largest, BPF_MAP_TYPE_TASK_STORAGE, char[LARGEST]);
STORAGE(cgroups, BPF_MAP_TYPE_CGRP_STORAGE, char[LARGE]);
STORAGE(sockets, BPF_MAP_TYPE_SK_STORAGE, char[8]);
STORAGE(large_sockets, BPF_MAP_TYPE_SK_STORAGE, char[LARGE]);
OUTER(small);
OUTER(page);
OUTER(medium);
OUTER(large);
OUTER(largest);
OUTER(cgroups);

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern struct cgroup *bpf_cgroup_from_id(u64 id) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgroup) __ksym;

/* The tasks or cgroups to get a value, and whether the map is an inner one. */
int pids[TASKS];
__u64 ids[TASKS];
int next;
bool busy;		/* whether programs do anything */
bool inner;
int odd;		/* runs in another context than was meant */

static __u32 interrupts(void)
{
	return preempt_count() & (HARDIRQ | NMI);
}

static __always_inline int next_index(void)
{
	return __sync_fetch_and_add(&next, 1) & (TASKS - 1);
}

#define PROGRAMS(name)							\
SEC("?tp_btf/sched_switch")						\
int name##_switch(void *ctx)						\
{									\
	if (interrupts())							\
		odd++;							\
	return name##_of_next();					\
}									\
SEC("?fentry/update_process_times")					\
int name##_hardirq(void *ctx)						\
{									\
	if (interrupts() != 1 << 16)						\
		odd++;							\
	return name##_of_next();					\
}									\
SEC("?" NMI_EVENT)							\
int name##_nmi(void *ctx)						\
{									\
	if (!(interrupts() & NMI))						\
		odd++;							\
	return name##_of_next();					\
}

#define TASK_PROGRAMS(name)						\
static __always_inline int name##_of_next(void)				\
{									\
	struct task_struct *task;					\
	__u32 zero = 0;							\
	void *map;							\
									\
	if (!busy)							\
		return 0;						\
	task = bpf_task_from_pid(pids[next_index()]);			\
	if (!task)							\
		return 0;						\
	if (!inner) {							\
		bpf_task_storage_get(&name, task, 0, CREATE);		\
	} else {							\
		map = bpf_map_lookup_elem(&outer_##name, &zero);	\
		if (map)						\
			bpf_task_storage_get(map, task, 0, CREATE);	\
	}								\
	bpf_task_release(task);						\
	return 0;							\
}									\
PROGRAMS(name)

TASK_PROGRAMS(small)
TASK_PROGRAMS(page)
TASK_PROGRAMS(medium)
TASK_PROGRAMS(large)
TASK_PROGRAMS(largest)

static __always_inline int cgroups_of_next(void)
{
	struct cgroup *cgroup;
	__u32 zero = 0;
	void *map;

	if (!busy)
		return 0;
	cgroup = bpf_cgroup_from_id(ids[next_index()]);
	if (!cgroup)
		return 0;
	if (!inner) {
		bpf_cgrp_storage_get(&cgroups, cgroup, 0, CREATE);
	} else {
		map = bpf_map_lookup_elem(&outer_cgroups, &zero);
		if (map)
			bpf_cgrp_storage_get(map, cgroup, 0, CREATE);
	}
	bpf_cgroup_release(cgroup);
	return 0;
}

PROGRAMS(cgroups)

/* Sockets: the one that a process has at a place. */

int pid;
int sockets_seen, sockets_got, large_got, sockets_deleted;
bool remain;		/* leave the socket with values */

static __always_inline struct sock *find_socket(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct socket *sock;
	struct file *file;

	if (!pid || task->tgid != pid || !task->files)
		return NULL;
	file = task->files->fd_array[SK_FD];
	if (!file)
		return NULL;
	sock = bpf_sock_from_file(file);
	return sock ? sock->sk : NULL;
}

static __always_inline void change(struct sock *sk)
{
	if (bpf_sk_storage_get(&sockets, sk, 0, CREATE))
		__sync_fetch_and_add(&sockets_got, 1);
	if (bpf_sk_storage_get(&large_sockets, sk, 0, CREATE))
		__sync_fetch_and_add(&large_got, 1);
	if (remain)
		return;
	if (!bpf_sk_storage_delete(&sockets, sk))
		__sync_fetch_and_add(&sockets_deleted, 1);
	bpf_sk_storage_delete(&large_sockets, sk);
}

SEC("?tp_btf/sched_switch")
int of_socket(void *ctx)
{
	struct sock *sk = find_socket();

	if (!sk)
		return 0;
	__sync_fetch_and_add(&sockets_seen, 1);
	change(sk);
	return 0;
}

/* Long enough for the socket to be closed meanwhile. */
SEC("?tp_btf/sched_switch")
int of_socket_often(void *ctx)
{
	struct sock *sk = find_socket();

	if (!sk)
		return 0;
	__sync_fetch_and_add(&sockets_seen, 1);
	bpf_repeat(TURNS) {
		change(sk);
	}
	return 0;
}
