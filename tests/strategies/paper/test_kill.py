"""A download killed at random points ends in the same store; `REGIME_KILLS=20` asks for more kills than the suite has time for."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.history import History
from data.series import SeriesKey, series_key
from data.standin import StandIn
from tests.data.moment import stored

SPAN = ("2023-06-01", "2023-12-30")
COMMAND = (
    sys.executable,
    "-m",
    "data.download",
    "--symbol",
    "BTCUSDT",
    "--interval",
    "15",
    "--quiet",
    "--parallel",
    "4",
)
KEYS = (SeriesKey("linear", "BTCUSDT", "klines", "15"), series_key("linear", "BTCUSDT", "funding", ""))


def touched(folder: Path) -> set[tuple[str, int]]:
    """Every file of a store, half-written ones too, as it is now."""
    out = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.name != ".lock":
                out.add((str(path), path.stat().st_mtime_ns))
    return out


@pytest.mark.slow
def test_killed_downloads_end_in_the_store_of_an_uninterrupted_one(
    exchange: StandIn, history: Callable[..., History], tmp_path: Path
) -> None:
    kills = int(os.environ.get("REGIME_KILLS", "2"))
    start, end = 1_685_577_600_000, 1_703_894_400_000
    clean = history("clean")
    for key in KEYS:
        clean.load(key, start, end)
    exchange.world.journal.clear()
    exchange.world.latency_s = 0.02
    environment = {**os.environ, "REGIME_BYBIT_URL": exchange.url, "REGIME_CACHE": str(tmp_path / "killed")}
    command = [*COMMAND, "--start", SPAN[0], "--end", SPAN[1]]
    dice = random.Random(7)
    folder = tmp_path / "killed"
    died = {"at a request": 0, "while files are written": 0}
    while min(died.values()) * 2 < kills:
        how = min(died, key=died.__getitem__)
        before, asked = touched(folder), len(exchange.world.journal)
        most = dice.randrange(2, 21) if how == "at a request" else dice.randrange(1, 9)
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                done = len(exchange.world.journal) - asked if how == "at a request" else len(touched(folder) - before)
                if done >= most:
                    process.send_signal(signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.001)
        died[how] += process.returncode == -signal.SIGKILL
        if process.returncode == 0:  # finished before its turn: spoil some months, so that there is work left
            assert stored(folder) == stored(clean.store.root)
            for path in sorted(folder.rglob("2023-*.parquet"))[dice.randrange(2) :: 2]:
                path.write_bytes(path.read_bytes()[: dice.randrange(1, 400)])
    last = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert stored(tmp_path / "killed") == stored(clean.store.root)


def test_an_interrupted_download_says_so_keeps_what_it_has_and_goes_on(exchange: StandIn, tmp_path: Path) -> None:
    exchange.world.latency_s = (
        1.5  # the second round of pages is on its way when the signal comes, however busy the machine
    )
    environment = {**os.environ, "REGIME_BYBIT_URL": exchange.url, "REGIME_CACHE": str(tmp_path)}
    command = [*COMMAND, "--start", SPAN[0], "--end", SPAN[1]]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(exchange.world.calls("/v5/market/kline")) < 9:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    exchange.world.latency_s = 0.0
    assert process.returncode == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    asked = len(exchange.world.calls("/v5/market/kline"))
    exchange.world.journal.clear()
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 0
    assert 0 < len(exchange.world.calls("/v5/market/kline")) < 21
    assert asked < 21
