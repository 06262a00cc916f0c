"""What the paper command does: open a journal, connect, trade, and tell a person about it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.live import Live

from data.arithmetic import pinned
from data.atomic import make_folder
from data.intervals import interval_name
from data.panel import InputError
from data.progress import console_of
from data.simulated import DEMO, simulate
from nas.baselines.own import trust
from nas.baselines.own_model import own_name
from strategies.paper.alerts import Alerts
from strategies.paper.decisions.strategy import Strategy, load_strategy
from strategies.paper.orders.connection import ExchangeError, KeysRefused
from strategies.paper.orders.keys import Keys, load_keys
from strategies.paper.orders.risk import Limits, Risk
from strategies.paper.records.journal import Journal, JournalError
from strategies.paper.records.status import standing
from strategies.paper.research import Research, bars_needed
from strategies.paper.settings import PaperSettings
from strategies.paper.supervision import KILL_FILE, Held, Pages, say_decision, status_table
from strategies.paper.trader import HALTED, RECONCILING, Trader
from strategies.paper.venues import LocalExchange, connect, save_candles

PAGE_EVERY_S = 600.0


def last_model(run: Path) -> Path:
    """The model folder of a run's last window. InputError where there is none."""
    models = run / "models"
    numbers = sorted(int(p.name) for p in models.iterdir() if p.name.isdigit()) if models.is_dir() else []
    if not numbers and (run / "windows.json").is_file():
        raise InputError(
            f"{run} has nothing to trade: forecasts of files and sequence models (fit(panel, ...)) are judged, not traded on paper"
        )
    if not numbers:
        raise InputError(
            f"{run} holds no finished run (no models/<window>); make one first: python -m strategies.walkforward --symbol BTCUSDT"
        )
    return models / str(numbers[-1])


