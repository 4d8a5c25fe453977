// SPDX-License-Identifier: GPL-2.0
/* What becomes of values when their owner, their map or both go. */
#include "harness.h"
#include <sched.h>
#include "kinds_end.skel.h"

#define CPU1_ONLINE	"/sys/devices/system/cpu/cpu1/online"

static void choose(struct bpf_object *obj, struct bpf_program **progs, int n)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, obj)
		bpf_program__set_autoload(prog, false);
	for (int i = 0; i < n; i++)
		bpf_program__set_autoload(progs[i], true);
}

/* A skeleton with these programs of it loaded and attached. */
#define ONLY(...)							\
	({								\
		struct kinds_end *skel = kinds_end__open();		\
		struct bpf_program *progs[] = { __VA_ARGS__ };		\
									\
		choose(skel->obj, progs, ARRAY_SIZE(progs));		\
		if (kinds_end__load(skel) || kinds_end__attach(skel)) {	\
			kinds_end__destroy(skel);			\
			skel = NULL;					\
		}							\
		skel;							\
	})

/*
 * Values that hold a task and a cgroup.  Both end; what is left of them stays
 * until the value is dropped, in one of the ways there are.
 */
FIXTURE(holding) {
	struct kinds_end *holder, *watcher;
	struct storage_owner owner, task, parent, cgroup;
	int map;
};

EVERY_KIND_BUT_SOCKETS(holding);

static struct bpf_map *map_of(struct kinds_end *skel, __u32 type)
{
	switch (type) {
	case BPF_MAP_TYPE_TASK_STORAGE:
		return skel->maps.task_holders;
	case BPF_MAP_TYPE_CGRP_STORAGE:
		return skel->maps.cgrp_holders;
	default:
		return skel->maps.inode_holders;
	}
}

FIXTURE_SETUP(holding)
{
	struct kinds_end *skel;

	NEEDS_TRAMPOLINES();
	self->watcher = ONLY(skel->progs.on_free);
	self->holder = ONLY(skel->progs.hold_with_task,
			    skel->progs.hold_with_cgroup,
			    skel->progs.hold_with_inode);
	ASSERT_NE(self->watcher, NULL);
	ASSERT_NE(self->holder, NULL);
	skel = self->holder;
	self->map = bpf_map__fd(map_of(skel, variant->type));

	self->task = new_task();
	self->parent = new_cgroup();
	self->cgroup = new_cgroup_in(self->parent.path);
	ASSERT_GE(self->cgroup.fd, 0);
	self->owner = new_owner(variant->type);
	ASSERT_GE(self->owner.fd, 0);

	self->watcher->bss->held_pid = self->task.pid;
	skel->bss->pid = getpid();
	skel->bss->owner_pid = self->owner.pid;
	skel->bss->owner_id = inode_number(self->owner.fd);
	skel->bss->held_pid = self->task.pid;
	skel->bss->held_id = inode_number(self->cgroup.fd);
}

FIXTURE_TEARDOWN(holding)
{
	kinds_end__destroy(self->holder);
	kinds_end__destroy(self->watcher);
	end_owner(&self->owner);
	end_owner(&self->task);
	end_owner(&self->cgroup);
	end_owner(&self->parent);
}

/* Let the owner's value hold the task and the cgroup. */
static int hold(struct kinds_end *skel, __u32 type, int owner)
{
	switch (type) {
	case BPF_MAP_TYPE_TASK_STORAGE:
		return run_program(skel->progs.hold_with_task);
	case BPF_MAP_TYPE_CGRP_STORAGE:
		return run_program(skel->progs.hold_with_cgroup);
	default:
		/* An LSM program sees the inode. */
		return fchmod(owner, 0600) ? -errno : 0;
	}
}

static long long dying_cgroups(const char *parent)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/cgroup.stat", parent);
	return number_in(path, "nr_dying_descendants");
}

struct holder {
	__u64 task, cgroup, holds;
};

static struct holder holder_of(int map, int fd)
{
	struct holder holder = {};

