// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: memory.
 *
 * A program may also have interrupted the allocator, RCU or the scheduler.  The
 * locks they wait for are held
 * - with interrupts off, but for the allocator's on PREEMPT_RT; UP and SMP, 32
 *   and 64 bits do not differ.  So where interrupts are off, memory comes from
 *   lists that are refilled elsewhere, and a grace period is started from an
 *   irq_work; elsewhere we use kmalloc() and start grace periods.  Locks that
 *   later allocators hold with interrupts on are only ever tried.
 * - On PREEMPT_RT, the allocator's locks sleep, so they are out of the question
 *   with preemption off, too, and for a program that may have interrupted their
 *   holder; of that one the verifier tells us by a gfp_t of 0.
 *
 * Whatever a reader could have seen goes back to the allocator after a grace
 * period of RCU Tasks Trace, which implies one of RCU.
 */
#include <linux/atomic.h>
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/bpf_mem_alloc.h>
#include <linux/build_bug.h>
#include <linux/cpuhotplug.h>
#include <linux/init.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate_trace.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "bpf_local_storage_internal.h"

/* Blocks that programs may take in hard interrupts, per CPU and jiffy. */
#define HARDIRQ_BLOCKS		256

/* Whether this CPU may be holding a lock of RCU's. */
static bool may_hold_rcu_lock(void)
{
	return irqs_disabled() || in_nmi();
}

/* Freeing */

/*
 * What waits for a grace period, in batches.  Each CPU adds up the bytes that it
 * lets wait; the block that completes a batch takes it back when it is freed,
 * as those before it on this CPU then are, or are about to be.
 */
static DEFINE_PER_CPU(int, waiting_bytes);
atomic_t bpf_local_storage_waiting_batches;

static bool completes_batch(u32 bytes)
{
	/* At most one each: only an index can be larger than that. */
	int added = min_t(u32, bytes, WAITING_BATCH);

	if (likely(this_cpu_add_return(waiting_bytes, added) < WAITING_BATCH))
		return false;
	/* Perhaps on another CPU by now; then that one's is below 0 for a while. */
	this_cpu_sub(waiting_bytes, WAITING_BATCH);
	atomic_inc(&bpf_local_storage_waiting_batches);
	return true;
}

/* What the grace periods are followed by. */

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
	if (elem_from_bpf_ma(elem))
		bpf_local_storage_ma_free_rcu(rcu);
	else
		bpf_local_storage_kfree_rcu(rcu);
}

/* The same for a block that completed a batch. */

static void bpf_local_storage_kfree_batch_rcu(struct rcu_head *rcu)
{
	atomic_dec(&bpf_local_storage_waiting_batches);
	bpf_local_storage_kfree_rcu(rcu);
}

static void bpf_local_storage_ma_free_batch_rcu(struct rcu_head *rcu)
{
	atomic_dec(&bpf_local_storage_waiting_batches);
	bpf_local_storage_ma_free_rcu(rcu);
}

static void bpf_local_storage_fields_free_batch_rcu(struct rcu_head *rcu)
{
	atomic_dec(&bpf_local_storage_waiting_batches);
	bpf_local_storage_fields_free_rcu(rcu);
}

/* Each way to free: without and with a batch that the block completed. */
static const rcu_callback_t kfree_rcus[] = {
	bpf_local_storage_kfree_rcu,
	bpf_local_storage_kfree_batch_rcu,
};

static const rcu_callback_t ma_free_rcus[] = {
	bpf_local_storage_ma_free_rcu,
	bpf_local_storage_ma_free_batch_rcu,
};

static const rcu_callback_t fields_free_rcus[] = {
	bpf_local_storage_fields_free_rcu,
	bpf_local_storage_fields_free_batch_rcu,
};

/* Grace periods to be started when no lock of RCU's can be held. */
struct postponed {
	struct llist_head heads;
	struct irq_work work;
};

