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
 * A slot belongs to one map, so a hit is two loads and compares nothing.  A
 * storage has as many slots as the maps in use asked for when it was made; a
 * map whose slot lies beyond, or that owns none, is found through the index,
 * an open-addressed table in which a cell's map never changes.
 *
 * Who may touch what, and why it is safe:
 *
 * - Lookup: under RCU or RCU Tasks Trace, no lock.  An element, a storage or
 *   an index goes back to the allocator after a grace period of both.
 * - Change: under storage->lock, and the bucket lock of the map nested in it.
 *   Linked or unlinked is therefore one fact, and exactly one of update,
 *   delete, destroy and map free unlinks an element and uncharges it.
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
 * A program may also have interrupted the allocator, RCU or the scheduler.  The
 * locks they wait for are held
 * - with interrupts off, but for the allocator's on PREEMPT_RT; UP and SMP, 32
 *   and 64 bits do not differ.  So where interrupts are off, memory comes from
 *   lists that are refilled elsewhere, and a grace period is started from an
 *   irq_work; elsewhere we use kmalloc() and start grace periods.
 * - On PREEMPT_RT, the allocator's locks sleep, so they are out of the question
 *   with preemption off, too, and for a program that may have interrupted their
 *   holder; of that one the verifier tells us by a gfp_t of 0.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/bpf_local_storage.h>
#include <linux/bpf_mem_alloc.h>
#include <linux/build_bug.h>
#include <linux/cpuhotplug.h>
#include <linux/hash.h>
#include <linux/init.h>
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/rcupdate_trace.h>
#include <linux/sched/clock.h>
#include <linux/slab.h>
#include "bpf_local_storage_internal.h"

#define INDEX_MIN_CELLS		4
/* In elem->home: the block is from BPF's allocator, not from kmalloc(). */
#define FROM_BPF_MA		1UL
/* Bytes beyond which a block of memory for copies does not grow. */
#define CLONED_MAX		2048
/* Blocks that programs may take in hard interrupts, per CPU and jiffy. */
#define HARDIRQ_BLOCKS		256
/* Of the machine's memory, what may wait for grace periods: a 64th. */
#define WAITING_SHIFT		6
/* Bytes that a CPU counts for itself before it tells the others. */
#define WAITING_BATCH		SZ_64K
#define WAITING_BATCH_PAGES	DIV_ROUND_UP(SZ_64K, PAGE_SIZE)
/* Nanoseconds that a nested call waits for another CPU's lock. */
#define NESTED_WAIT		(NSEC_PER_SEC / 4)

/* What an owner has once it was destroyed: nobody's, empty, never freed. */
static struct bpf_local_storage destroyed_storage = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(destroyed_storage.lock),
	.nr_slots = BPF_LOCAL_STORAGE_MIN_SLOTS,
	.slots = { [BPF_LOCAL_STORAGE_MIN_SLOTS - 1] = NULL },
};

/* Whether this CPU may be holding a lock of RCU's. */
static bool may_hold_rcu_lock(void)
{
	return irqs_disabled() || in_nmi();
}

/* Whether this CPU may be holding a lock of the allocator's. */
static bool may_hold_slab_lock(gfp_t gfp)
{
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && !(gfp && preemptible()))
		return true;
	return irqs_disabled() || in_nmi();
}

/**
 * struct section - a call that may hold locks, from enter to exit
 * @outer: the call on the same CPU that it interrupted, or NULL
 * @storage: the lock of a storage that it holds or is waiting for, or NULL
 * @bucket: the same of a bucket
 * @irqflags: from before
 */
struct section {
	struct section *outer;
	raw_spinlock_t *storage;
	raw_spinlock_t *bucket;
	unsigned long irqflags;
};

/* The innermost one on this CPU. */
static DEFINE_PER_CPU(struct section *, innermost_section);

static __always_inline void section_enter(struct section *sec)
{
	local_irq_save(sec->irqflags);
	sec->storage = NULL;
	sec->bucket = NULL;
	sec->outer = __this_cpu_read(innermost_section);
	/* Whoever interrupts us from here on reads all of it. */
	barrier();
	__this_cpu_write(innermost_section, sec);
}

static __always_inline void section_exit(struct section *sec)
{
	__this_cpu_write(innermost_section, sec->outer);
	local_irq_restore(sec->irqflags);
}

/* Whether a call that this one has interrupted has the lock, or is about to. */
static bool section_has_outside(const struct section *sec,
				const raw_spinlock_t *lock)
{
	for (sec = sec->outer; sec; sec = sec->outer)
		if (sec->storage == lock || sec->bucket == lock)
			return true;
	return false;
}

static noinline bool section_lock_nested(struct section *sec,
					 raw_spinlock_t *lock)
{
	u64 end;

	if (section_has_outside(sec, lock))
		return false;
	if (raw_spin_trylock(lock))
		return true;
	end = local_clock() + NESTED_WAIT;
	do {
		cpu_relax();
		if (raw_spin_trylock(lock))
			return true;
	} while (local_clock() < end);
	return false;
}

/*
 * Sparse cannot follow a lock that is held on some paths only, so it is told
 * that these are not.
 */
static __always_inline void section_lock(raw_spinlock_t **noted,
					 raw_spinlock_t *lock)
{
	/* Before it is taken: a nested call must not queue up behind us. */
	WRITE_ONCE(*noted, lock);
	raw_spin_lock(lock);
	__release(lock);
}

/* False if the call is nested and cannot have the lock. */
static __always_inline bool section_try_lock(struct section *sec,
					     raw_spinlock_t **noted,
					     raw_spinlock_t *lock)
{
	if (likely(!sec->outer && !in_nmi())) {
		section_lock(noted, lock);
		return true;
	}
	WRITE_ONCE(*noted, lock);
	if (!section_lock_nested(sec, lock)) {
		WRITE_ONCE(*noted, NULL);
		return false;
	}
	__release(lock);
	return true;
}

static __always_inline void section_unlock(raw_spinlock_t **noted)
{
	raw_spinlock_t *lock = *noted;

	__acquire(lock);
	raw_spin_unlock(lock);
	/* After it is free: a nested call must not wait for us. */
	WRITE_ONCE(*noted, NULL);
}

