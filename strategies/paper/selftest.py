"""python -m strategies.paper selftest: does everything that a night of trading needs work with these keys, on this venue, now?

Some twenty cards, each one thing, each with what was seen; with the smallest orders that the symbol allows. Orders are journaled like any
other, so an interrupted selftest is cleaned up by `stop --flatten`, or by the next selftest. The account is left flat.
"""

from __future__ import annotations

import json
import queue
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data.atomic import make_folder
from data.panel import InputError
from data.progress import console_of
from data.simulated import simulate
from strategies.paper.decisions.streams import DATA, UP, Stream
from strategies.paper.orders.account_rows import Instrument, OrderState
from strategies.paper.orders.closing import Closing
from strategies.paper.orders.connection import TRADED_AT
from strategies.paper.orders.exchange import Exchange, ExchangeError, Order, Refused
from strategies.paper.orders.keys import Keys, load_keys
from strategies.paper.orders.placement import Desk, link_id
from strategies.paper.orders.reconcile import Books
from strategies.paper.orders.ret_codes import advice
from strategies.paper.orders.risk import Limits, Risk
from strategies.paper.records.journal import Journal, JournalError
from strategies.paper.supervision import Held
from strategies.paper.venues import LocalExchange, Venue, connect, save_candles

_HOUR_MS = 3_600_000
_PATIENCE_S = 15.0
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


class Wrong(Exception):
    """What a card found is not as it must be."""


@dataclass(frozen=True)
class Card:
    """One thing that was tried. seen: what was found; asked: what to do about a failure."""

    name: str
    status: str
    seen: str
    seconds: float


