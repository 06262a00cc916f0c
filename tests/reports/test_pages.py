from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.panel import InputError
from nas.space.drawing import draw_genotype
from reports.__main__ import main
from reports.figures import SHOWN, equity_figure
from reports.page import build_pages, write_page, write_runs_index
from reports.performance import daily_returns, performance
from reports.run_folder import link_latest, load_run
from reports.search_section import decided_told, edge_names, size_told, window_figures
from reports.tearsheets import write_tearsheet
from tests.reports.run_builder import build_run, genotype

BARS = 24 * 12


def without_library(page: str) -> str:
    """The page less the embedded plotly, whose text holds addresses it never calls here."""
    scripts = re.findall(r"<script.*?</script>", page, flags=re.S)
    return page.replace(max(scripts, key=len), "")


def test_build_pages_writes_page_tearsheets_list_and_link(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS, strategies=("searched", "buy_and_hold"))
    steps: list[str] = []
    page = build_pages(folder, progress=steps.append)
    assert page == folder / "index.html"
    assert {path.name for path in (folder / "tearsheets").iterdir()} >= {"searched.html", "buy_and_hold.html"}
    assert os.readlink(tmp_path / "latest") == "runs/synthetic"
    assert 'href="runs/synthetic/index.html"' in (tmp_path / "index.html").read_text()
    assert len(steps) >= 3


def test_page_says_simulated_only_where_the_data_is(tmp_path: Path) -> None:
    simulated = write_page(load_run(build_run(tmp_path, run_id="a", bars=BARS))).read_text()
    real = write_page(load_run(build_run(tmp_path, run_id="b", bars=BARS, simulated=False))).read_text()
    assert "SIMULATED DATA" in simulated
    assert "SIMULATED" not in without_library(real)


@pytest.mark.parametrize(
    ("charged", "claims"),
    [
        ("all", "after fees, slippage and funding"),
        ("no", "after fees and slippage"),
        ("none", "after fees and slippage, without funding"),
        ("part", "after fees and slippage, and funding where it is known"),
    ],
)
def test_page_claims_no_cost_that_was_not_charged(tmp_path: Path, charged: str, claims: str) -> None:
    folder = build_run(tmp_path, bars=BARS)
    info = json.loads((folder / "run.json").read_text())
    info["costs"]["funding"] = charged
    info["provenance"]["funding"] = ["BTCUSDT: funding <b>not charged</b>"] if charged in ("none", "part") else []
    (folder / "run.json").write_text(json.dumps(info))
    page = without_library(write_page(load_run(folder)).read_text())
    head = page[: page.index("All strategies")]
    assert f"{claims}</p>" in head
    assert f"All strategies, {claims}</h2>" in page
    assert ("BTCUSDT: funding &lt;b&gt;not charged" in head) == (charged in ("none", "part"))
    if charged != "all":
        assert "fees, slippage and funding" not in page.replace("Fees, slippage and funding", "")
    assert "after costs" not in page


def test_a_market_that_rests_is_annualised_by_its_own_days(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS)
    every = performance(load_run(folder), "searched")
    info = json.loads((folder / "run.json").read_text())
    info["provenance"]["days_per_year"] = 252.0
    (folder / "run.json").write_text(json.dumps(info))
    rested = performance(load_run(folder), "searched")
    assert rested.sharpe == pytest.approx(every.sharpe * np.sqrt(252 / 365))
    assert rested.volatility == pytest.approx(every.volatility * np.sqrt(252 / 365))
    assert "252 days a year" in write_page(load_run(folder)).read_text()


def test_page_needs_only_run_json_and_equity(tmp_path: Path) -> None:
    page = write_page(load_run(build_run(tmp_path, bars=BARS, optional=False))).read_text()
    assert "recorded no windows" in page


def test_page_names_no_remote_asset(tmp_path: Path) -> None:
    page = without_library(write_page(load_run(build_run(tmp_path, bars=BARS))).read_text())
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "@import" not in page
    assert "url(http" not in page


def test_names_with_markup_show_as_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    folder = build_run(tmp_path, bars=BARS, strategies=("searched", evil, "buy_and_hold"), symbols=(evil,))
    page = write_page(load_run(folder)).read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    (folder / "architectures").mkdir()
    (folder / "architectures" / "0.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(2)</script></svg>'
    )
    assert "alert(2)" not in write_page(load_run(folder)).read_text()


def test_saved_architecture_picture_is_shown(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS)
    (folder / "architectures").mkdir()
    picture = draw_genotype(genotype("saved_op"))
    (folder / "architectures" / "1.svg").write_text(picture)
    assert "saved_op" in write_page(load_run(folder)).read_text()


@pytest.mark.parametrize("missing", ["run.json", "equity.parquet"])
def test_a_folder_without_a_needed_file_is_an_input_error(tmp_path: Path, missing: str) -> None:
    folder = build_run(tmp_path, bars=BARS, optional=False)
    (folder / missing).unlink()
    with pytest.raises(InputError, match=missing):
        load_run(folder)


def test_command_rejects_a_folder_that_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reports", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("error: ")
    assert len(told.strip().splitlines()) == 1


