// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what fails in local storage's core: for want of memory, or because a
 * call that was interrupted holds a lock.  Nothing is to come of it.
 */
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/limits.h>
#include "bpf_local_storage_kunit.h"

/* Lists of free blocks are refilled a moment after they were found empty. */
#define ATTEMPTS		100
/* The largest block of the lists that all maps share. */
#define MAX_SHARED_BLOCK	4096

/* A creation or update, by what is there before and how often it allocates. */
struct test_step {
	const char *name;
	/* Values with slots, and without. */
	int with_slot, without_slot;
	u32 value_size;
	u32 flags;
	bool replaces;
	int allocations;
};

#define NO_SLOT			BPF_F_STORAGE_NO_SLOT

static const struct test_step test_steps[] = {
	{ "a first value", 0, 0, 8, 0, false, 1 },
	{ "a large first value", 0, 0, 1000, 0, false, 2 },
	{ "a first value without a slot", 0, 0, 8, NO_SLOT, false, 2 },
	{ "a large first value without a slot", 0, 0, 1000, NO_SLOT, false, 3 },
	{ "a second value", 1, 0, 8, 0, false, 1 },
	{ "a second value, with an index", 1, 0, 8, NO_SLOT, false, 2 },
	{ "a value in the index", 1, 2, 8, NO_SLOT, false, 1 },
	{ "a value in a larger index", 1, 3, 8, NO_SLOT, false, 2 },
	{ "a value in a much larger index", 1, 48, 8, NO_SLOT, false, 2 },
	{ "replacing the first value", 0, 0, 8, 0, true, 1 },
	{ "replacing a large first value", 0, 0, 1000, 0, true, 1 },
	{ "replacing a second value", 1, 1, 8, 0, true, 1 },
	{ "replacing in the index", 1, 3, 8, NO_SLOT, true, 1 },
};

