// SPDX-License-Identifier: GPL-2.0
#include "inet_diag.h"

struct nlattr *put(struct request *r, int type, const void *data, int len)
{
	struct nlattr *nla = (void *)r + r->nlh.nlmsg_len;

	nla->nla_type = type;
	nla->nla_len = NLA_HDRLEN + len;
	memcpy((void *)nla + NLA_HDRLEN, data, len);
	r->nlh.nlmsg_len += NLA_ALIGN(nla->nla_len);
	return nla;
}

struct nlattr *nest(struct request *r)
{
	return put(r, INET_DIAG_REQ_SK_BPF_STORAGES | NLA_F_NESTED, NULL, 0);
}

void end_nest(struct request *r, struct nlattr *nla)
{
	nla->nla_len = (void *)r + r->nlh.nlmsg_len - (void *)nla;
}

void ask(struct request *r, int family, int protocol)
{
	__u32 number = protocol;

	memset(r, 0, sizeof(*r));
	r->nlh.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	r->nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	r->nlh.nlmsg_len = NLMSG_LENGTH(sizeof(r->req));
	r->req.sdiag_family = family;
	r->req.sdiag_protocol = protocol > 255 ? IPPROTO_TCP : protocol;
	r->req.idiag_states = OPEN_STATES;
	if (protocol > 255)
		put(r, INET_DIAG_REQ_PROTOCOL, &number, sizeof(number));
}

void ask_storage(struct request *r, int family, int protocol, const int *maps,
		 int n)
{
	struct nlattr *nla;

	ask(r, family, protocol);
	nla = nest(r);
	for (int i = 0; i < n; i++)
		put(r, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &maps[i],
		    sizeof(maps[i]));
	end_nest(r, nla);
}

static void put_address(__be32 *to, __be16 *port,
			const struct sockaddr_in6 *addr)
{
	const struct sockaddr_in *v4 = (const void *)addr;

	*port = addr->sin6_port;
	if (addr->sin6_family == AF_INET6)
		memcpy(to, &addr->sin6_addr, 16);
	else
		memcpy(to, &v4->sin_addr, 4);
}

static __u32 mptcp_token(int fd)
{
	struct mptcp_info info = {};
	socklen_t len = sizeof(info);

	getsockopt(fd, MPTCP_LEVEL, MPTCP_INFO, &info, &len);
	return info.mptcpi_token;
}

void ask_one(struct request *r, int sk, const struct sockaddr_in6 *addr,
	     const struct sockaddr_in6 *peer)
{
	struct inet_diag_sockid *id = &r->req.id;
	__u8 protocol = r->req.sdiag_protocol;

	r->nlh.nlmsg_flags = NLM_F_REQUEST;
	id->idiag_cookie[0] = mptcp_token(sk) ?: INET_DIAG_NOCOOKIE;
	id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	/* A raw socket is looked up by its protocol, for which pad is. */
	if (protocol == IPPROTO_RAW)
		r->req.pad = IPPROTO_RAW;
	/* UDP looks for the destination. */
	if (protocol == IPPROTO_UDP) {
		put_address(id->idiag_dst, &id->idiag_dport, addr);
	} else {
		put_address(id->idiag_src, &id->idiag_sport, addr);
		put_address(id->idiag_dst, &id->idiag_dport, peer);
	}
}

int diag_socket(void)
{
	return socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
}

/*
 * Keep a datagram's messages.  1: more are to come, 0: it was the last, or the
 * negative errno that the kernel sent.
 */
static int keep(struct dump *dump, char *data, int len)
{
	struct nlmsghdr *nlh = (void *)data;

	for (; NLMSG_OK(nlh, len); nlh = NLMSG_NEXT(nlh, len)) {
		if (nlh->nlmsg_type == NLMSG_DONE)
			return *(int *)NLMSG_DATA(nlh);
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(nlh))->error;
		dump->data = realloc(dump->data,
				     dump->len + NLMSG_ALIGN(nlh->nlmsg_len));
		memcpy(dump->data + dump->len, nlh, nlh->nlmsg_len);
		dump->len += NLMSG_ALIGN(nlh->nlmsg_len);
		if (!(nlh->nlmsg_flags & NLM_F_MULTI))
			return 0;
	}
	return len ? -EBADMSG : 1;
}

void receive(int nl, struct dump *dump, int size)
{
	char *data = NULL;
	int len, i = 0;

	do {
		len = size ?: recv(nl, NULL, 0, MSG_PEEK | MSG_TRUNC);
		data = realloc(data, len + 1);
		len = recv(nl, data, len, MSG_TRUNC);
		if (len < 0)
			dump->err = -errno;
		else if (size && len > size)
			dump->err = -EMSGSIZE;
		else
			dump->err = keep(dump, data, len);
		if (++i > TOO_MANY)
			dump->err = -ELOOP;
	} while (dump->err > 0);
	free(data);
}

int send_request(int nl, const struct request *r)
{
	return send(nl, r, r->nlh.nlmsg_len, 0) < 0 ? -errno : 0;
}

struct dump run_on(int nl, const struct request *r, int size)
{
	struct dump dump = { .err = send_request(nl, r) };

	if (!dump.err)
		receive(nl, &dump, size);
	return dump;
}

struct dump run(const struct request *r)
{
	int nl = diag_socket();
	struct dump dump = run_on(nl, r, ROOMY);

	close(nl);
	return dump;
}

int outcome(const struct request *r)
{
	struct dump dump = run(r);

	free(dump.data);
	return dump.err;
}

