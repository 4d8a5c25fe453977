// SPDX-License-Identifier: GPL-2.0
/* A task's, cgroup's or inode's value, from each type of program. */
#include "harness.h"
#include "net.h"
#include "kinds.skel.h"
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/syscall.h>

enum attaching {
	LINK, CGROUP_LINK, ITERATOR, PAGE_FAULT, INTERRUPT, RUN, RUN_ON_PACKET
};

static const struct report expected = {
	.calls = 1,
	.absent = -1, .delete_absent = -ENOENT,
	.created = 0, .existing = 5, .bad_flags = -1,
	.deleted = 0, .after_delete = -1, .deleted_again = -ENOENT,
	.initial = INITIAL,
	.null_get = -1, .null_delete = -EINVAL,
};

static const char * const fields[] = {
	"calls", "absent", "delete_absent", "created", "existing", "bad_flags",
	"deleted", "after_delete", "deleted_again", "initial", "null_get",
	"null_delete",
};

/* The first field in which a report is not as it should be; NULL: none. */
static const char *difference(const struct report *seen,
			      const struct report *wanted)
{
	const long long *a = (void *)seen, *b = (void *)wanted;

	_Static_assert(sizeof(fields) / sizeof(*fields) ==
		       sizeof(*seen) / sizeof(*a), "a name for each field");
	for (int i = 0; i < ARRAY_SIZE(fields); i++)
		if (a[i] != b[i])
			return fields[i];
	return NULL;
}

static struct kinds *load_only(const char *name)
{
	struct kinds *skel = kinds__open();
	struct bpf_program *prog;

	if (!skel)
		return NULL;
	bpf_object__for_each_program(prog, skel->obj) {
		bool wanted = !strcmp(bpf_program__name(prog), name);

		bpf_program__set_autoload(prog, wanted);
	}
	if (!kinds__load(skel))
		return skel;
	kinds__destroy(skel);
	return NULL;
}

/* A file with a name, in a directory of its own. */
static char dir_path[64], file_path[80], other_path[80];

static void make_files(void)
{
	snprintf(dir_path, sizeof(dir_path), "/tmp/storage-XXXXXX");
	if (!mkdtemp(dir_path))
		return;
	snprintf(file_path, sizeof(file_path), "%s/file", dir_path);
	snprintf(other_path, sizeof(other_path), "%s/other", dir_path);
	close(open(file_path, O_CREAT | O_RDWR, 0600));
}

static void remove_files(void)
{
	unlink(file_path);
	unlink(other_path);
	rmdir(dir_path);
}

FIXTURE(program) {
	struct kinds *skel;
	struct bpf_link *link;
	struct storage_owner child, cgroup;
	int self, file, dir;
};

enum whose { OF_SELF, OF_CHILD, OF_CGROUP, OF_FILE, OF_DIR };

FIXTURE_VARIANT(program) {
	const char *name;
	enum attaching attaching;
	enum whose whose;
};

FIXTURE_SETUP(program)
{
	self->child = new_task();
	self->self = pidfd_open(getpid(), 0);
	self->cgroup = new_cgroup();
	ASSERT_GE(self->cgroup.fd, 0);
	make_files();
	self->file = open(file_path, O_RDWR);
	ASSERT_GE(self->file, 0);
	self->dir = open(dir_path, O_RDONLY | O_DIRECTORY);

	self->skel = load_only(variant->name);
	ASSERT_NE(self->skel, NULL);
	self->skel->bss->owner_pid = self->child.pid;
	self->skel->bss->owner_ino =
		inode_number(variant->whose == OF_CGROUP ? self->cgroup.fd :
			     variant->whose == OF_DIR ? self->dir : self->file);
	ASSERT_EQ(enter_cgroup(self->cgroup.path), 0);
}

FIXTURE_TEARDOWN(program)
{
	bpf_link__destroy(self->link);
	kinds__destroy(self->skel);
	enter_cgroup("");
	remove_files();
	close(self->file);
	close(self->dir);
	close(self->self);
	end_owner(&self->child);
	end_owner(&self->cgroup);
}

#define PROGRAM(prog, way, owner)			\
	FIXTURE_VARIANT_ADD(program, prog) {		\
		.name = #prog, .attaching = way,	\
		.whose = owner,				\
	}

