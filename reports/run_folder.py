"""What a run left behind, read back: the files of `reports/runs/<id>/`, the list of runs and the `latest` link."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from data.files import read_parquet
from data.panel import InputError

FRAME_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "forecasts": ("timestamp", "asset", "strategy", "forecast", "window"),
    "positions": ("timestamp", "asset", "strategy", "position"),
    "trades": ("timestamp", "strategy", "asset", "kind", "size", "price", "fee", "slippage", "funding"),
    "trials": (
        "trial", "window", "strategy", "kind", "variant", "architecture", "seed", "threshold", "parameters",
        "validation_loss", "validation_correlation", "validation_sharpe", "selected",
    ),
    "sensitivity": ("strategy", "cost_multiple", "delay_bars", "return", "sharpe"),
    "candles": ("timestamp", "asset", "open", "high", "low", "close"),
    "contributions": (
        "timestamp", "strategy", "asset", "profit", "fees", "slippage", "funding", "traded", "exposure", "worth",
    ),
}  # fmt: skip
"""Columns of each optional long table. """

BENCHMARK = "buy_and_hold"
SEARCHED = "searched"
JUDGED = "judged"  # forecasts that were not made here
REGARDLESS = "regardless"  # the same in the windows that its record left flat, too


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run. Only `equity` and `run.json` must be there; a missing table is empty, with its columns.

    equity: index = bar close time (UTC), one column per strategy, account value after all costs.
    trial_returns: index = day (UTC), one column per configuration tried: out-of-sample returns after costs.
    architectures: window number -> SVG text, as the run saved it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> folder = Path(tempfile.mkdtemp())
    >>> hours = pd.date_range("2024-01-01", periods=96, freq="h", tz="UTC", name="timestamp")
    >>> pd.DataFrame({"mine": 100.0, "buy_and_hold": 100.0}, index=hours).to_parquet(folder / "equity.parquet")
    >>> (folder / "run.json").write_text("{}")
    2
    >>> from reports import load_run
    >>> "price" in load_run(folder).trades, len(load_run(folder).trades)
    (True, 0)
    """

    folder: Path
    info: Mapping[str, Any]
    equity: pd.DataFrame
    trial_returns: pd.DataFrame
    windows: tuple[Mapping[str, Any], ...]
    forecasts: pd.DataFrame
    positions: pd.DataFrame
    trades: pd.DataFrame
    trials: pd.DataFrame
    sensitivity: pd.DataFrame
    candles: pd.DataFrame
    contributions: pd.DataFrame
    architectures: Mapping[int, str]

    @property
    def run_id(self) -> str:
        """The name of the run's folder, as it was made."""
        return str(self.info.get("run_id") or self.folder.name)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Source, period, versions: docs/architecture.md, run.json."""
        return _mapping(self.info.get("provenance"))

    @property
    def simulated(self) -> bool:
        """Whether the market was invented."""
        return bool(self.provenance.get("simulated", False))

    @property
    def directional(self) -> bool:
        """Whether the run forecast which way; one that did not holds, and its size alone is forecast."""
        return "return" in (_mapping(self.info.get("config")).get("target") or ["return"])

    @property
    def funding_charged(self) -> str:
        """`all`, `part` or `none` of what a perpetual account pays; `no` where the account pays none by its nature."""
        said = _mapping(self.info.get("costs")).get("funding")
        if isinstance(said, str):
            return said
        return "all" if said or (self.trades["kind"] == "funding").any() else "none"  # an older run

    @property
    def charged(self) -> str:
        """The costs that every figure is after, in words; never one that was not charged."""
        words = {
            "all": "fees, slippage and funding",
            "no": "fees and slippage",
            "none": "fees and slippage, without funding",
        }
        return words.get(self.funding_charged, "fees and slippage, and funding where it is known")

    @property
    def uncharged(self) -> tuple[str, ...]:
        """What was not charged, a line each."""
        if self.funding_charged in ("all", "no"):
            return ()
        return tuple(map(str, self.provenance.get("funding") or ())) or ("funding not charged",)

    @property
    def days_per_year(self) -> float:
        """365, or the days of a year on which a market that rests has bars (about 252)."""
        return float(self.provenance.get("days_per_year") or 365.0)

    @property
    def unsealed(self) -> str:
        """What the sealed holdout showed when it was opened (`python -m reports unseal`); empty before."""
        path = self.folder / "unsealed.json"
        return str(_mapping(_json(path)).get("told") or "") if path.is_file() else ""

    @property
    def strategies(self) -> tuple[str, ...]:
        """Searched strategies first, the benchmark last, the others as the run wrote them."""
        names = [str(name) for name in self.equity.columns]
        rank = {JUDGED: -1, SEARCHED: 0, "benchmark": 3}
        return tuple(sorted(names, key=lambda name: rank.get(self.kind(name), 1)))

    @property
    def judged(self) -> tuple[str, ...]:
        """Strategies that trade forecasts which were not made here, as the run wrote them."""
        return tuple(str(name) for name in self.equity.columns if self.kind(str(name)) == JUDGED)

    @property
    def subject(self) -> str:
        """The strategy that the page is about: the first that is judged, else the searched one, else the first."""
        if self.judged or SEARCHED not in self.equity.columns:
            return self.strategies[0]
        return SEARCHED

    @cached_property
    def forecast_sheet(self) -> Mapping[str, Any]:
        """What forecasts were worth (strategies.walkforward.forecast_sheet); empty for runs that forecast no direction."""
        path = self.folder / "forecast_sheet.json"
        return _mapping(_json(path)) if path.is_file() else {}

    def kind(self, strategy: str) -> str:
        """`judged`, `searched`, `network`, `rule`, `random`, `benchmark` or what the run calls it."""
        if strategy == BENCHMARK:
            return "benchmark"
        described = _mapping(_mapping(self.info.get("strategies")).get(strategy))
        return str(described.get("kind") or (SEARCHED if strategy.startswith(SEARCHED) else "rule"))

    def title(self, strategy: str) -> str:
        """What pages call a strategy."""
        described = _mapping(_mapping(self.info.get("strategies")).get(strategy))
        return str(described.get("title") or strategy.replace("_", " "))

    def short(self, strategy: str) -> str:
        """A name for charts and narrow columns; titles of policies are sentences."""
        return f"Policy {strategy.removeprefix('policy:')}" if strategy.startswith("policy:") else self.title(strategy)

    def description(self, strategy: str) -> str:
        """What it is, in a sentence; empty where the run does not say."""
        return str(_mapping(_mapping(self.info.get("strategies")).get(strategy)).get("description") or "")


def load_run(folder: Path) -> Run:
    """Read a run folder (a link such as `reports/latest` is followed). InputError says in one line what is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> folder = Path(tempfile.mkdtemp())
    >>> hours = pd.date_range("2024-01-01", periods=96, freq="h", tz="UTC", name="timestamp")
    >>> pd.DataFrame({"mine": 100.0, "buy_and_hold": 100.0}, index=hours).to_parquet(folder / "equity.parquet")
    >>> (folder / "run.json").write_text("{}")
    2
    >>> from reports import load_run
    >>> load_run(folder).equity.shape
    (96, 2)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run folder: give a folder such as reports/runs/<run-id> or reports/latest")
    folder = folder.resolve()
    for name in ("run.json", "equity.parquet"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}: give the folder of a finished run (reports/runs/<run-id>)")
    info = _json(folder / "run.json")
    if not isinstance(info, dict):
        raise InputError(f"{folder / 'run.json'} holds no JSON object; run the job again with --fresh")
    windows = _json(folder / "windows.json") if (folder / "windows.json").is_file() else []
    if not isinstance(windows, list):
        raise InputError(f"{folder / 'windows.json'} holds no JSON list; run the job again with --fresh")
    equity = read_parquet(folder / "equity.parquet")
    equity = equity.set_index("timestamp") if "timestamp" in equity.columns else equity
    equity.columns = equity.columns.map(str)
    if equity.empty:
        raise InputError(f"{folder / 'equity.parquet'} holds no bar: nothing to report")
    tables = {name: _long_table(folder / f"{name}.parquet", columns) for name, columns in FRAME_COLUMNS.items()}
    trial_file = folder / "trial_returns.parquet"
    trial_returns = (
        _utc_index(read_parquet(trial_file)) if trial_file.is_file() else pd.DataFrame(index=pd.DatetimeIndex([]))
    )
    pictures = {
        int(path.stem): path.read_text(encoding="utf-8")
        for path in sorted((folder / "architectures").glob("*.svg"))
        if path.stem.isdigit()
    }
    return Run(
        folder=folder,
        info=info,
        equity=_utc_index(equity).astype("float64"),
        trial_returns=trial_returns,
        windows=tuple(_mapping(window) for window in windows),
        architectures=pictures,
        **tables,
    )


