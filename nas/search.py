"""The one search loop: alternate alpha steps on validation stretches with weight steps on training stretches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nas.genotype import Genotype
from nas.relaxation import Temperature
from nas.space import SearchSpace
from nas.stretches import Tensors, batches
from nas.supernet import Architecture, supernet_of
from nas.training import evaluate, huber


@dataclass(frozen=True)
class SearchSettings:
    """How one search runs. lengths in bars. Alpha moves by Adam as in DARTS; its betas and decay are the original's."""

    epochs: int = 20
    learning_rate: float = 5e-3
    weight_decay: float = 3e-3
    alpha_learning_rate: float = 1e-2
    alpha_weight_decay: float = 1e-3
    alpha_warmup_epochs: int = 3
    length: int = 512
    batch: int = 4
    temperature: Temperature = field(default_factory=Temperature)
    gradient_clip: float = 1.0


@dataclass(frozen=True)
class SearchResult:
    """What a search found and how it got there. history: one dict per epoch (losses, entropy, weights)."""

    genotype: Genotype
    history: tuple[dict[str, Any], ...]
    op_weights: tuple[tuple[float, ...], ...]
    feature_weights: tuple[tuple[float, ...], ...]
    space: SearchSpace

    @property
    def text(self) -> str:
        return str(self.genotype)


def entropy(weights: Tensor) -> float:
    """Mean entropy of the rows in nats. weights: [rows, choices], zero where padded."""
    return float(-(weights * weights.clamp_min(1e-12).log()).sum(-1).mean())


def search(
    space: SearchSpace,
    tensors: Tensors,
    train_bars: slice,
    validation_bars: slice,
    settings: SearchSettings,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> SearchResult:
    """First-order bilevel search (Liu et al. 2019, equation 7 with xi = 0) on one window.

    tensors.x holds every candidate pipeline as a column, in the order of `space.features`.
    """
    generator = torch.Generator().manual_seed(seed)
    architecture = Architecture(space, generator=generator)
    network = supernet_of(space, seed)
    context = space.receptive_field
    weights = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        weights, settings.epochs, eta_min=settings.learning_rate * 0.05
    )
    alpha = torch.optim.Adam(
        architecture.parameters(),
        lr=settings.alpha_learning_rate,
        betas=(0.5, 0.999),
        weight_decay=settings.alpha_weight_decay,
    )

    def loss_on(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        mix, columns = architecture.mixes()
        loss = huber(network(x, mix, columns)[:, :, context:], y, w)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"search loss became {float(loss.detach())}; lower learning_rate ({settings.learning_rate})"
            )
        return loss

    def epoch_batches(bars: slice) -> list[tuple[Tensor, Tensor, Tensor]]:
        return list(
            batches(tensors, bars, length=settings.length, batch=settings.batch, context=context, generator=generator)
        )

    history: list[dict[str, Any]] = []
    for epoch in range(settings.epochs):
        architecture.temperature = settings.temperature.at(epoch / max(1, settings.epochs - 1))
        validation = epoch_batches(validation_bars)
        total, steps = 0.0, 0
        for step, batch in enumerate(epoch_batches(train_bars)):
            if epoch >= settings.alpha_warmup_epochs:
                alpha.zero_grad(set_to_none=True)
                gradients = torch.autograd.grad(
                    loss_on(*validation[step % len(validation)]), list(architecture.parameters())
                )
                for parameter, gradient in zip(architecture.parameters(), gradients, strict=True):
                    parameter.grad = gradient
                alpha.step()
            with torch.no_grad():
                fixed = architecture.mixes()
            x, y, w = batch
            loss = huber(network(x, *fixed)[:, :, context:], y, w)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"search loss became {float(loss.detach())}; lower learning_rate ({settings.learning_rate})"
                )
            weights.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip, foreach=True)
            weights.step()
            total, steps = total + float(loss.detach()), steps + 1
        schedule.step()
        with torch.no_grad():
            mix = architecture.mixes()
            ops, features = architecture.op_weights(), architecture.feature_weights()
            validation_loss, correlation = evaluate(lambda x: network(x, *mix), tensors, validation_bars, context)  # noqa: B023
        history.append(
            {
                "epoch": epoch,
                "train_loss": total / steps,
                "validation_loss": validation_loss,
                "validation_correlation": correlation,
                "entropy": entropy(ops),
                "feature_entropy": entropy(features),
                "temperature": architecture.temperature,
                "op_weights": [[round(float(v), 5) for v in row] for row in ops],
            }
        )
        on_epoch(epoch)
    return SearchResult(
        architecture.genotype(),
        tuple(history),
        tuple(tuple(float(v) for v in row) for row in architecture.op_weights().detach()),
        tuple(tuple(float(v) for v in row) for row in architecture.feature_weights().detach()),
        space,
    )
