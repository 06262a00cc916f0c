"""Faults of one symbol while others are traded from its account: nothing of another one is doubled or lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import pytest

from data.panel import InputError
from strategies.backtest.portfolio import Portfolio
from strategies.paper.orders.connection import Unavailable
from strategies.paper.orders.risk import Limits
from strategies.paper.replay import explain
from strategies.paper.trader import HALTED, RECONCILING, RUNNING
from tests.strategies.paper.rig import HOUR_MS, SYMBOL, Rig
from tests.strategies.paper.test_faults import CREATE, fault
from tests.strategies.paper.test_faults_away import Killed

Make = Callable[..., Rig]
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
ETH = "ETHUSDT"


def _sent(r: Rig) -> list[str]:
    """Symbols of the orders written for the newest bar, in order."""
    return [row["symbol"] for row in r.orders_of(r.newest_ms)]


def _notes(r: Rig) -> dict[str, str]:
    return {symbol: str(row["note"]) for symbol, row in r.journal.decision(r.newest_ms).items()}


def _hide(r: Rig, symbol: str, begin: int, end: int = 2**62) -> None:
    """The exchange has no candles of a symbol there."""
    with r.world.lock:
        r.world.market.holes[symbol] = ((begin, end),)


@pytest.mark.parametrize("before", [True, False])
@fault("several symbols: killed between the legs of two of them", "the first is not sent again, the others once")
def test_killed_between_symbols(rig: Make, before: bool) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    real, calls = r.trader.exchange.create, [0]

    def deadly(order: Any) -> str:
        calls[0] += 1
        if calls[0] == 2 and before:
            raise Killed
        answer = real(order)
        if calls[0] == 2:
            raise Killed
        return str(answer)

    r.trader.exchange.create = deadly  # type: ignore[method-assign]
    r.tick()
    with pytest.raises(Killed):
        r.act()
    r.restart()
    assert r.act()["acted"]
    assert sorted(_sent(r)) == sorted(SYMBOLS)
    assert all(row["status"] == "filled" for row in r.orders_of(r.newest_ms))
    r.settle()
    r.check()


@fault("several symbols: one candle comes later than the others'", "the bar waits for it; one decision for all")
def test_a_late_candle(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.trader.feed.late_s = 60.0
    r.bar()
    last = r.newest_ms
    r.tick()
    _hide(r, ETH, r.newest_ms + HOUR_MS)
    r.act(3)
    assert r.journal.last_candle_ms() == last
    assert not r.orders_of(r.newest_ms)
    r.world.market.holes.clear()
    assert r.act()["acted"]
    assert set(_sent(r)) == set(SYMBOLS)
    assert r.journal.candles(ETH)[-1][4] > 0
    assert not r.events("late")
    r.settle()
    r.check()


@fault(
    "several symbols: one candle does not come at all",
    "after the wait it is unknown at that bar, for good: flat as in the backtest; the others trade",
)
def test_a_missing_candle(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, model={"portfolio": asdict(Portfolio("volatility_target"))})
    r.bar(2)
    r.tick()
    missed = r.newest_ms
    _hide(r, ETH, missed, missed + 2 * HOUR_MS)
    r.until(lambda: bool(r.act(2)["open_ms"] == missed and r.act(2)["acted"]))
    row = r.journal.decision(missed)
    assert (row[ETH]["target"], row[ETH]["forecast"]) == (0.0, None)
    assert all(row[symbol]["forecast"] is not None for symbol in SYMBOLS if symbol != ETH)
    assert any(ETH in text and "unknown at 1 bar" in text for text in r.events("late"))
    assert r.exchange.account.size(ETH) == 0
    r.world.market.holes.clear()  # it comes after all
    r.bar(3)
    r.settle()
    r.check()
    candles = {c[0]: c[4] for c in r.journal.candles(ETH)}
    assert candles[missed] != candles[missed], "unknown for good: the decision was made without it"
    assert candles[missed + HOUR_MS] > 0
    told = explain(r.journal)
    assert told.identical == told.compared == 7


@fault("several symbols: the answer to one order is lost while the others fill", "looked up; one order of each symbol")
@pytest.mark.parametrize("kind", ["drop", "reset"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_one_answer_lost(rig: Make, kind: str, nth: int) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    r.fault(kind, CREATE, nth=(nth,))
    r.bar()
    orders = r.orders_of(r.newest_ms)
    assert sorted(row["symbol"] for row in orders) == sorted(SYMBOLS)
    assert sorted(row["sends"] for row in orders) == ([1, 1, 1] if kind == "drop" else [1, 1, 2])
    r.settle()
    r.check()


@fault("several symbols: the fate of one order stays unknown", "no other symbol's order is sent until it is known")
def test_fate_unknown(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    r.fault("drop", "/v5/order/*", times=None)
    r.tick()
    r.act(3)
    assert r.trader.status == RECONCILING
    assert len(r.orders_of(r.newest_ms)) == 1
    r.world.faults.clear()
    r.act()
    assert sorted(_sent(r)) == sorted(SYMBOLS)
    r.settle()
    r.check()


@fault("several symbols: one has no ticker", "the others are traded; it is tried again until the next bar")
def test_no_ticker(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    real = r.trader.exchange.ticker

    def ticker(symbol: str) -> Any:
        if symbol == ETH:
            raise Unavailable("no ticker of ETHUSDT")
        return real(symbol)

    r.trader.exchange.ticker = ticker  # type: ignore[method-assign]
    r.tick()
    r.act(3)
    assert set(_sent(r)) == {"BTCUSDT", "SOLUSDT"}
    assert r.trader.status == RECONCILING
    r.trader.exchange.ticker = real  # type: ignore[method-assign]
    r.act()
    assert sorted(_sent(r)) == sorted(SYMBOLS)
    r.trader.exchange.ticker = ticker  # type: ignore[method-assign]
    r.tick()
    r.act(3)
    missed = r.newest_ms
    r.bar()
    assert "not traded" in r.journal.decision(missed)[ETH]["note"]
    r.trader.exchange.ticker = real  # type: ignore[method-assign]
    r.settle()
    r.check()


@fault("several symbols: one order is refused (balance)", "given up for this bar; the others are traded")
def test_one_refused(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    r.fault("code_110007", CREATE, nth=(1,))
    r.bar()
    assert sum("refused" in note for note in _notes(r).values()) == 1
    assert sum("filled" in note for note in _notes(r).values()) == 2
    r.bar()
    r.settle()
    r.check()


@fault(
    "several symbols: one is not trading when the program starts again",
    "it is skipped until it trades; the others go on",
)
def test_not_trading(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    instruments = r.world.market.instruments
    trading = instruments[ETH]
    instruments[ETH] = replace(trading, status="Closed")
    r.restart()
    r.bar()
    assert "not trading" in _notes(r)[ETH]
    assert set(_sent(r)) == {"BTCUSDT", "SOLUSDT"}
    instruments[ETH] = trading
    r.bar()
    assert "not trading" not in _notes(r)[ETH]
    r.settle()
    r.check()


@fault("several symbols: one is not trading at the first start", "does not start; says which (exit 2)")
def test_not_trading_at_first(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, first=False)
    instruments = r.world.market.instruments
    instruments[ETH] = replace(instruments[ETH], status="PreLaunch")
    with pytest.raises(InputError, match="ETHUSDT is not trading"):
        r.trader.step()


@fault("several symbols: an order by hand on one of them (default)", "fill booked; all are halted")
def test_foreign_fill_halts_all(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar()
    with r.world.lock:
        r.exchange.by_hand(ETH, "Buy", "0.50")
    sent = len(r.world.calls(CREATE))
    r.bar(2)
    assert r.trader.status == HALTED
    assert "0.50 ETHUSDT" in r.trader.why or "0.5 ETHUSDT" in r.trader.why
    assert len(r.world.calls(CREATE)) == sent


@fault(
    "several symbols: an order by hand on a symbol that is not traded",
    "neither read nor touched; equity is the account's",
)
def test_other_symbols_are_left_alone(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, chosen="BTCUSDT,SOLUSDT", model={"portfolio": asdict(Portfolio())})
    r.bar()
    with r.world.lock:
        r.exchange.by_hand(ETH, "Buy", "0.50")
    r.bar(2)
    assert r.trader.status == RUNNING
    assert str(r.exchange.account.size(ETH)) == "0.50"
    assert {e.symbol for e in r.journal.executions()} == {"BTCUSDT", "SOLUSDT"}
    assert set(_sent(r)) <= {"BTCUSDT", "SOLUSDT"}


@fault("several symbols: orders of one are written too fast", "all are halted; which one is said")
def test_order_rate_of_one(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, limits=Limits(drawdown=0.99, daily_loss=0.99, orders_per_24_bars=4))
    r.bar(3)
    assert r.trader.status == RUNNING, "twelve orders, four of each"
    r.bar(4)
    assert r.trader.status == HALTED
    assert "in 24 bars reach the limit of 4" in r.trader.why
    r.settle()
    r.check()


@fault("several symbols: the kill switch with --flatten", "every position is closed reduce-only")
def test_flatten_all(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar(2)
    assert all(r.exchange.account.size(symbol) for symbol in SYMBOLS)
    r.fault("drop", CREATE, times=1)
    r.trader.kill_file.write_text("stop flatten\n")
    assert r.trader.run() == 0
    assert not any(r.exchange.account.size(symbol) for symbol in SYMBOLS)
    r.check()


def test_gross_exposure_is_capped_for_the_account(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, limits=Limits(max_position=0.1, drawdown=0.99, daily_loss=0.99))
    r.bar(2)
    closes, equity = r.trader.history.closes, float(r.exchange.account.equity(r.exchange.marks()))
    gross = sum(abs(float(r.exchange.account.size(s))) * closes[s] for s in SYMBOLS) / equity
    assert 0.09 < gross <= 0.1
    assert SYMBOL in closes


@fault(
    "several symbols: away, and one has no candle of the newest bar yet", "the older bars are decided, the newest waits"
)
def test_away_and_one_late(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.trader.feed.late_s = 60.0
    r.tick(5)
    _hide(r, ETH, r.newest_ms + HOUR_MS)
    r.act(3)
    assert r.journal.last_candle_ms() == r.newest_ms - HOUR_MS
    late = r.journal.rows("SELECT DISTINCT open_ms FROM decisions WHERE note LIKE 'late%'")
    assert len(late) == 3
    r.world.market.holes.clear()
    assert r.act()["acted"]
    assert not r.events("late")
    r.settle()
    r.check()


@fault(
    "several symbols: what one reads beside its candles does not come",
    "unknown at that bar after the wait; the others trade",
)
def test_no_companion(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, features=(("return", "raw"), ("open_interest", "ewm32")))
    r.bar(2)
    real = r.trader.companions.news

    def news(keys: Any, *more: Any) -> Any:
        if any(key.symbol == ETH for key in keys):
            raise Unavailable("open interest of ETHUSDT does not come")
        return real(keys, *more)

    r.trader.companions.news = news  # type: ignore[method-assign]
    r.tick()
    r.act(1)
    assert "does not come" in r.trader.why
    r.until(lambda: bool(r.act(2)["acted"] and r.act(2)["open_ms"] == r.newest_ms))
    assert r.journal.decision(r.newest_ms)[ETH]["forecast"] is None
    assert r.journal.decision(r.newest_ms)[SYMBOL]["forecast"] is not None
    r.trader.companions.news = real  # type: ignore[method-assign]
    r.bar(3)
    r.settle()
    r.check()
    told = explain(r.journal)
    assert told.identical == told.compared == 7


@fault(
    "several symbols: more is held of two than all executions explain, --foreign adopt",
    "taken over at the price the exchange shows; balance corrected; equity agrees",
)
def test_unexplained_positions_are_adopted(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, foreign="adopt")
    r.bar(2)
    with r.world.lock:
        for symbol, size in ((ETH, "3.00"), ("SOLUSDT", "-20.0")):
            price = r.exchange.mark(symbol)
            r.exchange.account.fill(symbol, 0, Decimal(size), price, Decimal("0.5"), r.clock.now_ms())
    r.trader.books.agree(r.newest_ms + 3 * HOUR_MS)
    (told,) = [text for text in r.events("foreign") if "adopted" in text]
    assert "3.00 ETHUSDT, -20.0 SOLUSDT more than all executions explain" in told
    r.bar(2)
    r.settle()
    r.check()


@fault(
    "several symbols: positions are there at the first start, --foreign adopt or flatten",
    "gone on from, or closed first",
)
@pytest.mark.parametrize("foreign", ["adopt", "flatten"])
def test_positions_at_the_first_start(rig: Make, foreign: str) -> None:
    r = rig(symbols=SYMBOLS, first=False, foreign=foreign)
    r.exchange.by_hand(ETH, "Buy", "5.00")
    r.exchange.by_hand("SOLUSDT", "Sell", "40.0")
    r.clock.advance(2 * HOUR_MS)
    r.act()
    r.bar(2)
    r.settle()
    marks = {symbol: r.exchange.mark(symbol) for symbol in SYMBOLS}
    assert {s: r.trader.books.size(s) for s in SYMBOLS} == {s: r.exchange.account.size(s) for s in SYMBOLS}
    assert abs(r.trader.books.equity(marks) - r.exchange.account.equity(marks)) < Decimal("1e-6")


@fault(
    "several symbols, hedge mode: changes of side",
    "each side closed reduce-only under its index before the other is opened",
)
def test_hedge_of_several(rig: Make) -> None:
    r = rig(symbols=SYMBOLS, hedge=True, private={"hedge": True})
    r.bar(6)
    assert r.trader.status == RUNNING
    indices = {row["position_idx"] for row in r.journal.rows("SELECT position_idx FROM intents")}
    assert indices == {1, 2}
    for symbol in SYMBOLS:
        sides = [h.size for (name, _), h in r.exchange.account.holdings.items() if name == symbol and h.size]
        assert len(sides) <= 1, "never both sides at once"
    r.settle()
    r.check()


@fault(
    "several symbols: the kill switch with --flatten while one does not answer", "the others are closed; exit 1, said"
)
def test_flatten_though_one_fails(rig: Make) -> None:
    r = rig(symbols=SYMBOLS)
    r.bar(2)
    real = r.trader.exchange.positions

    def positions(symbol: str) -> Any:
        if symbol == "BTCUSDT":
            raise Unavailable("no positions of BTCUSDT")
        return real(symbol)

    r.trader.exchange.positions = positions  # type: ignore[method-assign]
    r.trader.books._pause = lambda _: None
    r.trader.closing._pause = lambda _: r.trader.ask_to_stop("once more")  # it would go on without end
    r.trader.kill_file.write_text("stop flatten\n")
    assert r.trader.run() == 1
    assert [bool(r.exchange.account.size(symbol)) for symbol in SYMBOLS] == [True, False, False]
    assert "no positions of BTCUSDT" in " ".join(r.events("stop"))
    r.trader.exchange.positions = real  # type: ignore[method-assign]
    r.check()
