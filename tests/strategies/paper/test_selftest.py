"""`paper selftest` against the stand-in: all cards, what it sends, what it says where something is wrong; it ends flat."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from strategies.paper.records.journal import Journal
from strategies.paper.selftest import FAILED, OK, SKIPPED, Card, Selftest, selftest
from strategies.paper.venues import connect
from tests.strategies.paper.rig import KEYS, SYMBOL, Rig

#: parameters of the requests as the exchange documents them (github.com/bybit-exchange/docs, docs/v5, commit 072c197); ! is required
DOCUMENTED = {
    "POST /v5/order/create": "category! symbol! isLeverage side! orderType! qty! marketUnit slippageToleranceType slippageTolerance price "
    "triggerDirection orderFilter triggerPrice triggerBy orderIv timeInForce positionIdx orderLinkId takeProfit stopLoss tpTriggerBy "
    "slTriggerBy reduceOnly closeOnTrigger smpType mmp tpslMode tpLimitPrice slLimitPrice tpOrderType slOrderType bboSideType bboLevel",
    "POST /v5/order/amend": "category! symbol! orderId orderLinkId orderIv triggerPrice qty price tpslMode takeProfit stopLoss tpTriggerBy "
    "slTriggerBy triggerBy tpLimitPrice slLimitPrice",
    "POST /v5/order/cancel": "category! symbol! orderId orderLinkId orderFilter",
    "GET /v5/order/realtime": "category! symbol baseCoin settleCoin orderId orderLinkId openOnly orderFilter limit cursor",
    "GET /v5/order/history": "category! symbol baseCoin settleCoin orderId orderLinkId orderFilter orderStatus startTime endTime limit "
    "cursor",
    "GET /v5/execution/list": "category! symbol orderId orderLinkId baseCoin settleCoin startTime endTime execType limit cursor",
    "GET /v5/position/list": "category! symbol baseCoin settleCoin limit cursor",
    "POST /v5/position/set-leverage": "category! symbol! buyLeverage! sellLeverage!",
    "POST /v5/position/switch-mode": "category! symbol coin mode!",
    "POST /v5/position/trading-stop": "category! symbol! tpslMode! positionIdx! takeProfit stopLoss trailingStop tpTriggerBy slTriggerBy "
    "activePrice tpSize slSize tpLimitPrice slLimitPrice tpOrderType slOrderType",
    "GET /v5/account/wallet-balance": "accountType! coin",
    "GET /v5/account/info": "",
    "GET /v5/account/fee-rate": "category! symbol baseCoin",
    "GET /v5/market/instruments-info": "category! symbol symbolType status baseCoin limit cursor",
    "GET /v5/market/tickers": "category! symbol baseCoin expDate",
    "GET /v5/market/time": "",
}
#: of them those that change something, as the exchange's examples write their values
VALUES = {"qty": r"\d+(\.\d+)?", "price": r"\d+(\.\d+)?", "stopLoss": r"\d+(\.\d+)?", "orderLinkId": r"[A-Za-z0-9_-]{1,36}",
          "buyLeverage": r"\d+", "sellLeverage": r"\d+", "side": "Buy|Sell", "orderType": "Market|Limit", "timeInForce": "PostOnly",
          "slTriggerBy": "MarkPrice", "tpslMode": "Full", "category": "linear", "symbol": SYMBOL}  # fmt: skip


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "rig")
    made.clock.set(made.clock.now_ms(), speed=1.0)
    yield made
    made.close()


def tried(r: Rig, folder: Path) -> tuple[bool, Selftest]:
    journal = Journal(folder / "journal.sqlite")
    journal.set(id="selftest", symbols=SYMBOL, interval="60", venue="local")
    venue = connect("local", KEYS, (SYMBOL,), "60", r.standin.url, lambda _: None)
    venue.exchange._wait_s = 0.001
    test = Selftest(venue, KEYS, journal, SYMBOL)
    said: list[Card] = []
    good = test.run(said.append)
    assert said == test.cards
    journal.close()
    return good, test


def test_every_card_is_ok_and_the_account_is_flat(standin: Rig, tmp_path: Path) -> None:
    good, test = tried(standin, tmp_path / "s")
    assert good, [card for card in test.cards if card.status != OK]
    assert len(test.cards) == 23
    assert all(card.seen for card in test.cards)
    assert standin.exchange.account.size(SYMBOL) == 0
    assert not standin.exchange.alive
    journal = Journal(tmp_path / "s" / "journal.sqlite")
    assert {e.exec_id for e in journal.executions()} == {f.exec_id for f in standin.exchange.fills}


def test_what_is_sent_is_what_the_exchange_documents(standin: Rig, tmp_path: Path) -> None:
    _, test = tried(standin, tmp_path / "s")
    kinds = set()
    for method, path, sent in test.sent:
        named = DOCUMENTED[f"{method} {path}"].split()
        required = {name[:-1] for name in named if name.endswith("!")}
        assert required <= set(sent) <= {name.rstrip("!") for name in named}, (path, sent)
        for name in set(sent) & set(VALUES):
            assert isinstance(sent[name], str), (path, name)
            assert re.fullmatch(VALUES[name], sent[name]), (path, name, sent[name])
        kinds.add(f"{method} {path}")
        assert KEYS.key not in json.dumps(sent)
    assert kinds >= {
        "POST /v5/order/create",
        "POST /v5/order/amend",
        "POST /v5/order/cancel",
        "POST /v5/position/trading-stop",
    }


def test_refused_keys_skip_what_needs_them(standin: Rig, tmp_path: Path) -> None:
    standin.fault("code_33004", "/v5/account/*", times=None)
    good, test = tried(standin, tmp_path / "s")
    assert not good
    assert test.cards[0].status == FAILED
    assert "33004" in test.cards[0].seen
    assert {card.status for card in test.cards[1:-1]} == {SKIPPED}
    assert not standin.world.calls("/v5/order/create")


def test_a_symbol_with_a_position_is_left_alone(standin: Rig, tmp_path: Path) -> None:
    with standin.world.lock:
        standin.exchange.by_hand(SYMBOL, "Buy", "0.5")
    good, test = tried(standin, tmp_path / "s")
    assert not good
    (card,) = [card for card in test.cards if card.status == FAILED and card.name == "was flat"]
    assert "this test needs a symbol without" in card.seen
    assert not standin.world.calls("/v5/order/create"), "the last card closes nothing that was not opened here"
    assert standin.exchange.account.size(SYMBOL) == Decimal("0.5")


def test_a_thin_book_fails_a_card_and_the_end_is_flat_all_the_same(standin: Rig, tmp_path: Path) -> None:
    real = standin.private._match

    def thin(ticket: Any) -> None:
        standin.exchange.liquidity = Decimal(0) if ticket.kind == "Market" and not ticket.reduce_only else None
        real(ticket)

    standin.private._match = thin  # type: ignore[method-assign]
    good, test = tried(standin, tmp_path / "s")
    assert not good
    failed = {card.name: card.seen for card in test.cards if card.status == FAILED}
    assert "0 of" in failed["market order"]
    assert test.cards[-1].status == OK
    assert standin.exchange.account.size(SYMBOL) == 0


@pytest.mark.slow
def test_the_command_plays_and_shows_its_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selftest("testnet", SYMBOL, None, 10, None, tmp_path, dry_run=True, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert len(told["cards"]) == 23
    assert {f"{r['method']} {r['path']}" for r in told["requests"]} <= set(DOCUMENTED)
