"""Outside forecasts as contenders: in the units that plans know, window by window, from bars before the window's choices only.

A file of forecasts has a past that a network trained for a window lacks: it goes on before the first test stretch. There, whole windows
are played beforehand (numbers below 0): their plans are chosen on their stop stretch, what they earned afterwards opens the record by which
the first window may trade (docs/decisions/111). They are no test: nothing of them is on the page, and a model that was fitted on those bars
gains no more from them than the leave to trade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data.errors import InputError
from data.panel import FloatArray, Panel
from nas.network.stretches import Samples
from nas.targets.returns import CLIP_DEVIATIONS
from nas.tasks.windows import Window
from nas.tasks.work import TaskResult
from strategies.walkforward.contenders import Contender
from strategies.walkforward.forecast_files import Given

KIND = "judged"
Unit = Literal["auto", "score", "return", "deviations", "price", "probability"]
LEAST_KNOWN = 0.9  # share of a stretch's bars that must have a forecast
FEW = 200  # labelled forecasts below which no size is learned
LEAST_SIZE = 0.01  # of a volatility: what a score says of the size of a move where the past grants it none


@dataclass(frozen=True, eq=False)
class Judged:
    """One model to be judged. raw: [T, A] as given. claimed: in standard deviations of the horizon's return, or a score around 0 whose size
    is learned (`sized`)."""

    name: str
    title: str
    description: str
    raw: FloatArray
    claimed: FloatArray
    sized: bool

    @classmethod
    def of(cls, given: Given, panel: Panel, horizon: int, volatility: FloatArray, unit: Unit) -> Judged:
        """InputError where the unit cannot be that of the values."""
        known = given.values[np.isfinite(given.values)]
        close = panel.field("close")
        if unit == "auto":
            unit = "deviations" if given.ours else guessed(given.values, close)
        scale = np.maximum(volatility, 1e-8) * np.sqrt(horizon)
        if unit == "price":
            if (known <= 0).any():
                raise InputError(
                    f"{given.title} is to be a price and has values of 0 or below: give --forecasts-are return or score"
                )
            claimed, told = (
                np.log(given.values / close) / scale,
                f"the price {horizon} bars ahead, against the bar's close",
            )
        elif unit == "return":
            claimed, told = given.values / scale, f"the return over {horizon} bars"
        elif unit == "deviations":
            claimed, told = given.values, f"the return over {horizon} bars in standard deviations"
        elif unit == "probability":
            claimed, told = given.values - 0.5, "the probability of a rise, against one half"
        else:
            claimed, told = given.values, "a score: its sign is the side, its size is learned from the bars before"
        sized = unit in ("price", "return", "deviations")
        if sized and unit != "deviations":
            claimed = np.clip(claimed, -CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        return cls(
            given.name,
            given.title,
            f"forecasts of {given.title}, not made here; read as {told}",
            given.values,
            claimed,
            sized,
        )

    def contenders(self, samples: Samples, windows: Sequence[Window], seed: int) -> list[Contender]:
        """One per window, after those of the windows before the first."""
        return [self._contender(samples, window, seed) for window in (*self.before(windows), *windows)]

    def before(self, windows: Sequence[Window]) -> list[Window]:
        """Windows of the same shape before the first, as far back as the forecasts are known, oldest first."""
        first = windows[0]
        step = windows[1].test.start - first.test.start if len(windows) > 1 else first.test.stop - first.test.start
        found: list[Window] = []
        while True:
            shift = step * (len(found) + 1)
            moved = [
                slice(max(0, s.start - shift), max(0, s.stop - shift))
                for s in (first.train, first.validation, first.test)
            ]
            if first.stop.start - shift < 0 or moved[1].start == 0:
                return found[::-1]
            window = Window(
                -len(found) - 1, slice(0, max(0, moved[1].start - first.purge_bars)), moved[1], moved[2], 0, 0
            )
            if min(self.known(window.stop), self.known(window.test)) < LEAST_KNOWN:
                return found[::-1]
            found.append(window)

    def known(self, bars: slice) -> float:
        """Share of the bars, over all assets, that have a forecast."""
        return float(np.isfinite(self.raw[bars]).mean())

    def _contender(self, samples: Samples, window: Window, seed: int) -> Contender:
        size = 1.0 if self.sized else self._size(samples, window)
        stop, test = self.claimed[window.stop] * size, self.claimed[window.test] * size
        label = samples.labels[:, 0].T[window.stop]
        both = np.isfinite(stop) & np.isfinite(label)
        x, y = stop[both], label[both]
        moving = len(x) > 1 and x.std() > 0 and y.std() > 0
        report = {
            "architecture": self.name,
            "parameters": 0,
            "validation_loss": float(np.mean((x - y) ** 2)) if len(x) else float("nan"),
            "validation_correlation": float(np.corrcoef(x, y)[0, 1]) if moving else 0.0,
            "title": self.title,
            "description": self.description,
        }
        return Contender(
            self.name, KIND, window, KIND, seed, TaskResult({"stop_forecasts": stop, "test_forecasts": test}, report)
        )

    def _size(self, samples: Samples, window: Window) -> float:
        """How large a move a score of 1 stood for before the window's stop stretch: least squares through 0, never negative."""
        horizon = samples.horizons[0]
        past = slice(0, max(0, window.stop.start - horizon - 1))
        x, y = self.claimed[past].ravel(), samples.labels[:, 0].T[past].ravel()
        both = np.isfinite(x) & np.isfinite(y)
        x, y = x[both], y[both]
        if len(x) < FEW:
            own = self.claimed[window.stop]
            x, y = own[np.isfinite(own)], np.zeros(0)
        spread = float(np.sqrt(np.mean(x * x))) if len(x) else 0.0
        if spread < 1e-300:
            return 1.0
        slope = float(x @ y / (x @ x)) if len(y) else 0.0
        return max(slope, LEAST_SIZE / spread)


