// SPDX-License-Identifier: GPL-2.0
#include "operate.h"

int start_operator(struct operator *operator)
{
	operator->cgroup = root_cgroup();
	operator->skel = sockopt__open_and_load();
	if (!operator->skel)
		return -errno;
	operator->link =
		bpf_program__attach_cgroup(operator->skel->progs.on_getsockopt,
					   operator->cgroup);
	return operator->link ? 0 : -errno;
}

void end_operator(struct operator *operator)
{
	bpf_link__destroy(operator->link);
	sockopt__destroy(operator->skel);
	close(operator->cgroup);
}

struct answer operate(int fd, unsigned int map, int op, __u16 value)
{
	struct answer answer = { .err = -EPROTO };
	socklen_t len = sizeof(answer);

	if (getsockopt(fd, LEVEL(value), OP(map, op), &answer, &len))
		answer.err = -errno;
	return answer;
}
