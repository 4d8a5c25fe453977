// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once, for $MINUTES: owners of all kinds come and go, their
 * values change, maps and programs are replaced underneath, everything is dumped
 * and iterated over, processors go offline, memory is scarce, allocations fail.
 * Afterwards all of it has to be gone, to the last byte that is counted.
 *
 * Each thread makes its choices by $SEED and its own number; what they meet is
 * up to the machine.
 */
#include "harness.h"
#include "fuzz.h"
#include "inet_diag.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "progs/stress.h"
#include "stress.skel.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define LAST_CPU	"/sys/devices/system/cpu/cpu%d/online"
#define DROP_CACHES	"/proc/sys/vm/drop_caches"
#define SOCKSTAT	"/proc/net/sockstat"

#define KINDS		ARRAY_SIZE(storage_types)
#define MAPS		12	/* of each kind */
#define OWNERS		256	/* of each kind, at most */
#define MAX_SIZE	4096
#define PRESSURE	(128 << 20)
#define MORE_MINUTES	30

enum count {
	UPDATED, FOUND, DELETED, ABSENT, REFUSED, BUSY, TORN, STRANGE,
	FOUND_IN_SOCKETS,
	BEGUN, ENDED, ACCEPTED, NOT_BEGUN,
	MAPS_FREED, RELOADED, DUMPED, DUMPED_VALUES, ITERATED, ITERATED_VALUES,
	OFFLINE, PRESSED, COUNTS
};

static const char * const names[COUNTS] = {
	"values updated", "values found", "values deleted", "values absent",
	"calls without memory", "calls refused by a lock", "values torn",
	"strange results", "values found in sockets",
	"owners begun", "owners ended", "sockets accepted", "owners not to be had",
	"maps replaced", "programs replaced", "dumps",
	"values in dumps", "iterations", "values in iterations",
	"processors offline", "times memory was taken",
};

/* Its lock serialises calls that use it against its end. */
struct map {
	pthread_rwlock_t lock;
	int fd, kind;
	__u32 size, flags;
	long long empty;
};

/* Likewise. */
struct slot {
	pthread_rwlock_t lock;
	struct storage_owner owner;
};

static struct {
	struct map maps[KINDS][MAPS];
	struct slot owners[KINDS][OWNERS];
	long counts[COUNTS];
	struct calls calls[KINDS];
	bool stop, may_fail;
	int strange;
} s;

/* Tasks and cgroups are dear. */
static const int nr_owners[KINDS] = { OWNERS, 16, 16, 64 };

static bool stopped(void)
{
	return __atomic_load_n(&s.stop, __ATOMIC_RELAXED);
}

static void add(enum count what, long n)
{
	__atomic_fetch_add(&s.counts[what], n, __ATOMIC_RELAXED);
}

/* What any call may answer here; whether it succeeded. */
static bool take(enum count success, int err)
{
	switch (err) {
	case 0:
		add(success, 1);
		return true;
	case -ENOENT:
		add(ABSENT, 1);
		return false;
	case -ENOMEM:
		add(REFUSED, 1);
		return false;
	case -EBUSY:
	case -EAGAIN:
		add(BUSY, 1);
		return false;
	default:
		s.strange = err;
		add(STRANGE, 1);
		return false;
	}
}

/* There are always readers: who writes goes first. */
static void init_lock(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
			PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

/* Maps */

static int create_map(const struct map *map)
{
	return create_kind(storage_types[map->kind], map->size, map->flags);
}

/* Of some maps of sockets, where the kernel was booted with room for them. */
static bool goes_into_sockets(int kind, int number)
{
	return !kind && number % 8 == 1 && !access(RESERVE, F_OK);
}

static bool is_in_sockets(const struct map *map)
{
	return map->flags & BPF_F_STORAGE_RESERVED;
}

static void init_map(struct map *map, int kind, int number)
{
	static const __u32 sizes[] = { 8, 16, 64, 200, 1000, MAX_SIZE };
	static const __u32 flags[] = { 0, BPF_F_STORAGE_NO_SLOT };

	init_lock(&map->lock);
	map->kind = kind;
	map->size = sizes[number % ARRAY_SIZE(sizes)];
	map->flags = goes_into_sockets(kind, number) ? BPF_F_STORAGE_RESERVED :
		     flags[number % ARRAY_SIZE(flags)];
	if (!kind && number % 3 == 0)
		map->flags |= BPF_F_CLONE;
	map->fd = create_map(map);
	map->empty = fdinfo_number(map->fd, "memlock");
}

/* The old one goes with the values that it has. */
static void replace_map(struct map *map)
{
	int old, new = create_map(map);

	if (new < 0) {
		add(REFUSED, 1);
		return;
	}
	pthread_rwlock_wrlock(&map->lock);
	old = map->fd;
	map->fd = new;
	pthread_rwlock_unlock(&map->lock);
	close(old);
	add(MAPS_FREED, 1);
}

/* Owners */

/* Where this thread's allocations are made to fail, if they are. */
static __thread int faults = -1;

static void fail_sometimes(bool sometimes)
{
	if (faults >= 0)
		pwrite(faults, sometimes ? "1" : "0", 1, 0);
}

static void begin_to_fail(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/make-it-fail",
		 syscall(SYS_gettid));
	faults = open(path, O_WRONLY);
	fail_sometimes(true);
}

