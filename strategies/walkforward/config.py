"""What a run is asked to do: presets, a file, the command line; later ones win. Unknown keys are refused with a suggestion."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data.errors import InputError, nearest
from data.settings_file import check_names, read_settings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0)]
MOST_SEED = 2**32 - 1  # what every library here takes

PRESETS = Path(__file__).parent / "presets"
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class RunConfig(BaseModel):
    """One resolved run. Durations like `180d`, `36h`, `2w` or a plain number of bars."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    symbol: tuple[str, ...] = Field(("BTCUSDT",), min_length=1)
    interval: str = "60"
    start: str | None = None
    end: str | None = None
    source: str = "auto"
    category: str = "linear"
    data: tuple[str, ...] = ()
    funding: tuple[str, ...] = ()
    fill_gaps: bool = False
    timeframes: tuple[str, ...] = ()
    preset: str = "default"
    seed: int = Field(0, ge=0, le=MOST_SEED)
    horizon: tuple[Count, ...] = Field((6,), min_length=1)
    train: str = "180d"
    validation: str = "60d"
    test: str = "60d"
    step: str | None = None
    anchored: bool = False
    purge: str | None = None
    embargo: str | None = None
    policy: tuple[str, ...] = Field(("every",), min_length=1)
    warm_start: bool = False
    ensemble: bool = False
    variant: tuple[str, ...] = Field(("darts",), min_length=1)
    baselines: tuple[str, ...] = ("tcn",)
    rules: tuple[str, ...] = ("sma_cross",)
    seeds: Count = 1
    nodes: Count = 2
    cells: Count = 1
    channels: Count = 16
    cell_inputs: Literal[1, 2] = 1  # what a cell reads: the cell before, or the two before
    edges_per_node: Count = 2
    sizes: tuple[str, ...] = ()  # cells x channels to train the found network in, e.g. 1x8,2x32; validation chooses
    ops: tuple[str, ...] = ()
    share: str = "all"  # what several assets share: all weights, all but an embedding, none
    features: str | dict[str, tuple[str, ...]] = "default"  # or "full", or a table: input -> candidate pipelines
    search_cells: Count | None = None  # of the search's proxy; the network that trades has `cells` of `channels`
    search_channels: Count | None = None
    search_length: Count = 256  # bars of a stretch that a search learns from in one piece, and stretches per step
    search_batch: Count = 4
    search_repeats: Count = 1  # searches from other starting weights; what they agree on is decided
    undecided: Literal["simpler", "first"] = "simpler"  # what an edge holds whose op is not shown to beat the next best
    alpha_learning_rate: float = Field(2e-2, gt=0)
    alpha_weight_decay: float = Field(0.1, ge=0)  # in sizes of the gradient of the validation loss
    temperature: float = Field(1.0, gt=0)  # of the softmax, and what it becomes by the end of a search
    temperature_end: float | None = Field(None, gt=0)
    temperature_schedule: Literal["constant", "linear", "exponential", "cosine"] = "exponential"
    random_init: bool = False  # a search starts from a random preference
    parameter_cost: float = Field(0.0, ge=0)  # price of an op's parameters; 1: the Bayesian information criterion
    device: str = "cpu"  # or "cuda", "auto"
    search_epochs: Count = 50
    search_fraction: float = 1.0
    finalists: Count = (
        1  # likeliest architectures of a search that are trained apart; the best by validation is its result
    )
    finalist_epochs: Count = 20
    loss: str = "huber"
    training_epochs: Count = 30
    target_volatility: float = 0.3
    max_leverage: float = 2.0
    weighting: str = "equal_risk"  # of several assets: strategies.backtest.portfolio
    gross_limit: float | None = None
    net_limit: float | None = None
    turnover_penalty: float | None = None
    thresholds: tuple[Share, ...] = Field((0.5, 1.0, 2.0), min_length=1)
    smoothings: tuple[Share, ...] = Field((0.0, 2.0), min_length=1)
    cost_hurdles: tuple[Share, ...] = Field((0.0, 1.0), min_length=1)
    evidence: Share = 1.0
    no_trade_band: float = 0.2
    taker_fee_bps: float = 5.5
    maker_fee_bps: float = 2.0
    fees: dict[str, dict[Literal["taker_fee_bps", "maker_fee_bps"], float]] = {}  # symbol -> its own
    slippage_bps: float = 1.0
    slippage_model: str = "fixed"
    account: str = "perpetual"
    account_leverage: float = 10.0
    maintenance_margin: float = 0.005
    order: str = "market"
    order_offset_bps: float = 0.0
    order_expiry_bars: int = Field(0, ge=0)
    instruments: dict[str, dict[Literal["lot", "tick", "minimum_notional"], float]] = {}
    initial_equity: float = 100_000.0

    @field_validator(
        "symbol",
        "timeframes",
        "data",
        "funding",
        "policy",
        "variant",
        "baselines",
        "rules",
        "ops",
        "horizon",
        "thresholds",
        "smoothings",
        "cost_hurdles",
        "sizes",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
                raise ValueError(f"{text!r} is no size: give cells x channels, e.g. 1x16 or 2x32")
        return value

    @field_validator("fees", mode="before")
    @classmethod
    def _fees(cls, value: Any) -> Any:
        return _parsed_fees(value) if isinstance(value, str) else value

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

    @field_validator("train", "validation", "test", "step", "purge", "embargo", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value


def resolve(preset: str | None, file: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """`resolve_all` where only settings may be given."""
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
    path = PRESETS / f"{preset}.toml"
    if not path.is_file():
        raise InputError(f"no preset {preset!r}; there are {', '.join(sorted(p.stem for p in PRESETS.glob('*.toml')))}")
    values: dict[str, Any] = tomllib.loads(path.read_text())
    given = written | {key: value for key, value in flags.items() if value is not None}
    if given.keys() & {
        "cells",
        "channels",
    }:  # who names a size means it: a preset's others are not tried, nor its proxy
        values = {
            key: value for key, value in values.items() if key not in ("sizes", "search_cells", "search_channels")
        }
    values |= given | {"preset": preset}
    known = [*RunConfig.model_fields, *also]
    for key, value in _of_category(str(values.get("category", "linear")), values).items():
        values.setdefault(key, value)
    check_names(values, known)
    rest = {key: value for key, value in values.items() if key in also}
    try:
        return RunConfig(**{key: value for key, value in values.items() if key not in also}), rest
    except ValidationError as error:
        raise InputError(first_problem(error)) from None


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


def first_problem(error: ValidationError) -> str:
    """One line for a person."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"setting {where}: {message}, given {first['input']!r}" if where else message


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
