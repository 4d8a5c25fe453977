// SPDX-License-Identifier: GPL-2.0
/*
 * What local storage costs in instructions, and in memory.  For a machine that
 * counts them: with vm/run -i a nanosecond is an instruction, and every figure
 * repeats exactly.  Each is printed as `# figure NAME VALUE`; bench/run puts
 * those of two kernels side by side.  With IN_SOCKETS in the environment, in a
 * kernel booted with bpf_sk_reserve=64, the values are in the sockets.
 */
#include "harness.h"
#include "figure.h"
#include "inet_diag.h"
#include "cost.skel.h"
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <sys/resource.h>

#define MAX_MAPS	OUTER_ENTRIES
#define SLOTS		16
#define FEW		1000
#define MANY		3000
#define TRIES		5
#define FIRST_WRITES	1000
#define UPDATES		5000
#define CHURNED		100000
#define ACCEPTS		300
#define DUMPED		10000
#define VALUES		4

struct rig {
	struct cost *skel;
	int maps[MAX_MAPS];
	int nr_maps;
};

static struct rig rig;

/* The same where it is another number in sockets. */
#define EXPECT_PLACED(name, value, most, most_in_socket)	\
	EXPECT_FIGURE(name, value, place() ? most_in_socket : most)

/* The number of a map that programs name, or -1. */
static int subject_number(const struct bpf_map *map)
{
	int number;

	return sscanf(bpf_map__name(map), "subject%d", &number) == 1 ? number :
								       -1;
}

/* The subjects are some of the rig's last maps, all the way through. */
static int put_subject(struct bpf_map *map, int nr_subjects, int last)
{
	int number = subject_number(map);
	int first = rig.nr_maps - last;

	if (number < 0)
		return 0;
	if (number >= nr_subjects)
		return bpf_map__set_autocreate(map, false);
	return bpf_map__reuse_fd(map,
				 rig.maps[first + number * last / nr_subjects]);
}

/* The programs that the test asked for, and none with a map it has not. */
static int load_only(bool (*wanted)(const char *name))
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, rig.skel->obj)
		bpf_program__set_autoload(prog, wanted(bpf_program__name(prog)));
	return cost__load(rig.skel);
}

static bool hits_subjects(const char *name)
{
	return !strcmp(name, "nothing") || !strcmp(name, "hit_subjects");
}

static bool is_other(const char *name)
{
	return strcmp(name, "hit_subjects");
}

static int allow_files(int nr)
{
	struct rlimit limit = { nr, nr };

	return setrlimit(RLIMIT_NOFILE, &limit);
}

/* Maps, of which the programs name nr_subjects of the last. */
static int set_up(int nr_maps, int nr_subjects, int last,
		  bool (*wanted)(const char *name))
{
	struct bpf_map *map;
	int template, err;

	err = allow_files(2 * MAX_MAPS);
	for (rig.nr_maps = 0; rig.nr_maps < nr_maps; rig.nr_maps++)
		rig.maps[rig.nr_maps] = create_with(8, place());
	rig.skel = cost__open();
	if (!rig.skel)
		return -1;
	rig.skel->rodata->nr_subjects = nr_subjects;
	template = create_with(8, place());
	bpf_map__set_inner_map_fd(rig.skel->maps.outer, template);
	bpf_object__for_each_map(map, rig.skel->obj)
		err = err ?: put_subject(map, nr_subjects, last);
	err = err ?: load_only(wanted);
	close(template);
	for (__u32 i = 0; !err && i < nr_maps; i++)
		err = bpf_map_update_elem(bpf_map__fd(rig.skel->maps.outer), &i,
					  &rig.maps[i], 0);
	return err;
}

static void tear_down(void)
{
	cost__destroy(rig.skel);
	while (rig.nr_maps)
		close(rig.maps[--rig.nr_maps]);
}

/* Nanoseconds that so many runs of a program on one new socket take. */
static long long run_prog(struct bpf_program *prog, int nr_values, int repeat)
{
	long long start = now();
	int err;

	rig.skel->bss->fresh = true;
	rig.skel->bss->nr_maps = nr_values;
	rig.skel->bss->failures = 0;
	err = run_on_packet(prog, repeat);
	return err || rig.skel->bss->failures ? -1 : now() - start;
}

/* The least of several times: now and then a timer comes in between. */
static long long least_of(struct bpf_program *prog, int nr_values, int repeat)
{
	long long least = run_prog(prog, nr_values, repeat), took;

	for (int i = 1; i < TRIES && least >= 0; i++) {
		took = run_prog(prog, nr_values, repeat);
		least = took < least ? took : least;
	}
	return least;
}

