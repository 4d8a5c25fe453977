// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that interrupt another call on the same processor: a hardware
 * breakpoint is where a change of a task's values writes, with locks held.
 */
#include "harness.h"
#include "breakpoint.h"
#include "progs/nested.h"
#include "nested.skel.h"

/* Answers that a nested call may get, as bits. */
enum {
	DONE = 1,	/* a value, or 0 */
	REFUSED = 2,	/* NULL, or -EBUSY */
	ABSENT = 4,	/* -ENOENT */
	ODD = 8,	/* anything else */
};

enum { SAME, KEPT, MISSING, APART, MAPS };

FIXTURE(nested) {
	struct nested *skel, *ending;
	struct storage_owner cgroup;
	int fds[MAPS], owners[MAPS], breakpoints[MAX_CPUS];
	long long empty[MAPS];
};

struct change {
	/* What is there: in the map, and in the owner's other map. */
	bool same, kept;
	/* Of the owner instead of the slot of its value. */
	bool pointer;
	/* How it is made, and whether the value is there afterwards. */
	int (*make)(struct nested *skel, int self);
	bool remains;
	/* It is the end of another map like `same`. */
	bool end;
};

FIXTURE_VARIANT(nested) {
	struct change change;
	int may[NESTED_OPS];
};

static int by_program_create(struct nested *skel, int self)
{
	return run_program(skel->progs.create_same);
}

static int by_program_delete(struct nested *skel, int self)
{
	return run_program(skel->progs.delete_same);
}

static int by_call_update(struct nested *skel, int self)
{
	return update(bpf_map__fd(skel->maps.same), self, OUTER_VALUE, 0);
}

static int by_call_delete(struct nested *skel, int self)
{
	return delete(bpf_map__fd(skel->maps.same), self);
}

/* With the bucket's lock held, and the value in the storage already. */
#define FIRST_MAY {							\
	[CREATE_SAME] = DONE | REFUSED, [DELETE_SAME] = REFUSED,	\
	[CREATE_OTHER] = DONE | REFUSED, [DELETE_OTHER] = ABSENT | REFUSED, \
	[CREATE_APART] = DONE, [DELETE_APART] = DONE,			\
}

/* With both locks held, and the value in its slot. */
#define PUT_MAY {							\
	[CREATE_SAME] = DONE | REFUSED, [DELETE_SAME] = REFUSED,	\
	[CREATE_OTHER] = REFUSED, [DELETE_OTHER] = REFUSED,		\
	[CREATE_APART] = DONE, [DELETE_APART] = DONE,			\
}

/* With both locks held, and the slot empty. */
#define TAKE_MAY {							\
	[CREATE_SAME] = REFUSED, [DELETE_SAME] = ABSENT | REFUSED,	\
	[CREATE_OTHER] = REFUSED, [DELETE_OTHER] = REFUSED,		\
	[CREATE_APART] = DONE, [DELETE_APART] = DONE,			\
}

#define TAKE_LAST_MAY {							\
	[CREATE_SAME] = REFUSED, [DELETE_SAME] = ABSENT | REFUSED,	\
	[CREATE_OTHER] = REFUSED, [DELETE_OTHER] = ABSENT | REFUSED,	\
	[CREATE_APART] = DONE, [DELETE_APART] = DONE,			\
}

/* The owner's storage is nobody's any more, and it may have another. */
#define LET_GO_MAY {							\
	[CREATE_SAME] = DONE | REFUSED, [DELETE_SAME] = ABSENT | REFUSED, \
	[CREATE_OTHER] = DONE | REFUSED, [DELETE_OTHER] = ABSENT | REFUSED, \
	[CREATE_APART] = DONE, [DELETE_APART] = DONE,			\
}

FIXTURE_VARIANT_ADD(nested, first_value) {
	.change = { .pointer = true, .make = by_program_create,
		    .remains = true, },
	.may = FIRST_MAY,
};

FIXTURE_VARIANT_ADD(nested, first_value_by_call) {
	.change = { .pointer = true, .make = by_call_update,
		    .remains = true, },
	.may = FIRST_MAY,
};

FIXTURE_VARIANT_ADD(nested, further_value) {
	.change = { .kept = true, .make = by_program_create,
		    .remains = true, },
	.may = PUT_MAY,
};

FIXTURE_VARIANT_ADD(nested, further_value_by_call) {
	.change = { .kept = true, .make = by_call_update, .remains = true, },
	.may = PUT_MAY,
};

FIXTURE_VARIANT_ADD(nested, replacement) {
	.change = { .same = true, .kept = true, .make = by_call_update,
		    .remains = true, },
	.may = PUT_MAY,
};