	bpf_map_lookup_elem(map, &fd, &holder);
	return holder;
}

#define END_THEM()							\
	do {								\
		end_owner(&self->task);					\
		end_owner(&self->cgroup);				\
		self->task = NO_OWNER;					\
		self->cgroup = NO_OWNER;				\
	} while (0)

#define HOLD_AND_END()							\
	do {								\
		ASSERT_EQ(hold(self->holder, variant->type,		\
			       self->owner.fd), 0);			\
		ASSERT_EQ(hold(self->holder, variant->type,		\
			       self->owner.fd), 0);			\
		ASSERT_EQ(holder_of(self->map, self->owner.fd).holds, 2); \
		END_THEM();						\
		EXPECT_TRUE(EVENTUALLY(					\
			dying_cgroups(self->parent.path) == 1));	\
		EXPECT_EQ(self->watcher->bss->frees, 0);		\
	} while (0)

#define EXPECT_DROPPED()						\
	do {								\
		EXPECT_TRUE(EVENTUALLY(					\
			dying_cgroups(self->parent.path) == 0));	\
		EXPECT_TRUE(EVENTUALLY(self->watcher->bss->frees == 1)); \
	} while (0)

TEST_F(holding, addresses_are_not_shown)
{
	HOLD_AND_END();
	EXPECT_EQ(holder_of(self->map, self->owner.fd).task, 0);
	EXPECT_EQ(holder_of(self->map, self->owner.fd).cgroup, 0);
}

TEST_F(holding, delete_drops_what_is_held)
{
	HOLD_AND_END();
	EXPECT_EQ(bpf_map_delete_elem(self->map, &self->owner.fd), 0);
	EXPECT_DROPPED();
}

TEST_F(holding, what_a_deleted_value_is_given_is_dropped)
{
	self->holder->bss->too_late = true;
	ASSERT_EQ(hold(self->holder, variant->type, self->owner.fd), 0);
	EXPECT_EQ(holder_of(self->map, self->owner.fd).holds, 0);
	END_THEM();
	if (is_stock() && !EVENTUALLY(self->watcher->bss->frees == 1))
		SKIP(return, "this stock kernel did not drop the task");
	EXPECT_DROPPED();
}

TEST_F(holding, replacement_drops_what_is_held)
{
	struct holder fresh = { .task = 1, .cgroup = 1, .holds = 7 };

	HOLD_AND_END();
	EXPECT_EQ(bpf_map_update_elem(self->map, &self->owner.fd, &fresh,
				      BPF_EXIST), 0);
	EXPECT_DROPPED();
	EXPECT_EQ(holder_of(self->map, self->owner.fd).holds, 7);
	EXPECT_EQ(holder_of(self->map, self->owner.fd).task, 0);
}

TEST_F(holding, the_end_of_the_owner_drops_what_is_held)
{
	HOLD_AND_END();
	end_owner(&self->owner);
	self->owner = NO_OWNER;
	EXPECT_DROPPED();
}

TEST_F(holding, the_end_of_the_map_drops_what_is_held)
{
	HOLD_AND_END();
	kinds_end__destroy(self->holder);
	self->holder = NULL;
	EXPECT_DROPPED();
}

/* A CPU that comes back only after the map is gone. */

FIXTURE(offline) {
	struct kinds_end *holder, *watcher;
	struct storage_owner task, cgroup;
};

FIXTURE_SETUP(offline)
{
	if (access(CPU1_ONLINE, F_OK))
		SKIP(return, "there is one processor, and it stays");
	NEEDS_TRAMPOLINES();
	self->watcher = ONLY(skel->progs.on_free);
	self->holder = ONLY(skel->progs.hold_with_task,
			    skel->progs.drop_with_cpu);
	ASSERT_NE(self->watcher, NULL);
	ASSERT_NE(self->holder, NULL);
	self->task = new_task();
	self->cgroup = new_cgroup();
	self->watcher->bss->held_pid = self->task.pid;
	self->holder->bss->owner_pid = getpid();
	self->holder->bss->held_pid = self->task.pid;
	self->holder->bss->held_id = inode_number(self->cgroup.fd);
}