struct dump dump_storage(int family, int protocol, const int *maps, int n)
{
	struct request r;

	ask_storage(&r, family, protocol, maps, n);
	return run(&r);
}

__u64 cookie_in(const struct nlmsghdr *nlh)
{
	const struct inet_diag_msg *msg = NLMSG_DATA(nlh);

	return msg->id.idiag_cookie[0] |
	       (__u64)msg->id.idiag_cookie[1] << 32;
}

/* False unless there is one id, and one value behind it, and no more. */
static bool take_value(struct value *value, const struct nlattr *one)
{
	int left, ids = 0, values = 0;
	const struct nlattr *nla;

	for_each_attr(nla, attr_data(one), attr_len(one), left) {
		switch (attr_type(nla)) {
		case SK_DIAG_BPF_STORAGE_MAP_ID:
			ids += attr_len(nla) == 4;
			value->id = *(__u32 *)attr_data(nla);
			break;
		case SK_DIAG_BPF_STORAGE_MAP_VALUE:
			values += ids;
			value->len = attr_len(nla);
			value->data = attr_data(nla);
			break;
		case SK_DIAG_BPF_STORAGE_PAD:
			break;
		default:
			return false;
		}
	}
	return ids == 1 && values == 1 && left <= 0;
}

static void take_values(struct found *found, const struct nlattr *storages)
{
	const struct nlattr *nla;
	int left;

	found->nests++;
	for_each_attr(nla, attr_data(storages), attr_len(storages), left) {
		if (attr_type(nla) != SK_DIAG_BPF_STORAGE ||
		    found->n == MAX_VALUES ||
		    !take_value(&found->values[found->n++], nla))
			found->malformed = true;
	}
	if (left > 0)
		found->malformed = true;
}

void take_message(struct found *found, const struct nlmsghdr *nlh)
{
	const struct inet_diag_msg *msg = NLMSG_DATA(nlh);
	const struct nlattr *nla;
	int left;

	found->times++;
	for_each_attr(nla, msg + 1, nlh->nlmsg_len - NLMSG_LENGTH(sizeof(*msg)),
		      left)
		if (attr_type(nla) == INET_DIAG_SK_BPF_STORAGES)
			take_values(found, nla);
	if (left > 0)
		found->malformed = true;
}

struct found find(const struct dump *dump, int fd)
{
	__u64 cookie = cookie_of(fd);
	struct found found = {};
	const struct nlmsghdr *nlh;
	size_t left;

	for_each_message(nlh, dump, left)
		if (cookie_in(nlh) == cookie)
			take_message(&found, nlh);
	return found;
}

int count_messages(const struct dump *dump)
{
	const struct nlmsghdr *nlh;
	size_t left;
	int n = 0;

	for_each_message(nlh, dump, left)
		n++;
	return n;
}

const struct value *value_of(const struct found *found, __u32 id)
{
	const struct value *value = NULL;

	for (int i = 0; i < found->n; i++) {
		if (found->values[i].id != id)
			continue;
		if (value)
			return NULL;
		value = &found->values[i];
	}
	return value;
}

__u64 number_of_value(const struct value *value)
{
	__u64 number = ~0ULL;

	if (value && value->len == sizeof(number))
		memcpy(&number, value->data, sizeof(number));
	return number;
}

bool gone(const __u32 *ids, int n)
{
	for (int i = 0; i < n; i++) {
		int fd = bpf_map_get_fd_by_id(ids[i]);

		if (fd >= 0)
			close(fd);
		if (fd != -ENOENT)
			return false;
	}
	return true;
}

void bind_any(int fd, int family, struct sockaddr_in6 *addr)
{
	struct sockaddr_in *v4 = (void *)addr;
	socklen_t len = sizeof(*addr);

	memset(addr, 0, len);
	addr->sin6_family = family;
	if (family == AF_INET6)
		addr->sin6_addr = in6addr_loopback;
	else
		v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(fd, (void *)addr, family == AF_INET6 ? len : sizeof(*v4));
	getsockname(fd, (void *)addr, &len);
}

int listener(int family, int protocol, struct sockaddr_in6 *addr)
{
	int fd = socket(family, SOCK_STREAM, protocol);

	bind_any(fd, family, addr);
	listen(fd, 8);
	return fd;
}

int type_of(const struct kind *kind)
{
	switch (kind->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_MPTCP:
		return SOCK_STREAM;
	case IPPROTO_UDP:
		return SOCK_DGRAM;
	default:
		return SOCK_RAW;
	}
}

int open_kind(const struct kind *kind, struct sockaddr_in6 *addr,
	      struct sockaddr_in6 *peer, int *server)
{
	int fd = socket(kind->family, type_of(kind), kind->protocol);

	*server = -1;
	bind_any(fd, kind->family, addr);
	if (kind->state == LISTENING)
		listen(fd, 8);
	if (kind->state != CONNECTED)
		return fd;
	*server = listener(kind->family, kind->protocol, peer);
	if (!connect(fd, (void *)peer, sizeof(*peer)))
		return fd;
	close(fd);
	return -1;
}

int tcp_listener(void)
{
	struct sockaddr_in6 addr;

	return listener(AF_INET, IPPROTO_TCP, &addr);
}

int network_err;

/*
 * A network of the tests' own, where nobody else's sockets are.  It is made
 * once, before the tests: where everything is checked, that takes seconds.
 */
static __attribute__((constructor)) void enter_network(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET)) {
		network_err = -errno;
		return;
	}
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (ioctl(fd, SIOCSIFFLAGS, &ifr))
		network_err = -errno;
	close(fd);
}