/* Serialises every change of what an owner keeps. */
static __always_inline bool try_lock_storage(struct section *sec,
					     struct bpf_local_storage *storage)
{
	return section_try_lock(sec, &sec->storage, &storage->lock);
}

/* The same where no call can have been interrupted. */
static __always_inline void lock_storage(struct section *sec,
					 struct bpf_local_storage *storage)
{
	section_lock(&sec->storage, &storage->lock);
}

static __always_inline void unlock_storage(struct section *sec)
{
	section_unlock(&sec->storage);
}

/* Serialises changes of a bucket's list: owners share it, walks pass it. */
static __always_inline bool
try_lock_bucket(struct section *sec, struct bpf_local_storage_bucket *bucket)
{
	return section_try_lock(sec, &sec->bucket, &bucket->lock);
}

/* The same where no call can have been interrupted. */
static __always_inline void lock_bucket(struct section *sec,
					struct bpf_local_storage_bucket *bucket)
{
	section_lock(&sec->bucket, &bucket->lock);
}

static __always_inline void unlock_bucket(struct section *sec)
{
	section_unlock(&sec->bucket);
}

static u32 storage_bytes(const struct bpf_local_storage *storage)
{
	return storage->size * 8;
}

/* Whether an element is part of its storage's memory. */
static bool is_inside(const struct bpf_local_storage *storage,
		      const struct bpf_local_storage_elem *elem)
{
	return (unsigned long)elem - (unsigned long)storage <
	       storage_bytes(storage);
}

static u32 index_bytes(const struct bpf_local_storage_index *index)
{
	return struct_size(index, cells, (size_t)index->mask + 1);
}

static struct bpf_local_storage_bucket *
bucket_of(struct bpf_local_storage_map *smap, const void *owner)
{
	return &smap->buckets[hash_ptr(owner, smap->bucket_bits)];
}

static void *first_value(struct bpf_local_storage *storage)
{
	return &storage->slots[storage->nr_slots];
}

static struct bpf_local_storage *
storage_of_elem(const struct bpf_local_storage_elem *elem)
{
	return (struct bpf_local_storage *)(elem->home & ~FROM_BPF_MA);
}

static __always_inline void *value_of(struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = storage_of_elem(elem);

	if (elem == &storage->first)
		return first_value(storage);
	return elem + 1;
}

/**
 * bpf_local_storage_value - where the value of an element is
 * @elem: the element, linked or protected by RCU
 *
 * Context: Any.
 * Return: The value.
 */
void *bpf_local_storage_value(struct bpf_local_storage_elem *elem)
{
	return value_of(elem);
}

static struct bpf_local_storage_elem *
elem_of(struct bpf_local_storage *storage, void *value)
{
	if (value == first_value(storage))
		return &storage->first;
	return (struct bpf_local_storage_elem *)value - 1;
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
	iter->storage = storage;
	/* One index for the whole walk: a new one has another order. */
	iter->index = rcu_dereference(storage->index);
	iter->pos = 0;
}

static __always_inline struct bpf_local_storage_elem *
iter_next(struct bpf_local_storage_iter *iter)
{
	struct bpf_local_storage *storage = iter->storage;
	u32 nr_slots = storage->nr_slots;
	void *value;

	while (iter->pos < nr_slots) {
		value = rcu_dereference(storage->slots[iter->pos++]);
		if (value)
			return elem_of(storage, value);
	}
	while (iter->index && iter->pos <= nr_slots + iter->index->mask) {
		u32 i = iter->pos++ - nr_slots;

		value = rcu_dereference(iter->index->cells[i].value);
		if (value)
			return elem_of(storage, value);
	}
	return NULL;
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

/* Freeing */

/*
 * What waits for a grace period, in batches.  Each CPU adds up the bytes that it
 * lets wait; the block that completes a batch takes it back when it is freed,
 * as those before it on this CPU then are, or are about to be.
 */
static DEFINE_PER_CPU(int, waiting_bytes);
static atomic_t waiting_batches;

static bool completes_batch(u32 bytes)
{
	/* At most one each: only an index can be larger than that. */
	int added = min_t(u32, bytes, WAITING_BATCH);

	if (likely(this_cpu_add_return(waiting_bytes, added) < WAITING_BATCH))
		return false;
	/* Perhaps on another CPU by now; then that one's is below 0 for a while. */
	this_cpu_sub(waiting_bytes, WAITING_BATCH);
	atomic_inc(&waiting_batches);
	return true;
}

/*
 * A program that makes and deletes faster than grace periods end, as any can
 * that is one RCU read section, must not take all of the memory.
 */
static bool too_much_waits(void)
{
	unsigned long limit = totalram_pages() >> WAITING_SHIFT;

	return atomic_read(&waiting_batches) > limit / WAITING_BATCH_PAGES;
}

/* What the grace periods are followed by, for each way to free. */

static void bpf_local_storage_kfree_rcu(struct rcu_head *rcu)
{
	kfree(rcu);
}

static void bpf_local_storage_ma_free_rcu(struct rcu_head *rcu)
{
	bpf_mem_cache_raw_free((void *)rcu - BPF_MA_PAD);
}

static void bpf_local_storage_fields_free_rcu(struct rcu_head *rcu)
{
	struct bpf_local_storage_elem *elem =
		container_of(rcu, struct bpf_local_storage_elem, rcu);

	bpf_obj_free_fields(elem->map->map.record, elem + 1);
	if (elem->home & FROM_BPF_MA)
		bpf_local_storage_ma_free_rcu(rcu);
	else
		bpf_local_storage_kfree_rcu(rcu);
}

/* The same for a block that completed a batch. */

static void bpf_local_storage_kfree_batch_rcu(struct rcu_head *rcu)
{
	atomic_dec(&waiting_batches);
	bpf_local_storage_kfree_rcu(rcu);
}

static void bpf_local_storage_ma_free_batch_rcu(struct rcu_head *rcu)
{
	atomic_dec(&waiting_batches);
	bpf_local_storage_ma_free_rcu(rcu);
}

static void bpf_local_storage_fields_free_batch_rcu(struct rcu_head *rcu)
{
	atomic_dec(&waiting_batches);
	bpf_local_storage_fields_free_rcu(rcu);
}

/* Grace periods to be started when no lock of RCU's can be held. */
struct postponed {
	struct llist_head heads;
	struct irq_work work;
};

static void bpf_local_storage_start_postponed(struct irq_work *work)
{
	struct postponed *postponed = container_of(work, struct postponed, work);
	struct llist_node *node, *next;
	struct rcu_head *rcu;

	/* Pairs with synchronize_rcu() in bpf_local_storage_barrier(). */
	rcu_read_lock();
	/* Pairs with llist_add() in bpf_local_storage_call_rcu(). */
	llist_for_each_safe(node, next, llist_del_all(&postponed->heads)) {
		rcu = (struct rcu_head *)node;
		call_rcu_tasks_trace(rcu, rcu->func);
	}
	rcu_read_unlock();
}

static DEFINE_PER_CPU(struct postponed, postponed) = {
	/* At the next tick: a program on interrupts must not keep them coming. */
	.work = IRQ_WORK_INIT_LAZY(bpf_local_storage_start_postponed),
};

/**
 * bpf_local_storage_call_rcu - call a function after a grace period
 * @rcu: of what the function is for
 * @func: called after a grace period of RCU Tasks Trace, as by RCU
 *
 * Context: Any, under the locks of RCU, too.
 */
void bpf_local_storage_call_rcu(struct rcu_head *rcu, rcu_callback_t func)
{
	struct postponed *here;

	/* Where it does not imply one of RCU, whatever is freed waits for both. */
	BUILD_BUG_ON(!rcu_trace_implies_rcu_gp());
	if (likely(!may_hold_rcu_lock())) {
		call_rcu_tasks_trace(rcu, func);
		return;
	}
	/* Until it is given to RCU, the head's link is ours. */
	rcu->func = func;
	here = this_cpu_ptr(&postponed);
	if (llist_add((struct llist_node *)&rcu->next, &here->heads))
		irq_work_queue(&here->work);
}

/**
 * bpf_local_storage_barrier - wait until all that is to be freed was freed
 *
 * Context: Process; sleeps.
 */
void bpf_local_storage_barrier(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		bpf_local_storage_start_postponed(per_cpu_ptr(&postponed.work,
							      cpu));
	/* Pairs with the read section of those that came before us. */
	synchronize_rcu();
	rcu_barrier_tasks_trace();
}

/* A CPU may have postponed something after its last irq_work. */
static int bpf_local_storage_cpu_dead(unsigned int cpu)
{
	bpf_local_storage_start_postponed(per_cpu_ptr(&postponed.work, cpu));
	return 0;
}

static int __init bpf_local_storage_init(void)
{
	int state;

	state = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN,
					  "bpf/local_storage:dead", NULL,
					  bpf_local_storage_cpu_dead);
	return min(state, 0);
}
late_initcall(bpf_local_storage_init);

