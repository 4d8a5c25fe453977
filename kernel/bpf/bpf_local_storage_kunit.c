// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of local storage's core: what they share.  Those of values, slots and
 * the index, failures, and walks and copies are in files of their own.
 */
#include <linux/minmax.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <trace/events/kmem.h>
#include "bpf_local_storage_kunit.h"

#define MAX_OWNERS		512
#define MAX_MAPS		1024
#define MAX_VALUE_SIZE		SZ_16K
/* As many as a test has at once: values, storages and indexes. */
#define MAX_BLOCKS		4096

DEFINE_BPF_LOCAL_STORAGE_SLOTS(test_slots);

static int test_charge(void *of, u32 size)
{
	struct test_owner *owner = of;

	if (owner->on_charge)
		owner->on_charge(owner);
	if (!owner->charges_left)
		return -ENOMEM;
	if (owner->charges_left > 0)
		owner->charges_left--;
	atomic_add(size, &owner->charged);
	return 0;
}

static notrace void test_uncharge(void *of, u32 size)
{
	struct test_owner *owner = of;

	if (owner->on_uncharge)
		owner->on_uncharge(owner, size);
	atomic_sub(size, &owner->charged);
}

const struct bpf_local_storage_kind test_kind = {
	.pointer = offsetof(struct test_owner, storage),
	.charge = test_charge,
	.uncharge = test_uncharge,
	.slots = &test_slots,
};

/* Blocks that the core has and that kmalloc() gave it for this task. */

static struct {
	raw_spinlock_t lock; /* of the rest */
	bool registered;
	struct task_struct *task;
	int nr;
	const void *blocks[MAX_BLOCKS];
} counted = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(counted.lock),
};

static int counted_find(const void *ptr)
{
	int i;

	for (i = counted.nr; i--;)
		if (counted.blocks[i] == ptr)
			break;
	return i;
}

static void count_kmalloc(void *data, unsigned long call_site, const void *ptr,
			  size_t bytes_req, size_t bytes_alloc, gfp_t gfp,
			  int node)
{
	unsigned long flags;

	if (READ_ONCE(counted.task) != current || !in_task() || !ptr)
		return;
	raw_spin_lock_irqsave(&counted.lock, flags);
	/* Of large blocks we are told twice. */
	if (counted_find(ptr) < 0 && !WARN_ON_ONCE(counted.nr == MAX_BLOCKS))
		counted.blocks[counted.nr++] = ptr;
	raw_spin_unlock_irqrestore(&counted.lock, flags);
}

static void count_kfree(void *data, unsigned long call_site, const void *ptr)
{
	unsigned long flags;
	int i;

	raw_spin_lock_irqsave(&counted.lock, flags);
	i = counted_find(ptr);
	if (i >= 0)
		counted.blocks[i] = counted.blocks[--counted.nr];
	raw_spin_unlock_irqrestore(&counted.lock, flags);
}

/* Where there are no tracepoints, blocks are not counted. */
int test_suite_init(struct kunit_suite *suite)
{
	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return 0;
	counted.registered = !register_trace_kmalloc(count_kmalloc, NULL) &&
			     !register_trace_kfree(count_kfree, NULL);
	return counted.registered ? 0 : -EINVAL;
}

void test_suite_exit(struct kunit_suite *suite)
{
	if (!counted.registered)
		return;
	unregister_trace_kfree(count_kfree, NULL);
	unregister_trace_kmalloc(count_kmalloc, NULL);
	tracepoint_synchronize_unregister();
	counted.registered = false;
}

bool test_blocks_are_counted(void)
{
	return counted.registered;
}

int test_blocks(void)
{
	return READ_ONCE(counted.nr);
}

/* True, too, if nobody knows. */
bool test_is_allocated(const void *block)
{
	unsigned long flags;
	bool found;

	raw_spin_lock_irqsave(&counted.lock, flags);
	found = counted_find(block) >= 0;
	raw_spin_unlock_irqrestore(&counted.lock, flags);
	return found || !counted.registered;
}

/* A call of the core's begins or ends. */

static void call_enter(void)
{
	rcu_read_lock();
	WRITE_ONCE(counted.task, current);
}

static void call_exit(void)
{
	WRITE_ONCE(counted.task, NULL);
	rcu_read_unlock();
}

bool test_can_fail_allocations(void)
{
	return IS_ENABLED(CONFIG_FAILSLAB);
}

/* The nth allocation of this task fails, for 1; or none any more, for 0. */
void test_fail_allocation(int nth)
{
#ifdef CONFIG_FAULT_INJECTION
	current->fail_nth = nth;
#endif
}

