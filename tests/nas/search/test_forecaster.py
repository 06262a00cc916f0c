"""`SearchForecaster` among scikit-learn's estimators: its own checks, pipelines, pickles; and what a forecast may read."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from data import load_panel
from data.errors import InputError
from nas import SearchForecaster

SMALL: dict[str, Any] = {
    "ops": ("zero", "dense", "conv3"),
    "nodes": 1,
    "channels": 4,
    "epochs": 1,
    "training_epochs": 3,
}


def table(rows: int = 260) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(1)
    x = pd.DataFrame(rng.normal(size=(rows, 3)), pd.date_range("2024-01-01", periods=rows, freq="h"), list("abc"))
    return x, 2.0 * x["a"].to_numpy() + 0.1 * rng.normal(size=rows)


def candles(bars: int = 1_440) -> pd.DataFrame:
    panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    names = ["open", "high", "low", "close", "volume"]
    return pd.DataFrame({n: panel.field(n)[:bars, 0] for n in names}, pd.DatetimeIndex(panel.timestamps[:bars]))


FEATURES = {"return": ("zscore24", "ewm8"), "range": ("zscore24",)}


def test_scikit_learns_own_checks_pass() -> None:
    """All of them: where they ask for the order or a subset of rows not to matter, their 20 rows are too few for a search."""
    model = SearchForecaster(
        ops=("zero", "identity", "dense"), horizon=1, nodes=1, channels=8, epochs=1, training_epochs=60
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(model, on_fail=None)
    assert [(each["check_name"], each["exception"]) for each in found if each["status"] == "failed"] == []
    assert sum(each["status"] == "passed" for each in found) > 45


def test_a_forecast_of_a_table_reads_no_later_row() -> None:
    x, y = table()
    model = SearchForecaster(**SMALL).fit(x[:200], y[:200])
    other = x.copy()
    other.iloc[231:] = 9.0
    assert np.array_equal(model.predict(x)[:231], model.predict(other)[:231])
    assert not np.array_equal(model.predict(x)[231:], model.predict(other)[231:])


def test_a_forecast_of_candles_reads_no_later_bar_and_knows_those_before_its_table() -> None:
    whole = candles()
    model = SearchForecaster(features=FEATURES, **SMALL).fit(whole[:1_200])
    told = model.predict(whole)
    assert np.array_equal(model.predict(whole[1_200:]), told[1_200:])
    assert np.array_equal(model.predict(whole[700:900]), told[700:900])
    other = whole.copy()
    other.iloc[1_301:] *= 1.5
    assert np.array_equal(model.predict(other)[:1_301], told[:1_301])


def test_what_was_not_known_when_it_was_fitted_is_not_read() -> None:
    x, y = table()
    model = SearchForecaster(horizon=6, **SMALL)
    one = clone(model).fit(x, y)
    y[-7:] += 100.0
    two = clone(model).fit(x, y)
    assert np.array_equal(two.predict(x), one.predict(x))
    assert two.result_.history == one.result_.history
    y[-8] += 100.0  # of a row that validates
    assert clone(model).fit(x, y).result_.history != one.result_.history


def test_a_pickle_and_a_clone_forecast_the_same_bits() -> None:
    x, y = table()
    model = SearchForecaster(variant="fair", **SMALL).fit(x, y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))
    assert np.array_equal(clone(model).fit(x, y).predict(x), model.predict(x))
    assert clone(model).get_params() == model.get_params()
    assert clone(model).set_params(variant="pc").variant == "pc"


def test_it_goes_into_a_pipeline_and_a_cross_validation_in_order_of_time() -> None:
    x, y = table(600)
    model = make_pipeline(StandardScaler(), SearchForecaster(**{**SMALL, "training_epochs": 60}))
    assert (cross_val_score(model, x, y, cv=TimeSeriesSplit(2)) > 0.5).all()


def test_a_target_is_made_from_candles() -> None:
    volatile = SearchForecaster(target="range", horizon=4, features=FEATURES, **SMALL).fit(candles())
    told = volatile.predict(candles())
    assert np.isfinite(told).all()
    assert float(told.std()) > 0.0


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (lambda x, _y: SearchForecaster().fit(x), "requires y to be passed"),
        (lambda x, y: SearchForecaster(variant="dart").fit(x, y), "dart"),
        (
            lambda x, y: SearchForecaster(ops=("conv",), **{k: v for k, v in SMALL.items() if k != "ops"}).fit(x, y),
            "conv",
        ),
        (lambda x, y: SearchForecaster().fit(x[:6], y[:6]), "n_samples = 6"),
        (lambda _x, _y: SearchForecaster(target="returns").fit(candles()), "no target 'returns'"),
        (lambda x, y: SearchForecaster(**SMALL).fit(x, y).predict(candles()), "fitted on a table"),
    ],
)
def test_what_cannot_be_is_said(fit: Any, said: str) -> None:
    x, y = table()
    with pytest.raises(ValueError, match=said) as raised:
        fit(x, y)
    assert isinstance(raised.value, InputError) or "y" in str(raised.value)


def test_too_few_rows_for_a_search_are_said_and_something_plain_is_trained() -> None:
    x, y = table(24)
    with pytest.warns(UserWarning, match="too few for a search"):
        model = SearchForecaster(**SMALL).fit(x, y)
    assert (model.result_, str(model.genotype_)) == (None, "node1 = dense(input)")
