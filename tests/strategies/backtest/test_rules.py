"""Hand-designed rules: causal, bounded, and doing what they say."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import CANDLE_FIELDS, FloatArray, Panel
from strategies.backtest.rules import RULES


def walk(bars: int, seed: int = 0, drift: float = 0.0) -> Panel:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(drift, 0.01, bars)))
    return panel_with(close, rng)


def panel_with(close: FloatArray, rng: np.random.Generator) -> Panel:
    opens = np.concatenate([close[:1], close[:-1]])
    spread = 1 + rng.uniform(0, 0.01, len(close))
    candles = np.stack(
        [opens, np.maximum(opens, close) * spread, np.minimum(opens, close) / spread, close, spread], axis=1
    )
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(len(close)) * np.timedelta64(3_600_000_000_000, "ns")
    return Panel(stamps, ("A",), CANDLE_FIELDS, candles[:, None, :], 3_600_000_000_000, "test")


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_ignores_later_bars(name: str) -> None:
    panel = walk(700)
    whole = RULES[name](panel, 0)
    for t in (300, 500, 698):
        values = np.array(panel.values)
        values[t + 1 :] *= 3.0
        changed = Panel(panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, "test")
        assert np.array_equal(whole[: t + 1], RULES[name](changed, 0)[: t + 1])


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_is_bounded_complete_and_described(name: str) -> None:
    for bars in (1, 5, 700):
        target = RULES[name](walk(bars), 0)
        assert target.shape == (bars,)
        assert np.all(np.abs(target) <= 1)
    assert RULES[name].description.endswith(".")
    assert RULES[name].title
    assert RULES[name].source


def test_buy_and_hold_is_always_long_and_always_flat_never() -> None:
    assert np.all(RULES["buy_and_hold"](walk(10), 0) == 1)
    assert np.all(RULES["always_flat"](walk(10), 0) == 0)


def test_sma_cross_is_long_in_a_rise_and_short_in_a_fall() -> None:
    rise = panel_with(np.linspace(100, 200, 400), np.random.default_rng(0))
    fall = panel_with(np.linspace(200, 100, 400), np.random.default_rng(0))
    assert np.all(RULES["sma_cross"](rise, 0)[199:] == 1)
    assert np.all(RULES["sma_cross"](fall, 0)[199:] == -1)
    assert np.all(RULES["sma_cross"](rise, 0)[:199] == 0)


def test_unknown_parameter_is_named() -> None:
    with pytest.raises(KeyError, match="speed"):
        RULES["sma_cross"](walk(10), 0, speed=3)


def test_the_rules_of_the_issue_are_there() -> None:
    wanted = {
        "buy_and_hold",
        "always_flat",
        "sma_cross",
        "ema_trend",
        "donchian",
        "rsi_reversion",
        "bollinger_reversion",
    }
    assert wanted | {"momentum", "funding_carry", "macd"} <= set(RULES)


def sides(name: str, close: list[float], **overrides: float) -> list[float]:
    values = np.repeat(np.array(close, dtype=float)[:, None, None], 5, axis=2)
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(len(close)) * np.timedelta64(3_600_000_000_000, "ns")
    panel = Panel(stamps, ("A",), CANDLE_FIELDS, values, 3_600_000_000_000, "test")
    return RULES[name](panel, 0, **overrides).tolist()


def test_donchian_enters_beyond_the_channel_of_earlier_bars_and_leaves_beyond_the_short_one() -> None:
    # entry over 3 bars, exit over 2: 6 > max(1..5); 4 < min(6, 5) leaves; 2 < min of three sells
    assert sides("donchian", [5, 4, 5, 6, 7, 5.9, 4, 2], entry=3, leave=2) == [0, 0, 0, 1, 1, 1 - 1, -1, -1]


def test_bollinger_buys_below_the_band_until_the_middle() -> None:
    # 4 bars, 1 deviation: 9 is below mean 10.5 - 0.87; 11 is back above the middle
    assert sides("bollinger_reversion", [11, 11, 11, 9, 11, 11], bars=4, width=1) == [0, 0, 0, 1, 0, 0]


def test_rsi_buys_after_a_fall_until_the_index_is_back_at_fifty() -> None:
    # bars 2: averages of losses only, index 0: long; +3 lifts it over 50
    assert sides("rsi_reversion", [10, 9, 8, 7, 10, 10], bars=2) == [0, 0, 1, 1, -1, -1]


def test_momentum_follows_the_sign_of_the_past() -> None:
    assert sides("momentum", [1, 2, 3, 2, 1], days=2 / 24) == [0, 0, 1, 0, -1]


def test_macd_is_long_while_the_gap_widens() -> None:
    path = [100.0] * 10 + [100 + 2.0**k for k in range(10)] + [600 - 5.0 * k * k for k in range(10)]
    held = sides("macd", path, fast=2, slow=5, signal=3)
    assert held[14] == held[19] == 1
    assert held[29] == -1


def test_ema_trend_fades_an_overdone_move() -> None:
    rng = np.random.default_rng(0)
    calm = 100 + np.cumsum(rng.normal(0.02, 0.1, 600))
    jump = np.concatenate([calm, calm[-1] + np.arange(1, 40) * 3.0])
    held = np.array(sides("ema_trend", jump.tolist()))
    assert held[605:640].max() > 0.5
    assert held[603:640].min() < 0.7 * held[600:640].max()


def funded(rates: list[float]) -> Panel:
    values = np.ones((len(rates), 1, 6))
    values[:, 0, 5] = rates
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(len(rates)) * np.timedelta64(3_600_000_000_000, "ns")
    return Panel(stamps, ("A",), (*CANDLE_FIELDS, "funding_rate"), values, 3_600_000_000_000, "test")


def test_funding_carry_is_on_the_side_that_is_paid() -> None:
    panel = funded([0.0005] * 3 + [-0.0005] * 3 + [0.00005] * 3)
    assert RULES["funding_carry"](panel, 0, days=2 / 24).tolist() == [0, -1, -1, 0, 1, 1, 1, 0, 0]
    assert not RULES["funding_carry"](walk(100), 0).any()  # no funding known: flat
