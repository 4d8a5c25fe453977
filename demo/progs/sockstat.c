// SPDX-License-Identifier: GPL-2.0
/* Count what each socket does, in socket storage. */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "progs/shared.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stats);
} sockets SEC(".maps");

/* Written by userspace to listeners only. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct label);
} labels SEC(".maps");

static struct stats *stats_of(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

/* The length of the transport header at offset, or 0 for another protocol. */
static __u32 transport_header(struct __sk_buff *skb, __u8 protocol,
			      __u32 offset)
{
	__u8 data_offset;

	if (protocol == IPPROTO_UDP)
		return 8;
	if (protocol != IPPROTO_TCP ||
	    bpf_skb_load_bytes(skb, offset + 12, &data_offset, 1))
		return 0;
	return (data_offset >> 4) * 4;
}

static __u32 payload_of(struct __sk_buff *skb)
{
	__u8 first, protocol;
	__u32 network, transport;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	/* The version is in the upper half, IPv4's header length below it. */
	network = first >> 4 == 4 ? (first & 15) * 4 : 40;
	if (bpf_skb_load_bytes(skb, first >> 4 == 4 ? 9 : 6, &protocol, 1))
		return 0;
	transport = transport_header(skb, protocol, network);
	if (!transport || skb->len < network + transport)
		return 0;
	return skb->len - network - transport;
}

static void count(struct __sk_buff *skb, struct traffic *traffic)
{
	__sync_fetch_and_add(&traffic->packets, 1);
	__sync_fetch_and_add(&traffic->bytes, skb->len);
	__sync_fetch_and_add(&traffic->payload, payload_of(skb));
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct stats *stats;

	stats = sk ? stats_of(sk) : NULL;
	if (stats)
		count(skb, &stats->in);
	return 1;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct stats *stats;

	stats = sk ? stats_of(sk) : NULL;
	if (stats)
		count(skb, &stats->out);
	return 1;
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct stats *stats;

	stats = sk ? stats_of(sk) : NULL;
	if (!stats)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_RTT_CB_FLAG |
					       BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		/* The kernel keeps it in eighths. */
		stats->rtt_us = ops->srtt_us >> 3;
		break;
	case BPF_SOCK_OPS_STATE_CB:
		stats->state_changes++;
		break;
	}
	return 1;
}