@dataclass
class Selftest:
    """The cards, in order. sent: every request, as (method, path, body or query)."""

    venue: Venue
    keys: Keys
    journal: Journal
    symbol: str
    leverage: int = 10
    sent: list[tuple[str, str, Any]] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    _broken: str = ""  # why cards that trade cannot be tried

    def __post_init__(self) -> None:
        self.exchange: Exchange = self.venue.exchange
        self.desk = Desk(self.exchange, self.journal, settle_s=10.0, poll_s=0.2, listen=time.sleep)
        self.books = Books(
            self.exchange, self.journal, self.desk, (self.symbol,), _HOUR_MS, foreign="adopt", hedge=False, pause=time.sleep
        )  # fmt: skip
        self.closing = Closing(self.books, pause=time.sleep)
        self.exchange.watch(lambda *request: self.sent.append(request))
        self.heard: list[dict[str, Any]] = []
        self._bar = 0  # of the names of orders: every run has its own

    def run(self, say: Callable[[Card], None]) -> bool:
        """All cards; True where each is ok. The account is flat afterwards, or the last card says that it is not."""
        trading = (
            self.limit_order, self.order_on_the_stream, self.amended, self.same_id_again, self.cancelled, self.market_order,
            self.position, self.stop_set, self.stop_moved, self.reduce_only_refused, self.too_small_refused, self.closed, self.stop_gone,
        )  # fmt: skip
        try:
            for card in (self.keys_accepted, self.account_kind, self.money, self.clock, self.rules, self.mode, self.was_flat,
                         self.streams_open):  # fmt: skip
                self._try(card, say, stops=True)
            for card in trading:
                self._try(card, say, stops=card in (self.limit_order, self.market_order))
            self._try(self.reconnected, say)
        finally:
            self._broken = ""
            self._try(self.flat, say)
            for stream in self.venue.streams:
                stream.stop()
        return all(card.status == OK for card in self.cards)

    def _try(self, card: Callable[[], str], say: Callable[[Card], None], stops: bool = False) -> None:
        name, began = card.__name__.replace("_", " "), time.monotonic()
        if self._broken:
            made = Card(name, SKIPPED, self._broken, 0.0)
        else:
            try:
                made = Card(name, OK, card(), time.monotonic() - began)
            except (Wrong, ExchangeError, InputError) as error:
                code = getattr(error, "code", None)
                told = f"{error}; {advice(code)}" if advice(code) else str(error)
                made = Card(name, FAILED, told, time.monotonic() - began)
                if stops:
                    self._broken = f"{name} failed"
        self.cards.append(made)
        say(made)

    # what is looked at

    def keys_accepted(self) -> str:
        self._bar = self.exchange.server_time_ms() // 1000 * 1000
        if not self.journal.get("began_ms"):
            self.journal.set(began_ms=str(self._bar - _HOUR_MS))
        wallet = self.exchange.wallet()
        return f"a signed request was answered; available {wallet.available}"

    def account_kind(self) -> str:
        status, mode = self.exchange.account()
        if status == 1:
            raise Wrong("a classic account: upgrade it to a unified one at the exchange")
        if mode == "PORTFOLIO_MARGIN":
            raise Wrong("portfolio margin: switch the account to cross margin at the exchange")
        return f"unified ({status}), {mode}"

    def money(self) -> str:
        wallet = self.exchange.wallet()
        if wallet.equity <= 0:
            raise Wrong("no USDT; testnet: Assets, Request test coins")
        return f"{wallet.equity} USDT"

    def clock(self) -> str:
        if not self.venue.timing.check_clock:
            return "a replayed market's clock: not compared; signed requests are accepted"
        skew = self.exchange.clock_skew_ms()
        off = Risk(Limits(), self.journal, _HOUR_MS).clock_off(skew)
        if off:
            raise Wrong(off)
        return f"{skew / 1000:+.3f} s from this machine's"

    def rules(self) -> str:
        self.instrument: Instrument = self.exchange.instrument(self.symbol)
        taker, maker = self.exchange.fees(self.symbol)
        i = self.instrument
        return f"tick {i.tick}, step {i.step}, least {i.min_qty}, value {i.min_notional}; fees {taker}/{maker}"

    def mode(self) -> str:
        self.exchange.set_mode(self.symbol, False)
        self.exchange.set_leverage(self.symbol, min(Decimal(self.leverage), self.instrument.max_leverage))
        return f"one-way, leverage {self.leverage}"

    def was_flat(self) -> str:
        self.closing.round(False, self._bar, "selftest")  # what an interrupted selftest has left of orders
        held, _ = self.books.held(self.symbol)
        others = self.exchange.open_orders(self.symbol)
        if held and self.journal.get("selftest_open"):
            self.closing.round(True, self._bar, "selftest")
            held, _ = self.books.held(self.symbol)
        if held or others:
            raise Wrong(
                f"{held} {self.symbol} and {len(others)} open order(s) are there: this test needs a symbol without; --symbol"
            )
        return "no position, no orders"

    # streams

    def streams_open(self) -> str:
        for stream in self.venue.streams:
            stream.start()
        self._until(
            lambda: all(stream.up for stream in self.venue.streams),
            "streams did not open (login or subscription refused)",
        )
        return ", ".join(f"{stream.name}: {', '.join(stream.topics)}" for stream in self.venue.streams)

    def reconnected(self) -> str:
        private: Stream = self.venue.streams[0]
        before = private.connections
        private.cut()
        self._until(lambda: private.connections > before and private.up, "the private stream did not come back")
        return f"cut, back after connection {private.connections}"

    def _listen(self) -> None:
        while True:
            try:
                note = self.venue.inbox.get_nowait()
            except queue.Empty:
                return
            if note.kind == DATA and note.message is not None:
                self.heard.append(note.message)
            elif note.kind == UP:
                self.heard.append({"topic": f"up:{note.stream}", "data": []})

    def _until(self, true: Callable[[], object], otherwise: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not true():
            if time.monotonic() > deadline:
                raise Wrong(f"{otherwise} within {_PATIENCE_S:.0f} s")
            self._listen()
            time.sleep(0.05)

    def _on_stream(self, topic: str, link: str) -> bool:
        self._listen()
        for message in self.heard:
            rows = message.get("data") if str(message.get("topic", "")).startswith(topic) else None
            if any(
                isinstance(row, dict) and row.get("orderLinkId") == link
                for row in (rows if isinstance(rows, list) else [])
            ):
                return True
        return False

    # orders

    def _order(self, number: int, side: str, **more: Any) -> Order:
        link = link_id(self.journal.identity, self.symbol, self._bar, 0, number)
        return Order(link, self.symbol, side, self.qty, **more)

    def _place(self, order: Order) -> str:
        self.journal.set(selftest_open="yes")
        status = self.desk.place(order, self._bar, 1.0)
        row = self.journal.intent(order.link_id)
        if status not in ("open", "filled"):
            raise Wrong(f"{order.side} {order.qty}: {status}: {row['reason'] if row is not None else ''}")
        return status

    def _state(self, link: str) -> OrderState:
        state = self.exchange.order(self.symbol, link)
        if state is None:
            raise Wrong(f"the exchange does not know {link}")
        return state

    def limit_order(self) -> str:
        bid, _, last = self.exchange.ticker(self.symbol)
        least = max(
            self.instrument.min_qty, self.instrument.min_notional * Decimal("1.1") / (bid or last) / Decimal("0.97")
        )
        self.qty = (least / self.instrument.step).to_integral_value(ROUND_UP) * self.instrument.step
        self.price = self.instrument.round_price((bid or last) * Decimal("0.97"), up=False)
        self.resting = self._order(0, "Buy", kind="Limit", price=self.price)
        self._place(self.resting)
        self._until(lambda: self._state(self.resting.link_id).status == "New", "the order does not rest")
        return f"Buy {self.qty} at {self.price} rests"

    def order_on_the_stream(self) -> str:
        self._until(
            lambda: self._on_stream("order", self.resting.link_id), "the private stream did not tell of the order"
        )
        return "the private stream told of it"

    def amended(self) -> str:
        self.price -= self.instrument.tick
        self.exchange.amend(self.symbol, self.resting.link_id, self.price)
        self._until(lambda: self._state(self.resting.link_id).price == self.price, "the price was not changed")
        return f"its price is {self.price} now"

    def same_id_again(self) -> str:
        try:
            self.exchange.create(self.resting)
        except Refused as error:
            return f"refused: {error}"
        raise Wrong("the same orderLinkId was taken twice")

    def cancelled(self) -> str:
        state = self.desk.cancel(self.resting.link_id)
        if state is None or state.status != "Cancelled":
            raise Wrong(f"the order is {state.status if state else 'unknown'}")
        return "cancelled; nothing filled" if not state.filled else f"cancelled; {state.filled} filled"

    def market_order(self) -> str:
        order = self._order(1, "Buy", stop=self._below(Decimal("0.9")))
        self._place(order)
        state = self.desk.wait(order.link_id)
        if state is None or state.filled < self.qty:
            raise Wrong(
                f"{state.filled if state else 0} of {self.qty} filled: {state.reason if state else 'not closed'} (a thin book?)"
            )
        self._until(lambda: self._on_stream("execution", order.link_id), "the private stream did not tell of the fill")
        return f"Buy {state.filled} filled at {state.average}, told by the stream"

    def _below(self, share: Decimal) -> Decimal:
        return self.instrument.round_price(self.exchange.ticker(self.symbol)[2] * share, up=False)

    def position(self) -> str:
        held, rows = self.books.held(self.symbol)
        if held != self.qty:
            raise Wrong(f"{held} is held, {self.qty} was bought")
        return f"{held} at {rows[0].average}"

    def _stop_is(self, price: Decimal) -> str:
        self._until(
            lambda: self.books.held(self.symbol)[1][0].stop == price, "the position list does not show the stop"
        )
        return f"stop loss at {price}, by mark price"

    def stop_set(self) -> str:
        (row,) = self.books.held(self.symbol)[1]
        if not row.stop:
            raise Wrong("the stop that came with the order is not there")
        return f"with the order: stop loss at {row.stop}"

    def stop_moved(self) -> str:
        price = self._below(Decimal("0.8"))
        self.exchange.set_stop(self.symbol, 0, price)
        return self._stop_is(price)

    def reduce_only_refused(self) -> str:
        return self._refused(
            self._order(2, "Buy", reduce_only=True), "a reduce-only order that would enlarge the position"
        )

    def too_small_refused(self) -> str:
        small = replace(self._order(3, "Buy"), qty=self.instrument.min_qty / 10)
        return self._refused(small, "a quantity below the minimum")

    def _refused(self, order: Order, what: str) -> str:
        try:
            self.exchange.create(order)
        except Refused as error:
            return f"{what} is refused: {error}"
        state = self.exchange.order(self.symbol, order.link_id)
        if state is not None and state.closed and not state.filled:
            return f"{what} is taken and then {state.status.lower()} ({state.reason})"
        raise Wrong(f"{what} was taken")

    def closed(self) -> str:
        order = self._order(4, "Sell", reduce_only=True)
        self._place(order)
        state = self.desk.wait(order.link_id)
        held, _ = self.books.held(self.symbol)
        if held:
            raise Wrong(f"{held} is still held ({state.reason if state else 'the order has not closed'})")
        return f"Sell {self.qty} reduce-only at {state.average if state else '?'}; nothing held"

    def stop_gone(self) -> str:
        self._until(lambda: not self.exchange.open_orders(self.symbol), "an order is still there")
        return "gone with the position; no conditional order is left"

    def flat(self) -> str:
        if not self.journal.get("selftest_open"):
            return "nothing was opened here"
        deadline = time.monotonic() + 120
        ending = self.closing.until_clean(
            True, self._bar, "selftest", lambda: time.monotonic() > deadline, lambda _: None
        )
        if not ending.clean:
            raise Wrong(ending.words)
        self.journal.set(selftest_open="")
        paid = self.journal.ledger(self.symbol)
        if self.books.size(self.symbol):
            raise Wrong(f"flat at the exchange, but {self.books.size(self.symbol)} by the journal")
        return f"{ending.words}, by the journal too; fees of all selftests here {paid.fees}"


def selftest(
    venue: str,
    symbol: str,
    keys: Path | None,
    leverage: int,
    endpoint: str | None,
    out: Path,
    dry_run: bool,
    as_json: bool,
) -> int:
    """0 where every card is ok. dry_run: on a stand-in of this machine, showing the requests as they would go to the venue."""
    console = console_of(as_json)
    with ExitStack() as stack:
        played = "local" if dry_run else venue
        at, local_keys = endpoint, None
        if played == "local" and (endpoint is None or dry_run):
            local = LocalExchange(*_market(Path(stack.enter_context(tempfile.TemporaryDirectory())), symbol))
            stack.callback(local.stop)
            at, local_keys = local.url, local.keys
        used = local_keys or load_keys(keys, venue)
        folder = out / "paper" / f"selftest-{symbol.lower()}-{played}"
        make_folder(folder, "--out")
        stack.enter_context(Held(folder))
        if local_keys is not None:
            for old in folder.glob("journal.sqlite*"):
                old.unlink()  # its exchange ended with it
        journal = Journal(folder / "journal.sqlite")
        stack.callback(journal.close)
        settings = json.dumps({"endpoint": str(endpoint), "hedge": "False"})
        journal.set(
            id=folder.name,
            symbols=symbol,
            interval="60",
            venue=played,
            endpoint=at or "",
            settings=settings,
            state="running",
        )
        connected = connect(played, used, (symbol,), "60", at, lambda text: journal.event("trouble", used.redact(text)))
        test = Selftest(connected, used, journal, symbol, leverage)
        width = 22

        def say(card: Card) -> None:
            mark = {OK: "[green]ok[/]", FAILED: "[bold red]FAILED[/]", SKIPPED: "[yellow]skipped[/]"}[card.status]
            console.print(f"{len(test.cards):>2} {card.name:<{width}} {mark}  ", end="")
            console.print(card.seen, markup=False, highlight=False, soft_wrap=True)

        good = test.run(say)
        with_state = "flat" if good else test.cards[-1].seen
        try:
            journal.set(state="stopped", why=with_state, ended=with_state if test.cards[-1].status == OK else "")
        except JournalError as error:
            console.print(str(error), markup=False)
    _tell(console, test, venue, played, good, dry_run, as_json)
    return 0 if good else 1


def _tell(console: Console, test: Selftest, venue: str, played: str, good: bool, dry_run: bool, as_json: bool) -> None:
    """How many cards are ok, and everything as one document where asked for."""
    right = sum(card.status == OK for card in test.cards)
    if dry_run:
        _show_requests(console, venue, test.sent)
    console.print(
        f"{right} of {len(test.cards)} ok on {played}"
        + ("" if good else "; see docs/paper-trading.md, Before the first night")
    )
    if as_json:
        document: dict[str, Any] = {
            "venue": played,
            "symbol": test.symbol,
            "ok": good,
            "cards": [vars(card) for card in test.cards],
        }
        if dry_run:
            document["requests"] = [{"method": m, "path": p, "sent": body} for m, p, body in test.sent]
        sys.stdout.write(json.dumps(document) + "\n")


def _show_requests(console: Any, venue: str, sent: list[tuple[str, str, Any]]) -> None:
    """Each different request once, as it would go to the venue."""
    host = dict(zip(("testnet", "demo"), TRADED_AT, strict=True)).get(venue, "127.0.0.1")
    table = Table("request", "with", title=f"what this sends to https://{host}")
    seen: dict[tuple[str, str, tuple[str, ...]], None] = {}
    for method, path, body in sent:
        kind = (method, path, tuple(sorted(body)))
        if kind not in seen:
            seen[kind] = None
            table.add_row(f"{method} {path}", json.dumps(body))
    console.print(table)


def _market(folder: Path, symbol: str) -> tuple[Path, int, float]:
    """A simulated market to play in: (file, time at which it begins, seconds per second)."""
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate((symbol,), "60", start=start, end=start + 100 * np.timedelta64(3_600_000_000_000, "ns"))
    save_candles(folder / "market.npz", panel)
    first = int(panel.timestamps[0].astype("datetime64[ms]").astype(np.int64))
    return folder / "market.npz", first + 50 * _HOUR_MS + 1, 1.0
