// SPDX-License-Identifier: GPL-2.0
/* Values in the sockets, in a kernel booted with bpf_sk_reserve=64. */
#include "harness.h"
#include "inet_diag.h"
#include "operate.h"
#include "scarce.h"
#include "iter.skel.h"
#include "reserve.skel.h"
#include "trace.skel.h"
#include <ctype.h>
#include <linux/icmpv6.h>
#include <linux/netlink.h>
#include <linux/sctp.h>
#include <sys/klog.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define PARAMETER	"bpf_sk_reserve="
/* A cache line, which is what 60 bytes become. */
#ifdef __s390__
#define BYTES		256
#else
#define BYTES		64
#endif
#define COOKIE		8
/* Maps of 8-byte values that fit. */
#define MANY		(BYTES / (COOKIE + 8))
#define FLAG		BPF_F_STORAGE_RESERVED
#define THREADS		3

static int reserved(__u32 value_size)
{
	return create_with(value_size, FLAG);
}

/* A map is gone a while after its last fd. */
static int reserved_soon(__u32 value_size)
{
	int map;

	return EVENTUALLY((map = reserved(value_size)) != -ENOSPC) ? map :
								     -ENOSPC;
}

static long long bytes_reserved(void)
{
	return number_in(RESERVE, "bytes");
}

/* Wait until no map has a part of the reserve. */
static bool is_unused(void)
{
	return EVENTUALLY(number_in(RESERVE, "map") == -1);
}

#define REQUIRE_RESERVE()						\
	if (bytes_reserved() <= 0)					\
		SKIP(return, "booted without bpf_sk_reserve=")

/* Where the settings of programs can be seen. */
static int enter_first_network(void)
{
	int fd = open("/proc/1/ns/net", O_RDONLY), err;

	err = setns(fd, CLONE_NEWNET) ? -errno : 0;
	close(fd);
	return err;
}

/* Maps */

TEST(other_kinds_have_no_reserve)
{
	for (int i = 0; i < ARRAY_SIZE(storage_types); i++) {
		if (storage_types[i] == BPF_MAP_TYPE_SK_STORAGE)
			continue;
		EXPECT_EQ(create_kind(storage_types[i], 8, FLAG), -EINVAL)
			TH_LOG("type %u", storage_types[i]);
	}
}

TEST(a_value_in_a_socket_needs_no_slot)
{
	EXPECT_EQ(create_with(8, FLAG | BPF_F_STORAGE_SLOT), -EINVAL);
	EXPECT_EQ(create_with(8, FLAG | BPF_F_STORAGE_NO_SLOT), -EINVAL);
}

FIXTURE(maps) {
	int maps[MANY];
};

FIXTURE_SETUP(maps)
{
	REQUIRE_RESERVE();
	ASSERT_TRUE(is_unused());
	for (int i = 0; i < MANY; i++)
		self->maps[i] = NO_MAP;
}

FIXTURE_TEARDOWN(maps)
{
	for (int i = 0; i < MANY; i++)
		if (self->maps[i] != NO_MAP)
			close(self->maps[i]);
}

static void drop(int *map)
{
	close(*map);
	*map = NO_MAP;
}

#define FILL()								\
	for (int i = 0; i < MANY; i++)					\
		ASSERT_GE(self->maps[i] = reserved(8), 0)

TEST_F(maps, the_reserve_is_what_was_asked_for)
{
	EXPECT_EQ(bytes_reserved(), BYTES);
}

/* Of klogctl(). */
#define READ_ALL	3
#define SIZE_BUFFER	10

/* What the kernel has said since it was booted, or what is left of that. */
static char *kernel_log(void)
{
	int size = klogctl(SIZE_BUFFER, NULL, 0);
	char *text = calloc(1, size + 1);

	if (text)
		klogctl(READ_ALL, text, size);
	return text;
}

static bool is_good(const char *size)
{
	char *end;

	return isdigit(size[0]) && strtoul(size, &end, 0) <= 1024 && !*end;
}

TEST_F(maps, a_bad_size_is_ignored_and_reported)
{
	FILE *f = fopen("/proc/cmdline", "r");
	char word[128], report[192], *log;
	int bad = 0;

	ASSERT_NE(f, NULL);
	ASSERT_NE(log = kernel_log(), NULL);
	while (fscanf(f, "%127s", word) == 1) {
		if (strncmp(word, PARAMETER, strlen(PARAMETER)) ||
		    is_good(word + strlen(PARAMETER)))
			continue;
		bad++;
		snprintf(report, sizeof(report), "%s is ignored: ", word);
		EXPECT_NE(strstr(log, report), NULL) TH_LOG("%s", report);
	}
	fclose(f);
	free(log);
	EXPECT_EQ(bytes_reserved(), BYTES);
	if (!bad)
		SKIP(return, "booted without a bad bpf_sk_reserve=");
}

