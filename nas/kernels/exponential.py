"""Exponentially weighted mean, standard deviation and z-score at many spans in one pass; Wilder's relative strength."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns

CHUNK = 256  # bars between the recurrence and the vectorised second half: all scratch stays in the first cache
MEAN, STD, ZSCORE = 1, 2, 4


@compiled
def _ewm(
    x: FloatArray, decays: FloatArray, least: FloatArray, want: int, mean: FloatArray, std: FloatArray, z: FloatArray
) -> None:
    """outs: [S, C, T]. The distance to the mean is carried instead of the mean, so that a large offset never enters the
    recurrence: delta[t] = x[t] - x[t-1] + distance[t-1], distance[t] = (1 - gain) delta[t]."""
    columns, bars = x.shape
    spans = len(decays)
    distances, variances, factors, lasts = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    state = np.empty((spans, 6))
    for column in range(columns):
        state[:] = 0.0
        for start in range(0, bars, CHUNK):
            stop = min(start + CHUNK, bars)
            v = x[column, start:stop]
            n = len(v)
            lacking = False  # a flag, not a sum: the compiler looks at several bars at once
            for k in range(n):
                lacking |= v[k] - v[k] != 0.0
            clean = not lacking
            for s in range(spans):
                decay, enough = decays[s], least[s]
                weight, squared, distance, variance = state[s, 0], state[s, 1], state[s, 2], state[s, 3]
                last, seen = state[s, 4], state[s, 5]
                settled = (
                    weight * decay + 1.0 == weight and squared * (decay * decay) + 1.0 == squared and seen >= enough
                )
                if settled and clean and seen > 1.0:
                    # the weights no longer move: the same arithmetic without them
                    gain = 1.0 / weight
                    keep, factor, squares = 1.0 - gain, weight * weight - squared, weight * weight
                    if want == MEAN:
                        target = mean[s, column, start:stop]
                        for k in range(n):
                            distance = keep * ((v[k] - last) + distance)
                            last = v[k]
                            target[k] = v[k] - distance
                    else:
                        for k in range(n):
                            delta = (v[k] - last) + distance
                            distance = keep * delta
                            variance = keep * (variance + gain * delta * delta)
                            last = v[k]
                            distances[k] = distance
                            variances[k] = variance
                        if want & MEAN:
                            target = mean[s, column, start:stop]
                            for k in range(n):
                                target[k] = v[k] - distances[k]
                        if want == STD:  # the deviation alone goes straight out
                            target = std[s, column, start:stop]
                            for k in range(n):
                                target[k] = math.sqrt(variances[k] * squares / factor)
                        else:
                            for k in range(n):
                                variances[k] = math.sqrt(variances[k] * squares / factor)
                        if want & STD and want != STD:
                            target = std[s, column, start:stop]
                            for k in range(n):
                                target[k] = variances[k]
                        if want & ZSCORE:
                            target = z[s, column, start:stop]
                            for k in range(n):
                                target[k] = distances[k] / variances[k] if variances[k] > 0.0 else 0.0
                    state[s, 2], state[s, 3], state[s, 4], state[s, 5] = distance, variance, last, seen + n
                    continue
                for k in range(n):
                    weight *= decay
                    squared *= decay * decay
                    if math.isfinite(v[k]):
                        weight += 1.0
                        squared += 1.0
                        gain = 1.0 / weight
                        delta = (v[k] - last) + distance if seen > 0.0 else 0.0
                        distance = (1.0 - gain) * delta
                        variance = (1.0 - gain) * (variance + gain * delta * delta)
                        last = v[k]
                        seen += 1.0
                    distances[k] = distance if seen >= enough else np.nan
                    variances[k] = variance
                    factors[k] = weight * weight - squared
                    lasts[k] = last
                    if want & (STD | ZSCORE):
                        squares = weight * weight
                        variances[k] = variance * squares if seen > 1.0 else np.nan
                state[s, 0], state[s, 1], state[s, 2], state[s, 3] = weight, squared, distance, variance
                state[s, 4], state[s, 5] = last, seen
                if want & MEAN:
                    target = mean[s, column, start:stop]
                    for k in range(n):
                        target[k] = lasts[k] - distances[k]
                if want & (STD | ZSCORE):
                    for k in range(n):
                        variances[k] = math.sqrt(variances[k] / factors[k])
                if want & STD:
                    target = std[s, column, start:stop]
                    for k in range(n):
                        target[k] = variances[k] if distances[k] == distances[k] else np.nan
                if want & ZSCORE:
                    target = z[s, column, start:stop]
                    for k in range(n):
                        score = (
                            distances[k] / variances[k] if variances[k] > 0.0 else 0.0 * (variances[k] + distances[k])
                        )
                        target[k] = score if math.isfinite(v[k]) else np.nan


def _spans(span: float | Sequence[float]) -> FloatArray:
    spans = np.atleast_1d(np.asarray(span, dtype=np.float64))
    if spans.ndim != 1 or len(spans) == 0 or not (spans >= 1.0).all():
        raise ValueError(f"spans must be at least 1 bar, not {span}")
    return spans


def _run(
    x: FloatArray, spans: FloatArray, min_periods: int | None, want: dict[int, FloatArray], threads: int | None
) -> None:
    """min_periods None: half the span."""
    least = np.maximum(spans // 2 if min_periods is None else np.full(len(spans), min_periods), 1.0)
    unused = np.empty((len(spans), x.shape[0], 0))
    outs = [want.get(bit, unused) for bit in (MEAN, STD, ZSCORE)]

    def run(part: slice) -> None:
        _ewm(x[part], 1.0 - 2.0 / (spans + 1.0), least, sum(want), *(out[:, part] for out in outs))

    over_columns(run, x.shape, threads)


def _one(x: FloatArray, span: float, min_periods: int | None, bit: int, threads: int | None) -> FloatArray:
    out = np.empty((1, *x.shape))
    _run(x, _spans(span), min_periods, {bit: out}, threads)
    value: FloatArray = out[0]
    return value


def ewm_mean(x: FloatArray, span: float, min_periods: int = 1, *, threads: int | None = None) -> FloatArray:
    """Exponentially weighted mean: weights (1 - 2 / (span + 1))^age over the known bars, as in pandas
    `ewm(span=span, adjust=True, ignore_na=False)`. At a missing bar the last mean stands."""
    return _one(x, span, min_periods, MEAN, threads)


def ewm_std(x: FloatArray, span: float, min_periods: int = 2, *, threads: int | None = None) -> FloatArray:
    """Exponentially weighted standard deviation, bias corrected; at a missing bar the last one stands."""
    return _one(x, span, min_periods, STD, threads)


def ewm_zscore(x: FloatArray, span: float, min_periods: int | None = None, *, threads: int | None = None) -> FloatArray:
    """(newest value - exponential mean) / exponential standard deviation; NaN at a missing bar, 0 where nothing varies.

    min_periods: known values before the first output; None: half the span.
    """
    return _one(x, span, min_periods, ZSCORE, threads)


def ewm_moments(
    x: FloatArray, spans: Sequence[float], min_periods: int | None = 2, *, threads: int | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, standard deviation and z-score of every span in one pass over x [C, T]: three arrays [S, C, T]."""
    values = _spans(spans)
    mean, std, z = (np.empty((len(values), *x.shape)) for _ in range(3))
    _run(x, values, min_periods, {MEAN: mean, STD: std, ZSCORE: z}, threads)
    return mean, std, z


