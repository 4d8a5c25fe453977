// SPDX-License-Identifier: GPL-2.0
/* Tests of local storage's slots, and of the index for what has none. */
#include <linux/bitops.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include "bpf_local_storage_kunit.h"

#define SLOTS			BPF_LOCAL_STORAGE_SLOTS
#define NO_SLOT			BPF_LOCAL_STORAGE_NO_SLOT
#define MANY_MAPS		1000

/* Slots */

static void sixteen_maps_have_slots(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS + 4];
	struct test_owner *owner = test_owner(test);
	unsigned long taken = 0;
	int i;

	test_maps(test, smaps, ARRAY_SIZE(smaps), 0);
	for (i = 0; i < SLOTS; i++) {
		KUNIT_ASSERT_LT(test, smaps[i]->slot, SLOTS);
		KUNIT_EXPECT_PTR_EQ(test, test_slots.map[smaps[i]->slot],
				    smaps[i]);
		taken |= BIT(smaps[i]->slot);
		/* The first ones are in every storage. */
		KUNIT_EXPECT_EQ(test, smaps[i]->slot < 4, i < 4);
	}
	KUNIT_EXPECT_EQ(test, taken, BIT(SLOTS) - 1);
	for (; i < ARRAY_SIZE(smaps); i++)
		KUNIT_EXPECT_EQ(test, smaps[i]->slot, NO_SLOT);
	for (i = 0; i < ARRAY_SIZE(smaps); i++)
		TEST_ADD(test, owner, smaps[i], i);
	for (i = 0; i < ARRAY_SIZE(smaps); i++)
		KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]), (u64)i);
	test_check(test, owner);
}

static void maps_can_insist_on_a_slot(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS], *refused;
	int i, slot;

	test_maps(test, smaps, SLOTS, BPF_F_STORAGE_SLOT);
	for (i = 0; i < SLOTS; i++)
		KUNIT_EXPECT_LT(test, smaps[i]->slot, SLOTS);
	refused = test_try_map(test, 8, BPF_F_STORAGE_SLOT);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(refused), -ENOSPC);
	KUNIT_EXPECT_EQ(test, test_map(test, 8, 0)->slot, NO_SLOT);
	slot = smaps[5]->slot;
	test_map_free(test, smaps[5]);
	smaps[5] = test_map(test, 8, BPF_F_STORAGE_SLOT);
	KUNIT_EXPECT_EQ(test, smaps[5]->slot, slot);
	refused = test_try_map(test, 8, BPF_F_STORAGE_SLOT);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(refused), -ENOSPC);
}

/* A refused map gives its number back. */
static void numbers_are_as_small_as_can_be(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS], *refused;
	int i;

	test_maps(test, smaps, SLOTS, 0);
	for (i = 0; i < SLOTS; i++)
		KUNIT_EXPECT_EQ(test, smaps[i]->number, i);
	for (i = 0; i < 3; i++) {
		refused = test_try_map(test, 8, BPF_F_STORAGE_SLOT);
		KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(refused), -ENOSPC);
	}
	KUNIT_EXPECT_EQ(test, test_map(test, 8, 0)->number, SLOTS);
	test_map_free(test, smaps[7]);
	KUNIT_EXPECT_EQ(test, test_map(test, 8, 0)->number, 7);
}

static void maps_can_leave_the_slots_to_others(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS];
	int i;

	test_maps(test, smaps, SLOTS, BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < SLOTS; i++) {
		KUNIT_EXPECT_EQ(test, smaps[i]->slot, NO_SLOT);
		KUNIT_EXPECT_NULL(test, test_slots.map[i]);
	}
	test_maps(test, smaps, SLOTS, BPF_F_STORAGE_SLOT);
}