TEST_F(maps, there_is_room_for_so_many)
{
	FILL();
	EXPECT_EQ(reserved(8), -ENOSPC);
	EXPECT_EQ(reserved(1), -ENOSPC);
	drop(&self->maps[1]);
	EXPECT_GE(self->maps[1] = reserved_soon(8), 0);
}

TEST_F(maps, a_new_one_may_find_no_memory)
{
	if (!can_be_scarce())
		SKIP(return, "no fault injection in this kernel");
	ASSERT_EQ(begin_scarcity("bpf_sk_region_alloc"), 0);
	run_out(1, 1);
	EXPECT_EQ(reserved(8), -ENOMEM);
	EXPECT_TRUE(ran_out());
	/* Nothing is reserved for it. */
	EXPECT_EQ(number_in(RESERVE, "map"), -1);
	end_scarcity();
	FILL();
}

TEST_F(maps, the_largest_takes_all)
{
	EXPECT_EQ(reserved(BYTES - COOKIE + 1), -ENOSPC);
	EXPECT_EQ(reserved(65407), -ENOSPC);
	EXPECT_GE(self->maps[0] = reserved(BYTES - COOKIE), 0);
	EXPECT_EQ(reserved(1), -ENOSPC);
}

TEST_F(maps, who_waits_for_room_can_be_killed)
{
	bool killed = false;
	int prog;

	for (int i = 0; i < ENOUGH && !killed; i++) {
		ASSERT_GE(self->maps[0] = reserved_soon(BYTES - COOKIE), 0);
		prog = program_with(self->maps[0]);
		ASSERT_GE(prog, 0);
		drop(&self->maps[0]);
		killed = kill_creators(BPF_MAP_TYPE_SK_STORAGE, 8, FLAG);
		close(prog);
	}
	EXPECT_TRUE(killed);
}

TEST_F(maps, free_neighbours_become_one)
{
	FILL();
	drop(&self->maps[1]);
	drop(&self->maps[3]);
	/* Two of 16 bytes, but apart. */
	EXPECT_EQ(reserved(24), -ENOSPC);
	drop(&self->maps[2]);
	EXPECT_GE(self->maps[1] = reserved_soon(24), 0);
	EXPECT_GE(self->maps[2] = reserved_soon(8), 0);
	EXPECT_EQ(reserved(8), -ENOSPC);
}

TEST_F(maps, root_can_read_whose_is_what)
{
	char text[1024], line[64];

	ASSERT_GE(self->maps[0] = reserved(8), 0);
	ASSERT_GE(self->maps[1] = reserved(20), 0);
	ASSERT_EQ(output_of("cat " RESERVE, text, sizeof(text)), 0);
	snprintf(line, sizeof(line), "bytes %d\n", BYTES);
	EXPECT_NE(strstr(text, line), NULL);
	snprintf(line, sizeof(line), "map %u offset -16 bytes 16\n",
		 id_of(self->maps[0]));
	EXPECT_NE(strstr(text, line), NULL) TH_LOG("%s", text);
	snprintf(line, sizeof(line), "map %u offset -48 bytes 32\n",
		 id_of(self->maps[1]));
	EXPECT_NE(strstr(text, line), NULL) TH_LOG("%s", text);
}

/* The values of an older map are where the newer ones' cookies are. */
static const __u64 left_over[] = {
	0, 1, 2, 3, 0xffff, 0x10000, ~0u, 1ull << 32, ~0ull,
};

/* Leave a number in all of a socket's reserve, where no map has any. */
static int leave(int sk, __u64 number)
{
	__u64 full[(BYTES - COOKIE) / sizeof(__u64)];
	int map = reserved_soon(sizeof(full)), err;

	for (int i = 0; i < ARRAY_SIZE(full); i++)
		full[i] = number;
	err = bpf_map_update_elem(map, &sk, full, 0);
	close(map);
	return err ?: is_unused() ? 0 : -EBUSY;
}

TEST_F(maps, a_new_map_shows_nothing_of_an_old_one)
{
	int sk = tcp_socket();

	for (int n = 0; n < ARRAY_SIZE(left_over); n++) {
		ASSERT_EQ(leave(sk, left_over[n]), 0);
		FILL();
		for (int i = 0; i < MANY; i++)
			EXPECT_EQ(lookup(self->maps[i], sk), -ENOENT);
		for (int i = 0; i < MANY; i++) {
			EXPECT_EQ(update(self->maps[i], sk, i, BPF_NOEXIST), 0);
			EXPECT_EQ(lookup(self->maps[i], sk), i);
			drop(&self->maps[i]);
		}
		ASSERT_TRUE(is_unused());
	}
	close(sk);
}

