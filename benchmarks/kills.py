"""`python -m benchmarks.kills --kills 20`: kill the main job at random moments, run the same command again each time, compare the files."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """differing: names of files unlike those of the uninterrupted run; seconds: of that run."""

    differing: list[str]
    kills: int
    finishes: int
    seconds: float


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    # a register of looks of their own: what other runs look at meanwhile is told in run.json, too
    own = {"OMP_NUM_THREADS": "1", "REGIME_CACHE": str(folder.parent / "cache")}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **own}
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
        if path.name == "index.html":
            content = re.sub(rb'<section id="timings".*?</section>', b"", content, flags=re.DOTALL)
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def kill_and_resume(arguments: list[str], kills: int, folder: Path, seed: int = 0) -> Outcome:
    """Run once undisturbed; then kill at random moments and resume, as often as it takes for `kills` kills, comparing each finish.

    A killed process takes its workers with it (SIGKILL to the whole group), as a machine that goes down does.
    """
    began = time.monotonic()
    assert start(folder / "whole", arguments).wait() == 0, "the uninterrupted run failed"
    seconds = time.monotonic() - began
    expected = digests(folder / "whole")
    dice = random.Random(seed)
    killed, finishes, differing = 0, 0, set()
    while killed < kills or not finishes:
        process = start(folder / "killed", arguments)
        try:
            # the last finish must come undisturbed; until then a kill may hit any stage, start-up included
            process.wait(timeout=dice.uniform(0.02, 0.7) * seconds if killed < kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        assert process.returncode == 0, "a resumed run failed"
        finishes += 1
        found = digests(folder / "killed")
        differing |= {name for name in {*expected, *found} if expected.get(name) != found.get(name)}
        differing |= {f"left over: {path.name}" for path in (folder / "killed").rglob(".*.part")}
        if killed < kills:
            shutil.rmtree(folder / "killed")
    return Outcome(sorted(differing), killed, finishes, seconds)


def again(arguments: list[str], folder: Path) -> float:
    """Seconds of the finished command once more."""
    began = time.monotonic()
    assert start(folder / "whole", arguments).wait() == 0, "the rerun failed"
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--arguments", default="--symbol BTCUSDT --preset quick --policy every,drift --source simulated"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_and_resume(options.arguments.split(), options.kills, Path(folder))
        again_s = again(options.arguments.split(), Path(folder))
    print(
        f"uninterrupted run {outcome.seconds:.1f} s; {outcome.kills} kills at random moments, {outcome.finishes} finished runs compared"
    )
    print(f"files that differ (measured seconds taken out): {', '.join(outcome.differing) or 'none'}")
    print(f"the same command once more: {again_s:.1f} s, {again_s / outcome.seconds:.1%} of the first run")


if __name__ == "__main__":
    main()
