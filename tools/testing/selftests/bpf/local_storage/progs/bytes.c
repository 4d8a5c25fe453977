// SPDX-License-Identifier: GPL-2.0
/* Values that nobody writes to. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

struct small {
	char bytes[13];
};

struct locked {
	struct bpf_spin_lock lock;
	char bytes[41];
};

struct large {
	char bytes[1001];
};

STORAGE(small, BPF_MAP_TYPE_SK_STORAGE, struct small);
STORAGE(locked, BPF_MAP_TYPE_SK_STORAGE, struct locked);
STORAGE(large, BPF_MAP_TYPE_SK_STORAGE, struct large);

unsigned int made;

static __always_inline void make_in(void *map, void *sk)
{
	if (bpf_sk_storage_get(map, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
		made++;
}

SEC("iter/tcp")
int make(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (!sk || sk->skc_state != BPF_TCP_LISTEN)
		return 0;
	make_in(&small, sk);
	make_in(&locked, sk);
	make_in(&large, sk);
	return 0;
}

static __always_inline int show(struct bpf_iter__bpf_sk_storage_map *ctx,
				__u32 size)
{
	void *value = ctx->value;

	if (value)
		bpf_seq_write(ctx->meta->seq, value, size);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int show_small(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	return show(ctx, sizeof(struct small));
}

SEC("iter/bpf_sk_storage_map")
int show_large(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	return show(ctx, sizeof(struct large));
}
