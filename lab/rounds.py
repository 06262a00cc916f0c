"""The last round of a search against the rival of equal compute: random architectures, trained and chosen as its finalists are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from lab.comparison import SEARCH_COST
from lab.tables import bootstrap_interval, comparison_table, markdown, with_interval
from lab.units import Record, grouped

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
    spent = SEARCH_COST[record.settings.get("space", "small")]

    def best(*parts: tuple[str, int]) -> float:
        pool = [pair for name, count in parts for pair in _pairs(proposals[name])[:count]]
        return min(pool, key=lambda pair: pair[0])[1]

    found = []
    for way, cost in spent.items():
        if way not in proposals:
            continue
        found.append(Arm(way, 1, cost, proposals[way]["test"][0]))
        for size in sizes:
            own = size - size // 2
            found.append(Arm(f"{way}, last round of {size}", size, cost + size, best((way, size))))
            mixed = f"{way}, {own} of its own + {size - own} random"
            found.append(Arm(mixed, size, cost + size, best((way, own), ("random", size - own))))
    counts = {*sizes, *(size + cost for size in (0, *sizes) for way, cost in spent.items() if way in proposals)}
    found += [Arm(f"{RANDOM}, {count}", count, count, best(("random", count))) for count in sorted(counts)]
    return found


def searches_table(found: Sequence[Record]) -> tuple[str, str]:
    """Every way of searching against random architectures, and after that the last round."""
    (verdict, table), (last, rounds) = comparison_table(found), rounds_table(found)
    return (f"{verdict}\n{last}", f"{table}\n\n### The last round\n\n{rounds}") if rounds else (verdict, table)


#: heading of a table -> what its rows are compared with
TABLES = {
    "equal": "Against random architectures of equal compute (`random + validation`, as many as the cost)",
    "many": "Against as many random candidates: are the proposals better, were the search free?",
    "alone": "Against the same search alone (mean)",
    "median": "Mean correlation, and its difference from the median random architecture",
}

TEXT = (
    "`last round of n`: the n likeliest architectures of a search, each trained apart for 20 epochs, the best by validation "
    "(docs/variants.md). `random + validation, n`: n random architectures (others than those of the median), trained and chosen "
    "in exactly that way. `n of its own + m random`: both kinds of candidates in one round. Cost: in trainings of one candidate, "
    "by processor time (`python -m benchmarks.last_round`); a search counts as {counted}: equal "
    "compute means so many more random candidates. Differences are paired by problem; medians, but against the search alone the "
    "mean, since many a last round keeps what the search chose.\n\n"
)
WHY = (
    "\n\nWhy: percentile of the proposals among the random architectures of the median (50%: no better), how much they differ from "
    "each other (standard deviation of their test correlations within a problem), and whether validation knows which is best (rank "
    "correlation, within a problem, of the forecast it saw and the one on test; 0: it does not).\n\n"
)
QUALITY = [
    "problems",
    "proposals of",
    "each",
    "percentile of the first",
    "of the others",
    "spread",
    "validation and test",
]


def rounds_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, text and tables) of the problems whose records hold proposals; empty where none does."""
    markets = grouped([record for record in found if record.settings.get("finalists")], "market")
    if not markets:
        return "", ""
    cells: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in TABLES}
    costs: dict[str, int] = {}
    verdicts, quality = [], []
    for (market,), mine in markets.items():
        middle = np.array([np.median(record.result["random"]) for record in mine])
        each = [arms(record) for record in mine]
        tests = {arm.name: np.array([found[k].test for found in each]) for k, arm in enumerate(each[0])}
        won: dict[str, list[tuple[str, int]]] = {"above": [], "below": [], "alone": []}
        for arm in each[0]:
            values, costs[arm.name] = tests[arm.name], arm.cost
            row = {kind: cells[kind].setdefault(arm.name, {}) for kind in TABLES}
            row["median"][market] = f"{values.mean():.3f}; {with_interval(values - middle, np.median)}"
            if arm.name.startswith(RANDOM):
                continue
            way, equal = arm.name.split(",")[0], values - tests[f"{RANDOM}, {arm.cost}"]
            row["equal"][market] = with_interval(equal, np.median)
            if arm.name == way:
                continue
            row["many"][market] = with_interval(values - tests[f"{RANDOM}, {arm.candidates}"], np.median)
            row["alone"][market] = with_interval(values - tests[way], np.mean)
            if "last round" in arm.name:
                low, high = bootstrap_interval(equal, np.median)
                won["above"] += [(way, arm.candidates)] if low > 0.0 else []
                won["below"] += [(way, arm.candidates)] if high < 0.0 else []
                more = bootstrap_interval(values - tests[way], np.mean)[0] > 0.0
                won["alone"] += [(way, arm.candidates)] if more else []
        verdicts.append(
            f"Last round (candidates), {market}, {len(mine)} problems: better than random architectures of equal compute for "
            f"{_listed(won['above'])}; worse for {_listed(won['below'])}; better than the same search alone (mean) for "
            f"{_listed(won['alone'])}."
        )
        quality += _quality(market, mine)
    names = [market for (market,) in markets]
    shown = {*next(iter(markets.values()))[0].settings["finalists"], max(costs.values())}
    tables = []
    for kind, title in TABLES.items():
        rows = [
            [name, str(costs[name]), *(row[market] for market in names)]
            for name, row in cells[kind].items()
            if row and not (name.startswith(RANDOM) and costs[name] not in shown)  # the others only serve as rivals
        ]
        tables.append(f"**{title}**\n\n{markdown(['way', 'cost', *names], rows)}")
    spent = SEARCH_COST[found[0].settings.get("space", "small")]
    counted = ", ".join(f"{way} {cost}" for way, cost in spent.items())
    return "\n".join(verdicts), TEXT.format(counted=counted) + "\n\n".join(tables) + WHY + markdown(QUALITY, quality)


def _quality(market: str, mine: Sequence[Record]) -> list[list[str]]:
    """What there was to choose among, per source of proposals."""
    random, rows = np.array([record.result["random"] for record in mine]), []
    for name in mine[0].result["proposals"]:
        test, score = (
            np.array([record.result["proposals"][name][kind] for record in mine]) for kind in ("test", "score")
        )
        places = (random[:, None, :] < test[:, :, None]).mean(2)
        agreement = np.array([spearmanr(-s, t).statistic for s, t in zip(score, test, strict=True)])
        low, high = bootstrap_interval(agreement, np.mean)
        rows.append(
            [market, name, str(test.shape[1]), f"{places[:, 0].mean():.0%}", f"{places[:, 1:].mean():.0%}", f"{test.std(1).mean():.3f}",
             f"{agreement.mean():+.2f} ({low:+.2f} to {high:+.2f})"]
        )  # fmt: skip
    return rows


def _listed(won: Sequence[tuple[str, int]]) -> str:
    """darts (3, 5) and perturbation (8); or none."""
    sizes = {way: ", ".join(str(size) for name, size in won if name == way) for way, _ in won}
    return " and ".join(f"{way} ({text})" for way, text in sizes.items()) or "none"


def _pairs(proposals: dict[str, list[float]]) -> list[tuple[float, float]]:
    return list(zip(proposals["score"], proposals["test"], strict=True))
