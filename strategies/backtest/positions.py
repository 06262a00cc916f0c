"""Forecast -> target position (fraction of equity): one step per bar, shared by the backtest and paper trading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numba
import numpy as np

from data.panel import FloatArray


@dataclass(frozen=True)
class PositionRule:
    """How a forecast becomes a position. Forecasts are in units of the label: log return over its causal volatility.

    threshold:         |forecast| needed to enter or to change side.
    exit_threshold:    a held side is left once the forecast for it falls below this (hysteresis; None = threshold).
    forecast_scale:    |forecast| of a full-size position; smaller ones are proportionally smaller. 0: always full size.
    target_volatility: annual volatility a full-size position aims at (0.2 = 20%); 0: full size is 1 x equity.
    max_leverage:      cap of |position|, in equities.
    no_trade_band:     a held side is resized only when the new size differs by more than this (fraction of equity).
    drawdown_brake:    flat once the rule's own equity has fallen by this fraction from its peak (None: never), for
                       brake_bars bars; the peak then starts anew. Own equity: positions x bar returns, less
                       turnover x cost_bps.
    cooldown_bars:     bars to stay flat after a position was left or would change side.
    smoothing_bars:    the forecast is averaged exponentially with this span first (0: taken as it comes).
    cost_hurdle:       to enter or to change side, the expected move |forecast| x volatility x sqrt(horizon_bars) must be
                       this many times the cost of a round trip, 2 x cost_bps (0: no hurdle).
    asset_cost_bps:    cost_bps of assets that have fees of their own; `of(asset)` is the rule of one asset.
    horizon_bars:      bars the forecast looks ahead (for the hurdle).
    allow_short:       False turns short positions into flat ones.

    Examples
    --------
    >>> from strategies import PositionRule
    >>> PositionRule(threshold=0.5, cost_bps=5.0, asset_cost_bps={"SOLUSDT": 9.0}).of("SOLUSDT").cost_bps
    9.0
    """

    threshold: float = 0.0
    exit_threshold: float | None = None
    forecast_scale: float = 0.0
    target_volatility: float = 0.2
    max_leverage: float = 2.0
    no_trade_band: float = 0.0
    drawdown_brake: float | None = None
    brake_bars: int = 168
    cooldown_bars: int = 0
    allow_short: bool = True
    cost_bps: float = 6.5  # Bybit taker fee 5.5 + 1 of slippage
    smoothing_bars: float = 0.0
    cost_hurdle: float = 0.0
    horizon_bars: float = 1.0
    asset_cost_bps: Mapping[str, float] = field(default_factory=dict, hash=False)

    def of(self, asset: str) -> PositionRule:
        """The rule as it trades one asset, at that asset's cost."""
        own = self.asset_cost_bps.get(asset, self.cost_bps)
        return replace(self, cost_bps=own, asset_cost_bps={})

    def __post_init__(self) -> None:
        for name in (
            "threshold",
            "forecast_scale",
            "target_volatility",
            "no_trade_band",
            "cost_bps",
            "smoothing_bars",
            "cost_hurdle",
            "horizon_bars",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {value}")
        if not (math.isfinite(self.max_leverage) and self.max_leverage > 0):
            raise ValueError(f"max_leverage must be > 0, not {self.max_leverage}")
        if self.exit_threshold is not None and not 0 <= self.exit_threshold <= self.threshold:
            raise ValueError(
                f"exit_threshold {self.exit_threshold} must lie between 0 and the threshold {self.threshold}"
            )
        if self.drawdown_brake is not None and not 0 < self.drawdown_brake < 1:
            raise ValueError(f"drawdown_brake must lie between 0 and 1, not {self.drawdown_brake}")
        if self.cooldown_bars < 0 or self.brake_bars < 1:
            raise ValueError("cooldown_bars must be >= 0 and brake_bars >= 1")


class PositionState(NamedTuple):
    """What a rule remembers from bar to bar."""

    position: float = 0.0
    wait_bars: int = 0  # bars that must still stay flat
    equity: float = 1.0  # own equity of the rule, for the drawdown brake
    peak: float = 1.0
    forecast: float = math.nan  # smoothed


class _Numbers(NamedTuple):
    threshold: float
    exit_threshold: float
    forecast_scale: float
    target_volatility: float
    max_leverage: float
    no_trade_band: float
    drawdown_brake: float
    brake_bars: int
    cooldown_bars: int
    short: float
    cost: float
    smoothing: float
    hurdle: float


def step(
    state: PositionState,
    forecast: float,
    volatility: float,
    rule: PositionRule,
    bars_per_year: float,
    bar_return: float = 0.0,
) -> PositionState:
    """The target decided at the close of one bar. `state.position` of the answer is the target (fraction of equity).

    forecast: NaN (not known) means flat. volatility: causal, per bar, of log returns; NaN: flat where it is needed.
    bar_return: return of the asset over this bar, earned by the position decided before it (for the drawdown brake).
    """
    out: PositionState = _step(
        state, float(forecast), float(volatility), float(bar_return), _numbers(rule, bars_per_year)
    )
    return out


def target_positions(
    forecast: FloatArray,
    volatility: FloatArray,
    rule: PositionRule,
    bars_per_year: float,
    bar_returns: FloatArray | None = None,
) -> FloatArray:
    """`step` over a stretch from a flat start: forecast [T], volatility [T] (per bar) -> targets [T].

    bar_returns [T] (close to close) is needed by the drawdown brake only.
    """
    forecast = np.ascontiguousarray(forecast, dtype=np.float64)
    volatility = np.ascontiguousarray(volatility, dtype=np.float64)
    if forecast.ndim != 1 or forecast.shape != volatility.shape:
        raise ValueError(
            f"forecast {forecast.shape} and volatility {volatility.shape} must be one series of equal length"
        )
    if bar_returns is None:
        if rule.drawdown_brake is not None:
            raise ValueError("a drawdown brake needs bar_returns")
        bar_returns = np.zeros(len(forecast))
    out: FloatArray = _loop(
        forecast, volatility, np.ascontiguousarray(bar_returns, dtype=np.float64), _numbers(rule, bars_per_year)
    )
    return out


def _numbers(rule: PositionRule, bars_per_year: float) -> _Numbers:
    return _Numbers(
        float(rule.threshold),
        float(rule.threshold if rule.exit_threshold is None else rule.exit_threshold),
        float(rule.forecast_scale),
        float(rule.target_volatility) / math.sqrt(bars_per_year),
        float(rule.max_leverage),
        float(rule.no_trade_band),
        float("inf") if rule.drawdown_brake is None else float(rule.drawdown_brake),
        int(rule.brake_bars),
        int(rule.cooldown_bars),
        1.0 if rule.allow_short else 0.0,
        rule.cost_bps * 1e-4,
        _smoothing(rule.smoothing_bars),
        rule.cost_hurdle * 2.0 * rule.cost_bps * 1e-4 / math.sqrt(max(rule.horizon_bars, 1.0)),
    )


def _smoothing(span_bars: float) -> float:
    """Weight of the newest value in an exponential average of this span."""
    return 2.0 / (max(span_bars, 1.0) + 1.0)


def smoothed(forecast: FloatArray, span_bars: float) -> FloatArray:
    """[T]: the forecast as a rule with smoothing_bars = span_bars sees it; NaN where the forecast is not known."""
    out: FloatArray = _smooth(np.ascontiguousarray(forecast, dtype=np.float64), _smoothing(span_bars))
    return out


@numba.njit(cache=True)
def _average(average: float, value: float, weight: float) -> float:
    return value if math.isnan(average) or weight >= 1.0 else average + weight * (value - average)


@numba.njit(cache=True)
def _smooth(forecast: FloatArray, weight: float) -> FloatArray:
    out = np.full(len(forecast), np.nan)
    average = math.nan
    for t in range(len(forecast)):
        if math.isfinite(forecast[t]):
            average = _average(average, forecast[t], weight)
            out[t] = average
    return out


@numba.njit(cache=True)
def _step(state: PositionState, forecast: float, volatility: float, bar_return: float, rule: _Numbers) -> PositionState:
    held = state.position
    equity = state.equity
    if held != 0.0 and math.isfinite(bar_return):
        equity *= max(1.0 + held * bar_return, 0.0)
    peak = max(state.peak, equity)
    wait = state.wait_bars

    if wait == 0 and equity < peak * (1.0 - rule.drawdown_brake):
        wait = rule.brake_bars
        peak = equity

    average = state.forecast
    if math.isfinite(forecast):
        forecast = average = _average(average, forecast, rule.smoothing)
    side = 0.0
    if math.isfinite(forecast):
        # a held side may stay below the hurdle: its entry is paid for
        pays = rule.hurdle == 0.0 or abs(forecast) * volatility >= rule.hurdle or forecast * held > 0.0
        if abs(forecast) >= rule.threshold and forecast != 0.0 and pays:
            side = 1.0 if forecast > 0.0 else -1.0
        elif held != 0.0 and forecast * held > 0.0 and abs(forecast) >= rule.exit_threshold:
            side = 1.0 if held > 0.0 else -1.0
    if side < 0.0:
        side *= rule.short

    if wait > 0:
        wait -= 1
        side = 0.0
    elif held != 0.0 and side * held <= 0.0 and rule.cooldown_bars > 0:
        wait = rule.cooldown_bars - 1  # this bar is the first of them
        side = 0.0

    size = 1.0
    if rule.target_volatility > 0.0:
        if not math.isfinite(volatility):
            side = 0.0
        elif volatility > 0.0:
            size = rule.target_volatility / volatility
        else:
            size = rule.max_leverage
    if rule.forecast_scale > 0.0:
        size *= min(abs(forecast) / rule.forecast_scale, 1.0)
    target = 0.0 if side == 0.0 else side * min(size, rule.max_leverage)
    if target * held > 0.0 and abs(target - held) <= rule.no_trade_band:
        target = held
    equity *= max(1.0 - abs(target - held) * rule.cost, 0.0)
    return PositionState(target, wait, equity, peak, average)


@numba.njit(cache=True)
def _loop(forecast: FloatArray, volatility: FloatArray, bar_returns: FloatArray, rule: _Numbers) -> FloatArray:
    out = np.empty(len(forecast))
    state = PositionState(0.0, 0, 1.0, 1.0, math.nan)
    for t in range(len(forecast)):
        state = _step(state, forecast[t], volatility[t], bar_returns[t], rule)
        out[t] = state.position
    return out
