"""The loop of paper trading: a candle closes, the network forecasts, the position follows; everything is journaled first.

Crash-only: a start is a recovery. States: reconciling (nothing is sent until journal and exchange agree), running, halted
(nothing is sent until a person has looked), stopped.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from data.answers import BadAnswer
from data.bybit import Bybit
from data.panel import FloatArray, InputError
from strategies.paper.decisions.decide import decide, nothing_before
from strategies.paper.decisions.feed import Feed
from strategies.paper.decisions.history import History
from strategies.paper.decisions.side_inputs import Companions
from strategies.paper.decisions.strategy import Strategy
from strategies.paper.decisions.streams import DOWN, UP, Note, Stream
from strategies.paper.orders.account_rows import Instrument, execution_of, order_state
from strategies.paper.orders.closing import Closing, Ending
from strategies.paper.orders.connection import ExchangeError, KeysRefused, Refused, Unavailable
from strategies.paper.orders.exchange import Exchange
from strategies.paper.orders.placement import Desk
from strategies.paper.orders.rebalance import Rebalancer
from strategies.paper.orders.reconcile import Books
from strategies.paper.orders.ret_codes import advice
from strategies.paper.orders.risk import DAY_MS, Halt, Risk
from strategies.paper.orders.rules import Rules
from strategies.paper.orders.stops import Stops
from strategies.paper.records.journal import Journal, JournalError, now_ms
from strategies.paper.records.status import PRICE, said_of_risk
from strategies.paper.timing import Timing

_NEAR_LIQUIDATION = 0.5  # of the margin balance is maintenance margin
RUNNING, RECONCILING, HALTED, STOPPING, STOPPED = "running", "reconciling", "halted", "stopping", "stopped"


@dataclass
class Trader:
    """The symbols of a strategy on one account. `run()` returns 0 after a clean stop, 1 where it stopped halted."""

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
    data: Bybit | None = None  # public data that only some models read (strategies.paper.decisions.side_inputs)
    hedge: bool = False
    limit_orders: bool = False
    leverage: int = 10
    stop_loss: float = 0.0
    foreign: str = "halt"
    band: float = 0.1
    history_bars: int = 0
    anchor_ms: int | None = None
    most_bars: int | None = None
    flatten_on_stop: bool = False
    flatten_on_halt: bool = False
    tell: Callable[[str, str], None] = lambda _kind, _text: None  # what a person must notice (strategies.paper.alerts)
    beat: Callable[[], list[str]] = list  # the loop has gone round; what became of alerts
    on_change: Callable[[], None] = lambda: None
    reload: Callable[[], Strategy | None] = lambda: None
    at_end: Callable[[], None] = lambda: None
    stopping: str = ""
    asked: int = 0  # how often a signal has asked it to stop
    status: str = RECONCILING
    why: str = "starting"
    bars: int = 0
    _coming: Strategy | None = None  # the model that takes over
    _waits_for: str = ""
    _told_left: bool = False
    _told_start: bool = False
    _looked_s: float = field(default_factory=time.monotonic)
    _near: bool = False  # liquidation

    def __post_init__(self) -> None:
        self.symbols = self.strategy.traded
        self.interval_ms = self.strategy.model.interval_ns // 1_000_000
        self.companions = Companions(self.journal, self.data, self.strategy.companions)
        self.history = History.of(self.journal, self.strategy)
        self.history.companions = self.companions.rows
        self.feed = Feed(
            self.market, self.journal, self.history, self.companions, self.interval, late_s=self.timing.late_s,
            history_bars=self.history_bars, anchor_ms=self.anchor_ms,
        )  # fmt: skip
        self.desk = Desk(
            self.exchange, self.journal, settle_s=self.timing.settle_s, poll_s=self.timing.order_poll_s, listen=self.listen
        )  # fmt: skip
        self.books = Books(
            self.exchange, self.journal, self.desk, self.symbols, self.interval_ms, foreign=self.foreign, hedge=self.hedge,
            pause=self.listen,
        )  # fmt: skip
        self.closing = Closing(self.books, pause=self._pause, first_s=self.timing.order_poll_s)
        rules = Rules(self.exchange, self.journal, self.leverage)
        self.stops = Stops(
            self.exchange, self.journal, rules, self.stop_loss, self.strategy.model.interval_ns, close=self._close_beyond_stop,
            told=lambda text: self.tell("stop hit", text),
        )  # fmt: skip
        self.books.take_stops, self.books.stops_ours = self.stops.take, bool(self.stop_loss)
        self.books.hold_stop = self.stops.hold
        self.orders = Rebalancer(
            self.exchange, self.journal, self.desk, self.books, self.risk, rules, self.stops, self.listen, self.hedge,
            self.limit_orders, self.band, self.timing.reprice_s, self.timing.order_poll_s,
            told=lambda text: self.tell("refusal", text),
        )  # fmt: skip
        self.journal.set(**{f"model:{self.strategy.name}": str(self.strategy.folder)})
        self._doubt = "starting"  # why journal and exchange must be compared before the next order
        self._cleaned_s, self._clean_wait_s = 0.0, self.timing.order_poll_s

    # the loop

    def run(self) -> int:
        if self.journal.get("state") == HALTED:
            self._enter(HALTED, self.journal.get("why"))
        else:
            self._enter(RECONCILING, "starting")
        self.journal.set(ended="")
        for stream in self.streams:
            stream.start()
        try:
            while not self._stop_asked():
                self.step()
                for outcome in self.beat():
                    self.journal.event("alert", outcome)
                if self.most_bars is not None and self.bars >= self.most_bars:
                    break
                self.listen(self.timing.poll_s)
            return self.shut()
        except JournalError as error:  # nothing can be traded without it, but what rests can be cancelled
            self.tell("halt", f"{error}; {self._close_without_journal().words}")
            raise
        except InputError as error:
            self._enter(STOPPED, f"could not start: {error}")
            raise
        finally:
            for stream in self.streams:
                stream.stop()

    def step(self) -> None:
        """One look at the market and the account. Whatever fails leaves the state `reconciling` and is tried again."""
        try:
            if self.status == HALTED:
                self._clean_after_halt()
            if self._doubt:
                self._recover()
            self._candles()
            self._look()
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
                mine = [execution_of(row) for row in rows if self._ours(row)]
                self.books.note_foreign(self.journal.add_executions(mine, "stream"))
            elif topic.startswith("order"):
                for row in rows:
                    if self._ours(row):
                        self.desk.note_stream(order_state(row))
            elif topic.startswith("kline"):
                return any(row["confirm"] is True for row in rows)
        except JournalError:
            raise
        except (BadAnswer, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            self._doubt = f"a message on {topic[:40]} could not be read ({type(error).__name__})"
        return False

    def _ours(self, row: Any) -> bool:
        """The private topics tell of all categories: a spot fill of the same name is none of the perpetual."""
        return row["category"] == "linear" and row["symbol"] in self.symbols

    # starting and recovering

    def _recover(self) -> None:
        if self.status != HALTED:
            self._enter(RECONCILING, self._doubt)
        if self.timing.check_clock:
            off = self.risk.clock_off(self.exchange.clock_skew_ms())
            if off:
                raise Unavailable(off)
        for symbol in self.symbols:
            if symbol not in self.orders.rules.instruments:
                self._prepare(symbol)
        self._fetch()
        if not self.history.count:
            raise Unavailable("the first candles of some symbols are not there yet; asked again")
        now = self.history.next_ms
        if self.books.begin(now):
            self.closing.round(True, now, "start")
        doubt = self._doubt
        self.books.reconcile(now + 2 * self.interval_ms)
        if self._doubt == doubt:
            self._doubt = ""
        if self.status != HALTED:
            self._enter(RUNNING, "")
            if not self._told_start:
                self._told_start = True
                self.tell("start", f"trading {', '.join(self.symbols)} with model {self.strategy.name}")

    def _prepare(self, symbol: str) -> None:
        """Order rules, position mode and leverage. InputError at a start; later a symbol that does not trade is skipped until it does."""
        try:
            instrument = self._set_up(symbol)
        except InputError as error:
            several = len(self.symbols) > 1 and bool(self.journal.get("baseline_wallet"))
            if not (several or self._told_start):
                raise
            if symbol not in self.orders.closed:
                self.journal.event("closed", str(error))
                self.tell("refusal", str(error))
            self.orders.closed[symbol] = str(error)
            return
        self.orders.rules.take(instrument)
        self.orders.closed.pop(symbol, None)

    def _set_up(self, symbol: str) -> Instrument:
        instrument = self.exchange.instrument(symbol)
        try:
            self.exchange.set_mode(symbol, self.hedge)
            self.exchange.set_leverage(symbol, min(Decimal(self.leverage), instrument.max_leverage))
        except Refused as error:
            what = advice(error.code) or "look at the account at the exchange"
            raise InputError(f"{symbol}: the exchange refuses position mode or leverage ({error}); {what}") from None
        return instrument

    # bars

    def _candles(self) -> None:
        self._coming = self.reload() or self._coming
        if self._coming is not None:
            try:
                self._take_over(self._coming)
            except Unavailable as error:  # the old one goes on meanwhile
                if self._waits_for != str(error):
                    self._waits_for = str(error)
                    self.journal.event("model", f"model {self._coming.name} waits: {error}")
        self._fetch()
        last = self.journal.last_decision()
        if last is None or last["open_ms"] < self.history.last_ms:
            self._decide(last)
            last = self.journal.last_decision()
        assert last is not None
        if not last["acted"]:
            self._act(last)
            self.bars += 1
        elif self.feed.silent_s > self.risk.limits.stale_s and self.status == RUNNING:
            self._doubt = f"no new candle for {self.feed.silent_s:.0f} s: data is stale, nothing is entered"
            self._enter(RECONCILING, self._doubt)

    def _look(self) -> None:
        """Between bars: what a person or the exchange changes is noticed now, not at the next bar."""
        now = time.monotonic()
        if self.status != RUNNING or now - self._looked_s < self.timing.look_s:
            return
        self._looked_s = now
        if self.journal.unsettled():
            self._doubt = self._doubt or "the fate of an order is open"
            return
        for symbol in self.symbols:
            held, rows = self.books.held(symbol)
            if held != self.books.size(symbol):
                self.books.sync_executions(self.history.next_ms + 2 * self.interval_ms, None, (symbol,))
            if held != self.books.size(symbol) or self.journal.get("foreign"):
                self._doubt = self._doubt or f"the position of {symbol} was changed between bars"
            elif not self._doubt:
                self.stops.hold(symbol, rows)
            if self.books.strange_orders(symbol):
                self._doubt = self._doubt or f"an order of {symbol} that is not ours appeared between bars"
        self._watch_margin(self.exchange.wallet().margin_rate)

    def _watch_margin(self, rate: float) -> None:
        """rate: maintenance margin over margin balance; at 1 the exchange liquidates."""
        if rate >= _NEAR_LIQUIDATION and not self._near:
            self._near = True
            text = f"maintenance margin is {rate:.0%} of the margin balance; at 100% the exchange closes the positions"
            self.journal.event("margin", text)
            self.tell("liquidation near", text)
        elif rate < 0.8 * _NEAR_LIQUIDATION:
            self._near = False

    def _digest(self, open_ms: int, equity: Decimal) -> None:
        """Once a day (of the bars), after its first bar: what the last one was like."""
        day = (open_ms + self.interval_ms) // DAY_MS
        before = self.journal.get("digest_day")
        if before == str(day):
            return
        self.journal.set(digest_day=str(day))
        if not before:
            return
        since = int(before) * DAY_MS
        was = self.journal.rows(
            "SELECT equity FROM equity WHERE open_ms >= ? ORDER BY open_ms LIMIT 1", since - self.interval_ms
        )
        fills = self.journal.rows("SELECT COUNT(*) AS n FROM executions WHERE kind = 'Trade' AND time_ms >= ?", since)[
            0
        ]["n"]
        change = float(equity) / float(was[0]["equity"]) - 1.0 if was and float(was[0]["equity"]) else 0.0
        held = ", ".join(f"{self.books.size(symbol)} {symbol}" for symbol in self.symbols)
        said = f"equity {equity:.2f} ({change:+.2%} since the day before), {fills} fills, holds {held}"
        self.tell(
            "daily digest", "; ".join([said, *(f"{symbol} {line}" for symbol, line in said_of_risk(self.journal))])
        )

    def _take_over(self, new: Strategy) -> None:
        """Another model from the next bar on; what it reads is fetched first (Unavailable: tried again, the old one goes on)."""
        self.companions.follow(new.companions)
        if self.history.count:
            self.companions.take(self.companions.news(new.companions, self.history.first_ms, self.history.next_ms))
        self.journal.event("model", f"model {self.strategy.name} gives way to {new.name}")
        self.tell(
            "model changed", f"model {self.strategy.name} gives way to {new.name} ({new.folder.parent.parent.name})"
        )
        self.strategy, self._coming = new, None
        self.journal.set(**{f"model:{new.name}": str(new.folder)})

    def _fetch(self) -> None:
        self.feed.fetch(self.strategy)

    def _decide(self, last: Any) -> None:
        """Every bar that closed since the last decision gets one, in order; only the newest is traded."""
        stop = self.history.count
        start = stop - 1 if last is None else self.history.bar(last["open_ms"]) + 1
        with self.journal.together():
            for d in decide(self.strategy, self.history, self._past(), start, stop):
                self.journal.decide(
                    d.open_ms, d.symbol, model=self.strategy.name, features_hash=d.features_hash, forecast=d.forecast,
                    volatility=d.volatility, target=d.target,
                )  # fmt: skip
            for bar in range(start, stop - 1):
                open_ms = self.history.first_ms + bar * self.interval_ms
                self.journal.acted(open_ms, "late: closed while this program was away")
            self._forecast_risk()
            if last is not None and not last["acted"]:
                self.journal.acted(last["open_ms"], f"{self.why or 'overtaken by the next bar'}: not traded")

    def _forecast_risk(self) -> None:
        """What the model says of the bars to come beside a direction, for status and page."""
        if not self.strategy.risk:
            return
        panel = self.history.panel(strategy=self.strategy)
        told: dict[str, dict[str, list[float]]] = {symbol: {} for symbol in self.strategy.traded}
        for target, forecast in self.strategy.risk.items():
            for symbol, values in zip(panel.assets, forecast.last(panel), strict=True):
                if symbol in told and np.isfinite(values[0]):
                    told[symbol][target] = [*values, forecast.model.horizon]
                    ahead = forecast.returns(values[0])
                    if {0.05, 0.95, 0.01} <= set(ahead):
                        told[symbol][PRICE] = [ahead[0.05], ahead[0.01], ahead[0.95], forecast.model.horizon]
        self.journal.set(risk=json.dumps(told))

    def _past(self) -> FloatArray:
        """[m, A]: forecasts of the present model since it took over."""
        rows = self.journal.forecasts_since_change(self.strategy.name)
        if not rows:
            return nothing_before(self.strategy)
        place = {symbol: a for a, symbol in enumerate(self.symbols)}
        first = self.history.bar(rows[0]["open_ms"])
        past = np.full((self.history.bar(rows[-1]["open_ms"]) + 1 - first, len(place)), np.nan)
        for row in rows:
            if row["forecast"] is not None:
                past[self.history.bar(row["open_ms"]) - first, place[row["symbol"]]] = row["forecast"]
        return past

    def _act(self, row: Any) -> None:
        open_ms, until_ms = int(row["open_ms"]), self.history.next_ms + 2 * self.interval_ms
        for symbol in list(self.orders.closed):
            self._prepare(symbol)
        self._settle_before()
        held, wallet = self.books.agree(until_ms)
        self.journal.equity(open_ms, now_ms(), wallet.equity, wallet.balance)
        self._watch_margin(wallet.margin_rate)
        self._digest(open_ms, wallet.equity)
        if self.status == HALTED:
            self.journal.acted(open_ms, f"halted: {self.why}")
            return
        self.risk.check_equity(open_ms, float(wallet.equity))
        if any(stream.silent_s > self.risk.limits.stale_s for stream in self.streams):
            raise Unavailable("a stream is silent: nothing is entered until it is back")
        rows = self.journal.decision(open_ms)
        self.orders.carry_out(open_ms, rows, held, wallet.equity, self.history.closes, until_ms)

    def _close_beyond_stop(self, symbol: str) -> None:
        self.closing.close(symbol, self.history.last_ms, "stop")

    def _settle_before(self) -> None:
        """No order is sent while the fate of an earlier one is open."""
        for link in self.desk.settle_all():
            self.desk.cancel(link)
        if self.journal.unsettled():
            raise Unavailable("the fate of an order is still unknown; nothing is sent until it is")

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
        self.journal.set(cleanup="flatten" if self.flatten_on_halt else "cancel")
        self._cleaned_s = 0.0
        # before anybody is told: a slow webhook must not keep orders alive
        left = self._clean_after_halt()
        self.tell("halt", f"{why}; {left}" if left else why)

    def _clean_after_halt(self) -> str:
        """What a halt leaves to do is tried until it is done, with growing pauses, also by the next process. What is left, or ""."""
        asked = self.journal.get("cleanup")
        now = time.monotonic()
        if not asked or (self._cleaned_s and now - self._cleaned_s < self._clean_wait_s):
            return ""
        ending = self.closing.round(asked == "flatten", self.history.last_ms, "halt")
        again, self._cleaned_s = bool(self._cleaned_s), now
        self._clean_wait_s = min(2 * self._clean_wait_s, 30.0)
        if ending.clean:
            self.journal.set(cleanup="", halt_left="")
            self.journal.event("halt", f"cleaned up: {ending.words}")
            if again:
                self.tell("halt", f"halted ({self.why}): cleaned up by now: {ending.words}")
            return ""
        if self.journal.get("halt_left") != ending.words:
            self.journal.set(halt_left=ending.words)
            self.journal.event("halt", ending.words)
        return ending.words

    def _stop_asked(self) -> bool:
        if not self.stopping and self.kill_file.exists():
            self.stopping = self.kill_file.read_text(encoding="utf-8").strip() or "stop"
        return bool(self.stopping)

    def shut(self) -> int:
        """Cancel what is open, flatten if asked, keep the rest; the next start goes on from here. 1 where that was not reached, or
        it was halted. One that closes positions goes on until they are closed, or it is asked to stop once more."""
        halted, why = self.status == HALTED, self.why
        flatten = self.flatten_on_stop or "flatten" in self.stopping
        with suppress(JournalError):  # a full disk keeps nothing from being closed
            if not halted:
                self._enter(STOPPING, "closing positions" if flatten else "cancelling orders")
        began, asked = time.monotonic(), self.asked

        def enough() -> bool:
            return self.asked > asked or (not flatten and time.monotonic() - began > self.timing.give_up_s)

        ending = self.closing.until_clean(flatten, self.history.last_ms, "stop", enough, self._still_closing)
        self.kill_file.unlink(missing_ok=True)
        self.journal.set(ended=ending.words)
        if halted:
            self.journal.event("stop", f"stopped while halted: {why}; {ending.words}")
            return 1
        self._enter(STOPPED, ending.words)
        return 0 if ending.clean else 1

    def _close_without_journal(self) -> Ending:
        stop = self._stop_asked()
        flatten = self.flatten_on_halt or (stop and (self.flatten_on_stop or "flatten" in self.stopping))
        began, asked = time.monotonic(), self.asked

        def enough() -> bool:
            patient = stop and flatten
            return self.asked > asked or (not patient and time.monotonic() - began > self.timing.give_up_s)

        return self.closing.until_clean(flatten, self.history.last_ms, "stop", enough, lambda _: None)

    def _still_closing(self, left: str) -> None:
        if not self._told_left:  # the first time; the words change with every part that fills
            self.tell("halt", f"stopping: {left}")
        self._told_left = True
        with suppress(JournalError):
            if self.status != HALTED:
                self._enter(STOPPING, left)

    def ask_to_stop(self, how: str) -> None:
        """Of a signal. Once more: also a stop that cannot reach what it was asked for ends, and says so."""
        self.stopping = self.stopping or how
        self.asked += 1

    def _pause(self, seconds: float) -> None:
        """Waits in steps, so that a second signal is heard."""
        asked, deadline = self.asked, time.monotonic() + seconds
        while self.asked == asked and time.monotonic() < deadline:
            self.listen(min(0.5, max(deadline - time.monotonic(), 0.0)))
