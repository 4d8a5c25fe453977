// SPDX-License-Identifier: GPL-2.0
/* TCP congestion control whose state is in the storage of its sockets. */
#include "harness.h"
#include "net.h"
#include "congestion.skel.h"
#include <net/if.h>

#define FLOWS	2

struct flow {
	__u64 owner;
	__u32 inits, acks, losses;
};

FIXTURE(congestion) {
	struct congestion *skel;
	struct bpf_link *link;
	int listener, map;
	int clients[FLOWS], children[FLOWS];
	__u16 ports[FLOWS];
};

static int open_flow(int listener, int *client, int *child, __u16 *port)
{
	*client = tcp_socket();
	if (setsockopt(*client, IPPROTO_TCP, TCP_CONGESTION, "keep_ca", 7) ||
	    connect_to(*client, listener))
		return -errno;
	*child = accept(listener, NULL, NULL);
	*port = port_of(*client);
	return *child < 0 ? -errno : 0;
}

FIXTURE_SETUP(congestion)
{
	self->skel = congestion__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.flows);
	self->link = bpf_map__attach_struct_ops(self->skel->maps.keep_ca);
	ASSERT_NE(self->link, NULL);
	self->listener = listen_on(AF_INET, 0);
	ASSERT_GE(self->listener, 0);
	for (int i = 0; i < FLOWS; i++)
		ASSERT_EQ(open_flow(self->listener, &self->clients[i],
				    &self->children[i], &self->ports[i]), 0);
}

FIXTURE_TEARDOWN(congestion)
{
	for (int i = 0; i < FLOWS; i++) {
		close(self->clients[i]);
		close(self->children[i]);
	}
	close(self->listener);
	bpf_link__destroy(self->link);
	congestion__destroy(self->skel);
}

/* Send n kilobytes, each after the one before has arrived. */
static bool transfer(int from, int to, int n)
{
	char data[1024] = {};
	int got;

	for (; n > 0; n--) {
		if (write(from, data, sizeof(data)) != sizeof(data))
			return false;
		for (int all = 0; all < sizeof(data); all += got) {
			got = read(to, data, sizeof(data) - all);
			if (got <= 0)
				return false;
		}
	}
	return true;
}

static struct flow flow_of(int map, int fd)
{
	struct flow flow = {};

	bpf_map_lookup_elem(map, &fd, &flow);
	return flow;
}

static bool has_flow(int map, int fd)
{
	struct flow flow;

	return !bpf_map_lookup_elem(map, &fd, &flow);
}

#define TRANSFER(i, n)							\
	ASSERT_TRUE(transfer(self->clients[i], self->children[i], n))
#define FLOW(i)	flow_of(self->map, self->clients[i])

TEST_F(congestion, each_connection_has_its_own_state)
{
	struct congestion__bss *bss = self->skel->bss;

	TRANSFER(0, 10);
	EXPECT_TRUE(EVENTUALLY(FLOW(0).acks >= 1));
	for (int i = 0; i < 20; i++)
		for (int k = 0; k < FLOWS; k++)
			TRANSFER(k, k + 1);
	for (int k = 0; k < FLOWS; k++) {
		EXPECT_EQ(FLOW(k).inits, 1);
		EXPECT_TRUE(EVENTUALLY(FLOW(k).acks >= 2));
		EXPECT_FALSE(has_flow(self->map, self->children[k]));
	}
	EXPECT_NE(FLOW(0).owner, FLOW(1).owner);
	EXPECT_EQ(bss->missing, 0);
	EXPECT_EQ(bss->mixed, 0);
}

TEST_F(congestion, only_the_one_that_lost_a_segment_knows)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = if_nametoindex("lo"),
		    .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1,
		    .prog_fd = bpf_program__fd(self->skel->progs.lose_one));
	struct congestion__bss *bss = self->skel->bss;

	ASSERT_EQ(bpf_tc_hook_create(&hook), 0);
	ASSERT_EQ(bpf_tc_attach(&hook, &opts), 0);
	bss->port_that_loses = self->ports[0];
	TRANSFER(0, 20);
	TRANSFER(1, 20);
	EXPECT_EQ(bss->port_that_loses, 0);
	EXPECT_TRUE(EVENTUALLY(FLOW(0).losses >= 1));
	EXPECT_EQ(FLOW(1).losses, 0);
	EXPECT_EQ(bss->missing, 0);
	EXPECT_EQ(bss->mixed, 0);
	hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
	bpf_tc_hook_destroy(&hook);
}

TEST_F(congestion, release_finds_the_state_of_a_closed_socket)
{
	long long filled = fdinfo_number(self->map, "memlock");
	struct congestion__bss *bss = self->skel->bss;

	TRANSFER(0, 10);
	TRANSFER(1, 10);
	close(self->clients[0]);
	close(self->children[0]);
	self->clients[0] = -1;
	self->children[0] = -1;
	EXPECT_TRUE(EVENTUALLY(bss->released == 1));
	EXPECT_EQ(bss->missing, 0);
	EXPECT_EQ(bss->mixed, 0);
	EXPECT_EQ(FLOW(1).inits, 1);
	EXPECT_LE(fdinfo_number(self->map, "memlock"), filled);
}

TEST_F(congestion, another_algorithm_takes_over)
{
	struct congestion__bss *bss = self->skel->bss;

	TRANSFER(0, 10);
	ASSERT_EQ(setsockopt(self->clients[0], IPPROTO_TCP, TCP_CONGESTION,
			     "reno", 4), 0);
	EXPECT_EQ(bss->released, 1);
	EXPECT_FALSE(has_flow(self->map, self->clients[0]));
	EXPECT_EQ(optmem(self->clients[0]), 0);
	EXPECT_TRUE(has_flow(self->map, self->clients[1]));
	TRANSFER(0, 10);
	/* And back: it begins again. */
	ASSERT_EQ(setsockopt(self->clients[0], IPPROTO_TCP, TCP_CONGESTION,
			     "keep_ca", 7), 0);
	EXPECT_EQ(FLOW(0).inits, 1);
	TRANSFER(0, 10);
	EXPECT_EQ(bss->missing, 0);
	EXPECT_EQ(bss->mixed, 0);
}

TEST_HARNESS_MAIN