FIXTURE_TEARDOWN(offline)
{
	write_file(CPU1_ONLINE, "1");
	kinds_end__destroy(self->holder);
	kinds_end__destroy(self->watcher);
	end_owner(&self->task);
	end_owner(&self->cgroup);
}

TEST_F(offline, the_map_may_end_while_a_processor_is_offline)
{
	ASSERT_EQ(run_program(self->holder->progs.hold_with_task), 0);
	ASSERT_EQ(write_file(CPU1_ONLINE, "0"), 0);
	EXPECT_EQ(self->holder->bss->dropped, 1);
	end_owner(&self->task);
	self->task = NO_OWNER;
	kinds_end__destroy(self->holder);
	self->holder = NULL;
	EXPECT_TRUE(EVENTUALLY(self->watcher->bss->frees == 1));
}

/* Owners and maps that come and go. */

#define MAPS	8
#define OWNERS	16

struct all {
	__u32 type;
	int maps[MAPS];
	struct storage_owner owners[OWNERS];
	pthread_barrier_t barrier;
	int ended;
	bool done;
};

FIXTURE(going) {
	struct all all;
};

EVERY_KIND_BUT_SOCKETS(going);

static void make_maps(struct all *all)
{
	for (int i = 0; i < MAPS; i++)
		all->maps[i] = create_kind(all->type, 64, 0);
}

static void close_maps(struct all *all)
{
	for (int i = 0; i < MAPS; i++)
		close(all->maps[i]);
}

static void make_owners(struct all *all)
{
	for (int i = 0; i < OWNERS; i++)
		all->owners[i] = new_owner(all->type);
}

static void end_owners(struct all *all)
{
	for (int i = 0; i < OWNERS; i++) {
		end_owner(&all->owners[i]);
		__atomic_store_n(&all->ended, i + 1, __ATOMIC_RELAXED);
	}
}

/* A value for each owner in each map; returns how many there are not. */
static int fill(struct all *all)
{
	char value[64] = "value";
	int missing = 0;

	for (int i = 0; i < OWNERS; i++)
		for (int k = 0; k < MAPS; k++) {
			int map = all->maps[k], *fd = &all->owners[i].fd;

			missing += !!PATIENTLY(bpf_map_update_elem(map, fd,
								   value, 0));
		}
	return missing;
}

FIXTURE_SETUP(going)
{
	self->all.type = variant->type;
	make_maps(&self->all);
	make_owners(&self->all);
	ASSERT_GE(self->all.maps[MAPS - 1], 0);
	ASSERT_GE(self->all.owners[OWNERS - 1].fd, 0);
}

FIXTURE_TEARDOWN(going)
{
	close_maps(&self->all);
	end_owners(&self->all);
}

TEST_F(going, owners_may_go_first)
{
	long long empty = fdinfo_number(self->all.maps[0], "memlock");

	for (int r = 0; r < rounds() / 3; r++) {
		ASSERT_EQ(fill(&self->all), 0);
		end_owners(&self->all);
		make_owners(&self->all);
	}
	for (int i = 0; i < MAPS; i++)
		EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->all.maps[i],
						     "memlock") == empty));
}

TEST_F(going, maps_may_go_first)
{
	for (int r = 0; r < rounds() / 3; r++) {
		ASSERT_EQ(fill(&self->all), 0);
		close_maps(&self->all);
		make_maps(&self->all);
	}
}

static void *end_and_make_owners(void *arg)
{
	struct all *all = arg;

	for (;;) {
		pthread_barrier_wait(&all->barrier);
		if (all->done)
			return NULL;
		end_owners(all);
		make_owners(all);
		pthread_barrier_wait(&all->barrier);
	}
}

