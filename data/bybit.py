"""Bybit v5 public data through pybit, with a patience of its own: rate limit, back-off, retries, strict reading.

pybit's own retries are off: it retries some codes with a sleep that may be negative, never an HTTP error, and reports on
the console (docs/data.md). The host is `session.endpoint`, so a stand-in on loopback serves as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from data.answers import BadAnswer, decimal_text, read_rows, server_time
from data.instruments import STATUSES, InstrumentInfo
from data.panel import InputError
from data.series import KINDS, Rows, SeriesKey, merge

T = TypeVar("T")

MAINNET = "https://api.bybit.com"
#: a stand-in's address instead of the exchange's
ENDPOINT_VARIABLE = "REGIME_BYBIT_URL"
_OI_PERIODS = {"5": "5min", "15": "15min", "30": "30min", "60": "1h", "240": "4h", "D": "1d"}
#: codes that a later call may not meet: server busy, clock, rate, internal, IP rate
_PASSING_CODES = (10000, 10002, 10006, 10016, 10018)
_PARAMETER_CODE = 10001
_COUNTRY = "refuses addresses of this country (HTTP 403)"
_TOO_OFTEN = "refuses this address for a while, it asked too often (HTTP 403)"
_ELSEWHERE = "check the network, or use --source simulated or --data FILE"


class Unreachable(InputError):
    """The exchange does not answer; told in one line."""


@dataclass(frozen=True)
class Patience:
    """attempts: calls before giving up; the pause doubles from `first_pause_s` to `longest_pause_s`, with jitter.

    requests_per_s: over all threads (the exchange allows 600 in 5 s per address). ban_pause_s: after HTTP 403, which the
    exchange lifts after 10 minutes; bans: such pauses in one call before giving up. crowd_pause_s: after HTTP 429.
    timeout_s: of one call.
    """

    attempts: int = 10
    first_pause_s: float = 0.25
    longest_pause_s: float = 15.0
    requests_per_s: float = 80.0
    ban_pause_s: float = 620.0
    bans: int = 2
    crowd_pause_s: float = 1.0
    timeout_s: float = 10.0


class Bybit:
    """A client for many threads. `say` is told, one line a call, what a waiting person should know."""

    def __init__(
        self, endpoint: str | None = None, patience: Patience | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self.endpoint = endpoint or os.environ.get(ENDPOINT_VARIABLE) or MAINNET
        self.patience = patience or Patience()
        self.say = say or (lambda _line: None)
        self.requests = 0
        #: known to be out of reach: the first call says so at once, and why
        self.offline = False
        self.why_not = f"cannot be reached from here ({self.endpoint})"
        self.stopped = threading.Event()
        self._local = threading.local()
        self._gate = threading.Lock()
        self._next_at = 0.0

    def reachable(self, timeout_s: float = 3.0) -> bool:
        """One quick question for the time; False where no sane answer comes within `timeout_s`. Never raises."""
        answered: list[bool] = []

        def ask() -> None:
            with contextlib.suppress(Exception):  # whatever fails: not reachable
                try:
                    with urllib.request.urlopen(f"{self.endpoint}/v5/market/time", timeout=timeout_s) as answer:
                        server_time(json.load(answer))
                    answered.append(True)
                except urllib.error.HTTPError as refusal:
                    if refusal.code == 403:
                        page = refusal.read().decode(errors="replace")
                        self.why_not = _COUNTRY if _is_country_block(page) else _TOO_OFTEN

        # in a thread, because no timeout covers the look-up of a name
        probe = threading.Thread(target=ask, daemon=True)
        probe.start()
        probe.join(timeout_s)
        return bool(answered)

    def now_ms(self) -> int:
        """The exchange's time. Where it is far from this machine's clock, the middle one of three answers."""
        first = self._call("get_server_time", server_time)
        if abs(first - time.time() * 1000) < 2000:
            return first
        return sorted([first, *(self._call("get_server_time", server_time) for _ in range(2))])[1]

    def instrument(self, category: str, symbol: str) -> InstrumentInfo:
        """InputError where the exchange does not know the symbol."""

        def read(answer: Any) -> InstrumentInfo | None:
            return _read_instrument(answer, category, symbol)

        try:
            for _ in range(3):  # an empty list is believed once it was said three times
                found = self._call("get_instruments_info", read, category=category, symbol=symbol)
                if found is not None:
                    return found
        except _Refused as refused:
            if refused.code != _PARAMETER_CODE:
                raise InputError(f"Bybit refused to describe {category} {symbol}: {refused}") from None
        raise InputError(
            f"Bybit has no {category} symbol {symbol!r}; symbols look like BTCUSDT, ETHUSDT (--category {category})"
        )

    def page(self, key: SeriesKey, start_ms: int, end_ms: int) -> Rows:
        """All rows with start <= time <= end that the exchange gives, oldest first; several calls where they do not fit."""
        parts: list[Rows] = []
        until = end_ms
        while True:

            def read(answer: Any, last: int = until) -> tuple[Rows, int]:
                return read_rows(answer, key, start_ms, last)

            method, query = _question(key, start_ms, until)
            try:
                rows, held = self._call(method, read, **query)
            except _Refused as refused:
                raise InputError(f"Bybit refused {key}: {refused}") from None
            parts.append(rows)
            if held < KINDS[key.kind].page_rows or not len(rows) or rows.times[0] <= start_ms:
                return merge(parts)
            until = int(rows.times[0]) - 1

    def _call(self, method: str, read: Callable[[Any], T], **query: Any) -> T:
        """Ask until the answer can be read; Unreachable or InputError when patience ends."""
        patience = self.patience
        if self.offline:
            raise Unreachable(f"Bybit {self.why_not} and the store lacks part of this history; {_ELSEWHERE}")
        trouble, bans = "", 0
        for attempt in range(patience.attempts):
            if attempt:
                pause = min(patience.first_pause_s * 2 ** (attempt - 1), patience.longest_pause_s)
                self.wait(pause * random.uniform(0.5, 1.0))
            self._take_turn()
            try:
                answer, _, headers = getattr(self._session(), method)(**query)
                self._heed(headers, spent_only=True)
                return read(answer)
            except BadAnswer as bad:
                trouble = str(bad)
            except Exception as error:
                trouble = self._sort_out(error)
                bans += getattr(error, "status_code", None) == 403
                if bans > patience.bans:
                    raise Unreachable(
                        f"Bybit still refuses this address after {bans - 1} pauses ({trouble}); {_ELSEWHERE}"
                    ) from None
        raise Unreachable(f"Bybit gave no usable answer in {patience.attempts} attempts ({trouble}); try again later")

    def _sort_out(self, error: Exception) -> str:
        """What was wrong, in words; raises what no second attempt can mend."""
        import requests  # start-up time: only who asks the exchange needs it

        code = getattr(error, "status_code", None)
        kind = type(error).__name__
        if kind == "InvalidRequestError":
            if not isinstance(code, int) or code == 0:
                return "the retCode is no code"
            if code not in _PASSING_CODES:
                raise _Refused(code, str(getattr(error, "message", ""))) from None
            self._heed(getattr(error, "resp_headers", None), spent_only=False)
            return f"retCode {code}"
        if code == 403:
            if _is_country_block(getattr(self._local, "refusal", "")):
                raise Unreachable(f"Bybit {_COUNTRY}; {_ELSEWHERE}") from None
            self.say(f"Bybit refuses this address for a while (HTTP 403); waiting {self.patience.ban_pause_s:.0f} s")
            self._push_back(self.patience.ban_pause_s)
            return "HTTP 403: asked too often"
        if code == 429:
            self._push_back(self.patience.crowd_pause_s)
        if kind == "FailedRequestError":
            return "no JSON" if code == 409 else f"HTTP {code}"
        if isinstance(error, requests.exceptions.Timeout):
            return "no answer in time"
        if isinstance(error, requests.exceptions.RequestException):
            return "the connection failed"
        if isinstance(error, (KeyError, TypeError, AttributeError, ValueError)):
            return "the answer has no v5 envelope"  # pybit stumbles over what it did not expect
        raise error

    def wait(self, seconds: float) -> None:
        """Sleep, unless the client is stopped."""
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def _take_turn(self) -> None:
        with self._gate:
            now = time.monotonic()
            turn = max(self._next_at, now)
            self._next_at = turn + 1.0 / self.patience.requests_per_s
            self.requests += 1
        if turn > now:
            self.wait(turn - now)
        elif self.stopped.is_set():
            raise KeyboardInterrupt

    def _push_back(self, seconds: float) -> None:
        with self._gate:
            self._next_at = max(self._next_at, time.monotonic() + seconds)

    def _heed(self, headers: Any, *, spent_only: bool) -> None:
        """Wait for the reset that X-Bapi-Limit-* announces: always after 10006, else where nothing is left."""
        try:
            left = int(headers["X-Bapi-Limit-Status"])
            pause = (int(headers["X-Bapi-Limit-Reset-Timestamp"]) - time.time() * 1000) / 1000
        except (KeyError, TypeError, ValueError):
            left, pause = 1, 0.0
        if left <= 0 or not spent_only:
            self._push_back(min(max(pause, 0.1), 5.0))

    def _session(self) -> Any:
        if not hasattr(self._local, "session"):
            self._local.session = session = _new_session(self.endpoint, self.patience.timeout_s)
            session.client.hooks["response"].append(self._keep_refusal)
        return self._local.session

    def _keep_refusal(self, response: Any, **_how: Any) -> None:
        """pybit tells of HTTP 403 without the page that says why."""
        if response.status_code == 403:
            self._local.refusal = response.text


def _is_country_block(page: str) -> bool:
    """Whether a page of HTTP 403 is about where the caller is, not about how often it asked."""
    return "from your country" in page.lower()


class _Refused(Exception):
    """A retCode that asking again does not change."""

    def __init__(self, code: Any, message: str) -> None:
        super().__init__(f"{message} (retCode {code})")
        self.code = code


def _new_session(endpoint: str, timeout_s: float) -> Any:
    from pybit.unified_trading import HTTP  # start-up time: only who asks the exchange needs it

    session = HTTP(max_retries=1, retry_codes={-1}, timeout=timeout_s, return_response_headers=True)
    session.endpoint = endpoint
    logger = logging.getLogger("pybit._http_manager")  # pybit hangs a console handler on it
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
    return session


def _read_instrument(answer: Any, category: str, symbol: str) -> InstrumentInfo | None:
    """None where the list is empty."""
    listed = answer["result"]["list"] if isinstance(answer, dict) and isinstance(answer.get("result"), dict) else None
    if not isinstance(listed, list):
        raise BadAnswer("instruments-info has no list")
    if not listed:
        return None
    row = listed[0]
    try:
        lots, spot = row["lotSizeFilter"], category == "spot"
        symbol_said, status = row["symbol"], row["status"]
        tick, step = (
            decimal_text(row["priceFilter"]["tickSize"]),
            decimal_text(lots["basePrecision" if spot else "qtyStep"]),
        )
        least = decimal_text(lots["minOrderQty"])
        # an inverse contract is itself a dollar: it may state no least value
        worth = decimal_text((lots.get("minNotionalValue") or "0") if category == "inverse" else
                             lots["minOrderAmt" if spot else "minNotionalValue"])  # fmt: skip
        launch, minutes = (0, 0) if spot else (row["launchTime"], row["fundingInterval"])
        if isinstance(launch, str):
            launch = int(launch) if re.fullmatch("[0-9]{13}", launch) else -1
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise BadAnswer(f"instruments-info of {symbol} lacks a field") from None
    whole = type(launch) is int and launch >= 0 and type(minutes) is int and minutes >= 0
    if symbol_said != symbol or status not in STATUSES or not whole or min(float(tick), float(step), float(least)) <= 0:
        raise BadAnswer(f"instruments-info of {symbol} makes no sense")
    return InstrumentInfo(symbol, category, status, launch, tick, step, least, worth, minutes)


def _question(key: SeriesKey, start_ms: int, end_ms: int) -> tuple[str, dict[str, Any]]:
    """pybit's method and the query for the newest rows of [start, end]."""
    query: dict[str, Any] = {"category": key.category, "symbol": key.symbol, "limit": KINDS[key.kind].page_rows}
    bars = {
        "klines": "get_kline",
        "mark-price": "get_mark_price_kline",
        "index-price": "get_index_price_kline",
        "premium-index": "get_premium_index_price_kline",
    }
    if key.kind in bars:
        return bars[key.kind], {**query, "interval": key.interval, "start": start_ms, "end": end_ms}
    query |= {"startTime": start_ms, "endTime": end_ms}
    if key.kind == "funding":
        return "get_funding_rate_history", query
    if key.kind == "open-interest":
        return "get_open_interest", {**query, "intervalTime": _OI_PERIODS[key.interval]}
    return "get_long_short_ratio", {**query, "period": _OI_PERIODS[key.interval]}
