"""A new hand-designed rule: past bars in, targets in [-1, 1] out; traded here under the same costs as everything else."""

import numpy as np
import pandas as pd

from data import Panel, load_panel
from data.panel import FloatArray
from strategies.backtest.execution import backtest
from strategies.backtest.rules import RULES, rule


@rule("calm", title="Calm market", source="after Moreira and Muir (2017), Volatility-Managed Portfolios", days=2.0)
def calm(panel: Panel, asset: int, /, days: float) -> FloatArray:
    """Long while the volatility of the last two days is below its median of the last thirty, else flat."""
    bars = round(days * 86_400e9 / panel.interval_ns)
    returns = pd.Series(np.log(panel.field("close")[:, asset])).diff()
    volatility = returns.rolling(bars).std()
    return np.where(volatility < volatility.rolling(15 * bars).median(), 1.0, 0.0)


panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-06-01", source="simulated")
first = 800  # the rule needs 31 days before it says anything
for name in ("calm", "buy_and_hold"):
    targets = RULES[name](panel, 0)[first:, None]
    result = backtest(panel, targets, start=first, stop=len(panel), name=name)
    fills = (result.trades["kind"] == "fill").sum()
    print(f"{name}: return {result.equity[-1] / 100_000 - 1:+.1%} after costs, {fills} fills")
