// SPDX-License-Identifier: GPL-2.0
/* bpf(2) on maps of every kind, with whatever a caller may come up with. */
#include "harness.h"
#include "net.h"
#include "fuzz.h"
#include <linux/if_ether.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MAPS		12
#define MAX_SIZE	65407
#define BEYOND		(1 << 20)

/* In the order of storage_types[]. */
enum kind { SOCKET, TASK, CGROUP_, INODE, KINDS };

/* What is a key, and what it stands for. */

enum {
	NEW_TASK = -100, SELF, DEAD_TASK, NEW_CGROUP, ROOT_CGROUP, DEAD_CGROUP,
	CGROUP_FILE, TMPFILE, MEMFD, NULL_DEVICE, DIRECTORY, BY_PATH, PIPE,
	EVENTFD, EPOLL, A_MAP, TYPES, COPY, CLOSED,
};

static const struct {
	const char *name;
	int family, type, protocol;
} sources[] = {
	{ "tcp", AF_INET, SOCK_STREAM },
	{ "tcp6", AF_INET6, SOCK_STREAM },
	{ "udp", AF_INET, SOCK_DGRAM },
	{ "udp6", AF_INET6, SOCK_DGRAM },
	{ "raw", AF_INET, SOCK_RAW, IPPROTO_ICMP },
	{ "unix", AF_UNIX, SOCK_STREAM },
	{ "unix datagram", AF_UNIX, SOCK_DGRAM },
	{ "netlink", AF_NETLINK, SOCK_RAW },
	{ "packet", AF_PACKET, SOCK_RAW },
	{ "sctp", AF_INET, SOCK_STREAM, IPPROTO_SCTP },
	{ "mptcp", AF_INET, SOCK_STREAM, IPPROTO_MPTCP },
	{ "copy of tcp", COPY, 0 },
	{ "task", NEW_TASK }, { "another task", NEW_TASK }, { "self", SELF },
	{ "dead task", DEAD_TASK }, { "copy of a task", COPY, 12 },
	{ "cgroup", NEW_CGROUP }, { "another cgroup", NEW_CGROUP },
	{ "root cgroup", ROOT_CGROUP }, { "dead cgroup", DEAD_CGROUP },
	{ "file of a cgroup", CGROUP_FILE }, { "copy of a cgroup", COPY, 17 },
	{ "file", TMPFILE }, { "another file", TMPFILE }, { "memfd", MEMFD },
	{ "device", NULL_DEVICE }, { "directory", DIRECTORY },
	{ "path", BY_PATH }, { "pipe", PIPE }, { "eventfd", EVENTFD },
	{ "epoll", EPOLL }, { "map", A_MAP }, { "types", TYPES },
	{ "copy of a file", COPY, 23 },
	{ "closed", CLOSED, 12345 }, { "-1", CLOSED, -1 },
	{ "least", CLOSED, -0x7fffffff - 1 }, { "most", CLOSED, 0x7fffffff },
};

#define TARGETS	ARRAY_SIZE(sources)

struct target {
	struct storage_owner owner;
	/* Who has the values of each kind, and why there are none. */
	int same_as[KINDS], err[KINDS];
	__u32 charged;		/* before it has any */
};

static bool is_socket(int i)
{
	return sources[i].family >= 0;
}

static struct storage_owner end_of(struct storage_owner owner)
{
	int fd = dup(owner.fd);

	end_owner(&owner);
	return (struct storage_owner){ .fd = fd };
}

static int open_pipe(void)
{
	int fds[2];

	if (pipe(fds))
		return -1;
	close(fds[1]);
	return fds[0];
}

static int new_types(void)
{
	struct btf *btf = types_for(8);
	int fd = dup(spec_for(btf, 8).btf_fd);

	btf__free(btf);
	return fd;
}

