"""Hand-designed rules: causal, bounded, and doing what they say."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import CANDLE_FIELDS, FloatArray, Panel
from strategies.rules import RULES


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
