"""The ordinary training of one small cell as one compiled function: what `nas.network.training.train` does, without its calls.

A training of a few hundred weights is mostly calls in Python: thousands of cells are trained by running all of it (calibration, steps of
AdamW down clipped gradients, early stopping, scores) in compiled code. `tests/lab/test_tabular.py` holds weights and losses equal to
`network_of` and `train`. Gradients are written out: every op is linear in its source, so its backward is its adjoint.

Cells: one input, three nodes, `CHANNELS` channels, an op on each of the six edges (`OPS`, in the order of `SearchSpace.edges`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from nas.network.calibration import MOST
from nas.space.ops import get_op

OPS = ("zero", "identity", "conv3", "ema12", "diff1")
NODES, CHANNELS, TAPS = 3, 8, 3
EDGES = tuple((source, node) for node in range(NODES) for source in range(node + 1))
SOURCE, TARGET = (np.array(ends, dtype=np.int64) for ends in zip(*EDGES, strict=True))
REACH = np.array([max(0, get_op(name).receptive_field - 1) for name in OPS], dtype=np.int64)
ZERO, IDENTITY, CONV, EMA, DIFF = range(len(OPS))

_EMA = get_op(OPS[EMA])
LENGTH, DECAY = _EMA.length, _EMA.decay
TAIL, SCALE = DECAY**LENGTH, _EMA.gain * (1.0 - DECAY) / (1.0 - DECAY**LENGTH)
GAIN = get_op(OPS[DIFF]).gain
LOUDEST = MOST
CONVS = len(EDGES) * TAPS * CHANNELS * CHANNELS
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of AdamW as torch has them

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])
# sums may be taken in another order, which is what lets eight channels lie in one register; nothing is assumed about NaN or infinity
QUICK = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: F) -> F:
    """numba.njit with the code kept on disk."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=QUICK)(function))


def size(inputs: int) -> int:
    """Numbers of a network's weights as one vector: stem [inputs, c], its bias [c], kernels [edge, tap, c, c], head [node, c], its bias."""
    return inputs * CHANNELS + CHANNELS + CONVS + NODES * CHANNELS + 1


@compiled
def _reaches(ops: Array) -> Array:
    """Bars before the first one asked for that each source (input, then nodes) has to be computed from: [source]; -1: nobody reads it.

    Nodes that nothing enters are not read either.
    """
    reach = np.full(NODES + 1, -1, dtype=np.int64)
    for node in range(NODES):
        for e in range(len(ops)):
            if TARGET[e] == node and ops[e] != ZERO:
                reach[node + 1] = 0
    for node in range(NODES - 1, -1, -1):
        for e in range(len(ops)):
            if TARGET[e] == node and ops[e] != ZERO:
                s = SOURCE[e]
                reach[s] = max(reach[s], reach[node + 1] + REACH[ops[e]])
    return reach


@compiled
def _pass_on(op: int, factor: float, kernel: Array, h: Array, out: Array, begin: int, first: int, bars: int) -> None:
    """Add factor * op(h) to out over bars first..bars. h, out: [bar, channel]; h is known from `begin` on. kernel: [tap, c, c]."""
    f = np.float32(factor)
    if op == IDENTITY:
        for t in range(first, bars):
            for i in range(CHANNELS):
                out[t, i] += f * h[t, i]
    elif op == DIFF:
        g = np.float32(factor * GAIN)
        for t in range(first, bars):
            if t > begin:
                for i in range(CHANNELS):
                    out[t, i] += g * (h[t, i] - h[t - 1, i])
            else:
                for i in range(CHANNELS):
                    out[t, i] += g * h[t, i]
    elif op == CONV:
        row = np.empty(CHANNELS, dtype=np.float32)
        for t in range(first, bars):
            row[:] = np.float32(0.0)
            for k in range(min(TAPS, t - begin + 1)):
                for j in range(CHANNELS):
                    value = h[t - k, j]
                    for i in range(CHANNELS):
                        row[i] += value * kernel[k, j, i]
            for i in range(CHANNELS):
                out[t, i] += f * row[i]
    elif op == EMA:
        state = np.zeros(CHANNELS, dtype=np.float64)
        for t in range(begin, bars):
            if t - begin >= LENGTH:
                for i in range(CHANNELS):
                    state[i] = DECAY * state[i] + h[t, i] - TAIL * h[t - LENGTH, i]
            else:
                for i in range(CHANNELS):
                    state[i] = DECAY * state[i] + h[t, i]
            if t >= first:
                for i in range(CHANNELS):
                    out[t, i] += np.float32(factor * SCALE * state[i])


