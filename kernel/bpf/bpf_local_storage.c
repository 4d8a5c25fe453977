// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: values that BPF programs keep with a kernel object.
 *
 *   owner --> struct bpf_local_storage      made together with one element,
 *                                           for a clone with several:
 *               first                         the element, and the rcu_head
 *                                             of the whole
 *               index --> { map, value } ...  maps that own no slot here
 *               owner, lock
 *               slots[4, 8 or 16]             NULL, or where a value is
 *               the first element's value
 *
 *   struct bpf_local_storage_elem             every further element
 *               map, storage, value
 *
 * A slot belongs to one map, so a hit is two loads and looks at no key.  A
 * storage has as many slots as the maps in use asked for when it was made; a
 * map whose slot lies beyond, or that owns none, is found through the index,
 * an open-addressed table in which a cell's map never changes.
 *
 * Who may touch what, and why it is safe:
 *
 * - Lookup: under RCU or RCU Tasks Trace, no lock.  An element, a storage or
 *   an index goes back to the allocator after a grace period of both.
 * - Change: under storage->lock, and the bucket lock of the map nested in it.
 *   A storage is published with its one element under the bucket lock alone:
 *   who sees the value may still have to wait there for the element.  Under
 *   both, linked or unlinked is one fact, and exactly one of update, delete,
 *   destroy and map free unlinks an element and uncharges it.
 * - storage->owner is not NULL: the owner is alive, because destroying it
 *   takes the lock and clears it.  NULL: whoever holds the lock came too late
 *   and looks at the owner's pointer again, where an owner that was destroyed
 *   has destroyed_storage, which nothing can be added to.
 * - A map is freed after its last element was unlinked and then an RCU grace
 *   period, so elem->map is valid while linked and under rcu_read_lock().
 *
 * The locks are taken with interrupts off, and each CPU has a list of the calls
 * on it that may hold any, each inside the one that it interrupted: an NMI, or
 * a tracing program on something that the lock code calls.  Such a nested call
 * fails at once if it needs a lock that is held further out, which a trylock
 * would not notice without CONFIG_SMP.  It waits for another CPU's, but not for
 * ever, since a nested call there may be waiting for a lock of this CPU's.
 *
 * Other files have the rest: bpf_local_storage_mem.c where memory comes from
 * and when it is freed, _iter.c walks, _clone.c copies for an accepted socket,
 * _map.c maps and where calls come in, _gen.c the lookup as part of a program.
 * This one, _mem.c, _iter.c and _clone.c run with locks held and are not traced.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/btf.h>
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/log2.h>
#include <linux/overflow.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include "bpf_local_storage_internal.h"

#define INDEX_MIN_CELLS		4
/* Microseconds that a nested call waits for another CPU's lock. */
#define NESTED_WAIT		(USEC_PER_SEC / 4)
/* Bytes that map free deletes before it looks how much waits. */
#define EMPTIED_AT_ONCE		SZ_1M

/* What an owner has once it was destroyed: nobody's, empty, never freed. */
static struct bpf_local_storage destroyed_storage = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(destroyed_storage.lock),
	.nr_slots = BPF_LOCAL_STORAGE_MIN_SLOTS,
	.slots = { [BPF_LOCAL_STORAGE_MIN_SLOTS - 1] = NULL },
};

/* The innermost call that may hold locks on this CPU. */
DEFINE_PER_CPU(struct bpf_local_storage_locks *, bpf_local_storage_innermost);

/* Whether a call that this one has interrupted has the lock, or is about to. */
static bool locks_held_outside(const struct bpf_local_storage_locks *locks,
			       const raw_spinlock_t *lock)
{
	for (locks = locks->outer; locks; locks = locks->outer)
		if (locks->storage == lock || locks->bucket == lock)
			return true;
	return false;
}

/**
 * bpf_local_storage_lock_nested - take a lock in a call that interrupted others
 * @locks: what the call holds
 * @lock: the lock; noted in @locks
 *
 * Waits for another CPU's.  A call that has interrupted another one, which may
 * hold what that CPU waits for, does so for a quarter of a second at most, and
 * but once while that one is interrupted: what was in the way then, still is.
 *
 * Context: Interrupts off.
 * Return: False if an interrupted call on this CPU holds it, or one was
 *	interrupted and it took too long.
 */