PROGRAM(task_kprobe, LINK, OF_SELF);
PROGRAM(task_kretprobe, LINK, OF_SELF);
PROGRAM(task_tracepoint, LINK, OF_SELF);
PROGRAM(task_raw_tp, LINK, OF_SELF);
PROGRAM(task_tp_btf, LINK, OF_SELF);
PROGRAM(task_perf_event, PAGE_FAULT, OF_SELF);
PROGRAM(task_interrupt, INTERRUPT, OF_SELF);
PROGRAM(task_syscall, RUN, OF_SELF);
PROGRAM(task_lsm_cgroup, CGROUP_LINK, OF_SELF);
PROGRAM(task_fentry, LINK, OF_CHILD);
PROGRAM(task_fexit, LINK, OF_CHILD);
PROGRAM(task_fmod_ret, LINK, OF_CHILD);
PROGRAM(task_lsm, LINK, OF_CHILD);
PROGRAM(task_lsm_s, LINK, OF_CHILD);
PROGRAM(task_iter, ITERATOR, OF_CHILD);
PROGRAM(task_iter_s, ITERATOR, OF_CHILD);
PROGRAM(task_acquired, RUN, OF_CHILD);
PROGRAM(cgrp_kprobe, LINK, OF_CGROUP);
PROGRAM(cgrp_tracepoint, LINK, OF_CGROUP);
PROGRAM(cgrp_raw_tp, LINK, OF_CGROUP);
PROGRAM(cgrp_tp_btf, LINK, OF_CGROUP);
PROGRAM(cgrp_perf_event, PAGE_FAULT, OF_CGROUP);
PROGRAM(cgrp_interrupt, INTERRUPT, OF_CGROUP);
PROGRAM(cgrp_fentry, LINK, OF_CGROUP);
PROGRAM(cgrp_fexit, LINK, OF_CGROUP);
PROGRAM(cgrp_fmod_ret, LINK, OF_CGROUP);
PROGRAM(cgrp_lsm, LINK, OF_CGROUP);
PROGRAM(cgrp_lsm_s, LINK, OF_CGROUP);
PROGRAM(cgrp_lsm_cgroup, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_egress, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_sock_create, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_connect, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_setsockopt, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_getsockopt, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_sysctl, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_dev, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_sockops, CGROUP_LINK, OF_CGROUP);
PROGRAM(cgrp_socket_filter, RUN_ON_PACKET, OF_CGROUP);
PROGRAM(cgrp_tc, RUN_ON_PACKET, OF_CGROUP);
PROGRAM(cgrp_xdp, RUN_ON_PACKET, OF_CGROUP);
PROGRAM(cgrp_iter, ITERATOR, OF_CGROUP);
PROGRAM(cgrp_syscall, RUN, OF_CGROUP);
PROGRAM(inode_open, LINK, OF_FILE);
PROGRAM(inode_open_s, LINK, OF_FILE);
PROGRAM(inode_unlink, LINK, OF_FILE);
PROGRAM(inode_rename, LINK, OF_FILE);
PROGRAM(inode_setattr, LINK, OF_FILE);
PROGRAM(inode_create, LINK, OF_DIR);
PROGRAM(inode_mkdir, LINK, OF_DIR);

static int read_all(struct bpf_link *link)
{
	int fd = bpf_iter_create(bpf_link__fd(link)), got;
	char text[64];

	if (fd < 0)
		return fd;
	while ((got = read(fd, text, sizeof(text))) > 0)
		;
	close(fd);
	return got;
}

static struct bpf_link *on_event(struct bpf_program *prog, __u64 event,
				 __u64 period)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr),
		.config = event, .sample_period = period,
	};

	return bpf_program__attach_perf_event(prog,
			syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

static struct bpf_link *iterate(struct bpf_program *prog, int cgroup)
{
	union bpf_iter_link_info info = {
		.cgroup.order = BPF_CGROUP_ITER_SELF_ONLY,
		.cgroup.cgroup_fd = cgroup,
	};
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info,
		    .link_info_len = sizeof(info));
	bool of_cgroups = strstr(bpf_program__section_name(prog), "cgroup");

	return bpf_program__attach_iter(prog, of_cgroups ? &opts : NULL);
}

static struct bpf_link *attach(struct bpf_program *prog, int cgroup,
			       enum attaching attaching)
{
	switch (attaching) {
	case CGROUP_LINK:
		return bpf_program__attach_cgroup(prog, cgroup);
	case ITERATOR:
		return iterate(prog, cgroup);
	case PAGE_FAULT:
		/* In the context of the task, which touches a page. */
		return on_event(prog, PERF_COUNT_SW_PAGE_FAULTS, 1);
	case INTERRUPT:
		/* A timer's, while the task runs. */
		return on_event(prog, PERF_COUNT_SW_CPU_CLOCK, 100000);
	default:
		return bpf_program__attach(prog);
	}
}

static void use_sockets(void)
{
	int fd = tcp_socket(), client = tcp_socket(), one = 1;
	socklen_t len = sizeof(one);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	start_listening(fd);
	connect_to(client, fd);
	getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, &len);
	close(client);
	close(fd);
}

static void use_files(void)
{
	char path[80];

	close(open(file_path, O_RDONLY));
	chmod(file_path, 0640);
	rename(file_path, other_path);
	unlink(other_path);
	close(open(file_path, O_RDWR | O_CREAT, 0600));
	snprintf(path, sizeof(path), "%s/dir", dir_path);
	mkdir(path, 0700);
	rmdir(path);
	close(open("/dev/null", O_RDWR));
	write_file("/proc/sys/kernel/domainname", "(none)");
}

