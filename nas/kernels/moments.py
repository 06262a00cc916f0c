"""Rolling sum, mean, standard deviation and z-score.

Sums are never carried through the whole history. Time is cut into blocks of one window; a window ending in block b is
the tail of block b-1 plus the head of block b, so each sum is two short ones, taken about a value (the anchor) that is
inside the window. No value that has left the window leaves a rounding error behind, and a large offset cancels exactly.

The sums from the front and from the back of a block run in one loop, so that neither waits for the other's additions;
the windows of a block are then combined without any dependence between bars, which the compiler vectorises. A block
with missing values takes the slower way that counts; both do the same arithmetic, so a value never depends on which
one was taken (the choice looks at bars of the block that may still lie ahead).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns, periods
from nas.kernels.vectors import aligned, fetch, fill, highest, load, moved_up, store, total, transpose

MEAN, STD, ZSCORE = 1, 2, 4


@compiled
def _sweep2(v: FloatArray, head1: FloatArray, head2: FloatArray, tail1: FloatArray, tail2: FloatArray) -> bool:
    """Sums and sums of squares about the first value from the front, about the last from the back; False where one is missing."""
    n = len(v)
    first, last = v[0], v[n - 1]
    h = t = hh = tt = 0.0
    end = np.uint64(n - 1)
    for k in range(n):
        d = v[k] - first
        h += d
        hh += d * d
        head1[k] = h
        head2[k] = hh
        back = end - np.uint64(k)
        e = v[back] - last
        t += e
        tt += e * e
        tail1[back] = t
        tail2[back] = tt
    return math.isfinite(h) and math.isfinite(hh)


@compiled
def _count(
    v: FloatArray,
    head: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    tail: tuple[FloatArray, FloatArray, FloatArray],
) -> float:
    """The same sums over known values only, with their number and the anchor of each bar's head; returns the tail's."""
    n = len(v)
    head_n, head1, head2, anchors = head
    tail_n, tail1, tail2 = tail
    anchor = c = h = hh = 0.0
    for k in range(n):
        if math.isfinite(v[k]):
            if c == 0.0:
                anchor = v[k]
            d = v[k] - anchor
            c += 1.0
            h += d
            hh += d * d
        head_n[k], head1[k], head2[k], anchors[k] = c, h, hh, anchor
    anchor = c = h = hh = 0.0
    for k in range(n - 1, -1, -1):
        if math.isfinite(v[k]):
            if c == 0.0:
                anchor = v[k]
            d = v[k] - anchor
            c += 1.0
            h += d
            hh += d * d
        tail_n[k], tail1[k], tail2[k] = c, h, hh
    return anchor


@compiled
def _combine2(
    head1: FloatArray,
    head2: FloatArray,
    tail1: FloatArray,
    tail2: FloatArray,
    full: float,
    gap: float,
    n: int,
    shift: FloatArray,
    squares: FloatArray,
) -> None:
    """Per window: its sum about the head's anchor, and its sum of squares about its own mean."""
    one_over = 1.0 / full
    for k in range(n):
        rest = full - (k + 1.0)
        s1 = head1[k] + (tail1[k + 1] + rest * gap)
        s2 = head2[k] + (tail2[k + 1] + gap * (2.0 * tail1[k + 1] + rest * gap))
        m2 = s2 - s1 * (s1 * one_over)
        shift[k] = s1
        squares[k] = m2 if m2 > 0.0 else 0.0


