// SPDX-License-Identifier: GPL-2.0
/* What an accepted socket inherits from its listener: BPF_F_CLONE. */
#include "harness.h"
#include "net.h"
#include "clone.skel.h"
#include <linux/sctp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>

#define FAST_OPEN	"/proc/sys/net/ipv4/tcp_fastopen"
#define SYN_COOKIES	"/proc/sys/net/ipv4/tcp_syncookies"
#define ANY_ROOM	"4000000"
#define DEFAULT_ROOM	"131072"

/* A number of /proc/net/netstat, whose lines come in pairs; -1: no such. */
static long long network_counter(const char *name)
{
	static char names[16384], values[16384];
	FILE *file = fopen("/proc/net/netstat", "r");
	char *n, *v, *n_rest, *v_rest;
	long long found = -1;

	while (file && found < 0 && fgets(names, sizeof(names), file) &&
	       fgets(values, sizeof(values), file)) {
		n = strtok_r(names, "\n ", &n_rest);
		v = strtok_r(values, "\n ", &v_rest);
		while (n && v && strcmp(n, name)) {
			n = strtok_r(NULL, "\n ", &n_rest);
			v = strtok_r(NULL, "\n ", &v_rest);
		}
		if (n && v)
			found = atoll(v);
	}
	if (file)
		fclose(file);
	return found;
}

/* Sockets of this network namespace. */
static int sockets_used(void)
{
	FILE *file = fopen("/proc/net/sockstat", "r");
	int used = -1;

	if (!file)
		return -1;
	if (fscanf(file, "sockets: used %d", &used) != 1)
		used = -1;
	fclose(file);
	return used;
}

/* The child's fd if one is there to be accepted, or -EAGAIN. */
static int try_accept(int listener)
{
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	int fd;

	if (poll(&pfd, 1, 0) <= 0)
		return -EAGAIN;
	fd = accept(listener, NULL, NULL);
	return fd < 0 ? -errno : fd;
}

/* Values: of any number of maps, of any size. */

FIXTURE(values) {
	int listener, client, child;
};

FIXTURE_SETUP(values)
{
	ASSERT_EQ(write_file(OPTMEM_MAX, ANY_ROOM), 0);
	self->listener = listen_on(AF_INET, 0);
	ASSERT_GE(self->listener, 0);
	self->client = -1;
	self->child = -1;
}

FIXTURE_TEARDOWN(values)
{
	close(self->child);
	close(self->client);
	close(self->listener);
	write_file(OPTMEM_MAX, DEFAULT_ROOM);
}

#define ACCEPT() do {							\
	self->client = connect_new(self->listener, AF_INET, 0);		\
	ASSERT_GE(self->client, 0);					\
	self->child = accept(self->listener, NULL, NULL);		\
	ASSERT_GE(self->child, 0);					\
} while (0)

TEST_F(values, an_accepted_socket_inherits_what_is_cloned)
{
	int cloned = create_with(8, BPF_F_CLONE), plain = create_with(8, 0);

	ASSERT_EQ(update(cloned, self->listener, 21, BPF_ANY), 0);
	ASSERT_EQ(update(plain, self->listener, 22, BPF_ANY), 0);
	ACCEPT();
	EXPECT_EQ(lookup(cloned, self->child), 21);
	EXPECT_EQ(lookup(plain, self->child), -ENOENT);
	EXPECT_EQ(lookup(cloned, self->client), -ENOENT);
	/* It is a copy. */
	EXPECT_EQ(update(cloned, self->child, 23, BPF_ANY), 0);
	EXPECT_EQ(lookup(cloned, self->listener), 21);
	EXPECT_EQ(delete(cloned, self->listener), 0);
	EXPECT_EQ(lookup(cloned, self->child), 23);
	EXPECT_EQ(delete(cloned, self->child), 0);
	EXPECT_EQ(optmem(self->child), 0);
	close(cloned);
	close(plain);
}

TEST_F(values, what_is_not_cloned_is_not_inherited)
{
	int plain = create_with(8, 0);

	ASSERT_EQ(update(plain, self->listener, 1, BPF_ANY), 0);
	ACCEPT();
	EXPECT_EQ(optmem(self->child), 0);
	EXPECT_EQ(lookup(plain, self->child), -ENOENT);
	close(plain);
}

