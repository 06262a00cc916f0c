"""The search as a scikit-learn estimator: it goes where estimators go (pipelines, cross-validation, grids, pickles)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from data.assembly import build_panel, check_candles, infer_interval_ns
from data.errors import InputError
from data.panel import CANDLE_FIELDS, FloatArray, Panel
from nas.features.bank import Choice, FeatureBank, build_bank
from nas.network import lean_torch
from nas.network.model import forecasts_of, network_of
from nas.network.stretches import Scaler, Tensors
from nas.network.training import TrainingSettings, train
from nas.search import loop
from nas.search.result import SearchResult
from nas.search.settings import SearchSettings
from nas.space.genotype import Connection, Genotype
from nas.space.ops import DEFAULT_OPS, get_op
from nas.space.search_space import SearchSpace
from nas.targets import get_target

ONLY = "candles"  # what the one asset of a table is called


class SearchForecaster(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A searched network as a regressor. Rows are moments, in order of time; the forecast of a row reads that row and earlier ones.

    Parameters
    ----------
    variant : str
        Of the search, as of `nas.search.search`.
    target : str
        What is forecast where `fit` is given candles and no y: a name of `nas.targets` (return, range, volatility, volume, drawdown).
    horizon : int
        Rows ahead that y (or the target) is about. y of the last `horizon` + 1 rows was not known yet when `fit` was asked: it is not
        read, so that splits in order of time need no gap.
    ops, nodes, cells, channels
        As in `SearchSpace`; ops None: all of an asset alone that look back no further than the rows allow.
    features : str or mapping
        Of candles, as in `build_bank`.
    epochs, training_epochs : int
        Of the search, and at most of the training from scratch of what it found.
    loss : str
        huber, squared, direction or sharpe.
    validation_share : float
        Of the rows, the last ones: they choose the network and say when to stop.
    random_state : int, RandomState or None
        Same state, same rows, same code: same forecasts.

    Attributes
    ----------
    genotype_ : Genotype
        The network that was found.
    result_ : SearchResult
        How it was found.
    receptive_field_ : int
        Rows that one forecast reads.
    n_features_in_, feature_names_in_
        As scikit-learn has them.

    Raises
    ------
    InputError
        (a ValueError) Too few rows, unknown names.

    Notes
    -----
    A table with the columns open, high, low, close, volume and a time index is candles of one asset: inputs are made from it
    (`build_bank`). Of any other table the columns are the inputs. Where the rows of `predict` go on, by their time index, where those of
    `fit` ended, or lie among them, the earlier rows are known to them; otherwise nothing is known before the first. Rows whose inputs are
    not known yet get the mean of what was learned from. Only splits in order of time are honest (`TimeSeriesSplit`).

    Examples
    --------
    >>> import pandas as pd
    >>> from data import load_panel
    >>> from nas import SearchForecaster
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> names = ["open", "high", "low", "close", "volume"]
    >>> candles = pd.DataFrame({name: panel.field(name)[:, 0] for name in names}, pd.DatetimeIndex(panel.timestamps))
    >>> model = SearchForecaster(variant="fair", ops=("zero", "conv3", "ema12"), nodes=1, channels=4, epochs=1, training_epochs=2)
    >>> model.fit(candles[:1200]).predict(candles[1200:]).shape
    (240,)
    """

    def __init__(
        self,
        variant: str = "darts",
        target: str = "return",
        *,
        horizon: int = 6,
        ops: Sequence[str] | None = None,
        nodes: int = 2,
        cells: int = 1,
        channels: int = 16,
        features: Choice | str = "default",
        epochs: int = 50,
        training_epochs: int = 40,
        loss: str = "huber",
        validation_share: float = 0.25,
        random_state: Any = 0,
    ) -> None:
        self.variant = variant
        self.target = target
        self.horizon = horizon
        self.ops = ops
        self.nodes = nodes
        self.cells = cells
        self.channels = channels
        self.features = features
        self.epochs = epochs
        self.training_epochs = training_epochs
        self.loss = loss
        self.validation_share = validation_share
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> SearchForecaster:
        """Search, then train what was found from scratch.

        X: [row, column], in order of time. y: [row], or None where X is candles and `target` says what is forecast.
        """
        candles = is_candles(X)
        if y is None and not candles:
            raise ValueError(
                "SearchForecaster requires y to be passed, but the target y is None; without y it takes candles: a table "
                "with the columns open, high, low, close, volume and a time index"
            )
        self.candles_ = candles
        if candles:
            table = X
            validate_data(self, X, skip_check_array=True)
            label = np.asarray(y, dtype=np.float64) if y is not None else self._label(X)
            if label.shape != (len(X),):
                raise InputError(f"y has shape {label.shape}, expected ({len(X)},): a value a row")
        else:
            table, label = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self.seen_ = X.copy() if by_time(X) else None
        bank = self._bank(table)
        known = np.isfinite(label)
        space, fitted, stop = self._space(bank)
        learned = label[fitted][known[fitted]]
        self.label_mean_, self.label_deviation_ = float(learned.mean()), max(float(learned.std()), 1e-12)
        self.scaler_ = Scaler.fit(bank.values, fitted)
        x, told = self.scaler_.apply(bank.values)
        scaled = np.nan_to_num((label - self.label_mean_) / self.label_deviation_).astype(np.float32)
        weight = (told & known).astype(np.float32)
        tensors = Tensors(torch.from_numpy(x), torch.from_numpy(scaled)[None, None], torch.from_numpy(weight)[None])
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        # of few rows an epoch is to be several steps, too
        length = min(512, max(loop.FEWEST_BARS, (fitted.stop - fitted.start) // 8))
        with lean_torch.one_thread():
            self.genotype_, self.result_ = self._found(space, tensors, fitted, stop, length, seed)
            self.columns_ = [bank.names.index(each) for each in self.genotype_.features]
            self.network_ = network_of(self.genotype_, seed)
            training = TrainingSettings(epochs=self.training_epochs, length=length, loss=self.loss)
            train(self.network_, tensors.only(self.columns_), fitted, stop, training, seed)
        self.receptive_field_ = int(self.network_.receptive_field)
        return self

    def _found(
        self, space: SearchSpace, tensors: Tensors, fitted: slice, stop: slice, length: int, seed: int
    ) -> tuple[Genotype, SearchResult | None]:
        """What the search chose; where both stretches are all rows, there was nothing to choose by."""
        if fitted == stop:
            inputs = tuple((name, pipelines[0]) for name, pipelines in space.features)
            return space.genotype(((Connection("dense", 0),),), inputs), None
        settings = SearchSettings(epochs=self.epochs, length=length, loss=self.loss)
        found = loop.search(space, tensors, fitted, stop, settings, seed, variant=self.variant)
        return found.genotype, found

    def predict(self, X: Any) -> FloatArray:
        """A forecast a row: [row], in the unit of what was learned."""
        check_is_fitted(self)
        if self.candles_ != is_candles(X):
            raise InputError(f"fitted on {'candles' if self.candles_ else 'a table'}, asked about something else")
        given: dict[str, Any] = {"skip_check_array": True} if self.candles_ else {"dtype": np.float64}
        table, before = validate_data(self, X, reset=False, **given), self._before(X)
        bank = self._bank(table if before is None else pd.concat([before, X]))
        scaler = Scaler(self.scaler_.mean[self.columns_], self.scaler_.deviation[self.columns_])
        x, known = scaler.apply(np.ascontiguousarray(bank.values[:, self.columns_]))
        bars = slice(x.shape[2] - len(table), x.shape[2])
        with lean_torch.one_thread():
            told = forecasts_of(self.network_, x, known, bars, False)[:, 0]
        found: FloatArray = self.label_mean_ + self.label_deviation_ * np.nan_to_num(told)
        return found

    def _bank(self, X: Any) -> FeatureBank:
        """The inputs: of candles their pipelines, of a table its columns."""
        if self.candles_:
            return build_bank(panel_of(X), self.features)
        values = np.asarray(X, dtype=np.float64).T[None]
        names = tuple(f"x{k}" for k in range(values.shape[1]))
        return FeatureBank(names, (("raw",),) * len(names), cast(npt.NDArray[np.float32], values), 0)

    def _label(self, X: pd.DataFrame) -> FloatArray:
        label: FloatArray = get_target(self.target).label(panel_of(X), self.horizon)[0]
        return label

    def _space(self, bank: FeatureBank) -> tuple[SearchSpace, slice, slice]:
        """What is searched, and the rows to learn from and to choose by, purged from each other."""
        rows = bank.values.shape[2]
        first = min(bank.warmup_bars, rows)
        last = rows - self.horizon - 1
        cut = last - round(self.validation_share * (last - first))
        ops = DEFAULT_OPS if self.ops is None else tuple(self.ops)
        while True:
            space = SearchSpace(
                ops=ops, nodes=self.nodes, cells=self.cells, channels=self.channels, horizons=(self.horizon,)
            ).with_features(dict(zip(bank.inputs, bank.pipelines, strict=True)))  # fmt: skip
            purge = self.horizon + 1 + space.receptive_field
            if self.ops is not None or 8 * purge <= cut - first or space.receptive_field == 1:
                break
            longest = max(get_op(name).receptive_field for name in ops)
            ops = tuple(name for name in ops if get_op(name).receptive_field < longest)
        if min(cut - purge - first, last - cut) >= loop.FEWEST_BARS:
            return space, slice(first, cut - purge), slice(cut, last)
        if last - first < 2:
            raise InputError(
                f"n_samples = {rows}, of which {first} warm the inputs up: 2 are needed, and {purge + 2 * loop.FEWEST_BARS} for a search; "
                "give more rows"
            )
        warnings.warn(
            f"{last - first} rows are too few for a search ({purge} are purged, at least {loop.FEWEST_BARS} learned from, "
            f"{loop.FEWEST_BARS} choose): one dense layer is trained, and nothing says when to stop",
            stacklevel=3,
        )
        whole = slice(first, last)
        return replace(space, ops=("dense",), nodes=1), whole, whole

    def _before(self, X: Any) -> pd.DataFrame | None:
        """Rows of `fit` that come before those of X, where X goes on where they end or lies among them."""
        if self.seen_ is None or not by_time(X) or not len(X):
            return None
        earlier: pd.DataFrame = self.seen_[self.seen_.index < X.index[0]]
        if len(earlier) < 2 or X.index[0] - earlier.index[-1] != earlier.index[-1] - earlier.index[-2]:
            return None
        return earlier


def panel_of(X: pd.DataFrame) -> Panel:
    """Candles of one asset as a panel; further columns are further fields. InputError for what no candles can be."""
    check_candles(X, ONLY)
    return build_panel({ONLY: X}, infer_interval_ns(X, ONLY), source="table")


def is_candles(X: Any) -> bool:
    """Whether a table holds prices by time."""
    return by_time(X) and set(CANDLE_FIELDS) <= {*map(str, X.columns)}


def by_time(X: Any) -> bool:
    """Whether a table says when its rows were."""
    return isinstance(X, pd.DataFrame) and isinstance(X.index, pd.DatetimeIndex)
