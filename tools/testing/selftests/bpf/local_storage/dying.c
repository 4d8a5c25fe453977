// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that meet an owner when it is about to go: whether its value is
 * still there, and whether it can be deleted or a new one be made.
 */
#include "harness.h"
#include "net.h"
#include <linux/filter.h>
#include "progs/dying.h"
#include "dying.skel.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

#define OWNERS_PER_TEST	4

#ifndef SCHED_EXT
#define SCHED_EXT	7
#endif

/*
 * Lives of owners.  A program gives the owner a value when it is born; then it
 * goes.
 */

static void lead_task(struct dying *skel)
{
	struct sched_param param = {};
	pid_t child = fork();

	if (!child) {
		/* To be known to a scheduler that is a program. */
		sched_setscheduler(0, SCHED_EXT, &param);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void try_fork(struct dying *skel)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (child > 0)
		waitpid(child, NULL, 0);
}

/* A process number that is in use lets a fork fail. */
static void fork_same_pid(struct dying *skel)
{
	pid_t taken = getpid();
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (unsigned long)&taken,
		.set_tid_size = 1,
	};

	if (!syscall(SYS_clone3, &args, sizeof(args)))
		_exit(0);
}

/* A program kills the forking task, so that its fork fails at the very end. */
static void fork_killed(struct dying *skel)
{
	int go[2];
	pid_t forker;
	char byte = 0;

	if (pipe(go))
		return;
	skel->bss->armed = 0;
	forker = fork();
	if (!forker) {
		if (read(go[0], &byte, 1) == 1 && !fork())
			_exit(0);
		_exit(1);
	}
	skel->bss->forker = forker;
	skel->bss->armed = 1;
	if (write(go[1], &byte, 1) == 1)
		waitpid(forker, NULL, 0);
	close(go[0]);
	close(go[1]);
}

static void lead_cgroup(struct dying *skel)
{
	struct storage_owner cgroup = new_cgroup();

	end_owner(&cgroup);
}

static void lead_inode(struct dying *skel)
{
	int fd;

	skel->bss->armed = 0;
	fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	skel->bss->armed = 1;
	fchmod(fd, 0600);
	close(fd);
}

static void lead_inode_refused(struct dying *skel)
{
	close(open("/tmp", O_TMPFILE | O_RDWR, 0600));
}

static void lead_tcp(struct dying *skel)
{
	close(tcp_socket());
}

static int listening(void)
{
	int fd = tcp_socket();

	listen(fd, 1);
	return fd;
}

static void lead_listener(struct dying *skel)
{
	close(listening());
}

static void lead_udp(struct dying *skel)
{
	close(socket(AF_INET, SOCK_DGRAM, 0));
}

static void lead_udp_group(struct dying *skel)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (void *)&addr, sizeof(addr)))
		return;
	close(fd);
}

static void lead_unix(struct dying *skel)
{
	close(socket(AF_UNIX, SOCK_STREAM, 0));
}

static void lead_filtered(struct dying *skel)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
	struct sock_fprog prog = { .len = 1, .filter = &all };
	int fd = tcp_socket();

	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
	close(fd);
}

static void lead_test_run(struct dying *skel)
{
	run_on_packet(skel->progs.test_run_socket, 1);
}

struct life {
	const char *birth;		/* a program */
	void (*lead)(struct dying *skel);
};

static const struct life
	task = { "new_task", lead_task },
	task_refused = { "refused_task", try_fork },
	task_failed = { "early_task", fork_same_pid },
	task_killed = { "killed_task", fork_killed },
	cgroup = { "new_cgroup", lead_cgroup },
	inode = { "touched_inode", lead_inode },
	inode_refused = { "refused_inode", lead_inode_refused },
	tcp = { "new_socket", lead_tcp },
	listener = { "new_socket", lead_listener },
	udp = { "new_socket", lead_udp },
	udp_group = { "new_socket", lead_udp_group },
	local = { "new_socket", lead_unix },
	filtered = { "new_socket", lead_filtered },
	test_run = { "test_run_socket", lead_test_run };

FIXTURE(dying) {
	struct dying *skel;
	long long empty;
};

