"""Where tasks run: in this process or in several on this machine. Finished results are on disk and never computed again."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from data.atomic import write_bytes
from nas.network.stretches import Samples
from nas.tasks.memory import peak_mib
from nas.tasks.work import Task, TaskResult, run_task, stage_of, task_key

OnDone = Callable[[int, bool], None]  # (index of the task, whether it was found finished)


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
        """Yield (index, result) as they finish."""

    def close(self, kill: bool) -> None:
        """Give everything back; `kill`: do not wait for what is under way."""


class Engine:
    """Runs batches of tasks on `workers`, taking from and adding to `store`. A context manager."""

    def __init__(self, workers: Workers, store: Store) -> None:
        self.workers = workers
        self.store = store
        self.cpu_s: dict[str, float] = {}  # per kind of task, what was computed here and not found finished
        self.worker_mib = 0.0  # peak memory of the largest process of its own that computed tasks

    def run(self, tasks: Sequence[Task], on_done: OnDone = lambda _index, _cached: None) -> list[TaskResult]:
        """Results in the order of `tasks`; equal tasks are computed once."""
        keys = [self.store.key(task) for task in tasks]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        found: dict[str, TaskResult] = {}
        waiting: list[int] = []
        for key, index in first.items():
            known = self.store.get(key)
            if known is None:
                waiting.append(index)
            else:
                found[key] = known
        waiting.sort()
        for index, key in enumerate(keys):
            if key in found or first[key] != index:
                on_done(index, True)
        for position, result in self.workers.compute([tasks[index] for index in waiting]):
            index = waiting[position]
            stage = stage_of(tasks[index])
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + result.cpu_s
            self.worker_mib = max(self.worker_mib, result.worker_mib)
            found[keys[index]] = self.store.put(keys[index], result)
            on_done(index, False)
        return [found[key] for key in keys]

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


_samples: Samples | None = None  # of a worker process: received once, at its start
_watch: Path | None = None


def _start_worker(samples: Samples, watch: Path | None) -> None:
    global _samples, _watch
    _samples, _watch = samples, watch
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _work(task: Task) -> TaskResult:
    assert _samples is not None
    return replace(timed(task, _samples, _watch), worker_mib=peak_mib())


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
        if self.pool is None and (self.jobs == 1 or len(tasks) <= 1):
            yield from InProcess(self.samples, self.watch).compute(tasks)
            return
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(
                self.jobs, mp_context=context, initializer=_start_worker, initargs=(self.samples, self.watch)
            )
        futures: dict[Future[TaskResult], int] = {self.pool.submit(_work, task): i for i, task in enumerate(tasks)}
        while futures:
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures.pop(future), future.result()

    def close(self, kill: bool) -> None:
        if self.pool is None:
            return
        processes = list((getattr(self.pool, "_processes", None) or {}).values())
        self.pool.shutdown(wait=not kill, cancel_futures=True)
        if kill:
            for process in processes:
                process.kill()
