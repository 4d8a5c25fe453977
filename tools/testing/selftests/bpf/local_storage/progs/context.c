// SPDX-License-Identifier: GPL-2.0
/*
 * Create and delete values wherever a tracing program can run.  The test sets
 * what the programs are attached to.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/context.h"
#include "progs/machine.h"
#include "progs/preempt.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define ENOENT	2
#define EBUSY	16
#define EINVAL	22

/* The same for both get helpers' flags, and for sockets. */
#define CREATE	BPF_LOCAL_STORAGE_GET_F_CREATE

struct big {
	char fill[BIG_VALUE];
};

STORAGE(tasks, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(big_tasks, BPF_MAP_TYPE_TASK_STORAGE, struct big);
STORAGE(huge_tasks, BPF_MAP_TYPE_TASK_STORAGE, struct big);
STORAGE(cgroups, BPF_MAP_TYPE_CGRP_STORAGE, __u64);
STORAGE(huge_cgroups, BPF_MAP_TYPE_CGRP_STORAGE, struct big);
STORAGE(sockets, BPF_MAP_TYPE_SK_STORAGE, __u64);

/* Of functions, tracepoints, and the clock. */
struct place places[2 * PLACES + 1];
/* How often each run does its work; whether it does any. */
int repeat = 1;
bool quiet = true;
/* Large values would wait in great numbers for their grace period. */
bool small_only;

/* What a system call of the test does, and how often that was refused. */
int pid;
bool of_cgroup;
struct place call;
__u64 dawdled;

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

static enum where where(void)
{
	int count = preempt_count();

	if (count & 0xf << 20)
		return IN_NMI;
	if (count & 0xf << 16)
		return IN_HARDIRQ;
	return count & 1 << 8 ? IN_SOFTIRQ : IN_TASK;
}

static void judge(struct place *place, __u64 *value, long deleted)
{
	if (value)
		COUNT(place->got);
	else
		COUNT(place->null);
	if (deleted == -EBUSY)
		COUNT(place->busy);
	else if (deleted && deleted != -ENOENT)
		COUNT(place->odd);
}

/* Nothing could delete the value of an idle task in the end. */
static bool is_idle(struct task_struct *task)
{
	return !task->pid;
}

static __always_inline void of_task(struct task_struct *task,
				    struct place *place)
{
	struct big *big;
	__u64 *value;

	if (!task || is_idle(task))
		return;
	value = bpf_task_storage_get(&tasks, task, 0, CREATE);
	if (value)
		++*value;
	judge(place, value, bpf_task_storage_delete(&tasks, task));
	if (small_only)
		return;
	big = bpf_task_storage_get(&big_tasks, task, 0, CREATE);
	if (!big)
		return;
	COUNT(place->got_big);
	big->fill[BIG_VALUE - 1]++;
	bpf_task_storage_delete(&big_tasks, task);
}

static __always_inline void of_cgroup_of(struct task_struct *task,
					 struct place *place)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	__u64 *value;

	if (!cgroup)
		return;
	value = bpf_cgrp_storage_get(&cgroups, cgroup, 0, CREATE);
	if (value)
		++*value;
	judge(place, value, bpf_cgrp_storage_delete(&cgroups, cgroup));
}

static __always_inline int churn(int n)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct place *place = &places[n];

	if (quiet)
		return 0;
	COUNT(place->in[where()]);
	bpf_repeat(repeat) {
		of_task(task, place);
		of_task(task->real_parent, place);
		of_cgroup_of(task, place);
	}
	return 0;
}

/* Values of tasks that end, which nobody deletes. */
static __always_inline int create_for(struct task_struct *task, int n)
{
	struct place *place = &places[n];
	__u64 *value;

	if (quiet)
		return 0;
	COUNT(place->in[where()]);
	value = bpf_task_storage_get(&tasks, task, 0, CREATE);
	judge(place, value, 0);
	if (bpf_task_storage_get(&big_tasks, task, 0, CREATE))
		COUNT(place->got_big);
	return 0;
}

static __always_inline int churn_socket(struct sock *sk, int n)
{
	struct place *place = &places[n];
	__u64 *value;
	long err;

	if (quiet)
		return 0;
	COUNT(place->in[where()]);
	value = bpf_sk_storage_get(&sockets, sk, 0, CREATE);
	if (value)
		++*value;
	err = bpf_sk_storage_delete(&sockets, sk);
	/* A socket without references has no storage. */
	judge(place, value, err == -EINVAL ? 0 : err);
	return 0;
}

/* Long enough for others to come between; they don't wait here themselves. */
static __always_inline int dawdle(int n)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (quiet || task->tgid != pid || task->prio < 100)
		return 0;
	COUNT(places[n].in[where()]);
	bpf_repeat(500)
		COUNT(dawdled);
	return 0;
}

#define PROGRAMS(n)							\
SEC("fentry")								\
int dawdle_##n(void *ctx)						\
{									\
	return dawdle(n);						\
}									\
SEC("fentry")								\
int function_##n(void *ctx)						\
{									\
	return churn(n);						\
}									\
SEC("tp_btf")								\
int tracepoint_##n(void *ctx)						\
{									\
	return churn(PLACES + n);					\
}									\
SEC("fentry")								\
int BPF_PROG(function_of_task_##n, struct task_struct *task)		\
{									\
	return create_for(task, n);					\
}									\
SEC("tp_btf")								\
int BPF_PROG(tracepoint_of_task_##n, struct task_struct *task)		\
{									\
	return create_for(task, PLACES + n);				\
}									\
SEC("fentry")								\
int BPF_PROG(function_of_socket_##n, struct sock *sk)			\
{									\
	return churn_socket(sk, n);					\
}									\
SEC("tp_btf")								\
int BPF_PROG(tracepoint_of_socket_##n, struct sock *sk)			\
{									\
	return churn_socket((void *)sk, PLACES + n);			\
}

PROGRAMS(0)
PROGRAMS(1)
PROGRAMS(2)
PROGRAMS(3)
PROGRAMS(4)
PROGRAMS(5)
PROGRAMS(6)
PROGRAMS(7)

/* When a CPU may work again: where all is slow, it needs time for the rest. */
__u64 rested[PROCESSORS];

SEC("perf_event")
int clock(void *ctx)
{
	__u64 *until = &rested[bpf_get_smp_processor_id() % PROCESSORS];
	__u64 begin = bpf_ktime_get_ns(), end;

	if (begin < *until)
		return 0;
	churn(2 * PLACES);
	end = bpf_ktime_get_ns();
	*until = end + 3 * (end - begin);
	return 0;
}

static __always_inline int on_call(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (quiet || task->tgid != pid)
		return 0;
	if (of_cgroup)
		of_cgroup_of(task, &call);
	else
		of_task(task, &call);
	return 0;
}

/* Two, as a program does not run while it is preempted on the same CPU. */
SEC("fentry/" SYSCALL(getpgid))
int on_getpgid(void *ctx)
{
	return on_call();
}

SEC("fentry/" SYSCALL(getsid))
int on_getsid(void *ctx)
{
	return on_call();
}

SEC("iter/task")
int delete_all(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (!task)
		return 0;
	bpf_task_storage_delete(&tasks, task);
	bpf_task_storage_delete(&big_tasks, task);
	return 0;
}