/*
 * Put an owner into a place; what was there ends, with the values it has.  No
 * allocation fails then: a FIN and a RST that find no memory are never sent, and
 * the other end waits for ever.
 */
static void put_owner(struct slot *slot, struct storage_owner owner)
{
	struct storage_owner old;

	pthread_rwlock_wrlock(&slot->lock);
	old = slot->owner;
	slot->owner = owner;
	pthread_rwlock_unlock(&slot->lock);
	if (old.fd < 0)
		return;
	fail_sometimes(false);
	end_owner(&old);
	fail_sometimes(true);
	add(ENDED, 1);
}

static struct slot *any_owner(int kind)
{
	return &s.owners[kind][below(nr_owners[kind])];
}

static void begin_owner(struct slot *slot, struct storage_owner owner)
{
	if (owner.fd < 0) {
		/* Whatever of it there is. */
		end_owner(&owner);
		add(NOT_BEGUN, 1);
		owner = NO_OWNER;
	} else {
		add(BEGUN, 1);
	}
	put_owner(slot, owner);
}

static struct storage_owner new_socket(void)
{
	static const struct { int family, type; } types[] = {
		{ AF_INET, SOCK_STREAM }, { AF_INET6, SOCK_STREAM },
		{ AF_INET, SOCK_DGRAM }, { AF_INET6, SOCK_DGRAM },
		{ AF_UNIX, SOCK_STREAM }, { AF_UNIX, SOCK_DGRAM },
	};
	int i = below(ARRAY_SIZE(types));

	return (struct storage_owner){
		.fd = socket(types[i].family, types[i].type, 0),
	};
}

