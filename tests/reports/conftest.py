"""Every test has a register of looks of its own: what another one showed is no look at its days."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIME_CACHE", str(tmp_path / "cache"))
