"""Does a variant find the op that made the data? `python -m benchmarks.recovery --seeds 20` fills the tables of docs/variants.md.

Data: two inputs, white noise or coloured (AR(1), 0.95: as persistent as a market's), through a random network of one node with one op, half
of the label's variance; the other half is noise. The search gets the default ops (and the op itself) on one edge; it recovers the op when
that is the one it chooses, by its relaxed weights alone or after the last round (`nas.search.finalists`): both are counted. `dense` on an
edge from the cell's input is an `identity` behind another stem, and the other way round: the same set of functions, so no data tell them
apart. Either counts as the other (`SAME`, held by a test); in brackets stands how often the op of that name was chosen. Everything
that is set is a key of a config file (`SETTINGS`). Collapse: the label comes from two convolutions in a row, so every
skip is wrong; what is counted is the share of skips among the chosen connections.

Every search is its own small file under --store: the command goes on where it was stopped, seed by seed, and the tables tell how
many seeds they rest on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

OPS = ("identity", "dense", "conv3", "dilated3", "ema4", "ema12", "ema36", "diff1", "attention", "gated", "maxpool6")
COLOURS = {"white": 0.0, "coloured": 0.95}  # autocorrelation of the inputs from bar to bar
#: op -> ops that are the same set of functions on an edge behind the linear stem: W (S x + b) = (W S) x + W b
SAME = {"identity": ("identity", "dense"), "dense": ("identity", "dense")}
COLLAPSE = "collapse"
# longer where the papers search longer than DARTS' 50 epochs or let alpha or single paths wait
EPOCHS = {"pc": 24, "fair": 24, "random-ws": 24, "gdas": 30, "progressive": 36}
SETTINGS: dict[str, Any] = {"finalists": 5, "search_batch": 2, "alpha_learning_rate": 0.05}
FIRST_SEED = 2_000  # seeds below served to choose settings, or were looked at before they stood
BARS, TRAIN, VALIDATION = 6_000, slice(200, 3_900), slice(4_100, 5_900)
BEGIN, END = "<!-- recovery: begin -->", "<!-- recovery: end -->"
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Trial:
    seed: int
    variant: str
    target: str  # an op, or `collapse`
    colour: str = "white"

    @property
    def file(self) -> str:
        return f"{self.seed:04d}-{self.variant}-{self.target}-{self.colour}.json"


def trials(variants: list[str], targets: list[str], seeds: int) -> Iterator[Trial]:
    """Seed by seed, so that a table stopped early has few seeds and no holes."""
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for variant in variants:
            for target in targets:
                for colour in COLOURS if target != COLLAPSE else ("white",):
                    yield Trial(seed, variant, target, colour)


def planted(target: str, seed: int, colour: str = "white") -> Any:
    """(tensors, features) of one asset and two inputs whose label the target made."""
    import numpy as np
    import torch

    from nas.network.model import network_of
    from nas.network.stretches import Tensors
    from nas.space.genotype import Connection, Genotype

    features = tuple((f"input{k}", ("raw",)) for k in range(2))
    nodes: tuple[tuple[Connection, ...], ...] = ((Connection(target, 0),),)
    if target == COLLAPSE:
        nodes = ((Connection("conv3", 0),), (Connection("conv3", 1),))
    teacher = network_of(Genotype(nodes, 4, 1, (1,), features), 1_000 + seed)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((1, 2, BARS))
    kept = COLOURS[colour]
    for t in range(1, BARS):
        noise[..., t] = kept * noise[..., t - 1] + (1.0 - kept**2) ** 0.5 * noise[..., t]
    x = torch.from_numpy(noise.astype(np.float32))
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            if "attention" in name or "gated0" in name:
                weight.mul_(3.0)  # a fresh attention or gate hardly differs from a mean; a trained one is sharp
        if target == COLLAPSE:
            teacher.head[:4] = 0.0  # only the second node is heard
        signal = teacher(x)[0, 0].double().numpy()
    label = (signal - signal.mean()) / signal.std() * 0.5**0.5 + rng.standard_normal(BARS) * 0.5**0.5
    y = torch.from_numpy(label.astype(np.float32))[None, None]
    return Tensors(x, y, torch.ones(1, 1, BARS)), features


def run(trial: Trial) -> dict[str, Any]:
    from nas.search.loop import search
    from nas.space.ops import DEFAULT_OPS, SKIPS
    from nas.space.search_space import SearchSpace
    from strategies.walkforward.config import RunConfig
    from strategies.walkforward.policies import Competition

    tensors, features = planted(trial.target, trial.seed, trial.colour)
    if trial.target == COLLAPSE:
        space = SearchSpace(
            ops=("zero", "identity", "skip", "conv3", "dilated3", "ema4"), nodes=2, channels=4, features=features
        )
    else:
        ops = DEFAULT_OPS if trial.target in DEFAULT_OPS else (*DEFAULT_OPS, trial.target)
        # PC-DARTS sends a quarter of 16 channels through the ops: as many as the others have
        space = SearchSpace(
            ops=ops, nodes=1, channels=4, features=features, search_channels=16 if trial.variant == "pc" else None
        )
    chosen_by = SETTINGS | {"search_epochs": EPOCHS.get(trial.variant, 20)}
    if trial.target == COLLAPSE:
        chosen_by["finalists"] = 1
    settings = replace(Competition.settings_of(RunConfig(**chosen_by))[0], diagnostics_every=0)
    began = time.process_time()
    result = search(space, tensors, TRAIN, VALIDATION, settings, trial.seed, variant=trial.variant)
    chosen = [c.op for node in result.genotype.nodes for c in node]
    right = f"node1 = {trial.target}(input)"
    return {
        "finalists": [[str(g), round(s, 6)] for g, s in result.finalists],
        "chosen": chosen,
        "recovered": result.text == right,
        "plain": str(result.finalists[0][0] if result.finalists else result.genotype) == right,
        "skips": sum(op in SKIPS for op in chosen) / len(chosen),
        "seconds": round(time.process_time() - began, 2),
    }


def found(target: str, result: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a search found the planted op, or one that is the same set of functions: in the end, and by the relaxed weights alone."""
    names = SAME.get(target, (target,))
    first = result["finalists"][0][0] if result["finalists"] else None
    plain = result["plain"] or first in [f"node1 = {name}(input)" for name in names]
    return result["recovered"] or result["chosen"] in [[name] for name in names], plain or (
        first is None and result["chosen"] in [[name] for name in names]
    )


