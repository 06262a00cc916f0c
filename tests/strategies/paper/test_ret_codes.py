"""Every retCode of the exchange's page x every call: what happens is what its class promises (the table in docs/paper-trading.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pybit.exceptions import InvalidRequestError

from data.panel import InputError
from strategies.paper.orders.connection import Ambiguous, KeysRefused, Refused, Unavailable
from strategies.paper.orders.exchange import Exchange, Order
from strategies.paper.orders.ret_codes import ACCOUNT, CLASSES, KEYS, class_of, ret_codes
from strategies.paper.trader import HALTED, RUNNING
from tests.strategies.paper import table
from tests.strategies.paper.rig import SYMBOL, Rig, rest_order
from tests.strategies.paper.test_faults import CREATE, fault

Make = Callable[..., Rig]
ORDER = Order("a-link", SYMBOL, "Buy", Decimal("0.1"))
CALLS: dict[str, Callable[[Exchange], object]] = {
    "create": lambda e: e.create(ORDER),
    "cancel": lambda e: e.cancel(SYMBOL, "a-link"),
    "set leverage": lambda e: e.set_leverage(SYMBOL, Decimal(10)),
    "set mode": lambda e: e.set_mode(SYMBOL, False),
    "order": lambda e: e.order(SYMBOL, "a-link"),
    "open orders": lambda e: e.open_orders(SYMBOL),
    "executions": lambda e: e.executions(SYMBOL, 0),
    "positions": lambda e: e.positions(SYMBOL),
    "wallet": lambda e: e.wallet(),
    "account": lambda e: e.account(),
    "fees": lambda e: e.fees(SYMBOL),
    "instrument": lambda e: e.instrument(SYMBOL),
    "risk tiers": lambda e: e.tiers(SYMBOL),
    "ticker": lambda e: e.ticker(SYMBOL),
    "candles": lambda e: e.klines(SYMBOL, "60", 10),
    "funding": lambda e: e.settlements(SYMBOL, 10),
    "server time": lambda e: e.server_time_ms(),
}
assert tuple(CALLS) == table.CALLS


class _Session:
    """pybit's session, every call answered with one retCode."""

    code = 0
    calls = 0

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        return self._answer

    def _answer(self, **_request: Any) -> Any:
        self.calls += 1
        raise InvalidRequestError("request", "a message", self.code, "now", {})


def test_every_code_is_classified() -> None:
    found = ret_codes()
    parts = Counter(part for part, _ in found.values())
    assert (len(found), parts["uta"], parts["spot trade"], parts["asset"]) == (705, 197, 95, 127)
    assert {kind for _, kind in found.values()} == set(CLASSES)
    # as the exchange describes them: the codes that people met
    for kind, codes in {
        "definite": (110023, 110066, 110074, 10029, 110118),
        "ours": (10001, 10014, 110001, 110003, 110017, 110072, 110093, 110094),
        "limits": (110004, 110006, 110007, 110009, 110012, 110020, 110045, 110090, 170131),
        "passing": (-1, 429, 10000, 10002, 10006, 10016, 10018, 110079),
        "keys": (10003, 10004, 10005, 10007, 10008, 10009, 10010, 10024, 10027, 10028, 33004, -2015),
        "account": (110013, 110024, 110028, 110029, 110036, 110038, 110077),
        "done": (110025, 110026, 110043, 34040),
    }.items():
        assert {code: class_of(code) for code in codes} == dict.fromkeys(codes, kind)


def test_every_code_x_every_call() -> None:
    exchange, session = Exchange(None, retry_wait_s=0.0, tries=4), _Session()
    exchange._session = session
    seen: Counter[tuple[str, str, str]] = Counter()
    for code in (*ret_codes(), 123_456_789):
        for name, call in CALLS.items():
            session.code, session.calls = code, 0
            try:
                call(exchange)
                outcome = "done"
            except (Refused, Ambiguous, Unavailable, KeysRefused) as error:
                outcome = type(error).__name__
            seen[class_of(code), name, f"{outcome} after {session.calls}"] += 1
    want = Counter({
        (kind, name, table.outcome(kind, name, 4)): sum(class_of(c) == kind for c in (*ret_codes(), 123_456_789))
        for kind in CLASSES for name in CALLS
    })  # fmt: skip
    gone = (110001, 110008, 110010)  # nothing to cancel any more: that is what was wanted
    want["ours", "cancel", "Refused after 1"] -= len(gone)
    want["ours", "cancel", "done after 1"] += len(gone)
    assert seen == want
    assert sum(seen.values()) == 706 * len(CALLS)