/* What a test has: ended with it, in whatever way it ends. */
struct test_fixture {
	struct test_owner owners[MAX_OWNERS];
	struct bpf_local_storage_map *maps[MAX_MAPS];
	int nr_owners;
	u8 value[MAX_VALUE_SIZE];
};

int test_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct test_fixture),
				   GFP_KERNEL);
	return test->priv ? 0 : -ENOMEM;
}

void test_exit(struct kunit *test)
{
	struct test_fixture *fixture = test->priv;
	int i;

	if (!fixture)
		return;
	test_fail_allocation(0);
	for (i = 0; i < fixture->nr_owners; i++)
		test_destroy(&fixture->owners[i]);
	for (i = 0; i < MAX_MAPS; i++)
		if (fixture->maps[i])
			test_map_free(test, fixture->maps[i]);
	bpf_local_storage_barrier();
	for (i = 0; i < fixture->nr_owners; i++)
		KUNIT_EXPECT_EQ(test, atomic_read(&fixture->owners[i].charged),
				0);
	for (i = 0; i < BPF_LOCAL_STORAGE_SLOTS; i++)
		KUNIT_EXPECT_NULL(test, test_slots.map[i]);
	KUNIT_EXPECT_EQ(test, test_slots.nr, BPF_LOCAL_STORAGE_MIN_SLOTS);
	KUNIT_EXPECT_EQ(test, test_blocks(), 0);
	counted.nr = 0;
}

struct test_owner *test_owner(struct kunit *test)
{
	struct test_fixture *fixture = test->priv;
	struct test_owner *owner = &fixture->owners[fixture->nr_owners];

	KUNIT_ASSERT_LT(test, fixture->nr_owners, MAX_OWNERS);
	fixture->nr_owners++;
	owner->charges_left = TEST_UNLIMITED;
	return owner;
}

void test_destroy(struct test_owner *owner)
{
	bpf_local_storage_destroy(owner, &test_kind);
}

/* A map, or an error. */
struct bpf_local_storage_map *test_try_map(struct kunit *test, u32 value_size,
					   u32 flags)
{
	struct test_fixture *fixture = test->priv;
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SK_STORAGE,
		.key_size = sizeof(int),
		.value_size = value_size,
		.map_flags = BPF_F_NO_PREALLOC | flags,
	};
	struct bpf_map *map;
	int i;

	for (i = 0; fixture->maps[i]; i++)
		KUNIT_ASSERT_LT(test, i, MAX_MAPS - 1);
	map = bpf_local_storage_map_alloc(&attr, &test_kind);
	if (IS_ERR(map))
		return ERR_CAST(map);
	fixture->maps[i] = to_local_storage_map(map);
	return fixture->maps[i];
}

struct bpf_local_storage_map *test_map(struct kunit *test, u32 value_size,
				       u32 flags)
{
	struct bpf_local_storage_map *smap;

	smap = test_try_map(test, value_size, flags);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, smap);
	return smap;
}

void test_maps(struct kunit *test, struct bpf_local_storage_map **smaps, int nr,
	       u32 flags)
{
	int i;

	for (i = 0; i < nr; i++)
		smaps[i] = test_map(test, sizeof(u64), flags);
}

void test_map_free(struct kunit *test, struct bpf_local_storage_map *smap)
{
	struct test_fixture *fixture = test->priv;
	int i;

	for (i = 0; fixture->maps[i] != smap; i++)
		KUNIT_ASSERT_LT(test, i, MAX_MAPS - 1);
	fixture->maps[i] = NULL;
	bpf_local_storage_map_free(&smap->map);
}

/* What a value begins with: as much of the number as there is room for. */
static void value_fill(struct bpf_local_storage_map *smap, u8 *value,
		       u64 number)
{
	u32 size = smap->map.value_size;

	memcpy(value, &number, min_t(u32, sizeof(number), size));
}

/* The new value, or an error. */
void *test_create(struct test_owner *owner, struct bpf_local_storage_map *smap,
		  u64 number)
{
	void *value;

	call_enter();
	value = bpf_local_storage_create(owner, smap, NULL, GFP_ATOMIC);
	if (!IS_ERR(value))
		value_fill(smap, value, number);
	call_exit();
	return value;
}

long test_update(struct kunit *test, struct test_owner *owner,
		 struct bpf_local_storage_map *smap, u64 number, u64 flags)
{
	struct test_fixture *fixture = test->priv;
	long err;

	value_fill(smap, fixture->value, number);
	call_enter();
	err = bpf_local_storage_update(owner, smap, fixture->value, flags);
	call_exit();
	return err;
}

