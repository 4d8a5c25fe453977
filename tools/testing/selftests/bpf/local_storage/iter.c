// SPDX-License-Identifier: GPL-2.0
/* The iterator over a map's values, and values in other iterators. */
#include "harness.h"
#include "net.h"
#include "iter.skel.h"
#include <sys/mman.h>
#include <sys/resource.h>

#define MANY	10000

/* Sockets whose values in a map are their numbers here. */
struct set {
	int n, *fds;
	__u64 *cookies;
	unsigned int *seen;
};

static int set_open(struct set *set, int n, int map)
{
	struct rlimit limit = { MANY + 1000, MANY + 1000 };
	int err = setrlimit(RLIMIT_NOFILE, &limit);

	*set = (struct set){ .fds = calloc(n, sizeof(*set->fds)),
			     .cookies = calloc(n, sizeof(*set->cookies)),
			     .seen = calloc(n, sizeof(*set->seen)) };
	for (__u64 i = 0; i < n && !err; i++, set->n++) {
		set->fds[i] = tcp_socket();
		set->cookies[i] = cookie_of(set->fds[i]);
		err = bpf_map_update_elem(map, &set->fds[i], &i, 0);
	}
	return err;
}

static void set_close(struct set *set)
{
	for (int i = 0; i < set->n; i++)
		close(set->fds[i]);
	free(set->fds);
	free(set->cookies);
	free(set->seen);
	memset(set, 0, sizeof(*set));
}

/* All text of an iterator, by reads of some size; NULL if one fails. */
static char *text_of(int fd, size_t size, size_t *len)
{
	char *text = NULL;
	size_t got = 0, room = 0;
	ssize_t n;

	do {
		if (room < got + size + 1)
			text = realloc(text, room = 2 * (got + size + 1));
		n = read(fd, text + got, size);
		if (n > 0)
			got += n;
	} while (n > 0);
	if (n < 0) {
		n = -errno;
		free(text);
		errno = -n;
		return NULL;
	}
	text[got] = 0;
	if (len)
		*len = got;
	return text;
}

/*
 * Count in the set what lines of cookie and value there are.  Returns how
 * many are not of the set, or -1 if one is wrong.
 */
static int account(struct set *set, const char *text)
{
	unsigned long long cookie, value;
	int strangers = 0;
	char *end;

	memset(set->seen, 0, set->n * sizeof(*set->seen));
	for (; *text; text = end + 1) {
		cookie = strtoull(text, &end, 10);
		if (*end != ' ')
			return -1;
		value = strtoull(end + 1, &end, 10);
		if (*end != '\n')
			return -1;
		if (value >= set->n) {
			strangers++;
			continue;
		}
		if (set->cookies[value] != cookie)
			return -1;
		set->seen[value]++;
	}
	return strangers;
}

/* How many of the set were seen so many times. */
static int seen_times(const struct set *set, int times)
{
	int n = 0;

	for (int i = 0; i < set->n; i++)
		n += set->seen[i] == times;
	return n;
}

/* Read an iterator to its end into the set; what account() says, or -2. */
static int take(struct set *set, int fd, size_t size)
{
	char *text = text_of(fd, size, NULL);
	int ret;

	if (!text)
		return -2;
	ret = account(set, text);
	free(text);
	return ret;
}

/* How many of the set an iterator shows once; negative if others, too. */
static int taken_once(struct set *set, int fd, size_t size)
{
	int ret = take(set, fd, size);

	return ret ? -abs(ret) : seen_times(set, 1);
}

static bool id_is_gone(__u32 id)
{
	int fd = bpf_map_get_fd_by_id(id);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

FIXTURE(iter) {
	struct iter *skel;
	struct set set;
	int map, fd;
};

FIXTURE_SETUP(iter)
{
	self->skel = iter__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.values);
	self->fd = -1;
}

FIXTURE_TEARDOWN(iter)
{
	if (self->fd >= 0)
		close(self->fd);
	set_close(&self->set);
	iter__destroy(self->skel);
}

