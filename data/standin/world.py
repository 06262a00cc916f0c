"""What all parts of the stand-in share: clock, market, faults, the journal, and the shape of a v5 answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.standin.books import Books
from data.standin.clock import Clock
from data.standin.faults import Faults
from data.standin.market import Market
from data.standin.streams import Streams


@dataclass(frozen=True)
class Reply:
    """What an endpoint answers: a v5 result, or a retCode with its message."""

    result: Any = field(default_factory=dict)
    code: int = 0
    message: str = "OK"
    extra: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200  # of HTTP; others than 200 have no body

    def envelope(self, now_ms: int) -> dict[str, Any]:
        return {
            "retCode": self.code,
            "retMsg": self.message,
            "result": self.result,
            "retExtInfo": dict(self.extra),
            "time": now_ms,
        }


class Refused(Exception):
    """Raised by an endpoint to answer with a retCode."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.reply = Reply({}, code, message)


@dataclass(frozen=True)
class Call:
    """One request as it arrived; `raw` is the raw query string (GET) or body (POST), which signatures cover."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    raw: str
    headers: Mapping[str, str]
    at_ms: int


@dataclass
class World:
    """latency_s: added to every HTTP answer. rate_limit: (requests, seconds) per client, then HTTP 403; None: no limit. user_limits_s: the
    documented numbers of private requests are counted over so many seconds (at Bybit one), then retCode 10006; None: no limit."""

    market: Market = field(default_factory=Market)
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    latency_s: float = 0.0
    rate_limit: tuple[int, float] | None = None
    user_limits_s: float | None = None
    journal: list[Call] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.books = Books(self.market, self.clock)
        self.streams = Streams(self.clock)

    def calls(self, path: str) -> list[Call]:
        """The journal's calls of one path."""
        with self.lock:
            return [call for call in self.journal if call.path == path]
