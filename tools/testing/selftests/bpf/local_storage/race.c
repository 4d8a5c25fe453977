// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that get into each other's way.  What must not happen is a crash, a
 * report of the debug kernel, a wrong value, or a byte that stays charged.
 */
#include "common.h"
#include "sockopt.skel.h"

#define SOCKETS	32
#define MAPS	40

struct shared {
	struct sockopt *skel;
	pthread_barrier_t barrier;
	int sockets[SOCKETS];
	int maps[MAPS];
	int wrong;
};

FIXTURE(race) {
	struct shared s;
	struct bpf_link *link;
	int cgroup;
};

FIXTURE_SETUP(race)
{
	struct shared *s = &self->s;

	s->skel = sockopt__open_and_load();
	ASSERT_NE(s->skel, NULL);
	self->cgroup = root_cgroup();
	self->link = bpf_program__attach_cgroup(s->skel->progs.on_getsockopt,
						self->cgroup);
	ASSERT_NE(self->link, NULL);
	for (int i = 0; i < SOCKETS; i++)
		s->sockets[i] = tcp_socket();
	for (int i = 0; i < MAPS; i++)
		s->maps[i] = create_with(8, 0);
}

FIXTURE_TEARDOWN(race)
{
	for (int i = 0; i < SOCKETS; i++)
		close(self->s.sockets[i]);
	for (int i = 0; i < MAPS; i++)
		close(self->s.maps[i]);
	bpf_link__destroy(self->link);
	sockopt__destroy(self->s.skel);
	close(self->cgroup);
}

static void run(struct shared *s, int n, void *(*bodies[])(void *))
{
	pthread_t threads[8];

	pthread_barrier_init(&s->barrier, NULL, n);
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, bodies[i], s);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&s->barrier);
}

/* Destroy against map free: both ends of every element go at once. */

static void fill(struct shared *s)
{
	__u64 value = 1;

	for (int i = 0; i < SOCKETS; i++)
		for (int k = 0; k < MAPS; k++)
			bpf_map_update_elem(s->maps[k], &s->sockets[i], &value,
					    0);
}

static void *close_sockets(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds() / 4; r++) {
		pthread_barrier_wait(&s->barrier);
		for (int i = 0; i < SOCKETS; i++)
			close(s->sockets[i]);
		pthread_barrier_wait(&s->barrier);
		for (int i = 0; i < SOCKETS; i++)
			s->sockets[i] = tcp_socket();
	}
	return NULL;
}

static void *close_maps(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds() / 4; r++) {
		fill(s);
		pthread_barrier_wait(&s->barrier);
		for (int k = 0; k < MAPS; k++)
			close(s->maps[k]);
		pthread_barrier_wait(&s->barrier);
		for (int k = 0; k < MAPS; k++)
			s->maps[k] = create_with(8, 0);
		usleep(1000);
	}
	return NULL;
}

TEST_F(race, destroy_against_map_free)
{
	void *(*bodies[])(void *) = { close_sockets, close_maps };

	run(&self->s, 2, bodies);
	EXPECT_EQ(optmem(self->s.sockets[0]), 0);
}

/* Update against delete: a value is whole or absent. */

#define BIG	(8 * 64)

static void *update_big(void *arg)
{
	struct shared *s = arg;
	__u64 value[BIG / 8];

	for (int r = 1; r < rounds() * 20; r++) {
		for (int i = 0; i < BIG / 8; i++)
			value[i] = r;
		bpf_map_update_elem(s->maps[0], &s->sockets[0], value, 0);
	}
	return NULL;
}

static void *delete_big(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds() * 20; r++)
		bpf_map_delete_elem(s->maps[0], &s->sockets[0]);
	return NULL;
}

static void *read_big(void *arg)
{
	struct shared *s = arg;
	__u64 value[BIG / 8];

	for (int r = 0; r < rounds() * 20; r++) {
		if (bpf_map_lookup_elem(s->maps[0], &s->sockets[0], value))
			continue;
		for (int i = 1; i < BIG / 8; i++)
			if (value[i] != value[0])
				__sync_fetch_and_add(&s->wrong, 1);
	}
	return NULL;
}