FIXTURE_VARIANT(dying) {
	const char *hook;
	const struct life *life;
	int can, can_later;
};

/* What a program can do with the value there on the kernel's own, as bits. */
enum {
	FINDS = 1, MAKES = 2, DELETES = 4,
	NONE = 0, SEEN = FINDS, NEW = MAKES, KEPT = FINDS | DELETES,
	ALL = FINDS | MAKES | DELETES,
	/* It makes one for a socket that has been destroyed. */
	UNSAFE = 8,
};

#define MEET_LATER(name, whose, what, what_later)			\
	FIXTURE_VARIANT_ADD(dying, whose##_in_##name) {			\
		.hook = #name, .life = &whose,				\
		.can = what, .can_later = what_later,			\
	}

#define MEET(name, whose, what) MEET_LATER(name, whose, what, what)

MEET(sched_process_exit, task, ALL);
MEET(sched_switch, task, ALL);
MEET(release_task, task, ALL);
MEET(sched_process_free, task, ALL);
MEET(__put_task_struct, task, KEPT);
MEET_LATER(disable, task, KEPT, ALL);
MEET_LATER(exit_task, task, KEPT, ALL);
MEET(cgroup_free, task, KEPT);
MEET(task_free, task, KEPT);
MEET_LATER(exit_creds, task, NONE, KEPT);
MEET_LATER(free_task, task, NONE, KEPT);
MEET_LATER(arch_release_task_struct, task, NONE, KEPT);

MEET(task_free, task_refused, ALL);
MEET_LATER(sched_cancel_fork, task_refused, NEW, ALL);
MEET_LATER(free_task, task_refused, NEW, ALL);
MEET(task_free, task_failed, ALL);
MEET_LATER(free_task, task_failed, NEW, ALL);
MEET(task_free, task_killed, ALL);
MEET_LATER(sched_cancel_fork, task_killed, NEW, ALL);
MEET_LATER(free_task, task_killed, NEW, ALL);

MEET(cgroup_exit, cgroup, KEPT);
MEET(cgroup_bpf_offline, cgroup, ALL);
MEET(cgroup_rmdir, cgroup, KEPT);
MEET(cpu_cgroup_css_free, cgroup, KEPT);
MEET(cgroup_last_user, cgroup, KEPT);
MEET(cgroup_rstat_flush, cgroup, KEPT);
MEET(cgroup_rstat_exit, cgroup, NONE);

MEET(inode_free_security, inode, ALL);
MEET(inode_free_security, inode_refused, ALL);

MEET(inet_sock_set_state, listener, ALL);
MEET(inet_csk_destroy_sock, tcp, ALL);
MEET(sk_free, tcp, SEEN);
MEET(sk_destruct, tcp, SEEN);
MEET(inet_sock_destruct, tcp, SEEN);
MEET(sk_filter_uncharge, filtered, SEEN);
MEET(mem_cgroup_sk_free, tcp, NONE);
MEET(sk_free_security, tcp, NONE);
MEET(sk_common_release, udp, ALL);
MEET(sk_free_security, udp, NONE);
MEET(reuseport_detach_sock, udp_group, ALL);
MEET(unix_sock_destructor, local, SEEN);
MEET(sk_free_security, local, NONE);
MEET(sk_free, test_run, ALL);
MEET(sk_destruct, test_run, ALL);
MEET(mem_cgroup_sk_free, test_run, UNSAFE);
MEET(sk_free_security, test_run, UNSAFE);

/* Bytes that the values in all maps take. */
static long long bytes_of_values(struct dying *skel)
{
	long long bytes = 0;
	struct bpf_map *map;

	bpf_object__for_each_map(map, skel->obj)
		if (bpf_map__fd(map) >= 0 &&
		    bpf_map__map_flags(map) & BPF_F_NO_PREALLOC)
			bytes += fdinfo_number(bpf_map__fd(map), "memlock");
	return bytes;
}

static bool is_one_of(const char *name, const char *one, const char *other)
{
	return !strcmp(name, one) || !strcmp(name, other);
}

static bool has_schedulers(void)
{
	return has_struct("sched_ext_ops");
}

