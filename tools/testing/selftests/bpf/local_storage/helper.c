// SPDX-License-Identifier: GPL-2.0
/* The helpers, from every type of program that has them. */
#include "harness.h"
#include "operate.h"
#include "types.skel.h"
#include <net/if.h>

/* In the order of progs/types.c. */
enum {
	SOCK_CREATE, CONNECT, SKB_EGRESS, SKB_INGRESS, SOCKOPS, SK_MSG, TC,
	CA_INIT, CA_ACK, SETSOCKOPT, KINDS
};

struct counts {
	__u64 of[KINDS];
};

FIXTURE(helper) {
	struct operator operator;
	int map, sk;
};

FIXTURE_SETUP(helper)
{
	ASSERT_EQ(start_operator(&self->operator), 0);
	self->map = bpf_map__fd(self->operator.skel->maps.main_map);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(helper)
{
	end_operator(&self->operator);
	close(self->sk);
}

TEST_F(helper, get_alone_creates_nothing)
{
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).err, -1);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(helper, a_new_value_is_zero)
{
	struct answer answer = operate(self->sk, MAIN_MAP, DO_CREATE, 7);

	EXPECT_EQ(answer.err, 0);
	EXPECT_EQ(answer.value, 0);
}

TEST_F(helper, a_new_value_is_what_was_given)
{
	struct answer answer = operate(self->sk, MAIN_MAP, DO_CREATE_WITH, 42);

	EXPECT_EQ(answer.err, 0);
	EXPECT_EQ(answer.value, 42);
	/* Only the first one is initial. */
	answer = operate(self->sk, MAIN_MAP, DO_CREATE_WITH, 43);
	EXPECT_EQ(answer.value, 42);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).value, 42);
}

TEST_F(helper, writes_stay)
{
	__u64 value = 0;

	for (int i = 0; i < 10; i++)
		operate(self->sk, MAIN_MAP, DO_ADD, 3);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).value, 30);
	EXPECT_EQ(bpf_map_lookup_elem(self->map, &self->sk, &value), 0);
	EXPECT_EQ(value, 30);
}

TEST_F(helper, sees_what_userspace_wrote)
{
	__u64 value = 77;

	ASSERT_EQ(bpf_map_update_elem(self->map, &self->sk, &value, 0), 0);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).value, 77);
	value = 78;
	ASSERT_EQ(bpf_map_update_elem(self->map, &self->sk, &value, 0), 0);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).value, 78);
	ASSERT_EQ(bpf_map_delete_elem(self->map, &self->sk), 0);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).err, -1);
}

TEST_F(helper, a_value_is_deleted_once)
{
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_DELETE, 0).err, -ENOENT);
	operate(self->sk, MAIN_MAP, DO_CREATE, 0);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_DELETE, 0).err, 0);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_DELETE, 0).err, -ENOENT);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_GET, 0).err, -1);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_F(helper, unknown_flags_are_refused)
{
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_BAD_FLAGS, 0).err, -1);
	operate(self->sk, MAIN_MAP, DO_CREATE, 0);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_BAD_FLAGS, 0).err, -1);
}

FIXTURE(program_type) {
	struct types *skel;
	int cgroup, server, client, peer;
};

FIXTURE_SETUP(program_type)
{
	self->skel = types__open();
	ASSERT_NE(self->skel, NULL);
	bpf_map__set_autocreate(self->skel->maps.storage_ca,
				has_trampolines());
	ASSERT_EQ(types__load(self->skel), 0);
	self->cgroup = root_cgroup();
	self->server = listen_on(AF_INET, 0);
	ASSERT_GE(self->server, 0);
	self->client = -1;
	self->peer = -1;
}

FIXTURE_TEARDOWN(program_type)
{
	types__destroy(self->skel);
	close(self->client);
	close(self->peer);
	close(self->server);
	close(self->cgroup);
}

