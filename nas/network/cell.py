"""A cell whose linear ops are folded: per source node one matrix product feeds every later node (DESIGN, idea 2).

Tensors inside are time-major, [time, batch, channel]: a lag is a slice, an EMA is one scan with contiguous state.
`nas.network.reference` holds the same cell with every op applied by itself; tests hold outputs and gradients equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.panel import InputError
from nas.network.across import (
    Leads,
    Market,
    across_attention,
    correlation_mix,
    cross_rank,
    cross_section,
    lead_lag,
    market_factor,
)
from nas.network.attention import banded_attention
from nas.network.fused_cell import FusedCell, FusedPlan
from nas.network.linear_blocks import LinearBlocks, lagged
from nas.network.links import Candidates
from nas.space.ops import ACROSS, GATE_FLOOR, MOST_LAG_BARS, OWN, Op, get_op, maximum_of_normals


@dataclass(frozen=True)
class Edge:
    """A connection of one cell: its inputs are the first sources, source inputs + k is node k. `ops` are its candidates."""

    source: int
    node: int
    ops: tuple[str, ...]


def soft_norm(x: Tensor) -> Tensor:
    """x / sqrt(1 + mean_channel(x^2)): linear for small values, bounded for large ones, no statistics over time.

    A full channel norm would erase how large a move was, which is half of what a return says.
    """
    return x * torch.rsqrt(1.0 + x.square().mean(-1, keepdim=True))


def activation(x: Tensor) -> Tensor:
    """silu, scaled to unit variance for a standard normal input."""
    return nn.functional.silu(x) * 1.5


def added(total: Tensor | None, part: Tensor) -> Tensor:
    """`part` joined to a running sum that may not have begun (None). Same shapes."""
    return part if total is None else total + part


def gated_unit(x: Tensor, weight: Tensor, bias: Tensor, span: int) -> Tensor:
    """Gated recurrences with parallel form (minGRU, Feng et al. 2024) over the last `span` bars, n of them side by side.

    h[t] = (1 - z[t]) h[t-1] + z[t] c[t], z = sigmoid, c = tanh of the input; the gate never falls below 8 / span so that what
    lies further back than the span weighs less than e^-8, and is cut there.
    x: [time, batch, c]; weight [n, c, 2c]; bias [n, 2c] -> [time, batch, n, c].
    """
    bars, batch, channels = x.shape
    inner = x.reshape(bars * batch, channels) @ weight.transpose(0, 1).reshape(channels, -1)
    z, c = (inner.view(bars, batch, *bias.shape) + bias).chunk(2, -1)
    floor = GATE_FLOOR / span
    z = floor + (1.0 - floor) * torch.sigmoid(z)
    keep, add = 1.0 - z, z * torch.tanh(c)
    # Hillis-Steele scan: after step k `add` has folded in 2^k bars; the powers of two that make up the span are joined
    total: tuple[Tensor, Tensor] | None = None
    width, power = 0, 1
    while True:
        if span & power:
            total = (add, keep) if total is None else _joined(total, (add, keep), width)
            width += power
        if 2 * power > span:
            break
        add, keep = _joined((add, keep), (add, keep), power)
        power *= 2
    assert total is not None  # span is at least 1
    return total[0]


def _joined(late: tuple[Tensor, Tensor], early: tuple[Tensor, Tensor], width: int) -> tuple[Tensor, Tensor]:
    """Two windows of a gated recurrence as one: `late` covers `width` bars, `early` those before."""
    add, keep = late
    return add + keep * lagged(early[0], width), keep * lagged(early[1], width)


def max_pool(x: Tensor, span: int) -> Tensor:
    """Maximum over the last `span` bars (zeros before the first), less its mean for standard normal bars. x: [time, ...]."""
    return torch.stack([lagged(x, k) for k in range(span)]).amax(0) - maximum_of_normals(span)[0]


class Cell(nn.Module):
    """Nodes joined by edges; each edge is a weighted mix of its ops, each node the sum of its edges, soft-normed and activated.

    forward(x [time, batch, channel], mix, bypass) -> [time, batch, nodes * channel]; x: one tensor per cell input, or the tensor alone
    where there is one. last: only so many bars at the end are asked for, and no bar is computed that they do not read. mix: one weight
    per (edge, op) in the order of `edges`, concatenated: [sum of ops], or None for all ones (the discrete network).

    partial K > 1: only the first channels / K of a source go through the ops, the others pass by with one weight per edge
    (`bypass` [edges], None for ones), then the channels are shuffled (PC-DARTS, Xu et al. 2020, section 3.1).

    fused: by compiled kernels where they know all ops (`nas.network.fused_cell`); else, and where False, by torch's functions.
    """

    calibration: Tensor

    def __init__(self, edges: Sequence[Edge], nodes: int, channels: int, partial: int = 1, inputs: int = 1) -> None:
        super().__init__()
        if partial < 1 or channels % partial:
            raise InputError(
                f"1/{partial} of the channels cannot go through the ops: {channels} channels are no multiple of {partial}; "
                f"give channels that are"
            )
        self.edges = tuple(edges)
        self.nodes = nodes
        self.inputs = inputs
        self.channels = channels
        self.partial = partial
        self.active = channels // partial
        self.entries = entries = [(e, get_op(name)) for e in self.edges for name in e.ops]
        c = self.active
        self.weights = nn.ParameterDict()
        self.sources = sorted({e.source for e in self.edges})
        self._plans: dict[int, _Plan] = {}
        for source in self.sources:
            plan = _Plan(source, entries)
            self._plans[source] = plan
            for name, array in plan.index.items():
                self.register_buffer(f"i{source}_{name}", array, persistent=False)
            if plan.matrix_entries:
                # every matrix op sees c inputs per tap: scale so that a node starts with unit variance
                scale = torch.tensor([(c * taps) ** -0.5 for _, _, taps in plan.matrix_entries])
                self.weights[f"matrix{source}"] = nn.Parameter(torch.randn(len(scale), c, c) * scale[:, None, None])
            if plan.separable:
                self.weights[f"point{source}"] = nn.Parameter(torch.randn(len(plan.separable), c, c) * c**-0.5)
                taps = max(len(op.lags) for _, op, _ in plan.separable)
                self.weights[f"depth{source}"] = nn.Parameter(torch.randn(len(plan.separable), taps, c) * taps**-0.5)
            if plan.residuals:
                # of the source as it is, all channels of it: neither norm nor activation stands before (Bai et al. 2018)
                count, taps = len(plan.residuals), max(len(op.lags) for _, _, op in plan.residuals)
                self.weights[f"residual{source}"] = nn.Parameter(
                    torch.randn(count, taps, channels, channels) * (taps * channels) ** -0.5
                )
                self.weights[f"residualbias{source}"] = nn.Parameter(torch.zeros(count, channels))
            attention, gated = plan.count("attention"), plan.count("gated")
            if attention:
                self.weights[f"attention{source}"] = nn.Parameter(torch.randn(attention, c, 3 * c) * c**-0.5)
            if gated:
                self.weights[f"gated{source}"] = nn.Parameter(torch.randn(gated, c, 2 * c) * c**-0.5)
                self.weights[f"gatedbias{source}"] = nn.Parameter(torch.zeros(gated, 2 * c))
            for kind in plan.across:
                sizes = {"cross_attention": 3 * c, "correlation": c + 1, "lead_lag": c}
                if kind in sizes:
                    self.weights[f"{kind}{source}"] = nn.Parameter(torch.randn(c, sizes[kind]) * c**-0.5)
                if kind == "lead_lag":
                    self.weights[f"lag{source}"] = nn.Parameter(torch.zeros(MOST_LAG_BARS))
        # (rate, generator): elements of what skips pass on are left out in training, as P-DARTS does (Chen et al. 2019, section 3.3)
        self.skip_dropout: tuple[float, torch.Generator] | None = None
        self.own = nn.ModuleDict({str(k): op.module(c) for k, (_, op) in enumerate(entries) if op.module is not None})
        # per entry, times its op: what makes ops equally loud on the inputs at hand (nas.network.calibration); ones suit white inputs
        self.register_buffer("calibration", torch.ones(len(entries)))
        # who may lead whom, per source: candidates in a supernet, fixed links in a discrete network (nas.network.links)
        self.leads: dict[int, Leads | Candidates] = {}
        self.fused = FusedPlan.of(entries, inputs, nodes, channels, partial)

    def across(self, kind: str, source: int, x: Tensor, market: Market) -> Tensor:
        """An op that reads other assets, on the activated source x."""
        if kind == "market":
            return market_factor(x, market)
        if kind == "cross_zscore":
            return cross_section(x, market)
        if kind == "cross_rank":
            return cross_rank(x, market)
        weight = self.weights[f"{kind}{source}"]
        if kind == "cross_attention":
            return across_attention(x, weight, market)
        if kind == "correlation":
            return correlation_mix(x, weight[:, :1], weight[:, 1:], market)
        leads = self.leads.get(source)
        if leads is None:
            return torch.zeros_like(x)
        if isinstance(leads, Candidates):
            leads = leads.leads(self.weights[f"lag{source}"])
        return lead_lag(x, weight, leads, market)

    def product(
        self,
        source: int,
        x: Tensor,
        scale: Tensor,
        mixed: bool = False,
        market: Market | None = None,
        last: int | None = None,
    ) -> Tensor:
        """What `source` gives to every node it leads to. x: [time, batch, channel] -> [time, batch, nodes it leads to, channel].

        scale: [entries], factor of every op; mixed: they are a supernet's, whose learned ops have unit gain. last: of so many bars.
        """
        plan, c = self._plans[source], self.active
        bars, batch = last or x.shape[0], x.shape[1]
        weights = self.folded(source, scale, mixed, x)
        first = len(plan.linear) * c
        out = plan.linear(x)[-bars:].view(bars * batch, first) @ weights[:first] if first else None
        for k, (kind, span) in enumerate(plan.curved):
            if kind in ACROSS:
                if market is None:
                    raise ValueError(f"op {kind} reads other assets: x must be [group, asset, input + 1, time]")
                block = self.across(kind, source, x, market)
            else:
                block = max_pool(x, span)
            flat, rows = block[-bars:].reshape(bars * batch, c), weights[first + k * c : first + (k + 1) * c]
            out = flat @ rows if out is None else torch.addmm(out, flat, rows)
        if out is None:
            out = x.new_zeros(bars * batch, len(plan.nodes) * c)
        out = out.view(bars, batch, len(plan.nodes), c)
        for group, (kind, span, places) in enumerate(plan.groups):
            # what reads a band of bars computes none that lies before it
            gains = (
                getattr(self, f"i{source}_gain{group}").to(x.dtype) * scale[getattr(self, f"i{source}_entry{group}")]
            )
            # what reads a band of bars computes none that lies before it
            seen = x[-(bars + span - 1) :] if last else x
            block = self.apart(kind, span, source, places, seen, gains)[-bars:]
            if plan.everywhere[group]:
                out = out + block
            else:
                out = out.index_add(2, getattr(self, f"i{source}_node{group}"), block)
        return out

    def apart(self, kind: str, span: int, source: int, places: Sequence[int], x: Tensor, gains: Tensor) -> Tensor:
        """Ops of one kind and span that leave `source`, each with weights of its own, times `gains` [len(places)]. places: among the
        weights of the kind, or entries of the cell for modules. x: [time, batch, channel] -> [time, batch, len(places), channel]."""
        if kind == "module":
            return torch.stack([self.own[str(k)](x) for k in places], 2) * gains[:, None]
        weight = self.weights[f"{kind}{source}"]
        mine = slice(None) if len(places) == len(weight) else list(places)
        if kind == "attention":
            return banded_attention(x, weight[mine], span, gains)
        return gated_unit(x, weight[mine], self.weights[f"gatedbias{source}"][mine], span) * gains[:, None]

    def folded(self, source: int, scale: Tensor, mixed: bool, like: Tensor) -> Tensor:
        """The weights of the edges leaving `source`, times `scale`: [blocks * c, destinations * c]. like: tells type and device."""
        plan, c = self._plans[source], self.active
        buffer = {name: getattr(self, f"i{source}_{name}") for name in plan.index}
        blocks, nodes = len(plan.linear) + len(plan.curved), len(plan.nodes)
        table = buffer["constant"].to(like.dtype)
        total = torch.outer(table @ scale, torch.eye(c, dtype=like.dtype, device=like.device).view(-1))
        if plan.matrix_entries:
            kernel = self.weights[f"matrix{source}"].view(-1, c * c)
            place = buffer["matrix_place"].to(like.dtype)
            member, factors = buffer["matrix_member"].to(like.dtype), scale[buffer["matrix_mix"]]
            if mixed:
                factors = factors * self.unit_gain(member @ kernel.square().sum(1), c)
            place = place * (factors @ member)
            total = torch.addmm(total, place, kernel)
        if plan.separable:
            point, depth = self.weights[f"point{source}"], self.weights[f"depth{source}"]
            factors = scale[buffer["separable_mix"]]
            if mixed:
                sizes = point.square().sum((1, 2)), depth.square().sum((1, 2))
                factors = factors * self.unit_gain(sizes[0], c) * self.unit_gain(sizes[1], c)
            point = point * factors[:, None, None]
            entry = buffer["separable_entry"]
            rows = point[entry] * depth[entry, buffer["separable_tap"]][:, :, None]
            total = total.index_add(0, buffer["separable_slot"], rows.view(-1, c * c))
        return total.view(blocks, nodes, c, c).transpose(1, 2).reshape(blocks * c, nodes * c)

    @staticmethod
    def unit_gain(squares: Tensor, channels: int) -> Tensor:
        """Factor per op that gives it unit gain: its sum of squared weights becomes `channels`. squares: [ops].

        In a supernet only: otherwise a learned op outweighs the others by growing, whatever alpha says. The originals
        hold every op to unit variance by a batch norm without scale; this is its counterpart for a white input.
        """
        # not sqrt: MKL rounds that one differently on every kind of processor, whatever it is told (data.arithmetic)
        return (squares.clamp_min(1e-12) / channels).rsqrt()

    def forward(
        self,
        x: Tensor | Sequence[Tensor],
        mix: Tensor | None = None,
        bypass: Tensor | None = None,
        market: Market | None = None,
        last: int | None = None,
        fused: bool = True,
    ) -> Tensor:
        given, first = (x,) if isinstance(x, Tensor) else tuple(x), self.inputs
        bars = given[-1].shape[0]
        needed = self.needed(last or bars, bars)
        if fused and self.fused is not None and self.skip_dropout is None and self.fused.suits(given[-1]):
            return self.by_kernels(self.fused, given, needed, last or bars, mix)
        calibration = self.calibration.to(given[-1].dtype)
        scale = calibration if mix is None else calibration * mix
        values: dict[int, Tensor] = dict(enumerate(given))  # per source, before the activation
        sums: list[Tensor | None] = [None] * self.nodes
        passed: list[Tensor | None] = [None] * self.nodes
        residual: list[Tensor | None] = [None] * self.nodes
        for source in range(first + self.nodes):
            if source < first:
                hidden = values[source] = values[source][-max(1, needed[source]) :]
            else:
                total = sums[source - first]
                if total is None:
                    continue
                value = soft_norm(self.joined(total, passed[source - first]))
                skipped = residual[source - first]
                values[source] = value = value if skipped is None else value + skipped
                hidden = activation(value)
            if source not in self._plans:
                continue
            plan = self._plans[source]
            needed_after = max(needed[first + node] for node in plan.nodes)
            active = hidden if self.partial == 1 else hidden[..., : self.active]
            folded = scale
            if self.skip_dropout is not None and mix is not None and plan.identities:
                folded = scale * scale.new_tensor([op.name != "identity" for _, op in self.entries])
                for node, entries in plan.identities.items():
                    sums[node] = added(sums[node], scale[entries].sum() * self.thinned(active)[-needed[first + node] :])
            for position, (k, node, _) in enumerate(plan.residuals):
                block = self.block(source, position, values[source], mix is not None)[-needed[first + node] :]
                residual[node] = added(residual[node], scale[k] * block)
            product = self.product(
                source, active, folded, mix is not None, market, None if last is None else needed_after
            )
            for node, part in zip(plan.nodes, product.unbind(2), strict=True):
                sums[node] = added(sums[node], part[-needed[first + node] :])
            if self.partial > 1:
                for node, edge in plan.edge_of.items():
                    rest = hidden[-needed[first + node] :, :, self.active :]
                    passed[node] = added(passed[node], rest if bypass is None else bypass[edge] * rest)
            if plan.skips:
                for node, entries in plan.skips.items():
                    passing = self.thinned(values[source])[-needed[first + node] :]
                    residual[node] = added(residual[node], scale[entries].sum() * passing)
        return torch.cat([values[k][-(last or bars) :] for k in sorted(values) if k >= first], -1)

    def by_kernels(
        self, plan: FusedPlan, given: tuple[Tensor, ...], needed: list[int], last: int, mix: Tensor | None
    ) -> Tensor:
        """`forward` as one compiled step of autograd. needed: by source, bars at its end that are read."""

        def plain(mix: Tensor | None, *tensors: Tensor) -> Tensor:
            count = len(given)
            now = dict(zip((f"weights.{name}" for name in plan.names), tensors[count:], strict=True))
            out: Tensor = torch.func.functional_call(self, now, (tensors[:count], mix, None, None, last, False))
            return out

        weights = [self.weights[name] for name in plan.names]
        out: Tensor = FusedCell.apply(plan, needed, last, plain, self.calibration, mix, *given, *weights)  # type: ignore[no-untyped-call]
        return out

    def own_weights(self) -> dict[int, list[tuple[str, int | None]]]:
        """Entry -> (parameter, its row, None for all of it): the weights that belong to one op on one edge."""
        found: dict[int, list[tuple[str, int | None]]] = {}
        for source, plan in self._plans.items():
            for kernel, (_, entry, _) in enumerate(plan.matrix_entries):
                found.setdefault(entry, []).append((f"weights.matrix{source}", kernel))
            for row, (entry, _, _) in enumerate(plan.separable):
                found[entry] = [(f"weights.{kind}{source}", row) for kind in ("point", "depth")]
            for row, (entry, _, _) in enumerate(plan.residuals):
                found[entry] = [(f"weights.{kind}{source}", row) for kind in ("residual", "residualbias")]
            for kind, names in (("attention", ("attention",)), ("gated", ("gated", "gatedbias"))):
                for row, entry in enumerate(k for k, _, op in plan.apart if op.kind == kind):
                    found[entry] = [(f"weights.{name}{source}", row) for name in names]
        for key, module in self.own.items():
            found[int(key)] = [(f"own.{key}.{name}", None) for name, _ in module.named_parameters()]
        return {entry: found[entry] for entry in sorted(found)}

    def needed(self, last: int, bars: int) -> list[int]:
        """Per cell input and node: how many bars at its end the last `last` bars of all nodes read. bars: as many as there are."""
        first = self.inputs
        found = [0] * first + [last] * self.nodes
        for source in reversed(self.sources):
            after = max(found[first + node] for node in self._plans[source].nodes)
            found[source] = min(bars, max(found[source], after + self._plans[source].reach))
        return found

    @property
    def trims(self) -> bool:
        """Whether bars that nobody reads may be left out: modules of one's own and dropped skips count every bar."""
        return self.skip_dropout is None and not len(self.own)

    def block(self, source: int, position: int, x: Tensor, supernet: bool) -> Tensor:
        """x + relu(dilated convolution of x), the residual block of a TCN, by one of those that leave `source`. [time, batch, channel]."""
        kernel, bias = self.weights[f"residual{source}"][position], self.weights[f"residualbias{source}"][position]
        lags = self._plans[source].residuals[position][2].lags
        kernel = kernel[: len(lags)]
        if supernet:
            kernel = kernel * self.unit_gain(kernel.square().sum(), self.channels)
        seen = torch.cat([lagged(x, lag) for lag in lags], -1)
        return x + torch.relu(seen @ kernel.reshape(-1, self.channels) + bias)

    def thinned(self, x: Tensor) -> Tensor:
        """x with a share of its elements left out and the others larger by as much; x itself where nothing is to be dropped."""
        if self.skip_dropout is None:
            return x
        rate, draw = self.skip_dropout
        stays = (torch.rand(x.shape, generator=draw) >= rate).to(x) / (1.0 - rate)
        return x * stays

    def joined(self, mixed: Tensor, passed: Tensor | None) -> Tensor:
        """The channels that went through the ops and those that passed by, shuffled so that both kinds mix in the next node."""
        if passed is None:
            return mixed
        bars, batch, _ = mixed.shape
        together = torch.cat([mixed, passed], -1)
        return together.view(bars, batch, self.partial, self.active).transpose(2, 3).reshape(bars, batch, -1)


