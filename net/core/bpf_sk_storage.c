// SPDX-License-Identifier: GPL-2.0
/*
 * Socket storage: local storage whose owners are sockets.
 *
 * A socket keeps its values until __sk_destruct(); after that, only readers
 * under RCU can be on them.  Whoever creates a value holds a reference on the
 * socket, so that none appears when it has been destroyed.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <net/bpf_sk_storage.h>
#include <net/net_namespace.h>
#include <net/sock.h>

static struct bpf_local_storage_slots sk_slots = {
	.lock = __SPIN_LOCK_UNLOCKED(sk_slots.lock),
};

/* The core calls these under its locks: a program on them could deadlock. */
static notrace struct bpf_local_storage __rcu **sk_storage_ptr(void *owner)
{
	return &((struct sock *)owner)->sk_bpf_storage;
}

static notrace int sk_charge(void *owner, u32 size)
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

static notrace void sk_uncharge(void *owner, u32 size)
{
	atomic_sub(size, &((struct sock *)owner)->sk_omem_alloc);
}

static const struct bpf_local_storage_kind sk_kind = {
	.storage_ptr = sk_storage_ptr,
	.charge = sk_charge,
	.uncharge = sk_uncharge,
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

static int sk_clone_elem(struct bpf_local_storage_elem *elem,
			 struct sock *newsk)
{
	struct bpf_map *map = &elem->map->map;
	void *value;

	if (!(map->map_flags & BPF_F_CLONE))
		return 0;
	/* A map on its way out has nothing to give to a new socket. */
	map = bpf_map_inc_not_zero(map);
	if (IS_ERR(map))
		return 0;
	value = bpf_local_storage_create(newsk, elem->map,
					 bpf_local_storage_value(elem),
					 btf_record_has_field(map->record,
							      BPF_SPIN_LOCK),
					 GFP_ATOMIC);
	bpf_map_put(map);
	return PTR_ERR_OR_ZERO(value);
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
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;
	struct bpf_local_storage *storage;
	int err = 0;

	/* Pairs with the grace periods that free an element and its map. */
	rcu_read_lock();
	storage = rcu_dereference(sk->sk_bpf_storage);
	if (!storage)
		goto out;
	bpf_local_storage_iter_init(&iter, storage);
	while (!err && (elem = bpf_local_storage_iter_next(&iter)))
		err = sk_clone_elem(elem, newsk);
out:
	rcu_read_unlock();
	return err;
}

/* bpf(2): the key is a socket's file descriptor */

static void *sk_fd_lookup(struct bpf_map *map, void *key)
{
	struct socket *sock;
	void *value;
	int err;

	sock = sockfd_lookup(*(int *)key, &err);
	if (!sock)
		return ERR_PTR(err);
	value = sk_lookup(sock->sk, map);
	sockfd_put(sock);
	return value;
}

static long sk_fd_update(struct bpf_map *map, void *key, void *value, u64 flags)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(*(int *)key, &err);
	if (!sock)
		return err;
	err = bpf_local_storage_update(sock->sk, to_local_storage_map(map),
				       value, flags);
	sockfd_put(sock);
	return err;
}

static long sk_fd_delete(struct bpf_map *map, void *key)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(*(int *)key, &err);
	if (!sock)
		return err;
	err = bpf_local_storage_delete(sock->sk, to_local_storage_map(map));
	sockfd_put(sock);
	return err;
}

static int sk_no_next_key(struct bpf_map *map, void *key, void *next_key)
{
	return -ENOTSUPP;
}

static struct bpf_map *sk_map_alloc(union bpf_attr *attr)
{
	return bpf_local_storage_map_alloc(attr, &sk_kind);
}

const struct bpf_map_ops sk_storage_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc_check = bpf_local_storage_map_alloc_check,
	.map_alloc = sk_map_alloc,
	.map_free = bpf_local_storage_map_free,
	.map_get_next_key = sk_no_next_key,
	.map_lookup_elem = sk_fd_lookup,
	.map_update_elem = sk_fd_update,
	.map_delete_elem = sk_fd_delete,
	.map_check_btf = bpf_local_storage_map_check_btf,
	.map_mem_usage = bpf_local_storage_map_mem_usage,
	.map_btf_id = &bpf_local_storage_map_btf_id[0],
};

/* Helpers */

static void *sk_create(struct sock *sk, struct bpf_map *map, void *value,
		       gfp_t gfp)
{
	/* Our sock_put() may be the last one, and then it takes the locks. */
	if (bpf_local_storage_is_nested())
		return NULL;
	/* Pairs with the last sock_put(): no value for a socket on its way out. */
	if (!refcount_inc_not_zero(&sk->sk_refcnt))
		return NULL;
	value = bpf_local_storage_create(sk, to_local_storage_map(map), value,
					 false, gfp);
	sock_put(sk);
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
