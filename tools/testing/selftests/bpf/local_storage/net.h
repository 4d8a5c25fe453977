/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets on the loopback device. */
#ifndef _NET_H
#define _NET_H

#include "common.h"
#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define OPTMEM_MAX	"/proc/sys/net/core/optmem_max"

struct address {
	struct sockaddr_storage addr;
	socklen_t len;
};

int tcp_socket(void);
/* At SK_FD, where programs look for it. */
int socket_at_its_fd(void);

/* Bytes of optmem that a socket is charged with. */
__u32 optmem(int fd);
__u64 cookie_of(int fd);

/* Any port of the loopback device; on IPv6 of all, which takes IPv4 as well. */
struct address local_address(int family);

/* Where a client of that family finds the listener. */
struct address address_of(int listener, int client_family);
__u16 port_of(int fd);

/*
 * The IPv4 addresses by which the socket of `to` finds packets of `from`, or of
 * anybody on the loopback device if that is none.
 */
struct bpf_sock_tuple tuple_between(int from, int to);

/* Bind a socket there, and listen; 0 or the negative errno. */
int bind_locally(int fd);
int start_listening(int fd);

/* Connect a socket to a listener; 0 or the negative errno. */
int connect_to(int fd, int listener);

/* A listener's fd, or the negative errno. */
int listen_on(int family, int protocol);

/* A client's fd, or the negative errno. */
int connect_new(int listener, int family, int protocol);

/* Close it so that nothing stays behind in TIME_WAIT. */
void reset(int fd);

#endif /* _NET_H */
