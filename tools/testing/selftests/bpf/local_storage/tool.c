// SPDX-License-Identifier: GPL-2.0
/* bpftool, and libbpf's probes, on maps of socket storage. */
#include "harness.h"
#include "net.h"
#include "iter.skel.h"
#include <libgen.h>
#include <sys/wait.h>

#define PIN	"/sys/fs/bpf/storage_map"
#define ITER	"/sys/fs/bpf/storage_iter"

/* What bpftool's exit status becomes of a negative errno. */
#define STATUS(err)	((unsigned char)-(err))

FIXTURE(tool) {
	struct iter *skel;
	int map, sk, status;
	char text[1 << 16];
};

FIXTURE_SETUP(tool)
{
	if (output_of_bpftool(self->text, sizeof(self->text), "version"))
		SKIP(return, "no bpftool on the PATH, nor in $BPFTOOL");
	self->map = create_with(8, place());
	ASSERT_GE(self->map, 0);
	self->sk = tcp_socket();
	ASSERT_EQ(bpf_obj_pin(self->map, PIN), 0);
}

FIXTURE_TEARDOWN(tool)
{
	iter__destroy(self->skel);
	unlink(PIN);
	unlink(ITER);
	close(self->map);
	close(self->sk);
}

static const char *directory(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);

	path[n < 0 ? 0 : n] = 0;
	return dirname(path);
}

/* An fd, byte by byte, as bpftool wants a key. */
static const char *key_of(int fd, char text[20])
{
	unsigned char byte[sizeof(fd)];

	memcpy(byte, &fd, sizeof(fd));
	sprintf(text, "%d %d %d %d", byte[0], byte[1], byte[2], byte[3]);
	return text;
}

/*
 * Run a shell command in which $T is bpftool, $ID the map's id, $SK the key of
 * the socket, which the command inherits, $OUT that of its stdout, and $DIR where
 * the objects are.
 * Returns its exit status; what it prints goes to text.
 */
static int shell(const char *command, int map, int sk, char *text, size_t size)
{
	char line[4096], path[512], of_sk[20], of_stdout[20];
	FILE *pipe;
	size_t n;

	snprintf(line, sizeof(line),
		 "T=%s ID=%u SK='%s' OUT='%s' DIR=%s; { %s; } 2>&1", bpftool(),
		 id_of(map), key_of(sk, of_sk), key_of(1, of_stdout),
		 directory(path, sizeof(path)), command);
	text[0] = 0;
	pipe = popen(line, "r");
	if (!pipe)
		return -errno;
	n = fread(text, 1, size - 1, pipe);
	text[n] = 0;
	return WEXITSTATUS(pclose(pipe));
}

struct step {
	const char *command;
	int status;
	const char *text;	/* part of what is printed */
};

#define SHELL(command, map)						\
	shell(command, map, self->sk, self->text, sizeof(self->text))
#define DO(steps) do {							\
	for (int s = 0; s < ARRAY_SIZE(steps); s++) {			\
		EXPECT_EQ(SHELL(steps[s].command, self->map),		\
			  steps[s].status)				\
			TH_LOG("%s: %s", steps[s].command, self->text);	\
		EXPECT_NE(strstr(self->text, steps[s].text), NULL)	\
			TH_LOG("%s: %s", steps[s].command, self->text);	\
	}								\
} while (0)

TEST_F(tool, map_show_knows_it)
{
	__u32 flags = BPF_F_NO_PREALLOC | place();
	char plain[128], json[128];
	struct step steps[] = {
		{ "$T map show id $ID", 0, plain },
		{ "$T map show pinned " PIN, 0, ": sk_storage  name storage" },
		{ "$T -j map show pinned " PIN, 0, json },
		{ "$T -j map show id $ID", 0, "\"frozen\":0,\"btf_id\":" },
		{ "$T btf dump map id $ID", 0,
		  "[1] INT 'int' size=4 bits_offset=0 nr_bits=32" },
		{ "$T map freeze id $ID", 0, "" },
		{ "$T map show id $ID", 0, "frozen" },
		{ "$T map update id $ID key $SK value 1 0 0 0 0 0 0 0",
		  STATUS(1), "update failed: Operation not permitted" },
	};

	snprintf(plain, sizeof(plain),
		 ": sk_storage  name storage  flags %#x\n"
		 "\tkey 4B  value 8B  max_entries 0  memlock ", flags);
	snprintf(json, sizeof(json),
		 "\"type\":\"sk_storage\",\"name\":\"storage\",\"flags\":%d,"
		 "\"bytes_key\":4,\"bytes_value\":8,\"max_entries\":0,"
		 "\"bytes_memlock\":", flags);
	DO(steps);
}

