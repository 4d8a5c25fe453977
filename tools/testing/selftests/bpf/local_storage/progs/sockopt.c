// SPDX-License-Identifier: GPL-2.0
/* Does what a test asks for to the socket of a getsockopt(). */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "progs/shared.h"

char _license[] SEC("license") = "GPL";

struct storage_map {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} main_map SEC(".maps");

/* An array found but its first map where this was tried on i386. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, OUTER_ENTRIES);
	__type(key, __u32);
	__array(values, struct storage_map);
} outer SEC(".maps");

static int finish(struct answer *answer, __u64 *value)
{
	answer->err = value ? 0 : -1;
	answer->value = value ? *value : 0;
	return 1;
}

static int operate(void *map, struct bpf_sock *sk, int op, __u64 init,
		   struct answer *answer)
{
	__u64 *value;

	switch (op) {
	case DO_GET:
		return finish(answer, bpf_sk_storage_get(map, sk, 0, 0));
	case DO_CREATE:
		return finish(answer,
			      bpf_sk_storage_get(map, sk, 0,
						 BPF_SK_STORAGE_GET_F_CREATE));
	case DO_CREATE_WITH:
		return finish(answer,
			      bpf_sk_storage_get(map, sk, &init,
						 BPF_SK_STORAGE_GET_F_CREATE));
	case DO_ADD:
		value = bpf_sk_storage_get(map, sk, 0,
					   BPF_SK_STORAGE_GET_F_CREATE);
		if (value)
			__sync_fetch_and_add(value, init);
		return finish(answer, value);
	case DO_DELETE:
		answer->err = bpf_sk_storage_delete(map, sk);
		return 1;
	case DO_BAD_FLAGS:
		return finish(answer, bpf_sk_storage_get(map, sk, 0, 2));
	}
	return 1;
}

SEC("cgroup/getsockopt")
int on_getsockopt(struct bpf_sockopt *ctx)
{
	__u32 number = (__u32)ctx->optname >> MAP_SHIFT;
	int op = ctx->optname & ((1 << MAP_SHIFT) - 1);
	struct answer *answer = ctx->optval;
	struct bpf_sock *sk = ctx->sk;
	void *map;

	if (!IS_LEVEL(ctx->level) || !sk ||
	    (void *)(answer + 1) > ctx->optval_end)
		return 1;
	ctx->retval = 0;
	if (number == MAIN_MAP)
		return operate(&main_map, sk, op, VALUE_OF(ctx->level), answer);
	map = bpf_map_lookup_elem(&outer, &number);
	if (map)
		return operate(map, sk, op, VALUE_OF(ctx->level), answer);
	answer->err = -1;
	return 1;
}
