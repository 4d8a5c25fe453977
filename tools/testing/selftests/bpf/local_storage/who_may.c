// SPDX-License-Identifier: GPL-2.0
/* What local storage lets whom do: by capability, namespace and token. */
#include "harness.h"
#include "inet_diag.h"
#include "fuzz.h"
#include <linux/capability.h>
#include <linux/mount.h>
#include <sys/syscall.h>

#define CAP(x)	(1ULL << (x))

static int set_effective(__u64 mask)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};

	syscall(SYS_capget, &head, data);
	data[0].effective = mask & data[0].permitted;
	data[1].effective = mask >> 32 & data[1].permitted;
	return syscall(SYS_capset, &head, data);
}

/* What there is before anything is given up. */
struct things {
	struct btf *types, *locked;
	int maps[ARRAY_SIZE(storage_types)];
	struct storage_owner owners[ARRAY_SIZE(storage_types)];
	struct sockaddr_in6 addr, peer;
	int sk, tc;
	__u32 id;
};

static int new_map(const struct btf *btf, __u32 type, int token)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts,
		.map_flags = BPF_F_NO_PREALLOC | (token ? BPF_F_TOKEN_FD : 0),
		.btf_fd = btf__fd(btf), .btf_key_type_id = 1,
		.btf_value_type_id = btf__type_cnt(btf) - 1,
		.token_fd = token);
	int fd = bpf_map_create(type, "mine", 4, 8, 0, &opts);

	return fd < 0 ? -errno : fd;
}

/* Create one and close it again. */
static int try_map(const struct btf *btf, __u32 type, int token)
{
	int fd = new_map(btf, type, token);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

static int load_insns(enum bpf_prog_type type, const struct bpf_insn *insns,
		      int n, int token)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		.prog_flags = token ? BPF_F_TOKEN_FD : 0, .token_fd = token);
	int fd = bpf_prog_load(type, "mine", "GPL", insns, n, &opts);

	return fd < 0 ? -errno : fd;
}

/* It returns 1 once the packet's socket has a value. */
static int load_tc(int map, int token)
{
	struct bpf_insn insns[] = {
		{ BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_2, BPF_REG_1,
		  offsetof(struct __sk_buff, sk) },
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0 },
		{ BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, .off = 7 },
		{ BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD,
		  .imm = map },
		{},
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, .imm = 1 },
		{ BPF_JMP | BPF_CALL, .imm = BPF_FUNC_sk_storage_get },
		{ BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, .off = 1 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, .imm = 1 },
		{ BPF_JMP | BPF_EXIT },
	};

	return load_insns(BPF_PROG_TYPE_SCHED_CLS, insns, ARRAY_SIZE(insns),
			  token);
}

static int load_raw_tp(int map, int token)
{
	struct bpf_insn insns[] = {
		{ BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_current_task_btf },
		{ BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_0 },
		{ BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD,
		  .imm = map },
		{},
		{ BPF_JMP | BPF_CALL, .imm = BPF_FUNC_task_storage_delete },
		{ BPF_JMP | BPF_EXIT },
	};

	return load_insns(BPF_PROG_TYPE_RAW_TRACEPOINT, insns,
			  ARRAY_SIZE(insns), token);
}

/* 0 or the error of what was to be a file descriptor. */
static int closed(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

static int by_id(__u32 id)
{
	int fd = bpf_map_get_fd_by_id(id);

	return fd < 0 ? -errno : closed(fd);
}

static int run_tc(int prog)
{
	char packet[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet,
		    .data_size_in = sizeof(packet));

	return bpf_prog_test_run_opts(prog, &opts) ?: opts.retval;
}

static int ask_all(void)
{
	struct request r;

	ask_storage(&r, AF_INET, IPPROTO_TCP, NULL, 0);
	return outcome(&r);
}

static int ask_for(int map)
{
	struct request r;

	ask_storage(&r, AF_INET, IPPROTO_TCP, &map, 1);
	return outcome(&r);
}

static int ask_plainly(void)
{
	struct request r;

	ask(&r, AF_INET, IPPROTO_TCP);
	return outcome(&r);
}

static int make_things(struct things *t)
{
	t->types = types_for(8);
	t->locked = types_with_lock(8);
	btf__load_into_kernel(t->types);
	btf__load_into_kernel(t->locked);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		t->maps[i] = new_map(t->types, storage_types[i], 0);
		t->owners[i] = new_owner(storage_types[i]);
		if (t->maps[i] < 0 || t->owners[i].fd < 0)
			return -1;
	}
	t->sk = listener(AF_INET, IPPROTO_TCP, &t->addr);
	t->id = id_of(t->maps[0]);
	t->tc = load_tc(t->maps[0], 0);
	return network_err ?: update(t->maps[0], t->sk, 7, BPF_ANY);
}

