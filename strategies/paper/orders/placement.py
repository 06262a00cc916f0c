"""From a target to orders: sizes and ids, and sending an order so that it exists at most once whatever is lost on the way.

The id of an order is derived from (journal, symbol, bar, leg, attempt): the same decision always gives the same id, and the
exchange refuses a second one; another journal, also of the same name, has other ids. An order whose answer was lost is looked
up; only when the exchange knows none, it is sent again, under the same id. An order that was refused is not.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from strategies.paper.orders.account_rows import Instrument, OrderState
from strategies.paper.orders.connection import Ambiguous, ExchangeError, Refused, Unavailable
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.ret_codes import DUPLICATE
from strategies.paper.records.journal import Journal, now_ms

#: the exchange forgets cancelled and rejected orders after a day
FORGOTTEN_MS = 86_400_000
#: an order that the exchange calls a duplicate, without ever having acknowledged it, is listed within so long, or it is not there
SHOWN_MS = 60_000
#: how often one order is sent at most, while each time nobody can say whether it was taken
MOST_SENDS = 8
#: fates that are settled
CLOSED = ("filled", "cancelled", "rejected")
#: what `link_id` makes
OWN_ID = re.compile(r"p[0-9a-f]{8}-[A-Za-z0-9]{1,12}-[0-9a-z]{1,9}-[0-9]-[0-9]+")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def link_id(journal: str, symbol: str, open_ms: int, leg: int, attempt: int) -> str:
    """At most 36 characters of [A-Za-z0-9_-]. leg: 0 or 1 (hedge mode closes one side, then opens the other), 9: closing.

    >>> link_id("btcusdt-testnet-1a2b3c/4f", "BTCUSDT", 1_704_067_200_000, 0, 1)
    'pb8228c45-BTCUSDT-s6k2o0-0-1'
    """
    short = hashlib.sha256(f"{journal}/{symbol}".encode()).hexdigest()[:8]
    name = re.sub("[^A-Za-z0-9]", "", symbol)[:12]
    bar, value = "", open_ms // 1000
    while value:
        value, digit = divmod(value, 36)
        bar = _DIGITS[digit] + bar
    return f"p{short}-{name}-{bar}-{leg}-{attempt}"


def wanted_size(
    target: float, reached: float, held: Decimal, equity: Decimal, close: float, instrument: Instrument, band: float
) -> Decimal | None:
    """The position to hold, in steps of the instrument; None where the backtest would not trade either.

    target: fraction of equity. reached: target of the last order. The rule of `strategies.backtest.perpetual.TargetStrategy`: trade
    when the target has changed, or the weight has drifted from it by more than `band`.
    """
    if equity <= 0:
        return None
    weight = float(held) * close / float(equity)
    if target == reached and abs(weight - target) <= band:
        return None
    return instrument.round_qty(target * float(equity) / close)


@dataclass(frozen=True)
class Leg:
    """One order's worth of change."""

    side: str
    qty: Decimal
    reduce_only: bool
    position_idx: int


def legs(held: Decimal, wanted: Decimal, hedge: bool) -> list[Leg]:
    """Orders from one position to another: exits are reduce-only; hedge mode closes one side before it opens the other."""
    change = wanted - held
    if change == 0:
        return []
    side = "Buy" if change > 0 else "Sell"
    if held * wanted < 0 and not hedge:
        return [Leg(side, abs(change), False, 0)]
    parts = [held, wanted] if held * wanted < 0 else [change]
    out = []
    for k, part in enumerate(parts):
        closing = (held != 0 and abs(wanted) < abs(held) and held * wanted >= 0) or (len(parts) == 2 and k == 0)
        long = held > 0 if closing else wanted > 0
        out.append(Leg(side, abs(part), closing, (1 if long else 2) if hedge else 0))
    return out


def too_small(leg: Leg, price: float, instrument: Instrument) -> str:
    """Why the exchange would refuse this quantity; empty where it would not. Exits have no minimum value."""
    if leg.qty < instrument.min_qty:
        return f"quantity {leg.qty} is below the minimum {instrument.min_qty}"
    if not leg.reduce_only and float(leg.qty) * price < float(instrument.min_notional):
        return f"order of {float(leg.qty) * price:.2f} is below the minimum value {instrument.min_notional}"
    return ""


