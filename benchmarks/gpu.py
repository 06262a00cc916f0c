"""`python -m benchmarks.gpu`: searches a second on the accelerator against one core of this machine, the same searches in turn.

Searches run side by side in `--streams` threads, each on a CUDA stream of its own: one search leaves an accelerator idle. Without an
accelerator nothing is measured, and that is said.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated

import torch
import typer

from benchmarks.speed_search import TRAIN, VALIDATION, planted, space_of
from benchmarks.tables import say, table
from nas.search.loop import search
from nas.search.settings import SearchSettings


def searches(count: int, streams: int, settings: SearchSettings) -> float:
    """Seconds by the clock for `count` searches of the planted market, seeds 0 to count - 1."""
    tensors, space = planted(), space_of()

    def one(seed: int) -> None:
        if settings.device == "cpu":
            search(space, tensors, TRAIN, VALIDATION, settings, seed)
            return
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            search(space, tensors, TRAIN, VALIDATION, settings, seed)

    began = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(one, range(count)))
    if settings.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main(
    count: Annotated[int, typer.Option(help="Searches on the accelerator.", min=1)] = 64,
    streams: Annotated[int, typer.Option(help="Of them at once.", min=1)] = 16,
    epochs: Annotated[int, typer.Option(help="Of a search.", min=1)] = 5,
) -> None:
    """Searches a second: one core, then the accelerator with one and with many at once."""
    if not torch.cuda.is_available():
        say("no accelerator here: not measured")
        return
    torch.set_num_threads(1)
    here = replace(SearchSettings(), epochs=epochs)
    there = replace(here, device="cuda")
    searches(1, 1, replace(there, epochs=1))  # its own start
    few = max(1, count // 16)
    rates = {
        "one core": few / searches(few, 1, here),
        "accelerator, one at a time": few / searches(few, 1, there),
        f"accelerator, {streams} at a time": count / searches(count, streams, there),
    }
    say(f"{torch.cuda.get_device_name()}: searches of {epochs} epochs a second")
    say(
        table(
            ["where", "searches/s", "ratio"],
            [[k, f"{v:.2f}", f"{v / rates['one core']:.1f}x"] for k, v in rates.items()],
        )
    )


if __name__ == "__main__":
    typer.run(main)
