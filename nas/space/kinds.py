"""Kinds of architectures: families that one draws from where nothing can be chosen within them (docs/evidence.md).

A kind is (features, horizons, seed) -> Genotype. Validation tells kinds apart, hardly ever two architectures of one kind; so a forecast
is the mean of several of a kind, or of several kinds. Adding one is one function with `@kind(name, title)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from data.panel import InputError
from nas.space.genotype import Connection, Genotype

Features = tuple[tuple[str, str], ...]
Draw = Callable[[Features, tuple[int, ...], int], Genotype]
KINDS: dict[str, tuple[str, Draw]] = {}
CONVOLUTIONS = ("conv3", "dilated3", "dilated3x4", "dilated3x8")  # 3 taps at dilations 1, 2, 4, 8
BLOCKS = ("residual3", "residual3x2", "residual3x4", "residual3x8")  # x + relu(convolution) at the same dilations
SMALL_OPS = ("identity", "dense", "conv3", "dilated3", "ema4", "ema12", "ema36", "diff1")
CHANNELS, WIDE = 16, 32
COLUMNS_KIND = "columns"
BASE_INPUT = "base "  # begins the names of a closed form's columns as inputs


def kind(name: str, title: str) -> Callable[[Draw], Draw]:
    """Register a kind. ValueError where the name is taken."""

    def add(draw: Draw) -> Draw:
        if name in KINDS:
            raise ValueError(f"kind {name!r} is registered twice")
        KINDS[name] = (title, draw)
        return draw

    return add


def draw(name: str, features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    """An architecture of a kind; the same seed, the same one. InputError where there is no such kind.

    features: what may be read, the base's columns as inputs called `base ...`, which kinds leave alone unless they are about them.
    """
    if name not in KINDS:
        raise InputError(f"no kind of architectures {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name][1](features, horizons, seed)


def own(features: Features) -> Features:
    """Without the base's columns."""
    return tuple(item for item in features if not item[0].startswith(BASE_INPUT))


@kind("stack", "dilated convolutions of 3 bars with skips, 16 channels, all inputs (the TCN as a cell)")
def stack(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    nodes = tuple((Connection(op, k), Connection("skip", k)) for k, op in enumerate(CONVOLUTIONS))
    return Genotype(nodes, CHANNELS, 1, horizons, own(features))


@kind("ladder", "dilated convolutions of the node before, skips from the one before that")
def ladder(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    nodes = tuple(
        (Connection(op, k), *((Connection("skip", k - 1),) if k else ())) for k, op in enumerate(CONVOLUTIONS)
    )
    return Genotype(nodes, CHANNELS, 1, horizons, own(features))


@kind("convolutions", "random cells of four nodes, dilated convolutions only, all inputs")
def convolutions(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    return _random(features, horizons, seed, CONVOLUTIONS, 4)


@kind("tcn", "the TCN by hand as a cell: residual blocks of dilated convolutions, 16 channels, all inputs")
def tcn(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    return Genotype(tuple((Connection(op, k),) for k, op in enumerate(BLOCKS)), CHANNELS, 1, horizons, own(features))


@kind("small", "random cells of two nodes of the default ops, all inputs")
def small(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    return _random(features, horizons, seed, SMALL_OPS, 2)


@kind("wide", "the stack with 32 channels")
def wide(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    return replace(stack(features, horizons, seed), channels=WIDE)


@kind("half", "random cells of dilated convolutions on a random half of the inputs")
def half(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    return _on_half(convolutions(features, horizons, seed), seed)


@kind("sparse", "random cells of two nodes of the default ops on a random half of the inputs")
def sparse(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    return _on_half(small(features, horizons, seed), seed)


@kind(COLUMNS_KIND, "random cells of two nodes of the default ops, all inputs and the base's columns")
def columns(features: Features, horizons: tuple[int, ...], seed: int) -> Genotype:
    if own(features) == features:
        raise InputError(
            "kind columns reads the columns of the base, and none are given; make the problem with columns=True"
        )
    return replace(small(features, horizons, seed), features=features)


def _on_half(genotype: Genotype, seed: int) -> Genotype:
    every = genotype.features
    drawn = np.random.default_rng([seed, len(every)]).permutation(len(every))[: max(1, len(every) // 2)]
    return replace(genotype, features=tuple(every[k] for k in sorted(drawn.tolist())))


def _random(features: Features, horizons: tuple[int, ...], seed: int, ops: tuple[str, ...], nodes: int) -> Genotype:
    """Every node: two of its sources at most, an op each."""
    rng = np.random.default_rng([seed, len(ops), nodes])
    found = []
    for node in range(nodes):
        sources = sorted(rng.permutation(node + 1)[:2].tolist())
        found.append(tuple(Connection(ops[int(rng.integers(len(ops)))], source) for source in sources))
    return Genotype(tuple(found), CHANNELS, 1, horizons, own(features))
