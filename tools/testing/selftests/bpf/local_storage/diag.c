// SPDX-License-Identifier: GPL-2.0
/* What sock_diag tells of the storage of sockets, and what it refuses. */
#include "harness.h"
#include "inet_diag.h"
#include "refused.skel.h"
#include "scarce.h"
#include <linux/capability.h>
#include <sys/syscall.h>

/* A socket in each place where the kernel looks for them. */

FIXTURE(kind) {
	struct sockaddr_in6 addr, peer;
	int map, other, sk, server;
};

#define NUMBER	0x1122334455667788

FIXTURE_VARIANT(kind) {
	struct kind kind;
	/* A request can name it. */
	bool findable;
};

#define KIND(name, ...)	\
	FIXTURE_VARIANT_ADD(kind, name) { __VA_ARGS__ }

KIND(tcp_bound, { AF_INET, IPPROTO_TCP, BOUND }, false);
KIND(tcp_listening, { AF_INET, IPPROTO_TCP, LISTENING }, true);
KIND(tcp_connected, { AF_INET, IPPROTO_TCP, CONNECTED }, true);
KIND(tcp6_bound, { AF_INET6, IPPROTO_TCP, BOUND }, false);
KIND(tcp6_listening, { AF_INET6, IPPROTO_TCP, LISTENING }, true);
KIND(tcp6_connected, { AF_INET6, IPPROTO_TCP, CONNECTED }, true);
KIND(mptcp_listening, { AF_INET, IPPROTO_MPTCP, LISTENING }, false);
KIND(mptcp_connected, { AF_INET, IPPROTO_MPTCP, CONNECTED }, true);
KIND(mptcp6_listening, { AF_INET6, IPPROTO_MPTCP, LISTENING }, false);
KIND(mptcp6_connected, { AF_INET6, IPPROTO_MPTCP, CONNECTED }, true);
KIND(udp, { AF_INET, IPPROTO_UDP, BOUND }, true);
KIND(udp6, { AF_INET6, IPPROTO_UDP, BOUND }, true);
KIND(raw, { AF_INET, IPPROTO_RAW, BOUND }, true);
KIND(raw6, { AF_INET6, IPPROTO_RAW, BOUND }, true);

FIXTURE_SETUP(kind)
{
	ASSERT_EQ(network_err, 0);
	self->map = create_with(8, 0);
	self->other = create_with(8, 0);
	ASSERT_GE(self->other, 0);
	self->sk = open_kind(&variant->kind, &self->addr, &self->peer,
			     &self->server);
	ASSERT_GE(self->sk, 0);
	ASSERT_EQ(update(self->map, self->sk, NUMBER, 0), 0);
}

FIXTURE_TEARDOWN(kind)
{
	close(self->sk);
	close(self->server);
	close(self->map);
	close(self->other);
}

TEST_F(kind, is_dumped_with_its_value)
{
	struct dump dump = dump_storage(variant->kind.family, variant->kind.protocol,
					&self->map, 1);
	struct found found = find(&dump, self->sk);

	EXPECT_EQ(dump.err, 0);
	EXPECT_EQ(found.times, 1);
	EXPECT_FALSE(found.malformed);
	if (is_stock() && variant->kind.state == BOUND && !found.nests)
		SKIP(return, "the base shows what has connections");
	EXPECT_EQ(found.n, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->map))), NUMBER);
	free(dump.data);
	dump = dump_storage(variant->kind.family, variant->kind.protocol,
			    &self->other, 1);
	found = find(&dump, self->sk);
	EXPECT_EQ(found.times, 1);
	EXPECT_EQ(found.nests, 0);
	free(dump.data);
}

TEST_F(kind, is_shown_with_its_value_if_asked_for_alone)
{
	struct request r;
	struct found found;
	struct dump dump;

	ask_storage(&r, variant->kind.family, variant->kind.protocol, &self->map, 1);
	ask_one(&r, self->sk, &self->addr, &self->peer);
	dump = run(&r);
	EXPECT_EQ(dump.err, variant->findable ? 0 : -ENOENT);
	EXPECT_EQ(count_messages(&dump), variant->findable);
	found = find(&dump, self->sk);
	EXPECT_EQ(found.times, variant->findable);
	EXPECT_FALSE(found.malformed);
	if (is_stock() && variant->findable && !found.nests)
		SKIP(return, "the base shows no values then");
	EXPECT_EQ(found.n, variant->findable);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->map))),
		  variant->findable ? NUMBER : ~0ULL);
	free(dump.data);
}

