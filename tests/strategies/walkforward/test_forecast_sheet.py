"""The forecast sheet against hand-made forecasts: correlations and their errors, lags, a look ahead, and what may not be read."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from data.panel import FloatArray, Panel
from lab.markets import garch
from lab.sheet import foretold, importances, leaks
from nas.features.bank import causal_volatility
from nas.tasks.windows import Window
from strategies.walkforward.forecast_sheet import cross_section, forecast_sheet, leak_of, newey_west, standardised

BARS, START = 3_200, 400
WINDOWS = [
    Window(k, slice(0, 100), slice(110, 300), slice(START + 1_300 * k, START + 1_300 * (k + 1)), 10) for k in (0, 1)
]
COUNT = 2_600


def sheet(panel: Panel, forecast: FloatArray) -> dict[str, Any]:
    return forecast_sheet(panel, WINDOWS, forecast[START : START + COUNT, None], causal_volatility(panel), 6, START)


def single(panel: Panel) -> FloatArray:
    """At t the return from the open of t to that of t + 1."""
    price = np.log(panel.field("open")[:, 0])
    return np.append(np.diff(price), 0.0)


def test_a_look_ahead_shows_at_its_lag_and_skill_does_not() -> None:
    panel = garch(BARS, 1)
    rng = np.random.default_rng(0)
    for lag in (1, 2):
        ahead = np.roll(single(panel), -lag) / single(panel).std() + rng.normal(size=BARS)
        told = sheet(panel, ahead)
        assert told["leak"] == lag
        curve = {point["lag"]: point["ic"] for point in told["lead_lag"]}
        assert curve[lag] > 0.5
        assert max(abs(value) for at, value in curve.items() if at != lag) < 0.12
    echo = sheet(panel, single(panel))  # what the last bar did: known, and worth nothing
    assert echo["leak"] is None
    assert {point["lag"]: point["ic"] for point in echo["lead_lag"]}[0] > 0.8
    assert abs(echo["horizons"][1]["rank_ic_t"]) < 3.5
    signal = rng.normal(size=BARS)
    skilled = sheet(foretold(panel, signal, 0.1), signal)
    assert skilled["leak"] is None
    assert skilled["horizons"][0]["bars"] == 1
    assert skilled["horizons"][0]["ic_t"] > 3


def test_the_curve_of_trained_networks_tells_leaks_from_skill() -> None:
    """One of the 40 pairs of `python -m lab leaks`."""
    assert leaks(0, True)["leak_at"] == 1
    assert leaks(0, False)["leak_at"] is None


def test_a_planted_input_is_first() -> None:
    found = importances(0, 0.05, 20)
    assert found["first"]
    assert found["noise"] == 5


def test_low_volatility_stands_beside_every_correlation_across_assets() -> None:
    rng = np.random.default_rng(3)
    volatility = np.exp(rng.normal(size=(400, 8)))
    signal = rng.normal(size=(400, 8))
    calm = -np.log(volatility)
    came = 0.3 * calm + 0.3 * signal + rng.normal(size=(400, 8))

    def told(forecast: FloatArray) -> tuple[float, float, float]:
        found = cross_section(forecast, volatility, came, 1)
        return tuple(found[name]["t"] or 0.0 for name in ("forecast", "low_volatility", "beyond"))  # type: ignore[return-value]

    disguised = told(calm + 0.05 * rng.normal(size=(400, 8)))  # a forecast that ranks by volatility
    assert min(disguised[:2]) > 5
    assert abs(disguised[2]) < 3
    own = told(signal + 0.3 * calm)
    assert min(own) > 5
    assert cross_section(signal[:, :4], volatility[:, :4], came[:, :4], 1) == {}
    gone = signal.copy()
    gone[::2, :4] = np.nan  # four of eight are too few on every second bar
    assert cross_section(gone, volatility, came, 1)["forecast"]["bars"] == 200


def test_nothing_beyond_what_forecasts_are_about_is_read() -> None:
    panel, forecast = garch(BARS, 2), np.random.default_rng(1).normal(size=BARS)
    told = sheet(panel, forecast)
    values = panel.values.copy()
    values[START + COUNT + 49 + 2 :] *= 3.0  # the longest horizon looks 48 bars ahead, from the next open
    assert sheet(dataclasses.replace(panel, values=values), forecast) == told
    assert sum(row["bars"] for row in told["windows"]) == told["bars"] == COUNT
    assert sum(row["bars"] for row in told["hours"]) == COUNT
    assert len(told["hours"]) == 24
    assert [row["regime"] for row in told["regimes"]][:3] == ["calm", "middle", "volatile"]
    assert sum(row["bars"] for row in told["quantiles"]) == COUNT


def test_worthless_forecasts_reach_two_standard_errors_as_often_as_luck() -> None:
    """Persistent forecasts of overlapping returns: what makes a plain t of them twice too large."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 3])
        forecast, shocks = np.zeros(BARS), rng.normal(size=BARS)
        for bar in range(1, BARS):
            forecast[bar] = 0.95 * forecast[bar - 1] + shocks[bar]
        found.append(sheet(garch(BARS, 100 + seed), forecast)["horizons"][1]["rank_ic_t"])
    assert np.mean(np.abs(found) > 2) <= 0.17  # of 60 at 5%, more than ten are one in a thousand
    assert 0.7 < np.std(found) < 1.35


def test_newey_west_is_the_textbook_sum() -> None:
    values = np.random.default_rng(2).normal(size=80)
    rest = values - values.mean()
    by_hand = (rest @ rest + 2 * (2 / 3 * rest[1:] @ rest[:-1] + 1 / 3 * rest[2:] @ rest[:-2])) / 80
    assert newey_west(values, 2) == (pytest.approx(values.mean()), pytest.approx(math.sqrt(by_hand / 80)))
    assert math.isnan(newey_west(values[:10], 2)[1])
    assert math.isnan(newey_west(np.empty(0), 2)[0])


def test_forecasts_are_ranked_within_their_window() -> None:
    values = np.array([1.0, 2.0, 3.0, 100.0, 300.0, 200.0, np.nan, 5.0])[:, None]
    groups = np.array([0, 0, 0, 1, 1, 1, 1, -1.0])
    found = standardised(values, groups, True)[:, 0]
    np.testing.assert_allclose(found[:6], np.array([-1, 0, 1, -1, 1, 0]) * math.sqrt(1.5))
    assert np.isnan(found[6:]).all()
    assert leak_of([]) is None
