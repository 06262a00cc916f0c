"""Another processor's rounding, made worse: every initial weight times 1 + noise, in every process of the tests.

Python loads this file at its start where `tests/conftest.py` put its folder on PYTHONPATH, which it does when
REGIME_TEST_WEIGHT_NOISE holds the size of the noise: 1e-6 is a rounding, 0.3 almost another seed. The noise is a function of
the weight: the same seed still gives the same bytes, within a process and between processes. Nothing installed reads this.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "REGIME_TEST_WEIGHT_NOISE"


def disturb(torch: ModuleType, size: float) -> None:
    """Whatever torch draws for weights comes out noisy: randn, and the in-place draws of torch.nn.init."""

    def noisy(x: Any) -> Any:
        with torch.no_grad():
            return x.mul_(1.0 + size * torch.cos(1e4 * x)) if x.is_floating_point() else x

    randn = torch.randn
    torch.randn = lambda *size, **how: noisy(randn(*size, **how))
    for name in ("normal_", "uniform_"):
        drawn = getattr(torch.Tensor, name)
        setattr(torch.Tensor, name, lambda x, *bounds, drawn=drawn, **how: noisy(drawn(x, *bounds, **how)))


class _AfterTorch(MetaPathFinder):
    """Disturbs torch when it is loaded, not before: tests look at what loads it."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_disturb(spec.loader)  # type: ignore[method-assign]
        return spec


def _then_disturb(loader: Loader) -> Any:
    load = loader.exec_module

    def load_and_disturb(module: ModuleType) -> None:
        load(module)
        disturb(module, float(os.environ[NAME]))

    return load_and_disturb


if float(os.environ.get(NAME) or 0):
    sys.meta_path.insert(0, _AfterTorch())
