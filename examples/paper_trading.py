"""What paper trading left in its journal: targets, and the account. Run `python -m strategies.paper --venue local --bars 24` before it."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from strategies.paper.records.journal import Journal

newest = max(Path("reports/paper").glob("*/journal.sqlite"), key=lambda path: path.stat().st_mtime)
journal = Journal(newest, read_only=True)
decisions = pd.DataFrame(
    map(dict, journal.rows("SELECT open_ms, symbol, forecast, target FROM decisions ORDER BY open_ms"))
)
equity = pd.DataFrame(map(dict, journal.rows("SELECT open_ms, equity FROM equity ORDER BY open_ms")))
orders = journal.rows("SELECT * FROM executions")
print(f"{len(decisions)} decisions, {len(orders)} fills, state {journal.get('state')}")

picture = Figure(figsize=(9, 3.2), layout="constrained")
left, right = picture.subplots(1, 2)
left.step(pd.to_datetime(decisions["open_ms"], unit="ms"), decisions["target"], where="post")
left.set(title="Target: part of the account", ylim=(-1.1, 1.1))
right.plot(pd.to_datetime(equity["open_ms"], unit="ms"), equity["equity"].astype(float), marker="o", ms=3)
right.set(title="Equity of the paper account")
picture.autofmt_xdate()
