/* SPDX-License-Identifier: GPL-2.0 */
/* What the network stack calls of a socket's local storage. */
#ifndef _NET_BPF_SK_STORAGE_H
#define _NET_BPF_SK_STORAGE_H

#include <linux/rcupdate.h>
#include <net/sock.h>

struct bpf_func_proto;
struct bpf_insn;
struct bpf_local_storage_call;
struct bpf_sk_storage_diag;
struct nlattr;
struct sk_buff;

extern const struct bpf_func_proto bpf_sk_storage_get_proto;
extern const struct bpf_func_proto bpf_sk_storage_get_cg_sock_proto;
extern const struct bpf_func_proto bpf_sk_storage_delete_proto;
extern const struct bpf_func_proto bpf_sk_storage_get_tracing_proto;
extern const struct bpf_func_proto bpf_sk_storage_delete_tracing_proto;

struct bpf_insn *
bpf_sk_storage_gen_checks(struct bpf_insn *insn,
			  const struct bpf_local_storage_call *call);

#ifdef CONFIG_BPF_SYSCALL
/* A byte copy of another socket has its pointer: forget it. */
static inline void bpf_sk_storage_init(struct sock *sk)
{
	RCU_INIT_POINTER(sk->sk_bpf_storage, NULL);
}

void bpf_sk_storage_free(struct sock *sk);
int bpf_sk_storage_clone(const struct sock *sk, struct sock *newsk);

struct bpf_sk_storage_diag *bpf_sk_storage_diag_alloc(const struct nlattr *nest);
void bpf_sk_storage_diag_free(struct bpf_sk_storage_diag *diag);
int bpf_sk_storage_diag_put(const struct bpf_sk_storage_diag *diag,
			    struct sock *sk, struct sk_buff *skb, int type,
			    size_t *size);
#else
static inline void bpf_sk_storage_init(struct sock *sk)
{
}

static inline void bpf_sk_storage_free(struct sock *sk)
{
}

static inline int bpf_sk_storage_clone(const struct sock *sk,
				       struct sock *newsk)
{
	return 0;
}

static inline struct bpf_sk_storage_diag *
bpf_sk_storage_diag_alloc(const struct nlattr *nest)
{
	return NULL;
}

static inline void bpf_sk_storage_diag_free(struct bpf_sk_storage_diag *diag)
{
}

static inline int bpf_sk_storage_diag_put(const struct bpf_sk_storage_diag *diag,
					  struct sock *sk, struct sk_buff *skb,
					  int type, size_t *size)
{
	return 0;
}
#endif /* CONFIG_BPF_SYSCALL */

#endif /* _NET_BPF_SK_STORAGE_H */