@compiled
def _moments(x: FloatArray, window: int, min_periods: int, want: int, outs: tuple[FloatArray, ...]) -> None:
    """outs: mean, std, z, each [C, T] or unused, as the bits of `want` say; std or z is wanted."""
    columns, bars = x.shape
    head1, head2, shift, spread = np.empty(window), np.empty(window), np.empty(window), np.empty(window)
    head_n, anchors = np.empty(window), np.empty(window)
    # the tails of the block before, one bar longer: a window that is all head has an empty tail
    old1, old2, old_n = np.zeros(window + 1), np.zeros(window + 1), np.zeros(window + 1)
    new1, new2, new_n = np.zeros(window + 1), np.zeros(window + 1), np.zeros(window + 1)
    full = float(window)
    one_over, one_less = 1.0 / full, 1.0 / (full - 1.0) if window > 1 else np.nan
    for column in range(columns):
        old_n[:] = 0.0
        old1[:] = 0.0
        old2[:] = 0.0
        old_clean = False
        old_anchor = 0.0
        for start in range(0, bars, window):
            v = x[column, start : min(start + window, bars)]
            n = len(v)
            clean = _sweep2(v, head1, head2, new1, new2)
            new_anchor = v[n - 1]
            if clean and old_clean and window > 1:
                base = v[0]
                gap = old_anchor - base
                _combine2(head1, head2, old1, old2, full, gap, n, shift, spread)
                if want == STD:  # the deviation alone goes straight out
                    target = outs[1][column, start : start + n]
                    for k in range(n):
                        target[k] = math.sqrt(spread[k] * one_less)
                else:
                    for k in range(n):
                        spread[k] = math.sqrt(spread[k] * one_less)
                    if want & STD:
                        target = outs[1][column, start : start + n]
                        for k in range(n):  # an array assigned to a slice takes as long to compile as all the rest
                            target[k] = spread[k]
                if want & ZSCORE:
                    target = outs[2][column, start : start + n]
                    for k in range(n):
                        z = ((v[k] - base) - shift[k] * one_over) / spread[k]
                        target[k] = z if spread[k] > 0.0 else 0.0
                if want & MEAN:
                    target = outs[0][column, start : start + n]
                    for k in range(n):
                        target[k] = base + shift[k] * one_over
            else:
                if old_clean:
                    for k in range(window + 1):
                        old_n[k] = full - k
                new_anchor = _count(v, (head_n, head1, head2, anchors), (new_n, new1, new2))
                for k in range(n):
                    known, rest = head_n[k], old_n[k + 1]
                    total = known + rest
                    if total < min_periods:
                        s1 = m2 = base = one = less = np.nan
                    else:
                        base = anchors[k] if known > 0.0 else old_anchor
                        gap = old_anchor - base if rest > 0.0 else 0.0
                        s1 = head1[k] + (old1[k + 1] + rest * gap)
                        s2 = head2[k] + (old2[k + 1] + gap * (2.0 * old1[k + 1] + rest * gap))
                        one = 1.0 / total
                        less = 1.0 / (total - 1.0) if total > 1.0 else np.nan
                        m2 = s2 - s1 * (s1 * one)
                        m2 = m2 if m2 > 0.0 else 0.0
                    deviation = math.sqrt(m2 * less)
                    if want & MEAN:
                        outs[0][column, start + k] = base + s1 * one
                    if want & STD:
                        outs[1][column, start + k] = deviation
                    if want & ZSCORE:
                        z = ((v[k] - base) - s1 * one) / deviation
                        value = z if deviation > 0.0 else 0.0
                        outs[2][column, start + k] = value if math.isfinite(v[k] + deviation) else np.nan
            old_clean = clean and n == window
            old_anchor = new_anchor
            old1, new1 = new1, old1
            old2, new2 = new2, old2
            old_n, new_n = new_n, old_n


@compiled
def _counted_sums(
    v: FloatArray, old: FloatArray, old_n: FloatArray, old_anchor: float, new: FloatArray, new_n: FloatArray,
    least: int, mean: bool, target: FloatArray,
) -> float:  # fmt: skip
    """One block of `_sums` with missing values in reach; returns the anchor of its tails."""
    n = len(v)
    head, squares, head_n, anchors = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    anchor = _count(v, (head_n, head, squares, anchors), (new_n, new, squares))
    for k in range(n):
        known, rest = head_n[k], old_n[k + 1]
        total = known + rest
        if total < least:
            target[k] = np.nan
            continue
        base = anchors[k] if known > 0.0 else old_anchor
        gap = old_anchor - base if rest > 0.0 else 0.0
        sum_ = head[k] + (old[k + 1] + rest * gap)
        target[k] = base + sum_ * (1.0 / total) if mean else total * base + sum_
    return anchor


@compiled
def turned(x: FloatArray, place: int, window: int, out: FloatArray, to: int, back: bool, lanes: Any) -> None:
    """Eight blocks in a row to [bar of the block, block], and back: squares of eight, the last of which may overlap."""
    for k in range(0, window, 8):
        at = min(k, window - 8)
        if back:
            transpose(x, place + at * 8, 8, out, to + at, window, lanes)
        else:
            transpose(x, place + at, window, out, to + at * 8, 8, lanes)


@compiled
def _eight_sums(
    row: FloatArray, start: int, window: int, mean: bool, tail: FloatArray, anchor: float,
    values: FloatArray, heads: FloatArray, tails: FloatArray, target: FloatArray, lanes: Any,
) -> tuple[bool, float]:  # fmt: skip
    """Eight whole blocks of `_sums` side by side, each in a lane of its own, by the same additions in the same order. tail, anchor: of the
    block before; both become those of the last of the eight. (False, 0), and nothing done, where a value is missing."""
    for k in range(0, 8 * window, 8):  # eight short rows at once are too many for the processor to foresee
        fetch(row, start + 8 * window + k)
        fetch(target, start + 8 * window + k)
    turned(row, start, window, values, 0, False, lanes)
    first, last = load(values, 0, lanes), load(values, 8 * (window - 1), lanes)
    h = t = fill(0.0, lanes)
    for k in range(window):
        back = window - 1 - k
        h += load(values, 8 * k, lanes) - first
        store(heads, 8 * k, h)
        t += load(values, 8 * back, lanes) - last
        store(tails, 8 * back, t)
    if total(h - h) != 0.0:
        return False, 0.0
    full = float(window)
    gap, scale = moved_up(last, anchor) - first, fill(1.0 / full if mean else 1.0, lanes)
    base = first if mean else fill(full, lanes) * first
    for k in range(window):  # the block before each one stands a lane to its left
        rest, before = fill(full - (k + 1.0), lanes), moved_up(load(tails, 8 * (k + 1), lanes), tail[k + 1])
        store(heads, 8 * k, base + (load(heads, 8 * k, lanes) + (before + rest * gap)) * scale)
        tail[k] = tails[8 * k + 7]
    turned(heads, 0, window, target, start, True, lanes)
    return True, highest(last)


