"""The documentation builds strictly and works from disk, without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, built as `make docs` builds them."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).exists(), name
        assert f'href="{name}"' in front, f"{name} is in no menu"


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r'<(?:script|img|iframe|link rel="(?:stylesheet|preload|icon)")[^>]*?(?:src|href)="?(https?:)?//[^>]*>'
    )
    for page in site.rglob("*.html"):
        assert not (found := loads.search(page.read_text())), f"{page.name}: {found and found[0]}"


def test_docstrings_keep_their_words_formulas_and_names() -> None:
    from docs.plain_docstrings import markdown_of

    text = (
        "Weighted [a, b] sum.\n\nx_in, decay: inputs [k]; gain: a number that\n        goes on here. other: a word.\n"
        "So:\n    y[t] = a * b\nand no more."
    )
    assert markdown_of(text, {"x_in", "decay", "gain"}) == (
        "Weighted \\[a, b\\] sum.\n\n**x\\_in, decay**: inputs \\[k\\]; **gain**: a number that\ngoes on here. other: a word.\n"
        "So:\n\n    y[t] = a * b\n\nand no more."
    )
