// SPDX-License-Identifier: GPL-2.0
/* Requests for the storage of sockets, as they should and should not be. */
#include "harness.h"
#include "inet_diag.h"
#include "fuzz.h"

#define MAPS		6
#define LARGEST		65407
#define REQUEST		(192 << 10)
#define BUFFER		(4 << 20)
#define NO_ANSWER	(-EAGAIN)
#define STALLED		(-ETIMEDOUT)
#define UNKNOWN		1	/* what is left has not been read */

static const struct kind kinds[] = {
	{ AF_INET, IPPROTO_TCP, BOUND }, { AF_INET, IPPROTO_TCP, LISTENING },
	{ AF_INET, IPPROTO_TCP, CONNECTED }, { AF_INET6, IPPROTO_TCP, BOUND },
	{ AF_INET6, IPPROTO_TCP, LISTENING },
	{ AF_INET6, IPPROTO_TCP, CONNECTED },
	{ AF_INET, IPPROTO_UDP, BOUND }, { AF_INET, IPPROTO_UDP, BOUND },
	{ AF_INET6, IPPROTO_UDP, BOUND }, { AF_INET, IPPROTO_RAW, BOUND },
	{ AF_INET6, IPPROTO_RAW, BOUND },
	{ AF_INET, IPPROTO_MPTCP, LISTENING },
	{ AF_INET, IPPROTO_MPTCP, CONNECTED },
	{ AF_INET6, IPPROTO_MPTCP, CONNECTED },
};

#define SOCKETS	ARRAY_SIZE(kinds)

static const __u32 sizes[MAPS] = { 8, 1, 24, 300, 5000, LARGEST };

struct content {
	bool there, changed;
	__u64 number;
};

struct socket {
	int fd, server;
	__u64 cookie;
	struct sockaddr_in6 addr, peer;
	struct content of[MAPS];
};

FIXTURE(requests) {
	struct socket sockets[SOCKETS];
	int maps[MAPS], others[5], objects;
	__u32 ids[MAPS];
	char *value, *request, *buffer;
	bool privileged;
	bool disturbed, changed;	/* in this case */
};

#define TESTED	FIXTURE_DATA(requests)

/* The base lets lengths overflow, and warns of what does not fit. */
static __u32 size_of(int map)
{
	return sizes[map] > 1000 && is_stock() ? 1000 : sizes[map];
}

static void open_socket(struct socket *socket, int i)
{
	*socket = (struct socket){};
	socket->fd = open_kind(&kinds[i], &socket->addr, &socket->peer,
			       &socket->server);
	socket->cookie = cookie_of(socket->fd);
}

static void close_socket(struct socket *socket)
{
	reset(socket->fd);
	close(socket->server);
}

static int open_map(TESTED *self, int i)
{
	self->maps[i] = create_with(size_of(i), 0);
	self->ids[i] = id_of(self->maps[i]);
	return self->maps[i];
}

/* Give a socket a value, another one, or none. */
static void change_value(TESTED *self)
{
	int i = below(SOCKETS), map = below(MAPS);
	struct socket *socket = &self->sockets[i];
	struct content *content = &socket->of[map];
	__u64 number = any();
	int err;

	content->changed = true;
	self->changed = true;
	if (one_in(3)) {
		delete(self->maps[map], socket->fd);
		content->there = false;
		return;
	}
	fill(self->value, size_of(map), number);
	err = PATIENTLY(bpf_map_update_elem(self->maps[map], &socket->fd,
					    self->value, BPF_ANY));
	if (err)
		complain("updating map %d of socket %d: %d", map, i, err);
	content->there = true;
	content->number = number;
}

static void renew_socket(TESTED *self)
{
	int i = below(SOCKETS);

	/* Without rights, there is no other. */
	if (kinds[i].protocol == IPPROTO_RAW && !self->privileged)
		return;
	self->disturbed = true;
	close_socket(&self->sockets[i]);
	open_socket(&self->sockets[i], i);
}

