"""Shared by all tests: the real data beside the checkout (skips where it is missing), one torch thread."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


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
