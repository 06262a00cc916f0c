"""Every kind of file that traders have is read right, or told with what was found and what to type: own inputs, and the shared cases."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.files import Reading, read_candles, read_settlements
from data.panel import InputError, Panel
from data.sources import load_panel

CASES = Path(__file__).resolve().parents[3] / "shared/cases"
cases = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside this checkout")


def walk(bars: int = 300, start: str = "2024-01-01", freq: str = "h", digits: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(7)
    close = np.round(40_000 * np.exp(0.004 * random.normal(size=bars).cumsum()), digits)
    open_ = np.r_[close[0], close[:-1]]
    up, down = np.round(np.abs(random.normal(size=(2, bars))) * 60, digits)
    index = pd.date_range(start, periods=bars, freq=freq, name="timestamp")
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) + up,
        "low": np.minimum(open_, close) - down,
        "close": close,
    }
    return pd.DataFrame({**columns, "volume": np.round(random.lognormal(5, 1, bars), 3)}, index=index)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found[list(expected.columns)], expected, rtol=1e-9)


def save(table: pd.DataFrame, path: Path, **how: Any) -> Path:
    table.to_csv(path, **how)
    return path


def lines(path: Path, *text: str, sep: str = "\n") -> Path:
    path.write_text(sep.join(text) + "\n")
    return path


def read(path: Path, **how: Any) -> tuple[pd.DataFrame, int, str]:
    table, length, notes = read_candles(path, Reading(**how))
    return table, length, " | ".join(notes)


def told(path: Path, **how: Any) -> str:
    with pytest.raises(InputError) as error:
        read_candles(path, Reading(**how))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- the cases of ../shared/cases/README.md ---

READ = {  # bars, minutes, first bar, what is said
    "ok": (1499, 60, "2024-01-01T00:00", "read as UTC"),
    "bars_480": (500, 480, "2024-01-01T00:00", ""),
    "yahoo_head": (39, 1440, "2020-01-05T00:00", "columns ignored: adj close"),
    "yyyymmdd_daily": (1917, 1440, "2020-04-01T00:00", ""),
    "btpy_eurusd_head": (299, 60, "2017-04-19T09:00", ""),
    "weekdays_daily": (1199, 1440, "2020-04-01T00:00", ""),
    "binance_noheader": (
        700,
        60,
        "2024-01-01T00:00",
        "no header: columns taken as time, open, high, low, close, volume",
    ),
    "binance_dump_ada": (10, 1, "2021-11-27T00:00", "no header"),
    "binance_ms_us_half": (601, 60, "2024-03-20T02:00", "times change from ms to us in row 103"),
    "bybit_mt4": (700, 60, "2024-01-01T00:00", "no header"),
    "mt5": (699, 60, "2024-01-01T00:00", "column spread ignored: its median of 10 is no fraction (points?)"),
    "tab": (699, 60, "2024-01-01T00:00", ""),
    "cdd_binance_head": (38, 60, "2020-09-17T18:00", "newest row first: turned round"),
    "cdd_coinbase_head": (38, 60, "2019-10-15T20:00", "volume is its column 'volume_btc'"),
    "comment": (698, 60, "2024-01-01T00:00", "1 line above the header skipped (# exported by me)"),
    "unnamed_index": (699, 60, "2024-01-01T00:00", ""),
    "utc_word": (699, 60, "2024-01-01T00:00", ""),
    "yfinance_multi": (697, 1440, "2020-04-01T00:00", "3 header lines read as one"),
    "yfinance_ny_offsets": (1199, 1440, "2020-04-01T05:00", "days begin at two times UTC"),
    "newest_first": (699, 60, "2024-05-17T13:00", "newest row first: turned round"),
    "dup_month_join": (791, 60, "2024-03-11T18:00", "10 rows that repeat another dropped"),
    "ts_is_close_time": (699, 60, "2024-01-01T00:00", "times are those of closing (first 2024-01-01T00:59:59.999)"),
    "investing_head": (39, 1440, "2021-12-03T00:00", "newest row first"),
}
TOLD = {
    "bybit_trades": "holds trades, not candles; found columns timestamp, symbol, side",
    "header_twice": "row 103 (line 104, where the header stands again, as in joined files: remove it)",
    "berlin_naive_spring": "look like local time, as of Europe/Berlin",
    "berlin_naive_autumn": "give --timezone Europe/Berlin",
    "heikin_ashi": "Heikin-Ashi candles",
    "halt_gap": "has a gap of 5 bars at 2025-01-01 05:00 UTC; rerun with --fill-gaps",
    "outage_23h": "has a gap of 23 bars at 2024-03-05 13:00 UTC; rerun with --fill-gaps",
}


@cases
def test_every_case_has_its_line() -> None:
    assert {path.stem for path in (CASES / "files").iterdir()} == {*READ, *TOLD}


@cases
@pytest.mark.parametrize("name", READ)
def test_a_case_is_read(name: str) -> None:
    bars, minutes, first, said = READ[name]
    heard: list[str] = []
    panel = load_panel(["BTCUSDT"], files=[CASES / f"files/{name}.csv"], echo=heard.append)
    assert (len(panel), panel.interval_ns) == (bars, minutes * 60 * 10**9)
    assert str(panel.timestamps[0])[:16] == first
    assert said in " | ".join(heard)
    assert tuple(heard) == panel.notes


@cases
@pytest.mark.parametrize("name", TOLD)
def test_a_case_is_told(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(TOLD[name])):
        load_panel(["BTCUSDT"], files=[CASES / f"files/{name}.csv"])


@cases
def test_the_cases_of_one_market_agree_with_the_reference() -> None:
    """Files of the same hours, written differently, hold the same candles."""
    reference = read_candles(CASES / "files/ok.csv")[0]
    for name in (
        "binance_noheader",
        "bybit_mt4",
        "comment",
        "tab",
        "unnamed_index",
        "utc_word",
        "ts_is_close_time",
        "mt5",
    ):
        found = read_candles(CASES / f"files/{name}.csv")[0]
        columns = ["open", "high", "low", "close", *(["volume"] if name != "mt5" else [])]  # MetaTrader counts ticks
        np.testing.assert_array_equal(found[columns], reference[columns].loc[found.index], err_msg=name)
    for half in ("binance_ms_us_half", "berlin_naive_spring"):
        found = read_candles(CASES / f"files/{half}.csv", Reading(timezone="Europe/Berlin"))[0]
        known = read_candles(CASES / "files/dup_month_join.csv")[0]
        both = found.index.intersection(known.index)
        assert len(both) > 500
        np.testing.assert_array_equal(found.loc[both], known.loc[both], err_msg=half)


FUNDING_READ = {
    "fund_ok": "read as UTC", "fund_percent": "divided by 100", "fund_percent_sign": "in percent (%) divided by 100",
    "fund_bybit_web": "in percent (%)",
    "fund_first_month_only": "", "fund_half": "", "fund_missing_some": "",
    "fund_binance_api": "501 settlements up to 1 ms off a full minute",
    "fund_binance_dump": "up to 4 ms off", "fund_bybit_api_newest_first": "newest row first", "fund_freqtrade": "up to 15 ms off",
}  # fmt: skip
FUNDING_TOLD = {
    "fund_hourly_repeated": "every rate stands in 8 rows, 1 h apart",
    "fund_local_berlin": "look like local time, as of Europe/Berlin",
}


@cases
@pytest.mark.parametrize("name", FUNDING_READ)
def test_a_funding_case_is_read(name: str) -> None:
    found, notes = read_settlements(CASES / f"funding/{name}.csv")
    assert FUNDING_READ[name] in " | ".join(notes)
    reference, _ = read_settlements(CASES / "funding/fund_ok.csv")
    assert not (found.timestamps.astype(np.int64) % (3600 * 10**9)).any()
    if name != "fund_freqtrade":
        at = np.searchsorted(reference.timestamps, found.timestamps)
        assert np.array_equal(reference.timestamps[at], found.timestamps)
        np.testing.assert_allclose(found.rates, reference.rates[at], atol=6e-7)  # percentages have four digits


@cases
@pytest.mark.parametrize("name", FUNDING_TOLD)
def test_a_funding_case_is_told(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(FUNDING_TOLD[name])):
        read_settlements(CASES / f"funding/{name}.csv")


@cases
def test_local_funding_is_right_with_its_zone() -> None:
    reference, _ = read_settlements(CASES / "funding/fund_ok.csv")
    found, _ = read_settlements(
        CASES / "funding/fund_local_berlin.csv", Reading(timezone="data=UTC,funding=Europe/Berlin")
    )
    assert np.array_equal(found.timestamps, reference.timestamps)
    assert np.array_equal(found.rates, reference.rates)
    with pytest.raises(InputError, match="covers no bar"):
        load_panel(["BTCUSDT"], files=[CASES / "files/ok.csv"], funding_files=[CASES / "funding/fund_other_year.csv"])


# --- bars of every length, and markets that rest ---


@pytest.mark.parametrize("freq", ["10min", "45min", "8h", "2h30min", "3D", "7D", "30s"])
def test_every_regular_length_is_read_from_the_file(freq: str, tmp_path: Path) -> None:
    frame = walk(freq=freq)
    found, length, _ = read(save(frame, tmp_path / "a.csv"))
    assert length == pd.Timedelta(freq).value
    same(found, frame)


def test_months_have_no_length(tmp_path: Path) -> None:
    assert "bars of months, which have no fixed length" in told(save(walk(40, freq="MS"), tmp_path / "a.csv"))


def sessions(country: str) -> pd.DatetimeIndex:
    """Open times UTC of four months of a stock market with a holiday."""
    zone, first, last, freq, noon = {
        "us hours": ("America/New_York", "09:30", "15:30", "h", None),
        "us 5 min": ("America/New_York", "09:30", "15:55", "5min", None),
        "hong kong": ("Asia/Hong_Kong", "09:30", "15:30", "30min", ("12:00", "12:30")),
        "xetra": ("Europe/Berlin", "09:00", "17:00", "h", None),
    }[country]
    days = pd.bdate_range("2024-01-02", "2024-04-30").drop("2024-03-29")
    parts = [pd.date_range(f"{d:%Y-%m-%d} {first}", f"{d:%Y-%m-%d} {last}", freq=freq, tz=zone) for d in days]
    if noon:
        parts = [p[~((p.strftime("%H:%M") >= noon[0]) & (p.strftime("%H:%M") <= noon[1]))] for p in parts]
    return pd.DatetimeIndex(np.concatenate([p.tz_convert("UTC").tz_localize(None) for p in parts]), name="timestamp")


@pytest.mark.parametrize("country", ["us hours", "us 5 min", "hong kong", "xetra"])
def test_a_market_that_rests_has_no_gaps_there(country: str, tmp_path: Path) -> None:
    index = sessions(country)
    frame = walk(len(index)).set_axis(index)
    panel = load_panel(["SAP"], files=[save(frame, tmp_path / "a.csv")], timezone="UTC")
    assert panel.rests
    assert list(panel.timestamps) == list(index)
    even = np.diff(index) == np.diff(index).min()
    inside = index[np.flatnonzero(even[1:] & even[:-1])[200] + 1]
    with pytest.raises(InputError, match="a gap of 1 bar"):
        load_panel(["SAP"], files=[save(frame.drop(inside), tmp_path / "b.csv")], timezone="UTC")
    filled = load_panel(["SAP"], files=[tmp_path / "b.csv"], timezone="UTC", fill_gaps=True)
    assert list(filled.timestamps) == list(index)


def test_a_market_that_never_rests_has_gaps_at_weekends_too(tmp_path: Path) -> None:
    frame = walk(24 * 60)
    weekend = (frame.index >= "2024-01-13") & (frame.index < "2024-01-15")
    with pytest.raises(InputError, match="a gap of 48 bars at 2024-01-13"):
        load_panel(["BTCUSDT"], files=[save(frame[~weekend], tmp_path / "a.csv")])
    patchy = frame.drop(frame.index[30::71])  # an hour lost every three days is no rhythm of a market
    with pytest.raises(InputError, match="a gap of 1 bar"):
        load_panel(["BTCUSDT"], files=[save(patchy, tmp_path / "b.csv")])


def test_a_wrong_time_is_not_filled_up_to(tmp_path: Path) -> None:
    frame = walk(freq="min")
    wrong = frame.set_axis(frame.index.where(frame.index != frame.index[0], pd.Timestamp("1971-01-01")))
    with pytest.raises(InputError, match=r"lacks 27,\d{3},\d{3} bars beside the 300 it has.*too many to fill") as error:
        load_panel(["BTCUSDT"], files=[save(wrong, tmp_path / "a.csv")], fill_gaps=True)
    assert "--fill-gaps" not in str(error.value)
    far = save(walk(freq="min", start="1999-01-01"), tmp_path / "far.csv")
    with pytest.raises(InputError, match="too far apart for one table"):
        load_panel(["A", "B"], files=[save(frame, tmp_path / "b.csv"), far])


def test_an_interval_makes_longer_bars_of_complete_ones(tmp_path: Path) -> None:
    frame = walk(60, freq="10min", start="2024-01-01 00:20")
    path = save(frame, tmp_path / "a.csv")
    hours = load_panel(["BTCUSDT"], "60", files=[path])
    expected = (
        frame.iloc[4:-2]
        .resample("h")
        .agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    )
    assert list(hours.timestamps) == list(expected.index)
    np.testing.assert_allclose(hours.values[:, 0], expected)
    assert "60 bars made of its 10 min bars" in " ".join(hours.notes)
    for asked in ("10m", "10", "10 min"):
        assert load_panel(["BTCUSDT"], asked, files=[path]).interval_ns == 600 * 10**9
    with pytest.raises(InputError, match="no 15 bars can be made"):
        load_panel(["BTCUSDT"], "15", files=[path])


# --- dialects ---

HEADERS: dict[str, Callable[[pd.DataFrame, Path], Path]] = {
    "kraken, no header": lambda f, p: save(f.assign(trades=5).set_axis(f.index.as_unit("s").asi8), p, header=False),
    "bybit api, no header, newest first": lambda f, p: save(
        f.assign(turnover=f.volume * f.close).set_axis(f.index.as_unit("ms").asi8).iloc[::-1], p, header=False
    ),
    "coinbase api, no header": lambda f, p: save(
        f[["low", "high", "open", "close", "volume"]].set_axis(f.index.as_unit("s").asi8).iloc[::-1], p, header=False
    ),
    "bitfinex, no header": lambda f, p: save(
        f[["open", "close", "high", "low", "volume"]].set_axis(f.index.as_unit("ms").asi8), p, header=False
    ),
    "mt4, no header": lambda f, p: save(
        f.assign(clock=f.index.strftime("%H:%M"))[["clock", *f.columns]].set_axis(f.index.strftime("%Y.%m.%d")), p, header=False
    ),
    "histdata": lambda f, p: save(f.set_axis(f.index.strftime("%Y%m%d %H%M%S")), p, header=False, sep=";"),
    "numbers as header": lambda f, p: save(f.set_axis(f.index.as_unit("ms").asi8).reset_index().set_axis(range(6), axis=1), p, index=False),
    "numbers as header and rows numbered": lambda f, p: save(
        f.set_axis(f.index.as_unit("ms").asi8).reset_index().set_axis(range(6), axis=1), p
    ),
    "dukascopy": lambda f, p: save(
        f.set_axis([t.strftime("%d.%m.%Y %H:%M:%S.000 GMT+0100") for t in f.index + pd.Timedelta("1h")]).rename_axis("Gmt time"), p
    ),
    "alpha vantage": lambda f, p: save(f.set_axis([f"{i + 1}. {c}" for i, c in enumerate(f.columns)], axis=1).iloc[::-1], p),
    "coinmarketcap": lambda f, p: save(
        f.assign(
            timeClose=(f.index + pd.Timedelta("59min59.999s")).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), name="2781",
            marketCap=1e12, timestamp=(f.index + pd.Timedelta("59min59.999s")).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        ).set_axis(f.index.strftime("%Y-%m-%dT%H:%M:%S.000Z")).rename_axis("timeOpen"), p, sep=";",
    ),
    "european": lambda f, p: save(
        f.map(lambda v: f"{v:,.3f}".translate(str.maketrans(",.", ".,"))).set_axis(f.index.strftime("%d.%m.%Y %H:%M")), p,
        sep=";", index_label="Datum Date",
    ),
    "in quotes, with dollars": lambda f, p: save(f.map(lambda v: f"${v:,.3f}").rename_axis("Date"), p, quoting=1),
    "millions": lambda f, p: save(f.assign(volume=(f.volume / 1000).map("{:.6f}K".format)), p),
    "trailing separators": lambda f, p: lines(p, *(line + "," for line in f.to_csv().splitlines())),
    "row names without a head": lambda f, p: lines(p, "open,high,low,close,volume", *f.to_csv(header=False).splitlines()),
    "blank lines and a title": lambda f, p: lines(p, "BTCUSDT 1h", "", *f.to_csv().splitlines(), ""),
    "spaces": lambda f, p: lines(p, *f.to_csv(sep=" ").replace('"', "").replace("timestamp", "date time", 1).splitlines()),
    "carriage returns": lambda f, p: save(f, p, lineterminator="\r\n"),
    "three header lines": lambda f, p: lines(
        p, "Price,Open,High,Low,Close,Volume", "Ticker,X,X,X,X,X", "Datetime,,,,,", *f.to_csv(header=False).splitlines()
    ),
    "stooq": lambda f, p: save(
        f.set_axis(["<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"], axis=1).assign(
            **{"<TICKER>": "X", "<PER>": 60, "<DATE>": f.index.strftime("%Y%m%d"), "<TIME>": f.index.strftime("%H%M%S"), "<OPENINT>": 0}
        ), p, index=False,
    ),
    "sierra chart": lambda f, p: save(
        f.set_axis([" Open", " High", " Low", " Last", " Volume"], axis=1).assign(
            **{"Date": f.index.strftime("%Y/%m/%d"), " Time": f.index.strftime("%H:%M:%S.000000"), " NumberOfTrades": 4}
        ), p, index=False,
    ),
    "tradingview": lambda f, p: save(
        f.assign(Plot=1.0, plot=2.0, **{"Volume MA": 3.0}).set_axis(f.index.as_unit("s").asi8).rename_axis("time"), p
    ),
    "polygon": lambda f, p: save(f.assign(ticker="X:BTCUSD", window_start=f.index.as_unit("ns").asi8, transactions=5), p, index=False),
    "names with units": lambda f, p: save(f.set_axis(f.index.as_unit("ms").asi8).rename_axis("open_time_ms"), p),
    "kaggle": lambda f, p: save(
        f.rename(columns={"volume": "Volume_(BTC)"}).assign(**{"Volume_(Currency)": f.volume * f.close, "Weighted_Price": f.close}), p
    ),
    "several symbols": lambda f, p: save(
        pd.concat([(f * 2).assign(symbol="ETHUSDT"), f.assign(symbol="BTC/USDT")]), p
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_a_dialect_is_read(kind: str, tmp_path: Path) -> None:
    frame = walk()
    if kind == "coinmarketcap":
        frame = frame.round(3)
    path = HEADERS[kind](frame, tmp_path / "a.csv")
    how = {"columns": {"time": "Datum Date"}} if kind == "european" else {}
    found, length, _ = read_candles(path, Reading(**how), "BTCUSDT")
    assert length == 3600 * 10**9
    same(found, frame)


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zip", "feather", "json", "parquet", "parquet.gz"])
def test_a_packed_file_is_read(pack: str, tmp_path: Path) -> None:
    frame = walk()
    path = tmp_path / f"a.{pack}"
    if pack == "parquet.gz":
        frame.to_parquet(tmp_path / "a")
        path.write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    elif pack in ("feather", "parquet"):
        getattr(frame.reset_index().rename(columns={"timestamp": "date"}), f"to_{pack}")(path)
    elif pack == "json":
        path.write_text(frame.set_axis(frame.index.as_unit("ms").asi8).reset_index().to_json(orient="values"))
    else:
        frame.to_csv(path)
    same(read(path)[0], frame)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,price,qty,quote_qty,time,is_buyer_maker\n1,16500,1,16500,1672531200123,true\n", "trades, not candles"),
        ("1,16500.1,1.5,24750.15,1672531200123,true,true\n2,16500.2,1,16500.2,1672531200124,true,true\n", "no plausible time"),
        ("bid,ask,when\n1,2,2024-01-01\n1,2,2024-01-02\n", "found columns bid, ask, when, separated by comma; first row: 1, 2, 2024-01-01"),
        ("Zeit,Auf,Hoch,Tief,Zu,Menge\n2024-01-01,1,2,1,2,3\n", "--columns time=Zeit"),
        ("time,open,high,low,close\n2024-01-01,1,2,1,2\n", "lacks the column volume; found columns time, open, high, low, close"),
        ("time,open,high,low,close,volume\n2024-01-01,1,2,1,2,3\n2024-01-02,1,2,1,2\n2024-01-03,1,2,1,2,3,4\n", "neither readable CSV"),
        ("hello world\n", "no time column; found columns"),
        ("<html><body>Not found</body></html>\n", "no time column"),
        ('{"retCode": 0, "result": {"list": [["1", "2"]]}}', "nested JSON"),
        ("a," * 600 + "\n" + "1," * 600 + "\n", "has 601 columns"),
        ("time,open,high,low,close,volume\n2024-01-01,1,2,1,2," + "9" * 5000 + "x\n", "volume in row 1 (line 2) is '999"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_candles_is_told_with_what_was_found(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    message = told(path)
    assert said in message
    assert len(message) < 700


def test_columns_are_named_by_hand(tmp_path: Path) -> None:
    frame = walk()
    stranger = save(
        frame.set_axis(["Auf", "Hoch", "Tief", "Zu", "Menge"], axis=1).rename_axis("Zeit"), tmp_path / "a.csv"
    )
    named = "time=Zeit,open=Auf,high=hoch,low=Tief,close=Zu,volume=Menge"
    assert (
        load_panel(["X"], files=[stranger], columns=named).fingerprint()
        == load_panel(["X"], files=[save(frame, tmp_path / "b.csv")]).fingerprint()
    )
    bare = save(frame.iloc[:, ::-1].set_axis(frame.index.as_unit("s").asi8), tmp_path / "c.csv", header=False)
    same(read(bare, columns={"time": "1", "volume": "2", "close": "3", "low": "4", "high": "5", "open": "6"})[0], frame)
    for wrong, said in (
        ("tiem=Zeit", "did you mean 'time'"),
        ("time=Ziet", "has no column 'Ziet' (--columns time=Ziet); found columns Zeit"),
        ("time", "says nothing"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            load_panel(["X"], files=[stranger], columns=wrong)


# --- times ---


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        (lambda i: np.round(i.as_unit("ns").asi8 / 86_400e9 + 25_569, 9), "a workbook's day numbers"),
        (lambda i: i.strftime("%Y%m%d%H%M"), ""),
        (lambda i: i.strftime("%Y%m%d%H"), ""),
        (lambda i: np.where(np.arange(len(i)) < 100, i.as_unit("us").asi8, i.as_unit("ms").asi8), "times change from us to ms in row 101"),
        (lambda i: np.where(np.arange(len(i)) < 100, i.as_unit("s").asi8, i.as_unit("ns").asi8), "times change from s to ns"),
        (lambda i: i.strftime("%d/%m/%Y %H:%M"), "the day first"),
        (lambda i: i.strftime("%m/%d/%Y %I:%M %p"), "the month first"),
        (lambda i: i.strftime("%d-%b-%Y %H:%M:%S"), ""),
        (lambda i: [t.isoformat() if t.hour else f"{t:%Y-%m-%d}" for t in i], "read as UTC"),
        (lambda i: i.as_unit("s").asi8 + 3599, "those of closing"),
        (lambda i: (i + pd.Timedelta("59min59s")).strftime("%Y-%m-%d %H:%M:%S"), "those of closing"),
        (lambda i: i.as_unit("us").asi8 + 3_600_000_000 - 1, "those of closing"),
        (lambda i: i.strftime("%Y-%m-%d %H:%M:%S GMT"), ""),
        (lambda i: i.tz_localize("UTC").tz_convert("Asia/Kolkata").strftime("%Y-%m-%d %H:%M:%S%z"), ""),
    ],
)  # fmt: skip
def test_a_way_to_write_times_is_read(stamps: Callable[[pd.DatetimeIndex], Any], said: str, tmp_path: Path) -> None:
    frame = walk(400)
    found, _, notes = read(save(frame.set_axis(stamps(frame.index)).rename_axis("time"), tmp_path / "a.csv"))
    same(found, frame)
    assert said in notes


def test_a_column_of_closing_times_is_known_by_its_name(tmp_path: Path) -> None:
    frame = walk(freq="4h")
    late = frame.set_axis(frame.index + pd.Timedelta("4h")).rename_axis("close_time")
    found, _, notes = read(save(late, tmp_path / "a.csv"))
    same(found, frame)
    assert "those of closing" in notes
    both = frame.assign(close_time=(frame.index + pd.Timedelta("4h")).as_unit("ms").asi8 - 1).rename_axis("Open time")
    same(read(save(both, tmp_path / "b.csv"))[0], frame)
    days = walk(freq="D")
    same(
        read(
            save(days.set_axis(days.index.as_unit("ms").asi8 + 86_399_999), tmp_path / "c.csv", index_label="timestamp")
        )[0],
        days,
    )


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        (lambda i: np.arange(len(i)) + 5, "5 in row 1 (line 2) is no plausible time"),
        (lambda i: i.as_unit("ns").asi8 // 100 + 621_355_968_000_000_000, "is no plausible time"),  # counted since the year 1
        (lambda i: i.as_unit("ns").asi8 // 10**9 // 86_400, "is no plausible time"),  # days since 1970
        (lambda i: [1e300, *i.as_unit("s").asi8[1:]], "is no plausible time"),
        (lambda i: [1e20, *i.as_unit("s").asi8[1:]], "is no plausible time"),
        (lambda i: ["0001-01-01", *i.astype(str)[1:]], "neither epoch s/ms nor ISO (first: '0001-01-01')"),
        (lambda i: ["9999-12-31", *i.astype(str)[1:]], "neither epoch s/ms nor ISO"),
        (lambda i: [*i.astype(str)[:-1], "soon"], "row 300 (line 301) holds 'soon', which is no time like '2024-01-01 00:00:00'"),
        (lambda i: [*i.astype(str)[:-1], ""], "row 300 (line 301) has no time"),
        (lambda i: [*i.astype(str)[:-1], "2024-01-13 11:00:00+00:00"], "has no UTC offset"),
        (lambda i: ["2024-01-01 00:00:00 EST"] * len(i), "neither epoch s/ms nor ISO"),
    ],
)  # fmt: skip
def test_implausible_times_are_told(stamps: Callable[[pd.DatetimeIndex], Any], said: str, tmp_path: Path) -> None:
    frame = walk()
    assert said in told(save(frame.set_axis(stamps(frame.index)).rename_axis("time"), tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("zone", "start", "freq"),
    [
        ("Europe/Berlin", "2024-03-28", "h"), ("Europe/Berlin", "2024-10-25", "15min"), ("America/New_York", "2024-03-08", "h"),
        ("America/New_York", "2024-11-01", "30min"), ("Europe/London", "2023-03-24", "5min"), ("Australia/Sydney", "2024-04-05", "h"),
        ("Europe/Berlin", "2024-03-20 02:00", "4h"), ("Europe/Berlin", "2024-10-20 01:00", "8h"), ("America/Santiago", "2024-09-05", "h"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newest_first", [False, True])
def test_local_time_is_told_and_right_with_its_zone(
    zone: str, start: str, freq: str, newest_first: bool, tmp_path: Path
) -> None:
    frame = walk(600 if freq == "5min" else 300, start, freq)
    local = frame.set_axis(frame.index.tz_localize("UTC").tz_convert(zone).tz_localize(None).astype(str)).rename_axis(
        "time"
    )
    path = save(local.iloc[::-1] if newest_first else local, tmp_path / "a.csv")
    message = told(path)
    assert "look like local time" in message
    assert "--timezone " in message
    assert "--fill-gaps" not in message
    assert "remove" not in message
    same(read(path, timezone=zone)[0], frame)
    with pytest.raises(InputError):
        load_panel(["X"], files=[path], timezone="UTC")  # insisted: then the hour is a gap, or a row too much


def test_a_gap_of_an_hour_elsewhere_is_a_gap(tmp_path: Path) -> None:
    frame = walk(start="2024-03-28")
    with pytest.raises(InputError, match="a gap of 1 bar at 2024-04-01 12:00"):
        load_panel(["X"], files=[save(frame.drop("2024-04-01 12:00"), tmp_path / "a.csv")])
    with pytest.raises(InputError, match="is no time zone"):
        load_panel(["X"], files=[tmp_path / "a.csv"], timezone="Berlin")
    with pytest.raises(InputError, match="not those of --timezone Europe/Berlin"):
        read_candles(save(frame, tmp_path / "b.csv"), Reading(timezone="Europe/Berlin"))


# --- units ---


def heikin_ashi(frame: pd.DataFrame, digits: int) -> pd.DataFrame:
    close = frame[["open", "high", "low", "close"]].mean(axis=1).to_numpy()
    opens = [frame.open.iloc[0]]
    for value in close[:-1]:
        opens.append((opens[-1] + value) / 2)
    out = frame.assign(open=opens, close=close)
    out["high"], out["low"] = out[["open", "high", "close"]].max(axis=1), out[["open", "low", "close"]].min(axis=1)
    return out.round(digits)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: heikin_ashi(f, 10), "Heikin-Ashi"),
        (lambda f: heikin_ashi(f, 0), "Heikin-Ashi"),
        (lambda f: heikin_ashi(f, 1).iloc[::-1], "Heikin-Ashi"),
        (lambda f: heikin_ashi(heikin_ashi(f, 10), 2), "Heikin-Ashi"),
        (lambda f: f.ewm(span=5).mean(), "smoothed prices"),
        (lambda f: f.rolling(4, min_periods=1).mean(), "smoothed prices"),
    ],
)  # fmt: skip
def test_candles_that_are_no_prices_are_refused_unless_insisted_on(
    change: Callable[[pd.DataFrame], pd.DataFrame], said: str, tmp_path: Path
) -> None:
    path = save(change(walk(1000)), tmp_path / "a.csv")
    assert said in told(path)
    assert "no result on them says anything" in read(path, any_candles=True)[2]


@pytest.mark.parametrize("freq", ["min", "h", "D"])
def test_prices_are_not_taken_for_smoothed_ones(freq: str, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    frame = walk(3000, freq=freq)
    noise = np.zeros(3000)
    for t in range(1, 3000):  # a market of strong momentum
        noise[t] = 0.25 * noise[t - 1] + random.normal()
    close = 100 * np.exp(0.003 * noise.cumsum())
    steady = frame.assign(open=close, close=close, high=close * 1.001, low=close * 0.999)
    for table in (frame, steady):
        read(save(table, tmp_path / "a.csv"))


def test_fields_that_cannot_be_what_they_are_called_are_left_out(tmp_path: Path) -> None:
    frame = walk().assign(spread=12, long_ratio=55.0, mark_price=1.0, open_interest=5.0)
    found, _, notes = read(save(frame, tmp_path / "a.csv"))
    assert set(found.columns) == {"open", "high", "low", "close", "volume", "open_interest"}
    for said in (
        "column spread ignored: its median of 12 is no fraction",
        "column long_ratio ignored",
        "column mark_price ignored",
    ):
        assert said in notes
    kept = read(save(frame.assign(spread=0.0002), tmp_path / "b.csv"))[0]
    assert (kept.spread == 0.0002).all()


def settlements(count: int = 300, hours: int = 8, start: str = "2024-01-01") -> pd.DataFrame:
    random = np.random.default_rng(5)
    rates = np.where(random.random(count) < 0.4, 1e-4, np.round(random.normal(1e-4, 1.2e-4, count), 8))
    return pd.DataFrame(
        {"funding_rate": rates}, index=pd.date_range(start, periods=count, freq=f"{hours}h", name="timestamp")
    )


FUNDING: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "percent by size": (lambda f: f * 100, "divided by 100"),
    "percent by sign": (lambda f: (f * 100).map("{:.6f}%".format), "in percent (%)"),
    "percent by name": (lambda f: (f * 100).rename(columns={"funding_rate": "Funding Rate (%)"}), "multiplied by 0.01"),
    "basis points by name": (lambda f: (f * 1e4).rename(columns={"funding_rate": "funding_bps"}), "multiplied by 0.0001"),
    "binance web": (
        lambda f: (f * 100).map("{:.6f}%".format).assign(Contracts="BTCUSDT Perpetual").rename_axis("Time").iloc[::-1],
        "newest row first",
    ),
    "okx": (
        lambda f: f.set_axis(f.index.as_unit("s").asi8).rename_axis("fundingTime").set_axis(["fundingRate"], axis=1).assign(realized=0),
        "",
    ),
    "late": (lambda f: f.set_axis(f.index + pd.to_timedelta(np.arange(len(f)) % 37, "ms")), "up to 36 ms off"),
    "early": (lambda f: f.set_axis(f.index - pd.Timedelta("1ms")), "up to 1 ms off"),
    "twelve seconds late": (lambda f: f.set_axis(f.index + pd.Timedelta("12s")), "up to 12,000 ms off"),
    "shuffled": (lambda f: f.sample(frac=1, random_state=1), "sorted by time"),
    "every row twice": (lambda f: f.loc[f.index.repeat(2)], "300 rows that repeat another dropped"),
    "no header": (lambda f: f, ""),
    "a fraction, insisted": (lambda f: f * 100, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", FUNDING)
def test_a_kind_of_funding_is_read(kind: str, tmp_path: Path) -> None:
    frame, (change, said) = settlements(), FUNDING[kind]
    insisted = {"columns": {"funding_rate": "funding_rate"}} if kind.endswith("insisted") else {}
    path = save(change(frame), tmp_path / "f.csv", header=kind != "no header")
    found, notes = read_settlements(path, Reading(**insisted))
    assert said in " | ".join(notes)
    assert list(found.timestamps) == list(frame.index)
    np.testing.assert_allclose(found.rates, frame.funding_rate * (100 if insisted else 1), atol=1e-10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.resample("h").ffill(), "every rate stands in 8 rows, 1 h apart, and changes every 8 h"),
        (lambda f: f.resample("4h").ffill(), "every rate stands in 2 rows, 4 h apart"),
        (lambda f: f.resample("15min").ffill(), "every rate stands in 32 rows"),
        (lambda f: f * 10, "no fraction of notional (usual: 0.0001) nor clearly percent"),
        (lambda f: f * 1e4, "funding_bps=NAME"),
        (lambda f: f.map(lambda r: f"{r * 100:.4f}%" if r > 0 else f"{r:.6f}"), "percent sign in some rows"),
        (lambda f: f.set_axis(f.index + pd.Timedelta("1h")), "settlements at 01:00, 09:00, 17:00 look like local time"),
        (
            lambda f: f.set_axis(f.index.tz_localize("UTC").tz_convert("America/New_York").tz_localize(None)),
            "look like local time, as of America/New_York",
        ),
    ],
)  # fmt: skip
def test_a_kind_of_funding_is_told(change: Callable[[pd.DataFrame], pd.DataFrame], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_settlements(save(change(settlements()), tmp_path / "f.csv"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("hours", [1, 4])
def test_a_rate_that_stays_is_no_repetition(hours: int, tmp_path: Path) -> None:
    """The exchange's base rate holds for days; what changes at any hour is no rate of eight."""
    frame = settlements(600, hours)
    frame.iloc[50:200] = 1.25e-5
    found, _ = read_settlements(save(frame, tmp_path / "f.csv"))
    assert len(found.rates) == 600
    constant = frame.assign(funding_rate=1.25e-5)
    assert len(read_settlements(save(constant, tmp_path / "g.csv"))[0].rates) == 600


