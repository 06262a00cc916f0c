"""What must always hold, looked at from the exchange's side after every step."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from data.standin import Fault
from strategies.paper.decisions.decide import nothing_before
from strategies.paper.decisions.history import History
from strategies.paper.orders.risk import capped
from strategies.paper.records.journal import Journal
from strategies.paper.trader import RUNNING
from tests.strategies.paper.simulation.markets import BAR_S, DECIDED, PATH
from tests.strategies.paper.simulation.plan import CODES

if TYPE_CHECKING:
    from tests.strategies.paper.simulation.session import Session

#: a position of ours may be without its stop for so long
BARE_S = 2.0
#: of ids of orders that close a position while the journal cannot be written
UNWRITTEN = "p-unwritten-"
_CLOSING = re.compile(r"-9-[0-9]+$")
#: a stop, or the order that closes a position whose stop is refused
_BRINGS_STOP = ("/v5/position/trading-stop", "/v5/order/create")
_KEYS_REFUSED = frozenset(f"code_{code}" for code in CODES["keys"])


class Auditor:
    """Holds onto the exchange of a session; `found` says what is wrong."""

    def __init__(self, session: Session) -> None:
        self.session, self.found = session, []  # type: ignore[var-annotated]
        self.exchange = session.private.exchange
        self.bare: dict[Any, float] = {}
        self.bare_most_s = 0.0
        self.disturbed_bar = self.hindered_bar = -9.0
        self.by_hand: set[Any] = set()  # places whose stop went when a person turned the position
        self._wrap()

    def _wrap(self) -> None:
        exchange, private = self.exchange, self.session.private
        accept, fill, set_stop, publish = exchange.accept, exchange._fill, exchange.set_stop, private._publish
        faults = self.session.world.faults
        draw = faults.draw

        def accepted(body: dict[str, Any]) -> Any:
            ticket = accept(body)
            self._written(ticket)
            return ticket

        def filled(ticket: Any, qty: Decimal, price: Decimal, maker: bool) -> None:
            before = exchange.account.size(ticket.symbol)
            fill(ticket, qty, price, maker)
            self._within(ticket, before, price)

        def stopped(symbol: str, index: int, stop: Decimal) -> None:
            set_stop(symbol, index, stop)
            self.look()

        def published(topic: str, rows: list[Any]) -> None:
            publish(topic, rows)
            if topic == "position":
                self.look()

        def drawn(path: str) -> Fault | None:
            fault = draw(path)
            if fault is not None and (path in _BRINGS_STOP or fault.kind in _KEYS_REFUSED):
                self.hindered()
            return fault

        exchange.accept, exchange._fill, exchange.set_stop = accepted, filled, stopped  # type: ignore[method-assign]
        private._publish = exchange.publish = published  # type: ignore[method-assign]
        faults.draw = drawn  # type: ignore[method-assign]

    def disturbed(self) -> None:
        """A person or the exchange changes the position: what a decision may lead to is no longer known at this bar."""
        self.disturbed_bar = self.session.hub.now / BAR_S

    def hindered(self) -> None:
        """A trader has just started, or the exchange refuses what brings a position to its stop, or the keys."""
        self.hindered_bar = self.session.hub.now / BAR_S

    @property
    def _calm(self) -> bool:
        return self.session.hub.now / BAR_S - self.disturbed_bar > 3.0

    # at every order and fill

    def _written(self, ticket: Any) -> None:
        """An order of the trader is in its journal before it is at the exchange."""
        link = ticket.link_id
        if not link:
            return
        if link.startswith(UNWRITTEN):
            if not (ticket.reduce_only and self.session.disk.refused):
                self.session.wrong(f"order {link} went without a journal")
            return
        rows = self.session.disk.rows("SELECT side, status FROM intents WHERE link_id = ?", link)
        if not rows:
            self.session.wrong(f"order {link} is at the exchange and not in the journal")
        elif rows[0][0] != ticket.side:
            self.session.wrong(f"order {link} is a {ticket.side} at the exchange, a {rows[0][0]} in the journal")

    def _within(self, ticket: Any, before: Decimal, price: Decimal) -> None:
        """A fill of ours never leads beyond what was decided at its bar: no decision is carried out twice, no closing order opens."""
        link, symbol, session = ticket.link_id, ticket.symbol, self.session
        after = self.exchange.account.size(symbol)
        if not link or not self._calm:
            return
        if _CLOSING.search(link) or ticket.reduce_only:
            if self.exchange.account.holding(symbol, ticket.index).size * ticket.sign > 0:
                session.wrong(f"{link} closes and has led from {before} to {after} {symbol}")
            return
        rows = session.disk.rows("SELECT open_ms FROM intents WHERE link_id = ?", link)
        if not rows:
            return
        decided = session.disk.rows("SELECT symbol, target FROM decisions WHERE open_ms = ? ORDER BY rowid", rows[0][0])
        targets = dict(zip([d[0] for d in decided], capped([d[1] for d in decided], 3.0), strict=True))
        barred = session.disk.rows("SELECT value FROM meta WHERE key = ?", f"barred:{symbol}")
        target = 0.0 if barred and float(barred[0][0] or 0) * targets[symbol] > 0 else targets[symbol]
        worth = float(self.exchange.account.equity(self.exchange.marks())) / float(price)
        step = float(session.world.market.instruments[symbol].qty_step)
        beyond = ticket.sign * (float(after) - target * worth)
        if beyond > 0.05 * abs(target) * worth + 0.003 * worth + step:
            session.wrong(f"{link} has led from {before} to {after} {symbol}; its bar asked for {target * worth:.4f}")

    def look(self) -> None:
        """How long positions are without their stop."""
        if not self.session.plan.stop_loss:
            return
        now, holdings = self.session.hub.now, self.exchange.account.holdings
        for place, h in holdings.items():
            if h.size and not h.stop:
                if place not in self.bare and abs(now - self.disturbed_bar * BAR_S) < 1e-6:
                    self.by_hand.add(place)
                self.bare.setdefault(place, now)
            elif place in self.bare:
                self._bare(place, now - self.bare.pop(place))
                self.by_hand.discard(place)

    def _bare(self, place: Any, seconds: float) -> None:
        if not self._calm:  # a person's position gets its stop at the next look
            return
        # or at the first look of a trader that nothing keeps from it; only a position that a person left without its stop
        hindered = self.session.process is None or self.session.hub.now / BAR_S - self.hindered_bar <= 3.0
        if place in self.by_hand and hindered:
            return
        self.bare_most_s = max(self.bare_most_s, seconds)
        if seconds > BARE_S:
            self.session.wrong(f"a position was without its stop for {seconds:.1f} s")

    # at every bar, death and at the end

    def bar(self) -> None:
        for place in list(self.bare):
            if not self.exchange.account.holdings[place].size:
                del self.bare[place]
                self.by_hand.discard(place)
            elif self.session.hub.now - self.bare[place] > BARE_S:
                self._bare(place, self.session.hub.now - self.bare[place])

    def alive(self) -> None:
        """The faults are gone for some bars: it trades again, on the newest bar."""
        session, trader = self.session, self.session.trader
        if trader is None:
            return
        newest = session.world.clock.now_ms() // (1000 * BAR_S) * 1000 * BAR_S - 1000 * BAR_S
        rows = session.disk.rows("SELECT MIN(acted) FROM decisions WHERE open_ms = ?", newest)
        if trader.status != RUNNING or rows[0][0] != 1:
            session.wrong(
                f"faults have gone, and it does not trade: {trader.status}: {trader.why} (newest bar: acted {rows[0][0]})"
            )

    def end(self) -> None:
        """Journal, exchange and backtest, once all is over."""
        session, exchange, wrong = self.session, self.exchange, self.session.wrong
        plan, journal = session.plan, Journal(PATH)
        fills = {f.exec_id: f for f in exchange.fills}
        known = {e.exec_id: e for e in journal.executions()}
        if lost := set(fills) - set(known):
            wrong(f"{len(lost)} of {len(fills)} fills are not in the journal: {self._say(fills[min(lost)])}")
        if invented := set(known) - set(fills):
            wrong(f"{len(invented)} fills of the journal never were: {known[min(invented)]}")
        for key in set(known) & set(fills):
            if (known[key].qty, known[key].price, known[key].fee) != (fills[key].qty, fills[key].price, fills[key].fee):
                wrong(f"a fill is another one in the journal: {known[key]}")
        accepted = [link for link in session.private.accepted if link]
        if len(accepted) != len(set(accepted)):
            wrong("an order exists twice")
        self._books(journal)
        ended = journal.get("ended")
        sizes = {s: exchange.account.size(s) for s in session.scene.symbols}
        alive = [t.link_id for t in exchange.alive.values() if t.link_id and journal.intent(t.link_id) is not None]
        if alive:
            wrong(f"stopped, and orders are alive: {alive}")
        if plan.end != "stop" and any(h.size for h in exchange.account.holdings.values()):
            wrong(f"asked to be flat, ended with {sizes} ({ended})")
        if plan.end == "stop" and ended != "position kept":
            wrong(f"asked to stop: {ended}")
        if plan.end != "stop" and ended != "flat":
            wrong(f"asked to be flat: {ended}")
        if session.code != 0:
            wrong(f"a clean end with exit code {session.code}: {journal.get('state')}: {journal.get('why')}")
        if open_ := journal.unsettled():
            wrong(f"orders whose fate is open at the end: {[tuple(r) for r in open_]}")
        self._fates(journal)
        self._targets(journal)

    def _fates(self, journal: Journal) -> None:
        """What the journal says of an order is what became of it."""
        for link, ticket in self.exchange.by_link.items():
            row = journal.intent(link)
            if row is None and not link.startswith(UNWRITTEN):
                self.session.wrong(f"order {link} was taken, and the journal has forgotten it")
            elif row is not None and ticket.filled and row["status"] in ("rejected", "lost"):
                self.session.wrong(
                    f"order {link} is {row['status']} in the journal ({row['reason']}), and {ticket.filled} were filled"
                )
            elif row is not None and (row["status"] == "filled") != (ticket.status == "Filled"):
                self.session.wrong(f"order {link} is {row['status']} in the journal, {ticket.status} at the exchange")

    def _books(self, journal: Journal) -> None:
        session, exchange = self.session, self.exchange
        books = session.books
        assert books is not None
        books.journal = journal
        marks = {symbol: exchange.mark(symbol) for symbol in session.scene.symbols}
        for symbol in session.scene.symbols:
            if books.size(symbol) != exchange.account.size(symbol):
                session.wrong(
                    f"the journal holds {books.size(symbol)} {symbol}, the exchange {exchange.account.size(symbol)}"
                )
        if abs(books.equity(marks) - exchange.account.equity(marks)) > Decimal("1e-6"):
            session.wrong(
                f"equity {books.equity(marks)} in the journal, {exchange.account.equity(marks)} at the exchange"
            )

    def _targets(self, journal: Journal) -> None:
        """The targets are those of the backtest over the same bars, to the last bit."""
        rows = journal.rows("SELECT open_ms, symbol, target FROM decisions ORDER BY open_ms, rowid")
        if not rows:
            return
        strategy = self.session.scene.strategy
        history = History.of(journal, strategy)
        first = history.bar(rows[0]["open_ms"])
        batch = DECIDED(strategy, history, nothing_before(strategy), first, history.bar(rows[-1]["open_ms"]) + 1)
        told = {(r["open_ms"], r["symbol"]): repr(r["target"]) for r in rows}
        for d in batch:
            if told.get((d.open_ms, d.symbol)) != repr(d.target):
                self.session.wrong(
                    f"target of {d.symbol} at {d.open_ms}: {told.get((d.open_ms, d.symbol))}, the backtest says {d.target!r}"
                )
                return

    @staticmethod
    def _say(f: Any) -> str:
        return f"{f.kind} {f.side} {f.qty} {f.ticket.symbol} at {f.price}, order {f.ticket.link_id or f.ticket.created_by!r}, {f.time_ms}"
