// SPDX-License-Identifier: GPL-2.0
/* Deleted values wait for a grace period: not for more memory than there is. */
#include "harness.h"
#include "progs/waiting.h"
#include "waiting.skel.h"

#define MEMINFO	"/proc/meminfo"

FIXTURE(waiting) {
	struct waiting *skel;
	long long empty;
	int map, locked;
};

FIXTURE_VARIANT(waiting) {
	bool sleepable;
};

FIXTURE_VARIANT_ADD(waiting, sleepable) {
	.sleepable = true,
};

FIXTURE_VARIANT_ADD(waiting, not_sleepable) {
	.sleepable = false,
};

FIXTURE_SETUP(waiting)
{
	if (is_stock())
		SKIP(return, "stock has no bound: it leaves no memory, or panics");
	self->skel = waiting__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.values);
	self->empty = fdinfo_number(self->map, "memlock");
	self->locked = create_with_lock(BPF_MAP_TYPE_TASK_STORAGE);
	ASSERT_GE(self->locked, 0);
}

FIXTURE_TEARDOWN(waiting)
{
	waiting__destroy(self->skel);
	close(self->locked);
}

struct sampler {
	long long least;	/* memory available, in KiB */
	bool stop;
	/* Maps of the task that does not wait. */
	int map, locked, task;
	int refused, failed;
};

static void *sample(void *arg)
{
	struct sampler *sampler = arg;
	char value[WAITING_VALUE] = {};
	long long available;
	int err;

	while (!__atomic_load_n(&sampler->stop, __ATOMIC_RELAXED)) {
		available = number_in(MEMINFO, "MemAvailable");
		if (available < sampler->least)
			sampler->least = available;
		err = bpf_map_update_elem(sampler->map, &sampler->task, value,
					  0);
		if (err == -ENOMEM)
			sampler->refused++;
		else if (err)
			sampler->failed++;
		/* What changes in place needs no memory. */
		if (update(sampler->locked, sampler->task, 0,
			   BPF_F_LOCK | BPF_EXIST))
			sampler->failed++;
		usleep(1000);
	}
	return NULL;
}

TEST_F(waiting, memory_is_bounded)
{
	long long before = number_in(MEMINFO, "MemAvailable");
	struct storage_owner task = new_task();
	struct sampler sampler = {
		.least = before, .map = self->map,
		.locked = self->locked, .task = task.fd,
	};
	struct waiting *skel = self->skel;
	char value[WAITING_VALUE] = {};
	pthread_t thread;
	int fd;

	ASSERT_EQ(update(self->locked, task.fd, 0, 0), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, sample, &sampler), 0);
	EXPECT_EQ(run_program(variant->sleepable ? skel->progs.sleepable :
						   skel->progs.not_sleepable),
		  0);
	__atomic_store_n(&sampler.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("# %d created, %d failed; %lld MiB of %lld were left; "
	       "%d updates were refused\n",
	       skel->bss->created, skel->bss->failed, sampler.least >> 10,
	       before >> 10, sampler.refused);
	EXPECT_EQ(skel->bss->created + skel->bss->failed, TURNS);
	EXPECT_EQ(skel->bss->deleted, skel->bss->created);
	EXPECT_GT(skel->bss->created, 0);
	EXPECT_GT(skel->bss->failed, 0);
	EXPECT_GT(sampler.least, before / 2);
	/* From lists that are not refilled meanwhile, too little to wait for. */
	if (variant->sleepable || !is_rt())
		EXPECT_GT(sampler.refused, 0);
	EXPECT_EQ(sampler.failed, 0);
	end_owner(&task);

	fd = pidfd_open(getpid(), 0);
	EXPECT_EQ(PATIENTLY(bpf_map_update_elem(self->map, &fd, value, 0)), 0);
	EXPECT_EQ(delete(self->map, fd), 0);
	close(fd);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map, "memlock") ==
			       self->empty));
	EXPECT_TRUE(EVENTUALLY(number_in(MEMINFO, "MemAvailable") >
			       before - (before >> 4)));
}

TEST_HARNESS_MAIN