TEST_F(maps, a_value_made_by_a_program_has_nothing_of_an_old_one)
{
	struct operator operator = { .flags = FLAG };
	int sk = tcp_socket();

	for (int n = 0; n < ARRAY_SIZE(left_over); n++) {
		struct answer answer;

		ASSERT_EQ(leave(sk, left_over[n]), 0);
		/* So that the program's map is further from the socket. */
		self->maps[0] = reserved(1);
		ASSERT_EQ(start_operator(&operator), 0);
		EXPECT_EQ(operate(sk, MAIN_MAP, DO_GET, 0).err, -1);
		answer = operate(sk, MAIN_MAP, DO_CREATE, 0);
		EXPECT_EQ(answer.err, 0);
		EXPECT_EQ(answer.value, 0);
		end_operator(&operator);
		drop(&self->maps[0]);
		ASSERT_TRUE(is_unused());
	}
	close(sk);
}

/* A value that is a pointer to a task, and 8 bytes more. */
static struct btf *types_with_pointer(void)
{
	struct btf *btf = btf__new_empty();
	int task, tag;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	task = btf__add_struct(btf, "task_struct", 0);
	tag = btf__add_type_tag(btf, "kptr_untrusted", task);
	task = btf__add_ptr(btf, tag);
	btf__add_struct(btf, "value", 16);
	btf__add_field(btf, "task", task, 0, 0);
	return btf;
}

TEST_F(maps, values_hold_no_kernel_pointers)
{
	struct btf *btf = types_with_pointer();
	struct spec spec = spec_for(btf, 16);
	int plain = create(&spec);

	EXPECT_GE(plain, 0);
	close(plain);
	spec.flags |= FLAG;
	EXPECT_EQ(create(&spec), -EOPNOTSUPP);
	btf__free(btf);
}

TEST_F(maps, values_hold_locks)
{
	struct btf *btf = types_with_lock(8);
	struct spec spec = spec_for(btf, 8);

	spec.flags |= FLAG;
	EXPECT_GE(self->maps[0] = create(&spec), 0);
	btf__free(btf);
}

/* What can sleep may do so while it has a value of a freed socket. */
static int load_with(const char *program, __u32 flags)
{
	struct reserve *skel = reserve__open();
	int template, err;

	bpf_map__set_map_flags(skel->maps.one, BPF_F_NO_PREALLOC | flags);
	template = create_with(8, flags);
	bpf_map__set_inner_map_fd(skel->maps.outer, template);
	bpf_program__set_autoload(bpf_object__find_program_by_name(skel->obj,
								   program),
				  true);
	err = reserve__load(skel);
	reserve__destroy(skel);
	close(template);
	return err;
}

TEST_F(maps, what_can_sleep_cannot_use_them)
{
	static const char * const programs[] = {
		"sleepable", "sleepable_by_inner_map", "sleepable_callback",
	};

	ASSERT_EQ(enter_first_network(), 0);
	for (int i = 0; i < ARRAY_SIZE(programs); i++) {
		int err = load_with(programs[i], 0);

		/* Interpreted, none calls functions of the kernel. */
		if (err == -ENOTSUPP && !has_jit())
			continue;
		EXPECT_EQ(err, 0)
			TH_LOG("%s", programs[i]);
		EXPECT_EQ(load_with(programs[i], FLAG), -EOPNOTSUPP)
			TH_LOG("%s", programs[i]);
	}
	EXPECT_EQ(load_with("not_sleepable", FLAG), 0);
}

TEST_F(maps, there_is_nothing_to_iterate_over)
{
	struct iter *skel = iter__open_and_load();

	ASSERT_NE(skel, NULL);
	ASSERT_GE(self->maps[0] = reserved(8), 0);
	EXPECT_EQ(iter_link(skel->progs.dump, self->maps[0]), -EOPNOTSUPP);
	iter__destroy(skel);
}

TEST_F(maps, a_reloaded_program_finds_room)
{
	struct operator operator = { .flags = FLAG };

	for (int i = 0; i < 2 * MANY; i++) {
		ASSERT_EQ(start_operator(&operator), 0);
		end_operator(&operator);
	}
}