/* One listener, with a value of each of two maps. */

enum {
	NO_FD, CLOSED, NO_MAP_FD, HASH_MAP, TYPES, OTHER_ONE, ONE, ONE_AGAIN,
	TWO, EMPTY, WRITE_ONLY, FDS
};

FIXTURE(diag) {
	struct sockaddr_in6 addr, peer;
	int fds[FDS];
	int sk, idle;
};

FIXTURE_SETUP(diag)
{
	LIBBPF_OPTS(bpf_get_fd_by_id_opts, opts, .open_flags = BPF_F_WRONLY);
	struct btf *btf = types_for(8);

	ASSERT_EQ(network_err, 0);
	self->fds[NO_FD] = -1;
	self->fds[CLOSED] = 100000;
	self->fds[NO_MAP_FD] = open("/dev/null", O_RDONLY);
	self->fds[HASH_MAP] = bpf_map_create(BPF_MAP_TYPE_HASH, "hash", 4, 8,
					     1, NULL);
	self->fds[TYPES] = dup(spec_for(btf, 8).btf_fd);
	btf__free(btf);
	self->fds[ONE] = create_with(8, 0);
	self->fds[TWO] = create_with(8, 0);
	self->fds[EMPTY] = create_with(8, 0);
	self->fds[ONE_AGAIN] = dup(self->fds[ONE]);
	self->fds[WRITE_ONLY] = bpf_map_get_fd_by_id_opts(id_of(self->fds[ONE]),
							  &opts);
	ASSERT_GE(self->fds[WRITE_ONLY], 0);
	self->sk = listener(AF_INET, IPPROTO_TCP, &self->addr);
	self->idle = tcp_listener();
	self->fds[OTHER_ONE] = dup(self->sk);
	ASSERT_EQ(update(self->fds[ONE], self->sk, 1, 0), 0);
	ASSERT_EQ(update(self->fds[TWO], self->sk, 2, 0), 0);
}

FIXTURE_TEARDOWN(diag)
{
	for (int i = NO_MAP_FD; i < FDS; i++)
		close(self->fds[i]);
	close(self->sk);
	close(self->idle);
}

TEST_F(diag, says_nothing_of_values_unless_asked)
{
	struct request r;
	struct found found;
	struct dump dump;

	ask(&r, AF_INET, IPPROTO_TCP);
	dump = run(&r);
	EXPECT_EQ(dump.err, 0);
	EXPECT_EQ(count_messages(&dump), 2);
	found = find(&dump, self->sk);
	EXPECT_EQ(found.times, 1);
	EXPECT_EQ(found.nests, 0);
	free(dump.data);
}

TEST_F(diag, no_map_named_means_all)
{
	struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);
	struct found found = find(&dump, self->sk);

	EXPECT_EQ(dump.err, 0);
	EXPECT_EQ(count_messages(&dump), 2);
	EXPECT_FALSE(found.malformed);
	EXPECT_EQ(found.n, 2);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->fds[ONE]))), 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->fds[TWO]))), 2);
	found = find(&dump, self->idle);
	EXPECT_EQ(found.times, 1);
	EXPECT_EQ(found.nests, 0);
	free(dump.data);
}

TEST_F(diag, several_maps_are_shown_in_the_order_named)
{
	int maps[] = { self->fds[TWO], self->fds[EMPTY], self->fds[ONE] };
	struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, maps, 3);
	struct found found = find(&dump, self->sk);

	EXPECT_EQ(dump.err, 0);
	EXPECT_FALSE(found.malformed);
	ASSERT_EQ(found.n, 2);
	EXPECT_EQ(found.values[0].id, id_of(self->fds[TWO]));
	EXPECT_EQ(number_of_value(&found.values[0]), 2);
	EXPECT_EQ(found.values[1].id, id_of(self->fds[ONE]));
	EXPECT_EQ(number_of_value(&found.values[1]), 1);
	free(dump.data);
}

