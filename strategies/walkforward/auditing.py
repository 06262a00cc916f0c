"""The checks of the look-ahead audit. Each repeats a part of a run in a way that may change nothing, and compares.

1. Every strategy's trades again in Backtrader bar by bar (`runonce=False, preload=False, exactbars=1`): no indicator or line
   computed over the whole stretch, and no bar that is not there yet, can help.
2. Equity again by the vectorised account.
3. All bars from the middle of a test stretch on replaced: features, rules, fills, the search, trained weights and forecasts before
   must stay what they were, to the bit.
4. Forecasts one bar late: allowed to cost something, reported. A result that only holds at once, with a Sharpe ratio that no
   honest strategy has, fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from data.files import read_parquet
from data.panel import FloatArray, InputError, Panel, Settlements
from data.sources import load_market
from nas.baselines.own import is_own
from nas.space.genotype import Genotype
from nas.targets import Scale
from nas.tasks.engine import Store
from nas.tasks.windows import Window
from nas.tasks.work import SearchTask, Task, TaskResult, TrainTask, run_task
from strategies.backtest.accounting import account_for
from strategies.backtest.execution import backtest
from strategies.backtest.rules import RULES
from strategies.backtest.sensitivity import daily_sharpe
from strategies.walkforward.config import RunConfig
from strategies.walkforward.holdout import seen
from strategies.walkforward.looks import Look, Register
from strategies.walkforward.options import Options
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.policies import Competition
from strategies.walkforward.provenance import code_version
from strategies.walkforward.risk import FILE as RISK_FILE
from strategies.walkforward.risk import directional, sized_by, tasks_of
from strategies.walkforward.trading import trading_terms

BAR_BY_BAR = {"runonce": False, "preload": False, "exactbars": 1}
RULE_CUTS = 16
INCREDIBLE_SHARPE = 5.0  # beyond this, a result that halves when it is one bar late is taken for look-ahead


@dataclass(frozen=True)
class Check:
    """One check of the audit; detail: what was compared, or the first difference."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, eq=False)
