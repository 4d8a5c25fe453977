# SPDX-License-Identifier: GPL-2.0
"""Where C files allocate, and what looks at the result.

A place is a call of a function that has one of ALLOCATES in its name: one from
elsewhere, or one that is defined in these files and has places itself.  What
looks at the result is the condition that the call is in, or the next one that
asks about the variable which the call sets.
"""
import collections
import re

ALLOCATES = re.compile(r"\b(\w*(?:alloc|create|clone|memdup|strdup|reserve|"
                       r"nest_start|nla_put|reg_target)\w*)\(")
# What only sounds like it.
FREES = {"bpf_mem_alloc_destroy"}
NO_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|^#(?:\\\n|[^\n])*|"
                     r"\"(?:\\.|[^\"\\\n])*\"", re.S | re.M)
MACRO = re.compile(r"^#define(?:\\\n|[^\n])*", re.M)
BODY = re.compile(r"^\{\n(.*?)^\}", re.S | re.M)
# Between the conditions of a line, each of which is a branch of its own.
AND_OR = re.compile(r"&&|\|\||\?:")


class Place:
    """A call that allocates.

    The lines self.check have the branch that tells success from failure: the
    only one there, in each copy of the function, or the first, or the last.
    With self.preset, it is failure if there was no call, too.  Or what the
    function returns is up to its caller, and self.passes_on; or why there is no
    such branch is self.problem.
    """
    def __init__(self, name, line, function, call):
        self.name, self.line = name, line
        self.function, self.call = function, call
        self.check, self.which = range(0), "only"
        self.preset = self.passes_on = False
        self.problem = None


class Statement:
    def __init__(self, text, line):
        self.text, self.line = text, line
        match = re.match(r"(?:else\s+)?(?:if|while)\s*(?=\()", text)
        end = closing(text, match.end()) if match else 0
        self.condition = text[match.end():end] if match else ""
        # Where what it does begins.
        self.action = end + len(text[end:]) - len(text[end:].lstrip())

    def lines(self, part):
        """The lines of a part of its text."""
        begin = self.text.index(part)
        first = self.line + self.text.count("\n", 0, begin)
        return range(first, first + part.count("\n") + 1)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def closing(text, opening):
    """Behind the parenthesis that closes the one at @opening."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if not depth:
            return at + 1
    return len(text)


def statements(text, line):
    """What is between semicolons and braces, but for those in parentheses."""
    found, depth, begin = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth or char not in ";{}":
            continue
        part = text[begin:at]
        skipped = len(part) - len(part.lstrip())
        found.append(Statement(part.strip(), line +
                               text.count("\n", 0, begin + skipped)))
        begin = at + 1
    return found


def functions(text):
    """(name, statements) of each function."""
    text = NO_CODE.sub(blank, text)
    for match in BODY.finditer(text):
        head = re.split(r"[;}]|\n\n", text[:match.start()])[-1]
        name = re.search(r"BPF_CALL_\d\((\w+)|(\w+)\(", head)
        if name:
            yield (name.group(1) or name.group(2),
                   statements(match.group(1),
                              text.count("\n", 0, match.start(1)) + 1))


def asks(part, variable):
    """Whether a condition is one of success or failure."""
    name = re.escape(variable)
    if re.search(r"(?:IS_ERR|IS_ERR_OR_NULL|PTR_ERR_OR_ZERO)\(%s\)" % name,
                 part):
        return True
    bare = re.sub(r"\b(?:un)?likely\b", "", part).strip("() \t\n")
    return bool(re.fullmatch(r"(?:return )?!?%s(?: < 0| \?.*)?" % name, bare,
                             re.S))


def is_checked(place, statement, subject, is_about):
    """Note the condition of a statement that is about the call, if one is."""
    parts = AND_OR.split(subject)
    about = [number for number, part in enumerate(parts) if is_about(part)]
    if not about:
        return False
    place.check = statement.lines(subject)
    if len(parts) == 1:
        place.which = "only"
    elif about[0] == 0:
        place.which = "first"
    elif about[-1] == len(parts) - 1:
        place.which = "last"
    else:
        place.problem = "is in the midst of a condition"
    return True


def is_settled(place, statement, variable):
    """The same, and whether a statement is the last to have the result."""
    name = re.escape(variable)
    if re.fullmatch(r"return\s+(\([\w ]+\))?%s" % name, statement.text):
        place.passes_on = True
    elif re.match(r"%s\s*=(?!=)" % name, statement.text):
        place.problem = "sets what nothing looks at"
    else:
        return is_checked(place, statement,
                          statement.condition or statement.text,
                          lambda part: asks(part, variable))
    return True


def is_preset(found, variable, check):
    """Whether what is checked is a pointer that is NULL from the beginning."""
    null = re.compile(r"\*%s = NULL\b" % re.escape(variable))
    return any(null.search(statement.text) for statement in found) and \
        not any("ERR" in statement.text for statement in found
                if statement.line in check)


def find_check(place, found, number, match):
    """Look behind a call for what looks at its result."""
    statement = found[number]
    text = statement.text
    before = text[statement.action:match.start()]
    after = text[closing(text, match.end() - 1):]
    assigned = re.search(r"(\w[\w>.\-]*)\s*=(?!=)", before)
    if match.start() < statement.action:
        is_checked(place, statement, statement.condition,
                   lambda part: place.call + "(" in part)
    elif before.startswith("return") and re.match(r"\s*\?", after):
        place.check = statement.lines(text)
    elif before.startswith("return"):
        place.passes_on = True
    elif not assigned:
        place.problem = "sets nothing"
    elif not any(is_settled(place, later, assigned.group(1))
                 for later in found[number + 1:]):
        place.problem = "sets what nothing looks at"
    else:
        place.preset = is_preset(found, assigned.group(1), place.check)


def places_of(name, function, parts, defined, allocators):
    for number, statement in enumerate(parts):
        for match in ALLOCATES.finditer(statement.text):
            call = match.group(1)
            if call in FREES or (call in defined and call not in allocators):
                continue
            line = statement.line + statement.text.count("\n", 0,
                                                         match.start())
            place = Place(name, line, function, call)
            find_check(place, parts, number, match)
            yield place


def in_macros(name, text):
    for macro in MACRO.finditer(text):
        for match in ALLOCATES.finditer(macro.group()):
            place = Place(name, text.count("\n", 0, macro.start()) + 1,
                          "#define", match.group(1))
            place.problem = "is in a macro"
            yield place


def places(sources):
    """All places of {file: text} in their order.

    Not those whose result goes to the caller as it is, since the call there is
    a place, too; unless what they call is not of these files.
    """
    defined = collections.defaultdict(list)
    for name, text in sources.items():
        for function, parts in functions(text):
            defined[function].append((name, parts))
    found, allocators = [], None
    while allocators != {place.function for place in found}:
        allocators = {place.function for place in found}
        found = [place for function, bodies in defined.items()
                 for name, parts in bodies
                 for place in places_of(name, function, parts, defined,
                                        allocators)]
    for place in found:
        if place.passes_on and place.call not in defined:
            place.problem = "leaves the result to the caller"
    for name, text in sources.items():
        found += in_macros(name, text)
    return sorted((place for place in found
                   if place.problem or not place.passes_on),
                  key=lambda place: (place.name, place.line))
