"""Backtrader parts for linear perpetuals: feed, broker, strategy. Imported when a backtest runs.

One bar in the broker: funding settled at the bar's open (by the position held before it), margin checked at the open, stops that the
open is beyond, orders decided on earlier closes, margin checked at the bar's worst prices (no further than a stop), stops inside the
bar, funding settled inside the bar, mark to market at the close, and what ends with this bar closed there. A bar that cannot be
traded (`Panel.traded`) comes as NaN: nothing fills in it and nothing is decided on it, orders wait. Cash is the account's equity after
every mark: a linear perpetual exchanges no principal, so a position costs no cash, only margin. `strategies.backtest.accounting` is a
second, independent account of the same rules.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import backtrader as bt
import numpy as np

from data.panel import FloatArray, Panel
from strategies.backtest.terms import Account, Costs, Instrument, Orders, stop_distances

BANKRUPT = 1e-6  # of the initial equity: an account with less sends no orders


class PanelFeed(bt.feed.DataBase):  # type: ignore[misc]
    """Candles of one asset plus the line `target`, straight from arrays."""

    lines = ("target",)
    params = (("columns", None), ("timeframe", bt.TimeFrame.Minutes))

    def start(self) -> None:
        super().start()
        self._row = 0

    def preload(self) -> None:
        """Fill all lines at once (the plain preload walks bar by bar)."""
        columns = self.p.columns
        length = len(columns["datetime"])
        for alias in self.getlinealiases():
            line = getattr(self.lines, alias)
            values = columns.get(alias)
            line.array = array("d", np.zeros(length).tobytes() if values is None else values.tobytes())
            line.lencount = length
            line.idx = length - 1
        self.home()

    def _load(self) -> bool:
        columns = self.p.columns
        row = self._row
        if row >= len(columns["datetime"]):
            return False
        for alias, values in columns.items():
            getattr(self.lines, alias)[0] = float(values[row])
        lines: Any = self.lines
        lines.openinterest[0] = 0.0
        self._row += 1
        return True

    def _tick_fill(self, force: bool = False) -> None:
        """Ticks matter to resampled data only."""

    def _tick_nullify(self) -> None:
        """Ticks matter to resampled data only."""


class PerpetualCommission(bt.CommInfoBase):  # type: ignore[misc]
    """No principal, fee on notional. `fee_rate` is set by the broker before each fill (maker or taker)."""

    params = (("stocklike", False), ("commtype", bt.CommInfoBase.COMM_PERC), ("margin", 1.0))

    def __init__(self) -> None:
        super().__init__()
        self.fee_rate = 0.0

    def getvaluesize(self, size: float, price: float) -> float:
        return 0.0

    def getvalue(self, position: Any, price: float) -> float:
        return 0.0

    def getoperationcost(self, size: float, price: float) -> float:
        return 0.0

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        return float(abs(size) * price * self.fee_rate)


class PerpetualBroker(bt.brokers.BackBroker):  # type: ignore[misc]
    """Backtrader's broker with the rules of this module: costs, funding, margin, liquidation, lots, ticks, order types.

    equity_history, holdings_history [bar][asset] and rows (columns of `trades`) are what `strategies.backtest.execution` reads off.
    """

    params = (("checksubmit", False),)

    def __init__(
        self,
        panel: Panel,
        start: int,
        stop: int,
        costs: Costs,
        account: Account,
        instruments: Mapping[str, Instrument],
        volatility: FloatArray | None = None,
    ) -> None:
        super().__init__()
        self.account = account
        self.costs = costs
        self.commission = PerpetualCommission()
        self.cash: float = account.initial_equity
        self.equity_history: list[float] = []
        self.holdings_history: list[list[float]] = []
        self.rows: list[tuple[Any, ...]] = []
        self._panel = panel
        self._open_times = panel.timestamps[start:stop]
        funded = account.kind == "perpetual"
        self._settlements = [_settlements_by_bar(panel, a, start, stop) if funded else {} for a in panel.assets]
        self._slippage = costs.slippage(panel, start, stop).tolist()
        rates = [costs.fees_bps(asset) for asset in panel.assets]
        self._taker, self._maker = [t * 1e-4 for t, _ in rates], [m * 1e-4 for _, m in rates]
        self.instruments = [instruments.get(asset, Instrument()) for asset in panel.assets]
        self._ends = (panel.ends - start).tolist()
        self.stop_distance = stop_distances(panel, start, stop, account.stop_loss, volatility).tolist()
        none = [0.0] * len(panel.assets)
        self.barred, self._entry, self._stop = none, list(none), list(none)  # stopped out on this side; prices, 0: none
        self._capacity = 0.0
        self.p.filler = self._fill_size
        self.setcash(account.initial_equity)

    def getcommissioninfo(self, data: Any) -> PerpetualCommission:
        """One commission for all assets; the broker sets its rate before each fill."""
        return self.commission

    def start(self) -> None:
        super().start()
        self.bar = -1
        self._assets = list(zip(self.cerebro.datas, self._panel.assets, self._settlements, strict=True))
        self._place = {data: a for a, data in enumerate(self.cerebro.datas)}
        for data in self.cerebro.datas:
            self.positions[data]  # all assets, in order

    def next(self) -> None:
        self.bar += 1
        self._settle_due(at_open=True)
        self._check_margin(worst=False)
        self._stop_out(at_open=True)
        self._execute_orders()
        self._check_margin(worst=True)
        self._stop_out(at_open=False)
        self._settle_due(at_open=False)
        self._mark()
        self._close_ended()
        self._value = self.cash
        self.equity_history.append(self.cash)
        self.holdings_history.append([self.positions[data].size for data, *_ in self._assets])

    def ended(self, place: int) -> bool:
        """Whether an asset has no bar after this one."""
        return bool(self.bar >= self._ends[place])

    def _settle_due(self, at_open: bool) -> None:
        for data, asset, settlements in self._assets:
            due = settlements.get(self.bar)
            if due:
                self._settle(data, asset, [s for s in due if s[2] == at_open], data.open[0])

    def _settle(self, data: Any, asset: str, due: list[tuple[np.datetime64, float, bool]], price: float) -> None:
        size = self.positions[data].size
        if not size:
            return
        if price != price:  # no bar: the last mark
            price = self.positions[data].adjbase
        for timestamp, rate, _ in due:
            flow = -size * price * rate
            self.cash += flow
            self.rows.append((timestamp, asset, "funding", 0.0, price, 0.0, 0.0, flow))

    def _execute_orders(self) -> None:
        for _ in range(len(self.pending)):
            order = self.pending.popleft()
            self._try_exec(order)
            if order.alive():
                self.pending.append(order)

    def _try_exec(self, order: Any) -> None:
        data = order.data
        last = order.info.get("last_bar", 0)
        if last and self.bar > last:
            order.status = order.Expired
            self.notify(order)
            return
        at_open = data.open[0]
        if at_open != at_open:  # no bar: wait
            return
        buys = order.isbuy()
        place = self._place[data]
        if order.exectype == bt.Order.Limit:
            limit = order.created.price
            if data.low[0] < limit if buys else data.high[0] > limit:  # traded through, not merely touched
                self._fill(order, limit, 0.0, self._maker[place])
            return
        price = at_open
        if order.exectype == bt.Order.Stop and not order.triggered:
            stop = order.created.price
            if data.high[0] < stop if buys else data.low[0] > stop:
                return
            order.triggered = True
            price = max(price, stop) if buys else min(price, stop)
        slip = self._slippage[self.bar][place]
        filled = price * (1.0 + slip) if buys else price * (1.0 - slip)
        filled = whole_ticks(filled, self.instruments[place].tick, up=buys)
        self._fill(order, filled, abs(filled - price), self._taker[place])

    def _fill(self, order: Any, price: float, slippage: float, fee_rate: float) -> None:
        data = order.data
        place = self._place[data]
        self.commission.fee_rate = fee_rate
        before = self.positions[data].size
        wanted = abs(order.executed.remsize)
        lot = self.instruments[place].lot
        allowed = self._size_within_margin(order, price, fee_rate)
        if allowed < wanted:
            allowed = whole_lots(allowed, lot)
        self._capacity = allowed
        share = order.info.get("volume_share", math.inf)
        if share < math.inf and share * data.volume[0] < allowed:  # no share of a bar without volume is no number
            self._capacity = whole_lots(share * data.volume[0], lot)
        if self._capacity > 0.0:
            self._execute(order, ago=0, price=price)
        size = self.positions[data].size - before
        if size:
            fee = abs(size) * price * fee_rate
            stamp = self._open_times[self.bar]
            asset = self._panel.assets[place]
            self.rows.append((stamp, asset, "fill", size, price, fee, abs(size) * slippage, 0.0))
            self._set_stop(place, before, size, price, order.info.get("distance", 0.0))
        if order.alive() and self._capacity >= allowed:  # what the margin cut off is not tried again
            order.margin()
            self.notify(order)

    def _fill_size(self, order: Any, price: float, ago: int) -> float:
        return self._capacity

    def _size_within_margin(self, order: Any, price: float, fee_rate: float) -> float:
        """|size| of the order after cutting what would leave more exposure than the leverage allows."""
        wanted = abs(order.executed.remsize)
        equity, others = self.cash, 0.0
        for data, position in self.positions.items():
            if position.size:
                at = price if data is order.data else data.open[0]
                at = at if at == at else position.adjbase
                equity += position.size * (at - position.adjbase)
                if data is not order.data:
                    others += abs(position.size) * at
        held = self.positions[order.data].size
        direction = 1.0 if order.isbuy() else -1.0
        closing = min(wanted, max(-direction * held, 0.0))
        kept = max(direction * held, 0.0)
        room = equity - fee_rate * closing * price - (others + kept * price) / self.account.most_exposure
        opening = room / (price * (1.0 / self.account.most_exposure + fee_rate))
        if wanted - closing <= opening:
            return float(wanted)
        return float(closing + max(opening, 0.0))

    def _check_margin(self, worst: bool) -> None:
        """Liquidate where equity does not cover the maintenance margin: at the open, or on the straight way from every
        open to the worst price of its bar (all assets at once, which is the cautious reading of a bar)."""
        held = [(data, position) for data, position in self.positions.items() if position.size]
        if not held:
            return
        rate = self.account.maintenance
        begin, end = [], []
        room, room_at_worst = self.cash, self.cash
        for data, position in held:
            size, base = position.size, position.adjbase
            first = data.open[0]
            if first != first:
                first = last = base
            else:
                last = (data.low[0] if size > 0.0 else data.high[0]) if worst else first
                level = self._stop[self._place[data]]
                if level and worst:
                    last = max(last, level) if size > 0.0 else min(last, level)
            begin.append(first)
            end.append(last)
            room += size * (first - base) - rate * abs(size) * first
            room_at_worst += size * (last - base) - rate * abs(size) * last
        if room <= 0.0:
            self._liquidate(held, begin)
        elif room_at_worst <= 0.0:
            share = room / (room - room_at_worst)
            self._liquidate(held, [a + share * (b - a) for a, b in zip(begin, end, strict=True)])

    def _liquidate(self, held: list[tuple[Any, Any]], prices: list[float]) -> None:
        """Close everything near `prices` and cancel all orders. What is missing to zero is the exchange's loss."""
        slips = [self._slippage[self.bar][self._place[data]] for data, _ in held]
        signs = [1.0 if position.size > 0.0 else -1.0 for _, position in held]
        closed = [p * (1.0 - sign * slip) for p, sign, slip in zip(prices, signs, slips, strict=True)]
        worth, notional = self.cash, 0.0
        for (_, position), price in zip(held, closed, strict=True):
            worth += position.size * (price - position.adjbase)
            notional += abs(position.size) * price
        if worth < 0.0:  # taken over at the prices where equity is zero
            closed = [p * (1.0 - sign * worth / notional) for p, sign in zip(closed, signs, strict=True)]
            worth = 0.0
            notional = sum(abs(position.size) * p for (_, position), p in zip(held, closed, strict=True))
        rates = [self._taker[self._place[data]] + self.account.liquidation_fee for data, _ in held]
        charges = [r * abs(p.size) * price for r, (_, p), price in zip(rates, held, closed, strict=True)]
        fees = min(sum(charges), worth)
        paid = fees / sum(charges) if fees > 0.0 else 0.0  # the part of its charge that each asset can still pay
        stamp = self._open_times[self.bar]
        for (data, position), price, slip, first, charge in zip(held, closed, slips, prices, charges, strict=True):
            size, place = position.size, self._place[data]
            fee = charge * paid
            slippage = abs(size) * first * slip
            self.rows.append((stamp, self._panel.assets[place], "liquidation", -size, price, fee, slippage, 0.0))
            position.update(-size, price)
            self._stop[place] = self._entry[place] = 0.0
        self.cash = worth - fees
        for order in list(self.pending):
            self.cancel(order)

    def _set_stop(self, place: int, before: float, size: float, price: float, distance: float) -> None:
        """The average entry after a fill, and the stop that goes with it; on the grid of ticks, away from the price."""
        after, entry = before + size, self._entry[place]
        if before * after <= 0.0:
            entry = price
        elif abs(after) > abs(before):
            entry = (entry * abs(before) + price * abs(size)) / abs(after)
        side = 1.0 if after > 0.0 else -1.0
        level = entry * (1.0 - side * distance) if after and distance else 0.0
        self._entry[place] = entry if after else 0.0
        self._stop[place] = whole_ticks(level, self.instruments[place].tick, up=side < 0.0)

    def _stop_out(self, at_open: bool) -> None:
        """Close what has reached its stop: at the open beyond it, or at its price inside the bar; a taker's costs."""
        for data, asset, _ in self._assets:
            place, position = self._place[data], self.positions[data]
            level, size, first = self._stop[place], position.size, data.open[0]
            if not size or not level or first != first:
                continue
            side = 1.0 if size > 0.0 else -1.0
            price = first if at_open else data.low[0] if side > 0.0 else data.high[0]
            if side * (price - level) > 0.0:
                continue
            base = first if at_open else level
            slip = self._slippage[self.bar][place]
            price = whole_ticks(base * (1.0 - side * slip), self.instruments[place].tick, up=side < 0.0)
            if self.cash + size * (price - position.adjbase) < 0.0:  # what is missing to zero is the exchange's loss
                price = position.adjbase - self.cash / size
            worth = self.cash + size * (price - position.adjbase)
            fee = min(abs(size) * price * self._taker[place], worth)
            self.cash = worth - fee
            position.update(-size, price)
            self._stop[place], self._entry[place], self.barred[place] = 0.0, 0.0, side
            stamp = self._open_times[self.bar]
            self.rows.append((stamp, asset, "stop", -size, price, fee, abs(size) * abs(base - price), 0.0))
            for order in [o for o in self.pending if o.data is data]:
                self.cancel(order)

    def _mark(self) -> None:
        for data, position in self.positions.items():
            close = data.close[0]
            if position.size and close == close:
                self.cash += position.size * (close - position.adjbase)
                position.adjbase = close

    def _close_ended(self) -> None:
        """A delisted asset settles at its last price, at the costs of a taker; its orders are void."""
        for data, asset, _ in self._assets:
            place = self._place[data]
            if self.bar != self._ends[place]:
                continue
            for order in [o for o in self.pending if o.data is data]:
                self.cancel(order)
            position = self.positions[data]
            size, last = position.size, position.adjbase
            if not size:
                continue
            slip = self._slippage[self.bar][place]
            price = last * (1.0 - slip) if size > 0.0 else last * (1.0 + slip)
            if self.cash + size * (price - last) < 0.0:  # what is missing to zero is the exchange's loss
                price = last - self.cash / size
            worth = self.cash + size * (price - last)
            fee = min(abs(size) * price * self._taker[place], worth)
            self.cash = worth - fee
            position.update(-size, price)
            self._stop[place] = self._entry[place] = 0.0
            row = (self._open_times[self.bar], asset, "delisting", -size, price, fee, abs(size) * last * slip, 0.0)
            self.rows.append(row)


