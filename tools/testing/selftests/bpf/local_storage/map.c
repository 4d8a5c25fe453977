// SPDX-License-Identifier: GPL-2.0
/* Creating local storage maps, and what one can do to the map itself. */
#include "harness.h"
#include "operate.h"

FIXTURE(map_create) {
	struct btf *btf;
	struct spec spec;
};

EVERY_KIND(map_create);

FIXTURE_SETUP(map_create)
{
	self->btf = types_for(8);
	self->spec = spec_for(self->btf, 8);
	self->spec.type = variant->type;
	ASSERT_GE(self->spec.btf_fd, 0);
}

FIXTURE_TEARDOWN(map_create)
{
	btf__free(self->btf);
}

TEST_F(map_create, a_valid_map_is_created)
{
	EXPECT_GE(create(&self->spec), 0);
}

TEST_F(map_create, the_clone_flag_is_taken)
{
	self->spec.flags |= BPF_F_CLONE;
	EXPECT_GE(create(&self->spec), 0);
}

TEST_F(map_create, key_is_four_bytes)
{
	self->spec.key_size = 8;
	EXPECT_EQ(create(&self->spec), -EINVAL);
	self->spec.key_size = 0;
	EXPECT_EQ(create(&self->spec), -EINVAL);
}

TEST_F(map_create, max_entries_is_zero)
{
	self->spec.max_entries = 1;
	EXPECT_EQ(create(&self->spec), -EINVAL);
}

TEST_F(map_create, no_prealloc_is_required)
{
	self->spec.flags = 0;
	EXPECT_EQ(create(&self->spec), -EINVAL);
	self->spec.flags = BPF_F_CLONE;
	EXPECT_EQ(create(&self->spec), -EINVAL);
}

TEST_F(map_create, other_flags_are_refused)
{
	__u32 flags[] = { BPF_F_NUMA_NODE, BPF_F_RDONLY, BPF_F_WRONLY,
			  BPF_F_RDONLY_PROG, BPF_F_MMAPABLE, BPF_F_ZERO_SEED,
			  BPF_F_INNER_MAP, BPF_F_STACK_BUILD_ID };

	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		self->spec.flags = BPF_F_NO_PREALLOC | flags[i];
		EXPECT_EQ(create(&self->spec), -EINVAL)
			TH_LOG("flag %#x", flags[i]);
	}
}

TEST_F(map_create, btf_is_required)
{
	struct spec spec = self->spec;

	spec.btf_fd = 0;
	spec.key_type = 0;
	spec.value_type = 0;
	EXPECT_EQ(create(&spec), -EINVAL);
	spec = self->spec;
	spec.key_type = 0;
	EXPECT_EQ(create(&spec), -EINVAL);
	spec = self->spec;
	spec.value_type = 0;
	EXPECT_EQ(create(&spec), -EINVAL);
}

TEST_F(map_create, key_type_is_int)
{
	struct btf *btf = btf__new_empty();
	__u32 of_16_bits = 16;		/* of the four bytes */
	int s, four, half, number;
	struct spec spec;

	s = btf__add_int(btf, "short", 2, 0);
	btf__add_int(btf, "char", 1, 0);
	four = btf__add_struct(btf, "four", 4);
	btf__add_field(btf, "a", s, 0, 0);
	btf__add_field(btf, "b", s, 16, 0);
	number = btf__add_int(btf, "number", 4, 0);
	half = btf__add_int(btf, "half", 4, 0);
	memcpy((void *)btf__type_by_id(btf, half) + sizeof(struct btf_type),
	       &of_16_bits, sizeof(of_16_bits));
	btf__add_array(btf, 1, 2, 8);
	spec = spec_for(btf, 8);
	spec.type = variant->type;
	spec.key_type = number;
	EXPECT_GE(create(&spec), 0);
	spec.key_type = four;
	EXPECT_EQ(create(&spec), -EINVAL);
	spec.key_type = s;
	EXPECT_EQ(create(&spec), -EINVAL);
	spec.key_type = half;
	EXPECT_EQ(create(&spec), -EINVAL);
	btf__free(btf);
}

