"""Who leads whom: evidence from the assets' past returns, and the links that a searched network keeps of it.

A leader cannot be a fixed place in the list of assets, or a network with shared weights would depend on their order. It is found from
the data instead: for every pair and lag, how strongly the leader's return of `lag` bars before moves with the follower's, beyond what
the follower's own return of that bar and the news of the hour tell; over all bars and over those of the volatile market alone.
Permuting the assets permutes the evidence (docs/decisions/040-many-assets.md).
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
from nas.kernels.leads import lead_scores
from nas.network.across import VOLATILE_ABOVE, Leads
from nas.network.stretches import Tensors
from nas.space.genotype import Connection, Genotype, Link
from nas.space.ops import MOST_LAG_BARS
from nas.space.search_space import SearchSpace

FloatArray = npt.NDArray[np.float64]
# Probability that any pair, lag and state of unrelated assets passes: Bonferroni over all of them, two-sided.
FALSE_LINKS = 0.01
# Standard errors that a lead must show of the same sign by itself, before the leader's return of the follower's bar is allowed for
# (one-sided 5%): a leader that only leads itself is no news of the follower.
LEAST_ALONE = 1.645
SCORE_DEVIATIONS = 1.0  # follower's returns beyond it count as it: the score of the Huber loss that networks learn by (`network.losses`)
STATES = ("", "volatile")  # what a link may depend on: nothing, or the state of the market
MARKET_VOLATILITY = ("market_volatility", "log")  # the feature that tells the state
LEAST_BARS = 100  # both known, before a pair counts
CANDIDATES = 4  # (leader, lag) per follower that a search weighs


class Candidates(NamedTuple):
    """Per follower its strongest (leader, lag, state): leader, lag [asset, k]; sign 0 where there is none; score in standard errors.

    chance: the score that the best of as many unrelated pairs, lags and states reaches with probability FALSE_LINKS.
    volatile: [asset, k], true where the link holds in the volatile market only.
    """

    leader: Tensor
    lag: Tensor
    sign: Tensor
    score: Tensor
    chance: float
    volatile: Tensor | None = None

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
        return Leads(self.leader, self.lag, weight * self.sign, self.volatile)


def evidence(
    returns: FloatArray, volatile: npt.NDArray[np.bool_] | None = None, most_lag: int = MOST_LAG_BARS
) -> FloatArray:
    """[asset, asset, state, lag]: standard errors by which leader j's return of `lag` bars before (lag 1 first) moves follower i's, signed.

    returns: [asset, bar], NaN where not known. volatile: [bar], the state of the market at the bar's close; with it there are two
    states: all bars, and those whose state, known one bar earlier, was volatile; without it one.

    Both sides are what is left after the follower's own return of the leader's bar and the leader's return of the follower's bar (least
    squares): news that reaches both at once is most of what moves a follower, and says nothing of leads. The sum of their products is the
    score of the Huber loss, its standard error allows for changing volatility (White 1980). 0 on the diagonal, where too little is
    known, and where the lead does not show by itself (LEAST_ALONE).
    """
    always = np.ones(returns.shape[1], dtype=np.bool_)
    counted = [always] if volatile is None else [always, np.concatenate([[False], volatile[:-1]])]
    return lead_scores(
        returns, np.stack(counted), most_lag, least_bars=LEAST_BARS, least_alone=LEAST_ALONE, clip=SCORE_DEVIATIONS
    )


def chance_level(assets: int, lags: int, states: int = len(STATES)) -> float:
    """Standard errors that the best of all pairs, lags and states reaches by chance with probability FALSE_LINKS."""
    tests = max(1, assets * (assets - 1) * lags * states)
    return NormalDist().inv_cdf(1.0 - FALSE_LINKS / (2 * tests))


def candidates(
    returns: FloatArray,
    spans: Sequence[slice],
    volatile: npt.NDArray[np.bool_] | None = None,
    most_lag: int = MOST_LAG_BARS,
) -> Candidates:
    """The strongest pairs, lags and states beyond chance over `spans` of the bars. returns, volatile: as in `evidence`."""
    inside = np.full(returns.shape, np.nan)
    for span in spans:
        inside[:, span] = returns[:, span]
    found = evidence(inside, volatile, most_lag)
    assets = int((np.isfinite(inside).sum(1) >= LEAST_BARS).sum())
    states = found.shape[2]
    chance = chance_level(assets, most_lag, states)
    flat = found.reshape(len(found), -1)
    order = np.argsort(-np.abs(flat), axis=1, kind="stable")[:, : min(CANDIDATES, flat.shape[1])]
    score = np.take_along_axis(flat, order, 1)
    sign = np.where(np.abs(score) > chance, np.sign(score), 0.0)
    return Candidates(
        torch.from_numpy(order // (states * most_lag)),
        torch.from_numpy(order % most_lag + 1),
        torch.from_numpy(sign.astype(np.float32)),
        torch.from_numpy(np.abs(score).astype(np.float32)),
        chance,
        torch.from_numpy(order // most_lag % states == 1),
    )


def chosen_links(found: Candidates, assets: Sequence[str], preference: Tensor | None = None) -> tuple[Link, ...]:
    """Discretised: per follower the one leader, lag and state of most weight, where any passes."""
    leads = found.leads(preference)
    volatile = torch.zeros_like(leads.lag, dtype=torch.bool) if leads.volatile is None else leads.volatile
    links = []
    for follower, (leader, lag, weight, state) in enumerate(
        zip(leads.leader.tolist(), leads.lag.tolist(), leads.weight.tolist(), volatile.tolist(), strict=True)
    ):
        best = max(range(len(weight)), key=lambda k, w=weight: abs(w[k]))  # type: ignore[misc]
        if weight[best] != 0.0:
            where = STATES[state[best]]
            links.append(Link(assets[follower], assets[leader[best]], lag[best], round(weight[best], 6), where))
    return tuple(links)


def fixed_leads(links: Sequence[Link], assets: Sequence[str]) -> Leads:
    """The links of a discrete network, one per follower at most, for assets in this order; weight 0 where there is none."""
    place = {name: a for a, name in enumerate(assets)}
    leader, lag, weight, volatile = [0] * len(assets), [1] * len(assets), [0.0] * len(assets), [False] * len(assets)
    for link in links:
        if link.follower in place and link.leader in place:
            at = place[link.follower]
            leader[at], lag[at], weight[at], volatile[at] = place[link.leader], link.lag, link.weight, bool(link.state)
    return Leads(*(torch.tensor(values)[:, None] for values in (leader, lag, weight, volatile)))


def volatility_column(space: SearchSpace) -> int | None:
    """Which column of a space's inputs tells how volatile the market is; None where none does."""
    return space.columns([MARKET_VOLATILITY])[0] if MARKET_VOLATILITY in space.pipelines else None


def leaders_of(space: SearchSpace, tensors: Tensors, spans: Sequence[slice]) -> Candidates | None:
    """Who leads whom over the training stretches; None where the space has no lead-lag op."""
    if "lead_lag" not in space.ops:
        return None
    if tensors.returns is None:
        raise InputError("op lead_lag needs the assets' returns; make the tensors with Tensors.of(..., together=True)")
    column = volatility_column(space)
    # the market's, so the same for all assets that are known; an asset that is not known has zeros there
    volatile = None if column is None else (tensors.x[0, :, column] > VOLATILE_ABOVE).any(0).numpy()
    return candidates(tensors.returns, spans, volatile)


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
    features = dict(genotype.features)
    if any(link.state for connections in nodes for c in connections for link in c.links):
        features |= dict([MARKET_VOLATILITY])
    return replace(genotype, nodes=nodes, features=tuple(features.items()), assets=space.assets, share=space.share)
