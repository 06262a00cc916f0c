"""LightGBM for `--baselines examples.lightgbm_model:boosted`: an object is copied and fitted anew on every window."""

from lightgbm import LGBMRegressor

boosted = LGBMRegressor(
    n_estimators=100, num_leaves=15, learning_rate=0.05, min_child_samples=100,
    deterministic=True, force_row_wise=True, n_jobs=1, verbose=-1,
)  # fmt: skip
