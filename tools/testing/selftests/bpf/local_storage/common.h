/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of local storage share. */
#ifndef _COMMON_H
#define _COMMON_H

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "progs/shared.h"

/* A guard against hangs and nothing else: emulated machines are slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 900

#ifndef ENOTSUPP
#define ENOTSUPP 524
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

#define CGROUP		"/sys/fs/cgroup"
#define OPTMEM_MAX	"/proc/sys/net/core/optmem_max"
#define NO_MAP		(-1)
/* A race that was met less often is not taken to have been run. */
#define ENOUGH		10

static const __u32 storage_types[] = {
	BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE,
	BPF_MAP_TYPE_CGRP_STORAGE, BPF_MAP_TYPE_INODE_STORAGE,
};

/* What a map is created from; the fields that most tests leave alone. */
struct spec {
	__u32 type, key_size, value_size, max_entries, flags, btf_fd;
	__u32 key_type, value_type;
};

/* Types 1 and 2 of every BTF object here: int, and an array of char. */
static struct btf *types_for(__u32 value_size)
{
	struct btf *btf = btf__new_empty();
	int chars;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	chars = btf__add_int(btf, "char", 1, BTF_INT_CHAR);
	btf__add_array(btf, 1, chars, value_size);
	return btf;
}

/* The same where the value is a struct of a lock and a number. */
static struct btf *types_with_lock(void)
{
	struct btf *btf = btf__new_empty();
	int u32, lock;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	u32 = btf__add_int(btf, "unsigned int", 4, 0);
	lock = btf__add_struct(btf, "bpf_spin_lock", 4);
	btf__add_field(btf, "val", u32, 0, 0);
	btf__add_struct(btf, "value", 8);
	btf__add_field(btf, "lock", lock, 0, 0);
	btf__add_field(btf, "number", u32, 32, 0);
	return btf;
}

static struct spec spec_for(struct btf *btf, __u32 value_size)
{
	btf__load_into_kernel(btf);
	return (struct spec){
		.type = BPF_MAP_TYPE_SK_STORAGE, .key_size = 4,
		.value_size = value_size, .flags = BPF_F_NO_PREALLOC,
		.btf_fd = btf__fd(btf), .key_type = 1,
		.value_type = btf__type_cnt(btf) - 1,
	};
}

/* A map's fd, or the negative errno. */
static int create(const struct spec *spec)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts,
		.map_flags = spec->flags, .btf_fd = spec->btf_fd,
		.btf_key_type_id = spec->key_type,
		.btf_value_type_id = spec->value_type);
	int fd = bpf_map_create(spec->type, "storage", spec->key_size,
				spec->value_size, spec->max_entries, &opts);

	return fd < 0 ? -errno : fd;
}

static int create_kind(__u32 type, __u32 value_size, __u32 flags)
{
	struct btf *btf = types_for(value_size);
	struct spec spec = spec_for(btf, value_size);
	int fd;

	spec.type = type;
	spec.flags |= flags;
	fd = create(&spec);
	btf__free(btf);
	return fd;
}

static int create_with(__u32 value_size, __u32 flags)
{
	return create_kind(BPF_MAP_TYPE_SK_STORAGE, value_size, flags);
}

/* Elements with values of 8 bytes; the errors are negative. */

static int update(int map, int fd, __u64 value, __u64 flags)
{
	return bpf_map_update_elem(map, &fd, &value, flags);
}

static long long lookup(int map, int fd)
{
	long long value = 0;
	int err = bpf_map_lookup_elem(map, &fd, &value);

	return err ?: value;
}

static int delete(int map, int fd)
{
	return bpf_map_delete_elem(map, &fd);
}

static int tcp_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

/* Bytes of optmem that a socket is charged with. */
static __u32 optmem(int fd)
{
	__u32 info[SK_MEMINFO_VARS] = {};
	socklen_t len = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len))
		return ~0;
	return info[SK_MEMINFO_OPTMEM];
}

/* Let a program do op to the socket's value in a map; see progs/shared.h. */
static struct answer operate(int fd, unsigned int map, int op, __u16 value)
{
	struct answer answer = { .err = -EPROTO };
	socklen_t len = sizeof(answer);

	if (getsockopt(fd, LEVEL(value), OP(map, op), &answer, &len))
		answer.err = -errno;
	return answer;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* The number after name in a file that has a name per line, or -1. */
static long long number_in(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	long long number = -1;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), "%*[: ]%lli", &number);
	if (file)
		fclose(file);
	return number;
}

static long long fdinfo_number(int fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return number_in(path, name);
}

/* Whether the kernel is one whose local storage is not ours. */
static bool is_stock(void)
{
	const char *flavour = getenv("FLAVOUR");

	return flavour && !strcmp(flavour, "stock");
}

/*
 * How often a race repeats no number can say beforehand: at least so often,
 * and until it was seen, unless it is never seen.
 */
static bool goes_on(int turn, int least, int seen)
{
	return turn < least || (seen < ENOUGH && turn < least * 1000);
}

/* Where softirqs are threads, and programs get memory from lists only. */
static bool is_rt(void)
{
	struct utsname name;

	return !uname(&name) && strstr(name.version, "PREEMPT_RT");
}

