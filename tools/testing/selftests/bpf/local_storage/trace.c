// SPDX-License-Identifier: GPL-2.0
/* Tracing programs: where the helpers work, and where they must not. */
#include "harness.h"
#include "net.h"
#include "sockopt.skel.h"
#include "trace.skel.h"
#include <sched.h>
#include <sys/syscall.h>

#define NOT_IN_PROBE	"helper call is not allowed in probe"
#define NOT_TRACED	"cannot be traced"
#define NOT_OF_TYPE							\
	"program of this type cannot use helper bpf_sk_storage_delete#108"

FIXTURE(trace) {
	struct trace *skel;
	struct seen *seen;
	int map, sk;
	char log[1 << 16];
};

FIXTURE_SETUP(trace)
{
	libbpf_set_print(NULL);
	self->sk = socket_at_its_fd();
	ASSERT_EQ(self->sk, SK_FD);
}

static void stop(struct trace **skel)
{
	trace__destroy(*skel);
	*skel = NULL;
}

FIXTURE_TEARDOWN(trace)
{
	stop(&self->skel);
	close(self->sk);
}

/*
 * Load one program, for a target if it has none, and what the verifier says
 * to log.  Returns 0 or the negative errno.
 */
static int load(struct trace **skel, const char *name, const char *target,
		int target_fd, char *log, size_t size)
{
	struct bpf_program *prog;
	int err = 0;

	log[0] = 0;
	*skel = trace__open();
	if (!*skel)
		return -ENOMEM;
	(*skel)->rodata->only_count = find_only_count();
	prog = bpf_object__find_program_by_name((*skel)->obj, name);
	if (!prog)
		return -ENXIO;
	bpf_program__set_autoload(prog, true);
	bpf_program__set_log_buf(prog, log, size);
	if (target)
		err = bpf_program__set_attach_target(prog, target_fd, target);
	err = err ?: trace__load(*skel);
	if (err)
		stop(skel);
	return err;
}

static int attach(struct trace *skel)
{
	int err = trace__attach(skel);

	skel->bss->pid = err ? 0 : getpid();
	return err;
}

#define LOAD(name, target)						\
	load(&self->skel, name, target, 0, self->log, sizeof(self->log))

#define START(name, target) do {					\
	ASSERT_EQ(LOAD(name, target), 0) TH_LOG("%s", self->log);	\
	ASSERT_EQ(attach(self->skel), 0);				\
	self->map = bpf_map__fd(self->skel->maps.values);		\
	self->seen = &self->skel->bss->seen;				\
} while (0)

/* Something to happen to the process in every context. */

/* A datagram to oneself is received in a softirq. */
static void send_to_self(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t len = sizeof(addr);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(fd, (void *)&addr, len);
	getsockname(fd, (void *)&addr, &len);
	sendto(fd, "x", 1, 0, (void *)&addr, len);
	close(fd);
}

static void poke(int sk)
{
	shutdown(sk, SHUT_RDWR);
	syscall(SYS_getpgid, 0);
	send_to_self();
}

/* Let the tick come; it interrupts whoever computes. */
static void compute_until(unsigned long long *number)
{
	for (int i = 0; i < 1 << 28; i++)
		if (__atomic_load_n(number, __ATOMIC_RELAXED))
			break;
}

