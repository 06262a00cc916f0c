"""A connection to Bybit v5: pybit's REST session, and its failures as four kinds.

pybit's own retries are switched off: it would resend an order whose answer was lost. Reads are repeated here; a write is sent
once, and what is not known for sure afterwards is `Ambiguous`: the caller looks the order up by its orderLinkId first.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from data.answers import BadAnswer
from data.panel import InputError
from strategies.paper.orders.keys import Keys
from strategies.paper.orders.ret_codes import DONE, KEYS, PASSING, class_of

T = TypeVar("T")

#: hosts that requests with keys may go to; and the one that public prices come from
TRADED_AT, PRICES_AT = ("api-testnet.bybit.com", "api-demo.bybit.com"), "api.bybit.com"
_NEVER = -(10**9)  # no retCode


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


class Connection:
    """What all requests share: where they go, how answers and failures are read. Unavailable of a read; Ambiguous or Refused of a write;
    KeysRefused of both."""

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

    def watch(self, told: Callable[[str, str, dict[str, Any]], None]) -> None:
        """`told` hears of every request that is sent: method, path, and its query or body (never keys or signatures)."""

        def hear(answer: Any, *_: Any, **__: Any) -> None:
            parts = urlsplit(str(answer.request.url))
            body = answer.request.body
            sent = json.loads(body) if body else dict(parse_qsl(parts.query))
            told(str(answer.request.method), parts.path, sent)

        self._session.client.hooks["response"].append(hear)

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


def _http_code(error: Any) -> int:
    try:
        return int(error.status_code or 0)
    except (TypeError, ValueError):
        return 0


def _name(call: Callable[..., Any]) -> str:
    return getattr(call, "__name__", "call").replace("_", " ")