#define OPEN_SET(n) ASSERT_EQ(set_open(&self->set, n, self->map), 0)
#define ITERATE(prog)							\
	ASSERT_GE(self->fd = iter_over(self->skel->progs.prog, self->map), 0)
#define EXPECT_EACH_ONCE(size)						\
	EXPECT_EQ(taken_once(&self->set, self->fd, size), self->set.n)

TEST_F(iter, an_empty_map_ends_at_once)
{
	char byte;

	ITERATE(dump);
	EXPECT_EQ(read(self->fd, &byte, 1), 0);
	EXPECT_EQ(self->skel->bss->pairs, 0);
	EXPECT_EQ(self->skel->bss->ends, 1);
	EXPECT_TRUE(self->skel->bss->map_at_end);
	EXPECT_EQ(self->skel->bss->last_seq_num, 0);
	/* The end is over. */
	EXPECT_EQ(read(self->fd, &byte, 1), 0);
	EXPECT_EQ(self->skel->bss->ends, 1);
}

TEST_F(iter, values_that_are_gone_do_not_show)
{
	OPEN_SET(20);
	for (int i = 0; i < 20; i += 2)
		bpf_map_delete_elem(self->map, &self->set.fds[i]);
	for (int i = 1; i < 20; i += 2)
		close(self->set.fds[i]);
	ITERATE(dump);
	EXPECT_EQ(take(&self->set, self->fd, 4096), 0);
	EXPECT_EQ(seen_times(&self->set, 0), 20);
	EXPECT_EQ(self->skel->bss->ends, 1);
}

TEST_F(iter, each_pair_shows_once_and_then_the_end)
{
	OPEN_SET(100);
	ITERATE(dump);
	EXPECT_EACH_ONCE(1 << 16);
	EXPECT_EQ(self->skel->bss->pairs, 100);
	EXPECT_EQ(self->skel->bss->ends, 1);
	EXPECT_EQ(self->skel->bss->odd_calls, 0);
	EXPECT_TRUE(self->skel->bss->map_at_end);
	EXPECT_EQ(self->skel->bss->last_seq_num, 99);
}

TEST_F(iter, the_last_call_can_print)
{
	char wanted[32];
	char *text;

	OPEN_SET(3);
	snprintf(wanted, sizeof(wanted), "map %u\n", id_of(self->map));
	ITERATE(dump_end);
	text = text_of(self->fd, 3, NULL);
	ASSERT_NE(text, NULL);
	EXPECT_STREQ(text, wanted);
	free(text);
}

TEST_F(iter, sockets_of_every_family_show)
{
	int kinds[][3] = {
		{ AF_INET, SOCK_DGRAM }, { AF_INET6, SOCK_STREAM },
		{ AF_UNIX, SOCK_STREAM }, { AF_NETLINK, SOCK_RAW },
		{ AF_PACKET, SOCK_RAW }, { AF_INET, SOCK_RAW, IPPROTO_ICMP },
	};

	OPEN_SET(ARRAY_SIZE(kinds));
	for (__u64 i = 0; i < ARRAY_SIZE(kinds); i++) {
		close(self->set.fds[i]);
		self->set.fds[i] = socket(kinds[i][0], kinds[i][1],
					  kinds[i][2]);
		self->set.cookies[i] = cookie_of(self->set.fds[i]);
		ASSERT_EQ(bpf_map_update_elem(self->map, &self->set.fds[i],
					      &i, 0), 0);
	}
	ITERATE(dump);
	EXPECT_EACH_ONCE(4096);
}

TEST_F(iter, values_of_other_maps_stay_out)
{
	int other = bpf_map__fd(self->skel->maps.others);
	struct set both = {};
	__u64 far = 1000;

	OPEN_SET(10);
	ASSERT_EQ(set_open(&both, 10, other), 0);
	for (int i = 0; i < 10; i++)
		bpf_map_update_elem(other, &self->set.fds[i], &far, 0);
	ITERATE(dump);
	EXPECT_EACH_ONCE(4096);
	set_close(&both);
}