/* Free a block, which begins with @rcu, after the grace periods. */
static void free_wait(struct rcu_head *rcu, u32 bytes, bool from_bpf_ma)
{
	bool batch = completes_batch(bytes);

	if (unlikely(from_bpf_ma))
		bpf_local_storage_call_rcu(rcu, batch ?
					   bpf_local_storage_ma_free_batch_rcu :
					   bpf_local_storage_ma_free_rcu);
	else
		bpf_local_storage_call_rcu(rcu, batch ?
					   bpf_local_storage_kfree_batch_rcu :
					   bpf_local_storage_kfree_rcu);
}

static void free_elem(struct bpf_local_storage_elem *elem)
{
	u32 bytes;

	if (!elem)
		return;
	bytes = elem_bytes(elem->map);
	if (!has_pointers(elem->map))
		free_wait(&elem->rcu, bytes, elem->home & FROM_BPF_MA);
	else
		bpf_local_storage_call_rcu(&elem->rcu, completes_batch(bytes) ?
				bpf_local_storage_fields_free_batch_rcu :
				bpf_local_storage_fields_free_rcu);
}

static void free_index(struct bpf_local_storage_index *index)
{
	if (index)
		free_wait(&index->rcu, index_bytes(index), index->from_bpf_ma);
}

static void free_storage(struct bpf_local_storage *storage)
{
	free_wait(&storage->first.rcu, storage_bytes(storage),
		  storage->first.home & FROM_BPF_MA);
}

/* Changes; all under storage->lock */

/* A storage without an owner is nobody's yet, or nobody's any more. */
static struct bpf_local_storage_index *
index_locked(struct bpf_local_storage *storage)
{
	return rcu_dereference_protected(storage->index, !storage->owner ||
					 lockdep_is_held(&storage->lock));
}

static bool index_has_room(const struct bpf_local_storage_index *index,
			   u32 more)
{
	u32 cells = index->mask + 1;

	return index->keys + more <= cells - cells / 4;
}

static void index_set(struct bpf_local_storage *storage,
		      struct bpf_local_storage_map *smap, void *value)
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