static void test_step_describe(const struct test_step *step, char *text)
{
	strscpy(text, step->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_step, test_steps, test_step_describe);

#define MAX_BEFORE		64

/* What there was before a step. */
struct test_before {
	struct bpf_local_storage_map *smaps[MAX_BEFORE];
	int nr;
	struct test_owner *owner;
	struct bpf_local_storage_map *smap;
	void *storage, *index;
	int charged, blocks;
};

static void test_prepare(struct kunit *test, const struct test_step *step,
			 struct test_before *before)
{
	int i;

	before->owner = test_owner(test);
	before->nr = step->with_slot + step->without_slot;
	test_maps(test, before->smaps, step->with_slot, 0);
	test_maps(test, &before->smaps[step->with_slot], step->without_slot,
		  NO_SLOT);
	for (i = 0; i < before->nr; i++)
		TEST_ADD(test, before->owner, before->smaps[i], i);
	before->smap = test_map(test, step->value_size, step->flags);
	if (step->replaces)
		TEST_ADD(test, before->owner, before->smap, 1);
	/* Of indexes that were replaced. */
	bpf_local_storage_barrier();
	before->storage = test_storage(before->owner);
	before->index = before->storage ? test_index(before->owner) : NULL;
	before->charged = atomic_read(&before->owner->charged);
	before->blocks = test_blocks();
}

static void test_expect_values(struct kunit *test,
			       const struct test_before *before)
{
	int i;

	for (i = 0; i < before->nr; i++)
		KUNIT_EXPECT_EQ(test, test_get(before->owner, before->smaps[i]),
				(u64)i);
}

static void test_expect_nothing_changed(struct kunit *test,
					const struct test_step *step,
					const struct test_before *before)
{
	struct bpf_local_storage *storage = test_storage(before->owner);

	KUNIT_EXPECT_PTR_EQ(test, (void *)storage, before->storage);
	if (storage)
		KUNIT_EXPECT_PTR_EQ(test, (void *)test_index(before->owner),
				    before->index);
	KUNIT_EXPECT_EQ(test, atomic_read(&before->owner->charged),
			before->charged);
	KUNIT_EXPECT_EQ(test, test_blocks(), before->blocks);
	KUNIT_EXPECT_EQ(test, test_get(before->owner, before->smap),
			step->replaces ? 1 : TEST_NOTHING);
	test_expect_values(test, before);
	test_check(test, before->owner);
	test_check_map(test, before->smap);
}

static int test_do(struct kunit *test, const struct test_step *step,
		   const struct test_before *before, bool by_update)
{
	if (by_update)
		return test_update(test, before->owner, before->smap, 2,
				   step->replaces ? BPF_EXIST : BPF_NOEXIST);
	return PTR_ERR_OR_ZERO(test_create(before->owner, before->smap, 2));
}

/* Let each allocation or charge of a step fail, until it does not. */
static void test_let_fail(struct kunit *test, bool by_update, bool charges)
{
	const struct test_step *step = test->param_value;
	struct test_before before;
	int failed, err;

	test_prepare(test, step, &before);
	for (failed = 0; failed <= step->allocations; failed++) {
		if (charges)
			before.owner->charges_left = failed;
		else
			test_fail_allocation(failed + 1);
		err = test_do(test, step, &before, by_update);
		test_fail_allocation(0);
		before.owner->charges_left = TEST_UNLIMITED;
		if (!err)
			break;
		KUNIT_EXPECT_EQ(test, err, -ENOMEM);
		test_expect_nothing_changed(test, step, &before);
	}
	KUNIT_EXPECT_EQ(test, failed, step->allocations);
	KUNIT_EXPECT_EQ(test, test_get(before.owner, before.smap), 2);
	test_expect_values(test, &before);
	test_check(test, before.owner);
}

static void test_let_allocations_fail(struct kunit *test, bool by_update)
{
	if (!test_can_fail_allocations())
		kunit_skip(test, "needs CONFIG_FAILSLAB");
	test_let_fail(test, by_update, false);
}

static bool test_is_update_only(struct kunit *test)
{
	const struct test_step *step = test->param_value;

	return step->replaces;
}

static void a_creation_may_find_no_memory(struct kunit *test)
{
	test_let_allocations_fail(test, test_is_update_only(test));
}

static void an_update_may_find_no_memory(struct kunit *test)
{
	test_let_allocations_fail(test, true);
}

static void an_owner_may_refuse_to_pay(struct kunit *test)
{
	test_let_fail(test, test_is_update_only(test), true);
}

static void an_owner_may_refuse_to_pay_for_an_update(struct kunit *test)
{
	test_let_fail(test, true, true);
}

/* The same for a map. */
static void a_map_may_find_no_memory(struct kunit *test)
{
	struct bpf_local_storage_map *smap;
	int nth;

	if (!test_can_fail_allocations())
		kunit_skip(test, "needs CONFIG_FAILSLAB");
	for (nth = 1; nth < 10; nth++) {
		test_fail_allocation(nth);
		smap = test_try_map(test, 8, BPF_F_STORAGE_SLOT);
		test_fail_allocation(0);
		if (!IS_ERR(smap))
			break;
		KUNIT_EXPECT_EQ(test, PTR_ERR(smap), -ENOMEM);
		KUNIT_EXPECT_NULL(test, test_slots.map[1]);
	}
	KUNIT_EXPECT_FALSE(test, IS_ERR(smap));
	KUNIT_EXPECT_EQ(test, smap->number, 0);
}

/* Where interrupts are off */

/* Owners get values until an error, which it returns; sets *last to whose. */
static int use_up(struct kunit *test, struct bpf_local_storage_map *smap,
		  struct test_owner **last)
{
	unsigned long flags;
	void *value = NULL;
	int i;

	/* Nothing is refilled meanwhile. */
	local_irq_save(flags);
	for (i = 0; i < 400 && !IS_ERR(value); i++) {
		*last = test_owner(test);
		value = test_create(*last, smap, i);
	}
	local_irq_restore(flags);
	return PTR_ERR_OR_ZERO(value);
}

static void *create_at_last(struct test_owner *owner,
			    struct bpf_local_storage_map *smap)
{
	unsigned long flags;
	void *value;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		local_irq_save(flags);
		value = test_create(owner, smap, 1);
		local_irq_restore(flags);
		if (!IS_ERR(value))
			break;
		msleep(20);
	}
	return value;
}

static void lists_run_out_and_fill_up(struct kunit *test)
{
	struct bpf_local_storage_map *smap = test_map(test, 1000, 0);
	struct test_owner *last = NULL;

	KUNIT_EXPECT_EQ(test, use_up(test, smap, &last), -ENOMEM);
	KUNIT_EXPECT_EQ(test, test_get(last, smap), TEST_NOTHING);
	KUNIT_EXPECT_NULL(test, test_storage(last));
	test_check(test, last);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, create_at_last(last, smap));
	test_check(test, last);
}

static void lists_of_the_map_run_out_and_fill_up(struct kunit *test)
{
	struct bpf_local_storage_map *smap = test_map(test, 9000, 0);
	struct test_owner *last = NULL;

	KUNIT_ASSERT_TRUE(test, bpf_local_storage_meta_equal(&smap->map,
							     &smap->map));
	KUNIT_EXPECT_EQ(test, use_up(test, smap, &last), -ENOMEM);
	KUNIT_EXPECT_NULL(test, test_storage(last));
	test_check(test, last);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, create_at_last(last, smap));
	test_check(test, last);
}

