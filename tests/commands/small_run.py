"""A walk-forward run that takes seconds: a small market in a file, short searches, through the command itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from docs.executed.place import SMALLEST, candles

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""{SMALLEST}baselines = ["linear"]
"""


def market(bars: int = 2_000) -> pd.DataFrame:
    """Candles as a user's file holds them, by their time."""
    table = candles(bars=bars).set_index("timestamp")
    return table.tz_localize("UTC")


def swinging_market(bars: int, seed: int) -> pd.DataFrame:
    """Candles with a signal that any search finds on any processor: a return is 0.8 of the one before, and a shock."""
    shocks = np.random.default_rng(seed).normal(0.0, 0.003, bars)
    returns = np.zeros(bars)
    for bar in range(1, bars):
        returns[bar] = 0.8 * returns[bar - 1] + shocks[bar]
    table = market(bars)
    table["close"] = 100.0 * np.exp(np.cumsum(returns))
    table["open"] = table["close"].shift(1, fill_value=100.0)
    table["high"] = table[["open", "close"]].max(axis=1) * 1.001
    table["low"] = table[["open", "close"]].min(axis=1) * 0.999
    return table


def command(folder: Path, *arguments: str) -> list[str]:
    config = folder / "small.toml"
    if not config.exists():
        config.write_text(CONFIG)
    return [
        sys.executable, "-m", "strategies.walkforward", "--symbol", "BTCUSDT", "--config", str(config), *arguments
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user starts it: for claims about processes. Loading everything anew takes seconds."""
    return subprocess.run(
        command(folder, *arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same command in `folder`, in this process, which has loaded already what it needs."""
    from strategies.walkforward.__main__ import app

    words = command(folder, *arguments)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["walkforward", *words[3:]])  # run.json tells it
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words[3:])
    told = "" if done.exception is None else "".join(traceback.format_exception(done.exception))
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr + told)


def files_of(run_folder: Path) -> dict[str, bytes]:
    """Every file a run promises (not its cache of tasks), by name; run.json without what differs by nature (timings)."""
    import json

    found = {}
    for path in sorted(run_folder.rglob("*")):
        name = path.relative_to(run_folder).as_posix()
        if path.is_file() and not name.startswith("tasks/"):
            found[name] = path.read_bytes()
    if "run.json" in found:
        info = json.loads(found["run.json"])
        info.pop("timings")
        found["run.json"] = json.dumps(info, sort_keys=True).encode()
    return found
