"""Known bugs, planted on purpose: a simulation that does not find them is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from strategies.paper.orders.connection import Ambiguous, Refused
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.placement import Desk
from strategies.paper.orders.rebalance import Rebalancer
from strategies.paper.orders.stops import Stops
from tests.strategies.paper.simulation.disk import Disk

Patch = tuple[type, str, Callable[..., Any]]


def _fresh_ids() -> list[Patch]:
    """An order whose answer was lost is sent again under another id."""
    real, sends = Exchange.create, dict[str, int]()

    def create(self: Exchange, order: Order) -> str:
        sends[order.link_id] = sends.get(order.link_id, 0) + 1
        number = sends[order.link_id]
        return real(self, order if number == 1 else replace(order, link_id=f"{order.link_id}{number}"))

    return [(Exchange, "create", create)]


def _no_look_up() -> list[Patch]:
    """After a timeout the order is taken for refused; nobody looks."""

    def send(self: Desk, order: Order) -> str:
        self.journal.update_intent(order.link_id, status="sent", sends=1)
        try:
            order_id = self.exchange.create(order)
        except (Ambiguous, Refused) as error:
            return self._close(order.link_id, "rejected", str(error))
        self.journal.update_intent(order.link_id, status="open", order_id=order_id)
        return "open"

    return [(Desk, "_send", send)]


def _no_stop_after_restart() -> list[Patch]:
    """The stop is set once an order is filled, and not by a start: a kill in between leaves the position without."""
    return [(Stops, "attached", lambda *_: None), (Stops, "hold", lambda *_: False)]


def _sent_before_written() -> list[Patch]:
    """The order goes out first and into the journal afterwards."""
    real = Desk.place

    def place(self: Desk, order: Order, open_ms: int, reference: float) -> str:
        if self.journal.intent(order.link_id) is None:
            self.exchange.create(order)
        return real(self, order, open_ms, reference)

    return [(Desk, "place", place)]


def _new_id_at_every_start() -> list[Patch]:
    """An order that seems never to have existed is sent under a new id after a restart."""

    def next_attempt(self: Rebalancer, symbol: str, open_ms: int, number: int) -> int:
        query = "SELECT COUNT(*) AS n FROM intents WHERE open_ms = ? AND symbol = ?"
        return 20 * number + int(self.journal.rows(query, open_ms, symbol)[0]["n"])

    return [(Rebalancer, "_next_attempt", next_attempt)]


def _id_reused() -> list[Patch]:
    """Every order of a bar has the same id."""
    return [(Rebalancer, "_next_attempt", lambda *_: 0)]


def _not_synced() -> list[Patch]:
    """The journal's commits are not synced (PRAGMA synchronous=OFF): a power cut takes the newest."""
    return [(Disk, "synced", property(lambda _: False, lambda *_: None))]  # type: ignore[list-item]


BUGS: dict[str, Callable[[], list[Patch]]] = {
    "fresh ids": _fresh_ids,
    "no look-up": _no_look_up,
    "no stop after a restart": _no_stop_after_restart,
    "sent before written": _sent_before_written,
    "new id at every start": _new_id_at_every_start,
    "id reused": _id_reused,
    "not synced": _not_synced,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The bug is there until the block ends."""
    patches = BUGS[name]()
    before = [(holder, what, holder.__dict__.get(what)) for holder, what, _ in patches]
    for holder, what, other in patches:
        setattr(holder, what, other)
    try:
        yield
    finally:
        for holder, what, real in before:
            if real is None:
                delattr(holder, what)
            else:
                setattr(holder, what, real)
