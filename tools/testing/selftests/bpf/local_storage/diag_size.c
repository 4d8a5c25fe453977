// SPDX-License-Identifier: GPL-2.0
/* Dumps of many sockets, of many values and of large ones. */
#include "harness.h"
#include "inet_diag.h"
#include <sys/resource.h>

#define LARGEST		65407

/* Differs from byte to byte, page to page and seed to seed. */
static void fill(unsigned char *data, int size, int seed)
{
	for (int i = 0; i < size; i++)
		data[i] = i * 7 + (i >> 8) * 13 + seed * 101 + 1;
}

static bool holds(const struct value *value, int size, int seed)
{
	unsigned char expected[LARGEST];

	fill(expected, size, seed);
	return value && value->len == size &&
	       !memcmp(value->data, expected, size);
}

static int set_filled(int map, int sk, int size, int seed)
{
	unsigned char data[LARGEST];

	fill(data, size, seed);
	return bpf_map_update_elem(map, &sk, data, 0);
}

FIXTURE(value) {
	int sk, idle;
};

FIXTURE_SETUP(value)
{
	ASSERT_EQ(network_err, 0);
	self->sk = tcp_listener();
	self->idle = tcp_listener();
	ASSERT_GE(self->idle, 0);
}

FIXTURE_TEARDOWN(value)
{
	close(self->sk);
	close(self->idle);
}

TEST_F(value, is_exact_whatever_its_size)
{
	static const int sizes[] = { 1, 2, 3, 4, 5, 7, 8, 9, 100, 4095, 4096,
				     4097, 32768, LARGEST };

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		int map = create_with(sizes[i], 0), sk = tcp_listener();
		struct found found;
		struct dump dump;

		if (!has_room_for(sizes[i]))
			break;
		ASSERT_EQ(set_filled(map, sk, sizes[i], i), 0);
		dump = dump_storage(AF_INET, IPPROTO_TCP, &map, 1);
		found = find(&dump, sk);
		EXPECT_EQ(dump.err, 0);
		EXPECT_FALSE(found.malformed);
		EXPECT_TRUE(holds(value_of(&found, id_of(map)), sizes[i], i))
			TH_LOG("size %d", sizes[i]);
		EXPECT_EQ(find(&dump, self->sk).times, 1);
		free(dump.data);
		close(map);
		close(sk);
	}
}

/* More than the kernel's largest buffer holds. */
TEST_F(value, together_they_exceed_all_buffers)
{
	struct request r;
	struct found found;
	struct dump dump;
	int maps[70];

	if (!has_room_for(LARGEST))
		SKIP(return, "stock has no room for such values");
	ASSERT_EQ(write_file("/proc/sys/net/core/optmem_max", "10000000"), 0);
	for (int i = 0; i < ARRAY_SIZE(maps); i++) {
		maps[i] = create_with(LARGEST, 0);
		ASSERT_EQ(set_filled(maps[i], self->idle, LARGEST, i), 0);
	}
	ask_storage(&r, AF_INET, IPPROTO_TCP, maps, 1);
	dump = run(&r);
	EXPECT_EQ(dump.err, 0);
	found = find(&dump, self->idle);
	EXPECT_TRUE(holds(value_of(&found, id_of(maps[0])), LARGEST, 0));
	free(dump.data);
	ask_storage(&r, AF_INET, IPPROTO_TCP, maps, ARRAY_SIZE(maps));
	if (is_stock()) {
		int err = outcome(&r);

		EXPECT_TRUE(err == 0 || err == -ENOMEM);
		SKIP(return, "the base may show some: %d", err);
	}
	EXPECT_EQ(outcome(&r), -E2BIG);
	ask_storage(&r, AF_INET, IPPROTO_TCP, NULL, 0);
	EXPECT_EQ(outcome(&r), -E2BIG);
	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		close(maps[i]);
}

/* Sizes that are found out while dumping. */

#define SOCKETS		20
#define MAPS		40
#define NEST_LIMIT	0xffff

FIXTURE(size) {
	int maps[MAPS], sockets[SOCKETS], nl;
};

FIXTURE_VARIANT(size) {
	int maps, value_size;
};

#define SIZE(name, ...)	\
	FIXTURE_VARIANT_ADD(size, name) { __VA_ARGS__ }

SIZE(one_small, 1, 8);
SIZE(sixteen_small, 16, 8);
SIZE(forty_small, MAPS, 8);
SIZE(one_page, 1, 4096);
SIZE(one_largest, 1, LARGEST);
SIZE(sixteen_of_4000, 16, 4000);
SIZE(forty_of_1600, MAPS, 1600);
/* Too much for the length of one attribute. */
SIZE(two_largest, 2, LARGEST);
SIZE(forty_of_4000, MAPS, 4000);

/* The first has nothing, and every third only one value. */
static int values_of_socket(const FIXTURE_VARIANT(size) *variant, int i)
{
	return i % 3 ? variant->maps : !!i;
}

