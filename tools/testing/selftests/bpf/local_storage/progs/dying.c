// SPDX-License-Identifier: GPL-2.0
/* The last programs that meet an owner, and what they can do with its value. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/dying.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define CREATE		BPF_LOCAL_STORAGE_GET_F_CREATE
#define EAGAIN		11
#define ENOMEM		12
#define SIGKILL		9
#define TASK_DEAD	0x80

int pid;		/* of the test */
int forker;		/* of its child that is killed while it forks */
int armed;		/* the next owner that the test makes is meant */
int op;
__u64 owner;		/* its address; nothing else tells it to the end */
int born, met, done;

/* The owner gets a value in one map, and none in the other. */
#define KIND(kind, map_type, owner_type)				\
	STORAGE(kind##_kept, map_type, __u64);				\
	STORAGE(kind##_made, map_type, __u64);				\
									\
	static __always_inline void kind##_begins(owner_type *it)	\
	{								\
		armed = 0;						\
		owner = (__u64)it;					\
		born = bpf_##kind##_storage_get(&kind##_kept, it, 0,	\
						CREATE) != NULL;	\
	}								\
									\
	static __always_inline int kind##_ends(owner_type *it)		\
	{								\
		if ((__u64)it != owner || met)				\
			return 0;					\
		if (op == FIND)						\
			done = bpf_##kind##_storage_get(&kind##_kept,	\
						it, 0, 0) != NULL;	\
		else if (op == DELETE)					\
			done = !bpf_##kind##_storage_delete(		\
						&kind##_kept, it);	\
		else							\
			done = bpf_##kind##_storage_get(&kind##_made,	\
						it, 0, CREATE) != NULL;	\
		met = 1;						\
		return 0;						\
	}

KIND(task, BPF_MAP_TYPE_TASK_STORAGE, struct task_struct)
KIND(cgrp, BPF_MAP_TYPE_CGRP_STORAGE, struct cgroup)
KIND(inode, BPF_MAP_TYPE_INODE_STORAGE, struct inode)
KIND(sk, BPF_MAP_TYPE_SK_STORAGE, struct sock)

static bool is_ours(void)
{
	int tgid = bpf_get_current_pid_tgid() >> 32;

	return armed && (tgid == pid || tgid == forker);
}

/* Where owners begin. */

SEC("tp_btf/task_newtask")
int BPF_PROG(new_task, struct task_struct *task, u64 flags)
{
	if (is_ours())
		task_begins(task);
	return 0;
}

SEC("lsm/task_alloc")
int BPF_PROG(early_task, struct task_struct *task, unsigned long flags)
{
	if (is_ours())
		task_begins(task);
	return 0;
}

SEC("lsm/task_alloc")
int BPF_PROG(refused_task, struct task_struct *task, unsigned long flags)
{
	if (!is_ours())
		return 0;
	task_begins(task);
	return -EAGAIN;
}

SEC("lsm/task_alloc")
int BPF_PROG(killed_task, struct task_struct *task, unsigned long flags)
{
	if (!is_ours())
		return 0;
	task_begins(task);
	bpf_send_signal(SIGKILL);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(new_cgroup, struct cgroup *cgrp, const char *path)
{
	if (is_ours())
		cgrp_begins(cgrp);
	return 0;
}

SEC("lsm/inode_setattr")
int BPF_PROG(touched_inode, struct mnt_idmap *map, struct dentry *dentry)
{
	struct inode *inode = dentry->d_inode;

	if (is_ours() && inode)
		inode_begins(inode);
	return 0;
}

SEC("lsm/inode_alloc_security")
int BPF_PROG(refused_inode, struct inode *inode)
{
	if (!is_ours())
		return 0;
	inode_begins(inode);
	return -ENOMEM;
}

SEC("lsm/socket_post_create")
int BPF_PROG(new_socket, struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (is_ours() && sk)
		sk_begins(sk);
	return 0;
}

/* The socket of a test run is never released, only freed. */
SEC("tc")
int test_run_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!armed || !sk)
		return 0;
	armed = 0;
	owner = (__u64)sk;
	born = !!bpf_sk_storage_get(&sk_kept, sk, 0, CREATE);
	return 0;
}

