"""The account written to be read, without a compiler; `strategies.backtest.accounting` is the same, fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray, Panel
from strategies.backtest.accounting import Accounted
from strategies.backtest.execution import checked_targets
from strategies.backtest.terms import NO_RULES, ORDER_KINDS, Account, Costs, Instrument, Orders, stop_distances


class _Terms(NamedTuple):
    initial: float
    exposure: float
    band: float
    maintenance: float
    liquidation_fee: float
    kind: int
    offset: float
    expiry: int
    volume_share: float


def reference_account(
    panel: Panel,
    targets: FloatArray,
    *,
    start: int,
    stop: int,
    costs: Costs = Costs(),
    account: Account = Account(),
    orders: Orders = Orders(),
    instruments: Mapping[str, Instrument] = NO_RULES,
    volatility: FloatArray | None = None,
) -> Accounted:
    """As `strategies.backtest.accounting.account_for`."""
    targets = checked_targets(panel, targets, start, stop, account)
    candles = np.ascontiguousarray(panel.tradable(start, stop).transpose(2, 0, 1))
    rules = [instruments.get(asset, Instrument()) for asset in panel.assets]
    limits = np.array([(r.lot, r.tick, r.minimum_notional) for r in rules], dtype=np.float64)
    rates = np.array([costs.fees_bps(asset) for asset in panel.assets], dtype=np.float64) * 1e-4
    funded = account.kind == "perpetual"
    flows, first = (
        _settlements(panel, start, stop) if funded else (np.zeros((0, 3)), np.zeros(stop - start + 1, np.int64))
    )
    terms = _Terms(
        float(account.initial_equity),
        float(account.most_exposure),
        float(account.rebalance_band),
        float(account.maintenance),
        float(account.liquidation_fee),
        ORDER_KINDS.index(orders.kind),
        orders.offset_bps * 1e-4,
        int(orders.expiry_bars),
        float(orders.volume_share),
    )
    slippage = costs.slippage(panel, start, stop)
    ends = panel.ends - start
    distances = stop_distances(panel, start, stop, account.stop_loss, volatility)
    equity, holdings, totals = _run(candles, targets, slippage, distances, flows, first, ends, limits, rates, terms)
    return Accounted(equity, holdings, float(totals[0]), float(totals[1]), float(totals[2]))


def _settlements(panel: Panel, start: int, stop: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Rows (asset, rate, 1 at the bar's open else 0) in order of bar and asset; rows first[t]..first[t + 1] belong to bar t."""
    opens = panel.timestamps[start:stop].astype(np.int64)
    rows = []
    for a, asset in enumerate(panel.assets):
        known = panel.settlements.get(asset)
        if known is None:
            continue
        times = known.timestamps.astype(np.int64)
        bars = np.searchsorted(opens, times, side="right") - 1
        inside = (bars >= 0) & (times < opens[-1] + panel.interval_ns) & np.isfinite(known.rates)
        for bar, time, rate in zip(bars[inside], times[inside], known.rates[inside], strict=True):
            rows.append((int(bar), a, int(time), float(rate), float(time == opens[bar])))
    rows.sort(key=lambda row: row[:3])
    first = np.searchsorted(np.array([row[0] for row in rows]), np.arange(len(opens) + 1)).astype(np.int64)
    return np.array([(row[1], row[3], row[4]) for row in rows], dtype=np.float64).reshape(-1, 3), first


def _lots(size: float, lot: float) -> float:
    return float(np.floor(size / lot + 1e-9) * lot) if lot > 0.0 else size


def _ticks(price: float, tick: float, up: bool) -> float:
    if tick <= 0.0:
        return price
    return float((np.ceil(price / tick - 1e-9) if up else np.floor(price / tick + 1e-9)) * tick)


