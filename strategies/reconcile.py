"""Journal against exchange: orders whose fate is open, fills that were missed, positions and orders that are not ours.

The same code runs at every start, after every reconnection and before every order: there is no other way to begin.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from data.panel import InputError
from strategies.account_rows import Position, Wallet
from strategies.desk import Desk
from strategies.exchange import Exchange, ExchangeError, Order, Unavailable
from strategies.journal import Execution, Journal, Ledger
from strategies.risk import Halt

#: why of a stop that did not reach the exchange
NOT_CLEAN = "orders could not be cancelled: look at the account"
FOREIGN = ("halt", "adopt", "flatten")


class Books:
    """What we hold and own, by the journal and by the exchange. foreign: what happens to positions and orders not ours."""

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        desk: Desk,
        symbol: str,
        interval_ms: int,
        *,
        foreign: str,
        hedge: bool,
        pause: Callable[[float], None],
    ) -> None:
        if foreign not in FOREIGN:
            raise InputError(f"--foreign must be one of {', '.join(FOREIGN)}, not {foreign!r}")
        self.exchange, self.journal, self.desk, self.symbol = exchange, journal, desk, symbol
        self.interval_ms, self.foreign, self.hedge = interval_ms, foreign, hedge
        self._pause = pause

    # reading

    def ledger(self) -> Ledger:
        return self.journal.ledger()

    def size(self) -> Decimal:
        """The position by the journal: where it began plus every execution."""
        return Decimal(self.journal.get("baseline_size", "0")) + self.ledger().size

    def equity(self, mark: Decimal) -> Decimal:
        """Equity by the journal alone, at a mark price."""
        size, average = (Decimal(self.journal.get(f"baseline_{k}", "0")) for k in ("size", "average"))
        began = Decimal(self.journal.get("baseline_wallet", "0"))
        return began + size * (mark - average) + self.ledger().profit(mark)

    def wallet_balance(self, average: Decimal) -> Decimal:
        """Wallet balance by the journal: equity at the position's own average price (no open profit)."""
        return self.equity(average)

    def sync_executions(self, until_ms: int, since_ms: int | None = None) -> list[Execution]:
        """Executions the journal lacks, from the exchange's list; with an overlap, because late ones are filed by their time."""
        overlap = max(60_000, 2 * self.interval_ms)
        began = int(self.journal.get("began_ms", "0"))
        start = max(self.journal.last_execution_ms() - overlap, began) if since_ms is None else since_ms
        new = self.journal.add_executions(self.exchange.executions(self.symbol, start, until_ms), "rest")
        self.note_foreign(new)
        return new

    def note_foreign(self, new: list[Execution]) -> None:
        """Fills of orders this journal never wrote: a person, another program, or a liquidation."""
        for e in new:
            if e.kind == "Funding" or self.journal.intent(e.link_id) is not None:
                continue
            if e.kind != "Trade":
                self.journal.event("liquidation", f"{e.kind}: {e.side} {e.qty} at {e.price}")
                self.journal.set(foreign=f"the exchange closed the position: {e.kind} {e.side} {e.qty} at {e.price}")
            else:
                self.journal.event("foreign", f"execution of an order that is not ours: {e.side} {e.qty} at {e.price}")
                self.journal.set(foreign=f"an order that is not ours was filled: {e.side} {e.qty} at {e.price}")

    def held(self) -> tuple[Decimal, list[Position]]:
        """The position by the exchange (never assumed flat: Unavailable where it does not answer)."""
        rows = self.exchange.positions(self.symbol)
        return sum((row.size for row in rows), Decimal(0)), rows

    # reconciling

    def begin(self, time_ms: int) -> None:
        """First start of a journal: where the account stands. A position that is there already is foreign."""
        if self.journal.get("baseline_wallet"):
            return
        for _ in range(5):
            held, rows = self.held()
            earlier = [
                e.exec_id
                for e in self.exchange.executions(
                    self.symbol, time_ms - 3_600_000, time_ms + 7 * 86_400_000 - 3_600_001
                )
            ]
            wallet = self.exchange.wallet()
            if self.held()[0] == held:
                break
        else:
            raise Unavailable("the position keeps changing while it is read; asked again")
        if held != 0 and self.foreign == "halt":
            raise InputError(
                f"the account holds {held} {self.symbol} already; close it, or give --foreign adopt (go on from it) or "
                "--foreign flatten (close it first)"
            )
        average = next((row.average for row in rows if row.size), Decimal(0))
        self.journal.set(
            before=json.dumps(earlier),
            baseline_size=str(held),
            baseline_average=str(average),
            baseline_wallet=str(wallet.balance),
            began_ms=str(time_ms),
        )
        self.journal.event("start", f"wallet {wallet.balance} USDT, position {held}")
        if held != 0 and self.foreign == "flatten":
            self.flatten(time_ms, "start")

    def reconcile(self, until_ms: int) -> tuple[Decimal, Wallet]:
        """Returns (position, wallet) once journal and exchange agree. Raises Halt, Unavailable or Ambiguous otherwise."""
        alive = set(self.desk.settle_all())
        for order in self.exchange.open_orders(self.symbol):
            if self.journal.intent(order.link_id) is not None:
                self.desk.cancel(order.link_id)  # a start begins without orders of an older decision
            elif self.foreign == "flatten":
                self.exchange.cancel_all(self.symbol)
                self.journal.event("foreign", f"open order {order.order_id} that is not ours: cancelled")
            elif self.foreign == "halt":
                raise Halt(
                    f"an open order that is not ours: {order.side} {order.qty} {self.symbol} ({order.order_id}); cancel it, or "
                    "give --foreign adopt (leave it) or --foreign flatten (cancel it)"
                )
            elif self.journal.get("foreign_order") != order.order_id:
                self.journal.set(foreign_order=order.order_id)
                self.journal.event("foreign", f"open order {order.order_id} that is not ours: left alone")
        for link in alive:
            self.desk.look_up(link)
        self.sync_executions(until_ms)
        return self.agree(until_ms)

    def agree(self, until_ms: int) -> tuple[Decimal, Wallet]:
        """Position and wallet by the exchange, after the journal was brought to the same position."""
        began = int(self.journal.get("began_ms", "0"))
        for attempt in range(4):
            held, rows = self.held()
            if held == self.size():
                break
            if attempt:
                self._pause(0.2 * attempt)
            self.sync_executions(until_ms, began if attempt >= 2 else None)
        else:
            held, rows = self.held()
            missing = held - self.size()
            if missing != 0:
                self._adopt(missing, rows, until_ms)
        self._check_foreign()
        average = next((row.average for row in rows if row.size), Decimal(0))
        self.journal.position(until_ms, self.symbol, held, average)
        return held, self.exchange.wallet()

    def _adopt(self, missing: Decimal, rows: list[Position], until_ms: int) -> None:
        text = f"the exchange holds {missing} {self.symbol} more than all executions explain"
        if self.foreign == "halt":
            raise Halt(f"{text}; give --foreign adopt or --foreign flatten to go on")
        average = next((row.average for row in rows if row.size), Decimal(0))
        began = Decimal(self.journal.get("baseline_size", "0"))
        wallet = self.exchange.wallet()
        old = Decimal(self.journal.get("baseline_average", "0"))
        # as if the missing part had been there from the start, bought at the average the exchange shows
        total = began + missing
        mixed = (began * old + missing * average) / total if total else Decimal(0)
        self.journal.set(baseline_size=str(total), baseline_average=str(mixed))
        drift = wallet.balance - self.wallet_balance(average)
        self.journal.set(baseline_wallet=str(Decimal(self.journal.get("baseline_wallet")) + drift))
        self.journal.event("foreign", f"{text}: adopted; balance corrected by {drift}")

    def _check_foreign(self) -> None:
        why = self.journal.get("foreign")
        if why and self.foreign == "halt":
            raise Halt(f"{why}; look at the account, then go on with --resume")
        if why:
            self.journal.set(foreign="")

    # ending

    def close_down(self, flatten: bool, last_ms: int) -> str:
        """Cancel what is open, flatten if asked, bring the journal up to date; what was reached, or "" where no answer came.

        last_ms: open time of the newest bar known, which may be long ago (or none: 0 and below).
        """
        for attempt in range(5):
            try:
                now = self.exchange.server_time_ms()
                bar = last_ms if last_ms > 0 else now // self.interval_ms * self.interval_ms
                for link in self.desk.settle_all():
                    self.desk.cancel(link)
                self.exchange.cancel_all(self.symbol)
                if flatten and not self.flatten(bar, "stop"):
                    raise Unavailable("the position could not be closed")
                self.sync_executions(max(bar, now) + 3 * self.interval_ms)
                return "flat" if flatten else "position kept"
            except ExchangeError as error:
                self.journal.event("stop", f"try {attempt + 1}: {error}")
                self._pause(0.2)
        return ""

    def flatten(self, open_ms: int, why: str) -> bool:
        """Close the position with reduce-only market orders; True once the exchange says it is flat."""
        from strategies.desk import link_id

        for attempt in range(8):
            _, rows = self.held()
            open_rows = [row for row in rows if row.size]
            if not open_rows:
                return True
            for k, row in enumerate(open_rows):
                side = "Sell" if row.size > 0 else "Buy"
                used = len(self.journal.rows("SELECT 1 FROM intents WHERE open_ms = ?", open_ms))
                link = link_id(f"{self.journal.get('id')}/{why}", self.symbol, open_ms, k, 100 + used + attempt)
                order = Order(link, self.symbol, side, abs(row.size), reduce_only=True, position_idx=row.position_idx)
                self.desk.market(order, open_ms, 0.0)
            self._pause(0.1 * (attempt + 1))
            self.sync_executions(open_ms + 3 * self.interval_ms)
        return False


__all__ = ["Books", "Unavailable"]
