"""Every example runs, is short, and prints what its page says."""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.simulated import simulate
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.space.search_space import SearchSpace
from nas.tasks.windows import Window
from nas.tasks.work import TrainTask, run_task

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


@pytest.mark.parametrize("name", ["lightgbm_model:boosted", "foundation_model:Pretrained"])
def test_a_model_of_the_gallery_forecasts_and_reads_no_later_bar(name: str) -> None:
    if name.startswith("lightgbm"):
        pytest.importorskip("lightgbm", reason="LightGBM is in the test extra")
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate(["BTCUSDT", "ETHUSDT"], "60", start=start, end=start + np.timedelta64(1_400, "h"))
    cut = 1_300
    future = np.array(panel.values)
    future[cut:] *= 1.3
    features = {"return": ("zscore24",), "range": ("zscore24",)}
    window = Window(0, slice(200, 800), slice(900, 1_100), slice(1_200, 1_400), 20)
    told = []
    for each in (panel, replace(panel, values=future)):
        samples = Samples.of(each, (6,), features)
        space = SearchSpace(horizons=(6,)).with_features(features)
        task = TrainTask(window, f"examples.{name}", 0, space, TrainingSettings())
        told.append(run_task(task, samples).test_forecasts)
    assert told[0].shape == (200, 2)
    assert np.isfinite(told[0]).all()
    assert told[0].std() > 0.0
    assert np.array_equal(told[0][: cut - 1_200], told[1][: cut - 1_200])
    assert not np.array_equal(told[0], told[1])
