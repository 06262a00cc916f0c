"""Figures of one equity curve and its trades, for the comparison table.

A year has 365 days where the market never closes, else as many as there are trading days (`Run.days_per_year`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.run_folder import Run

DAYS_PER_YEAR = 365.0


@dataclass(frozen=True)
class Performance:
    """After costs. Ratios are annual, from daily returns, risk-free rate 0; NaN where they do not exist.

    total_return, cagr, volatility, max_drawdown, exposure, hit_rate: fractions. max_drawdown <= 0.
    turnover: traded notional per year in multiples of the average equity. fees, slippage: quote currency, paid.
    funding: quote currency, received minus paid. hit_rate: profitable days among days that were not flat.
    """

    strategy: str
    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sortino: float
    max_drawdown: float
    calmar: float
    turnover: float
    fees: float
    slippage: float
    funding: float
    fills: int
    hit_rate: float
    exposure: float
    bankrupt: bool


def daily_returns(equity: pd.Series) -> pd.Series:
    """Return of each UTC day from the day's last equity; the first day counts from the first bar's equity.

    A day is complete only in the sense that it holds at least one bar. Once equity is at or below zero the account is
    gone: that day returns -1 and every later day 0.
    """
    values = equity.dropna()
    if values.empty:
        return pd.Series(dtype="float64")
    gone = values <= 0.0
    if gone.any():
        values = values.copy()
        values.loc[gone.idxmax() :] = 0.0
    # a bar that closes at 00:00 belongs to the day it ends
    day = (pd.DatetimeIndex(values.index) - pd.Timedelta(1, "ns")).floor("D")
    closing = values.groupby(day).last()
    before = np.concatenate([[values.iloc[0]], closing.to_numpy()[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(before > 0.0, closing.to_numpy() / before - 1.0, 0.0)
    return pd.Series(change, index=closing.index, name=equity.name, dtype="float64")


def daily_frame(equity: pd.DataFrame) -> pd.DataFrame:
    """`daily_returns` of every column."""
    return pd.DataFrame({name: daily_returns(equity[name]) for name in equity.columns}).fillna(0.0)


def sharpe_ratio(daily: np.ndarray, days_per_year: float = DAYS_PER_YEAR) -> float:
    """Annual Sharpe ratio of daily returns; NaN below two days or without any movement."""
    spread = _deviation(daily)
    return float(np.mean(daily) / spread * math.sqrt(days_per_year)) if spread > 0.0 else math.nan


def sortino_ratio(daily: np.ndarray, days_per_year: float = DAYS_PER_YEAR) -> float:
    """Annual mean over annual downside deviation (root mean square of the negative returns, over all days)."""
    if len(daily) < 2:
        return math.nan
    downside = math.sqrt(float(np.mean(np.minimum(daily, 0.0) ** 2)))
    return float(np.mean(daily) / downside * math.sqrt(days_per_year)) if downside > 0.0 else math.nan


def drawdown(equity: pd.Series) -> pd.Series:
    """Loss from the highest equity so far, per bar; 0 at a new high, -1 when everything is lost."""
    peak = equity.cummax()
    return (equity.clip(lower=0.0) / peak - 1.0).where(peak > 0.0, 0.0)


def performance(run: Run, strategy: str) -> Performance:
    equity = run.equity[strategy].dropna()
    days = daily_returns(equity).to_numpy()
    first, last = (float(equity.iloc[0]), float(equity.iloc[-1])) if len(equity) else (math.nan, math.nan)
    bankrupt = bool((equity <= 0.0).any())
    growth = 0.0 if bankrupt else last / first
    years = len(days) / run.days_per_year
    worst = float(drawdown(equity).min()) if len(equity) else math.nan
    cagr = growth ** (1.0 / years) - 1.0 if years > 0 else math.nan
    trades = run.trades[run.trades["strategy"] == strategy]
    executed = trades[trades["kind"] != "funding"]
    notional = float((executed["size"].astype(float).abs() * executed["price"].astype(float)).sum())
    average = float(equity.clip(lower=0.0).mean()) if len(equity) else math.nan
    moved = days[np.abs(days) > 0.0]
    return Performance(
        strategy=strategy,
        total_return=growth - 1.0,
        cagr=cagr,
        volatility=_deviation(days) * math.sqrt(run.days_per_year),
        sharpe=sharpe_ratio(days, run.days_per_year),
        sortino=sortino_ratio(days, run.days_per_year),
        max_drawdown=worst,
        calmar=cagr / -worst if worst < 0.0 else math.nan,
        turnover=notional / average / years if average > 0.0 and years > 0 else math.nan,
        fees=_sum(trades, "fee"),
        slippage=_sum(trades, "slippage"),
        funding=_sum(trades, "funding"),
        fills=len(executed),
        hit_rate=float(np.mean(moved > 0.0)) if len(moved) else math.nan,
        exposure=_exposure(run, strategy),
        bankrupt=bankrupt,
    )


def _deviation(daily: np.ndarray) -> float:
    spread = float(np.std(daily, ddof=1)) if len(daily) > 1 else 0.0
    return spread if spread > 1e-12 else 0.0  # below that only rounding moves


def _sum(trades: pd.DataFrame, column: str) -> float:
    return float(trades[column].astype(float).fillna(0.0).sum())


def _exposure(run: Run, strategy: str) -> float:
    """Share of bars with any position."""
    rows = run.positions[run.positions["strategy"] == strategy]
    if rows.empty:
        return math.nan
    held = rows["position"].astype(float).fillna(0.0).abs().groupby(rows["timestamp"]).sum()
    return float((held > 1e-12).mean())