@compiled
def _sums(x: FloatArray, window: int, min_periods: int, mean: bool, out: FloatArray) -> None:
    """`_moments` where only sums or means are wanted. Blocks are places in a row, not slices of it: counting the references to a
    slice takes as long as the sums of a short block."""
    columns, bars = x.shape
    head = np.empty(window)
    # tails of the block before and of this one, in turn, each one bar longer: a window that is all head has an empty tail
    tails, tails_n = np.zeros(2 * (window + 1)), np.zeros(2 * (window + 1))
    one, eight, size, many = np.uint64(1), np.uint64(8), np.uint64(window), np.uint64(bars)
    full = float(window)
    scale = 1.0 / full if mean else 1.0
    lanes, room = (0,), 8 * (window + 1)
    scratch = aligned(3 * room)
    values, heads, beside = scratch[:room], scratch[room : 2 * room], scratch[2 * room : 3 * room]
    for column in range(columns):
        row, target = x[column], out[column]
        single = np.uint64(0)  # up to here blocks are taken one by one
        tails[:] = 0.0
        tails_n[:] = 0.0
        old, new = np.uint64(0), size + one
        start = np.uint64(0)
        old_clean = False
        old_anchor = 0.0
        while start < many:
            if old_clean and window >= 8 and start >= single and start + eight * size <= many:
                tail = tails[old : old + size + one]
                clean, anchor = _eight_sums(
                    row, int(start), window, mean, tail, old_anchor, values, heads, beside, target, lanes
                )
                if clean:
                    start += eight * size
                    old_anchor = anchor
                    continue
                single = start + eight * size
            stop = min(start + size, many)
            n = stop - start
            first, last = row[start], row[stop - one]
            h = t = 0.0
            # unsigned: a signed index would be checked for counting from the end, 1.7 times the time
            for place in range(window if n == size else bars % window):
                k = np.uint64(place)
                h += row[start + k] - first
                head[k] = h
                back = n - one - k
                t += row[start + back] - last
                tails[new + back] = t
            clean = math.isfinite(h)
            new_anchor = last
            if clean and old_clean:
                past = old + one
                gap = old_anchor - first
                base = first if mean else full * first
                for place in range(window if n == size else bars % window):
                    k = np.uint64(place)
                    target[start + k] = base + (head[k] + (tails[past + k] + (full - (place + 1.0)) * gap)) * scale
            else:
                if old_clean:
                    for place in range(window + 1):
                        tails_n[old + np.uint64(place)] = full - place
                new_anchor = _counted_sums(
                    row[start:stop], tails[old : old + size + one], tails_n[old : old + size + one], old_anchor,
                    tails[new : new + size + one], tails_n[new : new + size + one], min_periods, mean, target[start:stop],
                )  # fmt: skip
            old_clean = clean and n == size
            old_anchor = new_anchor
            old, new = new, old
            start = stop


def _run(x: FloatArray, window: int, min_periods: int | None, want: dict[int, FloatArray], threads: int | None) -> None:
    least = periods(window, min_periods)
    unused = np.empty((x.shape[0], 0))
    outs = [want.get(bit, unused) for bit in (MEAN, STD, ZSCORE)]

    def run(part: slice) -> None:
        _moments(x[part], window, least, sum(want), tuple(out[part] for out in outs))

    over_columns(run, x.shape, threads)


def _one(x: FloatArray, window: int, min_periods: int | None, bit: int, threads: int | None) -> FloatArray:
    out = np.empty(x.shape)
    _run(x, window, min_periods, {bit: out}, threads)
    return out


def _first(x: FloatArray, window: int, min_periods: int | None, mean: bool, threads: int | None) -> FloatArray:
    x, out, least = np.ascontiguousarray(x, np.float64), np.empty(x.shape), periods(window, min_periods)
    over_columns(lambda part: _sums(x[part], window, least, mean, out[part]), x.shape, threads)
    return out


def rolling_sum(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Sum of the known values of the last `window` bars."""
    return _first(x, window, min_periods, False, threads)


def rolling_mean(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Mean over the last `window` bars."""
    return _first(x, window, min_periods, True, threads)


def rolling_std(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Sample standard deviation (ddof 1) over the last `window` bars; NaN where only one value is known."""
    return _one(x, window, min_periods, STD, threads)


def rolling_zscore(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """(newest value - mean) / standard deviation of the last `window` bars; a constant window has z-score 0."""
    return _one(x, window, min_periods, ZSCORE, threads)


def rolling_moments(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, sample standard deviation and z-score in one pass."""
    mean, std, z = np.empty(x.shape), np.empty(x.shape), np.empty(x.shape)
    _run(x, window, min_periods, {MEAN: mean, STD: std, ZSCORE: z}, threads)
    return mean, std, z
