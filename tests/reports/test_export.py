"""Runs side by side, and runs for TensorBoard and MLflow, read back with their own readers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.panel import InputError
from nas.search.watch import Reader, recorder
from reports.__main__ import main
from reports.comparison import differences, write_comparison
from reports.export import log_mlflow, write_tensorboard
from reports.live import live_tensorboard
from reports.run_folder import load_run
from tests.reports.run_builder import build_run

BARS = 24 * 30
EVIL = "<script>alert(1)</script>"


def test_comparison_shows_both_runs_and_where_they_differ(tmp_path: Path) -> None:
    one = build_run(tmp_path, run_id="one", bars=BARS)
    two = build_run(tmp_path, run_id="two", bars=BARS, simulated=False, symbols=(EVIL,), seed=1)
    found = dict(differences([load_run(one), load_run(two)]))
    assert found["data.source"] == ["simulated", "bybit"]
    assert "config.preset" not in found
    page = write_comparison([one, two])
    assert page == tmp_path / "compare.html"
    text = page.read_text()
    assert "SIMULATED DATA in one" in text
    assert EVIL not in text
    assert 'href="runs/two/index.html"' in text


def test_compare_wants_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build_run(tmp_path, bars=BARS, optional=False)
    monkeypatch.setattr(sys, "argv", ["reports", "compare", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, len(told.splitlines())) == (2, 1)
    assert "at least two" in told


def test_tensorboard_holds_losses_and_the_weight_of_every_op(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = load_run(build_run(tmp_path, bars=BARS, windows=2))
    folder = write_tensorboard(run)
    events = accumulator.EventAccumulator(str(folder / "window-1"))
    events.Reload()
    losses = [event.value for event in events.Scalars("search/train_loss")]
    assert losses == pytest.approx([row["train_loss"] for row in run.windows[1]["history"]])
    weights = events.Scalars("alpha input to node 1/ema16")
    assert [event.step for event in weights] == list(range(12))
    assert weights[-1].value == pytest.approx(0.7)


def test_tensorboard_draws_the_network_of_a_saved_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    import torch

    import nas.network.model

    class Tiny(torch.nn.Module):
        receptive_field = 3

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Parameter(torch.ones(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bit,ic->bct", x, self.stem)

    class Model:
        network = Tiny()
        genotype = SimpleNamespace(features=("a", "b"), assets=())

    run = load_run(build_run(tmp_path, bars=BARS, windows=1))
    (run.folder / "models" / "0").mkdir(parents=True)
    (run.folder / "models" / "0" / "genotype.json").write_text("{}")
    monkeypatch.setattr(nas.network.model, "load_model", lambda folder: Model())
    events = accumulator.EventAccumulator(str(write_tensorboard(run) / "window-0"))
    events.Reload()
    assert len(events.Graph().node) > 0


def test_mlflow_holds_settings_metrics_and_files(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run = load_run(build_run(tmp_path, bars=BARS, strategies=("searched", EVIL, "buy_and_hold")))
    uri = f"file:{tmp_path / 'mlruns'}"
    number = log_mlflow(run, uri)
    logged = mlflow.MlflowClient(tracking_uri=uri).get_run(number)
    assert logged.data.params["preset"] == "quick"
    growth = run.equity["searched"].iloc[-1] / run.equity["searched"].iloc[0] - 1.0
    assert logged.data.metrics["searched.total_return"] == pytest.approx(growth)
    files = {path.name for path in (tmp_path / "mlruns").rglob("artifacts/*")}
    assert {"run.json", "equity.parquet"} <= files
    assert logged.info.status == "FINISHED"


def test_mlflow_that_cannot_be_used_is_an_input_error(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    run = load_run(build_run(tmp_path, bars=BARS, optional=False))
    with pytest.raises(InputError, match="MLflow at ftp://nowhere refused"):
        log_mlflow(run, "ftp://nowhere")


def test_tensorboard_shows_a_search_while_it_goes_on(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    watch, folder = tmp_path / "watch", tmp_path / "tensorboard"

    def seen() -> list[float]:
        events = accumulator.EventAccumulator(str(folder / "searching-window0-darts-seed0"))
        events.Reload()
        return [event.value for event in events.Scalars("search/train_loss")] if events.Tags()["scalars"] else []

    with live_tensorboard(watch, folder, look_s=0.01):
        record = recorder(watch, "window0-darts-seed0", {"edges": [[0, 0]], "ops": ["ema4"]})
        for epoch in range(3):
            record({"epoch": epoch, "train_loss": 0.5 - 0.125 * epoch, "op_weights": [[0.25]]})
            deadline = time.monotonic() + 20
            while (
                len(found := seen() if (folder / "searching-window0-darts-seed0").exists() else []) <= epoch
                and time.monotonic() < deadline
            ):
                time.sleep(0.01)
            assert found == [0.5 - 0.125 * k for k in range(epoch + 1)]
        with (watch / "window0-darts-seed0.jsonl").open("a") as file:
            file.write('{"epoch": 3, "train')  # a line that is being written
    assert len(seen()) == 3


def test_the_reader_tells_every_whole_line_once(tmp_path: Path) -> None:

    reader = Reader(tmp_path)
    assert list(reader.news()) == []
    record = recorder(tmp_path, "a", {"ops": []})
    record({"epoch": 0})
    assert [(name, row) for name, _, row in reader.news()] == [("a", {"epoch": 0})]
    assert list(reader.news()) == []
    recorder(tmp_path, "a", {"ops": []})({"epoch": 0})
    assert recorder(None, "b", {})({"epoch": 0}) is None
    assert not (tmp_path / "b.jsonl").exists()
