// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: copies for a new owner.
 *
 * Nobody can see the new owner yet.  Most copies are embedded in its storage,
 * which is published together with all of them; the others follow one by one.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/err.h>
#include <linux/rcupdate.h>
#include "bpf_local_storage_internal.h"

/* Bytes beyond which a block of memory for copies does not grow. */
#define CLONE_EMBEDDED_MAX	2048

/* A new owner inherits nothing from a map that is being freed. */
static bool is_cloned(const struct bpf_local_storage_map *smap)
{
	return smap->map.map_flags & BPF_F_CLONE &&
	       atomic64_read(&smap->map.refcnt);
}

/* Whether the copy can be part of a storage with so many slots. */
static bool can_embed_in(const struct bpf_local_storage_map *smap, u32 nr_slots)
{
	return smap->slot < nr_slots && can_embed(smap);
}

/**
 * struct embedded_copies - what is copied into one block with a new storage
 * @elems: the elements, valid under rcu_read_lock() even if they are deleted
 * @nr: how many
 * @bytes: how many bytes their copies take
 * @nr_slots: how many slots the new storage is to have
 * @others: whether there are elements to be copied besides
 */
struct embedded_copies {
	struct bpf_local_storage_elem *elems[BPF_LOCAL_STORAGE_SLOTS];
	u32 nr;
	u32 bytes;
	u8 nr_slots;
	bool others;
};

/* More than there are slots: a map may die, and its slot's next one be met. */
static bool has_room(const struct embedded_copies *copies)
{
	return copies->nr < ARRAY_SIZE(copies->elems) &&
	       copies->bytes < CLONE_EMBEDDED_MAX;
}

static void collect_embedded(struct embedded_copies *copies,
			     struct bpf_local_storage *from,
			     const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;

	copies->nr = 0;
	copies->bytes = 0;
	copies->nr_slots = kind_nr_slots(kind);
	copies->others = false;
	iter_init(&iter, from);
	while ((elem = iter_next(&iter))) {
		if (!is_cloned(elem->map))
			continue;
		if (!has_room(copies) ||
		    !can_embed_in(elem->map, copies->nr_slots)) {
			copies->others = true;
			continue;
		}
		copies->bytes += copies->nr ? elem_size(elem->map) :
					      padded_value_size(elem->map);
		copies->elems[copies->nr++] = elem;
	}
}

/*
 * Lay the copies behind the slots of @storage, which nobody can see, without
 * putting them into it.
 */
static void lay_embedded(struct bpf_local_storage *storage,
			 const struct embedded_copies *copies)
{
	struct bpf_local_storage_elem *copy = &storage->first;
	void *value = storage_first_value(storage);
	u32 i;

	for (i = 0; i < copies->nr; i++) {
		copy->map = copies->elems[i]->map;
		elem_set_storage(copy, storage);
		value_init(copy->map, value, elem_value(copies->elems[i]),
			   FROM_OWNER);
		copy = value + padded_value_size(copy->map);
		value = copy + 1;
	}
}

/* Link a copy, unless its map is being freed and may not look for it. */
static void copy_link(struct bpf_local_storage_locks *locks,
		      struct bpf_local_storage *storage,
		      struct bpf_local_storage_elem *elem, void *value)
{
	struct bpf_local_storage_map *smap = elem->map;
	struct bpf_local_storage_bucket *bucket;

	bucket = map_bucket(smap, storage->owner);
	lock_bucket(locks, bucket);
	/* Map free comes to the bucket after the last reference. */
	if (atomic64_read(&smap->map.refcnt)) {
		elem_link(bucket, elem, NULL);
		/* There is such a slot, see can_embed_in(), and it is empty. */
		storage->nr_used_slots++;
		/* Pairs with the load in bpf_local_storage_lookup(). */
		rcu_assign_pointer(storage->slots[smap->slot], value);
	}
	unlock_bucket(locks);
}

/*
 * Let the owner have the storage with the copies in it, if there are any.  It
 * is locked so that map free does not find it empty before all are linked.
 */
static bool storage_publish_copies(struct bpf_local_storage *storage,
				   void *owner,
				   const struct bpf_local_storage_kind *kind,
				   u32 nr)
{
	struct bpf_local_storage_elem *elem = &storage->first;
	void *value = storage_first_value(storage);
	struct bpf_local_storage_locks locks;
	bool has_copies;

	locks_enter(&locks);
	lock_storage(&locks, storage);
	storage->owner = owner;
	for (; nr; nr--) {
		copy_link(&locks, storage, elem, value);
		elem = value + padded_value_size(elem->map);
		value = elem + 1;
	}
	has_copies = storage->nr_used_slots;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (has_copies)
		rcu_assign_pointer(*owner_pointer(owner, kind), storage);
	unlock_storage(&locks);
	locks_exit(&locks);
	return has_copies;
}

/*
 * Give an owner that nobody can see a storage with the copies in it; copies->nr
 * is not 0.  If that cannot be, they count as others.
 */
static int clone_embedded(struct embedded_copies *copies, void *owner,
			  const struct bpf_local_storage_kind *kind)
{
	/* The memory is charged to whoever made this one of the maps. */
	struct bpf_local_storage_map *smap = copies->elems[0]->map;
	struct bpf_local_storage *storage;

	if (!atomic64_inc_not_zero(&smap->map.refcnt)) {
		copies->others = true;
		return 0;
	}
	storage = storage_alloc(owner, smap, NULL, copies->nr_slots,
				copies->bytes, GFP_ATOMIC);
	bpf_map_put(&smap->map);
	if (IS_ERR(storage))
		return PTR_ERR(storage);
	lay_embedded(storage, copies);
	if (!storage_publish_copies(storage, owner, kind, copies->nr))
		bpf_local_storage_free_unpublished(owner, smap, storage);
	return 0;
}

/* Copy one element, unless it has been copied. */
static int clone_elem(struct bpf_local_storage_elem *elem, void *owner)
{
	struct bpf_local_storage_map *smap = elem->map;
	void *value;

	if (!is_cloned(smap) || owner_lookup(owner, smap))
		return 0;
	if (IS_ERR(bpf_map_inc_not_zero(&smap->map)))
		return 0;
	value = __bpf_local_storage_create(owner, smap, elem_value(elem),
					   FROM_OWNER, GFP_ATOMIC);
	bpf_map_put(&smap->map);
	return PTR_ERR_OR_ZERO(value);
}

/* Copy one by one what has not been copied. */
static noinline int clone_others(struct bpf_local_storage *from, void *owner)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	int err = 0;

	bpf_local_storage_iter_init(&iter, from);
	while (!err && (elem = bpf_local_storage_iter_next(&iter)))
		err = clone_elem(elem, owner);
	return err;
}

/**
 * bpf_local_storage_clone - copy to a new owner what it inherits
 * @from: what the other one keeps
 * @owner: the new one, which keeps nothing and nobody else can see yet
 * @kind: its kind
 *
 * Copies the elements of maps with BPF_F_CLONE, most of them into one block of
 * memory.  After an error, destroying @owner frees what has been copied.
 *
 * Context: Process or softirq, under rcu_read_lock(); does not sleep.
 * Return: 0 or -ENOMEM.
 */
int bpf_local_storage_clone(struct bpf_local_storage *from, void *owner,
			    const struct bpf_local_storage_kind *kind)
{
	/* What is not set is not looked at. */
	struct embedded_copies copies __uninitialized;
	int err;

	collect_embedded(&copies, from, kind);
	err = copies.nr ? clone_embedded(&copies, owner, kind) : 0;
	if (err || !copies.others)
		return err;
	return clone_others(from, owner);
}
