// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of local storage's walks and copies, and of what meets in its core: the
 * ends of owners and of maps.
 */
#include <linux/bitops.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include "bpf_local_storage_kunit.h"

/* With 16 slots and an index. */
#define NR_MAPS			40
/* More than a walk takes from a bucket at once, of which there are two. */
#define NR_OWNERS		40

/* Walks over an owner */

struct test_walk {
	struct bpf_local_storage_map *smaps[NR_MAPS];
	struct test_owner *owner;
	/* How often a map's element was met. */
	int met[NR_MAPS];
};

static void walk_prepare(struct kunit *test, struct test_walk *walk)
{
	int i;

	memset(walk, 0, sizeof(*walk));
	walk->owner = test_owner(test);
	test_maps(test, walk->smaps, NR_MAPS, 0);
	for (i = 0; i < NR_MAPS; i++)
		TEST_ADD(test, walk->owner, walk->smaps[i], i);
}

/* The number of the map whose element was met. */
static int walk_meet(struct test_walk *walk,
		     struct bpf_local_storage_elem *elem)
{
	int i = *(u64 *)bpf_local_storage_value(elem);

	if (i < NR_MAPS && elem->map == walk->smaps[i])
		walk->met[i]++;
	return i;
}

static void a_walk_meets_every_value_once(struct kunit *test)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	struct test_walk walk;
	int i;

	walk_prepare(test, &walk);
	rcu_read_lock();
	bpf_local_storage_iter_init(&iter, test_storage(walk.owner));
	while ((elem = bpf_local_storage_iter_next(&iter)))
		walk_meet(&walk, elem);
	rcu_read_unlock();
	for (i = 0; i < NR_MAPS; i++)
		KUNIT_EXPECT_EQ(test, walk.met[i], 1);
}

/* Each one behind every other is deleted before the walk comes to it. */
static void a_walk_does_not_meet_what_was_deleted(struct kunit *test)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	struct test_walk walk;
	int i, next, deleted = 0;

	walk_prepare(test, &walk);
	rcu_read_lock();
	bpf_local_storage_iter_init(&iter, test_storage(walk.owner));
	while ((elem = bpf_local_storage_iter_next(&iter))) {
		i = walk_meet(&walk, elem);
		/* The one that the walk stands on, too. */
		KUNIT_EXPECT_EQ(test, test_delete(walk.owner, walk.smaps[i]),
				0L);
		next = (i + 20) % NR_MAPS;
		if (!walk.met[next] &&
		    !test_delete(walk.owner, walk.smaps[next]))
			deleted++;
		else
			walk.met[next] += walk.met[next] ? 0 : 2;
	}
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, deleted, NR_MAPS / 2);
	for (i = 0, next = 0; i < NR_MAPS; i++) {
		KUNIT_EXPECT_LE(test, walk.met[i], 1);
		next += walk.met[i];
	}
	KUNIT_EXPECT_EQ(test, next, NR_MAPS / 2);
	KUNIT_EXPECT_NULL(test, test_storage(walk.owner));
}

/* What stays is met once, whatever the index became meanwhile. */
static void a_walk_outlasts_its_index(struct kunit *test)
{
	struct bpf_local_storage_map *more[100];
	struct bpf_local_storage_index *index;
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	struct test_walk walk;
	int i, nr = 0, wrong = 0;

	walk_prepare(test, &walk);
	test_maps(test, more, ARRAY_SIZE(more), 0);
	index = test_index(walk.owner);
	rcu_read_lock();
	bpf_local_storage_iter_init(&iter, test_storage(walk.owner));
	while ((elem = bpf_local_storage_iter_next(&iter))) {
		walk_meet(&walk, elem);
		for (i = 0; i < 4 && nr < ARRAY_SIZE(more); i++)
			wrong += IS_ERR(test_create(walk.owner, more[nr++],
						    NR_MAPS));
	}
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, wrong, 0);
	KUNIT_EXPECT_PTR_NE(test, test_index(walk.owner), index);
	for (i = 0; i < NR_MAPS; i++)
		KUNIT_EXPECT_EQ(test, walk.met[i], 1);
	test_check(test, walk.owner);
}

