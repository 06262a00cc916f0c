"""The book against a plain one, its features against their formulas, bars against the clock, and Bybit's own archive."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.book_messages import BadMessage, BookMessage, read_book, read_frame
from data.orderbook import BrokenSequence, OrderBook
from data.panel import InputError
from data.recorder import BookBars, read_archive
from data.series import BOOK_COLUMNS, FLOW_LEVELS

Side = list[list[str]]


def said(kind: str, u: int, bids: Side, asks: Side, ts: int = 1000) -> dict[str, Any]:
    """A message as the exchange writes it."""
    data = {"s": "X", "b": bids, "a": asks, "u": u, "seq": u}
    return {"topic": "orderbook.50.X", "type": kind, "ts": ts, "data": data}


def read(message: dict[str, Any]) -> BookMessage:
    return read_book(read_frame(json.dumps(message)))


def message(kind: str, u: int, bids: Side, asks: Side, ts: int = 1000) -> BookMessage:
    return read(said(kind, u, bids, asks, ts))


class PlainBook:
    """The book as dictionaries and the order flow as in the paper; reads like the specification."""

    def __init__(self, depth: int) -> None:
        self.depth, self.flow = depth, [0.0] * FLOW_LEVELS
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def sides(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())

    def apply(self, kind: str, bids: Side, asks: Side) -> None:
        before = self.sides()
        if kind == "snapshot":
            self.bids, self.asks = {}, {}
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for price, size in changes:
                if float(size) == 0:
                    side.pop(float(price), None)
                else:
                    side[float(price)] = float(size)
        self.bids, self.asks = (dict(side[: self.depth]) for side in self.sides())
        if kind == "snapshot":
            return
        after = self.sides()
        for i in range(FLOW_LEVELS):
            if i < min(len(before[0]), len(after[0])):
                (p0, q0), (p1, q1) = before[0][i], after[0][i]
                self.flow[i] += q1 * (p1 >= p0) - q0 * (p1 <= p0)
            if i < min(len(before[1]), len(after[1])):
                (p0, q0), (p1, q1) = before[1][i], after[1][i]
                self.flow[i] += -q1 * (p1 <= p0) + q0 * (p1 >= p0)


_SIZE = st.integers(0, 5).map(str)
_BIDS = st.lists(st.tuples(st.integers(80, 100).map(str), _SIZE).map(list), max_size=12)
_ASKS = st.lists(st.tuples(st.integers(101, 120).map(str), _SIZE).map(list), max_size=12)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(_BIDS, _ASKS), min_size=1, max_size=12), depth=st.integers(2, 12))
def test_the_book_equals_a_plain_one_whatever_comes(steps: list[tuple[Side, Side]], depth: int) -> None:
    book, plain = OrderBook(depth), PlainBook(depth)
    for u, (bids, asks) in enumerate(steps, 1):
        # the exchange names every price once in a message
        bids, asks = (list({p: [p, q] for p, q in side}.values()) for side in (bids, asks))
        kind = "snapshot" if u == 1 else "delta"
        book.apply(message(kind, u, bids, asks))
        plain.apply(kind, bids, asks)
        for prices, sizes, count, side in zip(
            (book.bid_prices, book.ask_prices), (book.bid_sizes, book.ask_sizes), (book.bids, book.asks),
            plain.sides(), strict=True,
        ):  # fmt: skip
            assert list(zip(prices[:count].tolist(), sizes[:count].tolist(), strict=True)) == side
    assert book.flow.tolist() == plain.flow


def test_features_are_their_formulas() -> None:
    book = OrderBook(3)
    bids = [["99", "2"], ["98", "4"], ["97", "6"]]
    asks = [["101", "6"], ["102", "1"]]
    book.apply(message("snapshot", 5, bids, asks))
    f = dict(zip(BOOK_COLUMNS, book.features(), strict=False))
    assert f["mid"] == 100
    assert f["spread"] == pytest.approx(2 / 100)
    assert f["imbalance"] == pytest.approx((2 - 6) / 8)
    assert f["depth_imbalance"] == pytest.approx((12 - 7) / 19)
    assert f["weighted_mid"] == pytest.approx((99 * 6 + 101 * 2) / 8)
    assert f["micro_adjustment"] == pytest.approx(f["weighted_mid"] / 100 - 1)
    distance, total = [0.01, 0.02, 0.03], [2, 6, 12]
    assert f["bid_slope"] == pytest.approx(sum(map(math.prod, zip(distance, total, strict=True))) / 0.0014)


def test_order_flow_counts_equal_prices_twice() -> None:
    book = OrderBook(5)
    book.apply(message("snapshot", 1, [["99", "3"]], [["101", "4"]]))
    book.apply(message("delta", 2, [["99", "5"]], []))  # +5 -3; ask unchanged: -4 +4
    assert book.flow[0] == 2
    book.apply(message("delta", 3, [["100", "1"]], []))  # better bid: +1
    assert book.flow[0] == 3
    book.apply(message("delta", 4, [], [["101", "0"], ["102", "7"]]))  # ask gone up: +4
    assert book.flow[0] == 7


@pytest.mark.parametrize("u", [1, 3, 7, 11, 13, 2**40])
def test_a_gap_or_u_of_one_breaks_the_book_until_a_snapshot(u: int) -> None:
    book = OrderBook(5)
    book.apply(message("snapshot", 10, [["99", "3"]], [["101", "4"]]))
    if u == 11:
        book.apply(message("delta", u, [["99", "5"]], []))
        return
    with pytest.raises(BrokenSequence):
        book.apply(message("delta", u, [["99", "5"]], []))
    assert np.isnan(book.features()).all()
    with pytest.raises(BrokenSequence):
        book.apply(message("delta", u + 1, [["99", "5"]], []))
    book.apply(message("snapshot", 50, [["99", "3"]], [["101", "4"]]))
    assert book.features()[0] == 100


def test_a_repeated_message_counts_once_and_a_crossed_book_is_broken() -> None:
    book = OrderBook(5)
    book.apply(message("snapshot", 1, [["99", "3"]], [["101", "4"]]))
    for _ in range(2):
        book.apply(message("delta", 2, [["99", "5"]], []))
    assert book.flow[0] == 2
    with pytest.raises(BrokenSequence, match="not below ask"):
        book.apply(message("delta", 3, [["101", "5"]], []))


@pytest.mark.parametrize(
    "spoil",
    [
        {"data": None}, {"data": {}}, {"type": "other"}, {"data": {"b": [["1"]], "a": [], "u": 2}},
        {"data": {"b": [["x", "1"]], "a": [], "u": 2}}, {"data": {"b": [["nan", "1"]], "a": [], "u": 2}},
        {"data": {"b": [["-1", "1"]], "a": [], "u": 2}}, {"data": {"b": [], "a": [], "u": "soon"}},
        {"ts": None}, {"ts": "1000"}, {"ts": -5}, {"data": []}, {"type": 7},
    ],
)  # fmt: skip
def test_nonsense_is_refused(spoil: dict[str, Any]) -> None:
    good = said("delta", 2, [["99", "3"]], [])
    assert read(good).bids.tolist() == [[99.0, 3.0]]
    with pytest.raises(BadMessage):
        read({**good, **spoil})


@pytest.mark.parametrize(
    "word", ["", " ", "nan", "inf", "-inf", "1_000", "0x10", "1,5", "--1", "true", "12 ", "٣", None, [], True]
)
def test_a_word_for_a_number_is_refused(word: Any) -> None:
    for level in (
        [word, "1"],
        ["1", word],
        ["-1", "1"],
        ["0", "1"],
        ["1", "-1"],
        ["1e999", "1"],
        ["1"],
        ["1", "2", "3"],
    ):
        with pytest.raises(BadMessage):
            read(said("delta", 2, [["99", "3"], level], []))


@given(st.decimals(min_value="1e-12", max_value="1e15", allow_nan=False, places=12))
def test_a_price_is_the_nearest_float_to_its_decimals(price: Decimal) -> None:
    text = format(price, "f")
    assert message("delta", 2, [[text, text]], []).bids.tolist() == [[float(text)] * 2]


def quotes(bars: BookBars, *moments: tuple[int, str]) -> None:
    """A snapshot, then deltas that set the best bid's size, at the given milliseconds."""
    for u, (ts, size) in enumerate(moments, 1):
        kind = "snapshot" if u == 1 else "delta"
        bars.feed(message(kind, u, [["99", size]], [["101", "4"]] if u == 1 else [], ts))


