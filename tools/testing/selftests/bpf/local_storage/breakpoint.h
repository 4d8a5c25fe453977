/* SPDX-License-Identifier: GPL-2.0 */
/* Hardware breakpoints on what the kernel writes to. */
#ifndef _BREAKPOINT_H
#define _BREAKPOINT_H

#include "common.h"

#define MAX_CPUS	64

/*
 * Have an event at every write to an address, on every CPU; 0 or the negative
 * errno.  MAX_CPUS fds, of which those that are not used are below 0.
 */
int watch(int *breakpoints, __u64 address);
void remove_breakpoints(int *breakpoints);

/* Ends a test, or the setup of one, that wants some. */
#define NEEDS_BREAKPOINTS() do {					\
	if (!has_function("perf_bp_event"))				\
		SKIP(return, "this machine has no breakpoints");	\
} while (0)

#endif /* _BREAKPOINT_H */
