// SPDX-License-Identifier: GPL-2.0
/* LSM programs: sleepable, not sleepable, and those of one cgroup. */
#include "harness.h"
#include "net.h"
#include "lsm.skel.h"

#define SOME_CGROUP	CGROUP "/local_storage_lsm"

/* Load all programs; attach those that follow a path, or the others. */
static struct lsm *start(bool paths)
{
	struct lsm *skel = lsm__open_and_load();
	struct bpf_program *prog;

	if (!skel)
		return NULL;
	skel->bss->pid = getpid();
	bpf_object__for_each_program(prog, skel->obj) {
		bool at = !strncmp(bpf_program__name(prog), "at_", 3);

		bpf_program__set_autoattach(prog, at == paths);
	}
	if (!lsm__attach(skel))
		return skel;
	lsm__destroy(skel);
	return NULL;
}

FIXTURE(lsm) {
	struct lsm *skel;
	int sk, map;
};

FIXTURE_SETUP(lsm)
{
	self->skel = start(false);
	ASSERT_NE(self->skel, NULL);
	self->map = bpf_map__fd(self->skel->maps.values);
	self->sk = tcp_socket();
}

FIXTURE_TEARDOWN(lsm)
{
	lsm__destroy(self->skel);
	close(self->sk);
}

struct value {
	__u64 bind, connect, close;
	char fill[200];
};

static struct value value_of(int map, int sk)
{
	struct value value = {};

	bpf_map_lookup_elem(map, &sk, &value);
	return value;
}

/* The hooks that a socket has been to, in their order. */
static long long path_of(int map, int sk)
{
	long long path = 0;
	int err = bpf_map_lookup_elem(map, &sk, &path);

	return err ?: path;
}

TEST_F(lsm, a_sleepable_program_has_the_helpers)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };

	ASSERT_EQ(bind(self->sk, (void *)&addr, sizeof(addr)), 0);
	EXPECT_EQ(value_of(self->map, self->sk).bind, 1);
}

/* Where nobody listens. */
static void connect_in_vain(int fd)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(1),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	connect(fd, (void *)&addr, sizeof(addr));
}

TEST_F(lsm, one_that_does_not_sleep_has_them)
{
	connect_in_vain(self->sk);
	EXPECT_EQ(value_of(self->map, self->sk).connect, 1);
}

TEST_F(lsm, fentry_has_them)
{
	shutdown(self->sk, SHUT_RDWR);
	EXPECT_EQ(value_of(self->map, self->sk).close, 1);
}

TEST_F(lsm, a_sleepable_program_deletes)
{
	struct sockaddr_in addr = {};
	socklen_t len = sizeof(addr);
	struct value value;

	connect_in_vain(self->sk);
	EXPECT_EQ(bpf_map_lookup_elem(self->map, &self->sk, &value), 0);
	getsockname(self->sk, (void *)&addr, &len);
	EXPECT_EQ(bpf_map_lookup_elem(self->map, &self->sk, &value), -ENOENT);
}

struct owner {
	__u64 task, changes;
};

/* Values that hold a task: deleted, replaced, and freed with either end. */
TEST_F(lsm, values_hold_tasks)
{
	int map = bpf_map__fd(self->skel->maps.owners), others[20];
	struct owner owner = {};
	__u64 one = 1;
	int plain = create_with(8, 0);

	ASSERT_EQ(listen(self->sk, 1), 0);
	ASSERT_EQ(listen(self->sk, 2), 0);
	ASSERT_EQ(bpf_map_lookup_elem(map, &self->sk, &owner), 0);
	EXPECT_EQ(owner.changes, 2);
	EXPECT_EQ(owner.task, 0) TH_LOG("a kernel address for userspace");
	/* An update drops the task and starts without one. */
	EXPECT_EQ(bpf_map_update_elem(map, &self->sk, &owner, 0), 0);
	ASSERT_EQ(listen(self->sk, 1), 0);
	EXPECT_EQ(bpf_map_update_elem(plain, &self->sk, &one, 0), 0);
	EXPECT_EQ(bpf_map_delete_elem(map, &self->sk), 0);
	EXPECT_EQ(bpf_map_delete_elem(plain, &self->sk), 0);
	EXPECT_EQ(optmem(self->sk), 0);
	for (int i = 0; i < ARRAY_SIZE(others); i++) {
		others[i] = tcp_socket();
		ASSERT_EQ(listen(others[i], 1), 0);
	}
	/* Half go with their sockets, half with the map. */
	for (int i = 0; i < ARRAY_SIZE(others); i += 2)
		close(others[i]);
	close(plain);
}

static void *get_peer_names(void *arg)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);

	for (int i = 0; i < 400; i++)
		getpeername(*(int *)arg, (void *)&addr, &len);
	return NULL;
}

/* A program sleeps on a value that is deleted; the debug kernel would tell. */
TEST_F(lsm, a_value_lasts_while_a_program_sleeps_on_it)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;
	int deleted = 0;

	self->skel->bss->user_page = (unsigned long)page;
	ASSERT_EQ(pthread_create(&thread, NULL, get_peer_names, &self->sk), 0);
	for (int i = 0; i < 4000; i++) {
		madvise(page, 4096, MADV_DONTNEED);
		deleted += !bpf_map_delete_elem(self->map, &self->sk);
	}
	pthread_join(thread, NULL);
	EXPECT_GT(self->skel->bss->page_reads, 0);
	EXPECT_GT(deleted, 0);
}

FIXTURE(lsm_path) {
	struct lsm *skel;
	int sk;
};

FIXTURE_SETUP(lsm_path)
{
	self->skel = start(true);
	ASSERT_NE(self->skel, NULL);
	self->sk = -1;
}

