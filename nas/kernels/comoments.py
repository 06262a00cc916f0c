"""Rolling skewness, and correlation and slope between two series; blocks and anchors as in `nas.kernels.moments`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns, periods
from nas.kernels.moments import turned
from nas.kernels.vectors import (
    aligned,
    fetch,
    fill,
    load,
    maximum,
    minimum,
    moved_up,
    root,
    store,
    total,
    where_positive,
)


@compiled
def _skew(x: FloatArray, window: int, min_periods: int, out: FloatArray) -> None:
    columns, bars = x.shape
    enough = max(min_periods, 3)
    # rows: known bars, sums of the first three powers about the anchor, anchor
    head = np.empty((5, window))
    tail = np.empty((4, window + 1))
    h_n, h1, h2, h3, anchors = head[0], head[1], head[2], head[3], head[4]
    t_n, t1, t2, t3 = tail[0], tail[1], tail[2], tail[3]
    for column in range(columns):
        tail[:] = 0.0
        tail_anchor = 0.0
        for start in range(0, bars, window):
            v = x[column, start : min(start + window, bars)]
            target = out[column, start : min(start + window, bars)]
            size = len(v)
            anchor = n = s1 = s2 = s3 = 0.0
            for k in range(size):
                if math.isfinite(v[k]):
                    if n == 0.0:
                        anchor = v[k]
                    d = v[k] - anchor
                    n += 1.0
                    s1 += d
                    s2 += d * d
                    s3 += d * d * d
                h_n[k], h1[k], h2[k], h3[k], anchors[k] = n, s1, s2, s3, anchor
            for k in range(size):
                rest, total = t_n[k + 1], h_n[k] + t_n[k + 1]
                gap = tail_anchor - anchors[k]
                gap = gap if h_n[k] > 0.0 and rest > 0.0 else 0.0
                p1 = h1[k] + (t1[k + 1] + rest * gap)
                p2 = h2[k] + (t2[k + 1] + gap * (2.0 * t1[k + 1] + rest * gap))
                p3 = h3[k] + (t3[k + 1] + gap * (3.0 * t2[k + 1] + gap * (3.0 * t1[k + 1] + rest * gap)))
                mean = p1 / total
                m2 = p2 - p1 * mean
                m3 = p3 - mean * (3.0 * p2 - 2.0 * p1 * mean)
                skew = total * math.sqrt((total - 1.0) / m2) * m3 / ((total - 2.0) * m2)
                skew = skew if m2 > 0.0 else 0.0
                target[k] = skew if total >= enough else np.nan
            tail_anchor = n = s1 = s2 = s3 = 0.0
            if size == window:
                for k in range(size - 1, -1, -1):
                    if math.isfinite(v[k]):
                        if n == 0.0:
                            tail_anchor = v[k]
                        d = v[k] - tail_anchor
                        n += 1.0
                        s1 += d
                        s2 += d * d
                        s3 += d * d * d
                    t_n[k], t1[k], t2[k], t3[k] = n, s1, s2, s3


def rolling_skew(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Bias-corrected sample skewness of the last `window` bars; 0 where nothing varies, NaN below three known values."""
    out, least = np.empty(x.shape), periods(window, min_periods)
    over_columns(lambda part: _skew(x[part], window, least, out[part]), x.shape, threads)
    return out


@compiled
def _counted(
    v: FloatArray, u: FloatArray, head: FloatArray, tail: FloatArray, anchors: FloatArray, whole: bool
) -> tuple[float, float]:  # fmt: skip
    """One block: sums over the bars known in both, from the front and (a whole block) from the back; returns the tail's anchors."""
    size = len(v)
    for way in range(2 if whole else 1):
        sums = tail if way else head
        anchor_x = anchor_y = n = sx = sy = sxx = syy = sxy = 0.0
        for step in range(size):
            k = size - 1 - step if way else step
            if math.isfinite(v[k]) and math.isfinite(u[k]):
                if n == 0.0:
                    anchor_x, anchor_y = v[k], u[k]
                d, e = v[k] - anchor_x, u[k] - anchor_y
                n += 1.0
                sx += d
                sy += e
                sxx += d * d
                syy += e * e
                sxy += d * e
            sums[0, k], sums[1, k], sums[2, k], sums[3, k], sums[4, k], sums[5, k] = n, sx, sy, sxx, syy, sxy
            if not way:
                anchors[0, k], anchors[1, k] = anchor_x, anchor_y
    return anchor_x, anchor_y