def _settlements_by_bar(
    panel: Panel, asset: str, start: int, stop: int
) -> dict[int, list[tuple[np.datetime64, float, bool]]]:
    """bar -> (time, rate, at the bar's open) of the settlements inside bars start..stop; bar counts from start."""
    out: dict[int, list[tuple[np.datetime64, float, bool]]] = {}
    known = panel.settlements.get(asset)
    if known is None:
        return out
    opens = panel.timestamps[start:stop]
    bars = np.searchsorted(opens, known.timestamps, side="right") - 1
    for timestamp, rate, bar in zip(known.timestamps, known.rates, bars, strict=True):
        if bar >= 0 and timestamp < opens[-1] + np.timedelta64(panel.interval_ns, "ns") and np.isfinite(rate):
            out.setdefault(int(bar), []).append((timestamp, float(rate), bool(timestamp == opens[bar])))
    return out


def whole_lots(size: float, lot: float) -> float:
    """|size| rounded down to whole lots; a hair below a lot (rounding of floats) counts as the lot."""
    return math.floor(size / lot + 1e-9) * lot if lot > 0.0 else size


def whole_ticks(price: float, tick: float, up: bool) -> float:
    """The price on the grid of ticks, rounded up or down; as it is where tick is 0."""
    if tick <= 0.0:
        return price
    return math.ceil(price / tick - 1e-9) * tick if up else math.floor(price / tick + 1e-9) * tick


