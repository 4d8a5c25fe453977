// SPDX-License-Identifier: GPL-2.0
#include "net.h"
#include <libgen.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>

struct btf *types_for(__u32 value_size)
{
	struct btf *btf = btf__new_empty();
	int chars;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	chars = btf__add_int(btf, "char", 1, BTF_INT_CHAR);
	btf__add_array(btf, 1, chars, value_size);
	return btf;
}

struct btf *types_with_lock(__u32 value_size)
{
	struct btf *btf = btf__new_empty();
	int u32, lock;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	u32 = btf__add_int(btf, "unsigned int", 4, 0);
	lock = btf__add_struct(btf, "bpf_spin_lock", 4);
	btf__add_field(btf, "val", u32, 0, 0);
	btf__add_struct(btf, "value", value_size);
	btf__add_field(btf, "lock", lock, 0, 0);
	btf__add_field(btf, "number", u32, 32, 0);
	return btf;
}

__u64 locked_value(__u32 lock, __u32 number)
{
	__u32 parts[] = { lock, number };
	__u64 value;

	memcpy(&value, parts, sizeof(value));
	return value;
}

struct spec spec_for(struct btf *btf, __u32 value_size)
{
	btf__load_into_kernel(btf);
	return (struct spec){
		.type = BPF_MAP_TYPE_SK_STORAGE, .key_size = 4,
		.value_size = value_size, .flags = BPF_F_NO_PREALLOC,
		.btf_fd = btf__fd(btf), .key_type = 1,
		.value_type = btf__type_cnt(btf) - 1,
	};
}

int create(const struct spec *spec)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts,
		.map_flags = spec->flags, .btf_fd = spec->btf_fd,
		.btf_key_type_id = spec->key_type,
		.btf_value_type_id = spec->value_type);
	int fd = bpf_map_create(spec->type, "storage", spec->key_size,
				spec->value_size, spec->max_entries, &opts);

	return fd < 0 ? -errno : fd;
}

int create_kind(__u32 type, __u32 value_size, __u32 flags)
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

int create_with_lock(__u32 type)
{
	struct btf *btf = types_with_lock(8);
	struct spec spec = spec_for(btf, 8);
	int map;

	spec.type = type;
	map = create(&spec);
	btf__free(btf);
	return map;
}

int create_with(__u32 value_size, __u32 flags)
{
	return create_kind(BPF_MAP_TYPE_SK_STORAGE, value_size, flags);
}

int program_with(int map)
{
	struct bpf_insn insns[] = {
		{ BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map }, {},
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 },
		{ BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "use", "GPL", insns,
			     ARRAY_SIZE(insns), NULL);
}

/* Whether a process sleeps in bpf(2). */
static bool waits_in_bpf(pid_t pid)
{
	char path[64];
	long number;
	FILE *file;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	n = fscanf(file, "%ld", &number);
	fclose(file);
	return n == 1 && number == __NR_bpf;
}

/* Whether another process could be killed where it waits in the creation. */
static bool kill_creator(const struct spec *spec)
{
	pid_t pid = fork(), ended;
	int status;

	if (!pid) {
		create(spec);
		_exit(0);
	}
	if (pid < 0)
		return false;
	do {
		ended = waitpid(pid, &status, WNOHANG);
	} while (!ended && !waits_in_bpf(pid));
	if (!ended) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return WIFSIGNALED(status);
}

bool kill_creators(__u32 type, __u32 value_size, __u32 flags)
{
	struct btf *btf = types_for(value_size);
	struct spec spec = spec_for(btf, value_size);
	int killed = 0;

	spec.type = type;
	spec.flags |= flags;
	while (killed < 3 && kill_creator(&spec))
		killed++;
	btf__free(btf);
	return killed == 3;
}

__u32 place(void)
{
	return getenv("IN_SOCKETS") && !is_stock() ? BPF_F_STORAGE_RESERVED : 0;
}

__u32 id_of(int map)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return bpf_map_get_info_by_fd(map, &info, &len) ? 0 : info.id;
}

int update(int map, int fd, __u64 value, __u64 flags)
{
	return bpf_map_update_elem(map, &fd, &value, flags);
}

long long lookup(int map, int fd)
{
	long long value = 0;
	int err = bpf_map_lookup_elem(map, &fd, &value);

	return err ?: value;
}

