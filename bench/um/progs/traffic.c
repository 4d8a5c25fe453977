// SPDX-License-Identifier: GPL-2.0
/*
 * Count every packet of every connection, in two ways.  Interpreted: a kernel
 * that is a process has no JIT.
 */
/* There are no types in the kernel to relocate to. */
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define MAX_SOCKETS 131072

struct traffic {
	__u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u64);
	__type(value, struct traffic);
} by_cookie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct traffic);
} of_socket SEC(".maps");

/* What the programs have counted, and packets that they could not count. */
__u64 counted, missed;

static __always_inline int count(struct traffic *traffic,
				 const struct __sk_buff *skb)
{
	if (!traffic) {
		missed++;
		return 1;
	}
	traffic->packets++;
	traffic->bytes += skb->len;
	counted++;
	return 1;
}

static __always_inline int count_by_cookie(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct traffic *traffic, none = {};

	traffic = bpf_map_lookup_elem(&by_cookie, &cookie);
	if (!traffic) {
		bpf_map_update_elem(&by_cookie, &cookie, &none, BPF_NOEXIST);
		traffic = bpf_map_lookup_elem(&by_cookie, &cookie);
	}
	return count(traffic, skb);
}

static __always_inline int count_of_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return count(NULL, skb);
	return count(bpf_sk_storage_get(&of_socket, sk, 0,
					BPF_SK_STORAGE_GET_F_CREATE), skb);
}

SEC("cgroup_skb/ingress")
int hash_ingress(struct __sk_buff *skb)
{
	return count_by_cookie(skb);
}

SEC("cgroup_skb/egress")
int hash_egress(struct __sk_buff *skb)
{
	return count_by_cookie(skb);
}

SEC("cgroup_skb/ingress")
int storage_ingress(struct __sk_buff *skb)
{
	return count_of_socket(skb);
}

SEC("cgroup_skb/egress")
int storage_egress(struct __sk_buff *skb)
{
	return count_of_socket(skb);
}
