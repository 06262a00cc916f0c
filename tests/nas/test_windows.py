from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.panel import InputError
from nas.windows import Window, WindowPlan


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


def test_a_window_without_its_purge_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the purge"):
        Window(0, slice(0, 10), slice(12, 20), slice(30, 40), 5)
