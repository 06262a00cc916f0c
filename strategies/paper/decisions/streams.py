"""WebSocket streams that notice when they die: own thread, own heartbeat, own reconnect.

pybit's streams end silently (server away for some seconds, malformed JSON, an exception in a callback, a refused login), so
only the library beneath them is used. A stream is a hint that something happened: after every (re)connection and every gap the
reader asks REST for the truth.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import websocket

from strategies.paper.orders.keys import Keys

UP, DOWN, DATA = "up", "down", "data"


@dataclass(frozen=True)
class Note:
    """What a stream puts into the inbox. kind: up (subscribed; ask REST what was missed), down (why), data (one message)."""

    stream: str
    kind: str
    text: str = ""
    message: dict[str, Any] | None = None


class Stream:
    """Keeps one connection alive until `stop()`. ping_s: heartbeat; twice that without any message: dead, connect anew."""

    def __init__(
        self,
        name: str,
        url: str,
        topics: Sequence[str],
        inbox: queue.Queue[Note],
        *,
        keys: Keys | None = None,
        ping_s: float = 20.0,
        longest_wait_s: float = 30.0,
    ) -> None:
        self.name, self.url, self.topics, self.inbox = name, url, list(topics), inbox
        self.up = False
        self.heard_s = time.monotonic()
        self.connections = 0
        self._keys, self._ping_s, self._longest_wait_s = keys, ping_s, longest_wait_s
        self._stop = threading.Event()
        self._socket: Any = None
        self._thread = threading.Thread(target=self._run, name=f"stream {name}", daemon=True)

    def start(self) -> Stream:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def cut(self) -> None:
        """Ends the present connection, as the network might; the next one comes by itself."""
        socket = self._socket
        if socket is not None:
            socket.shutdown()

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self.heard_s

    def _run(self) -> None:
        wait_s = 0.1
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._serve()
                why = "closed"
            except Exception as error:  # whatever it is: the thread must outlive it
                why = f"{type(error).__name__}"
                if isinstance(error, _Refused):
                    why = str(error)
            self.up = False
            self.inbox.put(Note(self.name, DOWN, why))
            if time.monotonic() - began > 10 * wait_s + 1.0:
                wait_s = 0.1
            self._stop.wait(wait_s * random.uniform(0.75, 1.25))
            wait_s = min(2 * wait_s, self._longest_wait_s)

    def _serve(self) -> None:
        loopback = urlsplit(self.url).hostname == "127.0.0.1"
        socket = websocket.create_connection(
            self.url, timeout=max(2.0, self._ping_s), http_no_proxy=["*"] if loopback else None
        )
        self.connections += 1
        self._socket = socket
        try:
            socket.settimeout(min(self._ping_s / 4, 1.0))
            if self._keys is not None:
                expires = time.time_ns() // 1_000_000 + 10_000
                text = f"GET/realtime{expires}".encode()
                sign = hmac.new(self._keys.secret.encode(), text, hashlib.sha256).hexdigest()
                socket.send(json.dumps({"op": "auth", "args": [self._keys.key, expires, sign]}))
                if not self._answered(socket, "auth").get("success"):
                    raise _Refused("login refused")
            socket.send(json.dumps({"op": "subscribe", "args": self.topics}))
            if not self._answered(socket, "subscribe").get("success"):
                raise _Refused("subscription refused")
            self.up, self.heard_s = True, time.monotonic()
            self.inbox.put(Note(self.name, UP))
            self._listen(socket)
        finally:
            socket.close()

    def _listen(self, socket: Any) -> None:
        pinged = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now - pinged >= self._ping_s:
                socket.send(json.dumps({"op": "ping"}))
                pinged = now
            if now - self.heard_s > 2.0 * self._ping_s:
                raise _Refused(f"silent for {now - self.heard_s:.0f} s")
            try:
                text = socket.recv()
            except websocket.WebSocketTimeoutException:
                continue
            if not text:
                return
            self.heard_s = time.monotonic()
            self._take(json.loads(text))

    def _answered(self, socket: Any, op: str) -> dict[str, Any]:
        """The answer to `op`; data that arrives before it is kept. A refusal that never comes ends the attempt."""
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline and not self._stop.is_set():
            try:
                message: dict[str, Any] = json.loads(socket.recv() or "{}")
            except websocket.WebSocketTimeoutException:
                continue
            if message.get("op") == op:
                return message
            self._take(message)
        raise _Refused(f"no answer to {op}")

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise _Refused("a message is no object")
        if "topic" in message:
            self.inbox.put(Note(self.name, DATA, message=message))


class _Refused(Exception):
    """Ends a connection for a reason worth telling."""