@compiled
def _relative_strength(x: FloatArray, span: int, out: FloatArray) -> None:
    columns, bars = x.shape
    ups, downs = np.empty(CHUNK), np.empty(CHUNK)
    gain = 1.0 / span
    keep = 1.0 - gain
    for column in range(columns):
        up = down = 0.0
        seen = 0
        last = np.nan
        for start in range(0, bars, CHUNK):
            stop = min(start + CHUNK, bars)
            v = x[column, start:stop]
            n = len(v)
            target = out[column, start:stop]
            lacking = seen < span
            for k in range(n):
                change = v[k] - (v[k - 1] if k > 0 else last)
                lacking |= change - change != 0.0
                rise = change if change > 0.0 else 0.0
                ups[k] = gain * rise
                downs[k] = gain * (rise - change)
            if not lacking:
                for k in range(n):
                    up = keep * up + ups[k]
                    down = keep * down + downs[k]
                    ups[k] = up
                    downs[k] = down
                last = v[n - 1]
                for k in range(n):
                    total = ups[k] + downs[k]
                    target[k] = 100.0 * (ups[k] / total) if total != 0.0 else 50.0
                continue
            for k in range(n):
                change = v[k] - last
                last = v[k]
                known = math.isfinite(change)
                if known:
                    rise = change if change > 0.0 else 0.0
                    fall = rise - change
                    if seen < span:  # Wilder starts from the plain mean of the first `span` changes
                        up += rise * gain
                        down += fall * gain
                        seen += 1
                    else:
                        up = keep * up + gain * rise
                        down = keep * down + gain * fall
                ups[k] = up if known and seen >= span else np.nan
                downs[k] = down
            for k in range(n):
                total = ups[k] + downs[k]
                target[k] = 100.0 * (ups[k] / total) if total != 0.0 else 50.0


def relative_strength(x: FloatArray, span: int, *, threads: int | None = None) -> FloatArray:
    """Wilder's relative strength index (1978) of the changes of x, 0 to 100; 50 where nothing ever moved.

    Changes to or from a missing bar are left out and give NaN. Known from the `span`-th known change on.
    """
    if span < 1:
        raise ValueError(f"span must be at least 1 bar, not {span}")
    out = np.empty(x.shape)
    over_columns(lambda part: _relative_strength(x[part], span, out[part]), x.shape, threads)
    return out
