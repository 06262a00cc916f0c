"""Raw inputs, the registry of feature transforms, and the bank: every candidate pipeline of every input, causal.

A pipeline is written as its steps, `log>zscore24`: step names from the registry, each with its parameter behind it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray, InputError, Panel
from nas import kernels

# An exponential weight below this is forgotten: bars until then count as warm-up.
FORGOTTEN = 1e-9


@dataclass(frozen=True)
class Transform:
    """One step of a pipeline. `apply(x [C, T], parameter) -> [C, T]`; `memory(parameter)`: past bars it depends on."""

    name: str
    apply: Callable[[FloatArray, int], FloatArray]
    memory: Callable[[int], int]
    parameter: int | None = None  # default; None: takes no parameter


TRANSFORMS: dict[str, Transform] = {}


def _transform(
    name: str, memory: Callable[[int], int], parameter: int | None = None
) -> Callable[[Callable[[FloatArray, int], FloatArray]], Callable[[FloatArray, int], FloatArray]]:
    def register(apply: Callable[[FloatArray, int], FloatArray]) -> Callable[[FloatArray, int], FloatArray]:
        TRANSFORMS[name] = Transform(name, apply, memory, parameter)
        return apply

    return register


def ewm_memory(span: int) -> int:
    """Bars until an exponential weight of this span falls below `FORGOTTEN`."""
    return math.ceil(math.log(FORGOTTEN) / math.log1p(-2.0 / (span + 1.0)))


def _window(window: int) -> int:
    return window - 1


@_transform("raw", lambda _: 0)
def _raw(x: FloatArray, _: int) -> FloatArray:
    return x


@_transform("log", lambda _: 0)
def _log(x: FloatArray, _: int) -> FloatArray:
    return kernels.log(x)


@_transform("diff", lambda lag: lag, 1)
def _diff(x: FloatArray, lag: int) -> FloatArray:
    return kernels.difference(x, lag)


@_transform("sum", _window, 24)
def _sum(x: FloatArray, window: int) -> FloatArray:
    return kernels.rolling_moments(x, window)[0] * window


@_transform("zscore", _window, 24)
def _zscore(x: FloatArray, window: int) -> FloatArray:
    return kernels.rolling_moments(x, window)[2]


@_transform("rank", _window, 168)
def _rank(x: FloatArray, window: int) -> FloatArray:
    """Rank in the window, scaled to [-1, 1]."""
    return (kernels.rolling_rank(x, window) - 1.0) * (2.0 / (window - 1)) - 1.0


@_transform("ewm", ewm_memory, 32)
def _ewm(x: FloatArray, span: int) -> FloatArray:
    """Distance to the exponential mean over the exponential standard deviation."""
    return kernels.ewm_moments(x, span, span // 2)[2]


@dataclass(frozen=True)
class RawInput:
    """A series per asset, in units that make ordinary values about one. `compute(panel) -> [A, T]`."""

    name: str
    needs: tuple[str, ...]
    compute: Callable[[Panel], FloatArray]
    candidates: tuple[str, ...]
    memory: int = 0  # past bars that one value reads


def _columns(panel: Panel, name: str) -> FloatArray:
    return np.ascontiguousarray(panel.field(name).T)


def _log_return(panel: Panel) -> FloatArray:
    return kernels.difference(kernels.log(_columns(panel, "close")))


def _return(panel: Panel) -> FloatArray:
    return 100.0 * _log_return(panel)


def _range(panel: Panel) -> FloatArray:
    """Log of high over low in percent; a bar without movement counts as 0.01 basis points, so that it has a log."""
    return np.maximum(100.0 * (kernels.log(_columns(panel, "high")) - kernels.log(_columns(panel, "low"))), 1e-4)


def _volume(panel: Panel) -> FloatArray:
    """Turnover in quote currency; a bar without trades counts as one unit, so that it has a log."""
    return np.maximum(_columns(panel, "volume") * _columns(panel, "close"), 1.0)


def _body(panel: Panel) -> FloatArray:
    return 100.0 * (_columns(panel, "close") / _columns(panel, "open") - 1.0)


def _funding(panel: Panel) -> FloatArray:
    return 1e4 * _columns(panel, "funding_rate")


INPUTS: dict[str, RawInput] = {
    raw.name: raw
    for raw in (
        RawInput(
            "return",
            ("close",),
            _return,
            ("raw", "ewm32", "zscore24", "sum6>ewm32", "sum24>ewm32", "rank168"),
            memory=1,
        ),
        RawInput("range", ("high", "low"), _range, ("raw", "log>zscore24", "log>zscore168", "log>diff", "rank168")),
        RawInput("volume", ("volume", "close"), _volume, ("log>zscore24", "log>zscore168", "log>diff", "rank168")),
        RawInput("body", ("open", "close"), _body, ("raw", "ewm32", "sum6>ewm32")),
        RawInput("funding_rate", ("funding_rate",), _funding, ("raw", "zscore168", "diff", "diff24")),
    )
}


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Every candidate pipeline of every raw input.

    values: [A, K, T] float32, contiguous; K runs input by input, in the order of `names`; NaN where not yet known.
    warmup_bars: from this bar on the values no longer depend on where the panel began (beyond 1e-6).
    missing: raw inputs left out because the panel lacks their fields.
    """

    inputs: tuple[str, ...]
    pipelines: tuple[tuple[str, ...], ...]
    values: npt.NDArray[np.float32]
    warmup_bars: int
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> list[tuple[str, str]]:
        """(input, pipeline) of each of the K rows."""
        return [(name, pipeline) for name, group in zip(self.inputs, self.pipelines, strict=True) for pipeline in group]

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """[K]: index of the input each row belongs to."""
        return np.repeat(np.arange(len(self.inputs)), [len(group) for group in self.pipelines])


