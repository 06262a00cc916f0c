"""What the best of many strategies without skill looks like, and what overfitting looks like."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from docs.pictures.style import BLUE, GREY, ORANGE, figure
from reports.statistics import DAYS_PER_YEAR, expected_best, overfitting, sharpes

DAYS, REPEATS, MARKETS = 365, 400, 20


def draw() -> Figure:
    random = np.random.default_rng(0)
    annual = np.sqrt(DAYS_PER_YEAR)
    out = figure(9.0, 3.2)
    left, right = out.subplots(1, 2)
    counts = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500])
    draws = sharpes(random.standard_normal((DAYS, REPEATS * 10))) * annual
    best = np.array([[random.choice(draws, n).max() for _ in range(REPEATS)] for n in counts])
    low, high = np.quantile(best, [0.05, 0.95], axis=1)
    left.fill_between(counts, low, high, color=GREY, alpha=0.3, label="90% of the simulations")
    left.plot(counts, best.mean(1), "o", color=BLUE, ms=4, label="mean of the simulations")
    theory = [expected_best(float(n), float(np.var(draws / annual))) * annual for n in counts]
    left.plot(counts[1:], theory[1:], color=ORANGE, label="SR₀, the deflated ratio's bar")
    left.set_xscale("log")
    left.set(
        xlabel="strategies without skill that were tried",
        ylabel="best Sharpe ratio of a year",
        title="The best of many",
    )
    left.legend(frameon=False, loc="lower right")

    bins = np.linspace(-4, 4, 33)
    for skill, colour, name in ((0.0, GREY, "30 without skill"), (2.0, BLUE, "one of 30 with Sharpe ratio 2")):
        logits, pbo = [], []
        for _ in range(MARKETS):
            matrix = random.standard_normal((2 * DAYS, 30))
            matrix[:, 0] += skill / annual
            found = overfitting(matrix)
            assert found is not None
            logits.append(np.clip(found.logits, -4, 4))
            pbo.append(found.pbo)
        share = np.full(sum(map(len, logits)), 1.0 / sum(map(len, logits)))
        label = f"{name}: mean PBO {np.mean(pbo):.0%}"
        right.hist(np.concatenate(logits), bins, weights=share, color=colour, alpha=0.65, label=label)
    right.axvline(0, color="black", lw=0.8)
    right.set(
        xlabel="logit of its rank there (below 0: lower half)",
        ylabel=f"share of splits, {MARKETS} markets",
        title="The winner of one half on the other half",
    )
    right.legend(frameon=False, loc="upper left")
    return out
