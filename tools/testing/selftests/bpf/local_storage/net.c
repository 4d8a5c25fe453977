// SPDX-License-Identifier: GPL-2.0
#include "net.h"

int tcp_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

int socket_at_its_fd(void)
{
	int fd = tcp_socket(), sk = dup2(fd, SK_FD);

	close(fd);
	return sk;
}

__u32 optmem(int fd)
{
	__u32 info[SK_MEMINFO_VARS] = {};
	socklen_t len = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len))
		return ~0;
	return info[SK_MEMINFO_OPTMEM];
}

__u64 cookie_of(int fd)
{
	__u64 cookie = 0;
	socklen_t len = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

static int family_of(int fd)
{
	int family = AF_UNSPEC;
	socklen_t len = sizeof(family);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
	return family;
}

struct address local_address(int family)
{
	struct address local = { .addr.ss_family = family };
	struct sockaddr_in *in = (void *)&local.addr;

	switch (family) {
	case AF_INET:
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		local.len = sizeof(struct sockaddr_in);
		break;
	case AF_INET6:
		local.len = sizeof(struct sockaddr_in6);
		break;
	case AF_UNIX:
		local.len = sizeof(sa_family_t);
		break;
	}
	return local;
}

struct address address_of(int listener, int client_family)
{
	struct address bound = { .len = sizeof(bound.addr) };
	struct address to = local_address(client_family);
	struct sockaddr_in6 *in6 = (void *)&to.addr;

	getsockname(listener, (void *)&bound.addr, &bound.len);
	if (client_family == AF_UNIX)
		return bound;
	/* Ports are in the same place. */
	in6->sin6_port = ((struct sockaddr_in6 *)&bound.addr)->sin6_port;
	if (client_family == AF_INET6)
		in6->sin6_addr = in6addr_loopback;
	return to;
}

__u16 port_of(int fd)
{
	struct sockaddr_in6 addr = {};
	socklen_t len = sizeof(addr);

	getsockname(fd, (void *)&addr, &len);
	return ntohs(addr.sin6_port);
}

struct bpf_sock_tuple tuple_between(int from, int to)
{
	struct sockaddr_in a = { .sin_port = 1 }, b = {};
	socklen_t len = sizeof(a);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (from >= 0)
		getsockname(from, (void *)&a, &len);
	len = sizeof(b);
	getsockname(to, (void *)&b, &len);
	return (struct bpf_sock_tuple){ .ipv4 = {
		.saddr = a.sin_addr.s_addr, .sport = a.sin_port,
		.daddr = b.sin_addr.s_addr, .dport = b.sin_port,
	} };
}

int bind_locally(int fd)
{
	struct address local = local_address(family_of(fd));

	return bind(fd, (void *)&local.addr, local.len) ? -errno : 0;
}

int start_listening(int fd)
{
	int err = bind_locally(fd);

	if (err)
		return err;
	return listen(fd, 128) ? -errno : 0;
}

int connect_to(int fd, int listener)
{
	struct address to = address_of(listener, family_of(fd));

	return connect(fd, (void *)&to.addr, to.len) ? -errno : 0;
}

/* The socket if nothing went wrong with it. */
static int good(int fd, int err)
{
	if (err)
		close(fd);
	return err ?: fd;
}

int listen_on(int family, int protocol)
{
	int fd = socket(family, SOCK_STREAM, protocol);

	return fd < 0 ? -errno : good(fd, start_listening(fd));
}

int connect_new(int listener, int family, int protocol)
{
	int fd = socket(family, SOCK_STREAM, protocol);

	return fd < 0 ? -errno : good(fd, connect_to(fd, listener));
}

void reset(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}
