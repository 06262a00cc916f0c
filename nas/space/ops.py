"""Registry of network ops. Every op is causal and time-invariant.

A *linear* op is a handful of lagged copies of its input (taps: constant or a learned matrix per lag) or a truncated
exponential moving average; the mix of all linear ops on an edge then is one matrix product (DESIGN, idea 2). A *non-linear* op is
computed once per source node and shared by the edges that leave it.

`gain` makes the output of a white, unit-variance input have unit variance, so that no op wins the softmax by its scale alone
(the originals put an affine-free batch norm behind every op for the same purpose; over time that would read the future).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import e, sqrt
from statistics import NormalDist
from typing import Any, Literal, get_args

from data.errors import InputError, known_word

Kind = Literal[
    "zero", "skip", "residual", "constant", "matrix", "separable", "ema", "attention", "maxpool", "gated", "module",
    "market", "cross_zscore", "cross_rank", "cross_attention", "correlation", "lead_lag",
]  # fmt: skip
TAPPED = ("constant", "matrix", "separable", "residual")  # kinds that read single lags
SPANNED = ("ema", "attention", "maxpool", "gated", "module")  # kinds that look back a span
OWN = ("attention", "gated", "module")  # kinds with weights of their own on every edge
ACROSS = (
    "market",
    "cross_zscore",
    "cross_rank",
    "cross_attention",
    "correlation",
    "lead_lag",
)  # kinds that read other assets

EMA_LENGTHS_PER_SPAN = (
    3  # an EMA is cut after 3 spans: e^-6 = 0.25% of its weight lies beyond; its receptive field is then finite
)
GATE_FLOOR = 8.0  # over the span: what lies further back than the span weighs less than e^-8 and is cut there
LEAST_GATED_BARS = 16  # below, the gate can hardly keep anything
CORRELATION_BARS = 48
MOST_LAG_BARS = 12
# what one core does in products as narrow as a cell's, and in a copy inside its second-level cache (python -m benchmarks.roofline)
OPERATIONS_PER_NS, BYTES_PER_NS = 90.0, 174.0
# of neighbouring assets' hidden values, to give ops about unit variance: hourly returns of large coins correlate by 0.6 and more
USUAL_CORRELATION = 0.6


@dataclass(frozen=True)
class Op:
    """One candidate operation on an edge: causal, the same at every bar.

    Parameters
    ----------
    name, kind, title : str
        As spaces call it; what it computes (`constant`: weighted lags, `matrix`: a learned matrix per lag, ...); as pictures call it.
    lags : tuple of int
        Bars back that it reads.
    coefficients : tuple of float
        Of the lags, where the taps are constants.
    span : int
        Bars: of an EMA its usual span; of an attention band, a pool or a gate's memory what it looks back; of a module the bars that its
        output depends on, bar t included.
    module : callable, optional
        Of kind `module`: channels -> nn.Module with forward(x [time, batch, channel]) -> the same shape. Every edge gets one of its own.

    Raises
    ------
    InputError
        For an unknown kind, and what the kind cannot be: lags ahead, coefficients that do not fit, a span that is missing.

    Examples
    --------
    >>> from nas import Op
    >>> week = Op("diff168", "constant", "difference over a week of hours", lags=(0, 168), coefficients=(1.0, -1.0))
    >>> week.linear, week.receptive_field, week.parameters(channels=16)
    (True, 169, 0)
    """

    name: str
    kind: Kind
    title: str
    lags: tuple[int, ...] = ()
    coefficients: tuple[float, ...] = ()
    span: int = 0
    module: Callable[[int], Any] | None = None

    def __post_init__(self) -> None:
        what = f"op {self.name!r}"
        known_word(f"{what}: kind", self.kind, get_args(Kind))
        if self.kind in TAPPED:
            if not self.lags or any(lag != int(lag) for lag in self.lags) or len(set(self.lags)) != len(self.lags):
                raise InputError(
                    f"{what} of kind {self.kind} reads bars back, each once; give lags such as (0, 1), not {self.lags}"
                )
            if min(self.lags) < 0:
                raise InputError(
                    f"{what} reads ahead: lag {min(self.lags)} is a bar that has not come yet; give lags of 0 and more"
                )
        if self.kind == "constant" and (len(self.coefficients) != len(self.lags) or not any(self.coefficients)):
            raise InputError(
                f"{what} needs a coefficient per lag, not all 0; {len(self.lags)} lags and coefficients {self.coefficients} were given"
            )
        least = LEAST_GATED_BARS if self.kind == "gated" else 1
        if (self.kind in SPANNED or self.across) and self.span < least:
            raise InputError(
                f"{what} of kind {self.kind} needs the bars that it looks back, {least} or more; give span, not {self.span}"
            )
        fixed = {"correlation": CORRELATION_BARS, "lead_lag": MOST_LAG_BARS}.get(
            self.kind, 1 if self.across else self.span
        )
        if self.span != fixed:
            raise InputError(
                f"{what} of kind {self.kind} looks back {fixed} bar{'s' * (fixed != 1)}; give span={fixed}, not {self.span}"
            )
        if (self.kind == "module") != (self.module is not None):
            raise InputError(
                f"{what}: module, a function from channels to an nn.Module, goes with kind 'module', and kind with module"
            )

    @property
    def linear(self) -> bool:
        """Whether it folds into the matrix product of its source."""
        return self.kind in ("zero", "skip", "constant", "matrix", "separable", "ema")

    @property
    def across(self) -> bool:
        """Whether it reads other assets than its own."""
        return self.kind in ACROSS

    @property
    def length(self) -> int:
        """Bars an EMA (or attention band, or pool) looks at, itself included."""
        return EMA_LENGTHS_PER_SPAN * self.span if self.kind == "ema" else self.span

    @property
    def decay(self) -> float:
        """EMA decay of the usual span convention, alpha = 2 / (span + 1)."""
        return 1.0 - 2.0 / (self.span + 1.0)

    @property
    def gain(self) -> float:
        """Factor that gives its output unit variance for a white input; 1 for learned ops, whose scale the cell sees to."""
        if self.kind == "constant":
            return 1.0 / sqrt(sum(c * c for c in self.coefficients))
        if self.kind == "ema":
            d, n = self.decay, self.length
            # sum of squared weights of the truncated, renormalised EMA
            squares = (1 - d) / (1 + d) * (1 - d ** (2 * n)) / (1 - d**n) ** 2
            return 1.0 / sqrt(squares)
        if self.kind == "attention":
            # scores of unit variance make lognormal weights: sum of squares e / span (a fresh projection, a white input)
            return sqrt(self.span / e)
        if self.kind == "gated":
            # a fresh gate of mean z keeps z / (2 - z) of the variance of tanh of a standard normal, 0.394
            z = 0.5 + 0.5 * GATE_FLOOR / self.span
            return 1.0 / sqrt(0.394 * z / (2.0 - z))
        if self.kind == "maxpool":
            return 1.0 / maximum_of_normals(self.span)[1]
        if self.kind == "market":
            return 1.0 / sqrt(USUAL_CORRELATION)  # the mean of many assets of that correlation
        if self.kind == "cross_rank":
            return sqrt(3.0)
        if self.kind == "correlation":
            return float(USUAL_CORRELATION**-1.5)  # a correlation times such a mean
        return 1.0

    @property
    def receptive_field(self) -> int:
        """Bars the output at t depends on, bar t included (0 for zero)."""
        if self.kind == "zero":
            return 0
        if self.kind == "skip":
            return 1
        if self.kind in SPANNED or self.across:
            return self.length
        return max(self.lags) + 1

    def parameters(self, channels: int) -> int:
        """Learned numbers of this op on one edge."""
        if self.kind in ("matrix", "residual"):
            return len(self.lags) * channels * channels + (channels if self.kind == "residual" else 0)
        if self.kind == "separable":
            return channels * channels + len(self.lags) * channels
        if self.kind == "attention":
            return 3 * channels * channels
        if self.kind == "gated":
            return 2 * channels * channels + 2 * channels
        if self.kind == "module" and self.module is not None:
            return sum(p.numel() for p in self.module(channels).parameters())
        if self.kind == "cross_attention":
            return 3 * channels * channels
        if self.kind == "correlation":
            return channels * channels + channels
        if self.kind == "lead_lag":
            return channels * channels
        return 0

    def work(self, channels: int) -> tuple[float, float]:
        """(operations, bytes) per bar on one edge: counted, so that they are the same whatever the machine is doing.

        Every learned number multiplies and adds once a bar. On top every channel has what its kind computes and moves: lags that are
        summed, two multiply-adds and a tail of an EMA, dots and blends over the band of an attention, comparisons of a pool, a scan that
        doubles its width in a gate. A value has 4 bytes; weights stay in the cache.
        """
        lags, doublings = len(self.lags), self.span.bit_length()
        computed, moved = {
            "zero": (0, 0),
            "skip": (1, 3),
            "constant": (2 * lags, lags + 1),
            "matrix": (0, lags + 1),
            "separable": (0, lags + 3),
            "residual": (2, lags + 3),
            "ema": (5, 4),
            "attention": (4 * self.span, 2 * self.span + 8),
            "gated": (4 * doublings, 6 * doublings + 5),
            "module": (0, self.span + 1),
        }.get(self.kind, (self.span, self.span + 1))
        return 2.0 * self.parameters(channels) + computed * channels, 4.0 * moved * channels

    def nanoseconds(self, channels: int) -> float:
        """Modelled time per bar on one edge: `work` at nominal rates of one core, which are those of no machine in particular."""
        operations, moved = self.work(channels)
        return operations / OPERATIONS_PER_NS + moved / BYTES_PER_NS


@cache
def maximum_of_normals(count: int) -> tuple[float, float]:
    """Mean and standard deviation of the maximum of `count` independent standard normals (Tippett 1925), by Simpson's rule."""
    normal, steps, far = NormalDist(), 2_000, 10.0
    places = [-far + 2.0 * far * k / steps for k in range(steps + 1)]
    weights = [(1.0 if k in (0, steps) else 4.0 if k % 2 else 2.0) * 2.0 * far / steps / 3.0 for k in range(steps + 1)]
    density = [w * count * normal.pdf(x) * normal.cdf(x) ** (count - 1) for x, w in zip(places, weights, strict=True)]
    mean = sum(x * d for x, d in zip(places, density, strict=True))
    square = sum(x * x * d for x, d in zip(places, density, strict=True))
    return mean, sqrt(square - mean * mean)


