// SPDX-License-Identifier: GPL-2.0
/*
 * Socket storage: local storage whose owners are sockets.
 *
 * A socket keeps its values until __sk_destruct(); after that, only readers
 * under RCU can be on them, and it refuses new ones.  Whoever creates a value
 * holds a reference on the socket, so that it is charged to no other socket in
 * the same memory.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <linux/seq_file.h>
#include <net/bpf_sk_storage.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/sock.h>
#include <uapi/linux/sock_diag.h>

static DEFINE_BPF_LOCAL_STORAGE_SLOTS(sk_slots);

static int sk_charge(void *owner, u32 size)
{
	struct sock *sk = owner;
	int limit = READ_ONCE(sock_net(sk)->core.sysctl_optmem_max);
	int charged = atomic_read(&sk->sk_omem_alloc);

	do {
		if ((s64)charged + size >= limit)
			return -ENOMEM;
	} while (!atomic_try_cmpxchg(&sk->sk_omem_alloc, &charged,
				     charged + size));
	return 0;
}

static notrace void bpf_sk_storage_uncharge(void *owner, u32 size)
{
	atomic_sub(size, &((struct sock *)owner)->sk_omem_alloc);
}

static void *sk_get_fd(int fd, void **ref)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return ERR_PTR(err);
	*ref = sock;
	return sock->sk;
}

static void sk_put_ref(void *ref)
{
	struct socket *sock = ref;

	sockfd_put(sock);
}

/* Nothing but a full socket has a pointer to a storage: leave out the others. */
static struct bpf_insn *gen_fullsock(struct bpf_insn *insn)
{
	*insn++ = BPF_LDX_MEM(BPF_B, BPF_REG_0, BPF_REG_2,
			      offsetof(struct sock_common, skc_state));
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, TCP_TIME_WAIT,
			      BPF_LOCAL_STORAGE_TO_HELPER);
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, TCP_NEW_SYN_RECV,
			      BPF_LOCAL_STORAGE_TO_HELPER);
	return insn;
}

/* What bpf_sk_storage_get_tracing() asks first, where a program can ask it. */
static struct bpf_insn *gen_context(struct bpf_insn *insn)
{
#if defined(CONFIG_X86_64) && !defined(CONFIG_UML)
	struct bpf_insn address[] = {
		BPF_LD_IMM64(BPF_REG_0, (unsigned long)&pcpu_hot.preempt_count),
	};

	*insn++ = address[0];
	*insn++ = address[1];
	*insn++ = BPF_MOV64_PERCPU_REG(BPF_REG_0, BPF_REG_0);
	*insn++ = BPF_LDX_MEM(BPF_W, BPF_REG_0, BPF_REG_0, 0);
	*insn++ = BPF_JMP_IMM(BPF_JSET, BPF_REG_0, HARDIRQ_MASK | NMI_MASK,
			      BPF_LOCAL_STORAGE_TO_HELPER);
	return insn;
#else
	return NULL;
#endif
}

static struct bpf_insn *sk_gen_storage(struct bpf_insn *insn,
				       const struct bpf_local_storage_call *call)
{
	if (call->fn == &bpf_sk_storage_get_tracing_proto)
		insn = call->percpu ? gen_context(insn) : NULL;
	if (!insn)
		return NULL;
	if (call->maybe_mini)
		insn = gen_fullsock(insn);
	BUILD_BUG_ON(offsetof(struct sock, sk_bpf_storage) > S16_MAX);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_2,
			      offsetof(struct sock, sk_bpf_storage));
	return insn;
}

static const struct bpf_local_storage_kind sk_kind = {
	.pointer = offsetof(struct sock, sk_bpf_storage),
	.get_fd = sk_get_fd,
	.put_ref = sk_put_ref,
	.gen_storage = sk_gen_storage,
	.charge = sk_charge,
	.uncharge = bpf_sk_storage_uncharge,
	.slots = &sk_slots,
};

static void *sk_lookup(struct sock *sk, struct bpf_map *map)
{
	struct bpf_local_storage *storage;

	/* Pairs with the publication of the storage in the core. */
	storage = rcu_dereference_check(sk->sk_bpf_storage,
					bpf_rcu_lock_held());
	if (!storage)
		return NULL;
	return bpf_local_storage_lookup(storage, to_local_storage_map(map));
}

/**
 * bpf_sk_storage_free - free what a socket keeps
 * @sk: the socket, about to be freed
 *
 * Context: Process or softirq.
 */