ONE_OF = {"definite": 110066, "passing": 10016, "keys": 33004, "account": 110077, "limits": 110090, "ours": 110003, "done": 110025,
          "no table": 987_654}  # fmt: skip


@pytest.mark.parametrize("kind", ONE_OF)
@fault("a retCode of each class, and one of no table, on every order", "as its class promises; the other symbols go on")
def test_a_class_on_orders_of_one_symbol(rig: Make, kind: str) -> None:
    symbols = (SYMBOL, "ETHUSDT", "SOLUSDT")
    r = rig(symbols=symbols)
    code, real, sent = ONE_OF[kind], r.trader.exchange._session.place_order, Counter[str]()

    def place(**request: Any) -> Any:
        sent[request["symbol"]] += 1
        if request["symbol"] == SYMBOL:
            raise InvalidRequestError("request", "a message", code, "now", {})
        return real(**request)

    r.trader.exchange._session.place_order = place
    r.tick()
    row = r.act(40)
    notes = {symbol: str(found["note"]) for symbol, found in r.journal.decision(r.newest_ms).items()}
    if class_of(code) == KEYS:
        assert r.trader.status == HALTED
        assert str(code) in r.halts[0]
        return
    assert row["acted"]
    assert r.trader.status == RUNNING
    assert sum(sent[symbol] for symbol in symbols[1:]) == 2
    if kind == "done":  # nonsense for an order: it is looked up like a lost answer
        return
    assert sent[SYMBOL] == (8 if kind == "passing" else 1)
    assert notes[SYMBOL].startswith("refused")
    assert str(code) in notes[SYMBOL]
    assert all("filled" in notes[symbol] for symbol in symbols[1:])
    r.trader.exchange._session.place_order = real
    r.bar()
    assert r.trader.status == RUNNING
    r.settle()
    r.check()


@pytest.mark.parametrize("code", [33004, 10007, 10009, 10024, 10027, 10028, 401])
@fault("keys that expired, were deleted or may not trade; HTTP 401", "halted, alert")
def test_dead_keys_halt(rig: Make, code: int) -> None:
    r = rig()
    r.bar()
    r.fault("http_401" if code == 401 else f"code_{code}", "/v5/position/*", times=None)
    r.tick()
    r.act(3)
    assert r.trader.status == HALTED
    assert str(code) in r.halts[0]


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/v5/position/switch-mode", 110024, "close the position"),
        ("/v5/position/switch-mode", 110028, "cancel the open orders"),
        ("/v5/position/set-leverage", 110013, "lower --leverage"),
        ("/v5/position/set-leverage", 110038, "cross margin"),
        ("/v5/position/switch-mode", 10032, "another venue"),
    ],
)
@fault("an account whose set-up cannot work, at the start", "one line that says what to change; exit 2")
def test_account_that_cannot_work(rig: Make, path: str, code: int, said: str) -> None:
    r = rig(first=False)
    r.fault(f"code_{code}", path, times=None)
    with pytest.raises(InputError, match=said):
        r.trader.run()
    assert r.journal.get("state") == "stopped"
    assert str(code) in r.journal.get("why")
    assert class_of(code) in (ACCOUNT, "definite")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"marginMode": "PORTFOLIO_MARGIN"}, "portfolio margin"),
        ({"unifiedMarginStatus": 1}, "classic"),
        ({}, "holds no USDT"),
    ],
)
@fault("a classic account, portfolio margin, no USDT", "one line that says what to change; exit 2")
def test_account_of_another_kind(rig: Make, change: dict[str, Any], said: str) -> None:
    r = rig(first=False)
    r.private.info |= change
    if not change:
        r.exchange.account.coin = "BTC"
    with pytest.raises(InputError, match=said):
        r.trader.run()


@fault("qtyStep or minQty raised while it runs", "rules read again after the refusal; rounded anew; one order")
def test_step_raised(rig: Make) -> None:
    from dataclasses import replace

    r = rig()
    r.bar()
    market = r.world.market
    market.instruments[SYMBOL] = replace(market.instruments[SYMBOL], qty_step="0.1", min_order_qty="0.1")
    row = r.bar()
    assert "rounded anew" in row["note"], row["note"]
    assert any("step 0.001 -> 0.1" in text for text in r.events("rules"))
    orders = r.orders_of(row["open_ms"])
    assert [o["status"] for o in orders] in (["rejected", "filled"], ["rejected"]), "at most once more"
    for _ in range(3):
        assert "10001" not in r.bar()["note"]
    r.settle()
    r.check()