static void renew_map(TESTED *self)
{
	int map = below(MAPS);

	if (!self->privileged)
		return;
	self->disturbed = true;
	close(self->maps[map]);
	if (open_map(self, map) < 0)
		complain("creating map %d: %d", map, self->maps[map]);
	for (int i = 0; i < SOCKETS; i++)
		self->sockets[i].of[map].there = false;
}

static void disturb(TESTED *self)
{
	int what = below(64);

	if (what < 40)
		change_value(self);
	else if (what < 63)
		renew_socket(self);
	else
		renew_map(self);
}

FIXTURE_VARIANT(requests) {
	bool in_user_namespace;
};

FIXTURE_VARIANT_ADD(requests, as_root) { false };
FIXTURE_VARIANT_ADD(requests, in_a_user_namespace) { true };

FIXTURE_SETUP(requests)
{
	struct btf *btf = types_for(8);

	ASSERT_EQ(network_err, 0);
	ASSERT_EQ(write_file(OPTMEM_MAX, "1000000000"), 0);
	self->objects = count_objects();
	self->value = malloc(LARGEST);
	self->request = calloc(1, REQUEST);
	self->buffer = malloc(BUFFER);
	self->others[0] = bpf_map_create(BPF_MAP_TYPE_HASH, "hash", 4, 8, 1,
					 NULL);
	self->others[1] = create_kind(BPF_MAP_TYPE_TASK_STORAGE, 8, 0);
	self->others[2] = dup(spec_for(btf, 8).btf_fd);
	self->others[3] = open("/dev/null", O_RDONLY);
	self->others[4] = tcp_socket();
	btf__free(btf);
	for (int i = 0; i < MAPS; i++)
		ASSERT_GE(open_map(self, i), 0);
	for (int i = 0; i < SOCKETS; i++) {
		open_socket(&self->sockets[i], i);
		ASSERT_GE(self->sockets[i].fd, 0);
	}
	fuzz_start(2000);
	fuzz_next();
	self->privileged = true;
	for (int i = 0; i < 40; i++)
		change_value(self);
}

FIXTURE_TEARDOWN(requests)
{
	for (int i = 0; i < SOCKETS; i++)
		close_socket(&self->sockets[i]);
}

/* What is being asked, and what is wrong with it. */
struct question {
	struct nlmsghdr *nlh;
	int family, protocol;
	unsigned int maps;	/* a bit for each one asked for */
	bool single, compat, wild, asks_storage;
	int socket;		/* the only one asked for */
	struct errors errors;
};

static struct nlattr *add(struct question *q, int type, const void *data,
			  int len)
{
	struct nlattr *nla = (void *)q->nlh + q->nlh->nlmsg_len;

	if (q->nlh->nlmsg_len + len > REQUEST - 1024)
		return nla;
	nla->nla_type = type;
	nla->nla_len = NLA_HDRLEN + len;
	if (len)
		memcpy((void *)nla + NLA_HDRLEN, data, len);
	q->nlh->nlmsg_len += NLA_ALIGN(nla->nla_len);
	return nla;
}

static void add_map(TESTED *self, struct question *q)
{
	int map = below(MAPS), fd = self->maps[map];

	if (q->maps & 1 << map)
		may_fail(&q->errors, -EEXIST);
	q->maps |= 1 << map;
	add(q, SK_DIAG_BPF_STORAGE_REQ_MAP_FD |
	       (one_in(8) ? NLA_F_NESTED : 0), &fd, sizeof(fd));
}

static void add_wrong_fd(TESTED *self, struct question *q)
{
	static const int none[] = { -1, 12345, 0x7fffffff, -0x7fffffff };
	int i = below(ARRAY_SIZE(self->others)), fd = self->others[i];

	if (one_in(2)) {
		fd = none[below(ARRAY_SIZE(none))];
		may_fail(&q->errors, -EBADF);
	} else {
		may_fail(&q->errors, -EINVAL);
	}
	add(q, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &fd, sizeof(fd));
}

