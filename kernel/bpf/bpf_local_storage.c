// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: values that BPF programs keep with a kernel object.
 *
 *   owner --> struct bpf_local_storage      made together with one element:
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
 *   an index goes back to the allocator after a grace period of both; of RCU
 *   alone if the owner is being destroyed and no sleepable program is around.
 * - Change: under storage->lock, and the bucket lock of the map nested in it.
 *   Linked or unlinked is therefore one fact, and exactly one of update,
 *   delete, destroy and map free unlinks an element and uncharges it.
 * - storage->owner is not NULL: the owner is alive, because destroying it
 *   takes the lock and clears it.  NULL: whoever holds the lock came too late
 *   and looks at the owner's pointer again, where an owner that was destroyed
 *   has the storage `gone`, which nothing can be added to.
 * - A map is freed after its last element was unlinked and then an RCU grace
 *   period, so elem->map is valid while linked and under rcu_read_lock().
 *
 * The locks are taken with interrupts off and a per-CPU count raised.  A call
 * that finds the count raised has interrupted another one in this file (NMI,
 * or a tracing program on something the lock code calls), and only tries.
 *
 * A program may also have interrupted the allocator, RCU or the scheduler.  The
 * locks they wait for are all held with interrupts off; so where interrupts are
 * on, we use kmalloc() and start grace periods, and where they are off, memory
 * is BPF's own allocator's and a grace period is started from an irq_work.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/bpf_local_storage.h>
#include <linux/bpf_mem_alloc.h>
#include <linux/hash.h>
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/overflow.h>
#include <linux/rcupdate_trace.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <uapi/linux/btf.h>

#define SLOT_FLAGS		(BPF_F_STORAGE_SLOT | BPF_F_STORAGE_NO_SLOT)
#define CREATE_FLAGS		(BPF_F_NO_PREALLOC | BPF_F_CLONE | SLOT_FLAGS)
#define INDEX_MIN_CELLS		4
/* In elem->home: the block is from bpf_global_ma, not from kmalloc(). */
#define FROM_BPF_MA		1UL
/* The largest value, in bytes, to be allocated together with a storage. */
#define INSIDE_MAX		256
/* A grace period, and the work that frees a program and then its maps. */
#define SLOT_WAIT		(HZ / 4)
/* Blocks that programs may take in hard interrupts, per CPU and jiffy. */
#define HARDIRQ_BLOCKS		256

BTF_ID_LIST_GLOBAL_SINGLE(bpf_local_storage_map_btf_id, struct,
			  bpf_local_storage_map)

/* How many calls on this CPU are between section_enter() and section_exit(). */
static DEFINE_PER_CPU(int, sections);

/* Whether there ever was a sleepable program that may create a value. */
static bool sleepable_users;

/**
 * bpf_local_storage_note_sleepable - a sleepable program gets values
 *
 * Called before the program can run; it makes the memory of destroyed owners
 * wait for sleepable programs, too.
 *
 * Context: Any.
 */
void bpf_local_storage_note_sleepable(void)
{
	WRITE_ONCE(sleepable_users, true);
}

/**
 * bpf_local_storage_is_nested - whether we interrupted code in this file
 *
 * Context: Any.
 * Return: True if a lock of this file may be held by this very CPU.
 */
bool bpf_local_storage_is_nested(void)
{
	/* Pairs with section_enter() on the CPU that we stay on. */
	guard(preempt)();
	return __this_cpu_read(sections);
}

/* What an owner has once it was destroyed: nobody's, empty, never freed. */
static struct bpf_local_storage gone = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(gone.lock),
	.nr_slots = BPF_LOCAL_STORAGE_MIN_SLOTS,
	.slots = { [BPF_LOCAL_STORAGE_MIN_SLOTS - 1] = NULL },
};

/* Whether this CPU may be holding a lock of the allocator's, or of RCU's. */
static bool is_delicate(void)
{
	return irqs_disabled() || in_nmi();
}

struct section {
	unsigned long irqflags;
	bool nested;
};

static __always_inline void section_enter(struct section *sec)
{
	local_irq_save(sec->irqflags);
	sec->nested = __this_cpu_inc_return(sections) > 1 || in_nmi();
}

static __always_inline void section_exit(struct section *sec)
{
	__this_cpu_dec(sections);
	local_irq_restore(sec->irqflags);
}

/* Whoever holds the lock is on another CPU, unless nested: then it may be us. */
static __always_inline bool section_lock(struct section *sec,
					 raw_spinlock_t *lock)
{
	if (unlikely(sec->nested))
		return raw_spin_trylock(lock);
	raw_spin_lock(lock);
	return true;
}

static u32 value_bytes(const struct bpf_local_storage_map *smap)
{
	return round_up(smap->map.value_size, 8);
}

static u32 elem_bytes(const struct bpf_local_storage_map *smap)
{
	return sizeof(struct bpf_local_storage_elem) + value_bytes(smap);
}

static u32 storage_bytes(const struct bpf_local_storage *storage)
{
	return storage->size * 8;
}

