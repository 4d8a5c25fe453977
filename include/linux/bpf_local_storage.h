/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Local storage: values that BPF programs keep with a kernel object, the
 * owner.  This is what the rest of the kernel calls.
 */
#ifndef _BPF_LOCAL_STORAGE_H
#define _BPF_LOCAL_STORAGE_H

#include <linux/types.h>

struct bpf_func_proto;
struct bpf_insn;
struct bpf_map;
struct bpf_prog;
struct cgroup;
struct task_struct;

/*
 * The largest value, in bytes.  Part of the UAPI: with its netlink attributes
 * a value has to fit in the 16 bits of an attribute's length.
 */
#define BPF_LOCAL_STORAGE_MAX_VALUE_SIZE	(U16_MAX - 128)

/* Programs that are being loaded */

/**
 * struct bpf_local_storage_call - a call of a get helper in a program
 * @map: the map, the same on every path; or NULL to leave the call as it is
 * @fn: the helper
 * @maybe_null: on some path the owner may be NULL
 * @maybe_mini: on some path a socket may not be a full one
 * @creates: on some path the flags are BPF_LOCAL_STORAGE_GET_F_CREATE, not 0
 * @percpu: the program can address per-CPU variables
 * @gfp: how the helper may allocate
 */
struct bpf_local_storage_call {
	struct bpf_map *map;
	const struct bpf_func_proto *fn;
	bool maybe_null;
	bool maybe_mini;
	bool creates;
	bool percpu;
	gfp_t gfp;
};

u32 bpf_local_storage_gen_get(const struct bpf_local_storage_call *call,
			      const struct bpf_insn *old,
			      struct bpf_insn *insns);

gfp_t bpf_local_storage_gfp(const struct bpf_prog *prog, bool may_sleep);
int bpf_local_storage_use_map(struct bpf_map *map, const struct bpf_prog *prog);

/* Kinds of owners */

extern const struct bpf_func_proto bpf_task_storage_get_proto;
extern const struct bpf_func_proto bpf_task_storage_delete_proto;
extern const struct bpf_func_proto bpf_cgrp_storage_get_proto;
extern const struct bpf_func_proto bpf_cgrp_storage_delete_proto;
extern const struct bpf_func_proto bpf_inode_storage_get_proto;
extern const struct bpf_func_proto bpf_inode_storage_delete_proto;

#ifdef CONFIG_BPF_SYSCALL
void bpf_task_storage_free(struct task_struct *task);
void bpf_cgrp_storage_free(struct cgroup *cgroup);
#else
static inline void bpf_task_storage_free(struct task_struct *task)
{
}

static inline void bpf_cgrp_storage_free(struct cgroup *cgroup)
{
}
#endif

#endif /* _BPF_LOCAL_STORAGE_H */
