/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of local storage's core share. */
#ifndef _BPF_LOCAL_STORAGE_INTERNAL_H
#define _BPF_LOCAL_STORAGE_INTERNAL_H

#include <linux/atomic.h>
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/btf.h>
#include <linux/hash.h>
#include <linux/irqflags.h>
#include <linux/llist.h>
#include <linux/math.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/rculist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

/* The largest value, in bytes, to be allocated together with a storage. */
#define EMBEDDED_MAX		256
/*
 * Bytes in front of a block that BPF's allocator gives us, and how many of them
 * we ask for: with its own the block begins at a multiple of 8, on 32 bits too.
 */
#define BPF_MA_HEADER		8
#define BPF_MA_PAD		(BPF_MA_HEADER - sizeof(struct llist_node))

/* In elem->tagged_storage: the block is from BPF's allocator, not kmalloc(). */
#define FROM_BPF_MA		1UL

/**
 * struct bpf_local_storage_index - where an owner keeps what has no slot
 * @rcu: for freeing, once replaced
 * @from_bpf_ma: whose memory it is
 * @mask: number of cells, a power of two, less one
 * @keys: cells in use, values deleted since included; under storage->lock
 * @live: cells with a value; under storage->lock
 * @cells: a cell's map is set once and never changes
 */
struct bpf_local_storage_index {
	struct rcu_head rcu;
	bool from_bpf_ma;
	u32 mask;
	u32 keys;
	u32 live;
	struct bpf_local_storage_cell {
		struct bpf_local_storage_map *map;
		void __rcu *value;
	} cells[];
};

/**
 * struct bpf_local_storage_bucket - elements of a map whose owners hash alike
 * @lock: serialises changes of the rest
 * @count: number of elements, walks' cursors not included
 * @elems: the elements, and the cursors of walks
 */
struct bpf_local_storage_bucket {
	raw_spinlock_t lock;
	u32 count;
	struct hlist_head elems;
};

static inline u32 padded_value_size(const struct bpf_local_storage_map *smap)
{
	return round_up(smap->map.value_size, 8);
}

static inline u32 elem_size(const struct bpf_local_storage_map *smap)
{
	return sizeof(struct bpf_local_storage_elem) + padded_value_size(smap);
}

/* Kernel pointers in a value have to be released when nobody can see it. */
static inline bool has_kptrs(const struct bpf_local_storage_map *smap)
{
	const struct btf_record *record = smap->map.record;

	return !IS_ERR_OR_NULL(record) &&
	       record->field_mask & ~BPF_LOCAL_STORAGE_LOCKS;
}

/*
 * Whether the map's elements may be made together with a storage.  Its memory
 * then stays until the storage goes, so it must be small, and must not wait
 * for that with pointers in it.
 */
static inline bool can_embed(const struct bpf_local_storage_map *smap)
{
	return padded_value_size(smap) <= EMBEDDED_MAX && !has_kptrs(smap);
}

static inline struct bpf_local_storage __rcu **
owner_pointer(void *owner, const struct bpf_local_storage_kind *kind)
{
	return owner + kind->pointer;
}

static inline struct bpf_local_storage *
owner_storage(void *owner, const struct bpf_local_storage_kind *kind)
{
	/* Pairs with cmpxchg() in storage_publish(). */
	return rcu_dereference_check(*owner_pointer(owner, kind),
				     bpf_rcu_lock_held());
}

/* The owner's value in a map, or NULL. */
static inline void *owner_lookup(void *owner,
				 struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage = owner_storage(owner, smap->kind);

	return storage ? bpf_local_storage_lookup(storage, smap) : NULL;
}

/* The same for what RCU does not know. */
static inline struct bpf_local_storage **
owner_raw_pointer(void *owner, const struct bpf_local_storage_kind *kind)
{
	return (__force struct bpf_local_storage **)owner_pointer(owner, kind);
}

static inline u32 storage_size(const struct bpf_local_storage *storage)
{
	return storage->size * 8;
}

/* Whether an element is part of its storage's memory. */
static inline bool elem_is_embedded(const struct bpf_local_storage *storage,
				    const struct bpf_local_storage_elem *elem)
{
	return (unsigned long)elem - (unsigned long)storage <
	       storage_size(storage);
}

static inline u32 index_size(const struct bpf_local_storage_index *index)
{
	return struct_size(index, cells, (size_t)index->mask + 1);
}

