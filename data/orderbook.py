"""An order book from a snapshot and its deltas, and what one can read off it. Hot loops are numba.

Prices and sizes are float64: the same decimal string is always the same float, so levels are found by equality.
"""

from __future__ import annotations

import numba
import numpy as np

from data.book_messages import BookMessage
from data.panel import FloatArray
from data.series import FLOW_LEVELS

#: features that are a state of the book: BOOK_COLUMNS before the order flow
_STATE = 8


class BrokenSequence(Exception):
    """A message is missing, out of order, or leaves bids above asks: the book must be built anew from a snapshot."""


class OrderBook:
    """The book of one symbol.

    bid_prices, bid_sizes: [depth], best first, `bids` of them in use; asks likewise. `flow` [FLOW_LEVELS] is the order-flow
    imbalance summed since `take_flow`. Not ready before its first snapshot.
    """

    def __init__(self, depth: int = 50) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; a book has at least one level")
        self.depth = depth
        # room for a delta that inserts before it deletes
        room = 2 * depth + 16
        self.bid_prices, self.bid_sizes = np.zeros(room), np.zeros(room)
        self.ask_prices, self.ask_sizes = np.zeros(room), np.zeros(room)
        self.bids = self.asks = 0
        self.flow = np.zeros(FLOW_LEVELS)
        self.updates = 0
        self.u = 0
        self.ready = False

    def apply(self, message: BookMessage) -> None:
        """One message of `orderbook.{depth}.{symbol}`. BrokenSequence: wait for a new snapshot."""
        act = self.reset if message.kind == "snapshot" else self.change
        act(message.bids, message.asks, message.u)

    def reset(self, bids: FloatArray, asks: FloatArray, u: int) -> None:
        """A snapshot: bids, asks [n, 2] (price, size). The step to it is no order flow, except at depth 1, whose stream
        is made of snapshots only."""
        before = _top(self.bid_prices, self.bid_sizes, self.bids, self.ask_prices, self.ask_sizes, self.asks)
        stepping = self.ready and self.depth == 1
        self.bids = _apply_side(self.bid_prices, self.bid_sizes, 0, self.depth, bids, True)
        self.asks = _apply_side(self.ask_prices, self.ask_sizes, 0, self.depth, asks, False)
        if stepping:
            after = _top(self.bid_prices, self.bid_sizes, self.bids, self.ask_prices, self.ask_sizes, self.asks)
            _add_flow(before, after, self.flow)
            self.updates += 1
        self.u, self.ready = u, True
        self._check()

    def change(self, bids: FloatArray, asks: FloatArray, u: int) -> None:
        """A delta: new sizes per price, 0 deletes. A repeated message (same u) is ignored."""
        if not self.ready:
            raise BrokenSequence("a delta before any snapshot")
        if u == self.u:
            return
        if u != self.u + 1:
            self.ready = False
            raise BrokenSequence(f"update {u} follows {self.u}")
        self.bids, self.asks = _apply_delta(
            self.bid_prices, self.bid_sizes, self.bids, self.ask_prices, self.ask_sizes, self.asks, self.depth, bids, asks,
            self.flow,
        )  # fmt: skip
        self.u = u
        self.updates += 1
        self._check()

    def _check(self) -> None:
        if self.bids and self.asks and self.bid_prices[0] >= self.ask_prices[0]:
            self.ready = False
            raise BrokenSequence(f"bid {self.bid_prices[0]:g} is not below ask {self.ask_prices[0]:g}")

    def features(self) -> FloatArray:
        """The first columns of BOOK_COLUMNS, as the book is now; NaN where a side is empty or the book is not ready."""
        if not self.ready or not self.bids or not self.asks:
            return np.full(_STATE, np.nan)
        out: FloatArray = _features(
            self.bid_prices, self.bid_sizes, self.bids, self.ask_prices, self.ask_sizes, self.asks
        )
        return out

    def take_flow(self) -> tuple[FloatArray, int]:
        """Order-flow imbalance per level and the number of updates since the last call."""
        flow, updates = self.flow.copy(), self.updates
        self.flow[:] = 0.0
        self.updates = 0
        return flow, updates


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _apply_side(
    prices: FloatArray, sizes: FloatArray, count: int, depth: int, changes: FloatArray, descending: bool
) -> int:
    """Apply (price, size) changes to one side, best first; returns the number of levels, at most `depth`.

    An unknown level that is deleted is no error: it had left the book's window before.
    """
    room = prices.shape[0]
    for i in range(changes.shape[0]):
        price, size = changes[i, 0], changes[i, 1]
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            before = prices[middle] > price if descending else prices[middle] < price
            if before:
                low = middle + 1
            else:
                high = middle
        found = low < count and prices[low] == price
        if size == 0.0:
            if found:
                for k in range(low, count - 1):
                    prices[k] = prices[k + 1]
                    sizes[k] = sizes[k + 1]
                count -= 1
        elif found:
            sizes[low] = size
        elif low < room:
            top = min(count, room - 1)
            for k in range(top, low, -1):
                prices[k] = prices[k - 1]
                sizes[k] = sizes[k - 1]
            prices[low] = price
            sizes[low] = size
            count = min(count + 1, room)
    return min(count, depth)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _top(
    bid_prices: FloatArray, bid_sizes: FloatArray, bids: int, ask_prices: FloatArray, ask_sizes: FloatArray, asks: int
) -> FloatArray:
    """[4, FLOW_LEVELS]: bid price, bid size, ask price, ask size of the best levels; NaN where there is none."""
    out = np.full((4, FLOW_LEVELS), np.nan)
    for i in range(min(bids, FLOW_LEVELS)):
        out[0, i], out[1, i] = bid_prices[i], bid_sizes[i]
    for i in range(min(asks, FLOW_LEVELS)):
        out[2, i], out[3, i] = ask_prices[i], ask_sizes[i]
    return out


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _add_flow(before: FloatArray, after: FloatArray, flow: FloatArray) -> None:
    """Cont, Kukanov and Stoikov (2014), eq. 2, per level: with equal prices both indicators count. NaN never compares."""
    for i in range(flow.shape[0]):
        if after[0, i] >= before[0, i]:
            flow[i] += after[1, i]
        if after[0, i] <= before[0, i]:
            flow[i] -= before[1, i]
        if after[2, i] <= before[2, i]:
            flow[i] -= after[3, i]
        if after[2, i] >= before[2, i]:
            flow[i] += before[3, i]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _apply_delta(
    bid_prices: FloatArray,
    bid_sizes: FloatArray,
    bids: int,
    ask_prices: FloatArray,
    ask_sizes: FloatArray,
    asks: int,
    depth: int,
    bid_changes: FloatArray,
    ask_changes: FloatArray,
    flow: FloatArray,
) -> tuple[int, int]:
    """Both sides of one delta, and its order-flow imbalance added to `flow`. Returns the levels of both sides."""
    before = _top(bid_prices, bid_sizes, bids, ask_prices, ask_sizes, asks)
    bids = _apply_side(bid_prices, bid_sizes, bids, depth, bid_changes, True)
    asks = _apply_side(ask_prices, ask_sizes, asks, depth, ask_changes, False)
    _add_flow(before, _top(bid_prices, bid_sizes, bids, ask_prices, ask_sizes, asks), flow)
    return bids, asks


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _slope(prices: FloatArray, sizes: FloatArray, count: int, mid: float) -> float:
    """Least-squares slope through the origin of cumulated size on relative distance from the mid: size per unit of return."""
    total = 0.0
    products, squares = 0.0, 0.0
    for i in range(count):
        total += sizes[i]
        distance = abs(prices[i] - mid) / mid
        products += distance * total
        squares += distance * distance
    return products / squares if squares > 0.0 else np.nan


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _features(
    bid_prices: FloatArray, bid_sizes: FloatArray, bids: int, ask_prices: FloatArray, ask_sizes: FloatArray, asks: int
) -> FloatArray:
    out = np.empty(8)
    bid, ask, bid_size, ask_size = bid_prices[0], ask_prices[0], bid_sizes[0], ask_sizes[0]
    mid = 0.5 * (bid + ask)
    weighted = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
    bid_depth, ask_depth = bid_sizes[:bids].sum(), ask_sizes[:asks].sum()
    out[0] = mid
    out[1] = (ask - bid) / mid
    out[2] = (bid_size - ask_size) / (bid_size + ask_size)
    out[3] = (bid_depth - ask_depth) / (bid_depth + ask_depth)
    out[4] = weighted
    out[5] = (weighted - mid) / mid
    out[6] = _slope(bid_prices, bid_sizes, bids, mid)
    out[7] = _slope(ask_prices, ask_sizes, asks, mid)
    return out