/* Its values and the storage stay for those who walk. */
static void a_walk_outlasts_its_owner(struct kunit *test)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage *storage;
	struct bpf_local_storage_iter iter;
	struct test_walk walk;
	int i, nr = 0;

	walk_prepare(test, &walk);
	storage = test_storage(walk.owner);
	rcu_read_lock();
	bpf_local_storage_iter_init(&iter, storage);
	elem = bpf_local_storage_iter_next(&iter);
	test_destroy(walk.owner);
	i = walk_meet(&walk, elem);
	while (bpf_local_storage_iter_next(&iter))
		nr++;
	rcu_read_unlock();
	KUNIT_EXPECT_LT(test, i, NR_MAPS);
	KUNIT_EXPECT_EQ(test, walk.met[i], 1);
	KUNIT_EXPECT_EQ(test, nr, 0);
}

/* Walks over a map */

static const void *refused;
/* Owners that walks hold. */
static int taken;

static bool take_owner(void *owner)
{
	if (owner == refused)
		return false;
	taken++;
	return true;
}

static void put_owner(void *owner)
{
	taken--;
}

struct test_map_walk {
	struct bpf_local_storage_map_iter iter;
	struct bpf_local_storage_map *smap;
	struct test_owner *owners[NR_OWNERS];
	int met[NR_OWNERS];
	int nr;
};

/* At which values a walk pauses: one of so many, or none. */
static const int test_pauses[] = {
	0, 1, 2, 3, 5, BPF_LOCAL_STORAGE_WALK_BATCH - 1,
	BPF_LOCAL_STORAGE_WALK_BATCH, BPF_LOCAL_STORAGE_WALK_BATCH + 1,
};

static void test_pauses_describe(const int *pauses, char *text)
{
	snprintf(text, KUNIT_PARAM_DESC_SIZE, "%d", *pauses);
}

KUNIT_ARRAY_PARAM(test_pauses, test_pauses, test_pauses_describe);

/* A walk over a map in which every owner has a value. */
static void map_walk_begin(struct test_map_walk *walk)
{
	memset(&walk->iter, 0, sizeof(walk->iter));
	memset(walk->met, 0, sizeof(walk->met));
	walk->iter.smap = walk->smap;
	walk->iter.get = take_owner;
	walk->iter.put = put_owner;
	refused = NULL;
}

static void map_walk_prepare(struct kunit *test, struct test_map_walk *walk,
			     u32 flags)
{
	int i;

	walk->smap = test_map(test, 8, flags);
	for (i = 0; i < NR_OWNERS; i++) {
		walk->owners[i] = test_owner(test);
		TEST_ADD(test, walk->owners[i], walk->smap, i);
	}
	map_walk_begin(walk);
}

/* Whose value it was, or a negative number. */
static int map_walk_meet(struct test_map_walk *walk, const u64 *value)
{
	u32 i;

	div_u64_rem(*value, 1000, &i);
	if (i >= NR_OWNERS || walk->iter.owner != walk->owners[i])
		return -1;
	walk->met[i]++;
	return i;
}

static u64 *map_walk_start(struct test_map_walk *walk)
{
	return bpf_local_storage_map_iter_start(&walk->iter);
}

/* The next value, after a pause if it is one of so many. */
static u64 *map_walk_next(struct test_map_walk *walk, int pauses)
{
	u64 *value = bpf_local_storage_map_iter_next(&walk->iter);

	if (!pauses || ++walk->nr % pauses)
		return value;
	bpf_local_storage_map_iter_stop(&walk->iter);
	return map_walk_start(walk);
}

static void map_walk_end(struct test_map_walk *walk)
{
	bpf_local_storage_map_iter_stop(&walk->iter);
	bpf_local_storage_map_iter_end(&walk->iter);
}

static void expect_nothing_left(struct kunit *test,
				struct bpf_local_storage_map *smap)
{
	struct bpf_local_storage_elem *elem;
	int i;

	for (i = 0; i < BIT(smap->bucket_bits); i++)
		hlist_for_each_entry(elem, &smap->buckets[i].elems, map_node)
			KUNIT_EXPECT_NE(test, elem->tagged_storage, 0);
	KUNIT_EXPECT_EQ(test, taken, 0);
	test_check_map(test, smap);
}