class TargetStrategy(bt.Strategy):  # type: ignore[misc]
    """Sends the order that brings the position to the line `target` of current equity."""

    params = (("account", None), ("orders", Orders()))

    def __init__(self) -> None:
        self.reached: list[float] = [0.0] * len(self.datas)  # the target the last order aimed at

    def next(self) -> None:
        broker = self.broker
        account = self.p.account
        equity = broker.cash
        if equity <= account.initial_equity * BANKRUPT:
            return
        for a, data in enumerate(self.datas):
            close = data.close[0]
            if close != close or broker.ended(a):
                continue
            target = data.target[0]
            held = broker.positions[data].size
            if target * broker.barred[a] > 0.0:  # stopped out on this side
                target = 0.0
            else:
                broker.barred[a] = 0.0
            if target == self.reached[a] and abs(held * close / equity - target) <= account.rebalance_band:
                continue
            for order in [o for o in broker.pending if o.data is data]:
                broker.cancel(order)
            self.reached[a] = target
            size = target * equity / close - held
            instrument = broker.instruments[a]
            if target != 0.0:  # a position may always be closed whole
                size = math.copysign(whole_lots(abs(size), instrument.lot), size)
                if abs(size) * close < instrument.minimum_notional:
                    continue
            if size != 0.0:
                self._send(data, size, close, instrument.tick)

    def _send(self, data: Any, size: float, close: float, tick: float) -> None:
        orders: Orders = self.p.orders
        buys = size > 0.0
        send = self.broker.buy if buys else self.broker.sell
        offset = orders.offset_bps * 1e-4
        place = self.broker._place[data]
        distance = self.broker.stop_distance[self.broker.bar][place]
        info: dict[str, Any] = {"volume_share": orders.volume_share, "distance": distance}
        if orders.expiry_bars:
            info["last_bar"] = self.broker.bar + orders.expiry_bars
        if orders.kind == "market":
            send(self, data, abs(size), **info)
        elif orders.kind == "limit":
            price = whole_ticks(close * (1.0 - offset) if buys else close * (1.0 + offset), tick, up=not buys)
            send(self, data, abs(size), price=price, exectype=bt.Order.Limit, **info)
        else:
            price = whole_ticks(close * (1.0 + offset) if buys else close * (1.0 - offset), tick, up=buys)
            send(self, data, abs(size), price=price, exectype=bt.Order.Stop, **info)

    def _addnotification(self, order: Any, quicknotify: bool = False) -> None:
        """No Trade objects: the broker keeps the ledger."""
