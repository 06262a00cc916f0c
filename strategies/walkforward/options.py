"""How to run, as against what to run: folders, processes, what is written besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data.errors import InputError
from strategies.walkforward.config import first_problem


@dataclass(frozen=True)
class Options:
    """How to run, as against what to run: nothing here changes a result."""

    out: Path = Path("reports")
    jobs: int | None = None
    engine: str = "local"
    address: str | None = None
    gpus_per_task: float = 0.0
    fresh: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False
    pages: bool = True
    profile: bool = False
    tensorboard: bool = False
    mlflow: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"--jobs must be at least 1, not {self.jobs}")
        if not 0 <= self.gpus_per_task < float("inf"):
            raise InputError(f"--gpus-per-task must be a number >= 0, not {self.gpus_per_task}")


def options_of(values: Mapping[str, Any]) -> Options:
    """Options from a file or flags; InputError for a value of the wrong kind."""
    try:
        return TypeAdapter(Options).validate_python(dict(values))
    except ValidationError as error:
        raise InputError(first_problem(error)) from None
