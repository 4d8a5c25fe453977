// SPDX-License-Identifier: GPL-2.0
/* Many maps: with a slot of their own, without one, and changing places. */
#include "common.h"
#include "sockopt.skel.h"

#define MAX_MAPS OUTER_ENTRIES

FIXTURE(slots) {
	struct sockopt *skel;
	struct bpf_link *link;
	int cgroup, outer, sk;
	int maps[MAX_MAPS];
};

FIXTURE_SETUP(slots)
{
	self->skel = sockopt__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->cgroup = root_cgroup();
	self->link = bpf_program__attach_cgroup(self->skel->progs.on_getsockopt,
						self->cgroup);
	ASSERT_NE(self->link, NULL);
	self->outer = bpf_map__fd(self->skel->maps.outer);
	self->sk = tcp_socket();
	for (int i = 0; i < MAX_MAPS; i++)
		self->maps[i] = NO_MAP;
}

FIXTURE_TEARDOWN(slots)
{
	for (int i = 0; i < MAX_MAPS; i++)
		if (self->maps[i] != NO_MAP)
			close(self->maps[i]);
	bpf_link__destroy(self->link);
	sockopt__destroy(self->skel);
	close(self->cgroup);
	close(self->sk);
}

/* A map like main_map, reachable for programs under number i. */
static int add_map(struct sockopt *skel, int *maps, __u32 i)
{
	int main_map = bpf_map__fd(skel->maps.main_map), err;
	struct spec spec = { .type = BPF_MAP_TYPE_SK_STORAGE, .key_size = 4,
			     .value_size = 8, .flags = BPF_F_NO_PREALLOC };
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	err = bpf_map_get_info_by_fd(main_map, &info, &len);
	if (err)
		return err;
	spec.btf_fd = bpf_btf_get_fd_by_id(info.btf_id);
	spec.key_type = info.btf_key_type_id;
	spec.value_type = info.btf_value_type_id;
	maps[i] = create(&spec);
	close(spec.btf_fd);
	if (maps[i] < 0)
		return maps[i];
	return bpf_map_update_elem(bpf_map__fd(skel->maps.outer), &i, &maps[i],
				   0);
}

static int drop_map(struct sockopt *skel, int *maps, __u32 i)
{
	close(maps[i]);
	maps[i] = NO_MAP;
	return bpf_map_delete_elem(bpf_map__fd(skel->maps.outer), &i);
}

#define ADD(i)	ASSERT_EQ(add_map(self->skel, self->maps, i), 0)
#define DROP(i)	ASSERT_EQ(drop_map(self->skel, self->maps, i), 0)

TEST_F(slots, every_count_of_maps)
{
	for (int n = 0; n < 70; n++) {
		ADD(n);
		EXPECT_EQ(operate(self->sk, n, DO_CREATE_WITH, n + 1).err, 0);
		for (int i = 0; i <= n; i++) {
			EXPECT_EQ(operate(self->sk, i, DO_GET, 0).value, i + 1)
				TH_LOG("map %d of %d", i, n);
		}
	}
}

TEST_F(slots, a_thousand_maps)
{
	const int n = 1000;

	for (int i = 0; i < n; i++) {
		ADD(i);
		ASSERT_EQ(operate(self->sk, i, DO_CREATE_WITH, i + 1).err, 0);
	}
	for (int i = 0; i < n; i++)
		ASSERT_EQ(operate(self->sk, i, DO_GET, 0).value, i + 1);
	for (int i = 0; i < n; i += 3)
		ASSERT_EQ(operate(self->sk, i, DO_DELETE, 0).err, 0);
	for (int i = 0; i < n; i++)
		ASSERT_EQ(operate(self->sk, i, DO_GET, 0).err, i % 3 ? 0 : -1);
	for (int i = 0; i < n; i += 3)
		ASSERT_EQ(operate(self->sk, i, DO_CREATE_WITH, 5).err, 0);
	for (int i = 0; i < n; i++)
		ASSERT_EQ(operate(self->sk, i, DO_GET, 0).value,
			  i % 3 ? i + 1 : 5);
}

TEST_F(slots, maps_made_after_the_storage)
{
	/* The socket keeps something before most of the maps exist. */
	ADD(0);
	ASSERT_EQ(operate(self->sk, 0, DO_CREATE_WITH, 100).err, 0);
	for (int i = 1; i < 40; i++) {
		ADD(i);
		EXPECT_EQ(operate(self->sk, i, DO_GET, 0).err, -1);
		EXPECT_EQ(operate(self->sk, i, DO_CREATE_WITH, 100 + i).err, 0);
	}
	for (int i = 0; i < 40; i++)
		EXPECT_EQ(operate(self->sk, i, DO_GET, 0).value, 100 + i);
}

TEST_F(slots, a_map_without_slot_comes_first)
{
	int late = tcp_socket();

	for (int i = 0; i < 30; i++)
		ADD(i);
	EXPECT_EQ(operate(late, 29, DO_CREATE_WITH, 9).err, 0);
	EXPECT_EQ(operate(late, 0, DO_GET, 0).err, -1);
	EXPECT_EQ(operate(late, 29, DO_GET, 0).value, 9);
	EXPECT_EQ(operate(late, 29, DO_DELETE, 0).err, 0);
	EXPECT_EQ(optmem(late), 0);
	close(late);
}

TEST_F(slots, a_new_map_starts_empty)
{
	/* Nothing of a freed map shows through the one that follows it. */
	for (int round = 0; round < 60; round++) {
		ADD(1);
		EXPECT_EQ(operate(self->sk, 1, DO_GET, 0).err, -1);
		EXPECT_EQ(operate(self->sk, 1, DO_CREATE_WITH, round).err, 0);
		DROP(1);
	}
}

TEST_F(slots, reload_of_sixteen_maps)
{
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < 16; i++) {
			ADD(i);
			EXPECT_EQ(operate(self->sk, i, DO_GET, 0).err, -1);
			EXPECT_EQ(operate(self->sk, i, DO_CREATE_WITH,
					  i + round).err, 0);
		}
		for (int i = 0; i < 16; i++)
			EXPECT_EQ(operate(self->sk, i, DO_GET, 0).value,
				  i + round);
		for (int i = 0; i < 16; i++)
			DROP(i);
	}
	EXPECT_TRUE(EVENTUALLY(optmem(self->sk) == 0));
}

TEST_F(slots, updates_among_many)
{
	__u64 value;

	for (int i = 0; i < 50; i++) {
		ADD(i);
		value = i;
		ASSERT_EQ(bpf_map_update_elem(self->maps[i], &self->sk, &value,
					      BPF_NOEXIST), 0);
	}
	for (int round = 1; round < 4; round++)
		for (int i = 0; i < 50; i++) {
			value = i + round * 1000;
			ASSERT_EQ(bpf_map_update_elem(self->maps[i], &self->sk,
						      &value, BPF_EXIST), 0);
			EXPECT_EQ(operate(self->sk, i, DO_GET, 0).value, value);
		}
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(bpf_map_delete_elem(self->maps[i], &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
}

TEST_HARNESS_MAIN
