// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that call the helpers with whatever they have.  Each is loaded
 * twice: with flags that the verifier knows, so that a hit may become
 * instructions, and with the same flags from memory, so that it is a call.
 */
#include "harness.h"
#include "net.h"
#include "fuzz.h"
#include <linux/if_ether.h>

#define MAX_INSNS	256
#define MAX_CALLS	4
#define RESULTS		8
#define UNTOUCHED	0x5eed

/* In the order of storage_types[]. */
enum kind { SOCKET, TASK, CGROUP_, INODE, KINDS };

static const __u32 sizes[] = { 8, 8, 300, 1 };

#define SIZES	ARRAY_SIZE(sizes)
/* Maps that programs do not use, but whose values may be in their way. */
#define OTHERS	4

/* What programs share with the test. */
struct control {
	__s64 flags[MAX_CALLS], results[RESULTS];
	struct bpf_sock_tuple tuple;
	char initial[300];
};

enum source {
	OF_CONTEXT, SK_OF_CONTEXT, LOOKED_UP_COMMON, LOOKED_UP_TCP,
	LOOKED_UP_UDP, FULL_SOCKET, TCP_SOCKET, CAST_SOCKET, ARGUMENT,
	SK_OF_ARGUMENT, INODE_OF_ARGUMENT, CURRENT_TASK, LEADER,
	CGROUP_OF_TASK, ADDRESS,
};

#define ANY_SOURCE	(-1)

static const struct way {
	const char *name;
	enum bpf_prog_type type;
	enum bpf_attach_type attach_type;
	const char *target;
	enum kind kind;
	enum source sources[8];
	int nr_sources;
	bool runs;
} ways[] = {
	{ "tc", BPF_PROG_TYPE_SCHED_CLS, 0, NULL, SOCKET,
	  { SK_OF_CONTEXT, LOOKED_UP_COMMON, LOOKED_UP_TCP, LOOKED_UP_UDP,
	    FULL_SOCKET, TCP_SOCKET, CAST_SOCKET }, 7, true },
	{ "tc again", BPF_PROG_TYPE_SCHED_CLS, 0, NULL, SOCKET,
	  { LOOKED_UP_COMMON, LOOKED_UP_TCP, FULL_SOCKET, TCP_SOCKET,
	    CAST_SOCKET }, 5, true },
	{ "cgroup_skb", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, NULL,
	  SOCKET, { SK_OF_CONTEXT, LOOKED_UP_COMMON, FULL_SOCKET,
		    TCP_SOCKET }, 4, true },
	{ "raw_tp, task", BPF_PROG_TYPE_RAW_TRACEPOINT, 0, NULL, TASK,
	  { CURRENT_TASK, LEADER, CURRENT_TASK, ADDRESS }, 4, true },
	{ "raw_tp, cgroup", BPF_PROG_TYPE_RAW_TRACEPOINT, 0, NULL, CGROUP_,
	  { CGROUP_OF_TASK }, 1, true },
	{ "cgroup_sock", BPF_PROG_TYPE_CGROUP_SOCK,
	  BPF_CGROUP_INET_SOCK_CREATE, NULL, SOCKET, { OF_CONTEXT }, 1 },
	{ "sock_ops", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, NULL,
	  SOCKET, { SK_OF_CONTEXT }, 1 },
	{ "fentry", BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, "tcp_sendmsg",
	  SOCKET, { ARGUMENT }, 1 },
	{ "fexit, task", BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT,
	  "wake_up_new_task", TASK, { CURRENT_TASK, ARGUMENT }, 2 },
	{ "lsm, socket", BPF_PROG_TYPE_LSM, BPF_LSM_MAC, "bpf_lsm_socket_bind",
	  SOCKET, { SK_OF_ARGUMENT }, 1 },
	{ "lsm, inode", BPF_PROG_TYPE_LSM, BPF_LSM_MAC, "bpf_lsm_file_open",
	  INODE, { INODE_OF_ARGUMENT, ARGUMENT }, 2 },
	{ "xdp", BPF_PROG_TYPE_XDP, 0, NULL, SOCKET, { OF_CONTEXT }, 1 },
};

static const int getters[KINDS] = {
	BPF_FUNC_sk_storage_get, BPF_FUNC_task_storage_get,
	BPF_FUNC_cgrp_storage_get, BPF_FUNC_inode_storage_get,
};

