"""Runs of searches that advance together, every tensor with a leading axis of searches (`nas.search.stacked` is the door).

`torch.func.vmap` lays the axis over the network in torch's own functions (`nas.network.paths`), and over the architecture; weights,
logits, calibration, optimiser states and data are stacked. What a search says of itself and how its cell is read off is the ordinary
run's own code, whose weights are rows of the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import InputError
from nas.network.paths import torch_only
from nas.network.stretches import Places, Tensors, spread_places
from nas.network.training import evaluate_over
from nas.search.forces import Forces
from nas.search.relaxation import Relaxation
from nas.search.run import SearchRun, alpha_descent_of, descent_of
from nas.search.supernet import Architecture, Mix

Rows = list[dict[str, Any]]
Parts = tuple[Tensor, ...]  # a mix, [search, ...] each: ops, columns and, with partial channels, bypass


class _Asked(nn.Module):
    """An architecture that `functional_call` can ask anything."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture

    def forward(self, question: Callable[[Architecture], Any]) -> Any:
        return question(self.architecture)


class Stack:
    """Runs that advance together. Their weights and logits are rows of `weights` and `alphas`, name -> [search, ...]."""

    def __init__(self, runs: Sequence[SearchRun], *, mixed: bool = False, replayed: bool = False) -> None:
        self.runs, self.first, self.mixed = list(runs), runs[0], mixed
        first = self.first
        self.device = first.device
        self.weights = _stacked([run.parameters for run in runs])
        self.alphas = _stacked([dict(run.architecture.named_parameters()) for run in runs])
        names = first.stand_in.statistics
        self.statistics = {name: torch.stack([run.stand_in.statistics[name] for run in runs]) for name in names}
        self.descent, self.schedule = descent_of(list(self.weights.values()), first.settings, first.variant)
        alphas = self.alphas
        self.alpha = alpha_descent_of(alphas["ops"], alphas["strength"], alphas["features"], first.settings)
        self.asked = _Asked(first.architecture)
        self.price = torch.tensor([run.feature_price for run in runs])
        self.forces = _Forces(first.forces.decay, first.forces.movable)
        if first.variant.regulariser is not None:
            first.variant.regulariser(first.architecture, 0.0)  # what it finds out once, outside vmap
        self._read()
        step = _Replayed if replayed else _same
        self.weight_gradients, self.mix_gradients = step(self._weight_gradients), step(self._mix_gradients)

    def _read(self) -> None:
        """The bars of every window once on the device, context of zeros before the first; the runs read the same memory."""
        windows: dict[tuple[int, ...], Tensors] = {}
        places = []
        for run in self.runs:
            key = tuple(part.data_ptr() for part in (run.tensors.x, run.tensors.y, run.tensors.weight))
            windows.setdefault(key, run.tensors)
            places.append(list(windows).index(key))
        every = list(windows.values())
        self.window = torch.tensor(places, device=self.device)[:, None, None]
        self.x = nn.functional.pad(torch.stack([each.x for each in every]), (self.first.context, 0))
        self.y, self.w = torch.stack([each.y for each in every]), torch.stack([each.weight for each in every])
        shared = [
            replace(each, x=self.x[k, ..., self.first.context :], y=self.y[k], weight=self.w[k])
            for k, each in enumerate(every)
        ]
        for run, place in zip(self.runs, places, strict=True):
            run.tensors = shared[place]

    # -- what is stacked --------------------------------------------------------------------------------------------------

    def batches(self, drawn: Sequence[Sequence[tuple[Places, int]]]) -> list[Parts]:
        """drawn: per search what `SearchRun.drawn` gave, equally many. Per batch x [search, batch, column, time], y, weight; what one
        search has more of than another is there with weight 0."""
        found: list[Parts] = []
        for batch in zip(*drawn, strict=True):
            rows, length = max(len(places) for places, _ in batch), max(size for _, size in batch)
            table = [[*places, *[places[0]] * (rows - len(places))] for places, _ in batch]
            group, start = torch.tensor(table).to(self.device)[..., None].unbind(2)
            bars = start + torch.arange(
                self.first.context + length, device=self.device
            )  # the context of zeros shifts x
            x = self.x[self.window, group, :, bars.clamp(max=self.x.shape[-1] - 1)].transpose(2, 3)
            labels = (start + torch.arange(length, device=self.device)).clamp(max=self.y.shape[-1] - 1)
            y, w = (each[self.window, group, :, labels].transpose(2, 3) for each in (self.y, self.w))
            if any((len(places), size) != (rows, length) for places, size in batch):
                there = torch.tensor(
                    [[[k < len(p) and t < size for t in range(length)] for k in range(rows)] for p, size in batch]
                )
                w = w * there.to(w)[:, :, None]
            found.append((x, y, w))
        return found

    def mixes(self, relaxation: Relaxation | None = None) -> Parts:
        """Mix of every search; relaxation: one with noise, which every search draws by itself."""
        if relaxation is None:
            return self.ask(lambda architecture: architecture.mix())
        each = [
            self._answer(
                {name: value[s] for name, value in self.alphas.items()},
                lambda architecture, run=run: architecture.mix(run.draw, relaxation),  # type: ignore[misc]
            )
            for s, run in enumerate(self.runs)
        ]
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True))

    def ask(self, question: Callable[[Architecture], Any]) -> Parts:
        """What every search's architecture answers, stacked; what is None is left out."""
        found: Parts = torch.func.vmap(lambda alphas: self._answer(alphas, question))(dict(self.alphas))
        return found

    def _answer(self, alphas: Mapping[str, Tensor], question: Callable[[Architecture], Any]) -> Parts:
        named = {f"architecture.{name}": value for name, value in alphas.items()}
        found = torch.func.functional_call(self.asked, named, (question,))
        return tuple(part for part in (found if isinstance(found, tuple) else (found,)) if part is not None)

    def forecasts(self, mix: Sequence[Tensor], x: Tensor, bars: int) -> Tensor:
        """Of the last `bars` bars, [search, batch, horizon, time]."""

        def one(weights: dict[str, Tensor], statistics: dict[str, Tensor], x: Tensor, *mix: Tensor) -> Tensor:
            called: Tensor = torch.func.functional_call(
                self.first.network, {**weights, **statistics}, (x, *mix), {"last": bars}
            )
            return called

        half = torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False) if self.mixed else nullcontext()
        with torch_only(), half:
            out: Tensor = torch.func.vmap(one)(dict(self.weights), self.statistics, x, *mix)
        return out.to(x.dtype)

    def losses(self, mix: Sequence[Tensor], batch: Sequence[Tensor]) -> Tensor:
        """[search]."""
        x, y, w = batch
        out = self.forecasts(mix, x, y.shape[-1])
        found: Tensor = torch.func.vmap(self.first.loss_function)(out, y, w)
        return found

    def _weight_gradients(self, *given: Tensor) -> tuple[Tensor, ...]:
        """(losses, gradients of the weights that the losses use, clipped search by search); given: mix, x, y, weight."""
        losses = self.losses(given[:-3], given[-3:])
        gradients = torch.autograd.grad(losses.sum(), list(self.weights.values()), allow_unused=True)
        self.used = [name for name, g in zip(self.weights, gradients, strict=True) if g is not None]
        used = [g for g in gradients if g is not None]
        norms = torch.linalg.vector_norm(torch.cat([g.flatten(1) for g in used], 1), dim=1)
        factor = (self.first.settings.gradient_clip / (norms + 1e-6)).clamp(max=1.0)
        return losses.detach(), *(g * _over(factor, g) for g in used)

    def _mix_gradients(self, *given: Tensor) -> tuple[Tensor, ...]:
        """(losses, their gradients by the mix)."""
        mix = [part.detach().requires_grad_() for part in given[:-3]]
        losses = self.losses(mix, given[-3:])
        return losses.detach(), *torch.autograd.grad(losses.sum(), mix)

    # -- one epoch --------------------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> Rows:
        """Train all for one epoch; the row of each."""
        first, epochs = self.first, self.first.settings.epochs
        drawn, learns = [], False
        for run in self.runs:
            learns = run.begin(number, epochs)
            drawn.append(run.drawn())
        validation, training = (self.batches([each[k] for each in drawn]) for k in (0, 1))
        losses, norms, seen = [], [], []
        for step, batch in enumerate(training):
            if learns:
                loss, norm = self.alpha_step(validation[step % len(validation)])
                seen.append(loss)
                norms.append(norm)
            losses.append(self.weight_step(batch))
        self.schedule.step()
        for k, each in enumerate(torch.stack([*seen, *losses]).isfinite().all(0).tolist()):
            if not each:
                raise InputError(
                    f"the loss of search {k} of the stack is not finite ({first.variant.name}): its weights exploded; "
                    f"lower learning_rate ({first.settings.learning_rate}) or gradient_clip ({first.settings.gradient_clip})"
                )
        return self.describe(number, torch.stack(losses).T.tolist(), torch.stack(norms).T.tolist() if norms else [])

    def alpha_step(self, batch: Parts) -> tuple[Tensor, Tensor]:
        """(validation losses, norms of their gradients by the alphas that still move), [search]."""
        first, variant = self.first, self.first.variant
        first.feature_steps += 1
        choosing = first.feature_steps <= first.settings.feature_steps
        named = {k: p for k, p in self.alphas.items() if choosing or k != "features"}
        noisy = variant.alpha_relaxation(first.progress) if variant.alpha_relaxation else None
        mix = self.mixes(noisy)
        losses, *by_mix = self.mix_gradients(*(part.detach().to(self.device) for part in mix), *batch)

        def pushed(what: Sequence[Tensor], by: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
            found = torch.autograd.grad(what, list(named.values()), by, allow_unused=True)
            return {k: torch.zeros_like(p) if g is None else g for (k, p), g in zip(named.items(), found, strict=True)}

        gradients = pushed(mix, [g.to(part) for g, part in zip(by_mix, mix, strict=True)])
        price = penalty = None
        if choosing and first.settings.feature_cost > 0.0:
            (columns,) = self.ask(lambda architecture: architecture.column_weights().sum())
            price = pushed([columns], [self.price.to(columns)])
        if variant.regulariser is not None:
            regulariser = variant.regulariser
            (term,) = self.ask(lambda architecture: regulariser(architecture, first.progress))
            penalty = pushed([term], [torch.ones_like(term)])
        forces = self.forces.total(named, gradients, price, penalty)
        for name, parameter in self.alphas.items():
            parameter.grad = forces.get(name)
        self.alpha.step()
        return losses.clone(), torch.linalg.vector_norm(torch.cat([g.flatten(1) for g in gradients.values()], 1), dim=1)

    def weight_step(self, batch: Parts) -> Tensor:
        """One step of all weights down their training losses; the losses before it, [search]."""
        variant = self.first.variant
        noisy = variant.weight_relaxation(self.first.progress) if variant.weight_relaxation else None
        with torch.no_grad():
            mix = [part.to(self.device) for part in self.mixes(noisy)]
        losses, *gradients = self.weight_gradients(*mix, *batch)
        for parameter in self.weights.values():
            parameter.grad = None
        for name, gradient in zip(self.used, gradients, strict=True):
            self.weights[name].grad = gradient
        self.descent.step()
        return losses.clone()

    # -- what is told about it ----------------------------------------------------------------------------------------------

    def describe(self, number: int, losses: list[list[float]], norms: list[list[float]]) -> Rows:
        """The row of every search's history, as `SearchRun.describe` has it."""
        first = self.first
        with torch.no_grad():
            told = self.validation(self.mixes())
        genotypes = [run.architecture.genotype() for run in self.runs]
        chosen: list[float | None] = [None] * len(self.runs)
        eigenvalues: list[float | None] = [None] * len(self.runs)
        if first.due(number, first.settings.epochs):
            if first.variant.order > 0:
                eigenvalues = [*self.eigenvalues()]
            alone = [run.architecture.chosen_mix(g) for run, g in zip(self.runs, genotypes, strict=True)]
            parts = [part for part in zip(*alone, strict=True) if part[0] is not None]
            chosen = [loss for loss, _ in self.validation(tuple(torch.stack(part) for part in parts))]
        return [
            run.row(
                number, losses[k], norms[k] if norms else [], genotypes[k], told[k], chosen[k], eigenvalues[k], each
            )
            for k, (run, each) in enumerate(zip(self.runs, self.forces.each(len(self.runs)), strict=True))
        ]

    @torch.no_grad()
    def validation(self, mix: Parts) -> list[tuple[float, float]]:
        """Of every search what `SearchRun.validation` gives."""
        first = self.first
        stretches = [
            [
                ([(a, part.start) for a in range(self.x.shape[1])], part.stop - part.start)
                for part in run.validation_bars
            ]
            for run in self.runs
        ]
        if any(part.start < first.context for run in self.runs for part in run.validation_bars):
            # less than the context lies before: such bars are forecast without the zeros that stand in for it in training
            return [run.validation(Mix(*(part[k] for part in mix))) for k, run in enumerate(self.runs)]
        moved = [part.to(self.device) for part in mix]
        parts = [self.forecasts(moved, x, y.shape[-1]) for x, y, _ in self.batches(stretches)]

        def told(run: SearchRun, place: int) -> tuple[float, float]:
            given = iter([(part[place], bars) for part, bars in zip(parts, run.validation_bars, strict=True)])

            def forward(x: Tensor) -> Tensor:
                out, bars = next(given)
                out = out[..., : bars.stop - bars.start]
                return nn.functional.pad(out, (x.shape[-1] - out.shape[-1], 0))

            return evaluate_over(forward, run.tensors, run.validation_bars, run.context, run.loss_function)

        return [told(run, place) for place, run in enumerate(self.runs)]

    def eigenvalues(self) -> list[float]:
        """Of every search what `SearchRun.eigenvalue` gives: products of all their Hessians at once, until the last has enough."""
        ops, settings = self.alphas["ops"], self.first.settings
        places = [
            [spread_places(run.tensors, run.validation_bars, settings.length, settings.batch)] for run in self.runs
        ]
        mix = [part.to(self.device) for part in self.mixes()]
        loss = self.losses(mix, self.batches(places)[0]).sum()
        (slope,) = torch.autograd.grad(loss, ops, create_graph=True)
        found = [0.0] * len(self.runs)
        if not slope.requires_grad:
            return found
        going = {k: run.curvature.course(slope[k].numel()) for k, run in enumerate(self.runs)}
        asked = {k: next(course) for k, course in going.items()}
        while going:
            direction = torch.zeros_like(slope).flatten(1)
            for k, along in asked.items():
                direction[k] = along
            (product,) = torch.autograd.grad((slope * direction.view_as(slope)).sum(), ops, retain_graph=True)
            for k in list(going):
                try:
                    asked[k] = going[k].send(product[k].flatten())
                except StopIteration as end:
                    found[k] = float(end.value)
                    del going[k], asked[k]
        return found


class _Forces(Forces):
    """Of every search at once: logits and gradients have a leading axis of searches, sizes are [search]."""

    def _mean(self, name: str, values: Tensor) -> Any:
        rows = values.flatten(1)
        return rows.sum(1).double().numpy() / max(1, self.movable.get(name, rows.shape[1]))

    def _factor(self, size: Any, like: Tensor) -> Tensor:
        return _over(torch.from_numpy(size).to(like), like)

    def each(self, searches: int) -> list[dict[str, float] | None]:
        """Of every search what `told` gives."""
        found = self.told()
        if found is None:
            return [None] * searches
        return [{name: float(mean[k]) for name, mean in found.items()} for k in range(searches)]


class _Replayed:
    """`function` of tensors as a CUDA graph: captured at the first call with inputs of a shape, replayed at all others.

    What it reads besides its inputs must stay where it is in memory; what it returns is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.held: dict[tuple[torch.Size, ...], tuple[Any, list[Tensor], tuple[Tensor, ...]]] = {}

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        key = tuple(part.shape for part in given)
        if key not in self.held:
            still = [part.clone() for part in given]
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # libraries choose their algorithms before a graph is captured
                for _ in range(3):
                    self.function(*still)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = self.function(*still)
            self.held[key] = graph, still, found
        graph, still, found = self.held[key]
        for mine, part in zip(still, given, strict=True):
            mine.copy_(part)
        graph.replay()
        return found


def _same(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    return function


def _stacked(named: Sequence[dict[str, Any]]) -> dict[str, nn.Parameter]:
    """name -> [search, ...]; the parameters that are given become rows of it."""
    found = {name: nn.Parameter(torch.stack([each[name].detach() for each in named])) for name in named[0]}
    for place, each in enumerate(named):
        for name, parameter in each.items():
            parameter.data = found[name].data[place]
    return found


def _over(values: Tensor, like: Tensor) -> Tensor:
    """[search] as [search, 1, ...], to be multiplied with `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))
