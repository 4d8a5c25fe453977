// SPDX-License-Identifier: GPL-2.0
/* A kernel that was booted without the BPF LSM has no inode storage. */
#include "harness.h"

static bool has_bpf_lsm(void)
{
	char list[256] = {};
	int fd = open("/sys/kernel/security/lsm", O_RDONLY);

	if (read(fd, list, sizeof(list) - 1) < 0)
		list[0] = 0;
	close(fd);
	return strstr(list, "bpf");
}

FIXTURE(lsm_off) {
	bool mounted;
};

FIXTURE_SETUP(lsm_off)
{
	self->mounted = !mount("securityfs", "/sys/kernel/security",
			       "securityfs", 0, NULL);
	/* Whoever says what is booted has promised that it is off. */
	if (has_bpf_lsm() && !getenv("FLAVOUR"))
		SKIP(return, "boot with lsm=capability");
}

FIXTURE_TEARDOWN(lsm_off)
{
	if (self->mounted)
		umount("/sys/kernel/security");
}

TEST_F(lsm_off, it_is_off)
{
	EXPECT_FALSE(has_bpf_lsm());
}

TEST_F(lsm_off, inode_storage_cannot_be_created)
{
	EXPECT_EQ(create_kind(BPF_MAP_TYPE_INODE_STORAGE, 8, 0), -EOPNOTSUPP);
}

TEST_F(lsm_off, storage_of_other_kinds_works)
{
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		struct storage_owner owner;
		int map;

		if (storage_types[i] == BPF_MAP_TYPE_INODE_STORAGE)
			continue;
		map = create_kind(storage_types[i], 8, 0);
		ASSERT_GE(map, 0) TH_LOG("type %u", storage_types[i]);
		owner = new_owner(storage_types[i]);
		EXPECT_EQ(update(map, owner.fd, 5, 0), 0);
		EXPECT_EQ(lookup(map, owner.fd), 5);
		EXPECT_EQ(delete(map, owner.fd), 0);
		end_owner(&owner);
		close(map);
	}
}

TEST_F(lsm_off, libbpf_finds_the_other_kinds)
{
	libbpf_set_print(NULL);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		EXPECT_EQ(libbpf_probe_bpf_map_type(storage_types[i], NULL),
			  storage_types[i] != BPF_MAP_TYPE_INODE_STORAGE)
			TH_LOG("type %u", storage_types[i]);
	}
}

TEST_F(lsm_off, bpftool_finds_the_other_kinds)
{
	static char text[1 << 20];
	char line[128];

	ASSERT_EQ(output_of_bpftool(text, sizeof(text), "feature probe kernel"),
		  0);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		bool inode = storage_types[i] == BPF_MAP_TYPE_INODE_STORAGE;

		snprintf(line, sizeof(line), "eBPF map_type %s is %savailable\n",
			 libbpf_bpf_map_type_str(storage_types[i]),
			 inode ? "NOT " : "");
		EXPECT_NE(strstr(text, line), NULL) TH_LOG("%s", line);
	}
}

TEST_HARNESS_MAIN
