// SPDX-License-Identifier: GPL-2.0
/* Deleted values wait for a grace period: not for more memory than there is. */
#include "harness.h"
#include "progs/waiting.h"
#include "waiting.skel.h"

#define MEMINFO	"/proc/meminfo"

FIXTURE(waiting) {
	struct waiting *skel;
	long long empty;
	int map;
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
}

FIXTURE_TEARDOWN(waiting)
{
	waiting__destroy(self->skel);
}

struct sampler {
	long long least;	/* memory available, in KiB */
	bool stop;
};

static void *sample(void *arg)
{
	struct sampler *sampler = arg;
	long long available;

	while (!__atomic_load_n(&sampler->stop, __ATOMIC_RELAXED)) {
		available = number_in(MEMINFO, "MemAvailable");
		if (available < sampler->least)
			sampler->least = available;
		usleep(1000);
	}
	return NULL;
}

TEST_F(waiting, memory_is_bounded)
{
	long long before = number_in(MEMINFO, "MemAvailable");
	struct sampler sampler = { .least = before };
	struct waiting *skel = self->skel;
	char value[WAITING_VALUE] = {};
	pthread_t thread;
	int fd;

	ASSERT_EQ(pthread_create(&thread, NULL, sample, &sampler), 0);
	EXPECT_EQ(run_program(variant->sleepable ? skel->progs.sleepable :
						   skel->progs.not_sleepable),
		  0);
	__atomic_store_n(&sampler.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("# %d created, %d failed; %lld MiB of %lld were left\n",
	       skel->bss->created, skel->bss->failed, sampler.least >> 10,
	       before >> 10);
	EXPECT_EQ(skel->bss->created + skel->bss->failed, TURNS);
	EXPECT_EQ(skel->bss->deleted, skel->bss->created);
	EXPECT_GT(skel->bss->created, 0);
	EXPECT_GT(skel->bss->failed, 0);
	EXPECT_GT(sampler.least, before / 2);

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
