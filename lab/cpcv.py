"""Cross-validated paths on markets without signal: before costs their median Sharpe ratio is zero, or something leaks."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.panel import Panel
from lab.markets import garch
from nas.features.bank import causal_volatility
from nas.network.stretches import Samples
from nas.space.search_space import SearchSpace
from nas.tasks.engine import Engine, InProcess, Store
from strategies.walkforward.config import RunConfig
from strategies.walkforward.cpcv import CrossValidation

BARS = 4_000
#: small, so that 45 searches of a market take seconds; the plans are those of every run
SETTINGS: dict[str, Any] = {
    "symbol": ("NULLUSDT",), "horizon": (3,), "search_epochs": 3, "training_epochs": 4, "search_length": 512, "policy": ("cpcv",),
}  # fmt: skip


def validation_of(panel: Panel, seed: int) -> CrossValidation:
    """The splits of one market in a small space."""
    config = RunConfig(**{**SETTINGS, "symbol": panel.assets, "seed": seed})
    samples = Samples.of(panel, config.horizon)
    space = SearchSpace(
        ops=("zero", "identity", "conv3", "ema4", "diff1"), nodes=1, channels=4, horizons=config.horizon
    ).with_features(dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True)))
    purge = max(config.horizon) + 1 + space.receptive_field
    return CrossValidation.of(config, space, samples, causal_volatility(panel), purge)


def fewer(crossed: CrossValidation, paths: int) -> CrossValidation:
    """Only the splits that make so many of the nine paths, five a path: all groups in pairs, other pairs for every path.

    Pairs as of a round-robin tournament: the last group stays, the others go round it.
    """
    others = len(crossed.groups) - 1
    pairs = {
        frozenset({others, turn} if k == 0 else {(turn + k) % others, (turn - k) % others})
        for turn in range(paths)
        for k in range(len(crossed.groups) // 2)
    }
    held = [frozenset(map(crossed.groups.index, split.held)) for split in crossed.splits]
    return replace(crossed, splits=tuple(s for s, out in zip(crossed.splits, held, strict=True) if out in pairs))


def paths(seed: int, count: int = 9) -> list[dict[str, Any]]:
    """So many of the nine paths of one GARCH market; nine lead through the same bars and differ little, so more markets say more."""
    crossed = fewer(validation_of(garch(BARS, 80_000 + seed), seed), count)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(InProcess(crossed.samples), Store(Path(folder), "", ""))
        found: list[dict[str, Any]] = crossed.run(engine, lambda: None)["paths"]
    return found


def medians(markets: Sequence[Sequence[dict[str, Any]]]) -> dict[str, float]:
    """Over markets, of the median path of each: mean and standard error of the Sharpe ratio before costs, and the mean after."""
    before = np.array([np.median([path["sharpe_before_costs"] for path in market]) for market in markets])
    after = np.array([np.median([path["sharpe"] for path in market]) for market in markets])
    error = float(before.std(ddof=1)) / math.sqrt(len(before)) if len(before) > 1 else math.nan
    return {"before_costs": float(before.mean()), "its_error": error, "after_costs": float(after.mean())}
