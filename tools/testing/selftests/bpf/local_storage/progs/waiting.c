// SPDX-License-Identifier: GPL-2.0
/* Create and delete so often that no grace period can keep up. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/storage.h"
#include "progs/waiting.h"

char _license[] SEC("license") = "GPL";

#define CREATE BPF_LOCAL_STORAGE_GET_F_CREATE

STORAGE(values, BPF_MAP_TYPE_TASK_STORAGE, char[WAITING_VALUE]);

int created, failed, deleted;

static long turn(__u32 i, void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (bpf_task_storage_get(&values, task, 0, CREATE))
		created++;
	else
		failed++;
	if (!bpf_task_storage_delete(&values, task))
		deleted++;
	return 0;
}

/* Where RCU Tasks Trace has to wait for the program, and where RCU has to. */

SEC("syscall")
int sleepable(void *ctx)
{
	bpf_loop(TURNS, turn, NULL, 0);
	return 0;
}

SEC("raw_tp")
int not_sleepable(void *ctx)
{
	bpf_loop(TURNS, turn, NULL, 0);
	return 0;
}
