"""The network between trader and exchange: requests and sockets that arrive late, twice, or not at all, without a real socket."""

from __future__ import annotations

import fnmatch
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import requests
import websocket

from data.standin import StandIn
from data.standin.server import Answer
from data.standin.streams import Connection
from data.standin.world import Call
from tests.strategies.paper.simulation.hub import BOOT_S, SCENE, Box, Hub, Process

ENDPOINT = "http://127.0.0.1:1"
#: refused: no connection. lost: the request never arrives. silent: it arrives, its answer does not. slow: the answer takes `seconds`.
#: orphan: the connection breaks at once, the request arrives `seconds` later all the same.
WIRE_FAULTS = ("refused", "lost", "silent", "slow", "orphan")


@dataclass
class WireFault:
    """On the next `times` requests whose path matches."""

    kind: str
    path: str
    times: int = 1
    seconds: float = 1.0


@dataclass
class Reply:
    """What pybit reads of a response."""

    answer: Answer
    url: str

    @property
    def status_code(self) -> int:
        return self.answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.answer.headers

    @property
    def text(self) -> str:
        return self.answer.body.decode()

    def json(self) -> Any:
        try:
            return msgspec.json.decode(self.answer.body)
        except msgspec.DecodeError:
            raise requests.exceptions.JSONDecodeError("no JSON", "", 0) from None


@dataclass
class Network:
    """All wires to one exchange. down_until: nothing gets through before. trace: hears of every request."""

    hub: Hub
    standin: StandIn
    dice: random.Random
    faults: list[WireFault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    down_until: float = -1.0
    given_at: float = -1.0  # of the answer that was heard last
    trace: Any = None

    def latency_s(self) -> float:
        return 0.002 + 0.03 * self.dice.random()

    def draw(self, path: str) -> WireFault | None:
        for fault in self.faults:
            if fault.times > 0 and fnmatch.fnmatch(path, fault.path):
                fault.times -= 1
                self.counts[f"wire {fault.kind}"] += 1
                return fault
        return None


class Wire:
    """In place of a requests.Session: the calls of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self.network, self.process = network, process
        self.headers: dict[str, str] = {}
        self.hooks: dict[str, list[Any]] = {"response": []}

    def prepare_request(self, request: requests.Request) -> requests.Request:
        return request

    def send(self, request: requests.Request, timeout: float) -> Reply:
        self.process.point()
        network, hub = self.network, self.network.hub
        path, _, query = str(request.url)[len(ENDPOINT) :].partition("?")
        body = str(request.data or "")
        fault = network.draw(path) if network.faults else None
        kind = "lost" if hub.now < network.down_until else fault.kind if fault is not None else ""
        sent: list[Any] = []  # (answer or an error, when it was given) once it is here
        box: Box = []

        def come(what: Any, given_at: float) -> None:
            sent.append((what, given_at))
            hub.wake(box)

        def arrive() -> None:
            call = Call(
                str(request.method), path, dict(part.split("=", 1) for part in query.split("&")) if query else {},
                msgspec.json.decode(body) if body else {}, query if request.method == "GET" else body, dict(request.headers or {}),
                network.standin.world.clock.now_ms(),
            )  # fmt: skip
            answer = network.standin.answer(call)
            if network.trace is not None:
                network.trace(f"{call.method} {path} {query or body} -> {answer.status} {len(answer.body)}")
            if kind in ("silent", "orphan"):
                return
            cut = "" if answer.cut is None else answer.cut.kind
            if cut == "hang":
                return
            what: Any = answer
            if cut in ("reset", "drop"):
                what = requests.exceptions.ConnectionError("reset")
            elif cut == "half":
                what = requests.exceptions.ChunkedEncodingError("half")
            hub.call_later(
                fault.seconds if kind == "slow" and fault is not None else network.latency_s(), come, what, hub.now
            )

        if kind == "refused":
            hub.call_later(network.latency_s(), come, requests.exceptions.ConnectionError("refused"), hub.now)
        elif kind == "orphan" and fault is not None:
            hub.call_later(network.latency_s(), come, requests.exceptions.ConnectionError("reset"), hub.now)
            hub.call_later(fault.seconds, arrive)
        elif kind != "lost":
            hub.call_later(network.latency_s(), arrive)
        deadline = hub.now + timeout
        while not sent and hub.now < deadline:
            hub.pause(deadline - hub.now, box)
        self.process.point()
        if not sent:
            raise requests.exceptions.ReadTimeout("no answer")
        what, network.given_at = sent[0]
        if isinstance(what, Exception):
            raise what
        return Reply(what, str(request.url))


class _Outbox:
    """What the stand-in sends to one socket: in order, each message a little later."""

    def __init__(self, socket: Socket) -> None:
        self._socket, self._last = socket, 0.0

    def put_nowait(self, text: str | None) -> None:
        hub, socket = self._socket.network.hub, self._socket
        self._last = max(self._last, hub.now + socket.network.latency_s())
        hub.call_later(self._last - hub.now, socket.arrive, text)


class _Transport:
    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def abort(self) -> None:
        self._socket.arrive(None)


class Socket:
    """The client's end of a WebSocket connection."""

    def __init__(self, network: Network, process: Process, url: str) -> None:
        channel = "private" if url.endswith("private") else url.rpartition("/")[2]
        streams = network.standin.world.streams
        self.network, self.process = network, process
        process.point()
        network.hub.pause(network.latency_s())
        if network.hub.now < max(network.down_until, streams.refuse_until - BOOT_S):
            raise ConnectionRefusedError
        self._texts: list[str] = []
        self._box: Box = []
        self._closed, self._timeout = False, 10.0
        self.connection = Connection(channel, None, _Transport(self), id=f"{streams.opened}")  # type: ignore[arg-type]
        self.connection.queue = _Outbox(self)  # type: ignore[assignment]
        streams.connections.append(self.connection)
        streams.opened += 1

    def settimeout(self, seconds: float) -> None:
        self._timeout = seconds

    def send(self, text: str) -> None:
        self.process.point()
        if self._closed:
            raise websocket.WebSocketConnectionClosedException("closed")
        hub, streams = self.network.hub, self.network.standin.world.streams
        if hub.now >= self.network.down_until:
            hub.call_later(self.network.latency_s(), self._heard, streams, text)

    def _heard(self, streams: Any, text: str) -> None:
        if self.connection in streams.connections:
            streams.hear(self.connection, text)

    def arrive(self, text: str | None) -> None:
        if text is None:
            self._closed = True
        elif not self._closed and self.network.hub.now >= self.network.down_until:
            self._texts.append(text)
        self.network.hub.wake(self._box)

    def recv(self) -> str:
        # longer than the stream asks for: it only looks at its watch in between
        if not self._texts and not self._closed:
            self.network.hub.pause(40.0 * self._timeout, self._box)
        if self._texts:
            return self._texts.pop(0)
        if self._closed:
            raise websocket.WebSocketConnectionClosedException("closed")
        raise websocket.WebSocketTimeoutException

    def shutdown(self) -> None:
        self.arrive(None)

    def close(self) -> None:
        streams = self.network.standin.world.streams
        if self.connection in streams.connections:
            streams.connections.remove(self.connection)


def open_socket(network: Network, url: str, **_: Any) -> Socket:
    task = SCENE.hub.task
    assert task is not None
    return Socket(network, task.process, url)