static int root_cgroup(void)
{
	return open(CGROUP, O_RDONLY | O_DIRECTORY);
}

/* Run a program that needs no input; its return value, or an errno. */
static int run_program(struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	return bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) ?:
	       opts.retval;
}

/* For progs/preempt.h. */
static __u64 find_only_pcpu_hot(void)
{
	unsigned long long address, found = 0;
	char name[128];
	struct btf *btf;
	FILE *file;
	int id;

	if (sysconf(_SC_NPROCESSORS_CONF) > 1)
		return 0;
	btf = btf__load_vmlinux_btf();
	id = btf__find_by_name_kind(btf, "pcpu_hot", BTF_KIND_VAR);
	btf__free(btf);
	file = id > 0 ? NULL : fopen("/proc/kallsyms", "r");
	while (file && fscanf(file, "%llx %*c %127s%*[^\n]", &address,
			      name) == 2)
		if (!strcmp(name, "pcpu_hot"))
			found = address;
	if (file)
		fclose(file);
	return found;
}

/* The text that a command prints, and its exit status. */
static int output_of(const char *command, char *text, size_t size)
{
	FILE *pipe = popen(command, "r");
	size_t got = fread(text, 1, size - 1, pipe);

	text[got] = 0;
	return pclose(pipe);
}

/* What values live with, and what names it to the kernel. */
struct storage_owner {
	int fd;
	pid_t pid;		/* of a task */
	char path[64];		/* of a cgroup */
};

#define NO_OWNER ((struct storage_owner){ .fd = -1 })

/* A task that does nothing until it is killed. */
static struct storage_owner new_task(void)
{
	struct storage_owner owner = { .pid = fork() };

	if (!owner.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* It is not to keep maps. */
		close_range(3, ~0U, 0);
		for (;;)
			pause();
	}
	owner.fd = pidfd_open(owner.pid, 0);
	return owner;
}

static struct storage_owner new_cgroup_in(const char *parent)
{
	static int number;
	struct storage_owner owner = {};

	snprintf(owner.path, sizeof(owner.path), "%s/test-%d-%d", parent,
		 getpid(), number++);
	owner.fd = -1;
	if (!mkdir(owner.path, 0700))
		owner.fd = open(owner.path, O_RDONLY | O_DIRECTORY);
	return owner;
}

static struct storage_owner new_cgroup(void)
{
	return new_cgroup_in(CGROUP);
}

/* Move this process to a cgroup: "" is the root. */
static int enter_cgroup(const char *path)
{
	char procs[80], pid[16];

	snprintf(procs, sizeof(procs), "%s/cgroup.procs",
		 path[0] ? path : CGROUP);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_file(procs, pid);
}

static struct storage_owner new_owner(__u32 map_type)
{
	switch (map_type) {
	case BPF_MAP_TYPE_TASK_STORAGE:
		return new_task();
	case BPF_MAP_TYPE_CGRP_STORAGE:
		return new_cgroup();
	case BPF_MAP_TYPE_INODE_STORAGE:
		return (struct storage_owner){
			.fd = open("/tmp", O_TMPFILE | O_RDWR, 0600),
		};
	default:
		return (struct storage_owner){ .fd = tcp_socket() };
	}
}

static __u64 inode_number(int fd)
{
	struct stat stat = {};

	fstat(fd, &stat);
	return stat.st_ino;
}

static void end_owner(struct storage_owner *owner)
{
	close(owner->fd);
	if (owner->pid > 0) {
		kill(owner->pid, SIGKILL);
		waitpid(owner->pid, NULL, 0);
	}
	if (owner->path[0])
		rmdir(owner->path);
}

/* Let the tests of a fixture run for each kind of local storage. */
#define EVERY_KIND_BUT_SOCKETS(fixture)					\
	FIXTURE_VARIANT(fixture) { __u32 type; };			\
	FIXTURE_VARIANT_ADD(fixture, task) {				\
		.type = BPF_MAP_TYPE_TASK_STORAGE,			\
	};								\
	FIXTURE_VARIANT_ADD(fixture, cgroup) {				\
		.type = BPF_MAP_TYPE_CGRP_STORAGE,			\
	};								\
	FIXTURE_VARIANT_ADD(fixture, inode) {				\
		.type = BPF_MAP_TYPE_INODE_STORAGE,			\
	}
#define EVERY_KIND(fixture)						\
	EVERY_KIND_BUT_SOCKETS(fixture);				\
	FIXTURE_VARIANT_ADD(fixture, socket) {				\
		.type = BPF_MAP_TYPE_SK_STORAGE,			\
	}

#define ROUNDS		60

/* How often a race repeats: less where everything is slower. */
static int rounds(void)
{
	return getenv("RACE_ROUNDS") ? atoi(getenv("RACE_ROUNDS")) : ROUNDS;
}

/* Poll until what() holds: something asynchronous is due; false if never. */
#define EVENTUALLY(what) ({						\
	int __tries = 0;						\
	while (!(what) && __tries++ < 3000)				\
		usleep(10000);						\
	__tries <= 3000;						\
})

/* An allocator that is refilled in the background may run dry. */
#define PATIENTLY(what) ({						\
	int __err = 0;							\
	EVENTUALLY((__err = (what)) != -ENOMEM);			\
	__err;								\
})

#endif /* _COMMON_H */
