"""Models made elsewhere, for `--baselines examples.own_models:Ridge,examples.own_models:Tiny`; both forms that are understood."""

import numpy as np
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from data import Panel


class Ridge(SklearnRidge):
    """scikit-learn as it is: X has a row a bar, y is the return ahead in standard deviations."""


class Tiny:
    """A network over the last 32 closes, where Chronos or Kronos would load its weights: these are random, `fit` learns a scale alone."""

    horizon = 1  # bars ahead; set to that of the run

    def fit(self, panel: Panel, train: slice, validation: slice) -> None:
        self.network = torch.nn.GRU(1, 8, batch_first=True)  # the random numbers are those of --seed
        self.head = np.zeros((8, len(panel.assets)))
        bars = np.arange(max(train.start, 32), min(train.stop, len(panel) - self.horizon))
        close = np.log(panel.field("close"))
        for a in range(len(panel.assets)):
            ahead = close[bars + self.horizon, a] - close[bars, a]
            self.head[:, a] = np.linalg.lstsq(self._states(close[:, a], bars), ahead, rcond=None)[0]

    def forecast(self, panel: Panel, start: int, stop: int) -> np.ndarray:
        """Log returns over the horizon [stop - start, asset]; row t may read bars <= start + t."""
        close = np.log(panel.field("close"))
        states = [self._states(close[:, a], np.arange(start, stop)) for a in range(len(panel.assets))]
        return np.stack([states[a] @ self.head[:, a] for a in range(len(panel.assets))], axis=1)

    def _states(self, close: np.ndarray, bars: np.ndarray) -> np.ndarray:
        past = close[bars[:, None] + np.arange(-31, 1)]
        x = 100.0 * (past - past[:, -1:])
        with torch.no_grad():
            return self.network(torch.from_numpy(x).float()[..., None])[1][0].double().numpy()
