// SPDX-License-Identifier: GPL-2.0
/* A kernel that was booted without the BPF LSM has no inode storage. */
#include "common.h"

static bool has_bpf_lsm(void)
{
	char list[256] = {};
	int fd = open("/sys/kernel/security/lsm", O_RDONLY);

	if (read(fd, list, sizeof(list) - 1) < 0)
		list[0] = 0;
	close(fd);
	return strstr(list, "bpf");
}

TEST(the_bpf_lsm_is_off)
{
	ASSERT_EQ(mount("securityfs", "/sys/kernel/security", "securityfs", 0,
			NULL), 0);
	EXPECT_FALSE(has_bpf_lsm());
	umount("/sys/kernel/security");
}

TEST(inode_storage_cannot_be_created)
{
	EXPECT_EQ(create_kind(BPF_MAP_TYPE_INODE_STORAGE, 8, 0), -EOPNOTSUPP);
}

TEST(storage_of_other_kinds_works)
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

TEST(libbpf_finds_the_other_kinds)
{
	libbpf_set_print(NULL);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		EXPECT_EQ(libbpf_probe_bpf_map_type(storage_types[i], NULL),
			  storage_types[i] != BPF_MAP_TYPE_INODE_STORAGE)
			TH_LOG("type %u", storage_types[i]);
	}
}

TEST(bpftool_finds_the_other_kinds)
{
	static char text[1 << 20];
	char command[256], line[128];

	ASSERT_NE(getenv("BPFTOOL"), NULL)
		TH_LOG("set BPFTOOL to a bpftool binary");
	snprintf(command, sizeof(command), "%s feature probe kernel",
		 getenv("BPFTOOL"));
	ASSERT_EQ(output_of(command, text, sizeof(text)), 0);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		bool inode = storage_types[i] == BPF_MAP_TYPE_INODE_STORAGE;

		snprintf(line, sizeof(line), "eBPF map_type %s is %savailable\n",
			 libbpf_bpf_map_type_str(storage_types[i]),
			 inode ? "NOT " : "");
		EXPECT_NE(strstr(text, line), NULL) TH_LOG("%s", line);
	}
}

TEST_HARNESS_MAIN