TEST_F(diag, a_deleted_value_is_not_shown)
{
	struct found found;
	struct dump dump;

	ASSERT_EQ(bpf_map_delete_elem(self->fds[ONE], &self->sk), 0);
	dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);
	found = find(&dump, self->sk);
	EXPECT_EQ(found.n, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->fds[TWO]))), 2);
	free(dump.data);
}

TEST_F(diag, the_old_request_shows_values_too)
{
	struct inet_diag_req old = { .idiag_states = OPEN_STATES };
	struct request r = {};
	struct nlattr *nla;
	struct found found;
	struct dump dump;

	r.nlh.nlmsg_type = TCPDIAG_GETSOCK;
	r.nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	r.nlh.nlmsg_len = NLMSG_LENGTH(sizeof(old));
	memcpy(NLMSG_DATA(&r.nlh), &old, sizeof(old));
	nla = nest(&r);
	put(&r, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &self->fds[ONE], 4);
	end_nest(&r, nla);
	dump = run(&r);
	EXPECT_EQ(dump.err, 0);
	found = find(&dump, self->sk);
	EXPECT_EQ(found.times, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->fds[ONE]))), 1);
	free(dump.data);
}

#define MAP_FD		SK_DIAG_BPF_STORAGE_REQ_MAP_FD
#define FD(fd)		{ fd, MAP_FD, 4 }

/* What a nest holds, what that comes to, and how many values are shown. */
static const struct {
	const char *what;
	struct {
		int fd, type, len;
	} attrs[3];
	int err, shown;
} requests[] = {
	{ "a map", { FD(ONE) }, 0, 1 },
	{ "two maps", { FD(ONE), FD(TWO) }, 0, 2 },
	{ "write only", { FD(WRITE_ONLY) }, 0, 1 },
	{ "type with flags", { { ONE, MAP_FD | NLA_F_NESTED, 4 } }, 0, 1 },
	{ "closed fd", { FD(CLOSED) }, -EBADF },
	{ "closed fd second", { FD(ONE), FD(CLOSED) }, -EBADF },
	{ "closed fd first", { FD(CLOSED), FD(ONE) }, -EBADF },
	{ "file", { FD(NO_MAP_FD) }, -EINVAL },
	{ "file second", { FD(ONE), FD(NO_MAP_FD) }, -EINVAL },
	{ "socket", { FD(OTHER_ONE) }, -EINVAL },
	{ "types", { FD(TYPES) }, -EINVAL },
	{ "hash", { FD(HASH_MAP) }, -EINVAL },
	{ "hash second", { FD(ONE), FD(HASH_MAP) }, -EINVAL },
	{ "fd twice", { FD(ONE), FD(ONE) }, -EEXIST },
	{ "map twice", { FD(ONE), FD(ONE_AGAIN) }, -EEXIST },
	{ "map twice, apart", { FD(ONE), FD(TWO), FD(ONE) }, -EEXIST },
	{ "size 0", { { ONE, MAP_FD, 0 } }, -EINVAL },
	{ "size 3", { { ONE, MAP_FD, 3 } }, -EINVAL },
	{ "size 5", { { ONE, MAP_FD, 5 } }, -EINVAL },
	{ "size 8", { { ONE, MAP_FD, 8 } }, -EINVAL },
	{ "size 8 second", { FD(TWO), { ONE, MAP_FD, 8 } }, -EINVAL },
	{ "type 0", { { ONE, 0, 4 } }, 0, 2 },
	{ "type 2", { { ONE, 2, 4 } }, 0, 2 },
	{ "type 2 beside a map", { { CLOSED, 2, 4 }, FD(ONE) }, 0, 1 },
	{ "type 2 of any size", { { CLOSED, 2, 1 }, FD(ONE) }, 0, 1 },
};

static void make_request(struct request *r, int i, const int *fds)
{
	struct nlattr *nla;

	ask(r, AF_INET, IPPROTO_TCP);
	nla = nest(r);
	for (int k = 0; k < ARRAY_SIZE(requests[i].attrs); k++) {
		int fd[2] = { fds[requests[i].attrs[k].fd] };

		if (requests[i].attrs[k].fd)
			put(r, requests[i].attrs[k].type, fd,
			    requests[i].attrs[k].len);
	}
	end_nest(r, nla);
}