void bpf_sk_storage_free(struct sock *sk)
{
	bpf_local_storage_destroy(sk, &sk_kind);
}

/**
 * bpf_sk_storage_clone - copy to a new socket what its listener hands down
 * @sk: the listener
 * @newsk: the new socket, which nobody else can see yet
 *
 * Copies the elements of maps with BPF_F_CLONE.  After an error, freeing
 * @newsk frees what has been copied.
 *
 * Context: Softirq or process; does not sleep.
 * Return: 0 or -ENOMEM.
 */
int bpf_sk_storage_clone(const struct sock *sk, struct sock *newsk)
{
	struct bpf_local_storage *storage;
	int err = 0;

	/* Pairs with the grace periods that free an element and its map. */
	rcu_read_lock();
	storage = rcu_dereference(sk->sk_bpf_storage);
	if (storage)
		err = bpf_local_storage_clone(storage, newsk, &sk_kind);
	rcu_read_unlock();
	return err;
}

static struct bpf_map *sk_map_alloc(union bpf_attr *attr)
{
	return bpf_local_storage_map_alloc(attr, &sk_kind);
}

const struct bpf_map_ops sk_storage_map_ops = {
	BPF_LOCAL_STORAGE_MAP_OPS,
	.map_alloc = sk_map_alloc,
};

/* INET_DIAG */

/**
 * struct bpf_sk_storage_diag - which maps a request asked for
 * @nr_maps: how many; 0 stands for all that a socket has a value in
 * @maps: a reference on each
 */
struct bpf_sk_storage_diag {
	u32 nr_maps;
	struct bpf_map *maps[] __counted_by(nr_maps);
};

/* Another map of a request, with a reference, or an error. */
static struct bpf_map *diag_map(const struct bpf_sk_storage_diag *diag,
				const struct nlattr *attr)
{
	struct bpf_map *map;
	u32 i;

	map = bpf_map_get(nla_get_u32(attr));
	if (IS_ERR(map))
		return map;
	if (map->map_type != BPF_MAP_TYPE_SK_STORAGE) {
		bpf_map_put(map);
		return ERR_PTR(-EINVAL);
	}
	for (i = 0; i < diag->nr_maps; i++) {
		if (diag->maps[i] == map) {
			bpf_map_put(map);
			return ERR_PTR(-EEXIST);
		}
	}
	return map;
}

/* The number of map fds in a request, or -EINVAL. */
static int diag_count_maps(const struct nlattr *nest)
{
	const struct nlattr *attr;
	int remaining, count = 0;

	nla_for_each_nested(attr, nest, remaining) {
		if (nla_type(attr) != SK_DIAG_BPF_STORAGE_REQ_MAP_FD)
			continue;
		if (nla_len(attr) != sizeof(u32))
			return -EINVAL;
		count++;
	}
	return count;
}

/**
 * bpf_sk_storage_diag_alloc - take in which values a request asks for
 * @nest: INET_DIAG_REQ_SK_BPF_STORAGES
 *
 * Context: Process; sleeps.
 * Return: To be freed with bpf_sk_storage_diag_free(); or -EPERM, -EINVAL for
 *	a bad attribute or another type of map, -EBADF, -EEXIST for a map named
 *	twice, -ENOMEM.
 */
struct bpf_sk_storage_diag *bpf_sk_storage_diag_alloc(const struct nlattr *nest)
{
	struct bpf_sk_storage_diag *diag;
	const struct nlattr *attr;
	struct bpf_map *map;
	int remaining, count;

	if (!bpf_capable())
		return ERR_PTR(-EPERM);
	count = diag_count_maps(nest);
	if (count < 0)
		return ERR_PTR(count);
	diag = kvzalloc(struct_size(diag, maps, count), GFP_KERNEL);
	if (!diag)
		return ERR_PTR(-ENOMEM);

	nla_for_each_nested(attr, nest, remaining) {
		if (nla_type(attr) != SK_DIAG_BPF_STORAGE_REQ_MAP_FD)
			continue;
		map = diag_map(diag, attr);
		if (IS_ERR(map)) {
			bpf_sk_storage_diag_free(diag);
			return ERR_CAST(map);
		}
		diag->nr_maps++;
		diag->maps[diag->nr_maps - 1] = map;
	}
	return diag;
}
EXPORT_SYMBOL_GPL(bpf_sk_storage_diag_alloc);