FIXTURE_SETUP(size)
{
	if (!has_room_for(variant->value_size))
		SKIP(return, "stock has no room for such values");
	ASSERT_EQ(network_err, 0);
	ASSERT_EQ(write_file("/proc/sys/net/core/optmem_max", "10000000"), 0);
	for (int k = 0; k < variant->maps; k++) {
		self->maps[k] = create_with(variant->value_size, 0);
		ASSERT_GE(self->maps[k], 0);
	}
	for (int i = 0; i < SOCKETS; i++) {
		self->sockets[i] = tcp_listener();
		for (int k = 0; k < values_of_socket(variant, i); k++)
			ASSERT_EQ(set_filled(self->maps[k], self->sockets[i],
					     variant->value_size, i + k), 0);
	}
	self->nl = diag_socket();
}

FIXTURE_TEARDOWN(size)
{
	for (int k = 0; k < variant->maps; k++)
		close(self->maps[k]);
	for (int i = 0; i < SOCKETS; i++)
		close(self->sockets[i]);
	close(self->nl);
}

/* Values of the socket that are not exactly what was set. */
static int wrong_values(const struct found *found, const int *maps, int n,
			int value_size, int seed)
{
	int wrong = found->n != n || found->malformed;

	for (int k = 0; k < n; k++)
		wrong += !holds(value_of(found, id_of(maps[k])), value_size,
				seed + k);
	return wrong;
}

/* The base lets the length of a nest overflow. */
static bool overflows(const FIXTURE_VARIANT(size) *variant, int n)
{
	return is_stock() && n * (variant->value_size + 24) > NEST_LIMIT;
}

static void check_socket(struct __test_metadata *_metadata,
			 const FIXTURE_VARIANT(size) *variant,
			 FIXTURE_DATA(size) *self, int i,
			 const struct dump *dump)
{
	struct found found = find(dump, self->sockets[i]);
	int n = values_of_socket(variant, i);

	EXPECT_EQ(found.times, 1) TH_LOG("socket %d", i);
	if (overflows(variant, n))
		return;
	EXPECT_EQ(wrong_values(&found, self->maps, n, variant->value_size, i),
		  0) TH_LOG("socket %d", i);
}

static void check_all(struct __test_metadata *_metadata,
		      const FIXTURE_VARIANT(size) *variant,
		      FIXTURE_DATA(size) *self, const struct dump *dump)
{
	EXPECT_EQ(dump->err, 0);
	EXPECT_EQ(count_messages(dump), SOCKETS);
	for (int i = 0; i < SOCKETS; i++)
		check_socket(_metadata, variant, self, i, dump);
}

static void check_reader(struct __test_metadata *_metadata,
			 const FIXTURE_VARIANT(size) *variant,
			 FIXTURE_DATA(size) *self, int size)
{
	struct request r;
	struct dump dump;

	ask_storage(&r, AF_INET, IPPROTO_TCP, NULL, 0);
	dump = run_on(self->nl, &r, size);
	check_all(_metadata, variant, self, &dump);
	free(dump.data);
	ask_storage(&r, AF_INET, IPPROTO_TCP, self->maps, variant->maps);
	dump = run_on(self->nl, &r, size);
	check_all(_metadata, variant, self, &dump);
	free(dump.data);
}

TEST_F(size, all_values_reach_a_large_buffer)
{
	check_reader(_metadata, variant, self, ROOMY);
}

TEST_F(size, all_values_reach_buffers_made_to_measure)
{
	int wide = ROOMY;

	/* What is only looked at takes room while the next is made. */
	ASSERT_EQ(setsockopt(self->nl, SOL_SOCKET, SO_RCVBUFFORCE, &wide,
			     sizeof(wide)), 0);
	check_reader(_metadata, variant, self, 0);
}

TEST_F(size, all_values_reach_who_asks_for_one_socket)
{
	for (int i = 0; i < SOCKETS; i++) {
		struct sockaddr_in6 addr = {}, any = {};
		socklen_t len = sizeof(addr);
		struct request r;
		struct dump dump;

		getsockname(self->sockets[i], (void *)&addr, &len);
		ask_storage(&r, AF_INET, IPPROTO_TCP, i % 2 ? self->maps : NULL,
			    i % 2 ? variant->maps : 0);
		ask_one(&r, self->sockets[i], &addr, &any);
		dump = run_on(self->nl, &r, ROOMY);
		if (is_stock() && !find(&dump, self->sockets[i]).nests && i)
			SKIP(return, "the base shows no values then");
		EXPECT_EQ(dump.err, 0);
		check_socket(_metadata, variant, self, i, &dump);
		free(dump.data);
	}
}

/* Read till there is nothing left; returns how many datagrams there were. */
static int drain(int nl, int size)
{
	char data[256];
	int i = 0;

	while (i < TOO_MANY && recv(nl, data, size, MSG_DONTWAIT) >= 0)
		i++;
	return i;
}

