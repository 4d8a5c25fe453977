// SPDX-License-Identifier: GPL-2.0
#include "fuzz.h"
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <time.h>

#define TOO_MANY_FAILURES	5
/* Cases from one sign of life to the next. */
#define PROGRESS		10000
#define MAX_SHOWN		1024
#define MAX_ERRNO		1024

static struct {
	__u64 seed;
	long number, cases, failures;
	const void *bytes;
	size_t size;
	long results[MAX_ERRNO];
	struct timespec began;
} run;

/* Of what is chosen next: each thread makes its own choices. */
static __thread __u64 state;

static __u64 mix(__u64 number)
{
	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9ULL;
	number = (number ^ number >> 27) * 0x94d049bb133111ebULL;
	return number ^ number >> 31;
}

__u64 any(void)
{
	state += 0x9e3779b97f4a7c15ULL;
	return mix(state);
}

__u32 below(__u32 limit)
{
	return (any() >> 32) * limit >> 32;
}

bool one_in(__u32 n)
{
	return !below(n);
}

__u64 fuzz_choices(void)
{
	return state;
}

void fuzz_again(__u64 choices)
{
	state = choices;
}

__u64 odd_number(void)
{
	static const __u64 ends[] = {
		0, 1, 2, 3, 4, 7, 8, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x10000,
		0x7fffffff, 0x80000000, 0xffffffff, 0x100000000ULL, ~0ULL >> 1,
		~0ULL,
	};

	switch (below(4)) {
	case 0:
		return any();
	case 1:
		return 1ULL << below(64);
	default:
		return ends[below(ARRAY_SIZE(ends))] + below(3) - 1;
	}
}

void fill(void *to, size_t size, __u64 number)
{
	char *bytes = to;

	for (size_t i = 0; i < size; i += sizeof(number)) {
		__u64 some = mix(number + i);

		memcpy(bytes + i, &some, size - i < 8 ? size - i : 8);
	}
}

void any_bytes(void *to, size_t size)
{
	fill(to, size, any());
}

long fuzz_wish(const char *name, long otherwise)
{
	return getenv(name) ? strtol(getenv(name), NULL, 0) : otherwise;
}

void fuzz_thread(__u64 number)
{
	state = mix(run.seed + mix(number << 32));
}

void fuzz_start(long cases)
{
	libbpf_set_print(NULL);
	memset(&run, 0, sizeof(run));
	run.seed = fuzz_wish("SEED", 1);
	run.cases = fuzz_wish("CASES", cases * rounds() / ROUNDS);
	run.number = -1;
	fuzz_thread(0);
	clock_gettime(CLOCK_MONOTONIC, &run.began);
}

static void show_progress(void)
{
	if (!run.number || run.number % PROGRESS || run.number == run.cases)
		return;
	printf("# %ld of %ld cases, %ld results wrong\n", run.number, run.cases,
	       run.failures);
	fflush(stdout);
}

bool fuzz_next(void)
{
	run.number++;
	show_progress();
	state = mix(run.seed + mix(run.number));
	run.size = 0;
	return run.number < run.cases && run.failures < TOO_MANY_FAILURES;
}

long fuzz_failures(void)
{
	return run.failures;
}

void fuzz_report(const char *what)
{
	struct timespec now;
	char text[1024];
	int len = 0;

	clock_gettime(CLOCK_MONOTONIC, &now);
	for (int err = 0; err < MAX_ERRNO && len < sizeof(text) - 32; err++)
		if (run.results[err])
			len += sprintf(text + len, ", %ld x %d",
				       run.results[err], -err);
	printf("# %s: seed %lld, %ld cases in %ld s%s\n", what, run.seed,
	       run.number, now.tv_sec - run.began.tv_sec, len ? text : "");
	fflush(stdout);
}

void fuzz_bytes(const void *bytes, size_t size)
{
	run.bytes = bytes;
	run.size = size;
}

void complain(const char *format, ...)
{
	const unsigned char *bytes = run.bytes;
	va_list list;

	run.failures++;
	printf("# SEED=%lld case %ld: ", run.seed, run.number);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	for (size_t i = 0; i < run.size && i < MAX_SHOWN; i++)
		printf("%s%02x", i % 32 ? " " : "\n#   ", bytes[i]);
	printf("\n");
	fflush(stdout);
}

void may_fail(struct errors *errors, int err)
{
	for (int i = 0; i < errors->n; i++)
		if (errors->list[i] == err)
			return;
	errors->list[errors->n++] = err;
}

bool explains(const struct errors *errors, int result)
{
	for (int i = 0; i < errors->n; i++)
		if (errors->list[i] == result)
			return true;
	return !errors->n && result >= 0;
}

bool expect_result(const struct errors *errors, int result, const char *what)
{
	char text[160] = " 0";
	int len = 0;

	if (result <= 0 && result > -MAX_ERRNO)
		run.results[-result]++;
	if (explains(errors, result))
		return true;
	for (int i = 0; i < errors->n; i++)
		len += snprintf(text + len, sizeof(text) - len, " %d",
				errors->list[i]);
	complain("%s: %d, expected:%s", what, result, text);
	return false;
}

int new_memory(struct memory *memory, size_t size)
{
	int fd = memfd_create("fuzz", 0);
	char *rw, *ro;

	size = (size + 4095) & ~4095UL;
	if (fd < 0 || ftruncate(fd, size))
		return -errno;
	/* A page that is not there follows either. */
	rw = mmap(NULL, size + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		  -1, 0);
	ro = mmap(NULL, size + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		  -1, 0);
	if (rw == MAP_FAILED || ro == MAP_FAILED ||
	    mmap(rw, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 0) == MAP_FAILED ||
	    mmap(ro, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
		 0) == MAP_FAILED)
		return -errno;
	close(fd);
	*memory = (struct memory){ rw, ro, size };
	return 0;
}

void *place_in(const struct memory *memory, enum place place, size_t size)
{
	char *end = memory->pages + memory->size;

	switch (place) {
	case GOOD:
		return end - size;
	case ODD:
		return end - size - 1;
	case READ_ONLY:
		return memory->read_only + memory->size - size;
	case STRADDLING:
		return end - size / 2;
	case UNMAPPED:
		return end;
	case OF_KERNEL:
		return (void *)0xffff888000000000;
	default:
		return NULL;
	}
}

void *source_in(const struct memory *memory, enum place place, size_t size)
{
	/* What is not there is not read either. */
	if (place != ODD && place != READ_ONLY)
		place = GOOD;
	return place_in(memory, place == READ_ONLY ? GOOD : place, size);
}

enum place any_place(void)
{
	return one_in(12) ? below(PLACES) : one_in(4) ? ODD : GOOD;
}

bool is_readable(enum place place)
{
	return place <= READ_ONLY;
}

bool is_writable(enum place place)
{
	return place <= ODD;
}

int count_objects(void)
{
	__u32 id = 0;
	int n = 0;

	while (!bpf_map_get_next_id(id, &id))
		n++;
	id = 0;
	while (!bpf_prog_get_next_id(id, &id))
		n++;
	return n;
}

bool has_user_namespaces(void)
{
	return !access("/proc/self/ns/user", F_OK);
}

int enter_user_namespace(void)
{
	return unshare(CLONE_NEWUSER) ? -errno : 0;
}
