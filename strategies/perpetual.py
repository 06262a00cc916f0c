"""Backtrader parts for linear perpetuals: feed, broker, strategy. Imported when a backtest runs.

One bar in the broker: funding settled at the bar's open (by the position held before it), orders decided on earlier
closes, funding settled inside the bar, mark to market at the close. Cash is the account's equity after every mark: a
linear perpetual exchanges no principal, so a position costs no cash, only margin.
"""

from __future__ import annotations

from array import array
from typing import Any

import backtrader as bt
import numpy as np

from data.panel import Panel
from strategies.execution import Account, Costs


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
    params = (("checksubmit", False),)

    def __init__(self, panel: Panel, start: int, stop: int, costs: Costs, account: Account) -> None:
        super().__init__()
        self.account = account
        self.costs = costs
        self.commission = PerpetualCommission()
        self.equity_history: list[float] = []
        self.holdings_history: list[list[float]] = []
        self.rows: list[tuple[Any, ...]] = []
        self._panel = panel
        self._open_times = panel.timestamps[start:stop]
        self._settlements = [_settlements_by_bar(panel, a, start, stop) for a in panel.assets]
        self._capacity = 0.0
        self.p.filler = self._fill_size
        self.setcash(account.initial_equity)

    def getcommissioninfo(self, data: Any) -> PerpetualCommission:
        return self.commission

    def start(self) -> None:
        super().start()
        self._bar = -1
        self._assets = list(zip(self.cerebro.datas, self._panel.assets, self._settlements, strict=True))
        for data in self.cerebro.datas:
            self.positions[data]  # all assets, in order

    def next(self) -> None:
        self._bar += 1
        for (
            data,
            asset,
            settlements,
        ) in self._assets:
            due = settlements.get(self._bar)
            if due:
                self._settle(data, asset, [s for s in due if s[2]], data.open[0])
        self._execute_orders()
        for data, asset, settlements in self._assets:
            due = settlements.get(self._bar)
            if due:
                self._settle(data, asset, [s for s in due if not s[2]], data.open[0])
        self._mark()

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
        price = data.open[0]
        if price != price:  # no bar: wait
            return
        slip = self.costs.slippage_bps * 1e-4
        fill = price * (1.0 + slip) if order.isbuy() else price * (1.0 - slip)
        self._fill(order, fill, abs(fill - price), self.costs.taker_fee_bps * 1e-4)

    def _fill(self, order: Any, price: float, slippage: float, fee_rate: float) -> None:
        self.commission.fee_rate = fee_rate
        before = self.positions[order.data].size
        self._capacity = self._size_within_margin(order, price, fee_rate)
        if self._capacity > 0.0:
            self._execute(order, ago=0, price=price)
        size = self.positions[order.data].size - before
        if size:
            asset = self._panel.assets[self.cerebro.datas.index(order.data)]
            fee = abs(size) * price * fee_rate
            stamp = self._open_times[self._bar]
            self.rows.append((stamp, asset, "fill", size, price, fee, abs(size) * slippage, 0.0))
        if order.alive():  # what the margin cut off is not tried again
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
        room = equity - fee_rate * closing * price - (others + kept * price) / self.account.leverage
        opening = room / (price * (1.0 / self.account.leverage + fee_rate))
        if wanted - closing <= opening:
            return float(wanted)
        return float(closing + max(opening, 0.0))

    def _mark(self) -> None:
        for data, position in self.positions.items():
            close = data.close[0]
            if position.size and close == close:
                self.cash += position.size * (close - position.adjbase)
                position.adjbase = close
        self._value = self.cash
        self.equity_history.append(self.cash)
        self.holdings_history.append([self.positions[data].size for data, *_ in self._assets])


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


class TargetStrategy(bt.Strategy):  # type: ignore[misc]
    """Sends the order that brings the position to the line `target` of current equity."""

    params = (("account", None),)

    def __init__(self) -> None:
        self.reached: list[float] = [0.0] * len(self.datas)  # the target the last order aimed at

    def next(self) -> None:
        broker = self.broker
        equity = broker.cash
        if equity <= 0.0:
            return
        for a, data in enumerate(self.datas):
            close = data.close[0]
            if close != close:
                continue
            target = data.target[0]
            held = broker.positions[data].size
            if target == self.reached[a] and abs(held * close / equity - target) <= self.p.account.rebalance_band:
                continue
            for order in [o for o in broker.pending if o.data is data]:
                broker.cancel(order)
            self.reached[a] = target
            size = target * equity / close - held
            if size > 0.0:
                broker.buy(self, data, size)
            elif size < 0.0:
                broker.sell(self, data, -size)

    def _addnotification(self, order: Any, quicknotify: bool = False) -> None:
        """No Trade objects: the broker keeps the ledger."""