static int open_fd(const struct target *targets, int i)
{
	switch (sources[i].family) {
	case SELF:
		return pidfd_open(getpid(), 0);
	case ROOT_CGROUP:
		return root_cgroup();
	case CGROUP_FILE:
		return open(CGROUP "/cgroup.procs", O_RDONLY);
	case TMPFILE:
		return open("/tmp", O_TMPFILE | O_RDWR, 0600);
	case MEMFD:
		return memfd_create("target", 0);
	case NULL_DEVICE:
		return open("/dev/null", O_RDONLY);
	case DIRECTORY:
		return open("/tmp", O_RDONLY | O_DIRECTORY);
	case BY_PATH:
		return open("/", O_PATH);
	case PIPE:
		return open_pipe();
	case EVENTFD:
		return eventfd(0, 0);
	case EPOLL:
		return epoll_create1(0);
	case A_MAP:
		return create_with(8, 0);
	case TYPES:
		return new_types();
	case COPY:
		return dup(targets[sources[i].type].owner.fd);
	case CLOSED:
		return sources[i].type;
	default:
		return socket(sources[i].family, sources[i].type,
			      sources[i].protocol);
	}
}

static void open_target(struct target *targets, int i)
{
	struct storage_owner *owner = &targets[i].owner;

	switch (sources[i].family) {
	case NEW_TASK:
		*owner = new_task();
		break;
	case DEAD_TASK:
		*owner = end_of(new_task());
		break;
	case NEW_CGROUP:
		*owner = new_cgroup();
		break;
	case DEAD_CGROUP:
		*owner = end_of(new_cgroup());
		break;
	default:
		*owner = (struct storage_owner){ .fd = open_fd(targets, i) };
		break;
	}
	targets[i].charged = is_socket(i) ? optmem(owner->fd) : 0;
}

/* The error of a key of that kind. */
static int error_of(const struct target *targets, int i, enum kind kind)
{
	int source = sources[i].family;

	if (targets[i].owner.fd < 0 || source == CLOSED)
		return -EBADF;
	if (source == COPY) {
		source = sources[sources[i].type].family;
		i = sources[i].type;
	}
	switch (kind) {
	case SOCKET:
		return is_socket(i) ? 0 :
		       source == BY_PATH ? -EBADF : -ENOTSOCK;
	case TASK:
		if (source == DEAD_TASK)
			return -ENOENT;
		return source == NEW_TASK || source == SELF ? 0 : -EBADF;
	case CGROUP_:
		if (source == DEAD_CGROUP)
			return -ENOENT;
		return source == NEW_CGROUP || source == ROOT_CGROUP ? 0 :
								       -EBADF;
	default:
		return 0;
	}
}

