// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that get into each other's way.  What must not happen is a crash, a
 * report of the debug kernel, a wrong value, or a byte that stays charged.
 */
#include "harness.h"
#include "operate.h"

#define SOCKETS	32
#define MAPS	40

struct shared {
	struct operator operator;
	pthread_barrier_t barrier;
	int sockets[SOCKETS];
	int maps[MAPS];
	/* How often each socket was closed and opened anew. */
	int reopened[SOCKETS];
	/* What must not be, and what shows that threads met. */
	int wrong, met, missed;
	/* Threads on their way to the same place; how often all were there. */
	int arrived, meetings;
	/* Calls that are under way. */
	int inside;
	__u64 updates;
	/* With which values are read and updated. */
	__u64 flags;
	bool done;
};

FIXTURE(race) {
	struct shared s;
};

FIXTURE_SETUP(race)
{
	struct shared *s = &self->s;

	ASSERT_EQ(start_operator(&s->operator), 0);
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
	end_operator(&self->s.operator);
}

static void run(struct shared *s, int n, void *(*bodies[])(void *))
{
	pthread_t threads[8];

	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, bodies[i], s);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static int load(int *number)
{
	return __atomic_load_n(number, __ATOMIC_ACQUIRE);
}

static void count(int *number)
{
	__sync_fetch_and_add(number, 1);
}

