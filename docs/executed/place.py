"""The folder in which shown commands are executed: everything that they read, made from a small simulated market."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from data.simulated import simulate
from docs.executed.pages import ROOT, blocks

#: shorter and smaller than any preset; the candles of `data.standin` begin in 2020
SMALLEST = """
train = "500"
validation = "240"
test = "240"
horizon = [3]
ops = ["zero", "identity", "conv3", "ema4", "diff1"]
nodes = 1
channels = 4
search_epochs = 2
search_repeats = 1
training_epochs = 3
evidence = 1.0
"""
SETTINGS = f"""
start = "2024-01-01"
end = "2024-03-24"
{SMALLEST}
baselines = ["none"]
pages = false
"""
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
FIRST = np.datetime64("2024-01-01", "ns")


def candles(symbol: str = "BTCUSDT", *, bars: int) -> pd.DataFrame:
    """Hourly candles with the column `timestamp`, as a user's file holds them."""
    panel = simulate([symbol], "60", start=FIRST, end=FIRST + np.timedelta64(bars, "h"))
    table = pd.DataFrame({name: panel.column(name, symbol) for name in ("open", "high", "low", "close", "volume")})
    table.insert(0, "timestamp", panel.timestamps)
    return table


def own_settings() -> str:
    """`my.toml` of the how-to pages: their ops and features, in the small settings."""
    shown = [
        content
        for name in ("add-an-op", "add-a-feature")
        for kind, content in blocks((ROOT / f"docs/how-to/{name}.md").read_text(encoding="utf-8"))
        if kind == "toml"
    ]
    return re.sub(r"^ops = .*\n", "", SETTINGS, flags=re.MULTILINE) + "\n".join(shown)


def prepare(folder: Path, bars: int = 2_000) -> None:
    """Fill a folder with what the commands of pages read from the working folder; bars: of its candle files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("small", SETTINGS), ("run", SETTINGS), ("my", own_settings())):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    table = candles(bars=bars)
    table.to_csv(folder / "candles.csv", index=False)
    table.to_parquet(folder / "candles.parquet")
    told = np.log(table["close"]).diff(24).fillna(0.0)  # what was is what will be
    pd.DataFrame({"timestamp": table["timestamp"], "symbol": "BTCUSDT", "momentum": told}).to_csv(
        folder / "forecasts.csv", index=False
    )
    paid = pd.DataFrame({"timestamp": table["timestamp"][::8], "funding_rate": 1e-4})
    paid.to_parquet(folder / "funding.parquet")
    (folder / "testnet.env").write_text("BYBIT_API_KEY=key\nBYBIT_API_SECRET=secret\n")
    (folder / "testnet.env").chmod(0o600)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("book.data", "\n".join(map(json.dumps, book())))


def prepare_shared(folder: Path) -> None:
    """`../shared` as the evidence page names it: hourly candles per symbol, and tables of an hourly forecast benchmark."""
    market, tables = folder / "market", folder / "forecast"
    for each in (market, tables):
        each.mkdir(parents=True)
    for symbol in SYMBOLS:
        candles(symbol, bars=17_000).to_parquet(market / f"{symbol}_1h.parquet")
    noise = np.random.default_rng(0).standard_normal((14_400, 2)).cumsum(axis=0)
    for name in ("ETTh1.csv", "ETTh2.csv", "exchange_rate.txt.gz"):
        pd.DataFrame(noise if name[0] == "E" else noise[:3_000]).to_csv(tables / name, index=False, header=False)


def book() -> list[dict[str, object]]:
    """Messages of an order book archive: a snapshot, and a delta every half minute for three minutes."""
    first = 1_733_011_200_000

    def message(k: int, kind: str, size: str) -> dict[str, object]:
        sides = {"b": [["2.0", size], ["1.9", "5"]], "a": [["2.1", size], ["2.2", "5"]]}
        data = {"s": "XRPUSDT", **sides, "u": k + 1, "seq": k + 1}
        return {"topic": "orderbook.500.XRPUSDT", "type": kind, "ts": first + 30_000 * k, "data": data}

    return [message(0, "snapshot", "7"), *(message(k, "delta", str(k)) for k in range(1, 7))]