TEST_F(values, what_came_before_listen_is_inherited)
{
	int cloned = create_with(8, BPF_F_CLONE);
	struct address any = local_address(AF_INET);

	close(self->listener);
	self->listener = tcp_socket();
	ASSERT_EQ(update(cloned, self->listener, 7, BPF_ANY), 0);
	ASSERT_EQ(bind(self->listener, (void *)&any.addr, any.len), 0);
	ASSERT_EQ(listen(self->listener, 1), 0);
	ACCEPT();
	EXPECT_EQ(lookup(cloned, self->child), 7);
	close(cloned);
}

static const int sizes[] = { 8, 1, 300, 3, 64, 255, 256, 257, 4000, 60000 };

static int size_of(int i)
{
	int size = sizes[i % ARRAY_SIZE(sizes)];

	return has_room_for(size) ? size : 8;
}

static bool is_cloned(int i)
{
	return i % 3 != 1;
}

/* A value that tells whose it is, in every byte. */
static int set_bytes(int map, int fd, int seed, int size)
{
	char value[65536];

	memset(value, seed, size);
	return bpf_map_update_elem(map, &fd, value, BPF_ANY);
}

static bool has_bytes(int map, int fd, int seed, int size)
{
	char value[65536], expected[65536];

	memset(value, ~seed, size);
	memset(expected, seed, size);
	return !bpf_map_lookup_elem(map, &fd, value) &&
	       !memcmp(value, expected, size);
}

TEST_F(values, any_number_of_maps_is_inherited)
{
	int counts[] = { 1, 2, 5, 16, 17, 40 }, maps[40], n = 0;

	for (int c = 0; c < ARRAY_SIZE(counts); c++) {
		for (; n < counts[c]; n++) {
			maps[n] = create_with(size_of(n),
					      is_cloned(n) ? BPF_F_CLONE : 0);
			ASSERT_EQ(set_bytes(maps[n], self->listener, n + 1,
					    size_of(n)), 0);
		}
		ACCEPT();
		for (int i = 0; i < n; i++) {
			EXPECT_EQ(has_bytes(maps[i], self->child, i + 1,
					    size_of(i)), is_cloned(i))
				TH_LOG("map %d of %d", i, n);
			EXPECT_TRUE(has_bytes(maps[i], self->listener, i + 1,
					      size_of(i)));
			EXPECT_EQ(delete(maps[i], self->child),
				  is_cloned(i) ? 0 : -ENOENT);
		}
		EXPECT_EQ(optmem(self->child), 0);
		reset(self->client);
		close(self->child);
	}
	self->client = -1;
	self->child = -1;
	for (int i = 0; i < n; i++)
		close(maps[i]);
}

#define SMALL	256

TEST_F(values, a_copy_is_charged_like_any_value)
{
	int maps[20], n = ARRAY_SIZE(maps), sum = 0, before;

	for (int i = 0; i < n; i++) {
		maps[i] = create_with(size_of(i), BPF_F_CLONE);
		ASSERT_EQ(set_bytes(maps[i], self->listener, 1, size_of(i)), 0);
		sum += size_of(i);
	}
	ACCEPT();
	EXPECT_LE(optmem(self->child), optmem(self->listener));
	EXPECT_GE(optmem(self->child), sum);
	EXPECT_EQ(optmem(self->client), 0);
	for (int i = 0; i < n; i++) {
		before = optmem(self->child);
		ASSERT_EQ(delete(maps[i], self->child), 0);
		/* The memory of small ones may go with the last one. */
		EXPECT_LE(optmem(self->child) +
			  (size_of(i) > SMALL ? size_of(i) : 0), before);
	}
	EXPECT_EQ(optmem(self->child), 0);
	for (int i = 0; i < n; i++)
		close(maps[i]);
}

TEST_F(values, map_free_takes_the_copies)
{
	int cloned = create_with(100, BPF_F_CLONE);

	ASSERT_EQ(set_bytes(cloned, self->listener, 1, 100), 0);
	ACCEPT();
	EXPECT_GE(optmem(self->child), 100);
	close(cloned);
	EXPECT_TRUE(EVENTUALLY(!optmem(self->child)));
	EXPECT_TRUE(EVENTUALLY(!optmem(self->listener)));
}

TEST_F(values, copies_outlive_the_listener)
{
	int cloned = create_with(300, BPF_F_CLONE);

	ASSERT_EQ(set_bytes(cloned, self->listener, 9, 300), 0);
	ACCEPT();
	close(self->listener);
	self->listener = -1;
	EXPECT_TRUE(has_bytes(cloned, self->child, 9, 300));
	EXPECT_EQ(delete(cloned, self->child), 0);
	EXPECT_EQ(optmem(self->child), 0);
	close(cloned);
}

/* Transports: every way for a connection to become a socket. */

