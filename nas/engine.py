"""Where tasks run: in this process or in several on this machine. Finished results are on disk and never computed again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from nas.stretches import Samples
from nas.tasks import Task, TaskResult, run_task

_samples: Samples | None = None  # of a worker process: received once, at its start


def _start_worker(samples: Samples) -> None:
    global _samples
    _samples = samples
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _work(task: Task) -> TaskResult:
    assert _samples is not None
    return run_task(task, _samples)


def run_tasks(
    tasks: Sequence[Task],
    samples: Samples,
    store: Path,
    keys: Sequence[str],
    *,
    jobs: int,
    on_done: Callable[[int, bool], None],
) -> Iterator[None]:
    """Run every task whose result is not in `store` yet; results appear there whole, as `<key>.safetensors`.

    Yields after each finished task, so that the caller may be interrupted between. on_done(index, was_cached).
    """
    waiting = []
    for index, key in enumerate(keys):
        if (store / f"{key}.safetensors").is_file():
            on_done(index, True)
        else:
            waiting.append(index)
    yield
    if jobs <= 1 or len(waiting) <= 1:
        for index in waiting:
            run_task(tasks[index], samples).save(store / f"{keys[index]}.safetensors")
            on_done(index, False)
            yield
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(jobs, len(waiting)), mp_context=context, initializer=_start_worker, initargs=(samples,)
    )
    try:
        futures: dict[Future[TaskResult], int] = {pool.submit(_work, tasks[i]): i for i in waiting}
        while futures:
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                index = futures.pop(future)
                future.result().save(store / f"{keys[index]}.safetensors")
                on_done(index, False)
            yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        raise
    pool.shutdown()
