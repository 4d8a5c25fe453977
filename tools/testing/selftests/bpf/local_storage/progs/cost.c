// SPDX-License-Identifier: GPL-2.0
/* What a hit costs, given that the socket keeps a value of many maps. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "progs/shared.h"

char _license[] SEC("license") = "GPL";

struct storage_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} prototype SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, OUTER_ENTRIES);
	__type(key, __u32);
	__array(values, struct storage_map);
} outer SEC(".maps");

/* The maps that the next socket gets a value of, and which of them are hit. */
int nr_maps, first;
bool fresh;
__u64 hits;

static __u32 turn;

static void fill(struct bpf_sock *sk)
{
	for (__u32 i = 0; i < OUTER_ENTRIES && i < nr_maps; i++) {
		__u32 key = i;
		void *map = bpf_map_lookup_elem(&outer, &key);

		if (map)
			bpf_sk_storage_get(map, sk, 0,
					   BPF_SK_STORAGE_GET_F_CREATE);
	}
	turn = first;
}

/* The maps from first on take turns. */
static void *next_map(struct bpf_sock *sk)
{
	__u32 key;

	if (fresh) {
		fresh = false;
		fill(sk);
	}
	key = turn;
	turn = turn + 1 < nr_maps ? turn + 1 : first;
	return bpf_map_lookup_elem(&outer, &key);
}

SEC("tc")
int hit(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 *value;
	void *map;

	if (!sk)
		return 0;
	map = next_map(sk);
	if (!map)
		return 0;
	value = bpf_sk_storage_get(map, sk, 0, 0);
	if (value) {
		++*value;
		++hits;
	}
	return 0;
}

/* The same without the get and the increment. */
SEC("tc")
int no_get(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	if (next_map(sk))
		++hits;
	return 0;
}