FIXTURE_VARIANT_ADD(nested, removal) {
	.change = { .same = true, .kept = true, .make = by_program_delete, },
	.may = TAKE_MAY,
};

FIXTURE_VARIANT_ADD(nested, last_removal) {
	.change = { .same = true, .make = by_program_delete, },
	.may = TAKE_LAST_MAY,
};

FIXTURE_VARIANT_ADD(nested, last_removal_by_call) {
	.change = { .same = true, .make = by_call_delete, },
	.may = TAKE_LAST_MAY,
};

FIXTURE_VARIANT_ADD(nested, letting_go) {
	.change = { .same = true, .pointer = true, .make = by_program_delete, },
	.may = LET_GO_MAY,
};

FIXTURE_VARIANT_ADD(nested, letting_go_by_call) {
	.change = { .same = true, .pointer = true, .make = by_call_delete, },
	.may = LET_GO_MAY,
};

FIXTURE_VARIANT_ADD(nested, end_of_map) {
	.change = { .same = true, .kept = true, .end = true, },
	.may = {
		[CREATE_OTHER] = REFUSED, [DELETE_OTHER] = REFUSED,
		[CREATE_APART] = DONE, [DELETE_APART] = DONE,
	},
};

FIXTURE_SETUP(nested)
{
	struct nested *skel;
	int i;

	NEEDS_BREAKPOINTS();
	skel = nested__open();
	ASSERT_NE(skel, NULL);
	bpf_program__set_autoload(skel->progs.on_breakpoint, true);
	ASSERT_EQ(nested__load(skel), 0);
	ASSERT_EQ(nested__attach(skel), 0);
	self->skel = skel;
	self->cgroup = new_cgroup();
	ASSERT_EQ(enter_cgroup(self->cgroup.path), 0);
	self->fds[SAME] = bpf_map__fd(skel->maps.same);
	self->fds[KEPT] = bpf_map__fd(skel->maps.kept);
	self->fds[MISSING] = bpf_map__fd(skel->maps.missing);
	self->fds[APART] = bpf_map__fd(skel->maps.apart);
	for (i = 0; i < MAPS; i++) {
		self->empty[i] = fdinfo_number(self->fds[i], "memlock");
		self->owners[i] = i == APART ? self->cgroup.fd :
					       pidfd_open(getpid(), 0);
		ASSERT_GE(self->owners[i], 0);
	}
	for (i = 0; i < MAX_CPUS; i++)
		self->breakpoints[i] = -1;
}

FIXTURE_TEARDOWN(nested)
{
	remove_breakpoints(self->breakpoints);
	nested__destroy(self->skel);
	nested__destroy(self->ending);
	enter_cgroup("");
	end_owner(&self->cgroup);
	for (int i = 0; i < APART; i++)
		close(self->owners[i]);
}

/* The answer to the nested call, as a bit. */
static int answer(const struct nested *skel, enum nested_op op)
{
	if (op == CREATE_SAME || op == CREATE_OTHER || op == CREATE_APART)
		return skel->bss->got ? DONE : REFUSED;
	switch (skel->bss->deleted) {
	case 0:
		return DONE;
	case -EBUSY:
		return REFUSED;
	case -ENOENT:
		return ABSENT;
	default:
		return ODD;
	}
}

/* There, a breakpoint comes before what is watched is written, not after. */
#ifdef __aarch64__
#define IS_EARLY	true
#else
#define IS_EARLY	false
#endif

/* Whether the nested call finds the value as it was before the change. */
static bool meets_old(const struct change *change, enum nested_op op)
{
	if (!IS_EARLY)
		return false;
	return change->remains ? op == DELETE_SAME && !change->same :
				 op == CREATE_SAME && !change->pointer;
}

/* Answers that it may get then, besides: no value yet, or one that is to go. */
static int more_answers(const struct change *change, enum nested_op op)
{
	if (!meets_old(change, op))
		return 0;
	return op == DELETE_SAME ? ABSENT : DONE;
}

/* What is to be in each map, after the change and perhaps the nested call. */
struct outcome {
	long long in[MAPS];
};

static struct outcome expected(const struct change *change, enum nested_op op,
			       bool done)
{
	struct outcome outcome = { .in = {
		[SAME] = change->remains ? OUTER_VALUE : -ENOENT,
		[KEPT] = change->kept ? OUTER_VALUE : -ENOENT,
		[MISSING] = -ENOENT,
		[APART] = op == DELETE_APART ? OUTER_VALUE : -ENOENT,
	}};

	if (!done)
		return outcome;
	if (op == CREATE_SAME && !change->remains && !meets_old(change, op))
		outcome.in[SAME] = NESTED_VALUE;
	if (op == DELETE_SAME)
		outcome.in[SAME] = -ENOENT;
	if (op == CREATE_OTHER)
		outcome.in[MISSING] = NESTED_VALUE;
	if (op == DELETE_OTHER)
		outcome.in[KEPT] = -ENOENT;
	if (op == CREATE_APART)
		outcome.in[APART] = NESTED_VALUE;
	if (op == DELETE_APART)
		outcome.in[APART] = -ENOENT;
	return outcome;
}

