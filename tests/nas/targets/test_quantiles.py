"""Quantiles of the return: nothing of the future in them, factors that hold what they say, a loss that asks for the quantile."""

from __future__ import annotations

import numpy as np
import pytest

from nas.targets.quantiles import LEVELS, conformal_factor, judged, moves, pinball
from tests.nas.targets.test_targets import PANEL, replaced


def test_a_move_reads_its_horizon_and_no_bar_more() -> None:
    one, other = moves(PANEL, 6), moves(replaced(PANEL, 1_000), 6)
    np.testing.assert_array_equal(one[:, : 1_000 - 6], other[:, : 1_000 - 6])
    opens = np.log(PANEL.field("open")[:, 0])
    assert one[0, 100] == opens[107] - opens[101]
    assert np.isnan(one[0, -7:]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_factors_hold_their_level_on_draws_that_they_have_not_seen(level: float) -> None:
    """Exchangeable draws: the mean over many samples of the share below is the level, on the safe side of it."""
    rng = np.random.default_rng(0)
    below = [
        np.mean(rng.standard_t(4, 400) < conformal_factor(rng.standard_t(4, 400), level)) for _ in range(400)
    ]  # fmt: skip
    safe = np.mean(below) if level > 0.5 else 1.0 - np.mean(below)
    wanted = max(level, 1.0 - level)
    assert wanted - 0.001 <= safe <= wanted + 0.006


def test_the_loss_is_least_at_the_quantile() -> None:
    draws = np.random.default_rng(1).standard_normal(20_000)
    losses = {q: pinball(draws, np.full(20_000, q), 0.05) for q in (-2.2, -1.645, -1.1)}
    assert min(losses, key=lambda q: losses[q]) == -1.645


def test_a_volatility_that_is_known_beats_one_that_is_not() -> None:
    rng = np.random.default_rng(2)
    spread = np.exp(rng.standard_normal((1, 4_000)))
    came = spread * rng.standard_normal((1, 4_000))
    half = slice(0, 2_000), slice(2_000, 4_000)
    told = judged(spread[:, half[0]], came[:, half[0]], spread[:, half[1]], came[:, half[1]])
    flat = judged(np.ones((1, 2_000)), came[:, half[0]], np.ones((1, 2_000)), came[:, half[1]])
    assert all(a["pinball"] < 0.9 * b["pinball"] for a, b in zip(told, flat, strict=True))
    assert [row["below"] for row in told] == pytest.approx(LEVELS, abs=0.02)
