/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs that interrupt a change and their test agree on. */
#ifndef _NESTED_H
#define _NESTED_H

/* What is done where a change of the value in the map `same` was interrupted. */
enum nested_op {
	CREATE_SAME, DELETE_SAME,	/* that very value */
	CREATE_OTHER, DELETE_OTHER,	/* of the same owner, in another map */
	CREATE_APART, DELETE_APART,	/* of another owner, in another map */
	NESTED_OPS,
	CROSS,				/* what another processor is changing */
	MEET,				/* the same, which is interrupted, too */
	CREATE_LOCKED,			/* in a map with a lock in its value */
};

/* Initial values: of who was interrupted, and of who came between. */
#define OUTER_VALUE	42
#define NESTED_VALUE	77

/* How often what another processor is changing is changed each time. */
#define CROSSINGS	1

/* How often where two that have interrupted changes wait for each other. */
#define MEETINGS	4

/* How long one of them looks whether the other is there. */
#define LOOKS		(1 << 16)

/* Nanoseconds: a call that is refused sooner did not wait. */
#define AT_ONCE		100000000

struct crossed {
	unsigned long long created, deleted, missing;
	unsigned long long null, busy;	/* refused at once */
	unsigned long long late;	/* refused after a wait */
	unsigned long long odd;
	unsigned long long again;	/* waits after one in vain */
};

#endif /* _NESTED_H */
