"""The comparison page of a run: one self-contained HTML file that opens without a network."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from data.atomic import write_text
from nas.space.drawing import draw_genotype
from reports.costs_section import cost_figure, cost_rows, scenario_title, scenarios
from reports.cpcv_section import cpcv_section
from reports.figures import drawdown_figure, equity_figure
from reports.forecast_section import forecast_section
from reports.judged_section import judged_section
from reports.luck import LuckSection, look_of, luck_section
from reports.performance import Performance, performance
from reports.planted_section import planted_section
from reports.portfolio_section import across_counts, contribution_rows, lead_figure, portfolio_figures, subject
from reports.risk_section import risk_section
from reports.run_folder import Run, link_latest, list_runs, load_run
from reports.search_section import (
    chance_figure,
    decided_told,
    feature_table,
    has_random,
    missing_health,
    size_told,
    timeline_figure,
    window_figures,
)
from reports.tearsheets import DUEL, asset_sheet, best_by_hand, file_name, write_tearsheets
from reports.trades_section import candle_figures, trade_table, weeks
from reports.verdict import verdict

Progress = Callable[[str], None]


COLUMNS = (
    ("Return", "Total return out of sample"),
    ("Sharpe", "Mean over standard deviation of daily returns, per year: return per risk, above 1 is good"),
    (
        "Max drawdown, by bar",
        "The deepest loss from the highest equity so far, bar by bar; tearsheets go day by day and miss what recovers within one",
    ),
    ("Volatility", "Standard deviation of daily returns, per year"),
    ("CAGR", "Return per year, compounded"),
    ("Sortino", "Like Sharpe, but only losses count as risk"),
    ("Calmar", "CAGR over the maximum drawdown"),
    ("Exposure", "Share of bars with a position"),
    ("Turnover", "Traded notional per year over the average equity; 1 is buying once a year for all the money"),
    ("Fills", "Number of fills"),
    ("Hit rate", "Profitable days among days that moved"),
    ("Fees", "Quote currency, paid; k is thousands, M millions"),
    ("Slippage", "Quote currency, paid inside the fill prices"),
    ("Funding", "Quote currency, received minus paid"),
)


def build_pages(folder: Path, *, progress: Progress | None = None) -> Path:
    """Write `index.html` and the tearsheets of a run folder, the list of runs and the `latest` link; return the page.

    progress: called with a few words before each slow step.

    Examples
    --------
    >>> from pathlib import Path
    >>> from reports import build_pages
    >>> build_pages(Path("nowhere"))
    Traceback (most recent call last):
    data.errors.InputError: nowhere is not a run folder: give a folder such as reports/runs/<run-id> or reports/latest
    """
    run = load_run(folder)
    say = progress or (lambda _: None)
    say("comparison page")
    page = write_page(run)
    for window in run.windows:
        picture = run.folder / "architectures" / f"{window['window']}.svg"
        write_text(picture, draw_genotype(window.get("genotype") or {}))
    write_tearsheets(run, say)
    reports = run.folder.parent.parent
    if run.folder.parent.name == "runs":
        say("list of runs")
        link_latest(run.folder)
        write_runs_index(reports)
    return page


def write_page(run: Run) -> Path:
    """The comparison page of a run alone; returns its path."""
    path = run.folder / "index.html"
    write_text(path, environment().get_template("page.html.j2").render(_content(run)))
    return path


def _content(run: Run) -> dict[str, object]:
    """Everything that the template of the page shows."""
    rows = [performance(run, strategy) for strategy in run.strategies]
    luck = luck_section(run, look_of(run, "page"))
    rival = best_by_hand(run)
    windows = [_window(run, number, window) for number, window in enumerate(run.windows)]
    figures = [equity_figure(run), drawdown_figure(run), cost_figure(run, rows), *luck.figures(), *candle_figures(run)]
    portfolio, contributed = [*portfolio_figures(run), *lead_figure(run)], contribution_rows(run, subject(run))
    figures += portfolio
    risks, drawn = risk_section(run)
    forecast, sheet = forecast_section(run)
    crossed, paths = cpcv_section(run)
    figures += [*drawn, *sheet, *paths]
    figures += [figure for figure in (chance_figure(run), timeline_figure(run)) if figure is not None]
    figures += [figure for window in windows for figure in window["figures"]]
    feature_windows, features = feature_table(run)
    week_titles, worst, best = weeks(run, rival)
    return {
        "run": run,
        "verdict": verdict(run, rows, luck),
        "columns": COLUMNS,
        "rows": [_row(run, row, luck) for row in rows],
        "figures": {figure.name: figure for figure in figures},
        "charts": json_for_script({figure.name: figure.specification() for figure in figures}),
        "luck": luck,
        "days": len(luck.daily),
        "lucky": [(run.short(name), found) for name, found in luck.strategies.items()],
        "cost_rows": cost_rows(run),
        "scenarios": [scenario_title(*pair) for pair in scenarios(run)],
        "contribution_rows": contributed,
        "planted": planted_section(run),
        "risks": risks,
        "forecast": forecast,
        "crossed": crossed,
        "portfolio_title": run.title(subject(run)),
        "portfolio_weighting": str((run.info.get("config") or {}).get("weighting", "–")).replace("_", " "),
        "portfolio_figures": portfolio,
        "across_counts": across_counts(run),
        "asset_sheets": {row.asset: f"tearsheets/{asset_sheet(subject(run), row.asset)}" for row in contributed},
        "windows": windows,
        "policies": _policies(run, rows),
        "has_random": has_random(run),
        "judged": judged_section(run, luck.daily),
        "searched": not run.windows or any(window.get("genotype") for window in run.windows),
        "feature_windows": feature_windows,
        "features": features,
        "candle_charts": [figure.name for figure in figures if figure.name.startswith("candles-")],
        "trades": json_for_script(trade_table(run)),
        "trade_count": len(run.trades),
        "week_titles": week_titles,
        "weeks": [("Worst weeks", worst), ("Best weeks", best)],
        "duel": DUEL if rival is not None and rival != run.subject else None,
        "facts": _provenance(run),
        "settings": flat(run.info.get("config") or {}),
        "costs": flat(run.info.get("costs") or {}),
        "timings": [*flat(run.info.get("timings") or {}), ("register of looks begins", luck.look.begun or "not known")],
        "packages": flat(run.provenance.get("packages") or {}),
        "notes": [str(note) for note in run.provenance.get("notes") or []],
        "command": _command(run),
        "plotly": plotly_script(),
    }


def write_runs_index(reports: Path) -> Path:
    """`<reports>/index.html`: every finished run, newest first."""
    entries = []
    for folder in list_runs(reports):
        try:
            info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(info, dict):
            headline = {k: v for k, v in (info.get("headline") or {}).items() if isinstance(v, dict)}
            own: dict[str, float] = next(iter(headline.values()), {})
            config = info.get("config") or {}
            held, named = headline.get("buy_and_hold") or {}, ", ".join(config.get("variant") or [])
            entries.append(
                {
                    "folder": folder.name,
                    "origin": info.get("provenance") or {},
                    "settings": f"{config.get('preset', '–')}{f' ({named})' if named else ''}",
                    **{name: own.get(name, math.nan) for name in ("return", "sharpe")},
                    "held": held.get("return", math.nan),
                }
            )
    path = reports / "index.html"
    write_text(path, environment().get_template("runs.html.j2").render(entries=entries, reports=reports.name))
    return path


def plotly_script() -> Markup:
    """The library's own file, as its package ships it; embedded so that the page needs no network."""
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return Markup(text.replace("</script", "<\\/script"))


