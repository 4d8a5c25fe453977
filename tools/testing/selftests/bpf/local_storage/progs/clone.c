// SPDX-License-Identifier: GPL-2.0
/* What meets a connection on its way from the listener to accept(). */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/failslab.h"
#include "progs/shared.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define BPF_F_CURRENT_NETNS (-1L)
#define ETH_P_IP	0x0800
#define TC_ACT_OK	0
#define TC_ACT_SHOT	2
#define EINVAL		22
#define ENOMEM		12
#define WRITE_PASSES	100

struct whole {
	struct bpf_spin_lock lock;
	__u32 numbers[WHOLE_NUMBERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct whole);
} locked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u64);
} cloned SEC(".maps");

STORAGE(plain, BPF_MAP_TYPE_SK_STORAGE, __u64);

struct meetings meetings[WAYS];
int synacks_to_drop;

int fail_at, failures;
static int allocations, cloning_cpu = -1;

/*
 * Writes numbers to the socket's whole value, that of the level last.  It is
 * torn for as long as that takes, but for the lock.
 */
SEC("cgroup/getsockopt")
int set_whole(struct bpf_sockopt *ctx)
{
	__u32 number = VALUE_OF(ctx->level);
	struct bpf_sock *sk = ctx->sk;
	struct whole *whole;

	if (!IS_LEVEL(ctx->level) || !sk)
		return 1;
	whole = bpf_sk_storage_get(&locked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!whole)
		return 1;
	bpf_spin_lock(&whole->lock);
	for (int pass = WRITE_PASSES - 1; pass >= 0; pass--)
		for (int i = 0; i < WHOLE_NUMBERS; i++)
			*(volatile __u32 *)&whole->numbers[i] = number + pass;
	bpf_spin_unlock(&whole->lock);
	ctx->retval = 0;
	return 1;
}

/* Changes the copy before accept() returns it, and puts a value beside it. */
SEC("sockops")
int on_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u64 init = 5, *copy;

	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || !sk)
		return 1;
	copy = bpf_sk_storage_get(&cloned, sk, 0, 0);
	if (copy)
		++*copy;
	bpf_sk_storage_get(&plain, sk, &init, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}

static __always_inline void meet(void *request, int way)
{
	struct meetings *m = &meetings[way];

	m->count++;
	if (bpf_sk_storage_get(&plain, request, 0, BPF_SK_STORAGE_GET_F_CREATE))
		m->got++;
	if (bpf_sk_storage_delete(&plain, request) != -EINVAL)
		m->deleted++;
}

/* A SYN-ACK belongs to the request socket. */
SEC("tc")
int on_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || sk->state != BPF_TCP_NEW_SYN_RECV)
		return TC_ACT_OK;
	meet(sk, BY_SKB);
	if (synacks_to_drop > 0) {
		synacks_to_drop--;
		return TC_ACT_SHOT;
	}
	return TC_ACT_OK;
}

/* The handshake's last ACK finds the request socket still there. */
SEC("tc")
int on_ingress(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct tcp_request_sock *request;
	struct bpf_sock *sk;
	struct tcphdr tcp;
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &ip, sizeof(ip)) ||
	    ip.protocol != IPPROTO_TCP ||
	    bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + sizeof(ip), &tcp,
			       sizeof(tcp)) ||
	    tcp.syn || !tcp.ack)
		return TC_ACT_OK;
	tuple.ipv4.saddr = ip.saddr;
	tuple.ipv4.daddr = ip.daddr;
	tuple.ipv4.sport = tcp.source;
	tuple.ipv4.dport = tcp.dest;
	sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4),
				BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return TC_ACT_OK;
	if (sk->state == BPF_TCP_NEW_SYN_RECV)
		meet(sk, BY_LOOKUP);
	request = bpf_skc_to_tcp_request_sock(sk);
	if (request)
		meet(request, BY_CAST);
	bpf_sk_release(sk);
	return TC_ACT_OK;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(on_retransmit, const struct sock *sk,
	     const struct request_sock *request)
{
	meet((void *)request, BY_TRACEPOINT);
	return 0;
}

/* Fail the fail_at-th allocation of whoever makes a socket from another. */

SEC("?fentry/sk_clone_lock")
int BPF_PROG(clone_begins, const struct sock *sk)
{
	if (!fail_at)
		return 0;
	allocations = 0;
	cloning_cpu = bpf_get_smp_processor_id();
	return 0;
}

SEC("?fexit/sk_clone_lock")
int BPF_PROG(clone_ends, const struct sock *sk)
{
	cloning_cpu = -1;
	return 0;
}

SEC("?fmod_ret/should_failslab")
int BPF_PROG(fail_one, struct kmem_cache *cache)
{
	if (cloning_cpu != bpf_get_smp_processor_id() || is_debugging(cache))
		return 0;
	if (++allocations != fail_at)
		return 0;
	failures++;
	return -ENOMEM;
}
