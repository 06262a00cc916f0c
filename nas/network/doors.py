"""What comes in from outside is tried before it is let in: an op or a network that reads ahead forecasts nothing.

A check computes values twice, once on a past with one future and once on the same past with another: everything up to the bar where they
part must be the same. In training as in use, since a batch norm over time reads ahead in training only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from data.errors import InputError
from nas.network.across import Leads, Market
from nas.network.cell import Cell, Edge
from nas.space.ops import MOST_LAG_BARS, OPS, Op, add_op

CHANNELS, ASSETS, CHECKED_BARS = 4, 3, 24
SAME = 1e-6  # in double precision, where the futures differ by hundreds


def register_op(op: Op) -> Op:
    """Make an op known to every search space, network and picture.

    Parameters
    ----------
    op : Op
        Of any kind; `module` for an nn.Module of one's own. Registering an equal one twice is no error.

    Raises
    ------
    InputError
        Where it reads ahead, looks back further than it says, or changes the shape of what it is given.
    ValueError
        Where another op has the name.

    Examples
    --------
    >>> from nas import Op, SearchSpace, register_op
    >>> _ = register_op(Op("diff24", "constant", "difference over 24 bars", lags=(0, 24), coefficients=(1.0, -1.0)))
    >>> SearchSpace(ops=("zero", "diff24"), nodes=1).receptive_field
    25
    """
    if OPS.get(op.name) == op:
        return op
    add_op(op)
    try:
        check_op(op)
    except InputError:
        del OPS[op.name]
        raise
    return op


def check_op(op: Op) -> None:
    """InputError where a registered op is not what a cell may hold: causal, as long-sighted as it says, the same at every bar."""
    what = f"op {op.name!r}"
    if op.kind == "module" and op.module is not None:
        try:
            shape = op.module(CHANNELS)(torch.zeros(op.span + 2, 2, CHANNELS)).shape
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0][:120]
            raise InputError(
                f"{what}: module({CHANNELS})(x) of x [time, batch, channel] failed with {type(error).__name__}: {reason}"
            ) from None
        if shape != (op.span + 2, 2, CHANNELS):
            raise InputError(
                f"{what}: x [{op.span + 2}, 2, {CHANNELS}] became {list(shape)}; a module keeps [time, batch, channel]"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cell = Cell([Edge(0, 0, (op.name,))], 1, CHANNELS).double()
    field = max(1, op.receptive_field)

    def values(x: Tensor) -> Tensor:
        market = Market(x.new_ones(len(x), 1, ASSETS)) if op.across else None
        out: Tensor = cell(x, market=market)
        return out

    if op.kind == "lead_lag":
        one = torch.ones(ASSETS, 1)
        cell.leads = {0: Leads(torch.tensor([[1], [2], [0]]), (one * MOST_LAG_BARS).long(), one.double())}
    check_past(what, cell, values, field + CHECKED_BARS, (ASSETS, CHANNELS), field)


def check_past(
    what: str,
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    bars: int,
    shape: tuple[int, ...],
    field: int | None = None,
) -> None:
    """InputError where `forward` of x [time, *shape] reads ahead, in training or in use.

    network: whose mode is switched. field: bars that a value may depend on; None where its memory has no sharp end.
    """
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(bars, *shape, generator=draw, dtype=torch.float64)
    other = 300.0 * torch.randn(bars, *shape, generator=draw, dtype=torch.float64)
    was = network.training

    @torch.no_grad()
    def seen(given: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)  # dropout leaves out the same elements
            return forward(given)

    def differ(a: Tensor, b: Tensor) -> bool:
        return not torch.allclose(a, b, rtol=SAME, atol=SAME, equal_nan=True)

    try:
        for training in (False, True):
            network.train(training)
            whole = seen(x)
            for t in {bars // 4, bars // 2, bars - 2}:
                if differ(seen(torch.cat([x[: t + 1], other[t + 1 :]]))[: t + 1], whole[: t + 1]):
                    when = "in training, not in use (a norm over time?)" if training else "in use"
                    raise InputError(
                        f"{what} reads ahead {when}: with other bars after bar {t} its values up to bar {t} change; "
                        f"value t may read bars up to t only"
                    )
        network.eval()
        whole = seen(x)
        if not torch.isfinite(whole).all():
            raise InputError(f"{what} gives NaN or infinite values for standard normal inputs")
        if field is not None:
            last = bars - 1
            begin = last - field + 1
            if differ(seen(torch.cat([other[:begin], x[begin:]]))[last], whole[last]):
                raise InputError(
                    f"{what} looks back further than the {field} bars that it says, by which stretches are purged; give a longer span"
                )
            if differ(seen(x[begin:])[-1], whole[last]):
                raise InputError(
                    f"{what} is not the same at every bar: its value depends on when the stretch begins, not only on the last {field} bars"
                )
    finally:
        network.train(was)
