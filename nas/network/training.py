"""Training from scratch: the evaluation phase of a searched architecture and the whole life of a hand-designed network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data.panel import InputError
from nas.network import lean_torch
from nas.network.calibration import calibrate
from nas.network.losses import LOSSES, Loss, huber
from nas.network.model import last_of
from nas.network.stretches import Tensors, batches_over

# Of validation; mean losses of blocks count as independent of each other: longer than labels usually reach.
BLOCK_BARS = 48
FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained, by AdamW.

    Parameters
    ----------
    epochs, patience : int
        Passes over the training stretch, at most; epochs without a better stop loss before it ends.
    learning_rate, weight_decay : float
        Of all weights.
    length, batch : int
        Bars of a stretch with loss, and stretches per step.
    gradient_clip : float
        Largest gradient norm.
    loss : str
        A name of `nas.network.losses.LOSSES`.
    device : str
        cpu or cuda.

    Examples
    --------
    >>> from nas import TrainingSettings
    >>> TrainingSettings(epochs=5).loss
    'huber'
    """

    epochs: int = 40
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    length: int = 512
    batch: int = 4
    patience: int = 8
    gradient_clip: float = 1.0
    loss: str = "huber"
    device: str = "cpu"


@dataclass(frozen=True)
class Trained:
    """Outcome of one training.

    Parameters
    ----------
    train_losses, validation_losses : tuple of float
        Per epoch.
    best_epoch : int
        The epoch whose weights were kept (from 0).
    correlation : float
        Of first-horizon forecast and label over the stop bars, with those weights.

    Examples
    --------
    >>> from nas import Trained
    >>> outcome = Trained((0.5, 0.4), (0.48, 0.49), best_epoch=0, correlation=0.02)
    >>> outcome.validation_losses[outcome.best_epoch]
    0.48
    """

    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    best_epoch: int
    correlation: float


@torch.no_grad()
def evaluate(
    forward: Callable[[Tensor], Tensor], tensors: Tensors, bars: slice, context: int, loss_function: Loss = huber
) -> tuple[float, float]:
    """(loss, correlation of first-horizon forecast and label) over `bars`, one pass per asset batch."""
    begin = max(0, bars.start - context)
    out = forward(tensors.x[..., begin : bars.stop])[:, :, bars.start - begin :]
    y, w = tensors.y[:, :, bars], tensors.weight[:, :, bars]
    loss = float(loss_function(out, y, w))
    mask = w[:, 0] > 0
    a, b = out[:, 0][mask].double().cpu().numpy(), y[:, 0][mask].double().cpu().numpy()
    if len(a) < 3 or a.std() < 1e-12 or b.std() < 1e-12:
        return loss, 0.0
    return loss, float(np.corrcoef(a, b)[0, 1])


def evaluate_over(
    forward: Callable[[Tensor], Tensor],
    tensors: Tensors,
    parts: Sequence[slice],
    context: int,
    loss_function: Loss = huber,
) -> tuple[float, float]:
    """`evaluate` of several stretches of bars, each weighed by its length."""
    found = [(bars.stop - bars.start, evaluate(forward, tensors, bars, context, loss_function)) for bars in parts]
    total = sum(n for n, _ in found)
    return sum(n * e[0] for n, e in found) / total, sum(n * e[1] for n, e in found) / total