static void check_request(struct __test_metadata *_metadata, int i,
			  const struct request *r, int sk, int sockets)
{
	struct dump dump = run(r);
	struct found found = find(&dump, sk);

	EXPECT_EQ(dump.err, requests[i].err) TH_LOG("%s", requests[i].what);
	EXPECT_EQ(found.n, requests[i].shown) TH_LOG("%s", requests[i].what);
	EXPECT_EQ(count_messages(&dump), requests[i].err ? 0 : sockets)
		TH_LOG("%s", requests[i].what);
	EXPECT_FALSE(found.malformed) TH_LOG("%s", requests[i].what);
	free(dump.data);
}

TEST_F(diag, a_dump_examines_its_maps)
{
	for (int i = 0; i < ARRAY_SIZE(requests); i++) {
		struct request r;

		make_request(&r, i, self->fds);
		check_request(_metadata, i, &r, self->sk, 2);
	}
}

TEST_F(diag, a_request_for_one_socket_examines_its_maps)
{
	struct request r;

	ask_storage(&r, AF_INET, IPPROTO_TCP, &self->fds[CLOSED], 1);
	ask_one(&r, self->sk, &self->addr, &self->peer);
	if (is_stock() && !outcome(&r))
		SKIP(return, "the base does not look at them");
	for (int i = 0; i < ARRAY_SIZE(requests); i++) {
		make_request(&r, i, self->fds);
		ask_one(&r, self->sk, &self->addr, &self->peer);
		check_request(_metadata, i, &r, self->sk, 1);
	}
}

TEST_F(diag, no_request_keeps_a_map)
{
	__u32 ids[] = { id_of(self->fds[ONE]), id_of(self->fds[TWO]),
			id_of(self->fds[HASH_MAP]) };
	struct request r;

	for (int i = 0; i < ARRAY_SIZE(requests); i++) {
		make_request(&r, i, self->fds);
		outcome(&r);
		ask_one(&r, self->sk, &self->addr, &self->peer);
		outcome(&r);
		r.req.id.idiag_sport ^= 0xffff;
		EXPECT_NE(outcome(&r), 0);
	}
	for (int i = HASH_MAP; i < FDS; i++)
		close(self->fds[i]);
	EXPECT_TRUE(EVENTUALLY(gone(ids, ARRAY_SIZE(ids))));
}

/* Lengths that lie; what follows them is not looked at. */
static const struct {
	const char *what;
	int first, second, outer, shown;
} lengths[] = {
	{ "as it should be", 8, 8, 0, 2 },
	{ "second beyond the nest", 8, 12, 0, 1 },
	{ "first beyond the nest", 60, 8, 0, 2 },
	{ "second shorter than a header", 8, 3, 0, 1 },
	{ "second empty", 8, 0, 0, 1 },
	{ "nest beyond the message", 8, 8, 8, 0 },
	{ "nest cuts the second", 8, 8, -2, 1 },
	{ "nest cuts the second's header", 8, 8, -6, 1 },
	{ "nest cuts the first", 8, 8, -9, 2 },
	{ "nest cuts the first's header", 8, 8, -13, 2 },
};

TEST_F(diag, a_request_may_find_no_memory)
{
	struct request r;

	if (!can_be_scarce())
		SKIP(return, "no fault injection in this kernel");
	ASSERT_EQ(begin_scarcity("bpf_sk_storage_diag_alloc"), 0);
	ask_storage(&r, AF_INET, IPPROTO_TCP, &self->fds[ONE], 1);
	run_out(1, 1);
	EXPECT_EQ(outcome(&r), -ENOMEM);
	EXPECT_TRUE(ran_out());
	EXPECT_EQ(outcome(&r), 0);
	ask_one(&r, self->sk, &self->addr, &self->peer);
	run_out(1, 1);
	EXPECT_EQ(outcome(&r), -ENOMEM);
	EXPECT_TRUE(ran_out());
	end_scarcity();
}

TEST_F(diag, wrong_lengths_are_refused)
{
	for (int i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct nlattr *all, *first, *second;
		struct found found;
		struct request r;
		struct dump dump;

		ask(&r, AF_INET, IPPROTO_TCP);
		all = nest(&r);
		first = put(&r, MAP_FD, &self->fds[ONE], 4);
		second = put(&r, MAP_FD, &self->fds[TWO], 4);
		end_nest(&r, all);
		first->nla_len = lengths[i].first;
		second->nla_len = lengths[i].second;
		all->nla_len += lengths[i].outer;
		if (lengths[i].outer < 0)
			r.nlh.nlmsg_len += lengths[i].outer;
		dump = run(&r);
		found = find(&dump, self->sk);
		EXPECT_EQ(dump.err, 0) TH_LOG("%s", lengths[i].what);
		EXPECT_EQ(found.n, lengths[i].shown)
			TH_LOG("%s", lengths[i].what);
		free(dump.data);
	}
}

