"""The terms an account trades on: fees and slippage, the kind of account, how orders are sent, the exchange's rules of an asset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from data.panel import FloatArray, InputError, Panel
from nas.features.bank import causal_volatility

SLIPPAGE_MODELS = ("fixed", "volatility", "spread")
MOST_SLIPPAGE = 0.5  # of the price: a broken spread record must not make prices negative
ACCOUNT_KINDS = ("perpetual", "cash", "spot")
ORDER_KINDS = ("market", "limit", "stop")


@dataclass(frozen=True)
class Fees:
    """What trading one asset costs, in basis points of notional, where it is not the account's rate (None: it is).

    Examples
    --------
    >>> from strategies import Costs, Fees
    >>> Costs(fees={"SOLUSDT": Fees(taker_fee_bps=10.0)}).fees_bps("SOLUSDT")
    (10.0, 2.0)
    """

    taker_fee_bps: float | None = None
    maker_fee_bps: float | None = None

    def __post_init__(self) -> None:
        for name in ("taker_fee_bps", "maker_fee_bps"):
            if getattr(self, name) is not None:
                _check_bps(name, getattr(self, name))


@dataclass(frozen=True)
class Costs:
    """Costs in basis points of notional. Defaults: Bybit linear perpetuals without a VIP level.

    fees: asset -> its own fees; every other asset, and what is None there, pays the account's two rates.
    slippage_model: how far a market or triggered stop order fills from its price, always against it:
        `fixed`       slippage_bps;
        `volatility`  volatility_share of one bar's standard deviation known when the order was sent, slippage_bps at least;
        `spread`      spread_share of the recorded spread (panel field `spread`, bid to ask over their mean) known when the
                      order was sent; slippage_bps where none was recorded.

    Examples
    --------
    >>> from strategies import Costs
    >>> Costs(taker_fee_bps=4.0, slippage_bps=2.0).times(2.0).taker_fee_bps
    8.0
    """

    taker_fee_bps: float = 5.5
    maker_fee_bps: float = 2.0
    slippage_bps: float = 1.0
    slippage_model: str = "fixed"
    volatility_share: float = 0.05
    spread_share: float = 0.5
    fees: Mapping[str, Fees] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("taker_fee_bps", "maker_fee_bps", "slippage_bps"):
            _check_bps(name, getattr(self, name))
        for name in ("volatility_share", "spread_share"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {getattr(self, name)}")
        if self.slippage_model not in SLIPPAGE_MODELS:
            raise ValueError(f"no slippage model {self.slippage_model!r}; there are {', '.join(SLIPPAGE_MODELS)}")

    def times(self, multiple: float) -> Costs:
        """The same model with every fee and all slippage `multiple` times as large."""
        names = ("taker_fee_bps", "maker_fee_bps", "slippage_bps", "volatility_share", "spread_share")
        scaled: dict[str, Any] = {name: getattr(self, name) * multiple for name in names}
        pairs = {asset: self.fees_bps(asset) for asset in self.fees}
        return replace(
            self, **scaled, fees={a: Fees(taker * multiple, maker * multiple) for a, (taker, maker) in pairs.items()}
        )

    def fees_bps(self, asset: str) -> tuple[float, float]:
        """(taker, maker) of one asset."""
        own = self.fees.get(asset, Fees())
        taker = self.taker_fee_bps if own.taker_fee_bps is None else own.taker_fee_bps
        maker = self.maker_fee_bps if own.maker_fee_bps is None else own.maker_fee_bps
        return taker, maker

    def slippage(self, panel: Panel, start: int, stop: int) -> FloatArray:
        """[n, A]: slippage of a fill in bars start..stop as a fraction of its price; reads earlier bars only.

        InputError where the model reads a spread and the panel has none.
        """
        out = np.full((stop - start, len(panel.assets)), self.slippage_bps * 1e-4)
        if self.slippage_model == "fixed":
            return out
        if self.slippage_model == "volatility":
            known = self.volatility_share * causal_volatility(panel)
        else:
            if not panel.has("spread"):
                raise InputError(
                    "slippage_model spread needs the spread of recorded order books, which this history lacks: "
                    "python -m data.record keeps them; or choose volatility or fixed"
                )
            known = self.spread_share * panel.field("spread")
        before = np.vstack([np.full((1, out.shape[1]), np.nan), known[:-1]])[start:stop]
        slipped: FloatArray = np.where(np.isfinite(before), before, out)
        if self.slippage_model == "volatility":
            slipped = np.maximum(slipped, out)
        return np.minimum(slipped, MOST_SLIPPAGE)


def _check_bps(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value < 10_000):
        raise ValueError(f"{name} must lie between 0 and 10000, not {value}")


@dataclass(frozen=True)
class Account:
    """The account that trades. `kind`:

    perpetual  linear perpetuals under cross margin: leverage, funding, liquidation;
    cash       positions paid in full (at most 1 x equity, long or short), no funding;
    spot       the same, long only.

    initial_equity:     quote currency.
    leverage:           perpetual: largest sum of |position| / equity a fill may lead to (the initial margin is its
                        inverse); what goes beyond is cut from the order.
    maintenance_margin: perpetual: the account is liquidated where equity <= this fraction of sum |position|.
    liquidation_fee:    fraction of notional a liquidation costs beside taker fee and slippage (the exchange takes the
                        position over below the price where the margin gave out). Equity never falls below 0.
    rebalance_band:     a position whose weight drifted further than this from an unchanged target is traded back to it.
    stop_loss:          a position is closed where the price is this many volatilities of a day against its average entry (0: no
                        stop). The volatility is that of the order that changed the position last; a symbol that was stopped out
                        stays flat until its target leaves that side.

    Examples
    --------
    >>> from strategies import Account
    >>> Account(leverage=3.0).most_exposure, Account(kind="spot").most_exposure
    (3.0, 1.0)
    """

    initial_equity: float = 100_000.0
    leverage: float = 10.0
    rebalance_band: float = 0.1
    kind: str = "perpetual"
    maintenance_margin: float = 0.005  # Bybit BTCUSDT, lowest risk tier
    liquidation_fee: float = 0.005
    stop_loss: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.initial_equity) and self.initial_equity > 0):
            raise ValueError(f"initial_equity must be > 0, not {self.initial_equity}")
        if not self.leverage > 0 or not self.rebalance_band >= 0:
            raise ValueError("leverage must be > 0 and rebalance_band >= 0")
        if self.kind not in ACCOUNT_KINDS:
            raise ValueError(f"no account {self.kind!r}; there are {', '.join(ACCOUNT_KINDS)}")
        if not (math.isfinite(self.stop_loss) and self.stop_loss >= 0):
            raise ValueError(f"stop_loss must be a finite number >= 0, not {self.stop_loss}")
        if not 0 <= self.maintenance_margin < 1 or not 0 <= self.liquidation_fee < 1:
            raise ValueError("maintenance_margin and liquidation_fee must lie between 0 and 1")
        if self.kind == "perpetual" and self.maintenance_margin >= 1 / self.leverage:
            raise ValueError(
                f"maintenance_margin {self.maintenance_margin} must be below the initial margin 1/{self.leverage:g}"
            )

    @property
    def most_exposure(self) -> float:
        """Largest sum of |position| / equity."""
        return self.leverage if self.kind == "perpetual" else 1.0

    @property
    def maintenance(self) -> float:
        """Fraction of sum |position| below which equity is liquidated; 0 where nothing is borrowed."""
        return self.maintenance_margin if self.kind == "perpetual" else 0.0


#: a stop nearer to nothing than this is none of a long position
_FURTHEST_STOP = 0.95
_DAY_NS = 86_400_000_000_000


def stop_distance(stop_loss: float, volatility: float, interval_ns: int) -> float:
    """How far from the entry a protective stop is, as a fraction of it. volatility: of a bar; 0 where it is not known.

    >>> round(stop_distance(3.0, 0.01, 3_600_000_000_000), 6)  # three volatilities of a day, of hours of 1%
    0.146969
    """
    if not math.isfinite(volatility):
        return 0.0
    return min(stop_loss * volatility * math.sqrt(_DAY_NS / interval_ns), _FURTHEST_STOP)


def stop_distances(
    panel: Panel, start: int, stop: int, stop_loss: float, volatility: FloatArray | None = None
) -> FloatArray:
    """[n, A]: `stop_distance` of orders decided at the closes of bars start..stop.

    volatility: [T, A] of a bar, known at its close; by default EWMA(48), which reads bars up to each only.
    """
    if not stop_loss:
        return np.zeros((stop - start, len(panel.assets)))
    known = (causal_volatility(panel) if volatility is None else volatility)[start:stop]
    scaled = stop_loss * known * math.sqrt(_DAY_NS / panel.interval_ns)
    out: FloatArray = np.where(np.isfinite(known), np.minimum(scaled, _FURTHEST_STOP), 0.0)
    return out


@dataclass(frozen=True)
class Orders:
    """How a target becomes an order at the close where it is decided.

    kind:        `market` fills at the next open (taker). `limit` rests offset_bps better than the close and fills at its
                 price only where a bar trades beyond it (maker). `stop` waits offset_bps worse than the close and fills at
                 its price, or at the open beyond it, with slippage (taker).
    expiry_bars: an order that is still open after this many bars is cancelled (0: never).
    volume_share: most of one bar's volume that an order may take; the rest waits for later bars (inf: no limit).

    A new target replaces the open order of its asset. An order whose asset has no bar waits for the next one.

    Examples
    --------
    >>> from strategies import Orders
    >>> Orders("limit", offset_bps=5.0, expiry_bars=3).kind
    'limit'
    """

    kind: str = "market"
    offset_bps: float = 0.0
    expiry_bars: int = 0
    volume_share: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in ORDER_KINDS:
            raise ValueError(f"no order kind {self.kind!r}; there are {', '.join(ORDER_KINDS)}")
        if not (math.isfinite(self.offset_bps) and 0 <= self.offset_bps < 10_000):
            raise ValueError(f"offset_bps must lie between 0 and 10000, not {self.offset_bps}")
        if self.expiry_bars < 0 or not self.volume_share > 0:
            raise ValueError("expiry_bars must be >= 0 and volume_share > 0")


@dataclass(frozen=True)
class Instrument:
    """What the exchange lets an order be: size in whole lots (base units), price in whole ticks, notional (quote) at least.

    0 means no rule. A position may always be closed whole.

    Examples
    --------
    >>> from strategies import Instrument
    >>> Instrument(lot=0.001, tick=0.1, minimum_notional=5.0).lot
    0.001
    """

    lot: float = 0.0
    tick: float = 0.0
    minimum_notional: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lot", "tick", "minimum_notional"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {getattr(self, name)}")


NO_RULES: Mapping[str, Instrument] = MappingProxyType({})