/* Both ends of a connection become owners; the listener's values are copied. */
static void begin_connection(int listener, int family)
{
	int client = connect_new(listener, family, 0), sk;

	if (client < 0) {
		add(NOT_BEGUN, 1);
		return;
	}
	begin_owner(any_owner(0), (struct storage_owner){ .fd = client });
	/* With those that were not, when there was no memory for it. */
	while ((sk = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (send(sk, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			add(ACCEPTED, 1);
		begin_owner(any_owner(0), (struct storage_owner){ .fd = sk });
	}
}

/* Values */

static bool is_whole(const unsigned char *value, size_t size)
{
	return !memcmp(value, value + 1, size - 1);
}

static void find_value(struct map *map, int fd)
{
	unsigned char value[MAX_SIZE];

	if (!take(FOUND, bpf_map_lookup_elem(map->fd, &fd, value)))
		return;
	if (is_in_sockets(map))
		add(FOUND_IN_SOCKETS, 1);
	else if (!is_whole(value, map->size))
		add(TORN, 1);
}

static void set_value(struct map *map, int fd)
{
	unsigned char value[MAX_SIZE];

	memset(value, below(256), map->size);
	take(UPDATED, bpf_map_update_elem(map->fd, &fd, value, BPF_ANY));
}

static void change_value(struct map *map, int fd)
{
	switch (below(4)) {
	case 0:
		find_value(map, fd);
		break;
	case 1:
		take(DELETED, bpf_map_delete_elem(map->fd, &fd));
		break;
	default:
		set_value(map, fd);
	}
}

static void change_any_value(int kind)
{
	struct map *map = &s.maps[kind][below(MAPS)];
	struct slot *slot = any_owner(kind);

	pthread_rwlock_rdlock(&map->lock);
	pthread_rwlock_rdlock(&slot->lock);
	if (slot->owner.fd >= 0)
		change_value(map, slot->owner.fd);
	pthread_rwlock_unlock(&slot->lock);
	pthread_rwlock_unlock(&map->lock);
}

static void give_listener_values(int listener)
{
	for (int i = 0; i < MAPS; i++) {
		struct map *map = &s.maps[0][i];

		if (!(map->flags & BPF_F_CLONE))
			continue;
		pthread_rwlock_rdlock(&map->lock);
		change_value(map, listener);
		pthread_rwlock_unlock(&map->lock);
	}
}

/* What threads do until they are told to stop */

/* Who never waits leaves the processor to those who have much to do at once. */
static void begin_work(void *number)
{
	fuzz_thread((long)number);
	setpriority(PRIO_PROCESS, 0, 10);
}

static void *handle_sockets(void *number)
{
	int family = (long)number % 2 ? AF_INET : AF_INET6;
	int listener = listen_on(family, 0);

	fcntl(listener, F_SETFL, O_NONBLOCK);
	begin_work(number);
	if (s.may_fail)
		begin_to_fail();
	while (!stopped()) {
		if (one_in(8))
			begin_connection(listener, family);
		else if (one_in(8))
			begin_owner(any_owner(0), new_socket());
		else if (one_in(16))
			give_listener_values(listener);
		else
			change_any_value(0);
	}
	close(listener);
	return NULL;
}

static void *handle_others(void *number)
{
	begin_work(number);
	/* Who cannot fork has no tasks: without faults. */
	while (!stopped()) {
		int kind = 1 + below(KINDS - 1);

		if (one_in(16))
			begin_owner(any_owner(kind),
				    new_owner(storage_types[kind]));
		else
			change_any_value(kind);
	}
	return NULL;
}

static void *change_values(void *number)
{
	begin_work(number);
	if (s.may_fail)
		begin_to_fail();
	while (!stopped())
		change_any_value(below(KINDS));
	return NULL;
}

static void *dump_sockets(void *number)
{
	static const int protocols[] = { IPPROTO_TCP, IPPROTO_UDP };

	fuzz_thread((long)number);
	while (!stopped()) {
		struct request r;
		struct dump dump;
		const struct nlmsghdr *nlh;
		struct found found = {};
		int left;

		ask_storage(&r, one_in(2) ? AF_INET : AF_INET6,
			    protocols[below(2)], NULL, 0);
		dump = run(&r);
		for_each_message(nlh, &dump, left) {
			found.n = 0;
			take_message(&found, nlh);
			add(DUMPED_VALUES, found.n);
		}
		take(DUMPED, dump.err);
		free(dump.data);
		usleep(1000);
	}
	return NULL;
}

static void read_slowly(int fd)
{
	char some[16];

	while (read(fd, some, sizeof(some)) > 0)
		if (one_in(64))
			usleep(100);
	close(fd);
}

static void iterate_over(struct stress *skel, struct map *map)
{
	int fd;

	if (is_in_sockets(map))
		return;
	pthread_rwlock_rdlock(&map->lock);
	fd = iter_over(skel->progs.visit, map->fd);
	pthread_rwlock_unlock(&map->lock);
	if (fd < 0) {
		take(ITERATED, fd);
		return;
	}
	skel->bss->values_seen = 0;
	read_slowly(fd);
	add(ITERATED, 1);
	add(ITERATED_VALUES, skel->bss->values_seen);
}

/* NULL, and errno, if there is none. */
static struct stress *load(bool only_visit)
{
	struct stress *skel = stress__open();
	struct bpf_program *prog;
	int err;

	if (!skel)
		return NULL;
	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, only_visit ==
					  (prog == skel->progs.visit));
	err = stress__load(skel);
	if (!err)
		return skel;
	stress__destroy(skel);
	errno = -err;
	return NULL;
}

static void *iterate(void *number)
{
	struct stress *skel;

	fuzz_thread((long)number);
	do {
		skel = load(true);
		if (!skel)
			take(ITERATED, -errno);
	} while (!skel && !stopped());
	while (!stopped())
		iterate_over(skel, &s.maps[0][below(MAPS)]);
	stress__destroy(skel);
	return NULL;
}

static bool attach(struct stress *skel, int cgroup)
{
	skel->links.on_sockops =
		bpf_program__attach_cgroup(skel->progs.on_sockops, cgroup);
	skel->links.on_ingress =
		bpf_program__attach_cgroup(skel->progs.on_ingress, cgroup);
	return skel->links.on_sockops && skel->links.on_ingress &&
	       !stress__attach(skel);
}

static void run_programs(int cgroup)
{
	struct stress *skel = load(false);

	if (!skel || !attach(skel, cgroup)) {
		take(RELOADED, -errno);
		stress__destroy(skel);
		return;
	}
	usleep(below(10000000));
	for (int i = 0; i < KINDS; i++) {
		s.calls[i].created += skel->bss->calls[i].created;
		s.calls[i].found += skel->bss->calls[i].found;
		s.calls[i].missing += skel->bss->calls[i].missing;
		s.calls[i].deleted += skel->bss->calls[i].deleted;
	}
	/* With the values that programs made and did not delete. */
	stress__destroy(skel);
	add(RELOADED, 1);
}

static void *replace_programs(void *number)
{
	int cgroup = root_cgroup();

	fuzz_thread((long)number);
	while (!stopped())
		run_programs(cgroup);
	close(cgroup);
	return NULL;
}

static void *replace_maps(void *number)
{
	fuzz_thread((long)number);
	while (!stopped()) {
		replace_map(&s.maps[below(KINDS)][below(MAPS)]);
		usleep(below(20000));
	}
	return NULL;
}

static void *take_memory(void *number)
{
	fuzz_thread((long)number);
	while (!stopped()) {
		size_t size = 1 + below(PRESSURE);
		void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
				   -1, 0);

		if (pages != MAP_FAILED)
			munmap(pages, size);
		write_file(DROP_CACHES, "2");
		add(PRESSED, 1);
		usleep(below(200000));
	}
	return NULL;
}

static void *switch_processors(void *number)
{
	char path[64];

	fuzz_thread((long)number);
	snprintf(path, sizeof(path), LAST_CPU, cpus() - 1);
	while (!stopped()) {
		if (!write_file(path, "0"))
			add(OFFLINE, 1);
		usleep(below(500000));
		write_file(path, "1");
		usleep(below(2000000));
	}
	return NULL;
}

static void *(*const work[])(void *number) = {
	handle_sockets, handle_sockets, handle_others, handle_others,
	change_values, change_values, dump_sockets, iterate, replace_programs,
	replace_maps, take_memory, switch_processors,
};

/* Of the allocations of threads that asked for it, one in a hundred. */
static bool make_some_fail(void)
{
	if (write_file(FAILSLAB "probability", "10"))
		return false;
	return !write_file(FAILSLAB "task-filter", "Y") &&
	       !write_file(FAILSLAB "ignore-gfp-wait", "N") &&
	       !write_file(FAILSLAB "verbose", "0") &&
	       !write_file(FAILSLAB "interval", "10") &&
	       !write_file(FAILSLAB "times", "-1");
}

static void stop_failing(void)
{
	write_file(FAILSLAB "probability", "0");
	write_file(FAILSLAB "times", "0");
}

static long total(enum count first, enum count last)
{
	long sum = 0;

	for (int i = first; i <= last; i++)
		sum += s.counts[i];
	return sum;
}

/* What was to be met and was not, or NULL. */
static const char *not_met(void)
{
	static const bool is_optional[COUNTS] = {
		[BUSY] = true, [TORN] = true, [STRANGE] = true, [NOT_BEGUN] = true,
	};

	for (int i = 0; i < COUNTS; i++) {
		if (is_optional[i] || (i == REFUSED && !s.may_fail) ||
		    (i == FOUND_IN_SOCKETS && access(RESERVE, F_OK)))
			continue;
		if (!s.counts[i])
			return names[i];
	}
	return NULL;
}

/* With progress; longer where some of it needs longer to be met at all. */
static void let_them_work(long minutes)
{
	long most = minutes + MORE_MINUTES;
	const char *missing = not_met();

	for (long minute = 0; minute < minutes || (missing && minute < most);
	     minute++) {
		sleep(60);
		missing = not_met();
		printf("# %ld min: %ld calls, %ld owners ended, %ld maps replaced%s%s\n",
		       minute + 1, total(UPDATED, BUSY), s.counts[ENDED],
		       s.counts[MAPS_FREED], missing ? "; not yet: " : "",
		       missing ?: "");
		fflush(stdout);
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
}

static void show(void)
{
	for (int i = 0; i < COUNTS; i++)
		printf("# %10ld %s\n", s.counts[i], names[i]);
	if (s.strange)
		printf("# the last strange result: %d\n", s.strange);
	for (int i = 0; i < KINDS; i++)
		printf("# programs, type %u: %llu created, %llu found, "
		       "%llu missing, %llu deleted\n", storage_types[i],
		       s.calls[i].created, s.calls[i].found, s.calls[i].missing,
		       s.calls[i].deleted);
}

static void begin(void)
{
	for (int kind = 0; kind < KINDS; kind++) {
		for (int i = 0; i < MAPS; i++)
			init_map(&s.maps[kind][i], kind, i);
		for (int i = 0; i < OWNERS; i++) {
			init_lock(&s.owners[kind][i].lock);
			s.owners[kind][i].owner = NO_OWNER;
		}
	}
}

static bool all_maps_empty(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < MAPS; i++)
			if (fdinfo_number(s.maps[kind][i].fd, "memlock") !=
			    s.maps[kind][i].empty)
				return false;
	return true;
}

static void close_maps(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < MAPS; i++)
			close(s.maps[kind][i].fd);
}