def parse_pipeline(text: str) -> tuple[tuple[Transform, int], ...]:
    """The steps of `log>zscore24` with their parameters. Raises InputError naming what there is."""
    steps = []
    for part in text.split(">"):
        match = re.fullmatch(r"([a-z_]+)(\d*)", part)
        if match is None or match[1] not in TRANSFORMS:
            raise InputError(f"unknown step {part!r} in pipeline {text!r}; steps are {', '.join(TRANSFORMS)}")
        transform = TRANSFORMS[match[1]]
        if transform.parameter is None and match[2]:
            raise InputError(f"step {match[1]!r} in pipeline {text!r} takes no number")
        steps.append((transform, int(match[2]) if match[2] else transform.parameter or 0))
    return tuple(steps)


def build_bank(panel: Panel, choice: Mapping[str, Sequence[str]] | None = None) -> FeatureBank:
    """All candidate pipelines of the inputs that the panel has; with `choice` (input -> pipelines) only those.

    Raises InputError where `choice` names an unknown input or pipeline, or an input whose fields the panel lacks.
    """
    if choice is not None:
        for name in choice:
            if name not in INPUTS:
                raise InputError(f"unknown feature input {name!r}; inputs are {', '.join(INPUTS)}")
            lacking = [field for field in INPUTS[name].needs if not panel.has(field)]
            if lacking:
                raise InputError(f"input {name!r} needs the field {lacking[0]!r}, which this data lacks")
    wanted = {name: tuple(choice[name]) for name in choice} if choice is not None else {
        name: raw.candidates for name, raw in INPUTS.items()
    }  # fmt: skip
    present = {n: p for n, p in wanted.items() if p and all(panel.has(f) for f in INPUTS[n].needs)}
    rows = sum(len(pipelines) for pipelines in present.values())
    values = np.empty((len(panel.assets), rows, len(panel)), dtype=np.float32)
    warmup = 0
    row = 0
    for name, pipelines in present.items():
        base = INPUTS[name].compute(panel)
        for pipeline in pipelines:
            x, memory = base, INPUTS[name].memory
            for transform, parameter in parse_pipeline(pipeline):
                x = transform.apply(x, parameter)
                memory += transform.memory(parameter)
            values[:, row] = x
            warmup = max(warmup, memory)
            row += 1
    missing = tuple(name for name in wanted if name not in present)
    return FeatureBank(tuple(present), tuple(present.values()), values, warmup, missing)


def causal_volatility(panel: Panel) -> FloatArray:
    """[T, A]: exponentially weighted standard deviation (span 48 bars) of close-to-close log returns, per bar.

    Known at the close of bar t; NaN in the first 24 bars of an asset.
    """
    return np.ascontiguousarray(kernels.ewm_moments(_log_return(panel), 48, 24)[1].T)
