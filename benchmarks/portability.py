"""How far do results travel? One quick job under the arithmetic of other processors, and what pinning it costs.

python -m benchmarks.portability           # equal architectures, correlation of forecasts, difference of returns
python -m benchmarks.portability --cost    # processor and wall time with and without --reproducible, in pairs
python -m benchmarks.portability --record  # strategies/reproducible.json anew, for `python -m strategies.doctor --reproducible`
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from data.arithmetic import PINS, REMOVED
from data.atomic import write_text
from data.commandline import Quiet, application, command
from strategies.reproduced import HASHES, computed
from strategies.walkforward.provenance import ROOT

app = application()
OTHERS: dict[str, dict[str, str]] = {
    "the same once more": {},
    **{
        f"{name}={value}": {name: value}
        for name, value in (
            ("ATEN_CPU_CAPABILITY", "avx2"), ("ATEN_CPU_CAPABILITY", "default"), ("MKL_CBWR", "COMPATIBLE"),
            ("ONEDNN_MAX_CPU_ISA", "SSE41"), ("NUMBA_CPU_NAME", "generic"), ("GLIBC_TUNABLES", PINS["GLIBC_TUNABLES"]),
            ("OMP_NUM_THREADS", "1"),
        )
    },
    "all of them": dict(PINS),
    "initial weights + 1e-6": {"REGIME_TEST_WEIGHT_NOISE": "1e-6", "PYTHONPATH": str(ROOT / "tests" / "weight_noise")},
}  # fmt: skip
JOB = ("--preset", "quick", "--baselines", "none", "--evidence", "1", "--no-pages", "--jobs", "1")
SIMULATED = ("--source", "simulated", "--symbol", "BTCUSDT", "--start", "2022-01-01", "--end", "2023-07-01")


def real(folder: Path) -> tuple[str, ...]:
    """Arguments for the hourly candles of BTCUSDT beside the checkout; none where they are not."""
    candles, funding = folder / "BTCUSDT_1h.parquet", folder / "BTCUSDT_funding.parquet"
    if not (candles.is_file() and funding.is_file()):
        return ()
    files = ("--data", str(candles), "--funding", str(funding))
    return ("--symbol", "BTCUSDT", *files, "--start", "2023-01-01", "--end", "2024-07-01")


def job(place: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[Path, float, float]:
    """The folder of a run under an environment, the processor seconds it took, and those on the wall."""
    kept = {name: value for name, value in os.environ.items() if name not in (*PINS, *REMOVED)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-m", "strategies.walkforward", *arguments, "--quiet", "--out", str(place)]
    done = subprocess.run(words, cwd=ROOT, env=kept | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder,) = (path.parent for path in place.glob("runs/*/run.json"))
    return folder, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def figures(folder: Path) -> tuple[list[str], pd.Series[float], float]:
    """Per window the architecture; the forecasts of the searched network; its return."""
    windows = json.loads((folder / "windows.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(folder / "forecasts.parquet")
    searched = table[table["strategy"] == "searched"].set_index("timestamp")["forecast"]
    headline = json.loads((folder / "run.json").read_text(encoding="utf-8"))["headline"]["searched"]
    return [window["architecture"] for window in windows], searched, headline["return"]


def compared(name: str, arguments: tuple[str, ...]) -> None:
    """Prints a row per arithmetic."""
    with tempfile.TemporaryDirectory() as place:
        base = figures(job(Path(place) / "base", (*arguments, *JOB), {})[0])
        print(f"\n{name}: {len(base[0])} windows, return {base[2]:+.2%}\n\n| arithmetic | equal architectures | bytes of the forecasts |"
              " correlation of forecasts | difference of returns |\n|---|---|---|---|---|")  # fmt: skip
        for number, (other, environment) in enumerate(OTHERS.items()):
            found = figures(job(Path(place) / str(number), (*arguments, *JOB), environment)[0])
            equal = sum(a == b for a, b in zip(base[0], found[0], strict=True))
            same = "the same" if base[1].equals(found[1]) else "others"
            with np.errstate(invalid="ignore"):
                close = base[1].corr(found[1])
            print(
                f"| {other} | {equal} of {len(base[0])} | {same} | {close:.4f} | {100 * (found[2] - base[2]):+.2f} points |",
                flush=True,
            )


def costly(start: str, market: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """What the price is asked of, by name: searches, and a whole job as `make run` starts it."""
    where = market or (*SIMULATED, "--start", start)
    return {
        "searches alone": (*SIMULATED, "--start", start, *JOB),
        "with rivals and pages": (*where, "--preset", "quick", "--jobs", "1"),
    }


def cost(jobs: dict[str, tuple[str, ...]], pairs: int) -> None:
    """Prints the ratio of times, the pairs run in turn; the first of each kind only compiles."""
    print(
        "| job | processor seconds, free | pinned | ratio (median, least to most) | ratio on the wall |\n|---|---|---|---|---|"
    )
    for name, arguments in jobs.items():
        found: list[tuple[tuple[float, float], tuple[float, float]]] = []
        with tempfile.TemporaryDirectory() as place:
            for pair in range(pairs + 1):
                free = job(Path(place) / f"free{pair}", arguments, {})[1:]
                held = job(Path(place) / f"held{pair}", (*arguments, "--reproducible"), {})[1:]
                if pair:
                    found.append((free, held))
                print(name, pair, free, held, file=sys.stderr, flush=True)
        seconds = [statistics.median(each[kind][0] for each in found) for kind in (0, 1)]
        cpu, wall = ([held[k] / free[k] for free, held in found] for k in (0, 1))
        spread = f"{statistics.median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f})"
        print(
            f"| {name} | {seconds[0]:.1f} | {seconds[1]:.1f} | {spread} | {statistics.median(wall):.2f} |", flush=True
        )


@command(
    app,
    "python -m benchmarks.portability",
    "python -m benchmarks.portability --cost",
    "python -m benchmarks.portability --record",
)
def main(
    cost_: Annotated[bool, typer.Option("--cost", help="What --reproducible costs, instead.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Write strategies/reproducible.json anew, instead.")] = False,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of --cost.")] = 5,
    start: Annotated[str, typer.Option(help="First bar of the simulated job.")] = "2022-01-01",
    folder: Annotated[
        Path, typer.Option(help="Folder of real candles; where it is missing, simulated ones only.")
    ] = ROOT.parent / "shared" / "market",
    quiet: Quiet = False,
) -> None:
    """How far results travel between processors, and what `--reproducible` costs."""
    simulated = (*SIMULATED, "--start", start)
    if record:
        write_text(HASHES, json.dumps(computed(), indent=1) + "\n")
    elif cost_:
        cost(costly(start, real(folder)), pairs)
    else:
        compared("Simulated", simulated)
        if there := real(folder):
            compared("Real", there)


if __name__ == "__main__":
    sys.exit(app())
