// SPDX-License-Identifier: GPL-2.0
/*
 * What only later kernels have: values that point to pages of the user's, and
 * maps that are for one program.
 */
#include "harness.h"
#include "iter.skel.h"
#include "later.skel.h"
#include <sys/mman.h>
#include <sys/syscall.h>

#define VMSTAT		"/proc/vmstat"

struct pointing {
	void *page;
	__u64 number;
};

FIXTURE(pages) {
	struct later *skel;
	struct storage_owner task;
	__u64 *page;
	long long pinned;
	int map;
};

/* Pages that are pinned, for whomever. */
static long long pinned(void)
{
	/* What each CPU counted for itself is added up now. */
	write_file("/proc/sys/vm/stat_refresh", "1");
	return number_in(VMSTAT, "nr_foll_pin_acquired") -
	       number_in(VMSTAT, "nr_foll_pin_released");
}

/* Whether an enum or a struct of the kernel's has a member of that name. */
static bool has_member(const char *type_name, __u32 kind, const char *name)
{
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *type;
	bool found = false;
	__u32 offset;
	int id;

	id = btf__find_by_name_kind(btf, type_name, kind);
	type = btf__type_by_id(btf, id);
	for (int i = 0; id > 0 && i < btf_vlen(type); i++) {
		offset = kind == BTF_KIND_ENUM ? btf_enum(type)[i].name_off :
						 btf_members(type)[i].name_off;
		found |= !strcmp(name, btf__name_by_offset(btf, offset));
	}
	btf__free(btf);
	return found;
}

FIXTURE_SETUP(pages)
{
	if (!has_member("btf_field_type", BTF_KIND_ENUM, "BPF_UPTR"))
		SKIP(return, "this kernel's values have no such pointers");
	self->skel = later__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.values);
	self->page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(self->page, MAP_FAILED);
	self->task.fd = syscall(SYS_pidfd_open, getpid(), 0);
	ASSERT_GE(self->task.fd, 0);
	self->pinned = pinned();
}

FIXTURE_TEARDOWN(pages)
{
	later__destroy(self->skel);
	munmap(self->page, getpagesize());
	close(self->task.fd);
}

static int point(int map, int task, void *page, __u64 flags)
{
	struct pointing value = { .page = page, .number = 3 };

	return bpf_map_update_elem(map, &task, &value, flags) ? -errno : 0;
}

TEST_F(pages, a_program_reaches_them)
{
	struct bpf_program *prog = self->skel->progs.count_call;
	struct pointing value;

	ASSERT_EQ(point(self->map, self->task.fd, self->page, BPF_ANY), 0);
	EXPECT_EQ(run_program(prog), 0);
	EXPECT_EQ(run_program(prog), 0);
	EXPECT_EQ(self->page[0], 2);
	/* Nobody is told where that is in the kernel. */
	ASSERT_EQ(bpf_map_lookup_elem(self->map, &self->task.fd, &value), 0);
	EXPECT_EQ(value.page, NULL);
	EXPECT_EQ(value.number, 3);
}

TEST_F(pages, deleting_unpins_them)
{
	ASSERT_EQ(point(self->map, self->task.fd, self->page, BPF_NOEXIST), 0);
	EXPECT_EQ(pinned(), self->pinned + 1);
	ASSERT_EQ(bpf_map_delete_elem(self->map, &self->task.fd), 0);
	EXPECT_TRUE(EVENTUALLY(pinned() == self->pinned));
}

TEST_F(pages, replacing_unpins_the_old_ones)
{
	for (int i = 0; i < 10; i++)
		ASSERT_EQ(point(self->map, self->task.fd, self->page, BPF_ANY),
			  0);
	EXPECT_TRUE(EVENTUALLY(pinned() == self->pinned + 1));
	EXPECT_EQ(run_program(self->skel->progs.count_call), 0);
	ASSERT_EQ(point(self->map, self->task.fd, NULL, BPF_EXIST), 0);
	EXPECT_TRUE(EVENTUALLY(pinned() == self->pinned));
	EXPECT_EQ(run_program(self->skel->progs.count_call), 1);
}

TEST_F(pages, what_fails_unpins_them)
{
	struct storage_owner other = new_task();

	EXPECT_EQ(point(self->map, other.fd, self->page, BPF_EXIST), -ENOENT);
	ASSERT_EQ(point(self->map, other.fd, self->page, BPF_NOEXIST), 0);
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(point(self->map, other.fd, self->page, BPF_NOEXIST),
			  -EEXIST);
	EXPECT_EQ(pinned(), self->pinned + 1);
	end_owner(&other);
	EXPECT_TRUE(EVENTUALLY(pinned() == self->pinned));
}

TEST_F(pages, the_end_of_the_map_unpins_them)
{
	ASSERT_EQ(point(self->map, self->task.fd, self->page, BPF_ANY), 0);
	later__destroy(self->skel);
	self->skel = NULL;
	EXPECT_TRUE(EVENTUALLY(pinned() == self->pinned));
}

