"""The one search loop: alternate alpha steps on validation stretches with weight steps on training stretches."""

from __future__ import annotations

import html
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor, nn

from data.panel import InputError
from nas import lean_torch
from nas.architect import StandIn, first_order_gradient, second_order_gradient
from nas.diagnostics import PowerIteration, entropy, leading_ops, norm
from nas.drawing import draw_curves, draw_genotype
from nas.genotype import Genotype
from nas.losses import LOSSES
from nas.ops import SKIPS, get_op
from nas.relaxation import Temperature
from nas.space import SearchSpace
from nas.stretches import Tensors, alternating, batches, stack_stretches
from nas.supernet import Architecture, Mix, supernet_of
from nas.training import evaluate
from nas.variants import Stage, Variant, get_variant

Batch = tuple[Tensor, Tensor, Tensor]
Weights = tuple[tuple[float, ...], ...]  # relaxed weights, row by row
FEWEST_BARS = 16  # of a training or validation stretch


@dataclass(frozen=True)
class SearchSettings:
    """How one search runs. lengths in bars. Alpha moves by Adam as in DARTS; its betas and decay are the original's.

    blocks: 0 for one training and one validation stretch, n to cut both together into n pairs of alternating, purged blocks.
    fraction: share of the training stretches that an epoch of the search looks at, drawn anew every epoch.
    eigenvalue_every: epochs between measurements of the dominant eigenvalue (0: only where the variant stops by it).
    parameter_cost: times log(n) / 2n per parameter is what an op's parameters add to the alpha loss at the end of the search, growing
    from 0, n the training bars: 1 is the Bayesian information criterion, which lets the smaller of two ops win that
    forecast alike; 0 leaves parameters free. It grows, because a learned op must first have the time to show what it can do.
    feature_learning_rate: of the logits of pipelines, by Adam without weight decay: their gradients are as small as the decay of the
    originals, which would hold every choice at its start.
    feature_cost: an input has to lower the validation loss by this many 1 / sqrt(training bars x validation bars), or `none` wins:
    that is the spread of what a column of noise, fitted on the one, seems to gain on the other; the best of four columns gains more.
    feature_steps: alpha steps during which pipelines compete; then their weights stand and ops go on. Longer, the network's own weights
    make up for a smaller mix, the loss no longer tells inputs apart and the price alone is left: good inputs go as well.
    """

    epochs: int = 20
    learning_rate: float = 5e-3
    weight_decay: float = 3e-3
    alpha_learning_rate: float = 2e-2
    alpha_weight_decay: float = 1e-3
    alpha_warmup_epochs: int = 3
    length: int = 256
    batch: int = 4
    temperature: Temperature = field(default_factory=Temperature)
    gradient_clip: float = 1.0
    loss: str = "huber"
    blocks: int = 0
    eigenvalue_every: int = 1
    random_init: bool = False
    fraction: float = 1.0
    parameter_cost: float = 0.0
    feature_learning_rate: float = 0.1
    feature_cost: float = 1.5
    feature_steps: int = 70

    def __post_init__(self) -> None:
        for name in ("epochs", "length", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"search {name} must be at least 1, not {getattr(self, name)}")
        if not 0.0 < self.fraction <= 1.0:
            raise InputError(f"the search fraction is a share of the training stretches in (0, 1], not {self.fraction}")
        if self.loss not in LOSSES:
            raise InputError(f"no loss {self.loss!r}; there are {', '.join(LOSSES)}")


