// SPDX-License-Identifier: GPL-2.0
/* Memory that runs out for a thread, in a function of the kernel's. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/failslab.h"

char _license[] SEC("license") = "GPL";

#define ENOMEM	12

/* The thread, in which of its calls, and from which allocation on; 0: none. */
int thread, fail_in, fail_from;
/* What came of it. */
int calls, failures;
/* The number of the last map that was made. */
int number;

static int inside, allocations, balancer;

static bool IS_ERR(const void *pointer)
{
	return (unsigned long)pointer >= -4095UL;
}

static int current_thread(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

/* These two are attached to the function. */

SEC("?fentry/bpf_mem_alloc_init")
int BPF_PROG(function_begins)
{
	if (current_thread() != thread || ++calls != fail_in)
		return 0;
	allocations = 0;
	inside = thread;
	return 0;
}

SEC("?fexit/bpf_mem_alloc_init")
int BPF_PROG(function_ends)
{
	if (current_thread() == thread)
		inside = 0;
	return 0;
}

SEC("?fmod_ret/should_failslab")
int BPF_PROG(no_block, struct kmem_cache *cache)
{
	if (!inside || current_thread() != inside || is_debugging(cache))
		return 0;
	if (++allocations < fail_from)
		return 0;
	failures++;
	return -ENOMEM;
}

/* Pages for what each CPU has, which others get ready in the background. */

SEC("?fentry/pcpu_balance_workfn")
int BPF_PROG(balance_begins)
{
	balancer = current_thread();
	return 0;
}

SEC("?fexit/pcpu_balance_workfn")
int BPF_PROG(balance_ends)
{
	balancer = 0;
	return 0;
}

SEC("?fmod_ret/should_fail_alloc_page")
int BPF_PROG(no_page)
{
	int me = current_thread();

	if (me && me == balancer && fail_in)
		return 1;
	if (!inside || me != inside || allocations + 1 < fail_from)
		return 0;
	failures++;
	return 1;
}

struct bpf_local_storage_map___ours {
	__u32 number;
} __attribute__((preserve_access_index));

SEC("?fexit/bpf_local_storage_map_alloc")
int BPF_PROG(map_made, void *attr, void *kind,
	     struct bpf_local_storage_map___ours *map)
{
	if (current_thread() == thread && !IS_ERR(map))
		number = BPF_CORE_READ(map, number);
	return 0;
}
