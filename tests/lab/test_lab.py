from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from data.panel import InputError
from data.simulated import simulate
from lab import comparison, forecast, null, power
from lab.__main__ import app, looked
from lab.evidence import collect, page
from lab.forecast import load, origins, patchtst_parameters, score
from lab.forecast_table import forecast_table
from lab.markets import garch, permuted
from lab.rounds import arms, rounds_table, searches_table
from lab.tables import null_table
from lab.tasks import judge_genotype, planted
from lab.units import Record, Unit, complete, read
from nas.network.lookback import LookbackNetwork, LookbackSpace, lookback_tensors
from reports.statistics import overfitting

ROOT = Path(__file__).resolve().parents[2]
SMALL_WALK_FORWARD = {
    "train": "400",
    "validation": "240",
    "test": "240",
    "search_epochs": 1,
    "training_epochs": 1,
    "channels": 4,
    "ops": ["zero", "identity", "conv3"],
    "nodes": 1,
}


def lab(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "lab", *arguments, "--store", str(folder)]


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


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


@pytest.mark.slow
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


def tiny(experiment: str, folder: Path) -> tuple[list[Unit], Callable[[Unit], dict[str, Any]]]:
    """A few units of a command at a fraction of their size, computed by the command's own code."""
    if experiment == "null":
        units = [
            Unit(unit.name, {**unit.settings, "bars": 2_100}) for unit in null.units(2, ("garch",), SMALL_WALK_FORWARD)
        ]
        return units, lambda unit: null.compute(unit, [])
    if experiment == "search-vs-random":
        units = comparison.units(2, 2, ("planted",), ("darts",), (2,), "small")
        return units, lambda unit: comparison.compute(unit, [])
    table = folder / "waves.csv"
    rows = np.sin(np.arange(1_100)[:, None] / [5.0, 9.0]) + np.random.default_rng(0).standard_normal((1_100, 2))
    np.savetxt(table, rows, delimiter=",")
    data = load(table)
    return forecast.units(data, (4,), 3, "gdas", 24), lambda unit: forecast.compute(unit, data)


@pytest.mark.parametrize("experiment", ["null", "search-vs-random", "forecast"])
def test_every_experiment_goes_on_after_a_kill(tmp_path: Path, experiment: str) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.lab.test_lab import complete, quiet, tiny\n"
        "folder = Path(sys.argv[2]); units, compute = tiny(sys.argv[1], folder)\n"
        "complete(folder / 'units', units, compute, quiet(), 'code')"
    )
    running = subprocess.Popen([sys.executable, "-c", script, experiment, str(tmp_path)], cwd=ROOT, env=environment())
    units, compute = tiny(experiment, tmp_path)
    folder, end = tmp_path / "units", time.monotonic() + 120
    while not (folder / f"{units[0].name}.json").is_file() and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL  # it was in a later unit
    before = {path.stem: path.read_bytes() for path in folder.glob("*.json")}
    computed: list[str] = []

    def counted(unit: Unit) -> dict[str, Any]:
        computed.append(unit.name)
        return compute(unit)

    found = complete(folder, units, counted, quiet(), "code")
    names = [unit.name for unit in units]
    assert names[0] in before
    assert computed == [name for name in names if name not in before]
    assert [record.name for record in found] == names
    assert all((folder / f"{name}.json").read_bytes() == content for name, content in before.items())
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.json" for name in names)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["forecast", "--csv", "missing.csv"], "missing.csv does not exist"),
        (["forecast", "--csv", "missing.csv", "--horizon", "96,x"], "is no list of whole numbers"),
        (["null", "--data", "missing.parquet"], "missing.parquet"),
        (["search-vs-random", "--finalists", "3,x"], "is no list of whole numbers"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, lab(tmp_path, *arguments)[3:])
    assert done.exit_code == 2
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
    for market in (echoes[::2], echoes[1::2]):
        assert abs(np.mean(market)) < 3 / np.sqrt(len(market))