static void attributes_are_checked(struct kunit *test)
{
	const union bpf_attr good = {
		.map_type = BPF_MAP_TYPE_SK_STORAGE,
		.key_size = sizeof(int),
		.value_size = 8,
		.map_flags = BPF_F_NO_PREALLOC,
		.btf_key_type_id = 1,
		.btf_value_type_id = 2,
	};
	union bpf_attr attr = good;
	const u32 flags[] = {
		BPF_F_CLONE, BPF_F_STORAGE_SLOT, BPF_F_STORAGE_NO_SLOT,
		BPF_F_CLONE | BPF_F_STORAGE_SLOT,
	};
	int i;

#define CHECK()	bpf_local_storage_map_alloc_check(&attr)
	KUNIT_EXPECT_EQ(test, CHECK(), 0);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		attr.map_flags = BPF_F_NO_PREALLOC | flags[i];
		KUNIT_EXPECT_EQ(test, CHECK(), 0);
	}
	attr.map_flags = BPF_F_NO_PREALLOC | BPF_F_STORAGE_SLOT |
			 BPF_F_STORAGE_NO_SLOT;
	KUNIT_EXPECT_EQ(test, CHECK(), -EINVAL);
	attr.map_flags = 0;
	KUNIT_EXPECT_EQ(test, CHECK(), -EINVAL);
	attr = good;
	attr.value_size = BPF_LOCAL_STORAGE_MAX_VALUE_SIZE;
	KUNIT_EXPECT_EQ(test, CHECK(), 0);
	attr.value_size++;
	KUNIT_EXPECT_EQ(test, CHECK(), -E2BIG);
	attr.value_size = 0;
	KUNIT_EXPECT_EQ(test, CHECK(), -EINVAL);
	attr = good;
	attr.key_size = 8;
	KUNIT_EXPECT_EQ(test, CHECK(), -EINVAL);
	attr = good;
	attr.max_entries = 1;
	KUNIT_EXPECT_EQ(test, CHECK(), -EINVAL);
	attr = good;
	attr.btf_value_type_id = 0;
	KUNIT_EXPECT_EQ(test, CHECK(), -EINVAL);
#undef CHECK
}

/* Nothing of a freed map shows through the one that has its slot next. */
static void a_slot_is_handed_over_empty(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS];
	struct test_owner *owners[8];
	int i, k, round, slot;

	test_maps(test, smaps, SLOTS, 0);
	for (i = 0; i < ARRAY_SIZE(owners); i++) {
		owners[i] = test_owner(test);
		/* One that the others go to, so that storages stay. */
		TEST_ADD(test, owners[i], smaps[i % 2], 1);
	}
	for (round = 0; round < 40; round++) {
		k = 2 + round % (SLOTS - 2);
		for (i = 0; i < ARRAY_SIZE(owners); i++)
			TEST_ADD(test, owners[i], smaps[k], round);
		slot = smaps[k]->slot;
		test_map_free(test, smaps[k]);
		KUNIT_EXPECT_NULL(test, test_slots.map[slot]);
		smaps[k] = test_map(test, 8, BPF_F_STORAGE_SLOT);
		KUNIT_EXPECT_EQ(test, smaps[k]->slot, slot);
		for (i = 0; i < ARRAY_SIZE(owners); i++) {
			KUNIT_EXPECT_EQ(test, test_get(owners[i], smaps[k]),
					TEST_NOTHING);
			test_check(test, owners[i]);
		}
	}
}

/* The map whose values are uncharged, and what was found meanwhile. */
static struct {
	struct bpf_local_storage_map *smap;
	bool destroys;
	int calls;
	int wrong;
} watched;

static void watch_uncharge(struct test_owner *owner, u32 size)
{
	struct bpf_local_storage_map *smap = watched.smap;

	if (size != elem_size(smap))
		return;
	watched.calls++;
	/* The map's bucket is locked still, so the slot must be the map's. */
	if (READ_ONCE(test_slots.map[smap->slot]) != smap)
		watched.wrong++;
	/* Map free may come to the bucket right after this. */
	if (watched.destroys &&
	    rcu_access_pointer(test_storage(owner)->slots[smap->slot]))
		watched.wrong++;
}

static void a_slot_is_the_maps_until_its_last_value_went(struct kunit *test)
{
	struct bpf_local_storage_map *smap, *other;
	struct test_owner *owners[6];
	int i, destroyed = ARRAY_SIZE(owners) / 2;

	other = test_map(test, 8, 0);
	/* Of a size that nothing else has. */
	smap = test_map(test, 1480, 0);
	for (i = 0; i < ARRAY_SIZE(owners); i++) {
		owners[i] = test_owner(test);
		TEST_ADD(test, owners[i], other, i);
		TEST_ADD(test, owners[i], smap, i);
		owners[i]->on_uncharge = watch_uncharge;
	}
	memset(&watched, 0, sizeof(watched));
	watched.smap = smap;
	watched.destroys = true;
	for (i = 0; i < destroyed; i++)
		test_destroy(owners[i]);
	KUNIT_EXPECT_EQ(test, watched.calls, destroyed);
	watched.destroys = false;
	test_map_free(test, smap);
	KUNIT_EXPECT_EQ(test, watched.calls, ARRAY_SIZE(owners));
	KUNIT_EXPECT_EQ(test, watched.wrong, 0);
	for (i = 0; i < ARRAY_SIZE(owners); i++)
		owners[i]->on_uncharge = NULL;
}

/* Who holds the last reference of a map that only a dying program uses. */
struct dying {
	struct kunit *test;
	struct bpf_local_storage_map *smap;
	struct completion done;
};