def _run(
    candles: FloatArray,
    targets: FloatArray,
    slippage: FloatArray,
    distances: FloatArray,
    flows: FloatArray,
    first: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    limits: FloatArray,
    rates: FloatArray,
    terms: _Terms,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    bars, assets = targets.shape
    opens, highs, lows, closes, volumes = candles[0], candles[1], candles[2], candles[3], candles[4]
    equity_at, held_at = np.empty(bars), np.empty((bars, assets))
    totals = np.zeros(3)  # turnover, fees and slippage, funding
    cash = terms.initial
    size, mark, aimed = np.zeros(assets), np.zeros(assets), np.zeros(assets)
    # the open order of each asset: what is left of it (signed), its price, the bar it was sent, its place in the queue
    left, price_of, sent, queue = np.zeros(assets), np.zeros(assets), np.zeros(assets, np.int64), np.zeros(assets)
    triggered = np.zeros(assets, np.bool_)
    tickets = 0.0
    # the protective stop of each asset: its price (0: none), the average entry, the distance of the order that is open, the side on
    # which it was stopped out
    level, entry, distance, barred = np.zeros(assets), np.zeros(assets), np.zeros(assets), np.zeros(assets)
    none = np.zeros(assets)
    for t in range(bars):
        for k in range(first[t], first[t + 1]):
            if flows[k, 2] == 1.0:
                paid = _funding(flows, k, size, mark, opens[t])
                cash += paid
                totals[2] += paid
        cash = _margin(cash, size, mark, left, none, opens[t], opens[t], opens[t], slippage[t], rates, terms, totals)
        cash = _stopped(
            cash,
            size,
            mark,
            left,
            level,
            barred,
            opens[t],
            opens[t],
            opens[t],
            True,
            slippage[t],
            rates,
            limits,
            totals,
        )
        for a in np.argsort(queue):
            if left[a] == 0.0:
                continue
            if terms.expiry > 0 and t > sent[a] + terms.expiry:
                left[a] = 0.0
                continue
            if np.isnan(opens[t, a]):
                continue
            side = 1.0 if left[a] > 0.0 else -1.0
            price, fee = opens[t, a], rates[a, 0]
            base = price
            if terms.kind == 1:
                price, fee = price_of[a], rates[a, 1]
                base = price
                if (lows[t, a] >= price) if side > 0.0 else (highs[t, a] <= price):
                    continue
            else:
                if terms.kind == 2 and not triggered[a]:
                    if (highs[t, a] < price_of[a]) if side > 0.0 else (lows[t, a] > price_of[a]):
                        continue
                    triggered[a] = True
                    base = max(price, price_of[a]) if side > 0.0 else min(price, price_of[a])
                price = base * (1.0 + slippage[t, a]) if side > 0.0 else base * (1.0 - slippage[t, a])
                price = _ticks(price, limits[a, 1], side > 0.0)
            wanted = abs(left[a])
            # margin: what closes a position always fits; what opens one must leave equity >= exposure / leverage
            equity, others = cash, 0.0
            for b in range(assets):
                if size[b] != 0.0:
                    at = price if b == a else (mark[b] if np.isnan(opens[t, b]) else opens[t, b])
                    equity += size[b] * (at - mark[b])
                    if b != a:
                        others += abs(size[b]) * at
            closing = min(wanted, max(-side * size[a], 0.0))
            kept = max(side * size[a], 0.0)
            room = equity - fee * closing * price - (others + kept * price) / terms.exposure
            opening = room / (price * (1.0 / terms.exposure + fee))
            allowed = wanted if wanted - closing <= opening else closing + max(opening, 0.0)
            if allowed < wanted:
                allowed = _lots(allowed, limits[a, 0])
            filled = allowed
            if terms.volume_share < np.inf and terms.volume_share * volumes[t, a] < allowed:
                filled = _lots(terms.volume_share * volumes[t, a], limits[a, 0])
            if filled > 0.0:
                # the held part moves from its mark to the price of the fill, then the fee; order as an exchange books it
                after = size[a] + side * filled
                if size[a] * after <= 0.0:
                    entry[a] = price
                elif abs(after) > abs(size[a]):
                    entry[a] = (entry[a] * abs(size[a]) + price * filled) / abs(after)
                level[a] = 0.0
                if after != 0.0 and distance[a] > 0.0:
                    away = 1.0 - distance[a] if after > 0.0 else 1.0 + distance[a]
                    level[a] = _ticks(entry[a] * away, limits[a, 1], after < 0.0)
                crosses = size[a] * side < 0.0 and abs(size[a]) < filled
                if size[a] * side < 0.0:
                    shut = min(abs(size[a]), filled)
                    cash -= shut * price * fee
                    cash += -side * shut * (price - mark[a])
                    if crosses:
                        cash -= abs(after) * price * fee
                        mark[a] = price
                else:
                    cash -= filled * price * fee
                    if size[a] != 0.0:
                        cash += size[a] * (price - mark[a])
                    mark[a] = price
                size[a] = after
                totals[0] += filled * price
                totals[1] += filled * price * fee + filled * abs(price - base)
                left[a] -= side * filled
            if filled >= allowed:
                left[a] = 0.0
        cash = _margin(cash, size, mark, left, level, opens[t], highs[t], lows[t], slippage[t], rates, terms, totals)
        cash = _stopped(
            cash,
            size,
            mark,
            left,
            level,
            barred,
            opens[t],
            highs[t],
            lows[t],
            False,
            slippage[t],
            rates,
            limits,
            totals,
        )
        for k in range(first[t], first[t + 1]):
            if flows[k, 2] == 0.0:
                paid = _funding(flows, k, size, mark, opens[t])
                cash += paid
                totals[2] += paid
        for a in range(assets):
            if size[a] != 0.0 and not np.isnan(closes[t, a]):
                cash += size[a] * (closes[t, a] - mark[a])
                mark[a] = closes[t, a]
        for a in range(assets):
            if t == ends[a] and size[a] != 0.0:
                side = 1.0 if size[a] > 0.0 else -1.0
                price = mark[a] * (1.0 - side * slippage[t, a])
                if cash + size[a] * (price - mark[a]) < 0.0:
                    price = mark[a] - cash / size[a]
                cash += size[a] * (price - mark[a])
                fee = min(abs(size[a]) * price * rates[a, 0], cash)
                cash -= fee
                totals[0] += abs(size[a]) * price
                totals[1] += fee + abs(size[a]) * mark[a] * slippage[t, a]
                size[a] = 0.0
            if t == ends[a]:
                left[a] = 0.0
        equity_at[t] = cash
        held_at[t] = size
        if cash <= terms.initial * 1e-6:
            continue
        for a in range(assets):
            close = closes[t, a]
            if np.isnan(close) or t >= ends[a]:
                continue
            target = targets[t, a]
            if target * barred[a] > 0.0:
                target = 0.0
            else:
                barred[a] = 0.0
            if target == aimed[a] and abs(size[a] * close / cash - target) <= terms.band:
                continue
            left[a], aimed[a] = 0.0, target
            wish = target * cash / close - size[a]
            if target != 0.0:
                wish = np.sign(wish) * _lots(abs(wish), limits[a, 0])
                if abs(wish) * close < limits[a, 2]:
                    continue
            tickets += 1.0
            left[a], sent[a], queue[a], triggered[a] = wish, t, tickets, False
            distance[a] = distances[t, a]
            better = (
                1.0 if terms.kind == 2 else -1.0
            )  # a stop waits on the far side of the close, a limit on the near one
            far = 1.0 + better * terms.offset if wish > 0.0 else 1.0 - better * terms.offset
            price_of[a] = _ticks(close * far, limits[a, 1], (wish > 0.0) == (terms.kind == 2))
    return equity_at, held_at, totals


def _funding(flows: FloatArray, row: int, size: FloatArray, mark: FloatArray, opens: FloatArray) -> float:
    a = int(flows[row, 0])
    if size[a] == 0.0:
        return 0.0
    price = mark[a] if np.isnan(opens[a]) else opens[a]
    return float(-size[a] * price * flows[row, 1])


def _worst(size: float, mark: float, first: float, high: float, low: float, level: float) -> float:
    """The worst price of a bar for a position: its stop, where the bar goes beyond (at the open: the open)."""
    if np.isnan(first):
        return mark
    worst = low if size > 0.0 else high
    if level == 0.0:
        return worst
    return max(worst, level) if size > 0.0 else min(worst, level)


def _stopped(
    cash: float,
    size: FloatArray,
    mark: FloatArray,
    left: FloatArray,
    level: FloatArray,
    barred: FloatArray,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    at_open: bool,
    slippage: FloatArray,
    rates: FloatArray,
    limits: FloatArray,
    totals: FloatArray,
) -> float:
    """Cash after closing what has reached its stop: at the open beyond it, or at the stop inside the bar."""
    for a in range(len(size)):
        if size[a] == 0.0 or level[a] == 0.0 or np.isnan(opens[a]):
            continue
        long = size[a] > 0.0
        reached = lows[a] <= level[a] if long else highs[a] >= level[a]
        if not reached:
            continue
        base = opens[a] if at_open else level[a]
        price = _ticks(base * (1.0 - slippage[a]) if long else base * (1.0 + slippage[a]), limits[a, 1], not long)
        if cash + size[a] * (price - mark[a]) < 0.0:
            price = mark[a] - cash / size[a]
        cash += size[a] * (price - mark[a])
        fee = min(abs(size[a]) * price * rates[a, 0], cash)
        cash -= fee
        totals[0] += abs(size[a]) * price
        totals[1] += fee + abs(size[a]) * abs(base - price)
        barred[a] = 1.0 if long else -1.0
        size[a], level[a], left[a] = 0.0, 0.0, 0.0
    return float(cash)


def _margin(
    cash: float,
    size: FloatArray,
    mark: FloatArray,
    left: FloatArray,
    level: FloatArray,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    slippage: FloatArray,
    rates: FloatArray,
    terms: _Terms,
    totals: FloatArray,
) -> float:
    """Cash after the margin check from `opens` to the worst of `highs` and `lows`, no further than a stop; empties size and left on
    liquidation."""
    assets = len(size)
    room, room_at_worst = cash, cash
    anything = False
    for a in range(assets):
        if size[a] == 0.0:
            continue
        anything = True
        begin = mark[a] if np.isnan(opens[a]) else opens[a]
        end = _worst(size[a], mark[a], opens[a], highs[a], lows[a], level[a])
        room += size[a] * (begin - mark[a]) - terms.maintenance * abs(size[a]) * begin
        room_at_worst += size[a] * (end - mark[a]) - terms.maintenance * abs(size[a]) * end
    if not anything or (room > 0.0 and room_at_worst > 0.0):
        return cash
    share = 0.0 if room <= 0.0 else room / (room - room_at_worst)
    equity, notional, net, slipped, charge = cash, 0.0, 0.0, 0.0, 0.0
    for a in range(assets):
        if size[a] != 0.0:
            begin = mark[a] if np.isnan(opens[a]) else opens[a]
            end = _worst(size[a], mark[a], opens[a], highs[a], lows[a], level[a])
            at = begin + share * (end - begin)
            price = at * (1.0 - slippage[a]) if size[a] > 0.0 else at * (1.0 + slippage[a])
            equity += size[a] * (price - mark[a])
            notional += abs(size[a]) * price
            net += size[a] * price
            charge += (rates[a, 0] + terms.liquidation_fee) * abs(size[a]) * price
            slipped += abs(size[a]) * at * slippage[a]
    size[:] = 0.0
    left[:] = 0.0
    level[:] = 0.0
    if equity < 0.0:  # the exchange takes the positions over where equity is zero: all prices that share better for us
        notional -= equity / notional * net
    fees = 0.0 if equity <= 0.0 else min(charge, equity)
    totals[0] += notional
    totals[1] += fees + slipped
    return float(max(equity, 0.0) - fees)