TEST_F(going, both_may_go_at_once)
{
	struct all *all = &self->all;
	struct kinds_end *skel;
	pthread_t thread;

	NEEDS_TRAMPOLINES();
	skel = ONLY(skel->progs.on_map_free, skel->progs.after_map_free,
		    skel->progs.on_destroy);
	ASSERT_NE(skel, NULL);
	pthread_barrier_init(&all->barrier, NULL, 2);
	ASSERT_EQ(pthread_create(&thread, NULL, end_and_make_owners, all), 0);
	for (int r = 0; goes_on(r, rounds() / 3, skel->bss->met); r++) {
		EXPECT_EQ(fill(all), 0);
		all->ended = 0;
		pthread_barrier_wait(&all->barrier);
		/* When an owner's memory goes, only the kernel knows. */
		while (__atomic_load_n(&all->ended, __ATOMIC_RELAXED) <
		       r * 5 % OWNERS)
			sched_yield();
		close_maps(all);
		make_maps(all);
		pthread_barrier_wait(&all->barrier);
	}
	all->done = true;
	pthread_barrier_wait(&all->barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&all->barrier);
	EXPECT_GE(skel->bss->met, ENOUGH)
		TH_LOG("owners that went amid the freeing");
	kinds_end__destroy(skel);
}

/* Tasks that a program gives a value when they are born. */

FIXTURE(births) {
	struct kinds_end *skel;
	long long empty;
	int map;
};

FIXTURE_SETUP(births)
{
	self->skel = ONLY(skel->progs.on_birth, skel->progs.on_last_moment);
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.births);
	self->empty = fdinfo_number(self->map, "memlock");
	self->skel->bss->pid = getpid();
}

FIXTURE_TEARDOWN(births)
{
	kinds_end__destroy(self->skel);
}

/* A burst of them may outrun an allocator that is refilled later. */
#define EXPECT_BIRTHS(n)						\
	do {								\
		EXPECT_EQ(self->skel->bss->created +			\
			  self->skel->bss->failed, n);			\
		EXPECT_GE(self->skel->bss->created, (n) * 9 / 10);	\
		EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map,		\
					"memlock") == self->empty));	\
	} while (0)

TEST_F(births, the_task_has_the_value)
{
	struct storage_owner child = new_task();

	EXPECT_EQ(lookup(self->map, child.fd), child.pid);
	end_owner(&child);
}

