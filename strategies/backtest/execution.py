"""Targets -> fills and equity, in Backtrader: perpetual costs, funding at true settlement times, one account."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from data.panel import CANDLE_FIELDS, FloatArray, InputError, Panel, TimeArray

SLIPPAGE_MODELS = ("fixed", "volatility", "spread")
MOST_SLIPPAGE = 0.5  # of the price: a broken spread record must not make prices negative
ACCOUNT_KINDS = ("perpetual", "cash", "spot")
ORDER_KINDS = ("market", "limit", "stop")
TRADE_COLUMNS = ("timestamp", "strategy", "asset", "kind", "size", "price", "fee", "slippage", "funding")


@dataclass(frozen=True)
class Fees:
    """What trading one asset costs, in basis points of notional, where it is not the account's rate (None: it is)."""

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
            from nas.features.bank import causal_volatility

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
    """

    initial_equity: float = 100_000.0
    leverage: float = 10.0
    rebalance_band: float = 0.1
    kind: str = "perpetual"
    maintenance_margin: float = 0.005  # Bybit BTCUSDT, lowest risk tier
    liquidation_fee: float = 0.005

    def __post_init__(self) -> None:
        if not (math.isfinite(self.initial_equity) and self.initial_equity > 0):
            raise ValueError(f"initial_equity must be > 0, not {self.initial_equity}")
        if not self.leverage > 0 or not self.rebalance_band >= 0:
            raise ValueError("leverage must be > 0 and rebalance_band >= 0")
        if self.kind not in ACCOUNT_KINDS:
            raise ValueError(f"no account {self.kind!r}; there are {', '.join(ACCOUNT_KINDS)}")
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


@dataclass(frozen=True)
class Orders:
    """How a target becomes an order at the close where it is decided.

    kind:        `market` fills at the next open (taker). `limit` rests offset_bps better than the close and fills at its
                 price only where a bar trades beyond it (maker). `stop` waits offset_bps worse than the close and fills at
                 its price, or at the open beyond it, with slippage (taker).
    expiry_bars: an order that is still open after this many bars is cancelled (0: never).
    volume_share: most of one bar's volume that an order may take; the rest waits for later bars (inf: no limit).

    A new target replaces the open order of its asset. An order whose asset has no bar waits for the next one.
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
    """

    lot: float = 0.0
    tick: float = 0.0
    minimum_notional: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lot", "tick", "minimum_notional"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Backtest:
    """What a strategy's account did over n bars.

    timestamps: [n] close time of each bar (UTC). equity: [n] at those times, after costs; equity[0] = initial.
    positions: [n, A] targets decided at each close (fraction of equity). holdings: [n, A] base units held then.
    cash: [n] equity minus the value of the holdings (negative where they are leveraged).
    trades: one row per fill, funding payment, liquidation and delisting; columns TRADE_COLUMNS (docs/architecture.md).
    """

    name: str
    assets: tuple[str, ...]
    timestamps: TimeArray
    equity: FloatArray
    positions: FloatArray
    holdings: FloatArray
    cash: FloatArray
    trades: pd.DataFrame = field(repr=False)


NO_RULES: Mapping[str, Instrument] = MappingProxyType({})


def backtest(
    panel: Panel,
    targets: FloatArray,
    *,
    start: int,
    stop: int,
    name: str,
    costs: Costs = Costs(),
    account: Account = Account(),
    orders: Orders = Orders(),
    instruments: Mapping[str, Instrument] = NO_RULES,
    cerebro_options: Mapping[str, Any] | None = None,
) -> Backtest:
    """Trade `targets` [n, A] over bars start..stop (n = stop - start) of the panel.

    targets[i] (fraction of equity, signed; NaN = flat) is decided at the close of bar start + i and fills at the open
    of the next bar; the last one is never filled. In bars that cannot be traded (`Panel.traded`) orders wait and nothing
    is decided; what an asset still holds where it ends before the panel is closed there, at cost. A spot account holds no
    shorts: negative targets count as 0.
    instruments: the exchange's rules by asset. `cerebro_options` (runonce, preload, exactbars): for the audit.
    """
    targets = checked_targets(panel, targets, start, stop, account)

    import backtrader as bt

    parts = _parts()
    cerebro = bt.Cerebro(stdstats=False, **{"runonce": True, "preload": True, **(cerebro_options or {})})
    broker = parts.broker(panel, start, stop, costs, account, instruments)
    cerebro.setbroker(broker)
    window = slice(start, stop)
    days = panel.timestamps[window].astype(np.int64) / 86_400e9 + 719_163.0  # bt counts days from year 1
    tradable = panel.tradable(start, stop)
    for a, asset in enumerate(panel.assets):
        candles = {name: np.ascontiguousarray(tradable[:, a, f]) for f, name in enumerate(CANDLE_FIELDS)}
        cerebro.adddata(parts.feed(columns={"datetime": days, **candles, "target": targets[:, a]}), name=asset)
    cerebro.addstrategy(parts.strategy, account=account, orders=orders)
    cerebro.run()

    equity = np.array(broker.equity_history)
    holdings = np.array(broker.holdings_history).reshape(stop - start, len(panel.assets))
    closes = last_known(panel.field("close")[window])
    with np.errstate(invalid="ignore"):
        value = np.where(holdings == 0, 0.0, holdings * closes).sum(axis=1)
    return Backtest(
        name,
        panel.assets,
        panel.close_times[window],
        equity,
        targets,
        holdings,
        equity - value,
        _frame(broker.rows, name),
    )


def checked_targets(panel: Panel, targets: FloatArray, start: int, stop: int, account: Account) -> FloatArray:
    """Targets as an account takes them: [n, A], finite, no shorts on spot. ValueError where the shape does not fit."""
    targets = np.array(targets, dtype=np.float64)
    if not 0 <= start < stop <= len(panel):
        raise ValueError(f"bars {start}..{stop} are not inside the panel's 0..{len(panel)}")
    if targets.shape != (stop - start, len(panel.assets)):
        raise ValueError(
            f"targets have shape {targets.shape}, expected (bars, assets) = {(stop - start, len(panel.assets))}"
        )
    targets[~np.isfinite(targets)] = 0.0
    return np.maximum(targets, 0.0) if account.kind == "spot" else targets


def last_known(prices: FloatArray) -> FloatArray:
    """[n, A] with NaN replaced by the last price before it."""
    seen = np.where(np.isnan(prices), 0, np.arange(len(prices))[:, None])
    out: FloatArray = np.take_along_axis(prices, np.maximum.accumulate(seen, axis=0), axis=0)
    return out


def _frame(rows: Sequence[tuple[Any, ...]], name: str) -> pd.DataFrame:
    stamps = np.array([row[0] for row in rows], dtype="datetime64[ns]")
    columns: dict[str, Any] = {"timestamp": pd.DatetimeIndex(stamps).tz_localize("UTC"), "strategy": [name] * len(rows)}
    for position, column in enumerate(TRADE_COLUMNS[2:], start=1):
        values = [row[position] for row in rows]
        columns[column] = pd.Series(values, dtype="str" if column in ("asset", "kind") else np.float64).array
    return pd.DataFrame(columns, columns=list(TRADE_COLUMNS))


@dataclass(frozen=True)
class _Parts:
    broker: Any
    feed: Any
    strategy: Any


@functools.cache
def _parts() -> _Parts:
    """The Backtrader classes; made on first use, because importing backtrader is slow."""
    from strategies.backtest import perpetual

    return _Parts(perpetual.PerpetualBroker, perpetual.PanelFeed, perpetual.TargetStrategy)
