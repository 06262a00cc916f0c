"""The feature bank: every candidate pipeline of every raw input, causal; and the volatility that scales labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.panel import FloatArray, InputError, Panel
from nas import kernels
from nas.features.inputs import DAY_NS, RawInput, has, inputs_of
from nas.features.transforms import parse_pipeline

# An input whose fields are known in a smaller share of the bars is left out: each bar it lacks is lost to all inputs.
LEAST_KNOWN = 0.5
# Below this many values threads cost more than they save.
VALUES_PER_THREAD = 1_000_000

Choice = Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Every candidate pipeline of every raw input.

    Parameters
    ----------
    inputs, pipelines
        Names of the inputs, and of each its pipelines.
    values : float32 [A, K, T]
        Contiguous; K runs input by input, in the order of `names`; NaN where not yet known.
    warmup_bars : int
        From this bar on the values no longer depend on where the panel began (beyond 1e-6).
    missing : tuple of str
        Raw inputs left out because the panel lacks their fields, has them in less than half of its bars, or has too few assets.
    longer : tuple of str
        `input pipeline` of what was left out because it remembers more bars than was asked for.

    Examples
    --------
    >>> from data import load_panel
    >>> from nas import build_bank
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-02-01")
    >>> bank = build_bank(panel, {"return": ("zscore24", "ewm8")})
    >>> bank.names, bank.values.shape
    ([('return', 'zscore24'), ('return', 'ewm8')], (1, 2, 744))
    """

    inputs: tuple[str, ...]
    pipelines: tuple[tuple[str, ...], ...]
    values: npt.NDArray[np.float32]
    warmup_bars: int
    missing: tuple[str, ...] = ()
    longer: tuple[str, ...] = ()

    @property
    def names(self) -> list[tuple[str, str]]:
        """(input, pipeline) of each of the K rows."""
        return [(name, pipeline) for name, group in zip(self.inputs, self.pipelines, strict=True) for pipeline in group]


def build_bank(
    panel: Panel,
    choice: Choice | str = "default",
    *,
    threads: int | None = None,
    most_memory: int | None = None,
) -> FeatureBank:
    """All candidate pipelines of the inputs that the panel has.

    Parameters
    ----------
    panel : Panel
        The market.
    choice : str or mapping
        `default`: a few candidates of the inputs worth trying first; `full`: every input with every two-step pipeline; a mapping
        input -> pipelines: only those.
    threads : int, optional
        None for as many as pay; the bits do not depend on it.
    most_memory : int, optional
        Pipelines of a named set that depend on more past bars are left out.

    Raises
    ------
    InputError
        Where `choice` names an unknown input or pipeline, or an input whose fields the panel lacks.

    Examples
    --------
    >>> from data import load_panel
    >>> from nas import build_bank
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-02-01")
    >>> "return" in build_bank(panel).inputs
    True
    """
    known = inputs_of(panel)
    longer: tuple[str, ...] = ()
    if isinstance(choice, str):
        wanted = _candidates(known, choice)
        if most_memory is not None:
            fitting = {n: tuple(p for p in g if _memory(known[n], p) <= most_memory) for n, g in wanted.items()}
            longer = tuple(
                f"{n} {p}" for n, g in wanted.items() for p in g if p not in fitting[n] and has(panel, known[n])
            )
            wanted = {name: group for name, group in fitting.items() if group}
        present = {name: group for name, group in wanted.items() if _usable(panel, known[name])}
        if not present:
            raise InputError(
                f"none of the inputs {', '.join(wanted)} can be made from the fields {', '.join(panel.fields)}"
            )
    else:
        wanted = {name: tuple(group) for name, group in choice.items()}
        _check(panel, known, wanted)
        present = {name: group for name, group in wanted.items() if group}
    rows = [len(group) for group in present.values()]
    values = np.empty((len(panel.assets), sum(rows), len(panel)), dtype=np.float32)
    starts = np.cumsum([0, *rows])
    work = [(known[name], group, int(start)) for (name, group), start in zip(present.items(), starts, strict=False)]
    if threads is None:
        threads = min(os.cpu_count() or 1, values.size // VALUES_PER_THREAD)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            memories = list(pool.map(lambda item: _fill(panel, item[0], item[1], item[2], values), work))
    else:
        memories = [_fill(panel, raw, group, start, values) for raw, group, start in work]
    if panel.has("close"):  # what is known of the market or the clock says nothing of an asset that is not listed
        absent = ~np.isfinite(panel.field("close").T)
        if absent.any():
            values[np.broadcast_to(absent[:, None], values.shape)] = np.nan
    missing = tuple(name for name in wanted if name not in present)
    return FeatureBank(tuple(present), tuple(present.values()), values, max(memories, default=0), missing, longer)


def _memory(raw: RawInput, pipeline: str) -> int:
    return raw.memory + sum(step.memory(number) for step, number in parse_pipeline(pipeline))


def _candidates(known: Mapping[str, RawInput], which: str) -> dict[str, tuple[str, ...]]:
    if which == "default":
        return {name: raw.candidates for name, raw in known.items() if raw.candidates}
    if which == "full":
        return {name: raw.all_candidates for name, raw in known.items()}
    raise InputError(f"features are 'default', 'full' or a table of inputs with their pipelines, not {which!r}")


def _usable(panel: Panel, raw: RawInput) -> bool:
    if not has(panel, raw):
        return False
    if ("open" in raw.needs and panel.closes_only) or (raw.within_day and panel.interval_ns >= DAY_NS):
        return False
    return all(float(np.isfinite(panel.field(name)).mean()) >= LEAST_KNOWN for name in raw.needs)


def _check(panel: Panel, known: Mapping[str, RawInput], wanted: Mapping[str, tuple[str, ...]]) -> None:
    for name in wanted:
        if name not in known:
            raise InputError(f"unknown feature input {name!r}; inputs are {', '.join(known)}")
        lacking = [field for field in known[name].needs if not panel.has(field)]
        if lacking:
            raise InputError(f"input {name!r} needs the field {lacking[0]!r}, which this data lacks")
        if not has(panel, known[name]):
            raise InputError(
                f"input {name!r} needs at least {known[name].assets} assets, this data has {len(panel.assets)}"
            )


def _fill(panel: Panel, raw: RawInput, pipelines: tuple[str, ...], start: int, values: npt.NDArray[np.float32]) -> int:
    """Write the rows of one input; returns the longest memory. A step that pipelines share is computed once."""
    done: dict[tuple[str, ...], FloatArray] = {(): raw.compute(panel)}
    longest = 0
    parsed = [parse_pipeline(pipeline) for pipeline in pipelines]
    keys = [tuple(f"{step.name}{number}" for step, number in steps) for steps in parsed]
    shared = {key[:k] for key in keys for k in range(len(key))}
    for row, (steps, key) in enumerate(zip(parsed, keys, strict=True), start):
        memory = raw.memory
        x = done[()]
        for k, (step, number) in enumerate(steps):
            memory += step.memory(number)
            if key[: k + 1] in done:
                x = done[key[: k + 1]]
                continue
            x = step.apply(x, number)
            if key[: k + 1] in shared:
                done[key[: k + 1]] = x
        values[:, row] = x
        longest = max(longest, memory)
    return longest


def causal_volatility(panel: Panel) -> FloatArray:
    """[T, A]: exponentially weighted standard deviation (span 48 bars) of close-to-close log returns, per bar.

    Known at the close of bar t; NaN in the first 24 bars of an asset.
    """
    returns = kernels.log_return(np.ascontiguousarray(panel.field("close").T))
    return np.ascontiguousarray(kernels.ewm_std(returns, 48, 24).T)