bool bpf_local_storage_lock_nested(struct bpf_local_storage_locks *locks,
				   raw_spinlock_t *lock)
{
	struct bpf_local_storage_locks *outermost = locks->outer;
	u32 left;

	if (locks_held_outside(locks, lock))
		return false;
	while (outermost && outermost->outer)
		outermost = outermost->outer;
	left = outermost && outermost->timed_out ? 0 : NESTED_WAIT;
	while (!raw_spin_trylock(lock)) {
		if (outermost && !left--) {
			outermost->timed_out = true;
			return false;
		}
		/* By no clock: some stand still while interrupts are off. */
		udelay(1);
	}
	__release(lock);
	return true;
}

/* Lookup: index */

static struct bpf_local_storage_cell *
index_cell(struct bpf_local_storage_index *index,
	   const struct bpf_local_storage_map *smap)
{
	u32 i = smap->cell;
	struct bpf_local_storage_map *key;

	/* Ends: a quarter of the cells is empty, see index_has_room(). */
	for (;; i++) {
		key = READ_ONCE(index->cells[i & index->mask].map);
		if (key == smap || !key)
			return &index->cells[i & index->mask];
	}
}

/**
 * bpf_local_storage_lookup_index - bpf_local_storage_lookup() without a slot
 * @storage: the owner's storage
 * @smap: a map whose slot is not among those of @storage
 *
 * Context: Any, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The value, or NULL.
 */
void *bpf_local_storage_lookup_index(struct bpf_local_storage *storage,
				     struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_cell *cell;

	/* Pairs with rcu_assign_pointer() in index_replace(). */
	index = rcu_dereference_check(storage->index, bpf_rcu_lock_held());
	if (!index)
		return NULL;
	cell = index_cell(index, smap);
	/* An empty cell can be taken for another map right now: look again. */
	if (READ_ONCE(cell->map) != smap)
		return NULL;
	return rcu_dereference_check(cell->value, bpf_rcu_lock_held());
}

/* Changes; all under storage->lock */

static bool index_has_room(const struct bpf_local_storage_index *index,
			   u32 more)
{
	u32 cells = index->mask + 1;

	return index->keys + more <= cells - cells / 4;
}

/**
 * bpf_local_storage_index_set - set a value in the index
 * @storage: the storage, locked or not published
 * @smap: a map with no slot among those of @storage, for which there is a cell
 * @value: the value, or NULL
 *
 * Context: Any.
 */
void bpf_local_storage_index_set(struct bpf_local_storage *storage,
				 struct bpf_local_storage_map *smap,
				 void *value)
{
	struct bpf_local_storage_index *index = index_locked(storage);
	struct bpf_local_storage_cell *cell = index_cell(index, smap);

	index->live += !!value - !!rcu_access_pointer(cell->value);
	if (!cell->map) {
		WRITE_ONCE(cell->map, smap);
		index->keys++;
	}
	/* Pairs with the load in bpf_local_storage_lookup_index(). */
	rcu_assign_pointer(cell->value, value);
}

/* Put @fresh, which has room, in place of the index; returns the old one. */
static struct bpf_local_storage_index *
index_replace(struct bpf_local_storage *storage,
	      struct bpf_local_storage_index *fresh)
{
	struct bpf_local_storage_index *old = index_locked(storage);
	struct bpf_local_storage_cell *cell, *copy;

	for (cell = old ? old->cells : NULL;
	     cell && cell <= &old->cells[old->mask]; cell++) {
		if (!rcu_access_pointer(cell->value))
			continue;
		copy = index_cell(fresh, cell->map);
		copy->map = cell->map;
		RCU_INIT_POINTER(copy->value, rcu_access_pointer(cell->value));
		fresh->keys++;
		fresh->live++;
	}
	/* Pairs with the load in bpf_local_storage_lookup_index(). */
	rcu_assign_pointer(storage->index, fresh);
	return old;
}

/*
 * Take an element off its map and uncharge it.  Returns what the caller has
 * to free: NULL for an element that goes with its storage.
 */
