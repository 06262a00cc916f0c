from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.simulated import simulate
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.search.settings import SearchSettings
from nas.space.search_space import SearchSpace
from nas.tasks.engine import Engine, InProcess, Processes, Store
from nas.tasks.windows import WindowPlan
from nas.tasks.work import SearchTask, Task, TaskResult, TrainTask, run_task

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install .[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def samples() -> Samples:
    panel = simulate(["BTCUSDT"], "60", end=np.datetime64("2024-03-10", "ns"), start=np.datetime64("2024-01-01", "ns"))
    return Samples.of(panel, (6,))


@pytest.fixture(scope="module")
def tasks(samples: Samples) -> list[Task]:
    space = SearchSpace(ops=("zero", "identity", "conv3"), nodes=1, channels=4, horizons=(6,)).with_features(
        dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True))
    )
    windows = WindowPlan(500, 200, 200, 200).windows(len(samples.panel), first=samples.bank.warmup_bars, purge_bars=20)
    settings = [SearchSettings(epochs=2)] * 7 + [SearchSettings(epochs=2, repeats=2, undecided="simpler")]
    return [SearchTask(windows[0], "darts", seed, space, how) for seed, how in enumerate(settings)]


@pytest.fixture(scope="module")
def expected(samples: Samples, tasks: list[Task]) -> list[bytes]:
    return [run_task(task, samples).to_bytes() for task in tasks]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one processor. Starting one takes seconds."""
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


def as_bytes(results: list[TaskResult]) -> list[bytes]:
    return [result.to_bytes() for result in results]


def test_processes_give_the_bytes_of_this_process(
    samples: Samples, tasks: list[Task], expected: list[bytes], tmp_path: Path
) -> None:
    with Engine(Processes(samples, 2), Store(tmp_path, "data", "code")) as engine:
        assert as_bytes(engine.run(tasks)) == expected


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_follows_a_task_is_computed_beside_the_rest_and_found_finished(
    samples: Samples, tasks: list[Task], expected: list[bytes], tmp_path: Path, jobs: int
) -> None:
    """The last task's repeats are searched in a process each and are one result all the same."""
    store = Store(tmp_path, "data", "code")
    with Engine(Processes(samples, jobs), store) as engine:
        found = engine.run([*tasks[:2], tasks[7]], ahead=lambda index, _result: [tasks[2 + index], tasks[0]])
        told = []
        followed = engine.run(tasks[2:5], lambda index, cached: told.append((index, cached)))
    assert as_bytes(found) == [*expected[:2], expected[7]]
    assert as_bytes(followed) == expected[2:5]
    assert sorted(told) == [(0, True), (1, True), (2, True)]
    assert len(list(tmp_path.iterdir())) == 6


def test_finished_tasks_are_read_not_computed_and_damaged_ones_are_computed_again(
    samples: Samples, tasks: list[Task], expected: list[bytes], tmp_path: Path
) -> None:
    store = Store(tmp_path, "data", "code")
    with Engine(InProcess(samples), store) as engine:
        engine.run(tasks[:3])
        damaged = tmp_path / f"{store.key(tasks[1])}.safetensors"
        content = bytearray(damaged.read_bytes())
        content[-1] ^= 1
        damaged.write_bytes(content)
        seen: list[tuple[int, bool]] = []
        assert as_bytes(engine.run(tasks[:3], lambda i, cached: seen.append((i, cached)))) == expected[:3]
    assert sorted(seen) == [(0, True), (1, False), (2, True)]


def test_equal_tasks_are_computed_once(samples: Samples, tasks: list[Task], tmp_path: Path) -> None:
    class Counting(InProcess):
        count = 0

        def compute(self, tasks):  # type: ignore[no-untyped-def]
            Counting.count += len(tasks)
            return super().compute(tasks)

    with Engine(Counting(samples), Store(tmp_path, "data", "code")) as engine:
        first, second = engine.run([tasks[0], tasks[0]])
    assert Counting.count == 1
    assert first.to_bytes() == second.to_bytes()


def test_workers_take_the_pins_of_the_process_that_asks(
    samples: Samples, tasks: list[Task], cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data.arithmetic import PINS, REMOVED
    from nas.tasks.cluster import RayWorkers

    for name in REMOVED:
        monkeypatch.delenv(name, raising=False)
    for name, value in PINS.items():  # only now: the cluster has begun without them
        monkeypatch.setenv(name, value)
    workers = RayWorkers(samples, address=cluster.address)
    assert len(list(workers.compute(tasks[:1]))) == 1, "a worker without the pins refuses"
    workers.close(kill=False)


def test_models_of_the_users_own_are_fitted_on_ray_to_the_same_bytes(
    samples: Samples, tasks: list[Task], cluster: Any
) -> None:
    from nas.tasks.cluster import RayWorkers

    own: list[Task] = [
        TrainTask(tasks[0].window, f"examples.own_models:{name}", 0, tasks[0].space, TrainingSettings())  # type: ignore[union-attr]
        for name in ("Ridge", "Tiny")
    ]
    workers = RayWorkers(samples, address=cluster.address)
    told = sorted((index, result.to_bytes()) for index, result in workers.compute(own))
    workers.close(kill=False)
    assert [each for _, each in told] == [run_task(task, samples).to_bytes() for task in own]


@pytest.mark.slow
def test_a_two_node_cluster_that_loses_a_worker_and_a_node_gives_the_same_bytes(
    samples: Samples, tasks: list[Task], expected: list[bytes], cluster: Any, tmp_path: Path
) -> None:
    from nas.tasks.cluster import RayWorkers

    extra = cluster.add_node(num_cpus=1)
    found = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": found})
    try:
        workers = RayWorkers(samples)
        killed: list[str] = []

        def sabotage() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not killed:  # a worker that is busy with one of our tasks
                for entry in Path("/proc").iterdir():
                    if not entry.name.isdigit():
                        continue
                    try:
                        title = (entry / "cmdline").read_bytes()
                    except OSError:
                        continue
                    if title.startswith(b"ray::_work"):
                        os.kill(int(entry.name), signal.SIGKILL)
                        killed.append("worker")
                        break
                time.sleep(0.02)
            cluster.remove_node(extra, allow_graceful=False)
            killed.append("node")

        saboteur = threading.Thread(target=sabotage)
        saboteur.start()
        with Engine(workers, Store(tmp_path, "data", "code")) as engine:
            results = engine.run(tasks)
        saboteur.join()
        assert killed == ["worker", "node"]
        assert as_bytes(results) == expected
    finally:
        ray.shutdown()