FIXTURE_TEARDOWN(lsm_path)
{
	lsm__destroy(self->skel);
	close(self->sk);
}

/* Each hook finds what the hooks before it left. */
TEST_F(lsm_path, state_survives_from_hook_to_hook)
{
	int map = bpf_map__fd(self->skel->maps.paths), client, child;
	long long empty = fdinfo_number(map, "memlock");
	char byte = 'x';

	self->sk = tcp_socket();
	client = tcp_socket();
	ASSERT_EQ(start_listening(self->sk), 0);
	ASSERT_EQ(connect_to(client, self->sk), 0);
	child = accept(self->sk, NULL, NULL);
	ASSERT_GE(child, 0);
	ASSERT_EQ(write(client, &byte, 1), 1);
	ASSERT_EQ(shutdown(client, SHUT_WR), 0);
	EXPECT_EQ(path_of(map, self->sk), PATH3(AT_CREATE, AT_BIND, AT_ACCEPT));
	EXPECT_EQ(path_of(map, client), PATH3(AT_CREATE, AT_SEND, AT_SHUTDOWN));
	/* Neither created by a call nor a copy of the listener's. */
	EXPECT_EQ(path_of(map, child), PATH1(AT_ACCEPT));
	close(child);
	close(client);
	close(self->sk);
	EXPECT_TRUE(EVENTUALLY(fdinfo_number(map, "memlock") == empty));
	self->sk = tcp_socket();
	EXPECT_EQ(path_of(map, self->sk), PATH1(AT_CREATE));
}

/* Before its first reference and after its last, a socket keeps nothing. */
TEST_F(lsm_path, unborn_and_dead_sockets_keep_nothing)
{
	struct lsm__bss *bss = self->skel->bss;
	int fd = tcp_socket();

	EXPECT_EQ(bss->unborn, 1);
	close(fd);
	EXPECT_TRUE(EVENTUALLY(bss->dead > 0));
	EXPECT_EQ(bss->unborn_got, 0);
	EXPECT_EQ(bss->dead_got, 0);
}

static const char * const cgroup_progs[] = {
	"cgroup_create", "cgroup_bind", "cgroup_clone", "cgroup_shutdown",
};

FIXTURE(lsm_cgroup) {
	struct lsm *skel;
	struct bpf_link *links[ARRAY_SIZE(cgroup_progs)];
	int cgroup, outside, map;
};

FIXTURE_SETUP(lsm_cgroup)
{
	struct bpf_program *prog;

	self->skel = lsm__open_and_load();
	ASSERT_NE(self->skel, NULL);
	self->outside = tcp_socket();
	ASSERT_EQ(mkdir(SOME_CGROUP, 0700), 0);
	self->cgroup = open(SOME_CGROUP, O_RDONLY | O_DIRECTORY);
	ASSERT_GE(self->cgroup, 0);
	for (int i = 0; i < ARRAY_SIZE(cgroup_progs); i++) {
		prog = bpf_object__find_program_by_name(self->skel->obj,
							cgroup_progs[i]);
		self->links[i] = bpf_program__attach_cgroup(prog, self->cgroup);
		ASSERT_NE(self->links[i], NULL) TH_LOG("%s", cgroup_progs[i]);
	}
	self->map = bpf_map__fd(self->skel->maps.cgroup_paths);
	ASSERT_EQ(write_file(SOME_CGROUP "/cgroup.procs", "0"), 0);
}

FIXTURE_TEARDOWN(lsm_cgroup)
{
	write_file(CGROUP "/cgroup.procs", "0");
	for (int i = 0; i < ARRAY_SIZE(cgroup_progs); i++)
		bpf_link__destroy(self->links[i]);
	lsm__destroy(self->skel);
	close(self->outside);
	close(self->cgroup);
	rmdir(SOME_CGROUP);
}

TEST_F(lsm_cgroup, state_of_the_cgroup_s_sockets)
{
	int inside = tcp_socket();

	EXPECT_EQ(path_of(self->map, inside), PATH1(AT_CREATE));
	ASSERT_EQ(start_listening(inside), 0);
	EXPECT_EQ(path_of(self->map, inside), PATH2(AT_CREATE, AT_BIND));
	/* Whose cgroup counts, the socket's or the caller's, is not asked. */
	ASSERT_EQ(write_file(CGROUP "/cgroup.procs", "0"), 0);
	ASSERT_EQ(start_listening(self->outside), 0);
	EXPECT_EQ(path_of(self->map, self->outside), -ENOENT);
	close(inside);
}

/* The map is cloned; the hook comes right after that. */
TEST_F(lsm_cgroup, a_child_has_its_copy_when_its_hook_runs)
{
	int listener = tcp_socket(), client = tcp_socket(), child;

	ASSERT_EQ(start_listening(listener), 0);
	ASSERT_EQ(connect_to(client, listener), 0);
	child = accept(listener, NULL, NULL);
	ASSERT_GE(child, 0);
	EXPECT_EQ(path_of(self->map, child),
		  PATH3(AT_CREATE, AT_BIND, AT_CLONE));
	EXPECT_EQ(path_of(self->map, listener), PATH2(AT_CREATE, AT_BIND));
	close(child);
	close(client);
	close(listener);
}

TEST_F(lsm_cgroup, a_program_of_a_cgroup_deletes)
{
	int inside = tcp_socket();

	EXPECT_EQ(path_of(self->map, inside), PATH1(AT_CREATE));
	EXPECT_GT(optmem(inside), 0);
	shutdown(inside, SHUT_RDWR);
	EXPECT_EQ(path_of(self->map, inside), -ENOENT);
	EXPECT_EQ(optmem(inside), 0);
	close(inside);
}

TEST_HARNESS_MAIN
