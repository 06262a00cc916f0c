"""A small synthetic run folder that keeps the contract of docs/architecture.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

KINDS = {"searched": "searched", "buy_and_hold": "benchmark", "sma_cross": "rule", "lstm": "network"}


def genotype(op: str = "ema16") -> dict[str, Any]:
    nodes = [
        [{"op": op, "source": 0, "weight": 0.6}, {"op": "conv3", "source": 0, "weight": 0.3}],
        [{"op": "difference", "source": 0, "weight": 0.4}, {"op": "dilated_conv5", "source": 1, "weight": 0.5}],
        [{"op": "attention", "source": 1, "weight": 0.7}, {"op": "identity", "source": 2, "weight": 0.2}],
    ]
    return {
        "cells": [{"inputs": 1, "nodes": nodes}],
        "channels": 16,
        "features": {"returns": "raw"},
        "horizons": [1, 24],
    }


def history(epochs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(epochs):
        sharp = epoch / max(1, epochs - 1)
        rows.append(
            {
                "epoch": epoch,
                "train_loss": 1.0 - 0.1 * sharp,
                "validation_loss": 1.0 - 0.05 * sharp + 0.01 * float(rng.normal()),
                "entropy": 1.6 * (1 - 0.7 * sharp),
                "eigenvalue": 0.1 + 0.2 * sharp,
                "gap": 0.02 * sharp,
                "forces": {"gradient": 2e-4, "decay": 1e-5 * epoch, "regulariser": 0.0, "price": 0.0}
                if epoch
                else None,
                "op_weights": [[0.2 + 0.5 * sharp, 0.4 - 0.2 * sharp, 0.4 - 0.3 * sharp]] * 2,
            }
        )
    return rows


def build_run(
    reports: Path,
    *,
    run_id: str = "synthetic",
    bars: int = 24 * 60,
    strategies: Sequence[str] = ("searched", "sma_cross", "lstm", "buy_and_hold"),
    symbols: Sequence[str] = ("BTCUSDT",),
    simulated: bool = True,
    windows: int = 3,
    trials: int = 12,
    seed: int = 0,
    optional: bool = True,
    equity: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write `reports/runs/<run_id>` and return it. `equity` replaces the curve of a strategy; `optional` off leaves out
    every file but run.json and equity.parquet."""
    rng = np.random.default_rng(seed)
    folder = reports / "runs" / run_id
    folder.mkdir(parents=True)
    opens = pd.date_range("2023-01-01", periods=bars, freq="h", tz="UTC")
    closes = opens + pd.Timedelta("1h")
    price = 20_000 * np.exp(np.cumsum(rng.normal(0.0, 0.006, bars)))
    curves = {}
    for k, name in enumerate(strategies):
        path = (
            price / price[0] if name == "buy_and_hold" else np.exp(np.cumsum(rng.normal(2e-5 * (1 - k), 0.003, bars)))
        )
        curves[name] = 10_000 * path
    curves |= equity or {}
    pd.DataFrame(curves, index=pd.DatetimeIndex(closes, name="timestamp")).to_parquet(folder / "equity.parquet")
    cuts = np.linspace(0, bars, windows + 1).astype(int)
    info = {
        "run_id": run_id,
        "command": "python -m strategies.walkforward --symbol BTCUSDT --preset quick",
        "config": {"preset": "quick", "seed": 0, "walkforward": {"train_bars": 2000, "policy": "every"}},
        "provenance": {
            "source": "simulated" if simulated else "bybit",
            "simulated": simulated,
            "symbols": list(symbols),
            "interval": "60",
            "start": "2022-06-01T00:00:00",
            "end": str(closes[-1]),
            "bars": bars + 4000,
            "data_fingerprint": "ab" * 32,
            "code_version": "0.1.0+test",
            "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
            "notes": ["funding simulated"],
        },
        "regimes": [
            {"start": str(opens[bars * k // 4]), "stop": str(opens[min(bars - 1, bars * (k + 1) // 4)]), "name": name}
            for k, name in enumerate(("trend", "mean reversion", "noise", "trend"))
        ]
        if simulated
        else [],
        "timings": {"search_s": 12.3, "training_s": 4.5, "backtest_s": 2.0},
        "headline": {"sharpe": 0.5},
        "change_points": [str(opens[bars // 3])],
        "break_even_bps": dict.fromkeys(strategies, 3.25) | {"buy_and_hold": None},
        "policies": [
            {
                "name": "every",
                "title": "search on every window",
                "strategy": "searched",
                "searches": windows,
                "windows": windows,
                "median_score": 1.25,
                "return": 0.1,
                "sharpe": 0.5,
                "trades": 10,
            }
        ],
        "costs": {"taker_fee_bps": 5.5, "slippage_bps": 1.0, "funding": True},
        "strategies": {
            name: {"kind": KINDS.get(name, "rule"), "title": name.replace("_", " "), "description": f"what {name} does"}
            for name in strategies
        },
    }
    (folder / "run.json").write_text(json.dumps(info))
    if not optional:
        return folder
    described = []
    for k in range(windows):
        start, stop = opens[cuts[k]], opens[cuts[k + 1] - 1]
        described.append(
            {
                "window": k,
                "searched": k != 1,
                "policy": "every",
                "variant": "darts",
                "seed": 0,
                "purge_bars": 96,
                "train": {"start": str(start - pd.Timedelta("90D")), "stop": str(start - pd.Timedelta("34D"))},
                "validation": {"start": str(start - pd.Timedelta("30D")), "stop": str(start - pd.Timedelta("4D"))},
                "test": {"start": str(start), "stop": str(stop)},
                "genotype": genotype(("ema16", "ema64", "conv7")[k % 3]),
                "history": history(12, rng),
                "weights": {"edges": [[0, 0], [1, 1]], "ops": ["ema16", "conv3", "identity"]},
                "decisions": {
                    "text": "Decided on 1 of 2 edges by 3 searches together: ema16; 1 of them are in the network.",
                    "claims": [
                        {"source": 0, "node": 0, "first": "ema16", "second": "conv3", "margin": 3.2, "decided": True},
                        {
                            "source": 1,
                            "node": 1,
                            "first": "conv3",
                            "second": "identity",
                            "margin": 0.4,
                            "decided": False,
                        },
                    ],
                },
                "sizes": [
                    {"cells": 1, "channels": 8, "validation_loss": 0.45123},
                    {"cells": 2, "channels": 32, "validation_loss": 0.45011},
                ],
                "policies": [
                    {"policy": "every", "searched": True, "source": k, "drift": []},
                    {
                        "policy": "drift",
                        "searched": k == 0,
                        "source": 0,
                        "drift": [
                            {"time": str(start + pd.Timedelta("3D")), "detector": "adwin", "stream": "volatility"}
                        ],
                    },
                ],
                "diagnostics": {
                    "supernet_loss": 0.95,
                    "discrete_loss": 0.97 + 0.01 * k,
                    "discretisation_gap": 0.02 + 0.01 * k,
                    "alarms": [str(start + pd.Timedelta("3D"))] if k else [],
                },
            }
        )
    (folder / "windows.json").write_text(json.dumps(described))
    candles, fills, held = [], [], []
    for n, asset in enumerate(symbols):
        path = price * (1 + 0.1 * n)
        candles.append(
            pd.DataFrame(
                {
                    "timestamp": opens,
                    "asset": asset,
                    "open": path,
                    "high": path * 1.004,
                    "low": path * 0.996,
                    "close": path * (1 + 0.002 * rng.normal(size=bars)),
                    "volume": 100.0,
                }
            )
        )
        for name in strategies:
            target = (
                np.ones(bars)
                if name == "buy_and_hold"
                else np.sign(np.sin(np.arange(bars) / (9 + len(name)) + n)) * 0.5
            )
            held.append(pd.DataFrame({"timestamp": closes, "asset": asset, "strategy": name, "position": target}))
            change = np.flatnonzero(np.diff(target, prepend=0.0))
            size = np.diff(target, prepend=0.0)[change] * 10_000 / path[change]
            fills.append(
                pd.DataFrame(
                    {
                        "timestamp": opens[change],
                        "strategy": name,
                        "asset": asset,
                        "kind": "fill",
                        "size": size,
                        "price": path[change],
                        "fee": np.abs(size) * path[change] * 5.5e-4,
                        "slippage": np.abs(size) * path[change] * 1e-4,
                        "funding": 0.0,
                    }
                )
            )
            settled = np.arange(8, bars, 8)
            fills.append(
                pd.DataFrame(
                    {
                        "timestamp": opens[settled],
                        "strategy": name,
                        "asset": asset,
                        "kind": "funding",
                        "size": 0.0,
                        "price": path[settled],
                        "fee": 0.0,
                        "slippage": 0.0,
                        "funding": rng.normal(0, 0.5, len(settled)),
                    }
                )
            )
    scenarios = [(m, 0) for m in (0.0, 1.0, 2.0, 4.0)] + [(1.0, 1)]
    rows = [
        (name, m, d, 0.1 - 0.05 * m - 0.02 * d, 1.0 - 0.5 * m - 0.2 * d) for name in strategies for m, d in scenarios
    ]
    columns = ["strategy", "cost_multiple", "delay_bars", "return", "sharpe"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "sensitivity.parquet")
    pd.concat(candles).to_parquet(folder / "candles.parquet")
    pd.concat(held).to_parquet(folder / "positions.parquet")
    pd.concat(fills).sort_values("timestamp", kind="stable").to_parquet(folder / "trades.parquet")
    days = pd.date_range(opens[0].floor("D"), closes[-1].floor("D"), freq="D", tz="UTC")
    if len(symbols) > 1:
        parts = [
            pd.DataFrame(
                {
                    "timestamp": days,
                    "strategy": name,
                    "asset": asset,
                    "profit": rng.normal(0, 20, len(days)),
                    "fees": 1.0,
                    "slippage": 0.2,
                    "funding": 0.1,
                    "traded": 1_000.0,
                    "exposure": 0.5 - 0.25 * n,
                    "worth": 10_000.0,
                }
            )
            for name in strategies
            for n, asset in enumerate(symbols)
        ]
        pd.concat(parts, ignore_index=True).to_parquet(folder / "contributions.parquet")
    ledger = [
        {
            "trial": t,
            "window": t % windows,
            "strategy": "searched" if t % 2 else "random",
            "kind": "searched" if t % 2 else "random",
            "variant": "darts",
            "architecture": f"a{t}",
            "seed": t % 4,
            "threshold": 0.1,
            "parameters": 5000 + t,
            "validation_loss": 1.0,
            "validation_correlation": 0.02 * float(rng.normal()),
            "validation_sharpe": float(rng.normal()),
            "selected": t < windows,
        }
        for t in range(trials)
    ]
    pd.DataFrame(ledger).to_parquet(folder / "trials.parquet")
    returns = pd.DataFrame(
        rng.normal(0, 0.01, (len(days), trials)),
        index=days,
        columns=[f"{('searched', 'policy:random')[t % 2]}/darts/seed{t}/threshold0.1" for t in range(trials)],
    )
    returns.to_parquet(folder / "trial_returns.parquet")
    return folder
