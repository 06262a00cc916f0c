"""One QuantStats tearsheet per strategy, with buy and hold as the benchmark; never a download, no remote asset."""

from __future__ import annotations

import html
import logging
import math
import multiprocessing
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import write_text
from reports.performance import daily_returns, sharpe_ratio
from reports.portfolio_section import asset_returns, subject
from reports.run_folder import BENCHMARK, Run

PERIODS_PER_YEAR = 365.0  # daily returns of a market that never closes; QuantStats assumes 252 unless told
DUEL = "searched-against-best-by-hand.html"
FEWEST_FOR_PROCESSES = 8  # below that, starting a process costs more than it saves
FEWEST_DAYS = 3  # below that QuantStats has nothing to draw


@dataclass(frozen=True)
class Sheet:
    """What one tearsheet is drawn from; small, so that it can be sent to another process."""

    path: Path
    returns: pd.Series
    benchmark: pd.Series | None
    title: str
    benchmark_title: str
    parameters: Mapping[str, str]
    days_per_year: float


def write_tearsheets(run: Run, progress: Callable[[str], None] | None = None) -> tuple[Path, ...]:
    """`tearsheets/<strategy>.html` for every strategy, of the searched one one per asset, and it against the best hand-designed one."""
    sheets = planned_sheets(run)
    workers = min(os.cpu_count() or 1, len(sheets))
    say = progress or (lambda _: None)
    if len(sheets) >= FEWEST_FOR_PROCESSES and workers > 1:
        try:
            # spawn: the parent may hold threads, and a fork of those can hang
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                waiting = [pool.submit(_write, sheet) for sheet in sheets]
                for number, (sheet, done) in enumerate(zip(sheets, waiting, strict=True), 1):
                    done.result()
                    say(f"tearsheet {number} of {len(sheets)}: {sheet.title}")
            return tuple(sheet.path for sheet in sheets)
        except BrokenExecutor:
            say("tearsheets one by one: no other process could be started")
    for number, sheet in enumerate(sheets, 1):
        say(f"tearsheet {number} of {len(sheets)}: {sheet.title}")
        _write(sheet)
    return tuple(sheet.path for sheet in sheets)


def planned_sheets(run: Run) -> list[Sheet]:
    daily = {strategy: daily_returns(run.equity[strategy]) for strategy in run.strategies}
    folder, facts = run.folder / "tearsheets", parameters(run)
    sheets = [
        Sheet(
            folder / f"{file_name(strategy)}.html",
            daily[strategy],
            None if strategy == BENCHMARK else daily.get(BENCHMARK),
            run.title(strategy),
            run.title(BENCHMARK),
            facts,
            run.days_per_year,
        )
        for strategy in run.strategies
    ]
    about = subject(run)
    for asset in dict.fromkeys(map(str, run.contributions["asset"])):
        alone = asset_returns(run, about, asset)
        if len(alone):
            held = asset_returns(run, BENCHMARK, asset) if BENCHMARK in daily else None
            title = f"{asset} in {run.title(about)}"
            against = f"{asset} in {run.title(BENCHMARK)}"
            sheets.append(
                Sheet(folder / asset_sheet(about, asset), alone, held, title, against, facts, run.days_per_year)
            )
    rival = best_by_hand(run)
    if rival is not None and rival != run.subject:
        title = f"{run.title(run.subject)} against {run.title(rival)}"
        against = run.title(rival)
        sheets.append(Sheet(folder / DUEL, daily[run.subject], daily[rival], title, against, facts, run.days_per_year))
    return sheets


def asset_sheet(strategy: str, asset: str) -> str:
    return f"{file_name(strategy)}-{file_name(asset)}.html"


def best_by_hand(run: Run) -> str | None:
    """The hand-designed network or rule of highest Sharpe ratio; None where the run has none that moved."""
    found = [
        (sharpe_ratio(daily_returns(run.equity[name]).to_numpy()), name)
        for name in run.strategies
        if run.kind(name) in {"rule", "network"}
    ]
    ranked = [pair for pair in found if not math.isnan(pair[0])]
    return max(ranked)[1] if ranked else None


def _write(sheet: Sheet) -> Path:
    return write_tearsheet(
        sheet.path,
        sheet.returns,
        sheet.benchmark,
        title=sheet.title,
        benchmark_title=sheet.benchmark_title,
        parameters=sheet.parameters,
        days_per_year=sheet.days_per_year,
    )