def list_runs(reports: Path) -> tuple[Path, ...]:
    """Folders under `reports/runs` that hold a finished run, newest first (by the time of their run.json)."""
    found = [path.parent for path in (reports / "runs").glob("*/run.json")]
    return tuple(
        sorted(found, key=lambda folder: ((folder / "run.json").stat().st_mtime_ns, folder.name), reverse=True)
    )


def link_latest(folder: Path) -> Path:
    """Point `<reports>/latest` at the run; a relative link, replaced in one step so that it always leads somewhere."""
    folder = folder.resolve()
    reports = folder.parent.parent
    link = reports / "latest"
    with tempfile.TemporaryDirectory(dir=reports, prefix=".latest.") as scratch:
        fresh = Path(scratch) / "latest"
        fresh.symlink_to(os.path.relpath(folder, reports))
        if link.is_dir() and not link.is_symlink():
            raise InputError(f"{link} is a folder, not the link to the newest run; move it away")
        os.replace(fresh, link)
    return link


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); run the job again with --fresh") from None


def _utc_index(frame: pd.DataFrame) -> pd.DataFrame:
    index = pd.DatetimeIndex(pd.to_datetime(frame.index, utc=True), name="timestamp")
    return frame.set_axis(index, axis="index")


def _long_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame({name: pd.Series(dtype="object") for name in columns})
    frame = read_parquet(path)
    for name in columns:
        if name not in frame.columns:
            frame[name] = None
    if "timestamp" in columns:
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    return frame
