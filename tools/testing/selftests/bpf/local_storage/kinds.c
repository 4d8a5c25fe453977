// SPDX-License-Identifier: GPL-2.0
/* bpf(2) on the elements of each kind of local storage. */
#include "harness.h"
#include "net.h"
#include <sys/eventfd.h>

FIXTURE(element) {
	int map;
	struct storage_owner owner, other;
};

EVERY_KIND(element);

FIXTURE_SETUP(element)
{
	self->map = create_kind(variant->type, 8, 0);
	ASSERT_GE(self->map, 0);
	self->owner = new_owner(variant->type);
	self->other = new_owner(variant->type);
	ASSERT_GE(self->owner.fd, 0);
	ASSERT_GE(self->other.fd, 0);
}

FIXTURE_TEARDOWN(element)
{
	close(self->map);
	end_owner(&self->owner);
	end_owner(&self->other);
}

#define UPDATE(value, flags)	update(self->map, self->owner.fd, value, flags)
#define LOOKUP()		lookup(self->map, self->owner.fd)
#define DELETE()		delete(self->map, self->owner.fd)

TEST_F(element, what_is_set_is_found_until_deleted)
{
	EXPECT_EQ(UPDATE(11, BPF_ANY), 0);
	EXPECT_EQ(LOOKUP(), 11);
	EXPECT_EQ(UPDATE(12, BPF_ANY), 0);
	EXPECT_EQ(LOOKUP(), 12);
	EXPECT_EQ(DELETE(), 0);
	EXPECT_EQ(LOOKUP(), -ENOENT);
}

TEST_F(element, a_missing_value_is_said_to_be_missing)
{
	EXPECT_EQ(LOOKUP(), -ENOENT);
	EXPECT_EQ(DELETE(), -ENOENT);
}

TEST_F(element, owners_do_not_share)
{
	EXPECT_EQ(UPDATE(1, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, self->other.fd), -ENOENT);
	EXPECT_EQ(update(self->map, self->other.fd, 2, BPF_ANY), 0);
	EXPECT_EQ(LOOKUP(), 1);
	EXPECT_EQ(lookup(self->map, self->other.fd), 2);
	EXPECT_EQ(DELETE(), 0);
	EXPECT_EQ(lookup(self->map, self->other.fd), 2);
}

TEST_F(element, fds_of_one_owner_share)
{
	int copy = dup(self->owner.fd);

	EXPECT_EQ(UPDATE(1, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, copy), 1);
	close(copy);
}

