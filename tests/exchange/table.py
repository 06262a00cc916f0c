"""The table of faults: every test that holds one says which, and what is expected. `python -m tests.exchange.table --write` puts
it into docs/paper-trading.md; a test holds the two equal."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "paper-trading.md"
BEGIN, END = "<!-- faults: begin (generated: python -m tests.exchange.table --write) -->", "<!-- faults: end -->"


def rows() -> list[tuple[str, str, str]]:
    """(fault, expected, test) of every `@fault(...)` and of every row of a `FAULTS` table in tests/exchange."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_fault*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "fault":
                        name, expected = (ast.literal_eval(a) for a in mark.args)
                        found.append((name, expected, f"{path.stem}::{node.name}"))
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "ANSWERS" for t in node.targets
            ):
                for kind, (name, expected) in ast.literal_eval(node.value).items():
                    found.append((name, expected, f"{path.stem}::test_answer_to_an_order[{kind}]"))
    return found


def table() -> str:
    lines = ["| # | fault | expected | test |", "|---|---|---|---|"]
    lines += [f"| {k} | {name} | {expected} | `{test}` |" for k, (name, expected, test) in enumerate(rows(), 1)]
    return "\n".join(lines)


def written() -> str:
    """The table as the page has it."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{head}\n{table()}\n{tail}", encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    else:
        sys.stdout.write(table() + "\n")
