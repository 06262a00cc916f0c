"""The power of PBO: how much skill one configuration needs among others without any until PBO falls below 0.1.

`python -m benchmarks.overfitting` prints, per length, number of configurations, correlation between them and number of blocks,
the mean PBO over planted matrices at rising annual Sharpe ratios, and the ratio at which it crosses 0.1, beside the estimate of
`needed_sharpe` (docs/reports.md says why). Nothing is chosen after the fact: the grid is written below.
"""

from __future__ import annotations

import math
import sys
from typing import Annotated

import numpy as np
import typer

from reports.statistics import DAYS_PER_YEAR, overfitting

BAR = 0.1
SHARPES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
MATRICES = 40
# (days, configurations, correlation, blocks)
CASES = (
    (730, 40, 0.0, 16), (730, 40, 0.0, 10), (730, 40, 0.0, 6),  # does the number of splits matter?
    (365, 40, 0.0, 10), (1460, 40, 0.0, 10), (2920, 40, 0.0, 10),  # length
    (730, 10, 0.0, 10), (730, 150, 0.0, 10),  # configurations
    (730, 40, 0.5, 10), (730, 40, 0.9, 10),  # correlation between them
)  # fmt: skip


def planted(
    days: int, configurations: int, correlation: float, sharpe: float, random: np.random.Generator
) -> np.ndarray:
    """[day, configuration] normal daily returns of 1% volatility with one common factor; the first one has the annual Sharpe ratio."""
    common = random.normal(size=(days, 1))
    own = random.normal(size=(days, configurations))
    returns = math.sqrt(correlation) * common + math.sqrt(1.0 - correlation) * own
    returns[:, 0] += sharpe / math.sqrt(DAYS_PER_YEAR)
    return 0.01 * returns


def mean_pbo(days: int, configurations: int, correlation: float, blocks: int, sharpe: float, matrices: int) -> float:
    random = np.random.default_rng([days, configurations, round(100 * correlation), blocks, round(100 * sharpe)])
    found = [overfitting(planted(days, configurations, correlation, sharpe, random), blocks) for _ in range(matrices)]
    return float(np.mean([each.pbo for each in found if each is not None]))


def needed_sharpe(days: int, configurations: int, correlation: float, bar: float = BAR, draws: int = 20_000) -> float:
    """Annual Sharpe ratio at which the skilled configuration loses the first half of the days to a worthless one in 2 x bar of
    the splits; a worthless winner then falls to the lower half in every second split."""
    random = np.random.default_rng(0)
    own = random.normal(size=(draws, configurations)) * math.sqrt(1.0 - correlation)
    margin = own[:, 1:].max(axis=1) - own[:, 0]
    return float(np.quantile(margin, 1.0 - 2.0 * bar) / math.sqrt(days / 2.0 / DAYS_PER_YEAR))


def crossing(sharpes: tuple[float, ...], values: list[float], bar: float = BAR) -> float:
    """Where PBO falls below the bar, between two points of the grid; NaN where it never does."""
    for k in range(1, len(values)):
        if values[k] < bar <= values[k - 1]:
            share = (values[k - 1] - bar) / (values[k - 1] - values[k])
            return sharpes[k - 1] + share * (sharpes[k] - sharpes[k - 1])
    return math.nan


def main(
    matrices: Annotated[int, typer.Option(help="Planted matrices per figure.")] = MATRICES,
    cases: Annotated[int, typer.Option(help="Rows of the grid, from the first one on.")] = len(CASES),
) -> None:
    """Print the grid: mean PBO, the Sharpe ratio that it needs, and the estimate."""
    print(
        f"mean PBO of {matrices} matrices; one configuration has the annual Sharpe ratio of the column, the others none"
    )
    print(
        f"{'days':>5} {'configs':>7} {'corr':>5} {'blocks':>6} "
        + " ".join(f"{s:>5g}" for s in SHARPES)
        + "  needed  estimate"
    )
    for case in CASES[:cases]:
        values = []
        for sharpe in SHARPES:
            values.append(mean_pbo(*case, sharpe, matrices))
            sys.stderr.write(".")
            sys.stderr.flush()
        days, configurations, correlation, blocks = case
        print(
            f"{days:>5} {configurations:>7} {correlation:>5.1f} {blocks:>6} "
            + " ".join(f"{v:>5.2f}" for v in values)
            + f"  {crossing(SHARPES, values):>6.2f}  {needed_sharpe(days, configurations, correlation):>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
