"""Quantiles of a risk task read nothing after the stretch that stopped its networks; a volume has none; a model keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.panel import Panel
from nas.network.residual_fit import ResidualSettings
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.tasks.result import TaskResult
from nas.tasks.risk import RiskTask, risk_model
from nas.tasks.windows import Window
from strategies.backtest.sizing import RiskForecast, load_risk
from tests.nas.targets.test_targets import PANEL, replaced

WINDOW = Window(0, slice(1_000, 2_600), slice(2_700, 3_600), slice(3_700, 4_200), 100)
SETTINGS = ResidualSettings(
    "harx", kinds=("small",), training=TrainingSettings(epochs=2, learning_rate=1e-2, length=256)
)


def run(panel: Panel, target: str = "range") -> TaskResult:
    return RiskTask(WINDOW, target, 6, 0, SETTINGS, ("ewma", "harx")).compute(Samples.of(panel, (6,)))


def factors(result: TaskResult) -> list[float]:
    return [row["factor"] for rows in result.report["quantiles"].values() for row in rows]


def test_factors_ignore_what_comes_after_the_last_move_of_validation() -> None:
    one, other = run(PANEL), run(replaced(PANEL, WINDOW.validation.stop + 7))
    assert factors(one) == factors(other)
    assert factors(one) != factors(run(replaced(PANEL, WINDOW.validation.stop - 100)))


def test_a_model_keeps_its_factors_and_a_volume_has_none(tmp_path: Path) -> None:
    result = run(PANEL)
    quantiles = {row["level"]: row["factor"] for row in result.report["quantiles"]["forecast"]}
    RiskForecast(risk_model(result), np.array(result.report["return_factor"]), quantiles).save(tmp_path)
    again = load_risk(tmp_path)["range"]
    assert again.quantiles == quantiles
    assert again.of_assets([0]).returns(0.01)[0.05] == np.expm1(0.01 * quantiles[0.05])
    assert run(PANEL, "volume").report["quantiles"] == {}