static __always_inline void value_set(struct bpf_local_storage *storage,
				      struct bpf_local_storage_map *smap,
				      void *value)
{
	u8 slot = smap->slot;

	if (unlikely(slot >= storage->nr_slots)) {
		index_set(storage, smap, value);
		return;
	}
	storage->used += !!value - !!rcu_access_pointer(storage->slots[slot]);
	/* Pairs with the load in bpf_local_storage_lookup(). */
	rcu_assign_pointer(storage->slots[slot], value);
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

static void uncharge(const struct bpf_local_storage_kind *kind, void *owner,
		     u32 size)
{
	if (kind->uncharge)
		kind->uncharge(owner, size);
}

/* Link an element, behind the one that it is to replace if there is one. */
static void link_elem(struct bpf_local_storage_bucket *bucket,
		      struct bpf_local_storage_elem *elem,
		      struct bpf_local_storage_elem *old)
{
	lockdep_assert_held(&bucket->lock);
	/* In the same place, a walk over the map that pauses does not miss it. */
	if (old)
		hlist_add_behind(&elem->map_node, &old->map_node);
	else
		hlist_add_head(&elem->map_node, &bucket->elems);
	bucket->count++;
	WRITE_ONCE(elem->map->used, true);
}

/*
 * Take an element off its map and uncharge it.  Returns what the caller has
 * to free: NULL for an element that goes with its storage.
 */
static struct bpf_local_storage_elem *
unlink_elem(struct bpf_local_storage_bucket *bucket,
	    struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = storage_of_elem(elem);

	lockdep_assert_held(&bucket->lock);
	hlist_del(&elem->map_node);
	bucket->count--;
	if (is_inside(storage, elem))
		return NULL;
	uncharge(elem->map->kind, storage->owner, elem_bytes(elem->map));
	return elem;
}

/*
 * Put @next, NULL or destroyed_storage, in place of an owner's storage; the
 * caller frees that and its index.
 */
static void detach(struct bpf_local_storage *storage,
		   const struct bpf_local_storage_kind *kind,
		   struct bpf_local_storage *next)
{
	struct bpf_local_storage_index *index = index_locked(storage);
	void *owner = storage->owner;

	uncharge(kind, owner, storage_bytes(storage) +
			      (index ? index_bytes(index) : 0));
	WRITE_ONCE(storage->owner, NULL);
	/*
	 * The last access to the owner.  Pairs with the acquire in
	 * bpf_local_storage_destroy(): who sees NULL may free it.
	 */
	smp_store_release((__force struct bpf_local_storage **)
			  pointer_of(owner, kind), next);
}

static bool is_empty(struct bpf_local_storage *storage)
{
	struct bpf_local_storage_index *index = index_locked(storage);

	return !storage->used && !(index && index->live);
}

/* Making things; no lock held */

struct budget {
	unsigned long jiffy;
	u32 blocks;
};

static DEFINE_PER_CPU(struct budget, hardirq_budget);

/*
 * BPF's allocator is refilled from an irq_work.  A program on what that calls,
 * such as kmalloc(), must not take as much as is being added, or it never ends.
 */
static bool within_budget(void)
{
	struct budget *budget = this_cpu_ptr(&hardirq_budget);

	if (!in_hardirq())
		return true;
	/* An NMI in between only makes the budget somewhat larger. */
	if (budget->jiffy != jiffies) {
		budget->jiffy = jiffies;
		budget->blocks = HARDIRQ_BLOCKS;
	}
	if (!budget->blocks)
		return false;
	budget->blocks--;
	return true;
}

/*
 * Zeroed; from @ma if the map has it, and from what all maps share if not.  So
 * is what a burst takes that finds @ma not refilled yet: of large blocks it
 * holds one at first.
 */
static void *bpf_ma_zalloc(const struct bpf_local_storage_map *smap,
			   struct bpf_mem_alloc *ma, u32 bytes)
{
	void *block = NULL;

	if (!within_budget())
		return NULL;
	/* Pairs with the release in bpf_local_storage_map_reserve(). */
	if (ma && smp_load_acquire(&smap->reserved))
		block = bpf_mem_cache_alloc(ma);
	if (!block && bpf_global_ma_set)
		block = bpf_mem_alloc(&bpf_global_ma, bytes + BPF_MA_PAD);
	return block ? memset(block + BPF_MA_PAD, 0, bytes) : NULL;
}

/*
 * Zeroed; from @ma, which may be NULL, where kmalloc() is out of the question.
 * Sets *from_bpf_ma, which freeing has to know.
 */
static __always_inline void *
charged_alloc(void *owner, struct bpf_local_storage_map *smap,
	      struct bpf_mem_alloc *ma, u32 bytes, gfp_t gfp, bool *from_bpf_ma)
{
	void *block;
	int err;

	if (unlikely(too_much_waits()))
		return ERR_PTR(-ENOMEM);
	err = smap->kind->charge ? smap->kind->charge(owner, bytes) : 0;
	if (err)
		return ERR_PTR(err);
	*from_bpf_ma = may_hold_slab_lock(gfp);
	if (unlikely(*from_bpf_ma))
		block = bpf_ma_zalloc(smap, ma, bytes);
	else
		block = bpf_map_kzalloc(&smap->map, bytes, gfp | __GFP_NOWARN);
	if (block)
		return block;
	uncharge(smap->kind, owner, bytes);
	return ERR_PTR(-ENOMEM);
}

/* Undo charged_alloc() of something that was never published. */
static void charged_free(void *owner, struct bpf_local_storage_map *smap,
			 struct rcu_head *block, u32 bytes, bool from_bpf_ma)
{
	uncharge(smap->kind, owner, bytes);
	/* What is not to be allocated here is not to be freed here. */
	if (from_bpf_ma)
		free_wait(block, bytes, true);
	else
		kfree(block);
}

/*
 * A storage for @owner that nobody can see, with @inside bytes for elements
 * behind its slots.
 */
static __always_inline struct bpf_local_storage *
storage_new(void *owner, struct bpf_local_storage_map *smap,
	    struct bpf_mem_alloc *ma, u32 inside, gfp_t gfp)
{
	/* Pairs with nothing: a stale value only makes the index do more. */
	u8 nr_slots = READ_ONCE(smap->kind->slots->nr);
	struct bpf_local_storage *storage;
	bool from_bpf_ma;
	u32 bytes;

	bytes = struct_size(storage, slots, nr_slots) + inside;
	storage = charged_alloc(owner, smap, ma, bytes, gfp, &from_bpf_ma);
	if (IS_ERR(storage))
		return storage;
	storage->first.home = from_bpf_ma ? FROM_BPF_MA : 0;
	raw_spin_lock_init(&storage->lock);
	storage->size = bytes / 8;
	storage->nr_slots = nr_slots;
	return storage;
}

static struct bpf_local_storage_index *
index_new(void *owner, struct bpf_local_storage_map *smap, u32 keys, gfp_t gfp)
{
	struct bpf_local_storage_index *index;
	bool from_bpf_ma;
	u32 cells;

	/* At most half full, so that it lasts until the keys doubled or so. */
	cells = max_t(u32, roundup_pow_of_two(keys * 2), INDEX_MIN_CELLS);
	index = charged_alloc(owner, smap, NULL,
			      struct_size(index, cells, cells), gfp,
			      &from_bpf_ma);
	if (IS_ERR(index))
		return index;
	index->from_bpf_ma = from_bpf_ma;
	index->mask = cells - 1;
	return index;
}

static struct bpf_local_storage_elem *
elem_new(void *owner, struct bpf_local_storage_map *smap, gfp_t gfp)
{
	struct bpf_local_storage_elem *elem;
	bool from_bpf_ma;

	elem = charged_alloc(owner, smap, &smap->elem_ma, elem_bytes(smap), gfp,
			     &from_bpf_ma);
	if (IS_ERR(elem))
		return elem;
	elem->map = smap;
	elem->home = from_bpf_ma ? FROM_BPF_MA : 0;
	return elem;
}

/* Undo what makes them; nobody has seen them. */

static void storage_drop(void *owner, struct bpf_local_storage_map *smap,
			 struct bpf_local_storage *storage)
{
	charged_free(owner, smap, &storage->first.rcu, storage_bytes(storage),
		     storage->first.home & FROM_BPF_MA);
}

static void index_drop(void *owner, struct bpf_local_storage_map *smap,
		       struct bpf_local_storage_index *index)
{
	if (!IS_ERR_OR_NULL(index))
		charged_free(owner, smap, &index->rcu, index_bytes(index),
			     index->from_bpf_ma);
}

static void elem_drop(void *owner, struct bpf_local_storage_elem *elem)
{
	if (!IS_ERR_OR_NULL(elem))
		charged_free(owner, elem->map, &elem->rcu,
			     elem_bytes(elem->map), elem->home & FROM_BPF_MA);
}

/*
 * Set a new value, of zeroes so far, to @from if there is one; @locked: under
 * its bpf_spin_lock, if it has one.
 */
static __always_inline void fill_value(struct bpf_local_storage_map *smap,
				       void *value, void *from, bool locked)
{
	struct bpf_map *map = &smap->map;

	if (IS_ERR_OR_NULL(map->record)) {
		if (from)
			memcpy(value, from, map->value_size);
		return;
	}
	check_and_init_map_value(map, value);
	if (locked && btf_record_has_field(map->record, BPF_SPIN_LOCK))
		copy_map_value_locked(map, value, from, true);
	else if (from)
		copy_map_value(map, value, from);
}

/* The first value of an owner */

/* Add an element to a storage that nobody can see. */
static void put_unseen(struct bpf_local_storage *storage,
		       struct bpf_local_storage_elem *elem)
{
	elem->home = (unsigned long)storage | (elem->home & FROM_BPF_MA);
	value_set(storage, elem->map, value_of(elem));
}

/*
 * Let the owner have the storage with this element in it.  -EAGAIN: it has one
 * already.
 */
static int publish(struct bpf_local_storage *storage, void *owner,
		   struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage_bucket *bucket = bucket_of(elem->map, owner);
	struct bpf_local_storage **ptr;
	struct section sec;
	int err = -EBUSY;

	ptr = (__force struct bpf_local_storage **)
		pointer_of(owner, elem->map->kind);
	section_enter(&sec);
	/* Nobody has it; but whoever finds the storage waits for the element. */
	if (!try_lock_storage(&sec, storage))
		goto exit;
	if (!try_lock_bucket(&sec, bucket))
		goto unlock;
	err = -EAGAIN;
	storage->owner = owner;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (likely(!cmpxchg(ptr, NULL, storage))) {
		link_elem(bucket, elem, NULL);
		err = 0;
	}
	unlock_bucket(&sec);
unlock:
	unlock_storage(&sec);
exit:
	section_exit(&sec);
	return err;
}

/* The owner keeps nothing yet: its value, or -EAGAIN if it has got a storage. */
static void *create_first(void *owner, struct bpf_local_storage_map *smap,
			  void *from, bool locked, gfp_t gfp)
{
	u32 inside = fits_inside(smap) ? value_bytes(smap) : 0;
	struct bpf_local_storage_index *index = NULL;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage *storage;
	void *value;
	int err;

	storage = storage_new(owner, smap, &smap->storage_ma, inside, gfp);
	if (IS_ERR(storage))
		return storage;
	elem = likely(inside) ? &storage->first : elem_new(owner, smap, gfp);
	if (unlikely(smap->slot >= storage->nr_slots))
		index = index_new(owner, smap, 1, gfp);
	err = PTR_ERR_OR_ZERO(elem) ?: PTR_ERR_OR_ZERO(index);
	if (unlikely(err))
		goto drop;

	RCU_INIT_POINTER(storage->index, index);
	elem->map = smap;
	value = likely(inside) ? first_value(storage) : elem + 1;
	fill_value(smap, value, from, locked);
	put_unseen(storage, elem);
	err = publish(storage, owner, elem);
	if (likely(!err))
		return value;
drop:
	if (!inside)
		elem_drop(owner, elem);
	index_drop(owner, smap, index);
	storage_drop(owner, smap, storage);
	return ERR_PTR(err);
}

/* Further values, and new ones in place of old ones */

/**
 * struct change - one creation or update on its way
 * @owner: of the storage, alive during the call
 * @smap: the map
 * @value: what to store, or NULL for zeroes
 * @locked: take the bpf_spin_lock of @value, if any, while copying it
 * @mode: BPF_ANY, BPF_NOEXIST or BPF_EXIST
 * @gfp: how to allocate
 * @elem: the new element, not linked yet; kept from attempt to attempt
 * @index: a larger index, not published yet
 * @old_elem: what the change took out, to be freed
 * @old_index: likewise
 * @found: the value in the storage, old or new
 */
struct change {
	void *owner;
	struct bpf_local_storage_map *smap;
	void *value;
	bool locked;
	u64 mode;
	gfp_t gfp;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_elem *old_elem;
	struct bpf_local_storage_index *old_index;
	void *found;
};

static int new_elem(struct change *ch)
{
	ch->elem = elem_new(ch->owner, ch->smap, ch->gfp);
	if (IS_ERR(ch->elem))
		return PTR_ERR(no_free_ptr(ch->elem));
	fill_value(ch->smap, ch->elem + 1, ch->value, ch->locked);
	return 0;
}

static int new_index(struct change *ch, u32 keys)
{
	ch->index = index_new(ch->owner, ch->smap, keys, ch->gfp);
	if (IS_ERR(ch->index))
		return PTR_ERR(no_free_ptr(ch->index));
	return 0;
}

/* Free what the change replaced, and what it made and did not use. */
static void change_end(struct change *ch)
{
	free_elem(ch->old_elem);
	free_index(ch->old_index);
	elem_drop(ch->owner, ch->elem);
	index_drop(ch->owner, ch->smap, ch->index);
}

/* Whether @mode allows the change, given what is there. */
static int check_mode(u64 mode, const void *found)
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
static u32 ensure_cell(struct change *ch, struct bpf_local_storage *storage)
{
	struct bpf_local_storage_index *index = index_locked(storage);
	u32 live = index ? index->live : 0;

	if (ch->smap->slot < storage->nr_slots)
		return 0;
	if (index && (index_cell(index, ch->smap)->map ||
		      index_has_room(index, 1)))
		return 0;
	if (!ch->index || !index_has_room(ch->index, live + 1))
		return live + 1;
	ch->old_index = index_replace(storage, no_free_ptr(ch->index));
	if (ch->old_index)
		uncharge(ch->smap->kind, storage->owner,
			 index_bytes(ch->old_index));
	return 0;
}

/* Link ch->elem, with both locks held, in place of what is there. */
static void put_elem(struct change *ch, struct bpf_local_storage *storage,
		     struct bpf_local_storage_bucket *bucket)
{
	struct bpf_local_storage_elem *elem = no_free_ptr(ch->elem);
	struct bpf_local_storage_elem *old;

	old = ch->found ? elem_of(storage, ch->found) : NULL;
	elem->home = (unsigned long)storage | (elem->home & FROM_BPF_MA);
	link_elem(bucket, elem, old);
	ch->found = elem + 1;
	value_set(storage, ch->smap, ch->found);
	if (old)
		ch->old_elem = unlink_elem(bucket, old);
}

/*
 * Apply the change to the owner's storage.  -ESTALE: it is not the owner's any
 * more, or never was.  -ENOSPC: *keys says how large an index it takes.
 */
static int change_storage(struct change *ch, struct bpf_local_storage *storage,
			  u32 *keys)
{
	struct bpf_local_storage_bucket *bucket = bucket_of(ch->smap, ch->owner);
	struct section sec;
	int err = -EBUSY;

	section_enter(&sec);
	if (!try_lock_storage(&sec, storage))
		goto exit;
	err = -ESTALE;
	if (storage->owner != ch->owner)
		goto unlock;
	ch->found = bpf_local_storage_lookup(storage, ch->smap);
	err = check_mode(ch->mode, ch->found);
	if (err)
		goto unlock;
	*keys = ensure_cell(ch, storage);
	err = -ENOSPC;
	if (*keys)
		goto unlock;
	err = -EBUSY;
	if (!try_lock_bucket(&sec, bucket))
		goto unlock;
	put_elem(ch, storage, bucket);
	unlock_bucket(&sec);
	err = 0;
unlock:
	unlock_storage(&sec);
exit:
	section_exit(&sec);
	return err;
}

/* The owner keeps something: add to it or replace in it. */
static int further_change(struct change *ch, struct bpf_local_storage *storage)
{
	u32 keys;
	int err;

	err = ch->elem ? 0 : new_elem(ch);
	if (!err)
		err = change_storage(ch, storage, &keys);
	if (err != -ENOSPC)
		return err;

	index_drop(ch->owner, ch->smap, no_free_ptr(ch->index));
	return new_index(ch, keys) ?: -EAGAIN;
}

/* One attempt; -EAGAIN: what the owner keeps is not what it was. */
static int try_change(struct change *ch)
{
	struct bpf_local_storage *storage;
	int err;

	storage = storage_of(ch->owner, ch->smap->kind);
	if (storage == &destroyed_storage)
		return -ENOENT;
	if (!storage) {
		err = check_mode(ch->mode, NULL);
		if (err)
			return err;
		/* Or it would be charged, and refused, together with a new one. */
		elem_drop(ch->owner, no_free_ptr(ch->elem));
		index_drop(ch->owner, ch->smap, no_free_ptr(ch->index));
		ch->found = create_first(ch->owner, ch->smap, ch->value,
					 ch->locked, ch->gfp);
		return PTR_ERR_OR_ZERO(ch->found);
	}
	err = further_change(ch, storage);
	if (err != -ESTALE)
		return err;
	/* An object that is being copied from another has the other's pointer. */
	if (storage == storage_of(ch->owner, ch->smap->kind))
		return -ENOENT;
	return -EAGAIN;
}

static int change(struct change *ch)
{
	int err;

	do {
		err = try_change(ch);
	} while (err == -EAGAIN);
	change_end(ch);
	return err;
}

static noinline void *create_further(void *owner,
				     struct bpf_local_storage_map *smap,
				     void *value, bool locked, gfp_t gfp)
{
	struct change ch = {
		.owner = owner, .smap = smap, .value = value, .locked = locked,
		.mode = BPF_NOEXIST, .gfp = gfp,
	};
	int err;

	err = change(&ch);
	if (err && err != -EEXIST)
		return ERR_PTR(err);
	return ch.found;
}

/* @locked: copy @value under its bpf_spin_lock, if it has one. */
static __always_inline void *create(void *owner,
				    struct bpf_local_storage_map *smap,
				    void *value, bool locked, gfp_t gfp)
{
	void *found = ERR_PTR(-EAGAIN);

	/* Most owners keep one value. */
	if (likely(!storage_of(owner, smap->kind)))
		found = create_first(owner, smap, value, locked, gfp);
	if (unlikely(found == ERR_PTR(-EAGAIN)))
		found = create_further(owner, smap, value, locked, gfp);
	return found;
}

/* The rest of bpf_local_storage_create(), not to be traced. */
void *__bpf_local_storage_create(void *owner,
				 struct bpf_local_storage_map *smap,
				 void *value, gfp_t gfp)
{
	return create(owner, smap, value, false, gfp);
}

/* Copies for a new owner */

/* A map on its way out has nothing to give to a new owner. */
static bool is_cloned(const struct bpf_local_storage_map *smap)
{
	return smap->map.map_flags & BPF_F_CLONE &&
	       atomic64_read(&smap->map.refcnt);
}

/* Whether the copy can be part of a storage with so many slots. */
static bool goes_inside(const struct bpf_local_storage_map *smap, u32 nr_slots)
{
	return smap->slot < nr_slots && fits_inside(smap);
}

/*
 * Bytes for the copies that can be part of the storage that is to be made;
 * sets *others if there are more.
 */
static u32 cloned_bytes(struct bpf_local_storage *from, u32 nr_slots,
			struct bpf_local_storage_map **some_map, bool *others)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	u32 bytes = 0;

	bpf_local_storage_iter_init(&iter, from);
	while ((elem = iter_next(&iter))) {
		if (!is_cloned(elem->map))
			continue;
		if (bytes >= CLONED_MAX || !goes_inside(elem->map, nr_slots)) {
			*others = true;
			continue;
		}
		bytes += bytes ? elem_bytes(elem->map) : value_bytes(elem->map);
		*some_map = elem->map;
	}
	return bytes;
}