static struct bpf_local_storage_elem *
elem_unlink(struct bpf_local_storage_bucket *bucket,
	    struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = elem_storage(elem);

	lockdep_assert_held(&bucket->lock);
	hlist_del(&elem->map_node);
	bucket->count--;
	if (elem_is_embedded(storage, elem))
		return NULL;
	owner_uncharge(elem->map->kind, storage->owner, elem_size(elem->map));
	return elem;
}

/*
 * Put @next, NULL or destroyed_storage, in place of an owner's storage; the
 * caller frees that and its index.
 */
static void storage_detach(struct bpf_local_storage *storage,
			   const struct bpf_local_storage_kind *kind,
			   struct bpf_local_storage *next)
{
	struct bpf_local_storage_index *index = index_locked(storage);
	void *owner = storage->owner;

	owner_uncharge(kind, owner, storage_size(storage) +
				    (index ? index_size(index) : 0));
	WRITE_ONCE(storage->owner, NULL);
	/*
	 * The last access to the owner.  Pairs with the acquire in
	 * bpf_local_storage_destroy(): who sees NULL may free it.
	 */
	smp_store_release(owner_raw_pointer(owner, kind), next);
}

static bool storage_is_empty(struct bpf_local_storage *storage)
{
	struct bpf_local_storage_index *index = index_locked(storage);

	return !storage->nr_used_slots && !(index && index->live);
}

static struct bpf_local_storage_index *
index_alloc(void *owner, struct bpf_local_storage_map *smap, u32 keys,
	    gfp_t gfp)
{
	struct bpf_local_storage_index *index;
	bool from_bpf_ma;
	u32 cells;

	/* At most half full, so that it lasts until the keys doubled or so. */
	cells = max_t(u32, roundup_pow_of_two(keys * 2), INDEX_MIN_CELLS);
	index = block_alloc(owner, smap, NULL, struct_size(index, cells, cells),
			    gfp, &from_bpf_ma);
	if (IS_ERR(index))
		return index;
	index->from_bpf_ma = from_bpf_ma;
	index->mask = cells - 1;
	return index;
}

static struct bpf_local_storage_elem *
elem_alloc(void *owner, struct bpf_local_storage_map *smap, gfp_t gfp)
{
	struct bpf_local_storage_elem *elem;
	bool from_bpf_ma;

	elem = block_alloc(owner, smap, &smap->elem_ma, elem_size(smap), gfp,
			   &from_bpf_ma);
	if (IS_ERR(elem))
		return elem;
	elem->map = smap;
	elem->tagged_storage = from_bpf_ma ? FROM_BPF_MA : 0;
	return elem;
}

/**
 * bpf_local_storage_free_unpublished - undo storage_alloc()
 * @owner: as there
 * @smap: as there
 * @storage: the storage, which nobody else has seen
 *
 * Context: As there.
 */
void bpf_local_storage_free_unpublished(void *owner,
					struct bpf_local_storage_map *smap,
					struct bpf_local_storage *storage)
{
	bpf_local_storage_block_free(owner, smap, &storage->first.rcu,
				     storage_size(storage),
				     elem_from_bpf_ma(&storage->first));
}

static void index_free_unpublished(void *owner,
				   struct bpf_local_storage_map *smap,
				   struct bpf_local_storage_index *index)
{
	if (!IS_ERR_OR_NULL(index))
		bpf_local_storage_block_free(owner, smap, &index->rcu,
					     index_size(index),
					     index->from_bpf_ma);
}

static void elem_free_unpublished(void *owner,
				  struct bpf_local_storage_elem *elem)
{
	if (!IS_ERR_OR_NULL(elem))
		bpf_local_storage_block_free(owner, elem->map, &elem->rcu,
					     elem_size(elem->map),
					     elem_from_bpf_ma(elem));
}

/* The first value of an owner */

/* Add an element to a storage that nobody can see. */
static void storage_add_unpublished(struct bpf_local_storage *storage,
				    struct bpf_local_storage_elem *elem)
{
	elem_set_storage(elem, storage);
	storage_set_value(storage, elem->map, elem_value(elem));
}

/*
 * Let the owner have the storage with this element in it.  -EAGAIN: it has one
 * already.
 */
