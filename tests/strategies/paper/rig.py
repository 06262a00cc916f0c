"""A trader and a stand-in exchange in lockstep: the clock stands still between bars, so every test is the same every time."""

from __future__ import annotations

import functools
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.panel import Panel
from data.simulated import simulate
from data.standin import Clock, Fault, Market, StandIn, World
from data.standin.private import Private
from nas.features.bank import build_bank
from nas.network.model import TrainedModel, network_of
from nas.network.model_check import digests
from nas.network.stretches import Scaler
from nas.space.genotype import Connection, Genotype
from strategies.backtest.positions import PositionRule
from strategies.paper.decisions.history import Bar
from strategies.paper.decisions.strategy import Strategy, load_strategy
from strategies.paper.decisions.streams import Stream
from strategies.paper.orders.exchange import Order
from strategies.paper.orders.keys import Keys
from strategies.paper.orders.placement import link_id
from strategies.paper.orders.risk import Limits, Risk
from strategies.paper.records.journal import Candle, Journal
from strategies.paper.timing import Timing
from strategies.paper.trader import RUNNING, Trader
from strategies.paper.venues import connect
from strategies.walkforward.provenance import decision_version

SYMBOL = "BTCUSDT"
HOUR_MS = 3_600_000
START = np.datetime64("2024-01-01", "ns")
HISTORY = 700
FEATURES = {"return": ("zscore24",), "range": ("log>zscore24",), "volume": ("log>diff",)}
KEYS = Keys("unit-test-key-0123456789", "unit-test-secret-abcdefghij")


@functools.cache
def market_panel(bars: int, symbols: tuple[str, ...] = (SYMBOL,)) -> Panel:
    """Simulated candles on the grid of an exchange (prices to 0.1, volume to 0.001)."""
    panel = simulate(symbols, "60", start=START, end=START + bars * np.timedelta64(HOUR_MS, "ms"))
    values = np.array(panel.values)
    values[:, :, :4] = np.round(values[:, :, :4], 1)
    values[:, :, 4] = np.round(values[:, :, 4], 3)
    return Panel(panel.timestamps, panel.assets, panel.fields, values, panel.interval_ns, "test", simulated=True)


def candle_rows(panel: Panel, symbol: str = SYMBOL) -> list[Candle]:
    """As the journal and the history take them."""
    times = panel.timestamps.astype("datetime64[ms]").astype(np.int64).tolist()
    values = np.stack([panel.column(f, symbol) for f in ("open", "high", "low", "close", "volume")], 1).tolist()
    return [(time, *row) for time, row in zip(times, values, strict=True)]


def bars_of(rows: Sequence[Candle], symbol: str = SYMBOL) -> list[Bar]:
    """Candles of one symbol as bars of a history."""
    return [(row[0], {symbol: row}) for row in rows]


def save_model(
    folder: Path,
    panel: Panel,
    seed: int = 0,
    features: tuple[tuple[str, str], ...] = (),
    symbols: tuple[str, ...] = (SYMBOL,),
    portfolio: dict[str, Any] | None = None,
    genotype: Genotype | None = None,
    **rule: Any,
) -> Path:
    """A small untrained network: its forecasts move at every bar, which is what tests of trading want. features: others than
    FEATURES, unscaled. genotype: another than the small one."""
    position_rule = replace(PositionRule(forecast_scale=0.8, target_volatility=0.5, smoothing_bars=1.5), **rule)
    extra = {
        "rule": asdict(position_rule),
        "symbols": list(symbols),
        "horizons": [3],
        "threshold": 0.0,
        "decision_version": decision_version(),
        **({} if portfolio is None else {"portfolio": portfolio}),
    }
    replace(_model(panel, seed, features, genotype), extra=extra).save(folder)
    return folder


def rewrite(folder: Path, file: str, **changes: Any) -> None:
    """Other values in a file of a model folder, with the digests that go with them."""
    told = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps(told))
    features = json.loads((folder / "features.json").read_text())
    features["digests"] = digests(folder, features)
    (folder / "features.json").write_text(json.dumps(features))


@functools.cache
def _model(
    panel: Panel, seed: int, others: tuple[tuple[str, str], ...], genotype: Genotype | None = None
) -> TrainedModel:
    features = others or tuple((name, group[0]) for name, group in FEATURES.items())
    if genotype is None:
        nodes = ((Connection("conv3", 0), Connection("ema4", 0)),)
        genotype = Genotype(nodes, 8, 1, (3,), features)
    if others:
        scaler = Scaler(np.zeros(len(features)), np.ones(len(features)))
    else:
        scaler = Scaler.fit(build_bank(panel, FEATURES).values, slice(200, 600))
    with torch.random.fork_rng(devices=[]):
        network = network_of(genotype, seed)
        with torch.no_grad():
            network.head.mul_(20.0)
    return TrainedModel(genotype, network, scaler, panel.interval_ns, 0.1, {})


