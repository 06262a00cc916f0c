"""Rolling rank, median and quantiles.

Each block of one window is sorted once. A window lies in two neighbouring blocks, so every value of both gets its place
in their merged order, and a window is a set of places: a bitset, with a Fenwick tree over the number of bits per word.
A bar enters and one leaves in O(log) steps; a rank is a count of bits, a quantile a step to the next bit or two. Bars still
ahead have places too, but an order statistic of a set does not depend on what is not in it.

A rank in a short window is counted instead: comparing with every value of it takes several in one instruction.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray
from nas.kernels.compiling import compiled, over_columns, periods

IntArray = npt.NDArray[np.int64]
WordArray = npt.NDArray[np.uint64]
RUN = 64  # runs of this length are sorted by counting the smaller ones (a vectorised loop) before merging
GROUP = 8  # words per leaf of the tree
COUNTED = (
    256  # bars of a window up to which a rank is counted: 13 ns a value at 168, where the tree takes 28; as much at 512
)
CHUNK = 1024  # bars copied side by side with a window of their past
ONE, FULL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
# numbers with a type: a literal argument would have the kernel compiled once more
SET: int = np.int64(1)  # type: ignore[assignment]
CLEAR: int = np.int64(-1)  # type: ignore[assignment]
NONE: int = np.int64(0)  # type: ignore[assignment]


@compiled
def _bits(word: np.uint64) -> int:
    """Number of ones; the compiler knows this form as one instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    # int64: an unsigned number among signed ones would turn them into floats
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))  # type: ignore[return-value]


@compiled
def _merge_halves(
    a_keys: FloatArray, a_bars: IntArray, b_keys: FloatArray, b_bars: IntArray, keys: FloatArray, bars: IntArray
) -> None:
    """Two sorted halves of equal length into one, from both ends at once: neither chain of comparisons waits for the other, and
    none can run past its half. Equal values keep their order."""
    # no branch on the comparisons: each is a coin toss, and a wrong guess costs more than the whole step. Unsigned: a signed
    # index would be checked for counting from the end
    one, size = np.uint64(1), np.uint64(len(a_keys))
    i, j = np.uint64(0), np.uint64(0)
    p, q = size - one, size - one
    top = size + size - one
    for step in range(len(a_keys)):
        k = np.uint64(step)
        x, y = a_keys[i], b_keys[j]
        later = y < x
        keys[k] = y if later else x
        bars[k] = b_bars[j] if later else a_bars[i]
        moved = np.uint64(later)
        j += moved
        i += one - moved
        x, y = a_keys[p], b_keys[q]
        later = y < x
        keys[top - k] = x if later else y
        bars[top - k] = a_bars[p] if later else b_bars[q]
        moved = np.uint64(later)
        p -= moved
        q -= one - moved


