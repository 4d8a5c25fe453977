// SPDX-License-Identifier: GPL-2.0
/*
 * The init of a kernel that is to measure: inserts the module that $module
 * names, with a map for it, and switches off.  The figures are in the kernel's
 * log.
 */
#include "common.h"
#include <sys/reboot.h>
#include <sys/syscall.h>

static unsigned long address_of(const char *symbol)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	unsigned long address = 0, at;
	char line[256], name[200];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx %*c %199s", &at, name) == 2 &&
		    !strcmp(name, symbol))
			address = at;
	if (file)
		fclose(file);
	return address;
}

static void measure(const char *path)
{
	unsigned long helper = address_of("bpf_sk_storage_get");
	int map = create_with(8, 0), module = open(path, O_RDONLY);
	char arguments[100];

	if (map < 0 || module < 0 || !helper) {
		fprintf(stderr, "latency: no map, helper or %s: %s\n", path,
			strerror(errno));
		return;
	}
	snprintf(arguments, sizeof(arguments), "helper=%lu map_fd=%d", helper,
		 map);
	/* It refuses to stay once it is done. */
	if (!syscall(SYS_finit_module, module, arguments, 0) ||
	    errno != EAGAIN)
		perror("latency: the module");
}

int main(void)
{
	const char *path = getenv("module");

	if (getpid() != 1 || !path) {
		fprintf(stderr, "latency: for a kernel's init only\n");
		return 2;
	}
	if (mount("proc", "/proc", "proc", 0, NULL))
		perror("latency: /proc");
	measure(path);
	reboot(RB_POWER_OFF);
	return 1;
}
