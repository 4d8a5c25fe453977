// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: walks over what an owner keeps, and over a map.
 *
 * A walk over an owner takes no lock: slots and cells are read as a lookup
 * reads them.  One over a map stands on a bucket's list with cursors, takes some
 * owners at a time under the bucket's lock, and may pause for as long as it likes.
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

static struct bpf_local_storage_elem *node_elem(struct hlist_node *node)
{
	return hlist_entry(node, struct bpf_local_storage_elem, map_node);
}

static struct bpf_local_storage_bucket *
iter_bucket(struct bpf_local_storage_map_iter *iter)
{
	return &iter->smap->buckets[iter->bucket];
}

static void cursor_remove(struct bpf_local_storage_elem *cursor)
{
	if (!hlist_unhashed(&cursor->map_node))
		hlist_del_init(&cursor->map_node);
}

static void cursor_move(struct bpf_local_storage_elem *cursor,
			struct hlist_node *behind)
{
	cursor_remove(cursor);
	hlist_add_behind(&cursor->map_node, behind);
}

/*
 * Take the owners of the next elements of the bucket; those that are dying, or
 * not born, are passed.  False if there are no more elements: the cursors have
 * left it.
 */
static bool bucket_take(struct bpf_local_storage_map_iter *iter)
{
	struct bpf_local_storage_bucket *bucket = iter_bucket(iter);
	struct hlist_node *cursor = &iter->cursor.map_node;
	struct bpf_local_storage_locks locks;
	struct hlist_node *last, *node;
	int left = BPF_LOCAL_STORAGE_WALK_BATCH;
	void *owner;

	locks_enter(&locks);
	lock_bucket(&locks, bucket);
	if (hlist_unhashed(cursor))
		hlist_add_head(cursor, &bucket->elems);
	last = cursor;
	for (node = cursor->next; node && left; node = node->next) {
		/* Does not count: two walks would pass each other's for ever. */
		if (is_cursor(node_elem(node)))
			continue;
		last = node;
		left--;
		owner = elem_storage(node_elem(node))->owner;
		if (iter->get(owner))
			iter->owners[iter->nr++] = owner;
	}
	if (last != cursor) {
		cursor_move(&iter->begin, cursor);
		cursor_move(&iter->cursor, last);
	} else {
		cursor_remove(&iter->begin);
		cursor_remove(&iter->cursor);
	}
	unlock_bucket(&locks);
	locks_exit(&locks);
	return last != cursor;
}

/* Whether the walk has taken an owner and not come to its value. */
static bool is_to_come(const struct bpf_local_storage_map_iter *iter,
		       const void *owner)
{
	u32 i;

	for (i = iter->pos; i < iter->nr; i++)
		if (iter->owners[i] == owner)
			return true;
	return false;
}

/*
 * Put the cursor back before the first element whose owner was taken in vain.
 * New elements are in front of all cursors, or where those were which they
 * replace.
 */
static void bucket_return(struct bpf_local_storage_map_iter *iter)
{
	struct hlist_node *cursor = &iter->cursor.map_node;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_locks locks;
	struct hlist_node *node;

	locks_enter(&locks);
	lock_bucket(&locks, iter_bucket(iter));
	for (node = iter->begin.map_node.next; node != cursor;
	     node = node->next) {
		elem = node_elem(node);
		if (is_cursor(elem) ||
		    !is_to_come(iter, elem_storage(elem)->owner))
			continue;
		hlist_del(cursor);
		hlist_add_before(cursor, node);
		break;
	}
	unlock_bucket(&locks);
	locks_exit(&locks);
}

/* Not under the bucket's lock: an owner may go with it. */
static void put_owners(struct bpf_local_storage_map_iter *iter)
{
	u32 i;

	for (i = 0; i < iter->nr; i++)
		iter->put(iter->owners[i]);
	iter->owner = NULL;
	iter->nr = 0;
	iter->pos = 0;
}

/* The value of the owner at iter->pos or the first one behind that has one. */
static void *map_iter_find(struct bpf_local_storage_map_iter *iter)
{
	void *value;

	while (iter->bucket < BIT(iter->smap->bucket_bits)) {
		for (; iter->pos < iter->nr; iter->pos++) {
			iter->owner = iter->owners[iter->pos];
			value = owner_lookup(iter->owner, iter->smap);
			if (value)
				return value;
		}
		put_owners(iter);
		if (!bucket_take(iter))
			iter->bucket++;
	}
	return NULL;
}

/**
 * bpf_local_storage_map_iter_next - the next value of a walk over a map
 * @iter: the walk; it has dealt with the value that was returned last
 *
 * Context: Between bpf_local_storage_map_iter_start() and _stop().
 * Return: A value, valid until the next call, and in @iter->owner whose it is;
 *	or NULL at the end.
 */
void *bpf_local_storage_map_iter_next(struct bpf_local_storage_map_iter *iter)
{
	iter->pos++;
	return map_iter_find(iter);
}

/**
 * bpf_local_storage_map_iter_start - begin a walk over a map, or resume it
 * @iter: the walk; of a new one only @iter->smap, @iter->get and @iter->put are
 *	set
 *
 * Owners that get or lose their value during the walk may be seen or not; all
 * others are seen once, however long the walk pauses.
 *
 * Context: Process; may sleep until bpf_local_storage_map_iter_stop().
 * Return: As bpf_local_storage_map_iter_next().
 */
void *bpf_local_storage_map_iter_start(struct bpf_local_storage_map_iter *iter)
{
	/*
	 * Pairs with the grace period that frees a deleted element.  Those of
	 * an owner that is destroyed may not wait for us: we hold a reference.
	 */
	rcu_read_lock_trace();
	return map_iter_find(iter);
}

/**
 * bpf_local_storage_map_iter_stop - let a walk over a map pause
 * @iter: the walk, which goes on with the value that was returned last
 *
 * No owner is kept while it pauses.
 *
 * Context: Process.
 */
void bpf_local_storage_map_iter_stop(struct bpf_local_storage_map_iter *iter)
{
	if (iter->pos < iter->nr)
		bucket_return(iter);
	put_owners(iter);
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
	struct bpf_local_storage_locks locks;

	/* Those beside it may be changing the pointers to themselves. */
	if (hlist_unhashed_lockless(&iter->cursor.map_node))
		return;
	locks_enter(&locks);
	lock_bucket(&locks, iter_bucket(iter));
	cursor_remove(&iter->begin);
	cursor_remove(&iter->cursor);
	unlock_bucket(&locks);
	locks_exit(&locks);
}
