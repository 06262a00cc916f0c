"""The luck section: what the statistics say of this run's strategies, and what they say where there is nothing to find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.figures import Figure, significant
from reports.performance import daily_frame
from reports.run_folder import BENCHMARK, Run
from reports.statistics import (
    AgainstBenchmark,
    Control,
    Luck,
    Overfitting,
    Resampled,
    against_benchmark,
    control,
    luck,
    overfitting,
    resample,
)
from strategies.walkforward.looks import Look, Register


@dataclass(frozen=True, eq=False)
class LuckSection:
    """daily: [day, strategy] returns. look: at these days, by the register.

    None where the run is too short or lacks the file, said on the page.
    """

    daily: pd.DataFrame
    strategies: dict[str, Luck]
    ledger_rows: int
    configurations: int
    overfitting: Overfitting | None
    against: AgainstBenchmark | None
    resampled: Resampled | None
    control: Control | None
    look: Look

    def figures(self) -> list[Figure]:
        drawn = []
        if self.overfitting is not None:
            drawn.append(_logit_figure(self.overfitting))
        if self.control is not None:
            drawn.append(_control_figure(self.control))
        return drawn


def look_of(run: Run, what: str) -> Look:
    """The look that a run is, counted in the register when `what` shows it (once, however often it does)."""
    first, last = run.equity.index[0], run.equity.index[-1]
    info = {"run_id": run.run_id, "provenance": run.provenance, "headline": run.info.get("headline")}
    return Register().enter_run(what, info, str(first), str(last))


def luck_section(run: Run, look: Look, controlled: bool = True) -> LuckSection:
    """controlled: with the control of the overfitting figures, which no verdict reads."""
    daily = daily_frame(run.equity)[list(run.strategies)]
    trials = trial_matrix(run, daily.index)
    rows = len(run.trials)
    subject = run.subject
    return LuckSection(
        daily=daily,
        strategies={name: luck(name, daily[name].to_numpy(), rows, trials, look.total) for name in daily.columns},
        ledger_rows=rows,
        configurations=trials.shape[1],
        overfitting=overfitting(trials) if trials.shape[1] > 1 else None,
        against=against_benchmark(daily, BENCHMARK),
        resampled=resample(daily, run.days_per_year),
        control=control(subject, daily[subject].to_numpy(), rows, trials, run.days_per_year) if controlled else None,
        look=look,
    )


def trial_matrix(run: Run, days: pd.Index) -> np.ndarray:
    """Out-of-sample daily returns of every configuration on the days of the equity curves: [T, N]; N 0 where unrecorded."""
    if run.trial_returns.empty:
        return np.empty((len(days), 0))
    return run.trial_returns.reindex(days).fillna(0.0).to_numpy(dtype="float64")


def _logit_figure(found: Overfitting) -> Figure:
    counts, edges = np.histogram(found.logits, bins=min(40, 2 * found.configurations + 1))
    middle = (edges[1:] + edges[:-1]) / 2
    return Figure(
        "logits",
        "Where the best configuration in sample landed out of sample",
        f"Histogram of the logit of its relative rank over {len(found.logits):,} splits of the days; left of zero it fell "
        f"to the lower half, which happened in {found.pbo:.0%} of the splits.",
        [
            {
                "type": "bar",
                "x": significant(middle, 4),
                "y": [int(count) for count in counts],
                "width": float(f"{edges[1] - edges[0]:.4g}"),
                "marker": {"color": ["var(--series-4)" if x <= 0 else "var(--series-2)" for x in middle]},
                "name": "splits",
                "hovertemplate": "logit %{x:.2f}: %{y} splits<extra></extra>",
            }
        ],
        {"xaxis": {"title": {"text": "logit of the rank out of sample"}}, "yaxis": {"title": {"text": "splits"}}},
        300,
    )


def _control_figure(found: Control) -> Figure:
    everything = np.append(found.sharpe, found.real)
    margin = 0.05 * float(np.ptp(everything)) + 0.01
    counts, edges = np.histogram(found.sharpe, bins=30, range=(everything.min() - margin, everything.max() + margin))
    top = int(counts.max())
    return Figure(
        "control",
        "White-noise control: Sharpe ratios without any skill",
        f"Histogram of the annual Sharpe ratio of {len(found.sharpe)} copies of the strategy's days with random signs; the real one, "
        f"{found.real:.2f}, is a vertical line, and {found.share_above:.0%} of the copies are at least as good.",
        [
            {
                "type": "bar",
                "x": significant((edges[1:] + edges[:-1]) / 2, 4),
                "y": [int(count) for count in counts],
                "width": float(f"{edges[1] - edges[0]:.4g}"),
                "marker": {"color": "var(--benchmark)"},
                "name": "copies with random signs",
            },
            {
                "type": "scatter",
                "mode": "lines",
                "x": [round(found.real, 3)] * 2,
                "y": [0, top],
                "line": {"color": "var(--series-1)", "width": 3},
                "name": "the real strategy",
            },
        ],
        {"xaxis": {"title": {"text": "Sharpe ratio, annual"}}, "yaxis": {"title": {"text": "copies"}}},
        300,
    )
