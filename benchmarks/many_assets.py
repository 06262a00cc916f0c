"""How time and memory of a search grow with the number of assets, on simulated markets.

    python -m benchmarks.many_assets --assets 10,25,50,100

Each measurement runs in a process of its own on one core: a search of a few epochs with all ops (those on one asset and those across
assets; the first symbol leads the second, so that lead-lag and the last round take part), training of its genotype, forecasts of the
stop stretch. Printed, the least of `--repeats`: processor seconds by stage, peak memory beyond that of a small search before, and how
both grow: the power with which they follow the number of assets (slope of the logarithms; 1 is linear) and the ratio of a count to the
smallest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Annotated

import numpy as np
import torch
import typer

from data.simulated import KNOWN_SYMBOLS, MarketRecipe, simulate
from nas.network.model import forecast_sequence, network_of
from nas.network.stretches import Samples, Scaler, Tensors
from nas.network.training import TrainingSettings, train
from nas.search.loop import search
from nas.search.settings import SearchSettings
from nas.space.ops import ACROSS_OPS, DEFAULT_OPS
from nas.space.search_space import SearchSpace
from nas.tasks.memory import peak_mib

START = np.datetime64("2023-01-01", "ns")
FEATURES = {"return": ("raw", "ewm32"), "volume": ("log>zscore24",), "volatility": ("log>diff24",)}
# strong enough to pass the test of the evidence on a thousand bars among the pairs of a hundred assets
RECIPE = MarketRecipe(lead_lag_bars=3, lead_lag_strength=0.5)
STAGES = ("features", "search", "training", "forecasts")


def symbols(count: int) -> list[str]:
    known = list(KNOWN_SYMBOLS)
    return (known + [f"COIN{k}USDT" for k in range(count)])[:count]


def measure(assets: int, bars: int, epochs: int, without: tuple[str, ...]) -> dict[str, float]:
    """Processor seconds by stage and MiB beyond the peak of the libraries, compiled kernels and the smallest of searches."""
    torch.set_num_threads(1)
    _work(2, 800, 1, without, channels=4, length=16)
    base = peak_mib()
    stages = _work(assets, bars, epochs, without)
    return {"seconds": sum(stages.values()), "mib": peak_mib() - base, **stages}


def _work(
    assets: int, bars: int, epochs: int, without: tuple[str, ...], channels: int = 16, length: int = 256
) -> dict[str, float]:
    panel = simulate(symbols(assets), "60", start=START, end=START + np.timedelta64(bars, "h"), recipe=RECIPE)
    clock = [time.process_time()]
    samples = Samples.of(panel, (6,), FEATURES)
    train_bars, validation = slice(200, bars * 2 // 3), slice(bars * 2 // 3 + 230, bars - 10)
    tensors = Tensors.of(samples, Scaler.fit(samples.bank.values, train_bars), together=True)
    clock.append(time.process_time())
    ops = tuple(op for op in (*DEFAULT_OPS, *ACROSS_OPS) if op not in without)
    space = SearchSpace(ops=ops, channels=channels, horizons=(6,), assets=panel.assets).with_features(FEATURES)
    settings = SearchSettings(epochs=epochs, alpha_warmup_epochs=0, finalist_epochs=epochs, length=length)
    found = search(space, tensors, train_bars, validation, settings, 0)
    clock.append(time.process_time())
    network = network_of(found.genotype, 0)
    part = tensors.only(samples.columns(found.genotype.features).tolist())
    train(network, part, train_bars, validation, TrainingSettings(epochs=epochs), 0)
    clock.append(time.process_time())
    forecast_sequence(network, part.x.numpy(), validation.start, validation.stop)
    clock.append(time.process_time())
    return {name: b - a for name, a, b in zip(STAGES, clock, clock[1:], strict=False)}


def power(counts: list[int], values: list[float]) -> float:
    """With which `values` follow `counts`: the slope of their logarithms by least squares."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def show(rows: dict[int, dict[str, float]], smallest: int, largest: int) -> None:
    """The growth between two counts, both included."""
    counts = [n for n in sorted(rows) if smallest <= n <= largest]
    for title, name in (("time", "seconds"), ("memory", "mib")):
        values = [rows[n][name] for n in counts]
        print(
            f"{title:<6} {counts[0]} to {counts[-1]} assets ({counts[-1] / counts[0]:.1f} times): {values[-1] / values[0]:.2f} times, "
            f"assets^{power(counts, values):.2f}"
        )


def main(
    assets: Annotated[str, typer.Option(help="Counts, comma separated.")] = "10,25,50,100",
    bars: Annotated[int, typer.Option(help="Hourly bars.")] = 1_500,
    epochs: Annotated[int, typer.Option(help="Of the search; every fifth measures the eigenvalue.")] = 5,
    repeats: Annotated[int, typer.Option(help="Runs per count; the least counts.")] = 3,
    without: Annotated[str, typer.Option(help="Ops to leave out, comma separated.")] = "",
    one: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    if one:
        print(json.dumps(measure(one, bars, epochs, tuple(without.split(",")))))
        return
    counts = sorted(int(n) for n in assets.split(","))
    print("assets  seconds  features  search  training  forecasts  memory MiB  s/asset  MiB/asset")
    rows: dict[int, dict[str, float]] = {}
    for n in counts:
        command = [sys.executable, "-m", "benchmarks.many_assets", "--one", str(n), "--bars", str(bars)]
        command += ["--epochs", str(epochs), "--without", without]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(repeats)
        ]
        row = rows[n] = {name: min(run[name] for run in runs) for name in runs[0]}
        print(
            f"{n:>6} {row['seconds']:>8.1f} {row['features']:>9.2f} {row['search']:>7.1f} {row['training']:>9.1f} "
            f"{row['forecasts']:>10.2f} {row['mib']:>11.0f} {row['seconds'] / n:>8.3f} {row['mib'] / n:>10.1f}",
            flush=True,
        )
    for largest in counts[1:]:
        show(rows, counts[0], largest)


if __name__ == "__main__":
    typer.run(main)
