"""The pictures of the concept pages are drawn by the project's own code, and every one of them is shown."""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from docs.pictures.__main__ import NAMES
from docs.pictures.style import FOLDER, save

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [*NAMES, "regret"])
def test_picture_is_drawn(name: str, tmp_path: Path) -> None:
    drawn = save(importlib.import_module(f"docs.pictures.{name}").draw(), name, tmp_path)
    kept = (FOLDER if name in NAMES else FOLDER.parent) / drawn.name
    words = [
        [e.tag for e in ElementTree.parse(path).iter() if e.get("id", "").startswith("axes")] for path in (drawn, kept)
    ]
    assert words[0] == words[1] != []


def test_every_picture_is_on_a_page_and_every_page_has_one() -> None:
    pages = [page.read_text() for page in (ROOT / "docs/concepts").glob("*.md")]
    assert all(any(f"images/concepts/{name}.svg" in page for page in pages) for name in NAMES)
    assert all("images/concepts/" in page for page in pages)
    assert sorted(path.stem for path in FOLDER.glob("*.svg")) == sorted(NAMES)


def test_the_second_order_path_ends_where_the_formula_says() -> None:
    from docs.pictures.bilevel import path

    for step in (0.1, 0.3, 0.5):
        assert path(step)[-1] == pytest.approx([2.0 / (1.0 + 2.0 * step)] * 2, abs=1e-2)
    assert path(0.0)[-1] == pytest.approx([2.0, 2.0], abs=5e-2)


def test_the_architecture_picture_is_drawn_from_the_imports_of_today(tmp_path: Path) -> None:
    from docs.pictures import architecture

    found = architecture.imports()
    counts = architecture.arrows(found)
    assert ("data", "nas") not in counts  # never that way
    assert counts["nas", "data"] > 10
    assert architecture.doors(found, "data")[0][0] == "data.panel"
    drawn = save(architecture.draw(), "architecture", tmp_path).read_text()
    kept = (FOLDER.parent / "architecture.svg").read_text()
    # every label stands in a comment before its glyphs; doors and counts move with every new module, and may lag behind
    said = [set(re.findall(r"<!-- (.*?) -->", text)) for text in (drawn, kept)]
    floors = {name for package in architecture.PACKAGES for name in (package, *architecture.rooms(package))}
    assert "strategies" in floors
    assert floors <= said[0]
    assert floors <= said[1], "floors or rooms have changed: run `python -m docs.pictures architecture`"
