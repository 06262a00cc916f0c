"""One network for many coins against own ones: the same closed form per coin, the same kinds, trained and refitted alike.

Networks of their own see one coin; pooled ones see the stretches of all coins in every epoch. The coins of a stretch move together,
so their mean counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby

import numpy as np
import torch

from data.panel import FloatArray, InputError, Panel
from lab.risk import DAYS, places, stretch
from lab.tables import bootstrap_interval, markdown, with_interval
from lab.units import Record, Result, Unit, grouped
from nas.network.residual import Problem
from nas.network.residual_fit import Found, ResidualSettings, fit_residual
from nas.targets import fit_base, get_target, qlike, skill
from nas.targets.bases import base_columns, bias

SETTINGS = ResidualSettings(kinds=("stack", "ladder", "convolutions", "small"))
ARMS = ("harxl", "own", "pooled", "both")


def units(histories: Sequence[Panel], target: str, horizon: int, stretches: int) -> list[Unit]:
    """One per test stretch, spread evenly over the calendar, of all files that cover it. InputError where fewer than two do anywhere."""
    if not get_target(target).risk:
        raise InputError(f"target {target} has no closed form to build on; give range, volatility, volume or drawdown")
    found = []
    for slot, group in groupby(places(histories, stretches, len(histories)), key=lambda place: place.slot):
        mine = list(group)
        date = str(histories[mine[0].history].timestamps[mine[0].test_start])[:10]
        if len(mine) > 1:
            found.append(
                Unit(
                    f"{target}{horizon}-{date}-{len(mine)}",
                    {
                        "target": target, "horizon": horizon, "test": date, "slot": slot, "days": list(DAYS), "seed": 100 * slot,
                        "symbols": [place.symbol for place in mine], "residual": asdict(SETTINGS),
                    },
                )
            )  # fmt: skip
    if not found:
        raise InputError("no stretch is covered by two files; pooling needs several coins of the same years")
    return found


def joined(panels: Sequence[Panel]) -> Panel:
    """Several assets of the same bars as one panel. InputError where bars or fields differ."""
    first = panels[0]
    for panel in panels[1:]:
        if panel.fields != first.fields or not np.array_equal(panel.timestamps, first.timestamps):
            raise InputError(f"{panel.assets[0]} has other bars or fields than {first.assets[0]} on this stretch")
    names = tuple(name for panel in panels for name in panel.assets)
    return replace(first, assets=names, values=np.concatenate([p.values for p in panels], 1), settlements={})


def compute(unit: Unit, histories: Sequence[Panel]) -> Result:
    """Per coin: skill and QLIKE of every arm on test, epochs of every network."""
    torch.set_num_threads(1)
    settings = unit.settings
    cuts = [stretch(panel, unit) for panel in histories if panel.assets[0] in settings["symbols"]]
    train, validation, test = cuts[0][1:]
    panels = [cut[0] for cut in cuts]
    target, horizon, seed = settings["target"], settings["horizon"], settings["seed"]
    singly = [Problem.of(panel, target, horizon) for panel in panels]
    every = Problem.of(joined(panels), target, horizon, features=singly[0].features)
    pooled = fit_residual(every, train, validation, SETTINGS, seed)
    told = pooled.model.forecast(every, test)
    coins = {}
    own_epochs = []
    for place, problem in enumerate(singly):
        own = fit_residual(problem, train, validation, SETTINGS, seed)
        own_epochs.append([m.epochs for m in own.model.members])
        base = replace(own.model, share=0.0).forecast(problem, test)[0]
        forecasts = {"harxl": base, "own": own.model.forecast(problem, test)[0], "pooled": told[place]}
        forecasts["both"] = (forecasts["own"] + forecasts["pooled"]) / 2.0
        coins[problem.panel.assets[0]] = _scores(
            problem, forecasts, own, pooled.validation[place], (train, validation), test
        )
    return {"coins": coins, "epochs": {"own": own_epochs, "pooled": [m.epochs for m in pooled.model.members]}}


def _scores(
    problem: Problem,
    forecasts: dict[str, FloatArray],
    own: Found,
    pooled: FloatArray,
    spans: tuple[slice, slice],
    test: slice,
) -> dict[str, dict[str, float]]:
    label, target = problem.label[0], problem.target
    columns = base_columns("ewma", problem.panel, target, problem.horizon)
    validation = spans[1]
    naive = fit_base("ewma", columns, problem.label, spans).forecast(columns)[0, test]
    before = {"harxl": own.base_validation[0], "own": own.validation[0], "pooled": pooled}
    before["both"] = (before["own"] + before["pooled"]) / 2.0
    return {
        name: {
            "skill": skill(label[test], forecast, naive),
            "qlike": float(np.nanmean(qlike(label[test], forecast, target.power, bias(label[validation], before[name], target.power)))),
        }
        for name, forecast in forecasts.items()
    }  # fmt: skip


def pooled_table(found: Sequence[Record]) -> tuple[str, str]:
    """(verdict, markdown) of all targets that have results."""
    parts, verdicts = [], []
    for (target, horizon), mine in grouped(found, "target", "horizon").items():
        scores = {
            score: np.array([[np.mean([c[a][score] for c in r.result["coins"].values()]) for a in ARMS] for r in mine])
            for score in ("skill", "qlike")
        }
        rows = []
        for k, arm in enumerate(ARMS):
            over = [
                "" if arm == other else with_interval(scores["skill"][:, k] - scores["skill"][:, ARMS.index(other)], np.mean)
                for other in ("harxl", "own")
            ]  # fmt: skip
            rows.append([arm, f"{scores['skill'][:, k].mean():.3f}", *over, f"{scores['qlike'][:, k].mean():.4f}"])
        gain = scores["skill"][:, ARMS.index("pooled")] - scores["skill"][:, ARMS.index("own")]
        low, high = bootstrap_interval(gain, np.mean)
        word = "better than" if low > 0.0 else "worse than" if high < 0.0 else "not told apart from"
        symbols = len({symbol for r in mine for symbol in r.settings["symbols"]})
        name = f"{target}, {horizon} bars"
        verdicts.append(
            f"{name}: one network for all coins is {word} own ones, {with_interval(gain, np.mean)} skill "
            f"({len(mine)} test stretches, {symbols} symbols)."
        )
        head = ["forecast", "skill", "over HARXL", "over own networks", "QLIKE"]
        better = np.mean(
            [np.mean([c["pooled"]["skill"] > c["own"]["skill"] for c in r.result["coins"].values()]) for r in mine]
        )
        epochs = (
            np.mean([r.result["epochs"]["pooled"] for r in mine]),
            np.mean([e for r in mine for e in r.result["epochs"]["own"]]),
        )
        parts.append(
            f"### {name}\n\n{markdown(head, rows)}\n\nPooled above own in {better:.0%} of coins and stretches. "
            f"Epochs that validation chose: pooled {epochs[0]:.0f}, own {epochs[1]:.0f}."
        )
    return "\n".join(verdicts), "\n\n".join(parts)