@torch.no_grad()
def loss_by_block(
    forward: Callable[[Tensor], Tensor],
    tensors: Tensors,
    parts: Sequence[slice],
    context: int,
    loss_function: Loss = huber,
) -> Tensor:
    """The loss on each stretch of BLOCK_BARS bars of `parts` (shorter ones where there would be few), in order: [block]."""
    total, found = sum(part.stop - part.start for part in parts), []
    length = min(BLOCK_BARS, max(1, total // FEWEST_BLOCKS))
    for bars in parts:
        begin = max(0, bars.start - context)
        out = forward(tensors.x[..., begin : bars.stop])[:, :, bars.start - begin :]
        label, weight = tensors.y[:, :, bars], tensors.weight[:, :, bars]
        for k in range(0, out.shape[-1], length):
            found.append(loss_function(*(part[..., k : k + length] for part in (out, label, weight))).double())
    return torch.stack(found)


def standard_error(differences: Tensor) -> float:
    """Of the mean of independent values; infinite where there are fewer than two. differences: [block]."""
    return float(differences.std() / math.sqrt(len(differences))) if len(differences) > 1 else math.inf


def first_horizon_score(forecasts: npt.NDArray[np.float64], tensors: Tensors, bars: slice) -> tuple[float, float]:
    """(Huber loss, correlation) of forecasts [asset, bar] of `bars`, NaN left out, against the first horizon's labels."""
    out = torch.from_numpy(np.nan_to_num(forecasts)[:, None]).float()
    weight = tensors.weight[:, :, bars] * torch.from_numpy(np.isfinite(forecasts)[:, None])
    loss = float(huber(out, tensors.y[:, :1, bars], weight))
    mask = weight[:, 0] > 0
    a, b = out[:, 0][mask].double().numpy(), tensors.y[:, 0, bars][mask].double().numpy()
    if len(a) < 3 or a.std() < 1e-12 or b.std() < 1e-12:
        return loss, 0.0
    return loss, float(np.corrcoef(a, b)[0, 1])


def _epoch(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    context: int,
    optimiser: lean_torch.AdamW,
    settings: TrainingSettings,
    epoch: int,
) -> float:
    """One pass of weight steps; returns its mean loss. InputError once a loss is not finite."""
    network.train()
    parameters, losses = list(network.parameters()), []
    for x, y, w in batches:
        loss = LOSSES[settings.loss](last_of(network, x.shape[-1] - context, x), y, w)
        if not math.isfinite(loss.item()):
            raise InputError(
                f"training loss became {float(loss.detach())} in epoch {epoch}; lower learning_rate ({settings.learning_rate})"
            )
        losses.append(lean_torch.descend(optimiser, parameters, loss, settings.gradient_clip))
    return sum(losses) / len(losses)


def train(
    network: nn.Module,
    tensors: Tensors,
    train_bars: slice | Sequence[slice],
    stop_bars: slice | Sequence[slice],
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
    stop_after: int | None = None,
) -> Trained:
    """Fit `network` on `train_bars`; keep the weights of the epoch that is best on `stop_bars` (early stopping).

    Parameters
    ----------
    network : Module
        Causal, x [batch, input, time] -> [batch, horizon, time], with an integer `receptive_field`.
    tensors : Tensors
        Of the whole panel; only the named bars are read, and the context before them.
    train_bars, stop_bars : slice, or several
        Batches come from all of them, losses are weighed by their lengths. The caller purges between them.
    settings : TrainingSettings
        How.
    seed : int
        Of the batches.
    on_epoch : callable
        Told the number of every epoch that has ended.
    stop_after : int, optional
        Keep the weights after so many epochs of the schedule, whatever `stop_bars` (which may be empty) says: how a network is
        fitted again on all that is known, for the epochs that early stopping found before.

    Examples
    --------
    >>> from data import load_panel
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> from nas import Samples, Scaler, Tensors, TrainingSettings, train
    >>> from nas.baselines import build_baseline
    >>> samples = Samples.of(panel, horizons=(6,))
    >>> fit, stop = slice(samples.bank.warmup_bars, 1000), slice(1100, 1400)  # 100 bars of purge lie between
    >>> tensors = Tensors.of(samples, Scaler.fit(samples.bank.values, fit))
    >>> network = build_baseline("linear", len(samples.bank.names), horizons=1, seed=0)
    >>> len(train(network, tensors, fit, stop, TrainingSettings(epochs=2), seed=0).train_losses)
    2
    """
    fitted, watched = (bars if isinstance(bars, Sequence) else (bars,) for bars in (train_bars, stop_bars))
    generator = torch.Generator().manual_seed(seed)
    context = int(network.receptive_field)  # type: ignore[arg-type]
    loss_function = LOSSES[settings.loss]
    network.to(settings.device)
    tensors = tensors.to(settings.device)
    calibrate(network, tensors, fitted)
    optimiser = lean_torch.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs, eta_min=settings.learning_rate * 0.05
    )
    best, best_epoch, kept = float("inf"), -1, {k: v.clone() for k, v in network.state_dict().items()}
    train_losses, stop_losses = [], []
    correlation = 0.0
    for epoch in range(settings.epochs if stop_after is None else stop_after):
        every = batches_over(
            tensors, fitted, length=settings.length, batch=settings.batch, context=context, generator=generator
        )
        train_losses.append(_epoch(network, every, context, optimiser, settings, epoch))
        schedule.step()
        network.eval()
        if stop_after is not None:
            on_epoch(epoch)
            best_epoch, kept = epoch, {k: v.clone() for k, v in network.state_dict().items()}
            continue
        stop_loss, stop_correlation = (
            evaluate_over(network, tensors, watched, context, loss_function)
            if len(watched) > 1
            else evaluate(network, tensors, watched[0], context, loss_function)  # to the last bit
        )
        stop_losses.append(stop_loss)
        on_epoch(epoch)
        if stop_loss < best - 1e-7:
            best, best_epoch, correlation = stop_loss, epoch, stop_correlation
            kept = {k: v.clone() for k, v in network.state_dict().items()}
        elif epoch - best_epoch >= settings.patience:
            break
    network.load_state_dict(kept)
    network.to("cpu")
    return Trained(tuple(train_losses), tuple(stop_losses), best_epoch, correlation)
