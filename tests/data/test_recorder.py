"""The recorder against the stand-in's stream: the same bars whatever breaks, and a clear line for what cannot be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from data.book_messages import read_book, read_frame
from data.panel import InputError
from data.record import app as record
from data.recorder import BookBars, Recorder
from data.series import BOOK_COLUMNS, SeriesKey
from data.standin import StandIn
from data.standin.streams import StreamFault
from data.store import Store
from tests.data.moment import NOW

TOPIC = "orderbook.50.BTCUSDT"
KEY = SeriesKey("linear", "BTCUSDT", "orderbook", "1")
MINUTE = 60_000


def script(count: int = 120, seed: int = 0, minute: int = 0) -> list[dict[str, Any]]:
    """A snapshot and deltas over `count` times 4 seconds, from the given minute on."""
    dice = np.random.default_rng(seed)
    out = []
    for i in range(count):
        sides = [[[str(p), str(dice.integers(1, 50))] for p in dice.choice(levels, 5, replace=False)]
                 for levels in (np.arange(80, 100), np.arange(101, 121))]  # fmt: skip
        if i == 0:
            sides = [[["99", "5"], ["98", "5"]], [["101", "5"], ["102", "5"]]]
        ts = (NOW // MINUTE + minute) * MINUTE + i * 4000
        data = {"s": "BTCUSDT", "b": sides[0], "a": sides[1], "u": 100 + i, "seq": i}
        out.append({"topic": TOPIC, "type": "delta" if i else "snapshot", "ts": ts, "data": data, "cts": ts})
    return out


def recorder(exchange: StandIn, store: Store, **more: Any) -> Recorder:
    url = exchange.ws_public_url.format(CHANNEL_TYPE="linear")
    return Recorder(("BTCUSDT",), ("1",), store, url=url, first_pause_s=0.01, **more)


def record_bars(made: Recorder, bars: int) -> None:
    asyncio.run(asyncio.wait_for(made.run(bars), 30))


def test_recorded_bars_are_those_of_the_stream(exchange: StandIn, tmp_path: Path) -> None:
    messages = script()
    exchange.public["linear"].script(TOPIC, messages)
    store = Store(tmp_path)
    record_bars(recorder(exchange, store), 7)
    bars = BookBars("1", 50)
    for message in messages:
        bars.feed(read_book(read_frame(json.dumps(message))))
    expected, found = bars.take(), store.series(KEY).read(0, 2**42)
    assert np.array_equal(found.times, expected.times)
    assert np.array_equal(found.values, expected.values, equal_nan=True)
    assert len(found) == 7


@pytest.mark.parametrize(
    "kind", ["drop", "duplicate", "reorder", "abort", "not_json", "wrong_shape", "u_one", "half_open"]
)
def test_after_a_break_the_book_is_right_again(exchange: StandIn, tmp_path: Path, kind: str) -> None:
    """Every stored value is that of the unbroken stream; a bar that lost messages has no flow, or is not stored."""
    first, second = script(), script(seed=1, minute=8)
    exchange.public["linear"].script(TOPIC, first, second)
    exchange.world.streams.faults.append(StreamFault(kind, TOPIC, nth=(40,)))
    store = Store(tmp_path)
    made = recorder(exchange, store, silence_s=0.5)
    record_bars(made, 7 if kind in ("duplicate", "abort") else 9)
    bars = BookBars("1", 50)
    for message in first + second:
        bars.feed(read_book(read_frame(json.dumps(message))))
    expected, found = bars.take(), store.series(KEY).read(0, 2**42)
    place = np.searchsorted(expected.times, found.times)
    assert np.array_equal(expected.times[place], found.times)
    known = np.isfinite(found.values)
    assert known[:, : BOOK_COLUMNS.index("ofi_1")].all()
    known[:, -1] = False  # the number of updates differs where some were lost
    assert np.array_equal(found.values[known], expected.values[place][known])
    assert known[1, BOOK_COLUMNS.index("ofi_1")]
    if kind == "duplicate":
        assert (made.sockets, made.resubscribed) == (1, 0)
    elif kind in ("drop", "reorder", "u_one"):
        assert (made.sockets, made.resubscribed) == (1, 1)
    else:
        assert made.sockets == 2


def test_the_live_book_survives_an_exchange_that_goes_away(exchange: StandIn, tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = recorder(exchange, store)
    exchange.world.clock.set(NOW, speed=600.0)

    async def watch() -> None:
        work = asyncio.create_task(made.run(20))
        while made.stored < 4:
            await asyncio.sleep(0.01)
        exchange.world.streams.refuse_for(0.3)
        exchange.world.streams.cut_all()
        await asyncio.wait_for(work, 30)

    asyncio.run(watch())
    rows = store.series(KEY).read(0, 2**42)
    assert made.sockets == 2
    assert len(rows) >= 20
    assert np.all((rows.values[:, 1] > 0) & (rows.values[:, 1] < 0.01))
    assert np.all(np.abs(rows.values[:, 2]) <= 1)


def test_a_refused_topic_and_a_bad_depth_are_one_line(exchange: StandIn, tmp_path: Path) -> None:
    made = Recorder(("NOPEUSDT",), ("1",), Store(tmp_path), url=exchange.ws_public_url.format(CHANNEL_TYPE="linear"))
    with pytest.raises(InputError, match="refused the subscription"):
        record_bars(made, 1)
    with pytest.raises(InputError, match="--depth 7 is no depth"):
        Recorder(("BTCUSDT",), ("1",), Store(tmp_path), depth=7)


def test_the_command_reads_an_archive_into_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    monkeypatch.setenv("REGIME_CACHE", str(tmp_path))
    path = str(shared / "bybit" / "xrpusdt-ob500.data.zip")
    done = CliRunner().invoke(record, ["--symbol", "XRPUSDT", "--depth", "500", "--archive", path])
    assert done.exit_code == 0, done.output
    assert "50 messages" in done.stderr
    wrong = CliRunner().invoke(record, ["--symbol", "BTCUSDT", "--archive", path])
    assert wrong.exit_code == 2
    assert "not BTCUSDT" in wrong.stderr
