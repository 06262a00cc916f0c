"""One session of the simulation: an exchange, a network, a disk, and traders that start, die and start again, as the plan says."""

from __future__ import annotations

import itertools
import json
import random
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from data.panel import InputError
from data.standin import Clock, Fault, Market, StandIn, World
from data.standin.private import Private
from data.standin.streams import StreamFault
from data.standin.world import Refused
from strategies.paper import supervision
from strategies.paper.orders.reconcile import Books
from strategies.paper.orders.risk import Limits, Risk
from strategies.paper.records import journal as journals
from strategies.paper.records.journal import Journal, JournalError
from strategies.paper.timing import Timing
from strategies.paper.trader import HALTED, RECONCILING, Trader
from strategies.paper.venues import Venue, connect
from tests.strategies.paper.rig import KEYS
from tests.strategies.paper.simulation import hub as hubs
from tests.strategies.paper.simulation.audit import Auditor
from tests.strategies.paper.simulation.disk import Disk
from tests.strategies.paper.simulation.hub import SCENE, Hub, Process
from tests.strategies.paper.simulation.markets import BAR_S, HISTORY, INTERVAL, PATH, remembered, scene
from tests.strategies.paper.simulation.plan import Event, Kill, Plan
from tests.strategies.paper.simulation.wires import ENDPOINT, Network, Wire, WireFault, open_socket

BAR_MS = 1000 * BAR_S
QUIET_BARS = 5
#: what a person does and how long it takes
LOOKS_EVERY_S, STARTS_AFTER_S, WAITS_S = 60.0, 5.0, 3_000.0
TIMING = Timing(
    poll_s=200.0,
    order_poll_s=0.5,
    settle_s=20.0,
    reprice_s=5.0,
    late_s=60.0,
    check_clock=True,
    give_up_s=60.0,
    look_s=190.0,
)


class _Right(Clock):
    """The exchange's clock: the hub's time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def now_ms(self) -> int:
        return int((self._hub.epoch_s + self._hub.now) * 1000.0)


class _KillFile:
    text = ""

    def exists(self) -> bool:
        return bool(self.text)

    def read_text(self, encoding: str = "") -> str:
        return self.text

    def unlink(self, missing_ok: bool = True) -> None:
        self.text = ""


@dataclass
class Outcome:
    """wrong: what must never be, empty where all is well. points: awaits and writes until the faults end, at each of which it may be
    killed. image: the journal's bytes; digest: of everything that went over the wires."""

    plan: Plan
    wrong: list[str]
    bars: int
    counts: Counter[str]
    faults: int
    kills: int
    starts: int
    orders: int
    fills: int
    halts: list[str]
    points: int
    digest: int
    image: bytes = field(repr=False, default=b"")
    log: list[str] = field(repr=False, default_factory=list)


