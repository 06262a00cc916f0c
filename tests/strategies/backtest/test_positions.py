"""Forecast -> position: each part of the rule by itself, and the loop against the step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.backtest.positions import PositionRule, PositionState, step, target_positions

YEAR = 8760.0
PLAIN = PositionRule(target_volatility=0.0)


def positions(forecast: list[float], rule: PositionRule, returns: list[float] | None = None) -> list[float]:
    series = np.array(forecast, dtype=float)
    bar_returns = None if returns is None else np.array(returns, dtype=float)
    return target_positions(series, np.full(len(series), 0.01), rule, YEAR, bar_returns).tolist()


def test_side_follows_the_sign_above_the_threshold() -> None:
    rule = PositionRule(threshold=0.5, target_volatility=0.0)
    assert positions([0.4, 0.5, -0.4, -0.6, 0.0], rule) == [0, 1, 0, -1, 0]


def test_hysteresis_holds_a_side_down_to_the_exit_threshold() -> None:
    rule = PositionRule(threshold=0.5, exit_threshold=0.2, target_volatility=0.0)
    assert positions([0.3, 0.6, 0.3, 0.1, 0.3, -0.6, -0.3, 0.3], rule) == [0, 1, 1, 0, 0, -1, -1, 0]


def test_unknown_forecast_is_flat() -> None:
    assert positions([1.0, math.nan, 1.0], PLAIN) == [1, 0, 1]


def test_size_aims_at_the_annual_volatility() -> None:
    rule = PositionRule(target_volatility=0.5, max_leverage=10.0)
    volatility = np.array([0.01, 0.02, np.nan, 0.0])
    got = target_positions(np.ones(4), volatility, rule, YEAR)
    assert got == pytest.approx([0.5 / (0.01 * math.sqrt(YEAR)), 0.5 / (0.02 * math.sqrt(YEAR)), 0.0, 10.0])


def test_small_forecasts_are_proportionally_smaller() -> None:
    rule = PositionRule(target_volatility=0.0, forecast_scale=2.0)
    assert positions([1.0, -0.5, 4.0], rule) == [0.5, -0.25, 1.0]


def test_size_inside_the_no_trade_band_is_kept() -> None:
    rule = PositionRule(target_volatility=0.0, forecast_scale=1.0, no_trade_band=0.1)
    assert positions([0.5, 0.55, 0.59, 0.7, 0.05, 0.0], rule) == [0.5, 0.5, 0.5, 0.7, 0.05, 0]


def test_cooldown_stays_flat_after_an_exit_and_before_a_flip() -> None:
    rule = PositionRule(target_volatility=0.0, cooldown_bars=2)
    assert positions([1, 0, 1, 1, 1], rule) == [1, 0, 0, 1, 1]
    assert positions([1, -1, -1, -1], rule) == [1, 0, 0, -1]


def test_brake_goes_flat_for_its_bars_and_starts_a_new_peak() -> None:
    rule = PositionRule(target_volatility=0.0, drawdown_brake=0.1, brake_bars=2, cost_bps=0.0)
    assert positions([1] * 6, rule, [0, -0.05, -0.08, 0, 0, -0.09]) == [1, 1, 0, 0, 1, 1]


def test_no_shorts_where_they_are_not_allowed() -> None:
    assert positions([-1, 1], PositionRule(target_volatility=0.0, allow_short=False)) == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": -1.0}, {"exit_threshold": 0.5}, {"max_leverage": 0.0}, {"drawdown_brake": 1.5}, {"brake_bars": 0}],
)
def test_impossible_rules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        PositionRule(**wrong)  # type: ignore[arg-type]


def test_brake_without_returns_is_refused() -> None:
    with pytest.raises(ValueError, match="bar_returns"):
        positions([1.0], PositionRule(drawdown_brake=0.1))


numbers = st.floats(-3, 3) | st.just(math.nan)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(numbers, st.floats(0, 0.1) | st.just(math.nan), st.floats(-0.2, 0.2)), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_stretch_equals_bar_by_bar_steps_and_never_leaves_its_bounds(
    bars: list[tuple[float, float, float]], threshold: float, band: float, cooldown: int
) -> None:
    rule = PositionRule(threshold, threshold / 2, 0.0, 0.3, 2.0, band, 0.1, 3, cooldown)
    forecast, volatility, returns = (np.array(column) for column in zip(*bars, strict=True))
    got = target_positions(forecast, volatility, rule, YEAR, returns)
    state = PositionState()
    for t in range(len(bars)):
        state = step(state, forecast[t], volatility[t], rule, YEAR, returns[t])
        assert got[t] == state.position
    assert np.all(np.abs(got) <= rule.max_leverage)


def test_later_forecasts_change_no_earlier_position() -> None:
    rng = np.random.default_rng(0)
    forecast, volatility = rng.normal(size=100), rng.uniform(0.005, 0.02, 100)
    rule = PositionRule(threshold=0.5, exit_threshold=0.1, no_trade_band=0.05, cooldown_bars=2)
    whole = target_positions(forecast, volatility, rule, YEAR)
    for t in (0, 40, 98):
        changed = forecast.copy()
        changed[t + 1 :] *= -1
        assert np.array_equal(whole[: t + 1], target_positions(changed, volatility, rule, YEAR)[: t + 1])
