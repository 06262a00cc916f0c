"""Claims about names of markets: what other programs write is understood, and no name becomes a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import InputError
from data.series import series_key
from data.sources import load_panel
from data.symbols import parse_symbol, parse_symbols
from nas.search.request import SearchRequest
from strategies.paper.settings import PaperSettings
from strategies.walkforward.config import resolve

EVIL = (
    "../../evil",
    "/etc/passwd",
    "..",
    ".hidden",
    "a/../b",
    "BTC\\..\\x",
    "a\0b",
    "BTC USDT",
    "",
    "BTC/USDT/..",
    "x" * 41,
    "BTC..USDT",
    "~root",
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("BTCUSDT", "BTCUSDT"), (" BTCUSDT ", "BTCUSDT"), ("BTC/USDT:USDT", "BTCUSDT"), ("BTC/USDT", "BTCUSDT"), ("BTC/USD:BTC", "BTCUSD"),
        ("BTC/USDC:USDC", "BTCPERP"), ("1000PEPE/USDT:USDT", "1000PEPEUSDT"), ("BRK.B", "BRK.B"), ("^GSPC", "^GSPC"),
        ("EURUSD=X", "EURUSD=X"),
        ("BTC-USD", "BTC-USD"),
    ],
)  # fmt: skip
def test_a_symbol_is_understood_as_other_programs_write_it(written: str, meant: str) -> None:
    assert parse_symbol(written) == meant


@pytest.mark.parametrize("name", EVIL)
def test_no_symbol_becomes_a_path(name: str) -> None:
    doors = (
        lambda: parse_symbol(name), lambda: load_panel([name], source="simulated"), lambda: series_key("linear", name, "klines", "60"),
        lambda: resolve("quick", None, {"symbol": [name]}), lambda: resolve("quick", None, {"fees": {name: {"taker_fee_bps": 4.0}}}),
        lambda: SearchRequest.read({"symbol": (name,)}),
    )  # fmt: skip
    for door in doors:
        with pytest.raises(InputError) as told:
            door()
        assert "\n" not in str(told.value)


def test_a_symbol_comes_once_however_it_is_written() -> None:
    assert parse_symbols(["BTC/USDT:USDT", "ETHUSDT"]) == ("BTCUSDT", "ETHUSDT")
    with pytest.raises(InputError, match="given twice"):
        parse_symbols(["BTC/USDT:USDT", "BTCUSDT"])
    assert resolve("quick", None, {"symbol": "BTC/USDT:USDT", "fees": "BTC/USDT=4"}).fees == {
        "BTCUSDT": {"taker_fee_bps": 4.0}
    }


def test_paper_trading_understands_the_same_names() -> None:
    assert PaperSettings.read({"symbol": "BTC/USDT:USDT,ETHUSDT"}).symbol == "BTCUSDT,ETHUSDT"
    for name in EVIL[:-1]:
        with pytest.raises(InputError):
            PaperSettings.read({"symbol": name or ","})


def test_a_file_gets_the_name_it_was_given_in_any_form(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,o,h,l,c,v\n2024-01-01,1,2,1,2,3\n2024-01-02,2,2,1,2,3\n")
    assert load_panel(["BTC/USDT:USDT"], files=[path]).assets == ("BTCUSDT",)
