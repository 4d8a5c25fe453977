// SPDX-License-Identifier: GPL-2.0
/*
 * Count the packets of every connection, in two ways, or of all in one place.
 * Interpreted: a kernel that is a process has no JIT.
 */
/* There are no types in the kernel to relocate to. */
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define MAX_SOCKETS 131072

struct counts {
	__u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u64);
	__type(value, struct counts);
} by_cookie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct counts);
} of_socket SEC(".maps");

/* Those of all connections; a skeleton does not know the type. */
__u64 together[sizeof(struct counts) / sizeof(__u64)];

/* What the programs have counted, and packets that they could not count. */
__u64 counted, missed;

static __always_inline int count(struct counts *counts,
				 const struct __sk_buff *skb)
{
	if (!counts) {
		missed++;
		return 1;
	}
	counts->packets++;
	counts->bytes += skb->len;
	counted++;
	return 1;
}

static __always_inline int count_by_cookie(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct counts *counts, none = {};

	counts = bpf_map_lookup_elem(&by_cookie, &cookie);
	if (!counts) {
		bpf_map_update_elem(&by_cookie, &cookie, &none, BPF_NOEXIST);
		counts = bpf_map_lookup_elem(&by_cookie, &cookie);
	}
	return count(counts, skb);
}

static __always_inline int count_of_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return count(NULL, skb);
	return count(bpf_sk_storage_get(&of_socket, sk, 0,
					BPF_SK_STORAGE_GET_F_CREATE), skb);
}

/* It asks for a socket, as one has to that looks for a value. */
static __always_inline int count_together(struct __sk_buff *skb)
{
	return count(skb->sk ? (struct counts *)together : NULL, skb);
}

#define PROGRAMS(name, count)						\
	SEC("cgroup_skb/ingress")					\
	int name##_ingress(struct __sk_buff *skb)			\
	{								\
		return count(skb);					\
	}								\
									\
	SEC("cgroup_skb/egress")					\
	int name##_egress(struct __sk_buff *skb)			\
	{								\
		return count(skb);					\
	}

PROGRAMS(together, count_together)
PROGRAMS(hash, count_by_cookie)
PROGRAMS(storage, count_of_socket)