static void a_walk_over_a_map_meets_every_owner_once(struct kunit *test)
{
	int pauses = *(const int *)test->param_value;
	struct test_map_walk walk;
	int i, strange = 0;
	u64 *value;

	map_walk_prepare(test, &walk, 0);
	for (value = map_walk_start(&walk); value;
	     value = map_walk_next(&walk, pauses))
		strange += map_walk_meet(&walk, value) < 0;
	KUNIT_EXPECT_NULL(test, map_walk_next(&walk, pauses));
	map_walk_end(&walk);
	KUNIT_EXPECT_EQ(test, strange, 0);
	for (i = 0; i < NR_OWNERS; i++)
		KUNIT_EXPECT_EQ(test, walk.met[i], 1);
	expect_nothing_left(test, walk.smap);
}

/* What can happen to values while a walk is on its way. */
enum test_event {
	DELETE_THIS,
	DELETE_OTHERS,
	DESTROY_THIS,
	DESTROY_OTHERS,
	REPLACE_THIS,
	REPLACE_ALL,
	MAKE_THIS_AGAIN,
	TEST_EVENTS
};

/* Owner @i is the one that the walk stands on. */
static void event_happens(struct kunit *test, struct test_map_walk *walk,
			  enum test_event event, int i)
{
	int k;

	for (k = 0; k < NR_OWNERS; k++) {
		struct test_owner *owner = walk->owners[k];
		bool others = event == DELETE_OTHERS || event == DESTROY_OTHERS;
		bool here = k == i;

		if (event != REPLACE_ALL && others == here)
			continue;
		/* Half of the others stay. */
		if (others && (k / 2 % 2 || walk->met[k]))
			continue;
		switch (event) {
		case DELETE_THIS:
		case DELETE_OTHERS:
			test_delete(owner, walk->smap);
			break;
		case DESTROY_THIS:
		case DESTROY_OTHERS:
			test_destroy(owner);
			break;
		case MAKE_THIS_AGAIN:
			test_delete(owner, walk->smap);
			test_create(owner, walk->smap, 1000 + k);
			break;
		default:
			test_update(test, owner, walk->smap, 1000 + k,
				    BPF_EXIST);
		}
	}
}

static bool event_spares(enum test_event event, int i)
{
	return (event != DELETE_OTHERS && event != DESTROY_OTHERS) ||
	       i / 2 % 2;
}

static void test_map_walk_with(struct kunit *test, enum test_event event,
			       int pauses, u32 flags)
{
	struct test_map_walk walk;
	int i, nr = 0, strange = 0;
	u64 *value;

	map_walk_prepare(test, &walk, flags);
	for (value = map_walk_start(&walk); value;
	     value = map_walk_next(&walk, pauses)) {
		i = map_walk_meet(&walk, value);
		if (i < 0) {
			strange++;
			continue;
		}
		event_happens(test, &walk, event, i);
		/* More than there can be. */
		if (++nr > 3 * NR_OWNERS)
			break;
	}
	map_walk_end(&walk);
	KUNIT_EXPECT_EQ_MSG(test, strange, 0, "event %d", event);
	for (i = 0; i < NR_OWNERS; i++) {
		KUNIT_EXPECT_LE_MSG(test, walk.met[i], 1, "event %d", event);
		if (event_spares(event, i))
			KUNIT_EXPECT_EQ_MSG(test, walk.met[i], 1, "event %d",
					    event);
		test_check(test, walk.owners[i]);
	}
	expect_nothing_left(test, walk.smap);
}

static void a_walk_over_a_map_meets_changes(struct kunit *test)
{
	int event;

	for (event = 0; event < TEST_EVENTS; event++)
		test_map_walk_with(test, event, 0, 0);
}

static void a_pausing_walk_over_a_map_meets_changes(struct kunit *test)
{
	int pauses = *(const int *)test->param_value;
	int event;

	/* Values that are made again are new ones for a walk that paused. */
	for (event = 0; event < MAKE_THIS_AGAIN; event++)
		test_map_walk_with(test, event, pauses, BPF_F_STORAGE_NO_SLOT);
}

