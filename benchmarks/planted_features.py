"""`python -m benchmarks.planted_features`: does the search find the pipelines that made the labels, and drop an input of noise?

The label is z-score(24) of volume plus the change of funding plus noise; beside them stands an input that says nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from data.panel import Panel
from nas.features.bank import FeatureBank, build_bank
from nas.network.stretches import Samples, Scaler, Tensors
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace

TRUTH = {"volume": "log>zscore24", "funding_rate": "diff"}
NOISE = "noise"
CANDIDATES = {
    "volume": ("raw", "log>zscore24", "log>zscore168", "log>diff", "rank168"),
    "funding_rate": ("raw", "zscore168", "diff", "diff24"),
    NOISE: ("raw", "zscore24", "diff", "rank168"),
}
BARS = 6_000
TRAIN, VALIDATION = slice(400, 3_900), slice(4_100, BARS - 10)


def persistent(rng: np.random.Generator, bars: int, memory: float) -> np.ndarray:
    """AR(1) of unit variance."""
    out = np.empty(bars)
    state = rng.standard_normal()
    for t, shock in enumerate(rng.standard_normal(bars)):
        state = memory * state + np.sqrt(1.0 - memory * memory) * shock
        out[t] = state
    return out


def planted_bank(rng: np.random.Generator) -> FeatureBank:
    """Candidates of volume, funding and a persistent series of noise, the last passed through the funding rate's column."""
    log_volume = 12.0 + 0.8 * persistent(rng, BARS, 0.995) + 0.5 * persistent(rng, BARS, 0.7)
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(BARS) * np.timedelta64(3_600_000_000_000, "ns")

    def bank(funding: np.ndarray, choice: dict[str, tuple[str, ...]]) -> FeatureBank:
        values = {"close": np.full(BARS, 100.0), "volume": np.exp(log_volume) / 100.0, "funding_rate": funding}
        table = np.stack(list(values.values()), axis=-1)[:, None]
        return build_bank(Panel(stamps, ("A",), tuple(values), table, 3_600_000_000_000, "planted"), choice)

    told = bank(1e-4 * persistent(rng, BARS, 0.97), {k: v for k, v in CANDIDATES.items() if k != NOISE})
    idle = bank(1e-4 * persistent(rng, BARS, 0.9), {"funding_rate": CANDIDATES[NOISE]})
    return FeatureBank(
        (*told.inputs, NOISE),
        (*told.pipelines, *idle.pipelines),
        np.concatenate([told.values, idle.values], axis=1),
        max(told.warmup_bars, idle.warmup_bars),
    )


def planted(seed: int, share: float) -> Tensors:
    """share: part of the label's variance that each of the two true pipelines makes."""
    rng = np.random.default_rng(seed)
    bank = planted_bank(rng)
    label = np.sqrt(1.0 - 2.0 * share) * rng.standard_normal(BARS)
    for item in TRUTH.items():
        row = bank.values[0, bank.names.index(item)].astype(np.float64)
        label += np.sqrt(share) * np.nan_to_num((row - np.nanmean(row)) / np.nanstd(row))
    samples = Samples(None, bank, label[None, None], (1,))  # type: ignore[arg-type]  # nothing here reads the panel
    return Tensors.of(samples, Scaler.fit(bank.values, TRAIN))


def found(seed: int, share: float, settings: SearchSettings, variant: str = "darts") -> Genotype:
    """The genotype of one search."""
    space = SearchSpace(ops=("zero", "identity", "dense", "ema12"), nodes=1, channels=8).with_features(CANDIDATES)
    return search(space, planted(seed, share), TRAIN, VALIDATION, settings, seed, variant=variant).genotype


def verdict(genotype: Genotype) -> dict[str, bool]:
    """Per true input whether its pipeline was picked, and whether the noise was dropped."""
    chosen = dict(genotype.features)
    return {name: chosen.get(name) == pipeline for name, pipeline in TRUTH.items()} | {NOISE: NOISE not in chosen}


def main(
    seeds: Annotated[int, typer.Option(help="Markets, one search each.")] = 20,
    epochs: Annotated[int, typer.Option(help="Epochs of each search.")] = 50,
    share: Annotated[float, typer.Option(help="Part of the label's variance that each true pipeline makes.")] = 0.1,
    cost: Annotated[float | None, typer.Option(help="feature_cost of the search settings.")] = None,
    rate: Annotated[float | None, typer.Option(help="feature_learning_rate of the search settings.")] = None,
    variant: Annotated[str, typer.Option(help="Search variant.")] = "darts",
) -> None:
    """Rates over the seeds: true pipelines picked, noise dropped."""
    import torch
    from rich.progress import track

    torch.set_num_threads(1)
    settings = SearchSettings(epochs=epochs)
    settings = replace(settings, feature_cost=settings.feature_cost if cost is None else cost)
    settings = replace(settings, feature_learning_rate=settings.feature_learning_rate if rate is None else rate)
    rows = [verdict(found(seed, share, settings, variant)) for seed in track(range(seeds), "searching", transient=True)]
    for name in rows[0]:
        what = "dropped" if name == NOISE else f"{TRUTH[name]} picked"
        typer.echo(f"{name}: {what} in {np.mean([row[name] for row in rows]):.0%} of {seeds}")


if __name__ == "__main__":
    typer.run(main)
