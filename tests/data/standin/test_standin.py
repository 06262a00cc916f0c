"""The stand-in exchange speaks v5: envelopes, paging, limits, refusals, streams, and the faults it was told."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import requests
from websocket import WebSocketConnectionClosedException, create_connection

from data.standin import Fault, Market, StandIn, World
from data.standin.public_streams import PublicStreams
from data.standin.streams import Connection, StreamFault
from tests.data.moment import HOUR, NOW


def ask(exchange: StandIn, path: str, **query: object) -> dict:
    return requests.get(exchange.url + path, params=query, timeout=5).json()


def klines(exchange: StandIn, **query: object) -> list[list[str]]:
    answer = ask(exchange, "/v5/market/kline", **{"category": "linear", "symbol": "BTCUSDT", "interval": "60", **query})
    assert answer["retCode"] == 0, answer
    return answer["result"]["list"]


def test_klines_come_newest_first_as_strings_and_include_the_forming_bar(exchange: StandIn) -> None:
    rows = klines(exchange)
    times = [int(row[0]) for row in rows]
    assert len(rows) == 200
    assert times == sorted(times, reverse=True)
    assert times[0] <= NOW < times[0] + HOUR
    assert all(isinstance(cell, str) for row in rows for cell in row)
    assert len(rows[0]) == 7


def test_a_start_inside_a_bar_returns_that_bar_and_a_page_holds_at_most_1000(exchange: StandIn) -> None:
    opened = NOW // HOUR * HOUR - 50 * HOUR
    assert int(klines(exchange, start=opened + 1, end=opened + HOUR)[-1][0]) == opened
    rows = klines(exchange, start=NOW - 4000 * HOUR, end=NOW, limit=5000)
    assert len(rows) == 1000
    assert int(rows[0][0]) == NOW // HOUR * HOUR


def test_a_coarse_bar_is_made_of_its_fine_bars(exchange: StandIn) -> None:
    opened = NOW // (4 * HOUR) * 4 * HOUR - 8 * HOUR
    (coarse,) = klines(exchange, interval="240", start=opened, end=opened)
    fine = klines(exchange, start=opened, end=opened + 3 * HOUR)[::-1]
    assert coarse[1] == fine[0][1]
    assert coarse[4] == fine[3][4]
    assert float(coarse[2]) == max(float(row[2]) for row in fine)
    assert float(coarse[3]) == min(float(row[3]) for row in fine)
    assert float(coarse[5]) == pytest.approx(sum(float(row[5]) for row in fine))


def test_the_forming_bar_changes_as_it_forms_and_closed_bars_never_do(exchange: StandIn) -> None:
    before = klines(exchange)
    exchange.world.clock.advance(20 * 60_000)
    after = klines(exchange)
    assert after[0][0] == before[0][0]
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_a_bar_shows_nothing_of_the_minutes_after_now(exchange: StandIn) -> None:
    candles, shown = exchange.world.market.base("BTCUSDT"), klines(exchange)
    later = np.where(candles.opens_ms > NOW, 3.0, 1.0)
    changed = replace(candles, close=candles.close * later, high=candles.high * later)
    exchange.world.market._candles["BTCUSDT"] = changed
    assert klines(exchange) == shown


@pytest.mark.parametrize(
    ("query", "code"),
    [({"symbol": "NOPE"}, 10001), ({"interval": "7"}, 10001), ({"start": NOW, "end": NOW - 1}, 10001)],
)
def test_bad_parameters_are_refused(exchange: StandIn, query: dict, code: int) -> None:
    asked = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", **query}
    assert ask(exchange, "/v5/market/kline", **asked)["retCode"] == code


def test_funding_wants_an_end_time_and_gives_200_rows(exchange: StandIn) -> None:
    path, query = "/v5/market/funding/history", {"category": "linear", "symbol": "BTCUSDT"}
    assert ask(exchange, path, **query, startTime=NOW - 100 * HOUR)["retCode"] == 10001
    rows = ask(exchange, path, **query, endTime=NOW)["result"]["list"]
    times = [int(row["fundingRateTimestamp"]) for row in rows]
    assert len(rows) == 200
    assert times[0] <= NOW
    assert {a - b for a, b in pairwise(times)} == {8 * HOUR}


def test_open_interest_pages_by_cursor_without_a_seam(exchange: StandIn) -> None:
    query = {
        "category": "linear",
        "symbol": "BTCUSDT",
        "intervalTime": "1h",
        "startTime": NOW - 450 * HOUR,
        "limit": 200,
    }
    times: list[int] = []
    cursor = ""
    while True:
        result = ask(exchange, "/v5/market/open-interest", **query, endTime=NOW, cursor=cursor)["result"]
        times += [int(row["timestamp"]) for row in result["list"]]
        if not (cursor := result["nextPageCursor"]):
            break
    assert len(times) == 450
    assert {a - b for a, b in pairwise(times)} == {HOUR}


@pytest.mark.parametrize("kind", ["reset", "drop", "half", "hang"])
def test_a_lost_answer_is_a_network_error(exchange: StandIn, kind: str) -> None:
    exchange.world.faults.add(Fault(kind, times=1, seconds=0.01))
    with pytest.raises(requests.exceptions.RequestException):
        klines(exchange)
    assert len(klines(exchange)) == 200


def test_a_fault_hits_the_nth_call_of_its_path_only(exchange: StandIn) -> None:
    exchange.world.faults.add(Fault("code_10016", "/v5/market/kline", nth=(2,)))
    assert ask(exchange, "/v5/market/time")["retCode"] == 0
    query = {"category": "linear", "symbol": "BTCUSDT", "interval": "60"}
    assert [ask(exchange, "/v5/market/kline", **query)["retCode"] for _ in range(3)] == [0, 10016, 0]


def test_faults_at_random_are_as_frequent_as_asked(exchange: StandIn) -> None:
    faults = exchange.world.faults
    faults.at_random(0.2, path="*")
    hit = sum(faults.draw("/x") is not None for _ in range(5000))
    assert 900 < hit < 1100
    assert min(faults.counts.values()) > 0.4 * max(faults.counts.values())


def test_above_the_request_limit_comes_403(exchange: StandIn) -> None:
    exchange.world.rate_limit = (3, 60.0)
    statuses = [requests.get(f"{exchange.url}/v5/market/time", timeout=5).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 403]


def socket(exchange: StandIn, *topics: str):
    ws = create_connection(exchange.ws_public_url.format(CHANNEL_TYPE="linear"), timeout=5)
    ws.send(json.dumps({"op": "subscribe", "args": list(topics)}))
    return ws, json.loads(ws.recv())


def test_a_book_stream_is_a_snapshot_then_deltas_without_a_gap(exchange: StandIn) -> None:
    ws, answer = socket(exchange, "orderbook.50.BTCUSDT")
    assert answer["success"] is True
    first = json.loads(ws.recv())
    assert first["type"] == "snapshot"
    assert len(first["data"]["b"]) == len(first["data"]["a"]) == 50
    assert float(first["data"]["b"][0][0]) < float(first["data"]["a"][0][0])
    for step in range(1, 4):
        exchange.world.clock.advance(700)
        message = json.loads(ws.recv())
        assert (message["type"], message["data"]["u"]) == ("delta", first["data"]["u"] + step)
    ws.close()


def test_a_ping_is_answered_and_an_unknown_topic_refused(exchange: StandIn) -> None:
    ws, answer = socket(exchange, "orderbook.7.BTCUSDT")
    assert answer["success"] is False
    ws.send(json.dumps({"op": "ping", "req_id": "1"}))
    assert json.loads(ws.recv())["ret_msg"] == "pong"
    ws.close()


def test_a_kline_stream_confirms_a_bar_once_it_has_closed(exchange: StandIn) -> None:
    ws, _ = socket(exchange, "kline.60.BTCUSDT")
    assert json.loads(ws.recv())["data"][0]["confirm"] is False
    exchange.world.clock.advance(HOUR)
    while not (row := json.loads(ws.recv())["data"][0])["confirm"]:
        pass
    assert row["start"] == NOW // HOUR * HOUR
    ws.close()


def test_a_stream_can_be_cut_and_lose_messages(exchange: StandIn) -> None:
    exchange.world.streams.faults += [StreamFault("drop", nth=(2,)), StreamFault("abort", nth=(3,))]
    ws, _ = socket(exchange, "orderbook.50.BTCUSDT")
    first = json.loads(ws.recv())["data"]["u"]
    exchange.world.clock.set(NOW, speed=50)
    with pytest.raises((WebSocketConnectionClosedException, ConnectionError)):
        ws.recv()
    assert first == 1001


def test_pybit_talks_to_it(exchange: StandIn) -> None:
    from pybit.unified_trading import HTTP

    session = HTTP()
    session.endpoint = exchange.url
    assert len(session.get_kline(category="linear", symbol="ETHUSDT", interval="D", limit=30)["result"]["list"]) == 30


def test_what_a_tick_tells_has_the_same_order_in_every_process() -> None:
    """Topics are kept as a set, whose order depends on PYTHONHASHSEED: a simulated session of two symbols had other bytes elsewhere."""
    world = World()
    streams, told = PublicStreams(world, "linear"), list[str]()
    names = {f"kline.{interval}.{symbol}" for interval in ("1", "5", "60") for symbol in world.market.instruments}
    world.streams.connections.append(Connection("linear", None, None, topics=names))  # type: ignore[arg-type]
    world.streams.publish = lambda topic, *_: told.append(topic)  # type: ignore[method-assign]
    streams.tick()
    assert list(dict.fromkeys(told)) == sorted(names)


def test_bars_of_the_base_step_are_those_that_finer_candles_add_up_to() -> None:
    fine = Market(first_ms=NOW - 5 * HOUR, last_ms=NOW + HOUR)
    bars = fine.klines("BTCUSDT", "5", NOW - 4 * HOUR, NOW, NOW + HOUR, 1000)
    values = np.stack([bars.open, bars.high, bars.low, bars.close, bars.volume], 1)
    coarse = Market.replay({"BTCUSDT": (bars.opens_ms, values)}, 5 * 60_000)
    now, since = int(bars.opens_ms[20]), int(bars.opens_ms[3]) - 1
    for end, limit in ((now - 1, 1000), (now - 1, 4), (NOW, 1000)):
        found = coarse.klines("BTCUSDT", "5", since, end, now - 1, limit)
        wanted = slice(max(2, 20 - limit), 20)
        assert found.opens_ms.tolist() == bars.opens_ms[wanted].tolist()
        np.testing.assert_array_equal(found.high[:-1], bars.high[wanted][:-1])  # the last one still forms
        np.testing.assert_array_equal(found.volume[:-1], bars.volume[wanted][:-1])
    assert coarse.klines("BTCUSDT", "5", since, NOW, now + 150_000, 1).volume[0] == bars.volume[20] / 2
    assert coarse.klines("BTCUSDT", "5", since, NOW, now, 1).opens_ms[0] == now
    coarse.holes["BTCUSDT"] = ((int(bars.opens_ms[5]), int(bars.opens_ms[7])),)
    assert len(coarse.klines("BTCUSDT", "5", since, now - 1, now - 1, 1000).opens_ms) == 16
