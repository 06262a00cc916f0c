"""The kernels written plainly, as the formulas read: one window at a time, in numpy. Slow; tests hold the kernels equal to them.

x: [C, T]; every function returns [C, T] with the same rules for missing values as its kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from data.panel import FloatArray


def known_only(x: FloatArray) -> FloatArray:
    """Infinities count as missing."""
    return np.where(np.isfinite(x), x, np.nan)


def over_windows(
    x: FloatArray, window: int, min_periods: int | None, statistic: Callable[[FloatArray], float]
) -> FloatArray:
    """`statistic` of the known values of each window of at least `min_periods` of them."""
    least = window if min_periods is None else min_periods
    x = known_only(x)
    out = np.full(x.shape, np.nan)
    for column in range(x.shape[0]):
        for t in range(x.shape[1]):
            values = x[column, max(0, t - window + 1) : t + 1]
            values = values[~np.isnan(values)]
            if len(values) >= least:
                out[column, t] = statistic(values)
    return out


def _std(values: FloatArray) -> float:
    if len(values) < 2:
        return math.nan
    return 0.0 if values.min() == values.max() else float(np.std(values - values[-1], ddof=1))


def _skew(values: FloatArray) -> float:
    n = len(values)
    if n < 3:
        return math.nan
    if values.min() == values.max():
        return 0.0
    d = values - values[-1]
    d = d - d.mean()
    return float(n * math.sqrt(n - 1) / (n - 2) * (d**3).sum() / (d**2).sum() ** 1.5)


def rolling_sum(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, lambda v: float(v.sum()))


def rolling_mean(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, lambda v: float(v[-1] + (v - v[-1]).mean()))


def rolling_std(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, _std)


def rolling_zscore(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    def score(values: FloatArray) -> float:
        deviation = _std(values)
        if deviation > 0.0:
            return float(-(values - values[-1]).mean() / deviation)
        return 0.0 if deviation == 0.0 else math.nan

    return np.where(np.isfinite(x), over_windows(x, window, min_periods, score), np.nan)


def rolling_moments(
    x: FloatArray, window: int, min_periods: int | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    return tuple(f(x, window, min_periods) for f in (rolling_mean, rolling_std, rolling_zscore))  # type: ignore[return-value]


def rolling_min(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, lambda v: float(v.min()))


def rolling_max(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, lambda v: float(v.max()))


def rolling_quantile(x: FloatArray, window: int, quantile: float, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, lambda v: float(np.quantile(v, quantile)))


def rolling_median(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return rolling_quantile(x, window, 0.5, min_periods)


def rolling_rank(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    def rank(values: FloatArray) -> float:
        return float((values < values[-1]).sum() + ((values == values[-1]).sum() + 1) / 2)

    return np.where(np.isfinite(x), over_windows(x, window, min_periods, rank), np.nan)


def rolling_skew(x: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return over_windows(x, window, min_periods, _skew)


def _pairs(
    x: FloatArray,
    y: FloatArray,
    window: int,
    min_periods: int | None,
    statistic: Callable[[FloatArray, FloatArray], float],
) -> FloatArray:
    least = max(window if min_periods is None else min_periods, 2)
    both = np.isfinite(x) & np.isfinite(y)
    out = np.full(x.shape, np.nan)
    for column in range(x.shape[0]):
        for t in range(x.shape[1]):
            part = slice(max(0, t - window + 1), t + 1)
            keep = both[column, part]
            if keep.sum() >= least:
                a, b = x[column, part][keep], y[column, part][keep]
                a, b = a - a[-1], b - b[-1]
                out[column, t] = statistic(a - a.mean(), b - b.mean())
    return out


def rolling_correlation(x: FloatArray, y: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    def correlation(a: FloatArray, b: FloatArray) -> float:
        scale = math.sqrt((a * a).sum()) * math.sqrt((b * b).sum())
        return float((a * b).sum() / scale) if scale > 0.0 else math.nan

    return _pairs(x, y, window, min_periods, correlation)


def rolling_beta(x: FloatArray, y: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    def slope(a: FloatArray, b: FloatArray) -> float:
        return float((a * b).sum() / (b * b).sum()) if (b * b).sum() > 0.0 else math.nan

    return _pairs(x, y, window, min_periods, slope)


def _ewm(
    x: FloatArray, span: float, min_periods: int, statistic: Callable[[FloatArray, FloatArray], float]
) -> FloatArray:
    decay = 1.0 - 2.0 / (span + 1.0)
    out = np.full(x.shape, np.nan)
    for column in range(x.shape[0]):
        for t in range(x.shape[1]):
            values = x[column, : t + 1]
            weights = decay ** np.arange(t, -1, -1.0)
            keep = np.isfinite(values)
            if keep.sum() >= max(min_periods, 1):
                out[column, t] = statistic(values[keep], weights[keep])
    return out


def _ewm_mean(v: FloatArray, w: FloatArray) -> float:
    return float(v[-1] + (w * (v - v[-1])).sum() / w.sum())


def _ewm_std(v: FloatArray, w: FloatArray) -> float:
    if len(v) < 2:
        return math.nan
    d = v - v[-1]
    d = d - (w * d).sum() / w.sum()
    freedom = w.sum() ** 2 - (w**2).sum()
    return math.sqrt((w * d * d).sum() / w.sum() * w.sum() ** 2 / freedom) if freedom > 0.0 else math.nan


def ewm_mean(x: FloatArray, span: float, min_periods: int = 1) -> FloatArray:
    return _ewm(x, span, min_periods, _ewm_mean)


def ewm_std(x: FloatArray, span: float, min_periods: int = 2) -> FloatArray:
    return _ewm(x, span, min_periods, _ewm_std)


def ewm_zscore(x: FloatArray, span: float, min_periods: int | None = None) -> FloatArray:
    def score(v: FloatArray, w: FloatArray) -> float:
        deviation = _ewm_std(v, w)
        if deviation > 0.0:
            return float(-(w * (v - v[-1])).sum() / w.sum() / deviation)
        return 0.0 if deviation == 0.0 else math.nan

    least = int(span // 2) if min_periods is None else min_periods
    return np.where(np.isfinite(x), _ewm(x, span, least, score), np.nan)


def relative_strength(x: FloatArray, span: int) -> FloatArray:
    change = difference(x, 1)
    out = np.full(x.shape, np.nan)
    for column in range(x.shape[0]):
        bars = [t for t in range(x.shape[1]) if not np.isnan(change[column, t])]
        moves = change[column, bars]
        up, down = np.maximum(moves, 0.0), np.maximum(-moves, 0.0)
        for k in range(span - 1, len(bars)):
            if k == span - 1:
                a, b = float(up[:span].mean()), float(down[:span].mean())
            else:
                a, b = (a * (span - 1) + up[k]) / span, (b * (span - 1) + down[k]) / span
            out[column, bars[k]] = 100.0 * a / (a + b) if a + b > 0.0 else 50.0
    return out


def log(x: FloatArray) -> FloatArray:
    good = np.isfinite(x) & (x > 0.0)
    return np.where(good, np.log(np.where(good, x, 1.0)), np.nan)


def difference(x: FloatArray, lag: int = 1) -> FloatArray:
    out = np.full(x.shape, np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        out[:, lag:] = x[:, lag:] - x[:, :-lag]
    return known_only(out)


def log_return(x: FloatArray, lag: int = 1) -> FloatArray:
    return difference(log(x), lag)


def fractional_difference(x: FloatArray, order: float, width: int = 48) -> FloatArray:
    weights = [1.0]
    for k in range(1, width):
        weights.append(-weights[-1] * (order - k + 1) / k)
    out = np.full(x.shape, np.nan)
    for column in range(x.shape[0]):
        for t in range(width - 1, x.shape[1]):
            with np.errstate(invalid="ignore"):
                out[column, t] = sum(w * x[column, t - k] for k, w in enumerate(weights))
    return known_only(out)


def realised_volatility(close: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return rolling_std(log_return(close), window, min_periods)


def parkinson(high: FloatArray, low: FloatArray, window: int, min_periods: int | None = None) -> FloatArray:
    return np.sqrt(rolling_mean(np.log(high / low) ** 2, window, min_periods) / (4.0 * math.log(2.0)))


def garman_klass(
    opening: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    window: int,
    min_periods: int | None = None,
) -> FloatArray:
    variance = 0.5 * np.log(high / low) ** 2 - (2.0 * math.log(2.0) - 1.0) * np.log(close / opening) ** 2
    return np.sqrt(np.maximum(rolling_mean(variance, window, min_periods), 0.0))
