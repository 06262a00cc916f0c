"""Order book messages of the public stream and of the archive: from JSON text to arrays, with no Python per level."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import msgspec
import numba
import numpy as np

from data.panel import FloatArray


class BadMessage(ValueError):
    """What came is no message of the stream, or no order book message."""


@dataclass(frozen=True, slots=True, eq=False)
class BookMessage:
    """bids, asks: [n, 2] of price and new size (0 deletes), finite. u: the update's number. ts: ms, the exchange's clock."""

    topic: str
    kind: Literal["snapshot", "delta"]
    ts: int
    u: int
    bids: FloatArray
    asks: FloatArray


class Frame(msgspec.Struct):
    """Any message of the stream; `data` stays text until it is asked for."""

    topic: str = ""
    type: str = ""
    op: str = ""
    ts: Any = None
    success: Any = None
    ret_msg: Any = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Book(msgspec.Struct):
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]
    u: int


_FRAMES = msgspec.json.Decoder(Frame)
#: not strict: a number may stand in a string, as all prices and sizes do; the nearest float64 to its decimals, like float()
_BOOKS = msgspec.json.Decoder(_Book, strict=False)


def read_frame(text: str | bytes) -> Frame:
    """One message of the stream as a frame. BadMessage where it is no JSON object of the shape that every message has."""
    try:
        return _FRAMES.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadMessage(f"a message is no JSON object of the stream ({error})") from None


def read_book(frame: Frame) -> BookMessage:
    """Of a frame whose topic is `orderbook.{depth}.{symbol}`."""
    if frame.type not in ("snapshot", "delta"):
        raise BadMessage(f"an order book message of type {frame.type!r}; expected snapshot or delta")
    if type(frame.ts) is not int or frame.ts <= 0:
        raise BadMessage("an order book message without its time")
    try:
        book = _BOOKS.decode(frame.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadMessage(f"not an order book message ({error})") from None
    if book.u <= 0:
        raise BadMessage(f"an order book message with the number {book.u}")
    bids, asks = _levels(book.b), _levels(book.a)
    if not (_sane(bids) and _sane(asks)):
        raise BadMessage("a price or a size is negative or not finite")
    kind: Literal["snapshot", "delta"] = "snapshot" if frame.type == "snapshot" else "delta"
    return BookMessage(frame.topic, kind, frame.ts, book.u, bids, asks)


def _levels(pairs: list[tuple[float, float]]) -> FloatArray:
    """[n, 2] of price and size."""
    return np.fromiter(chain.from_iterable(pairs), np.float64, 2 * len(pairs)).reshape(-1, 2)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _sane(levels: FloatArray) -> bool:
    for i in range(levels.shape[0]):
        price, size = levels[i, 0], levels[i, 1]
        if not (0.0 < price < np.inf and 0.0 <= size < np.inf):
            return False
    return True
