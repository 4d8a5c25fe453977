// SPDX-License-Identifier: GPL-2.0
/* Values of tasks, cgroups and inodes that hold locks and references. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define CREATE BPF_LOCAL_STORAGE_GET_F_CREATE
#define __kptr __attribute__((btf_type_tag("kptr")))

struct holder {
	struct task_struct __kptr *task;
	struct cgroup __kptr *cgroup;
	__u64 holds;
};

STORAGE(task_holders, BPF_MAP_TYPE_TASK_STORAGE, struct holder);
STORAGE(cgrp_holders, BPF_MAP_TYPE_CGRP_STORAGE, struct holder);
STORAGE(inode_holders, BPF_MAP_TYPE_INODE_STORAGE, struct holder);

struct pair {
	struct bpf_spin_lock lock;
	__u32 one;
	__u64 two;
};

STORAGE(task_pairs, BPF_MAP_TYPE_TASK_STORAGE, struct pair);
STORAGE(cgrp_pairs, BPF_MAP_TYPE_CGRP_STORAGE, struct pair);
STORAGE(inode_pairs, BPF_MAP_TYPE_INODE_STORAGE, struct pair);

STORAGE(births, BPF_MAP_TYPE_TASK_STORAGE, __u64);

extern struct cgroup *bpf_cgroup_from_id(u64 id) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgroup) __ksym;
extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;

int pid;			/* of the test; all else is ignored */
int owner_pid;
__u64 owner_id;			/* of the cgroup, or the inode's number */
int held_pid;
__u64 held_id;			/* of the cgroup that is held */
int frees;			/* of the held task's last reference */
bool too_late;			/* to hold: the value is deleted before */
int created, failed;		/* values of new tasks */

static bool is_ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == pid;
}

static __always_inline int hold(struct holder *holder)
{
	struct task_struct *task;
	struct cgroup *cgroup;

	if (!holder)
		return 1;
	task = bpf_task_from_pid(held_pid);
	if (!task)
		return 2;
	task = bpf_kptr_xchg(&holder->task, task);
	if (task)
		bpf_task_release(task);
	cgroup = bpf_cgroup_from_id(held_id);
	if (!cgroup)
		return 3;
	cgroup = bpf_kptr_xchg(&holder->cgroup, cgroup);
	if (cgroup)
		bpf_cgroup_release(cgroup);
	holder->holds++;
	return 0;
}

SEC("syscall")
int hold_with_task(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(owner_pid);
	struct holder *holder;
	int err;

	if (!task)
		return 4;
	holder = bpf_task_storage_get(&task_holders, task, 0, CREATE);
	if (too_late)
		bpf_task_storage_delete(&task_holders, task);
	err = hold(holder);
	bpf_task_release(task);
	return err;
}

SEC("syscall")
int hold_with_cgroup(void *ctx)
{
	struct cgroup *cgroup = bpf_cgroup_from_id(owner_id);
	struct holder *holder;
	int err;

	if (!cgroup)
		return 4;
	holder = bpf_cgrp_storage_get(&cgrp_holders, cgroup, 0, CREATE);
	if (too_late)
		bpf_cgrp_storage_delete(&cgrp_holders, cgroup);
	err = hold(holder);
	bpf_cgroup_release(cgroup);
	return err;
}

SEC("lsm/inode_setattr")
int BPF_PROG(hold_with_inode, struct mnt_idmap *map, struct dentry *dentry)
{
	struct inode *inode = dentry->d_inode;
	struct holder *holder;

	if (!is_ours() || !inode || inode->i_ino != owner_id)
		return 0;
	holder = bpf_inode_storage_get(&inode_holders, inode, 0, CREATE);
	if (too_late)
		bpf_inode_storage_delete(&inode_holders, inode);
	hold(holder);
	return 0;
}

int dropped;

/* On a CPU that goes offline, after it ran what was due there. */
SEC("fentry/sched_cpu_dying")
int drop_with_cpu(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(owner_pid);

	if (!task)
		return 0;
	dropped += !bpf_task_storage_delete(&task_holders, task);
	bpf_task_release(task);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	if (task->pid == held_pid)
		frees++;
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(on_birth, struct task_struct *task, u64 flags)
{
	__u64 init = task->pid;

	if (!is_ours())
		return 0;
	if (bpf_task_storage_get(&births, task, &init, CREATE))
		__sync_fetch_and_add(&created, 1);
	else
		__sync_fetch_and_add(&failed, 1);
	return 0;
}

int renew, renewed;

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_last_moment, struct task_struct *task)
{
	if (!renew || bpf_task_storage_delete(&births, task))
		return 0;
	if (bpf_task_storage_get(&births, task, 0, CREATE))
		__sync_fetch_and_add(&renewed, 1);
	return 0;
}

/* Calls that free a map, and owners that were destroyed during one. */
int freeing, met;

SEC("fentry/bpf_local_storage_map_free")
int on_map_free(void *ctx)
{
	__sync_fetch_and_add(&freeing, 1);
	return 0;
}

SEC("fexit/bpf_local_storage_map_free")
int after_map_free(void *ctx)
{
	__sync_fetch_and_sub(&freeing, 1);
	return 0;
}

SEC("fentry/bpf_local_storage_destroy")
int on_destroy(void *ctx)
{
	if (freeing > 0)
		__sync_fetch_and_add(&met, 1);
	return 0;
}

STORAGE(evictions, BPF_MAP_TYPE_INODE_STORAGE, __u64);
int evicted;

SEC("lsm/inode_free_security")
int BPF_PROG(on_eviction, struct inode *inode)
{
	if (is_ours() &&
	    bpf_inode_storage_get(&evictions, inode, 0, CREATE))
		__sync_fetch_and_add(&evicted, 1);
	return 0;
}

/* Counts twice under the lock. */
static __always_inline void count(struct pair *pair)
{
	if (!pair)
		return;
	bpf_spin_lock(&pair->lock);
	pair->one++;
	pair->two++;
	bpf_spin_unlock(&pair->lock);
}

SEC("lsm/inode_setattr")
int BPF_PROG(count_pairs, struct mnt_idmap *map, struct dentry *dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *inode = dentry->d_inode;

	if (!is_ours() || !inode || inode->i_ino != owner_id)
		return 0;
	count(bpf_task_storage_get(&task_pairs, task->group_leader, 0, CREATE));
	count(bpf_cgrp_storage_get(&cgrp_pairs, task->cgroups->dfl_cgrp, 0,
				   CREATE));
	count(bpf_inode_storage_get(&inode_pairs, inode, 0, CREATE));
	return 0;
}
