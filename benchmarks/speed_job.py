"""Where a whole job's time and memory go: `python -m benchmarks.speed_job [--short] [--data FILE --funding FILE]`.

cold start    `python -m strategies.walkforward --help`, the fastest of three
Backtrader    our account and strategy on 50,000 bars against a minimal strategy on Backtrader's own broker
job           the walk-forward command with --profile: seconds per stage (without --short the default preset)
memory        peak of features, one search and one training on 5 years of hourly bars, for few and for many windows
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.tables import say, table

BARS = 50_000
HOURS_5_YEARS = 43_800


def cold_start() -> None:
    found = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "strategies.walkforward", "--help"], check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    say(f"cold start: --help in {min(found):.2f} s")


def market(bars: int) -> Any:
    from data.simulated import simulate

    start = np.datetime64("2020-01-01", "ns")
    return simulate(["BTCUSDT"], "60", start=start, end=start + np.timedelta64(bars, "h"))


def backtrader_ratio() -> None:
    """Targets that change on every tenth bar; both keep equity bar by bar, ours also pays funding and watches the margin."""
    import backtrader as bt

    from strategies.backtest.execution import backtest
    from strategies.backtest.perpetual import PanelFeed

    panel = market(BARS)
    rng = np.random.default_rng(0)
    targets = np.repeat(rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], BARS // 10), 10)

    class Minimal(bt.Strategy):  # type: ignore[misc]
        def __init__(self) -> None:
            self.equity: list[float] = []
            self.reached = 0.0

        def next(self) -> None:
            self.equity.append(self.broker.getvalue())
            target = self.data.target[0]
            if target != self.reached:
                self.reached = target
                self.order_target_percent(target=target)

    days = panel.timestamps.astype(np.int64) / 86_400e9 + 719_163.0
    candles = {f: np.ascontiguousarray(panel.column(f, "BTCUSDT")) for f in ("open", "high", "low", "close", "volume")}

    class Feed(bt.feeds.PandasData):  # type: ignore[misc]
        lines = ("target",)
        params = (("target", -1),)

    def minimal(own_feed: bool) -> float:
        """Feed and broker as in Backtrader's own introduction, or the same on our feed."""
        began = time.process_time()
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.broker.setcommission(commission=5.5e-4)
        if own_feed:
            cerebro.adddata(PanelFeed(columns={"datetime": days, **candles, "target": targets}))
        else:
            table = pd.DataFrame({**candles, "target": targets}, index=pd.DatetimeIndex(panel.timestamps))
            cerebro.adddata(Feed(dataname=table))
        cerebro.addstrategy(Minimal)
        cerebro.run()
        return time.process_time() - began

    def ours() -> float:
        began = time.process_time()
        backtest(panel, targets[:, None], start=0, stop=BARS, name="ours")
        return time.process_time() - began

    rounds = [(minimal(False), minimal(True), ours()) for _ in range(3)]
    plain, fast, full = (min(times) for times in zip(*rounds, strict=True))
    say(
        f"Backtrader, {BARS:,} bars: ours {full:.2f} s; a minimal strategy {plain:.2f} s (ours {full / plain:.2f}x), "
        f"the minimal strategy on our feed {fast:.2f} s (ours {full / fast:.2f}x)"
    )


def adopt() -> None:
    """Processes whose parent has ended become ours (Linux): the workers of a job are copies of one that outlives it by a moment."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def bury() -> None:
    """Waits for what was adopted, so that its processor time is counted."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def job(short: bool, data: str | None, funding: str | None, out: str) -> None:
    command = [
        sys.executable,
        "-m",
        "strategies.walkforward",
        "--symbol",
        "BTCUSDT",
        "--profile",
        "--fresh",
        "--out",
        out,
    ]
    command += ["--data", data] if data else ["--source", "simulated"]
    command += ["--funding", funding] if funding else []
    command += ["--preset", "quick", "--test", "180d"] if short else []
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    adopt()
    done = subprocess.run(command, capture_output=True, text=True)
    bury()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        say(done.stderr)
        raise SystemExit(done.returncode)
    spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    shown = " ".join(word for word in command[3:] if word not in ("--out", out))
    say(f"job: `{shown}`: {time.perf_counter() - began:.1f} s by the clock, {spent:.1f} s of the processor")
    folder = Path(out) / "latest"
    timings = json.loads((folder / "run.json").read_text())["timings"]
    rows = [[stage, f"{took:.1f} s"] for stage, took in sorted(timings.items(), key=lambda item: -item[1])]
    say(table(["stage", "by the clock"], rows))
    say(f"its page: {(folder / 'index.html').stat().st_size / 1e6:.1f} MB")


def memory(windows: int) -> float:
    """MiB, peak of a process that searches and trains `windows` windows of 5 years of hourly bars."""
    command = [sys.executable, "-m", "benchmarks.speed_job", "--windows", str(windows)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def searched(windows: int) -> None:
    """One epoch each: what is held does not depend on how long a search lasts."""
    from dataclasses import replace

    from rich.console import Console

    from benchmarks.speed_search import peak_mib
    from nas.space.genotype import Genotype
    from nas.tasks.work import SearchTask, TrainTask, run_task
    from strategies.walkforward.config import resolve
    from strategies.walkforward.options import Options
    from strategies.walkforward.pipeline import Pipeline
    from strategies.walkforward.policies import Competition

    config = resolve("default", None, {"step": None})
    pipeline = Pipeline(config, Options(), market(HOURS_5_YEARS), "", Console(quiet=True), {})
    search, training = Competition.settings_of(config)
    for window in pipeline.windows[:windows]:
        task = SearchTask(window, "darts", 0, pipeline.space, replace(search, epochs=2))
        found = run_task(task, pipeline.samples)
        genotype = Genotype.from_dict(found.report["genotype"])
        run_task(TrainTask(window, "darts", 0, pipeline.space, replace(training, epochs=1), genotype), pipeline.samples)
    say(f"{peak_mib():.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a quick job instead of the default one")
    parser.add_argument("--data")
    parser.add_argument("--funding")
    parser.add_argument("--windows", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.windows:
        searched(given.windows)
        return
    cold_start()
    backtrader_ratio()
    few, many = memory(2), memory(20)
    say(f"memory, 5 years of hourly bars: {few:.0f} MiB after 2 windows, {many:.0f} MiB after 20")
    with tempfile.TemporaryDirectory() as out:
        job(given.short, given.data, given.funding, out)


if __name__ == "__main__":
    main()
