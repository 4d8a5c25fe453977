/* SPDX-License-Identifier: GPL-2.0 */
/* What makes a program one of tests. */
#ifndef _HARNESS_H
#define _HARNESS_H

#include "kselftest_harness.h"
#include "common.h"

/* A guard against hangs and nothing else: emulated machines are slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 900

/* Let the tests of a fixture run for each kind of local storage. */
#define EVERY_KIND_BUT_SOCKETS(fixture)					\
	FIXTURE_VARIANT(fixture) { __u32 type; };			\
	FIXTURE_VARIANT_ADD(fixture, task) {				\
		.type = BPF_MAP_TYPE_TASK_STORAGE,			\
	};								\
	FIXTURE_VARIANT_ADD(fixture, cgroup) {				\
		.type = BPF_MAP_TYPE_CGRP_STORAGE,			\
	};								\
	FIXTURE_VARIANT_ADD(fixture, inode) {				\
		.type = BPF_MAP_TYPE_INODE_STORAGE,			\
	}
#define EVERY_KIND(fixture)						\
	EVERY_KIND_BUT_SOCKETS(fixture);				\
	FIXTURE_VARIANT_ADD(fixture, socket) {				\
		.type = BPF_MAP_TYPE_SK_STORAGE,			\
	}

/* Ends a test, or the setup of one, that attaches a program to a function. */
#define NEEDS_TRAMPOLINES() do {					\
	if (!has_trampolines())						\
		SKIP(return, "no program goes to functions here");	\
} while (0)

#endif /* _HARNESS_H */
