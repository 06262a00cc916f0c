"""The run's answer in words, made from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.performance import Performance
from reports.run_folder import Run


@dataclass(frozen=True)
class Verdict:
    """headline: one sentence. tone: `good`, `bad` or `open`, for the colour only; the words say it as well."""

    headline: str
    details: tuple[str, ...]
    tone: str


def verdict(run: Run, rows: Sequence[Performance]) -> Verdict:
    searched = _best([row for row in rows if run.kind(row.strategy) == "searched"])
    rival = _best([row for row in rows if run.kind(row.strategy) in {"rule", "network"}])
    benchmark = _best([row for row in rows if run.kind(row.strategy) == "benchmark"])
    if searched is None:
        return Verdict("This run has no searched strategy: nothing to judge.", (), "open")
    against = rival or benchmark
    if against is None:
        return Verdict("There is no rival to compare the searched strategy with.", (), "open")
    name = run.title(against.strategy)
    sort = "the best hand-designed one" if rival else "the benchmark"
    if math.isnan(searched.sharpe):
        return Verdict(f"The searched strategy made no trade, so it did not beat {sort} ({name}).", (), "bad")
    difference = searched.sharpe - (0.0 if math.isnan(against.sharpe) else against.sharpe)
    verb = "beat" if difference > 0 else "did not beat"
    headline = (
        f"The searched strategy {verb} {sort} ({name}) after costs: Sharpe {searched.sharpe:.2f} against "
        f"{against.sharpe:.2f}, a difference of {difference:+.2f}."
    )
    details = [
        f"It returned {searched.total_return:+.1%} out of sample, maximum drawdown {searched.max_drawdown:.1%}; "
        f"{name} returned {against.total_return:+.1%} with {against.max_drawdown:.1%}."
    ]
    if benchmark is not None and benchmark is not against:
        details.append(f"Buy and hold returned {benchmark.total_return:+.1%} (Sharpe {benchmark.sharpe:.2f}).")
    return Verdict(headline, tuple(details), "good" if difference > 0 else "bad")


def _best(rows: Sequence[Performance]) -> Performance | None:
    """Highest Sharpe; a strategy without one comes last."""
    return max(rows, key=lambda row: -math.inf if math.isnan(row.sharpe) else row.sharpe, default=None)
