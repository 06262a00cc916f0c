"""Finds the commands that pages, docstrings and `--help` texts show."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: CHANGELOG.md is left out: it tells of its day
PAGES = tuple(ROOT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md", "SECURITY.md"))
SOURCES = (
    "data",
    "nas",
    "strategies",
    "reports",
    "lab",
    "commands",
    "benchmarks",
    "examples",
    "docs/pictures",
    "tests/strategies/paper",
)
#: kinds of block; commands stand in `bash` and nowhere else
FENCES = ("bash", "python", "{ .python }", "toml", "text")
EXAMPLES = ("python -m strategies.", "python -m data.", "python -m nas.", "python -m reports", "nextopen ")
PROGRAMS = ("python", "nextopen", "regime-nas", "make", "pre-commit", "pip", "git", "export", ".")

Command = tuple[str, ...]


def pages() -> tuple[Path, ...]:
    return (*PAGES, *sorted((ROOT / "docs").rglob("*.md")))


def blocks(text: str) -> list[tuple[str, str]]:
    """(kind, content) of every fenced block."""
    return re.findall(r"^```(.*?)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def words(line: str) -> Command:
    """One line as a shell reads it: without its comment, `[optional]` parts given, `...` left out."""
    found = shlex.split(re.sub(r"\[([^\]]*)\]", r"\1", line), comments=True)
    return tuple(word for word in found if word != "...")


def lines_of_blocks(text: str) -> Iterator[str]:
    for kind, content in blocks(text):
        if kind == "bash":
            yield from (line for line in content.splitlines() if words(line))


def inline(text: str) -> Iterator[str]:
    """Commands between backticks, outside blocks; they may be broken over lines."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        line = " ".join(span.split())
        first, _, rest = line.partition(" ")
        if first in PROGRAMS and rest and not line.startswith("python -m ..."):
            yield line


def in_source(path: Path) -> Iterator[str]:
    """Commands between backticks in docstrings, and the examples of `--help` texts: strings that begin as a command does."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            yield from inline(ast.get_docstring(node) or "")
        text = node.value if isinstance(node, ast.Constant) and id(node) not in parts else None
        if isinstance(text, str) and text.startswith(EXAMPLES) and ": " not in text:  # a docstring may begin so, too
            yield re.sub(r" *\(.*\)$", "", text)


def shown() -> dict[Command, list[str]]:
    """Every command -> the files that show it, in the order in which a reader meets them."""
    found: dict[Command, list[str]] = {}
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for line in (*lines_of_blocks(text), *inline(text)):
            found.setdefault(words(line), []).append(str(page.relative_to(ROOT)))
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line in in_source(path):
                found.setdefault(words(line), []).append(str(path.relative_to(ROOT)))
    return found


def modules_named() -> dict[str, list[str]]:
    """Modules of every `python -m MODULE` in any string of the code (messages tell people what to run) -> files."""
    found: dict[str, list[str]] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in re.findall(r"python -m ([a-z_]\w*(?:\.\w+)*)", path.read_text(encoding="utf-8")):
                found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found
