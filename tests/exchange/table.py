"""The table of faults: every test that holds one says which, and what is expected. `python -m tests.exchange.table --write` puts
it into docs/paper-trading.md; a test holds the two equal."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "paper-trading.md"
BEGIN, END = "<!-- {}: begin (generated: python -m tests.exchange.table --write) -->", "<!-- {}: end -->"


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


def codes() -> str:
    """The retCode table of the trader."""
    from strategies.paper.orders.exchange import RET_CODES

    head = ["| retCode | meaning | what happens |", "|---|---|---|"]
    return "\n".join(head + [f"| {code} | {meaning} | {what} |" for code, (what, meaning) in sorted(RET_CODES.items())])


def written(name: str) -> str:
    """A generated part as the page has it."""
    text = PAGE.read_text(encoding="utf-8")
    begin = BEGIN.format(name)
    return text[text.index(begin) + len(begin) : text.index(END.format(name))].strip()


def write() -> None:
    for name, content in (("codes", codes()), ("faults", table())):
        text = PAGE.read_text(encoding="utf-8")
        at, end = text.index(BEGIN.format(name)) + len(BEGIN.format(name)), text.index(END.format(name))
        PAGE.write_text(f"{text[:at]}\n{content}\n{text[end:]}", encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    else:
        sys.stdout.write(table() + "\n")
