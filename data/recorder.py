"""From a stream of order book messages to features per bar: a book, its bars, and the socket that feeds them."""

from __future__ import annotations

import asyncio
import os
import random
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from data.book_messages import BadMessage, BookMessage, read_book, read_frame
from data.bybit import ENDPOINT_VARIABLE
from data.intervals import INTERVAL_NS
from data.orderbook import BrokenSequence, OrderBook
from data.panel import FloatArray, InputError
from data.series import BOOK_COLUMNS, FLOW_LEVELS, Rows, SeriesKey
from data.store import Store

STREAM = "wss://stream.bybit.com/v5/public/{category}"
DEPTHS = (1, 50, 200, 1000)


class BookBars:
    """A book and its bars of one interval: `feed` messages, `take` the bars that have closed since.

    A bar belongs to the clock of the messages (`ts`, ms). Its features are the book's just before its close; its order
    flow is the sum inside it. A bar in which the sequence broke has no flow, one whose close found no book has no values.
    """

    def __init__(self, interval: str, depth: int = 50) -> None:
        self.step = INTERVAL_NS[interval] // 1_000_000
        self.book = OrderBook(depth)
        self.breaks = 0
        self._bar: int | None = None
        self._whole = False
        self._closed: list[tuple[int, FloatArray]] = []

    def feed(self, message: BookMessage) -> bool:
        """False where the book is lost and a new snapshot is needed."""
        self._close_until(message.ts)
        if message.kind == "snapshot" and self.book.depth > 1:
            self._whole = False  # a snapshot in the middle of a bar hides what led to it
        try:
            self.book.apply(message)
        except BrokenSequence:
            self.lost()
            return False
        return True

    def lost(self) -> None:
        """The stream broke: the bar has no flow, and the book waits for a snapshot."""
        self.book.ready = False
        self._whole = False
        self.breaks += 1

    def _close_until(self, stamp: int) -> None:
        bar = stamp // self.step * self.step
        if self._bar is None:
            self._bar, self._whole = bar, False  # recording began inside this bar
            self.book.take_flow()
            return
        while self._bar < bar:
            flow, updates = self.book.take_flow()
            values = np.full(len(BOOK_COLUMNS), np.nan)
            values[: -FLOW_LEVELS - 1] = self.book.features()
            if self._whole and self.book.ready:
                values[-FLOW_LEVELS - 1 : -1] = flow
            values[-1] = updates
            if np.isfinite(values[0]):
                self._closed.append((self._bar, values))
            self._bar += self.step
            self._whole = self.book.ready

    def take(self) -> Rows:
        """Closed bars since the last call: open times, BOOK_COLUMNS."""
        closed, self._closed = self._closed, []
        times = np.array([bar for bar, _ in closed], dtype=np.int64)
        values = np.array([row for _, row in closed]).reshape(len(closed), len(BOOK_COLUMNS))
        return Rows(times, values)