/* Not a copy of the fd: the owner is found anew. */
static int open_again(const struct storage_owner *owner)
{
	char path[64];

	if (owner->pid)
		return pidfd_open(owner->pid, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", owner->fd);
	return open(path, O_RDONLY);
}

TEST_F(element, files_of_one_owner_share)
{
	int again;

	if (variant->type == BPF_MAP_TYPE_SK_STORAGE)
		SKIP(return, "a socket cannot be opened again");
	again = open_again(&self->owner);
	ASSERT_GE(again, 0);
	EXPECT_EQ(UPDATE(1, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, again), 1);
	EXPECT_EQ(delete(self->map, again), 0);
	EXPECT_EQ(LOOKUP(), -ENOENT);
	close(again);
}

TEST_F(element, maps_do_not_share)
{
	int map = create_kind(variant->type, 8, 0);

	EXPECT_EQ(update(map, self->owner.fd, 1, BPF_ANY), 0);
	EXPECT_EQ(UPDATE(1, BPF_EXIST), -ENOENT);
	EXPECT_EQ(DELETE(), -ENOENT);
	EXPECT_EQ(UPDATE(2, BPF_NOEXIST), 0);
	EXPECT_EQ(lookup(map, self->owner.fd), 1);
	close(map);
}

TEST_F(element, noexist_makes_a_new_value_only)
{
	EXPECT_EQ(UPDATE(1, BPF_NOEXIST), 0);
	EXPECT_EQ(UPDATE(2, BPF_NOEXIST), -EEXIST);
	EXPECT_EQ(LOOKUP(), 1);
}

TEST_F(element, exist_changes_a_value_only)
{
	EXPECT_EQ(UPDATE(1, BPF_EXIST), -ENOENT);
	EXPECT_EQ(UPDATE(1, BPF_ANY), 0);
	EXPECT_EQ(UPDATE(2, BPF_EXIST), 0);
	EXPECT_EQ(LOOKUP(), 2);
}

TEST_F(element, unknown_flags_are_refused)
{
	EXPECT_EQ(UPDATE(1, BPF_NOEXIST | BPF_EXIST), -EINVAL);
	EXPECT_EQ(UPDATE(1, 8), -EINVAL);
	EXPECT_EQ(UPDATE(1, 1ULL << 40), -EINVAL);
	EXPECT_EQ(LOOKUP(), -ENOENT);
}

TEST_F(element, lock_flag_needs_a_lock)
{
	__u64 value;

	EXPECT_EQ(UPDATE(1, BPF_F_LOCK), -EINVAL);
	EXPECT_EQ(bpf_map_lookup_elem_flags(self->map, &self->owner.fd, &value,
					    BPF_F_LOCK), -EINVAL);
}

TEST_F(element, there_are_no_keys_to_walk)
{
	int next;

	EXPECT_EQ(bpf_map_get_next_key(self->map, NULL, &next), -ENOTSUPP);
	EXPECT_EQ(bpf_map_get_next_key(self->map, &self->owner.fd, &next),
		  -ENOTSUPP);
}

TEST_F(element, there_is_no_lookup_and_delete)
{
	__u64 value;

	EXPECT_EQ(UPDATE(1, BPF_ANY), 0);
	EXPECT_EQ(bpf_map_lookup_and_delete_elem(self->map, &self->owner.fd,
						 &value), -ENOTSUPP);
	EXPECT_EQ(LOOKUP(), 1);
}

TEST_F(element, there_are_no_batches)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	__u32 count = 1, next;
	__u64 value = 1;

	EXPECT_EQ(bpf_map_update_batch(self->map, &self->owner.fd, &value,
				       &count, &opts), -ENOTSUPP);
	EXPECT_EQ(bpf_map_delete_batch(self->map, &self->owner.fd, &count,
				       &opts), -ENOTSUPP);
	EXPECT_EQ(bpf_map_lookup_batch(self->map, NULL, &next, &self->owner.fd,
				       &value, &count, &opts), -ENOTSUPP);
}

TEST_F(element, a_frozen_map_is_read_only)
{
	EXPECT_EQ(UPDATE(1, BPF_ANY), 0);
	EXPECT_EQ(bpf_map_freeze(self->map), 0);
	EXPECT_EQ(UPDATE(2, BPF_ANY), -EPERM);
	EXPECT_EQ(DELETE(), -EPERM);
	EXPECT_EQ(LOOKUP(), 1);
}

TEST_F(element, an_owner_has_values_of_many_maps)
{
	int maps[40];

	for (int i = 0; i < ARRAY_SIZE(maps); i++) {
		maps[i] = create_kind(variant->type, 8, 0);
		ASSERT_GE(maps[i], 0);
		ASSERT_EQ(PATIENTLY(update(maps[i], self->owner.fd, i,
					   BPF_NOEXIST)), 0);
	}
	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		EXPECT_EQ(lookup(maps[i], self->owner.fd), i);
	for (int i = 0; i < ARRAY_SIZE(maps); i += 2)
		EXPECT_EQ(delete(maps[i], self->owner.fd), 0);
	for (int i = 0; i < ARRAY_SIZE(maps); i++) {
		EXPECT_EQ(lookup(maps[i], self->owner.fd), i % 2 ? i : -ENOENT);
		close(maps[i]);
	}
}