static int free_dying(void *data)
{
	struct dying *dying = data;

	test_map_free(dying->test, dying->smap);
	complete(&dying->done);
	return 0;
}

static void a_new_map_waits_for_a_dying_one(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS], *late;
	struct dying dying = { .test = test };
	struct task_struct *task;

	init_completion(&dying.done);
	test_maps(test, smaps, SLOTS, 0);
	dying.smap = smaps[3];
	atomic64_set(&smaps[3]->map.usercnt, 0);
	task = kthread_run(free_dying, &dying, "free-dying");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	late = test_try_map(test, 8, BPF_F_STORAGE_SLOT);
	wait_for_completion(&dying.done);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(late), 0);
}

/* A map that stays, though only a program has it, is waited for once. */
static void a_map_that_stays_is_waited_for_once(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS];
	unsigned long began;

	test_maps(test, smaps, SLOTS, 0);
	atomic64_set(&smaps[3]->map.usercnt, 0);
	KUNIT_EXPECT_EQ(test, test_slots.stuck, 0);
	began = jiffies;
	KUNIT_EXPECT_EQ(test, test_map(test, 8, 0)->slot, NO_SLOT);
	/* It cannot have been less. */
	KUNIT_EXPECT_TRUE(test, time_after_eq(jiffies, began + HZ / 4));
	KUNIT_EXPECT_EQ(test, test_slots.stuck, BIT(smaps[3]->slot));
	KUNIT_EXPECT_EQ(test, test_map(test, 8, 0)->slot, NO_SLOT);
	test_map_free(test, smaps[3]);
	KUNIT_EXPECT_EQ(test, test_slots.stuck, 0);
	KUNIT_EXPECT_LT(test, test_map(test, 8, 0)->slot, SLOTS);
}

static u32 slots_for(int maps)
{
	return maps <= 4 ? 4 : maps <= 8 ? 8 : 16;
}

static void storages_have_the_slots_that_maps_ask_for(struct kunit *test)
{
	struct bpf_local_storage_map *smaps[SLOTS];
	struct test_owner *owner;
	int i;

	for (i = 0; i < SLOTS; i++) {
		smaps[i] = test_map(test, 8, 0);
		owner = test_owner(test);
		TEST_ADD(test, owner, smaps[i], i);
		KUNIT_EXPECT_EQ(test, test_storage(owner)->nr_slots,
				slots_for(i + 1));
		KUNIT_EXPECT_NULL(test, test_index(owner));
		test_check(test, owner);
	}
	while (i-- > 1) {
		test_map_free(test, smaps[i]);
		owner = test_owner(test);
		TEST_ADD(test, owner, smaps[0], i);
		KUNIT_EXPECT_EQ(test, test_storage(owner)->nr_slots,
				slots_for(i));
	}

	/* The first slot of the upper half is free, others are not. */
	test_maps(test, &smaps[1], 7, 0);
	test_map_free(test, smaps[4]);
	owner = test_owner(test);
	TEST_ADD(test, owner, smaps[7], 7);
	KUNIT_EXPECT_EQ(test, test_storage(owner)->nr_slots, 8);
}

/* A storage keeps its number of slots; what has one beyond is in the index. */
static void small_storages_take_maps_that_come_later(struct kunit *test)
{
	static const int sizes[] = { 1, 4, 5, 8, 9, 16 };
	struct bpf_local_storage_map *smaps[SLOTS + 1];
	struct bpf_local_storage *storage;
	struct test_owner *owner;
	int i, k, n;

	for (n = 0; n < ARRAY_SIZE(sizes); n++) {
		owner = test_owner(test);
		test_maps(test, smaps, sizes[n], 0);
		TEST_ADD(test, owner, smaps[0], 0);
		storage = test_storage(owner);
		for (i = 1; i <= SLOTS; i++) {
			if (i >= sizes[n])
				smaps[i] = test_map(test, 8, 0);
			TEST_ADD(test, owner, smaps[i], i);
			for (k = 0; k <= i; k++)
				KUNIT_ASSERT_EQ(test, test_get(owner, smaps[k]),
						(u64)k);
			test_check(test, owner);
		}
		KUNIT_EXPECT_EQ(test, storage->nr_slots, slots_for(sizes[n]));
		KUNIT_EXPECT_EQ(test, storage->nr_used_slots,
				slots_for(sizes[n]));
		KUNIT_EXPECT_EQ(test, test_index(owner)->live,
				SLOTS + 1 - slots_for(sizes[n]));
		/* Its successor has all slots. */
		for (i = 0; i <= SLOTS; i++) {
			KUNIT_EXPECT_PTR_EQ(test, test_storage(owner), storage);
			test_check(test, owner);
			TEST_DROP(test, owner, smaps[i]);
		}
		KUNIT_EXPECT_NULL(test, test_storage(owner));
		TEST_ADD(test, owner, smaps[SLOTS - 1], n);
		KUNIT_EXPECT_EQ(test, test_storage(owner)->nr_slots, SLOTS);
		KUNIT_EXPECT_NULL(test, test_index(owner));
		for (i = 0; i <= SLOTS; i++)
			test_map_free(test, smaps[i]);
		KUNIT_EXPECT_NULL(test, test_storage(owner));
	}
}

