// SPDX-License-Identifier: GPL-2.0
/*
 * Exchange data between two network namespaces over TCP and UDP, IPv4 and
 * IPv6, while BPF programs count what every socket does in socket storage.
 * Then read the counts back through the sockets' file descriptors and compare
 * them with what was really sent.  Listeners have a label, which the sockets
 * they accept inherit.  Last, ss shows the same values.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "progs/shared.h"
#include "sockstat.skel.h"

#define CONNECTIONS	3		/* TCP, per family */
#define UPLOAD		1048576	/* bytes, client to server */
#define DOWNLOAD	524288	/* bytes, back */
#define DATAGRAMS	400		/* each is echoed */
#define DATAGRAM	1200		/* bytes */
#define SERVICE		7000		/* what TCP listeners are labelled */

static const char * const server_address[] = { "10.7.0.1", "fd07::1" };

struct end {
	const char *role, *protocol;
	int fd;
	unsigned long long sent, received;
};

static struct end ends[2 * 2 * (CONNECTIONS + 1)];
static int nr_ends;

static void die(const char *what)
{
	fprintf(stderr, "demo: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void enter(const char *namespace)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	fd = open(path, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(path);
	close(fd);
}

static socklen_t address(int v6, const char *text, int port,
			 struct sockaddr_storage *addr)
{
	struct sockaddr_in6 *six = (void *)addr;
	struct sockaddr_in *four = (void *)addr;

	memset(addr, 0, sizeof(*addr));
	if (v6) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		inet_pton(AF_INET6, text, &six->sin6_addr);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	inet_pton(AF_INET, text, &four->sin_addr);
	return sizeof(*four);
}

static struct end *add_end(const char *role, const char *protocol, int fd)
{
	struct end *end = &ends[nr_ends++];

	*end = (struct end){ role, protocol, fd, 0, 0 };
	return end;
}

static int server_socket(int v6, int type, int port)
{
	struct sockaddr_storage addr;
	socklen_t len = address(v6, server_address[v6], port, &addr);
	int fd;

	enter("server");
	fd = socket(v6 ? AF_INET6 : AF_INET, type, 0);
	if (fd < 0 || bind(fd, (void *)&addr, len))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 16))
		die("listen");
	return fd;
}

static int client_socket(int v6, int type, int port)
{
	struct sockaddr_storage addr;
	socklen_t len = address(v6, server_address[v6], port, &addr);
	int fd;

	enter("client");
	fd = socket(v6 ? AF_INET6 : AF_INET, type, 0);
	if (fd < 0 || connect(fd, (void *)&addr, len))
		die("connect");
	return fd;
}

/* Send size bytes from one end to the other, both in this thread. */
static void transfer(struct end *from, struct end *to, size_t size)
{
	static char data[65536];
	size_t sent = 0, received = 0;

	while (received < size) {
		struct pollfd fds[] = {
			{ .fd = from->fd, .events = sent < size ? POLLOUT : 0 },
			{ .fd = to->fd, .events = POLLIN },
		};
		ssize_t n;

		if (poll(fds, 2, 30000) <= 0)
			die("no progress");
		if (fds[0].revents & POLLOUT) {
			n = size - sent;
			n = send(from->fd, data,
				 n < sizeof(data) ? n : sizeof(data),
				 MSG_DONTWAIT);
			if (n < 0 && errno != EAGAIN)
				die("send");
			sent += n > 0 ? n : 0;
		}
		if (fds[1].revents & POLLIN) {
			n = recv(to->fd, data, sizeof(data), MSG_DONTWAIT);
			if (n <= 0)
				die("recv");
			received += n;
		}
	}
	from->sent += sent;
	to->received += received;
}

static void talk_tcp(int v6, int labels)
{
	int listener = server_socket(v6, SOCK_STREAM, 7000);
	const struct label label = { SERVICE, v6 ? 6 : 4 };
	const char *name = v6 ? "TCP/IPv6" : "TCP/IPv4";

	if (bpf_map_update_elem(labels, &listener, &label, BPF_NOEXIST))
		die("labelling a listener");
	for (int i = 0; i < CONNECTIONS; i++) {
		struct end *client, *server;

		client = add_end("client", name,
				 client_socket(v6, SOCK_STREAM, 7000));
		server = add_end("server", name, accept(listener, NULL, NULL));
		if (server->fd < 0)
			die("accept");
		transfer(client, server, UPLOAD);
		transfer(server, client, DOWNLOAD);
		shutdown(client->fd, SHUT_WR);
	}
	close(listener);
}