def _cell(target: str, results: list[dict[str, Any]]) -> str:
    """17/20, and in brackets how many by name where others are the same functions."""
    if not results:
        return ""
    count, named = sum(found(target, each)[0] for each in results), sum(each["recovered"] for each in results)
    return f"{count}/{len(results)}" + (f" ({named})" if target in SAME else "")


def tables(store: Path, variants: list[str], targets: list[str], seeds: int) -> str:
    """Markdown of everything in `store`, whole seeds and begun ones alike, with the number of searches in every cell."""
    from nas.search.variants import VARIANTS

    done: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for trial in trials(variants, [*targets, COLLAPSE], seeds):
        if (store / trial.file).is_file():
            read = json.loads((store / trial.file).read_text())
            done.setdefault((trial.variant, trial.target, trial.colour), []).append(read)
    lines = [
        "| variant | inputs | " + " | ".join(targets) + " | all | by the relaxed weights alone |",
        "|---" * (len(targets) + 4) + "|",
    ]
    mistaken: dict[str, Counter[str]] = {}
    for variant in variants:
        for colour in COLOURS:
            cells = [done.get((variant, target, colour), []) for target in targets]
            every = [f for cell in cells for f in cell]
            if not every:
                continue
            row = [_cell(target, cell) for target, cell in zip(targets, cells, strict=True)]
            right = [found(target, f) for target, cell in zip(targets, cells, strict=True) for f in cell]
            shares = [f"{sum(each) / len(every):.0%}" for each in zip(*right, strict=True)]
            lines.append(f"| `{variant}` | {colour} | " + " | ".join([*row, *shares]) + " |")
            for target, cell in zip(targets, cells, strict=True):
                missed = ["+".join(f["chosen"]) for f in cell if not found(target, f)[0]]
                mistaken.setdefault(target, Counter()).update(missed)
    lines += ["", "Chosen instead (all variants together):", ""]
    for target, taken in mistaken.items():
        if taken:
            lines.append(f"- {target}: " + ", ".join(f"{name} {count}" for name, count in taken.most_common(4)))
    skips = {variant: done[variant, COLLAPSE, "white"] for variant in variants if (variant, COLLAPSE, "white") in done}
    if skips:
        lines += ["", "| variant | share of skips where every skip is wrong | searches |", "|---|---|---|"]
    for variant, cell in skips.items():
        share = sum(f["skips"] for f in cell) / len(cell)
        lines.append(f"| {VARIANTS[variant].title} (`{variant}`) | {share:.0%} | {len(cell)} |")
    return "\n".join(lines)


@app.command()
def main(
    seeds: Annotated[int, typer.Option(help="Searches per variant and op.")] = 20,
    variant: Annotated[str, typer.Option(help="Variants, comma separated; all by default.")] = "",
    op: Annotated[str, typer.Option(help="Ops to plant, comma separated.")] = ",".join((*OPS, COLLAPSE)),
    store: Annotated[Path, typer.Option(help="Folder of finished searches.")] = Path("benchmarks/results/recovery"),
    minutes: Annotated[float, typer.Option(help="Stop after so many minutes; the same command goes on.")] = 1e9,
    page: Annotated[Path, typer.Option(help="Page whose tables are written.")] = Path("docs/variants.md"),
    only_tables: Annotated[bool, typer.Option("--only-tables", help="Search nothing, write the tables.")] = False,
) -> None:
    """Run what is missing, then write the tables into the page."""
    import torch
    from rich.progress import track

    from data.atomic import write_text
    from nas.search.variants import VARIANTS, get_variant

    torch.set_num_threads(1)
    variants = [get_variant(v.strip()).name for v in variant.split(",") if v.strip()] or list(VARIANTS)
    targets = op.split(",")
    waiting = [t for t in trials(variants, targets, seeds) if not (store / t.file).is_file()]
    stop = time.monotonic() + 60 * minutes
    for trial in track([] if only_tables else waiting, "searching"):
        if time.monotonic() > stop:
            break
        write_text(store / trial.file, json.dumps(run(trial)))
    text = page.read_text() if page.is_file() else f"{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN)
    shown = tables(store, list(VARIANTS), list(OPS), seeds)
    write_text(page, head + BEGIN + "\n" + shown + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    app()
