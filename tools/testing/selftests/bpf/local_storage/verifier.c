// SPDX-License-Identifier: GPL-2.0
/* What the verifier makes of programs that use local storage. */
#include "harness.h"
#include "refused.skel.h"

/* Load one program of the object; its verifier log goes to log. */
static int load_only(const char *name, char *log, size_t size)
{
	struct refused *skel = refused__open();
	struct bpf_program *prog;
	int err;

	if (!skel)
		return -ENOMEM;
	log[0] = 0;
	bpf_object__for_each_program(prog, skel->obj) {
		bool wanted = !strcmp(bpf_program__name(prog), name);

		bpf_program__set_autoload(prog, wanted);
		if (wanted)
			bpf_program__set_log_buf(prog, log, size);
	}
	err = refused__load(skel);
	refused__destroy(skel);
	return err;
}

FIXTURE(verdict) {
	char log[65536];
};

FIXTURE_SETUP(verdict)
{
	libbpf_set_print(NULL);
}

FIXTURE_TEARDOWN(verdict)
{
}

FIXTURE_VARIANT(verdict) {
	const char *program;
	const char *message;	/* NULL: it loads */
	const char *later;	/* of later kernels, if that is another one */
	bool of_tasks;		/* it loads where all have the helpers of tasks */
};

#define VERDICT(name, text)				\
	FIXTURE_VARIANT_ADD(verdict, name) {		\
		.program = #name, .message = text,	\
	}

VERDICT(good_spin_lock, NULL);
VERDICT(good_kptr, NULL);
VERDICT(good_initial_value, NULL);
VERDICT(bad_maybe_null_socket, "type=sock_common_or_null expected=");
VERDICT(bad_unchecked_value, "invalid mem access 'map_value_or_null'");
VERDICT(bad_beyond_value, "invalid access to map value, value_size=8 off=8");
VERDICT(bad_short_initial_value, "invalid");
VERDICT(bad_map_type, "cannot pass map_type 1 into func bpf_sk_storage_get#107");
VERDICT(bad_map_type_of_delete,
	"cannot pass map_type 1 into func bpf_sk_storage_delete#108");
VERDICT(bad_lookup_elem,
	"cannot pass map_type 24 into func bpf_map_lookup_elem#1");
VERDICT(bad_update_elem,
	"cannot pass map_type 24 into func bpf_map_update_elem#2");
VERDICT(bad_delete_elem,
	"cannot pass map_type 24 into func bpf_map_delete_elem#3");
VERDICT(bad_socket_number, "type=scalar expected=");
FIXTURE_VARIANT_ADD(verdict, bad_lock_left) {
	.program = "bad_lock_left", .message = "bpf_spin_unlock is missing",
	.later = "cannot be used inside bpf_spin_lock-ed region",
};

VERDICT(bad_get_under_lock, "function calls are not allowed while holding a lock");
VERDICT(bad_delete_in_cgroup_sock,
	"program of this type cannot use helper bpf_sk_storage_delete#108");
VERDICT(bad_socket_filter,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_xdp,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_sk_skb,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_sk_lookup,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_flow_dissector,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_lwt,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_sysctl,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_kprobe,
	"program of this type cannot use helper bpf_sk_storage_get#107");
VERDICT(bad_syscall, "helper call is not allowed in probe");

FIXTURE_VARIANT_ADD(verdict, bad_task_in_tc) {
	.program = "bad_task_in_tc", .of_tasks = true,
	.message = "program of this type cannot use helper bpf_task_storage_get#156",
};

FIXTURE_VARIANT_ADD(verdict, bad_task_delete_in_tc) {
	.program = "bad_task_delete_in_tc", .of_tasks = true,
	.message = "program of this type cannot use helper bpf_task_storage_delete#157",
};

VERDICT(bad_inode_in_fentry,
	"program of this type cannot use helper bpf_inode_storage_get#145");
VERDICT(bad_inode_delete_in_fentry,
	"program of this type cannot use helper bpf_inode_storage_delete#146");
VERDICT(bad_map_of_task,
	"cannot pass map_type 24 into func bpf_task_storage_get#156");
VERDICT(bad_map_of_cgroup,
	"cannot pass map_type 29 into func bpf_cgrp_storage_get#210");
VERDICT(bad_map_of_inode,
	"cannot pass map_type 32 into func bpf_inode_storage_get#145");
VERDICT(bad_inode_as_task, "R2 is of type inode but task_struct is expected");
VERDICT(bad_task_as_cgroup, "R2 is of type task_struct but cgroup is expected");
VERDICT(bad_task_as_inode, "R2 is of type task_struct but inode is expected");
VERDICT(bad_task_number, "type=scalar expected=");
VERDICT(bad_sleepable_cgroup, "R2 type=untrusted_ptr_ expected=");
VERDICT(bad_lock_in_kprobe, "tracing progs cannot use bpf_spin_lock yet");
VERDICT(bad_lookup_elem_of_tasks,
	"cannot pass map_type 29 into func bpf_map_lookup_elem#1");
VERDICT(bad_update_elem_of_cgroups,
	"cannot pass map_type 32 into func bpf_map_update_elem#2");
VERDICT(bad_delete_elem_of_inodes,
	"cannot pass map_type 28 into func bpf_map_delete_elem#3");
VERDICT(bad_unchecked_value_of_task,
	"invalid mem access 'map_value_or_null'");

TEST_F(verdict, it_is_as_documented)
{
	int err = load_only(variant->program, self->log, sizeof(self->log));

	if (!variant->message ||
	    (variant->of_tasks && is_late())) {
		ASSERT_EQ(err, 0) TH_LOG("%s", self->log);
		return;
	}
	ASSERT_LT(err, 0) TH_LOG("%s loads", variant->program);
	EXPECT_TRUE(strstr(self->log, variant->message) ||
		    (variant->later && strstr(self->log, variant->later)))
		TH_LOG("%s", self->log);
}

TEST_HARNESS_MAIN