def environment() -> jinja2.Environment:
    """The templates, with what shows figures in them."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        percent=percent, ratio=ratio, money=money, brief=brief, count=count, probability=probability, span=span
    )
    templates.globals["asset"] = lambda name: Markup(
        (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    )
    return templates


def percent(value: float, digits: int = 1) -> str:
    """0.123 as 12.3%; a dash where it is not known."""
    return f"{value:.{digits}%}" if _finite(value) else "–"


def ratio(value: float, digits: int = 2) -> str:
    """1.234 as 1.23; a dash where it is not known."""
    return f"{value:.{digits}f}" if _finite(value) else "–"


def money(value: float) -> str:
    """Quote currency; cents below 100."""
    return f"{value:,.0f}" if _finite(value) and abs(value) >= 100 else (f"{value:,.2f}" if _finite(value) else "–")


def brief(value: float) -> str:
    """An amount of money in few characters."""
    if not _finite(value):
        return "–"
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:,.1f}{name}"
    return f"{value:.0f}" if value else "0"


def probability(value: float) -> str:
    """Three digits; a dash where it is not known."""
    return f"{value:.3f}" if _finite(value) else "–"


def span(days: float) -> str:
    """A number of days, in years where there are many."""
    if math.isinf(days):
        return "never"
    if math.isnan(days):
        return "–"
    return f"{days:,.0f} days" if days < 2 * 365 else f"{days / 365:,.1f} years"


def count(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}" if _finite(value) else "–"


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _row(run: Run, row: Performance, luck: LuckSection) -> dict[str, Any]:
    drawn = luck.resampled if row.fills else None  # nothing moved: no interval
    interval = None if drawn is None else drawn.interval(row.strategy)
    returned = None if drawn is None else drawn.interval(row.strategy, "return")
    return asdict(row) | {
        "sharpe_interval": interval,
        "return_interval": returned,
        "title": run.short(row.strategy),
        "long_title": run.title(row.strategy),
        "kind": run.kind(row.strategy),
        "description": run.description(row.strategy),
        "tearsheet": f"tearsheets/{file_name(row.strategy)}.html",
    }


def _policies(run: Run, rows: Sequence[Performance]) -> list[dict[str, Any]]:
    """The run's policies, each with the figures of its strategy as the table of all strategies shows them."""
    by_name = {row.strategy: row for row in rows}
    entries = [entry for entry in run.info.get("policies") or [] if isinstance(entry, Mapping)]
    return [{**entry, "row": by_name[name]} for entry in entries if (name := str(entry.get("strategy"))) in by_name]