static const int deleters[KINDS] = {
	BPF_FUNC_sk_storage_delete, BPF_FUNC_task_storage_delete,
	BPF_FUNC_cgrp_storage_delete, BPF_FUNC_inode_storage_delete,
};

static struct btf *kernel_types;

static int offset_in(const char *type, const char *member)
{
	int id = btf__find_by_name_kind(kernel_types, type, BTF_KIND_STRUCT);
	const struct btf_type *t = btf__type_by_id(kernel_types, id);

	for (int i = 0; t && i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(kernel_types,
						btf_members(t)[i].name_off),
			    member))
			return btf_member_bit_offset(t, i) / 8;
	return 0;
}

/* Maps, owners, and what they have before each run */

FIXTURE(programs) {
	int maps[KINDS][SIZES], others[KINDS][OTHERS];
	int outer[KINDS], control, hash;
	int listener, client, child, udp, self, cgroup;
	struct control memory;
	int objects, loaded, inlined;
	char jit[2];
};

#define TESTED	FIXTURE_DATA(programs)

FIXTURE_VARIANT(programs) {
	const char *jit;
};

FIXTURE_VARIANT_ADD(programs, compiled) { "1" };
FIXTURE_VARIANT_ADD(programs, interpreted) { "0" };

static int new_outer(int inner)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .inner_map_fd = inner);
	int zero = 0;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "outer", 4, 4, 1,
				&opts);

	bpf_map_update_elem(fd, &zero, &inner, 0);
	return fd;
}

static int open_owners(TESTED *self)
{
	self->listener = listen_on(AF_INET, 0);
	self->client = connect_new(self->listener, AF_INET, 0);
	self->child = accept(self->listener, NULL, NULL);
	self->udp = socket(AF_INET, SOCK_DGRAM, 0);
	bind_locally(self->udp);
	self->self = pidfd_open(getpid(), 0);
	self->cgroup = root_cgroup();
	return self->child < 0 || self->self < 0 || self->cgroup < 0;
}

static int open_maps(TESTED *self)
{
	const __u32 no_slot = is_stock() ? 0 : BPF_F_STORAGE_NO_SLOT;

	for (int kind = 0; kind < KINDS; kind++) {
		for (int i = 0; i < SIZES; i++) {
			self->maps[kind][i] = create_kind(storage_types[kind],
							  sizes[i],
							  i == 1 ? no_slot : 0);
			if (self->maps[kind][i] < 0)
				return self->maps[kind][i];
		}
		for (int i = 0; i < OTHERS; i++)
			self->others[kind][i] = create_kind(storage_types[kind],
							    8, no_slot);
		self->outer[kind] = new_outer(self->maps[kind][0]);
	}
	self->control = bpf_map_create(BPF_MAP_TYPE_ARRAY, "control", 4,
				       sizeof(self->memory), 1, NULL);
	self->hash = bpf_map_create(BPF_MAP_TYPE_HASH, "hash", 4, 8, 1, NULL);
	return self->control < 0 || self->hash < 0;
}

FIXTURE_SETUP(programs)
{
	int fd = open(JIT, O_RDONLY);

	ASSERT_EQ(read(fd, self->jit, 1), 1);
	close(fd);
	if (!set_jit(variant->jit))
		SKIP(return, "this kernel cannot run programs that way");
	kernel_types = btf__load_vmlinux_btf();
	self->objects = count_objects();
	ASSERT_EQ(open_maps(self), 0);
	ASSERT_EQ(open_owners(self), 0);
	fuzz_start(300);
}

static void close_maps(TESTED *self)
{
	for (int kind = 0; kind < KINDS; kind++) {
		close(self->outer[kind]);
		for (int i = 0; i < SIZES; i++)
			close(self->maps[kind][i]);
		for (int i = 0; i < OTHERS; i++)
			close(self->others[kind][i]);
	}
	close(self->control);
	close(self->hash);
}

FIXTURE_TEARDOWN(programs)
{
	write_file(JIT, self->jit);
	btf__free(kernel_types);
	close(self->child);
	close(self->client);
	close(self->listener);
	close(self->udp);
}

/* Instructions */

struct code {
	struct bpf_insn insns[MAX_INSNS];
	int n, calls, results;
	bool by_helper, releases, has_inner;
	__u32 size;		/* of the values of the map that was passed */
	__s64 flags[MAX_CALLS];
};

static void emit(struct code *c, int code, int dst, int src, int off, int imm)
{
	c->insns[c->n++] = (struct bpf_insn){
		.code = code, .dst_reg = dst, .src_reg = src, .off = off,
		.imm = imm,
	};
}

