"""What comes from outside and is not what it should be: journals, stream messages, endpoints, key files. No traceback, no trade."""

from __future__ import annotations

import copy
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.panel import InputError
from data.standin.rows import fill_row, stream_order_row
from strategies.paper.decisions.streams import DATA, Note
from strategies.paper.orders.exchange import Exchange, ExchangeError
from strategies.paper.orders.keys import Keys, load_keys
from strategies.paper.records.database import _SOUND, JournalError
from strategies.paper.records.journal import Journal
from strategies.paper.supervision import show_status, verify
from strategies.paper.venues import connect, on_this_machine
from tests.strategies.paper.rig import KEYS, SYMBOL, Rig
from tests.strategies.paper.test_faults import CREATE, fault

Make = Callable[..., Rig]


@fault("a damaged journal: 90 ways", "one line at the start and in status; `verify` says what is wrong; no trade")
def test_damaged_journals(rig: Make, tmp_path: Path) -> None:
    r = rig()
    r.bar(3)
    r.crash()
    source, dice, refused = r.folder / "journal.sqlite", random.Random(0), 0
    folder = tmp_path / "reports" / "paper" / "acct"
    folder.mkdir(parents=True)
    place = folder / "journal.sqlite"
    cases: list[Callable[[], None]] = []
    for table, columns in _SOUND.items():
        for column in columns:
            for value in ("garbage \x00", b"\xff\xfe"):
                if not columns[column]("any text") or isinstance(value, bytes):
                    cases.append(lambda t=table, c=column, v=value: _set(place, t, c, v))  # type: ignore[misc]
    content = source.read_bytes()
    cases += [lambda n=n: place.write_bytes(content[:n]) for n in (100, 4096, len(content) // 2)]  # type: ignore[misc]
    cases += [lambda: place.write_bytes(b"no database at all" * 300), lambda: place.write_bytes(bytes(4096))]
    cases += [lambda t=t: _drop(place, t) for t in ("intents", "executions", "meta", "equity")]  # type: ignore[misc]
    assert len(cases) >= 90
    for case in dice.sample(cases, len(cases)):
        shutil.copyfile(source, place)
        try:
            case()
        except sqlite3.IntegrityError:
            continue  # the layout itself refuses this one
        with pytest.raises(InputError) as told:
            Journal(place)
        assert "\n" not in str(told.value)
        with pytest.raises(InputError):
            show_status(tmp_path / "reports", None)
        assert verify(tmp_path / "reports", None) == 1
        refused += 1
    assert refused >= 90
    shutil.copyfile(source, place)
    assert verify(tmp_path / "reports", None) == 0


def _set(place: Path, table: str, column: str, value: object) -> None:
    with sqlite3.connect(place) as db:
        if not db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            names = list(_SOUND[table])
            db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('0' for _ in names)})")
        db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT MIN(rowid) FROM {table})", (value,))


def _drop(place: Path, table: str) -> None:
    with sqlite3.connect(place) as db:
        db.execute(f"DROP TABLE {table}")


@fault("4,000 malformed messages on the private stream", "none ends the loop or is booked; compared by REST")
def test_malformed_messages(rig: Make) -> None:
    r = rig()
    r.bar(2)
    sent, dice = len(r.world.calls(CREATE)), random.Random(1)
    execution = {**fill_row(r.exchange.fills[-1]), "category": "linear", "execId": "invented"}
    order = stream_order_row(r.exchange.fills[-1].ticket)
    wrong: tuple[Any, ...] = (None, "", "x", [], {}, -1, 2**70, True, "1e5", "NaN", "9" * 40, "\ud800", 1.5, [[]], "-0")
    before = len(r.journal.executions())
    for _ in range(4_000):
        topic, row = dice.choice([("execution", execution), ("order", order), ("execution.linear", execution)])
        bad: Any = dict(row)
        for name in dice.sample(sorted(set(bad) - {"execId"}), dice.randrange(1, 4)):
            if dice.random() < 0.2:
                bad.pop(name)
            else:
                bad[name] = dice.choice(wrong)
        shape = dice.random()
        data = bad if shape < 0.05 else [bad, None] if shape < 0.1 else dice.choice(wrong) if shape < 0.15 else [bad]
        message = {"topic": topic, "data": data}
        if dice.random() < 0.05:
            message.pop(dice.choice(["topic", "data"]))
        r.trader._take(Note("private", DATA, message=message))
    invented = [e for e in r.journal.executions() if e.exec_id == "invented"]
    assert len(r.world.calls(CREATE)) == sent
    assert len(r.journal.executions()) - before <= 1
    for e in invented:  # a change of a part that says nothing of money leaves a good row
        assert (e.symbol, e.qty > 0, e.price > 0) == (SYMBOL, True, True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:x@127.0.0.2:9", "http://127.0.0.1:80@api.bybit.com", "http://127.0.0.1:9@evil.example:80/",
        "https://api.bybit.com", "http://api.bybit.com:80", "http://127.0.0.1.evil.example:80", "http://127.0.0.1", "ftp://127.0.0.1:1",
        "http://127.0.0.1:99999", "http://127.0.0.1:80/path", "http://127.0.0.1:80?x", "http://127.0.0.1:80#x", "http://0.0.0.0:80",
        "http://192.168.1.1:80", "http://[::ffff:8.8.8.8]:80", "//127.0.0.1:80", "127.0.0.1:80", "http://2130706433:80",
        "http://127.0.0.1\\@evil.example:80", "http://user@127.0.0.1:80", "", None,
    ],
)  # fmt: skip
def test_endpoints_elsewhere(endpoint: str | None) -> None:
    with pytest.raises(InputError, match="on this machine"):
        connect("local", KEYS, (SYMBOL,), "60", endpoint, lambda _: None)


