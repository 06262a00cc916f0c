"""How time and memory of a search grow with the number of assets, on simulated markets.

    python -m benchmarks.many_assets --assets 2,5,10,25,50

Each count runs in a process of its own: one epoch of a search with all ops across assets, one epoch of training its genotype, forecasts of
the stop stretch. Printed: seconds, peak memory beyond the libraries', both per asset; growth is linear where the last columns stay level.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Annotated

import numpy as np
import torch
import typer

from data.simulated import KNOWN_SYMBOLS, simulate
from nas.network import forecast_sequence, network_of
from nas.ops import ACROSS_OPS, DEFAULT_OPS
from nas.search import search
from nas.search_settings import SearchSettings
from nas.space import SearchSpace
from nas.stretches import Samples, Scaler, Tensors
from nas.training import TrainingSettings, train

START = np.datetime64("2023-01-01", "ns")
FEATURES = {"return": ("raw", "ewm32"), "volume": ("log>zscore24",), "volatility": ("log>diff24",)}


def symbols(count: int) -> list[str]:
    known = list(KNOWN_SYMBOLS)
    return (known + [f"COIN{k}USDT" for k in range(count)])[:count]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(assets: int, bars: int) -> dict[str, float]:
    """Seconds and MB (peak beyond what the libraries and a first small search took)."""
    torch.set_num_threads(1)
    _work(2, 1_200)  # compiles kernels, loads libraries
    base, began = peak_mb(), time.perf_counter()
    parts = _work(assets, bars)
    return {"assets": assets, "seconds": time.perf_counter() - began, "mb": peak_mb() - base, **parts}


def _work(assets: int, bars: int) -> dict[str, float]:
    clock = [time.perf_counter()]
    panel = simulate(symbols(assets), "60", start=START, end=START + np.timedelta64(bars, "h"))
    samples = Samples.of(panel, (6,), FEATURES)
    train_bars, validation = slice(200, bars * 2 // 3), slice(bars * 2 // 3 + 230, bars - 10)
    tensors = Tensors.of(samples, Scaler.fit(samples.bank.values, train_bars), together=True)
    clock.append(time.perf_counter())
    space = SearchSpace(ops=(*DEFAULT_OPS, *ACROSS_OPS), horizons=(6,), assets=panel.assets).with_features(FEATURES)
    settings = SearchSettings(epochs=1, alpha_warmup_epochs=0)
    found = search(space, tensors, train_bars, validation, settings, 0)
    clock.append(time.perf_counter())
    network = network_of(found.genotype, 0)
    columns = samples.columns(found.genotype.features)
    train(network, tensors.only(columns.tolist()), train_bars, validation, TrainingSettings(epochs=1), 0)
    clock.append(time.perf_counter())
    forecast_sequence(network, tensors.only(columns.tolist()).x.numpy(), validation.start, validation.stop)
    clock.append(time.perf_counter())
    names = ("features", "search", "training", "forecasts")
    return {name: b - a for name, a, b in zip(names, clock, clock[1:], strict=False)}


def main(
    assets: Annotated[str, typer.Option(help="Counts, comma separated.")] = "2,5,10,25,50",
    bars: Annotated[int, typer.Option(help="Hourly bars.")] = 3_000,
    one: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    if one:
        print(json.dumps(measure(one, bars)))
        return
    print("assets  seconds  features  search  training  forecasts  memory MB  s/asset  MB/asset")
    for count in assets.split(","):
        command = [sys.executable, "-m", "benchmarks.many_assets", "--one", count, "--bars", str(bars)]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        n = row["assets"]
        print(
            f"{n:>6.0f} {row['seconds']:>8.1f} {row['features']:>9.2f} {row['search']:>7.1f} {row['training']:>9.1f} "
            f"{row['forecasts']:>10.2f} {row['mb']:>10.0f} {row['seconds'] / n:>8.3f} {row['mb'] / n:>9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