/* How many sockets do not get back all that they pay for. */
static int count_overcharged(void)
{
	int bad = 0, fd;

	for (int i = 0; i < nr_owners[0]; i++) {
		fd = s.owners[0][i].owner.fd;
		if (fd < 0)
			continue;
		for (int k = 0; k < MAPS; k++)
			bpf_map_delete_elem(s.maps[0][k].fd, &fd);
		/* The maps of programs are being freed. */
		bad += !EVENTUALLY(optmem(fd) == 0);
	}
	return bad;
}

static void end_owners(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < nr_owners[kind]; i++)
			put_owner(&s.owners[kind][i], NO_OWNER);
}

static int problems;

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	ksft_print_msg("not so: %s\n", what);
	problems++;
}

/* All that is counted is as it was. */
static void check_end(int objects, long long sockets)
{
	expect(!count_overcharged(), "sockets get back what they paid for");
	end_owners();
	expect(EVENTUALLY(all_maps_empty()), "maps weigh what they did");
	expect(EVENTUALLY(number_in(SOCKSTAT, "sockets: used") == sockets),
	       "there are as many sockets as before");
	close_maps();
	expect(EVENTUALLY(count_objects() == objects),
	       "there are as many maps and programs as before");
}

static void work_for(long minutes)
{
	pthread_t threads[ARRAY_SIZE(work)];

	for (long i = 0; i < ARRAY_SIZE(work); i++)
		pthread_create(&threads[i], NULL, work[i], (void *)(i + 1));
	let_them_work(minutes);
	for (int i = 0; i < ARRAY_SIZE(work); i++)
		pthread_join(threads[i], NULL);
}

