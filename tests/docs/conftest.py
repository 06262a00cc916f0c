"""What the tests of pages share: a finished run in a stranger's folder."""

from __future__ import annotations

import os
from pathlib import Path

import filelock
import pytest

from docs.executed.how import FIRST, PAPER, executed
from docs.executed.place import prepare
from tests.docs.shown_run import run


@pytest.fixture(scope="session")
def stranger_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder after the first run and its paper trading; made once, by whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "stranger"
    with filelock.FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if not (folder / "prepared").exists():
            prepare(folder)
            patch.chdir(folder)
            patch.setenv("REGIME_BYBIT_URL", "http://127.0.0.1:9")
            assert run((*executed(FIRST), "--pages")) == 0
            assert run(executed(PAPER)) == 0
            (folder / "prepared").touch()
    return folder