@dataclass(frozen=True)
class SearchResult:
    """What a search found and how it got there.

    history: one dict per epoch (docs/variants.md lists its fields). op_weights [edges][ops], feature_weights
    [inputs][pipelines + none] as they were when the genotype was read off. note: why the search ended where it did.
    """

    genotype: Genotype
    history: tuple[dict[str, Any], ...]
    op_weights: tuple[tuple[float, ...], ...]
    feature_weights: tuple[tuple[float, ...], ...]
    space: SearchSpace
    variant: str = "darts"
    note: str = ""

    @property
    def text(self) -> str:
        return str(self.genotype)

    @property
    def svg(self) -> str:
        """The network as a picture."""
        return draw_genotype(self.genotype.to_dict())

    def to_json(self) -> str:
        """Genotype, weights and history; `Genotype.from_dict` reads its `genotype`."""
        content = {
            "variant": self.variant,
            "note": self.note,
            "genotype": self.genotype.to_dict(),
            "edges": [list(edge) for edge in self.space.edges],
            "ops": list(self.space.ops),
            "op_weights": [list(row) for row in self.op_weights],
            "features": {name: [*pipelines, "none"] for name, pipelines in self.space.features},
            "feature_weights": [list(row) for row in self.feature_weights],
            "history": list(self.history),
        }
        return json.dumps(content, indent=1)

    def _repr_html_(self) -> str:
        """What a notebook shows: the network, its text, the curves."""
        curves = draw_curves(self.history) if self.history else ""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<div>{self.svg}<p><code>{html.escape(self.text)}</code></p>{note}{curves}</div>"


