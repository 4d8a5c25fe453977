// SPDX-License-Identifier: GPL-2.0
/*
 * Storage of tasks, cgroups and sockets from wherever a tracing program runs:
 * in interrupts, under the scheduler's locks, inside the allocator and RCU.
 */
#include "harness.h"
#include "net.h"
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "progs/context.h"
#include "context.skel.h"

#define CPUS		4

/* The calling thread's. */
static int own_pidfd(void)
{
	return syscall(SYS_pidfd_open, gettid(), O_EXCL);
}

static int make_cgroup(int number)
{
	char path[64];

	snprintf(path, sizeof(path), CGROUP "/context-%d", number);
	mkdir(path, 0755);
	return open(path, O_RDONLY | O_DIRECTORY);
}

static void remove_cgroup(int number)
{
	char path[64];

	snprintf(path, sizeof(path), CGROUP "/context-%d", number);
	rmdir(path);
}

/* Maps, and what they weigh while empty. */

#define MAPS	6

struct maps {
	int fds[MAPS];
	long long empty[MAPS];
};

static void weigh(struct maps *maps, struct context *skel)
{
	int fds[MAPS] = {
		bpf_map__fd(skel->maps.tasks),
		bpf_map__fd(skel->maps.big_tasks),
		bpf_map__fd(skel->maps.huge_tasks),
		bpf_map__fd(skel->maps.cgroups),
		bpf_map__fd(skel->maps.huge_cgroups),
		bpf_map__fd(skel->maps.sockets),
	};

	for (int i = 0; i < MAPS; i++) {
		maps->fds[i] = fds[i];
		maps->empty[i] = fdinfo_number(fds[i], "memlock");
	}
}

/* Delete what can be deleted: the rest has to go by itself. */
static void empty(struct context *skel)
{
	int fd = iter_over(skel->progs.delete_all, NO_MAP);
	int root = root_cgroup();
	char c;

	while (read(fd, &c, 1) > 0)
		;
	close(fd);
	bpf_map_delete_elem(bpf_map__fd(skel->maps.cgroups), &root);
	close(root);
}

static bool all_empty(struct maps *maps)
{
	for (int i = 0; i < MAPS; i++)
		if (fdinfo_number(maps->fds[i], "memlock") != maps->empty[i])
			return false;
	return true;
}

static void note(const char *what, const struct place *p)
{
	printf("# %s: %llu task, %llu softirq, %llu hardirq, %llu nmi; "
	       "%llu values, %llu big; %llu null, %llu busy\n",
	       what, p->in[IN_TASK], p->in[IN_SOFTIRQ], p->in[IN_HARDIRQ],
	       p->in[IN_NMI], p->got, p->got_big, p->null, p->busy);
}

/* Programs run on a clock of every CPU. */

static int start_clock(struct bpf_program *prog, struct bpf_link **links)
{
	/* A millisecond, or longer where races repeat less often. */
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = ROUNDS * 1000000 / rounds(),
	};
	int cpu, fd;

	for (cpu = 0; cpu < cpus(); cpu++) {
		fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1,
			     PERF_FLAG_FD_CLOEXEC);
		links[cpu] = bpf_program__attach_perf_event(prog, fd);
		if (!links[cpu])
			return -errno;
	}
	return 0;
}

static void load_only(struct context *skel, const char *const names[])
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, false);
	for (; *names; names++) {
		prog = bpf_object__find_program_by_name(skel->obj, *names);
		bpf_program__set_autoload(prog, true);
	}
}

static struct bpf_program *program(struct context *skel, const char *what,
				   const char *kind, int n)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%s_%d", what, kind ?: "", n);
	return bpf_object__find_program_by_name(skel->obj, name);
}

/* Of functions that replace one another from kernel to kernel, the one here. */
static int aim_at_one_of(struct bpf_program *prog, const char *names)
{
	char list[128], *rest = list, *name;

	if (!strchr(names, '|'))
		return bpf_program__set_attach_target(prog, 0, names);
	snprintf(list, sizeof(list), "%s", names);
	while ((name = strsep(&rest, "|")))
		if (has_function(name))
			return bpf_program__set_attach_target(prog, 0, name);
	return -ESRCH;
}

