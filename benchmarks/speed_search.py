"""How fast a search is, as ratios measured in one run: `python -m benchmarks.speed_search [--short]`.

Forecasts trained per second, one first-order step (alpha and weights) at a time, on one thread:
  folded       `nas.search.run` on stretches
  reference    the same network, every op by itself (`nas.network.reference`), on sliding windows
  per op       a supernet in the manner of public code (`benchmarks.per_op`), on sliding windows
then the validation loss each of the two extremes has reached after the same seconds of search, the cost of second order, of the
eigenvalue and of every variant, and how time and memory grow with cells and channels.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.per_op import PerOpSupernet
from benchmarks.tables import say, table
from nas.network.lean_torch import descend
from nas.network.losses import huber
from nas.network.reference import reference_forward
from nas.network.stretches import Tensors
from nas.search.run import Batch, SearchRun
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.search.variants import VARIANTS, get_variant
from nas.space.search_space import SearchSpace
from nas.tasks.memory import peak_mib

WINDOW, WINDOWS = 64, 64  # the sequence and batch of the field's public implementations
INPUTS, BARS = 8, 12_000
TRAIN, VALIDATION = slice(500, 8_000), slice(8_500, 11_900)


def space_of(**changes: int) -> SearchSpace:
    features = tuple((f"input{k}", ("raw",)) for k in range(INPUTS))
    return replace(SearchSpace(channels=16, features=features), **changes)  # type: ignore[arg-type]


def planted(seed: int = 0) -> Tensors:
    """Half of the label is the scaled product of an EMA of the first input and the last move of the second; the rest is noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((INPUTS, BARS)).astype(np.float32)
    slow = np.zeros(BARS)
    for t in range(1, BARS):
        slow[t] = (11 / 13) * slow[t - 1] + (2 / 13) * x[0, t]
    signal = slow / slow.std() + np.tanh(np.diff(x[1], prepend=0.0))
    y = signal / signal.std() * 0.7 + rng.standard_normal(BARS) * 0.7
    return Tensors(
        torch.from_numpy(x[None]), torch.from_numpy(y.astype(np.float32)[None, None]), torch.ones(1, 1, BARS)
    )


def run_of(space: SearchSpace, tensors: Tensors, variant: str = "darts", **changes: int) -> SearchRun:
    chosen = get_variant(variant)
    return SearchRun(
        space, tensors, ((TRAIN,), (VALIDATION,)), replace(SearchSettings(), **changes), 0, chosen, chosen.stages[0], None  # type: ignore[arg-type]
    )  # fmt: skip


def seconds(step: Callable[[], object], least_s: float) -> float:
    """Processor seconds per call: the fastest of three batches of calls."""
    step()
    began = time.process_time()
    step()
    calls = max(1, round(least_s / 3 / max(1e-6, time.process_time() - began)))
    found = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(calls):
            step()
        found.append((time.process_time() - began) / calls)
    return min(found)


class Windows:
    """Sliding windows of the planted market, drawn at random, with the label of their last bar."""

    def __init__(self, tensors: Tensors, window: int = WINDOW) -> None:
        self.x, self.y, self.window = tensors.x[0], tensors.y[0, 0], window
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, bars: slice, count: int = WINDOWS) -> tuple[Tensor, Tensor]:
        ends = torch.randint(bars.start, bars.stop, (count,), generator=self.generator).tolist()
        return torch.stack([self.x[:, t - self.window + 1 : t + 1] for t in ends]), self.y[ends]


