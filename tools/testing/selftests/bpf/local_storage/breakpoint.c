// SPDX-License-Identifier: GPL-2.0
#include "breakpoint.h"
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>

static int breakpoint(__u64 address, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W, .bp_addr = address,
		.bp_len = HW_BREAKPOINT_LEN_8, .sample_period = 1,
	};

	return syscall(SYS_perf_event_open, &attr, -1, cpu, -1,
		       PERF_FLAG_FD_CLOEXEC);
}

int watch(int *breakpoints, __u64 address)
{
	for (int i = 0; i < cpus(); i++) {
		breakpoints[i] = breakpoint(address, i);
		if (breakpoints[i] < 0)
			return -errno;
	}
	return 0;
}

void remove_breakpoints(int *breakpoints)
{
	for (int i = 0; i < MAX_CPUS; i++) {
		if (breakpoints[i] >= 0)
			close(breakpoints[i]);
		breakpoints[i] = -1;
	}
}