static void talk_udp(int v6)
{
	const char *name = v6 ? "UDP/IPv6" : "UDP/IPv4";
	struct end *client, *server;
	char data[DATAGRAM] = {};

	server = add_end("server", name, server_socket(v6, SOCK_DGRAM, 7001));
	client = add_end("client", name, client_socket(v6, SOCK_DGRAM, 7001));
	for (int i = 0; i < DATAGRAMS; i++) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);

		if (send(client->fd, data, DATAGRAM, 0) != DATAGRAM ||
		    recvfrom(server->fd, data, DATAGRAM, 0, (void *)&from,
			     &len) != DATAGRAM ||
		    sendto(server->fd, data, DATAGRAM, 0, (void *)&from,
			   len) != DATAGRAM ||
		    recv(client->fd, data, DATAGRAM, 0) != DATAGRAM)
			die("datagram");
		client->sent += DATAGRAM;
		server->received += DATAGRAM;
		server->sent += DATAGRAM;
		client->received += DATAGRAM;
	}
}

/* Bytes that TCP had to send again, and so the programs counted again. */
static unsigned long long retransmitted(const struct end *end)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	if (end->protocol[0] != 'T' ||
	    getsockopt(end->fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return 0;
	return info.tcpi_bytes_retrans;
}

static int show(int map, const struct end *end)
{
	struct stats stats;
	int right;

	if (bpf_map_lookup_elem(map, &end->fd, &stats))
		die("a socket without counts");
	/* Received twice is possible, when something was sent twice. */
	right = stats.out.payload == end->sent + retransmitted(end) &&
		stats.in.payload >= end->received;
	printf("%4d  %-6s  %-8s %7llu %9llu %9llu  %7llu %9llu %9llu %7u %6u  %s\n",
	       end->fd, end->role, end->protocol,
	       stats.out.packets, stats.out.bytes, stats.out.payload,
	       stats.in.packets, stats.in.bytes, stats.in.payload,
	       stats.rtt_us, stats.state_changes,
	       right ? "as sent" : "WRONG");
	if (!right)
		printf("      sent %llu, sent again %llu, received %llu\n",
		       end->sent, retransmitted(end), end->received);
	return right;
}

/* Whether a label is where it should be: on what a listener accepted. */
static int is_labelled_right(int labels, const struct end *end)
{
	int accepted = end->protocol[0] == 'T' && end->role[0] == 's';
	struct label label;

	if (bpf_map_lookup_elem(labels, &end->fd, &label))
		return !accepted;
	return accepted && label.service == SERVICE &&
	       label.version == end->protocol[7] - '0';
}

/* The same values for whoever only has ss. */
static int show_with_ss(const char *namespace)
{
	char command[128];

	printf("The sockets in %s's network namespace:\n", namespace);
	fflush(stdout);
	snprintf(command, sizeof(command),
		 "ip netns exec %s ss -Htun --bpf-maps", namespace);
	return system(command);
}

static int report(int map, int labels)
{
	unsigned long long total = 0;
	int wrong = 0, unlabelled = 0;

	printf("\n%51s%28s%14s%7s\n", "-------- out --------",
	       "--------- in --------", "RTT", "TCP");
	printf("%4s  %-6s  %-8s %7s %9s %9s  %7s %9s %9s %7s %6s\n", "fd",
	       "end", "protocol", "packets", "bytes", "payload", "packets",
	       "bytes", "payload", "us", "states");
	for (int i = 0; i < nr_ends; i++) {
		wrong += !show(map, &ends[i]);
		unlabelled += !is_labelled_right(labels, &ends[i]);
		total += ends[i].sent;
	}
	printf("\n%d sockets, %.1f MiB sent; %s; %s\n\n", nr_ends,
	       total / 1048576.0,
	       wrong ? "COUNTS DIFFER FROM WHAT WAS SENT"
		     : "every count is what was really sent",
	       unlabelled ? "LABELS ARE WRONG"
			  : "accepted sockets have their listener's label");
	return wrong + unlabelled;
}

int main(void)
{
	struct bpf_link *links[3];
	struct sockstat *skel;
	int cgroup, labels;

	setvbuf(stdout, NULL, _IOLBF, 0);
	skel = sockstat__open_and_load();
	if (!skel)
		die("loading the programs");
	cgroup = open("/sys/fs/cgroup", O_RDONLY);
	links[0] = bpf_program__attach_cgroup(skel->progs.on_ingress, cgroup);
	links[1] = bpf_program__attach_cgroup(skel->progs.on_egress, cgroup);
	links[2] = bpf_program__attach_cgroup(skel->progs.on_sockops, cgroup);
	if (!links[0] || !links[1] || !links[2])
		die("attaching the programs");

	labels = bpf_map__fd(skel->maps.labels);
	for (int v6 = 0; v6 < 2; v6++) {
		printf("   exchanging data over TCP/IPv%d and UDP/IPv%d\n",
		       v6 ? 6 : 4, v6 ? 6 : 4);
		talk_tcp(v6, labels);
		talk_udp(v6);
	}
	if (report(bpf_map__fd(skel->maps.sockets), labels))
		return 1;
	return show_with_ss("server") ? 1 : 0;
}