/* What happens while it pauses: the one that it is to go on with goes. */
static void a_pausing_walk_loses_its_next_value(struct kunit *test)
{
	int i, met = 0, gone = 0, strange = 0;
	struct test_map_walk walk;
	u64 *value;

	map_walk_prepare(test, &walk, 0);
	value = map_walk_start(&walk);
	while (value) {
		strange += map_walk_meet(&walk, value) < 0;
		met++;
		value = bpf_local_storage_map_iter_next(&walk.iter);
		i = value ? *value : -1;
		bpf_local_storage_map_iter_stop(&walk.iter);
		KUNIT_EXPECT_EQ(test, taken, 0);
		if (i >= 0) {
			KUNIT_EXPECT_EQ(test, test_delete(walk.owners[i],
							  walk.smap), 0L);
			if (!(gone++ % 4))
				bpf_local_storage_barrier();
		}
		value = map_walk_start(&walk);
	}
	map_walk_end(&walk);
	KUNIT_EXPECT_EQ(test, strange, 0);
	KUNIT_EXPECT_EQ(test, met + gone, NR_OWNERS);
	KUNIT_EXPECT_GE(test, gone, NR_OWNERS / 2 - 1);
	for (i = 0; i < NR_OWNERS; i++)
		KUNIT_EXPECT_LE(test, walk.met[i], 1);
}

static void a_walk_over_a_map_passes_over_the_dying(struct kunit *test)
{
	struct test_map_walk walk;
	int i, strange = 0;
	u64 *value;

	map_walk_prepare(test, &walk, 0);
	refused = walk.owners[5];
	for (value = map_walk_start(&walk); value;
	     value = map_walk_next(&walk, 0))
		strange += map_walk_meet(&walk, value) < 0;
	map_walk_end(&walk);
	KUNIT_EXPECT_EQ(test, strange, 0);
	for (i = 0; i < NR_OWNERS; i++)
		KUNIT_EXPECT_EQ(test, walk.met[i], i != 5);
}

/* A walk passes the cursors of others, which may end early. */
static void walks_over_a_map_do_not_disturb_each_other(struct kunit *test)
{
	struct test_map_walk walk, other;
	int i, nr = 0, strange = 0;
	u64 *value, *found;

	map_walk_prepare(test, &walk, 0);
	other = walk;
	value = map_walk_start(&walk);
	while (value) {
		strange += map_walk_meet(&walk, value) < 0;
		map_walk_begin(&other);
		found = map_walk_start(&other);
		for (i = 0; i < nr; i++) {
			strange += map_walk_meet(&other, found) < 0;
			found = map_walk_next(&other, 0);
		}
		KUNIT_EXPECT_NOT_NULL(test, found);
		bpf_local_storage_map_iter_stop(&other.iter);
		value = bpf_local_storage_map_iter_next(&walk.iter);
		test_check_map(test, walk.smap);
		bpf_local_storage_map_iter_end(&other.iter);
		nr++;
	}
	map_walk_end(&walk);
	KUNIT_EXPECT_EQ(test, strange, 0);
	for (i = 0; i < NR_OWNERS; i++)
		KUNIT_EXPECT_EQ(test, walk.met[i], 1);
	expect_nothing_left(test, walk.smap);
}

/* Copies */

/* Maps of a parent's, by what becomes of their values in a child. */
struct test_family {
	struct test_owner *parent;
	struct bpf_local_storage_map *copied[10];
	int nr_copied;
	struct bpf_local_storage_map *left_out[2];
};

static void family_add(struct kunit *test, struct test_family *family, u32 size,
		       u32 flags)
{
	int i = family->nr_copied++;

	family->copied[i] = test_map(test, size, BPF_F_CLONE | flags);
	TEST_ADD(test, family->parent, family->copied[i], 100 + i);
}

/*
 * With @small copies for one block; and with @others, some that do not fit in,
 * or have no slot.
 */
static void family_prepare(struct kunit *test, struct test_family *family,
			   int small, bool others)
{
	int i;

	memset(family, 0, sizeof(*family));
	family->parent = test_owner(test);
	for (i = 0; i < ARRAY_SIZE(family->left_out); i++) {
		family->left_out[i] = test_map(test, 8, 0);
		TEST_ADD(test, family->parent, family->left_out[i], i);
	}
	for (i = 0; i < small; i++)
		family_add(test, family, i % 2 ? 200 : 1, 0);
	if (!others)
		return;
	family_add(test, family, 1000, 0);
	family_add(test, family, 8, BPF_F_STORAGE_NO_SLOT);
	family_add(test, family, 300, BPF_F_STORAGE_NO_SLOT);
}

static void expect_copies(struct kunit *test, struct test_family *family,
			  struct test_owner *child)
{
	int i;