/* A program that traces can be in an interrupt, and asks if it is compiled. */
TEST_F(maps, a_program_that_traces_uses_them)
{
	struct trace *skel;
	char jit[2] = {};
	int sk, map;

	libbpf_set_print(NULL);
	ASSERT_EQ(enter_first_network(), 0);
	jit[0] = '0' + has_jit();
	for (int interpreted = 0; interpreted <= 1; interpreted++) {
		if (interpreted && !set_jit("0"))
			continue;
		sk = socket_at_its_fd();
		ASSERT_EQ(sk, SK_FD);
		skel = trace__open();
		ASSERT_NE(skel, NULL);
		skel->rodata->only_count = find_only_count();
		bpf_map__set_map_flags(skel->maps.values,
				       BPF_F_NO_PREALLOC | FLAG);
		bpf_program__set_autoload(skel->progs.tp_btf_task, true);
		ASSERT_EQ(trace__load(skel), 0);
		ASSERT_EQ(trace__attach(skel), 0);
		map = bpf_map__fd(skel->maps.values);
		skel->bss->what = TRY_CREATE;
		skel->bss->pid = getpid();
		getpgid(0);
		EXPECT_GE(skel->bss->seen.created, 1);
		skel->bss->what = TRY_GET;
		getpgid(0);
		EXPECT_GE(skel->bss->seen.got, 1);
		skel->bss->what = TRY_DELETE;
		getpgid(0);
		skel->bss->pid = 0;
		EXPECT_EQ(skel->bss->seen.deleted, 1);
		EXPECT_EQ(lookup(map, sk), -ENOENT);
		EXPECT_EQ(optmem(sk), 0);
		trace__destroy(skel);
		close(sk);
		ASSERT_TRUE(is_unused());
	}
	set_jit(jit);
}

/* Values, by descriptor and by programs */

FIXTURE(values) {
	struct operator operator;
	int sk, map;
};

FIXTURE_SETUP(values)
{
	REQUIRE_RESERVE();
	ASSERT_TRUE(is_unused());
	self->operator.flags = FLAG;
	ASSERT_EQ(start_operator(&self->operator), 0);
	self->map = bpf_map__fd(self->operator.skel->maps.main_map);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(values)
{
	if (self->operator.skel)
		end_operator(&self->operator);
	close(self->sk);
}

TEST_F(values, come_and_go_by_descriptor)
{
	int charged = optmem(self->sk);

	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
	EXPECT_EQ(delete(self->map, self->sk), -ENOENT);
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_EXIST), -ENOENT);
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_NOEXIST), 0);
	EXPECT_EQ(update(self->map, self->sk, 2, BPF_NOEXIST), -EEXIST);
	EXPECT_EQ(lookup(self->map, self->sk), 1);
	EXPECT_EQ(update(self->map, self->sk, 3, BPF_EXIST), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 3);
	EXPECT_EQ(update(self->map, self->sk, 4, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 4);
	EXPECT_EQ(optmem(self->sk), charged);
	EXPECT_EQ(delete(self->map, self->sk), 0);
	EXPECT_EQ(delete(self->map, self->sk), -ENOENT);
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
	EXPECT_EQ(update(self->map, self->sk, 5, BPF_ANY), 0);
	EXPECT_EQ(lookup(self->map, self->sk), 5);
}

TEST_F(values, bad_calls_are_refused)
{
	int file = open("/dev/null", O_RDONLY);

	EXPECT_EQ(update(self->map, self->sk, 1, 3), -EINVAL);
	EXPECT_EQ(update(self->map, self->sk, 1, BPF_F_LOCK), -EINVAL);
	EXPECT_EQ(update(self->map, file, 1, BPF_ANY), -ENOTSOCK);
	EXPECT_EQ(lookup(self->map, file), -ENOTSOCK);
	EXPECT_EQ(delete(self->map, -1), -EBADF);
	EXPECT_EQ(operate(self->sk, MAIN_MAP, DO_BAD_FLAGS, 0).err, -1);
	EXPECT_EQ(lookup(self->map, self->sk), -ENOENT);
	close(file);
}

/* MAIN_MAP is found by instructions of the program's, an inner map is not. */
static int way_to(FIXTURE_DATA(values) *self, __u32 number)
{
	int outer = bpf_map__fd(self->operator.skel->maps.outer);

	if (number == MAIN_MAP)
		return 0;
	return bpf_map_update_elem(outer, &number, &self->map, 0);
}

TEST_F(values, come_and_go_by_program)
{
	static const __u32 numbers[] = { 0, MAIN_MAP };

	for (int i = 0; i < ARRAY_SIZE(numbers); i++) {
		__u32 number = numbers[i];
		struct answer answer;

		ASSERT_EQ(way_to(self, number), 0);
		EXPECT_EQ(operate(self->sk, number, DO_GET, 0).err, -1);
		EXPECT_EQ(operate(self->sk, number, DO_DELETE, 0).err, -ENOENT);
		answer = operate(self->sk, number, DO_CREATE_WITH, 7);
		EXPECT_EQ(answer.err, 0);
		EXPECT_EQ(answer.value, 7);
		EXPECT_EQ(operate(self->sk, number, DO_CREATE_WITH, 8).value, 7);
		EXPECT_EQ(operate(self->sk, number, DO_GET, 0).value, 7);
		EXPECT_EQ(operate(self->sk, number, DO_ADD, 3).value, 10);
		EXPECT_EQ(lookup(self->map, self->sk), 10);
		EXPECT_EQ(operate(self->sk, number, DO_DELETE, 0).err, 0);
		EXPECT_EQ(operate(self->sk, number, DO_GET, 0).err, -1);
		EXPECT_EQ(operate(self->sk, number, DO_DELETE, 0).err, -ENOENT);
		/* What is made anew is new. */
		answer = operate(self->sk, number, DO_CREATE, 0);
		EXPECT_EQ(answer.err, 0);
		EXPECT_EQ(answer.value, 0);
		EXPECT_EQ(delete(self->map, self->sk), 0);
	}
}

