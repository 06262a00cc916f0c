"""The strategy that trades: a model folder, read and checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.intervals import interval_name
from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel
from data.series import SeriesKey
from nas.baselines.own_model import OwnModel, load_own, own_name
from nas.features.bank import FeatureBank
from nas.features.inputs import raw_input
from nas.features.transforms import ewm_memory
from nas.network.model import ENSEMBLE_FILE, TrainedModel, load_model
from nas.network.model_check import known_keys
from nas.space.kinds import BASE_INPUT
from nas.targets import Scale
from nas.targets.scale import sizing_bars
from nas.targets.series import bars_of_hours
from strategies.backtest.portfolio import COVARIANCE_SPAN_BARS, OPTIMISED, Portfolio, book_of
from strategies.backtest.positions import PositionRule
from strategies.backtest.sizing import RiskForecast, Sizing, load_risk
from strategies.paper.decisions.side_inputs import companions_of
from strategies.walkforward.provenance import decision_version

MOST_MEMBERS = 1_000
VOLATILITY_SPAN = 48  # of nas.features.bank.causal_volatility


@dataclass(frozen=True)
class Strategy:
    """A model folder, read and checked: the network, the rule, the portfolio, and which symbols of it are traded.

    symbols: of the model, in order. traded: all of them, or some that do not depend on the others. companions: series that its
    inputs need beside candles and funding of the traded ones. sizing, risk: by what positions are sized, and every risk forecast of the
    model, for the symbols of `assets`.
    others_of_mean: networks whose forecasts are averaged with the model's. holds: it forecasts no direction and is always in the market.
    """

    name: str
    folder: Path
    model: TrainedModel
    rule: PositionRule
    portfolio: Portfolio
    symbols: tuple[str, ...]
    traded: tuple[str, ...]
    companions: tuple[SeriesKey, ...]
    others_of_mean: tuple[TrainedModel, ...] = ()
    sizing: Sizing = field(default_factory=lambda: Sizing(Scale()))
    risk: Mapping[str, RiskForecast] = field(default_factory=dict)
    holds: bool = False

    @property
    def assets(self) -> tuple[str, ...]:
        """Symbols of the panel that the inputs need, in the model's order."""
        others = {key.symbol for key in self.companions}
        return tuple(s for s in self.symbols if s in self.traded or s in others)

    @property
    def stop_loss(self) -> float:
        """Of the run's account, in volatilities of a day; 0: it had none."""
        return float(self.model.extra.get("stop_loss", 0.0))

    @property
    def stays_flat(self) -> bool:
        """The run found no plan worth trading for this window (strategies.walkforward.choice): every target will be 0."""
        return self.rule.threshold >= 1e9

    @property
    def flat_because(self) -> str:
        """Why it stays flat, in a sentence; empty where it does not."""
        if not self.stays_flat:
            return ""
        return str(self.model.extra.get("flat_because") or "the run found no plan worth trading in its last window")

    @property
    def history_bars(self) -> int:
        """Bars until the first target no longer depends on where the history began."""
        named = [raw_input(name) for name in inputs_read((self.model, *self.others_of_mean), self.risk)]
        needed = {field for raw in named if raw is not None for field in raw.needs}
        fields = (*CANDLE_FIELDS, *sorted(needed - {*CANDLE_FIELDS}))
        stamps = np.datetime64(0, "ns") + np.arange(8) * np.timedelta64(self.model.interval_ns, "ns")
        ones = Panel(
            stamps, self.assets, fields, np.ones((8, len(self.assets), len(fields))), self.model.interval_ns, "none"
        )
        members = (self.model, *self.others_of_mean)
        reach = max(m.bank(ones).warmup_bars + m.network.receptive_field for m in members)
        hours = self.sizing.scale.memory_hours
        sized = ewm_memory(VOLATILITY_SPAN) + (bars_of_hours(hours, self.model.interval_ns) if hours else 0)
        for forecast in self.risk.values():
            problem = forecast.problem(ones)
            day = sizing_bars(forecast.model.horizon, ones)
            sized = max(sized, max(problem.bank.warmup_bars + forecast.memory_bars, problem.columns.memory) + day)
        weighting, portfolio = self.portfolio.weighting, 0
        if weighting in ("volatility_target", *OPTIMISED):
            portfolio = ewm_memory(COVARIANCE_SPAN_BARS)
        if weighting in OPTIMISED:
            portfolio = max(portfolio, self.portfolio.estimation_bars + self.portfolio.rebalance_bars)
        return max(reach, sized, portfolio) + 8

    def volatility(self, whole: Panel) -> FloatArray:
        """[T, A] per bar of the traded symbols, by which positions are sized. whole: a panel with all that the inputs read."""
        return self.sizing.volatility(whole)[:, [whole.assets.index(symbol) for symbol in self.traded]]

    def book(self, panel: Panel, volatility: FloatArray, forecasts: FloatArray, start: int) -> FloatArray:
        """Targets [n, A] from the forecasts [n, A] of bars start.., where the model took over. panel: of the traded symbols."""
        return book_of(
            panel, self.portfolio.signal(forecasts), volatility, start, self.rule, self.portfolio,
            others=len(self.symbols) - len(self.traded),
        )  # fmt: skip

    def forecasts(self, panel: Panel, start: int, stop: int, bank: FeatureBank | None = None) -> FloatArray:
        """[stop - start, A] of the traded symbols, from a panel with all that the inputs read; where it only holds, 1 as soon as
        its size is known. bank: the model's features of the panel, where they are computed already."""
        at = [panel.assets.index(symbol) for symbol in self.traded]
        if self.holds:
            assert self.sizing.forecast is not None
            return np.where(np.isfinite(self.sizing.forecast.volatility(panel)[start:stop, at]), 1.0, np.nan)
        if bank is not None and not isinstance(self.model, OwnModel):
            first = self.model.predict_bank(bank, start, stop)[:, at]
        else:
            first = self.model.predict(panel, start, stop)[:, at]
        if not self.others_of_mean:
            return first
        told = [first, *(member.predict(panel, start, stop)[:, at] for member in self.others_of_mean)]
        mean: FloatArray = np.mean(told, axis=0)
        return mean