static bool same_inode(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static int first_with_inode(const struct target *targets, int i)
{
	int first = 0;

	while (first < i && !same_inode(targets[first].owner.fd,
					targets[i].owner.fd))
		first++;
	return first;
}

static void know_target(struct target *targets, int i)
{
	for (int kind = 0; kind < KINDS; kind++) {
		targets[i].err[kind] = error_of(targets, i, kind);
		targets[i].same_as[kind] =
			sources[i].family == COPY ? sources[i].type : i;
	}
	targets[i].same_as[INODE] = first_with_inode(targets, i);
}

/* Nothing else stands for what it stands for. */
static bool is_renewable(int i)
{
	switch (sources[i].family) {
	case TMPFILE:
	case NEW_TASK:
	case NEW_CGROUP:
		/* The first of its kind has a copy. */
		return sources[i - 1].family == sources[i].family;
	default:
		return is_socket(i) && i;
	}
}

/* Maps, and what was put into them. */

struct content {
	bool there;
	__u64 number;
};

struct map {
	int fds[3];		/* to read and write, to read, to write */
	enum kind kind;
	__u32 size;
	bool has_lock, has_pointer, frozen;
	struct content of[TARGETS];
};

enum { BOTH, READ, WRITE };

/* A lock, a pointer to a task, and more. */
static struct btf *types_with(bool lock, bool pointer, __u32 size)
{
	struct btf *btf = btf__new_empty();
	int chars, id, type, u32;

	btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	u32 = btf__add_int(btf, "unsigned int", 4, 0);
	chars = btf__add_int(btf, "char", 1, BTF_INT_CHAR);
	type = btf__add_struct(btf, "task_struct", 4);
	btf__add_field(btf, "some", u32, 0, 0);
	id = btf__add_type_tag(btf, "kptr", type);
	type = btf__add_ptr(btf, id);
	id = btf__add_struct(btf, "bpf_spin_lock", 4);
	btf__add_field(btf, "val", u32, 0, 0);
	u32 = btf__add_array(btf, 1, chars, size - 16);
	btf__add_struct(btf, "value", size);
	if (lock)
		btf__add_field(btf, "lock", id, 0, 0);
	if (pointer)
		btf__add_field(btf, "task", type, 64, 0);
	btf__add_field(btf, "more", u32, 128, 0);
	return btf;
}

static __u32 any_size(void)
{
	static const __u32 sizes[] = {
		1, 3, 8, 8, 8, 24, 64, 255, 256, 257, 1000, 4096, 7000,
		MAX_SIZE,
	};
	__u32 size = sizes[below(ARRAY_SIZE(sizes))];

	return has_room_for(size) ? size : 8;
}

static int another_fd(int map, __u32 flags)
{
	LIBBPF_OPTS(bpf_get_fd_by_id_opts, opts, .open_flags = flags);

	return bpf_map_get_fd_by_id_opts(id_of(map), &opts);
}

static void close_map(struct map *map)
{
	for (int i = 0; i < ARRAY_SIZE(map->fds); i++)
		close(map->fds[i]);
}

/* One that has all that it needs: the result, and the map in place of another. */
static int new_map(struct map *map, enum kind kind)
{
	struct map new = { .kind = kind, .size = any_size() };
	bool without_slot = one_in(4);
	struct btf *btf;
	struct spec spec;
	int fd;

	new.has_lock = new.size >= 24 && one_in(2);
	new.has_pointer = new.size >= 24 && one_in(3);
	if (new.has_lock || new.has_pointer)
		btf = types_with(new.has_lock, new.has_pointer, new.size);
	else
		btf = types_for(new.size);
	spec = spec_for(btf, new.size);
	spec.type = storage_types[new.kind];
	spec.flags |= one_in(4) ? BPF_F_CLONE : 0;
	if (without_slot && !is_stock())
		spec.flags |= BPF_F_STORAGE_NO_SLOT;
	fd = create(&spec);
	btf__free(btf);
	if (fd < 0)
		return fd;
	close_map(map);
	new.fds[BOTH] = fd;
	new.fds[READ] = another_fd(fd, BPF_F_RDONLY);
	new.fds[WRITE] = another_fd(fd, BPF_F_WRONLY);
	*map = new;
	return 0;
}

/* What userspace does not see of a value. */
static void hide(const struct map *map, char *value)
{
	if (map->has_lock)
		memset(value, 0, 4);
	if (map->has_pointer)
		memset(value + 8, 0, 8);
}

/* The run */

FIXTURE(commands) {
	struct target targets[TARGETS];
	struct map maps[MAPS];
	struct memory keys, values;
	char *scratch;
	int objects;
	bool may_create;
	char optmem_max[16];
};

FIXTURE_VARIANT(commands) {
	const char *optmem_max;
	bool in_user_namespace;
};

FIXTURE_VARIANT_ADD(commands, as_root) { "1000000000" };
FIXTURE_VARIANT_ADD(commands, as_root_with_little_room) { "4000" };
FIXTURE_VARIANT_ADD(commands, in_a_user_namespace) { "1000000000", true };

#define TESTED	FIXTURE_DATA(commands)

FIXTURE_SETUP(commands)
{
	struct target *targets = self->targets;
	int fd = open(OPTMEM_MAX, O_RDONLY);

	fuzz_start(3000);
	fuzz_next();
	ASSERT_GT(read(fd, self->optmem_max, sizeof(self->optmem_max) - 1), 0);
	close(fd);
	ASSERT_EQ(write_file(OPTMEM_MAX, variant->optmem_max), 0);
	ASSERT_EQ(new_memory(&self->keys, 4096), 0);
	ASSERT_EQ(new_memory(&self->values, MAX_SIZE + 4096), 0);
	self->scratch = malloc(MAX_SIZE);
	self->objects = count_objects();
	for (int i = 0; i < TARGETS; i++) {
		open_target(targets, i);
		know_target(targets, i);
		ASSERT_TRUE(targets[i].owner.fd >= 0 ||
			    sources[i].family == CLOSED)
			TH_LOG("%s", sources[i].name);
	}
	for (int i = 0; i < MAPS; i++) {
		memset(self->maps[i].fds, -1, sizeof(self->maps[i].fds));
		ASSERT_EQ(new_map(&self->maps[i], i % KINDS), 0);
	}
}

static bool is_uncharged(const TESTED *self)
{
	for (int i = 0; i < TARGETS; i++)
		if (is_socket(i) && self->targets[i].owner.fd >= 0 &&
		    optmem(self->targets[i].owner.fd) !=
		    self->targets[i].charged)
			return false;
	return true;
}

static void end_everything(TESTED *self)
{
	for (int i = 0; i < MAPS; i++)
		close_map(&self->maps[i]);
}

FIXTURE_TEARDOWN(commands)
{
	write_file(OPTMEM_MAX, self->optmem_max);
	for (int i = 0; i < TARGETS; i++)
		if (sources[i].family != CLOSED)
			end_owner(&self->targets[i].owner);
}

/* A call, with what may be wrong with it. */
struct call {
	union bpf_attr attr;
	__u32 size;
	struct errors errors;
	struct map *map;
	struct target *target;
	struct content *content;
	enum place key, value;
};

static int call_bpf(int cmd, void *attr, __u32 size)
{
	return syscall(SYS_bpf, cmd, attr, size) < 0 ? -errno : 0;
}

/* What is wrong with the call's attributes as a whole. */
static int run_call(struct call *call, int cmd)
{
	static char large[8192];
	void *attr = &call->attr;

	fuzz_bytes(attr, call->size);
	if (!one_in(32))
		return call_bpf(cmd, attr, call->size);
	switch (below(4)) {
	case 0:
		may_fail(&call->errors, -EFAULT);
		return call_bpf(cmd, (void *)8, call->size);
	case 1:
		memcpy(large, attr, sizeof(call->attr));
		memset(large + sizeof(call->attr), 0, 64);
		large[sizeof(call->attr) + below(64)] = 1;
		may_fail(&call->errors, -E2BIG);
		return call_bpf(cmd, large, sizeof(call->attr) + 64);
	case 2:
		may_fail(&call->errors, -E2BIG);
		return call_bpf(cmd, large, 4097 + below(4000));
	default:
		memcpy(large, attr, sizeof(call->attr));
		memset(large + sizeof(call->attr), 0, 64);
		/* The kernel may know of less, or of more. */
		return call_bpf(cmd, large, sizeof(call->attr) + below(64));
	}
}

/* An fd for the call's map, or something else. */
static int map_fd(TESTED *self, struct call *call, bool reads, bool writes)
{
	int which = one_in(8) ? below(3) : BOTH, i;

	if (one_in(24)) {
		i = below(TARGETS);
		if (sources[i].family == A_MAP)
			i--;
		may_fail(&call->errors, self->targets[i].err[SOCKET] == -EBADF ?
					-EBADF : -EINVAL);
		return self->targets[i].owner.fd;
	}
	if ((which == READ && writes) || (which == WRITE && reads) ||
	    (writes && call->map->frozen))
		may_fail(&call->errors, -EPERM);
	return call->map->fds[which];
}

static void begin_call(TESTED *self, struct call *call)
{
	int i = below(TARGETS);

	memset(call, 0, sizeof(*call));
	call->size = sizeof(call->attr);
	call->map = &self->maps[below(MAPS)];
	/* Half of the keys are of the right kind. */
	for (int n = below(16); n && self->targets[i].err[call->map->kind]; n--)
		i = below(TARGETS);
	call->target = &self->targets[i];
	call->content = &call->map->of[call->target->same_as[call->map->kind]];
	call->key = any_place();
	call->value = any_place();
}

static __u64 put_key(TESTED *self, struct call *call)
{
	int *key = source_in(&self->keys, call->key, sizeof(*key));

	memcpy(key, &call->target->owner.fd, sizeof(*key));
	if (!is_readable(call->key))
		may_fail(&call->errors, -EFAULT);
	return (unsigned long)place_in(&self->keys, call->key, sizeof(*key));
}

static __u64 put_value(TESTED *self, struct call *call, bool writes)
{
	if (call->map->size < 2 && call->value == STRADDLING)
		call->value = UNMAPPED;
	if (!(writes ? is_writable(call->value) : is_readable(call->value)))
		may_fail(&call->errors, -EFAULT);
	return (unsigned long)place_in(&self->values, call->value,
				       call->map->size);
}

static void may_lack_key(struct call *call)
{
	int err = call->target->err[call->map->kind];

	if (err)
		may_fail(&call->errors, err);
}

static __u64 any_flags(const struct call *call)
{
	bool may_lock = one_in(call->map->has_lock ? 2 : 24);
	__u64 mode = one_in(2) ? below(3) : BPF_ANY;

	/* The least that is wrong, and the next bit. */
	if (one_in(24))
		mode = one_in(2) ? BPF_EXIST + 1 : BPF_F_LOCK << 1;
	return one_in(24) ? odd_number() : mode | (may_lock ? BPF_F_LOCK : 0);
}

/* Fields of other commands are to be zero. */
static void spoil_rest(struct call *call, size_t used)
{
	char *bytes = (void *)&call->attr;

	if (!one_in(32))
		return;
	bytes[used + below(sizeof(call->attr) - used)] = 1;
	may_fail(&call->errors, -EINVAL);
}

#define USED(field)	(offsetof(union bpf_attr, field) +		\
			 sizeof(((union bpf_attr *)NULL)->field))