/* There is no block for an index that is larger than a page. */
static void lists_have_no_large_index(struct kunit *test)
{
	struct test_owner *owner = test_owner(test);
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_map *smap;
	int i, before;
	u32 cells = 4;

	while (struct_size(index, cells, cells * 2) + BPF_MA_PAD <=
	       MAX_SHARED_BLOCK)
		cells *= 2;
	for (i = 0; i < cells * 3 / 4; i++) {
		smap = test_map(test, 8, BPF_F_STORAGE_NO_SLOT);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, create_at_last(owner, smap));
	}
	index = test_index(owner);
	KUNIT_EXPECT_EQ(test, index->mask + 1, cells);
	before = atomic_read(&owner->charged);
	smap = test_map(test, 8, BPF_F_STORAGE_NO_SLOT);
	for (i = 0; i < 3; i++) {
		unsigned long flags;

		local_irq_save(flags);
		KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(test_create(owner, smap,
								  1)),
				-ENOMEM);
		local_irq_restore(flags);
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), before);
	KUNIT_EXPECT_PTR_EQ(test, test_index(owner), index);
	test_check(test, owner);
	TEST_ADD(test, owner, smap, 1);
	test_check(test, owner);
}

/* Locks */

/* Another owner whose elements are, or are not, in the same bucket. */
static struct test_owner *owner_by_bucket(struct kunit *test,
					  struct bpf_local_storage_map *smap,
					  struct test_owner *owner, bool same)
{
	struct test_owner *other;

	do {
		other = test_owner(test);
	} while ((map_bucket(smap, other) == map_bucket(smap, owner)) != same);
	return other;
}

static int create_nested(struct test_owner *owner,
			 struct bpf_local_storage_map *smap)
{
	return PTR_ERR_OR_ZERO(test_create(owner, smap, 3));
}

struct nested {
	int create, create_new, update, delete, delete_other, create_elsewhere;
	bool waits;
};

/* Whether a lock that is refused looks like one that is waited for. */
static bool waits_when_refused(struct bpf_local_storage *storage,
			       struct bpf_local_storage_bucket *bucket)
{
	struct bpf_local_storage_locks locks;
	bool got, waits;

	locks_enter(&locks);
	got = bucket ? try_lock_bucket(&locks, bucket) :
		       try_lock_storage(&locks, storage);
	waits = got || locks.storage || locks.bucket;
	locks_exit(&locks);
	return waits;
}

/* What calls return that have interrupted one which holds a lock. */
static void test_nested(struct kunit *test, bool bucket, bool same,
			struct nested *got)
{
	struct bpf_local_storage_map *smap = test_map(test, 8, 0);
	struct bpf_local_storage_map *more = test_map(test, 8, 0);
	struct bpf_local_storage_map *elsewhere = test_map(test, 8, 0);
	struct test_owner *owner = test_owner(test), *other, *fresh;
	struct bpf_local_storage_locks locks;
	int before, fresh_before;

	other = owner_by_bucket(test, smap, owner, same);
	fresh = owner_by_bucket(test, smap, owner, same);
	TEST_ADD(test, owner, smap, 1);
	TEST_ADD(test, other, smap, 2);
	before = atomic_read(&owner->charged);
	fresh_before = atomic_read(&fresh->charged);

	locks_enter(&locks);
	if (bucket)
		lock_bucket(&locks, map_bucket(smap, owner));
	else
		lock_storage(&locks, test_storage(owner));
	got->create = create_nested(owner, more);
	got->create_new = create_nested(fresh, smap);
	got->update = test_update(test, owner, smap, 5, BPF_EXIST);
	got->delete = test_delete(owner, smap);
	got->delete_other = test_delete(other, smap);
	got->create_elsewhere = create_nested(other, elsewhere);
	got->waits = waits_when_refused(test_storage(owner), bucket ?
					map_bucket(smap, owner) : NULL);
	if (bucket)
		unlock_bucket(&locks);
	else
		unlock_storage(&locks);
	locks_exit(&locks);

	KUNIT_EXPECT_FALSE(test, got->waits);
	KUNIT_EXPECT_EQ(test, test_get(owner, smap), 1);
	KUNIT_EXPECT_EQ(test, test_get(fresh, smap) == TEST_NOTHING,
			got->create_new != 0);
	if (got->create)
		KUNIT_EXPECT_EQ(test, atomic_read(&owner->charged), before);
	if (got->create_new)
		KUNIT_EXPECT_EQ(test, atomic_read(&fresh->charged),
				fresh_before);
	test_check(test, owner);
	test_check(test, other);
	test_check(test, fresh);
	test_check_map(test, smap);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 6, BPF_EXIST), 0);
	TEST_DROP(test, owner, smap);
}

