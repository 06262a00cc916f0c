"""Raw inputs: what a market history offers before any processing, a series per asset each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from data.panel import FloatArray, Panel
from nas import kernels

DAY_NS, WEEK_NS = 86_400_000_000_000, 7 * 86_400_000_000_000
VOLATILITY_WINDOW = 24
BETA_WINDOW = 168
TURNOVER_WINDOW = 168

# Every two-step pipeline of the issue: first what makes a series stationary, then what puts it on a scale.
FIRST_STEPS = ("", "log", "diff", "fracdiff4")
SECOND_STEPS = ("", "zscore24", "zscore168", "rank168", "ewm32", "clip3")


@dataclass(frozen=True)
class RawInput:
    """A series per asset, in units that make ordinary values about one.

    Parameters
    ----------
    name, about : str
        As pipelines and tables call it.
    needs : tuple of str
        Panel fields.
    compute : callable
        panel -> [A, T]; value t reads bars <= t only.
    candidates : tuple of str
        Pipelines of the default bank (empty: only in the full one); the first is what hand-designed networks read.
    memory : int
        Past bars that one value reads.
    positive, level, fixed : bool
        Has a logarithm; wanders, so only its changes or its place among recent values mean anything; needs no processing (time of day).
    assets : int
        How many the panel must have.
    within_day : bool
        Whether it is the same in every bar of a day or longer, which says nothing.

    Examples
    --------
    >>> from nas import RawInput
    >>> body = RawInput("body", "close less open, percent of the open", ("open", "close"),
    ...     lambda panel: 100 * (panel.field("close") / panel.field("open") - 1).T, candidates=("zscore24",))
    >>> len(body.all_candidates) > 10
    True

    `nas.features.inputs.INPUTS["body"] = body` makes it known to every bank.
    """

    name: str
    about: str
    needs: tuple[str, ...]
    compute: Callable[[Panel], FloatArray]
    candidates: tuple[str, ...] = ()
    memory: int = 0
    positive: bool = False
    level: bool = False
    assets: int = 1
    fixed: bool = False
    within_day: bool = False

    @property
    def all_candidates(self) -> tuple[str, ...]:
        """The default candidates, then every other two-step pipeline that makes sense for the series."""
        if self.fixed:
            return ("raw",)
        pairs = []
        for first, second in product(FIRST_STEPS, SECOND_STEPS):
            if (first == "log" and not self.positive) or (
                self.level and first in ("", "log") and second in ("", "clip3")
            ):
                continue
            pairs.append(">".join(step for step in (first, second) if step) or "raw")
        return (*self.candidates, *(p for p in pairs if p not in self.candidates))


def _columns(panel: Panel, name: str) -> FloatArray:
    return np.ascontiguousarray(panel.field(name).T)


def _log_return(panel: Panel) -> FloatArray:
    return kernels.log_return(_columns(panel, "close"))


def _return(panel: Panel) -> FloatArray:
    return 100.0 * _log_return(panel)


def _price(panel: Panel) -> FloatArray:
    return 100.0 * kernels.log(_columns(panel, "close"))


def _range(panel: Panel, suffix: str = "") -> FloatArray:
    """A bar without movement counts as 0.01 basis points, so that it has a log."""
    high, low = _columns(panel, "high" + suffix), _columns(panel, "low" + suffix)
    return np.maximum(100.0 * (kernels.log(high) - kernels.log(low)), 1e-4)


def _volume(panel: Panel) -> FloatArray:
    """A bar without trades counts as one unit, so that it has a log."""
    return np.maximum(_columns(panel, "volume") * _columns(panel, "close"), 1.0)


def _body(panel: Panel, suffix: str = "") -> FloatArray:
    return 100.0 * (_columns(panel, "close" + suffix) / _columns(panel, "open" + suffix) - 1.0)


def _close_place(panel: Panel) -> FloatArray:
    high, low, close = (_columns(panel, name) for name in ("high", "low", "close"))
    spread = high - low
    flat = spread == 0.0
    out: FloatArray = np.where(flat, 0.0, ((close - low) - (high - close)) / np.where(flat, 1.0, spread))
    return out


def _volatility(panel: Panel) -> FloatArray:
    opening, high, low, close = (_columns(panel, name) for name in ("open", "high", "low", "close"))
    return np.maximum(100.0 * kernels.garman_klass(opening, high, low, close, VOLATILITY_WINDOW), 1e-4)


def _parkinson(panel: Panel) -> FloatArray:
    return np.maximum(
        100.0 * kernels.parkinson(_columns(panel, "high"), _columns(panel, "low"), VOLATILITY_WINDOW), 1e-4
    )


def _close_volatility(panel: Panel) -> FloatArray:
    return np.maximum(100.0 * kernels.realised_volatility(_columns(panel, "close"), VOLATILITY_WINDOW), 1e-4)


def _funding(panel: Panel) -> FloatArray:
    return 1e4 * _columns(panel, "funding_rate")


def _open_interest(panel: Panel) -> FloatArray:
    return 100.0 * kernels.log_return(_columns(panel, "open_interest"))


def _premium(panel: Panel) -> FloatArray:
    return 1e4 * _columns(panel, "premium")


def _spread(panel: Panel) -> FloatArray:
    """An empty or crossed book counts as the smallest spread, so that it has a log."""
    return np.maximum(1e4 * _columns(panel, "spread"), 1e-4)


def _imbalance(panel: Panel) -> FloatArray:
    return _columns(panel, "imbalance")


def _across(returns: FloatArray) -> FloatArray:
    """Mean over the assets listed at each bar, for each of them: [A, T]."""
    known = np.isfinite(returns)
    total = np.zeros(returns.shape[1])
    for row, mask in zip(returns, known, strict=True):  # one by one: numpy's sum over an axis may change its order
        total += np.where(mask, row, 0.0)
    count = known.sum(0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.broadcast_to(mean, returns.shape).copy()


def _market_return(panel: Panel) -> FloatArray:
    return _across(_return(panel))


def _leader_return(panel: Panel) -> FloatArray:
    """The return of the asset with the largest turnover of the last 168 bars, for every asset; of equal ones the first by name.

    Found from the data, not by its place in the list: the order of the symbols changes nothing.
    """
    returns = _return(panel)
    turnover = kernels.rolling_mean(_volume(panel), TURNOVER_WINDOW, 1)
    by_name = np.argsort(panel.assets, kind="stable")
    size = np.where(np.isfinite(returns) & np.isfinite(turnover), turnover, -1.0)[by_name]
    leader = by_name[size.argmax(0)]
    values = np.where(size.max(0) >= 0.0, returns[leader, np.arange(returns.shape[1])], np.nan)
    return np.broadcast_to(values, returns.shape).copy()


def _market_volatility(panel: Panel) -> FloatArray:
    """Geometric mean over the listed assets: one that is wilder by nature does not drown what the others say."""
    return np.exp(_across(np.log(_volatility(panel))))


def _relative_return(panel: Panel) -> FloatArray:
    returns = _return(panel)
    return returns - _across(returns)


def _market_beta(panel: Panel) -> FloatArray:
    returns = _return(panel)
    return kernels.rolling_beta(returns, _across(returns), BETA_WINDOW)


def _market_correlation(panel: Panel) -> FloatArray:
    returns = _return(panel)
    return kernels.rolling_correlation(returns, _across(returns), BETA_WINDOW)


def _clock(panel: Panel, period_ns: int, wave: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Position of the bar's close in its day or week (weeks begin on Thursday, as the epoch did)."""
    close = panel.close_times.astype("datetime64[ns]").astype(np.int64)
    # a table of the phases: the value of a time of day is the same bits wherever it stands in the array
    phase, where = np.unique(close % period_ns, return_inverse=True)
    values = np.array([float(wave(np.array(2.0 * np.pi * p / period_ns))) for p in phase])
    return np.broadcast_to(values[where], (len(panel.assets), len(panel))).copy()