class PerOpSearch:
    """First-order DARTS as public code writes it: Adam on alpha from one batch, SGD with momentum on weights from another."""

    def __init__(self, space: SearchSpace, tensors: Tensors, window: int = WINDOW) -> None:
        torch.manual_seed(0)
        self.windows = Windows(tensors, window)
        self.network = PerOpSupernet(space.ops, space.nodes, space.channels, INPUTS, window)
        self.alphas = (1e-3 * torch.randn(len(space.edges), len(space.ops))).requires_grad_()
        self.alpha = torch.optim.Adam([self.alphas], lr=2e-2, betas=(0.5, 0.999), weight_decay=1e-3)
        self.weights = torch.optim.SGD(self.network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)

    def loss(self, bars: slice) -> Tensor:
        x, y = self.windows.draw(bars)
        return torch.nn.functional.huber_loss(self.network(x, self.alphas), y)

    def step(self) -> None:
        self.alpha.zero_grad()
        self.loss(VALIDATION).backward()  # type: ignore[no-untyped-call]
        self.alpha.step()
        self.weights.zero_grad()
        self.loss(TRAIN).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.weights.step()

    @torch.no_grad()
    def validation(self) -> float:
        self.network.eval()
        ends = range(VALIDATION.start, VALIDATION.stop, 4)
        x = torch.stack([self.windows.x[:, t - WINDOW + 1 : t + 1] for t in ends])
        out = self.network(x, self.alphas)
        self.network.train()
        return float(torch.nn.functional.huber_loss(out, self.windows.y[list(ends)]))


class ReferenceSearch:
    """Our own network, one op at a time, on windows: the specification as a way to search."""

    def __init__(self, space: SearchSpace, tensors: Tensors, window: int) -> None:
        self.windows, self.run = Windows(tensors, window), run_of(space, tensors)

    def loss(self, architecture: Architecture, bars: slice) -> Tensor:
        network = self.run.network
        x, y = self.windows.draw(bars)
        mix = architecture.mix()
        hidden = x.permute(2, 0, 1) @ (network.stem * mix.columns[:, None]) + network.stem_bias
        out = (reference_forward(network.cells[0], hidden, mix.ops)[-1] @ network.head + network.head_bias)[:, 0]  # type: ignore[arg-type]
        return huber(out[:, None, None], y[:, None, None], torch.ones(len(y), 1, 1))

    def step(self) -> None:
        run = self.run
        gradients = torch.autograd.grad(self.loss(run.architecture, VALIDATION), run.alphas, allow_unused=True)
        for parameter, gradient in zip(run.alphas, gradients, strict=True):
            parameter.grad = gradient
        run.alpha.step()
        descend(run.weights, run.learned, self.loss(run.architecture, TRAIN), 1.0)


def forecasts_per_second(tensors: Tensors, least_s: float, nodes: int) -> None:
    """Folded stretches against windows of 64 bars, as public code has them, and of the receptive field, which is what makes
    a window's forecast the one that the stretch gives."""
    space = space_of(nodes=nodes)
    field = space.receptive_field
    say(f"forecasts trained per second of one core, cell of {nodes} nodes and {len(space.edges)} edges")
    found: dict[str, float] = {}
    for length, batch in ((256, 4), (512, 2), (1_024, 1), (1_024, 4), (4_096, 1)):
        run = run_of(space, tensors, length=length, batch=batch)
        train, validation = run.batches(run.train_bars)[0], run.batches(run.validation_bars)[0]

        def step(run: SearchRun = run, train: Batch = train, validation: Batch = validation) -> None:
            run.alpha_step(validation, train)
            run.weight_step(train)

        found[f"folded, {batch} x {length} bars"] = train[1].shape[0] * train[1].shape[2] / seconds(step, least_s)
    default, best = found["folded, 4 x 256 bars"], max(found.values())
    for window in (WINDOW, field):
        found[f"reference path, windows of {window}"] = WINDOWS / seconds(
            ReferenceSearch(space, tensors, window).step, least_s
        )
        found[f"per op, windows of {window}"] = WINDOWS / seconds(PerOpSearch(space, tensors, window).step, least_s)
    rows = [[name, f"{rate:,.0f}", f"{default / rate:.1f}x", f"{best / rate:.1f}x"] for name, rate in found.items()]
    say(table(["way", "forecasts/s", "the default is", "the best is"], rows))