	for (i = 0; i < family->nr_copied; i++)
		KUNIT_EXPECT_EQ(test, test_get(child, family->copied[i]),
				(u64)100 + i);
	for (i = 0; i < ARRAY_SIZE(family->left_out); i++)
		KUNIT_EXPECT_EQ(test, test_get(child, family->left_out[i]),
				TEST_NOTHING);
	test_check(test, child);
	test_check(test, family->parent);
}

static void copies_are_one_block(struct kunit *test)
{
	struct test_family family;
	struct test_owner *child;
	int small, before;
	u32 i, bytes;

	for (small = 1; small <= 7; small++) {
		child = test_owner(test);
		family_prepare(test, &family, small, false);
		before = test_blocks();
		KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
		expect_copies(test, &family, child);
		KUNIT_EXPECT_EQ(test, test_blocks(),
				before + test_blocks_are_counted());
		bytes = sizeof(struct bpf_local_storage) +
			test_slots.nr * sizeof(void *);
		for (i = 0; i < small; i++)
			bytes += (i ? sizeof(struct bpf_local_storage_elem) :
				      0) + (i % 2 ? 200 : 8);
		KUNIT_EXPECT_EQ(test, atomic_read(&child->charged), bytes);
		test_destroy(family.parent);
		test_destroy(child);
		while (family.nr_copied)
			test_map_free(test, family.copied[--family.nr_copied]);
		for (i = 0; i < ARRAY_SIZE(family.left_out); i++)
			test_map_free(test, family.left_out[i]);
	}
}

static void copies_that_do_not_fit_follow(struct kunit *test)
{
	struct test_owner *child = test_owner(test);
	struct test_family family;
	int before, i;

	family_prepare(test, &family, 4, true);
	before = test_blocks();
	KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
	expect_copies(test, &family, child);
	/* One block, three values and an index. */
	KUNIT_EXPECT_EQ(test, test_blocks(),
			before + 5 * test_blocks_are_counted());
	/* Parent and child have nothing in common. */
	for (i = 0; i < family.nr_copied; i++)
		KUNIT_EXPECT_EQ(test, test_update(test, child, family.copied[i],
						  7, BPF_EXIST), 0);
	for (i = 0; i < family.nr_copied; i++)
		KUNIT_EXPECT_EQ(test, test_get(family.parent, family.copied[i]),
				(u64)100 + i);
	test_destroy(family.parent);
	for (i = 0; i < family.nr_copied; i++)
		KUNIT_EXPECT_EQ(test, test_get(child, family.copied[i]), 7);
	test_check(test, child);
}

/* As many as fit into a block that does not grow beyond 2 KiB. */
static void many_copies_are_more_than_one_block(struct kunit *test)
{
	struct test_owner *child = test_owner(test);
	struct test_family family;
	int i, before;

	memset(&family, 0, sizeof(family));
	family.parent = test_owner(test);
	for (i = 0; i < ARRAY_SIZE(family.copied); i++)
		family_add(test, &family, 256, 0);
	before = test_blocks();
	KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
	for (i = 0; i < family.nr_copied; i++)
		KUNIT_EXPECT_EQ(test, test_get(child, family.copied[i]),
				(u64)100 + i);
	test_check(test, child);
	if (test_blocks_are_counted())
		KUNIT_EXPECT_GT(test, test_blocks(), before + 1);
	KUNIT_EXPECT_LT(test, test_blocks(),
			before + (int)ARRAY_SIZE(family.copied));
}

static void nothing_is_copied_of_nothing(struct kunit *test)
{
	struct test_owner *child = test_owner(test);
	struct test_family family;

	family_prepare(test, &family, 0, false);
	KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
	KUNIT_EXPECT_NULL(test, test_storage(child));
	expect_copies(test, &family, child);
}

/* Its free would not come by. */
static void a_map_that_is_freed_is_not_copied(struct kunit *test)
{
	struct test_owner *child = test_owner(test), *like = test_owner(test);
	struct test_owner *without = test_owner(test);
	struct test_family family;
	int i;

	family_prepare(test, &family, 3, true);
	for (i = 0; i < family.nr_copied; i += 2)
		atomic64_set(&family.copied[i]->map.refcnt, 0);
	for (i = 1; i < family.nr_copied; i += 2)
		TEST_ADD(test, without, family.copied[i], i);
	KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
	KUNIT_EXPECT_EQ(test, test_clone(without, like), 0);
	/* No room is left for it either. */
	KUNIT_EXPECT_EQ(test, atomic_read(&child->charged),
			atomic_read(&like->charged));
	for (i = 0; i < family.nr_copied; i++)
		KUNIT_EXPECT_EQ(test, test_get(child, family.copied[i]),
				i % 2 ? (u64)100 + i : TEST_NOTHING);
	test_check(test, child);
	for (i = 0; i < family.nr_copied; i++)
		KUNIT_EXPECT_EQ(test,
				atomic64_read(&family.copied[i]->map.refcnt),
				i % 2);
}