static void bpf_local_storage_start_postponed(struct irq_work *work)
{
	struct postponed *postponed =
		container_of(work, struct postponed, work);
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
static void block_free_rcu(struct rcu_head *rcu, u32 bytes,
			   const rcu_callback_t *funcs)
{
	bpf_local_storage_call_rcu(rcu, funcs[completes_batch(bytes)]);
}

static const rcu_callback_t *free_rcus(bool from_bpf_ma)
{
	return unlikely(from_bpf_ma) ? ma_free_rcus : kfree_rcus;
}

/**
 * bpf_local_storage_elem_free_rcu - free an element after the grace periods
 * @elem: the element, unlinked; or NULL
 *
 * Context: Any.
 */
void bpf_local_storage_elem_free_rcu(struct bpf_local_storage_elem *elem)
{
	const rcu_callback_t *funcs;

	if (!elem)
		return;
	funcs = has_kptrs(elem->map) ? fields_free_rcus :
				       free_rcus(elem_from_bpf_ma(elem));
	block_free_rcu(&elem->rcu, elem_size(elem->map), funcs);
}

/**
 * bpf_local_storage_index_free_rcu - free an index after the grace periods
 * @index: the index, replaced or with its storage detached; or NULL
 *
 * Context: Any.
 */
void bpf_local_storage_index_free_rcu(struct bpf_local_storage_index *index)
{
	if (index)
		block_free_rcu(&index->rcu, index_size(index),
			       free_rcus(index->from_bpf_ma));
}

/**
 * bpf_local_storage_free_rcu - free a storage after the grace periods
 * @storage: the storage, detached, with no element in it
 *
 * Context: Any.
 */
void bpf_local_storage_free_rcu(struct bpf_local_storage *storage)
{
	block_free_rcu(&storage->first.rcu, storage_size(storage),
		       free_rcus(elem_from_bpf_ma(&storage->first)));
}

/* Allocating; no lock held */

struct budget {
	unsigned long jiffy;
	u32 used;
};

static DEFINE_PER_CPU(struct budget, hardirq_budget);

/*
 * BPF's allocator is refilled from an irq_work.  A program on what that calls,
 * such as kmalloc(), must not take as much as is being added, or it never ends.
 */
static bool within_budget(void)
{
	struct budget *budget = this_cpu_ptr(&hardirq_budget);
	unsigned long now = jiffies;

	if (!in_hardirq())
		return true;
	/* An NMI in between only makes the budget somewhat larger. */
	if (budget->jiffy != now) {
		budget->jiffy = now;
		budget->used = 0;
	}
	if (budget->used >= HARDIRQ_BLOCKS)
		return false;
	budget->used++;
	return true;
}

/**
 * bpf_local_storage_ma_zalloc - memory where kmalloc() is out of the question
 * @smap: the map that it is for
 * @ma: lists of the map's, used if they are there; or NULL
 * @bytes: how many
 *
 * What is not in @ma comes from lists that all maps share.  So does what a burst
 * takes that finds @ma not refilled yet: of large blocks it holds one at first.
 *
 * Context: Any.
 * Return: Zeroed memory, BPF_MA_PAD bytes into the allocator's block, or NULL.
 */
void *bpf_local_storage_ma_zalloc(const struct bpf_local_storage_map *smap,
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

/**
 * bpf_local_storage_block_free - undo block_alloc()
 * @owner: as there
 * @smap: as there
 * @block: the block, which nobody else has seen
 * @bytes: as there
 * @from_bpf_ma: as it was set there
 *
 * Context: As there.
 */
void bpf_local_storage_block_free(void *owner,
				  struct bpf_local_storage_map *smap,
				  struct rcu_head *block, u32 bytes,
				  bool from_bpf_ma)
{
	owner_uncharge(smap->kind, owner, bytes);
	/* What is not to be allocated here is not to be freed here. */
	if (from_bpf_ma)
		block_free_rcu(block, bytes, ma_free_rcus);
	else
		kfree(block);
}
