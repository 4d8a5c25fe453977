// SPDX-License-Identifier: GPL-2.0
/* Tracing and LSM programs, sleepable ones among them. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct value {
	__u64 bind, connect, close;
	char fill[200];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct value);
} values SEC(".maps");

int pid;
int deletes = 1;

static bool is_ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == pid;
}

static struct value *value_of(struct sock *sk)
{
	return bpf_sk_storage_get(&values, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("lsm.s/socket_bind")
int BPF_PROG(on_bind, struct socket *sock, struct sockaddr *address, int len)
{
	struct sock *sk = sock->sk;
	struct value *v;

	if (!is_ours() || !sk)
		return 0;
	v = value_of(sk);
	if (v)
		v->bind++;
	return 0;
}

SEC("lsm/socket_connect")
int BPF_PROG(on_connect, struct socket *sock, struct sockaddr *address, int len)
{
	struct sock *sk = sock->sk;
	struct value *v;

	if (!is_ours() || !sk)
		return 0;
	v = value_of(sk);
	if (v)
		v->connect++;
	return 0;
}

/* A long read of a value that others delete meanwhile. */
SEC("lsm.s/socket_getpeername")
int BPF_PROG(on_getpeername, struct socket *sock)
{
	struct sock *sk = sock->sk;
	struct value *v;
	char c = 0;

	if (!is_ours() || !sk)
		return 0;
	v = value_of(sk);
	if (!v)
		return 0;
	bpf_copy_from_user(&c, 1, NULL);
	v->close += 1 + c;
	return 0;
}

SEC("lsm.s/socket_getsockname")
int BPF_PROG(on_getsockname, struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (is_ours() && deletes && sk)
		bpf_sk_storage_delete(&values, sk);
	return 0;
}

SEC("fentry/inet_shutdown")
int BPF_PROG(on_shutdown, struct socket *sock, int how)
{
	struct sock *sk = sock->sk;
	struct value *v;

	if (!is_ours() || !sk)
		return 0;
	v = value_of(sk);
	if (v)
		v->close++;
	return 0;
}
