// SPDX-License-Identifier: GPL-2.0
/*
 * Values made with interrupts off: of any size that the map allows, and paid
 * for by the cgroup in which the map was made.
 */
#include "harness.h"
#include "net.h"
#include <sched.h>
#include "progs/irqs_off.h"
#include "irqs_off.skel.h"

/* Loaded programs, of which one runs, and the cgroup in which they were. */
struct payer {
	struct irqs_off *skel;
	struct bpf_link *link;
	struct storage_owner cgroup;
	int map;
	long long before;
};

static long long memory_of(const struct storage_owner *cgroup)
{
	char path[128], text[32] = {};
	int fd;

	snprintf(path, sizeof(path), "%s/memory.current", cgroup->path);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return text[0] ? atoll(text) : -1;
}

/* Load what the cgroup pays for, from within. */
static int load_in(struct payer *payer, const char *map, const char *context,
		   bool inner)
{
	struct bpf_program *prog;
	struct bpf_map *outer;
	char name[32];
	int err, zero = 0;

	payer->skel = irqs_off__open();
	if (!payer->skel)
		return -ENOMEM;
	payer->skel->rodata->only_count = find_only_count();
	snprintf(name, sizeof(name), "%s_%s", map, context);
	prog = bpf_object__find_program_by_name(payer->skel->obj, name);
	bpf_program__set_autoload(prog, true);
	err = irqs_off__load(payer->skel);
	if (err)
		return err;
	payer->map = bpf_object__find_map_fd_by_name(payer->skel->obj, map);
	if (inner) {
		snprintf(name, sizeof(name), "outer_%s", map);
		outer = bpf_object__find_map_by_name(payer->skel->obj, name);
		err = bpf_map_update_elem(bpf_map__fd(outer), &zero,
					  &payer->map, 0);
		payer->skel->bss->inner = true;
	}
	if (err)
		return err;
	payer->link = bpf_program__attach(prog);
	return payer->link ? 0 : -errno;
}

static int start(struct payer *payer, const char *map, const char *context,
		 bool inner)
{
	int err;

	err = write_file(CGROUP "/cgroup.subtree_control", "+memory");
	if (err)
		return err;
	payer->cgroup = new_cgroup();
	err = enter_cgroup(payer->cgroup.path);
	if (!err)
		err = load_in(payer, map, context, inner);
	/* Whoever makes values is in another cgroup. */
	return enter_cgroup("") ?: err;
}

static void stop(struct payer *payer)
{
	if (payer->skel)
		payer->skel->bss->busy = false;
	bpf_link__destroy(payer->link);
	payer->link = NULL;
	irqs_off__destroy(payer->skel);
	payer->skel = NULL;
}

FIXTURE(irqs_off) {
	struct payer payer;
	struct storage_owner owners[TASKS];
	int nr;
	long long empty;
};

FIXTURE_VARIANT(irqs_off) {
	const char *map, *context;
	__u32 type, size;
	bool inner;
};

#define TASK	BPF_MAP_TYPE_TASK_STORAGE
#define CGRP	BPF_MAP_TYPE_CGRP_STORAGE

#define NAMED(name, context_, map_, type_, size_, inner_)		\
	FIXTURE_VARIANT_ADD(irqs_off, name) {				\
		.context = #context_, .map = #map_, .type = type_,	\
		.size = size_, .inner = inner_,				\
	}
