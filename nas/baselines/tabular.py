"""Inputs of a few earlier bars as the rows of a table, for models that know no time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.baselines.registry import Fit, FloatArray

LAGS = (0, 1, 2, 4, 8, 16)  # bars back


def rows(fit: Fit, bars: slice) -> FloatArray:
    """[asset x bar, input x lag]; before the first bar there are zeros."""
    return lagged(fit.tensors.x.numpy(), np.arange(bars.start, bars.stop))


def lagged(x: npt.NDArray[np.float32], at: npt.NDArray[np.int64]) -> FloatArray:
    """`rows` of the bars `at`. x: [asset, input, time]."""
    columns = [np.where(at >= lag, x[:, :, np.maximum(at - lag, 0)], 0.0) for lag in LAGS]
    table: FloatArray = np.concatenate(columns, 1).transpose(0, 2, 1).reshape(len(x) * len(at), -1)
    return table


def labelled(fit: Fit, bars: slice) -> tuple[FloatArray, FloatArray]:
    """The rows whose label and inputs are known, and the labels of the first horizon."""
    known = (fit.tensors.weight.numpy()[:, 0] > 0)[:, bars].ravel()
    return rows(fit, bars)[known], fit.tensors.y.numpy()[:, 0, bars].ravel()[known]
