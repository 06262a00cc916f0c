"""Runs in which nothing, or everything, goes wrong still give figures, a page and tearsheets, without a warning of numpy."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commands.walkforward import run_job
from nas.tasks import engine
from nas.tasks.work import Task, TaskResult
from reports.page import build_pages
from strategies.backtest.rules import RULES, Rule
from strategies.walkforward.config import resolve
from strategies.walkforward.options import Options
from tests.commands.small_run import CONFIG, market

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
CRASH = 1_300  # first bar after the price has lost 60% from one bar to the next


def job(folder: Path, table: pd.DataFrame, **settings: object) -> Path:
    """A finished run of small_run's config on these candles, with its pages."""
    table.to_parquet(folder / "market.parquet")
    (folder / "small.toml").write_text(CONFIG)
    config = resolve("quick", folder / "small.toml", {"data": (str(folder / "market.parquet"),), **settings})
    run = run_job(config, Options(out=folder / "reports", jobs=1, quiet=True, pages=False))
    build_pages(run)
    return run


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every network forecasts NaN; the price falls by 60% overnight under accounts of nine times leverage."""
    compute = engine.run_task

    def speechless(task: Task, *rest: object) -> TaskResult:
        done = compute(task, *rest)  # type: ignore[arg-type]
        unknown = {k: np.full_like(v, np.nan) for k, v in done.arrays.items() if k.endswith("_forecasts")}
        return replace(done, arrays={**done.arrays, **unknown})

    table = market(1_500)
    for name in ("open", "high", "low", "close"):
        table.iloc[CRASH:, table.columns.get_loc(name)] *= 0.4
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        patch.setattr(engine, "run_task", speechless)
        patch.setitem(RULES, "reckless", Rule("reckless", "Reckless", "", "", {}, lambda panel, _: np.ones(len(panel))))
        return job(
            tmp_path_factory.mktemp("silent"),
            table,
            rules=("always_flat", "reckless"),
            target_volatility=100.0,
            max_leverage=9.0,
        )


def plain(page: str) -> str:
    """The page's visible text, without scripts."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_forecasts_that_are_all_unknown_trade_nothing_and_the_page_says_so(silent: Path) -> None:
    forecasts = pd.read_parquet(silent / "forecasts.parquet")
    assert forecasts["forecast"].isna().all()
    equity = pd.read_parquet(silent / "equity.parquet")
    assert (equity[["searched", "linear", "always_flat"]] == 100_000.0).all(axis=None)
    page = plain((silent / "index.html").read_text())
    assert "The searched strategy made no trade" in page
    assert "nan" not in page.lower().split()
    assert "made no trade" in (silent / "tearsheets" / "searched.html").read_text()


def test_every_file_of_an_odd_run_is_valid_json(silent: Path) -> None:
    def refuse(name: str) -> object:
        raise ValueError(name)

    for path in [*silent.glob("*.json"), *silent.glob("models/**/*.json")]:
        json.loads(path.read_text(), parse_constant=refuse)


def test_a_bankrupt_account_stays_at_nothing_and_is_called_so(silent: Path) -> None:
    equity = pd.read_parquet(silent / "equity.parquet")["reckless"]
    fills = pd.read_parquet(silent / "trades.parquet").query("strategy == 'reckless'")
    assert "liquidation" in set(fills["kind"])
    assert equity.iloc[-1] < 1.0
    assert (equity >= 0.0).all()
    last = fills["timestamp"].max()
    assert equity[equity.index > last + pd.Timedelta("1h")].nunique() == 1
    assert "(bankrupt)" in plain((silent / "index.html").read_text())
    assert "lost everything" in (silent / "tearsheets" / "reckless.html").read_text()


def test_one_trade_has_one_fill_and_a_tearsheet(silent: Path) -> None:
    fills = pd.read_parquet(silent / "trades.parquet").query("strategy == 'buy_and_hold'")
    assert list(fills["kind"]) == ["fill"]
    sheet = (silent / "tearsheets" / "buy_and_hold.html").read_text()
    assert "<svg" in sheet


def test_the_shortest_run_there_is_trades_two_bars(tmp_path: Path) -> None:
    run = job(tmp_path, market(1_154), test="2")
    equity = pd.read_parquet(run / "equity.parquet")
    assert len(equity) == 2
    assert np.isfinite(equity.to_numpy()).all()
    assert "too few to tell luck from skill" in plain((run / "index.html").read_text())
    assert "yearly figures say nothing" in plain((run / "index.html").read_text())
    assert "needs at least 3" in (run / "tearsheets" / "buy_and_hold.html").read_text()
