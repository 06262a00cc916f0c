"""Targets -> fills and equity, in Backtrader: perpetual costs, funding at true settlement times, one account."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from data.panel import FloatArray, Panel, TimeArray

TRADE_COLUMNS = ("timestamp", "strategy", "asset", "kind", "size", "price", "fee", "slippage", "funding")


@dataclass(frozen=True)
class Costs:
    """Costs in basis points of notional. Defaults: Bybit linear perpetuals without a VIP level."""

    taker_fee_bps: float = 5.5
    maker_fee_bps: float = 2.0
    slippage_bps: float = 1.0

    def __post_init__(self) -> None:
        for name in ("taker_fee_bps", "maker_fee_bps", "slippage_bps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value < 10_000):
                raise ValueError(f"{name} must lie between 0 and 10000, not {value}")


@dataclass(frozen=True)
class Account:
    """The account that trades.

    initial_equity:  quote currency.
    leverage:        largest sum of |position| / equity a fill may lead to; what goes beyond is cut from the order.
    rebalance_band:  a position whose weight drifted further than this from an unchanged target is traded back to it.
    """

    initial_equity: float = 100_000.0
    leverage: float = 10.0
    rebalance_band: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.initial_equity) and self.initial_equity > 0):
            raise ValueError(f"initial_equity must be > 0, not {self.initial_equity}")
        if not self.leverage > 0 or not self.rebalance_band >= 0:
            raise ValueError("leverage must be > 0 and rebalance_band >= 0")


@dataclass(frozen=True, eq=False)
class Backtest:
    """What a strategy's account did over n bars.

    timestamps: [n] close time of each bar (UTC). equity: [n] at those times, after costs; equity[0] = initial.
    positions: [n, A] targets decided at each close (fraction of equity). holdings: [n, A] base units held then.
    cash: [n] equity minus the value of the holdings (negative where they are leveraged).
    trades: one row per fill, funding payment and liquidation; columns TRADE_COLUMNS (docs/architecture.md).
    """

    name: str
    assets: tuple[str, ...]
    timestamps: TimeArray
    equity: FloatArray
    positions: FloatArray
    holdings: FloatArray
    cash: FloatArray
    trades: pd.DataFrame = field(repr=False)


def backtest(
    panel: Panel,
    targets: FloatArray,
    *,
    start: int,
    stop: int,
    name: str,
    costs: Costs = Costs(),
    account: Account = Account(),
    cerebro_options: Mapping[str, Any] | None = None,
) -> Backtest:
    """Trade `targets` [n, A] over bars start..stop (n = stop - start) of the panel.

    targets[i] (fraction of equity, signed; NaN = flat) is decided at the close of bar start + i and fills at the open
    of the next bar; the last one is never filled. `cerebro_options` (runonce, preload, exactbars): for the audit.
    """
    targets = np.array(targets, dtype=np.float64)
    if not 0 <= start < stop <= len(panel):
        raise ValueError(f"bars {start}..{stop} are not inside the panel's 0..{len(panel)}")
    if targets.shape != (stop - start, len(panel.assets)):
        raise ValueError(
            f"targets have shape {targets.shape}, expected (bars, assets) = {(stop - start, len(panel.assets))}"
        )
    targets[~np.isfinite(targets)] = 0.0

    import backtrader as bt

    parts = _parts()
    cerebro = bt.Cerebro(stdstats=False, **{"runonce": True, "preload": True, **(cerebro_options or {})})
    broker = parts.broker(panel, start, stop, costs, account)
    cerebro.setbroker(broker)
    window = slice(start, stop)
    days = panel.timestamps[window].astype(np.int64) / 86_400e9 + 719_163.0  # bt counts days from year 1
    for a, asset in enumerate(panel.assets):
        candles = {
            f: np.ascontiguousarray(panel.column(f, asset)[window]) for f in ("open", "high", "low", "close", "volume")
        }
        cerebro.adddata(parts.feed(columns={"datetime": days, **candles, "target": targets[:, a]}), name=asset)
    cerebro.addstrategy(parts.strategy, account=account)
    cerebro.run()

    equity = np.array(broker.equity_history)
    holdings = np.array(broker.holdings_history).reshape(stop - start, len(panel.assets))
    closes = _last_known(panel.field("close")[window])
    with np.errstate(invalid="ignore"):
        value = np.where(holdings == 0, 0.0, holdings * closes).sum(axis=1)
    return Backtest(
        name,
        panel.assets,
        panel.close_times[window],
        equity,
        targets,
        holdings,
        equity - value,
        _frame(broker.rows, name),
    )


def _last_known(prices: FloatArray) -> FloatArray:
    """[n, A] with NaN replaced by the last price before it."""
    seen = np.where(np.isnan(prices), 0, np.arange(len(prices))[:, None])
    out: FloatArray = np.take_along_axis(prices, np.maximum.accumulate(seen, axis=0), axis=0)
    return out


def _frame(rows: Sequence[tuple[Any, ...]], name: str) -> pd.DataFrame:
    stamps = np.array([row[0] for row in rows], dtype="datetime64[ns]")
    columns: dict[str, Any] = {"timestamp": pd.DatetimeIndex(stamps).tz_localize("UTC"), "strategy": [name] * len(rows)}
    for position, column in enumerate(TRADE_COLUMNS[2:], start=1):
        values = [row[position] for row in rows]
        columns[column] = pd.Series(values, dtype="str" if column in ("asset", "kind") else np.float64).array
    return pd.DataFrame(columns, columns=list(TRADE_COLUMNS))


@dataclass(frozen=True)
class _Parts:
    broker: Any
    feed: Any
    strategy: Any


@functools.cache
def _parts() -> _Parts:
    """The Backtrader classes; made on first use, because importing backtrader is slow."""
    from strategies import perpetual

    return _Parts(perpetual.PerpetualBroker, perpetual.PanelFeed, perpetual.TargetStrategy)
