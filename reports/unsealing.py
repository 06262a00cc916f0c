"""Opening a sealed holdout: the walk-forward goes on over the days that no run has read, once, and the register of looks keeps it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from data.atomic import write_text
from data.panel import InputError
from data.sources import load_market
from reports.performance import daily_frame, sharpe_ratio
from reports.run_folder import SEARCHED, Run, load_run
from reports.statistics import proof
from reports.verdict import chance_of
from strategies.walkforward.config import RunConfig
from strategies.walkforward.holdout import sealed_bars
from strategies.walkforward.looks import Register
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.provenance import code_version

FILE = "unsealed.json"


def unseal(folder: Path, console: Console) -> dict[str, Any]:
    """Trade the holdout of a finished run as its walk-forward would have gone on; writes `unsealed.json` and returns what it holds.

    A second opening returns the first one's figures and says that the days are no longer unseen. InputError for a run without a holdout, or
    whose data are no longer the same.
    """
    run = load_run(folder)
    kept = run.folder / FILE
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return {**found, "told": f"{found['told']} It was opened before, on {found['opened']}: it is no longer unseen."}
    settings = run.info.get("config") or {}
    config = RunConfig(**{k: v for k, v in settings.items() if k in RunConfig.model_fields})
    if config.holdout is None:
        raise InputError(f"{run.folder} keeps no holdout; a run with --holdout 90d does")
    panel = load_market(config, config.seed, echo=lambda text: console.print(text, markup=False))
    read = int(run.provenance.get("bars") or 0)
    if panel.cut(0, min(read, len(panel))).fingerprint() != run.provenance.get("data_fingerprint"):
        raise InputError(
            f"the data of {run.folder} are no longer the same (fingerprint differs); rerun the walk-forward, then unseal it"
        )
    whole = panel.cut(0, min(len(panel), read + sealed_bars(config, panel)))
    console.print("the walk-forward goes on over the sealed days; this takes as long as the run", markup=False)
    going_on = Options(out=run.folder, jobs=1, quiet=True, pages=False)
    pipeline = Pipeline(config.model_copy(update={"holdout": None}), going_on, whole, code_version(), console, {})
    pipeline.run(run.folder / "unsealed")
    return _tell(run, load_run(run.folder / "unsealed"), str(whole.close_times[read - 1]))


def _tell(run: Run, opened: Run, last_seen: str) -> dict[str, Any]:
    equity = opened.equity[opened.equity.index >= f"{last_seen}Z"]  # from the last equity that was known before
    if len(equity) < 3:
        raise InputError("no test stretch reaches into the holdout; it must be longer than --test")
    times = [str(time) for time in equity.index]
    register = Register()
    before = register.looks_at(stretch := register.stretch_of(run.info, times[1], times[-1]))
    look = register.enter_run("unseal", run.info, times[1], times[-1])
    daily = daily_frame(equity)
    figures: dict[str, dict[str, float]] = {}
    for name in map(str, daily):
        own = daily[name].to_numpy(dtype="float64")
        figures[name] = {"return": float(np.prod(1.0 + own) - 1.0), "sharpe": sharpe_ratio(own, run.days_per_year)}
    rivals = [name for name in figures if run.kind(name) in {"rule", "network"}]
    told = [f"Sealed holdout {stretch}:"]
    words = [f"{run.short(name)} {figures[name]['return']:+.1%}" for name in (SEARCHED, *rivals) if name in figures]
    told.append(", ".join(words) + ".")
    if SEARCHED in figures and rivals:
        best = max(rivals, key=lambda name: figures[name]["sharpe"] if math.isfinite(figures[name]["sharpe"]) else 0.0)
        chance = proof(daily[SEARCHED].to_numpy(), daily[best].to_numpy(), look.total, run.days_per_year)
        if math.isfinite(chance.positive):
            told.append(f"Its true Sharpe ratio is above zero with {chance_of(chance.positive)}.")
    if look.total is None:
        told.append(f"Whether anybody saw these days before is not known: {look.why}.")
    elif before:
        told.append(f"These days had been looked at {before} times before: they were not unseen.")
    else:
        told.append("No look at these days is in the register before this one.")
    rows = register.rows() if look.total is not None else []
    opened_on = [row.when[:10] for row in rows if row.what == "unseal" and row.look == run.run_id]
    found = {
        "stretch": [stretch.start, stretch.stop],
        "unseen": look.total is not None and not before,
        "opened": opened_on[0] if opened_on else "a day that the register does not hold",
        "figures": {
            k: {n: None if math.isnan(v) else round(v, 6) for n, v in one.items()} for k, one in figures.items()
        },
        "told": " ".join(told),
    }
    write_text(run.folder / FILE, json.dumps(found, indent=1) + "\n")
    return found
