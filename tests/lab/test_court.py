"""The leak court convicts what was planted and leaves honest files alone; the shares over many seeds are `python -m lab court`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.court import HORIZON, LEAKS, clean, market
from strategies.walkforward.leaks import convicted, correlations, court, null_error

WANTED = {
    "one bar early": "Knows the next bar",
    "label included": "Too good",
    "normalised over all time": "Normalised over all time",
    "resampled from the future": "Knows the rest of a longer bar",
    "fitted on the test": "Too good",
}
PANEL = market(7, 6_000)


@pytest.mark.parametrize("leak", WANTED)
def test_a_planted_leak_is_named(leak: str) -> None:
    forecast = LEAKS[leak](PANEL, np.random.default_rng(3))
    assert WANTED[leak] in convicted(court(PANEL, forecast[:, None], HORIZON))


@pytest.mark.parametrize("seed", range(4))
def test_honest_forecasts_are_left_alone(seed: int) -> None:
    assert convicted(court(PANEL, clean(PANEL, np.random.default_rng(seed))[:, None], HORIZON)) == ()


def test_an_honest_forecast_of_a_market_that_can_be_forecast_is_left_alone() -> None:
    """The yardstick: where regression on past returns does well, others may."""
    rng = np.random.default_rng(0)
    change = rng.normal(0.0, 0.003, 6_000)
    for t in range(1, len(change)):
        change[t] += 0.5 * change[t - 1]
    values = np.array(PANEL.values)
    values[:, 0, list(PANEL.fields).index("close")] = 100.0 * np.exp(np.cumsum(change))
    assert convicted(court(replace(PANEL, values=values), change[:, None], 1)) == ()


def test_lag_one_is_the_bar_after_the_forecasts_own() -> None:
    returns = np.random.default_rng(1).normal(size=(3_000, 1))
    curve = correlations(np.roll(returns, -1, axis=0), returns)  # the forecast at t is the return of t + 1
    assert np.argmax(curve) == 1
    assert curve[1] == pytest.approx(1.0)
    assert null_error(curve) == pytest.approx(3_000**-0.5, rel=0.15)


def test_too_few_forecasts_are_not_tried() -> None:
    assert court(PANEL, np.full((6_000, 1), np.nan), HORIZON) == []