TEST_F(births, short_lived_tasks_leave_nothing)
{
	for (int i = 0; i < 2000; i++) {
		pid_t child = vfork();

		/* Some get as far as to another program. */
		if (!child) {
			if (i % 20 == 0)
				execl("/bin/true", "true", NULL);
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
	EXPECT_BIRTHS(2000);
}

/* A value that is deleted, and made anew, when the task is almost gone. */
TEST_F(births, values_made_at_the_last_moment)
{
	self->skel->bss->renew = 1;
	for (int i = 0; i < 200; i++) {
		pid_t child = vfork();

		if (!child)
			_exit(0);
		waitpid(child, NULL, 0);
	}
	EXPECT_TRUE(EVENTUALLY(self->skel->bss->renewed >= 180));
	EXPECT_BIRTHS(200);
}

static void *nothing(void *arg)
{
	return arg;
}

TEST_F(births, threads_have_values_of_their_own)
{
	pthread_t threads[8];

	for (int i = 0; i < 100; i++) {
		for (int k = 0; k < ARRAY_SIZE(threads); k++)
			ASSERT_EQ(pthread_create(&threads[k], NULL, nothing,
						 NULL), 0);
		for (int k = 0; k < ARRAY_SIZE(threads); k++)
			pthread_join(threads[k], NULL);
	}
	EXPECT_BIRTHS(800);
}

/* What a task's value does when the task forks and when it executes. */

FIXTURE(task) {
	int map, self;
};

FIXTURE_SETUP(task)
{
	/* The flag is for sockets: it is taken, and nothing is cloned. */
	self->map = create_kind(BPF_MAP_TYPE_TASK_STORAGE, 8, BPF_F_CLONE);
	ASSERT_GE(self->map, 0);
	self->self = pidfd_open(getpid(), 0);
}

FIXTURE_TEARDOWN(task)
{
	close(self->map);
	close(self->self);
}

TEST_F(task, fork_does_not_inherit)
{
	struct storage_owner child;

	ASSERT_EQ(update(self->map, self->self, 7, BPF_ANY), 0);
	child = new_task();
	EXPECT_EQ(lookup(self->map, child.fd), -ENOENT);
	end_owner(&child);
}

TEST_F(task, exec_keeps_the_value)
{
	int to[2], from[2], pidfd;
	char byte = 0;
	pid_t child;

	ASSERT_EQ(pipe(to), 0);
	ASSERT_EQ(pipe(from), 0);
	child = fork();
	if (!child) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		if (read(0, &byte, 1) == 1)
			execl("/bin/cat", "cat", NULL);
		_exit(1);
	}
	pidfd = pidfd_open(child, 0);
	EXPECT_EQ(update(self->map, pidfd, 8, BPF_ANY), 0);
	ASSERT_EQ(write(to[1], "xy", 2), 2);
	/* The second byte comes back from another program. */
	EXPECT_EQ(read(from[0], &byte, 1), 1);
	EXPECT_EQ(byte, 'y');
	EXPECT_EQ(lookup(self->map, pidfd), 8);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
	close(pidfd);
}

TEST_F(task, a_zombie_keeps_the_value)
{
	struct storage_owner child = new_task();
	siginfo_t info;

	EXPECT_EQ(update(self->map, child.fd, 9, BPF_ANY), 0);
	kill(child.pid, SIGKILL);
	waitid(P_PID, child.pid, &info, WEXITED | WNOWAIT);
	EXPECT_EQ(lookup(self->map, child.fd), 9);
	waitpid(child.pid, NULL, 0);
	child.pid = 0;
	EXPECT_EQ(lookup(self->map, child.fd), -ENOENT);
	end_owner(&child);
}

/* What an inode's value does when names and memory go. */

FIXTURE(inode) {
	int map;
};

FIXTURE_SETUP(inode)
{
	self->map = create_kind(BPF_MAP_TYPE_INODE_STORAGE, 8, 0);
	ASSERT_GE(self->map, 0);
}

FIXTURE_TEARDOWN(inode)
{
	close(self->map);
}

static int open_named(void)
{
	return open("/tmp/storage-file", O_CREAT | O_RDWR, 0600);
}

TEST_F(inode, names_do_not_matter)
{
	int fd = open_named(), again;

	EXPECT_EQ(update(self->map, fd, 1, BPF_ANY), 0);
	ASSERT_EQ(rename("/tmp/storage-file", "/tmp/storage-other"), 0);
	again = open("/tmp/storage-other", O_RDONLY);
	EXPECT_EQ(lookup(self->map, again), 1);
	ASSERT_EQ(unlink("/tmp/storage-other"), 0);
	EXPECT_EQ(lookup(self->map, fd), 1);
	close(again);
	again = open_named();
	EXPECT_EQ(lookup(self->map, again), -ENOENT);
	ASSERT_EQ(unlink("/tmp/storage-file"), 0);
	close(again);
	close(fd);
}

TEST_F(inode, unlinked_files_leave_nothing)
{
	long long empty = fdinfo_number(self->map, "memlock");

	for (int i = 0; i < 1000; i++) {
		int fd = open_named();

		ASSERT_EQ(PATIENTLY(update(self->map, fd, 1, BPF_NOEXIST)), 0);
		unlink("/tmp/storage-file");
		close(fd);
	}
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map, "memlock") == empty));
}

/* A program makes a value for every inode that is about to be freed. */
TEST_F(inode, a_value_may_be_made_during_eviction)
{
	struct kinds_end *skel;
	long long empty;
	int fd, map;

	NEEDS_TRAMPOLINES();
	skel = ONLY(skel->progs.on_eviction);
	ASSERT_NE(skel, NULL);
	map = bpf_map__fd(skel->maps.evictions);
	empty = fdinfo_number(map, "memlock");
	skel->bss->pid = getpid();
	for (int i = 0; i < 200; i++) {
		fd = open_named();
		if (i % 2)
			PATIENTLY(update(map, fd, 1, BPF_NOEXIST));
		unlink("/tmp/storage-file");
		close(fd);
	}
	EXPECT_GE(skel->bss->evicted, 180);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(map, "memlock") == empty));
	kinds_end__destroy(skel);
}