class _Plan:
    """Where each op's taps land among the blocks of one source; index arrays made once."""

    def __init__(self, source: int, entries: list[tuple[Edge, Op]]) -> None:
        every = [(k, e, op) for k, (e, op) in enumerate(entries) if e.source == source and op.kind != "zero"]
        # bars before bar t that what the source gives to bar t reads
        self.reach = max((op.receptive_field - 1 for _, _, op in every), default=0)
        self.residuals = [(k, edge.node, op) for k, edge, op in every if op.kind == "residual"]
        mine = [item for item in every if item[2].kind != "residual"]
        self.nodes = sorted({e.node for e, _ in entries if e.source == source})
        order = list(dict.fromkeys(e for e, _ in entries))
        self.edge_of = {e.node: k for k, e in enumerate(order) if e.source == source}
        self.skips: dict[int, list[int]] = {}
        for k, edge, op in mine:
            if op.kind == "skip":
                self.skips.setdefault(edge.node, []).append(k)
        self.identities: dict[int, list[int]] = {}
        for k, edge, op in mine:
            if op.name == "identity":
                self.identities.setdefault(edge.node, []).append(k)
        lags = sorted({lag for _, _, op in mine for lag in op.lags})
        averages = {op.span: op for _, _, op in mine if op.kind == "ema"}
        # blocks that are linear in the source come first, in one tensor; others that edges share follow one by one
        self.curved: list[tuple[str, int]] = []
        self.curved += [("maxpool", span) for span in sorted({op.span for _, _, op in mine if op.kind == "maxpool"})]
        self.across = sorted({op.kind for _, _, op in mine if op.across})
        self.curved += [(kind, 0) for kind in self.across]
        # those with weights of their own on every edge, by kind and span
        self.apart = [(k, edge, op) for k, edge, op in mine if op.kind in OWN]
        spans = sorted(averages)
        self.linear = LinearBlocks(
            tuple(lags), tuple((averages[s].decay, averages[s].length, averages[s].gain) for s in spans)
        )
        blocks = [*(("lag", lag) for lag in lags), *(("ema", span) for span in spans), *self.curved]
        self.index = self._tables([item for item in mine if item[2].kind not in OWN], blocks, len(entries))
        self.groups: list[tuple[str, int, tuple[int, ...]]] = []
        self.everywhere: list[bool] = []  # of each group: one op for every node, in their order
        for kind, span in dict.fromkeys((op.kind, op.span) for _, _, op in self.apart):
            same = [(k, edge, op) for k, edge, op in self.apart if op.kind == kind]
            here = [(n, k, edge, op) for n, (k, edge, op) in enumerate(same) if op.span == span]
            group = str(len(self.groups))
            self.index[f"entry{group}"] = torch.tensor([k for _, k, _, _ in here])
            nodes = [self.nodes.index(edge.node) for _, _, edge, _ in here]
            self.index[f"node{group}"] = torch.tensor(nodes)
            self.everywhere.append(nodes == list(range(len(self.nodes))))
            self.index[f"gain{group}"] = torch.tensor([op.gain for _, _, _, op in here], dtype=torch.float64)
            self.groups.append((kind, span, tuple(k if kind == "module" else n for n, k, _, _ in here)))

    def count(self, kind: str) -> int:
        """Edges that leave the source with an op of this kind among their candidates."""
        return sum(op.kind == kind for _, _, op in self.apart)

    def _tables(
        self, mine: list[tuple[int, Edge, Op]], blocks: list[tuple[str, int]], entries: int
    ) -> dict[str, Tensor]:
        """Index arrays: where every tap of `mine`, (entry, edge, op) each, lands among `blocks`."""
        where = {block: position for position, block in enumerate(blocks)}

        def slot(block: tuple[str, int], node: int) -> int:
            return where[block] * len(self.nodes) + self.nodes.index(node)

        constant: list[tuple[int, float, int]] = []
        self.matrix_entries: list[tuple[int, int, int]] = []
        self.separable: list[tuple[int, Op, Edge]] = []
        separable: list[tuple[int, int, int]] = []
        for k, edge, op in mine:
            if op.kind == "skip":
                continue
            if op.kind == "constant":
                constant += [
                    (slot(("lag", lag), edge.node), op.gain * w, k)
                    for lag, w in zip(op.lags, op.coefficients, strict=True)
                ]
            elif op.kind == "matrix":
                self.matrix_entries += [(slot(("lag", lag), edge.node), k, len(op.lags)) for lag in op.lags]
            elif op.kind == "separable":
                separable += [
                    (slot(("lag", lag), edge.node), len(self.separable), tap) for tap, lag in enumerate(op.lags)
                ]
                self.separable.append((k, op, edge))
            else:
                block = (op.kind, 0 if op.across else op.span)
                constant.append((slot(block, edge.node), op.gain if op.kind != "ema" else 1.0, k))
        slots = len(blocks) * len(self.nodes)
        table = torch.zeros(slots, entries, dtype=torch.float64)
        for place, value, k in constant:
            table[place, k] += value
        index = {"constant": table}
        if self.matrix_entries:
            own = list(dict.fromkeys(k for _, k, _ in self.matrix_entries))
            kernels = range(len(self.matrix_entries))
            place_of, member = torch.zeros(slots, len(kernels)), torch.zeros(len(own), len(kernels))
            for kernel, (place, k, _) in zip(kernels, self.matrix_entries, strict=True):
                place_of[place, kernel] = member[own.index(k), kernel] = 1.0
            index |= {"matrix_place": place_of, "matrix_member": member, "matrix_mix": torch.tensor(own)}
        if separable:
            slot_of, entry_of, tap_of = (torch.tensor(column) for column in zip(*separable, strict=True))
            mixed = torch.tensor([k for k, _, _ in self.separable])
            index |= {
                "separable_slot": slot_of,
                "separable_entry": entry_of,
                "separable_tap": tap_of,
                "separable_mix": mixed,
            }
        return index
