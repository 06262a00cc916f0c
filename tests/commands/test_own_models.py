"""`--baselines module:Name` as its user meets it: fitted anew on every window, resumed, in parallel, found red where it looks ahead."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from rich.console import Console
from sklearn.linear_model import Ridge as SklearnRidge
from typer.testing import CliRunner

from data.errors import InputError
from data.sources import load_panel
from nas.baselines import own, own_model
from strategies.paper.__main__ import app as paper
from strategies.paper.decisions.strategy import load_strategy
from strategies.paper.session import last_model
from strategies.walkforward.__main__ import app
from strategies.walkforward.auditing import Audit
from tests.commands.small_run import CONFIG, swinging_market

RIDGE, TINY = "examples.own_models:Ridge", "examples.own_models:Tiny"
WARM_UP = 1  # bars before the first window of a run that reads nothing but a file
FAULTY = '''
import numpy as np

class Constant:
    def fit(self, X, y): pass
    def predict(self, X): return np.zeros(len(X))

class Peeks(Constant):
    """Answers the return of the bar after the one it forecasts at."""
    predict = None
    def fit(self, panel, train, validation): pass
    def forecast(self, panel, start, stop):
        close = np.log(panel.field("close"))
        return np.diff(close, axis=0, append=close[-1:])[start:stop]

class Wide(Constant):
    def predict(self, X): return np.zeros((len(X), 3))

class Unknown(Constant):
    def predict(self, X): return np.full(len(X), np.nan)

class Raises(Constant):
    def fit(self, X, y): raise RuntimeError("no weights")

class Short(Peeks):
    def forecast(self, panel, start, stop): return np.zeros(3)

class Needs(Constant):
    def __init__(self, path): pass

class Empty: pass
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    swinging_market(2_400, 3).to_parquet(folder / "candles.parquet")
    (folder / "small.toml").write_text(CONFIG.replace('baselines = ["linear"]', 'variant = ["none"]'))
    (folder / "faulty_models.py").write_text(FAULTY)
    return folder


@pytest.fixture(autouse=True)
def started_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("faulty_models", None)


def judge(out: str, *words: str) -> Result:
    given = [
        "--symbol",
        "BTCUSDT",
        "--config",
        "small.toml",
        "--data",
        "candles.parquet",
        "--any-candles",
        "--out",
        out,
    ]
    return CliRunner().invoke(app, [*given, *words])


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = judge("reports", "--jobs", "1", "--baselines", f"{RIDGE},{TINY}")
    assert done.exit_code == 0, done.output
    return (place / "reports/latest").resolve()


def test_both_examples_are_judged_and_the_audit_refits_them(run: Path) -> None:
    assert {RIDGE, TINY} <= set(json.loads((run / "run.json").read_text())["headline"])
    page = (run / "index.html").read_text()
    assert "Are these forecasts worth trading?" in page
    assert "Ridge, Tiny: fitted here, anew on every window" in page
    tried = json.loads((run / "judged.json").read_text())
    assert [(model["name"], len(model["charges"])) for model in tried] == [(RIDGE, 5), (TINY, 5)]
    checks = Audit.open(run, Console(quiet=True)).checks(windows=1)
    assert [check.name for check in checks if not check.passed] == []
    assert {f"{n}: training and forecasts before a replaced future" for n in (RIDGE, TINY)} <= {c.name for c in checks}


def test_the_forecasts_of_a_run_are_judged_as_the_same_numbers(run: Path) -> None:
    """`--forecasts forecasts.parquet`: the windows of both begin at the same bar, the first one apart, which opens the record."""
    starts = [pd.Timestamp(w["test"]["start"]) for w in json.loads((run / "windows.json").read_text())]
    first = pd.read_parquet("candles.parquet").index[0]
    fit = json.loads((run / "windows.json").read_text())[1]
    validated = pd.Timestamp(fit["test"]["start"]) - pd.Timestamp(fit["validation"]["start"])
    train = round((starts[1] - validated - first) / pd.Timedelta("1h")) - fit["purge_bars"] - WARM_UP
    file = str(run / "forecasts.parquet")
    done = judge("again", "--no-pages", "--forecasts", file, "--baselines", "none", "--train", str(train))
    assert done.exit_code == 0, done.output
    other = Path("again/latest").resolve()
    frames = [
        pd.read_parquet(folder / "forecasts.parquet").set_index(["strategy", "timestamp"])["forecast"]
        for folder in (run, other)
    ]
    sheets = [json.loads((folder / "forecast_sheet.json").read_text())["strategies"] for folder in (run, other)]
    for name in (RIDGE, TINY):
        mine = name.replace(":", "_")
        again = frames[1][mine]
        pd.testing.assert_series_equal(frames[0][name].loc[again.index], again, check_exact=True)
        one, two = ({w["window"]: w for w in sheet["windows"]} for sheet in (sheets[0][name], sheets[1][mine]))
        assert [{**two[k], "window": k + 1} for k in two] == [one[k + 1] for k in two]


@pytest.mark.slow
def test_two_processes_fit_the_same(run: Path) -> None:
    done = judge("parallel", "--jobs", "2", "--no-pages", "--baselines", f"{RIDGE},{TINY}")
    assert done.exit_code == 0, done.output
    one, two = (pd.read_parquet(folder / "positions.parquet") for folder in (run, Path("parallel/latest")))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_finished_run_is_found_again(run: Path) -> None:
    assert "finished already" in judge("reports", "--jobs", "1", "--baselines", f"{RIDGE},{TINY}").output


def test_an_interrupted_run_goes_on_without_fitting_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = shutil.copytree(run, run.parents[1] / "kept")
    (run / "run.json").unlink()

    def again(*_: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(own, "_called", again)
    done = judge("reports", "--jobs", "1", "--no-pages", "--baselines", f"{RIDGE},{TINY}")
    assert done.exit_code == 0, done.output
    assert "finished already" not in done.output
    assert (run / "positions.parquet").read_bytes() == (kept / "positions.parquet").read_bytes()


def other_fit(model: SklearnRidge, X: np.ndarray, y: np.ndarray) -> SklearnRidge:
    return SklearnRidge.fit(model, X, 1.001 * y)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user typed --model."""
    monkeypatch.setattr(own, "_TRUSTED", {RIDGE})


