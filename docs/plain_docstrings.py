"""Our docstrings are plain text with shapes ([batch, time]), products (a * b) and indented formulas; this makes Markdown of them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import griffe

NAME = r"[a-z][a-z0-9]*(?:\\_[a-z0-9]+)*"  # its underscores are escaped already
NAMES = re.compile(rf"(?:(?<=^)|(?<=[.;] ))({NAME}(?:, {NAME})*):(?= |$)")


class PlainDocstrings(griffe.Extension):
    """What Markdown would take for links, emphasis or tags is escaped outside backticks; formulas become code, names of parameters bold."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if not isinstance(obj, griffe.Class):  # its fields are not known yet
            rewrite(obj, {p.name for p in obj.parameters} if isinstance(obj, griffe.Function) else ())

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        rewrite(cls, cls.members)


def rewrite(obj: griffe.Object, names: Collection[str]) -> None:
    if obj.docstring is not None and "\n----" not in obj.docstring.value:  # numpydoc is Markdown already
        obj.docstring.value = markdown_of(obj.docstring.value, names)


def markdown_of(text: str, names: Collection[str] = ()) -> str:
    """A docstring, dedented by Python's rules -> Markdown that shows the same words. names: of parameters and fields.

    An indented line is a formula, unless it goes on with a sentence that has not ended.
    """
    lines: list[str] = []
    formula = False
    for line in text.splitlines():
        goes_on = bool(lines) and not formula and bool(lines[-1]) and lines[-1][-1] not in ".:;"
        was, formula = formula, line.startswith("    ") and not goes_on
        if lines and lines[-1] and was != formula:
            lines.append("")
        shown = line if formula else emphasised(escaped(re.sub(r"(\S) {2,}", r"\1 ", line.strip())), names)
        if shown.startswith("**") and lines and lines[-1]:
            lines[-1] += "  "  # each begins a line of its own
        lines.append(shown)
    return "\n".join(lines)


def escaped(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(p if p.startswith("`") else re.sub(r"([\[\]*_<])", r"\\\1", p) for p in parts)


def emphasised(line: str, names: Collection[str]) -> str:
    """`name: what it is` at the beginning of a line or sentence, also of several names, with the names in bold."""

    def bold(match: re.Match[str]) -> str:
        given = [name.replace("\\", "") for name in match[1].split(", ")]
        return f"**{match[1]}**:" if all(name in names for name in given) else match[0]

    return NAMES.sub(bold, line)
