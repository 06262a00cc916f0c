"""A searched network as a scikit-learn estimator, in a cross-validation in order of time; its forecasts as a file that anybody judges."""

import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit

from data import load_panel
from nas import SearchForecaster

panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-05-01")
names = ["open", "high", "low", "close", "volume"]
candles = pd.DataFrame({name: panel.column(name, "BTCUSDT") for name in names}, pd.DatetimeIndex(panel.timestamps))

model = SearchForecaster(variant="darts", target="return", horizon=6, ops=("zero", "conv3", "ema12"), nodes=1, epochs=2)
parts = []
for past, ahead in TimeSeriesSplit(n_splits=3).split(candles):
    fitted = clone(model).fit(candles.iloc[past])
    parts.append(pd.Series(fitted.predict(candles.iloc[ahead]), candles.index[ahead]))
    print(f"{len(past)} bars learned from, {len(ahead)} forecast: {fitted.result_.text}")

table = pd.concat(parts).rename("forecast").rename_axis("timestamp").reset_index()
table.to_parquet("forecasts.parquet")  # python -m strategies.walkforward --forecasts forecasts.parquet --variant none
