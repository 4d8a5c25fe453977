// SPDX-License-Identifier: GPL-2.0
/*
 * Dumps of socket storage while threads change it.  Each value that is shown
 * must have been written whole, and what nobody touches must be there.
 */
#include "harness.h"
#include "inet_diag.h"

#define SOCKETS		24
#define MAPS		4
#define WORDS		8
#define MAX_WORDS	16
#define MARK		0xd1a6ULL

struct shared {
	struct sockaddr_in6 addrs[SOCKETS];
	int sockets[SOCKETS];
	__u64 cookies[SOCKETS];
	/* The first is left alone. */
	int maps[MAPS];
	__u32 steady;
	/* Threads that make changes. */
	int busy;
	int wrong, lost;
	/* Changes that dumps came amid: values of the maps that change. */
	int met;
};

FIXTURE(diag_race) {
	struct shared s;
};

/* Of the socket's number, then the round's. */
static void set_words(int map, int fd, int i, int words, __u64 round)
{
	__u64 value[MAX_WORDS];

	value[0] = MARK << 48 | i;
	for (int k = 1; k < words; k++)
		value[k] = value[0] ^ round << 16;
	bpf_map_update_elem(map, &fd, value, 0);
}

static bool whole(const struct value *value, int i)
{
	__u64 words[MAX_WORDS];
	int n = value->len / 8;

	if (value->len % 8 || n < WORDS || n > MAX_WORDS)
		return false;
	memcpy(words, value->data, value->len);
	for (int k = 2; k < n; k++)
		if (words[k] != words[1])
			return false;
	return words[0] == (MARK << 48 | i);
}

FIXTURE_SETUP(diag_race)
{
	struct shared *s = &self->s;

	ASSERT_EQ(network_err, 0);
	for (int k = 0; k < MAPS; k++)
		s->maps[k] = create_with(WORDS * 8, 0);
	s->steady = id_of(s->maps[0]);
	for (int i = 0; i < SOCKETS; i++) {
		s->sockets[i] = listener(AF_INET, IPPROTO_TCP, &s->addrs[i]);
		ASSERT_GE(s->sockets[i], 0);
		s->cookies[i] = cookie_of(s->sockets[i]);
		set_words(s->maps[0], s->sockets[i], i, WORDS, 0);
	}
}

FIXTURE_TEARDOWN(diag_race)
{
	for (int i = 0; i < SOCKETS; i++)
		close(self->s.sockets[i]);
	for (int k = 0; k < MAPS; k++)
		close(self->s.maps[k]);
}

static void count(int *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static void check_found(struct shared *s, int i, const struct found *found)
{
	const struct value *steady = value_of(found, s->steady);

	if (found->times != 1 || !steady || !whole(steady, i))
		count(&s->lost);
	if (found->malformed)
		count(&s->wrong);
	for (int k = 0; k < found->n; k++) {
		if (!whole(&found->values[k], i) ||
		    !value_of(found, found->values[k].id))
			count(&s->wrong);
		if (found->values[k].id != s->steady)
			count(&s->met);
	}
}

static void check_dump(struct shared *s, const struct dump *dump)
{
	if (dump->err)
		count(&s->wrong);
	for (int i = 0; i < SOCKETS; i++) {
		struct found found = find(dump, s->sockets[i]);

		check_found(s, i, &found);
	}
	free(dump->data);
}

static bool any_busy(struct shared *s)
{
	return __atomic_load_n(&s->busy, __ATOMIC_ACQUIRE);
}

static void *dump_all(void *arg)
{
	struct shared *s = arg;

	do {
		struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);

		check_dump(s, &dump);
	} while (any_busy(s));
	return NULL;
}

static void *dump_named(void *arg)
{
	struct shared *s = arg;

	do {
		struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, s->maps,
						MAPS);

		check_dump(s, &dump);
	} while (any_busy(s));
	return NULL;
}

/* Begin dumps and leave them. */
static void *give_up(void *arg)
{
	struct shared *s = arg;

	do {
		struct request r;
		int nl = diag_socket();

		ask_storage(&r, AF_INET, IPPROTO_TCP, s->maps, MAPS);
		send_request(nl, &r);
		close(nl);
	} while (any_busy(s));
	return NULL;
}

static void done(struct shared *s)
{
	__sync_fetch_and_sub(&s->busy, 1);
}

/* Whether there is to be another round, for dumps to meet. */
static bool another(struct shared *s, int round, int least)
{
	return goes_on(round, least, __atomic_load_n(&s->met, __ATOMIC_RELAXED));
}

static void *change_values(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; another(s, r, rounds() * 5); r++)
		for (int i = 0; i < SOCKETS; i++) {
			int map = s->maps[1 + (r + i) % (MAPS - 1)];

			if (r % 3)
				set_words(map, s->sockets[i], i, WORDS, r);
			else
				bpf_map_delete_elem(map, &s->sockets[i]);
		}
	done(s);
	return NULL;
}

