// SPDX-License-Identifier: GPL-2.0
/*
 * Exchange data between two network namespaces over TCP and UDP, IPv4 and
 * IPv6, while BPF programs count what every socket does in socket storage.
 * Then read the counts back through the sockets' file descriptors and compare
 * them with what was really sent.  Listeners have a label, which the sockets
 * they accept inherit.  ss shows the same values.  Last, all of it once more, with
 * the values in the sockets, and what either way costs.
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

#ifndef BPF_F_STORAGE_RESERVED
#define BPF_F_STORAGE_RESERVED	0x20000000U
#endif

static const char * const server_address[] = { "10.7.0.1", "fd07::1" };

struct end {
	const char *role, *protocol;
	int fd;
	unsigned long long sent, received;
};

static struct end ends[2 * 2 * (CONNECTIONS + 1)];
static int nr_ends;

/* What counting costs. */
struct cost {
	unsigned long long packets;
	unsigned long long instructions;	/* of both programs */
	long bytes;			/* that the values take */
};

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

/* Bytes that a map takes, its values included. */
static long memory_of(const struct bpf_map *map)
{
	char path[64], line[128];
	long bytes = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", bpf_map__fd(map));
	f = fopen(path, "r");
	if (!f)
		die(path);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "memlock: %ld", &bytes);
	fclose(f);
	return bytes;
}

static long memory(const struct sockstat *skel)
{
	return memory_of(skel->maps.sockets) + memory_of(skel->maps.labels);
}

static void add_runs(const struct bpf_program *prog, struct cost *cost)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (bpf_prog_get_info_by_fd(bpf_program__fd(prog), &info, &len))
		die("asking how long a program took");
	cost->packets += info.run_cnt;
	/* The machine that the demo boots takes one nanosecond for each. */
	cost->instructions += info.run_time_ns;
}

static struct sockstat *load(__u32 flags)
{
	struct sockstat *skel = sockstat__open();

	if (!skel)
		die("opening the programs");
	bpf_map__set_map_flags(skel->maps.sockets,
			       bpf_map__map_flags(skel->maps.sockets) | flags);
	bpf_map__set_map_flags(skel->maps.labels,
			       bpf_map__map_flags(skel->maps.labels) | flags);
	if (sockstat__load(skel))
		die("loading the programs");
	return skel;
}

static void attach(struct sockstat *skel)
{
	int cgroup = open("/sys/fs/cgroup", O_RDONLY);

	skel->links.on_ingress =
		bpf_program__attach_cgroup(skel->progs.on_ingress, cgroup);
	skel->links.on_egress =
		bpf_program__attach_cgroup(skel->progs.on_egress, cgroup);
	skel->links.on_sockops =
		bpf_program__attach_cgroup(skel->progs.on_sockops, cgroup);
	if (!skel->links.on_ingress || !skel->links.on_egress ||
	    !skel->links.on_sockops)
		die("attaching the programs");
	close(cgroup);
}

static void close_ends(void)
{
	while (nr_ends)
		close(ends[--nr_ends].fd);
}

/* Exchange data, with maps with these flags; 0 if all is as it should be. */
static int run(__u32 flags, struct cost *cost)
{
	struct sockstat *skel = load(flags);
	int labels = bpf_map__fd(skel->maps.labels), wrong;
	long empty = memory(skel);

	attach(skel);
	for (int v6 = 0; v6 < 2; v6++) {
		printf("   exchanging data over TCP/IPv%d and UDP/IPv%d%s\n",
		       v6 ? 6 : 4, v6 ? 6 : 4,
		       flags ? ", values in the sockets" : "");
		talk_tcp(v6, labels);
		talk_udp(v6);
	}
	add_runs(skel->progs.on_ingress, cost);
	add_runs(skel->progs.on_egress, cost);
	cost->bytes = memory(skel) - empty;
	wrong = report(bpf_map__fd(skel->maps.sockets), labels);
	if (!wrong && !flags)
		wrong = show_with_ss("server");
	close_ends();
	sockstat__destroy(skel);
	return wrong;
}

static void show_cost(const char *where, const struct cost *cost)
{
	printf("%-20s %8llu %24llu %24ld\n", where, cost->packets,
	       cost->instructions / cost->packets, cost->bytes);
}

int main(void)
{
	struct cost beside = {}, inside = {};

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (bpf_enable_stats(BPF_STATS_RUN_TIME) < 0)
		die("switching the programs' statistics on");
	if (run(0, &beside) || run(BPF_F_STORAGE_RESERVED, &inside))
		return 1;
	printf("\n%-20s %8s %24s %24s\n", "values", "packets",
	       "instructions per packet", "bytes beside the sockets");
	show_cost("beside the sockets", &beside);
	show_cost("in the sockets", &inside);
	printf("What memory accesses cost, make bench measures.\n");
	return 0;
}
