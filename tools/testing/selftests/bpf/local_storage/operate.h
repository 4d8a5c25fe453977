/* SPDX-License-Identifier: GPL-2.0 */
/* A program that does to sockets' values what getsockopt() tells it. */
#ifndef _OPERATE_H
#define _OPERATE_H

#include "net.h"
#include "sockopt.skel.h"

struct operator {
	struct sockopt *skel;
	struct bpf_link *link;
	int cgroup;
	/* Of its maps, besides those that they have. */
	__u32 flags;
};

/* Load and attach it; 0 or the negative errno.  Either way, it is to be ended. */
int start_operator(struct operator *operator);
void end_operator(struct operator *operator);

/* Let it do op to a socket's value in a map; see progs/shared.h. */
struct answer operate(int fd, unsigned int map, int op, __u16 value);

#endif /* _OPERATE_H */
