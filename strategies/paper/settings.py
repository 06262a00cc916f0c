"""What paper trading is asked for."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import field_validator

from data.commandline import JSON_HELP, QUIET_HELP
from data.panel import InputError
from data.settings import Count, Settings, Share, setting
from data.symbols import parse_symbols
from strategies.paper.alerts import target_of

VENUES = ("testnet", "demo", "local")
TRADED, LIMITS, ENDING, RUNNING = "What is traded, and where", "Limits that halt", "When it stops", "How to run"
GROUPS = (TRADED, LIMITS, ENDING, RUNNING)
OUT_HELP = "Folder of paper/<id>/ and paper/<id>.html."


class PaperSettings(Settings):
    """The flags of `python -m strategies.paper`."""

    run: Path = setting(Path("reports/latest"), "A walk-forward run's folder; its last window's model trades.", TRADED)
    symbol: str | None = setting(
        None, "Symbols of that run, with commas (default: all of them, from one account).", TRADED
    )
    venue: str = setting(
        "testnet", "testnet, demo or local (the stand-in; needs no keys). Mainnet is not offered.", TRADED
    )
    keys: Path | None = setting(
        None, "File with BYBIT_API_KEY=... and BYBIT_API_SECRET=..., mode 0600 (default: environment).", TRADED
    )
    interval: str | None = setting(None, "Checked against the model's.", TRADED)
    orders: str = setting(
        "market", "market, or limit: post-only, re-priced, the rest by market.", TRADED, choices=("market", "limit")
    )
    hedge: bool = setting(False, "Position mode of the account.", TRADED, names=("--hedge/--one-way",))
    leverage: Count = setting(10, "Leverage set at the exchange.", TRADED, le=125)
    stop_loss: Share | None = setting(
        None,
        "A stop at the exchange, this many volatilities of a day from the entry; 0: none (default: the run's).",
        TRADED,
    )
    foreign: str = setting(
        "halt", "Positions and orders not ours: halt, adopt or flatten.", TRADED, choices=("halt", "adopt", "flatten")
    )
    max_position: Share = setting(3.0, "Largest sum of |position| over all symbols, in equities.", LIMITS)
    daily_loss: Share = setting(0.10, "Loss of a day (fraction) that halts.", LIMITS, le=1.0)
    drawdown: Share = setting(0.30, "Drawdown (fraction) that halts.", LIMITS, le=1.0)
    orders_per_bar: Count = setting(10, "Orders of one symbol for one bar that halt.", LIMITS)
    collar_bps: Share = setting(300.0, "No order while the price is further from the close than this.", LIMITS)
    stale_s: Share = setting(
        0.0, "Seconds without data after which nothing is entered (default: 3 bars, at least 180).", LIMITS
    )
    on_stop: str = setting(
        "keep", "keep or flatten the positions when stopped (SIGTERM, Ctrl-C).", ENDING, choices=("keep", "flatten")
    )
    on_halt: str = setting("keep", "keep or flatten the positions on a halt.", ENDING, choices=("keep", "flatten"))
    resume: bool = setting(False, "Go on after a halt; losses count anew.", ENDING)
    research: str | None = setting(
        None, "Search again in a second process: weekly or drift.", RUNNING, choices=("weekly", "drift")
    )
    model: str | None = setting(
        None, "A run's model of your own, module:Name: only code that is named here is run.", RUNNING
    )
    any_code: bool = setting(False, "Trade a model made by another version of the code.", RUNNING)
    webhook: str | None = setting(
        None,
        "URLs told of what matters (Discord, Slack, Telegram, ntfy, else JSON), with commas.",
        ENDING,
        envvar="PAPER_WEBHOOK",
    )
    heartbeat: str | None = setting(
        None,
        "URL asked every minute while all goes well; its service tells when that ends.",
        ENDING,
        envvar="PAPER_HEARTBEAT",
    )
    bars: Count | None = setting(None, "Stop after so many bars.", ENDING)
    history: Count | None = setting(
        None, "Closed bars loaded at the first start (default: what the model needs).", RUNNING
    )
    speed: float = setting(7_200.0, "venue local: exchange seconds per real second.", RUNNING, ge=0.01)
    endpoint: str | None = setting(None, "venue local: a stand-in that runs already.", RUNNING)
    out: Path = setting(Path("reports"), OUT_HELP)
    quiet: bool = setting(False, QUIET_HELP)
    as_json: bool = setting(False, JSON_HELP, alias="json")

    @field_validator("venue")
    @classmethod
    def _offered(cls, value: str) -> str:
        if value not in VENUES:
            raise ValueError(f"--venue must be one of {', '.join(VENUES)}, not {value!r} (mainnet is not offered)")
        return value

    @field_validator("symbol")
    @classmethod
    def _each_once(cls, value: str | None) -> str | None:
        if value is None:
            return None
        names = parse_symbols(value.split(","))
        if not all(re.fullmatch("[A-Z0-9]{2,20}", name) for name in names):
            raise ValueError(f"--symbol takes symbols like BTCUSDT or BTCUSDT,ETHUSDT, each once, not {value!r}")
        return ",".join(names)

    @field_validator("webhook", "heartbeat")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        try:
            for text in (value or "").replace(",", " ").split():
                target_of(text)
        except InputError as error:
            raise ValueError(str(error)) from None
        return value
