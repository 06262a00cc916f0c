"""A new data source: anything that gives a table of candles per symbol. Here a database; checks, alignment and gaps are shared."""

import sqlite3

import pandas as pd

from data import Panel, build_panel, check_candles, interval_ns, load_panel, register_source

connection = sqlite3.connect(":memory:")
market = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-04-01", source="simulated")
candles = pd.DataFrame(market.values[:, 0, :5], market.timestamps.astype(str), market.fields[:5])
candles.assign(symbol="BTCUSDT").to_sql("candles", connection, index_label="timestamp")


def from_sqlite(symbols: list[str], interval: str, **cut) -> Panel:
    """Table candles(symbol, timestamp, open, high, low, close, volume); timestamp is the opening time, UTC."""
    tables, query = {}, "select * from candles where symbol = ? order by timestamp"
    for symbol in symbols:
        found = pd.read_sql(query, connection, "timestamp", params=[symbol], parse_dates=["timestamp"])
        tables[symbol] = found.drop(columns="symbol")
        check_candles(tables[symbol], symbol)  # InputError, one line, names the first bad row
    return build_panel(tables, interval_ns(interval), source="sqlite", **cut)  # cut: start, end, fill_gaps


register_source("sqlite", from_sqlite)
panel = load_panel(["BTCUSDT"], source="sqlite", end="2024-01-08")
print(f"{len(panel)} bars of {panel.assets[0]} from {panel.source}, fields {', '.join(panel.fields)}")
