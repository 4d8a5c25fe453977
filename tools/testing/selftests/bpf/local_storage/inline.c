// SPDX-License-Identifier: GPL-2.0
/* Calls of get helpers with instructions that find a hit before them. */
#include "harness.h"
#include "net.h"
#include "inlined.skel.h"

#define HARDENING	"/proc/sys/net/core/bpf_jit_harden"
#define NOT_RUN		(-2)
#define FEW		4	/* slots that every storage has */
#define MAX_FILLERS	12	/* of the slots that there are */
#define TIME_WAIT	6
#define NEW_SYN_RECV	12

/* What the instructions before a call do. */
enum {
	LOADS = 1, TESTS_NULL = 2, TESTS_STATE = 4, TESTS_CONTEXT = 8,
	COUNTS_SLOTS = 16, USES_INDEX = 32,
	MISSES = 64,		/* without the call, too */
	PASSES_CHECK = 128,	/* of the result for NULL */
	STRANGE = 256,
};

/* The size of the kernel's pointers. */
#define POINTER	(sizeof(long) == 8 ? BPF_DW : BPF_W)

static bool is_const_load(const struct bpf_insn *insn, int reg)
{
	return insn->code == (BPF_LD | BPF_IMM | BPF_DW) &&
	       insn->dst_reg == reg;
}

static int purpose_of(const struct bpf_insn *insn)
{
	bool from_owner = insn->src_reg == BPF_REG_2;
	bool from_r0 = insn->src_reg == BPF_REG_0;

	switch (insn->code) {
	case BPF_LDX | BPF_MEM | POINTER:
		return from_owner ? LOADS : 0;
	case BPF_LDX | BPF_MEM | BPF_B:
		return from_owner ? TESTS_STATE : from_r0 ? COUNTS_SLOTS : 0;
	case BPF_JMP | BPF_JEQ | BPF_K:
		return insn->dst_reg == BPF_REG_2 ? TESTS_NULL : 0;
	case BPF_JMP | BPF_JNE | BPF_X:
		return insn->src_reg == BPF_REG_1 ? USES_INDEX : 0;
	case BPF_ALU64 | BPF_MOV | BPF_X:
		/* Of a per-CPU variable's address. */
		return insn->off == -1 ? TESTS_CONTEXT : 0;
	default:
		return 0;
	}
}

/* The last call with a constant fifth argument, which the verifier adds. */
static const struct bpf_insn *find_call(const struct bpf_insn *insns, int n)
{
	for (int i = n - 1; i >= 2; i--)
		if (insns[i].code == (BPF_JMP | BPF_CALL) &&
		    insns[i - 1].code == (BPF_ALU64 | BPF_MOV | BPF_K) &&
		    insns[i - 1].dst_reg == BPF_REG_5)
			return &insns[i];
	return NULL;
}

/* What precedes the call, up to where the program names the map. */
static int purposes_before(const struct bpf_insn *first,
			   const struct bpf_insn *call)
{
	const struct bpf_insn *insn = call - 2;
	int purposes = 0, passed;

	if (insn->code == (BPF_JMP | BPF_JA)) {
		purposes = insn + insn->off == call ? MISSES : STRANGE;
		insn--;
	}
	/* Where nothing was put before it, it is the map. */
	if (insn->code != (BPF_JMP | BPF_JNE | BPF_K))
		return insn->code && insn->dst_reg != BPF_REG_1 ? STRANGE :
								  purposes;
	passed = insn + insn->off - call;
	if (insn->dst_reg != BPF_REG_0 || passed < 0 || passed > 1)
		return STRANGE;
	if (passed)
		purposes |= PASSES_CHECK;
	while (--insn > first && !is_const_load(insn, BPF_REG_1))
		purposes |= purpose_of(insn);
	return purposes;
}

static int purposes_in(const struct bpf_program *prog)
{
	static struct bpf_insn insns[1024];
	struct bpf_prog_info info = {
		.xlated_prog_insns = (unsigned long)insns,
		.xlated_prog_len = sizeof(insns),
	};
	__u32 len = sizeof(info);
	const struct bpf_insn *call;

	if (bpf_prog_get_info_by_fd(bpf_program__fd(prog), &info, &len))
		return STRANGE;
	call = find_call(insns, info.xlated_prog_len / sizeof(*insns));
	return call ? purposes_before(insns, call) : STRANGE;
}

