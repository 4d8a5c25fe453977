// SPDX-License-Identifier: GPL-2.0
/* Socket storage: the iterator over every socket that has a value in a map. */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/init.h>
#include <linux/seq_file.h>
#include <net/bpf_sk_storage.h>
#include <net/sock.h>

struct bpf_iter__bpf_sk_storage_map {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct bpf_map *, map);
	__bpf_md_ptr(struct sock *, sk);
	__bpf_md_ptr(void *, value);
};

DEFINE_BPF_ITER_FUNC(bpf_sk_storage_map, struct bpf_iter_meta *meta,
		     struct bpf_map *map, struct sock *sk, void *value)

static notrace bool bpf_sk_storage_hold(void *owner)
{
	return refcount_inc_not_zero(&((struct sock *)owner)->sk_refcnt);
}

static void bpf_sk_storage_put(void *owner)
{
	sock_put(owner);
}

static void *sk_seq_start(struct seq_file *seq, loff_t *pos)
{
	if (!*pos)
		++*pos;
	return bpf_local_storage_map_iter_start(seq->private);
}

static void *sk_seq_next(struct seq_file *seq, void *value, loff_t *pos)
{
	++*pos;
	return bpf_local_storage_map_iter_next(seq->private);
}

static int sk_seq_run(struct seq_file *seq, void *value)
{
	struct bpf_local_storage_map_iter *iter = seq->private;
	struct bpf_iter__bpf_sk_storage_map ctx = {
		.map = &iter->smap->map,
		.sk = iter->owner,
		.value = value,
	};
	struct bpf_iter_meta meta = { .seq = seq };
	struct bpf_prog *prog;

	prog = bpf_iter_get_info(&meta, !value);
	if (!prog)
		return 0;
	ctx.meta = &meta;
	return bpf_iter_run_prog(prog, &ctx);
}

static int sk_seq_show(struct seq_file *seq, void *value)
{
	return sk_seq_run(seq, value);
}

static void sk_seq_stop(struct seq_file *seq, void *value)
{
	if (!value)
		sk_seq_run(seq, NULL);
	bpf_local_storage_map_iter_stop(seq->private);
}

static const struct seq_operations sk_seq_ops = {
	.start = sk_seq_start,
	.next = sk_seq_next,
	.show = sk_seq_show,
	.stop = sk_seq_stop,
};

static int sk_seq_init(void *private, struct bpf_iter_aux_info *aux)
{
	struct bpf_local_storage_map_iter *iter = private;

	/* The link, which has another one, may go before this file. */
	bpf_map_inc_with_uref(aux->map);
	iter->smap = to_local_storage_map(aux->map);
	iter->get = bpf_sk_storage_hold;
	iter->put = bpf_sk_storage_put;
	return 0;
}

static void sk_seq_fini(void *private)
{
	struct bpf_local_storage_map_iter *iter = private;

	bpf_local_storage_map_iter_end(iter);
	bpf_map_put_with_uref(&iter->smap->map);
}

static const struct bpf_iter_seq_info sk_seq_info = {
	.seq_ops = &sk_seq_ops,
	.init_seq_private = sk_seq_init,
	.fini_seq_private = sk_seq_fini,
	.seq_priv_size = sizeof(struct bpf_local_storage_map_iter),
};

static int sk_iter_attach(struct bpf_prog *prog,
			  union bpf_iter_link_info *link,
			  struct bpf_iter_aux_info *aux)
{
	struct bpf_map *map;
	int err = 0;

	if (!link->map.map_fd)
		return -EBADF;
	map = bpf_map_get_with_uref(link->map.map_fd);
	if (IS_ERR(map))
		return PTR_ERR(map);
	if (map->map_type != BPF_MAP_TYPE_SK_STORAGE)
		err = -EINVAL;
	else if (map->map_flags & BPF_F_STORAGE_RESERVED)
		err = -EOPNOTSUPP;
	else if (prog->aux->max_rdwr_access > map->value_size)
		err = -EACCES;
	if (err)
		bpf_map_put_with_uref(map);
	else
		aux->map = map;
	return err;
}

static void sk_iter_detach(struct bpf_iter_aux_info *aux)
{
	bpf_map_put_with_uref(aux->map);
}

static struct bpf_iter_reg sk_iter_reg = {
	.target = "bpf_sk_storage_map",
	.attach_target = sk_iter_attach,
	.detach_target = sk_iter_detach,
	.show_fdinfo = bpf_iter_map_show_fdinfo,
	.fill_link_info = bpf_iter_map_fill_link_info,
	.feature = BPF_ITER_RESCHED,
	.ctx_arg_info_size = 2,
	.ctx_arg_info = {
		{ offsetof(struct bpf_iter__bpf_sk_storage_map, sk),
		  PTR_TO_BTF_ID_OR_NULL | PTR_TRUSTED },
		{ offsetof(struct bpf_iter__bpf_sk_storage_map, value),
		  PTR_TO_BUF | PTR_MAYBE_NULL },
	},
	.seq_info = &sk_seq_info,
};

static int __init sk_iter_init(void)
{
	sk_iter_reg.ctx_arg_info[0].btf_id = btf_sock_ids[BTF_SOCK_TYPE_SOCK];
	return bpf_iter_reg_target(&sk_iter_reg);
}
late_initcall(sk_iter_init);
