"""`--research weekly|drift`: a second process searches on the exchange's own history, and its model takes over between bars."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.panel import Panel
from strategies.paper import research
from strategies.paper.decisions.strategy import Strategy
from strategies.paper.replay import explain
from strategies.paper.research import Research
from strategies.paper.trader import RUNNING
from strategies.walkforward.config import resolve
from tests.strategies.paper import rig as rigs
from tests.strategies.paper.rig import HISTORY, SYMBOL, Rig

SMALL = {
    "train": "200", "validation": "120", "horizon": (3,), "ops": ("zero", "identity", "ema4"), "nodes": 1, "channels": 4,
    "search_epochs": 2, "training_epochs": 2, "evidence": 1.0, "features": {"open_interest": ("raw", "ewm32"),
    "body@240": ("raw",)}, "timeframes": ("240",), "symbol": (SYMBOL,), "thresholds": (0.5,), "smoothings": (0.0,),
    "cost_hurdles": (0.0,),
}  # fmt: skip


def _run_folder(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True)
    config = resolve("quick", None, {**SMALL, **more}).model_dump(mode="json")
    (folder / "run.json").write_text(json.dumps({"config": config}))
    return folder


def _with_research(rig: Rig, mode: str, run: Path) -> Research:
    made = Research(run, mode, rig.folder, rig.trader, False)
    rig.trader.reload, rig.trader.at_end = made.poll, made.stop
    return made


def _look(rig: Rig) -> None:
    """The newest bar, and the look between the bars that follows it."""
    rig.act()
    rig.trader.step()


def _finished(made: Research, rig: Rig) -> None:
    deadline = time.monotonic() + 150
    while made._process is not None and made._process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert made._process is not None
    logs = "".join(p.read_text() for p in rig.folder.rglob("log.txt"))
    assert made._process.poll() == 0, logs


@pytest.mark.slow
def test_a_week_later_the_searched_model_takes_over_and_every_target_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(research, "SPARE_BARS", 400)
    rig = Rig(tmp_path / "rig", bars=1000)
    try:
        made = _with_research(rig, "weekly", _run_folder(tmp_path / "run"))
        _look(rig)
        old = rig.trader.strategy.name
        rig.tick(100)
        _look(rig)
        assert made._process is None, "a week has not passed"
        rig.tick(69)
        _look(rig)
        assert "a search began in a second process" in rig.events("research")
        _finished(made, rig)
        rig.bar(3)
        new = rig.trader.strategy
        assert new.name != old
        # whichever inputs the search kept, they are none that candles alone give
        assert {key.kind for key in new.companions} <= {"open-interest", "klines"}
        assert new.companions
        assert rig.trader.status == RUNNING
        assert [row["model"] for row in rig.journal.rows("SELECT model FROM decisions ORDER BY open_ms")][-3:] == [
            new.name
        ] * 3
        rig.settle()
        rig.check()
        told = explain(rig.journal)
        assert told.identical == told.compared == 173
        rig.restart()
        assert made._process is None
    finally:
        rig.close()


def _even(panel: Panel, factor: float) -> Panel:
    """A random walk of one volatility; from a day after the start, its moves are `factor` times as large."""
    moves = np.random.default_rng(0).normal(0.0, 0.004, len(panel))
    moves[HISTORY + 24 :] *= factor
    values = np.array(panel.values)
    scale = np.exp(np.log(40_000.0) + np.cumsum(moves)) / values[:, 0, 3]
    values[:, 0, :4] = np.round(values[:, 0, :4] * scale[:, None], 1)
    return replace(panel, values=values)


@pytest.mark.parametrize("storm", [True, False])
def test_drift_of_volatility_starts_a_search_and_calm_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storm: bool
) -> None:
    plain = rigs.market_panel
    monkeypatch.setattr(rigs, "market_panel", lambda bars: _even(plain(bars), 8.0 if storm else 1.0))
    rig = Rig(tmp_path / "rig", bars=1000)
    try:
        made = _with_research(rig, "drift", _run_folder(tmp_path / "run"))
        _look(rig)
        rig.tick(160)
        _look(rig)
        told = [text for text in rig.events("research") if "drifted" in text]
        assert bool(told) == storm
        assert (made._process is not None) == storm
        if storm:
            assert "on volatility" in told[0]
        made.stop()
    finally:
        rig.close()


def test_forecasts_that_lose_their_worth_start_a_search(tmp_path: Path) -> None:
    """Perfect forecasts, then the opposite: the volatility is the same, the errors are not. Nothing after a label counts."""
    rig = Rig(tmp_path / "rig", bars=1200)
    try:
        made = _with_research(rig, "drift", _run_folder(tmp_path / "run"))
        _look(rig)
        rig.tick(430)
        rig.trader._fetch()
        history, strategy = rig.trader.history, rig.trader.strategy
        from nas.network.stretches import labels

        label = labels(history.panel(), strategy.model.genotype.horizons[:1])[0, 0]
        start, good = HISTORY, 300
        for bar in range(start, history.count):
            sign = 1.0 if bar < start + good else -1.0
            value = sign * label[bar] if np.isfinite(label[bar]) else 0.0
            rig.journal._db.execute(
                "INSERT OR REPLACE INTO decisions (open_ms, symbol, model, forecast, target, acted) VALUES (?, ?, ?, ?, 0.0, 1)",
                (history.first_ms + bar * history.interval_ms, SYMBOL, strategy.name, value),
            )
        heard = made._errors(history)
        assert heard
        assert all(alarm.stream == "error" and alarm.bar >= start + good for alarm in heard)
        rig.journal._db.execute(
            "UPDATE decisions SET forecast = -forecast WHERE open_ms >= ?",
            (history.first_ms + (start + good) * history.interval_ms,),
        )
        assert not made._errors(history), "forecasts as good as before are no drift"
    finally:
        rig.close()


@pytest.mark.slow
def test_a_search_that_fails_leaves_the_old_model_trading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(research, "SPARE_BARS", 400)
    rig = Rig(tmp_path / "rig", bars=1000)
    try:
        made = _with_research(rig, "weekly", _run_folder(tmp_path / "run", train="5000"))
        _look(rig)
        old: Strategy = rig.trader.strategy
        rig.tick(169)
        _look(rig)
        process = made._process
        assert process is not None
        assert process.wait() == 2
        rig.bar(2)
        assert rig.trader.strategy is old
        assert any("the search failed (exit 2); the old model goes on" in text for text in rig.events("research"))
        rig.check()
    finally:
        rig.close()


def test_several_symbols_are_searched_together_and_judged_by_all_their_forecasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    rig = Rig(tmp_path / "rig", bars=1200, symbols=symbols)
    try:
        made = _with_research(rig, "drift", _run_folder(tmp_path / "run", symbol=symbols, weighting="hrp"))
        _look(rig)
        rig.tick(430)
        rig.trader._fetch()
        history, strategy = rig.trader.history, rig.trader.strategy
        from nas.network.stretches import labels

        label = labels(history.panel(), strategy.model.genotype.horizons[:1])[:, 0]
        for bar in range(HISTORY, history.count):
            for a, symbol in enumerate(symbols):
                sign = -1.0 if bar >= HISTORY + 300 else 1.0
                value = sign * label[a, bar] if np.isfinite(label[a, bar]) else 0.0
                rig.journal._db.execute(
                    "INSERT OR REPLACE INTO decisions (open_ms, symbol, model, forecast, target, acted) VALUES (?, ?, ?, ?, 0.0, 1)",
                    (history.first_ms + bar * history.interval_ms, symbol, strategy.name, value),
                )
        heard = made._errors(history)
        assert heard
        assert all(alarm.bar >= HISTORY + 300 for alarm in heard)
        commands: list[list[str]] = []

        class Started:
            def __init__(self, command: list[str], **_: Any) -> None:
                commands.append(command)

        monkeypatch.setattr(research.subprocess, "Popen", Started)
        made._start()
        (command,) = commands
        assert command[command.index("--symbol") + 1] == ",".join(symbols)
        config = Path(command[command.index("--config") + 1]).read_text()
        assert 'weighting = "hrp"' in config
    finally:
        rig.close()