static void a_nested_call_fails_for_the_storage_of_the_outer(struct kunit *test)
{
	struct nested got;

	test_nested(test, false, true, &got);
	KUNIT_EXPECT_EQ(test, got.create, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.update, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.delete, -EBUSY);
	/* Other storages are not in its way. */
	KUNIT_EXPECT_EQ(test, got.create_new, 0);
	KUNIT_EXPECT_EQ(test, got.delete_other, 0);
	KUNIT_EXPECT_EQ(test, got.create_elsewhere, 0);
}

static void a_nested_call_fails_for_the_bucket_of_the_outer(struct kunit *test)
{
	struct nested got;

	test_nested(test, true, true, &got);
	KUNIT_EXPECT_EQ(test, got.create_new, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.update, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.delete, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.delete_other, -EBUSY);
	/* Other maps are not in its way. */
	KUNIT_EXPECT_EQ(test, got.create, 0);
	KUNIT_EXPECT_EQ(test, got.create_elsewhere, 0);
}

static void a_nested_call_may_have_another_bucket(struct kunit *test)
{
	struct nested got;

	test_nested(test, true, false, &got);
	KUNIT_EXPECT_EQ(test, got.update, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.delete, -EBUSY);
	KUNIT_EXPECT_EQ(test, got.create_new, 0);
	KUNIT_EXPECT_EQ(test, got.delete_other, 0);
}

/* What waits for grace periods */

static void what_waits_is_bounded(struct kunit *test)
{
	struct bpf_local_storage_map *smap = test_map(test, 9000, 0);
	struct bpf_local_storage_map *cloned = test_map(test, 8, BPF_F_CLONE);
	struct test_owner *owner = test_owner(test), *child = test_owner(test);
	struct test_owner *other = test_owner(test);
	const u64 limit = (u64)totalram_pages() << PAGE_SHIFT >> WAITING_SHIFT;
	/* What each CPU keeps to itself, and twice as much. */
	const u64 most = 2 * (limit + WAITING_BATCH * num_possible_cpus());
	void *value = NULL;
	u64 bytes;

	TEST_ADD(test, owner, cloned, 1);
	bpf_local_storage_barrier();
	/* No grace period ends before this one's reader does. */
	rcu_read_lock_trace();
	for (bytes = 0; bytes < most; bytes += 9000) {
		value = test_create(owner, smap, 1);
		if (IS_ERR(value))
			break;
		KUNIT_EXPECT_EQ(test, test_delete(owner, smap), 0L);
		cond_resched();
	}
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(value), -ENOMEM);
	/* That is a 64th of the memory. */
	KUNIT_EXPECT_GT(test, bytes, limit / 2);
	KUNIT_EXPECT_EQ(test, test_update(test, owner, smap, 1, BPF_ANY),
			-ENOMEM);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(test_create(other, cloned, 1)),
			-ENOMEM);
	test_check(test, owner);
	test_check(test, other);
	/* Whoever connects is not to suffer for it. */
	KUNIT_EXPECT_EQ(test, test_clone(owner, child), 0);
	KUNIT_EXPECT_EQ(test, test_get(child, cloned), 1);
	KUNIT_EXPECT_EQ(test, test_delete(owner, cloned), 0L);
	rcu_read_unlock_trace();
	bpf_local_storage_barrier();
	KUNIT_EXPECT_EQ(test,
			atomic_read(&bpf_local_storage_waiting_batches), 0);
	TEST_ADD(test, owner, smap, 1);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(a_creation_may_find_no_memory, test_step_gen_params),
	KUNIT_CASE_PARAM(an_update_may_find_no_memory, test_step_gen_params),
	KUNIT_CASE_PARAM(an_owner_may_refuse_to_pay, test_step_gen_params),
	KUNIT_CASE_PARAM(an_owner_may_refuse_to_pay_for_an_update,
			 test_step_gen_params),
	KUNIT_CASE(a_map_may_find_no_memory),
	KUNIT_CASE(lists_run_out_and_fill_up),
	KUNIT_CASE(lists_of_the_map_run_out_and_fill_up),
	KUNIT_CASE(lists_have_no_large_index),
	KUNIT_CASE(a_nested_call_fails_for_the_storage_of_the_outer),
	KUNIT_CASE(a_nested_call_fails_for_the_bucket_of_the_outer),
	KUNIT_CASE(a_nested_call_may_have_another_bucket),
	KUNIT_CASE(what_waits_is_bounded),
	{}
};

TEST_SUITE("bpf_local_storage_fail");
