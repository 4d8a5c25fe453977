// SPDX-License-Identifier: GPL-2.0
/*
 * Socket storage: values that are parts of the sockets.
 *
 * Booted with bpf_sk_reserve=, each socket has that many bytes in front of it.
 * A map with BPF_F_STORAGE_RESERVED has a region of them:
 *
 *   | ...     | cookie | value     | cookie | value | struct sock ...
 *     unused    another map's        this map's
 *
 * The value is there if the cookie in front of it is the map's.  Nothing is
 * allocated, charged or linked, and nothing is walked at the end of a socket or
 * of a map: the next owner of the memory has another cookie.
 *
 * - A new socket's reserve is zeroes.  Its memory goes back after an RCU grace
 *   period, so that a reader, who may hold nothing but a pointer, is never on
 *   another socket's value.  Programs, and callbacks, that can sleep have no
 *   such protection, and are not loaded with these maps.
 * - Cookies are unique, and cannot be foreseen: a value of an older map lies
 *   where a newer one's cookie is looked for.
 * - To create is to replace a cookie by the mark of a creator, who alone writes
 *   the value and then the map's cookie.  Interrupts are off meanwhile, and
 *   whoever else wants to create waits for a moment; not so if it interrupted the
 *   creator, or might hold up another one that it waits for: in an NMI.
 * - To delete is to set the lowest bit of the cookie.  Who still has a pointer
 *   keeps access to the place, and finds there the map's next value of the same
 *   socket once there is one.  A lock in it is left as it is, as long as the
 *   place was not another map's since.
 * - To update is to write into the value, as into that of an array: readers
 *   that need all of it at once use BPF_F_LOCK.
 * - A map's region is given to another map an RCU grace period after the last
 *   reference on it.
 */
#include <linux/atomic.h>
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/cache.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/filter.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/jump_label.h>
#include <linux/kstrtox.h>
#include <linux/once.h>
#include <linux/proc_fs.h>
#include <linux/rculist.h>
#include <linux/seq_file.h>
#include <linux/siphash.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <net/bpf_sk_reserve.h>
#include <net/bpf_sk_storage.h>
#include <net/net_namespace.h>
#include <net/sock.h>

/* Bytes that can be asked for. */
#define RESERVE_MAX		1024
/* As for a slot: a grace period, and the work that frees a program. */
#define REGION_WAIT		(HZ / 4)
/* Microseconds that a creation waits for another processor's. */
#define CREATOR_WAIT		(10 * USEC_PER_MSEC)

/*
 * The lower bits of a cookie are zero.  What a map leaves in its place: no value
 * since the last one was deleted, or a processor creates one.
 */
#define COOKIE_SHIFT		16
#define COOKIE_DELETED		1
#define COOKIE_CREATOR		2

DEFINE_STATIC_KEY_FALSE(bpf_sk_reserve_key);
unsigned int bpf_sk_reserve __ro_after_init;

static LIST_HEAD(regions);
/* Serialises changes of regions, and the numbers of cookies. */
static DEFINE_SPINLOCK(regions_lock);
/* Woken whenever a map gives its region back. */
static DECLARE_WAIT_QUEUE_HEAD(region_released);

/* The reserve */

static int __init reserve_setup(char *arg)
{
	unsigned int bytes;

	if (kstrtouint(arg, 0, &bytes) || bytes > RESERVE_MAX) {
		pr_warn("bpf_sk_reserve=%s is ignored: not a number from 0 to %d\n",
			arg, RESERVE_MAX);
		return 1;
	}
	/* struct sock is to begin on a cache line, as without it. */
	bpf_sk_reserve = round_up(bytes, SMP_CACHE_BYTES);
	return 1;
}
__setup("bpf_sk_reserve=", reserve_setup);

/* Before the first protocol makes its slab. */
static int __init reserve_enable(void)
{
	if (bpf_sk_reserve)
		static_branch_enable(&bpf_sk_reserve_key);
	return 0;
}
pure_initcall(reserve_enable);

static int __maybe_unused reserve_show(struct seq_file *seq, void *unused)
{
	struct bpf_sk_region *region;

	seq_printf(seq, "bytes %u\n", bpf_sk_reserve);
	/* Serialises with maps that come and go. */
	spin_lock(&regions_lock);
	list_for_each_entry(region, &regions, node)
		seq_printf(seq, "map %u offset -%u bytes %u\n",
			   region->smap.map.id, region->end + region->size,
			   region->size);
	spin_unlock(&regions_lock);
	return 0;
}

static int __init reserve_init(void)
{
	if (bpf_sk_reserve)
		proc_create_single("bpf_sk_reserve", 0400, init_net.proc_net,
				   reserve_show);
	return 0;
}
late_initcall(reserve_init);