static inline struct bpf_local_storage_bucket *
map_bucket(struct bpf_local_storage_map *smap, const void *owner)
{
	return &smap->buckets[hash_ptr(owner, smap->bucket_bits)];
}

static inline void *storage_first_value(struct bpf_local_storage *storage)
{
	return &storage->slots[storage->nr_slots];
}

static inline bool elem_from_bpf_ma(const struct bpf_local_storage_elem *elem)
{
	return elem->tagged_storage & FROM_BPF_MA;
}

static inline struct bpf_local_storage *
elem_storage(const struct bpf_local_storage_elem *elem)
{
	return (void *)(elem->tagged_storage & ~FROM_BPF_MA);
}

/* Of a new element, whose tag is set already. */
static inline void elem_set_storage(struct bpf_local_storage_elem *elem,
				    struct bpf_local_storage *storage)
{
	elem->tagged_storage |= (unsigned long)storage;
}

static __always_inline void *elem_value(struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = elem_storage(elem);

	if (elem == &storage->first)
		return storage_first_value(storage);
	return elem + 1;
}

static inline struct bpf_local_storage_elem *
value_elem(struct bpf_local_storage *storage, void *value)
{
	if (value == storage_first_value(storage))
		return &storage->first;
	return (struct bpf_local_storage_elem *)value - 1;
}

/* The walk of bpf_local_storage_iter_init(), where it has to be fast. */

static inline void iter_init(struct bpf_local_storage_iter *iter,
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
			return value_elem(storage, value);
	}
	while (iter->index && iter->pos <= nr_slots + iter->index->mask) {
		u32 i = iter->pos++ - nr_slots;

		value = rcu_dereference(iter->index->cells[i].value);
		if (value)
			return value_elem(storage, value);
	}
	return NULL;
}

/* Locks */

/**
 * struct bpf_local_storage_locks - what a call holds, from enter to exit
 * @outer: the call on the same CPU that it interrupted, or NULL
 * @storage: the lock of a storage that it holds or is waiting for, or NULL
 * @bucket: the same of a bucket
 * @timed_out: of the outermost: one that interrupted it has waited in vain
 * @irqflags: from before
 */
struct bpf_local_storage_locks {
	struct bpf_local_storage_locks *outer;
	raw_spinlock_t *storage;
	raw_spinlock_t *bucket;
	bool timed_out;
	unsigned long irqflags;
};

/* The innermost one on this CPU. */
DECLARE_PER_CPU(struct bpf_local_storage_locks *, bpf_local_storage_innermost);

bool bpf_local_storage_lock_nested(struct bpf_local_storage_locks *locks,
				   raw_spinlock_t *lock);

static __always_inline void locks_enter(struct bpf_local_storage_locks *locks)
{
	local_irq_save(locks->irqflags);
	locks->storage = NULL;
	locks->bucket = NULL;
	locks->timed_out = false;
	locks->outer = __this_cpu_read(bpf_local_storage_innermost);
	/* Whoever interrupts us from here on reads all of it. */
	barrier();
	__this_cpu_write(bpf_local_storage_innermost, locks);
}

static __always_inline void locks_exit(struct bpf_local_storage_locks *locks)
{
	__this_cpu_write(bpf_local_storage_innermost, locks->outer);
	local_irq_restore(locks->irqflags);
}

/*
 * Sparse cannot follow a lock that is held on some paths only, so it is told
 * that these are not.
 */
static __always_inline void lock_noted(raw_spinlock_t **noted,
				       raw_spinlock_t *lock)
{
	/* Before it is taken: a nested call must not queue up behind us. */
	WRITE_ONCE(*noted, lock);
	raw_spin_lock(lock);
	__release(lock);
}

/* False if the call is nested and cannot have the lock. */
static __always_inline bool
try_lock_noted(struct bpf_local_storage_locks *locks, raw_spinlock_t **noted,
	       raw_spinlock_t *lock)
{
	if (likely(!locks->outer && !in_nmi())) {
		lock_noted(noted, lock);
		return true;
	}
	WRITE_ONCE(*noted, lock);
	if (bpf_local_storage_lock_nested(locks, lock))
		return true;
	WRITE_ONCE(*noted, NULL);
	return false;
}

static __always_inline void unlock_noted(raw_spinlock_t **noted)
{
	raw_spinlock_t *lock = *noted;

	__acquire(lock);
	raw_spin_unlock(lock);
	/* After it is free: a nested call must not wait for us. */
	WRITE_ONCE(*noted, NULL);
}