FIXTURE(transport) {
	int listener, client, child, cloned, large, plain;
};

FIXTURE_VARIANT(transport) {
	int family, client_family, protocol, client_protocol;
	/* Of netstat; it grows when a connection came this way. */
	const char *counter;
	const char *sysctl, *setting, *usual;
	bool fast_open, inherits;
	bool (*inherits_if)(void);
	/* What cannot be cloned becomes a TCP socket, without a copy. */
	bool falls_back;
	/* Connections before it is this way. */
	int warm_up;
};

FIXTURE_VARIANT_ADD(transport, ipv4) {
	.family = AF_INET, .client_family = AF_INET, .inherits = true,
};

FIXTURE_VARIANT_ADD(transport, ipv6) {
	.family = AF_INET6, .client_family = AF_INET6, .inherits = true,
};

FIXTURE_VARIANT_ADD(transport, ipv4_to_ipv6) {
	.family = AF_INET6, .client_family = AF_INET, .inherits = true,
};

/* 1 | 2: client and server; 4 | 0x200: neither wants a cookie. */
FIXTURE_VARIANT_ADD(transport, fast_open) {
	.family = AF_INET, .client_family = AF_INET, .inherits = true,
	.fast_open = true, .counter = "TCPFastOpenPassive",
	.sysctl = FAST_OPEN, .setting = "519", .usual = "1",
};

FIXTURE_VARIANT_ADD(transport, fast_open_with_cookie) {
	.family = AF_INET, .client_family = AF_INET, .inherits = true,
	.fast_open = true, .counter = "TCPFastOpenPassive", .warm_up = 1,
	.sysctl = FAST_OPEN, .setting = "3", .usual = "1",
};

FIXTURE_VARIANT_ADD(transport, fast_open_ipv6) {
	.family = AF_INET6, .client_family = AF_INET6, .inherits = true,
	.fast_open = true, .counter = "TCPFastOpenPassive",
	.sysctl = FAST_OPEN, .setting = "519", .usual = "1",
};

FIXTURE_VARIANT_ADD(transport, syn_cookies) {
	.family = AF_INET, .client_family = AF_INET, .inherits = true,
	.counter = "SyncookiesRecv",
	.sysctl = SYN_COOKIES, .setting = "2", .usual = "1",
};

FIXTURE_VARIANT_ADD(transport, syn_cookies_ipv6) {
	.family = AF_INET6, .client_family = AF_INET6, .inherits = true,
	.counter = "SyncookiesRecv",
	.sysctl = SYN_COOKIES, .setting = "2", .usual = "1",
};

FIXTURE_VARIANT_ADD(transport, mptcp) {
	.family = AF_INET, .client_family = AF_INET, .inherits = true,
	.protocol = IPPROTO_MPTCP, .client_protocol = IPPROTO_MPTCP,
	.counter = "MPCapableACKRX", .falls_back = true,
};

FIXTURE_VARIANT_ADD(transport, mptcp_ipv6) {
	.family = AF_INET6, .client_family = AF_INET6, .inherits = true,
	.protocol = IPPROTO_MPTCP, .client_protocol = IPPROTO_MPTCP,
	.counter = "MPCapableACKRX", .falls_back = true,
};

/* The value is the MPTCP socket's; the child is made from a subflow. */
FIXTURE_VARIANT_ADD(transport, tcp_to_mptcp) {
	.family = AF_INET, .client_family = AF_INET,
	.protocol = IPPROTO_MPTCP,
};

FIXTURE_VARIANT_ADD(transport, mptcp_to_tcp) {
	.family = AF_INET, .client_family = AF_INET, .inherits = true,
	.client_protocol = IPPROTO_MPTCP,
};

/* Whether associations become sockets by cloning: early kernels copy fields. */
static bool sctp_clones(void)
{
	return has_function("sctp_clone_sock");
}

FIXTURE_VARIANT_ADD(transport, sctp) {
	.family = AF_INET, .client_family = AF_INET, .inherits_if = sctp_clones,
	.protocol = IPPROTO_SCTP, .client_protocol = IPPROTO_SCTP,
};

/* This accepts without cloning. */

FIXTURE_VARIANT_ADD(transport, local) {
	.family = AF_UNIX, .client_family = AF_UNIX,
};

