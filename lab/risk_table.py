"""What `lab risk` says: arms against each other, and whether validation knows which network, or which kind, adds something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.panel import FloatArray
from lab.kinds import replayed
from lab.risk import SHIPPED
from lab.tables import bootstrap_interval, markdown, with_interval
from lab.units import Record, grouped
from nas.targets import correlation

#: target, horizon -> (rival, least difference of skill); what the issue asks of the shipped forecast
GOALS = {
    ("range", 6): (("harx", 0.045), ("harxl", 0.015), ("harx + tcn", 0.010)),
    ("volume", 24): (("harx", 0.030),),
}
SEARCH_GOAL = ("harxl + searched x 0.5", "harxl + random 4 x 0.5", 0.010)
NAIVE, BASES = "ewma", ("harx", "harxl")


def risk_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, markdown) of all targets that have results."""
    parts, verdicts = [], []
    keys = ("target", "horizon", "days", "arms")
    for (target, horizon, days, _), mine in grouped([_tupled(r) for r in found], *keys).items():
        name = f"{target}, {horizon} bars, windows of {days[0]}/{days[1]}/{days[2]} days"
        verdict, text = _one(target, horizon, mine)
        verdicts.append(f"{name}: {verdict}")
        parts.append(f"### {name}\n\n{text}")
    head = (
        "Skill: 1 - MSE / MSE of EWMA(48) x constant, on the log. Differences are paired by problem, means with 95% bootstrap "
        "intervals over test stretches; QLIKE after the bias factor of validation. `x w`: share of the networks' mean deviation that is "
        "added to the closed form. Every network is trained on what the closed form leaves, stopped on validation, refitted on "
        "training + validation. `random`: drawn from the very space that `searched` (DARTS-PT, its four likeliest architectures) "
        "searches, all reading all inputs; `random x` is the mean of eight, as many trainings as a search and its four networks "
        "cost; `random 4 x` of as many as were searched.\n\n"
    )
    return " ".join(verdicts), head + "\n\n".join(parts)


def _tupled(record: Record) -> Record:
    settings = {"arms": "all", **record.settings, "days": tuple(record.settings["days"])}
    return Record(record.name, settings, record.result, record.seconds, record.date, record.machine, record.code)


def arm(found: Sequence[Record], name: str, score: str = "skill") -> FloatArray:
    """A score of one arm, stretch by stretch: coins of a stretch move together, so their mean counts once."""
    slots = grouped(found, "slot").values()
    return np.array([np.mean([r.result["arms"][name][score] for r in mine]) for mine in slots], dtype=np.float64)


def _one(target: str, horizon: int, mine: Sequence[Record]) -> tuple[str, str]:
    names = list(mine[0].result["arms"])
    rows = []
    for name in sorted(names, key=lambda name: -arm(mine, name).mean()):
        over = [
            "" if name in (base, NAIVE) else with_interval(arm(mine, name) - arm(mine, base), np.mean) for base in BASES
        ]
        lost = "" if name == "harx" else with_interval(arm(mine, name, "qlike") - arm(mine, "harx", "qlike"), np.mean)
        rows.append([name, f"{arm(mine, name).mean():.3f}", *over, f"{arm(mine, name, 'qlike').mean():.3f}", lost])
    text = markdown(["forecast", "skill", "over HARX", "over HARXL", "QLIKE", "QLIKE over HARX"], rows)
    told = []
    for rival, least in GOALS.get((target, horizon), ()):
        told.append(_goal(mine, SHIPPED, rival, least))
    if SEARCH_GOAL[0] in names:
        told.append(_goal(mine, *SEARCH_GOAL))
    text += "\n\n" + _choice(mine)
    if len({r.settings.get("turn") for r in mine}) == 1:
        text += "\n\n" + replayed(mine)
    slots = len({r.settings["slot"] for r in mine})
    symbols = len({r.settings["symbol"] for r in mine})
    return "; ".join(told) + f" ({len(mine)} problems, {slots} test stretches, {symbols} symbols).", text


def _goal(mine: Sequence[Record], name: str, rival: str, least: float) -> str:
    difference = arm(mine, name) - arm(mine, rival)
    low, _ = bootstrap_interval(difference, np.mean)
    word = "met" if difference.mean() >= least and low > 0.0 else "missed"
    return f"{name} over {rival} {with_interval(difference, np.mean)}, goal {least:+.3f}: {word}"


def _choice(mine: Sequence[Record]) -> str:
    """Rank correlations of validation and test over the networks of a problem, of what they add to the base, and over kinds."""
    kinds = list(dict.fromkeys(str(n[0]) for n in mine[0].result["networks"]))
    rows = []
    for title, chosen in (("all", kinds), *((f"within {kind}", [kind]) for kind in kinds)):
        by_loss, by_correlation = [], []
        for record in mine:
            networks = [n for n in record.result["networks"] if n[0] in chosen]
            gains = np.array([n[1:] for n in networks], dtype=np.float64)
            by_loss.append(correlation(gains[:, 0], gains[:, 1], ranks=True))
            by_correlation.append(correlation(gains[:, 2], gains[:, 3], ranks=True))
        if len(_finite(by_loss)):  # two networks of a kind have no rank correlation
            rows.append([title, *(with_interval(_finite(v), np.mean) for v in (by_loss, by_correlation))])
    means = {
        k: np.array([np.mean([n[1:3] for n in r.result["networks"] if n[0] == k], 0) for r in mine]) for k in kinds
    }
    across = [
        correlation(np.array([means[k][i, 0] for k in kinds]), np.array([means[k][i, 1] for k in kinds]), ranks=True)
        for i in range(len(mine))
    ]
    rows.append(["between kinds", with_interval(_finite(across), np.mean), ""])
    single = markdown(
        ["networks", "validation", "test"],
        [[k, with_interval(means[k][:, 0], np.mean), with_interval(means[k][:, 1], np.mean)] for k in kinds],
    )
    return (
        "Does validation know? Rank correlation, within a problem, of what a network alone adds to HARXL on validation and on test "
        "(as a share of HARXL's squared error, at half its deviation; and by the correlation of its deviation with what HARXL "
        "left).\n\n"
        + markdown(["over", "by loss", "by correlation"], rows)
        + "\n\nWhat one network of a kind adds by itself:\n\n"
        + single
    )


def _finite(values: Sequence[Any]) -> FloatArray:
    found = np.array(values, dtype=np.float64)
    return found[np.isfinite(found)]