def test_nothing_is_left_in_a_permuted_market_of_a_history_that_reverts() -> None:
    history = simulate(["BTCUSDT"], "60")
    values, noise = history.values.copy(), np.random.default_rng(0).standard_normal(len(history))
    returns = 0.004 * (noise[1:] - 0.8 * noise[:-1])  # each move takes most of the last one back
    close = 1000.0 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    for k, name in enumerate(history.fields):
        if name in ("open", "high", "low", "close"):
            values[:, 0, k] = close
    reverting = replace(history, values=values)
    echoes = []
    for seed in range(6):
        path = permuted(reverting, 3_000, seed).field("close")[:, 0]
        signs = np.sign(np.diff(path))
        echoes.append(np.mean(signs[1:] * signs[:-1]) * np.sqrt(len(signs)))
    assert abs(np.mean(echoes)) < 3 / np.sqrt(len(echoes))


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
    unit = null.units(1, ("garch",), SMALL_WALK_FORWARD)[0]
    unit = Unit(unit.name, {**unit.settings, "bars": 2_100})
    found = null.compute(unit, [])
    assert found["bare"]["windows"] >= 2
    assert found["shipped"]["forecast_correlation"] == found["bare"]["forecast_correlation"]  # the same trainings
    assert found["shipped"]["trials"] > 0
    assert found["bare"]["pbo_gross"] == found["bare"]["pbo"]  # nothing is charged there
    assert found["shipped"]["pbo_gross"] is not None


def test_costs_that_tell_configurations_apart_lower_the_pbo_and_equal_ones_do_not() -> None:
    found = []
    for seed in range(8):
        gross = np.random.default_rng(seed).standard_normal((210, 12)) * 0.01
        net = gross - np.linspace(0.0, 0.003, 12)
        found.append({"pbo": overfitting(net).pbo, **null.cost_figures(net, gross)})
    mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    assert mean["pbo"] < 0.15
    assert mean["pbo_gross"] == pytest.approx(0.5, abs=0.15)
    assert mean["pbo_equal_cost"] == pytest.approx(0.5, abs=0.15)
    assert mean["cost_rank"] < -0.6
    assert np.isnan(null.cost_figures(gross, gross)["cost_rank"])


def null_record(seed: int, dsr: float, pbo: float, spa: float) -> Record:
    figures = {"sharpe": 0.1 * (-1) ** seed, "dsr": dsr, "dsr_configurations": dsr, "pbo": pbo, "spa": spa, "flat_windows": 1,
               "windows": 7, "forecast_correlation": 0.001 * (-1) ** seed, "pbo_gross": 0.5, "pbo_equal_cost": 0.5,
               "cost_rank": -0.5}  # fmt: skip
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
    units = comparison.units(2, 2, ("planted",), ("darts", "perturbation", "regulariser"), (2,), "small")
    found = [Record(unit.name, unit.settings, comparison.compute(unit, []), 1.0, "", "", "") for unit in units]
    verdict, table = searches_table(found)
    assert "planted: plain DARTS" in verdict
    assert "Last round (candidates), planted, 2 problems: better than random architectures of equal compute" in verdict
    assert table.split("### The last round")[0].count("| planted |") == 5
    assert all(len(record.result["random"]) == 2 for record in found)
    task = planted(0, 0.3, "small")  # the command's arm of 2 is the search's own last round of 2, trained alike
    won = comparison.search_by(task, "darts", 0, units[0].settings["search"], finalists=2).genotype
    there = {arm.name: arm for arm in arms(found[0])}
    assert there["darts, last round of 2"].test == judge_genotype(task, won, 0)[1]
    assert there["darts"].test == found[0].result["ways"]["darts"]["test"]