def _another(found: OrderState, order: Order) -> bool:
    """Whether the exchange has something else under the id of an order than what was sent."""
    same = (found.symbol or order.symbol, found.side) == (order.symbol, order.side)
    return not same or (found.qty > order.qty and not order.everything)


class Desk:
    """Sends orders and finds out what became of them. settle_s: how long an order may take to close; poll_s: between looks."""

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        *,
        settle_s: float = 20.0,
        poll_s: float = 0.5,
        tries: int = 4,
        listen: Callable[[float], None] = time.sleep,
    ) -> None:
        self.exchange, self.journal = exchange, journal
        self.settle_s, self.poll_s, self.tries = settle_s, poll_s, tries
        self._listen = listen  # waits, and takes what streams bring meanwhile

    def place(self, order: Order, open_ms: int, reference: float) -> str:
        """Write the intent, send, and find out: the intent's status afterwards ('unknown' where nobody can tell yet)."""
        known = self.journal.intent(order.link_id)
        if known is not None and known["status"] == "lost":
            # looked up in vain before a restart: it may still show up, so the same id is used again, never a new one
            self.journal.update_intent(
                order.link_id, side=order.side, qty=str(order.qty), kind=order.kind,
                price=None if order.price is None else str(order.price), reduce_only=int(order.reduce_only),
                position_idx=order.position_idx, status="intended", reference=reference,
            )  # fmt: skip
            return self._send(order)
        self.journal.intend(
            order.link_id, open_ms=open_ms, symbol=order.symbol, side=order.side, qty=str(order.qty), kind=order.kind,
            price=None if order.price is None else str(order.price), reduce_only=int(order.reduce_only),
            position_idx=order.position_idx, reference=reference,
        )  # fmt: skip
        return self._send(order)

    def _send(self, order: Order) -> str:
        row = self.journal.intent(order.link_id)
        sent = 0 if row is None else int(row["sends"])
        for send in range(sent + 1, min(sent + self.tries, MOST_SENDS) + 1):
            self.journal.update_intent(order.link_id, status="sent", sends=send)
            try:
                order_id = self.exchange.create(order)
                self.journal.update_intent(order.link_id, status="open", order_id=order_id)
                return "open"
            except Refused as error:
                return self._refused(order, error)
            except Ambiguous as error:
                self.journal.event("order", f"{order.link_id}: answer lost ({error}); looking it up")
                self.journal.update_intent(order.link_id, status="unknown", reason=str(error))
            found = self._find(order.link_id)
            if found is not None:
                return self._adopt(order, found)
            if (told := self._status(order.link_id)) != "unknown":
                return told  # by the stream, while it was looked for
            if send < MOST_SENDS:
                self.journal.event("order", f"{order.link_id}: the exchange knows no such order; sent again, same id")
        row = self.journal.intent(order.link_id)
        if row is not None and int(row["sends"]) >= MOST_SENDS:
            return self._close(order.link_id, "rejected", f"not taken in {MOST_SENDS} sends; last: {row['reason']}")
        return "unknown"

    def _refused(self, order: Order, error: Refused) -> str:
        """The exchange said no, or that the id exists. Looked up once: whatever it said, an order that is there is there. A no to
        a second sending says nothing of the first, whose answer was lost: looked up as long as any order in doubt."""
        row = self.journal.intent(order.link_id)
        in_doubt = error.code == DUPLICATE or (row is not None and row["sends"] > 1)
        try:
            found = self._find(order.link_id) if in_doubt else self.exchange.order(order.symbol, order.link_id)
        except Unavailable:
            if in_doubt:
                self.journal.update_intent(order.link_id, status="unknown", reason=str(error))
                return "unknown"
            found = None
        if found is None:
            if (told := self._status(order.link_id)) in CLOSED:
                return told  # by the stream, while it was looked for
            if in_doubt:
                status = "open" if error.code == DUPLICATE else "unknown"
                self.journal.update_intent(order.link_id, status=status, reason=str(error))
                return status
            return self._close(order.link_id, "rejected", str(error))
        if _another(found, order) and row is not None and row["sends"] == 1:
            return self._close(order.link_id, "rejected", f"its id belongs to another order ({found.side} {found.qty})")
        self.journal.event("order", f"{order.link_id} exists already: adopted")
        return self._adopt(order, found)

    def _adopt(self, order: Order, found: OrderState) -> str:
        """Takes what is there under the id that was sent. Unavailable where an earlier sending, called lost, has arrived and asks for
        something else than this one: it is ours, and what is left to do is to be found anew."""
        if not _another(found, order):
            self._note(found)
            return self._status(order.link_id)
        self.journal.update_intent(order.link_id, side=found.side, qty=str(found.qty))
        self._note(found)
        raise Unavailable(f"{order.link_id} was taken as it was sent before: {found.side} {found.qty}")

    def _find(self, link: str) -> OrderState | None:
        """Looks several times: an order may show up late. Unavailable where the exchange does not answer."""
        for attempt in range(self.tries):
            if attempt:
                self._listen(self.poll_s * 2 ** (attempt - 1))
            found = self.exchange.order(self._symbol(link), link)
            if found is not None:
                return found
        return None

    def look_up(self, link: str) -> str:
        """Settles an intent whose fate is open. An order the exchange does not know after all looks never existed."""
        found = self._find(link)
        if found is not None:
            self._note(found)
            return self._status(link)
        row = self.journal.intent(link)
        if row is not None and row["status"] in CLOSED:
            return str(row["status"])  # told by the stream while it was looked for
        if row is not None and row["status"] == "open":
            acknowledged = row["order_id"] is not None
            if now_ms() - row["written_ms"] < (FORGOTTEN_MS if acknowledged else SHOWN_MS):
                said = "was acknowledged" if acknowledged else "exists, says the exchange"
                raise Unavailable(f"{link} {said}, but the exchange does not show it yet")
        return self._close(link, "lost", "the exchange knows no such order")

    def _symbol(self, link: str) -> str:
        row = self.journal.intent(link)
        assert row is not None  # an order is journaled before anybody asks for it
        return str(row["symbol"])

    def _status(self, link: str) -> str:
        row = self.journal.intent(link)
        return "" if row is None else str(row["status"])

    def wait(self, link: str, longest_s: float | None = None) -> OrderState | None:
        """Until the order is closed; None where it still is not after `longest_s` (`settle_s`)."""
        deadline = time.monotonic() + (self.settle_s if longest_s is None else longest_s)
        pause = self.poll_s / 8
        while True:
            state = self.exchange.order(self._symbol(link), link)
            if state is not None:
                self._note(state)
                if state.closed:
                    return state
            if time.monotonic() > deadline:
                return None
            self._listen(pause)
            pause = min(2 * pause, self.poll_s)

    def cancel(self, link: str) -> OrderState | None:
        """Cancel and learn the fate; fills that were faster are kept. Asked again, with growing pauses, while the order stays open."""
        deadline, pause = time.monotonic() + self.settle_s, 2 * self.poll_s
        while True:
            try:
                self.exchange.cancel(self._symbol(link), link)
            except ExchangeError as error:
                self.journal.event("order", f"{link}: cancel: {error}")
            left = deadline - time.monotonic()
            state = self.wait(link, min(pause, left))
            if state is not None or pause >= left:
                return state
            pause *= 2

    def settle(self, row: Any) -> str:
        """Finds out about one order of the journal whose fate is open: its status afterwards."""
        if row["status"] == "intended" and not row["sends"]:
            return self._close(row["link_id"], "lost", "never sent")
        return self.look_up(row["link_id"])

    def settle_all(self) -> list[str]:
        """Finds out about every order whose fate is open; returns the ids of those that are alive at the exchange."""
        return [str(row["link_id"]) for row in self.journal.unsettled() if self.settle(row) == "open"]

    def note_stream(self, state: OrderState) -> None:
        """An update from the private stream; late ones never reopen a closed order."""
        row = self.journal.intent(state.link_id)
        if row is not None and row["status"] not in CLOSED:
            self._note(state)

    def _note(self, state: OrderState) -> None:
        status = "open"
        if state.closed:
            status = "filled" if state.status == "Filled" else "rejected" if state.status == "Rejected" else "cancelled"
        self.journal.update_intent(
            state.link_id, status=status, order_id=state.order_id, filled=str(state.filled), average=str(state.average),
            **({"settled_ms": now_ms(), "reason": state.reason} if state.closed else {}),
        )  # fmt: skip

    def _close(self, link: str, status: str, reason: str) -> str:
        self.journal.update_intent(link, status=status, reason=reason, settled_ms=now_ms())
        self.journal.event("order", f"{link}: {status}: {reason}")
        return status


__all__ = ["Desk", "Leg", "Unavailable", "legs", "link_id", "too_small", "wanted_size"]