TEST_F(map_create, value_has_a_size)
{
	self->spec.value_size = 0;
	EXPECT_EQ(create(&self->spec), -EINVAL);
	/* One that is not the size of its type. */
	self->spec.value_size = 16;
	EXPECT_EQ(create(&self->spec), -EINVAL);
}

TEST_F(map_create, value_size_has_a_limit)
{
	/* With its header an element has to fit in 64 KiB less one. */
	EXPECT_GE(create_kind(variant->type, 65535 - 128, 0), 0);
	EXPECT_EQ(create_kind(variant->type, 65535 - 127, 0), -E2BIG);
	EXPECT_EQ(create_kind(variant->type, 1 << 20, 0), -E2BIG);
}

TEST_F(map_create, value_size_may_be_odd)
{
	int sizes[] = { 1, 2, 3, 7, 9, 63, 64, 65, 256, 257, 4095, 4096, 4097,
			40001, 65535 - 128 };
	/* The kernel writes in units of 8 bytes. */
	static char in[65536], out[65536];

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct storage_owner owner;
		int fd;

		if (!has_room_for(sizes[i]))
			continue;
		owner = new_owner(variant->type);
		fd = create_kind(variant->type, sizes[i], 0);
		ASSERT_GE(fd, 0);
		memset(in, 'a' + i, sizeof(in));
		memset(out, 0, sizeof(out));
		ASSERT_EQ(bpf_map_update_elem(fd, &owner.fd, in, 0), 0)
			TH_LOG("size %d", sizes[i]);
		ASSERT_EQ(bpf_map_lookup_elem(fd, &owner.fd, out), 0);
		EXPECT_EQ(memcmp(in, out, sizes[i]), 0);
		EXPECT_EQ(out[sizes[i]], 0);
		close(fd);
		end_owner(&owner);
	}
}

TEST_F(map_create, it_takes_cap_bpf)
{
	int status;
	pid_t child = fork();

	if (!child) {
		if (setgid(65534) || setuid(65534))
			_exit(1);
		_exit(create(&self->spec) == -EPERM ? 0 : 2);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(status, 0);
}

TEST_F(map_create, many_can_be_created)
{
	int fds[200];

	for (int i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = create(&self->spec);
		ASSERT_GE(fds[i], 0);
	}
}

TEST_F(map_create, special_fields_are_taken_or_refused)
{
	struct {
		const char *type, *field;
		int size, expected;
	} cases[] = {
		{ "bpf_spin_lock", "val", 4, 0 },
		{ "bpf_timer", "t", 16, -EOPNOTSUPP },
		{ "bpf_wq", "w", 16, -EOPNOTSUPP },
	};

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct btf *btf = btf__new_empty();
		struct spec spec;
		int word, field, fd;

		btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
		word = btf__add_int(btf, "unsigned int", 4, 0);
		if (cases[i].size == 16)
			word = btf__add_int(btf, "__int128", 16, 0);
		field = btf__add_struct(btf, cases[i].type, cases[i].size);
		btf__add_field(btf, cases[i].field, word, 0, 0);
		btf__add_struct(btf, "value", cases[i].size + 16);
		btf__add_field(btf, "field", field, 0, 0);
		spec = spec_for(btf, cases[i].size + 16);
		spec.type = variant->type;
		fd = create(&spec);
		EXPECT_EQ(fd < 0 ? fd : 0, cases[i].expected)
			TH_LOG("%s", cases[i].type);
		btf__free(btf);
	}
}

