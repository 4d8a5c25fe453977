// SPDX-License-Identifier: GPL-2.0
/*
 * Whether userspace gets a byte that nobody has written: in a kernel booted with
 * slab_debug=P, memory that is new is full of one number.
 */
#include "harness.h"
#include "inet_diag.h"
#include "bytes.skel.h"

/* What the allocator leaves in free memory, and where it ends. */
#define POISON		0x6b
#define POISON_END	0xa5
/* So many in a row are no accident. */
#define MANY		4

#define POISONED	"/sys/kernel/slab/kmalloc-96/poison"

static bool is_poisoned(void)
{
	char answer = 0;
	int fd = open(POISONED, O_RDONLY);

	if (fd >= 0 && read(fd, &answer, 1) != 1)
		answer = 0;
	close(fd);
	return answer == '1';
}

/* Whether there is poison among these bytes. */
static bool has_poison(const void *data, int len)
{
	const unsigned char *bytes = data;
	int in_row = 0;

	for (int i = 0; i < len; i++) {
		in_row = bytes[i] == POISON ? in_row + 1 : 0;
		if (in_row == MANY || (in_row && i + 1 < len &&
				       bytes[i + 1] == POISON_END))
			return true;
	}
	return false;
}

/* How many of these bytes are not zero. */
static int not_zero(const void *data, int len)
{
	const unsigned char *bytes = data;
	int n = 0;

	for (int i = 0; i < len; i++)
		n += !!bytes[i];
	return n;
}

enum depth { MESSAGE, STORAGES, STORAGE };

/* How many bytes between attributes are not zero, the nests' included. */
static int dirt_between(const void *data, int len, enum depth depth)
{
	const struct nlattr *nla;
	int left, n = 0;

	for_each_attr(nla, data, len, left) {
		n += not_zero((const void *)nla + nla->nla_len,
			      NLA_ALIGN(nla->nla_len) - nla->nla_len);
		if (depth == STORAGES || (depth == MESSAGE && attr_type(nla) ==
					  INET_DIAG_SK_BPF_STORAGES))
			n += dirt_between(attr_data(nla), attr_len(nla),
					  depth + 1);
	}
	return n;
}

/* How many messages of a dump have poison, or dirt between attributes. */
static int dirty_messages(const struct dump *dump)
{
	const struct nlmsghdr *nlh;
	size_t left;
	int n = 0;

	for_each_message(nlh, dump, left) {
		const struct inet_diag_msg *msg = NLMSG_DATA(nlh);
		int len = nlh->nlmsg_len - NLMSG_LENGTH(sizeof(*msg));

		n += has_poison(nlh, nlh->nlmsg_len) ||
		     dirt_between(msg + 1, len, MESSAGE);
	}
	return n;
}

static const int sizes[] = { 1, 2, 3, 5, 7, 8, 9, 13, 15, 63, 255, 257, 1001,
			     4093 };

/* For the largest value, and some bytes behind it. */
#define ROOM		4096
#define UNTOUCHED	0xee

static void fill(char *value, int size, int seed)
{
	for (int i = 0; i < size; i++)
		value[i] = 1 + (i + seed) % 100;
}

/* Whether bpf(2) gives just these bytes, and writes to no others. */
static bool reads_as(int map, int sk, const char *expected, int size)
{
	char value[ROOM];

	memset(value, UNTOUCHED, sizeof(value));
	if (bpf_map_lookup_elem(map, &sk, value) ||
	    memcmp(value, expected, size))
		return false;
	for (int i = size; i < ROOM; i++)
		if (value[i] != (char)UNTOUCHED)
			return false;
	return true;
}

/* Whether a dump shows just these bytes, and nothing that is dirty. */
static bool shows_as(int map, int sk, const char *expected, int size)
{
	struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, &map, 1);
	struct found found = find(&dump, sk);
	const struct value *value = value_of(&found, id_of(map));
	bool right;

	right = !dump.err && !found.malformed && value && value->len == size &&
		!memcmp(value->data, expected, size) && !dirty_messages(&dump);
	free(dump.data);
	return right;
}

FIXTURE(bytes) {
	int sk;
};

FIXTURE_SETUP(bytes)
{
	if (!is_poisoned())
		SKIP(return, "booted without slab_debug=P");
	ASSERT_EQ(network_err, 0);
	self->sk = tcp_listener();
	ASSERT_GE(self->sk, 0);
}

