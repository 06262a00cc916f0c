"""The house stands: no circle of imports, and an import inside a function says why it is there."""

from __future__ import annotations

import ast
import doctest
import graphlib
import importlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "nas", "strategies", "reports", "lab", "commands")


def test_no_modules_import_each_other() -> None:
    """Neither directly nor around corners, nor for types only."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises with the circle


def unexplained(source: str) -> list[int]:
    """Lines where a function begins to import without a comment on or above that line."""
    lines = source.splitlines()
    found = set()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            for body in (getattr(node, name, []) for name in ("body", "orelse", "finalbody")):
                statements = body if isinstance(body, list) else []
                runs = itertools.groupby(statements, lambda each: isinstance(each, ast.Import | ast.ImportFrom))
                found |= {next(iter(run)).lineno for imports, run in runs if imports}
    return sorted(n for n in found if "#" not in lines[n - 1] and not lines[n - 2].lstrip().startswith("#"))


def test_an_import_without_reason_is_seen() -> None:
    source = """
def f():
    import a
    import b
    g()
    # start-up time
    import c
    try:
        import d  # optional
    except E:
        import e
"""
    assert unexplained(source) == [3, 11]


BUILT = ("data", "nas", "strategies", "reports", "lab", "commands")


@pytest.mark.parametrize("package", BUILT)
def test_an_import_inside_a_function_has_its_reason(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert [f"{f.relative_to(ROOT)}:{n}" for f in files for n in unexplained(f.read_text(encoding="utf-8"))] == []


MOST_LINES = 60  # of a function, its docstring apart
#: what may be longer, and why
LONG = {
    "strategies/backtest/ledger.py run": "one compiled loop: the order of a bar's events stands in one place",
    "strategies/backtest/ledger.py _execute": "one compiled loop: what a fill changes in an account, in the order of an exchange",
    "nas/kernels/exponential.py _ewm": "one compiled loop: the settled path and the other share six numbers of state, bit for bit",
    "lab/tabular_kernel.py train_cell": "one compiled loop: a training's arrays and the views of its weights are made in one place",
    "lab/risk.py compute": "the arms of a registered plan, in its order",
    "nas/network/cell_kernels.py forward": "one compiled loop over the sources of a cell, with what its way back needs",
    "nas/network/cell_kernels.py backward": "one compiled loop over the sources of a cell, the last first",
    "nas/kernels/comoments.py _eight_pairs": "ten sums in registers from the first line to the last",
    "nas/kernels/moments.py _sums": "one compiled loop: blocks one by one and eight at once share tails and anchor, bit for bit",
    "nas/kernels/moments.py _moments": "one compiled loop: the clean path and the other share a block's tails, bit for bit",
}


def long_functions(package: str) -> set[str]:
    found = set()
    for file in (ROOT / package).rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                told = function.body[0] if ast.get_docstring(function) else None
                lines = function.end_lineno - function.lineno + 1 - (told.end_lineno - told.lineno + 1 if told else 0)
                if lines > MOST_LINES:
                    found.add(f"{file.relative_to(ROOT).as_posix()} {function.name}")
    return found


@pytest.mark.parametrize("package", BUILT)
def test_no_function_is_long_without_a_reason(package: str) -> None:
    assert long_functions(package) == {name for name in LONG if name.startswith(f"{package}/")}


FACES = ("data", "nas", "nas.search", "strategies", "strategies.backtest", "reports")


def test_the_page_of_public_names_lists_them_all() -> None:
    """Its links go to where each is described; `make site` refuses a dead one."""
    page = (ROOT / "docs" / "reference" / "public.md").read_text(encoding="utf-8")
    listed = {f"{link.split('.')[0]}.{link.rsplit('.', 1)[1]}" for link in re.findall(r"\]\[([\w.]+)\]", page)}
    assert listed == {
        f"{face.split('.')[0]}.{name}" for face in FACES for name in importlib.import_module(face).__all__
    }


def test_a_package_loads_nothing_before_it_is_asked() -> None:
    code = f"import sys, {', '.join(FACES)}; print(sorted({{'numpy', 'pandas', 'torch'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def homes() -> dict[str, set[str]]:
    """Module -> public names that are written there."""
    found: dict[str, set[str]] = {}
    for face in FACES:
        for name in importlib.import_module(face).__all__:
            found.setdefault(getattr(importlib.import_module(face), name).__module__, set()).add(name)
    return found


def test_examples_of_public_names_run(registries: None, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [doctest.testmod(importlib.import_module(m), optionflags=doctest.ELLIPSIS) for m in sorted(homes())]
    assert sum(outcome.failed for outcome in outcomes) == 0, capsys.readouterr().out
    assert sum(outcome.attempted for outcome in outcomes) > 50


def test_every_public_name_is_described_with_an_example() -> None:
    described = {
        (m, n): importlib.import_module(m).__dict__[n].__doc__ or "" for m, names in homes().items() for n in names
    }
    assert [name for name, text in described.items() if "Examples\n    --------\n    >>> " not in text] == []


def test_the_way_of_a_bar_names_files_that_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    way = re.findall(r"^\d+\. `([\w/.]+)`", page, flags=re.M)
    examples = re.findall(r"\| `(tests/[\w/.]+)` \|", page)
    assert len(way) == len(set(way)) <= 12
    assert examples
    assert [name for name in (*way, *examples) if not (ROOT / name).is_file()] == []
