/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Local storage: values that BPF programs keep with a kernel object, the
 * owner.  This is what the rest of the kernel calls.
 */
#ifndef _BPF_LOCAL_STORAGE_H
#define _BPF_LOCAL_STORAGE_H

#include <linux/types.h>
#include <uapi/linux/bpf.h>

struct bpf_func_proto;
struct bpf_insn;
struct bpf_map;
struct bpf_prog;
struct bpf_verifier_env;
struct cgroup;
struct task_struct;

/*
 * The largest value, in bytes.  Part of the UAPI: with its netlink attributes
 * a value has to fit in the 16 bits of an attribute's length.
 */
#define BPF_LOCAL_STORAGE_MAX_VALUE_SIZE	(U16_MAX - 128)

/* Programs that are being loaded */

/* Get helpers, which may create: their fifth argument is a gfp_t. */
static inline bool bpf_is_storage_get(enum bpf_func_id func_id)
{
	switch (func_id) {
	case BPF_FUNC_sk_storage_get:
	case BPF_FUNC_task_storage_get:
	case BPF_FUNC_cgrp_storage_get:
	case BPF_FUNC_inode_storage_get:
		return true;
	default:
		return false;
	}
}

/* What is true of a call of a get helper on at least one path. */
enum bpf_storage_get_flags {
	BPF_STORAGE_GET_MAYBE_NULL = 1,	/* the owner may be NULL */
	BPF_STORAGE_GET_MAYBE_MINI = 2,	/* a socket may not be a full one */
	BPF_STORAGE_GET_CREATES = 4,	/* BPF_LOCAL_STORAGE_GET_F_CREATE */
	BPF_STORAGE_GET_FLAGS_VARY = 8,	/* or are unknown */
};

u32 bpf_local_storage_gen_get(struct bpf_verifier_env *env, int insn_idx,
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