OPS: dict[str, Op] = {}


def add_op(op: Op) -> Op:
    """Add an op that tests have checked (`nas.network.doors.register_op` checks one's own). ValueError where another has the name."""
    if OPS.get(op.name, op) != op:
        raise ValueError(f"op {op.name!r} is registered already")
    OPS[op.name] = op
    return op


add_op(Op("zero", "zero", "no connection"))
add_op(Op("identity", "constant", "identity", (0,), (1.0,)))
add_op(Op("skip", "skip", "residual: joins after the node's norm"))
add_op(Op("dense", "matrix", "dense", (0,)))
add_op(Op("conv3", "matrix", "convolution of 3 bars", (0, 1, 2)))
add_op(Op("conv5", "matrix", "convolution of 5 bars", (0, 1, 2, 3, 4)))
add_op(Op("dilated3", "matrix", "dilated convolution, lags 0 2 4", (0, 2, 4)))
add_op(Op("dilated3x4", "matrix", "dilated convolution, lags 0 4 8", (0, 4, 8)))
add_op(Op("dilated3x8", "matrix", "dilated convolution, lags 0 8 16", (0, 8, 16)))
add_op(Op("dilated3x16", "matrix", "dilated convolution, lags 0 16 32", (0, 16, 32)))
for _dilation in (1, 2, 4, 8, 16):
    _lags = (0, _dilation, 2 * _dilation)
    _name = "residual3" if _dilation == 1 else f"residual3x{_dilation}"
    add_op(
        Op(
            _name,
            "residual",
            f"residual block: x + relu(convolution of x, lags {_lags[0]} {_lags[1]} {_lags[2]})",
            _lags,
        )
    )