@compiled
def _pass_back(
    op: int, factor: float, kernel: Array, h: Array, d_out: Array, d_h: Array, d_kernel: Array, begin: int, first: int, bars: int
) -> None:  # fmt: skip
    """The adjoint of `_pass_on`: adds to d_h and to d_kernel what d_out [bar, channel] over bars first..bars says."""
    f = np.float32(factor)
    if op == IDENTITY:
        for t in range(first, bars):
            for i in range(CHANNELS):
                d_h[t, i] += f * d_out[t, i]
    elif op == DIFF:
        g = np.float32(factor * GAIN)
        for t in range(first, bars):
            for i in range(CHANNELS):
                d_h[t, i] += g * d_out[t, i]
            if t > begin:
                for i in range(CHANNELS):
                    d_h[t - 1, i] -= g * d_out[t, i]
    elif op == CONV:
        turned = np.empty(
            (TAPS, CHANNELS, CHANNELS), dtype=np.float32
        )  # so that the inner loop runs over memory in order
        for k in range(TAPS):
            for j in range(CHANNELS):
                for i in range(CHANNELS):
                    turned[k, i, j] = kernel[k, j, i]
        row = np.empty(CHANNELS, dtype=np.float32)
        for t in range(first, bars):
            for i in range(CHANNELS):
                row[i] = f * d_out[t, i]
            for k in range(min(TAPS, t - begin + 1)):
                for i in range(CHANNELS):
                    value = row[i]
                    for j in range(CHANNELS):
                        d_h[t - k, j] += value * turned[k, i, j]
                for j in range(CHANNELS):
                    value = h[t - k, j]
                    for i in range(CHANNELS):
                        d_kernel[k, j, i] += value * row[i]
    elif op == EMA:
        state = np.zeros(CHANNELS, dtype=np.float64)
        for t in range(bars - 1, begin - 1, -1):
            for i in range(CHANNELS):
                state[i] *= DECAY
            if t >= first:
                for i in range(CHANNELS):
                    state[i] += d_out[t, i]
            if first <= t + LENGTH < bars:
                for i in range(CHANNELS):
                    state[i] -= TAIL * d_out[t + LENGTH, i]
            for i in range(CHANNELS):
                d_h[t, i] += np.float32(factor * SCALE * state[i])


@compiled
def _stem(x: Array, start: int, begin: int, bars: int, stem: Array, bias: Array, out: Array) -> None:
    """out[t] = x[start + t] @ stem + bias over bars begin..bars. x: [time, input]."""
    for t in range(begin, bars):
        for i in range(CHANNELS):
            out[t, i] = bias[i]
        for j in range(x.shape[1]):
            value = x[start + t, j]
            for i in range(CHANNELS):
                out[t, i] += value * stem[j, i]


@compiled
def _settle(total: Array, value: Array, hidden: Array, slope: Array, inverse: Array, first: int, bars: int) -> None:
    """A node's sum becomes its value (soft norm) and what other nodes read (activation); slope: of the activation at the value."""
    for t in range(first, bars):
        square = np.float32(0.0)
        for i in range(CHANNELS):
            square += total[t, i] * total[t, i]
        scale = np.float32(1.0) / np.sqrt(np.float32(1.0) + square * np.float32(1.0 / CHANNELS))
        inverse[t] = scale
        for i in range(CHANNELS):
            v = total[t, i] * scale
            value[t, i] = v
            gate = np.float32(1.0) / (np.float32(1.0) + np.exp(-v))
            hidden[t, i] = np.float32(1.5) * v * gate
            slope[t, i] = np.float32(1.5) * gate * (np.float32(1.0) + v * (np.float32(1.0) - gate))


