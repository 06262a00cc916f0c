"""`python -m benchmarks.regimes`: does the architecture follow the regime, and does searching on drift alone cost anything?

A market whose next return depends on another op of the past in each regime (its strength is the share of variance that is planted).
Regimes last exactly `REGIME_BARS`. Counted: after how many switches the searched architecture differs within two windows from the one
before, how often it changes without a switch (the control), and what `drift` pays and saves against `every`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from data.panel import Panel
from nas.features.bank import build_bank
from nas.network.stretches import Samples, labels
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace
from nas.tasks.engine import Engine, InProcess, Store
from nas.tasks.windows import WindowPlan
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import PolicyOutcome
from strategies.walkforward.policies import Competition

REGIME_BARS = 4_000
REGIMES = ("ema12", "diff1", "ema36 reversed")
HOUR = 3_600_000_000_000


def market(seed: int, bars: int, strength: float) -> Panel:
    """One asset; in regime k the next return leans on: the EMA(12) of returns, minus the last change of returns, minus the EMA(36)."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(bars) * np.sqrt(1 - strength)
    returns = np.zeros(bars)
    fast = slow = 0.0
    order = [int(k) for k in rng.permutation(3)]
    regimes = np.array([order[(t // REGIME_BARS) % 3] for t in range(bars)])
    for t in range(1, bars):
        fast += (2 / 13) * (returns[t - 1] - fast)
        slow += (2 / 37) * (returns[t - 1] - slow)
        change = returns[t - 1] - (returns[t - 2] if t > 1 else 0.0)
        # each op's output in units of its own spread under white noise, so that the planted share is the same
        signal = (fast / 0.289, -change / 1.414, -slow / 0.166)[regimes[t]]
        returns[t] = np.clip(signal, -3, 3) * np.sqrt(strength) + noise[t]
    close = 100 * np.exp(np.cumsum(returns * 0.005))
    opening = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(opening, close) * 1.001, np.minimum(opening, close) * 0.999
    fields = {"open": opening, "high": high, "low": low, "close": close, "volume": np.full(bars, 1e3)}
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(HOUR, "ns")
    values = np.stack(list(fields.values()), -1)[:, None]
    return Panel(stamps, ("PLANTED",), tuple(fields), values, HOUR, "planted", True, {}, regimes, REGIMES)


def compete(seed: int, switches: int, strength: float) -> tuple[Panel, list[PolicyOutcome], list[int]]:
    """Outcomes of `every` and `drift` on one market, and the bars where the regime switches."""
    panel = market(seed, (switches + 1) * REGIME_BARS, strength)
    samples = Samples(panel, build_bank(panel, {"return": ("raw",)}), labels(panel, (1,)), (1,))
    ops = ("zero", "identity", "diff1", "ema4", "ema12", "ema36")
    space = SearchSpace(ops=ops, nodes=1, channels=4, horizons=(1,)).with_features({"return": ("raw",)})
    config = RunConfig(
        policy=("every", "drift"), horizon=(1,), seed=seed, search_epochs=15, training_epochs=15, thresholds=(0.0,)
    )
    windows = WindowPlan(1_200, 600, 800, 800).windows(
        len(panel), first=samples.bank.warmup_bars + 50, purge_bars=space.receptive_field + 2
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(InProcess(samples), Store(Path(folder), panel.fingerprint(), "regimes"))
        outcomes, _ = Competition(config, space, windows, samples, engine, lambda: None).run([])
    return panel, outcomes, [k * REGIME_BARS for k in range(1, switches + 1)]


def op_of(outcome: PolicyOutcome, number: int) -> str:
    contender = next(c for c in outcome.contenders if c.window.number == number)
    assert contender.found is not None
    return "+".join(c.op for c in Genotype.from_dict(contender.found.report["genotype"]).nodes[0])


def correlation(outcome: PolicyOutcome, label: np.ndarray) -> float:
    """Of all out-of-sample forecasts with what came."""
    pairs = [
        (c.trained.test_forecasts[:, 0], label[c.window.test.start : c.window.test.stop]) for c in outcome.contenders
    ]
    forecast, truth = (np.concatenate(column) for column in zip(*pairs, strict=True))
    known = np.isfinite(forecast) & np.isfinite(truth)
    return float(np.corrcoef(forecast[known], truth[known])[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--switches", type=int, default=3)
    parser.add_argument("--strength", type=float, default=0.1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    followed = switches = changed = quiet = 0
    searches = {"every": 0, "drift": 0}
    scores: dict[str, list[float]] = {"every": [], "drift": []}
    for seed in range(options.seeds):
        panel, outcomes, bars = compete(seed, options.switches, options.strength)
        label = labels(panel, (1,))[0, 0]
        for outcome in outcomes:
            searches[outcome.policy.name] += sum(d.searched for d in outcome.decisions)
            scores[outcome.policy.name].append(correlation(outcome, label))
        every = outcomes[0]
        numbers = [d.window for d in every.decisions]
        windows = {c.window.number: c.window for c in every.contenders}
        touched: set[int] = set()
        for bar in bars:
            first = next((n for n in numbers if windows[n].validation.stop > bar), None)
            if first is None or first == 0 or first + 1 >= len(numbers):
                continue
            switches += 1
            followed += any(
                op_of(every, n) != op_of(every, first - 1) for n in (first, first + 1, first + 2) if n in windows
            )
            touched |= {first, first + 1, first + 2}
        for n in numbers[1:]:
            if n not in touched:
                quiet += 1
                changed += op_of(every, n) != op_of(every, n - 1)
        ops = " ".join(op_of(every, n) for n in numbers)
        print(
            f"seed {seed}: {ops}; drift searched at {[d.window for d in outcomes[1].decisions if d.searched]}; "
            f"correlation every {scores['every'][-1]:.3f}, drift {scores['drift'][-1]:.3f}", flush=True,
        )  # fmt: skip
    print(
        f"architecture changed within two windows of {followed} of {switches} switches ({followed / max(switches, 1):.0%})"
    )
    print(f"without a switch it changed in {changed} of {quiet} windows ({changed / max(quiet, 1):.0%})")
    print(f"searches: every {searches['every']}, drift {searches['drift']}")
    gap = np.array(scores["drift"]) - np.array(scores["every"])
    error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
    print(f"drift minus every, market by market: {gap.mean():+.4f} (standard error {error:.4f})")
    print(f"median correlation: every {np.median(scores['every']):.4f}, drift {np.median(scores['drift']):.4f}")


if __name__ == "__main__":
    main()