/* Owners, and the ways of programs to them. */

enum owner {
	CHILD, LISTENER, UNCONNECTED, DATAGRAM, UNBOUND, TASK, CGROUP_, FILE_,
	NR_OWNERS, REQUEST = NR_OWNERS, TIMEWAIT, NOBODY, NR_TUPLES,
};

enum trigger { LOOK_UP, RUN, SEND, BIND, SHUTDOWN, LISTEN, ACCEPT, CHMOD };

static const struct way {
	const char *name;
	enum owner owner;
	enum trigger trigger;
	int kind, tests;
	bool needs_jit;
} ways[] = {
	{ "common", CHILD, LOOK_UP, 0, TESTS_STATE },
	{ "common", LISTENER, LOOK_UP, 0, TESTS_STATE },
	{ "common", REQUEST, LOOK_UP, 0, TESTS_STATE },
	{ "common", TIMEWAIT, LOOK_UP, 0, TESTS_STATE },
	{ "full", CHILD, LOOK_UP, 0 },
	{ "full", LISTENER, LOOK_UP, 0 },
	{ "tcp", CHILD, LOOK_UP, 0 },
	{ "udp", DATAGRAM, LOOK_UP, 0 },
	{ "cast", CHILD, LOOK_UP, 0, TESTS_NULL | TESTS_STATE },
	{ "cast", REQUEST, LOOK_UP, 0, TESTS_NULL | TESTS_STATE },
	{ "cast", TIMEWAIT, LOOK_UP, 0, TESTS_NULL | TESTS_STATE },
	{ "skb", DATAGRAM, SEND, 0, TESTS_STATE },
	{ "ctx", UNBOUND, BIND, 0 },
	{ "fentry", UNCONNECTED, SHUTDOWN, 0,
	  TESTS_NULL | TESTS_STATE | TESTS_CONTEXT, true },
	{ "fentry", CHILD, SHUTDOWN, 0,
	  TESTS_NULL | TESTS_STATE | TESTS_CONTEXT, true },
	{ "lsm", LISTENER, LISTEN, 0, TESTS_NULL | TESTS_STATE, true },
	{ "null", NOBODY, ACCEPT, 0,
	  TESTS_NULL | TESTS_STATE | TESTS_CONTEXT, true },
	{ "task", TASK, RUN, 1, TESTS_NULL },
	{ "cgrp", CGROUP_, RUN, 2, TESTS_NULL },
	{ "inode", FILE_, CHMOD, 3, TESTS_NULL, true },
};

static const char * const calls[] = {
	"get", "create", "moved", "if_found", "either", "inner", "two_maps",
	"in_data", "odd", "odd_too",
};

/* Where values are in a storage, of which slots come first. */
enum place { IN_FEW_SLOTS, IN_LATE_SLOT, AFTER_STORAGE, IN_INDEX };

struct site {
	struct inlined *skel;
	struct bpf_link *links[NR_CALLS * ARRAY_SIZE(ways)];
	struct storage_owner cgroup;
	struct bpf_sock_tuple tuples[NR_TUPLES];
	int owners[NR_OWNERS], request[2], first[4];
	int fillers[MAX_FILLERS][4], nr_fillers, templates[4], nr_links;
	bool jit;
	enum place place;
};

static struct sockaddr_in loopback(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return addr;
}

static int bound(int type)
{
	int fd = socket(AF_INET, type, 0), mark = INLINE_MARK;

	setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
	bind_locally(fd);
	return fd;
}

