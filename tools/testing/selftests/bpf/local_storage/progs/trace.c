// SPDX-License-Identifier: GPL-2.0
/*
 * Tracing programs in all contexts.  A test loads one of them at a time, and
 * tells those without a target where to go.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "progs/machine.h"
#include "progs/preempt.h"
#include "progs/shared.h"
#include "progs/storage.h"

char _license[] SEC("license") = "GPL";

#define ENOENT	2
#define EPERM	1
#define EBUSY	16
#define EINVAL	22

/* Of the preemption count. */
#define SOFTIRQ	0x00000100
#define HARDIRQ	0x000f0000
#define NMI	0x00f00000

STORAGE(values, BPF_MAP_TYPE_SK_STORAGE, __u64);

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

/* The process whose socket it is; 0: do nothing. */
int pid;
int what;
struct seen seen;

static bool is_ours(void)
{
	return pid && bpf_get_current_pid_tgid() >> 32 == pid;
}

static void count_context(void)
{
	int count = preempt_count();

	seen.runs++;
	if (count & NMI)
		seen.in_nmi++;
	else if (count & HARDIRQ)
		seen.in_hardirq++;
	else if (count & SOFTIRQ)
		seen.in_softirq++;
	else
		seen.in_task++;
}

static void count_delete(long err)
{
	switch (err) {
	case 0:
		seen.deleted++;
		break;
	case -ENOENT:
		seen.missing++;
		break;
	case -EBUSY:
		seen.busy++;
		break;
	case -EPERM:
		seen.denied++;
		break;
	case -EINVAL:
		seen.invalid++;
		break;
	}
}

static __always_inline void act_on(struct sock *sk)
{
	__u64 init = INITIAL;

	if (!sk)
		return;
	seen.sockets++;
	if (what & TRY_GET && bpf_sk_storage_get(&values, sk, 0, 0))
		seen.got++;
	if (what & TRY_CREATE &&
	    bpf_sk_storage_get(&values, sk, &init, BPF_SK_STORAGE_GET_F_CREATE))
		seen.created++;
	if (what & TRY_DELETE)
		count_delete(bpf_sk_storage_delete(&values, sk));
}

static __always_inline void act_on_null(void)
{
	long err = bpf_sk_storage_delete(&values, NULL);

	if (bpf_sk_storage_get(&values, NULL, 0, BPF_SK_STORAGE_GET_F_CREATE))
		seen.null_got++;
	if (err == -EPERM)
		seen.null_denied++;
	else if (err == -EINVAL)
		seen.null_invalid++;
}

/* The socket of the process that we run in, or have interrupted. */
static __always_inline struct sock *find_socket(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct socket *sock;
	struct file *file;

	file = task->files->fd_array[SK_FD];
	if (!file)
		return NULL;
	sock = bpf_sock_from_file(file);
	return sock ? sock->sk : NULL;
}

static __always_inline int act(void)
{
	if (!is_ours())
		return 0;
	count_context();
	act_on_null();
	act_on(find_socket());
	return 0;
}

static __always_inline int act_on_arg(struct sock *sk)
{
	if (!is_ours())
		return 0;
	count_context();
	act_on_null();
	act_on(sk);
	return 0;
}

/* The socket is an argument. */

SEC("?fentry/inet_shutdown")
int BPF_PROG(fentry_arg, struct socket *sock, int how)
{
	return act_on_arg(sock->sk);
}

SEC("?fexit/inet_shutdown")
int BPF_PROG(fexit_arg, struct socket *sock, int how, int ret)
{
	return act_on_arg(sock->sk);
}

/* Nobody has a reference any more. */
SEC("?fentry/inet_sock_destruct")
int BPF_PROG(fentry_dying, struct sock *sk)
{
	return act_on_arg(sk);
}

/* What begins like a socket, and is none: there is no place for values. */

SEC("?fentry/tcp_check_req")
int BPF_PROG(fentry_request, struct sock *sk, struct sk_buff *skb,
	     struct request_sock *req)
{
	return act_on_arg((void *)req);
}

