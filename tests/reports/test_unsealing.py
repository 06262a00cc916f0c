"""A sealed holdout: no run reads it, it opens once, and the register remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from data.errors import InputError
from reports.run_folder import load_run
from reports.unsealing import unseal
from strategies.walkforward.config import RunConfig
from strategies.walkforward.holdout import seen
from strategies.walkforward.looks import Register
from tests.commands.small_run import market, run
from tests.strategies.walkforward.test_choice import noise

QUIET = Console(quiet=True)


def test_a_run_sees_nothing_of_its_holdout() -> None:
    panel = noise(600)
    kept = seen(RunConfig(symbol="A", holdout="5d"), panel)
    assert len(kept) == 600 - 5 * 24
    assert kept.fingerprint() == panel.cut(0, 480).fingerprint()
    assert seen(RunConfig(symbol="A"), panel) is panel
    with pytest.raises(InputError, match="--holdout 25d seals all 600 bars"):
        seen(RunConfig(symbol="A", holdout="25d"), panel)


def test_a_holdout_opens_once_and_the_second_time_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = market(2_000)
    table.to_parquet("BTCUSDT.parquet")
    done = run(
        tmp_path,
        "--data",
        "BTCUSDT.parquet",
        "--holdout",
        "480",
        "--evidence",
        "1",
        "--jobs",
        "1",
        "--quiet",
        "--no-pages",
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (each for each in (tmp_path / "reports" / "runs").iterdir() if each.is_dir())
    known = load_run(folder)
    assert known.equity.index[-1] <= pd.Timestamp(table.index[2_000 - 480])
    first = unseal(folder, QUIET)
    assert first["unseen"]
    assert "No look at these days is in the register before this one." in first["told"]
    assert pd.Timestamp(first["stretch"][0]) > known.equity.index[-1].tz_localize(None)
    assert [row.what for row in Register().rows()] == ["run", "unseal"]
    again = unseal(folder, QUIET)
    assert "it is no longer unseen" in again["told"]
    assert again["figures"] == first["figures"]
    (folder / "unsealed.json").unlink()  # whoever removes the file finds the register
    assert "had been looked at 1 times before: they were not unseen" in unseal(folder, QUIET)["told"]
    assert json.loads((folder / "unsealed.json").read_text())["unseen"] is False
    assert load_run(folder).unsealed.startswith("Sealed holdout")