FIXTURE_SETUP(transport)
{
	int queue = 16;

	if (variant->sysctl && access(variant->sysctl, W_OK))
		SKIP(return, "this kernel has no %s", variant->sysctl);
	if (variant->sysctl)
		ASSERT_EQ(write_file(variant->sysctl, variant->setting), 0);
	self->listener = listen_on(variant->family, variant->protocol);
	ASSERT_GE(self->listener, 0);
	if (variant->fast_open)
		ASSERT_EQ(setsockopt(self->listener, IPPROTO_TCP, TCP_FASTOPEN,
				     &queue, sizeof(queue)), 0);
	self->cloned = create_with(8, BPF_F_CLONE);
	self->large = create_with(1000, BPF_F_CLONE);
	self->plain = create_with(8, 0);
	ASSERT_EQ(update(self->cloned, self->listener, 21, BPF_ANY), 0);
	ASSERT_EQ(set_bytes(self->large, self->listener, 22, 1000), 0);
	ASSERT_EQ(update(self->plain, self->listener, 23, BPF_ANY), 0);
	self->child = -1;
	self->client = -1;
}

FIXTURE_TEARDOWN(transport)
{
	write_file(OPTMEM_MAX, DEFAULT_ROOM);
	if (variant->sysctl)
		write_file(variant->sysctl, variant->usual);
	close(self->child);
	close(self->client);
	close(self->listener);
	close(self->cloned);
	close(self->large);
	close(self->plain);
}

/* A client's fd; connecting sends a byte where it is to be a fast one. */
static int connect_by(int listener, const FIXTURE_VARIANT(transport) *variant)
{
	struct address to = address_of(listener, variant->client_family);
	int fd, err;

	if (!variant->fast_open)
		return connect_new(listener, variant->client_family,
				  variant->client_protocol);
	fd = socket(variant->client_family, SOCK_STREAM, 0);
	err = sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&to.addr, to.len);
	if (err == 1)
		return fd;
	close(fd);
	return -1;
}

/* Connections that make the next one the kind that is wanted. */
static int warm_up(int listener, const FIXTURE_VARIANT(transport) *variant)
{
	for (int i = 0; i < variant->warm_up; i++) {
		int fd = connect_by(listener, variant);

		if (fd < 0)
			return -1;
		close(accept(listener, NULL, NULL));
		close(fd);
	}
	return 0;
}

static bool child_inherits(const FIXTURE_VARIANT(transport) *variant)
{
	return variant->inherits ||
	       (variant->inherits_if && variant->inherits_if());
}

static bool child_has_both(const FIXTURE_DATA(transport) *self)
{
	return lookup(self->cloned, self->child) == 21 &&
	       has_bytes(self->large, self->child, 22, 1000);
}

static bool child_has_nothing(const FIXTURE_DATA(transport) *self)
{
	return lookup(self->cloned, self->child) == -ENOENT &&
	       delete(self->large, self->child) == -ENOENT &&
	       !optmem(self->child);
}

TEST_F(transport, the_child_inherits)
{
	long long before = 0;

	ASSERT_EQ(warm_up(self->listener, variant), 0);
	if (variant->counter)
		before = network_counter(variant->counter);
	self->client = connect_by(self->listener, variant);
	ASSERT_GE(self->client, 0);
	self->child = accept(self->listener, NULL, NULL);
	ASSERT_GE(self->child, 0);
	if (variant->counter)
		EXPECT_EQ(network_counter(variant->counter), before + 1);
	EXPECT_EQ(lookup(self->plain, self->child), -ENOENT);
	if (child_inherits(variant)) {
		EXPECT_TRUE(child_has_both(self));
		EXPECT_EQ(delete(self->cloned, self->child), 0);
		EXPECT_EQ(delete(self->large, self->child), 0);
	}
	EXPECT_TRUE(child_has_nothing(self));
	EXPECT_EQ(optmem(self->client), 0);
	EXPECT_EQ(lookup(self->cloned, self->listener), 21);
}

static int protocol_of(int fd)
{
	socklen_t len = sizeof(int);
	int protocol = -1;

	getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	return protocol;
}

