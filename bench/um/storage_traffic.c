// SPDX-License-Identifier: GPL-2.0
/*
 * What a message takes on one of many connections, whatever programs look at
 * it.  Userspace is left out: here a system call takes longer than TCP does.
 * What timers send, acknowledgements above all, is in no figure: there are far
 * more parts of a round than ticks.  Whoever writes the name of a figure to the
 * parameter `round` has a round of messages run, and what is known of the figure
 * printed.
 */
#include <linux/err.h>
#include <linux/in.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include "measure.h"

#define PORT			7777
/* There are fewer ports for clients than connections. */
#define CLIENTS_OF_ADDRESS	5000
#define MESSAGE_SIZE		64

#define CONNECTIONS		50000
#define OF_PART			(CONNECTIONS / MEASURE_PARTS)

/* Nanoseconds per message. */
static struct measure measures[] = {
	{ .name = "traffic-none" },
	{ .name = "traffic-together" },
	{ .name = "traffic-hash" },
	{ .name = "traffic-storage" },
};

static struct socket *listener, **clients, **servers;
static char message[MESSAGE_SIZE];

static struct sockaddr_in address_of(u32 host)
{
	return (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_port = htons(PORT),
		.sin_addr.s_addr = htonl(host),
	};
}

static int listen_anywhere(void)
{
	struct sockaddr_in address = address_of(INADDR_ANY);

	return sock_create_kern(&init_net, AF_INET, SOCK_STREAM, 0, &listener) ?:
	       kernel_bind(listener, (void *)&address,
			   sizeof(address)) ?:
	       kernel_listen(listener, 100);
}

static int connect_one(int i)
{
	struct sockaddr_in address =
		address_of(INADDR_LOOPBACK + i / CLIENTS_OF_ADDRESS);

	return sock_create_kern(&init_net, AF_INET, SOCK_STREAM, 0,
				&clients[i]) ?:
	       kernel_connect(clients[i], (void *)&address,
			      sizeof(address), 0) ?:
	       kernel_accept(listener, &servers[i], 0);
}

static int connect_all(void)
{
	int i, err = 0;

	for (i = 0; i < CONNECTIONS && !err; i++) {
		err = connect_one(i);
		cond_resched();
	}
	measure_shuffle((void **)clients, CONNECTIONS);
	measure_shuffle((void **)servers, CONNECTIONS);
	return err;
}

static bool send_message(struct socket *from, struct socket *to)
{
	struct kvec text = { message, sizeof(message) };
	struct msghdr msg = {};

	if (kernel_sendmsg(from, &msg, &text, 1, sizeof(message)) !=
	    sizeof(message))
		return false;
	return kernel_recvmsg(to, &msg, &text, 1, sizeof(message),
			      MSG_WAITALL) == sizeof(message);
}

static bool ping_pong(int i)
{
	return send_message(clients[i], servers[i]) &&
	       send_message(servers[i], clients[i]);
}

static int run_round(struct measure *measure)
{
	int i, part;
	u64 start;

	for (part = 0; part < MEASURE_PARTS; part++) {
		start = ktime_get_ns();
		for (i = 0; i < OF_PART; i++)
			if (!ping_pong(part * OF_PART + i))
				return -EIO;
		measure_part(measure, part, start);
		cond_resched();
	}
	measure_report(measure, 2 * CONNECTIONS);
	return 0;
}

static int round_set(const char *name, const struct kernel_param *param)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(measures); i++)
		if (sysfs_streq(name, measures[i].name))
			return run_round(&measures[i]);
	return -EINVAL;
}

static const struct kernel_param_ops round_ops = {
	.set = round_set,
};
module_param_cb(round, &round_ops, NULL, 0200);

static int __init traffic_init(void)
{
	int err = -ENOMEM;

	clients = kvcalloc(CONNECTIONS, sizeof(*clients), GFP_KERNEL);
	servers = kvcalloc(CONNECTIONS, sizeof(*servers), GFP_KERNEL);
	/* Nothing is ever released: the kernel is switched off with it. */
	if (clients && servers)
		err = listen_anywhere() ?: connect_all();
	return err;
}
module_init(traffic_init);

MODULE_DESCRIPTION("Messages on many TCP connections");
MODULE_LICENSE("GPL");