static void make_sockets(struct site *s)
{
	int listener = bound(SOCK_STREAM), client, seconds = 100;

	s->owners[LISTENER] = listener;
	listen(listener, 8);
	/* Who closes first is left in TIME_WAIT. */
	client = connect_new(listener, AF_INET, 0);
	s->tuples[TIMEWAIT] = tuple_between(listener, client);
	close(client);
	close(accept(listener, NULL, NULL));

	client = connect_new(listener, AF_INET, 0);
	s->owners[CHILD] = accept(listener, NULL, NULL);
	s->tuples[CHILD] = tuple_between(client, listener);
	s->tuples[LISTENER] = tuple_between(-1, listener);
	close(client);
	fcntl(listener, F_SETFL, O_NONBLOCK);

	/* It remains a request until data arrive. */
	s->request[0] = bound(SOCK_STREAM);
	setsockopt(s->request[0], IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds,
		   sizeof(seconds));
	listen(s->request[0], 8);
	s->request[1] = connect_new(s->request[0], AF_INET, 0);
	s->tuples[REQUEST] = tuple_between(s->request[1], s->request[0]);

	s->owners[UNCONNECTED] = tcp_socket();
	s->owners[DATAGRAM] = bound(SOCK_DGRAM);
	s->tuples[DATAGRAM] = tuple_between(-1, s->owners[DATAGRAM]);
	s->owners[UNBOUND] = socket(AF_INET, SOCK_DGRAM, 0);
}

static int make_owners(struct site *s)
{
	s->cgroup = new_cgroup();
	/* Sockets keep the cgroup in which they were made. */
	if (enter_cgroup(s->cgroup.path))
		return -1;
	make_sockets(s);
	s->owners[TASK] = pidfd_open(getpid(), 0);
	s->owners[CGROUP_] = s->cgroup.fd;
	s->owners[FILE_] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	for (int i = 0; i < NR_OWNERS; i++)
		if (s->owners[i] < 0)
			return -1;
	return 0;
}

static const char * const kinds[] = { "sk_", "task_", "cgrp_", "inode_" };

static int kind_of(const char *name)
{
	int kind = 0;

	while (strncmp(name, kinds[kind], strlen(kinds[kind])))
		kind++;
	return kind;
}

static void unload(struct site *s)
{
	while (s->nr_links)
		bpf_link__destroy(s->links[--s->nr_links]);
	inlined__destroy(s->skel);
	s->skel = NULL;
}

/* Maps that programs name, and any that they find in one, own no slot. */
static int forgo_slot(struct site *s, struct bpf_map *map)
{
	const char *name = bpf_map__name(map);
	int kind;

	if (strstr(name, "_values") || strstr(name, "_other"))
		return bpf_map__set_map_flags(map, BPF_F_NO_PREALLOC | BPF_F_STORAGE_NO_SLOT);
	if (!strstr(name, "_outer"))
		return 0;
	kind = kind_of(name);
	s->templates[kind] = create_kind(storage_types[kind], 8, BPF_F_STORAGE_NO_SLOT);
	return bpf_map__set_inner_map_fd(map, s->templates[kind]);
}

static int load(struct site *s)
{
	struct bpf_program *prog;
	struct bpf_map *map;
	int err = 0;

	s->skel = inlined__open();
	if (!s->skel)
		return -ENOMEM;
	bpf_object__for_each_program(prog, s->skel->obj)
		bpf_program__set_autoload(prog, s->jit || !is_of_function(prog));
	if (s->place == IN_INDEX && !is_stock())
		bpf_object__for_each_map(map, s->skel->obj)
			err = err ?: forgo_slot(s, map);
	return err ?: inlined__load(s->skel);
}

static int map_fd(struct site *s, const struct way *way, const char *which)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%s", kinds[way->kind], which);
	return bpf_object__find_map_fd_by_name(s->skel->obj, name);
}

static struct bpf_program *program(struct site *s, const struct way *way,
				   int call)
{
	char name[32];

	snprintf(name, sizeof(name), "%s_%s", way->name, calls[call]);
	return bpf_object__find_program_by_name(s->skel->obj, name);
}

/* Slots that maps of earlier tests still have may shift ours. */
static bool has_wrong_slot(struct site *s)
{
	int wrong = s->place == IN_FEW_SLOTS ? LOADS | COUNTS_SLOTS : LOADS;

	if (is_stock() || s->place == IN_INDEX)
		return false;
	for (int i = 0; i < ARRAY_SIZE(ways); i++)
		if ((s->jit || !ways[i].needs_jit) &&
		    (purposes_in(program(s, &ways[i], CALL_GET)) &
		     (LOADS | COUNTS_SLOTS)) == wrong)
			return true;
	return false;
}

