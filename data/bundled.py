"""Real daily prices that installed packages bring along: `--source bundled`, for machines that reach no exchange.

SP500 and NASDAQ: daily candles of two US stock indices (arch.data). Twenty US stocks (skfolio.datasets): adjusted closes and nothing
else. Where only closes are known an order decided at a close fills at the close of the next day, and nothing reads opens, ranges or volume
(`Panel.closes_only`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd

from data.assembly import build_panel, check_candles
from data.intervals import DAY_NS, interval_ns
from data.panel import CANDLE_FIELDS, InputError, Panel
from data.symbols import STOCKS20

INDICES = ("SP500", "NASDAQ")
_FROM_YAHOO = "prices as Yahoo Finance showed them"
_UNTRADABLE = (
    "an index cannot be bought, a fund that follows it can: its fee and the dividends it pays are not in these prices"
)
_CLOSES_ONLY = (
    "closes only, adjusted for splits and dividends as known in 2022: no open, high, low or volume, so that nothing reads a range or a "
    "volume, and an order decided at a close fills at the close of the next day"
)
_SURVIVORS = (
    "these 20 companies were picked in 2022 among those that are still large: holding them looks better than it was"
)


def load_bundled(
    symbols: Sequence[str],
    interval: str,
    *,
    start: np.datetime64 | None,
    end: np.datetime64 | None,
    fill_gaps: bool,
) -> Panel:
    """Daily prices of SP500, NASDAQ or of some of the 20 stocks, cut to [start, end).

    Raises
    ------
    InputError
        For another symbol, bars of another length, or indices and stocks together.

    Examples
    --------
    >>> import numpy as np
    >>> panel = load_bundled(["SP500"], "D", start=np.datetime64("2001-09-01"), end=np.datetime64("2001-10-01"), fill_gaps=False)
    >>> len(panel), str(panel.timestamps[6])[:10]  # the exchange stayed closed for the rest of that week
    (15, '2001-09-17')
    """
    strange = [name for name in symbols if name not in (*INDICES, *STOCKS20)]
    if strange:
        raise InputError(
            f"the bundled prices lack {strange[0]}; --source bundled has {', '.join((*INDICES, *STOCKS20))}, "
            "and STOCKS20 for all those stocks"
        )
    if interval_ns(interval) != DAY_NS:
        raise InputError(f"the bundled prices are daily, not of --interval {interval}; leave --interval out or give D")
    of_indices = [name in INDICES for name in symbols]
    if any(of_indices) and not all(of_indices):
        raise InputError(
            "SP500 and NASDAQ are candles, the 20 stocks are closes: they do not go into one account; give one kind"
        )
    tables, source, notes = _indices(symbols) if all(of_indices) else _stocks(symbols)
    return build_panel(tables, DAY_NS, source=source, start=start, end=end, fill_gaps=fill_gaps, notes=notes)


def _indices(symbols: Sequence[str]) -> tuple[dict[str, pd.DataFrame], str, list[str]]:
    from arch.data import nasdaq, sp500  # start-up time

    tables = {}
    for name in symbols:
        table = (sp500 if name == "SP500" else nasdaq).load().rename(columns=str.lower)[list(CANDLE_FIELDS)]
        check_candles(table, name)
        tables[name] = table
    return tables, f"bundled: arch.data of arch {version('arch')} (NCSA licence), {_FROM_YAHOO}", [_UNTRADABLE]


def _stocks(symbols: Sequence[str]) -> tuple[dict[str, pd.DataFrame], str, list[str]]:
    from skfolio.datasets import load_sp500_dataset  # start-up time

    closes = load_sp500_dataset()
    # `open` is the price at which an order of the day before fills
    tables = {
        name: pd.DataFrame({field: closes[name] if field in ("open", "close") else np.nan for field in CANDLE_FIELDS})
        for name in symbols
    }
    source = f"bundled: skfolio.datasets of skfolio {version('skfolio')} (BSD licence), for tests and examples only"
    return tables, source, [_CLOSES_ONLY, _SURVIVORS]