INPUTS: dict[str, RawInput] = {
    raw.name: raw
    for raw in (
        RawInput("return", "log return of the close, percent", ("close",), _return,
                 ("raw", "ewm32", "zscore24", "sum6>ewm32", "sum24>ewm32", "rank168"), memory=1),
        RawInput("range", "log of high over low, percent", ("high", "low"), _range,
                 ("raw", "log>zscore24", "log>zscore168", "log>diff", "rank168"), positive=True),
        RawInput("volume", "turnover in quote currency", ("volume", "close"), _volume,
                 ("log>zscore24", "log>zscore168", "log>diff", "rank168"), positive=True, level=True),
        RawInput("body", "close over open, percent", ("open", "close"), _body, ("raw", "ewm32", "sum6>ewm32")),
        RawInput("price", "log close, percent", ("close",), _price,
                 ("zscore168", "fracdiff4>ewm32", "rsi14"), level=True),
        RawInput("volatility", "Garman-Klass volatility of 24 bars, percent per bar", ("open", "high", "low", "close"),
                 _volatility, ("log>zscore168", "log>diff24", "rank168"), memory=VOLATILITY_WINDOW - 1, positive=True),
        RawInput("funding_rate", "last settled funding rate, basis points", ("funding_rate",), _funding,
                 ("raw", "zscore168", "diff", "diff24")),
        RawInput("open_interest", "log change of open interest, percent", ("open_interest",), _open_interest,
                 ("raw", "ewm32", "sum24>ewm32", "rank168"), memory=1),
        RawInput("premium", "perpetual over index, basis points", ("premium",), _premium,
                 ("raw", "ewm32", "zscore168", "diff")),
        RawInput("spread", "best ask over best bid, basis points", ("spread",), _spread,
                 ("log>zscore24", "log>diff", "rank168"), positive=True),
        RawInput("imbalance", "bid against ask size at the best prices, -1 to 1", ("imbalance",), _imbalance, ("raw", "ewm32", "diff")),
        RawInput("depth_imbalance", "bid against ask depth over the recorded levels, -1 to 1", ("depth_imbalance",),
                 lambda panel: _columns(panel, "depth_imbalance")),
        RawInput("order_flow", "order-flow imbalance at the best prices, base units per bar", ("ofi_1",),
                 lambda panel: _columns(panel, "ofi_1")),
        RawInput("long_ratio", "share of accounts that are long", ("long_ratio",),
                 lambda panel: _columns(panel, "long_ratio"), positive=True, level=True),
        RawInput("market_return", "mean return of all assets, percent", ("close",), _market_return,
                 ("raw", "ewm32", "sum24>ewm32"), memory=1, assets=2),
        RawInput("leader_return", "return of the asset with the largest turnover of 168 bars, percent", ("close", "volume"),
                 _leader_return, memory=TURNOVER_WINDOW, assets=2),
        RawInput("market_volatility", "geometric mean of all assets' Garman-Klass volatility of 24 bars, percent per bar",
                 ("open", "high", "low", "close"), _market_volatility, ("log",), memory=VOLATILITY_WINDOW - 1, positive=True,
                 assets=2),
        RawInput("relative_return", "return less the mean of all assets, percent", ("close",), _relative_return, memory=1,
                 assets=2),
        RawInput("market_beta", "slope of the return on the mean of all assets, 168 bars", ("close",), _market_beta,
                 memory=BETA_WINDOW, assets=2),
        RawInput("market_correlation", "correlation with the mean of all assets, 168 bars", ("close",), _market_correlation,
                 memory=BETA_WINDOW, assets=2),
        RawInput("close_place", "where the bar closed between its low (-1) and its high (1)", ("high", "low", "close"),
                 _close_place),
        RawInput("parkinson", "Parkinson volatility of 24 bars, percent per bar", ("high", "low"), _parkinson,
                 memory=VOLATILITY_WINDOW - 1, positive=True),
        RawInput("close_volatility", "standard deviation of 24 log returns, percent per bar", ("close",), _close_volatility,
                 memory=VOLATILITY_WINDOW, positive=True),
        RawInput("day_sin", "sine of the time of day (UTC)", (), lambda p: _clock(p, DAY_NS, np.sin), fixed=True,
                 within_day=True),
        RawInput("day_cos", "cosine of the time of day (UTC)", (), lambda p: _clock(p, DAY_NS, np.cos), fixed=True,
                 within_day=True),
        RawInput("week_sin", "sine of the time of week (UTC)", (), lambda p: _clock(p, WEEK_NS, np.sin), fixed=True),
        RawInput("week_cos", "cosine of the time of week (UTC)", (), lambda p: _clock(p, WEEK_NS, np.cos), fixed=True),
    )
}  # fmt: skip


