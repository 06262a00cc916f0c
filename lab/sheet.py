"""The forecast sheet where the answer is known: planted looks ahead against planted skill, planted inputs against noise.

Networks are trained, not made up: what is measured is what a page would say of a run with such a fault, or with such a signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.signal import lfilter

from data.panel import FloatArray, Panel
from lab.markets import garch
from nas.features.bank import causal_volatility
from nas.network.importance import importance
from nas.network.model import forecasts_of, network_of
from nas.network.stretches import Samples, Tensors
from nas.network.training import TrainingSettings, train
from nas.space.genotype import Connection, Genotype
from nas.space.search_space import SearchSpace
from nas.tasks.windows import Window
from nas.tasks.work import TrainTask, run_task
from strategies.walkforward.forecast_sheet import forecast_sheet

HORIZON, BARS, PURGE = 6, 5_000, 100
#: how a signal lives on from bar to bar (how often each is drawn: in turn), and its correlation with one bar's return
SKILLS = ((0.97, 0.08), (0.8, 0.08), (0.0, 0.1))
LEAKS = (0.0, 0.5, 1.0)  # noise on the bar that is read too early, in its own spreads, in turn
INPUTS, DAY = 6, 24
NODES = ((Connection("conv3", 0),), (Connection("identity", 0), Connection("ema4", 1)))
TRAINING = TrainingSettings(epochs=15, length=256)


def leaks(seed: int, leaking: bool, noises: Sequence[float] = LEAKS) -> dict[str, float | int | None]:
    """One market, one trained network, what its lead-lag curve says. leaking: an input reads the bar that follows; else an honest input
    foretells returns as strongly as hardly any does."""
    rng = np.random.default_rng([seed, 51, int(leaking)])
    panel = garch(BARS, seed)
    noise = rng.standard_normal(BARS)
    if leaking:
        moved = np.diff(np.log(panel.field("open")[:, 0]), append=np.nan)
        ahead = np.append(moved[1:], np.nan)  # of the bar after the one that has just closed
        spread = float(np.nanstd(ahead))
        column = ahead / spread + noises[seed % len(noises)] * noise
    else:
        lives, strength = SKILLS[seed % len(SKILLS)]
        column = persistent(noise, lives)
        panel = foretold(panel, column, strength)
    samples = Samples.of(panel, (HORIZON,))
    values = samples.bank.values.copy()
    values[0, 0] = column
    samples = replace(samples, bank=replace(samples.bank, values=values))
    first = samples.bank.warmup_bars
    fit, rest = slice(first, first + 1_400), first + 1_400 + PURGE
    window = Window(0, fit, slice(rest, rest + 600), slice(rest + 600 + PURGE, BARS - 12), PURGE)
    space = SearchSpace(horizons=(HORIZON,)).with_features(
        dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True))
    )
    inputs = tuple((name, choices[0]) for name, choices in space.features)
    genotype = Genotype(NODES, 8, 1, (HORIZON,), inputs)
    result = run_task(TrainTask(window, "planted", seed, space, TRAINING, genotype), samples)
    told = forecast_sheet(panel, [window], result.test_forecasts, causal_volatility(panel), HORIZON, window.test.start)
    at = {point["lag"]: point["ic"] for point in told["lead_lag"]}
    return {"leak_at": told["leak"], "lag_1": at[1], "lag_2": at[2], "lag_0": at[0]}


def persistent(noise: FloatArray, lives: float) -> FloatArray:
    """An autoregression of spread 1 made of white noise of spread 1."""
    found: FloatArray = lfilter([np.sqrt(1.0 - lives**2)], [1.0, -lives], noise)
    return found


def foretold(panel: Panel, signal: FloatArray, strength: float) -> Panel:
    """The market with returns that `signal` at the close of the bar before foretells: a correlation of about `strength` with one bar."""
    volatility = np.nan_to_num(causal_volatility(panel)[:, 0], nan=0.01)
    drift = np.concatenate(([0.0], strength * signal[:-1] * volatility[:-1]))
    level = np.exp(np.cumsum(drift))  # by the close of a bar; its open is the close of the one before
    before = np.concatenate(([1.0], level[:-1]))
    values = panel.values.copy()
    names = list(panel.fields)
    values[:, 0, names.index("open")] *= before
    values[:, 0, names.index("close")] *= level
    for name, pick in (("high", np.maximum), ("low", np.minimum)):
        values[:, 0, names.index(name)] *= pick(before, level)
    return replace(panel, values=values)


def importances(seed: int, strength: float, days: int) -> dict[str, float | int | bool]:
    """One planted input among INPUTS, half of them persistent: is it first, and how many of the others have intervals that hold 0?"""
    rng = np.random.default_rng([seed, 52])
    bars = 3_000 + 600 + days * DAY
    x = rng.standard_normal((1, INPUTS, bars)).astype(np.float32)
    for column in range(0, INPUTS, 2):
        x[0, column] = persistent(x[0, column], 0.95)
    heard = int(rng.integers(INPUTS))
    signal = np.zeros(bars)
    signal[1:] = (x[0, heard, 1:] + x[0, heard, :-1]) / np.sqrt(2)
    label = (strength**0.5 * signal + (1 - strength) ** 0.5 * rng.standard_normal(bars)).astype(np.float32)
    names = tuple((f"input{k}", "raw") for k in range(INPUTS))
    network = network_of(Genotype(NODES, 8, 1, (1,), names), seed)
    tensors = Tensors(torch.from_numpy(x), torch.from_numpy(label)[None, None], torch.ones(1, 1, bars))
    train(network, tensors, slice(50, 3_000), slice(3_050, 3_600), TRAINING, seed)
    known = np.ones((1, bars), bool)
    test = slice(3_600, bars)
    found = importance(network, x, known, label[None].astype(float), test, day_bars=DAY, seed=seed)
    inputs = [each for each in found if each.part == "input"]
    others = [each for each in inputs if each.number != heard]
    assert np.isfinite(forecasts_of(network, x, known, test, False)).all()
    return {
        "first": max(inputs, key=lambda each: each.lost).number == heard,
        "above_zero": inputs[heard].low > 0.0,
        "noise": len(others),
        "noise_holds": sum(each.low <= 0.0 <= each.high for each in others),
    }