def test_a_late_stamp_does_not_swap_who_pays(tmp_path: Path) -> None:
    """04:00:00.001 is a settlement of 04:00: the bar that closes then does not know it, and who holds through it pays."""
    candles = save(walk(48), tmp_path / "c.csv")
    exact = save(settlements(6), tmp_path / "a.csv")
    late = save(settlements(6).set_axis(settlements(6).index + pd.Timedelta("3ms")), tmp_path / "b.csv")

    def panel(funding: Path) -> Panel:
        return load_panel(["X"], files=[candles], funding_files=[funding])

    assert panel(exact).fingerprint() == panel(late).fingerprint()


def test_another_symbol_and_a_leap_of_the_price_are_said(tmp_path: Path) -> None:
    frame = walk()
    split = frame.copy()
    split.iloc[150:, :4] /= 4
    notes = read_candles(save(split.assign(symbol="TSLA"), tmp_path / "a.csv"), Reading(), "BTCUSDT")[2]
    assert "its rows are of TSLA, read as BTCUSDT" in notes
    assert any(note.startswith("the price leaps by a factor of 4 at 2024-01-07 06:00 UTC") for note in notes)
    calm = read_candles(save(frame.assign(symbol="BTC/USDT"), tmp_path / "b.csv"), Reading(), "BTCUSDT")[2]
    assert not [note for note in calm if "leaps" in note or "rows are" in note]
    both = pd.concat([frame.assign(symbol="ETHUSDT"), frame.assign(symbol="SOLUSDT")])
    with pytest.raises(InputError, match="rows of 2 symbols \\(ETHUSDT, SOLUSDT\\), none of them BTCUSDT"):
        read_candles(save(both, tmp_path / "c.csv"), Reading(), "BTCUSDT")