/* Values */

/* The one creator's mark that this processor sets. */
static u64 this_creator(const struct bpf_sk_region *region)
{
	return region->cookie + COOKIE_CREATOR + smp_processor_id();
}

static bool is_creator(const struct bpf_sk_region *region, u64 found)
{
	static_assert(COOKIE_CREATOR + CONFIG_NR_CPUS <= BIT(COOKIE_SHIFT));

	return found - region->cookie - COOKIE_CREATOR < nr_cpu_ids;
}

/* Wait for another creator, who is not held up by us. */
static noinline bool wait_for_creator(const struct bpf_sk_region *region,
				      const u64 *cookie)
{
	u32 left = CREATOR_WAIT;
	u64 found;

	while (is_creator(region, found = READ_ONCE(*cookie))) {
		if (in_nmi() || found == this_creator(region) || !left--)
			return false;
		/* By no clock: some stand still while interrupts are off. */
		udelay(1);
	}
	return true;
}

/* With a lock in it, which stays as it is where it was the same map's. */
static noinline void value_init_record(struct bpf_map *map, void *place,
				       void *value, bool keep)
{
	if (!keep)
		memset(place, 0, map->value_size);
	if (value)
		copy_map_value(map, place, value);
	else
		zero_map_value(map, place);
}

/* The place is ours: write the first value that anybody will see there. */
static void value_init(struct bpf_sk_region *region, void *place, void *value,
		       u64 before)
{
	struct bpf_map *map = &region->smap.map;

	if (!IS_ERR_OR_NULL(map->record))
		value_init_record(map, place, value,
				  before == (region->cookie | COOKIE_DELETED));
	else if (value)
		memcpy(place, value, map->value_size);
	else
		memset64(place, 0, region->size / sizeof(u64) - 1);
}

/*
 * Make the value, unless it is there; 0, -EEXIST or -EBUSY.  Interrupts are off,
 * which serialises it with what else creates on this processor, but for NMIs.
 */
static int region_create_irqs_off(struct bpf_sk_region *region, u64 *cookie,
				  void *value)
{
	u64 before = READ_ONCE(*cookie);

	do {
		while (unlikely(is_creator(region, before))) {
			if (!wait_for_creator(region, cookie))
				return -EBUSY;
			before = READ_ONCE(*cookie);
		}
		if (before == region->cookie) {
			/* Pairs with the release of whoever made the value. */
			smp_acquire__after_ctrl_dep();
			return -EEXIST;
		}
		/* Pairs with itself: one of two creators succeeds. */
	} while (!try_cmpxchg(cookie, &before, this_creator(region)));

	value_init(region, cookie + 1, value, before);
	/* Pairs with the acquire in bpf_sk_region_lookup(). */
	smp_store_release(cookie, region->cookie);
	return 0;
}

static int region_create(struct bpf_sk_region *region, u64 *cookie, void *value)
{
	unsigned long flags;
	int err;

	local_irq_save(flags);
	err = region_create_irqs_off(region, cookie, value);
	local_irq_restore(flags);
	return err;
}

/**
 * bpf_sk_region_get - what bpf_sk_storage_get() does for values in sockets
 * @sk: a full socket
 * @map: a map with a region
 * @value: the initial value, or NULL for zeroes
 * @flags: BPF_SK_STORAGE_GET_F_CREATE or 0
 *
 * Creating fails in a call that interrupted one which is making the value, and
 * where that takes too long.
 *
 * Context: Any, under rcu_read_lock().
 * Return: The value, or NULL.
 */
void *bpf_sk_region_get(struct sock *sk, struct bpf_map *map, void *value,
			u64 flags)
{
	struct bpf_sk_region *region = to_sk_region(map);
	u64 *cookie = bpf_sk_region_cookie(sk, region);
	void *found = bpf_sk_region_lookup(sk, map);

	if (found)
		return found;
	/* A copy that is being made of a socket has no references yet. */
	if (!flags || !refcount_read(&sk->sk_refcnt))
		return NULL;
	if (region_create(region, cookie, value) == -EBUSY)
		return NULL;
	return cookie + 1;
}

/**
 * bpf_sk_region_delete - delete a value that is part of a socket
 * @sk: a full socket
 * @map: a map with a region
 *
 * Context: Any, under rcu_read_lock().
 * Return: 0 or -ENOENT.
 */
int bpf_sk_region_delete(struct sock *sk, struct bpf_map *map)
{
	struct bpf_sk_region *region = to_sk_region(map);
	u64 found = region->cookie;

	/* Pairs with itself: one of two deletions succeeds. */
	if (!try_cmpxchg(bpf_sk_region_cookie(sk, region), &found,
			 found | COOKIE_DELETED))
		return -ENOENT;
	return 0;
}

