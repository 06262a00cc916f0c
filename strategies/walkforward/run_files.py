"""The files a run leaves behind (docs/architecture.md lists them), each written whole or not at all."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data import arithmetic
from data.atomic import write_atomically, write_text
from data.coverage import Coverage
from data.panel import Panel
from data.simulated import planted_in
from nas.baselines.own import is_own, is_table
from nas.baselines.own_model import kept
from nas.network.model import ENSEMBLE_FILE
from nas.network.stretches import Samples
from nas.search.decisions import Decisions, merged
from nas.space.distance import edit_distance, total_variation
from nas.space.genotype import Genotype
from nas.targets import Scale
from nas.tasks.drift import BLOCK_BARS, Alarm, change_points, volatility_stream
from nas.tasks.windows import Window
from nas.tasks.work import model_of
from strategies.backtest.contributions import contributions
from strategies.walkforward import forecast_sheet
from strategies.walkforward import risk as risk_files
from strategies.walkforward.choice import scaled_rule
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import Contender, Decision, PolicyOutcome
from strategies.walkforward.judged import Judged
from strategies.walkforward.leaks import court
from strategies.walkforward.looks import Register
from strategies.walkforward.provenance import decision_version, package_versions
from strategies.walkforward.risk import RiskRun, directional, models_of
from strategies.walkforward.trading import Book, long_table, portfolio_of, position_rule


def _parquet(path: Path, frame: pd.DataFrame, index: bool = False) -> None:
    write_atomically(path, lambda file: frame.to_parquet(file, index=index))


def _save_models(
    folder: Path, contender: Contender, interval_ns: int, forecast_scale: float, extra: dict[str, Any]
) -> None:
    """The network that traded; of an ensemble every member, in folders of their own, under a file that says so."""
    if not contender.members:
        model_of(contender.trained, interval_ns, forecast_scale, extra).save(folder)
        return
    for number, member in enumerate(contender.members):
        model_of(member.trained, interval_ns, forecast_scale, extra).save(folder / "members" / str(number))
    write_text(folder / ENSEMBLE_FILE, json.dumps({"members": len(contender.members), "forecast": "mean"}) + "\n")


def claimed(outcome: PolicyOutcome, contender: Contender) -> dict[str, Any] | None:
    """What the searches of a contender's window and variant claim together, told of its own network; None where none claims anything."""
    mine = [
        single
        for each in outcome.contenders
        for single in each.members or (each,)
        if (single.window.number, single.variant) == (contender.window.number, contender.variant)
    ]
    mine.sort(key=lambda single: single.seed != contender.seed)  # its own first
    found = [single.found.report.get("decisions") for single in mine if single.found is not None]
    told = [Decisions.from_dict(each) for each in found if each is not None]
    return merged(told).to_dict() if told else None


def _distance(book: Book, number: int) -> dict[str, float | int | None]:
    """How far the architecture of a window is from the one before: edits, and total variation of the relaxed weights."""
    if number == 0 or book.chosen[number].candidate.contender.found is None:
        return {"edits": None, "total_variation": None}
    pair = [book.chosen[k].candidate.contender.found for k in (number - 1, number)]
    before, now = ({} if result is None else result.report for result in pair)
    return {
        "edits": edit_distance(Genotype.from_dict(before["genotype"]), Genotype.from_dict(now["genotype"])),
        "total_variation": round(total_variation(before["weights"]["values"], now["weights"]["values"]), 6),
    }


def _change_points(panel: Panel, start: int, stop: int) -> list[int]:
    """Bars where volatility changed, found offline over the traded stretch (for the report's timeline only)."""
    returns = np.diff(np.log(panel.field("close")), axis=0, prepend=np.nan)[start:stop]
    return [start + block * BLOCK_BARS for block in change_points(volatility_stream(returns))]


def _order_rules(config: RunConfig, panel: Panel, asset: str) -> dict[str, Any]:
    """Lot, tick and least notional by which an asset's orders were rounded, and where they come from."""
    if asset not in config.instruments:
        return {"from": "none"}
    rules: dict[str, Any] = dict(config.instruments[asset].items())
    return {**rules, "from": "exchange" if rules == panel.instruments.get(asset) else "settings"}