static struct test_family *test_leaving;

/* Every other map goes; not the one that is held, which pays for the memory. */
static void let_maps_go(struct test_owner *child)
{
	int i;

	child->on_charge = NULL;
	for (i = 0; i < test_leaving->nr_copied; i += 2)
		atomic64_cmpxchg(&test_leaving->copied[i]->map.refcnt, 1, 0);
}

/* The memory for its copy has been asked for, and its free has come by. */
static void a_map_that_is_freed_meanwhile_is_not_copied(struct kunit *test)
{
	struct test_owner *child = test_owner(test);
	struct test_family family;
	int i, left = 0;

	family_prepare(test, &family, 5, true);
	test_leaving = &family;
	child->on_charge = let_maps_go;
	KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
	for (i = 0; i < family.nr_copied; i++) {
		bool stays = atomic64_read(&family.copied[i]->map.refcnt);

		KUNIT_EXPECT_EQ(test, test_get(child, family.copied[i]),
				stays ? (u64)100 + i : TEST_NOTHING);
		left += !stays;
	}
	KUNIT_EXPECT_GE(test, left, 3);
	test_check(test, child);
}

/* The block stays until its last copy is gone, whichever that is. */
static void copies_go_in_any_order(struct kunit *test)
{
	struct test_family family;
	struct test_owner *child;
	int i, first, before;
	void *storage;

	family_prepare(test, &family, 5, false);
	bpf_local_storage_barrier();
	before = test_blocks();
	for (first = 0; first < family.nr_copied; first++) {
		child = test_owner(test);
		KUNIT_EXPECT_EQ(test, test_clone(family.parent, child), 0);
		storage = test_storage(child);
		for (i = 0; i < family.nr_copied; i++) {
			struct bpf_local_storage_map *smap;

			KUNIT_EXPECT_PTR_EQ(test, (void *)test_storage(child),
					    storage);
			test_check(test, child);
			smap = family.copied[(first + i * 2) %
					     family.nr_copied];
			/* A new value in its place is one of its own. */
			if (i % 2)
				KUNIT_EXPECT_EQ(test, test_update(test, child,
								  smap, 1,
								  BPF_EXIST),
						0);
			test_check(test, child);
			TEST_DROP(test, child, smap);
		}
		KUNIT_EXPECT_NULL(test, test_storage(child));
		test_check(test, child);
		bpf_local_storage_barrier();
		KUNIT_EXPECT_EQ(test, test_blocks(), before);
	}
	test_check(test, family.parent);
}

/* Let each allocation or charge fail, until none does. */
static void test_let_copies_fail(struct kunit *test, bool charges)
{
	/* One block, three values and an index. */
	const int allocations = 5;
	struct test_family family;
	struct test_owner *child;
	int failed, before, err;

	family_prepare(test, &family, 4, true);
	bpf_local_storage_barrier();
	before = test_blocks();
	for (failed = 0; failed <= allocations; failed++) {
		child = test_owner(test);
		if (charges)
			child->charges_left = failed;
		else
			test_fail_allocation(failed + 1);
		err = test_clone(family.parent, child);
		test_fail_allocation(0);
		if (!err)
			break;
		KUNIT_EXPECT_EQ(test, err, -ENOMEM);
		test_check(test, child);
		test_destroy(child);
		KUNIT_EXPECT_EQ(test, atomic_read(&child->charged), 0);
		bpf_local_storage_barrier();
		KUNIT_EXPECT_EQ(test, test_blocks(), before);
	}
	KUNIT_EXPECT_EQ(test, failed, allocations);
	expect_copies(test, &family, child);
}

static void copies_may_find_no_memory(struct kunit *test)
{
	if (!test_can_fail_allocations())
		kunit_skip(test, "needs CONFIG_FAILSLAB");
	test_let_copies_fail(test, false);
}

