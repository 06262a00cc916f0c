"""Claims about the user's own candle and funding files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.panel import InputError, Panel
from data.sources import load_panel

HOUR = np.timedelta64(1, "h")


def candles(bars: int = 6, start: str = "2024-03-02", freq: str = "h") -> pd.DataFrame:
    times = pd.date_range(start, periods=bars, freq=freq)
    close = 100.0 + np.arange(bars)
    return pd.DataFrame(
        {"timestamp": times, "open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}
    )


def write(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path


def load(path: Path, **more: object) -> Panel:
    return load_panel(["BTCUSDT"], files=[path], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stamp",
    [
        lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
        lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda t: (t + pd.Timedelta("2h")).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
        lambda t: int(t.timestamp()),
        lambda t: int(t.timestamp() * 1000),
    ],
    ids=["naive is utc", "Z", "offset", "epoch s", "epoch ms"],
)
def test_every_way_to_write_a_time_gives_the_same_panel(stamp, tmp_path: Path) -> None:
    table = candles()
    expected = load(write(table, tmp_path / "plain.csv"))
    table["timestamp"] = [stamp(t) for t in table["timestamp"]]
    assert load(write(table, tmp_path / "other.csv")).fingerprint() == expected.fingerprint()
    assert expected.timestamps[0] == np.datetime64("2024-03-02T00:00")
    assert expected.interval_ns == 3600 * 10**9


def test_capital_letters_and_parquet_index_make_no_difference(tmp_path: Path) -> None:
    table = candles()
    expected = load(write(table, tmp_path / "plain.csv")).fingerprint()
    loud = table.rename(columns={"timestamp": "Timestamp", "open": "OPEN", "volume": "Volume"})
    assert load(write(loud, tmp_path / "loud.csv")).fingerprint() == expected
    for zone in (None, "UTC", "Asia/Tokyo"):
        indexed = table.set_index("timestamp")
        if zone:
            indexed.index = indexed.index.tz_localize("UTC").tz_convert(zone)
        indexed.to_parquet(tmp_path / "indexed.parquet")
        assert load(tmp_path / "indexed.parquet").fingerprint() == expected
    table.to_parquet(tmp_path / "column.pq")
    assert load(tmp_path / "column.pq").fingerprint() == expected


def spoil(row: int, column: str, value: object) -> object:
    def apply(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return apply


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda t: t.assign(timestamp=t["timestamp"].iloc[[0, 1, 1, 2, 3, 4]].to_numpy()),
            "2024-03-02 01:00 UTC appears twice",
        ),
        (
            lambda t: t.drop(index=[2, 3]),
            "BTCUSDT 60 has a gap of 2 bars at 2024-03-02 02:00 UTC; rerun with --fill-gaps",
        ),
        (spoil(2, "close", np.nan), "close at 2024-03-02 02:00 UTC is missing"),
        (spoil(2, "volume", np.nan), "volume at 2024-03-02 02:00 UTC is missing"),
        (spoil(2, "volume", -1.0), "cannot be negative"),
        (spoil(2, "high", 90.0), "high is below low at 2024-03-02 02:00 UTC"),
        (spoil(2, "close", 110.0), "open or close lies outside low..high at 2024-03-02 02:00 UTC"),
        (spoil(2, "low", 0.0), "low at 2024-03-02 02:00 UTC is 0; prices must be positive"),
        (spoil(2, "open", -3.0), "prices must be positive"),
        (spoil(2, "open", "n/a?"), "open in row 3 (line 4) is 'n/a?', not a number"),
        (
            spoil(2, "timestamp", "yesterday"),
            "row 3 (line 4) holds 'yesterday', which is no time like '2024-03-02 00:00:00'",
        ),
        (lambda t: t.iloc[:1], "holds 1 bar; at least 2"),
        (lambda t: t.iloc[:0], "holds 0 bars; at least 2"),
        (lambda t: t.drop(columns=["volume", "low"]), "lacks the columns low, volume"),
        (lambda t: t.drop(columns=["timestamp"]), "no time column"),
        (lambda t: t.assign(OPEN=1.0), "column 'open' twice"),
        (spoil(5, "timestamp", "2024-03-02 05:20"), "not evenly spaced"),
    ],
)
def test_wrong_candles_give_one_clear_line(change, expected: str, tmp_path: Path) -> None:
    path = write(change(candles()), tmp_path / "bad.csv")
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"PAR1 and then nothing", "neither readable CSV nor Parquet"),
        (b"\x00\xff\x00", "no UTF-8 text and no Parquet"),
    ],
)
def test_damaged_files_give_one_clear_line(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)


def test_gap_filling_uses_the_last_close_and_no_volume(tmp_path: Path) -> None:
    path = write(candles().drop(index=[2, 3]), tmp_path / "gap.csv")
    panel = load(path, fill_gaps=True)
    filled = panel.values[2:4, 0, :]
    assert np.array_equal(filled, np.tile([101.0, 101.0, 101.0, 101.0, 0.0], (2, 1)))
    assert "2 missing bars in 1 gaps filled" in panel.notes[-1]
    later = load(path, start="2024-03-02T04:00")
    assert len(later) == 2
    assert not [note for note in later.notes if "filled" in note]


def test_bars_that_close_after_end_are_left_out(tmp_path: Path) -> None:
    path = write(candles(), tmp_path / "a.csv")
    panel = load(path, start="2024-03-02T01:00", end="2024-03-02T03:30")
    assert list(panel.timestamps) == [np.datetime64("2024-03-02T01:00"), np.datetime64("2024-03-02T02:00")]
    for start, end in (("2024-03-05", None), ("2024-03-02T02:00", "2024-03-02T03:00")):
        with pytest.raises(InputError, match="between --start and --end; its data runs from 2024-03-02 00:00"):
            load(path, start=start, end=end)


def test_interval_must_agree_with_the_file(tmp_path: Path) -> None:
    path = write(candles(freq="5min"), tmp_path / "a.csv")
    assert load(path, interval="5").interval_ns == load(path).interval_ns == 300 * 10**9
    with pytest.raises(InputError, match="holds 5 bars, of which no 3 bars can be made"):
        load(path, interval="3")
    with pytest.raises(InputError, match="0 complete bars of 60"):
        load(path, interval="60")


def test_late_listing_is_masked_and_not_filled(tmp_path: Path) -> None:
    early = write(candles(8), tmp_path / "early.csv")
    late = write(candles(4, start="2024-03-02 03:00"), tmp_path / "late.csv")
    panel = load_panel(["BTCUSDT", "ETHUSDT"], files=[early, late])
    assert panel.assets == ("BTCUSDT", "ETHUSDT")
    listed = np.isfinite(panel.column("close", "ETHUSDT"))
    assert list(listed) == [False] * 3 + [True] * 4 + [False]
    with pytest.raises(InputError, match="1 --data files for 2 symbols"):
        load_panel(["BTCUSDT", "ETHUSDT"], files=[early])


def test_funding_is_known_only_after_its_settlement(tmp_path: Path) -> None:
    path = write(candles(), tmp_path / "a.csv")
    funding = tmp_path / "funding.csv"
    # one settlement at exactly the close of bar 1, one inside bar 3
    funding.write_text("Timestamp,Funding_Rate\n2024-03-02 02:00,0.0001\n2024-03-02 03:30,-0.0002\n")
    panel = load(path, funding_files=[funding])
    assert np.array_equal(
        panel.column("funding_rate", "BTCUSDT"), [np.nan, np.nan, 1e-4, -2e-4, -2e-4, -2e-4], equal_nan=True
    )
    assert list(panel.settlements["BTCUSDT"].rates) == [1e-4, -2e-4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timestamp,price\n2024-03-02,1\n", "lacks the column funding_rate"),
        ("timestamp,funding_rate\n", "holds no settlement"),
        ("timestamp,funding_rate\n2024-03-02,\n", "missing or not a number"),
        ("timestamp,funding_rate\n2024-03-02,7\n", "no fraction of notional"),
        ("timestamp,funding_rate\n2024-03-02,0.0001\n2024-03-02,0.0002\n", "two settlements that differ"),
    ],
)
def test_wrong_funding_gives_one_clear_line(text: str, expected: str, tmp_path: Path) -> None:
    path = write(candles(), tmp_path / "a.csv")
    funding = tmp_path / "funding.csv"
    funding.write_text(text)
    with pytest.raises(InputError, match=expected):
        load(path, funding_files=[funding])


def test_no_value_depends_on_later_rows(tmp_path: Path) -> None:
    table = candles(40)
    changed = table.copy()
    changed.loc[20:, ["open", "high", "low", "close", "volume"]] *= 3
    rates = pd.DataFrame({"timestamp": table["timestamp"][::8], "funding_rate": np.arange(5) * 1e-4})
    moved = rates.copy()
    moved.loc[rates["timestamp"] >= table["timestamp"][20], "funding_rate"] = -0.0012
    whole = load(write(table, tmp_path / "a.csv"), funding_files=[write(rates, tmp_path / "f.csv")])
    other = load(write(changed, tmp_path / "b.csv"), funding_files=[write(moved, tmp_path / "g.csv")])
    assert np.array_equal(whole.values[:20], other.values[:20], equal_nan=True)
    assert not np.array_equal(whole.values[20:], other.values[20:], equal_nan=True)
