"""A new data source: anything that gives a table of candles per symbol. Here a database; checks, alignment and gaps are shared."""

import sqlite3

import pandas as pd

from data.assembly import build_panel, check_candles, infer_interval_ns
from data.panel import Panel
from data.sources import load_panel


def from_sqlite(connection: sqlite3.Connection, symbols: list[str]) -> Panel:
    """Table candles(symbol, timestamp, open, high, low, close, volume); timestamp is the opening time, UTC."""
    query = "select timestamp, open, high, low, close, volume from candles where symbol = ? order by timestamp"
    tables = {}
    for symbol in symbols:
        tables[symbol] = pd.read_sql(
            query, connection, params=[symbol], index_col="timestamp", parse_dates=["timestamp"]
        )
        check_candles(tables[symbol], symbol)  # InputError, one line, names the first bad row
    return build_panel(tables, infer_interval_ns(tables[symbols[0]], symbols[0]), source="sqlite")


connection = sqlite3.connect(":memory:")
market = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-01-08", source="simulated")
candles = pd.DataFrame(market.values[:, 0, :5], columns=market.fields[:5])
candles.assign(symbol="BTCUSDT", timestamp=market.timestamps.astype(str)).to_sql("candles", connection, index=False)
panel = from_sqlite(connection, ["BTCUSDT"])
print(f"{len(panel)} bars of {panel.assets[0]} from {panel.source}, fields {', '.join(panel.fields)}")