TEST_F(transport, without_room_there_is_no_child)
{
	bool refused = child_inherits(variant) && !variant->falls_back;
	int charged = optmem(self->listener), used;
	/* An MPTCP client has a subflow. */
	int added = variant->client_protocol == IPPROTO_MPTCP ? 2 : 1;
	long long drops;

	ASSERT_EQ(warm_up(self->listener, variant), 0);
	drops = network_counter("ListenDrops");
	used = sockets_used();
	ASSERT_EQ(write_file(OPTMEM_MAX, "8"), 0);
	self->client = connect_by(self->listener, variant);
	ASSERT_GE(self->client, 0);
	if (refused && variant->inherits_if) {
		/* The connection was there before; it is accept() that clones. */
		EXPECT_EQ(try_accept(self->listener), -ENOMEM);
		EXPECT_EQ(optmem(self->listener), charged);
		ASSERT_EQ(write_file(OPTMEM_MAX, DEFAULT_ROOM), 0);
	} else if (refused) {
		EXPECT_TRUE(EVENTUALLY(network_counter("ListenDrops") > drops));
		EXPECT_EQ(try_accept(self->listener), -EAGAIN);
		EXPECT_EQ(optmem(self->listener), charged);
		EXPECT_TRUE(EVENTUALLY(sockets_used() == used + added));
		/* The client tries again: its data come with an ACK. */
		ASSERT_EQ(write_file(OPTMEM_MAX, DEFAULT_ROOM), 0);
		ASSERT_EQ(write(self->client, "y", 1), 1);
	}
	self->child = accept(self->listener, NULL, NULL);
	ASSERT_GE(self->child, 0);
	if (variant->falls_back)
		EXPECT_EQ(protocol_of(self->child), IPPROTO_TCP);
	EXPECT_EQ(child_has_both(self), refused);
	EXPECT_EQ(child_has_nothing(self), !refused);
	EXPECT_EQ(optmem(self->listener), charged);
}

/* Races: connections arrive while the listener's value changes. */

FIXTURE(race) {
	struct clone *skel;
	struct bpf_link *link;
	struct race {
		const struct _fixture_variant_race *variant;
		int listener, map;
		/* What the connecting threads and the one that changes did. */
		unsigned int whole, torn, absent, changed_between, changes;
		__u32 last;
		bool done;
	} r;
	int cgroup;
};

typedef void change_t(struct race *r, __u32 number);

FIXTURE_VARIANT(race) {
	change_t *change;
	/* No value but that of the skeleton's map with a lock, or none. */
	int size;
	bool locked, no_map, deletes;
};

/* A value of so many bytes, all numbers the same, but for a lock. */
static int set_numbers(struct race *r, __u32 number, __u64 flags)
{
	__u32 value[1024];

	for (int i = 0; i < ARRAY_SIZE(value); i++)
		value[i] = number;
	return bpf_map_update_elem(r->map, &r->listener, value, flags);
}

static void no_change(struct race *r, __u32 number)
{
	sched_yield();
}

static void replace(struct race *r, __u32 number)
{
	set_numbers(r, number, BPF_ANY);
}

static void write_locked(struct race *r, __u32 number)
{
	set_numbers(r, number, BPF_F_LOCK);
}

static void write_in_program(struct race *r, __u32 number)
{
	char dummy[8] = {};
	socklen_t len = sizeof(dummy);

	getsockopt(r->listener, LEVEL((__u16)number), 0, dummy, &len);
}

static void delete_and_replace(struct race *r, __u32 number)
{
	bpf_map_delete_elem(r->map, &r->listener);
	set_numbers(r, number, BPF_ANY);
}

/* The map goes while children get their copies of its value. */
static void make_and_free_map(struct race *r, __u32 number)
{
	int map = create_with(64, BPF_F_CLONE);

	set_bytes(map, r->listener, number, 64);
	sched_yield();
	close(map);
}

FIXTURE_VARIANT_ADD(race, nothing_changes) {
	.change = no_change, .size = 64,
};

FIXTURE_VARIANT_ADD(race, replaced_64_bytes) {
	.change = replace, .size = 64,
};

FIXTURE_VARIANT_ADD(race, replaced_1024_bytes) {
	.change = replace, .size = 1024,
};

FIXTURE_VARIANT_ADD(race, replaced_with_lock) {
	.change = replace, .locked = true,
};

FIXTURE_VARIANT_ADD(race, written_under_lock) {
	.change = write_locked, .locked = true,
};

FIXTURE_VARIANT_ADD(race, written_under_lock_by_program) {
	.change = write_in_program, .locked = true,
};

FIXTURE_VARIANT_ADD(race, deleted_64_bytes) {
	.change = delete_and_replace, .size = 64, .deletes = true,
};

FIXTURE_VARIANT_ADD(race, deleted_1024_bytes) {
	.change = delete_and_replace, .size = 1024, .deletes = true,
};

FIXTURE_VARIANT_ADD(race, map_freed) {
	.change = make_and_free_map, .no_map = true,
};

