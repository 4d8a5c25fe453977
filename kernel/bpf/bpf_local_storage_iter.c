// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: walks over what an owner keeps, and over a map.
 *
 * A walk over an owner takes no lock: slots and cells are read as a lookup
 * reads them.  One over a map stands on a bucket's list with a cursor, under
 * the bucket's lock for each step, and may pause for as long as it likes.
 */
#include <linux/bpf_local_storage_kind.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_trace.h>
#include "bpf_local_storage_internal.h"

/* Over an owner */

/**
 * bpf_local_storage_value - where the value of an element is
 * @elem: the element, linked or protected by RCU
 *
 * Context: Any.
 * Return: The value.
 */
void *bpf_local_storage_value(struct bpf_local_storage_elem *elem)
{
	return elem_value(elem);
}

/**
 * bpf_local_storage_iter_init - begin a walk over an owner's elements
 * @iter: the walk
 * @storage: the owner's storage
 *
 * Elements that come or go during the walk may be seen or not; all others are
 * seen once.
 *
 * Context: Any, under rcu_read_lock() until the walk ends.
 */
void bpf_local_storage_iter_init(struct bpf_local_storage_iter *iter,
				 struct bpf_local_storage *storage)
{
	iter_init(iter, storage);
}

/**
 * bpf_local_storage_iter_next - the next element of a walk
 * @iter: the walk
 *
 * Context: As for bpf_local_storage_iter_init().
 * Return: An element, valid until rcu_read_unlock(), or NULL at the end.
 */
struct bpf_local_storage_elem *
bpf_local_storage_iter_next(struct bpf_local_storage_iter *iter)
{
	return iter_next(iter);
}

/* Over a map */

static bool is_cursor(const struct bpf_local_storage_elem *elem)
{
	return !elem->tagged_storage;
}

/*
 * The first element of the iterator's bucket that is behind its cursor, whose
 * owner is not @done and could be had.  The cursor stays before it, or leaves
 * a bucket that has no such element.
 */
static struct bpf_local_storage_elem *
bucket_next(struct bpf_local_storage_map_iter *iter, const void *done)
{
	struct bpf_local_storage_bucket *bucket =
		&iter->smap->buckets[iter->bucket];
	struct hlist_node *cursor = &iter->cursor.map_node;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_locks locks;

	locks_enter(&locks);
	lock_bucket(&locks, bucket);
	if (hlist_unhashed(cursor))
		hlist_add_head(cursor, &bucket->elems);
	while ((elem = hlist_entry_safe(cursor->next,
					struct bpf_local_storage_elem,
					map_node))) {
		if (!is_cursor(elem) && elem_storage(elem)->owner != done &&
		    iter->get(elem_storage(elem)->owner))
			break;
		hlist_del(cursor);
		hlist_add_behind(cursor, &elem->map_node);
	}
	iter->owner = elem ? elem_storage(elem)->owner : NULL;
	if (!elem)
		hlist_del_init(cursor);
	unlock_bucket(&locks);
	locks_exit(&locks);
	return elem;
}

/**
 * bpf_local_storage_map_iter_next - the next element of a walk over a map
 * @iter: the walk; it has dealt with @iter->owner, which the caller puts after
 *	this call
 *
 * Context: Between bpf_local_storage_map_iter_start() and _stop().
 * Return: An element, valid until then or its owner, now in @iter->owner, is
 *	put; or NULL at the end.
 */
struct bpf_local_storage_elem *
bpf_local_storage_map_iter_next(struct bpf_local_storage_map_iter *iter)
{
	struct bpf_local_storage_elem *elem;
	/* The reference keeps the address from being another owner's. */
	const void *done = iter->owner;

	iter->owner = NULL;
	for (; iter->bucket < BIT(iter->smap->bucket_bits); iter->bucket++) {
		elem = bucket_next(iter, done);
		if (elem)
			return elem;
	}
	return NULL;
}

/**
 * bpf_local_storage_map_iter_start - begin a walk over a map, or resume it
 * @iter: the walk; of a new one only @iter->smap and @iter->get are set
 *
 * Owners that get or lose their value during the walk may be seen or not; all
 * others are seen once, however long the walk pauses.
 *
 * Context: Process; may sleep until bpf_local_storage_map_iter_stop().
 * Return: As bpf_local_storage_map_iter_next().
 */
struct bpf_local_storage_elem *
bpf_local_storage_map_iter_start(struct bpf_local_storage_map_iter *iter)
{
	/*
	 * Pairs with the grace period that frees a deleted element.  Those of
	 * an owner that is destroyed may not wait for us: we hold a reference.
	 */
	rcu_read_lock_trace();
	return bpf_local_storage_map_iter_next(iter);
}

/**
 * bpf_local_storage_map_iter_stop - let a walk over a map pause
 * @iter: the walk; the caller has put @iter->owner
 *
 * Context: Process.
 */
void bpf_local_storage_map_iter_stop(struct bpf_local_storage_map_iter *iter)
{
	iter->owner = NULL;
	rcu_read_unlock_trace();
}

/**
 * bpf_local_storage_map_iter_end - end a walk over a map
 * @iter: the walk
 *
 * Context: Process.
 */
void bpf_local_storage_map_iter_end(struct bpf_local_storage_map_iter *iter)
{
	struct bpf_local_storage_bucket *bucket;
	struct bpf_local_storage_locks locks;

	if (hlist_unhashed(&iter->cursor.map_node))
		return;
	bucket = &iter->smap->buckets[iter->bucket];
	locks_enter(&locks);
	lock_bucket(&locks, bucket);
	hlist_del_init(&iter->cursor.map_node);
	unlock_bucket(&locks);
	locks_exit(&locks);
}
