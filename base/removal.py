# SPDX-License-Identifier: GPL-2.0
"""What of the base kernel is its own local storage, and how to take it out.

Every edit names a symbol.  An edit that finds nothing raises, so a base that
moved on is noticed at once; `survivors` then reports any symbol left over.
"""
import os
import re


MESSAGE = """bpf: Remove local storage

What programs keep with sockets, inodes, tasks and cgroups is made anew by
the patches that follow, on another design.  Take the present implementation
out first, so that these can be read as what they are: additions.

Numbers, names and flags that programs and userspace see stay reserved.  In
between, maps of these types cannot be created, the helpers are not there, and
INET_DIAG shows no values.
"""


class RemovalError(Exception):
    """An edit found nothing to remove, or a symbol survived."""


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


def cut(pattern):
    """Remove every match of a (multi-line) pattern."""
    compiled = re.compile(pattern, re.M | re.S)

    def edit(text):
        return compiled.subn("", text)
    return edit


def lines(symbol):
    """Remove every line that names the symbol."""
    return cut(r"^[^\n]*%s[^\n]*\n" % symbol)


def word(symbol):
    """Remove the word and the blank before it, and nothing else of its line."""
    return cut(r"[ \t]+%s(?=\s)" % re.escape(symbol))


def cases(symbol):
    """Remove `case SYMBOL:` and what it does, up to the next label."""
    return cut(r"^\tcase %s:\n(?:\t\t[^\n]*\n)*" % symbol)


def statement(head):
    """Remove a one-tab `if` block, or call, that starts with head."""
    return cut(r"^\t%s[^{;]*(?:;|\{\n(?:\t\t[^\n]*\n|\n)*\t\})\n" % head)


def function(name):
    """Remove the definition of a function, signature to closing brace."""
    return cut(r"^[a-z][^\n;]*\b%s\([^{;]*\)\n\{.*?^\}\n\n?" % name)


def replace(symbol, text):
    """Put text in place of a symbol that other code borrows."""
    def edit(content):
        return re.subn(r"\b%s\b" % symbol, text, content)
    return edit


def comparisons(symbol):
    """Remove `map->map_type != SYMBOL &&` operands; the last keeps its tail."""
    def edit(text):
        text, first = re.subn(
            r"[ \t]*map->map_type != %s &&\n" % symbol, "", text)
        text, last = re.subn(
            r" &&\n[ \t]*map->map_type != %s\)" % symbol, ")", text)
        return text, first + last
    return edit


def optional(edit):
    """An edit for what only some versions of the base have."""
    def attempt(text):
        text, count = edit(text)
        return text, max(count, 1)
    return attempt


KINDS = ("SK", "INODE", "TASK", "CGRP")
TYPE = r"BPF_MAP_TYPE_(?:SK|INODE|TASK|CGRP)_STORAGE"
FUNC = r"BPF_FUNC_(?:sk|inode|task|cgrp)_storage_(?:get|delete)"
HEADER = r"#include <(?:net/bpf_sk_storage|linux/bpf_local_storage)\.h>"
GUARDED = r"#ifdef CONFIG_BPF_SYSCALL\n[^#]*?%s[^#]*?#endif\n"

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
    "include/linux/bpf_verifier.h": [lines("storage_get_func_atomic")],
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
    "kernel/bpf/lpm_trie.c": [lines(HEADER)],
    "kernel/bpf/syscall.c":
        [comparisons("BPF_MAP_TYPE_%s_STORAGE" % k) for k in KINDS] +
        [lines(r"^\tcase %s:" % TYPE)],
    "kernel/bpf/verifier.c": [
        function("is_storage_get_function"),
        cut(r"^\t\tif \(in_sleepable\(env\) && is_storage_get_function"
            r"[^;]*;\n"),
        cut(r"^\t\tif \(is_storage_get_function\(insn->imm\)\) \{\n"
            r".*?^\t\t\}\n\n"),
        lines(r"^\t\tcase %s:" % TYPE),
        cases(TYPE),
        cases(FUNC),
    ],
    "kernel/cgroup/cgroup.c": [lines("bpf_cgrp_storage_free")],
    "kernel/fork.c": [lines("bpf_task_storage_free"), lines("tsk->bpf_storage")],
    "kernel/sched/ext.c": [cases(FUNC)],
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

SYMBOLS = re.compile("|".join([
    r"\bbpf_local_storage\w*", r"\bbpf_(?:sk|task|inode|cgrp)_storage\w*",
    r"\bsk_bpf_storage\b", r"->bpf_storage\b",
    r"\bBPF_LOCAL_STORAGE_MAX_VALUE_SIZE\b", r"\b(?:sk|inode|task|cgrp)_storage_map_ops\b",
    r"\bmap_local_storage_\w+", r"\bmap_owner_storage_ptr\b",
    r"\bis_storage_get_function\b", r"\bstorage_get_func_atomic\b",
    r"\bbpf_storage_blob\b", r"\bbpf_stg_diag\b", r"\binet_diag_nla_bpf_stgs\b",
    TYPE, FUNC,
]))

# Numbers that programs see stay reserved; tools and samples are userspace.
SCANNED = ("Documentation/bpf", "arch", "block", "drivers/net", "fs",
           "include", "init", "ipc", "kernel", "lib", "mm", "net", "security",
           "virt")
RESERVED = ("include/uapi/", "Documentation/bpf/map_cgroup_storage.rst")


def remove(path, text):
    """Return text without the local storage that the edits of path name."""
    for number, edit in enumerate(EDITS[path], 1):
        text, count = edit(text)
        if not count:
            raise RemovalError("%s: edit %d of base/removal.py matches nothing"
                               % (path, number))
    return text


def survivors(root, read):
    """List `path:line: symbol` for every symbol left under root.

    read(path) gives the text of an edited file, or None for one that the
    removal leaves alone.
    """
    found = []
    for top in SCANNED:
        for where, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                path = os.path.relpath(os.path.join(where, name), root)
                if path in DELETED or path.startswith(RESERVED):
                    continue
                text = read(path)
                if text is None:
                    if not name.endswith((".c", ".h", ".S", ".rst")) and \
                       name not in ("Makefile", "Kconfig"):
                        continue
                    with open(os.path.join(root, path), errors="replace") as f:
                        text = f.read()
                    if "storage" not in text and "STORAGE" not in text:
                        continue
                for number, line in enumerate(text.splitlines(), 1):
                    match = SYMBOLS.search(line)
                    if match:
                        found.append("%s:%d: %s"
                                     % (path, number, match.group()))
    return found
