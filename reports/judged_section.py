"""Forecasts that were not made here: what the leak court found, and the models against each other by what they earned a day."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.risk_section import confidence_set, diebold_mariano
from reports.run_folder import Run
from reports.statistics import against_benchmark

FILE = "judged.json"
FLAT = "flat"


@dataclass(frozen=True)
class JudgedSection:
    """models: as judged.json has them. kept: titles in the Model Confidence Set. worth: p of Hansen's SPA that none of them beats staying
    flat (None where it was not asked).
    refitted: titles of models that the run fitted itself (`module:Name`).
    pairs: row title -> p of Diebold and Mariano that it earned no more a day than each other one."""

    models: tuple[Mapping[str, Any], ...]
    titles: tuple[str, ...]
    kept: tuple[str, ...]
    worth: float | None
    superior: tuple[str, ...]
    pairs: tuple[tuple[str, tuple[float, ...]], ...]
    refitted: tuple[str, ...]


def models_of(run: Run) -> list[Mapping[str, Any]]:
    """What judged.json says of each model; empty for runs without."""
    path = run.folder / FILE
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def convicted(run: Run, strategy: str) -> list[str]:
    """Names of the tests that convict a model of a leak."""
    told = [model for model in models_of(run) if model["name"] == strategy]
    return [charge["name"] for model in told for charge in model["charges"] if charge["guilty"]]


def judged_section(run: Run, daily: pd.DataFrame) -> JudgedSection | None:
    """None where nothing was judged. daily: [day, strategy] returns after costs."""
    if not run.judged:
        return None
    names = list(run.judged)
    own = daily[names]
    titles = tuple(run.title(name) for name in names)
    moving = [name for name in names if float(own[name].std()) > 0.0]
    kept = confidence_set(-own[moving]) if len(moving) > 1 else set()
    spa = against_benchmark(own.assign(**{FLAT: 0.0}), FLAT) if moving else None
    models = models_of(run)
    return JudgedSection(
        tuple(models),
        titles,
        tuple(run.title(name) for name in names if name in kept),
        None if spa is None else spa.consistent,
        () if spa is None else tuple(run.title(name) for name in spa.superior),
        tuple(zip(titles, _pairs(own), strict=True)) if len(names) > 1 else (),
        tuple(run.title(name) for name in names if ":" in name),
    )


def _pairs(daily: pd.DataFrame) -> Sequence[tuple[float, ...]]:
    """[a][b]: p that a earned no more a day than b; NaN on the diagonal and where they never differed."""
    values = daily.to_numpy(dtype=np.float64).T
    return [tuple(math.nan if a is b else diebold_mariano(b - a) for b in values) for a in values]