/* Let there be what the change begins with; returns what it will write to. */
static __u64 prepare(const struct change *change, struct nested *of,
		     const int *fds, const int *owners, enum nested_op op)
{
	if (change->kept)
		update(fds[KEPT], owners[KEPT], OUTER_VALUE, 0);
	if (op == DELETE_APART)
		update(fds[APART], owners[APART], OUTER_VALUE, 0);
	if (run_program(of->progs.find))
		return 0;
	if (!change->same)
		delete(bpf_map__fd(of->maps.same), owners[SAME]);
	return change->pointer ? of->bss->pointer_at : of->bss->slot_at;
}

static void set_trap(struct nested *skel, enum nested_op op, __u64 address)
{
	skel->bss->traps = 0;
	skel->bss->op = op;
	skel->bss->watched = address;
	skel->bss->pid = getpid();
}

static bool trapped(struct nested *skel)
{
	return __atomic_load_n(&skel->bss->traps, __ATOMIC_RELAXED);
}

#define INSIDE_OURS	"what stock writes to under its locks is not known"

TEST_F(nested, only_locks_of_this_processor_make_it_fail)
{
	const struct change *change = &variant->change;
	int *fds = self->fds, *owners = self->owners;
	struct nested *skel = self->skel;
	struct outcome outcome;

	if (is_stock() && !change->pointer)
		SKIP(return, INSIDE_OURS);
	for (int op = 0; op < NESTED_OPS; op++) {
		__u64 address;
		int got;

		if (!variant->may[op])
			continue;
		if (change->end) {
			self->ending = nested__open_and_load();
			ASSERT_NE(self->ending, NULL);
		}
		address = prepare(change, self->ending ?: skel, fds, owners,
				  op);
		ASSERT_NE(address, 0);
		set_trap(skel, op, address);
		ASSERT_EQ(watch(self->breakpoints, address), 0);
		if (change->end) {
			nested__destroy(self->ending);
			self->ending = NULL;
		} else {
			EXPECT_EQ(change->make(skel, owners[SAME]), 0);
		}
		EXPECT_TRUE(EVENTUALLY(trapped(skel))) TH_LOG("op %d", op);
		skel->bss->pid = 0;
		remove_breakpoints(self->breakpoints);

		got = answer(skel, op);
		EXPECT_NE((variant->may[op] | more_answers(change, op)) & got, 0)
			TH_LOG("op %d: answer %d", op, got);
		outcome = expected(change, op, got == DONE);
		for (int i = 0; i < MAPS; i++) {
			EXPECT_EQ(lookup(fds[i], owners[i]), outcome.in[i])
				TH_LOG("op %d, map %d", op, i);
			delete(fds[i], owners[i]);
			EXPECT_TRUE(EVENTUALLY(fdinfo_number(fds[i], "memlock")
					       == self->empty[i]))
				TH_LOG("op %d, map %d", op, i);
		}
	}
}

/* Programs on functions that are called with locks held, or with none. */

FIXTURE(on_function) {
	struct nested *skel;
	char log[1 << 16];
};

FIXTURE_SETUP(on_function)
{
	libbpf_set_print(NULL);
}

FIXTURE_TEARDOWN(on_function)
{
	nested__destroy(self->skel);
}

static int load(struct nested **skel, const char *name, const char *target,
		char *log, size_t size)
{
	struct bpf_program *prog;

	nested__destroy(*skel);
	*skel = nested__open();
	prog = bpf_object__find_program_by_name((*skel)->obj, name);
	bpf_program__set_autoload(prog, true);
	bpf_program__set_log_buf(prog, log, size);
	return bpf_program__set_attach_target(prog, 0, target) ?:
	       nested__load(*skel);
}

#define LOAD(name, target)						\
	load(&self->skel, name, target, self->log, sizeof(self->log))

/* Not every machine says the same of a function that cannot be followed. */
#ifdef __s390__
#define IS_REFUSED(err)	((err) == -EINVAL)
#else
#define IS_REFUSED(err)	((err) == -EBUSY || (err) == -ENOTSUPP)
#endif

static const char * const bare[] = { "bare_fentry", "bare_fexit" };