def test_latest_link_moves_to_the_given_run(tmp_path: Path) -> None:
    first, second = (build_run(tmp_path, run_id=name, bars=BARS, optional=False) for name in ("one", "two"))
    link_latest(first)
    link_latest(second)
    assert (tmp_path / "latest").resolve() == second
    assert not list(tmp_path.glob(".latest.*"))


def test_runs_index_skips_a_broken_run_and_escapes(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS, optional=False)
    info = json.loads((folder / "run.json").read_text())
    info["provenance"]["symbols"] = ["<b>X</b>"]
    (folder / "run.json").write_text(json.dumps(info))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    text = write_runs_index(tmp_path).read_text()
    assert "&lt;b&gt;X&lt;/b&gt;" in text
    assert "runs/broken" not in text
    assert 'data-sortable data-filter="filter" data-folder=' in text


def test_daily_returns_chain_to_the_total_return() -> None:
    closes = pd.date_range("2024-01-01 01:00", periods=49, freq="h", tz="UTC")
    equity = pd.Series(np.linspace(100.0, 148.0, 49), index=closes)
    days = daily_returns(equity)
    # the bar closing at midnight ends its day: 24 bars, 24 bars, 1 bar
    assert list(days.index.strftime("%Y-%m-%d")) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert days.iloc[0] == pytest.approx(123.0 / 100.0 - 1.0)
    assert np.prod(1.0 + days) == pytest.approx(1.48)


def test_bankrupt_account_stays_at_zero(tmp_path: Path) -> None:
    curve = np.concatenate([np.linspace(10_000, 1.0, BARS // 2), np.full(BARS - BARS // 2, -5.0)])
    run = load_run(build_run(tmp_path, bars=BARS, equity={"sma_cross": curve}))
    figures = performance(run, "sma_cross")
    assert figures.bankrupt
    assert figures.total_return == -1.0
    assert figures.max_drawdown == -1.0
    assert "(bankrupt)" in write_page(run).read_text()


def series(values: list[float]) -> pd.Series:
    return pd.Series(values, index=pd.date_range("2024-01-01", periods=len(values), tz="UTC"))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.0] * 40, "made no trade"),
        ([0.01], "covers 1 day"),
        ([0.01, -0.02, -1.0, 0.0], "lost everything on 2024-01-03"),
    ],
)
def test_tearsheet_of_returns_that_mislead_is_a_plain_page(tmp_path: Path, values: list[float], says: str) -> None:
    path = write_tearsheet(
        tmp_path / "t.html",
        series(values),
        series([0.01] * len(values)),
        title="<i>x</i>",
        benchmark_title="b",
        parameters={},
    )
    assert says in path.read_text()
    assert "<i>x</i>" not in path.read_text()