static __u64 count_of(struct types *skel, int fd, int kind)
{
	struct counts counts = {};

	bpf_map_lookup_elem(bpf_map__fd(skel->maps.counts), &fd, &counts);
	return counts.of[kind];
}

/* Connect, exchange a byte each way, and leave both ends open. */
static int exchange(int server, int *client, int *peer)
{
	char byte = 'x';

	*client = tcp_socket();
	if (connect_to(*client, server))
		return -errno;
	*peer = accept(server, NULL, NULL);
	if (*peer < 0 || write(*client, &byte, 1) != 1 ||
	    read(*peer, &byte, 1) != 1 || write(*peer, &byte, 1) != 1 ||
	    read(*client, &byte, 1) != 1)
		return -EIO;
	return 0;
}

static int scratch_exists(struct types *skel, int fd)
{
	__u64 value;

	return !bpf_map_lookup_elem(bpf_map__fd(skel->maps.scratch), &fd,
				    &value);
}

#define ATTACH(prog)							\
	ASSERT_NE(self->skel->links.prog = bpf_program__attach_cgroup(	\
			self->skel->progs.prog, self->cgroup), NULL)
#define EXCHANGE()							\
	ASSERT_EQ(exchange(self->server, &self->client, &self->peer), 0)

TEST_F(program_type, cgroup_sock_has_get)
{
	ATTACH(on_create);
	self->client = tcp_socket();
	EXPECT_EQ(count_of(self->skel, self->client, SOCK_CREATE), 1);
}

TEST_F(program_type, cgroup_sock_addr_has_both)
{
	ATTACH(on_connect);
	EXCHANGE();
	EXPECT_EQ(count_of(self->skel, self->client, CONNECT), 1);
	EXPECT_TRUE(scratch_exists(self->skel, self->client));
}

TEST_F(program_type, cgroup_skb_egress_has_both)
{
	ATTACH(on_egress);
	EXCHANGE();
	/* SYN, ACK, data, ACK. */
	EXPECT_GE(count_of(self->skel, self->client, SKB_EGRESS), 3);
	EXPECT_GE(count_of(self->skel, self->peer, SKB_EGRESS), 2);
	EXPECT_TRUE(scratch_exists(self->skel, self->peer));
}

TEST_F(program_type, cgroup_skb_ingress_has_both)
{
	ATTACH(on_ingress);
	EXCHANGE();
	EXPECT_GE(count_of(self->skel, self->client, SKB_INGRESS), 2);
	EXPECT_GE(count_of(self->skel, self->peer, SKB_INGRESS), 1);
}

TEST_F(program_type, sockops_has_both)
{
	ATTACH(on_sockops);
	EXCHANGE();
	EXPECT_GE(count_of(self->skel, self->client, SOCKOPS), 1);
	EXPECT_GE(count_of(self->skel, self->peer, SOCKOPS), 1);
	EXPECT_TRUE(scratch_exists(self->skel, self->client));
}

TEST_F(program_type, cgroup_sockopt_has_both)
{
	int one = 1;

	ATTACH(on_setsockopt);
	self->client = tcp_socket();
	ASSERT_EQ(setsockopt(self->client, SOL_SOCKET, SO_KEEPALIVE, &one,
			     sizeof(one)), 0);
	EXPECT_EQ(count_of(self->skel, self->client, SETSOCKOPT), 1);
}

TEST_F(program_type, sk_msg_has_both)
{
	int sockets = bpf_map__fd(self->skel->maps.sockets), zero = 0;
	char byte = 'y';

	ASSERT_EQ(bpf_prog_attach(bpf_program__fd(self->skel->progs.on_message),
				  sockets, BPF_SK_MSG_VERDICT, 0), 0);
	EXCHANGE();
	ASSERT_EQ(bpf_map_update_elem(sockets, &zero, &self->client, 0), 0);
	ASSERT_EQ(write(self->client, &byte, 1), 1);
	EXPECT_EQ(count_of(self->skel, self->client, SK_MSG), 1);
	EXPECT_TRUE(scratch_exists(self->skel, self->client));
}

