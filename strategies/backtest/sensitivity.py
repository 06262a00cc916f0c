"""How much of a strategy's result hangs on its costs and on acting at once: the same targets at other costs and one bar later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from data.panel import FloatArray, Panel, TimeArray
from strategies.backtest.accounting import account_for, accounts_for
from strategies.backtest.terms import NO_RULES, Account, Costs, Instrument, Orders

COST_MULTIPLES = (0.0, 1.0, 2.0, 4.0)
DELAYS_BARS = (0, 1)
MOST_BPS = 5_000.0  # a break-even beyond this says that the strategy hardly trades


def sensitivity(
    panel: Panel,
    targets: Mapping[str, FloatArray],
    *,
    start: int,
    stop: int,
    costs: Costs,
    account: Account = Account(),
    orders: Orders = Orders(),
    instruments: Mapping[str, Instrument] = NO_RULES,
    volatility: FloatArray | None = None,
    multiples: Sequence[float] = COST_MULTIPLES,
    delays_bars: Sequence[int] = DELAYS_BARS,
) -> pd.DataFrame:
    """One row per strategy, cost multiple and delay: strategy, cost_multiple, delay_bars, return, sharpe (daily, annualised).

    targets: strategy -> [n, A] decided at bars start..stop. A delay of d bars trades the target of d bars before (flat first).
    Fees and slippage scale with the multiple, funding does not. Equity comes from `strategies.backtest.accounting`.
    """
    rows = []
    times = panel.close_times[start:stop]
    pairs = [(delay, multiple) for delay in delays_bars for multiple in multiples]
    scaled = {multiple: costs.times(multiple) for multiple in multiples}
    rest: dict[str, Any] = {
        "account": account, "orders": orders, "instruments": instruments, "volatility": volatility,
    }  # fmt: skip
    for name, book in targets.items():
        late = [np.vstack([np.zeros((delay, book.shape[1])), book[: len(book) - delay]]) for delay in delays_bars]
        plans = np.stack([each[: len(book)] for each in late for _ in multiples])
        own = [scaled[multiple] for _, multiple in pairs]
        found = accounts_for(panel, plans, start=start, stop=stop, costs=own, **rest)
        for (delay, multiple), equity in zip(pairs, found, strict=True):
            rows.append(
                (
                    name,
                    multiple,
                    delay,
                    equity[-1] / equity[0] - 1.0,
                    daily_sharpe(times, equity, panel.days_per_year),
                )
            )
    return pd.DataFrame(rows, columns=["strategy", "cost_multiple", "delay_bars", "return", "sharpe"])


def break_even_bps(
    panel: Panel,
    targets: FloatArray,
    *,
    start: int,
    stop: int,
    account: Account = Account(),
    **rest: Any,
) -> float | None:
    """Cost per traded notional (fee and slippage together, basis points) at which the strategy's return over the stretch is zero.

    None where there is none: it never trades, or it loses even without costs. At most MOST_BPS. rest: orders, instruments, volatility.
    """

    def gain(bps: float) -> float:
        # all of it as a fee: every order kind pays it, and no fill price moves
        costs = Costs(taker_fee_bps=bps, maker_fee_bps=bps, slippage_bps=0.0)
        done = account_for(panel, targets, start=start, stop=stop, costs=costs, account=account, **rest)
        return float(done.equity[-1] - account.initial_equity) if done.turnover > 0.0 else -1.0

    account = replace(account, liquidation_fee=0.0)
    low, high = 0.0, MOST_BPS
    if gain(low) <= 0.0:
        return None
    if gain(high) > 0.0:
        return high
    while high - low > 1e-4 * max(1.0, low):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gain(middle) > 0.0 else (low, middle)
    return round(low, 3)


def daily_sharpe(close_times: TimeArray, equity: FloatArray, days_per_year: float = 365.0) -> float:
    """Annualised Sharpe ratio of daily returns of an equity curve at `close_times`; 0 where it never moves.

    Days as on the report's page: a bar that closes at midnight ends its day, the first day counts from the first bar.
    """
    days = (pd.DatetimeIndex(close_times) - pd.Timedelta(1, "ns")).floor("D")
    closing = pd.Series(equity).groupby(days).last()
    daily = closing / closing.shift(fill_value=equity[0]) - 1.0
    deviation = float(daily.std())
    return 0.0 if len(daily) < 2 or not deviation >= 1e-12 else float(daily.mean() / deviation * np.sqrt(days_per_year))