MINUTE = 60_000


def test_a_bar_holds_the_book_before_its_close_and_the_flow_inside_it() -> None:
    bars = BookBars("1", 5)
    quotes(bars, (500, "1"), (MINUTE + 1, "2"), (2 * MINUTE - 1, "5"), (2 * MINUTE, "50"), (3 * MINUTE + 5, "60"))
    rows = bars.take()
    assert rows.times.tolist() == [0, MINUTE, 2 * MINUTE]
    imbalance = rows.values[:, BOOK_COLUMNS.index("imbalance")]
    assert imbalance.tolist() == pytest.approx([(1 - 4) / 5, (5 - 4) / 9, (50 - 4) / 54])
    flow = rows.values[:, BOOK_COLUMNS.index("ofi_1")]
    assert np.isnan(flow[0])  # recording began inside that bar
    assert flow[1:].tolist() == [1 + 3, 45]


@given(cut=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_later_messages_change_no_closed_bar(cut: int) -> None:
    dice = np.random.default_rng(3)
    moments = [
        (int(t), str(s))
        for t, s in zip(np.sort(dice.integers(0, 9 * MINUTE, 60)), dice.integers(1, 9, 60), strict=True)
    ]
    whole, cut_short = BookBars("1", 5), BookBars("1", 5)
    quotes(whole, *moments)
    quotes(cut_short, *moments[:cut], (moments[cut - 1][0] + 20 * MINUTE, "777"))
    first, second = whole.take(), cut_short.take()
    closed = first.times + MINUTE <= moments[cut - 1][0]
    assert np.array_equal(first.values[closed], second.values[: closed.sum()], equal_nan=True)


def test_a_broken_bar_has_no_flow_and_the_next_one_has() -> None:
    bars = BookBars("1", 5)
    quotes(bars, (1, "1"), (MINUTE + 1, "2"))
    assert bars.feed(message("delta", 9, [["99", "7"]], [], MINUTE + 5)) is False
    bars.feed(message("snapshot", 20, [["99", "3"]], [["101", "4"]], MINUTE + 9))
    bars.feed(message("delta", 21, [["99", "4"]], [], 2 * MINUTE + 1))
    bars.feed(message("delta", 22, [["99", "6"]], [], 3 * MINUTE + 1))
    rows = bars.take()
    assert rows.times.tolist() == [0, MINUTE, 2 * MINUTE]
    assert np.isnan(rows.values[1, BOOK_COLUMNS.index("ofi_1")])
    assert rows.values[1, 0] == 100
    assert rows.values[2, BOOK_COLUMNS.index("ofi_1")] == 1


def test_bybits_archive_reads_whole(shared: Path) -> None:
    messages = list(read_archive(shared / "bybit" / "xrpusdt-ob500.data.zip"))
    book, plain = OrderBook(500), PlainBook(500)
    for one in messages:
        book.apply(one)
        plain.apply(one.kind, one.bids.tolist(), one.asks.tolist())
    bids, asks = plain.sides()
    assert len(messages) == 50
    assert list(zip(book.bid_prices[: book.bids], book.bid_sizes[: book.bids], strict=True)) == bids
    assert list(zip(book.ask_prices[: book.asks], book.ask_sizes[: book.asks], strict=True)) == asks
    assert book.flow.tolist() == pytest.approx(plain.flow)
    # the same stream seen through a 50-level book has the same top: what left its window comes back by deltas only
    assert 0 < book.features()[1] < 1e-3


def test_the_exchanges_own_examples_are_books(shared: Path) -> None:
    for folder, name in (
        ("official_examples", "websocket_public_orderbook.0.snapshot.json"),
        ("ws", "orderbook_snapshot.json"),
    ):
        book = OrderBook(50)
        book.apply(read_book(read_frame((shared / "bybit" / folder / name).read_bytes())))
        assert book.ready
        assert np.isfinite(book.features()).all()
    book.apply(read_book(read_frame((shared / "bybit" / "ws" / "orderbook_delta.json").read_bytes())))
    assert (book.bid_sizes[0], book.ask_prices[0]) == (0.4, 27451.5)


def test_a_file_that_is_no_archive_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.data"
    path.write_text('{"topic": "kline.1.X"}\n')
    with pytest.raises(InputError, match="line 1: no order book message"):
        list(read_archive(path))
    with pytest.raises(InputError, match="cannot read"):
        list(read_archive(tmp_path / "none.zip"))
