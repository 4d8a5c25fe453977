// SPDX-License-Identifier: GPL-2.0
/*
 * Task storage: local storage whose owners are tasks.
 *
 * A task keeps its values to the end of free_task(): programs of the scheduler
 * and of the LSM look for them when its last reference is gone.  It gets no new
 * ones then.  Programs reach a task in any context, the scheduler's and NMIs
 * among them, so no reference is taken: what keeps the task's memory is up to
 * whoever has the pointer.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

static DEFINE_BPF_LOCAL_STORAGE_SLOTS(task_slots);

static void *task_get_fd(int fd, void **ref)
{
	struct task_struct *task;
	unsigned int flags;
	struct pid *pid;

	pid = pidfd_get_pid(fd, &flags);
	if (IS_ERR(pid))
		return ERR_CAST(pid);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task)
		return ERR_PTR(-ENOENT);
	*ref = task;
	return task;
}

static void task_put_ref(void *ref)
{
	put_task_struct(ref);
}

static const struct bpf_local_storage_kind task_kind = {
	.pointer = offsetof(struct task_struct, bpf_storage),
	.get_fd = task_get_fd,
	.put_ref = task_put_ref,
	.slots = &task_slots,
};

/**
 * bpf_task_storage_free - free what a task keeps
 * @task: the task, about to be freed
 *
 * Context: Any but NMI.
 */
void bpf_task_storage_free(struct task_struct *task)
{
	bpf_local_storage_destroy(task, &task_kind);
}

static struct bpf_map *task_map_alloc(union bpf_attr *attr)
{
	return bpf_local_storage_map_alloc(attr, &task_kind);
}

const struct bpf_map_ops task_storage_map_ops = {
	BPF_LOCAL_STORAGE_MAP_OPS,
	.map_alloc = task_map_alloc,
};

/* @gfp is not an argument of the program's: the verifier sets it. */
BPF_CALL_5(bpf_task_storage_get, struct bpf_map *, map, struct task_struct *,
	   task, void *, value, u64, flags, gfp_t, gfp)
{
	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!task || flags > BPF_LOCAL_STORAGE_GET_F_CREATE)
		return (unsigned long)NULL;
	/* Nobody but the program knows the task any more. */
	if (!refcount_read(&task->usage))
		flags = 0;
	return (unsigned long)bpf_local_storage_get(task, map, value, flags,
						    gfp);
}

BPF_CALL_2(bpf_task_storage_delete, struct bpf_map *, map,
	   struct task_struct *, task)
{
	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!task)
		return -EINVAL;
	return bpf_local_storage_delete(task, to_local_storage_map(map));
}

const struct bpf_func_proto bpf_task_storage_get_proto = {
	.func = bpf_task_storage_get,
	.ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &btf_tracing_ids[BTF_TRACING_TYPE_TASK],
	.arg3_type = ARG_PTR_TO_MAP_VALUE_OR_NULL,
	.arg4_type = ARG_ANYTHING,
};

const struct bpf_func_proto bpf_task_storage_delete_proto = {
	.func = bpf_task_storage_delete,
	.ret_type = RET_INTEGER,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &btf_tracing_ids[BTF_TRACING_TYPE_TASK],
};
