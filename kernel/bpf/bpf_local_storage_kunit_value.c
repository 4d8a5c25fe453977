// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of local storage's values: where they are, how long they last, and
 * what is charged for them.
 */
#include <linux/align.h>
#include <linux/btf.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include "bpf_local_storage_kunit.h"

/* Lists of free blocks are refilled a moment after they were found empty. */
#define ATTEMPTS		100

/* Where the memory of a value comes from. */
enum test_memory {
	KMALLOC,
	SHARED_LISTS,
	LISTS_OF_THE_MAP,
};

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

static void *create_from(struct test_owner *owner,
			 struct bpf_local_storage_map *smap,
			 enum test_memory memory)
{
	unsigned long flags = 0;
	void *value;

	if (memory != KMALLOC)
		local_irq_save(flags);
	value = test_create(owner, smap, 0);
	if (memory != KMALLOC)
		local_irq_restore(flags);
	return value;
}

static void *create_at_last(struct test_owner *owner,
			    struct bpf_local_storage_map *smap,
			    enum test_memory memory)
{
	void *value;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		value = create_from(owner, smap, memory);
		if (!IS_ERR(value))
			break;
		msleep(20);
	}
	return value;
}

static void give_lists(struct kunit *test, struct bpf_local_storage_map *smap)
{
	KUNIT_ASSERT_TRUE(test, bpf_local_storage_meta_equal(&smap->map,
							     &smap->map));
}

/* Of an owner's first value, which is in its storage, and of the others. */
static void values_are_aligned(struct kunit *test)
{
	const struct test_place *place = test->param_value;
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smap;
	void *value;
	int i;

	for (i = 0; i < 3; i++) {
		smap = test_map(test, place->value_size, 0);
		if (place->memory == LISTS_OF_THE_MAP)
			give_lists(test, smap);
		value = create_at_last(owner, smap, place->memory);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, value);
		/* As 64-bit numbers in it want to be, on 32 bits, too. */
		KUNIT_EXPECT_TRUE(test, IS_ALIGNED((unsigned long)value, 8));
		test_check(test, owner);
	}
	KUNIT_EXPECT_TRUE(test, IS_ALIGNED((unsigned long)test_storage(owner),
					   8));
}

/* What others have given back to lists that are shared is as they left it. */
static void dirty_shared_lists(void)
{
	/* With the allocator's header, as large as its blocks are. */
	static const u32 sizes[] = { 88, 120, 184, 248, 504, 1016, 2040 };
	void *blocks[4];
	int i, nr;

	migrate_disable();
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (nr = 0; nr < ARRAY_SIZE(blocks); nr++) {
			blocks[nr] = bpf_mem_alloc(&bpf_global_ma, sizes[i]);
			if (!blocks[nr])
				break;
			memset(blocks[nr], 0xff, sizes[i]);
		}
		while (nr--)
			bpf_mem_free(&bpf_global_ma, blocks[nr]);
	}
	migrate_enable();
}

static void values_begin_with_zeroes(struct kunit *test)
{
	const struct test_place *place = test->param_value;
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smap;
	void *value;
	int round;

	smap = test_map(test, place->value_size, 0);
	if (place->memory == LISTS_OF_THE_MAP)
		give_lists(test, smap);
	/* The memory of the round before may come again. */
	for (round = 0; round < 5; round++) {
		if (place->memory == SHARED_LISTS)
			dirty_shared_lists();
		value = create_at_last(owner, smap, place->memory);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, value);
		KUNIT_EXPECT_NULL(test, memchr_inv(value, 0,
						   place->value_size));
		memset(value, 0xff, place->value_size);
		KUNIT_EXPECT_EQ(test, test_delete(owner, smap), 0L);
		bpf_local_storage_barrier();
	}
}

static u64 *get_or_create(struct test_owner *owner,
			  struct bpf_local_storage_map *smap, u64 *number)
{
	u64 *value;

