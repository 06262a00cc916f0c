"""What `--reproducible` promises, checked: a small job's results by file and window against hashes made on another processor."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import InputError
from data.place import ROOT
from strategies.walkforward.provenance import code_version, package_versions

HASHES = Path(__file__).with_name("reproducible.json")
#: a search, trainings and every kind of rival on four windows: a minute, two where the kernels are compiled first
JOB = (
    "--source", "simulated", "--symbol", "BTCUSDT", "--preset", "quick", "--start", "2023-01-01", "--end", "2023-08-01",
    "--train", "1000", "--validation", "480", "--test", "360", "--search-epochs", "4", "--training-epochs", "4",
    "--baselines", "all", "--no-pages", "--jobs", "1",
)  # fmt: skip
#: over JOB: one window
SMALLEST = ("--end", "2023-04-20", "--search-epochs", "1", "--training-epochs", "1", "--baselines", "tcn")
#: in the order in which a run makes them: the first that differs is where the difference began
TABLES = ("forecasts", "positions", "trades", "equity", "trials")


def computed(*more: str) -> dict[str, Any]:
    """Runs the job with the pins and returns what `compare` reads: code, packages, and the hashes of its results by file and window."""
    with tempfile.TemporaryDirectory() as place:
        folder = _run(place, *JOB, *more, "--reproducible")
        return {"code": code_version(), "packages": package_versions(), "files": hashes(folder)}


def compiled() -> None:
    """The smallest job there is, for the kernels that it leaves in the compiler's cache: every later run starts at once."""
    with tempfile.TemporaryDirectory() as place:
        _run(place, *JOB, *SMALLEST)


def _run(place: str, *words: str) -> Path:
    """Folder of a finished run below `place`, which is no look at a market of the user's. InputError where it fails."""
    command = [sys.executable, "-m", "strategies.walkforward", *words, "--quiet", "--out", place]
    own = {**os.environ, "REGIME_CACHE": place}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"the job failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    (folder,) = (path.parent for path in Path(place).glob("runs/*/run.json"))
    return folder


def hashes(folder: Path) -> dict[str, dict[str, str]]:
    """File of a run -> window -> hash of its values; what only names the code or the machine is left out."""
    windows = json.loads((folder / "windows.json").read_text(encoding="utf-8"))
    numbers = [str(window["window"]) for window in windows]
    found = {
        "weights.safetensors": {n: _hash(sorted((folder / "models" / n).rglob("*.safetensors"))) for n in numbers},
        "windows.json": {
            n: _sha(json.dumps(w, sort_keys=True).encode()) for n, w in zip(numbers, windows, strict=True)
        },
    }
    starts = pd.to_datetime([window["test"]["start"] for window in windows], utc=True).to_numpy()
    for name in TABLES:
        table = pd.read_parquet(folder / f"{name}.parquet").reset_index()
        if "window" in table:
            parts = table["window"].astype(str).to_numpy()
        else:
            times = pd.to_datetime(table["timestamp"], utc=True).to_numpy()
            parts = np.array(numbers)[np.clip(np.searchsorted(starts, times, "right") - 1, 0, None)]
        found[f"{name}.parquet"] = {
            n: _sha(pd.util.hash_pandas_object(table[parts == n], index=False).to_numpy().tobytes()) for n in numbers
        }
    return found


def _hash(paths: Iterable[Path]) -> str:
    return _sha(b"".join(path.read_bytes() for path in paths))


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def expected() -> dict[str, Any]:
    """The committed hashes. InputError where they are not there."""
    try:
        held: dict[str, Any] = json.loads(HASHES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{HASHES} cannot be read; it comes with the package") from None
    return held


def compare(here: dict[str, Any], there: dict[str, Any]) -> tuple[bool, str]:
    """(the same?, a sentence: `the same`, or the first file and window that differ and what else is different).

    >>> there = {"code": "a", "packages": {}, "files": {"forecasts.parquet": {"0": "x", "1": "y"}}}
    >>> compare(there, there)[1]
    'the same: 2 hashes of 1 files'
    >>> compare({**there, "files": {"forecasts.parquet": {"0": "x", "1": "z"}}}, there)[1]
    'forecasts.parquet differs first in window 1'
    """
    for name, windows in there["files"].items():
        for window, value in windows.items():
            if here["files"].get(name, {}).get(window) != value:
                other = [f"code {here['code']}, not {there['code']}"] if here["code"] != there["code"] else []
                other += [
                    f"{package} {version}, not {there['packages'].get(package, 'none')}"
                    for package, version in here["packages"].items()
                    if version.partition("+")[0] != str(there["packages"].get(package)).partition("+")[0]
                ]
                why = f"; here is {', '.join(other)}, which changes results by itself" if other else ""
                return False, f"{name} differs first in window {window}{why}"
    return True, f"the same: {sum(map(len, there['files'].values()))} hashes of {len(there['files'])} files"
