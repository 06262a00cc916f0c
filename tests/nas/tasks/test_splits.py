"""Splits of combinatorial purged cross-validation: all of them, purged, and paths that take every group once from a search that held it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.panel import InputError
from nas.tasks.splits import groups_of, paths_of, splits_of


@settings(deadline=None, max_examples=25)
@given(st.integers(50, 400), st.integers(1, 40), st.integers(0, 900))
def test_45_splits_learn_nothing_near_what_is_held(purge: int, reach: int, first: int) -> None:
    reach = min(reach, purge)
    groups = groups_of(first, first + 10 * (purge + 150), 10)
    splits = splits_of(groups, 2, purge, reach)
    assert len(splits) == 45
    assert len({str(split.held) for split in splits}) == 45
    for split in splits:
        used = np.zeros(groups[-1].stop + purge, bool)
        for part in (*split.train, split.validation):
            assert part.stop > part.start
            assert not used[part].any()  # nothing twice
            used[part] = True
        for group in split.held:
            assert not used[group.start - reach if group.start >= reach else 0 : group.stop].any()
            behind = slice(group.stop, group.stop + purge - reach)
            # what is held as well, or the end
            assert not used[behind].any()
        for part in split.train:  # labels of training bars end before validation begins
            assert part.stop + reach <= split.validation.start or part.start >= split.validation.stop
        assert split.fit[-1].stop + purge <= split.stop.start or split.fit[-1] in split.train
        assert split.validation.start <= split.stop.start < split.stop.stop == split.validation.stop


def test_nine_paths_cover_every_bar_with_forecasts_of_searches_that_held_it() -> None:
    groups = groups_of(100, 5_000, 10)
    splits = splits_of(groups, 2, 60, 7)
    paths = paths_of(splits, groups)
    assert [len(path) for path in paths] == [10] * 9
    for path in paths:
        for number, group in zip(path, groups, strict=True):
            assert group in splits[number].held
    taken = sorted((path[k], k) for path in paths for k in range(10))
    assert len(set(taken)) == 90  # every held group of every split is on one path
    assert all(a.stop == b.start for a, b in itertools.pairwise(groups))


def test_short_groups_are_refused_in_words() -> None:
    with pytest.raises(
        InputError, match=r"10 groups of 100 bars are too short, 90 bars are purged of each; give at least 1900"
    ):
        splits_of(groups_of(0, 1_000), 2, 90, 7)