/* Serialises every change of what an owner keeps. */
static __always_inline bool
try_lock_storage(struct bpf_local_storage_locks *locks,
		 struct bpf_local_storage *storage)
{
	return try_lock_noted(locks, &locks->storage, &storage->lock);
}

/* The same where no call can have been interrupted. */
static __always_inline void lock_storage(struct bpf_local_storage_locks *locks,
					 struct bpf_local_storage *storage)
{
	lock_noted(&locks->storage, &storage->lock);
}

static __always_inline void
unlock_storage(struct bpf_local_storage_locks *locks)
{
	unlock_noted(&locks->storage);
}

/* Serialises changes of a bucket's list: owners share it, walks pass it. */
static __always_inline bool
try_lock_bucket(struct bpf_local_storage_locks *locks,
		struct bpf_local_storage_bucket *bucket)
{
	return try_lock_noted(locks, &locks->bucket, &bucket->lock);
}

/* The same where no call can have been interrupted. */
static __always_inline void lock_bucket(struct bpf_local_storage_locks *locks,
					struct bpf_local_storage_bucket *bucket)
{
	lock_noted(&locks->bucket, &bucket->lock);
}

static __always_inline void unlock_bucket(struct bpf_local_storage_locks *locks)
{
	unlock_noted(&locks->bucket);
}

/* Changes; under storage->lock */

/* A storage without an owner is nobody's yet, or nobody's any more. */
static inline struct bpf_local_storage_index *
index_locked(struct bpf_local_storage *storage)
{
	return rcu_dereference_protected(storage->index, !storage->owner ||
					 lockdep_is_held(&storage->lock));
}

void bpf_local_storage_index_set(struct bpf_local_storage *storage,
				 struct bpf_local_storage_map *smap,
				 void *value);

static __always_inline void
storage_set_value(struct bpf_local_storage *storage,
		  struct bpf_local_storage_map *smap, void *value)
{
	u8 slot = smap->slot;

	if (unlikely(slot >= storage->nr_slots)) {
		bpf_local_storage_index_set(storage, smap, value);
		return;
	}
	storage->nr_used_slots += !!value -
				  !!rcu_access_pointer(storage->slots[slot]);
	/* Pairs with the load in bpf_local_storage_lookup(). */
	rcu_assign_pointer(storage->slots[slot], value);
}

static inline void owner_uncharge(const struct bpf_local_storage_kind *kind,
				  void *owner, u32 size)
{
	if (kind->uncharge)
		kind->uncharge(owner, size);
}

/* Link an element, behind the one that it is to replace if there is one. */
static inline void elem_link(struct bpf_local_storage_bucket *bucket,
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
	WRITE_ONCE(elem->map->had_elems, true);
}

/* New values */

/* Of the machine's memory, what may wait for grace periods: a 64th. */
#define WAITING_SHIFT		6
/* Bytes that a CPU counts for itself before it tells the others. */
#define WAITING_BATCH		SZ_64K
#define WAITING_BATCH_PAGES	DIV_ROUND_UP(WAITING_BATCH, PAGE_SIZE)

extern atomic_t bpf_local_storage_waiting_batches;

void *bpf_local_storage_ma_zalloc(const struct bpf_local_storage_map *smap,
				  struct bpf_mem_alloc *ma, u32 bytes);

/* Whether this CPU may be holding a lock of the allocator's. */
static inline bool may_hold_slab_lock(gfp_t gfp)
{
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && !(gfp && preemptible()))
		return true;
	return irqs_disabled() || in_nmi();
}

static inline bool more_waits_than(unsigned long pages)
{
	return atomic_read(&bpf_local_storage_waiting_batches) > pages / WAITING_BATCH_PAGES;
}

/*
 * A program that makes and deletes faster than grace periods end, as any can
 * that is one RCU read section, must not take all of the memory.  Copies for
 * accepted sockets are exempt: whoever connects is not to suffer for it.
 */
static inline bool too_much_waits(void)
{
	return more_waits_than(totalram_pages() >> WAITING_SHIFT);
}

/* Who can wait for grace periods does so from here on. */
static inline bool half_as_much_waits(void)
{
	return more_waits_than(totalram_pages() >> (WAITING_SHIFT + 1));
}

/*
 * Zeroed memory, charged to the owner and to the map's memory cgroup, or an
 * error; from @ma, which may be NULL, where kmalloc() is out of the question.
 * Sets *from_bpf_ma, which freeing has to know.
 */
