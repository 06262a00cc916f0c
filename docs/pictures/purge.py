"""Why stretches are kept apart: labels overlap for as long as they reach, and features look back."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from data.panel import Panel
from docs.pictures.style import BLUE, GREEN, GREY, ORANGE, RED, figure
from nas.network.stretches import labels
from nas.space.search_space import SearchSpace

HORIZON, BARS = 6, 40_000


def random_walk() -> Panel:
    """Hourly bars without any structure: what is measured on them is made by the labels alone."""
    steps = 0.005 * np.random.default_rng(0).standard_normal(BARS + 1)
    price = 100.0 * np.exp(np.cumsum(steps))
    fields = [
        price[:-1],
        np.maximum(price[:-1], price[1:]),
        np.minimum(price[:-1], price[1:]),
        price[1:],
        np.ones(BARS),
    ]
    start = np.datetime64("2020-01-01", "ns")
    times = start + np.arange(BARS) * np.timedelta64(3_600_000_000_000, "ns")
    names = ("open", "high", "low", "close", "volume")
    return Panel(times, ("WALK",), names, np.stack(fields, 1)[:, None, :], 3_600_000_000_000, "random walk", True)


def draw() -> Figure:
    out = figure(9.0, 3.2)
    left, right = out.subplots(1, 2, width_ratios=(1, 1.5))
    y = labels(random_walk(), (HORIZON,))[0, 0]
    y = y[np.isfinite(y)]
    lags = np.arange(13)
    measured = [float(np.corrcoef(y[: len(y) - k], y[k:])[0, 1]) if k else 1.0 for k in lags]
    left.bar(lags, measured, color=[ORANGE if k < HORIZON else GREY for k in lags])
    left.plot(lags, np.maximum(0.0, 1.0 - lags / HORIZON), "k.", label="1 - lag / horizon")
    left.set(xlabel="bars between two labels", ylabel="correlation", title="Labels of a random walk, horizon 6")
    left.legend(frameon=False)

    field = SearchSpace().receptive_field
    purge = field + HORIZON + 1
    for y_, (start, stop, colour, text) in enumerate(
        (
            (-160, 0, GREY, "training bars"),
            (
                0,
                HORIZON + 1,
                RED,
                f"the last label reads {HORIZON + 1} bars ahead (fill at the next open, then the horizon)",
            ),
            (purge - field + 1, purge, GREEN, f"the first forecast reads {field} bars back"),
            (purge, purge + 160, BLUE, "validation bars"),
        )
    ):
        right.barh(y_, stop - start, left=start, color=colour, height=0.55)
        right.text(-160, y_ - 0.42, text, fontsize=8)
    right.axvspan(0, purge, color=ORANGE, alpha=0.15)
    right.set_ylim(-0.8, 3.6)
    right.invert_yaxis()
    right.set_yticks([])
    right.set(xlabel="bars after the end of training", title=f"The purge of the default space: {purge} bars (shaded)")
    return out