static bool is_done(struct shared *s)
{
	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

static void set_done(struct shared *s)
{
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
}

static int least_of(int a, int b)
{
	return a < b ? a : b;
}

/* Destroy against map free: both ends of a value go at once. */

/* Every fourth, of the sockets and of the maps, to show what is left there. */
static bool stays(int i)
{
	return i % 4 == 3;
}

/* Some sizes are charged for on their own. */
static int size_of(int map)
{
	return map % 3 ? 8 : 512;
}

static void make_maps(struct shared *s)
{
	for (int k = 0; k < MAPS; k++)
		if (!stays(k))
			s->maps[k] = create_with(size_of(k), 0);
}

static void *close_maps(void *arg)
{
	struct shared *s = arg;

	for (;;) {
		pthread_barrier_wait(&s->barrier);
		if (is_done(s))
			return NULL;
		for (int k = 0; k < MAPS; k++)
			if (!stays(k))
				close(s->maps[k]);
		pthread_barrier_wait(&s->barrier);
	}
}

/* A value where at least one end is to go; returns how many there are not. */
static int fill(struct shared *s)
{
	char value[512] = "value";
	int missing = 0;

	for (int i = 0; i < SOCKETS; i++)
		for (int k = 0; k < MAPS; k++)
			if (!stays(i) || !stays(k))
				missing += !!bpf_map_update_elem(s->maps[k],
							&s->sockets[i], value,
							BPF_NOEXIST);
	return missing;
}

/* What the sockets that stay are charged for values of maps that go. */
static __u32 charged(struct shared *s)
{
	__u32 sum = 0;

	for (int i = 0; i < SOCKETS; i++)
		if (stays(i))
			sum += optmem(s->sockets[i]);
	return sum;
}

/*
 * Close sockets while maps are freed; returns how many went after the first
 * value of a socket that stays had gone, and before the last.
 */
static int close_sockets(struct shared *s, bool at_once)
{
	__u32 full = charged(s), before, after;
	int amid = 0;

	pthread_barrier_wait(&s->barrier);
	do {
		after = charged(s);
	} while (after == full && !at_once);
	for (int i = 0; i < SOCKETS; i++) {
		if (stays(i))
			continue;
		before = after;
		close(s->sockets[i]);
		after = charged(s);
		amid += before < full && after;
	}
	pthread_barrier_wait(&s->barrier);
	return amid;
}

static void open_sockets(struct shared *s)
{
	for (int i = 0; i < SOCKETS; i++)
		if (!stays(i))
			s->sockets[i] = tcp_socket();
}

TEST_F(race, sockets_end_while_maps_do)
{
	struct shared *s = &self->s;
	long long empty[MAPS];
	pthread_t thread;

	for (int k = 0; k < MAPS; k++) {
		close(s->maps[k]);
		s->maps[k] = create_with(size_of(k), 0);
		empty[k] = fdinfo_number(s->maps[k], "memlock");
	}
	pthread_barrier_init(&s->barrier, NULL, 2);
	ASSERT_EQ(pthread_create(&thread, NULL, close_maps, s), 0);
	for (int r = 0; goes_on(r, rounds() / 4, s->met); r++) {
		ASSERT_EQ(fill(s), 0);
		s->met += close_sockets(s, r % 4 == 3);
		ASSERT_TRUE(EVENTUALLY(!charged(s)));
		open_sockets(s);
		make_maps(s);
	}
	set_done(s);
	pthread_barrier_wait(&s->barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&s->barrier);
	EXPECT_GE(s->met, ENOUGH) TH_LOG("sockets closed amid the freeing");
	for (int k = 0; k < MAPS; k++)
		if (stays(k))
			EXPECT_TRUE(EVENTUALLY(fdinfo_number(s->maps[k],
						"memlock") == empty[k]));
}

/* Update against delete: a value is whole or absent.  It begins with its lock. */

#define BIG	(8 * 64)

static void *update_big(void *arg)
{
	struct shared *s = arg;
	__u64 value[BIG / 8];

	while (!is_done(s)) {
		/* No two updates write the same. */
		value[1] = __sync_add_and_fetch(&s->updates, 1);
		for (int i = 2; i < BIG / 8; i++)
			value[i] = value[1];
		bpf_map_update_elem(s->maps[0], &s->sockets[0], value,
				    s->flags);
	}
	return NULL;
}

static void *delete_big(void *arg)
{
	struct shared *s = arg;

	while (!is_done(s))
		bpf_map_delete_elem(s->maps[0], &s->sockets[0]);
	return NULL;
}

/* Counts the reads that found another value than the last one, or no more. */
static void *read_big(void *arg)
{
	struct shared *s = arg;
	__u64 value[BIG / 8], last = 0;
	bool there = false;

	for (int r = 0; goes_on(r, rounds() * 20, least_of(s->met, s->missed));
	     r++) {
		if (bpf_map_lookup_elem_flags(s->maps[0], &s->sockets[0], value,
					      s->flags)) {
			s->missed += there;
			there = false;
			continue;
		}
		there = true;
		s->met += value[1] != last;
		last = value[1];
		for (int i = 2; i < BIG / 8; i++)
			s->wrong += value[i] != value[1];
	}
	set_done(s);
	return NULL;
}

#define UPDATES_MEET_DELETES(how)					\
	do {								\
		void *(*bodies[])(void *) = { update_big, update_big,	\
					      delete_big, read_big };	\
		struct btf *btf = types_with_lock(BIG);			\
		struct spec spec = spec_for(btf, BIG);			\
									\
		close(self->s.maps[0]);					\
		self->s.maps[0] = create(&spec);			\
		ASSERT_GE(self->s.maps[0], 0);				\
		btf__free(btf);						\
		self->s.flags = (how);					\
		run(&self->s, 4, bodies);				\
		EXPECT_EQ(self->s.wrong, 0)				\
			TH_LOG("values half of one update");		\
		EXPECT_GE(self->s.met, ENOUGH)				\
			TH_LOG("values that were read");		\
		EXPECT_GE(self->s.missed, ENOUGH)			\
			TH_LOG("values that were deleted");		\
		bpf_map_delete_elem(self->s.maps[0], &self->s.sockets[0]); \
		EXPECT_EQ(optmem(self->s.sockets[0]), 0);		\
	} while (0)

TEST_F(race, updates_meet_deletes)
{
	UPDATES_MEET_DELETES(0);
}

TEST_F(race, updates_in_place_meet_deletes)
{
	UPDATES_MEET_DELETES(BPF_F_LOCK);
}

/* Get-create against close: programs find a socket that is going away. */

/* Counts the values that it made while their socket lost its fd. */
static void *create_values(void *arg)
{
	struct shared *s = arg;

	while (!is_done(s))
		for (int i = 0; i < SOCKETS; i++) {
			int reopened = load(&s->reopened[i]);
			struct answer answer;

			answer = operate(s->sockets[i], MAIN_MAP, DO_ADD, 1);
			if (answer.err)
				count(&s->wrong);
			else if (answer.value == 1 &&
				 load(&s->reopened[i]) != reopened)
				count(&s->met);
		}
	return NULL;
}

static void *reopen_sockets(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; goes_on(r, rounds() * 8, load(&s->met)); r++)
		for (int i = 0; i < SOCKETS; i++) {
			int fresh = tcp_socket();

			/* In one step, so that the fd is always a socket. */
			dup2(fresh, s->sockets[i]);
			count(&s->reopened[i]);
			close(fresh);
		}
	set_done(s);
	return NULL;
}

