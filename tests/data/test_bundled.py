"""`--source bundled`: real daily prices of installed packages, of the calendar and the fields that they have, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.bundled import load_bundled
from data.panel import CANDLE_FIELDS, InputError
from data.sources import load_panel
from data.symbols import STOCKS20, parse_symbols
from nas.features.bank import build_bank
from nas.targets import get_target
from nas.targets.bases import base_columns
from strategies.backtest.execution import backtest
from strategies.backtest.terms import Account, Costs
from strategies.walkforward.config import resolve

SPAN = {"start": np.datetime64("2000-01-01", "ns"), "end": np.datetime64("2004-01-01", "ns"), "fill_gaps": False}


def test_an_index_has_candles_of_its_own_calendar_and_says_whose_they_are() -> None:
    panel = load_panel(["SP500"], source="bundled", start="1999-01-01", end="2019-01-01")
    assert len(panel) == 5031
    assert not panel.simulated
    assert round(panel.days_per_year) in (251, 252)
    assert round(panel.bars_per_year) == round(panel.days_per_year)
    assert np.isfinite(panel.values).all()
    assert "arch.data" in panel.source
    assert "NCSA" in panel.source
    assert any("cannot be bought" in note for note in panel.notes)
    # Yahoo Finance, ^GSPC, 29 December 2017
    assert panel.column("close", "SP500")[panel.timestamps == np.datetime64("2017-12-29")] == pytest.approx(
        2673.61, abs=0.01
    )


def test_stocks_are_closes_and_nothing_reads_what_they_lack() -> None:
    panel = load_bundled(["AAPL", "XOM"], "D", **SPAN)
    assert panel.closes_only
    assert panel.traded.all()
    assert not np.isfinite(panel.values[..., [CANDLE_FIELDS.index(name) for name in ("high", "low", "volume")]]).any()
    bank = build_bank(panel, "full")
    assert "return" in bank.inputs
    assert {"range", "volume", "body", "volatility", "close_place", "day_sin"} <= set(bank.missing)
    with pytest.raises(InputError, match="target range needs the field 'high'"):
        base_columns("harx", panel, get_target("range"), 6)
    assert "day_sin" not in build_bank(load_bundled(["SP500"], "D", **SPAN), "full").inputs


def test_an_order_on_a_close_fills_at_the_next_days_close_and_reads_no_later_one() -> None:
    panel = load_bundled(["KO"], "D", **SPAN)
    targets = np.zeros((40, 1))
    targets[10:] = 1.0
    terms = {"costs": Costs(taker_fee_bps=0.0, maker_fee_bps=0.0, slippage_bps=0.0), "account": Account(kind="spot")}
    done = backtest(panel, targets, start=100, stop=140, name="long", **terms)
    (fill,) = done.trades.to_dict("records")
    assert fill["price"] == panel.column("close", "KO")[111]
    values = np.array(panel.values)
    values[120:] *= 3.0
    other = backtest(replace(panel, values=values), targets, start=100, stop=140, name="long", **terms)
    assert other.equity[:20].tobytes() == done.equity[:20].tobytes()
    assert other.equity[25] > done.equity[25]


def test_what_is_not_bundled_is_told_with_what_there_is() -> None:
    for symbols, interval, words in (
        (["BTCUSDT"], "D", "the bundled prices lack BTCUSDT; --source bundled has SP500, NASDAQ, AAPL"),
        (["SP500"], "60", "daily, not of --interval 60"),
        (["SP500", "KO"], "D", "they do not go into one account"),
    ):
        with pytest.raises(InputError, match=words) as told:
            load_bundled(symbols, interval, **SPAN)
        assert "\n" not in str(told.value)


def test_a_cut_does_not_change_the_past() -> None:
    whole, part = (load_panel(list(STOCKS20), source="bundled", end=end) for end in ("2010-01-01", "2005-01-01"))
    assert part.values.tobytes() == whole.values[: len(part)].tobytes()


def test_bundled_money_is_paid_in_full_and_windows_count_in_years_unless_told_otherwise() -> None:
    found = resolve("quick", None, {"source": "bundled"})
    assert (found.symbol, found.account, found.max_leverage, found.train) == (("SP500",), "spot", 1.0, "2190d")
    asked = resolve("quick", None, {"source": "bundled", "symbol": "STOCKS20", "max_leverage": 1.5, "train": "1000"})
    assert (asked.symbol, asked.max_leverage, asked.train) == (STOCKS20, 1.5, "1000")
    assert resolve("quick", None, {}).account == "perpetual"


def test_the_name_of_twenty_stocks_stands_for_each() -> None:
    assert parse_symbols(["STOCKS20"]) == STOCKS20
    with pytest.raises(InputError, match="given twice"):
        parse_symbols(["STOCKS20", "KO"])
