"""From the flags to a panel through the stand-in; and the commands, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data.download import app as download
from data.history import History
from data.info import app as info
from data.market import load_bybit
from data.panel import InputError
from data.sources import load_panel
from data.standin import StandIn
from tests.data.moment import HOUR, NOW

MakeHistory = Callable[..., History]
END = np.datetime64(NOW - HOUR, "ms").astype("datetime64[ns]")
START = END - np.timedelta64(60, "D")


@pytest.fixture
def _user(exchange: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose Bybit is the stand-in and whose store is empty."""
    monkeypatch.setenv("REGIME_BYBIT_URL", exchange.url)
    monkeypatch.setenv("REGIME_CACHE", str(tmp_path / "cache"))


def run(app: object, *words: str):
    return CliRunner().invoke(app, list(words))  # type: ignore[arg-type]


def test_a_panel_has_candles_funding_statistics_and_timeframes(exchange: StandIn, history: MakeHistory) -> None:
    panel = load_bybit(
        ("BTCUSDT", "ETHUSDT"), "60", start=START, end=END, timeframes=("240", "D"), history=history(),
        further=("open-interest", "premium-index", "mark-price", "long-short-ratio"),
    )  # fmt: skip
    wanted = {"close", "funding_rate", "open_interest", "premium", "mark_price", "long_ratio", "close@240", "volume@D"}
    assert wanted <= set(panel.fields)
    assert np.isfinite(panel.values).all()
    assert panel.source == "bybit"
    assert not panel.simulated
    first, last = (int(t.astype("datetime64[ms]").astype(int)) for t in (panel.timestamps[0], panel.close_times[-1]))
    true_times, _ = exchange.world.market.settlements("BTCUSDT", first, last - 1)
    assert np.array_equal(panel.settlements["BTCUSDT"].timestamps.astype("datetime64[ms]").astype(int), true_times)


def test_no_field_knows_more_than_the_exchange_had_said_by_the_close(exchange: StandIn, history: MakeHistory) -> None:
    """The panel made at an earlier time is the beginning of the panel made now: nothing came from later."""
    wanted = {"timeframes": ("240",), "further": ("open-interest", "premium-index", "long-short-ratio")}
    now = load_bybit(("BTCUSDT",), "60", start=START, end=END, history=history("now"), **wanted)
    early = END - np.timedelta64(10 * 24, "h")
    exchange.world.clock.set(int(early.astype("datetime64[ms]").astype(int)), speed=0)
    then = load_bybit(("BTCUSDT",), "60", start=START, end=END, history=history("then"), **wanted)
    assert then.fields == now.fields
    assert 1000 < len(then) < len(now)
    assert np.array_equal(then.values, now.values[: len(then)], equal_nan=True)


def test_open_interest_is_seen_after_its_stamp(exchange: StandIn, history: MakeHistory) -> None:
    panel = load_bybit(("BTCUSDT",), "60", start=START, end=END, history=history())
    stamps = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    expected = exchange.world.market.open_interest("BTCUSDT", stamps)
    # the stamp at a bar's close is not yet known at that close: the one at its open is
    assert np.allclose(panel.column("open_interest", "BTCUSDT"), expected)


def test_a_late_listing_is_masked_not_filled(exchange: StandIn, history: MakeHistory) -> None:
    known = exchange.world.market.instruments
    known["NEWUSDT"] = replace(known["SOLUSDT"], symbol="NEWUSDT", launch_ms=NOW - 24 * 10 * HOUR)
    panel = load_bybit(("BTCUSDT", "NEWUSDT"), "60", start=START, end=END, timeframes=("240",), history=history())
    closes = panel.column("close", "NEWUSDT")
    listed = np.isfinite(closes)
    assert not listed[:1000].any()
    assert listed[-200:].all()
    for field in panel.fields:
        assert not np.isfinite(panel.column(field, "NEWUSDT")[~listed]).any()


