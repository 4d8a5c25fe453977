// SPDX-License-Identifier: GPL-2.0
/* Ways to call a get helper: what becomes instructions, and what does not. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/shared.h"

char _license[] SEC("license") = "GPL";

#define BPF_F_CURRENT_NETNS (-1L)

#define VALUES(kind, map_type)						\
	struct kind##_map {						\
		__uint(type, map_type);					\
		__uint(map_flags, BPF_F_NO_PREALLOC);			\
		__type(key, int);					\
		__type(value, __u64);					\
	};								\
	struct kind##_map kind##_values SEC(".maps");			\
	struct kind##_map kind##_other SEC(".maps");			\
	struct {							\
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);		\
		__uint(max_entries, 1);					\
		__type(key, __u32);					\
		__array(values, struct kind##_map);			\
	} kind##_outer SEC(".maps") = { .values = { &kind##_values } }

VALUES(sk, BPF_MAP_TYPE_SK_STORAGE);
VALUES(task, BPF_MAP_TYPE_TASK_STORAGE);
VALUES(cgrp, BPF_MAP_TYPE_CGRP_STORAGE);
VALUES(inode, BPF_MAP_TYPE_INODE_STORAGE);

int turn;			/* CALL_*: the only program to do something */
int choice;			/* of a flag or a map, 0 or 1 */
int pid;			/* of the test */
__u64 owner_ino;
struct bpf_sock_tuple tuple;	/* of the socket to look up */
__u64 initial = INITIAL;

long long found;		/* a value; -1 where get returned NULL */
int state;			/* of the socket that was looked up */

/* What leads to the call: the map comes last. */
#define FLAGS(flags)	"r4 = " #flags ";"
#define CHOOSE(reg)	reg " = %[choice] ll;" reg " = *(u32 *)(" reg " + 0);"
#define FLAGS_IN_DATA	CHOOSE("r4")
#define EITHER(a, b)	CHOOSE("r4")					\
			"if r4 != 0 goto 1f; r4 = " #a "; goto 2f;"	\
			"1: r4 = " #b "; 2:"
#define ONE_MAP		"r1 = %[values] ll;"
#define INNER_MAP	"r1 = %[inner];"
#define TWO_MAPS	CHOOSE("r1")					\
			"if r1 != 0 goto 3f; r1 = %[values] ll; goto 4f;" \
			"3: r1 = %[other] ll; 4:"

/* What follows it. */
#define IF_NULL		"if r0 == 0 goto 5f; r0 = *(u64 *)(r0 + 0);"	\
			"goto 6f; 5: r0 = -1; 6:"
#define IF_FOUND	"if r0 != 0 goto 5f; r0 = -1; goto 6f;"		\
			"5: r0 = *(u64 *)(r0 + 0); 6:"
#define MOVED		"r1 = r0; r0 = -1; if r1 == 0 goto 5f;"		\
			"r0 = *(u64 *)(r1 + 0); 5:"

