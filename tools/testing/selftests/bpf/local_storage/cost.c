// SPDX-License-Identifier: GPL-2.0
/*
 * What a hit costs in instructions.  For a machine that counts them: with
 * vm/run -i a nanosecond is an instruction, and every figure repeats exactly.
 */
#include "common.h"
#include "cost.skel.h"

#define MAX_MAPS	OUTER_ENTRIES
#define FEW		1000
#define MANY		11000

struct rig {
	struct cost *skel;
	int maps[MAX_MAPS];
	int nr_maps;
};

static struct rig rig;

/* Nanoseconds that all runs of a program take on one new socket. */
static long long run(struct bpf_program *prog, int repeat)
{
	char packet[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts,
		.data_in = packet, .data_size_in = sizeof(packet),
		.repeat = repeat);

	rig.skel->bss->fresh = true;
	rig.skel->bss->hits = 0;
	if (bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) ||
	    rig.skel->bss->hits != repeat)
		return -1;
	/* It reports the average, rounded down. */
	return (long long)opts.duration * repeat;
}

/* Instructions of one run, what happens only once taken out. */
static double per_run(struct bpf_program *prog)
{
	long long few = run(prog, FEW), many = run(prog, MANY);

	return few < 0 || many < 0 ? -1e9 : (double)(many - few) / (MANY - FEW);
}

/* Maps, all of which every socket has a value of; hits are on first and on. */
static int set_up(int nr_maps, int first)
{
	rig.skel = cost__open_and_load();
	if (!rig.skel)
		return -1;
	rig.skel->bss->nr_maps = nr_maps;
	rig.skel->bss->first = first;
	for (__u32 i = 0; i < nr_maps; i++) {
		rig.maps[i] = create_with(8, 0);
		rig.nr_maps = i + 1;
		if (bpf_map_update_elem(bpf_map__fd(rig.skel->maps.outer), &i,
					&rig.maps[i], 0))
			return -1;
	}
	return 0;
}

static void tear_down(void)
{
	while (rig.nr_maps)
		close(rig.maps[--rig.nr_maps]);
	cost__destroy(rig.skel);
}

static double cost_of_hit(int nr_maps, int first)
{
	double cost = -1;

	if (!set_up(nr_maps, first))
		cost = per_run(rig.skel->progs.hit) -
		       per_run(rig.skel->progs.no_get);
	printf("# %4d maps, hits from the %dth on: %.0f instructions\n",
	       nr_maps, first + 1, cost);
	tear_down();
	return cost;
}

/* The program's own map, the prototype, takes one of the 16 slots. */
#define WITHOUT_SLOT	15

TEST(every_map_with_a_slot_costs_the_same)
{
	double one = cost_of_hit(1, 0), all = cost_of_hit(15, 0);

	ASSERT_GT(one, 0);
	EXPECT_LE(all, one + 2);
}

TEST(a_map_without_slot_costs_the_same_among_1000)
{
	double few = cost_of_hit(17, WITHOUT_SLOT);
	double many = cost_of_hit(1000, WITHOUT_SLOT);
	const char *flavour = getenv("FLAVOUR");

	ASSERT_GT(few, 0);
	if (flavour && !strcmp(flavour, "stock") && many > 1.2 * few)
		SKIP(return, "the base walks a list: %.0f of 17, %.0f of 1000",
		     few, many);
	EXPECT_LE(many, 1.2 * few);
}

TEST_HARNESS_MAIN
