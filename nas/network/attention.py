"""Causal self-attention over a band of bars.

Scores and values only meet inside the band, so three bilinear maps are all there is; each one's derivatives are the other two, which
makes attention differentiable as often as needed:

    dot(q, k)[j, t]    = q[t] . k[t - j]                 scores
    blend(p, v)[t]     = sum_j p[j, t] v[t - j]          weighted values
    spread(p, q)[s]    = sum_j p[j, s + j] q[s + j]      the adjoint of blend

On a CPU they are numba kernels, attention by attention, on [channel, place], places being bars and batch together: a lag is `step` =
batch places, and the inner loops run over hundreds of places. Elsewhere, and as their specification, attention runs in chunks of
torch's own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy.typing as npt
import torch
from torch import Tensor

from nas.network.paths import by_kernels

Array = npt.NDArray[Any]
TILE = 512  # places whose channels stay in the first-level cache
# four products may be summed in any order; NaN and infinities keep their meaning
_REORDER = {"reassoc", "contract"}


def banded_attention(x: Tensor, projections: Tensor, band: int, gains: Tensor | None = None) -> Tensor:
    """Each bar attends to the last `band` bars, itself included; n attentions side by side.

    x: [time, batch, c]; projections: [n, c, 3c]; gains: [n], factors of what comes out -> [time, batch, n, c].
    """
    (bars, batch, c), n = x.shape, len(projections)
    if not by_kernels(x):
        # all at once: one set of calls, however many attentions there are
        out = torch.func.vmap(attention_in_chunks, in_dims=(None, 0, None), out_dims=2)(x, projections, band)
        return out if gains is None else out * gains[:, None]
    # factors go into the small weights, not into what comes of them
    query, key, value = projections.view(n, c, 3, c).permute(2, 0, 3, 1).unbind(0)
    value = value if gains is None else value * gains[:, None, None]
    rows = torch.cat([query * c**-0.5, key, value]).view(3 * n * c, c)
    # [attention, channel, place], places being bars and batch together: a lag is `batch` of them
    q, k, v = (rows @ x.reshape(bars * batch, c).t()).view(3, n, c, bars * batch).unbind(0)
    # the first bars have fewer keys than the band: a score of -inf gives them no weight
    scores = _Dot.apply(q, k, band, batch, float("-inf"))  # type: ignore[no-untyped-call]
    blend: Tensor = _Blend.apply(torch.softmax(scores, 1), v, batch)  # type: ignore[no-untyped-call]
    return blend.view(n * c, bars * batch).t().view(bars, batch, n, c)


class _Dot(torch.autograd.Function):
    """q, k: [n, c, place] -> [n, band, place]; `outside` where the lag reaches before the first bar."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, band: int, step: int, outside: float) -> Tensor:
        ctx.save_for_backward(q, k)
        ctx.step = step
        out = torch.empty(len(q), band, q.shape[2], dtype=q.dtype)
        _dots(_array(q), _array(k), out.numpy(), step, outside)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        q, k = ctx.saved_tensors
        return _Blend.apply(grads[0], k, ctx.step), _Spread.apply(grads[0], q, ctx.step), None, None, None  # type: ignore[no-untyped-call]


