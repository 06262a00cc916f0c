"""A forecast with skill and one that reads a bar ahead, against single bars; which bars the splits of cross-validation hold out."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from data.simulated import simulate
from docs.pictures.style import BLUE, GREY, ORANGE, figure
from nas.features.bank import causal_volatility
from nas.tasks.splits import groups_of, splits_of
from strategies.walkforward.forecast_sheet import lead_lag, standardised

BARS, START = 6_000, 200


def draw() -> Figure:
    out = figure(9.0, 3.2)
    left, right = out.subplots(1, 2)
    begin = np.datetime64("2024-01-01", "ns")
    panel = simulate(["BTCUSDT"], "60", start=begin, end=begin + np.timedelta64(BARS, "h"), seed=3)
    moved = np.diff(np.log(panel.field("open")[:, 0]), append=np.nan)
    moved = np.nan_to_num(moved / moved[:-1].std())
    noise = np.random.default_rng(0).normal(size=BARS)
    slow = np.convolve(moved, np.ones(8) / 8)[7 : 7 + BARS]  # of the bars that follow: planted skill, mostly noise
    for name, forecast, colour in (
        ("skill", 0.35 * np.roll(slow, -1) + noise, BLUE),
        ("reads one bar ahead", 0.35 * np.roll(moved, -1) + noise, ORANGE),
    ):
        stop = BARS - 20
        groups = np.zeros(stop - START)
        ranked = standardised(forecast[START:stop, None], groups, True)
        curve = lead_lag(panel, ranked, groups, causal_volatility(panel), START)
        lags, values = ([point[key] for point in curve] for key in ("lag", "ic"))
        errors = [2 * point["error"] for point in curve]
        left.errorbar(lags, values, errors, color=colour, marker="o", ms=4, lw=1.2, label=name)
    left.axvline(0.5, color=GREY, ls=":")
    left.axhline(0.0, color="black", lw=0.8)
    left.set(xlabel="bars after the forecast", ylabel="correlation with one bar's return", title="Lead and lag")
    left.legend(frameon=False)

    groups = groups_of(0, 10_000, 10)
    for split in splits_of(groups, 2, 200, 7):
        for part in split.train:
            right.barh(split.number, part.stop - part.start, left=part.start, color=GREY, height=0.8)
        size = split.validation.stop - split.validation.start
        right.barh(split.number, size, left=split.validation.start, color=BLUE, height=0.8)
        for part in split.held:
            right.barh(split.number, part.stop - part.start, left=part.start, color=ORANGE, height=0.8)
    right.invert_yaxis()
    right.set(xlabel="bars", ylabel="split", title="45 splits: learnt, validated, held out", xticks=[])
    return out
