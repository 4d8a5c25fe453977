// SPDX-License-Identifier: GPL-2.0
/*
 * What a get takes when the caches do not help: the values of many sockets, in
 * random order.  Runs when it is inserted, on a kernel with any local storage.
 */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include "measure.h"

static unsigned long helper;
module_param(helper, ulong, 0);
MODULE_PARM_DESC(helper, "address of bpf_sk_storage_get()");

static int map_fd;
module_param(map_fd, int, 0);
MODULE_PARM_DESC(map_fd, "a socket storage map with values of 8 bytes");

static int get_fd;
module_param(get_fd, int, 0);
MODULE_PARM_DESC(get_fd, "a program that finds a value and changes it");

static int nothing_fd;
module_param(nothing_fd, int, 0);
MODULE_PARM_DESC(nothing_fd, "one that does not");

#define SOCKETS		100000
#define OF_PART		(SOCKETS / MEASURE_PARTS)
#define ROUNDS		20

static struct socket **sockets;
static struct sock **order;
static struct sk_buff *packet;
static struct bpf_prog *get_prog, *nothing_prog;

/*
 * Nobody sends to these sockets: a pointer that TCP reads for each packet is
 * free for the number that socket storage is compared with.
 */
static u64 *number_of(struct sock *sk)
{
	return (u64 *)rcu_access_pointer(sk->sk_rx_dst);
}

static void set_number(struct sock *sk, u64 *number)
{
	rcu_assign_pointer(sk->sk_rx_dst, (struct dst_entry *)number);
}

static u64 *get(struct bpf_map *map, struct sock *sk, u64 flags)
{
	u64 (*func)(u64 map, u64 sk, u64 value, u64 flags, u64 gfp);

	func = (void *)helper;
	return (u64 *)(unsigned long)func((unsigned long)map, (unsigned long)sk,
					  0, flags, (__force u64)GFP_ATOMIC);
}

static int make_sockets(struct bpf_map *map)
{
	u64 *value, *number;
	int i, err;

	for (i = 0; i < SOCKETS; i++) {
		err = sock_create_kern(&init_net, AF_INET, SOCK_DGRAM, 0,
				       &sockets[i]);
		if (err)
			return err;
		rcu_read_lock();
		value = get(map, sockets[i]->sk,
			    BPF_LOCAL_STORAGE_GET_F_CREATE);
		rcu_read_unlock();
		number = kzalloc(SMP_CACHE_BYTES, GFP_KERNEL);
		set_number(sockets[i]->sk, number);
		if (!value || !number)
			return -ENOMEM;
		order[i] = sockets[i]->sk;
		cond_resched();
	}
	return 0;
}

/*
 * What tcp_v4_rcv(), tcp_rcv_established() and the reader do to a socket on
 * behalf of a packet, as far as it is in struct sock.
 */
static unsigned long receive(struct sock *sk)
{
	unsigned long sum;

	/* The lookup, and what is asked before the lock. */
	sum = READ_ONCE(sk->sk_hash) + READ_ONCE(sk->sk_portpair);
	sum += READ_ONCE(sk->sk_state) + (unsigned long)READ_ONCE(sk->sk_filter);
	bh_lock_sock(sk);
	sum += READ_ONCE(sk->sk_lock.owned);
	sum += (unsigned long)READ_ONCE(sk->sk_rx_dst);
	/* Into the queue, on the socket's account. */
	sum += READ_ONCE(sk->sk_rcvbuf);
	sk->sk_forward_alloc -= packet->truesize;
	__skb_queue_tail(&sk->sk_receive_queue, packet);
	atomic_add(packet->truesize, &sk->sk_rmem_alloc);
	sum += (unsigned long)READ_ONCE(sk->sk_data_ready);
	sum += (unsigned long)READ_ONCE(sk->sk_wq);
	/* And out of it. */
	__skb_unlink(packet, &sk->sk_receive_queue);
	atomic_sub(packet->truesize, &sk->sk_rmem_alloc);
	sk->sk_forward_alloc += packet->truesize;
	sum += (unsigned long)READ_ONCE(sk->sk_backlog.tail);
	bh_unlock_sock(sk);
	return sum;
}

/* What is done to each socket. */
enum step {
	LOOK = 1,	/* look at its state */
	RECEIVE = 2,	/* put a packet into its queue, and take it out */
	GET = 4,	/* find its value and change it; after the others */
	FOLLOW = 8,	/* change the number that a pointer in it leads to */
	PROGRAM = 16,	/* run a program on a packet of its that does nothing */
	GET_BY_PROGRAM = 32, /* run one that does what GET does */
};

