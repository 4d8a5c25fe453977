// SPDX-License-Identifier: GPL-2.0
#include "operate.h"

int start_operator(struct operator *operator)
{
	__u32 flags = BPF_F_NO_PREALLOC | operator->flags;
	int template, err;

	operator->cgroup = root_cgroup();
	operator->link = NULL;
	operator->skel = sockopt__open();
	if (!operator->skel)
		return -errno;
	bpf_map__set_map_flags(operator->skel->maps.main_map, flags);
	template = create_with(8, operator->flags);
	bpf_map__set_inner_map_fd(operator->skel->maps.outer, template);
	err = sockopt__load(operator->skel);
	close(template);
	if (err)
		return err;
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