/* Drop what nobody uses; a first pass only marks what was used lately. */
static void drop_caches(void)
{
	for (int i = 0; i < 3; i++)
		write_file("/proc/sys/vm/drop_caches", "2");
}

static long long lookup_path(int map, const char *path)
{
	int fd = open(path, O_RDONLY);
	long long value = lookup(map, fd);

	close(fd);
	return value;
}

TEST_F(inode, eviction_takes_the_values)
{
	const char *path = "/proc/sys/kernel/osrelease";
	long long empty = fdinfo_number(self->map, "memlock");
	int fd = open(path, O_RDONLY);

	EXPECT_EQ(update(self->map, fd, 1, BPF_ANY), 0);
	drop_caches();
	EXPECT_EQ(lookup_path(self->map, path), 1);
	close(fd);
	EXPECT_TRUE(EVENTUALLY((drop_caches(),
				lookup_path(self->map, path) == -ENOENT)));
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map, "memlock") == empty));
}

/* A lock in each value, which programs and bpf(2) take in turn. */

FIXTURE(locked) {
	struct kinds_end *skel;
	struct storage_owner cgroup;
	int self, file;
};

FIXTURE_SETUP(locked)
{
	NEEDS_TRAMPOLINES();
	self->skel = ONLY(skel->progs.count_pairs);
	ASSERT_NE(self->skel, NULL);
	self->cgroup = new_cgroup();
	ASSERT_EQ(enter_cgroup(self->cgroup.path), 0);
	self->self = pidfd_open(getpid(), 0);
	self->file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	self->skel->bss->owner_id = inode_number(self->file);
	self->skel->bss->pid = getpid();
}

FIXTURE_TEARDOWN(locked)
{
	enter_cgroup("");
	kinds_end__destroy(self->skel);
	close(self->self);
	close(self->file);
	end_owner(&self->cgroup);
}

struct pair {
	__u32 lock, one;
	__u64 two;
};

struct touching {
	int file, threads;
};

static void *touch_often(void *arg)
{
	struct touching *touching = arg;

	for (int i = 0; i < rounds() * 20; i++) {
		fchmod(touching->file, 0600);
		/* There may be but one processor. */
		sched_yield();
	}
	__sync_fetch_and_sub(&touching->threads, 1);
	return NULL;
}

TEST_F(locked, no_count_is_lost)
{
	struct {
		struct bpf_map *map;
		int fd;
	} all[] = {
		{ self->skel->maps.task_pairs, self->self },
		{ self->skel->maps.cgrp_pairs, self->cgroup.fd },
		{ self->skel->maps.inode_pairs, self->file },
	};
	struct touching touching = { .file = self->file, .threads = 2 };
	__u64 last[ARRAY_SIZE(all)] = {};
	struct pair pair = {};
	pthread_t threads[2];
	int met = 0;

	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, touch_often,
					 &touching), 0);
	for (int i = 0; __atomic_load_n(&touching.threads, __ATOMIC_ACQUIRE);
	     i = (i + 1) % ARRAY_SIZE(all)) {
		if (bpf_map_lookup_elem_flags(bpf_map__fd(all[i].map),
					      &all[i].fd, &pair, BPF_F_LOCK))
			continue;
		EXPECT_EQ(pair.one, pair.two);
		met += pair.two != last[i];
		last[i] = pair.two;
	}
	EXPECT_GE(met, ENOUGH) TH_LOG("reads amid the counting");
	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < ARRAY_SIZE(all); i++) {
		ASSERT_EQ(bpf_map_lookup_elem(bpf_map__fd(all[i].map),
					      &all[i].fd, &pair), 0);
		EXPECT_EQ(pair.two, rounds() * 40) TH_LOG("map %d", i);
		EXPECT_EQ(pair.one, pair.two);
	}
}

TEST_HARNESS_MAIN