add_op(Op("separable3", "separable", "depthwise then pointwise convolution of 3 bars", (0, 1, 2)))
for _span in (4, 12, 36):
    add_op(Op(f"ema{_span}", "ema", f"exponential moving average, span {_span} bars", span=_span))
for _lag in (1, 4):
    add_op(Op(f"diff{_lag}", "constant", f"difference over {_lag} bar{'s' * (_lag > 1)}", (0, _lag), (1.0, -1.0)))
add_op(Op("meanpool6", "constant", "mean of the past 6 bars", tuple(range(6)), (1.0 / 6,) * 6))
add_op(Op("maxpool6", "maxpool", "maximum of the past 6 bars", span=6))
add_op(Op("attention", "attention", "causal self-attention over 32 bars", span=32))
add_op(Op("gated", "gated", "gated recurrent unit with a memory of 64 bars", span=64))
add_op(Op("market", "market", "market factor: mean of all assets at the bar", span=1))
add_op(Op("cross_zscore", "cross_zscore", "z-score across assets at the bar", span=1))
add_op(Op("cross_rank", "cross_rank", "rank across assets at the bar", span=1))
add_op(Op("cross_attention", "cross_attention", "attention across assets at the bar", span=1))
add_op(
    Op(
        "correlation",
        "correlation",
        f"other assets, weighed by correlation over {CORRELATION_BARS} bars",
        span=CORRELATION_BARS,
    )
)
add_op(Op("lead_lag", "lead_lag", f"the leading asset, 1 to {MOST_LAG_BARS} bars before", span=MOST_LAG_BARS))

SKIPS = ("identity", "skip")  # the ops that skip rules count, limit and drop: they pass a value on without work
DEFAULT_OPS = ("zero", "identity", "dense", "conv3", "dilated3", "ema4", "ema12", "ema36", "diff1", "attention")
ACROSS_OPS = tuple(
    op.name for op in OPS.values() if op.across
)  # joined to the others where several assets are searched together


def get_op(name: str) -> Op:
    """The op of that name; InputError lists what there is."""
    if name not in OPS:
        raise InputError(f"no op named {name!r}; there are {', '.join(OPS)}")
    return OPS[name]
