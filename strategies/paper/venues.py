"""Where paper trading trades: Bybit testnet, Bybit demo, or the stand-in exchange on loopback. Mainnet is not offered.

Prices for forecasts come from mainnet's public data on testnet and demo: testnet prices are unrealistic.
"""

from __future__ import annotations

import ipaddress
import json
import os
import queue
import secrets
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from data.atomic import write_atomically
from data.bybit import MAINNET, Bybit, Patience
from data.intervals import interval_ns
from data.panel import CANDLE_FIELDS, InputError, Panel
from data.place import ROOT
from strategies.paper.decisions.streams import Note, Stream
from strategies.paper.orders.exchange import Exchange
from strategies.paper.orders.keys import Keys
from strategies.paper.settings import VENUES
from strategies.paper.timing import Timing

_PRIVATE_STREAM = {
    "testnet": "wss://stream-testnet.bybit.com/v5/private",
    "demo": "wss://stream-demo.bybit.com/v5/private",
}
_PUBLIC_STREAM = "wss://stream.bybit.com/v5/public/linear"


#: the loop of trading waits for nobody long: what is not there now is asked for again after the next look at the account
_PATIENCE = Patience(attempts=4, longest_pause_s=2.0, ban_pause_s=5.0, bans=0)


@dataclass(frozen=True)
class Venue:
    """The connections of one venue."""

    name: str
    exchange: Exchange
    market: Exchange
    data: Bybit
    streams: list[Stream]
    inbox: queue.Queue[Note]
    timing: Timing


def connect(
    name: str, keys: Keys, symbols: Sequence[str], interval: str, endpoint: str | None, trouble: Callable[[str], None]
) -> Venue:
    """endpoint: http://127.0.0.1:PORT of a stand-in (venue local only)."""
    inbox: queue.Queue[Note] = queue.Queue()
    topics = [f"kline.{interval}.{symbol}" for symbol in symbols]
    private = ["order", "execution", "position", "wallet"]
    if name == "local":
        endpoint = on_this_machine(endpoint)
        socket = endpoint.replace("http://", "ws://", 1)
        both = Exchange(keys, endpoint=endpoint, timeout_s=2.0, retry_wait_s=0.02, tries=6, on_trouble=trouble)
        streams = [
            Stream("private", f"{socket}/v5/private", private, inbox, keys=keys, ping_s=2.0, longest_wait_s=1.0),
            Stream("public", f"{socket}/v5/public/linear", topics, inbox, ping_s=2.0, longest_wait_s=1.0),
        ]
        timing = Timing(poll_s=0.01, order_poll_s=0.05, settle_s=5.0, reprice_s=0.2, late_s=2.0, check_clock=False)
        return Venue(name, both, both, Bybit(endpoint, replace(_PATIENCE, first_pause_s=0.02)), streams, inbox, timing)
    if name not in VENUES:
        raise InputError(f"--venue must be one of {', '.join(VENUES)}, not {name!r} (mainnet is not offered)")
    if endpoint is not None:
        raise InputError("--endpoint goes with --venue local")
    exchange = Exchange(keys, testnet=name == "testnet", demo=name == "demo", on_trouble=trouble)
    market = Exchange(None, on_trouble=trouble)
    streams = [
        Stream("private", _PRIVATE_STREAM[name], private, inbox, keys=keys),
        Stream("public", _PUBLIC_STREAM, topics, inbox),
    ]
    timing = Timing(late_s=min(60.0, interval_ns(interval) / 4e9))
    return Venue(name, exchange, market, Bybit(MAINNET, _PATIENCE), streams, inbox, timing)


def on_this_machine(endpoint: str | None) -> str:
    """The endpoint of a stand-in, taken apart and put together again: an address of this machine's loopback and a port, nothing else.

    >>> on_this_machine("http://127.0.0.1:8080")
    'http://127.0.0.1:8080'
    """
    try:
        parts = urlsplit(endpoint or "")
        port, host = parts.port, parts.hostname or ""
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        plain = (parts.scheme, parts.path.rstrip("/"), parts.query, parts.fragment) == ("http", "", "", "")
        if plain and port and address.is_loopback and address.version == 4 and "@" not in parts.netloc:
            return f"http://{address}:{port}"
    except ValueError:  # no address, no port
        pass
    shown = "nothing" if endpoint is None else repr(endpoint[:200])
    raise InputError(f"--endpoint must be a stand-in on this machine, http://127.0.0.1:PORT, not {shown}")


def save_candles(path: Path, panel: Panel) -> None:
    """Candles for a stand-in to replay: array `symbols`, and per symbol SYMBOL/times (ms) [n] and SYMBOL/values [n, 5]."""
    times = panel.timestamps.astype("datetime64[ms]").astype(np.int64)
    arrays: dict[str, Any] = {}
    for symbol in panel.assets:
        values = np.stack([panel.column(f, symbol) for f in CANDLE_FIELDS], 1)
        whole = np.isfinite(values).all(1)
        arrays |= {f"{symbol}/times": times[whole], f"{symbol}/values": values[whole]}
    write_atomically(path, lambda file: np.savez(file, symbols=np.array(panel.assets), **arrays))


class LocalExchange:
    """A stand-in in a process of its own, ended with `stop()`. Its keys are made up for it and travel by environment."""

    def __init__(self, candles: Path, start_ms: int, speed: float) -> None:
        self.keys = Keys(secrets.token_hex(9), secrets.token_hex(18))
        environment = {**os.environ, "STANDIN_KEY": self.keys.key, "STANDIN_SECRET": self.keys.secret}
        command = [
            sys.executable,
            "-m",
            "data.standin.serve",
            str(candles.resolve()),
            "--start-ms",
            str(start_ms),
            "--speed",
            str(speed),
        ]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError("the stand-in exchange did not start; run python -m data.standin.serve --help to see why")
        self.url = str(json.loads(line)["url"])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
