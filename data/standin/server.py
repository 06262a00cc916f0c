"""The stand-in's server: HTTP endpoints behind latency, limits and faults; WebSockets; in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from data.standin.faults import BEFORE, PRIVATE, Fault
from data.standin.public_http import CATEGORIES, Endpoint, public_endpoints
from data.standin.public_streams import PublicStreams
from data.standin.world import Call, Refused, Reply, World

#: what a module may add: endpoints, stream handlers, background tasks
Extension = Callable[["StandIn"], None]

_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center>{1}</body></html>"
#: what stands on a page of HTTP 403: asked too often (it passes), or asked from the wrong country (it does not)
_TOO_OFTEN = "access too frequent"
_COUNTRY = "The Amazon CloudFront distribution is configured to block access from your country. There might be too much traffic."


#: kinds of faults after which the connection is cut, before, within or long after the answer
CUTS = ("reset", "drop", "hang", "half")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. cut: the fault that cuts the connection instead of (or within) it."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    content_type: str = "application/json"
    cut: Fault | None = None


class StandIn:
    """`with StandIn(world) as exchange:` serves until the block ends; `start()` and `stop()` do the same by hand.

    `exchange.endpoint(method, path)` is a dictionary entry to set or replace; extensions get the StandIn before it starts
    (the private part: orders, positions) and may add to `endpoints`, `world.streams` and `tasks` (coroutine functions
    that run in the server's loop).
    """

    def __init__(
        self, world: World | None = None, extensions: Sequence[Extension] = (), port: int = 0, tick_s: float = 0.1
    ) -> None:
        self.world = world or World()
        self.endpoints: dict[tuple[str, str], Endpoint] = public_endpoints()
        self.public = {category: PublicStreams(self.world, category, tick_s) for category in CATEGORIES}
        self.tasks: list[Callable[[], Coroutine[Any, Any, None]]] = [streams.run for streams in self.public.values()]
        self.port = port
        self._recent: deque[float] = deque()
        self._asked: dict[str, deque[float]] = {}
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        for extend in extensions:
            extend(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_public_url(self) -> str:
        """With the channel left open, as pybit's PUBLIC_WSS wants it."""
        return f"ws://127.0.0.1:{self.port}/v5/public/{{CHANNEL_TYPE}}"

    def start(self) -> StandIn:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="stand-in", daemon=True)
        self._thread.start()
        self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Cut everything and free the port; `start()` may follow (on the same port)."""
        loop, stop = self.world.streams.loop, self._stop
        if loop is not None and stop is not None and loop.is_running():
            loop.call_soon_threadsafe(stop.set)
        if self._thread is not None:
            self._thread.join(10)
        self._ready.clear()

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self.world.streams.loop = asyncio.get_running_loop()
        app = web.Application()
        app.router.add_get("/v5/private", lambda request: self.world.streams.serve(request, "private"))
        app.router.add_get("/v5/public/{category}", self._public_socket)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        try:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
            await site.start()
            self.port = runner.addresses[0][1]
        except BaseException as error:
            self._failure = error
            self._ready.set()
            return
        running = [asyncio.create_task(task()) for task in self.tasks]
        self._ready.set()
        await self._stop.wait()
        for task in running:
            task.cancel()
        for connection in list(self.world.streams.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def _public_socket(self, request: web.Request) -> web.StreamResponse:
        category = request.match_info["category"]
        if category not in CATEGORIES:
            raise web.HTTPNotFound
        return await self.world.streams.serve(request, category)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = await self._call(request)
        with self.world.lock:
            self.world.journal.append(call)
        if self.world.latency_s:
            await asyncio.sleep(self.world.latency_s)
        return await self._transmit(request, self.answer(call))

    def answer(self, call: Call) -> Answer:
        """What comes back for a request, with the fault that it suffers; no socket is needed for it."""
        world = self.world
        if self._over_limit():
            return Answer(403, _HTML.format("403 Forbidden", _TOO_OFTEN).encode(), {}, "text/html")
        fault = world.faults.draw(call.path)
        if fault is not None and (fault.kind in (*BEFORE, *PRIVATE) or fault.kind.startswith("code_")):
            return self._fail_before(fault)
        headers = self._user_headers(call)
        if headers["X-Bapi-Limit-Status"] == "-1":
            refused = Reply({}, 10006, "Too many visits. Exceeded the API Rate Limit.").envelope(world.clock.now_ms())
            return Answer(200, json.dumps(refused).encode(), headers | {"X-Bapi-Limit-Status": "0"})
        reply = self._reply(call)
        if reply.status != 200:
            return Answer(reply.status, b"", {}, "text/plain")
        body = msgspec.json.encode(reply.envelope(world.clock.now_ms()))
        if fault is not None and fault.kind not in CUTS:
            body = world.faults.damage(fault, body)
        cut = fault if fault is not None and fault.kind in CUTS else None
        return Answer(200, body, headers, cut=cut)

    async def _call(self, request: web.Request) -> Call:
        text = await request.text()
        try:
            body = json.loads(text) if text else {}
        except ValueError:
            body = None
        raw = request.rel_url.raw_query_string if request.method == "GET" else text
        return Call(
            request.method,
            request.path,
            dict(request.query),
            body,
            raw,
            dict(request.headers),
            self.world.clock.now_ms(),
        )

    def _reply(self, call: Call) -> Reply:
        endpoint = self.endpoints.get((call.method, call.path))
        if endpoint is None:
            return Reply(status=404)
        try:
            with self.world.lock:
                return endpoint(self.world, call)
        except Refused as refused:
            return refused.reply

    def _over_limit(self) -> bool:
        if self.world.rate_limit is None:
            return False
        most, seconds = self.world.rate_limit
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - seconds:
            self._recent.popleft()
        self._recent.append(now)
        return len(self._recent) > most

    def _user_headers(self, call: Call) -> dict[str, str]:
        """What is left of the user's requests for this path; -1: this one is too many."""
        if self.world.user_limits_s is None or call.path.startswith("/v5/market/"):
            return self._limit_headers()
        now, most = time.monotonic(), 10 if call.method == "POST" else 50
        asked = self._asked.setdefault(call.path, deque())
        while asked and asked[0] <= now - self.world.user_limits_s:
            asked.popleft()
        if len(asked) < most:
            asked.append(now)
            left = most - len(asked)
        else:
            left = -1
        reset = self.world.clock.now_ms() + (0 if left > 0 else int(self.world.user_limits_s * 1000))
        return self._limit_headers(left, reset) | {"X-Bapi-Limit": str(most)}

    def _limit_headers(self, left: int = 100, reset_ms: int | None = None) -> dict[str, str]:
        reset = self.world.clock.now_ms() if reset_ms is None else reset_ms
        return {
            "X-Bapi-Limit": "600",
            "X-Bapi-Limit-Status": str(left),
            "X-Bapi-Limit-Reset-Timestamp": str(reset),
        }

    def _fail_before(self, fault: Fault) -> Answer:
        now = self.world.clock.now_ms()
        if fault.kind == "reset":
            return Answer(500, b"", {}, cut=fault)  # nobody is there to read it
        if fault.kind.startswith("http_"):
            status = int(fault.kind.split("_")[1])
            told = {"http_403": _TOO_OFTEN, "http_403_country": _COUNTRY}.get(fault.kind, "")
            return Answer(status, _HTML.format(f"{status} Error", told).encode(), {}, "text/html")
        code = int(fault.kind.split("_")[1])
        message = {
            10006: "Too many visits!",
            10016: "Server error.",
            10002: "invalid request, please check your server timestamp",
        }
        reply = Reply({}, code, message.get(code, "Server Timeout"))
        headers = {}
        if code == 10006:
            reset = now - 5000 if fault.kind.endswith("past") else now + int(fault.seconds * 1000)
            headers = self._limit_headers(0, reset)
        return Answer(200, json.dumps(reply.envelope(now)).encode(), headers)

    async def _transmit(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        kind = answer.cut.kind if answer.cut is not None else ""
        if answer.cut is not None and kind == "hang":
            await asyncio.sleep(answer.cut.seconds)
        if kind in ("reset", "drop", "hang"):
            self._cut(request)
        if kind == "half":
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": str(len(answer.body))}
            )
            await response.prepare(request)
            await response.write(answer.body[: len(answer.body) // 2])
            self._cut(request)
            return response
        return web.Response(
            status=answer.status, body=answer.body, content_type=answer.content_type, headers=answer.headers
        )

    @staticmethod
    def _cut(request: web.Request) -> None:
        if isinstance(request.transport, asyncio.Transport):
            request.transport.abort()
