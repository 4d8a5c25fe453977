/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs of the context test and the test agree on. */
#ifndef _CONTEXT_H
#define _CONTEXT_H

/* Programs of a kind; each has its own place to count in. */
#define PLACES		8
#define PROCESSORS	64

enum where { IN_TASK, IN_SOFTIRQ, IN_HARDIRQ, IN_NMI, CONTEXTS };

struct place {
	unsigned long long in[CONTEXTS];	/* runs */
	unsigned long long got, got_big;	/* values */
	unsigned long long null, busy;		/* refused */
	unsigned long long odd;			/* neither of what may be */
};

#define BIG_VALUE	(8 << 10)

#endif /* _CONTEXT_H */
