"""Several symbols from one account: decisions of the backtest to the last bit, what is refused, journals of before."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.panel import FloatArray, InputError, Panel
from data.sources import load_panel
from nas.features.bank import causal_volatility
from nas.space.genotype import Connection, Genotype, Link
from strategies.backtest.portfolio import WEIGHTINGS, Portfolio, book_of
from strategies.paper.decisions.decide import decide, nothing_before
from strategies.paper.decisions.history import Bar, History
from strategies.paper.decisions.strategy import Strategy, load_strategy
from strategies.paper.orders.risk import capped
from strategies.paper.records.journal import Journal
from strategies.paper.records.journal_layout import LAYOUT, layout_of
from strategies.paper.replay import explain
from tests.commands.small_run import run, swinging_market
from tests.strategies.paper.rig import FEATURES, HISTORY, HOUR_MS, SYMBOL, Rig, candle_rows, market_panel, save_model
from tests.strategies.paper.test_faults import fault

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
Make = Callable[..., Rig]
CHOSEN = tuple((name, group[0]) for name, group in FEATURES.items())
LEADS = (Link("ETHUSDT", "BTCUSDT", 3, 0.5),)
TOGETHER = Genotype(
    ((Connection("lead_lag", 0, 1.0, LEADS), Connection("cross_zscore", 0)), (Connection("ema4", 1), Connection("correlation", 0))),
    8, 1, (3,), CHOSEN, SYMBOLS,
)  # fmt: skip
STOP = 780


def _market() -> Panel:
    """SOLUSDT is listed while the history runs; ETHUSDT has no candle at two of the traded bars."""
    panel = market_panel(STOP, SYMBOLS)
    values = np.array(panel.values)
    values[:250, 2] = np.nan
    values[[HISTORY + 20, HISTORY + 21], 1] = np.nan
    return replace(panel, values=values)


def _bars(panel: Panel, start: int = 0) -> list[Bar]:
    rows = {symbol: candle_rows(panel, symbol)[start:] for symbol in panel.assets}
    return [
        (candles[0][0], {s: c for s, c in zip(panel.assets, candles, strict=True) if c[4] == c[4]})
        for candles in zip(*rows.values(), strict=True)
    ]


def _grown(strategy: Strategy, bars: Sequence[Bar], start: int, funded: Panel | None = None) -> FloatArray:
    """Targets as paper trading decides them, a bar at a time. funded: the panel whose settlements are known, all from the first bar on."""
    history, past = History(strategy.traded, HOUR_MS, bars[:start]), nothing_before(strategy)
    for symbol, paid in (funded.settlements if funded is not None else {}).items():
        times = paid.timestamps.astype("datetime64[ms]").astype(np.int64).tolist()
        history.settlements[symbol] = list(zip(times, paid.rates.tolist(), strict=True))
    told = []
    for bar in bars[start:]:
        history.add([bar])
        found = decide(strategy, history, past, history.count - 1, history.count)
        assert [d.symbol for d in found] == list(strategy.traded)
        past = np.vstack([past, [d.forecast for d in found]])
        told.append([d.target for d in found])
    return np.array(told)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_bar_by_bar_targets_are_the_backtests_to_the_last_bit(tmp_path: Path, weighting: str, together: bool) -> None:
    panel = _market()
    portfolio = asdict(Portfolio(weighting, gross_limit=1.2, rebalance_bars=48, estimation_bars=240))
    model = save_model(
        tmp_path, market_panel(STOP, SYMBOLS), symbols=SYMBOLS, portfolio=portfolio, genotype=TOGETHER if together else None,
    )  # fmt: skip
    strategy = load_strategy(model, None, "60")
    assert strategy.traded == SYMBOLS
    start = HISTORY
    stop = start + (40 if together else STOP - start)
    forecasts = strategy.model.predict(panel, start, stop)
    signal = strategy.portfolio.signal(forecasts)
    expected = book_of(panel, signal, causal_volatility(panel), start, strategy.rule, strategy.portfolio)
    assert (np.ptp(expected, axis=0) > 0).sum() >= 2  # minimum risk may leave one symbol out
    assert expected[20, 1] == 0.0, "a bar that is missing is held as the backtest holds it"
    np.testing.assert_array_equal(_grown(strategy, _bars(panel)[:stop], start), expected)


@pytest.mark.parametrize("asset", range(3))
def test_a_decision_ignores_what_any_symbol_does_after_it(tmp_path: Path, asset: int) -> None:
    portfolio = asdict(Portfolio("hrp", estimation_bars=240))
    panel = market_panel(STOP, SYMBOLS)
    strategy = load_strategy(
        save_model(tmp_path, panel, symbols=SYMBOLS, portfolio=portfolio, genotype=TOGETHER), None, "60"
    )
    values = np.array(panel.values)
    values[HISTORY + 1 :, asset] *= 1.7
    first, second = (
        decide(strategy, History(SYMBOLS, HOUR_MS, _bars(p)), nothing_before(strategy), HISTORY, HISTORY + 1)
        for p in (panel, replace(panel, values=values))
    )
    assert first == second
    values[HISTORY, asset] *= 1.01
    third = decide(
        strategy, History(SYMBOLS, HOUR_MS, _bars(replace(panel, values=values))), nothing_before(strategy), HISTORY, HISTORY + 1
    )  # fmt: skip
    assert third != first, "and it does read its own bar"


def test_some_symbols_keep_their_part_of_the_account(tmp_path: Path) -> None:
    panel = market_panel(STOP, SYMBOLS)
    model = save_model(tmp_path, panel, symbols=SYMBOLS, portfolio=asdict(Portfolio()))
    alone = load_strategy(model, "SOLUSDT,BTCUSDT", "60")
    assert alone.traded == ("BTCUSDT", "SOLUSDT"), "the order is the model's"
    whole = load_strategy(model, None, "60")
    start = STOP - 20
    bars = _bars(panel)
    np.testing.assert_array_equal(_grown(alone, bars, start), _grown(whole, bars, start)[:, [0, 2]])


@pytest.mark.parametrize(
    ("portfolio", "genotype", "words"),
    [
        ({"weighting": "volatility_target"}, None, "weighting volatility_target, which ties"),
        ({"net_limit": 0.5}, None, "net_limit 0.5, which ties"),
        ({"turnover_penalty": 0.01}, None, "turnover_penalty 0.01, which ties"),
        (None, TOGETHER, "reads BTCUSDT, ETHUSDT, SOLUSDT together"),
    ],
)
def test_symbols_that_are_tied_are_not_traded_apart(tmp_path: Path, portfolio: Any, genotype: Any, words: str) -> None:
    model = save_model(tmp_path, market_panel(STOP, SYMBOLS), symbols=SYMBOLS, portfolio=portfolio, genotype=genotype)
    with pytest.raises(InputError, match=words) as told:
        load_strategy(model, "BTCUSDT,ETHUSDT", "60")
    assert "leave --symbol out to trade BTCUSDT, ETHUSDT, SOLUSDT from one account" in str(told.value)
    assert "\n" not in str(told.value)
    assert load_strategy(model, None, "60").traded == SYMBOLS


def test_targets_beyond_the_gross_limit_are_cut_in_proportion() -> None:
    assert capped([1.0, -2.0, 0.5], 3.5) == [1.0, -2.0, 0.5]
    assert capped([1.0, -2.0, 1.0], 2.0) == [0.5, -1.0, 0.5]
    assert capped([0.0, -3.3], 3.0) == [0.0, -3.0]


def test_a_portfolio_trades_restarts_and_replays_by_symbol(rig: Make) -> None:
    portfolio = asdict(Portfolio("volatility_target"))
    r = rig(symbols=SYMBOLS, model={"portfolio": portfolio, "genotype": TOGETHER})
    r.bar(4)
    r.restart()
    r.tick(3)
    r.bar(2)
    r.settle()
    r.check()
    told = explain(r.journal)
    assert told.identical == told.compared == 10
    for part in ("backtest", "price", "latency", "slippage", "fee", "funding", "live"):
        assert getattr(told, part) == pytest.approx(sum(getattr(p, part) for p in told.symbols.values()), abs=1e-9)
    explained = told.backtest + told.price + told.latency + told.slippage + told.fee + told.funding
    assert explained == pytest.approx(told.live, abs=1e-6)
    assert told.backtest == pytest.approx(told.backtest_equity[-1] - told.backtest_equity[0], abs=1e-6)
    traded = {row["symbol"] for row in r.journal.rows("SELECT symbol FROM intents")}
    assert traded == set(SYMBOLS)
    ids = [row["link_id"] for row in r.journal.rows("SELECT link_id FROM intents")]
    assert len(ids) == len(set(ids))


def test_what_frees_margin_is_sent_first(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    held = {symbol: r.exchange.account.size(symbol) for symbol in SYMBOLS}
    assert all(held.values())
    closes = r.trader.history.closes
    equity = float(r.exchange.account.equity({s: r.exchange.mark(s) for s in SYMBOLS}))
    weights = {symbol: float(held[symbol]) * closes[symbol] / equity for symbol in SYMBOLS}
    wanted = {"BTCUSDT": 1.5, "ETHUSDT": 0.5, "SOLUSDT": 2.0}  # the second shrinks, the others grow
    r.tick()
    r.trader._fetch()
    r.trader._decide(r.journal.last_decision())
    for symbol, factor in wanted.items():
        query = "UPDATE decisions SET target = ? WHERE open_ms = ? AND symbol = ?"
        r.journal._db.execute(query, (weights[symbol] * factor, r.newest_ms, symbol))
    r.act()
    assert [row["symbol"] for row in r.orders_of(r.newest_ms)] == ["ETHUSDT", "BTCUSDT", "SOLUSDT"]
    r.settle()
    r.check()


@fault(
    "several symbols: a position changes (its stop is hit) while another symbol is traded",
    "its order is not sent as it was sized; sized anew from what is held",
)
def test_an_order_is_not_sized_by_a_position_that_has_gone(rig: Make) -> None:
    first, second = SYMBOLS[:2]
    r = rig(symbols=(first, second), foreign="adopt")
    r.bar()
    held = r.exchange.account.size(second)
    assert held
    r.tick()
    r.trader._fetch()
    r.trader._decide(r.journal.last_decision())
    equity = float(r.exchange.account.equity({s: r.exchange.mark(s) for s in (first, second)}))
    side = -1 if held > 0 else 1
    for symbol in (first, second):
        query = "UPDATE decisions SET target = ? WHERE open_ms = ? AND symbol = ?"
        r.journal._db.execute(query, (side * 0.4, r.newest_ms, symbol))
    place, desk = r.trader.desk.place, r.trader.desk

    def gone(order: Any, *more: Any) -> str:
        desk.place = place  # type: ignore[method-assign]
        with r.world.lock:
            r.exchange.by_hand(second, "Sell" if held > 0 else "Buy", str(abs(held)))
        status = place(order, *more)
        r.trader.books.sync_executions(r.trader.history.next_ms + 2 * HOUR_MS)
        return status

    desk.place = gone  # type: ignore[method-assign]
    r.act()
    weight = float(r.exchange.account.size(second)) * r.trader.history.closes[second] / equity
    assert weight == pytest.approx(side * 0.4, abs=0.02)
    r.settle()
    r.check()


def test_a_journal_of_one_symbol_from_before_goes_on(rig: Make) -> None:
    r = rig()
    r.bar(3)
    before = [
        tuple(row) for row in r.journal.rows("SELECT open_ms, forecast, target, note FROM decisions ORDER BY open_ms")
    ]
    r.crash()
    path = r.folder / "journal.sqlite"
    _as_layout_1(path)
    reader = Journal(path, read_only=True)
    assert layout_of(reader._db) == LAYOUT
    assert reader.symbols == (SYMBOL,)
    reader.close()
    r.start()
    r.bar(3)
    r.settle()
    r.check()
    query = "SELECT open_ms, forecast, target, note FROM decisions ORDER BY open_ms"
    assert [tuple(row) for row in r.journal.rows(query)][: len(before)] == before
    told = explain(r.journal)
    assert told.identical == told.compared == 7


def _as_layout_1(path: Path) -> None:
    """The journal as version 0.1.0 of this project wrote it."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN")
    for table, columns in (
        ("candles", "open_ms INTEGER PRIMARY KEY, open, high, low, close, volume"),
        ("settlements", "time_ms INTEGER PRIMARY KEY, rate"),
        ("decisions", "open_ms INTEGER PRIMARY KEY, decided_ms, model, features_hash, forecast, volatility, target, position, "
         "wait_bars, rule_equity, rule_peak, smoothed, acted, note"),
        ("equity", "open_ms INTEGER PRIMARY KEY, time_ms, equity, wallet, price"),
    ):  # fmt: skip
        db.execute(f"ALTER TABLE {table} RENAME TO new_{table}")
        db.execute(f"CREATE TABLE {table} ({columns})")
        names = [part.split()[0] for part in columns.split(", ")]
        there = {row[1] for row in db.execute(f"PRAGMA table_info(new_{table})")}
        kept = ", ".join(name for name in names if name in there)
        more = (", price", ", 0.0") if table == "equity" else ("", "")
        db.execute(f"INSERT INTO {table} ({kept}{more[0]}) SELECT {kept}{more[1]} FROM new_{table}")
        db.execute(f"DROP TABLE new_{table}")
    db.execute("UPDATE meta SET key = 'symbol' WHERE key = 'symbols'")
    db.execute(
        "UPDATE meta SET key = substr(key, 1, instr(key, ':') - 1) WHERE key LIKE 'baseline_%:%' OR key LIKE 'reached:%'"
    )
    db.execute("DELETE FROM meta WHERE key LIKE 'synced:%'")
    db.execute("PRAGMA user_version = 0")
    db.execute("COMMIT")
    db.close()


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal._db.execute("PRAGMA user_version = 99")
    journal.close()
    with pytest.raises(InputError, match="written by a later version"):
        Journal(path)