static const char *describe(const struct call *call, const char *what)
{
	static const char * const kinds[] = {
		"sockets", "tasks", "cgroups", "inodes"
	};
	static char text[160];

	snprintf(text, sizeof(text), "%s, map of %s, %u bytes%s%s%s, key %d, %s",
		 what, kinds[call->map->kind], call->map->size,
		 call->map->has_lock ? ", lock" : "",
		 call->map->has_pointer ? ", pointer" : "",
		 call->map->frozen ? ", frozen" : "", call->target->owner.fd,
		 call->content->there ? "there" : "not there");
	return text;
}

static void do_lookup(TESTED *self)
{
	struct call call;
	char *value;
	int result;

	begin_call(self, &call);
	call.attr.map_fd = map_fd(self, &call, true, false);
	call.attr.key = put_key(self, &call);
	call.attr.value = put_value(self, &call, true);
	call.attr.flags = any_flags(&call) & (one_in(8) ? ~0 : BPF_F_LOCK);
	if (call.attr.flags & ~(__u64)BPF_F_LOCK ||
	    (call.attr.flags && !call.map->has_lock))
		may_fail(&call.errors, -EINVAL);
	spoil_rest(&call, USED(flags));
	may_lack_key(&call);
	if (!call.content->there)
		may_fail(&call.errors, -ENOENT);
	value = source_in(&self->values, call.value, call.map->size);
	memset(value, 0xa5, call.map->size);
	result = run_call(&call, BPF_MAP_LOOKUP_ELEM);
	if (!expect_result(&call.errors, result, describe(&call, "lookup")) ||
	    result)
		return;
	fill(self->scratch, call.map->size, call.content->number);
	hide(call.map, self->scratch);
	if (memcmp(self->scratch, value, call.map->size))
		complain("%s: not the value that was put there",
			 describe(&call, "lookup"));
}

