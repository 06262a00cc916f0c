"""Logits to mixing weights: the softmax at three temperatures, and the weights of an edge in a real search."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from data.sources import load_panel
from docs.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, figure
from nas.search import search
from nas.search.relaxation import softmax

OPS = ("zero", "identity", "conv3", "ema12", "diff1")


def draw() -> Figure:
    out = figure()
    left, right = out.subplots(1, 2)
    logits = torch.tensor([[0.0, 0.3, -0.2, 0.6, 0.1]])
    for k, (temperature, colour) in enumerate(((1.0, BLUE), (0.3, ORANGE), (0.1, GREEN))):
        weights = softmax(logits, torch.ones_like(logits, dtype=torch.bool), temperature)[0]
        left.bar(
            [x + 0.27 * (k - 1) for x in range(5)], weights, 0.25, color=colour, label=f"temperature {temperature:g}"
        )
    left.set_xticks(range(5), [f"{op}\nα = {v:g}" for op, v in zip(OPS, logits[0].tolist(), strict=True)])
    left.set(ylabel="weight in the mix", title="The same logits at three temperatures")
    left.legend(frameon=False)

    panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-04-01", source="simulated")
    found = search(panel, ops=OPS, nodes=1, channels=4, epochs=30, alpha_learning_rate=0.1)
    for k, (op, colour) in enumerate(zip(OPS, (GREY, BLUE, RED, GREEN, ORANGE), strict=True)):
        right.plot([row["op_weights"][0][k] for row in found.history], color=colour, label=op)
    right.set(xlabel="epoch", ylim=(0, None), title="One edge of a search on the simulated market")
    right.legend(frameon=False, ncols=2)
    return out