TEST_F(values, end_with_their_socket)
{
	/* As many as to have memory of earlier ones in most. */
	for (int round = 0; round < 20; round++) {
		int sk[50];

		for (int i = 0; i < ARRAY_SIZE(sk); i++) {
			sk[i] = tcp_socket();
			ASSERT_EQ(lookup(self->map, sk[i]), -ENOENT);
			ASSERT_EQ(update(self->map, sk[i], ~0ull, BPF_ANY), 0);
		}
		for (int i = 0; i < ARRAY_SIZE(sk); i++)
			close(sk[i]);
		/* The map's end makes sure of the grace period. */
		drop(&(int){ reserved_soon(8) });
	}
}

static const struct {
	int family, type, protocol;
} families[] = {
	{ AF_INET, SOCK_STREAM, 0 }, { AF_INET6, SOCK_STREAM, 0 },
	{ AF_INET, SOCK_DGRAM, 0 }, { AF_INET6, SOCK_DGRAM, 0 },
	{ AF_INET, SOCK_STREAM, IPPROTO_MPTCP },
	{ AF_INET6, SOCK_STREAM, IPPROTO_MPTCP },
	{ AF_INET, SOCK_RAW, IPPROTO_ICMP }, { AF_INET, SOCK_STREAM, IPPROTO_SCTP },
	{ AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP },
	{ AF_UNIX, SOCK_STREAM, 0 }, { AF_UNIX, SOCK_DGRAM, 0 },
	{ AF_NETLINK, SOCK_RAW, NETLINK_ROUTE }, { AF_PACKET, SOCK_RAW, 0 },
};

TEST_F(values, are_in_sockets_of_every_family)
{
	int found = 0;

	for (int i = 0; i < ARRAY_SIZE(families); i++) {
		int sk = socket(families[i].family, families[i].type,
				families[i].protocol);

		if (sk < 0)
			continue;
		found++;
		EXPECT_EQ(lookup(self->map, sk), -ENOENT);
		EXPECT_EQ(update(self->map, sk, i, BPF_NOEXIST), 0)
			TH_LOG("family %d", families[i].family);
		EXPECT_EQ(lookup(self->map, sk), i);
		EXPECT_EQ(delete(self->map, sk), 0);
		close(sk);
	}
	EXPECT_GE(found, 6);
}

/* Of <linux/icmp.h>, which cannot be included beside <net/if.h>. */
#define ICMP_FILTER	1

/* What is copied straight into the socket and out of it again. */
static const struct {
	int family, type, protocol, level, option, size;
} options[] = {
	{ AF_INET, SOCK_RAW, IPPROTO_ICMP, SOL_RAW, ICMP_FILTER,
	  sizeof(__u32) },
	{ AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, SOL_ICMPV6, ICMPV6_FILTER,
	  sizeof(struct icmp6_filter) },
	{ AF_INET, SOCK_STREAM, IPPROTO_SCTP, IPPROTO_SCTP, SCTP_INITMSG,
	  sizeof(struct sctp_initmsg) },
	{ AF_INET6, SOCK_STREAM, IPPROTO_SCTP, IPPROTO_SCTP, SCTP_INITMSG,
	  sizeof(struct sctp_initmsg) },
};

/* With hardened usercopy, only where its slab says that options are. */
TEST_F(values, leave_options_where_they_may_be_copied)
{
	char in[64], out[64];
	int found = 0;

	for (int i = 0; i < ARRAY_SIZE(options); i++) {
		int sk = socket(options[i].family, options[i].type,
				options[i].protocol);
		socklen_t size = options[i].size;

		if (sk < 0)
			continue;
		found++;
		memset(in, 0x11 * (i + 1), size);
		memset(out, 0, size);
		EXPECT_EQ(update(self->map, sk, i, BPF_NOEXIST), 0);
		EXPECT_EQ(setsockopt(sk, options[i].level, options[i].option,
				     in, size), 0);
		EXPECT_EQ(getsockopt(sk, options[i].level, options[i].option,
				     out, &size), 0);
		EXPECT_EQ(memcmp(in, out, options[i].size), 0)
			TH_LOG("protocol %d", options[i].protocol);
		EXPECT_EQ(lookup(self->map, sk), i);
		close(sk);
	}
	EXPECT_GE(found, 2);
}

