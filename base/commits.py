# SPDX-License-Identifier: GPL-2.0
"""The series as commits: what each changes, in any tree of the base."""
import os
import re
import subprocess
import tempfile

import removal

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERIES = os.path.join(TOP, "series")
WHOLE_FILE_ROOTS = ("include", "kernel", "net", "Documentation", "tools")


class CommitError(Exception):
    """A patch does not fit the tree, or the series does not fit together."""


def read(path):
    with open(path, errors="surrogateescape") as f:
        return f.read()


def write(path, text):
    """Replace a file in one step; a hard link to its old content stays."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", errors="surrogateescape") as f:
        f.write(text)
    os.replace(path + ".new", path)


def patches():
    return [os.path.join(SERIES, name) for name in sorted(os.listdir(SERIES))
            if name.endswith(".patch")]


def head(patch):
    """What a patch says before its hunks."""
    return read(patch).split("\n---\n", 1)[0] + "\n"


def message(patch):
    """The commit's message: without the files, and the subject as such."""
    text = re.sub(r"^Files:\n(?:\t\S+\n?)*", "", head(patch), flags=re.M)
    return text.replace("Subject: ", "", 1).strip() + "\n"


def brought_in(patch):
    """The whole files that a patch names under `Files:`; with a slash, all
    that a directory of ours holds."""
    match = re.search(r"^Files:\n((?:\t\S+\n?)*)", head(patch), re.M)
    paths = []
    for path in match.group(1).split() if match else []:
        paths += files_below(path) if path.endswith("/") else [path]
    return paths


def files_below(root):
    return [os.path.relpath(os.path.join(where, name), TOP)
            for where, _, names in os.walk(os.path.join(TOP, root))
            for name in sorted(names)]


def touched(patch):
    return re.findall(r"^\+\+\+ b/(\S+)", read(patch), re.M)


def check_files():
    """Each of our kernel files has to be brought in by exactly one patch."""
    listed = [path for patch in patches() for path in brought_in(patch)]
    for path in listed:
        if listed.count(path) > 1:
            raise CommitError("%s is in the Files: of two patches" % path)
        if not os.path.exists(os.path.join(TOP, path)):
            raise CommitError("%s is in a patch's Files: but not in the tree"
                              % path)
    for root in WHOLE_FILE_ROOTS:
        for path in files_below(root):
            if path not in listed:
                raise CommitError("no patch of series/ names %s in its Files:"
                                  % path)


def apply(patch, files, tree):
    """The files that a patch's hunks change, with their text afterwards."""
    with tempfile.TemporaryDirectory() as where:
        for path in touched(patch):
            if path not in files:
                files[path] = read(os.path.join(tree, path))
            write(os.path.join(where, path), files[path])
        done = subprocess.run(["patch", "-p1", "-N", "-d", where, "-i", patch,
                               "--no-backup-if-mismatch", "-r", "-"],
                              capture_output=True, text=True)
        if done.returncode:
            raise CommitError("%s does not apply:\n%s"
                              % (os.path.relpath(patch, TOP),
                                 done.stdout + done.stderr))
        return {path: read(os.path.join(where, path))
                for path in touched(patch)}


def commits(tree):
    """What makes ours of a tree of the base, which stays as it is.

    Yields a message and the files of each commit: path to text, or to None
    where the file goes.
    """
    check_files()
    files = {path: removal.remove(path, read(os.path.join(tree, path)))
             for path in removal.EDITS}
    for path in removal.DELETED:
        if not os.path.exists(os.path.join(tree, path)):
            raise CommitError("%s is not there; is this a base, and pristine?"
                              % path)
    yield removal.MESSAGE, dict(files, **{path: None
                                          for path in removal.DELETED})
    for patch in patches():
        changed = apply(patch, files, tree) if touched(patch) else {}
        changed.update({path: read(os.path.join(TOP, path))
                        for path in brought_in(patch)})
        files.update(changed)
        yield message(patch), changed
