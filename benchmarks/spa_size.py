"""How often the page's SPA cries wolf: `python -m benchmarks.spa_size` (about 0.1 s of one core per market).

The GARCH markets of the lab's null study, and three strategies (three speeds, sizes by causal volatility) that trade them without
costs at random, with the trend of past returns, or against it: none is better than buy and hold, so p < 0.05 must come up in at most
5% of the markets. Following the trend makes returns with a long right tail, going against it a long left one.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.progress import track
from scipy.stats import binomtest

from data.panel import FloatArray
from lab.markets import garch
from reports.statistics import against_benchmark, block_days

DAYS, HOURS, WARM_UP = 210, 24, 800  # seven windows of 30 days, as in the null study
SPANS = (12, 48, 200)  # bars over which a forecast is smoothed: how long a position is held
TRADES = ("random", "trend", "reversion")
FIRST_SEED = 50_000


def daily_returns(seed: int, trade: str, rng: np.random.Generator) -> pd.DataFrame:
    """One market: [day, strategy] of three strategies that know nothing, and of buy and hold."""
    bars = DAYS * HOURS
    close = garch(bars + WARM_UP, FIRST_SEED + seed).field("close")[:, 0]
    returns = (close[1:] / close[:-1] - 1.0)[-bars:]
    volatility = np.sqrt(pd.Series(returns**2).ewm(span=96).mean().shift(1).bfill().to_numpy())
    size = np.clip(0.3 / np.sqrt(365.0 * HOURS) / volatility, 0.0, 2.0)

    def by_day(values: FloatArray) -> FloatArray:
        summed: FloatArray = values.reshape(DAYS, HOURS).sum(1)
        return summed

    columns = {}
    for span in SPANS:
        heard = rng.standard_normal(bars) if trade == "random" else np.append(0.0, returns[:-1] / volatility[:-1])
        forecast = pd.Series(heard).ewm(span=span).mean().to_numpy() * (-1.0 if trade == "reversion" else 1.0)
        held = np.where(np.abs(forecast) > 0.5 * forecast.std(), np.sign(forecast), 0.0) * size
        columns[f"{trade}, {span} bars"] = by_day(held * returns)
    return pd.DataFrame({**columns, "buy_and_hold": by_day(returns)})


def main(
    markets: Annotated[int, typer.Option(help="Simulated markets.", min=1)] = 1000,
) -> None:
    for trade in TRADES:
        rng = np.random.default_rng(5)
        found, blocks = [], []
        for seed in track(range(markets), trade):
            daily = daily_returns(seed, trade, rng)
            against = against_benchmark(daily, "buy_and_hold")
            assert against is not None
            found.append(against.consistent)
            blocks.append(block_days(daily))
        told = []
        for level in (0.05, 0.10):
            hits = int((np.array(found) < level).sum())
            interval = binomtest(hits, markets).proportion_ci(method="exact")
            told.append(
                f"p < {level:.2f} in {hits} of {markets}, {hits / markets:.1%} ({interval.low:.1%} to {interval.high:.1%})"
            )
        print(f"{trade}: {'; '.join(told)}; mean block of the bootstrap {np.mean(blocks):.1f} days", flush=True)


if __name__ == "__main__":
    typer.run(main)
