"""The loop of paper trading: a candle closes, the network forecasts, the position follows; everything is journaled first.

Crash-only: a start is a recovery. States: reconciling (nothing is sent until journal and exchange agree), running, halted
(nothing is sent until a person has looked), stopped.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from data.answers import BadAnswer
from data.bybit import Bybit
from strategies.account_rows import Instrument, execution_of, order_state
from strategies.companions import Companions
from strategies.decide import Candle, Decision, History, Strategy, decide, state_of
from strategies.desk import Desk, Leg, legs, link_id, too_small, wanted_size
from strategies.exchange import NOT_REDUCING, Ambiguous, Exchange, ExchangeError, KeysRefused, Order, Unavailable
from strategies.journal import Journal, now_ms
from strategies.positions import PositionState
from strategies.reconcile import NOT_CLEAN, Books
from strategies.risk import Halt, Risk
from strategies.streams import DATA, DOWN, UP, Note, Stream

RUNNING, RECONCILING, HALTED, STOPPED = "running", "reconciling", "halted", "stopped"
_MOST_KLINES = 1000


@dataclass(frozen=True)
class Timing:
    """Real seconds. poll_s: between looks at the candles; settle_s: how long an order may take; check_clock: whether the
    venue's clock is the wall clock (a replayed market's is not)."""

    poll_s: float = 2.0
    order_poll_s: float = 0.5
    settle_s: float = 20.0
    reprice_s: float = 15.0
    check_clock: bool = True


@dataclass
class Trader:
    """One symbol of one account. `run()` returns 0 after a clean stop, 1 where it stopped halted."""

    symbol: str
    interval: str
    strategy: Strategy
    journal: Journal
    exchange: Exchange  # orders and account
    market: Exchange  # public data: candles, funding
    risk: Risk
    streams: list[Stream]
    inbox: queue.Queue[Note]
    timing: Timing
    kill_file: Path
    data: Bybit | None = None  # public data that only some models read (strategies.companions)
    hedge: bool = False
    limit_orders: bool = False
    leverage: int = 10
    foreign: str = "halt"
    band: float = 0.1
    history_bars: int = 0
    anchor_ms: int | None = None
    most_bars: int | None = None
    flatten_on_stop: bool = False
    flatten_on_halt: bool = False
    on_halt: Callable[[str], None] = lambda _: None
    on_change: Callable[[], None] = lambda: None
    reload: Callable[[], Strategy | None] = lambda: None
    at_end: Callable[[], None] = lambda: None
    stopping: str = ""
    status: str = RECONCILING
    why: str = "starting"
    bars: int = 0
    instrument: Instrument = field(init=False)
    _coming: Strategy | None = None  # the model that takes over
    _fresh_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.interval_ms = self.strategy.model.interval_ns // 1_000_000
        self.companions = Companions(self.journal, self.data, self.strategy.companions)
        self.history = History.of(self.journal, self.strategy)
        self.history.companions = self.companions.rows
        self.desk = Desk(
            self.exchange, self.journal, self.symbol, settle_s=self.timing.settle_s, poll_s=self.timing.order_poll_s,
            listen=self.listen,
        )  # fmt: skip
        self.books = Books(
            self.exchange, self.journal, self.desk, self.symbol, self.interval_ms, foreign=self.foreign, hedge=self.hedge,
            pause=self.listen,
        )  # fmt: skip
        self.journal.set(**{f"model:{self.strategy.name}": str(self.strategy.folder)})
        self._doubt = "starting"  # why journal and exchange must be compared before the next order
        self._last_stop = 0.0

    # the loop

    def run(self) -> int:
        if self.journal.get("state") == HALTED:
            self._enter(HALTED, self.journal.get("why"))
        else:
            self._enter(RECONCILING, "starting")
        for stream in self.streams:
            stream.start()
        try:
            while not self._stop_asked():
                self.step()
                if self.most_bars is not None and self.bars >= self.most_bars:
                    break
                self.listen(self.timing.poll_s)
            return self.shut()
        finally:
            for stream in self.streams:
                stream.stop()

    def step(self) -> None:
        """One look at the market and the account. Whatever fails leaves the state `reconciling` and is tried again."""
        try:
            if self._doubt:
                self._recover()
            self._candles()
        except Halt as halt:
            self._halt(str(halt))
        except KeysRefused as error:
            self._halt(f"the exchange refuses the keys: {error}")
        except ExchangeError as error:
            self._doubt = str(error)
            if self.status != HALTED:
                self._enter(RECONCILING, str(error))

    def listen(self, seconds: float) -> None:
        """Wait, and take what the streams bring; a closed candle or a full second ends nothing early but the wait."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            try:
                note = self.inbox.get(timeout=max(left, 0.0)) if left > 0 else self.inbox.get_nowait()
            except queue.Empty:
                return
            if self._take(note):
                return

    def _take(self, note: Note) -> bool:
        """True where the candle stream says that a candle has closed."""
        if note.kind == UP:
            if note.stream == "private":
                self._doubt = self._doubt or "the private stream was opened: fills may have been missed"
            return False
        if note.kind == DOWN:
            self.journal.event("stream", f"{note.stream} stream is down: {note.text}")
            return False
        message = note.message or {}
        topic = str(message.get("topic", ""))
        try:
            rows = message["data"]
            if topic.startswith("execution"):
                mine = [execution_of(row) for row in rows if row["symbol"] == self.symbol]
                self.books.note_foreign(self.journal.add_executions(mine, "stream"))
            elif topic.startswith("order"):
                for row in rows:
                    if row["symbol"] == self.symbol:
                        self.desk.note_stream(order_state(row))
            elif topic.startswith("kline"):
                return any(row["confirm"] is True for row in rows)
        except (BadAnswer, KeyError, TypeError, AttributeError, IndexError) as error:
            self._doubt = f"a message on {topic} could not be read ({type(error).__name__})"
        return False

    # starting and recovering

    def _recover(self) -> None:
        if self.status != HALTED:
            self._enter(RECONCILING, self._doubt)
        if self.timing.check_clock:
            skew = self.exchange.clock_skew_ms()
            if abs(skew) > self.risk.limits.clock_ms:
                raise Unavailable(
                    f"this machine's clock is {skew / 1000:+.1f} s from the exchange's; set it (NTP), nothing is sent until then"
                )
        if not hasattr(self, "instrument"):
            self.instrument = self.exchange.instrument(self.symbol)
            self.exchange.set_mode(self.symbol, self.hedge)
            self.exchange.set_leverage(self.symbol, min(Decimal(self.leverage), self.instrument.max_leverage))
        self._fetch()
        now = self.history.next_ms
        self.books.begin(now)
        doubt = self._doubt
        self.books.reconcile(now + 2 * self.interval_ms)
        if self._doubt == doubt:
            self._doubt = ""
        if self.status != HALTED:
            self._enter(RUNNING, "")

    # candles

    def _candles(self) -> None:
        self._coming = self.reload() or self._coming
        if self._coming is not None:
            self._take_over(self._coming)
        self._fetch()
        last = self.journal.last_decision()
        newest = self.history.last_ms
        if last is None or last["open_ms"] < newest:
            self._decide(last)
            last = self.journal.last_decision()
        assert last is not None
        if not last["acted"]:
            self._act(last)
            self.bars += 1
        elif time.monotonic() - self._fresh_s > self.risk.limits.stale_s and self.status == RUNNING:
            self._doubt = (
                f"no new candle for {time.monotonic() - self._fresh_s:.0f} s: data is stale, nothing is entered"
            )
            self._enter(RECONCILING, self._doubt)

    def _take_over(self, new: Strategy) -> None:
        """Another model from the next bar on; what it reads is fetched first (Unavailable: tried again, the old one goes on)."""
        self.companions.follow(new.companions)
        if self.history.count:
            self.companions.take(self.companions.news(new.companions, self.history.first_ms, self.history.next_ms))
        self.journal.event("model", f"model {self.strategy.name} gives way to {new.name}")
        self.strategy, self._coming = new, None
        self.journal.set(**{f"model:{new.name}": str(new.folder)})

    def _fetch(self) -> None:
        """Closed candles up to the newest. A candle is closed when a newer one exists: no clock is trusted for that."""
        first = not self.history.count
        if first and self.anchor_ms is not None:
            rows = self.market.klines(self.symbol, self.interval, 2)
            wanted = (rows[-1][0] - self.anchor_ms) // self.interval_ms + 1
        else:
            wanted = (self.history_bars or self.strategy.history_bars) + 1 if first else 3
        rows = self._klines(wanted, 0 if first else self.history.next_ms)
        forming = rows[-1][0]
        new = [row for row in rows[:-1] if first or row[0] >= self.history.next_ms]
        if new and any(b[0] - a[0] != self.interval_ms for a, b in zip(new, new[1:] + [rows[-1]], strict=True)):
            raise Unavailable("the candles have a hole; asked again")
        if new and not first and new[0][0] != self.history.next_ms:
            raise Unavailable("candles are missing after the newest known one; asked again")
        if not new:
            return
        self._fresh_s = time.monotonic()
        if first or any((row[0] // 3_600_000) != ((row[0] + self.interval_ms) // 3_600_000) for row in new):
            self._funding(forming)
        followed = self.strategy.companions
        beside = (
            self.companions.news(followed, new[0][0] if first else self.history.first_ms, forming) if followed else {}
        )
        with self.journal.together():
            self.journal.add_candles(new)
            self.companions.take(beside)
        self.history.add(new)

    def _klines(self, wanted: int, since_ms: int) -> list[Candle]:
        """At least `wanted` rows, or back to `since_ms`; oldest first, the forming one last."""
        newest = self.market.klines(self.symbol, self.interval, max(3, min(wanted, _MOST_KLINES)))
        rows: dict[int, Candle] = {row[0]: row for row in newest}
        if not rows:
            raise Unavailable("the exchange sent no candles")
        while min(rows) > since_ms if since_ms else len(rows) < wanted:
            older = self.market.klines(self.symbol, self.interval, _MOST_KLINES, end_ms=min(rows) - 1)
            if not older or all(row[0] in rows for row in older):
                break
            rows.update({row[0]: row for row in older})
        ordered = [rows[k] for k in sorted(rows)]
        return ordered if since_ms else ordered[-wanted:]

    def _funding(self, until_ms: int) -> None:
        self.journal.add_settlements(self.market.settlements(self.symbol, until_ms))
        self.history.settlements = self.journal.settlements()

    def _decide(self, last: Any) -> None:
        """Every bar that closed since the last decision gets one, in order; only the newest is traded."""
        stop = self.history.count
        if last is None:
            start, state = stop - 1, PositionState()
        else:
            start = self.history.bar(last["open_ms"]) + 1
            state = state_of(last) if last["model"] == self.strategy.name else PositionState()
        with self.journal.together():
            for decision in decide(self.strategy, self.history, state, start, stop):
                self._journal(decision)
                if decision.open_ms != self.history.last_ms:
                    self.journal.acted(decision.open_ms, "late: closed while this program was away")
            if last is not None and not last["acted"]:
                self.journal.acted(last["open_ms"], f"{self.why or 'overtaken by the next bar'}: not traded")

    def _journal(self, d: Decision) -> None:
        s = d.state
        self.journal.decide(
            d.open_ms, model=self.strategy.name, features_hash=d.features_hash, forecast=d.forecast, volatility=d.volatility,
            target=d.target, position=s.position, wait_bars=s.wait_bars, rule_equity=s.equity, rule_peak=s.peak, smoothed=s.forecast,
        )  # fmt: skip

    # acting on a decision

    def _act(self, row: Any) -> None:
        open_ms = int(row["open_ms"])
        self._settle_before(open_ms)
        held, wallet = self.books.agree(self.history.next_ms + 2 * self.interval_ms)
        close = self.history.last_close
        self.journal.equity(open_ms, now_ms(), wallet.equity, wallet.balance, close)
        if self.status == HALTED:
            self.journal.acted(open_ms, f"halted: {self.why}")
            return
        self.risk.check_equity(open_ms, float(wallet.equity))
        if any(stream.silent_s > self.risk.limits.stale_s for stream in self.streams):
            raise Unavailable("a stream is silent: nothing is entered until it is back")
        target = self.risk.capped(float(row["target"]))
        reached = float(self.journal.get("reached", "0"))
        wanted = wanted_size(target, reached, held, wallet.equity, close, self.instrument, self.band)
        if wanted is None:
            self.journal.acted(open_ms, "as it was")
            return
        done = self.journal.rows("SELECT 1 FROM intents WHERE open_ms = ? AND status = 'filled'", open_ms)
        if done and abs(float(wanted - held)) * close / float(wallet.equity) <= self.band:
            self.journal.set(reached=repr(target))
            self.journal.acted(open_ms, "filled before an interruption")
            return
        notes = []
        for k, leg in enumerate(legs(held, wanted, self.hedge)):
            notes.append(self._trade(leg, k, open_ms, close))
        if not any(note.startswith("open:") for note in notes):
            self.journal.set(reached=repr(target))
        self.books.sync_executions(self.history.next_ms + 2 * self.interval_ms)
        self.journal.acted(open_ms, "; ".join(notes) or "already there")

    def _settle_before(self, open_ms: int) -> None:
        """No order is sent while the fate of an earlier one is open."""
        for link in self.desk.settle_all():
            self.desk.cancel(link)
        if self.journal.unsettled():
            raise Unavailable("the fate of an order is still unknown; nothing is sent until it is")

    def _trade(self, leg: Leg, number: int, open_ms: int, close: float) -> str:
        """One leg of a change of position; returns what became of it, for the journal."""
        small = too_small(leg, close, self.instrument)
        if small:
            self.journal.event("skip", small)
            return f"skipped: {small}"
        bid, ask, price = self.exchange.ticker(self.symbol)
        outside = self.risk.outside_collar(float(price), close)
        if outside:
            self.journal.event("collar", outside)
            return f"skipped: {outside}"
        left = leg.qty
        attempt = self._next_attempt(open_ms, number)
        if self.limit_orders:
            for _ in range(3):
                self.risk.check_rate(open_ms)
                touch = bid if leg.side == "Buy" else ask
                order = self._order(
                    leg, left, number, attempt, open_ms, self.instrument.round_price(touch, leg.side == "Sell")
                )
                status = self.desk.place(order, open_ms, float(price))
                state = self._rest(order) if status == "open" else None
                attempt += 1
                left -= state.filled if state is not None else self.journal.filled(order.link_id)
                if left < self.instrument.min_qty:
                    return f"limit: {leg.side} {leg.qty} filled"
                bid, ask, price = self.exchange.ticker(self.symbol)
        while left > 0:
            self.risk.check_rate(open_ms)
            part = min(left, self.instrument.max_market_qty)
            order = self._order(leg, part, number, attempt, open_ms, None)
            status = self.desk.place(order, open_ms, float(price))
            if status == "rejected":
                return self._refused(order)
            if status == "unknown":
                raise Ambiguous(f"the fate of {order.link_id} is unknown")
            state = self.desk.wait(order.link_id)
            if state is None:
                return f"open: {order.link_id} has not closed yet"
            left -= part
            attempt += 1
            if state.filled < part:
                return f"market: {leg.side} {state.filled} of {leg.qty} filled ({state.reason or state.status})"
        return f"market: {leg.side} {leg.qty} filled"

    def _rest(self, order: Order) -> Any:
        """A post-only order at the touch: it may rest for a while, then it is cancelled; its fills are kept."""
        deadline = time.monotonic() + self.timing.reprice_s
        while time.monotonic() < deadline:
            state = self.exchange.order(self.symbol, order.link_id)
            if state is not None and state.closed:
                return self.desk.wait(order.link_id)
            self.listen(self.timing.order_poll_s)
        return self.desk.cancel(order.link_id)

    def _refused(self, order: Order) -> str:
        row = self.journal.intent(order.link_id)
        reason = str(row["reason"]) if row is not None else ""
        if f"retCode {NOT_REDUCING}:" in reason:
            held, _ = self.books.held()
            return f"refused: nothing to reduce, the position is {held}"
        return f"refused: {reason}"

    def _order(self, leg: Leg, qty: Decimal, number: int, attempt: int, open_ms: int, price: Decimal | None) -> Order:
        link = link_id(self.journal.get("id"), self.symbol, open_ms, number, attempt)
        kind = "Market" if price is None else "Limit"
        return Order(link, self.symbol, leg.side, qty, kind, price, leg.reduce_only, leg.position_idx)

    def _next_attempt(self, open_ms: int, number: int) -> int:
        """The first unused attempt of a leg; one whose order seems never to have existed is used again (same id)."""
        attempt = 0
        while (
            row := self.journal.intent(link_id(self.journal.get("id"), self.symbol, open_ms, number, attempt))
        ) is not None:
            if row["status"] == "lost":
                return attempt
            attempt += 1
        return attempt

    # states

    def _enter(self, state: str, why: str) -> None:
        changed = (state, why) != (self.status, self.why) or self.journal.get("state") != state
        self.status, self.why = state, why
        if changed:
            self.journal.set(state=state, why=why)
            if state != RUNNING or why:
                self.journal.event("state", f"{state}: {why}" if why else state)
            self.on_change()

    def _halt(self, why: str) -> None:
        self._doubt = self._doubt or why
        if self.status == HALTED:
            return
        self._enter(HALTED, why)
        try:  # before anybody is told: a slow webhook must not keep orders alive
            self.exchange.cancel_all(self.symbol)
            if self.flatten_on_halt:
                self.books.flatten(self.history.last_ms, "halt")
        except ExchangeError as error:
            self.journal.event("halt", f"could not clean up: {error}")
        self.on_halt(why)

    def _stop_asked(self) -> bool:
        if not self.stopping and self.kill_file.exists():
            self.stopping = self.kill_file.read_text(encoding="utf-8").strip() or "stop"
        return bool(self.stopping)

    def shut(self) -> int:
        """Cancel what is open, flatten if asked, keep the rest; the next start goes on from here."""
        halted, why = self.status == HALTED, self.why
        done = self.books.close_down(self.flatten_on_stop or "flatten" in self.stopping, self.history.last_ms)
        self.kill_file.unlink(missing_ok=True)
        if halted:
            self.journal.event("stop", f"stopped while halted: {why}")
            return 1
        self._enter(STOPPED, done or NOT_CLEAN)
        return 0 if done else 1


__all__ = ["DATA", "Timing", "Trader"]
