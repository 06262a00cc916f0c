"""What the paper command does: open a journal, connect, trade, and tell a person about it."""

from __future__ import annotations

import re
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console
from rich.live import Live
from rich.table import Table

from data.atomic import write_text
from data.intervals import interval_name, say_time
from data.panel import InputError
from strategies.decide import Strategy, load_strategy
from strategies.exchange import ExchangeError, Keys, KeysRefused, load_keys
from strategies.journal import Journal, now_ms, settings_of
from strategies.live import HALTED, RECONCILING, Trader
from strategies.risk import Limits, Risk
from strategies.venues import VENUES, LocalExchange, connect, save_candles

KILL_FILE = "STOP"
PAGE_EVERY_S = 600.0


@dataclass(frozen=True)
class Settings:
    """The flags of `run` (strategies.paper)."""

    run: Path
    symbol: str
    venue: str
    keys: Path | None
    interval: str | None
    orders: str
    hedge: bool
    leverage: int
    foreign: str
    max_position: float
    daily_loss: float
    drawdown: float
    orders_per_bar: int
    collar_bps: float
    stale_s: float
    on_stop: str
    on_halt: str
    resume: bool
    research: str | None
    any_code: bool
    webhook: str | None
    bars: int | None
    history: int | None
    speed: float
    endpoint: str | None
    out: Path
    quiet: bool

    def __post_init__(self) -> None:
        for name, known in (
            ("venue", VENUES), ("orders", ("market", "limit")), ("on_stop", ("keep", "flatten")),
            ("on_halt", ("keep", "flatten")), ("foreign", ("halt", "adopt", "flatten")),
            ("research", (None, "weekly", "drift")),
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in known:
                more = " (mainnet is not offered)" if name == "venue" else ""
                choices = ", ".join(str(k) for k in known if k)
                raise InputError(f"--{name.replace('_', '-')} must be one of {choices}, not {value!r}{more}")
        if not re.fullmatch("[A-Z0-9]{2,20}", self.symbol):
            raise InputError(f"--symbol takes one symbol like BTCUSDT, not {self.symbol!r}")
        if self.leverage < 1:
            raise InputError(f"--leverage must be at least 1, not {self.leverage}")


def last_model(run: Path) -> Path:
    """The model folder of a run's last window. InputError where there is none."""
    models = run / "models"
    numbers = sorted(int(p.name) for p in models.iterdir() if p.name.isdigit()) if models.is_dir() else []
    if not numbers:
        raise InputError(
            f"{run} holds no finished run (no models/<window>); make one first: python -m strategies.walkforward --symbol BTCUSDT"
        )
    return models / str(numbers[-1])


def trade(s: Settings) -> int:
    """`run`: returns the exit code."""
    import torch

    torch.set_num_threads(1)  # one bar at a time: threads only get in each other's way
    console = Console(quiet=s.quiet)
    model_folder = last_model(s.run)
    local: LocalExchange | None = None
    keys = _keys(s)
    strategy = load_strategy(model_folder, s.symbol, s.interval, s.any_code)
    limits = Limits(
        max_position=s.max_position, daily_loss=s.daily_loss, drawdown=s.drawdown, orders_per_bar=s.orders_per_bar,
        collar_bps=s.collar_bps, stale_s=s.stale_s or _stale_s(strategy, s.venue),
    )  # fmt: skip
    name = f"{s.symbol.lower()}-{s.venue}-{s.run.resolve().name[-6:]}"
    endpoint, anchor_ms = s.endpoint, None
    if s.venue == "local" and endpoint is None:
        name += time.strftime("-%m%d%H%M%S", time.gmtime())  # each local exchange begins a new account
    folder = s.out / "paper" / name
    folder.mkdir(parents=True, exist_ok=True)
    if strategy.stays_flat:
        console.print(
            "note: the run found no plan worth trading in its last window, so this model stays flat (evidence = 0 in the run's "
            "settings lowers that bar)"
        )
    with _Held(folder):
        journal = Journal(folder / "journal.sqlite")
        if s.venue == "local" and endpoint is None:
            console.print(
                "[bold black on yellow] SIMULATED MARKET [/] a stand-in exchange on this machine; no real prices"
            )
            local, anchor_ms = _local(s, strategy, folder)
            endpoint, keys = local.url, local.keys
        assert keys is not None
        try:
            return _trade(s, console, name, folder, journal, strategy, limits, keys, endpoint, anchor_ms)
        finally:
            if local is not None:
                local.stop()
            journal.close()


def _keys(s: Settings) -> Keys | None:
    return None if s.venue == "local" and s.endpoint is None else load_keys(s.keys, s.venue)


def _stale_s(strategy: Strategy, venue: str) -> float:
    return 60.0 if venue == "local" else max(180.0, 3 * strategy.model.interval_ns / 1e9)


def _local(s: Settings, strategy: Strategy, folder: Path) -> tuple[LocalExchange, int]:
    """A stand-in that replays the simulated market at the model's interval, from the history the model needs."""
    import numpy as np

    from data.simulated import simulate
    from strategies.research import bars_needed

    start = np.datetime64("2024-01-01", "ns")
    need = s.history or strategy.history_bars
    if s.research:
        need = max(need, bars_needed(s.run, strategy.model.interval_ns))
    count = need + (s.bars or 20_000) + 1000
    panel = simulate([s.symbol], interval_name(strategy.model.interval_ns), start=start,
                     end=start + count * np.timedelta64(strategy.model.interval_ns, "ns"))  # fmt: skip
    save_candles(folder / "market.npz", panel, s.symbol)
    length = strategy.model.interval_ns // 1_000_000
    first = int(panel.timestamps[0].astype("datetime64[ms]").astype(np.int64))
    return LocalExchange(folder / "market.npz", first + need * length + length // 2, s.speed), first


def _trade(
    s: Settings, console: Console, name: str, folder: Path, journal: Journal, strategy: Strategy, limits: Limits,
    keys: Keys, endpoint: str | None, anchor_ms: int | None,
) -> int:  # fmt: skip
    interval = interval_name(strategy.model.interval_ns)
    settings = {"run": str(s.run.resolve())} | {
        k: str(v) for k, v in vars(s).items() if k not in ("run", "keys", "webhook", "resume", "quiet")
    }
    journal.set(
        id=name, settings=_json(settings), symbol=s.symbol, interval=interval, venue=s.venue, run=s.run.resolve().name,
        endpoint=endpoint or "", model=str(strategy.folder),
    )  # fmt: skip
    venue = connect(
        s.venue, keys, s.symbol, interval, endpoint, lambda text: journal.event("trouble", keys.redact(text))
    )
    risk = Risk(limits, journal, strategy.model.interval_ns // 1_000_000)
    if s.resume and journal.get("state") == HALTED:
        journal.set(state=RECONCILING, why="", foreign="")
        last = journal.last_decision()
        risk.restart(0 if last is None else int(last["open_ms"]))
    trader = Trader(
        symbol=s.symbol, interval=interval, strategy=strategy, journal=journal, exchange=venue.exchange, market=venue.market,
        data=venue.data, risk=risk, streams=venue.streams, inbox=venue.inbox, timing=venue.timing, kill_file=folder / KILL_FILE,
        hedge=s.hedge, limit_orders=s.orders == "limit", leverage=s.leverage, foreign=s.foreign, history_bars=s.history or 0,
        anchor_ms=anchor_ms, most_bars=s.bars, flatten_on_stop=s.on_stop == "flatten",
        flatten_on_halt=s.on_halt == "flatten", on_halt=lambda why: notify(s.webhook, name, why, journal),
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(trader, "stopping", trader.stopping or "signal"))
    page = folder.parent / f"{name}.html"
    if s.research:
        from strategies.research import Research

        research = Research(s.run, s.research, folder, trader, s.any_code)
        trader.reload, trader.at_end = research.poll, research.stop
    try:
        with _View(console, trader, name, quiet=s.quiet):
            code = trader.run()
            trader.at_end()
    except KeysRefused as error:
        raise InputError(f"the exchange refuses the keys: {error}; make a pair for {s.venue}") from None
    except ExchangeError as error:
        raise InputError(f"the exchange did not let us start: {error}") from None
    write_page(folder, page)
    console.print(f"{journal.get('state')}: {journal.get('why')}", markup=False)
    console.print(f"page: {page}", markup=False, soft_wrap=True)
    return code


def notify(url: str | None, name: str, why: str, journal: Journal) -> None:
    """Tell a webhook of a halt, from a thread: a dead webhook must not keep anything waiting."""
    if not url:
        return
    outcome: list[str] = []

    def post() -> None:
        import requests

        try:
            answer = requests.post(url, json={"paper": name, "state": HALTED, "why": why}, timeout=5)
            outcome.append(f"webhook told: HTTP {answer.status_code}")
        except requests.RequestException as error:
            outcome.append(f"webhook could not be told ({type(error).__name__})")

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    thread.join(6.0)
    journal.event("webhook", outcome[0] if outcome else "webhook is slow")


def write_page(folder: Path, page: Path) -> None:
    from reports.paper import build_paper_page

    build_paper_page(folder / "journal.sqlite", page)


class _Held:
    """The folder belongs to one process."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, filelock.FileLock(folder / ".lock")

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"{self._folder.name} is being traded already; see: python -m strategies.paper status"
            ) from None
        (self._folder / KILL_FILE).unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


# what a person sees


class _View:
    """A live table on a terminal; a line per bar elsewhere."""

    def __init__(self, console: Console, trader: Trader, name: str, quiet: bool) -> None:
        self._trader, self._name, self._console = trader, name, console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal and not quiet else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._quiet = quiet

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()
        if not self._quiet:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._live is not None:
            self._live.stop()

    def _run(self) -> None:
        journal = Journal(self._trader.journal.path, read_only=True)
        seen = ""
        while not self._stop.wait(0.5):
            if self._live is not None:
                self._live.update(status_table(journal), refresh=True)
                continue
            last = journal.last_decision()
            line = "" if last is None else f"{_when(last['open_ms'])}  target {last['target']:+.3f}  {last['note']}"
            line = f"{self._trader.status:<11} {line} {self._trader.why}"
            if line != seen:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
                seen = line
        journal.close()


def _when(open_ms: int) -> str:
    import numpy as np

    return say_time(np.datetime64(int(open_ms), "ms"))


def status_table(journal: Journal) -> Table:
    """State, position, equity, orders, last events of one paper account."""
    state = journal.get("state", "never started")
    style = {"running": "green", "halted": "bold red", "reconciling": "yellow"}.get(state, "")
    table = Table(title=journal.get("id", "?"), show_header=False)
    table.add_row("state", f"[{style}]{state}[/]" if style else state)
    table.add_row("why", journal.get("why") or "-")
    table.add_row("market", f"{journal.get('symbol')} {journal.get('interval')} on {journal.get('venue')}")
    last = journal.last_decision()
    if last is not None:
        table.add_row(
            "last bar", f"{_when(last['open_ms'])}: forecast {_number(last['forecast'])}, target {last['target']:+.3f}"
        )
        table.add_row("outcome", str(last["note"]))
    equity = journal.rows("SELECT * FROM equity ORDER BY open_ms")
    if equity:
        first, now = float(equity[0]["equity"]), float(equity[-1]["equity"])
        table.add_row("equity", f"{now:,.2f} ({now / first - 1:+.2%} since {_when(equity[0]['open_ms'])})")
    position = journal.rows("SELECT * FROM positions ORDER BY id DESC LIMIT 1")
    if position:
        table.add_row("position", f"{position[0]['size']} at {position[0]['average']}")
    counts = journal.rows("SELECT status, COUNT(*) AS n FROM intents GROUP BY status ORDER BY status")
    table.add_row("orders", ", ".join(f"{r['n']} {r['status']}" for r in counts) or "none")
    kinds = journal.rows("SELECT kind, COUNT(*) AS n FROM executions GROUP BY kind ORDER BY kind")
    table.add_row("executions", ", ".join(f"{r['n']} {r['kind']}" for r in kinds) or "none")
    for row in journal.rows("SELECT * FROM events ORDER BY id DESC LIMIT 5"):
        table.add_row(_when(row["time_ms"]), f"{row['kind']}: {row['text']}")
    return table


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.4f}"


def _folders(out: Path, name: str | None) -> list[Path]:
    found = sorted(p.parent for p in (out / "paper").glob("*/journal.sqlite"))
    chosen = [p for p in found if name in (None, p.name)]
    if not chosen:
        there = f"there are {', '.join(p.name for p in found)}" if found else "nothing has been traded yet"
        raise InputError(f"no paper account {name or ''} in {out / 'paper'}; {there}".replace("  ", " "))
    return chosen


def show_status(out: Path, name: str | None) -> int:
    console = Console()
    for folder in _folders(out, name):
        journal = Journal(folder / "journal.sqlite", read_only=True)
        table = status_table(journal)
        table.add_row("process", "alive" if _alive(folder) else "not running")
        console.print(table)
        journal.close()
    return 0


def _alive(folder: Path) -> bool:
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def stop_paper(out: Path, name: str | None, flatten: bool, key_file: Path | None) -> int:
    """The kill switch. Where the process is gone, this one cancels and flattens itself."""
    folders = _folders(out, name)
    alive = [f for f in folders if _alive(f)]
    if name is None and len(alive) > 1:
        raise InputError(f"several are running: {', '.join(f.name for f in alive)}; name one")
    folder = alive[0] if alive else folders[-1]
    console = Console()
    if alive:
        write_text(folder / KILL_FILE, "stop flatten\n" if flatten else "stop\n")
        with console.status(f"stopping {folder.name}"):
            for _ in range(600):
                if not _alive(folder):
                    break
                time.sleep(0.1)
            else:
                raise InputError(f"{folder.name} has not stopped in 60 s; its file {folder / KILL_FILE} asks it to")
    else:
        journal = Journal(folder / "journal.sqlite")
        if journal.get("venue") == "local":
            raise InputError(f"{folder.name} is not running, and its stand-in exchange ended with it")
        _clean_up(folder, journal, flatten, load_keys(key_file, journal.get("venue")))
        journal.close()
    journal = Journal(folder / "journal.sqlite", read_only=True)
    console.print(f"{folder.name}: {journal.get('state')}: {journal.get('why')}", markup=False)
    return 0


def _clean_up(folder: Path, journal: Journal, flatten: bool, keys: Keys) -> None:
    symbol, interval = journal.get("symbol"), journal.get("interval")
    settings = settings_of(journal)
    strategy = load_strategy(Path(journal.get("model")), symbol, interval, any_code=True)
    venue = connect(
        journal.get("venue"), keys, symbol, interval, None, lambda text: journal.event("trouble", keys.redact(text))
    )
    trader = Trader(
        symbol=symbol, interval=interval, strategy=strategy, journal=journal, exchange=venue.exchange, market=venue.market,
        data=venue.data, risk=Risk(Limits(), journal, strategy.model.interval_ns // 1_000_000), streams=[], inbox=venue.inbox,
        timing=venue.timing, kill_file=folder / KILL_FILE, hedge=settings.get("hedge") == "True", foreign="adopt",
        flatten_on_stop=flatten,
    )  # fmt: skip
    if not trader.history.count:
        trader.history.add([(now_ms() // trader.interval_ms * trader.interval_ms, 1.0, 1.0, 1.0, 1.0, 0.0)])
    trader.shut()


def show_replay(out: Path, name: str | None) -> int:
    from strategies.replay import explain

    folder = _folders(out, name)[-1]
    journal = Journal(folder / "journal.sqlite", read_only=True)
    told = explain(journal)
    console = Console()
    console.print(
        f"{folder.name}: {told.bars} bars; targets identical on {told.identical} of {told.compared}", markup=False
    )
    table = Table("part", "USDT")
    for label, value in told.parts():
        table.add_row(label, f"{value:,.4f}")
    console.print(table)
    journal.close()
    page = folder.parent / f"{folder.name}.html"
    write_page(folder, page)
    console.print(f"page: {page}", markup=False, soft_wrap=True)
    return 0 if told.identical == told.compared else 1


def _json(values: dict[str, Any]) -> str:
    import json

    return json.dumps(values, sort_keys=True)


__all__ = ["Settings", "show_replay", "show_status", "stop_paper", "trade"]
