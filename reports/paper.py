"""The page of a paper-trading account, from its journal alone: equity, fills, slippage, forecasts, and live against backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from data.atomic import write_text
from data.panel import InputError
from strategies.paper.records.holdings import Holding, exposure, holdings
from strategies.paper.records.journal import Journal
from strategies.paper.replay import PARTS, Told, explain

_WIDTH, _HEIGHT, _POINTS = 900, 260, 900


def build_paper_page(journal_path: Path, page: Path) -> Path:
    """Writes `page` whole. A journal without decisions gives a page that says so."""
    journal = Journal(journal_path, read_only=True)
    try:
        write_text(page, render(journal))
    finally:
        journal.close()
    return page


def render(journal: Journal) -> str:
    told: Told | None = None
    problem = ""
    try:
        told = explain(journal)
    except InputError as error:
        problem = str(error)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style = (resources.files("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    equity = journal.rows("SELECT * FROM equity ORDER BY open_ms")
    held = holdings(journal, float(equity[-1]["equity"]) if equity else 0.0)
    return templates.get_template("paper.html.j2").render(
        name=journal.get("id"),
        subtitle=f"{', '.join(journal.symbols)} {journal.get('interval')} on {journal.get('venue')}, model of {journal.get('run')}",
        simulated=journal.get("venue") == "local",
        style=Markup(style),
        state=journal.get("state", "never started"),
        why=journal.get("why"),
        flat=journal.get("flat"),
        summary=_summary(journal, equity),
        problem=problem,
        told=told,
        parts=[] if told is None else [(label, f"{value:,.2f}") for label, value in told.parts()],
        symbols=_symbols(journal, held),
        exposure=_exposure(held) if equity else "",
        profit_heads=["Symbol", *(part.capitalize() for part in PARTS)],
        profits=[]
        if told is None or len(told.symbols) < 2
        else [(symbol, *(f"{number:,.2f}" for number in numbers)) for symbol, numbers in told.by_symbol()],
        equity_svg=_equity_svg(told, equity),
        slippage=_slippage(journal, told),
        **_forecasts(journal),
        fills=[
            (_when(e.time_ms), e.symbol, e.kind, e.side, e.qty, e.price, e.fee, "maker" if e.maker else "", e.link_id)
            for e in journal.executions()[-100:][::-1]
        ],
        orders=[
            (
                _when(r["open_ms"]),
                r["symbol"],
                r["link_id"],
                r["side"],
                r["qty"],
                r["filled"],
                r["status"],
                r["reason"] or "",
            )
            for r in journal.rows("SELECT * FROM intents WHERE status != 'filled' ORDER BY written_ms DESC LIMIT 50")
        ],
        events=[
            (_when(r["time_ms"]), r["kind"], r["text"])
            for r in journal.rows("SELECT * FROM events ORDER BY id DESC LIMIT 200")
        ],
    )


def _summary(journal: Journal, equity: Sequence[Any]) -> str:
    if not equity:
        return "Nothing has been traded yet."
    first, last = float(equity[0]["equity"]), float(equity[-1]["equity"])
    ledgers = [journal.ledger(symbol) for symbol in journal.symbols]
    fees, funding = sum(one.fees for one in ledgers), sum(one.funding for one in ledgers)
    fills = journal.rows("SELECT COUNT(*) AS n FROM executions WHERE kind = 'Trade'")[0]["n"]
    return (
        f"Equity {last:,.2f} USDT, {last / first - 1:+.2%} over {len(equity)} bars since {_when(equity[0]['open_ms'])}; "
        f"{fills} fills, fees {fees:,.2f}, funding paid {funding:,.2f}."
    )


def _symbols(journal: Journal, account: Mapping[str, Holding]) -> list[tuple[str, ...]]:
    """Per symbol: what is held, its weight, the last forecast and target, and what became of it."""
    last = journal.last_decision()
    rows = {} if last is None else journal.decision(int(last["open_ms"]))
    out: list[tuple[str, ...]] = []
    for symbol, held in account.items():
        row, ledger = rows.get(symbol), journal.ledger(symbol)
        forecast = "" if row is None else "not known" if row["forecast"] is None else f"{row['forecast']:+.4f}"
        target, note = ("", "") if row is None else (f"{row['target']:+.4f}", str(row["note"]))
        costs = (f"{ledger.fees:,.2f}", f"{ledger.funding:,.2f}")
        out.append((symbol, str(held.size), f"{held.weight:+.4f}", forecast, target, note, *costs))
    return out


def _exposure(account: Mapping[str, Holding]) -> str:
    gross, net = exposure(account)
    return f"Exposure: gross {gross:.3f}, net {net:+.3f} of equity." if len(account) > 1 else ""


def _slippage(journal: Journal, told: Told | None) -> list[tuple[str, str]]:
    sent = {r["link_id"]: float(r["reference"]) for r in journal.rows("SELECT link_id, reference FROM intents")}
    paid, weight = [], []
    for e in journal.executions():
        reference = sent.get(e.link_id, 0.0)
        if e.kind == "Trade" and reference > 0:
            side = 1.0 if e.side == "Buy" else -1.0
            paid.append(side * (float(e.price) / reference - 1.0) * 1e4)
            weight.append(float(e.qty) * float(e.price))
    if not paid:
        return []
    rows = [
        ("paid, mean by value", f"{np.average(paid, weights=weight):.2f}"),
        ("paid, median", f"{np.median(paid):.2f}"),
        ("paid, worst", f"{np.max(paid):.2f}"),
    ]
    return rows if told is None else [*rows, ("assumed by the backtest", f"{told.assumed_slippage_bps:.2f}")]


def _forecasts(journal: Journal) -> dict[str, Any]:
    """The forecast of bar t against the log return of the bar after its fill, in units of the volatility at t."""
    x, y = [], []
    for symbol in journal.symbols:
        query = "SELECT open_ms, forecast, volatility FROM decisions WHERE symbol = ? ORDER BY open_ms"
        candles = {c[0]: c[1] for c in journal.candles(symbol) if c[1] == c[1]}
        times = sorted(candles)
        step = times[1] - times[0] if len(times) > 1 else 1
        for r in journal.rows(query, symbol):
            a, b = candles.get(r["open_ms"] + step), candles.get(r["open_ms"] + 2 * step)
            if a and b and r["forecast"] is not None and r["volatility"]:
                x.append(r["forecast"])
                y.append(float(np.log(b / a)) / r["volatility"])
    if len(x) < 3 or np.std(x) == 0 or np.std(y) == 0:
        return {"forecast_text": "Too few bars yet.", "forecast_svg": Markup("")}
    correlation = float(np.corrcoef(x, y)[0, 1])
    text = (
        f"{len(x)} forecasts; correlation of the forecast with the next bar's move {correlation:+.3f} "
        f"(two standard errors: {2 / np.sqrt(len(x)):.3f}). Forecasts look further than one bar; this is the part one can see soon."
    )
    return {"forecast_text": text, "forecast_svg": _svg([("points", np.array(x), np.array(y), "#4c78a8")], points=True)}


def _equity_svg(told: Told | None, equity: Sequence[Any]) -> Markup:
    if told is None or not equity:
        return Markup("")
    t = told.stamps.astype("datetime64[ms]").astype(np.int64).astype(np.float64)
    length = t[1] - t[0] if len(t) > 1 else 0.0
    live_t = np.array([r["open_ms"] + length for r in equity], dtype=np.float64)  # read at the close, as the backtest's
    live = np.array([float(r["equity"]) for r in equity])
    return _svg([("backtest", t, told.backtest_equity, "#9aa0a6"), ("live", live_t, live, "#d62728")])


def _svg(series: Sequence[tuple[str, Any, Any, str]], points: bool = False) -> Markup:
    """Curves (or points) on common axes, with their ranges written beside them."""
    xs = np.concatenate([s[1] for s in series])
    ys = np.concatenate([s[2] for s in series])
    left, right, low, high = float(xs.min()), float(xs.max()), float(ys.min()), float(ys.max())
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    body = []
    for k, (name, x, y, colour) in enumerate(series):
        keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).astype(int))
        px = 70 + (x[keep] - left) / wide * (_WIDTH - 80)
        py = 10 + (high - y[keep]) / tall * (_HEIGHT - 30)
        if points:
            body += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2" fill="{colour}"/>' for a, b in zip(px, py, strict=True)]
        else:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))
            body.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
            body.append(f'<text x="{80 + 90 * k}" y="22" fill="{colour}" font-size="13">{name}</text>')
    body.append(f'<text x="4" y="20" font-size="11" fill="currentColor">{high:,.4g}</text>')
    body.append(f'<text x="4" y="{_HEIGHT - 18}" font-size="11" fill="currentColor">{low:,.4g}</text>')
    label = ", ".join(name for name, *_ in series)
    inner = "".join(body)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" style="width:100%;height:auto">{inner}</svg>'
    )


def _when(time_ms: int) -> str:
    return f"{pd.Timestamp(time_ms, unit='ms'):%Y-%m-%d %H:%M:%S}"