TEST_F(element, memory_usage_counts_elements)
{
	long long empty = fdinfo_number(self->map, "memlock"), full;
	struct storage_owner owners[20];

	ASSERT_GT(empty, 0);
	for (int i = 0; i < ARRAY_SIZE(owners); i++) {
		owners[i] = new_owner(variant->type);
		ASSERT_EQ(PATIENTLY(update(self->map, owners[i].fd, i,
					   BPF_ANY)), 0);
	}
	full = fdinfo_number(self->map, "memlock");
	for (int i = 0; i < ARRAY_SIZE(owners); i++)
		end_owner(&owners[i]);
	if (full == empty)
		SKIP(return, "this kernel does not count the elements");
	EXPECT_GE(full, empty + 20 * 8);
	EXPECT_LE(full, empty + 20 * 256);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map, "memlock") == empty));
}

/* With a lock in the value. */

FIXTURE(locked) {
	int map;
	struct storage_owner owner;
};

EVERY_KIND(locked);

FIXTURE_SETUP(locked)
{
	self->map = create_with_lock(variant->type);
	ASSERT_GE(self->map, 0);
	self->owner = new_owner(variant->type);
}

FIXTURE_TEARDOWN(locked)
{
	close(self->map);
	end_owner(&self->owner);
}

#define WITH_LOCK(number)	locked_value(0xffffffff, number)
#define NO_LOCK(number)		locked_value(0, number)

static long long locked_lookup(int map, int fd)
{
	long long value = -1;
	int err = bpf_map_lookup_elem_flags(map, &fd, &value, BPF_F_LOCK);

	return err ?: value & NO_LOCK(0xffffffff);
}

TEST_F(locked, the_lock_lets_values_change_in_place)
{
	EXPECT_EQ(UPDATE(WITH_LOCK(5), BPF_F_LOCK | BPF_EXIST), -ENOENT);
	EXPECT_EQ(UPDATE(WITH_LOCK(5), BPF_F_LOCK), 0);
	EXPECT_EQ(UPDATE(WITH_LOCK(5), BPF_F_LOCK | BPF_NOEXIST), -EEXIST);
	EXPECT_EQ(UPDATE(WITH_LOCK(6), BPF_F_LOCK | BPF_EXIST), 0);
	EXPECT_EQ(locked_lookup(self->map, self->owner.fd), NO_LOCK(6));
	/* The lock is neither taken from userspace nor shown to it. */
	EXPECT_EQ(LOOKUP(), NO_LOCK(6));
}

TEST_F(locked, without_the_flag_a_value_is_replaced)
{
	EXPECT_EQ(UPDATE(WITH_LOCK(5), BPF_ANY), 0);
	EXPECT_EQ(UPDATE(WITH_LOCK(5), BPF_ANY), 0);
	EXPECT_EQ(LOOKUP(), NO_LOCK(5));
	/* A lock that a program left taken would make this hang. */
	EXPECT_EQ(locked_lookup(self->map, self->owner.fd), NO_LOCK(5));
}

/* Every kind of fd as a key of every kind of map. */

static int open_nothing(struct storage_owner *owner)
{
	return -1;
}

static int open_unused(struct storage_owner *owner)
{
	return 100000;
}

static int open_file(struct storage_owner *owner)
{
	return open("/tmp", O_TMPFILE | O_RDWR, 0600);
}

static int open_path(struct storage_owner *owner)
{
	return open("/proc/self/exe", O_PATH);
}

static int open_directory(struct storage_owner *owner)
{
	return open("/", O_RDONLY | O_DIRECTORY);
}

static int open_null(struct storage_owner *owner)
{
	return open("/dev/null", O_RDWR);
}

static int open_procfs(struct storage_owner *owner)
{
	return open("/proc/version", O_RDONLY);
}

static int open_memfd(struct storage_owner *owner)
{
	return memfd_create("storage", 0);
}

static int open_pipe(struct storage_owner *owner)
{
	int fds[2];

	if (pipe(fds))
		return -errno;
	close(fds[1]);
	return fds[0];
}

static int open_socket(struct storage_owner *owner)
{
	return tcp_socket();
}

static int open_eventfd(struct storage_owner *owner)
{
	return eventfd(0, 0);
}

static int open_map(struct storage_owner *owner)
{
	return create_with(8, 0);
}

