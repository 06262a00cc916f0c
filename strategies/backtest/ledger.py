"""The arithmetic of many accounts over the same bars: one kernel over plans x bars x assets, nothing of Python inside.

One bar: funding settled at the open (by what was held before it), margin checked at the open, stops that the open is beyond, orders
sent at earlier closes, margin checked at the worst prices (no further than a stop), stops inside the bar, funding settled inside the
bar, mark to market at the close, what ends with this bar closed there; then the orders of the new targets.
`tests/strategies/backtest/reference_account.py` is the same, written to be read.
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
    """What all plans share. margin: initial, of what is opened. offset: of limits and stops, a fraction of the close."""

    initial: float
    margin: float
    band: float
    maintenance: float
    liquidation_fee: float
    kind: int
    offset: float
    expiry: int
    volume_share: float
    long_only: bool
    stops: bool


class Stretch(NamedTuple):
    """The bars. candles: [n, A, 5], NaN in bars that cannot be traded. flows: [F, 3] rows (asset, rate, 1 at the bar's open else 0), those
    of bar t are first[t]..first[t + 1]. ends: [A] last bar of what is delisted. limits: [A, 3] lot, tick, least notional. distances: [n, A]
    of the protective stop of an order sent at a bar, a fraction of its entry.
    """

    candles: FloatArray
    flows: FloatArray
    first: IntArray
    ends: IntArray
    limits: FloatArray
    distances: FloatArray


#: columns of an asset's state: what is held (base), its mark, the target last aimed at, and the open order: what is left of it
#: (signed), its price, the bar it was sent at, its place in the queue, whether a stop was triggered (1), the distance of the protective
#: stop that it brings; that stop's price (0: none), the average entry, the side on which the asset was stopped out
SIZE, MARK, AIMED, LEFT, PRICE, SENT, QUEUE, TRIGGERED, DISTANCE, LEVEL, ENTRY, BARRED = range(12)
# truths with a type: for a literal one the kernel would be compiled once more
YES, NO = np.True_, np.False_


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
    candles, flows, first, ends, limits = stretch.candles, stretch.flows, stretch.first, stretch.ends, stretch.limits
    floor = terms.initial * BANKRUPT
    closing = np.zeros(bars, np.bool_)
    for a in range(assets):
        if 0 <= ends[a] < bars:
            closing[ends[a]] = True
    for p in range(plans):
        slip, rate, total = slippage[costs_of[p]], rates[costs_of[p]], totals[p]
        state = np.zeros((assets, 12))
        turn = np.zeros(assets, np.int64)
        cash, held, pending, tickets, written = terms.initial, 0, 0, 0, 0
        for t in range(bars):
            flow = first[t] < first[t + 1] and held > 0
            if flow:
                cash += _settle(candles, flows, first, t, 1.0, state, total)
            if pending > 0 or (terms.stops and held > 0):
                if held > 0 and _short_of_margin(cash, candles, t, state, terms, NO):
                    cash = _liquidate(cash, candles, t, state, slip, rate, terms, total, NO)
                if terms.stops:
                    cash = _stop_out(cash, candles, t, limits, state, slip, rate, total, YES)
                cash = _execute(cash, candles, t, limits, state, turn, slip, rate, terms, total)
                held, pending, flow = 0, 0, first[t] < first[t + 1]
                for a in range(assets):
                    held += state[a, SIZE] != 0.0
                    pending += state[a, LEFT] != 0.0
            if held > 0:
                if _short_of_margin(cash, candles, t, state, terms, YES):
                    cash = _liquidate(cash, candles, t, state, slip, rate, terms, total, YES)
                    held, pending = 0, 0
                if terms.stops:
                    cash = _stop_out(cash, candles, t, limits, state, slip, rate, total, NO)
                    held, pending = 0, 0
                    for a in range(assets):
                        held += state[a, SIZE] != 0.0
                        pending += state[a, LEFT] != 0.0
                if flow:
                    cash += _settle(candles, flows, first, t, 0.0, state, total)
                for a in range(assets):
                    close = candles[t, a, CLOSE]
                    if state[a, SIZE] != 0.0 and close == close:
                        cash += state[a, SIZE] * (close - state[a, MARK])
                        state[a, MARK] = close
            if closing[t]:
                cash = _delist(cash, t, ends, state, slip, rate, total)
                held, pending = 0, 0
                for a in range(assets):
                    held += state[a, SIZE] != 0.0
                    pending += state[a, LEFT] != 0.0
            if written < len(kept) and kept[written] == t:
                equity[p, written] = cash
                written += 1
            if len(holdings) > 0:
                for a in range(assets):  # an array assigned to a row takes as long to compile as many a kernel
                    holdings[p, t, a] = state[a, SIZE]
            if cash <= floor:
                continue
            for a in range(assets):
                close = candles[t, a, CLOSE]
                if close != close:
                    continue
                target = targets[p, t, a]
                if not abs(target) < np.inf or (terms.long_only and target < 0.0):
                    target = 0.0
                if target * state[a, BARRED] > 0.0:  # stopped out on this side
                    target = 0.0
                elif t < ends[a]:
                    state[a, BARRED] = 0.0
                if target == state[a, AIMED] and abs(state[a, SIZE] * close / cash - target) <= terms.band:
                    continue
                if t >= ends[a]:
                    continue
                pending -= state[a, LEFT] != 0.0
                tickets += 1
                _send(cash, t, a, close, target, tickets, limits, state, terms)
                state[a, DISTANCE] = stretch.distances[t, a]
                pending += state[a, LEFT] != 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lots(size: float, lot: float) -> float:
    return np.floor(size / lot + 1e-9) * lot if lot > 0.0 else size


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ticks(price: float, tick: float, up: bool) -> float:
    if tick <= 0.0:
        return price
    return float((np.ceil(price / tick - 1e-9) if up else np.floor(price / tick + 1e-9)) * tick)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _settle(
    candles: FloatArray,
    flows: FloatArray,
    first: IntArray,
    t: int,
    at_open: float,
    state: FloatArray,
    total: FloatArray,
) -> float:
    """Funding received of the bar's settlements, at its opens (where there is none, at the marks)."""
    received = 0.0
    for k in range(first[t], first[t + 1]):
        a = int(flows[k, 0])
        if flows[k, 2] != at_open or state[a, SIZE] == 0.0:
            continue
        price = candles[t, a, OPEN]
        if price != price:
            price = state[a, MARK]
        received -= state[a, SIZE] * price * flows[k, 1]
    total[2] += received
    return received


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _short_of_margin(cash: float, candles: FloatArray, t: int, state: FloatArray, terms: Terms, worst: bool) -> bool:
    """Whether equity is at or below the maintenance margin at the opens or, if `worst`, at the worst prices."""
    room, room_at_worst = cash, cash
    for a in range(len(state)):
        if state[a, SIZE] == 0.0:
            continue
        begin = candles[t, a, OPEN]
        if begin != begin:
            begin = end = state[a, MARK]
        else:
            end = _worst(candles, t, a, state) if worst else begin
        needed = terms.maintenance * abs(state[a, SIZE])
        room += state[a, SIZE] * (begin - state[a, MARK]) - needed * begin
        room_at_worst += state[a, SIZE] * (end - state[a, MARK]) - needed * end
    return not (room > 0.0 and room_at_worst > 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _liquidate(
    cash: float,
    candles: FloatArray,
    t: int,
    state: FloatArray,
    slip: FloatArray,
    rate: FloatArray,
    terms: Terms,
    total: FloatArray,
    worst: bool,
) -> float:
    """Cash after everything was closed where the margin gave out on the straight way from the opens to the worst prices."""
    room, room_at_worst = cash, cash
    for a in range(len(state)):
        if state[a, SIZE] != 0.0:
            begin, end = _way(candles, t, a, state, worst)
            room += state[a, SIZE] * (begin - state[a, MARK]) - terms.maintenance * abs(state[a, SIZE]) * begin
            room_at_worst += state[a, SIZE] * (end - state[a, MARK]) - terms.maintenance * abs(state[a, SIZE]) * end
    share = 0.0 if room <= 0.0 else room / (room - room_at_worst)
    equity, notional, net, slipped, charge = cash, 0.0, 0.0, 0.0, 0.0
    for a in range(len(state)):
        if state[a, SIZE] != 0.0:
            begin, end = _way(candles, t, a, state, worst)
            at = begin + share * (end - begin)
            price = at * (1.0 - slip[t, a]) if state[a, SIZE] > 0.0 else at * (1.0 + slip[t, a])
            equity += state[a, SIZE] * (price - state[a, MARK])
            notional += abs(state[a, SIZE]) * price
            net += state[a, SIZE] * price
            charge += (rate[a, 0] + terms.liquidation_fee) * abs(state[a, SIZE]) * price
            slipped += abs(state[a, SIZE]) * at * slip[t, a]
    state[:, SIZE] = 0.0
    state[:, LEFT] = 0.0
    if equity < 0.0:  # the exchange takes the positions over where equity is zero: all prices that share better for us
        notional -= equity / notional * net
    fees = 0.0 if equity <= 0.0 else min(charge, equity)
    total[0] += notional
    total[1] += fees + slipped
    return max(equity, 0.0) - fees


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _way(candles: FloatArray, t: int, a: int, state: FloatArray, worst: bool) -> tuple[float, float]:
    """From the open to the worst price of a bar; the mark twice where there is no bar."""
    begin = candles[t, a, OPEN]
    if begin != begin:
        return state[a, MARK], state[a, MARK]
    return begin, _worst(candles, t, a, state) if worst else begin


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _worst(candles: FloatArray, t: int, a: int, state: FloatArray) -> float:
    """The worst price of a bar for what is held, no further than its stop."""
    level = state[a, LEVEL]
    if state[a, SIZE] > 0.0:
        return float(max(candles[t, a, LOW], level))
    return float(min(candles[t, a, HIGH], level) if level > 0.0 else candles[t, a, HIGH])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _stop_out(
    cash: float,
    candles: FloatArray,
    t: int,
    limits: FloatArray,
    state: FloatArray,
    slip: FloatArray,
    rate: FloatArray,
    total: FloatArray,
    at_open: bool,
) -> float:
    """Cash after closing what has reached its stop: at the open beyond it, or at its price inside the bar; a taker's costs."""
    for a in range(len(state)):
        size, level, first = state[a, SIZE], state[a, LEVEL], candles[t, a, OPEN]
        if size == 0.0 or level == 0.0 or first != first:
            continue
        side = 1.0 if size > 0.0 else -1.0
        reached = first if at_open else (candles[t, a, LOW] if side > 0.0 else candles[t, a, HIGH])
        if side * (reached - level) > 0.0:
            continue
        base = first if at_open else level
        price = _ticks(base * (1.0 - side * slip[t, a]), limits[a, 1], side < 0.0)
        if cash + size * (price - state[a, MARK]) < 0.0:
            price = state[a, MARK] - cash / size
        cash += size * (price - state[a, MARK])
        fee = min(abs(size) * price * rate[a, 0], cash)
        cash -= fee
        total[0] += abs(size) * price
        total[1] += fee + abs(size) * abs(base - price)
        state[a, SIZE], state[a, LEVEL], state[a, LEFT], state[a, BARRED] = 0.0, 0.0, 0.0, side
    return cash


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _execute(
    cash: float,
    candles: FloatArray,
    t: int,
    limits: FloatArray,
    state: FloatArray,
    turn: IntArray,
    slip: FloatArray,
    rate: FloatArray,
    terms: Terms,
    total: FloatArray,
) -> float:
    """Cash after the bar's fills, order by order as they were sent."""
    waiting = 0
    for a in range(len(state)):
        if state[a, LEFT] != 0.0:
            k = waiting
            while k > 0 and state[turn[k - 1], QUEUE] > state[a, QUEUE]:
                turn[k] = turn[k - 1]
                k -= 1
            turn[k] = a
            waiting += 1
    for k in range(waiting):
        a = turn[k]
        if terms.expiry > 0 and t > state[a, SENT] + terms.expiry:
            state[a, LEFT] = 0.0
            continue
        opening_price = candles[t, a, OPEN]
        if opening_price != opening_price:
            continue
        side = 1.0 if state[a, LEFT] > 0.0 else -1.0
        base, fee = opening_price, rate[a, 0]
        if terms.kind == LIMIT:
            base, fee = state[a, PRICE], rate[a, 1]
            price = base
            if (candles[t, a, LOW] >= price) if side > 0.0 else (candles[t, a, HIGH] <= price):
                continue
        else:
            if terms.kind == STOP and state[a, TRIGGERED] == 0.0:
                stop = state[a, PRICE]
                if (candles[t, a, HIGH] < stop) if side > 0.0 else (candles[t, a, LOW] > stop):
                    continue
                state[a, TRIGGERED] = 1.0
                base = max(base, stop) if side > 0.0 else min(base, stop)
            price = _ticks(base * (1.0 + side * slip[t, a]), limits[a, 1], side > 0.0)
        wanted = abs(state[a, LEFT])
        allowed = _within_margin(cash, a, side, wanted, price, fee, candles, t, state, terms)
        if allowed < wanted:
            allowed = _lots(allowed, limits[a, 0])
        filled = allowed
        if terms.volume_share < np.inf and terms.volume_share * candles[t, a, VOLUME] < allowed:
            filled = _lots(terms.volume_share * candles[t, a, VOLUME], limits[a, 0])
        if filled > 0.0:
            # what was held moves from its mark to the price of the fill, then the fee; in the order in which an exchange books it
            before = state[a, SIZE]
            after = before + side * filled
            if before * side < 0.0:
                shut = min(abs(before), filled)
                cash -= shut * price * fee
                cash += -side * shut * (price - state[a, MARK])
                if abs(before) < filled:
                    cash -= abs(after) * price * fee
                    state[a, MARK] = price
            else:
                cash -= filled * price * fee
                if before != 0.0:
                    cash += before * (price - state[a, MARK])
                state[a, MARK] = price
            state[a, SIZE] = after
            if before * after <= 0.0:
                state[a, ENTRY] = price
            elif abs(after) > abs(before):
                state[a, ENTRY] = (state[a, ENTRY] * abs(before) + price * filled) / abs(after)
            state[a, LEVEL] = 0.0
            if after != 0.0 and state[a, DISTANCE] > 0.0:
                away = 1.0 - state[a, DISTANCE] if after > 0.0 else 1.0 + state[a, DISTANCE]
                state[a, LEVEL] = _ticks(state[a, ENTRY] * away, limits[a, 1], after < 0.0)
            total[0] += filled * price
            total[1] += filled * price * fee + filled * abs(price - base)
            state[a, LEFT] -= side * filled
        if filled >= allowed:
            state[a, LEFT] = 0.0  # what the margin cut off is not tried again
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
    t: int,
    state: FloatArray,
    terms: Terms,
) -> float:
    """How much of an order the margin lets through: what closes always, what opens must leave equity >= exposure / leverage."""
    equity, others = cash, 0.0
    for b in range(len(state)):
        if state[b, SIZE] != 0.0:
            at = candles[t, b, OPEN]
            at = price if b == a else (at if at == at else state[b, MARK])
            equity += state[b, SIZE] * (at - state[b, MARK])
            if b != a:
                others += abs(state[b, SIZE]) * at
    closing = min(wanted, max(-side * state[a, SIZE], 0.0))
    kept = max(side * state[a, SIZE], 0.0)
    room = equity - fee * closing * price - (others + kept * price) * terms.margin
    each = price * (terms.margin + fee)  # what one unit more needs
    return wanted if (wanted - closing) * each <= room else closing + max(room / each, 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _delist(
    cash: float, t: int, ends: IntArray, state: FloatArray, slip: FloatArray, rate: FloatArray, total: FloatArray
) -> float:
    """Cash after what has its last bar was closed at its last price, with slippage and taker fee; its orders are void."""
    for a in range(len(state)):
        if t != ends[a]:
            continue
        state[a, LEFT] = 0.0
        if state[a, SIZE] == 0.0:
            continue
        last = state[a, MARK]
        price = last * (1.0 - slip[t, a]) if state[a, SIZE] > 0.0 else last * (1.0 + slip[t, a])
        if cash + state[a, SIZE] * (price - last) < 0.0:
            price = last - cash / state[a, SIZE]
        cash += state[a, SIZE] * (price - last)
        fee = min(abs(state[a, SIZE]) * price * rate[a, 0], cash)
        cash -= fee
        total[0] += abs(state[a, SIZE]) * price
        total[1] += fee + abs(state[a, SIZE]) * last * slip[t, a]
        state[a, SIZE] = 0.0
    return cash


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _send(
    cash: float,
    t: int,
    a: int,
    close: float,
    target: float,
    ticket: int,
    limits: FloatArray,
    state: FloatArray,
    terms: Terms,
) -> None:
    """The order that brings an asset from what it holds to its target; it replaces the open one."""
    lot, tick, least = limits[a, 0], limits[a, 1], limits[a, 2]
    state[a, LEFT], state[a, AIMED] = 0.0, target
    wish = target * cash / close - state[a, SIZE]
    if target != 0.0:  # a position may always be closed whole
        wish = np.sign(wish) * _lots(abs(wish), lot)
        if abs(wish) * close < least:
            return
    state[a, LEFT], state[a, SENT], state[a, QUEUE], state[a, TRIGGERED] = wish, t, ticket, 0.0
    if terms.kind == MARKET:
        return
    # a stop waits on the far side of the close, a limit on the near one
    far = terms.offset if (wish > 0.0) == (terms.kind == STOP) else -terms.offset
    state[a, PRICE] = _ticks(close * (1.0 + far), tick, (wish > 0.0) == (terms.kind == STOP))
