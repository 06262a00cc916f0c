"""Gradient boosting over the inputs of a few earlier bars: the rival that tables usually lose to."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from nas.baselines.registry import Fit, Fitted, FloatArray, fitted_baseline
from nas.baselines.tabular import LAGS, labelled, rows

TREES_PER_EPOCH = 4  # the same budget in rounds as networks have in epochs


@fitted_baseline(
    "boosting",
    "Gradient boosting",
    "histogram gradient boosting of trees over every input of the last 16 bars (scikit-learn; Friedman 2001, Ke et al. 2017)",
)
def boosting(fit: Fit) -> Fitted:
    # start-up time: scikit-learn takes a second
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = TREES_PER_EPOCH * fit.settings.epochs
    model = HistGradientBoostingRegressor(
        max_iter=trees,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=100,
        l2_regularization=1.0,
        early_stopping=False,  # the stop stretch decides below, as it does for networks
        random_state=fit.seed,
    )
    with threadpool_limits(1):  # as every task: the same bytes in any process
        model.fit(*labelled(fit, fit.train))
        inside, truth = labelled(fit, fit.stop)
        losses = [float(np.mean((guess - truth) ** 2)) for guess in model.staged_predict(inside)] if len(truth) else []
    best = int(np.argmin(losses)) + 1 if losses else trees

    def forecast(bars: slice) -> FloatArray:
        with threadpool_limits(1):
            staged = model.staged_predict(rows(fit, bars))
            guess = next(values for k, values in enumerate(staged, 1) if k == best)
        return np.asarray(guess, dtype=np.float64).reshape(len(fit.tensors.x), -1)

    leaves = sum(len(tree.nodes) for stage in model._predictors[:best] for tree in stage)
    return Fitted(forecast, parameters=leaves, receptive_field=max(LAGS) + 1, rounds=best)
