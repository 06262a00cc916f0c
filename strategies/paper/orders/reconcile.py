"""Journal against exchange: orders whose fate is open, fills that were missed, positions and orders that are not ours.

The same code runs at every start, after every reconnection and before every order: there is no other way to begin.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from data.panel import InputError
from strategies.paper.orders.account_rows import NO_USDT, OrderState, Position, Wallet
from strategies.paper.orders.connection import Unavailable
from strategies.paper.orders.exchange import Exchange
from strategies.paper.orders.placement import OWN_ID, Desk
from strategies.paper.orders.risk import Halt
from strategies.paper.records.journal import Execution, Journal

WEEK_MS = 7 * 86_400_000
_NEEDS_USDT = f"{NO_USDT}; get some at the exchange (testnet: Assets, Request test coins), then start again"
FOREIGN = ("halt", "adopt", "flatten")


class Books:
    """What we hold and own, by the journal and by the exchange. foreign: what happens to positions and orders not ours.

    Other symbols than `symbols` are neither read nor touched; what they earn or lose is in the account's equity.
    """

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        desk: Desk,
        symbols: Sequence[str],
        interval_ms: int,
        *,
        foreign: str,
        hedge: bool,
        pause: Callable[[float], None],
    ) -> None:
        if foreign not in FOREIGN:
            raise InputError(f"--foreign must be one of {', '.join(FOREIGN)}, not {foreign!r}")
        self.exchange, self.journal, self.desk, self.symbols = exchange, journal, desk, tuple(symbols)
        self.interval_ms, self.foreign, self.hedge = interval_ms, foreign, hedge
        self._pause = pause
        self.take_stops: Callable[[list[Execution]], list[Execution]] = list  # fills of our stops are ours
        self.stops_ours = False
        self.hold_stop: Callable[[str, Sequence[Position]], bool] = lambda *_: False  # True: it closed the position
        self.rows: dict[str, list[Position]] = {}  # of the position list, as `agree` read them last

    # reading

    def size(self, symbol: str) -> Decimal:
        """The position by the journal: where it began plus every execution."""
        return self._baseline("size", symbol) + self.journal.ledger(symbol).size

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Equity of the account by the journal alone, at mark prices."""
        worth = Decimal(self.journal.get("baseline_wallet", "0"))
        for symbol in self.symbols:
            size, average, mark = self._baseline("size", symbol), self._baseline("average", symbol), marks[symbol]
            worth += size * (mark - average) + self.journal.ledger(symbol).profit(mark)
        return worth

    def _baseline(self, what: str, symbol: str) -> Decimal:
        return Decimal(self.journal.get(f"baseline_{what}:{symbol}", "0"))

    def sync_executions(
        self, until_ms: int, since_ms: int | None = None, symbols: Sequence[str] | None = None
    ) -> list[Execution]:
        """Executions the journal lacks, from the exchange's list; with an overlap, because late ones are filed by their time."""
        found = []
        for symbol in self.symbols if symbols is None else symbols:
            start = self._synced_ms(symbol) if since_ms is None else since_ms
            new = self.journal.add_executions(self.exchange.executions(symbol, start, until_ms), "rest")
            self.journal.set(**{f"synced:{symbol}": str(until_ms)})
            self.note_foreign(new)
            found += new
        return found

    def _synced_ms(self, symbol: str) -> int:
        """From where the exchange's list may hold executions that the journal lacks."""
        overlap = max(60_000, 2 * self.interval_ms)
        began = max(self.journal.last_execution_ms(symbol) - overlap, int(self.journal.get("began_ms", "0")))
        # a symbol that stays flat has no executions: its whole past would be asked for at every bar
        return max(began, int(self.journal.get(f"synced:{symbol}", "0")) - WEEK_MS)

    def note_foreign(self, new: list[Execution]) -> None:
        """Fills of orders this journal never wrote: a person, another program, or a liquidation."""
        for e in self.take_stops(new):
            if e.kind == "Funding" or self.journal.intent(e.link_id) is not None:
                continue
            text = f"{e.side} {e.qty} {e.symbol} at {e.price}"
            if e.kind != "Trade":
                self.journal.event("liquidation", f"{e.kind}: {text}")
                self.journal.set(foreign=f"the exchange closed the position: {e.kind} {text}")
            else:
                self.journal.event("foreign", f"execution of an order that is not ours: {text}")
                self.journal.set(foreign=f"an order that is not ours was filled: {text}")

    def held(self, symbol: str) -> tuple[Decimal, list[Position]]:
        """The position by the exchange (never assumed flat: Unavailable where it does not answer)."""
        rows = self.exchange.positions(symbol)
        return sum((row.size for row in rows), Decimal(0)), rows

    # reconciling

    def begin(self, time_ms: int) -> bool:
        """First start of a journal: where the account stands. A position that is there already is foreign; True where it is to be
        closed first."""
        if self.journal.get("baseline_wallet"):
            return False
        self._check_account()
        for _ in range(5):
            found = {symbol: self.held(symbol) for symbol in self.symbols}
            earlier = [
                e.exec_id
                for symbol in self.symbols
                for e in self.exchange.executions(symbol, time_ms - 3_600_000, time_ms + WEEK_MS - 3_600_001)
            ]
            wallet = self.exchange.wallet()
            if all(self.held(symbol)[0] == held for symbol, (held, _) in found.items()):
                break
        else:
            raise Unavailable("the position keeps changing while it is read; asked again")
        there = {symbol: held for symbol, (held, _) in found.items() if held}
        if there and self.foreign == "halt":
            raise InputError(
                f"the account holds {_said(there)} already; close it, or give --foreign adopt (go on from it) or "
                "--foreign flatten (close it first)"
            )
        baseline = {}
        for symbol, (held, rows) in found.items():
            baseline[f"baseline_size:{symbol}"] = str(held)
            baseline[f"baseline_average:{symbol}"] = str(_average(rows))
        with self.journal.together():
            self.journal.set(
                before=json.dumps(earlier), baseline_wallet=str(wallet.balance), began_ms=str(time_ms), **baseline
            )
            self.journal.event("start", f"wallet {wallet.balance} USDT, position {_said(there) or 0}")
        return bool(there) and self.foreign == "flatten"

    def _check_account(self) -> None:
        """InputError where the account is set up in a way that can never trade, saying what to change."""
        status, mode = self.exchange.account()
        if status == 1:
            raise InputError(
                "the account is a classic one, paper trading needs a unified account; upgrade it at the exchange (Assets)"
            )
        if mode == "PORTFOLIO_MARGIN":
            raise InputError(
                "the account is in portfolio margin, where leverage cannot be set; switch it to cross margin at the exchange"
            )
        try:
            wallet = self.exchange.wallet()
        except Unavailable as error:
            if NO_USDT in str(error):
                raise InputError(_NEEDS_USDT) from None
            raise
        if wallet.equity <= 0:
            raise InputError(_NEEDS_USDT)

    def reconcile(self, until_ms: int) -> tuple[dict[str, Decimal], Wallet]:
        """Returns (position by symbol, wallet) once journal and exchange agree. Raises Halt, Unavailable or Ambiguous otherwise."""
        alive = set(self.desk.settle_all())
        for symbol in self.symbols:
            self._open_orders(symbol)
        for link in alive:
            self.desk.look_up(link)
        self.sync_executions(until_ms)
        return self.agree(until_ms)

    def strange_orders(self, symbol: str) -> list[OrderState]:
        """Open orders that are not ours and about which nothing was decided yet."""
        if self.foreign == "adopt":
            return []
        known = self.journal.intent
        return [
            order for order in self.exchange.open_orders(symbol)
            if known(order.link_id) is None and not (order.stop_loss and self.stops_ours)
        ]  # fmt: skip

    def _open_orders(self, symbol: str) -> None:
        for order in self.exchange.open_orders(symbol):
            if order.stop_loss and self.stops_ours:
                continue
            if self.journal.intent(order.link_id) is not None:
                self.desk.cancel(order.link_id)  # a start begins without orders of an older decision
            elif self.foreign == "flatten":
                self.exchange.cancel_strange(symbol, order.order_id)
                self.journal.event("foreign", f"open order {order.order_id} that is not ours: cancelled")
            elif self.foreign == "halt":
                older = " (its id says: of an older journal of this program)" if OWN_ID.match(order.link_id) else ""
                raise Halt(
                    f"an open order that is not ours: {order.side} {order.qty} {symbol} ({order.order_id}){older}; cancel it, or "
                    "give --foreign adopt (leave it) or --foreign flatten (cancel it)"
                )
            elif self.journal.get(f"foreign_order:{symbol}") != order.order_id:
                self.journal.set(**{f"foreign_order:{symbol}": order.order_id})
                self.journal.event("foreign", f"open order {order.order_id} that is not ours: left alone")

    def agree(self, until_ms: int) -> tuple[dict[str, Decimal], Wallet]:
        """Positions and wallet by the exchange, after the journal was brought to the same positions and these to their stops: before
        anything else is asked, since the next answer may not come, and before it halts for what a person did."""
        held = self._positions(until_ms)
        if sum(self.hold_stop(symbol, self.rows[symbol]) for symbol in held):
            held = self._positions(until_ms)
        self._check_foreign()
        return held, self.exchange.wallet()

    def _positions(self, until_ms: int) -> dict[str, Decimal]:
        found = {symbol: self._agree(symbol, until_ms) for symbol in self.symbols}
        strange = {s: missing for s, (held, _) in found.items() if (missing := held - self.size(s))}
        if strange:
            self._adopt(strange, {symbol: rows for symbol, (_, rows) in found.items()})
        for symbol, (held, rows) in found.items():
            self.journal.position(until_ms, symbol, held, _average(rows))
            self.rows[symbol] = rows
        return {symbol: held for symbol, (held, _) in found.items()}

    def _agree(self, symbol: str, until_ms: int) -> tuple[Decimal, list[Position]]:
        """One symbol; what the journal still cannot explain after every execution was asked for is left to the caller."""
        began = int(self.journal.get("began_ms", "0"))
        for attempt in range(4):
            held, rows = self.held(symbol)
            if held == self.size(symbol):
                return held, rows
            if attempt:
                self._pause(0.2 * attempt)
            self.sync_executions(until_ms, began if attempt >= 2 else None, (symbol,))
        return self.held(symbol)

    def _adopt(self, strange: Mapping[str, Decimal], found: Mapping[str, list[Position]]) -> None:
        text = f"the exchange holds {_said(strange)} more than all executions explain"
        if self.foreign == "halt":
            raise Halt(f"{text}; give --foreign adopt or --foreign flatten to go on")
        for symbol, missing in strange.items():
            average, began = _average(found[symbol]), self._baseline("size", symbol)
            # as if the missing part had been there from the start, bought at the average the exchange shows
            total = began + missing
            mixed = (began * self._baseline("average", symbol) + missing * average) / total if total else Decimal(0)
            self.journal.set(**{f"baseline_size:{symbol}": str(total), f"baseline_average:{symbol}": str(mixed)})
        # at the positions' own average prices there is no open profit: equity by the journal is the wallet's balance
        balance = self.equity({symbol: _average(rows) for symbol, rows in found.items()})
        drift = self.exchange.wallet().balance - balance
        self.journal.set(baseline_wallet=str(Decimal(self.journal.get("baseline_wallet")) + drift))
        self.journal.event("foreign", f"{text}: adopted; balance corrected by {drift}")

    def _check_foreign(self) -> None:
        why = self.journal.get("foreign")
        if why and self.foreign == "halt":
            raise Halt(f"{why}; look at the account, then go on with --resume")
        if why:
            self.journal.set(foreign="")


def _average(rows: Sequence[Position]) -> Decimal:
    return next((row.average for row in rows if row.size), Decimal(0))


def _said(sizes: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{size} {symbol}" for symbol, size in sizes.items())


__all__ = ["Books", "Unavailable"]