#define IRQS_OFF(context, map, type, size)				\
	NAMED(context##_##map, context, map, type, size, false)
#define INNER_IRQS_OFF(context, map, type, size)			\
	NAMED(context##_inner_##map, context, map, type, size, true)

IRQS_OFF(switch, small, TASK, 8);
IRQS_OFF(switch, page, TASK, PAGE);
IRQS_OFF(switch, medium, TASK, MEDIUM);
IRQS_OFF(switch, large, TASK, LARGE);
IRQS_OFF(switch, largest, TASK, LARGEST);
IRQS_OFF(switch, cgroups, CGRP, LARGE);
INNER_IRQS_OFF(switch, medium, TASK, MEDIUM);
INNER_IRQS_OFF(switch, large, TASK, LARGE);
INNER_IRQS_OFF(switch, cgroups, CGRP, LARGE);
IRQS_OFF(hardirq, medium, TASK, MEDIUM);
IRQS_OFF(hardirq, large, TASK, LARGE);
IRQS_OFF(hardirq, cgroups, CGRP, LARGE);
INNER_IRQS_OFF(hardirq, large, TASK, LARGE);
IRQS_OFF(nmi, medium, TASK, MEDIUM);
IRQS_OFF(nmi, large, TASK, LARGE);

/* What may be charged ahead on the CPUs, or not be given back yet. */
static long long tolerance(void)
{
	return cpus() * (256LL << 10);
}

/* As many as it takes for their values to stand out, if they can. */
static int enough_owners(__u32 size)
{
	int nr = 8;

	if (TASKS * size < tolerance())
		return nr;
	while (nr < TASKS && nr * size < 2 * tolerance())
		nr *= 2;
	return nr;
}

FIXTURE_SETUP(irqs_off)
{
	struct payer *payer = &self->payer;
	int i;

	if (!strcmp(variant->context, "nmi") && !has_nmis())
		SKIP(return, "no processor can send another one an NMI");
	for (i = 0; i < TASKS; i++)
		self->owners[i] = NO_OWNER;
	ASSERT_EQ(start(payer, variant->map, variant->context,
			variant->inner), 0);
	self->nr = enough_owners(variant->size);
	for (i = 0; i < self->nr; i++) {
		self->owners[i] = new_owner(variant->type);
		ASSERT_GE(self->owners[i].fd, 0);
	}
	for (i = 0; i < TASKS; i++) {
		const struct storage_owner *owner = &self->owners[i % self->nr];

		payer->skel->bss->pids[i] = owner->pid;
		payer->skel->bss->ids[i] = inode_number(owner->fd);
	}
	self->empty = fdinfo_number(payer->map, "memlock");
	payer->before = memory_of(&payer->cgroup);
	ASSERT_GT(payer->before, 0);
}

FIXTURE_TEARDOWN(irqs_off)
{
	stop(&self->payer);
	for (int i = 0; i < self->nr; i++)
		end_owner(&self->owners[i]);
	end_owner(&self->payer.cgroup);
}

/* Owners that have no value. */
static int without(int map, const struct storage_owner *owners, int nr_owners)
{
	static char value[LARGEST + 1];
	int nr = 0;

	for (int i = 0; i < nr_owners; i++)
		nr += !!bpf_map_lookup_elem(map, &owners[i].fd, value);
	return nr;
}

static int without_after(const char *context, int map,
			 const struct storage_owner *owners, int nr_owners)
{
	/* To sleep is to let the others happen. */
	if (!strcmp(context, "nmi"))
		write_file("/proc/sysrq-trigger", "l");
	return without(map, owners, nr_owners);
}

TEST_F(irqs_off, values_are_paid_for_by_the_cgroup_of_the_map)
{
	struct payer *payer = &self->payer;
	long long sum = (long long)self->nr * variant->size;

	payer->skel->bss->busy = true;
	ASSERT_TRUE(EVENTUALLY(!without_after(variant->context, payer->map,
					      self->owners, self->nr)))
		TH_LOG("%d of %d have no value",
		       without(payer->map, self->owners, self->nr), self->nr);
	payer->skel->bss->busy = false;
	EXPECT_EQ(payer->skel->bss->odd, 0);
	EXPECT_GT(memory_of(&payer->cgroup) - payer->before,
		  sum - tolerance());

	for (int i = 0; i < self->nr; i += 2)
		EXPECT_EQ(delete(payer->map, self->owners[i].fd), 0);
	for (int i = 1; i < self->nr; i += 2) {
		end_owner(&self->owners[i]);
		self->owners[i] = NO_OWNER;
	}
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(payer->map, "memlock") ==
			       self->empty));
	stop(payer);
	EXPECT_TRUE(EVENTUALLY(memory_of(&payer->cgroup) - payer->before <
			       tolerance()))
		TH_LOG("%lld bytes more than before, of %lld",
		       memory_of(&payer->cgroup) - payer->before, sum);
}

/* Sockets, which the programs find in a place of their process. */

FIXTURE(sockets) {
	struct irqs_off *skel;
	long long empty[2];
	int maps[2];
};

FIXTURE_SETUP(sockets)
{
	self->skel = irqs_off__open();
	ASSERT_NE(self->skel, NULL);
	self->skel->rodata->only_count = find_only_count();
}

