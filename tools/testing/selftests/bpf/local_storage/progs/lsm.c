// SPDX-License-Identifier: GPL-2.0
/* LSM programs, sleepable ones and those of a cgroup among them. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/shared.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define __kptr __attribute__((btf_type_tag("kptr")))

struct value {
	__u64 bind, connect, close;
	char fill[200];
};

STORAGE(values, BPF_MAP_TYPE_SK_STORAGE, struct value);

struct owner {
	struct task_struct __kptr *task;
	__u64 changes;
};

STORAGE(owners, BPF_MAP_TYPE_SK_STORAGE, struct owner);

/* Where a socket has been; see progs/shared.h. */
STORAGE(paths, BPF_MAP_TYPE_SK_STORAGE, __u64);

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u64);
} cgroup_paths SEC(".maps");

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

int pid;
__u64 user_page;
__u64 page_reads;
int unborn, unborn_got, dead, dead_got;

static bool is_ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == pid;
}

/* The value of a socket that the test itself uses, or NULL. */
static __always_inline struct value *value_of(struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (!is_ours() || !sk)
		return NULL;
	return bpf_sk_storage_get(&values, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("lsm.s/socket_bind")
int BPF_PROG(on_bind, struct socket *sock, struct sockaddr *address, int len)
{
	struct value *v = value_of(sock);

	if (v)
		v->bind++;
	return 0;
}

SEC("lsm/socket_connect")
int BPF_PROG(on_connect, struct socket *sock, struct sockaddr *address, int len)
{
	struct value *v = value_of(sock);

	if (v)
		v->connect++;
	return 0;
}

/* A long read of a value that others delete meanwhile. */
SEC("lsm.s/socket_getpeername")
int BPF_PROG(on_getpeername, struct socket *sock)
{
	struct value *v = value_of(sock);
	char c = 0;

	if (!v)
		return 0;
	/* A fault that has to be served, with the value in hand. */
	if (!bpf_copy_from_user(&c, 1, (void *)user_page))
		page_reads++;
	v->close += 1 + c;
	return 0;
}

SEC("lsm.s/socket_getsockname")
int BPF_PROG(on_getsockname, struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (is_ours() && sk)
		bpf_sk_storage_delete(&values, sk);
	return 0;
}

/* The socket holds a reference on the task that last called listen(). */
SEC("lsm/socket_listen")
int BPF_PROG(on_listen, struct socket *sock, int backlog)
{
	struct task_struct *task;
	struct sock *sk = sock->sk;
	struct owner *owner;

	if (!is_ours() || !sk)
		return 0;
	owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	task = bpf_task_acquire(bpf_get_current_task_btf());
	if (!task)
		return 0;
	task = bpf_kptr_xchg(&owner->task, task);
	if (task)
		bpf_task_release(task);
	owner->changes++;
	return 0;
}

SEC("fentry/inet_shutdown")
int BPF_PROG(on_shutdown, struct socket *sock, int how)
{
	struct value *v = value_of(sock);

	if (v)
		v->close++;
	return 0;
}

static __always_inline void walk(void *map, struct sock *sk, int hook)
{
	__u64 *path;

	if (!sk)
		return;
	path = bpf_sk_storage_get(map, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (path)
		*path = *path * 8 + hook;
}

SEC("lsm.s/socket_post_create")
int BPF_PROG(at_create, struct socket *sock)
{
	if (is_ours())
		walk(&paths, sock->sk, AT_CREATE);
	return 0;
}

SEC("lsm/socket_bind")
int BPF_PROG(at_bind, struct socket *sock)
{
	if (is_ours())
		walk(&paths, sock->sk, AT_BIND);
	return 0;
}

/* The new socket has no sock yet. */
SEC("lsm.s/socket_accept")
int BPF_PROG(at_accept, struct socket *sock, struct socket *newsock)
{
	if (is_ours())
		walk(&paths, sock->sk, AT_ACCEPT);
	return 0;
}

SEC("lsm/sock_graft")
int BPF_PROG(at_graft, struct sock *sk, struct socket *parent)
{
	if (is_ours())
		walk(&paths, sk, AT_ACCEPT);
	return 0;
}

SEC("lsm.s/socket_sendmsg")
int BPF_PROG(at_send, struct socket *sock)
{
	if (is_ours())
		walk(&paths, sock->sk, AT_SEND);
	return 0;
}

SEC("lsm/socket_shutdown")
int BPF_PROG(at_shutdown, struct socket *sock, int how)
{
	if (is_ours())
		walk(&paths, sock->sk, AT_SHUTDOWN);
	return 0;
}

SEC("lsm/sk_alloc_security")
int BPF_PROG(at_alloc, struct sock *sk)
{
	if (!is_ours())
		return 0;
	if (bpf_sk_storage_get(&paths, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
		unborn_got++;
	unborn++;
	return 0;
}

SEC("lsm/sk_free_security")
int BPF_PROG(at_free, struct sock *sk)
{
	if (bpf_sk_storage_get(&paths, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
		dead_got++;
	dead++;
	return 0;
}

SEC("lsm_cgroup/socket_post_create")
int BPF_PROG(cgroup_create, struct socket *sock)
{
	walk(&cgroup_paths, sock->sk, AT_CREATE);
	return 1;
}

SEC("lsm_cgroup/socket_bind")
int BPF_PROG(cgroup_bind, struct socket *sock)
{
	walk(&cgroup_paths, sock->sk, AT_BIND);
	return 1;
}

SEC("lsm_cgroup/inet_csk_clone")
int BPF_PROG(cgroup_clone, struct sock *newsk, const struct request_sock *req)
{
	walk(&cgroup_paths, newsk, AT_CLONE);
	return 1;
}

SEC("lsm_cgroup/socket_shutdown")
int BPF_PROG(cgroup_shutdown, struct socket *sock, int how)
{
	struct sock *sk = sock->sk;

	if (sk)
		bpf_sk_storage_delete(&cgroup_paths, sk);
	return 1;
}
