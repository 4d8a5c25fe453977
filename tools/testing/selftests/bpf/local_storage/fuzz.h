/* SPDX-License-Identifier: GPL-2.0 */
/* Hostile input that can be repeated: what the fuzzers share. */
#ifndef _FUZZ_H
#define _FUZZ_H

#include "common.h"

#ifndef BPF_F_TOKEN_FD
#define BPF_F_TOKEN_FD	(1U << 16)
#endif

/*
 * A run is repeated exactly by $SEED; $CASES says how long it is, which is
 * less by default where everything is slower.  What a case does depends on the
 * seed, on its number and on the cases before it, and never on what the kernel
 * answers.
 */
void fuzz_start(long cases);

/* In seconds: a run has as long as whoever starts it asked for. */
#define GUARD	(24 * 3600)

/* A number that the environment has for this, or else another. */
long fuzz_wish(const char *name, long otherwise);

/* Let the calling thread begin the choices of its own, which have a number. */
void fuzz_thread(__u64 number);

/* Begin the next case; false after the last, and after too many failures. */
bool fuzz_next(void);
long fuzz_failures(void);

/* How many cases there have been, and what became of them. */
void fuzz_report(const char *what);

/* Numbers for the choices of a case. */
__u64 any(void);
__u32 below(__u32 limit);
bool one_in(__u32 n);

/* Make the choices since then once more. */
__u64 fuzz_choices(void);
void fuzz_again(__u64 choices);

/* A number at which something may end. */
__u64 odd_number(void);
void any_bytes(void *to, size_t size);

/* The same bytes for the same number. */
void fill(void *to, size_t size, __u64 number);

/* Say what is wrong with this case: its seed, its number and its bytes. */
void fuzz_bytes(const void *bytes, size_t size);
void complain(const char *format, ...) __printf(1, 2);

/* The errors that the faults of a case explain; without any, it succeeds. */
struct errors {
	int n, list[16];
};

void may_fail(struct errors *errors, int err);
bool explains(const struct errors *errors, int result);

/* Count a result; false if it is not one that the faults explain. */
bool expect_result(const struct errors *errors, int result, const char *what);

/* Memory of the user's, and how much of it there is. */
enum place {
	GOOD, ODD, READ_ONLY, STRADDLING, UNMAPPED, NO_MEMORY, OF_KERNEL,
	PLACES
};

struct memory {
	char *pages, *read_only;
	size_t size;
};

int new_memory(struct memory *memory, size_t size);

/* Where an object of that size is to be; good ones end at the end of a page. */
void *place_in(const struct memory *memory, enum place place, size_t size);

/* Where to write what is then found there, as far as it can be. */
void *source_in(const struct memory *memory, enum place place, size_t size);
enum place any_place(void);
bool is_readable(enum place place);
bool is_writable(enum place place);

/* All maps and programs that the kernel has. */
int count_objects(void);

/* Whether this kernel can have another user namespace. */
bool has_user_namespaces(void);

/* 0, or why there is none; the caller has no rights outside of it. */
int enter_user_namespace(void);

#endif /* _FUZZ_H */
