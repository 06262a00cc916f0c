"""Where this code lies: in a checkout, or installed from a wheel; and where what it keeps goes then.

In a checkout kernels lie compiled beside their source and the store is `data/cache`. A wheel may lie where nobody may write, and goes
with the next installation: kernels go to the user's cache folder, the store to `data/cache` of the folder where one works.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = (ROOT / "pyproject.toml").is_file()


def settle() -> None:
    """Outside a checkout: both places as environment, so that every process that is started from here has them, too. What is set stays."""
    if CHECKOUT:
        return
    import platformdirs  # start-up time: a checkout needs none

    os.environ.setdefault("REGIME_CACHE", str(Path.cwd() / "data" / "cache"))
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = str(platformdirs.user_cache_path("nextopen", appauthor=False) / "kernels")
        if "numba" in sys.modules:  # it has read its environment
            sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
