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
 *   an index goes back to the allocator after a grace period of both; of RCU
 *   alone if the owner is being destroyed and no sleepable program is around.
 * - Change: under storage->lock, and the bucket lock of the map nested in it.
 *   Linked or unlinked is therefore one fact, and exactly one of update,
 *   delete, destroy and map free unlinks an element and uncharges it.  What a
 *   new storage is made with is in it before anybody can see it, and linked
 *   under the bucket lock only: nobody can unlink it before that.
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
#include <linux/cpu.h>
#include <linux/filter.h>
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
/* Bytes beyond which a block of memory for copies does not grow. */
#define CLONED_MAX		2048
/* A grace period, and the work that frees a program and then its maps. */
#define SLOT_WAIT		(HZ / 4)
/* Blocks that programs may take in hard interrupts, per CPU and jiffy. */
#define HARDIRQ_BLOCKS		256

BTF_ID_LIST_GLOBAL_SINGLE(bpf_local_storage_map_btf_id, struct,
			  bpf_local_storage_map)

/* Calls on this CPU that are between section_enter() and section_exit(). */
DEFINE_PER_CPU(int, bpf_local_storage_sections);

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
	sec->nested = __this_cpu_inc_return(bpf_local_storage_sections) > 1 || in_nmi();
}

static __always_inline void section_exit(struct section *sec)
{
	__this_cpu_dec(bpf_local_storage_sections);
	local_irq_restore(sec->irqflags);
}

/*
 * Whoever holds the lock is on another CPU, unless nested: then it may be us.
 * Sparse cannot follow a lock that is held on some paths only, so it is told
 * that this one is not.
 */
static __always_inline bool section_lock(struct section *sec,
					 raw_spinlock_t *lock)
{
	if (likely(!sec->nested))
		raw_spin_lock(lock);
	else if (!raw_spin_trylock(lock))
		return false;
	__release(lock);
	return true;
}

static __always_inline void section_unlock(raw_spinlock_t *lock)
{
	__acquire(lock);
	raw_spin_unlock(lock);
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

/* Kernel pointers in a value have to be released when nobody can see it. */
static bool has_pointers(const struct bpf_local_storage_map *smap)
{
	const struct btf_record *record = smap->map.record;

	return !IS_ERR_OR_NULL(record) && record->field_mask & ~BPF_SPIN_LOCK;
}

/*
 * Whether the map's elements may be made together with a storage.  Its memory
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

static struct bpf_local_storage __rcu **
pointer_of(void *owner, const struct bpf_local_storage_kind *kind)
{
	return owner + kind->pointer;
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

/* Lookup: as part of a program */

/* R0 = the value in a slot of storage R0. */
static struct bpf_insn *gen_slot(struct bpf_insn *insn, u8 slot)
{
	if (slot >= BPF_LOCAL_STORAGE_MIN_SLOTS) {
		*insn++ = BPF_LDX_MEM(BPF_B, BPF_REG_5, BPF_REG_0,
				      offsetof(struct bpf_local_storage,
					       nr_slots));
		*insn++ = BPF_JMP_IMM(BPF_JLE, BPF_REG_5, slot,
				      BPF_LOCAL_STORAGE_TO_HELPER);
	}
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_0,
			      offsetof(struct bpf_local_storage, slots[slot]));
	return insn;
}

/* R0 = the value in storage R0's index, if it is where it is looked for first. */
static struct bpf_insn *gen_index(struct bpf_insn *insn,
				  const struct bpf_local_storage_map *smap)
{
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_0,
			      offsetof(struct bpf_local_storage, index));
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, 0, BPF_LOCAL_STORAGE_IF_NULL);
	*insn++ = BPF_LDX_MEM(BPF_W, BPF_REG_5, BPF_REG_0,
			      offsetof(struct bpf_local_storage_index, mask));
	*insn++ = BPF_ALU64_IMM(BPF_AND, BPF_REG_5, smap->cell);
	*insn++ = BPF_ALU64_IMM(BPF_LSH, BPF_REG_5,
				ilog2(sizeof(struct bpf_local_storage_cell)));
	*insn++ = BPF_ALU64_REG(BPF_ADD, BPF_REG_5, BPF_REG_0);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_5,
			      offsetof(struct bpf_local_storage_index,
				       cells[0].map));
	/* R1 is the map. */
	*insn++ = BPF_JMP_REG(BPF_JNE, BPF_REG_0, BPF_REG_1,
			      BPF_LOCAL_STORAGE_TO_HELPER);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_5,
			      offsetof(struct bpf_local_storage_index,
				       cells[0].value));
	return insn;
}

