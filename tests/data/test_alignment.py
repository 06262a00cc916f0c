"""Other rhythms on a panel's bars: nothing is seen before it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.alignment import add_known, add_timeframe, coarser
from data.intervals import INTERVAL_NS
from data.panel import CANDLE_FIELDS, InputError, Panel
from data.simulated import simulate

NAMES = [name for name in INTERVAL_NS if name != "W"]
ORIGIN = np.datetime64("2024-01-01", "ns")


def coded(interval: str, count: int, first: np.datetime64) -> pd.DataFrame:
    """Candles whose every value is the nanosecond of their own close, so that a value tells when it became known."""
    opens = first + np.arange(count) * np.timedelta64(INTERVAL_NS[interval], "ns")
    closes = (opens - ORIGIN).astype(np.int64) + INTERVAL_NS[interval]
    return pd.DataFrame({field: closes.astype(float) for field in CANDLE_FIELDS}, index=pd.DatetimeIndex(opens))


def coded_panel(interval: str, count: int) -> Panel:
    table = coded(interval, count, ORIGIN)
    values = table.to_numpy()[:, None, :]
    return Panel(table.index.to_numpy(), ("A",), CANDLE_FIELDS, values, INTERVAL_NS[interval], "test")


@settings(max_examples=150, deadline=None)
@given(
    pair=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True).map(
        lambda names: sorted(names, key=lambda n: INTERVAL_NS[n])
    ),
    bars=st.integers(2, 200),
    shift=st.integers(-3, 3),
)
def test_no_value_stems_from_a_candle_that_closes_after_the_bar(pair: list[str], bars: int, shift: int) -> None:
    fine, coarse = pair
    panel = coded_panel(fine, bars)
    first = ORIGIN + np.timedelta64(shift * INTERVAL_NS[coarse], "ns")
    count = bars * INTERVAL_NS[fine] // INTERVAL_NS[coarse] + 8
    aligned = add_timeframe(panel, coarse, {"A": coded(coarse, count, first)})
    closes = (panel.close_times - ORIGIN).astype(np.int64)
    for field in CANDLE_FIELDS:
        if not aligned.has(f"{field}@{coarse}"):
            assert closes[-1] < shift * INTERVAL_NS[coarse] + INTERVAL_NS[coarse]
            continue
        seen = aligned.column(f"{field}@{coarse}", "A")
        known = np.isfinite(seen)
        assert np.all(seen[known] <= closes[known])
        # and it is the newest such candle, not an older one
        assert np.all(closes[known] - seen[known] < INTERVAL_NS[coarse])


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(30, 270), coarse=st.sampled_from(["240", "720", "D"]))
def test_the_future_moves_nothing_in_the_past(cut: int, coarse: str) -> None:
    whole = simulate(("BTCUSDT",), "60", start=ORIGIN, end=ORIGIN + np.timedelta64(300, "h"))
    changed = whole.values.copy()
    changed[cut:] *= 7.0
    other = Panel(whole.timestamps, whole.assets, whole.fields, changed, whole.interval_ns, "test")
    seen = [add_timeframe(p, coarse, coarser(p, coarse)).values[:cut] for p in (whole, other)]
    assert np.array_equal(seen[0][:, :, -5:], seen[1][:, :, -5:], equal_nan=True)


def test_a_candle_is_visible_on_the_bar_that_closes_with_it_and_not_before() -> None:
    panel = coded_panel("60", 12)
    seen = add_timeframe(panel, "240", {"A": coded("240", 3, ORIGIN)}).column("close@240", "A")
    hours = seen / 3.6e12
    assert np.isnan(hours[:3]).all()
    assert hours[3:].tolist() == [4, 4, 4, 4, 8, 8, 8, 8, 12]


def test_coarser_candles_are_complete_ones_only() -> None:
    panel = simulate(("BTCUSDT",), "60", start=ORIGIN + np.timedelta64(2, "h"), end=ORIGIN + np.timedelta64(15, "h"))
    table = coarser(panel, "240")["BTCUSDT"]
    assert [str(t) for t in table.index] == ["2024-01-01 04:00:00", "2024-01-01 08:00:00"]
    bars = slice(2, 6)
    assert table["high"].iloc[0] == panel.column("high", "BTCUSDT")[bars].max()
    assert table["open"].iloc[0] == panel.column("open", "BTCUSDT")[2]
    assert table["close"].iloc[0] == panel.column("close", "BTCUSDT")[5]
    assert table["volume"].iloc[0] == pytest.approx(panel.column("volume", "BTCUSDT")[bars].sum())


def test_a_statistic_goes_stale_instead_of_lasting_for_ever() -> None:
    panel = coded_panel("60", 12)
    stamps = ORIGIN + np.array([90, 150]) * np.timedelta64(60_000_000_000, "ns")
    step = INTERVAL_NS["60"]
    seen = add_known(panel, "x", {"A": (stamps, np.array([1.0, 2.0]))}, step).column("x", "A")
    assert np.isnan(seen[0])
    assert seen[1:5].tolist() == [1.0, 2.0, 2.0, 2.0]
    assert np.isnan(seen[5:]).all()


def test_a_timeframe_must_be_longer_than_the_bars() -> None:
    with pytest.raises(InputError, match="not longer than the bars"):
        add_timeframe(coded_panel("60", 5), "60", {})
