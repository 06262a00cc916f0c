"""Risk forecasts of a run: which targets, their tasks, what positions are sized by, the run that only holds, the files.

A run that forecasts a return trades it; forecasts of range or volatility beside it size the positions. A run without a return holds
what it is told to trade, sized by the first of its volatility forecasts: the same account by EWMA and by HARX competes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError
from data.panel import FloatArray, Panel
from nas.baselines.own import baseline_of
from nas.network.residual import residual_inputs
from nas.network.residual_fit import ResidualSettings
from nas.search.pooling import Decision as KindsDecision
from nas.search.pooling import Score, decide
from nas.space.genotype import Genotype
from nas.targets import BASES, Scale, get_target
from nas.targets.bases import base_that_fits
from nas.targets.scores import coverage
from nas.tasks.engine import Engine
from nas.tasks.kinds import KindsTask
from nas.tasks.result import TaskResult
from nas.tasks.risk import SHIPPED, RiskTask, memory_bars, risk_model, rivals_of
from nas.tasks.windows import Window
from strategies.backtest.portfolio import book_of
from strategies.backtest.sizing import RiskForecast
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import Contender, Decision, PolicyOutcome, parse_policy

VOLATILITIES = ("range", "volatility")
BAND = 0.8
FILE, NUMBERS = "risk.parquet", "risk.json"


@dataclass(frozen=True)
class Wanted:
    """A risk target and how many bars ahead it looks."""

    target: str
    horizon: int


def wanted_of(config: RunConfig) -> tuple[Wanted, ...]:
    """The risk targets of a run: `range` looks as far ahead as its first horizon, `range:24` 24 bars. InputError for anything else."""
    found: list[Wanted] = []
    for text in config.target:
        name, _, bars = text.partition(":")
        entry = get_target(name)
        if bars and (not bars.isdigit() or int(bars) < 1):
            raise InputError(f"--target {text!r}: give the bars ahead as a number, e.g. {name}:6")
        if not entry.risk:
            if bars:
                raise InputError(f"--target {text!r}: how far ahead the {name} is forecast is said by --horizon {bars}")
            continue
        if name in (w.target for w in found):
            raise InputError(f"--target names {name} twice")
        found.append(Wanted(name, int(bars) if bars else config.horizon[0]))
    if not found and not directional(config):
        raise InputError(
            "--target names nothing: give return, range, volatility, volume or drawdown, several with commas"
        )
    if not directional(config) and not any(w.target in VOLATILITIES for w in found):
        names = ",".join(w.target for w in found)
        raise InputError(
            f"--target {names} says neither a direction nor how much to hold; add return, or range: --target {names},range"
        )
    return tuple(found)


def directional(config: RunConfig) -> bool:
    """Whether the run forecasts a direction."""
    return "return" in config.target


def sized_by(config: RunConfig) -> str | None:
    """The target whose forecast sizes positions: the first volatility that is forecast, None where none is."""
    return next((w.target for w in wanted_of(config) if w.target in VOLATILITIES), None)


def least_gap(config: RunConfig, panel: Panel) -> int:
    """Bars between stretches that the risk targets need: their reach and the receptive field of their networks."""
    features = tuple((name, pipelines[0]) for name, pipelines in residual_inputs(panel).items())
    settings = ResidualSettings()
    return max(
        (get_target(w.target).reach(w.horizon) + memory_bars(settings, features, w.horizon, config.seed)
         for w in wanted_of(config)),
        default=0,
    )  # fmt: skip


def tasks_of(
    config: RunConfig,
    panel: Panel,
    windows: Sequence[Window],
    decisions: Mapping[str, Sequence[KindsDecision]] | None = None,
) -> list[RiskTask]:
    """One per target and window. decisions: by target, whose networks every window's forecast is the mean of; None for all kinds."""
    networks = tuple(name for name in config.baselines if baseline_of(name).build is not None)
    found = []
    for w in wanted_of(config):
        base = base_that_fits(panel, get_target(w.target), w.horizon, windows[0].train)
        rivals = rivals_of(w.target, config.baselines, base)
        for k, window in enumerate(windows):
            settings = ResidualSettings(base)
            if decisions is not None:
                settings = replace(settings, kinds=decisions[w.target][k].kinds)
            found.append(RiskTask(window, w.target, w.horizon, config.seed, settings, rivals, networks))
    return found


def kinds_tasks_of(config: RunConfig, panel: Panel, windows: Sequence[Window]) -> list[KindsTask]:
    """The cheap evidence on kinds, one per target and window; bars that an earlier window validated on count once."""
    found = []
    for w in wanted_of(config):
        base = base_that_fits(panel, get_target(w.target), w.horizon, windows[0].train)
        validated = 0
        for window in windows:
            found.append(KindsTask(window, w.target, w.horizon, config.seed, base, validated=validated))
            validated = max(validated, window.validation.stop)
    return found