	rcu_read_lock();
	value = bpf_local_storage_get(owner, &smap->map, number,
				      BPF_LOCAL_STORAGE_GET_F_CREATE,
				      GFP_ATOMIC);
	rcu_read_unlock();
	return value;
}

static void a_program_may_name_the_first_value(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[3];
	u64 number, *value;
	int i;

	test_maps(test, smaps, 2, 0);
	test_maps(test, &smaps[2], 1, BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < ARRAY_SIZE(smaps); i++) {
		number = i + 5;
		value = get_or_create(owner, smaps[i], &number);
		KUNIT_EXPECT_NOT_NULL(test, value);
		/* What is there stays what it is. */
		number = 0;
		KUNIT_EXPECT_PTR_EQ(test, value,
				    get_or_create(owner, smaps[i], &number));
		rcu_read_lock();
		KUNIT_EXPECT_PTR_EQ(test, value,
				    bpf_local_storage_create(owner, smaps[i],
							     &number,
							     GFP_ATOMIC));
		rcu_read_unlock();
		KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]), (u64)i + 5);
		test_check(test, owner);
	}
}

/* Counted in blocks, and in bytes without asking the core for a size. */
static void the_first_value_is_in_its_storage(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	const u32 head = sizeof(struct bpf_local_storage) +
			 BPF_LOCAL_STORAGE_MIN_SLOTS * sizeof(void *);
	const u32 elem = sizeof(struct bpf_local_storage_elem);
	struct bpf_local_storage_map *first = test_map(test, 250, 0);
	struct bpf_local_storage_map *second = test_map(test, 1, 0);
	int blocks = test_blocks_are_counted();

	TEST_ADD(test, owner, first, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), head + 256);
	KUNIT_EXPECT_EQ(test, test_blocks(), blocks);
	TEST_ADD(test, owner, second, 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged),
			head + 256 + elem + 8);
	KUNIT_EXPECT_EQ(test, test_blocks(), 2 * blocks);
	/* Its memory stays, and is paid for, as long as the storage. */
	TEST_DROP(test, owner, first);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged),
			head + 256 + elem + 8);
	TEST_DROP(test, owner, second);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), 0);
	KUNIT_EXPECT_NULL(test, test_storage(owner));
}

static void a_large_first_value_is_not(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	const u32 head = sizeof(struct bpf_local_storage) +
			 BPF_LOCAL_STORAGE_MIN_SLOTS * sizeof(void *);
	const u32 elem = sizeof(struct bpf_local_storage_elem);
	struct bpf_local_storage_map *large = test_map(test, 257, 0);
	struct bpf_local_storage_map *small = test_map(test, 8, 0);

	TEST_ADD(test, owner, large, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), head + elem + 264);
	TEST_ADD(test, owner, small, 2);
	TEST_DROP(test, owner, large);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), head + elem + 8);
	test_check(test, owner);
}

static void updates_obey_their_flags(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[3];
	int i, before;

	test_maps(test, smaps, 2, 0);
	test_maps(test, &smaps[2], 1, BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < ARRAY_SIZE(smaps); i++) {
		before = atomic_read(&owner->charged);
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 1,
						  BPF_EXIST), -ENOENT);
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 1,
						  BPF_EXIST + 1), -EINVAL);
		/* It is for values that have a lock. */
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 1,
						  BPF_F_LOCK), -EINVAL);
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), before);
		KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]), TEST_NOTHING);
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 2,
						  BPF_NOEXIST), 0);
		test_check(test, owner);
		before = atomic_read(&owner->charged);
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 3,
						  BPF_NOEXIST), -EEXIST);
		KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]), 2);
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), before);
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 4,
						  BPF_EXIST), 0);
		KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]), 4);
		test_check(test, owner);
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i], 5,
						  BPF_ANY), 0);
		KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]), 5);
		test_check(test, owner);
	}
}

/* How long values last */

/* Every order in which three values can go. */
static const int orders[][3] = {
	{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 },
	{ 2, 1, 0 },
};

