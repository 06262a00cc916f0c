"""Every example runs, is short, prints what its page says, and leaves the picture that its page shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.simulated import simulate
from docs.pictures.gallery import FOLDER, GALLERY, executed
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.space.search_space import SearchSpace
from nas.tasks.windows import Window
from nas.tasks.work import TrainTask, run_task

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {path.stem: path for path in (ROOT / "examples").glob("add_*.py")}
SHORT = {**dict.fromkeys(EXAMPLES, 30), **{name: 40 for name in GALLERY if name not in EXAMPLES and name != "notebook"}}


def words(text: str) -> str:
    """The text without its figures and the ops that a search chose: both may differ from processor to processor."""
    return re.sub(r"= \w+\(", "= op(", re.sub(r"[-+]?\d+(\.\d+)?", "#", text)).strip()


def page_of(name: str) -> str:
    pages = (ROOT / "docs").rglob("*.md")
    return next(text for text in (page.read_text() for page in pages) if f'--8<-- "examples/{name}.py"' in text)


@pytest.mark.parametrize("name", sorted(SHORT))
def test_example_prints_what_its_page_shows(
    name: str, registries: None, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    # a day of paper trading is what one of them reads
    monkeypatch.chdir(request.getfixturevalue("stranger_template") if name == "paper_trading" else tmp_path)
    shown = re.search(r"```text\n(.*?)```", page_of(name), re.DOTALL)
    assert shown
    capsys.readouterr()
    left = executed(name)
    assert words(capsys.readouterr().out) == words(shown[1])
    if name in GALLERY:
        axes = left["picture"].axes
        assert axes
        assert all(axis.has_data() and axis.get_title() for axis in axes)
        with Image.open(FOLDER / f"{name}.png") as kept:
            assert kept.size == tuple(round(100 * inches) for inches in left["picture"].get_size_inches())


def test_the_gallery_has_twelve_pictures_each_on_its_page() -> None:
    kept = {path.stem: path.name for path in FOLDER.iterdir()}
    assert set(kept) == set(GALLERY)
    assert len(kept) == 12
    index = (ROOT / "docs/gallery/index.md").read_text()
    for name, page in GALLERY.items():
        assert f"images/gallery/{kept[name]}" in (ROOT / "docs" / page).read_text()
        assert f"images/gallery/{kept[name]}" in index


@pytest.mark.parametrize("name", sorted(SHORT))
def test_example_is_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= SHORT[name]


def test_every_how_to_page_has_an_example() -> None:
    pages = [page.read_text() for page in (ROOT / "docs/how-to").glob("add-*.md")]
    assert len(pages) == len(EXAMPLES) >= 6
    assert all(re.search(r'--8<-- "examples/add_\w+\.py"', page) for page in pages)


def test_the_cells_of_the_notebook_run_in_order() -> None:
    names = executed("notebook", **{"epochs=10": "epochs=2, channels=4"})
    assert "<svg" in names["found"]._repr_html_()
    assert "<svg" in (FOLDER / "notebook.svg").read_text()


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
