"""The last round of a search against the rival of equal compute: random architectures, trained and chosen as its finalists are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from data.panel import FloatArray
from nas.lab.comparison import SEARCH_COST
from nas.lab.tables import bootstrap_interval, comparison_table, markdown
from nas.lab.units import Record, grouped

RANDOM = "random + validation"


@dataclass(frozen=True)
class Arm:
    """What one way of choosing gave on a problem. candidates: trained apart; cost: all of it, in trainings of one; test: correlation."""

    name: str
    candidates: int
    cost: int
    test: float


def arms(record: Record) -> list[Arm]:
    """Every way of choosing among the proposals of one problem: the one with the least validation loss, the first of equals."""
    proposals, sizes = record.result["proposals"], record.settings["finalists"]

    def best(*parts: tuple[str, int]) -> float:
        pool = [pair for name, count in parts for pair in _pairs(proposals[name])[:count]]
        return min(pool, key=lambda pair: pair[0])[1]

    found = []
    for way, cost in SEARCH_COST.items():
        if way not in proposals:
            continue
        found.append(Arm(way, 1, cost, proposals[way]["test"][0]))
        for size in sizes:
            own = size - size // 2
            found.append(Arm(f"{way}, last round of {size}", size, cost + size, best((way, size))))
            mixed = f"{way}, {own} of its own + {size - own} random"
            found.append(Arm(mixed, size, cost + size, best((way, own), ("random", size - own))))
    counts = {*sizes, *(size + cost for size in (0, *sizes) for way, cost in SEARCH_COST.items() if way in proposals)}
    found += [Arm(f"{RANDOM}, {count}", count, count, best(("random", count))) for count in sorted(counts)]
    return found


def searches_table(found: Sequence[Record]) -> tuple[str, str]:
    """Every way of searching against random architectures, and after that the last round."""
    (verdict, table), (last, rounds) = comparison_table(found), rounds_table(found)
    return (f"{verdict}\n{last}", f"{table}\n\n### The last round\n\n{rounds}") if rounds else (verdict, table)


def rounds_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, text and table) of the problems whose records hold proposals; empty where none does."""
    mine_only = [record for record in found if record.settings.get("finalists")]
    if not mine_only:
        return "", ""

    def told(values: FloatArray, statistic: Any) -> str:
        return "{:+.3f} ({:+.3f} to {:+.3f})".format(statistic(values), *bootstrap_interval(values, statistic))

    rows, verdicts, quality = [], [], []
    better: list[str] = []
    for (market,), mine in grouped(mine_only, "market").items():
        random = np.array([record.result["random"] for record in mine])
        middle = np.median(random, 1)
        each = [arms(record) for record in mine]
        above: list[str] = []
        below: list[str] = []
        tests = {arm.name: np.array([found[k].test for found in each]) for k, arm in enumerate(each[0])}
        for arm in each[0]:
            values = tests[arm.name]
            percentile = float(np.median((random < values[:, None]).mean(1)))
            row = [
                market,
                arm.name,
                str(arm.cost),
                f"{values.mean():.3f}",
                f"{percentile:.0%}",
                told(values - middle, np.median),
            ]
            if arm.name.startswith(RANDOM):
                if arm.candidates in (
                    *mine[0].settings["finalists"],
                    each[0][-1].candidates,
                ):  # the others only serve as rivals
                    rows.append([*row, "", "", ""])
                continue
            way = arm.name.split(",")[0]
            as_many = tests[f"{RANDOM}, {arm.candidates}"] if arm.candidates > 1 else None
            equal = values - tests[f"{RANDOM}, {arm.cost}"]
            alone = told(values - tests[way], np.mean) if arm.name != way else ""
            rows.append(
                [*row, told(values - as_many, np.median) if as_many is not None else "", told(equal, np.median), alone]
            )
            if "last round" in arm.name:
                low, high = bootstrap_interval(equal, np.median)
                short = f"{way} ({arm.candidates})"
                above += [short] if low > 0.0 else []
                below += [short] if high < 0.0 else []
                if bootstrap_interval(values - tests[way], np.mean)[0] > 0.0:
                    better.append(f"{market} {short}")
        verdicts.append(
            f"{market} ({len(mine)} problems): better for {', '.join(above) or 'none'}; worse for {', '.join(below) or 'none'}"
        )
        for name in mine[0].result["proposals"]:
            test, score = (
                np.array([record.result["proposals"][name][kind] for record in mine]) for kind in ("test", "score")
            )
            places = (random[:, None, :] < test[:, :, None]).mean(2)
            agreement = np.array([spearmanr(-s, t).statistic for s, t in zip(score, test, strict=True)])
            low, high = bootstrap_interval(agreement, np.mean)
            quality.append(
                [market, name, str(test.shape[1]), f"{places[:, 0].mean():.0%}", f"{places[:, 1:].mean():.0%}", f"{test.std(1).mean():.3f}",
                 f"{agreement.mean():+.2f} ({low:+.2f} to {high:+.2f})"]
            )  # fmt: skip
    verdict = "Last round (candidates) against random architectures at equal compute: " + ". ".join(verdicts) + "."
    verdict += (
        f"\nLast round (candidates) against the same search without it, mean: better for {', '.join(better) or 'none'}."
    )
    costs = ", ".join(f"{way} {cost}" for way, cost in SEARCH_COST.items())
    text = (
        "`last round of n`: the n likeliest architectures of a search, each trained apart for 20 epochs, the best by validation "
        "(docs/variants.md). `random + validation, n`: n random architectures (others than those of the median), trained and chosen "
        "in exactly that way. `n of its own + m random`: both kinds of candidates in one round. Cost: in trainings of one candidate, "
        f"by processor time; a search counts as {costs} (measured 2.2 to 2.9 and 2.7 to 3.7; `python -m benchmarks.last_round`): equal "
        "compute means so many more random candidates. Differences are paired by problem; medians, but against the search alone the "
        "mean, since many a last round keeps what the search chose.\n\n"
    )
    head = ["problems", "way", "cost", "mean correlation", "median percentile", "against the median random", "random, as many candidates",
            "random, equal compute", "the search alone"]  # fmt: skip
    why = (
        "\n\nWhy: percentile of the proposals among the random architectures of the median (50%: no better), how much they differ from "
        "each other (standard deviation of their test correlations within a problem), and whether validation knows which is best (rank "
        "correlation, within a problem, of the forecast it saw and the one on test; 0: it does not).\n\n"
    )
    what = [
        "problems",
        "proposals of",
        "each",
        "percentile of the first",
        "of the others",
        "spread",
        "validation and test",
    ]
    return verdict, text + markdown(head, rows) + why + markdown(what, quality)


def _pairs(proposals: dict[str, list[float]]) -> list[tuple[float, float]]:
    return list(zip(proposals["score"], proposals["test"], strict=True))