TEST_F(pages, a_program_cannot_make_them_up)
{
	EXPECT_EQ(run_program(self->skel->progs.create), 0);
	EXPECT_FALSE(self->skel->bss->copy_points);
	EXPECT_EQ(run_program(self->skel->progs.count_call), 1);
	EXPECT_EQ(pinned(), self->pinned);
}

TEST_F(pages, no_value_changes_in_place)
{
	int map = bpf_map__fd(self->skel->maps.locked);
	struct {
		__u64 lock;
		void *page;
	} value = { .page = self->page };

	EXPECT_EQ(bpf_map_update_elem(map, &self->task.fd, &value, BPF_F_LOCK),
		  -EOPNOTSUPP);
	ASSERT_EQ(bpf_map_update_elem(map, &self->task.fd, &value, 0), 0);
	EXPECT_EQ(bpf_map_update_elem(map, &self->task.fd, &value, BPF_F_LOCK),
		  -EOPNOTSUPP);
	EXPECT_EQ(pinned(), self->pinned + 1);
}

TEST_F(pages, other_owners_have_none)
{
	const struct bpf_map *map = self->skel->maps.values;
	LIBBPF_OPTS(bpf_map_create_opts, opts,
		.map_flags = BPF_F_NO_PREALLOC,
		.btf_fd = bpf_object__btf_fd(self->skel->obj),
		.btf_key_type_id = bpf_map__btf_key_type_id(map),
		.btf_value_type_id = bpf_map__btf_value_type_id(map));

	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		int fd = bpf_map_create(storage_types[i], "pages", 4,
					bpf_map__value_size(map), 0, &opts);

		if (storage_types[i] == BPF_MAP_TYPE_TASK_STORAGE) {
			EXPECT_GE(fd, 0);
			close(fd);
		} else {
			EXPECT_EQ(fd, -EOPNOTSUPP);
		}
	}
}

/* Exclusive maps */

/* What BPF_MAP_CREATE takes, beyond what an early libbpf knows. */
struct later_attr {
	__u32 map_type, key_size, value_size, max_entries, map_flags;
	__u32 inner_map_fd, numa_node;
	char map_name[BPF_OBJ_NAME_LEN];
	__u32 map_ifindex, btf_fd, btf_key_type_id, btf_value_type_id;
	__u32 btf_vmlinux_value_type_id;
	__u64 map_extra;
	__s32 value_type_btf_obj_fd, map_token_fd;
	__u64 excl_prog_hash;
	__u32 excl_prog_hash_size;
};

static int create_exclusive(const struct bpf_object *obj,
			    const struct bpf_map *like)
{
	__u8 hash[32] = { 1, 2, 3 };
	struct later_attr attr = {
		.map_type = bpf_map__type(like),
		.key_size = bpf_map__key_size(like),
		.value_size = bpf_map__value_size(like),
		.map_flags = bpf_map__map_flags(like),
		.btf_fd = bpf_object__btf_fd(obj),
		.btf_key_type_id = bpf_map__btf_key_type_id(like),
		.btf_value_type_id = bpf_map__btf_value_type_id(like),
		.excl_prog_hash = (unsigned long)hash,
		.excl_prog_hash_size = sizeof(hash),
	};
	int fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));

	return fd < 0 ? -errno : fd;
}

TEST(an_iterator_takes_an_exclusive_map)
{
	struct iter *skel = iter__open_and_load();
	union bpf_iter_link_info info = {};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info,
		    .iter_info_len = sizeof(info));
	int map, link;

	if (!has_member("bpf_map", BTF_KIND_STRUCT, "excl_prog_sha"))
		SKIP(return, "this kernel has no exclusive maps");
	ASSERT_NE(skel, NULL);
	map = create_exclusive(skel->obj, skel->maps.values);
	ASSERT_GE(map, 0);
	info.map.map_fd = map;
	link = bpf_link_create(bpf_program__fd(skel->progs.dump), 0,
			       BPF_TRACE_ITER, &opts);
	EXPECT_GE(link, 0);
	close(link);
	close(map);
	iter__destroy(skel);
}

/* Sessions: a program for the entry and the exit of a function */

#define SESSION	58	/* BPF_TRACE_FSESSION */

/* 0 or the negative errno. */
static int load_as(const char *name, enum bpf_attach_type type)
{
	struct later *skel = later__open();
	struct bpf_program *prog;
	int err;

	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, false);
	prog = bpf_object__find_program_by_name(skel->obj, name);
	bpf_program__set_autoload(prog, true);
	bpf_program__set_expected_attach_type(prog, type);
	err = later__load(skel);
	later__destroy(skel);
	return err;
}

TEST(a_session_has_the_helpers)
{
	libbpf_set_print(NULL);
	if (load_as("does_nothing", SESSION))
		SKIP(return, "this kernel has no such programs");
	EXPECT_EQ(load_as("finds_a_value", BPF_TRACE_FENTRY), 0);
	EXPECT_EQ(load_as("finds_a_value", SESSION), 0);
}

TEST_HARNESS_MAIN
