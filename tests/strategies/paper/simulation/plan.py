"""What happens to one session, drawn from its seed before it begins: its settings, its faults, its kills. A plan can be shortened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from strategies.paper.orders.ret_codes import CLASSES, ret_codes
from tests.strategies.paper.simulation.markets import BAR_S

WRITES = (
    "/v5/order/create",
    "/v5/order/cancel",
    "/v5/position/trading-stop",
    "/v5/position/set-leverage",
    "/v5/position/switch-mode",
)
READS = ("/v5/order/realtime", "/v5/order/history", "/v5/execution/list", "/v5/position/list", "/v5/account/wallet-balance",
         "/v5/account/info", "/v5/market/kline", "/v5/market/tickers", "/v5/market/time", "/v5/market/instruments-info",
         "/v5/market/funding/history", "/v5/*")  # fmt: skip
ANSWERS = ("drop", "hang", "half", "not_json", "empty", "wrong_shape", "reset", "http_429", "http_403", "http_500", "http_502_html",
           "http_503", "code_10000", "code_10002", "code_10006", "code_10006_past", "code_10016", "code_10018")  # fmt: skip
CANDLES = ("missing_rows", "duplicate_rows", "wrong_shape", "half", "not_json")
STREAM = ("drop", "duplicate", "reorder", "abort", "half_open", "not_json", "wrong_shape")
WIRE = ("refused", "lost", "silent", "slow", "orphan")
#: kind -> weight
KINDS = {
    "wire": 8, "answer": 8, "code": 8, "stream": 8, "candles": 3, "cut": 2, "refuse": 2, "outage": 2, "late events": 3, "lag": 4,
    "match": 3, "stuck": 3, "thin": 4, "empty book": 2, "rate limit": 2, "disk full": 2, "clock": 2, "server clock": 1, "keys": 1,
    "hand": 2, "bust": 1, "step": 1,
}  # fmt: skip
ONLY_MANY = {"late candle": 2, "no candle": 2}
#: by retCode class, that an order may be refused with
CODES = {
    kind: tuple(code for code, (_, k) in sorted(ret_codes().items()) if k == kind and code > 0) for kind in CLASSES
}


@dataclass(frozen=True)
class Event:
    """A fault at `at_s` seconds of the session. what, where, number: as its kind takes them."""

    at_s: float
    kind: str
    what: str = ""
    where: str = ""
    number: float = 0.0


@dataclass(frozen=True)
class Kill:
    """At `at_s`, or `points` awaits and writes after it; `down_s` until the next start. power: what is not synced may be gone too."""

    at_s: float
    points: int
    down_s: float
    power: bool


@dataclass(frozen=True)
class Plan:
    """Everything that a session depends on."""

    seed: int
    bars: int
    market: int = 0
    symbols: int = 1
    hedge: bool = False
    limit_orders: bool = False
    stop_loss: float = 0.0
    foreign: str = "adopt"
    flatten_on_halt: bool = False
    end: str = "stop"  # stop, flatten, gone (flattened without the process), flatten in a thin book
    events: tuple[Event, ...] = field(default=())
    kills: tuple[Kill, ...] = field(default=())

    def without(self, events: Sequence[Event] = (), kills: Sequence[Kill] = ()) -> Plan:
        return replace(
            self,
            events=tuple(e for e in self.events if e not in events),
            kills=tuple(k for k in self.kills if k not in kills),
        )


def plan_of(seed: int, bars: int = 200, faults: float = 0.15, kills: float = 0.013, markets: int = 8) -> Plan:
    """faults, kills: per bar."""
    dice = random.Random(f"plan {seed}")
    symbols = 2 if dice.random() < 0.25 else 1
    plan = Plan(
        seed, bars, market=dice.randrange(markets), symbols=symbols, hedge=dice.random() < 0.15,
        limit_orders=dice.random() < 0.1, stop_loss=dice.choice((0.0, 0.5, 3.0)),
        foreign=dice.choices(("adopt", "halt", "flatten"), (6, 3, 1))[0], flatten_on_halt=dice.random() < 0.3,
        end=dice.choice(("stop", "flatten", "gone", "thin")),
    )  # fmt: skip
    weights = {**KINDS, **(ONLY_MANY if symbols > 1 else {})}
    events = [_event(dice, dice.uniform(0.0, bars * BAR_S), weights) for _ in range(_count(dice, faults * bars))]
    times = [_moment(dice, bars) for _ in range(_count(dice, kills * bars))]
    # an order whose answer is lost, which is hidden and matched late: the worst moment for a kill
    stuck = [e.at_s + dice.uniform(0.1, 6.0) for e in events if e.kind == "stuck" and kills and dice.random() < 0.4]
    deaths = [
        Kill(
            t,
            dice.choice((0, dice.randrange(1, 40), dice.randrange(1, 160))),
            dice.choice((0.3, 3.0, 60.0, 700.0)),
            dice.random() < 0.3,
        )
        for t in times
    ]
    deaths += [Kill(round(t, 3), 0, 0.3, False) for t in stuck]  # fmt: skip
    return replace(
        plan, events=tuple(sorted(events, key=lambda e: e.at_s)), kills=tuple(sorted(deaths, key=lambda k: k.at_s))
    )


def _count(dice: random.Random, mean: float) -> int:
    return int(mean) + (dice.random() < mean % 1)


def _moment(dice: random.Random, bars: int) -> float:
    """Where most happens: soon after a bar has closed; else anywhere."""
    bar = dice.randrange(bars)
    return bar * BAR_S + (dice.uniform(0.0, 1.0) if dice.random() < 0.75 else dice.uniform(0.0, BAR_S))


def _event(dice: random.Random, at_s: float, weights: dict[str, int]) -> Event:
    kind = dice.choices(list(weights), list(weights.values()))[0]
    at_s = round(at_s - at_s % BAR_S + (dice.uniform(0.0, 1.0) if dice.random() < 0.6 else at_s % BAR_S), 3)
    number: float = dice.randint(1, 3)
    what = where = ""
    if kind == "wire":
        what, where = dice.choice(WIRE), dice.choice((WRITES[0], dice.choice(WRITES), dice.choice(READS)))
        number = dice.choice((0.5, 2.0, 4.8, 6.0, 15.0))
    elif kind == "answer":
        what, where = dice.choice(ANSWERS), dice.choice((WRITES[0], dice.choice(WRITES), dice.choice(READS)))
    elif kind == "code":
        group = dice.choice([k for k in CODES if k != "keys"])
        what, where = f"code_{dice.choice(CODES[group])}", dice.choice((WRITES[0], dice.choice(WRITES)))
    elif kind == "keys":
        what, where, number = f"code_{dice.choice(CODES['keys'])}", dice.choice((*READS, *WRITES)), dice.choice((1, 12))
    elif kind == "stream":
        what, where = dice.choice(STREAM), dice.choice(("order", "execution", "position", "wallet", "kline*"))
    elif kind == "candles":
        what, number = dice.choice(CANDLES), dice.randint(1, 4)
    elif kind == "cut":
        what = dice.choice(("private", "linear", "*"))
    elif kind == "outage":
        number = dice.choice((1.0, 12.0, 90.0, 400.0))
    elif kind == "late events":
        number = dice.choice((0.3, 2.0, 30.0))
    elif kind == "lag":
        number = dice.choice((0.2, 1.0, 3.0, 10.0))
    elif kind == "match":
        number, what = dice.choice((0.05, 0.5, 3.0, 12.0)), dice.choice(("", "hidden"))
    elif kind == "stuck":
        what, number = dice.choice(("silent", "orphan")), dice.choice((4.0, 8.0, 15.0))
    elif kind == "thin":
        what = dice.choice(("0.001", "0.01", "0.5"))
    elif kind == "clock":
        number = dice.choice((-3.0, -1.5, -0.5, 1.5, 8.0))
    elif kind == "server clock":
        number = dice.choice((-10.0, 10.0))
    elif kind == "disk full":
        number = dice.choice((0.2, 5.0, 400.0))
    elif kind == "hand":
        what = dice.choice(("Buy", "Sell"))
    elif kind == "step":
        what = dice.choice(("0.01", "0.1"))
    return Event(at_s, kind, what, where, number)
