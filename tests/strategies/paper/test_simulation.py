"""The simulation: same seed, same bytes; nothing doubled or lost; and planted bugs are found."""

from __future__ import annotations

import ast
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import pytest

from data.standin import Fault
from tests.strategies.paper.simulation.bugs import BUGS, planted
from tests.strategies.paper.simulation.markets import BAR_S
from tests.strategies.paper.simulation.plan import Event, Kill, Plan, plan_of
from tests.strategies.paper.simulation.session import Session, simulate, simulating
from tests.strategies.paper.simulation.shorten import shorten


@pytest.fixture(autouse=True)
def _simulating() -> Iterator[None]:
    with simulating():
        yield


def of(seed: int, bars: int = 24, **changes: object) -> Plan:
    """A short session with many faults, all on one market."""
    return replace(plan_of(seed, bars, faults=0.6, kills=0.12, markets=1), symbols=1, **changes)  # type: ignore[arg-type]


def test_same_seed_same_journal_to_the_byte() -> None:
    one, again, other = simulate(of(1), log=True), simulate(of(1), log=True), simulate(of(2), log=True)
    assert one.log == again.log
    assert one.image == again.image
    assert one.image != other.image
    assert tempfile.gettempdir().encode() not in one.image  # another in every process


def test_nothing_is_doubled_or_lost_under_faults_and_kills() -> None:
    found = [simulate(of(seed)) for seed in range(10, 18)]
    assert [(o.plan.seed, o.wrong) for o in found if o.wrong] == []
    assert sum(o.kills for o in found) > 10
    assert sum(o.faults for o in found) > 70
    assert sum(o.fills for o in found) > 100