TEST_F(diag, the_flag_of_the_nest_is_optional)
{
	struct nlattr *nla;
	struct found found;
	struct request r;
	struct dump dump;

	ask(&r, AF_INET, IPPROTO_TCP);
	nla = nest(&r);
	nla->nla_type = INET_DIAG_REQ_SK_BPF_STORAGES;
	put(&r, MAP_FD, &self->fds[ONE], 4);
	end_nest(&r, nla);
	dump = run(&r);
	EXPECT_EQ(dump.err, 0);
	found = find(&dump, self->sk);
	EXPECT_EQ(found.n, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->fds[ONE]))), 1);
	free(dump.data);
}

TEST_F(diag, the_last_of_several_nests_counts)
{
	static const int order[][3] = { { CLOSED, ONE, 0 },
					{ ONE, CLOSED, -EBADF } };

	for (int i = 0; i < ARRAY_SIZE(order); i++) {
		struct request r;

		ask(&r, AF_INET, IPPROTO_TCP);
		for (int k = 0; k < 2; k++) {
			struct nlattr *nla = nest(&r);

			put(&r, MAP_FD, &self->fds[order[i][k]], 4);
			end_nest(&r, nla);
		}
		EXPECT_EQ(outcome(&r), order[i][2]);
	}
}

#define MANY	100

TEST_F(diag, a_request_can_name_many_maps)
{
	struct request r;
	struct found found;
	struct dump dump;
	int maps[MANY + 1];

	for (int i = 0; i < MANY; i++) {
		maps[i] = create_with(8, 0);
		ASSERT_GE(maps[i], 0);
		ASSERT_EQ(update(maps[i], self->idle, i, 0), 0);
	}
	maps[MANY] = maps[MANY / 2];
	dump = dump_storage(AF_INET, IPPROTO_TCP, maps, MANY);
	EXPECT_EQ(dump.err, 0);
	found = find(&dump, self->idle);
	EXPECT_FALSE(found.malformed);
	EXPECT_EQ(found.n, MANY);
	for (int i = 0; i < MANY; i++)
		EXPECT_EQ(number_of_value(value_of(&found, id_of(maps[i]))), i);
	free(dump.data);
	ask_storage(&r, AF_INET, IPPROTO_TCP, maps, MANY + 1);
	EXPECT_EQ(outcome(&r), -EEXIST);
	for (int i = 0; i < MANY; i++)
		close(maps[i]);
}

#define CAP(x)	(1ULL << (x))

static __u64 set_effective(__u64 mask)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};
	__u64 before;

	syscall(SYS_capget, &head, data);
	before = data[0].effective | (__u64)data[1].effective << 32;
	data[0].effective = mask & data[0].permitted;
	data[1].effective = mask >> 32 & data[1].permitted;
	syscall(SYS_capset, &head, data);
	return before;
}

TEST_F(diag, takes_the_capability_to_use_bpf)
{
	static const struct {
		__u64 effective;
		int err;
	} cases[] = {
		{ ~0ULL, 0 }, { 0, -EPERM },
		{ CAP(CAP_BPF), 0 }, { CAP(CAP_SYS_ADMIN), 0 },
		{ CAP(CAP_NET_ADMIN), -EPERM }, { CAP(CAP_PERFMON), -EPERM },
		{ ~(CAP(CAP_BPF) | CAP(CAP_SYS_ADMIN)), -EPERM },
		{ ~CAP(CAP_NET_ADMIN), 0 },
	};
	struct request plain, one, all, alone, bad;

	ask(&plain, AF_INET, IPPROTO_TCP);
	ask_storage(&one, AF_INET, IPPROTO_TCP, &self->fds[ONE], 1);
	ask_storage(&all, AF_INET, IPPROTO_TCP, NULL, 0);
	ask_storage(&alone, AF_INET, IPPROTO_TCP, &self->fds[ONE], 1);
	ask_one(&alone, self->sk, &self->addr, &self->peer);
	ask_storage(&bad, AF_INET, IPPROTO_TCP, &self->fds[CLOSED], 1);
	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		__u64 before = set_effective(cases[i].effective);
		int err = cases[i].err;

		EXPECT_EQ(outcome(&plain), 0) TH_LOG("case %d", i);
		EXPECT_EQ(outcome(&one), err) TH_LOG("case %d", i);
		EXPECT_EQ(outcome(&all), err) TH_LOG("case %d", i);
		/* The base does not look at what it asks for. */
		if (!is_stock())
			EXPECT_EQ(outcome(&alone), err) TH_LOG("case %d", i);
		/* Who may not ask learns nothing of what is asked for. */
		EXPECT_EQ(outcome(&bad), err ?: -EBADF) TH_LOG("case %d", i);
		set_effective(before);
	}
}

