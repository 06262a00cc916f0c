from __future__ import annotations

import numpy as np

from benchmarks.drift import garch, measure
from nas.tasks.drift import BLOCK_BARS, alarms, block_means, change_points, error_stream, volatility_stream


def test_detectors_are_quiet_in_stationary_garch_and_hear_a_doubling_of_volatility() -> None:
    figures = measure(60, seed=1)
    assert figures["false_alarms_per_2000_bars"] <= 1.0
    assert figures["doublings_found"] >= 0.8


def test_alarm_of_a_block_ignores_later_blocks() -> None:
    rng = np.random.default_rng(0)
    stream = volatility_stream(garch(rng, 3_000, change=1_500))
    whole = alarms("volatility", stream[:50], stream[50:], 600)
    assert whole
    changed = stream.copy()
    cut = (whole[0].bar + 1) // BLOCK_BARS
    changed[cut:] = 99.0
    assert alarms("volatility", changed[:50], changed[50:], 600)[0] == whole[0]
    assert alarms("volatility", stream[:50], stream[50 : cut - 1], 600) == []


def test_forecasts_that_lose_their_worth_raise_the_error_stream() -> None:
    rng = np.random.default_rng(3)
    label = rng.standard_normal((2_400, 1))
    forecast = 0.4 * label + 0.2 * rng.standard_normal(label.shape)
    turned = forecast.copy()
    turned[1_200:] *= -1
    good, bad = error_stream(forecast, label), error_stream(turned, label)
    assert alarms("forecast error", good[:50], good[50:], 600) == []
    assert alarms("forecast error", bad[:50], bad[50:], 600)[0].bar >= 1_200


def test_block_means_leave_unknown_values_out() -> None:
    values = np.full((24, 2), np.nan)
    values[0] = (1.0, 3.0)
    out = block_means(values, 12)
    assert out[0] == 2.0
    assert np.isnan(out[1])


def test_offline_change_points_find_a_step_and_none_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    step = np.concatenate([rng.normal(0, 0.3, 60), rng.normal(0.7, 0.3, 60)])
    found = change_points(step)
    assert len(found) == 1
    assert abs(found[0] - 60) <= 5
    assert change_points(rng.normal(0, 0.3, 120)) == []