def test_a_kill_at_any_await_or_write_is_survived() -> None:
    calm = Plan(7, 3, stop_loss=3.0, end="flatten")
    points = simulate(calm).points
    assert points > 200
    for point in (*range(1, points, points // 20), points):
        killed = simulate(replace(calm, kills=(Kill(-BAR_S, point, 0.3, False),)))
        assert (point, killed.kills, killed.wrong) == (point, 1, [])


#: bug -> a seed that finds it
FOUND_BY = {
    "fresh ids": 0,
    "no look-up": 1,
    "no stop after a restart": 1,
    "sent before written": 0,
    "id reused": 12,
    "not synced": 0,
}
#: not found by the short seeds from 0 to 59; by a dense one (below)
BY_DENSE = {"new id at every start"}


@pytest.mark.parametrize("bug", FOUND_BY)
def test_a_planted_bug_is_found(bug: str) -> None:
    plan = of(FOUND_BY[bug])
    assert simulate(plan).wrong == []
    with planted(bug):
        assert simulate(plan).wrong != []


def test_every_planted_bug_is_asked_for() -> None:
    assert set(BUGS) == set(FOUND_BY) | BY_DENSE


def test_a_no_to_a_second_sending_does_not_settle_the_first() -> None:
    """Found by the simulation: the answer to an order was lost, the order hidden; sent again, refused, called rejected, and filled."""
    stuck, refused = Event(0.0, "stuck", "silent", "", 15.0), Event(9.0, "code", "code_30133", "/v5/order/create", 1)
    found = simulate(Plan(75, 3, events=(stuck, refused)))
    assert (found.counts["answer code_30133"], found.wrong) == (1, [])


def test_a_limit_order_that_was_filled_while_its_answer_was_lost_is_not_sent_twice() -> None:
    """Found by the simulation: its executions were not in the journal yet, so all of it was sent again under the next id."""
    plan = replace(plan_of(20004, 60, faults=0.6, kills=0.12), bars=13)
    assert plan.limit_orders
    assert simulate(plan).wrong == []


def test_an_order_called_lost_that_was_filled_is_looked_up_again() -> None:
    """Found by the simulation: the request arrived after its connection broke, was hidden for longer than it was looked for, and filled."""
    stuck, full = Event(12000.007, "stuck", "orphan", "", 8.0), Event(12000.976, "disk full", "", "", 5.0)
    plan = replace(plan_of(30034, 60, faults=0.6, kills=0.12), bars=42, events=(stuck, full), kills=())
    assert simulate(plan).wrong == []


#: what the stream told during a look-up was overwritten, the order sent again and called lost; the second of two legs was sent again
#: under the id of the first (a doubled order, hedge mode); an id used again kept the side of its first order in the journal; a position
#: that a person had turned stayed without a stop after the halt for it
MENDED = (40589, 40808, 40859, 90185)


@pytest.mark.parametrize("seed", MENDED)
def test_what_dense_sessions_found_stays_mended(seed: int) -> None:
    assert simulate(plan_of(seed, 60, faults=0.6, kills=0.12)).wrong == []


def dense(seed: int, bars: int, *happens: Event | Kill) -> Plan:
    """A dense session, shortened to the faults and kills that matter."""
    events, kills = (tuple(e for e in happens if isinstance(e, kind)) for kind in (Event, Kill))
    return replace(plan_of(seed, 60, faults=0.6, kills=0.12), bars=bars, events=events, kills=kills)  # type: ignore[arg-type]


TAKEN_AT_FIRST = "called lost, sent again for a little less, and the first sending was there"
SHORTENED = {
    "an order rested on, its cancelling seemed to work, and its position was closed because the stop was refused": dense(
        41249, 15, Event(595.687, "code", "code_170121", "/v5/position/trading-stop", 3),
        Event(600.751, "code", "code_110043", "/v5/order/cancel", 3),
    ),
    TAKEN_AT_FIRST: dense(
        41034, 15, Event(1419.69, "wire", "refused", "/v5/order/create", 6.0), Event(1500.289, "answer", "http_500", "/v5/order/create", 1),
        Event(1500.607, "code", "code_110102", "/v5/order/create", 2), Event(3300.239, "stuck", "silent", "", 8.0),
        Kill(1041.6109677232141, 3, 700.0, True), Kill(3303.031, 0, 0.3, False),
    ),
    "the exchange calls a first sending a duplicate of an order that it never had": dense(
        41222, 15, Event(3745.856, "code", "code_110072", "/v5/order/create", 2),
    ),
    "a position was closed because its stop was refused, and the order of the bar turned it as if it were there": replace(
        of(42), events=(Event(3600.869, "code", "code_61001", "/v5/position/trading-stop", 3),
                        Event(3867.952, "code", "code_170151", "/v5/order/create", 2)), kills=(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("found", SHORTENED)
def test_what_the_simulation_found_stays_mended(found: str) -> None:
    assert simulate(SHORTENED[found]).wrong == []


def test_an_order_sent_under_a_new_id_after_a_start_is_found() -> None:
    with planted("new id at every start"):
        (wrong,) = simulate(SHORTENED[TAKEN_AT_FIRST]).wrong
    assert "has led from" in wrong


def test_a_position_turned_by_hand_may_wait_for_its_stop_while_keys_are_refused() -> None:
    """A false alarm of the auditor; without the refusals, or without the hand, a stop that is missing is found as before."""
    assert simulate(replace(plan_of(30011, 60, faults=0.6, kills=0.12), bars=12)).wrong == []
    with planted("no stop after a restart"):
        assert simulate(of(FOUND_BY["no stop after a restart"])).wrong != []


#: a person sells, the stop is refused three times and the order that would close instead twice, and it is down for 700 s in between
BARE_BY_HAND = dense(
    95159, 30, Event(3600.419, "outage", "", "", 400.0), Event(3600.897, "code", "code_110031", "/v5/position/trading-stop", 3),
    Event(4500.577, "wire", "refused", "/v5/order/create", 15.0), Event(6000.374, "code", "code_110075", "/v5/order/create", 1),
    Event(6900.204, "hand", "Sell", "", 2), Kill(6900.623372903439, 130, 700.0, False),
)  # fmt: skip


def test_a_position_left_by_hand_waits_for_a_trader_that_runs_and_an_exchange_that_takes_its_stop() -> None:
    """A false alarm of the auditor; of a trader that does not bring the position to its stop then, it is none."""
    assert simulate(BARE_BY_HAND).wrong == []

    def forget(session: Session) -> None:
        if session.hub.now > 8000.0 and session.trader is not None:
            session.trader.books.hold_stop = session.trader.stops.hold = lambda *_: False  # type: ignore[method-assign]
            session.trader.stops.attached = lambda *_: None  # type: ignore[method-assign]

    (wrong,) = simulate(BARE_BY_HAND, prepare=forget).wrong
    assert "a position was without its stop" in wrong


def test_a_no_that_was_given_before_the_faults_went_may_end_a_start_after_them() -> None:
    """A false alarm of the auditor; a no of an exchange without faults is none."""
    no, late = Event(560.0, "code", "code_110031", "/v5/position/set-leverage", 1), "/v5/position/set-leverage"
    healed_s = 0.9 * BAR_S + 3 * BAR_S
    slow = Event(561.0, "wire", "slow", late, 4.8)
    death = Kill(healed_s - BAR_S - 3.5, 0, 3.0, False)
    plan = Plan(200162, 3, events=(no, slow), kills=(death,))
    found = simulate(plan)
    assert [k for k in found.counts if k.startswith("ended: ")] != []
    assert found.wrong == []

    def refuse(session: Session) -> None:
        if session.starts > 1 and not session.quiet:
            fault = Fault("code_110031", late, times=1)
            session.hub.call_later(healed_s - session.hub.now + 0.001, session.world.faults.add, fault)

    (wrong,) = simulate(replace(plan, events=(), kills=(replace(death, down_s=3.45),)), prepare=refuse).wrong
    assert "gave up on a sound exchange" in wrong


def test_a_failing_plan_is_made_shorter() -> None:
    plan = of(FOUND_BY["fresh ids"])
    with planted("fresh ids"):
        shorter = shorten(plan, lambda p: bool(simulate(p).wrong))
        assert simulate(shorter).wrong
    assert len(shorter.events) + len(shorter.kills) < min(4, len(plan.events) + len(plan.kills))


def test_no_module_of_the_simulation_has_a_clock_of_its_own() -> None:
    names = [n for n in sys.modules if n.startswith(("strategies.paper.", "data.standin."))]
    assert len(names) > 30
    for name in names:
        source = sys.modules[name].__file__
        assert source is not None
        with open(source, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        taken = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not {"time", "random", "uuid", "secrets"} & set(taken), name