/* What programs alone may see. */

#define HIDING	30

FIXTURE(hidden) {
	int sockets[HIDING];
	int filler;
};

FIXTURE_SETUP(hidden)
{
	unsigned char ones[2048];

	ASSERT_EQ(network_err, 0);
	self->filler = create_with(sizeof(ones), 0);
	memset(ones, 0xff, sizeof(ones));
	for (int i = 0; i < HIDING; i++) {
		self->sockets[i] = tcp_socket();
		ASSERT_EQ(bpf_map_update_elem(self->filler, &self->sockets[i],
					      ones, 0), 0);
	}
}

FIXTURE_TEARDOWN(hidden)
{
	for (int i = 0; i < HIDING; i++)
		close(self->sockets[i]);
	close(self->filler);
}

/*
 * How many sockets are not shown with this value.  Memory that was full of
 * ones before is used again for the dump.
 */
static int not_shown_as(FIXTURE_DATA(hidden) *self, int map, __u64 value)
{
	struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, &self->filler, 1);
	int wrong = 0;

	free(dump.data);
	dump = dump_storage(AF_INET, IPPROTO_TCP, &map, 1);
	for (int i = 0; i < HIDING; i++) {
		struct found found = find(&dump, self->sockets[i]);

		wrong += found.times != 1 || found.malformed || found.n != 1 ||
			 number_of_value(value_of(&found, id_of(map))) != value;
	}
	free(dump.data);
	return wrong;
}

TEST_F(hidden, locks_are_shown_as_zero)
{
	__u64 value = locked_value(0xffffffff, 5);
	int map = create_with_lock(BPF_MAP_TYPE_SK_STORAGE), wrong;

	for (int i = 0; i < HIDING; i++) {
		listen(self->sockets[i], 1);
		ASSERT_EQ(bpf_map_update_elem(map, &self->sockets[i], &value,
					      0), 0);
	}
	wrong = not_shown_as(self, map, locked_value(0, 5));
	close(map);
	if (is_stock() && wrong)
		SKIP(return, "the base leaves a lock's bytes as they were");
	EXPECT_EQ(wrong, 0);
}

/* Have a program put a pointer to a task into the values of sockets. */
static int set_pointers(const int *sockets, int n)
{
	struct refused *skel = refused__open();
	struct sockaddr_in6 addr;
	struct bpf_program *prog;
	struct bpf_link *link;
	int map = -1;

	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, prog == skel->progs.good_kptr);
	if (!refused__load(skel)) {
		link = bpf_program__attach_lsm(skel->progs.good_kptr);
		for (int i = 0; i < n; i++)
			bind_any(sockets[i], AF_INET, &addr);
		bpf_link__destroy(link);
		map = dup(bpf_map__fd(skel->maps.pointing));
	}
	refused__destroy(skel);
	return map;
}

TEST_F(hidden, pointers_are_shown_as_zero)
{
	int map, wrong;

	NEEDS_TRAMPOLINES();
	map = set_pointers(self->sockets, HIDING);
	ASSERT_GE(map, 0);
	for (int i = 0; i < HIDING; i++)
		listen(self->sockets[i], 1);
	wrong = not_shown_as(self, map, 0);
	close(map);
	if (is_stock() && wrong)
		SKIP(return, "the base leaves a pointer's bytes as they were");
	EXPECT_EQ(wrong, 0);
}

TEST_HARNESS_MAIN