TEST_F(size, buffers_too_small_end_the_dump_as_well)
{
	static const int sizes[] = { 0, 1, 16, 256 };
	struct request r;
	struct dump dump;
	int narrow = 1;

	ASSERT_EQ(setsockopt(self->nl, SOL_SOCKET, SO_RCVBUF, &narrow,
			     sizeof(narrow)), 0);
	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ask_storage(&r, AF_INET, IPPROTO_TCP, self->maps,
			    variant->maps);
		ASSERT_EQ(send_request(self->nl, &r), 0);
		EXPECT_GT(drain(self->nl, sizes[i]), 0);
		dump = run_on(self->nl, &r, ROOMY);
		check_all(_metadata, variant, self, &dump);
		free(dump.data);
	}
}

/* Begin a dump that takes more than a datagram. */
static void begin(int nl, const int *maps, int n)
{
	char first[256];
	struct request r;

	ask_storage(&r, AF_INET, IPPROTO_TCP, maps, n);
	send_request(nl, &r);
	recv(nl, first, sizeof(first), 0);
}

TEST_F(size, a_dump_given_up_keeps_no_map)
{
	__u32 ids[MAPS];

	for (int k = 0; k < variant->maps; k++)
		ids[k] = id_of(self->maps[k]);
	begin(self->nl, self->maps, variant->maps);
	for (int k = 0; k < variant->maps; k++)
		close(self->maps[k]);
	close(self->nl);
	EXPECT_TRUE(EVENTUALLY(gone(ids, variant->maps)));
}

TEST_F(size, a_dump_keeps_the_maps_it_was_asked_for)
{
	struct dump dump = {};
	__u32 ids[MAPS];

	for (int k = 0; k < variant->maps; k++)
		ids[k] = id_of(self->maps[k]);
	begin(self->nl, self->maps, variant->maps);
	for (int k = 0; k < variant->maps; k++)
		close(self->maps[k]);
	receive(self->nl, &dump, ROOMY);
	EXPECT_EQ(dump.err, 0);
	free(dump.data);
	EXPECT_TRUE(EVENTUALLY(gone(ids, variant->maps)));
}

/* More sockets than fit anywhere; the value is the number of the socket. */

#define FIRST_PORT	2000
#define MOST		20000

FIXTURE(many) {
	int *sockets, map, server, n;
};

FIXTURE_VARIANT(many) {
	int n;
	enum state state;
};

FIXTURE_VARIANT_ADD(many, listening) { MOST, LISTENING };
FIXTURE_VARIANT_ADD(many, connected) { 3000, CONNECTED };

FIXTURE_SETUP(many)
{
	struct rlimit limit = { MOST + 1000, MOST + 1000 };
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	struct sockaddr_in6 server;

	ASSERT_EQ(network_err, 0);
	/* Fewer where races repeat less often, for the same reason. */
	self->n = variant->n * rounds() / 60;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	self->map = create_with(8, 0);
	self->sockets = calloc(self->n, sizeof(int));
	self->server = listener(AF_INET, IPPROTO_TCP, &server);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < self->n; i++) {
		int fd = tcp_socket(), err;

		addr.sin_port = htons(FIRST_PORT + i);
		err = bind(fd, (void *)&addr, len);
		if (!err && variant->state == LISTENING)
			err = listen(fd, 1);
		if (!err && variant->state == CONNECTED) {
			err = connect(fd, (void *)&server, sizeof(server));
			close(accept(self->server, NULL, NULL));
		}
		ASSERT_EQ(err, 0) TH_LOG("socket %d: %d", i, errno);
		ASSERT_EQ(update(self->map, fd, i, 0), 0);
		self->sockets[i] = fd;
	}
}

FIXTURE_TEARDOWN(many)
{
	for (int i = 0; i < self->n; i++)
		close(self->sockets[i]);
	free(self->sockets);
	close(self->server);
	close(self->map);
}

TEST_F(many, each_is_shown_once)
{
	struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, &self->map, 1);
	char *seen = calloc(self->n, 1);
	const struct nlmsghdr *nlh;
	int lost = 0, twice = 0;
	size_t left;

	EXPECT_EQ(dump.err, 0);
	for_each_message(nlh, &dump, left) {
		struct found found = {};
		__u64 number;

		take_message(&found, nlh);
		number = number_of_value(value_of(&found, id_of(self->map)));
		if (number == ~0ULL)
			continue;
		ASSERT_LT(number, self->n);
		ASSERT_EQ(cookie_in(nlh), cookie_of(self->sockets[number]));
		twice += seen[number]++;
	}
	for (int i = 0; i < self->n; i++)
		lost += !seen[i];
	EXPECT_EQ(lost, 0);
	EXPECT_EQ(twice, 0);
	free(seen);
	free(dump.data);
}

TEST_HARNESS_MAIN
