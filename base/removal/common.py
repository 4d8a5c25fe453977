# SPDX-License-Identifier: GPL-2.0
"""What of every base is its own local storage."""
from .primitives import (comparisons, cut, cases, function, lines, optional,
                         replace, statement, word)

KINDS = ("SK", "INODE", "TASK", "CGRP")
TYPE = r"BPF_MAP_TYPE_(?:SK|INODE|TASK|CGRP)_STORAGE"
FUNC = r"BPF_FUNC_(?:sk|inode|task|cgrp)_storage_(?:get|delete)"
HEADER = r"#include <(?:net/bpf_sk_storage|linux/bpf_local_storage)\.h>"
GUARDED = r"#ifdef CONFIG_BPF_SYSCALL\n[^#]*?%s[^#]*?#endif\n"

DELETED = [
    "Documentation/bpf/map_cgrp_storage.rst",
    "Documentation/bpf/map_sk_storage.rst",
    "include/linux/bpf_local_storage.h",
    "include/net/bpf_sk_storage.h",
    "kernel/bpf/bpf_cgrp_storage.c",
    "kernel/bpf/bpf_inode_storage.c",
    "kernel/bpf/bpf_local_storage.c",
    "kernel/bpf/bpf_task_storage.c",
    "net/core/bpf_sk_storage.c",
]

EDITS = {
    "include/linux/bpf.h": [
        lines(r"^struct bpf_local_storage(?:_map)?;"),
        cut(r"^\t/\* Functions called by bpf_local_storage maps \*/\n"
            r"(?:\t[^\n]+\n)+\n"),
        function("bpf_task_storage_free"),
        function("bpf_cgrp_storage_free"),
        lines(r"\bbpf_(?:task|cgrp)_storage_(?:free|get\w*|delete\w*)\b"),
    ],
    "include/linux/bpf_lsm.h": [
        cut(r"^struct bpf_storage_blob \{.*?\};\n\n"),
        function("bpf_inode"),
        function("bpf_inode_storage_free"),
        lines(r"\bbpf_inode_storage_(?:free|get_proto|delete_proto)\b"),
    ],
    "include/linux/bpf_types.h": [lines(TYPE)],
    "include/linux/btf_ids.h": [lines("bpf_local_storage_map_btf_id")],
    "include/linux/cgroup-defs.h": [cut(GUARDED % "bpf_cgrp_storage")],
    "include/linux/inet_diag.h": [
        lines("struct bpf_sk_storage_diag;"),
        lines("inet_diag_nla_bpf_stgs"),
        cut(r"\n\tstruct bpf_sk_storage_diag \*bpf_stg_diag;\n"),
    ],
    "include/linux/sched.h": [
        lines("^struct bpf_local_storage;"),
        cut(r"^\t/\* Used by BPF task local storage \*/\n[^\n]*bpf_storage;\n"),
    ],
    "include/net/sock.h": [
        lines("^struct bpf_local_storage;"),
        lines(r"@sk_bpf_storage:"),
        cut(GUARDED % "sk_bpf_storage"),
    ],
    "kernel/bpf/Makefile": [
        lines(r"bpf_local_storage\.o"),
        lines(r"bpf_inode_storage\.o"),
        word("bpf_cgrp_storage.o"),
    ],
    "kernel/bpf/bpf_lsm.c": [lines(HEADER), cases(FUNC)],
    "kernel/bpf/cgroup.c": [lines(HEADER), cases(FUNC)],
    "kernel/bpf/helpers.c": [cases(FUNC)],
    "kernel/bpf/local_storage.c": [
        lines(HEADER),
        replace("BPF_LOCAL_STORAGE_MAX_VALUE_SIZE", "U16_MAX"),
    ],
    "kernel/bpf/syscall.c":
        [comparisons("BPF_MAP_TYPE_%s_STORAGE" % k) for k in KINDS] +
        [lines(r"^\tcase %s:" % TYPE)],
    "kernel/bpf/verifier.c": [
        lines(r"^\t\tcase %s:" % TYPE),
        cases(TYPE),
        cases(FUNC),
    ],
    "kernel/cgroup/cgroup.c": [lines("bpf_cgrp_storage_free")],
    "kernel/fork.c": [lines("bpf_task_storage_free"), lines("tsk->bpf_storage")],
    "kernel/trace/bpf_trace.c": [lines(HEADER), cases(FUNC)],
    "net/bpf/test_run.c": [lines(HEADER)],
    "net/core/Makefile": [lines(r"bpf_sk_storage\.o")],
    "net/core/filter.c": [
        lines(HEADER),
        lines(r"^const struct bpf_func_proto bpf_sk_storage_\w+ __weak;"),
        cases(FUNC),
    ],
    "net/core/sock.c": [
        lines(HEADER),
        cut(GUARDED % r"bpf_sk_storage_free\(sk\)"),
        # 6.12.107 has none, 6.12.117 has it.
        optional(cut(GUARDED % "sk_bpf_storage")),
        statement(r"if \(bpf_sk_storage_clone\("),
    ],
    "net/ipv4/bpf_tcp_ca.c": [lines(HEADER), cases(FUNC)],
    "net/ipv4/inet_diag.c": [
        lines(HEADER),
        cut(r"^\t/\* Keep it at the end for potential retry.*?"
            r"^\tif \(cb_data->bpf_stg_diag\) \{\n.*?^\t\}\n\n"),
        cut(r"^\tnla = cb_data->inet_diag_nla_bpf_stgs;\n"
            r"\tif \(nla\) \{\n.*?^\t\}\n\n"),
        # Its only use goes, so the variable has to go as well.
        cut(r"^\tstruct inet_diag_dump_data \*cb_data = cb->data;\n\n"
            r"\tbpf_sk_storage_diag_free\([^\n]*\n"),
    ],
    "security/bpf/hooks.c": [
        lines(r"bpf_(?:inode|task)_storage_free"),
        lines(r"\.lbs_inode"),
    ],
}