TEST_F(iter, ten_thousand_sockets_show_once)
{
	OPEN_SET(MANY);
	ITERATE(dump);
	EXPECT_EACH_ONCE(4096);
	EXPECT_GE(self->skel->bss->pairs, MANY);
	EXPECT_EQ(self->skel->bss->ends, 1);
}

/* Several times what a read collects at most, so that reads end in between. */
TEST_F(iter, it_goes_on_whatever_the_size_of_a_read)
{
	size_t sizes[] = { 1, 7, 100, 4096, 1 << 20 };

	OPEN_SET(4000);
	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ITERATE(dump);
		EXPECT_EACH_ONCE(sizes[i]) TH_LOG("size %zu", sizes[i]);
		close(self->fd);
	}
	self->fd = -1;
}

TEST_F(iter, two_do_not_disturb_each_other)
{
	int fds[2];
	char bytes[2][64 << 10];
	ssize_t n[2], got[2] = {};

	OPEN_SET(3000);
	for (int i = 0; i < 2; i++) {
		fds[i] = iter_over(self->skel->progs.dump, self->map);
		ASSERT_GE(fds[i], 0);
	}
	do {
		for (int i = 0; i < 2; i++) {
			n[i] = read(fds[i], bytes[i] + got[i], 1000);
			ASSERT_GE(n[i], 0);
			got[i] += n[i];
		}
	} while (n[0] || n[1]);
	for (int i = 0; i < 2; i++) {
		bytes[i][got[i]] = 0;
		EXPECT_EQ(account(&self->set, bytes[i]), 0);
		EXPECT_EQ(seen_times(&self->set, 1), 3000);
		close(fds[i]);
	}
}

TEST_F(iter, one_link_is_good_for_many_passes)
{
	int link;

	OPEN_SET(10);
	link = iter_link(self->skel->progs.dump, self->map);
	ASSERT_GE(link, 0);
	for (int i = 0; i < 3; i++) {
		self->fd = bpf_iter_create(link);
		ASSERT_GE(self->fd, 0);
		EXPECT_EACH_ONCE(100);
		EXPECT_EQ(lseek(self->fd, 0, SEEK_SET), -1);
		EXPECT_EQ(errno, ESPIPE);
		close(self->fd);
	}
	self->fd = -1;
	close(link);
}

TEST_F(iter, the_link_takes_another_program)
{
	int link;

	OPEN_SET(10);
	link = iter_link(self->skel->progs.dump_end, self->map);
	ASSERT_GE(link, 0);
	ASSERT_EQ(bpf_link_update(link,
				  bpf_program__fd(self->skel->progs.dump),
				  NULL), 0);
	self->fd = bpf_iter_create(link);
	EXPECT_EACH_ONCE(100);
	close(link);
}

TEST_F(iter, a_program_asks_for_the_first_pair_again)
{
	char byte;

	OPEN_SET(10);
	self->skel->bss->ask_again_at = 1;
	ITERATE(again);
	EXPECT_EQ(read(self->fd, &byte, 1), -1);
	EXPECT_EQ(errno, EAGAIN);
	EXPECT_EACH_ONCE(4096);
	EXPECT_EQ(self->skel->bss->pairs, 11);
}

TEST_F(iter, a_program_asks_for_a_later_pair_again)
{
	OPEN_SET(10);
	self->skel->bss->ask_again_at = 5;
	ITERATE(again);
	/* Nobody notices: what is there is read first. */
	EXPECT_EACH_ONCE(4096);
	EXPECT_EQ(self->skel->bss->pairs, 11);
}

/* Elements of a map with large values, each full of its number. */
static int fill_wide(int map, int *fds, int n, size_t size)
{
	char value[TOO_WIDE];
	int err = 0;

	for (int i = 0; i < n && !err; i++) {
		fds[i] = tcp_socket();
		memset(value, 'a' + i, size);
		err = bpf_map_update_elem(map, &fds[i], value, 0);
	}
	return err;
}

