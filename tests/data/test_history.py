"""The downloader against the stand-in: whole, once, and the same whatever goes wrong on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.bybit import Bybit, Unreachable
from data.history import History
from data.panel import InputError
from data.series import DOWNLOADS, KINDS, SeriesKey, open_times, series_key
from data.standin import Fault, StandIn
from data.standin.faults import READ_FAULTS
from tests.data.moment import EAGER, HOUR, NOW, stored

MakeHistory = Callable[..., History]
BARS = SeriesKey("linear", "BTCUSDT", "klines", "60")
START = NOW - 5000 * HOUR


def true_bars(exchange: StandIn, start: int, end: int) -> np.ndarray:
    """open..turnover of the closed hourly bars in [start, end), straight from the stand-in's market."""
    found = exchange.world.market.klines("BTCUSDT", "60", start, end - 1, NOW, 100_000)
    kept = (found.opens_ms >= start) & (found.opens_ms + HOUR <= NOW)
    return np.column_stack([found.open, found.high, found.low, found.close, found.volume, found.turnover])[kept]


def test_history_is_the_market_bar_by_bar_and_the_forming_bar_is_left_out(
    exchange: StandIn, history: MakeHistory
) -> None:
    rows = history().load(BARS, START, NOW + 50 * HOUR)
    assert np.array_equal(rows.times, open_times("60", START, NOW // HOUR * HOUR))
    assert np.allclose(rows.values, true_bars(exchange, START, NOW), rtol=1e-9, atol=1e-3)


def test_the_forming_bar_comes_once_it_has_closed(exchange: StandIn, history: MakeHistory) -> None:
    made = history()
    last = made.load(BARS, START, NOW + HOUR).times[-1]
    assert last == NOW // HOUR * HOUR - HOUR
    exchange.world.clock.advance(HOUR)
    assert made.load(BARS, START, NOW + HOUR).times[-1] == last + HOUR


def test_a_second_run_asks_for_nothing(exchange: StandIn, history: MakeHistory) -> None:
    first = history()
    before = first.load(BARS, START, NOW - 24 * HOUR)
    asked = len(exchange.world.journal)
    second = history()
    again = second.load(BARS, START, NOW - 24 * HOUR)
    assert len(exchange.world.journal) == asked
    assert np.array_equal(again.values, before.values)


def test_only_what_is_missing_is_fetched(exchange: StandIn, history: MakeHistory) -> None:
    made = history()
    made.load(BARS, NOW - 3000 * HOUR, NOW - 2000 * HOUR)
    exchange.world.journal.clear()
    made.load(BARS, NOW - 3500 * HOUR, NOW - 1500 * HOUR)
    asked = [(int(c.query["start"]), int(c.query["end"])) for c in exchange.world.calls("/v5/market/kline")]
    assert len(asked) == 2
    known = open_times("60", NOW - 3000 * HOUR, NOW - 2000 * HOUR)
    assert all(end < known[0] or start > known[-1] for start, end in asked)


@pytest.mark.parametrize("interval", KINDS["klines"].periods)
def test_every_interval_is_whole_and_its_grid_is_the_exchanges(
    exchange: StandIn, history: MakeHistory, interval: str
) -> None:
    span = {"M": 9000, "W": 9000, "D": 3000}.get(interval, min(int(interval) if interval.isdigit() else 0, 60) * 20)
    start = NOW - span * HOUR
    rows = history().load(SeriesKey("linear", "ETHUSDT", "klines", interval), start, NOW)
    found = exchange.world.market.klines("ETHUSDT", interval, start, NOW, NOW, 100_000)
    whole = found.opens_ms[(found.opens_ms >= start)][:-1]
    assert np.array_equal(rows.times, whole)
    assert len(rows) > 3


@pytest.mark.parametrize("kind", [name for name in DOWNLOADS if name != "klines"])
def test_every_kind_is_whole(exchange: StandIn, history: MakeHistory, kind: str) -> None:
    key = series_key("linear", "ETHUSDT", kind, "60")
    rows = history().load(key, START, NOW)
    if kind == "funding":
        times, rates = exchange.world.market.settlements("ETHUSDT", START, NOW - 1)
        assert np.array_equal(rows.times, times)
        assert np.allclose(rows.values[:, 0], rates, atol=1e-9)
    else:
        forming = 1 if len(KINDS[kind].columns) > 1 else 0
        assert np.array_equal(rows.times, open_times("60", START, NOW)[: -forming or None])


def test_a_span_with_one_settlement_ends(exchange: StandIn, history: MakeHistory) -> None:
    """There are no steps to compare, so the whole span is doubted; it held the one settlement at every asking, for ever."""
    key = series_key("linear", "BTCUSDT", "funding", "")
    settled = int(history().load(key, NOW - 720 * HOUR, NOW - 600 * HOUR).times[3])
    later = history().load(key, settled + 480 * HOUR - HOUR, settled + 480 * HOUR + HOUR)
    assert later.times.tolist() == [settled + 480 * HOUR]


def test_funding_intervals_that_change_are_followed(exchange: StandIn, history: MakeHistory) -> None:
    from dataclasses import replace

    switch, back = NOW - 2000 * HOUR, NOW - 1000 * HOUR
    known = exchange.world.market.instruments
    minutes = ((0, 480), (switch, 60), (back, 240))
    known["SOLUSDT"] = replace(known["SOLUSDT"], funding_minutes=minutes)
    rows = history().load(series_key("linear", "SOLUSDT", "funding", ""), START, NOW)
    times, _ = exchange.world.market.settlements("SOLUSDT", START, NOW - 1)
    assert set(np.diff(times).tolist()) >= {8 * HOUR, HOUR, 4 * HOUR}
    assert np.array_equal(rows.times, times)


def test_a_listing_later_than_the_start_is_no_gap_and_costs_no_pages(exchange: StandIn, history: MakeHistory) -> None:
    from dataclasses import replace

    known = exchange.world.market.instruments
    launch = NOW - 500 * HOUR
    known["NEWUSDT"] = replace(known["SOLUSDT"], symbol="NEWUSDT", launch_ms=launch)
    made = history()
    rows = made.load(SeriesKey("linear", "NEWUSDT", "klines", "60"), START, NOW - HOUR)
    assert rows.times[0] == launch // HOUR * HOUR
    assert len(exchange.world.calls("/v5/market/kline")) == 1
    exchange.world.journal.clear()
    made.load(SeriesKey("linear", "NEWUSDT", "klines", "60"), START, NOW - HOUR)
    assert not exchange.world.journal


def test_a_halt_of_the_exchange_is_confirmed_remembered_and_told(exchange: StandIn, history: MakeHistory) -> None:
    halt = (NOW // HOUR * HOUR - 300 * HOUR, NOW // HOUR * HOUR - 290 * HOUR)
    exchange.world.market.holes["BTCUSDT"] = (halt,)
    made = history()
    rows = made.load(BARS, NOW - 1000 * HOUR, NOW - HOUR)
    assert not np.any((rows.times >= halt[0]) & (rows.times < halt[1]))
    assert len(made.holes(BARS, rows)) == 1
    assert "gap of 10 at" in made.holes(BARS, rows)[0]
    exchange.world.journal.clear()
    made.load(BARS, NOW - 1000 * HOUR, NOW - HOUR)
    assert not exchange.world.journal


@pytest.mark.parametrize("kind", READ_FAULTS)
def test_one_fault_of_each_kind_changes_nothing(exchange: StandIn, history: MakeHistory, kind: str) -> None:
    clean = history("clean")
    faulty = history("faulty")
    keys = [BARS, series_key("linear", "BTCUSDT", "funding", "")]
    for key in keys:
        clean.load(key, START, NOW - HOUR)
    exchange.world.faults.add(Fault(kind, nth=(1, 2, 4, 6), seconds=0.01))
    for key in keys:
        faulty.load(key, START, NOW - HOUR)
    assert sum(exchange.world.faults.counts.values()) == 4
    assert stored(faulty.store.root) == stored(clean.store.root)


def test_with_a_fifth_of_all_calls_failing_the_store_is_identical(exchange: StandIn, history: MakeHistory) -> None:
    keys = [series_key("linear", "BTCUSDT", kind, "60") for kind in DOWNLOADS]
    clean = history("clean")
    for key in keys:
        clean.load(key, START, NOW - HOUR)
    failed = exchange.world.faults.counts
    for round_ in range(int(os.environ.get("REGIME_FAULT_ROUNDS", "2"))):
        exchange.world.faults.at_random(0.2, seconds=0.01)
        faulty = history(f"faulty{round_}")
        for key in keys:
            faulty.load(key, START, NOW - HOUR)
        exchange.world.faults.clear()
        assert stored(faulty.store.root) == stored(clean.store.root)
    assert sum(failed.values()) > 10


def test_a_damaged_file_is_found_fetched_again_and_told(exchange: StandIn, history: MakeHistory) -> None:
    made = history()
    made.load(BARS, START, NOW - HOUR)
    good = stored(made.store.root)
    path = sorted(made.store.series(BARS).folder.glob("*.parquet"))[2]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    made.load(BARS, START, NOW - HOUR)
    assert stored(made.store.root) == good
    assert any(f"{path.name} in the store is damaged" in line for line in made.said)  # type: ignore[attr-defined]


def test_a_lost_month_or_a_broken_coverage_is_fetched_again(exchange: StandIn, history: MakeHistory) -> None:
    made = history()
    made.load(BARS, START, NOW - HOUR)
    good = stored(made.store.root)
    folder = made.store.series(BARS).folder
    (folder / "coverage.json").write_text('{"covered": [[1, ')
    made.load(BARS, START, NOW - HOUR)
    assert stored(made.store.root) == good


def test_an_unknown_symbol_is_one_line(history: MakeHistory) -> None:
    with pytest.raises(InputError, match="has no linear symbol 'NOPEUSDT'") as told:
        history().load(SeriesKey("linear", "NOPEUSDT", "klines", "60"), START, NOW)
    assert "\n" not in str(told.value)


def test_an_exchange_that_never_answers_sanely_is_one_line(exchange: StandIn, history: MakeHistory) -> None:
    exchange.world.faults.add(Fault("wrong_shape", "/v5/market/kline"))
    with pytest.raises(Unreachable, match="no usable answer") as told:
        history().load(BARS, START, NOW)
    assert "\n" not in str(told.value)


def test_a_country_block_is_told_at_once_and_a_ban_is_waited_for(exchange: StandIn, history: MakeHistory) -> None:
    exchange.world.faults.add(Fault("http_403_country", "/v5/market/kline"))
    made = history()
    with pytest.raises(Unreachable, match="refuses addresses of this country") as told:
        made.load(BARS, START, NOW)
    assert "\n" not in str(told.value)
    assert len(exchange.world.calls("/v5/market/kline")) <= 8  # one by each of the pages in flight
    assert not any("waiting" in line for line in made.said)  # type: ignore[attr-defined]
    exchange.world.faults.clear()
    exchange.world.faults.add(Fault("http_403", "/v5/market/kline", nth=(1, 2)))
    banned = history("banned")
    assert len(banned.load(BARS, NOW - 50 * HOUR, NOW)) == 49
    assert sum("waiting" in line for line in banned.said) == 2  # type: ignore[attr-defined]


def test_a_ban_that_no_pause_lifts_is_one_line(exchange: StandIn, history: MakeHistory) -> None:
    exchange.world.faults.add(Fault("http_403", "/v5/market/kline"))
    with pytest.raises(Unreachable, match="still refuses this address after 2 pauses"):
        history(parallel=1).load(BARS, START, NOW)
    assert len(exchange.world.calls("/v5/market/kline")) == 3


def test_what_came_before_an_error_is_kept(exchange: StandIn, history: MakeHistory) -> None:
    made = history(parallel=1)
    exchange.world.faults.add(Fault("code_10016", "/v5/market/kline", nth=range(4, 1000)))
    with pytest.raises(Unreachable):
        made.load(BARS, START, NOW)
    assert len(made.store.series(BARS).read(START, NOW)) == 3000
    exchange.world.faults.clear()
    exchange.world.journal.clear()
    made.load(BARS, START, NOW - HOUR)
    assert len(exchange.world.calls("/v5/market/kline")) == 2


def test_a_rate_limit_is_waited_for(exchange: StandIn, history: MakeHistory) -> None:
    exchange.world.rate_limit = (20, 0.3)
    exchange.world.faults.add(Fault("code_10006", nth=(3,), seconds=0.05))
    rows = history().load(BARS, START, NOW)
    assert len(rows) == len(open_times("60", START, NOW // HOUR * HOUR))


def test_a_client_tells_whether_it_can_reach_the_exchange(exchange: StandIn) -> None:
    assert Bybit(exchange.url, EAGER).reachable()
    exchange.world.faults.add(Fault("http_403_country", "/v5/market/time"))
    blocked = Bybit(exchange.url, EAGER)
    assert not blocked.reachable()
    blocked.offline = True
    with pytest.raises(Unreachable, match="refuses addresses of this country"):
        blocked.now_ms()
    exchange.stop()
    assert not Bybit(exchange.url, EAGER).reachable(0.5)


def test_the_console_stays_clean(exchange: StandIn, history: MakeHistory, capfd: pytest.CaptureFixture[str]) -> None:
    exchange.world.faults.add(Fault("code_10006_past", nth=(1,)))
    history().load(BARS, START, NOW)
    assert capfd.readouterr() == ("", "")


def test_spot_has_no_funding(history: MakeHistory) -> None:
    with pytest.raises(InputError, match="not for spot"):
        series_key("spot", "BTCUSDT", "funding", "60")


def test_two_stores_of_one_history_are_byte_identical(history: MakeHistory, tmp_path: Path) -> None:
    history("one", parallel=1).load(BARS, START, NOW - HOUR)
    two = history("two", parallel=8)
    for start in (NOW - 100 * HOUR, NOW - 3000 * HOUR, START):
        two.load(BARS, start, NOW - HOUR)
    assert stored(tmp_path / "one") == stored(tmp_path / "two")


def test_two_at_once_fetch_everything_once(exchange: StandIn, history: MakeHistory, tmp_path: Path) -> None:
    from threading import Thread

    history("alone").load(BARS, START, NOW - HOUR)
    asked = len(exchange.world.calls("/v5/market/kline"))
    exchange.world.journal.clear()
    exchange.world.latency_s = 0.02
    pair = [history("shared"), history("shared")]
    threads = [Thread(target=made.load, args=(BARS, START, NOW - HOUR)) for made in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(exchange.world.calls("/v5/market/kline")) == asked
    assert stored(tmp_path / "shared") == stored(tmp_path / "alone")
    assert any("another process is fetching it" in line for made in pair for line in made.said)  # type: ignore[attr-defined]