def inputs_read(models: Sequence[TrainedModel], risk: Mapping[str, RiskForecast]) -> list[str]:
    """Raw inputs of the networks and of the risk forecasts beside them."""
    own = [name for model in models for name, _ in model.genotype.features]
    return list(
        dict.fromkeys(
            [*own, *(name for f in risk.values() for name, _ in f.model.features if not name.startswith(BASE_INPUT))]
        )
    )


def load_strategy(folder: Path, chosen: str | None, interval: str | None, any_code: bool = False) -> Strategy:
    """chosen: symbols of the model, separated by commas (None: all). InputError where the model does not fit, naming what differs."""
    model, *others = [load_own(each) if own_name(each) else load_model(each) for each in members_of(folder)]
    try:
        for each in (model, *others):
            _check_extra(each.extra)
        return _strategy_of(folder, model, others, chosen, interval, any_code)
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{folder}: features.json: {reason}; rerun the walk-forward with --fresh") from None


def _check_tradable(folder: Path, model: TrainedModel, any_code: bool) -> None:
    """InputError where the model was made for another kind of market, or by other code."""
    category = model.extra.get("category", "linear")
    if category == "bundled":
        raise InputError(
            f"{folder}: the model was made of bundled prices ({', '.join(model.extra['symbols'])}), which no exchange here lists; run "
            "python -m strategies.walkforward --symbol BTCUSDT, or --preset tour"
        )
    if category != "linear":
        raise InputError(
            f"{folder}: the model was made for --category {category}; paper trading trades linear perpetuals, rerun without it"
        )
    if "rule" not in model.extra:
        raise InputError(
            f"{folder}: the model holds no position rule (an older version wrote it); rerun the walk-forward"
        )
    code = decision_version()
    if model.extra.get("decision_version") != code and not any_code:
        raise InputError(
            f"{folder}: the model was made by decision code {model.extra.get('decision_version', 'of an older kind')}, this is "
            f"{code}; rerun the walk-forward, or give --any-code to trade it all the same"
        )


def members_of(folder: Path) -> list[Path]:
    """The model folder itself, or those of the networks whose mean was traded. InputError where the file that says so is damaged."""
    try:
        count = json.loads((folder / ENSEMBLE_FILE).read_text())["members"]
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_MEMBERS:
            raise ValueError(f"{count!r} members")
    except FileNotFoundError:
        return [folder]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder / ENSEMBLE_FILE} is damaged ({error}); rerun the walk-forward with --fresh"
        ) from None
    return [folder / "members" / str(k) for k in range(count)]


