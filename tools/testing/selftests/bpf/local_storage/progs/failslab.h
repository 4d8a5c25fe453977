/* SPDX-License-Identifier: GPL-2.0 */
/* What programs on should_failslab() share. */
#ifndef _FAILSLAB_H
#define _FAILSLAB_H

/* What a debug kernel notes for itself; it can do without. */
static bool is_debugging(struct kmem_cache *cache)
{
	char name[16] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), cache->name);
	return !bpf_strncmp(name, 8, "kmemleak") ||
	       !bpf_strncmp(name, 13, "debug_objects");
}

#endif /* _FAILSLAB_H */