static int aim(struct context *skel, const char *what, const char *kind,
	       const char *const targets[])
{
	struct bpf_program *prog;
	int err;

	for (int i = 0; i < PLACES && targets[i]; i++) {
		prog = program(skel, what, kind, i);
		err = aim_at_one_of(prog, targets[i]);
		if (err)
			return err;
		bpf_program__set_autoload(prog, true);
	}
	return 0;
}

static int attach(struct context *skel, const char *what, const char *kind,
		  const char *const targets[], struct bpf_link **links)
{
	int i;

	for (i = 0; i < PLACES && targets[i]; i++) {
		links[i] = bpf_program__attach(program(skel, what, kind, i));
		if (!links[i])
			return -errno;
	}
	return i;
}

/*
 * The last one first: a clock before the functions that its program calls.
 * An emulator may stumble over functions that are patched while they run.
 */
static void detach(struct context *skel, struct bpf_link **links, int n)
{
	if (!skel)
		return;
	skel->data->quiet = true;
	usleep(200000);
	while (n--) {
		bpf_link__destroy(links[n]);
		links[n] = NULL;
	}
}

/*
 * One CPU: threads that change values of their own, and one that comes between
 * at any time and has a program do the same.
 */

#define CHANGERS	3

struct changes {
	int map;
	bool cgroup, stop;
	int next, errors, error;
};

FIXTURE(one_cpu) {
	struct context *skel;
	struct maps maps;
	struct changes changes;
	struct bpf_link *links[PLACES + 2 + PROCESSORS];
	pthread_t threads[CHANGERS];
};

FIXTURE_VARIANT(one_cpu) {
	bool cgroup;
};

FIXTURE_VARIANT_ADD(one_cpu, task) {
	.cgroup = false,
};

FIXTURE_VARIANT_ADD(one_cpu, cgroup) {
	.cgroup = true,
};

static const char *const one_cpu_programs[] = {
	"clock", "on_getpgid", "on_getsid", "delete_all", NULL
};

/* Where a change may be interrupted for long. */
static const char *const slow_functions[PLACES] = {
	"call_rcu_tasks_trace|call_srcu", "call_rcu", "kfree",
	"__kmalloc_noprof", "__kmalloc_node_noprof",
};

FIXTURE_SETUP(one_cpu)
{
	self->skel = context__open();
	ASSERT_NE(self->skel, NULL);
	load_only(self->skel, one_cpu_programs);
	ASSERT_EQ(aim(self->skel, "dawdle", NULL, slow_functions), 0);
	self->skel->bss->of_cgroup = variant->cgroup;
	self->skel->bss->pid = getpid();
	ASSERT_EQ(context__load(self->skel), 0);
	weigh(&self->maps, self->skel);
	self->changes.cgroup = variant->cgroup;
	self->changes.map = self->maps.fds[variant->cgroup ? 4 : 2];
}

FIXTURE_TEARDOWN(one_cpu)
{
	detach(self->skel, self->links, ARRAY_SIZE(self->links));
	for (int i = 0; i < CHANGERS; i++)
		remove_cgroup(i);
	context__destroy(self->skel);
}

static void *change_own(void *arg)
{
	static char value[BIG_VALUE];
	struct changes *c = arg;
	int number = __sync_fetch_and_add(&c->next, 1);
	int fd;

	on_cpu(0);
	fd = c->cgroup ? make_cgroup(number) : own_pidfd();
	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		if (bpf_map_update_elem(c->map, &fd, value, 0) ||
		    bpf_map_delete_elem(c->map, &fd)) {
			c->error = errno;
			__sync_fetch_and_add(&c->errors, 1);
		}
		getpgid(0);
	}
	close(fd);
	return NULL;
}

/* Whoever runs when a real-time thread's sleep ends has to give way. */
static int come_between(int times)
{
	struct sched_param param = { .sched_priority = 1 };
	struct timespec pause = { .tv_nsec = 50000 };

	on_cpu(0);
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		return -errno;
	while (times--) {
		nanosleep(&pause, NULL);
		getsid(0);
	}
	return 0;
}