def test_holidays_are_rest_and_weeks_without_bars_are_not(tmp_path: Path) -> None:
    days = pd.bdate_range("2023-01-02", periods=400, name="timestamp")
    frame = walk(400).set_axis(days)
    holidays = frame.drop([days[30], days[120], days[121], *days[200:206]])
    panel = load_panel(["SAP"], files=[save(holidays, tmp_path / "a.csv")])
    assert panel.rests
    assert len(panel) == 391
    with pytest.raises(InputError, match="has a gap of 30 bars at 2023-10-07"):
        load_panel(["SAP"], files=[save(frame.drop(days[200:220]), tmp_path / "b.csv")])


def test_shuffled_local_times_are_told_or_right(tmp_path: Path) -> None:
    """Where an hour comes twice only the order of rows tells which is which."""
    for start, right in (("2024-03-28", True), ("2024-10-25", False)):
        frame = walk(200, start)
        local = frame.set_axis(frame.index.tz_localize("UTC").tz_convert("Europe/Berlin").tz_localize(None).astype(str))
        path = save(local.rename_axis("time").sample(frac=1, random_state=2), tmp_path / f"{start}.csv")
        assert "look like local time" in told(path)
        if right:
            same(read(path, timezone="Europe/Berlin")[0], frame)
        else:
            assert "rows are not in time order, and 2024-10-27T02:00 comes twice" in told(
                path, timezone="Europe/Berlin"
            )


@pytest.mark.parametrize(
    ("zone", "begins"), [("America/New_York", "05:00"), ("Europe/Berlin", "23:00"), ("Europe/London", "00:00")]
)
def test_days_of_a_place_begin_when_its_winter_days_do(zone: str, begins: str, tmp_path: Path) -> None:
    """Never earlier than they did, whatever the clocks say; the same from offsets and from dates with `--timezone`."""
    days = pd.bdate_range("2023-01-02", periods=400)
    frame = walk(400).set_axis(days)
    offsets = save(frame.set_axis([str(day) for day in days.tz_localize(zone)]).rename_axis("Date"), tmp_path / "a.csv")
    found, length, notes = read(offsets)
    assert length == 86_400 * 10**9
    assert f"all taken to begin at {begins} UTC" in notes
    assert set(found.index.strftime("%H:%M")) == {begins}
    true = days.tz_localize(zone).tz_convert("UTC").tz_localize(None)
    late = found.index - true
    assert late.min() == pd.Timedelta(0)
    assert late.max() == pd.Timedelta("1h")
    dates = save(frame.rename_axis("Date"), tmp_path / "b.csv")
    same(read(dates, timezone=zone)[0], found)
    assert len(load_panel(["SAP"], files=[offsets])) == 400
