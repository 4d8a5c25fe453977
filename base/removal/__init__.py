# SPDX-License-Identifier: GPL-2.0
"""What of a base kernel is its own local storage, and how to take it out.

Every edit names a symbol.  An edit that finds nothing raises, so a base that
moved on is noticed at once; `survivors` then reports any symbol left over.
"""
import importlib
import os
import re

from . import common
from .common import DELETED, FUNC, TYPE

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


def edits(base):
    """The edits of each file of a base, such as "6.12"."""
    own = importlib.import_module(".linux_" + base.replace(".", "_"),
                                  __name__).EDITS
    return {path: own.get(path, []) + common.EDITS.get(path, [])
            for path in sorted({*own, *common.EDITS})}


def remove(wanted, path, text):
    """Return text without the local storage that the edits of path name."""
    for number, edit in enumerate(wanted[path], 1):
        text, count = edit(text)
        if not count:
            raise RemovalError("%s: edit %d of base/removal/ matches nothing"
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