TEST_F(race, creation_meets_close)
{
	void *(*bodies[])(void *) = { create_values, create_values,
				      reopen_sockets };
	int map = bpf_map__fd(self->s.operator.skel->maps.main_map);
	long long empty = fdinfo_number(map, "memlock");

	run(&self->s, 3, bodies);
	EXPECT_EQ(self->s.wrong, 0) TH_LOG("values that were not made");
	EXPECT_GE(self->s.met, ENOUGH) TH_LOG("values of a socket that went");
	for (int i = 0; i < SOCKETS; i++) {
		close(self->s.sockets[i]);
		self->s.sockets[i] = tcp_socket();
	}
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(map, "memlock") == empty));
}

/* Create against create: all get the same element, and no count is lost. */

#define CREATORS	3

/* Leave together, as far as that goes; true for the last one to come. */
static bool meet(struct shared *s)
{
	int meetings = load(&s->meetings);

	if (__sync_add_and_fetch(&s->arrived, 1) == CREATORS) {
		s->arrived = 0;
		count(&s->meetings);
		return true;
	}
	while (load(&s->meetings) == meetings)
		sched_yield();
	return false;
}

/* Delete what all have made, and say whether it had been one value. */
static void check_and_delete(struct shared *s)
{
	if (operate(s->sockets[0], MAIN_MAP, DO_GET, 0).value != CREATORS)
		count(&s->wrong);
	operate(s->sockets[0], MAIN_MAP, DO_DELETE, 0);
}

/* Counts the calls that came while another was under way. */
static void *add_once(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; !is_done(s); r++) {
		meet(s);
		if (__sync_fetch_and_add(&s->inside, 1))
			count(&s->met);
		if (operate(s->sockets[0], MAIN_MAP, DO_ADD, 1).err)
			count(&s->wrong);
		__sync_fetch_and_sub(&s->inside, 1);
		if (meet(s)) {
			check_and_delete(s);
			if (!goes_on(r, rounds() * 4, load(&s->met)))
				set_done(s);
		}
		meet(s);
	}
	return NULL;
}

TEST_F(race, creation_meets_creation)
{
	void *(*bodies[])(void *) = { add_once, add_once, add_once };

	run(&self->s, CREATORS, bodies);
	EXPECT_EQ(self->s.wrong, 0) TH_LOG("an element made twice");
	EXPECT_GE(self->s.met, ENOUGH) TH_LOG("calls at the same time");
	EXPECT_EQ(optmem(self->s.sockets[0]), 0);
}

/* Many maps on one socket: the index grows while others read it. */

/* Counts the values that were there where there had been none, or reverse. */
static void *read_all(void *arg)
{
	struct shared *s = arg;
	bool there[MAPS] = {};
	__u64 value;

	for (int r = 0; goes_on(r, rounds() * 20, s->met); r++) {
		int k = r % MAPS;
		int err = bpf_map_lookup_elem(s->maps[k], &s->sockets[0],
					      &value);

		s->met += there[k] == !!err;
		there[k] = !err;
		s->wrong += !err && value != k;
	}
	set_done(s);
	return NULL;
}

static void *set_and_clear(void *arg)
{
	struct shared *s = arg;

	while (!is_done(s)) {
		for (__u64 k = 0; k < MAPS; k++)
			bpf_map_update_elem(s->maps[k], &s->sockets[0], &k, 0);
		for (int k = 0; k < MAPS; k++)
			bpf_map_delete_elem(s->maps[k], &s->sockets[0]);
	}
	return NULL;
}

TEST_F(race, growth_meets_lookup)
{
	void *(*bodies[])(void *) = { read_all, set_and_clear, set_and_clear };

	run(&self->s, 3, bodies);
	EXPECT_EQ(self->s.wrong, 0) TH_LOG("another map's value");
	EXPECT_GE(self->s.met, ENOUGH) TH_LOG("values that came and went");
	for (int k = 0; k < MAPS; k++)
		bpf_map_delete_elem(self->s.maps[k], &self->s.sockets[0]);
	EXPECT_EQ(optmem(self->s.sockets[0]), 0);
}

TEST_HARNESS_MAIN