@compiled
def _sorted_block(v: FloatArray, keys: FloatArray, bars: IntArray, spare_keys: FloatArray, spare_bars: IntArray) -> int:
    """Known values in ascending order with the bars they came from; behind them infinities of a bar that does not exist,
    `len(keys)`-th. Returns the number of known values. The spare arrays have room for the padding of equal runs."""
    n = 0
    for k in range(len(v)):
        if math.isfinite(v[k]):
            spare_keys[n] = v[k]
            spare_bars[n] = k
            n += 1
    nobody = len(keys)
    runs = 1
    while runs * RUN < n:
        runs *= 2
    width = -(-n // runs)
    spare_keys[n : runs * width] = np.inf
    spare_bars[n : runs * width] = nobody
    equals = np.empty(RUN, dtype=np.int64)  # placed so far, by the number of smaller ones
    from_keys, from_bars = np.empty(runs * width), np.empty(runs * width, dtype=np.int64)
    for low in range(0, runs * width, max(width, 1)):
        run = spare_keys[low : low + width]
        equals[:] = 0
        for i in range(len(run)):
            key = run[i]
            smaller = 0
            for j in range(len(run)):
                smaller += int(run[j] < key)
            slot = low + smaller + equals[smaller]
            equals[smaller] += 1
            from_keys[slot] = key
            from_bars[slot] = spare_bars[low + i]
    to_keys, to_bars = spare_keys, spare_bars
    while runs > 1:
        for low in range(0, runs * width, 2 * width):
            middle, high = low + width, low + 2 * width
            _merge_halves(
                from_keys[low:middle], from_bars[low:middle], from_keys[middle:high], from_bars[middle:high],
                to_keys[low:high], to_bars[low:high],
            )  # fmt: skip
        from_keys, from_bars, to_keys, to_bars = to_keys, to_bars, from_keys, from_bars
        width *= 2
        runs //= 2
    for k in range(n):  # an array assigned to a slice takes as long to compile as all the rest
        keys[k] = from_keys[k]
        bars[k] = from_bars[k]
    keys[n:] = np.inf
    bars[n:] = nobody
    return n


@compiled
def _place(
    old_keys: FloatArray, old_bars: IntArray, new_keys: FloatArray, new_bars: IntArray, known: int,
    keys: FloatArray, bars: IntArray, places: IntArray,
) -> bool:  # fmt: skip
    """keys: the values of both blocks in order; places: where each bar's value stands there, -1 where it is missing. The bars of
    the newer block follow from `window + 1` on: each block has one place to spare, for the bar that does not exist.
    True where two values are equal."""
    window = len(old_keys)
    for k in range(window):
        new_bars[k] += window + 1
    _merge_halves(old_keys, old_bars, new_keys, new_bars, keys, bars)
    for k in range(window):
        new_bars[k] -= window + 1
    places[:] = -1
    for k in range(known):
        places[bars[k]] = k
    ties = 0
    for k in range(1, known):
        ties += int(keys[k] == keys[k - 1])
    return ties > 0


@compiled
def _runs(keys: FloatArray, n: int, first: IntArray, last: IntArray) -> None:
    """Where the run of equal values around each place begins, and where it ends (exclusive)."""
    start = 0
    for k in range(n):
        if keys[k] != keys[start]:
            start = k
        first[k] = start
    stop = n
    for k in range(n - 1, -1, -1):
        last[k] = stop
        if first[k] == k:
            stop = k


@compiled
def _below(bits: WordArray, tree: IntArray, place: int) -> int:
    """Ones before `place`."""
    group = place >> 9
    total = 0
    for word in range(group * GROUP, (place >> 6)):
        total += _bits(bits[word])
    total += _bits(bits[place >> 6] & ((ONE << np.uint64(place & 63)) - ONE))
    while group > 0:
        total += tree[group]
        group -= group & -group
    return total


@compiled
def _change(bits: WordArray, tree: IntArray, place: int, by: int) -> None:
    """Set (by = SET) or clear (by = CLEAR) a place."""
    bits[place >> 6] ^= ONE << np.uint64(place & 63)
    group = (place >> 9) + 1
    while group < len(tree):
        tree[group] += by
        group += group & -group


@compiled
def _next(bits: WordArray, place: int) -> int:
    """The first one at or after `place`; there is one."""
    word = place >> 6
    rest = bits[word] & (FULL << np.uint64(place & 63))
    while rest == np.uint64(0):
        word += 1
        rest = bits[word]
    return word * 64 + _bits(~rest & (rest - ONE))


@compiled
def _previous(bits: WordArray, place: int) -> int:
    """The last one before `place`; there is one."""
    word = place >> 6
    rest = bits[word] & ((ONE << np.uint64(place & 63)) - ONE)
    while rest == np.uint64(0):
        word -= 1
        rest = bits[word]
    for shift in (1, 2, 4, 8, 16, 32):
        rest |= rest >> np.uint64(shift)
    return word * 64 + _bits(rest) - 1


@compiled
def _ranks(
    places: IntArray,
    ties: bool,
    first: IntArray,
    last: IntArray,
    total: int,
    least: int,
    bits: WordArray,
    tree: IntArray,
    out: FloatArray,
) -> None:
    """One block. ties: whether any values are equal; first, last: the runs of equal ones; total: known values of the older block."""
    window = len(places) // 2 - 1
    for k in range(len(out)):
        gone, place = places[k], places[window + 1 + k]
        if gone >= 0:
            _change(bits, tree, gone, CLEAR)
            total -= 1
        if place < 0:
            out[k] = np.nan
            continue
        _change(bits, tree, place, SET)
        total += 1
        if total < least:
            out[k] = np.nan
            continue
        if ties:
            # between the ones below it and the ones up to its last equal
            out[k] = 0.5 * (_below(bits, tree, first[place]) + _below(bits, tree, last[place]) + 1)
        else:
            out[k] = _below(bits, tree, place) + 1.0


@compiled
def _quantiles(
    places: IntArray, keys: FloatArray, quantile: float, total: int, least: int, bits: WordArray, out: FloatArray
) -> None:
    """One block. total: known values of the older block."""
    window = len(places) // 2 - 1
    at = behind = NONE  # where the quantile stands, and how many ones lie before it
    for k in range(len(out)):
        gone, place = places[k], places[window + 1 + k]
        if gone >= 0:
            bits[gone >> 6] ^= ONE << np.uint64(gone & 63)
            total -= 1
            behind -= int(gone < at)
        if place >= 0:
            bits[place >> 6] ^= ONE << np.uint64(place & 63)
            total += 1
            behind += int(place < at)
        if total < least:
            out[k] = np.nan
            continue
        position = quantile * (total - 1)
        wanted = int(position)
        fraction = position - wanted
        while behind > wanted:
            at = _previous(bits, at)
            behind -= 1
        at = _next(bits, at)
        while behind < wanted:
            at = _next(bits, at + 1)
            behind += 1
        value = keys[at]
        if fraction > 0.0:
            value += (keys[_next(bits, at + 1)] - value) * fraction
        out[k] = value


@compiled
def _order(x: FloatArray, window: int, min_periods: int, quantile: float | None, out: FloatArray) -> None:
    """A quantile in [0, 1], or the rank of the newest value where it is None: each compiles only what it needs."""
    columns, bars = x.shape
    old_keys, old_bars = np.empty(window), np.empty(window, dtype=np.int64)
    new_keys, new_bars = np.empty(window), np.empty(window, dtype=np.int64)
    room = window + 2 * (window // RUN + 1)
    spare_keys, spare_bars = np.empty(room), np.empty(room, dtype=np.int64)
    places = np.empty(2 * window + 2, dtype=np.int64)
    keys, both_bars = np.empty(2 * window), np.empty(2 * window, dtype=np.int64)
    first, last = np.empty(2 * window, dtype=np.int64), np.empty(2 * window, dtype=np.int64)
    words = (2 * window) // 64 + 1
    groups = (words - 1) // GROUP + 1
    bits, tree = np.zeros(words, dtype=np.uint64), np.zeros(groups, dtype=np.int64)
    for column in range(columns):
        old_n = NONE
        old_keys[:] = np.inf
        old_bars[:] = window
        for start in range(0, bars, window):
            v = x[column, start : min(start + window, bars)]
            target = out[column, start : min(start + window, bars)]
            new_n = _sorted_block(v, new_keys, new_bars, spare_keys, spare_bars)
            ties = _place(old_keys, old_bars, new_keys, new_bars, old_n + new_n, keys, both_bars, places)
            bits[:] = np.uint64(0)
            tree[:] = 0
            for k in range(window):
                if places[k] >= 0:
                    _change(bits, tree, places[k], SET)
            if quantile is None:
                if ties:
                    _runs(keys, old_n + new_n, first, last)
                _ranks(places, ties, first, last, old_n, min_periods, bits, tree, target)
            else:
                _quantiles(places, keys, quantile, old_n, min_periods, bits, target)
            old_keys, new_keys = new_keys, old_keys
            old_bars, new_bars = new_bars, old_bars
            old_n = new_n


@compiled
def _counted_ranks(x: FloatArray, window: int, min_periods: int, out: FloatArray) -> None:
    """Ranks by comparing with every value of the window: first as rounded to 32 bits, which keeps the order and only makes some
    equal; where that happened, as they are."""
    columns, bars = x.shape
    values, rounded = np.empty(window + CHUNK), np.empty(window + CHUNK, dtype=np.float32)
    none = np.int32(0)  # as narrow as what is compared: as many at once
    for column in range(columns):
        row, target = x[column], out[column]
        values[:] = np.nan
        rounded[:] = np.nan
        known = 0
        tied = False
        for start in range(0, bars, CHUNK):
            size = min(CHUNK, bars - start)
            for k in range(size):
                v = row[start + k]
                values[window + k] = v if math.isfinite(v) else np.nan  # compares as neither below nor equal
                rounded[window + k] = np.float32(values[window + k])
            equals = 0
            for k in range(size):
                first = np.uint64(k + 1)  # unsigned: a signed index would be checked for counting from the end
                v, gone = values[window + k], values[k]
                known += int(v == v) - int(gone == gone)
                if v != v or known < min_periods:
                    target[start + k] = np.nan
                    continue
                below = upto = 0
                if not tied:
                    near = rounded[window + k]
                    fewer, most = none, none
                    for j in range(window):
                        u = rounded[first + np.uint64(j)]
                        fewer = np.int32(fewer + np.int32(u < near))
                        most = np.int32(most + np.int32(u <= near))
                    below, upto = int(fewer), int(most)
                if tied or upto > below + 1:
                    below = upto = 0
                    for j in range(window):
                        other = values[first + np.uint64(j)]
                        below += int(other < v)
                        upto += int(other <= v)
                    equals += int(upto > below + 1)
                target[start + k] = 0.5 * (below + upto + 1)
            tied = 2 * equals > size  # of a series full of equal values the rounded ones tell nothing
            for k in range(window):
                values[k] = values[size + k]
                rounded[k] = rounded[size + k]


def rolling_rank(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Rank of the newest value among the known ones of the last `window` (1 = smallest; ties share the average rank)."""
    out, least = np.empty(x.shape), periods(window, min_periods)
    if window <= COUNTED:
        over_columns(lambda part: _counted_ranks(x[part], window, least, out[part]), x.shape, threads)
    else:
        over_columns(lambda part: _order(x[part], window, least, None, out[part]), x.shape, threads)
    return out


def rolling_quantile(
    x: FloatArray, window: int, quantile: float, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Quantile of the known values of the last `window` bars, linear between neighbours."""
    if not 0.0 <= quantile <= 1.0:
        raise ValueError(f"quantile must be between 0 and 1, not {quantile}")
    out, least = np.empty(x.shape), periods(window, min_periods)
    over_columns(lambda part: _order(x[part], window, least, quantile, out[part]), x.shape, threads)
    return out


def rolling_median(
    x: FloatArray, window: int, min_periods: int | None = None, *, threads: int | None = None
) -> FloatArray:
    """Median of the known values of the last `window` bars."""
    return rolling_quantile(x, window, 0.5, min_periods, threads=threads)