static int storage_publish(struct bpf_local_storage *storage, void *owner,
			   struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage_bucket *bucket = map_bucket(elem->map, owner);
	struct bpf_local_storage **ptr;
	struct bpf_local_storage_locks locks;
	int err = -EBUSY;

	ptr = owner_raw_pointer(owner, elem->map->kind);
	locks_enter(&locks);
	/* Who finds the storage has to have this lock to change the value. */
	if (!try_lock_bucket(&locks, bucket))
		goto exit;
	err = -EAGAIN;
	storage->owner = owner;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (likely(!cmpxchg(ptr, NULL, storage))) {
		elem_link(bucket, elem, NULL);
		err = 0;
	}
	unlock_bucket(&locks);
exit:
	locks_exit(&locks);
	return err;
}

/* The owner keeps nothing yet: its value, or -EAGAIN if it has got a storage. */
static void *storage_create(void *owner, struct bpf_local_storage_map *smap,
			    void *from, enum value_source source,
			    gfp_t gfp)
{
	u32 embedded = can_embed(smap) ? padded_value_size(smap) : 0;
	struct bpf_local_storage_index *index = NULL;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage *storage;
	void *value;
	int err;

	storage = storage_alloc(owner, smap, &smap->storage_ma,
				kind_nr_slots(smap->kind), embedded, gfp);
	if (IS_ERR(storage))
		return storage;
	elem = likely(embedded) ? &storage->first : elem_alloc(owner, smap, gfp);
	if (unlikely(smap->slot >= storage->nr_slots))
		index = index_alloc(owner, smap, 1, gfp);
	err = PTR_ERR_OR_ZERO(elem) ?: PTR_ERR_OR_ZERO(index);
	if (unlikely(err))
		goto drop;

	RCU_INIT_POINTER(storage->index, index);
	elem->map = smap;
	value = likely(embedded) ? storage_first_value(storage) : elem + 1;
	value_init(smap, value, from, source);
	storage_add_unpublished(storage, elem);
	err = storage_publish(storage, owner, elem);
	if (likely(!err))
		return value;
drop:
	if (!embedded)
		elem_free_unpublished(owner, elem);
	index_free_unpublished(owner, smap, index);
	bpf_local_storage_free_unpublished(owner, smap, storage);
	return ERR_PTR(err);
}

/* Further values, and new ones in place of old ones */

/**
 * struct bpf_local_storage_op - one creation or update on its way
 * @owner: of the storage, alive during the call
 * @smap: the map
 * @value: what to store, or NULL for zeroes
 * @source: where @value is from
 * @mode: BPF_ANY, BPF_NOEXIST or BPF_EXIST
 * @gfp: how to allocate
 * @elem: the new element, not linked yet; kept from attempt to attempt
 * @index: a larger index, not published yet
 * @old_elem: what the change took out, to be freed
 * @old_index: likewise
 * @found: the value in the storage, old or new
 */
struct bpf_local_storage_op {
	void *owner;
	struct bpf_local_storage_map *smap;
	void *value;
	enum value_source source;
	u64 mode;
	gfp_t gfp;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_elem *old_elem;
	struct bpf_local_storage_index *old_index;
	void *found;
};

static int op_alloc_elem(struct bpf_local_storage_op *op)
{
	op->elem = elem_alloc(op->owner, op->smap, op->gfp);
	if (IS_ERR(op->elem))
		return PTR_ERR(no_free_ptr(op->elem));
	value_init(op->smap, op->elem + 1, op->value, op->source);
	return 0;
}

static int op_alloc_index(struct bpf_local_storage_op *op, u32 keys)
{
	op->index = index_alloc(op->owner, op->smap, keys, op->gfp);
	if (IS_ERR(op->index))
		return PTR_ERR(no_free_ptr(op->index));
	return 0;
}

/* Free what the change replaced, and what it made and did not use. */
static void op_end(struct bpf_local_storage_op *op)
{
	bpf_local_storage_elem_free_rcu(op->old_elem);
	bpf_local_storage_index_free_rcu(op->old_index);
	elem_free_unpublished(op->owner, op->elem);
	index_free_unpublished(op->owner, op->smap, op->index);
}

/* Whether @mode allows the change, given what is there. */
static int check_update_flags(u64 mode, const void *found)
{
	if (mode == BPF_NOEXIST && found)
		return -EEXIST;
	if (mode == BPF_EXIST && !found)
		return -ENOENT;
	return 0;
}

