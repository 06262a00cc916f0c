"""What each asset did to a portfolio's equity, day by day: profit after costs, its costs, how much was held and traded."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data.panel import FloatArray, Panel
from strategies.backtest.execution import Backtest, last_known

COLUMNS = ("timestamp", "strategy", "asset", "profit", "fees", "slippage", "funding", "traded", "exposure", "worth")


def profits(panel: Panel, result: Backtest, start: int) -> FloatArray:
    """[n, A]: change of equity that each asset caused in each bar, after fees, slippage and funding; rows sum to the change of equity.

    Change in value of the holding, less what its fills cost, plus its funding. start: the first traded bar of the panel.
    """
    n = len(result.equity)
    closes = last_known(panel.field("close")[start : start + n])
    with np.errstate(invalid="ignore"):
        value = np.where(result.holdings == 0, 0.0, result.holdings * closes)
    out = np.diff(value, axis=0, prepend=np.zeros((1, value.shape[1])))
    trades = result.trades
    if len(trades):
        flow = -trades["size"].to_numpy(float) * trades["price"].to_numpy(float)
        flow += trades["funding"].to_numpy(float) - trades["fee"].to_numpy(float)
        np.add.at(out, (_bars(result, trades), _columns(result, trades)), flow)
    return out


def contributions(panel: Panel, result: Backtest, start: int) -> pd.DataFrame:
    """One row per day (UTC) and asset, columns COLUMNS. profit, fees, slippage, funding, traded in quote currency.

    exposure: mean over the day's bars of the holding's value at the close over equity, signed. worth: equity at the day's beginning.
    """
    n, assets = result.positions.shape
    closes = last_known(panel.field("close")[start : start + n])
    with np.errstate(invalid="ignore", divide="ignore"):
        exposure = np.where(result.holdings == 0, 0.0, result.holdings * closes) / result.equity[:, None]
    columns = {"profit": profits(panel, result, start)}
    trades = result.trades
    where = (_bars(result, trades), _columns(result, trades))
    notional = trades["size"].to_numpy(float) * trades["price"].to_numpy(float)
    for name, values in (
        ("fees", trades["fee"].to_numpy(float)),
        ("slippage", trades["slippage"].to_numpy(float)),
        ("funding", trades["funding"].to_numpy(float)),
        ("traded", np.abs(notional)),
    ):
        columns[name] = np.zeros((n, assets))
        np.add.at(columns[name], where, values)
    # a bar that closes at midnight ends its day
    day = (pd.DatetimeIndex(result.timestamps) - pd.Timedelta(1, "ns")).floor("D").to_numpy()
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    bars = np.diff(np.r_[first, n])[:, None]
    before = np.r_[result.equity[:1], result.equity[:-1]][first]
    return pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(np.repeat(day[first], assets)).tz_localize("UTC"),
            "strategy": result.name,
            "asset": list(result.assets) * len(first),
            **{name: np.add.reduceat(values, first, axis=0).ravel() for name, values in columns.items()},
            "exposure": (np.add.reduceat(np.nan_to_num(exposure), first, axis=0) / bars).ravel(),
            "worth": np.repeat(before, assets),
        },
        columns=list(COLUMNS),
    )


def _bars(result: Backtest, trades: pd.DataFrame) -> np.ndarray:
    """Bar of each trade: fills are stamped with their bar's open, funding with its own time inside it."""
    times = pd.DatetimeIndex(trades["timestamp"]).tz_localize(None).to_numpy().astype("datetime64[ns]")
    return np.minimum(np.searchsorted(result.timestamps, times, side="right"), len(result.timestamps) - 1)


def _columns(result: Backtest, trades: pd.DataFrame) -> np.ndarray:
    place = {asset: a for a, asset in enumerate(result.assets)}
    return np.array([place[str(asset)] for asset in trades["asset"]], dtype=np.int64)