@compiled
def _forward(
    x: Array, start: int, context: int, bars: int, ops: Array, factors: Array, reach: Array,
    stem: Array, bias: Array, kernels: Array, head: Array, head_bias: Array,
    hidden: Array, total: Array, value: Array, slope: Array, inverse: Array, out: Array,
) -> None:  # fmt: skip
    """out[context..bars] from x[start..start + bars]; everything between is kept for `_backward`. hidden: [source, bar, channel]."""
    _stem(x, start, context - reach[0], bars, stem, bias, hidden[0])
    out[context:bars] = head_bias[0]
    for node in range(NODES):
        if reach[node + 1] < 0:
            continue
        first = context - reach[node + 1]
        total[node, first:bars] = np.float32(0.0)
        for e in range(len(ops)):
            if TARGET[e] == node and ops[e] != ZERO:
                s = SOURCE[e]
                _pass_on(ops[e], factors[e], kernels[e], hidden[s], total[node], context - reach[s], first, bars)
        _settle(total[node], value[node], hidden[node + 1], slope[node], inverse[node], first, bars)
        for t in range(context, bars):
            for i in range(CHANNELS):
                out[t] += value[node, t, i] * head[node, i]


@compiled
def _backward(
    x: Array, start: int, context: int, bars: int, ops: Array, factors: Array, reach: Array, kernels: Array, head: Array,
    hidden: Array, total: Array, value: Array, slope: Array, inverse: Array, d_out: Array, d_hidden: Array, d_total: Array,
    d_stem: Array, d_bias: Array, d_kernels: Array, d_head: Array, d_head_bias: Array,
) -> None:  # fmt: skip
    """Adds the gradients of what `_forward` computed, for d_out[context..bars] of its result."""
    for s in range(NODES + 1):
        if reach[s] >= 0:
            d_hidden[s, context - reach[s] : bars] = np.float32(0.0)
    for t in range(context, bars):
        d_head_bias[0] += d_out[t]
    for node in range(NODES - 1, -1, -1):
        if reach[node + 1] < 0:
            continue
        first = context - reach[node + 1]
        d_value = np.empty(CHANNELS, dtype=np.float32)
        for t in range(first, bars):
            given = d_out[t] if t >= context else np.float32(0.0)
            inner = np.float32(0.0)
            for i in range(CHANNELS):
                d_value[i] = d_hidden[node + 1, t, i] * slope[node, t, i] + given * head[node, i]
                d_head[node, i] += given * value[node, t, i]
                inner += d_value[i] * value[node, t, i]
            inner *= np.float32(1.0 / CHANNELS)
            for i in range(CHANNELS):
                d_total[t, i] = inverse[node, t] * (d_value[i] - value[node, t, i] * inner)
        for e in range(len(ops)):
            if TARGET[e] == node and ops[e] != ZERO:
                s = SOURCE[e]
                _pass_back(
                    ops[e], factors[e], kernels[e], hidden[s], d_total, d_hidden[s], d_kernels[e], context - reach[s], first, bars
                )  # fmt: skip
    for t in range(context - reach[0], bars):
        for i in range(CHANNELS):
            d_bias[i] += d_hidden[0, t, i]
        for j in range(x.shape[1]):
            seen = x[start + t, j]
            for i in range(CHANNELS):
                d_stem[j, i] += seen * d_hidden[0, t, i]


@compiled
def _spread(x: Array, begin: int, stop: int) -> float:
    """Root mean over channels of the variance over stretches and bars begin..stop. x: [stretch, bar, channel]."""
    count, mean_square = x.shape[0] * (stop - begin), 0.0
    for i in range(CHANNELS):
        one, two = 0.0, 0.0
        for k in range(x.shape[0]):
            for t in range(begin, stop):
                one += x[k, t, i]
        one /= count
        for k in range(x.shape[0]):
            for t in range(begin, stop):
                two += (x[k, t, i] - one) ** 2
        mean_square += two / (count - 1) / CHANNELS
    return float(np.sqrt(mean_square))


