"""Three coins in one account: the same signal, weighted in three ways, under the same costs."""

import numpy as np
from matplotlib.figure import Figure

from data import load_panel
from nas.features.bank import causal_volatility
from strategies import Portfolio, PositionRule
from strategies.backtest import backtest
from strategies.backtest.portfolio import book_of

FIRST = 800
panel = load_panel(["BTCUSDT", "ETHUSDT", "SOLUSDT"], "60", start="2024-01-01", end="2024-05-01", source="simulated")
volatility = causal_volatility(panel)
close = np.log(panel.field("close"))
momentum = np.zeros_like(close)
momentum[72:] = (close[72:] - close[:-72]) / (volatility[72:] * 72**0.5)  # of three days, in its own deviations
rule = PositionRule(threshold=1.0, target_volatility=0.3)

picture = Figure(figsize=(9, 3.2), layout="constrained")
left, right = picture.subplots(1, 2)
for weighting in ("equal_risk", "volatility_target", "long_short"):
    portfolio = Portfolio(weighting)
    targets = book_of(panel, portfolio.signal(momentum[FIRST:]), volatility, FIRST, rule, portfolio)
    result = backtest(panel, targets, start=FIRST, stop=len(panel), name=weighting)
    print(f"{weighting}: return {result.equity[-1] / 100_000 - 1:+.1%} after costs, net {targets.sum(1).mean():+.2f}")
    left.plot(result.equity, label=weighting)
left.set(title="Equity after costs", xlabel="bars")
left.legend(frameon=False)
right.plot(targets, label=list(panel.assets))
right.set(title="Long and short: part of the account", xlabel="bars")
right.legend(frameon=False, ncols=3)