/* In a process and a cgroup of its own; how much was wrong. */
static int stress(const char *cgroup)
{
	long long sockets = number_in(SOCKSTAT, "sockets: used");
	int objects = count_objects();
	const char *missing;

	expect(!enter_cgroup(cgroup), "there is a cgroup that pays");
	begin();
	s.may_fail = make_some_fail();
	work_for(fuzz_wish("MINUTES", 5));
	stop_failing();
	show();
	expect(!s.counts[STRANGE], "errors are those that are documented");
	expect(!s.counts[TORN], "values are read as they were written");
	missing = not_met();
	expect(!missing, missing);
	check_end(objects, sockets);
	return problems;
}

/* What is charged to a cgroup keeps it from going. */
static bool is_gone(void)
{
	write_file(DROP_CACHES, "3");
	return !number_in(CGROUP "/cgroup.stat", "nr_dying_descendants");
}

FIXTURE(stress) {
	struct storage_owner cgroup;
};

FIXTURE_SETUP(stress)
{
	ASSERT_EQ(network_err, 0);
	fuzz_start(0);
	write_file(CGROUP "/cgroup.subtree_control", "+memory");
	self->cgroup = new_cgroup();
	ASSERT_GE(self->cgroup.fd, 0);
}

FIXTURE_TEARDOWN(stress)
{
	stop_failing();
}

TEST_F_TIMEOUT(stress, all_at_once, GUARD)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(stress(self->cgroup.path));
	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
	end_owner(&self->cgroup);
	EXPECT_TRUE(EVENTUALLY(is_gone()))
		TH_LOG("something is still charged");
}

TEST_HARNESS_MAIN