FIXTURE_SETUP(race)
{
	struct timeval second = { .tv_sec = 1 };
	struct race *r = &self->r;

	r->variant = variant;
	r->listener = listen_on(AF_INET, 0);
	ASSERT_GE(r->listener, 0);
	/* Threads accept each other's children, and there may be one too few. */
	ASSERT_EQ(setsockopt(r->listener, SOL_SOCKET, SO_RCVTIMEO, &second,
			     sizeof(second)), 0);
	self->skel = clone__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->cgroup = root_cgroup();
	self->link = bpf_program__attach_cgroup(self->skel->progs.set_whole,
						self->cgroup);
	ASSERT_NE(self->link, NULL);
	r->map = NO_MAP;
	if (variant->no_map)
		return;
	if (variant->locked)
		r->map = dup(bpf_map__fd(self->skel->maps.locked));
	else
		r->map = create_with(variant->size, BPF_F_CLONE);
	ASSERT_EQ(set_numbers(r, 1, BPF_ANY), 0);
}

FIXTURE_TEARDOWN(race)
{
	if (self->r.map != NO_MAP)
		close(self->r.map);
	bpf_link__destroy(self->link);
	clone__destroy(self->skel);
	close(self->cgroup);
	close(self->r.listener);
}

/* Judge a child's copy.  A lock that was copied taken would hang this. */
static void look_at(struct race *r, int child)
{
	int first = r->variant->locked;
	int numbers = first ? 1 + WHOLE_NUMBERS : r->variant->size / 4;
	__u32 value[1024] = {};

	if (r->variant->no_map)
		return;
	if (bpf_map_lookup_elem_flags(r->map, &child, value,
				      first ? BPF_F_LOCK : 0)) {
		__sync_fetch_and_add(&r->absent, 1);
		return;
	}
	for (int i = first; i < numbers; i++)
		if (value[i] != value[first]) {
			__sync_fetch_and_add(&r->torn, 1);
			return;
		}
	__sync_fetch_and_add(&r->whole, 1);
	if (__atomic_exchange_n(&r->last, value[first], __ATOMIC_RELAXED) !=
	    value[first])
		__sync_fetch_and_add(&r->changed_between, 1);
}

/* Whether what is to be seen has been: no time can be given for it. */
static bool has_raced(struct race *r)
{
	if (r->variant->change == no_change)
		return true;
	if (r->variant->no_map)
		return r->changes >= rounds();
	return r->changed_between > 10 && (r->absent || !r->variant->deletes);
}

static void *connect_and_look(void *arg)
{
	struct race *r = arg;

	for (int i = 0; i < rounds() * 3 || !has_raced(r); i++) {
		int client = connect_new(r->listener, AF_INET, 0);
		int child = accept(r->listener, NULL, NULL);

		/* A client that was reset before it had a child has none. */
		if (child >= 0 || errno != EAGAIN)
			look_at(r, child);
		reset(client);
		reset(child);
	}
	return NULL;
}

static void *change_until_done(void *arg)
{
	struct race *r = arg;

	while (!__atomic_load_n(&r->done, __ATOMIC_RELAXED)) {
		r->variant->change(r, r->changes + 2);
		__sync_fetch_and_add(&r->changes, 1);
	}
	return NULL;
}

TEST_F(race, a_child_gets_all_of_one_value)
{
	struct race *r = &self->r;
	pthread_t connecting[4], changing;

	pthread_create(&changing, NULL, change_until_done, r);
	for (int i = 0; i < ARRAY_SIZE(connecting); i++)
		pthread_create(&connecting[i], NULL, connect_and_look, r);
	for (int i = 0; i < ARRAY_SIZE(connecting); i++)
		pthread_join(connecting[i], NULL);
	__atomic_store_n(&r->done, true, __ATOMIC_RELAXED);
	pthread_join(changing, NULL);
	EXPECT_EQ(r->torn, 0);
	if (!variant->deletes)
		EXPECT_EQ(r->absent, 0);
	if (!variant->no_map)
		EXPECT_GE(r->whole, 1);
	if (!variant->no_map)
		bpf_map_delete_elem(r->map, &r->listener);
	EXPECT_TRUE(EVENTUALLY(!optmem(r->listener)));
}