FIXTURE_TEARDOWN(bytes)
{
	close(self->sk);
}

TEST_F(bytes, of_a_value_are_those_that_were_set)
{
	char value[ROOM];

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		int map = create_with(sizes[i], 0);

		fill(value, sizes[i], i);
		ASSERT_EQ(bpf_map_update_elem(map, &self->sk, value, 0), 0);
		EXPECT_TRUE(reads_as(map, self->sk, value, sizes[i]))
			TH_LOG("size %d", sizes[i]);
		EXPECT_TRUE(shows_as(map, self->sk, value, sizes[i]))
			TH_LOG("size %d", sizes[i]);
		/* And of the one that takes its place. */
		fill(value, sizes[i], i + 1);
		ASSERT_EQ(bpf_map_update_elem(map, &self->sk, value, 0), 0);
		EXPECT_TRUE(reads_as(map, self->sk, value, sizes[i]))
			TH_LOG("size %d, replaced", sizes[i]);
		EXPECT_TRUE(shows_as(map, self->sk, value, sizes[i]))
			TH_LOG("size %d, replaced", sizes[i]);
		close(map);
	}
}

TEST_F(bytes, of_a_copy_are_those_of_the_original)
{
	int maps[ARRAY_SIZE(sizes)], client, child;
	char value[ROOM];

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		maps[i] = create_with(sizes[i], BPF_F_CLONE);
		fill(value, sizes[i], i);
		ASSERT_EQ(bpf_map_update_elem(maps[i], &self->sk, value, 0), 0);
	}
	client = connect_new(self->sk, AF_INET, 0);
	child = accept(self->sk, NULL, NULL);
	ASSERT_GE(child, 0);
	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(value, sizes[i], i);
		EXPECT_TRUE(reads_as(maps[i], child, value, sizes[i]))
			TH_LOG("size %d", sizes[i]);
		EXPECT_TRUE(shows_as(maps[i], child, value, sizes[i]))
			TH_LOG("size %d", sizes[i]);
		close(maps[i]);
	}
	reset(client);
	close(child);
}

/* What an iterator prints of a map, and how much; it runs to its end. */
static int print(struct bpf_program *prog, int map, char *text, int size)
{
	int fd = iter_over(prog, map), n, len = 0;

	while ((n = read(fd, text + len, size - len)) > 0)
		len += n;
	close(fd);
	return n < 0 ? -errno : len;
}

TEST_F(bytes, of_a_value_that_nobody_wrote_are_zero)
{
	static const char zeroes[ROOM];
	struct bytes *skel = bytes__open_and_load();
	char text[ROOM] = {};

	ASSERT_NE(skel, NULL);
	ASSERT_EQ(print(skel->progs.make, NO_MAP, text, ROOM), 0);
	ASSERT_GE(skel->bss->made, 3);
	for (int turn = 0; turn < 2; turn++) {
		struct bpf_map *map;

		bpf_object__for_each_map(map, skel->obj) {
			int fd = bpf_map__fd(map);
			__u32 size = bpf_map__value_size(map);

			if (bpf_map__type(map) != BPF_MAP_TYPE_SK_STORAGE)
				continue;
			EXPECT_TRUE(reads_as(fd, self->sk, zeroes, size))
				TH_LOG("%s, turn %d", bpf_map__name(map), turn);
			/* The base leaves a lock's bytes as they were. */
			EXPECT_TRUE((is_stock() && map == skel->maps.locked) ||
				    shows_as(fd, self->sk, zeroes, size))
				TH_LOG("%s, turn %d", bpf_map__name(map), turn);
			/* Anew, where there is a storage. */
			ASSERT_EQ(delete(fd, self->sk), 0);
			ASSERT_EQ(print(skel->progs.make, NO_MAP, text, ROOM),
				  0);
		}
	}
	EXPECT_EQ(print(skel->progs.show_small, bpf_map__fd(skel->maps.small),
			text, ROOM), 13);
	EXPECT_EQ(not_zero(text, ROOM), 0);
	EXPECT_EQ(print(skel->progs.show_large, bpf_map__fd(skel->maps.large),
			text, ROOM), 1001);
	EXPECT_EQ(not_zero(text, ROOM), 0);
	bytes__destroy(skel);
}

TEST_HARNESS_MAIN
