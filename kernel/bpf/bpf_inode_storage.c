// SPDX-License-Identifier: GPL-2.0
/*
 * Inode storage: local storage whose owners are inodes.
 *
 * An inode's pointer is in its security blob, so there is one only where the
 * BPF LSM is on.  To the core, our part of the blob is the owner: unlike the
 * inode's pointer to it, it cannot change.  An inode keeps its values until it
 * is evicted; the blob stays for an RCU grace period, in which it refuses new
 * values.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/bpf_lsm.h>
#include <linux/btf_ids.h>
#include <linux/file.h>
#include <linux/filter.h>
#include <linux/fs.h>

static DEFINE_BPF_LOCAL_STORAGE_SLOTS(inode_slots);

BTF_ID_LIST_SINGLE(inode_btf_id, struct, inode)

static void *inode_get_fd(int fd, void **ref)
{
	struct file *file = fget_raw(fd);
	struct bpf_storage_blob *blob;

	if (!file)
		return ERR_PTR(-EBADF);
	blob = bpf_inode(file_inode(file));
	if (!blob) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	*ref = file;
	return blob;
}

static void inode_put_ref(void *ref)
{
	fput(ref);
}

static struct bpf_insn *
inode_gen_storage(struct bpf_insn *insn,
		  const struct bpf_local_storage_call *call)
{
	int offset = bpf_lsm_blob_sizes.lbs_inode +
		     offsetof(struct bpf_storage_blob, storage);

	/* As bpf_inode() does; without the LSM there is no map to look in. */
	if (offset > S16_MAX)
		return NULL;
	BUILD_BUG_ON(offsetof(struct inode, i_security) > S16_MAX);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_2,
			      offsetof(struct inode, i_security));
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, 0,
			      BPF_LOCAL_STORAGE_IF_NULL);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_0,
			      offset);
	return insn;
}

static const struct bpf_local_storage_kind inode_kind = {
	.pointer = offsetof(struct bpf_storage_blob, storage),
	.get_fd = inode_get_fd,
	.put_ref = inode_put_ref,
	.gen_storage = inode_gen_storage,
	.slots = &inode_slots,
};

/**
 * bpf_inode_storage_free - free what an inode keeps
 * @inode: the inode, about to be freed
 *
 * Context: Process or softirq.
 */
void bpf_inode_storage_free(struct inode *inode)
{
	struct bpf_storage_blob *blob = bpf_inode(inode);

	if (blob)
		bpf_local_storage_destroy(blob, &inode_kind);
}

static struct bpf_map *inode_map_alloc(union bpf_attr *attr)
{
	if (!bpf_lsm_initialized)
		return ERR_PTR(-EOPNOTSUPP);
	return bpf_local_storage_map_alloc(attr, &inode_kind);
}

const struct bpf_map_ops inode_storage_map_ops = {
	BPF_LOCAL_STORAGE_MAP_OPS,
	.map_alloc = inode_map_alloc,
};

/* @gfp is not an argument of the program's: the verifier sets it. */
BPF_CALL_5(bpf_inode_storage_get, struct bpf_map *, map, struct inode *, inode,
	   void *, value, u64, flags, gfp_t, gfp)
{
	struct bpf_storage_blob *blob = inode ? bpf_inode(inode) : NULL;

	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!blob || flags > BPF_LOCAL_STORAGE_GET_F_CREATE)
		return (unsigned long)NULL;
	return (unsigned long)bpf_local_storage_get(blob, map, value, flags,
						    gfp);
}

BPF_CALL_2(bpf_inode_storage_delete, struct bpf_map *, map, struct inode *,
	   inode)
{
	struct bpf_storage_blob *blob = inode ? bpf_inode(inode) : NULL;

	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!blob)
		return -EINVAL;
	return bpf_local_storage_delete(blob, to_local_storage_map(map));
}

const struct bpf_func_proto bpf_inode_storage_get_proto = {
	.func = bpf_inode_storage_get,
	.ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &inode_btf_id[0],
	.arg3_type = ARG_PTR_TO_MAP_VALUE_OR_NULL,
	.arg4_type = ARG_ANYTHING,
};

const struct bpf_func_proto bpf_inode_storage_delete_proto = {
	.func = bpf_inode_storage_delete,
	.ret_type = RET_INTEGER,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &inode_btf_id[0],
};