TEST_F(race, update_against_delete)
{
	void *(*bodies[])(void *) = { update_big, update_big, delete_big,
				      read_big };

	close(self->s.maps[0]);
	self->s.maps[0] = create_with(BIG, 0);
	run(&self->s, 4, bodies);
	EXPECT_EQ(self->s.wrong, 0) TH_LOG("values half of one update");
	bpf_map_delete_elem(self->s.maps[0], &self->s.sockets[0]);
	EXPECT_EQ(optmem(self->s.sockets[0]), 0);
}

/* Get-create against close: programs find a socket that is going away. */

static void *create_values(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds() * 8; r++)
		for (int i = 0; i < SOCKETS; i++)
			operate(s->sockets[i], MAIN_MAP, DO_ADD, 1);
	return NULL;
}

static void *reopen_sockets(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds() * 8; r++)
		for (int i = 0; i < SOCKETS; i++) {
			int fresh = tcp_socket();

			/* In one step, so that the fd is always a socket. */
			dup2(fresh, s->sockets[i]);
			close(fresh);
		}
	return NULL;
}

TEST_F(race, create_against_close)
{
	void *(*bodies[])(void *) = { create_values, create_values,
				      reopen_sockets };
	int map = bpf_map__fd(self->s.skel->maps.main_map);
	long long empty = fdinfo_number(map, "memlock");

	run(&self->s, 3, bodies);
	for (int i = 0; i < SOCKETS; i++) {
		close(self->s.sockets[i]);
		self->s.sockets[i] = tcp_socket();
	}
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(map, "memlock") == empty));
}

/* Create against create: all get the same element, and no count is lost. */

static void *add_once(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds() * 4; r++) {
		pthread_barrier_wait(&s->barrier);
		if (operate(s->sockets[0], MAIN_MAP, DO_ADD, 1).err)
			__sync_fetch_and_add(&s->wrong, 1);
		if (pthread_barrier_wait(&s->barrier) !=
		    PTHREAD_BARRIER_SERIAL_THREAD)
			continue;
		if (operate(s->sockets[0], MAIN_MAP, DO_GET, 0).value % 3)
			__sync_fetch_and_add(&s->wrong, 1);
		operate(s->sockets[0], MAIN_MAP, DO_DELETE, 0);
	}
	return NULL;
}

TEST_F(race, create_against_create)
{
	void *(*bodies[])(void *) = { add_once, add_once, add_once };

	run(&self->s, 3, bodies);
	EXPECT_EQ(self->s.wrong, 0) TH_LOG("an element made twice");
}

/* Many maps on one socket: the index grows while others read it. */

static void *read_all(void *arg)
{
	struct shared *s = arg;
	__u64 value;

	for (int r = 0; r < rounds() * 20; r++) {
		int k = r % MAPS;

		if (bpf_map_lookup_elem(s->maps[k], &s->sockets[0], &value))
			continue;
		if (value != k)
			__sync_fetch_and_add(&s->wrong, 1);
	}
	return NULL;
}

static void *set_and_clear(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; r < rounds(); r++) {
		for (__u64 k = 0; k < MAPS; k++)
			bpf_map_update_elem(s->maps[k], &s->sockets[0], &k, 0);
		for (int k = 0; k < MAPS; k++)
			bpf_map_delete_elem(s->maps[k], &s->sockets[0]);
	}
	return NULL;
}

TEST_F(race, growth_against_lookup)
{
	void *(*bodies[])(void *) = { read_all, set_and_clear, set_and_clear };

	run(&self->s, 3, bodies);
	EXPECT_EQ(self->s.wrong, 0) TH_LOG("another map's value");
	for (int k = 0; k < MAPS; k++)
		bpf_map_delete_elem(self->s.maps[k], &self->s.sockets[0]);
	EXPECT_EQ(optmem(self->s.sockets[0]), 0);
}

TEST_HARNESS_MAIN