@compiled
def _clean(v: FloatArray, u: FloatArray, head: FloatArray, tail: FloatArray, anchors: FloatArray) -> bool:
    """`_counted` of a whole block without missing values, both ways at once; False where there is one. The counts are left alone."""
    n = len(v)
    end = np.uint64(n - 1)
    vx, vy, wx, wy = v[0], u[0], v[n - 1], u[n - 1]
    sx = sy = sxx = syy = sxy = 0.0
    px = py = pxx = pyy = pxy = 0.0
    for k in range(n):
        d, e = v[k] - vx, u[k] - vy
        sx += d
        sy += e
        sxx += d * d
        syy += e * e
        sxy += d * e
        head[1, k], head[2, k], head[3, k], head[4, k], head[5, k] = sx, sy, sxx, syy, sxy
        back = end - np.uint64(k)
        d, e = v[back] - wx, u[back] - wy
        px += d
        py += e
        pxx += d * d
        pyy += e * e
        pxy += d * e
        tail[1, back], tail[2, back], tail[3, back], tail[4, back], tail[5, back] = px, py, pxx, pyy, pxy
    if not (math.isfinite(sxx) and math.isfinite(syy)):
        return False
    for k in range(n):
        head[0, k] = k + 1.0
        tail[0, k] = n - k
        anchors[0, k] = vx
        anchors[1, k] = vy
    return True


@compiled
def _joined(
    head: FloatArray, tail: FloatArray, anchors: FloatArray, tail_x: float, tail_y: float, enough: int, slope: bool,
    target: FloatArray,
) -> None:  # fmt: skip
    """The windows of one block: heads of this one and tails of the one before, taken about the heads' anchors."""
    for k in range(len(target)):
        rest, tx, ty = tail[0, k + 1], tail[1, k + 1], tail[2, k + 1]
        total = head[0, k] + rest
        joint = head[0, k] > 0.0 and rest > 0.0
        gx, gy = tail_x - anchors[0, k], tail_y - anchors[1, k]
        gx, gy = gx if joint else 0.0, gy if joint else 0.0
        px = head[1, k] + (tx + rest * gx)
        py = head[2, k] + (ty + rest * gy)
        pxx = head[3, k] + (tail[3, k + 1] + gx * (2.0 * tx + rest * gx))
        pyy = head[4, k] + (tail[4, k + 1] + gy * (2.0 * ty + rest * gy))
        pxy = head[5, k] + (tail[5, k + 1] + gx * ty + gy * (tx + rest * gx))
        inverse = 1.0 / total
        vx = pxx - px * (px * inverse)
        vy = pyy - py * (py * inverse)
        cov = pxy - px * (py * inverse)
        if slope:
            value = cov / vy
            value = value if vy > 0.0 else np.nan
        else:
            value = cov / (math.sqrt(vx) * math.sqrt(vy))
            value = value if vx > 0.0 and vy > 0.0 else np.nan
            value = value if not value > 1.0 else 1.0
            value = value if not value < -1.0 else -1.0
        target[k] = value if total >= enough else np.nan