/**
 * bpf_sk_storage_diag_free - free what bpf_sk_storage_diag_alloc() returned
 * @diag: it, or NULL
 *
 * Context: Process; sleeps.
 */
void bpf_sk_storage_diag_free(struct bpf_sk_storage_diag *diag)
{
	u32 i;

	if (!diag)
		return;
	for (i = 0; i < diag->nr_maps; i++)
		bpf_map_put(diag->maps[i]);
	kvfree(diag);
}
EXPORT_SYMBOL_GPL(bpf_sk_storage_diag_free);

/* A socket's values on their way into a message. */
struct diag_reply {
	struct sk_buff *skb;
	struct nlattr *nest;
	int type;
	int err;
	size_t size;
};

/* Bytes of a value with its attributes, at most. */
static size_t diag_value_size(const struct bpf_map *map)
{
	return nla_total_size(nla_total_size(sizeof(u32)) +
			      nla_total_size_64bit(map->value_size));
}

static void diag_close_nest(struct diag_reply *reply)
{
	if (reply->nest)
		nla_nest_end(reply->skb, reply->nest);
	reply->nest = NULL;
}

/* Open the nest for @size more bytes, a new one if they are too many for it. */
static int diag_open_nest(struct diag_reply *reply, size_t size)
{
	struct sk_buff *skb = reply->skb;

	if (reply->nest &&
	    skb_tail_pointer(skb) - (u8 *)reply->nest + size > U16_MAX)
		diag_close_nest(reply);
	if (reply->nest)
		return 0;
	reply->nest = nla_nest_start(skb, reply->type);
	return reply->nest ? 0 : -EMSGSIZE;
}

/* Write one attribute where there is room for it; returns its payload. */
static void *diag_set_attr(struct nlattr *attr, int type, u32 len)
{
	attr->nla_type = type;
	attr->nla_len = nla_attr_size(len);
	memset((u8 *)attr + attr->nla_len, 0, nla_padlen(len));
	return nla_data(attr);
}

static struct nlattr *diag_next_attr(struct nlattr *attr)
{
	return (struct nlattr *)((u8 *)attr + NLA_ALIGN(attr->nla_len));
}

/* The value is to begin at a multiple of 8, where that makes a difference. */
static bool diag_needs_pad(const struct sk_buff *skb, u32 before)
{
	return !IS_ENABLED(CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS) &&
	       !IS_ALIGNED((unsigned long)skb_tail_pointer(skb) + before, 8);
}

static void diag_copy(struct bpf_map *map, void *to, void *value)
{
	/* What is not copied is not for userspace to see. */
	if (!IS_ERR_OR_NULL(map->record))
		memset(to, 0, map->value_size);
	if (btf_record_has_field(map->record, BPF_SPIN_LOCK))
		copy_map_value_locked(map, to, value, true);
	else
		copy_map_value(map, to, value);
}

static int diag_put_value(struct sk_buff *skb, struct bpf_map *map, u32 id,
			  void *value)
{
	u32 len = nla_total_size(sizeof(id)) + nla_total_size(map->value_size);
	struct nlattr *attr;
	bool pad;

	pad = diag_needs_pad(skb, NLA_HDRLEN + nla_total_size(sizeof(id)) +
				  NLA_HDRLEN);
	len += pad ? nla_total_size(0) : 0;
	attr = nla_reserve(skb, SK_DIAG_BPF_STORAGE | NLA_F_NESTED, len);
	if (!attr)
		return -EMSGSIZE;
	attr = nla_data(attr);
	*(u32 *)diag_set_attr(attr, SK_DIAG_BPF_STORAGE_MAP_ID, sizeof(id)) = id;
	attr = diag_next_attr(attr);
	if (pad) {
		diag_set_attr(attr, SK_DIAG_BPF_STORAGE_PAD, 0);
		attr = diag_next_attr(attr);
	}
	diag_copy(map, diag_set_attr(attr, SK_DIAG_BPF_STORAGE_MAP_VALUE,
				     map->value_size), value);
	return 0;
}

/* Add a value; from the first that does not fit, only count bytes. */
static void diag_add(struct diag_reply *reply, struct bpf_map *map, void *value)
{
	/* Pairs with nothing: zero for a map that has just been given up. */
	u32 id = READ_ONCE(map->id);
	size_t size = diag_value_size(map);

	if (!id || !value)
		return;
	/* In the worst case each begins a nest. */
	reply->size += nla_total_size(0) + size;
	if (!reply->err)
		reply->err = diag_open_nest(reply, size);
	if (!reply->err)
		reply->err = diag_put_value(reply->skb, map, id, value);
}