/* An attribute of the nest that is not just a map of sockets. */
static void add_wrong(TESTED *self, struct question *q)
{
	char bytes[300];
	/* Of 14 bits, and not that of a map. */
	int len = below(sizeof(bytes)), type = 2 + below(0x3ffe);

	any_bytes(bytes, sizeof(bytes));
	switch (below(4)) {
	case 0:
		add_wrong_fd(self, q);
		return;
	case 1:
		if (len == 4)
			len = 8;
		memcpy(bytes, &self->maps[below(MAPS)], 4);
		add(q, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, bytes, len);
		may_fail(&q->errors, -EINVAL);
		return;
	case 2:
		/* Others are passed over. */
		add(q, type, bytes, len);
		return;
	default:
		for (int i = below(4); i; i--)
			add_map(self, q);
		return;
	}
}

/* The last nest counts; a request without one asks for nothing. */
static void add_nest(TESTED *self, struct question *q)
{
	int n = one_in(64) ? below(2000) : below(5);
	struct nlattr *nla;

	q->maps = 0;
	q->errors.n = 0;
	q->asks_storage = true;
	if (!self->privileged)
		may_fail(&q->errors, -EPERM);
	nla = add(q, INET_DIAG_REQ_SK_BPF_STORAGES |
		     (one_in(4) ? 0 : NLA_F_NESTED), NULL, 0);
	while (n-- && (void *)q->nlh + q->nlh->nlmsg_len - (void *)nla < 65000)
		if (one_in(12))
			add_wrong(self, q);
		else if (n > 5)
			add(q, 77, &n, sizeof(n));
		else
			add_map(self, q);
	nla->nla_len = (void *)q->nlh + q->nlh->nlmsg_len - (void *)nla;
}

static void begin_dump(struct question *q)
{
	const struct kind *kind = &kinds[below(SOCKETS)];
	struct request r;

	q->family = kind->family;
	q->protocol = kind->protocol;
	ask(&r, q->family, q->protocol);
	memcpy(q->nlh, &r, r.nlh.nlmsg_len);
}

static void begin_single(TESTED *self, struct question *q)
{
	int i = below(SOCKETS);
	struct socket *socket = &self->sockets[i];
	struct request r;

	q->single = true;
	q->socket = i;
	ask(&r, kinds[i].family, kinds[i].protocol);
	ask_one(&r, socket->fd, &socket->addr, &socket->peer);
	memcpy(q->nlh, &r, r.nlh.nlmsg_len);
}

static void begin_old(struct question *q)
{
	struct inet_diag_req old = { .idiag_states = OPEN_STATES };

	q->compat = true;
	q->nlh->nlmsg_type = TCPDIAG_GETSOCK;
	q->nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	q->nlh->nlmsg_len = NLMSG_LENGTH(sizeof(old));
	memcpy(NLMSG_DATA(q->nlh), &old, sizeof(old));
}

/* Now nobody can say what the kernel makes of it. */
static void spoil(struct question *q)
{
	char *bytes = (void *)q->nlh;
	__u32 len = q->nlh->nlmsg_len;
	size_t header = sizeof(*q->nlh) + sizeof(struct inet_diag_req_v2);

	q->wild = true;
	for (int n = 1 + below(4); n--;)
		switch (below(8)) {
		case 0:
			bytes[below(len)] ^= 1 << below(8);
			break;
		case 1:
			bytes[below(len)] = odd_number();
			break;
		case 2:
			q->nlh->nlmsg_len = odd_number();
			break;
		case 3:
			q->nlh->nlmsg_len = below(len + 16);
			break;
		case 4:
			q->nlh->nlmsg_flags = odd_number();
			break;
		case 5:
			q->nlh->nlmsg_type = TCPDIAG_GETSOCK + below(6);
			break;
		case 6:
			if (len > header)
				any_bytes(bytes + header,
					  below(len - header));
			break;
		default:
			if (len >= header + 4)
				*(__u16 *)(bytes + header) = odd_number();
			break;
		}
	/* Anything else is passed over, whatever it holds. */
	q->nlh->nlmsg_flags |= NLM_F_REQUEST;
}