/* There is no next key, so a dump shows nothing, and says so. */
TEST_F(tool, map_dump_has_no_keys)
{
	struct step steps[] = {
		{ "$T map dump id $ID", STATUS(ENOTSUPP), "[]\n" },
		{ "$T map dump pinned " PIN, STATUS(ENOTSUPP), "[]\n" },
		{ "$T -j map dump id $ID", STATUS(ENOTSUPP), "[]" },
		{ "$T map getnext id $ID", STATUS(ENOTSUPP),
		  "can't get next key: Unknown error 524" },
		{ "$T map getnext id $ID key $SK", STATUS(ENOTSUPP),
		  "can't get next key: Unknown error 524" },
		{ "$T map pop id $ID", STATUS(ENOTSUPP), "pop failed" },
	};
	__u64 value = 1;

	ASSERT_EQ(bpf_map_update_elem(self->map, &self->sk, &value, 0), 0);
	DO(steps);
}

#define VALUE " value 9 0 0 0 0 0 0 0"

TEST_F(tool, elements_are_there_by_inherited_fd)
{
	struct step steps[] = {
		{ "$T map lookup id $ID key $SK", STATUS(ENOENT),
		  "Not found" },
		{ "$T map update id $ID key $SK" VALUE " exist",
		  STATUS(ENOENT), "update failed: No such file" },
		{ "$T map update id $ID key $SK" VALUE, 0, "" },
		{ "$T map update id $ID key $SK" VALUE " noexist",
		  STATUS(EEXIST), "update failed: File exists" },
		{ "$T -j map lookup id $ID key $SK", 0,
		  "\"value\":[\"0x09\",\"0x00\",\"0x00\",\"0x00\",\"0x00\","
		  "\"0x00\",\"0x00\",\"0x00\"]" },
		{ "$T map lookup pinned " PIN " key $SK", 0, "[0x9," },
		{ "$T map delete id $ID key $SK", 0, "" },
		{ "$T map delete id $ID key $SK", STATUS(ENOENT),
		  "delete failed: No such file" },
		{ "$T map lookup id $ID key 200 0 0 0", STATUS(EBADF),
		  "lookup failed: Bad file descriptor" },
		{ "$T map update id $ID key 200 0 0 0" VALUE, STATUS(EBADF),
		  "update failed: Bad file descriptor" },
		{ "$T map lookup id $ID key $OUT", STATUS(ENOTSOCK),
		  "lookup failed: Socket operation on non-socket" },
		{ "$T map delete id $ID key $OUT", STATUS(ENOTSOCK),
		  "delete failed: Socket operation on non-socket" },
	};

	DO(steps);
	EXPECT_EQ(optmem(self->sk), 0);
}

/* It has no types to give, and a map without types is refused. */
TEST_F(tool, map_create_makes_one)
{
	struct step steps[] = {
		{ "$T map create " ITER " type sk_storage key 4 value 8 "
		  "entries 0 name x flags 1", STATUS(1),
		  "map create failed: Invalid argument" },
	};

	DO(steps);
}

TEST_F(tool, an_iterator_can_be_pinned)
{
	__u64 value = 4711, cookie = 0;
	socklen_t len = sizeof(cookie);
	char line[64];

	ASSERT_EQ(bpf_map_update_elem(self->map, &self->sk, &value, 0), 0);
	if (place()) {
		EXPECT_NE(SHELL("$T iter pin $DIR/iter.bpf.o " ITER
				" map id $ID", self->map), 0);
		/* By libbpf, which names errors in words or not. */
		EXPECT_TRUE(strstr(self->text, "Operation not supported") ||
			    strstr(self->text, "-EOPNOTSUPP"))
			TH_LOG("%s", self->text);
		return;
	}
	ASSERT_EQ(SHELL("$T iter pin $DIR/iter.bpf.o " ITER " map id $ID",
			self->map), 0) TH_LOG("%s", self->text);
	getsockopt(self->sk, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	snprintf(line, sizeof(line), "%llu 4711\n", cookie);
	/* As often as one likes. */
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(SHELL("cat " ITER, self->map), 0);
		EXPECT_STREQ(self->text, line);
	}
	SHELL("$T link show pinned " ITER, self->map);
	snprintf(line, sizeof(line), "target_name bpf_sk_storage_map  map_id %u",
		 id_of(self->map));
	EXPECT_NE(strstr(self->text, line), NULL) TH_LOG("%s", self->text);
	/* The pin is what holds the map. */
	EXPECT_EQ(unlink(PIN), 0);
	close(self->map);
	self->map = -1;
	EXPECT_EQ(SHELL("cat " ITER " | cut -d ' ' -f 2", -1), 0);
	EXPECT_STREQ(self->text, "4711\n");
	unlink(ITER);
	EXPECT_TRUE(EVENTUALLY(!optmem(self->sk)));
}

TEST_F(tool, an_iterator_takes_a_map)
{
	EXPECT_NE(SHELL("$T iter pin $DIR/iter.bpf.o " ITER, self->map), 0);
	EXPECT_NE(strstr(self->text, "attach_iter failed"), NULL)
		TH_LOG("%s", self->text);
}

