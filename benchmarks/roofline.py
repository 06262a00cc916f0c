"""`python -m benchmarks.roofline`: what a search step must compute and move, against what this core can do.

Operations of matrix products and of attention are counted exactly; what an operator moves is the size of what it reads and writes, and
what a compiled cell moves is what it keeps, once there and once back. The core's peaks are measured in the same
run: a large product, a product of the step's own shape, and a copy inside the second-level cache, where a step's tensors live. Floor =
operations at the narrow product's rate + bytes at the copy's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import nas.network.attention as attention
import nas.network.fused_cell as fused_cell
from benchmarks.speed_search import planted, run_of, seconds, space_of
from benchmarks.tables import say, table

VIEWS = (
    "view",
    "transpose",
    "expand",
    "permute",
    "slice",
    "t.",
    "select",
    "unbind",
    "split",
    "detach",
    "unsqueeze",
    "alias",
    "as_strided",
)


class Counted(TorchDispatchMode):
    """Calls, operations and bytes of everything torch does meanwhile; the kernels of attention count themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = str(function).removeprefix("aten.")
        if name.startswith(VIEWS):
            return out
        self.found["calls"] += 1
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        moved = sum(t.numel() * t.element_size() for t in tensors)
        if name.startswith(("mm", "addmm")):
            left, right = [t for t in args if isinstance(t, Tensor)][-2:]
            self.found["product operations"] += 2 * left.shape[0] * left.shape[1] * right.shape[1]
            self.found["product bytes"] += moved
            self.found["products"] += 1
        else:
            self.found["other bytes"] += moved
        return out


def of_cell(plan: fused_cell.FusedPlan, begins: Any, wanted: Any, bars: int, batch: int) -> Counter[str]:
    """Operations of the products and attentions of a cell's forward pass, or, with `wanted` (by input: is its gradient asked for), of
    its gradients: those that the result needs, not those of the kernels' whole blocks."""
    found: Counter[str] = Counter()
    edges, *_, attentions = plan.moving
    square = plan.channels * plan.channels

    def rows(source: int) -> int:
        return int(bars - begins[source]) * batch

    def ways(source: int) -> int:
        return 1 if wanted is None else 1 + int(source >= plan.inputs or wanted[source])

    for source, node, first, stop in edges:
        found["product operations"] += 2 * square * int(stop - first) * rows(plan.inputs + node) * ways(source)
    for edge, _, band, _ in attentions:
        source, node = edges[edge, 0], plan.inputs + edges[edge, 1]
        keys = min(rows(source), rows(node) + int(band - 1) * batch)
        found["product operations"] += 2 * 3 * square * keys * ways(source)
        found["attention operations"] += (2 if wanted is None else 4) * 2 * int(band) * plan.channels * rows(node)
    return found


def counted(step: Callable[[], object]) -> Counter[str]:
    """Of one call of `step`."""
    kernels = {name: getattr(attention, name) for name in ("_dots", "_blends", "_spreads")}
    cell = fused_cell.FusedCell
    forward, backward = cell.forward, cell.backward
    extra: Counter[str] = Counter()

    def counting(kernel: Any, name: str) -> Any:
        def run(first: Any, second: Any, out: Any, *rest: Any) -> None:
            band = out.shape[1] if name == "_dots" else first.shape[1]
            extra["attention operations"] += 2 * band * second.size
            kernel(first, second, out, *rest)

        return run

    def ahead(ctx: Any, plan: Any, *rest: Any) -> Any:
        out = forward(ctx, plan, *rest)
        _, _, _, begins, (bars, batch, _, _) = ctx.known
        extra.update(of_cell(plan, begins, None, bars, batch))
        extra["other bytes"] += sum(array.nbytes for array in ctx.kept[-1]) + out.nbytes
        return out

    def back(ctx: Any, *grads: Any) -> Any:
        plan, _, _, begins, (bars, batch, _, _) = ctx.known
        extra.update(of_cell(plan, begins, ctx.needs_input_grad[6 : 6 + plan.inputs], bars, batch))
        extra["other bytes"] += sum(array.nbytes for array in ctx.kept[-1])
        return backward(ctx, *grads)

    for name, kernel in kernels.items():
        setattr(attention, name, counting(kernel, name))
    cell.forward, cell.backward = staticmethod(ahead), staticmethod(back)  # type: ignore[method-assign, assignment]
    try:
        with Counted() as mode:
            step()
    finally:
        cell.forward, cell.backward = staticmethod(forward), staticmethod(backward)  # type: ignore[method-assign]
        for name, kernel in kernels.items():
            setattr(attention, name, kernel)
    return mode.found + extra


def peaks(least_s: float, rows: int, inner: int, columns: int) -> dict[str, float]:
    """GFLOP/s of a large product and of one of these sizes, GB/s of a copy in the second-level cache; one core."""
    big, narrow = torch.randn(1024, 1024), (torch.randn(rows, inner), torch.randn(inner, columns))
    source, target = torch.randn(64_000), torch.empty(64_000)
    return {
        "large product": 2 * 1024**3 / seconds(lambda: big @ big, least_s) / 1e9,
        "narrow product": 2 * rows * inner * columns / seconds(lambda: narrow[0] @ narrow[1], least_s) / 1e9,
        "copy": 2 * source.nbytes / seconds(lambda: target.copy_(source), least_s) / 1e9,
        "call": 1e6 * seconds(lambda: torch.empty(8).add_(1.0), least_s),
    }


def main(least: Annotated[float, typer.Option(help="Seconds of each measurement.")] = 1.0) -> None:
    """The default step and that of `quick`: operations, bytes, floor, time."""
    torch.set_num_threads(1)
    rates = peaks(least, 4 * 364, 6 * 16, 2 * 16)
    say(
        f"This core: {rates['large product']:.0f} GFLOP/s in a product of 1024^3, {rates['narrow product']:.0f} in one of the step's "
        f"shape, {rates['copy']:.0f} GB/s in the second-level cache; a call of torch costs {rates['call']:.1f} microseconds at least."
    )
    rows = []
    for name, changes in (("2 nodes, 16 channels", {}), ("4 nodes of two inputs", {"nodes": 4, "cell_inputs": 2})):
        run = run_of(space_of(**changes), planted())
        train, validation = run.batches(run.train_bars)[0], run.batches(run.validation_bars)[0]

        def step(run: Any = run, train: Any = train, validation: Any = validation) -> None:
            run.alpha_step(validation, train)
            run.weight_step(train)

        step()
        found, spent = counted(step), 1e3 * seconds(step, least)
        products = found["product operations"] / rates["narrow product"] / 1e6
        attended = found["attention operations"] / rates["narrow product"] / 1e6
        moved = found["other bytes"] / rates["copy"] / 1e6
        calls = found["calls"] * rates["call"] / 1e3
        floor = products + attended + moved
        rows.append(
            [name, f"{found['product operations'] / 1e6:.0f} M", f"{found['attention operations'] / 1e6:.0f} M"]
            + [
                f"{found['other bytes'] / 1e6:.0f} MB",
                f"{found['calls']}",
                f"{products:.1f} + {attended:.1f} + {moved:.1f} ms",
            ]
            + [f"{calls:.1f} ms", f"{spent:.1f} ms", f"{spent / floor:.1f}x", f"{spent / (floor + calls):.1f}x"]
        )
    heads = [
        "step (alpha and weights)",
        "products",
        "attention",
        "moved",
        "calls",
        "floor",
        "calls at least",
        "measured",
        "over the floor",
    ]
    say(table([*heads, "with calls"], rows))


if __name__ == "__main__":
    typer.run(main)