def file_name(strategy: str) -> str:
    """A name that is safe as a file and in a link: anything but letters, digits, `.`, `_`, `-` becomes `_`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", strategy).lstrip(".") or "_"


def parameters(run: Run) -> dict[str, str]:
    origin = run.provenance
    symbols = origin.get("symbols") or []
    shown = {
        "Run": run.run_id,
        "Data": f"{origin.get('source', 'unknown source')}{' (SIMULATED, not a real market)' if run.simulated else ''}",
        "Market": f"{', '.join(map(str, symbols))} at {origin.get('interval', '?')} min bars",
    }
    return shown


def write_tearsheet(
    path: Path,
    returns: pd.Series,
    benchmark: pd.Series | None,
    *,
    title: str,
    benchmark_title: str,
    parameters: Mapping[str, str],
    days_per_year: float = PERIODS_PER_YEAR,
) -> Path:
    """One tearsheet; where QuantStats would crash or mislead (few days, no movement, all lost) a plain page says so."""
    reason = _why_not(returns)
    if reason is None:
        try:
            text = _quantstats(returns, benchmark, title, benchmark_title, parameters, days_per_year)
        except Exception as error:  # QuantStats fails in many ways on odd series; a run must still get its pages
            text = _plain_page(title, parameters, f"QuantStats could not draw these returns: {error}", returns)
    else:
        text = _plain_page(title, parameters, reason, returns)
    write_text(path, text)
    return path


def _why_not(returns: pd.Series) -> str | None:
    if len(returns) < FEWEST_DAYS:
        return f"The run covers {len(returns)} day(s); a tearsheet needs at least {FEWEST_DAYS}."
    if not np.isfinite(returns.to_numpy()).all():
        return "The daily returns hold values that are not finite."
    if np.all(np.abs(returns.to_numpy()) < 1e-12):
        return "This strategy made no trade: every daily return is zero, so no ratio exists."
    if (returns <= -1.0).any():
        day = returns.index[int(np.argmax(returns.to_numpy() <= -1.0))]
        return f"This strategy lost everything on {day:%Y-%m-%d}; ratios over the days after that would mislead."
    return None


def _quantstats(
    returns: pd.Series,
    benchmark: pd.Series | None,
    title: str,
    benchmark_title: str,
    parameters: Mapping[str, str],
    days_per_year: float,
) -> str:
    import matplotlib  # takes seconds to load

    matplotlib.use("Agg")
    import quantstats  # takes seconds to load

    from reports.quick_figures import quick_figures, skipped_figures

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # QuantStats asks for Arial; any font will do
    series = _naive_days(returns)
    other = None if benchmark is None else _naive_days(benchmark).reindex(series.index).fillna(0.0)
    if other is not None and np.all(np.abs(other.to_numpy()) < 1e-12):
        other = None  # a flat benchmark has no beta and breaks the plots
    with (
        tempfile.TemporaryDirectory() as scratch,
        warnings.catch_warnings(),
        quick_figures(skipped_figures(len(series))),
    ):
        warnings.simplefilter("ignore")
        output = Path(scratch) / "tearsheet.html"
        quantstats.reports.html(
            series,
            benchmark=other,
            title=html.escape(title),
            # names reach matplotlib as well, where $ and _ would be read as mathematics
            strategy_title=_plain_label(title),
            benchmark_title=_plain_label(benchmark_title),
            output=str(output),
            periods_per_year=round(days_per_year),
            match_dates=False,  # matching would drop the days before the first trade
            parameters={html.escape(key): html.escape(value) for key, value in parameters.items()},
        )
        text = output.read_text(encoding="utf-8")
    return _without_remote_assets(honest_rows(text, len(series)), f"{title}: tearsheet")


def honest_rows(text: str, days: int) -> str:
    """Without the rows of more months and years than there are days; drawdowns say that they are of days, the page's of bars."""
    for name, least in (
        ("3M", 90),
        ("6M", 181),
        ("1Y", 365),
        ("3Y (ann.)", 1095),
        ("5Y (ann.)", 1826),
        ("10Y (ann.)", 3652),
    ):
        if days < least:
            text = re.sub(rf"<tr><td>{re.escape(name)}</td>.*?</tr>", "", text, flags=re.S)
    return re.sub(r"<td>(Max Drawdown|Avg\. Drawdown)</td>", r"<td>\1, by day</td>", text)


def _naive_days(returns: pd.Series) -> pd.Series:
    index = pd.DatetimeIndex(returns.index)
    return pd.Series(returns.to_numpy(), index=index.tz_localize(None) if index.tz is not None else index)


def _plain_label(name: str) -> str:
    return re.sub(r"[<>&$\\]", " ", name).strip() or "strategy"


def _without_remote_assets(text: str, title: str) -> str:
    # matplotlib's metadata holds the time of drawing and addresses of vocabularies
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text.replace('<body onload="save()">', "<body>")  # calls what only QuantStats' download page defines
    text = text.replace("\ufe6a", "%")  # the small percent sign is missing in most fonts
    text = re.sub(r"<link\b[^>]*https?://[^>]*>", "", text)
    text = re.sub(r'<a href="https?://[^"]*"[^>]*>(.*?)</a>', r"\1", text)
    text = re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", text, count=1, flags=re.S)
    back = '<p style="margin:0 0 12px"><a href="../index.html">&larr; comparison of all strategies</a></p>'
    text = text.replace('<div class="container">', f'<div class="container">{back}', 1)
    style = (
        "@media (max-width:700px){body{margin:12px}#left,#right{float:none;width:auto;margin:0}"
        "table{display:block;overflow-x:auto}}"
    )
    return text.replace("</style>", style + "</style>", 1)


def _plain_page(title: str, parameters: Mapping[str, str], reason: str, returns: pd.Series) -> str:
    days = returns.to_numpy(dtype="float64")
    finite = days[np.isfinite(days)]
    facts: list[tuple[str, Any]] = [
        ("Days", len(returns)),
        ("First day", f"{returns.index[0]:%Y-%m-%d}" if len(returns) else "none"),
        ("Last day", f"{returns.index[-1]:%Y-%m-%d}" if len(returns) else "none"),
        ("Total return", f"{np.prod(1.0 + finite) - 1.0:.2%}"),
        *parameters.items(),
    ]
    rows = "".join(
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>" for key, value in facts
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}: tearsheet</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;"
        "margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}th{text-align:left;padding-right:1.5rem;"
        "font-weight:600}a{color:#0b57d0}</style></head><body>"
        '<p><a href="../index.html">&larr; comparison of all strategies</a></p>'
        f"<h1>{html.escape(title)}</h1><p>{html.escape(reason)}</p><table>{rows}</table></body></html>"
    )
