"""From the targets of a bar to orders of all its symbols: sizes from one equity, what frees margin first, each symbol marked when done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from data.panel import InputError
from strategies.paper.orders.connection import Ambiguous, Unavailable
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.placement import Desk, Leg, legs, link_id, too_small, wanted_size
from strategies.paper.orders.reconcile import Books
from strategies.paper.orders.ret_codes import NOT_REDUCING
from strategies.paper.orders.risk import Risk, capped
from strategies.paper.orders.rules import Rules
from strategies.paper.orders.stops import Stops
from strategies.paper.records.journal import Journal

Quote = tuple[Decimal, Decimal, Decimal]  # best bid, best ask, last price


@dataclass
class _Change:
    """What is left to do for one symbol."""

    symbol: str
    target: float
    close: float
    legs: list[tuple[int, Leg, bool]]  # number, leg, whether it frees margin
    notes: list[str] = field(default_factory=list)
    volatility: float = math.nan
    reached: bool = True  # False: some of it was not done, and is tried again at the next bar


@dataclass
class Rebalancer:
    """Carries out decisions. band: drift of a weight that is traded back (as the backtest's rebalance_band)."""

    exchange: Exchange
    journal: Journal
    desk: Desk
    books: Books
    risk: Risk
    rules: Rules
    stops: Stops
    listen: Callable[[float], None]
    hedge: bool
    limit_orders: bool
    band: float
    reprice_s: float
    order_poll_s: float
    told: Callable[[str], None] = lambda _: None  # of refusals
    closed: dict[str, str] = field(default_factory=dict)  # symbols that do not trade at present: why

    def carry_out(
        self,
        open_ms: int,
        rows: Mapping[str, Any],
        held: Mapping[str, Decimal],
        equity: Decimal,
        closes: Mapping[str, float],
        until_ms: int,
    ) -> None:
        """Brings every symbol whose row is not marked yet to its target. Raises what left one undone; the others are done by then.

        rows: decisions of the bar by symbol. until_ms: as of `Books.sync_executions`.
        """
        for symbol, why in self.rules.daily(open_ms).items():
            self.journal.event("closed", why)
            self.told(why)
            self.closed[symbol] = why
        targets = dict(
            zip(
                rows,
                capped(
                    [self.stops.allowed(symbol, float(r["target"])) for symbol, r in rows.items()],
                    self.risk.limits.max_position,
                ),
                strict=True,
            )
        )
        changes = []
        for symbol, row in rows.items():
            if not row["acted"]:
                change = self._change(symbol, targets[symbol], open_ms, held[symbol], equity, closes.get(symbol))
                if change is not None:
                    change.volatility = float(row["volatility"] or "nan")
                    changes.append(change)
        undone: Unavailable | None = None
        for freeing in (True, False):
            for change in list(changes):
                symbol = change.symbol
                if not change.notes and self.books.size(symbol) != held[symbol]:  # a stop that was hit, say
                    undone = undone or Unavailable(f"the position of {symbol} has changed since its order was sized")
                    changes.remove(change)
                    continue
                try:
                    for number, leg, _ in [part for part in change.legs if part[2] == freeing]:
                        note, reached = self._trade(change, leg, number, open_ms)
                        change.notes.append(note)
                        change.reached = change.reached and reached
                except _NoPrice as error:  # stops this symbol only
                    undone = undone or error.cause
                    changes.remove(change)
                    continue
                if not freeing or all(frees for _, _, frees in change.legs):
                    self._done(change, open_ms, until_ms)
                    changes.remove(change)
        if undone is not None:
            raise undone

    def _change(
        self, symbol: str, target: float, open_ms: int, held: Decimal, equity: Decimal, close: float | None
    ) -> _Change | None:
        """None where nothing is to be sent; the row is marked then."""
        if symbol in self.closed or close is None:
            self.journal.acted(open_ms, f"skipped: {self.closed.get(symbol, 'no price is known yet')}", symbol)
            return None
        reached = float(self.journal.get(f"reached:{symbol}", "0"))
        wanted = wanted_size(target, reached, held, equity, close, self.rules.instruments[symbol], self.band)
        if wanted is None:
            self.journal.acted(open_ms, "as it was", symbol)
            return None
        wanted, cut = self.rules.within_tier(symbol, wanted, close)
        if cut:
            self.journal.event("rules", f"{symbol}: {cut}")
        query = "SELECT reduce_only FROM intents WHERE open_ms = ? AND symbol = ? AND status = 'filled'"
        filled = self.journal.rows(query, open_ms, symbol)
        # in hedge mode: one side was closed, the other is not open yet
        half = held == 0 and wanted != 0 and all(row["reduce_only"] for row in filled)
        if filled and not half and abs(float(wanted - held)) * close / float(equity) <= self.band:
            self.journal.set(**{f"reached:{symbol}": repr(target)})
            self.journal.acted(open_ms, "filled before an interruption", symbol)
            return None
        # by what it does, so that a leg that is left of two keeps its number: under another id it could be sent twice
        parts = [(int(self.hedge and not leg.reduce_only), leg) for leg in legs(held, wanted, self.hedge)]
        frees = abs(wanted) <= abs(held)
        return _Change(
            symbol, target, close, [(k, leg, frees if len(parts) == 1 else leg.reduce_only) for k, leg in parts]
        )

    def _done(self, change: _Change, open_ms: int, until_ms: int) -> None:
        if change.reached:
            self.journal.set(**{f"reached:{change.symbol}": repr(change.target)})
        self.books.sync_executions(until_ms, None, (change.symbol,))
        if self.stops.stop_loss and change.notes:
            self.stops.moved(change.symbol, change.volatility)
            self.stops.hold(change.symbol, self.books.held(change.symbol)[1])
        self.journal.acted(open_ms, "; ".join(change.notes) or "already there", change.symbol)

    def _trade(self, change: _Change, leg: Leg, number: int, open_ms: int) -> tuple[str, bool]:
        """One leg of a change of position: what became of it, for the journal, and whether that is all that can be done.

        After a refusal the exchange's rules are asked for again; where they have changed, the leg is rounded anew and tried once more.
        """
        symbol = change.symbol
        note, reached = self._trade_once(change, leg, number, open_ms)
        if not note.startswith("refused"):
            return note, reached
        try:
            changed = self.rules.ask(symbol)
        except Unavailable:
            return note, reached
        except InputError as error:
            self.journal.event("closed", str(error))
            self.closed[symbol] = str(error)
            return f"{note}; {error}", reached
        if not changed:
            self.told(f"{symbol}: {leg.side} {leg.qty}: {note}")
            return note, reached
        again, reached = self._trade_once(change, leg, number, open_ms)
        if again.startswith("refused"):
            self.told(f"{symbol}: {leg.side} {leg.qty}: {note}; rounded anew: {again}")
        return f"{note}; rounded anew: {again}", reached

    def _trade_once(self, change: _Change, leg: Leg, number: int, open_ms: int) -> tuple[str, bool]:
        symbol, close = change.symbol, change.close
        instrument = self.rules.instruments[symbol]
        stop = None if leg.reduce_only else self.stops.attached(symbol, leg.side, close, change.volatility)
        on_grid = instrument.round_qty(leg.qty)
        if not leg.reduce_only or on_grid:
            leg = replace(leg, qty=on_grid)
        small = too_small(leg, close, instrument)
        if small:
            self.journal.event("skip", f"{symbol}: {small}")
            return f"skipped: {small}", True
        bid, ask, price = self._quote(symbol)
        outside = self.risk.outside_collar(float(price), close)
        if outside:
            self.journal.event("collar", f"{symbol}: {outside}")
            return f"skipped: {outside}", False
        left = leg.qty
        attempt = self._next_attempt(symbol, open_ms, number)
        if self.limit_orders:
            for _ in range(3):
                self.risk.check_rate(open_ms, symbol)
                touch = bid if leg.side == "Buy" else ask
                limit = instrument.round_price(touch, leg.side == "Sell")
                order = self._order(symbol, leg, left, number, attempt, open_ms, limit, stop)
                status = self.desk.place(order, open_ms, float(price))
                if status == "unknown":
                    raise Ambiguous(f"the fate of {order.link_id} is unknown")
                attempt += 1
                if status != "rejected":  # its fills may not be in the journal yet: what the exchange says of it counts
                    state = self._rest(order) if status == "open" else self.desk.wait(order.link_id)
                    if state is None:
                        return f"open: {order.link_id} has not closed yet", False
                    left -= state.filled
                if left < instrument.min_qty:
                    return f"limit: {leg.side} {leg.qty} filled", True
                bid, ask, price = self.exchange.ticker(symbol)
        while left > 0:
            self.risk.check_rate(open_ms, symbol)
            part = min(left, instrument.max_market_qty)
            order = self._order(symbol, leg, part, number, attempt, open_ms, None, stop)
            status = self.desk.place(order, open_ms, float(price))
            if status == "rejected":
                return self._refused(order), False
            if status == "unknown":
                raise Ambiguous(f"the fate of {order.link_id} is unknown")
            state = self.desk.wait(order.link_id)
            if state is None:
                return f"open: {order.link_id} has not closed yet", False
            left -= part
            attempt += 1
            if state.filled < part:
                return f"market: {leg.side} {state.filled} of {leg.qty} filled ({state.reason or state.status})", False
        return f"market: {leg.side} {leg.qty} filled", True

    def _quote(self, symbol: str) -> Quote:
        try:
            return self.exchange.ticker(symbol)
        except Unavailable as error:
            raise _NoPrice(error) from None

    def _rest(self, order: Order) -> Any:
        """A post-only order at the touch: it may rest for a while, then it is cancelled; its fills are kept."""
        deadline = time.monotonic() + self.reprice_s
        while time.monotonic() < deadline:
            state = self.exchange.order(order.symbol, order.link_id)
            if state is not None and state.closed:
                return self.desk.wait(order.link_id)
            self.listen(self.order_poll_s)
        return self.desk.cancel(order.link_id)

    def _refused(self, order: Order) -> str:
        row = self.journal.intent(order.link_id)
        reason = str(row["reason"]) if row is not None else ""
        if f"retCode {NOT_REDUCING}:" in reason:
            held, _ = self.books.held(order.symbol)
            return f"refused: nothing to reduce, the position is {held}"
        return f"refused: {reason}"

    def _order(
        self,
        symbol: str,
        leg: Leg,
        qty: Decimal,
        number: int,
        attempt: int,
        open_ms: int,
        price: Decimal | None,
        stop: Decimal | None,
    ) -> Order:
        link = link_id(self.journal.identity, symbol, open_ms, number, attempt)
        kind = "Market" if price is None else "Limit"
        everything = leg.reduce_only and self.rules.instruments[symbol].round_qty(qty) != qty
        return Order(link, symbol, leg.side, qty, kind, price, leg.reduce_only, leg.position_idx, everything, stop)

    def _next_attempt(self, symbol: str, open_ms: int, number: int) -> int:
        """The first unused attempt of a leg; one whose order seems never to have existed is used again (same id)."""
        attempt = 0
        account = self.journal.identity
        while (row := self.journal.intent(link_id(account, symbol, open_ms, number, attempt))) is not None:
            if row["status"] == "lost":
                return attempt
            attempt += 1
        return attempt


class _NoPrice(Exception):
    """The ticker of a symbol did not come, before anything was sent for it."""

    def __init__(self, cause: Unavailable) -> None:
        super().__init__(str(cause))
        self.cause = cause
