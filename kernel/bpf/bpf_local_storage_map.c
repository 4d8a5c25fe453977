// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: maps, their slots, and where calls come in.
 *
 * Nothing here runs under a lock of the core's, so unlike the core it may be
 * traced.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/bpf_mem_alloc.h>
#include <linux/bpf_verifier.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/hash.h>
#include <linux/memcontrol.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/wait.h>
#include <uapi/linux/btf.h>
#include "bpf_local_storage_internal.h"

#define SLOT_FLAGS		(BPF_F_STORAGE_SLOT | BPF_F_STORAGE_NO_SLOT)
/* Where the values are: one of these at most. */
#define PLACE_FLAGS		(SLOT_FLAGS | BPF_F_STORAGE_RESERVED)
#define CREATE_FLAGS		(BPF_F_NO_PREALLOC | BPF_F_CLONE | PLACE_FLAGS)
/* A grace period, and the work that frees a program and then its maps. */
#define SLOT_WAIT		(HZ / 4)

BTF_ID_LIST_GLOBAL_SINGLE(bpf_local_storage_map_btf_id, struct,
			  bpf_local_storage_map)

/*
 * Entry points; the caller holds no lock of the core's.  Those that calls come
 * to by descriptor as well are functions to them, too, so that who traces one
 * sees them all.
 */

/**
 * bpf_local_storage_create - give an owner a value unless it has one
 * @owner: the owner; the caller sees to it that it is not being destroyed
 * @smap: the map
 * @value: the initial value, or NULL for zeroes
 * @gfp: GFP_ATOMIC, GFP_KERNEL where sleeping is allowed, or 0 where the caller
 *	may have interrupted the allocator with interrupts on
 *
 * Context: As @gfp says, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The new value, or the one that another CPU made first; -ENOMEM;
 *	-EBUSY when the call interrupted one that holds a lock which it needs.
 */
void *bpf_local_storage_create(void *owner, struct bpf_local_storage_map *smap,
			       void *value, gfp_t gfp)
{
	if (unlikely(too_much_waits()))
		return ERR_PTR(-ENOMEM);
	return __bpf_local_storage_create(owner, smap, value,
					  FROM_PROGRAM, gfp);
}

/**
 * bpf_local_storage_get - an owner's value, made if it is missing
 * @owner: the owner; its memory is not freed during the call
 * @map: the map
 * @value: the initial value, or NULL for zeroes
 * @flags: BPF_LOCAL_STORAGE_GET_F_CREATE or 0
 * @gfp: GFP_ATOMIC, GFP_KERNEL where sleeping is allowed, or 0 where the caller
 *	may have interrupted the allocator with interrupts on
 *
 * Context: As @gfp says, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The value, or NULL.
 */
void *bpf_local_storage_get(void *owner, struct bpf_map *map, void *value,
			    u64 flags, gfp_t gfp)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);
	void *found = owner_lookup(owner, smap);

	if (found || flags != BPF_LOCAL_STORAGE_GET_F_CREATE)
		return found;
	found = bpf_local_storage_create(owner, smap, value, gfp);
	return IS_ERR(found) ? NULL : found;
}