#define FP	BPF_REG_10
#define CTX	BPF_REG_6
#define CONTROL	BPF_REG_7
#define OWNER	BPF_REG_8
#define SPARE	BPF_REG_9

/* Where things are on the stack. */
enum { KEY_AT = -4, VALUE_AT = -16, SOCKET_AT = -24, NEVER_AT = -40 };

static void move(struct code *c, int dst, int src)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static void set(struct code *c, int dst, int imm)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
}

static void add(struct code *c, int dst, int imm)
{
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm);
}

static void load(struct code *c, int dst, int src, int off)
{
	emit(c, BPF_LDX | BPF_MEM | BPF_DW, dst, src, off, 0);
}

static void store(struct code *c, int dst, int off, int src)
{
	emit(c, BPF_STX | BPF_MEM | BPF_DW, dst, src, off, 0);
}

static void call(struct code *c, int helper)
{
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

static void name_map(struct code *c, int reg, int fd)
{
	emit(c, BPF_LD | BPF_IMM | BPF_DW, reg, BPF_PSEUDO_MAP_FD, 0, fd);
	emit(c, 0, 0, 0, 0, 0);
}

/* Leave if a register is zero; the socket that was looked up goes back. */
static void leave(struct code *c)
{
	if (c->releases) {
		load(c, BPF_REG_1, FP, SOCKET_AT);
		call(c, BPF_FUNC_sk_release);
	}
	set(c, BPF_REG_0, 0);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void leave_if_zero(struct code *c, int reg)
{
	int jump = c->n;

	emit(c, BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, 0);
	leave(c);
	c->insns[jump].off = c->n - jump - 1;
}

static void look_up_zero(struct code *c, int map)
{
	name_map(c, BPF_REG_1, map);
	move(c, BPF_REG_2, FP);
	add(c, BPF_REG_2, KEY_AT);
	call(c, BPF_FUNC_map_lookup_elem);
	leave_if_zero(c, BPF_REG_0);
}

static void begin_code(struct code *c, const TESTED *self)
{
	move(c, CTX, BPF_REG_1);
	emit(c, BPF_ST | BPF_MEM | BPF_W, FP, 0, KEY_AT, 0);
	emit(c, BPF_ST | BPF_MEM | BPF_DW, FP, 0, VALUE_AT, 42);
	look_up_zero(c, self->control);
	move(c, CONTROL, BPF_REG_0);
	set(c, SPARE, 0);
}

static void look_up_socket(struct code *c, int helper)
{
	move(c, BPF_REG_1, CTX);
	move(c, BPF_REG_2, CONTROL);
	add(c, BPF_REG_2, offsetof(struct control, tuple));
	set(c, BPF_REG_3, sizeof(((struct bpf_sock_tuple *)NULL)->ipv4));
	set(c, BPF_REG_4, -1);
	set(c, BPF_REG_5, 0);
	call(c, helper);
	leave_if_zero(c, BPF_REG_0);
	store(c, FP, SOCKET_AT, BPF_REG_0);
	c->releases = true;
}

/* Another type for the socket in a register. */
static void retype(struct code *c, int helper)
{
	move(c, BPF_REG_1, BPF_REG_0);
	call(c, helper);
}

static void load_from(struct code *c, const char *type, const char *member)
{
	load(c, BPF_REG_0, BPF_REG_0, offset_in(type, member));
}

static int sk_in_context(const struct way *way)
{
	return way->type == BPF_PROG_TYPE_SOCK_OPS ?
	       offsetof(struct bpf_sock_ops, sk) : offsetof(struct __sk_buff, sk);
}

/* Get something that has storage, or looks like it. */
static void find_owner(struct code *c, const struct way *way,
		       enum source source)
{
	switch (source) {
	case OF_CONTEXT:
		move(c, BPF_REG_0, CTX);
		break;
	case SK_OF_CONTEXT:
		load(c, BPF_REG_0, CTX, sk_in_context(way));
		break;
	case LOOKED_UP_COMMON:
		look_up_socket(c, BPF_FUNC_skc_lookup_tcp);
		break;
	case LOOKED_UP_TCP:
		look_up_socket(c, BPF_FUNC_sk_lookup_tcp);
		break;
	case LOOKED_UP_UDP:
		look_up_socket(c, BPF_FUNC_sk_lookup_udp);
		break;
	case FULL_SOCKET:
		look_up_socket(c, BPF_FUNC_skc_lookup_tcp);
		retype(c, BPF_FUNC_sk_fullsock);
		break;
	case TCP_SOCKET:
		look_up_socket(c, BPF_FUNC_sk_lookup_tcp);
		retype(c, BPF_FUNC_tcp_sock);
		break;
	case CAST_SOCKET:
		look_up_socket(c, BPF_FUNC_skc_lookup_tcp);
		retype(c, BPF_FUNC_skc_to_tcp_sock);
		break;
	case ARGUMENT:
		load(c, BPF_REG_0, CTX, 0);
		break;
	case SK_OF_ARGUMENT:
		load(c, BPF_REG_0, CTX, 0);
		load_from(c, "socket", "sk");
		break;
	case INODE_OF_ARGUMENT:
		load(c, BPF_REG_0, CTX, 0);
		load_from(c, "file", "f_inode");
		break;
	case CURRENT_TASK:
		call(c, BPF_FUNC_get_current_task_btf);
		break;
	case LEADER:
		call(c, BPF_FUNC_get_current_task_btf);
		load_from(c, "task_struct", "group_leader");
		break;
	case CGROUP_OF_TASK:
		call(c, BPF_FUNC_get_current_task_btf);
		load_from(c, "task_struct", "cgroups");
		load_from(c, "css_set", "dfl_cgrp");
		break;
	case ADDRESS:
		call(c, BPF_FUNC_get_current_task);
		break;
	}
	if (!one_in(12))
		leave_if_zero(c, BPF_REG_0);
	move(c, OWNER, BPF_REG_0);
}

/* The map: some are found in others, and only then. */
static void pass_map(struct code *c, const TESTED *self, enum kind kind)
{
	int which = below(24), i;

	c->size = sizes[0];
	if (which == 0)
		kind = below(KINDS);
	if (which == 1) {
		name_map(c, BPF_REG_1, one_in(2) ? self->hash : self->control);
		return;
	}
	if (which == 2) {
		move(c, BPF_REG_1, one_in(2) ? CONTROL : SPARE);
		return;
	}
	if (which < 7 && c->has_inner) {
		move(c, BPF_REG_1, SPARE);
		return;
	}
	i = below(one_in(3) ? SIZES : 2);
	c->size = sizes[i];
	name_map(c, BPF_REG_1, self->maps[kind][i]);
}

static void find_inner_map(struct code *c, const TESTED *self, enum kind kind)
{
	look_up_zero(c, self->outer[kind]);
	move(c, SPARE, BPF_REG_0);
	c->has_inner = true;
}

static void pass_owner(struct code *c)
{
	static const int registers[] = { CTX, CONTROL, FP, SPARE };

	if (!one_in(16))
		move(c, BPF_REG_2, OWNER);
	else if (one_in(3))
		set(c, BPF_REG_2, below(3));
	else
		move(c, BPF_REG_2, registers[below(ARRAY_SIZE(registers))]);
	if (one_in(64))
		add(c, BPF_REG_2, 8);
}

static void pass_value(struct code *c)
{
	switch (below(24)) {
	case 0:
		move(c, BPF_REG_3, CTX);
		return;
	case 1:
		set(c, BPF_REG_3, odd_number());
		return;
	case 2:
		move(c, BPF_REG_3, FP);
		add(c, BPF_REG_3, NEVER_AT);
		return;
	case 3 ... 6:
		move(c, BPF_REG_3, FP);
		add(c, BPF_REG_3, VALUE_AT);
		return;
	case 7 ... 14:
		move(c, BPF_REG_3, CONTROL);
		add(c, BPF_REG_3, offsetof(struct control, initial));
		return;
	default:
		set(c, BPF_REG_3, 0);
		return;
	}
}

static void pass_flags(struct code *c)
{
	static const int some[] = { 0, 0, 1, 1, 1, 1, 2, 3, -1 };
	__s64 flags = one_in(16) ? (int)odd_number() :
				   some[below(ARRAY_SIZE(some))];
	bool unknown = one_in(8);

	c->flags[c->calls] = flags;
	if (c->by_helper || unknown)
		load(c, BPF_REG_4, CONTROL, offsetof(struct control, flags) +
					    8 * c->calls);
	else
		set(c, BPF_REG_4, flags);
}

static void keep_result(struct code *c, int reg)
{
	store(c, CONTROL, offsetof(struct control, results) + 8 * c->results,
	      reg);
	c->results++;
}

/* Look at what a get returned, and change it. */
static void use_value(struct code *c)
{
	int size = one_in(c->size < 8 ? 1 : 4) ? BPF_B : BPF_DW;
	int off = one_in(16) ? below(310) : 0, jump;

	set(c, BPF_REG_1, -1);
	jump = c->n;
	if (!one_in(24))
		emit(c, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 0, 0);
	else
		jump = -1;
	emit(c, BPF_LDX | BPF_MEM | size, BPF_REG_1, BPF_REG_0, off, 0);
	if (one_in(2)) {
		add(c, BPF_REG_1, below(100));
		emit(c, BPF_STX | BPF_MEM | size, BPF_REG_0, BPF_REG_1, off,
		     0);
	}
	if (jump >= 0)
		c->insns[jump].off = c->n - jump - 1;
	keep_result(c, BPF_REG_1);
}

static void emit_call(struct code *c, const TESTED *self, enum kind kind)
{
	enum kind helper = one_in(32) ? below(KINDS) : kind;

	pass_map(c, self, kind);
	pass_owner(c);
	if (one_in(4)) {
		call(c, deleters[helper]);
		keep_result(c, BPF_REG_0);
		return;
	}
	pass_value(c);
	pass_flags(c);
	call(c, getters[helper]);
	if (!one_in(8))
		use_value(c);
	c->calls++;
}

static void generate(struct code *c, const TESTED *self, const struct way *way,
		     bool by_helper)
{
	int n = 1 + below(MAX_CALLS);

	memset(c, 0, sizeof(*c));
	c->by_helper = by_helper;
	begin_code(c, self);
	if (one_in(2))
		find_inner_map(c, self, way->kind);
	find_owner(c, way, way->sources[below(way->nr_sources)]);
	while (n--)
		emit_call(c, self, way->kind);
	if (!c->releases || !one_in(16)) {
		leave(c);
		return;
	}
	set(c, BPF_REG_0, 0);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int load_code(const struct code *c, const struct way *way)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		.expected_attach_type = way->attach_type);
	int fd;

	if (way->target)
		opts.attach_btf_id = btf__find_by_name_kind(kernel_types,
							    way->target,
							    BTF_KIND_FUNC);
	fd = bpf_prog_load(way->type, "fuzz", "GPL", c->insns, c->n, &opts);
	return fd < 0 ? -errno : fd;
}

static __u32 length_of(int prog)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	bpf_prog_get_info_by_fd(prog, &info, &len);
	return info.xlated_prog_len;
}

