"""The forecast sheet and the cross-validated paths on the page: every sentence agrees with its figures, names are escaped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.tasks.windows import Window
from reports.cpcv_section import cpcv_section
from reports.forecast_section import forecast_section, leak_told, sentence, timing_told
from reports.page import write_page
from reports.run_folder import Run, load_run
from strategies.walkforward.forecast_sheet import LAGS, forecast_sheet
from tests.reports.run_builder import build_run


def row(value: float | None, t: float | None) -> dict[str, Any]:
    return {"bars": 6, "ic": value, "ic_t": t, "rank_ic": value, "rank_ic_t": t}


def sheet(value: float | None, t: float | None, leak: int | None = None) -> dict[str, Any]:
    told = {"rank_ic": value, "t": t, "bars": 100}
    return {
        "horizon": 6, "bars": 1234, "horizons": [row(value, t)], "hours": [{"hour": 3, **told}], "windows": [{"window": 0, **told}],
        "regimes": [{"regime": "calm", **told}], "quantiles": [{"quantile": 1, "mean_bps": -1.0, "error_bps": None, "bars": 9}],
        "lead_lag": [{"lag": lag, "ic": value, "error": None} for lag in LAGS], "leak": leak,
    }  # fmt: skip


def page_of(folder: Path, told: dict[str, Any], paths: dict[str, Any] | None = None) -> tuple[Run, str]:
    made = build_run(folder, bars=24 * 30, strategies=("searched", "buy_and_hold"), trials=2)
    (made / "forecast_sheet.json").write_text(json.dumps(told))
    if paths is not None:
        (made / "cpcv.json").write_text(json.dumps(paths))
    run = load_run(made)
    return run, write_page(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "t", "words"),
    [
        (None, None, "too few to tell"),
        (0.01, 1.9, "no different from none"),
        (-0.01, -1.9, "no different from none"),
        (0.05, 2.1, "more than luck alone reaches in one of twenty"),
        (-0.05, -2.1, "worse than none: the signs were wrong"),
    ],
)
def test_the_sentence_agrees_with_its_figures(value: float | None, t: float | None, words: str) -> None:
    said = sentence(sheet(value, t))
    assert words in said
    assert "None" not in said
    assert "nan" not in said
    assert value is None or f"{value:+.3f} (Newey-West t {t:+.1f})" in said


def test_timing_and_leak_are_told_as_they_are() -> None:
    assert "less often than once in twenty (p = 0.020)" in timing_told("S", {"p": 0.02, "draws": 2000})
    assert "in 24% of them (p = 0.242)" in timing_told("S", {"p": 0.242, "draws": 2000})
    assert "read 1 bar ahead" in leak_told("S", 1)
    assert "read 2 bars ahead" in leak_told("S", 2)


def test_the_page_shows_the_sheet_escaped_and_warns_of_a_look_ahead(tmp_path: Path) -> None:
    found = [{"part": "input", "name": "<b>return</b>", "lost": 0.1, "low": -0.1, "high": 0.3}]
    told = {
        "strategies": {"searched": sheet(0.05, 2.1, leak=1)},
        "importance": [{"window": 0, "found": found}],
        "timing": {"searched": {"p": 0.3, "draws": 2000}},
    }
    run, page = page_of(tmp_path, told)
    section, figures = forecast_section(run)
    assert section is not None
    assert [figure.name for figure in figures] == ["lead-lag-curve", "forecast-quantiles", "importance-input-0"]
    assert "read 1 bar ahead" in page
    assert "in 30% of them" in page
    assert '<section id="forecasts">' in page
    assert "<b>return</b>" not in page
    assert cpcv_section(run) == (None, [])
    empty = {**told, "strategies": {"tcn": sheet(0.0, 0.0)}}
    assert '<section id="forecasts">' not in page_of(tmp_path / "other", empty)[1]


def test_a_real_sheet_fits_the_page_and_so_do_paths(tmp_path: Path) -> None:
    from lab.markets import garch

    panel = garch(900, 0)
    window = Window(0, slice(0, 100), slice(110, 300), slice(310, 860), 10)
    forecast = np.random.default_rng(0).normal(size=(550, 1))
    real = forecast_sheet(panel, [window], forecast, np.full((900, 1), 0.01), 6, 310)
    paths = {
        "groups": [["a", "b"]] * 10, "held": 2, "splits": 45,
        "paths": [{"sharpe": float(k) - 4.0, "sharpe_before_costs": float(k)} for k in range(9)],
    }  # fmt: skip
    run, page = page_of(tmp_path, {"strategies": {"searched": real}, "importance": [], "timing": {}}, paths)
    assert "Of 9 paths 4 earned anything after costs: Sharpe ratio 0.00 in the middle, -4.00 to 4.00" in page
    assert "45 searches that never read what they are judged by" in page
    section, (figure,) = cpcv_section(run)
    assert section is not None
    assert figure.data[0]["x"] == [float(k) - 4.0 for k in range(9)]
