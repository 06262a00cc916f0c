"""One QuantStats tearsheet per strategy, with buy and hold as the benchmark; never a download, no remote asset."""

from __future__ import annotations

import html
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import write_text
from reports.performance import daily_returns
from reports.run_folder import BENCHMARK, Run

PERIODS_PER_YEAR = 365  # daily returns of a market that never closes; QuantStats assumes 252 unless told
FEWEST_DAYS = 3  # below that QuantStats has nothing to draw


def write_tearsheets(run: Run, progress: Callable[[str], None] | None = None) -> tuple[Path, ...]:
    """`tearsheets/<strategy>.html` for every strategy, written one by one."""
    benchmark = daily_returns(run.equity[BENCHMARK]) if BENCHMARK in run.equity.columns else None
    written = []
    for strategy in run.strategies:
        if progress is not None:
            progress(f"tearsheet of {run.title(strategy)}")
        written.append(
            write_tearsheet(
                run.folder / "tearsheets" / f"{file_name(strategy)}.html",
                daily_returns(run.equity[strategy]),
                None if strategy == BENCHMARK else benchmark,
                title=run.title(strategy),
                benchmark_title=run.title(BENCHMARK),
                parameters=parameters(run),
            )
        )
    return tuple(written)


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
) -> Path:
    """One tearsheet; where QuantStats would crash or mislead (few days, no movement, all lost) a plain page says so."""
    reason = _why_not(returns)
    if reason is None:
        try:
            text = _quantstats(returns, benchmark, title, benchmark_title, parameters)
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
    returns: pd.Series, benchmark: pd.Series | None, title: str, benchmark_title: str, parameters: Mapping[str, str]
) -> str:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import quantstats

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # QuantStats asks for Arial; any font will do
    series = _naive_days(returns)
    other = None if benchmark is None else _naive_days(benchmark).reindex(series.index).fillna(0.0)
    if other is not None and np.all(np.abs(other.to_numpy()) < 1e-12):
        other = None  # a flat benchmark has no beta and breaks the plots
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
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
            periods_per_year=PERIODS_PER_YEAR,
            match_dates=False,  # matching would drop the days before the first trade
            parameters={html.escape(key): html.escape(value) for key, value in parameters.items()},
        )
        plt.close("all")
        text = output.read_text(encoding="utf-8")
    return _without_remote_assets(text, f"{title}: tearsheet")


def _naive_days(returns: pd.Series) -> pd.Series:
    index = pd.DatetimeIndex(returns.index)
    return pd.Series(returns.to_numpy(), index=index.tz_localize(None) if index.tz is not None else index)


def _plain_label(name: str) -> str:
    return re.sub(r"[<>&$\\]", " ", name).strip() or "strategy"


def _without_remote_assets(text: str, title: str) -> str:
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