/**
 * bpf_sk_region_next - walk over the maps with a region
 * @region: the one before, or NULL
 *
 * Context: Any, under rcu_read_lock() for as long as the walk takes.
 * Return: The next one that is not being freed, or NULL.
 */
struct bpf_sk_region *bpf_sk_region_next(struct bpf_sk_region *region)
{
	struct list_head *node = region ? &region->node : &regions;

	do {
		/* Pairs with the grace period in region_op_free(). */
		node = rcu_dereference(list_next_rcu(node));
		if (node == &regions)
			return NULL;
		region = list_entry(node, struct bpf_sk_region, node);
	} while (!atomic64_read(&region->smap.map.refcnt));
	return region;
}

/**
 * bpf_sk_region_clone - copy what an accepted socket inherits in its reserve
 * @sk: the listener
 * @newsk: the new socket, which nobody else can see yet
 *
 * Context: Under rcu_read_lock(); does not sleep.
 */
void bpf_sk_region_clone(const struct sock *sk, struct sock *newsk)
{
	struct bpf_sk_region *region = NULL;
	struct bpf_map *map;
	void *value;
	u64 *cookie;

	while ((region = bpf_sk_region_next(region))) {
		map = &region->smap.map;
		if (!(map->map_flags & BPF_F_CLONE))
			continue;
		value = bpf_sk_region_lookup(sk, map);
		if (!value)
			continue;
		cookie = bpf_sk_region_cookie(newsk, region);
		bpf_local_storage_copy_value(map, cookie + 1, value);
		/* Pairs with the acquire in bpf_sk_region_lookup(). */
		smp_store_release(cookie, region->cookie);
	}
}

/* bpf(2), and the instructions of a lookup */

static void *region_op_lookup(void *owner, struct bpf_local_storage_map *smap)
{
	return bpf_sk_region_lookup(owner, &smap->map);
}

static void value_write(struct bpf_map *map, void *place, void *value,
			u64 flags)
{
	if (flags & BPF_F_LOCK)
		copy_map_value_locked(map, place, value, false);
	else
		copy_map_value(map, place, value);
}

static long region_op_update(void *owner, struct bpf_local_storage_map *smap,
			     void *value, u64 flags)
{
	struct bpf_sk_region *region = to_sk_region(&smap->map);
	u64 *cookie = bpf_sk_region_cookie(owner, region);
	bool found = bpf_sk_region_lookup(owner, &smap->map);
	int err = -EEXIST;

	if (!found && flags & BPF_EXIST)
		return -ENOENT;
	if (!found)
		err = region_create(region, cookie, value);
	if (err != -EEXIST || flags & BPF_NOEXIST)
		return err;
	value_write(&smap->map, cookie + 1, value, flags);
	return 0;
}

static long region_op_delete(void *owner, struct bpf_local_storage_map *smap)
{
	return bpf_sk_region_delete(owner, &smap->map);
}

/*
 * R0 = the value in socket R2.  On x86, where loads stay in order, it is found by
 * the socket's address alone, so that a store to it waits for nothing, as in
 * gen_slot().  Elsewhere the cookie found is a part of its address: the value
 * cannot be read before.
 */
static struct bpf_insn *
region_op_gen_lookup(struct bpf_insn *insn,
		     const struct bpf_local_storage_call *call)
{
	struct bpf_sk_region *region = to_sk_region(call->map);
	s16 value = sizeof(u64) - region->end - region->size;
	struct bpf_insn number[] = {
		BPF_LD_IMM64(BPF_REG_0, region->cookie),
	};

	insn = bpf_sk_storage_gen_checks(insn, call);
	if (!insn)
		return NULL;
	*insn++ = BPF_LDX_MEM(BPF_DW, BPF_REG_5, BPF_REG_2,
			      value - (s16)sizeof(u64));
	*insn++ = number[0];
	*insn++ = number[1];
	if (call->creates) {
		*insn++ = BPF_JMP_REG(BPF_JNE, BPF_REG_0, BPF_REG_5,
				      BPF_LOCAL_STORAGE_TO_HELPER);
	} else {
		*insn++ = BPF_JMP_REG(BPF_JEQ, BPF_REG_0, BPF_REG_5, 2);
		*insn++ = BPF_MOV64_IMM(BPF_REG_0, 0);
		*insn++ = BPF_JMP_A(BPF_LOCAL_STORAGE_IF_NULL);
	}
	if (BPF_LOCAL_STORAGE_LOADS_IN_ORDER) {
		*insn++ = BPF_MOV64_IMM(BPF_REG_0, value);
	} else {
		*insn++ = BPF_ALU64_REG(BPF_SUB, BPF_REG_0, BPF_REG_5);
		*insn++ = BPF_ALU64_IMM(BPF_ADD, BPF_REG_0, value);
	}
	*insn++ = BPF_ALU64_REG(BPF_ADD, BPF_REG_0, BPF_REG_2);
	return insn;
}

