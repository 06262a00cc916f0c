"""The demonstration as a newcomer runs it: the tour (made small), then paper trading of its last network; and of one that stays flat."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports.page import write_page
from reports.planted_section import planted_section
from reports.run_folder import load_run
from tests.commands.small_run import environment
from tests.strategies.paper.rig import rewrite

#: the planted average of returns earns whatever network is found, so that no test hangs on what a search finds
SMALL = (
    "--preset tour --end 2022-03-01 --train 60d --validation 30d --test 60d --search-epochs 6 --training-epochs 10 --finalists 1 "
    "--baselines none --evidence 1 --jobs 1 --no-pages"
)
BECAUSE = "the window stays flat: plans chosen like its best one earned 0.9 standard errors on 40 earlier unseen days"


def call(folder: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where it ran, and what it said."""
    folder = tmp_path_factory.mktemp("tour")
    return folder, call(folder, "strategies.walkforward", *SMALL.split())


@pytest.mark.slow
def test_the_tour_tells_truth_beside_discovery_in_five_sentences(tour: tuple[Path, str]) -> None:
    folder, said = tour
    run = load_run(folder / "reports/latest")
    section = planted_section(run)
    assert section is not None
    assert len(section.story) == 5
    assert all(sentence in said for sentence in section.story)
    assert [row.share for row in section.rows] == [1.0, 1.0]  # all of it follows the return
    assert {row.truth["op"] for row in section.rows} == {"ema12"}
    for row in section.rows:
        assert row.found == ("ema12" in row.ops and row.inputs[0] == "return")
    text = html.unescape(write_page(run).read_text())
    assert all(sentence in text for sentence in (*section.story, *section.planted))


@pytest.mark.slow
def test_paper_trading_of_the_demo_sends_an_order_within_24_bars(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    paper = ("--run", "reports/latest", "--venue", "local", "--bars", "24", "--speed", "72000", "--json")
    told = json.loads(call(folder, "strategies.paper", *paper).splitlines()[-1])
    assert sum(told["orders"].values()) >= 1
    assert told["flat"] == ""


@pytest.mark.slow
def test_a_model_that_stays_flat_says_why_on_console_status_and_page(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    shutil.copytree(folder / "reports/latest", folder / "flat")
    model = folder / "flat/models/1"
    rule = json.loads((model / "features.json").read_text())["rule"] | {"threshold": 1e9, "exit_threshold": None}
    rewrite(model, "features.json", rule=rule, plan="flat", flat_because=BECAUSE)
    paper = ("--run", "flat", "--venue", "local", "--bars", "2", "--speed", "72000", "--out", "out")
    said = call(folder, "strategies.paper", *paper)
    assert f"no order will come, {BECAUSE}" in said
    assert "--preset tour" in said
    told = json.loads(call(folder, "strategies.paper", "status", "--out", "out", "--json"))
    assert [(each["flat"], each["orders"]) for each in told] == [(BECAUSE, {})]
    (page,) = (folder / "out/paper").glob("*.html")
    assert f"No order comes: {BECAUSE}." in page.read_text()


@pytest.mark.slow
def test_a_model_of_the_invented_market_is_refused_by_an_exchange(tour: tuple[Path, str]) -> None:
    folder, _ = tour
    keys = {"BYBIT_API_KEY": "k" * 18, "BYBIT_API_SECRET": "s" * 36}
    words = [sys.executable, "-m", "strategies.paper", "--run", "reports/latest", "--venue", "testnet"]
    done = subprocess.run(words, cwd=folder, env=environment() | keys, capture_output=True, text=True, timeout=280)
    assert done.returncode == 2
    assert "learnt the invented market of --source demo" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