static void diag_add_all(struct diag_reply *reply,
			 struct bpf_local_storage *storage)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;

	bpf_local_storage_iter_init(&iter, storage);
	while ((elem = bpf_local_storage_iter_next(&iter)))
		diag_add(reply, &elem->map->map, bpf_local_storage_value(elem));
}

/**
 * bpf_sk_storage_diag_put - put a socket's values into a message
 * @diag: which values
 * @sk: a full socket
 * @skb: the message
 * @type: the attribute to put them in; there is more than one if the values
 *	are too many for the length of an attribute, and none without a value
 * @size: set to the bytes that are needed, after -EMSGSIZE
 *
 * Context: Any but NMI; does not sleep.
 * Return: 0, or -EMSGSIZE if the room in @skb is less than @size; then @skb
 *	is as it was.
 */
int bpf_sk_storage_diag_put(const struct bpf_sk_storage_diag *diag,
			    struct sock *sk, struct sk_buff *skb, int type,
			    size_t *size)
{
	struct diag_reply reply = { .skb = skb, .type = type };
	struct bpf_local_storage *storage;
	u32 i, begin = skb->len;

	/* Pairs with the grace periods that free an element and its map. */
	rcu_read_lock();
	storage = rcu_dereference(sk->sk_bpf_storage);
	if (storage && !diag->nr_maps)
		diag_add_all(&reply, storage);
	for (i = 0; storage && i < diag->nr_maps; i++)
		diag_add(&reply, diag->maps[i],
			 bpf_local_storage_lookup(storage,
						  to_local_storage_map(diag->maps[i])));
	rcu_read_unlock();

	if (reply.err)
		skb_trim(skb, begin);
	else
		diag_close_nest(&reply);
	*size = reply.size;
	return reply.err;
}
EXPORT_SYMBOL_GPL(bpf_sk_storage_diag_put);

/* Iterator: every socket that has a value in a map */

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

static void *sk_seq_start(struct seq_file *seq, loff_t *pos)
{
	if (!*pos)
		++*pos;
	return bpf_local_storage_map_iter_start(seq->private);
}

static void *sk_seq_next(struct seq_file *seq, void *elem, loff_t *pos)
{
	struct bpf_local_storage_map_iter *iter = seq->private;
	struct sock *sk = iter->owner;

	++*pos;
	elem = bpf_local_storage_map_iter_next(iter);
	sock_put(sk);
	return elem;
}

static int sk_seq_run(struct seq_file *seq, struct bpf_local_storage_elem *elem)
{
	struct bpf_local_storage_map_iter *iter = seq->private;
	struct bpf_iter__bpf_sk_storage_map ctx = {
		.map = &iter->smap->map,
		.sk = iter->owner,
	};
	struct bpf_iter_meta meta = { .seq = seq };
	struct bpf_prog *prog;

	prog = bpf_iter_get_info(&meta, !elem);
	if (!prog)
		return 0;
	ctx.meta = &meta;
	if (elem)
		ctx.value = bpf_local_storage_value(elem);
	return bpf_iter_run_prog(prog, &ctx);
}

static int sk_seq_show(struct seq_file *seq, void *elem)
{
	return sk_seq_run(seq, elem);
}

static void sk_seq_stop(struct seq_file *seq, void *elem)
{
	struct bpf_local_storage_map_iter *iter = seq->private;

	if (!elem)
		sk_seq_run(seq, NULL);
	else
		sock_put(iter->owner);
	bpf_local_storage_map_iter_stop(iter);
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

/* Helpers */

static void bpf_sk_storage_put_rcu(struct rcu_head *rcu)
{
	sock_put(container_of(rcu, struct sock, sk_rcu));
}

/* Like sock_put() in any context: a socket is not freed in all of them. */
static void sk_put(struct sock *sk)
{
	/* With the last reference, the head is ours until sk_free() uses it. */
	if (!refcount_dec_not_one(&sk->sk_refcnt))
		bpf_local_storage_call_rcu(&sk->sk_rcu, bpf_sk_storage_put_rcu);
}

static void *sk_create(struct sock *sk, struct bpf_map *map, void *value,
		       gfp_t gfp)
{
	/* Pairs with the last sock_put(): no value for a socket being freed. */
	if (!refcount_inc_not_zero(&sk->sk_refcnt))
		return NULL;
	value = bpf_local_storage_create(sk, to_local_storage_map(map), value,
					 gfp);
	sk_put(sk);
	return IS_ERR(value) ? NULL : value;
}

/* @gfp is not an argument of the program's: the verifier sets it. */
BPF_CALL_5(bpf_sk_storage_get, struct bpf_map *, map, struct sock *, sk,
	   void *, value, u64, flags, gfp_t, gfp)
{
	void *found;

	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!sk || !sk_fullsock(sk) || flags > BPF_SK_STORAGE_GET_F_CREATE)
		return (unsigned long)NULL;
	found = sk_lookup(sk, map);
	if (!found && flags & BPF_SK_STORAGE_GET_F_CREATE)
		found = sk_create(sk, map, value, gfp);
	return (unsigned long)found;
}

