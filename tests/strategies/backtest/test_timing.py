"""The timing null: what it keeps; luck looks like luck, and foresight does not."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import FloatArray
from strategies.backtest.timing import retimed, timing_luck
from tests.strategies.walkforward.test_choice import noise


def positions(bars: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.choice([-0.5, 0.0, 0.5], bars // 6), 6)[:, None]


def test_positions_keep_their_sizes_and_lengths() -> None:
    own = positions(600, 1)
    other = retimed(own, np.random.default_rng(2))
    assert sorted(other.ravel()) == sorted(own.ravel())
    assert not np.array_equal(own, other)
    assert np.count_nonzero(np.diff(other[:, 0])) <= np.count_nonzero(np.diff(own[:, 0])) + 1


def test_foresight_is_timing_and_chance_is_not() -> None:
    panel = noise(600)
    # what is decided at a close is held from the next open: the move from there on, which no strategy may know
    opens = np.log(panel.column("open", "A"))
    coming = np.append(np.sign(opens[7::6] - opens[1:-6:6]), 0.0)
    sure = np.repeat(0.5 * coming, 6)[:600, None]
    assert timing_luck(panel, sure, 0, 200) == pytest.approx(1 / 201)
    lucks = [timing_luck(panel, positions(600, seed), 0, 60, seed) for seed in range(60)]
    assert np.mean(lucks) == pytest.approx(0.5, abs=0.13)
    assert timing_luck(panel, np.zeros((600, 1)), 0) == 1.0