/*
 * Lay copies of what has room behind the slots of @storage, which nobody can
 * see, without putting them into it; returns their number.  Sets *others if
 * there are more, as when there are since the bytes were counted.
 */
static u32 clone_inside(struct bpf_local_storage *from,
			struct bpf_local_storage *storage, bool *others)
{
	void *end = (void *)storage + storage_bytes(storage);
	struct bpf_local_storage_elem *elem, *copy = &storage->first;
	void *value = first_value(storage);
	struct bpf_local_storage_iter iter;
	u32 nr = 0;

	bpf_local_storage_iter_init(&iter, from);
	while ((elem = iter_next(&iter))) {
		if (!(elem->map->map.map_flags & BPF_F_CLONE))
			continue;
		if (!goes_inside(elem->map, storage->nr_slots) ||
		    value + value_bytes(elem->map) > end) {
			*others = true;
			continue;
		}
		copy->map = elem->map;
		copy->home |= (unsigned long)storage;
		fill_value(copy->map, value, value_of(elem), true);
		copy = value + value_bytes(copy->map);
		value = copy + 1;
		nr++;
	}
	return nr;
}

/* Link a copy, unless its map is on its way out and may not look for it. */
static void link_copy(struct section *sec, struct bpf_local_storage *storage,
		      struct bpf_local_storage_elem *elem, void *value)
{
	struct bpf_local_storage_map *smap = elem->map;
	struct bpf_local_storage_bucket *bucket;