/* Maps */

/*
 * A number through a permutation with a secret key: it comes once only, and
 * nobody can leave the next one where it will be looked for.
 */
static u64 cookie_of(u64 number, const siphash_key_t *key)
{
	const u32 half = (64 - COOKIE_SHIFT) / 2, mask = BIT(half) - 1;
	u32 left = (number >> half) & mask, right = number & mask, i, mixed;

	for (i = 0; i < 4; i++) {
		mixed = (left ^ siphash_2u32(right, i, key)) & mask;
		left = right;
		right = mixed;
	}
	return ((u64)left << half | right) << COOKIE_SHIFT;
}

static u64 next_cookie(void)
{
	static siphash_key_t key;
	static u64 number;
	u64 cookie;

	lockdep_assert_held(&regions_lock);
	get_random_once(&key, sizeof(key));
	/* Zeroes are what a new socket has. */
	do {
		cookie = cookie_of(++number, &key);
	} while (!cookie);
	return cookie;
}

/* Take the first place with room; true, too, if there is none to wait for. */
static bool region_try(struct bpf_sk_region *new)
{
	struct list_head *before = &regions;
	struct bpf_sk_region *region;
	bool settled = true;
	u32 end = 0;

	/* Serialises with region_op_free(). */
	spin_lock(&regions_lock);
	list_for_each_entry(region, &regions, node) {
		if (region->end - end >= new->size)
			break;
		end = region->end + region->size;
		before = &region->node;
		if (bpf_local_storage_map_is_dying(&region->smap,
						   region->stuck))
			settled = false;
	}
	if (end + new->size <= bpf_sk_reserve) {
		new->end = end;
		new->cookie = next_cookie();
		list_add_rcu(&new->node, before);
		settled = true;
	}
	spin_unlock(&regions_lock);
	return settled;
}

/* Remember which maps did not leave, so that nobody waits for them again. */
static void regions_mark_stuck(void)
{
	struct bpf_sk_region *region;

	/* Serialises with region_try(). */
	spin_lock(&regions_lock);
	list_for_each_entry(region, &regions, node)
		if (bpf_local_storage_map_is_dying(&region->smap, false))
			region->stuck = true;
	spin_unlock(&regions_lock);
}

static int region_acquire(struct bpf_sk_region *region)
{
	long left;

	if (region->size > bpf_sk_reserve)
		return -ENOSPC;
	left = wait_event_killable_timeout(region_released, region_try(region),
					   REGION_WAIT);
	if (left < 0)
		return -EINTR;
	if (!left)
		regions_mark_stuck();
	return region->cookie ? 0 : -ENOSPC;
}

/**
 * bpf_sk_region_alloc - create a map whose values are parts of the sockets
 * @attr: of BPF_MAP_CREATE, checked
 *
 * Context: Process; sleeps.
 * Return: The map; -EOPNOTSUPP without a reserve, -ENOSPC if there is no room
 *	in it, -ENOMEM, or -EINTR if the caller is killed.
 */
struct bpf_map *bpf_sk_region_alloc(union bpf_attr *attr)
{
	struct bpf_sk_region *region;
	int err;

	if (!bpf_sk_reserve)
		return ERR_PTR(-EOPNOTSUPP);
	region = bpf_map_area_alloc(sizeof(*region), NUMA_NO_NODE);
	if (!region)
		return ERR_PTR(-ENOMEM);
	bpf_local_storage_map_init(&region->smap, attr, &bpf_sk_region_kind);
	region->size = sizeof(u64) + round_up(attr->value_size, 8);
	err = region_acquire(region);
	if (!err)
		return &region->smap.map;
	bpf_map_area_free(region);
	return ERR_PTR(err);
}

static void region_op_free(struct bpf_local_storage_map *smap)
{
	struct bpf_sk_region *region = to_sk_region(&smap->map);

	/* Pairs with the readers who have met the map alive: on its values. */
	synchronize_rcu();
	/* Serialises with region_try(). */
	spin_lock(&regions_lock);
	list_del_rcu(&region->node);
	spin_unlock(&regions_lock);
	wake_up(&region_released);
	/* Pairs with walks over the list, which may stand on the map. */
	synchronize_rcu();
	bpf_map_area_free(region);
}

const struct bpf_local_storage_region_ops bpf_sk_region_ops = {
	.lookup = region_op_lookup,
	.update = region_op_update,
	.delete = region_op_delete,
	.free = region_op_free,
	.gen_lookup = region_op_gen_lookup,
};
