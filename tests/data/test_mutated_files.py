"""Files made from a known frame in 500 ways: whatever is read is that frame, or the user is told."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from data.files import Reading, read_candles, read_settlements
from data.panel import CANDLE_FIELDS, InputError

NAMES = {
    "plain": ("timestamp", "open", "high", "low", "close", "volume"),
    "yahoo": ("Date", "Open", "High", "Low", "Close", "Volume"),
    "binance": ("Open time", "Open", "High", "Low", "Close", "Volume"),
    "short": ("ts", "o", "h", "l", "c", "v"),
    "bracketed": ("<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
    "numbered": ("timestamp", "1. open", "2. high", "3. low", "4. close", "5. volume"),
    "unnamed": ("", "Open", "High", "Low", "Close", "Volume"),
    "unix": ("Unix Timestamp", "open", "high", "low", "close", "Volume BTC"),
    "stranger": ("Zeit", "Auf", "Hoch", "Tief", "Zu", "Menge"),
    "none": (),
}
TIMES = (
    "iso", "T", "Z", "offset", "utc word", "s", "ms", "us", "ns", "ms then us", "dotted", "day first", "month first", "am pm", "in words",
    "workbook", "digits", "closing", "local",
)  # fmt: skip
LENGTHS = ("1min", "5min", "10min", "45min", "1h", "4h", "8h", "1D")


def market(seed: int, length: str, bars: int, start: str, cheap: bool) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    digits = 6 if cheap else 2
    close = np.round((1.2 if cheap else 41_000) * np.exp(0.004 * random.normal(size=bars).cumsum()), digits)
    open_ = np.round(np.r_[close[0], close[:-1]] * (1 + 1e-5 * random.normal(size=bars)), digits)
    spread = np.abs(random.normal(size=(2, bars))) * 0.002 * close
    high = np.round(np.maximum(open_, close) + spread[0], digits)
    low = np.round(np.minimum(open_, close) - spread[1], digits)
    volume = np.round(random.lognormal(5, 1, bars), 3)
    return pd.DataFrame(
        dict(zip(CANDLE_FIELDS, (open_, high, low, close, volume), strict=True)),
        index=pd.date_range(start, periods=bars, freq=length, name="timestamp"),
    )


def heikin_ashi(frame: pd.DataFrame) -> pd.DataFrame:
    close = frame[["open", "high", "low", "close"]].mean(axis=1).to_numpy()
    opens = [frame["open"].iloc[0]]
    for value in close[:-1]:
        opens.append((opens[-1] + value) / 2)
    out = frame.assign(open=opens, close=close)
    out["high"], out["low"] = out[["open", "high", "close"]].max(axis=1), out[["open", "low", "close"]].min(axis=1)
    return out.round(6)


def written(index: pd.DatetimeIndex, how: str, step: pd.Timedelta) -> list[Any]:
    ns = index.as_unit("ns").asi8
    if how in ("s", "ms", "us", "ns"):
        return list(ns // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[how])
    if how == "ms then us":
        return [n // 10**6 if i < len(ns) // 2 else n // 10**3 for i, n in enumerate(ns)]
    if how == "closing":
        return list((ns + step.value) // 10**6 - 1)
    if how == "workbook":
        return list(np.round(ns / 86_400e9 + 25_569, 8))
    if how == "offset":
        return [t.isoformat() for t in index.tz_localize("UTC").tz_convert("America/New_York")]
    if how == "local":
        return [t.strftime("%Y-%m-%d %H:%M:%S") for t in index.tz_localize("UTC").tz_convert("Europe/Berlin")]
    form = {
        "iso": "%Y-%m-%d %H:%M:%S", "T": "%Y-%m-%dT%H:%M:%S", "Z": "%Y-%m-%dT%H:%M:%SZ", "utc word": "%Y-%m-%d %H:%M:%S UTC",
        "dotted": "%Y.%m.%d %H:%M", "day first": "%d/%m/%Y %H:%M", "month first": "%m/%d/%Y %H:%M", "am pm": "%Y-%m-%d %I:%M %p",
        "in words": "%b %d, %Y" if step >= pd.Timedelta("1D") else "%d %b %Y %H:%M",
        "digits": "%Y%m%d" if step >= pd.Timedelta("1D") else "%Y%m%d%H%M",
    }[how]  # fmt: skip
    return list(index.strftime(form))


@pytest.mark.slow
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 10**6),
    hours=st.sampled_from((1, 4, 8)),
    unit=st.sampled_from(("fraction", "percent", "%", "bps", "named percent", "named bps")),
    how=st.sampled_from(("iso", "Z", "offset", "s", "ms", "us", "dotted", "local")),
    late_ms=st.sampled_from((0, 0, 1, 27, 4000, -1)),
    order=st.sampled_from(("oldest first", "newest first", "shuffled")),
    repeats=st.sampled_from((1, 1, 1, 2, 4, 8)),
    names=st.sampled_from(("timestamp,funding_rate", "fundingTime,fundingRate", "calc_time,last_funding_rate", "Time(UTC),Funding Rate")),
    separator=st.sampled_from((",", ";", "\t")),
)  # fmt: skip
def test_mutated_funding_is_read_equal_or_told(tmp_path: Path, **case: Any) -> None:
    random = np.random.default_rng(case["seed"])
    rates = np.where(random.random(240) < 0.4, 1e-4, np.round(random.normal(1e-4, 1.3e-4, 240), 8))
    index = pd.date_range("2024-02-20", periods=240, freq=f"{case['hours']}h")
    told_scale = {"fraction": 1, "percent": 100, "%": 100, "bps": 1e4, "named percent": 100, "named bps": 1e4}[
        case["unit"]
    ]
    step = pd.Timedelta(hours=case["hours"]) / case["repeats"]
    stamps = pd.date_range(index[0], periods=240 * case["repeats"], freq=step)
    cells: Any = np.repeat(rates, case["repeats"]) * told_scale
    if case["unit"] == "%":
        cells = [f"{rate:.6f}%" for rate in cells]
    time, rate = case["names"].split(",")
    rate = {"named percent": "funding_percent", "named bps": "funding_bps"}.get(case["unit"], rate)
    late = stamps + pd.Timedelta(milliseconds=case["late_ms"]) if case["how"] in ("ms", "us") else stamps
    table = pd.DataFrame({time: written(late, case["how"], step), rate: cells})
    if case["order"] != "oldest first":
        table = table.iloc[::-1] if case["order"] == "newest first" else table.sample(frac=1, random_state=case["seed"])
    path = tmp_path / "funding.csv"
    table.to_csv(path, index=False, sep=case["separator"], decimal="," if case["separator"] == ";" else ".")
    try:
        found, notes = read_settlements(path)
    except InputError as error:
        event("told")
        said = str(error)
    else:
        event("read")
        said = ""
    assert "\n" not in said
    if said:
        return
    assert case["repeats"] == 1, case
    if case["how"] == "local" and case["hours"] == 1:  # nobody can know, so it is said
        assert any("no zone" in note for note in notes)
        return
    assert list(found.timestamps) == list(index), case
    np.testing.assert_allclose(found.rates, rates, atol=1e-9, err_msg=str(case))
    assert notes or told_scale == 1, case


def packed(table: pd.DataFrame, kind: str, header: bool, separator: str, above: str, folder: Path, quote: int) -> Path:
    """The file. A table that is no text loses separator and lines above."""
    path = folder / f"file.{kind}"
    if kind in ("parquet", "feather"):
        frame = table.set_axis([str(name) for name in table.columns], axis=1)
        frame = frame.set_axis([name or "index" for name in frame.columns], axis=1) if header else frame
        getattr(frame, f"to_{kind}")(path)
        return path
    if kind == "json":
        path.write_text(table.to_json(orient="records" if header else "values"))
        return path
    text = io.StringIO()
    text.write(above)
    decimal = "," if separator == ";" else "."
    table.to_csv(text, index=False, header=header, sep=separator, decimal=decimal, quoting=quote)
    raw = text.getvalue().encode("utf-16" if kind == "utf16" else "utf-8-sig" if kind == "bom" else "utf-8")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("BTCUSDT-1h.csv", raw)
    else:
        path.write_bytes(gzip.compress(raw) if kind == "gz" else raw)
    return path


@pytest.mark.slow
@settings(
    max_examples=500, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    seed=st.integers(0, 10**6),
    length=st.sampled_from(LENGTHS),
    bars=st.integers(40, 130),
    start=st.sampled_from(("2024-01-01", "2024-03-29 12:00", "2024-10-26", "2025-01-02", "1999-12-31", "2024-02-10 03:00")),
    cheap=st.booleans(),
    names=st.sampled_from(sorted(NAMES)),
    how=st.sampled_from(TIMES),
    order=st.sampled_from(("oldest first", "newest first", "shuffled", "joined")),
    fault=st.sampled_from(("", "", "", "", "lost", "twice", "header again", "differs", "high below low", "word", "off the grid")),
    more=st.sampled_from(("", "", "ignored", "quote volume", "row numbers")),
    kind=st.sampled_from(("csv", "csv", "csv", "gz", "zip", "bom", "utf16", "json", "parquet", "feather")),
    separator=st.sampled_from((",", ";", "\t", "|")),
    above=st.sampled_from(("", "", "# exported by me\n", "https://www.CryptoDataDownload.com\n", "Symbol: BTCUSDT\nFrom: me\n\n")),
    permuted=st.booleans(),
    quote=st.sampled_from((0, 1)),
    units=st.sampled_from(("", "", "", "dollars", "thousands", "volume in K", "Heikin-Ashi")),
)  # fmt: skip
def test_a_mutated_file_is_read_equal_or_told(tmp_path: Path, **case: Any) -> None:
    # dates alone are days that begin at 00:00
    start = case["start"][:10] if case["length"] == "1D" else case["start"]
    frame = market(case["seed"], case["length"], case["bars"], start, case["cheap"])
    step = pd.Timedelta(case["length"])
    if case["how"] == "local":
        # an hour that comes twice or never, or nobody can know
        local = frame.index.tz_localize("UTC").tz_convert("Europe/Berlin")
        if local[0].utcoffset() == local[-1].utcoffset() or step >= pd.Timedelta("1D"):
            case["how"] = "iso"
    table = frame.reset_index(drop=True)
    table.insert(0, "timestamp", written(frame.index, case["how"], step))
    header = bool(NAMES[case["names"]])
    table.columns = pd.Index(NAMES[case["names"]] or range(6))
    if case["more"] == "ignored" and header:
        table["Adj Close"] = frame["close"].to_numpy() * 0.9
    elif case["more"] == "quote volume":
        table["quote_volume" if header else 6] = np.round(frame["volume"].to_numpy() * frame["close"].to_numpy(), 4)
    elif case["more"] == "row numbers":
        table.insert(0, "Unnamed: 0" if header else -1, np.arange(len(table)))
    if case["permuted"] and header:
        table = table.iloc[:, np.random.default_rng(case["seed"]).permutation(table.shape[1])]
    rows = np.arange(len(table))
    middle = len(rows) // 2
    texts = case["kind"] not in ("parquet", "feather", "json")
    prices = [c for c in table.columns if c in (NAMES[case["names"]][1:5] if header else range(1, 5))]
    size = NAMES[case["names"]][5] if header else 5
    if case["units"] == "Heikin-Ashi":
        smooth = heikin_ashi(frame)
        for name, column in zip(CANDLE_FIELDS[:4], NAMES[case["names"]][1:5] if header else range(1, 5), strict=True):
            table[column] = smooth[name].to_numpy()
    elif case["units"] == "volume in K":
        table[size] = [f"{v / 1000:.6f}K" for v in frame["volume"]]
    elif case["units"] in ("dollars", "thousands") and texts and case["separator"] != ";":
        sign = "$" if case["units"] == "dollars" else ""
        for column in prices:
            table[column] = [f"{sign}{v:,.6f}" for v in table[column]]
    if case["order"] == "newest first":
        rows = rows[::-1]
    elif case["order"] == "shuffled":
        rows = np.random.default_rng(case["seed"]).permutation(rows)
    elif case["order"] == "joined":  # two exports that overlap
        rows = np.r_[rows[: middle + 5], rows[middle:]]
    if case["fault"] == "lost":
        rows = np.delete(rows, middle)
    elif case["fault"] == "twice":
        rows = np.insert(rows, middle, rows[middle])
    table = table.iloc[rows].reset_index(drop=True)
    column = 2 if not header else next(c for c in table.columns if c == NAMES[case["names"]][2])
    if case["fault"] == "off the grid":
        place = table.columns.get_loc(NAMES[case["names"]][0] if header else 0)
        shifted = frame.index.where(np.arange(len(frame)) != rows[middle], frame.index + step * 0.4)
        if case["how"] in ("digits", "in words", "dotted") or step < pd.Timedelta("10min"):
            case["fault"] = ""  # such a time cannot be written
        else:
            table.iloc[:, place] = pd.Series(written(shifted, case["how"], step)).iloc[rows].to_numpy()
    if case["fault"] in ("header again", "word"):
        table = table.astype(object)
        table.iloc[middle] = list(table.columns) if case["fault"] == "header again" else table.iloc[middle].tolist()
        if case["fault"] == "word":
            table.loc[middle, column] = "n/k"
        table = table.astype(str) if case["kind"] in ("parquet", "feather") else table
    elif case["fault"] == "differs":
        again = table.iloc[[middle]].copy()
        again[prices[0]] = [f"{v}1" if isinstance(v, str) else v * 1.01 for v in again[prices[0]]]
        table = pd.concat([table.iloc[:middle], again, table.iloc[middle:]], ignore_index=True)
    elif case["fault"] == "high below low" and header and pd.api.types.is_numeric_dtype(table[column]):
        table.loc[middle, column] = table[column].min() * 0.5
    elif case["fault"] == "high below low":
        case["fault"] = ""
    path = packed(table, case["kind"], header, case["separator"], case["above"], tmp_path, case["quote"])
    try:
        found, interval, _ = read_candles(path, Reading())
    except InputError as error:
        told = str(error)
    else:
        told = ""
    event("told" if told else "read")
    assert "\n" not in told
    assert len(told) < 900
    if told:
        return
    expected = frame
    if case["fault"] == "lost":  # a hole, which is told when the panel is built
        expected = frame.drop(frame.index[np.setdiff1d(np.arange(len(frame)), rows)])
    assert case["fault"] in ("", "lost", "twice"), f"a fault was read: {case}"
    assert case["units"] != "Heikin-Ashi", case
    assert interval == step.value, case
    assert list(found.index) == list(expected.index), case
    np.testing.assert_allclose(found[list(CANDLE_FIELDS)], expected[list(CANDLE_FIELDS)], rtol=1e-9, err_msg=str(case))