/* Instructions of one run, what happens only once taken out. */
static double per_run(struct bpf_program *prog, int nr_values)
{
	long long few = least_of(prog, nr_values, FEW);
	long long many = least_of(prog, nr_values, MANY);

	return few < 0 || many < 0 ? NAN : (double)(many - few) / (MANY - FEW);
}

/* Of a socket with nr_values values, a program less its shell. */
static double cost_of(struct bpf_program *prog, struct bpf_program *shell,
		      int nr_values)
{
	return per_run(prog, nr_values) - per_run(shell, nr_values);
}

FIXTURE(program) {
};

FIXTURE_SETUP(program)
{
	ASSERT_EQ(set_up(2, 1, 2, is_other), 0);
}

FIXTURE_TEARDOWN(program)
{
	tear_down();
}

#define COST_OF(prog, shell, nr_values) \
	cost_of(rig.skel->progs.prog, rig.skel->progs.shell, nr_values)

TEST_F(program, hits_a_value)
{
	__u64 key = 1, zero = 0;

	ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(rig.skel->maps.hash), &key,
				      &zero, 0), 0);
	EXPECT_PLACED("hit", COST_OF(hit, nothing, 1), 17, 19);
	EXPECT_PLACED("hit-or-create", COST_OF(hit_or_create, nothing, 1), 17,
		      19);
	EXPECT_PLACED("hit-full", COST_OF(hit_full, nothing_full, 1), 14, 16);
	EXPECT_PLACED("hit-helper",
		      COST_OF(hit_by_helper, nothing_by_helper, 1), 50, 60);
	SHOW_FIGURE("array", COST_OF(array_hit, nothing, 1));
	SHOW_FIGURE("hash", COST_OF(hash_hit, nothing, 1));
}

TEST_F(program, misses_a_value)
{
	EXPECT_PLACED("miss-bare", COST_OF(miss, nothing, 0), 15, 18);
}

TEST_F(program, creates_and_deletes)
{
	EXPECT_PLACED("create-delete", COST_OF(create_delete, nothing, 0), 1150,
		      175);
}

/* What a program measures itself, in so many runs; per run. */
static double elapsed_in(struct bpf_program *prog, int runs)
{
	char packet[64] = {};
	struct bpf_test_run_opts opts = {
		.sz = sizeof(opts), .repeat = 1,
		.data_in = packet, .data_size_in = sizeof(packet),
	};

	rig.skel->bss->elapsed = 0;
	for (int i = 0; i < runs; i++)
		if (bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) ||
		    !opts.retval)
			return NAN;
	return (double)rig.skel->bss->elapsed / runs;
}

TEST_F(program, writes_the_first_value)
{
	struct bpf_link *link;

	EXPECT_PLACED("first-write",
		      elapsed_in(rig.skel->progs.first_write, FIRST_WRITES) -
		      elapsed_in(rig.skel->progs.first_nothing, FIRST_WRITES),
		      700, 135);

	link = bpf_program__attach(rig.skel->progs.on_kmalloc);
	ASSERT_NE(link, NULL);
	ASSERT_GT(elapsed_in(rig.skel->progs.first_memory, 1), -1);
	EXPECT_PLACED("first-bytes", rig.skel->bss->bytes, 96, 0);
	EXPECT_PLACED("first-allocations", rig.skel->bss->allocations, 1, 0);
	bpf_link__destroy(link);
}

/* Per get, of a program that repeats it; the least, as above. */
static double repeated(struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	double least = 0, took;

	for (int i = 0; i < TRIES; i++) {
		rig.skel->bss->elapsed = 0;
		if (bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) ||
		    opts.retval % IN_PROGRAM || !opts.retval)
			return NAN;
		took = (double)rig.skel->bss->elapsed / IN_PROGRAM;
		if (!i || took < least)
			least = took;
	}
	return least;
}

TEST_F(program, hits_the_value_of_a_task_and_of_a_cgroup)
{
	double nothing = repeated(rig.skel->progs.task_nothing);

	EXPECT_FIGURE("hit-task", repeated(rig.skel->progs.task_hit) - nothing,
		      15);
	EXPECT_FIGURE("hit-cgroup",
		      repeated(rig.skel->progs.cgroup_hit) - nothing, 15);
}

/* Beyond the slots, the hits are on maps without one. */
static double cost_among(int nr_maps)
{
	int last = nr_maps > SLOTS ? nr_maps - SLOTS : nr_maps;
	int nr = last < NR_SUBJECTS ? last : NR_SUBJECTS;
	double cost = NAN;

	if (!set_up(nr_maps, nr, last, hits_subjects))
		cost = COST_OF(hit_subjects, nothing, nr_maps) / nr;
	tear_down();
	return cost;
}

TEST(every_map_is_found)
{
	static const int maps[] = { 1, 16, 17, 32, 100, 1000 };
	char name[16];

	for (int i = 0; i < ARRAY_SIZE(maps); i++) {
		snprintf(name, sizeof(name), "maps-%d", maps[i]);
		EXPECT_FIGURE(name, cost_among(maps[i]), 35);
	}
}

