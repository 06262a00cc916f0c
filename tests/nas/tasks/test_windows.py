from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.panel import InputError
from nas.tasks.windows import Window, WindowPlan, rehearsals, separation, timeline


@given(
    st.integers(5, 200), st.integers(4, 80), st.integers(4, 80), st.integers(0, 30), st.integers(0, 50), st.booleans()
)
def test_windows_are_ordered_purged_and_trade_no_bar_twice(
    train: int, validation: int, test: int, purge: int, first: int, anchored: bool
) -> None:
    windows = WindowPlan(train, validation, test, test, anchored).windows(900, first=first, purge_bars=purge)
    for window in windows:
        assert window.train.stop + purge <= window.validation.start
        assert window.validation.stop + purge <= window.test.start
        assert window.stop.start - window.fit.stop == purge
        assert window.train.start >= first
        assert window.test.stop <= 900
    for earlier, later in itertools.pairwise(windows):
        assert later.test.start == earlier.test.stop


def test_too_few_bars_say_how_many_are_needed() -> None:
    with pytest.raises(InputError, match="too few for one window: 175 are needed"):
        WindowPlan(100, 20, 10, 10).windows(100, first=10, purge_bars=20)


@given(st.integers(200, 3000), st.integers(0, 300), st.integers(0, 300))
def test_the_shorter_stretches_that_are_told_fit(bars: int, first: int, purge: int) -> None:
    plan = WindowPlan(3600, 1200, 1440, 1440)
    with pytest.raises(InputError) as told:
        plan.windows(bars, first=first, purge_bars=purge)
    typed = re.findall(r"--\w+ (\d+)", str(told.value))
    assert bool(typed) == (bars - first - 2 * purge >= 100)
    if typed:
        train, validation, test = map(int, typed)
        assert len(WindowPlan(train, validation, test, test).windows(bars, first=first, purge_bars=purge)) == 1


def test_a_window_without_its_purge_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the purge"):
        Window(0, slice(0, 10), slice(12, 20), slice(30, 40), 5)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(30, 200),
    st.integers(20, 80),
    st.integers(10, 80),
    st.integers(1, 12),
    st.integers(1, 30),
    st.booleans(),
)
def test_train_sets_lie_between_those_of_skfolio_and_of_purgedcv(
    train: int, validation: int, test: int, horizon: int, field: int, anchored: bool
) -> None:
    """skfolio leaves the whole purge out before a test set, purgedcv only what its labels reach into."""
    from purgedcv import diagnostics, purge
    from skfolio.model_selection import WalkForward

    bars = 700
    gap = horizon + 1 + field
    plan = WindowPlan(train, validation, test, test, anchored)
    known = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(1, "h")
    labelled = known + np.timedelta64(horizon + 1, "h")  # the label of bar t ends at the open of bar t + 1 + horizon
    pairs = []
    for window in plan.windows(bars, first=0, purge_bars=gap):
        before_test = slice(window.train.start, window.validation.stop)
        pairs += [(window.train, window.validation), (window.fit, window.stop), (before_test, window.test)]
    for earlier, later in pairs:
        mine, tested = np.arange(earlier.start, earlier.stop), np.arange(later.start, later.stop)
        if not len(mine):
            continue
        diagnostics.assert_no_temporal_leakage(mine, tested, known, labelled)
        candidates = np.arange(earlier.start, later.start)
        loose = purge(candidates, tested, known, labelled)
        assert set(mine) <= set(loose)
        # skfolio on the same stretch: its first split trains on what precedes the purge
        rows = np.zeros((later.stop - earlier.start, 1))
        strict, its_test = next(WalkForward(len(tested), len(mine), purged_size=gap).split(rows))
        assert list(its_test + earlier.start) == list(tested)
        assert set(strict + earlier.start) <= set(mine)


def test_combinatorial_purged_cv_of_skfolio_leaves_out_more_than_the_purge_before_each_test_fold() -> None:
    from skfolio.model_selection import CombinatorialPurgedCV

    bars, gap = 600, 15
    for fit, folds in CombinatorialPurgedCV(6, 2, purged_size=gap, embargo_size=gap).split(np.zeros((bars, 1))):
        for fold in folds:
            before = fit[fit < fold[0]]
            mine = np.arange(0, fold[0] - gap)
            assert set(before) <= set(mine)


def test_a_shorter_separation_than_needed_is_refused_and_a_longer_one_kept() -> None:
    assert separation("purge", None, 20) == 20
    assert separation("embargo", 30, 20) == 30
    with pytest.raises(InputError, match="--embargo of 19 bars is shorter"):
        separation("embargo", 19, 20)


def test_timeline_shows_every_window_in_order_of_time() -> None:
    windows = WindowPlan(100, 40, 60, 60).windows(600, first=10, purge_bars=5)
    lines = timeline(windows, 600, 60)
    assert [number for number, _ in lines] == [w.number for w in windows]
    for _, line in lines:
        assert len(line) == 60
        assert line.index("-") < line.index("=") < line.index("#")


@given(st.integers(600, 5000), st.integers(200, 1500), st.integers(1, 300), st.integers(1, 3), st.booleans())
def test_rehearsals_lie_inside_the_training_bars_in_time_order(
    train: int, validation: int, purge: int, count: int, longer: bool
) -> None:
    embargo = purge + 50 if longer else None
    (window, *_) = WindowPlan(train, validation, 240, 240).windows(
        9_000, first=100, purge_bars=purge, embargo_bars=embargo
    )
    found = rehearsals(window, count)
    assert len(found) in (0, count)
    assert [each.number for each in found] == [*range(-len(found), 0)]
    for each in found:
        assert window.train.start <= each.train.start
        assert each.fit.stop > each.fit.start
        assert each.train.stop + purge <= each.validation.start
        assert each.validation.stop + (embargo or purge) <= each.test.start
        assert each.test.stop <= window.validation.stop
    for earlier, later in itertools.pairwise(found):
        assert earlier.test.stop == later.test.start
    if train > 10 * purge and validation > 400 and count == 1:
        assert found


def test_no_rehearsal_where_the_bars_are_too_few() -> None:
    short = Window(0, slice(0, 300), slice(400, 480), slice(600, 700), 100)
    assert rehearsals(short, 1) == ()