static void *compute_on_1(void *stop)
{
	on_cpu(1);
	while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

/* Backtraces are asked for by an NMI; ours is taken from the second CPU. */
static void ask_for_backtraces(unsigned long long *number)
{
	pthread_t thread;
	int stop = 0;

	on_cpu(0);
	pthread_create(&thread, NULL, compute_on_1, &stop);
	for (int i = 0; i < 20; i++) {
		if (__atomic_load_n(number, __ATOMIC_RELAXED))
			break;
		write_file("/proc/sysrq-trigger", "l");
		usleep(100000);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

FIXTURE(works) {
	struct trace *skel;
	struct seen *seen;
	int map, sk;
	char log[1 << 16];
};

FIXTURE_VARIANT(works) {
	const char *program;
	bool softirq;
};

#define WORKS(name, softirq_)						\
	FIXTURE_VARIANT_ADD(works, name) {				\
		.program = #name, .softirq = softirq_,			\
	}

WORKS(fentry_arg, false);
WORKS(fexit_arg, false);
WORKS(fentry_task, false);
WORKS(tp_btf_task, false);
WORKS(fentry_sleepable, false);
WORKS(tp_btf_softirq, true);

FIXTURE_SETUP(works)
{
	libbpf_set_print(NULL);
	if (strncmp(variant->program, "tp_", 3))
		NEEDS_TRAMPOLINES();
	self->sk = socket_at_its_fd();
	ASSERT_EQ(self->sk, SK_FD);
	START(variant->program, NULL);
}

FIXTURE_TEARDOWN(works)
{
	stop(&self->skel);
	close(self->sk);
}

TEST_F(works, it_creates_finds_and_deletes)
{
	self->skel->bss->what = TRY_GET;
	poke(self->sk);
	EXPECT_GE(self->seen->sockets, 1);
	EXPECT_EQ(self->seen->got, 0);
	self->skel->bss->what = TRY_CREATE;
	poke(self->sk);
	EXPECT_GE(self->seen->created, 1);
	self->skel->bss->what = TRY_GET;
	poke(self->sk);
	EXPECT_GE(self->seen->got, 1);
	EXPECT_EQ(lookup(self->map, self->sk), INITIAL);
	self->skel->bss->what = TRY_DELETE;
	poke(self->sk);
	self->skel->bss->pid = 0;
	EXPECT_EQ(self->seen->deleted, 1);
	EXPECT_EQ(self->seen->denied + self->seen->busy + self->seen->invalid,
		  0);
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
	EXPECT_EQ(optmem(self->sk), 0);
	EXPECT_GE(variant->softirq && !is_rt() ? self->seen->in_softirq :
						 self->seen->in_task, 1);
}

TEST_F(works, null_is_no_socket)
{
	poke(self->sk);
	self->skel->bss->pid = 0;
	EXPECT_GE(self->seen->runs, 1);
	EXPECT_EQ(self->seen->null_got, 0);
	EXPECT_EQ(self->seen->null_invalid, self->seen->runs);
}

FIXTURE(denied) {
	struct trace *skel;
	struct seen *seen;
	int map, sk;
	char log[1 << 16];
};

FIXTURE_VARIANT(denied) {
	const char *program;
	bool nmi, needs_apic;
};

#define DENIED(name, nmi_, needs_apic_)					\
	FIXTURE_VARIANT_ADD(denied, name) {				\
		.program = #name, .nmi = nmi_,				\
		.needs_apic = needs_apic_,				\
	}

DENIED(fentry_hardirq, false, false);
DENIED(fexit_hardirq, false, false);
#ifdef __x86_64__
DENIED(tp_btf_hardirq, false, true);
DENIED(tp_btf_nmi, true, true);
#endif
#ifndef __s390__
DENIED(fentry_nmi, true, true);
#endif

FIXTURE_SETUP(denied)
{
	libbpf_set_print(NULL);
	if (strncmp(variant->program, "tp_", 3))
		NEEDS_TRAMPOLINES();
	self->sk = socket_at_its_fd();
	ASSERT_EQ(self->sk, SK_FD);
	START(variant->program, NULL);
	ASSERT_EQ(update(self->map, self->sk, 5, 0), 0);
}

FIXTURE_TEARDOWN(denied)
{
	stop(&self->skel);
	close(self->sk);
}

TEST_F(denied, whatever_is_tried_fails)
{
	struct seen seen;

	/* An interrupt may already have come, with nothing to try. */
	self->skel->bss->pid = 0;
	usleep(10000);
	memset(self->seen, 0, sizeof(seen));
	self->skel->bss->what = TRY_GET | TRY_CREATE | TRY_DELETE;
	self->skel->bss->pid = getpid();
	if (variant->nmi)
		ask_for_backtraces(&self->seen->sockets);
	else
		compute_until(&self->seen->sockets);
	self->skel->bss->pid = 0;
	usleep(10000);
	seen = *self->seen;
	if (variant->needs_apic && !seen.runs)
		SKIP(return, "it takes a local APIC, and two CPUs for an NMI");
	EXPECT_EQ(variant->nmi ? seen.in_nmi : seen.in_hardirq, seen.runs);
	EXPECT_GE(seen.sockets, 1);
	EXPECT_EQ(seen.got, 0);
	EXPECT_EQ(seen.created, 0);
	EXPECT_EQ(seen.denied, seen.sockets);
	EXPECT_EQ(seen.null_denied, seen.runs);
	EXPECT_EQ(seen.null_got, 0);
	EXPECT_EQ(lookup(self->map, self->sk), 5);
}

/* A socket on its way out keeps what it has and gets nothing more. */
TEST_F(trace, a_dying_socket_gets_no_value)
{
	int fd = tcp_socket(), other;

	NEEDS_TRAMPOLINES();
	START("fentry_dying", NULL);
	self->skel->bss->what = TRY_CREATE;
	close(fd);
	ASSERT_TRUE(EVENTUALLY(self->seen->sockets == 1));
	EXPECT_EQ(self->seen->created, 0);

	other = tcp_socket();
	ASSERT_EQ(update(self->map, other, 5, 0), 0);
	self->skel->bss->what = TRY_GET | TRY_DELETE;
	close(other);
	ASSERT_TRUE(EVENTUALLY(self->seen->sockets == 2));
	EXPECT_EQ(self->seen->got, 1);
	EXPECT_EQ(self->seen->missing, 1);
	EXPECT_EQ(self->seen->deleted, 0);
}

/* A connection from its request to the TIME_WAIT of the client. */
static void connect_and_close(int listener)
{
	int client = connect_new(listener, AF_INET, 0);
	int sk = accept(listener, NULL, NULL);

	close(client);
	/* Its FIN is acknowledged by then, and it has become what meets ours. */
	usleep(100000);
	close(sk);
}

FIXTURE(lesser) {
	struct trace *skel;
	char log[1 << 16];
};

FIXTURE_VARIANT(lesser) {
	const char *program;
};

FIXTURE_VARIANT_ADD(lesser, request) {
	.program = "fentry_request",
};

FIXTURE_VARIANT_ADD(lesser, timewait) {
	.program = "fentry_timewait",
};

FIXTURE_SETUP(lesser)
{
	NEEDS_TRAMPOLINES();
	libbpf_set_print(NULL);
	ASSERT_EQ(LOAD(variant->program, NULL), 0) TH_LOG("%s", self->log);
	ASSERT_EQ(attach(self->skel), 0);
}

FIXTURE_TEARDOWN(lesser)
{
	stop(&self->skel);
}

TEST_F(lesser, it_has_no_values)
{
	struct seen *seen = &self->skel->bss->seen;
	int listener = listen_on(AF_INET, 0);

	self->skel->bss->what = TRY_CREATE | TRY_GET | TRY_DELETE;
	/* Some packets are received while another task runs. */
	EXPECT_TRUE(EVENTUALLY(({
		connect_and_close(listener);
		seen->sockets >= ENOUGH;
	})));
	EXPECT_EQ(seen->got, 0);
	EXPECT_EQ(seen->created, 0);
	EXPECT_EQ(seen->deleted, 0);
	EXPECT_EQ(seen->invalid, seen->sockets);
	close(listener);
}

/* Programs that must not load, and those that may. */

static bool is_named(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

/* The name of the next kernel function after *id with the prefix, or NULL. */
static const char *next_function(const struct btf *btf, int *id,
				 const char *prefix)
{
	while (++*id < btf__type_cnt(btf)) {
		const struct btf_type *type = btf__type_by_id(btf, *id);
		const char *name = btf__name_by_offset(btf, type->name_off);

		if (btf_is_func(type) && is_named(name, prefix))
			return name;
	}
	return NULL;
}

TEST_F(trace, the_helpers_are_refused_on_functions_of_the_core)
{
	struct btf *btf = btf__load_vmlinux_btf();
	static const char * const progs[] = { "fentry_any", "fexit_any" };
	const char *name;
	int id = 0, functions = 0;

	ASSERT_NE(btf, NULL);
	while ((name = next_function(btf, &id, "bpf_sk_storage"))) {
		functions++;
		for (int i = 0; i < ARRAY_SIZE(progs); i++) {
			EXPECT_EQ(LOAD(progs[i], name), -EINVAL)
				TH_LOG("%s of %s", progs[i], name);
			stop(&self->skel);
			EXPECT_TRUE(strstr(self->log, NOT_IN_PROBE) ||
				    strstr(self->log, NOT_TRACED))
				TH_LOG("%s", self->log);
		}
	}
	EXPECT_GE(functions, 6);
	btf__free(btf);
}

TEST_F(trace, others_may_watch_a_socket_being_freed)
{
	int fd = tcp_socket();

	NEEDS_TRAMPOLINES();
	START("bare_fentry", "bpf_sk_storage_free");
	close(fd);
	EXPECT_TRUE(EVENTUALLY(self->seen->runs));
}

TEST_F(trace, fmod_ret_has_no_helpers)
{
	EXPECT_EQ(LOAD("fmod_ret_any", "security_socket_listen"), -EINVAL);
	EXPECT_NE(strstr(self->log, NOT_IN_PROBE), NULL)
		TH_LOG("%s", self->log);
	EXPECT_EQ(LOAD("bare_fmod_ret", "security_socket_listen"), 0);
}

TEST_F(trace, a_program_on_a_program_has_no_helpers)
{
	struct sockopt *target = sockopt__open_and_load();
	static const char * const progs[] = { "fentry_any", "fexit_any" };
	int fd;

	NEEDS_TRAMPOLINES();
	ASSERT_NE(target, NULL);
	fd = bpf_program__fd(target->progs.on_getsockopt);
	for (int i = 0; i < ARRAY_SIZE(progs); i++) {
		EXPECT_EQ(load(&self->skel, progs[i], "on_getsockopt", fd,
			       self->log, sizeof(self->log)), -EINVAL);
		EXPECT_NE(strstr(self->log, NOT_IN_PROBE), NULL)
			TH_LOG("%s", self->log);
	}
	EXPECT_EQ(load(&self->skel, "bare_fentry", "on_getsockopt", fd,
		       self->log, sizeof(self->log)), 0);
	stop(&self->skel);
	sockopt__destroy(target);
}

TEST_F(trace, other_types_do_not_have_the_helpers)
{
	static const char * const progs[] = {
		"no_raw_tp", "no_raw_tp_writable", "no_tp", "no_perf_event",
	};

	for (int i = 0; i < ARRAY_SIZE(progs); i++) {
		EXPECT_EQ(LOAD(progs[i], NULL), -EINVAL)
			TH_LOG("%s", progs[i]);
		EXPECT_NE(strstr(self->log, NOT_OF_TYPE), NULL)
			TH_LOG("%s", self->log);
	}
}

/*
 * An empty program for a kernel function: its fd, or the negative errno and
 * what the verifier says in log.  Without a skeleton, as there are many.
 */
static int load_empty(const struct btf *btf, const char *name,
		      enum bpf_attach_type type, char *log, size_t size)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		.expected_attach_type = type,
		.attach_btf_id = btf__find_by_name_kind(btf, name,
							BTF_KIND_FUNC),
		.log_level = 1, .log_buf = log, .log_size = size);

	log[0] = 0;
	return bpf_prog_load(BPF_PROG_TYPE_TRACING, NULL, "GPL", insns,
			     ARRAY_SIZE(insns), &opts);
}

/* 0 if an empty program could be attached to the function. */
static int try(const struct btf *btf, const char *name,
	       enum bpf_attach_type type, char *log, size_t size)
{
	int prog, link, err = 0;

	prog = load_empty(btf, name, type, log, size);
	if (prog < 0)
		return prog;
	link = bpf_link_create(prog, 0, type, NULL);
	if (link < 0)
		err = -errno;
	close(link);
	close(prog);
	return err;
}

#define TRY(name, type)							\
	try(btf, name, type, self->log, sizeof(self->log))
/* Whether a program for the function is refused when it is loaded. */
#define REFUSED(name, type)						\
	(load_empty(btf, name, type, self->log, sizeof(self->log)) ==	\
	 -EINVAL && strstr(self->log, NOT_TRACED))

/*
 * What runs under the locks of local storage, or may be called there, is not
 * to call programs; they are refused when loaded, and everything else is open.
 */
TEST_F(trace, the_core_can_be_traced_where_no_lock_is_held)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int id = 0, open = 0, closed = 0;
	const char *name;

	NEEDS_TRAMPOLINES();
	ASSERT_NE(btf, NULL);
	while ((name = next_function(btf, &id, "bpf_local_storage"))) {
		EXPECT_EQ(TRY(name, BPF_MODIFY_RETURN), -EINVAL);
		if (!TRY(name, BPF_TRACE_FENTRY)) {
			EXPECT_EQ(TRY(name, BPF_TRACE_FEXIT), 0)
				TH_LOG("%s", name);
			open++;
			continue;
		}
		closed++;
		EXPECT_TRUE(REFUSED(name, BPF_TRACE_FENTRY))
			TH_LOG("%s: %s", name, self->log);
		EXPECT_TRUE(REFUSED(name, BPF_TRACE_FEXIT))
			TH_LOG("%s: %s", name, self->log);
		/* With a helper, too. */
		EXPECT_EQ(LOAD("fentry_any", name), -EINVAL)
			TH_LOG("%s", name);
		EXPECT_NE(strstr(self->log, NOT_TRACED), NULL)
			TH_LOG("%s: %s", name, self->log);
	}
	EXPECT_GE(open, 6);
	EXPECT_EQ(!closed, is_stock());
	btf__free(btf);
}

TEST_F(trace, what_the_core_calls_cannot_be_traced)
{
	/* None that the compiler might inline, and leave no function of. */
	static const char * const inner[] = {
		"bpf_local_storage_clone",
		"bpf_local_storage_fields_free_rcu",
		"bpf_local_storage_kfree_batch_rcu",
		"bpf_local_storage_ma_free_batch_rcu",
		"bpf_local_storage_start_postponed", "bpf_sk_storage_hold",
		"bpf_sk_storage_uncharge", "__bpf_local_storage_create",
	};
	struct btf *btf;

	if (is_stock())
		SKIP(return, "these are functions of ours");
	btf = btf__load_vmlinux_btf();
	ASSERT_NE(btf, NULL);
	for (int i = 0; i < ARRAY_SIZE(inner); i++) {
		EXPECT_TRUE(REFUSED(inner[i], BPF_TRACE_FENTRY))
			TH_LOG("%s: %s", inner[i], self->log);
	}
	btf__free(btf);
}

/* Programs that a change of the socket calls, and that change it as well. */

FIXTURE(reentry) {
	struct trace *skel;
	struct seen *seen;
	int map, sk;
	char log[1 << 16];
};

FIXTURE_VARIANT(reentry) {
	const char *program, *target;
	bool inside;		/* called with a lock held */
	bool inside_stock;	/* by stock, which then waits for itself */
};

FIXTURE_VARIANT_ADD(reentry, kmalloc) {
	.program = "tp_btf_kmalloc",
};

FIXTURE_VARIANT_ADD(reentry, kfree) {
	.program = "tp_btf_kfree",
};

FIXTURE_VARIANT_ADD(reentry, map_kzalloc) {
	.program = "fentry_any", .target = "bpf_map_kzalloc",
};

FIXTURE_VARIANT_ADD(reentry, call_rcu_tasks_trace) {
	.program = "fentry_any", .target = "call_rcu_tasks_trace",
	.inside_stock = true,
};

FIXTURE_VARIANT_ADD(reentry, copy_map_value_locked) {
	.program = "fentry_any", .target = "copy_map_value_locked",
};

FIXTURE_VARIANT_ADD(reentry, contention) {
	.program = "tp_btf_contention",
};

FIXTURE_VARIANT_ADD(reentry, lock_acquire) {
	.program = "tp_btf_lock_acquire", .inside = true,
};

FIXTURE_VARIANT_ADD(reentry, lock_release) {
	.program = "tp_btf_lock_release", .inside = true,
};

FIXTURE_SETUP(reentry)
{
	int err;

	if (variant->inside_stock && is_stock())
		SKIP(return, "stock calls it with its lock held, and hangs");
	libbpf_set_print(NULL);
	self->sk = socket_at_its_fd();
	ASSERT_EQ(self->sk, SK_FD);
	err = LOAD(variant->program, variant->target);
	if (err == -ESRCH)
		SKIP(return, "nothing of that name in this kernel");
	ASSERT_EQ(err, 0) TH_LOG("%s", self->log);
	if (variant->target)
		NEEDS_TRAMPOLINES();
	/* Calling one takes a lock that lockdep follows, for ever. */
	if (variant->inside && is_late())
		SKIP(return, "even an empty program there stops this kernel");
	ASSERT_EQ(attach(self->skel), 0);
	self->map = bpf_map__fd(self->skel->maps.values);
	self->seen = &self->skel->bss->seen;
}

FIXTURE_TEARDOWN(reentry)
{
	stop(&self->skel);
	close(self->sk);
}

struct changes {
	int sk, map, locked_map;
};

/* Of the socket that programs change, and of some others in its bucket. */
static void *change_values(void *arg)
{
	struct changes *changes = arg;
	__u32 locked[2] = {};
	int others[8];

	for (int i = 0; i < ARRAY_SIZE(others); i++)
		others[i] = tcp_socket();
	for (int i = 0; i < 200; i++) {
		update(changes->map, changes->sk, i, 0);
		bpf_map_update_elem(changes->locked_map, &changes->sk, locked,
				    BPF_F_LOCK);
		for (int k = 0; k < ARRAY_SIZE(others); k++)
			update(changes->map, others[k], i, 0);
		bpf_map_delete_elem(changes->map, &changes->sk);
		if (i % 4 == 0)
			bpf_map_delete_elem(changes->locked_map, &changes->sk);
		for (int k = 0; k < ARRAY_SIZE(others); k += 2)
			bpf_map_delete_elem(changes->map, &others[k]);
	}
	for (int i = 0; i < ARRAY_SIZE(others); i++)
		close(others[i]);
	return NULL;
}

TEST_F(reentry, it_ends_cleanly)
{
	struct changes changes = {
		.sk = self->sk, .map = self->map,
		.locked_map = create_with_lock(BPF_MAP_TYPE_SK_STORAGE),
	};
	pthread_t threads[3];
	struct seen seen;

	ASSERT_GE(changes.locked_map, 0);
	self->skel->bss->what = TRY_GET | TRY_CREATE | TRY_DELETE;
	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, change_values, &changes);
	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	self->skel->bss->pid = 0;
	seen = *self->seen;
	if (!seen.sockets)
		SKIP(return, "nothing called the program");

	/* Nothing is left locked, lost or charged. */
	EXPECT_EQ(update(self->map, self->sk, 77, 0), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 77);
	EXPECT_EQ(bpf_map_delete_elem(self->map, &self->sk), 0);
	bpf_map_delete_elem(changes.locked_map, &self->sk);
	EXPECT_EQ(optmem(self->sk), 0);
	close(changes.locked_map);
	EXPECT_EQ(seen.invalid, 0);
	EXPECT_EQ(seen.null_got, 0);
	EXPECT_GE(seen.busy, variant->inside);
}

TEST_HARNESS_MAIN
