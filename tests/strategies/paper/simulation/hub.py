"""Virtual time and the scheduler: tasks are greenlets that run until they wait; what happens next is the earliest entry of one heap."""

from __future__ import annotations

import heapq
import itertools
import queue
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import greenlet
import pybit.unified_trading  # noqa: F401 (what it loads lives in virtual time, too)
import websocket

#: what monotonic clocks show at the start: 0 means "never" in some places
BOOT_S = 1_000.0


class Killed(BaseException):
    """The process is gone: nothing it still does has an effect."""


class Process:
    """Tasks that live and die together. Every await and every write is a `point`; at point number `kill_at` it dies."""

    def __init__(self) -> None:
        self.alive = True
        self.points = 0
        self.kill_at = -1
        self.tasks: list[Task] = []

    def point(self) -> None:
        if not self.alive:
            raise Killed
        self.points += 1
        if self.points == self.kill_at:
            self.alive = False
            raise Killed


class Task:
    """A greenlet of a process. ticket: number of its present wait; entries of the heap that name an older one are void."""

    def __init__(self, process: Process, run: Callable[[], None], main: greenlet.greenlet) -> None:
        self.process, self.ticket = process, 0
        self.greenlet = greenlet.greenlet(run, main)


Box = list[tuple[Task, int]]  # who waits for something


class Hub:
    """Looks like the event loop of the stand-in: `call_later`, `call_soon_threadsafe`, `is_running`. skew_s: of the machine's clock."""

    def __init__(self, epoch_s: float) -> None:
        self.now, self.epoch_s, self.skew_s = 0.0, epoch_s, 0.0
        self.task: Task | None = None
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._number = itertools.count()
        self._main = greenlet.getcurrent()

    def call_later(self, delay_s: float, call: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._heap, (self.now + delay_s, next(self._number), call, arguments))

    def call_soon_threadsafe(self, call: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._heap, (self.now, next(self._number), call, arguments))

    def is_running(self) -> bool:
        return True

    def run(self, done: Callable[[], bool]) -> None:
        """Until `done()`, which is asked after every event."""
        heap = self._heap
        while heap and not done():
            self.now, _, call, arguments = heapq.heappop(heap)
            call(*arguments)

    # tasks

    def spawn(self, process: Process, run: Callable[[], None]) -> Task:
        def to_the_end(_: bool) -> None:
            with suppress(Killed):
                run()

        task = Task(process, to_the_end, self._main)
        process.tasks.append(task)
        self.call_later(0.0, self._resume, task, 0, False)
        return task

    def pause(self, seconds: float, box: Box | None = None) -> bool:
        """The running task waits; True where `wake(box)` ended that early."""
        task = self.task
        assert task is not None, "only tasks may wait"
        task.process.point()
        ticket = task.ticket
        heapq.heappush(
            self._heap, (self.now + max(seconds, 0.0), next(self._number), self._resume, (task, ticket, False))
        )
        if box is not None:
            box.append((task, ticket))
        woken: bool = self._main.switch()
        if not task.process.alive:
            raise Killed
        return woken

    def wake(self, box: Box) -> None:
        for task, ticket in box:
            self.call_later(0.0, self._resume, task, ticket, True)
        box.clear()

    def _resume(self, task: Task, ticket: int, woken: bool) -> None:
        if ticket != task.ticket or not task.process.alive:
            return
        task.ticket += 1
        self.task = task
        task.greenlet.switch(woken)
        self.task = None
        if not task.process.alive:
            self.bury(task.process)

    def bury(self, process: Process) -> None:
        """The process dies now, whatever its tasks are at."""
        process.alive = False
        for task in process.tasks:
            if task.greenlet and not task.greenlet.dead:
                self.task = task
                task.greenlet.throw(Killed)
                self.task = None
        process.tasks.clear()


# what modules see instead of time, random, queue and so on


class _Scene:
    """The simulation that runs at present."""

    hub: Hub
    dice: random.Random
    ids: Iterator[int]
    connect: Callable[..., Any]