/* Without a slot, too: the last of them is in the index. */
static void a_storage_goes_with_its_last_value(struct kunit *test)
{
	static const u32 sizes[] = { 8, 1000 };
	struct bpf_local_storage_map *smaps[3];
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage *storage;
	int i, k, n;

	for (n = 0; n < ARRAY_SIZE(orders) * ARRAY_SIZE(sizes); n++) {
		const int *order = orders[n % ARRAY_SIZE(orders)];

		for (i = 0; i < 3; i++)
			smaps[i] = test_map(test, sizes[n / ARRAY_SIZE(orders)],
					    i == 2 ? BPF_F_STORAGE_NO_SLOT : 0);
		for (i = 0; i < 3; i++)
			TEST_ADD(test, owner, smaps[i], i);
		storage = test_storage(owner);
		for (i = 0; i < 3; i++) {
			KUNIT_ASSERT_PTR_EQ(test, test_storage(owner), storage);
			test_check(test, owner);
			TEST_DROP(test, owner, smaps[order[i]]);
			KUNIT_EXPECT_EQ(test,
					test_delete(owner, smaps[order[i]]),
					-ENOENT);
			for (k = i + 1; k < 3; k++)
				KUNIT_EXPECT_EQ(test,
						test_get(owner,
							 smaps[order[k]]),
						(u64)order[k]);
		}
		KUNIT_EXPECT_NULL(test, test_storage(owner));
		test_check(test, owner);
		bpf_local_storage_barrier();
		KUNIT_EXPECT_EQ(test, test_blocks(), 0);
		for (i = 0; i < 3; i++)
			test_map_free(test, smaps[i]);
	}
}

/* The same, where maps go in place of values. */
static void a_storage_goes_with_its_last_map(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[3];
	struct test_owner *owner = test_owner(test);
	int i, n;

	for (n = 0; n < ARRAY_SIZE(orders); n++) {
		test_maps(test, smaps, 2, 0);
		test_maps(test, &smaps[2], 1, BPF_F_STORAGE_NO_SLOT);
		for (i = 0; i < 3; i++)
			TEST_ADD(test, owner, smaps[i], i);
		for (i = 0; i < 3; i++) {
			test_check(test, owner);
			test_map_free(test, smaps[orders[n][i]]);
		}
		KUNIT_EXPECT_NULL(test, test_storage(owner));
		test_check(test, owner);
		bpf_local_storage_barrier();
		KUNIT_EXPECT_EQ(test, test_blocks(), 0);
	}
}

static void a_first_value_can_be_made_again(struct kunit *test)
{
	struct bpf_local_storage_map *first = test_map(test, 8, 0);
	struct bpf_local_storage_map *second = test_map(test, 8, 0);
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage *storage;
	int round, before;
	u64 *embedded;

	TEST_ADD(test, owner, first, 1);
	TEST_ADD(test, owner, second, 2);
	storage = test_storage(owner);
	embedded = test_lookup(owner, first);
	before = atomic_read(&owner->charged);
	rcu_read_lock_trace();
	for (round = 0; round < 3; round++) {
		TEST_DROP(test, owner, first);
		test_check(test, owner);
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), before);
		TEST_ADD(test, owner, first, 3 + round);
		test_check(test, owner);
		/* Readers may still see what was there. */
		KUNIT_EXPECT_PTR_NE(test, test_lookup(owner, first),
				    (void *)embedded);
		KUNIT_EXPECT_EQ(test, *embedded, 1);
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged),
				before + elem_size(first));
	}
	rcu_read_unlock_trace();
	/* The new one is none of the storage's, so it goes before it. */
	TEST_DROP(test, owner, first);
	bpf_local_storage_barrier();
	KUNIT_EXPECT_TRUE(test, test_is_allocated(storage));
	KUNIT_EXPECT_EQ(test, *embedded, 1);
	KUNIT_EXPECT_EQ(test, test_get(owner, second), 2);
	KUNIT_EXPECT_EQ(test, test_blocks(), 2 * test_blocks_are_counted());
	TEST_DROP(test, owner, second);
}

