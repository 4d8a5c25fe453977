/* SPDX-License-Identifier: GPL-2.0 */
/* Asking sock_diag for the storage of sockets, and taking answers apart. */
#ifndef _INET_DIAG_H
#define _INET_DIAG_H

#include "net.h"
#include <linux/inet_diag.h>
#include <linux/mptcp.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#define MPTCP_LEVEL	284

/* Those of sockets that nobody has closed. */
#define OPEN_STATES	(1 << TCP_ESTABLISHED | 1 << TCP_CLOSE_WAIT |	\
			 1 << TCP_LISTEN | 1 << TCP_CLOSE |		\
			 1 << BOUND_INACTIVE)
#define BOUND_INACTIVE	13
#define MAX_VALUES	256
#define ROOMY		(4 << 20)

/* More than this many datagrams and a dump is taken to be endless. */
#define TOO_MANY	100000

struct request {
	struct nlmsghdr nlh;
	struct inet_diag_req_v2 req;
	char attrs[4096];
};

/* Messages, one after the other. */
struct dump {
	int err;
	char *data;
	size_t len;
};

struct value {
	__u32 id, len;
	const unsigned char *data;
};

/* What a dump says about one socket. */
struct found {
	int times, nests, n;
	bool malformed;
	struct value values[MAX_VALUES];
};

struct nlattr *put(struct request *r, int type, const void *data, int len);
struct nlattr *nest(struct request *r);
void end_nest(struct request *r, struct nlattr *nla);

/* Protocols that do not fit the request's byte have an attribute. */
void ask(struct request *r, int family, int protocol);

/* No maps are all maps. */
void ask_storage(struct request *r, int family, int protocol, const int *maps,
		 int n);

/*
 * Make a dump's request one for the socket of these addresses.  Where MPTCP
 * expects a token, TCP has a cookie, or none.
 */
void ask_one(struct request *r, int sk, const struct sockaddr_in6 *addr,
	     const struct sockaddr_in6 *peer);
int diag_socket(void);

/*
 * Read what is left of an answer.  A buffer of no size is made as large as
 * what there is to be read, datagram by datagram.
 */
void receive(int nl, struct dump *dump, int size);
int send_request(int nl, const struct request *r);
struct dump run_on(int nl, const struct request *r, int size);
struct dump run(const struct request *r);

/* What a request comes to where only that matters. */
int outcome(const struct request *r);
struct dump dump_storage(int family, int protocol, const int *maps, int n);

#define attr_data(nla)	((const void *)(nla) + NLA_HDRLEN)
#define attr_len(nla)	((int)(nla)->nla_len - NLA_HDRLEN)
#define attr_type(nla)	((nla)->nla_type & NLA_TYPE_MASK)

#define for_each_attr(nla, data, len, left)				\
	for (nla = (const void *)(data), left = (len);			\
	     left >= NLA_HDRLEN && nla->nla_len >= NLA_HDRLEN &&	\
	     nla->nla_len <= left;					\
	     left -= NLA_ALIGN(nla->nla_len),				\
	     nla = (const void *)nla + NLA_ALIGN(nla->nla_len))

#define for_each_message(nlh, dump, left)				\
	for (nlh = (const void *)(dump)->data, left = (dump)->len;	\
	     NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left))

__u64 cookie_in(const struct nlmsghdr *nlh);
/* Add what one message says. */
void take_message(struct found *found, const struct nlmsghdr *nlh);
struct found find(const struct dump *dump, int fd);
int count_messages(const struct dump *dump);

/* The value of a map; NULL if it is not there, or is there twice. */
const struct value *value_of(const struct found *found, __u32 id);
__u64 number_of_value(const struct value *value);

/* Nothing refers to any of the maps any more. */
bool gone(const __u32 *ids, int n);

/* To the loopback address; which it is, with the port, goes to addr. */
void bind_any(int fd, int family, struct sockaddr_in6 *addr);
int listener(int family, int protocol, struct sockaddr_in6 *addr);

enum state { BOUND, LISTENING, CONNECTED };

/* Where the kernel looks for a socket. */
struct kind {
	int family, protocol;
	enum state state;
};

int type_of(const struct kind *kind);

/* A socket, its address, that of its peer, and the listener in between. */
int open_kind(const struct kind *kind, struct sockaddr_in6 *addr,
	      struct sockaddr_in6 *peer, int *server);
int tcp_listener(void);

/* Why the tests have no network of their own; 0 if they have. */
extern int network_err;

#endif /* _INET_DIAG_H */