/* Maps of each kind, which take the lowest slots that are free. */
static void fill_slots(struct site *s, int n)
{
	for (; n--; s->nr_fillers++)
		for (int kind = 0; kind < ARRAY_SIZE(storage_types); kind++)
			s->fillers[s->nr_fillers][kind] =
				create_kind(storage_types[kind], 8, 0);
}

static void free_slots(struct site *s)
{
	while (s->nr_fillers) {
		s->nr_fillers--;
		for (int kind = 0; kind < ARRAY_SIZE(storage_types); kind++)
			close(s->fillers[s->nr_fillers][kind]);
	}
}

static int load_in_place(struct site *s)
{
	bool late = s->place == IN_LATE_SLOT || s->place == AFTER_STORAGE;
	int err;

	if (late)
		fill_slots(s, FEW);
	for (int tries = FEW; tries < MAX_FILLERS; tries++) {
		err = load(s);
		if (err || !has_wrong_slot(s))
			return err;
		unload(s);
		usleep(100000);
		if (late)
			fill_slots(s, 1);
	}
	return -EBUSY;
}

/* What a new socket is charged with: the more slots, the more. */
static __u32 charge_of(int map)
{
	int sk = tcp_socket();
	__u32 charge;

	update(map, sk, 1, BPF_ANY);
	charge = optmem(sk);
	close(sk);
	return charge;
}

/* Let the owners that programs can be sure to find have a small storage. */
static bool make_storages(struct site *s)
{
	__u32 large;

	for (int i = 0; i < ARRAY_SIZE(storage_types); i++)
		s->first[i] = create_kind(storage_types[i], 8, 0);
	fill_slots(s, FEW);
	large = charge_of(s->first[0]);
	free_slots(s);
	if (!is_stock() && !EVENTUALLY(charge_of(s->first[0]) < large))
		return false;
	for (int i = 0; i < ARRAY_SIZE(ways); i++)
		if (ways[i].owner < NR_OWNERS &&
		    update(s->first[ways[i].kind], s->owners[ways[i].owner], 1,
			   BPF_ANY))
			return false;
	return true;
}

static int attach(struct site *s)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, s->skel->obj) {
		bool of_cgroup = strstr(bpf_program__section_name(prog),
					"cgroup");

		if (!bpf_program__autoload(prog) ||
		    (!of_cgroup && !is_of_function(prog)))
			continue;
		if (of_cgroup)
			s->links[s->nr_links] =
				bpf_program__attach_cgroup(prog, s->cgroup.fd);
		else
			s->links[s->nr_links] = bpf_program__attach(prog);
		if (!s->links[s->nr_links++])
			return -errno;
	}
	s->skel->bss->pid = getpid();
	s->skel->bss->owner_ino = inode_number(s->owners[FILE_]);
	return 0;
}

static void trigger(struct site *s, const struct way *way,
		    const struct bpf_program *prog)
{
	struct sockaddr_in addr = loopback();
	socklen_t len = sizeof(addr);
	int fd = way->owner < NR_OWNERS ? s->owners[way->owner] :
					  s->owners[LISTENER];
	char byte = 0;

	switch (way->trigger) {
	case LOOK_UP:
		run_on_packet(prog, 1);
		return;
	case RUN:
		run_program(prog);
		return;
	case SEND:
		getsockname(fd, (void *)&addr, &len);
		sendto(fd, &byte, 1, 0, (void *)&addr, len);
		recv(fd, &byte, 1, MSG_DONTWAIT);
		return;
	case BIND:
		bind(fd, (void *)&addr, len);
		return;
	case SHUTDOWN:
		/* Refused, but not before the programs ran. */
		shutdown(fd, 7);
		return;
	case LISTEN:
		listen(fd, 8);
		return;
	case ACCEPT:
		close(accept(fd, NULL, NULL));
		return;
	case CHMOD:
		fchmod(fd, 0600);
		return;
	}
}

/* What a program finds; -1 for NULL. */
static long long run(struct site *s, const struct way *way, int call,
		     int choice)
{
	struct inlined__bss *bss = s->skel->bss;

	bss->found = NOT_RUN;
	bss->turn = call;
	bss->choice = choice;
	bss->tuple = s->tuples[way->owner];
	trigger(s, way, program(s, way, call));
	bss->turn = NR_CALLS;
	return bss->found;
}

FIXTURE(call) {
	struct site site;
	char jit[2], hardening[2];
};

