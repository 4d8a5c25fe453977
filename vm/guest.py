# SPDX-License-Identifier: GPL-2.0
"""What is run in guests, and what their kernels say."""
import os
import re
import sys

# For those who import this, too.
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../base"))
from paths import BUILD

# What no kernel must say.
SPLAT = re.compile("|".join([
    r"WARNING: ", r"\bBUG: ", r"kernel BUG at", r"KASAN: ", r"KFENCE: ",
    r"INFO: (?:task|possible|rcu|trying|suspicious)", r"Oops: ",
    r"general protection fault", r"Kernel panic", r"rcu:.*stall",
    r"kmemleak: \d+ new suspected", r"unreferenced object", r"ODEBUG: ",
    r"list_(?:add|del) corruption", r"refcount_t: ", r"UBSAN: ",
    r"DEBUG_LOCKS_WARN_ON", r"optmem leakage",
]))
# Lines of the log that match SPLAT and are harmless.
HARMLESS = re.compile(r"WARNING: (?:CPU: \d+ PID: 0 .*microcode|Spectre)")


def machine(flavour):
    """What base/kernel has built a kernel for: how the kernel calls the machine,
    and how the names of its tools begin; that is "" for this machine's own.
    """
    try:
        with open(os.path.join(BUILD, flavour, "machine")) as f:
            name, _, triplet = f.read().strip().partition(" ")
    except FileNotFoundError:
        return "x86", ""
    return name, triplet


def script(commands, setup=()):
    """A shell script for a guest: its setup, then each named command.

    Marks where each begins and how it ended, for events().
    """
    lines = list(setup)
    for name, command in commands:
        lines.append("echo '@begin %s'; %s 2>&1; echo \"@end $?\""
                     % (name, command))
    return "\n".join(lines)


def events(output):
    """Take apart what such a script prints, as lines.

    Yields ("begin", name), ("line", text) and ("end", status).
    """
    for line in output:
        line = line.rstrip("\n")
        if line.startswith("@begin "):
            yield "begin", line[len("@begin "):]
        elif line.startswith("@end "):
            yield "end", int(line.split()[1])
        else:
            yield "line", line


def complaints(log):
    """The kernel's complaints, each with the lines that follow it."""
    with open(log, errors="replace") as f:
        lines = f.read().splitlines()
    wanted = set()
    for number, line in enumerate(lines):
        if SPLAT.search(line) and not HARMLESS.search(line):
            wanted.update(range(max(0, number - 2),
                                min(len(lines), number + 60)))
    return [lines[number] for number in sorted(wanted)]


if __name__ == "__main__":
    # For scripts in other languages: print the complaints of a log.
    found = complaints(sys.argv[1])
    print("\n".join(found))
    sys.exit(bool(found))