def _window(run: Run, position: int, window: Mapping[str, Any]) -> dict[str, Any]:
    number = window.get("window", position)
    index = int(number) if isinstance(number, (int, float)) else position
    genotype = window.get("genotype")
    saved = run.architectures.get(index)
    picture = saved if saved and _is_plain_svg(saved) else draw_genotype(genotype if isinstance(genotype, dict) else {})
    return {
        "number": index,
        "train": _stretch(window.get("train")),
        "validation": _stretch(window.get("validation")),
        "test": _stretch(window.get("test")),
        "purge_bars": window.get("purge_bars", "–"),
        "policy": window.get("policy", "–"),
        "variant": window.get("variant", "–"),
        "seed": window.get("seed", "–"),
        "searched": window.get("searched", True),
        "picture": Markup(picture),
        "text": str(window.get("text") or ""),
        "architecture": str(window.get("architecture") or ""),
        "flat": window.get("plan") == "flat",
        "decision": _decision(window),
        "size": size_told(window),
        "decided": decided_told(window),
        "distance": [(name, value) for name, value in flat(window.get("distance") or {}) if value != "None"],
        "diagnostics": [(n.replace("_", " "), v) for n, v in flat(window.get("diagnostics") or {})],
        "figures": (drawn := window_figures(index, window)),
        "curves": [figure.name for figure in drawn if figure.name.startswith(("losses-", "forces-"))],
        "health": [figure.name for figure in drawn if figure.name.startswith("health-")],
        "ends": next((figure.name for figure in drawn if figure.name.startswith("ends-")), ""),
        "edges": [figure.name for figure in drawn if figure.name.startswith("alpha-")],
        "missing": missing_health(window.get("history") or []),
    }


