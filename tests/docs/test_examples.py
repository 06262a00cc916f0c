"""Every example runs, is short, and prints what its page says."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {path.stem: path for path in (ROOT / "examples").glob("add_*.py")}
MOST_LINES = 30


def words(text: str) -> str:
    """The text without its figures and the ops that a search chose: both may differ from processor to processor."""
    return re.sub(r"= \w+\(", "= op(", re.sub(r"[-+]?\d+(\.\d+)?", "#", text)).strip()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_prints_what_its_page_shows(name: str, registries: None, capsys: pytest.CaptureFixture[str]) -> None:
    page = next(p for p in (ROOT / "docs/how-to").glob("*.md") if f"examples/{name}.py" in p.read_text()).read_text()
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert shown
    runpy.run_path(str(EXAMPLES[name]), run_name="__main__")
    assert words(capsys.readouterr().out) == words(shown[1])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_is_short(name: str) -> None:
    assert len(EXAMPLES[name].read_text().splitlines()) <= MOST_LINES


def test_every_how_to_page_has_an_example() -> None:
    pages = [page.read_text() for page in (ROOT / "docs/how-to").glob("add-*.md")]
    assert len(pages) == len(EXAMPLES) >= 6
    assert all(re.search(r'--8<-- "examples/add_\w+\.py"', page) for page in pages)


def test_the_cells_of_the_notebook_run_in_order() -> None:
    notebook = json.loads((ROOT / "examples/search.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        exec(cell.replace("epochs=10", "epochs=2, channels=4"), names)
    assert "<svg" in names["found"]._repr_html_()  # type: ignore[attr-defined]