/* Types: int, ..., value; of a lock, a root and what it is a root of. */
static struct btf *types_with_root(const char *root, const char *node, int size)
{
	struct btf *btf = btf__new_empty();
	int word, long_word, lock, head, link, item, value;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	word = btf__add_int(btf, "unsigned int", 4, 0);
	long_word = btf__add_int(btf, "unsigned long long", 8, 0);
	lock = btf__add_struct(btf, "bpf_spin_lock", 4);
	btf__add_field(btf, "val", word, 0, 0);
	head = btf__add_struct(btf, root, 16);
	btf__add_field(btf, "a", long_word, 0, 0);
	btf__add_field(btf, "b", long_word, 64, 0);
	link = btf__add_struct(btf, node, size);
	btf__add_field(btf, "a", long_word, 0, 0);
	item = btf__add_struct(btf, "item", size);
	btf__add_field(btf, "node", link, 0, 0);
	value = item + 2;
	btf__add_decl_tag(btf, "contains:item:node", value, 1);
	btf__add_struct(btf, "value", 24);
	btf__add_field(btf, "lock", lock, 0, 0);
	btf__add_field(btf, "root", head, 64, 0);
	return btf;
}

TEST_F(map_create, no_lists_and_no_trees)
{
	struct {
		const char *root, *node;
		int size;
	} cases[] = {
		{ "bpf_list_head", "bpf_list_node", 24 },
		{ "bpf_rb_root", "bpf_rb_node", 32 },
	};

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct btf *btf = types_with_root(cases[i].root, cases[i].node,
						  cases[i].size);
		struct spec spec = spec_for(btf, 24);
		int array;

		spec.type = variant->type;
		EXPECT_EQ(create(&spec), -EOPNOTSUPP)
			TH_LOG("%s", cases[i].root);
		/* There is nothing wrong with the types. */
		spec.type = BPF_MAP_TYPE_ARRAY;
		spec.max_entries = 1;
		spec.flags = 0;
		array = create(&spec);
		EXPECT_GE(array, 0) TH_LOG("%s", cases[i].root);
		close(array);
		btf__free(btf);
	}
}

TEST(values_in_sockets_need_a_reserve)
{
	if (!access(RESERVE, F_OK))
		SKIP(return, "there is a reserve");
	EXPECT_EQ(create_with(8, BPF_F_STORAGE_RESERVED),
		  is_stock() ? -EINVAL : -EOPNOTSUPP);
}

FIXTURE(map_use) {
	struct sockopt *skel;
	int map, sk;
};

FIXTURE_SETUP(map_use)
{
	self->skel = sockopt__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.main_map);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(map_use)
{
	sockopt__destroy(self->skel);
	close(self->sk);
}

TEST_F(map_use, info_says_how_it_was_created)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	ASSERT_EQ(bpf_map_get_info_by_fd(self->map, &info, &len), 0);
	EXPECT_EQ(info.type, BPF_MAP_TYPE_SK_STORAGE);
	EXPECT_EQ(info.key_size, 4);
	EXPECT_EQ(info.value_size, 8);
	EXPECT_EQ(info.max_entries, 0);
	EXPECT_EQ(info.map_flags, BPF_F_NO_PREALLOC);
	EXPECT_NE(info.btf_value_type_id, 0);
}

TEST_F(map_use, a_pinned_map_keeps_its_values)
{
	__u64 value = 7, seen = 0;
	int fd;

	mkdir("/sys/fs/bpf/storage_test", 0700);
	ASSERT_EQ(bpf_obj_pin(self->map, "/sys/fs/bpf/storage_test/map"), 0);
	ASSERT_EQ(bpf_map_update_elem(self->map, &self->sk, &value, 0), 0);
	fd = bpf_obj_get("/sys/fs/bpf/storage_test/map");
	ASSERT_GE(fd, 0);
	EXPECT_EQ(bpf_map_lookup_elem(fd, &self->sk, &seen), 0);
	EXPECT_EQ(seen, 7);
	unlink("/sys/fs/bpf/storage_test/map");
	rmdir("/sys/fs/bpf/storage_test");
}

TEST_F(map_use, memory_usage_counts_elements)
{
	long long empty = fdinfo_number(self->map, "memlock"), full;
	int sockets[50];
	__u64 value = 1;

	ASSERT_GT(empty, 0);
	for (int i = 0; i < ARRAY_SIZE(sockets); i++) {
		sockets[i] = tcp_socket();
		ASSERT_EQ(bpf_map_update_elem(self->map, &sockets[i], &value,
					      0), 0);
	}
	full = fdinfo_number(self->map, "memlock");
	for (int i = 0; i < ARRAY_SIZE(sockets); i++)
		close(sockets[i]);
	if (full == empty)
		SKIP(return, "this kernel does not count the elements");
	EXPECT_GE(full, empty + 50 * 8);
	EXPECT_LE(full, empty + 50 * 256);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(self->map, "memlock") == empty));
}