/* A value that is replaced or deleted is there until its readers are gone. */
static void readers_keep_what_they_found(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[3];
	u64 *values[3], *newer[3];
	const void *index, *storage;
	int i;

	test_maps(test, smaps, 2, 0);
	test_maps(test, &smaps[2], 1, BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < 3; i++) {
		TEST_ADD(test, owner, smaps[i], 10 + i);
		values[i] = test_lookup(owner, smaps[i]);
	}
	storage = test_storage(owner);
	index = test_index(owner);
	rcu_read_lock_trace();
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i],
						  20 + i, BPF_EXIST), 0);
		newer[i] = test_lookup(owner, smaps[i]);
		KUNIT_EXPECT_PTR_NE(test, newer[i], values[i]);
		KUNIT_EXPECT_EQ(test, *values[i], 10 + i);
		test_check(test, owner);
	}
	for (i = 0; i < 3; i++)
		TEST_DROP(test, owner, smaps[i]);
	KUNIT_EXPECT_NULL(test, test_storage(owner));
	/* A grace period of RCU alone is not enough. */
	synchronize_rcu();
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, *values[i], 10 + i);
		KUNIT_EXPECT_EQ(test, *newer[i], 20 + i);
	}
	KUNIT_EXPECT_TRUE(test, test_is_allocated(storage));
	KUNIT_EXPECT_TRUE(test, test_is_allocated(index));
	KUNIT_EXPECT_EQ(test, test_blocks(), 7 * test_blocks_are_counted());
	rcu_read_unlock_trace();
	bpf_local_storage_barrier();
	KUNIT_EXPECT_EQ(test, test_blocks(), 0);
}

static void destroy_takes_all_at_once(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[20];
	struct test_owner *owner, *other = test_owner(test);
	int i, nr;

	test_maps(test, smaps, ARRAY_SIZE(smaps), 0);
	for (nr = 0; nr <= ARRAY_SIZE(smaps); nr++) {
		owner = test_owner(test);
		for (i = 0; i < nr; i++) {
			TEST_ADD(test, owner, smaps[i], i);
			KUNIT_EXPECT_EQ(test, test_update(test, other, smaps[i],
							  nr, BPF_ANY), 0);
		}
		test_check(test, owner);
		test_destroy(owner);
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), 0);
		for (i = 0; i < nr; i++) {
			KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]),
					TEST_NOTHING);
			KUNIT_EXPECT_EQ(test, test_get(other, smaps[i]),
					(u64)nr);
			test_check_map(test, smaps[i]);
		}
		if (nr)
			test_check(test, other);
	}
}

static void a_destroyed_owner_gets_nothing(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[2];
	struct test_owner *owner;
	void *value;
	int i, kept;

	test_maps(test, smaps, 1, 0);
	test_maps(test, &smaps[1], 1, BPF_F_STORAGE_NO_SLOT);
	for (kept = 0; kept <= 2; kept++) {
		owner = test_owner(test);
		for (i = 0; i < kept; i++)
			TEST_ADD(test, owner, smaps[i], i);
		test_destroy(owner);
		test_destroy(owner);
		for (i = 0; i < 2; i++) {
			value = test_create(owner, smaps[i], 1);
			KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(value), -ENOENT);
			KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i],
							  1, BPF_ANY), -ENOENT);
			KUNIT_EXPECT_EQ(test, test_update(test, owner, smaps[i],
							  1, BPF_NOEXIST),
					-ENOENT);
			KUNIT_EXPECT_EQ(test, test_delete(owner, smaps[i]),
					-ENOENT);
			KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]),
					TEST_NOTHING);
		}
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), 0);
	}
}

