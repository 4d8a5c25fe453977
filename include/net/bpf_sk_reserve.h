/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Socket storage: values that are parts of the sockets.  How it works is said
 * in net/core/bpf_sk_reserve.c.
 */
#ifndef _NET_BPF_SK_RESERVE_H
#define _NET_BPF_SK_RESERVE_H

#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/err.h>
#include <linux/jump_label.h>
#include <linux/list.h>
#include <linux/string.h>
#include <net/sock.h>

/**
 * struct bpf_sk_region - such a map, and its region of every socket's reserve
 * @smap: the map; its kind is bpf_sk_region_kind
 * @node: on the list of all, those next to the socket first
 * @cookie: what is in front of a value that is there; no other map's, ever
 * @size: bytes of the region: the cookie, and the value as a multiple of 8
 * @end: bytes between the region and the socket behind it
 * @stuck: it did not go while a creation waited
 */
struct bpf_sk_region {
	struct bpf_local_storage_map smap;
	struct list_head node;
	u64 cookie;
	u32 size;
	u32 end;
	bool stuck;
};

extern const struct bpf_local_storage_region_ops bpf_sk_region_ops;
extern const struct bpf_local_storage_kind bpf_sk_region_kind;

#if defined(CONFIG_BPF_SYSCALL) && defined(CONFIG_64BIT)
extern unsigned int bpf_sk_reserve;
DECLARE_STATIC_KEY_FALSE(bpf_sk_reserve_key);

/* Bytes in front of each struct sock. */
static inline unsigned int bpf_sk_reserve_size(void)
{
	return static_branch_unlikely(&bpf_sk_reserve_key) ? bpf_sk_reserve : 0;
}

static inline struct bpf_sk_region *to_sk_region(const struct bpf_map *map)
{
	return container_of(map, struct bpf_sk_region, smap.map);
}

static inline bool bpf_sk_is_region(const struct bpf_map *map)
{
	return static_branch_unlikely(&bpf_sk_reserve_key) &&
	       to_local_storage_map(map)->kind == &bpf_sk_region_kind;
}

static inline u64 *bpf_sk_region_cookie(const struct sock *sk,
					const struct bpf_sk_region *region)
{
	return (void *)sk - region->end - region->size;
}

/**
 * bpf_sk_region_lookup - find a value that is part of a socket
 * @sk: a full socket
 * @map: a map with a region
 *
 * Context: Any, under rcu_read_lock(): the socket's memory is not used for
 *	another one before a grace period.
 * Return: The value, or NULL.
 */
static inline void *bpf_sk_region_lookup(const struct sock *sk,
					 const struct bpf_map *map)
{
	struct bpf_sk_region *region = to_sk_region(map);
	u64 *cookie = bpf_sk_region_cookie(sk, region);

	/* Pairs with the release stores of those who make the value. */
	return smp_load_acquire(cookie) == region->cookie ? cookie + 1 : NULL;
}

struct bpf_map *bpf_sk_region_alloc(union bpf_attr *attr);
void *bpf_sk_region_get(struct sock *sk, struct bpf_map *map, void *value,
			u64 flags);
int bpf_sk_region_delete(struct sock *sk, struct bpf_map *map);
void bpf_sk_region_clone(const struct sock *sk, struct sock *newsk);

struct bpf_sk_region *bpf_sk_region_next(struct bpf_sk_region *region);
#else
static inline unsigned int bpf_sk_reserve_size(void)
{
	return 0;
}

static inline bool bpf_sk_is_region(const struct bpf_map *map)
{
	return false;
}

static inline void *bpf_sk_region_lookup(const struct sock *sk,
					 const struct bpf_map *map)
{
	return NULL;
}

static inline struct bpf_map *bpf_sk_region_alloc(union bpf_attr *attr)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void *bpf_sk_region_get(struct sock *sk, struct bpf_map *map,
				      void *value, u64 flags)
{
	return NULL;
}

static inline int bpf_sk_region_delete(struct sock *sk, struct bpf_map *map)
{
	return -ENOENT;
}

static inline struct bpf_sk_region *
bpf_sk_region_next(struct bpf_sk_region *region)
{
	return NULL;
}

static inline void bpf_sk_region_clone(const struct sock *sk,
				       struct sock *newsk)
{
}
#endif

/* The block of memory that a socket is in. */
static inline void *bpf_sk_reserve_block(struct sock *sk)
{
	return (void *)sk - bpf_sk_reserve_size();
}

/* The socket in a new block, or NULL; its values are not there. */
static inline struct sock *bpf_sk_reserve_init(void *block)
{
	unsigned int size = bpf_sk_reserve_size();

	if (!block || !size)
		return block;
	return memset(block, 0, size) + size;
}

#endif /* _NET_BPF_SK_RESERVE_H */
