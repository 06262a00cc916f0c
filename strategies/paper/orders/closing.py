"""Cancelling what is ours and closing positions, for a stop, a halt and the kill switch: it never says more than is so.

A round does all that can be done now, whatever part of it fails, and returns what is left; a failing exchange, symbol, order or
journal keeps nothing else from it. Orders here are reduce-only: one too many can open nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from data.panel import InputError
from strategies.paper.orders.account_rows import Instrument, Position
from strategies.paper.orders.connection import ExchangeError
from strategies.paper.orders.exchange import Order
from strategies.paper.orders.placement import link_id
from strategies.paper.orders.reconcile import Books
from strategies.paper.records.journal import JournalError

FLAT, KEPT = "flat", "position kept"
#: how words of an ending that is not clean begin
NOT_CLEAN = "NOT clean"
_LEG = 9  # of ids of closing orders
_PARTS = 20  # orders of one round and symbol
_LONGEST_S = 30.0


@dataclass(frozen=True)
class Ending:
    """What was reached. clean: no order of ours is left and, where asked, nothing is held. words: for a person."""

    clean: bool
    words: str


class Closing:
    """Rounds of cancelling and closing. first_s: pause after the first round that failed; it doubles up to 30 s."""

    def __init__(self, books: Books, *, pause: Callable[[float], None], first_s: float = 0.2) -> None:
        self.books, self.exchange, self.journal, self.desk = books, books.exchange, books.journal, books.desk
        self._pause, self._first_s = pause, first_s
        self._refusals: dict[str, int] = {}
        self._rules: dict[str, Instrument | None] = {}

    def until_clean(
        self, flatten: bool, last_ms: int, why: str, enough: Callable[[], bool], tell: Callable[[str], None]
    ) -> Ending:
        """Rounds until one is clean or `enough()`. last_ms: as of `round`. tell: hears what is left whenever that changes."""
        pause_s, told, before = self._first_s, "", ""
        while True:
            ending = self.round(flatten, last_ms, why)
            if ending.clean:
                return ending
            if ending.words != told:
                told = ending.words
                self._say(why, told)
                tell(told)
            if enough():
                return ending
            held = self._held_now() if flatten else ""
            pause_s = self._first_s if held and held != before else min(2 * pause_s, _LONGEST_S)
            before = held
            self._pause(pause_s)

    def round(self, flatten: bool, last_ms: int, why: str) -> Ending:
        """Everything once. last_ms: open time of the newest bar known, which may be long ago (or none: 0 and below)."""
        left: list[str] = []
        now, interval = 0, self.books.interval_ms
        try:
            now = self.exchange.server_time_ms()
        except ExchangeError as error:
            left.append(str(error))
        bar = last_ms if last_ms > 0 else now // interval * interval
        self._cancel_known(left)
        for symbol in self.books.symbols:
            self._cancel_open(symbol, left)
        if flatten:
            for symbol in self.books.symbols:
                self._close(symbol, bar, why, left)
        for symbol in self.books.symbols:
            try:
                self.books.sync_executions(max(bar, now) + 3 * interval, None, (symbol,))
            except (ExchangeError, JournalError) as error:
                left.append(f"{symbol}: fills are not in the journal yet ({error})")
        if not left:
            self._cancel_known(left)  # orders called lost, of which a fill has just shown up
        if not left:
            return Ending(True, FLAT if flatten else KEPT)
        return Ending(False, f"{NOT_CLEAN}: {'; '.join(dict.fromkeys(left))}")

    def close(self, symbol: str, last_ms: int, why: str) -> Ending:
        """One symbol, once, and what rests of it: it would open again what was closed. Orders of others stay."""
        left: list[str] = []
        self._close(symbol, last_ms, why, left)
        if any(row["symbol"] == symbol for row in self.journal.unsettled()):
            left = []
            self._cancel_known(left, (symbol,))
            self._close(symbol, last_ms, why, left)
        return Ending(not left, "; ".join(left) or FLAT)

    # orders

    def _cancel_known(self, left: list[str], symbols: Sequence[str] | None = None) -> None:
        """Orders that the journal holds as open or of unknown fate, of all symbols or of some."""
        try:
            rows = self.journal.unsettled()
        except JournalError as error:
            left.append(str(error))
            return
        for row in rows:
            if symbols is not None and row["symbol"] not in symbols:
                continue
            link = str(row["link_id"])
            try:
                if self.desk.settle(row) == "open" and self.desk.cancel(link) is None:
                    left.append(f"{row['symbol']}: order {link} is still open")
            except (ExchangeError, JournalError) as error:
                left.append(f"{row['symbol']}: order {link}: {error}")

    def _cancel_open(self, symbol: str, left: list[str]) -> None:
        """What the exchange lists and this journal has written; a person's orders, and conditional ones, stay."""
        try:
            for order in self.exchange.open_orders(symbol):
                if order.link_id and self.journal.intent(order.link_id) is not None:
                    self.exchange.cancel(symbol, order.link_id)
        except (ExchangeError, JournalError) as error:
            left.append(f"{symbol}: orders could not be cancelled ({error})")

    # positions

    def _held_now(self) -> str:
        try:
            return str([self.books.held(symbol)[0] for symbol in self.books.symbols])
        except ExchangeError:
            return ""

    def _close(self, symbol: str, bar: int, why: str, left: list[str]) -> None:
        reason = ""
        try:
            for row in self._rows(symbol):
                reason = self._reduce(row, bar, why) or reason
            still = self._rows(symbol)
        except ExchangeError as error:
            left.append(f"{symbol}: what is held is not known ({error})")
            return
        for row in still:
            left.append(f"{symbol}: {row.size} still held" + (f" ({reason})" if reason else ""))

    def _rows(self, symbol: str) -> list[Position]:
        return [row for row in self.books.held(symbol)[1] if row.size]

    def _reduce(self, row: Position, bar: int, why: str) -> str:
        """Orders for one row of the position list; why the last of them did not fill, empty where it did."""
        symbol, size = row.symbol, abs(row.size)
        side = "Sell" if row.size > 0 else "Buy"
        for _ in range(_PARTS):
            part, everything = self._part(symbol, size)
            order = Order(
                "", symbol, side, part, reduce_only=True, position_idx=row.position_idx, everything=everything
            )
            filled, reason = self._send(order, bar, why)
            size -= filled
            if filled:
                self._refusals[symbol] = 0
            if reason:
                return reason
            if size <= 0:
                return ""
        return "in parts"

    def _part(self, symbol: str, size: Decimal) -> tuple[Decimal, bool]:
        """(quantity, whether the exchange shall take it from the position). Smaller after every refusal in a row; the third
        in a row leaves the quantity to the exchange."""
        if symbol not in self._rules:
            try:
                self._rules[symbol] = self.exchange.instrument(symbol)
            except (ExchangeError, InputError):
                return size, False
        rules, refusals = self._rules[symbol], self._refusals.get(symbol, 0)
        if rules is None:
            return size, False
        part = min(size, rules.max_market_qty)
        on_grid = rules.round_qty(part) == part and part >= rules.min_qty
        if refusals % 3 == 2 or not on_grid:
            return part, True
        for _ in range(refusals):
            half = rules.round_qty(part / 2)
            part = half if half >= rules.min_qty else part
        return part, False

    def _send(self, order: Order, bar: int, why: str) -> tuple[Decimal, str]:
        """(quantity filled, why not all of it)."""
        try:
            named = replace(order, link_id=self._unused(order.symbol, bar, why))
            status = self.desk.place(named, bar, 0.0)
            state = self.desk.wait(named.link_id) if status in ("open", "filled", "cancelled") else None
            if state is None:
                row = self.journal.intent(named.link_id)
                reason = str(row["reason"] or status) if row is not None else status
                self._refused(order.symbol)
                return Decimal(0), reason
            if state.filled < order.qty:
                return state.filled, f"{state.filled} of {order.qty} filled: {state.reason or state.status}"
            return state.filled, ""
        except JournalError as error:
            return self._send_unwritten(order, str(error))
        except ExchangeError as error:
            self._refused(order.symbol)
            return Decimal(0), str(error)

    def _refused(self, symbol: str) -> None:
        self._refusals[symbol] = self._refusals.get(symbol, 0) + 1
        self._rules.pop(symbol, None)  # they may have changed

    def _send_unwritten(self, order: Order, reason: str) -> tuple[Decimal, str]:
        """The journal cannot be written (a full disk): reduce-only orders may go without it; their fills are found later."""
        try:
            self.exchange.create(replace(order, link_id=f"p-unwritten-{secrets.token_hex(8)}"))
        except ExchangeError as error:
            reason = f"{reason}; {error}"
        return Decimal(0), reason

    def _unused(self, symbol: str, bar: int, why: str) -> str:
        """The first id of this bar that the journal does not hold."""
        number = len(self.journal.rows("SELECT 1 FROM intents WHERE open_ms = ? AND symbol = ?", bar, symbol))
        while True:
            link = link_id(f"{self.journal.identity}/{why}", symbol, bar, _LEG, number)
            if self.journal.intent(link) is None:
                return link
            number += 1

    def _say(self, kind: str, text: str) -> None:
        try:
            self.journal.event(kind, text)
        except JournalError:
            return  # it is told all the same, only not kept


__all__ = ["Closing", "Ending", "FLAT", "KEPT", "NOT_CLEAN"]
