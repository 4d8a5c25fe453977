// SPDX-License-Identifier: GPL-2.0
/* Congestion control that keeps its state in the sockets' storage. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define TC_ACT_OK	0
#define TC_ACT_SHOT	2

struct flow {
	__u64 owner;
	__u32 inits, acks, losses;
};

STORAGE(flows, BPF_MAP_TYPE_SK_STORAGE, struct flow);

/* What went wrong, and how many were released with their state. */
int missing, mixed, released;
/* The local port whose next segment full of data is to be lost. */
int port_that_loses;

extern void tcp_reno_cong_avoid(struct sock *sk, __u32 ack, __u32 acked) __ksym;
extern __u32 tcp_reno_ssthresh(struct sock *sk) __ksym;
extern __u32 tcp_reno_undo_cwnd(struct sock *sk) __ksym;

/* A connection's state, which init made. */
static __always_inline struct flow *flow_of(struct sock *sk)
{
	struct flow *flow = bpf_sk_storage_get(&flows, sk, 0, 0);

	if (!flow)
		__sync_fetch_and_add(&missing, 1);
	else if (flow->owner != (__u64)sk)
		__sync_fetch_and_add(&mixed, 1);
	return flow;
}

SEC("struct_ops")
void BPF_PROG(keep_init, struct sock *sk)
{
	struct flow *flow = bpf_sk_storage_get(&flows, sk, 0,
					       BPF_SK_STORAGE_GET_F_CREATE);

	if (!flow)
		return;
	flow->owner = (__u64)sk;
	flow->inits++;
}

SEC("struct_ops")
void BPF_PROG(keep_cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
	struct flow *flow = flow_of(sk);

	if (flow)
		flow->acks++;
	tcp_reno_cong_avoid(sk, ack, acked);
}

SEC("struct_ops")
__u32 BPF_PROG(keep_ssthresh, struct sock *sk)
{
	struct flow *flow = flow_of(sk);

	if (flow)
		flow->losses++;
	return tcp_reno_ssthresh(sk);
}

SEC("struct_ops")
__u32 BPF_PROG(keep_undo, struct sock *sk)
{
	return tcp_reno_undo_cwnd(sk);
}

SEC("struct_ops")
void BPF_PROG(keep_release, struct sock *sk)
{
	if (flow_of(sk) && !bpf_sk_storage_delete(&flows, sk))
		__sync_fetch_and_add(&released, 1);
}

SEC(".struct_ops")
struct tcp_congestion_ops keep_ca = {
	.init = (void *)keep_init,
	.cong_avoid = (void *)keep_cong_avoid,
	.ssthresh = (void *)keep_ssthresh,
	.undo_cwnd = (void *)keep_undo,
	.release = (void *)keep_release,
	.name = "keep_ca",
};

SEC("tc")
int lose_one(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->src_port != port_that_loses || skb->len < 1000)
		return TC_ACT_OK;
	port_that_loses = 0;
	return TC_ACT_SHOT;
}
