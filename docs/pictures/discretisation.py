"""Relaxed weights of a real search, what the rule keeps of them, and what the last round says about its neighbours."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data.sources import load_panel
from docs.pictures.style import BLUE, GREY, ORANGE, figure
from nas.search import search

OPS = ("zero", "identity", "conv3", "ema4", "ema12", "diff1")


def draw() -> Figure:
    panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-06-01", source="simulated")
    found = search(
        panel, ops=OPS, nodes=2, channels=4, epochs=20, alpha_learning_rate=0.1, finalists=5, finalist_epochs=5
    )
    out = figure(9.0, 3.4)
    left, right = out.subplots(1, 2, width_ratios=(1.0, 1.0))
    weights = np.array(found.op_weights)
    left.imshow(weights, cmap="Blues", vmin=0.0, aspect="auto")
    names = ["input" if source == 0 else f"node {source}" for source, _ in found.space.edges]
    left.set_yticks(
        range(len(names)),
        [f"{name} → node {node + 1}" for name, (_, node) in zip(names, found.space.edges, strict=True)],
    )
    left.set_xticks(range(len(OPS)), OPS)
    for edge, row in enumerate(weights):
        for op, weight in enumerate(row):
            left.text(op, edge, f"{weight:.2f}", ha="center", va="center", color="white" if weight > 0.3 else "black")
    for node, connections in enumerate(found.genotype.nodes):
        for c in connections:
            edge = found.space.edges.index((c.source, node))
            corner = (OPS.index(c.op) - 0.48, edge - 0.48)
            left.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor=ORANGE, lw=2.0))
    left.set_title("Relaxed weights; framed: chosen")
    left.spines[:].set_visible(False)
    names = [str(genotype) for genotype, _ in found.finalists]
    scores = [score for _, score in found.finalists]
    best = int(np.argmin(scores))
    right.plot(scores, range(len(names)), "o", color=GREY)
    right.plot(scores[best], best, "o", color=BLUE, ms=9)
    right.set_yticks(range(len(names)), [name.replace("; ", "\n") for name in names], fontsize=7.5)
    right.set_ylim(len(names) - 0.5, -0.5)
    right.grid(axis="y", lw=0.4)
    right.set(xlabel="validation loss after training apart", title="The last round, likeliest on top")
    return out