/* What a run comes to. */
struct result {
	int err;
	__u32 retval;
	struct control control;
	struct {
		int err;
		char value[300];
	} values[4 * SIZES];
};

static void list_owners(const TESTED *self, enum kind kind, int *owners)
{
	const int sockets[] = { self->listener, self->client, self->child,
				self->udp };

	if (kind == SOCKET)
		memcpy(owners, sockets, sizeof(sockets));
	else
		owners[0] = kind == TASK ? self->self : self->cgroup;
}

static void set_value(int map, int owner, const void *value, bool wanted)
{
	if (wanted)
		PATIENTLY(bpf_map_update_elem(map, &owner, value, BPF_ANY));
	else
		bpf_map_delete_elem(map, &owner);
}

/* In one of these maps at most: where there are few, they meet in an index. */
static void set_other_value(const TESTED *self, enum kind kind, int owner,
			    __u64 choice)
{
	__u64 which = choice % (OTHERS + 1);

	for (int i = 0; i < OTHERS; i++)
		set_value(self->others[kind][i], owner, &choice, false);
	if (which < OTHERS)
		set_value(self->others[kind][which], owner, &choice, true);
}

/* Which owners have values before, and which values those are. */
static void set_values(const TESTED *self, enum kind kind, __u64 choice)
{
	int owners[4] = {}, n = kind == SOCKET ? 4 : 1;
	char value[300];

	list_owners(self, kind, owners);
	for (int i = 0; i < n; i++)
		set_other_value(self, kind, owners[i], choice >> (32 + 8 * i));
	for (int i = 0; i < n * SIZES; i++, choice >>= 1) {
		fill(value, sizeof(value), choice);
		set_value(self->maps[kind][i % SIZES], owners[i / SIZES], value,
			  choice & 1);
	}
}

