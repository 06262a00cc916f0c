"""Settings: what a file holds is what is read again; the exchange's rules enter unless a person gave others."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.simulated import simulate
from strategies.config import RunConfig, resolve, to_toml
from strategies.job import with_order_rules

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
