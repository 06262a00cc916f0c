from __future__ import annotations

import numpy as np
import pytest

from data.panel import InputError
from nas.targets import lookback_base
from nas.targets.lookback_base import LEVELS_BARS, linear_base

LOOKBACK, HORIZON = 30, 6
FIT, STOP = slice(29, 500), slice(560, 800)


def walk(seed: int, bars: int = 900) -> np.ndarray:
    """Two channels that swing around a wandering level: what comes is a linear map of what was, and noise."""
    random = np.random.default_rng(seed)
    swing = np.sin(np.arange(bars) * 2 * np.pi / 15 + np.array([[0.0], [2.0]]))
    return swing * np.array([[1.0], [3.0]]) + 0.05 * random.standard_normal((2, bars)).cumsum(1)


def mean_squared(series: np.ndarray, linear: np.ndarray, origins: slice) -> float:
    """By hand: every window, every channel."""
    errors = [
        series[c, t + 1 : t + 1 + HORIZON] - series[c, t - LOOKBACK + 1 : t + 1] @ linear
        for c in range(len(series))
        for t in range(origins.start, origins.stop)
    ]
    return float(np.mean(np.square(errors)))


def test_what_is_chosen_has_the_error_that_it_says_and_beats_the_last_value() -> None:
    series = walk(0)
    found = linear_base(series, HORIZON, LOOKBACK, FIT, STOP)
    assert found.validation == pytest.approx(mean_squared(series, found.map, STOP), rel=1e-3)
    last = np.zeros((LOOKBACK, HORIZON))
    last[-1] = 1.0
    assert found.validation < 0.2 * mean_squared(series, last, STOP)
    assert np.allclose(found.map.sum(0), 1.0)  # a shifted series has the shifted forecast


def test_ridge_without_weight_is_the_ridge_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    series = walk(1)
    for name, only in (("LEVELS_BARS", (1,)), ("WEIGHTS", (0.0,)), ("PENALTIES", (0.1,)), ("RANKS", (HORIZON,))):
        monkeypatch.setattr(lookback_base, name, only)
    found = linear_base(series, HORIZON, LOOKBACK, FIT, STOP)
    places = [(c, t) for c in range(2) for t in range(FIT.start, FIT.stop)]
    x = np.array([series[c, t - LOOKBACK + 1 : t + 1] - series[c, t] for c, t in places])
    y = np.array([series[c, t + 1 : t + 1 + HORIZON] - series[c, t] for c, t in places])
    penalty = 0.1 * np.trace(x.T @ x) / LOOKBACK
    plain = np.linalg.solve(x.T @ x + penalty * np.eye(LOOKBACK), x.T @ y)
    plain[-1] += 1.0 - plain.sum(0)
    assert np.allclose(found.map, plain, atol=2e-3)


def test_nothing_after_the_last_validation_target_is_read() -> None:
    series, changed = walk(2), walk(2)
    changed[:, STOP.stop + HORIZON :] += 5.0
    before, after = (linear_base(s, HORIZON, LOOKBACK, FIT, STOP) for s in (series, changed))
    assert before.map.tobytes() == after.map.tobytes()
    changed[:, STOP.stop - 50 :] += 5.0  # of validation: it chooses, so something changes
    assert linear_base(changed, HORIZON, LOOKBACK, FIT, STOP).validation != before.validation


def test_only_the_training_windows_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, only in (("LEVELS_BARS", (1,)), ("WEIGHTS", (2.0,)), ("PENALTIES", (0.1,)), ("RANKS", (4,))):
        monkeypatch.setattr(lookback_base, name, only)
    series, changed = walk(3), walk(3)
    changed[:, FIT.stop + HORIZON :] *= 2.0
    before, after = (linear_base(s, HORIZON, LOOKBACK, FIT, STOP) for s in (series, changed))
    assert before.map.tobytes() == after.map.tobytes()


def test_the_map_keeps_to_the_size_it_is_given() -> None:
    found = linear_base(walk(4), HORIZON, LOOKBACK, FIT, STOP, largest=4 * (LOOKBACK + HORIZON))
    assert found.rank <= 4
    assert found.parameters <= 4 * (LOOKBACK + HORIZON)
    assert found.level in LEVELS_BARS
    with pytest.raises(InputError, match="has more than 10 numbers"):
        linear_base(walk(4), HORIZON, LOOKBACK, FIT, STOP, largest=10)
