"""Live against backtest: the journaled bars once more through batch code. Targets must be identical; profit is explained.

With q the signed quantity of a fill, r the open of the bar it fell into, s the last price when it was sent and p its price:
    live     = G(live holdings at r) + sum q (r - s) + sum q (s - p) - fees + funding
    backtest = G(backtest holdings at r) - slippage - fees + funding
so the difference is the sum of price (other holdings: rounding, refused or late orders), latency, slippage, fee and funding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.panel import FloatArray, InputError, Panel
from nas.features import causal_volatility
from strategies.decide import History, Strategy, load_strategy, panel_of
from strategies.execution import Account, Backtest, Costs, Fees, backtest
from strategies.journal import Journal
from strategies.positions import target_positions


@dataclass(frozen=True, eq=False)
class Told:
    """bars: traded stretch. compared, identical: decisions whose target was computed again, and those that are equal to the
    last bit. backtest, live: profit (quote). The others: what makes live differ; they add up."""

    bars: int
    compared: int
    identical: int
    backtest: float
    price: float
    latency: float
    slippage: float
    fee: float
    funding: float
    live: float
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


def targets_again(journal: Journal) -> tuple[Panel, int, FloatArray, FloatArray]:
    """(panel of the journaled candles, bar of the first decision, targets as journaled [n], targets in batch [n]).

    A batch starts flat where the journal's chain starts flat: at the first decision and where another model took over.
    """
    candles = journal.candles()
    rows = journal.rows("SELECT open_ms, model, target FROM decisions ORDER BY open_ms")
    if not rows:
        raise InputError("nothing has been decided yet; let it run for a bar at least")
    symbol = journal.get("symbol")
    strategies = {name: _strategy(journal, name, symbol) for name in {row["model"] for row in rows}}
    interval_ns = next(iter(strategies.values())).model.interval_ns
    panel = panel_of(candles, journal.settlements(), symbol, interval_ns)
    first = (rows[0]["open_ms"] - candles[0][0]) // (interval_ns // 1_000_000)
    volatility = causal_volatility(panel)[:, 0]
    said = np.array([row["target"] for row in rows], dtype=np.float64)
    again = np.empty_like(said)
    at = 0
    while at < len(rows):
        stop = at
        while stop < len(rows) and rows[stop]["model"] == rows[at]["model"]:
            stop += 1
        strategy = strategies[rows[at]["model"]]
        part = slice(first + at, first + stop)
        forecasts = _forecasts(journal, strategy, part)
        again[at:stop] = strategy.share * target_positions(
            forecasts, volatility[part], strategy.rule, panel.bars_per_year
        )
        at = stop
    return panel, int(first), said, again


def _forecasts(journal: Journal, strategy: Strategy, part: slice) -> FloatArray:
    """Of the model's own symbol, in one pass over all that the journal holds."""
    history = History.of(journal, strategy)
    panel = history.panel(strategy=strategy)
    return strategy.model.predict(panel, part.start, part.stop)[:, panel.assets.index(strategy.symbol)]


def _strategy(journal: Journal, name: str, symbol: str) -> Strategy:
    folder = Path(journal.get(f"model:{name}", journal.get("model")))
    return load_strategy(folder, symbol, None, any_code=True)


def explain(journal: Journal) -> Told:
    """InputError where nothing was decided yet."""
    panel, first, said, again = targets_again(journal)
    stop = first + len(said)
    costs = _costs(journal)
    equity = journal.rows("SELECT * FROM equity ORDER BY open_ms")
    began = float(equity[0]["equity"]) if equity else 100_000.0
    traded = _caps(journal, said)
    book = backtest(
        panel, traded[:, None], start=first, stop=stop, name="paper", costs=costs, account=Account(initial_equity=began)
    )
    fills = book.trades[book.trades["kind"] != "funding"]
    slip_back, fees_back = float(fills["slippage"].sum()), float(fills["fee"].sum())
    funding_back = float(book.trades["funding"].sum())
    profit_back = float(book.equity[-1] - book.equity[0])
    live = _live(journal, panel, first, stop)
    return Told(
        bars=len(said), compared=len(said), identical=int(np.sum((said == again) | (np.isnan(said) & np.isnan(again)))),
        backtest=profit_back, price=live.ideal - (profit_back + slip_back + fees_back - funding_back),
        latency=live.latency, slippage=live.slippage + slip_back, fee=fees_back - live.fees,
        funding=live.funding - funding_back, live=live.ideal + live.latency + live.slippage - live.fees + live.funding,
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


def _live(journal: Journal, panel: Panel, first: int, stop: int) -> _Live:
    opens = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    length = panel.interval_ns // 1_000_000
    begin, end = int(opens[first]) + length, int(opens[stop - 1]) + length
    open_prices, closes = panel.field("open")[:, 0], panel.field("close")[:, 0]
    sent = {row["link_id"]: float(row["reference"]) for row in journal.rows("SELECT link_id, reference FROM intents")}
    out = _Live()
    size = float(journal.get("baseline_size", "0"))
    started = False
    for e in journal.executions():
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
            out.ideal, started = -size * closes[first], True
        r = float(open_prices[(e.time_ms - opens[0]) // length])
        s = sent.get(e.link_id) or p
        out.ideal -= q * r
        out.latency += q * (r - s)
        out.slippage += q * (s - p)
        out.fees += float(e.fee)
        size += q
    if not started:
        out.ideal = -size * closes[first]
    out.ideal += size * closes[stop - 1]
    return out


def _caps(journal: Journal, targets: FloatArray) -> FloatArray:
    limit = float(json.loads(journal.get("settings", "{}")).get("max_position", "inf"))
    return np.clip(targets, -limit, limit)


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
