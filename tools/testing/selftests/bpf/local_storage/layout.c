// SPDX-License-Identifier: GPL-2.0
/*
 * How many cache lines local storage touches beyond those of the map's own
 * struct, as the kernel's types have it: a member more or less in the wrong
 * place costs nothing where everything is in the caches, and shows nowhere else.
 */
#include "harness.h"
#include "net.h"

#define LINE		64
/* What a storage has at least, and the first value here. */
#define SLOTS		4
#define VALUE		8
/* Blocks of this size and of 96 bytes begin at multiples of it, or of a line. */
#define HALF		(LINE / 2)
#define MARK		"__cacheline_group_begin__"

struct part {
	__u32 offset, size;
};

FIXTURE(layout) {
	struct btf *btf;
};

FIXTURE_SETUP(layout)
{
	if (is_stock())
		SKIP(return, "the base's storage is laid out in another way");
	self->btf = btf__load_vmlinux_btf();
	ASSERT_NE(self->btf, NULL);
}

FIXTURE_TEARDOWN(layout)
{
	btf__free(self->btf);
}

static const struct btf_type *type_of(const struct btf *btf, __u32 id)
{
	return btf__type_by_id(btf, btf__resolve_type(btf, id));
}

/*
 * Find a member, also one of a member without a name; adds its offset.  Returns
 * its type, or NULL.
 */
static const struct btf_type *find_member(const struct btf *btf,
					  const struct btf_type *type,
					  const char *name, struct part *part)
{
	const struct btf_member *member = btf_members(type);

	for (int i = 0; i < btf_vlen(type); i++, member++) {
		const char *is = btf__name_by_offset(btf, member->name_off);
		const struct btf_type *of = type_of(btf, member->type);
		struct part inner = {
			part->offset + btf_member_bit_offset(type, i) / 8,
			btf__resolve_size(btf, member->type),
		};

		if (!*is && btf_is_composite(of))
			of = find_member(btf, of, name, &inner);
		else if (strcmp(is, name))
			continue;
		if (!of)
			continue;
		*part = inner;
		return of;
	}
	return NULL;
}

/* "type.member.member"; beyond everything if there is no such thing. */
static struct part part_of(const struct btf *btf, const char *path)
{
	char *copy = strdup(path), *rest = copy;
	const struct btf_type *type = NULL;
	struct part part = {};
	const char *name;
	int id;

	id = btf__find_by_name_kind(btf, strsep(&rest, "."), BTF_KIND_STRUCT);
	if (id > 0)
		type = btf__type_by_id(btf, id);
	while (type && (name = strsep(&rest, ".")))
		type = find_member(btf, type, name, &part);
	if (!type)
		ksft_print_msg("no %s\n", path);
	free(copy);
	return type ? part : (struct part){ ~0, 0 };
}

/* Lines of one object are bits of a number. */
static __u64 lines_of(struct part part)
{
	__u32 first = part.offset / LINE;
	__u32 last = (part.offset + part.size - 1) / LINE;

	return part.size ? (2ULL << last) - (1ULL << first) : 0;
}

static __u32 size_of(const struct btf *btf, const char *type)
{
	int id = btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT);

	return id < 0 ? 0 : btf__type_by_id(btf, id)->size;
}

static int count(__u64 lines)
{
	return __builtin_popcountll(lines);
}

static __u64 lines_of_all(const struct btf *btf, const char * const *paths)
{
	__u64 lines = 0;

	for (; *paths; paths++)
		lines |= lines_of(part_of(btf, *paths));
	return lines;
}

/* Of a socket: what TCP touches for every packet with data. */
static __u64 lines_of_packet(const struct btf *btf)
{
	static const char * const touched[] = {
		/* tcp_v4_rcv() */
		"sock.__sk_common.skc_hash", "sock.__sk_common.skc_state",
		"sock.sk_filter", "sock.sk_lock.slock", "sock.sk_lock.owned",
		/* tcp_rcv_established() */
		"sock.sk_rx_dst", "sock.sk_forward_alloc",
		"sock.sk_receive_queue", "sock.sk_backlog.rmem_alloc",
		"sock.sk_data_ready", NULL,
	};

	return lines_of_all(btf, touched);
}

/* Say which groups of members have a part of these lines. */
static void show_groups(const struct btf *btf, __u64 lines)
{
	int id = btf__find_by_name_kind(btf, "sock", BTF_KIND_STRUCT);
	const struct btf_type *sock = btf__type_by_id(btf, id);
	const struct btf_member *member = btf_members(sock);
	struct part begin, end;
	char path[100];

	for (int i = 0; i < btf_vlen(sock); i++, member++) {
		const char *name = btf__name_by_offset(btf, member->name_off);

		if (strncmp(name, MARK, strlen(MARK)))
			continue;
		name += strlen(MARK);
		snprintf(path, sizeof(path), "sock." MARK "%s", name);
		begin = part_of(btf, path);
		snprintf(path, sizeof(path), "sock.__cacheline_group_end__%s",
			 name);
		end = part_of(btf, path);
		begin.size = end.offset - begin.offset;
		if (lines_of(begin) & lines)
			ksft_print_msg("on the line of a socket's pointer: %s\n",
				       name);
	}
}

