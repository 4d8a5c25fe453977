/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of local storage share. */
#ifndef _COMMON_H
#define _COMMON_H

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
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

#include "kselftest.h"
#include "progs/shared.h"

#ifndef ENOTSUPP
#define ENOTSUPP 524
#endif

#define CGROUP		"/sys/fs/cgroup"
#define NO_MAP		(-1)
/* Of our maps: has a slot for sure, or for sure none. */
#define BPF_F_STORAGE_SLOT	0x40000000U
#define BPF_F_STORAGE_NO_SLOT	0x80000000U
/* Of our maps: their values are in the sockets. */
#define BPF_F_STORAGE_RESERVED	0x20000000U
/* Of the initial network namespace, whichever the test is in. */
#define RESERVE		"/proc/1/net/bpf_sk_reserve"
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
struct btf *types_for(__u32 value_size);

/* The same where the value is a struct that begins with a lock and a number. */
struct btf *types_with_lock(__u32 value_size);
/* A value of theirs of 8 bytes: a lock, and a number behind it. */
__u64 locked_value(__u32 lock, __u32 number);
struct spec spec_for(struct btf *btf, __u32 value_size);

/* A map's fd, or the negative errno. */
int create(const struct spec *spec);
int create_kind(__u32 type, __u32 value_size, __u32 flags);
int create_with(__u32 value_size, __u32 flags);
/* With a value of 8 bytes as of types_with_lock(). */
int create_with_lock(__u32 type);

/* A flag for maps of sockets where $IN_SOCKETS wants values there, or 0. */
__u32 place(void);

/* A program that does nothing with a map but hold it: its fd, or the error. */
int program_with(int map);

/*
 * Create a map that a creation waits for in three other processes, one after the
 * other, which are killed there; whether all could be.  Maps that only a program
 * holds are waited for, once.  A process that is killed meanwhile has not waited
 * to the end, so the next one waits for the same map; one that cannot be killed
 * there ends, and the next does not wait.
 */
bool kill_creators(__u32 type, __u32 value_size, __u32 flags);

/* Of a map; 0 if fd is none. */
__u32 id_of(int map);

/* Elements with values of 8 bytes; the errors are negative. */

int update(int map, int fd, __u64 value, __u64 flags);
long long lookup(int map, int fd);
int delete(int map, int fd);

/* 0 or the negative errno. */
int write_file(const char *path, const char *text);

/* The number after name in a file that has a name per line, or -1. */
long long number_in(const char *path, const char *name);
long long fdinfo_number(int fd, const char *name);

/* Whether the kernel is one whose maps know nothing of slots. */
bool is_stock(void);

/* Whether a function of the kernel's has that name. */
bool has_function(const char *name);
bool has_struct(const char *name);

/*
 * Whether the kernel is rather 7.3 than 6.12: all types of program have what
 * only tracing programs had.
 */
bool is_late(void);

/* Whether a value can have so many bytes: 7.3's own ends at 8 KiB. */
bool has_room_for(int size);

/*
 * How often a race repeats no number can say beforehand: at least so often,
 * and until it was seen, unless it is never seen.
 */
bool goes_on(int turn, int least, int seen);

/* Where softirqs are threads, and programs get memory from lists only. */
bool is_rt(void);
/* Whether it was built for more than one processor. */
bool is_smp(void);

/* Have programs compiled, "1", or interpreted, "0"; false where that can't be. */
#define JIT		"/proc/sys/net/core/bpf_jit_enable"
bool set_jit(const char *on);
bool has_jit(void);

/* Whether programs can be attached to functions; on i386 they can't. */
bool has_trampolines(void);
bool is_of_function(const struct bpf_program *prog);

/* Whether a processor can send another one an NMI. */
bool has_nmis(void);
int root_cgroup(void);

/* Those that are online. */
int cpus(void);

/* Let this thread run nowhere else; numbers beyond the last begin anew. */
void on_cpu(int cpu);

/* Run a program that needs no input; its return value, or an errno. */
int run_program(const struct bpf_program *prog);

/* Run one so many times on a packet, whatever it returns; 0, or an errno. */
int run_on_packet(const struct bpf_program *prog, int repeat);

/* An iterator over a map, or NO_MAP: its link or file, or the negative errno. */
int iter_link(struct bpf_program *prog, int map);
int iter_over(struct bpf_program *prog, int map);

/* For progs/preempt.h. */
__u64 find_only_count(void);

/* The text that a command prints, and its exit status. */
int output_of(const char *command, char *text, size_t size);

/* Where bpftool is: $BPFTOOL, or with the tests, or on the PATH. */
const char *bpftool(void);

/* The same of bpftool with these arguments. */
int output_of_bpftool(char *text, size_t size, const char *arguments, ...)
	__printf(3, 4);

/* What values live with, and what names it to the kernel. */
struct storage_owner {
	int fd;
	pid_t pid;		/* of a task */
	char path[64];		/* of a cgroup */
};

#define NO_OWNER ((struct storage_owner){ .fd = -1 })

/* A task that does nothing until it is killed. */
struct storage_owner new_task(void);
struct storage_owner new_cgroup_in(const char *parent);
struct storage_owner new_cgroup(void);

/* Move this process to a cgroup: "" is the root. */
int enter_cgroup(const char *path);
struct storage_owner new_owner(__u32 map_type);
__u64 inode_number(int fd);
void end_owner(struct storage_owner *owner);

#define ROUNDS		60

/* How often a race repeats: less where everything is slower. */
int rounds(void);

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
