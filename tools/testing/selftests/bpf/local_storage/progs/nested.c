// SPDX-License-Identifier: GPL-2.0
/* Change values where a hardware breakpoint interrupts another change. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/nested.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define CREATE BPF_LOCAL_STORAGE_GET_F_CREATE
#define MAX_SLOTS 16
#define ENOENT 2
#define EBUSY 16

/* The owner's other maps: where it has a value already, and where it hasn't. */
STORAGE(same, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(kept, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(missing, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(apart, BPF_MAP_TYPE_CGRP_STORAGE, __u64);

struct numbered {
	struct bpf_spin_lock lock;
	__u32 number;
};

STORAGE(with_lock, BPF_MAP_TYPE_TASK_STORAGE, struct numbered);

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;

int pid;		/* of the owner; 0: do nothing */
enum nested_op op;
__u64 watched;		/* an address */
int traps;
bool got;		/* what get returned is not NULL */
__s64 deleted;		/* what delete returned */

/* Where the owner's pointer to its storage is, and the value's slot in it. */
__u64 pointer_at, slot_at;

struct bpf_local_storage___ours {
	void *slots[0];
} __attribute__((preserve_access_index));

static __u64 find_slot(__u64 slots, __u64 value)
{
	__u64 in_slot;

	for (int i = 0; i < MAX_SLOTS; i++) {
		if (bpf_probe_read_kernel(&in_slot, sizeof(in_slot),
					  (void *)slots + 8 * i))
			break;
		if (in_slot == value)
			return slots + 8 * i;
	}
	return 0;
}

SEC("syscall")
int find(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 *value = bpf_task_storage_get(&same, task, 0, CREATE);

	if (!value)
		return 1;
	pointer_at = (__u64)task +
		     bpf_core_field_offset(struct task_struct, bpf_storage);
	if (!bpf_core_field_exists(struct bpf_local_storage___ours, slots))
		return 0;
	slot_at = find_slot((__u64)task->bpf_storage +
			    bpf_core_field_offset(struct bpf_local_storage___ours,
						  slots), (__u64)value);
	return 0;
}

SEC("syscall")
int create_same(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 value = OUTER_VALUE;

	return !bpf_task_storage_get(&same, task, &value, CREATE);
}

SEC("syscall")
int delete_same(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return -bpf_task_storage_delete(&same, task);
}

static __always_inline void change(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	__u64 value = NESTED_VALUE;

	switch (op) {
	case CREATE_SAME:
		got = bpf_task_storage_get(&same, task, &value, CREATE);
		break;
	case DELETE_SAME:
		deleted = bpf_task_storage_delete(&same, task);
		break;
	case CREATE_OTHER:
		got = bpf_task_storage_get(&missing, task, &value, CREATE);
		break;
	case DELETE_OTHER:
		deleted = bpf_task_storage_delete(&kept, task);
		break;
	case CREATE_APART:
		got = bpf_cgrp_storage_get(&apart, cgroup, &value, CREATE);
		break;
	case DELETE_APART:
		deleted = bpf_cgrp_storage_delete(&apart, cgroup);
		break;
	default:
		break;
	}
}

/* Another task, and what came of changing its values. */
int other_pid;
struct crossed crossed;

static bool waited_since(__u64 begin)
{
	return bpf_ktime_get_ns() - begin >= AT_ONCE;
}

static __always_inline void delete_others(struct task_struct *other)
{
	__u64 begin = bpf_ktime_get_ns();
	long err = bpf_task_storage_delete(&missing, other);

	if (!err)
		crossed.deleted++;
	else if (err == -ENOENT)
		crossed.missing++;
	else if (err != -EBUSY)
		crossed.odd++;
	else if (waited_since(begin))
		crossed.late++;
	else
		crossed.busy++;
}

static __always_inline void create_others(struct task_struct *other)
{
	__u64 begin = bpf_ktime_get_ns();

	if (bpf_task_storage_get(&missing, other, 0, CREATE))
		crossed.created++;
	else if (waited_since(begin))
		crossed.late++;
	else
		crossed.null++;
}

static __always_inline void cross(void)
{
	struct task_struct *other = bpf_task_from_pid(other_pid);

	if (!other)
		return;
	bpf_repeat(CROSSINGS) {
		__u64 late = crossed.late;

		delete_others(other);
		/* After a wait in vain, the next one would not wait. */
		if (crossed.late == late)
			create_others(other);
	}
	bpf_task_release(other);
}

/* Each change is in the way of the other processor's. */
__u64 watched_other;
int arrived;

static int other_has_arrived(__u32 i, void *ctx)
{
	return *(volatile int *)&arrived > 1;
}

static __always_inline void meet(bool is_other)
{
	struct task_struct *other = bpf_task_from_pid(is_other ? pid :
								 other_pid);
	__u64 begin;
	int late = 0;

	if (!other)
		return;
	__sync_fetch_and_add(&arrived, 1);
	bpf_loop(LOOKS, other_has_arrived, NULL, 0);
	for (int i = 0; i < MEETINGS; i++) {
		begin = bpf_ktime_get_ns();
		if (bpf_task_storage_get(&missing, other, 0, CREATE))
			bpf_task_storage_delete(&missing, other);
		else
			late += waited_since(begin);
	}
	__sync_fetch_and_add(&arrived, -1);
	if (late)
		__sync_fetch_and_add(&crossed.late, 1);
	if (late > 1)
		__sync_fetch_and_add(&crossed.again, late - 1);
	bpf_task_release(other);
}

/* Called by the exception's handler, after what is watched was written on x86. */
SEC("?fentry/perf_bp_event")
int BPF_PROG(on_breakpoint, struct perf_event *bp)
{
	struct task_struct *task;

	if (!pid)
		return 0;
	if (op == MEET) {
		if (bp->attr.bp_addr == watched)
			meet(false);
		else if (bp->attr.bp_addr == watched_other)
			meet(true);
		return 0;
	}
	if (bp->attr.bp_addr != watched)
		return 0;
	if (op == CROSS) {
		traps++;
		cross();
		return 0;
	}
	if (traps++)
		return 0;
	task = bpf_task_from_pid(pid);
	if (!task)
		return 0;
	change(task);
	bpf_task_release(task);
	return 0;
}

/* Programs on functions, and one that creates a value there. */

SEC("?fentry")
int bare_fentry(void *ctx)
{
	return 0;
}

SEC("?fexit")
int bare_fexit(void *ctx)
{
	return 0;
}

/* Change the value that the task is just updating, once. */
SEC("?fentry")
int change_on_entry(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct numbered locked = { .number = NESTED_VALUE };

	if (!pid || task->tgid != pid)
		return 0;
	pid = 0;
	traps++;
	if (op == CREATE_LOCKED)
		got = bpf_task_storage_get(&with_lock, task, &locked, CREATE);
	else
		change(task);
	return 0;
}

int runs, created;

SEC("?fentry")
int create_on_entry(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	__sync_fetch_and_add(&runs, 1);
	if (bpf_task_storage_get(&missing, task, 0, CREATE))
		__sync_fetch_and_add(&created, 1);
	return 0;
}
