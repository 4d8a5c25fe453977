/* SPDX-License-Identifier: GPL-2.0 */
/* Figures that tests print, for bench/run to compare. */
#ifndef _FIGURE_H
#define _FIGURE_H

#include "harness.h"
#include <time.h>

static inline long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline double figure(const char *name, double value)
{
	printf("# figure %s%s %.10g\n", place() ? "reserved-" : "", name, value);
	return value;
}

/* Print what is not local storage's own, and only there to compare with. */
#define SHOW_FIGURE(name, value)				\
	EXPECT_GE(figure(name, value), 0)

/*
 * Print a figure.  On our kernel it must not exceed @most; the base's is there
 * to be compared with.
 */
static inline bool within(const char *name, double value, double most)
{
	figure(name, value);
	/* A tick of the clock in between adds a part of an instruction. */
	return value >= 0 && (is_stock() || value < most + 0.5);
}

#define EXPECT_FIGURE(name, value, most)			\
	EXPECT_TRUE(within(name, value, most))

#endif /* _FIGURE_H */