TEST_F(program_type, tc_has_both)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = if_nametoindex("lo"),
		    .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1,
		    .prog_fd = bpf_program__fd(self->skel->progs.on_tc));

	EXPECT_EQ(run_on_packet(self->skel->progs.on_tc, 1), 0);
	ASSERT_EQ(bpf_tc_hook_create(&hook), 0);
	ASSERT_EQ(bpf_tc_attach(&hook, &opts), 0);
	EXCHANGE();
	EXPECT_GE(count_of(self->skel, self->client, TC), 3);
	EXPECT_TRUE(scratch_exists(self->skel, self->client));
	hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
	bpf_tc_hook_destroy(&hook);
}

TEST_F(program_type, congestion_control_has_both)
{
	struct bpf_link *link;

	NEEDS_TRAMPOLINES();
	link = bpf_map__attach_struct_ops(self->skel->maps.storage_ca);
	ASSERT_NE(link, NULL);
	self->client = tcp_socket();
	ASSERT_EQ(setsockopt(self->client, IPPROTO_TCP, TCP_CONGESTION,
			     "storage_ca", 10), 0);
	ASSERT_EQ(connect_to(self->client, self->server), 0);
	self->peer = accept(self->server, NULL, NULL);
	for (int i = 0; i < 20; i++) {
		char data[1000] = {};

		ASSERT_EQ(write(self->client, data, sizeof(data)),
			  sizeof(data));
		for (int got = 0; got < sizeof(data);) {
			int n = read(self->peer, data, sizeof(data));

			ASSERT_GT(n, 0);
			got += n;
		}
	}
	EXPECT_EQ(count_of(self->skel, self->client, CA_INIT), 1);
	EXPECT_GE(count_of(self->skel, self->client, CA_ACK), 1);
	EXPECT_TRUE(scratch_exists(self->skel, self->client));
	bpf_link__destroy(link);
}

/* The lower half is the port looked for, the upper half the peer's. */
static int ports_of(int fd)
{
	struct sockaddr_in local = {}, remote = {};
	socklen_t len = sizeof(local);

	getsockname(fd, (void *)&local, &len);
	len = sizeof(remote);
	getpeername(fd, (void *)&remote, &len);
	return ntohs(remote.sin_port) << 16 | ntohs(local.sin_port);
}

TEST_F(program_type, lookup_finds_a_full_socket)
{
	EXCHANGE();
	self->skel->bss->port = ports_of(self->client);
	ASSERT_EQ(run_on_packet(self->skel->progs.look_up, 1), 0);
	EXPECT_EQ(self->skel->data->found_state, TCP_ESTABLISHED);
	EXPECT_EQ(self->skel->data->found_get, 1);
	EXPECT_EQ(self->skel->bss->found_delete, 0);
	/* bpf_skc_to_tcp_sock() gives the same socket another type. */
	EXPECT_EQ(self->skel->data->tcp_sock_get, 1);
}

TEST_F(program_type, timewait_is_no_full_socket)
{
	char byte;

	EXCHANGE();
	self->skel->bss->port = ports_of(self->client);
	shutdown(self->client, SHUT_RDWR);
	ASSERT_EQ(read(self->peer, &byte, 1), 0);
	close(self->peer);
	self->peer = -1;
	ASSERT_EQ(read(self->client, &byte, 1), 0);
	close(self->client);
	self->client = -1;
	ASSERT_EQ(run_on_packet(self->skel->progs.look_up, 1), 0);
	ASSERT_EQ(self->skel->data->found_state, TCP_TIME_WAIT);
	EXPECT_EQ(self->skel->data->found_get, 0);
	EXPECT_EQ(self->skel->bss->found_delete, -EINVAL);
	EXPECT_EQ(self->skel->data->tcp_sock_get, -1);
}

TEST_HARNESS_MAIN