/* The index */

static void the_index_grows(struct kunit *test)
{
	struct bpf_local_storage_index *index, *before = NULL;
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[200];
	int i, k, sizes = 0;

	for (i = 0; i < ARRAY_SIZE(smaps); i++) {
		smaps[i] = test_map(test, 8, BPF_F_STORAGE_NO_SLOT);
		TEST_ADD(test, owner, smaps[i], i);
		for (k = 0; k <= i; k++)
			KUNIT_ASSERT_EQ(test, test_get(owner, smaps[k]),
					(u64)k);
		test_check(test, owner);
		index = test_index(owner);
		KUNIT_EXPECT_TRUE(test, is_power_of_2(index->mask + 1));
		sizes += index != before;
		before = index;
	}
	/* 4, 8, 16 ... 512; each is for twice as many as the one before. */
	KUNIT_EXPECT_EQ(test, index->mask + 1, 512);
	KUNIT_EXPECT_EQ(test, sizes, 8);
	bpf_local_storage_barrier();
	/* The storage, the index, and all values but the first. */
	KUNIT_EXPECT_EQ(test, test_blocks(),
			(1 + 1 + (int)ARRAY_SIZE(smaps) - 1) *
			test_blocks_are_counted());
}

static void maps_in_a_row_have_cells_of_their_own(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[128];
	struct bpf_local_storage_index *index;
	u32 i, cell;

	test_maps(test, smaps, ARRAY_SIZE(smaps), BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < ARRAY_SIZE(smaps); i++)
		TEST_ADD(test, owner, smaps[i], i);
	index = test_index(owner);
	for (i = 0; i < ARRAY_SIZE(smaps); i++) {
		cell = smaps[i]->cell & index->mask;
		KUNIT_EXPECT_PTR_EQ(test, index->cells[cell].map, smaps[i]);
	}
}

/* A cell whose value was deleted is its map's, and used again for it. */
static void deleted_values_leave_their_cells(struct kunit *test)
{
	struct bpf_local_storage_index *index;
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[24];
	int i, round;

	test_maps(test, smaps, ARRAY_SIZE(smaps), BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < ARRAY_SIZE(smaps); i++)
		TEST_ADD(test, owner, smaps[i], i);
	index = test_index(owner);
	for (round = 0; round < 3; round++) {
		for (i = 1; i < ARRAY_SIZE(smaps); i++) {
			TEST_DROP(test, owner, smaps[i]);
			KUNIT_EXPECT_EQ(test, test_get(owner, smaps[0]), 0);
			test_check(test, owner);
		}
		KUNIT_EXPECT_EQ(test, index->live, 1);
		KUNIT_EXPECT_EQ(test, index->keys, ARRAY_SIZE(smaps));
		for (i = ARRAY_SIZE(smaps) - 1; i > 0; i--)
			TEST_ADD(test, owner, smaps[i], i);
		for (i = 0; i < ARRAY_SIZE(smaps); i++)
			KUNIT_EXPECT_EQ(test, test_get(owner, smaps[i]),
					(u64)i);
		KUNIT_EXPECT_PTR_EQ(test, test_index(owner), index);
	}
}

/* Cells of maps that are gone do not make the index larger. */
static void maps_come_and_go(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map *smaps[5];
	int i, round;

	test_maps(test, smaps, ARRAY_SIZE(smaps), BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < ARRAY_SIZE(smaps); i++)
		TEST_ADD(test, owner, smaps[i], i);
	for (round = 5; round < 300; round++) {
		i = round % ARRAY_SIZE(smaps);
		if (round % 3)
			TEST_DROP(test, owner, smaps[i]);
		test_map_free(test, smaps[i]);
		smaps[i] = test_map(test, 8, BPF_F_STORAGE_NO_SLOT);
		KUNIT_ASSERT_EQ(test, test_get(owner, smaps[i]), TEST_NOTHING);
		test_check(test, owner);
		TEST_ADD(test, owner, smaps[i], round);
		for (i = 0; i < ARRAY_SIZE(smaps); i++)
			KUNIT_ASSERT_EQ(test, test_get(owner, smaps[i]),
					(u64)(round - (round - i) % 5));
		test_check(test, owner);
		KUNIT_ASSERT_LE(test, test_index(owner)->mask + 1, 16);
	}
}

