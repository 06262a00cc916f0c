"""The kill switch under every kind of failure: flat as soon as the exchange allows, and the words and the exit code are true meanwhile.

REGIME_SEEDS=20 runs every kind with so many seeds (a way of stopping, a size, a moment at which the exchange recovers, each).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strategies.paper.orders.closing import Closing
from strategies.paper.records.journal import JournalError
from tests.strategies.paper.rig import SYMBOL, Rig, rest_order
from tests.strategies.paper.test_faults import CREATE, POSITIONS, fault

Make = Callable[..., Rig]
SEEDS = range(int(os.environ.get("REGIME_SEEDS", "1")))
#: what fails -> how it is made to, until the test ends it
KINDS: dict[str, Callable[[Rig, random.Random], None]] = {
    "thin book": lambda r, dice: setattr(r.exchange, "liquidity", Decimal(dice.choice(["0.05", "0.01", "0.1"]))),
    "empty book": lambda r, dice: setattr(r.exchange, "liquidity", Decimal(0)),
    "refused: parameters": lambda r, dice: _always(r, "code_10001"),
    "refused: balance": lambda r, dice: _always(r, "code_110007"),
    "refused: nothing to reduce": lambda r, dice: _always(r, "code_110017"),
    "refused: a code of no table": lambda r, dice: _always(r, f"code_{dice.randrange(900_000_000, 10**9)}"),
    "above the largest order": lambda r, dice: _largest(r, Decimal(dice.choice(["0.05", "0.2", "0.11"]))),
    "answers lost": lambda r, dice: _always(r, dice.choice(["drop", "half", "not_json", "http_500", "code_10016"])),
    "position not told": lambda r, dice: _always(r, "http_500", POSITIONS),
    "step raised": lambda r, dice: _coarse(r),
    "disk full": lambda r, dice: _full_disk(r),
    "clock refused": lambda r, dice: _always(r, "code_10002", "/v5/order/*"),
}
WAYS = ("stop", "stop, killed in between", "halt", "no process")


def _always(r: Rig, kind: str, path: str = CREATE) -> None:
    r.fault(kind, path, times=None)


def _instrument(r: Rig, **changes: Any) -> None:
    market = r.world.market
    market.instruments[SYMBOL] = replace(market.instruments[SYMBOL], **changes)


def _largest(r: Rig, qty: Decimal) -> None:
    _instrument(r, max_market_qty=str(qty))


def _coarse(r: Rig) -> None:
    _instrument(r, qty_step="10", min_order_qty="10", max_order_qty="1000", max_market_qty="500")


def _full_disk(r: Rig) -> None:
    """Every page that the database would grow by is refused, as on a full disk (SQLITE_FULL)."""
    pages = r.journal.rows("PRAGMA page_count")[0][0]
    r.journal._db.execute(f"PRAGMA max_page_count = {pages}")
    filled = len(r.journal.rows("SELECT 1 FROM intents"))  # by an earlier call
    for fill in (lambda k: r.journal.event("filler", "x" * 900), lambda k: _intend(r, f"{filled}-{k}")):
        with pytest.raises(JournalError, match="make room on the disk"):
            _until_it_fails(fill)


def _until_it_fails(fill: Callable[[int], None]) -> None:
    for k in range(100_000):
        fill(k)


def _intend(r: Rig, k: str) -> None:
    r.journal.intend(
        f"filler-{k}", open_ms=0, symbol="OTHER", side="Buy", qty="1", kind="Market", price=None, reduce_only=0, position_idx=0,
        reference=1.0, status="lost",
    )  # fmt: skip


def _recover(r: Rig, kind: str) -> None:
    r.world.faults.clear()
    r.exchange.liquidity = None
    if kind == "disk full":
        r.journal._db.execute("PRAGMA max_page_count = 1073741823")


def _held(r: Rig) -> Decimal:
    return Decimal(r.exchange.account.size(SYMBOL))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
@fault(
    "the kill switch, a stop or a halt that closes positions, while closing fails in one of 12 ways",
    "goes on with growing pauses; what is left is said; flat as soon as the exchange allows; exit code true",
)
def test_flat_as_soon_as_the_exchange_allows(rig: Make, kind: str, seed: int) -> None:
    dice = random.Random(f"{kind}/{seed}")
    r = rig(flatten_on_halt=True)
    r.bar(dice.randrange(1, 4))
    rest_order(r)
    way = WAYS[(seed + list(KINDS).index(kind)) % len(WAYS)]
    if kind == "disk full" and way != "no process":
        way = "stop"  # a halt that cannot be written ends the process: the next test
    assert _held(r)
    KINDS[kind](r, dice)
    possible = not _fails(kind) or kind == "thin book"
    fails = dice.randrange(9, 20)  # rounds; the numbers of ids of old met after eight
    words: list[str] = []

    def pause(_seconds: float) -> None:
        """Between two rounds: the account is what was said of it; at the chosen one the exchange recovers."""
        held = _held(r)
        words.append("flat" if not held else str(held))
        if len(words) == fails:
            _recover(r, kind)
        assert len(words) < fails + 25, f"not flat 25 rounds after the exchange recovered: {held}, {kind}, {way}"

    def armed(closing: Closing) -> Closing:
        closing._pause = pause
        return closing

    if way == "halt":
        armed(r.trader.closing)
        r.trader._clean_wait_s = 0.0
        r.trader._halt("a reason")
        for _ in range(fails + 25):
            if not r.journal.get("cleanup"):
                break
            assert _held(r) or possible or len(words) >= fails, "told to be unclean, but it is"
            pause(0.0)
            r.trader._cleaned_s, r.trader._clean_wait_s = 1e-9, 0.0
            r.trader._clean_after_halt()
        assert r.journal.get("cleanup") == ""
        if _fails(kind):
            assert "NOT clean" in r.halts[0]
            assert "cleaned up by now: flat" in r.halts[-1]
    elif way == "no process":
        r.restart()
        if kind == "disk full":
            KINDS[kind](r, dice)
        ending = armed(r.trader.closing).until_clean(
            True, r.journal.last_candle_ms(), "stop", lambda: False, lambda text: None
        )
        assert (ending.clean, ending.words) == (True, "flat")
    else:
        if way == "stop, killed in between":
            armed(r.trader.closing)._pause = _dies
            r.trader.kill_file.write_text("stop flatten\n")
            if _fails(kind):
                with pytest.raises(_Killed):
                    r.trader.run()
                assert r.journal.get("ended") == "", "nothing was reached that could be reported"
            else:
                with suppress(_Killed):
                    assert r.trader.run() == 0
            r.restart()
        armed(r.trader.closing)
        r.trader.kill_file.write_text("stop flatten\n")
        if kind == "disk full":
            assert _stops_on_a_full_disk(r) in (0, 1)
        else:
            assert r.trader.run() == 0
            assert (r.journal.get("state"), r.journal.get("ended")) == ("stopped", "flat")
    assert _held(r) == 0
    assert not [t for t in r.exchange.alive.values() if t.link_id], "an order of ours is left"
    if kind != "disk full":
        r.trader.books.sync_executions(r.newest_ms + 3 * 3_600_000)
        r.check()


def _fails(kind: str) -> bool:
    return kind not in ("above the largest order", "step raised", "disk full", "answers lost")


def _stops_on_a_full_disk(r: Rig) -> int:
    try:
        return r.trader.run()
    except JournalError:
        return 1


def test_a_fill_that_closing_is_first_told_of_settles_its_order(rig: Make) -> None:
    r = rig()
    r.bar(1)
    link = r.journal.rows("SELECT link_id FROM intents WHERE status = 'filled'")[0]["link_id"]
    r.journal._db.execute("DELETE FROM executions WHERE link_id = ?", (link,))
    r.journal.update_intent(link, status="lost", filled="0", order_id=None)
    assert r.trader.closing.round(False, r.journal.last_candle_ms(), "test").clean
    row = r.journal.intent(link)
    assert (row["status"], Decimal(row["filled"])) == ("filled", r.journal.filled(link))
    assert r.journal.unsettled() == []


class _Killed(Exception):
    pass


def _dies(_seconds: float) -> None:
    raise _Killed


@fault(
    "the disk is full while it trades",
    "orders cancelled, positions closed where a halt does so, alert; ends in one line",
)
def test_a_full_disk_ends_trading_in_one_line(rig: Make) -> None:
    r = rig(flatten_on_halt=True)
    r.bar()
    assert _held(r)
    _full_disk(r)
    r.tick()
    with pytest.raises(JournalError, match="make room on the disk"):
        r.trader.run()
    assert _held(r) == 0
    assert "make room on the disk" in r.halts[-1]
    r.journal._db.execute("PRAGMA max_page_count = 1073741823")
    r.restart()
    r.bar()
    r.settle()
    assert r.trader.status == "halted", "fills of orders that the journal could not keep are not ours to it"
    assert {e.exec_id for e in r.journal.executions()} == {f.exec_id for f in r.exchange.fills}
