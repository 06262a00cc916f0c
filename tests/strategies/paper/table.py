"""The table of faults: every test that holds one says which, and what is expected. `python -m tests.strategies.paper.table --write` puts
it into docs/paper-trading.md; a test holds the two equal."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "paper-trading.md"
BEGIN, END = "<!-- {}: begin (generated: python -m tests.strategies.paper.table --write) -->", "<!-- {}: end -->"


def rows() -> list[tuple[str, str, str]]:
    """(fault, expected, test) of every `@fault(...)` and of every row of a `FAULTS` table in tests/strategies/paper."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
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


#: what is asked of the exchange; the first four change something
CALLS = ("create", "cancel", "set leverage", "set mode", "order", "open orders", "executions", "positions", "wallet", "account", "fees",
         "instrument", "risk tiers", "ticker", "candles", "funding", "server time")  # fmt: skip
_WRITES = CALLS[:4]


def outcome(kind: str, call: str, tries: int) -> str:
    """What a call must end in, and after how many requests."""
    if call in _WRITES:
        how = {"passing": "Ambiguous", "keys": "KeysRefused", "done": "Ambiguous" if call == "create" else "done"}
        return f"{how.get(kind, 'Refused')} after 1"
    if kind == "keys":
        return "KeysRefused after 3"
    return f"Unavailable after {tries if kind == 'passing' else 1}"


def codes() -> str:
    """Classes of retCodes, how many codes each has, what happens, and what was counted: every code x every call."""
    from strategies.paper.orders.ret_codes import CLASSES, ret_codes

    count = Counter(kind for _, kind in ret_codes().values())
    lines = [
        "| class | codes | says | an order that gets it | other writes | reads | code x call, counted |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, (says, does) in CLASSES.items():
        writes, reads = outcome(kind, "set mode", 5), outcome(kind, "positions", 5)
        lines.append(
            f"| {kind} | {count[kind]} | {says} | {does} | {writes} | {reads} | {count[kind] * len(CALLS):,} |"
        )
    return "\n".join([*lines, f"| all | {sum(count.values())} | | | | | {sum(count.values()) * len(CALLS):,} |"])


def written(name: str) -> str:
    """A generated part as the page has it."""
    text = PAGE.read_text(encoding="utf-8")
    begin = BEGIN.format(name)
    return text[text.index(begin) + len(begin) : text.index(END.format(name))].strip()


def clients() -> str:
    """What ccxt and pybit ask of the stand-in, how much of it was compared, and what differs."""
    from tests.data.standin.clients import suites  # loads ccxt
    from tests.data.standin.clients import table as counted

    return counted(suites())


def write() -> None:
    for name, content in (("codes", codes()), ("faults", table()), ("clients", clients())):
        text = PAGE.read_text(encoding="utf-8")
        at, end = text.index(BEGIN.format(name)) + len(BEGIN.format(name)), text.index(END.format(name))
        PAGE.write_text(f"{text[:at]}\n{content}\n{text[end:]}", encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    else:
        sys.stdout.write(table() + "\n")
