"""Rows of Bybit's private answers and topics as typed values, believing nothing: what does not look as it must is a BadAnswer.

A row read wrongly would be worse than none: a position whose side is garbled is not a flat one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from data.answers import BadAnswer
from data.instruments import STATUSES
from data.panel import InputError
from strategies.paper.records.journal import Execution

#: stands for the id of an order that a stop loss of the exchange has sent
STOPPED = "stop-loss"
#: what is said of a wallet without any
NO_USDT = "the wallet holds no USDT"
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
_STAMP = re.compile(r"[0-9]{13}", re.ASCII)
_ALIVE = ("New", "PartiallyFilled", "Untriggered", "Triggered", "Created", "Active")
_CLOSED = ("Filled", "Cancelled", "Rejected", "PartiallyFilledCanceled", "Deactivated")
_EXECUTIONS = ("Trade", "Funding", "AdlTrade", "BustTrade", "Delivery", "Settle", "SessionSettlePnL", "BlockTrade",
               "MovePosition", "FutureSpread")  # fmt: skip


@dataclass(frozen=True)
class Instrument:
    """Filters of a symbol."""

    symbol: str
    tick: Decimal
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal
    max_market_qty: Decimal
    min_notional: Decimal
    max_leverage: Decimal

    def round_qty(self, quantity: float | Decimal) -> Decimal:
        """Towards zero, to the step."""
        raw = Decimal(str(quantity))
        return (raw / self.step).to_integral_value(ROUND_DOWN) * self.step

    def round_price(self, price: float | Decimal, up: bool) -> Decimal:
        units = (Decimal(str(price)) / self.tick).to_integral_value("ROUND_CEILING" if up else "ROUND_FLOOR")
        return units * self.tick


@dataclass(frozen=True)
class OrderState:
    """What the exchange says of an order."""

    order_id: str
    link_id: str
    side: str
    status: str
    qty: Decimal
    filled: Decimal
    average: Decimal
    reason: str
    symbol: str = ""
    stop_loss: bool = False  # the conditional order that a stop loss of a position is
    price: Decimal = Decimal(0)

    @property
    def closed(self) -> bool:
        return self.status in _CLOSED


@dataclass(frozen=True)
class Position:
    """Signed size of one row of the position list (hedge mode has two). stop: price of its stop loss, 0 where there is none."""

    symbol: str
    position_idx: int
    size: Decimal
    average: Decimal
    stop: Decimal = Decimal(0)


@dataclass(frozen=True)
class Wallet:
    """Unified account: USDT equity (with open profit) and balance; other coins move with their own prices. available: in USD. margin_rate:
    maintenance margin over margin balance of the account (0 where the exchange does not say)."""

    equity: Decimal
    balance: Decimal
    available: Decimal
    margin_rate: float = 0.0


def rows_of(result: Any, symbol: str = "") -> list[Any]:
    """The list of a result; every row about `symbol`, where one is given."""
    rows = result.get("list") if isinstance(result, Mapping) else None
    if not isinstance(rows, list):
        raise BadAnswer("the answer has no list")
    if symbol and any(_text(row, "symbol") != symbol for row in rows):
        raise BadAnswer(f"the answer holds rows that are not about {symbol}")
    return rows


def positions_of(result: Any, symbol: str) -> list[Position]:
    rows = rows_of(result, symbol)
    if not rows:
        raise BadAnswer(f"the position list has no row for {symbol}")  # even a flat one has a row
    out = []
    for row in rows:
        size = _number(row, "size", least=0)
        side = row.get("side")
        if side not in (("Buy", "Sell") if size else ("Buy", "Sell", "", "None")):
            raise BadAnswer(f"a position of {size} {symbol} with the side {side!r}")
        index = str(row.get("positionIdx"))
        if index not in ("0", "1", "2"):
            raise BadAnswer(f"a position's positionIdx is {index!r}")
        average = _number(row, "avgPrice" if "avgPrice" in row else "entryPrice", least=0, empty=not size)
        if size and not average:
            raise BadAnswer(f"a position of {size} {symbol} without a price")
        stop = _number(row, "stopLoss", least=0, empty=True)
        out.append(Position(symbol, int(index), -size if side == "Sell" else size, average, stop))
    return out


def wallet_of(result: Any) -> Wallet:
    rows = rows_of(result)
    if not rows:
        raise BadAnswer("the wallet answer has no account")
    coins = rows[0].get("coin") if isinstance(rows[0], Mapping) else None
    if not isinstance(coins, list):
        raise BadAnswer("the wallet answer has no coins")
    coin = next((c for c in coins if _text(c, "coin") == "USDT"), None)
    if coin is None:
        raise BadAnswer(NO_USDT)
    available = _number(rows[0], "totalAvailableBalance", empty=True)  # empty under isolated margin
    keep, worth = (_number(rows[0], name, empty=True) for name in ("totalMaintenanceMargin", "totalMarginBalance"))
    rate = float(keep / worth) if worth > 0 else 0.0
    return Wallet(_number(coin, "equity"), _number(coin, "walletBalance"), available, rate)


def instrument_of(result: Any, symbol: str) -> Instrument | None:
    """None where the list is empty. InputError where the symbol does not trade."""
    rows = rows_of(result, symbol)
    if not rows:
        return None
    status = _text(rows[0], "status", STATUSES)
    if status != "Trading":
        raise InputError(f"{symbol} is not trading at this venue (status {status})")
    lot, price, lever = (_part(rows[0], name) for name in ("lotSizeFilter", "priceFilter", "leverageFilter"))
    made = Instrument(
        symbol, _number(price, "tickSize"), _number(lot, "qtyStep"), _number(lot, "minOrderQty"), _number(lot, "maxOrderQty"),
        _number(lot, "maxMktOrderQty"), _number(lot, "minNotionalValue", least=0), _number(lever, "maxLeverage"),
    )  # fmt: skip
    if min(made.tick, made.step, made.min_qty, made.max_qty, made.max_market_qty, made.max_leverage) <= 0:
        raise BadAnswer(f"the filters of {symbol} make no sense")
    return made


def account_of(result: Any) -> tuple[int, str]:
    """(unifiedMarginStatus, marginMode) of account/info. 1: a classic account; 3, 4: unified 1.0; 5, 6: unified 2.0."""
    status = result.get("unifiedMarginStatus") if isinstance(result, Mapping) else None
    if isinstance(status, bool) or not isinstance(status, int):
        raise BadAnswer("the account does not say whether it is unified")
    return status, _text(result, "marginMode")


def fees_of(result: Any, symbol: str) -> tuple[Decimal, Decimal]:
    """(taker, maker) rates, fractions."""
    rows = rows_of(result, symbol)
    if not rows:
        raise BadAnswer(f"no fee rate of {symbol}")
    return _number(rows[0], "takerFeeRate"), _number(rows[0], "makerFeeRate")


def tiers_of(result: Any, symbol: str) -> list[tuple[Decimal, Decimal]]:
    """(largest position value, largest leverage up to it) of every risk tier, smallest first."""
    rows = rows_of(result, symbol)
    if not rows:
        raise BadAnswer(f"no risk limits of {symbol}")
    return sorted((_number(row, "riskLimitValue", least=0), _number(row, "maxLeverage", least=0)) for row in rows)


def ticker_of(result: Any, symbol: str) -> tuple[Decimal, Decimal, Decimal]:
    """(best bid, best ask, last price); a side without orders is 0."""
    rows = rows_of(result, symbol)
    if not rows:
        raise BadAnswer(f"no ticker of {symbol}")
    last = _number(rows[0], "lastPrice", least=0)
    if not last:
        raise BadAnswer(f"{symbol} has no last price")
    return _number(rows[0], "bid1Price", least=0, empty=True), _number(rows[0], "ask1Price", least=0, empty=True), last


def order_state(row: Any) -> OrderState:
    """Of a row of order/realtime, order/history or the private topic `order`."""
    qty, filled = _number(row, "qty", least=0), _number(row, "cumExecQty", least=0)
    average = _number(row, "avgPrice", least=0, empty=not filled)
    if filled > qty or (filled and not average):
        raise BadAnswer(f"an order of {qty} that is filled by {filled} at {average}")
    reason = row.get("rejectReason") or row.get("cancelType") or ""
    return OrderState(
        _text(row, "orderId"), _text(row, "orderLinkId"), _text(row, "side", ("Buy", "Sell")),
        _text(row, "orderStatus", (*_ALIVE, *_CLOSED)), qty, filled, average, str(reason), _text(row, "symbol"),
        row.get("stopOrderType") == "StopLoss", _number(row, "price", least=0, empty=row.get("price") is not None),
    )  # fmt: skip


def execution_of(row: Any) -> Execution:
    """Of a row of execution/list or the private topic `execution`."""
    maker, seq = row.get("isMaker") if isinstance(row, Mapping) else None, _number(row, "seq", empty=True)
    stamp = str(row.get("execTime"))
    if not isinstance(maker, bool) or not _STAMP.fullmatch(stamp):
        raise BadAnswer("an execution without its time, or without whether it was a maker's")
    if seq >= 2**63 or seq != int(seq):
        raise BadAnswer(f"an execution's seq is {seq}")
    qty, price = _number(row, "execQty", least=0), _number(row, "execPrice", least=0)
    if not qty or not price or not _text(row, "execId"):
        raise BadAnswer(f"an execution of {qty} at {price}")
    link, stopped = _text(row, "orderLinkId"), "StopLoss" in (row.get("stopOrderType"), str(row.get("createType"))[8:])
    return Execution(
        _text(row, "execId"), _text(row, "orderId"), link or (STOPPED if stopped else ""), _text(row, "symbol"),
        _text(row, "side", ("Buy", "Sell")), qty, price, _number(row, "execFee"), _text(row, "execType", _EXECUTIONS), maker,
        int(stamp), int(seq),
    )  # fmt: skip


def _part(row: Any, name: str) -> Mapping[str, Any]:
    part = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(part, Mapping):
        raise BadAnswer(f"a row has no {name}")
    return part


def _text(row: Any, name: str, known: Sequence[str] = ()) -> str:
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str) or (known and value not in known):
        raise BadAnswer(f"{name} is {value!r}" if isinstance(value, str) else f"a row has no {name}")
    return value


def _number(row: Any, name: str, least: int | None = None, empty: bool = False) -> Decimal:
    """A number in decimal notation; numbers arrive as text. empty: nothing at all is zero, as the exchange writes it."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if empty and value in (None, ""):
        return Decimal(0)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _NUMBER.fullmatch(str(value)):
        raise BadAnswer(f"{name} is no number in decimal notation")
    number = Decimal(str(value))
    if least is not None and number < least:
        raise BadAnswer(f"{name} is {number}")
    return number
