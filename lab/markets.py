"""Markets without signal: what is there to know about the next return is known to be nothing.

Both are martingales in price (the mean simple return is zero, so that holding earns nothing on average) and pay no funding: a
funding rate that follows past returns is something to be earned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel
from data.simulated import MarketRecipe, simulate

HOUR_NS = 3_600_000_000_000
BLOCK_BARS = 24  # a day: volatility keeps its clusters and its hours
ORIGIN = np.datetime64("2020-01-01", "ns")


def garch(bars: int, seed: int) -> Panel:
    """GARCH(1,1) with Student-t(5) shocks and spells of high and low volatility; no drift, no reversion, no funding."""
    recipe = MarketRecipe(trend_drift=0.0, reversion_rate=0.0)
    stop = ORIGIN + np.timedelta64(bars * HOUR_NS, "ns")
    panel = simulate(["BTCUSDT"], "60", start=ORIGIN, end=stop, seed=seed, recipe=recipe)
    shapes = _shapes(panel, 0)
    return _candles(shapes, f"GARCH without signal, seed {seed}")


def permuted(history: Panel, bars: int, seed: int, asset: int = 0) -> Panel:
    """`bars` of a real history whose days are in random order and whose returns have their signs drawn at random, bar by bar.

    What remains is how large the moves of each hour were. One sign for a whole day would leave its path, and real hours revert: a
    return and the next one have the same sign less often than not (correlation -0.06), which is something to be earned.
    InputError where the history is shorter than twice what is taken: permuted short histories mean-revert.
    """
    if len(history) < 2 * bars:
        raise InputError(f"the history has {len(history)} bars, permuting it needs {2 * bars}; give a longer file")
    shapes = _shapes(history, asset)
    rng = np.random.default_rng([seed, 13])
    days = rng.permutation(len(history) // BLOCK_BARS)[: -(-bars // BLOCK_BARS)]
    order = (days[:, None] * BLOCK_BARS + np.arange(BLOCK_BARS)).ravel()[:bars]
    signs = rng.choice([-1.0, 1.0], bars)
    moved, upper, lower, volume = shapes[order].T
    mirrored = np.stack(
        [moved * signs, np.where(signs > 0, upper, lower), np.where(signs > 0, lower, upper), volume], 1
    )
    return _candles(
        mirrored, f"{history.assets[asset]} with its days permuted and its returns signed at random, seed {seed}"
    )


def unlinked(histories: Sequence[Panel], assets: int, bars: int, seed: int) -> Panel:
    """`assets` coins of `bars` bars that have nothing to do with each other: each a real history whose days are in an order of its own.

    Hours, tails and days of high volatility stay; which coin moves before which is gone. More assets than histories take turns, each in
    another order. InputError where a history is shorter than `bars`.
    """
    parts = []
    for k in range(assets):
        history = histories[k % len(histories)]
        if len(history) < bars:
            raise InputError(f"{history.assets[0]} has {len(history)} bars, {bars} are asked for; give a longer file")
        days = np.random.default_rng([seed, 17, k]).permutation(len(history) // BLOCK_BARS)[: -(-bars // BLOCK_BARS)]
        order = (days[:, None] * BLOCK_BARS + np.arange(BLOCK_BARS)).ravel()[:bars]
        parts.append(_candles(_shapes(history, 0)[order], "").values)
    first = _candles(_shapes(histories[0], 0)[:bars], "")
    names = tuple(f"U{k:02d}USDT" for k in range(assets))
    said = f"{len(histories)} real histories with days in orders of their own, seed {seed}"
    return Panel(first.timestamps, names, CANDLE_FIELDS, np.concatenate(parts, 1), HOUR_NS, said, simulated=True)


def _shapes(panel: Panel, asset: int) -> FloatArray:
    """Per bar: return of the close, upper and lower wick (log distance beyond open and close), volume: [T, 4]."""
    open_, high, low, close, volume = (panel.field(name)[:, asset] for name in CANDLE_FIELDS)
    moved = np.diff(np.log(close), prepend=np.log(open_[0]))
    upper = np.log(high / np.maximum(open_, close))
    lower = np.log(np.minimum(open_, close) / low)
    return np.stack([moved, np.maximum(upper, 0.0), np.maximum(lower, 0.0), volume], 1)


def _candles(shapes: FloatArray, source: str) -> Panel:
    """Candles of such bars. The log returns given become the simple returns: those, not the logs, have mean zero."""
    moved, upper, lower, volume = shapes.T
    close = 1000.0 * np.cumprod(1.0 + np.clip(moved, -0.5, 0.5))
    open_ = np.concatenate(([1000.0], close[:-1]))
    high, low = np.maximum(open_, close) * np.exp(upper), np.minimum(open_, close) * np.exp(-lower)
    values = np.stack([open_, high, low, close, volume], 1)[:, None]
    stamps = ORIGIN + np.arange(len(close)) * np.timedelta64(HOUR_NS, "ns")
    return Panel(stamps, ("NULLUSDT",), CANDLE_FIELDS, values, HOUR_NS, source, simulated=True)