static void end_things(struct things *t)
{
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		close(t->maps[i]);
		end_owner(&t->owners[i]);
	}
	btf__free(t->types);
	btf__free(t->locked);
	close(t->sk);
	close(t->tc);
}

/* Whoever has the file descriptors may use them. */
static int use_values(const struct things *t)
{
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		int err = update(t->maps[i], t->owners[i].fd, i, BPF_ANY);

		if (err)
			return err;
		if (lookup(t->maps[i], t->owners[i].fd) != i)
			return -EBADMSG;
		err = delete(t->maps[i], t->owners[i].fd);
		if (err)
			return err;
	}
	return id_of(t->maps[0]) == t->id ? 0 : -EIO;
}

FIXTURE(rights) {
	struct things things;
};

FIXTURE_SETUP(rights)
{
	ASSERT_EQ(make_things(&self->things), 0);
}

FIXTURE_TEARDOWN(rights)
{
	end_things(&self->things);
}

FIXTURE_VARIANT(rights) {
	__u64 effective;
	int map, tc, raw_tp, id, storage;
};

#define RIGHTS(name, ...)	\
	FIXTURE_VARIANT_ADD(rights, name) { __VA_ARGS__ }
#define NO	(-EPERM)

RIGHTS(all, ~0ULL, 0, 0, 0, 0, 0);
RIGHTS(none, 0, NO, NO, NO, NO, NO);
RIGHTS(bpf, CAP(CAP_BPF), 0, NO, NO, NO, 0);
RIGHTS(net_admin, CAP(CAP_NET_ADMIN), NO, NO, NO, NO, NO);
RIGHTS(perfmon, CAP(CAP_PERFMON), NO, NO, NO, NO, NO);
RIGHTS(bpf_and_net_admin, CAP(CAP_BPF) | CAP(CAP_NET_ADMIN),
	0, 0, NO, NO, 0);
RIGHTS(bpf_and_perfmon, CAP(CAP_BPF) | CAP(CAP_PERFMON), 0, NO, 0, NO, 0);
RIGHTS(net_admin_and_perfmon, CAP(CAP_NET_ADMIN) | CAP(CAP_PERFMON),
	NO, NO, NO, NO, NO);
RIGHTS(sys_admin, CAP(CAP_SYS_ADMIN), 0, 0, 0, 0, 0);
RIGHTS(all_but_bpf, ~(CAP(CAP_BPF) | CAP(CAP_SYS_ADMIN)),
	NO, NO, NO, NO, NO);
RIGHTS(all_but_net_admin, ~(CAP(CAP_NET_ADMIN) | CAP(CAP_SYS_ADMIN)),
	0, NO, 0, NO, 0);
RIGHTS(all_but_perfmon, ~(CAP(CAP_PERFMON) | CAP(CAP_SYS_ADMIN)),
	0, 0, NO, NO, 0);

TEST_F(rights, of_a_capability)
{
	struct things *t = &self->things;

	ASSERT_EQ(set_effective(variant->effective), 0);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		EXPECT_EQ(try_map(t->types, storage_types[i], 0), variant->map);
		EXPECT_EQ(try_map(t->locked, storage_types[i], 0),
			  variant->map);
	}
	EXPECT_EQ(closed(load_tc(t->maps[0], 0)), variant->tc);
	EXPECT_EQ(closed(load_raw_tp(t->maps[1], 0)), variant->raw_tp);
	EXPECT_EQ(by_id(t->id), variant->id);
	EXPECT_EQ(use_values(t), 0);
	EXPECT_EQ(run_tc(t->tc), 1);
	EXPECT_EQ(ask_plainly(), 0);
	EXPECT_EQ(ask_all(), variant->storage);
	EXPECT_EQ(ask_for(t->maps[0]), variant->storage);
	/* Who may not ask learns nothing of what is asked for. */
	EXPECT_EQ(ask_for(-1), variant->storage ?: -EBADF);
	EXPECT_EQ(ask_for(t->maps[1]), variant->storage ?: -EINVAL);
	set_effective(~0ULL);
}

