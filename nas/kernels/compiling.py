"""How every kernel is compiled, and how one is run: columns side by side in threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

# Below this many values a thread costs more than it saves.
VALUES_PER_THREAD = 500_000


def compiled(function: F) -> F:
    """numba.njit with the code kept on disk, so that only the first run ever compiles; releases the GIL."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def over_columns(run: Callable[[slice], object], shape: tuple[int, ...], threads: int | None) -> None:
    """`run(slice of columns)` for all columns, split over `threads` (None: as many as pay). Bits do not depend on it."""
    columns, bars = shape
    if threads is None:
        threads = min(os.cpu_count() or 1, columns * bars // VALUES_PER_THREAD)
    threads = max(1, min(threads, columns))
    if threads == 1:
        run(slice(0, columns))
        return
    bounds = [columns * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, [slice(a, b) for a, b in pairwise(bounds)]))


def periods(window: int, min_periods: int | None) -> int:
    """Checked `min_periods`; None means the whole window."""
    if window < 1:
        raise ValueError(f"window must be at least 1 bar, not {window}")
    if min_periods is None:
        return window
    if not 1 <= min_periods <= window:
        raise ValueError(f"min_periods must be between 1 and the window ({window}), not {min_periods}")
    return min_periods