/* An association that leaves a one-to-many socket. */
TEST(a_peeled_off_association_inherits)
{
	struct address any = local_address(AF_INET);
	sctp_peeloff_arg_t peel = {};
	socklen_t len = sizeof(peel);
	int cloned = create_with(8, BPF_F_CLONE);
	int server, client;
	char byte = 'x';
	struct address to;

	server = socket(AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP);
	ASSERT_GE(server, 0);
	ASSERT_EQ(bind(server, (void *)&any.addr, any.len), 0);
	ASSERT_EQ(listen(server, 1), 0);
	ASSERT_EQ(update(cloned, server, 21, BPF_ANY), 0);
	to = address_of(server, AF_INET);
	client = socket(AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP);
	ASSERT_EQ(connect(client, (void *)&to.addr, to.len), 0);
	ASSERT_EQ(sendto(client, &byte, 1, 0, (void *)&to.addr, to.len), 1);
	ASSERT_EQ(read(server, &byte, 1), 1);
	/* The first association of a socket bound to one port. */
	peel.associd = SCTP_FUTURE_ASSOC;
	for (int id = 1; id < 100 && peel.sd <= 0; id++) {
		peel.associd = id;
		getsockopt(server, IPPROTO_SCTP, SCTP_SOCKOPT_PEELOFF, &peel,
			   &len);
	}
	ASSERT_GT(peel.sd, 0);
	if (sctp_clones()) {
		EXPECT_EQ(lookup(cloned, peel.sd), 21);
		EXPECT_EQ(delete(cloned, peel.sd), 0);
	}
	EXPECT_EQ(lookup(cloned, peel.sd), -ENOENT);
	EXPECT_EQ(optmem(peel.sd), 0);
	EXPECT_EQ(lookup(cloned, server), 21);
	close(peel.sd);
	close(client);
	close(server);
	close(cloned);
}

/* Programs that meet the connection before accept() does. */

FIXTURE(program) {
	struct clone *skel;
	int cgroup, listener, client, child;
};

FIXTURE_SETUP(program)
{
	self->skel = clone__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->cgroup = root_cgroup();
	self->listener = listen_on(AF_INET, 0);
	ASSERT_GE(self->listener, 0);
	self->client = -1;
	self->child = -1;
}

FIXTURE_TEARDOWN(program)
{
	clone__destroy(self->skel);
	close(self->cgroup);
	close(self->child);
	close(self->client);
	close(self->listener);
}

TEST_F(program, sockops_find_the_copy_and_add_to_it)
{
	int cloned = bpf_map__fd(self->skel->maps.cloned);
	int plain = bpf_map__fd(self->skel->maps.plain);
	struct bpf_link *link;

	link = bpf_program__attach_cgroup(self->skel->progs.on_sockops,
					  self->cgroup);
	ASSERT_NE(link, NULL);
	ASSERT_EQ(update(cloned, self->listener, 21, BPF_ANY), 0);
	ACCEPT();
	EXPECT_EQ(lookup(cloned, self->child), 22);
	EXPECT_EQ(lookup(plain, self->child), 5);
	EXPECT_EQ(lookup(cloned, self->listener), 21);
	EXPECT_EQ(lookup(plain, self->listener), -ENOENT);
	bpf_link__destroy(link);
	EXPECT_EQ(delete(plain, self->child), 0);
	EXPECT_EQ(delete(cloned, self->child), 0);
	EXPECT_EQ(optmem(self->child), 0);
}

static int attach_tc(struct bpf_program *prog, enum bpf_tc_attach_point point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = if_nametoindex("lo"),
		    .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1,
		    .prog_fd = bpf_program__fd(prog));

	return bpf_tc_attach(&hook, &opts);
}

