"""A market that rests has no gaps there; one that never rests has. Bars lost inside a session stay gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.alignment import add_timeframe, coarser
from data.assembly import build_panel
from data.panel import CANDLE_FIELDS, InputError

HOUR, DAY = 3_600_000_000_000, 86_400_000_000_000


def table(index: pd.DatetimeIndex, seed: int = 0) -> pd.DataFrame:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(index))))
    return pd.DataFrame(dict.fromkeys(CANDLE_FIELDS[:4], close), index=index).assign(volume=5.0)


def weekdays(start: str = "2023-01-02", stop: str = "2024-12-31", holidays: int = 9) -> pd.DatetimeIndex:
    days = pd.bdate_range(start, stop)
    drawn = np.random.default_rng(1).choice(np.arange(5, len(days) - 5), holidays * 2, replace=False)
    return days.delete(drawn)


def sessions() -> pd.DatetimeIndex:
    """Seven hours a weekday, with the clock change of New York in UTC."""
    days = pd.bdate_range("2023-09-01", "2024-02-28")
    opens = pd.DatetimeIndex([day + pd.Timedelta(h, "h") for day in days for h in range(9, 16)])
    return opens.tz_localize("America/New_York").tz_convert("UTC").tz_localize(None)


def forex() -> pd.DatetimeIndex:
    hours = pd.date_range("2023-01-01 22:00", "2023-04-28 20:00", freq="h")
    opening = (
        (hours.dayofweek < 4)
        | ((hours.dayofweek == 4) & (hours.hour < 21))
        | ((hours.dayofweek == 6) & (hours.hour >= 22))
    )
    return hours[opening]


@pytest.mark.parametrize(
    ("index", "interval", "days", "bars"),
    [(weekdays(), DAY, 252, 252), (sessions(), HOUR, 260, 1825), (forex(), HOUR, 310, 6200)],
    ids=["weekdays", "sessions", "forex"],
)
def test_a_market_that_rests_has_no_gaps_and_its_own_year(
    index: pd.DatetimeIndex, interval: int, days: float, bars: float
) -> None:
    panel = build_panel({"A": table(index)}, interval, source="test")
    assert len(panel) == len(index)
    assert panel.rests
    assert panel.days_per_year == pytest.approx(days, rel=0.03)
    assert panel.bars_per_year == pytest.approx(bars, rel=0.03)
    assert "the market rests" in panel.notes[0]
    assert panel.cut(5, 60).rests
    assert panel.traded.all()


def test_bars_lost_inside_a_session_are_a_gap_that_is_filled_on_request() -> None:
    index = sessions().delete([73, 74])  # in the middle of a day
    with pytest.raises(InputError, match="gap of 2 bars"):
        build_panel({"A": table(index)}, HOUR, source="test")
    panel = build_panel({"A": table(index)}, HOUR, source="test", fill_gaps=True)
    assert len(panel) == len(index) + 2
    assert (~panel.traded).sum() == 2


@pytest.mark.parametrize("lost", [1, 23, 60])
def test_a_market_that_never_rests_has_gaps(lost: int) -> None:
    hours = pd.date_range("2023-01-01", periods=2000, freq="h")
    with pytest.raises(InputError, match=f"gap of {lost} bar"):
        build_panel({"A": table(hours.delete(np.arange(500, 500 + lost)))}, HOUR, source="test")
    # nor do accidents make a rhythm: five outages in twelve weeks
    gone = np.concatenate([np.arange(k, k + lost) for k in (100, 400, 900, 1200, 1700)])
    with pytest.raises(InputError, match="and 4 more gaps"):
        build_panel({"A": table(hours.delete(gone))}, HOUR, source="test")


def test_beside_a_market_that_never_rests_the_other_stands_still() -> None:
    days = weekdays()
    every = pd.date_range(days[0], days[-1], freq="D")
    panel = build_panel({"COIN": table(every, 1), "STOCK": table(days, 2)}, DAY, source="test")
    assert not panel.rests
    assert len(panel) == len(every)
    assert panel.traded[:, 0].all()
    assert panel.traded[:, 1].sum() == len(days)
    assert np.isfinite(panel.field("close")).all()


def test_a_symbol_that_ends_early_is_said() -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="D")
    panel = build_panel({"A": table(days), "B": table(days[:40])}, DAY, source="test")
    assert any("B ends at 2024-02-10 00:00 UTC" in note for note in panel.notes)
    assert panel.ends.tolist() == [60, 39]


def test_longer_candles_of_a_market_that_rests_are_complete_once_the_next_has_begun() -> None:
    panel = build_panel({"A": table(sessions())}, HOUR, source="test")
    daily = coarser(panel, "D")["A"]
    assert len(daily) == len(np.unique(panel.timestamps.astype("datetime64[D]"))) - 1
    joined = add_timeframe(panel, "D", coarser(panel, "D"))
    known = np.isfinite(joined.field("close@D")[:, 0])
    assert known[14:].all()  # Mondays too
    # no bar sees the close of its own day
    day = panel.timestamps.astype("datetime64[D]")
    for t in np.flatnonzero(known):
        assert joined.field("close@D")[t, 0] in daily["close"][daily.index < pd.Timestamp(day[t])].to_numpy()