/*
 * See to it that a cell for the map is there; the spare index, if it is large
 * enough, is used for that.  0, or how many keys a new index has to hold.
 */
static u32 op_ensure_cell(struct bpf_local_storage_op *op,
			  struct bpf_local_storage *storage)
{
	struct bpf_local_storage_index *index = index_locked(storage);
	u32 live = index ? index->live : 0;

	if (op->smap->slot < storage->nr_slots)
		return 0;
	if (index && (index_cell(index, op->smap)->map ||
		      index_has_room(index, 1)))
		return 0;
	if (!op->index || !index_has_room(op->index, live + 1))
		return live + 1;
	op->old_index = index_replace(storage, no_free_ptr(op->index));
	if (op->old_index)
		owner_uncharge(op->smap->kind, storage->owner,
			       index_size(op->old_index));
	return 0;
}

/* Link op->elem, with both locks held, in place of what is there. */
static void op_link_elem(struct bpf_local_storage_op *op,
			 struct bpf_local_storage *storage,
			 struct bpf_local_storage_bucket *bucket)
{
	struct bpf_local_storage_elem *elem = no_free_ptr(op->elem);
	struct bpf_local_storage_elem *old;

	old = op->found ? value_elem(storage, op->found) : NULL;
	elem_set_storage(elem, storage);
	elem_link(bucket, elem, old);
	op->found = elem + 1;
	storage_set_value(storage, op->smap, op->found);
	if (old)
		op->old_elem = elem_unlink(bucket, old);
}

/*
 * Apply the change to the owner's storage.  -ESTALE: it is not the owner's any
 * more, or never was.  -ENOSPC: *keys says how large an index it takes.
 */
static int op_change_storage(struct bpf_local_storage_op *op,
			     struct bpf_local_storage *storage, u32 *keys)
{
	struct bpf_local_storage_bucket *bucket =
		map_bucket(op->smap, op->owner);
	struct bpf_local_storage_locks locks;
	int err = -EBUSY;

	locks_enter(&locks);
	if (!try_lock_storage(&locks, storage))
		goto exit;
	err = -ESTALE;
	if (storage->owner != op->owner)
		goto unlock;
	op->found = bpf_local_storage_lookup(storage, op->smap);
	err = check_update_flags(op->mode, op->found);
	if (err)
		goto unlock;
	*keys = op_ensure_cell(op, storage);
	err = -ENOSPC;
	if (*keys)
		goto unlock;
	err = -EBUSY;
	if (!try_lock_bucket(&locks, bucket))
		goto unlock;
	op_link_elem(op, storage, bucket);
	unlock_bucket(&locks);
	err = 0;
unlock:
	unlock_storage(&locks);
exit:
	locks_exit(&locks);
	return err;
}

/* The owner keeps something: add to it or replace in it. */
static int op_change(struct bpf_local_storage_op *op,
		     struct bpf_local_storage *storage)
{
	u32 keys;
	int err;

	err = op->elem ? 0 : op_alloc_elem(op);
	if (!err)
		err = op_change_storage(op, storage, &keys);
	if (err != -ENOSPC)
		return err;

	index_free_unpublished(op->owner, op->smap, no_free_ptr(op->index));
	return op_alloc_index(op, keys) ?: -EAGAIN;
}

/* One attempt; -EAGAIN: what the owner keeps is not what it was. */
static int op_try(struct bpf_local_storage_op *op)
{
	struct bpf_local_storage *storage;
	int err;

	storage = owner_storage(op->owner, op->smap->kind);
	if (storage == &destroyed_storage)
		return -ENOENT;
	if (!storage) {
		err = check_update_flags(op->mode, NULL);
		if (err)
			return err;
		/* Or it would be charged, and refused, together with a new one. */
		elem_free_unpublished(op->owner, no_free_ptr(op->elem));
		index_free_unpublished(op->owner, op->smap,
				       no_free_ptr(op->index));
		op->found = storage_create(op->owner, op->smap, op->value,
					   op->source, op->gfp);
		return PTR_ERR_OR_ZERO(op->found);
	}
	err = op_change(op, storage);
	if (err != -ESTALE)
		return err;
	/* An object that is being copied from another has the other's pointer. */
	if (storage == owner_storage(op->owner, op->smap->kind))
		return -ENOENT;
	return -EAGAIN;
}

