// SPDX-License-Identifier: GPL-2.0
#include "scarce.h"
#include "scarce.skel.h"
#include <sys/syscall.h>

static struct scarce *skel;

bool can_be_scarce(void)
{
	return !access("/sys/kernel/debug/failslab", F_OK) &&
	       !access("/sys/kernel/debug/fail_page_alloc", F_OK);
}

int begin_scarcity(const char *function)
{
	struct bpf_program *prog;
	int err;

	skel = scarce__open();
	if (!skel)
		return -errno;
	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, true);
	bpf_program__set_attach_target(skel->progs.function_begins, 0, function);
	bpf_program__set_attach_target(skel->progs.function_ends, 0, function);
	err = scarce__load(skel) ?: scarce__attach(skel);
	skel->bss->thread = syscall(SYS_gettid);
	return err;
}

void end_scarcity(void)
{
	scarce__destroy(skel);
	skel = NULL;
}

void run_out(int call, int allocation)
{
	skel->bss->calls = 0;
	skel->bss->failures = 0;
	skel->bss->fail_from = allocation;
	skel->bss->fail_in = call;
}

bool ran_out(void)
{
	skel->bss->fail_in = 0;
	return skel->bss->failures;
}

int map_number(void)
{
	return skel->bss->number;
}