/* An object that is copied byte by byte has the pointer of the original. */
static void a_copied_pointer_changes_nothing(struct kunit *test)
{
	struct test_owner *owner = test_owner(test), *copy = test_owner(test);
	struct bpf_local_storage_map *smaps[2];
	int before;

	test_maps(test, smaps, 2, 0);
	TEST_ADD(test, owner, smaps[0], 1);
	before = atomic_read(&owner->charged);
	rcu_assign_pointer(copy->storage, test_storage(owner));
	KUNIT_EXPECT_EQ(test, test_delete(copy, smaps[0]), -ENOENT);
	KUNIT_EXPECT_EQ(test, test_update(test, copy, smaps[0], 2, BPF_ANY),
			-ENOENT);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(test_create(copy, smaps[1], 2)),
			-ENOENT);
	RCU_INIT_POINTER(copy->storage, NULL);
	KUNIT_EXPECT_EQ(test, test_get(owner, smaps[0]), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), before);
	KUNIT_EXPECT_EQ(test, atomic_read(&copy->charged), 0);
	test_check(test, owner);
}

/* Values with fields that BTF knows */

/* The field comes last, so that what is before it is the rest of the value. */
#define FIELD_OFFSET		8
#define FIELD_VALUE_SIZE	16

static atomic_t released;

static void release(void *object)
{
	atomic_inc(&released);
}

static struct bpf_local_storage_map *
map_with_field(struct kunit *test, u32 flags, enum btf_field_type type)
{
	struct bpf_local_storage_map *smap;
	struct btf_record *record;
	struct btf_field *field;

	smap = test_map(test, FIELD_VALUE_SIZE, flags);
	record = kunit_kzalloc(test, struct_size(record, fields, 1),
			       GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, record);
	record->cnt = 1;
	record->field_mask = type;
	record->spin_lock_off = type == BPF_SPIN_LOCK ? FIELD_OFFSET : -EINVAL;
	field = &record->fields[0];
	field->offset = FIELD_OFFSET;
	field->size = type == BPF_SPIN_LOCK ? sizeof(struct bpf_spin_lock) :
					      sizeof(void *);
	field->type = type;
	if (type == BPF_KPTR_REF) {
		/* All that is asked is whether it is the kernel's: yes. */
		field->kptr.btf = kunit_kmalloc(test, SZ_4K, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, field->kptr.btf);
		memset((void *)field->kptr.btf, true, SZ_4K);
		KUNIT_ASSERT_TRUE(test, btf_is_kernel(field->kptr.btf));
		field->kptr.dtor = release;
	}
	smap->map.record = record;
	return smap;
}

static void updates_with_lock_write_in_place(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smap;
	void *value;

	smap = map_with_field(test, 0, BPF_SPIN_LOCK);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 1,
					  BPF_F_LOCK | BPF_EXIST), -ENOENT);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 1, BPF_F_LOCK), 0);
	value = test_lookup(owner, smap);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 2, BPF_F_LOCK), 0);
	KUNIT_EXPECT_PTR_EQ(test, test_lookup(owner, smap), value);
	KUNIT_EXPECT_EQ(test, test_get(owner, smap), 2);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 3,
					  BPF_F_LOCK | BPF_NOEXIST), -EEXIST);
	KUNIT_EXPECT_EQ(test, test_get(owner, smap), 2);
	test_check(test, owner);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 4, BPF_ANY), 0);
	KUNIT_EXPECT_PTR_NE(test, test_lookup(owner, smap), value);
	test_check(test, owner);
}

/* As a program would by bpf_kptr_xchg(). */
static void keep_object(struct kunit *test, struct test_owner *owner,
			struct bpf_local_storage_map *smap)
{
	void **value = test_create(owner, smap, 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, value);
	KUNIT_EXPECT_NULL(test, xchg(&value[FIELD_OFFSET / sizeof(void *)],
				     (void *)smap));
}

/* How a value can end. */
enum test_end {
	DELETED,
	REPLACED,
	DESTROYED,
	MAP_FREED,
	TEST_ENDS
};

