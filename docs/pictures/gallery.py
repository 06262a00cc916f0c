"""The gallery: each picture is what an example leaves in `picture` when it has run; `python -m docs.pictures gallery` runs them all."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

from docs.executed.place import SMALLEST

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "images" / "gallery"
#: example -> the page that shows it
GALLERY = {
    "add_op": "how-to/add-an-op.md",
    "add_variant": "how-to/add-a-variant.md",
    **{
        name: f"gallery/{name.replace('_', '-')}.md"
        for name in (
            "volatility", "several_assets", "own_forecasts", "order_book", "lead_lag", "paper_trading", "cpcv", "bundled_stocks",
            "cluster", "notebook",
        )
    },
}  # fmt: skip


def executed(name: str, **smaller: str) -> dict[str, Any]:
    """What an example leaves behind; the notebook's cells in order. smaller: texts of the notebook and what stands for them."""
    if name != "notebook":
        return runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    notebook = json.loads((ROOT / "examples" / "search.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            for before, after in smaller.items():
                text = text.replace(before, after)
            exec(text, names)
    return names


def draw_all() -> None:
    """Every picture anew, into docs/images/gallery."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        os.environ["REGIME_CACHE"] = str(Path(place) / "cache")
        traded()
        for name in GALLERY:
            found = executed(name)
            if name == "notebook":
                (FOLDER / "notebook.svg").write_text(found["found"].svg)
            else:
                found["picture"].savefig(FOLDER / f"{name}.png", dpi=100, metadata={"Software": None})


def traded() -> None:
    """A run on a market in which a return is 0.8 of the one before, and a day of paper trading of its network."""
    from commands.paper import app as paper  # only here
    from commands.walkforward import app as walkforward  # only here
    from tests.commands.small_run import swinging_market  # only here

    swinging_market(2_400, 3).to_parquet("swing.parquet")
    Path("small.toml").write_text(SMALLEST + 'baselines = ["none"]\n')
    words = "--symbol BTCUSDT --data swing.parquet --any-candles --config small.toml --jobs 1 --no-pages --quiet"
    walkforward(words.split(), standalone_mode=False)
    words = "--run reports/latest --venue local --speed 36000 --bars 24 --quiet"
    with contextlib.suppress(SystemExit):
        paper(words.split(), standalone_mode=False)