static __always_inline void *
block_alloc(void *owner, struct bpf_local_storage_map *smap,
	    struct bpf_mem_alloc *ma, u32 bytes, gfp_t gfp, bool *from_bpf_ma)
{
	void *block;
	int err;

	err = smap->kind->charge ? smap->kind->charge(owner, bytes) : 0;
	if (err)
		return ERR_PTR(err);
	*from_bpf_ma = may_hold_slab_lock(gfp);
	if (unlikely(*from_bpf_ma))
		block = bpf_local_storage_ma_zalloc(smap, ma, bytes);
	else
		block = bpf_map_kzalloc(&smap->map, bytes, gfp | __GFP_NOWARN);
	if (block)
		return block;
	owner_uncharge(smap->kind, owner, bytes);
	return ERR_PTR(-ENOMEM);
}

/* How many slots a new storage is to have. */
static inline u8 kind_nr_slots(const struct bpf_local_storage_kind *kind)
{
	/* Pairs with nothing: a stale value only makes the index do more. */
	return READ_ONCE(kind->slots->nr);
}

/*
 * A storage for @owner that is not published, with @nr_slots slots and @embedded
 * bytes for elements behind them.
 */
static __always_inline struct bpf_local_storage *
storage_alloc(void *owner, struct bpf_local_storage_map *smap,
	      struct bpf_mem_alloc *ma, u8 nr_slots, u32 embedded, gfp_t gfp)
{
	struct bpf_local_storage *storage;
	bool from_bpf_ma;
	u32 bytes;

	bytes = struct_size(storage, slots, nr_slots) + embedded;
	storage = block_alloc(owner, smap, ma, bytes, gfp, &from_bpf_ma);
	if (IS_ERR(storage))
		return storage;
	storage->first.tagged_storage = from_bpf_ma ? FROM_BPF_MA : 0;
	raw_spin_lock_init(&storage->lock);
	storage->size = bytes / 8;
	storage->nr_slots = nr_slots;
	return storage;
}

/* Where a new value is copied from. */
enum value_source {
	FROM_PROGRAM,	/* it is nobody else's meanwhile */
	FROM_OWNER,	/* another owner's value, which may be changed */
	FROM_USER,	/* as bpf(2) has it, with user's pages pinned */
};

/* Set a new value, of zeroes so far, to @from if there is one. */
static __always_inline void value_init(struct bpf_local_storage_map *smap,
				       void *value, void *from,
				       enum value_source source)
{
	struct bpf_map *map = &smap->map;

	if (IS_ERR_OR_NULL(map->record)) {
		if (from)
			memcpy(value, from, map->value_size);
		return;
	}
	check_and_init_map_value(map, value);
	if (source == FROM_OWNER)
		bpf_local_storage_copy_value(map, value, from);
	else if (from)
		copy_map_value(map, value, from);
	/* A program's are numbers of its own choice. */
	if (source == FROM_USER)
		bpf_local_storage_copy_uptrs(map, value, from);
}

void bpf_local_storage_free_unpublished(void *owner,
					struct bpf_local_storage_map *smap,
					struct bpf_local_storage *storage);
void *__bpf_local_storage_create(void *owner,
				 struct bpf_local_storage_map *smap,
				 void *value, enum value_source source,
				 gfp_t gfp);
long __bpf_local_storage_update(void *owner, struct bpf_local_storage_map *smap,
				void *value, u64 flags);
int __bpf_local_storage_delete(struct bpf_local_storage *storage,
			       struct bpf_local_storage_map *smap,
			       const void *owner);
void __bpf_local_storage_destroy(void *owner,
				 const struct bpf_local_storage_kind *kind);
void bpf_local_storage_map_empty(struct bpf_local_storage_map *smap);

/* Memory; see bpf_local_storage_mem.c */
void bpf_local_storage_block_free(void *owner,
				  struct bpf_local_storage_map *smap,
				  struct rcu_head *block, u32 size,
				  bool from_bpf_ma);
void bpf_local_storage_elem_free_rcu(struct bpf_local_storage_elem *elem);
void bpf_local_storage_index_free_rcu(struct bpf_local_storage_index *index);
void bpf_local_storage_free_rcu(struct bpf_local_storage *storage);
void bpf_local_storage_barrier(void);

#endif /* _BPF_LOCAL_STORAGE_INTERNAL_H */
