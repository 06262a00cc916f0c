"""Settings: what a file holds is what is read again; the exchange's rules enter unless a person gave others."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.panel import InputError
from data.settings_file import to_toml
from data.simulated import simulate
from strategies.walkforward.config import RunConfig, resolve
from strategies.walkforward.job import with_order_rules
from strategies.walkforward.trading import position_rule, trading_terms

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text('ab."\\é\n\t\x01𝄞', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab.-_>é "', max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["seed", "features", "a-b"]), VALUES, max_size=3))
def test_what_is_written_as_toml_is_read_again(values: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_resolved_settings_written_to_a_file_resolve_to_themselves(tmp_path: Path) -> None:
    features = {"return": ("raw", "log>zscore24")}
    config = RunConfig(instruments={"BTCUSDT": {"lot": 0.001, "tick": 1e-05}}, features=features, seed=3)
    path = tmp_path / "run.toml"
    path.write_text(to_toml(config.model_dump()))
    assert resolve("default", path, {}) == config


def test_rules_of_the_exchange_enter_the_settings_unless_others_were_given() -> None:
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate(["AAAUSDT", "BBBUSDT", "CCCUSDT"], "60", start=start, end=start + np.timedelta64(48, "h"))
    told = {"AAAUSDT": {"lot": 1.0, "tick": 0.5, "minimum_notional": 5.0}, "BBBUSDT": {"lot": 2.0}}
    config = with_order_rules(
        RunConfig(symbol=panel.assets, instruments={"BBBUSDT": {"lot": 7.0}}), replace(panel, instruments=told)
    )
    assert config.instruments == {"AAAUSDT": told["AAAUSDT"], "BBBUSDT": {"lot": 7.0}}


def test_fees_of_a_symbol_from_the_flag_or_a_file_reach_the_account_and_the_cost_hurdle() -> None:
    flags = {"symbol": "BTCUSDT,ETHUSDT,SOLUSDT", "fees": "BTCUSDT=4,SOLUSDT=10/3"}
    config = resolve("quick", None, flags)
    costs = trading_terms(config)["costs"]
    assert [costs.fees_bps(s) for s in config.symbol] == [(4.0, 2.0), (5.5, 2.0), (10.0, 3.0)]
    assert [position_rule(config).of(s).cost_bps for s in config.symbol] == [5.0, 6.5, 11.0]
    assert resolve("quick", None, {**flags, "fees": config.fees}) == config


@pytest.mark.parametrize(
    ("fees", "said"),
    [
        ("BTCUSDT", "gives no symbol its fees"),
        ("BTCUSDT=", "gives no symbol its fees"),
        ("BTCUSDT=1/2/3", "gives no symbol its fees"),
        ("=5", "gives no symbol its fees"),
        ("BTCUSDT=5,BTCUSDT=6", "gives no symbol its fees"),
        ("BTCUSD=5", "did you mean 'BTCUSDT'"),
        ("BTCUSDT=-1", "between 0 and 10000, not -1"),
        ("BTCUSDT=nan", "a finite number, given nan"),
        ({"BTCUSDT": {"taker": 5.0}}, "taker_fee_bps"),
    ],
)
def test_fees_that_make_no_sense_are_refused_in_one_line(fees: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        trading_terms(resolve("quick", None, {"fees": fees}))
    assert "\n" not in str(refused.value)
