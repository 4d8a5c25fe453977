/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs and the tests that drive them agree on. */
#ifndef _SHARED_H
#define _SHARED_H

/*
 * getsockopt(fd, LEVEL(value), OP(map, op)) makes a program do something to
 * the socket's value in a map: MAIN_MAP, or a number in the array of maps.
 * The program gets no data from its caller but these two numbers.
 */
#define LEVEL(value)	(0x5eed << 16 | (value))
#define IS_LEVEL(level)	((level) >> 16 == 0x5eed)
#define VALUE_OF(level)	((level) & 0xffff)
#define MAP_SHIFT	8
#define MAIN_MAP	0xffff
#define OP(map, op)	((map) << MAP_SHIFT | (op))

enum {
	DO_GET,			/* no flags */
	DO_CREATE,		/* zeroes */
	DO_CREATE_WITH,		/* the initial value */
	DO_ADD,			/* create, and add the value */
	DO_DELETE,
	DO_BAD_FLAGS,
};

#define OUTER_ENTRIES	1100

/* How often a program of the cost test repeats what it measures. */
#define IN_PROGRAM	1000

/* The maps that one of its programs hits: do(0, arg), do(1, arg), ... */
#define FOR_EACH_SUBJECT(do, arg)					\
	TEN_SUBJECTS(do, arg, ) TEN_SUBJECTS(do, arg, 1)		\
	TEN_SUBJECTS(do, arg, 2) TEN_SUBJECTS(do, arg, 3)
#define TEN_SUBJECTS(do, arg, tens)					\
	do(tens##0, arg) do(tens##1, arg) do(tens##2, arg)		\
	do(tens##3, arg) do(tens##4, arg) do(tens##5, arg)		\
	do(tens##6, arg) do(tens##7, arg) do(tens##8, arg)		\
	do(tens##9, arg)
#define NR_SUBJECTS	40

/* What getsockopt() hands out. */
struct answer {
	long long err;		/* of delete; -1 where get returned NULL */
	unsigned long long value;
};

/* What programs leave in a value that they make. */
#define INITIAL		42

/* The numbers of a value with a lock, all the same unless it is torn. */
#define WHOLE_NUMBERS	63

/* How a program meets a request socket. */
enum { BY_SKB, BY_LOOKUP, BY_CAST, BY_TRACEPOINT, WAYS };

struct meetings {
	unsigned int count, got, deleted;
};

/* A digit for each hook that a socket has been to, the last one lowest. */
enum {
	AT_CREATE = 1, AT_BIND, AT_ACCEPT, AT_SEND, AT_SHUTDOWN, AT_CLONE,
};

#define PATH1(a)	(a)
#define PATH2(a, b)	(PATH1(a) * 8 + (b))
#define PATH3(a, b, c)	(PATH2(a, b) * 8 + (c))

/*
 * What an iterator can print of one element: two of WIDE do not fit into the
 * buffer of a read, and one of TOO_WIDE does not either.
 */
#define WIDE		20000
#define TOO_WIDE	40000

/*
 * The fd below which tracing programs look for the socket of a test: there is
 * room for as many as a long of the kernel's has bits where they look.
 */
#ifdef __bpf__
#define NR_FDS		(sizeof(((struct files_struct *)0)->fd_array) / 8)
#else
#define NR_FDS		(8 * (int)sizeof(long))
#endif
#define SK_FD		(NR_FDS - 4)

/* What tracing programs are to do to that socket. */
enum {
	TRY_GET = 1,
	TRY_CREATE = 2,		/* with INITIAL */
	TRY_DELETE = 4,
};

/* How often they ran in which context, and what the helpers told them. */
struct seen {
	unsigned long long runs, in_task, in_softirq, in_hardirq, in_nmi;
	unsigned long long sockets, got, created;
	unsigned long long deleted, missing, busy, denied, invalid;
	/* Of a socket that is NULL. */
	unsigned long long null_got, null_denied, null_invalid;
};

/*
 * What a program saw when it did everything to the value of an owner that had
 * none, and left INITIAL in it.  Values are -1 where get returned NULL.
 */
struct report {
	long long calls;
	long long absent, delete_absent;
	long long created, existing, bad_flags;
	long long deleted, after_delete, deleted_again;
	long long initial;
	long long null_get, null_delete;
};

/* How programs call get: which map, which flags, and what they do next. */
enum {
	CALL_GET, CALL_CREATE, CALL_MOVED, CALL_IF_FOUND, CALL_EITHER,
	/* These stay calls. */
	CALL_INNER, CALL_TWO_MAPS, CALL_IN_DATA, CALL_ODD, CALL_ODD_TOO,
	NR_CALLS,
};

/* Of the packets for which they do so. */
#define INLINE_MARK	0x5eed

#endif /* _SHARED_H */