/* As when a module is asked for; or from where it was built. */
static int load_qrtr(void)
{
	const char *modules = getenv("MODULES");
	char path[256];
	int fd, err;

	snprintf(path, sizeof(path), "%s/net/qrtr/qrtr.ko", modules ?: ".");
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	err = syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	return err ? -errno : 0;
}

static int qrtr_socket(void)
{
	int sk = socket(AF_QIPCRTR, SOCK_DGRAM, 0);

	if (sk >= 0 || load_qrtr())
		return sk;
	return socket(AF_QIPCRTR, SOCK_DGRAM, 0);
}

/* Its slab is made long after boot, goes with the module, and is made anew. */
TEST_F(values, are_in_sockets_of_protocols_that_come_later)
{
	int sk;

	/* Elsewhere there is no such protocol. */
	ASSERT_EQ(enter_first_network(), 0);
	if (!syscall(SYS_delete_module, "qrtr", O_NONBLOCK))
		ksft_print_msg("qrtr was there already\n");
	for (int i = 0; i < 3; i++) {
		sk = qrtr_socket();
		if (sk < 0 && !getenv("MODULES"))
			SKIP(return, "no module qrtr; $MODULES may have it");
		ASSERT_GE(sk, 0) TH_LOG("turn %d: %s", i, strerror(errno));
		EXPECT_EQ(lookup(self->map, sk), -ENOENT);
		EXPECT_EQ(update(self->map, sk, i, BPF_NOEXIST), 0);
		EXPECT_EQ(lookup(self->map, sk), i);
		/* With the value in it. */
		close(sk);
		EXPECT_TRUE(EVENTUALLY(!syscall(SYS_delete_module, "qrtr",
						O_NONBLOCK)));
	}
}

TEST_F(values, survive_a_change_of_family)
{
	int listener = listen_on(AF_INET, 0), sk, family = AF_INET;
	struct sockaddr_in6 to = {
		.sin6_family = AF_INET6, .sin6_port = htons(port_of(listener)),
	};

	inet_pton(AF_INET6, "::ffff:127.0.0.1", &to.sin6_addr);
	sk = socket(AF_INET6, SOCK_STREAM, 0);
	ASSERT_EQ(connect(sk, (void *)&to, sizeof(to)), 0);
	ASSERT_EQ(update(self->map, sk, 9, BPF_ANY), 0);
	ASSERT_EQ(setsockopt(sk, SOL_IPV6, IPV6_ADDRFORM, &family,
			     sizeof(family)), 0);
	EXPECT_EQ(lookup(self->map, sk), 9);
	close(sk);
	close(listener);
}

TEST_F(values, are_in_what_userspace_dumps)
{
	int other = reserved(8), plain = create_with(8, 0), sk, maps[2];
	struct sockaddr_in6 addr;
	struct found found;
	struct dump dump;

	sk = listener(AF_INET, IPPROTO_TCP, &addr);
	ASSERT_GE(sk, 0);
	ASSERT_EQ(update(self->map, sk, 11, BPF_ANY), 0);
	dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);
	found = find(&dump, sk);
	EXPECT_EQ(found.n, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(self->map))), 11);
	free(dump.data);

	ASSERT_EQ(update(other, sk, 12, BPF_ANY), 0);
	ASSERT_EQ(update(plain, sk, 13, BPF_ANY), 0);
	dump = dump_storage(AF_INET, IPPROTO_TCP, NULL, 0);
	found = find(&dump, sk);
	EXPECT_EQ(found.n, 3);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(other))), 12);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(plain))), 13);
	free(dump.data);

	maps[0] = other;
	maps[1] = plain;
	dump = dump_storage(AF_INET, IPPROTO_TCP, maps, 1);
	found = find(&dump, sk);
	EXPECT_EQ(found.n, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(other))), 12);
	free(dump.data);

	EXPECT_EQ(delete(other, sk), 0);
	dump = dump_storage(AF_INET, IPPROTO_TCP, maps, 2);
	found = find(&dump, sk);
	EXPECT_EQ(found.n, 1);
	EXPECT_EQ(number_of_value(value_of(&found, id_of(plain))), 13);
	free(dump.data);
	close(sk);
	close(other);
	close(plain);
}

/* What accepted sockets inherit */

FIXTURE(inherited) {
	int cloned, plain, listener;
};

FIXTURE_VARIANT(inherited) {
	int family, protocol;
};

FIXTURE_VARIANT_ADD(inherited, tcp) { .family = AF_INET };
FIXTURE_VARIANT_ADD(inherited, tcp6) { .family = AF_INET6 };
FIXTURE_VARIANT_ADD(inherited, mptcp) { .family = AF_INET,
					.protocol = IPPROTO_MPTCP };

