"""The columns of the closed forms by hand: what volatility and activity are known to depend on, all causal.

HAR: Corsi (2009), "A simple approximate long-memory model of realized volatility". HARX adds ranges and returns of further spans, the
asymmetry of falls, the clock and activity. HARXL adds single recent bars and the same hours of the last seven days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.panel import FloatArray, Panel
from nas import kernels
from nas.targets import series
from nas.targets.series import bars_of_hours
from nas.targets.target import Target

DAY_H, WEEK_H, MONTH_H = 24, 168, 720
DAY_NS, WEEK_NS = DAY_H * series.HOUR_NS, WEEK_H * series.HOUR_NS
LAGS_OF_OWN, LAGS_OF_RETURN, DAYS_BACK = 48, 24, 7


@dataclass(frozen=True, eq=False)
class Columns:
    """What a closed form reads. values: [A, K, T] float64, NaN where not known yet; value t reads bars <= t only.

    memory: bars before t that value t reads.
    """

    names: tuple[str, ...]
    values: FloatArray
    memory: int


class _Collected:
    """Columns by name, each [A, T]."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.found: dict[str, FloatArray] = {}

    def add(self, name: str, values: FloatArray) -> None:
        self.found[name] = values

    def means(self, name: str, x: FloatArray, hours: tuple[int, ...]) -> None:
        """Log of the mean over each span; spans that are the same number of bars count once."""
        spans = dict.fromkeys(bars_of_hours(h, self.panel.interval_ns) for h in hours)
        for span in spans:
            self.add(f"{name} {span}", np.log(kernels.rolling_mean(x, span)))


def clock(panel: Panel, period_ns: int, harmonics: int) -> list[FloatArray]:
    """Sines and cosines of the bar's close in its day or week, [A, T] each."""
    close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
    phase, where = np.unique(
        close % period_ns, return_inverse=True
    )  # the value of a time of day is the same bits everywhere
    found = []
    for k in range(1, harmonics + 1):
        for wave in (np.sin, np.cos):
            table = np.array([float(wave(2.0 * np.pi * k * p / period_ns)) for p in phase])
            found.append(np.broadcast_to(table[where], (len(panel.assets), len(panel))))
    return found


def shifted(x: FloatArray, bars: int) -> FloatArray:
    """Value of `bars` bars ago."""
    out = np.full(x.shape, np.nan)
    if bars < x.shape[1]:
        out[:, bars:] = x[:, : x.shape[1] - bars] if bars else x
    return out


def har(panel: Panel, target: Target, horizon: int) -> Columns:
    """Log means of the target's own series over a day, a week, a month (Corsi 2009)."""
    collected = _Collected(panel)
    collected.means("own", _own(panel, target), (DAY_H, WEEK_H, MONTH_H))
    return _together(collected, MONTH_H)


def harx(panel: Panel, target: Target, horizon: int) -> Columns:
    """Ranges over 6 to 720 hours, squared returns over 24 to 720, returns and their negative parts, clock, volume ratio, own means."""
    return _together(_harx(panel, target), MONTH_H)


def harxl(panel: Panel, target: Target, horizon: int) -> Columns:
    """HARX, the last 48 bars of the target's own series, 24 sizes of returns, the same hours of the last seven days."""
    collected = _harx(panel, target)
    own = _own(panel, target)
    log_own = np.log(own)
    for lag in range(LAGS_OF_OWN):
        collected.add(f"own -{lag}", shifted(log_own, lag))
    returns = series.returns(panel)
    size = np.abs(returns) / _deviation(returns, bars_of_hours(WEEK_H, panel.interval_ns))
    for lag in range(LAGS_OF_RETURN):
        collected.add(f"size of return -{lag}", shifted(size, lag))
    day = bars_of_hours(DAY_H, panel.interval_ns)
    ahead = np.log(series.future_mean(own, horizon))  # shifted back by at least the horizon before it is used
    for days in range(1, DAYS_BACK + 1):
        if days * day >= horizon:
            collected.add(f"same bars {days} days ago", shifted(ahead, days * day))
    return _together(collected, max(MONTH_H, DAYS_BACK * DAY_H))


def last_value(panel: Panel, target: Target, horizon: int) -> Columns:
    """Log mean of the target's own series over the last horizon."""
    collected = _Collected(panel)
    collected.add("last", np.log(kernels.rolling_mean(_own(panel, target), horizon)))
    return Columns(tuple(collected.found), np.stack(list(collected.found.values()), 1), horizon)


def seasonal(panel: Panel, target: Target, horizon: int) -> Columns:
    """Last value, and the same bars of each of the last seven days."""
    collected = _Collected(panel)
    own = _own(panel, target)
    collected.add("last", np.log(kernels.rolling_mean(own, horizon)))
    ahead = np.log(series.future_mean(own, horizon))
    day = bars_of_hours(DAY_H, panel.interval_ns)
    for days in range(1, DAYS_BACK + 1):
        if days * day >= horizon:
            collected.add(f"same bars {days} days ago", shifted(ahead, days * day))
    return _together(collected, DAYS_BACK * DAY_H)


COLUMNS: dict[str, Callable[[Panel, Target, int], Columns]] = {
    "last": last_value, "seasonal": seasonal, "har": har, "harx": harx, "harxl": harxl,
}  # fmt: skip


def _own(panel: Panel, target: Target) -> FloatArray:
    assert target.own is not None
    return target.own(panel)


def _deviation(returns: FloatArray, bars: int) -> FloatArray:
    found: FloatArray = np.sqrt(np.maximum(kernels.rolling_mean(returns**2, bars), series.LEAST_VARIANCE))
    return found


def _harx(panel: Panel, target: Target) -> _Collected:
    collected = _Collected(panel)
    returns = series.returns(panel)
    collected.means("range", series.range_variance(panel), (6, DAY_H, WEEK_H, MONTH_H))
    collected.means("squared return", np.maximum(returns**2, series.LEAST_VARIANCE), (DAY_H, WEEK_H, MONTH_H))
    if panel.has("volume"):
        activity = np.log(kernels.rolling_mean(series.turnover(panel), bars_of_hours(DAY_H, panel.interval_ns)))
        before = np.log(kernels.rolling_mean(series.turnover(panel), bars_of_hours(WEEK_H, panel.interval_ns)))
        collected.add("volume ratio", activity - before)
    if target.own is not None and target.own is not series.range_variance and target.own is not series.squared_return:
        collected.means("own", target.own(panel), (6, DAY_H, WEEK_H, MONTH_H))
    deviation = _deviation(returns, bars_of_hours(WEEK_H, panel.interval_ns))
    for hours in (6, DAY_H, WEEK_H):
        span = bars_of_hours(hours, panel.interval_ns)
        if f"return {span}" in collected.found:
            continue
        moved = kernels.rolling_sum(returns, span) / (deviation * np.sqrt(span))
        collected.add(f"return {span}", moved)
        collected.add(f"fall {span}", np.minimum(moved, 0.0))
    for k, wave in enumerate(clock(panel, DAY_NS, 3)):
        collected.add(f"day {k}", wave)
    for k, wave in enumerate(clock(panel, WEEK_NS, 2)):
        collected.add(f"week {k}", wave)
    return collected


def _together(collected: _Collected, hours: int) -> Columns:
    values = np.stack(list(collected.found.values()), 1)
    return Columns(tuple(collected.found), values, bars_of_hours(hours, collected.panel.interval_ns) + 1)