def _strategy_of(
    folder: Path,
    model: TrainedModel,
    others: Sequence[TrainedModel],
    chosen: str | None,
    interval: str | None,
    any_code: bool,
) -> Strategy:
    trained_for = interval_name(model.interval_ns)
    if interval is not None and interval != trained_for:
        raise InputError(
            f"{folder}: the model was trained on interval {trained_for}, asked for {interval}; leave --interval out"
        )
    asked = tuple(chosen.split(",")) if chosen else ()
    symbols = tuple(model.extra.get("symbols", asked))
    if not symbols:
        raise InputError(
            f"{folder}: the model does not say its symbol (an older version wrote it); give --symbol BTCUSDT"
        )
    strange = [symbol for symbol in asked if symbol not in symbols]
    if strange:
        raise InputError(
            f"{folder}: the model was trained on {', '.join(symbols)}, not on {strange[0]}; leave --symbol out for all of them"
        )
    traded = tuple(symbol for symbol in symbols if not asked or symbol in asked)
    if model.genotype.assets not in ((), symbols):
        raise InputError(
            f"{folder}: the network reads {', '.join(model.genotype.assets)} together, the model names {', '.join(symbols)}; "
            "rerun the walk-forward"
        )
    risk = load_risk(folder)
    sizing = Sizing.of(folder, model.extra, risk)
    portfolio = model.extra.get("portfolio", {})
    if traded != symbols:
        _check_apart(folder, model, portfolio, symbols)
    companions = companions_of(inputs_read((model, *others), risk), symbols, traded, trained_for)
    weighed = Portfolio(**portfolio)
    _check_tradable(folder, model, any_code)
    weights = b"".join((place / "weights.safetensors").read_bytes() for place in members_of(folder))
    name = hashlib.sha256(weights).hexdigest()[:12]
    rule = PositionRule(**model.extra["rule"])
    found = Strategy(name, folder.resolve(), model, rule, weighed, symbols, traded, companions)
    places = [symbols.index(symbol) for symbol in found.assets]
    of = {name: forecast.of_assets(places) for name, forecast in risk.items()}
    return replace(
        found,
        others_of_mean=tuple(others),
        sizing=sizing.of_assets(places),
        risk=of,
        holds=model.extra.get("direction") == "hold",
    )


_EXTRA = (
    "plan", "rule", "horizons", "threshold", "symbols", "category", "portfolio", "code_version", "decision_version", "target",
    "stop_loss", "scale", "direction", "sized_by", "risk", "flat_because", "market", "own",
)  # fmt: skip


def _check_extra(extra: Mapping[str, Any]) -> None:
    """ValueError where what the walk-forward wrote beside the network is not what it writes. Names become parts of paths."""
    known_keys(extra, _EXTRA)
    symbols = extra.get("symbols", ["X1"])
    named = isinstance(symbols, list) and all(isinstance(s, str) and re.fullmatch("[A-Z0-9]{2,20}", s) for s in symbols)
    if not named or len(set(symbols)) != len(symbols) or not symbols:
        raise ValueError(f"symbols are {str(symbols)[:80]}; they must be different names like BTCUSDT")
    for name in ("rule", "portfolio"):
        part = extra.get(name, {})
        if not isinstance(part, Mapping) or any(
            isinstance(v, (list, str)) for k, v in part.items() if k != "weighting"
        ):
            raise ValueError(f"{name} is no list of settings")
        for key, value in part.items():
            whole = key in ("brake_bars", "cooldown_bars", "rebalance_bars", "estimation_bars")
            if whole and (isinstance(value, bool) or not isinstance(value, int)):
                raise ValueError(f"{name}: {key} is {value!r}, no whole number")
            flag = key == "allow_short"
            if flag != isinstance(value, bool):
                raise ValueError(f"{name}: {key} is {value!r}")
    stop_loss = extra.get("stop_loss", 0.0)
    if isinstance(stop_loss, bool) or not isinstance(stop_loss, (int, float)) or not 0 <= stop_loss < 1e3:
        raise ValueError(f"stop_loss is {stop_loss!r}, no number of volatilities")
    market = extra.get("market", {"source": "demo", "seed": 0})
    if not isinstance(market, Mapping) or market.get("source") != "demo" or type(market.get("seed")) is not int:
        raise ValueError(f"market is {str(market)[:80]}, not the demo market of a seed")
    if not isinstance(extra.get("flat_because", ""), str):
        raise ValueError("flat_because is no sentence")
    rule = extra.get("rule", {})
    costs = rule.get("asset_cost_bps", {})
    if not isinstance(costs, Mapping) or any(
        isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 <= v < 1e4 for v in costs.values()
    ):
        raise ValueError("rule: asset_cost_bps must be costs in basis points by symbol")
    if not 0 < rule.get("max_leverage", 1) <= 125 or not 0 <= rule.get("target_volatility", 0) <= 100:
        raise ValueError("rule: max_leverage or target_volatility is beyond what any account allows")


def _check_apart(folder: Path, model: TrainedModel, portfolio: Mapping[str, Any], symbols: Sequence[str]) -> None:
    """Some symbols of a run can be traded without the others only where nothing ties their targets to the others'."""
    everything = f"leave --symbol out to trade {', '.join(symbols)} from one account"
    if model.genotype.assets:
        raise InputError(f"{folder}: the network reads {', '.join(symbols)} together; {everything}")
    alone = {"weighting": "equal_risk", "gross_limit": None, "net_limit": None, "turnover_penalty": None}
    for name, value in alone.items():
        if portfolio.get(name, value) != value:
            raise InputError(
                f"{folder}: the run was traded with {name} {portfolio[name]}, which ties its symbols together; {everything}"
            )