@compiled
def _calibrated(
    x: Array, starts: Array, context: int, bars: int, ops: Array, reach: Array, stem: Array, bias: Array, kernels: Array
) -> Array:
    """The factor of every edge that brings its op's output to the spread of its input (`nas.network.calibration`): [edge]."""
    factors, count = np.ones(len(ops)), len(starts)
    hidden = np.zeros((NODES + 1, count, bars, CHANNELS), dtype=np.float32)
    total, out = np.empty((2, count, bars, CHANNELS), dtype=np.float32)
    spare, inverse = np.empty((2, bars, CHANNELS), dtype=np.float32), np.empty(bars, dtype=np.float32)
    for k in range(count):
        _stem(x, starts[k] - context, context - reach[0], bars, stem, bias, hidden[0, k])
    for node in range(NODES):
        if reach[node + 1] < 0:
            continue
        first = context - reach[node + 1]
        total[:] = np.float32(0.0)
        for e in range(len(ops)):
            if TARGET[e] != node or ops[e] == ZERO:
                continue
            s = SOURCE[e]
            out[:] = np.float32(0.0)
            for k in range(count):
                _pass_on(ops[e], 1.0, kernels[e], hidden[s, k], out[k], context - reach[s], first, bars)
            loud, wanted = _spread(out, context, bars), _spread(hidden[s], context, bars)
            if loud > 0.0 and wanted > 0.0:
                factors[e] = np.float32(min(max(wanted / loud, 1.0 / LOUDEST), LOUDEST))
            f = np.float32(factors[e])
            for k in range(count):
                for t in range(first, bars):
                    for i in range(CHANNELS):
                        total[k, t, i] += f * out[k, t, i]
        for k in range(count):
            _settle(total[k], spare[0], hidden[node + 1, k], spare[1], inverse, first, bars)
    return factors


@compiled
def _judge(out: Array, y: Array, weight: Array, start: int, context: int, bars: int) -> float:
    """Huber loss of out[context..bars] against the labels of the same bars, over the bars that count."""
    loss, count = 0.0, 0.0
    for t in range(context, bars):
        error = float(out[t]) - float(y[start + t])
        size = abs(error)
        loss += weight[start + t] * (0.5 * error * error if size < 1.0 else size - 0.5)
        count += weight[start + t]
    return loss / max(count, 1.0)


