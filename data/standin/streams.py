"""WebSocket connections of the stand-in: subscribe, ping, auth; publishing to topics; and how streams fail."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from data.standin.clock import Clock

#: drop (the message never comes), duplicate, reorder (swapped with the next), abort (the socket is cut), half_open (the
#: socket stays open and silent), not_json, wrong_shape (data without its rows), u_one (data.u becomes 1)
STREAM_FAULTS = ("drop", "duplicate", "reorder", "abort", "half_open", "not_json", "wrong_shape", "u_one")


@dataclass
class StreamFault:
    """kind of STREAM_FAULTS, on the nth (1-based) messages of topics that match the glob, each once."""

    kind: str
    topic: str = "*"
    nth: Sequence[int] = (1,)
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in STREAM_FAULTS:
            raise ValueError(f"unknown stream fault {self.kind!r}; there are {', '.join(STREAM_FAULTS)}")


@dataclass(eq=False)
class Connection:
    """One open socket. `authorised`: the private channel accepted its auth."""

    channel: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    topics: set[str] = field(default_factory=set)
    authorised: bool = False
    silent: bool = False
    held: list[str] = field(default_factory=list)
    queue: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:20])


class Streams:
    """All sockets. Handlers that other modules add:

    accepts[channel](topic) -> bool: is it a topic of that channel (default: refused).
    joined[channel](connection, topic): called in the server's loop after a subscription (to send a snapshot).
    authorise(args) -> bool: verifies ["key", expires, "signature"] on the private channel.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.connections: list[Connection] = []
        self.accepts: dict[str, Callable[[str], bool]] = {}
        self.joined: dict[str, Callable[[Connection, str], None]] = {}
        self.authorise: Callable[[Sequence[Any]], bool] | None = None
        self.faults: list[StreamFault] = []
        self.refuse_until = 0.0
        self.opened = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    def refuse_for(self, seconds: float) -> None:
        """New sockets are refused for that many real seconds."""
        self.refuse_until = time.monotonic() + seconds

    def cut_all(self, channel: str = "*") -> None:
        """Every open socket of the channel breaks without a closing handshake."""

        def cut() -> None:
            for connection in list(self.connections):
                if fnmatch.fnmatch(connection.channel, channel):
                    self._abort(connection)

        self._in_loop(cut)

    def publish(self, topic: str, message: Any, channel: str = "*") -> None:
        """Send a message, which stays as it is, to all subscribers of a topic; may be called from any thread."""
        if any(topic in connection.topics for connection in list(self.connections)):
            self._in_loop(lambda: self._publish(topic, message, channel))

    def send(self, connection: Connection, topic: str, message: Any) -> None:
        """Send to one socket; through the faults, like `publish`. Call in the server's loop."""
        self._deliver(connection, topic, _text(message))

    def topics(self, channel: str) -> set[str]:
        return {topic for c in list(self.connections) if c.channel == channel for topic in c.topics}

    def _in_loop(self, act: Callable[[], Any]) -> None:
        if self.loop is not None and self.loop.is_running():
            self.loop.call_soon_threadsafe(act)

    def _publish(self, topic: str, message: Any, channel: str) -> None:
        text = ""
        for connection in list(self.connections):
            if topic in connection.topics and fnmatch.fnmatch(connection.channel, channel):
                text = text or _text(message)
                self._deliver(connection, topic, text)

    def _deliver(self, connection: Connection, topic: str, text: str) -> None:
        if connection.silent:
            return
        fault = self._draw(topic)
        kind = fault.kind if fault else ""
        if kind == "drop":
            return
        if kind == "reorder":
            connection.held.append(text)
            return
        if kind == "abort":
            self._abort(connection)
            return
        if kind == "half_open":
            connection.silent = True
            return
        if kind == "not_json":
            text = text[: len(text) // 2]
        if kind == "wrong_shape":
            text = json.dumps({**json.loads(text), "data": {"b": [["soon"]]}})
        if kind == "u_one":
            message = json.loads(text)
            message["data"]["u"] = 1
            text = json.dumps(message)
        for out in (text, *connection.held, *([text] if kind == "duplicate" else [])):
            connection.queue.put_nowait(out)
        connection.held.clear()

    def _draw(self, topic: str) -> StreamFault | None:
        matching = [fault for fault in self.faults if fnmatch.fnmatch(topic, fault.topic)]
        for fault in matching:
            fault.seen += 1
        return next((fault for fault in matching if fault.seen in fault.nth), None)

    def _abort(self, connection: Connection) -> None:
        if connection.transport is not None:
            connection.transport.abort()
        connection.queue.put_nowait(None)

    async def serve(self, request: web.Request, channel: str) -> web.StreamResponse:
        """The handler of one socket, from handshake to close."""
        if time.monotonic() < self.refuse_until:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        connection = Connection(channel, socket, request.transport)
        self.connections.append(connection)
        self.opened += 1
        writer = asyncio.create_task(self._write(connection))
        try:
            async for frame in socket:
                if frame.type == WSMsgType.TEXT:
                    self.hear(connection, frame.data)
        finally:
            self.connections.remove(connection)
            writer.cancel()
        return socket

    def hear(self, connection: Connection, text: str) -> None:
        """One message of a client: what is answered goes to its queue. No socket is needed for it."""
        try:
            message = json.loads(text)
        except ValueError:
            message = {}
        for answer in self._answers(connection, message):
            connection.queue.put_nowait(json.dumps(answer))
        self._after(connection, message)

    async def _write(self, connection: Connection) -> None:
        while (text := await connection.queue.get()) is not None:
            try:
                await connection.socket.send_str(text)
            except (ConnectionError, RuntimeError):
                return

    def _answers(self, connection: Connection, message: dict[str, Any]) -> list[dict[str, Any]]:
        op, request_id = message.get("op"), message.get("req_id", "")
        public = connection.channel != "private"
        base = {"conn_id": connection.id, "req_id": request_id}
        if connection.silent:
            return []
        if op == "ping":
            if public:
                return [{"success": True, "ret_msg": "pong", "op": "ping", **base}]
            return [{"op": "pong", "args": [str(self.clock.now_ms())], **base}]
        if op == "auth":
            connection.authorised = self.authorise is not None and self.authorise(message.get("args", []))
            ret = "" if connection.authorised else "Params Error"
            return [{"success": connection.authorised, "ret_msg": ret, "op": "auth", "conn_id": connection.id}]
        topics = [str(topic) for topic in message.get("args", [])]
        if op == "unsubscribe":
            connection.topics.difference_update(topics)
            return [{"success": True, "ret_msg": "", "op": op, **base}]
        if op != "subscribe":
            return [{"success": False, "ret_msg": f"unknown op: {op}", "op": op, **base}]
        accepts = self.accepts.get(connection.channel, _no_topic)
        bad = [topic for topic in topics if not accepts(topic)]
        if not public and not connection.authorised:
            return [{"success": False, "ret_msg": "Request not authorized", "op": op, **base}]
        if bad:
            return [{"success": False, "ret_msg": f"error:handler not found,topic:{bad[0]}", "op": op, **base}]
        return [{"success": True, "ret_msg": "subscribe" if public else "", "op": op, **base}]

    def _after(self, connection: Connection, message: dict[str, Any]) -> None:
        """Subscriptions take effect after their answer is on its way."""
        if message.get("op") != "subscribe" or (connection.channel == "private" and not connection.authorised):
            return
        topics = [str(topic) for topic in message.get("args", [])]
        accepts = self.accepts.get(connection.channel, _no_topic)
        if not all(accepts(topic) for topic in topics):
            return
        for topic in topics:
            connection.topics.add(topic)
            if connection.channel in self.joined:
                self.joined[connection.channel](connection, topic)


def _text(message: Any) -> str:
    return msgspec.json.encode(message).decode()


def _no_topic(_topic: str) -> bool:
    return False