CANDLE_ROWS = 60_000


def _candles(panel: Panel, start: int, stop: int) -> pd.DataFrame:
    """Traded bars of every asset for the chart of trades, stamped with their open; joined to longer ones above CANDLE_ROWS."""
    step = -(-(stop - start) * len(panel.assets) // CANDLE_ROWS)
    first = np.arange(start, stop, step)
    tables = []
    for asset in panel.assets:
        high, low = (
            panel.column("close" if panel.closes_only else name, asset)[start:stop] for name in ("high", "low")
        )
        tables.append(
            pd.DataFrame(
                {
                    "timestamp": pd.DatetimeIndex(panel.timestamps[first]).tz_localize("UTC"),
                    "asset": asset,
                    "open": panel.column("open", asset)[first],
                    "high": np.fmax.reduceat(high, first - start),
                    "low": np.fmin.reduceat(low, first - start),
                    "close": panel.column("close", asset)[np.minimum(first + step, stop) - 1],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Finished:
    """A run that has traded, as its files tell it. said: notes for a person. funding: what of it could be charged."""

    config: RunConfig
    panel: Panel
    samples: Samples
    windows: tuple[Window, ...]
    outcomes: Sequence[PolicyOutcome]
    book: Book
    timings: dict[str, float]
    code: str
    said: Sequence[str]
    funding: Coverage
    scale: Scale
    risk: RiskRun | None
    rehearsals: int = 0
    sheet: Mapping[str, Any] = field(default_factory=dict)
    judged: Sequence[Judged] = ()

    @property
    def traded(self) -> tuple[int, int]:
        """First traded bar, and the one after the last."""
        return self.windows[0].test.start, self.windows[-1].test.stop

    def iso(self, bar: int) -> str:
        """When a bar opens, UTC."""
        stamp = pd.Timestamp(self.panel.timestamps[min(bar, len(self.panel) - 1)])
        return str(stamp.tz_localize("UTC").isoformat())

    def span(self, part: slice) -> dict[str, str]:
        return {"start": self.iso(part.start), "stop": self.iso(part.stop)}

    def drift(self, heard: Sequence[Alarm]) -> list[dict[str, str]]:
        return [{"time": self.iso(a.bar), "detector": a.detector, "stream": a.stream} for a in heard]


def write_run(folder: Path, run: Finished, register: Register | None = None) -> None:
    """Tables, models, windows.json; run.json last: it says that all others are there. register: counts the look at the test stretch."""
    _write_tables(folder, run)
    tried = [*(_judged(run, model) for model in run.judged), *_tried(run)]
    if tried:
        write_text(folder / "judged.json", json.dumps(tried, indent=1) + "\n")
    _write_models(folder / "models", run)
    windows = [_window(run, window) for window in run.windows]
    write_text(folder / "windows.json", json.dumps(windows, indent=1) + "\n")
    summary = _summary(folder.name, run)
    if register is not None:
        times = next(iter(run.book.backtests.values())).timestamps
        summary["look"] = asdict(register.enter_run("run", summary, str(times[0]), str(times[-1])))
    write_text(folder / "run.json", json.dumps(summary, indent=1) + "\n")


def _judged(run: Finished, model: Judged) -> dict[str, Any]:
    """judged.json: what was read, and what the leak court found in it (strategies.walkforward.leaks)."""
    charges = court(run.panel, model.raw, run.config.horizon[0])
    told = {"name": model.name, "title": model.title, "description": model.description}
    return {**told, "charges": [asdict(charge) for charge in charges]}


def _tried(run: Finished) -> list[dict[str, Any]]:
    """The same of models that the run fitted: of what they forecast on test stretches."""
    found = []
    for name, table in run.book.forecasts.groupby("strategy", sort=False):
        if is_own(str(name)):
            raw = np.full((len(run.panel), len(run.panel.assets)), np.nan)
            raw[slice(*run.traded)] = table["forecast"].to_numpy(float).reshape(-1, len(run.panel.assets))
            charges = court(run.panel, raw, run.config.horizon[0])
            about = {key: run.book.kinds[str(name)][key] for key in ("title", "description")}
            found.append({"name": name, **about, "charges": [asdict(charge) for charge in charges]})
    return found


def _write_tables(folder: Path, run: Finished) -> None:
    panel, book, (start, stop) = run.panel, run.book, run.traded
    backtests = book.backtests
    stamps = pd.DatetimeIndex(next(iter(backtests.values())).timestamps)
    stamps = stamps if stamps.tz is not None else stamps.tz_localize("UTC")
    equity = pd.DataFrame({name: b.equity for name, b in backtests.items()}, index=stamps.rename("timestamp"))
    held = {name: b.positions for name, b in backtests.items()}
    tables = {
        "forecasts": book.forecasts,
        "positions": long_table(panel, start, stop, held, "position"),
        "trades": pd.concat([b.trades for b in backtests.values()], ignore_index=True),
        "sensitivity": book.sensitivity,
        "candles": _candles(panel, start, stop),
        "trials": book.trials,
    }
    if len(panel.assets) > 1:
        parts = [contributions(panel, b, start) for b in backtests.values()]
        tables["contributions"] = pd.concat(parts, ignore_index=True)
    for name, table in tables.items():
        _parquet(folder / f"{name}.parquet", table)
    _parquet(folder / "equity.parquet", equity, index=True)
    if run.risk is not None:
        _parquet(folder / risk_files.FILE, run.risk.table())
        write_text(folder / risk_files.NUMBERS, json.dumps(run.risk.numbers(), indent=1) + "\n")
    if run.sheet:
        write_text(folder / forecast_sheet.FILE, json.dumps(run.sheet, indent=1) + "\n")
    _parquet(folder / "trial_returns.parquet", book.trial_returns, index=True)


def _write_models(folder: Path, run: Finished) -> None:
    """The network of each window with all that paper trading needs: its rule is the very rule of the backtest."""
    config, panel, portfolio = run.config, run.panel, portfolio_of(run.config)
    for window, choice in zip(run.windows, run.book.chosen, strict=True):
        contender = choice.candidate.contender
        own = window is run.windows[-1] and is_own(contender.strategy) and is_table(contender.strategy)
        if "genotype" not in contender.trained.report and not own:
            continue  # forecasts of a file, or a sequence model: nothing that paper trading could take
        signal = portfolio.signal(contender.trained.stop_forecasts)
        known = signal[np.isfinite(signal)]
        spread = float(known.std()) if known.size else 0.0
        extra = {
            "plan": choice.plan.name,
            **({"flat_because": choice.why_flat} if choice.why_flat else {}),
            **({"market": {"source": "demo", "seed": config.seed}} if planted_in(panel) else {}),
            "rule": asdict(scaled_rule(position_rule(config), signal, choice.plan)),
            "horizons": list(config.horizon),
            "scale": run.scale.from_bar(panel, window.test.start).to_dict(),
            **({} if directional(config) else {"direction": "hold"}),
            **({} if run.risk is None else models_of(run.risk, window.number, folder / str(window.number))),
            "symbols": list(panel.assets),
            "category": "bundled" if panel.source.startswith("bundled") else config.category,
            **({"portfolio": asdict(portfolio)} if len(panel.assets) > 1 else {}),
            "code_version": run.code,
            "decision_version": decision_version(),
            "stop_loss": config.stop_loss,
        }
        if own:
            stretches, trained = (window.fit, window.stop), contender.trained
            name, seed = contender.strategy, contender.seed
            told = trained.stop_forecasts
            kept(name, run.samples, stretches, trained.report, told, seed, spread, extra).save(
                folder / str(window.number)
            )
            continue
        _save_models(folder / str(window.number), contender, panel.interval_ns, spread, extra)


def _window(run: Finished, window: Window) -> dict[str, Any]:
    """A window's entry in windows.json (docs/architecture.md)."""
    choice = run.book.chosen[window.number]
    contender = choice.candidate.contender
    found = contender.found.report if contender.found is not None else {}
    trained = contender.trained.report
    own = Decision(window.number, False, window.number, (), "none")
    if run.outcomes:
        (own,) = (decision for decision in run.outcomes[0].decisions if decision.window == window.number)
    return {
        "window": window.number,
        **{name: run.span(part) for name, part in window.parts().items()},
        **({} if run.risk is None else {"kinds": run.risk.kinds(window.number)}),
        "purge_bars": window.purge_bars,
        "embargo_bars": window.embargo_bars,
        "policy": run.outcomes[0].policy.name if run.outcomes else "none",
        "searched": own.searched,
        "source": own.source,
        "drift": run.drift(own.alarms),
        "distance": _distance(run.book, window.number),
        "policies": [
            {
                "policy": outcome.policy.name,
                "searched": decision.searched,
                "reason": decision.reason,
                "source": decision.source,
                "drift": run.drift(decision.alarms),
            }
            for outcome in run.outcomes
            for decision in outcome.decisions
            if decision.window == window.number
        ],
        "variant": contender.variant,
        "seed": contender.seed,
        "plan": choice.plan.name,
        "threshold": choice.best.threshold,
        "evidence": {
            "best_plan": choice.best.name,
            "in_words": choice.best.words,
            "by_luck": round(choice.by_luck, 4),
            "needed": choice.needed,
            "record_days": choice.record,
            "rehearsed": run.rehearsals,
            "why_flat": choice.why_flat,
        },
        **{k: found[k] for k in ("text", "weights", "history", "features") if k in found},
        # in the size in which it trades
        **{k: trained[k] for k in ("genotype", "architecture", "sizes") if k in trained},
        "decisions": claimed(run.outcomes[0], contender) if run.outcomes else None,
        "diagnostics": {
            k: trained[k]
            for k in ("parameters", "receptive_field", "validation_loss", "validation_correlation")
            if k in trained
        },
    }


def _summary(name: str, run: Finished) -> dict[str, Any]:
    """run.json (docs/architecture.md)."""
    config, panel, book = run.config, run.panel, run.book
    return {
        "run_id": name,
        "command": "python -m strategies.walkforward " + " ".join(sys.argv[1:]).removeprefix("walkforward "),
        "config": config.model_dump(mode="json"),
        "provenance": _provenance(run),
        "regimes": _regimes(run),
        "planted": planted_in(panel),
        "timings": {k: round(v, 2) for k, v in run.timings.items()},
        "headline": book.headline,
        "policies": book.policies,
        "change_points": [run.iso(bar) for bar in _change_points(panel, *run.traded)],
        "costs": {
            "taker_fee_bps": config.taker_fee_bps,
            "maker_fee_bps": config.maker_fee_bps,
            **({"fees": config.fees} if config.fees else {}),
            "slippage_bps": config.slippage_bps,
            "slippage_model": config.slippage_model,
            "funding": run.funding.charged,
            "account": config.account,
            "order": config.order,
        },
        "break_even_bps": book.break_even_bps,
        "strategies": book.kinds,
    }


def _provenance(run: Finished) -> dict[str, Any]:
    panel = run.panel
    return {
        "source": panel.source,
        "simulated": panel.simulated,
        "symbols": list(panel.assets),
        "interval": run.config.interval,
        "start": run.iso(0),
        "end": str(pd.Timestamp(panel.close_times[-1]).tz_localize("UTC").isoformat()),
        "bars": len(panel),
        "days_per_year": round(panel.days_per_year, 2),
        "data_fingerprint": panel.fingerprint(),
        "code_version": run.code,
        "packages": package_versions(),
        "arithmetic": arithmetic.facts(),
        "order_rules": {asset: _order_rules(run.config, panel, asset) for asset in panel.assets},
        "funding": list(run.funding.said),
        "notes": [*panel.notes, *run.said, *(f"no {name}: left out" for name in run.samples.bank.missing)],
    }


def _regimes(run: Finished) -> list[dict[str, str]]:
    """Where a simulated market's regime changes; empty for a real one."""
    panel = run.panel
    if panel.regimes is None:
        return []
    edges = [0, *(np.flatnonzero(np.diff(panel.regimes)) + 1).tolist(), len(panel)]
    return [
        {"start": run.iso(a), "stop": run.iso(b), "name": panel.regime_names[int(panel.regimes[a])]}
        for a, b in itertools.pairwise(edges)
    ]
