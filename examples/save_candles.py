"""Candles as a CSV file of the shape that `--data` reads: `python -m examples.save_candles candles.csv` (a simulated year)."""

import sys

import pandas as pd

from data import load_panel
from data.panel import CANDLE_FIELDS

path = sys.argv[1] if len(sys.argv) > 1 else "candles.csv"
panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2025-01-01", source="simulated", seed=7)
table = pd.DataFrame({name: panel.column(name, "BTCUSDT") for name in CANDLE_FIELDS})
table.insert(0, "timestamp", panel.timestamps)  # opening time of each candle, UTC
table.to_csv(path, index=False)
print(f"{path}: {len(table)} candles, columns {', '.join(table.columns)}")
