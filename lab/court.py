"""The leak court measured: clean forecasts of many kinds, and the same with a leak planted. Nothing is searched or traded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.panel import FloatArray, Panel
from data.simulated import simulate
from strategies.walkforward.leaks import convicted, court

HORIZON = 6
FIRST = np.datetime64("2022-01-01", "ns")


def market(seed: int, bars: int) -> Panel:
    """Hourly, simulated: regimes of trend, reversion and volatility."""
    return simulate(["BTCUSDT"], "60", start=FIRST, end=FIRST + np.timedelta64(bars, "h"), seed=seed)


def average(values: FloatArray, span: float) -> FloatArray:
    """Exponentially weighted, causal."""
    from scipy.signal import lfilter  # start-up time

    weight = 2.0 / (span + 1.0)
    found: FloatArray = lfilter([weight], [1.0, weight - 1.0], np.nan_to_num(values))
    return found


def clean(panel: Panel, rng: np.random.Generator) -> FloatArray:
    """[T] an honest forecast of a kind and span drawn at random: trend, reversion, a rolling score of the price, little skill, noise."""
    close = np.log(panel.field("close")[:, 0])
    change = np.diff(close, prepend=close[0])
    noise, span = rng.normal(size=len(close)), float(rng.choice([4, 8, 16, 32, 64]))
    trend = average(change, span)
    kind = rng.integers(5)
    if kind == 0:
        return trend
    if kind == 1:
        return np.asarray(-trend + 0.5 * trend.std() * noise, dtype=np.float64)
    if kind == 2:
        level = average(close - average(close, 8 * span), span)
        return np.asarray(-level / np.sqrt(average(level**2, 500) + 1e-12), dtype=np.float64)
    if kind == 3:  # what a good model has: a correlation of 0.04 with the horizon's return
        label = ahead(change, HORIZON)
        return np.asarray(noise + 0.04 * label / label.std(), dtype=np.float64)
    return np.asarray(noise, dtype=np.float64)


def ahead(change: FloatArray, bars: int) -> FloatArray:
    """[T] sum of the next returns; 0 at the end."""
    total = np.concatenate([[0.0], np.cumsum(change)])
    out = np.zeros_like(change)
    out[:-bars] = total[bars + 1 :] - total[1:-bars]
    return out


def _early(panel: Panel, rng: np.random.Generator) -> FloatArray:
    """What reads prices, stamped one bar before it was known."""
    close = np.log(panel.field("close")[:, 0])
    change = np.diff(close, prepend=close[0])
    made = rng.choice([-1.0, 1.0]) * average(change, float(rng.choice([3, 6, 12, 24])))
    return np.asarray(np.roll(made + 0.5 * made.std() * rng.normal(size=len(made)), -1), dtype=np.float64)


def _label(panel: Panel, rng: np.random.Generator) -> FloatArray:
    """The label among the inputs: a third of the forecast."""
    change = np.diff(np.log(panel.field("close")[:, 0]), prepend=0.0)
    change[0] = 0.0
    label, base = ahead(change, HORIZON), clean(panel, rng)
    return np.asarray(base / base.std() + 0.5 * label / label.std(), dtype=np.float64)


def _normalised(panel: Panel, rng: np.random.Generator) -> FloatArray:
    """A clean one, standardised (or stretched to 0 to 1) with figures of the whole file, written with five digits."""
    base = clean(panel, rng)
    if rng.integers(2):
        return np.asarray(np.round((base - base.mean()) / base.std(), 5), dtype=np.float64)
    return np.asarray(np.round((base - base.min()) / np.ptp(base), 12), dtype=np.float64)


def _resampled(panel: Panel, rng: np.random.Generator) -> FloatArray:
    """The trend of longer bars, joined by the time at which they open."""
    close = np.log(panel.field("close")[:, 0])
    size = int(rng.choice([4, 8, 24]))
    longer = close[: len(close) // size * size].reshape(-1, size)[:, -1]
    made = np.repeat(average(np.diff(longer, prepend=longer[0]), float(rng.choice([2, 4, 8]))), size)
    made = np.concatenate([made, np.full(len(close) - len(made), made[-1])])
    return np.asarray(made + 0.5 * made.std() * rng.normal(size=len(made)), dtype=np.float64)


def _fitted(panel: Panel, rng: np.random.Generator) -> FloatArray:
    """Gradient boosting on past returns, fitted on the very bars that it forecasts."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # start-up time

    change = np.diff(np.log(panel.field("close")[:, 0]), prepend=0.0)
    change[0] = 0.0
    inputs = np.stack([average(change, span) for span in (1, 2, 4, 8, 16, 32, 64, 128)], 1)
    model = HistGradientBoostingRegressor(max_iter=200, max_leaf_nodes=31, random_state=int(rng.integers(1 << 30)))
    found: FloatArray = model.fit(inputs, ahead(change, HORIZON)).predict(inputs)
    return found


LEAKS: dict[str, Callable[[Panel, np.random.Generator], FloatArray]] = {
    "clean": clean,
    "one bar early": _early,
    "label included": _label,
    "normalised over all time": _normalised,
    "resampled from the future": _resampled,
    "fitted on the test": _fitted,
}


def measured(seeds: Sequence[int], bars: int, histories: Sequence[Panel] = ()) -> list[dict[str, Any]]:
    """Per leak how many files were convicted, and by which tests. histories: real ones, taken in turn, instead of simulated markets."""
    found = []
    for name, plant in LEAKS.items():
        charges: Counter[str] = Counter()
        count = 0
        for seed in seeds:
            panel = histories[seed % len(histories)] if histories else market(seed, bars)
            rng = np.random.default_rng([seed, 24])
            told = convicted(court(panel, plant(panel, rng)[:, None], HORIZON))
            charges.update(told)
            count += bool(told)
        by = ", ".join(f"{charge} {times}" for charge, times in charges.most_common())
        found.append({"file": name, "files": len(seeds), "convicted": count, "by": by or "-"})
    return found
