"""A second opinion on equity: the account of `strategies.backtest.perpetual` as plain arithmetic over arrays, many plans at once.

It shares no code with Backtrader or the broker and must agree with them to 1e-9 (tests let hypothesis look for a case where it
does not). Every what-if question lives on it: the choice among plans, other costs, later orders, the luck of shifted positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray, Panel
from strategies.backtest import ledger
from strategies.backtest.execution import checked_stretch
from strategies.backtest.terms import NO_RULES, ORDER_KINDS, Account, Costs, Instrument, Orders, stop_distances

IntArray = npt.NDArray[np.int64]
PLANS_AT_ONCE = 16  # of one call of the kernel: what threads share out


@dataclass(frozen=True, eq=False)
class Accounted:
    """What an account did over n bars.

    equity: [n] at each bar's close, quote. holdings: [n, A] base units held then. turnover: sum of |traded| notional, quote.
    paid: fees and slippage, quote. funding: received (+) or paid (-), quote.
    """

    equity: FloatArray
    holdings: FloatArray
    turnover: float
    paid: float
    funding: float


def account_for(
    panel: Panel,
    targets: FloatArray,
    *,
    start: int,
    stop: int,
    costs: Costs = Costs(),
    account: Account = Account(),
    orders: Orders = Orders(),
    instruments: Mapping[str, Instrument] = NO_RULES,
    volatility: FloatArray | None = None,
) -> Accounted:
    """Equity of trading `targets` [n, A] over bars start..stop; arguments as of `strategies.backtest.execution.backtest`."""
    plans = np.asarray(targets, dtype=np.float64)[None]
    job = _Job.of(panel, plans.shape[1:], start, stop, [costs], account, orders, instruments, volatility)
    holdings = np.empty((1, *plans.shape[1:]))
    equity, totals = job.run(plans, np.zeros(1, np.int64), np.arange(stop - start), holdings)
    return Accounted(equity[0], holdings[0], float(totals[0, 0]), float(totals[0, 1]), float(totals[0, 2]))


def accounts_for(
    panel: Panel,
    targets: FloatArray,
    *,
    start: int,
    stop: int,
    costs: Costs | Sequence[Costs] = Costs(),
    account: Account = Account(),
    orders: Orders = Orders(),
    instruments: Mapping[str, Instrument] = NO_RULES,
    volatility: FloatArray | None = None,
    kept: IntArray | None = None,
    threads: int = 1,
) -> FloatArray:
    """Equity of many plans over the same bars: [P, n].

    Parameters
    ----------
    panel : Panel
        The market.
    targets : float64 [P, n, A]
        Of each plan, as `strategies.backtest.execution.backtest` takes them.
    costs : Costs or sequence of P Costs
        Of all plans, or of each.
    start, stop, account, orders, instruments, volatility
        As `strategies.backtest.execution.backtest` takes them.
    kept : int64 [m], optional
        Bars (from `start`, increasing) whose equity is kept: the result is [P, m]. Ends of days are a twenty-fourth of hours.
    threads : int
        Plans are shared out among so many; the bits do not depend on it.

    Returns
    -------
    float64 [P, n]
        At each bar's close, quote currency.

    Raises
    ------
    ValueError
        Where shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from data import load_panel
    >>> from strategies.backtest import accounts_for
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> held = np.sign(np.sin(np.arange(1440) / 50.0))[:, None]
    >>> # what shifts of a position would have earned
    >>> shifts = np.stack([np.roll(held, shift, axis=0) for shift in range(0, 1440, 10)])
    >>> accounts_for(panel, shifts, start=0, stop=1440).shape
    (144, 1440)
    """
    plans = np.ascontiguousarray(targets, dtype=np.float64)
    if plans.ndim != 3:
        raise ValueError(f"targets have shape {plans.shape}, expected (plans, bars, assets)")
    every = [costs] if isinstance(costs, Costs) else list(costs)
    if len(every) not in (1, len(plans)):
        raise ValueError(f"{len(every)} costs for {len(plans)} plans; give one, or one for each")
    different = list(dict.fromkeys(map(id, every)))
    unique = [next(cost for cost in every if id(cost) == each) for each in different]
    job = _Job.of(panel, plans.shape[1:], start, stop, unique, account, orders, instruments, volatility)
    costs_of = np.array([different.index(id(cost)) for cost in every], dtype=np.int64)
    costs_of = np.broadcast_to(costs_of, len(plans)) if len(every) == 1 else costs_of
    bars = np.arange(stop - start) if kept is None else np.asarray(kept, dtype=np.int64)
    equity = np.empty((len(plans), len(bars)))
    nothing = np.empty((0, 0, 0))

    def part(first: int) -> None:
        each = slice(first, first + PLANS_AT_ONCE)
        equity[each], _ = job.run(plans[each], np.ascontiguousarray(costs_of[each]), bars, nothing)

    begins = range(0, len(plans), PLANS_AT_ONCE)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, begins))
    else:
        for first in begins:
            part(first)
    return equity


@dataclass(frozen=True, eq=False)
class _Job:
    """A stretch with all that its plans share."""

    stretch: ledger.Stretch
    slippage: FloatArray
    rates: FloatArray
    terms: ledger.Terms

    @staticmethod
    def of(
        panel: Panel,
        shape: tuple[int, ...],
        start: int,
        stop: int,
        costs: Sequence[Costs],
        account: Account,
        orders: Orders,
        instruments: Mapping[str, Instrument],
        volatility: FloatArray | None,
    ) -> _Job:
        checked_stretch(panel, shape, start, stop)
        rules = [instruments.get(asset, Instrument()) for asset in panel.assets]
        limits = np.array([(r.lot, r.tick, r.minimum_notional) for r in rules], dtype=np.float64)
        rates = np.array([[c.fees_bps(asset) for asset in panel.assets] for c in costs], dtype=np.float64) * 1e-4
        slippage = np.stack([c.slippage(panel, start, stop) for c in costs])
        flows, first = _settlements(panel, start, stop, account.kind == "perpetual")
        terms = ledger.Terms(
            float(account.initial_equity),
            1.0 / account.most_exposure,
            float(account.rebalance_band),
            float(account.maintenance),
            float(account.liquidation_fee),
            ORDER_KINDS.index(orders.kind),
            orders.offset_bps * 1e-4,
            int(orders.expiry_bars),
            float(orders.volume_share),
            account.kind == "spot",
            account.stop_loss > 0.0,
        )
        distances = stop_distances(panel, start, stop, account.stop_loss, volatility)
        stretch = ledger.Stretch(panel.tradable(start, stop), flows, first, panel.ends - start, limits, distances)
        return _Job(stretch, slippage, rates, terms)

    def run(
        self, plans: FloatArray, costs_of: IntArray, kept: IntArray, holdings: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """(equity [P, m], totals [P, 3]); fills holdings where it is not empty."""
        equity, totals = np.empty((len(plans), len(kept))), np.zeros((len(plans), 3))
        ledger.run(self.stretch, plans, self.slippage, self.rates, costs_of, self.terms, kept, equity, holdings, totals)
        return equity, totals


def _settlements(panel: Panel, start: int, stop: int, funded: bool) -> tuple[FloatArray, IntArray]:
    """Rows (asset, rate, 1 at the bar's open else 0) in order of bar, asset and time; first[t]..first[t + 1] belong to bar t."""
    opens = panel.timestamps[start:stop].astype(np.int64)
    parts = []
    for a, asset in enumerate(panel.assets if funded else ()):
        known = panel.settlements.get(asset)
        if known is None:
            continue
        times = known.timestamps.astype(np.int64)
        bars = np.searchsorted(opens, times, side="right") - 1
        inside = (bars >= 0) & (times < opens[-1] + panel.interval_ns) & np.isfinite(known.rates)
        bars, times = bars[inside], times[inside]
        parts.append(np.stack([bars, np.full(len(bars), a), known.rates[inside], times == opens[bars]], 1))
    rows = np.concatenate([np.empty((0, 4)), *parts])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    first = np.searchsorted(rows[:, 0], np.arange(len(opens) + 1)).astype(np.int64)
    return np.ascontiguousarray(rows[:, 1:]), first
