# SPDX-License-Identifier: GPL-2.0
"""Edits of a text: each takes it and returns it, and how often it matched."""
import re


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