long test_delete(struct test_owner *owner, struct bpf_local_storage_map *smap)
{
	long err;

	call_enter();
	err = bpf_local_storage_delete(owner, smap);
	call_exit();
	return err;
}

void *test_lookup(struct test_owner *owner, struct bpf_local_storage_map *smap)
{
	void *value;

	rcu_read_lock();
	value = bpf_local_storage_get(owner, &smap->map, NULL, 0, GFP_ATOMIC);
	rcu_read_unlock();
	return value;
}

u64 test_get(struct test_owner *owner, struct bpf_local_storage_map *smap)
{
	u64 number = TEST_NOTHING;
	void *value;

	rcu_read_lock();
	value = bpf_local_storage_get(owner, &smap->map, NULL, 0, GFP_ATOMIC);
	if (value) {
		number = 0;
		memcpy(&number, value,
		       min_t(u32, sizeof(number), smap->map.value_size));
	}
	rcu_read_unlock();
	return number;
}

int test_clone(struct test_owner *from, struct test_owner *owner)
{
	int err;

	call_enter();
	err = bpf_local_storage_clone(owner_storage(from, &test_kind), owner,
				      &test_kind);
	call_exit();
	return err;
}

/* Nobody else changes anything meanwhile. */

struct bpf_local_storage *test_storage(struct test_owner *owner)
{
	return rcu_dereference_raw(owner->storage);
}

struct bpf_local_storage_index *test_index(struct test_owner *owner)
{
	return rcu_dereference_raw(test_storage(owner)->index);
}

static bool is_linked(struct bpf_local_storage_bucket *bucket,
		      const struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage_elem *other;
	unsigned int times = 0;

	hlist_for_each_entry(other, &bucket->elems, map_node)
		times += other == elem;
	return times == 1;
}

/* Bytes of an element that are no other block's; sees whether it is linked. */
static u32 check_elem(struct kunit *test, struct test_owner *owner,
		      struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage *storage = test_storage(owner);
	struct bpf_local_storage_map *smap = elem->map;

	KUNIT_EXPECT_PTR_EQ(test, elem_storage(elem), storage);
	KUNIT_EXPECT_PTR_EQ(test, elem_value(elem), test_lookup(owner, smap));
	KUNIT_EXPECT_TRUE(test, is_linked(map_bucket(smap, owner), elem));
	KUNIT_EXPECT_TRUE(test, smap->had_elems);
	return elem_is_embedded(storage, elem) ? 0 : elem_size(smap);
}

/* Bytes of the index, whose numbers of cells must be right. */
static u32 check_index(struct kunit *test,
		       const struct bpf_local_storage_index *index)
{
	u32 i, keys = 0, live = 0;

	if (!index)
		return 0;
	for (i = 0; i <= index->mask; i++) {
		keys += !!index->cells[i].map;
		live += !!rcu_access_pointer(index->cells[i].value);
	}
	KUNIT_EXPECT_EQ(test, index->keys, keys);
	KUNIT_EXPECT_EQ(test, index->live, live);
	KUNIT_EXPECT_LE(test, keys * 4, (index->mask + 1) * 3);
	return index_size(index);
}

/* Whether all that an owner keeps fits together, and is charged to the byte. */
void test_check(struct kunit *test, struct test_owner *owner)
{
	struct bpf_local_storage *storage = test_storage(owner);
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	u32 bytes, nr = 0, used = 0;
	int i;

	if (!storage || !storage->owner) {
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), 0);
		return;
	}
	KUNIT_EXPECT_PTR_EQ(test, storage->owner, (void *)owner);
	for (i = 0; i < storage->nr_slots; i++)
		used += !!rcu_access_pointer(storage->slots[i]);
	KUNIT_EXPECT_EQ(test, storage->nr_used_slots, used);
	bytes = storage_size(storage) + check_index(test, test_index(owner));
	rcu_read_lock();
	bpf_local_storage_iter_init(&iter, storage);
	while ((elem = bpf_local_storage_iter_next(&iter))) {
		bytes += check_elem(test, owner, elem);
		nr++;
	}
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, nr, used + (test_index(owner) ?
					  test_index(owner)->live : 0));
	/* Storages go with their last value. */
	KUNIT_EXPECT_GT(test, nr, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), bytes);
}

/* Whether a map counts what is linked to it. */
void test_check_map(struct kunit *test, struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage_elem *elem;
	u32 i, nr;

	for (i = 0; i < BIT(smap->bucket_bits); i++) {
		nr = 0;
		hlist_for_each_entry(elem, &smap->buckets[i].elems, map_node)
			nr += elem->tagged_storage != 0;
		KUNIT_EXPECT_EQ(test, smap->buckets[i].count, nr);
	}
}
