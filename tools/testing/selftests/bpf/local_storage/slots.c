// SPDX-License-Identifier: GPL-2.0
/*
 * Many maps: with a slot of their own, without one, and changing places; and
 * maps that ask for a slot, or for none.
 */
#include "harness.h"
#include "operate.h"

#define MAX_MAPS OUTER_ENTRIES

FIXTURE(slots) {
	struct operator operator;
	int outer, sk;
	int maps[MAX_MAPS];
};

FIXTURE_SETUP(slots)
{
	ASSERT_EQ(start_operator(&self->operator), 0);
	self->outer = bpf_map__fd(self->operator.skel->maps.outer);
	self->sk = tcp_socket();
	for (int i = 0; i < MAX_MAPS; i++)
		self->maps[i] = NO_MAP;
}

FIXTURE_TEARDOWN(slots)
{
	for (int i = 0; i < MAX_MAPS; i++)
		if (self->maps[i] != NO_MAP)
			close(self->maps[i]);
	end_operator(&self->operator);
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

#define ADD(i)	ASSERT_EQ(add_map(self->operator.skel, self->maps, i), 0)
#define DROP(i)	ASSERT_EQ(drop_map(self->operator.skel, self->maps, i), 0)

TEST_F(slots, any_number_of_maps_works)
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

TEST_F(slots, a_thousand_maps_work)
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

TEST_F(slots, maps_may_be_made_after_the_storage)
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

TEST_F(slots, sixteen_maps_can_be_reloaded)
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

TEST_F(slots, updates_among_many_stay_apart)
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

/* Flags that ask for a slot or against one; each kind has 16 of its own. */

#define SLOTS			16

FIXTURE(flag) {
	int maps[SLOTS], others[20];
	bool stock;
};

EVERY_KIND(flag);

FIXTURE_SETUP(flag)
{
	const char *flavour = getenv("FLAVOUR");

	self->stock = is_stock();
	/* Where it is known which kernel runs, it is no question of finding. */
	if (flavour)
		ASSERT_EQ(self->stock, !strcmp(flavour, "stock"));
	for (int i = 0; i < ARRAY_SIZE(self->maps); i++)
		self->maps[i] = NO_MAP;
	for (int i = 0; i < ARRAY_SIZE(self->others); i++)
		self->others[i] = NO_MAP;
}

static void close_all(int *maps, int n)
{
	for (int i = 0; i < n; i++) {
		if (maps[i] >= 0)
			close(maps[i]);
		maps[i] = NO_MAP;
	}
}

FIXTURE_TEARDOWN(flag)
{
	close_all(self->maps, ARRAY_SIZE(self->maps));
	close_all(self->others, ARRAY_SIZE(self->others));
}

/* A map with a slot; maps of earlier tests may be on their way out still. */
static int create_with_slot(__u32 type)
{
	int map;

	EVENTUALLY((map = create_kind(type, 8, BPF_F_STORAGE_SLOT)) != -ENOSPC);
	return map;
}

static int take_all_slots(__u32 type, int *maps)
{
	for (int i = 0; i < SLOTS; i++) {
		maps[i] = create_with_slot(type);
		if (maps[i] < 0)
			return maps[i];
	}
	return 0;
}

#define NEEDS_SLOT_FLAGS()						\
	do {								\
		if (self->stock)					\
			SKIP(return, "no slot flags in this kernel");	\
	} while (0)

TEST_F(flag, flags_are_known_or_refused)
{
	int err = self->stock ? -EINVAL : 0;
	int with = create_kind(variant->type, 8, BPF_F_STORAGE_NO_SLOT);

	EXPECT_EQ(with < 0 ? with : 0, err);
	close(with);
	with = create_with_slot(variant->type);
	EXPECT_EQ(with < 0 ? with : 0, err);
	close(with);
	EXPECT_EQ(create_kind(variant->type, 8, BPF_F_STORAGE_SLOT |
			      BPF_F_STORAGE_NO_SLOT), -EINVAL);
}

TEST_F(flag, no_other_map_type_knows_the_flags)
{
	__u32 flags[] = { BPF_F_STORAGE_SLOT, BPF_F_STORAGE_NO_SLOT };

	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags[i]);

		EXPECT_LT(bpf_map_create(BPF_MAP_TYPE_ARRAY, "array", 4, 8, 1,
					 &opts), 0);
		EXPECT_EQ(errno, EINVAL);
	}
}

