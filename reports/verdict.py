"""The run's answer in words, made from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.luck import LuckSection
from reports.performance import Performance
from reports.run_folder import SEARCHED, Run
from reports.statistics import CONFIDENCE, Luck


@dataclass(frozen=True)
class Verdict:
    """headline: one sentence. tone: `good`, `bad` or `open`, for the colour only; the words say it as well."""

    headline: str
    details: tuple[str, ...]
    tone: str


def verdict(run: Run, rows: Sequence[Performance], luck: LuckSection) -> Verdict:
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
    chance = luck.strategies[searched.strategy]
    if math.isnan(searched.sharpe):
        return Verdict(
            f"The searched strategy made no trade, so it did not beat {sort} ({name}).",
            (
                f"It stayed flat and returned 0.0%; {name} returned {against.total_return:+.1%}.",
                *_too_short(luck, chance),
            ),
            "bad",
        )
    difference = searched.sharpe - (0.0 if math.isnan(against.sharpe) else against.sharpe)
    interval = None if luck.resampled is None else luck.resampled.difference(searched.strategy, against.strategy)
    certain = interval is not None and interval.low > 0.0 and chance.dsr >= CONFIDENCE
    verb = "did not beat" if difference <= 0 else "beat" if certain else "was ahead of, but did not provably beat,"
    measured = f"difference {difference:+.2f} Sharpe"
    if interval is not None:
        measured += f", 95% interval {interval.low:.2f} to {interval.high:.2f}"
    if not math.isnan(chance.dsr):
        measured += f"; deflated Sharpe {chance.dsr:.2f}"
    subject = "The searched strategy" if run.directional else f"{run.title(searched.strategy)},"
    headline = f"{subject} {verb} {sort} ({name}) after {run.charged} ({measured})."
    details = [
        f"It returned {searched.total_return:+.1%} out of sample (Sharpe {searched.sharpe:.2f}, maximum drawdown "
        f"{searched.max_drawdown:.1%}); {name} returned {against.total_return:+.1%} (Sharpe {against.sharpe:.2f}, "
        f"maximum drawdown {against.max_drawdown:.1%})."
    ]
    if benchmark is not None and benchmark is not against:
        details.append(f"Buy and hold returned {benchmark.total_return:+.1%} (Sharpe {benchmark.sharpe:.2f}).")
    flat = sum(window.get("plan") == "flat" for window in run.windows)
    if flat and searched.strategy == SEARCHED:
        details.append(
            f"It stayed flat in {flat} of {len(run.windows)} windows, where no plan's record was good enough."
        )
    if searched.total_return < 0.0:
        details.append("It lost money: staying flat would have been better.")
    details += _too_short(luck, chance) or [_could_it_be_luck(luck, chance)]
    tone = "bad" if difference <= 0 else "good" if certain else "open"
    return Verdict(headline, tuple(details), tone)


def _too_short(luck: LuckSection, chance: Luck) -> list[str]:
    if luck.resampled is not None:
        return []
    days = f"{chance.days} day{'' if chance.days == 1 else 's'}"
    return [f"The run traded {days}: too few to tell luck from skill."]


def _could_it_be_luck(luck: LuckSection, chance: Luck) -> str:
    words = [f"Could it be luck? {luck.ledger_rows:,} trials are in the ledger"]
    if not math.isnan(chance.dsr):
        believed = "enough" if chance.dsr >= CONFIDENCE else "not enough"
        words.append(
            f"the probability that its true Sharpe ratio is above what the best of so many worthless ones would show is "
            f"{chance.dsr:.0%} ({believed} at the usual 95%)"
        )
    if luck.overfitting is not None:
        words.append(f"the probability of backtest overfitting is {luck.overfitting.pbo:.0%} (choosing by chance: 50%)")
    return "; ".join(words) + "."


def _best(rows: Sequence[Performance]) -> Performance | None:
    """Highest Sharpe; a strategy without one comes last."""
    return max(rows, key=lambda row: -math.inf if math.isnan(row.sharpe) else row.sharpe, default=None)