/* Whatever makes one of the programs run. */
static void do_everything(pid_t child)
{
	cpu_set_t cpus;
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	page[0] = 1;
	munmap(page, 4096);
	getpgid(child);
	sched_getaffinity(child, sizeof(cpus), &cpus);
	sched_setaffinity(child, sizeof(cpus), &cpus);
	use_sockets();
	use_files();
}

/* Let the program run once for its owner, or more often. */
static int trigger(struct bpf_program *prog, struct bpf_link *link,
		   enum attaching attaching, const struct report *seen,
		   pid_t child)
{
	switch (attaching) {
	case RUN:
		return run_program(prog);
	case RUN_ON_PACKET:
		return run_on_packet(prog, 1);
	case ITERATOR:
		return read_all(link);
	case INTERRUPT:
		while (!__atomic_load_n(&seen->calls, __ATOMIC_RELAXED))
			;
		return 0;
	default:
		do_everything(child);
		return 0;
	}
}

TEST_F(program, it_has_the_helpers)
{
	const struct report *seen = &self->skel->bss->report;
	int fds[] = { self->self, self->child.fd, self->cgroup.fd, self->file,
		      self->dir };
	struct bpf_program *prog;
	struct bpf_map *values;

	prog = bpf_object__find_program_by_name(self->skel->obj, variant->name);
	if (is_of_function(prog))
		NEEDS_TRAMPOLINES();
	values = variant->whose <= OF_CHILD ? self->skel->maps.task_values :
		 variant->whose == OF_CGROUP ? self->skel->maps.cgrp_values :
					       self->skel->maps.inode_values;
	if (variant->attaching < RUN) {
		self->link = attach(prog, self->cgroup.fd, variant->attaching);
		ASSERT_NE(self->link, NULL);
	}
	self->skel->bss->pid = getpid();
	ASSERT_EQ(trigger(prog, self->link, variant->attaching, seen,
			  self->child.pid), 0);
	self->skel->bss->pid = 0;

	EXPECT_GE(seen->calls, 1);
	self->skel->bss->report.calls = 1;
	EXPECT_EQ(difference(seen, &expected), NULL)
		TH_LOG("%s", difference(seen, &expected));
	EXPECT_EQ(lookup(bpf_map__fd(values), fds[variant->whose]), INITIAL);
}

/* A cgroup that is removed keeps what it has, and gets nothing new. */

FIXTURE(dying) {
	struct kinds *skel;
	struct storage_owner cgroup;
};

FIXTURE_SETUP(dying)
{
	struct bpf_program *prog;

	self->cgroup = new_cgroup();
	ASSERT_GE(self->cgroup.fd, 0);
	self->skel = kinds__open();
	ASSERT_NE(self->skel, NULL);
	bpf_object__for_each_program(prog, self->skel->obj) {
		bool wanted = prog == self->skel->progs.keep_cgroup ||
			      prog == self->skel->progs.use_kept_cgroup;

		bpf_program__set_autoload(prog, wanted);
	}
	ASSERT_EQ(kinds__load(self->skel), 0);
	self->skel->bss->owner_ino = inode_number(self->cgroup.fd);
}

FIXTURE_TEARDOWN(dying)
{
	kinds__destroy(self->skel);
	end_owner(&self->cgroup);
}

TEST_F(dying, without_a_value_it_gets_none)
{
	struct report *seen = &self->skel->bss->report;
	struct report wanted = {
		.calls = 1,
		.absent = -1, .delete_absent = -ENOENT,
		.created = -1, .existing = -1, .bad_flags = -1,
		.deleted = -ENOENT, .after_delete = -1,
		.deleted_again = -ENOENT, .initial = -1,
		.null_get = -1, .null_delete = -EINVAL,
	};

	ASSERT_EQ(run_program(self->skel->progs.keep_cgroup), 0);
	ASSERT_EQ(rmdir(self->cgroup.path), 0);
	ASSERT_EQ(run_program(self->skel->progs.use_kept_cgroup), 0);
	EXPECT_EQ(difference(seen, &wanted), NULL)
		TH_LOG("%s", difference(seen, &wanted));
}

TEST_F(dying, with_a_value_it_has_that_until_deleted)
{
	struct report *seen = &self->skel->bss->report;

	self->skel->bss->value_before_removal = 1;
	ASSERT_EQ(run_program(self->skel->progs.keep_cgroup), 0);
	ASSERT_EQ(rmdir(self->cgroup.path), 0);
	ASSERT_EQ(run_program(self->skel->progs.use_kept_cgroup), 0);
	EXPECT_EQ(seen->absent, 0);
	EXPECT_EQ(seen->delete_absent, 0);
	EXPECT_EQ(seen->created, -1);
}

TEST_HARNESS_MAIN