	bucket = bucket_of(smap, storage->owner);
	lock_bucket(sec, bucket);
	/* Map free comes to the bucket after the last reference. */
	if (atomic64_read(&smap->map.refcnt)) {
		link_elem(bucket, elem, NULL);
		value_set(storage, smap, value);
	}
	unlock_bucket(sec);
}

/*
 * Let the owner have the storage with the copies in it, if there are any.  It
 * is locked so that map free does not find it empty before all are linked.
 */
static bool publish_copies(struct bpf_local_storage *storage, void *owner,
			   const struct bpf_local_storage_kind *kind, u32 nr)
{
	struct bpf_local_storage_elem *elem = &storage->first;
	void *value = first_value(storage);
	struct section sec;
	bool used;

	section_enter(&sec);
	lock_storage(&sec, storage);
	storage->owner = owner;
	for (; nr; nr--) {
		link_copy(&sec, storage, elem, value);
		elem = value + value_bytes(elem->map);
		value = elem + 1;
	}
	used = storage->used;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (used)
		rcu_assign_pointer(*pointer_of(owner, kind), storage);
	unlock_storage(&sec);
	section_exit(&sec);
	return used;
}

/* Give an owner that nobody can see a storage with as many copies as fit in. */
static int clone_together(struct bpf_local_storage *from, void *owner,
			  const struct bpf_local_storage_kind *kind,
			  bool *others)
{
	struct bpf_local_storage_map *smap = NULL;
	struct bpf_local_storage *storage;
	u32 bytes, nr;

	bytes = cloned_bytes(from, READ_ONCE(kind->slots->nr), &smap, others);
	if (!bytes)
		return 0;
	/* The memory is charged to whoever made this one of the maps. */
	if (!atomic64_inc_not_zero(&smap->map.refcnt)) {
		*others = true;
		return 0;
	}
	storage = storage_new(owner, smap, NULL, bytes, GFP_ATOMIC);
	bpf_map_put(&smap->map);
	if (IS_ERR(storage))
		return PTR_ERR(storage);
	nr = clone_inside(from, storage, others);
	if (!publish_copies(storage, owner, kind, nr))
		storage_drop(owner, smap, storage);
	return 0;
}