FIXTURE(namespace) {
	struct things things;
};

FIXTURE_SETUP(namespace)
{
	ASSERT_EQ(make_things(&self->things), 0);
}

FIXTURE_TEARDOWN(namespace)
{
	end_things(&self->things);
}

TEST_F(namespace, without_the_right_to_trace_a_program_does_the_same)
{
	struct things *t = &self->things;
	int prog;

	set_effective(CAP(CAP_BPF) | CAP(CAP_NET_ADMIN));
	prog = load_tc(t->maps[0], 0);
	set_effective(~0ULL);
	ASSERT_GE(prog, 0);
	EXPECT_EQ(run_tc(prog), 1);
	close(prog);
}

/* How often a socket is shown, and how many of its values. */
static struct found find_shown(int family, int fd, int *err)
{
	struct dump dump = dump_storage(family, IPPROTO_TCP, NULL, 0);
	struct found found = find(&dump, fd);

	*err = dump.err;
	free(dump.data);
	return found;
}

TEST_F(namespace, of_the_network_shows_its_own_sockets_only)
{
	struct things *t = &self->things;
	struct sockaddr_in6 addr;
	struct found found;
	struct request r;
	int mine, err;

	found = find_shown(AF_INET, t->sk, &err);
	ASSERT_EQ(found.n, 1);
	ASSERT_EQ(unshare(CLONE_NEWNET), 0);
	mine = listener(AF_INET, IPPROTO_TCP, &addr);
	ASSERT_EQ(update(t->maps[0], mine, 8, BPF_ANY), 0);
	found = find_shown(AF_INET, t->sk, &err);
	EXPECT_EQ(err, 0);
	EXPECT_EQ(found.times, 0);
	found = find_shown(AF_INET, mine, &err);
	EXPECT_EQ(found.times, 1);
	EXPECT_EQ(found.n, 1);
	ask_storage(&r, AF_INET, IPPROTO_TCP, &t->maps[0], 1);
	ask_one(&r, t->sk, &t->addr, &t->peer);
	EXPECT_EQ(outcome(&r), -ENOENT);
	close(mine);
}

TEST_F(namespace, of_the_network_does_not_matter_to_who_has_the_socket)
{
	struct things *t = &self->things;

	ASSERT_EQ(unshare(CLONE_NEWNET), 0);
	EXPECT_EQ(lookup(t->maps[0], t->sk), 7);
	EXPECT_EQ(update(t->maps[0], t->sk, 9, BPF_EXIST), 0);
	EXPECT_EQ(lookup(t->maps[0], t->sk), 9);
	EXPECT_EQ(delete(t->maps[0], t->sk), 0);
	EXPECT_EQ(use_values(t), 0);
}

TEST_F(namespace, of_users_gives_no_rights)
{
	struct things *t = &self->things;

	if (!has_user_namespaces())
		SKIP(return, "this kernel has no user namespaces");
	ASSERT_EQ(enter_user_namespace(), 0);
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++)
		EXPECT_EQ(try_map(t->types, storage_types[i], 0), -EPERM);
	EXPECT_EQ(closed(load_tc(t->maps[0], 0)), -EPERM);
	EXPECT_EQ(closed(load_raw_tp(t->maps[1], 0)), -EPERM);
	EXPECT_EQ(by_id(t->id), -EPERM);
	EXPECT_EQ(use_values(t), 0);
	EXPECT_EQ(run_tc(t->tc), 1);
	EXPECT_EQ(ask_plainly(), 0);
	EXPECT_EQ(ask_all(), -EPERM);
	EXPECT_EQ(ask_for(t->maps[0]), -EPERM);
	/* Nor does being its network's administrator. */
	ASSERT_EQ(unshare(CLONE_NEWNET), 0);
	EXPECT_EQ(ask_plainly(), 0);
	EXPECT_EQ(ask_all(), -EPERM);
}

/* Tokens: a file system for BPF that the outside made for the inside. */

