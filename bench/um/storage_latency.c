// SPDX-License-Identifier: GPL-2.0
/*
 * What a get takes when the caches do not help: the values of many sockets, in
 * random order.  Runs when it is inserted, on a kernel with any local storage.
 */
#include <linux/bpf.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <net/net_namespace.h>
#include <net/sock.h>

static unsigned long helper;
module_param(helper, ulong, 0);
MODULE_PARM_DESC(helper, "address of bpf_sk_storage_get()");

static int map_fd;
module_param(map_fd, int, 0);
MODULE_PARM_DESC(map_fd, "a socket storage map with values of 8 bytes");

static int nr_sockets = 100000;
module_param(nr_sockets, int, 0);

static int rounds = 9;
module_param(rounds, int, 0);

static struct socket **sockets;
static struct sock **order;

static u64 *get(struct bpf_map *map, struct sock *sk, u64 flags)
{
	u64 (*func)(u64 map, u64 sk, u64 value, u64 flags, u64 gfp);

	func = (void *)helper;
	return (u64 *)(unsigned long)func((unsigned long)map, (unsigned long)sk,
					  0, flags, (__force u64)GFP_ATOMIC);
}

static int make_sockets(struct bpf_map *map)
{
	u64 *value;
	int i, err;

	for (i = 0; i < nr_sockets; i++) {
		err = sock_create_kern(&init_net, AF_INET, SOCK_DGRAM, 0,
				       &sockets[i]);
		if (err)
			return err;
		rcu_read_lock();
		value = get(map, sockets[i]->sk,
			    BPF_LOCAL_STORAGE_GET_F_CREATE);
		rcu_read_unlock();
		if (!value)
			return -ENOMEM;
		order[i] = sockets[i]->sk;
		cond_resched();
	}
	return 0;
}

static void shuffle(void)
{
	struct rnd_state state;
	int i, j;

	/* The same order on every kernel. */
	prandom_seed_state(&state, 1);
	for (i = nr_sockets - 1; i > 0; i--) {
		j = prandom_u32_state(&state) % (i + 1);
		swap(order[i], order[j]);
	}
}

/* Picoseconds per get; or per socket that is only looked at. */
static u64 one_round(struct bpf_map *map, bool gets)
{
	u64 start = ktime_get_ns(), sum = 0;
	int i;

	rcu_read_lock();
	for (i = 0; i < nr_sockets; i++) {
		if (gets)
			++*get(map, order[i], 0);
		else
			sum += READ_ONCE(order[i]->sk_state);
	}
	rcu_read_unlock();
	OPTIMIZER_HIDE_VAR(sum);
	return div_u64((ktime_get_ns() - start) * 1000, nr_sockets);
}

static void measure(struct bpf_map *map, const char *name, bool gets)
{
	u64 least = U64_MAX;
	int i;

	for (i = 0; i < rounds; i++) {
		least = min(least, one_round(map, gets));
		cond_resched();
	}
	pr_info("figure %s %llu.%03llu\n", name, div_u64(least, 1000),
		least - 1000 * div_u64(least, 1000));
}

static void release(struct bpf_map *map)
{
	int i;

	for (i = 0; i < nr_sockets && sockets && sockets[i]; i++) {
		sock_release(sockets[i]);
		cond_resched();
	}
	kvfree(order);
	kvfree(sockets);
	bpf_map_put(map);
}

static int __init latency_init(void)
{
	struct bpf_map *map = bpf_map_get(map_fd);
	int err = -ENOMEM;

	if (IS_ERR(map))
		return PTR_ERR(map);
	sockets = kvcalloc(nr_sockets, sizeof(*sockets), GFP_KERNEL);
	order = kvcalloc(nr_sockets, sizeof(*order), GFP_KERNEL);
	if (sockets && order)
		err = make_sockets(map);
	if (!err) {
		shuffle();
		measure(map, "random-touch", false);
		measure(map, "random-get", true);
	}
	release(map);
	/* It has done what it was for. */
	return err ?: -EAGAIN;
}
module_init(latency_init);

MODULE_DESCRIPTION("Latency of socket storage");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(BPF_INTERNAL);
