"""Leakage, the one unforgivable bug: values up to t are the same bits whatever happens after t; and what looks ahead is caught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from data.panel import Panel
from nas.features.bank import build_bank
from nas.features.inputs import INPUTS, inputs_of
from nas.features.transforms import TRANSFORMS, Transform, transform

BARS = 420


def futures(x: np.ndarray, t: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Other histories [C, T] with the same bars up to t: other values, missing, infinite, huge, constant."""
    out = []
    for replace in (
        np.exp(rng.standard_normal(x[:, t + 1 :].shape)),
        np.full_like(x[:, t + 1 :], np.nan),
        np.where(rng.random(x[:, t + 1 :].shape) < 0.3, np.inf, 1.0),
        np.full_like(x[:, t + 1 :], 1e300),
        np.ones_like(x[:, t + 1 :]),
    ):
        other = x.copy()
        other[:, t + 1 :] = replace
        out.append(other)
    return out


def assert_causal(apply: Callable[[np.ndarray], np.ndarray], x: np.ndarray, places: tuple[int, ...]) -> None:
    """`apply(x [C, T]) -> [C, T]` gives the same bits up to t for every future, and for none at all."""
    rng = np.random.default_rng(0)
    whole = apply(x)
    for t in places:
        before = np.ascontiguousarray(whole[:, : t + 1]).tobytes()
        for other in futures(x, t, rng):
            changed = apply(other)
            assert np.ascontiguousarray(changed[:, : t + 1]).tobytes() == before, (
                f"bars after {t} change what is before"
            )
        assert np.ascontiguousarray(apply(x[:, : t + 1].copy())).tobytes() == before, f"the end at {t} shows"


def series(gaps: bool) -> np.ndarray:
    rng = np.random.default_rng(1)
    x = np.exp(rng.standard_normal((2, BARS)))
    x[0, 150:170] = x[0, 150]
    if gaps:
        x[1, :40] = np.nan
        x[:, 90::17] = np.nan
    return x


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_ignores_the_future(name: str, gaps: bool) -> None:
    step = TRANSFORMS[name]
    for parameter in {step.parameter or 0, max(step.smallest, 5)} if step.parameter else {0}:
        assert_causal(lambda x, n=parameter: step.apply(x, n), series(gaps), (0, 47, 171, 255, 256, 335, 401))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_equals_its_plain_formula_and_forgets_within_its_memory(name: str) -> None:
    step = TRANSFORMS[name]
    x = series(gaps=False)
    for parameter in {step.parameter or 0, max(step.smallest, 5)} if step.parameter else {0}:
        got = step.apply(x, parameter)
        np.testing.assert_allclose(got, step.reference(x, parameter), rtol=1e-9, atol=1e-9)
        memory = step.memory(parameter)
        if memory < 380:
            late = step.apply(x[:, 30:].copy(), parameter)
            np.testing.assert_allclose(late[:, memory:], got[:, 30 + memory :], rtol=1e-6, atol=1e-6)
            assert np.isfinite(got[:, memory:]).all()


def test_a_centred_kernel_is_caught() -> None:
    def centred(_: object, x: np.ndarray, window: int) -> np.ndarray:
        """A mean over bars t - window / 2 .. t + window / 2: smooth, plausible, and a look into the future."""
        kernel = np.ones(window) / window
        return np.stack([np.convolve(np.nan_to_num(row), kernel, mode="same") for row in x])

    transform("centred", "a mean around the bar", lambda window: window, 5)(centred)
    try:
        step: Transform = TRANSFORMS["centred"]
        with pytest.raises(AssertionError, match="change what is before"):
            assert_causal(lambda x: step.apply(x, 5), series(gaps=False), (100,))
    finally:
        del TRANSFORMS["centred"]


def test_a_transform_fitted_on_the_whole_history_is_caught() -> None:
    with pytest.raises(AssertionError):
        assert_causal(lambda x: (x - np.nanmean(x)) / np.nanstd(x), series(gaps=False), (100,))


def panel_of(bars: int, seed: int = 0, assets: int = 3) -> Panel:
    """Every field any input asks for, two other timeframes' candles (repeated bar by bar), one asset listed late."""
    rng = np.random.default_rng(seed)
    shape = (bars, assets)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, shape), axis=0))
    opening = close * np.exp(rng.normal(0, 0.005, shape))
    values = {
        "open": opening,
        "high": np.maximum(opening, close) * np.exp(rng.exponential(0.002, shape)),
        "low": np.minimum(opening, close) * np.exp(-rng.exponential(0.002, shape)),
        "close": close,
        "volume": rng.lognormal(3, 1, shape),
        "funding_rate": rng.normal(1e-4, 1e-4, shape),
        "open_interest": rng.lognormal(8, 0.1, shape),
        "premium": rng.normal(0, 1e-4, shape),
        "spread": rng.lognormal(-9, 0.3, shape),
        "imbalance": rng.uniform(-1, 1, shape),
        "depth_imbalance": rng.uniform(-1, 1, shape),
        "ofi_1": rng.normal(0, 10, shape),
        "long_ratio": rng.uniform(0.3, 0.7, shape),
    }
    for name in ("open", "high", "low", "close"):
        values[f"{name}@240"] = np.repeat(values[name][::4], 4, axis=0)[:bars]
    for series_ in values.values():
        series_[:60, -1] = np.nan
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(bars) * np.timedelta64(3_600_000_000_000, "ns")
    names = tuple(f"A{i}" for i in range(assets))
    return Panel(stamps, names, tuple(values), np.stack(list(values.values()), axis=-1), 3_600_000_000_000, "test")


def perturbed(panel: Panel, t: int, seed: int) -> Panel:
    """Another panel with the same bars up to t."""
    values = panel.values.copy()
    values[t + 1 :] = values[t + 1 :] * np.exp(np.random.default_rng(seed).normal(0, 1, values[t + 1 :].shape))
    values[t + 3 :, 0] = np.nan
    return Panel(panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, panel.source)


@pytest.mark.parametrize("which", ["default", "full"])
def test_no_input_and_no_pipeline_of_the_bank_sees_the_future(which: str) -> None:
    panel = panel_of(500)
    whole = build_bank(panel, which)
    choice = dict(zip(whole.inputs, whole.pipelines, strict=True))
    assert {"body@240", "range@240", "gap@240"} <= set(whole.inputs)
    assert set(INPUTS if which == "full" else []) <= set(whole.inputs)
    for t in (0, 60, 167, 250, 399):
        other = build_bank(perturbed(panel, t, t), choice).values
        cut = build_bank(panel.cut(0, t + 1), choice).values
        for row, name in enumerate(whole.names):
            before = np.ascontiguousarray(whole.values[:, row, : t + 1]).tobytes()
            assert np.ascontiguousarray(other[:, row, : t + 1]).tobytes() == before, name
            assert np.ascontiguousarray(cut[:, row]).tobytes() == before, name


def test_every_input_is_known_after_its_memory() -> None:
    panel = panel_of(500)
    for name, raw in inputs_of(panel).items():
        values = raw.compute(panel)
        assert values.shape == (3, 500), name
        assert np.isfinite(values[:2, raw.memory :]).all(), name
        assert np.isfinite(values[2, 60 + raw.memory :]).all(), name
        # before the asset is listed nothing is known about it; the market and the clock are
        if raw.needs and name not in ("market_return", "leader_return", "market_volatility"):
            assert np.isnan(values[2, :60]).all(), name