def trade(s: PaperSettings, write_page: Pages) -> int:
    """`run`: returns the exit code."""
    torch.set_num_threads(1)  # one bar at a time: threads only get in each other's way
    console = console_of(s.as_json, s.quiet)
    model_folder = last_model(s.run)
    local: LocalExchange | None = None
    keys = _keys(s)
    if s.model and not own_name(model_folder):
        raise InputError(f"--model {s.model}: {s.run} has a network of its own to trade; leave --model out")
    trust(s.model)
    strategy = load_strategy(model_folder, s.symbol, s.interval, s.any_code)
    if s.venue != "local" and strategy.model.extra.get("market"):
        raise InputError(
            f"{model_folder}: the model learnt the invented market of --source demo; it trades --venue local. For an exchange run "
            "python -m strategies.walkforward --symbol BTCUSDT --source bybit"
        )
    limits = Limits(
        max_position=s.max_position, daily_loss=s.daily_loss, drawdown=s.drawdown, orders_per_bar=s.orders_per_bar,
        collar_bps=s.collar_bps, stale_s=s.stale_s or _stale_s(strategy, s.venue),
    )  # fmt: skip
    name = f"{_called(strategy.traded)}-{s.venue}-{s.run.resolve().name[-6:]}"
    endpoint, anchor_ms = s.endpoint, None
    if s.venue == "local" and endpoint is None:
        name += time.strftime("-%m%d%H%M%S", time.gmtime())  # each local exchange begins a new account
    folder = s.out / "paper" / name
    make_folder(folder, "--out")
    if strategy.stays_flat:
        console.print(
            f"note: no order will come, {strategy.flat_because}. A model that trades: python -m strategies.walkforward --preset tour; "
            "--evidence 1 asks a run for no record",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    with Held(folder):
        journal = Journal(folder / "journal.sqlite")
        if journal.symbols not in ((), strategy.traded):
            raise InputError(
                f"{folder.name} trades {','.join(journal.symbols)}; give --symbol {','.join(journal.symbols)}, or another --out"
            )
        if s.venue == "local" and endpoint is None:
            console.print(
                "[bold black on yellow] SIMULATED MARKET [/] a stand-in exchange on this machine; no real prices"
            )
            local, anchor_ms = _local(s, strategy, folder)
            endpoint, keys = local.url, local.keys
        assert keys is not None
        try:
            return _trade(s, console, name, folder, journal, strategy, limits, keys, endpoint, anchor_ms, write_page)
        finally:
            if local is not None:
                local.stop()
            journal.close()


def _called(symbols: Sequence[str]) -> str:
    more = f"-and-{len(symbols) - 4}" if len(symbols) > 4 else ""
    return "-".join(symbols[:4]).lower() + more


def _keys(s: PaperSettings) -> Keys | None:
    return None if s.venue == "local" and s.endpoint is None else load_keys(s.keys, s.venue)


def _stale_s(strategy: Strategy, venue: str) -> float:
    return 60.0 if venue == "local" else max(180.0, 3 * strategy.model.interval_ns / 1e9)


def _local(s: PaperSettings, strategy: Strategy, folder: Path) -> tuple[LocalExchange, int]:
    """A stand-in that replays the simulated market at the model's interval, from the history the model needs."""
    start = np.datetime64("2024-01-01", "ns")
    need = s.history or strategy.history_bars
    if s.research:
        need = max(need, bars_needed(s.run, strategy.model.interval_ns))
    count = need + (s.bars or 20_000) + 1000
    demo = strategy.model.extra.get("market")
    panel = simulate(strategy.traded, interval_name(strategy.model.interval_ns), start=start,
                     end=start + count * np.timedelta64(strategy.model.interval_ns, "ns"),
                     seed=demo["seed"] if demo else 0, recipe=DEMO if demo else None)  # fmt: skip
    save_candles(folder / "market.npz", panel)
    length = strategy.model.interval_ns // 1_000_000
    first = int(panel.timestamps[0].astype("datetime64[ms]").astype(np.int64))
    return LocalExchange(folder / "market.npz", first + need * length + length // 2, s.speed), first


def _trade(
    s: PaperSettings, console: Console, name: str, folder: Path, journal: Journal, strategy: Strategy, limits: Limits,
    keys: Keys, endpoint: str | None, anchor_ms: int | None, write_page: Pages,
) -> int:  # fmt: skip
    interval = interval_name(strategy.model.interval_ns)
    settings = {"run": str(s.run.resolve())} | {
        k: str(v)
        for k, v in vars(s).items()
        if k not in ("run", "keys", "webhook", "heartbeat", "resume", "quiet", "as_json")
    }
    stop_loss = strategy.stop_loss if s.stop_loss is None else s.stop_loss
    settings["stop_loss"] = repr(stop_loss)
    journal.set(
        id=name, settings=_json(settings), symbols=",".join(strategy.traded), interval=interval, venue=s.venue, run=s.run.resolve().name,
        endpoint=endpoint or "", flat=strategy.flat_because, model=str(strategy.folder), arithmetic="pinned" if pinned() else "",
    )  # fmt: skip
    venue = connect(
        s.venue, keys, strategy.traded, interval, endpoint, lambda text: journal.event("trouble", keys.redact(text))
    )
    alerts = Alerts(name, s.webhook, s.heartbeat, stalled_s=max(180.0, 3 * venue.timing.settle_s))
    risk = Risk(limits, journal, strategy.model.interval_ns // 1_000_000)
    if s.resume and journal.get("state") == HALTED:
        journal.set(state=RECONCILING, why="", foreign="", cleanup="")
        last = journal.last_decision()
        risk.restart(0 if last is None else int(last["open_ms"]))
    trader = Trader(
        interval=interval, strategy=strategy, journal=journal, exchange=venue.exchange, market=venue.market,
        data=venue.data, risk=risk, streams=venue.streams, inbox=venue.inbox, timing=venue.timing, kill_file=folder / KILL_FILE,
        hedge=s.hedge, limit_orders=s.orders == "limit", leverage=s.leverage, stop_loss=stop_loss, foreign=s.foreign,
        history_bars=s.history or 0, anchor_ms=anchor_ms, most_bars=s.bars, flatten_on_stop=s.on_stop == "flatten",
        flatten_on_halt=s.on_halt == "flatten", tell=alerts.tell, beat=alerts.beat,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: trader.ask_to_stop("signal"))
    page = folder.parent / f"{name}.html"
    if s.research:
        research = Research(s.run, s.research, folder, trader, s.any_code)
        trader.reload, trader.at_end = research.poll, research.stop
    try:
        with _View(console, trader, lambda: write_page(journal.path, page), quiet=s.quiet):
            try:
                code = trader.run()
            finally:
                trader.at_end()
                _close(alerts, journal)
    except KeysRefused as error:
        raise InputError(f"the exchange refuses the keys: {error}; make a pair for {s.venue}") from None
    except ExchangeError as error:
        raise InputError(f"the exchange did not let us start: {error}") from None
    write_page(journal.path, page)
    result = console_of(s.as_json)  # also where progress is not wanted
    result.print(f"{journal.get('state')}: {journal.get('why')}", markup=False)
    result.print(f"page: {page}", markup=False, soft_wrap=True)
    if s.as_json:
        print(_json({**standing(journal), "page": str(page)}))
    return code


class _View:
    """A live table on a terminal; a line per bar elsewhere; and the page, every PAGE_EVERY_S."""

    def __init__(self, console: Console, trader: Trader, write_page: Callable[[], object], quiet: bool) -> None:
        self._trader, self._write_page, self._console = trader, write_page, console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal and not quiet else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._quiet = quiet

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._live is not None:
            self._live.stop()

    def _page(self, journal: Journal) -> None:
        """Weeks may pass before the end: the page is written anew now and then. A page that fails stops no trading."""
        if journal.last_decision() is None:
            return
        try:
            self._write_page()
        except Exception as error:
            self._console.print(f"the page could not be written: {error}", markup=False)

    def _run(self) -> None:
        journal = Journal(self._trader.journal.path, read_only=True)
        seen, paged = "", time.monotonic()
        while not self._stop.wait(0.5):
            if time.monotonic() - paged > PAGE_EVERY_S:
                self._page(journal)
                paged = time.monotonic()
            if self._quiet:
                continue
            if self._live is not None:
                self._live.update(status_table(journal), refresh=True)
                continue
            line = say_decision(journal)
            line = f"{self._trader.status:<11} {line} {self._trader.why}"
            if line != seen:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
                seen = line
        journal.close()


def _close(alerts: Alerts, journal: Journal) -> None:
    told = alerts.close()
    with suppress(JournalError):  # a full disk: they are told all the same
        for outcome in told:
            journal.event("alert", outcome)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