TEST_F(one_cpu, nothing_fails_that_interrupts_nothing)
{
	struct changes *c = &self->changes;
	struct context *skel = self->skel;

	/* There, a program finds few large blocks at once. */
	skel->bss->small_only = is_rt();
	ASSERT_GT(attach(skel, "dawdle", NULL, slow_functions, self->links), 0);
	self->links[PLACES] = bpf_program__attach(skel->progs.on_getpgid);
	ASSERT_NE(self->links[PLACES], NULL);
	self->links[PLACES + 1] = bpf_program__attach(skel->progs.on_getsid);
	ASSERT_NE(self->links[PLACES + 1], NULL);
	ASSERT_EQ(start_clock(skel->progs.clock, self->links + PLACES + 2), 0);
	skel->data->quiet = false;
	for (int i = 0; i < CHANGERS; i++)
		ASSERT_EQ(pthread_create(&self->threads[i], NULL, change_own,
					 c), 0);
	EXPECT_EQ(come_between(rounds() * 50), 0);
	__atomic_store_n(&c->stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < CHANGERS; i++)
		pthread_join(self->threads[i], NULL);
	skel->data->quiet = true;
	note("system call", &skel->bss->call);
	note("clock", &skel->bss->places[2 * PLACES]);
	for (int i = 0; slow_functions[i]; i++)
		note(slow_functions[i], &skel->bss->places[i]);
	EXPECT_EQ(c->errors, 0) TH_LOG("the last one: %d", c->error);
	EXPECT_GE(skel->bss->call.got + skel->bss->call.null, rounds() * 50);
	EXPECT_GT(skel->bss->places[2 * PLACES].got, 0);
	EXPECT_EQ(skel->bss->call.odd, 0);
	if (is_stock()) {
		EXPECT_GT(skel->bss->call.null + skel->bss->call.busy, 0);
	} else {
		EXPECT_EQ(skel->bss->call.null, 0);
		EXPECT_EQ(skel->bss->call.busy, 0);
	}
	empty(skel);
	EXPECT_TRUE(EVENTUALLY(all_empty(&self->maps)));
}

/* Every CPU works, and programs come between everywhere. */

FIXTURE(context) {
	struct context *skel;
	struct maps maps;
	struct bpf_link *links[2 * PLACES + PROCESSORS];
	pid_t workers[CPUS];
	int saved[2];
};

#define ENDLESS								\
	"an interrupt refills the free lists of stock, and the programs that " \
	"it runs empty them again: it never ends"

FIXTURE_VARIANT(context) {
	/* What programs are attached to; their kind: "" if it is not set. */
	const char *kind;
	const char *functions[PLACES], *tracepoints[PLACES];
	bool clock, nmis, allocator;
	/* Where some program has to have run, besides a task. */
	enum where seen;
	/* Why not on stock. */
	const char *stock;
};

/* Each machine has its own. */
#ifdef __x86_64__
#define NMI_TRACEPOINT	"nmi_handler"
#define IPI_TRACEPOINTS	"irq_work_entry", "irq_work_exit", \
			"call_function_single_entry", "reschedule_entry"
#else
#define NMI_TRACEPOINT	NULL
#define IPI_TRACEPOINTS	"ipi_entry", "ipi_exit"
#endif

FIXTURE_VARIANT_ADD(context, clock) {
	.clock = true,
	.seen = IN_HARDIRQ,
};

FIXTURE_VARIANT_ADD(context, hardirq) {
	.seen = IN_HARDIRQ,
	.tracepoints = {
		"irq_handler_entry", "hrtimer_expire_entry",
	},
	.functions = {
		"hrtimer_interrupt", "update_process_times",
	},
};

FIXTURE_VARIANT_ADD(context, softirq) {
	.seen = IN_SOFTIRQ,
	.tracepoints = {
		"softirq_entry", "netif_receive_skb",
	},
	.functions = {
		"ip_rcv", "tcp_v4_rcv",
	},
};

FIXTURE_VARIANT_ADD(context, nmi) {
	.stock = "programs in an NMI can hang stock",
	.nmis = true,
	.seen = IN_NMI,
	.tracepoints = {
		NMI_TRACEPOINT,
	},
	.functions = {
		"show_regs",
	},
};

FIXTURE_VARIANT_ADD(context, scheduler) {
	.tracepoints = {
		"sched_switch", "sched_wakeup", "sched_waking",
		"sched_migrate_task",
	},
};

FIXTURE_VARIANT_ADD(context, run_queue) {
	.functions = {
		"enqueue_task_fair", "dequeue_task_fair", "try_to_wake_up",
		"select_task_rq_fair",
	},
};

