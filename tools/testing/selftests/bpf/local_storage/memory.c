// SPDX-License-Identifier: GPL-2.0
/* Charging, limits, failing allocations, and that everything comes back. */
#include "harness.h"
#include "operate.h"
#include "scarce.h"
#include <sched.h>
#include <sys/syscall.h>

FIXTURE(charge) {
	int map, sk;
};

FIXTURE_SETUP(charge)
{
	self->map = create_with(8, 0);
	ASSERT_GE(self->map, 0);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(charge)
{
	close(self->map);
	close(self->sk);
}

static int set(int map, int fd)
{
	char value[65536] = {};

	return bpf_map_update_elem(map, &fd, value, BPF_ANY);
}

TEST_F(charge, what_is_deleted_is_uncharged)
{
	EXPECT_EQ(optmem(self->sk), 0);
	ASSERT_EQ(set(self->map, self->sk), 0);
	EXPECT_GE(optmem(self->sk), 8);
	ASSERT_EQ(bpf_map_delete_elem(self->map, &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(charge, updates_do_not_add_up)
{
	__u32 charged;

	ASSERT_EQ(set(self->map, self->sk), 0);
	ASSERT_EQ(set(self->map, self->sk), 0);
	charged = optmem(self->sk);
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(set(self->map, self->sk), 0);
	EXPECT_EQ(optmem(self->sk), charged);
	ASSERT_EQ(bpf_map_delete_elem(self->map, &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(charge, it_grows_with_the_value)
{
	int large = create_with(8000, 0);
	__u32 small;

	ASSERT_EQ(set(self->map, self->sk), 0);
	small = optmem(self->sk);
	ASSERT_EQ(set(large, self->sk), 0);
	EXPECT_GE(optmem(self->sk), small + 8000);
	ASSERT_EQ(bpf_map_delete_elem(self->map, &self->sk), 0);
	EXPECT_GE(optmem(self->sk), 8000);
	ASSERT_EQ(bpf_map_delete_elem(large, &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
	close(large);
}

TEST_F(charge, map_free_uncharges)
{
	int maps[40];

	for (int i = 0; i < ARRAY_SIZE(maps); i++) {
		maps[i] = create_with(8, 0);
		ASSERT_EQ(set(maps[i], self->sk), 0);
	}
	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		close(maps[i]);
	EXPECT_TRUE(EVENTUALLY(optmem(self->sk) == 0));
}

TEST_F(charge, it_has_a_limit)
{
	int i, err = 0, fds[16];
	__u32 charged;

	/* Three such values fit, four don't. */
	ASSERT_EQ(write_file(OPTMEM_MAX, "26000"), 0);
	for (i = 0; i < ARRAY_SIZE(fds) && !err; i++) {
		fds[i] = create_with(8000, 0);
		charged = optmem(self->sk);
		err = set(fds[i], self->sk);
	}
	EXPECT_EQ(err, -ENOMEM);
	EXPECT_EQ(i, 4);
	EXPECT_EQ(optmem(self->sk), charged);
	/* What is there can still be read, deleted and then replaced. */
	ASSERT_EQ(bpf_map_delete_elem(fds[0], &self->sk), 0);
	EXPECT_EQ(set(fds[3], self->sk), 0);
	for (int k = 1; k < 4; k++)
		ASSERT_EQ(bpf_map_delete_elem(fds[k], &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(charge, without_room_there_is_no_value)
{
	ASSERT_EQ(write_file(OPTMEM_MAX, "8"), 0);
	EXPECT_EQ(set(self->map, self->sk), -ENOMEM);
	EXPECT_EQ(optmem(self->sk), 0);
	ASSERT_EQ(write_file(OPTMEM_MAX, "131072"), 0);
	EXPECT_EQ(set(self->map, self->sk), 0);
}

/* However little is missing, for whichever part of it. */
TEST_F(charge, a_value_is_paid_for_whole_or_not_made)
{
	int map = create_with(8, is_stock() ? 0 : BPF_F_STORAGE_NO_SLOT);
	int all, limit = 0, err;
	char text[16];

	ASSERT_EQ(set(map, self->sk), 0);
	all = optmem(self->sk);
	ASSERT_EQ(bpf_map_delete_elem(map, &self->sk), 0);
	do {
		limit += 4;
		snprintf(text, sizeof(text), "%d", limit);
		ASSERT_EQ(write_file(OPTMEM_MAX, text), 0);
		err = set(map, self->sk);
		EXPECT_EQ(optmem(self->sk), err ? 0 : all);
	} while (err == -ENOMEM && limit < 2 * all);
	EXPECT_EQ(err, 0);
	EXPECT_GE(limit, all);
	EXPECT_EQ(write_file(OPTMEM_MAX, "131072"), 0);
	close(map);
}

/* Make the nth allocation of this thread fail from now on; 0: none. */
static int fail_nth(int n)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth",
		 syscall(SYS_gettid));
	snprintf(text, sizeof(text), "%d", n);
	return write_file(path, text);
}

/* Whether the failure asked for has not happened yet. */
static bool failure_pending(void)
{
	char path[64], text[16] = {};
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth",
		 syscall(SYS_gettid));
	fd = open(path, O_RDONLY);
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return atoi(text) > 0;
}

static int can_inject(void)
{
	if (write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N"))
		return 0;
	write_file("/sys/kernel/debug/failslab/verbose", "0");
	return fail_nth(0) == 0;
}

FIXTURE(failing) {
	int maps[40], sk;
};

FIXTURE_SETUP(failing)
{
	if (!can_inject())
		SKIP(return, "no fault injection in this kernel");
	for (int i = 0; i < ARRAY_SIZE(self->maps); i++)
		self->maps[i] = create_with(8, 0);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(failing)
{
	if (fail_nth(0))
		return;
	for (int i = 0; i < ARRAY_SIZE(self->maps); i++)
		close(self->maps[i]);
	close(self->sk);
}

/*
 * Try an update with the first, the second, ... allocation failing, until one
 * succeeds because it makes fewer.  Returns how many failed, or an errno that
 * none should have.
 */
static int fail_each(int map, int sk)
{
	__u32 before;
	bool pending;
	int err, n;

	for (n = 1;; n++) {
		before = optmem(sk);
		fail_nth(n);
		err = set(map, sk);
		pending = failure_pending();
		fail_nth(0);
		if (!err && pending)
			return n - 1;
		if (err && err != -ENOMEM)
			return err;
		if (err && optmem(sk) != before)
			return -EUCLEAN;
		if (!err)
			bpf_map_delete_elem(map, &sk);
	}
}

TEST_F(failing, every_allocation_of_a_first_value_may_fail)
{
	/* Together with what the owner keeps it in, or not; and an index. */
	static const struct { __u32 size, flags; int allocations; } firsts[] = {
		{ 8, 0, 1 }, { 1000, 0, 2 },
		{ 8, BPF_F_STORAGE_NO_SLOT, 2 },
		{ 1000, BPF_F_STORAGE_NO_SLOT, 3 },
	};

	for (int i = 0; i < ARRAY_SIZE(firsts); i++) {
		int map = create_with(firsts[i].size, firsts[i].flags);

		EXPECT_GE(fail_each(map, self->sk), firsts[i].allocations)
			TH_LOG("map %d", i);
		EXPECT_EQ(bpf_map_delete_elem(map, &self->sk), 0);
		EXPECT_EQ(optmem(self->sk), 0);
		close(map);
	}
}

TEST_F(failing, every_allocation_by_a_program_may_fail)
{
	struct operator operator = {};
	int n, missing = 0;

	ASSERT_EQ(start_operator(&operator), 0);
	for (n = 1; n < 100; n++) {
		struct answer answer;
		bool pending;

		fail_nth(n);
		answer = operate(self->sk, MAIN_MAP, DO_CREATE, 0);
		pending = failure_pending();
		fail_nth(0);
		if (!answer.err && pending)
			break;
		if (answer.err == -1)
			missing++;
		else if (answer.err)
			EXPECT_EQ(answer.err, -ENOMEM);
		EXPECT_EQ(!optmem(self->sk), !!answer.err);
		operate(self->sk, MAIN_MAP, DO_DELETE, 0);
	}
	EXPECT_LT(n, 100);
	/* One of them is the helper's, and another may be what pays for it. */
	EXPECT_GE(missing, 1);
	end_operator(&operator);
}

TEST_F(failing, every_allocation_of_a_further_value_may_fail)
{
	/* With and without slot, and with an index that grows. */
	for (int i = 0; i < ARRAY_SIZE(self->maps); i++) {
		EXPECT_GE(fail_each(self->maps[i], self->sk), 1)
			TH_LOG("map %d", i);
	}
	for (int i = 0; i < ARRAY_SIZE(self->maps); i++)
		EXPECT_EQ(bpf_map_delete_elem(self->maps[i], &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(failing, replacement_keeps_the_old_value)
{
	__u64 value = 5, seen = 0;
	int err;

	ASSERT_EQ(bpf_map_update_elem(self->maps[0], &self->sk, &value, 0), 0);
	value = 6;
	fail_nth(1);
	err = bpf_map_update_elem(self->maps[0], &self->sk, &value, 0);
	fail_nth(0);
	EXPECT_EQ(err, -ENOMEM);
	ASSERT_EQ(bpf_map_lookup_elem(self->maps[0], &self->sk, &seen), 0);
	EXPECT_EQ(seen, 5);
}

/* Maps, for which there is no memory at all from some moment on. */

#define SCARCE_MAPS	100

FIXTURE(scarce) {
	int maps[SCARCE_MAPS];
};

EVERY_KIND(scarce);

FIXTURE_SETUP(scarce)
{
	if (!can_be_scarce())
		SKIP(return, "no fault injection in this kernel");
	ASSERT_EQ(begin_scarcity("bpf_local_storage_map_alloc"), 0);
}

FIXTURE_TEARDOWN(scarce)
{
	for (int i = 0; i < SCARCE_MAPS; i++)
		if (self->maps[i] > 0)
			close(self->maps[i]);
	end_scarcity();
}

/*
 * Try to create a map with memory from the first, the second, ... allocation on
 * missing, until one succeeds because it makes fewer; sets *failed to how many
 * did not.
 */
static int create_at_last(__u32 type, int *failed)
{
	int fd;

	for (*failed = 0;; ++*failed) {
		run_out(1, *failed + 1);
		fd = create_kind(type, 8, 0);
		if (!ran_out() || fd != -ENOMEM)
			return fd;
	}
}

TEST_F(scarce, every_allocation_of_a_map_may_fail)
{
	int failed, most = 0;

	for (int i = 0; i < SCARCE_MAPS; i++) {
		self->maps[i] = create_at_last(variant->type, &failed);
		ASSERT_GT(self->maps[i], 0);
		/* The map, and its buckets. */
		EXPECT_GE(failed, 2);
		most = failed > most ? failed : most;
	}
	/* Beyond the 62nd, numbers take memory. */
	EXPECT_GE(most, 3);
	/* What was not made has given its number back. */
	EXPECT_LT(map_number(), SCARCE_MAPS * 3 / 2);
}

/* Memory of each CPU, for programs that may run anywhere. */

FIXTURE(per_cpu) {
	int *maps, nr, outer;
};

static int use_by_program(int map, int outer)
{
	int prog = program_with(map);

	if (prog < 0)
		return prog;
	close(prog);
	return 0;
}

static int use_in_outer(int map, int outer)
{
	return bpf_map_update_elem(outer, &(int){ 0 }, &map, 0);
}

FIXTURE_VARIANT(per_cpu) {
	int (*use)(int map, int outer);
	/* Which of the two allocations fails, and what that comes to. */
	int which, err;
};

FIXTURE_VARIANT_ADD(per_cpu, first_of_a_program) {
	use_by_program, 1, -ENOMEM
};

FIXTURE_VARIANT_ADD(per_cpu, second_of_a_program) {
	use_by_program, 2, -ENOMEM
};

FIXTURE_VARIANT_ADD(per_cpu, first_of_an_outer_map) {
	use_in_outer, 1, -EINVAL
};

FIXTURE_VARIANT_ADD(per_cpu, second_of_an_outer_map) {
	use_in_outer, 2, -EINVAL
};

#define PER_CPU_MAPS	900

FIXTURE_SETUP(per_cpu)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	int template = create_with(8, 0);

	if (!can_be_scarce())
		SKIP(return, "no fault injection in this kernel");
	self->maps = calloc(PER_CPU_MAPS, sizeof(int));
	ASSERT_NE(self->maps, NULL);
	opts.inner_map_fd = template;
	self->outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "outer", 4, 4,
				     1, &opts);
	close(template);
	ASSERT_GE(self->outer, 0);
	ASSERT_EQ(begin_scarcity("bpf_mem_alloc_init"), 0);
}

FIXTURE_TEARDOWN(per_cpu)
{
	if (!self->maps)
		return;
	end_scarcity();
	for (int i = 0; i < self->nr; i++)
		close(self->maps[i]);
	close(self->outer);
	free(self->maps);
}

TEST_F(per_cpu, memory_may_run_out)
{
	int map = NO_MAP, err = 0;

	/* Most allocations find room in pages that are there. */
	while (!err && self->nr < PER_CPU_MAPS) {
		map = create_with(8, 0);
		ASSERT_GE(map, 0);
		self->maps[self->nr++] = map;
		run_out(variant->which, 1);
		err = variant->use(map, self->outer);
		ran_out();
	}
	TH_LOG("the %dth map", self->nr);
	EXPECT_EQ(err, variant->err);
	/* Once there is some again, nothing is in its way. */
	EXPECT_EQ(variant->use(map, self->outer), 0);
}

TEST_F(charge, socket_close_frees_the_elements)
{
	long long empty = fdinfo_number(self->map, "memlock");
	int sockets[200];

	for (int i = 0; i < ARRAY_SIZE(sockets); i++) {
		sockets[i] = tcp_socket();
		ASSERT_EQ(set(self->map, sockets[i]), 0);
	}
	for (int i = 0; i < ARRAY_SIZE(sockets); i++)
		close(sockets[i]);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map, "memlock") == empty));
}

TEST_HARNESS_MAIN