def decided(scores: Sequence[Score], windows: Sequence[Window]) -> tuple[KindsDecision, ...]:
    """Per window, from its own scores and those of windows before it."""
    return tuple(decide(scores, window.number) for window in windows)


def notes_of(config: RunConfig, panel: Panel, windows: Sequence[Window]) -> list[str]:
    """What is to be said of the plan: which closed form the bars are enough for, and what a run without a direction trades."""
    said = []
    for w in wanted_of(config):
        target = get_target(w.target)
        base = base_that_fits(panel, target, w.horizon, windows[0].train)
        line = f"{target.title.lower()} of {w.horizon} bars: {BASES[base]}, and networks on what it leaves"
        if base != target.bases[0]:
            line += f" (the training stretch is too short for {target.bases[0].upper()})"
        said.append(line)
    if not directional(config):
        said.append(f"no direction is forecast: the account holds, sized by the forecast of {sized_by(config)}")
    return said


@dataclass(frozen=True, eq=False)
class RiskRun:
    """The finished risk tasks of a run, by target, window by window."""

    config: RunConfig
    panel: Panel
    windows: tuple[Window, ...]
    results: dict[str, list[TaskResult]]
    scale: Scale
    decisions: dict[str, tuple[KindsDecision, ...]]

    @staticmethod
    def run(
        config: RunConfig,
        panel: Panel,
        windows: tuple[Window, ...],
        scale: Scale,
        engine: Engine,
        advance: Callable[[], None],
    ) -> RiskRun:
        cheap = kinds_tasks_of(config, panel, windows)
        scores: dict[str, list[Score]] = {}
        for trial, result in zip(cheap, engine.run(cheap, lambda _index, _cached: advance()), strict=True):
            scores.setdefault(trial.target, []).extend(Score(**raw) for raw in result.report["scores"])
        decisions = {target: decided(mine, windows) for target, mine in scores.items()}
        tasks = tasks_of(config, panel, windows, decisions)
        found = engine.run(tasks, lambda _index, _cached: advance())
        results: dict[str, list[TaskResult]] = {}
        for task, result in zip(tasks, found, strict=True):
            results.setdefault(task.target, []).append(result)
        return RiskRun(config, panel, windows, results, scale, decisions)

    def said(self) -> list[str]:
        """Per target, whether choosing kinds could help, as known before the last window."""
        return [f"{get_target(t).title.lower()}: {mine[-1].probe.sentence()}" for t, mine in self.decisions.items()]

    def kinds(self, window: int) -> dict[str, Any]:
        """By target, for windows.json: every kind's record so far, the probe, and the kinds whose networks the forecast is the mean of."""
        return {target: mine[window].to_dict() for target, mine in self.decisions.items()}

    def forecasts(self, window: int) -> dict[str, RiskForecast]:
        """By target, what a window's model folder holds."""
        found = {}
        for target, results in self.results.items():
            report = results[window].report
            quantiles = {q["level"]: q["factor"] for q in report["quantiles"].get(SHIPPED, [])}
            found[target] = RiskForecast(risk_model(results[window]), np.array(report["return_factor"]), quantiles)
        return found

    def volatility(self) -> FloatArray:
        """[T, A] per bar, by which positions are sized: the forecasts on stop and test stretches, the scale elsewhere."""
        found = self.scale.volatility(self.panel)
        name = sized_by(self.config)
        if name is None:
            return found
        found = found.copy()
        for part in ("stop", "test"):  # a later window's stop stretch lies before its test, which is written last
            for window, result in zip(self.windows, self.results[name], strict=True):
                bars = getattr(window, part)
                told = result.arrays[f"{part}.sizing"]
                found[bars] = np.where(np.isfinite(told), told, found[bars])
        return found

    def holds(self) -> list[PolicyOutcome]:
        """What a run without a direction trades: all of the time, sized by the forecast."""
        name = sized_by(self.config)
        assert name is not None
        outcome = PolicyOutcome(parse_policy("every"), "searched")
        for window, result in zip(self.windows, self.results[name], strict=True):
            first = result.report["model"]["members"][0]
            genotype = Genotype.from_dict(first["genotype"])
            told = {
                "genotype": genotype.to_dict(), "architecture": genotype.key(), "text": str(genotype), "history": [],
                "features": [], "weights": {"edges": [], "ops": [], "values": []},
            }  # fmt: skip
            arrays: dict[str, Any] = {
                f"{part}_forecasts": np.where(np.isfinite(result.arrays[f"{part}.sizing"]), 1.0, np.nan)
                for part in ("stop", "test")
            }
            arrays |= {
                k.replace("weights.0.", "weights.", 1): v
                for k, v in result.arrays.items()
                if k.startswith("weights.0.")
            }
            report = {
                "name": name, "seed": self.config.seed, "genotype": genotype.to_dict(), "architecture": genotype.key(),
                "parameters": result.report["parameters"], "receptive_field": genotype.receptive_field,
                "validation_loss": result.report["validation_loss"],
                "validation_correlation": result.report["validation_correlation"], "epochs": first["epochs"],
                "pipelines": result.report["model"]["features"], "mean": result.report["model"]["mean"],
                "deviation": result.report["model"]["deviation"], "sizes": [],
            }  # fmt: skip
            outcome.contenders.append(
                Contender(
                    "searched",
                    "searched",
                    window,
                    "kinds",
                    self.config.seed,
                    TaskResult(arrays, report),
                    TaskResult({}, told),
                )
            )
            outcome.decisions.append(Decision(window.number, False, window.number, (), "none"))
        return [outcome]

    def table(self) -> pd.DataFrame:
        """Out of sample, a row per target, bar and asset: what came, forecast, its band of 80%, every rival; in the target's unit.

        sizing: of the target that sizes positions and places stops, the volatility per bar.
        """
        parts = []
        for target, results in self.results.items():
            for window, result in zip(self.windows, results, strict=True):
                stamps = pd.DatetimeIndex(self.panel.timestamps[window.test]).tz_localize("UTC")
                forecast = result.arrays[f"test.{SHIPPED}"]
                low, high = next((a, b) for level, a, b in result.report["model"]["bands"] if level == BAND)
                columns: dict[str, Any] = {
                    "timestamp": np.repeat(np.asarray(stamps), forecast.shape[1]),
                    "asset": list(self.panel.assets) * len(stamps),
                    "target": target,
                    "window": np.int32(window.number),
                    "realised": result.arrays["test.realised"].ravel(),
                    "low": (forecast + low).ravel(),
                    "high": (forecast + high).ravel(),
                }
                if target == sized_by(self.config):
                    columns["sizing"] = result.arrays["test.sizing"].ravel()
                for name in result.report["factors"]:
                    columns[name] = result.arrays[f"test.{name}"].ravel()
                parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def numbers(self) -> dict[str, Any]:
        """Per target what the page needs beside the table: unit, bars ahead, bias factors of every method and window, bands, coverage."""
        found = {}
        for target, results in self.results.items():
            entry, horizon = get_target(target), results[0].report["horizon"]
            windows = []
            for window, result in zip(self.windows, results, strict=True):
                forecast, label = result.arrays[f"test.{SHIPPED}"], result.arrays["test.realised"]
                windows.append({
                    "window": window.number,
                    "factors": result.report["factors"],
                    "quantiles": json.loads(json.dumps(result.report["quantiles"]), parse_constant=lambda _: None),
                    "members": [m["epochs"] for m in result.report["model"]["members"]],
                    "bands": [
                        {"level": level, "coverage": coverage(label, forecast + low, forecast + high)}
                        for level, low, high in result.report["model"]["bands"]
                    ],
                })  # fmt: skip
            found[target] = {
                "title": entry.title, "about": entry.about, "unit": entry.unit, "horizon": horizon, "power": entry.power,
                "naive": entry.naive_title, "base": results[0].report["model"]["base"]["name"],
                "share": results[0].report["model"]["share"], "kinds": [d.to_dict() for d in self.decisions[target]], "windows": windows,
            }  # fmt: skip
        return found


def holders(
    config: RunConfig, panel: Panel, start: int, stop: int, rule: Any, portfolio: Any
) -> dict[str, tuple[str, str, FloatArray]]:
    """strategy -> (title, description, targets): the same account, held all of the time, sized by what needs no network."""
    found = {}
    ones = np.ones((stop - start, len(panel.assets)))
    for kind, title in (("ewma", "Hold, sized by EWMA(48)"), ("harx", "Hold, sized by HARX")):
        volatility = Scale.fit(panel, kind).volatility(panel)
        book = book_of(panel, portfolio.signal(ones), volatility, start, rule, portfolio)
        found[f"hold_{kind}"] = (title, "always in the market; the size alone moves, by a volatility forecast", book)
    return found


def models_of(risk: RiskRun, window: int, folder: Path) -> dict[str, Any]:
    """Save a window's risk forecasts into its model folder; what the model's own file says of them."""
    for forecast in risk.forecasts(window).values():
        forecast.save(folder)
    return {"sized_by": sized_by(risk.config), "risk": sorted(risk.results)}