static void do_update(TESTED *self, bool little_room)
{
	__u64 number = any(), mode;
	struct call call;
	int result;

	begin_call(self, &call);
	call.attr.map_fd = map_fd(self, &call, false, true);
	call.attr.key = put_key(self, &call);
	call.attr.value = put_value(self, &call, false);
	call.attr.flags = any_flags(&call);
	mode = call.attr.flags & ~(__u64)BPF_F_LOCK;
	if (mode > BPF_EXIST ||
	    (call.attr.flags & BPF_F_LOCK && !call.map->has_lock))
		may_fail(&call.errors, -EINVAL);
	spoil_rest(&call, USED(flags));
	may_lack_key(&call);
	if (mode == BPF_NOEXIST && call.content->there)
		may_fail(&call.errors, -EEXIST);
	if (mode == BPF_EXIST && !call.content->there)
		may_fail(&call.errors, -ENOENT);
	fill(source_in(&self->values, call.value, call.map->size),
	     call.map->size, number);
	result = run_call(&call, BPF_MAP_UPDATE_ELEM);
	if (little_room && call.map->kind == SOCKET && result == -ENOMEM)
		return;
	/* What is given back after grace periods may be too much. */
	if (result == -ENOMEM)
		result = PATIENTLY(call_bpf(BPF_MAP_UPDATE_ELEM, &call.attr,
					    call.size));
	if (expect_result(&call.errors, result, describe(&call, "update")) &&
	    !result)
		*call.content = (struct content){ true, number };
}

static void do_delete(TESTED *self)
{
	struct call call;
	int result;

	begin_call(self, &call);
	call.attr.map_fd = map_fd(self, &call, false, true);
	call.attr.key = put_key(self, &call);
	spoil_rest(&call, USED(key));
	may_lack_key(&call);
	if (!call.content->there)
		may_fail(&call.errors, -ENOENT);
	result = run_call(&call, BPF_MAP_DELETE_ELEM);
	if (expect_result(&call.errors, result, describe(&call, "delete")) &&
	    !result)
		call.content->there = false;
}

