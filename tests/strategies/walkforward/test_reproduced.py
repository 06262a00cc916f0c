"""`doctor --reproducible`: what is hashed, and what is said where something differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import arithmetic
from strategies.reproduced import compare, hashes
from strategies.walkforward.config import RunConfig
from tests.commands.small_run import market, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduced")
    market(1_700).to_parquet(folder / "market.parquet")
    done = run(folder, "--data", "market.parquet", "--no-pages", "--jobs", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    (found,) = (path.parent for path in (folder / "reports" / "runs").glob("*/run.json"))
    return found


def test_one_changed_value_is_found_in_its_file_and_window(finished: Path) -> None:
    there = {"code": "a", "packages": {"torch": "1"}, "files": hashes(finished)}
    assert compare({**there, "files": hashes(finished)}, there)[0]
    path = finished / "forecasts.parquet"
    table = pd.read_parquet(path)
    last = int(table["window"].max())
    assert last > 0
    place = int(np.flatnonzero(table["window"] == last)[0])
    changed = table.copy()
    changed.loc[place, "forecast"] = np.nextafter(changed.loc[place, "forecast"], 1.0)
    changed.to_parquet(path, index=False)
    here = {**there, "files": hashes(finished)}
    table.to_parquet(path, index=False)
    assert compare(here, there) == (False, f"forecasts.parquet differs first in window {last}")
    told = compare({**here, "code": "b", "packages": {"torch": "2+cpu"}}, there)[1]
    assert told.endswith("; here is code b, not a, torch 2+cpu, not 1, which changes results by itself")


def test_every_window_of_every_file_has_a_hash(finished: Path) -> None:
    found = hashes(finished)
    windows = list(found["windows.json"])
    assert len(windows) > 1
    assert all(list(parts) == windows for parts in found.values())
    for parts in found.values():
        assert len(set(parts.values())) == len(windows), "windows differ"


def test_reproducible_is_refused_where_the_pins_reach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not of device cuda"):
        RunConfig(reproducible=True, device="cuda")
    monkeypatch.setattr(arithmetic.platform, "machine", lambda: "arm64")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(arithmetic.InputError, match="x86-64 processors under Linux; this is arm64"):
        arithmetic.pin()


def test_the_flag_pins_and_run_json_says_so(tmp_path: Path) -> None:
    import json

    market(1_450).to_parquet(tmp_path / "market.parquet")
    for flags in ((), ("--reproducible",)):
        done = run(
            tmp_path, "--data", "market.parquet", "--no-pages", "--jobs", "1", "--out", f"out{len(flags)}", *flags
        )
        assert done.returncode == 0, done.stderr
        (path,) = (tmp_path / f"out{len(flags)}").glob("runs/*/run.json")
        said = json.loads(path.read_text())["provenance"]["arithmetic"]
        assert said["reproducible"] is bool(flags)
        assert ("torch" in said) is not bool(flags)