static int op_run(struct bpf_local_storage_op *op)
{
	int err;

	do {
		err = op_try(op);
	} while (err == -EAGAIN);
	op_end(op);
	return err;
}

static noinline void *owner_create_further(void *owner,
					   struct bpf_local_storage_map *smap,
					   void *value,
					   enum value_source source, gfp_t gfp)
{
	struct bpf_local_storage_op op = {
		.owner = owner, .smap = smap, .value = value, .source = source,
		.mode = BPF_NOEXIST, .gfp = gfp,
	};
	int err;

	err = op_run(&op);
	if (err && err != -EEXIST)
		return ERR_PTR(err);
	return op.found;
}

static __always_inline void *owner_create(void *owner,
					  struct bpf_local_storage_map *smap,
					  void *value, enum value_source source,
					  gfp_t gfp)
{
	void *found = ERR_PTR(-EAGAIN);

	/* Most owners keep one value. */
	if (likely(!owner_storage(owner, smap->kind)))
		found = storage_create(owner, smap, value, source, gfp);
	if (unlikely(found == ERR_PTR(-EAGAIN)))
		found = owner_create_further(owner, smap, value, source, gfp);
	return found;
}

/* The rest of bpf_local_storage_create(), not to be traced. */
void *__bpf_local_storage_create(void *owner,
				 struct bpf_local_storage_map *smap,
				 void *value, enum value_source source,
				 gfp_t gfp)
{
	return owner_create(owner, smap, value, source, gfp);
}

/* The rest of bpf_local_storage_update(), not to be traced. */
long __bpf_local_storage_update(void *owner, struct bpf_local_storage_map *smap,
				void *value, u64 flags)
{
	struct bpf_local_storage_op op = {
		.owner = owner, .smap = smap,
		.value = value, .source = FROM_USER,
		.mode = flags & ~BPF_F_LOCK, .gfp = GFP_ATOMIC,
	};
	void *found;
	int err;

	/* Nobody can say which of the pages a value in place still has. */
	if (flags & BPF_F_LOCK && bpf_local_storage_has_uptrs(&smap->map))
		return -EOPNOTSUPP;

	found = owner_lookup(owner, smap);
	err = check_update_flags(op.mode, found);
	if (err)
		return err;
	if (unlikely(too_much_waits()) && !(found && flags & BPF_F_LOCK))
		return -ENOMEM;
	if (!(flags & BPF_F_LOCK))
		return op_run(&op);

	if (!found) {
		op.mode = BPF_NOEXIST;
		err = op_run(&op);
		if (err != -EEXIST || flags & BPF_NOEXIST)
			return err;
		found = op.found;
	}
	copy_map_value_locked(&smap->map, found, value, false);
	return 0;
}

/*
 * Remove a map's element from a storage, and the storage with its last one.
 * The storage must be @owner's, unless that is NULL.
 */
int __bpf_local_storage_delete(struct bpf_local_storage *storage,
			       struct bpf_local_storage_map *smap,
			       const void *owner)
{
	struct bpf_local_storage_elem *unlinked = NULL;
	struct bpf_local_storage_bucket *bucket;
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_locks locks;
	bool empty = false;
	int err = -EBUSY;
	void *value;

	locks_enter(&locks);
	if (!try_lock_storage(&locks, storage))
		goto exit;
	err = -ENOENT;
	if (!storage->owner || (owner && storage->owner != owner))
		goto unlock;
	value = bpf_local_storage_lookup(storage, smap);
	if (!value)
		goto unlock;
	err = -EBUSY;
	bucket = map_bucket(smap, storage->owner);
	if (!try_lock_bucket(&locks, bucket))
		goto unlock;
	unlinked = elem_unlink(bucket, value_elem(storage, value));
	storage_set_value(storage, smap, NULL);
	unlock_bucket(&locks);
	index = index_locked(storage);
	empty = storage_is_empty(storage);
	if (empty)
		storage_detach(storage, smap->kind, NULL);
	err = 0;
unlock:
	unlock_storage(&locks);
exit:
	locks_exit(&locks);
	bpf_local_storage_elem_free_rcu(unlinked);
	if (empty) {
		bpf_local_storage_index_free_rcu(index);
		bpf_local_storage_free_rcu(storage);
	}
	return err;
}

