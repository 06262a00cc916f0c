"""What a hand-designed rival is: the searched networks must beat these on the same data, features, windows and budget.

A network is a function (inputs, horizons) -> module with forward(x [batch, input, time]) -> [batch, horizon, time], causal, and
an integer `receptive_field`; `@baseline(...)` tries it and adds it to the registry (`@built_in(...)` in this folder), and
`nas.network.training` trains it. What is not a torch module (trees, a formula) is a function (Fit) -> Fitted, added by
`@fitted_baseline(...)`. The command and the report pick both up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.network.doors import check_past
from nas.network.stretches import Samples, Tensors
from nas.network.training import TrainingSettings

FloatArray = npt.NDArray[np.float64]
Builder = Callable[[int, int], nn.Module]
CHECKED_BARS = 32


@dataclass(frozen=True, eq=False)
class Fit:
    """What a rival that is no torch module learns from.

    tensors: scaled inputs, labels and weights of the whole panel; only bars of `train` may be fitted to, and only bars of `stop`
    decide when to stop. samples: the panel and labels behind them. horizons: bars ahead; the first one trades.
    """

    samples: Samples
    tensors: Tensors
    train: slice
    stop: slice
    horizons: tuple[int, ...]
    settings: TrainingSettings
    seed: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """forecast(bars) -> first-horizon forecasts [asset, bar], NaN where not known; value t reads bars <= t only."""

    forecast: Callable[[slice], FloatArray]
    parameters: int
    receptive_field: int
    rounds: int = 1


Fitter = Callable[[Fit], Fitted]


@dataclass(frozen=True)
class Baseline:
    """A hand-designed rival: a network to be trained (`build`) or something that fits itself (`fit`)."""

    name: str
    title: str
    description: str
    build: Builder | None = None
    fit: Fitter | None = None


BASELINES: dict[str, Baseline] = {}


def _add(entry: Baseline) -> None:
    if entry.name in BASELINES:
        raise ValueError(f"baseline {entry.name!r} is registered twice")
    BASELINES[entry.name] = entry


def baseline(name: str, title: str, description: str) -> Callable[[Builder], Builder]:
    """Register a network, above a class or function (inputs, horizons) -> module.

    Parameters
    ----------
    name, title, description : str
        As `--baselines` takes it, as pages show it, what it is.

    Raises
    ------
    ValueError
        Where the name is taken.
    InputError
        Where the network reads ahead: it is built for two inputs and tried (`nas.network.doors`).

    Examples
    --------
    >>> from nas import baseline
    >>> from nas.baselines.registry import CausalConv
    >>> @baseline("three_bars", "Three bars", "one convolution")
    ... class ThreeBars(CausalConv):
    ...     receptive_field = 3
    ...     def __init__(self, inputs: int, horizons: int) -> None:
    ...         super().__init__(inputs, horizons, taps=3)
    """

    def add(build: Builder) -> Builder:
        check_baseline(name, build)
        return built_in(name, title, description)(build)

    return add


def built_in(name: str, title: str, description: str) -> Callable[[Builder], Builder]:
    """`baseline` for the networks of this folder: a test tries them, not every process that starts (2 s of the processor)."""

    def add(build: Builder) -> Builder:
        _add(Baseline(name, title, description, build=build))
        return build

    return add


def check_baseline(name: str, build: Builder) -> None:
    """InputError where a network reads ahead, or gives what is not finite; built for two inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(2, 1).double()
    forward = lambda x: network(x.permute(1, 2, 0)).permute(2, 0, 1)  # noqa: E731
    check_past(f"baseline {name!r}", network, forward, CHECKED_BARS, (2, 2))


def fitted_baseline(name: str, title: str, description: str) -> Callable[[Fitter], Fitter]:
    """Register a rival that fits itself: (Fit) -> Fitted. ValueError where the name is taken."""

    def add(fit: Fitter) -> Fitter:
        _add(Baseline(name, title, description, fit=fit))
        return fit

    return add


def build_baseline(name: str, inputs: int, horizons: int, seed: int) -> nn.Module:
    """A network of the registry with the weights of this seed. ValueError where `name` is no network."""
    build = BASELINES[name].build
    if build is None:
        raise ValueError(f"baseline {name!r} is no network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(inputs, horizons)


class CausalConv(nn.Module):
    """Convolution over the past. [batch, channel, time] in and out."""

    def __init__(self, inputs: int, outputs: int, taps: int, dilation: int = 1) -> None:
        super().__init__()
        self.pad = (taps - 1) * dilation
        self.conv = nn.Conv1d(inputs, outputs, taps, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Value t of the output reads values <= t."""
        return self.conv(nn.functional.pad(x, (self.pad, 0)))  # type: ignore[no-any-return]


def forecast_head(channels: int, horizons: int, taps: int = 1) -> CausalConv:
    """The last layer: forecasts start near zero, which is the best a network can say before it has learned anything."""
    head = CausalConv(channels, horizons, taps)
    nn.init.normal_(head.conv.weight, std=0.1 * (channels * taps) ** -0.5)
    nn.init.zeros_(head.conv.bias)  # type: ignore[arg-type]
    return head
