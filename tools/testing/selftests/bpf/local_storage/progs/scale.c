// SPDX-License-Identifier: GPL-2.0
/* How long the end of a map takes, and a walk over one. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

/* Nanoseconds since boot: of the last map of sockets that was freed. */
__u64 free_began, free_ended;
/* Values that the iterator has shown. */
__u64 walked;

static bool is_of_sockets(struct work_struct *work)
{
	struct bpf_map *map = container_of(work, struct bpf_map, work);

	return BPF_CORE_READ(map, map_type) == BPF_MAP_TYPE_SK_STORAGE;
}

SEC("fentry/bpf_map_free_deferred")
int BPF_PROG(map_free_begins, struct work_struct *work)
{
	if (is_of_sockets(work))
		free_began = bpf_ktime_get_ns();
	return 0;
}

/* The map is gone: only its beginning says whose end it is. */
SEC("fexit/bpf_map_free_deferred")
int BPF_PROG(map_free_ends, struct work_struct *work)
{
	if (free_began > free_ended)
		free_ended = bpf_ktime_get_ns();
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int walk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	if (ctx->value)
		walked++;
	return 0;
}