def proposals_record(seed: int, own: list[float], random: list[float]) -> Record:
    """Test correlations are minus the validation losses, but for the first random one, whose validation deceives."""
    way = {"score": [-v for v in own], "test": own}
    drawn = {"score": [-9.0, *(-v for v in random)], "test": [-1.0, *random]}
    result = {"random": [0.1, 0.2, 0.3], "proposals": {"darts": way, "random": drawn}}
    return Record(str(seed), {"market": "planted", "seed": seed, "finalists": [2]}, result, 1.0, "", "", "")


def test_the_last_round_is_compared_at_equal_compute_and_chosen_by_validation_alone() -> None:
    record = proposals_record(0, [0.4, 0.5, 0.6], [0.1, 0.2, 0.3, 0.7])
    found = {arm.name: (arm.candidates, arm.cost, arm.test) for arm in arms(record)}
    assert found["darts"] == (1, 3, 0.4)
    assert found["darts, last round of 2"] == (2, 5, 0.5)  # the third proposal is not in a round of 2
    assert found["darts, 1 of its own + 1 random"] == (2, 5, -1.0)
    assert found["random + validation, 2"] == (2, 2, -1.0)
    assert found["random + validation, 5"] == (5, 5, -1.0)  # validation decides, not test
    assert "random + validation, 4" not in found
    said = "Last round (candidates), planted, 3 problems: better than random architectures of equal compute for "
    assert rounds_table([record] * 3)[0] == (
        f"{said}darts (2); worse for none; better than the same search alone (mean) for darts (2)."
    )
    worse = proposals_record(0, [-2.0, -3.0], [0.1, 0.2, 0.3, 0.7])
    assert rounds_table([worse] * 3)[0] == (
        f"{said}none; worse for darts (2); better than the same search alone (mean) for none."
    )


def test_a_last_round_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 finalists, not 1"):
        comparison.units(1, 2, ("planted",), ("darts",), (1, 3))


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
    assert (f"{found['mse_32']:.3f}", f"{found['mae_32']:.3f}") == (mse, mae)


