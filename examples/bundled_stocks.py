"""Real prices without a network: twenty US stocks and the S&P 500, from packages that are installed anyway."""

import numpy as np
from matplotlib.figure import Figure

from data import load_panel
from strategies.backtest import backtest
from strategies.backtest.rules import RULES
from strategies.backtest.terms import Account

picture = Figure(figsize=(9, 3.2), layout="constrained")
left, right = picture.subplots(1, 2)
index = load_panel(["SP500"], source="bundled", start="2004-01-01")
first = 300
for name in ("buy_and_hold", "sma_cross"):
    targets = RULES[name](index, 0)[first:, None]
    result = backtest(index, targets, start=first, stop=len(index), name=name, account=Account(kind="spot"))
    print(f"S&P 500, {name}: {result.equity[-1] / result.equity[0]:.2f} times after costs")
    left.plot(index.timestamps[first:][-len(result.equity) :], result.equity, label=name.replace("_", " "))
left.set(title="S&P 500 from 2004, after costs")
left.legend(frameon=False)
stocks = load_panel(["STOCKS20"], source="bundled", start="2010-01-01")
close = stocks.field("close")
grown = close[-1] / close[0]
order = np.argsort(grown)
right.barh([stocks.assets[k] for k in order], grown[order], color="#3b6fb6")
right.set(title="20 stocks from 2010, times", xscale="log")
right.tick_params(axis="y", labelsize=6)
print(
    f"{len(stocks.assets)} stocks: from {grown.min():.1f} to {grown.max():.1f} times; they are those that were large in 2022"
)
