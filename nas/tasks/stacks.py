"""Searches of many windows and seeds as stacks (`nas.search.stacked`), for a device that one search leaves idle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nas.network.stretches import Samples, Tensors
from nas.search.result import SearchResult
from nas.search.stacked import Member, search_stacked, signature, why_alone
from nas.search.variants import get_variant
from nas.tasks.engine import Workers
from nas.tasks.work import SearchTask, Task, TaskResult, reported, tensors_of, watched

MOST = 64  # searches of a stack on a GPU, unless a run says otherwise


class Stacks:
    """Searches that may be stacked run here, `size` at once or as many as the device's memory holds; all other tasks run by `others`.

    watch: folder in which searches can be watched (`nas.search.watch`).
    """

    def __init__(self, samples: Samples, others: Workers, size: int, watch: Path | None = None) -> None:
        self.samples, self.others, self.size, self.watch = samples, others, size, watch

    def compute(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        groups: dict[str, list[int]] = {}
        alone = []
        for index, task in enumerate(tasks):
            if isinstance(task, SearchTask) and why_alone(task.space, get_variant(task.variant)) is None:
                sizes = signature(task.space, task.window.train, task.window.validation, task.settings)
                groups.setdefault(repr((task.space, task.settings, task.variant, sizes)), []).append(index)
            else:
                alone.append(index)
        for group in groups.values():
            while group:
                began = time.process_time()
                chosen = group[: self.size]
                try:
                    found = self.search([task for k in chosen if isinstance(task := tasks[k], SearchTask)])
                except torch.OutOfMemoryError:
                    if self.size == 1:
                        raise
                    self.size //= 2
                    torch.cuda.empty_cache()
                    continue
                cpu_s = (time.process_time() - began) / len(chosen)
                for index, outcome in zip(chosen, found, strict=True):
                    task = tasks[index]
                    assert isinstance(task, SearchTask)
                    yield index, replace(reported(task, outcome), cpu_s=cpu_s)
                group = group[len(chosen) :]
        for position, result in self.others.compute([tasks[index] for index in alone]):
            yield alone[position], result

    def search(self, tasks: Sequence[SearchTask]) -> list[SearchResult]:
        """As one stack."""
        torch.set_num_threads(1)
        windows: dict[str, Tensors] = {}
        members = []
        for task in tasks:
            key = repr(task.window)
            if key not in windows:
                windows[key] = tensors_of(task, self.samples)
            members.append(Member(windows[key], task.window.train, task.window.validation, task.seed, task.initial))
        records = [watched(task, self.watch) for task in tasks]
        first = tasks[0]
        return search_stacked(
            first.space, members, first.settings, variant=first.variant, on_record=lambda k, row: records[k](row)
        )

    def close(self, kill: bool) -> None:
        self.others.close(kill)