def test_every_window_is_judged_once_and_only_whole_batches_where_asked() -> None:
    series = np.random.default_rng(0).standard_normal((1, 900))
    space = LookbackSpace(horizons=(1, 2), features=(("level", ("last",)),))
    tensors, bars = lookback_tensors(series, 2, [1]), slice(400, 800)
    found = score(LookbackNetwork(space, ["level"], 0), tensors, bars)
    error = np.array([[series[0, t + h] - series[0, t] for h in (1, 2)] for t in range(400, 800)])
    assert found["mse"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert found["mae_32"] == pytest.approx(np.abs(error[:384]).mean(), rel=1e-5)
    assert found["mse_128"] == pytest.approx((error[:384] ** 2).mean(), rel=1e-5)
    assert score(LookbackNetwork(space, ["level"], 0), tensors, slice(400, 500))["mae_128"] > 0.0  # no whole batch: all


def test_windows_keep_to_their_part() -> None:
    assert origins(slice(0, 8_640), 96, 335) == slice(335, 8_544)  # the last target is row 8,639
    assert origins(slice(11_520, 14_400), 96) == slice(11_519, 14_304)  # 2,785 windows, as the published loaders count
    assert patchtst_parameters(96) == 115_872


def small_table(tmp_path: Path, wander: float, after: float = 0.0) -> forecast.Dataset:
    """Two columns of a daily swing and a random walk of that size; rows of the test part moved by `after`."""
    random = np.random.default_rng(5)
    swing = np.sin(np.arange(1_600)[:, None] * 2 * np.pi / 24 + np.array([0.0, 2.0]))
    rows = (1.0 - wander) * swing + wander * random.standard_normal((1_600, 2)).cumsum(0)
    rows[1_600 - 320 :] += after
    np.savetxt(tmp_path / "table.csv", rows, delimiter=",")
    return load(tmp_path / "table.csv")


def test_validation_takes_the_last_value_of_a_random_walk_and_not_of_a_swing(tmp_path: Path) -> None:
    for wander, expected in ((1.0, True), (0.0, False)):
        data = small_table(tmp_path, wander)
        found = forecast.compute(forecast.units(data, (12,), 1, "gdas", 24)[0], data)
        assert (found["chosen"] == ["last value"]) == expected
        assert (found["test"] == found["repeat_last"]) == expected
        assert found["parameters"] < patchtst_parameters(12) / 20


def test_no_choice_of_the_forecaster_looks_at_the_test_part(tmp_path: Path) -> None:
    results = []
    for after in (0.0, 9.0):
        data = small_table(tmp_path, 0.02, after)
        results.append(forecast.compute(forecast.units(data, (12,), 1, "gdas", 24)[0], data))
    first, second = results
    assert first["test"] != second["test"]
    for name in ("chosen", "tried", "base", "parameters", "validation", "validation_last_value"):
        assert first[name] == second[name]


def test_better_means_better_by_more_than_the_noise_of_blocks() -> None:
    random = np.random.default_rng(0)
    theirs = 1.0 + random.standard_normal(100)
    assert forecast.better(theirs - 0.5, theirs, 10)
    assert not forecast.better(theirs + 0.5, theirs, 10)
    assert not forecast.better(theirs - np.repeat([3.0, -2.0], 50), theirs, 50)  # in one block of two
    assert not forecast.better(theirs - 0.5, theirs, 60)  # one block says nothing
    false = sum(forecast.better(random.standard_normal(100), random.standard_normal(100), 10) for _ in range(1_000))
    assert 20 <= false <= 90  # 5% is what it is set to


def forecast_record(data: str, horizon: int, seed: int, mse: float, chosen: str = "closed form") -> Record:
    figures = {f"{kind}{name}": mse for kind in ("mse", "mae") for name in ("", "_32", "_128")}
    base = {"level": 24, "weight": 2.0, "penalty": 0.1, "rank": 8, "validation": 0.1}
    last = dict.fromkeys(figures, 0.5)
    result = {"chosen": [chosen], "base": base, "parameters": 100, "test": figures, "repeat_last": last,
              "arms": dict.fromkeys(("closed form", "best network", "mean"), figures)}  # fmt: skip
    settings = {"data": data, "horizon": horizon, "seed": seed, "variant": "gdas"}
    return Record(f"{data}-{horizon}-{seed}", settings, result, 1.0, "", "", "")


def test_the_forecast_verdict_can_fail_and_tells_its_tests() -> None:
    good = [forecast_record("ETTh2", h, seed, 0.25 + 0.001 * seed) for h in (96, 192, 336, 720) for seed in range(3)]
    verdict, text = forecast_table(good)
    assert verdict.startswith("All targets hold")
    assert "PatchTST/64: ours is lower in 4 of 4" in text
    assert "p = 0.12" in text  # the least that signed ranks of four can say: 1/8
    verdict, _ = forecast_table([*good[:-3], *(forecast_record("ETTh2", 720, seed, 0.7) for seed in range(3))])
    assert "ETTh2 720: 0.700 against DLinear 0.605" in verdict
    assert "+84.7% of PatchTST/64" in verdict
    verdict, _ = forecast_table([forecast_record("exchange_rate", 96, 0, 0.6)])
    assert "exchange_rate 96: 0.600 against the last value's 0.500" in verdict


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


def test_a_lab_at_a_real_market_is_a_look_at_its_days_and_the_same_units_are_the_same_look(tmp_path: Path) -> None:
    history = replace(garch(600, 77), assets=("XYZUSDT",), simulated=False, source="a file")
    record = Record("one", {"seed": 0}, {}, 0.1, "2026-01-01", "here", "code")
    other = replace(record, settings={"seed": 1})
    assert looked("risk", [record], [history])[0].startswith("XYZUSDT: look 1 at 2020-01-01 to 2020-01-")
    assert looked("risk", [record], [history])[0].startswith("XYZUSDT: look 1 at")
    assert looked("risk", [record, other], [history])[0].startswith("XYZUSDT: look 2 at")
    assert looked("risk", [], [history]) == looked("decisions", [record], []) == []