static bool update_flags_valid(const struct bpf_local_storage_map *smap,
			       u64 flags)
{
	if ((flags & ~BPF_F_LOCK) > BPF_EXIST)
		return false;
	return !(flags & BPF_F_LOCK) ||
	       btf_record_has_field(smap->map.record, BPF_SPIN_LOCK);
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
 *	interrupted one that holds a lock which it needs.
 */
noinline long bpf_local_storage_update(void *owner,
				       struct bpf_local_storage_map *smap,
				       void *value, u64 flags)
{
	if (!update_flags_valid(smap, flags))
		return -EINVAL;
	if (smap->kind->region_ops)
		return smap->kind->region_ops->update(owner, smap, value, flags);
	return __bpf_local_storage_update(owner, smap, value, flags);
}

/**
 * bpf_local_storage_delete - delete a map's value from an owner
 * @owner: the owner
 * @smap: the map
 *
 * Context: Any, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: 0, -ENOENT, or -EBUSY when the call interrupted one that holds a
 *	lock which it needs.
 */
noinline long bpf_local_storage_delete(void *owner,
				       struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage = owner_storage(owner, smap->kind);

	if (!storage || !bpf_local_storage_lookup(storage, smap))
		return -ENOENT;
	/* An owner that is a byte copy of another may have its pointer. */
	return __bpf_local_storage_delete(storage, smap, owner);
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
 * Context: Any but NMI; not from a program that interrupted the core.
 */
void bpf_local_storage_destroy(void *owner,
			       const struct bpf_local_storage_kind *kind)
{
	__bpf_local_storage_destroy(owner, kind);
}

/* bpf(2): a file descriptor is the key */

static void *fd_owner_lookup(void *owner, struct bpf_local_storage_map *smap)
{
	if (smap->kind->region_ops)
		return smap->kind->region_ops->lookup(owner, smap);
	return owner_lookup(owner, smap);
}

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
	value = fd_owner_lookup(owner, smap);
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

static long fd_owner_delete(void *owner, struct bpf_local_storage_map *smap)
{
	if (smap->kind->region_ops)
		return smap->kind->region_ops->delete(owner, smap);
	return bpf_local_storage_delete(owner, smap);
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
	err = fd_owner_delete(owner, smap);
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

/**
 * bpf_local_storage_map_is_dying - whether a map is about to give its place back
 * @smap: the map
 * @stuck: it did not while somebody waited for that
 *
 * Context: Any.
 * Return: True if nobody but a dying program, if at all, can still use the map;
 *	where only programs hold one that is @stuck, it is taken to stay.
 */
bool bpf_local_storage_map_is_dying(const struct bpf_local_storage_map *smap,
				    bool stuck)
{
	if (!atomic64_read(&smap->map.refcnt))
		return true;
	return !stuck && !atomic64_read(&smap->map.usercnt);
}

/* See how many slots a new storage has to have; 4, 8 or 16. */
static void slots_resize(struct bpf_local_storage_slots *slots)
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
 * Which slot is the nth to be taken.  A storage of 4 slots with a value of 8
 * bytes takes 96 bytes:
 *
 *   0         32                     56         64           88      96
 *   | first   | index, owner, lock   | slot 0   | slots 1-3  | value |
 *
 * The allocator's blocks of that size begin at multiples of 32.  The last 32
 * bytes are therefore on one cache line, and slot 0 may be on another: it is
 * the last to be taken of those that every storage has.
 */
static u8 slot_order(u8 nth)
{
	static_assert(BITS_PER_LONG == 32 || IS_ENABLED(CONFIG_LOCKDEP) ||
		      IS_ENABLED(CONFIG_DEBUG_SPINLOCK) ||
		      offsetof(struct bpf_local_storage, slots[1]) == 64);

	return nth < BPF_LOCAL_STORAGE_MIN_SLOTS ?
	       (nth + 1) % BPF_LOCAL_STORAGE_MIN_SLOTS : nth;
}

/* Take a slot; true, too, if there is none and none to wait for. */
static bool slot_try(struct bpf_local_storage_slots *slots,
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
		if (bpf_local_storage_map_is_dying(slots->map[slot],
						   slots->stuck & BIT(slot)))
			settled = false;
	}
	if (i < BPF_LOCAL_STORAGE_SLOTS) {
		slots->map[slot] = smap;
		slots_resize(slots);
		smap->slot = slot;
		settled = true;
	}
	spin_unlock(&slots->lock);
	return settled;
}

/* Remember which maps did not leave, so that nobody waits for them again. */
static void slots_mark_stuck(struct bpf_local_storage_slots *slots)
{
	int i;

	/* Pairs with slot_try(). */
	spin_lock(&slots->lock);
	for (i = 0; i < BPF_LOCAL_STORAGE_SLOTS; i++)
		if (slots->map[i] &&
		    bpf_local_storage_map_is_dying(slots->map[i], false))
			slots->stuck |= BIT(i);
	spin_unlock(&slots->lock);
}

/*
 * Give the map a slot if one is free or about to be: a program that is being
 * reloaded finds its old maps still dying.  Those that only
 * programs hold may stay for good, so each is waited for once.
 */
static int slot_acquire(struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage_slots *slots = smap->kind->slots;
	long left;

	if (smap->map.map_flags & BPF_F_STORAGE_NO_SLOT)
		return 0;
	left = wait_event_killable_timeout(slot_released, slot_try(slots, smap),
					   SLOT_WAIT);
	if (left < 0)
		return -EINTR;
	if (!left)
		slots_mark_stuck(slots);
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
	/* Pairs with slot_try(). */
	spin_lock(&slots->lock);
	slots->map[smap->slot] = NULL;
	slots->stuck &= ~BIT(smap->slot);
	slots_resize(slots);
	spin_unlock(&slots->lock);
	wake_up(&slot_released);
}

/* Memory for programs that may run anywhere */

/* Whether a program may have interrupted the allocator. */
static bool may_interrupt_allocator(const struct bpf_prog *prog)
{
	switch (resolve_prog_type(prog)) {
	/* Of what it extends, that may not be known yet. */
	case BPF_PROG_TYPE_EXT:
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_LSM:
	case BPF_PROG_TYPE_PERF_EVENT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_STRUCT_OPS:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_TRACING:
		return true;
	default:
		return false;
	}
}

/**
 * bpf_local_storage_gfp - how a program's call of a get helper may allocate
 * @prog: the program
 * @may_sleep: on all paths to the call
 *
 * Context: Any.
 * Return: What the helper is to be given as gfp_t.
 */
gfp_t bpf_local_storage_gfp(const struct bpf_prog *prog, bool may_sleep)
{
	if (may_sleep)
		return GFP_KERNEL;
	/* There, the allocator can be interrupted with interrupts on. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && may_interrupt_allocator(prog))
		return 0;
	return GFP_ATOMIC;
}

static int map_reserve(struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage *storage;
	size_t bytes;
	int err;

	bytes = struct_size(storage, slots, BPF_LOCAL_STORAGE_SLOTS);
	if (can_embed(smap))
		bytes += padded_value_size(smap);
	err = bpf_mem_alloc_init(&smap->storage_ma, bytes + BPF_MA_PAD, false);
	if (err)
		return err;
	err = bpf_mem_alloc_init(&smap->elem_ma, elem_size(smap) + BPF_MA_PAD,
				 false);
	if (err)
		bpf_mem_alloc_destroy(&smap->storage_ma);
	return err;
}

static void map_unreserve(struct bpf_local_storage_map *smap)
{
	if (!smap->reserved)
		return;
	bpf_mem_alloc_destroy(&smap->storage_ma);
	bpf_mem_alloc_destroy(&smap->elem_ma);
}

/* Memory is charged to whoever made the map, as in bpf_map_kzalloc(). */
static int map_reserve_charged(struct bpf_local_storage_map *smap)
{
#ifdef CONFIG_MEMCG
	struct mem_cgroup *memcg, *old;
	int err;

	if (!smap->map.objcg)
		return map_reserve(smap);
	memcg = get_mem_cgroup_from_objcg(smap->map.objcg);
	old = set_active_memcg(memcg);
	err = map_reserve(smap);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	return err;
#else
	return map_reserve(smap);
#endif
}

/* Lists of free memory on each CPU: for any size of value, in any context. */
static int bpf_local_storage_map_reserve(struct bpf_local_storage_map *smap)
{
	/* Serialises the loading of programs with one another. */
	static DEFINE_MUTEX(lock);
	int err = 0;

	mutex_lock(&lock);
	if (!smap->reserved)
		err = map_reserve_charged(smap);
	if (!err)
		/* Pairs with the acquire in bpf_local_storage_ma_zalloc(). */
		smp_store_release(&smap->reserved, true);
	mutex_unlock(&lock);
	return err;
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
	    hweight32(attr->map_flags & PLACE_FLAGS) > 1)
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

/* A part of the owner is not freed with what it points to. */
static bool value_fits_kind(const struct bpf_local_storage_map *smap)
{
	return !smap->kind->region_ops || !has_kptrs(smap);
}

/**
 * bpf_local_storage_check_types - whether a map can have its key and its value
 * @map: the map, with the record of its value
 * @key_type: the type of the key, which has to be an int
 *
 * Context: Process.
 * Return: 0, -EINVAL for the key, or -EOPNOTSUPP for a value that is part of
 *	its owner and has more than plain data and a lock.
 */
int bpf_local_storage_check_types(const struct bpf_map *map,
				  const struct btf_type *key_type)
{
	if (!value_fits_kind(to_local_storage_map(map)))
		return -EOPNOTSUPP;
	/* The type is as long as the key, and leaves 32 bits no other place. */
	if (!btf_type_is_int(key_type) || btf_int_bits(key_type) != 32)
		return -EINVAL;
	return 0;
}

/**
 * bpf_local_storage_map_init - what maps begin with, with and without slots
 * @smap: the map, all zeroes
 * @attr: of BPF_MAP_CREATE, checked
 * @kind: the kind of the map's owners
 *
 * Context: Process.
 */
void bpf_local_storage_map_init(struct bpf_local_storage_map *smap,
				union bpf_attr *attr,
				const struct bpf_local_storage_kind *kind)
{
	bpf_map_init_from_attr(&smap->map, attr);
	/* As map_create() will set them: zero would mean a dying map. */
	atomic64_set(&smap->map.refcnt, 1);
	atomic64_set(&smap->map.usercnt, 1);
	smap->kind = kind;
	smap->slot = BPF_LOCAL_STORAGE_NO_SLOT;
}

/**
 * bpf_local_storage_map_alloc - create a map
 * @attr: of BPF_MAP_CREATE, checked
 * @kind: the kind of the map's owners
 *
 * Context: Process; sleeps.
 * Return: The map, -EINVAL for a flag that the kind has no use for, -ENOMEM,
 *	-EINTR if the caller is killed, or -ENOSPC if the map must have a slot
 *	and all are taken.
 */
struct bpf_map *
bpf_local_storage_map_alloc(union bpf_attr *attr,
			    const struct bpf_local_storage_kind *kind)
{
	struct bpf_local_storage_map *smap;
	int err;
	u32 i;

	if (attr->map_flags & BPF_F_STORAGE_RESERVED)
		return ERR_PTR(-EINVAL);
	smap = bpf_map_area_alloc(sizeof(*smap), NUMA_NO_NODE);
	if (!smap)
		return ERR_PTR(-ENOMEM);
	bpf_local_storage_map_init(smap, attr, kind);
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

/**
 * bpf_local_storage_map_free - free a map and its element of every owner
 * @map: the map, to which nobody has a reference
 *
 * Context: Process; sleeps.
 */
void bpf_local_storage_map_free(struct bpf_map *map)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(map);

	if (smap->kind->region_ops) {
		smap->kind->region_ops->free(smap);
		return;
	}
	bpf_local_storage_map_empty(smap);
	slot_release(smap);
	ida_free(&smap->kind->slots->numbers, smap->number);

	/* A failed creation must not wait: it may be in a sleepable program. */
	if (!smap->had_elems)
		goto free;
	/* Pairs with the readers of elem->map, destroy among them. */
	synchronize_rcu();
	/* Releasing pointers takes the map's record. */
	if (has_kptrs(smap))
		bpf_local_storage_barrier();
free:
	map_unreserve(smap);
	bpf_map_area_free(smap->buckets);
	bpf_map_area_free(smap);
}

static bool has_region(const struct bpf_map *map)
{
	return map->map_flags & BPF_F_STORAGE_RESERVED;
}

/* Also of a map of such maps. */
static bool uses_regions(const struct bpf_map *map)
{
	return has_region(map) ||
	       (map->inner_map_meta && has_region(map->inner_map_meta));
}

/**
 * bpf_local_storage_use_map - prepare a map for a program that is being loaded
 * @map: a map of any type
 * @prog: the program
 *
 * Context: Process; sleeps.
 * Return: 0, -ENOMEM, or -EOPNOTSUPP for an extension of another program with
 *	a map whose values are parts of their owners.
 */
int bpf_local_storage_use_map(struct bpf_map *map, const struct bpf_prog *prog)
{
	/* What it extends may sleep, and is not known for good. */
	if (uses_regions(map))
		return prog->type == BPF_PROG_TYPE_EXT ? -EOPNOTSUPP : 0;
	if (map->ops->map_free != bpf_local_storage_map_free ||
	    !may_interrupt_allocator(prog))
		return 0;
	return bpf_local_storage_map_reserve(to_local_storage_map(map));
}

/**
 * bpf_local_storage_meta_equal - whether a map can be the inner one of others
 * @meta: what those look like
 * @map: the map
 *
 * Programs find it without being loaded for it, so it is prepared here.  The
 * caller keeps programs of kprobes and perf events off this CPU meanwhile, so
 * they miss what happens while this sleeps; only a map's first time does.
 *
 * Context: Process; sleeps.
 * Return: True if it can.
 */
bool bpf_local_storage_meta_equal(const struct bpf_map *meta,
				  const struct bpf_map *map)
{
	if (!bpf_map_meta_equal(meta, map))
		return false;
	return has_region(map) ||
	       !bpf_local_storage_map_reserve(to_local_storage_map(map));
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

	if (!smap->buckets)
		return bytes;
	bytes += sizeof(*smap->buckets) << smap->bucket_bits;
	for (i = 0; i < BIT(smap->bucket_bits); i++)
		bytes += (u64)READ_ONCE(smap->buckets[i].count) *
			 elem_size(smap);
	return bytes;
}