FIXTURE_SETUP(inherited)
{
	REQUIRE_RESERVE();
	ASSERT_TRUE(is_unused());
	ASSERT_GE(self->cloned = create_with(8, FLAG | BPF_F_CLONE), 0);
	ASSERT_GE(self->plain = reserved(8), 0);
	self->listener = listen_on(variant->family, variant->protocol);
	ASSERT_GE(self->listener, 0);
}

FIXTURE_TEARDOWN(inherited)
{
	close(self->cloned);
	close(self->plain);
	close(self->listener);
}

TEST_F(inherited, values_of_maps_that_are_cloned)
{
	int client, child;

	ASSERT_EQ(update(self->cloned, self->listener, 21, BPF_ANY), 0);
	ASSERT_EQ(update(self->plain, self->listener, 22, BPF_ANY), 0);
	client = connect_new(self->listener, variant->family, variant->protocol);
	ASSERT_GE(client, 0);
	child = accept(self->listener, NULL, NULL);
	ASSERT_GE(child, 0);
	EXPECT_EQ(lookup(self->cloned, child), 21);
	EXPECT_EQ(lookup(self->plain, child), -ENOENT);
	/* It is the child's own. */
	EXPECT_EQ(update(self->cloned, child, 23, BPF_EXIST), 0);
	EXPECT_EQ(lookup(self->cloned, self->listener), 21);
	EXPECT_EQ(lookup(self->cloned, client), -ENOENT);
	reset(client);
	reset(child);

	EXPECT_EQ(delete(self->cloned, self->listener), 0);
	client = connect_new(self->listener, variant->family, variant->protocol);
	child = accept(self->listener, NULL, NULL);
	EXPECT_EQ(lookup(self->cloned, child), -ENOENT);
	reset(client);
	reset(child);
}

/* Sockets that a program looks up */

struct numbers {
	__u32 lock, numbers[7];
};

FIXTURE(found) {
	struct reserve *skel;
	int map;
};

static struct reserve *open_found(void)
{
	struct reserve *skel = reserve__open();

	if (skel)
		bpf_map__set_map_flags(skel->maps.values,
				       BPF_F_NO_PREALLOC | FLAG);
	return skel;
}

FIXTURE_SETUP(found)
{
	REQUIRE_RESERVE();
	ASSERT_TRUE(is_unused());
	self->skel = open_found();
	ASSERT_NE(self->skel, NULL);
	ASSERT_EQ(reserve__load(self->skel), 0);
	self->map = bpf_map__fd(self->skel->maps.values);
}

FIXTURE_TEARDOWN(found)
{
	reserve__destroy(self->skel);
}

TEST_F(found, only_a_full_socket_has_a_reserve)
{
	int listener = listen_on(AF_INET, 0), client, child;
	struct reserve__bss *bss = self->skel->bss;

	client = connect_new(listener, AF_INET, 0);
	ASSERT_GE(client, 0);
	child = accept(listener, NULL, NULL);
	bss->tuple = tuple_between(child, client);
	EXPECT_EQ(run_on_packet(self->skel->progs.get_of_any, 1), 0);
	EXPECT_EQ(bss->state, TCP_ESTABLISHED);
	EXPECT_EQ(bss->got, 2);
	EXPECT_EQ(run_on_packet(self->skel->progs.get_of_any, 1), 0);
	EXPECT_EQ(bss->got, 3);

	close(client);
	ASSERT_EQ(read(child, &(char){ 0 }, 1), 0);
	close(child);
	EXPECT_TRUE(EVENTUALLY(!run_on_packet(self->skel->progs.get_of_any, 1) &&
			       bss->state == TCP_TIME_WAIT));
	EXPECT_EQ(bss->got, 0);
	close(listener);
}

/* They get nothing, and a new socket finds nothing of what they tried. */
TEST_F(maps, only_a_socket_with_references_gets_a_value)
{
	struct reserve *skel = open_found();
	struct numbers value;
	int fd;

	NEEDS_TRAMPOLINES();
	ASSERT_NE(skel, NULL);
	bpf_program__set_autoload(skel->progs.at_alloc, true);
	bpf_program__set_autoload(skel->progs.at_free, true);
	ASSERT_EQ(reserve__load(skel), 0);
	ASSERT_EQ(reserve__attach(skel), 0);
	skel->bss->pid = getpid();
	fd = tcp_socket();
	EXPECT_EQ(skel->bss->unborn, 1);
	EXPECT_EQ(bpf_map_lookup_elem(bpf_map__fd(skel->maps.values), &fd,
				      &value), -ENOENT);
	close(fd);
	EXPECT_TRUE(EVENTUALLY(skel->bss->dead));
	EXPECT_EQ(skel->bss->got, 0);
	reserve__destroy(skel);
}