TEST_F(on_function, what_is_not_ours_is_refused_when_attached)
{
	int err;

	for (int i = 0; i < ARRAY_SIZE(bare); i++) {
		EXPECT_EQ(LOAD(bare[i], "ktime_get_mono_fast_ns"), 0)
			TH_LOG("%s", self->log);
		err = nested__attach(self->skel);
		EXPECT_TRUE(IS_REFUSED(err))
			TH_LOG("error %d", err);
	}
}

TEST_F(on_function, an_unfinished_copy_of_a_task_is_not_for_programs)
{
	for (int i = 0; i < ARRAY_SIZE(bare); i++)
		EXPECT_EQ(LOAD(bare[i], "arch_dup_task_struct"),
			  is_stock() ? 0 : -EINVAL)
			TH_LOG("%s", self->log);
}

TEST_F(on_function, update_by_call_may_create)
{
	int self_fd = pidfd_open(getpid(), 0), map;
	struct nested *skel;

	ASSERT_EQ(LOAD("create_on_entry", "bpf_local_storage_update"), 0)
		TH_LOG("%s", self->log);
	skel = self->skel;
	ASSERT_EQ(nested__attach(skel), 0);
	map = bpf_map__fd(skel->maps.same);
	EXPECT_EQ(update(map, self_fd, 1, 0), 0);
	EXPECT_EQ(update(map, self_fd, 2, 0), 0);
	EXPECT_EQ(skel->bss->runs, 2);
	EXPECT_EQ(lookup(map, self_fd), 2);
	if (!is_stock()) {
		EXPECT_EQ(skel->bss->created, 2);
		EXPECT_EQ(lookup(bpf_map__fd(skel->maps.missing), self_fd), 0);
	}
	close(self_fd);
}

/* An update has looked for what there is when it allocates. */
static const struct {
	enum nested_op meanwhile;
	__u64 flags;
	long long err, left;
	bool kept;		/* the owner has another value */
} overtaken[] = {
	{ DELETE_SAME, BPF_EXIST, -ENOENT, -ENOENT },
	{ DELETE_SAME, BPF_EXIST, -ENOENT, -ENOENT, true },
	{ CREATE_SAME, BPF_NOEXIST, -EEXIST, NESTED_VALUE },
	{ CREATE_LOCKED, BPF_F_LOCK, 0, OUTER_VALUE },
	{ CREATE_LOCKED, BPF_F_LOCK | BPF_NOEXIST, -EEXIST, NESTED_VALUE },
};

TEST_F(on_function, an_update_may_be_overtaken)
{
	int self_fd = pidfd_open(getpid(), 0);

	if (is_stock())
		SKIP(return, "on stock, the program does not run there");
	for (int i = 0; i < ARRAY_SIZE(overtaken); i++) {
		bool locked = overtaken[i].flags & BPF_F_LOCK;
		long long value = OUTER_VALUE, left = overtaken[i].left;
		struct nested *skel;
		int map;

		ASSERT_EQ(LOAD("change_on_entry", "bpf_map_kzalloc"), 0)
			TH_LOG("%s", self->log);
		skel = self->skel;
		ASSERT_EQ(nested__attach(skel), 0);
		map = bpf_map__fd(locked ? skel->maps.with_lock :
					   skel->maps.same);
		if (overtaken[i].kept)
			ASSERT_EQ(update(bpf_map__fd(skel->maps.kept), self_fd,
					 0, 0), 0);
		if (overtaken[i].flags & BPF_EXIST)
			ASSERT_EQ(update(map, self_fd, NESTED_VALUE, 0), 0);
		if (locked)
			value = locked_value(0, value);
		if (locked && left > 0)
			left = locked_value(0, left);
		skel->bss->op = overtaken[i].meanwhile;
		skel->bss->pid = getpid();
		EXPECT_EQ(update(map, self_fd, value, overtaken[i].flags),
			  overtaken[i].err) TH_LOG("case %d", i);
		EXPECT_EQ(skel->bss->traps, 1);
		EXPECT_EQ(lookup(map, self_fd), left) TH_LOG("case %d", i);
	}
	close(self_fd);
}

TEST_F(on_function, destroy_may_create)
{
	struct storage_owner task = new_task();
	long long empty;
	int map;

	ASSERT_EQ(LOAD("create_on_entry", "bpf_local_storage_destroy"), 0)
		TH_LOG("%s", self->log);
	ASSERT_EQ(nested__attach(self->skel), 0);
	map = bpf_map__fd(self->skel->maps.same);
	empty = fdinfo_number(map, "memlock");
	ASSERT_EQ(update(map, task.fd, 1, 0), 0);
	end_owner(&task);
	EXPECT_TRUE(EVENTUALLY(is_stock() ? self->skel->bss->runs :
					    self->skel->bss->created));
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(map, "memlock") == empty));
}

TEST_HARNESS_MAIN
