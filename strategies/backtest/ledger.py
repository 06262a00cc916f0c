"""The arithmetic of many accounts over the same bars: one kernel over plans x bars x assets, nothing of Python inside.

One bar: funding settled at the open (by what was held before it), margin checked at the open, orders sent at earlier closes, margin
checked at the worst prices, funding settled inside the bar, mark to market at the close, what ends with this bar closed there; then the
orders of the new targets. `tests/strategies/reference_account.py` is the same, written to be read.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from data.panel import FloatArray

IntArray = npt.NDArray[np.int64]
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
MARKET, LIMIT, STOP = range(3)  # as strategies.backtest.terms.ORDER_KINDS
BANKRUPT = 1e-6  # of the initial equity: an account with less sends no orders


class Terms(NamedTuple):
    """What all plans share. exposure: most sum of |position| / equity. offset: of limits and stops, a fraction of the close."""

    initial: float
    exposure: float
    band: float
    maintenance: float
    liquidation_fee: float
    kind: int
    offset: float
    expiry: int
    volume_share: float
    long_only: bool


class Stretch(NamedTuple):
    """The bars. candles: [n, A, 5], NaN in bars that cannot be traded. flows: [F, 3] rows (asset, rate, 1 at the bar's open else 0), those
    of bar t are first[t]..first[t + 1]. ends: [A] last bar of what is delisted. limits: [A, 3] lot, tick, least notional.
    """

    candles: FloatArray
    flows: FloatArray
    first: IntArray
    ends: IntArray
    limits: FloatArray


class State(NamedTuple):
    """Of each asset [A]: what is held (base), its mark, the target last aimed at, and the open order: what is left of it (signed), its
    price, the bar it was sent at, its place in the queue, whether a stop was triggered (1).
    """

    size: FloatArray
    mark: FloatArray
    aimed: FloatArray
    left: FloatArray
    price: FloatArray
    sent: IntArray
    queue: IntArray
    triggered: FloatArray


@numba.njit(cache=True, nogil=True, error_model="numpy")
def run(
    stretch: Stretch,
    targets: FloatArray,
    slippage: FloatArray,
    rates: FloatArray,
    costs_of: IntArray,
    terms: Terms,
    kept: IntArray,
    equity: FloatArray,
    holdings: FloatArray,
    totals: FloatArray,
) -> None:
    """Fills equity [P, m] at the bars `kept` [m], totals [P, 3] (turnover, fees and slippage, funding) and, where it is not empty, holdings
    [P, n, A].

    targets: [P, n, A]; what is not finite is 0. slippage: [C, n, A] and rates: [C, A, 2] (taker, maker, fractions) of C costs; plan p
    pays costs_of[p].
    """
    plans, bars, assets = targets.shape
    candles, first, ends = stretch.candles, stretch.first, stretch.ends
    floor = terms.initial * BANKRUPT
    closing = np.zeros(bars, np.bool_)
    for a in range(assets):
        if 0 <= ends[a] < bars:
            closing[ends[a]] = True
    for p in range(plans):
        slip, rate, total = slippage[costs_of[p]], rates[costs_of[p]], totals[p]
        state = State(
            np.zeros(assets), np.zeros(assets), np.zeros(assets), np.zeros(assets), np.zeros(assets),
            np.zeros(assets, np.int64), np.zeros(assets, np.int64), np.zeros(assets),
        )  # fmt: skip
        size, mark, aimed, left = state.size, state.mark, state.aimed, state.left
        turn = np.zeros(assets, np.int64)
        cash, held, pending, tickets, written = terms.initial, 0, 0, 0, 0
        for t in range(bars):
            flow = first[t] < first[t + 1] and held > 0
            if flow:
                cash += _settle(stretch, t, 1.0, state, total)
            if pending > 0:
                if held > 0 and _short_of_margin(cash, candles[t], state, terms, False):
                    cash = _liquidate(cash, candles[t], state, slip[t], rate, terms, total, False)
                cash = _execute(cash, t, stretch, state, turn, slip[t], rate, terms, total)
                held, pending, flow = 0, 0, first[t] < first[t + 1]
                for a in range(assets):
                    held += size[a] != 0.0
                    pending += left[a] != 0.0
            if held > 0:
                if _short_of_margin(cash, candles[t], state, terms, True):
                    cash = _liquidate(cash, candles[t], state, slip[t], rate, terms, total, True)
                    held, pending = 0, 0
                if flow:
                    cash += _settle(stretch, t, 0.0, state, total)
                for a in range(assets):
                    close = candles[t, a, CLOSE]
                    if size[a] != 0.0 and close == close:
                        cash += size[a] * (close - mark[a])
                        mark[a] = close
            if closing[t]:
                cash = _delist(cash, t, ends, state, slip[t], rate, total)
                held, pending = 0, 0
                for a in range(assets):
                    held += size[a] != 0.0
                    pending += left[a] != 0.0
            if written < len(kept) and kept[written] == t:
                equity[p, written] = cash
                written += 1
            if len(holdings) > 0:
                holdings[p, t] = size
            if cash <= floor:
                continue
            for a in range(assets):
                close = candles[t, a, CLOSE]
                if not close == close:
                    continue
                target = targets[p, t, a]
                if not abs(target) < np.inf or (terms.long_only and target < 0.0):
                    target = 0.0
                if target == aimed[a] and abs(size[a] * close / cash - target) <= terms.band:
                    continue
                if t >= ends[a]:
                    continue
                pending -= left[a] != 0.0
                tickets += 1
                _send(cash, t, a, close, target, tickets, stretch, state, terms)
                pending += left[a] != 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lots(size: float, lot: float) -> float:
    return np.floor(size / lot + 1e-9) * lot if lot > 0.0 else size


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ticks(price: float, tick: float, up: bool) -> float:
    if tick <= 0.0:
        return price
    return (np.ceil(price / tick - 1e-9) if up else np.floor(price / tick + 1e-9)) * tick


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _settle(stretch: Stretch, t: int, at_open: float, state: State, total: FloatArray) -> float:
    """Funding received of the bar's settlements, at its opens (where there is none, at the marks)."""
    received = 0.0
    for k in range(stretch.first[t], stretch.first[t + 1]):
        a = int(stretch.flows[k, 0])
        if stretch.flows[k, 2] != at_open or state.size[a] == 0.0:
            continue
        price = stretch.candles[t, a, OPEN]
        if not price == price:
            price = state.mark[a]
        received -= state.size[a] * price * stretch.flows[k, 1]
    total[2] += received
    return received


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _short_of_margin(cash: float, candles: FloatArray, state: State, terms: Terms, worst: bool) -> bool:
    """Whether equity is at or below the maintenance margin at the opens or, if `worst`, at the worst prices."""
    size, mark = state.size, state.mark
    room, room_at_worst = cash, cash
    for a in range(len(size)):
        if size[a] == 0.0:
            continue
        begin = candles[a, OPEN]
        if not begin == begin:
            begin = end = mark[a]
        else:
            end = (candles[a, LOW] if size[a] > 0.0 else candles[a, HIGH]) if worst else begin
        needed = terms.maintenance * abs(size[a])
        room += size[a] * (begin - mark[a]) - needed * begin
        room_at_worst += size[a] * (end - mark[a]) - needed * end
    return not (room > 0.0 and room_at_worst > 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _liquidate(
    cash: float,
    candles: FloatArray,
    state: State,
    slip: FloatArray,
    rate: FloatArray,
    terms: Terms,
    total: FloatArray,
    worst: bool,
) -> float:
    """Cash after everything was closed where the margin gave out on the straight way from the opens to the worst prices."""
    size, mark = state.size, state.mark
    room, room_at_worst = cash, cash
    for a in range(len(size)):
        if size[a] != 0.0:
            begin, end = _way(candles[a], size[a], mark[a], worst)
            room += size[a] * (begin - mark[a]) - terms.maintenance * abs(size[a]) * begin
            room_at_worst += size[a] * (end - mark[a]) - terms.maintenance * abs(size[a]) * end
    share = 0.0 if room <= 0.0 else room / (room - room_at_worst)
    equity, notional, net, slipped, charge = cash, 0.0, 0.0, 0.0, 0.0
    for a in range(len(size)):
        if size[a] != 0.0:
            begin, end = _way(candles[a], size[a], mark[a], worst)
            at = begin + share * (end - begin)
            price = at * (1.0 - slip[a]) if size[a] > 0.0 else at * (1.0 + slip[a])
            equity += size[a] * (price - mark[a])
            notional += abs(size[a]) * price
            net += size[a] * price
            charge += (rate[a, 0] + terms.liquidation_fee) * abs(size[a]) * price
            slipped += abs(size[a]) * at * slip[a]
    state.size[:] = 0.0
    state.left[:] = 0.0
    if equity < 0.0:  # the exchange takes the positions over where equity is zero: all prices that share better for us
        notional -= equity / notional * net
    fees = 0.0 if equity <= 0.0 else min(charge, equity)
    total[0] += notional
    total[1] += fees + slipped
    return max(equity, 0.0) - fees


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _way(candle: FloatArray, size: float, mark: float, worst: bool) -> tuple[float, float]:
    """From the open to the worst price of a bar; the mark twice where there is no bar."""
    begin = candle[OPEN]
    if not begin == begin:
        return mark, mark
    return begin, (candle[LOW] if size > 0.0 else candle[HIGH]) if worst else begin


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _execute(
    cash: float,
    t: int,
    stretch: Stretch,
    state: State,
    turn: IntArray,
    slip: FloatArray,
    rate: FloatArray,
    terms: Terms,
    total: FloatArray,
) -> float:
    """Cash after the bar's fills, order by order as they were sent."""
    size, mark, left = state.size, state.mark, state.left
    waiting = 0
    for a in range(len(size)):
        if left[a] != 0.0:
            k = waiting
            while k > 0 and state.queue[turn[k - 1]] > state.queue[a]:
                turn[k] = turn[k - 1]
                k -= 1
            turn[k] = a
            waiting += 1
    for k in range(waiting):
        a = turn[k]
        if terms.expiry > 0 and t > state.sent[a] + terms.expiry:
            left[a] = 0.0
            continue
        candle = stretch.candles[t, a]
        opening_price = candle[OPEN]
        if not opening_price == opening_price:
            continue
        side = 1.0 if left[a] > 0.0 else -1.0
        base, fee = opening_price, rate[a, 0]
        if terms.kind == LIMIT:
            base, fee = state.price[a], rate[a, 1]
            price = base
            if (candle[LOW] >= price) if side > 0.0 else (candle[HIGH] <= price):
                continue
        else:
            if terms.kind == STOP and state.triggered[a] == 0.0:
                stop = state.price[a]
                if (candle[HIGH] < stop) if side > 0.0 else (candle[LOW] > stop):
                    continue
                state.triggered[a] = 1.0
                base = max(base, stop) if side > 0.0 else min(base, stop)
            price = _ticks(base * (1.0 + side * slip[a]), stretch.limits[a, 1], side > 0.0)
        wanted = abs(left[a])
        allowed = _within_margin(cash, a, side, wanted, price, fee, stretch.candles[t], state, terms)
        if allowed < wanted:
            allowed = _lots(allowed, stretch.limits[a, 0])
        filled = allowed
        if terms.volume_share < np.inf and terms.volume_share * candle[VOLUME] < allowed:
            filled = _lots(terms.volume_share * candle[VOLUME], stretch.limits[a, 0])
        if filled > 0.0:
            # what was held moves from its mark to the price of the fill, then the fee; in the order in which an exchange books it
            before = size[a]
            after = before + side * filled
            if before * side < 0.0:
                shut = min(abs(before), filled)
                cash -= shut * price * fee
                cash += -side * shut * (price - mark[a])
                if abs(before) < filled:
                    cash -= abs(after) * price * fee
                    mark[a] = price
            else:
                cash -= filled * price * fee
                if before != 0.0:
                    cash += before * (price - mark[a])
                mark[a] = price
            size[a] = after
            total[0] += filled * price
            total[1] += filled * price * fee + filled * abs(price - base)
            left[a] -= side * filled
        if filled >= allowed:
            left[a] = 0.0  # what the margin cut off is not tried again
    return cash


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _within_margin(
    cash: float,
    a: int,
    side: float,
    wanted: float,
    price: float,
    fee: float,
    candles: FloatArray,
    state: State,
    terms: Terms,
) -> float:
    """How much of an order the margin lets through: what closes always, what opens must leave equity >= exposure / leverage."""
    size, mark = state.size, state.mark
    equity, others = cash, 0.0
    for b in range(len(size)):
        if size[b] != 0.0:
            at = candles[b, OPEN]
            at = price if b == a else (at if at == at else mark[b])
            equity += size[b] * (at - mark[b])
            if b != a:
                others += abs(size[b]) * at
    closing = min(wanted, max(-side * size[a], 0.0))
    kept = max(side * size[a], 0.0)
    room = equity - fee * closing * price - (others + kept * price) / terms.exposure
    opening = room / (price * (1.0 / terms.exposure + fee))
    return wanted if wanted - closing <= opening else closing + max(opening, 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _delist(
    cash: float, t: int, ends: IntArray, state: State, slip: FloatArray, rate: FloatArray, total: FloatArray
) -> float:
    """Cash after what has its last bar was closed at its last price, with slippage and taker fee; its orders are void."""
    size, mark = state.size, state.mark
    for a in range(len(size)):
        if t != ends[a]:
            continue
        state.left[a] = 0.0
        if size[a] == 0.0:
            continue
        last = mark[a]
        price = last * (1.0 - slip[a]) if size[a] > 0.0 else last * (1.0 + slip[a])
        if cash + size[a] * (price - last) < 0.0:
            price = last - cash / size[a]
        cash += size[a] * (price - last)
        fee = min(abs(size[a]) * price * rate[a, 0], cash)
        cash -= fee
        total[0] += abs(size[a]) * price
        total[1] += fee + abs(size[a]) * last * slip[a]
        size[a] = 0.0
    return cash


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _send(
    cash: float, t: int, a: int, close: float, target: float, ticket: int, stretch: Stretch, state: State, terms: Terms
) -> None:
    """The order that brings an asset from what it holds to its target; it replaces the open one."""
    lot, tick, least = stretch.limits[a]
    state.left[a], state.aimed[a] = 0.0, target
    wish = target * cash / close - state.size[a]
    if target != 0.0:  # a position may always be closed whole
        wish = np.sign(wish) * _lots(abs(wish), lot)
        if abs(wish) * close < least:
            return
    state.left[a], state.sent[a], state.queue[a], state.triggered[a] = wish, t, ticket, 0.0
    if terms.kind == MARKET:
        return
    # a stop waits on the far side of the close, a limit on the near one
    far = terms.offset if (wish > 0.0) == (terms.kind == STOP) else -terms.offset
    state.price[a] = _ticks(close * (1.0 + far), tick, (wish > 0.0) == (terms.kind == STOP))