class _Blend(torch.autograd.Function):
    """p: [n, band, place], v: [n, c, place] -> [n, c, place]."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, v: Tensor, step: int) -> Tensor:
        return _summed(ctx, _blends, p, v, step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        p, v = ctx.saved_tensors
        return _Dot.apply(grads[0], v, p.shape[1], ctx.step, 0.0), _Spread.apply(p, grads[0], ctx.step), None  # type: ignore[no-untyped-call]


class _Spread(torch.autograd.Function):
    """p: [n, band, place], q: [n, c, place] -> [n, c, place]."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor, step: int) -> Tensor:
        return _summed(ctx, _spreads, p, q, step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        p, q = ctx.saved_tensors
        return _Dot.apply(q, grads[0], p.shape[1], ctx.step, 0.0), _Blend.apply(p, grads[0], ctx.step), None  # type: ignore[no-untyped-call]


def _summed(ctx: Any, kernel: Callable[[Array, Array, Array, int], None], p: Tensor, x: Tensor, step: int) -> Tensor:
    """What `kernel` adds up from p [n, band, place] and x [n, c, place]; both are kept for the way back."""
    ctx.save_for_backward(p, x)
    ctx.step = step
    out = torch.zeros(x.shape, dtype=x.dtype)
    kernel(_array(p), _array(x), out.numpy(), step)
    return out


def _array(x: Tensor) -> Array:
    return x.detach().contiguous().numpy()  # type: ignore[no-any-return]


@numba.njit(cache=True, fastmath=_REORDER)  # type: ignore[untyped-decorator, unused-ignore]
def _dot(q: Array, k: Array, out: Array, step: int, outside: float) -> None:
    """out [band, place]: products of channels, four at a time so that `out` is read and written a quarter as often."""
    channels, places = q.shape
    for j in range(len(out)):
        known = min(j * step, places)
        out[j, :known] = outside
        out[j, known:] = 0.0
    for start in range(0, places, TILE):
        stop = min(places, start + TILE)
        for j in range(len(out)):
            lag = j * step
            low = max(start, lag)
            if low >= stop:
                continue
            n, row = stop - low, out[j, low:stop]
            i = 0
            while i + 4 <= channels:
                q0, k0 = q[i, low:stop], k[i, low - lag : stop - lag]
                q1, k1 = q[i + 1, low:stop], k[i + 1, low - lag : stop - lag]
                q2, k2 = q[i + 2, low:stop], k[i + 2, low - lag : stop - lag]
                q3, k3 = q[i + 3, low:stop], k[i + 3, low - lag : stop - lag]
                for t in range(n):
                    row[t] += q0[t] * k0[t] + q1[t] * k1[t] + q2[t] * k2[t] + q3[t] * k3[t]
                i += 4
            while i < channels:
                q0, k0 = q[i, low:stop], k[i, low - lag : stop - lag]
                for t in range(n):
                    row[t] += q0[t] * k0[t]
                i += 1


@numba.njit(cache=True, fastmath=_REORDER)  # type: ignore[untyped-decorator, unused-ignore]
def _blend(p: Array, v: Array, out: Array, step: int) -> None:
    """out (zero) [c, place] += p * v of earlier places, four lags at a time where all four exist."""
    channels, places = v.shape
    band = len(p)
    for start in range(0, places, TILE):
        stop = min(places, start + TILE)
        for i in range(channels):
            j = 0
            while j < band:
                if j + 4 <= band and (j + 3) * step <= start:
                    n, row, at = stop - start, out[i, start:stop], start - j * step
                    p0, v0 = p[j, start:stop], v[i, at : at + n]
                    p1, v1 = p[j + 1, start:stop], v[i, at - step : at - step + n]
                    p2, v2 = p[j + 2, start:stop], v[i, at - 2 * step : at - 2 * step + n]
                    p3, v3 = p[j + 3, start:stop], v[i, at - 3 * step : at - 3 * step + n]
                    for t in range(n):
                        row[t] += p0[t] * v0[t] + p1[t] * v1[t] + p2[t] * v2[t] + p3[t] * v3[t]
                    j += 4
                else:
                    low = max(start, j * step)
                    if low < stop:
                        row, p0, v0 = out[i, low:stop], p[j, low:stop], v[i, low - j * step : stop - j * step]
                        for t in range(stop - low):
                            row[t] += p0[t] * v0[t]
                    j += 1


@numba.njit(cache=True, fastmath=_REORDER)  # type: ignore[untyped-decorator, unused-ignore]
def _spread(p: Array, q: Array, out: Array, step: int) -> None:
    """out (zero) [c, place] += p * q of later places, four lags at a time where all four exist."""
    channels, places = q.shape
    band = len(p)
    for start in range(0, places, TILE):
        stop = min(places, start + TILE)
        for i in range(channels):
            j = 0
            while j < band:
                if j + 4 <= band and stop + (j + 3) * step <= places:
                    n, row, at = stop - start, out[i, start:stop], start + j * step
                    p0, q0 = p[j, at : at + n], q[i, at : at + n]
                    at += step
                    p1, q1 = p[j + 1, at : at + n], q[i, at : at + n]
                    at += step
                    p2, q2 = p[j + 2, at : at + n], q[i, at : at + n]
                    at += step
                    p3, q3 = p[j + 3, at : at + n], q[i, at : at + n]
                    for t in range(n):
                        row[t] += p0[t] * q0[t] + p1[t] * q1[t] + p2[t] * q2[t] + p3[t] * q3[t]
                    j += 4
                else:
                    n = min(stop, places - j * step) - start
                    if n > 0:
                        at = start + j * step
                        row, p0, q0 = out[i, start : start + n], p[j, at : at + n], q[i, at : at + n]
                        for t in range(n):
                            row[t] += p0[t] * q0[t]
                    j += 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _dots(q: Array, k: Array, out: Array, step: int, outside: float) -> None:
    """`_dot` of every attention: q, k [n, c, place], out [n, band, place]."""
    for m in range(len(out)):
        _dot(q[m], k[m], out[m], step, outside)


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _blends(p: Array, v: Array, out: Array, step: int) -> None:
    """`_blend` of every attention: p [n, band, place], v, out [n, c, place]."""
    for m in range(len(out)):
        _blend(p[m], v[m], out[m], step)


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _spreads(p: Array, q: Array, out: Array, step: int) -> None:
    """`_spread` of every attention: p [n, band, place], q, out [n, c, place]."""
    for m in range(len(out)):
        _spread(p[m], q[m], out[m], step)


def attention_in_chunks(x: Tensor, projection: Tensor, band: int) -> Tensor:
    """One of `banded_attention` in torch's own functions, projection [c, 3c]: every chunk of `band` bars sees itself and the one before."""
    bars, batch, c = x.shape
    chunks = -(-bars // band)
    padded = torch.cat([x, x.new_zeros(chunks * band - bars, batch, c)]) if chunks * band > bars else x
    q, k, v = (padded @ projection).view(chunks, band, batch, 3, c).unbind(3)
    before_k = torch.cat([torch.zeros_like(k[:1]), k[:-1]])
    before_v = torch.cat([torch.zeros_like(v[:1]), v[:-1]])
    keys = torch.cat([before_k, k], 1).permute(0, 2, 3, 1)  # [chunk, batch, c, 2 band]
    values = torch.cat([before_v, v], 1).permute(0, 2, 1, 3)
    scores = (q.permute(0, 2, 1, 3) @ keys) * c**-0.5  # [chunk, batch, band, 2 band]
    query = torch.arange(band, device=x.device)[:, None] + band
    key = torch.arange(2 * band, device=x.device)[None, :]
    seen = (key <= query) & (key > query - band)
    first = seen & (key >= band)  # nothing lies before the first chunk
    mask = torch.cat([first[None], seen[None].expand(chunks - 1, -1, -1)])[:, None]
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)
    return (weights @ values).permute(0, 2, 1, 3).reshape(chunks * band, batch, c)[:bars]
