"""One supernet on its way through a search: its steps, its optimisers, what is measured on it, what a variant hooks in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from data.panel import InputError
from nas.network import lean_torch
from nas.network.calibration import calibrate
from nas.network.cell import Cell
from nas.network.links import Candidates, volatility_column
from nas.network.lookback import LookbackNetwork
from nas.network.losses import LOSSES
from nas.network.model import last_of
from nas.network.stretches import Places, Tensors, places_over, spread, stack_stretches
from nas.network.training import evaluate_over, loss_by_block
from nas.search.alignment import LENGTH, directions
from nas.search.architect import StandIn, first_order_gradient, second_order_gradient
from nas.search.diagnostics import DominantEigenvalue, entropy, leading_ops, norm
from nas.search.forces import Forces
from nas.search.matching import Matching
from nas.search.parts import Stage
from nas.search.perturbation import attacked
from nas.search.relaxation import sigmoid
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture, Mix, supernet_of
from nas.search.variants import Variant
from nas.space.genotype import Genotype
from nas.space.ops import OPS
from nas.space.search_space import SearchSpace

Batch = tuple[Tensor, Tensor, Tensor]
_LEARNERS = ("network", "architecture", "weights", "alpha", "schedule")
_COURSE = ("eigenvalues", "snapshots", "stopped", "feature_steps", "note", "progress")


def cells_of(space: SearchSpace, stage: Stage) -> int | None:
    """Cells of the supernet in a stage; None for those of the search."""
    return None if stage.depth is None else max(1, -int(-stage.depth * space.deepest // 1))


def descent_of(
    weights: Sequence[Tensor], settings: SearchSettings, variant: Variant
) -> tuple[lean_torch.AdamW, torch.optim.lr_scheduler.LRScheduler]:
    """How a network's weights move, and the schedule of their rate, a step per epoch."""
    decay = settings.weight_decay * variant.weight_decay
    moved = lean_torch.AdamW(weights, lr=settings.learning_rate, weight_decay=decay, fused=True)
    epochs, least = max(1, settings.epochs // len(variant.stages)), settings.learning_rate * 0.05
    return moved, torch.optim.lr_scheduler.CosineAnnealingLR(moved, epochs, eta_min=least)


def alpha_descent_of(ops: Tensor, strength: Tensor, features: Tensor, settings: SearchSettings) -> lean_torch.Adam:
    """How logits move."""
    groups: list[dict[str, Any]] = [
        {"params": [ops, strength]},
        {"params": [features], "lr": settings.feature_learning_rate},
    ]
    return lean_torch.Adam(groups, lr=settings.alpha_learning_rate, betas=(0.5, 0.999), fused=True)


class SearchRun:
    """One supernet on its way: weights, alphas, their optimisers and what the variant hooks in."""

    def __init__(
        self,
        space: SearchSpace,
        tensors: Tensors,
        splits: tuple[tuple[slice, ...], tuple[slice, ...]],
        settings: SearchSettings,
        seed: int,
        variant: Variant,
        stage: Stage,
        kept: Sequence[Sequence[bool]] | None,
        leaders: Candidates | None = None,
    ) -> None:
        self.space, self.settings, self.variant, self.stage = space, settings, variant, stage
        self.train_bars, self.validation_bars = splits
        self.seed = seed
        self.generator = Generator().manual_seed(seed)
        self.draw = Generator().manual_seed(seed + 7)  # the variant's own noise: batches stay those of plain DARTS
        self.architecture = Architecture(
            space,
            generator=self.generator,
            relaxation=variant.relaxation,
            rule=variant.rule,
            kept=kept,
            normalised=variant.normalised,
            auxiliary=variant.auxiliary > 0,
            random_init=settings.random_init,
        )
        self.architecture.op_costs = settings.op_costs
        cells = cells_of(space, stage)
        self.network = supernet_of(
            space, seed, kept=kept, partial=variant.partial, auxiliary=variant.auxiliary > 0, cells=cells
        )
        self.leaders = leaders
        if leaders is not None and not isinstance(self.network, LookbackNetwork):
            self.network.follow(
                dict.fromkeys(range(space.cell_inputs + space.nodes), leaders), volatility_column(space)
            )
        # the architecture stays on the CPU, with the generators that draw from it: only its mix travels
        self.device = torch.device(settings.device)
        across = [name for name in space.ops if name in OPS and OPS[name].across]
        if across and self.device.type != "cpu":
            raise InputError(f"ops across assets ({', '.join(across)}) run on the CPU only; leave --device out")
        self.network.to(self.device)
        self.tensors = tensors.to(self.device)
        self._calibrate()
        self.stand_in = StandIn(self.network)
        self.parameters = dict(self.network.named_parameters())
        self.learned = list(self.network.parameters())
        self.alphas = list(self.architecture.parameters())
        self.context = space.receptive_field
        self.loss_function = LOSSES[settings.loss]
        self._optimise()
        self._price()
        self.depth = cells or space.search_cells or space.cells
        self.mixed_cells = [module for module in self.network.modules() if isinstance(module, Cell)]
        self._watch()

    def _watch(self) -> None:
        """What a run knows of its own course before it begins."""
        stop = self.variant.gradient_stop
        self.matching = None if stop is None else Matching(self.network, stop)
        self.curvature = DominantEigenvalue()
        self.eigenvalues: list[tuple[int, float]] = []
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        self.stopped = False
        self.feature_steps = 0
        self.note = ""
        self.progress = 0.0

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Ops as loud as each other on the training bars (`nas.network.calibration`)."""
        mix = self.placed(self.architecture.mix())
        calibrate(self.network, self.tensors, self.train_bars, *mix, context=self.space.receptive_field)

    def _optimise(self) -> None:
        """Optimisers of the weights and of the alphas."""
        settings, variant, architecture = self.settings, self.variant, self.architecture
        self.weights, self.schedule = descent_of(self.learned, settings, variant)
        masks = {"ops": self.architecture.op_choices.mask, "features": self.architecture.feature_choices.mask}
        self.forces = Forces(
            settings.alpha_weight_decay if variant.alpha_decay is None else variant.alpha_decay,
            {name: int(mask.sum()) for name, mask in masks.items()},
        )
        self.alpha = alpha_descent_of(architecture.ops, architecture.strength, architecture.features, settings)

    def _price(self) -> None:
        """What inputs cost the alphas, by the bars there are to learn from."""
        parts = self.train_bars, self.validation_bars
        bars, others = (max(2.0, sum(float(self.tensors.weight[:, :, p].sum()) for p in each)) for each in parts)
        self.feature_price = self.settings.feature_cost / math.sqrt(bars * others)

    def state(self) -> dict[str, Any]:
        """Everything of it that moves, for `nas.search.checkpoint`."""
        return {
            **{name: getattr(self, name).get_state() for name in ("generator", "draw")},
            **{name: getattr(self, name).state_dict() for name in _LEARNERS},
            **{name: getattr(self, name) for name in _COURSE},
            "temperature": self.architecture.temperature,
            "vector": self.curvature.vector,
            "forces": self.forces.state(),
            "matching": None if self.matching is None else self.matching.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, which a run of the same search left."""
        for name in ("generator", "draw"):
            getattr(self, name).set_state(state[name])
        for name in _LEARNERS:
            getattr(self, name).load_state_dict(state[name])
        for name in _COURSE:
            setattr(self, name, state[name])
        self.architecture.temperature, self.curvature.vector = state["temperature"], state["vector"]
        self.forces.restore(state["forces"])
        if self.matching is not None:
            self.matching.go_on(state["matching"])

    # -- one epoch ------------------------------------------------------------------------------------------------------

    def epoch(self, number: int, within: int, epochs: int) -> dict[str, Any]:
        """Train for one epoch and describe it. within, epochs: position in this stage and its length."""
        variant, architecture = self.variant, self.architecture
        learns = self.begin(within, epochs)
        self.drop_skips(self.stage.skip_dropout * (1.0 - self.progress))
        losses, norms = [], []
        validation, training = ([self.read(each) for each in drawn] for drawn in self.drawn())
        for step, batch in enumerate(training):
            if learns:
                norms.append(self.alpha_step(validation[step % len(validation)], batch))
            losses.append(self.weight_step(batch))
        self.schedule.step()
        self.drop_skips(0.0)
        if variant.eigenvalue_stop is not None or variant.skip_stop is not None:
            self.snapshots[number] = {k: v.clone() for k, v in architecture.state_dict().items()}
        return self.describe(number, within, epochs, losses, norms)

    def begin(self, within: int, epochs: int) -> bool:
        """Set what an epoch holds fixed; whether alpha moves in it."""
        settings, variant = self.settings, self.variant
        self.progress = within / max(1, epochs - 1)
        self.architecture.temperature = (variant.temperature or settings.temperature).at(self.progress)
        self.architecture.auxiliary_weight = variant.auxiliary * (1.0 - self.progress)
        warmup = min(epochs // 2, max(settings.alpha_warmup_epochs, round(variant.warmup * epochs)))
        return variant.order > 0 and within >= warmup

    def drop_skips(self, rate: float) -> None:
        """In the steps to come, of weights and of alpha alike, leave out this share of the elements that skips pass on; 0: none."""
        for cell in self.mixed_cells:
            cell.skip_dropout = (rate, self.draw) if rate > 0.0 else None

    def drawn(self) -> tuple[list[tuple[Places, int]], list[tuple[Places, int]]]:
        """Places of an epoch's batches: of the validation stretches, and of the share of the training stretches that it looks at."""
        validation, training = self.places(self.validation_bars), self.places(self.train_bars)
        # they come in random order, so that the first ones are a sample
        return validation, training[: max(1, round(self.settings.fraction * len(training)))]

    def places(self, bars: Sequence[slice]) -> list[tuple[Places, int]]:
        """Where one epoch of random batches of the stretches `bars` begins."""
        settings = self.settings
        return places_over(self.tensors, bars, length=settings.length, batch=settings.batch, generator=self.generator)

    def batches(self, bars: Sequence[slice]) -> list[Batch]:
        """One epoch of random batches of the stretches `bars`."""
        return [self.read(each) for each in self.places(bars)]

    def read(self, drawn: tuple[Places, int]) -> Batch:
        """The batch at these places: (x, y, weight) as of `nas.network.stretches.batches`."""
        return stack_stretches(self.tensors, *drawn, self.context)

    def loss(self, mix: Mix, batch: Batch, weights: dict[str, Tensor] | None = None) -> Tensor:
        """Loss of the supernet with this mix on one batch, scalar. weights: in place of its own. InputError once it is not finite."""
        x, y, w = batch
        mix = self.placed(mix)
        bars = x.shape[-1] - self.context
        if weights is None:
            out = last_of(self.network, bars, x, *mix)
        else:
            out = self.stand_in(weights, x, *mix)[:, :, -bars:]
        loss = self.loss_function(out, y, w)
        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"the search loss became {value} ({self.variant.name}): the weights exploded; "
                f"lower learning_rate ({self.settings.learning_rate}) or gradient_clip ({self.settings.gradient_clip})"
            )
        return loss

    def placed(self, mix: Mix) -> Mix:
        """`mix` where the network is."""
        return mix if self.device.type == "cpu" else Mix(*(None if m is None else m.to(self.device) for m in mix))  # type: ignore[arg-type]

    def alpha_step(self, validation: Batch, train: Batch) -> float:
        """Returns the norm of the gradient of the validation loss by the alphas that still move."""
        variant, architecture, settings = self.variant, self.architecture, self.settings
        self.feature_steps += 1
        choosing = self.feature_steps <= settings.feature_steps
        named = {k: p for k, p in architecture.named_parameters() if choosing or p is not architecture.features}
        alphas = list(named.values())
        noisy = variant.alpha_relaxation(self.progress) if variant.alpha_relaxation else None
        drawn = self.draw.get_state() if noisy and variant.order == 2 else None

        def mix() -> Mix:
            if drawn is not None:  # the differences of the second order are between mixes of one draw
                self.draw.set_state(drawn)
            return self.architecture.mix(self.draw if noisy else None, noisy)

        if variant.order == 2:
            gradients = second_order_gradient(
                lambda weights: self.loss(mix(), train, dict(weights)),
                lambda weights: self.loss(mix(), validation, dict(weights)),
                self.parameters,
                alphas,
                self.weights,
                mode=variant.mode,
                clip=settings.gradient_clip,
            )
        else:
            gradients = first_order_gradient(self.loss(mix(), validation), alphas)
        if self.matching is not None:
            seen = first_order_gradient(self.loss(mix(), validation), self.learned)
            self.matching.compare(dict(zip(self.parameters, seen, strict=True)))
        size = norm(gradients)

        def pushed(term: Tensor) -> dict[str, Tensor]:
            return dict(zip(named, first_order_gradient(term, alphas), strict=True))

        forces = self.forces.total(
            named,
            dict(zip(named, gradients, strict=True)),
            pushed(architecture.column_weights().sum() * self.feature_price)
            if choosing and self.feature_price > 0.0
            else None,
            pushed(variant.regulariser(architecture, self.progress)) if variant.regulariser is not None else None,
        )
        for parameter in self.alphas:
            parameter.grad = None
        for name, parameter in named.items():
            parameter.grad = forces[name]
        self.alpha.step()
        return size

    def weight_step(self, batch: Batch) -> float:
        """One step of the weights down the training loss, the architecture held. Returns the loss before the step."""
        variant = self.variant
        noisy = variant.weight_relaxation(self.progress) if variant.weight_relaxation else None
        draw = self.draw if noisy else None
        with torch.no_grad():
            ops, features = self.architecture.op_weights(draw, noisy), self.architecture.feature_weights(draw, noisy)
        if variant.attack is not None:
            ops = self._against(ops, features, batch, variant.attack(self.progress))
        with torch.no_grad():
            fixed = self.architecture.assemble(ops, features)
        if variant.alignment > 0.0 and self.depth > 1:
            return self._aligned_step(fixed, batch, variant.alignment * self.progress)
        return self.descend(self.loss(fixed, batch))

    def descend(self, loss: Tensor, gradients: Sequence[Tensor | None] | None = None) -> float:
        """One step of the weights down `loss`, or along `gradients`; ops that have stopped learning stay. Returns the loss before it."""
        limit = self.settings.gradient_clip
        if gradients is None and self.matching is None:
            return lean_torch.descend(self.weights, self.learned, loss, limit)
        if gradients is None:
            gradients = torch.autograd.grad(loss, self.learned, allow_unused=True)
        held = None if self.matching is None else self.matching.values()
        lean_torch.step_down(self.weights, self.learned, gradients, limit)
        if self.matching is not None and held is not None:
            self.matching.restore(held)
            found = zip(self.parameters.items(), gradients, strict=True)
            self.matching.remember({n: torch.zeros_like(p) if g is None else g for (n, p), g in found})
        return loss.item()

    def _against(self, ops: Tensor, features: Tensor, batch: Batch, spread: float) -> Tensor:
        """The ops' weights within `spread` that the network serves worst on this batch (`nas.search.perturbation`)."""
        architecture = self.architecture
        noise = ((2.0 * torch.rand(ops.shape, generator=self.draw) - 1.0) * spread).to(ops.dtype)
        return attacked(
            lambda moved: self.loss(architecture.assemble(moved, features), batch),
            ops,
            architecture.op_choices.mask,
            spread,
            noise,
            compete=architecture.relaxation is not sigmoid,
        )

    def _aligned_step(self, mix: Mix, batch: Batch, weight: float) -> float:
        """One step of the weights that also aligns the cells' gradients by alpha (`nas.search.alignment`). Returns the loss before it."""
        rows = mix.ops.expand(self.depth, -1).clone().requires_grad_()
        loss = self.loss(mix._replace(ops=rows), batch)
        by_rows, *gradients = first_order_gradient(loss, [rows, *self.learned])
        of_alpha = self.architecture.entries % self.architecture.width < len(self.space.ops)  # not of the extra skips
        by_rows = by_rows * of_alpha
        if weight > 0.0 and bool(by_rows.any(-1).all()):
            along = torch.stack(directions(list(by_rows)))
            length = LENGTH / float(torch.linalg.vector_norm(along))
            fixed = rows.detach()
            fore, back = (
                first_order_gradient(self.loss(mix._replace(ops=fixed + sign * length * along), batch), self.learned)
                for sign in (-1.0, 1.0)
            )
            for g, f, b in zip(gradients, fore, back, strict=True):
                g += weight * (f - b) / (2.0 * length)
        return self.descend(loss, gradients)

    # -- what is told about it ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validation(self, mix: Mix) -> tuple[float, float]:
        """(loss, correlation) of the supernet with this mix over the validation bars, blocks weighed by their length."""
        mix = self.placed(mix)
        parts = self.validation_bars
        return evaluate_over(lambda x: self.network(x, *mix), self.tensors, parts, self.context, self.loss_function)

    def losses(self, mix: Mix) -> Tensor:
        """Loss of the supernet with this mix on every block of the validation bars: [block]."""
        mix = self.placed(mix)
        parts = self.validation_bars
        return loss_by_block(lambda x: self.network(x, *mix), self.tensors, parts, self.context, self.loss_function)

    def eigenvalue(self) -> float:
        """Of the Hessian of the validation loss by the op logits, on one fixed batch spread over the validation bars."""
        return self.curvature(lambda: self.loss(self.architecture.mix(), self.fixed_batch), [self.architecture.ops])

    @cached_property
    def fixed_batch(self) -> Batch:
        """The batch that eigenvalues are measured on: stretches evenly spread over the validation bars."""
        return spread(self.tensors, self.validation_bars, self.settings.length, self.context, self.settings.batch)

    def describe(
        self, number: int, within: int, epochs: int, losses: list[float], norms: list[float]
    ) -> dict[str, Any]:
        """The row of the history for one epoch (docs/variants.md lists its fields). losses, norms: of the epoch's steps."""
        variant, architecture = self.variant, self.architecture
        with torch.no_grad():
            mix = architecture.mix()
        told = self.validation(mix)
        genotype = architecture.genotype()
        due = self.due(within, epochs)
        eigenvalue: float | None = None
        stop = variant.eigenvalue_stop.scaled(epochs) if variant.eigenvalue_stop is not None else None
        watched = stop is not None and (within % max(1, int(stop.every)) == 0)
        if variant.order > 0 and (watched or due):
            eigenvalue = self.eigenvalue()
            self.eigenvalues.append((number, eigenvalue))
        chosen = self.validation(architecture.chosen_mix(genotype))[0] if due else None
        self.judge(number, epochs, genotype)
        return self.row(number, losses, norms, genotype, told, chosen, eigenvalue, self.forces.told())

    def due(self, within: int, epochs: int) -> bool:
        """Whether eigenvalue and gap are measured after this epoch of a stage."""
        every = self.settings.diagnostics_every
        return every > 0 and (within % every == every - 1 or within == epochs - 1)

    def row(
        self,
        number: int,
        losses: list[float],
        norms: list[float],
        genotype: Genotype,
        told: tuple[float, float],
        chosen: float | None,
        eigenvalue: float | None,
        forces: dict[str, float] | None,
    ) -> dict[str, Any]:
        """One epoch in the history, from what was measured. told: (loss, correlation) of the mix on validation; chosen: loss of the
        genotype alone."""
        architecture = self.architecture
        with torch.no_grad():
            ops, features = architecture.op_weights(), architecture.feature_weights()
        return {
            "epoch": number,
            "train_loss": sum(losses) / len(losses),
            "validation_loss": told[0],
            "validation_correlation": told[1],
            "entropy": entropy(ops),
            "feature_entropy": entropy(features),
            "temperature": architecture.temperature,
            "eigenvalue": eigenvalue,
            "gap": None if chosen is None else chosen - told[0],
            "gradient_norm": sum(norms) / len(norms) if norms else None,
            "forces": forces,
            "op_histogram": leading_ops(ops, self.space.ops),
            "op_weights": [[round(v, 5) for v in row] for row in ops.tolist()],
            "architecture": genotype.key(),
        }

    def judge(self, number: int, epochs: int, genotype: Genotype) -> None:
        """Stop here, and go back where the variant says so."""
        variant, back = self.variant, None
        if variant.eigenvalue_stop is not None and len(self.eigenvalues) > 1:
            when, values = zip(*self.eigenvalues, strict=True)
            back = variant.eigenvalue_stop.scaled(epochs).roll_back_to(when, values)
            why = "its dominant eigenvalue grew"
        if variant.skip_stop is not None and genotype.skips >= variant.skip_stop and number - 1 in self.snapshots:
            back, why = number - 1, f"the cell held {genotype.skips} skips"
        if back is not None:
            self.architecture.load_state_dict(self.snapshots[back])
            self.stopped, self.note = True, f"stopped after epoch {number}: {why}; back to epoch {back}"
