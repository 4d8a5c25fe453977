// SPDX-License-Identifier: GPL-2.0
/* A get as programs have it, and the rest of such a program. */
/* There are no types in the kernel to relocate to. */
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} values SEC(".maps");

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return skb->sk ? 1 : 0;
}

SEC("tc")
int get(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 *value;

	if (!sk)
		return 0;
	value = bpf_sk_storage_get(&values, sk, 0, 0);
	if (!value)
		return 0;
	++*value;
	return 1;
}
