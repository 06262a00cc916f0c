"""What a person sees and asks of paper accounts from outside: status, stop, replay, the page. A folder each under OUT/paper."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.arithmetic import can_pin, pin
from data.atomic import write_text
from data.intervals import interval_ns, say_time
from data.panel import InputError
from data.progress import console_of
from strategies.paper.orders.closing import FLAT, KEPT, NOT_CLEAN, Closing
from strategies.paper.orders.keys import Keys, load_keys
from strategies.paper.orders.placement import Desk
from strategies.paper.orders.reconcile import Books
from strategies.paper.records.holdings import exposure, holdings
from strategies.paper.records.journal import Journal, settings_of
from strategies.paper.records.status import said_of_risk, standing
from strategies.paper.venues import connect

KILL_FILE = "STOP"
#: writes the page of a journal; handed in from above
Pages = Callable[[Path, Path], object]


class Held:
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


def say_bar(open_ms: int) -> str:
    return say_time(np.datetime64(int(open_ms), "ms"))


def status_table(journal: Journal) -> Table:
    """State, position, equity, orders, last events of one paper account."""
    state = journal.get("state", "never started")
    style = {"running": "green", "halted": "bold red", "reconciling": "yellow", "stopping": "yellow"}.get(state, "")
    table = Table(title=journal.get("id", "?"), show_header=False)
    table.add_row("state", f"[{style}]{state}[/]" if style else state)
    table.add_row("why", escape(journal.get("why")) or "-")
    if journal.get("flat"):
        table.add_row("no order", escape(journal.get("flat")))
    table.add_row("market", f"{', '.join(journal.symbols)} {journal.get('interval')} on {journal.get('venue')}")
    last = journal.last_decision()
    rows = {} if last is None else journal.decision(int(last["open_ms"]))
    if last is not None:
        table.add_row("last bar", say_bar(last["open_ms"]))
    equity = journal.rows("SELECT * FROM equity ORDER BY open_ms")
    now = float(equity[-1]["equity"]) if equity else 0.0
    if equity:
        first = float(equity[0]["equity"])
        table.add_row("equity", f"{now:,.2f} ({now / first - 1:+.2%} since {say_bar(equity[0]['open_ms'])})")
    account = holdings(journal, now)
    for symbol, held in account.items():
        position = f"position {held.size}"
        if held.size:
            position += (f" at {held.average:,.10g}" if held.average else "") + f", {held.weight:+.3f} of equity"
        table.add_row(symbol, escape(f"{position}{_say_row(rows.get(symbol))}"))
    for symbol, line in said_of_risk(journal):
        target, _, rest = line.partition(" ")
        table.add_row(f"{symbol} {target}", escape(rest))
    if len(account) > 1:
        gross, net = exposure(account)
        table.add_row("exposure", f"gross {gross:.3f}, net {net:+.3f} of equity")
    counts = journal.rows("SELECT status, COUNT(*) AS n FROM intents GROUP BY status ORDER BY status")
    table.add_row("orders", ", ".join(f"{r['n']} {r['status']}" for r in counts) or "none")
    kinds = journal.rows("SELECT kind, COUNT(*) AS n FROM executions GROUP BY kind ORDER BY kind")
    table.add_row("executions", ", ".join(f"{r['n']} {r['kind']}" for r in kinds) or "none")
    for row in journal.rows("SELECT * FROM events ORDER BY id DESC LIMIT 5"):
        table.add_row(say_bar(row["time_ms"]), escape(f"{row['kind']}: {row['text']}"))
    return table


def _say_row(row: Any) -> str:
    if row is None:
        return ""
    return f"; forecast {_number(row['forecast'])}, target {row['target']:+.3f}: {row['note']}"


def say_decision(journal: Journal) -> str:
    """The newest bar in a line: targets and what became of them, by symbol where there are several."""
    last = journal.last_decision()
    if last is None:
        return ""
    rows = journal.decision(int(last["open_ms"]))
    several = len(rows) > 1
    parts = [
        f"{symbol + ' ' if several else ''}target {row['target']:+.3f}  {row['note']}" for symbol, row in rows.items()
    ]
    return f"{say_bar(last['open_ms'])}  " + " | ".join(parts)


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.4f}"


def _folders(out: Path, name: str | None) -> list[Path]:
    found = sorted(p.parent for p in (out / "paper").glob("*/journal.sqlite"))
    chosen = [p for p in found if name in (None, p.name)]
    if not chosen:
        there = f"there are {', '.join(p.name for p in found)}" if found else "nothing has been traded yet"
        raise InputError(f"no paper account {name or ''} in {out / 'paper'}; {there}".replace("  ", " "))
    return chosen


def newest(out: Path, name: str | None) -> Path:
    """Folder of an account: of that name, or the one written to last."""
    return max(_folders(out, name), key=lambda folder: (folder / "journal.sqlite").stat().st_mtime)


def show_status(out: Path, name: str | None, as_json: bool = False) -> int:
    console = console_of()
    accounts = []
    for folder in _folders(out, name):
        journal = Journal(folder / "journal.sqlite", read_only=True)
        alive = _alive(folder)
        if as_json:
            accounts.append({**standing(journal), "alive": alive})
        else:
            table = status_table(journal)
            table.add_row("process", "alive" if alive else "not running")
            console.print(table)
        journal.close()
    if as_json:
        sys.stdout.write(json.dumps(accounts) + "\n")
    return 0


def _alive(folder: Path) -> bool:
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def stop_paper(
    out: Path, name: str | None, flatten: bool, key_file: Path | None, as_json: bool = False, wait_s: float = 600.0
) -> int:
    """The kill switch. Where the process is gone, this one cancels and flattens itself. 0 only where no order of ours is left and,
    where asked, nothing is held; 1 where that was not reached in `wait_s`, which is said.
    """
    folders = _folders(out, name)
    alive = [f for f in folders if _alive(f)]
    if name is None and len(alive) > 1:
        raise InputError(f"several are running: {', '.join(f.name for f in alive)}; name one")
    if name is None and not alive and len(folders) > 1:
        raise InputError(f"none is running; name the account to clean up: {', '.join(f.name for f in folders)}")
    folder = alive[0] if alive else folders[-1]
    console = console_of(as_json)
    deadline = time.monotonic() + wait_s
    ended, going = "", False
    if alive:
        write_text(folder / KILL_FILE, "stop flatten\n" if flatten else "stop\n")
        ended, going = _watch_end(folder, console, deadline)
    good = (FLAT,) if flatten else (FLAT, KEPT)
    if not going and ended not in good:
        # it ended otherwise than asked (or was not there): this process goes on
        ended = _clean_up(folder, flatten, key_file, console, deadline, lost=bool(alive))
    clean = ended in good and not going
    journal = Journal(folder / "journal.sqlite", read_only=True)
    console.print(f"{folder.name}: {journal.get('state')}: {journal.get('why')}", markup=False)
    if going:
        console.print(f"it goes on trying; look again: python -m strategies.paper status {folder.name}", markup=False)
    elif ended != journal.get("why"):
        console.print(f"stop: {ended or NOT_CLEAN}", markup=False)
    if as_json:
        sys.stdout.write(json.dumps({**standing(journal), "clean": clean, "ended": ended}) + "\n")
    journal.close()
    return 0 if clean else 1


def _watch_end(folder: Path, console: Console, deadline: float) -> tuple[str, bool]:
    """(what the living trader reported in the end, whether it still lives). Says what it is at."""
    journal, told = Journal(folder / "journal.sqlite", read_only=True), ""
    with console.status(f"stopping {folder.name}"):
        while (going := _alive(folder)) and time.monotonic() < deadline:
            now = f"{journal.get('state')}: {journal.get('why')}"
            if journal.get("state") == "stopping" and now != told:
                told = now
                console.print(f"{folder.name}: {now}", markup=False)
            time.sleep(0.1)
    ended = journal.get("ended")
    journal.close()
    return ended, going


def _clean_up(folder: Path, flatten: bool, key_file: Path | None, console: Console, deadline: float, lost: bool) -> str:
    """Cancels and flattens without the process that traded, and without its model: a kill switch must not need either. The words
    of the ending. lost: the process was alive when this began."""
    with Held(folder):
        journal = Journal(folder / "journal.sqlite")
        settings, name = settings_of(journal), journal.get("venue")
        if name == "local" and settings.get("endpoint", "None") == "None":
            if lost:  # it has taken its exchange with it
                return journal.get("ended")
            raise InputError(f"{folder.name} is not running, and its stand-in exchange ended with it")
        closing = _closing(journal, load_keys(key_file, name))

        def tell(left: str) -> None:
            journal.set(**({} if journal.get("state") == "halted" else {"state": "stopping", "why": left}))
            console.print(f"{folder.name}: {left}", markup=False)

        with console.status(f"{folder.name} is not running: cleaning up its account"):
            ending = closing.until_clean(
                flatten, journal.last_candle_ms(), "stop", lambda: time.monotonic() > deadline, tell
            )
        journal.set(ended=ending.words)
        if journal.get("state") == "halted":  # what a person has to look at stays so
            journal.event("stop", f"stopped while halted: {ending.words}")
            if ending.clean:
                journal.set(cleanup="")
        else:
            journal.set(state="stopped", why=ending.words)
            journal.event("state", f"stopped: {ending.words}")
        journal.close()
    return ending.words


def _closing(journal: Journal, keys: Keys) -> Closing:
    symbols, interval, name = journal.symbols, journal.get("interval"), journal.get("venue")
    endpoint = journal.get("endpoint") if name == "local" else None
    venue = connect(name, keys, symbols, interval, endpoint, lambda text: journal.event("trouble", keys.redact(text)))
    desk = Desk(
        venue.exchange, journal, settle_s=venue.timing.settle_s, poll_s=venue.timing.order_poll_s, listen=time.sleep
    )  # fmt: skip
    hedge = settings_of(journal).get("hedge") == "True"
    books = Books(
        venue.exchange, journal, desk, symbols, interval_ns(interval) // 1_000_000, foreign="adopt", hedge=hedge, pause=time.sleep
    )  # fmt: skip
    return Closing(books, pause=time.sleep, first_s=venue.timing.order_poll_s)


def verify(out: Path, name: str | None, as_json: bool = False) -> int:
    """Are the journals sound? The file by SQLite's own check, then every value. 1 where one is not; what is wrong is said."""
    console, found = console_of(as_json), {}
    for folder in _folders(out, name):
        path = folder / "journal.sqlite"
        try:
            journal = Journal(path, read_only=True)
            orders, fills = (len(journal.rows(f"SELECT 1 FROM {table}")) for table in ("intents", "executions"))
            journal.close()
            found[folder.name] = ""
            console.print(f"{folder.name}: sound ({orders:,} orders, {fills:,} executions)", markup=False)
        except InputError as error:
            found[folder.name] = str(error)
            console.print(f"{folder.name}: {error}", markup=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    return int(any(found.values()))


def show_replay(out: Path, name: str | None, as_json: bool, write_page: Pages) -> int:
    folder = _folders(out, name)[-1]
    journal = Journal(folder / "journal.sqlite", read_only=True)
    if journal.get("arithmetic") == "pinned" and can_pin():
        pin()  # as what it repeats
    from strategies.paper.replay import (  # loads the model's libraries; status and stop answer without them
        PARTS,
        explain,
    )

    told = explain(journal)
    console = console_of(as_json)
    console.print(
        f"{folder.name}: {told.bars} bars; targets identical on {told.identical} of {told.compared}", markup=False
    )
    table = Table("part", "USDT")
    for label, value in told.parts():
        table.add_row(label, f"{value:,.4f}")
    console.print(table)
    if len(told.symbols) > 1:
        split = Table("symbol", *PARTS, title="by symbol, USDT")
        for symbol, amounts in told.by_symbol():
            split.add_row(symbol, *(f"{amount:,.2f}" for amount in amounts))
        console.print(split)
    journal.close()
    page = folder.parent / f"{folder.name}.html"
    write_page(folder / "journal.sqlite", page)
    console.print(f"page: {page}", markup=False, soft_wrap=True)
    if as_json:
        numbers = {name: value for name, value in vars(told).items() if isinstance(value, (int, float))}
        parts = {symbol: vars(profit) for symbol, profit in told.symbols.items()}
        sys.stdout.write(json.dumps({"id": folder.name, **numbers, "symbols": parts, "page": str(page)}) + "\n")
    return 0 if told.identical == told.compared else 1
