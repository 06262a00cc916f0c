"""`python -m benchmarks.kills --kills 20`: kill the main job at random moments, run the same command again each time, compare the files."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "strategies.walkforward", *arguments],
        cwd=folder, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file under `folder`/reports but the locks and the task cache; measured seconds are taken out."""
    found = {}
    for path in sorted((folder / "reports").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name.endswith(".lock") or "/tasks/" in name:
            continue
        content = path.read_bytes()
        if path.name == "run.json":
            info = json.loads(content)
            info.pop("timings", None)
            content = json.dumps(info, sort_keys=True).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def kill_and_resume(
    arguments: list[str], kills: int, folder: Path, seed: int = 0
) -> tuple[list[str], float, float, float]:
    """(names of files that differ from an uninterrupted run, seconds of that run, of a full rerun, share repeated tasks).

    A killed process takes its workers with it (SIGKILL to the whole group), as a machine that goes down does.
    """
    began = time.monotonic()
    whole = start(folder / "whole", arguments)
    assert whole.wait() == 0, "the uninterrupted run failed"
    seconds = time.monotonic() - began
    dice = random.Random(seed)
    for _ in range(kills):
        process = start(folder / "killed", arguments)
        try:
            process.wait(timeout=dice.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert start(folder / "killed", arguments).wait() == 0, "the last run failed"
    began = time.monotonic()
    assert start(folder / "killed", arguments).wait() == 0, "the rerun failed"
    again = time.monotonic() - began
    left = list((folder / "killed").rglob(".*.part"))
    a, b = digests(folder / "whole"), digests(folder / "killed")
    differing = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    return differing + [f"left over: {path.name}" for path in left], seconds, again, again / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--arguments", default="--symbol BTCUSDT --preset quick --policy every,drift --source simulated"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        differing, seconds, again, share = kill_and_resume(options.arguments.split(), options.kills, Path(folder))
    print(f"uninterrupted run {seconds:.1f} s; killed {options.kills} times at random moments and resumed each time")
    print(f"files that differ (run.json without timings): {', '.join(differing) or 'none'}")
    print(f"the same command once more: {again:.1f} s, {share:.1%} of the first run")


if __name__ == "__main__":
    main()
