"""Windows as the main job cuts them, under the market they are cut from."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from data.sources import load_panel
from docs.pictures.style import BLUE, GREEN, GREY, ORANGE, figure
from nas.space.search_space import SearchSpace
from nas.tasks.windows import WindowPlan


def draw() -> Figure:
    panel = load_panel(["BTCUSDT"], "60", start="2023-01-01", end="2024-12-31", source="simulated")
    purge = SearchSpace().receptive_field + 6 + 1
    plan = WindowPlan(train=180 * 24, validation=60 * 24, test=60 * 24, step=60 * 24)
    windows = plan.windows(len(panel), first=200, purge_bars=purge)
    out = figure(8.0, 4.2)
    top, bottom = out.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
    days = np.arange(0, len(panel), 24) / 24  # one point a day
    top.plot(days, panel.column("close", "BTCUSDT")[::24], color="black", lw=0.7)
    for k, colour in enumerate((BLUE, GREEN, ORANGE)):
        top.fill_between(
            days, 0, 1, where=panel.regimes[::24] == k, transform=top.get_xaxis_transform(), color=colour, alpha=0.15
        )
    top.set(ylabel="close", title=f"Simulated market, shaded by true regime ({', '.join(panel.regime_names)})")
    for window in windows:
        for part, colour, label in (
            (window.train, GREY, "train"), (window.validation, BLUE, "validation"), (window.test, ORANGE, "test, traded"),
        ):  # fmt: skip
            bottom.barh(
                window.number, (part.stop - part.start) / 24, left=part.start / 24, color=colour, height=0.7,
                label=label if window.number == 0 else None,
            )  # fmt: skip
    bottom.invert_yaxis()
    bottom.set(xlabel="day", ylabel="window", title="Each test stretch is traded by what was known before it")
    bottom.legend(frameon=False, loc="upper right")
    return out