TEST_F(map_use, it_can_be_an_inner_map)
{
	int cgroup = root_cgroup(), inner = create_with(16, 0);
	struct bpf_link *link;
	struct answer answer;
	__u32 index = 3;
	__u64 seen = 0;

	link = bpf_program__attach_cgroup(self->skel->progs.on_getsockopt,
					  cgroup);
	ASSERT_NE(link, NULL);
	ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(self->skel->maps.outer),
				      &index, &inner, 0), -EINVAL)
		TH_LOG("another value size is another kind of map");
	close(inner);

	inner = bpf_map__fd(self->skel->maps.main_map);
	ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(self->skel->maps.outer),
				      &index, &inner, 0), 0);
	answer = operate(self->sk, 3, DO_CREATE_WITH, 99);
	EXPECT_EQ(answer.err, 0);
	EXPECT_EQ(bpf_map_lookup_elem(inner, &self->sk, &seen), 0);
	EXPECT_EQ(seen, 99);
	answer = operate(self->sk, 4, DO_GET, 0);
	EXPECT_EQ(answer.err, -1);
	EXPECT_EQ(bpf_map_delete_elem(bpf_map__fd(self->skel->maps.outer),
				      &index), 0);
	bpf_link__destroy(link);
	close(cgroup);
}

TEST_F(map_use, an_inner_map_outlives_its_outer_entry)
{
	int cgroup = root_cgroup(), outer, fd;
	struct spec spec = { .type = BPF_MAP_TYPE_SK_STORAGE, .key_size = 4,
			     .value_size = 8, .flags = BPF_F_NO_PREALLOC };
	struct bpf_map_info info = {};
	__u32 len = sizeof(info), index = 1;
	struct bpf_link *link;

	outer = bpf_map__fd(self->skel->maps.outer);
	ASSERT_EQ(bpf_map_get_info_by_fd(self->map, &info, &len), 0);
	spec.btf_fd = bpf_btf_get_fd_by_id(info.btf_id);
	spec.key_type = info.btf_key_type_id;
	spec.value_type = info.btf_value_type_id;
	fd = create(&spec);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(bpf_map_update_elem(outer, &index, &fd, 0), 0);
	close(fd);

	link = bpf_program__attach_cgroup(self->skel->progs.on_getsockopt,
					  cgroup);
	ASSERT_NE(link, NULL);
	EXPECT_EQ(operate(self->sk, 1, DO_CREATE_WITH, 5).err, 0);
	EXPECT_EQ(operate(self->sk, 1, DO_GET, 0).value, 5);
	EXPECT_GT(optmem(self->sk), 0);
	/* The last reference: the map goes, and its element with it. */
	ASSERT_EQ(bpf_map_delete_elem(outer, &index), 0);
	EXPECT_EQ(operate(self->sk, 1, DO_GET, 0).err, -1);
	EXPECT_TRUE(EVENTUALLY(optmem(self->sk) == 0));
	bpf_link__destroy(link);
	close(cgroup);
}

TEST_F(map_use, bpftool_shows_it)
{
	char text[4096];

	ASSERT_EQ(output_of_bpftool(text, sizeof(text), "map show id %u",
				    id_of(self->map)), 0);
	EXPECT_NE(strstr(text, "sk_storage"), NULL) TH_LOG("%s", text);
	EXPECT_NE(strstr(text, "main_map"), NULL);
	EXPECT_NE(strstr(text, "key 4B  value 8B  max_entries 0"), NULL)
		TH_LOG("%s", text);
	/* A socket's fd means nothing to another process: no keys to dump. */
	output_of_bpftool(text, sizeof(text), "map dump id %u 2>&1",
			  id_of(self->map));
	EXPECT_STREQ(text, "[]\n");
}

TEST_HARNESS_MAIN