/* R0 = the storage of the owner in R2. */
static struct bpf_insn *gen_storage(struct bpf_insn *insn,
				    const struct bpf_local_storage_kind *kind,
				    const struct bpf_local_storage_call *call)
{
	if (kind->gen_storage)
		return kind->gen_storage(insn, call);
	if (kind->pointer > S16_MAX)
		return NULL;
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_2,
			      kind->pointer);
	return insn;
}

/* R0 = the value, or NULL; the jumps are still to be aimed. */
static struct bpf_insn *gen_lookup(const struct bpf_local_storage_call *call,
				   struct bpf_insn *insn)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(call->map);

	if (call->maybe_null)
		*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_2, 0,
				      BPF_LOCAL_STORAGE_TO_HELPER);
	insn = gen_storage(insn, smap->kind, call);
	if (!insn)
		return NULL;
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, 0, BPF_LOCAL_STORAGE_IF_NULL);
	if (smap->slot == BPF_LOCAL_STORAGE_NO_SLOT)
		return gen_index(insn, smap);
	return gen_slot(insn, smap->slot);
}

static struct bpf_insn *gen_call(const struct bpf_local_storage_call *call,
				 const struct bpf_insn *old,
				 struct bpf_insn *insn)
{
	*insn++ = BPF_MOV64_IMM(BPF_REG_5, (__force __s32)call->gfp);
	*insn++ = *old;
	return insn;
}

/* Aim those jumps in [@insn, @end) that have a certain offset. */
static void gen_jumps(struct bpf_insn *insn, const struct bpf_insn *end,
		      int off, const struct bpf_insn *target)
{
	for (; insn < end; insn++)
		if ((BPF_CLASS(insn->code) == BPF_JMP ||
		     BPF_CLASS(insn->code) == BPF_JMP32) && insn->off == off)
			insn->off = target - insn - 1;
}

/* "if (R0 == 0) goto ...", which a hit can pass over. */
static bool is_null_check(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_JEQ | BPF_K) &&
	       insn->dst_reg == BPF_REG_0 && !insn->imm;
}

/**
 * bpf_local_storage_gen_get - the instructions that stand for a call of get
 * @call: what is known about the call
 * @old: the call, in its program
 * @insns: room for the instructions, of which there are fewer than 32
 *
 * A hit is found without the helper, and so is that there is no value and none
 * is wanted.  The helper's call is the last instruction.
 *
 * Context: Process.
 * Return: The number of instructions.
 */
u32 bpf_local_storage_gen_get(const struct bpf_local_storage_call *call,
			      const struct bpf_insn *old,
			      struct bpf_insn *insns)
{
	struct bpf_insn *looked, *helper, *end;

	static_assert(!offsetof(struct bpf_local_storage_map, map));

	looked = call->map ? gen_lookup(call, insns) : NULL;
	if (!looked)
		return gen_call(call, old, insns) - insns;
	helper = looked;
	*helper++ = BPF_JMP_IMM(BPF_JNE, BPF_REG_0, 0, 0);
	if (!call->creates)
		*helper++ = BPF_JMP_A(0);
	end = gen_call(call, old, helper);

	gen_jumps(insns, looked, BPF_LOCAL_STORAGE_IF_NULL,
		  call->creates ? helper : end);
	gen_jumps(insns, looked, BPF_LOCAL_STORAGE_TO_HELPER, helper);
	if (!call->creates)
		looked[1].off = end - looked - 2;
	looked[0].off = end - looked - 1 + is_null_check(old + 1);
	return end - insns;
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
	struct irq_work *work;
	int cpu;