def test_requests_with_keys_go_to_known_hosts_only() -> None:
    assert on_this_machine("http://localhost:8080/") == "http://127.0.0.1:8080"
    assert on_this_machine("http://127.0.0.5:80") == "http://127.0.0.5:80"
    for wrong in (
        "https://api.bybit.com",
        "http://api-testnet.bybit.com",
        "https://evil.example",
        "http://127.0.0.1:1@evil.example",
    ):
        with pytest.raises(InputError, match="requests go to"):
            Exchange(KEYS, endpoint=wrong)
    assert Exchange(KEYS, testnet=True)._session.endpoint == "https://api-testnet.bybit.com"
    assert Exchange(KEYS, demo=True)._session.endpoint == "https://api-demo.bybit.com"
    with pytest.raises(InputError, match=r"not to api\.bybit\.com"):
        Exchange(KEYS)
    Exchange(None)


@pytest.mark.parametrize(
    ("content", "good"),
    [
        ("BYBIT_API_KEY=abc\nBYBIT_API_SECRET=def\n".encode("utf-16"), True),
        (b"\xef\xbb\xbfBYBIT_API_KEY=abc\r\nexport BYBIT_API_SECRET='def'\r\n", True),
        ("BYBIT_API_KEY=ab\u00e9\nBYBIT_API_SECRET=def\n".encode("latin-1"), False),
        ("BYBIT_API_KEY=ab\u00e9\nBYBIT_API_SECRET=def\n".encode(), False),
        (b"BYBIT_API_KEY=a b\nBYBIT_API_SECRET=def\n", False),
        (b"\xff\xfe\x00", False),
        (b"\x00\xff\x80" * 50, False),
        (b"", False),
        (json.dumps({"BYBIT_API_KEY": "abc"}).encode(), False),
    ],
)
def test_key_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, good: bool) -> None:
    monkeypatch.delenv("BYBIT_API_KEY", raising=False)
    monkeypatch.delenv("BYBIT_API_SECRET", raising=False)
    file = tmp_path / "keys.env"
    file.write_bytes(content)
    file.chmod(0o600)
    if good:
        assert load_keys(file, "testnet") == Keys("abc", "def")
    else:
        with pytest.raises(InputError) as told:
            load_keys(file, "testnet")
        assert "\n" not in str(told.value)


def test_an_unusable_journal_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        Journal(tmp_path / "journal.sqlite")


@fault(
    "27,000 malformed rows of positions, wallet, orders, executions, rules, fees",
    "refused as unreadable; never a value",
)
def test_malformed_rows_of_answers(rig: Make) -> None:
    """Whatever stands in a row, a parser gives values of the right kind or says that it cannot be read."""
    r = rig(stop_loss=3.0)
    r.bar(2)
    exchange, sound = r.trader.exchange, dict[str, Any]()
    real = exchange._send
    exchange._send = lambda call, arguments: sound.setdefault(call.__name__, real(call, arguments))  # type: ignore[method-assign]
    calls: list[Callable[[], object]] = [
        lambda: exchange.positions(SYMBOL), exchange.wallet, lambda: exchange.instrument(SYMBOL), lambda: exchange.tiers(SYMBOL),
        lambda: exchange.fees(SYMBOL), exchange.account, lambda: exchange.open_orders(SYMBOL), lambda: exchange.executions(SYMBOL, 0),
        lambda: exchange.ticker(SYMBOL),
    ]  # fmt: skip
    for call in calls:
        call()
    assert len(sound) == len(calls)
    exchange._tries, dice, good, bad = 1, random.Random(2), 0, 0
    for k in range(27_000):
        call = calls[k % len(calls)]
        exchange._send = lambda c, _: _broken(sound[c.__name__], dice)  # type: ignore[method-assign]
        try:
            call()
            good += 1
        except (ExchangeError, InputError):
            bad += 1
    assert good + bad == 27_000
    assert bad > 9_000, "most damage is seen; the rest is in parts that nobody reads"


def _broken(answer: Any, dice: random.Random) -> Any:
    """The answer with some of its values, at any depth, replaced or gone."""
    out = copy.deepcopy(answer)
    places: list[tuple[Any, Any]] = []

    def walk(at: Any) -> None:
        for key in at if isinstance(at, dict) else range(len(at)):
            places.append((at, key))
            if isinstance(at[key], (dict, list)):
                walk(at[key])

    walk(out["result"])
    for at, key in dice.sample(places, min(len(places), dice.randrange(1, 5))):
        if isinstance(at, dict) and dice.random() < 0.2:
            at.pop(key, None)
        elif isinstance(at, dict) or key < len(at):
            at[key] = dice.choice(
                (None, "", "x", [], {}, -1, 2**70, True, "1e5", "NaN", "-0", "9" * 40, "\ud800", 1.5, [[]], "0")
            )
    return out