static void end_value(struct kunit *test, struct test_owner *owner,
		      struct bpf_local_storage_map *smap, enum test_end end)
{
	switch (end) {
	case DELETED:
		TEST_DROP(test, owner, smap);
		break;
	case REPLACED:
		KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 1,
						  BPF_EXIST), 0);
		break;
	case DESTROYED:
		test_destroy(owner);
		break;
	default:
		test_map_free(test, smap);
	}
}

/* What is in a value goes with it, not before, and once. */
static void test_release(struct kunit *test, u32 flags, bool first,
			 enum test_end end)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smap, *other = test_map(test, 8, 0);

	smap = map_with_field(test, flags, BPF_KPTR_REF);
	if (!first)
		TEST_ADD(test, owner, other, 1);
	atomic_set(&released, 0);
	keep_object(test, owner, smap);
	test_check(test, owner);
	/* Or it would have to wait for the storage. */
	KUNIT_EXPECT_NULL(test, first ? test_storage(owner)->first.map : NULL);
	if (end != MAP_FREED)
		rcu_read_lock_trace();
	end_value(test, owner, smap, end);
	test_check(test, owner);
	if (end != MAP_FREED) {
		synchronize_rcu();
		KUNIT_EXPECT_EQ(test, atomic_read(&released), 0);
		rcu_read_unlock_trace();
		bpf_local_storage_barrier();
		test_map_free(test, smap);
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&released), 1);
	test_map_free(test, other);
	bpf_local_storage_barrier();
	KUNIT_EXPECT_EQ(test, atomic_read(&released), 1);
}

static void objects_are_released_with_their_value(struct kunit *test)
{
	int end;

	for (end = 0; end < TEST_ENDS; end++) {
		test_release(test, 0, true, end);
		test_release(test, 0, false, end);
		test_release(test, BPF_F_STORAGE_NO_SLOT, true, end);
		test_release(test, BPF_F_STORAGE_NO_SLOT, false, end);
	}
}

static void fields_are_not_copied(struct kunit *test)
{
	struct bpf_local_storage_map *smap = map_with_field(test, 0,
							    BPF_KPTR_REF);
	struct test_owner *owner = test_owner(test);
	u8 bytes[FIELD_VALUE_SIZE];
	void *value;

	atomic_set(&released, 0);
	memset(bytes, 0xff, sizeof(bytes));
	rcu_read_lock();
	value = bpf_local_storage_create(owner, smap, bytes, GFP_ATOMIC);
	KUNIT_EXPECT_FALSE(test, IS_ERR(value));
	if (!IS_ERR(value)) {
		KUNIT_EXPECT_MEMEQ(test, value, bytes, FIELD_OFFSET);
		KUNIT_EXPECT_NULL(test, memchr_inv(value + FIELD_OFFSET, 0,
						   sizeof(void *)));
	}
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, test_delete(owner, smap), 0L);
	bpf_local_storage_barrier();
	KUNIT_EXPECT_EQ(test, atomic_read(&released), 0);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(values_are_aligned, test_place_gen_params),
	KUNIT_CASE_PARAM(values_begin_with_zeroes, test_place_gen_params),
	KUNIT_CASE(a_program_may_name_the_first_value),
	KUNIT_CASE(the_first_value_is_in_its_storage),
	KUNIT_CASE(a_large_first_value_is_not),
	KUNIT_CASE(updates_obey_their_flags),
	KUNIT_CASE(a_storage_goes_with_its_last_value),
	KUNIT_CASE(a_storage_goes_with_its_last_map),
	KUNIT_CASE(a_first_value_can_be_made_again),
	KUNIT_CASE(readers_keep_what_they_found),
	KUNIT_CASE(destroy_takes_all_at_once),
	KUNIT_CASE(a_destroyed_owner_gets_nothing),
	KUNIT_CASE(a_copied_pointer_changes_nothing),
	KUNIT_CASE(updates_with_lock_write_in_place),
	KUNIT_CASE(objects_are_released_with_their_value),
	KUNIT_CASE(fields_are_not_copied),
	{}
};

TEST_SUITE("bpf_local_storage_value");
