"""Our docstrings are plain text with shapes ([batch, time]), products (a * b) and indented formulas; this makes Markdown of them."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """What Markdown would take for links, emphasis or tags is escaped outside backticks; indented lines become code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown_of(obj.docstring.value)


def markdown_of(text: str) -> str:
    """A docstring, dedented by Python's rules -> Markdown that shows the same words."""
    lines: list[str] = []
    for line in text.splitlines():
        formula = line.startswith("    ")
        if lines and lines[-1] and formula != lines[-1].startswith("    "):
            lines.append("")
        lines.append(line if formula else escaped(line))
    return "\n".join(lines)


def escaped(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(p if p.startswith("`") else re.sub(r"([\[\]*_<])", r"\\\1", p) for p in parts)
