"""`python -m benchmarks.gpu`: searches a second on the accelerator against one core of this machine, the same searches in turn.

On the accelerator they run one at a time, then as one stack (`nas.search.stacked`): plain, with products in bfloat16, and with the
steps as CUDA graphs besides. Without an accelerator that is not measured, and said. What a processor can tell is told in any case: the
memory a search of a stack takes, and what a stack of eight costs one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
import typer

from benchmarks.speed_search import TRAIN, VALIDATION, planted, run_of, space_of
from benchmarks.tables import say, table
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.search.stack import Stack
from nas.search.stacked import Member, bytes_of, search_stacked
from nas.space.search_space import SearchSpace

EIGHT = 8
SIZES = {  # what -> (channels, nodes, bars of a stretch, stretches per step)
    "1 node, 4 channels, 1 x 64 bars": (4, 1, 64, 1),
    "2 nodes, 4 channels, 1 x 64 bars": (4, 2, 64, 1),
    "2 nodes, 16 channels, 4 x 256 bars": (16, 2, 256, 4),
}


def one_by_one(space: SearchSpace, settings: SearchSettings, count: int) -> None:
    """Searches of the planted market, seeds 0 to count - 1."""
    tensors = planted()
    for seed in range(count):
        search(space, tensors, TRAIN, VALIDATION, settings, seed)


def stacked(space: SearchSpace, settings: SearchSettings, count: int, mixed: bool, replayed: bool) -> None:
    """The same as one stack."""
    tensors = planted()
    members = [Member(tensors, TRAIN, VALIDATION, seed) for seed in range(count)]
    search_stacked(space, members, settings, mixed=mixed, replayed=replayed)


def seconds(job: Callable[[], None], clock: Callable[[], float]) -> float:
    """Of one call."""
    began = clock()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


def on_a_core(pairs: int) -> None:
    """Eight searches one after the other and as a stack, in turn: the least processor seconds of `pairs` pairs."""
    rows = []
    for name, (channels, nodes, length, batch) in SIZES.items():
        space = space_of(channels=channels, nodes=nodes)
        settings = replace(SearchSettings(), epochs=1, length=length, batch=batch, fraction=0.2 if batch == 1 else 1.0)
        jobs = (
            lambda s=space, c=settings: one_by_one(s, c, EIGHT),
            lambda s=space, c=settings: stacked(s, c, EIGHT, False, False),
        )
        for job in jobs:
            job()  # its own start
        turns = [[seconds(job, time.process_time) for job in jobs] for _ in range(pairs)]
        alone, together = (min(turn[k] for turn in turns) for k in (0, 1))
        stack = Stack([run_of(space, planted(), length=length, batch=batch)])
        kept = bytes_of(stack)
        rows.append(
            [name, f"{alone / EIGHT * 1e3:.0f} ms", f"{together / EIGHT * 1e3:.0f} ms", f"{together / alone:.2f}x"]
            + [f"{kept[part] / 2**10:,.0f} KiB" for part in ("weights", "step")]
        )
    say("a search of one epoch on one core, and the memory that one of a stack takes")
    say(table(["searches", "alone", "in a stack of 8", "ratio", "weights, moments", "graph of a step"], rows))


def on_an_accelerator(count: int, epochs: int) -> None:
    """Searches a second: one core, then the accelerator with one and with all at once."""
    here, space = replace(SearchSettings(), epochs=epochs), space_of()
    there = replace(here, device="cuda")
    few = max(1, count // 16)
    ways: dict[str, tuple[int, Callable[[], None]]] = {
        "one core": (few, lambda: one_by_one(space, here, few)),
        "accelerator, one at a time": (few, lambda: one_by_one(space, there, few)),
        f"accelerator, a stack of {count}": (count, lambda: stacked(space, there, count, False, False)),
        "  products in bfloat16": (count, lambda: stacked(space, there, count, True, False)),
        "  and steps as CUDA graphs": (count, lambda: stacked(space, there, count, True, True)),
    }
    one_by_one(space, replace(there, epochs=1), 1)  # its own start
    rows, base = [], 0.0
    for name, (searched, job) in ways.items():
        try:
            rate = searched / seconds(job, time.perf_counter)
        except RuntimeError as error:
            rows.append([name, f"failed: {str(error).splitlines()[0][:60]}", ""])
            continue
        base = base or rate
        rows.append([name, f"{rate:.2f}", f"{rate / base:.1f}x"])
    say(f"{torch.cuda.get_device_name()}: searches of {epochs} epochs a second")
    say(table(["where", "searches/s", "ratio"], rows))
    say(f"most memory: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


def main(
    count: Annotated[int, typer.Option(help="Searches on the accelerator, as one stack.", min=1)] = 64,
    epochs: Annotated[int, typer.Option(help="Of a search there.", min=1)] = 5,
    pairs: Annotated[int, typer.Option(help="Of measurements on a core.", min=1)] = 3,
) -> None:
    """What stacking searches is worth: on the accelerator, where there is one, and on a core."""
    torch.set_num_threads(1)
    on_a_core(pairs)
    if torch.cuda.is_available():
        on_an_accelerator(count, epochs)
    else:
        say("no accelerator here: not measured")


if __name__ == "__main__":
    typer.run(main)