static void get_values(const TESTED *self, enum kind kind,
		       struct result *result)
{
	int owners[4] = {}, n = kind == SOCKET ? 4 : 1, map;

	list_owners(self, kind, owners);
	for (int i = 0; i < n * SIZES; i++) {
		map = self->maps[kind][i % SIZES];
		result->values[i].err =
			bpf_map_lookup_elem(map, &owners[i / SIZES],
					    result->values[i].value);
	}
}

static void run_code(TESTED *self, const struct way *way, int prog,
		     __u64 choice, struct result *result)
{
	char packet[64] = { [12] = ETH_P_IP >> 8, [13] = ETH_P_IP & 0xff };
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int zero = 0;

	memset(result, 0, sizeof(*result));
	if (way->type != BPF_PROG_TYPE_RAW_TRACEPOINT) {
		opts.data_in = packet;
		opts.data_size_in = sizeof(packet);
	}
	set_values(self, way->kind, choice);
	bpf_map_update_elem(self->control, &zero, &self->memory, 0);
	result->err = bpf_prog_test_run_opts(prog, &opts);
	result->retval = opts.retval;
	bpf_map_lookup_elem(self->control, &zero, &result->control);
	get_values(self, way->kind, result);
}

/* What is given back after grace periods may be too much for a creation. */
static bool agree(TESTED *self, const struct way *way, const int *progs,
		  __u64 choice)
{
	static struct result results[2];

	for (int tries = 0; tries < 20; tries++) {
		for (int i = 0; i < 2; i++)
			run_code(self, way, progs[i], choice, &results[i]);
		if (results[0].err)
			return false;
		if (!memcmp(&results[0], &results[1], sizeof(results[0])))
			return true;
		usleep(100000);
	}
	return false;
}