def test_tearsheet_uses_365_days_and_every_day_and_no_remote_asset(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    quiet_start = [0.0] * 20 + list(rng.normal(0.001, 0.02, 60))
    returns = series(quiet_start)
    path = write_tearsheet(
        tmp_path / "t.html",
        returns,
        series(list(rng.normal(0, 0.03, 80))),
        title="x",
        benchmark_title="hold",
        parameters={"Run": "r"},
    )
    text = path.read_text()
    assert "Periods/Year: 365" in text
    assert "Run: r" in text
    assert "1 Jan, 2024" in text  # days before the first trade count
    sharpe = returns.mean() / returns.std() * np.sqrt(365)
    assert re.search(rf"<td>Sharpe</td><td>[^<]*</td><td>{sharpe:.2f}</td>", text)
    assert not re.findall(r'(?:src|href)="https?://', re.sub(r"<svg.*?</svg>", "", text, flags=re.S))


def test_drawing_names_every_op_and_survives_an_empty_genotype() -> None:
    picture = draw_genotype(genotype("<op>"))
    assert "&lt;op&gt;" in picture
    assert "dilated_conv5" in picture
    assert "no architecture recorded" in draw_genotype({})


def test_pages_are_the_same_bytes_from_the_same_files(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS, strategies=("searched", "sma_cross", "buy_and_hold"))
    contents = []
    for _ in range(2):
        build_pages(folder)
        contents.append({path.name: path.read_bytes() for path in sorted(folder.rglob("*.html"))})
    assert len(contents[0]) == 5  # page, three strategies, searched against the best by hand
    assert contents[0] == contents[1]
    assert b"<dc:date>" not in contents[0]["searched.html"]


def test_timings_change_one_section_of_the_page_only(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS)
    pages = []
    for seconds in (1.5, 2.75):
        info = json.loads((folder / "run.json").read_text())
        info["timings"] = {"data": seconds}
        (folder / "run.json").write_text(json.dumps(info))
        pages.append(write_page(load_run(folder)).read_text())
    cut = [re.sub(r'<section id="timings".*?</section>', "", page, flags=re.S) for page in pages]
    assert pages[0] != pages[1]
    assert cut[0] == cut[1]


def test_a_run_of_one_bar_has_a_page_and_tearsheets(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=1, windows=1, strategies=("searched", "buy_and_hold"))
    page = build_pages(folder).read_text()
    assert "The run traded 1 day: too few to tell luck from skill." in page
    assert "covers 1 day" in (folder / "tearsheets" / "searched.html").read_text()


def test_a_strategy_without_a_trade_has_no_interval(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=24 * 40, strategies=("searched", "sma_cross", "buy_and_hold"))
    trades = pd.read_parquet(folder / "trades.parquet")
    trades[trades["strategy"] != "sma_cross"].to_parquet(folder / "trades.parquet")
    equity = pd.read_parquet(folder / "equity.parquet")
    equity.assign(sma_cross=10_000.0).to_parquet(folder / "equity.parquet")
    table = write_page(load_run(folder)).read_text().partition('<section id="strategies">')[2].partition("</table>")[0]
    rows = {name: row for row in table.split("<tr") for name in ("sma_cross", "buy_and_hold") if f"{name}.html" in row}
    assert " to " in rows["buy_and_hold"]
    assert " to " not in rows["sma_cross"]
    assert "(no trade)" in rows["sma_cross"]


def test_every_measure_of_a_search_has_an_axis_of_its_own() -> None:
    history = [{"epoch": k, "entropy": 2.3, "eigenvalue": 1e-5 * k, "gap": 0.01} for k in range(3)]
    figures = {figure.name: figure for figure in window_figures(4, {"history": history})}
    assert set(figures) == {"health-4-entropy", "health-4-eigenvalue", "health-4-gap"}
    assert all(len(figure.data) == 1 for figure in figures.values())


def test_a_chart_of_many_strategies_draws_a_few_and_offers_the_rest(tmp_path: Path) -> None:
    names = ("searched", *[f"rival_{k}" for k in range(12)], "buy_and_hold")
    run = load_run(build_run(tmp_path, bars=BARS, strategies=names, optional=False))
    drawn = [trace["name"] for trace in equity_figure(run).data if trace.get("visible") != "legendonly"]
    assert len(drawn) == SHOWN
    assert {"searched", "buy and hold"} <= set(drawn)
    assert len(equity_figure(run).data) == len(names)


def test_a_flat_window_says_why(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=BARS)
    windows = json.loads((folder / "windows.json").read_text())
    windows[0] |= {"plan": "flat", "evidence": {"in_words": "wait", "by_luck": 0.451, "needed": 0.1, "record_days": 60}}
    (folder / "windows.json").write_text(json.dumps(windows))
    page = write_page(load_run(folder)).read_text()
    assert "Stayed flat: the best plan on validation was to wait; what was chosen so earned, on 60 unseen days" in page
    assert "with 45.1%; at most 10% is asked for" in page
    assert "It stayed flat in 1 of 3 windows" in page


def test_a_window_says_what_was_decided_by_which_forces_and_in_which_size_it_trades(tmp_path: Path) -> None:
    build_pages(build_run(tmp_path))
    page = (tmp_path / "latest" / "index.html").read_text()
    assert "Decided on 1 of 2 edges by 3 searches together: ema16" in page
    assert "input to node 1: ema16 before conv3 by 3.2 standard errors" in page
    assert "node 1 to node 2: conv3" not in page  # not decided
    assert "1 x 8 (0.45123), 2 x 32 (0.45011). Validation chose 2 cells of 32 channels." in page
    assert "Forces on the op logits, window 0" in page
    assert "gradient of the validation loss" in page


def test_all_edges_are_one_picture_and_their_way_there_is_folded() -> None:
    weights = {"edges": [[0, 0], [1, 1]], "ops": ["ema16", "conv3"]}
    rows = [
        {"epoch": 0, "op_weights": [[0.5, 0.5], [0.5, 0.5]]},
        {"epoch": 1, "op_weights": [[0.9, 0.1], [0.25, 0.75]]},
    ]
    figures = {figure.name: figure for figure in window_figures(0, {"history": rows, "weights": weights})}
    (ends,) = figures["ends-0"].data
    assert (ends["x"], ends["y"]) == (["ema16", "conv3"], ["input to node 1", "node 1 to node 2"])
    assert ends["z"] == [[0.9, 0.1], [0.25, 0.75]]
    assert "input to node 1 ema16 0.90; node 1 to node 2 conv3 0.75" in figures["ends-0"].description
    assert "alpha-0-1" in figures


def test_the_page_folds_the_charts_of_single_edges(tmp_path: Path) -> None:
    page = write_page(load_run(build_run(tmp_path, bars=BARS))).read_text()
    before, folded = page.split("The same over the epochs, edge by edge", 1)
    assert 'data-chart="ends-0"' in before
    assert 'data-chart="alpha-0-0"' not in before
    assert 'data-chart="alpha-0-0"' in folded.split("</details>", 1)[0]


def test_a_run_without_claims_says_nothing_of_them(tmp_path: Path) -> None:
    assert decided_told({}) is None
    assert (
        size_told({"sizes": [{"cells": 1, "channels": 8, "validation_loss": 0.4}]})
        == "Trained in one size: 1 cell of 8 channels."
    )
    assert edge_names([[0, 0], [1, 0], [2, 1]]) == ["before to node 1", "last to node 1", "node 1 to node 2"]