TEST_F(layout, a_received_packet_touches_the_line_of_a_sockets_pointer)
{
	__u64 line = lines_of(part_of(self->btf, "sock.sk_bpf_storage"));

	show_groups(self->btf, line);
	EXPECT_EQ(count(line), 1);
	EXPECT_EQ(line & ~lines_of_packet(self->btf), 0);
}

TEST_F(layout, a_sockets_pointer_is_among_what_both_directions_read)
{
	struct part begin = part_of(self->btf, "sock." MARK "sock_read_rxtx");
	struct part end = part_of(self->btf,
				  "sock.__cacheline_group_end__sock_read_rxtx");
	struct part pointer = part_of(self->btf, "sock.sk_bpf_storage");

	EXPECT_GE(pointer.offset, begin.offset);
	EXPECT_LE(pointer.offset + pointer.size, end.offset);
}

TEST_F(layout, the_scheduler_touches_the_line_of_a_tasks_pointer)
{
	struct part pointer = part_of(self->btf, "task_struct.bpf_storage");
	struct part prio = part_of(self->btf, "task_struct.prio");
	struct part load = part_of(self->btf, "task_struct.se.load");

	/* Whenever it queues a task; where there is no SMP they are closer. */
	EXPECT_TRUE(pointer.offset / LINE == prio.offset / LINE ||
		    pointer.offset / LINE == load.offset / LINE)
		TH_LOG("%u, %u, %u", pointer.offset, prio.offset, load.offset);
	EXPECT_EQ(pointer.offset % 8, 0);
}

TEST_F(layout, a_packets_programs_are_on_the_line_of_a_cgroups_pointer)
{
	struct part programs = part_of(self->btf, "cgroup.bpf.effective");

	if (!is_smp())
		SKIP(return, "nothing is aligned for one processor");
	/* Those of ingress are first, those of egress next. */
	programs.size = 2 * 8;
	EXPECT_EQ(lines_of(part_of(self->btf, "cgroup.bpf_cgrp_storage")),
		  lines_of(programs));
}

static const struct { const char *slab, *type; } slabs[] = {
	{ "TCP", "tcp_sock" }, { "TCPv6", "tcp6_sock" }, { "UDP", "udp_sock" },
	{ "UDPv6", "udp6_sock" }, { "UNIX", "unix_sock" },
};

static long long object_size(const char *slab)
{
	long long size = -1;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/object_size", slab);
	f = fopen(path, "r");
	if (f && fscanf(f, "%lld", &size) != 1)
		size = -1;
	if (f)
		fclose(f);
	return size;
}

/* Whoever does not ask for room in sockets pays for none, on no kernel. */
TEST(a_socket_is_as_long_as_its_type_and_the_reserve)
{
	long long reserve = number_in(RESERVE, "bytes"), size;
	struct btf *btf = btf__load_vmlinux_btf();

	ASSERT_NE(btf, NULL);
	for (int i = 0; i < ARRAY_SIZE(slabs); i++) {
		size = size_of(btf, slabs[i].type);
		EXPECT_GT(size, 0);
		if (reserve > 0)
			size += reserve;
		EXPECT_EQ(object_size(slabs[i].slab), size)
			TH_LOG("%s", slabs[i].slab);
	}
	btf__free(btf);
}

/* The blocks that values are in; a lock that is checked makes them longer. */

FIXTURE(block) {
	struct btf *btf;
	int map, sk;
};

