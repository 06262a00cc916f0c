"""Size and power of the page's verdict, and of the bar of evidence before a window is traded: simulated, with fresh seeds each time.

Nothing is searched here: returns are drawn, and the product's own `proof` and `Records` judge them. The walk-forward itself on markets
without signal is `python -m lab null`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data.panel import FloatArray, Panel
from lab.markets import garch
from reports.statistics import CONFIDENCE, after_looks, proof
from strategies.backtest.timing import timing_luck
from strategies.walkforward.choice import FLAT, Plan, Records, Tried

DAYS_PER_YEAR = 365
STOP_DAYS, BARS_PER_DAY, REHEARSAL_DAYS = 20, 4, 60
RATE = 0.1


def drawn(rng: np.random.Generator, count: int, days: int, daily: FloatArray | None) -> FloatArray:
    """Returns without signal, spread about 1: [count, day]. GARCH(1,1) with Student-t(5) shocks, or a history in random order and signs."""
    if daily is not None:
        picked: FloatArray = rng.choice(daily, (count, days)) * rng.choice([-1.0, 1.0], (count, days)) / daily.std()
        return picked
    shocks = rng.standard_t(5, (days, count)) / math.sqrt(5 / 3)
    variance, found = np.ones(count), np.empty((days, count))
    for day in range(days):
        found[day] = np.sqrt(variance) * shocks[day]
        variance = 0.05 + 0.10 * found[day] ** 2 + 0.85 * variance
    return found.T


def daily_of(panel: Panel) -> FloatArray:
    """Daily log returns of the first asset of a history."""
    step = max(1, round(panel.bars_per_year / DAYS_PER_YEAR))
    result: FloatArray = np.diff(np.log(panel.field("close")[::step, 0]))
    return result[np.isfinite(result)]


def beats(
    seeds: range, days: int, looks: int, sharpe: float, correlation: float, rivals: int, daily: FloatArray | None
) -> dict[str, float]:
    """Shares of seeds: `beat` by the verdict for any of so many looks, `positive` alone (without the rival), `early`: where each look was
    judged when it was made, by the looks until then.

    Every look is a strategy of that true annual Sharpe ratio; the rivals have none, share that correlation with it, the best one counts.
    """
    found = {"beat": 0, "positive": 0, "early": 0}
    drift = sharpe / math.sqrt(DAYS_PER_YEAR)
    for seed in seeds:
        rng = np.random.default_rng([seed, 28])
        common = drawn(rng, 1, days, daily)
        share = math.sqrt(correlation)
        every = share * common + math.sqrt(1 - correlation) * drawn(rng, looks + rivals, days, daily)
        own, others = every[:looks] + drift, every[looks:]
        rival = max(others, key=lambda each: float(each.mean() / each.std()))
        told = {"beat": False, "positive": False, "early": False}
        for number, each in enumerate(own, start=1):
            if each.mean() / each.std() * math.sqrt(days) < 1.2:  # far from any bar
                continue
            judged = proof(each, rival, looks)
            told["beat"] |= judged.holds
            told["positive"] |= after_looks(judged.positive, looks) >= CONFIDENCE
            told["early"] |= after_looks(min(judged.positive, judged.ahead), number) >= CONFIDENCE
        for name, value in told.items():
            found[name] += value
    return {name: count / len(seeds) for name, count in found.items()}


def traded_share(step_days: int, plans: int, runs: int, days: int = 720, first_seed: int = 0) -> float:
    """Share of windows that trade where no plan has skill. Plans hold one side for days, half of it in common; the bars they are chosen on
    favour them (early stopping has seen those), which must not matter. The record begins with a rehearsal, as that of a run.
    """
    traded = windows = 0
    step, stop = step_days * BARS_PER_DAY, STOP_DAYS * BARS_PER_DAY
    named = [Plan(1.0 + number) for number in range(plans)]
    for seed in range(first_seed, first_seed + runs):
        rng = np.random.default_rng([seed, 29])
        bars = days * BARS_PER_DAY
        market = drawn(rng, 1, bars, None)[0]
        common = rng.normal(size=(1, bars // 8 + 1))
        side = np.sign(common + rng.normal(size=(plans, bars // 8 + 1)))
        returns = np.repeat(side, 8, axis=1)[:, :bars] * market
        records: Records[str] = Records(RATE, BARS_PER_DAY)
        records.learn(returns[0, : REHEARSAL_DAYS * BARS_PER_DAY])  # before any bar that follows
        for start in range(stop + REHEARSAL_DAYS * BARS_PER_DAY, bars - step + 1, step):
            seen = returns[:, start - stop : start] + 0.1
            tried = [Tried(plan, own, 0.0) for plan, own in zip(named, seen, strict=True)]
            choice = records.choose([("network", "network", tried)], start - stop)
            traded += choice.plan != FLAT
            windows += 1
            records.learn(returns[named.index(choice.best), start : start + step])
    return traded / windows


def timing_lucks(seeds: range, days: int, draws: int) -> FloatArray:
    """P-values of the timing null on hourly GARCH markets whose positions (a day long each) know nothing: uniform, if all is right."""
    found = []
    for seed in seeds:
        panel = garch(24 * days, seed)
        rng = np.random.default_rng([seed, 30])
        held = np.repeat(rng.choice([-0.5, 0.0, 0.5], days), 24)[:, None]
        found.append(timing_luck(panel, held, 0, draws, seed))
    return np.array(found)


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