@fault("rules changed over night", "asked for every day, told; a position within the risk tier of the leverage")
def test_daily_rules(rig: Make) -> None:
    r = rig()
    asked = len(r.world.calls("/v5/market/instruments-info"))
    r.bar(25)
    assert 1 <= len(r.world.calls("/v5/market/instruments-info")) - asked <= 2
    r.trader.orders.rules.most_value[SYMBOL] = Decimal(1000)
    wanted, why = r.trader.orders.rules.within_tier(SYMBOL, Decimal(-2), 20_000.0)
    assert wanted == Decimal("-0.05")
    assert "may be worth 1000" in why


@fault("a person's resting and conditional orders, --foreign adopt", "left alone at every stop and halt")
def test_orders_of_a_person_stay(rig: Make) -> None:
    r = rig(foreign="adopt")
    r.bar()
    with r.world.lock:
        by_hand = r.exchange.accept({"category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "price": "9000",
                                     "qty": "0.001", "positionIdx": 0})  # fmt: skip
    ours = rest_order(r)
    r.bar()
    r.trader._halt("a reason")
    r.trader.kill_file.write_text("stop flatten\n")
    assert r.trader.run() == 1, "stopped while halted"
    assert by_hand.status == "New"
    assert r.exchange.by_link[ours].status == "Cancelled"
    assert not r.world.calls("/v5/order/cancel-all")


@fault("a spot fill of the same pair on the same account", "not ours: not booked, no halt")
def test_spot_fill(rig: Make) -> None:
    from data.standin.rows import fill_row
    from strategies.paper.decisions.streams import DATA, Note

    r = rig()
    r.bar()
    size = r.trader.books.size(SYMBOL)
    row = {**fill_row(r.exchange.fills[-1]), "execId": "a-spot-fill", "orderLinkId": "", "category": "spot"}
    r.trader._take(Note("private", DATA, message={"topic": "execution", "data": [row]}))
    assert r.trader.books.size(SYMBOL) == size
    r.bar()
    assert r.trader.status == RUNNING
    r.check()


@fault("the folder deleted, and started again within the bar", "ids of the new journal are others: nothing is adopted")
def test_a_new_journal_has_other_ids(rig: Make) -> None:
    r = rig(foreign="adopt")
    links = {str(row["link_id"]) for row in r.journal.rows("SELECT link_id FROM intents")}
    assert links
    r.crash()
    for path in r.folder.glob("journal.sqlite*"):
        path.unlink()
    r.start()
    r.act()
    again = {str(row["link_id"]) for row in r.journal.rows("SELECT link_id FROM intents")}
    assert not links & again
    codes = [c for c in r.events("order") if "110072" in c or "exists already" in c]
    assert not codes
    r.check_books()


def test_an_id_that_belongs_to_another_order_is_not_adopted(rig: Make) -> None:
    r = rig()
    r.bar()
    with r.world.lock:
        other = r.exchange.by_hand(SYMBOL, "Buy", "0.5")
        other.link_id = "p-taken"
        r.exchange.by_link["p-taken"] = other
    status = r.trader.desk.place(Order("p-taken", SYMBOL, "Sell", Decimal("0.1")), r.newest_ms, 1.0)
    assert status == "rejected"
    assert "belongs to another order" in str(r.journal.intent("p-taken")["reason"])
    assert len(r.world.calls(CREATE)) >= 1


@fault(
    "the only symbol stops trading while it runs",
    "skipped and told at every bar until it trades again; the process goes on",
)
def test_the_only_symbol_stops_trading(rig: Make) -> None:
    from dataclasses import replace

    r = rig()
    r.bar()
    instruments = r.world.market.instruments
    trading = instruments[SYMBOL]
    instruments[SYMBOL] = replace(trading, status="Closed")
    r.trader.orders.rules._day = -1
    notes = [r.bar()["note"] for _ in range(3)]
    assert all("not trading" in note for note in notes), notes
    assert "not trading" in dict(r.alerts)["refusal"]
    instruments[SYMBOL] = trading
    assert "not trading" not in r.bar()["note"]
    r.settle()
    r.check()