static void a_new_owner_may_refuse_to_pay(struct kunit *test)
{
	test_let_copies_fail(test, true);
}

/* Ends of owners and of maps */

struct test_meeting {
	struct bpf_local_storage_map *smaps[NR_MAPS];
	struct test_owner *owners[NR_OWNERS];
	struct completion done;
};

static void meeting_prepare(struct kunit *test, struct test_meeting *meeting)
{
	int i, k;

	init_completion(&meeting->done);
	test_maps(test, meeting->smaps, NR_MAPS, 0);
	for (k = 0; k < NR_OWNERS; k++) {
		meeting->owners[k] = test_owner(test);
		/* Each begins with another map's value. */
		for (i = 0; i < NR_MAPS; i++)
			TEST_ADD(test, meeting->owners[k],
				 meeting->smaps[(i + k) % NR_MAPS], i);
		test_check(test, meeting->owners[k]);
	}
}

static void maps_end_before_and_after_owners(struct kunit *test)
{
	struct test_meeting meeting;
	int i, k;

	meeting_prepare(test, &meeting);
	for (i = 0, k = 0; i < NR_MAPS; i++) {
		test_map_free(test, meeting.smaps[i]);
		if (i % 2)
			test_destroy(meeting.owners[k++]);
		test_check(test, meeting.owners[NR_OWNERS - 1]);
	}
	for (k = 0; k < NR_OWNERS; k++)
		test_check(test, meeting.owners[k]);
}

static int destroy_owners(void *data)
{
	struct test_meeting *meeting = data;
	int k;

	for (k = 0; k < NR_OWNERS; k++) {
		test_destroy(meeting->owners[k]);
		/* On one processor, the other task is to run in between. */
		if (k % 4 == 3)
			schedule_timeout_uninterruptible(1);
	}
	complete(&meeting->done);
	return 0;
}

/* Exactly one of both unlinks a value; their order is not known. */
static void maps_and_owners_end_at_once(struct kunit *test)
{
	struct test_meeting *meeting;
	struct task_struct *task;
	int round, i, k;

	meeting = kunit_kzalloc(test, sizeof(*meeting), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, meeting);
	for (round = 0; round < 5; round++) {
		meeting_prepare(test, meeting);
		task = kthread_run(destroy_owners, meeting, "destroy-owners");
		KUNIT_ASSERT_FALSE(test, IS_ERR(task));
		for (i = 0; i < NR_MAPS; i++)
			test_map_free(test, meeting->smaps[i]);
		wait_for_completion(&meeting->done);
		for (k = 0; k < NR_OWNERS; k++)
			test_check(test, meeting->owners[k]);
	}
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(a_walk_meets_every_value_once),
	KUNIT_CASE(a_walk_does_not_meet_what_was_deleted),
	KUNIT_CASE(a_walk_outlasts_its_index),
	KUNIT_CASE(a_walk_outlasts_its_owner),
	KUNIT_CASE_PARAM(a_walk_over_a_map_meets_every_owner_once,
			 test_pauses_gen_params),
	KUNIT_CASE(a_walk_over_a_map_meets_changes),
	KUNIT_CASE_PARAM(a_pausing_walk_over_a_map_meets_changes,
			 test_pauses_gen_params),
	KUNIT_CASE(a_pausing_walk_loses_its_next_value),
	KUNIT_CASE(a_walk_over_a_map_passes_over_the_dying),
	KUNIT_CASE(walks_over_a_map_do_not_disturb_each_other),
	KUNIT_CASE(copies_are_one_block),
	KUNIT_CASE(copies_that_do_not_fit_follow),
	KUNIT_CASE(many_copies_are_more_than_one_block),
	KUNIT_CASE(nothing_is_copied_of_nothing),
	KUNIT_CASE(a_map_that_is_freed_is_not_copied),
	KUNIT_CASE(a_map_that_is_freed_meanwhile_is_not_copied),
	KUNIT_CASE(copies_go_in_any_order),
	KUNIT_CASE(copies_may_find_no_memory),
	KUNIT_CASE(a_new_owner_may_refuse_to_pay),
	KUNIT_CASE(maps_end_before_and_after_owners),
	KUNIT_CASE(maps_and_owners_end_at_once),
	{}
};

TEST_SUITE("bpf_local_storage_walk");
