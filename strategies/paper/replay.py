"""Live against backtest: the journaled bars once more through batch code. Targets must be identical; profit is explained.

With q the signed quantity of a fill, r the open of the bar it fell into, s the last price when it was sent and p its price:
    live     = G(live holdings at r) + sum q (r - s) + sum q (s - p) - fees + funding
    backtest = G(backtest holdings at r) - slippage - fees + funding
so the difference is the sum of price (other holdings: rounding, refused or late orders), latency, slippage, fee and funding;
symbol by symbol.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.panel import FloatArray, InputError, Panel
from strategies.backtest.execution import Backtest, backtest, last_known
from strategies.backtest.terms import Account, Costs, Fees
from strategies.paper.decisions.history import History
from strategies.paper.decisions.strategy import Strategy, load_strategy
from strategies.paper.orders.risk import capped
from strategies.paper.records.journal import Journal, settings_of

PARTS = ("backtest", "price", "latency", "slippage", "fee", "funding", "live")


@dataclass(frozen=True)
class Profit:
    """Of the account, or of one symbol (quote). backtest + price + latency + slippage + fee + funding = live."""

    backtest: float
    price: float
    latency: float
    slippage: float
    fee: float
    funding: float
    live: float


@dataclass(frozen=True, eq=False)
class Told(Profit):
    """bars: traded stretch. compared, identical: decisions whose target was computed again, and those that are equal to the
    last bit. symbols: the same parts of each. exchange: the account's change by the exchange's own equity."""

    bars: int
    compared: int
    identical: int
    symbols: dict[str, Profit]
    exchange: float
    stamps: Any
    backtest_equity: FloatArray
    assumed_slippage_bps: float

    def parts(self) -> list[tuple[str, float]]:
        return [
            ("backtest of the same bars", self.backtest),
            ("price: other holdings (rounding, refused, late or missed orders)", self.price),
            ("latency: from the bar's open to the sending", self.latency),
            ("slippage: against the last price, beyond the assumed", self.slippage),
            ("fee", self.fee),
            ("funding", self.funding),
            ("live, from the executions", self.live),
            ("live, by the exchange's equity", self.exchange),
        ]

    def by_symbol(self) -> list[tuple[str, list[float]]]:
        """A row of PARTS per symbol; they add up to the account's."""
        return [(symbol, [getattr(profit, part) for part in PARTS]) for symbol, profit in self.symbols.items()]


def targets_again(journal: Journal) -> tuple[Panel, int, FloatArray, FloatArray, FloatArray]:
    """(panel of the journaled candles, bar of the first decision, targets as journaled [n, A], targets in batch [n, A], what sized them
    [T, A]).

    A batch starts flat where the journal's chain starts flat: at the first decision and where another model took over.
    """
    rows = journal.rows("SELECT open_ms, symbol, model, target FROM decisions ORDER BY open_ms, rowid")
    if not rows:
        raise InputError("nothing has been decided yet; let it run for a bar at least")
    symbols = journal.symbols
    strategies = {name: _strategy(journal, name) for name in {row["model"] for row in rows}}
    interval_ms = next(iter(strategies.values())).model.interval_ns // 1_000_000
    panel = History.of(journal, next(iter(strategies.values()))).panel()
    start = rows[0]["open_ms"]
    first = (start - int(panel.timestamps[0].astype("datetime64[ms]").astype(np.int64))) // interval_ms
    count = (rows[-1]["open_ms"] - start) // interval_ms + 1
    said = np.full((count, len(symbols)), np.nan)
    models = [""] * count
    for row in rows:
        bar = (row["open_ms"] - start) // interval_ms
        said[bar, symbols.index(row["symbol"])] = row["target"]
        models[bar] = row["model"]
    again, sized = np.empty_like(said), np.full((len(panel), len(symbols)), np.nan)
    at = 0
    while at < count:
        stop = at
        while stop < count and models[stop] == models[at]:
            stop += 1
        strategy = strategies[models[at]]
        whole = History.of(journal, strategy).panel(strategy=strategy)
        forecasts = strategy.forecasts(whole, first + at, first + stop)
        volatility = strategy.volatility(whole)
        again[at:stop] = strategy.book(panel, volatility, forecasts, first + at)
        sized[first + at : first + stop] = volatility[first + at : first + stop]
        at = stop
    return panel, int(first), said, again, sized


def _strategy(journal: Journal, name: str) -> Strategy:
    folder = Path(journal.get(f"model:{name}", journal.get("model")))
    return load_strategy(folder, ",".join(journal.symbols), None, any_code=True)