/*
 * Maps come and go, with their values.  Those of maps that are still to be
 * freed are shown, and add up: they have to fit into what a socket can show.
 */
static void *change_maps(void *arg)
{
	struct shared *s = arg;

	for (int r = 0; another(s, r, rounds() * 2); r++) {
		int words = WORDS + r % (MAX_WORDS - WORDS);
		int map = create_with(words * 8, 0);

		for (int i = 0; i < SOCKETS; i++)
			set_words(map, s->sockets[i], i, words, r);
		close(map);
	}
	done(s);
	return NULL;
}

static void run_threads(struct shared *s, int n, void *(*bodies[])(void *),
			int busy)
{
	pthread_t threads[8];

	s->busy = busy;
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, bodies[i], s);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static void check_end(struct __test_metadata *_metadata, struct shared *s)
{
	__u32 ids[MAPS];

	EXPECT_EQ(s->wrong, 0) TH_LOG("values that nobody wrote");
	EXPECT_EQ(s->lost, 0) TH_LOG("sockets or values that went missing");
	EXPECT_GE(s->met, ENOUGH) TH_LOG("values that came and went");
	for (int k = 0; k < MAPS; k++) {
		ids[k] = id_of(s->maps[k]);
		close(s->maps[k]);
	}
	EXPECT_TRUE(EVENTUALLY(gone(ids, MAPS)));
	for (int k = 0; k < MAPS; k++)
		s->maps[k] = create_with(WORDS * 8, 0);
}

TEST_F(diag_race, dumps_stand_changing_values)
{
	void *(*bodies[])(void *) = { dump_all, dump_named, give_up,
				      change_values, change_values };

	run_threads(&self->s, 5, bodies, 2);
	check_end(_metadata, &self->s);
}

TEST_F(diag_race, dumps_stand_changing_maps)
{
	void *(*bodies[])(void *) = { dump_all, dump_named, give_up,
				      change_maps, change_maps };

	if (is_stock())
		SKIP(return, "stock shows values that nobody wrote");
	run_threads(&self->s, 5, bodies, 2);
	check_end(_metadata, &self->s);
}

/* SOCKETS stands for all that come and go. */
static int index_of(const struct shared *s, __u64 cookie)
{
	int i = 0;

	while (i < SOCKETS && s->cookies[i] != cookie)
		i++;
	return i;
}

/*
 * A dump counts its way through a bucket of sockets: where others go away it
 * may miss one, so that only values are checked here.
 */
static void *dump_passing(void *arg)
{
	struct shared *s = arg;

	do {
		struct dump dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);
		const struct nlmsghdr *nlh;
		size_t left;

		for_each_message(nlh, &dump, left) {
			int i = index_of(s, cookie_in(nlh));
			struct found found = {};

			take_message(&found, nlh);
			for (int k = 0; k < found.n; k++)
				if (!whole(&found.values[k], i))
					count(&s->wrong);
			if (i == SOCKETS)
				count(&s->met);
		}
		if (dump.err)
			count(&s->wrong);
		free(dump.data);
	} while (any_busy(s));
	return NULL;
}

static void *pass_by(void *arg)
{
	int sockets[SOCKETS];
	struct shared *s = arg;

	for (int r = 0; another(s, r, rounds() * 2); r++) {
		for (int i = 0; i < SOCKETS; i++) {
			sockets[i] = tcp_listener();
			for (int k = 0; k < MAPS; k++)
				set_words(s->maps[k], sockets[i], SOCKETS,
					  WORDS, r);
		}
		for (int i = 0; i < SOCKETS; i++)
			close(sockets[i]);
	}
	done(s);
	return NULL;
}

TEST_F(diag_race, dumps_stand_sockets_that_go_away)
{
	void *(*bodies[])(void *) = { dump_passing, dump_passing, give_up,
				      pass_by, pass_by };

	run_threads(&self->s, 5, bodies, 2);
	check_end(_metadata, &self->s);
}

/* Requests for one socket. */
static void *ask_alone(void *arg)
{
	struct shared *s = arg;
	struct sockaddr_in6 any = {};

	do {
		for (int i = 0; i < SOCKETS; i++) {
			struct request r;
			struct found found;
			struct dump dump;

			ask_storage(&r, AF_INET, IPPROTO_TCP, s->maps,
				    i % 2 ? MAPS : 0);
			ask_one(&r, s->sockets[i], &s->addrs[i], &any);
			dump = run(&r);
			found = find(&dump, s->sockets[i]);
			if (dump.err)
				count(&s->wrong);
			check_found(s, i, &found);
			free(dump.data);
		}
	} while (any_busy(s));
	return NULL;
}

TEST_F(diag_race, requests_for_one_socket_stand_changes)
{
	void *(*bodies[])(void *) = { ask_alone, ask_alone, change_maps,
				      change_values };

	if (is_stock())
		SKIP(return, "the base shows no values then");
	run_threads(&self->s, 4, bodies, 2);
	check_end(_metadata, &self->s);
}

TEST_HARNESS_MAIN
