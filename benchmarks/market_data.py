"""`python -m benchmarks.market_data`: rows/s from a stand-in at 100 ms a call, book updates/s, and reading 5 years of minutes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from data.book_messages import read_book, read_frame
from data.bybit import Bybit
from data.history import PARALLEL_PAGES, History
from data.orderbook import OrderBook
from data.series import Rows, SeriesKey
from data.store import Store

LATENCY_S = 0.1
MINUTE = 60_000
#: the start of this hour
NOW = int(time.time()) // 3600 * 3_600_000
BARS = SeriesKey("linear", "BTCUSDT", "klines", "1")
ROUNDS = 3

#: the exchange runs in a process of its own, and answers a page that it has answered before without making it again: what
#: is timed is the client
_SERVER = """
import sys
from data.standin import Clock, Market, StandIn, World
now, pages, latency_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
world = World(Market(first_ms=now - (pages + 2) * 1000 * 60_000, last_ms=now + 86_400_000), Clock(), latency_s=latency_s)
exchange = StandIn(world)
path = ("GET", "/v5/market/kline")
answer, known = exchange.endpoints[path], dict()
def kept(world, call):
    key = tuple(sorted(call.query.items()))
    if key not in known:
        known[key] = answer(world, call)
    return known[key]
exchange.endpoints[path] = kept
with exchange:
    print(exchange.url, flush=True)
    sys.stdin.read()
"""


def pages(count: int) -> None:
    """The same pages one after the other and in parallel, in turn, from an empty store each time."""
    environment = {**os.environ, "PYTHONPATH": "."}
    command = [sys.executable, "-c", _SERVER, str(NOW), str(count), str(LATENCY_S)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server, tempfile.TemporaryDirectory() as folder:  # fmt: skip
        assert server.stdout is not None
        assert server.stdin is not None
        url = server.stdout.readline().strip()
        start, rows = NOW - count * 1000 * MINUTE, count * 1000
        History(Store(Path(folder) / "untimed"), Bybit(url)).load(BARS, start, NOW)
        rates: dict[int, list[float]] = {1: [], PARALLEL_PAGES: []}
        for turn in range(ROUNDS):
            for parallel, rate in rates.items():
                history = History(Store(Path(folder) / f"{turn}-{parallel}"), Bybit(url), parallel=parallel)
                began = time.perf_counter()
                assert len(history.load(BARS, start, NOW)) == rows
                rate.append(rows / (time.perf_counter() - began))
        server.stdin.close()
        server.wait()
    ratio = statistics.median(b / a for a, b in zip(rates[1], rates[PARALLEL_PAGES], strict=True))
    for parallel, rate in rates.items():
        print(
            f"download, {LATENCY_S * 1000:.0f} ms a call, {parallel:>2} at once: {statistics.median(rate):>9,.0f} rows/s"
        )
    print(f"parallel over sequential: {ratio:.1f}x (pairs in one run, {count} pages)")


def book(count: int) -> None:
    """A 50-level book under random deltas of 10 levels each: level updates per second, with and without JSON."""
    dice = np.random.default_rng(0)
    changed = 10

    def side(prices: np.ndarray) -> list[list[str]]:
        sizes = dice.integers(0, 6, len(prices))
        return [[str(p / 10), str(s)] for p, s in zip(prices.tolist(), sizes.tolist(), strict=True)]

    texts, arrays = [], []
    for u in range(1, count + 1):
        bids = side(dice.choice(np.arange(9_941, 10_001), changed // 2, replace=False))
        asks = side(dice.choice(np.arange(10_001, 10_061), changed // 2, replace=False))
        data = {"s": "X", "b": bids, "a": asks, "u": u, "seq": u}
        texts.append(json.dumps({"topic": "orderbook.50.X", "type": "delta", "ts": u, "data": data}))
        arrays.append((np.array(bids, dtype=float), np.array(asks, dtype=float)))
    levels = np.arange(50)
    full = (np.column_stack([1000 - levels / 10, levels + 1.0]), np.column_stack([1000.1 + levels / 10, levels + 1.0]))
    best: dict[str, float] = {}
    for _ in range(ROUNDS + 1):  # the first one compiles
        made = OrderBook(50)
        made.reset(*full, 0)
        began = time.perf_counter()
        for u, (bid, ask) in enumerate(arrays, 1):
            made.change(bid, ask, u)
        best["level updates, arrays in"] = count * changed / (time.perf_counter() - began)
        made.reset(*full, 0)
        began = time.perf_counter()
        for text in texts:
            made.apply(read_book(read_frame(text)))
        best["level updates, JSON in"] = count * changed / (time.perf_counter() - began)
    for name, rate in best.items():
        print(f"book of 50 levels, {name}: {rate:>9,.0f} /s ({rate / changed:,.0f} messages/s of {changed} levels)")


def store(years: float) -> None:
    """Years of minutes: written once, read (every checksum checked) several times."""
    count = round(years * 365 * 1440)
    times = NOW - count * MINUTE + np.arange(count, dtype=np.int64) * MINUTE
    dice = np.random.default_rng(0)
    close = np.round(30_000 * np.exp(np.cumsum(3e-4 * dice.standard_normal(count))), 1)
    values = np.column_stack([close, close + 3.5, close - 2.5, close, np.round(dice.random(count) * 9, 3), close * 4])
    with tempfile.TemporaryDirectory() as folder:
        series = Store(Path(folder)).series(BARS)
        series.add(Rows(times, values), [(int(times[0]), NOW)])
        size = sum(path.stat().st_size for path in series.folder.glob("*.parquet"))
        took, used = [], []
        for _ in range(5):
            began, cpu = time.perf_counter(), time.process_time()
            assert len(series.read(int(times[0]), NOW)) == count
            took.append(time.perf_counter() - began)
            used.append(time.process_time() - cpu)
    print(
        f"reading {count:,} rows of 6 columns ({size / 2**20:.0f} MiB): {statistics.median(took):.2f} s "
        f"(fastest {min(took):.2f} s, processor {min(used):.2f} s)"
    )


def main(
    pages_: Annotated[int, typer.Option("--pages", help="Pages of 1,000 candles to download.")] = 96,
    messages: Annotated[int, typer.Option(help="Deltas of the order book.")] = 20_000,
    years: Annotated[float, typer.Option(help="Years of minutes to read from the store.")] = 5.0,
) -> None:
    """Download, order book and store, one after the other; prints rates."""
    pages(pages_)
    book(messages)
    store(years)


if __name__ == "__main__":
    typer.run(main)
