// SPDX-License-Identifier: GPL-2.0
/* One program of each type that has the helpers; each counts its calls. */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define BPF_F_CURRENT_NETNS (-1L)

enum {
	SOCK_CREATE, CONNECT, SKB_EGRESS, SKB_INGRESS, SOCKOPS, SK_MSG, TC,
	CA_INIT, CA_ACK, SETSOCKOPT, KINDS
};

struct counts {
	__u64 of[KINDS];
};

STORAGE(counts, BPF_MAP_TYPE_SK_STORAGE, struct counts);

/* Deleted and made again by every program that has both helpers. */
STORAGE(scratch, BPF_MAP_TYPE_SK_STORAGE, __u64);

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
} sockets SEC(".maps");

/* Answers of the tc program about sockets that it looks up. */
int port;
int found_state = -1, found_get = -1, found_delete;
int tcp_sock_get = -1;

static void count(void *sk, int what)
{
	struct counts *c = bpf_sk_storage_get(&counts, sk, 0,
					      BPF_SK_STORAGE_GET_F_CREATE);

	if (c)
		c->of[what]++;
}

static void churn(void *sk)
{
	bpf_sk_storage_delete(&scratch, sk);
	bpf_sk_storage_get(&scratch, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("cgroup/sock_create")
int on_create(struct bpf_sock *ctx)
{
	count(ctx, SOCK_CREATE);
	return 1;
}

SEC("cgroup/connect4")
int on_connect(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk) {
		count(sk, CONNECT);
		churn(sk);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (sk) {
		count(sk, SKB_EGRESS);
		churn(sk);
	}
	return 1;
}

/* skb->sk may be a request socket here: the helper has to notice. */
SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk) {
		count(sk, SKB_INGRESS);
		churn(sk);
	}
	return 1;
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk) {
		count(sk, SOCKOPS);
		churn(sk);
	}
	return 1;
}

SEC("sk_msg")
int on_message(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;

	if (sk) {
		count(sk, SK_MSG);
		churn(sk);
	}
	return SK_PASS;
}

SEC("cgroup/setsockopt")
int on_setsockopt(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk) {
		count(sk, SETSOCKOPT);
		churn(sk);
	}
	return 1;
}

SEC("tc")
int on_tc(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk) {
		count(sk, TC);
		churn(sk);
	}
	return 0;
}

/* Look a socket up whatever its state, and try what the helpers say. */
SEC("tc")
int look_up(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {
		.ipv4.saddr = bpf_htonl(0x7f000001),
		.ipv4.daddr = bpf_htonl(0x7f000001),
		.ipv4.sport = bpf_htons(port >> 16),
		.ipv4.dport = bpf_htons(port & 0xffff),
	};
	struct bpf_sock *sk;
	struct tcp_sock *tp;

	sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4),
				BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	found_state = sk->state;
	found_get = !!bpf_sk_storage_get(&scratch, sk, 0,
					 BPF_SK_STORAGE_GET_F_CREATE);
	found_delete = bpf_sk_storage_delete(&scratch, sk);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		tcp_sock_get = !!bpf_sk_storage_get(&scratch, tp, 0,
						    BPF_SK_STORAGE_GET_F_CREATE);
	bpf_sk_release(sk);
	return 0;
}

SEC("struct_ops")
void BPF_PROG(storage_init, struct sock *sk)
{
	count(sk, CA_INIT);
	churn(sk);
}

SEC("struct_ops")
void BPF_PROG(storage_cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
	count(sk, CA_ACK);
}

SEC("struct_ops")
__u32 BPF_PROG(storage_ssthresh, struct sock *sk)
{
	return 2;
}

SEC("struct_ops")
__u32 BPF_PROG(storage_undo, struct sock *sk)
{
	return 10;
}

SEC(".struct_ops")
struct tcp_congestion_ops storage_ca = {
	.init = (void *)storage_init,
	.cong_avoid = (void *)storage_cong_avoid,
	.ssthresh = (void *)storage_ssthresh,
	.undo_cwnd = (void *)storage_undo,
	.name = "storage_ca",
};
