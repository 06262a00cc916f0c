"""What a unit of work leaves behind, and how it is kept: one file whose damage is noticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy


@dataclass(frozen=True, eq=False)
class TaskResult:
    """What a task leaves behind: arrays (trained weights, forecasts) and a report that is plain JSON.

    A TrainTask's `stop_forecasts` and `test_forecasts` are [bar, asset], NaN where a feature is not known. cpu_s: processor seconds
    it took; worker_mib: peak memory of the process of its own that computed it, 0 where none did. Both are told once, where it was
    computed, and no part of what is stored or compared.
    """

    arrays: dict[str, npt.NDArray[Any]]
    report: dict[str, Any] = field(default_factory=dict)
    cpu_s: float = 0.0
    worker_mib: float = 0.0

    @property
    def stop_forecasts(self) -> npt.NDArray[np.float64]:
        return self.arrays["stop_forecasts"]

    @property
    def test_forecasts(self) -> npt.NDArray[np.float64]:
        return self.arrays["test_forecasts"]

    @property
    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        return {k.removeprefix("weights."): v for k, v in self.arrays.items() if k.startswith("weights.")}

    def to_bytes(self) -> bytes:
        arrays = {k: np.ascontiguousarray(v) for k, v in self.arrays.items()}
        text = json.dumps(self.report, sort_keys=True)
        arrays["digest"] = np.frombuffer(_digest(arrays, text), dtype=np.uint8)
        return bytes(safetensors.numpy.save(arrays, metadata={"report": text}))

    @staticmethod
    def from_bytes(content: bytes) -> TaskResult:
        """ValueError where the content is not what `to_bytes` wrote (cut short, a flipped bit)."""
        try:
            arrays = safetensors.numpy.load(content)
            size = int.from_bytes(content[:8], "little")
            text = json.loads(content[8 : 8 + size])["__metadata__"]["report"]
            digest = arrays.pop("digest").tobytes()
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"damaged task result: {error}") from None
        if digest != _digest(arrays, text):
            raise ValueError("damaged task result: its checksum does not fit")
        return TaskResult(arrays, json.loads(text))


def _digest(arrays: dict[str, npt.NDArray[Any]], text: str) -> bytes:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(name.encode() + str(arrays[name].dtype).encode() + str(arrays[name].shape).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.digest()