/* There are none of these, whatever is asked for. */
static void do_missing(TESTED *self)
{
	static const struct { int cmd; bool reads, writes; } commands[] = {
		{ BPF_MAP_GET_NEXT_KEY, true },
		{ BPF_MAP_LOOKUP_AND_DELETE_ELEM, true, true },
		{ BPF_MAP_LOOKUP_BATCH, true },
		{ BPF_MAP_LOOKUP_AND_DELETE_BATCH, true, true },
		{ BPF_MAP_UPDATE_BATCH, false, true },
		{ BPF_MAP_DELETE_BATCH, false, true },
	};
	int i = below(ARRAY_SIZE(commands));
	struct call call;
	int fd;

	begin_call(self, &call);
	fd = map_fd(self, &call, commands[i].reads, commands[i].writes);
	may_fail(&call.errors, -ENOTSUPP);
	if (i >= 2) {
		call.attr.batch.map_fd = fd;
		call.attr.batch.keys = odd_number();
		call.attr.batch.values = odd_number();
		call.attr.batch.in_batch = odd_number();
		call.attr.batch.out_batch = odd_number();
		call.attr.batch.count = odd_number();
		call.attr.batch.elem_flags = any_flags(&call);
		call.attr.batch.flags = any_flags(&call);
		spoil_rest(&call, USED(batch));
	} else {
		call.attr.map_fd = fd;
		call.attr.key = put_key(self, &call);
		call.attr.value = put_value(self, &call, true);
		call.attr.flags = i && one_in(8) ? any_flags(&call) : 0;
		if (call.attr.flags)
			may_fail(&call.errors, -EINVAL);
		spoil_rest(&call, i ? USED(flags) : USED(next_key));
	}
	expect_result(&call.errors, run_call(&call, commands[i].cmd),
		      describe(&call, "missing command"));
}

static void do_freeze(TESTED *self)
{
	struct call call;
	int result;

	begin_call(self, &call);
	/* One of each kind at first remains useful. */
	call.map = &self->maps[KINDS + below(MAPS - KINDS)];
	call.attr.map_fd = map_fd(self, &call, false, true);
	spoil_rest(&call, USED(map_fd));
	if (call.map->frozen)
		may_fail(&call.errors, -EBUSY);
	if (call.map->has_lock || call.map->has_pointer)
		may_fail(&call.errors, -ENOTSUPP);
	result = run_call(&call, BPF_MAP_FREEZE);
	if (expect_result(&call.errors, result, describe(&call, "freeze")) &&
	    !result)
		call.map->frozen = true;
}

/* Let an owner go with its values, and another one come. */
static void do_renew(TESTED *self)
{
	struct target *targets = self->targets;
	int i = below(TARGETS);

	if (!is_renewable(i))
		return;
	if (targets[i].owner.fd >= 0)
		end_owner(&targets[i].owner);
	open_target(targets, i);
	know_target(targets, i);
	for (int map = 0; map < MAPS; map++)
		self->maps[map].of[i].there = false;
}

static void do_new_map(TESTED *self)
{
	struct errors errors = {};
	struct map *map = &self->maps[below(MAPS)];

	if (!self->may_create)
		may_fail(&errors, -EPERM);
	expect_result(&errors, new_map(map, below(KINDS)), "a good map");
}

/* Attributes of a map, and what becomes of one that is wrong. */

static void spoil_size(struct call *call)
{
	__u32 size = odd_number();

	call->attr.value_size = size;
	may_fail(&call->errors, -EINVAL);
	if (size > MAX_SIZE)
		may_fail(&call->errors, -E2BIG);
}

static void spoil_flags(struct call *call)
{
	call->attr.map_flags |= 1U << below(32);
	may_fail(&call->errors, -EINVAL);
	if (call->attr.map_flags & BPF_F_TOKEN_FD)
		may_fail(&call->errors, -EBADF);
}

static void spoil_fd(TESTED *self, struct call *call)
{
	int i = below(TARGETS);

	call->attr.btf_fd = self->targets[i].owner.fd;
	may_fail(&call->errors, -EBADF);
	may_fail(&call->errors, -EINVAL);
}

