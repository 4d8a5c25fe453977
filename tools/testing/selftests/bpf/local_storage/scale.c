// SPDX-License-Identifier: GPL-2.0
/*
 * What local storage costs where there is much of it: as many sockets as SOCKETS
 * in the environment says, each with a value.  For a machine that counts
 * instructions, as cost.c; figures are per socket, and are not to grow with the
 * number of sockets.  bench/run --scale compares.
 */
#include "harness.h"
#include "figure.h"
#include "inet_diag.h"
#include "scale.skel.h"
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#define FEW_SOCKETS	2000
/* Sockets that share an address, and the first of their ports. */
#define PORTS		16
#define FIRST_PORT	2000
#define LOOPBACK_NET	0x7f010000
/* How often the one who measures latency wants to run. */
#define PERIOD		100000LL
#define SECOND		1000000000LL

static int nr_sockets(void)
{
	const char *text = getenv("SOCKETS");

	return text ? atoi(text) : FEW_SOCKETS;
}

/* What has happened since, for each of the sockets. */
static double each(long long since)
{
	return (double)(now() - since) / nr_sockets();
}

static int allow_sockets(int nr)
{
	struct rlimit limit = { nr + 1000, nr + 1000 };
	char text[16];

	snprintf(text, sizeof(text), "%d", nr + 2000);
	return write_file("/proc/sys/fs/nr_open", text) ?:
	       setrlimit(RLIMIT_NOFILE, &limit);
}

/* A listener with an address that no other has. */
static int listener_number(int i)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(FIRST_PORT + i % PORTS),
		.sin_addr.s_addr = htonl(LOOPBACK_NET + i / PORTS),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (void *)&addr, sizeof(addr)) || listen(fd, 1)) {
		close(fd);
		return -1;
	}
	return fd;
}

static long long slab_kib(void)
{
	return number_in("/proc/meminfo", "SUnreclaim:");
}

static int give_values(int map, const int *sockets)
{
	int err = 0;

	for (int i = 0; i < nr_sockets(); i++)
		err = err ?: update(map, sockets[i], i, BPF_NOEXIST);
	return err;
}

/* The number of values that the iterator shows, or the negative errno. */
static long long walk(struct scale *skel, int map)
{
	int fd = iter_over(skel->progs.walk, map);
	char byte;

	if (fd < 0)
		return fd;
	/* It stops from time to time, to be asked to go on. */
	while (read(fd, &byte, 1) < 0 && errno == EAGAIN)
		;
	close(fd);
	return skel->bss->walked;
}

/* Read a dump and forget it; the number of sockets, or the negative errno. */
static int count_dumped(void)
{
	int nl = diag_socket(), count = 0, left;
	static char data[1 << 16];
	struct nlmsghdr *nlh;
	struct request r;
	int err;

	ask_storage(&r, AF_INET, IPPROTO_TCP, NULL, 0);
	err = send_request(nl, &r);
	while (!err) {
		left = recv(nl, data, sizeof(data), 0);
		if (left <= 0)
			err = -EIO;
		for (nlh = (void *)data; NLMSG_OK(nlh, left);
		     nlh = NLMSG_NEXT(nlh, left)) {
			if (nlh->nlmsg_type == NLMSG_DONE)
				err = 1;
			count += nlh->nlmsg_type != NLMSG_DONE;
		}
	}
	close(nl);
	return err < 0 ? err : count;
}

struct latency {
	bool stop;
	long long longest;
};

/* Sleeps for a moment again and again, with the right to run then. */
static void *measure_latency(void *arg)
{
	struct sched_param param = { .sched_priority = 50 };
	struct latency *latency = arg;
	long long due, late;
	struct timespec time;

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
	while (!__atomic_load_n(&latency->stop, __ATOMIC_RELAXED)) {
		due = now() + PERIOD;
		time = (struct timespec){ due / SECOND, due % SECOND };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
		late = now() - due;
		if (late > latency->longest)
			latency->longest = late;
	}
	return NULL;
}

static bool freed(const struct scale *skel)
{
	return __atomic_load_n(&skel->bss->free_ended, __ATOMIC_ACQUIRE);
}

/*
 * End a map; the nanoseconds for which that kept others from running, at most,
 * or -1 if it does not end.
 */
static long long free_map(struct scale *skel, int map)
{
	struct latency latency = {};
	pthread_t thread;
	bool ended;

	/* No other map is being freed now. */
	if (scale__attach(skel))
		return -1;
	pthread_create(&thread, NULL, measure_latency, &latency);
	close(map);
	ended = EVENTUALLY(freed(skel));
	latency.stop = true;
	pthread_join(thread, NULL);
	return ended ? latency.longest : -1;
}

TEST(costs_do_not_grow_with_their_number)
{
	int nr = nr_sockets(), map = create_with(8, 0);
	int *sockets = calloc(nr, sizeof(*sockets));
	long long start, before, longest;
	struct scale *skel;
	double took;

	ASSERT_EQ(network_err, 0);
	ASSERT_EQ(allow_sockets(nr), 0);
	skel = scale__open_and_load();
	ASSERT_NE(skel, NULL);
	/* It is attached to a map. */
	bpf_program__set_autoattach(skel->progs.walk, false);

	start = now();
	for (int i = 0; i < nr; i++)
		ASSERT_GE(sockets[i] = listener_number(i), 0);
	SHOW_FIGURE("scale-open", each(start));
	before = slab_kib();
	start = now();
	ASSERT_EQ(give_values(map, sockets), 0);
	EXPECT_FIGURE("scale-create", each(start), 2499);
	EXPECT_FIGURE("scale-bytes", (slab_kib() - before) * 1024. / nr,
		      109);
	start = now();
	EXPECT_EQ(walk(skel, map), nr);
	EXPECT_FIGURE("scale-walk", each(start), 599);
	start = now();
	EXPECT_EQ(count_dumped(), nr);
	EXPECT_FIGURE("scale-dump", each(start), 3999);
	longest = free_map(skel, map);
	EXPECT_GE(longest, 0);
	EXPECT_FIGURE("scale-latency", longest, 49999);
	took = skel->bss->free_ended - skel->bss->free_began;
	EXPECT_FIGURE("scale-free", took / nr, 7999);

	map = create_with(8, 0);
	ASSERT_EQ(give_values(map, sockets), 0);
	start = now();
	for (int i = 0; i < nr; i++)
		close(sockets[i]);
	EXPECT_FIGURE("scale-close", each(start), 7999);
	close(map);
	scale__destroy(skel);
	free(sockets);
}

TEST_HARNESS_MAIN