def explain(journal: Journal) -> Told:
    """InputError where nothing was decided yet."""
    panel, first, said, again, sized = targets_again(journal)
    stop = first + len(said)
    costs = _costs(journal)
    equity = journal.rows("SELECT * FROM equity ORDER BY open_ms")
    began = float(equity[0]["equity"]) if equity else 100_000.0
    book = backtest(
        panel,
        _caps(journal, said),
        start=first,
        stop=stop,
        name="paper",
        costs=costs,
        account=Account(initial_equity=began, stop_loss=float(settings_of(journal).get("stop_loss") or 0.0)),
        volatility=sized,
    )
    closes = last_known(panel.field("close")[first:stop])
    symbols = {}
    for a, symbol in enumerate(panel.assets):
        assumed = _assumed(book, symbol, float(book.holdings[-1, a] * np.nan_to_num(closes[-1, a])))
        symbols[symbol] = _profit(assumed, _live(journal, panel, symbol, closes[:, a], first, stop))
    total = {part: sum(getattr(profit, part) for profit in symbols.values()) for part in PARTS}
    same = (said == again) | (np.isnan(said) & np.isnan(again))
    return Told(
        **total, bars=len(said), compared=len(said), identical=int(np.sum(same.all(1))), symbols=symbols,
        exchange=float(equity[-1]["equity"]) - began if equity else 0.0, stamps=_stamps(book),
        backtest_equity=book.equity, assumed_slippage_bps=costs.slippage_bps,
    )  # fmt: skip


@dataclass
class _Live:
    ideal: float = 0.0
    latency: float = 0.0
    slippage: float = 0.0
    fees: float = 0.0
    funding: float = 0.0


def _assumed(book: Backtest, symbol: str, worth: float) -> _Live:
    """A symbol's part of the backtest. worth: of what it holds at the end."""
    trades = book.trades[book.trades["asset"] == symbol]
    fills = trades[trades["kind"] != "funding"]
    slippage = float(fills["slippage"].sum())
    earned = worth - float((fills["size"] * fills["price"]).sum())  # at prices that slipped
    return _Live(earned + slippage, 0.0, -slippage, float(fills["fee"].sum()), float(trades["funding"].sum()))


def _profit(assumed: _Live, live: _Live) -> Profit:
    return Profit(
        backtest=assumed.ideal + assumed.slippage - assumed.fees + assumed.funding, price=live.ideal - assumed.ideal,
        latency=live.latency, slippage=live.slippage - assumed.slippage, fee=assumed.fees - live.fees,
        funding=live.funding - assumed.funding,
        live=live.ideal + live.latency + live.slippage - live.fees + live.funding,
    )  # fmt: skip


def _live(journal: Journal, panel: Panel, symbol: str, closes: FloatArray, first: int, stop: int) -> _Live:
    """closes: [n] of the traded stretch, the last known where a bar is not."""
    opens = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    length = panel.interval_ns // 1_000_000
    begin, end = int(opens[first]) + length, int(opens[stop - 1]) + length
    open_prices = panel.column("open", symbol)
    sent = {row["link_id"]: float(row["reference"]) for row in journal.rows("SELECT link_id, reference FROM intents")}
    out = _Live()
    size = float(journal.get(f"baseline_size:{symbol}", "0"))
    started = False
    for e in (e for e in journal.executions() if e.symbol == symbol):
        if e.time_ms >= end:
            break
        if e.kind == "Funding":
            out.funding -= float(e.fee) if e.time_ms >= begin else 0.0
            continue
        q, p = float(e.signed), float(e.price)
        if e.time_ms < begin:
            size += q
            continue
        if not started:
            out.ideal, started = -size * _price(closes[0]), True
        r = float(open_prices[(e.time_ms - opens[0]) // length])
        r = r if r == r else p  # filled in a bar that is unknown
        s = sent.get(e.link_id) or p
        out.ideal -= q * r
        out.latency += q * (r - s)
        out.slippage += q * (s - p)
        out.fees += float(e.fee)
        size += q
    if not started:
        out.ideal = -size * _price(closes[0])
    out.ideal += size * _price(closes[-1])
    return out


def _price(close: float) -> float:
    return float(close) if close == close else 0.0


def _caps(journal: Journal, targets: FloatArray) -> FloatArray:
    limit = float(json.loads(journal.get("settings", "{}")).get("max_position", "inf"))
    out: FloatArray = np.array([capped(row, limit) for row in targets.tolist()])
    return out


def _costs(journal: Journal) -> Costs:
    path = Path(json.loads(journal.get("settings", "{}")).get("run", "")) / "run.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["costs"]
    except (OSError, ValueError, KeyError):
        return Costs()
    own = {asset: Fees(**rates) for asset, rates in known.get("fees", {}).items()}
    return Costs(taker_fee_bps=known["taker_fee_bps"], slippage_bps=known["slippage_bps"], fees=own)


def _stamps(book: Backtest) -> Any:
    return np.asarray(book.timestamps, dtype="datetime64[ns]")