/* Whether a program's hook is one that this kernel has. */
static bool has_hook(struct bpf_program *prog)
{
	const char *section = bpf_program__section_name(prog);

	if (!strncmp(section, "fentry/", 7))
		return has_function(section + 7);
	return bpf_program__type(prog) != BPF_PROG_TYPE_STRUCT_OPS ||
	       has_schedulers();
}

/* The program that meets the owner, and the one that gives it its value. */
static struct dying *open_for(const char *hook, const struct life *life)
{
	struct dying *skel = dying__open();
	struct bpf_program *prog;
	struct bpf_map *map;
	char scheduler[64];

	if (!skel)
		return NULL;
	snprintf(scheduler, sizeof(scheduler), "with_%s", hook);
	bpf_object__for_each_map(map, skel->obj)
		if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS)
			bpf_map__set_autocreate(map, !strcmp(scheduler,
							     bpf_map__name(map)));
	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog,
			is_one_of(bpf_program__name(prog), hook, life->birth));
	return skel;
}

FIXTURE_SETUP(dying)
{
	struct dying *skel = open_for(variant->hook, variant->life);
	struct bpf_program *prog;

	ASSERT_NE(skel, NULL);
	self->skel = skel;
	prog = bpf_object__find_program_by_name(skel->obj, variant->hook);
	/* A scheduler's is built where there are some. */
	ASSERT_TRUE(prog || !has_schedulers());
	if (!prog || !has_hook(prog))
		SKIP(return, "%s() is nothing that this kernel calls",
		     variant->hook);
	ASSERT_EQ(dying__load(skel), 0);
	ASSERT_EQ(dying__attach(skel), 0);
	skel->bss->pid = getpid();
	/* For a cgroup that has more than itself to get rid of. */
	write_file(CGROUP "/cgroup.subtree_control", "+cpu +memory");
	self->empty = bytes_of_values(skel);
}

FIXTURE_TEARDOWN(dying)
{
	dying__destroy(self->skel);
}

/* How many owners were met, and with how many the program succeeded. */
struct meetings_with {
	int met, done;
};

static struct meetings_with meet(struct dying *skel, const struct life *life,
				 int op)
{
	struct meetings_with sum = {};

	skel->bss->op = op;
	for (int i = 0; i < OWNERS_PER_TEST; i++) {
		/* The one before may be met more than once. */
		skel->bss->owner = 0;
		skel->bss->met = 0;
		skel->bss->done = 0;
		skel->bss->born = 0;
		skel->bss->armed = 1;
		life->lead(skel);
		if (!EVENTUALLY(skel->bss->met) || !skel->bss->born)
			break;
		sum.met++;
		sum.done += skel->bss->done;
	}
	skel->bss->owner = 0;
	return sum;
}

static int what_it_can(const FIXTURE_VARIANT(dying) *variant)
{
	return is_late() ? variant->can_later : variant->can;
}

/* Whether all could be done that can be done on any kernel. */
#define EXPECT_CAN(which, bit) do {					\
	struct meetings_with __m = which;				\
									\
	EXPECT_EQ(__m.met, OWNERS_PER_TEST);				\
	if (what_it_can(variant) & (bit)) {				\
		EXPECT_EQ(__m.done, OWNERS_PER_TEST);			\
	} else if (is_stock()) {					\
		EXPECT_EQ(__m.done, 0);					\
	}								\
} while (0)

TEST_F(dying, what_a_program_can_do_on_any_kernel)
{
	struct meetings_with made;

	if (is_stock() && variant->can == UNSAFE)
		SKIP(return, "stock makes a value for a destroyed socket");
	EXPECT_CAN(meet(self->skel, variant->life, FIND), FINDS);
	made = meet(self->skel, variant->life, MAKE);
	EXPECT_CAN(made, MAKES);
	if (variant->can == UNSAFE) {
		EXPECT_EQ(made.done, 0);
	}
	EXPECT_CAN(meet(self->skel, variant->life, DELETE), DELETES);
	EXPECT_TRUE(EVENTUALLY(bytes_of_values(self->skel) == self->empty));
}

TEST_HARNESS_MAIN
