// SPDX-License-Identifier: GPL-2.0
/* What libbpf and bpftool find out about the kernel's local storage. */
#include "harness.h"

FIXTURE(probe) {
};

EVERY_KIND(probe);

FIXTURE_SETUP(probe)
{
	libbpf_set_print(NULL);
}

FIXTURE_TEARDOWN(probe)
{
}

TEST_F(probe, libbpf_finds_the_map_type)
{
	EXPECT_EQ(libbpf_probe_bpf_map_type(variant->type, NULL), 1);
}

/* For each program type, which helpers it has. */
enum {
	S = 1,	/* bpf_sk_storage_get() */
	D = 2,	/* bpf_sk_storage_delete() */
	T = 4,	/* both of tasks */
	C = 8,	/* both of cgroups */
	I = 16,	/* both of inodes */
};

static const struct {
	enum bpf_prog_type type;
	int has;
} rows[] = {
	{ BPF_PROG_TYPE_SOCKET_FILTER, C },
	{ BPF_PROG_TYPE_KPROBE, T | C },
	{ BPF_PROG_TYPE_SCHED_CLS, S | D | C },
	{ BPF_PROG_TYPE_SCHED_ACT, S | D | C },
	{ BPF_PROG_TYPE_TRACEPOINT, T | C },
	{ BPF_PROG_TYPE_XDP, C },
	{ BPF_PROG_TYPE_PERF_EVENT, T | C },
	{ BPF_PROG_TYPE_CGROUP_SKB, S | D | C },
	{ BPF_PROG_TYPE_CGROUP_SOCK, S | C },
	{ BPF_PROG_TYPE_LWT_IN, C },
	{ BPF_PROG_TYPE_LWT_OUT, C },
	{ BPF_PROG_TYPE_LWT_XMIT, C },
	{ BPF_PROG_TYPE_SOCK_OPS, S | D | C },
	{ BPF_PROG_TYPE_SK_SKB, C },
	{ BPF_PROG_TYPE_CGROUP_DEVICE, C },
	{ BPF_PROG_TYPE_SK_MSG, S | D | C },
	{ BPF_PROG_TYPE_RAW_TRACEPOINT, T | C },
	{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, S | D | C },
	{ BPF_PROG_TYPE_LWT_SEG6LOCAL, C },
	{ BPF_PROG_TYPE_SK_REUSEPORT, C },
	{ BPF_PROG_TYPE_FLOW_DISSECTOR, C },
	{ BPF_PROG_TYPE_CGROUP_SYSCTL, C },
	{ BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, T | C },
	{ BPF_PROG_TYPE_CGROUP_SOCKOPT, S | D | C },
	{ BPF_PROG_TYPE_SK_LOOKUP, C },
	{ BPF_PROG_TYPE_SYSCALL, S | D | T | C },
};

static int expected(int has)
{
	return is_late() ? has | T : has;
}

static int helpers_of(enum bpf_prog_type type)
{
	const struct {
		enum bpf_func_id helper;
		int bit;
	} helpers[] = {
		{ BPF_FUNC_sk_storage_get, S },
		{ BPF_FUNC_sk_storage_delete, D },
		{ BPF_FUNC_task_storage_get, T },
		{ BPF_FUNC_cgrp_storage_get, C },
		{ BPF_FUNC_inode_storage_get, I },
	};
	int has = 0;

	for (int i = 0; i < ARRAY_SIZE(helpers); i++)
		if (libbpf_probe_bpf_helper(type, helpers[i].helper, NULL) == 1)
			has |= helpers[i].bit;
	return has;
}

TEST(libbpf_finds_the_helpers)
{
	libbpf_set_print(NULL);
	for (int i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *name = libbpf_bpf_prog_type_str(rows[i].type);

		EXPECT_EQ(libbpf_probe_bpf_prog_type(rows[i].type, NULL), 1)
			TH_LOG("%s", name);
		EXPECT_EQ(helpers_of(rows[i].type), expected(rows[i].has))
			TH_LOG("%s", name);
	}
}

TEST(libbpf_finds_get_and_delete_together)
{
	const enum bpf_func_id gets[] = { BPF_FUNC_task_storage_get,
					  BPF_FUNC_cgrp_storage_get,
					  BPF_FUNC_inode_storage_get };

	libbpf_set_print(NULL);
	/* Each delete has the number that follows its get. */
	for (int i = 0; i < ARRAY_SIZE(rows); i++)
		for (int k = 0; k < ARRAY_SIZE(gets); k++) {
			enum bpf_prog_type type = rows[i].type;

			EXPECT_EQ(libbpf_probe_bpf_helper(type, gets[k], NULL),
				  libbpf_probe_bpf_helper(type, gets[k] + 1,
							  NULL));
		}
}

/* Where a program type's list of helpers begins in bpftool's output. */
static const char *list_of(const char *text, const char *type)
{
	char heading[128];
	const char *list;

	snprintf(heading, sizeof(heading), "supported for program type %s:",
		 type);
	list = strstr(text, heading);
	return list ? list + strlen(heading) : NULL;
}

/* Whether a helper is in a list, which the next heading ends. */
static bool lists(const char *list, const char *helper)
{
	const char *end = strstr(list, "supported for program type");
	const char *found = strstr(list, helper);

	return found && (!end || found < end);
}

TEST(bpftool_finds_types_and_helpers)
{
	const struct {
		const char *helper;
		int bit;
	} helpers[] = {
		{ "- bpf_sk_storage_get\n", S },
		{ "- bpf_sk_storage_delete\n", D },
		{ "- bpf_task_storage_get\n", T },
		{ "- bpf_task_storage_delete\n", T },
		{ "- bpf_cgrp_storage_get\n", C },
		{ "- bpf_cgrp_storage_delete\n", C },
		{ "- bpf_inode_storage_get\n", I },
		{ "- bpf_inode_storage_delete\n", I },
	};
	static char text[1 << 20];

	ASSERT_EQ(output_of_bpftool(text, sizeof(text), "feature probe kernel"),
		  0);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		char line[128];

		snprintf(line, sizeof(line),
			 "eBPF map_type %s is available\n",
			 libbpf_bpf_map_type_str(storage_types[i]));
		EXPECT_NE(strstr(text, line), NULL) TH_LOG("%s", line);
	}
	for (int i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *type = libbpf_bpf_prog_type_str(rows[i].type);
		const char *list = list_of(text, type);

		ASSERT_NE(list, NULL) TH_LOG("%s", type);
		for (int k = 0; k < ARRAY_SIZE(helpers); k++) {
			EXPECT_EQ(lists(list, helpers[k].helper),
				  !!(expected(rows[i].has) & helpers[k].bit))
				TH_LOG("%s %s", type, helpers[k].helper);
		}
	}
}

TEST_HARNESS_MAIN
