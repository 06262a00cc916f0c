"""Noise before the judge: how often does the page say that forecasts which know nothing beat the best rival?

Each file is noise (white, or held for hours and days, with or without a lean to one side) on a market that is a martingale. It goes
the whole way of a user's file: plans chosen on the bars before, Backtrader, the page's own verdict. `shipped`: as a user gets it. `bare`:
without costs, and every window trades its best plan whatever the record: where noise has its best chances.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from data.panel import FloatArray, Panel
from lab.court import average
from lab.markets import garch, permuted
from lab.units import Record, Result, Unit
from reports.judged_section import convicted
from reports.luck import luck_section
from reports.performance import performance
from reports.run_folder import JUDGED, Run, load_run
from reports.verdict import verdict
from strategies.walkforward.config import RunConfig
from strategies.walkforward.looks import Look, Stretch
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.provenance import code_version

ARMS: dict[str, dict[str, Any]] = {
    "shipped": {},
    "bare": {"evidence": 1.0, "taker_fee_bps": 0.0, "maker_fee_bps": 0.0, "slippage_bps": 0.0},
}
SETTINGS: dict[str, Any] = {
    "train": "60d", "validation": "40d", "test": "30d", "variant": ["none"], "baselines": [], "rules": ["sma_cross"],
}  # fmt: skip


def units(seeds: Sequence[int], days: int, models: Sequence[int], real: bool) -> list[Unit]:
    """Seed by seed. days: unseen. models: noises in one file. real: on days of real histories, permuted, instead of GARCH."""
    market = "permuted" if real else "garch"
    return [
        Unit(
            f"{market}-{count}-{seed:03d}",
            {"market": market, "seed": seed, "bars": 24 * (days + 110), "models": count, **SETTINGS},
        )
        for seed in seeds
        for count in models
    ]


def noise(bars: int, rng: np.random.Generator) -> FloatArray:
    """[T] unit spread, held for 1 to 96 bars or so, leaning to one side by up to a spread."""
    values = average(rng.normal(size=bars), float(rng.choice([1, 8, 32, 96])))
    return np.asarray(values / values.std() + rng.choice([-1.0, -0.3, 0.0, 0.3, 1.0]), dtype=np.float64)


def compute(unit: Unit, histories: Sequence[Panel]) -> Result:
    """What the page says of one file, in both arms."""
    settings = unit.settings
    seed, bars = settings["seed"], settings["bars"]
    panel = garch(bars, seed) if not histories else permuted(histories[seed % len(histories)], bars, seed)
    rng = np.random.default_rng([seed, settings["models"], 24])
    given = {name: settings[name] for name in SETTINGS}
    found: Result = {}
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        table = pd.DataFrame({f"noise{k}": noise(bars, rng) for k in range(settings["models"])})
        table.insert(0, "timestamp", pd.DatetimeIndex(panel.timestamps).tz_localize("UTC"))
        table.to_parquet(place / "noise.parquet")
        for arm, changes in ARMS.items():
            config = RunConfig(symbol=panel.assets, forecasts=(str(place / "noise.parquet"),), **given, **changes)
            options = Options(out=place, jobs=1, quiet=True, pages=False)
            Pipeline(config, options, panel, code_version(), Console(quiet=True), {}).run(place / arm)
            found[arm] = told(load_run(place / arm))
    return found


def told(run: Run) -> dict[str, Any]:
    """Of the page of a run that nobody looked at before."""
    look = Look(Stretch(("noise",), str(run.equity.index[0]), str(run.equity.index[-1])), 1, 1)
    rows = [performance(run, name) for name in run.strategies]
    said = verdict(run, rows, luck_section(run, look))
    return {
        "beat": said.tone == "good",
        "earned": "earned more than luck explains" in said.headline or said.tone == "good",
        "convicted": any(convicted(run, name) for name in run.judged),
        "traded": any(row.fills > 0 for row in rows if run.kind(row.strategy) == JUDGED),
        "headline": said.headline,
    }


def rows(found: Sequence[Record]) -> list[dict[str, Any]]:
    """A line per number of models and arm: how many files, and of how many each was said."""
    lines = []
    for count in dict.fromkeys(record.settings["models"] for record in found):
        mine = [record.result for record in found if record.settings["models"] == count]
        for arm in ARMS:
            sums = {name: sum(each[arm][name] for each in mine) for name in ("traded", "beat", "earned", "convicted")}
            lines.append({"models": count, "arm": arm, "files": len(mine), **sums})
    return lines