class Session:
    """`run()` the plan. log: whether what went over the wires is kept."""

    def __init__(self, plan: Plan, log: bool = False, prepare: Callable[[Session], None] = lambda _: None) -> None:
        self.plan, self.scene = plan, scene(plan.market, plan.symbols, 240 if plan.bars <= 240 else plan.bars)
        self.first_ms = self.scene.first_ms + HISTORY * BAR_MS + 1
        self.hub = Hub(self.first_ms / 1000.0)
        SCENE.hub, SCENE.dice, SCENE.ids = self.hub, random.Random(f"jitter {plan.seed}"), itertools.count(1)
        SCENE.connect = lambda url, **how: open_socket(self.network, url, **how)
        self.private = Private(KEYS.key, KEYS.secret, wallet=Decimal(20_000))
        market = Market.replay(self.scene.tables, BAR_MS)
        self.standin = StandIn(World(market, _Right(self.hub)), [self.private])
        self.world = self.standin.world
        self.world.streams.loop = self.hub  # type: ignore[assignment]
        self.network = Network(self.hub, self.standin, random.Random(f"net {plan.seed}"), trace=self._heard)
        self.disk = Disk(random.Random(f"disk {plan.seed}"))
        self.counts: Counter[str] = Counter()
        self.halts: list[str] = []
        self.alerts: list[tuple[str, str]] = []
        self.digest, self.log, self._logs = 0, [], log  # type: ignore[var-annotated]
        self.process: Process | None = None
        self.trader: Trader | None = None
        self.books: Books | None = None
        self.starts = self.kills = self.points = 0
        self.kill: Kill | None = None
        self.code: int | None = None  # that the last process ended with
        self.quiet = self.stopping = self.over = self.resume = False
        self.halted_since = self.healed_at = -1.0
        self.kill_file = _KillFile()
        self.prepare = prepare
        self.auditor = Auditor(self)

    # what is seen

    def _heard(self, text: str) -> None:
        line = f"{self.hub.now:.6f} {text}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        if self._logs:
            self.log.append(line)
        self.world.journal.clear()

    def wrong(self, text: str) -> None:
        self.auditor.found.append(f"at {self.hub.now:.3f} s (bar {self.hub.now / BAR_S:.2f}): {text}")

    # the process

    def start(self) -> None:
        self.process = process = Process()
        self.starts += 1
        self.auditor.hindered()
        self.code, self.halted_since = None, -1.0
        self.hub.spawn(process, lambda: self._main(process))

    def _venue(self, process: Process, trouble: Callable[[str], None]) -> Venue:
        venue = connect("local", KEYS, self.scene.symbols, INTERVAL, ENDPOINT, trouble)
        exchange = venue.exchange
        exchange._session.client, exchange._tries, exchange._wait_s = Wire(self.network, process), 5, 0.5
        exchange._session.timeout = 10.0
        for stream in venue.streams:
            stream._ping_s, stream._longest_wait_s = 80.0, 30.0
        return replace(venue, timing=TIMING)

    def _main(self, process: Process) -> None:
        """What `strategies.paper.session` does, without its terminal."""
        try:
            journal = Journal(PATH, nonce=f"{self.plan.seed:08x}")
            plan, strategy = self.plan, self.scene.strategy
            journal.set(
                id="simulation", symbols=",".join(self.scene.symbols), interval=INTERVAL, venue="local", endpoint=ENDPOINT,
                settings=json.dumps({"hedge": str(plan.hedge), "endpoint": ENDPOINT}), model=str(strategy.folder),
            )  # fmt: skip
            venue = self._venue(process, lambda text: journal.event("trouble", KEYS.redact(text)))
            limits = Limits(drawdown=0.99, daily_loss=0.99, stale_s=3.0 * BAR_S)
            risk = Risk(limits, journal, BAR_MS)
            if journal.get("state") == HALTED and self.resume:
                journal.set(state=RECONCILING, why="", foreign="", cleanup="")
                last = journal.last_decision()
                risk.restart(0 if last is None else int(last["open_ms"]))
            self.resume = False
            trader = Trader(
                interval=INTERVAL, strategy=strategy, journal=journal, exchange=venue.exchange, market=venue.market, data=None, risk=risk,
                streams=venue.streams, inbox=venue.inbox, timing=TIMING, kill_file=self.kill_file, hedge=plan.hedge,  # type: ignore[arg-type]
                limit_orders=plan.limit_orders, stop_loss=plan.stop_loss, foreign=plan.foreign, history_bars=HISTORY,
                flatten_on_halt=plan.flatten_on_halt, tell=self._told,
            )  # fmt: skip
            self.trader, self.books = trader, trader.books
            self.prepare(self)
            self._ended(process, trader.run(), "")
        except JournalError as error:
            self._ended(process, 2, "" if self.disk.refused else f"the journal failed on a sound disk: {error}")
        except InputError as error:
            self.counts[f"ended: {str(error)[:90]}"] += 1
            # an answer that was given before the faults went may come after they have gone
            sound = self.quiet and self.network.given_at >= self.healed_at
            self._ended(process, 2, f"gave up on a sound exchange: {error}" if sound else "")
        except Exception as error:
            self._ended(process, 1, f"died of {type(error).__name__}: {error}\n{_where(error)}")

    def _told(self, kind: str, text: str) -> None:
        self.alerts.append((kind, text))
        self.counts[f"told: {kind}"] += 1
        if kind == "halt":
            self.halts.append(text)

    def _ended(self, process: Process, code: int, trouble: str) -> None:
        if not process.alive:  # it was dying
            return
        if trouble:
            self.wrong(trouble)
        process.alive = False
        self.code = code
        self.counts[f"ended with {code}"] += 1
        self._gone(process, STARTS_AFTER_S if code != 2 else LOOKS_EVERY_S, power=False)

    def _gone(self, process: Process, down_s: float, power: bool) -> None:
        self.hub.call_soon_threadsafe(self.hub.bury, process)
        if not self.quiet:
            self.points += process.points
        self.disk.crash(power)
        self.process = self.trader = None
        if self.stopping and self.code is not None:
            self.over = True
        else:
            self.hub.call_later(down_s, self.start)

    def _die(self, kill: Kill) -> None:
        process = self.process
        if process is None or self.quiet or not process.alive:
            return
        self.kill = kill
        if kill.points:
            process.kill_at = process.points + kill.points
        else:
            self.hub.bury(process)
            self._see_death(process)

    def _see_death(self, process: Process) -> None:
        """Asked after every event: has the process been killed at a point?"""
        if process is not self.process or process.alive:
            return
        kill, self.kill = self.kill, None
        assert kill is not None
        self.kills += 1
        self._gone(process, kill.down_s, kill.power)

    # a person

    def _look(self) -> None:
        """Every minute: a halted trader is stopped and started again with --resume."""
        trader = self.trader
        if trader is not None and trader.status == HALTED:
            if self.halted_since < 0:
                self.halted_since = self.hub.now
            elif self.hub.now - self.halted_since > 2 * LOOKS_EVERY_S and not trader.stopping:
                trader.ask_to_stop("person")
                self.resume = True
        else:
            self.halted_since = -1.0
        self.hub.call_later(LOOKS_EVERY_S, self._look)

    # the market

    def _close_bar(self) -> None:
        self._advance()
        self.standin.public["linear"].tick()
        self.auditor.bar()
        self.hub.call_later(100.0, self._advance)
        self.hub.call_later(200.0, self._advance)
        self.hub.call_later(BAR_S, self._close_bar)

    def _advance(self) -> None:
        self.private.exchange.advance()

    # faults

    def _harm(self, event: Event) -> None:
        if self.quiet:
            return
        kind, world, exchange, now = event.kind, self.world, self.private.exchange, self.hub.now
        lasts_s = 0.8 * BAR_S
        if kind == "wire":
            self.network.faults = [f for f in self.network.faults if f.times > 0]
            self.network.faults.append(WireFault(event.what, event.where, 1, event.number))
            return
        if kind in ("answer", "code", "keys", "candles"):
            where = event.where or "/v5/market/kline"
            world.faults._faults = [f for f in world.faults._faults if f.times is None or f.done < f.times]
            world.faults.add(Fault(event.what, where, times=int(event.number), seconds=1.0))
            return
        if kind == "stream":
            world.streams.faults = [f for f in world.streams.faults if f.seen < max(f.nth)]
            world.streams.faults.append(StreamFault(event.what, event.where, nth=(1,)))
        elif kind == "cut":
            world.streams.cut_all(event.what)
        elif kind == "refuse":
            world.streams.refuse_for(20.0)
            world.streams.cut_all("*")
        elif kind == "outage":
            self.network.down_until = max(self.network.down_until, now + event.number)
            world.streams.cut_all("*")
        elif kind == "late events":
            self._for(lasts_s, self.private, "event_s", event.number, 0.0)
        elif kind == "lag":
            self._for(lasts_s, self.private, "lag_s", event.number, 0.0)
        elif kind == "match":
            self._for(lasts_s, self.private, "match_s", event.number, 0.0)
            if event.what == "hidden":
                self._for(lasts_s, self.private, "lag_s", event.number, 0.0)
        elif kind == "stuck":
            self.network.faults.append(WireFault(event.what, "/v5/order/create", 1, 1.0))
            self._for(lasts_s, self.private, "match_s", event.number, 0.0)
            self._for(lasts_s, self.private, "lag_s", event.number, 0.0)
        elif kind == "thin":
            self._for(lasts_s, exchange, "liquidity", Decimal(event.what), None)
        elif kind == "empty book":
            self._for(lasts_s, exchange, "liquidity", Decimal(0), None)
        elif kind == "rate limit":
            self._for(20.0, world, "rate_limit", (4, 1.0), None)
        elif kind == "disk full":
            self._for(event.number, self.disk, "full", True, False)
        elif kind == "clock":
            self._for(40.0, self.hub, "skew_s", event.number, 0.0)
        elif kind == "server clock":
            self._for(30.0, self.private, "auth_skew_ms", int(1000 * event.number), 0)
        elif kind == "hand":
            if not self._by_hand(event.what):
                return
        elif kind == "bust":
            held = [place for place, h in exchange.account.holdings.items() if h.size]
            if not held:
                return
            self.auditor.disturbed()
            exchange.close_by_exchange(*held[0], "BustTrade")
        elif kind == "step":
            instruments = world.market.instruments
            was = instruments["BTCUSDT"]
            instruments["BTCUSDT"] = replace(was, qty_step=event.what, min_order_qty=event.what)
            self.hub.call_later(3.0 * BAR_S, instruments.update, {"BTCUSDT": was})
        elif kind in ("late candle", "no candle"):
            symbol, forming = self.scene.symbols[-1], world.clock.now_ms() // BAR_MS * BAR_MS
            world.market.holes[symbol] = ((forming + (BAR_MS if kind == "late candle" else 0), 2**62),)
            if kind == "no candle":
                world.market.holes[symbol] = ((forming, forming + BAR_MS),)
            self.hub.call_later(1.5 * BAR_S, world.market.holes.pop, symbol, None)
        self.counts[kind] += 1

    def _for(self, seconds: float, holder: Any, name: str, value: Any, normal: Any) -> None:
        setattr(holder, name, value)
        self.hub.call_later(seconds, setattr, holder, name, normal)

    def _by_hand(self, side: str) -> bool:
        exchange = self.private.exchange
        index = 0 if not exchange.account.hedge else 1 if side == "Buy" else 2
        self.auditor.disturbed()
        try:
            exchange.by_hand("BTCUSDT", side, "0.1", index)
        except Refused:
            return False
        return True

    def _heal(self) -> None:
        self.quiet, self.healed_at = True, self.hub.now
        if self.process is not None:
            self.points += self.process.points
            self.process.kill_at = -1
        self.network.faults.clear()
        self._count_fired()
        self.world.faults.clear()
        self.world.streams.faults.clear()
        self.network.down_until, self.world.streams.refuse_until = -1.0, 0.0
        for holder, name, normal in (
            (self.private, "event_s", 0.0), (self.private, "lag_s", 0.0), (self.private, "match_s", 0.0), (self.private, "auth_skew_ms", 0),
            (self.private.exchange, "liquidity", None), (self.world, "rate_limit", None), (self.disk, "full", False),
            (self.hub, "skew_s", 0.0),
        ):  # fmt: skip
            setattr(holder, name, normal)
        self.world.market.holes.clear()

    def _count_fired(self) -> None:
        self.counts.update({f"answer {k}": n for k, n in self.world.faults.counts.items()})
        self.counts.update(self.network.counts)
        self.world.faults.counts.clear()
        self.network.counts.clear()

    # the end

    def _ask_to_end(self) -> None:
        self.auditor.alive()
        self.stopping = True
        self.code = None
        plan, exchange = self.plan, self.private.exchange
        if self.process is None or self.trader is None:
            self.wrong("no trader is running after the faults have gone")
            return
        if plan.end == "gone":
            process = self.process
            self.hub.bury(process)
            self.disk.crash(power=False)
            self.process = self.trader = None
            self.process = process = Process()
            self.hub.spawn(process, lambda: self._kill_switch(process))
            return
        if plan.end == "thin":
            exchange.liquidity = Decimal(0)
            self.hub.call_later(100.0, setattr, exchange, "liquidity", Decimal("0.5"))
            self.hub.call_later(200.0, setattr, exchange, "liquidity", None)
            self.world.faults.add(Fault("code_110007", "/v5/order/create", times=3))
        self.kill_file.text = "stop\n" if plan.end == "stop" else "stop flatten\n"

    def _kill_switch(self, process: Process) -> None:
        """`stop --flatten` without the process that traded."""
        try:
            journal = Journal(PATH)
            closing = supervision._closing(journal, KEYS)
            self.books = closing.books
            ending = closing.until_clean(True, journal.last_candle_ms(), "stop", lambda: False, lambda _: None)
            journal.set(ended=ending.words, state="stopped", why=ending.words)
            self._ended(process, 0 if ending.clean else 1, "")
        except Exception as error:
            self._ended(process, 1, f"the kill switch died of {type(error).__name__}: {error}\n{_where(error)}")

    def run(self) -> Outcome:
        plan, end_s = self.plan, self.plan.bars * BAR_S
        step = BAR_S - 0.001  # the session begins a millisecond into a bar
        self.hub.call_later(
            100.0, self.standin.public["linear"].tick
        )  # it tells of a closed bar once it has told of it forming
        self.hub.call_later(step + 0.02, self._close_bar)
        self.hub.call_later(LOOKS_EVERY_S, self._look)
        self.hub.call_later(0.0, self.start)
        for event in plan.events:
            self.hub.call_later(BAR_S + event.at_s, self._harm, event)
        for kill in plan.kills:
            self.hub.call_later(BAR_S + kill.at_s, self._die, kill)
        self.hub.call_later(end_s + 0.9 * BAR_S, self._heal)
        self.hub.call_later(end_s + (0.9 + QUIET_BARS) * BAR_S, self._ask_to_end)
        self.hub.call_later(end_s + 10 * BAR_S + WAITS_S, self._too_long)
        self.hub.run(self._done)
        self._count_fired()
        if not self.auditor.found:
            self.auditor.end()
        if self.process is not None:
            self.hub.bury(self.process)
        faults = sum(n for kind, n in self.counts.items() if not kind.startswith(("told", "ended")))
        image = self.disk.image()
        self.disk.db.end()
        return Outcome(
            plan, self.auditor.found, plan.bars, self.counts, faults, self.kills, self.starts, len(self.private.accepted),
            len(self.private.exchange.fills), self.halts, self.points, self.digest, image, self.log,
        )  # fmt: skip

    def _done(self) -> bool:
        if self.process is not None and not self.process.alive:
            self._see_death(self.process)
        return self.over or bool(self.auditor.found)

    def _too_long(self) -> None:
        why = "nobody is there" if self.trader is None else f"{self.trader.status}: {self.trader.why}"
        self.wrong(f"not at an end {WAITS_S:.0f} s after it was asked to stop ({why})")


def _where(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-4:])


@contextmanager
def simulating() -> Iterator[None]:
    """Virtual time, journals in memory and remembered forecasts, until the block ends."""
    opened, asked = journals.connect, supervision.connect  # type: ignore[attr-defined]

    def reach(_name: str, _keys: Any, _symbols: Any, _interval: str, _endpoint: Any, trouble: Any) -> Venue:
        return CURRENT[0]._venue(SCENE.hub.task.process, trouble)  # type: ignore[union-attr]

    PATH.parent.mkdir(exist_ok=True)
    PATH.touch()  # a journal gives itself a mode
    with hubs.installed(), remembered():
        journals.connect = lambda _path, **_: CURRENT[0].disk.open(SCENE.hub.task and SCENE.hub.task.process)  # type: ignore
        supervision.connect = reach
        try:
            yield
        finally:
            journals.connect, supervision.connect = opened, asked


CURRENT: list[Session] = []


def simulate(plan: Plan, log: bool = False, prepare: Callable[[Session], None] = lambda _: None) -> Outcome:
    """Inside `simulating()`."""
    session = Session(plan, log, prepare)
    CURRENT[:] = [session]
    return session.run()
