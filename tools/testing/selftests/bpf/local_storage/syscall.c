// SPDX-License-Identifier: GPL-2.0
/* bpf(2) on the elements of a map of sockets: what only sockets have. */
#include "harness.h"
#include "net.h"

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

TEST_F(fd_key, every_family_of_socket_has_storage)
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

TEST_F(fd_key, what_is_not_updated_is_not_charged)
{
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_EXIST), -ENOENT);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(fd_key, an_update_in_place_is_not_charged)
{
	int map = create_with_lock(BPF_MAP_TYPE_SK_STORAGE);
	__u32 charged;

	ASSERT_EQ(update(map, self->sk, 1, BPF_F_LOCK), 0);
	charged = optmem(self->sk);
	ASSERT_EQ(update(map, self->sk, 2, BPF_F_LOCK), 0);
	EXPECT_EQ(optmem(self->sk), charged);
	close(map);
}

TEST_HARNESS_MAIN
