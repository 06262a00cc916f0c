"""Registry of network ops. Every op is causal and time-invariant.

A *linear* op is a handful of lagged copies of its input (taps: constant or a learned matrix per lag) or a truncated
exponential moving average; the mix of all linear ops on an edge then is one matrix product (DESIGN, idea 2). A *non-linear* op is
computed once per source node and shared by the edges that leave it.

`gain` makes the output of a white, unit-variance input have unit variance, so that no op wins the softmax by its scale alone
(the originals put an affine-free batch norm behind every op for the same purpose; over time that would read the future).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e, sqrt
from typing import Literal

from data.panel import InputError

Kind = Literal[
    "zero", "skip", "constant", "matrix", "separable", "ema", "attention", "maxpool", "gated",
    "market", "cross_zscore", "cross_rank", "cross_attention", "correlation", "lead_lag",
]  # fmt: skip
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
GATED_MEMORY_BARS = 64
CORRELATION_BARS = 48
MOST_LAG_BARS = 12
# of neighbouring assets' hidden values, to give ops about unit variance: hourly returns of large coins correlate by 0.6 and more
USUAL_CORRELATION = 0.6
# mean and standard deviation of the maximum of n standard normals (Tippett 1925)
MAXPOOL_MEAN = {6: 1.26721}
MAXPOOL_SPREAD = {6: 0.64492}


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
        Bars, of an EMA, a pool or an attention band.

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
            z = 0.5 + 0.5 * 8.0 / GATED_MEMORY_BARS
            return 1.0 / sqrt(0.394 * z / (2.0 - z))
        if self.kind == "maxpool":
            return 1.0 / MAXPOOL_SPREAD[self.span]
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
        if self.kind in ("ema", "attention", "maxpool") or self.across:
            return self.length
        if self.kind == "gated":
            return GATED_MEMORY_BARS
        return max(self.lags) + 1

    def parameters(self, channels: int) -> int:
        """Learned numbers of this op on one edge."""
        if self.kind == "matrix":
            return len(self.lags) * channels * channels
        if self.kind == "separable":
            return channels * channels + len(self.lags) * channels
        if self.kind == "attention":
            return 3 * channels * channels
        if self.kind == "gated":
            return 2 * channels * channels + 2 * channels
        if self.kind == "cross_attention":
            return 3 * channels * channels
        if self.kind == "correlation":
            return channels * channels + channels
        if self.kind == "lead_lag":
            return channels * channels
        return 0


OPS: dict[str, Op] = {}


def register_op(op: Op) -> Op:
    """Make an op known to every search space, network and picture.

    Parameters
    ----------
    op : Op
        Registering an equal one twice is no error.

    Raises
    ------
    ValueError
        Where another op has the name.

    Examples
    --------
    >>> from nas import Op, SearchSpace, register_op
    >>> _ = register_op(Op("diff24", "constant", "difference over 24 bars", lags=(0, 24), coefficients=(1.0, -1.0)))
    >>> SearchSpace(ops=("zero", "diff24"), nodes=1).receptive_field
    25
    """
    if OPS.get(op.name, op) != op:
        raise ValueError(f"op {op.name!r} is registered already")
    OPS[op.name] = op
    return op


register_op(Op("zero", "zero", "no connection"))
register_op(Op("identity", "constant", "identity", (0,), (1.0,)))
register_op(Op("skip", "skip", "residual: joins after the node's norm"))
register_op(Op("dense", "matrix", "dense", (0,)))
register_op(Op("conv3", "matrix", "convolution of 3 bars", (0, 1, 2)))
register_op(Op("conv5", "matrix", "convolution of 5 bars", (0, 1, 2, 3, 4)))
register_op(Op("dilated3", "matrix", "dilated convolution, lags 0 2 4", (0, 2, 4)))
register_op(Op("dilated3x4", "matrix", "dilated convolution, lags 0 4 8", (0, 4, 8)))
register_op(Op("dilated3x8", "matrix", "dilated convolution, lags 0 8 16", (0, 8, 16)))
register_op(Op("separable3", "separable", "depthwise then pointwise convolution of 3 bars", (0, 1, 2)))
for _span in (4, 12, 36):
    register_op(Op(f"ema{_span}", "ema", f"exponential moving average, span {_span} bars", span=_span))
for _lag in (1, 4):
    register_op(Op(f"diff{_lag}", "constant", f"difference over {_lag} bar{'s' * (_lag > 1)}", (0, _lag), (1.0, -1.0)))
register_op(Op("meanpool6", "constant", "mean of the past 6 bars", tuple(range(6)), (1.0 / 6,) * 6))
register_op(Op("maxpool6", "maxpool", "maximum of the past 6 bars", span=6))
register_op(Op("attention", "attention", "causal self-attention over 32 bars", span=32))
register_op(Op("gated", "gated", "gated recurrent unit with bounded memory"))
register_op(Op("market", "market", "market factor: mean of all assets at the bar", span=1))
register_op(Op("cross_zscore", "cross_zscore", "z-score across assets at the bar", span=1))
register_op(Op("cross_rank", "cross_rank", "rank across assets at the bar", span=1))
register_op(Op("cross_attention", "cross_attention", "attention across assets at the bar", span=1))
register_op(
    Op(
        "correlation",
        "correlation",
        f"other assets, weighed by correlation over {CORRELATION_BARS} bars",
        span=CORRELATION_BARS,
    )
)
register_op(Op("lead_lag", "lead_lag", f"the leading asset, 1 to {MOST_LAG_BARS} bars before", span=MOST_LAG_BARS))

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
