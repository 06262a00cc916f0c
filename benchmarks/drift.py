"""`python -m benchmarks.drift`: false alarms in stationary markets and doublings of volatility found, for the drift policy's detectors."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from nas.tasks.drift import BLOCK_BARS, alarms, error_stream, volatility_stream

BARS = 2_000
REFERENCE_BARS = 600
CHANGE = 1_000


def garch(rng: np.random.Generator, bars: int, change: int | None = None) -> np.ndarray:
    """GARCH(1,1) returns with Student-t(5) shocks; volatility doubles at bar `change`."""
    from arch.univariate import GARCH, StudentsT, ZeroMean

    model = ZeroMean(None, volatility=GARCH(1, 0, 1), distribution=StudentsT(seed=rng))
    returns = model.simulate([0.04, 0.08, 0.88, 5.0], bars, burn=500)["data"].to_numpy().copy()
    if change is not None:
        returns[change:] *= 2.0
    return returns[:, None]


def measure(markets: int, seed: int = 0) -> dict[str, float]:
    """Share of doublings found within 500 bars, and false alarms per 2,000 stationary bars of both streams together."""
    rng = np.random.default_rng(seed)
    found = false = 0
    for _ in range(markets):
        quiet = garch(rng, REFERENCE_BARS + BARS)
        label = rng.standard_normal((REFERENCE_BARS + BARS, 1))
        forecast = 0.1 * label + 0.3 * rng.standard_normal(label.shape)
        for stream in (volatility_stream(quiet), error_stream(forecast, label)):
            cut = REFERENCE_BARS // BLOCK_BARS
            false += len({a.bar for a in alarms("", stream[:cut], stream[cut:], REFERENCE_BARS)})
        loud = volatility_stream(garch(rng, REFERENCE_BARS + CHANGE + 500, REFERENCE_BARS + CHANGE))
        cut = REFERENCE_BARS // BLOCK_BARS
        found += any(a.bar >= REFERENCE_BARS + CHANGE for a in alarms("", loud[:cut], loud[cut:], REFERENCE_BARS))
    return {"false_alarms_per_2000_bars": false / markets, "doublings_found": found / markets}


def main(markets: Annotated[int, typer.Option(help="Simulated markets.")] = 300) -> None:
    """Calibration of the drift policy's detectors; prints rates beside their targets."""
    figures = measure(markets)
    print(
        f"{markets} simulated GARCH markets (reference of 600 bars, then 2,000 stationary bars, or a doubling after 1,000):"
    )
    print(f"  false alarms per 2,000 bars: {figures['false_alarms_per_2000_bars']:.2f} (target: at most 1)")
    print(f"  doublings of volatility found within 500 bars: {figures['doublings_found']:.1%} (target: at least 80%)")


if __name__ == "__main__":
    typer.run(main)
