// SPDX-License-Identifier: GPL-2.0
/* bpf(2) on the elements of a map, with a socket's fd as the key. */
#include "common.h"

FIXTURE(fd_key) {
	int map, sk;
};

FIXTURE_SETUP(fd_key)
{
	self->map = create_with(8, 0);
	ASSERT_GE(self->map, 0);
	self->sk = tcp_socket();
	ASSERT_GE(self->sk, 0);
}

FIXTURE_TEARDOWN(fd_key)
{
	close(self->map);
	close(self->sk);
}

static int update(int map, int fd, __u64 value, __u64 flags)
{
	return bpf_map_update_elem(map, &fd, &value, flags);
}

static long long lookup(int map, int fd)
{
	long long value = 0;
	int err = bpf_map_lookup_elem(map, &fd, &value);

	return err ?: value;
}

static int delete(int map, int fd)
{
	return bpf_map_delete_elem(map, &fd);
}

TEST_F(fd_key, update_lookup_delete)
{
	EXPECT_EQ(update(self->map, self->sk, 11, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 11);
	EXPECT_EQ(update(self->map, self->sk, 12, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 12);
	EXPECT_EQ(delete(self->map, self->sk), 0);
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
}

TEST_F(fd_key, every_family_of_socket)
{
	struct {
		int family, type, protocol;
	} kinds[] = {
		{ AF_INET, SOCK_STREAM, 0 }, { AF_INET6, SOCK_STREAM, 0 },
		{ AF_INET, SOCK_DGRAM, 0 }, { AF_INET6, SOCK_DGRAM, 0 },
		{ AF_INET, SOCK_RAW, IPPROTO_ICMP }, { AF_UNIX, SOCK_STREAM, 0 },
		{ AF_UNIX, SOCK_DGRAM, 0 }, { AF_NETLINK, SOCK_RAW, 0 },
		{ AF_PACKET, SOCK_RAW, 0 },
		{ AF_INET, SOCK_STREAM, IPPROTO_SCTP },
		{ AF_INET, SOCK_STREAM, 262 /* MPTCP */ },
	};

	for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
		int fd = socket(kinds[i].family, kinds[i].type,
				kinds[i].protocol);

		ASSERT_GE(fd, 0) TH_LOG("kind %d", i);
		EXPECT_EQ(update(self->map, fd, i + 1, BPF_ANY), 0);
		EXPECT_EQ(lookup(self->map, fd), i + 1);
		close(fd);
	}
}

TEST_F(fd_key, sockets_do_not_share)
{
	int other = tcp_socket();

	EXPECT_EQ(update(self->map, self->sk, 1, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, other), -ENOENT);
	EXPECT_EQ(update(self->map, other, 2, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 1);
	EXPECT_EQ(lookup(self->map, other), 2);
	close(other);
}

TEST_F(fd_key, fds_of_one_socket_share)
{
	int other = dup(self->sk);

	EXPECT_EQ(update(self->map, self->sk, 1, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, other), 1);
	close(other);
}

TEST_F(fd_key, noexist)
{
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_NOEXIST), 0);
	EXPECT_EQ(update(self->map, self->sk, 2, BPF_NOEXIST), -EEXIST);
	EXPECT_EQ(lookup(self->map, self->sk), 1);
}

TEST_F(fd_key, exist)
{
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_EXIST), -ENOENT);
	EXPECT_EQ(optmem(self->sk), 0);
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_ANY), 0);
	EXPECT_EQ(update(self->map, self->sk, 2, BPF_EXIST), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 2);
}

TEST_F(fd_key, exist_beside_another_map)
{
	int other = create_with(8, 0);

	EXPECT_EQ(update(other, self->sk, 1, BPF_ANY), 0);
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_EXIST), -ENOENT);
	EXPECT_EQ(delete(self->map, self->sk), -ENOENT);
	close(other);
}

TEST_F(fd_key, unknown_flags)
{
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_NOEXIST | BPF_EXIST),
		  -EINVAL);
	EXPECT_EQ(update(self->map, self->sk, 1, 8), -EINVAL);
	EXPECT_EQ(update(self->map, self->sk, 1, 1ULL << 40), -EINVAL);
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
}

TEST_F(fd_key, lock_flag_needs_a_lock)
{
	__u64 value;

	EXPECT_EQ(update(self->map, self->sk, 1, BPF_F_LOCK), -EINVAL);
	EXPECT_EQ(bpf_map_lookup_elem_flags(self->map, &self->sk, &value,
					    BPF_F_LOCK), -EINVAL);
}

TEST_F(fd_key, missing)
{
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
	EXPECT_EQ(delete(self->map, self->sk), -ENOENT);
}

