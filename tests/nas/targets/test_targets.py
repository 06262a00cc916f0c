"""Targets, closed forms and scales look at nothing that comes later, and say what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from data.panel import InputError, Panel
from nas.targets import (
    BASES,
    RIVALS,
    TARGETS,
    FittedBase,
    Scale,
    base_columns,
    conformal_quantiles,
    coverage,
    fit_base,
    forecast_by,
    get_target,
    qlike,
    refitted,
    skill,
)
from nas.targets.closed_form import fit

HOUR_NS = 3_600_000_000_000


def market(bars: int = 7_000, assets: int = 1, seed: int = 0) -> Panel:
    """Hourly candles whose volatility wanders, with a rhythm of the day; activity follows volatility."""
    rng = np.random.default_rng(seed)
    hour = np.arange(bars)[:, None] % 24
    log_sigma = np.zeros((bars, assets))
    for t in range(1, bars):
        log_sigma[t] = 0.98 * log_sigma[t - 1] + 0.08 * rng.standard_normal(assets)
    sigma = 0.006 * np.exp(log_sigma + 0.3 * np.sin(2 * np.pi * hour / 24))
    steps = sigma[:, None] * rng.standard_normal((bars, 12, assets)) / np.sqrt(12)
    path = np.concatenate([np.zeros((bars, 1, assets)), steps.cumsum(1)], 1)
    start = np.vstack([np.zeros((1, assets)), path[:, -1].cumsum(0)[:-1]])[:, None]
    prices = 100.0 * np.exp(start + path)
    volume = 1e4 * sigma / 0.006 * np.exp(0.3 * rng.standard_normal((bars, assets)))
    values = np.stack([prices[:, 0], prices.max(1), prices.min(1), prices[:, -1], volume], 2)
    stamps = np.datetime64("2023-01-01", "ns") + np.arange(bars) * np.timedelta64(HOUR_NS, "ns")
    names = tuple(f"A{k}USDT" for k in range(assets))
    return Panel(stamps, names, ("open", "high", "low", "close", "volume"), values, HOUR_NS, "test")


def replaced(panel: Panel, bar: int) -> Panel:
    """The same panel with another future: after `bar` a fall, and every bar multiplied by a factor of its own."""
    values = panel.values.copy()
    factor = 0.7 * np.exp(0.2 * np.random.default_rng(1).standard_normal((len(panel) - bar - 1, values.shape[1], 1)))
    values[bar + 1 :] *= factor * np.array([1.0, 1.1, 0.9, 1.0, 3.0])
    return Panel(
        panel.timestamps,
        panel.assets,
        panel.fields,
        values,
        panel.interval_ns,
        panel.source,
        settlements=panel.settlements,
    )


PANEL = market()
CUT = 6_000


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("horizon", [1, 6])
def test_a_label_reads_its_reach_and_no_bar_beyond(name: str, horizon: int) -> None:
    target = get_target(name)
    before, after = target.label(PANEL, horizon), target.label(replaced(PANEL, CUT), horizon)
    reach = target.reach(horizon)
    np.testing.assert_array_equal(before[:, : CUT - reach + 1], after[:, : CUT - reach + 1])
    assert before[0, CUT - reach + 1] != after[0, CUT - reach + 1]
    assert np.isnan(before[:, -reach:]).all()


@pytest.mark.parametrize("name", TARGETS)
def test_the_naive_forecast_ignores_the_future(name: str) -> None:
    target = get_target(name)
    before, after = target.naive(PANEL, 6), target.naive(replaced(PANEL, CUT), 6)
    np.testing.assert_array_equal(before[:, : CUT + 1], after[:, : CUT + 1])


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].risk])
def test_columns_of_a_base_ignore_the_future(name: str, base: str) -> None:
    target = get_target(name)
    before, after = (base_columns(base, panel, target, 6).values for panel in (PANEL, replaced(PANEL, CUT)))
    np.testing.assert_array_equal(before[:, :, : CUT + 1], after[:, :, : CUT + 1])


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_that_refits_ignores_the_future(rival: str) -> None:
    target = get_target("range")
    refits = (4_000, 5_500)
    before, after = (forecast_by(rival, panel, target, 6, refits) for panel in (PANEL, replaced(PANEL, CUT)))
    np.testing.assert_array_equal(before[:, : CUT + 1], after[:, : CUT + 1])
    assert np.isfinite(before[:, 4_000:]).all()
    assert np.isnan(before[:, :4_000]).all()


def test_a_refit_reads_no_label_that_is_not_known_yet() -> None:
    """Labels that end at the bar of the refit or later are other ones: nothing changes."""
    target, horizon = get_target("range"), 24
    columns, label = base_columns("harx", PANEL, target, horizon), target.label(PANEL, horizon)
    changed = label.copy()
    changed[:, 5_000 - horizon :] += 3.0
    before, after = (refitted("harx", columns, y, target.reach(horizon), (5_000,)) for y in (label, changed))
    np.testing.assert_array_equal(before, after)


def test_the_scale_by_harx_ignores_the_future_and_travels_as_numbers() -> None:
    scale = Scale.fit(PANEL, "harx")
    assert scale.fits
    before, after = (Scale.fit(panel, "harx").volatility(panel) for panel in (PANEL, replaced(PANEL, CUT)))
    np.testing.assert_array_equal(before[: CUT + 1], after[: CUT + 1])
    again = Scale.from_dict(scale.to_dict())
    np.testing.assert_array_equal(again.volatility(PANEL), before)
    late = scale.from_bar(PANEL, CUT)
    assert len(late.fits) <= len(scale.fits)
    np.testing.assert_array_equal(late.volatility(PANEL)[CUT:], before[CUT:])


def test_a_scale_told_to_a_shorter_history_is_the_same_where_it_is_known() -> None:
    scale = Scale.fit(PANEL, "harx").from_bar(PANEL, CUT)
    short = PANEL.cut(CUT - 1_500, len(PANEL))
    np.testing.assert_allclose(scale.volatility(short)[1_500:], scale.volatility(PANEL)[CUT:], rtol=1e-6)


def test_harx_beats_the_moving_average_where_the_day_has_a_rhythm() -> None:
    target, refits = get_target("range"), (4_500,)
    label, naive = target.label(PANEL, 6), forecast_by("ewma", PANEL, target, 6, refits)
    assert skill(label, forecast_by("harx", PANEL, target, 6, refits), naive) > 0.3


def test_an_outlier_does_not_blow_up_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2_000))
    y = x.sum(0) + rng.standard_normal(2_000)
    form = fit(x, y, slice(0, 1_500))
    x[:, 1_600] = 1e6
    assert abs(form.forecast(x)[1_600]) < 12.0


def test_a_closed_form_finds_planted_coefficients_and_saves_them() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 20_000))
    y = 2.0 * x[:, 0] - x[:, 1] + 0.1 * rng.standard_normal((1, 20_000))
    form = fit(x[0], y[0], slice(0, 20_000), ridge=1e-6)
    np.testing.assert_allclose(form.coefficients / form.deviation, [2.0, -1.0], atol=0.01)
    base = FittedBase("harx", (form,))
    assert FittedBase.from_dict(base.to_dict()).to_dict() == base.to_dict()


def test_too_little_history_is_said() -> None:
    target = get_target("range")
    columns = base_columns("harxl", PANEL, target, 6)
    with pytest.raises(InputError, match="too few for 103 columns"):
        fit_base("harxl", columns, target.label(PANEL, 6), slice(800, 1_500))


@pytest.mark.parametrize(("call", "said"), [
    (lambda: get_target("rnage"), "did you mean 'range'"),
    (lambda: Scale.fit(PANEL, "garch"), "there are ewma, harx"),
    (lambda: base_columns("harxx", PANEL, get_target("range"), 6), "did you mean"),
])  # fmt: skip
def test_an_unknown_name_is_answered_with_what_there_is(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()  # type: ignore[operator]


def test_bands_cover_what_they_say_where_errors_are_exchangeable() -> None:
    rng = np.random.default_rng(0)
    forecast = rng.standard_normal(40_000)
    label = forecast + rng.standard_normal(40_000)
    low, high = conformal_quantiles(label[:20_000], forecast[:20_000], 0.8)
    assert coverage(label[20_000:], forecast[20_000:] + low, forecast[20_000:] + high) == pytest.approx(0.8, abs=0.02)


def test_qlike_is_zero_for_a_perfect_forecast_and_asks_more_of_what_is_too_low() -> None:
    label = np.zeros(3)
    found = qlike(label, np.array([0.0, 0.5, -0.5]), 2.0)
    assert found[0] == 0.0
    assert found[2] > found[1] > 0.0