FIXTURE(token) {
	struct things things;
	int to_inside[2], to_outside[2];
};

FIXTURE_SETUP(token)
{
	ASSERT_EQ(make_things(&self->things), 0);
	ASSERT_EQ(pipe(self->to_inside), 0);
	ASSERT_EQ(pipe(self->to_outside), 0);
}

FIXTURE_TEARDOWN(token)
{
	end_things(&self->things);
}

FIXTURE_VARIANT(token) {
	const char *cmds, *maps, *progs;
	int map, tc;
};

#define DELEGATING(name, ...)	\
	FIXTURE_VARIANT_ADD(token, name) { __VA_ARGS__ }

/* Bits of BPF_MAP_CREATE, BPF_PROG_LOAD and BPF_BTF_LOAD, and of types. */
DELEGATING(everything, "any", "any", "any", 0, 0);
DELEGATING(maps_only, "0x40001", "any", "0x0", 0, -EPERM);
DELEGATING(other_maps, "any", "0x2", "any", -EPERM, 0);
DELEGATING(other_commands, "0x2", "any", "any", -EPERM, -EPERM);

static int set_option(int fs, const char *key, const char *value)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
}

static int write_map(pid_t pid, const char *which)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
	return write_file(path, "0 0 1");
}

/* What only the outside may do. */
static int delegate(const FIXTURE_DATA(token) *self,
		    const FIXTURE_VARIANT(token) *variant, pid_t pid)
{
	int fs, inside, err, pidfd = pidfd_open(pid, 0);

	if (read(self->to_outside[0], &inside, sizeof(inside)) !=
	    sizeof(inside) || inside < 0)
		return -ENODEV;
	fs = syscall(SYS_pidfd_getfd, pidfd, inside, 0);
	err = write_map(pid, "uid_map") ?: write_map(pid, "gid_map") ?:
	      set_option(fs, "delegate_cmds", variant->cmds) ?:
	      set_option(fs, "delegate_maps", variant->maps) ?:
	      set_option(fs, "delegate_progs", variant->progs) ?:
	      set_option(fs, "delegate_attachs", "any") ?:
	      syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	close(fs);
	close(pidfd);
	if (write(self->to_inside[1], &err, sizeof(err)) != sizeof(err))
		return -EPIPE;
	return err;
}

static int new_token(const FIXTURE_DATA(token) *self)
{
	int fs, mount, root, err;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		fs = -1;
	else
		fs = syscall(SYS_fsopen, "bpf", 0);
	if (write(self->to_outside[1], &fs, sizeof(fs)) != sizeof(fs) ||
	    read(self->to_inside[0], &err, sizeof(err)) != sizeof(err) || err)
		return -ENODEV;
	mount = syscall(SYS_fsmount, fs, 0, 0);
	root = openat(mount, ".", O_RDONLY | O_DIRECTORY);
	return root < 0 ? -errno : bpf_token_create(root, NULL);
}

/* What failed, as a bit each. */
static int use_token(const FIXTURE_DATA(token) *self,
		     const FIXTURE_VARIANT(token) *variant)
{
	const struct things *t = &self->things;
	int token = new_token(self), wrong = 0;

	if (token < 0)
		return 1;
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		if (try_map(t->types, storage_types[i], token) != variant->map)
			wrong |= 2;
		if (try_map(t->locked, storage_types[i], token) !=
		    variant->map)
			wrong |= 4;
		if (try_map(t->types, storage_types[i], 0) != -EPERM)
			wrong |= 8;
	}
	if (closed(load_tc(t->maps[0], token)) != variant->tc)
		wrong |= 16;
	if (closed(load_tc(t->maps[0], 0)) != -EPERM)
		wrong |= 32;
	if (ask_all() != -EPERM || ask_for(t->maps[0]) != -EPERM)
		wrong |= 64;
	if (use_values(t))
		wrong |= 128;
	return wrong;
}

TEST_F(token, gives_the_rights_that_were_delegated)
{
	int status;
	pid_t pid;

	if (!has_user_namespaces())
		SKIP(return, "this kernel has no user namespaces");
	pid = fork();
	if (!pid)
		_exit(use_token(self, variant));
	EXPECT_EQ(delegate(self, variant, pid), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_HARNESS_MAIN
