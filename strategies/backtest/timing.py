"""Is it the timing? A strategy's own positions, held as long and as large, at other times, through the same account."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.panel import FloatArray, Panel
from strategies.backtest.accounting import accounts_for

AT_ONCE = 64  # draws of one call: memory


def retimed(targets: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The runs of equal targets [n, A] in random order, begun at a random bar: every position keeps its size and its length.

    The run that the rotation cuts in two is the only one that changes.
    """
    edges = np.flatnonzero(np.any(np.diff(targets, axis=0) != 0.0, axis=1)) + 1
    runs = np.split(targets, edges)
    shuffled = np.concatenate([runs[k] for k in rng.permutation(len(runs))])
    result: FloatArray = np.roll(shuffled, int(rng.integers(len(targets))), axis=0)
    return result


def timing_luck(panel: Panel, targets: FloatArray, start: int, draws: int = 2000, seed: int = 0, **terms: Any) -> float:
    """P-value of a strategy's timing: how often its positions at random times earn as high a Sharpe ratio, after costs and funding.

    targets: [n, A] from bar `start` on. terms: costs, account, orders and instruments of `accounts_for`. 1 where nothing is held.
    """
    if not np.any(targets):
        return 1.0
    rng = np.random.default_rng(seed)
    own = _sharpes(panel, targets[None], start, terms)[0]
    better, done = 0, 0
    while done < draws:
        some = min(AT_ONCE, draws - done)
        books = np.stack([retimed(targets, rng) for _ in range(some)])
        better += int(np.sum(_sharpes(panel, books, start, terms) >= own))
        done += some
    return (1 + better) / (1 + draws)


def _sharpes(panel: Panel, books: FloatArray, start: int, terms: dict[str, Any]) -> FloatArray:
    """Per bar, of accounts that trade books [P, n, A]; an account that lost everything stands last."""
    equity = accounts_for(panel, books, start=start, stop=start + books.shape[1], **terms)
    gone = (equity <= 0.0).any(axis=1)
    returns = np.diff(np.log(np.where(equity > 0.0, equity, 1.0)), axis=1)
    spread = returns.std(axis=1)
    return np.where(gone, -np.inf, returns.mean(axis=1) / np.where(spread > 1e-12, spread, np.inf))
