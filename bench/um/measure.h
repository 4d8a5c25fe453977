/* SPDX-License-Identifier: GPL-2.0 */
/* What the modules that measure share. */
#ifndef _MEASURE_H
#define _MEASURE_H

#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/prandom.h>
#include <linux/printk.h>
#include <linux/types.h>

#define MEASURE_PARTS	2000

/**
 * struct measure - what a step of a walk takes
 * @name: of the figure
 * @least: nanoseconds of each part of the walk, the least of all rounds
 *
 * Whatever else runs on the host adds to some parts of a round, and hardly
 * ever to the same ones of every round.
 */
struct measure {
	const char *name;
	u64 least[MEASURE_PARTS];
};

static inline void measure_part(struct measure *measure, int part, u64 start)
{
	u64 took = ktime_get_ns() - start;

	if (!measure->least[part] || took < measure->least[part])
		measure->least[part] = took;
}

/* What it is known to take so far, of so many steps in all. */
static inline void measure_report(const struct measure *measure, int nr)
{
	u64 sum = 0, picoseconds, nanoseconds;
	u32 rest;
	int i;

	for (i = 0; i < MEASURE_PARTS; i++)
		sum += measure->least[i];
	picoseconds = div_u64(sum * 1000, nr);
	nanoseconds = div_u64_rem(picoseconds, 1000, &rest);
	pr_info("figure %s %llu.%03u\n", measure->name, nanoseconds, rest);
}

/* The same order on every kernel, and of every array of this length. */
static inline void measure_shuffle(void **array, int nr)
{
	struct rnd_state state;
	int i, j;

	prandom_seed_state(&state, 1);
	for (i = nr - 1; i > 0; i--) {
		j = prandom_u32_state(&state) % (i + 1);
		swap(array[i], array[j]);
	}
}

#endif /* _MEASURE_H */