/* They keep nothing, and the connection does not suffer. */
TEST_F(program, request_sockets_are_no_full_sockets)
{
	int cloned = bpf_map__fd(self->skel->maps.cloned);
	struct meetings *meetings = self->skel->bss->meetings;
	LIBBPF_OPTS(bpf_tc_hook, both, .ifindex = if_nametoindex("lo"),
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	ASSERT_EQ(bpf_tc_hook_create(&both), 0);
	self->skel->links.on_retransmit =
		bpf_program__attach(self->skel->progs.on_retransmit);
	ASSERT_NE(self->skel->links.on_retransmit, NULL);
	ASSERT_EQ(attach_tc(self->skel->progs.on_egress, BPF_TC_EGRESS), 0);
	ASSERT_EQ(attach_tc(self->skel->progs.on_ingress, BPF_TC_INGRESS), 0);
	/* One is sent again, by a timer. */
	self->skel->bss->synacks_to_drop = 1;
	ASSERT_EQ(update(cloned, self->listener, 21, BPF_ANY), 0);
	ACCEPT();
	bpf_tc_hook_destroy(&both);
	for (int way = 0; way < WAYS; way++) {
		EXPECT_GE(meetings[way].count, 1) TH_LOG("way %d", way);
		EXPECT_EQ(meetings[way].got, 0) TH_LOG("way %d", way);
		EXPECT_EQ(meetings[way].deleted, 0) TH_LOG("way %d", way);
	}
	EXPECT_EQ(lookup(cloned, self->child), 21);
	EXPECT_EQ(optmem(self->child), optmem(self->listener));
	EXPECT_EQ(delete(cloned, self->child), 0);
	EXPECT_EQ(optmem(self->child), 0);
}

/* Memory: any allocation of the clone fails, and no child comes of it. */

#define FAILING_MAPS	20

static const char * const fault_progs[] = {
	"clone_begins", "clone_ends", "fail_one",
};

FIXTURE(failing) {
	struct clone *skel;
	struct bpf_link *links[ARRAY_SIZE(fault_progs)];
	int listener, maps[FAILING_MAPS];
};

FIXTURE_SETUP(failing)
{
	struct bpf_program *progs[ARRAY_SIZE(fault_progs)];

	if (access("/sys/kernel/debug/failslab", F_OK))
		SKIP(return, "no fault injection in this kernel");
	self->skel = clone__open();
	ASSERT_NE(self->skel, NULL);
	for (int i = 0; i < ARRAY_SIZE(fault_progs); i++) {
		progs[i] = bpf_object__find_program_by_name(self->skel->obj,
							    fault_progs[i]);
		bpf_program__set_autoload(progs[i], true);
	}
	/* What is behind it where it is inlined. */
	if (!has_function("sk_clone_lock")) {
		bpf_program__set_attach_target(self->skel->progs.clone_begins,
					       0, "sk_clone");
		bpf_program__set_attach_target(self->skel->progs.clone_ends,
					       0, "sk_clone");
	}
	ASSERT_EQ(clone__load(self->skel), 0);
	ASSERT_EQ(write_file(OPTMEM_MAX, ANY_ROOM), 0);
	self->listener = listen_on(AF_INET, 0);
	for (int i = 0; i < FAILING_MAPS; i++) {
		self->maps[i] = create_with(size_of(i), BPF_F_CLONE);
		ASSERT_EQ(set_bytes(self->maps[i], self->listener, i + 1,
				    size_of(i)), 0);
	}
	for (int i = 0; i < ARRAY_SIZE(fault_progs); i++) {
		self->links[i] = bpf_program__attach(progs[i]);
		ASSERT_NE(self->links[i], NULL);
	}
}

FIXTURE_TEARDOWN(failing)
{
	if (!self->skel)
		return;
	for (int i = 0; i < ARRAY_SIZE(fault_progs); i++)
		bpf_link__destroy(self->links[i]);
	clone__destroy(self->skel);
	close(self->listener);
	for (int i = 0; i < FAILING_MAPS; i++)
		close(self->maps[i]);
	write_file(OPTMEM_MAX, DEFAULT_ROOM);
}

static bool has_all(const FIXTURE_DATA(failing) *self, int child, int n)
{
	for (int i = 0; i < n; i++)
		if (!has_bytes(self->maps[i], child, i + 1, size_of(i)))
			return false;
	return true;
}

TEST_F(failing, every_allocation_refuses_the_connection)
{
	int n, client, child, charged = optmem(self->listener), used;
	struct clone__bss *bss = self->skel->bss;
	long long drops;
	int larger = 0;

	for (int i = 0; i < FAILING_MAPS; i++)
		larger += size_of(i) > SMALL;
	for (n = 1;; n++) {
		drops = network_counter("ListenDrops");
		used = sockets_used();
		bss->failures = 0;
		bss->fail_at = n;
		client = connect_new(self->listener, AF_INET, 0);
		ASSERT_GE(client, 0);
		EXPECT_TRUE(EVENTUALLY(network_counter("ListenDrops") > drops ||
				       sockets_used() == used + 2));
		bss->fail_at = 0;
		if (!bss->failures)
			break;
		/* From now on a repeated SYN-ACK may make the child. */
		EXPECT_GT(network_counter("ListenDrops"), drops);
		EXPECT_EQ(optmem(self->listener), charged);
		ASSERT_EQ(write(client, "y", 1), 1);
		child = accept(self->listener, NULL, NULL);
		EXPECT_TRUE(has_all(self, child, FAILING_MAPS))
			TH_LOG("after failure %d", n);
		reset(client);
		reset(child);
		EXPECT_TRUE(EVENTUALLY(sockets_used() == used));
	}
	child = accept(self->listener, NULL, NULL);
	EXPECT_TRUE(has_all(self, child, FAILING_MAPS));
	/* The socket itself is one of them; small values may share another. */
	EXPECT_GT(n - 1, 1 + larger);
	reset(client);
	reset(child);
}

TEST_HARNESS_MAIN
