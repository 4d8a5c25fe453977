// SPDX-License-Identifier: GPL-2.0
/* Iterators over the values of a map, and others that touch values. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/shared.h"

char _license[] SEC("license") = "GPL";

/* The context of iter/bpf_sk_storage_map: these offsets are its ABI. */
struct pair {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} values SEC(".maps"), others SEC(".maps");

/* How often a program saw a pair, and what it saw at the end. */
__u64 pairs, ends, odd_calls, last_seq_num;
bool map_at_end;
__u64 changed, refused;
bool delete_others;

/* Whether there is a pair; counts. */
static __always_inline bool is_pair(struct pair *ctx)
{
	void *value = ctx->value;
	struct sock *sk = ctx->sk;

	last_seq_num = ctx->meta->seq_num;
	if (sk && value) {
		pairs++;
		return true;
	}
	if (sk)
		odd_calls++;
	if (value)
		odd_calls++;
	ends++;
	map_at_end = ctx->map;
	return false;
}

static __always_inline void print(struct pair *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	__u64 *value = ctx->value;
	struct sock *sk = ctx->sk;

	if (sk && value)
		BPF_SEQ_PRINTF(seq, "%llu %llu\n", bpf_get_socket_cookie(sk),
			       *value);
}

SEC("iter/bpf_sk_storage_map")
int dump(struct pair *ctx)
{
	if (is_pair(ctx))
		print(ctx);
	return 0;
}

__u64 user_page, page_reads;

/* Waits for a page of the reader's while it stands on the value. */
SEC("iter.s/bpf_sk_storage_map")
int dump_sleeping(struct pair *ctx)
{
	char c;

	if (!is_pair(ctx))
		return 0;
	if (!bpf_copy_from_user(&c, 1, (void *)user_page))
		page_reads++;
	print(ctx);
	return 0;
}

/* What the map's id is, on a line of its own, when all is seen. */
SEC("iter/bpf_sk_storage_map")
int dump_end(struct pair *ctx)
{
	struct bpf_map *map = ctx->map;

	if (!is_pair(ctx) && map)
		BPF_SEQ_PRINTF(ctx->meta->seq, "map %u\n", map->id);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int add_1000(struct pair *ctx)
{
	__u64 *value = ctx->value;

	if (is_pair(ctx) && value)
		*value += 1000;
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int delete_each(struct pair *ctx)
{
	struct sock *sk = ctx->sk;

	if (!is_pair(ctx))
		return 0;
	if (bpf_sk_storage_delete(&values, sk))
		refused++;
	else
		changed++;
	/* It is still there to be read. */
	print(ctx);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int replace_each(struct pair *ctx)
{
	__u64 *value = ctx->value, init;
	struct sock *sk = ctx->sk;

	if (!is_pair(ctx) || !value)
		return 0;
	print(ctx);
	init = *value;
	if (bpf_sk_storage_delete(&values, sk))
		refused++;
	if (bpf_sk_storage_get(&values, sk, &init, BPF_SK_STORAGE_GET_F_CREATE))
		changed++;
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int copy_each(struct pair *ctx)
{
	__u64 *value = ctx->value, *copy;
	struct sock *sk = ctx->sk;

	if (!is_pair(ctx) || !value)
		return 0;
	copy = bpf_sk_storage_get(&others, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!copy)
		return 0;
	*copy = *value;
	changed++;
	return 0;
}

/* Which call is answered by asking for the same pair again. */
__u64 ask_again_at;

SEC("iter/bpf_sk_storage_map")
int again(struct pair *ctx)
{
	if (!is_pair(ctx))
		return 0;
	if (pairs == ask_again_at)
		return 1;
	print(ctx);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int dump_wide(struct pair *ctx)
{
	void *value = ctx->value;

	if (is_pair(ctx) && value)
		bpf_seq_write(ctx->meta->seq, value, WIDE);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int dump_too_wide(struct pair *ctx)
{
	void *value = ctx->value;

	if (is_pair(ctx) && value)
		bpf_seq_write(ctx->meta->seq, value, TOO_WIDE);
	return 0;
}

/* These ask for 16 bytes of a value, each in another way. */

SEC("iter/bpf_sk_storage_map")
int read_16(struct pair *ctx)
{
	__u64 *value = ctx->value;

	if (value)
		pairs += value[1];
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int write_16(struct pair *ctx)
{
	__u64 *value = ctx->value;

	if (value)
		value[1] = 1;
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int print_16(struct pair *ctx)
{
	void *value = ctx->value;

	if (value)
		bpf_seq_write(ctx->meta->seq, value, 16);
	return 0;
}

/* Iterators over other things, on the sockets that they come by. */

static __always_inline int touch(void *sk)
{
	__u64 *value;

	if (!sk)
		return 0;
	if (delete_others) {
		if (!bpf_sk_storage_delete(&values, sk))
			changed++;
		return 0;
	}
	value = bpf_sk_storage_get(&values, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!value) {
		refused++;
		return 0;
	}
	++*value;
	changed++;
	return 0;
}

SEC("iter/tcp")
int at_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	/* What another test left behind may not be a full socket any more. */
	if (sk && (sk->skc_state == BPF_TCP_TIME_WAIT ||
		   sk->skc_state == BPF_TCP_NEW_SYN_RECV))
		return 0;
	return touch(sk);
}

SEC("iter/udp")
int at_udp(struct bpf_iter__udp *ctx)
{
	return touch(ctx->udp_sk);
}

SEC("iter/unix")
int at_unix(struct bpf_iter__unix *ctx)
{
	return touch(ctx->unix_sk);
}

SEC("iter/task_file")
int at_task_file(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *sock;

	if (!file)
		return 0;
	sock = bpf_sock_from_file(file);
	return sock ? touch(sock->sk) : 0;
}
