"""The registry of feature transforms: what one step of a pipeline can be.

A pipeline is written as its steps, `log>zscore24`: names from here, each with its parameter behind it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from data.panel import FloatArray, InputError
from nas import kernels
from nas.kernels import reference

# An exponential weight below this is forgotten: bars until then count as warm-up.
FORGOTTEN = 1e-9
CLIP_WINDOW = 168  # one week of hourly bars: what is far out is judged against it
FRACTIONAL_WIDTH = 48

Formula = Callable[[ModuleType, FloatArray, int], FloatArray]


@dataclass(frozen=True)
class Transform:
    """One step of a pipeline. `about`: one line, N is the parameter; `memory(parameter)`: past bars a value depends on.

    formula(k, x [C, T], parameter) -> [C, T], with k the module of kernels: the fast ones, or the plain ones of the same
    names. parameter: the default, None where it takes none; smallest: the least that makes sense.
    """

    name: str
    about: str
    formula: Formula
    memory: Callable[[int], int]
    parameter: int | None = None
    smallest: int = 1

    def apply(self, x: FloatArray, parameter: int) -> FloatArray:
        """The step by the fast kernels: x [C, T] -> [C, T]."""
        return self.formula(kernels, x, parameter)

    def reference(self, x: FloatArray, parameter: int) -> FloatArray:
        """The same by the plain formulas: slow, for tests."""
        return self.formula(reference, x, parameter)


TRANSFORMS: dict[str, Transform] = {}


def transform(
    name: str, about: str, memory: Callable[[int], int], parameter: int | None = None, smallest: int = 1
) -> Callable[[Formula], Formula]:
    """Register a step of pipelines, above its formula (kernels, x [A, T], parameter) -> [A, T].

    Parameters
    ----------
    name, about : str
        As pipelines and tables call it.
    memory : callable
        parameter -> past bars that a value reads.
    parameter : int, optional
        What is usual; None where the step has none.
    smallest : int
        Least parameter.

    Raises
    ------
    ValueError
        Where the name is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from nas import transform
    >>> @transform("root", "signed square root", memory=lambda _: 0)
    ... def root(kernels, x, _):
    ...     return np.sign(x) * np.sqrt(np.abs(x))
    """

    def register(formula: Formula) -> Formula:
        if name in TRANSFORMS:
            raise ValueError(f"a transform named {name!r} exists already")
        TRANSFORMS[name] = Transform(name, about, formula, memory, parameter, smallest)
        return formula

    return register


def ewm_memory(span: int) -> int:
    """Bars until an exponential weight of this span falls below `FORGOTTEN`."""
    return math.ceil(math.log(FORGOTTEN) / math.log1p(-2.0 / (span + 1.0))) if span > 1 else 1


def _nothing(_: int) -> int:
    return 0


def _window(window: int) -> int:
    return window - 1


def _lag(lag: int) -> int:
    return lag


@transform("raw", "the series itself", _nothing)
def _raw(k: ModuleType, x: FloatArray, _: int) -> FloatArray:
    return x


@transform("log", "natural logarithm; missing where not positive", _nothing)
def _log(k: ModuleType, x: FloatArray, _: int) -> FloatArray:
    return k.log(x)  # type: ignore[no-any-return]


@transform("diff", "change over N bars", _lag, 1)
def _diff(k: ModuleType, x: FloatArray, lag: int) -> FloatArray:
    return k.difference(x, lag)  # type: ignore[no-any-return]


@transform("logreturn", "change of the logarithm over N bars", _lag, 1)
def _logreturn(k: ModuleType, x: FloatArray, lag: int) -> FloatArray:
    return k.log_return(x, lag)  # type: ignore[no-any-return]


@transform("fracdiff", "fractional difference of order N / 10 over 48 bars", lambda _: FRACTIONAL_WIDTH - 1, 4)
def _fracdiff(k: ModuleType, x: FloatArray, tenths: int) -> FloatArray:
    return k.fractional_difference(x, tenths / 10.0, FRACTIONAL_WIDTH)  # type: ignore[no-any-return]


@transform("sum", "sum of the last N bars", _window, 24)
def _sum(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_sum(x, window)  # type: ignore[no-any-return]


@transform("mean", "mean of the last N bars", _window, 24)
def _mean(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_mean(x, window)  # type: ignore[no-any-return]


@transform("std", "sample standard deviation of the last N bars", _window, 24, 2)
def _std(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_std(x, window)  # type: ignore[no-any-return]


@transform("zscore", "(x - mean) / standard deviation of the last N bars; 0 in a constant window", _window, 24, 2)
def _zscore(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_zscore(x, window)  # type: ignore[no-any-return]


@transform(
    "robust", "(x - median) / distance between the quartiles of the last N bars; 0 where that is 0", _window, 168, 4
)
def _robust(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    low, middle, high = (k.rolling_quantile(x, window, q) for q in (0.25, 0.5, 0.75))
    return _ratio(x - middle, high - low)


@transform("rank", "rank among the last N bars, from -1 (lowest) to 1; ties share", _window, 168, 2)
def _rank(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return (k.rolling_rank(x, window) - 1.0) * (2.0 / (window - 1)) - 1.0  # type: ignore[no-any-return]


@transform(
    "place",
    "place between the extremes of the last N bars, from -1 (at the lowest) to 1; 0 where they meet",
    _window,
    48,
    2,
)
def _place(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    low, high = k.rolling_min(x, window), k.rolling_max(x, window)
    return _ratio((x - low) - (high - x), high - low)


@transform("min", "smallest of the last N bars", _window, 24)
def _min(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_min(x, window)  # type: ignore[no-any-return]


@transform("max", "largest of the last N bars", _window, 24)
def _max(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_max(x, window)  # type: ignore[no-any-return]


@transform("median", "median of the last N bars", _window, 24)
def _median(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_median(x, window)  # type: ignore[no-any-return]


@transform("skew", "sample skewness of the last N bars", _window, 168, 3)
def _skew(k: ModuleType, x: FloatArray, window: int) -> FloatArray:
    return k.rolling_skew(x, window)  # type: ignore[no-any-return]


@transform(
    "ewm", "(x - exponential mean) / exponential standard deviation, span N; from half a span on", ewm_memory, 32, 2
)
def _ewm(k: ModuleType, x: FloatArray, span: int) -> FloatArray:
    return k.ewm_zscore(x, span)  # type: ignore[no-any-return]


@transform("ewmean", "exponential mean, span N; from half a span on", ewm_memory, 32, 2)
def _ewmean(k: ModuleType, x: FloatArray, span: int) -> FloatArray:
    return k.ewm_mean(x, span, span // 2)  # type: ignore[no-any-return]


@transform("ewstd", "exponential standard deviation, span N; from half a span on", ewm_memory, 32, 4)
def _ewstd(k: ModuleType, x: FloatArray, span: int) -> FloatArray:
    return k.ewm_std(x, span, span // 2)  # type: ignore[no-any-return]


# Wilder's smoothing by 1 / N is an exponential mean of span 2 N - 1
@transform(
    "rsi", "rises against falls, Wilder's smoothing over N bars, from -1 to 1", lambda n: ewm_memory(2 * n - 1) + n, 14
)
def _rsi(k: ModuleType, x: FloatArray, span: int) -> FloatArray:
    return k.relative_strength(x, span) / 50.0 - 1.0  # type: ignore[no-any-return]


@transform("clip", "cut at N standard deviations of the last 168 bars around their mean", lambda _: CLIP_WINDOW - 1, 3)
def _clip(k: ModuleType, x: FloatArray, deviations: int) -> FloatArray:
    mean, std, _ = k.rolling_moments(x, CLIP_WINDOW)
    return np.clip(x, mean - deviations * std, mean + deviations * std)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """above / below, 0 where below is 0; missing where either is."""
    flat = below == 0.0
    out: FloatArray = np.where(flat, above * 0.0, above / np.where(flat, 1.0, below))
    return out


def parse_pipeline(text: str) -> tuple[tuple[Transform, int], ...]:
    """The steps of `log>zscore24` with their parameters. Raises InputError naming what there is."""
    steps = []
    for part in text.split(">"):
        match = re.fullmatch(r"([a-z]+)(\d*)", part)
        if match is None or match[1] not in TRANSFORMS:
            raise InputError(f"unknown step {part!r} in pipeline {text!r}; steps are {', '.join(TRANSFORMS)}")
        step = TRANSFORMS[match[1]]
        if step.parameter is None and match[2]:
            raise InputError(f"step {match[1]!r} in pipeline {text!r} takes no number")
        number = int(match[2]) if match[2] else step.parameter or 0
        if step.parameter is not None and number < step.smallest:
            raise InputError(f"step {part!r} in pipeline {text!r} needs a number of at least {step.smallest}")
        steps.append((step, number))
    return tuple(steps)
