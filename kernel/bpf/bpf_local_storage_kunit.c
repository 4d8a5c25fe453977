// SPDX-License-Identifier: GPL-2.0
/* Tests of local storage's core, with owners that nothing else has. */
#include <kunit/test.h>
#include <linux/align.h>
#include <linux/atomic.h>
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/irqflags.h>
#include <linux/rcupdate.h>

/* Lists of free blocks are refilled a moment after they were found empty. */
#define ATTEMPTS	100

struct test_owner {
	struct bpf_local_storage __rcu *storage;
};

static atomic_t charged;

static int test_charge(void *owner, u32 size)
{
	atomic_add(size, &charged);
	return 0;
}

static notrace void test_uncharge(void *owner, u32 size)
{
	atomic_sub(size, &charged);
}

static DEFINE_BPF_LOCAL_STORAGE_SLOTS(test_slots);

static const struct bpf_local_storage_kind test_kind = {
	.pointer = offsetof(struct test_owner, storage),
	.charge = test_charge,
	.uncharge = test_uncharge,
	.slots = &test_slots,
};

/* Where the memory of a value comes from. */
enum test_memory {
	KMALLOC,
	SHARED_LISTS,
	LISTS_OF_THE_MAP,
};

static struct bpf_map *test_map(struct kunit *test, u32 value_size)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SK_STORAGE,
		.key_size = sizeof(int),
		.value_size = value_size,
		.map_flags = BPF_F_NO_PREALLOC,
	};
	struct bpf_map *map = bpf_local_storage_map_alloc(&attr, &test_kind);

	KUNIT_ASSERT_FALSE(test, IS_ERR(map));
	return map;
}

/* A new value, or an error. */
static void *test_create(struct test_owner *owner, struct bpf_map *map,
			 enum test_memory memory)
{
	unsigned long flags = 0;
	void *value;

	rcu_read_lock();
	if (memory != KMALLOC)
		local_irq_save(flags);
	value = bpf_local_storage_create(owner, to_local_storage_map(map), NULL,
					 GFP_ATOMIC);
	if (memory != KMALLOC)
		local_irq_restore(flags);
	rcu_read_unlock();
	return value;
}

static void *test_create_at_last(struct test_owner *owner, struct bpf_map *map,
				 enum test_memory memory)
{
	void *value;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		value = test_create(owner, map, memory);
		if (!IS_ERR(value))
			break;
		msleep(20);
	}
	return value;
}

struct test_place {
	u32 value_size;
	enum test_memory memory;
	const char *name;
};

static const struct test_place test_places[] = {
	{ 1, KMALLOC, "1 byte, kmalloc" },
	{ 8, KMALLOC, "8 bytes, kmalloc" },
	{ 250, KMALLOC, "250 bytes, kmalloc" },
	{ 1000, KMALLOC, "1000 bytes, kmalloc" },
	{ 1, SHARED_LISTS, "1 byte, shared lists" },
	{ 8, SHARED_LISTS, "8 bytes, shared lists" },
	{ 250, SHARED_LISTS, "250 bytes, shared lists" },
	{ 1000, SHARED_LISTS, "1000 bytes, shared lists" },
	{ 1, LISTS_OF_THE_MAP, "1 byte, lists of the map" },
	{ 8, LISTS_OF_THE_MAP, "8 bytes, lists of the map" },
	{ 250, LISTS_OF_THE_MAP, "250 bytes, lists of the map" },
	{ 1000, LISTS_OF_THE_MAP, "1000 bytes, lists of the map" },
	{ 9000, LISTS_OF_THE_MAP, "9000 bytes, lists of the map" },
};

static void test_place_describe(const struct test_place *place, char *text)
{
	strscpy(text, place->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_place, test_places, test_place_describe);

/* Of an owner's first value, which is in its storage, and of the others. */
static void test_values_are_aligned(struct kunit *test)
{
	const struct test_place *place = test->param_value;
	struct test_owner owner = {};
	struct bpf_map *maps[3];
	void *value;
	int i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		maps[i] = test_map(test, place->value_size);
		if (place->memory == LISTS_OF_THE_MAP)
			KUNIT_ASSERT_TRUE(test,
					  bpf_local_storage_meta_equal(maps[i],
								       maps[i]));
		value = test_create_at_last(&owner, maps[i], place->memory);
		KUNIT_ASSERT_FALSE(test, IS_ERR(value));
		/* As 64-bit numbers in it want to be, on 32 bits, too. */
		KUNIT_EXPECT_TRUE(test, IS_ALIGNED((unsigned long)value, 8));
		KUNIT_EXPECT_GE(test, atomic_read(&charged),
				(i + 1) * place->value_size);
	}
	KUNIT_EXPECT_TRUE(test, IS_ALIGNED((unsigned long)
					   rcu_access_pointer(owner.storage),
					   8));
	bpf_local_storage_destroy(&owner, &test_kind);
	KUNIT_EXPECT_EQ(test, atomic_read(&charged), 0);
	for (i = 0; i < ARRAY_SIZE(maps); i++)
		bpf_local_storage_map_free(maps[i]);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(test_values_are_aligned, test_place_gen_params),
	{}
};

static struct kunit_suite test_suite = {
	.name = "bpf_local_storage",
	.test_cases = test_cases,
};

kunit_test_suite(test_suite);