def search(
    space: SearchSpace,
    tensors: Tensors,
    train_bars: slice,
    validation_bars: slice,
    settings: SearchSettings,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
    *,
    variant: str = "darts",
    on_record: Callable[[dict[str, Any]], None] = lambda _: None,
    initial: tuple[Weights, Weights] | None = None,
) -> SearchResult:
    """Bilevel search (Liu et al. 2019) on one window. on_record receives every epoch's row of the history as soon as it is known.
    initial: (op_weights, feature_weights) of an earlier search to start from (warm start); random controls have no use for it.

    tensors.x holds every candidate pipeline as a column, in the order of `space.features`. InputError for shapes that cannot be
    searched, inputs with NaN and losses that explode.
    """
    chosen = get_variant(variant)
    check(space, tensors, train_bars, validation_bars, chosen)
    splits = alternating(train_bars, validation_bars, settings.blocks, space.receptive_field + max(space.horizons) + 1)
    if chosen.selection == "random":
        from nas.selection import best_of_random

        return best_of_random(space, tensors, splits, settings, seed, chosen, on_epoch)
    stages = chosen.stages
    history: list[dict[str, Any]] = []
    kept: list[list[bool]] | None = None
    if chosen.without_zero and any(name != "zero" for name in space.ops):
        kept = [[name != "zero" for name in space.ops] for _ in space.edges]
    stage_ends = [round(settings.epochs * (k + 1) / len(stages)) for k in range(len(stages))]
    for k, stage in enumerate(stages):
        first = stage_ends[k - 1] if k else 0
        if first == stage_ends[k]:
            continue  # fewer epochs than stages
        run = SearchRun(space, tensors, splits, settings, seed + 1_000_003 * k, chosen, stage, kept)
        if initial is not None and k == 0:
            run.architecture.start_from(*initial)
        for epoch in range(first, stage_ends[k]):
            row = run.epoch(epoch, epoch - first, stage_ends[k] - first)
            history.append(row)
            on_epoch(epoch)
            on_record(row)
            if run.stopped:
                break
        if stage_ends[k] < settings.epochs:
            kept = _fewer(run.architecture, stages[k + 1].ops)
    return run.result(history)


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
    ) -> None:
        self.space, self.tensors, self.settings, self.variant, self.stage = space, tensors, settings, variant, stage
        self.train_bars, self.validation_bars = splits
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
        cells = None if stage.depth is None else max(1, -int(-stage.depth * space.cells // 1))
        self.network = supernet_of(
            space, seed, kept=kept, partial=variant.partial, auxiliary=variant.auxiliary > 0, cells=cells
        )
        self.stand_in = StandIn(self.network)
        self.parameters = dict(self.network.named_parameters())
        self.alphas = list(self.architecture.parameters())
        self.context = space.receptive_field
        self.loss_function = LOSSES[settings.loss]
        self.weights = lean_torch.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )
        epochs = max(1, settings.epochs // len(variant.stages))
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.weights, epochs, eta_min=settings.learning_rate * 0.05
        )
        decay = settings.alpha_weight_decay if variant.alpha_decay is None else variant.alpha_decay
        self.alpha = lean_torch.Adam(
            [
                {"params": [self.architecture.ops, self.architecture.strength], "weight_decay": decay},
                {"params": [self.architecture.features], "lr": settings.feature_learning_rate},
            ],
            lr=settings.alpha_learning_rate,
            betas=(0.5, 0.999),
        )
        counts = torch.tensor([float(get_op(n).parameters(self.network.stem.shape[1])) for n in space.ops])
        bars = max(2.0, sum(float(tensors.weight[:, :, part].sum()) for part in splits[0]))
        self.prices = counts * (math.log(bars) / (2.0 * bars))
        others = max(2.0, sum(float(tensors.weight[:, :, part].sum()) for part in splits[1]))
        self.feature_price = settings.feature_cost / math.sqrt(bars * others)
        self.power = PowerIteration(8 if variant.eigenvalue_stop else 4)
        self.eigenvalues: list[tuple[int, float]] = []
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        self.stopped = False
        self.feature_steps = 0
        self.note = ""
        self.progress = 0.0
        self.skip_dropout = stage.skip_dropout

    # -- one epoch ------------------------------------------------------------------------------------------------------

    def epoch(self, number: int, within: int, epochs: int) -> dict[str, Any]:
        """Train for one epoch and describe it. within, epochs: position in this stage and its length."""
        settings, variant, architecture = self.settings, self.variant, self.architecture
        self.progress = within / max(1, epochs - 1)
        schedule = variant.temperature or settings.temperature
        architecture.temperature = schedule.at(self.progress)
        architecture.auxiliary_weight = variant.auxiliary * (1.0 - self.progress)
        self.skip_dropout = self.stage.skip_dropout * (1.0 - self.progress)
        warmup = min(epochs // 2, max(settings.alpha_warmup_epochs, round(variant.warmup * epochs)))
        learns = variant.order > 0 and within >= warmup
        validation = self.batches(self.validation_bars)
        losses, norms = [], []
        training = self.batches(self.train_bars)
        # they come in random order, so that the first ones are a sample
        for step, batch in enumerate(training[: max(1, round(settings.fraction * len(training)))]):
            if learns:
                norms.append(self.alpha_step(validation[step % len(validation)], batch))
            losses.append(self.weight_step(batch))
        self.schedule.step()
        self.snapshots[number] = {k: v.clone() for k, v in architecture.state_dict().items()}
        return self.describe(number, within, epochs, losses, norms)

    def batches(self, bars: Sequence[slice]) -> list[Batch]:
        found: list[Batch] = []
        for part in bars:
            found += batches(
                self.tensors,
                part,
                length=self.settings.length,
                batch=self.settings.batch,
                context=self.context,
                generator=self.generator,
            )
        if len(bars) > 1:  # each part is in random order already
            found = [found[k] for k in torch.randperm(len(found), generator=self.generator).tolist()]
        return found

    def loss(self, mix: Mix, batch: Batch, weights: dict[str, Tensor] | None = None) -> Tensor:
        x, y, w = batch
        out = self.network(x, *mix) if weights is None else self.stand_in(weights, x, *mix)
        loss = self.loss_function(out[:, :, self.context :], y, w)
        if not torch.isfinite(loss):
            raise InputError(
                f"the search loss became {float(loss.detach())} ({self.variant.name}): the weights exploded; "
                f"lower learning_rate ({self.settings.learning_rate}) or gradient_clip ({self.settings.gradient_clip})"
            )
        return loss

    def alpha_step(self, validation: Batch, train: Batch) -> float:
        """Returns the norm of the alpha gradient of the validation loss."""
        variant = self.variant
        noisy = variant.alpha_relaxation(self.progress) if variant.alpha_relaxation else None

        def mix() -> Mix:
            return self.architecture.mix(self.draw if noisy else None, noisy)

        if variant.order == 2:
            gradients = second_order_gradient(
                lambda weights: self.loss(mix(), train, dict(weights)),
                lambda weights: self.loss(mix(), validation, dict(weights)),
                self.parameters,
                self.alphas,
                self.weights,
                mode=variant.mode,
                clip=self.settings.gradient_clip,
            )
        else:
            gradients = first_order_gradient(self.loss(mix(), validation), self.alphas)
        size = norm(gradients)
        if self.settings.parameter_cost > 0.0:
            price = (self.architecture.op_weights() * self.prices).sum() * self.settings.parameter_cost * self.progress
            priced = first_order_gradient(price, self.alphas)
            gradients = [g + e for g, e in zip(gradients, priced, strict=True)]
        if self.feature_price > 0.0:
            kept = self.architecture.feature_weights()[self.architecture.is_pipeline].sum()
            priced = first_order_gradient(kept * self.feature_price, self.alphas)
            gradients = [g + e for g, e in zip(gradients, priced, strict=True)]
        if variant.regulariser is not None:
            extra = first_order_gradient(variant.regulariser(self.architecture, self.progress), self.alphas)
            gradients = [g + e for g, e in zip(gradients, extra, strict=True)]
        for parameter, gradient in zip(self.alphas, gradients, strict=True):
            parameter.grad = gradient
        self.feature_steps += 1
        if self.feature_steps > self.settings.feature_steps:
            self.architecture.features.grad = None
        self.alpha.step()
        return size

    def weight_step(self, batch: Batch) -> float:
        variant = self.variant
        noisy = variant.weight_relaxation(self.progress) if variant.weight_relaxation else None
        with torch.no_grad():
            draws = noisy is not None or self.skip_dropout > 0.0
            fixed = self.architecture.mix(self.draw if draws else None, noisy, self.skip_dropout)
        loss = self.loss(fixed, batch)
        self.weights.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip, foreach=True)
        self.weights.step()
        return float(loss.detach())

    # -- what is told about it ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validation(self, mix: Mix) -> tuple[float, float]:
        """(loss, correlation) of the supernet with this mix over the validation bars, blocks weighed by their length."""
        found = [
            (bars.stop - bars.start, evaluate(lambda x: self.network(x, *mix), self.tensors, bars, self.context, self.loss_function))
            for bars in self.validation_bars
        ]  # fmt: skip
        total = sum(n for n, _ in found)
        return sum(n * e[0] for n, e in found) / total, sum(n * e[1] for n, e in found) / total

    def eigenvalue(self) -> float:
        """Of the Hessian of the validation loss by the op logits, on one fixed batch spread over the validation bars."""
        bars, assets = self.validation_bars, self.tensors.x.shape[0]
        length = min(self.settings.length, *(b.stop - b.start for b in bars))
        places = []
        for k in range(self.settings.batch):
            part = bars[k % len(bars)]
            room = part.stop - part.start - length
            places.append((k % assets, part.start + (room * k) // max(1, self.settings.batch - 1)))
        batch = stack_stretches(self.tensors, places, length, self.context)
        return self.power(lambda: self.loss(self.architecture.mix(), batch), [self.architecture.ops])

    def describe(
        self, number: int, within: int, epochs: int, losses: list[float], norms: list[float]
    ) -> dict[str, Any]:
        variant, architecture, settings = self.variant, self.architecture, self.settings
        with torch.no_grad():
            mix = architecture.mix()
            ops, features = architecture.op_weights(), architecture.feature_weights()
        validation_loss, correlation = self.validation(mix)
        genotype = architecture.genotype()
        eigenvalue: float | None = None
        if variant.order > 0 and (
            variant.eigenvalue_stop or (settings.eigenvalue_every and within % settings.eigenvalue_every == 0)
        ):
            eigenvalue = self.eigenvalue()
            self.eigenvalues.append((number, eigenvalue))
        self.judge(number, epochs, genotype)
        return {
            "epoch": number,
            "train_loss": sum(losses) / len(losses),
            "validation_loss": validation_loss,
            "validation_correlation": correlation,
            "entropy": entropy(ops),
            "feature_entropy": entropy(features),
            "temperature": architecture.temperature,
            "eigenvalue": eigenvalue,
            "gap": self.validation(architecture.chosen_mix(genotype))[0] - validation_loss,
            "gradient_norm": sum(norms) / len(norms) if norms else None,
            "op_histogram": leading_ops(ops, self.space.ops),
            "op_weights": [[round(float(v), 5) for v in row] for row in ops],
            "architecture": genotype.key(),
        }

    def judge(self, number: int, epochs: int, genotype: Genotype) -> None:
        """Stop here, and go back where the variant says so."""
        variant, back = self.variant, None
        if variant.eigenvalue_stop is not None and len(self.eigenvalues) > 1:
            # the rule's 10 of 50 epochs, for any length
            rule = replace(
                variant.eigenvalue_stop, first_epoch=max(1, round(epochs * variant.eigenvalue_stop.first_epoch / 50))
            )
            when, values = zip(*self.eigenvalues, strict=True)
            back = rule.roll_back_to(when, values)
            why = "its dominant eigenvalue grew"
        if variant.skip_stop is not None and number > 0:
            skips = sum(c.op in SKIPS for node in genotype.nodes for c in node)
            if skips >= variant.skip_stop and number - 1 in self.snapshots:
                back, why = number - 1, f"the cell held {skips} skips"
        if back is not None:
            self.architecture.load_state_dict(self.snapshots[back])
            self.stopped, self.note = True, f"stopped after epoch {number}: {why}; back to epoch {back}"

    def result(self, history: list[dict[str, Any]]) -> SearchResult:
        architecture = self.architecture
        architecture.auxiliary_weight = 0.0
        if self.variant.selection == "weights":
            genotype = architecture.genotype()
        else:
            from nas.selection import select_by_removal, select_shared

            genotype = (select_by_removal if self.variant.selection == "removal" else select_shared)(self)
        with torch.no_grad():
            ops, features = architecture.op_weights(), architecture.feature_weights()
        return SearchResult(
            genotype,
            tuple(history),
            tuple(tuple(float(v) for v in row) for row in ops),
            tuple(tuple(float(v) for v in row) for row in features),
            self.space,
            self.variant.name,
            self.note,
        )


def _fewer(architecture: Architecture, share: float) -> list[list[bool]]:
    """Per edge the strongest `share` of all ops (at least one besides zero), as P-DARTS drops them between stages."""
    ops, count = architecture.space.ops, max(2, round(share * len(architecture.space.ops)))
    kept = []
    for weights in architecture.op_weights().detach():
        order = sorted(range(len(ops)), key=lambda k: -float(weights[k]))
        best = set(order[:count])
        if all(ops[k] == "zero" for k in best):
            best.add(next(k for k in order if ops[k] != "zero"))
        kept.append([k in best for k in range(len(ops))])
    return kept


def check(space: SearchSpace, tensors: Tensors, train: slice, validation: slice, variant: Variant) -> None:
    """InputError for what cannot be searched, naming what to change."""
    columns = sum(len(p) for _, p in space.features)
    if not space.features:
        raise InputError("the search space has no inputs; give it candidate pipelines with space.with_features(...)")
    if tensors.x.shape[1] != columns:
        raise InputError(f"the space has {columns} candidate pipelines, the inputs have {tensors.x.shape[1]} columns")
    if tensors.y.shape[1] != len(space.horizons):
        raise InputError(f"the space has {len(space.horizons)} horizons, the labels have {tensors.y.shape[1]}")
    channels = space.search_channels or space.channels
    if channels % variant.partial:
        raise InputError(
            f"variant {variant.name} sends 1/{variant.partial} of the channels through the ops, but {channels} channels are "
            f"no multiple of {variant.partial}; give channels that are"
        )
    for name, values in (("inputs", tensors.x), ("labels", tensors.y)):
        if not torch.isfinite(values).all():
            raise InputError(f"the {name} hold NaN or infinite values; fill them and give those bars the weight 0")
    for name, bars in (("training", train), ("validation", validation)):
        size = bars.stop - bars.start
        if size < FEWEST_BARS:
            raise InputError(
                f"the {name} stretch has {size} bar{'s' * (size != 1)}, a search needs at least {FEWEST_BARS}; make it longer"
            )
        if float(tensors.weight[:, :, bars].sum()) == 0.0:
            raise InputError(f"no bar of the {name} stretch has all inputs and a label; begin later or drop an input")


class _Callable(ModuleType):
    """`from nas import search; search(panel)`: the module itself is the notebook's door (see `nas.single.search_panel`)."""

    def __call__(self, *arguments: Any, **settings: Any) -> SearchResult:
        from nas.single import search_panel

        return search_panel(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    from nas.command import app

    sys.exit(app())