/* Copy one element, unless it has been copied. */
static int clone_apart(struct bpf_local_storage_elem *elem, void *owner)
{
	struct bpf_local_storage_map *smap = elem->map;
	void *value;

	if (!is_cloned(smap) || find(owner, smap))
		return 0;
	if (IS_ERR(bpf_map_inc_not_zero(&smap->map)))
		return 0;
	value = create(owner, smap, value_of(elem), true, GFP_ATOMIC);
	bpf_map_put(&smap->map);
	return PTR_ERR_OR_ZERO(value);
}

/**
 * bpf_local_storage_clone - copy to a new owner what another hands down
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
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	bool others = false;
	int err;

	err = clone_together(from, owner, kind, &others);
	if (err || !others)
		return err;
	bpf_local_storage_iter_init(&iter, from);
	while (!err && (elem = bpf_local_storage_iter_next(&iter)))
		err = clone_apart(elem, owner);
	return err;
}

/* The rest of bpf_local_storage_update(), not to be traced. */
long __bpf_local_storage_update(void *owner, struct bpf_local_storage_map *smap,
				void *value, u64 flags)
{
	struct change ch = {
		.owner = owner, .smap = smap, .value = value,
		.mode = flags & ~BPF_F_LOCK, .gfp = GFP_ATOMIC,
	};
	void *found;
	int err;

	if (ch.mode > BPF_EXIST)
		return -EINVAL;
	if (flags & BPF_F_LOCK &&
	    !btf_record_has_field(smap->map.record, BPF_SPIN_LOCK))
		return -EINVAL;

	found = find(owner, smap);
	err = check_mode(ch.mode, found);
	if (err)
		return err;
	if (!(flags & BPF_F_LOCK))
		return change(&ch);

	if (!found) {
		ch.mode = BPF_NOEXIST;
		err = change(&ch);
		if (err != -EEXIST || flags & BPF_NOEXIST)
			return err;
		found = ch.found;
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
	struct section sec;
	bool empty = false;
	int err = -EBUSY;
	void *value;

	section_enter(&sec);
	if (!try_lock_storage(&sec, storage))
		goto exit;
	err = -ENOENT;
	if (!storage->owner || (owner && storage->owner != owner))
		goto unlock;
	value = bpf_local_storage_lookup(storage, smap);
	if (!value)
		goto unlock;
	err = -EBUSY;
	bucket = bucket_of(smap, storage->owner);
	if (!try_lock_bucket(&sec, bucket))
		goto unlock;
	unlinked = unlink_elem(bucket, elem_of(storage, value));
	value_set(storage, smap, NULL);
	unlock_bucket(&sec);
	index = index_locked(storage);
	empty = is_empty(storage);
	if (empty)
		detach(storage, smap->kind, NULL);
	err = 0;
unlock:
	unlock_storage(&sec);
exit:
	section_exit(&sec);
	free_elem(unlinked);
	if (empty) {
		free_index(index);
		free_storage(storage);
	}
	return err;
}

/* Unlink all of a storage's elements; gathers those to be freed. */
static void unlink_all(struct section *sec, struct bpf_local_storage *storage,
		       struct hlist_head *unlinked)
{
	struct bpf_local_storage_bucket *bucket;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;

	bpf_local_storage_iter_init(&iter, storage);
	while ((elem = bpf_local_storage_iter_next(&iter))) {
		bucket = bucket_of(elem->map, storage->owner);
		lock_bucket(sec, bucket);
		/* The map's slot may be another's as soon as the bucket is empty. */
		value_set(storage, elem->map, NULL);
		elem = unlink_elem(bucket, elem);
		unlock_bucket(sec);
		if (elem)
			hlist_add_head(&elem->map_node, unlinked);
	}
}

/*
 * Let go of everything in a storage and mark its owner as destroyed.  False if
 * the owner has let go of the storage itself.
 */
static bool destroy_storage(struct bpf_local_storage *storage,
			    const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_elem *elem;
	HLIST_HEAD(unlinked);
	struct hlist_node *next;
	struct section sec;
	bool ours;

	section_enter(&sec);
	lock_storage(&sec, storage);
	index = index_locked(storage);
	ours = storage->owner;
	if (ours) {
		unlink_all(&sec, storage, &unlinked);
		detach(storage, kind, &destroyed_storage);
	}
	unlock_storage(&sec);
	section_exit(&sec);
	if (!ours)
		return false;

	hlist_for_each_entry_safe(elem, next, &unlinked, map_node)
		free_elem(elem);
	free_index(index);
	free_storage(storage);
	return true;
}

/* The rest of bpf_local_storage_destroy(), not to be traced. */
void __bpf_local_storage_destroy(void *owner,
				 const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage **ptr = (__force struct bpf_local_storage **)
		pointer_of(owner, kind);
	struct bpf_local_storage *storage;

	/* Pairs with synchronize_rcu() in map free, for elem->map. */
	rcu_read_lock();
	do {
		/* Pairs with the release in detach(). */
		storage = smp_load_acquire(ptr);
		/* Pairs with the cmpxchg() in publish(). */
		if (!storage)
			storage = cmpxchg(ptr, NULL, &destroyed_storage);
	} while (storage && storage != &destroyed_storage &&
		 !destroy_storage(storage, kind));
	rcu_read_unlock();
}

/* Walks over a map */

static bool is_cursor(const struct bpf_local_storage_elem *elem)
{
	return !elem->home;
}

/*
 * The first element of the iterator's bucket that is behind its cursor, whose
 * owner is not @done and could be had.  The cursor stays before it, or leaves
 * a bucket that has no such element.
 */
static struct bpf_local_storage_elem *
next_in_bucket(struct bpf_local_storage_map_iter *iter, const void *done)
{
	struct bpf_local_storage_bucket *bucket =
		&iter->smap->buckets[iter->bucket];
	struct hlist_node *cursor = &iter->cursor.map_node;
	struct bpf_local_storage_elem *elem;
	struct section sec;

	section_enter(&sec);
	lock_bucket(&sec, bucket);
	if (hlist_unhashed(cursor))
		hlist_add_head(cursor, &bucket->elems);
	while ((elem = hlist_entry_safe(cursor->next,
					struct bpf_local_storage_elem,
					map_node))) {
		if (!is_cursor(elem) &&
		    storage_of_elem(elem)->owner != done &&
		    iter->get(storage_of_elem(elem)->owner))
			break;
		hlist_del(cursor);
		hlist_add_behind(cursor, &elem->map_node);
	}
	iter->owner = elem ? storage_of_elem(elem)->owner : NULL;
	if (!elem)
		hlist_del_init(cursor);
	unlock_bucket(&sec);
	section_exit(&sec);
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
		elem = next_in_bucket(iter, done);
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
	struct section sec;

	if (hlist_unhashed(&iter->cursor.map_node))
		return;
	bucket = &iter->smap->buckets[iter->bucket];
	section_enter(&sec);
	lock_bucket(&sec, bucket);
	hlist_del_init(&iter->cursor.map_node);
	unlock_bucket(&sec);
	section_exit(&sec);
}

/* Map free */

/* The storage of some element in the bucket; under rcu_read_lock(). */
static struct bpf_local_storage *
some_storage(struct bpf_local_storage_bucket *bucket)
{
	struct bpf_local_storage *storage;
	struct bpf_local_storage_elem *elem;
	struct section sec;

	section_enter(&sec);
	lock_bucket(&sec, bucket);
	elem = hlist_entry_safe(bucket->elems.first,
				struct bpf_local_storage_elem, map_node);
	/* While the element is linked its home stays what it is. */
	storage = elem ? storage_of_elem(elem) : NULL;
	unlock_bucket(&sec);
	section_exit(&sec);
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
	u32 i;

	for (i = 0; i < BIT(smap->bucket_bits); i++) {
		do {
			/* Pairs with the grace period that frees a storage. */
			rcu_read_lock();
			storage = some_storage(&smap->buckets[i]);
			if (storage)
				__bpf_local_storage_delete(storage, smap, NULL);
			rcu_read_unlock();
			cond_resched();
		} while (storage);
	}
}
