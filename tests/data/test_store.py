"""The store: months merge, spans are remembered, every damaged byte is noticed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.series import Rows, SeriesKey, add_spans, last_closed, merge, open_times, without_spans
from data.store import Damaged, Series

HOUR = 3_600_000
KEY = SeriesKey("linear", "BTCUSDT", "klines", "60")
START = 1_704_067_200_000


def bars(count: int, start: int = START) -> Rows:
    times = start + np.arange(count, dtype=np.int64) * HOUR
    return Rows(times, np.random.default_rng(0).random((count, 6)) + 1)


def test_what_was_added_in_parts_reads_as_one(tmp_path: Path) -> None:
    series, rows = Series(tmp_path, KEY), bars(2000)
    for low, high in ((900, 1500), (0, 950), (1500, 2000)):
        series.add(Rows(rows.times[low:high], rows.values[low:high]), [])
    assert sorted(p.name for p in series.folder.glob("*.parquet")) == [
        "2024-01.parquet", "2024-02.parquet", "2024-03.parquet",
    ]  # fmt: skip
    read = series.read(START, START + 2000 * HOUR)
    assert np.array_equal(read.times, rows.times)
    assert np.array_equal(read.values, rows.values)
    part = series.read(START + 10 * HOUR, START + 20 * HOUR)
    assert np.array_equal(part.times, rows.times[10:20])


def test_gaps_are_named_from_first_missing_to_next_present(tmp_path: Path) -> None:
    series, rows = Series(tmp_path, KEY), bars(20)
    kept = np.delete(rows.times, [3, 4, 9, 19])
    assert series.gaps(kept, START, START + 20 * HOUR) == [
        (START + 3 * HOUR, START + 5 * HOUR),
        (START + 9 * HOUR, START + 10 * HOUR),
        (START + 19 * HOUR, START + 20 * HOUR),
    ]


@pytest.fixture(scope="module")
def one_month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Series, Path, bytes, Rows]:
    series, rows = Series(tmp_path_factory.mktemp("store"), KEY), bars(200)
    series.add(rows, [(START, START + 200 * HOUR)])
    path = series.folder / "2024-01.parquet"
    return series, path, path.read_bytes(), rows


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_a_changed_or_cut_file_is_noticed(
    one_month: tuple[Series, Path, bytes, Rows], place: float, flip: int, cut: bool
) -> None:
    series, path, good, rows = one_month
    at = int(place * len(good))
    path.write_bytes(good[:at] if cut else good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
    try:
        read = series.read(START, START + 200 * HOUR)
    except Damaged:
        return
    # a byte that carries nothing (padding, a name of the writer) may change; the rows may not
    assert np.array_equal(read.times, rows.times)
    assert np.array_equal(read.values, rows.values)


_SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted).map(tuple), max_size=6)


@given(first=_SPANS, second=_SPANS)
def test_spans_behave_like_sets(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    def points(spans: list[tuple[int, int]]) -> set[int]:
        return {t for a, b in spans for t in range(a, b)}

    assert points(add_spans(first, second)) == points(first) | points(second)
    assert points(without_spans(first, second)) == points(first) - points(second)
    merged = add_spans(first, second)
    assert all(a[1] < b[0] for a, b in pairwise(merged))


@pytest.mark.parametrize("interval", ["1", "60", "720", "D", "W", "M"])
def test_a_bar_closes_where_the_next_opens(interval: str) -> None:
    opens = open_times(interval, START - 400 * 24 * HOUR, START)
    for t in opens[1:5].tolist():
        assert last_closed(interval, t) == t
        assert last_closed(interval, t + 1) == t
        assert last_closed(interval, t - 1) < t
    if interval == "W":
        assert {int(t) // (24 * HOUR) % 7 for t in opens} == {4}  # 1970-01-01 was a Thursday: Mondays


def test_the_later_part_wins_in_a_merge() -> None:
    old, new = bars(5), bars(3)
    changed = Rows(new.times, new.values + 1)
    merged = merge([old, changed])
    assert np.array_equal(merged.values[:3], changed.values)
    assert np.array_equal(merged.values[3:], old.values[3:])
