"""Shared by all tests: the real data beside the checkout (skips where it is missing), one torch thread."""

from __future__ import annotations

import atexit
import os
import runpy
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOISE = ROOT / "tests" / "weight_noise"
SHARED = ROOT.parent / "shared"

# every process that a test starts sees this checkout, wherever it runs
found = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
for folder in (ROOT, *([NOISE] if float(os.environ.get("REGIME_TEST_WEIGHT_NOISE") or 0) else [])):
    if str(folder) not in found:
        found.append(str(folder))
        if folder == NOISE:
            runpy.run_path(str(NOISE / "sitecustomize.py"))  # for this process, which has begun without it
os.environ["PYTHONPATH"] = os.pathsep.join(found)

# a shell starts what it puts into the background deaf to Ctrl-C, and deafness is inherited: by commands that a test interrupts, too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: runs that tests make are no looks at a market of whoever runs them, nor of each other
if "REGIME_CACHE" not in os.environ:
    os.environ["REGIME_CACHE"] = tempfile.mkdtemp(prefix="regime-tests-")
    atexit.register(shutil.rmtree, os.environ["REGIME_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: whole files go to the two processes of `make test`, and the last ones must be short."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def shared() -> Path:
    """The folder of real data; skips the test on machines that do not have it."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not on this machine")
    return SHARED


@pytest.fixture
def registries() -> Iterator[None]:
    """What is registered meanwhile is gone afterwards."""
    from data.sources import SOURCES
    from nas.baselines import BASELINES
    from nas.features.inputs import INPUTS
    from nas.features.transforms import TRANSFORMS
    from nas.search.variants import VARIANTS
    from nas.space.ops import OPS
    from strategies.backtest.rules import RULES

    tables: list[dict[str, object]] = [BASELINES, INPUTS, OPS, SOURCES, TRANSFORMS, VARIANTS, RULES]  # type: ignore[list-item]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