FIXTURE_VARIANT(call) {
	const char *jit, *hardening;
	enum place place;
};

#define RUN_BY(name, jit_, hardening_, place_)				\
	FIXTURE_VARIANT_ADD(call, name) {				\
		.jit = jit_, .hardening = hardening_, .place = place_,	\
	}

RUN_BY(jit_in_few_slots, "1", "0", IN_FEW_SLOTS);
RUN_BY(jit_in_late_slot, "1", "0", IN_LATE_SLOT);
RUN_BY(jit_after_storage, "1", "0", AFTER_STORAGE);
RUN_BY(jit_in_index, "1", "0", IN_INDEX);
RUN_BY(interpreter_in_few_slots, "0", "0", IN_FEW_SLOTS);
RUN_BY(interpreter_in_index, "0", "0", IN_INDEX);
RUN_BY(hardened_in_late_slot, "1", "2", IN_LATE_SLOT);
RUN_BY(hardened_in_index, "1", "2", IN_INDEX);

static void read_setting(const char *path, char *text)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, 1) != 1)
		text[0] = 0;
	close(fd);
}

FIXTURE_SETUP(call)
{
	struct site *s = &self->site;

	read_setting(JIT, self->jit);
	read_setting(HARDENING, self->hardening);
	if (!set_jit(variant->jit) ||
	    write_file(HARDENING, variant->hardening))
		SKIP(return, "this kernel cannot run programs that way");
	s->jit = variant->jit[0] == '1' && has_trampolines();
	s->place = variant->place;
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		s->first[i] = NO_MAP;
		s->templates[i] = NO_MAP;
	}
	ASSERT_EQ(make_owners(s), 0);
	if (s->place == AFTER_STORAGE)
		ASSERT_TRUE(make_storages(s));
	ASSERT_EQ(load_in_place(s), 0);
	ASSERT_EQ(attach(s), 0);
}

FIXTURE_TEARDOWN(call)
{
	struct site *s = &self->site;

	write_file(JIT, self->jit);
	write_file(HARDENING, self->hardening);
	unload(s);
	free_slots(s);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		close(s->first[i]);
		close(s->templates[i]);
	}
	enter_cgroup("");
	for (int i = 0; i < NR_OWNERS; i++)
		if (i != CGROUP_)
			close(s->owners[i]);
	close(s->request[0]);
	close(s->request[1]);
	end_owner(&s->cgroup);
}

/* Elsewhere a program cannot ask where it runs, and has to call. */
#ifdef __x86_64__
#define KNOWS_CONTEXT	true
#else
#define KNOWS_CONTEXT	false
#endif

static int expected_purposes(enum place place, const struct way *way, int call)
{
	int purposes = LOADS | way->tests;

	if (call >= CALL_INNER)
		return 0;
	if (way->tests & TESTS_CONTEXT && !KNOWS_CONTEXT)
		return 0;
	if (place == IN_INDEX)
		purposes |= USES_INDEX;
	else if (place != IN_FEW_SLOTS)
		purposes |= COUNTS_SLOTS;
	if (call == CALL_GET || call == CALL_MOVED)
		purposes |= MISSES;
	if (call == CALL_GET || call == CALL_CREATE || call == CALL_EITHER)
		purposes |= PASSES_CHECK;
	return purposes;
}

TEST_F(call, becomes_instructions)
{
	struct site *s = &self->site;

	if (is_stock())
		SKIP(return, "stock calls the helpers");
	if (variant->hardening[0] == '2')
		SKIP(return, "the instructions are shown with blinded numbers");
	for (int i = 0; i < ARRAY_SIZE(ways); i++)
		for (int call = 0; call < NR_CALLS; call++) {
			if (ways[i].needs_jit && !s->jit)
				continue;
			EXPECT_EQ(purposes_in(program(s, &ways[i], call)),
				  expected_purposes(s->place, &ways[i], call))
				TH_LOG("%s_%s", ways[i].name, calls[call]);
		}
}

#define EXPECT_FOUND(call, choice, expected) do {			\
	EXPECT_EQ(run(s, way, call, choice), expected)			\
		TH_LOG("%s_%s, owner %d, choice %d, line %d", way->name, \
		       calls[call], way->owner, choice, __LINE__);	\
} while (0)

