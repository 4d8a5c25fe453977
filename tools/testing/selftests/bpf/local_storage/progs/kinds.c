// SPDX-License-Identifier: GPL-2.0
/* A program of each type that has a task's, a cgroup's or an inode's value. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/shared.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define CREATE BPF_LOCAL_STORAGE_GET_F_CREATE

STORAGE(task_values, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(cgrp_values, BPF_MAP_TYPE_CGRP_STORAGE, __u64);
STORAGE(inode_values, BPF_MAP_TYPE_INODE_STORAGE, __u64);

extern struct cgroup *bpf_cgroup_from_id(u64 id) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgroup) __ksym;
extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

int pid;		/* of the test; all else is ignored */
int owner_pid;		/* of the task that owns the value, if not the test */
__u64 owner_ino;	/* of the inode, or of the cgroup */
struct report report;

static bool is_ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == pid;
}

static long long value_at(__u64 *value)
{
	return value ? *value : -1;
}

/* The helpers differ by their names and the types of their arguments. */
#define EXERCISE(kind, type)						\
static __always_inline void exercise_##kind(type *owner)		\
{									\
	void *map = &kind##_values;					\
	__u64 init = INITIAL, *value;					\
									\
	if (report.calls++)						\
		return;							\
	report.absent =							\
		value_at(bpf_##kind##_storage_get(map, owner, 0, 0));	\
	report.delete_absent = bpf_##kind##_storage_delete(map, owner);	\
	value = bpf_##kind##_storage_get(map, owner, 0, CREATE);	\
	report.created = value_at(value);				\
	if (value)							\
		*value = 5;						\
	report.existing =						\
		value_at(bpf_##kind##_storage_get(map, owner, &init,	\
						  CREATE));		\
	report.bad_flags =						\
		value_at(bpf_##kind##_storage_get(map, owner, 0, 2));	\
	report.deleted = bpf_##kind##_storage_delete(map, owner);	\
	report.after_delete =						\
		value_at(bpf_##kind##_storage_get(map, owner, 0, 0));	\
	report.deleted_again = bpf_##kind##_storage_delete(map, owner);	\
	report.initial =						\
		value_at(bpf_##kind##_storage_get(map, owner, &init,	\
						  CREATE));		\
	report.null_get =						\
		value_at(bpf_##kind##_storage_get(map, NULL, 0,		\
						  CREATE));		\
	report.null_delete = bpf_##kind##_storage_delete(map, NULL);	\
}

EXERCISE(task, struct task_struct)
EXERCISE(cgrp, struct cgroup)
EXERCISE(inode, struct inode)

/* Tasks: the current one, or the one that a hook is called about. */

static int with_current(void)
{
	if (is_ours())
		exercise_task(bpf_get_current_task_btf());
	return 0;
}

#define CURRENT_TASK(name, section)	\
	SEC(section)			\
	int name(void *ctx)		\
	{				\
		return with_current();	\
	}

CURRENT_TASK(task_kprobe, "kprobe/security_task_getpgid")
CURRENT_TASK(task_kretprobe, "kretprobe/security_task_getpgid")
CURRENT_TASK(task_tracepoint, "tp/syscalls/sys_enter_getpgid")
CURRENT_TASK(task_raw_tp, "raw_tp/sys_enter")
CURRENT_TASK(task_tp_btf, "tp_btf/sys_enter")
CURRENT_TASK(task_perf_event, "perf_event")
CURRENT_TASK(task_interrupt, "perf_event")
CURRENT_TASK(task_syscall, "syscall")

#define HOOKED_TASK(name, section)				\
	SEC(section)						\
	int BPF_PROG(name, struct task_struct *task)		\
	{							\
		if (is_ours())					\
			exercise_task(task);			\
		return 0;					\
	}

HOOKED_TASK(task_fentry, "fentry/security_task_getpgid")
HOOKED_TASK(task_fexit, "fexit/security_task_getpgid")
HOOKED_TASK(task_fmod_ret, "fmod_ret/security_task_getpgid")
HOOKED_TASK(task_lsm, "lsm/task_getpgid")
HOOKED_TASK(task_lsm_s, "lsm.s/task_setscheduler")

SEC("lsm_cgroup/socket_bind")
int BPF_PROG(task_lsm_cgroup, struct socket *sock)
{
	with_current();
	return 1;
}

#define ITERATED_TASK(name, section)				\
	SEC(section)						\
	int name(struct bpf_iter__task *ctx)			\
	{							\
		struct task_struct *task = ctx->task;		\
								\
		if (task && task->pid == owner_pid)		\
			exercise_task(task);			\
		return 0;					\
	}

ITERATED_TASK(task_iter, "iter/task")
ITERATED_TASK(task_iter_s, "iter.s/task")

SEC("syscall")
int task_acquired(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(owner_pid);

	if (!task)
		return 1;
	exercise_task(task);
	bpf_task_release(task);
	return 0;
}

/* Cgroups: mostly that of the current task. */

static __always_inline int with_current_cgroup(int ret)
{
	if (is_ours())
		exercise_cgrp(bpf_get_current_task_btf()->cgroups->dfl_cgrp);
	return ret;
}

#define CURRENT_CGROUP(name, section, ret)	\
	SEC(section)				\
	int name(void *ctx)			\
	{					\
		return with_current_cgroup(ret);\
	}