static u32 index_bytes(const struct bpf_local_storage_index *index)
{
	return struct_size(index, cells, (size_t)index->mask + 1);
}

/* Kernel pointers in a value have to be released when nobody can see it. */
static bool has_pointers(const struct bpf_local_storage_map *smap)
{
	const struct btf_record *record = smap->map.record;

	return !IS_ERR_OR_NULL(record) && record->field_mask & ~BPF_SPIN_LOCK;
}

/*
 * Whether the map's element may be made together with the storage.  Its memory
 * then stays until the storage goes, so it must be small, and must not wait
 * for that with pointers in it.
 */
static bool fits_inside(const struct bpf_local_storage_map *smap)
{
	return value_bytes(smap) <= INSIDE_MAX && !has_pointers(smap);
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

/**
 * bpf_local_storage_value - where the value of an element is
 * @elem: the element, linked or protected by RCU
 *
 * Context: Any.
 * Return: The value.
 */
void *bpf_local_storage_value(struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = storage_of_elem(elem);

	if (elem == &storage->first)
		return first_value(storage);
	return elem + 1;
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
	u32 i = smap->hash >> index->shift;
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

/* Freeing */

static void free_block(void *block, bool from_bpf_ma)
{
	if (from_bpf_ma)
		bpf_mem_free(&bpf_global_ma, block);
	else
		kfree(block);
}

/* What an RCU grace period is followed by, for each way to free. */

static void kmalloc_now(struct rcu_head *rcu)
{
	free_block(rcu, false);
}

static void bpf_ma_now(struct rcu_head *rcu)
{
	free_block(rcu, true);
}

static void pointers_now(struct rcu_head *rcu)
{
	struct bpf_local_storage_elem *elem =
		container_of(rcu, struct bpf_local_storage_elem, rcu);

	bpf_obj_free_fields(elem->map->map.record, elem + 1);
	free_block(elem, elem->home & FROM_BPF_MA);
}

/* The same for an RCU Tasks Trace grace period. */

static void after_trace(struct rcu_head *rcu, rcu_callback_t now)
{
	if (rcu_trace_implies_rcu_gp())
		now(rcu);
	else
		call_rcu(rcu, now);
}

static void kmalloc_after_trace(struct rcu_head *rcu)
{
	after_trace(rcu, kmalloc_now);
}

static void bpf_ma_after_trace(struct rcu_head *rcu)
{
	after_trace(rcu, bpf_ma_now);
}

static void pointers_after_trace(struct rcu_head *rcu)
{
	after_trace(rcu, pointers_now);
}

/* Grace periods to be started when no lock of RCU's can be held. */
struct postponed {
	struct llist_head heads;
	struct irq_work work;
};

static void start_postponed(struct irq_work *work)
{
	struct postponed *postponed = container_of(work, struct postponed, work);
	struct llist_node *node, *next;
	struct rcu_head *rcu;

	/* Pairs with llist_add() in call_trace(). */
	llist_for_each_safe(node, next, llist_del_all(&postponed->heads)) {
		rcu = (struct rcu_head *)node;
		call_rcu_tasks_trace(rcu, rcu->func);
	}
}

static DEFINE_PER_CPU(struct postponed, postponed) = {
	/* At the next tick: a program on interrupts must not keep them coming. */
	.work = IRQ_WORK_INIT_LAZY(start_postponed),
};

/* Call @func after a grace period of RCU and RCU Tasks Trace. */
static void call_trace(struct rcu_head *rcu, rcu_callback_t func)
{
	struct postponed *here;

	if (likely(!is_delicate())) {
		call_rcu_tasks_trace(rcu, func);
		return;
	}
	/* Until it is given to RCU, the head's link is ours. */
	rcu->func = func;
	here = this_cpu_ptr(&postponed);
	if (llist_add((struct llist_node *)&rcu->next, &here->heads))
		irq_work_queue(&here->work);
}

/* Wait until nothing that call_trace() was given is postponed. */
static void sync_postponed(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		irq_work_sync(per_cpu_ptr(&postponed.work, cpu));
}

/* Free a storage or an index, whichever begins with @rcu. */
static void free_later(struct rcu_head *rcu, bool from_bpf_ma)
{
	call_trace(rcu, from_bpf_ma ? bpf_ma_after_trace : kmalloc_after_trace);
}

/*
 * The same when the owner is being destroyed.  Only a sleepable program can
 * still be on a value then, outside of any RCU read section.
 */
static void free_dead(struct rcu_head *rcu, bool from_bpf_ma)
{
	if (READ_ONCE(sleepable_users) || is_delicate())
		free_later(rcu, from_bpf_ma);
	else if (from_bpf_ma)
		call_rcu(rcu, bpf_ma_now);
	else
		kvfree_call_rcu(rcu, rcu);
}

static void free_elem(struct bpf_local_storage_elem *elem)
{
	if (!elem)
		return;
	if (has_pointers(elem->map))
		call_trace(&elem->rcu, pointers_after_trace);
	else
		free_later(&elem->rcu, elem->home & FROM_BPF_MA);
}

static void free_dead_elem(struct bpf_local_storage_elem *elem)
{
	if (!has_pointers(elem->map))
		free_dead(&elem->rcu, elem->home & FROM_BPF_MA);
	else if (READ_ONCE(sleepable_users) || is_delicate())
		free_elem(elem);
	else
		call_rcu(&elem->rcu, pointers_now);
}

static void free_index(struct bpf_local_storage_index *index)
{
	if (index)
		free_later(&index->rcu, index->from_bpf_ma);
}

static void free_storage(struct bpf_local_storage *storage)
{
	free_later(&storage->first.rcu, storage->first.home & FROM_BPF_MA);
}

/* Changes; all under storage->lock */

static struct bpf_local_storage_index *
index_locked(struct bpf_local_storage *storage)
{
	return rcu_dereference_protected(storage->index,
					 lockdep_is_held(&storage->lock));
}

static bool index_has_room(const struct bpf_local_storage_index *index,
			   u32 more)
{
	u32 cells = index->mask + 1;

	return index->keys + more <= cells - cells / 4;
}

static void value_set(struct bpf_local_storage *storage,
		      struct bpf_local_storage_map *smap, void *value)
{
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_cell *cell;

	/* Both stores pair with the loads in bpf_local_storage_lookup*(). */
	if (smap->slot < storage->nr_slots) {
		storage->used += !!value -
			!!rcu_access_pointer(storage->slots[smap->slot]);
		rcu_assign_pointer(storage->slots[smap->slot], value);
		return;
	}

	index = index_locked(storage);
	cell = index_cell(index, smap);
	index->live += !!value - !!rcu_access_pointer(cell->value);
	if (!cell->map) {
		WRITE_ONCE(cell->map, smap);
		index->keys++;
	}
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
	value_set(storage_of_elem(elem), elem->map,
		  bpf_local_storage_value(elem));
}

/*
 * Take an element off its map and uncharge it.  Returns what the caller has
 * to free: NULL for the first element, which goes with its storage.
 */
static struct bpf_local_storage_elem *
unlink_elem(struct bpf_local_storage_bucket *bucket,
	    struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = storage_of_elem(elem);

	lockdep_assert_held(&bucket->lock);
	hlist_del(&elem->map_node);
	bucket->count--;
	if (elem == &storage->first)
		return NULL;
	uncharge(elem->map->kind, storage->owner, elem_bytes(elem->map));
	return elem;
}

/*
 * Put @next, which is NULL or &gone, in place of an owner's storage; the caller
 * frees that and its index.
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
			  kind->storage_ptr(owner), next);
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

static void *bpf_ma_zalloc(u32 bytes)
{
	void *block;

	if (!bpf_global_ma_set || !within_budget())
		return NULL;
	block = bpf_mem_alloc(&bpf_global_ma, bytes);
	if (block)
		memset(block, 0, bytes);
	return block;
}

/* Zeroed; sets *from_bpf_ma, which freeing has to know. */
static void *charged_alloc(void *owner, struct bpf_local_storage_map *smap,
			   u32 bytes, gfp_t gfp, bool *from_bpf_ma)
{
	void *block;
	int err;

	err = smap->kind->charge ? smap->kind->charge(owner, bytes) : 0;
	if (err)
		return ERR_PTR(err);
	*from_bpf_ma = is_delicate();
	if (*from_bpf_ma)
		block = bpf_ma_zalloc(bytes);
	else
		block = bpf_map_kzalloc(&smap->map, bytes, gfp | __GFP_NOWARN);
	if (block)
		return block;
	uncharge(smap->kind, owner, bytes);
	return ERR_PTR(-ENOMEM);
}

/* Undo charged_alloc() of something that was never published. */
static void charged_free(void *owner, struct bpf_local_storage_map *smap,
			 void *block, u32 bytes, bool from_bpf_ma)
{
	uncharge(smap->kind, owner, bytes);
	free_block(block, from_bpf_ma);
}

static struct bpf_local_storage *storage_new(void *owner,
					     struct bpf_local_storage_map *smap,
					     gfp_t gfp)
{
	struct bpf_local_storage *storage;
	u32 nr_slots, bytes;
	bool from_bpf_ma;

	/* Pairs with nothing: a stale value only makes the index do more. */
	nr_slots = clamp_t(u32, READ_ONCE(smap->kind->slots->top),
			   BPF_LOCAL_STORAGE_MIN_SLOTS, BPF_LOCAL_STORAGE_SLOTS);
	nr_slots = roundup_pow_of_two(nr_slots);
	bytes = struct_size(storage, slots, nr_slots);
	if (fits_inside(smap))
		bytes += value_bytes(smap);

	storage = charged_alloc(owner, smap, bytes, gfp, &from_bpf_ma);
	if (IS_ERR(storage))
		return storage;
	storage->first.home = from_bpf_ma ? FROM_BPF_MA : 0;
	raw_spin_lock_init(&storage->lock);
	storage->owner = owner;
	storage->size = bytes / 8;
	storage->nr_slots = nr_slots;
	if (fits_inside(smap))
		storage->first.map = smap;
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
	index = charged_alloc(owner, smap, struct_size(index, cells, cells),
			      gfp, &from_bpf_ma);
	if (IS_ERR(index))
		return index;
	index->from_bpf_ma = from_bpf_ma;
	index->shift = 32 - ilog2(cells);
	index->mask = cells - 1;
	return index;
}

/**
 * struct change - one creation or update on its way
 * @owner: of the storage, alive during the call
 * @smap: the map
 * @value: what to store, or NULL for zeroes
 * @locked: take the bpf_spin_lock of @value while copying it
 * @mode: BPF_ANY, BPF_NOEXIST or BPF_EXIST
 * @gfp: how to allocate
 * @elem: the new element, not linked yet
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

static void fill_value(struct change *ch, void *value)
{
	struct bpf_map *map = &ch->smap->map;

	check_and_init_map_value(map, value);
	if (ch->locked)
		copy_map_value_locked(map, value, ch->value, true);
	else if (ch->value)
		copy_map_value(map, value, ch->value);
}

static int new_elem(struct change *ch)
{
	bool from_bpf_ma;

	ch->elem = charged_alloc(ch->owner, ch->smap, elem_bytes(ch->smap),
				 ch->gfp, &from_bpf_ma);
	if (IS_ERR(ch->elem))
		return PTR_ERR(no_free_ptr(ch->elem));
	ch->elem->map = ch->smap;
	ch->elem->home = from_bpf_ma ? FROM_BPF_MA : 0;
	fill_value(ch, ch->elem + 1);
	return 0;
}

/* Forget an element that the change made and does not need. */
static void drop_elem(struct change *ch)
{
	struct bpf_local_storage_elem *elem = no_free_ptr(ch->elem);

	if (elem)
		charged_free(ch->owner, ch->smap, elem, elem_bytes(ch->smap),
			     elem->home & FROM_BPF_MA);
}

static int new_index(struct change *ch, u32 keys)
{
	ch->index = index_new(ch->owner, ch->smap, keys, ch->gfp);
	if (IS_ERR(ch->index))
		return PTR_ERR(no_free_ptr(ch->index));
	return 0;
}

static void drop_index(struct change *ch)
{
	struct bpf_local_storage_index *index = no_free_ptr(ch->index);

	if (index)
		charged_free(ch->owner, ch->smap, index, index_bytes(index),
			     index->from_bpf_ma);
}

/* Free what the change replaced, and what it made and did not use. */
static void change_end(struct change *ch)
{
	free_elem(ch->old_elem);
	free_index(ch->old_index);
	drop_elem(ch);
	drop_index(ch);
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
	if (old)
		ch->old_elem = unlink_elem(bucket, old);
	ch->found = bpf_local_storage_value(elem);
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
	/* Pairs with everyone else who changes what this owner keeps. */
	if (!section_lock(&sec, &storage->lock))
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
	/* Pairs with other owners whose elements hash to the same bucket. */
	if (!section_lock(&sec, &bucket->lock))
		goto unlock;
	put_elem(ch, storage, bucket);
	raw_spin_unlock(&bucket->lock);
	err = 0;
unlock:
	raw_spin_unlock(&storage->lock);
exit:
	section_exit(&sec);
	return err;
}

/*
 * Publish a storage that holds the change.  Its lock is held meanwhile, so
 * that nobody changes it before the first element is linked.
 */
static int publish_storage(struct change *ch, struct bpf_local_storage *storage)
{
	struct bpf_local_storage_bucket *bucket = bucket_of(ch->smap, ch->owner);
	struct bpf_local_storage **ptr;
	struct section sec;
	int err = -EBUSY;

	ptr = (__force struct bpf_local_storage **)
		ch->smap->kind->storage_ptr(ch->owner);
	section_enter(&sec);
	/* Nobody else knows the lock yet, so it is free even when nested. */
	section_lock(&sec, &storage->lock);
	/* Pairs with other owners whose elements hash to the same bucket. */
	if (!section_lock(&sec, &bucket->lock))
		goto unlock;
	err = -EAGAIN;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (cmpxchg(ptr, NULL, storage))
		goto unlock_bucket;
	ensure_cell(ch, storage);
	put_elem(ch, storage, bucket);
	err = 0;
unlock_bucket:
	raw_spin_unlock(&bucket->lock);
unlock:
	raw_spin_unlock(&storage->lock);
	section_exit(&sec);
	return err;
}

/* The owner keeps nothing yet: give it a storage with the value in it. */
static int first_change(struct change *ch)
{
	struct bpf_local_storage *storage;
	int err = 0;

	storage = storage_new(ch->owner, ch->smap, ch->gfp);
	if (IS_ERR(storage))
		return PTR_ERR(storage);

	if (ch->smap->slot >= storage->nr_slots && !ch->index)
		err = new_index(ch, 1);
	if (!err && storage->first.map) {
		drop_elem(ch);
		ch->elem = &storage->first;
		fill_value(ch, first_value(storage));
	} else if (!err && !ch->elem) {
		err = new_elem(ch);
	}
	if (!err)
		err = publish_storage(ch, storage);
	if (!err)
		return 0;

	if (ch->elem == &storage->first)
		ch->elem = NULL;
	charged_free(ch->owner, ch->smap, storage, storage_bytes(storage),
		     storage->first.home & FROM_BPF_MA);
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

	drop_index(ch);
	return new_index(ch, keys) ?: -EAGAIN;
}

static struct bpf_local_storage *
storage_of(void *owner, const struct bpf_local_storage_kind *kind)
{
	/* Pairs with cmpxchg() in publish_storage(). */
	return rcu_dereference_check(*kind->storage_ptr(owner),
				     bpf_rcu_lock_held());
}

/* The owner's value in a map, or NULL. */
static void *find(void *owner, struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage = storage_of(owner, smap->kind);

	return storage ? bpf_local_storage_lookup(storage, smap) : NULL;
}

/* One attempt; -EAGAIN: what the owner keeps is not what it was. */
static int try_change(struct change *ch)
{
	struct bpf_local_storage *storage;
	int err;

	storage = storage_of(ch->owner, ch->smap->kind);
	if (storage == &gone)
		return -ENOENT;
	if (!storage)
		return check_mode(ch->mode, NULL) ?: first_change(ch);
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

/**
 * bpf_local_storage_create - give an owner a value unless it has one
 * @owner: the owner; the caller sees to it that it is not being destroyed
 * @smap: the map
 * @value: the initial value, or NULL for zeroes
 * @locked: copy @value under the bpf_spin_lock in it
 * @gfp: GFP_ATOMIC, or GFP_KERNEL where sleeping is allowed
 *
 * Context: As @gfp says, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The new value, or the one that another CPU made first; -ENOMEM;
 *	-EBUSY when the call interrupted another one on the same storage.
 */
void *bpf_local_storage_create(void *owner, struct bpf_local_storage_map *smap,
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

/**
 * bpf_local_storage_get - an owner's value, made if it is missing
 * @owner: the owner; its memory is not freed during the call
 * @map: the map
 * @value: the initial value, or NULL for zeroes
 * @flags: BPF_LOCAL_STORAGE_GET_F_CREATE or 0
 * @gfp: GFP_ATOMIC, or GFP_KERNEL where sleeping is allowed
 *
 * Context: As @gfp says, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The value, or NULL.
 */
void *bpf_local_storage_get(void *owner, struct bpf_map *map, void *value,
			    u64 flags, gfp_t gfp)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	void *found = find(owner, smap);

	if (found || flags != BPF_LOCAL_STORAGE_GET_F_CREATE)
		return found;
	found = bpf_local_storage_create(owner, smap, value, false, gfp);
	return IS_ERR(found) ? NULL : found;
}

/**
 * bpf_local_storage_update - set an owner's value, as bpf(2) does
 * @owner: the owner; the caller sees to it that it is not being destroyed
 * @smap: the map
 * @value: the new value
 * @flags: BPF_ANY, BPF_NOEXIST or BPF_EXIST, and BPF_F_LOCK to write into an
 *	existing value under its bpf_spin_lock
 *
 * Without BPF_F_LOCK the element is replaced, so that a reader has the old
 * value or the new one and never a mix.
 *
 * Context: Any but NMI, under rcu_read_lock(); does not sleep.
 * Return: 0, -EINVAL, -EEXIST, -ENOENT, -ENOMEM, or -EBUSY when the call
 *	interrupted another one on the same storage.
 */
long bpf_local_storage_update(void *owner, struct bpf_local_storage_map *smap,
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
static int delete_from(struct bpf_local_storage *storage,
		       struct bpf_local_storage_map *smap, const void *owner)
{
	struct bpf_local_storage_elem *gone = NULL;
	struct bpf_local_storage_bucket *bucket;
	struct bpf_local_storage_index *index;
	struct section sec;
	bool empty = false;
	int err = -EBUSY;
	void *value;

	section_enter(&sec);
	/* Pairs with everyone else who changes what this owner keeps. */
	if (!section_lock(&sec, &storage->lock))
		goto exit;
	err = -ENOENT;
	if (!storage->owner || (owner && storage->owner != owner))
		goto unlock;
	value = bpf_local_storage_lookup(storage, smap);
	if (!value)
		goto unlock;
	err = -EBUSY;
	bucket = bucket_of(smap, storage->owner);
	/* Pairs with other owners whose elements hash to the same bucket. */
	if (!section_lock(&sec, &bucket->lock))
		goto unlock;
	gone = unlink_elem(bucket, elem_of(storage, value));
	value_set(storage, smap, NULL);
	raw_spin_unlock(&bucket->lock);
	index = index_locked(storage);
	empty = is_empty(storage);
	if (empty)
		detach(storage, smap->kind, NULL);
	err = 0;
unlock:
	raw_spin_unlock(&storage->lock);
exit:
	section_exit(&sec);
	free_elem(gone);
	if (empty) {
		free_index(index);
		free_storage(storage);
	}
	return err;
}

/**
 * bpf_local_storage_delete - delete a map's value from an owner
 * @owner: the owner
 * @smap: the map
 *
 * Context: Any, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: 0, -ENOENT, or -EBUSY when the call interrupted another one on the
 *	same storage.
 */
long bpf_local_storage_delete(void *owner, struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage = storage_of(owner, smap->kind);

	if (!storage || !bpf_local_storage_lookup(storage, smap))
		return -ENOENT;
	/* An owner that is a byte copy of another may have its pointer. */
	return delete_from(storage, smap, owner);
}

/* Unlink all of a storage's elements; gathers on @gone those to be freed. */
static void unlink_all(struct bpf_local_storage *storage,
		       struct hlist_head *gone)
{
	struct bpf_local_storage_bucket *bucket;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;

	bpf_local_storage_iter_init(&iter, storage);
	while ((elem = bpf_local_storage_iter_next(&iter))) {
		bucket = bucket_of(elem->map, storage->owner);
		/* Pairs with other owners that hash to the same bucket. */
		raw_spin_lock(&bucket->lock);
		/* The map's slot may be another's as soon as the bucket is empty. */
		value_set(storage, elem->map, NULL);
		elem = unlink_elem(bucket, elem);
		raw_spin_unlock(&bucket->lock);
		if (elem)
			hlist_add_head(&elem->map_node, gone);
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
	HLIST_HEAD(dead);
	struct hlist_node *next;
	struct section sec;
	bool ours;

	section_enter(&sec);
	/* Pairs with map free, which may be at work on this storage. */
	raw_spin_lock(&storage->lock);
	index = index_locked(storage);
	ours = storage->owner;
	if (ours) {
		unlink_all(storage, &dead);
		detach(storage, kind, &gone);
	}
	raw_spin_unlock(&storage->lock);
	section_exit(&sec);
	if (!ours)
		return false;

	hlist_for_each_entry_safe(elem, next, &dead, map_node)
		free_dead_elem(elem);
	if (index)
		free_dead(&index->rcu, index->from_bpf_ma);
	free_dead(&storage->first.rcu, storage->first.home & FROM_BPF_MA);
	return true;
}

/**
 * bpf_local_storage_destroy - free all that a dying owner keeps
 * @owner: the owner
 * @kind: its kind
 *
 * From now on nothing can be created for the owner.  Waits for a map free that
 * is removing an element of this owner right now, so that nobody touches the
 * owner's pointer once this returns, unless to see that it was destroyed.
 *
 * Context: Any but NMI; not from a program that interrupted this file.
 */
void bpf_local_storage_destroy(void *owner,
			       const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage **ptr = (__force struct bpf_local_storage **)
		kind->storage_ptr(owner);
	struct bpf_local_storage *storage;

	/* Pairs with synchronize_rcu() in map free, for elem->map. */
	rcu_read_lock();
	do {
		/* Pairs with the release in detach(). */
		storage = smp_load_acquire(ptr);
		/* Pairs with the cmpxchg() in publish_storage(). */
		if (!storage)
			storage = cmpxchg(ptr, NULL, &gone);
	} while (storage && storage != &gone &&
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
	/* Pairs with whoever links or unlinks, and with other walks. */
	raw_spin_lock(&bucket->lock);
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
	raw_spin_unlock(&bucket->lock);
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
	__acquires(RCU_TRACE)
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
	__releases(RCU_TRACE)
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
	/* Pairs with next_in_bucket() of other walks. */
	raw_spin_lock(&bucket->lock);
	hlist_del_init(&iter->cursor.map_node);
	raw_spin_unlock(&bucket->lock);
	section_exit(&sec);
}

/* bpf(2): a file descriptor is the key */

/**
 * bpf_local_storage_fd_lookup - the value of the owner behind a descriptor
 * @map: the map
 * @key: a pointer to the descriptor
 *
 * Context: Process, under rcu_read_lock().
 * Return: The value, NULL, or the error of the kind's get_fd().
 */
void *bpf_local_storage_fd_lookup(struct bpf_map *map, void *key)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	void *owner, *ref, *value;

	owner = smap->kind->get_fd(*(int *)key, &ref);
	if (IS_ERR(owner))
		return owner;
	value = find(owner, smap);
	smap->kind->put_ref(ref);
	return value;
}

/**
 * bpf_local_storage_fd_update - set the value of the owner behind a descriptor
 * @map: the map
 * @key: a pointer to the descriptor
 * @value: the value
 * @flags: as for bpf_local_storage_update()
 *
 * Context: Process, under rcu_read_lock().
 * Return: As bpf_local_storage_update(), or the error of the kind's get_fd().
 */
long bpf_local_storage_fd_update(struct bpf_map *map, void *key, void *value,
				 u64 flags)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	void *owner, *ref;
	long err;

	owner = smap->kind->get_fd(*(int *)key, &ref);
	if (IS_ERR(owner))
		return PTR_ERR(owner);
	err = bpf_local_storage_update(owner, smap, value, flags);
	smap->kind->put_ref(ref);
	return err;
}

/**
 * bpf_local_storage_fd_delete - delete the value of the owner behind a
 *	descriptor
 * @map: the map
 * @key: a pointer to the descriptor
 *
 * Context: Process, under rcu_read_lock().
 * Return: As bpf_local_storage_delete(), or the error of the kind's get_fd().
 */
long bpf_local_storage_fd_delete(struct bpf_map *map, void *key)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	void *owner, *ref;
	long err;

	owner = smap->kind->get_fd(*(int *)key, &ref);
	if (IS_ERR(owner))
		return PTR_ERR(owner);
	err = bpf_local_storage_delete(owner, smap);
	smap->kind->put_ref(ref);
	return err;
}

/**
 * bpf_local_storage_no_next_key - owners cannot be walked by descriptor
 * @map: the map
 * @key: ignored
 * @next_key: ignored
 *
 * Context: Any.
 * Return: -ENOTSUPP.
 */
int bpf_local_storage_no_next_key(struct bpf_map *map, void *key,
				  void *next_key)
{
	return -ENOTSUPP;
}

/* Slots */

/* Woken whenever a map of any kind gives its slot back. */
static DECLARE_WAIT_QUEUE_HEAD(slot_released);

/* Nobody but a dying program, if at all, can still use the map. */
static bool is_leaving(const struct bpf_local_storage_map *smap, bool in_vain)
{
	if (!atomic64_read(&smap->map.refcnt))
		return true;
	return !in_vain && !atomic64_read(&smap->map.usercnt);
}

/* Take a slot; true, too, if there is none and none to wait for. */
static bool slot_settle(struct bpf_local_storage_slots *slots,
			struct bpf_local_storage_map *smap)
{
	bool settled = true;
	int i;

	/* Pairs with slot_release(): a map in here is not freed meanwhile. */
	spin_lock(&slots->lock);
	for (i = 0; i < BPF_LOCAL_STORAGE_SLOTS && slots->map[i]; i++)
		if (is_leaving(slots->map[i], slots->in_vain & BIT(i)))
			settled = false;
	if (i < BPF_LOCAL_STORAGE_SLOTS) {
		slots->map[i] = smap;
		WRITE_ONCE(slots->top, max_t(u8, slots->top, i + 1));
		smap->slot = i;
		settled = true;
	}
	spin_unlock(&slots->lock);
	return settled;
}

/* Remember which maps did not leave, so that nobody waits for them again. */
static void slot_give_up(struct bpf_local_storage_slots *slots)
{
	int i;

	/* Pairs with slot_settle(). */
	spin_lock(&slots->lock);
	for (i = 0; i < BPF_LOCAL_STORAGE_SLOTS; i++)
		if (slots->map[i] && is_leaving(slots->map[i], false))
			slots->in_vain |= BIT(i);
	spin_unlock(&slots->lock);
}

/*
 * Give the map a slot if one is free or about to be: a program that is being
 * reloaded finds its old maps still on their way out.  Those that only
 * programs hold may stay for good, so each is waited for once.
 */
static int slot_acquire(struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage_slots *slots = smap->kind->slots;

	smap->slot = BPF_LOCAL_STORAGE_NO_SLOT;
	if (smap->map.map_flags & BPF_F_STORAGE_NO_SLOT)
		return 0;
	if (!wait_event_timeout(slot_released, slot_settle(slots, smap),
				SLOT_WAIT))
		slot_give_up(slots);
	if (smap->slot == BPF_LOCAL_STORAGE_NO_SLOT &&
	    smap->map.map_flags & BPF_F_STORAGE_SLOT)
		return -ENOSPC;
	return 0;
}

static void slot_release(struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage_slots *slots = smap->kind->slots;

	if (smap->slot == BPF_LOCAL_STORAGE_NO_SLOT)
		return;
	/* Pairs with slot_settle(). */
	spin_lock(&slots->lock);
	slots->map[smap->slot] = NULL;
	slots->in_vain &= ~BIT(smap->slot);
	while (slots->top && !slots->map[slots->top - 1])
		WRITE_ONCE(slots->top, slots->top - 1);
	spin_unlock(&slots->lock);
	wake_up(&slot_released);
}

/* Maps */

/**
 * bpf_local_storage_map_alloc_check - what a map of any kind must look like
 * @attr: of BPF_MAP_CREATE
 *
 * Context: Process.
 * Return: 0, -EINVAL, or -E2BIG for a value that is too large.
 */
int bpf_local_storage_map_alloc_check(union bpf_attr *attr)
{
	if (attr->map_flags & ~CREATE_FLAGS ||
	    !(attr->map_flags & BPF_F_NO_PREALLOC) ||
	    (attr->map_flags & SLOT_FLAGS) == SLOT_FLAGS)
		return -EINVAL;
	if (attr->max_entries || attr->key_size != sizeof(int) ||
	    !attr->value_size)
		return -EINVAL;
	/* Readers print the value by its type. */
	if (!attr->btf_key_type_id || !attr->btf_value_type_id)
		return -EINVAL;
	if (attr->value_size > BPF_LOCAL_STORAGE_MAX_VALUE_SIZE)
		return -E2BIG;
	return 0;
}

/**
 * bpf_local_storage_map_check_btf - whether the key's type is an int
 * @map: the map
 * @btf: the types
 * @key_type: of the key
 * @value_type: of the value
 *
 * Context: Process.
 * Return: 0 or -EINVAL.
 */
int bpf_local_storage_map_check_btf(const struct bpf_map *map,
				    const struct btf *btf,
				    const struct btf_type *key_type,
				    const struct btf_type *value_type)
{
	if (!btf_type_is_int(key_type) || key_type->size != sizeof(int) ||
	    btf_int_bits(key_type) != 32 || btf_int_offset(key_type))
		return -EINVAL;
	return 0;
}

/**
 * bpf_local_storage_map_alloc - create a map
 * @attr: of BPF_MAP_CREATE, checked
 * @kind: the kind of the map's owners
 *
 * Context: Process; sleeps.
 * Return: The map, -ENOMEM, or -ENOSPC if the map must have a slot and all are
 *	taken.
 */
struct bpf_map *
bpf_local_storage_map_alloc(union bpf_attr *attr,
			    const struct bpf_local_storage_kind *kind)
{
	static atomic_t sequence;
	struct bpf_local_storage_map *smap;
	int err = -ENOMEM;
	u32 i;

	smap = bpf_map_area_alloc(sizeof(*smap), NUMA_NO_NODE);
	if (!smap)
		return ERR_PTR(-ENOMEM);
	bpf_map_init_from_attr(&smap->map, attr);
	/* As map_create() will set them: zero would mean a map on its way out. */
	atomic64_set(&smap->map.refcnt, 1);
	atomic64_set(&smap->map.usercnt, 1);
	smap->kind = kind;
	/* Consecutive multiples spread evenly over a table of any size. */
	smap->hash = (u32)atomic_inc_return(&sequence) * GOLDEN_RATIO_32;
	smap->bucket_bits = max_t(u32, 1, ilog2(roundup_pow_of_two(num_possible_cpus())));

	smap->buckets = bpf_map_area_alloc(sizeof(*smap->buckets) <<
					   smap->bucket_bits, NUMA_NO_NODE);
	if (!smap->buckets)
		goto free;
	for (i = 0; i < BIT(smap->bucket_bits); i++)
		raw_spin_lock_init(&smap->buckets[i].lock);
	err = slot_acquire(smap);
	if (err)
		goto free;
	return &smap->map;
free:
	bpf_map_area_free(smap->buckets);
	bpf_map_area_free(smap);
	return ERR_PTR(err);
}

/* The storage of some element in the bucket; under rcu_read_lock(). */
static struct bpf_local_storage *
some_storage(struct bpf_local_storage_bucket *bucket)
{
	struct bpf_local_storage *storage;
	struct bpf_local_storage_elem *elem;
	struct section sec;

	section_enter(&sec);
	/* Pairs with whoever is unlinking the element for another reason. */
	raw_spin_lock(&bucket->lock);
	elem = hlist_entry_safe(bucket->elems.first,
				struct bpf_local_storage_elem, map_node);
	/* While the element is linked its home stays what it is. */
	storage = elem ? storage_of_elem(elem) : NULL;
	raw_spin_unlock(&bucket->lock);
	section_exit(&sec);
	return storage;
}

/**
 * bpf_local_storage_map_free - free a map and its element of every owner
 * @map: the map, to which nobody has a reference
 *
 * Context: Process; sleeps.
 */
void bpf_local_storage_map_free(struct bpf_map *map)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	struct bpf_local_storage *storage;
	u32 i;

	for (i = 0; i < BIT(smap->bucket_bits); i++) {
		do {
			/* Pairs with the grace period that frees a storage. */
			rcu_read_lock();
			storage = some_storage(&smap->buckets[i]);
			if (storage)
				delete_from(storage, smap, NULL);
			rcu_read_unlock();
			cond_resched();
		} while (storage);
	}
	slot_release(smap);

	/* A failed creation must not wait: it may be in a sleepable program. */
	if (!smap->used)
		goto free;
	/* Pairs with the readers of elem->map, destroy among them. */
	synchronize_rcu();
	if (has_pointers(smap)) {
		/* Pairs with pointers_now(), which needs the record. */
		sync_postponed();
		rcu_barrier_tasks_trace();
		rcu_barrier();
	}
free:
	bpf_map_area_free(smap->buckets);
	bpf_map_area_free(smap);
}

/**
 * bpf_local_storage_map_mem_usage - the memory of a map and its elements
 * @map: the map
 *
 * Context: Any.
 * Return: Bytes, a snapshot.
 */
u64 bpf_local_storage_map_mem_usage(const struct bpf_map *map)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	u64 bytes = sizeof(*smap);
	u32 i;

	bytes += sizeof(*smap->buckets) << smap->bucket_bits;
	for (i = 0; i < BIT(smap->bucket_bits); i++)
		bytes += (u64)READ_ONCE(smap->buckets[i].count) *
			 elem_bytes(smap);
	return bytes;
}