TEST_F(iter, it_goes_on_where_the_buffer_was_full)
{
	int map = create_with(WIDE, 0), fds[20], seen[256] = {};
	unsigned char *text;
	size_t len;

	if (!has_room_for(WIDE))
		SKIP(return, "stock has no room for such values");
	ASSERT_EQ(fill_wide(map, fds, ARRAY_SIZE(fds), WIDE), 0);
	self->fd = iter_over(self->skel->progs.dump_wide, map);
	ASSERT_GE(self->fd, 0);
	text = (void *)text_of(self->fd, 1 << 16, &len);
	ASSERT_NE(text, NULL);
	EXPECT_EQ(len, ARRAY_SIZE(fds) * WIDE);
	for (size_t i = 0; i < len; i++)
		seen[text[i]]++;
	for (int i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(seen['a' + i], WIDE);
		close(fds[i]);
	}
	/* All but the first are tried in vain once. */
	EXPECT_EQ(self->skel->bss->pairs, 2 * ARRAY_SIZE(fds) - 1);
	EXPECT_EQ(self->skel->bss->ends, 1);
	free(text);
	close(map);
}

TEST_F(iter, more_than_the_buffer_holds_is_an_error)
{
	int map = create_with(TOO_WIDE, 0), fds[3];
	char byte;

	if (!has_room_for(TOO_WIDE))
		SKIP(return, "stock has no room for such values");
	ASSERT_EQ(fill_wide(map, fds, ARRAY_SIZE(fds), TOO_WIDE), 0);
	self->fd = iter_over(self->skel->progs.dump_too_wide, map);
	ASSERT_GE(self->fd, 0);
	/* It does not get past the first. */
	for (int i = 0; i < 2 * ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(read(self->fd, &byte, 1), -1);
		EXPECT_EQ(errno, E2BIG);
	}
	EXPECT_EQ(self->skel->bss->pairs, 2 * ARRAY_SIZE(fds));
	for (int i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	EXPECT_EQ(read(self->fd, &byte, 1), 0);
	EXPECT_EQ(self->skel->bss->ends, 1);
	close(map);
}

TEST_F(iter, a_program_may_sleep)
{
	size_t size = 4096;
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (is_stock())
		SKIP(return, "stock refuses the program at link");
	ASSERT_NE(page, MAP_FAILED);
	OPEN_SET(50);
	self->skel->bss->user_page = (unsigned long)page;
	ITERATE(dump_sleeping);
	/* The page has not been touched: the first pair has to wait for it. */
	EXPECT_EACH_ONCE(1 << 16);
	EXPECT_EQ(self->skel->bss->page_reads, 50);
	munmap(page, size);
}

TEST_F(iter, a_program_writes_to_the_value)
{
	__u32 charged;

	OPEN_SET(20);
	charged = optmem(self->set.fds[0]);
	ITERATE(add_1000);
	EXPECT_EQ(take(&self->set, self->fd, 100), 0);
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(lookup(self->map, self->set.fds[i]), 1000 + i);
	EXPECT_EQ(optmem(self->set.fds[0]), charged);
}

TEST_F(iter, a_frozen_map_is_read_only)
{
	OPEN_SET(1);
	ASSERT_EQ(bpf_map_freeze(self->map), 0);
	ITERATE(add_1000);
	EXPECT_EQ(take(&self->set, self->fd, 100), 0);
	EXPECT_EQ(lookup(self->map, self->set.fds[0]), 1000);
}

TEST_F(iter, a_program_deletes_where_it_stands)
{
	OPEN_SET(200);
	ITERATE(delete_each);
	/* One read collects them all, and finds each, deleted or not. */
	EXPECT_EACH_ONCE(1 << 16);
	EXPECT_EQ(self->skel->bss->changed, 200);
	EXPECT_EQ(self->skel->bss->refused, 0);
	for (int i = 0; i < 200; i++) {
		EXPECT_EQ(lookup(self->map, self->set.fds[i]), -ENOENT);
		EXPECT_EQ(optmem(self->set.fds[i]), 0);
	}
}

TEST_F(iter, a_program_replaces_where_it_stands)
{
	OPEN_SET(200);
	ITERATE(replace_each);
	EXPECT_EQ(take(&self->set, self->fd, 1 << 16), 0);
	EXPECT_EQ(self->skel->bss->refused, 0);
	EXPECT_EQ(self->skel->bss->changed, self->skel->bss->pairs);
	/* The new value may be found on the way as well. */
	EXPECT_EQ(seen_times(&self->set, 0), 0);
	for (int i = 0; i < 200; i++)
		EXPECT_EQ(lookup(self->map, self->set.fds[i]), i);
}

TEST_F(iter, a_program_creates_in_another_map)
{
	int other = bpf_map__fd(self->skel->maps.others);

	OPEN_SET(100);
	ITERATE(copy_each);
	EXPECT_EQ(take(&self->set, self->fd, 100), 0);
	EXPECT_EQ(self->skel->bss->changed, 100);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(lookup(other, self->set.fds[i]), i);
}

/* A map that nothing but a link or an iterator holds. */
TEST_F(iter, it_holds_the_map)
{
	int map = create_with(8, 0), link;
	__u32 id = id_of(map);

	ASSERT_EQ(set_open(&self->set, 10, map), 0);
	link = iter_link(self->skel->progs.dump, map);
	ASSERT_GE(link, 0);
	close(map);
	EXPECT_FALSE(id_is_gone(id));
	self->fd = bpf_iter_create(link);
	ASSERT_GE(self->fd, 0);
	EXPECT_EACH_ONCE(100);
	close(self->fd);
	EXPECT_FALSE(id_is_gone(id));
	self->fd = bpf_iter_create(link);
	close(link);
	EXPECT_FALSE(id_is_gone(id));
	EXPECT_EACH_ONCE(100);
	EXPECT_NE(optmem(self->set.fds[0]), 0);
	close(self->fd);
	self->fd = -1;
	EXPECT_TRUE(EVENTUALLY(id_is_gone(id)));
	for (int i = 0; i < 10; i++)
		EXPECT_TRUE(EVENTUALLY(!optmem(self->set.fds[i])));
}

TEST_F(iter, it_can_be_closed_half_read)
{
	int map = create_with(8, 0);
	__u32 id = id_of(map);
	char text[100];

	ASSERT_EQ(set_open(&self->set, 3000, map), 0);
	self->fd = iter_over(self->skel->progs.dump, map);
	ASSERT_EQ(read(self->fd, text, sizeof(text)), sizeof(text));
	close(map);
	close(self->fd);
	self->fd = -1;
	EXPECT_TRUE(EVENTUALLY(id_is_gone(id)));
	EXPECT_TRUE(EVENTUALLY(!optmem(self->set.fds[0])));
}

/* Sockets may be closed while an iterator is between two reads. */
TEST_F(iter, sockets_may_close_between_reads)
{
	char text[4000];

	OPEN_SET(4000);
	ITERATE(dump);
	ASSERT_EQ(read(self->fd, text, 1), 1);
	for (int i = 0; i < 4000; i++)
		close(self->set.fds[i]);
	/* What was collected by then is still to be read. */
	while (read(self->fd, text, sizeof(text)) > 0)
		;
	EXPECT_EQ(self->skel->bss->ends, 1);
	EXPECT_EQ(self->skel->bss->odd_calls, 0);
	EXPECT_LT(self->skel->bss->pairs, 4000);
}

TEST_F(iter, it_takes_a_map)
{
	EXPECT_EQ(iter_link(self->skel->progs.dump, NO_MAP), -EBADF);
}

TEST_F(iter, other_maps_are_refused)
{
	int array = bpf_map_create(BPF_MAP_TYPE_ARRAY, "array", 4, 8, 1, NULL);
	int hash = bpf_map_create(BPF_MAP_TYPE_HASH, "hash", 4, 8, 1, NULL);
	int null = open("/dev/null", O_RDWR), sk = tcp_socket();
	struct bpf_program *prog = self->skel->progs.dump;

	EXPECT_EQ(iter_link(prog, 0), -EBADF);
	EXPECT_EQ(iter_link(prog, -2), -EBADF);
	EXPECT_EQ(iter_link(prog, 100000), -EBADF);
	EXPECT_EQ(iter_link(prog, null), -EINVAL);
	EXPECT_EQ(iter_link(prog, sk), -EINVAL);
	EXPECT_EQ(iter_link(prog, array), -EINVAL);
	EXPECT_EQ(iter_link(prog, hash), -EINVAL);
	close(array);
	close(hash);
	close(null);
	close(sk);
}

/* A program is held to the size of the values, when it meets the map. */
TEST_F(iter, access_beyond_the_value_is_refused)
{
	struct bpf_program *progs[] = {
		self->skel->progs.read_16, self->skel->progs.write_16,
		self->skel->progs.print_16,
	};
	__u32 sizes[] = { 4, 8, 12, 15 };
	int exact = create_with(16, 0), larger = create_with(100, 0), map, fd;

	for (int i = 0; i < ARRAY_SIZE(progs); i++) {
		for (int k = 0; k < ARRAY_SIZE(sizes); k++) {
			map = create_with(sizes[k], 0);
			ASSERT_GE(map, 0);
			EXPECT_EQ(iter_link(progs[i], map), -EACCES)
				TH_LOG("program %d, size %u", i, sizes[k]);
			close(map);
		}
		fd = iter_link(progs[i], exact);
		EXPECT_GE(fd, 0);
		close(fd);
		fd = iter_link(progs[i], larger);
		EXPECT_GE(fd, 0);
		close(fd);
	}
	close(exact);
	close(larger);
}

TEST_F(iter, the_link_shows_its_map)
{
	int link = iter_link(self->skel->progs.dump, self->map);
	char name[64] = {};
	struct bpf_link_info info = {
		.iter.target_name = (unsigned long)name,
		.iter.target_name_len = sizeof(name),
	};
	__u32 len = sizeof(info);

	ASSERT_GE(link, 0);
	ASSERT_EQ(bpf_link_get_info_by_fd(link, &info, &len), 0);
	EXPECT_EQ(info.type, BPF_LINK_TYPE_ITER);
	EXPECT_STREQ(name, "bpf_sk_storage_map");
	EXPECT_EQ(info.iter.target_name_len, strlen(name) + 1);
	EXPECT_EQ(info.iter.map.map_id, id_of(self->map));
	close(link);
}

/* Whether /proc/self/fdinfo/fd has the line. */
static bool fdinfo_has(int fd, const char *wanted)
{
	char path[64], line[128];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		found |= !strcmp(line, wanted);
	if (file)
		fclose(file);
	return found;
}

TEST_F(iter, fdinfo_shows_the_map)
{
	int link = iter_link(self->skel->progs.dump, self->map);

	ASSERT_GE(link, 0);
	EXPECT_TRUE(fdinfo_has(link, "link_type:\titer\n"));
	EXPECT_TRUE(fdinfo_has(link, "target_name:\tbpf_sk_storage_map\n"));
	EXPECT_EQ(fdinfo_number(link, "map_id"), id_of(self->map));
	close(link);
}

/* Others come and go during a pass. */

struct churn {
	struct set *set;
	int map, stop;
	__u64 passes;
};

static void *churn_values(void *arg)
{
	struct churn *churn = arg;
	__u64 far = 1 << 20;
	int fds[30];

	for (int i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = tcp_socket();
	while (!__atomic_load_n(&churn->stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < ARRAY_SIZE(fds); i++)
			bpf_map_update_elem(churn->map, &fds[i], &far, 0);
		for (int i = 0; i < ARRAY_SIZE(fds); i++)
			bpf_map_delete_elem(churn->map, &fds[i]);
		__atomic_add_fetch(&churn->passes, 1, __ATOMIC_RELAXED);
	}
	for (int i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	return NULL;
}

static void *churn_sockets(void *arg)
{
	struct churn *churn = arg;
	__u64 far = 1 << 20;

	while (!__atomic_load_n(&churn->stop, __ATOMIC_RELAXED)) {
		int fds[10];

		for (int i = 0; i < ARRAY_SIZE(fds); i++) {
			fds[i] = tcp_socket();
			bpf_map_update_elem(churn->map, &fds[i], &far, 0);
		}
		for (int i = 0; i < ARRAY_SIZE(fds); i++)
			close(fds[i]);
		__atomic_add_fetch(&churn->passes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static int races(bool long_ones)
{
	return long_ones ? 1 + rounds() / 6 : rounds();
}

FIXTURE(coming_and_going) {
	struct iter *skel;
	struct set set;
	int map, fd;
};

FIXTURE_VARIANT(coming_and_going) {
	void *(*body)(void *arg);
	int stable;
	size_t size;
	bool between_reads;
};

FIXTURE_VARIANT_ADD(coming_and_going, values) {
	.body = churn_values, .stable = 100, .size = 1 << 16,
};

FIXTURE_VARIANT_ADD(coming_and_going, sockets) {
	.body = churn_sockets, .stable = 100, .size = 1 << 16,
};

FIXTURE_VARIANT_ADD(coming_and_going, values_between_reads) {
	.body = churn_values, .stable = 3000, .size = 1000,
	.between_reads = true,
};

FIXTURE_VARIANT_ADD(coming_and_going, sockets_between_reads) {
	.body = churn_sockets, .stable = 3000, .size = 1000,
	.between_reads = true,
};

FIXTURE_SETUP(coming_and_going)
{
	self->skel = iter__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.values);
	OPEN_SET(variant->stable);
}

FIXTURE_TEARDOWN(coming_and_going)
{
	set_close(&self->set);
	iter__destroy(self->skel);
}

#define NO_PLACE							\
	"the stock iterator finds its place by counting what went before"

/* Whatever happens around them, the sockets that stay are shown once. */
TEST_F(coming_and_going, others_stay)
{
	int missing = 0, twice = 0, wrong = 0;
	struct churn churn = { .map = self->map };
	pthread_t thread;

	pthread_create(&thread, NULL, variant->body, &churn);
	for (int i = 0; i < races(variant->between_reads) ||
			!__atomic_load_n(&churn.passes, __ATOMIC_RELAXED); i++) {
		ITERATE(dump);
		wrong += take(&self->set, self->fd, variant->size) < 0;
		missing += seen_times(&self->set, 0);
		twice += self->set.n - seen_times(&self->set, 0) -
			 seen_times(&self->set, 1);
		close(self->fd);
	}
	__atomic_store_n(&churn.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_EQ(wrong, 0);
	ASSERT_GT(churn.passes, 0);
	if (variant->between_reads && is_stock())
		SKIP(return, NO_PLACE);
	EXPECT_EQ(missing, 0);
	EXPECT_EQ(twice, 0);
}

/* The number in the next line of an iterator that a reader gets bytewise. */
static long long next_number(int fd)
{
	unsigned long long cookie, value;
	char line[64];
	int n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1)
		if (line[n++] == '\n')
			break;
	line[n] = 0;
	return sscanf(line, "%llu %llu\n", &cookie, &value) == 2 ? value : -1;
}

/* Add to the map, take from it what was shown, or both, between two reads. */
static int disturb(struct set *set, int map, int what, long long shown)
{
	__u64 far = 1 << 20;
	int fd, err = 0;

	if (what & 1)
		err = bpf_map_delete_elem(map, &set->fds[shown]);
	if (what & 2 && !err) {
		fd = tcp_socket();
		err = bpf_map_update_elem(map, &fd, &far, 0);
		/* It stays open, and goes with the test's process. */
	}
	return err;
}

TEST_F(iter, values_may_be_replaced_between_reads)
{
	long long number;

	if (is_stock())
		SKIP(return, NO_PLACE);
	OPEN_SET(100);
	ITERATE(dump);
	while ((number = next_number(self->fd)) >= 0) {
		ASSERT_LT(number, 100);
		self->set.seen[number]++;
		for (__u64 i = 0; i < 100; i++)
			ASSERT_EQ(bpf_map_update_elem(self->map,
						      &self->set.fds[i], &i,
						      BPF_EXIST), 0);
	}
	EXPECT_EQ(seen_times(&self->set, 1), 100);
}

TEST_F(iter, anything_may_change_between_reads)
{
	long long number;

	if (is_stock())
		SKIP(return, NO_PLACE);
	for (int what = 1; what <= 3; what++) {
		OPEN_SET(100);
		ITERATE(dump);
		/* Strangers come without end, if there is one after the other. */
		for (int i = 0; i < 100; i++) {
			number = next_number(self->fd);
			if (number < 0)
				break;
			if (number >= 100)
				continue;
			self->set.seen[number]++;
			ASSERT_EQ(disturb(&self->set, self->map, what, number),
				  0);
		}
		while (number >= 0) {
			number = next_number(self->fd);
			if (number >= 0 && number < 100)
				self->set.seen[number]++;
		}
		EXPECT_EQ(seen_times(&self->set, 1), 100)
			TH_LOG("disturbance %d", what);
		close(self->fd);
		set_close(&self->set);
	}
	self->fd = -1;
}

TEST_F(iter, it_goes_on_after_it_deleted_where_it_stands)
{
	if (is_stock())
		SKIP(return, NO_PLACE);
	OPEN_SET(200);
	ITERATE(delete_each);
	EXPECT_EACH_ONCE(1);
	EXPECT_EQ(self->skel->bss->changed, 200);
}

/* Values in iterators over other things. */

FIXTURE(other_iter) {
	struct iter *skel;
	int map, sk, fd;
};

FIXTURE_VARIANT(other_iter) {
	int family, type;
	const char *program;
};

#define OTHER(name, family_, type_)					\
	FIXTURE_VARIANT_ADD(other_iter, name) {				\
		.family = family_, .type = type_, .program = #name,	\
	}

OTHER(at_tcp, AF_INET, SOCK_STREAM);
OTHER(at_udp, AF_INET, SOCK_DGRAM);
OTHER(at_unix, AF_UNIX, SOCK_STREAM);
OTHER(at_task_file, AF_NETLINK, SOCK_RAW);

/* A socket that the iterators over its protocol come by. */
FIXTURE_SETUP(other_iter)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr bare = { .sa_family = variant->family };
	bool inet = variant->family == AF_INET;

	self->skel = iter__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.values);
	self->sk = socket(variant->family, variant->type, 0);
	ASSERT_GE(self->sk, 0);
	ASSERT_EQ(bind(self->sk, inet ? (void *)&addr : &bare,
		       inet ? sizeof(addr) :
		       variant->family == AF_UNIX ? 2 : 12), 0);
	if (variant->family != AF_NETLINK && variant->type == SOCK_STREAM)
		ASSERT_EQ(listen(self->sk, 1), 0);
}

FIXTURE_TEARDOWN(other_iter)
{
	close(self->sk);
	iter__destroy(self->skel);
}

/* Run the program over all that there is. */
static int pass(struct iter *skel, const char *name)
{
	struct bpf_program *prog;
	char byte;
	int fd;

	prog = bpf_object__find_program_by_name(skel->obj, name);
	fd = iter_over(prog, NO_MAP);
	if (fd < 0)
		return fd;
	if (read(fd, &byte, 1) < 0)
		return -errno;
	return close(fd);
}

TEST_F(other_iter, it_creates_changes_and_deletes)
{
	ASSERT_EQ(pass(self->skel, variant->program), 0);
	EXPECT_GE(self->skel->bss->changed, 1);
	EXPECT_EQ(self->skel->bss->refused, 0);
	EXPECT_EQ(lookup(self->map, self->sk), 1);
	ASSERT_EQ(pass(self->skel, variant->program), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 2);
	self->skel->bss->delete_others = true;
	self->skel->bss->changed = 0;
	ASSERT_EQ(pass(self->skel, variant->program), 0);
	EXPECT_GE(self->skel->bss->changed, 1);
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_HARNESS_MAIN
