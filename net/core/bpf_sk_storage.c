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
#include <linux/bpf_local_storage_kind.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <net/bpf_sk_reserve.h>
#include <net/bpf_sk_storage.h>
#include <net/net_namespace.h>
#include <net/sock.h>

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

/**
 * bpf_sk_storage_gen_checks - leave to the helper what is not for a lookup
 * @insn: where to put the instructions, which change R0
 * @call: the call; the socket is in R2 and not NULL
 *
 * Context: Any.
 * Return: The place behind, or NULL if it takes a call.
 */
struct bpf_insn *
bpf_sk_storage_gen_checks(struct bpf_insn *insn,
			  const struct bpf_local_storage_call *call)
{
	/* What bpf_sk_storage_get_tracing() asks first. */
	if (call->fn == &bpf_sk_storage_get_tracing_proto)
		insn = bpf_local_storage_gen_context(insn, call);
	if (!insn)
		return NULL;
	return call->maybe_mini ? gen_fullsock(insn) : insn;
}

static struct bpf_insn *sk_gen_storage(struct bpf_insn *insn,
				       const struct bpf_local_storage_call *call)
{
	insn = bpf_sk_storage_gen_checks(insn, call);
	if (!insn)
		return NULL;
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

#ifdef CONFIG_64BIT
const struct bpf_local_storage_kind bpf_sk_region_kind = {
	.get_fd = sk_get_fd,
	.put_ref = sk_put_ref,
	.region_ops = &bpf_sk_region_ops,
};
#endif

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
 * bpf_sk_storage_clone - copy to a new socket what it inherits from its listener
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
	if (bpf_sk_reserve_size())
		bpf_sk_region_clone(sk, newsk);
	rcu_read_unlock();
	return err;
}

static struct bpf_map *sk_map_alloc(union bpf_attr *attr)
{
	if (attr->map_flags & BPF_F_STORAGE_RESERVED)
		return bpf_sk_region_alloc(attr);
	return bpf_local_storage_map_alloc(attr, &sk_kind);
}

const struct bpf_map_ops sk_storage_map_ops = {
	BPF_LOCAL_STORAGE_MAP_OPS,
	.map_alloc = sk_map_alloc,
};

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
	if (bpf_sk_is_region(map))
		return (unsigned long)bpf_sk_region_get(sk, map, value, flags);
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
	/* What a socket that is being freed has goes with it. */
	if (!refcount_read(&sk->sk_refcnt))
		return -ENOENT;
	if (bpf_sk_is_region(map))
		return bpf_sk_region_delete(sk, map);
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
		break;
	default:
		if (!bpf_local_storage_is_session(prog->expected_attach_type))
			return false;
	}
	return target && !str_has_prefix(target, "bpf_sk_storage");
}

BPF_CALL_5(bpf_sk_storage_get_tracing, struct bpf_map *, map, struct sock *, sk,
	   void *, value, u64, flags, gfp_t, gfp)
{
	/* NMIs are among these. */
	if (in_hardirq())
		return (unsigned long)NULL;
	return (unsigned long)____bpf_sk_storage_get(map, sk, value, flags, gfp);
}

BPF_CALL_2(bpf_sk_storage_delete_tracing, struct bpf_map *, map,
	   struct sock *, sk)
{
	if (in_hardirq())
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
