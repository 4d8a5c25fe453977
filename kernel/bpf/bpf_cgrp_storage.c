// SPDX-License-Identifier: GPL-2.0
/*
 * Cgroup storage: local storage whose owners are cgroups.
 *
 * A cgroup keeps its values until its last reference is gone.  After rmdir it
 * gets no new ones.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/btf_ids.h>
#include <linux/cgroup.h>
#include <linux/filter.h>

static DEFINE_BPF_LOCAL_STORAGE_SLOTS(cgrp_slots);

BTF_ID_LIST_SINGLE(cgrp_btf_id, struct, cgroup)

static void *cgrp_get_fd(int fd, void **ref)
{
	struct cgroup *cgroup = cgroup_v1v2_get_from_fd(fd);

	*ref = cgroup;
	return cgroup;
}

static void cgrp_put_ref(void *ref)
{
	cgroup_put(ref);
}

static const struct bpf_local_storage_kind cgrp_kind = {
	.pointer = offsetof(struct cgroup, bpf_cgrp_storage),
	.get_fd = cgrp_get_fd,
	.put_ref = cgrp_put_ref,
	.slots = &cgrp_slots,
};

/**
 * bpf_cgrp_storage_free - free what a cgroup keeps
 * @cgroup: the cgroup, about to be freed
 *
 * Context: Process.
 */
void bpf_cgrp_storage_free(struct cgroup *cgroup)
{
	bpf_local_storage_destroy(cgroup, &cgrp_kind);
}

static struct bpf_map *cgrp_map_alloc(union bpf_attr *attr)
{
	return bpf_local_storage_map_alloc(attr, &cgrp_kind);
}

const struct bpf_map_ops cgrp_storage_map_ops = {
	BPF_LOCAL_STORAGE_MAP_OPS,
	.map_alloc = cgrp_map_alloc,
};

/* @gfp is not an argument of the program's: the verifier sets it. */
BPF_CALL_5(bpf_cgrp_storage_get, struct bpf_map *, map, struct cgroup *, cgroup,
	   void *, value, u64, flags, gfp_t, gfp)
{
	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!cgroup || flags > BPF_LOCAL_STORAGE_GET_F_CREATE)
		return (unsigned long)NULL;
	if (percpu_ref_is_dying(&cgroup->self.refcnt))
		flags = 0;
	return (unsigned long)bpf_local_storage_get(cgroup, map, value, flags,
						    gfp);
}

BPF_CALL_2(bpf_cgrp_storage_delete, struct bpf_map *, map, struct cgroup *,
	   cgroup)
{
	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!cgroup)
		return -EINVAL;
	return bpf_local_storage_delete(cgroup, to_local_storage_map(map));
}

const struct bpf_func_proto bpf_cgrp_storage_get_proto = {
	.func = bpf_cgrp_storage_get,
	.ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &cgrp_btf_id[0],
	.arg3_type = ARG_PTR_TO_MAP_VALUE_OR_NULL,
	.arg4_type = ARG_ANYTHING,
};

const struct bpf_func_proto bpf_cgrp_storage_delete_proto = {
	.func = bpf_cgrp_storage_delete,
	.ret_type = RET_INTEGER,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &cgrp_btf_id[0],
};