/* Unlink all of a storage's elements; gathers those to be freed. */
static void storage_unlink_all(struct bpf_local_storage_locks *locks,
			       struct bpf_local_storage *storage,
			       struct hlist_head *unlinked)
{
	struct bpf_local_storage_bucket *bucket;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;

	iter_init(&iter, storage);
	while ((elem = iter_next(&iter))) {
		bucket = map_bucket(elem->map, storage->owner);
		lock_bucket(locks, bucket);
		/* The map's slot may be another's as soon as the bucket is empty. */
		storage_set_value(storage, elem->map, NULL);
		elem = elem_unlink(bucket, elem);
		unlock_bucket(locks);
		if (elem)
			hlist_add_head(&elem->map_node, unlinked);
	}
}

/*
 * Unlink everything in a storage and mark its owner as destroyed.  False if
 * the storage has been detached from its owner.
 */
static bool storage_destroy(struct bpf_local_storage *storage,
			    const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_elem *elem;
	HLIST_HEAD(unlinked);
	struct hlist_node *next;
	struct bpf_local_storage_locks locks;
	bool ours;

	locks_enter(&locks);
	lock_storage(&locks, storage);
	index = index_locked(storage);
	ours = storage->owner;
	if (ours) {
		storage_unlink_all(&locks, storage, &unlinked);
		storage_detach(storage, kind, &destroyed_storage);
	}
	unlock_storage(&locks);
	locks_exit(&locks);
	if (!ours)
		return false;

	hlist_for_each_entry_safe(elem, next, &unlinked, map_node)
		bpf_local_storage_elem_free_rcu(elem);
	bpf_local_storage_index_free_rcu(index);
	bpf_local_storage_free_rcu(storage);
	return true;
}

/* The rest of bpf_local_storage_destroy(), not to be traced. */
void __bpf_local_storage_destroy(void *owner,
				 const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage **ptr = owner_raw_pointer(owner, kind);
	struct bpf_local_storage *storage;

	/* Pairs with synchronize_rcu() in map free, for elem->map. */
	rcu_read_lock();
	do {
		/* Pairs with the release in storage_detach(). */
		storage = smp_load_acquire(ptr);
		/* Pairs with the cmpxchg() in storage_publish(). */
		if (!storage)
			storage = cmpxchg(ptr, NULL, &destroyed_storage);
	} while (storage && storage != &destroyed_storage &&
		 !storage_destroy(storage, kind));
	rcu_read_unlock();
}

/* Map free */

/* The storage of some element in the bucket; under rcu_read_lock(). */
static struct bpf_local_storage *
bucket_first_storage(struct bpf_local_storage_bucket *bucket)
{
	struct bpf_local_storage *storage;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_locks locks;

	locks_enter(&locks);
	lock_bucket(&locks, bucket);
	elem = hlist_entry_safe(bucket->elems.first,
				struct bpf_local_storage_elem, map_node);
	/* While the element is linked its tagged_storage stays what it is. */
	storage = elem ? elem_storage(elem) : NULL;
	unlock_bucket(&locks);
	locks_exit(&locks);
	return storage;
}

/**
 * bpf_local_storage_map_empty - delete a map's element of every owner
 * @smap: the map, to which nobody has a reference
 *
 * Context: Process; sleeps.
 */
void bpf_local_storage_map_empty(struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage;
	u32 i, bytes = 0;

	for (i = 0; i < BIT(smap->bucket_bits); i++) {
		do {
			/* Pairs with the grace period that frees a storage. */
			rcu_read_lock();
			storage = bucket_first_storage(&smap->buckets[i]);
			if (storage)
				__bpf_local_storage_delete(storage, smap, NULL);
			rcu_read_unlock();
			cond_resched();
			/*
			 * Leave to those who create what they may have.  A map
			 * without elements must not wait: its creation may have
			 * failed in a sleepable program.
			 */
			bytes += storage ? elem_size(smap) : 0;
			if (bytes < EMPTIED_AT_ONCE)
				continue;
			bytes = 0;
			if (half_as_much_waits())
				bpf_local_storage_barrier();
		} while (storage);
	}
}
