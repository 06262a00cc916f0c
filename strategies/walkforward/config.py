"""What a run is asked to do: presets, a file, the command line; later ones win. Unknown keys are refused with a suggestion.

A further setting is one line in `RunConfig`: its flag, its place in files and --print-config, docs/commands.md and its check follow.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from data.errors import InputError, nearest
from data.market_settings import MARKET, MarketSettings
from data.settings import Count, Duration, Share, same_as, setting
from data.settings_file import check_names, read_settings
from data.symbols import parse_symbol
from nas.search.request import MOST_SEED, SearchRequest
from nas.space.search_space import Graph

WINDOWS, SEARCH, TRADING = "Windows", "Search and training", "Positions, account and costs"
RIVALS, RUNNING, OUTPUT = "Rivals", "How to run", "What to write"
GROUPS = (MARKET, WINDOWS, SEARCH, TRADING, RIVALS, RUNNING, OUTPUT)

PRESETS = Path(__file__).parent / "presets"
#: what the bundled prices ask for where nothing else is said: money that is paid in full, days instead of hours. Costs are an assumption:
#: a broker without commission, 1 basis point for what an exchange and the state take, 2 for the spread of a large fund or stock
OF_BUNDLED: dict[str, Any] = {
    "symbol": "SP500", "account": "spot", "max_leverage": 1.0, "taker_fee_bps": 1.0, "maker_fee_bps": 1.0, "slippage_bps": 2.0,
    "train": "2190d", "validation": "730d", "test": "730d",
}  # fmt: skip
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class RunConfig(MarketSettings):
    """One resolved run. Durations like `180d`, `36h`, `2w` or a plain number of bars.

    Examples
    --------
    >>> from strategies import RunConfig
    >>> RunConfig(symbol="BTCUSDT,ETHUSDT", seeds=3).symbol
    ('BTCUSDT', 'ETHUSDT')
    """

    preset: str = setting("default", "tour, quick, default or thorough.")
    seed: int = setting(0, "Same seed, data, code and kind of processor: same bytes.", SEARCH, ge=0, le=MOST_SEED)
    target: tuple[str, ...] = setting(
        ("return",),
        "What is forecast, several with commas: return, range, volatility, volume, drawdown; range:24 looks 24 bars ahead.",
        SEARCH,
        min_length=1,
    )
    horizon: tuple[Count, ...] = setting(
        (6,), "Bars ahead that are forecast: 6 or 1,6,24; the first one trades.", SEARCH, min_length=1
    )
    train: Duration = setting("180d", "Training stretch, e.g. 180d or bars.", WINDOWS)
    validation: Duration = setting("60d", "Validation stretch.", WINDOWS)
    test: Duration = setting("60d", "Unseen stretch that is traded.", WINDOWS)
    step: Duration | None = setting(None, "How far each window moves (default: the test length).", WINDOWS)
    anchored: bool = setting(False, "Every training stretch starts at the first bar.", WINDOWS)
    holdout: Duration | None = setting(
        None, "Last stretch that no run reads, until `python -m reports unseal RUN` opens it once, e.g. 90d.", WINDOWS
    )
    purge: Duration | None = setting(
        None, "Bars between train and validation (default: what labels and network reach).", WINDOWS
    )
    embargo: Duration | None = setting(None, "Bars between validation and test (default: the purge).", WINDOWS)
    policy: tuple[str, ...] = setting(
        ("every",),
        "When to search again, several side by side: every, period:N, drift, never, frozen, random; cpcv: cross-validation besides.",
        WINDOWS,
        min_length=1,
    )
    warm_start: bool = setting(False, "Each search starts from the last window's relaxed weights.", SEARCH)
    ensemble: bool = setting(False, "Trade the mean forecast of the seeds instead of the best seed.", SEARCH)
    mean_of: Count = setting(
        1, "Likeliest architectures of every search whose mean forecast trades; 12 where nothing can be chosen.", SEARCH
    )
    variant: tuple[str, ...] = setting(
        ("darts",),
        "Search variants that compete (docs/variants.md), validation chooses; none: no search.",
        SEARCH,
        min_length=1,
    )
    baselines: tuple[str, ...] = setting(
        ("tcn",),
        "all, none, or names of networks and rules; module:Name is a model of your own (docs/judge.md).",
        RIVALS,
    )
    forecasts: tuple[str, ...] = setting(
        (), "File of anybody's forecasts to judge: timestamp, symbol, and a column per model.", RIVALS, repeat=True
    )
    forecasts_are: Literal["auto", "score", "return", "deviations", "price", "probability"] = setting(
        "auto",
        "What they say: the return (or it in standard deviations) or price --horizon bars ahead, the probability of a rise, a score.",
        RIVALS,
    )
    forecast_stamps: Literal["open", "close"] = setting(
        "open", "Their rows bear the opening or the closing time of the bar at whose close they were known.", RIVALS
    )
    rules: tuple[str, ...] = setting(("sma_cross",), "Trading rules to compete with.", RIVALS)
    seeds: Count = setting(1, "Searches per window, the best by validation trades.", SEARCH)
    nodes: Count = same_as(SearchRequest, "nodes", SEARCH)
    cells: Count = same_as(SearchRequest, "cells", SEARCH)
    channels: Count = same_as(SearchRequest, "channels", SEARCH)
    cell_inputs: Literal[1, 2] = same_as(SearchRequest, "cell_inputs", SEARCH, flag=False)
    edges_per_node: Count = setting(2, "Edges that each node keeps.", SEARCH, flag=False)
    graph: Graph = setting(
        "dense",
        "Edges of the cell to choose from: dense, chain, or pairs of source and node (docs/variants.md).",
        SEARCH,
        flag=False,
    )
    sizes: tuple[str, ...] = setting(
        (), "Cells x channels to train the found network in, e.g. 1x8,2x32; validation chooses.", SEARCH, flag=False
    )
    ops: tuple[str, ...] = setting(
        (), "Ops an edge may choose, e.g. identity,dense,ema12,attention (default: all of docs/variants.md).", SEARCH
    )
    share: str = setting(
        "all",
        "Several symbols: all weights shared, embedding (and a vector each), or none (time and memory squared).",
        SEARCH,
    )
    features: str | dict[str, tuple[str, ...]] = setting(
        "default", "Candidates for the inputs: default or full (a table, input -> pipelines: in a file).", SEARCH
    )
    search_cells: Count | None = setting(None, "Cells of the search's proxy (default: cells).", SEARCH, flag=False)
    search_channels: Count | None = setting(
        None, "Channels of the search's proxy (default: channels).", SEARCH, flag=False
    )
    search_length: Count = setting(256, "Bars of a stretch that a search learns from in one piece.", SEARCH, flag=False)
    search_batch: Count = setting(4, "Such stretches per step.", SEARCH, flag=False)
    alpha_learning_rate: float = setting(2e-2, "Of the architecture's weights.", SEARCH, flag=False, gt=0)
    search_repeats: Count = setting(
        1, "Searches from other starting weights; what they agree on is decided.", SEARCH, flag=False
    )
    undecided: Literal["simpler", "first"] = setting(
        "simpler", "What an edge holds whose op is not shown to beat the next best.", SEARCH, flag=False
    )
    alpha_weight_decay: float = setting(
        0.1, "Of the architecture's weights, in sizes of the gradient of the validation loss.", SEARCH, flag=False, ge=0
    )
    temperature: float = setting(1.0, "Of the softmax over ops.", SEARCH, flag=False, gt=0)
    temperature_end: float | None = setting(None, "What it becomes by the end of a search.", SEARCH, flag=False, gt=0)
    temperature_schedule: Literal["constant", "linear", "exponential", "cosine"] = setting(
        "exponential", "Its way there.", SEARCH, flag=False
    )
    random_init: bool = setting(False, "A search starts from a random preference.", SEARCH, flag=False)
    parameter_cost: float = setting(
        0.25,
        "Price of a finalist's parameters; 1: the Bayesian information criterion.",
        SEARCH,
        flag=False,
        ge=0,
    )
    op_costs: dict[str, Share] = setting(
        {},
        "Time of every op, as measured, for --variant latency (python -m benchmarks.op_times); else counted.",
        SEARCH,
        flag=False,
    )
    reproducible: bool = setting(False, "The same bytes on any x86-64 processor (docs/walkforward.md).", RUNNING)
    device: str = setting("cpu", "Where networks are trained: cpu, cuda or auto.", RUNNING)
    stack: Count | None = setting(
        None,
        "Searches that advance together as one batch (default: 64 on a GPU, or what its memory holds; 1 on a CPU).",
        RUNNING,
    )
    search_epochs: Count = setting(50, "Passes of a search over its training stretch.", SEARCH)
    search_fraction: float = same_as(SearchRequest, "search_fraction", SEARCH)
    finalists: Count = setting(
        1, "Likeliest architectures of a search that are trained apart; validation chooses among them.", SEARCH
    )
    finalist_epochs: Count = setting(20, "Passes over the training stretch for each of them.", SEARCH, flag=False)
    finalist_starts: Count = setting(
        5, "Starting weights of those with an attention, a gate or a module.", SEARCH, flag=False
    )
    finalist_learning_rate: float = setting(2e-2, "Of their weights.", SEARCH, flag=False, gt=0)
    loss: str = same_as(SearchRequest, "loss", SEARCH)
    training_epochs: Count = setting(
        30, "Passes over the training stretch when the found network is trained anew.", SEARCH
    )
    volatility: Literal["ewma", "harx"] = setting(
        "ewma", "What scales labels and positions: ewma, or harx (docs/risk.md).", TRADING
    )
    target_volatility: float = setting(0.3, "Volatility a year that positions aim at: 0.3 is 30%.", TRADING)
    max_leverage: float = setting(2.0, "Most |position| of one asset, in equities.", TRADING)
    weighting: str = setting(
        "equal_risk",
        "Several symbols: equal_risk, volatility_target, long_short, mean_risk or hrp (docs/many-assets.md).",
        TRADING,
    )
    gross_limit: float | None = setting(None, "Several symbols: most sum of |weights|, in equities.", TRADING)
    net_limit: float | None = setting(None, "Several symbols: most |sum of weights|, in equities.", TRADING)
    turnover_penalty: float | None = setting(
        None, "Several symbols: a weight stops this far before the wanted one, to trade less.", TRADING
    )
    thresholds: tuple[Share, ...] = setting(
        (0.5, 1.0, 2.0),
        "Plans: |forecast| that enters, in standard deviations of the forecasts before the test stretch.",
        TRADING,
        flag=False,
        min_length=1,
    )
    smoothings: tuple[Share, ...] = setting(
        (0.0, 2.0),
        "Plans: over how many horizons the forecast is averaged.",
        TRADING,
        flag=False,
        min_length=1,
    )
    cost_hurdles: tuple[Share, ...] = setting(
        (0.0, 1.0),
        "Plans: the expected move must be this many times the cost of a round trip.",
        TRADING,
        flag=False,
        min_length=1,
    )
    evidence: float = setting(
        0.1,
        "Share of windows that may trade where nothing has skill, by the record on earlier test stretches; 1: whatever earned anything.",
        TRADING,
        gt=0,
        le=1,
    )
    rehearsals: int = setting(
        1,
        "Smaller walk-forwards inside the first window's training bars: the first record that `evidence` asks for; 0: none.",
        TRADING,
        ge=0,
    )
    no_trade_band: float = setting(
        0.2, "A held side is resized only where the size differs by more than this, in equities.", TRADING, flag=False
    )
    taker_fee_bps: float = setting(5.5, "Taker fee in basis points of what is traded.", TRADING)
    maker_fee_bps: float = setting(2.0, "Maker fee in basis points.", TRADING)
    fees: dict[str, dict[Literal["taker_fee_bps", "maker_fee_bps"], float]] = setting(
        {}, "Fees of single symbols, taker or taker/maker: BTCUSDT=4,SOLUSDT=10/4.", TRADING
    )
    slippage_bps: float = setting(1.0, "Slippage in basis points.", TRADING)
    slippage_model: str = setting("fixed", "fixed, volatility or spread (docs/execution.md).", TRADING)
    account: str = setting(
        "perpetual", "perpetual, cash (paid in full, no funding) or spot (the same, no shorts).", TRADING
    )
    account_leverage: float = setting(10.0, "Most exposure of a perpetual account, in equities.", TRADING)
    maintenance_margin: float = setting(
        0.005, "A perpetual account is liquidated below this fraction of its exposure.", TRADING, flag=False
    )
    stop_loss: float = setting(
        0.0, "A position is closed this many volatilities of a day from its entry; 0: never.", TRADING, ge=0
    )
    order: str = setting("market", "market, limit or stop (docs/execution.md).", TRADING)
    order_offset_bps: float = setting(0.0, "How far from the close a limit or stop order waits.", TRADING, flag=False)
    order_expiry_bars: int = setting(
        0, "Bars after which an open order is cancelled; 0: never.", TRADING, flag=False, ge=0
    )
    instruments: dict[str, dict[Literal["lot", "tick", "minimum_notional"], float]] = setting(
        {}, "Order rules of single symbols, instead of the exchange's.", TRADING, flag=False
    )
    initial_equity: float = setting(100_000.0, "Money at the start, in the quote currency.", TRADING)

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
                raise ValueError(f"{text!r} is no size: give cells x channels, e.g. 1x16 or 2x32")
        return value

    @field_validator("fees", "instruments", mode="before")
    @classmethod
    def _by_symbol(cls, value: Any) -> Any:
        table = _parsed_fees(value) if isinstance(value, str) else value
        return {parse_symbol(str(name)): terms for name, terms in table.items()} if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _arithmetic(self) -> RunConfig:
        if self.reproducible and self.device != "cpu":
            raise ValueError(
                f"reproducible pins the arithmetic of processors, not of device {self.device}: leave one out"
            )
        if self.reproducible and (self.stack or 1) > 1:
            raise ValueError("reproducible searches run one by one: leave stack out")
        return self

    @property
    def searches(self) -> bool:
        """Whether networks are searched at all."""
        return self.variant != ("none",)

    @model_validator(mode="after")
    def _somebody(self) -> RunConfig:
        if "none" in self.variant and len(self.variant) > 1:
            raise ValueError(f"variant {','.join(self.variant)}: none stands alone, or is left out")
        if self.forecasts and "return" not in self.target:
            raise ValueError(
                f"forecasts are judged by the positions they make, and --target {','.join(self.target)} takes no side"
            )
        return self

    @model_validator(mode="after")
    def _known_symbols(self) -> RunConfig:
        """A misspelt symbol would quietly trade at the account's terms."""
        for name, table in (("fees", self.fees), ("instruments", self.instruments)):
            for symbol in table:
                if symbol not in self.symbol:
                    asked = ",".join(self.symbol)
                    hint = nearest(symbol, self.symbol)
                    raise ValueError(f"{name} names {symbol!r}, which --symbol {asked} does not{hint}")
        return self