SCENE = _Scene()


class _Stand:
    """A module, some of whose names mean something else."""

    def __init__(self, real: ModuleType, **others: Any) -> None:
        self.__dict__.update(others)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Inbox:
    """queue.Queue of tasks."""

    def __init__(self, *_: Any) -> None:
        self._items: list[Any] = []
        self._box: Box = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._box:
            SCENE.hub.wake(self._box)

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.pop(0)

    def get(self, timeout: float) -> Any:
        deadline = SCENE.hub.now + timeout
        while not self._items:
            if SCENE.hub.now >= deadline:
                raise queue.Empty
            SCENE.hub.pause(deadline - SCENE.hub.now, self._box)
        return self._items.pop(0)


class _Event:
    def __init__(self) -> None:
        self._set, self._box = False, []  # type: ignore[var-annotated]

    def set(self) -> None:
        self._set = True
        SCENE.hub.wake(self._box)

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float) -> bool:
        if not self._set:
            SCENE.hub.pause(timeout, self._box)
        return self._set


class _Thread:
    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self._target = target
        self._task: Task | None = None

    def start(self) -> None:
        task = SCENE.hub.task
        assert task is not None
        self._task = SCENE.hub.spawn(task.process, self._target)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.greenlet.dead

    def join(self, timeout: float) -> None:
        deadline = SCENE.hub.now + timeout
        while self.is_alive() and SCENE.hub.now < deadline:
            SCENE.hub.pause(0.1)


def _clock(machine: bool) -> _Stand:
    def now() -> float:
        hub = SCENE.hub
        return hub.epoch_s + hub.now + (hub.skew_s if machine else 0.0)

    return _Stand(
        time, monotonic=lambda: SCENE.hub.now + BOOT_S, time=now, time_ns=lambda: int(now() * 1e6) * 1000,
        sleep=lambda seconds: SCENE.hub.pause(seconds),
    )  # fmt: skip


_RANDOM = _Stand(random, uniform=lambda low, high: SCENE.dice.uniform(low, high))
_UUID = _Stand(uuid, uuid4=lambda: uuid.UUID(int=next(SCENE.ids)))
_SECRETS = _Stand(secrets, token_hex=lambda size: f"{next(SCENE.ids):0{2 * size}x}"[-2 * size :])
_QUEUE = _Stand(queue, Queue=Inbox)
_THREADING = _Stand(threading, Thread=_Thread, Event=_Event)
_WEBSOCKET = _Stand(websocket, create_connection=lambda url, **how: SCENE.connect(url, **how))
#: whose view of the world is replaced: the machine's, and the exchange's (whose clock is right)
_MACHINE, _EXCHANGE = ("strategies.paper.", "pybit."), ("data.standin.",)


@contextmanager
def installed() -> Iterator[None]:
    """Every loaded module of trader, pybit and stand-in lives in virtual time until the block ends."""
    changed: list[tuple[ModuleType, str, Any]] = []

    def put(module: ModuleType, name: str, real: Any, stand: Any) -> None:
        if module.__dict__.get(name) is real:
            changed.append((module, name, real))
            setattr(module, name, stand)

    machine, exchange = _clock(True), _clock(False)
    for name, module in list(sys.modules.items()):
        ours, theirs = name.startswith(_MACHINE), name.startswith(_EXCHANGE)
        if not (ours or theirs):
            continue
        put(module, "time", time, machine if ours else exchange)
        for what, real, stand in (
            ("random", random, _RANDOM), ("uuid", uuid, _UUID), ("secrets", secrets, _SECRETS), ("queue", queue, _QUEUE),
        ):  # fmt: skip
            put(module, what, real, stand)
        if name == "strategies.paper.decisions.streams":
            put(module, "threading", threading, _THREADING)
            put(module, "websocket", websocket, _WEBSOCKET)
    try:
        yield
    finally:
        for module, name, real in changed:
            setattr(module, name, real)