def guessed(values: FloatArray, close: FloatArray) -> Unit:
    """What the values can only be: prices lie beside the close, probabilities between 0 and 1 around one half; else a score."""
    known = np.isfinite(values) & np.isfinite(close)
    told = values[known]
    if len(told) and (told > 0).all() and float(np.median(np.abs(told / close[known] - 1.0))) < 0.2:
        return "price"
    if len(told) and told.min() >= 0.0 and told.max() <= 1.0 and 0.25 < float(np.median(told)) < 0.75:
        return "probability"
    return "score"


def check_covered(judged: Judged, panel: Panel, windows: Sequence[Window], files: Sequence[str]) -> str:
    """One line where some bars have no forecast, else empty. InputError where too few of a window have one."""

    def day(bar: int) -> str:
        return str(panel.timestamps[min(bar, len(panel) - 1)])[:10]

    rows = np.flatnonzero(np.isfinite(judged.raw).any(1))
    listed = np.isfinite(panel.field("close"))
    for part in ("stop", "test"):
        for window in windows:
            bars = getattr(window, part)
            wanted = listed[bars]
            known = float(np.isfinite(judged.raw[bars])[wanted].mean()) if wanted.any() else 1.0
            if known < LEAST_KNOWN:
                words = "is traded" if part == "test" else "chooses the plan"
                raise InputError(
                    f"{', '.join(files)}: {judged.title} knows {known:.0%} of the bars {day(bars.start)} to "
                    f"{day(bars.stop)}, which window {window.number} {words}; its forecasts run from {day(rows[0])} to {day(rows[-1])}: "
                    f"give candles of that span "
                    f"(--start {day(rows[0])} --end {day(rows[-1] + 1)}, with shorter --train and --validation where that leaves too "
                    "few), or the missing forecasts"
                )
    traded = slice(windows[0].test.start, windows[-1].test.stop)
    missing = int((listed[traded] & ~np.isfinite(judged.raw[traded])).sum())
    return (
        f"{judged.title}: no forecast in {missing:,} of the bars that are traded: nothing is traded anew there"
        if missing
        else ""
    )


def distinct(models: Sequence[Judged], taken: Sequence[str]) -> list[Judged]:
    """The models under names that no strategy of the run has."""
    return [replace(m, name=f"given_{m.name}") if m.name in taken else m for m in models]