/* What does not create. */
static void expect_none(struct __test_metadata *_metadata, struct site *s,
			const struct way *way)
{
	EXPECT_FOUND(CALL_GET, 0, -1);
	EXPECT_FOUND(CALL_MOVED, 0, -1);
	EXPECT_FOUND(CALL_EITHER, 0, -1);
	EXPECT_FOUND(CALL_INNER, 0, -1);
	EXPECT_FOUND(CALL_TWO_MAPS, 0, -1);
	EXPECT_FOUND(CALL_IN_DATA, 0, -1);
	EXPECT_FOUND(CALL_ODD, 0, -1);
	EXPECT_FOUND(CALL_ODD_TOO, 1, -1);
}

static void expect_hits(struct __test_metadata *_metadata, struct site *s,
			const struct way *way, long long value)
{
	for (int choice = 0; choice <= 1; choice++) {
		for (int call = CALL_GET; call <= CALL_INNER; call++)
			EXPECT_FOUND(call, choice, value);
		EXPECT_FOUND(CALL_IN_DATA, choice, value);
		EXPECT_FOUND(CALL_ODD, choice, -1);
	}
	EXPECT_FOUND(CALL_TWO_MAPS, 0, value);
	EXPECT_FOUND(CALL_TWO_MAPS, 1, 5);
	EXPECT_FOUND(CALL_ODD_TOO, 0, value);
	EXPECT_FOUND(CALL_ODD_TOO, 1, -1);
}

/* Every call that may create makes a value that all others find. */
static void expect_creation(struct __test_metadata *_metadata, struct site *s,
			    const struct way *way, int map, int fd)
{
	static const struct { int call, choice; } creations[] = {
		{ CALL_CREATE, 0 }, { CALL_IF_FOUND, 0 }, { CALL_EITHER, 1 },
		{ CALL_INNER, 1 }, { CALL_IN_DATA, 1 }, { CALL_ODD_TOO, 0 },
	};

	for (int i = 0; i < ARRAY_SIZE(creations); i++) {
		EXPECT_FOUND(creations[i].call, creations[i].choice, INITIAL);
		EXPECT_EQ(lookup(map, fd), INITIAL);
		expect_hits(_metadata, s, way, INITIAL);
		EXPECT_EQ(delete(map, fd), 0);
		expect_none(_metadata, s, way);
	}
}

/* Not a full socket, or none at all. */
static void expect_nothing(struct __test_metadata *_metadata, struct site *s,
			   const struct way *way)
{
	int state = way->owner == REQUEST ? NEW_SYN_RECV : TIME_WAIT;

	for (int call = 0; call < NR_CALLS; call++)
		for (int choice = 0; choice <= 1; choice++)
			EXPECT_FOUND(call, choice, -1);
	if (way->owner != NOBODY)
		EXPECT_EQ(s->skel->bss->state, state);
}

static void expect_values(struct __test_metadata *_metadata, struct site *s,
			  const struct way *way)
{
	int map = map_fd(s, way, "values"), other = map_fd(s, way, "other");
	int fd = s->owners[way->owner];

	expect_none(_metadata, s, way);
	ASSERT_EQ(update(other, fd, 5, BPF_ANY), 0);
	EXPECT_FOUND(CALL_GET, 0, -1);
	EXPECT_FOUND(CALL_EITHER, 0, -1);
	for (int value = 11; value <= 12; value++) {
		ASSERT_EQ(update(map, fd, value, BPF_ANY), 0);
		expect_hits(_metadata, s, way, value);
	}
	EXPECT_EQ(delete(map, fd), 0);
	EXPECT_FOUND(CALL_GET, 0, -1);
	EXPECT_FOUND(CALL_EITHER, 0, -1);
	expect_creation(_metadata, s, way, map, fd);
	EXPECT_EQ(delete(other, fd), 0);
	expect_none(_metadata, s, way);
}

TEST_F(call, finds_what_there_is)
{
	struct site *s = &self->site;

	for (int i = 0; i < ARRAY_SIZE(ways); i++) {
		const struct way *way = &ways[i];

		if (way->needs_jit && !s->jit)
			continue;
		if (way->owner < NR_OWNERS)
			expect_values(_metadata, s, way);
		else
			expect_nothing(_metadata, s, way);
	}
}