static void ask_something(TESTED *self, struct question *q)
{
	int what = below(16);

	*q = (struct question){ .nlh = (void *)self->request };
	memset(self->request, 0, 4096);
	if (what < 9)
		begin_dump(q);
	else if (what < 14)
		begin_single(self, q);
	else
		begin_old(q);
	for (int n = one_in(8) ? below(4) : 1; n; n--)
		add_nest(self, q);
	if (one_in(16))
		add(q, INET_DIAG_REQ_BYTECODE, self->value, below(40)),
		q->wild = true;
}

/* Answers */

static int socket_of(const TESTED *self, __u64 cookie)
{
	int i = 0;

	while (i < SOCKETS && self->sockets[i].cookie != cookie)
		i++;
	return i;
}

static void check_value(TESTED *self, const struct question *q,
			struct socket *socket, const struct value *value)
{
	const struct content *content;
	int map = 0;

	while (map < MAPS && self->ids[map] != value->id)
		map++;
	if (map == MAPS || self->disturbed)
		return;
	content = &socket->of[map];
	if (q->maps && !(q->maps & 1 << map) && !q->wild)
		complain("a map that was not asked for: %d", map);
	if (content->changed)
		return;
	fill(self->value, size_of(map), content->number);
	if (!content->there || value->len != size_of(map) ||
	    memcmp(self->value, value->data, value->len))
		complain("a wrong value of map %d, %u bytes, %s", map,
			 value->len, content->there ? "there" : "not there");
}

static void check_message(TESTED *self, const struct question *q,
			  const struct nlmsghdr *nlh, int *values)
{
	static struct found found;
	int i = socket_of(self, cookie_in(nlh));

	if (nlh->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
		return;
	memset(&found, 0, sizeof(found));
	take_message(&found, nlh);
	if (found.malformed)
		complain("a malformed answer");
	if (found.n && !q->asks_storage && !q->wild)
		complain("values that were not asked for");
	if (i == SOCKETS)
		return;
	values[i] += found.n;
	for (int n = 0; n < found.n; n++)
		check_value(self, q, &self->sockets[i], &found.values[n]);
}

static int values_wanted(const struct socket *socket, unsigned int maps)
{
	int n = 0;

	for (int map = 0; map < MAPS; map++)
		if (socket->of[map].there && (!maps || maps & 1 << map))
			n++;
	return n;
}

static bool is_asked_for(const struct question *q, int i)
{
	if (q->single)
		return q->socket == i;
	return kinds[i].family == q->family && kinds[i].protocol == q->protocol;
}

static void check_all(TESTED *self, const struct question *q,
		      const int *values)
{
	for (int i = 0; i < SOCKETS; i++) {
		const struct socket *socket = &self->sockets[i];
		int wanted = 0;

		if (!is_asked_for(q, i))
			continue;
		if (q->asks_storage)
			wanted = values_wanted(socket, q->maps);
		if (values[i] != wanted)
			complain("socket %d has %d values in the answer, not %d",
				 i, values[i], wanted);
	}
}

/* A datagram: 1 if more are to come, 0 after the last, or an error. */
static int take(TESTED *self, const struct question *q, int len, int *values)
{
	struct nlmsghdr *nlh = (void *)self->buffer;

	for (; NLMSG_OK(nlh, len); nlh = NLMSG_NEXT(nlh, len)) {
		if (nlh->nlmsg_type == NLMSG_DONE)
			return *(int *)NLMSG_DATA(nlh);
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(nlh))->error;
		check_message(self, q, nlh, values);
		if (!(nlh->nlmsg_flags & NLM_F_MULTI))
			return 0;
	}
	return 1;
}

