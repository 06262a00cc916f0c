"""Targets -> fills and equity, in Backtrader: perpetual costs, funding at true settlement times, one account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from data.panel import CANDLE_FIELDS, FloatArray, Panel, TimeArray
from strategies.backtest.terms import NO_RULES, Account, Costs, Instrument, Orders

TRADE_COLUMNS = ("timestamp", "strategy", "asset", "kind", "size", "price", "fee", "slippage", "funding")


@dataclass(frozen=True, eq=False)
class Backtest:
    """What a strategy's account did over n bars.

    timestamps: [n] close time of each bar (UTC). equity: [n] at those times, after costs; equity[0] = initial.
    positions: [n, A] targets decided at each close (fraction of equity). holdings: [n, A] base units held then.
    cash: [n] equity minus the value of the holdings (negative where they are leveraged).
    trades: one row per fill, funding payment, liquidation and delisting; columns TRADE_COLUMNS (docs/architecture.md).

    Examples
    --------
    >>> import numpy as np
    >>> from data import simulate
    >>> from strategies.backtest import backtest
    >>> panel = simulate(["BTCUSDT"], "60", start=np.datetime64("2024-01-01"), end=np.datetime64("2024-01-03"))
    >>> done = backtest(panel, np.ones((48, 1)), start=0, stop=48, name="long")
    >>> done.equity.shape, done.holdings.shape, float(done.equity[0])
    ((48,), (48, 1), 100000.0)
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
    orders: Orders = Orders(),
    instruments: Mapping[str, Instrument] = NO_RULES,
    volatility: FloatArray | None = None,
    cerebro_options: Mapping[str, Any] | None = None,
) -> Backtest:
    """Trade `targets` over bars start..stop (n = stop - start) of the panel.

    In bars that cannot be traded (`Panel.traded`) orders wait and nothing is decided; what an asset still holds where it ends before
    the panel is closed there, at cost.

    Parameters
    ----------
    panel : Panel
        Candles and funding of A assets.
    targets : array [n, A]
        Fraction of equity, signed; NaN is flat. targets[i] is decided at the close of bar start + i and fills at the open of the next
        bar; the last one is never filled. A spot account holds no shorts: negative targets count as 0.
    name : str
        Of the strategy, in its trades.
    costs, account, orders
        The terms.
    instruments : mapping
        The exchange's order rules by asset.
    volatility : array [T, A], optional
        Of a bar, known at its close: how far protective stops are (`Account.stop_loss`). By default EWMA(48).
    cerebro_options : mapping, optional
        `runonce`, `preload`, `exactbars`: for the audit.

    Raises
    ------
    ValueError
        Where bars or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from data import simulate
    >>> from strategies.backtest import backtest
    >>> panel = simulate(["BTCUSDT"], "60", start=np.datetime64("2024-01-01"), end=np.datetime64("2024-01-08"))
    >>> targets = np.zeros((168, 1))
    >>> targets[24:120] = 1.0  # long for four days
    >>> done = backtest(panel, targets, start=0, stop=168, name="four days")
    >>> list(done.trades["kind"]).count("fill"), list(done.trades["kind"]).count("funding")
    (2, 12)
    """
    targets = checked_targets(panel, targets, start, stop, account)

    import backtrader as bt  # importing it is slow

    from strategies.backtest.perpetual import PanelFeed, PerpetualBroker, TargetStrategy

    cerebro = bt.Cerebro(stdstats=False, **{"runonce": True, "preload": True, **(cerebro_options or {})})
    broker = PerpetualBroker(panel, start, stop, costs, account, instruments, volatility)
    cerebro.setbroker(broker)
    window = slice(start, stop)
    days = panel.timestamps[window].astype(np.int64) / 86_400e9 + 719_163.0  # bt counts days from year 1
    tradable = panel.tradable(start, stop)
    for a, asset in enumerate(panel.assets):
        candles = {name: np.ascontiguousarray(tradable[:, a, f]) for f, name in enumerate(CANDLE_FIELDS)}
        cerebro.adddata(PanelFeed(columns={"datetime": days, **candles, "target": targets[:, a]}), name=asset)
    cerebro.addstrategy(TargetStrategy, account=account, orders=orders)
    cerebro.run()

    equity = np.array(broker.equity_history)
    holdings = np.array(broker.holdings_history).reshape(stop - start, len(panel.assets))
    closes = last_known(panel.field("close")[window])
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


def checked_targets(panel: Panel, targets: FloatArray, start: int, stop: int, account: Account) -> FloatArray:
    """Targets as an account takes them: [n, A], finite, no shorts on spot. ValueError where the shape does not fit."""
    targets = np.array(targets, dtype=np.float64)
    checked_stretch(panel, targets.shape, start, stop)
    targets[~np.isfinite(targets)] = 0.0
    return np.maximum(targets, 0.0) if account.kind == "spot" else targets


def checked_stretch(panel: Panel, shape: tuple[int, ...], start: int, stop: int) -> None:
    """ValueError where start..stop are no bars of the panel, or targets of this shape (bars, assets) do not fit them."""
    if not 0 <= start < stop <= len(panel):
        raise ValueError(f"bars {start}..{stop} are not inside the panel's 0..{len(panel)}")
    if shape != (stop - start, len(panel.assets)):
        raise ValueError(f"targets have shape {shape}, expected (bars, assets) = {(stop - start, len(panel.assets))}")


def last_known(prices: FloatArray) -> FloatArray:
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