TEST_F(tool, prog_show_names_the_map)
{
	char ids[64];

	self->skel = iter__open_and_load();
	ASSERT_NE(self->skel, NULL);
	ASSERT_EQ(SHELL("$T -j prog show name at_udp", self->map), 0);
	EXPECT_NE(strstr(self->text, "\"type\":\"tracing\",\"name\":\"at_udp\""),
		  NULL) TH_LOG("%s", self->text);
	snprintf(ids, sizeof(ids), "%u",
		 id_of(bpf_map__fd(self->skel->maps.values)));
	EXPECT_NE(strstr(strstr(self->text, "map_ids") ?: "", ids), NULL)
		TH_LOG("%s", self->text);
}

/* Per program type, in the order in which they are probed. */
struct type_helpers {
	enum bpf_prog_type type;
	bool get, delete;
};

/*
 * Not here: types of which libbpf cannot tell, and syscall, netfilter and
 * lirc_mode2, of which it believes that they have every helper.
 */
static const struct type_helpers types[] = {
	{ BPF_PROG_TYPE_SOCKET_FILTER },
	{ BPF_PROG_TYPE_KPROBE },
	{ BPF_PROG_TYPE_SCHED_CLS, true, true },
	{ BPF_PROG_TYPE_SCHED_ACT, true, true },
	{ BPF_PROG_TYPE_TRACEPOINT },
	{ BPF_PROG_TYPE_XDP },
	{ BPF_PROG_TYPE_PERF_EVENT },
	{ BPF_PROG_TYPE_CGROUP_SKB, true, true },
	{ BPF_PROG_TYPE_CGROUP_SOCK, true, false },
	{ BPF_PROG_TYPE_LWT_IN },
	{ BPF_PROG_TYPE_LWT_OUT },
	{ BPF_PROG_TYPE_LWT_XMIT },
	{ BPF_PROG_TYPE_SOCK_OPS, true, true },
	{ BPF_PROG_TYPE_SK_SKB },
	{ BPF_PROG_TYPE_CGROUP_DEVICE },
	{ BPF_PROG_TYPE_SK_MSG, true, true },
	{ BPF_PROG_TYPE_RAW_TRACEPOINT },
	{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, true, true },
	{ BPF_PROG_TYPE_LWT_SEG6LOCAL },
	{ BPF_PROG_TYPE_SK_REUSEPORT },
	{ BPF_PROG_TYPE_FLOW_DISSECTOR },
	{ BPF_PROG_TYPE_CGROUP_SYSCTL },
	{ BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE },
	{ BPF_PROG_TYPE_CGROUP_SOCKOPT, true, true },
	{ BPF_PROG_TYPE_SK_LOOKUP },
};

TEST(libbpf_probes)
{
	EXPECT_EQ(libbpf_probe_bpf_map_type(BPF_MAP_TYPE_SK_STORAGE, NULL), 1);
	for (int i = 0; i < ARRAY_SIZE(types); i++) {
		EXPECT_EQ(libbpf_probe_bpf_helper(types[i].type,
						  BPF_FUNC_sk_storage_get,
						  NULL), types[i].get)
			TH_LOG("type %d", types[i].type);
		EXPECT_EQ(libbpf_probe_bpf_helper(types[i].type,
						  BPF_FUNC_sk_storage_delete,
						  NULL), types[i].delete)
			TH_LOG("type %d", types[i].type);
	}
}

/* The lines of one type end where those of the next begin. */
static bool lists(const char *text, enum bpf_prog_type type, const char *helper)
{
	char wanted[128];
	const char *begin, *end, *found;

	snprintf(wanted, sizeof(wanted),
		 "eBPF helpers supported for program type %s:",
		 libbpf_bpf_prog_type_str(type));
	begin = strstr(text, wanted);
	if (!begin)
		return false;
	snprintf(wanted, sizeof(wanted), "\t- %s\n", helper);
	end = strstr(begin + 1, "eBPF helpers supported") ?:
	      begin + strlen(begin);
	found = strstr(begin, wanted);
	return found && found < end;
}

TEST_F(tool, feature_probe_finds_it)
{
	ASSERT_EQ(SHELL("$T feature probe kernel |"
			"grep -e 'helpers supp' -e bpf_sk_s -e 'pe sk_stor'",
			self->map), 0) TH_LOG("%s", self->text);
	EXPECT_NE(strstr(self->text, "eBPF map_type sk_storage is available"),
		  NULL);
	for (int i = 0; i < ARRAY_SIZE(types); i++) {
		EXPECT_EQ(lists(self->text, types[i].type,
				"bpf_sk_storage_get"), types[i].get)
			TH_LOG("type %d", types[i].type);
		EXPECT_EQ(lists(self->text, types[i].type,
				"bpf_sk_storage_delete"), types[i].delete)
			TH_LOG("type %d", types[i].type);
	}
}

TEST_HARNESS_MAIN
