"""Faults of streams, candles, clocks and processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.panel import InputError
from data.standin.streams import StreamFault
from strategies.paper.orders.risk import Limits
from strategies.paper.trader import RECONCILING, RUNNING
from tests.strategies.paper.rig import HOUR_MS, SYMBOL, Rig
from tests.strategies.paper.test_faults import CREATE, fault

Make = Callable[..., Rig]
KLINE = "/v5/market/kline"


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@fault("killed after the intent was written, before anything was sent", "known as never sent; the same id is used once")
def test_killed_before_sending(rig: Make) -> None:
    r = rig()
    r.bar()
    _die_at(r, "create", before=True)
    r.tick()
    with pytest.raises(Killed):
        r.act()
    r.restart()
    row = r.act()
    assert row["acted"]
    assert [o["status"] for o in r.orders_of(r.newest_ms)] == ["filled"]
    r.settle()
    r.check()


@fault("killed after the order was accepted, before its answer", "found by its id at the start; not sent again")
def test_killed_after_accept(rig: Make) -> None:
    r = rig()
    r.bar()
    _die_at(r, "create", before=False)
    r.tick()
    with pytest.raises(Killed):
        r.act()
    r.restart()
    assert r.act()["acted"]
    (order,) = r.orders_of(r.newest_ms)
    assert (order["status"], order["sends"]) == ("filled", 1)
    r.settle()
    r.check()


@fault("killed after the fill, before it was journaled", "the missed fill is rebuilt from the execution list")
def test_killed_after_fill(rig: Make) -> None:
    r = rig()
    r.bar()
    _die_at(r, "executions", before=True)
    r.tick()
    with pytest.raises(Killed):
        r.act()
    r.restart()
    r.act()
    r.settle()
    r.check()


@fault(
    "hedge mode: killed after one side was closed, before the other was opened",
    "the other is opened, also where it is small",
)
def test_killed_between_the_sides(rig: Make) -> None:
    r = rig(hedge=True, private={"hedge": True}, limits=Limits(max_position=0.05, drawdown=0.99, daily_loss=0.99))
    real = r.trader.exchange.create

    def deadly(order: Any) -> str:
        flips = r.trader.books.held(SYMBOL)[0] == 0 and r.journal.rows(
            "SELECT 1 FROM intents WHERE open_ms = ? AND reduce_only = 1", r.newest_ms
        )
        if flips:
            raise Killed
        return str(real(order))

    r.trader.exchange.create = deadly  # type: ignore[method-assign]
    with pytest.raises(Killed):
        r.bar(12)
    assert r.exchange.account.size(SYMBOL) == 0
    r.restart()
    row = r.act()
    assert row["acted"]
    assert float(r.exchange.account.size(SYMBOL)) * row["target"] > 0
    r.settle()
    assert {e.exec_id for e in r.journal.executions()} == {f.exec_id for f in r.exchange.fills}


@fault("killed while REST still hides the accepted order", "never a second id for the same bar: 110072, adopted")
def test_killed_and_hidden(rig: Make) -> None:
    r = rig()
    r.bar()
    r.private.lag_s = r.private.match_s = 1e6
    _die_at(r, "create", before=False)
    r.tick()
    with pytest.raises(Killed):
        r.act()
    r.restart()
    r.hide_orders_until_second_send(already=1)
    r.act()
    assert len(r.orders_of(r.newest_ms)) == 1
    r.settle()
    r.check()


@fault("away for several bars", "every missed bar gets its decision, only the newest is traded")
def test_away_for_bars(rig: Make) -> None:
    r = rig()
    r.bar(2)
    sent = len(r.world.calls(CREATE))
    r.crash()
    r.tick(7)
    r.start()
    r.act()
    late = r.journal.rows("SELECT * FROM decisions WHERE note LIKE 'late%'")
    assert len(late) == 6
    assert len(r.world.calls(CREATE)) - sent <= 1
    r.settle()
    r.check()


@pytest.mark.slow
@fault("away for more candles than one page holds", "paged backwards; no candle is missing")
def test_long_absence(rig: Make) -> None:
    r = rig(bars=2_900)
    r.crash()
    r.tick(2_100)
    r.start()
    r.act()
    opens = [c[0] for c in r.journal.candles()]
    assert opens == list(range(opens[0], r.newest_ms + 1, HOUR_MS))


@fault("the exchange goes away and comes back", "reconciling meanwhile, then traded on")
def test_exchange_restarts(rig: Make) -> None:
    r = rig()
    r.bar()
    r.standin.stop()
    r.tick()
    r.act(1)
    assert r.trader.status == RECONCILING
    r.standin.start()
    assert r.act()["acted"]
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@fault("private messages twice", "each execution once, by execId")
def test_duplicate_messages(rig: Make) -> None:
    r = _streaming(rig)
    r.world.streams.faults.append(StreamFault("duplicate", "execution", nth=tuple(range(1, 50))))
    real = r.trader.books.sync_executions
    r.trader.books.sync_executions = lambda *_: []  # type: ignore[method-assign]
    r.bar(2)
    assert r.until(lambda: len(r.journal.executions()) == len(r.exchange.fills))
    assert r.journal.rows("SELECT 1 FROM executions WHERE source = 'stream'")
    r.trader.books.sync_executions = real  # type: ignore[method-assign]
    r.settle()
    r.check()


@pytest.mark.slow
@fault("private messages in the wrong order", "late ones never reopen an order; books agree")
def test_reordered_messages(rig: Make) -> None:
    r = _streaming(rig)
    r.world.streams.faults.append(StreamFault("reorder", "*", nth=tuple(range(1, 60, 2))))
    r.bar(3)
    assert not r.journal.unsettled()
    r.settle()
    r.check()


@pytest.mark.slow
@fault("private messages missing", "REST brings what the stream did not")
def test_missing_messages(rig: Make) -> None:
    r = _streaming(rig)
    r.world.streams.faults.append(StreamFault("drop", "*", nth=tuple(range(1, 500))))
    r.bar(3)
    r.settle()
    r.check()


@fault("private stream cut", "connected anew by itself; compared by REST before the next order")
def test_stream_cut(rig: Make) -> None:
    r = _streaming(rig)
    opened = r.trader.streams[0].connections
    r.world.streams.cut_all("private")
    assert r.until(lambda: r.trader.streams[0].connections > opened and r.trader.streams[0].up)
    r.bar()
    assert any("fills may have been missed" in text for text in r.events("state"))
    r.settle()
    r.check()


@pytest.mark.slow
@fault("private stream half open (silent)", "noticed by its heartbeat; connected anew")
def test_stream_silent(rig: Make) -> None:
    r = _streaming(rig)
    opened = r.trader.streams[0].connections
    for connection in list(r.world.streams.connections):
        connection.silent = connection.channel == "private"
    assert r.until(lambda: r.trader.streams[0].connections > opened and r.trader.streams[0].up)
    r.bar()
    r.settle()
    r.check()


@fault("malformed JSON on a stream", "the thread outlives it; connected anew")
def test_stream_malformed(rig: Make) -> None:
    r = _streaming(rig)
    opened = r.trader.streams[0].connections
    r.world.streams.faults.append(StreamFault("not_json", "order", nth=(1,)))
    r.bar()
    assert r.until(lambda: r.trader.streams[0].connections > opened and r.trader.streams[0].up)
    r.bar()
    r.settle()
    r.check()


@pytest.mark.slow
@fault("the exchange refuses streams for a while", "tried again with growing pauses until it does not; REST trades on")
def test_stream_refused(rig: Make) -> None:
    r = _streaming(rig)
    r.world.streams.refuse_for(0.4)
    r.world.streams.cut_all("*")
    assert r.until(lambda: not r.trader.streams[0].up)
    assert r.bar()["acted"]
    assert r.until(lambda: all(s.up for s in r.trader.streams))
    r.settle()
    r.check()


@pytest.mark.slow
@fault("login of the private stream refused", "said in the journal, tried again; the thread does not die")
def test_stream_login(rig: Make) -> None:
    r = _streaming(rig)
    r.private.auth_skew_ms = 60_000
    r.world.streams.cut_all("private")
    assert r.until(lambda: any("login refused" in text for text in r.events("stream")))
    r.private.auth_skew_ms = 0
    assert r.until(lambda: r.trader.streams[0].up)
    r.bar()
    r.settle()
    r.check()


@fault("a message that cannot be read", "compared by REST; the loop goes on")
def test_unreadable_message(rig: Make) -> None:
    r = _streaming(rig)
    r.world.streams.publish("execution", {"topic": "execution", "data": [{"symbol": SYMBOL}]}, "private")
    assert r.until(lambda: "could not be read" in r.trader._doubt)
    r.bar()
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@fault("a forming candle", "never used: a candle counts once a newer one exists")
def test_forming_candle(rig: Make) -> None:
    r = rig()
    r.tick()
    r.clock.advance(HOUR_MS // 2)
    r.act()
    known = {c[0]: c for c in r.journal.candles()}
    assert max(known) == r.newest_ms
    at = int((r.newest_ms - r.first_ms) // HOUR_MS)
    assert known[r.newest_ms][4] == pytest.approx(float(r.panel.column("close", SYMBOL)[at]))


@fault("no new candle for too long (stale data)", "reconciling: nothing is entered; goes on by itself with fresh data")
def test_stale_data(rig: Make) -> None:
    r = rig(limits=Limits(drawdown=0.99, daily_loss=0.99, stale_s=0.05))
    r.bar()
    time.sleep(0.06)
    r.trader._candles()
    assert (r.trader.status, "stale" in r.trader.why) == (RECONCILING, True)
    assert r.bar()["acted"]
    assert r.trader.status == RUNNING


@fault("candles missing in the answer", "asked again; never a hole in the history")
def test_candle_hole(rig: Make) -> None:
    r = rig()
    r.tick(4)
    r.fault("missing_rows", KLINE, times=3)
    r.act()
    opens = [c[0] for c in r.journal.candles()]
    assert opens == list(range(opens[0], r.newest_ms + 1, HOUR_MS))
    r.settle()
    r.check()


@pytest.mark.slow
@fault("candles twice in the answer", "each once")
def test_candle_twice(rig: Make) -> None:
    r = rig()
    r.fault("duplicate_rows", KLINE, times=3)
    r.bar(2)
    opens = [c[0] for c in r.journal.candles()]
    assert opens == list(range(opens[0], r.newest_ms + 1, HOUR_MS))


@fault("an impossible candle (high below low)", "not used, asked again")
def test_impossible_candle(rig: Make) -> None:
    r = rig()

    def spoil(body: bytes) -> bytes:
        answer = json.loads(body)
        answer["result"]["list"][1][2] = "1"
        return json.dumps(answer).encode()

    r.fault("replace", KLINE, times=7, replace=spoil)
    r.tick()
    r.act(1)
    assert "contradict each other" in r.trader.why
    assert r.act()["acted"]


@fault("this machine's clock is off", "refused beyond the bound: nothing is sent until it is set")
def test_clock_skew(rig: Make) -> None:
    r = rig(first=False)
    r.trader.timing = replace(r.trader.timing, check_clock=True)
    r.act(1)  # the market's clock stands in 2024
    assert "clock is" in r.trader.why
    assert not r.world.calls(CREATE)


@fault("the kill switch file", "orders cancelled, position kept, state stopped")
def test_kill_file(rig: Make) -> None:
    r = rig()
    r.bar()
    size = r.exchange.account.size(SYMBOL)
    r.trader.kill_file.write_text("stop\n")
    assert r.trader.run() == 0
    assert r.journal.get("state") == "stopped"
    assert r.exchange.account.size(SYMBOL) == size != 0


@fault("the kill switch with --flatten", "reduce-only until the exchange says flat, also when answers are lost")
def test_kill_and_flatten(rig: Make) -> None:
    r = rig()
    r.bar()
    r.fault("drop", CREATE, times=1)
    r.trader.kill_file.write_text("stop flatten\n")
    assert r.trader.run() == 0
    assert r.exchange.account.size(SYMBOL) == 0
    r.check()


@fault("stopped while no answer comes", "says what is not clean; exit 1")
def test_stop_without_exchange(rig: Make) -> None:
    r = rig()
    r.bar()
    r.standin.stop()
    r.trader.timing = replace(r.trader.timing, give_up_s=0.1)
    r.trader.kill_file.write_text("stop\n")
    assert r.trader.run() == 1
    assert r.journal.get("why").startswith("NOT clean")


@fault("two processes for one account", "the second is refused (exit 2)")
def test_two_processes(tmp_path: Path) -> None:
    from strategies.paper.supervision import Held

    with Held(tmp_path), pytest.raises(InputError, match="being traded already"), Held(tmp_path):
        pass


@fault("halted, then started again", "stays halted with its reason until --resume")
def test_halt_survives(rig: Make) -> None:
    r = rig()
    r.bar()
    r.trader._halt("a reason")
    r.restart()
    sent = len(r.world.calls(CREATE))
    r.trader._enter("halted", r.journal.get("why"))
    r.bar()
    assert r.trader.why == "a reason"
    assert len(r.world.calls(CREATE)) == sent


def _streaming(rig: Make) -> Rig:
    r = rig(streams=True)
    assert r.until(lambda: all(s.up for s in r.trader.streams))
    r.bar()
    return r


def _die_at(r: Rig, method: str, before: bool) -> None:
    """The process dies at a call of the exchange: before it is made, or after it was answered."""
    real = getattr(r.trader.exchange, method)

    def deadly(*arguments: Any, **more: Any) -> Any:
        if not before:
            real(*arguments, **more)
        raise Killed

    setattr(r.trader.exchange, method, deadly)