/* Maps without a slot that are looked for in the same cell of an index. */

#define MAPS	64

/* A program that returns the current task's value, or 0, and is so much longer. */
static int longer_program_for(int map, int longer)
{
	struct bpf_insn *all, insns[] = {
		{ BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_current_task_btf },
		{ BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_0 },
		{ BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD,
		  .imm = map },
		{},
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4 },
		{ BPF_JMP | BPF_CALL, .imm = BPF_FUNC_task_storage_get },
		{ BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, .off = 1 },
		{ BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_0, BPF_REG_0 },
		{ BPF_JMP | BPF_EXIT },
	};

	int prog;

	all = malloc((longer + ARRAY_SIZE(insns)) * sizeof(*all));
	for (int i = 0; i < longer; i++)
		all[i] = (struct bpf_insn){ BPF_ALU64 | BPF_MOV | BPF_K };
	memcpy(all + longer, insns, sizeof(insns));
	prog = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "get", "GPL", all,
			     longer + ARRAY_SIZE(insns), NULL);
	free(all);
	return prog;
}

static int program_for(int map)
{
	return longer_program_for(map, 0);
}

static int returned_by(int prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	return bpf_prog_test_run_opts(prog, &opts) ?: opts.retval;
}

/* As a task with values in every stride-th map; how often one is not right. */
static int wrong_values(const int *maps, const int *progs, int stride)
{
	int self = pidfd_open(getpid(), 0), wrong = 0;

	for (int i = 0; i < MAPS; i += stride)
		wrong += !!PATIENTLY(update(maps[i], self, i + 1, BPF_ANY));
	for (int i = 0; i < MAPS; i++)
		wrong += returned_by(progs[i]) != (i % stride ? 0 : i + 1);
	for (int i = 0; i < MAPS; i += 2 * stride)
		wrong += !!delete(maps[i], self);
	for (int i = 0; i < MAPS; i++)
		wrong += returned_by(progs[i]) !=
			 (i % (2 * stride) == stride ? i + 1 : 0);
	return wrong;
}

TEST(maps_that_meet_in_an_index)
{
	int maps[MAPS], progs[MAPS], status;
	pid_t pid;

	for (int i = 0; i < MAPS; i++) {
		maps[i] = create_kind(BPF_MAP_TYPE_TASK_STORAGE, 8,
				      is_stock() ? 0 : BPF_F_STORAGE_NO_SLOT);
		progs[i] = program_for(maps[i]);
		ASSERT_GE(progs[i], 0);
	}
	for (int stride = 1; stride < MAPS; stride++) {
		pid = fork();
		if (!pid)
			_exit(wrong_values(maps, progs, stride));
		waitpid(pid, &status, 0);
		EXPECT_EQ(status, 0) TH_LOG("every %dth map", stride);
	}
	for (int i = 0; i < MAPS; i++) {
		close(progs[i]);
		close(maps[i]);
	}
}

/* By how much it grows where the verifier is done with it. */
static int growth_of(int prog, int insns)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (bpf_prog_get_info_by_fd(prog, &info, &len))
		return -errno;
	return info.xlated_prog_len / sizeof(struct bpf_insn) - insns;
}

/* Whose jumps may not reach as far as they would have to. */
TEST(large_programs_call)
{
	const int size = 10, large = 1 << 14;
	int map = create_kind(BPF_MAP_TYPE_TASK_STORAGE, 8, 0);
	int small_growth, large_growth, prog;
	int self_fd = pidfd_open(getpid(), 0);

	ASSERT_EQ(update(map, self_fd, 77, 0), 0);
	prog = program_for(map);
	ASSERT_GE(prog, 0);
	small_growth = growth_of(prog, size);
	close(prog);
	prog = longer_program_for(map, large);
	ASSERT_GE(prog, 0);
	EXPECT_EQ(returned_by(prog), 77);
	large_growth = growth_of(prog, large + size);
	if (is_stock())
		EXPECT_EQ(large_growth, small_growth);
	if (!is_stock())
		EXPECT_LT(large_growth, small_growth);
	close(prog);
	close(self_fd);
	close(map);
}

TEST_HARNESS_MAIN