/* Nanoseconds per socket. */
static struct walk {
	struct measure measure;
	enum step step;
} walks[] = {
	{ { .name = "random-touch" }, LOOK },
	{ { .name = "random-get" }, GET },
	{ { .name = "touched-touch" }, RECEIVE },
	{ { .name = "touched-get" }, RECEIVE | GET },
	{ { .name = "touched-number" }, RECEIVE | FOLLOW },
	{ { .name = "touched-nothing" }, RECEIVE | PROGRAM },
	{ { .name = "touched-program" }, RECEIVE | GET_BY_PROGRAM },
};

static unsigned long run_program(const struct bpf_prog *prog, struct sock *sk)
{
	packet->sk = sk;
	return bpf_prog_run(prog, packet);
}

static void run_part(struct sock **sk, struct bpf_map *map, enum step step)
{
	unsigned long sum = 0;
	int i;

	rcu_read_lock();
	for (i = 0; i < OF_PART; i++) {
		if (step & LOOK)
			sum += READ_ONCE(sk[i]->sk_state);
		if (step & RECEIVE)
			sum += receive(sk[i]);
		if (step & GET)
			++*get(map, sk[i], 0);
		if (step & FOLLOW)
			++*number_of(sk[i]);
		if (step & PROGRAM)
			sum += run_program(nothing_prog, sk[i]);
		if (step & GET_BY_PROGRAM)
			sum += run_program(get_prog, sk[i]);
	}
	packet->sk = NULL;
	rcu_read_unlock();
	OPTIMIZER_HIDE_VAR(sum);
}

static void run_round(struct walk *walk, struct bpf_map *map)
{
	u64 start;
	int part;

	for (part = 0; part < MEASURE_PARTS; part++) {
		start = ktime_get_ns();
		run_part(&order[part * OF_PART], map, walk->step);
		measure_part(&walk->measure, part, start);
		cond_resched();
	}
}

static void measure_all(struct bpf_map *map)
{
	int round, i;

	/* In turn, so that the host's moods meet all of them. */
	for (round = 0; round < ROUNDS; round++)
		for (i = 0; i < ARRAY_SIZE(walks); i++)
			run_round(&walks[i], map);
	for (i = 0; i < ARRAY_SIZE(walks); i++)
		measure_report(&walks[i].measure, SOCKETS);
}

static void release(struct bpf_map *map)
{
	int i;

	for (i = 0; i < SOCKETS && sockets && sockets[i]; i++) {
		kfree(number_of(sockets[i]->sk));
		set_number(sockets[i]->sk, NULL);
		sock_release(sockets[i]);
		cond_resched();
	}
	kfree_skb(packet);
	kvfree(order);
	kvfree(sockets);
	if (!IS_ERR_OR_NULL(get_prog))
		bpf_prog_put(get_prog);
	if (!IS_ERR_OR_NULL(nothing_prog))
		bpf_prog_put(nothing_prog);
	bpf_map_put(map);
}

static struct bpf_prog *program(int fd)
{
	return bpf_prog_get_type_dev(fd, BPF_PROG_TYPE_SCHED_CLS, false);
}

static int __init latency_init(void)
{
	struct bpf_map *map = bpf_map_get(map_fd);
	int err = -ENOMEM;

	if (IS_ERR(map))
		return PTR_ERR(map);
	sockets = kvcalloc(SOCKETS, sizeof(*sockets), GFP_KERNEL);
	order = kvcalloc(SOCKETS, sizeof(*order), GFP_KERNEL);
	packet = alloc_skb(64, GFP_KERNEL);
	get_prog = program(get_fd);
	nothing_prog = program(nothing_fd);
	if (sockets && order && packet && !IS_ERR(get_prog) &&
	    !IS_ERR(nothing_prog))
		err = make_sockets(map);
	if (!err) {
		measure_shuffle((void **)order, SOCKETS);
		measure_all(map);
	}
	release(map);
	/* It has done what it was for. */
	return err ?: -EAGAIN;
}
module_init(latency_init);

MODULE_DESCRIPTION("Latency of socket storage");
MODULE_LICENSE("GPL");
/* MODULE_IMPORT_NS() takes a name on 6.12, and a string on 7.3. */
MODULE_INFO(import_ns, "BPF_INTERNAL");
