"""What the funding of a file does not cover is said, with dates; a rate that is too old is unknown, not held for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.assembly import build_panel, known_funding
from data.coverage import funding_coverage
from data.files import load_files
from data.panel import CANDLE_FIELDS, InputError, Panel, Settlements

HOUR = 3_600_000_000_000
START = pd.Timestamp("2024-01-01")


def settled(first: str, count: int, hours: int = 8) -> Settlements:
    times = pd.date_range(first, periods=count, freq=f"{hours}h").to_numpy()
    return Settlements(times, np.full(count, 1e-4))


def panel(bars: int = 1_440, **funding: Settlements) -> Panel:
    index = pd.date_range(START, periods=bars, freq="h")
    table = pd.DataFrame(dict.fromkeys(CANDLE_FIELDS, 5.0), index=index)
    return build_panel({"A": table, "B": table}, HOUR, source="test", settlements=funding)


def test_funding_of_every_bar_is_all_and_nothing_is_said() -> None:
    for hours in (1, 4, 8):
        every = settled("2024-01-01", 1_440 // hours, hours)
        assert funding_coverage(panel(A=every, B=every)) == funding_coverage(panel(B=every, A=every))
        assert funding_coverage(panel(A=every, B=every)).charged == "all"
    changed = Settlements(  # every 8 hours, then every 4
        np.concatenate([settled("2024-01-01", 90).timestamps, settled("2024-01-31", 180, 4).timestamps]),
        np.full(270, 1e-4),
    )
    assert funding_coverage(panel(A=changed, B=changed)).charged == "all"


def test_no_funding_is_none_and_says_what_it_usually_costs() -> None:
    found = funding_coverage(panel())
    assert found.charged == "none"
    assert "A, B: funding not charged" in found.said[0]
    assert "23.1% of notional" in found.said[0]


def test_one_symbol_of_two_the_first_month_a_half_and_holes_are_part_with_dates() -> None:
    every = settled("2024-01-01", 180)
    found = funding_coverage(panel(A=every))
    assert (found.charged, found.said[0][:24]) == ("part", "B: funding not charged, ")
    found = funding_coverage(panel(A=every, B=settled("2024-01-01", 90)))
    assert found.charged == "part"
    assert "not charged 2024-01-30 to 2024-03-01" in found.said[0]
    found = funding_coverage(panel(A=every, B=settled("2024-02-01", 87)))
    assert "not charged 2024-01-01 to 2024-02-01" in found.said[0]
    some = np.delete(np.arange(180), [50, 51, 100])
    found = funding_coverage(panel(A=every, B=Settlements(every.timestamps[some], every.rates[some])))
    assert "2024-01-17 to 2024-01-18, 2024-02-03 to 2024-02-03" in found.said[0]


def test_only_the_stretch_that_is_traded_counts() -> None:
    half = panel(A=settled("2024-01-01", 90), B=settled("2024-01-01", 90))
    assert funding_coverage(half, 0, 700).charged == "all"
    assert funding_coverage(half, 800).charged == "none"


def test_funding_of_another_decade_is_told(tmp_path: Path) -> None:
    index = pd.date_range(START, periods=50, freq="h", name="timestamp")
    pd.DataFrame(dict.fromkeys(CANDLE_FIELDS, 5.0), index=index).to_csv(tmp_path / "c.csv")
    times = pd.date_range("2014-01-01", periods=9, freq="8h", name="timestamp")
    pd.DataFrame({"funding_rate": 1e-4}, index=times).to_csv(tmp_path / "f.csv")
    with pytest.raises(InputError, match="covers no bar of A: its settlements run from 2014-01-01 00:00 UTC"):
        load_files(["A"], [tmp_path / "c.csv"], funding_files=[tmp_path / "f.csv"])


@pytest.mark.parametrize("hours", [1, 4, 8, 24])
def test_a_rate_older_than_two_intervals_is_unknown(hours: int) -> None:
    known = settled("2024-01-02", 10, hours)
    closes = np.datetime64("2024-01-01T00", "ns") + np.arange(600) * np.timedelta64(HOUR, "ns")
    rates = known_funding(closes, known)
    age = (closes - known.timestamps[-1]) / np.timedelta64(HOUR, "ns")
    assert np.isnan(rates[closes <= known.timestamps[0]]).all()
    # of the first one nothing is known but that most are eight hours apart
    assert np.isfinite(rates[(closes > known.timestamps[1]) & (age <= 2 * hours)]).all()
    assert np.isnan(rates[age > 2 * hours]).all()


def test_a_missing_settlement_is_bridged_and_later_ones_change_nothing() -> None:
    every = settled("2024-01-01", 40)
    kept = np.delete(np.arange(40), [10, 20, 21])
    known = Settlements(every.timestamps[kept], np.arange(40.0)[kept])
    closes = np.datetime64("2024-01-01T01", "ns") + np.arange(320) * np.timedelta64(HOUR, "ns")
    rates = known_funding(closes, known)
    assert np.isfinite(rates[: 20 * 8]).all()  # one is missing: the one before is 16 hours old at most
    assert np.isnan(rates[20 * 8 : 22 * 8]).sum() == 8  # two are missing: unknown for the last eight hours
    cut = 25 * 8
    early = known.timestamps < closes[cut]
    assert np.array_equal(
        known_funding(closes[:cut], Settlements(known.timestamps[early], known.rates[early])),
        rates[:cut],
        equal_nan=True,
    )
