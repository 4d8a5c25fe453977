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
    text = re.sub(r"^Files:\n(?:\t+\S.*\n?)*", "", head(patch), flags=re.M)
    return text.replace("Subject: ", "", 1).strip() + "\n"


def listed(patch):
    """What stands under a patch's `Files:`: (path, what it is without)."""
    match = re.search(r"^Files:\n((?:\t+\S.*\n?)*)", head(patch), re.M)
    entries = []
    for line in match.group(1).splitlines() if match else []:
        if line.startswith("\t\twithout "):
            entries[-1][1].append(line[len("\t\twithout "):])
        else:
            entries.append((line.strip(), []))
    return entries


def brought_in(patch):
    """The whole files that a patch brings, with their text.

    With a slash, all that a directory of ours holds.  A file that grows is
    listed by each patch that it grows with; all but the last say what is not
    in it yet.
    """
    files = {}
    for path, cuts in listed(patch):
        for name in files_below(path) if path.endswith("/") else [path]:
            if not os.path.exists(os.path.join(TOP, name)):
                raise CommitError("%s is in a patch's Files: but not in the "
                                  "tree" % name)
            files[name] = stage(name, read(os.path.join(TOP, name)), cuts)
    return files


COMMENT = r"(?:^/\*(?:[^*]|\*(?!/))*\*/\n)?"


def pattern(cut):
    """What a `without` takes out: NAME() a function with its prototypes, `call
    NAME` a helper, NAME a struct or an object, `section TITLE` of a document,
    `lines WORD` all that have it, "TEXT" just that."""
    if cut.startswith('"'):
        return re.escape(cut.strip('"').encode().decode("unicode_escape"))
    if cut.startswith("lines "):
        return r"^[^\n]*%s[^\n]*\n" % re.escape(cut[len("lines "):])
    if cut.startswith("section "):
        return (r"^%s\n([=~-])\1*\n.*?(?=^[^\n]+\n\1\1\1+\n|\Z)"
                % re.escape(cut[len("section "):]))
    if cut.endswith("()"):
        name = re.escape(cut[:-2])
        return (COMMENT + r"^(?:\w[^\n;{}()]*\n)?\w?[^\n;{}()]*\b%s\([^;{}]*"
                r"(?:;|\)\n\{\n.*?^\})\n\n?" % name)
    if cut.startswith("call "):
        return (COMMENT + r"^BPF_CALL_\d\(%s,.*?^\}\n\n?"
                % re.escape(cut[len("call "):]))
    return (COMMENT + r"^[^\n]*\b%s(?:\[\])?(?: = |[ ])\{.*?^\};\n\n?"
            % re.escape(cut))


def stage(path, text, cuts):
    for cut in cuts:
        text, count = re.subn(pattern(cut), "", text, flags=re.M | re.S)
        if not count:
            raise CommitError("%s: nothing to leave out by: without %s"
                              % (path, cut))
    return text


def files_below(root):
    return [os.path.relpath(os.path.join(where, name), TOP)
            for where, _, names in os.walk(os.path.join(TOP, root))
            for name in sorted(names)]


def touched(patch):
    return re.findall(r"^\+\+\+ b/(\S+)", read(patch), re.M)


def check_files():
    """All of our kernel files have to be there in the end, and whole."""
    final = {}
    for patch in patches():
        final.update(brought_in(patch))
    for path, text in final.items():
        if text != read(os.path.join(TOP, path)):
            raise CommitError("no patch of series/ brings all of %s" % path)
    for root in WHOLE_FILE_ROOTS:
        for path in files_below(root):
            if path not in final:
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
        changed.update(brought_in(patch))
        files.update(changed)
        yield message(patch), changed