	/* Pairs with the end of a CPU, which leaves its work undone. */
	cpus_read_lock();
	for_each_possible_cpu(cpu) {
		work = per_cpu_ptr(&postponed.work, cpu);
		if (cpu_online(cpu))
			irq_work_sync(work);
		else
			start_postponed(work);
	}
	cpus_read_unlock();
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
static __always_inline void *
charged_alloc(void *owner, struct bpf_local_storage_map *smap, u32 bytes,
	      gfp_t gfp, bool *from_bpf_ma)
{
	void *block;
	int err;

	err = smap->kind->charge ? smap->kind->charge(owner, bytes) : 0;
	if (err)
		return ERR_PTR(err);
	*from_bpf_ma = is_delicate();
	if (unlikely(*from_bpf_ma))
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

/*
 * A storage for @owner that nobody can see, with @inside bytes for elements
 * behind its slots.
 */
static __always_inline struct bpf_local_storage *
storage_new(void *owner, struct bpf_local_storage_map *smap, u32 inside,
	    gfp_t gfp)
{
	/* Pairs with nothing: a stale value only makes the index do more. */
	u8 nr_slots = READ_ONCE(smap->kind->slots->nr);
	struct bpf_local_storage *storage;
	bool from_bpf_ma;
	u32 bytes;

	bytes = struct_size(storage, slots, nr_slots) + inside;
	storage = charged_alloc(owner, smap, bytes, gfp, &from_bpf_ma);
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
	index = charged_alloc(owner, smap, struct_size(index, cells, cells),
			      gfp, &from_bpf_ma);
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

	elem = charged_alloc(owner, smap, elem_bytes(smap), gfp, &from_bpf_ma);
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
	charged_free(owner, smap, storage, storage_bytes(storage),
		     storage->first.home & FROM_BPF_MA);
}

static void index_drop(void *owner, struct bpf_local_storage_map *smap,
		       struct bpf_local_storage_index *index)
{
	if (!IS_ERR_OR_NULL(index))
		charged_free(owner, smap, index, index_bytes(index),
			     index->from_bpf_ma);
}

static void elem_drop(void *owner, struct bpf_local_storage_elem *elem)
{
	if (!IS_ERR_OR_NULL(elem))
		charged_free(owner, elem->map, elem, elem_bytes(elem->map),
			     elem->home & FROM_BPF_MA);
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
	/* Pairs with whoever finds the element there and wants to unlink it. */
	if (!section_lock(&sec, &bucket->lock))
		goto exit;
	err = -EAGAIN;
	storage->owner = owner;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (likely(!cmpxchg(ptr, NULL, storage))) {
		link_elem(bucket, elem, NULL);
		err = 0;
	}
	section_unlock(&bucket->lock);
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

	storage = storage_new(owner, smap, inside, gfp);
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
	section_unlock(&bucket->lock);
	err = 0;
unlock:
	section_unlock(&storage->lock);
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

static struct bpf_local_storage *
storage_of(void *owner, const struct bpf_local_storage_kind *kind)
{
	/* Pairs with cmpxchg() in publish(). */
	return rcu_dereference_check(*pointer_of(owner, kind),
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

/**
 * bpf_local_storage_create - give an owner a value unless it has one
 * @owner: the owner; the caller sees to it that it is not being destroyed
 * @smap: the map
 * @value: the initial value, or NULL for zeroes
 * @gfp: GFP_ATOMIC, or GFP_KERNEL where sleeping is allowed
 *
 * Context: As @gfp says, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The new value, or the one that another CPU made first; -ENOMEM;
 *	-EBUSY when the call interrupted another one on the same storage.
 */
void *bpf_local_storage_create(void *owner, struct bpf_local_storage_map *smap,
			       void *value, gfp_t gfp)
{
	return create(owner, smap, value, false, gfp);
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
	found = bpf_local_storage_create(owner, smap, value, gfp);
	return IS_ERR(found) ? NULL : found;
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
static void link_copy(struct bpf_local_storage *storage,
		      struct bpf_local_storage_elem *elem, void *value)
{
	struct bpf_local_storage_map *smap = elem->map;
	struct bpf_local_storage_bucket *bucket;

	bucket = bucket_of(smap, storage->owner);
	/* Pairs with map free, which comes here after the last reference. */
	raw_spin_lock(&bucket->lock);
	if (atomic64_read(&smap->map.refcnt)) {
		link_elem(bucket, elem, NULL);
		value_set(storage, smap, value);
	}
	raw_spin_unlock(&bucket->lock);
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
	/* Pairs with map free, which has found a copy. */
	raw_spin_lock(&storage->lock);
	storage->owner = owner;
	for (; nr; nr--) {
		link_copy(storage, elem, value);
		elem = value + value_bytes(elem->map);
		value = elem + 1;
	}
	used = storage->used;
	/* Pairs with the dependency of whoever loads the owner's pointer. */
	if (used)
		rcu_assign_pointer(*pointer_of(owner, kind), storage);
	raw_spin_unlock(&storage->lock);
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
	storage = storage_new(owner, smap, bytes, GFP_ATOMIC);
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
	section_unlock(&bucket->lock);
	index = index_locked(storage);
	empty = is_empty(storage);
	if (empty)
		detach(storage, smap->kind, NULL);
	err = 0;
unlock:
	section_unlock(&storage->lock);
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
		pointer_of(owner, kind);
	struct bpf_local_storage *storage;

	/* Pairs with synchronize_rcu() in map free, for elem->map. */
	rcu_read_lock();
	do {
		/* Pairs with the release in detach(). */
		storage = smp_load_acquire(ptr);
		/* Pairs with the cmpxchg() in publish(). */
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

/* See how many slots a new storage has to have; 4, 8 or 16. */
static void slots_count(struct bpf_local_storage_slots *slots)
{
	u8 nr = BPF_LOCAL_STORAGE_SLOTS;

	lockdep_assert_held(&slots->lock);
	while (nr > BPF_LOCAL_STORAGE_MIN_SLOTS &&
	       !memchr_inv(&slots->map[nr / 2], 0,
			   nr / 2 * sizeof(slots->map[0])))
		nr /= 2;
	WRITE_ONCE(slots->nr, nr);
}

/*
 * Which slot is the nth to be taken: the very first one last among those that
 * every storage has.  It is on a cache line with the lock; the other three are
 * on one with a value of 8 bytes, as the allocator's blocks begin at multiples
 * of 32.
 */
static u8 slot_order(u8 nth)
{
	static_assert(IS_ENABLED(CONFIG_32BIT) || IS_ENABLED(CONFIG_LOCKDEP) ||
		      IS_ENABLED(CONFIG_DEBUG_SPINLOCK) ||
		      offsetof(struct bpf_local_storage, slots[1]) == 64);

	return nth < BPF_LOCAL_STORAGE_MIN_SLOTS ?
	       (nth + 1) % BPF_LOCAL_STORAGE_MIN_SLOTS : nth;
}

/* Take a slot; true, too, if there is none and none to wait for. */
static bool slot_settle(struct bpf_local_storage_slots *slots,
			struct bpf_local_storage_map *smap)
{
	bool settled = true;
	u8 i, slot;

	/* Pairs with slot_release(): a map in here is not freed meanwhile. */
	spin_lock(&slots->lock);
	for (i = 0; i < BPF_LOCAL_STORAGE_SLOTS; i++) {
		slot = slot_order(i);
		if (!slots->map[slot])
			break;
		if (is_leaving(slots->map[slot], slots->in_vain & BIT(slot)))
			settled = false;
	}
	if (i < BPF_LOCAL_STORAGE_SLOTS) {
		slots->map[slot] = smap;
		slots_count(slots);
		smap->slot = slot;
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
	slots_count(slots);
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
	struct bpf_local_storage_map *smap;
	int err;
	u32 i;

	smap = bpf_map_area_alloc(sizeof(*smap), NUMA_NO_NODE);
	if (!smap)
		return ERR_PTR(-ENOMEM);
	bpf_map_init_from_attr(&smap->map, attr);
	/* As map_create() will set them: zero would mean a map on its way out. */
	atomic64_set(&smap->map.refcnt, 1);
	atomic64_set(&smap->map.usercnt, 1);
	smap->kind = kind;
	err = ida_alloc(&kind->slots->numbers, GFP_KERNEL);
	if (err < 0)
		goto free;
	smap->number = err;
	/*
	 * Numbers below a power of two have as many different cells, so that a
	 * lookup finds its map at once; and so have multiples of 16.
	 */
	smap->cell = smap->number ^ smap->number >> 4;
	smap->bucket_bits = max_t(u32, 1, ilog2(roundup_pow_of_two(num_possible_cpus())));

	smap->buckets = bpf_map_area_alloc(sizeof(*smap->buckets) <<
					   smap->bucket_bits, NUMA_NO_NODE);
	err = -ENOMEM;
	if (!smap->buckets)
		goto free_number;
	for (i = 0; i < BIT(smap->bucket_bits); i++)
		raw_spin_lock_init(&smap->buckets[i].lock);
	err = slot_acquire(smap);
	if (err)
		goto free_number;
	return &smap->map;
free_number:
	ida_free(&kind->slots->numbers, smap->number);
	bpf_map_area_free(smap->buckets);
free:
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
	ida_free(&smap->kind->slots->numbers, smap->number);

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
