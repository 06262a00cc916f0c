from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data.panel import InputError
from data.simulated import simulate
from nas.lab import comparison, null, power
from nas.lab.evidence import collect, page
from nas.lab.forecast import load, origins, patchtst_parameters, score
from nas.lab.markets import garch, permuted
from nas.lab.tables import comparison_table, null_table
from nas.lab.tasks import planted
from nas.lab.units import Record, Unit, complete, read
from nas.lookback import LookbackNetwork, LookbackSpace, lookback_tensors

ROOT = Path(__file__).resolve().parents[2]


def lab(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "nas.lab", *arguments, "--store", str(folder)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def quiet() -> Console:
    return Console(quiet=True)


# -- units -----------------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    computed: list[str] = []

    def compute(unit: Unit) -> dict[str, object]:
        computed.append(unit.name)
        return {"square": unit.settings["seed"] ** 2}

    units = [Unit(f"u{seed}", {"seed": seed}) for seed in range(3)]
    complete(tmp_path, units[:2], compute, quiet(), "code")
    (tmp_path / "u1.json").write_text('{"name": "u1", "sett')  # cut short, as no killed command leaves it
    found = complete(tmp_path, units, compute, quiet(), "code")
    assert computed == ["u0", "u1", "u1", "u2"]
    assert [record.result["square"] for record in found] == [0, 1, 4]
    changed = complete(tmp_path, [Unit("u0", {"seed": 5})], compute, quiet(), "code")  # other settings: another unit
    assert changed[0].result["square"] == 25


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    command = lab(tmp_path, "power", "--seeds", "1", "--quiet")
    running = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list((tmp_path / "power").glob("*.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = {path: path.read_bytes() for path in (tmp_path / "power").glob("*.json")}
    assert len(before) >= 2
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "7 of 7 units are finished. Found in at least 80%" in done.stdout
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list((tmp_path / "power").glob(".*.part"))
    # a unit gives the same result in a process that was not killed
    unit = power.units(1)[0]
    record = read(tmp_path / "power" / f"{unit.name}.json")
    assert record is not None
    assert json.loads(json.dumps(power.compute(unit))) == record.result


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["forecast", "--csv", "missing.csv"], "missing.csv does not exist"),
        (["forecast", "--csv", "missing.csv", "--horizon", "96,x"], "is no list of whole numbers"),
        (["null", "--data", "missing.parquet"], "missing.parquet"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = subprocess.run(lab(tmp_path, *arguments), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# -- null -------------------------------------------------------------------------------------------------------------------


def test_markets_without_signal_are_martingales() -> None:
    history = simulate(["BTCUSDT"], "60")
    drifts, echoes = [], []
    for seed in range(12):
        for panel in (garch(3_000, seed), permuted(history, 3_000, seed)):
            close = panel.field("close")[:, 0]
            returns = close[1:] / close[:-1] - 1.0
            drifts.append(returns.mean() / returns.std() * np.sqrt(len(returns)))
            # of signs: clusters of volatility widen the spread of the usual autocorrelation several times
            echoes.append(np.mean(np.sign(returns[1:] * returns[:-1])) * np.sqrt(len(returns)))
            low, high = panel.field("low")[:, 0], panel.field("high")[:, 0]
            assert (low <= close).all()
            assert (close <= high).all()
            assert not panel.settlements
    assert abs(np.mean(drifts)) < 3 / np.sqrt(len(drifts))
    assert abs(np.mean(echoes[::2])) < 3 / np.sqrt(len(echoes[::2]))


def test_permuted_days_are_days_of_the_history() -> None:
    history = simulate(["BTCUSDT"], "60")
    panel = permuted(history, 2_400, 3)
    close, old = panel.field("close")[:, 0], history.field("close")[:, 0]
    moved = np.abs(np.diff(close, prepend=1000.0) / np.concatenate([[1000.0], close[:-1]]))
    there = {round(float(v), 9) for v in np.abs(np.diff(np.log(old), prepend=np.log(history.field("open")[0, 0])))}
    assert all(round(float(v), 9) in there for v in moved)
    again = permuted(history, 2_400, 3)
    assert panel.fingerprint() == again.fingerprint() != permuted(history, 2_400, 4).fingerprint()
    with pytest.raises(InputError, match="give a longer file"):
        permuted(history, 6_000, 0)


def test_the_whole_walk_forward_runs_on_a_null_market() -> None:
    small = {
        "train": "400",
        "validation": "240",
        "test": "240",
        "search_epochs": 1,
        "training_epochs": 1,
        "channels": 4,
    }
    small |= {"ops": ["zero", "identity", "conv3"], "nodes": 1}
    unit = null.units(1, ("garch",), small)[0]
    unit = Unit(unit.name, {**unit.settings, "bars": 2_100})
    found = null.compute(unit, [])
    assert found["bare"]["windows"] >= 2
    assert found["shipped"]["forecast_correlation"] == found["bare"]["forecast_correlation"]  # the same trainings
    assert found["shipped"]["trials"] > 0
    assert found["bare"]["pbo_gross"] == found["bare"]["pbo"]  # nothing is charged there
    assert found["shipped"]["pbo_gross"] is not None


def null_record(seed: int, dsr: float, pbo: float, spa: float) -> Record:
    figures = {"sharpe": 0.1 * (-1) ** seed, "dsr": dsr, "dsr_configurations": dsr, "pbo": pbo, "spa": spa, "flat_windows": 1,
               "windows": 7, "forecast_correlation": 0.001 * (-1) ** seed}  # fmt: skip
    return Record(str(seed), {"market": "garch", "seed": seed}, {"shipped": figures, "bare": figures}, 1.0, "", "", "")


def test_the_null_verdict_can_fail() -> None:
    good = [null_record(seed, 0.5, 0.5, 0.5) for seed in range(40)]
    assert null_table(good)[0].startswith("All targets hold")
    for bad in ((0.99, 0.5, 0.5), (0.5, 0.2, 0.5), (0.5, 0.5, 0.01)):
        mixed = [null_record(seed, *bad) for seed in range(40)]
        assert null_table(mixed)[0].startswith("Not all targets hold")


# -- search against random ---------------------------------------------------------------------------------------------------


def test_planted_labels_know_nothing_of_the_future() -> None:
    task = planted(0, 1.0)  # no noise: the label is the teacher's forecast
    again = planted(0, 0.5)
    assert np.array_equal(task.tensors.x.numpy(), again.tensors.x.numpy())
    y, noisy = task.tensors.y.numpy().ravel(), again.tensors.y.numpy().ravel()
    assert np.corrcoef(y, noisy)[0, 1] == pytest.approx(0.5**0.5, abs=0.03)
    gap = task.space.receptive_field
    assert task.validation.start - task.train.stop >= gap
    assert task.test.start - task.validation.stop >= gap


def test_a_tiny_comparison_tells_its_verdict() -> None:
    units = comparison.units(2, 2, ("planted",), ("darts", "perturbation", "regulariser"))
    found = [Record(unit.name, unit.settings, comparison.compute(unit, []), 1.0, "", "", "") for unit in units]
    verdict, table = comparison_table(found)
    assert "planted: plain DARTS" in verdict
    assert table.count("| planted |") == 5
    assert all(len(record.result["random"]) == 2 for record in found)


# -- forecast ------------------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mse", "mae"), [("ETTh1.csv", "1.295", "0.713"), ("exchange_rate.txt.gz", "0.081", "0.196")]
)
def test_repeat_last_gives_the_published_errors(shared: Path, name: str, mse: str, mae: str) -> None:
    data = load(shared / "forecast" / name)
    space = LookbackSpace(horizons=tuple(range(1, 97)), features=(("level", ("last",)),))
    tensors = lookback_tensors(data.series, 96, [1])
    found = score(LookbackNetwork(space, ["level"], 0), tensors, origins(data.test, 96))
    assert (f"{found['mse_batches']:.3f}", f"{found['mae_batches']:.3f}") == (mse, mae)


def test_every_window_is_judged_once_and_only_whole_batches_where_asked() -> None:
    series = np.random.default_rng(0).standard_normal((1, 900))
    space = LookbackSpace(horizons=(1, 2), features=(("level", ("last",)),))
    tensors, bars = lookback_tensors(series, 2, [1]), slice(400, 800)
    found = score(LookbackNetwork(space, ["level"], 0), tensors, bars)
    error = np.array([[series[0, t + h] - series[0, t] for h in (1, 2)] for t in range(400, 800)])
    assert found["mse"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert found["mae_batches"] == pytest.approx(np.abs(error[:384]).mean(), rel=1e-5)


def test_windows_keep_to_their_part() -> None:
    assert origins(slice(0, 8_640), 96, 335) == slice(335, 8_544)  # the last target is row 8,639
    assert origins(slice(11_520, 14_400), 96) == slice(11_519, 14_304)  # 2,785 windows, as the published loaders count
    assert patchtst_parameters(96) == 115_872


# -- the page ------------------------------------------------------------------------------------------------------------------


def test_the_page_is_what_its_files_generate() -> None:
    assert (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8") == page(ROOT / "docs" / "evidence")


def test_the_page_follows_the_units(tmp_path: Path) -> None:
    for seed in range(3):
        record = null_record(seed, 0.99, 0.5, 0.5)
        (tmp_path / "null").mkdir(exist_ok=True)
        (tmp_path / "null" / f"{seed}.json").write_text(json.dumps(vars(record)))
    collect(tmp_path, tmp_path / "out")
    assert "DSR >= 0.95 in 100%" in page(tmp_path / "out")
    (tmp_path / "out" / "null.json").write_text("[{]")
    with pytest.raises(InputError, match="no lab results"):
        page(tmp_path / "out")
