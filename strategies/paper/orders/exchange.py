"""Bybit v5 behind a narrow door: pybit's REST session, its answers as typed values, its failures as three kinds.

pybit's own retries are switched off: it would resend an order whose answer was lost. Reads are repeated here; a write is sent
once, and what is not known for sure afterwards is `Ambiguous`: the caller looks the order up by its orderLinkId first.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

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
from strategies.paper.orders.keys import Keys
from strategies.paper.orders.ret_codes import DONE, KEYS, PASSING, class_of
from strategies.paper.records.journal import Execution

T = TypeVar("T")

#: hosts that requests with keys may go to; and the one that public prices come from
TRADED_AT, PRICES_AT = ("api-testnet.bybit.com", "api-demo.bybit.com"), "api.bybit.com"
_PAGE = 100
_NEVER = -(10**9)  # no retCode
_GONE = (110001, 110008, 110010)


class ExchangeError(Exception):
    """The exchange did not do what was asked. Never holds a key or a signature."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Unavailable(ExchangeError):
    """No usable answer to a read after all retries; the truth is unknown, not empty."""


class Ambiguous(ExchangeError):
    """A write was sent and its outcome is not known: look it up, do not send again first."""


class Refused(ExchangeError):
    """The exchange has answered no."""


class KeysRefused(ExchangeError):
    """The exchange does not accept the keys."""


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


class Exchange:
    """One symbol's category `linear`. Methods raise Unavailable (reads), Ambiguous or Refused (writes), KeysRefused."""

    def __init__(
        self,
        keys: Keys | None,
        *,
        testnet: bool = False,
        demo: bool = False,
        endpoint: str | None = None,
        timeout_s: float = 10.0,
        retry_wait_s: float = 0.5,
        tries: int = 5,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        from pybit.unified_trading import HTTP  # slow to load; status does without

        logging.getLogger("pybit").setLevel(logging.CRITICAL)  # its messages repeat request bodies
        self._keys = keys
        self._session: Any = HTTP(
            testnet=testnet,
            demo=demo,
            api_key=keys.key if keys else None,
            api_secret=keys.secret if keys else None,
            timeout=timeout_s,
            max_retries=1,
            retry_codes={_NEVER},  # an empty set means pybit's own, which resends orders
        )
        if endpoint is not None:
            self._session.endpoint = endpoint
            self._session.client.trust_env = False  # loopback: no proxy
        where = urlsplit(str(self._session.endpoint))
        known = where.scheme == "https" and where.hostname in (TRADED_AT if keys else (*TRADED_AT, PRICES_AT))
        if not known and (where.scheme, where.hostname) != ("http", "127.0.0.1"):
            raise InputError(f"requests go to {', '.join(TRADED_AT)} or this machine only, not to {where.hostname}")
        self._tries, self._wait_s, self._trouble = tries, retry_wait_s, on_trouble

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

    # how answers and failures are read

    def _read(self, read: Callable[[Any], T], call: Callable[..., Any], **arguments: Any) -> T:
        """What `read` makes of the answer. Asked again, with growing pauses, until it can; after that Unavailable."""
        last = ""
        refused_keys = 0
        for attempt in range(self._tries):
            if attempt:
                time.sleep(self._wait_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
            try:
                return read(self._send(call, arguments))
            except BadAnswer as bad:
                last = self._clean(str(bad))
            except KeysRefused as error:
                refused_keys += 1  # one can be a hiccup of a gateway; three in a row are not
                last = str(error)
                if refused_keys >= 3:
                    raise
            except Refused as error:
                if class_of(error.code or 0) != PASSING:
                    raise Unavailable(str(error), error.code) from None
                last = str(error)
            except Ambiguous as error:
                last = str(error)
            self._trouble(f"{_name(call)}: {last}")
        raise Unavailable(f"{_name(call)} got no usable answer in {self._tries} tries; last: {last}")

    def _write(self, call: Callable[..., Any], request: dict[str, Any]) -> Any:
        try:
            return self._send(call, request)
        except Refused as error:
            kind = class_of(error.code or 0)
            if kind == DONE:
                return {"result": {}}
            if kind == PASSING:
                raise Ambiguous(str(error), error.code) from None
            raise

    def _send(self, call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        import requests  # slow to load; status does without
        from pybit.exceptions import FailedRequestError, InvalidRequestError

        try:
            answer = call(**arguments)
        except InvalidRequestError as error:
            code = int(error.status_code)
            text = self._clean(f"retCode {code}: {error.message}")
            raise (KeysRefused if class_of(code) == KEYS else Refused)(text, code) from None
        except FailedRequestError as error:
            code, text = _http_code(error), self._clean(f"HTTP {error.status_code}: {error.message}")
            raise (KeysRefused if code == 401 else Ambiguous)(text, code) from None
        except (requests.RequestException, json.JSONDecodeError, ValueError, KeyError, TypeError) as error:
            # the text of the exception may hold the request; its type says enough
            raise Ambiguous(f"no usable answer ({type(error).__name__})") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
            raise Ambiguous("the answer has an unknown shape")
        return answer

    def _clean(self, text: str) -> str:
        return self._keys.redact(text) if self._keys else text


def _order_page(symbol: str) -> Callable[[Any], tuple[list[OrderState], str]]:
    def read(answer: Any) -> tuple[list[OrderState], str]:
        page = [order_state(row) for row in rows_of(answer["result"], symbol)]
        following = answer["result"].get("nextPageCursor")
        return page, following if isinstance(following, str) else ""

    return read


def _http_code(error: Any) -> int:
    try:
        return int(error.status_code or 0)
    except (TypeError, ValueError):
        return 0


def _name(call: Callable[..., Any]) -> str:
    return getattr(call, "__name__", "call").replace("_", " ")