static void fill_control(TESTED *self, const struct code *c)
{
	struct control *control = &self->memory;

	memset(control, 0, sizeof(*control));
	memcpy(control->flags, c->flags, sizeof(c->flags));
	for (int i = 0; i < RESULTS; i++)
		control->results[i] = UNTOUCHED;
	fill(control->initial, sizeof(control->initial), any());
	switch (below(4)) {
	case 0:
		control->tuple = tuple_between(-1, self->listener);
		break;
	case 1:
		control->tuple = tuple_between(self->listener, self->client);
		break;
	case 2:
		control->tuple = tuple_between(self->client, self->child);
		break;
	default:
		control->tuple = tuple_between(-1, self->udp);
		break;
	}
}

static void load_and_run(TESTED *self)
{
	const struct way *way = &ways[below(ARRAY_SIZE(ways))];
	static struct code code[2];
	struct errors errors = {};
	__u64 choices = fuzz_choices();
	int progs[2];

	for (int i = 0; i < 2; i++) {
		fuzz_again(choices);
		generate(&code[i], self, way, i);
		progs[i] = load_code(&code[i], way);
	}
	fuzz_bytes(code[0].insns, code[0].n * sizeof(code[0].insns[0]));
	if (progs[0] < 0) {
		may_fail(&errors, -EACCES);
		may_fail(&errors, -EINVAL);
	}
	expect_result(&errors, progs[0] < 0 ? progs[0] : 0, way->name);
	if (progs[0] < 0 ? progs[1] != progs[0] : progs[1] < 0) {
		complain("%s: one loads with %d, the other with %d", way->name,
			 progs[0], progs[1]);
	} else if (progs[0] >= 0) {
		self->loaded++;
		self->inlined += length_of(progs[0]) > length_of(progs[1]);
		fill_control(self, &code[0]);
		if (way->runs && !agree(self, way, progs, any()))
			complain("%s: what it does is not what its calls do",
				 way->name);
	}
	close(progs[0]);
	close(progs[1]);
}

static bool is_uncharged(const TESTED *self)
{
	return !optmem(self->listener) && !optmem(self->client) &&
	       !optmem(self->child) && !optmem(self->udp);
}

TEST_F_TIMEOUT(programs, are_refused_or_do_what_the_helpers_do, GUARD)
{
	while (fuzz_next())
		load_and_run(self);
	fuzz_report(variant->jit[0] == '1' ? "programs" :
					     "programs, interpreted");
	printf("# %d loaded, %d with instructions for hits\n", self->loaded,
	       self->inlined);
	EXPECT_EQ(fuzz_failures(), 0);
	EXPECT_GT(self->loaded, 0);
	EXPECT_TRUE(is_stock() ? !self->inlined : self->inlined);
	close_maps(self);
	EXPECT_TRUE(EVENTUALLY(is_uncharged(self)));
	EXPECT_TRUE(EVENTUALLY(count_objects() == self->objects));
}

TEST_HARNESS_MAIN
