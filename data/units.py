"""Numbers out of files: signs and separators, rates in percent, spreads in points, candles that are no prices. Plausible, or refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from data.dialect import Sheet
from data.errors import InputError, shortened
from data.intervals import HOUR_NS, interval_name, say_time
from data.panel import FloatArray, TimeArray

_LARGE = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
#: of the largest tenth of |rates|: fractions stay below, percent (a hundred times that) lie between (docs/data.md)
MOST_FRACTION, LEAST_PERCENT, MOST_PERCENT = 0.0015, 0.004, 0.3
#: factor between a close and the next open
LEAST_LEAP = 2.5
#: bars at either end of a file that tell whether they are prices
JUDGED = 20_000
#: how files write that there is nothing
NOTHING = ("", "-", "--")
#: what a further field may be at the median; a spread of 10 is in points, not a fraction
PLAUSIBLE = {
    "spread": (0.0, 0.05), "premium": (-0.2, 0.2), "long_ratio": (0.0, 1.0), "imbalance": (-1.0, 1.0), "open_interest": (0.0, np.inf),
    "turnover": (0.0, np.inf),
}  # fmt: skip


def numbers(cells: pd.Series, sheet: Sheet, what: str, path: object) -> pd.Series:
    """A column as float64. Text may have currency signs, separators of thousands, a decimal comma, `%`, K, M, B."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells.astype(np.float64)
    found = pd.to_numeric(cells, errors="coerce")
    wrong = (found.isna() & cells.notna()).to_numpy()
    if not wrong.any():
        return found.astype(np.float64)
    text = cells[wrong].astype(str).str.strip()
    text = text[~text.isin(NOTHING)]
    found[text.index] = _of_text(text, sheet)
    bad = found[text.index].isna()
    if bad.any():
        row = int(bad.index[int(np.argmax(bad.to_numpy()))])
        raise InputError(f"{path}: {what} in {sheet.where(row)} is {shortened(cells.iloc[row])!r}, not a number")
    return found.astype(np.float64)


def _of_text(text: pd.Series, sheet: Sheet) -> pd.Series:
    bare = text.str.replace(r"[\s$€£%'_\u00a0]", "", regex=True)
    last = bare.str.extract(r"([KMBTkmbt])$")[0].str.upper()
    bare = bare.where(last.isna(), bare.str[:-1])
    if _decimal_comma(bare, sheet):
        bare = bare.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    else:
        thousands = bare.str.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
        bare = bare.where(~thousands, bare.str.replace(",", "", regex=False))
    return pd.to_numeric(bare, errors="coerce") * last.map(_LARGE).fillna(1.0).astype(np.float64)


def _decimal_comma(bare: pd.Series, sheet: Sheet) -> bool:
    """Whether commas are decimal: after the last point, never twice, and not always before three digits (in a file of commas)."""
    comma = bare.str.contains(",", regex=False)
    if not comma.any() or (bare.str.count(",") > 1).any():
        return False
    both = bare[comma & bare.str.contains(".", regex=False)]
    if len(both):
        return bool((both.str.rfind(",") > both.str.rfind(".")).all())
    return sheet.separator != "comma" or not bare[comma].str.fullmatch(r"[-+]?\d{1,3},\d{3}").all()


def of_percent(cells: pd.Series, path: object) -> bool:
    """Whether rates are written with a percent sign; all or none."""
    if pd.api.types.is_numeric_dtype(cells):
        return False
    signs = cells.dropna().astype(str).str.strip().str.endswith("%")
    if signs.any() and not signs.all():
        row = int(np.argmax(signs.to_numpy() != signs.iloc[0]))
        raise InputError(
            f"{path}: funding_rate has a percent sign in some rows and none in others (row {row + 1}); write all alike"
        )
    return bool(signs.any())


def rate_unit(rates: FloatArray, path: object) -> tuple[float, str | None]:
    """What a rate of 1 is as a fraction of notional, judged by the size of rates; and what to say of it."""
    large = float(np.quantile(np.abs(rates), 0.9)) if len(rates) else 0.0
    if large <= MOST_FRACTION:
        return 1.0, None
    if LEAST_PERCENT <= large <= MOST_PERCENT:
        return (
            0.01,
            f"rates are taken as percent and divided by 100 (as fractions a tenth of them were {large:.1%} or more a settlement)",
        )
    raise InputError(
        f"{path}: a tenth of the values of funding_rate are {large:g} or more: no fraction of notional (usual: 0.0001) nor "
        "clearly percent (0.01); say what they are with the column's name: --columns funding_rate=NAME (fraction), "
        "funding_percent=NAME or funding_bps=NAME"
    )