def _decision(window: Mapping[str, Any]) -> str:
    """Why the window was traded by its plan, or not at all, in words."""
    evidence = window.get("evidence")
    if not isinstance(evidence, Mapping) or not _finite(evidence.get("by_luck")):
        return ""
    flat, days = window.get("plan") == "flat", int(evidence.get("record_days") or 0)
    by_luck, needed = float(evidence["by_luck"]), float(evidence.get("needed") or 0.0)
    plan = f"the best plan on validation was to {evidence.get('in_words') or evidence.get('best_plan')}"
    if needed >= 1.0:
        return (
            f"Stayed flat: {plan}, and it earned nothing there." if flat else f"Traded: {plan}; no record is asked for."
        )
    of = "earlier windows" + (" and a rehearsal inside the first training stretch" if evidence.get("rehearsed") else "")
    record = (
        f"what was chosen so earned, on {days} unseen day{'s' * (days != 1)} of {of}, what luck alone earns or exceeds with "
        f"{by_luck:.1%}; at most {needed:.0%} is asked for"
        if days
        else f"no unseen days of {of} tell yet whether such choices earn anything"
    )
    why = str(evidence.get("why_flat") or "").replace("the window stays flat: ", "")
    return f"{'Stayed flat' if flat else 'Traded'}: {plan}; {record}{f' ({why})' if why and days else ''}."


def _is_plain_svg(text: str) -> bool:
    """A picture from a file goes into the page unescaped, so it must be an SVG that can run or fetch nothing."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return False
    if not root.tag.endswith("svg"):
        return False
    for element in root.iter():
        name = element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else "comment"
        if name in {"script", "foreignobject", "image", "iframe", "a", "use", "animate", "set"}:
            return False
        for key, value in element.attrib.items():
            attribute = key.rpartition("}")[2].lower()
            if attribute.startswith("on") or attribute in {"href", "src"} or "url(http" in value.lower():
                return False
        if name == "style" and any(word in (element.text or "").lower() for word in ("@import", "url(", "</", "<")):
            return False
    return True


def _stretch(bounds: Any) -> str:
    if not isinstance(bounds, dict):
        return "–"
    return f"{_day(bounds.get('start'))} to {_day(bounds.get('stop'))}"


def _day(moment: Any) -> str:
    return "?" if moment is None else str(moment)[:10]


def _provenance(run: Run) -> list[tuple[str, str]]:
    origin = run.provenance
    symbols = origin.get("symbols") or []
    traded = run.equity.index
    return [
        ("Run", run.run_id),
        ("Source", _source(run)),
        ("Symbols", ", ".join(map(str, symbols)) or "–"),
        ("Interval", f"{origin.get('interval', '–')}"),
        ("Data", f"{_day(origin.get('start'))} to {_day(origin.get('end'))}, {origin.get('bars', '?')} bars"),
        ("Traded out of sample", f"{_day(traded[0])} to {_day(traded[-1])}, {len(traded)} bars"),
        ("Order rules", _order_rules(run)),
        ("Data fingerprint", str(origin.get("data_fingerprint", "–"))),
        ("Code version", str(origin.get("code_version", "–"))),
    ]


def _source(run: Run) -> str:
    origin = str(run.provenance.get("source", "unknown"))
    names = [Path(str(name)).name for name in (run.info.get("config") or {}).get("data") or []]
    told = f"{origin} ({', '.join(names)})" if names else origin
    return f"{told} – simulated, not a real market" if run.simulated else told


def _order_rules(run: Run) -> str:
    """By which lots, ticks and minima orders were rounded, per symbol, and who said so."""
    told = []
    for asset, rules in (run.provenance.get("order_rules") or {}).items():
        if rules.get("from") == "none":
            told.append(f"{asset}: none (any size, any price)")
            continue
        origin = "from the exchange" if rules.get("from") == "exchange" else "from the settings"
        lot, tick, least = (f"{float(rules.get(name) or 0.0):g}" for name in ("lot", "tick", "minimum_notional"))
        told.append(f"{asset}: lots of {lot}, ticks of {tick}, at least {least} per order ({origin})")
    return "; ".join(told) or "not recorded"


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names."""
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, float):
        return [(prefix, f"{value:.6g}")]
    if isinstance(value, (list, tuple)):
        return [(prefix, ", ".join(map(str, value)))]
    return [(prefix, str(value))]


def _command(run: Run) -> str:
    command = run.info.get("command") or "python -m strategies.walkforward"
    return " ".join(map(str, command)) if isinstance(command, list) else str(command)


def json_for_script(value: Any) -> Markup:
    """JSON that cannot end the script element it sits in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
    )