@compiled
def train_cell(
    x: Array, y: Array, weight: Array, ops: Array, initial: Array, starts: Array, heard: Array, length: int, heard_length: int,
    validation: Array, test: Array, rates: Array, decay: float, clip: float, losses: Array,
) -> Array:  # fmt: skip
    """Train one cell from the weights `initial` (`size`); return those of its best epoch, and fill losses.

    x: [time, input], y, weight: [time], float32. starts: [epoch, step, stretch], first bars with loss of stretches of `length` bars.
    heard: first bars of the stretches of `heard_length` that calibrate. validation, test: (start, stop). rates: learning rate by epoch.
    losses: [epoch + 1]: validation by epoch, then the test loss of the weights kept.
    """
    inputs, epochs, steps, batch = x.shape[1], starts.shape[0], starts.shape[1], starts.shape[2]
    reach = _reaches(ops)
    context = reach[0]
    longest = context + max(length, validation[1] - validation[0], test[1] - test[0])
    hidden = np.zeros((NODES + 1, longest, CHANNELS), dtype=np.float32)
    total, value, slope = (
        np.zeros((NODES, longest, CHANNELS), dtype=np.float32),
        np.zeros((NODES, longest, CHANNELS), dtype=np.float32),
        np.zeros((NODES, longest, CHANNELS), dtype=np.float32),
    )
    inverse, out = np.zeros((NODES, longest), dtype=np.float32), np.zeros(longest, dtype=np.float32)
    d_hidden, d_total = np.zeros_like(hidden), np.zeros((longest, CHANNELS), dtype=np.float32)
    d_out = np.zeros(longest, dtype=np.float32)
    p, g = initial.copy(), np.zeros_like(initial)
    first, second, kept = np.zeros_like(initial), np.zeros_like(initial), initial.copy()
    a = inputs * CHANNELS
    b, c = a + CHANNELS, a + CHANNELS + CONVS
    d = c + NODES * CHANNELS
    stem, bias, head, head_bias = p[:a].reshape(inputs, CHANNELS), p[a:b], p[c:d].reshape(NODES, CHANNELS), p[d:]
    kernels = p[b:c].reshape(len(ops), TAPS, CHANNELS, CHANNELS)
    d_stem, d_bias, d_head, d_head_bias = (
        g[:a].reshape(inputs, CHANNELS),
        g[a:b],
        g[c:d].reshape(NODES, CHANNELS),
        g[d:],
    )
    d_kernels = g[b:c].reshape(len(ops), TAPS, CHANNELS, CHANNELS)
    factors = _calibrated(x, heard, context, context + heard_length, ops, reach, stem, bias, kernels)
    best, bars, step = np.inf, context + length, 0
    for epoch in range(epochs):
        for s in range(steps):
            g[:] = np.float32(0.0)
            count = 0.0
            for k in range(batch):
                for t in range(length):
                    count += weight[starts[epoch, s, k] + t]
            share = np.float32(1.0 / max(count, 1.0))
            for k in range(batch):
                start = starts[epoch, s, k] - context
                _forward(
                    x, start, context, bars, ops, factors, reach, stem, bias, kernels, head, head_bias,
                    hidden, total, value, slope, inverse, out,
                )  # fmt: skip
                for t in range(context, bars):
                    error = min(max(out[t] - y[start + t], np.float32(-1.0)), np.float32(1.0))
                    d_out[t] = error * weight[start + t] * share
                _backward(
                    x, start, context, bars, ops, factors, reach, kernels, head, hidden, total, value, slope, inverse,
                    d_out, d_hidden, d_total, d_stem, d_bias, d_kernels, d_head, d_head_bias,
                )  # fmt: skip
            norm = 0.0
            for i in range(len(g)):
                norm += float(g[i]) * float(g[i])
            shrink = np.float32(min(1.0, clip / (np.sqrt(norm) + 1e-6)))
            step += 1
            size_of_step = rates[epoch] / (1.0 - BETA1**step)
            root = np.sqrt(1.0 - BETA2**step)
            for i in range(len(g)):
                gradient = g[i] * shrink
                first[i] += np.float32(1.0 - BETA1) * (gradient - first[i])
                second[i] = np.float32(BETA2) * second[i] + np.float32(1.0 - BETA2) * gradient * gradient
                p[i] -= np.float32(rates[epoch] * decay) * p[i]
                p[i] -= (
                    np.float32(size_of_step) * first[i] / (np.sqrt(second[i]) / np.float32(root) + np.float32(EPSILON))
                )
        bars_seen = context + validation[1] - validation[0]
        _forward(
            x, validation[0] - context, context, bars_seen, ops, factors, reach, stem, bias, kernels, head, head_bias,
            hidden, total, value, slope, inverse, out,
        )  # fmt: skip
        losses[epoch] = _judge(out, y, weight, validation[0] - context, context, bars_seen)
        if losses[epoch] < best - 1e-7:
            best = losses[epoch]
            kept[:] = p
    p[:] = kept
    bars_seen = context + test[1] - test[0]
    _forward(
        x, test[0] - context, context, bars_seen, ops, factors, reach, stem, bias, kernels, head, head_bias,
        hidden, total, value, slope, inverse, out,
    )  # fmt: skip
    losses[epochs] = _judge(out, y, weight, test[0] - context, context, bars_seen)
    return kept