TEST(bpf_updates_a_value)
{
	int map = create_with(8, 0), sk = tcp_socket();
	long long start;

	ASSERT_EQ(update(map, sk, 1, BPF_ANY), 0);
	/* Let others' garbage be collected. */
	sleep(2);
	start = now();
	for (int i = 0; i < UPDATES; i++)
		update(map, sk, i, BPF_ANY);
	EXPECT_FIGURE("update", (double)(now() - start) / UPDATES, 2300);
	EXPECT_EQ(lookup(map, sk), UPDATES - 1);
	close(sk);
	close(map);
}

/* What is freed late, after grace periods, is a part of it. */
TEST(sockets_come_and_go)
{
	int map = create_with(8, 0), err = 0;
	long long start = now();

	for (int i = 0; i < CHURNED; i++) {
		int sk = tcp_socket();

		err = err ?: update(map, sk, i, BPF_NOEXIST);
		close(sk);
	}
	EXPECT_FIGURE("churn", (double)(now() - start) / CHURNED, 10500);
	EXPECT_EQ(err, 0);
	close(map);
}

/* A connection to the listener at addr; -1, or what it took. */
static long long connect_and_accept(int listener, struct sockaddr_in6 *addr)
{
	struct linger reset = { .l_onoff = 1 };
	int client = tcp_socket(), child;
	long long start = now(), took;
	int err;

	err = connect(client, (void *)addr, sizeof(*addr));
	child = accept(listener, NULL, NULL);
	took = now() - start;
	/* Nothing is to be left in TIME_WAIT. */
	setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(client);
	close(child);
	return err || child < 0 ? -1 : took;
}

static int by_size(const void *a, const void *b)
{
	const long long *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* The median of so many. */
static double cost_of_accept(int nr_maps)
{
	int maps[VALUES], sk, err = 0;
	struct sockaddr_in6 addr;
	long long took[ACCEPTS];

	sk = listener(AF_INET, IPPROTO_TCP, &addr);
	for (int i = 0; i < nr_maps; i++) {
		maps[i] = create_with(8, BPF_F_CLONE | place());
		err = err ?: update(maps[i], sk, i, BPF_ANY);
	}
	for (int i = 0; i < ACCEPTS; i++)
		took[i] = err ? -1 : connect_and_accept(sk, &addr);
	qsort(took, ACCEPTS, sizeof(*took), by_size);
	for (int i = 0; i < nr_maps; i++)
		close(maps[i]);
	close(sk);
	return took[0] < 0 ? NAN : took[ACCEPTS / 2];
}

TEST(accept_clones_values)
{
	double bare;

	ASSERT_EQ(network_err, 0);
	bare = cost_of_accept(0);
	SHOW_FIGURE("accept", bare);
	EXPECT_PLACED("accept-1", cost_of_accept(1) - bare, 800, 80);
	EXPECT_PLACED("accept-4", cost_of_accept(4) - bare, 1400, 300);
}

/* Instructions per socket of a dump of them all; NAN if it fails. */
static double cost_of_dump(void)
{
	struct dump dump;
	long long start;
	bool complete;
	double took;

	/* Memory that userspace has already, as a second dump finds it. */
	free(dump_storage(AF_INET, IPPROTO_TCP, NULL, 0).data);
	start = now();
	dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);
	took = (double)(now() - start) / DUMPED;
	complete = !dump.err && count_messages(&dump) == DUMPED;
	free(dump.data);
	return complete ? took : NAN;
}

TEST(diag_dumps_many_sockets)
{
	static int sockets[DUMPED];
	int maps[VALUES], err = 0;
	double bare, full;

	ASSERT_EQ(network_err, 0);
	ASSERT_EQ(allow_files(DUMPED + 100), 0);
	for (int i = 0; i < VALUES; i++)
		maps[i] = create_with(8, place());
	/* What is freed stays with userspace. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	for (int i = 0; i < DUMPED; i++)
		sockets[i] = tcp_listener();
	bare = cost_of_dump();
	for (int i = 0; i < DUMPED; i++)
		for (int m = 0; m < VALUES; m++)
			err = err ?: update(maps[m], sockets[i], i, BPF_ANY);
	ASSERT_EQ(err, 0);
	full = cost_of_dump();
	SHOW_FIGURE("diag-bare", bare);
	EXPECT_FIGURE("diag", full, 3800);
	EXPECT_FIGURE("diag-adds", full - bare, 2000);
	for (int i = 0; i < DUMPED; i++)
		close(sockets[i]);
	for (int i = 0; i < VALUES; i++)
		close(maps[i]);
}

TEST_HARNESS_MAIN
