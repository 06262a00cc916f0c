"""python -m tests.strategies.paper.soak: paper trading for thousands of bars under random faults and SIGKILLs, then the books are compared.

The exchange stands in this process, its clock moves from bar to bar; the trader is the real command in a process of its own,
which is killed at random moments and started again. `--symbols 3`: a portfolio from one account, under a network that reads
all of them together, with faults of single symbols. Prints one JSON object; exit code 0 where nothing was lost or doubled. Where a
bar is late, the stack of the trader's main thread is in log.txt (`--keep`).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from data.standin import Clock, Fault, Market, StandIn, World
from data.standin.private import Private
from data.standin.streams import StreamFault
from strategies.paper.orders.reconcile import Books
from strategies.paper.records.journal import Journal
from strategies.paper.replay import explain
from tests.strategies.paper.rig import HISTORY, HOUR_MS, KEYS, market_panel, replay_tables, save_model
from tests.strategies.paper.test_many_symbols import TOGETHER

ROOT = Path(__file__).resolve().parents[3]
ANSWERS = ("drop", "hang", "half", "not_json", "empty", "wrong_shape", "reset", "http_429", "http_403", "http_500",
           "http_502_html", "http_503", "code_10000", "code_10002", "code_10006", "code_10006_past", "code_10016",
           "code_10018")  # fmt: skip
REFUSALS = ("code_10001", "code_110007", "code_110017", "code_110094")
PATHS = ("/v5/order/create", "/v5/order/realtime", "/v5/order/history", "/v5/execution/list", "/v5/position/list",
         "/v5/account/wallet-balance", "/v5/market/kline", "/v5/market/tickers")  # fmt: skip
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
#: the command, with a signal that writes where its main thread is (of running threads, that may crash the process)
COMMAND = (
    "import faulthandler, runpy, signal; faulthandler.register(signal.SIGUSR1, all_threads=False); "
    "runpy.run_module('strategies.paper', run_name='__main__', alter_sys=True)"
)
STREAM_KINDS = ("drop", "duplicate", "reorder", "abort", "half_open", "not_json", "wrong_shape")


@dataclass
class Soak:
    bars: int
    kills: int
    every: int
    seed: int
    folder: Path
    minutes: float = 1e9
    count: int = 1
    stop_loss: float = 0.0
    bare_s: float = 0.0  # longest time that a position was without its stop
    done: Counter[str] = field(default_factory=Counter)
    halts: list[str] = field(default_factory=list)
    starts: int = 0
    late: Counter[str] = field(default_factory=Counter)
    harmed: str = "none"
    loading: bool = True  # the trader's process has acted on no bar yet

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.symbols = SYMBOLS[: self.count]
        panel = market_panel(HISTORY + self.bars + 3 * self.kills + 30, self.symbols)
        tables = replay_tables(panel)
        self.clock = Clock(int(tables[self.symbols[0]][0][0]) + HISTORY * HOUR_MS + 1, speed=0.0)
        self.private = Private(KEYS.key, KEYS.secret, tick_s=0.02, wallet=Decimal(1_000_000))
        self.standin = StandIn(World(Market.replay(tables, HOUR_MS), self.clock), [self.private], tick_s=0.02)
        tied: dict[str, Any] = {}
        if self.count > 1:
            tied = {"portfolio": {"weighting": "volatility_target"}, "genotype": replace(TOGETHER, assets=self.symbols)}
        save_model(self.folder / "run" / "models" / "0", panel, symbols=self.symbols, target_volatility=0.04, **tied)
        name = "-".join(self.symbols).lower() + "-local-run"
        self.journal_path = self.folder / "reports" / "paper" / name / "journal.sqlite"
        self.log = (self.folder / "log.txt").open("ab")
        self.trader: subprocess.Popen[bytes] | None = None

    # the trader

    def start(self) -> None:
        command = [
            sys.executable, "-c", COMMAND, "--run", str(self.folder / "run"), "--venue", "local",
            "--endpoint", self.standin.url, "--out", str(self.folder / "reports"), "--foreign", "adopt", "--resume",
            "--drawdown", "0.99", "--daily-loss", "0.99", "--any-code", "--history", str(HISTORY),
            "--quiet", *(["--stop-loss", str(self.stop_loss)] if self.stop_loss else []),
        ]  # fmt: skip
        environment = {**os.environ, "BYBIT_API_KEY": KEYS.key, "BYBIT_API_SECRET": KEYS.secret, "OMP_NUM_THREADS": "1"}
        self.trader = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)
        self.starts += 1
        self.loading = True

    def kill(self) -> None:
        assert self.trader is not None
        self.trader.send_signal(signal.SIGKILL)
        self.trader.wait()
        self.done["SIGKILL"] += 1

    def ask(self, query: str, *arguments: Any) -> list[Any]:
        try:
            with sqlite3.connect(f"file:{self.journal_path}?mode=ro", uri=True, timeout=5) as db:
                return db.execute(query, arguments).fetchall()
        except sqlite3.OperationalError:
            return []

    def wait(self, seconds: float) -> bool:
        """Until the newest closed bar has been acted on. Restarts a trader that has ended by itself; resumes a halted one.

        Time counts once its process has acted on a bar: imports and loading of kernels take longer than a bar on a loaded machine.
        """
        newest = self.clock.now_ms() // HOUR_MS * HOUR_MS - HOUR_MS
        deadline, longest = time.monotonic() + seconds, time.monotonic() + 120
        db: sqlite3.Connection | None = None
        while time.monotonic() < deadline:
            if self.trader is None or self.trader.poll() is not None:
                if self.trader is not None:
                    self.done[f"ended by itself ({self.trader.returncode})"] += 1
                self.start()
            if self.loading and time.monotonic() < longest:
                deadline = time.monotonic() + seconds
            if db is None and self.journal_path.exists():
                db = sqlite3.connect(f"file:{self.journal_path}?mode=ro", uri=True, timeout=5)
            try:
                row = (
                    db.execute("SELECT MIN(acted) FROM decisions WHERE open_ms = ?", (newest,)).fetchone()
                    if db
                    else None
                )
                if row is not None and row[0]:
                    if db is not None:
                        db.close()
                    self.loading = False
                    return True
            except sqlite3.OperationalError:
                pass
            time.sleep(0.005)
        if db is not None:
            db.close()
        return False

    def watch_stops(self) -> None:
        """Looks at every position every few milliseconds, whatever the trader does."""
        since: dict[Any, float] = {}
        while self.trader is not None:
            with self.standin.world.lock:
                bare = {place for place, h in self.private.exchange.account.holdings.items() if h.size and not h.stop}
            now = time.monotonic()
            since = {place: since.get(place, now) for place in bare}
            self.bare_s = max([self.bare_s, *(now - begun for begun in since.values())])
            time.sleep(0.01)

    # faults

    def harm(self) -> None:
        dice, world = self.dice, self.standin.world
        kinds = ("answer", "answer", "answer", "read", "read", "stream", "stream", "refusal", "cut", "refuse", "lag",
                 "late", "thin", "empty book", "by hand", "candles", "clock", "keys", "bust", "away")  # fmt: skip
        kind = dice.choice(kinds if self.count == 1 else (*kinds, "late candle", "no candle"))
        symbol = self.symbols[0] if self.count == 1 else dice.choice(self.symbols)
        name = kind
        if kind in ("answer", "read", "refusal"):
            fault = dice.choice(REFUSALS if kind == "refusal" else ANSWERS)
            path = dice.choice(PATHS[1:]) if kind == "read" else PATHS[0]
            world.faults.add(Fault(fault, path, times=dice.randint(1, 3), seconds=0.1))
            name = f"{fault} on {path}"
        elif kind == "stream":
            fault = dice.choice(STREAM_KINDS)
            topic = dice.choice(("order", "execution", "position", "wallet", "kline*"))
            world.streams.faults = [f for f in world.streams.faults if f.seen < max(f.nth)]
            world.streams.faults.append(StreamFault(fault, topic, nth=(1,)))
            name = f"stream {fault}"
        elif kind == "cut":
            world.streams.cut_all(dice.choice(("private", "linear", "*")))
        elif kind == "refuse":
            world.streams.refuse_for(0.5)
            world.streams.cut_all("private")
        elif kind == "lag":
            self.private.lag_s = dice.choice((0.02, 0.1, 0.4))
        elif kind == "late":
            self.private.match_s, self.private.event_s = dice.choice((0.0, 0.05, 0.2)), dice.choice((0.0, 0.1, 0.3))
        elif kind == "thin":
            self.private.exchange.liquidity = Decimal(dice.choice(("0.001", "0.01", "0.5")))
        elif kind == "empty book":
            self.private.exchange.liquidity = Decimal(0)
        elif kind == "by hand":
            with world.lock:
                self.private.exchange.by_hand(
                    symbol, dice.choice(("Buy", "Sell")), "0.05" if symbol == "BTCUSDT" else "1.0"
                )
        elif kind == "candles":
            fault = dice.choice(("missing_rows", "duplicate_rows", "wrong_shape", "half"))
            world.faults.add(Fault(fault, "/v5/market/kline", times=dice.randint(1, 4)))
            name = f"candles {fault}"
        elif kind == "clock":
            self.private.auth_skew_ms = dice.choice((10_000, -10_000))
        elif kind == "keys":
            fault = dice.choice(("code_10003", "code_10004"))
            world.faults.add(Fault(fault, "/v5/*", times=dice.choice((1, 12))))
            name = fault
        elif kind == "bust":
            with world.lock:
                if self.private.exchange.account.size(symbol):
                    self.private.exchange.close_by_exchange(symbol, 0, "BustTrade")
        elif kind in ("late candle", "no candle"):
            forming = self.clock.now_ms() // HOUR_MS * HOUR_MS  # it is the next one to close
            with world.lock:
                if kind == "no candle":
                    world.market.holes[symbol] = ((forming, forming + HOUR_MS),)
                else:
                    world.market.holes[symbol] = ((forming + HOUR_MS, 2**62),)
                    threading.Timer(0.7, world.market.holes.pop, (symbol, None)).start()
        elif kind == "away":
            self.standin.stop()
            time.sleep(0.3)
            self.standin.start()
        self.done[name] += 1
        self.harmed = name

    def heal(self) -> None:
        """Conditions (not one-time faults) end after a bar."""
        self.private.lag_s = self.private.match_s = self.private.event_s = 0.0
        self.private.auth_skew_ms = 0
        self.private.exchange.liquidity = None
        self.standin.world.market.holes.clear()

    # the run

    def run(self, say: Any) -> dict[str, Any]:
        began = time.monotonic()
        kill_at = set(self.dice.sample(range(5, self.bars), self.kills))
        harm_at = {k for k in range(3, self.bars) if self.dice.random() < 1 / self.every}
        missed = 0
        self.standin.start()
        self.start()
        if self.stop_loss:
            threading.Thread(target=self.watch_stops, daemon=True).start()
        if not self.wait(400):  # the first start may compile kernels
            raise RuntimeError("the trader never began; see log.txt")
        for bar in range(1, self.bars + 1):
            if bar in harm_at:
                self.harm()
            self.clock.advance(HOUR_MS)
            if bar in kill_at:
                time.sleep(self.dice.uniform(0.0, 0.15))
                self.kill()
                if self.dice.random() < 0.5:
                    self.clock.advance(self.dice.randint(1, 3) * HOUR_MS)
                self.start()
                missed += self._was_late(self.wait(60), "SIGKILL")
            else:
                missed += self._was_late(self.wait(6), self.harmed if {bar, bar - 1} & harm_at else "no fault")
            self._see_halt()
            if bar - 1 in harm_at:
                self.heal()
            if bar % 100 == 0:
                seconds, harmed = time.monotonic() - began, sum(self.done.values())
                say(f"bar {bar}: {seconds:.0f} s, {self.starts} starts, {harmed} faults, {missed} bars late")
            if time.monotonic() - began > self.minutes * 60:
                self.bars = bar
                break
        self.heal()
        self.standin.world.faults.clear()
        self.standin.world.streams.faults.clear()
        for _ in range(3):
            self.clock.advance(HOUR_MS)
            self.wait(30)
            self._see_halt()
        assert self.trader is not None
        self.trader.send_signal(signal.SIGTERM)
        code = self.trader.wait(600)  # it writes its page
        report = self.compare()
        self.standin.stop()
        return {"bars": self.bars, "seconds": round(time.monotonic() - began), "starts": self.starts, "bars_late": missed,
                "late": dict(self.late.most_common()),
                "exit": code, **report, "faults": dict(sorted(self.done.items()))}  # fmt: skip

    def _was_late(self, acted: bool, fault: str) -> bool:
        """Counts a bar that was not acted on in time under what was done to the trader, and what it says it waits for."""
        if not acted:
            state = dict(self.ask("SELECT key, value FROM meta WHERE key IN ('state', 'why')"))
            why = re.sub("[0-9a-f-]*[0-9][0-9a-f.-]*", "N", str(state.get("why", "")))[:110]
            self.late[f"{fault}: {state.get('state')}: {why}"] += 1
            if self.trader is not None and self.trader.poll() is None:
                self.log.write(f"\n--- late after {fault}, at {self.clock.now_ms()}, the trader:\n".encode())
                self.log.flush()
                self.trader.send_signal(signal.SIGUSR1)
        return not acted

    def _see_halt(self) -> None:
        state = dict(self.ask("SELECT key, value FROM meta WHERE key IN ('state', 'why')"))
        if state.get("state") == "halted" and self.trader is not None:
            self.halts.append(str(state.get("why")))
            self.trader.send_signal(signal.SIGTERM)
            self.trader.wait(600)
            self.heal()
            self.standin.world.faults.clear()
            self.start()
            self.wait(60)

    def compare(self) -> dict[str, Any]:
        journal = Journal(self.journal_path)
        exchange = self.private.exchange
        with self.standin.world.lock:
            fills = {f.exec_id: f for f in exchange.fills}
            accepted = [link for link in self.private.accepted if link]
            sizes = {symbol: exchange.account.size(symbol) for symbol in self.symbols}
            marks = {symbol: exchange.mark(symbol) for symbol in self.symbols}
            equity = exchange.account.equity(marks)
        known = {e.exec_id: e for e in journal.executions()}
        books = Books(None, journal, None, self.symbols, HOUR_MS, foreign="adopt", hedge=False, pause=time.sleep)  # type: ignore[arg-type]
        wrong = [
            k
            for k, e in known.items()
            if k in fills and (e.qty, e.price, e.fee) != (fills[k].qty, fills[k].price, fills[k].fee)
        ]
        told = explain(journal)
        unexplained = [
            r["text"] for r in journal.rows("SELECT text FROM events WHERE kind = 'state' AND text LIKE 'halted%'")
            if len(str(r["text"])) < len("halted: x")
        ]  # fmt: skip
        overshoot = self._overshoot(journal)
        journal_equity = books.equity(marks)
        journal_sizes = {symbol: books.size(symbol) for symbol in self.symbols}
        report = {
            "orders": len(accepted), "duplicate_orders": len(accepted) - len(set(accepted)), "bars_traded_twice": overshoot,
            "fills": len(fills), "lost_fills": len(set(fills) - set(known)), "invented_fills": len(set(known) - set(fills)),
            "wrong_fills": len(wrong), "position_exchange": {s: str(size) for s, size in sizes.items()},
            "position_journal": {s: str(size) for s, size in journal_sizes.items()},
            "equity_exchange": str(equity), "equity_journal": str(journal_equity),
            "funding_payments": sum(f.kind == "Funding" for f in fills.values()),
            "bars_unknown": len(journal.rows("SELECT 1 FROM events WHERE kind = 'late'")),
            "stops_hit": sum(f.ticket.created_by == "CreateByStopLoss" for f in fills.values()),
            "longest_without_stop_s": round(self.bare_s, 3), "halts": Counter(self.halts), "halts_without_reason": len(unexplained),
            "targets_identical": f"{told.identical} of {told.compared}",
        }  # fmt: skip
        report["ok"] = (
            not report["duplicate_orders"] and not report["lost_fills"] and not report["invented_fills"] and not wrong
            and not overshoot and sizes == journal_sizes and abs(journal_equity - equity) < Decimal("1e-6")
            and not unexplained and told.identical == told.compared
        )  # fmt: skip
        journal.close()
        return report

    def _overshoot(self, journal: Journal) -> int:
        """Bars whose fills together went further than the largest order written for the bar: a decision carried out twice."""
        orders: dict[tuple[int, str], list[Any]] = {}
        for row in journal.rows("SELECT open_ms, symbol, side, qty, filled FROM intents"):
            orders.setdefault((row["open_ms"], row["symbol"]), []).append(row)
        twice = 0
        for rows in orders.values():
            for side in ("Buy", "Sell"):
                mine = [r for r in rows if r["side"] == side]
                filled = sum((Decimal(r["filled"]) for r in mine), Decimal(0))
                if len(mine) > 1 and filled > max(Decimal(r["qty"]) for r in mine) * Decimal("1.2"):
                    twice += 1
        return twice


def main(
    bars: Annotated[int, typer.Option(help="Bars to trade.")] = 5_000,
    kills: Annotated[int, typer.Option(help="SIGKILLs at random moments.")] = 30,
    every: Annotated[int, typer.Option(help="A random fault about every so many bars.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the dice.")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop early after so many minutes.")] = 1e9,
    symbols: Annotated[int, typer.Option(min=1, max=4, help="Traded from one account.")] = 1,
    stop_loss: Annotated[float, typer.Option(help="A stop at the exchange, in volatilities of a day; 0: none.")] = 0.0,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep journal and log in.")] = None,
) -> None:
    """Trade under faults and kills, then compare every fill."""
    folder = keep or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(bars, kills, every, seed, folder, minutes, symbols, stop_loss)
    try:
        report = soak.run(lambda text: typer.echo(text, err=True))
    finally:
        if soak.trader is not None and soak.trader.poll() is None:
            soak.trader.kill()
    typer.echo(json.dumps(report, indent=1))
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    typer.run(main)