class Audit:
    """A finished run and the panel it was made from."""

    folder: Path
    config: RunConfig
    panel: Panel
    same_code: bool
    console: Console

    @staticmethod
    def open(folder: Path, console: Console) -> Audit:
        """InputError where the folder is no finished run, or its data are no longer the same."""
        try:
            info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                f"{folder} is no finished run: it has no readable run.json; give e.g. reports/latest"
            ) from None
        config = RunConfig(**{k: v for k, v in info["config"].items() if k in RunConfig.model_fields})
        panel = seen(config, load_market(config, config.seed, echo=lambda text: console.print(text, markup=False)))
        if panel.fingerprint() != info["provenance"]["data_fingerprint"]:
            raise InputError(
                f"the data of {folder} are no longer the same (fingerprint differs); rerun the walk-forward, then the audit"
            )
        same = info["provenance"]["code_version"] == code_version()
        if not same:
            console.print("made by another version of the code: trades are audited, training is not repeated")
        return Audit(folder, config, panel, same, console)

    def looked(self) -> Look:
        """The audit shows Sharpe ratios of the run: the same look, counted where the run itself was made elsewhere."""
        info = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        return Register().enter_run("audit", info, str(self.equity.index[0]), str(self.equity.index[-1]))

    def checks(self, windows: int) -> list[Check]:
        """Every check, in the order of this module's list. windows: how many windows are searched and trained again."""
        found = []
        with self.console.status("auditing") as status:
            for name, work in (
                ("trading bar by bar", self._trades),
                ("replacing the future", lambda: self._future(windows)),
                ("delaying forecasts", self._delay),
            ):
                status.update(name)
                for check in work():
                    found.append(check)
                    status.update(f"{name}: {check.name}")
        return found

    @cached_property
    def positions(self) -> dict[str, FloatArray]:
        table = read_parquet(self.folder / "positions.parquet")
        shape = (-1, len(self.panel.assets))
        return {
            str(name): t["position"].to_numpy(float).reshape(shape) for name, t in table.groupby("strategy", sort=False)
        }

    @cached_property
    def equity(self) -> pd.DataFrame:
        return read_parquet(self.folder / "equity.parquet")

    @cached_property
    def stretch(self) -> dict[str, Any]:
        """start and stop of the traded bars, costs, account, orders, exchange rules."""
        first = np.datetime64(self.equity.index[0].tz_localize(None), "ns")
        start = int(np.searchsorted(self.panel.close_times, first))
        stop = start + len(self.equity)
        return {"start": start, "stop": stop, **trading_terms(self.config, self._volatility(start, stop))}

    def _volatility(self, start: int, stop: int) -> FloatArray | None:
        """By which stops are placed: the scale, and the forecasts of the run where they size."""
        name = sized_by(self.config)
        if not self.config.stop_loss:
            return None
        found = Scale.fit(self.panel, self.config.volatility).volatility(self.panel).copy()
        if name is not None:
            table = read_parquet(self.folder / RISK_FILE)
            told = table.loc[table["target"] == name, "sizing"].to_numpy(float).reshape(stop - start, -1)
            found[start:stop] = np.where(np.isfinite(told), told, found[start:stop])
        return found

    def _trades(self) -> Iterator[Check]:
        recorded = read_parquet(self.folder / "trades.parquet")
        for name, book in self.positions.items():
            again = backtest(self.panel, book, name=name, cerebro_options=BAR_BY_BAR, **self.stretch)
            equity = self.equity[name].to_numpy()
            gap = float(np.max(np.abs(again.equity - equity)))
            mine = recorded[recorded["strategy"] == name].reset_index(drop=True)
            same = gap == 0.0 and _same_trades(again.trades, mine)
            yield Check(f"{name}: bar by bar", same, f"{len(mine)} ledger rows, largest difference {gap:.3g}")
            second = account_for(self.panel, book, **self.stretch).equity
            scale = np.maximum(np.abs(equity), 1e-6 * self.config.initial_equity)
            apart = float(np.max(np.abs(second - equity) / scale))
            yield Check(f"{name}: second account", apart <= 1e-9, f"largest relative difference {apart:.3g}")

    def _rules(self) -> Iterator[Check]:
        """Signals are often the same side whatever comes, so that one cut could miss a rule that reads one bar ahead."""
        cuts = np.linspace(self.stretch["start"] + 1, self.stretch["stop"] - 1, RULE_CUTS).astype(int)
        futures = [another_future(self.panel, int(cut), seed=int(cut)) for cut in cuts]
        for name in (name for name in self.positions if name in RULES):
            for a, asset in enumerate(self.panel.assets):
                said = RULES[name](self.panel, a)
                same = all(_equal(said[:cut], RULES[name](f, a)[:cut]) for cut, f in zip(cuts, futures, strict=True))
                yield Check(f"{name}: signals before a replaced future", same, f"{asset}, {RULE_CUTS} futures")

    def _future(self, windows: int) -> Iterator[Check]:
        yield from self._rules()
        pipeline = self._pipeline(self.panel)
        chosen = pipeline.windows[:: max(1, len(pipeline.windows) // max(windows, 1))][: max(windows, 1)]
        for window in chosen:
            cut = (window.test.start + window.test.stop) // 2
            other = self._pipeline(another_future(self.panel, cut, seed=window.number))
            where = f"from {str(self.panel.timestamps[cut])[:16]}"
            bank, changed = pipeline.samples.bank.values, other.samples.bank.values
            yield Check("features before a replaced future", _equal(bank[..., :cut], changed[..., :cut]), where)
            yield from self._fills(other.panel, cut, where)
            if self.same_code and windows > 0:
                yield from self._training(pipeline, other, window, cut)

    def _fills(self, other: Panel, cut: int, where: str) -> Iterator[Check]:
        bars = cut - self.stretch["start"]
        for name, book in self.positions.items():
            again = backtest(other, book, name=name, **self.stretch)
            same = _equal(again.equity[:bars], self.equity[name].to_numpy()[:bars])
            yield Check(f"{name}: equity before a replaced future", same, where)

    def _training(self, pipeline: Pipeline, other: Pipeline, window: Window, cut: int) -> Iterator[Check]:
        """Search and train again where the second half of the test stretch is another one."""
        store = Store(self.folder / "tasks", self.panel.fingerprint(), code_version())
        try:
            said = json.loads((self.folder / "windows.json").read_text())[window.number]
        except (OSError, ValueError, LookupError):
            raise InputError(
                f"{self.folder}/windows.json tells nothing of window {window.number}; rerun with --fresh"
            ) from None
        settings = Competition.settings_of(self.config)
        known = cut - window.test.start

        def result(task: Task) -> TaskResult:
            return store.get(store.key(task)) or run_task(task, pipeline.samples)

        for risk in (t for t in tasks_of(self.config, self.panel, pipeline.windows) if t.window == window):
            before, after = result(risk), run_task(risk, other.samples)
            told = [k for k in before.arrays if not k.endswith(".realised")]
            same = all(
                _equal(*(r.arrays[k][:known] if k.startswith("test.") else r.arrays[k] for r in (before, after)))
                for k in told
            )
            yield Check(
                f"{risk.target}: training and forecasts before a replaced future",
                same,
                f"window {window.number}, {known} bars",
            )
        if not directional(self.config):
            return
        again: list[tuple[str, TrainTask]] = []
        genotype = Genotype.from_dict(said["genotype"]) if "genotype" in said else None  # a judged file has no network
        if genotype is not None and said["searched"]:
            search = SearchTask(window, said["variant"], said["seed"], pipeline.space, settings[0])
            found = Genotype.from_dict(run_task(search, other.samples).report["genotype"])
            yield Check(f"window {window.number}: search before a replaced future", found == genotype, str(found.key()))
        if genotype is not None:
            searched = TrainTask(window, said["variant"], said["seed"], pipeline.space, settings[1], genotype)
            again.append(("searched", searched))
        for name in pipeline.config.baselines:
            again.append((name, TrainTask(window, name, self.config.seed, pipeline.space, settings[1])))
        for name, task in again:
            before, after = result(task), run_task(task, other.samples)
            same = _equal(before.stop_forecasts, after.stop_forecasts) and _equal(
                before.test_forecasts[:known], after.test_forecasts[:known]
            )
            same = same and all(_equal(v, after.weights[k]) for k, v in before.weights.items())
            detail = f"window {window.number}, {known} bars"
            if not same and is_own(name):
                alike = _equal(before.test_forecasts, run_task(task, pipeline.samples).test_forecasts)
                detail += (
                    "" if alike else "; it differs on the same bars, too: not deterministic, or its file was changed"
                )
            yield Check(f"{name}: training and forecasts before a replaced future", same, detail)

    def _delay(self) -> Iterator[Check]:
        times = self.panel.close_times[self.stretch["start"] : self.stretch["stop"]]
        for name, book in self.positions.items():
            late = np.vstack([np.zeros((1, book.shape[1])), book[:-1]])
            now, then = (
                daily_sharpe(times, account_for(self.panel, targets, **self.stretch).equity, self.panel.days_per_year)
                for targets in (book, late)
            )
            suspicious = now > INCREDIBLE_SHARPE and then < now / 2
            yield Check(f"{name}: one bar late", not suspicious, f"Sharpe {now:.2f} -> {then:.2f}")

    def _pipeline(self, panel: Panel) -> Pipeline:
        return Pipeline(self.config, Options(quiet=True), panel, code_version(), self.console, {})


def another_future(panel: Panel, cut: int, seed: int) -> Panel:
    """The panel with every value and settlement from bar `cut` on replaced by a wild one."""
    rng = np.random.default_rng(seed)
    values = np.array(panel.values)
    bars = len(panel) - cut
    path = np.exp(np.cumsum(rng.normal(0.0, 0.02, (bars, len(panel.assets))), axis=0))
    for k, name in enumerate(panel.fields):
        if name in ("open", "high", "low", "close"):
            values[cut:, :, k] *= path
        else:
            values[cut:, :, k] *= rng.uniform(0.2, 5.0, (bars, len(panel.assets)))
    settlements = {}
    for asset, known in panel.settlements.items():
        later = known.timestamps >= panel.timestamps[cut]
        settlements[asset] = Settlements(known.timestamps, np.where(later, -3.0 * known.rates, known.rates))
    return Panel(
        panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, panel.source, panel.simulated,
        settlements, panel.regimes, panel.regime_names, panel.notes, panel.instruments, panel.rests,
    )  # fmt: skip


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


def _same_trades(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    numbers = ["size", "price", "fee", "slippage", "funding"]
    texts = ["asset", "kind"]
    return (
        len(a) == len(b)
        and _equal(a[numbers].to_numpy(float), b[numbers].to_numpy(float))
        and bool((a[texts].astype(str).to_numpy() == b[texts].astype(str).to_numpy()).all())
    )
