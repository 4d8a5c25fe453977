/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of socket storage share. */
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
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static int create_with(__u32 value_size, __u32 flags)
{
	struct btf *btf = types_for(value_size);
	struct spec spec = spec_for(btf, value_size);
	int fd;

	spec.flags |= flags;
	fd = create(&spec);
	btf__free(btf);
	return fd;
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

/* The number after name in /proc/self/fdinfo/fd, or -1. */
static long long fdinfo_number(int fd, const char *name)
{
	char path[64], line[128];
	long long number = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), ":%lli", &number);
	if (file)
		fclose(file);
	return number;
}

/* Whether the kernel is one whose local storage is not ours. */
static bool is_stock(void)
{
	const char *flavour = getenv("FLAVOUR");

	return flavour && !strcmp(flavour, "stock");
}

static int root_cgroup(void)
{
	return open(CGROUP, O_RDONLY | O_DIRECTORY);
}

/* How often a race repeats: less where everything is slower. */
static int rounds(void)
{
	return getenv("RACE_ROUNDS") ? atoi(getenv("RACE_ROUNDS")) : 60;
}

/* Poll until what() holds: something asynchronous is due; false if never. */
#define EVENTUALLY(what) ({						\
	int __tries = 0;						\
	while (!(what) && __tries++ < 3000)				\
		usleep(10000);						\
	__tries <= 3000;						\
})

#endif /* _COMMON_H */
