"""A search that was killed goes on: everything of it that moves, written after every epoch or training."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data.atomic import write_bytes
from data.errors import InputError
from nas.network.stretches import Tensors
from nas.search.settings import SearchSettings
from nas.space.search_space import SearchSpace

FORMAT = 1


class Checkpoint:
    """The file of one search. `read` gives what was written for the same search; InputError for that of another."""

    def __init__(
        self,
        path: Path,
        space: SearchSpace,
        tensors: Tensors,
        splits: object,
        settings: SearchSettings,
        seed: int,
        variant: str,
    ) -> None:
        self.path = path
        digest = hashlib.sha256()
        for values in (tensors.x, tensors.y, tensors.weight):
            digest.update(values.contiguous().numpy().tobytes())
        said = [
            FORMAT,
            space.to_json(),
            asdict(settings),
            seed,
            variant,
            str(splits),
            digest.hexdigest(),
            torch.__version__,
        ]
        self.key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def write(self, **content: Any) -> None:
        """What the search goes on with: plain values and tensors."""
        held = io.BytesIO()
        torch.save({"key": self.key, **content}, held)
        write_bytes(self.path, held.getvalue())

    def read(self) -> dict[str, Any] | None:
        """None where nothing was written yet."""
        if not self.path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception:  # torch names no exception of its own for a file that is none of its
            raise InputError(f"{self.path} is no checkpoint of a search; delete it, or name another file") from None
        if content.get("key") != self.key:
            raise InputError(
                f"{self.path} holds another search (other data, space, settings, seed, variant or torch); delete it, or name another file"
            )
        return content

    def done(self) -> None:
        """The search has ended: nothing is left to go on with."""
        self.path.unlink(missing_ok=True)
