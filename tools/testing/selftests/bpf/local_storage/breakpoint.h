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

#endif /* _BREAKPOINT_H */
