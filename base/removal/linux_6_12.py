# SPDX-License-Identifier: GPL-2.0
"""What only 6.12 has."""
from .common import FUNC, HEADER
from .primitives import cases, cut, function, lines

EDITS = {
    "include/linux/bpf_verifier.h": [lines("storage_get_func_atomic")],
    "kernel/bpf/lpm_trie.c": [lines(HEADER)],
    "kernel/bpf/verifier.c": [
        function("is_storage_get_function"),
        cut(r"^\t\tif \(in_sleepable\(env\) && is_storage_get_function"
            r"[^;]*;\n"),
        cut(r"^\t\tif \(is_storage_get_function\(insn->imm\)\) \{\n"
            r".*?^\t\t\}\n\n"),
    ],
    "kernel/sched/ext.c": [cases(FUNC)],
}