static int open_cgroup(struct storage_owner *owner)
{
	*owner = new_cgroup();
	return owner->fd;
}

static int open_cgroup_path(struct storage_owner *owner)
{
	*owner = new_cgroup();
	close(owner->fd);
	return owner->fd = open(owner->path, O_PATH);
}

static int open_file_of_cgroup(struct storage_owner *owner)
{
	return open(CGROUP "/cgroup.procs", O_RDONLY);
}

static int open_removed_cgroup(struct storage_owner *owner)
{
	*owner = new_cgroup();
	rmdir(owner->path);
	return owner->fd;
}

static int open_task(struct storage_owner *owner)
{
	*owner = new_task();
	return owner->fd;
}

static int open_zombie(struct storage_owner *owner)
{
	siginfo_t info;

	*owner = new_task();
	kill(owner->pid, SIGKILL);
	waitid(P_PID, owner->pid, &info, WEXITED | WNOWAIT);
	return owner->fd;
}

static int open_reaped_task(struct storage_owner *owner)
{
	*owner = new_task();
	kill(owner->pid, SIGKILL);
	waitpid(owner->pid, NULL, 0);
	owner->pid = 0;
	return owner->fd;
}

static int open_proc_of_task(struct storage_owner *owner)
{
	return open("/proc/self", O_RDONLY | O_DIRECTORY);
}

FIXTURE(key) {
	int maps[4];
	struct storage_owner owner;
};

FIXTURE_VARIANT(key) {
	int (*open)(struct storage_owner *owner);
	int errs[4];	/* of sockets, tasks, cgroups, inodes; 0: taken */
};

FIXTURE_SETUP(key)
{
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		self->maps[i] = create_kind(storage_types[i], 8, 0);
		ASSERT_GE(self->maps[i], 0);
	}
	self->owner = NO_OWNER;
}

FIXTURE_TEARDOWN(key)
{
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++)
		close(self->maps[i]);
	end_owner(&self->owner);
}

#define KEY(name, ...)					\
	FIXTURE_VARIANT_ADD(key, name) {		\
		.open = open_##name,			\
		.errs = { __VA_ARGS__ },		\
	}

KEY(nothing, -EBADF, -EBADF, -EBADF, -EBADF);
KEY(unused, -EBADF, -EBADF, -EBADF, -EBADF);
KEY(file, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(path, -EBADF, -EBADF, -EBADF, 0);
KEY(directory, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(null, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(procfs, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(memfd, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(pipe, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(socket, 0, -EBADF, -EBADF, 0);
KEY(eventfd, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(map, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(cgroup, -ENOTSOCK, -EBADF, 0, 0);
KEY(cgroup_path, -EBADF, -EBADF, 0, 0);
KEY(file_of_cgroup, -ENOTSOCK, -EBADF, -EBADF, 0);
KEY(removed_cgroup, -ENOTSOCK, -EBADF, -ENOENT, 0);
KEY(task, -ENOTSOCK, 0, -EBADF, 0);
KEY(zombie, -ENOTSOCK, 0, -EBADF, 0);
KEY(reaped_task, -ENOTSOCK, -ENOENT, -EBADF, 0);
KEY(proc_of_task, -ENOTSOCK, -EBADF, -EBADF, 0);

TEST_F(key, is_taken_or_refused)
{
	int fd = variant->open(&self->owner);

	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		int map = self->maps[i], err = variant->errs[i];

		EXPECT_EQ(lookup(map, fd), err ?: -ENOENT)
			TH_LOG("lookup, map type %u", storage_types[i]);
		EXPECT_EQ(update(map, fd, 3, BPF_ANY), err)
			TH_LOG("update, map type %u", storage_types[i]);
		EXPECT_EQ(lookup(map, fd), err ?: 3)
			TH_LOG("second lookup, map type %u", storage_types[i]);
		EXPECT_EQ(delete(map, fd), err)
			TH_LOG("delete, map type %u", storage_types[i]);
	}
	if (fd >= 0 && fd != self->owner.fd)
		close(fd);
}

TEST_HARNESS_MAIN
