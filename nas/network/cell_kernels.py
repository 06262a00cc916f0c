"""A cell's forward pass and its gradients as compiled code, without calls of torch between (`nas.network.fused_cell` is the door).

Everything is [row, channel], rows being bars and batch together (row = bar * batch + stretch): a lag is `batch` rows. A vector holds
the channels of one row, or the same channel of neighbouring bars. Whatever multiplies goes through one micro-kernel, `eight`.

Arrays are flat float32. `hidden` has zeros before the first bar and behind the last, so that lags and blocks of eight need no care.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.kernels.compiling import compiled
from nas.kernels.vectors import exponential, fill, kept_apart, load, maximum, splat, store, total, transpose

Array = npt.NDArray[Any]
ROWS = 256  # of a sum over rows at a time: they stay in the first-level cache, and rounding stays small
ONE, ZERO, GAIN = np.float32(1.0), np.float32(0.0), np.float32(1.5)  # 1.5: nas.network.cell.activation


@compiled
def eight(
    a: Array, place: int, apart: int, step: int, b: Array, at: int, by: int, count: int,
    out: Array, to: int, down: int, lanes: Any,
) -> None:  # fmt: skip
    """out[to + j * down] += sum over i < count of a[place + j * apart + i * step] * b[at + i * by], for j < 8; b and out are vectors."""
    kept_apart()
    s0, s1, s2, s3 = (
        load(out, to, lanes),
        load(out, to + down, lanes),
        load(out, to + 2 * down, lanes),
        load(out, to + 3 * down, lanes),
    )
    to4 = to + 4 * down
    s4, s5, s6, s7 = (
        load(out, to4, lanes),
        load(out, to4 + down, lanes),
        load(out, to4 + 2 * down, lanes),
        load(out, to4 + 3 * down, lanes),
    )
    four = 4 * apart
    for _ in range(count):
        v, more = load(b, at, lanes), place + four
        s0 += splat(a, place, lanes) * v
        s1 += splat(a, place + apart, lanes) * v
        s2 += splat(a, place + 2 * apart, lanes) * v
        s3 += splat(a, place + 3 * apart, lanes) * v
        s4 += splat(a, more, lanes) * v
        s5 += splat(a, more + apart, lanes) * v
        s6 += splat(a, more + 2 * apart, lanes) * v
        s7 += splat(a, more + 3 * apart, lanes) * v
        place += step
        at += by
    store(out, to, s0)
    store(out, to + down, s1)
    store(out, to + 2 * down, s2)
    store(out, to + 3 * down, s3)
    store(out, to4, s4)
    store(out, to4 + down, s5)
    store(out, to4 + 2 * down, s6)
    store(out, to4 + 3 * down, s7)


@compiled
def product(
    x: Array, start: int, inner: int, w: Array, at: int, out: Array, to: int, outer: int, rows: int, lanes: Any
) -> None:
    """out[r] += x[r] @ w, for so many rows and up to seven more. x from `start`: [row, inner]; w from `at`: [inner, outer]."""
    kept_apart()
    for r in range(0, rows, 8):
        for o in range(0, outer, 8 * len(lanes)):
            eight(x, start + r * inner, inner, 1, w, at + o, outer, inner, out, to + r * outer + o, outer, lanes)


@compiled
def crossed(
    x: Array, start: int, inner: int, g: Array, at: int, outer: int, out: Array, to: int, rows: int, lanes: Any
) -> None:
    """out += x.T @ g over so many rows. x from `start`: [row, inner]; g from `at`: [row, outer]; out from `to`: [inner, outer]."""
    kept_apart()
    for r in range(0, rows, ROWS):
        n = min(ROWS, rows - r)
        for i in range(0, inner, 8):
            for o in range(0, outer, 8 * len(lanes)):
                eight(
                    x,
                    start + r * inner + i,
                    1,
                    inner,
                    g,
                    at + r * outer + o,
                    outer,
                    n,
                    out,
                    to + i * outer + o,
                    outer,
                    lanes,
                )


@compiled
def turned(w: Array, inner: int, outer: int) -> Array:
    """[.., inner, outer] -> [.., outer, inner], flat."""
    kept_apart()
    out = np.empty_like(w)
    for k in range(0, len(w), inner * outer):
        for i in range(inner):
            for o in range(outer):
                out[k + o * inner + i] = w[k + i * outer + o]
    return out


@compiled
def folded(
    scale: Array, weights: Array, c: int, mixed: bool, slots: int,
    constants: Array, factors: Array, matrices: Array, kernels: Array, attentions: Array, gains: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """(weights of every edge and lag [slot, c, c], projections [attention, c, 3c], unit gains of learned ops), from every factor.

    constants: (slot, entry), with `factors`; matrices: (entry, first kernel, last kernel); kernels: (slot, place among the weights);
    attentions: (edge, entry, band, place among the weights), with `gains`.
    """
    kept_apart()
    square = c * c
    folds = np.zeros(slots * square, dtype=np.float32)
    units = np.ones(len(matrices), dtype=np.float32)
    for m in range(len(constants)):
        slot, value = constants[m, 0], factors[m] * scale[constants[m, 1]]
        for i in range(c):
            folds[slot * square + i * c + i] += value
    for m in range(len(matrices)):
        if mixed:
            size = ZERO
            for k in range(matrices[m, 1], matrices[m, 2]):
                at = kernels[k, 1]
                for i in range(square):
                    size += weights[at + i] * weights[at + i]
            units[m] = ONE / math.sqrt(max(size, np.float32(1e-12)) / np.float32(c))
        value = scale[matrices[m, 0]] * units[m]
        for k in range(matrices[m, 1], matrices[m, 2]):
            to, at = kernels[k, 0] * square, kernels[k, 1]
            for i in range(square):
                folds[to + i] += value * weights[at + i]
    projections = np.empty(len(attentions) * 3 * square, dtype=np.float32)
    shorter = np.float32(c**-0.5)
    for m in range(len(attentions)):
        at, louder = attentions[m, 3], gains[m] * scale[attentions[m, 1]]
        for i in range(c):
            row = 3 * c * i
            for o in range(c):
                projections[3 * square * m + row + o] = weights[at + row + o] * shorter
                projections[3 * square * m + row + c + o] = weights[at + row + c + o]
                projections[3 * square * m + row + 2 * c + o] = weights[at + row + 2 * c + o] * louder
    return folds, projections, units


@compiled
def unfolded(
    d_folds: Array, d_projections: Array, scale: Array, weights: Array, units: Array, c: int, mixed: bool,
    constants: Array, factors: Array, matrices: Array, kernels: Array, attentions: Array, gains: Array,
    d_scale: Array, d_weights: Array,
) -> None:  # fmt: skip
    """The gradients of what `folded` made, added to those of factors and weights."""
    kept_apart()
    square = c * c
    for m in range(len(constants)):
        slot, trace = constants[m, 0], ZERO
        for i in range(c):
            trace += d_folds[slot * square + i * c + i]
        d_scale[constants[m, 1]] += factors[m] * trace
    for m in range(len(matrices)):
        inner, size = ZERO, ZERO
        for k in range(matrices[m, 1], matrices[m, 2]):
            to, at = kernels[k, 0] * square, kernels[k, 1]
            for i in range(square):
                inner += d_folds[to + i] * weights[at + i]
                size += weights[at + i] * weights[at + i]
        d_scale[matrices[m, 0]] += units[m] * inner
        value = scale[matrices[m, 0]] * units[m]
        # the unit gain falls as the weights grow: what points along them moves nothing
        along = inner / size if mixed and size > np.float32(1e-12) else ZERO
        for k in range(matrices[m, 1], matrices[m, 2]):
            to, at = kernels[k, 0] * square, kernels[k, 1]
            for i in range(square):
                d_weights[at + i] += value * (d_folds[to + i] - along * weights[at + i])
    shorter = np.float32(c**-0.5)
    for m in range(len(attentions)):
        at, louder, inner = attentions[m, 3], gains[m] * scale[attentions[m, 1]], ZERO
        for i in range(c):
            row, mine = at + 3 * c * i, 3 * square * m + 3 * c * i
            for o in range(c):
                d_weights[row + o] += d_projections[mine + o] * shorter
                d_weights[row + c + o] += d_projections[mine + c + o]
                inner += d_projections[mine + 2 * c + o] * weights[row + 2 * c + o]
                d_weights[row + 2 * c + o] += d_projections[mine + 2 * c + o] * louder
        d_scale[attentions[m, 1]] += gains[m] * inner


@compiled
def gate(v: Any, lanes: Any) -> Any:
    """Logistic function of a vector."""
    one = fill(ONE, lanes)
    return one / (one + exponential(fill(ZERO, lanes) - v))


@compiled
def activate(x: Array, at: int, hidden: Array, to: int, count: int, lanes: Any) -> None:
    """hidden = 1.5 * silu(x), so many numbers."""
    kept_apart()
    louder = fill(GAIN, lanes)
    for k in range(0, count, 8 * len(lanes)):
        v = load(x, at + k, lanes)
        store(hidden, to + k, louder * v * gate(v, lanes))


@compiled
def slope(x: Array, at: int, g: Array, frm: int, count: int, lanes: Any) -> None:
    """g *= the derivative of `activate` at x."""
    kept_apart()
    louder, one = fill(GAIN, lanes), fill(ONE, lanes)
    for k in range(0, count, 8 * len(lanes)):
        v = load(x, at + k, lanes)
        s = gate(v, lanes)
        store(g, frm + k, load(g, frm + k, lanes) * louder * s * (one + v * (one - s)))


@compiled
def settle(sums: Array, value: Array, at: int, inverse: Array, first: int, rows: int, c: int, lanes: Any) -> None:
    """value = soft norm of the sums, row by row from `first`; inverse: by what they were multiplied."""
    kept_apart()
    for r in range(first, rows):
        squares = fill(ZERO, lanes)
        for i in range(0, c, 8 * len(lanes)):
            v = load(sums, r * c + i, lanes)
            squares += v * v
        inverse[r] = ONE / math.sqrt(ONE + total(squares) / np.float32(c))
        smaller = splat(inverse, r, lanes)
        for i in range(0, c, 8 * len(lanes)):
            store(value, at + r * c + i, load(sums, r * c + i, lanes) * smaller)


@compiled
def unsettle(g: Array, value: Array, at: int, inverse: Array, first: int, rows: int, c: int, lanes: Any) -> None:
    """The gradient of `settle`, in place of that of the value."""
    kept_apart()
    for r in range(first, rows):
        inner = fill(ZERO, lanes)
        for i in range(0, c, 8 * len(lanes)):
            inner += load(g, r * c + i, lanes) * load(value, at + r * c + i, lanes)
        along, smaller = fill(total(inner) / np.float32(c), lanes), splat(inverse, r, lanes)
        for i in range(0, c, 8 * len(lanes)):
            store(g, r * c + i, smaller * (load(g, r * c + i, lanes) - load(value, at + r * c + i, lanes) * along))


@compiled
def average(
    x: Array, at: int, out: Array, to: int, first: int, bars: int, batch: int, c: int, decay: float, length: int, scale: float, lanes: Any
) -> None:  # fmt: skip
    """out = truncated exponential moving average of x, from bar `first` on; nothing lies before it."""
    kept_apart()
    d, tail, s = fill(np.float32(decay), lanes), fill(np.float32(decay**length), lanes), fill(np.float32(scale), lanes)
    for b in range(batch):
        for i in range(0, c, 8 * len(lanes)):
            state = fill(ZERO, lanes)
            for t in range(first, bars):
                place = (t * batch + b) * c + i
                new = load(x, at + place, lanes)
                if t - length >= first:
                    new -= tail * load(x, at + place - length * batch * c, lanes)
                state = d * state + new
                store(out, to + place, s * state)


@compiled
def unaverage(
    g: Array, out: Array, to: int, first: int, bars: int, batch: int, c: int, decay: float, length: int, scale: float, lanes: Any
) -> None:  # fmt: skip
    """out += the adjoint of `average`: the same sums run backwards in time."""
    kept_apart()
    d, tail, s = fill(np.float32(decay), lanes), fill(np.float32(decay**length), lanes), fill(np.float32(scale), lanes)
    for b in range(batch):
        for i in range(0, c, 8 * len(lanes)):
            state = fill(ZERO, lanes)
            for t in range(bars - 1, first - 1, -1):
                place = (t * batch + b) * c + i
                new = load(g, place, lanes)
                if t + length < bars:
                    new -= tail * load(g, place + length * batch * c, lanes)
                state = d * state + new
                store(out, to + place, load(out, to + place, lanes) + s * state)


@compiled
def copied(x: Array, at: int, out: Array, to: int, count: int) -> None:
    """out = x, so many numbers."""
    for k in range(count):
        out[to + k] = x[at + k]


@compiled
def scaled(x: Array, at: int, factor: float, out: Array, to: int, count: int, lanes: Any) -> None:
    """out += factor * x, so many numbers."""
    kept_apart()
    f = fill(np.float32(factor), lanes)
    for k in range(0, count, 8 * len(lanes)):
        store(out, to + k, load(out, to + k, lanes) + f * load(x, at + k, lanes))


@compiled
def inner(x: Array, at: int, y: Array, to: int, count: int, lanes: Any) -> float:
    """Sum of x * y over so many numbers."""
    kept_apart()
    found, n = 0.0, 8 * len(lanes)
    for first in range(0, count, n * ROWS):
        part = fill(ZERO, lanes)
        for k in range(first, min(count, first + n * ROWS), n):
            part += load(x, at + k, lanes) * load(y, to + k, lanes)
        found += total(part)
    return found


@compiled
def masks(band: int, lanes: Any) -> Array:
    """[key, query of a block] 0 where the query sees the key, -inf elsewhere. Key k lies band - 1 - k bars before the first query."""
    kept_apart()
    n = 8 * len(lanes)
    out = np.empty((band + n + 7) * n, dtype=np.float32)
    for k in range(band + n + 7):
        for u in range(n):
            out[k * n + u] = ZERO if k - band < u <= k and k < band + n - 1 else -np.inf
    return out


@compiled
def attend(
    qkv: Array, shares: Array, at: int, out: Array, band: int, known: int, first: int, bars: int, batch: int, c: int, lanes: Any
) -> None:  # fmt: skip
    """out += attention over the last `band` bars, for bars first..bars. qkv: [row, 3c], known from bar `known` on.

    shares: from `at`, [block, stretch, key, query], the weights of every block of queries, kept for the way back.
    """
    kept_apart()
    n = 8 * len(lanes)
    keys, width, step = band + n - 1, 3 * c, batch * 3 * c
    mask, tile = masks(band, lanes), np.empty(c * n, dtype=np.float32)
    for t in range(first, bars, n):
        for b in range(batch):
            here = (t * batch + b) * width
            for i in range(0, c, n):
                transpose(qkv, here + i, step, tile, i * n, n, lanes)
            begin = max(0, known - (t - band + 1))
            back = here - (band - 1) * step
            for k in range(begin * n):
                shares[at + k] = ZERO
            for k in range(begin * n, (keys + 8) * n, n):
                store(shares, at + k, load(mask, k, lanes))
            for k in range(begin, keys, 8):
                eight(qkv, back + k * step + c, step, 1, tile, 0, n, c, shares, at + k * n, n, lanes)
            most = load(shares, at + begin * n, lanes)
            for k in range(begin + 1, keys):
                most = maximum(most, load(shares, at + k * n, lanes))
            sums = fill(ZERO, lanes)
            for k in range(begin, keys):
                share = exponential(load(shares, at + k * n, lanes) - most)
                sums += share
                store(shares, at + k * n, share)
            sums = fill(ONE, lanes) / sums
            for k in range(begin, keys):
                store(shares, at + k * n, load(shares, at + k * n, lanes) * sums)
            for k in range(keys * n, (keys + 8) * n):
                shares[at + k] = ZERO
            for u in range(0, n, 8):
                low = max(begin, u)
                for i in range(0, c, n):
                    eight(
                        shares, at + low * n + u, 1, n, qkv, back + low * step + 2 * c + i, step, u + 7 + band - low,
                        out, ((t + u) * batch + b) * c + i, batch * c, lanes,
                    )  # fmt: skip
            at += (keys + 8) * n


@compiled
def unattend(
    qkv: Array, shares: Array, at: int, g: Array, d_qkv: Array, band: int, known: int, first: int, bars: int, batch: int, c: int, lanes: Any
) -> None:  # fmt: skip
    """d_qkv += the gradient of `attend`, for that of its result, g (zero outside first..bars)."""
    kept_apart()
    n = 8 * len(lanes)
    keys, width, step = band + n - 1, 3 * c, batch * 3 * c
    tile, scores = np.empty(c * n, dtype=np.float32), np.zeros((keys + 8) * n, dtype=np.float32)
    for t in range(first, bars, n):
        for b in range(batch):
            here, row = (t * batch + b) * width, (t * batch + b) * c
            for i in range(0, c, n):
                transpose(g, row + i, batch * c, tile, i * n, n, lanes)
            begin = max(0, known - (t - band + 1))
            back = here - (band - 1) * step
            nothing = fill(ZERO, lanes)
            for k in range(begin, keys + 8):
                store(scores, k * n, nothing)
            for k in range(begin, keys, 8):
                eight(qkv, back + k * step + 2 * c, step, 1, tile, 0, n, c, scores, k * n, n, lanes)
            mean = fill(ZERO, lanes)
            for k in range(begin, keys):
                mean += load(shares, at + k * n, lanes) * load(scores, k * n, lanes)
            for k in range(begin, keys):
                store(scores, k * n, load(shares, at + k * n, lanes) * (load(scores, k * n, lanes) - mean))
            for k in range(keys, keys + 8):
                store(scores, k * n, nothing)
            for u in range(0, n, 8):
                low = max(begin, u)
                for i in range(0, c, n):
                    eight(
                        scores, low * n + u, 1, n, qkv, back + low * step + c + i, step, u + 7 + band - low,
                        d_qkv, here + u * step + i, step, lanes,
                    )  # fmt: skip
            for k in range(begin, keys, 8):
                for i in range(0, c, n):
                    eight(scores, k * n, n, 1, qkv, here + i, step, n, d_qkv, back + k * step + c + i, step, lanes)
                    eight(
                        shares,
                        at + k * n,
                        n,
                        1,
                        g,
                        row + i,
                        batch * c,
                        n,
                        d_qkv,
                        back + k * step + 2 * c + i,
                        step,
                        lanes,
                    )
            at += (keys + 8) * n


@compiled
def sizes(bars: int, batch: int, longest: int, lanes: Any) -> tuple[int, int]:
    """Rows of zeros in front (the longest lag) and behind (a block of queries and eight keys, eight rows)."""
    return longest * batch, (8 * len(lanes) + 8) * batch + 8


@compiled
def forward(
    x0: Array, x1: Array, inputs: int, bars: int, batch: int, c: int, last: int, begins: Array, longest: int,
    folds: Array, projections: Array, scale: Array,
    edges: Array, lags: Array, nodes: Array, spans: Array, decays: Array, loudness: Array, used: Array, averages: Array,
    attentions: Array, lanes: Any,
) -> tuple[Array, ...]:  # fmt: skip
    """(out [last * batch, nodes * c], then what `backward` needs). x0, x1: inputs from bar begins[0] and begins[1] on, [row, c].

    begins: by source, the first bar that anyone reads. edges: (source, node, first lag, last lag); nodes: those that edges enter.
    spans, decays, loudness: of the moving averages; used: [source, average]; averages: (edge, average, entry).
    attentions: as of `folded`.
    """
    front, tail = sizes(bars, batch, longest, lanes)
    rows, sources, square = bars * batch, len(begins), c * c
    block = (front + rows + tail) * c  # numbers of a source in `hidden`
    hidden = np.zeros(sources * block, dtype=np.float32)
    value = np.empty((sources - inputs) * rows * c, dtype=np.float32)
    inverse = np.empty((sources - inputs) * rows, dtype=np.float32)
    smooth = np.empty(sources * len(spans) * rows * c if len(averages) else 0, dtype=np.float32)
    band_rows, n = (rows + tail) * 3 * c, 8 * len(lanes)
    qkv = np.zeros(len(attentions) * band_rows, dtype=np.float32)
    room = np.zeros(len(attentions) + 1, dtype=np.int64)
    for m in range(len(attentions)):
        blocks = (bars - begins[inputs + edges[attentions[m, 0], 1]] + n - 1) // n
        room[m + 1] = room[m] + blocks * batch * (attentions[m, 2] + n + 7) * n
    shares = np.empty(room[-1], dtype=np.float32)
    sums = np.empty((rows + tail) * c, dtype=np.float32)
    out = np.empty(last * batch * len(nodes) * c, dtype=np.float32)
    seen = 0  # of the nodes that edges enter
    for s in range(sources):
        low = begins[s] * batch
        place = s * block + (front + low) * c
        if s < inputs:
            copied(x0 if s == 0 else x1, 0, hidden, place, (rows - low) * c)
        elif seen < len(nodes) and nodes[seen] == s - inputs:
            sums[low * c :] = ZERO
            for e in range(len(edges)):
                if edges[e, 1] != s - inputs:
                    continue
                source = edges[e, 0] * block + front * c
                for lag in range(edges[e, 2], edges[e, 3]):
                    start = source + (low - lags[lag] * batch) * c
                    product(hidden, start, c, folds, lag * square, sums, low * c, c, rows - low, lanes)
            for k in range(len(averages)):
                e, m = averages[k, 0], averages[k, 1]
                if edges[e, 1] == s - inputs:
                    at = ((edges[e, 0] * len(spans) + m) * rows + low) * c
                    scaled(smooth, at, scale[averages[k, 2]], sums, low * c, (rows - low) * c, lanes)
            for m in range(len(attentions)):
                e, band = attentions[m, 0], attentions[m, 2]
                if edges[e, 1] == s - inputs:
                    known = max(begins[edges[e, 0]], begins[s] - band + 1)
                    start = edges[e, 0] * block + (front + known * batch) * c
                    mine = qkv[m * band_rows : (m + 1) * band_rows]
                    product(
                        hidden, start, c, projections, 3 * square * m, mine, 3 * known * batch * c, 3 * c,
                        (bars - known) * batch, lanes,
                    )  # fmt: skip
                    attend(mine, shares, room[m], sums, band, known, begins[s], bars, batch, c, lanes)
            at = (s - inputs) * rows * c
            settle(sums, value, at, inverse[(s - inputs) * rows :], low, rows, c, lanes)
            activate(value, at + low * c, hidden, place, (rows - low) * c, lanes)
            skipped = (bars - last) * batch
            for r in range(skipped, rows):
                to = ((r - skipped) * len(nodes) + seen) * c
                for i in range(0, c, n):
                    store(out, to + i, load(value, at + r * c + i, lanes))
            seen += 1
        for m in range(len(spans)):
            if used[s, m]:
                average(
                    hidden, s * block + front * c, smooth, (s * len(spans) + m) * rows * c, begins[s], bars, batch, c,
                    decays[m], spans[m], loudness[m], lanes,
                )  # fmt: skip
    return out, hidden, value, inverse, smooth, qkv, shares, room


@compiled
def backward(
    d_out: Array, inputs: int, wanted: Array, bars: int, batch: int, c: int, last: int, begins: Array, longest: int,
    folds: Array, projections: Array, scale: Array, d_scale: Array,
    hidden: Array, value: Array, inverse: Array, smooth: Array, qkv: Array, shares: Array, room: Array,
    edges: Array, lags: Array, nodes: Array, spans: Array, decays: Array, loudness: Array, used: Array, averages: Array,
    attentions: Array, lanes: Any,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Gradients by (inputs, one after the other; folds; projections) for that of the result of `forward`; adds those by the factors of
    moving averages to d_scale. wanted: by input, whether anyone asks for its gradient."""
    front, tail = sizes(bars, batch, longest, lanes)
    rows, sources, square = bars * batch, len(begins), c * c
    block, band_rows, n = (front + rows + tail) * c, (rows + tail) * 3 * c, 8 * len(lanes)
    d_folds, d_projections = np.zeros_like(folds), np.zeros_like(projections)
    folds, projections = turned(folds, c, c), turned(projections, c, 3 * c)
    # rows behind for lags ahead, and for blocks of eight
    size = (rows + front + tail) * c
    d_hidden = np.zeros(sources * size, dtype=np.float32)
    total_g, apart = np.empty((sources - inputs) * size, dtype=np.float32), np.empty(size, dtype=np.float32)
    d_qkv = np.empty(band_rows, dtype=np.float32)
    seen, skipped = len(nodes), (bars - last) * batch
    for s in range(sources - 1, -1, -1):
        low = begins[s] * batch
        mine = d_hidden[s * size : (s + 1) * size]
        if s < inputs and not wanted[s]:
            continue
        for m in range(len(spans)):
            if used[s, m]:
                apart[:] = ZERO
                for k in range(len(averages)):
                    e = averages[k, 0]
                    if averages[k, 1] == m and edges[e, 0] == s:
                        start = begins[inputs + edges[e, 1]] * batch * c
                        of = (edges[e, 1]) * size
                        scaled(total_g, of + start, scale[averages[k, 2]], apart, start, rows * c - start, lanes)
                unaverage(apart, mine, 0, begins[s], bars, batch, c, decays[m], spans[m], loudness[m], lanes)
        if s < inputs:
            continue
        if seen == 0 or nodes[seen - 1] != s - inputs:
            continue
        seen -= 1
        at = (s - inputs) * rows * c
        slope(value, at + low * c, mine, low * c, (rows - low) * c, lanes)
        for r in range(skipped, rows):
            frm = ((r - skipped) * len(nodes) + seen) * c
            for i in range(0, c, n):
                store(mine, r * c + i, load(mine, r * c + i, lanes) + load(d_out, frm + i, lanes))
        unsettle(mine, value, at, inverse[(s - inputs) * rows :], low, rows, c, lanes)
        # what blocks of eight rows wrote beside
        mine[: low * c] = ZERO
        mine[rows * c :] = ZERO
        g = total_g[(s - inputs) * size : (s - inputs + 1) * size]
        copied(mine, 0, g, 0, size)
        for e in range(len(edges)):
            if edges[e, 1] != s - inputs:
                continue
            source, from_ = edges[e, 0], edges[e, 0] * block + front * c
            asked = source >= inputs or wanted[source]
            for lag in range(edges[e, 2], edges[e, 3]):
                back = lags[lag] * batch
                crossed(hidden, from_ + (low - back) * c, c, g, low * c, c, d_folds, lag * square, rows - low, lanes)
                if asked:
                    begin = max(low - back, begins[source] * batch)
                    product(
                        g, (begin + back) * c, c, folds, lag * square, d_hidden, source * size + begin * c, c,
                        rows - back - begin, lanes,
                    )  # fmt: skip
        for k in range(len(averages)):
            e, m = averages[k, 0], averages[k, 1]
            if edges[e, 1] == s - inputs:
                of = ((edges[e, 0] * len(spans) + m) * rows + low) * c
                d_scale[averages[k, 2]] += inner(smooth, of, g, low * c, (rows - low) * c, lanes)
        for m in range(len(attentions)):
            e, band = attentions[m, 0], attentions[m, 2]
            if edges[e, 1] != s - inputs:
                continue
            source = edges[e, 0]
            known = max(begins[source], begins[s] - band + 1)
            d_qkv[:] = ZERO
            unattend(
                qkv[m * band_rows : (m + 1) * band_rows], shares, room[m], g, d_qkv, band, known, begins[s], bars, batch, c, lanes
            )  # fmt: skip
            low_key, count = known * batch, (bars - known) * batch
            crossed(
                hidden, source * block + (front + low_key) * c, c, d_qkv, 3 * low_key * c, 3 * c,
                d_projections, 3 * square * m, count, lanes,
            )  # fmt: skip
            if source >= inputs or wanted[source]:
                product(
                    d_qkv, 3 * low_key * c, 3 * c, projections, 3 * square * m, d_hidden, source * size + low_key * c, c, count, lanes
                )  # fmt: skip
    to = 0
    for s in range(inputs):
        to += bars - begins[s]
    given, to = np.empty(to * batch * c, dtype=np.float32), 0
    for s in range(inputs):
        low = begins[s] * batch * c
        count = rows * c - low
        copied(d_hidden, s * size + low, given, to, count)
        to += count
    return given, d_folds, d_projections
