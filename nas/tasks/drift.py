"""Has the market changed since the architecture was found? Detectors of river on two streams: volatility and forecast error.

Bars are averaged in blocks first: single bars are too noisy and too dependent (GARCH) for detectors that assume independence.
The streams are standardised by a reference stretch, so one set of thresholds serves every market. `benchmarks/drift.py` measures
false alarms and detections; tests hold the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BLOCK_BARS = 12
# calibrated on GARCH(1,1) with Student-t(5) shocks (benchmarks/drift.py): together well below one false alarm in 2,000 bars
ADWIN_DELTA = 0.02
PAGE_HINKLEY_DELTA = 0.5  # in standard deviations of the reference blocks
PAGE_HINKLEY_THRESHOLD = 12.0


@dataclass(frozen=True)
class Alarm:
    """A detector's word that a stream has changed. bar: the last bar it had read."""

    bar: int
    detector: str
    stream: str


def block_means(values: FloatArray, bars: int = BLOCK_BARS) -> FloatArray:
    """[T] or [T, asset] -> [T // bars], the mean of each whole block over bars and assets; NaN is left out, an empty block is NaN."""
    count = len(values) // bars
    parts = values[: count * bars].reshape(count, int(np.prod((bars, *values.shape[1:]))))
    known = np.isfinite(parts)
    total = np.where(known, parts, 0.0).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: FloatArray = total / known.sum(1)
    return out


def volatility_stream(log_returns: FloatArray) -> FloatArray:
    """log of the mean absolute return of each block: a doubling of volatility is a step of log 2. log_returns: [T, asset]."""
    return np.log(np.maximum(block_means(np.abs(log_returns)), 1e-12))


def error_stream(forecast: FloatArray, label: FloatArray) -> FloatArray:
    """Squared error beyond that of forecasting nothing, per block: rises when the forecast loses its worth. [T, asset] both.

    A label of bar t is known only after its horizon; the caller cuts the stretch accordingly.
    """
    return block_means((forecast - label) ** 2 - label**2)


def detectors() -> dict[str, Any]:
    """Fresh detectors by name."""
    # start-up time: river takes half a second, and only a search on drift asks
    from river.drift import ADWIN, PageHinkley

    return {
        "ADWIN": ADWIN(delta=ADWIN_DELTA, clock=1),
        "PageHinkley": PageHinkley(
            min_instances=20, delta=PAGE_HINKLEY_DELTA, threshold=PAGE_HINKLEY_THRESHOLD, alpha=1.0
        ),
    }


def alarms(
    name: str,
    reference: FloatArray,
    stream: FloatArray,
    first_bar: int,
    make: Callable[[], dict[str, Any]] = detectors,
) -> list[Alarm]:
    """Alarms over `stream`, after the detectors have got used to `reference` (blocks, both); first_bar: the first bar of `stream`.

    A causal reading: the alarm of block k depends on blocks <= k only.
    """
    known = reference[np.isfinite(reference)]
    if len(known) < 5:
        return []
    mean, deviation = float(known.mean()), float(known.std())
    deviation = deviation if deviation > 1e-12 else 1.0
    found = []
    for detector, watcher in make().items():
        for value in known:
            watcher.update((value - mean) / deviation)
        for block, value in enumerate(stream):
            if not np.isfinite(value):
                continue
            watcher.update((value - mean) / deviation)
            if watcher.drift_detected:
                found.append(Alarm(first_bar + (block + 1) * BLOCK_BARS - 1, detector, name))
    return sorted(found, key=lambda alarm: alarm.bar)


def change_points(stream: FloatArray, penalty: float = 8.0) -> list[int]:
    """Offline: first blocks of the segments that PELT (ruptures, L2 cost) finds in a stream; for the report, never for a decision.

    penalty: in variances of the stream's block-to-block noise.
    """
    seen = np.isfinite(stream)
    if len(stream) < 10 or not seen.any():
        return []
    known = np.where(seen, stream, stream[seen].mean())
    import ruptures  # start-up time: only the report asks

    noise = float(np.median(np.diff(known) ** 2)) / 0.91  # median of a squared normal difference is 2 * 0.455 variances
    if noise <= 0:
        return []
    ends = ruptures.KernelCPD(kernel="linear", min_size=5).fit(known).predict(pen=penalty * noise * np.log(len(known)))
    return [int(end) for end in ends[:-1]]
