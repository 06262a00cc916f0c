"""Tasks on a Ray cluster: the same pure functions, so the same bytes as on one machine.

The samples are placed once in Ray's object store; results come back through Ray, so nodes need no shared disk; the packages `data`
and `nas` travel with the job, so nodes need only the dependencies. A task whose worker or node dies is run again elsewhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from data.arithmetic import PINS, REMOVED, pinned
from data.panel import InputError
from data.place import ROOT
from nas.network.stretches import Samples
from nas.tasks.engine import timed
from nas.tasks.memory import peak_mib
from nas.tasks.work import Task, TaskResult

RETRIES = 8  # a lost worker or node costs one; a task that kills its worker every time must end


def _work(task: Task, samples: Samples, pins: bool) -> tuple[bytes, float, float]:
    if pins and not pinned():
        raise InputError(
            f"a worker of Ray does not take the pins of --reproducible; start it without {', '.join(REMOVED)}"
        )
    result = timed(task, samples)
    return result.to_bytes(), result.cpu_s, peak_mib()


def _answers(address: str | None) -> None:
    """InputError where nothing listens at host:port: Ray itself would try for minutes. `auto` and names are left to Ray."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at --address {address} ({error}); start one with `ray start --head`"
        ) from None


class RayWorkers:
    """`nas.tasks.engine.Workers` on Ray. address None: a cluster on this machine with `jobs` processors, ended on close."""

    def __init__(
        self, samples: Samples, *, address: str | None = None, jobs: int | None = None, gpus_per_task: float = 0.0
    ) -> None:
        try:
            # must be set before the import: nothing about the user is to leave the machine
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            import ray  # optional
        except ImportError:
            raise InputError("--engine ray needs Ray: pip install .[ray], or use --engine local") from None
        self.ray: Any = ray
        self.mine = not ray.is_initialized()
        self.pins = PINS if pinned() else {}  # workers compute as this process does
        if self.mine:
            _answers(address)
            # packages travel only to a cluster elsewhere: on this machine they are importable as they are
            modules = {"py_modules": [str(ROOT / "data"), str(ROOT / "nas")]} if address else {}
            path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # ops of the user's own too
            environment = {"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, **modules}
            try:
                ray.init(
                    address=address,
                    num_cpus=None if address else jobs,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env=environment,
                )
            except (ConnectionError, RuntimeError) as error:
                raise InputError(
                    f"no Ray cluster answers at --address {address}: {str(error).splitlines()[0]}; start one with `ray start --head`"
                ) from None
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus_per_task, "max_retries": RETRIES}
        if self.pins:
            options["runtime_env"] = {"env_vars": self.pins}
        self.remote = ray.remote(**options)(_work)
        self.samples = ray.put(samples)

    def compute(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        pending: dict[Any, int] = {}
        begun = 0
        while True:
            for task in tasks[begun:]:
                pending[self.remote.remote(task, self.samples, bool(self.pins))] = begun
                begun += 1
            if not pending:
                return
            done, _ = self.ray.wait(list(pending), num_returns=1)
            for reference in done:
                index = pending.pop(reference)
                content, cpu_s, mib = self.ray.get(reference)
                yield index, replace(TaskResult.from_bytes(content), cpu_s=cpu_s, worker_mib=mib)

    def close(self, kill: bool) -> None:
        if self.mine:
            self.ray.shutdown()
