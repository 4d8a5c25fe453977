// SPDX-License-Identifier: GPL-2.0
/* Charging, limits, failing allocations, and that everything comes back. */
#include "harness.h"
#include "net.h"
#include "sockopt.skel.h"
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
	EXPECT_GE(fail_each(self->maps[0], self->sk), 1);
	EXPECT_EQ(bpf_map_delete_elem(self->maps[0], &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
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

TEST_F(failing, every_allocation_of_a_map_may_fail)
{
	struct btf *btf = types_for(8);
	struct spec spec = spec_for(btf, 8);
	bool pending;
	int fd, n;

	for (n = 1; n < 100; n++) {
		fail_nth(n);
		fd = create(&spec);
		pending = failure_pending();
		fail_nth(0);
		if (fd >= 0)
			close(fd);
		else
			EXPECT_EQ(fd, -ENOMEM);
		if (pending)
			break;
	}
	EXPECT_GT(n, 2);
	EXPECT_LT(n, 100);
	btf__free(btf);
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