SEC("?fentry/tcp_timewait_state_process")
int BPF_PROG(fentry_timewait, struct inet_timewait_sock *tw)
{
	return act_on_arg((void *)tw);
}

/* It is found through the current task. */

SEC("?fentry/inet_shutdown")
int fentry_task(void *ctx)
{
	return act();
}

SEC("?tp_btf/sys_enter")
int tp_btf_task(void *ctx)
{
	return act();
}

SEC("?fentry.s/" SYSCALL(getpgid))
int fentry_sleepable(void *ctx)
{
	bpf_rcu_read_lock();
	act();
	bpf_rcu_read_unlock();
	return 0;
}

SEC("?tp_btf/softirq_entry")
int tp_btf_softirq(void *ctx)
{
	return act();
}

SEC("?fentry/update_process_times")
int fentry_hardirq(void *ctx)
{
	return act();
}

SEC("?fexit/update_process_times")
int fexit_hardirq(void *ctx)
{
	return act();
}

SEC("?tp_btf/local_timer_entry")
int tp_btf_hardirq(void *ctx)
{
	return act();
}

SEC("?tp_btf/nmi_handler")
int tp_btf_nmi(void *ctx)
{
	return act();
}

SEC("?" NMI_FUNCTION)
int fentry_nmi(void *ctx)
{
	return act();
}

/* What storage code may call, or what it may wait for. */

SEC("?tp_btf/kmalloc")
int tp_btf_kmalloc(void *ctx)
{
	return act();
}

SEC("?tp_btf/kfree")
int tp_btf_kfree(void *ctx)
{
	return act();
}

#define LCB_F_SPIN 1

SEC("?tp_btf/contention_begin")
int BPF_PROG(tp_btf_contention, void *lock, unsigned int flags)
{
	return flags & LCB_F_SPIN ? act() : 0;
}

/* Kernels without lock debugging have nothing in it. */
struct lockdep_map___debug {
	const char *name;
} __attribute__((preserve_access_index));

/* Whether the lock is one of a socket's storage or of a map. */
static __always_inline bool is_storage_lock(struct lockdep_map___debug *lock)
{
	char name[16] = {};

	bpf_probe_read_kernel_str(name, sizeof(name),
				  BPF_CORE_READ(lock, name));
	return !bpf_strncmp(name, 9, "&storage-") ||
	       !bpf_strncmp(name, 13, "&smap->bucket");
}

SEC("?tp_btf/lock_acquire")
int BPF_PROG(tp_btf_lock_acquire, struct lockdep_map *lock)
{
	return is_storage_lock((void *)lock) ? act() : 0;
}

SEC("?tp_btf/lock_release")
int BPF_PROG(tp_btf_lock_release, struct lockdep_map *lock)
{
	return is_storage_lock((void *)lock) ? act() : 0;
}

/* These get a target. */

SEC("?fentry")
int fentry_any(void *ctx)
{
	return act();
}

SEC("?fexit")
int fexit_any(void *ctx)
{
	return act();
}

SEC("?fmod_ret")
int fmod_ret_any(void *ctx)
{
	return act();
}

/* The same without a helper of socket storage. */

SEC("?fentry")
int bare_fentry(void *ctx)
{
	if (is_ours())
		seen.runs++;
	return 0;
}

SEC("?fmod_ret")
int bare_fmod_ret(void *ctx)
{
	if (is_ours())
		seen.runs++;
	return 0;
}

/* Program types that have no such helper. */

SEC("?raw_tp/sys_enter")
int no_raw_tp(void *ctx)
{
	return bpf_sk_storage_delete(&values, NULL);
}

SEC("?tp/syscalls/sys_enter_getpgid")
int no_tp(void *ctx)
{
	return bpf_sk_storage_delete(&values, NULL);
}

SEC("?perf_event")
int no_perf_event(void *ctx)
{
	return bpf_sk_storage_delete(&values, NULL);
}

SEC("?raw_tp.w/sys_enter")
int no_raw_tp_writable(void *ctx)
{
	return bpf_sk_storage_delete(&values, NULL);
}
