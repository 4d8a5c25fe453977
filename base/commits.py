# SPDX-License-Identifier: GPL-2.0
"""The series as commits: what each changes, in any tree of a base.

series/ has a file for each commit, with its message and the whole files that it
brings; series/BASE/ has what it then changes in files of that base, or in those
that it brought.  A commit that does neither for a base is none there.
"""
import os
import re
import subprocess
import tempfile

import removal
from paths import TOP

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


def version(tree):
    """The version of a kernel tree, as far as it tells one base from another."""
    text = read(os.path.join(tree, "Makefile"))
    return ".".join(re.search(r"^%s = (\d+)" % name, text, re.M).group(1)
                    for name in ("VERSION", "PATCHLEVEL"))


def bases():
    return [name for name in os.listdir(SERIES)
            if os.path.isdir(os.path.join(SERIES, name))]


class Commit:
    """A commit of the series, with what the files that it brings are without.

    `Files:` lists them.  A file that grows is first listed with what it is
    without, and then by each commit that it grows with, which says with what.
    """

    def __init__(self, name, base, cuts):
        text = read(os.path.join(SERIES, name))
        text, _, files = text.partition("\nFiles:\n")
        self.name = name
        self.message = text.replace("Subject: ", "", 1).strip() + "\n"
        self.diff = os.path.join(SERIES, base, name + ".diff")
        if not os.path.exists(self.diff):
            self.diff = None
        self.files = {}
        for line in files.splitlines():
            self.take(line, cuts)

    def take(self, line, cuts):
        """A line below `Files:`; cuts: of each file, as far as this."""
        if not line.startswith("\t\t"):
            self.path = line.strip()
            self.files[self.path] = cuts.setdefault(self.path, [])
            return
        how, _, what = line.strip().partition(" ")
        if how == "without":
            cuts[self.path] = cuts[self.path] + [what]
        elif how == "with" and what in cuts[self.path]:
            cuts[self.path] = [cut for cut in cuts[self.path] if cut != what]
        else:
            raise CommitError("%s: %s: not understood: %s"
                              % (self.name, self.path, line.strip()))
        self.files[self.path] = cuts[self.path]

    def touched(self):
        return re.findall(r"^\+\+\+ b/(\S+)", read(self.diff), re.M)

    def brought_in(self):
        """The whole files that it brings, with their text."""
        for path in self.files:
            if not os.path.exists(os.path.join(TOP, path)):
                raise CommitError("%s: %s is not there" % (self.name, path))
        return {path: stage(path, read(os.path.join(TOP, path)), cuts)
                for path, cuts in self.files.items()}


def series(base):
    """The commits for a base, in their order."""
    cuts = {}
    found = [Commit(name, base, cuts) for name in sorted(os.listdir(SERIES))
             if re.match(r"\d+-", name)]
    left = ["%s without %s" % (path, cut) for path in cuts for cut in cuts[path]]
    if left:
        raise CommitError("no commit brings all of %s" % left[0])
    return [commit for commit in found if commit.files or commit.diff]


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
    # What stood between two blank lines leaves one.
    if cuts and path.endswith((".c", ".h")):
        text = re.sub(r"\n{3,}", "\n\n", text)
    return text


def files_below(root):
    return [os.path.relpath(os.path.join(where, name), TOP)
            for where, _, names in os.walk(os.path.join(TOP, root))
            for name in sorted(names)]


def check_files(found):
    """All of our kernel files have to be in a commit."""
    brought = {path for commit in found for path in commit.files}
    for root in WHOLE_FILE_ROOTS:
        for path in files_below(root):
            if path not in brought:
                raise CommitError("no commit of series/ names %s in its Files:"
                                  % path)


def apply(commit, files, tree):
    """The files that a commit's diff changes, with their text afterwards."""
    paths = commit.touched()
    with tempfile.TemporaryDirectory() as where:
        for path in paths:
            if path not in files and os.path.exists(os.path.join(tree, path)):
                files[path] = read(os.path.join(tree, path))
            if path in files:
                write(os.path.join(where, path), files[path])
        done = subprocess.run(["patch", "-p1", "-N", "-d", where, "-i",
                               commit.diff, "--no-backup-if-mismatch",
                               "-r", "-"], capture_output=True, text=True)
        if done.returncode:
            raise CommitError("%s does not apply:\n%s"
                              % (os.path.relpath(commit.diff, TOP),
                                 done.stdout + done.stderr))
        return {path: read(os.path.join(where, path)) for path in paths}


def commits(tree):
    """What makes ours of a tree of a base, which stays as it is.

    Yields a message and the files of each commit: path to text, or to None
    where the file goes.
    """
    base = version(tree)
    if base not in bases():
        raise CommitError("%s is Linux %s; there is a series for %s"
                          % (tree, base, " and ".join(sorted(bases()))))
    found = series(base)
    check_files(found)
    edits, deleted = removal.edits(base), removal.DELETED
    files = {path: removal.remove(edits, path, read(os.path.join(tree, path)))
             for path in edits}
    for path in deleted:
        if not os.path.exists(os.path.join(tree, path)):
            raise CommitError("%s is not there; is this a base, and pristine?"
                              % path)
    yield removal.MESSAGE, dict(files, **{path: None for path in deleted})
    for commit in found:
        changed = commit.brought_in()
        files.update(changed)
        if commit.diff:
            changed.update(apply(commit, files, tree))
        files.update(changed)
        yield commit.message, changed