def resolve(preset: str | None, file: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """`resolve_all` where only settings may be given.

    Examples
    --------
    >>> from strategies import resolve
    >>> resolve("quick", None, {"train": "90d"}).train
    '90d'
    """
    return resolve_all(preset, file, flags)[0]


def resolve_all(
    preset: str | None, file: Path | None, flags: Mapping[str, Any], also: Collection[str] = ()
) -> tuple[RunConfig, dict[str, Any]]:
    """Preset, then file, then the flags that were given (not None); a later one wins.

    preset: None takes the file's, or `default`. also: names beside the settings that file and flags may hold (how to run, not what);
    they are returned as they are. InputError for anything unknown, with a suggestion.
    """
    written = read_settings(file) if file is not None else {}
    preset = str(preset if preset is not None else written.get("preset", "default"))
    values = of_preset(preset)
    given = written | {key: value for key, value in flags.items() if value is not None}
    if given.get("source", values.get("source")) == "bundled":
        values |= OF_BUNDLED
    if given.keys() & {"cells", "channels"}:
        # who names a size means it: a preset's others are not tried, nor its proxy
        values = {k: v for k, v in values.items() if k not in ("sizes", "search_cells", "search_channels")}
    values |= given | {"preset": preset}
    known = [*RunConfig.model_fields, *also]
    for key, value in _of_category(str(values.get("category", "linear")), values).items():
        values.setdefault(key, value)
    check_names(values, known)
    rest = {key: value for key, value in values.items() if key in also}
    return RunConfig.read({key: value for key, value in values.items() if key not in also}), rest


def of_preset(name: str) -> dict[str, Any]:
    """What a preset sets. InputError where there is none of that name."""
    path = PRESETS / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"no preset {name!r}; there are {', '.join(sorted(p.stem for p in PRESETS.glob('*.toml')))}")
    return tomllib.loads(path.read_text())


