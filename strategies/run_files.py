"""The files a run leaves behind (docs/architecture.md lists them), each written whole or not at all."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from data.atomic import write_atomically, write_text
from data.panel import Panel
from nas.stretches import Samples
from nas.tasks import model_of
from nas.windows import Window
from strategies.config import RunConfig
from strategies.provenance import package_versions
from strategies.trading import Book, long_table


def _parquet(path: Path, frame: pd.DataFrame, index: bool = False) -> None:
    write_atomically(path, lambda file: frame.to_parquet(file, index=index))


def write_run(
    folder: Path,
    config: RunConfig,
    panel: Panel,
    samples: Samples,
    windows: tuple[Window, ...],
    book: Book,
    timings: dict[str, float],
    code: str,
) -> None:
    first = next(iter(book.backtests.values()))
    start, stop = windows[0].test.start, windows[-1].test.stop
    stamps = pd.DatetimeIndex(first.timestamps)
    stamps = stamps if stamps.tz is not None else stamps.tz_localize("UTC")
    equity = pd.DataFrame({name: b.equity for name, b in book.backtests.items()}, index=stamps.rename("timestamp"))
    trades = pd.concat([b.trades for b in book.backtests.values()], ignore_index=True)
    _parquet(folder / "forecasts.parquet", book.forecasts)
    _parquet(
        folder / "positions.parquet",
        long_table(panel, start, stop, {n: b.positions for n, b in book.backtests.items()}, "position"),
    )
    _parquet(folder / "equity.parquet", equity, index=True)
    _parquet(folder / "trades.parquet", trades)
    _parquet(folder / "trials.parquet", book.trials)
    _parquet(folder / "trial_returns.parquet", book.trial_returns, index=True)

    def iso(bar: int) -> str:
        return str(pd.Timestamp(panel.timestamps[min(bar, len(panel) - 1)]).tz_localize("UTC").isoformat())

    def span(part: slice) -> dict[str, str]:
        return {"start": iso(part.start), "stop": iso(part.stop)}

    described = []
    for window, candidate in zip(windows, book.chosen, strict=True):
        contender = candidate.contender
        found = contender.found.report if contender.found is not None else {}
        described.append(
            {
                "window": window.number,
                "train": span(window.train),
                "validation": span(window.validation),
                "test": span(window.test),
                "purge_bars": window.purge_bars,
                "policy": "every",
                "searched": True,
                "variant": contender.variant,
                "seed": contender.seed,
                "threshold": candidate.threshold,
                **{k: found[k] for k in ("genotype", "architecture", "text", "weights", "history", "features")},
                "diagnostics": {
                    k: contender.trained.report[k]
                    for k in ("parameters", "receptive_field", "validation_loss", "validation_correlation")
                },
            }
        )
        spread = float(np.nanstd(contender.trained.stop_forecasts))
        extra = {
            "threshold": candidate.threshold,
            "horizons": list(config.horizon),
            "symbols": list(panel.assets),
            "code_version": code,
        }
        model_of(contender.trained, panel.interval_ns, spread, extra).save(folder / "models" / str(window.number))
    write_text(folder / "windows.json", json.dumps(described, indent=1) + "\n")
    regimes = []
    if panel.regimes is not None:
        edges = [0, *(np.flatnonzero(np.diff(panel.regimes)) + 1).tolist(), len(panel)]
        for a, b in itertools.pairwise(edges):
            regimes.append({"start": iso(a), "stop": iso(b), "name": panel.regime_names[int(panel.regimes[a])]})
    run = {
        "run_id": folder.name,
        "command": "python -m strategies.walkforward " + " ".join(sys.argv[1:]),
        "config": config.model_dump(mode="json"),
        "provenance": {
            "source": panel.source,
            "simulated": panel.simulated,
            "symbols": list(panel.assets),
            "interval": config.interval,
            "start": iso(0),
            "end": str(pd.Timestamp(panel.close_times[-1]).tz_localize("UTC").isoformat()),
            "bars": len(panel),
            "data_fingerprint": panel.fingerprint(),
            "code_version": code,
            "packages": package_versions(),
            "notes": [*panel.notes, *(f"no {name}: left out" for name in samples.bank.missing)],
        },
        "regimes": regimes,
        "timings": {k: round(v, 2) for k, v in timings.items()},
        "headline": book.headline,
        "costs": {"taker_fee_bps": config.taker_fee_bps, "slippage_bps": config.slippage_bps},
        "strategies": book.kinds,
    }
    write_text(folder / "run.json", json.dumps(run, indent=1) + "\n")