def test_targets_of_the_backtest_come_again_bar_by_bar(run: Path, named: None) -> None:
    """The model of the last window, fitted again from its folder: forecasts and targets of the test stretch, one bar at a time."""
    strategy = load_strategy(last_model(run), None, None)
    panel = load_panel(("BTCUSDT",), None, files=(Path("candles.parquet"),), any_candles=True)
    window = json.loads((run / "windows.json").read_text())[-1]
    told = pd.read_parquet(run / "forecasts.parquet").query("strategy == @RIDGE and window == @window['window']")
    held = pd.read_parquet(run / "positions.parquet").query("strategy == @RIDGE").set_index("timestamp")["position"]
    start = int(np.searchsorted(panel.timestamps, np.datetime64(window["test"]["start"][:19], "ns")))
    past = np.empty((0, 1))
    for bar in range(start, start + len(told)):
        seen = panel.cut(0, bar + 1)
        past = np.concatenate([past, strategy.forecasts(seen, bar, bar + 1)])
        targets = strategy.book(seen, strategy.volatility(seen), past, start)
        assert (past[-1, 0], targets[-1, 0]) == (
            told["forecast"].iloc[bar - start],
            held.loc[pd.Timestamp(panel.timestamps[bar], tz="UTC")],
        )
    assert np.ptp(held.to_numpy()) > 0.0


def test_a_paper_session_trades_it_and_its_replay_is_identical(run: Path) -> None:
    words = [
        "--run",
        str(run),
        "--venue",
        "local",
        "--speed",
        "72000",
        "--bars",
        "4",
        "--out",
        "paper",
        "--model",
        RIDGE,
    ]
    done = CliRunner().invoke(paper, words)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(paper, ["replay", "--out", "paper", "--model", RIDGE])
    assert again.exit_code == 0, again.output
    compared = re.search(r"identical on (\d+) of (\d+)", again.output)
    assert compared
    assert compared[1] == compared[2] != "0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, _f: m.setattr(own, "_TRUSTED", set()), f"give --model {RIDGE}"),
        (lambda m, _f: m.setattr(own_model, "fingerprint", lambda _names: "other"), "is not the one that the run fitted"),
        (lambda m, _f: m.setattr(import_module("examples.own_models").Ridge, "fit", other_fit), "does not forecast"),
        (lambda _m, f: (f / "weights.safetensors").write_bytes(b"no"), "was changed after it was written"),
    ],
)  # fmt: skip
def test_what_is_not_the_model_of_the_run_trades_nothing(
    run: Path, named: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, said: str
) -> None:
    folder = shutil.copytree(last_model(run), tmp_path / "model")
    change(monkeypatch, folder)
    with pytest.raises(InputError, match=said):
        load_strategy(folder, None, None)


def test_a_sequence_model_is_judged_only(place: Path) -> None:
    done = judge("tiny", "--jobs", "1", "--no-pages", "--baselines", TINY)
    assert done.exit_code == 0, done.output
    with pytest.raises(InputError, match="judged, not traded on paper"):
        last_model(Path("tiny/latest").resolve())


def test_a_model_that_looks_ahead_is_found_and_another_source_is_another_run(place: Path) -> None:
    name = "faulty_models:Peeks"
    done = judge("peeking", "--jobs", "1", "--no-pages", "--baselines", name)
    assert done.exit_code == 0, done.output
    checks = Audit.open(Path("peeking/latest"), Console(quiet=True)).checks(windows=1)
    assert f"{name}: training and forecasts before a replaced future" in [c.name for c in checks if not c.passed]
    (place / "faulty_models.py").write_text(FAULTY + "\n# edited\n")
    again = judge("peeking", "--jobs", "1", "--no-pages", "--baselines", name)
    assert again.exit_code == 0
    assert "finished already" not in again.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:Model", "no module 'no_such_module' here"),
        ("faulty_models:Missing", "has no 'Missing'"),
        ("faulty_models:Empty", "Empty must have fit(X, y) and predict(X)"),
        ("faulty_models:Needs", "cannot be made without arguments"),
        ("faulty_models:Raises", "fit failed (RuntimeError: no weights)"),
        ("faulty_models:Wide", "forecasts have shape ("),
        ("faulty_models:Short", "(bars, assets)"),
        ("faulty_models:Unknown", "forecasts are NaN or infinite"),
    ],
)
def test_what_cannot_be_judged_is_one_line(name: str, said: str) -> None:
    done = judge("refused", "--jobs", "1", "--baselines", name)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.output
