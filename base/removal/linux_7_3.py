# SPDX-License-Identifier: GPL-2.0
"""What only 7.3 has."""
from .primitives import cut

EDITS = {
    # Pointers to user pages, which only task storage has.
    "kernel/bpf/syscall.c": [
        cut(r"^\t\t\tcase BPF_UPTR:\n(?:\t\t\t\t[^\n]*\n)*"),
    ],
    "net/ipv4/inet_diag.c": [
        cut(r"^\tstruct nlattr \*nla;\n(?=\tint err;\n\n\tcb_data = kzalloc)"),
    ],
}