int delete(int map, int fd)
{
	return bpf_map_delete_elem(map, &fd);
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

long long number_in(const char *path, const char *name)
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

long long fdinfo_number(int fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return number_in(path, name);
}

bool is_stock(void)
{
	static int map;

	if (!map) {
		map = create_with(8, BPF_F_STORAGE_NO_SLOT);
		if (map >= 0)
			close(map);
	}
	return map == -EINVAL;
}

bool goes_on(int turn, int least, int seen)
{
	return turn < least || (seen < ENOUGH && turn < least * 1000);
}

static bool is_built_with(const char *word)
{
	struct utsname name;

	return !uname(&name) && strstr(name.version, word);
}

bool is_rt(void)
{
	return is_built_with("PREEMPT_RT");
}

bool is_smp(void)
{
	return is_built_with(" SMP ");
}

static bool is_machine(const char *which)
{
	struct utsname name;

	return !uname(&name) && !strcmp(name.machine, which);
}

bool set_jit(const char *on)
{
	/* Some helpers are the compiler's there: the interpreter jumps to nowhere. */
	if (on[0] == '0' && is_machine("aarch64"))
		return false;
	return !write_file(JIT, on);
}

bool has_jit(void)
{
	char text[8];

	return !output_of("cat " JIT, text, sizeof(text)) && text[0] != '0';
}

bool has_trampolines(void)
{
	return sizeof(long) == 8;
}

bool is_of_function(const struct bpf_program *prog)
{
	switch (bpf_program__expected_attach_type(prog)) {
	case BPF_TRACE_FENTRY:
	case BPF_TRACE_FEXIT:
	case BPF_MODIFY_RETURN:
	case BPF_LSM_MAC:
	case BPF_LSM_CGROUP:
		return true;
	default:
		return false;
	}
}

bool has_nmis(void)
{
	char text[4096];

	if (cpus() < 2 || is_machine("s390x"))
		return false;
	/* There, they are an option. */
	if (is_machine("aarch64"))
		return !output_of("cat /proc/cmdline", text, sizeof(text)) &&
		       strstr(text, "irqchip.gicv3_pseudo_nmi=1");
	return true;
}

int cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

void on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % cpus(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int root_cgroup(void)
{
	return open(CGROUP, O_RDONLY | O_DIRECTORY);
}

int run_program(const struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	return bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) ?:
	       opts.retval;
}

int run_on_packet(const struct bpf_program *prog, int repeat)
{
	char packet[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .repeat = repeat,
		    .data_in = packet, .data_size_in = sizeof(packet));

	return bpf_prog_test_run_opts(bpf_program__fd(prog), &opts);
}

static bool is_known(const char *name, __u32 kind)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int id = btf__find_by_name_kind(btf, name, kind);

	btf__free(btf);
	return id > 0;
}

bool has_function(const char *name)
{
	return is_known(name, BTF_KIND_FUNC);
}

bool has_struct(const char *name)
{
	return is_known(name, BTF_KIND_STRUCT);
}

bool is_late(void)
{
	static int answer = -1;

	if (answer < 0)
		answer = libbpf_probe_bpf_helper(BPF_PROG_TYPE_XDP,
				BPF_FUNC_current_task_under_cgroup, NULL) == 1;
	return answer;
}

bool has_room_for(int size)
{
	return size <= 8000 || !is_late() || !is_stock();
}

int iter_link(struct bpf_program *prog, int map)
{
	union bpf_iter_link_info info = { .map.map_fd = map };
	struct bpf_link_create_opts opts = { .sz = sizeof(opts) };
	int fd;

	if (map != NO_MAP) {
		opts.iter_info = &info;
		opts.iter_info_len = sizeof(info);
	}
	fd = bpf_link_create(bpf_program__fd(prog), 0, BPF_TRACE_ITER, &opts);
	return fd < 0 ? -errno : fd;
}

int iter_over(struct bpf_program *prog, int map)
{
	int link = iter_link(prog, map), fd;

	if (link < 0)
		return link;
	fd = bpf_iter_create(link);
	close(link);
	return fd < 0 ? -errno : fd;
}

__u64 find_only_count(void)
{
	unsigned long long address, found = 0;
	char name[128];
	FILE *file;

	if (is_smp())
		return 0;
	file = fopen("/proc/kallsyms", "r");
	while (file && fscanf(file, "%llx %*c %127s%*[^\n]", &address,
			      name) == 2)
		if (!strcmp(name, "pcpu_hot") ||
		    !strcmp(name, "__preempt_count"))
			found = address;
	if (file)
		fclose(file);
	return found;
}

int output_of(const char *command, char *text, size_t size)
{
	FILE *pipe = popen(command, "r");
	size_t got = fread(text, 1, size - 1, pipe);

	text[got] = 0;
	return pclose(pipe);
}

const char *bpftool(void)
{
	/* Where it is built, and where it is installed. */
	static const char * const places[] = { "tools/bpftool", "bpftool" };
	static char path[1024];
	char self[512] = {};

	if (getenv("BPFTOOL"))
		return getenv("BPFTOOL");
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0)
		dirname(self);
	for (int i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", self, places[i]);
		if (!access(path, X_OK))
			return path;
	}
	return "bpftool";
}

int output_of_bpftool(char *text, size_t size, const char *arguments, ...)
{
	char command[1024];
	va_list list;
	int len;

	len = snprintf(command, sizeof(command), "%s ", bpftool());
	va_start(list, arguments);
	vsnprintf(command + len, sizeof(command) - len, arguments, list);
	va_end(list);
	return output_of(command, text, size);
}

struct storage_owner new_task(void)
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

struct storage_owner new_cgroup_in(const char *parent)
{
	static int number;
	struct storage_owner owner = {};

	snprintf(owner.path, sizeof(owner.path), "%s/test-%d-%d", parent,
		 getpid(), __atomic_fetch_add(&number, 1, __ATOMIC_RELAXED));
	owner.fd = -1;
	if (!mkdir(owner.path, 0700))
		owner.fd = open(owner.path, O_RDONLY | O_DIRECTORY);
	return owner;
}

struct storage_owner new_cgroup(void)
{
	return new_cgroup_in(CGROUP);
}

int enter_cgroup(const char *path)
{
	char procs[80], pid[16];

	snprintf(procs, sizeof(procs), "%s/cgroup.procs",
		 path[0] ? path : CGROUP);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_file(procs, pid);
}

struct storage_owner new_owner(__u32 map_type)
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

__u64 inode_number(int fd)
{
	struct stat stat = {};

	fstat(fd, &stat);
	return stat.st_ino;
}

void end_owner(struct storage_owner *owner)
{
	close(owner->fd);
	if (owner->pid > 0) {
		kill(owner->pid, SIGKILL);
		waitpid(owner->pid, NULL, 0);
	}
	if (owner->path[0])
		rmdir(owner->path);
}

int rounds(void)
{
	return getenv("RACE_ROUNDS") ? atoi(getenv("RACE_ROUNDS")) : ROUNDS;
}