FIXTURE_VARIANT_ADD(context, kmalloc) {
	.stock = ENDLESS,
	.allocator = true,
	.functions = {
		"__kmalloc_noprof", "__kmalloc_node_noprof",
		"__kmalloc_cache_noprof", "kfree",
	},
	.tracepoints = {
		"kmalloc", "kfree",
	},
};

FIXTURE_VARIANT_ADD(context, slab) {
	.stock = ENDLESS,
	.allocator = true,
	.functions = {
		"kmem_cache_alloc_noprof", "kmem_cache_free", "___slab_alloc",
	},
	.tracepoints = {
		"kmem_cache_alloc",
	},
};

FIXTURE_VARIANT_ADD(context, pages) {
	.allocator = true,
	.functions = {
		"__alloc_pages_noprof|__alloc_frozen_pages_noprof",
		"free_unref_page|free_frozen_pages|__free_frozen_pages",
	},
	.tracepoints = {
		"mm_page_alloc",
	},
};

FIXTURE_VARIANT_ADD(context, rcu) {
	.functions = {
		"call_rcu", "kvfree_call_rcu", "rcu_core",
	},
};

FIXTURE_VARIANT_ADD(context, rcu_tasks) {
	.functions = {
		"call_rcu_tasks_generic|srcu_gp_start_if_needed",
		"call_rcu_tasks_trace|call_srcu",
	},
};

/* On s390, nothing that a program can follow is called for one. */
#ifndef __s390__
FIXTURE_VARIANT_ADD(context, irq_work) {
	.stock = ENDLESS,
	.allocator = true,
	.seen = IN_HARDIRQ,
	.tracepoints = {
		IPI_TRACEPOINTS,
	},
};
#endif

FIXTURE_VARIANT_ADD(context, contention) {
	.tracepoints = {
		"contention_begin", "contention_end",
	},
};

FIXTURE_VARIANT_ADD(context, dying_tasks) {
	.kind = "_of_task",
	.tracepoints = {
		"sched_process_exit", "sched_process_free",
	},
	.functions = {
		"release_task", "put_task_struct_rcu_user",
		"__put_task_struct", "free_task",
	},
};

FIXTURE_VARIANT_ADD(context, sockets) {
	.kind = "_of_socket",
	.tracepoints = {
		"inet_sock_set_state",
	},
	.functions = {
		"tcp_v4_do_rcv", "udp_queue_rcv_skb", "udp_sendmsg",
		"tcp_sendmsg", "inet_sock_destruct",
	},
};

FIXTURE_SETUP(context)
{
	const char *const both[] = { "clock", "delete_all", NULL };

	if (is_stock() && variant->stock)
		SKIP(return, "%s", variant->stock);
	if (variant->nmis && !has_nmis())
		SKIP(return, "no processor can send another one an NMI");
	self->skel = context__open();
	ASSERT_NE(self->skel, NULL);
	load_only(self->skel, both);
	ASSERT_EQ(aim(self->skel, "function", variant->kind,
		      variant->functions), 0);
	ASSERT_EQ(aim(self->skel, "tracepoint", variant->kind,
		      variant->tracepoints), 0);
	self->skel->bss->small_only = variant->allocator;
	if (variant->clock)
		self->skel->data->repeat = 20;
	if (variant->nmis)
		self->skel->data->repeat = 100;
	ASSERT_EQ(context__load(self->skel), 0);
	weigh(&self->maps, self->skel);
}

FIXTURE_TEARDOWN(context)
{
	detach(self->skel, self->links, ARRAY_SIZE(self->links));
	context__destroy(self->skel);
}

/* What a worker does: all that makes the programs run. */

