// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that interrupt another one and need what a call on another processor
 * has locked: they wait for it, whatever is held here, but not for ever.
 */
#include "harness.h"
#include "breakpoint.h"
#include <sys/syscall.h>
#include "progs/nested.h"
#include "nested.skel.h"

static void set_trap(struct nested *skel, enum nested_op op, __u64 address)
{
	skel->bss->op = op;
	skel->bss->watched = address;
	skel->bss->pid = getpid();
}

struct other {
	struct nested *skel;
	int map, pid, errors;
	/* Where its changes write to. */
	__u64 slot;
	bool stop;
};

static void *change_own(void *arg)
{
	struct other *other = arg;
	int self, err;

	on_cpu(0);
	self = syscall(SYS_pidfd_open, gettid(), O_EXCL);
	__atomic_store_n(&other->pid, gettid(), __ATOMIC_RELEASE);
	for (int i = 0; !__atomic_load_n(&other->stop, __ATOMIC_RELAXED); i++) {
		err = i & 1 ? delete(other->map, self) :
			      update(other->map, self, i, 0);
		other->errors += err && err != -ENOENT;
	}
	delete(other->map, self);
	close(self);
	return NULL;
}

FIXTURE(crossing) {
	struct nested *skel;
	struct other other;
	pthread_t thread;
	int self, breakpoints[MAX_CPUS], others[MAX_CPUS];
};

FIXTURE_SETUP(crossing)
{
	struct nested *skel;

	NEEDS_BREAKPOINTS();
	skel = nested__open();
	memset(self->breakpoints, -1, sizeof(self->breakpoints));
	memset(self->others, -1, sizeof(self->others));
	ASSERT_NE(skel, NULL);
	self->skel = skel;
	bpf_program__set_autoload(skel->progs.on_breakpoint, true);
	ASSERT_EQ(nested__load(skel), 0);
	ASSERT_EQ(nested__attach(skel), 0);
	self->self = pidfd_open(getpid(), 0);
	self->other.map = bpf_map__fd(skel->maps.missing);
}

FIXTURE_TEARDOWN(crossing)
{
	remove_breakpoints(self->breakpoints);
	remove_breakpoints(self->others);
	nested__destroy(self->skel);
	close(self->self);
}

/*
 * Let the kernel's coarse clock go on, and jiffies with it: so many blocks are
 * to be had in interrupts from one to the next, and guests lose ticks.
 */
static void await_tick(void)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &begin);
	do {
		usleep(1000);
		clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	} while (now.tv_sec == begin.tv_sec && now.tv_nsec == begin.tv_nsec);
}

static void show(const struct nested *skel)
{
	const struct crossed *c = &skel->bss->crossed;

	printf("# %d traps: %llu created, %llu deleted, %llu missing\n",
	       skel->bss->traps, c->created, c->deleted, c->missing);
	printf("# refused: %llu NULL, %llu busy, %llu late\n", c->null,
	       c->busy, c->late);
}

TEST_F(crossing, locks_of_another_processor_are_waited_for)
{
	struct nested *skel = self->skel;
	int map = bpf_map__fd(skel->maps.same), i;
	struct crossed *c = &skel->bss->crossed;
	long long empty = fdinfo_number(self->other.map, "memlock");
	__u64 address;

	if (cpus() < 2)
		SKIP(return, "there is no other processor");
	if (is_stock())
		SKIP(return, "what stock writes to under its locks is not known");
	/* The storage stays, and the slot in it. */
	ASSERT_EQ(update(bpf_map__fd(skel->maps.kept), self->self, 1, 0), 0);
	ASSERT_EQ(run_program(skel->progs.find), 0);
	address = skel->bss->slot_at;
	ASSERT_EQ(delete(map, self->self), 0);
	on_cpu(1);
	ASSERT_EQ(pthread_create(&self->thread, NULL, change_own,
				 &self->other), 0);
	EXPECT_TRUE(EVENTUALLY(__atomic_load_n(&self->other.pid,
					       __ATOMIC_ACQUIRE)));
	skel->bss->other_pid = self->other.pid;
	set_trap(skel, CROSS, address);
	EXPECT_EQ(watch(self->breakpoints, address), 0);
	for (i = 0; i < rounds() * 200; i++) {
		EXPECT_EQ(update(map, self->self, i, 0), 0);
		EXPECT_EQ(delete(map, self->self), 0);
		if (i % 50 == 0)
			await_tick();
	}
	skel->bss->pid = 0;
	__atomic_store_n(&self->other.stop, true, __ATOMIC_RELAXED);
	pthread_join(self->thread, NULL);
	show(skel);
	EXPECT_EQ(skel->bss->traps, 2 * i);
	EXPECT_EQ(self->other.errors, 0);
	EXPECT_GT(c->created, 0);
	EXPECT_GT(c->deleted, 0);
	EXPECT_EQ(c->null, 0);
	EXPECT_EQ(c->busy, 0);
	EXPECT_EQ(c->odd, 0);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->other.map, "memlock") ==
			       empty));
}

/* Change a value that is there, and stays, until the other has seen enough. */
static void *change_kept(void *arg)
{
	struct other *other = arg;
	struct nested *skel = other->skel;
	int self, err;

	on_cpu(0);
	self = syscall(SYS_pidfd_open, gettid(), O_EXCL);
	if (!run_program(skel->progs.find))
		other->slot = skel->bss->slot_at;
	__atomic_store_n(&other->pid, gettid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&other->stop, __ATOMIC_RELAXED)) {
		err = update(other->map, self, 1, BPF_EXIST);
		other->errors += !!err;
	}
	delete(other->map, self);
	close(self);
	return NULL;
}

#define MOST_CHANGES	20000

TEST_F(crossing, two_that_wait_for_each_other_give_up)
{
	struct nested *skel = self->skel;
	struct crossed *c = &skel->bss->crossed;
	struct other *other = &self->other;
	__u64 slot;
	int i;

	if (cpus() < 2)
		SKIP(return, "there is no other processor");
	if (is_stock())
		SKIP(return, "what stock writes to under its locks is not known");
	other->skel = skel;
	other->map = bpf_map__fd(skel->maps.same);
	on_cpu(1);
	ASSERT_EQ(pthread_create(&self->thread, NULL, change_kept, other), 0);
	EXPECT_TRUE(EVENTUALLY(__atomic_load_n(&other->pid, __ATOMIC_ACQUIRE)));
	ASSERT_EQ(run_program(skel->progs.find), 0);
	slot = skel->bss->slot_at;
	skel->bss->other_pid = other->pid;
	skel->bss->watched_other = other->slot;
	set_trap(skel, MEET, slot);
	EXPECT_EQ(watch(self->breakpoints, slot), 0);
	EXPECT_EQ(watch(self->others, other->slot), 0);
	for (i = 0; i < MOST_CHANGES && c->late < ENOUGH; i++)
		EXPECT_EQ(update(other->map, self->self, i, BPF_EXIST), 0);
	skel->bss->pid = 0;
	__atomic_store_n(&other->stop, true, __ATOMIC_RELAXED);
	pthread_join(self->thread, NULL);
	printf("# %llu gave up in %d changes\n", c->late, i);
	EXPECT_GE(c->late, ENOUGH);
	/* Else three each time; a guest that is stopped for long looks like one. */
	EXPECT_LT(c->again, c->late);
	EXPECT_EQ(other->errors, 0);
}

TEST_HARNESS_MAIN