def replay_tables(panel: Panel) -> dict[str, tuple[Any, Any]]:
    """Of every symbol: open times (ms) and candles, as a stand-in's market replays them."""
    found = {}
    for symbol in panel.assets:
        rows = np.array(candle_rows(panel, symbol))
        found[symbol] = (rows[:, 0].astype(np.int64), rows[:, 1:])
    return found


class Rig:
    """`bar()` closes the next candle and lets the trader act. `check()` holds what must always hold."""

    def __init__(self, folder: Path, bars: int = 900, symbols: tuple[str, ...] = (SYMBOL,), **options: Any) -> None:
        self.folder, self.symbols = folder, symbols
        self.panel = market_panel(bars, symbols) if len(symbols) > 1 else market_panel(bars)
        tables = replay_tables(self.panel)
        self.first_ms = int(tables[SYMBOL][0][0])
        self.clock = Clock(self.first_ms + HISTORY * HOUR_MS + 1, speed=0.0)
        self.private = Private(KEYS.key, KEYS.secret, tick_s=0.02, **options.pop("private", {}))
        market = Market.replay(tables, HOUR_MS)
        self.standin = StandIn(World(market, self.clock), [self.private], tick_s=0.02).start()
        self.world = self.standin.world
        save_model(
            folder / "model",
            self.panel,
            features=options.pop("features", ()),
            symbols=symbols,
            **options.pop("model", {}),
        )
        self.strategy: Strategy = load_strategy(folder / "model", options.pop("chosen", None), "60")
        self.with_streams = options.pop("streams", False)
        self.limits = options.pop("limits", Limits(drawdown=0.99, daily_loss=0.99, stale_s=60.0))
        self.options = options
        self.halts: list[str] = []  # of alerts: those of halts
        self.alerts: list[tuple[str, str]] = []
        self.journal: Journal
        self.trader: Trader
        self.start()

    @property
    def exchange(self) -> Any:
        return self.private.exchange

    def start(self) -> Trader:
        """A new process, as far as the code can tell: everything is read from the journal."""
        self.journal = Journal(self.folder / "journal.sqlite")
        self.journal.set(id="rig", symbols=",".join(self.strategy.traded), interval="60", venue="local")
        venue = connect(
            "local",
            KEYS,
            self.strategy.traded,
            "60",
            self.standin.url,
            lambda text: self.journal.event("trouble", text),
        )
        venue.exchange._wait_s = 0.001  # retries without waiting
        streams: list[Stream] = []
        self.inbox: queue.Queue[Any] = venue.inbox
        if self.with_streams:
            streams = venue.streams
            for stream in streams:
                stream._ping_s, stream._longest_wait_s = 0.3, 0.1
                stream.start()
        timing = Timing(
            poll_s=0.0, order_poll_s=0.002, settle_s=1.0, reprice_s=0.02, late_s=0.05, check_clock=False, look_s=1e9
        )
        self.trader = Trader(
            interval="60", strategy=self.strategy, journal=self.journal, exchange=venue.exchange,
            market=venue.market, data=venue.data, risk=Risk(self.limits, self.journal, HOUR_MS), streams=streams, inbox=venue.inbox,
            timing=self.options.get("timing", timing), kill_file=self.folder / "STOP", history_bars=HISTORY,
            tell=self.told, **{k: v for k, v in self.options.items() if k != "timing"},
        )  # fmt: skip
        return self.trader

    def told(self, kind: str, text: str) -> None:
        self.alerts.append((kind, text))
        if kind == "halt":
            self.halts.append(text)

    def crash(self) -> None:
        """SIGKILL: nothing is said goodbye to; only what was committed is left."""
        for stream in self.trader.streams:
            stream.stop()
        self.journal.close()

    def restart(self) -> Trader:
        self.crash()
        return self.start()

    def close(self) -> None:
        self.crash()
        self.standin.stop()

    def tick(self, bars: int = 1) -> None:
        """Close candles without letting the trader act."""
        self.clock.advance(bars * HOUR_MS)

    def act(self, steps: int = 12) -> Any:
        """Let the trader act on the newest closed candle; returns its decision row (acted or not)."""
        for _ in range(steps):
            self.trader.listen(0.001)
            self.trader.step()
            last = self.journal.last_decision()
            if last is not None and last["acted"] and last["open_ms"] == self.newest_ms and not self.trader._doubt:
                return last
        return self.journal.last_decision()

    def bar(self, bars: int = 1) -> Any:
        last = None
        for _ in range(bars):
            self.tick()
            last = self.act()
        return last

    @property
    def newest_ms(self) -> int:
        """Open time of the newest closed candle."""
        return self.clock.now_ms() // HOUR_MS * HOUR_MS - HOUR_MS

    def fault(self, kind: str, path: str, times: int | None = 1, **more: Any) -> Fault:
        return self.world.faults.add(Fault(kind, path, times=times, **more))

    def hide_orders_until_second_send(self, already: int = 0) -> None:
        """REST shows a new order only once it was sent a second time; it is matched then, too, if it was held back."""
        self.private.lag_s = 1e6
        real, sends = self.trader.exchange.create, [already]

        def create(order: Any) -> str:
            sends[0] += 1
            try:
                return real(order)
            finally:
                if sends[0] == 2:
                    self.private.lag_s = self.private.match_s = 0.0
                    for ticket in list(self.exchange.tickets.values()):
                        ticket.visible_at = 0.0
                        with self.world.lock:
                            self.exchange.match(ticket)

        self.trader.exchange.create = create  # type: ignore[method-assign]

    def until(self, true: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Let the trader listen until something is so (streams are threads)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if true():
                return True
            self.trader.listen(0.01)
        return bool(true())

    def events(self, kind: str) -> list[str]:
        return [str(r["text"]) for r in self.journal.rows("SELECT text FROM events WHERE kind = ?", kind)]

    def settle(self) -> None:
        """Ask the exchange for everything once more, as the loop does at the next bar."""
        self.trader._doubt = self.trader._doubt or "end of the test"
        for _ in range(10):
            self.trader.step()
            if not self.trader._doubt:
                return

    def check(self) -> None:
        """No order twice, no fill lost or doubled, position and equity as the exchange has them."""
        with self.world.lock:
            accepted = list(self.private.accepted)
            fills = {f.exec_id: f for f in self.exchange.fills}
            sizes = {symbol: self.exchange.account.size(symbol) for symbol in self.symbols}
            marks = {symbol: self.exchange.mark(symbol) for symbol in self.symbols}
            equity = self.exchange.account.equity(marks)
        assert len(accepted) == len(set(accepted)), "an order exists twice"
        known = {e.exec_id: e for e in self.journal.executions()}
        assert set(known) == set(fills), f"{len(fills)} fills at the exchange, {len(known)} in the journal"
        for key, e in known.items():
            assert (e.qty, e.price, e.fee) == (fills[key].qty, fills[key].price, fills[key].fee)
        assert {symbol: self.trader.books.size(symbol) for symbol in self.symbols} == sizes
        assert abs(self.trader.books.equity(marks) - equity) < Decimal("1e-6"), (
            self.trader.books.equity(marks),
            equity,
        )

    def check_books(self) -> None:
        """Position and equity of the journal are the exchange's, whatever was there before it began."""
        with self.world.lock:
            marks = {symbol: self.exchange.mark(symbol) for symbol in self.symbols}
            equity, sizes = (
                self.exchange.account.equity(marks),
                {s: self.exchange.account.size(s) for s in self.symbols},
            )
        assert {symbol: self.trader.books.size(symbol) for symbol in self.symbols} == sizes
        assert abs(self.trader.books.equity(marks) - equity) < Decimal("1e-6")

    def orders_of(self, open_ms: int) -> list[Any]:
        return self.journal.rows("SELECT * FROM intents WHERE open_ms = ? ORDER BY written_ms, link_id", open_ms)


class Hook(HTTPServer):
    """A webhook on loopback: `told` holds the JSON of every POST, `asked` the paths of every request."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.answers: list[int] = []  # status codes to come; 204 after them
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.do_GET()

            def do_GET(self) -> None:
                hook.asked.append(f"{self.command} {self.path}")
                self.send_response(hook.answers.pop(0) if hook.answers else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def rest_order(r: Rig, price: str = "10000", qty: str = "0.001") -> str:
    """An order of the journal that rests far below the market: its id."""
    order = Order(link_id("rest", SYMBOL, r.newest_ms, 0, 0), SYMBOL, "Buy", Decimal(qty), "Limit", Decimal(price))
    assert r.trader.desk.place(order, r.newest_ms, 1.0) == "open"
    return order.link_id


RUNNING_STATE = RUNNING
