"""The cell with every op applied by itself, one edge at a time: the specification that `nas.network.cell.Cell` must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from nas.network.across import Market
from nas.network.attention import attention_in_chunks
from nas.network.cell import Cell, activation, added, gated_unit, max_pool, soft_norm
from nas.network.linear_blocks import ema_reference, lagged


def reference_forward(
    cell: Cell,
    x: Tensor | Sequence[Tensor],
    mix: Tensor | None = None,
    bypass: Tensor | None = None,
    market: Market | None = None,
    measured: Callable[[int, Tensor, Tensor], None] | None = None,
    moved: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Same arguments, weights and result as `cell(x, mix, bypass, market)`.

    measured: told every entry's place with what goes into its op and what comes out, before the calibration of the entry is read.
    moved: what an entry passes on in place of what comes out of it, by its place.
    """
    first = cell.inputs
    values = dict(enumerate((x,) if isinstance(x, Tensor) else x))
    hidden = dict(values)
    active = cell.active
    for node in range(cell.nodes):
        total: Tensor | None = None
        passed: Tensor | None = None
        residual: Tensor | None = None
        for k, (edge, op) in enumerate(cell.entries):
            if edge.node != node or edge.source not in values:
                continue
            before = hidden[edge.source][..., :active]
            out = _apply(cell, k, before, mix is not None, market)
            if measured is not None:
                measured(k, before, out)
            pass_on = partial(moved, k) if moved is not None else _as_it_is
            out = pass_on(out)
            weight = cell.calibration[k] if mix is None else cell.calibration[k] * mix[k]
            if op.kind == "skip":
                residual = added(residual, weight * pass_on(values[edge.source]))
            if op.kind == "residual":
                residual = added(residual, weight * pass_on(_block(cell, k, values[edge.source], mix is not None)))
            total = added(total, weight * out)
        for k, edge in enumerate(cell.edges):
            if cell.partial > 1 and edge.node == node and edge.source in values:
                rest = hidden[edge.source][..., active:]
                passed = added(passed, rest if bypass is None else bypass[k] * rest)
        if total is None:
            continue
        if passed is not None:
            together = torch.cat([total, passed], -1)
            order = [g * active + i for i in range(active) for g in range(cell.partial)]
            total = together[..., order]
        value = soft_norm(total)
        values[first + node] = value if residual is None else value + residual
        hidden[first + node] = activation(values[first + node])
    return torch.cat([values[k] for k in sorted(values) if k >= first], -1)


def _as_it_is(out: Tensor) -> Tensor:
    return out


def _block(cell: Cell, k: int, x: Tensor, supernet: bool) -> Tensor:
    """A residual block on the source as it is: [time, batch, channel]."""
    edge, op = cell.entries[k]
    place = [entry for entry, _, _ in cell._plans[edge.source].residuals].index(k)
    kernel = cell.weights[f"residual{edge.source}"][place][: len(op.lags)]
    if supernet:
        kernel = kernel * (x.shape[-1] / kernel.square().sum()).sqrt()
    inner = torch.stack([lagged(x, lag) @ kernel[i] for i, lag in enumerate(op.lags)]).sum(0)
    out: Tensor = x + (inner + cell.weights[f"residualbias{edge.source}"][place]).clamp_min(0.0)
    return out


def _apply(cell: Cell, k: int, x: Tensor, supernet: bool, market: Market | None) -> Tensor:
    """Op of entry k on the activated source x: [time, batch, channel]. In a supernet learned ops have unit gain."""
    edge, op = cell.entries[k]
    source, c = edge.source, x.shape[-1]
    if op.kind in ("zero", "skip", "residual"):  # a skip joins after the norm
        return torch.zeros_like(x)
    if op.kind == "constant":
        taps = zip(op.lags, op.coefficients, strict=True)
        return op.gain * torch.stack([w * lagged(x, lag) for lag, w in taps]).sum(0)
    if op.kind == "ema":
        return ema_reference(x, op.decay, op.length, op.gain)
    plan = cell._plans[source]
    if op.kind == "module":
        own: Tensor = cell.own[str(k)](x)
        return op.gain * own
    same = [entry for entry, _, other in plan.apart if other.kind == op.kind]
    if op.kind == "attention":
        return op.gain * attention_in_chunks(x, cell.weights[f"attention{source}"][same.index(k)], op.span)
    if op.kind == "maxpool":
        return op.gain * max_pool(x, op.span)
    if op.kind == "gated":
        one = slice(same.index(k), same.index(k) + 1)
        weight, bias = cell.weights[f"gated{source}"][one], cell.weights[f"gatedbias{source}"][one]
        return op.gain * gated_unit(x, weight, bias, op.span)[:, :, 0]
    if op.across:
        assert market is not None
        return op.gain * cell.across(op.kind, source, x, market)
    if op.kind == "matrix":
        first = [entry for _, entry, _ in plan.matrix_entries].index(k)
        kernel = cell.weights[f"matrix{source}"][first : first + len(op.lags)]
        if supernet:
            kernel = kernel * (c / kernel.square().sum()).sqrt()
        return torch.stack([lagged(x, lag) @ kernel[i] for i, lag in enumerate(op.lags)]).sum(0)
    position = [entry for entry, _, _ in plan.separable].index(k)
    depth, point = cell.weights[f"depth{source}"][position], cell.weights[f"point{source}"][position]
    if supernet:
        depth, point = depth * (c / depth.square().sum()).sqrt(), point * (c / point.square().sum()).sqrt()
    mixed: Tensor = torch.stack([lagged(x, lag) * depth[i] for i, lag in enumerate(op.lags)]).sum(0)
    out: Tensor = mixed @ point
    return out