static void *come_and_go(void *arg)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct reserve *skel = arg;

	addr.sin_addr.s_addr = skel->bss->tuple.ipv4.daddr;
	addr.sin_port = skel->bss->tuple.ipv4.dport;
	for (int i = 0; i < 100 * rounds(); i++) {
		int fd = socket(AF_INET, SOCK_DGRAM, 0);

		bind(fd, (void *)&addr, sizeof(addr));
		close(fd);
	}
	return NULL;
}

TEST_F(found, a_value_outlives_its_socket_for_a_program)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0), got = 0;
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	pthread_t thread;

	ASSERT_EQ(bind(fd, (void *)&addr, sizeof(addr)), 0);
	self->skel->bss->tuple = tuple_between(-1, fd);
	close(fd);
	ASSERT_EQ(pthread_create(&thread, NULL, come_and_go, self->skel), 0);
	while (pthread_tryjoin_np(thread, NULL)) {
		ASSERT_EQ(run_on_packet(self->skel->progs.use_after_release, 1),
			  0);
		got += self->skel->bss->got;
	}
	EXPECT_GE(got, ENOUGH);
	EXPECT_EQ(self->skel->bss->torn, 0);
}

/* Races */

static void *write_numbers(void *arg)
{
	FIXTURE_DATA(found) *self = arg;
	int fd = self->skel->bss->state;
	struct numbers value = {};

	for (int i = 0; i < 100 * rounds(); i++) {
		for (int j = 0; j < ARRAY_SIZE(value.numbers); j++)
			value.numbers[j] = i;
		bpf_map_update_elem(self->map, &fd, &value, BPF_F_LOCK);
	}
	return NULL;
}

static bool is_whole(const struct numbers *value)
{
	for (int i = 1; i < ARRAY_SIZE(value->numbers); i++)
		if (value->numbers[i] != value->numbers[0])
			return false;
	return true;
}

TEST_F(found, a_locked_value_is_read_whole)
{
	struct numbers value;
	pthread_t threads[2];
	int fd = tcp_socket(), seen = 0;

	self->skel->bss->state = fd;
	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, write_numbers, self),
			  0);
	for (int turn = 0; goes_on(turn, 100 * rounds(), seen); turn++) {
		if (bpf_map_lookup_elem_flags(self->map, &fd, &value,
					      BPF_F_LOCK))
			continue;
		seen++;
		ASSERT_TRUE(is_whole(&value));
		ASSERT_EQ(value.lock, 0);
	}
	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	EXPECT_GE(seen, ENOUGH);
	close(fd);
}

struct creator {
	pthread_t thread;
	pthread_barrier_t *barrier;
	int sk, number, rounds;
	long long seen;
};

static void *create_at_once(void *arg)
{
	struct creator *creator = arg;

	for (int i = 0; i < creator->rounds; i++) {
		pthread_barrier_wait(creator->barrier);
		creator->seen = operate(creator->sk, MAIN_MAP, DO_CREATE_WITH,
					creator->number).value;
		pthread_barrier_wait(creator->barrier);
	}
	return NULL;
}

TEST_F(values, creators_agree)
{
	struct creator creators[THREADS];
	pthread_barrier_t barrier;
	int n = 10 * rounds();

	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++) {
		creators[i] = (struct creator){
			.barrier = &barrier, .sk = self->sk, .number = i + 1,
			.rounds = n,
		};
		ASSERT_EQ(pthread_create(&creators[i].thread, NULL,
					 create_at_once, &creators[i]), 0);
	}
	for (int round = 0; round < n; round++) {
		long long value;

		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		value = lookup(self->map, self->sk);
		EXPECT_GE(value, 1);
		for (int i = 0; i < THREADS; i++)
			EXPECT_EQ(creators[i].seen, value);
		EXPECT_EQ(delete(self->map, self->sk), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(creators[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
}

static bool stop_deleting;

static void *delete_often(void *arg)
{
	FIXTURE_DATA(values) *self = arg;
	long deleted = 0;

	while (!__atomic_load_n(&stop_deleting, __ATOMIC_RELAXED))
		deleted += !delete(self->map, self->sk);
	return (void *)deleted;
}

/* Each value that was made is deleted once. */
TEST_F(values, deletions_are_counted)
{
	pthread_t threads[2];
	long made = 0, deleted = 0;
	void *result;

	for (int i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, delete_often, self),
			  0);
	for (int turn = 0; goes_on(turn, 100 * rounds(), made); turn++)
		made += !update(self->map, self->sk, 1, BPF_NOEXIST);
	__atomic_store_n(&stop_deleting, true, __ATOMIC_RELAXED);
	for (int i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &result);
		deleted += (long)result;
	}
	deleted += !delete(self->map, self->sk);
	EXPECT_GE(made, ENOUGH);
	EXPECT_EQ(deleted, made);
}

TEST_HARNESS_MAIN
