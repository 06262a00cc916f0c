"""Hand-designed rules: the rivals. A rule maps past bars to a target in [-1, 1]; value t reads bars <= t only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.panel import FloatArray, Panel

BoolArray = npt.NDArray[np.bool_]
Signal = Callable[..., FloatArray]  # (panel, asset index, **parameters) -> target [T], NaN = too little known


@dataclass(frozen=True)
class Rule:
    """A registered rule: `rule(panel, asset)` -> targets [T] in [-1, 1]; NaN-free, 0 while too little is known."""

    name: str
    title: str
    description: str
    source: str
    parameters: Mapping[str, float] = field(hash=False)
    signal: Signal = field(repr=False)

    def __call__(self, panel: Panel, asset: int, **overrides: float) -> FloatArray:
        """[T] targets of one asset. overrides: of its parameters; KeyError for one that it has not."""
        unknown = set(overrides) - set(self.parameters)
        if unknown:
            raise KeyError(f"rule {self.name} has no parameter {', '.join(sorted(unknown))}")
        target = self.signal(panel, asset, **{**self.parameters, **overrides})
        return np.clip(np.nan_to_num(np.asarray(target, dtype=np.float64), nan=0.0), -1.0, 1.0)


RULES: dict[str, Rule] = {}


def rule(name: str, *, title: str, source: str, **parameters: float) -> Callable[[Signal], Signal]:
    """Register a signal function; its docstring is the description shown to people.

    Examples
    --------
    >>> from strategies import rule
    >>> from strategies.backtest.rules import RULES
    >>> def tuesdays(panel, asset, /):
    ...     "Long on Tuesdays (UTC)."
    ...     return (panel.timestamps.astype("datetime64[D]").astype(int) % 7 == 5).astype(float)
    >>> RULES.keys() & {"tuesdays"}, rule("tuesdays", title="Tuesdays", source="an example")(tuesdays) is tuesdays
    (set(), True)
    >>> RULES["tuesdays"].description
    'Long on Tuesdays (UTC).'
    """

    def register(signal: Signal) -> Signal:
        if name in RULES:
            raise ValueError(f"rule {name!r} is registered twice")
        description = " ".join((signal.__doc__ or "").split())
        RULES[name] = Rule(name, title, description, source, MappingProxyType(dict(parameters)), signal)
        return signal

    return register


@rule("buy_and_hold", title="Buy and hold", source="the benchmark of every page")
def _buy_and_hold(panel: Panel, asset: int, /) -> FloatArray:
    """Long 1 x equity from the first bar."""
    return np.where(np.isnan(panel.field("close")[:, asset]), 0.0, 1.0)


@rule("always_flat", title="Always flat", source="the null strategy")
def _always_flat(panel: Panel, asset: int, /) -> FloatArray:
    """Never holds a position."""
    return np.zeros(len(panel))


@rule(
    "sma_cross",
    title="SMA cross",
    source="Brock, Lakonishok and LeBaron (1992), the 1-200 family",
    fast=50.0,
    slow=200.0,
)
def _sma_cross(panel: Panel, asset: int, /, fast: float, slow: float) -> FloatArray:
    """Long while the fast simple moving average of the close is above the slow one, short while below."""
    close = panel.field("close")[:, asset]
    return np.sign(_mean(close, int(fast)) - _mean(close, int(slow)))


@rule(
    "ema_trend",
    title="EMA trend",
    source="Baz, Granger, Harvey, Le Roux and Rattray (2015), Dissecting Investment Strategies, the CTA momentum signal",
)
def _ema_trend(panel: Panel, asset: int, /) -> FloatArray:
    """Mean of three exponential crossovers (8-24, 16-48, 32-96 bars), normalised twice; fades where a move is overdone."""
    close = pd.Series(panel.field("close")[:, asset])
    parts = []
    for fast, slow in ((8, 24), (16, 48), (32, 96)):
        # the paper counts in half-lives' n with decay (n - 1) / n, that is alpha = 1 / n
        gap = close.ewm(alpha=1 / fast, adjust=False).mean() - close.ewm(alpha=1 / slow, adjust=False).mean()
        scaled = gap / close.rolling(63).std()
        scaled = scaled / scaled.rolling(252).std()
        parts.append(scaled * np.exp(-(scaled**2) / 4) / 0.89)
    together: FloatArray = np.mean([part.to_numpy() for part in parts], axis=0)
    return together


@rule(
    "donchian",
    title="Donchian breakout",
    source="Donchian's channel as traded by the Turtles, system 2 (Faith 2007, Way of the Turtle)",
    entry=55.0,
    leave=20.0,
)
def _donchian(panel: Panel, asset: int, /, entry: float, leave: float) -> FloatArray:
    """Enters on a close beyond the highest high or lowest low of 55 bars; leaves on one beyond the other end of 20 bars."""
    close, high, low = (panel.field(name)[:, asset] for name in ("close", "high", "low"))
    top = {n: pd.Series(high).rolling(int(n)).max().shift(1).to_numpy() for n in (entry, leave)}
    bottom = {n: pd.Series(low).rolling(int(n)).min().shift(1).to_numpy() for n in (entry, leave)}
    return _hold(close > top[entry], close < bottom[leave], close < bottom[entry], close > top[leave])


@rule(
    "rsi_reversion",
    title="RSI reversion",
    source="Wilder (1978), New Concepts in Technical Trading Systems: 14 bars, 30 and 70",
    bars=14.0,
    low=30.0,
    high=70.0,
)
def _rsi_reversion(panel: Panel, asset: int, /, bars: float, low: float, high: float) -> FloatArray:
    """Buys where the relative strength index is below 30 and sells short above 70, until it is back at 50."""
    change = pd.Series(panel.field("close")[:, asset]).diff()
    gain = change.clip(lower=0).ewm(alpha=1 / bars, adjust=False, min_periods=int(bars)).mean().to_numpy()
    loss = (-change.clip(upper=0)).ewm(alpha=1 / bars, adjust=False, min_periods=int(bars)).mean().to_numpy()
    total = gain + loss
    index = np.where(total > 0, 100 * gain / np.where(total > 0, total, 1.0), np.where(np.isnan(total), np.nan, 50.0))
    return _hold(index < low, index >= 50, index > high, index <= 50)


@rule(
    "bollinger_reversion",
    title="Bollinger reversion",
    source="Bollinger (2001), Bollinger on Bollinger Bands: 20 bars, 2 standard deviations",
    bars=20.0,
    width=2.0,
)
def _bollinger_reversion(panel: Panel, asset: int, /, bars: float, width: float) -> FloatArray:
    """Buys a close below the lower band and sells short one above the upper band, until the middle is crossed."""
    close = panel.field("close")[:, asset]
    rolling = pd.Series(close).rolling(int(bars))
    middle, deviation = rolling.mean().to_numpy(), rolling.std(ddof=0).to_numpy()
    away = width * deviation
    return _hold(close < middle - away, close >= middle, close > middle + away, close <= middle)


@rule(
    "momentum",
    title="Time-series momentum",
    source="Moskowitz, Ooi and Pedersen (2012); 4 weeks as for coins in Liu and Tsyvinski (2021)",
    days=28.0,
)
def _momentum(panel: Panel, asset: int, /, days: float) -> FloatArray:
    """Long after a rise over the last 28 days, short after a fall; the size follows volatility."""
    close = panel.field("close")[:, asset]
    bars = max(1, round(days * panel.bars_per_year / 365.0))
    past = np.full(len(close), np.nan)
    past[bars:] = close[:-bars]
    side: FloatArray = np.sign(close - past)
    return side


@rule(
    "funding_carry",
    title="Funding carry",
    source="Schmeling, Schrimpf and Todorov (2023), Crypto Carry; 1 bp per 8 hours is the exchange's neutral rate",
    days=3.0,
    neutral_bps=1.0,
)
def _funding_carry(panel: Panel, asset: int, /, days: float, neutral_bps: float) -> FloatArray:
    """Short where longs paid more than the neutral rate on average of 3 days, long where they were paid; flat between."""
    if not panel.has("funding_rate"):
        return np.zeros(len(panel))
    bars = max(1, round(days * panel.bars_per_year / 365.0))
    average = _mean(panel.field("funding_rate")[:, asset], bars)
    return np.where(
        average > neutral_bps * 1e-4, -1.0, np.where(average < 0.0, 1.0, np.where(np.isnan(average), np.nan, 0.0))
    )


@rule(
    "macd",
    title="MACD",
    source="Appel (1979), The Moving Average Convergence-Divergence Trading Method: 12, 26 and 9 bars",
    fast=12.0,
    slow=26.0,
    signal=9.0,
)
def _macd(panel: Panel, asset: int, /, fast: float, slow: float, signal: float) -> FloatArray:
    """Long while the difference of two exponential averages is above its own average, short while below."""
    close = pd.Series(panel.field("close")[:, asset])
    gap = close.ewm(span=fast, adjust=False, min_periods=int(slow)).mean()
    gap = gap - close.ewm(span=slow, adjust=False, min_periods=int(slow)).mean()
    over = gap - gap.ewm(span=signal, adjust=False, min_periods=int(signal)).mean()
    side: FloatArray = np.sign(over.to_numpy())
    return side


def _hold(buy: BoolArray, leave_long: BoolArray, sell: BoolArray, leave_short: BoolArray) -> FloatArray:
    """Signals [T] -> side held [T]: an entry holds until its exit or the opposite entry; comparisons with NaN are False."""
    out = np.zeros(len(buy))
    side = 0.0
    for t in range(len(buy)):
        if (side > 0 and leave_long[t]) or (side < 0 and leave_short[t]):
            side = 0.0
        if buy[t]:
            side = 1.0
        elif sell[t]:
            side = -1.0
        out[t] = side
    return out


def _mean(values: FloatArray, bars: int) -> FloatArray:
    """Mean of the last `bars` values; NaN until all are known. Each window is summed afresh: causal to the bit."""
    out = np.full(len(values), np.nan)
    if len(values) >= bars:
        out[bars - 1 :] = np.lib.stride_tricks.sliding_window_view(values, bars).mean(axis=1)
    return out
