"""The feature bank is causal, forgets its beginning, and says what it left out."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import InputError, Panel
from nas.features import feature_docs
from nas.features.bank import build_bank, causal_volatility


def panel_of(bars: int, seed: int = 0, assets: int = 2, funding: bool = True) -> Panel:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (bars, assets)), axis=0))
    opening = np.vstack([np.full((1, assets), 100.0), close[:-1]])
    high = np.maximum(opening, close) * np.exp(rng.exponential(0.002, (bars, assets)))
    low = np.minimum(opening, close) * np.exp(-rng.exponential(0.002, (bars, assets)))
    volume = rng.lognormal(3, 1, (bars, assets))
    volume[::50] = 0.0
    fields = {"open": opening, "high": high, "low": low, "close": close, "volume": volume}
    if funding:
        fields["funding_rate"] = np.repeat(rng.normal(1e-4, 1e-4, (bars // 8 + 1, assets)), 8, axis=0)[:bars]
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(3_600_000_000_000, "ns")
    names = tuple(f"A{i}" for i in range(assets))
    return Panel(stamps, names, tuple(fields), np.stack(list(fields.values()), axis=-1), 3_600_000_000_000, "test")


def test_bank_of_a_prefix_is_the_prefix_of_the_bank_bit_for_bit() -> None:
    panel = panel_of(1000)
    whole = build_bank(panel).values
    for stop in (1, 2, 23, 24, 25, 167, 168, 169, 500, 999):
        assert build_bank(panel.cut(0, stop)).values.tobytes() == np.ascontiguousarray(whole[:, :, :stop]).tobytes()


def test_bank_forgets_where_the_panel_began_after_its_warmup() -> None:
    panel = panel_of(1500)
    whole = build_bank(panel)
    for start in (1, 100, 333):
        late = build_bank(panel.cut(start, 1500))
        np.testing.assert_allclose(
            late.values[:, :, late.warmup_bars :], whole.values[:, :, start + whole.warmup_bars :], rtol=0, atol=1e-6
        )


def test_values_are_known_after_the_warmup_and_of_ordinary_size() -> None:
    bank = build_bank(panel_of(1500))
    assert bank.values.dtype == np.float32
    assert bank.values.flags.c_contiguous
    late = bank.values[:, :, bank.warmup_bars :]
    assert np.isfinite(late).all()
    assert bank.warmup_bars < 500
    assert np.abs(late).max() < 30


def test_names_follow_the_rows() -> None:
    panel = panel_of(300)
    bank = build_bank(panel)
    assert len(bank.names) == bank.values.shape[1]
    for row, (name, pipeline) in enumerate(bank.names):
        alone = build_bank(panel, {name: [pipeline]}).values[:, 0]
        assert alone.tobytes() == np.ascontiguousarray(bank.values[:, row]).tobytes()


def test_missing_inputs_are_named() -> None:
    unrecorded = ("open_interest", "premium", "spread", "imbalance")
    assert build_bank(panel_of(50, funding=False)).missing == ("funding_rate", *unrecorded)
    assert build_bank(panel_of(50)).missing == unrecorded
    assert build_bank(panel_of(50, assets=1)).missing == (*unrecorded, "market_return", "market_volatility")
    with pytest.raises(InputError, match="funding_rate"):
        build_bank(panel_of(50, funding=False), {"funding_rate": ["raw"]})


def test_unknown_names_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="unknown step 'zzz24'"):
        build_bank(panel_of(50), {"return": ["zzz24"]})
    with pytest.raises(InputError, match="unknown feature input"):
        build_bank(panel_of(50), {"prices": ["raw"]})
    with pytest.raises(InputError, match="needs a number of at least 2"):
        build_bank(panel_of(50), {"return": ["zscore1"]})
    with pytest.raises(InputError, match="needs at least 2 assets"):
        build_bank(panel_of(50, assets=1), {"market_return": ["raw"]})
    with pytest.raises(InputError, match="'default', 'full' or a table"):
        build_bank(panel_of(50), "all")


def test_an_input_known_in_less_than_half_of_the_bars_is_left_out_by_name() -> None:
    panel = panel_of(400)
    values = panel.values.copy()
    values[:250, :, panel.fields.index("funding_rate")] = np.nan
    sparse = Panel(panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, "test")
    bank = build_bank(sparse)
    assert "funding_rate" in bank.missing
    assert "funding_rate" not in bank.inputs


def test_the_full_bank_has_every_two_step_pipeline_and_its_bits_do_not_depend_on_threads() -> None:
    panel = panel_of(700)
    full = build_bank(panel, "full")
    names = set(full.names)
    for pipeline in ("raw", "log>zscore24", "diff>rank168", "fracdiff4>ewm32", "log>clip3", "diff>clip3", "fracdiff4"):
        assert ("range", pipeline) in names
    assert ("price", "raw") not in names  # a level by itself says nothing
    assert ("return", "log") not in names  # a return has no logarithm
    assert set(build_bank(panel).names) <= names
    assert build_bank(panel, "full", threads=3).values.tobytes() == full.values.tobytes()


def test_volatility_is_causal_and_unknown_in_the_first_day() -> None:
    panel = panel_of(200)
    volatility = causal_volatility(panel)
    assert volatility.shape == (200, 2)
    assert np.isnan(volatility[:24]).all()
    assert np.isfinite(volatility[24:]).all()
    assert causal_volatility(panel.cut(0, 120)).tobytes() == volatility[:120].tobytes()
    np.testing.assert_allclose(volatility[100:], 0.01, rtol=0.5)


def test_the_page_of_features_is_what_the_registries_say() -> None:
    assert feature_docs.PAGE.read_text() == feature_docs.page(), "run python -m nas.features.feature_docs"