def check_rhythm(times: TimeArray, rates: FloatArray, path: object) -> None:
    """InputError where one rate stands in every row until the next settlement: each row would be charged again."""
    if len(rates) < 8:
        return
    ns = times.astype(np.int64)
    step = int(np.median(np.diff(ns)))
    if step <= 0:
        return
    rows = (ns - ns[0]) // step
    changes = rows[1:][np.diff(rates) != 0]
    for repeats in (1440, 720, 480, 240, 96, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2):
        if len(changes) * np.log(repeats) < 12 or repeats * step > 24 * HOUR_NS:
            continue  # that few changes may fall so by chance
        if np.unique(changes % repeats, return_counts=True)[1].max() >= 0.97 * len(changes):
            raise InputError(
                f"{path}: every rate stands in {repeats} rows, {_length(step)} apart, and changes every {_length(step * repeats)}: "
                f"charged row by row that is {repeats} times the funding; keep one row per settlement"
            )


def _length(ns: int) -> str:
    return f"{ns / HOUR_NS:g} h" if ns >= HOUR_NS else interval_name(ns)


def check_rates(times: TimeArray, rates: FloatArray, path: object) -> None:
    """InputError for a rate that is missing or no fraction of notional."""
    lost = ~np.isfinite(rates)
    if lost.any():
        raise InputError(f"{path}: funding_rate at {times[int(np.argmax(lost))]} is missing or not a number")
    if np.any(np.abs(rates) > 0.5):
        raise InputError(
            f"{path}: a funding_rate of {rates[int(np.argmax(np.abs(rates)))]:g} is no fraction of notional"
        )


def implausible_fields(table: pd.DataFrame) -> Mapping[str, str]:
    """Further fields of candles that cannot be what their name says here, and why."""
    out = {}
    for name, (low, high) in PLAUSIBLE.items():
        if name in table.columns:
            usual = float(table[name].median())
            if np.isfinite(usual) and not low <= usual <= high:
                out[name] = (
                    f"its median of {usual:g} is no {'fraction (points?)' if name == 'spread' else 'value of it'}"
                )
    for name in ("mark_price", "index_price"):
        if name in table.columns:
            ratio = float((table[name] / table["close"]).median())
            if np.isfinite(ratio) and not 0.5 < ratio < 2.0:
                out[name] = f"it is {ratio:g} times the close"
    return out


def smoothed(table: pd.DataFrame) -> str | None:
    """What candles are that are no prices; None for prices.

    Heikin-Ashi: each opens in the middle of the body before; a market opens at its close. Averages: returns follow one another.
    """
    if len(table) < 30:
        return None
    if len(table) > 2 * JUDGED:  # both ends: a file may have been joined
        table = pd.concat([table.iloc[:JUDGED], table.iloc[-JUDGED:]])
    opens, closes = table["open"].to_numpy(), table["close"].to_numpy()
    body = np.abs(closes[:-1] - opens[:-1])
    large = body > np.median(body)
    if large.sum() >= 10:
        off = np.abs(opens[1:] - (opens[:-1] + closes[:-1]) / 2)[large] / body[large]
        if np.mean(off < 0.05) > 0.9:
            return "Heikin-Ashi candles (each opens in the middle of the body before)"
    returns = np.diff(np.log(closes))
    if len(returns) < 200 or not returns.any():
        return None
    ranks = pd.Series(returns).rank().to_numpy()  # a crash is one bar, not the rule
    follow = float(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) if np.ptp(ranks) > 0 else 0.0
    if follow > 0.4:
        return f"smoothed prices (returns follow one another with a correlation of {follow:.2f}; a market's hardly do)"
    return None


def leap(table: pd.DataFrame) -> str | None:
    """Where prices leap between two bars by a factor that markets hardly know: a split, another unit or another market."""
    opens, closes = table["open"].to_numpy(), table["close"].to_numpy()
    size = np.abs(np.log(opens[1:] / closes[:-1]))
    worst = int(np.argmax(size))
    if size[worst] < np.log(LEAST_LEAP):
        return None
    return (
        f"the price leaps by a factor of {np.exp(size[worst]):.3g} at {say_time(table.index[worst + 1].to_datetime64())} "
        f"({closes[worst]:g} to {opens[worst + 1]:g}): a split, or another unit?"
    )
