# SPDX-License-Identifier: GPL-2.0
"""Where things are, and which base is meant."""
import os

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
with open(os.path.join(TOP, "base/default")) as f:
    BASE = os.environ.get("BASE") or f.read().strip()
# What is built for this base, and what all bases share.
SHARED = os.path.join(TOP, "build")
BUILD = os.path.join(SHARED, BASE)
