"""The page of a run with several assets: contributions, exposure, a tearsheet per asset; nothing of it where there is one asset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reports.page import build_pages, write_page
from reports.portfolio_section import asset_returns, contribution_rows, lead_figure, leads, portfolio_figures
from reports.run_folder import load_run
from tests.reports.run_builder import build_run

PAIR = ("BTCUSDT", "ETHUSDT")


def test_page_shows_what_each_asset_brought(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=24 * 12, strategies=("searched", "buy_and_hold"), symbols=PAIR)
    page = build_pages(folder).read_text()
    assert "What each asset brought" in page
    for asset in PAIR:
        assert (folder / "tearsheets" / f"searched-{asset}.html").is_file()
        assert f'href="tearsheets/searched-{asset}.html"' in page
    assert [f.name for f in portfolio_figures(load_run(folder))][:2] == ["exposure", "contributions"]


def test_page_of_one_asset_has_no_such_section(tmp_path: Path) -> None:
    run = load_run(build_run(tmp_path, bars=24 * 12))
    assert "What each asset brought" not in write_page(run).read_text()
    assert portfolio_figures(run) == []


def test_rows_add_up_to_the_profit_and_exposure_keeps_its_sign(tmp_path: Path) -> None:
    run = load_run(build_run(tmp_path, bars=24 * 12, symbols=PAIR))
    rows = contribution_rows(run, "searched")
    table = run.contributions[run.contributions["strategy"] == "searched"]
    begin = run.equity["searched"].iloc[0]
    assert sum(row.profit for row in rows) == pytest.approx(table["profit"].sum() / begin)
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    assert [row.net for row in rows] == pytest.approx([0.5, 0.25])
    got = asset_returns(run, "searched", "ETHUSDT")
    assert np.isfinite(got).all()


def test_discovered_leads_are_drawn_window_by_window(tmp_path: Path) -> None:
    folder = build_run(tmp_path, bars=24 * 12, strategies=("searched", "buy_and_hold"), symbols=PAIR)
    windows = json.loads((folder / "windows.json").read_text())
    assert lead_figure(load_run(folder)) == []
    assert "No network holds a lead-lag edge" in write_page(load_run(folder)).read_text()
    link = {"leader": "BTCUSDT", "follower": "ETHUSDT", "lag": 3, "weight": -0.8}
    for number in (0, 2):
        edge = {"op": "lead_lag", "source": 0, "weight": 0.4, "links": [link]}
        windows[number]["genotype"]["cells"][0]["nodes"][0].append(edge)
    (folder / "windows.json").write_text(json.dumps(windows))
    run = load_run(folder)
    assert [(k.window, k.leader, k.follower, k.lag, k.weight) for k in leads(run)] == [
        (number, "BTCUSDT", "ETHUSDT", 3, -0.8) for number in (0, 2)
    ]
    (figure,) = lead_figure(run)
    assert figure.data[0]["text"] == [["3", "", "3"]]
    page = write_page(run).read_text()
    assert "Who leads whom" in page
    assert "lead_lag: in 2 of 3 windows" in page
    assert "when volatile" not in page
    link["state"] = "volatile"
    windows[2]["genotype"]["cells"][0]["nodes"][0][-1]["links"] = [dict(link, weight=-0.9)]
    windows[0]["genotype"]["cells"][0]["nodes"][0][-1]["links"] = [{k: v for k, v in link.items() if k != "state"}]
    (folder / "windows.json").write_text(json.dumps(windows))
    (figure,) = lead_figure(load_run(folder))
    assert figure.data[0]["y"] == ["BTCUSDT → ETHUSDT", "BTCUSDT → ETHUSDT when volatile"]
    assert figure.data[0]["text"] == [["3", "", ""], ["", "", "3"]]
    assert (
        "BTCUSDT leads ETHUSDT by 3 bars when volatile in window 2 (-0.90)" in write_page(load_run(folder)).read_text()
    )
