"""Many searches of one space as one batch: seeds x windows advance together, every tensor with a leading axis of searches.

A small search leaves an accelerator idle: what counts there is how many calls a step takes, and a stack takes as many for all as one
search for itself. No search sees another: each draws from generators of its own what it draws alone, its gradient is clipped by its own
norm, its forces have their own size. `nas.search.stack` is how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from data.errors import InputError
from nas.network.lookback import LookbackSpace
from nas.network.stretches import Tensors
from nas.search.loop import REPEAT, Weights, best_of_repeats, check, racing, result_of, splits_of
from nas.search.result import SearchResult
from nas.search.run import SearchRun
from nas.search.settings import SearchSettings
from nas.search.stack import Rows, Stack
from nas.search.variants import Variant, get_variant
from nas.space.ops import OPS
from nas.space.search_space import SearchSpace


@dataclass(frozen=True, eq=False)
class Member:
    """One search of a stack: arguments of `nas.search.loop.search` that are its own."""

    tensors: Tensors
    train: slice | Sequence[slice]
    validation: slice | Sequence[slice]
    seed: int
    initial: tuple[Weights, Weights] | None = None


def why_alone(space: SearchSpace, variant: Variant) -> str | None:
    """Why searches of this kind cannot be stacked; None where they can.

    What can: first order or no order, one graph for all steps and all searches: darts, pc, fair, beta, sdarts, gdas, drnas, random-ws.
    """
    reasons = {
        "its second order takes steps of its own": variant.order == 2,
        "it perturbs against every network": variant.attack is not None,
        "it aligns cells step by step": variant.alignment > 0.0,
        "ops of one search stop before those of another": variant.gradient_stop is not None,
        "one search stops before another": variant.eigenvalue_stop is not None or variant.skip_stop is not None,
        "after a stage every search has other ops": len(variant.stages) > 1,
        "it trains as it chooses": variant.selection == "removal",
        "it has no supernet": variant.scratch,
        "networks that look back over a window are trained alone": isinstance(space, LookbackSpace),
        "assets are read together": space.together,
        "an op is a module of its own": any(OPS[name].module is not None for name in space.ops if name in OPS),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def signature(
    space: SearchSpace, train: slice | Sequence[slice], validation: slice | Sequence[slice], settings: SearchSettings
) -> tuple[tuple[int, ...], ...]:
    """What searches must share to be stacked, panel, settings and variant besides: how many bars their stretches hold."""
    parts = splits_of(space, train, validation, settings)
    return tuple(tuple(sorted(part.stop - part.start for part in each)) for each in parts)


def search_stacked(
    space: SearchSpace,
    members: Sequence[Member],
    settings: SearchSettings,
    *,
    variant: str = "darts",
    on_record: Callable[[int, dict[str, Any]], None] = lambda _member, _row: None,
    mixed: bool = False,
    replayed: bool = False,
) -> list[SearchResult]:
    """What `nas.search.loop.search` finds for every member, searched as one stack.

    Parameters
    ----------
    space, settings, variant
        As of `search`, the same for all.
    members : sequence of Member
        Of equal `signature`: windows of the same length, of the same panel or of panels as long, any seeds.
    on_record : callable
        (member, row of its history).
    mixed : bool
        Products in bfloat16 (autocast), sums, logits and optimisers in single precision.
    replayed : bool
        Steps as CUDA graphs: one launch each.

    Raises
    ------
    InputError
        For what `search` refuses, a variant or space that cannot be stacked (`why_alone`), and members of different size.

    Examples
    --------
    >>> import torch
    >>> from nas.network.stretches import Tensors
    >>> from nas.search.settings import SearchSettings
    >>> from nas.search.stacked import Member, search_stacked
    >>> from nas.space.search_space import SearchSpace
    >>> space = SearchSpace(channels=4, nodes=1, ops=("zero", "conv3", "ema12"), features=(("input", ("raw",)),))
    >>> x = torch.randn(1, 1, 600)
    >>> tensors = Tensors(x, x.roll(1, -1), torch.ones(1, 1, 600))
    >>> members = [Member(tensors, slice(60, 300), slice(380, 600), seed) for seed in (0, 1, 2)]
    >>> [len(found.history) for found in search_stacked(space, members, SearchSettings(epochs=2))]
    [2, 2, 2]
    """
    chosen = get_variant(variant)
    reason = why_alone(space, chosen)
    if reason is not None:
        raise InputError(f"searches of variant {variant} on this space cannot be stacked: {reason}; search one by one")
    settings = replace(settings, finalists=max(settings.finalists, chosen.finalists))
    sizes = [(m.tensors.x.shape, signature(space, m.train, m.validation, settings)) for m in members]
    if any(size != sizes[0] for size in sizes):
        raise InputError("searches of one stack read as many bars and assets each; stack those of equal windows")
    once = replace(settings, repeats=1, undecided="first") if settings.repeats > 1 else settings
    every = [(k, replace(m, seed=m.seed + REPEAT * n)) for k, m in enumerate(members) for n in range(settings.repeats)]
    runs = []
    for _, member in every:
        check(space, member.tensors, member.train, member.validation, chosen, settings)
        splits = splits_of(space, member.train, member.validation, settings)
        run = SearchRun(
            space, member.tensors, splits, once, member.seed, chosen, chosen.stages[0], racing(space, chosen, None)
        )
        if member.initial is not None:
            run.architecture.start_from(*member.initial)
        runs.append(run)
    stack = Stack(runs, mixed=mixed, replayed=replayed)
    history: list[Rows] = [[] for _ in runs]
    for epoch in range(settings.epochs):
        for place, row in enumerate(stack.epoch(epoch)):
            history[place].append(row)
            if place % settings.repeats == 0:
                on_record(every[place][0], row)
    found = [result_of(run, rows) for run, rows in zip(runs, history, strict=True)]
    if settings.repeats == 1:
        return found
    starts = range(0, len(found), settings.repeats)
    return [best_of_repeats(found[k : k + settings.repeats], settings, chosen) for k in starts]


def bytes_of(stack: Stack) -> dict[str, float]:
    """Bytes per search: what is held all the time, and what the graph of a step keeps beside it."""
    count = len(stack.runs)
    held = 4 * sum(p.numel() * p.element_size() for p in stack.weights.values())  # weight, gradient, two moments
    kept: dict[int, int] = {}

    def remember(part: Tensor) -> Tensor:
        kept[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
        return part

    batch = stack.batches([run.drawn()[1] for run in stack.runs])[0]
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda part: part):
        stack.losses([part.detach().to(stack.device) for part in stack.mixes()], batch)
    return {"weights": held / count, "step": sum(kept.values()) / count}
