"""The run's answer in words, made from its numbers; tests hold every sentence to its figures on a grid of cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.judged_section import convicted
from reports.luck import LuckSection
from reports.performance import Performance
from reports.run_folder import JUDGED, REGARDLESS, SEARCHED, Run
from reports.statistics import CONFIDENCE, Luck, Overfitting, Proof, after_looks, proof


@dataclass(frozen=True)
class Verdict:
    """headline: one sentence. tone: `good`, `bad` or `open`, for the colour only; the words say it as well.

    claim: `beat` (it earned, and more than the rival), `earned` (more than luck explains) or nothing; each at 95% after every look.
    """

    headline: str
    details: tuple[str, ...]
    tone: str
    claim: str = ""


def verdict(run: Run, rows: Sequence[Performance], luck: LuckSection) -> Verdict:
    """`beat` needs both: a true Sharpe ratio above zero and above the rival's, each at 95% after every look at these days."""
    # of several (policies, forecasts that were not made here) the best is told, and that it is the best of so many counts as looks
    candidates = [row for row in rows if run.kind(row.strategy) == (JUDGED if run.judged else SEARCHED)]
    searched = _best(candidates)
    rival = _best([row for row in rows if run.kind(row.strategy) in {"rule", "network"}])
    looks = None if luck.look.total is None else luck.look.total * max(1, len(candidates))
    benchmark = _best([row for row in rows if run.kind(row.strategy) == "benchmark"])
    if searched is None:
        return Verdict("This run has neither a searched strategy nor one to judge: nothing to say.", (), "open")
    against = rival or benchmark
    if against is None:
        return Verdict("There is no rival to compare the searched strategy with.", (), "open")
    name = run.title(against.strategy)
    sort = "the best hand-designed one" if rival else "the benchmark"
    chance = luck.strategies[searched.strategy]
    other = f"{sort} ({name})"
    if math.isnan(searched.sharpe):
        return Verdict(
            _flat_headline(_subject(run, searched), against, other),
            (
                f"It returned 0.0%; {name} returned {against.total_return:+.1%}.",
                *_regardless(rows),
                *_too_short(luck, chance),
            ),
            "open" if against.total_return < 0.0 else "bad",
        )
    difference = searched.sharpe - _sharpe(against)
    found = proof(
        luck.daily[searched.strategy].to_numpy(),
        luck.daily[against.strategy].to_numpy(),
        looks,
        run.days_per_year,
    )
    enough = luck.resampled is not None
    leaks = convicted(run, searched.strategy)
    certain = not leaks and enough and found.holds and difference > 0.0 and searched.total_return > 0.0
    measured = f"difference {difference:+.2f} Sharpe"
    if enough and not math.isnan(found.ahead):
        measured += f", above zero with {chance_of(found.ahead)}"
    skilled = not leaks and enough and after_looks(found.positive, found.looks) >= CONFIDENCE
    headline = _headline(run, searched, other, certain, difference, skilled)
    headline = f"{headline}, after {run.charged} ({measured})."
    details = _facts(run, searched, against, benchmark, rows)
    if leaks:
        details.insert(
            0, f"The leak court convicts it ({', '.join(leaks)}): what it earned here nobody could have earned."
        )
    if enough:
        details += [_could_it_be_luck(luck, found), _power(luck, found, chance.days, run.days_per_year)]
        details += _overfitting(luck.overfitting)
    details += _too_short(luck, chance)
    details += [run.unsealed] if run.unsealed else []
    lost = difference <= 0.0 or searched.bankrupt
    claim = "beat" if certain else "earned" if skilled and not lost and searched.total_return > 0.0 else ""
    return Verdict(headline, tuple(details), "good" if certain else "bad" if lost else "open", claim)


def _headline(
    run: Run, searched: Performance, other: str, certain: bool, difference: float, skilled: bool = False
) -> str:
    """Who beat whom, without the figures. difference: of the Sharpe ratios; certain: proven on every count; skilled: that it earns."""
    subject = _subject(run, searched)
    if searched.bankrupt:
        return f"{subject} lost everything; it did not beat {other}"
    if certain:
        return f"{subject} beat {other}"
    if difference <= 0.0:
        return f"{subject} did not beat {other}"
    if searched.total_return <= 0.0 or searched.sharpe <= 0.0:
        return f"{subject} earned nothing; {other} did worse"
    if skilled:
        return f"{subject} earned more than luck explains; it was ahead of, but did not provably beat, {other}"
    return f"{subject} was ahead of, but did not provably beat, {other}"


def _facts(
    run: Run,
    searched: Performance,
    against: Performance,
    benchmark: Performance | None,
    rows: Sequence[Performance],
) -> list[str]:
    """What was earned, held and lost, in sentences."""
    details = [
        f"It returned {searched.total_return:+.1%} out of sample (Sharpe {searched.sharpe:.2f}, maximum drawdown bar by bar "
        f"{searched.max_drawdown:.1%}); {run.title(against.strategy)} returned {against.total_return:+.1%} ({_sharpe_words(against)}, "
        f"maximum drawdown bar by bar {against.max_drawdown:.1%})."
    ]
    if benchmark is not None and benchmark is not against:
        details.append(f"Buy and hold returned {benchmark.total_return:+.1%} ({_sharpe_words(benchmark)}).")
    flat = sum(window.get("plan") == "flat" for window in run.windows)
    if flat and searched.strategy == run.subject and len(run.judged) < 2:
        details.append(f"It stayed flat in {flat} of {len(run.windows)} windows, where its record was not good enough.")
        details += _regardless(rows)
    if searched.total_return < 0.0:
        details.append("It lost money: staying flat would have been better.")
    return details


