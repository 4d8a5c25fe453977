// SPDX-License-Identifier: GPL-2.0
/*
 * The init of a kernel that is to measure: inserts the modules of the directory
 * that $modules names, with the maps and the programs for them, and switches
 * off.  The figures are in the kernel's log.
 */
#include "common.h"
#include "traffic.skel.h"
#include "walk.skel.h"
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

#define ROUND		"/sys/module/storage_traffic/parameters/round"
#define TRAFFIC_ROUNDS	12

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

static int complain(const char *what, int err)
{
	fprintf(stderr, "latency: %s: %s\n", what, strerror(-err));
	return err;
}

/* 0 or the negative errno. */
static int insert(const char *name, const char *arguments)
{
	int module, err = 0;
	char path[300];

	snprintf(path, sizeof(path), "%s/%s.ko", getenv("modules"), name);
	module = open(path, O_RDONLY);
	if (module < 0 || syscall(SYS_finit_module, module, arguments, 0))
		err = -errno;
	close(module);
	return err;
}

static void measure_gets(void)
{
	unsigned long helper = address_of("bpf_sk_storage_get");
	int map = create_with(8, place()), err;
	struct walk *skel = walk__open();
	char arguments[200];

	if (map < 0 || !helper || !skel ||
	    bpf_map__reuse_fd(skel->maps.values, map) || walk__load(skel)) {
		complain("no map, helper or programs", map);
		return;
	}
	snprintf(arguments, sizeof(arguments),
		 "helper=%lu map_fd=%d get_fd=%d nothing_fd=%d", helper, map,
		 bpf_program__fd(skel->progs.get),
		 bpf_program__fd(skel->progs.nothing));
	err = insert("storage_latency", arguments);
	/* It refuses to stay once it is done. */
	if (err != -EAGAIN)
		complain("storage_latency", err);
	walk__destroy(skel);
	close(map);
}

static int loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int sk = socket(AF_INET, SOCK_DGRAM, 0);
	int err = ioctl(sk, SIOCSIFFLAGS, &request) ? -errno : 0;

	close(sk);
	return err;
}

/* A round of messages with these programs on them, or with none. */
static int run_round(const char *name, struct bpf_program *ingress,
		     struct bpf_program *egress, int cgroup)
{
	struct bpf_link *in = NULL, *out = NULL;
	int err = 0;

	if (ingress) {
		in = bpf_program__attach_cgroup(ingress, cgroup);
		out = bpf_program__attach_cgroup(egress, cgroup);
		err = in && out ? 0 : -errno;
	}
	err = err ?: write_file(ROUND, name);
	bpf_link__destroy(in);
	bpf_link__destroy(out);
	return err;
}

/* In turn, so that whatever else goes on in the machine meets all of them. */
static int run_rounds(struct traffic *skel, int cgroup)
{
	int err = 0;

	for (int i = 0; i < TRAFFIC_ROUNDS && !err; i++)
		err = run_round("traffic-none", NULL, NULL, cgroup) ?:
		      run_round("traffic-together",
				skel->progs.together_ingress,
				skel->progs.together_egress, cgroup) ?:
		      run_round("traffic-hash", skel->progs.hash_ingress,
				skel->progs.hash_egress, cgroup) ?:
		      run_round("traffic-storage", skel->progs.storage_ingress,
				skel->progs.storage_egress, cgroup);
	if (!err && (!skel->bss->counted || skel->bss->missed))
		err = -ENODATA;
	return err;
}

static void measure_traffic(void)
{
	struct traffic *skel = traffic__open();
	int cgroup = root_cgroup(), err;

	if (skel)
		bpf_map__set_map_flags(skel->maps.of_socket,
				       BPF_F_NO_PREALLOC | place());
	if (!skel || traffic__load(skel) || cgroup < 0) {
		complain("no programs or cgroup", -errno);
		return;
	}
	err = loopback_up() ?: insert("storage_traffic", "") ?:
	      run_rounds(skel, cgroup);
	if (err)
		complain("storage_traffic", err);
}

int main(void)
{
	if (getpid() != 1 || !getenv("modules")) {
		fprintf(stderr, "latency: for a kernel's init only\n");
		return 2;
	}
	if (mount("proc", "/proc", "proc", 0, NULL) ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL) ||
	    mount("cgroup2", CGROUP, "cgroup2", 0, NULL))
		complain("mount", -errno);
	measure_gets();
	measure_traffic();
	reboot(RB_POWER_OFF);
	return 1;
}
