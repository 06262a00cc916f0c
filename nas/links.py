"""Who leads whom: evidence from the assets' past returns, and the links that a searched network keeps of it.

A leader cannot be a fixed place in the list of assets, or a network with shared weights would depend on their order. It is found from
the data instead: for every pair and lag, how strongly the leader's return of `lag` bars before moves with the follower's, beyond what
the follower's own return of that bar tells. Permuting the assets permutes the evidence (docs/decisions/040-many-assets.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data.panel import InputError
from nas.across import Leads
from nas.genotype import Connection, Genotype, Link
from nas.ops import MOST_LAG_BARS
from nas.space import SearchSpace
from nas.stretches import Tensors

FloatArray = npt.NDArray[np.float64]
# Probability that any pair and lag of unrelated assets passes: Bonferroni over all of them, two-sided.
FALSE_LINKS = 0.01
LEAST_BARS = 100  # both known, before a pair counts
CANDIDATES = 4  # (leader, lag) per follower that a search weighs


class Candidates(NamedTuple):
    """Per follower its strongest (leader, lag): leader, lag [asset, k]; sign 0 where there is none; score in standard errors.

    chance: the score that the best of as many unrelated pairs and lags reaches with probability FALSE_LINKS.
    """

    leader: Tensor
    lag: Tensor
    sign: Tensor
    score: Tensor
    chance: float

    @property
    def any(self) -> bool:
        return bool((self.sign != 0).any())

    def leads(self, preference: Tensor | None = None) -> Leads:
        """Attention over an asset's candidates and over having no leader, whose score is `chance`.

        preference: [lag], learned; added to the scores, so that gradients move the weight between lags.
        """
        score = self.score if preference is None else self.score + preference[self.lag - 1]
        score = score.masked_fill(self.sign == 0, -torch.inf)
        nobody = score.new_full((len(score), 1), self.chance)
        weight = torch.softmax(torch.cat([score, nobody], 1), 1)[:, :-1]
        return Leads(self.leader, self.lag, weight * self.sign)


def evidence(returns: FloatArray, most_lag: int = MOST_LAG_BARS) -> FloatArray:
    """[asset, asset, lag]: standard errors by which leader j's return of `lag` bars before (lag 1 first) moves follower i's, signed.

    returns: [asset, bar], NaN where not known. Both sides are what is left after the follower's own return of the leader's bar (least
    squares); the standard error allows for changing volatility (White 1980). 0 on the diagonal and where too little is known.
    """
    assets, bars = returns.shape
    out = np.zeros((assets, assets, most_lag))
    for lag in range(1, min(most_lag, bars - LEAST_BARS) + 1):
        earlier, now = returns[:, :-lag], returns[:, lag:]
        for i in range(assets):
            both = np.isfinite(now[i]) & np.isfinite(earlier[i]) & np.isfinite(earlier)
            count = both.sum(1)
            leader = np.where(both, earlier, 0.0)
            own, target = np.where(both, earlier[i], 0.0), np.where(both, now[i], 0.0)
            size = np.maximum((own * own).sum(1), 1e-12)
            rest = target - own * ((own * target).sum(1) / size)[:, None]
            beyond = leader - own * ((own * leader).sum(1) / size)[:, None]
            product = rest * beyond
            spread = np.sqrt((product * product).sum(1))
            known = (count >= LEAST_BARS) & (np.arange(assets) != i) & (spread > 1e-9)
            out[i, known, lag - 1] = product.sum(1)[known] / spread[known]
    return out


def chance_level(assets: int, lags: int) -> float:
    """Standard errors that the best of all pairs and lags reaches by chance with probability FALSE_LINKS."""
    tests = max(1, assets * (assets - 1) * lags)
    return NormalDist().inv_cdf(1.0 - FALSE_LINKS / (2 * tests))


def candidates(returns: FloatArray, spans: Sequence[slice], most_lag: int = MOST_LAG_BARS) -> Candidates:
    """The strongest pairs and lags beyond chance over `spans` of the bars. returns: [asset, bar], NaN where not known."""
    inside = np.full(returns.shape, np.nan)
    for span in spans:
        inside[:, span] = returns[:, span]
    found = evidence(inside, most_lag)
    assets = int((np.isfinite(inside).sum(1) >= LEAST_BARS).sum())
    chance = chance_level(assets, most_lag)
    flat = found.reshape(len(found), -1)
    order = np.argsort(-np.abs(flat), axis=1, kind="stable")[:, : min(CANDIDATES, flat.shape[1])]
    score = np.take_along_axis(flat, order, 1)
    sign = np.where(np.abs(score) > chance, np.sign(score), 0.0)
    return Candidates(
        torch.from_numpy(order // most_lag),
        torch.from_numpy(order % most_lag + 1),
        torch.from_numpy(sign.astype(np.float32)),
        torch.from_numpy(np.abs(score).astype(np.float32)),
        chance,
    )


def chosen_links(found: Candidates, assets: Sequence[str], preference: Tensor | None = None) -> tuple[Link, ...]:
    """Discretised: per follower the one leader and lag of most weight, where any passes."""
    leads = found.leads(preference)
    links = []
    for follower, (leader, lag, weight) in enumerate(
        zip(leads.leader.tolist(), leads.lag.tolist(), leads.weight.tolist(), strict=True)
    ):
        best = max(range(len(weight)), key=lambda k, w=weight: abs(w[k]))  # type: ignore[misc]
        if weight[best] != 0.0:
            links.append(Link(assets[follower], assets[leader[best]], lag[best], round(weight[best], 6)))
    return tuple(links)


def fixed_leads(links: Sequence[Link], assets: Sequence[str]) -> Leads:
    """The links of a discrete network, one per follower at most, for assets in this order; weight 0 where there is none."""
    place = {name: a for a, name in enumerate(assets)}
    leader, lag, weight = [0] * len(assets), [1] * len(assets), [0.0] * len(assets)
    for link in links:
        if link.follower in place and link.leader in place:
            at = place[link.follower]
            leader[at], lag[at], weight[at] = place[link.leader], link.lag, link.weight
    return Leads(torch.tensor(leader)[:, None], torch.tensor(lag)[:, None], torch.tensor(weight)[:, None])


def leaders_of(space: SearchSpace, tensors: Tensors, spans: Sequence[slice]) -> Candidates | None:
    """Who leads whom over the training stretches; None where the space has no lead-lag op."""
    if "lead_lag" not in space.ops:
        return None
    if tensors.returns is None:
        raise InputError("op lead_lag needs the assets' returns; make the tensors with Tensors.of(..., together=True)")
    return candidates(tensors.returns, spans)


def lag_preferences(network: nn.Module) -> dict[int, Tensor]:
    """What a supernet learned about lags, per source; the mean over its cells (and over assets with weights of their own)."""
    found: dict[int, list[Tensor]] = {}
    for name, weight in network.named_parameters():
        source = re.search(r"weights\.lag(\d+)$", name)
        if source:
            found.setdefault(int(source[1]), []).append(weight.detach())
    return {source: torch.stack(weights).mean(0) for source, weights in found.items()}


def together(
    genotype: Genotype, space: SearchSpace, found: Candidates | None, preferences: Mapping[int, Tensor] | None = None
) -> Genotype:
    """The genotype with what a network of several assets needs to know: their names, what they share, who leads whom."""
    if not space.together:
        return genotype
    preferences = preferences or {}

    def linked(c: Connection) -> Connection:
        if c.op != "lead_lag" or found is None:
            return c
        return replace(c, links=chosen_links(found, space.assets, preferences.get(c.source)))

    nodes = tuple(tuple(linked(c) for c in connections) for connections in genotype.nodes)
    return replace(genotype, nodes=nodes, assets=space.assets, share=space.share)