def test_a_gap_is_one_clear_line_or_filled(exchange: StandIn, history: MakeHistory) -> None:
    halt = (NOW // HOUR * HOUR - 100 * HOUR, NOW // HOUR * HOUR - 95 * HOUR)
    exchange.world.market.holes["BTCUSDT"] = (halt,)
    with pytest.raises(InputError, match=r"gap of 5 bars .* --fill-gaps"):
        load_bybit(("BTCUSDT",), "60", start=START, end=END, history=history())
    filled = load_bybit(("BTCUSDT",), "60", start=START, end=END, history=history(), fill_gaps=True)
    assert "5 missing bars" in " ".join(filled.notes)


def test_spot_comes_without_funding(history: MakeHistory) -> None:
    panel = load_bybit(("BTCUSDT",), "60", start=START, end=END, category="spot", history=history())
    assert set(panel.fields) == {"open", "high", "low", "close", "volume"}


@pytest.mark.usefixtures("_user")
def test_auto_takes_bybit_where_it_answers(exchange: StandIn) -> None:
    said: list[str] = []
    panel = load_panel(("BTCUSDT",), "60", start=str(START), end=str(END), echo=said.append)
    assert (panel.source, panel.simulated, said) == ("bybit", False, [])


@pytest.mark.usefixtures("_user")
def test_auto_falls_back_loudly_and_bybit_reads_the_store_without_a_network(exchange: StandIn) -> None:
    first = load_panel(("BTCUSDT",), "60", start=str(START), end=str(END), source="bybit")
    exchange.stop()
    again = load_panel(("BTCUSDT",), "60", start=str(START), end=str(END), source="bybit")
    assert again.fingerprint() == first.fingerprint()
    with pytest.raises(InputError, match="cannot be reached from here"):
        load_panel(("ETHUSDT",), "60", start=str(START), end=str(END), source="bybit")
    said: list[str] = []
    assert load_panel(("BTCUSDT",), "60", echo=said.append).simulated
    assert "SIMULATED MARKET" in said[0]


@pytest.mark.usefixtures("_user")
def test_order_rules_come_from_the_exchange_are_kept_and_renewed_with_the_next_fetch(exchange: StandIn) -> None:
    def load(hours: int) -> Mapping[str, Mapping[str, float]]:
        end = str(END - np.timedelta64(10, "D") + np.timedelta64(hours, "h"))
        return load_panel(("BTCUSDT",), "60", start=str(START), end=end, source="bybit").instruments

    first = {"BTCUSDT": {"lot": 0.001, "tick": 0.1, "minimum_notional": 5.0}}
    assert load(0) == first
    known = exchange.world.market.instruments
    known["BTCUSDT"] = replace(known["BTCUSDT"], qty_step="0.01")
    assert load(0) == first  # nothing new to fetch: the same bars, the same rules
    assert load(1)["BTCUSDT"]["lot"] == 0.01
    exchange.stop()
    assert load(1)["BTCUSDT"]["lot"] == 0.01


def test_an_old_store_without_rules_asks_once_and_does_without_where_nobody_answers(
    exchange: StandIn, history: MakeHistory
) -> None:
    found = history()
    load_bybit(("BTCUSDT",), "60", start=START, end=END, history=found)
    path = found.store.root / "linear" / "BTCUSDT" / "instrument.json"
    path.write_text("{")
    exchange.stop()
    again = history()
    again.client.offline = True
    assert load_bybit(("BTCUSDT",), "60", start=START, end=END, history=again).instruments == {}


@pytest.mark.usefixtures("_user")
def test_download_then_info(exchange: StandIn) -> None:
    words = ("--symbol", "BTCUSDT,ETHUSDT", "--interval", "60,240", "--start", "2023-11-01", "--what", "klines,funding")
    done = run(download, *words)
    assert done.exit_code == 0, done.output
    again = run(download, *words, "--json")
    told = json.loads(again.stdout)  # one document, whatever else was said beside it
    assert [(s["symbol"], s["rows"] > 0) for s in told["series"]] == [("BTCUSDT", True)] * 3 + [("ETHUSDT", True)] * 3
    assert told["requests"] > 0
    shown = json.loads(run(info, "--json").stdout)
    assert [(s["symbol"], s["kind"], s["interval"]) for s in shown] == [
        (symbol, kind, interval)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for kind, interval in (("funding", "settlements"), ("klines", "240"), ("klines", "60"))
    ]
    assert shown[2]["first"] == "2023-11-01T00:00"
    assert shown[2]["missing"] == 0
    assert "BTCUSDT" in run(info).stdout


@pytest.mark.usefixtures("_user")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--symbol", "NOPEUSDT"), "has no linear symbol 'NOPEUSDT'"),
        (("--symbol", "BTCUSDT", "--interval", "7"), "unknown interval '7'"),
        (("--symbol", "BTCUSDT", "--start", "2024-01-01", "--end", "2023-01-01"), "is not before --end"),
        (("--symbol", "BTCUSDT", "--start", "2199-01-01"), "lies in the future"),
        (("--symbol", "BTCUSDT", "--start", "2999-01-01"), "is no date"),
        (("--symbol", "BTCUSDT", "--start", "yesterdayish"), "is no date"),
        (("--symbol", "BTCUSDT", "--what", "gossip"), "unknown --what 'gossip'"),
        (("--symbol", "BTCUSDT", "--category", "option"), "unknown category 'option'"),
        (("--symbol", "BTCUSDT", "--category", "spot", "--what", "funding"), "not for spot"),
        (("--symbol", ","), "no symbol given"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(words: tuple[str, ...], said: str) -> None:
    result = run(download, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")


@pytest.mark.usefixtures("_user")
def test_no_network_is_one_clear_line_and_exit_code_2(exchange: StandIn) -> None:
    exchange.stop()
    result = run(download, "--symbol", "BTCUSDT")
    assert result.exit_code == 2
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1