TEST_F(flag, there_are_sixteen)
{
	NEEDS_SLOT_FLAGS();
	ASSERT_EQ(take_all_slots(variant->type, self->maps), 0);
	EXPECT_EQ(create_kind(variant->type, 8, BPF_F_STORAGE_SLOT), -ENOSPC);
	/* Who does not insist gets a map without. */
	self->others[0] = create_kind(variant->type, 8, 0);
	EXPECT_GE(self->others[0], 0);
	close_all(self->maps + 5, 1);
	self->others[1] = create_with_slot(variant->type);
	EXPECT_GE(self->others[1], 0);
	EXPECT_EQ(create_kind(variant->type, 8, BPF_F_STORAGE_SLOT), -ENOSPC);
}

TEST_F(flag, who_waits_for_a_slot_can_be_killed)
{
	bool killed = false;

	NEEDS_SLOT_FLAGS();
	ASSERT_EQ(take_all_slots(variant->type, self->maps), 0);
	for (int i = 0; i < SLOTS && !killed; i++) {
		int prog = program_with(self->maps[i]);

		ASSERT_GE(prog, 0);
		close_all(self->maps + i, 1);
		killed = kill_creators(variant->type, 8, BPF_F_STORAGE_SLOT);
		close(prog);
		self->maps[i] = create_with_slot(variant->type);
		ASSERT_GE(self->maps[i], 0);
	}
	EXPECT_TRUE(killed);
}

TEST_F(flag, maps_without_take_none)
{
	NEEDS_SLOT_FLAGS();
	for (int i = 0; i < ARRAY_SIZE(self->others); i++) {
		self->others[i] = create_kind(variant->type, 8,
					      BPF_F_STORAGE_NO_SLOT);
		ASSERT_GE(self->others[i], 0);
	}
	EXPECT_EQ(take_all_slots(variant->type, self->maps), 0);
}

TEST_F(flag, kinds_do_not_share_them)
{
	NEEDS_SLOT_FLAGS();
	ASSERT_EQ(take_all_slots(variant->type, self->maps), 0);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		if (storage_types[i] == variant->type)
			continue;
		self->others[i] = create_with_slot(storage_types[i]);
		EXPECT_GE(self->others[i], 0);
	}
}

TEST_F(flag, values_are_the_same)
{
	struct storage_owner owner = new_owner(variant->type);

	NEEDS_SLOT_FLAGS();
	self->maps[0] = create_with_slot(variant->type);
	self->maps[1] = create_kind(variant->type, 8, BPF_F_STORAGE_NO_SLOT);
	self->maps[2] = create_kind(variant->type, 8, 0);
	for (int i = 0; i < 3; i++) {
		int map = self->maps[i];

		ASSERT_GE(map, 0);
		EXPECT_EQ(lookup(map, owner.fd), -ENOENT);
		EXPECT_EQ(update(map, owner.fd, i, BPF_NOEXIST), 0);
		EXPECT_EQ(update(map, owner.fd, i + 1, BPF_EXIST), 0);
	}
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(lookup(self->maps[i], owner.fd), i + 1);
		EXPECT_EQ(delete(self->maps[i], owner.fd), 0);
		EXPECT_EQ(lookup(self->maps[i], owner.fd), -ENOENT);
	}
	end_owner(&owner);
}

/* What bpftool prints of a map; options: "-j" for JSON. */
static int describe(int map, const char *options, char *text, size_t size)
{
	return output_of_bpftool(text, size, "%s map show id %u", options,
				 id_of(map));
}

TEST_F(flag, bpftool_shows_it)
{
	static const char * const plain[] = {
		"flags 0x40000001", "flags 0x80000001",
	};
	/* Early bpftools take the flags for a signed number. */
	static const char * const json[][2] = {
		{ "\"flags\":1073741825", "\"flags\":1073741825" },
		{ "\"flags\":-2147483647", "\"flags\":2147483649" },
	};
	char text[4096];

	NEEDS_SLOT_FLAGS();
	self->maps[0] = create_with_slot(variant->type);
	self->maps[1] = create_kind(variant->type, 8, BPF_F_STORAGE_NO_SLOT);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(describe(self->maps[i], "", text, sizeof(text)), 0);
		EXPECT_NE(strstr(text, plain[i]), NULL) TH_LOG("%s", text);
		ASSERT_EQ(describe(self->maps[i], "-j", text, sizeof(text)), 0);
		EXPECT_TRUE(strstr(text, json[i][0]) ||
			    strstr(text, json[i][1])) TH_LOG("%s", text);
	}
}

TEST_HARNESS_MAIN