CURRENT_CGROUP(cgrp_kprobe, "kprobe/security_task_getpgid", 0)
CURRENT_CGROUP(cgrp_tracepoint, "tp/syscalls/sys_enter_getpgid", 0)
CURRENT_CGROUP(cgrp_raw_tp, "raw_tp/sys_enter", 0)
CURRENT_CGROUP(cgrp_tp_btf, "tp_btf/sys_enter", 0)
CURRENT_CGROUP(cgrp_perf_event, "perf_event", 0)
CURRENT_CGROUP(cgrp_interrupt, "perf_event", 0)
CURRENT_CGROUP(cgrp_fentry, "fentry/security_task_getpgid", 0)
CURRENT_CGROUP(cgrp_fexit, "fexit/security_task_getpgid", 0)
CURRENT_CGROUP(cgrp_fmod_ret, "fmod_ret/security_task_getpgid", 0)
CURRENT_CGROUP(cgrp_lsm, "lsm/task_getpgid", 0)
CURRENT_CGROUP(cgrp_lsm_cgroup, "lsm_cgroup/socket_bind", 1)
CURRENT_CGROUP(cgrp_egress, "cgroup_skb/egress", 1)
CURRENT_CGROUP(cgrp_sock_create, "cgroup/sock_create", 1)
CURRENT_CGROUP(cgrp_connect, "cgroup/connect4", 1)
CURRENT_CGROUP(cgrp_setsockopt, "cgroup/setsockopt", 1)
CURRENT_CGROUP(cgrp_getsockopt, "cgroup/getsockopt", 1)
CURRENT_CGROUP(cgrp_sysctl, "cgroup/sysctl", 1)
CURRENT_CGROUP(cgrp_dev, "cgroup/dev", 1)
CURRENT_CGROUP(cgrp_sockops, "sockops", 1)
CURRENT_CGROUP(cgrp_socket_filter, "socket", 0)
CURRENT_CGROUP(cgrp_tc, "tc", 0)
CURRENT_CGROUP(cgrp_xdp, "xdp", 2)

/* Whoever may sleep has to say that the cgroup must not go meanwhile. */
SEC("lsm.s/task_setscheduler")
int BPF_PROG(cgrp_lsm_s, struct task_struct *task)
{
	bpf_rcu_read_lock();
	with_current_cgroup(0);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("iter/cgroup")
int cgrp_iter(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;

	if (cgroup && (__u32)cgroup->kn->id == (__u32)owner_ino)
		exercise_cgrp(cgroup);
	return 0;
}

SEC("syscall")
int cgrp_syscall(void *ctx)
{
	struct cgroup *cgroup = bpf_cgroup_from_id(owner_ino);

	if (!cgroup)
		return 1;
	exercise_cgrp(cgroup);
	bpf_cgroup_release(cgroup);
	return 0;
}

/* A cgroup that is kept until after its directory is gone. */

#define __kptr __attribute__((btf_type_tag("kptr")))

struct kept {
	struct cgroup __kptr *cgroup;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct kept);
} kept SEC(".maps");

int value_before_removal;	/* whether the cgroup is to have one */

SEC("syscall")
int keep_cgroup(void *ctx)
{
	struct cgroup *cgroup;
	struct kept *slot;
	int zero = 0;

	slot = bpf_map_lookup_elem(&kept, &zero);
	cgroup = bpf_cgroup_from_id(owner_ino);
	if (!cgroup)
		return 1;
	if (!slot) {
		bpf_cgroup_release(cgroup);
		return 2;
	}
	if (value_before_removal)
		bpf_cgrp_storage_get(&cgrp_values, cgroup, 0, CREATE);
	cgroup = bpf_kptr_xchg(&slot->cgroup, cgroup);
	if (cgroup)
		bpf_cgroup_release(cgroup);
	return 0;
}

SEC("syscall")
int use_kept_cgroup(void *ctx)
{
	struct cgroup *cgroup;
	struct kept *slot;
	int zero = 0;

	slot = bpf_map_lookup_elem(&kept, &zero);
	if (!slot)
		return 1;
	cgroup = bpf_kptr_xchg(&slot->cgroup, NULL);
	if (!cgroup)
		return 2;
	exercise_cgrp(cgroup);
	bpf_cgroup_release(cgroup);
	return 0;
}

/* Inodes: programs of the LSM only. */

static __always_inline int with_inode(struct inode *inode)
{
	if (is_ours() && inode && inode->i_ino == owner_ino)
		exercise_inode(inode);
	return 0;
}

#define OPENED(name, section)				\
	SEC(section)					\
	int BPF_PROG(name, struct file *file)		\
	{						\
		return with_inode(file->f_inode);	\
	}

OPENED(inode_open, "lsm/file_open")
OPENED(inode_open_s, "lsm.s/file_open")

SEC("lsm/inode_unlink")
int BPF_PROG(inode_unlink, struct inode *dir, struct dentry *dentry)
{
	return with_inode(dentry->d_inode);
}

SEC("lsm.s/inode_rename")
int BPF_PROG(inode_rename, struct inode *dir, struct dentry *dentry)
{
	return with_inode(dentry->d_inode);
}

SEC("lsm/inode_setattr")
int BPF_PROG(inode_setattr, struct mnt_idmap *map, struct dentry *dentry)
{
	return with_inode(dentry->d_inode);
}

SEC("lsm.s/inode_create")
int BPF_PROG(inode_create, struct inode *dir)
{
	return with_inode(dir);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(inode_mkdir, struct inode *dir)
{
	return with_inode(dir);
}