TEST_F(fd_key, bad_fd)
{
	EXPECT_EQ(lookup(self->map, -1), -EBADF);
	EXPECT_EQ(update(self->map, -1, 1, BPF_ANY), -EBADF);
	EXPECT_EQ(delete(self->map, -1), -EBADF);
	EXPECT_EQ(lookup(self->map, 100000), -EBADF);
}

TEST_F(fd_key, not_a_socket)
{
	int fd = open("/dev/null", O_RDWR);

	EXPECT_EQ(lookup(self->map, fd), -ENOTSOCK);
	EXPECT_EQ(update(self->map, fd, 1, BPF_ANY), -ENOTSOCK);
	EXPECT_EQ(delete(self->map, fd), -ENOTSOCK);
	close(fd);
}

TEST_F(fd_key, no_keys_to_walk)
{
	int next;

	EXPECT_EQ(bpf_map_get_next_key(self->map, NULL, &next), -ENOTSUPP);
	EXPECT_EQ(bpf_map_get_next_key(self->map, &self->sk, &next),
		  -ENOTSUPP);
}

TEST_F(fd_key, no_lookup_and_delete)
{
	__u64 value;

	EXPECT_EQ(update(self->map, self->sk, 1, BPF_ANY), 0);
	EXPECT_EQ(bpf_map_lookup_and_delete_elem(self->map, &self->sk, &value),
		  -ENOTSUPP);
	EXPECT_EQ(lookup(self->map, self->sk), 1);
}

TEST_F(fd_key, no_batches)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	__u64 value = 1;
	__u32 count = 1;

	EXPECT_EQ(bpf_map_update_batch(self->map, &self->sk, &value, &count,
				       &opts), -ENOTSUPP);
	EXPECT_EQ(bpf_map_delete_batch(self->map, &self->sk, &count, &opts),
		  -ENOTSUPP);
}

TEST_F(fd_key, frozen)
{
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_ANY), 0);
	EXPECT_EQ(bpf_map_freeze(self->map), 0);
	EXPECT_EQ(update(self->map, self->sk, 2, BPF_ANY), -EPERM);
	EXPECT_EQ(delete(self->map, self->sk), -EPERM);
	EXPECT_EQ(lookup(self->map, self->sk), 1);
}

FIXTURE(locked) {
	int map, sk;
};

FIXTURE_SETUP(locked)
{
	struct btf *btf = types_with_lock();
	struct spec spec = spec_for(btf, 8);

	self->map = create(&spec);
	ASSERT_GE(self->map, 0);
	btf__free(btf);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(locked)
{
	close(self->map);
	close(self->sk);
}

TEST_F(locked, update_in_place)
{
	__u32 value[2] = { 0xffffffff, 5 }, seen[2] = { 1, 1 };
	__u32 charged;

	EXPECT_EQ(bpf_map_update_elem(self->map, &self->sk, value,
				      BPF_F_LOCK | BPF_EXIST), -ENOENT);
	EXPECT_EQ(bpf_map_update_elem(self->map, &self->sk, value,
				      BPF_F_LOCK), 0);
	charged = optmem(self->sk);
	EXPECT_EQ(bpf_map_update_elem(self->map, &self->sk, value,
				      BPF_F_LOCK | BPF_NOEXIST), -EEXIST);
	value[1] = 6;
	EXPECT_EQ(bpf_map_update_elem(self->map, &self->sk, value,
				      BPF_F_LOCK | BPF_EXIST), 0);
	EXPECT_EQ(bpf_map_lookup_elem_flags(self->map, &self->sk, seen,
					    BPF_F_LOCK), 0);
	EXPECT_EQ(seen[1], 6);
	/* The lock is neither taken from userspace nor shown to it. */
	EXPECT_EQ(seen[0], 0);
	EXPECT_EQ(optmem(self->sk), charged);
}

TEST_F(locked, update_by_replacement)
{
	__u32 value[2] = { 0xffffffff, 5 }, seen[2] = { 1, 1 };

	EXPECT_EQ(bpf_map_update_elem(self->map, &self->sk, value, 0), 0);
	EXPECT_EQ(bpf_map_update_elem(self->map, &self->sk, value, 0), 0);
	EXPECT_EQ(bpf_map_lookup_elem(self->map, &self->sk, seen), 0);
	EXPECT_EQ(seen[0], 0);
	EXPECT_EQ(seen[1], 5);
	/* A lock that a program left taken would make this hang. */
	EXPECT_EQ(bpf_map_lookup_elem_flags(self->map, &self->sk, seen,
					    BPF_F_LOCK), 0);
}

TEST_HARNESS_MAIN
