"""Every kernel is its plain formula, and what pandas, bottleneck and TA-Lib compute under the same name."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas import kernels
from nas.kernels import order, reference

Array = np.ndarray

WINDOWED = ("sum", "mean", "std", "zscore", "min", "max", "median", "rank", "skew")
OFFSET = 1e12


def assert_close(got: Array, expected: Array, scale: float = 1.0) -> None:
    """Missing at the same places, and equal to 1e-9 of the value or of `scale`."""
    assert got.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * scale)


def sample(kind: str, length: int, seed: int) -> Array:
    """Two columns: ordinary, with gaps, with ties, constant runs, a huge offset, wild sizes, or rare outliers."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, length))
    if kind == "gaps":
        x[rng.random(x.shape) < 0.3] = np.nan
        x[0, : length // 3] = np.nan
        x[1, length // 2 : length // 2 + 5] = np.inf
    elif kind == "ties":
        x = np.round(x)
    elif kind == "constant":
        x = np.where(np.arange(length) // 7 % 2 == 0, 0.1, np.round(x, 1))
        x[1] = 0.3
    elif kind == "offset":
        x = OFFSET + np.round(x * 1024) / 1024  # exact in binary, so that the reference knows the truth too
    elif kind == "wild":
        x = x * 10.0 ** rng.integers(-6, 7, x.shape)
    elif kind == "outliers":
        x[rng.random(x.shape) < 0.05] *= 1e9
    return x


kinds = st.sampled_from(["plain", "gaps", "ties", "constant", "offset", "wild", "outliers"])
lengths = st.one_of(st.integers(1, 12), st.integers(13, 90))
seeds = st.integers(0, 10**6)


@pytest.mark.parametrize("name", WINDOWED)
@settings(max_examples=60, deadline=None)
@given(kind=kinds, length=lengths, seed=seeds, window=st.integers(1, 40), share=st.floats(0.01, 1.0))
@example(kind="plain", length=1, seed=0, window=1, share=1.0)
@example(kind="offset", length=60, seed=0, window=5, share=1.0)
@example(kind="gaps", length=80, seed=3, window=13, share=0.2)
def test_rolling_kernels_equal_their_formula(
    name: str, kind: str, length: int, seed: int, window: int, share: float
) -> None:
    x = sample(kind, length, seed)
    least = max(1, round(share * window))
    got = getattr(kernels, f"rolling_{name}")(x, window, least)
    expected = getattr(reference, f"rolling_{name}")(x, window, least)
    # a sum or a mean of values of both signs is as exact as the largest of them
    largest = np.nanmax(np.abs(np.where(np.isfinite(x), x, 0.0)), initial=1.0)
    scale = {"sum": window * largest, "mean": largest}.get(name, 1.0)
    # one value that dwarfs the others makes their deviation from the mean a small difference of large numbers
    if kind in ("wild", "outliers") and name in ("zscore", "skew"):
        scale = 1e3
    assert_close(got, expected, scale)


@settings(max_examples=60, deadline=None)
@given(
    kind=kinds, length=lengths, seed=seeds, window=st.integers(1, 40), q=st.floats(0.0, 1.0), share=st.floats(0.01, 1)
)
def test_quantiles_equal_their_formula(kind: str, length: int, seed: int, window: int, q: float, share: float) -> None:
    x = sample(kind, length, seed)
    least = max(1, round(share * window))
    expected = reference.rolling_quantile(x, window, q, least)
    largest = np.nanmax(np.abs(np.where(np.isfinite(x), x, 0.0)), initial=1.0)
    assert_close(kernels.rolling_quantile(x, window, q, least), expected, largest * 1e-3)


@pytest.mark.parametrize("window", [1, 7, 168, 256])
@pytest.mark.parametrize("kind", ["plain", "ties", "equal in 32 bits", "beyond 32 bits", "gaps"])
def test_a_counted_rank_is_that_of_the_tree_to_the_bit(kind: str, window: int) -> None:
    rng = np.random.default_rng(window)
    x = rng.standard_normal((2, 3_000))
    if kind == "ties":  # some hundreds of bars with, some without: the counting changes its way between them
        x[:, 900:2_200] = np.round(x[:, 900:2_200])
    elif kind == "equal in 32 bits":
        x = 1.0 + 1e-12 * x
    elif kind == "beyond 32 bits":
        x = np.where(rng.random(x.shape) < 0.5, x * 1e300, x * 1e-300)
    elif kind == "gaps":
        x[rng.random(x.shape) < 0.2] = np.nan
        x[0, 50:60] = np.inf
    least, tree = max(1, window // 3), np.empty(x.shape)
    order._order(x, window, least, None, tree)
    assert np.array_equal(kernels.rolling_rank(x, window, least), tree, equal_nan=True)


@pytest.mark.parametrize("window", [1, 64, 65, 128, 257, 300, 700])
def test_order_statistics_over_windows_that_need_several_words_and_merges(window: int) -> None:
    rng = np.random.default_rng(window)
    x = np.round(rng.standard_normal((1, 2_500)), 2)
    x[0, rng.random(2_500) < 0.1] = np.nan
    table = pd.DataFrame(x.T).rolling(window, min_periods=max(1, window // 2))
    for got, expected in (
        (kernels.rolling_rank(x, window, max(1, window // 2)), table.rank()),
        (kernels.rolling_median(x, window, max(1, window // 2)), table.median()),
        (kernels.rolling_quantile(x, window, 0.1, max(1, window // 2)), table.quantile(0.1)),
    ):
        assert_close(got, expected.to_numpy().T)


@pytest.mark.parametrize("name", ["correlation", "beta"])
@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["plain", "gaps", "ties", "offset"]), length=lengths, seed=seeds, window=st.integers(2, 40))
def test_pair_kernels_equal_their_formula(name: str, kind: str, length: int, seed: int, window: int) -> None:
    x, y = sample(kind, length, seed), sample(kind, length, seed + 1)
    y = y + 0.5 * np.where(np.isfinite(x), x, 0.0) if kind != "offset" else y
    got = getattr(kernels, f"rolling_{name}")(x, y, window, max(2, window // 2))
    assert_close(got, getattr(reference, f"rolling_{name}")(x, y, window, max(2, window // 2)))


@pytest.mark.parametrize("name", ["ewm_mean", "ewm_std", "ewm_zscore"])
@settings(max_examples=60, deadline=None)
@given(kind=kinds, length=lengths, seed=seeds, span=st.floats(1.5, 60.0), least=st.integers(1, 20))
def test_exponential_kernels_equal_their_formula(
    name: str, kind: str, length: int, seed: int, span: float, least: int
) -> None:
    x = sample(kind, length, seed)
    got, expected = getattr(kernels, name)(x, span, least), getattr(reference, name)(x, span, least)
    if kind in ("wild", "outliers", "constant"):
        # after a value 1e9 times the others, what is left of it decides the last digits of both
        return np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    scale = OFFSET if kind == "offset" and name == "ewm_mean" else 1.0
    assert_close(got, expected, scale)
    return None


@settings(max_examples=60, deadline=None)
@given(kind=kinds, length=lengths, seed=seeds, span=st.integers(1, 30))
def test_relative_strength_equals_its_formula(kind: str, length: int, seed: int, span: int) -> None:
    x = sample(kind, length, seed)
    if kind in ("wild", "outliers"):
        x = np.sign(x) * np.log1p(np.abs(x))
    assert_close(kernels.relative_strength(x, span), reference.relative_strength(x, span), 100.0)


@settings(max_examples=60, deadline=None)
@given(
    kind=kinds,
    length=lengths,
    seed=seeds,
    lag=st.integers(1, 40),
    order=st.floats(0.05, 1.95),
    width=st.integers(1, 60),
)
def test_pointwise_kernels_equal_their_formula(
    kind: str, length: int, seed: int, lag: int, order: float, width: int
) -> None:
    x = sample(kind, length, seed)
    assert_close(kernels.log(x), reference.log(x))
    assert_close(kernels.difference(x, lag), reference.difference(x, lag))
    assert_close(kernels.log_return(x, lag), reference.log_return(x, lag))
    largest = np.nanmax(np.abs(np.where(np.isfinite(x), x, 0.0)), initial=1.0)
    assert_close(
        kernels.fractional_difference(x, order, width), reference.fractional_difference(x, order, width), largest
    )


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 90), seed=seeds, window=st.integers(2, 40))
def test_volatilities_equal_their_formula(length: int, seed: int, window: int) -> None:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((2, length)), axis=1))
    opening = close * np.exp(0.01 * rng.standard_normal(close.shape))
    high = np.maximum(opening, close) * np.exp(rng.exponential(0.01, close.shape))
    low = np.minimum(opening, close) * np.exp(-rng.exponential(0.01, close.shape))
    high[0, length // 2] = np.nan
    candle = (opening, high, low, close)
    assert_close(kernels.realised_volatility(close, window), reference.realised_volatility(close, window))
    assert_close(kernels.parkinson(high, low, window), reference.parkinson(high, low, window))
    assert_close(kernels.garman_klass(*candle, window), reference.garman_klass(*candle, window))


def test_an_offset_of_1e12_cancels_exactly() -> None:
    x = sample("plain", 500, 0)
    small = np.round(x * 1024) / 1024
    for name in ("std", "zscore", "skew"):
        kernel = getattr(kernels, f"rolling_{name}")
        np.testing.assert_allclose(kernel(OFFSET + small, 24), kernel(small, 24), rtol=1e-9, atol=1e-9)
    for name in ("ewm_std", "ewm_zscore"):
        kernel = getattr(kernels, name)
        np.testing.assert_allclose(kernel(OFFSET + small, 24), kernel(small, 24), rtol=1e-9, atol=1e-9)


def test_a_value_that_left_the_window_leaves_nothing_behind() -> None:
    x = sample("plain", 300, 1)
    spoilt = x.copy()
    spoilt[:, 100] = 1e15
    for name in WINDOWED:
        kernel = getattr(kernels, f"rolling_{name}")
        clean, after = kernel(x, 24), kernel(spoilt, 24)
        np.testing.assert_allclose(after[:, 124:], clean[:, 124:], rtol=1e-12, atol=1e-12)


PANDAS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "sum": lambda d: d.rolling(24, min_periods=5).sum(),
    "mean": lambda d: d.rolling(24, min_periods=5).mean(),
    "std": lambda d: d.rolling(24, min_periods=5).std(),
    "min": lambda d: d.rolling(24, min_periods=5).min(),
    "max": lambda d: d.rolling(24, min_periods=5).max(),
    "median": lambda d: d.rolling(24, min_periods=5).median(),
    "rank": lambda d: d.rolling(24, min_periods=5).rank(),
    "skew": lambda d: d.rolling(24, min_periods=5).skew(),
}


@pytest.mark.parametrize("name", PANDAS)
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_rolling_kernels_equal_pandas(name: str, missing: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2_000))
    x[rng.random(x.shape) < missing] = np.nan
    expected = PANDAS[name](pd.DataFrame(x.T)).to_numpy().T
    assert_close(getattr(kernels, f"rolling_{name}")(x, 24, 5), expected)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_exponential_and_pair_kernels_equal_pandas(missing: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2_000))
    x[rng.random(x.shape) < missing] = np.nan
    table = pd.DataFrame(x.T)
    means, deviations, _ = kernels.ewm_moments(x, (10.0, 48.0), 1)
    for k, span in enumerate((10.0, 48.0)):
        assert_close(means[k], table.ewm(span=span).mean().to_numpy().T)
        assert_close(deviations[k], table.ewm(span=span).std().to_numpy().T)
    y = np.roll(x, 1, axis=0)
    other = pd.DataFrame(y.T)
    correlation = table.rolling(24, min_periods=5).corr(other).to_numpy().T
    assert_close(kernels.rolling_correlation(x, y, 24, 5), correlation)
    # pandas counts the bars known in both series for min_periods only where both tables miss the same ones
    both = np.where(np.isnan(x) | np.isnan(y), np.nan, x), np.where(np.isnan(x) | np.isnan(y), np.nan, y)
    a, b = pd.DataFrame(both[0].T), pd.DataFrame(both[1].T)
    slope = a.rolling(24, min_periods=5).cov(b) / b.rolling(24, min_periods=5).var()
    assert_close(kernels.rolling_beta(x, y, 24, 5), slope.to_numpy().T)


def test_kernels_equal_ta_lib_and_bottleneck() -> None:
    talib, bn = pytest.importorskip("talib"), pytest.importorskip("bottleneck")
    rng = np.random.default_rng(0)
    x = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((1, 2_000)), axis=1))
    y = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((1, 2_000)), axis=1))
    pairs = [
        (kernels.rolling_mean(x, 24), talib.SMA(x[0], 24)),
        (kernels.rolling_sum(x, 24), talib.SUM(x[0], 24)),
        (kernels.rolling_std(x, 24), talib.STDDEV(x[0], 24) * np.sqrt(24 / 23)),
        (kernels.rolling_min(x, 24), talib.MIN(x[0], 24)),
        (kernels.rolling_max(x, 24), talib.MAX(x[0], 24)),
        (kernels.rolling_correlation(x, y, 24), talib.CORREL(x[0], y[0], 24)),
        (kernels.relative_strength(x, 14), talib.RSI(x[0], 14)),
        (kernels.difference(x, 5), talib.MOM(x[0], 5)),
        (kernels.log(x), talib.LN(x[0])),
        (kernels.rolling_median(x, 24), bn.move_median(x[0], 24)),
        (kernels.rolling_rank(x, 24), bn.move_rank(x[0], 24) * 23 / 2 + 12.5),
        (kernels.rolling_std(x, 24), bn.move_std(x[0], 24, ddof=1)),
    ]
    for got, expected in pairs:
        assert_close(got[0], expected)


@pytest.mark.parametrize("window", [3, 8, 13, 48])
@pytest.mark.parametrize("gone", [np.nan, 1e300])
def test_eight_blocks_at_once_are_each_by_itself_to_the_bit(window: int, gone: float) -> None:
    x = 1e3 + np.random.default_rng(0).standard_normal((1, 40 * window + 5))
    y = 0.5 * x + np.random.default_rng(1).standard_normal(x.shape)
    pairs = (lambda x, n, k=k: k(x, y, n) for k in (kernels.rolling_correlation, kernels.rolling_beta))
    for kernel in (kernels.rolling_sum, kernels.rolling_mean, *pairs):
        whole = kernel(x, window)
        for bar in range(
            9 * window, 27 * window, 7
        ):  # which blocks go together hangs on where the first value is missing
            other = x.copy()
            other[0, bar] = gone
            found = kernel(other, window)
            assert found[0, :bar].tobytes() == whole[0, :bar].tobytes()
            after = bar + 2 * window  # the blocks that a window reads are known again
            assert found[0, after:].tobytes() == whole[0, after:].tobytes()


@pytest.mark.parametrize("threads", [2, 3])
def test_bits_do_not_depend_on_threads(threads: int) -> None:
    x = sample("gaps", 400, 0).repeat(3, axis=0)
    for name in (
        *(f"rolling_{n}" for n in WINDOWED),
        "ewm_mean",
        "ewm_std",
        "ewm_zscore",
        "relative_strength",
        "difference",
    ):
        kernel = getattr(kernels, name)
        assert kernel(x, 24, threads=threads).tobytes() == kernel(x, 24).tobytes()


def test_wrong_arguments_are_refused() -> None:
    x = np.zeros((1, 5))
    with pytest.raises(ValueError, match="window must be at least 1"):
        kernels.rolling_mean(x, 0)
    with pytest.raises(ValueError, match="min_periods must be between"):
        kernels.rolling_mean(x, 3, 4)
    with pytest.raises(ValueError, match="quantile must be"):
        kernels.rolling_quantile(x, 3, 1.5)
    with pytest.raises(ValueError, match="they must be equal"):
        kernels.rolling_beta(x, np.zeros((1, 4)), 3)


def test_log_is_within_one_unit_of_the_last_place_and_the_same_bits_anywhere() -> None:
    rng = np.random.default_rng(3)
    special = [
        1.0,
        np.nextafter(1.0, 0),
        np.nextafter(1.0, 2),
        0.5,
        2.0,
        np.sqrt(0.5),
        np.sqrt(2.0),
        5e-324,
        1e-310,
        2.3e-308,
        1.7e308,
    ]
    x = np.concatenate(
        [special, np.exp(rng.uniform(-700, 700, 3_000)), 1.0 + rng.normal(0, 1e-9, 3_000), rng.uniform(0, 3, 3_000)]
    )
    exact = np.array([math.log(v) for v in x])
    got = kernels.log(x[None])[0]
    assert np.all(np.abs(got - exact) <= np.spacing(np.abs(exact)))
    assert got[0] == 0.0
    for k in (1, 7, 511, 512, 513, 1_025, 4_000):
        assert np.array_equal(kernels.log(x[None, :k])[0], got[:k])
        assert np.array_equal(kernels.log(x[None, k:])[0], got[k:])
        assert np.array_equal(kernels.log(x[None, ::k])[0], got[::k])
    assert np.isnan(kernels.log(np.array([[0.0, -0.0, -1.0, -5e-324, np.inf, -np.inf, np.nan]]))).all()


@pytest.mark.parametrize("lag", [1, 3, 511, 512, 513, 1_700])
def test_log_return_of_any_lag_is_the_difference_of_the_logarithms(lag: int) -> None:
    x = np.exp(np.random.default_rng(4).normal(0, 1, (2, 1_600)))
    x[0, 700:720] = np.nan
    log = kernels.log(x)
    expected = np.full(x.shape, np.nan)
    expected[:, lag:] = log[:, lag:] - log[:, : max(0, 1_600 - lag)]
    assert np.array_equal(kernels.log_return(x, lag), expected, equal_nan=True)