def loss_over_time(tensors: Tensors, limit_s: float) -> None:
    """Validation loss of the supernet after the same processor seconds; evaluations are not counted."""
    say("validation loss after the same seconds of search (planted signal: 0.5 of the variance is noise)")
    marks = [limit_s * 2.0**-k for k in range(6, -1, -1)]
    run = run_of(space_of(), tensors, epochs=10_000, alpha_warmup_epochs=0)
    slow = PerOpSearch(space_of(), tensors)
    curves: dict[str, list[float]] = {"folded": [], "per op": []}

    def folded_steps() -> Callable[[], None]:
        state: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {"train": [], "validation": []}

        def step() -> None:
            for name, bars in (("train", run.train_bars), ("validation", run.validation_bars)):
                if not state[name]:
                    state[name] = run.batches(bars)
            batch = state["train"].pop()
            run.alpha_step(state["validation"].pop(), batch)
            run.weight_step(batch)

        return step

    for name, step, judge in (
        ("folded", folded_steps(), lambda: run.validation(run.architecture.mix())[0]),
        ("per op", slow.step, slow.validation),
    ):
        spent = 0.0
        for mark in marks:
            while spent < mark:
                began = time.process_time()
                step()
                spent += time.process_time() - began
            curves[name].append(judge())
    rows = [[name, *(f"{value:.4f}" for value in curve)] for name, curve in curves.items()]
    say(table(["seconds", *(f"{mark:.2f}" for mark in marks)], rows))


def orders_and_variants(tensors: Tensors, least_s: float, names: list[str]) -> None:
    say("one step (alpha and weights), milliseconds of one core")
    base, rows = 0.0, []
    for name in names:
        run = run_of(space_of(), tensors, name)
        train, validation = run.batches(run.train_bars)[0], run.batches(run.validation_bars)[0]

        def step(run: SearchRun = run, train: Batch = train, validation: Batch = validation) -> None:
            if run.variant.order:
                run.alpha_step(validation, train)
            run.weight_step(train)

        spent = seconds(step, least_s)
        base = base or spent
        rows.append([name, f"{1e3 * spent:.2f}", f"{spent / base:.2f}x"])
    say(table(["variant", "ms", "times the first"], rows))
    run = run_of(space_of(), tensors, epochs=1_000)
    run.settings = replace(run.settings, diagnostics_every=0)
    run.epoch(500, 500, 1_000)
    plain = seconds(lambda: run.epoch(500, 500, 1_000), least_s)
    run.settings = replace(run.settings, diagnostics_every=5)
    run.eigenvalue()
    watched = seconds(run.eigenvalue, least_s) / 5
    say(f"eigenvalue, every 5th epoch: {watched / (plain + watched):.1%} of a search's time")


def growth(cells: int, channels: int, least_s: float) -> tuple[float, float]:
    """(milliseconds per step, MiB of peak memory) in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed_search",
        "--one",
        str(cells),
        str(channels),
        "--least",
        str(least_s),
    ]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1])


def grown(cells: int, channels: int, least_s: float) -> None:
    run = run_of(space_of(cells=cells, channels=channels), planted())
    train, validation = run.batches(run.train_bars)[0], run.batches(run.validation_bars)[0]

    def step() -> None:
        run.alpha_step(validation, train)
        run.weight_step(train)

    spent = seconds(step, least_s)
    say(f"{1e3 * spent} {peak_mib()}")


def fitted(values: dict[int, float]) -> float:
    """The power with which a figure grows, by least squares on logarithms."""
    x, y = np.log(list(values)), np.log(list(values.values()))
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--least", type=float, default=1.5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        grown(*given.one, given.least)
        return
    least = 0.5 if given.short else given.least
    tensors = planted()
    for nodes in (2, 4):
        forecasts_per_second(tensors, least, nodes)
    loss_over_time(tensors, 4.0 if given.short else 20.0)
    order = ["darts", "darts-2nd", "darts-2nd-exact"]
    rest = [] if given.short else [name for name in VARIANTS if name not in order and not VARIANTS[name].scratch]
    orders_and_variants(tensors, least, order + rest)
    sizes = ((1, 2), (8, 32)) if given.short else ((1, 2, 4, 8), (8, 16, 32, 64))
    say("growth of a step and of peak memory (torch itself included)")
    rows = []
    for name, values in zip(("cells", "channels"), sizes, strict=True):
        figures = {v: growth(*((v, 16) if name == "cells" else (1, v)), least) for v in values}
        rows += [[f"{v} {name}", f"{ms:.1f} ms", f"{mib:.0f} MiB", ""] for v, (ms, mib) in figures.items()]
        rows[-1][-1] = f"{name}^{fitted({v: ms for v, (ms, _) in figures.items()}):.2f}"
    say(table(["size", "step", "memory", "time grows as"], rows))


if __name__ == "__main__":
    main()