def _parsed_fees(text: str) -> dict[str, dict[str, float]]:
    """`BTCUSDT=5.5,SOLUSDT=10/4` -> by symbol, taker and (after the slash) maker fee. ValueError for anything else."""
    found: dict[str, dict[str, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        symbol, _, rates = part.partition("=")
        try:
            numbers = [float(rate) for rate in rates.split("/")]
        except ValueError:
            numbers = []
        if not symbol or not 1 <= len(numbers) <= 2 or symbol in found:
            raise ValueError(
                f"{part!r} gives no symbol its fees in basis points; give e.g. BTCUSDT=5.5,SOLUSDT=10/4 (taker, or taker/maker)"
            )
        found[symbol] = dict(zip(("taker_fee_bps", "maker_fee_bps"), numbers, strict=False))
    return found


def _of_category(category: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a category of Bybit asks for where nothing else was said. InputError for what the accounts here cannot trade truly."""
    if category == "linear":
        return {}
    if category == "inverse":
        raise InputError(
            "--category inverse: an inverse contract is worth dollars and pays in the coin, which the accounts here do not hold; "
            "trade --category linear (BTCUSDT) or spot (its history: python -m data.download --category inverse)"
        )
    if category != "spot":
        raise InputError(f"no --category {category!r}; there are linear, spot")
    if values.get("account", "spot") == "perpetual":
        raise InputError(
            "--category spot cannot be traded in a perpetual account; leave account out, or set it to spot or cash"
        )
    # 10: taker and maker fee of Bybit's spot market without any discount
    return {"account": "spot", "taker_fee_bps": 10.0, "maker_fee_bps": 10.0}


def bars_of(duration: str, interval_ns: float, name: str) -> int:
    """`180d`, `36h` or a plain number of bars -> bars."""
    text = duration.strip().lower()
    if text.isdigit():
        return int(text)
    if len(text) > 1 and text[-1] in _UNITS_S and text[:-1].replace(".", "", 1).isdigit():
        return max(1, round(float(text[:-1]) * _UNITS_S[text[-1]] * 1e9 / interval_ns))
    raise InputError(f"--{name} {duration!r} is no duration: give e.g. 180d, 36h, 2w or a number of bars")