static void fork_into(int cgroup)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
		.cgroup = cgroup,
	};
	pid_t child = syscall(SYS_clone3, &args, sizeof(args));

	if (!child) {
		getppid();
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

static void use_memory(void)
{
	size_t size = 64 << 10;
	char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(pages, 1, size);
	munmap(pages, size);
}

static void use_file(int number)
{
	char path[64], data[256] = {};
	int fd;

	snprintf(path, sizeof(path), "/tmp/context-%d", number);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (write(fd, data, sizeof(data)) < 0)
		perror(path);
	close(fd);
	unlink(path);
}

static void use_sockets(void)
{
	int types[] = { SOCK_STREAM, SOCK_DGRAM };
	char data[100] = {};

	for (int i = 0; i < ARRAY_SIZE(types); i++) {
		int server = socket(AF_INET, types[i], 0), peer;
		int client = socket(AF_INET, types[i], 0);

		start_listening(server);
		connect_to(client, server);
		peer = i ? dup(server) : accept(server, NULL, NULL);
		if (send(client, data, sizeof(data), 0) > 0)
			recv(peer, data, sizeof(data), 0);
		close(client);
		close(peer);
		close(server);
	}
}

/* Values of its own, its parent and its cgroup, all of which programs use. */
static void use_storage(struct maps *maps, int cgroup)
{
	static char value[BIG_VALUE];
	int self = own_pidfd(), parent = syscall(SYS_pidfd_open, getppid(), 0);
	int root = root_cgroup(), sk = tcp_socket();
	const struct {
		int map, fd;
	} values[] = {
		{ 0, self }, { 0, parent }, { 1, self }, { 1, parent },
		{ 3, root }, { 3, cgroup }, { 5, sk },
	};

	for (int i = 0; i < 3 * ARRAY_SIZE(values); i++) {
		int n = i % ARRAY_SIZE(values);
		int map = maps->fds[values[n].map], fd = values[n].fd;

		bpf_map_update_elem(map, &fd, value, 0);
		if (i & 1)
			bpf_map_lookup_elem(map, &fd, value);
		bpf_map_delete_elem(map, &fd);
	}
	close(sk);
	close(root);
	close(parent);
	close(self);
}

static void work(struct maps *maps, int number)
{
	int cgroup;

	on_cpu(number);
	for (int r = 0; r < rounds(); r++) {
		cgroup = make_cgroup(number);
		fork_into(cgroup);
		use_memory();
		use_file(number);
		use_sockets();
		use_storage(maps, cgroup);
		close(cgroup);
		remove_cgroup(number);
	}
}

static void show(const struct place *places, const char *const targets[],
		 struct place *sum)
{
	for (int i = 0; i < PLACES && targets[i]; i++) {
		note(targets[i], &places[i]);
		for (int k = 0; k < CONTEXTS; k++)
			sum->in[k] += places[i].in[k];
		sum->got += places[i].got;
		sum->odd += places[i].odd;
	}
}

TEST_F(context, values_come_and_go)
{
	struct context *skel = self->skel;
	struct place sum = {};
	int n, status;

	n = attach(skel, "function", variant->kind, variant->functions,
		   self->links);
	ASSERT_GE(n, 0);
	ASSERT_GE(attach(skel, "tracepoint", variant->kind,
			 variant->tracepoints, self->links + n), 0);
	if (variant->clock)
		ASSERT_EQ(start_clock(skel->progs.clock, self->links), 0);
	skel->data->quiet = false;
	for (int i = 0; i < CPUS; i++) {
		self->workers[i] = fork();
		if (!self->workers[i]) {
			work(&self->maps, i);
			_exit(0);
		}
		ASSERT_GT(self->workers[i], 0);
	}
	for (int i = 0; variant->nmis && i <= (rounds() + 3) / 4; i++) {
		EXPECT_EQ(write_file("/proc/sysrq-trigger", "l"), 0);
		usleep(10000);
	}
	for (int i = 0; i < CPUS; i++) {
		EXPECT_EQ(waitpid(self->workers[i], &status, 0),
			  self->workers[i]);
		EXPECT_EQ(status, 0);
	}
	skel->data->quiet = true;

	show(skel->bss->places, variant->functions, &sum);
	show(skel->bss->places + PLACES, variant->tracepoints, &sum);
	if (variant->clock)
		show(skel->bss->places + 2 * PLACES,
		     (const char *[]){ "clock", NULL }, &sum);
	EXPECT_GT(sum.got, 0);
	EXPECT_EQ(sum.odd, 0);
	if (variant->seen && !(variant->seen == IN_SOFTIRQ && is_rt()))
		EXPECT_GT(sum.in[variant->seen], 0);
	empty(skel);
	EXPECT_TRUE(EVENTUALLY(all_empty(&self->maps)));
}

TEST_HARNESS_MAIN