@compiled
def _eight_pairs(
    x: FloatArray, y: FloatArray, start: int, window: int, enough: bool, slope: bool, tail: FloatArray, tail_x: float, tail_y: float,
    room: FloatArray, out: FloatArray, lanes: Any,
) -> bool:  # fmt: skip
    """Eight whole blocks of `_pair` side by side, each in a lane of its own, by the same operations in the same order. tail, tail_x,
    tail_y: of the block before; tail becomes that of the last of the eight. False, and nothing done, where a value is missing."""
    size = 8 * (window + 1)  # room: x, y, five sums from the front, five from the back
    for k in range(0, 8 * window, 8):  # eight short rows at once are too many for the processor to foresee
        fetch(x, start + 8 * window + k)
        fetch(y, start + 8 * window + k)
        fetch(out, start + 8 * window + k)
    turned(x, start, window, room, 0, False, lanes)
    turned(y, start, window, room, size, False, lanes)
    end = 8 * (window - 1)
    vx, vy, wx, wy = (
        load(room, 0, lanes),
        load(room, size, lanes),
        load(room, end, lanes),
        load(room, size + end, lanes),
    )
    sx = sy = sxx = syy = sxy = px = py = pxx = pyy = pxy = fill(0.0, lanes)
    for k in range(0, 8 * window, 8):
        d, e, at = load(room, k, lanes) - vx, load(room, size + k, lanes) - vy, 2 * size + k
        sx += d
        sy += e
        sxx += d * d
        syy += e * e
        sxy += d * e
        store(room, at, sx)
        store(room, at + size, sy)
        store(room, at + 2 * size, sxx)
        store(room, at + 3 * size, syy)
        store(room, at + 4 * size, sxy)
        d, e, at = load(room, end - k, lanes) - wx, load(room, size + end - k, lanes) - wy, 7 * size + end - k
        px += d
        py += e
        pxx += d * d
        pyy += e * e
        pxy += d * e
        store(room, at, px)
        store(room, at + size, py)
        store(room, at + 2 * size, pxx)
        store(room, at + 3 * size, pyy)
        store(room, at + 4 * size, pxy)
    if total((sxx - sxx) + (syy - syy)) != 0.0:
        return False
    gx, gy = moved_up(wx, tail_x) - vx, moved_up(wy, tail_y) - vy  # the block before each one stands a lane to its left
    inverse, two, nothing = fill(1.0 / window, lanes), fill(2.0, lanes), fill(np.nan, lanes)
    zero = fill(0.0, lanes)
    for k in range(window):
        at, back = 2 * size + 8 * k, 7 * size + 8 * (k + 1)
        rest = fill(window - (k + 1.0), lanes)
        if k == window - 1:
            gx = gy = zero
        tx, ty = (
            moved_up(load(room, back, lanes), tail[1, k + 1]),
            moved_up(load(room, back + size, lanes), tail[2, k + 1]),
        )
        txx = moved_up(load(room, back + 2 * size, lanes), tail[3, k + 1])
        tyy = moved_up(load(room, back + 3 * size, lanes), tail[4, k + 1])
        txy = moved_up(load(room, back + 4 * size, lanes), tail[5, k + 1])
        px = load(room, at, lanes) + (tx + rest * gx)
        py = load(room, at + size, lanes) + (ty + rest * gy)
        pxx = load(room, at + 2 * size, lanes) + (txx + gx * (two * tx + rest * gx))
        pyy = load(room, at + 3 * size, lanes) + (tyy + gy * (two * ty + rest * gy))
        pxy = load(room, at + 4 * size, lanes) + (txy + gx * ty + gy * (tx + rest * gx))
        of_x, of_y, cov = pxx - px * (px * inverse), pyy - py * (py * inverse), pxy - px * (py * inverse)
        if slope:
            value = where_positive(of_y, cov / of_y, nothing)
        else:
            value = where_positive(of_x, where_positive(of_y, cov / (root(of_x) * root(of_y)), nothing), nothing)
            value = maximum(fill(-1.0, lanes), minimum(fill(1.0, lanes), value))
        store(room, 8 * k, value if enough else nothing)
        for m in range(5):
            tail[m + 1, k] = room[(7 + m) * size + 8 * k + 7]
    turned(room, 0, window, out, start, True, lanes)
    return True


@compiled
def _pair(x: FloatArray, y: FloatArray, window: int, min_periods: int, slope: bool, out: FloatArray) -> None:
    columns, bars = x.shape
    enough = max(min_periods, 2)
    # rows: bars known in both, sums of x, y, xx, yy, xy about the anchors
    head, anchors = np.empty((6, window)), np.empty((2, window))
    old, new = np.empty((6, window + 1)), np.empty((6, window + 1))
    new[:, window] = 0.0
    lanes, room = (0,), aligned(12 * 8 * (window + 1))
    for column in range(columns):
        old[:] = 0.0
        tail_x = tail_y = 0.0
        done = single = 0  # bars that eight blocks at once saw to; up to where blocks are taken one by one
        clean = False
        for start in range(0, bars, window):
            if start < done:
                continue
            many = start + 8 * window
            if clean and window >= 8 and start >= single and many <= bars:
                mine = x[column], y[column], out[column]
                if _eight_pairs(
                    mine[0], mine[1], start, window, enough <= window, slope, old, tail_x, tail_y, room, mine[2], lanes
                ):
                    tail_x, tail_y, done = x[column, many - 1], y[column, many - 1], many
                    continue
                single = many
            stop = min(start + window, bars)
            v, u = x[column, start:stop], y[column, start:stop]
            whole = stop - start == window
            next_x, next_y = v[len(v) - 1], u[len(v) - 1]
            clean = whole and _clean(v, u, head, new, anchors)
            if not clean:
                next_x, next_y = _counted(v, u, head, new, anchors, whole)
            _joined(head, old, anchors, tail_x, tail_y, enough, slope, out[column, start:stop])
            tail_x, tail_y = next_x, next_y
            old, new = new, old


def _run(
    x: FloatArray, y: FloatArray, window: int, min_periods: int | None, slope: bool, threads: int | None
) -> FloatArray:
    if x.shape != y.shape:
        raise ValueError(f"the two series have shapes {x.shape} and {y.shape}; they must be equal")
    x, y = np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64)
    target, least = np.empty(x.shape), periods(window, min_periods)
    over_columns(lambda part: _pair(x[part], y[part], window, least, slope, target[part]), x.shape, threads)
    return target


def rolling_correlation(
    x: FloatArray, y: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Pearson correlation over the bars of the last `window` that are known in both; NaN where either is constant."""
    return _run(x, y, window, min_periods, False, threads)


def rolling_beta(
    x: FloatArray, y: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Least-squares slope of x on y, over the bars of the last `window` known in both; NaN where y is constant."""
    return _run(x, y, window, min_periods, True, threads)