#define GET(kind, owner, inner_map, map, flags, behind)			\
	asm volatile("r2 = %[owner]; r3 = %[initial] ll;" flags map	\
		     "call %[get];" behind "%[found] = r0;"		\
		     : [found] "=r"(found)				\
		     : [owner] "r"(owner), [inner] "r"(inner_map),	\
		       [values] "i"(&kind##_values),			\
		       [other] "i"(&kind##_other),			\
		       [initial] "i"(&initial), [choice] "i"(&choice),	\
		       [get] "i"(BPF_FUNC_##kind##_storage_get)		\
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory")

/* define(way, name, number, map, flags, behind) for each kind of call. */
#define CALLS(define, way)						\
	define(way, get, CALL_GET, ONE_MAP, FLAGS(0), IF_NULL)		\
	define(way, create, CALL_CREATE, ONE_MAP, FLAGS(1), IF_NULL)	\
	define(way, moved, CALL_MOVED, ONE_MAP, FLAGS(0), MOVED)	\
	define(way, if_found, CALL_IF_FOUND, ONE_MAP, FLAGS(1), IF_FOUND) \
	define(way, either, CALL_EITHER, ONE_MAP, EITHER(0, 1), IF_NULL) \
	define(way, inner, CALL_INNER, INNER_MAP, EITHER(0, 1), IF_NULL) \
	define(way, two_maps, CALL_TWO_MAPS, TWO_MAPS, FLAGS(0), IF_NULL) \
	define(way, in_data, CALL_IN_DATA, ONE_MAP, FLAGS_IN_DATA, IF_NULL) \
	define(way, odd, CALL_ODD, ONE_MAP, FLAGS(2), IF_NULL)		\
	define(way, odd_too, CALL_ODD_TOO, ONE_MAP, EITHER(1, 3), IF_NULL)

#define GET_INNER(kind, number) ({					\
	__u32 __zero = 0;						\
	(number) != CALL_INNER ? NULL :					\
		bpf_map_lookup_elem(&kind##_outer, &__zero);		\
})

#define GET_IF(condition, kind, owner, number, map, flags, behind)	\
	do {								\
		void *inner_ = GET_INNER(kind, number);			\
									\
		if ((number) == CALL_INNER && !inner_)			\
			break;						\
		if (turn == (number) && (condition))			\
			GET(kind, owner, inner_, map, flags, behind);	\
	} while (0)

/* A socket is looked up: its types differ in what may be behind them. */
#define LOOK_UP(way, lookup, derive)					\
static __always_inline struct bpf_sock *				\
lookup_##way(struct __sk_buff *skb)					\
{									\
	return lookup(skb, &tuple, sizeof(tuple.ipv4),			\
		      BPF_F_CURRENT_NETNS, 0);				\
}									\
									\
static __always_inline void *derive_##way(struct bpf_sock *sk)		\
{									\
	return derive(sk);						\
}									\
CALLS(LOOKUP_PROGRAM, way)

#define LOOKUP_PROGRAM(way, name, number, map, flags, behind)		\
	SEC("?tc")							\
	int way##_##name(struct __sk_buff *skb)				\
	{								\
		struct bpf_sock *sk = lookup_##way(skb);		\
		void *owner;						\
									\
		if (!sk)						\
			return 0;					\
		state = sk->state;					\
		owner = derive_##way(sk);				\
		if (owner)						\
			GET_IF(true, sk, owner, number, map, flags,	\
			       behind);					\
		bpf_sk_release(sk);					\
		return 0;						\
	}

static __always_inline void *same(struct bpf_sock *sk)
{
	return sk;
}

static __always_inline void *cast(struct bpf_sock *sk)
{
	return bpf_skc_to_tcp_sock(sk) ?:
	       (void *)bpf_skc_to_tcp_request_sock(sk) ?:
	       (void *)bpf_skc_to_tcp_timewait_sock(sk);
}

LOOK_UP(common, bpf_skc_lookup_tcp, same)
LOOK_UP(full, bpf_skc_lookup_tcp, bpf_sk_fullsock)
LOOK_UP(tcp, bpf_skc_lookup_tcp, bpf_tcp_sock)
LOOK_UP(udp, bpf_sk_lookup_udp, same)
LOOK_UP(cast, bpf_skc_lookup_tcp, cast)

/* Elsewhere the owner is at hand: an expression, and when it is the test's. */
#define AT_HAND(way, name, number, map, flags, behind)			\
	SEC("?" SECTION_##way)						\
	int way##_##name(unsigned long long *ctx)			\
	{								\
		OWNER_##way(ctx)					\
		GET_IF(OURS_##way, KIND_##way, owner, number, map,	\
		       flags, behind);					\
		return RETURN_##way;					\
	}

#define IN_TEST			(bpf_get_current_pid_tgid() >> 32 == pid)
#define AN_ARGUMENT(number, type)	((type *)ctx[number])

#define SECTION_skb		"cgroup_skb/egress"
#define KIND_skb		sk
#define OWNER_skb(ctx)							\
	struct __sk_buff *skb = (void *)ctx;				\
	struct bpf_sock *owner = skb->sk;				\
									\
	if (!owner)							\
		return 1;
#define OURS_skb		(skb->mark == INLINE_MARK)
#define RETURN_skb		1
CALLS(AT_HAND, skb)

/* Refused, so that the socket can be bound again. */
#define SECTION_ctx		"cgroup/post_bind4"
#define KIND_ctx		sk
#define OWNER_ctx(ctx)		void *owner = ctx;
#define OURS_ctx		true
#define RETURN_ctx		0
CALLS(AT_HAND, ctx)

#define SECTION_fentry		"fentry/inet_shutdown"
#define KIND_fentry		sk
#define OWNER_fentry(ctx)						\
	struct sock *owner = AN_ARGUMENT(0, struct socket)->sk;
#define OURS_fentry		IN_TEST
#define RETURN_fentry		0
CALLS(AT_HAND, fentry)

#define SECTION_lsm		"lsm/socket_listen"
#define KIND_lsm		sk
#define OWNER_lsm(ctx)							\
	struct sock *owner = AN_ARGUMENT(0, struct socket)->sk;		\
									\
	if (!owner)							\
		return 0;
#define OURS_lsm		IN_TEST
#define RETURN_lsm		0
CALLS(AT_HAND, lsm)

/* The new socket has no sock yet. */
#define SECTION_null		"fentry/security_socket_accept"
#define KIND_null		sk
#define OWNER_null(ctx)							\
	struct sock *owner = AN_ARGUMENT(1, struct socket)->sk;
#define OURS_null		IN_TEST
#define RETURN_null		0
CALLS(AT_HAND, null)

#define SECTION_task		"raw_tp"
#define KIND_task		task
#define OWNER_task(ctx)							\
	struct task_struct *owner = bpf_get_current_task_btf();
#define OURS_task		true
#define RETURN_task		0
CALLS(AT_HAND, task)

#define SECTION_cgrp		"raw_tp"
#define KIND_cgrp		cgrp
#define OWNER_cgrp(ctx)							\
	struct cgroup *owner =						\
		bpf_get_current_task_btf()->cgroups->dfl_cgrp;
#define OURS_cgrp		true
#define RETURN_cgrp		0
CALLS(AT_HAND, cgrp)

#define SECTION_inode		"lsm/inode_setattr"
#define KIND_inode		inode
#define OWNER_inode(ctx)						\
	struct inode *owner = AN_ARGUMENT(1, struct dentry)->d_inode;
#define OURS_inode		(IN_TEST && owner && owner->i_ino == owner_ino)
#define RETURN_inode		0
CALLS(AT_HAND, inode)
