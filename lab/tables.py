"""From records to verdicts and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from data.panel import FloatArray
from lab.units import Record, grouped

DRAWS, SEED = 10_000, 7
DSR_LEVEL, DSR_SHARE = 0.95, 0.05
SPA_LEVEL, SPA_SHARE = 0.05, 0.10
PBO_DISTANCE = 0.1
DETECTION_Z = 1.645  # one-sided 5%: what no signal passes in one of twenty


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def bootstrap_interval(values: FloatArray, statistic: Callable[..., FloatArray] = np.median) -> tuple[float, float]:
    """95% percentile bootstrap of the median, or of another statistic (values, axis)."""
    rng = np.random.default_rng(SEED)
    drawn = statistic(values[rng.integers(0, len(values), (DRAWS, len(values)))], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def with_interval(values: FloatArray, statistic: Callable[..., Any] = np.median) -> str:
    """A statistic and its `bootstrap_interval`, as tables show them."""
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(statistic(values), *bootstrap_interval(values, statistic))


def _known(values: Sequence[Any]) -> FloatArray:
    return np.array([v for v in values if v is not None], dtype=np.float64)


def _share(hits: int, count: int) -> str:
    interval = binomtest(hits, count).proportion_ci(method="exact")
    return f"{hits}/{count} ({interval.low:.0%} to {interval.high:.0%})"


# -- null ------------------------------------------------------------------------------------------------------------------


def null_table(found: Sequence[Record]) -> tuple[str, str]:
    """A run without a trade has no Sharpe ratio: it cannot pass the deflated test and counts as a run that did not."""
    rows, failed, notes = [], [], []
    for (market,), mine in grouped(found, "market").items():
        for traded in ("shipped", "bare"):
            results = [r.result[traded] for r in mine]
            n = len(results)
            sharpe, pbo = _known([r["sharpe"] for r in results]), _known([r["pbo"] for r in results])
            dsr = sum((r["dsr"] or 0.0) >= DSR_LEVEL for r in results)
            few = sum((r["dsr_configurations"] or 0.0) >= DSR_LEVEL for r in results)
            spa = sum(r["spa"] is not None and r["spa"] < SPA_LEVEL for r in results)
            flat = sum(r["flat_windows"] for r in results) / sum(r["windows"] for r in results)
            pbo_error = float(pbo.std(ddof=1) / math.sqrt(len(pbo)))
            quantiles = " / ".join(f"{q:.2f}" for q in np.quantile(sharpe, [0.05, 0.5, 0.95]))
            error = float(sharpe.std(ddof=1) / math.sqrt(len(sharpe)))
            rows.append(
                [
                    f"{market}, {traded}", str(n), f"{flat:.0%}", f"{sharpe.mean():+.2f} ± {error:.2f}", quantiles, _share(dsr, n),
                    _share(few, n), f"{pbo.mean():.2f} ± {pbo_error:.2f}", _share(spa, n),
                ]
            )  # fmt: skip
            if dsr / n > DSR_SHARE:
                failed.append(f"{market}, {traded}: DSR >= 0.95 in {dsr / n:.0%}")
            if abs(pbo.mean() - 0.5) > PBO_DISTANCE:
                failed.append(f"{market}, {traded}: mean PBO {pbo.mean():.2f}")
            if spa / n > SPA_SHARE:
                failed.append(f"{market}, {traded}: SPA p < 0.05 in {spa / n:.0%}")
        correlation = _known([r.result["bare"]["forecast_correlation"] for r in mine])
        notes.append(
            f"{market} {correlation.mean():+.4f} ± {correlation.std(ddof=1) / math.sqrt(len(correlation)):.4f}"
        )
    verdict = (
        "All targets hold: DSR >= 0.95 in at most 5% of the runs, mean PBO 0.5 ± 0.1, SPA p < 0.05 in at most 10%."
        if not failed
        else "Not all targets hold: " + "; ".join(failed) + "."
    )
    head = ["market", "runs", "flat windows", "Sharpe, mean", "5 / 50 / 95%", "DSR >= 0.95", "same, N = configurations", "PBO, mean",
            "SPA p < 0.05"]  # fmt: skip
    text = (
        "The whole walk-forward (features, search, training, plans, Backtrader) on markets that are martingales. `garch`: simulated, with "
        "spells of high and low volatility. `permuted`: real hourly candles whose days are in random order, each return with its sign "
        "drawn at random. `shipped`: settings of a user, costs and the bar of evidence included; most windows then stay flat. `bare`: the "
        "same searches and trainings traded without costs and without that bar, where a leak of the future would show as profit. "
        "Shares with exact 95% intervals; ± is one standard error.\n\n"
    )
    told = (
        "\n\nMean correlation of unseen forecasts and what came (a leak would lift it above zero): "
        + "; ".join(notes)
        + "."
    )
    return verdict, text + markdown(head, rows) + told + _costs_and_pbo(found)


def _costs_and_pbo(found: Sequence[Record]) -> str:
    """The experiment on why PBO lies below one half after costs: the same configurations before costs, and at equal costs."""
    rows = []
    for (market,), mine in grouped(found, "market").items():
        results = [r.result["shipped"] for r in mine if r.result["shipped"].get("cost_rank") is not None]
        if len(results) < 2:  # records from before the experiment
            continue
        row = [market, str(len(results))]
        for name in ("pbo", "pbo_equal_cost", "pbo_gross", "cost_rank"):
            values = _known([r[name] for r in results])
            row.append(
                f"{values.mean():{'+' if name == 'cost_rank' else ''}.2f} ± {values.std(ddof=1) / math.sqrt(len(values)):.2f}"
            )
        rows.append(row)
    head = [
        "market, shipped",
        "runs",
        "PBO, own costs",
        "PBO, equal costs",
        "PBO before costs",
        "rank correlation of costs and net Sharpe",
    ]
    if not rows:
        return ""
    return (
        "\n\n### Why PBO lies below one half after costs\n\nThe same configurations, holding the same, charged otherwise: nothing, or "
        "day by day what all of them pay on average. If costs push PBO down because the configurations that trade most are worst in "
        "every half of the days, equal costs must bring it back. The rank correlation is between what a configuration pays and its net "
        "Sharpe ratio, within each half of the days.\n\n" + markdown(head, rows)
    )


# -- power -----------------------------------------------------------------------------------------------------------------


def power_table(found: Sequence[Record]) -> tuple[str, str]:
    names = ["search", "linear", "mlp", "tcn", "random"]
    shares: dict[float, dict[str, tuple[float, float]]] = {}
    for (strength,), mine in sorted(grouped(found, "strength").items()):
        line = {}
        for name in names:
            values = [v for r in mine for v in (r.result[name] if name == "random" else [r.result[name]])]
            bars = mine[0].result["bars"]
            hits = float(np.mean([v * math.sqrt(bars) > DETECTION_Z for v in values]))
            line[name] = hits, float(np.mean(values))
        shares[strength] = line
    rows = [
        [f"{strength:g}", f"{math.sqrt(strength):.2f}", *(f"{line[n][0]:.0%} ({line[n][1]:.3f})" for n in names)]
        for strength, line in shares.items()
    ]

    def first(name: str) -> str:
        reached = [s for s in shares if s > 0 and all(shares[t][name][0] >= 0.8 for t in shares if t >= s)]
        return f"{min(reached):g}" if reached else "above all tried"

    verdict = "Found in at least 80% of the tasks from a share of variance of: " + ", ".join(
        f"{name} {first(name)}" for name in names
    ) + "."  # fmt: skip
    count = len(next(iter(grouped(found, "strength").values())))
    text = (
        f"Label: a random network of two nodes on two of six white-noise inputs, a share of the variance; the rest is noise ({count} "
        "tasks of each strength, 1,960 bars to learn from, 800 to validate, 1,120 unseen). Found: the correlation of forecast and label "
        "on unseen bars is above zero at the one-sided 5% level, so 5% is what no signal gives. In brackets the mean correlation; a "
        "perfect forecast has the square root of the strength. `random` pools the random architectures of "
        "all tasks. Hand-designed networks read all six inputs.\n\n"
    )
    return verdict, text + markdown(["strength", "best possible", *names], rows)


# -- search against random ---------------------------------------------------------------------------------------------------

JOINT = ("darts", "perturbation", "regulariser")
BEST, FEW = "best of three by validation", "best of the random by validation"


def comparison_table(found: Sequence[Record]) -> tuple[str, str]:
    rows, verdicts = [], []
    for (market,), mine in grouped(found, "market").items():
        random = np.array([r.result["random"] for r in mine])
        middle = np.median(random, 1)
        chosen = np.array([r.result["random"][int(np.argmin(r.result["random_loss"]))] for r in mine])
        scores: dict[str, FloatArray] = {
            way: np.array([r.result["ways"][way]["test"] for r in mine]) for way in mine[0].settings["ways"]
        }
        if set(JOINT) <= scores.keys():
            scores[BEST] = np.array([
                min((r.result["ways"][way] for way in JOINT), key=lambda w: w["loss"])["test"] for r in mine
            ])  # fmt: skip
        scores[FEW] = chosen
        summary = {}
        for way, values in scores.items():
            percentile = float(np.median((random < values[:, None]).mean(1)))
            difference, against = values - middle, values - chosen
            low, high = bootstrap_interval(difference)
            rival = "" if way == FEW else with_interval(against)
            summary[way] = float(np.median(difference)), low, high
            rows.append(
                [market, way, f"{np.mean(values):.3f}", f"{percentile:.0%}", f"{np.median(difference):+.3f} ({low:+.3f} to {high:+.3f})",
                 rival]
            )  # fmt: skip
        middle_, low, high = summary["darts"]
        better = [way for way in scores if way not in (FEW, "best of random") and summary[way][1] > 0.0]
        word = "beats" if low > 0 else "loses to" if high < 0 else "is not told apart from"
        verdicts.append(
            f"{market}: plain DARTS {word} the median random architecture ({middle_:+.3f}, {low:+.3f} to {high:+.3f}; "
            f"{len(mine)} problems); interval above zero for: {', '.join(f'`{way}`' for way in better) or 'none'}"
        )
    count = mine[0].settings["randoms"]
    head = [
        "problems",
        "way",
        "mean correlation",
        "median percentile",
        "against the median random",
        f"against the best of {count} random",
    ]
    text = (
        f"Score: correlation of forecast and label on unseen bars. Per problem {count} "
        f"random architectures of the same space and what each way "
        "of searching found, all trained alike; differences are paired by problem, medians with 95% bootstrap intervals. `planted` and "
        "`planted-weak`: a random network of two nodes makes 30% and 10% of the label's variance from two of six inputs. `real`: the "
        "return of the next 6 hours on stretches of hourly candles. Ways: `perturbation` DARTS-PT; `regulariser` Beta-DARTS; `inputs "
        "unpriced` without the price that an input has to earn; `ops priced` with the Bayesian price of parameters; `longer` 40 epochs "
        "instead of 16; `warm start` from a search on the first half; `smaller space` one node and four ops; `best of random` random "
        f"architectures at the gradient steps of a search. `{BEST}`: of the first three, the one whose training ended best "
        f"on validation. `{FEW}` costs as many trainings as there are, several times a search.\n\n"
    )
    return ".\n".join(verdicts) + ".", text + markdown(head, rows)