static void spoil_one(TESTED *self, struct call *call)
{
	union bpf_attr *attr = &call->attr;

	switch (below(13)) {
	case 0:
		spoil_size(call);
		return;
	case 1:
		spoil_flags(call);
		return;
	case 2:
		spoil_fd(self, call);
		return;
	case 3:
		attr->key_size = odd_number();
		break;
	case 4:
		attr->max_entries = odd_number();
		break;
	case 5:
		attr->map_flags = odd_number();
		if (attr->map_flags & BPF_F_TOKEN_FD)
			may_fail(&call->errors, -EBADF);
		break;
	case 6:
		attr->btf_key_type_id = odd_number();
		break;
	case 7:
		attr->btf_value_type_id = odd_number();
		break;
	case 8:
		attr->btf_vmlinux_value_type_id = odd_number();
		break;
	case 9:
		attr->map_extra = odd_number();
		break;
	case 10:
		attr->numa_node = odd_number();
		attr->map_flags |= BPF_F_NUMA_NODE;
		break;
	case 11:
		attr->map_ifindex = odd_number();
		/* It is one for a device. */
		may_fail(&call->errors, -EPERM);
		may_fail(&call->errors, -ENODEV);
		break;
	case 12:
		attr->inner_map_fd = odd_number();
		break;
	}
	may_fail(&call->errors, -EINVAL);
	may_fail(&call->errors, -EACCES);
}

static void do_spoilt_map(TESTED *self)
{
	struct btf *btf = types_for(8);
	struct call call;
	int fd;

	begin_call(self, &call);
	call.attr.map_type = storage_types[below(KINDS)];
	call.attr.key_size = 4;
	call.attr.value_size = 8;
	call.attr.map_flags = BPF_F_NO_PREALLOC;
	btf__load_into_kernel(btf);
	call.attr.btf_fd = btf__fd(btf);
	call.attr.btf_key_type_id = 1;
	call.attr.btf_value_type_id = 3;
	for (int n = 1 + below(3); n--;)
		spoil_one(self, &call);
	if (one_in(16))
		any_bytes((char *)&call.attr + 4, 4 * below(16));
	fuzz_bytes(&call.attr, sizeof(call.attr));
	may_fail(&call.errors, -E2BIG);
	may_fail(&call.errors, -EPERM);
	may_fail(&call.errors, -EBADF);
	may_fail(&call.errors, -ENOSPC);
	/* There are flags that a kernel has to be booted for. */
	if (!is_stock())
		may_fail(&call.errors, -EOPNOTSUPP);
	fd = syscall(SYS_bpf, BPF_MAP_CREATE, &call.attr, sizeof(call.attr));
	if (fd < 0)
		expect_result(&call.errors, -errno, "a spoilt map");
	else
		close(fd);
	btf__free(btf);
}

static void do_something(TESTED *self, bool little_room)
{
	int what = below(256);

	if (what < 110)
		do_update(self, little_room);
	else if (what < 190)
		do_lookup(self);
	else if (what < 215)
		do_delete(self);
	else if (what < 235)
		do_missing(self);
	else if (what < 236)
		do_freeze(self);
	else if (what < 242)
		do_renew(self);
	else if (what < 245)
		do_new_map(self);
	else
		do_spoilt_map(self);
}

static const char *variant_name(const FIXTURE_VARIANT(commands) *variant)
{
	if (variant->in_user_namespace)
		return "maps, in a user namespace";
	return atoi(variant->optmem_max) < 10000 ? "maps, with little room" :
						   "maps";
}

TEST_F_TIMEOUT(commands, fail_as_they_should_or_do_what_they_should, GUARD)
{
	bool little_room = atoi(variant->optmem_max) < 10000;

	self->may_create = !variant->in_user_namespace;
	if (variant->in_user_namespace) {
		if (!has_user_namespaces())
			SKIP(return, "this kernel has no user namespaces");
		ASSERT_EQ(enter_user_namespace(), 0);
	}
	do {
		do_something(self, little_room);
	} while (fuzz_next());
	fuzz_report(variant_name(variant));
	EXPECT_EQ(fuzz_failures(), 0);
	end_everything(self);
	EXPECT_TRUE(EVENTUALLY(is_uncharged(self)));
	/* The map that is a key. */
	if (self->may_create)
		EXPECT_TRUE(EVENTUALLY(count_objects() == self->objects + 1));
}

TEST_HARNESS_MAIN