def test_status_and_page_show_a_row_per_symbol(rig: Make, tmp_path: Path) -> None:
    from rich.console import Console

    from reports.paper import build_paper_page
    from strategies.paper.records.status import standing
    from strategies.paper.supervision import say_decision, status_table

    r = rig(symbols=SYMBOLS)
    r.bar(4)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(status_table(r.journal))
    shown = console.export_text()
    page = build_paper_page(r.journal.path, tmp_path / "page.html").read_text()
    for symbol in SYMBOLS:
        assert f"position {r.trader.books.size(symbol)}" in shown
        assert f"<td>{symbol}</td>" in page
        assert f"{symbol} target" in say_decision(r.journal)
    assert "gross" in shown
    assert "By symbol" in page
    assert "5 of 5 targets are identical" in page
    assert len(json.loads(json.dumps(standing(r.journal)))["positions"]) == 3


def test_what_was_refused_is_tried_again_though_the_target_stays(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    held = r.exchange.account.size("ETHUSDT")
    equity = float(r.exchange.account.equity(r.exchange.marks()))
    target = (
        float(held) * r.trader.history.closes["ETHUSDT"] / equity + 0.05
    )  # less than what drift alone would bring back
    for fails in (True, False):
        r.tick()
        r.trader._fetch()
        r.trader._decide(r.journal.last_decision())
        r.journal._db.execute(
            "UPDATE decisions SET target = ? WHERE open_ms = ? AND symbol = ?", (target, r.newest_ms, "ETHUSDT")
        )
        if fails:
            r.fault("code_110007", "/v5/order/create", times=None)
        r.act()
        r.world.faults.clear()
        if fails:
            assert "refused" in r.journal.decision(r.newest_ms)["ETHUSDT"]["note"]
            assert r.exchange.account.size("ETHUSDT") == held
    assert float(r.exchange.account.size("ETHUSDT")) * r.trader.history.closes["ETHUSDT"] / equity == pytest.approx(
        target, abs=0.005
    )
    r.settle()
    r.check()


@pytest.mark.slow
def test_decisions_are_the_positions_of_the_run_itself(tmp_path: Path) -> None:
    """The last window of a run of the main command, traded bar by bar from its folder: `positions.parquet`, to the last bit.

    The market swings so that every search finds something to trade: what one finds in a market of little signal, and whether
    anything, differs from processor to processor.
    """
    files = [tmp_path / f"{symbol}.parquet" for symbol in SYMBOLS]
    for seed, path in enumerate(files):
        swinging_market(1_680, seed).to_parquet(path)
    done = run(
        tmp_path, "--symbol", ",".join(SYMBOLS), *(word for path in files for word in ("--data", str(path))),
        "--ops", "zero,conv3,ema4,cross_zscore,market,correlation", "--weighting", "volatility_target", "--no-pages", "--jobs", "1",
        "--baselines", "none", "--evidence", "1", "--taker-fee-bps", "0", "--slippage-bps", "0", "--out", "out", "--any-candles",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (path.parent for path in (tmp_path / "out" / "runs").glob("*/run.json"))
    panel = load_panel(SYMBOLS, "60", files=tuple(files), any_candles=True)
    window = json.loads((folder / "windows.json").read_text())[-1]
    strategy = load_strategy(folder / "models" / str(window["window"]), None, None)
    assert strategy.model.genotype.assets == SYMBOLS
    table = pd.read_parquet(folder / "positions.parquet")
    table = table[table["strategy"] == "searched"].pivot(index="timestamp", columns="asset", values="position")[
        list(SYMBOLS)
    ]
    start = int(np.searchsorted(panel.timestamps, np.datetime64(window["test"]["start"][:19])))
    expected = table.loc[pd.DatetimeIndex(panel.timestamps[start : start + 60]).tz_localize("UTC")].to_numpy()
    assert (np.ptp(expected, axis=0) > 0).all(), "there is something to compare"
    np.testing.assert_array_equal(_grown(strategy, _bars(panel)[: start + 60], start, panel), expected)