static int run_for_sockets(struct irqs_off *skel, struct bpf_program *prog,
			   int *maps, long long *empty)
{
	int err;

	bpf_program__set_autoload(prog, true);
	err = irqs_off__load(skel) ?: irqs_off__attach(skel);
	if (err)
		return err;
	maps[0] = bpf_map__fd(skel->maps.sockets);
	maps[1] = bpf_map__fd(skel->maps.large_sockets);
	for (int i = 0; i < 2; i++)
		empty[i] = fdinfo_number(maps[i], "memlock");
	return 0;
}

FIXTURE_TEARDOWN(sockets)
{
	if (self->skel->bss)
		self->skel->bss->pid = 0;
	irqs_off__destroy(self->skel);
	close(SK_FD);
}

static bool both_empty(const int *maps, const long long *empty)
{
	return fdinfo_number(maps[0], "memlock") == empty[0] &&
	       fdinfo_number(maps[1], "memlock") == empty[1];
}

/*
 * The memory of a TCP socket stays one while RCU readers look at it; that of a
 * UDP socket does if it was bound.
 */
static int socket_in_place(int type)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	int fd = socket(AF_INET, type, 0), sk;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (type == SOCK_DGRAM && bind(fd, (void *)&addr, sizeof(addr)))
		sk = -errno;
	else
		sk = dup2(fd, SK_FD);
	close(fd);
	return sk;
}

TEST_F(sockets, get_values_under_a_run_queue_s_lock)
{
	struct irqs_off *skel = self->skel;
	char value[LARGE];

	ASSERT_EQ(run_for_sockets(skel, skel->progs.of_socket, self->maps,
				  self->empty), 0);
	ASSERT_EQ(socket_in_place(SOCK_STREAM), SK_FD);
	skel->bss->remain = true;
	skel->bss->pid = getpid();
	/* To sleep is to let the program run. */
	EXPECT_TRUE(EVENTUALLY(skel->bss->large_got));
	EXPECT_GT(skel->bss->sockets_got, 0);
	EXPECT_EQ(lookup(self->maps[0], SK_FD), 0);
	EXPECT_GE(optmem(SK_FD), LARGE + 8);
	EXPECT_EQ(bpf_map_lookup_elem(self->maps[1], &(int){ SK_FD }, value),
		  0);

	skel->bss->remain = false;
	EXPECT_TRUE(EVENTUALLY(skel->bss->sockets_deleted));
	skel->bss->pid = 0;
	EXPECT_TRUE(EVENTUALLY(both_empty(self->maps, self->empty)));
	EXPECT_EQ(optmem(SK_FD), 0);
}

/* Sockets in this network namespace. */
static int sockets_in_use(void)
{
	FILE *file = fopen("/proc/net/sockstat", "r");
	int number = -1;

	if (file && fscanf(file, "sockets: used %d", &number) != 1)
		number = -1;
	if (file)
		fclose(file);
	return number;
}

static void *yield_on_1(void *stop)
{
	on_cpu(1);
	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED))
		sched_yield();
	return NULL;
}

static int runs(struct irqs_off *skel)
{
	return __atomic_load_n(&skel->bss->sockets_seen, __ATOMIC_RELAXED);
}

/* The program may be the last to know a socket, and then has to free it. */
TEST_F(sockets, are_closed_while_they_get_values)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	struct irqs_off *skel = self->skel;
	pthread_t threads[2];
	bool stop = false;
	int before, i;

	ASSERT_EQ(run_for_sockets(skel, skel->progs.of_socket_often,
				  self->maps, self->empty), 0);
	before = sockets_in_use();
	ASSERT_GE(before, 0);
	skel->bss->pid = getpid();
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, yield_on_1, &stop),
			  0);
	on_cpu(0);
	for (i = 0; i < rounds() * 20; i++) {
		int seen = runs(skel);

		skel->bss->remain = i & 2;
		ASSERT_EQ(socket_in_place(types[i & 1]), SK_FD);
		EXPECT_TRUE(EVENTUALLY(runs(skel) != seen));
		close(SK_FD);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	skel->bss->pid = 0;
	EXPECT_GT(skel->bss->sockets_got, 0);
	EXPECT_TRUE(EVENTUALLY(both_empty(self->maps, self->empty)));
	EXPECT_TRUE(EVENTUALLY(sockets_in_use() == before));
}

TEST_HARNESS_MAIN