static void a_thousand_maps_are_on_one_owner(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_map **smaps;
	int i;

	smaps = kunit_kcalloc(test, MANY_MAPS, sizeof(*smaps), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, smaps);
	for (i = 0; i < MANY_MAPS; i++) {
		smaps[i] = test_map(test, 8, 0);
		TEST_ADD(test, owner, smaps[i], i);
	}
	test_check(test, owner);
	for (i = 0; i < MANY_MAPS; i++)
		KUNIT_ASSERT_EQ(test, test_get(owner, smaps[i]), (u64)i);
	for (i = 0; i < MANY_MAPS; i += 3)
		TEST_DROP(test, owner, smaps[i]);
	test_check(test, owner);
	for (i = 0; i < MANY_MAPS; i++)
		KUNIT_ASSERT_EQ(test, test_get(owner, smaps[i]),
				i % 3 ? (u64)i : TEST_NOTHING);
	for (i = 0; i < MANY_MAPS; i += 2)
		KUNIT_ASSERT_EQ(test, test_update(test, owner, smaps[i], i + 5,
						  i % 3 ? BPF_EXIST :
							  BPF_NOEXIST), 0);
	test_check(test, owner);
	/* Those with slots are among them. */
	for (i = 0; i < MANY_MAPS; i += 5)
		test_map_free(test, smaps[i]);
	test_check(test, owner);
	for (i = 0; i < MANY_MAPS; i++)
		if (i % 5)
			KUNIT_ASSERT_EQ(test, test_get(owner, smaps[i]),
					i % 2 == 0 ? (u64)i + 5 :
					i % 3 ? (u64)i : TEST_NOTHING);
	test_destroy(owner);
	for (i = 0; i < MANY_MAPS; i++)
		if (i % 5)
			KUNIT_ASSERT_EQ(test, test_get(owner, smaps[i]),
					TEST_NOTHING);
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), 0);
}

static void a_map_counts_what_it_has(struct kunit *test)
{
	struct bpf_local_storage_map *smap = test_map(test, 8, 0);
	struct test_owner *owners[20];
	u64 empty = bpf_local_storage_map_mem_usage(&smap->map);
	int i;

	for (i = 0; i < ARRAY_SIZE(owners); i++) {
		owners[i] = test_owner(test);
		TEST_ADD(test, owners[i], smap, i);
		KUNIT_EXPECT_EQ(test,
				bpf_local_storage_map_mem_usage(&smap->map),
				empty + (i + 1) * (u64)elem_size(smap));
	}
	for (i = 0; i < ARRAY_SIZE(owners); i++) {
		KUNIT_EXPECT_EQ(test, test_update(test, owners[i], smap, i,
						  BPF_EXIST), 0);
		test_check_map(test, smap);
	}
	for (i = 0; i < ARRAY_SIZE(owners); i++) {
		if (i % 2)
			TEST_DROP(test, owners[i], smap);
		else
			test_destroy(owners[i]);
	}
	KUNIT_EXPECT_EQ(test, bpf_local_storage_map_mem_usage(&smap->map),
			empty);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(sixteen_maps_have_slots),
	KUNIT_CASE(maps_can_insist_on_a_slot),
	KUNIT_CASE(maps_can_leave_the_slots_to_others),
	KUNIT_CASE(numbers_are_as_small_as_can_be),
	KUNIT_CASE(attributes_are_checked),
	KUNIT_CASE(a_slot_is_handed_over_empty),
	KUNIT_CASE(a_slot_is_the_maps_until_its_last_value_went),
	KUNIT_CASE(a_new_map_waits_for_a_dying_one),
	KUNIT_CASE(a_map_that_stays_is_waited_for_once),
	KUNIT_CASE(storages_have_the_slots_that_maps_ask_for),
	KUNIT_CASE(small_storages_take_maps_that_come_later),
	KUNIT_CASE(the_index_grows),
	KUNIT_CASE(maps_in_a_row_have_cells_of_their_own),
	KUNIT_CASE(deleted_values_leave_their_cells),
	KUNIT_CASE(maps_come_and_go),
	KUNIT_CASE(a_thousand_maps_are_on_one_owner),
	KUNIT_CASE(a_map_counts_what_it_has),
	{}
};

TEST_SUITE("bpf_local_storage_slot");
