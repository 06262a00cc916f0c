"""One run from resolved settings to the files of its folder: named by what is asked, held by one process, resumed where it was."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from rich.console import Console

from data.atomic import make_folder
from data.intervals import interval_name
from data.panel import Panel
from data.progress import console_of, download_progress
from data.sources import load_market
from nas.baselines.own import fingerprint as models_fingerprint
from nas.baselines.own import is_own
from nas.tasks.device import resolve_device
from strategies.walkforward.config import RunConfig
from strategies.walkforward.forecast_files import fingerprint
from strategies.walkforward.holdout import seen
from strategies.walkforward.looks import Register
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.provenance import code_version, run_id

#: settings that say where the market is read from and how, not which one it is: that its fingerprint says
HOW_READ = ("data", "funding", "source", "columns", "timezone", "any_candles", "forecasts")
Headline = dict[str, dict[str, float]]


@dataclass
class Job:
    """A run that may be new, begun or finished. Whoever writes into its folder holds it: `with job.held()`.

    timings: seconds per stage, as they end. worker_mib: peak memory of the largest process that computed tasks for it.
    """

    config: RunConfig
    options: Options
    panel: Panel
    code: str
    folder: Path
    console: Console
    timings: dict[str, float] = field(default_factory=dict)
    worker_mib: float = 0.0

    @classmethod
    def open(cls, config: RunConfig, options: Options) -> Job:
        """Loads the market and names the folder. InputError for anything the user can mend."""
        console = console_of(options.as_json, options.quiet)
        config = config.model_copy(update={"device": resolve_device(config.device)})
        began = time.perf_counter()
        panel = seen(config, _load(config, console))
        timings = {"data": time.perf_counter() - began}
        config = with_order_rules(config, panel).model_copy(update={"interval": interval_name(panel.interval_ns)})
        code = code_version()
        identity = {k: v for k, v in config.model_dump().items() if k not in HOW_READ}
        if own := tuple(name for name in config.baselines if is_own(name)):
            identity["models"] = models_fingerprint(own)
        if config.forecasts:
            identity["forecasts"] = fingerprint(config.forecasts)
        folder = options.out / "runs" / run_id(panel.assets, identity, panel.fingerprint(), code)
        return cls(config, options, panel, code, folder, console, timings)

    def foresee(self) -> dict[str, Any]:
        """The windows, and about the time that searching and training them would take; nothing is run or written."""
        pipeline = self._pipeline()
        with self.console.status("estimating the time"):
            seconds = pipeline.estimate_s()
        self.console.print(f"searching and training: about {_duration(seconds)} on this machine; nothing was run")
        times = np.datetime_as_string(self.panel.timestamps, "m")
        windows = [
            {name: [times[part.start], times[part.stop - 1]] for name, part in window.parts().items()}
            for window in pipeline.windows
        ]
        done = self.finished() is not None
        return {
            "run": str(self.folder), "finished": done, "seconds": seconds, "windows": windows, "said": pipeline.said
        }  # fmt: skip

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The folder belongs to this process: another one of the same command waits. `--fresh` and leftovers of a kill are removed."""
        folder = self.folder
        make_folder(folder, "--out")
        # beside the folder, not in it: --fresh removes the folder while it holds the lock
        lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            self.console.print(
                f"another run of this command is at work in {folder}; waiting for it", markup=False, soft_wrap=True
            )
            lock.acquire()
        try:
            if self.options.fresh:
                shutil.rmtree(folder, ignore_errors=True)
            # of a run that was killed while writing; the lock says nobody writes now
            for leftover in folder.rglob(".*.part"):
                leftover.unlink()
            yield
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where nothing was written
            lock.release()

    def finished(self) -> Headline | None:
        """The headline of a run whose files are all there; run.json is written after all others."""
        try:
            headline: Headline = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["headline"]
        except (OSError, ValueError, KeyError):
            return None
        return headline

    def run(self, watch: Path | None = None) -> Headline:
        """Searches, trains, trades and writes every file but the pages. watch: as of `nas.search.watch`."""
        pipeline, register = self._pipeline(), Register()
        if self.options.budget is not None:
            register.charge(
                self.folder.name, pipeline.stretch(), self.panel.fingerprint(), self.code, self.options.budget
            )
        headline = pipeline.run(self.folder, watch, register)
        self.worker_mib = pipeline.worker_mib
        return headline

    def _pipeline(self) -> Pipeline:
        pipeline = Pipeline(self.config, self.options, self.panel, self.code, self.console, self.timings)
        pipeline.show_plan()
        return pipeline


def with_order_rules(config: RunConfig, panel: Panel) -> RunConfig:
    """The settings with the exchange's lots, ticks and minima for every symbol that has none of its own in them."""
    known = {asset: dict(rules) for asset, rules in panel.instruments.items()}
    return config.model_copy(update={"instruments": known | config.instruments})


def _load(config: RunConfig, console: Console) -> Panel:
    with download_progress(console) as (say, progress):
        panel = load_market(config, config.seed, progress=progress, echo=say)
    if panel.simulated:
        console.print(
            "[bold black on yellow] SIMULATED MARKET [/] no real prices: results show the machinery, not skill"
        )
    return panel


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
