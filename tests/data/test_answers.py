"""Answers are believed only when they are whole: the exchange's own examples read, 500 spoiled ones never do harm."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.answers import BadAnswer, read_rows, server_time
from data.history import History
from data.panel import InputError
from data.series import KINDS, SeriesKey, series_key
from data.standin import Fault, StandIn
from tests.data.moment import HOUR, NOW

RECORDED = {
    "recordings_ccxt/kline_linear_mainnet_1h.json": SeriesKey("linear", "BTCUSDT", "klines", "60"),
    "official_examples/market_kline.0.json": SeriesKey("inverse", "BTCUSD", "klines", "60"),
    "official_examples/market_mark-kline.0.json": SeriesKey("linear", "BTCUSDT", "mark-price", "60"),
    "official_examples/market_history-fund-rate.0.json": SeriesKey("linear", "ETHPERP", "funding", "settlements"),
    "official_examples/market_open-interest.0.json": SeriesKey("inverse", "BTCUSD", "open-interest", "D"),
    "http/get_funding_history.json": SeriesKey("linear", "BTCUSDT", "funding", "settlements"),
}
CENTURY = (1, 4_000_000_000_000)


@pytest.mark.parametrize("name", RECORDED)
def test_the_exchanges_own_examples_read_to_the_letter(shared: Path, name: str) -> None:
    answer = json.loads((shared / "bybit" / name).read_text())
    rows, held = read_rows(answer, RECORDED[name], *CENTURY)
    listed = answer["result"]["list"]
    assert held == len(rows) == len(listed)
    for time, values, row in zip(rows.times, rows.values, listed[::-1], strict=True):
        cells = list(row.values()) if isinstance(row, dict) else row
        assert str(time) in cells
        assert all(any(float(cell) == value for cell in cells if _is_number(cell)) for value in values)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def test_the_time_of_the_exchanges_example(shared: Path) -> None:
    answer = json.loads((shared / "bybit" / "official_examples" / "market_time.0.json").read_text())
    assert server_time(answer) == 1_688_639_403_423


def test_a_fixture_off_the_grid_is_refused(shared: Path) -> None:
    answer = json.loads((shared / "bybit" / "http" / "get_klines_linear.json").read_text())
    with pytest.raises(BadAnswer, match="grid"):
        read_rows(answer, SeriesKey("linear", "BTCUSDT", "klines", "1"), *CENTURY)


# --- spoiling: every way changes the meaning so that no reader may take it for a good answer, or leaves rows as they were

Spoil = Callable[[random.Random, bytes], bytes]


def _cut(dice: random.Random, body: bytes) -> bytes:
    return body[: dice.randrange(1, len(body) - 1)]


def _garble(dice: random.Random, body: bytes) -> bytes:
    at = dice.randrange(len(body))
    return body[:at] + bytes(dice.randrange(128, 256) for _ in range(3)) + body[at + 1 :]


def _with_cell(make: Callable[[random.Random, Any], Any]) -> Spoil:
    """One cell of one row replaced."""

    def spoil(dice: random.Random, body: bytes) -> bytes:
        answer = json.loads(body)
        row = dice.choice(answer["result"]["list"])
        place = dice.choice([k for k in row if k in NUMERIC]) if isinstance(row, dict) else dice.randrange(len(row))
        row[place] = make(dice, row[place])
        return json.dumps(answer).encode()

    return spoil


NUMERIC = ("fundingRate", "fundingRateTimestamp", "openInterest", "timestamp", "buyRatio")
WORDS = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "null",
    "NaN",
    "1_000",
    "0x10",
    "1,5",
    "1e999",
    "--1",
    "٣",
    "1.2.3",
    "true",
    "12 ",
)


def _with_row(make: Callable[[random.Random, Any], Any]) -> Spoil:
    def spoil(dice: random.Random, body: bytes) -> bytes:
        answer = json.loads(body)
        rows = answer["result"]["list"]
        at = dice.randrange(len(rows))
        rows[at] = make(dice, rows[at])
        return json.dumps(answer).encode()

    return spoil


def _with_envelope(dice: random.Random, body: bytes) -> bytes:
    answer = json.loads(body)
    return json.dumps(
        dice.choice([
            [], None, 7, "ok", {}, {"retCode": 0}, {**answer, "result": None}, {**answer, "result": []},
            {**answer, "result": {}}, {**answer, "retCode": "0"}, {**answer, "retCode": None}, {**answer, "result": "x"},
            {**answer, "result": {**answer["result"], "list": None}}, {**answer, "result": {**answer["result"], "list": {}}},
            {k: v for k, v in answer.items() if k != "retCode"}, {k: v for k, v in answer.items() if k != "result"},
            {**answer, "result": {**answer["result"], "symbol": "OTHERUSDT"}},
            {**answer, "result": {**answer["result"], "category": "option"}},
        ])
    ).encode()  # fmt: skip


def _conflicting_row(_dice: random.Random, row: Any) -> Any:
    """The same time once more, with other numbers."""
    if isinstance(row, dict):
        return {k: (str(float(v) / 3 + 0.0001) if k in NUMERIC and "imestamp" not in k else v) for k, v in row.items()}
    return [row[0], *(str(float(cell) * 3 + 1) for cell in row[1:])]


def _twice(dice: random.Random, body: bytes) -> bytes:
    answer = json.loads(body)
    rows = answer["result"]["list"]
    rows.append(_conflicting_row(dice, dice.choice(rows)))
    return json.dumps(answer).encode()


SPOILS: dict[str, Spoil] = {
    "cut": _cut,
    "garbled": _garble,
    "a word for a number": _with_cell(lambda dice, _old: dice.choice(WORDS)),
    "no string": _with_cell(lambda dice, old: dice.choice([None, [], {}, True, 1.5, [old]])),
    "a far time": lambda dice, body: _with_time(dice, body, dice.choice([10**15, 0, -1, 7, 999 * 10**9, NOW * 1000])),
    "a time off the grid": lambda dice, body: _with_time(dice, body, NOW - dice.randrange(1, 10**9) * 2 - 1),
    "a row of another shape": _with_row(lambda dice, row: dice.choice([[], {}, None, "x", 5, [row], list(row)[:3]])),
    "another envelope": _with_envelope,
    "two rows of one time": _twice,
    "nothing": lambda _dice, _body: b"",
}


def _with_time(dice: random.Random, body: bytes, stamp: int) -> bytes:
    answer = json.loads(body)
    row = dice.choice(answer["result"]["list"])
    if isinstance(row, dict):
        row[next(k for k in row if "imestamp" in k)] = str(stamp)
    else:
        row[0] = str(stamp)
    return json.dumps(answer).encode()


@pytest.mark.parametrize("kind", [name for name in KINDS if not KINDS[name].recorded])
def test_500_spoiled_answers_never_give_a_wrong_row(
    exchange: StandIn, history: Callable[..., History], kind: str
) -> None:
    """500 / 7 kinds: each is served once for a page, the client asks again, and the rows are those of good answers.

    The reader alone is also asked, on every spoiled answer: it refuses, or reads exactly the true rows it holds.
    """
    key = series_key("linear", "BTCUSDT", kind, "60")
    start, end = NOW - 60 * HOUR, NOW - HOUR
    truth = history("clean").load(key, start, end)
    true_rows = {int(t): tuple(v) for t, v in zip(truth.times, truth.values, strict=True)}
    dice = random.Random(f"{kind} 1")
    made = history("fuzzed")
    refused = 0
    for i in range(72):
        name = list(SPOILS)[i % len(SPOILS)]
        sent: list[bytes] = []

        def spoil(body: bytes, spoiling: Spoil = SPOILS[name], kept: list[bytes] = sent) -> bytes:
            kept.append(spoiling(dice, body))
            return kept[-1]

        exchange.world.faults.clear()
        exchange.world.faults.add(Fault("replace", times=1, replace=spoil))
        rows = made.client.page(key, int(truth.times[0]), end - 1)
        assert sent
        assert np.array_equal(rows.times, truth.times), (name, sent)
        assert np.array_equal(rows.values, truth.values), (name, sent)
        try:
            read, _ = read_rows(json.loads(sent[0]), key, int(truth.times[0]), end - 1)
        except (BadAnswer, ValueError):
            refused += 1
        else:
            assert all(true_rows[int(t)] == tuple(v) for t, v in zip(read.times, read.values, strict=True)), (
                name,
                sent,
            )
    assert refused > 50


@pytest.mark.parametrize("name", SPOILS)
def test_an_exchange_that_only_talks_nonsense_is_one_line(
    exchange: StandIn, history: Callable[..., History], name: str
) -> None:
    dice = random.Random(name)
    exchange.world.faults.add(Fault("replace", "/v5/market/kline", replace=lambda body: SPOILS[name](dice, body)))
    with pytest.raises(InputError) as told:
        history().load(SeriesKey("linear", "BTCUSDT", "klines", "60"), NOW - 60 * HOUR, NOW - HOUR)
    assert "\n" not in str(told.value)
    assert "BTCUSDT" in str(told.value) or "usable answer" in str(told.value)


def test_spoiled_descriptions_of_instruments_are_asked_for_again(
    exchange: StandIn, history: Callable[..., History]
) -> None:
    dice = random.Random(5)
    client = history().client
    truth = client.instrument("linear", "BTCUSDT")
    for _ in range(40):
        name = dice.choice(["cut", "garbled", "another envelope", "a row of another shape", "nothing"])
        exchange.world.faults.clear()
        exchange.world.faults.add(
            Fault("replace", times=1, replace=lambda body, spoil=SPOILS[name]: spoil(dice, body))  # type: ignore[misc]
        )
        assert client.instrument("linear", "BTCUSDT") == truth
