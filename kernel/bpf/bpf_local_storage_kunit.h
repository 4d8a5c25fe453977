/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of local storage's core share: owners that nothing else has,
 * whose charges and blocks of memory are counted.
 */
#ifndef _BPF_LOCAL_STORAGE_KUNIT_H
#define _BPF_LOCAL_STORAGE_KUNIT_H

#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/err.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_trace.h>
#include "bpf_local_storage_internal.h"

/* What test_get() says where there is no value. */
#define TEST_NOTHING		U64_MAX
/* Any number of charges is granted. */
#define TEST_UNLIMITED		(-1)

/**
 * struct test_owner - an owner
 * @storage: what it keeps
 * @charged: bytes
 * @charges_left: how many charges are granted, or TEST_UNLIMITED
 * @on_charge: called before anything is charged, or NULL
 * @on_uncharge: called with what is uncharged, or NULL
 */
struct test_owner {
	struct bpf_local_storage __rcu *storage;
	atomic_t charged;
	int charges_left;
	void (*on_charge)(struct test_owner *owner);
	void (*on_uncharge)(struct test_owner *owner, u32 size);
};

extern struct bpf_local_storage_slots test_slots;
extern const struct bpf_local_storage_kind test_kind;

int test_init(struct kunit *test);
void test_exit(struct kunit *test);
int test_suite_init(struct kunit_suite *suite);
void test_suite_exit(struct kunit_suite *suite);

struct test_owner *test_owner(struct kunit *test);
void test_destroy(struct test_owner *owner);

struct bpf_local_storage_map *test_try_map(struct kunit *test, u32 value_size,
					   u32 flags);
struct bpf_local_storage_map *test_map(struct kunit *test, u32 value_size,
				       u32 flags);
void test_maps(struct kunit *test, struct bpf_local_storage_map **smaps, int nr,
	       u32 flags);
void test_map_free(struct kunit *test, struct bpf_local_storage_map *smap);

void *test_create(struct test_owner *owner, struct bpf_local_storage_map *smap,
		  u64 number);
long test_update(struct kunit *test, struct test_owner *owner,
		 struct bpf_local_storage_map *smap, u64 number, u64 flags);
long test_delete(struct test_owner *owner, struct bpf_local_storage_map *smap);
void *test_lookup(struct test_owner *owner, struct bpf_local_storage_map *smap);
u64 test_get(struct test_owner *owner, struct bpf_local_storage_map *smap);
int test_clone(struct test_owner *from, struct test_owner *owner);

struct bpf_local_storage *test_storage(struct test_owner *owner);
struct bpf_local_storage_index *test_index(struct test_owner *owner);
void test_check(struct kunit *test, struct test_owner *owner);
void test_check_map(struct kunit *test, struct bpf_local_storage_map *smap);

bool test_blocks_are_counted(void);
int test_blocks(void);
bool test_is_allocated(const void *block);

bool test_can_fail_allocations(void);
void test_fail_allocation(int nth);

/* Create a value that must not be there, and see to it that it then is. */
#define TEST_ADD(test, owner, smap, number)				\
	do {								\
		KUNIT_ASSERT_EQ(test, test_get(owner, smap), TEST_NOTHING); \
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test,			\
				test_create(owner, smap, number));	\
		KUNIT_ASSERT_EQ(test, test_get(owner, smap),		\
				(u64)(number));				\
	} while (0)

/* Delete a value that must be there. */
#define TEST_DROP(test, owner, smap)					\
	do {								\
		KUNIT_ASSERT_EQ(test, test_delete(owner, smap), 0L);	\
		KUNIT_ASSERT_EQ(test, test_get(owner, smap), TEST_NOTHING); \
	} while (0)

/* A file's suite, of its test_cases. */
#define TEST_SUITE(suite_name)						\
	static struct kunit_suite test_suite = {			\
		.name = suite_name,					\
		.suite_init = test_suite_init,				\
		.suite_exit = test_suite_exit,				\
		.init = test_init,					\
		.exit = test_exit,					\
		.test_cases = test_cases,				\
	};								\
	kunit_test_suite(test_suite)

#endif /* _BPF_LOCAL_STORAGE_KUNIT_H */
