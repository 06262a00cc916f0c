"""What can be forecast: a target is a label with its reach, loss, naive rival, closed forms and units. Adding one is one file here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data.errors import InputError, nearest
from data.panel import FloatArray, Panel


@dataclass(frozen=True)
class Target:
    """Something that every bar's forecast may be about.

    label(panel, horizon) -> [A, T]: what came in the `horizon` bars after bar t; NaN where it is not known yet.
    reach(horizon): bars after t that the label of t reads; stretches are purged by it. needs: fields of the panel.
    own(panel) -> [A, T]: the positive series per bar whose mean over the horizon the label speaks of; None: of the return.
    naive(panel, horizon) -> [A, T]: the forecast to beat, known at bar t, in the label's unit; `naive_title` names it.
    bases: closed forms by hand (`nas.targets.bases`), the shipped one first; empty: networks learn the label itself.
    loss: of networks, a name of `nas.network.losses.LOSSES`. rivals: names of `nas.targets.rivals`, beside networks by hand.
    power: exp(power * label) is the quantity on its natural scale (2: a variance from a log volatility), for QLIKE and bias;
    0: the label is on its natural scale itself.
    """

    name: str
    title: str
    about: str
    unit: str
    label: Callable[[Panel, int], FloatArray]
    reach: Callable[[int], int]
    needs: tuple[str, ...]
    naive: Callable[[Panel, int], FloatArray]
    naive_title: str
    own: Callable[[Panel], FloatArray] | None = None
    bases: tuple[str, ...] = ()
    loss: str = "huber"
    rivals: tuple[str, ...] = ()
    power: float = 0.0

    @property
    def risk(self) -> bool:
        """Whether it says how much, not which way."""
        return self.own is not None


TARGETS: dict[str, Target] = {}


def target(entry: Target) -> Target:
    """Add a target to the registry. ValueError where the name is taken."""
    if entry.name in TARGETS:
        raise ValueError(f"target {entry.name!r} is registered twice")
    TARGETS[entry.name] = entry
    return entry


def get_target(name: str) -> Target:
    """A target by its name. InputError with a suggestion where there is none."""
    if name not in TARGETS:
        raise InputError(f"no target {name!r}{nearest(name, TARGETS)}; there are {', '.join(TARGETS)}")
    return TARGETS[name]
