"""Hand-designed rivals of the searched networks, one file a kind; a new file in this folder is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from nas.baselines.registry import BASELINES, Baseline, Fit, Fitted, baseline, build_baseline, fitted_baseline

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["BASELINES", "Baseline", "Fit", "Fitted", "baseline", "build_baseline", "fitted_baseline"]
