/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of local storage's core share. */
#ifndef _BPF_LOCAL_STORAGE_INTERNAL_H
#define _BPF_LOCAL_STORAGE_INTERNAL_H

#include <linux/bpf.h>
#include <linux/bpf_local_storage.h>
#include <linux/btf.h>
#include <linux/llist.h>
#include <linux/math.h>
#include <linux/rcupdate.h>

/* The largest value, in bytes, to be allocated together with a storage. */
#define INSIDE_MAX		256
/*
 * Bytes in front of a block that BPF's allocator gives us, and how many of them
 * we ask for: with its own the block begins at a multiple of 8, on 32 bits too.
 */
#define BPF_MA_HEADER		8
#define BPF_MA_PAD		(BPF_MA_HEADER - sizeof(struct llist_node))

static inline u32 value_bytes(const struct bpf_local_storage_map *smap)
{
	return round_up(smap->map.value_size, 8);
}

static inline u32 elem_bytes(const struct bpf_local_storage_map *smap)
{
	return sizeof(struct bpf_local_storage_elem) + value_bytes(smap);
}

/* Kernel pointers in a value have to be released when nobody can see it. */
static inline bool has_pointers(const struct bpf_local_storage_map *smap)
{
	const struct btf_record *record = smap->map.record;

	return !IS_ERR_OR_NULL(record) && record->field_mask & ~BPF_SPIN_LOCK;
}

/*
 * Whether the map's elements may be made together with a storage.  Its memory
 * then stays until the storage goes, so it must be small, and must not wait
 * for that with pointers in it.
 */
static inline bool fits_inside(const struct bpf_local_storage_map *smap)
{
	return value_bytes(smap) <= INSIDE_MAX && !has_pointers(smap);
}

static inline struct bpf_local_storage __rcu **
pointer_of(void *owner, const struct bpf_local_storage_kind *kind)
{
	return owner + kind->pointer;
}

static inline struct bpf_local_storage *
storage_of(void *owner, const struct bpf_local_storage_kind *kind)
{
	/* Pairs with cmpxchg() in publish(). */
	return rcu_dereference_check(*pointer_of(owner, kind),
				     bpf_rcu_lock_held());
}

/* The owner's value in a map, or NULL. */
static inline void *find(void *owner, struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage = storage_of(owner, smap->kind);

	return storage ? bpf_local_storage_lookup(storage, smap) : NULL;
}

void *__bpf_local_storage_create(void *owner,
				 struct bpf_local_storage_map *smap,
				 void *value, gfp_t gfp);
long __bpf_local_storage_update(void *owner, struct bpf_local_storage_map *smap,
				void *value, u64 flags);
int __bpf_local_storage_delete(struct bpf_local_storage *storage,
			       struct bpf_local_storage_map *smap,
			       const void *owner);
void __bpf_local_storage_destroy(void *owner,
				 const struct bpf_local_storage_kind *kind);
void bpf_local_storage_map_empty(struct bpf_local_storage_map *smap);
void bpf_local_storage_barrier(void);

#endif /* _BPF_LOCAL_STORAGE_INTERNAL_H */