def _subject(run: Run, searched: Performance) -> str:
    """What the sentences are about."""
    if run.judged:
        many = f", the best of {len(run.judged)} that were given," if len(run.judged) > 1 else ""
        return f"The forecast {run.title(searched.strategy)}{many}"
    return "The searched strategy" if run.directional else f"{run.title(searched.strategy)},"


def _regardless(rows: Sequence[Performance]) -> list[str]:
    """What trading the flat windows would have brought; no verdict rests on it."""
    found = [row for row in rows if row.strategy == REGARDLESS and row.fills]
    return [f"Traded regardless of its record it would have returned {row.total_return:+.1%}." for row in found]


def _flat_headline(subject: str, against: Performance, other: str) -> str:
    if against.total_return < 0.0:
        return f"{subject} made no trade; staying flat did better than {other}, which lost {-against.total_return:.1%}."
    if against.total_return > 0.0:
        return f"{subject} made no trade, so it did not beat {other}."
    return f"{subject} made no trade, and {other} earned nothing either."


def _sharpe(row: Performance) -> float:
    return 0.0 if math.isnan(row.sharpe) else row.sharpe


def _sharpe_words(row: Performance) -> str:
    return "no trade" if math.isnan(row.sharpe) else f"Sharpe {row.sharpe:.2f}"


def chance_of(probability: float) -> str:
    """A probability that is never rounded over the bar or to certainty: 94.96% is not 95%.

    Examples
    --------
    >>> chance_of(0.9496), chance_of(0.951), chance_of(0.9999), chance_of(0.00001), chance_of(0.5)
    ('94.9%', '95.1%', 'more than 99.9%', 'less than 0.1%', '50%')
    """
    if probability > 0.999:
        return "more than 99.9%"
    if probability < 0.001:
        return "less than 0.1%"
    if abs(probability - CONFIDENCE) < 0.01 or not 0.01 < probability < 0.99:
        return f"{math.floor(probability * 1000 + 1e-9) / 10:.1f}%"
    return f"{probability:.0%}"


def _too_short(luck: LuckSection, chance: Luck) -> list[str]:
    if luck.resampled is not None:
        return []
    days = f"{chance.days} day{'' if chance.days == 1 else 's'}"
    return [f"The run traded {days}: too few to tell luck from skill."]


def _could_it_be_luck(luck: LuckSection, found: Proof) -> str:
    told = luck.look.told
    words = (
        f"Could it be luck? This is {told}"
        if found.looks is not None
        else f"Could it be luck? {told[0].upper()}{told[1:]}"
    )
    if math.isnan(found.positive):
        return f"{words}."
    words += f"; its true Sharpe ratio is above zero with {chance_of(found.positive)}"
    if not math.isnan(found.ahead):
        words += f" and above the rival's with {chance_of(found.ahead)}"
    if found.looks is None:
        return f"{words}, before any count of looks: nothing is proven without it."
    if math.isnan(found.confidence):
        return f"{words}."
    believed = "enough" if found.holds else "not enough"
    if found.looks > 1:
        words += f"; the best of {found.looks} looks without skill would show less with {chance_of(found.confidence)}"
    return f"{words} ({believed}: 95% is asked of the weaker of the two)."


def _power(luck: LuckSection, found: Proof, days: int, days_per_year: float) -> str:
    """What this run could have shown at all."""
    looks = "" if (found.looks or 1) == 1 else f" after {found.looks} looks"
    return (
        f"What it could have shown: {days} days miss a true Sharpe ratio below {found.detectable:.1f}{looks} more often than once in "
        f"five times; {2 * int(days_per_year)} days would do for {found.detectable_two_years:.1f}. Being ahead of a rival takes more."
    )


def _overfitting(found: Overfitting | None) -> list[str]:
    if found is None:
        return []
    told = (
        f"Of {found.configurations} configurations, the best in one half of the days fell below the median in the other in "
        f"{found.pbo:.0%} of the splits (PBO; choosing by chance: 50%) and lost money there in {found.loss:.0%}"
    )
    if found.telling:
        return [f"{told}."]
    why = (
        "those that trade less did better in both halves, which is their costs and no skill"
        if found.activity_rank <= -0.5
        else "a choice that loses is no good choice, however it ranks"
    )
    return [f"{told}: a low PBO says nothing here, {why}."]


def _best(rows: Sequence[Performance]) -> Performance | None:
    """Highest Sharpe; a strategy without one (no trade) stands at zero, behind an equal one that traded."""
    return max(rows, key=lambda row: (_sharpe(row), not math.isnan(row.sharpe)), default=None)