def read_archive(path: Path) -> Iterator[BookMessage]:
    """Messages of Bybit's order book archive: a zip of files with one JSON message a line (or such a file itself)."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    with archive.open(name) as lines:
                        yield from _messages(lines, f"{path.name}/{name}")
        else:
            with path.open("rb") as lines:
                yield from _messages(lines, path.name)
    except OSError as error:
        raise InputError(f"cannot read the archive {path}: {error.strerror or error}") from None


def _messages(lines: Any, name: str) -> Iterator[BookMessage]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            frame = read_frame(line)
            if not frame.topic.startswith("orderbook."):
                raise BadMessage("no order book message")
            yield read_book(frame)
        except BadMessage as bad:
            raise InputError(f"{name}, line {number}: {bad}; expected Bybit's order book archive") from None


def store_bars(store: Store, category: str, symbol: str, interval: str, rows: Rows) -> None:
    """Keep recorded bars; a bar that is recorded twice keeps the later recording."""
    if len(rows):
        series = store.series(SeriesKey(category, symbol, "orderbook", interval))
        with series.lock():
            series.add(rows, [])


def store_archive(
    path: Path, store: Store, category: str, symbol: str, made: dict[str, BookBars], told: Callable[[str], None]
) -> tuple[int, int]:
    """(messages read, bars stored) of an archive that is about one symbol. made: bars by interval; told: how far it is."""
    count = 0
    for message in read_archive(path):
        count += 1
        if not message.topic.endswith(f".{symbol}"):
            raise InputError(f"{path} is about {message.topic}, not {symbol}")
        for of_interval in made.values():
            of_interval.feed(message)
        if count % 20_000 == 0:
            told(f"{count:,} messages, at {np.datetime64(message.ts, 'ms')} UTC")
    stored = 0
    for interval, of_interval in made.items():
        rows = of_interval.take()
        stored += len(rows)
        store_bars(store, category, symbol, interval, rows)
    return count, stored


class Recorder:
    """Keeps books of several symbols from the public WebSocket and stores their bars, through every kind of break.

    One socket; JSON ping every 20 s; silence of `silence_s` or any error means a new socket after a pause that grows; a
    broken sequence means a new subscription of that topic, which brings a snapshot.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        intervals: Sequence[str],
        store: Store,
        *,
        depth: int = 50,
        category: str = "linear",
        url: str | None = None,
        say: Callable[[str], None] | None = None,
        silence_s: float = 10.0,
        first_pause_s: float = 0.5,
    ) -> None:
        if depth not in DEPTHS:
            raise InputError(f"--depth {depth} is no depth of the stream; expected {', '.join(map(str, DEPTHS))}")
        for interval in intervals:
            if interval not in INTERVAL_NS or INTERVAL_NS[interval] > INTERVAL_NS["60"]:
                raise InputError(f"--interval {interval} is too long for a recording; expected 1 to 60 (minutes)")
        self.url = url or stream_url(category)
        self.store, self.category, self.depth = store, category, depth
        self.bars = {symbol: {name: BookBars(name, depth) for name in intervals} for symbol in symbols}
        self.say = say or (lambda _line: None)
        self.silence_s, self.first_pause_s = silence_s, first_pause_s
        self._asked: dict[str, float] = {}
        self.messages = self.stored = self.sockets = self.resubscribed = 0

    async def run(self, most_bars: int | None = None) -> None:
        """Until cancelled, or until `most_bars` bars were stored."""
        pause = self.first_pause_s
        async with aiohttp.ClientSession() as session:
            while most_bars is None or self.stored < most_bars:
                before = self.messages
                try:
                    async with session.ws_connect(self.url, max_msg_size=2**24) as socket:
                        self.sockets += 1
                        await self._listen(socket, most_bars)
                        continue
                except (aiohttp.ClientError, OSError, TimeoutError, BadMessage) as error:
                    trouble = str(error) or type(error).__name__
                finally:
                    self._each(BookBars.lost)
                    self._asked.clear()
                pause = self.first_pause_s if self.messages > before + 2 else min(pause * 2, 30.0)
                self.say(f"the stream broke ({trouble}); connecting again in {pause:.1f} s")
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _listen(self, socket: Any, most_bars: int | None) -> None:
        await socket.send_json({"op": "subscribe", "args": [self._topic(s) for s in self.bars]})
        pinged = heard = time.monotonic()
        while most_bars is None or self.stored < most_bars:
            if time.monotonic() - pinged > 20.0:
                await socket.send_json({"op": "ping"})
                pinged = time.monotonic()
            try:
                frame = await socket.receive(timeout=min(self.silence_s, 5.0))
            except TimeoutError:
                if time.monotonic() - heard > self.silence_s:
                    raise TimeoutError(f"no book message for {self.silence_s:g} s") from None
                continue
            if frame.type != aiohttp.WSMsgType.TEXT:
                raise ConnectionError("the exchange closed the stream")
            said = read_frame(frame.data)
            if said.op == "subscribe" and said.success is False:
                raise InputError(f"Bybit refused the subscription: {said.ret_msg}")
            if said.topic.startswith("orderbook."):
                heard = time.monotonic()
                await self._take(socket, read_book(said))

    async def _take(self, socket: Any, message: BookMessage) -> None:
        symbol = message.topic.split(".", 2)[-1]
        if symbol not in self.bars:
            return
        self.messages += 1
        whole = [bars.feed(message) for bars in self.bars[symbol].values()]
        self._keep(symbol)
        if all(whole):
            self._asked.pop(symbol, None)
        elif time.monotonic() - self._asked.get(symbol, -1e9) > self.silence_s / 2:
            # the deltas that still come until the new snapshot are no reason to ask again
            self._asked[symbol] = time.monotonic()
            self.resubscribed += 1
            await socket.send_json({"op": "unsubscribe", "args": [self._topic(symbol)]})
            await socket.send_json({"op": "subscribe", "args": [self._topic(symbol)]})

    def _keep(self, symbol: str) -> None:
        for interval, bars in self.bars[symbol].items():
            rows = bars.take()
            store_bars(self.store, self.category, symbol, interval, rows)
            self.stored += len(rows)

    def _each(self, act: Callable[[BookBars], None]) -> None:
        for of_symbol in self.bars.values():
            for bars in of_symbol.values():
                act(bars)

    def _topic(self, symbol: str) -> str:
        return f"orderbook.{self.depth}.{symbol}"


def stream_url(category: str) -> str:
    """The public stream: the exchange's, or that of the stand-in whose address `$REGIME_BYBIT_URL` holds."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE)
    if endpoint and endpoint.startswith("http"):
        return f"ws{endpoint.removeprefix('http').rstrip('/')}/v5/public/{category}"
    return STREAM.format(category=category)
