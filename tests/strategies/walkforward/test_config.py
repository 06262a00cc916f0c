"""Settings: what a file holds is what is read again; the exchange's rules enter unless a person gave others."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data.panel import InputError
from data.settings_file import to_toml
from data.simulated import simulate
from nas.search.relaxation import Temperature
from strategies.walkforward.config import RunConfig, resolve
from strategies.walkforward.job import Options, with_order_rules
from strategies.walkforward.pipeline import Pipeline
from strategies.walkforward.policies import Competition
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


def test_every_setting_of_space_and_search_is_reached_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'nodes = 3\ncells = 2\nedges_per_node = 1\ncell_inputs = 2\nsearch_cells = 1\nsearch_channels = 8\nsizes = ["1x8", "2x32"]\n'
        'temperature = 5.0\ntemperature_end = 0.5\ntemperature_schedule = "linear"\nrandom_init = true\n'
        "alpha_learning_rate = 0.1\nalpha_weight_decay = 0.0\nparameter_cost = 0.4\nsearch_length = 128\nsearch_batch = 2\n"
    )
    config = resolve("quick", path, {})
    settings = Competition.settings_of(config)[0]
    assert settings.temperature == Temperature(5.0, 0.5, "linear")
    assert (settings.random_init, settings.alpha_learning_rate, settings.alpha_weight_decay) == (True, 0.1, 0.0)
    assert (settings.parameter_cost, settings.length, settings.batch) == (0.4, 128, 2)
    start = np.datetime64("2024-01-01", "ns")
    panel = simulate(["BTCUSDT"], "60", start=start, end=start + np.timedelta64(400, "D"))
    space = Pipeline(config, Options(), panel, "", Console(quiet=True), {}).space
    assert (space.nodes, space.cells, space.edges_per_node, space.cell_inputs) == (3, 2, 1, 2)
    assert (space.search_cells, space.search_channels, space.sizes) == (1, 8, ((1, 8), (2, 32)))


def test_a_size_that_was_asked_for_replaces_the_sizes_and_the_proxy_of_a_preset() -> None:
    assert resolve("default", None, {}).sizes
    for flags in ({"channels": 8}, {"cells": 2}):
        config = resolve("default", None, flags)
        assert (config.sizes, config.search_channels) == ((), None)
    assert resolve("default", None, {"channels": 8, "sizes": "1x8,2x8"}).sizes == ("1x8", "2x8")


def test_a_size_that_is_none_is_told() -> None:
    with pytest.raises(InputError, match=r"'2 by 8' is no size: give cells x channels"):
        resolve("quick", None, {"sizes": "2 by 8"})


@pytest.mark.parametrize("preset", ["quick", "default", "thorough"])
def test_presets_search_four_nodes_and_two_inputs_on_a_proxy_and_try_larger_networks(preset: str) -> None:
    config = resolve(preset, None, {})
    assert config.nodes >= 4
    assert config.cell_inputs == 2
    sizes = [tuple(map(int, size.split("x"))) for size in config.sizes]
    assert max(sizes) > (config.search_cells or config.cells, config.search_channels)
