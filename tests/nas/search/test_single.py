"""One search by itself: the notebook's call, the command, what they write and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from data.panel import InputError, Panel
from data.sources import load_panel
from nas.network.model import load_model
from nas.network.training import TrainingSettings
from nas.search import loop, search
from nas.search.__main__ import app, spark
from nas.space.genotype import Genotype

OPS = ("zero", "identity", "conv3", "ema4")


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.standard_normal(3_000)) * 0.005)
    before = np.concatenate([[100.0], close[:-1]])
    frame = pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-01-01", periods=3_000, freq="h", tz="UTC"),
            "open": before, "high": np.maximum(before, close) * 1.001, "low": np.minimum(before, close) * 0.999,
            "close": close, "volume": rng.uniform(1, 2, 3_000),
        }
    )  # fmt: skip
    path = tmp_path_factory.mktemp("candles") / "candles.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def panel(candles: Path) -> Panel:
    return load_panel(("BTCUSDT",), "60", files=(candles,))


def test_the_module_is_called_and_its_result_draws_itself(panel: Panel) -> None:
    seen: list[int] = []
    found = search(panel, ops=OPS, nodes=1, channels=4, epochs=2, on_record=lambda row: seen.append(row["epoch"]))
    assert seen == [0, 1]
    page = found._repr_html_()
    assert page.count("<svg") == 2
    assert found.text.split(" = ")[0] == "node1"
    told = json.loads(found.to_json())
    assert Genotype.from_dict(told["genotype"]).key() == found.genotype.key()
    assert len(told["history"]) == 2


def test_alphas_and_weights_never_see_bars_of_the_purge(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, slice] = {}

    def spy(space, tensors, train, validation, *_, **__):  # type: ignore[no-untyped-def]
        seen.update(train=train, validation=validation, field=slice(0, space.receptive_field))

    monkeypatch.setattr(loop, "search", spy)
    search(panel, ops=OPS, nodes=1, horizon=(2, 6))
    assert seen["validation"].start - seen["train"].stop >= 7 + seen["field"].stop
    assert seen["validation"].stop <= len(panel) - 7


def test_a_found_network_trains_forecasts_and_is_saved(panel: Panel, tmp_path: Path) -> None:
    found = search(panel, ops=OPS, nodes=1, channels=4, epochs=1)
    with pytest.raises(InputError, match=r"found.train\(panel\)"):
        found.predict(panel)
    trained = found.train(panel, TrainingSettings(epochs=2))
    forecasts = trained.predict(panel)
    assert forecasts.shape == (len(panel), 1)
    assert np.isfinite(forecasts[-1])
    trained.save(tmp_path / "model")
    read = load_model(tmp_path / "model")
    assert read.predict(panel, 900, 1000).tobytes() == forecasts[900:1000].tobytes()
    assert read.forecast_scale > 0.0
    assert (trained.genotype, trained.text) == (found.genotype, found.text)


def test_a_forecast_of_a_trained_result_ignores_later_bars(panel: Panel) -> None:
    trained = search(panel, ops=OPS, nodes=1, channels=4, epochs=1).train(panel, TrainingSettings(epochs=1))
    values = panel.values.copy()
    values[1001:] *= 1.5
    assert trained.predict(replace(panel, values=values))[:1001].tobytes() == trained.predict(panel)[:1001].tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "dart"}, "no search variant 'dart'; there are darts"),
        ({"epoch": 3}, "search setting 'epoch' is not known; there are epochs"),
        ({"validation_share": 1.5}, "between 0 and 1"),
        ({"cells": 9}, "bars are too few for a search"),
        ({"fraction": 0.0}, "share of the training stretches"),
        ({"loss": "mse"}, "no loss 'mse'; there are huber, squared, direction, sharpe"),
    ],
)
def test_wrong_arguments_are_named(panel: Panel, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(panel, **arguments)  # type: ignore[operator]


def test_the_command_writes_what_it_found(candles: Path, tmp_path: Path) -> None:
    words = [
        "--data",
        str(candles),
        "--epochs",
        "2",
        "--channels",
        "4",
        "--nodes",
        "1",
        "--out",
        str(tmp_path),
        "--quiet",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "search.json").read_text())
    assert len(told["history"]) == 2
    assert (tmp_path / "network.svg").read_text().startswith("<svg")
    assert "eigenvalue" in (tmp_path / "curves.svg").read_text()
    assert "node1 = " in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "dart"], "error: no search variant 'dart'"),
        (
            ["--horizon", "six"],
            "error: --horizon must be a whole number, not 'six' (Bars ahead that are forecast: 6 or 1,6,24)",
        ),
    ],
)
def test_the_command_answers_wrong_input_with_one_line_and_code_2(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_spark_line_rises_from_the_least_to_the_greatest_value() -> None:
    assert spark([0.0, 1.0, 2.0]) == "▁▅█"
    assert spark([3.0]) == "▁"


def test_an_interrupted_command_goes_on_to_the_same_files(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(out: str) -> list[str]:
        return [
            "--data",
            str(candles),
            "--epochs",
            "3",
            "--channels",
            "4",
            "--nodes",
            "1",
            "--out",
            str(tmp_path / out),
        ]

    assert CliRunner().invoke(app, words("whole")).exit_code == 0
    from nas.search import __main__ as command  # here alone

    drawn = command.curves

    def interrupted(rows: list[dict[str, object]], epochs: int) -> object:
        if len(rows) == 2:
            raise KeyboardInterrupt
        return drawn(rows, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(command, "curves", interrupted)
        told = CliRunner().invoke(app, words("cut"))
    assert told.exit_code == 130
    assert "interrupted after 2 of 3 epochs: the same command goes on from there" in told.stderr
    assert (tmp_path / "cut/search.part").exists()
    assert CliRunner().invoke(app, words("cut")).exit_code == 0
    assert (tmp_path / "cut/search.json").read_bytes() == (tmp_path / "whole/search.json").read_bytes()
    assert not (tmp_path / "cut/search.part").exists()
