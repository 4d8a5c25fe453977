/* SPDX-License-Identifier: GPL-2.0 */
/* Memory that runs out for this thread, in a function of the kernel's. */
#ifndef _SCARCE_H
#define _SCARCE_H

#include "common.h"

/* Whether this kernel lets allocations fail. */
bool can_be_scarce(void);

/* In which; 0 or the negative errno.  It ends with end_scarcity(). */
int begin_scarcity(const char *function);
void end_scarcity(void);

/*
 * In the given call of it from now on, each allocation from a certain one on is
 * to fail.  Memory for each CPU counts if it takes new pages.
 */
void run_out(int call, int allocation);

/* Let there be memory again; whether there was too little. */
bool ran_out(void);

/* The number of the last map of this thread's for which there was enough. */
int map_number(void);

#endif /* _SCARCE_H */
