"""Somebody else's forecasts, judged: a file goes in, the command trades it under costs, the run says what came of it."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from commands.walkforward import app
from data import load_panel
from reports import load_run

panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-04-01", source="simulated")
change = pd.Series(panel.field("close")[:, 0]).pct_change(24).fillna(0.0)
told = pd.DataFrame({"timestamp": panel.timestamps, "momentum": change, "reversal": -change})
told.to_parquet("told.parquet")

words = (
    "--symbol BTCUSDT --source simulated --start 2024-01-01 --end 2024-04-01 --forecasts told.parquet --variant none"
)
small = "--train 700 --validation 400 --test 400 --baselines none --rules none --evidence 1 --jobs 1 --no-pages --quiet --json"
with redirect_stdout(StringIO()):  # the command of the same name: python -m strategies.walkforward
    app([*words.split(), *small.split()], standalone_mode=False)
run = load_run(Path("reports/latest"))

picture = Figure(figsize=(9, 3.2), layout="constrained")
axis = picture.add_subplot()
for name in run.strategies:
    sharpe = run.info["headline"][name]["sharpe"]
    print(f"{run.title(name)}: Sharpe {sharpe:.2f} after {run.charged}")
    axis.plot(run.equity.index, run.equity[name], label=f"{run.title(name)}, Sharpe {sharpe:.2f}")
axis.set(title="Forecasts that were not made here, traded after their windows' choices", ylabel="equity")
axis.legend(frameon=False)