BPF_CALL_2(bpf_sk_storage_delete, struct bpf_map *, map, struct sock *, sk)
{
	WARN_ON_ONCE(!bpf_rcu_lock_held());
	if (!sk || !sk_fullsock(sk))
		return -EINVAL;
	/* What a socket on its way out has goes with it. */
	if (!refcount_read(&sk->sk_refcnt))
		return -ENOENT;
	return bpf_local_storage_delete(sk, to_local_storage_map(map));
}

const struct bpf_func_proto bpf_sk_storage_get_proto = {
	.func = bpf_sk_storage_get,
	.ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_SOCK_COMMON,
	.arg3_type = ARG_PTR_TO_MAP_VALUE_OR_NULL,
	.arg4_type = ARG_ANYTHING,
};

/* The context of a cgroup socket program is the socket. */
const struct bpf_func_proto bpf_sk_storage_get_cg_sock_proto = {
	.func = bpf_sk_storage_get,
	.ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_CTX,
	.arg3_type = ARG_PTR_TO_MAP_VALUE_OR_NULL,
	.arg4_type = ARG_ANYTHING,
};

const struct bpf_func_proto bpf_sk_storage_delete_proto = {
	.func = bpf_sk_storage_delete,
	.ret_type = RET_INTEGER,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_SOCK_COMMON,
};

/* A program on our own functions would call itself. */
static bool sk_tracing_allowed(const struct bpf_prog *prog)
{
	const char *target = prog->aux->attach_func_name;

	if (prog->aux->dst_prog)
		return false;
	switch (prog->expected_attach_type) {
	case BPF_TRACE_ITER:
	case BPF_TRACE_RAW_TP:
		return true;
	case BPF_TRACE_FENTRY:
	case BPF_TRACE_FEXIT:
		return target && !str_has_prefix(target, "bpf_sk_storage");
	default:
		return false;
	}
}

BPF_CALL_5(bpf_sk_storage_get_tracing, struct bpf_map *, map, struct sock *, sk,
	   void *, value, u64, flags, gfp_t, gfp)
{
	if (in_hardirq() || in_nmi())
		return (unsigned long)NULL;
	return (unsigned long)____bpf_sk_storage_get(map, sk, value, flags, gfp);
}

BPF_CALL_2(bpf_sk_storage_delete_tracing, struct bpf_map *, map,
	   struct sock *, sk)
{
	if (in_hardirq() || in_nmi())
		return -EPERM;
	return ____bpf_sk_storage_delete(map, sk);
}

const struct bpf_func_proto bpf_sk_storage_get_tracing_proto = {
	.func = bpf_sk_storage_get_tracing,
	.ret_type = RET_PTR_TO_MAP_VALUE_OR_NULL,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &btf_sock_ids[BTF_SOCK_TYPE_SOCK_COMMON],
	.arg3_type = ARG_PTR_TO_MAP_VALUE_OR_NULL,
	.arg4_type = ARG_ANYTHING,
	.allowed = sk_tracing_allowed,
};

const struct bpf_func_proto bpf_sk_storage_delete_tracing_proto = {
	.func = bpf_sk_storage_delete_tracing,
	.ret_type = RET_INTEGER,
	.arg1_type = ARG_CONST_MAP_PTR,
	.arg2_type = ARG_PTR_TO_BTF_ID_OR_NULL,
	.arg2_btf_id = &btf_sock_ids[BTF_SOCK_TYPE_SOCK_COMMON],
	.allowed = sk_tracing_allowed,
};