/* The kernel answers before send() returns, and goes on whenever it is read. */
static int receive_some(TESTED *self, const struct question *q, int nl,
			int *values)
{
	int most = one_in(8) ? below(4) : TOO_MANY, err = 1, len, room;
	bool disturbing = one_in(4), small = one_in(4), cut = false;

	for (int i = 0; i < most && err > 0; i++) {
		room = small ? below(16384) : BUFFER;
		len = recv(nl, self->buffer, room, MSG_DONTWAIT | MSG_TRUNC);
		if (len < 0 && errno == ENOBUFS)
			continue;
		if (len < 0 && errno == EAGAIN)
			return cut ? UNKNOWN : i ? STALLED : NO_ANSWER;
		if (len < 0)
			return -errno;
		if (len > room)
			cut = true;
		else
			err = take(self, q, len, values);
		if (disturbing)
			disturb(self);
	}
	return cut ? UNKNOWN : err;
}

static bool is_expected_of_wild(int err)
{
	switch (err) {
	case 0:
	case NO_ANSWER:
	case -EPERM:
	case -ENOENT:
	case -EBADF:
	case -EEXIST:
	case -EINVAL:
	case -ENODATA:
	case -EOPNOTSUPP:
	case -ESTALE:
	case -EPROTONOSUPPORT:
		return true;
	default:
		return false;
	}
}

static void ask_and_check(TESTED *self)
{
	int values[SOCKETS] = {}, rcvbuf, err, nl = diag_socket();
	struct question q;
	size_t len;

	ask_something(self, &q);
	len = q.nlh->nlmsg_len;
	if (one_in(3))
		spoil(&q);
	fuzz_bytes(q.nlh, len);
	if (one_in(4)) {
		rcvbuf = 1 << below(22);
		setsockopt(nl, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	}
	/* A message may end before its attributes do. */
	if (one_in(32)) {
		q.wild = true;
		len = below(len);
	}
	if (send(nl, q.nlh, len, 0) < 0)
		err = -errno;
	else
		err = receive_some(self, &q, nl, values);
	close(nl);
	if (err == UNKNOWN)
		return;
	if (q.wild) {
		if (!is_expected_of_wild(err))
			complain("a spoilt request: %d", err);
		return;
	}
	/* The base does not look at the nest then. */
	if (q.single && (err == -ENOENT || (!err && is_stock())))
		return;
	expect_result(&q.errors, err, q.single ? "one socket" :
		      q.compat ? "old dump" : "dump");
	if (!err && !q.compat && !self->disturbed && !self->changed &&
	    !is_stock())
		check_all(self, &q, values);
}

static bool is_uncharged(const TESTED *self)
{
	for (int i = 0; i < SOCKETS; i++)
		if (optmem(self->sockets[i].fd))
			return false;
	return true;
}

TEST_F_TIMEOUT(requests, are_answered_with_what_there_is_or_refused, GUARD)
{
	if (variant->in_user_namespace) {
		if (!has_user_namespaces())
			SKIP(return, "this kernel has no user namespaces");
		ASSERT_EQ(enter_user_namespace(), 0);
		self->privileged = false;
	}
	do {
		self->disturbed = false;
		self->changed = false;
		for (int i = 0; i < SOCKETS; i++)
			for (int map = 0; map < MAPS; map++)
				self->sockets[i].of[map].changed = false;
		ask_and_check(self);
		if (one_in(2))
			disturb(self);
	} while (fuzz_next());
	fuzz_report(self->privileged ? "requests" :
				       "requests, in a user namespace");
	EXPECT_EQ(fuzz_failures(), 0);
	for (int i = 0; i < MAPS; i++)
		close(self->maps[i]);
	EXPECT_TRUE(EVENTUALLY(is_uncharged(self)));
	if (self->privileged)
		EXPECT_TRUE(EVENTUALLY(count_objects() == self->objects + 2));
}

TEST_HARNESS_MAIN