FIXTURE_SETUP(block)
{
	if (is_stock())
		SKIP(return, "the base's storage is laid out in another way");
	self->btf = btf__load_vmlinux_btf();
	ASSERT_NE(self->btf, NULL);
	if (part_of(self->btf, "bpf_local_storage.lock").size > 4)
		SKIP(return, "locks are longer where they are checked");
	self->map = create_with(VALUE, 0);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(block)
{
	btf__free(self->btf);
	close(self->map);
	close(self->sk);
}

static __u32 slot_offset(const struct btf *btf, int slot)
{
	return part_of(btf, "bpf_local_storage.slots").offset + 8 * slot;
}

static __u32 elem_size(const struct btf *btf)
{
	return size_of(btf, "bpf_local_storage_elem") + VALUE;
}

/* A storage with so many values of 8 bytes in the same block. */
static __u32 storage_size(const struct btf *btf, int values)
{
	return slot_offset(btf, SLOTS) + VALUE +
	       (values - 1) * elem_size(btf);
}

/* Lines of a storage at base that a hit on the value behind the slots touches. */
static int hit_lines(const struct btf *btf, __u32 base, int slot, __u32 size)
{
	struct part pointer = { base + slot_offset(btf, slot), 8 };
	struct part value = { base + slot_offset(btf, SLOTS), size };

	return count(lines_of(pointer) | lines_of(value));
}

TEST_F(block, it_is_as_long_as_its_parts)
{
	__u64 value = 1;
	int second = create_with(VALUE, 0);

	EXPECT_EQ(storage_size(self->btf, 1), 96);
	/* Maps of other tests that are being freed may ask for more slots. */
	EXPECT_TRUE(EVENTUALLY(({
		delete(self->map, self->sk);
		update(self->map, self->sk, value, BPF_ANY);
		optmem(self->sk) == storage_size(self->btf, 1);
	})));
	ASSERT_EQ(update(second, self->sk, value, BPF_ANY), 0);
	EXPECT_EQ(optmem(self->sk),
		  storage_size(self->btf, 1) + elem_size(self->btf));
	close(second);
}

TEST_F(block, a_hit_touches_one_line_of_it)
{
	for (int slot = 1; slot < SLOTS; slot++) {
		for (int base = 0; base < LINE; base += HALF)
			EXPECT_EQ(hit_lines(self->btf, base, slot, VALUE), 1);
		/* Longer ones begin where a line does. */
		EXPECT_EQ(hit_lines(self->btf, 0, slot, 40), 1);
	}
}

/* Therefore this slot is taken after the others. */
TEST_F(block, a_hit_by_slot_0_touches_two_at_most)
{
	EXPECT_EQ(hit_lines(self->btf, 0, 0, VALUE), 2);
	EXPECT_EQ(hit_lines(self->btf, HALF, 0, VALUE), 1);
}

TEST_F(block, a_hit_on_a_further_value_touches_one_line_more)
{
	/* Its block has 64 bytes. */
	EXPECT_EQ(elem_size(self->btf), 40);
}

/* Beside the line of the value itself. */
TEST_F(block, a_hit_without_slot_touches_three_lines_at_most)
{
	struct part index = part_of(self->btf, "bpf_local_storage.index");
	struct part mask = part_of(self->btf, "bpf_local_storage_index.mask");
	struct part cells = part_of(self->btf, "bpf_local_storage_index.cells");
	__u32 cell = size_of(self->btf, "bpf_local_storage_cell");

	/* The smallest index has as many cells as a storage has slots. */
	EXPECT_EQ(cells.offset + SLOTS * cell, 96);
	for (int base = 0; base < LINE; base += HALF) {
		struct part at = { base + index.offset, index.size };
		struct part head = { base + mask.offset, mask.size };

		EXPECT_EQ(count(lines_of(at)), 1);
		for (int i = 0; i < SLOTS; i++) {
			struct part one = { base + cells.offset + i * cell,
					    cell };

			EXPECT_LE(count(lines_of(one) | lines_of(head)), 2);
		}
	}
}

/* That of sk_omem_alloc. */
TEST_F(block, a_first_value_touches_one_line_of_a_socket_that_no_packet_does)
{
	static const char * const touched[] = {
		"sock.sk_bpf_storage", "sock.sk_omem_alloc",
		"sock.__sk_common.skc_refcnt", NULL,
	};
	__u64 lines = lines_of_all(self->btf, touched);

	EXPECT_EQ(count(lines & ~lines_of_packet(self->btf)), 1);
}

/* And one of the bucket, and one of what was first in the bucket. */
TEST_F(block, a_first_value_writes_to_two_lines_of_it)
{
	for (int base = 0; base < LINE; base += HALF) {
		struct part all = { base, storage_size(self->btf, 1) };

		EXPECT_EQ(count(lines_of(all)), 2);
	}
	EXPECT_EQ(LINE % size_of(self->btf, "bpf_local_storage_bucket"), 0);
	EXPECT_EQ(part_of(self->btf, "bpf_local_storage_elem.map_node").offset,
		  0);
}

TEST_F(block, clones_of_four_values_take_as_many_lines)
{
	struct part one = { 0, storage_size(self->btf, 1) };
	struct part four = { 0, storage_size(self->btf, 4) };

	EXPECT_EQ(count(lines_of(one)), 2);
	EXPECT_EQ(four.size, 216);
	EXPECT_EQ(count(lines_of(four)), 4);
}

/* What a clone reads of the listener's storage: all but where it is linked. */
TEST_F(block, two_lines_of_the_original_are_read)
{
	__u32 from = part_of(self->btf, "bpf_local_storage.first.map").offset;

	for (int base = 0; base < LINE; base += HALF) {
		struct part read = {
			base + from, storage_size(self->btf, 1) - from
		};

		EXPECT_EQ(count(lines_of(read)), 2);
	}
}

TEST_HARNESS_MAIN
