"""Where tasks run: in this process or in several on this machine. Finished results are on disk and never computed again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from data.atomic import write_bytes
from nas.network.stretches import Samples
from nas.search.result import SearchResult
from nas.tasks.memory import peak_mib
from nas.tasks.processes import context
from nas.tasks.work import Task, TaskResult, joined_task, pieces_of, run_piece, run_task, stage_of, task_key

OnDone = Callable[[int, bool], None]  # (index of the task, whether it was found finished)
Ahead = Callable[[int, TaskResult], Iterable[Task]]


def nothing(_index: int, _result: TaskResult) -> Iterable[Task]:
    """Nothing is known of what will be asked for next."""
    return ()


@dataclass(frozen=True)
class Store:
    """Results under the hash of task, data and code, one file each; a damaged file counts as not there."""

    folder: Path
    data_fingerprint: str
    code_version: str

    def key(self, task: Task) -> str:
        """The name of the task's file."""
        return task_key(task, self.data_fingerprint, self.code_version)

    def get(self, key: str) -> TaskResult | None:
        """The finished result; None where there is none, or its file is damaged."""
        try:
            return TaskResult.from_bytes((self.folder / f"{key}.safetensors").read_bytes())
        except (OSError, ValueError):
            return None

    def put(self, key: str, result: TaskResult) -> TaskResult:
        """Keep a result; returns it as `get` will, so that a resumed run goes on from the very same values."""
        content = result.to_bytes()
        write_bytes(self.folder / f"{key}.safetensors", content)
        return TaskResult.from_bytes(content)


class Workers(Protocol):
    """Something that computes tasks in any order."""

    def compute(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Yield (index, result) as they finish; whoever iterates may append to `tasks` meanwhile."""

    def close(self, kill: bool) -> None:
        """Give everything back; `kill`: do not wait for what is under way."""


class Engine:
    """Runs batches of tasks on `workers`, taking from and adding to `store`. A context manager."""

    def __init__(self, workers: Workers, store: Store) -> None:
        self.workers = workers
        self.store = store
        self.cpu_s: dict[str, float] = {}  # per kind of task, what was computed here and not found finished
        self.worker_mib = 0.0  # peak memory of the largest process of its own that computed tasks

    def run(
        self, tasks: Sequence[Task], on_done: OnDone = lambda _index, _cached: None, ahead: Ahead = nothing
    ) -> list[TaskResult]:
        """Results in the order of `tasks`; equal tasks are computed once.

        ahead: (index, result) -> tasks that will be asked for next. They are computed beside these, and found finished then.
        """
        places: dict[str, list[int]] = {}
        for index, task in enumerate(tasks):
            places.setdefault(self.store.key(task), []).append(index)
        found: dict[str, TaskResult] = {}
        asked: set[str] = set()
        keys: list[str] = []  # of `waiting`, which grows while the workers compute it
        waiting: list[Task] = []

        def ask(key: str, task: Task) -> None:
            if key in asked:
                return
            asked.add(key)
            known = self.store.get(key)
            if known is not None:
                settle(key, known, cached=True)
            else:
                keys.append(key)
                waiting.append(task)

        def settle(key: str, result: TaskResult, cached: bool) -> None:
            for position, index in enumerate(places.get(key, ())):
                found[key] = result
                on_done(index, cached or position > 0)
                for task in ahead(index, result):
                    ask(self.store.key(task), task)

        for key, (index, *_) in places.items():
            ask(key, tasks[index])
        for position, result in self.workers.compute(waiting):
            stage = stage_of(waiting[position])
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + result.cpu_s
            self.worker_mib = max(self.worker_mib, result.worker_mib)
            settle(keys[position], self.store.put(keys[position], result), cached=False)
        return [found[self.store.key(task)] for task in tasks]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.workers.close(kill=kind is not None)


def timed(task: Task, samples: Samples, watch: Path | None = None) -> TaskResult:
    """`run_task` with the processor seconds it took."""
    began = time.process_time()
    result = run_task(task, samples, watch)
    return replace(result, cpu_s=time.process_time() - began)


class InProcess:
    """One task after the other, here. watch: folder in which searches can be watched (`nas.search.watch`)."""

    def __init__(self, samples: Samples, watch: Path | None = None) -> None:
        self.samples = samples
        self.watch = watch

    def compute(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        for index, task in enumerate(tasks):
            yield index, timed(task, self.samples, self.watch)

    def close(self, kill: bool) -> None:
        pass


@dataclass(frozen=True)
class Piece:
    """What a piece of a task left, the processor seconds it took, and the peak memory of its process."""

    found: SearchResult | TaskResult
    cpu_s: float
    worker_mib: float


_samples: Samples | None = None  # of a worker process: received once, at its start
_watch: Path | None = None


def _start_worker(samples: Samples, watch: Path | None) -> None:
    global _samples, _watch
    _samples, _watch = samples, watch
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _work(task: Task, watched: bool = True) -> Piece:
    assert _samples is not None
    began = time.process_time()
    found = run_piece(task, _samples, _watch if watched else None)
    return Piece(found, time.process_time() - began, peak_mib())


class Processes:
    """Several processes on this machine, started when there is work for more than one and kept for the next batch.

    watch: folder in which searches can be watched (`nas.search.watch`).
    """

    def __init__(self, samples: Samples, jobs: int, watch: Path | None = None) -> None:
        self.samples = samples
        self.jobs = jobs
        self.watch = watch
        self.pool: ProcessPoolExecutor | None = None

    def compute(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        if self.pool is None and (self.jobs == 1 or sum(len(pieces_of(task)) for task in tasks) <= 1):
            yield from InProcess(self.samples, self.watch).compute(tasks)
            return
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                self.jobs, mp_context=context(), initializer=_start_worker, initargs=(self.samples, self.watch)
            )
        running: dict[Future[Piece], tuple[int, int]] = {}
        done: list[dict[int, Piece]] = []  # of every task its pieces, by their place
        while True:
            for index in range(len(done), len(tasks)):
                done.append({})
                for place, piece in enumerate(pieces_of(tasks[index])):
                    running[self.pool.submit(_work, piece, place == 0)] = index, place
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, place = running.pop(future)
                done[index][place] = future.result()
                if len(done[index]) == len(pieces_of(tasks[index])):
                    pieces = [done[index][k] for k in range(len(done[index]))]
                    done[index] = {}
                    result = joined_task(tasks[index], [piece.found for piece in pieces])
                    cpu_s, most = sum(piece.cpu_s for piece in pieces), max(piece.worker_mib for piece in pieces)
                    yield index, replace(result, cpu_s=cpu_s, worker_mib=most)

    def close(self, kill: bool) -> None:
        if self.pool is None:
            return
        # a worker holds nothing that its results have not told: at the end it is not asked to tidy up either (.7 s of the processor)
        processes = list((getattr(self.pool, "_processes", None) or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