def _timeframe(suffix: str) -> tuple[RawInput, ...]:
    """Inputs from the last complete candle of another timeframe; `suffix` is as in the field `close@240`."""

    def gap(panel: Panel) -> FloatArray:
        return 100.0 * (kernels.log(_columns(panel, "close")) - kernels.log(_columns(panel, "close" + suffix)))

    return (
        RawInput("body" + suffix, "close over open of the last complete candle, percent", ("open" + suffix, "close" + suffix),
                 lambda panel: _body(panel, suffix), ("raw", "zscore168")),
        RawInput("range" + suffix, "log of high over low of the last complete candle, percent",
                 ("high" + suffix, "low" + suffix), lambda panel: _range(panel, suffix), ("log>zscore168",), positive=True),
        RawInput("gap" + suffix, "log close over the last complete candle's close, percent", ("close", "close" + suffix), gap,
                 ("raw", "ewm32")),
    )  # fmt: skip


def inputs_of(panel: Panel) -> dict[str, RawInput]:
    """All raw inputs by name: the fixed ones, whether the panel has their fields or not, and those of its other timeframes."""
    suffixes = sorted({m[0] for name in panel.fields if (m := re.search(r"@.+$", name))})
    return INPUTS | {raw.name: raw for suffix in suffixes for raw in _timeframe(suffix) if has(panel, raw)}


def raw_input(name: str) -> RawInput | None:
    """By its name alone, of whatever timeframe; None where there is none."""
    if name in INPUTS:
        return INPUTS[name]
    suffix = name[name.index("@") :] if "@" in name else ""
    return next((raw for raw in _timeframe(suffix) if raw.name == name), None) if suffix else None


def has(panel: Panel, raw: RawInput) -> bool:
    """Whether the panel has the fields and the number of assets that the input needs."""
    return len(panel.assets) >= raw.assets and all(panel.has(name) for name in raw.needs)
