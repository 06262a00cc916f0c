"""The public WebSocket of the stand-in: order books, klines, tickers and trades of `/v5/public/{category}`."""

from __future__ import annotations

import asyncio
from typing import Any

from data.standin.books import BookFeed
from data.standin.market import INTERVALS, bar_open, next_open
from data.standin.public_http import ticker_row
from data.standin.streams import Connection
from data.standin.world import World

BOOK_DEPTHS = {"linear": (1, 50, 200, 1000), "inverse": (1, 50, 200, 1000), "spot": (1, 50, 200, 1000)}


class PublicStreams:
    """Answers subscriptions with snapshots and, while `run` runs, publishes what has changed every `tick_s` seconds."""

    def __init__(self, world: World, category: str, tick_s: float = 0.1) -> None:
        self.world, self.category, self.tick_s = world, category, tick_s
        self.feeds: dict[tuple[Connection, str], BookFeed] = {}
        self.scripts: dict[str, list[list[dict[str, Any]]]] = {}
        self._last_bar: dict[str, int] = {}
        self._last_price: dict[str, float] = {}
        self._trade = 0
        world.streams.accepts[category] = self.accepts
        world.streams.joined[category] = self.joined

    def script(self, topic: str, *batches: list[dict[str, Any]]) -> None:
        """The n-th subscription of the topic gets exactly the n-th batch of messages, at once; later ones get nothing."""
        self.scripts[topic] = list(batches)

    def accepts(self, topic: str) -> bool:
        name, _, rest = topic.partition(".")
        market = self.world.market
        if self.category == "inverse":  # nothing is listed there
            return False
        if name == "orderbook":
            depth, _, symbol = rest.partition(".")
            return symbol in market.instruments and depth.isdigit() and int(depth) in BOOK_DEPTHS[self.category]
        if name == "kline":
            interval, _, symbol = rest.partition(".")
            return symbol in market.instruments and interval in INTERVALS
        return name in ("tickers", "publicTrade") and rest in market.instruments

    def joined(self, connection: Connection, topic: str) -> None:
        streams = self.world.streams
        if topic in self.scripts:
            batch = self.scripts[topic].pop(0) if self.scripts[topic] else []
            for message in batch:
                streams.send(connection, topic, message)
            return
        name, _, rest = topic.partition(".")
        if name == "orderbook":
            depth, _, symbol = rest.partition(".")
            self.feeds[connection, topic] = feed = BookFeed(self.world.books, symbol, int(depth))
            streams.send(connection, topic, feed.snapshot())
        elif name == "tickers":
            now = self.world.clock.now_ms()
            row = ticker_row(self.world, self.category, rest)
            streams.send(connection, topic, {"topic": topic, "type": "snapshot", "data": row, "cs": now, "ts": now})

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.tick_s)
            self.tick()

    def tick(self) -> None:
        """Publish what has changed since the last tick (in the server's loop)."""
        streams = self.world.streams
        self.feeds = {
            key: feed for key, feed in self.feeds.items() if key[0] in streams.connections and key[1] in key[0].topics
        }
        for (connection, topic), feed in self.feeds.items():
            if message := feed.delta():
                streams.send(connection, topic, message)
        for topic in sorted(streams.topics(self.category) - self.scripts.keys()):  # the same order in every process
            name, _, rest = topic.partition(".")
            if name == "kline":
                self._kline(topic, *rest.split("."))
            elif name == "tickers":
                now = self.world.clock.now_ms()
                row = ticker_row(self.world, self.category, rest)
                streams.publish(
                    topic, {"topic": topic, "type": "delta", "data": row, "cs": now, "ts": now}, self.category
                )
            elif name == "publicTrade":
                self._trades(topic, rest)

    def _kline(self, topic: str, interval: str, symbol: str) -> None:
        """First the closed bar(s) since the last tick with confirm, then the one that forms."""
        now = self.world.clock.now_ms()
        current = bar_open(interval, now)
        last = self._last_bar.get(topic, current)
        self._last_bar[topic] = current
        found = self.world.market.klines(symbol, interval, last, now, now, 200)
        digits = self.world.market.instruments[symbol].price_digits
        for i, opened in enumerate(found.opens_ms.tolist()):
            end = next_open(interval, opened)
            row = {
                "start": opened, "end": end - 1, "interval": interval, "open": f"{found.open[i]:.{digits}f}",
                "close": f"{found.close[i]:.{digits}f}", "high": f"{found.high[i]:.{digits}f}",
                "low": f"{found.low[i]:.{digits}f}", "volume": f"{found.volume[i]:.3f}",
                "turnover": f"{found.turnover[i]:.4f}", "confirm": end <= now, "timestamp": now,
            }  # fmt: skip
            self.world.streams.publish(
                topic, {"topic": topic, "data": [row], "ts": now, "type": "snapshot"}, self.category
            )

    def _trades(self, topic: str, symbol: str) -> None:
        now = self.world.clock.now_ms()
        price = self.world.market.price(symbol, now)
        last = self._last_price.get(topic, price)
        self._last_price[topic] = price
        if price == last:
            return
        self._trade += 1
        instrument = self.world.market.instruments[symbol]
        row = {
            "T": now, "s": symbol, "S": "Buy" if price > last else "Sell", "v": instrument.min_order_qty,
            "p": f"{price:.{instrument.price_digits}f}", "L": "PlusTick" if price > last else "MinusTick",
            "i": f"stand-in-{self._trade}", "BT": False, "seq": self._trade,
        }  # fmt: skip
        self.world.streams.publish(topic, {"topic": topic, "type": "snapshot", "ts": now, "data": [row]}, self.category)
