"""Bybit v5 behind a narrow door: what paper trading asks of an exchange, its answers as typed values."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from data.answers import FAR_MS, BadAnswer, read_rows, server_time
from data.panel import InputError
from data.series import SeriesKey, series_key
from strategies.paper.orders.account_rows import (
    Instrument,
    OrderState,
    Position,
    Wallet,
    account_of,
    execution_of,
    fees_of,
    instrument_of,
    order_state,
    positions_of,
    rows_of,
    ticker_of,
    tiers_of,
    wallet_of,
)
from strategies.paper.orders.connection import Ambiguous, Connection, ExchangeError, KeysRefused, Refused, Unavailable
from strategies.paper.records.journal import Execution

#: with the failures that its methods raise
__all__ = ["Ambiguous", "Exchange", "ExchangeError", "KeysRefused", "Order", "Refused", "Unavailable"]

_PAGE = 100
_GONE = (110001, 110008, 110010)


@dataclass(frozen=True)
class Order:
    """An order to send. kind: Market (sent as IOC) or Limit (post-only). everything: reduce-only, and the exchange takes the size from
    the position (create-order: qty "0" with closeOnTrigger): for a size that is no multiple of the step any more."""

    link_id: str
    symbol: str
    side: str
    qty: Decimal
    kind: str = "Market"
    price: Decimal | None = None
    reduce_only: bool = False
    position_idx: int = 0
    everything: bool = False
    stop: Decimal | None = None  # stop loss that the position has from its first fill on


class Exchange(Connection):
    """Category `linear`, symbol by symbol: market data, account, orders, each answer as a typed value."""

    # public

    def server_time_ms(self) -> int:
        return self._read(server_time, self._session.get_server_time)

    def clock_skew_ms(self) -> float:
        """Server time minus this machine's, the best of three, half the round trip taken off."""
        best = (float("inf"), 0.0)
        for _ in range(3):
            began = time.time()
            server = self.server_time_ms()
            ended = time.time()
            best = min(best, (ended - began, server - 500.0 * (began + ended)))
        return best[1]

    def instrument(self, symbol: str) -> Instrument:
        found = self._read(
            lambda answer: instrument_of(answer["result"], symbol),
            self._session.get_instruments_info,
            category="linear",
            symbol=symbol,
        )
        if found is None:
            raise InputError(f"no linear instrument {symbol!r} at this venue; give one like BTCUSDT")
        return found

    def tiers(self, symbol: str) -> list[tuple[Decimal, Decimal]]:
        """(largest position value, largest leverage up to it) of every risk tier, smallest first."""
        call = self._session.get_risk_limit
        return self._read(lambda answer: tiers_of(answer["result"], symbol), call, category="linear", symbol=symbol)

    def klines(self, symbol: str, interval: str, limit: int, end_ms: int | None = None) -> list[tuple[Any, ...]]:
        """(open_ms, open, high, low, close, volume), oldest first, the forming one included."""
        more = {} if end_ms is None else {"end": end_ms}
        key = SeriesKey("linear", symbol, "klines", interval)
        rows, _ = self._read(
            lambda answer: read_rows(answer, key, 1, end_ms or FAR_MS),
            self._session.get_kline, category="linear", symbol=symbol, interval=interval, limit=limit, **more,
        )  # fmt: skip
        return [(time, *values[:5]) for time, values in zip(rows.times.tolist(), rows.values.tolist(), strict=True)]

    def settlements(self, symbol: str, end_ms: int) -> list[tuple[int, float]]:
        key = series_key("linear", symbol, "funding", "")
        rows, _ = self._read(
            lambda answer: read_rows(answer, key, 1, end_ms),
            self._session.get_funding_rate_history, category="linear", symbol=symbol, endTime=end_ms, limit=200,
        )  # fmt: skip
        return list(zip(rows.times.tolist(), rows.values[:, 0].tolist(), strict=True))

    def ticker(self, symbol: str) -> tuple[Decimal, Decimal, Decimal]:
        """(best bid, best ask, last price)."""
        return self._read(
            lambda answer: ticker_of(answer["result"], symbol),
            self._session.get_tickers,
            category="linear",
            symbol=symbol,
        )

    # private, reading

    def positions(self, symbol: str) -> list[Position]:
        return self._read(
            lambda answer: positions_of(answer["result"], symbol),
            self._session.get_positions,
            category="linear",
            symbol=symbol,
        )

    def account(self) -> tuple[int, str]:
        """(unifiedMarginStatus, marginMode)."""
        return self._read(lambda answer: account_of(answer["result"]), self._session.get_account_info)

    def fees(self, symbol: str) -> tuple[Decimal, Decimal]:
        """(taker, maker) rates, fractions."""
        call = self._session.get_fee_rates
        return self._read(lambda answer: fees_of(answer["result"], symbol), call, category="linear", symbol=symbol)

    def wallet(self) -> Wallet:
        call = self._session.get_wallet_balance
        return self._read(lambda answer: wallet_of(answer["result"]), call, accountType="UNIFIED")

    def order(self, symbol: str, link_id: str) -> OrderState | None:
        """By orderLinkId, among open and recent orders first, then in the history; None where the exchange knows none."""
        for call in (self._session.get_open_orders, self._session.get_order_history):
            for state in self._orders(call, symbol, orderLinkId=link_id):
                if state.link_id == link_id:
                    return state
        return None

    def open_orders(self, symbol: str) -> list[OrderState]:
        """All that rest, every page; conditional orders too, whoever placed them."""
        found, cursor = [], ""
        while True:
            page, following = self._read(
                _order_page(symbol), self._session.get_open_orders, category="linear", symbol=symbol, limit=50,
                cursor=cursor or None,
            )  # fmt: skip
            found += page
            if not following or following == cursor or len(page) < 50:
                return [state for state in found if not state.closed]
            cursor = following

    def _orders(self, call: Callable[..., Any], symbol: str, **arguments: Any) -> list[OrderState]:
        return self._read(_order_page(symbol), call, category="linear", symbol=symbol, **arguments)[0]

    def executions(self, symbol: str, start_ms: int, end_ms: int | None = None) -> list[Execution]:
        """All executions since `start_ms`, every page, oldest first. The API's window is 7 days; longer spans are cut."""
        found: dict[str, Execution] = {}
        until = end_ms
        week = 7 * 86_400_000 - 1
        spans = [(start_ms, until)] if until is None else [
            (a, min(a + week, until)) for a in range(start_ms, until + 1, week + 1)
        ]  # fmt: skip

        def read(answer: Any) -> tuple[list[Execution], str]:
            page = [execution_of(row) for row in rows_of(answer["result"], symbol)]
            following = answer["result"].get("nextPageCursor")
            if not isinstance(following, str) and len(page) >= _PAGE:
                raise BadAnswer("a full page of executions does not say where the next one begins")
            return page, following or ""

        for first, last in spans:
            cursor = ""
            while True:
                page, following = self._read(
                    read, self._session.get_executions, category="linear", symbol=symbol, startTime=first, endTime=last, limit=_PAGE,
                    cursor=cursor or None,
                )  # fmt: skip
                found |= {execution.exec_id: execution for execution in page}
                if not following or following == cursor or len(page) < _PAGE:
                    break
                cursor = following
        return sorted(found.values(), key=lambda e: (e.time_ms, e.seq))

    # private, writing: sent once

    def create(self, order: Order) -> str:
        """The order's id; an acknowledgement only, its fate comes later."""
        request: dict[str, Any] = {
            "category": "linear",
            "symbol": order.symbol,
            "side": order.side,
            "orderType": order.kind,
            "qty": format(order.qty, "f"),
            "orderLinkId": order.link_id,
            "reduceOnly": order.reduce_only,
            "positionIdx": order.position_idx,
        }
        if order.kind == "Limit":
            request |= {"price": format(order.price or Decimal(0), "f"), "timeInForce": "PostOnly"}
        if order.stop is not None:
            request |= {"stopLoss": format(order.stop, "f"), "slTriggerBy": "MarkPrice", "tpslMode": "Full"}
        if order.everything:
            request |= {"qty": "0", "closeOnTrigger": True}
        answer = self._write(self._session.place_order, request)
        order_id = answer["result"].get("orderId")
        if not isinstance(order_id, str) or not order_id:
            raise Ambiguous("the answer to an order has an unknown shape")
        return order_id

    def amend(self, symbol: str, link_id: str, price: Decimal) -> None:
        """Another price for an order that rests."""
        request = {"category": "linear", "symbol": symbol, "orderLinkId": link_id, "price": format(price, "f")}
        self._write(self._session.amend_order, request)

    def cancel(self, symbol: str, link_id: str) -> bool:
        """False where there is no such order any more."""
        return self._cancel({"category": "linear", "symbol": symbol, "orderLinkId": link_id})

    def cancel_strange(self, symbol: str, order_id: str) -> bool:
        """An order that is not ours, by the exchange's id. False where there is none any more."""
        return self._cancel({"category": "linear", "symbol": symbol, "orderId": order_id})

    def _cancel(self, request: dict[str, Any]) -> bool:
        try:
            self._write(self._session.cancel_order, request)
        except Refused as error:
            if error.code in _GONE:
                return False
            raise
        return True

    def set_stop(self, symbol: str, position_idx: int, price: Decimal) -> None:
        """The stop loss of a whole position, triggered by the mark price; 0 removes it."""
        request = {
            "category": "linear", "symbol": symbol, "tpslMode": "Full", "positionIdx": position_idx, "stopLoss": format(price, "f"),
            "slTriggerBy": "MarkPrice",
        }  # fmt: skip
        self._write(self._session.set_trading_stop, request)

    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        text = format(leverage, "f")
        request = {"category": "linear", "symbol": symbol, "buyLeverage": text, "sellLeverage": text}
        self._write(self._session.set_leverage, request)

    def set_mode(self, symbol: str, hedge: bool) -> None:
        request = {"category": "linear", "symbol": symbol, "mode": 3 if hedge else 0}
        self._write(self._session.switch_position_mode, request)


def _order_page(symbol: str) -> Callable[[Any], tuple[list[OrderState], str]]:
    def read(answer: Any) -> tuple[list[OrderState], str]:
        page = [order_state(row) for row in rows_of(answer["result"], symbol)]
        following = answer["result"].get("nextPageCursor")
        return page, following if isinstance(following, str) else ""

    return read
