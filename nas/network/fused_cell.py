"""A whole cell as one step of autograd: forward and gradients by `nas.network.cell_kernels`.

What the kernels know: ops of kinds zero, constant, matrix, ema and attention, single precision, a CPU, channels in eights. Everything
else, and second derivatives, go by torch's own functions (`Cell.by_torch`), which is also what tests compare the kernels with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.network import cell_kernels
from nas.network.paths import by_kernels
from nas.space.ops import Op

kernels: Any = cell_kernels  # most of what they are given lies in tuples
KINDS = ("zero", "constant", "matrix", "ema", "attention")


class FusedPlan:
    """Where every op of a cell lies among what the kernels are given; arrays made once.

    entries: (edge, op) of every candidate, edges as of `nas.network.cell`. The weights of a source lie in `matrix{source}` and
    `attention{source}`, their rows in the order of the entries.
    """

    def __init__(self, entries: Sequence[tuple[Any, Op]], inputs: int, nodes: int, channels: int) -> None:
        c, square = channels, channels * channels
        self.inputs, self.channels = inputs, c
        self.lanes = (0, 0) if c % 16 == 0 else (0,)
        order = list(dict.fromkeys(edge for edge, _ in entries))
        spans = sorted({op.span for _, op in entries if op.kind == "ema"})
        first = {op.span: op for _, op in entries if op.kind == "ema"}
        self.names: list[str] = []
        place, begin = {}, 0
        for source in sorted({edge.source for edge in order}):
            of = [op for edge, op in entries if edge.source == source]
            for kind, size in (
                ("matrix", square * sum(len(op.lags) for op in of if op.kind == "matrix")),
                ("attention", 3 * square * sum(op.kind == "attention" for op in of)),
            ):
                if size:
                    place[kind, source] = begin
                    self.names.append(f"{kind}{source}")
                    begin += size
        self.numbers = begin
        edges, lags, constants, factors, matrices, taps = [], [], [], [], [], []  # type: ignore[var-annotated]
        averages, attentions, gains = [], [], []
        used = np.zeros((inputs + nodes, len(spans)), dtype=np.bool_)
        for e, edge in enumerate(order):
            mine = [(k, op) for k, (other, op) in enumerate(entries) if other == edge]
            start = len(lags)
            lags += sorted({lag for _, op in mine if op.kind in ("constant", "matrix") for lag in op.lags})
            slot = {lag: start + k for k, lag in enumerate(lags[start:])}
            edges.append((edge.source, edge.node, start, len(lags)))
            for k, op in mine:
                if op.kind == "constant":
                    constants += [(slot[lag], k) for lag in op.lags]
                    factors += [op.gain * w for w in op.coefficients]
                elif op.kind == "ema":
                    averages.append((e, spans.index(op.span), k))
                    used[edge.source, spans.index(op.span)] = True
        # as the weights lie: by source, in the order of the entries
        for k, (edge, op) in enumerate(entries):
            e = order.index(edge)
            if op.kind == "matrix":
                at, (_, _, start, stop) = place["matrix", edge.source], edges[e]
                matrices.append((k, len(taps), len(taps) + len(op.lags)))
                taps += [(start + lags[start:stop].index(lag), at + n * square) for n, lag in enumerate(op.lags)]
                place["matrix", edge.source] += len(op.lags) * square
            elif op.kind == "attention":
                attentions.append((e, k, op.span, place["attention", edge.source]))
                gains.append(op.gain)
                place["attention", edge.source] += 3 * square
        self.sources, self.slots, self.longest = inputs + nodes, len(lags), max(lags, default=0)
        self.folding = (
            _table(constants, 2), np.array(factors, dtype=np.float32), _table(matrices, 3), _table(taps, 2),
            _table(attentions, 4), np.array(gains, dtype=np.float32),
        )  # fmt: skip
        self.moving = (
            _table(edges, 4), np.array(lags, dtype=np.int64), np.array(sorted({edge.node for edge in order}), dtype=np.int64),
            np.array([first[s].length for s in spans], dtype=np.int64),
            np.array([first[s].decay for s in spans], dtype=np.float64),
            np.array([first[s].gain * (1.0 - first[s].decay) / (1.0 - first[s].decay ** first[s].length) for s in spans], dtype=np.float64),
            used, _table(averages, 3), _table(attentions, 4),
        )  # fmt: skip

    @classmethod
    def of(
        cls, entries: Sequence[tuple[Any, Op]], inputs: int, nodes: int, channels: int, partial: int
    ) -> FusedPlan | None:
        """The plan of a cell whose ops the kernels know; None for others."""
        known = partial == 1 and channels % 8 == 0 and all(op.kind in KINDS for _, op in entries)
        return cls(entries, inputs, nodes, channels) if known else None

    @staticmethod
    def suits(x: Tensor) -> bool:
        """Whether the kernels can read this input."""
        return x.dtype == torch.float32 and by_kernels(x)


def _table(rows: Sequence[tuple[int, ...]], width: int) -> Any:
    return np.array(rows, dtype=np.int64).reshape(-1, width)


class FusedCell(torch.autograd.Function):
    """apply(plan, needed, last, plain, calibration, mix, *inputs, *weights) -> [last, batch, nodes * channel].

    needed: by source, bars at the end that are read. plain: the same by torch's functions, of (mix, *inputs, *weights), for second
    derivatives. mix: None for a discrete network.
    """

    @staticmethod
    def forward(
        ctx: Any, plan: FusedPlan, needed: Sequence[int], last: int, plain: Callable[..., Tensor], calibration: Tensor, mix: Tensor | None,
        *tensors: Tensor,
    ) -> Tensor:  # fmt: skip
        inputs, weights = tensors[: plan.inputs], tensors[plan.inputs :]
        bars, batch, c = inputs[-1].shape
        begins = np.array([bars - (min(n, len(inputs[s])) if s < plan.inputs else n) for s, n in enumerate(needed)])
        given = [x[len(x) - bars + begins[s] :].contiguous().view(-1).numpy() for s, x in enumerate(inputs)]
        given = [given[0], given[-1]]
        flat = torch.cat([w.reshape(-1) for w in weights]).numpy() if weights else np.empty(0, dtype=np.float32)
        factors, mixed = (calibration if mix is None else calibration * mix).numpy(), mix is not None
        folds, projections, units = kernels.folded(factors, flat, c, mixed, plan.slots, *plan.folding)
        out, *kept = kernels.forward(
            *given, plan.inputs, bars, batch, c, last, begins, plan.longest, folds, projections, factors, *plan.moving, plan.lanes
        )  # fmt: skip
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(mix, *tensors)
            ctx.known = (plan, plain, calibration, begins, (bars, batch, c, last))
            ctx.kept = (factors, flat, folds, projections, units, kept)
        return torch.from_numpy(out).view(last, batch, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mix, *tensors = ctx.saved_tensors
        plan, plain, calibration, begins, (bars, batch, c, last) = ctx.known
        asked = ctx.needs_input_grad[5:]
        if torch.is_grad_enabled():  # second derivatives are asked for
            tracked = [t for t, want in zip((mix, *tensors), asked, strict=True) if want]
            found = iter(
                torch.autograd.grad(plain(mix, *tensors), tracked, grads[0], create_graph=True, allow_unused=True)
            )
            return (None,) * 5 + tuple(next(found) if want else None for want in asked)
        factors, flat, folds, projections, units, kept = ctx.kept
        d_scale = np.zeros(len(factors), dtype=np.float32)
        wanted = np.array(asked[1 : 1 + plan.inputs])
        d_given, d_folds, d_projections = kernels.backward(
            grads[0].contiguous().view(-1).numpy(), plan.inputs, wanted, bars, batch, c, last, begins, plan.longest,
            folds, projections, factors, d_scale, *kept, *plan.moving, plan.lanes,
        )  # fmt: skip
        d_flat = np.zeros(len(flat), dtype=np.float32)
        kernels.unfolded(
            d_folds, d_projections, factors, flat, units, c, mix is not None, *plan.folding, d_scale, d_flat
        )  # fmt: skip
        out: list[Tensor | None] = [calibration * torch.from_numpy(d_scale)]
        of_inputs, start = torch.from_numpy(d_given), 0
        for s, x in enumerate(tensors[: plan.inputs]):
            size = (bars - begins[s]) * batch * c
            part = of_inputs[start : start + size].view(-1, batch, c)
            out.append(
                torch.nn.functional.pad(part, (0, 0, 0, 0, len(x) - len(part), 0)) if len(part) < len(x) else part
            )
            start += size
        shares = torch.split(torch.from_numpy(d_flat), [w.numel() for w in tensors[plan.inputs :]])
        out += [part.view(w.shape) for part, w in zip(shares, tensors[plan.inputs :], strict=True)]
        return (None,) * 5 + tuple(g if want else None for g, want in zip(out, asked, strict=True))