/* Where they end: one program of these is loaded at a time. */

#define TASK_ENDS(function)						\
	SEC("fentry/" #function)					\
	int BPF_PROG(function, struct task_struct *task)		\
	{								\
		return task_ends(task);					\
	}

TASK_ENDS(release_task)
TASK_ENDS(__put_task_struct)
TASK_ENDS(cgroup_free)
TASK_ENDS(exit_creds)
TASK_ENDS(free_task)
TASK_ENDS(arch_release_task_struct)
TASK_ENDS(sched_cancel_fork)

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	return task_ends(task);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev,
	     struct task_struct *next, unsigned int state)
{
	return state == TASK_DEAD ? task_ends(prev) : 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(sched_process_free, struct task_struct *task)
{
	return task_ends(task);
}

SEC("lsm/task_free")
int BPF_PROG(task_free, struct task_struct *task)
{
	return task_ends(task);
}

#ifdef HAS_SCHEDULERS
#define SCHEDULER(op_name)						\
	SEC(".struct_ops.link")						\
	struct sched_ext_ops with_##op_name = {				\
		.op_name = (void *)op_name,				\
		.flags = SCX_OPS_SWITCH_PARTIAL,			\
		.name = "dying",					\
	}

SEC("struct_ops/disable")
int BPF_PROG(disable, struct task_struct *task)
{
	return task_ends(task);
}

SEC("struct_ops/exit_task")
int BPF_PROG(exit_task, struct task_struct *task,
	     struct scx_exit_task_args *args)
{
	return task_ends(task);
}

SEC("struct_ops/cgroup_exit")
int BPF_PROG(cgroup_exit, struct cgroup *cgrp)
{
	return cgrp_ends(cgrp);
}

SCHEDULER(disable);
SCHEDULER(exit_task);
SCHEDULER(cgroup_exit);
#endif

#define CGROUP_ENDS(function)						\
	SEC("fentry/" #function)					\
	int BPF_PROG(function, struct cgroup *cgrp)			\
	{								\
		return cgrp_ends(cgrp);					\
	}

CGROUP_ENDS(cgroup_bpf_offline)
CGROUP_ENDS(cgroup_rstat_flush)
CGROUP_ENDS(cgroup_rstat_exit)

/* The cgroup of one of its controllers, which goes first. */
#define CSS_ENDS(function)						\
	SEC("fentry/" #function)					\
	int BPF_PROG(function, struct cgroup_subsys_state *css)		\
	{								\
		struct cgroup *cgrp = css->cgroup;			\
									\
		return cgrp ? cgrp_ends(cgrp) : 0;			\
	}

CSS_ENDS(cpu_cgroup_css_free)

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgrp, const char *path)
{
	return cgrp_ends(cgrp);
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(cgroup_last_user, struct cgroup *cgrp, const char *path)
{
	return cgrp_ends(cgrp);
}

SEC("lsm/inode_free_security")
int BPF_PROG(inode_free_security, struct inode *inode)
{
	return inode_ends(inode);
}

#define SOCKET_ENDS(function)						\
	SEC("fentry/" #function)					\
	int BPF_PROG(function, struct sock *sk)				\
	{								\
		return sk_ends(sk);					\
	}

SOCKET_ENDS(inet_csk_destroy_sock)
SOCKET_ENDS(sk_common_release)
SOCKET_ENDS(sk_free)
SOCKET_ENDS(sk_destruct)
SOCKET_ENDS(inet_sock_destruct)
SOCKET_ENDS(unix_sock_destructor)
SOCKET_ENDS(reuseport_detach_sock)
SOCKET_ENDS(sk_filter_uncharge)
SOCKET_ENDS(mem_cgroup_sk_free)

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int old, int state)
{
	return state == BPF_TCP_CLOSE ? sk_ends((struct sock *)sk) : 0;
}

SEC("lsm/sk_free_security")
int BPF_PROG(sk_free_security, struct sock *sk)
{
	return sk_ends(sk);
}
