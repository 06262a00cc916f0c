"""Regret of rivals over the trainings they have paid for, and of every variant at what its search cost (docs/benchmark.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from docs.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, figure

FILE = Path(__file__).resolve().parents[1] / "evidence" / "rivals.json"
COLOURS = {"random": GREY, "evolution": BLUE, "local": GREEN, "tpe": ORANGE, "halving": RED}


def draw() -> Figure:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    out = figure(9.0, 3.6)
    left, right = out.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for name, rival in found["rivals"].items():
        curve = np.array(rival["curve"], dtype=float).mean(0)
        left.plot(np.arange(1, len(curve) + 1), curve, color=COLOURS[name], lw=1.4, label=name)
        mean, low, high = rival["mean"]
        place = list(COLOURS).index(name)
        right.errorbar(place, mean, [[mean - low], [high - mean]], color=COLOURS[name], marker="o", ms=4)
    for marker, (epochs, group) in zip("ox^", found["variants"].items(), strict=False):
        costs, regrets = zip(*((v["cost"], v["mean"][0]) for v in group["variants"].values()), strict=True)
        label = f"variants of differentiable search, {epochs} epochs"
        left.scatter(costs, regrets, s=16, marker=marker, color="black", alpha=0.6, lw=0.8, label=label, zorder=3)
    left.axhline(1.0, color=GREY, ls=":", lw=0.8)
    left.set(xscale="log", ylim=(0.0, 1.4), xlabel="trainings paid for", ylabel="regret (0 the best network, 1 the median)",
             title="Mean over tasks and runs")  # fmt: skip
    left.legend(frameon=False, fontsize=7, loc="lower left")
    right.set(
        xticks=range(len(COLOURS)),
        xlim=(-0.5, len(COLOURS) - 0.5),
        title=f"After {found['budget']} trainings, 95% intervals",
    )
    right.set_xticklabels(list(COLOURS), rotation=20)
    return out
