"""`--policy cpcv`: combinatorial purged cross-validation, searching anew in every split, and what each path through the held bars earned.

A walk-forward shows one path. Here every group of bars is held out nine times, each time by a search that has never read it, so that nine
paths lead through all bars (López de Prado 2018, chapter 12). Its networks also learn from bars behind what they forecast: a
distribution of what this way of searching earns, and no record that anybody could have traded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.panel import FloatArray, InputError, Panel
from nas.network.stretches import Samples
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace
from nas.tasks.engine import Engine
from nas.tasks.splits import HELD, Split, groups_of, paths_of, splits_of
from nas.tasks.work import SearchTask, TaskResult, TrainTask
from strategies.backtest.portfolio import book_of
from strategies.backtest.terms import Costs
from strategies.walkforward.choice import plan_returns, plans, scaled_rule, sharpe
from strategies.walkforward.config import RunConfig
from strategies.walkforward.policies import Competition
from strategies.walkforward.trading import portfolio_of, position_rule, trading_terms

FILE = "cpcv.json"


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The splits of one run's bars. volatility: [T, A], known at the bar."""

    config: RunConfig
    space: SearchSpace
    samples: Samples
    volatility: FloatArray
    groups: tuple[slice, ...]
    splits: tuple[Split, ...]

    @classmethod
    def of(
        cls, config: RunConfig, space: SearchSpace, samples: Samples, volatility: FloatArray, purge_bars: int
    ) -> CrossValidation:
        """InputError where the bars are too few, or assets are read together."""
        if len(samples.panel.assets) > 1:
            raise InputError("--policy cpcv holds bars of one symbol out; give one --symbol, or leave cpcv out")
        reach = max(config.horizon) + 1
        groups = groups_of(samples.bank.warmup_bars, len(samples.panel) - reach)
        return cls(config, space, samples, volatility, groups, splits_of(groups, HELD, purge_bars, reach))

    @property
    def tasks(self) -> int:
        """Searches and trainings."""
        return 2 * len(self.splits) * self.config.seeds

    def run(self, engine: Engine, advance: Callable[[], None]) -> dict[str, Any]:
        """Search, train and trade every split; plain JSON: groups, splits and paths with Sharpe ratios after and before costs."""
        search, training = Competition.settings_of(self.config)
        variant = self.config.variant[0]
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        wanted = [SearchTask(split, variant, seed, self.space, search) for split in self.splits for seed in seeds]
        found = self._run(engine, wanted, advance)
        trainings = [
            TrainTask(task.window, variant, task.seed, self.space, training, genotype_of(result))
            for task, result in zip(wanted, found, strict=True)
        ]
        trained = self._run(engine, trainings, advance)
        earned = {}
        for split in self.splits:
            mine = [result for task, result in zip(trainings, trained, strict=True) if task.window == split]
            earned[split.number] = traded(self.config, self.samples.panel, self.volatility, split, mine)
        return {
            "groups": [
                [str(self.samples.panel.timestamps[bar])[:19] for bar in (part.start, part.stop - 1)]
                for part in self.groups
            ],
            "splits": len(self.splits),
            "held": HELD,
            "paths": [self._path(path, earned) for path in paths_of(self.splits, self.groups)],
        }

    @staticmethod
    def _run(engine: Engine, tasks: Sequence[SearchTask | TrainTask], advance: Callable[[], None]) -> list[TaskResult]:
        return engine.run(tasks, lambda _index, _cached: advance())

    def _path(self, path: Sequence[int], earned: dict[int, dict[int, tuple[FloatArray, FloatArray]]]) -> dict[str, Any]:
        parts = [earned[number][group.start] for number, group in zip(path, self.groups, strict=True)]
        net, gross = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        per_year = self.samples.panel.bars_per_year
        return {
            "splits": list(path),
            "sharpe": round(sharpe(net, per_year), 6),
            "sharpe_before_costs": round(sharpe(gross, per_year), 6),
            "return": round(float(np.prod(1.0 + net) - 1.0), 6),
            "bars_in_market": int(np.count_nonzero(np.abs(gross) > 1e-15)),
        }


def genotype_of(found: TaskResult) -> Genotype:
    """What a search found, to be trained."""
    return Genotype.from_dict(found.report["genotype"])


def traded(
    config: RunConfig, panel: Panel, volatility: FloatArray, split: Split, trained: Sequence[TaskResult]
) -> dict[int, tuple[FloatArray, FloatArray]]:
    """By the first bar of each held group: returns per bar after and before costs of the best network and plan on the stop stretch."""
    base, portfolio, terms = position_rule(config), portfolio_of(config), trading_terms(config, volatility)
    every = plans(config.thresholds, config.smoothings, config.cost_hurdles)
    best: tuple[float, TaskResult, Any] | None = None
    for result in trained:
        rules = [scaled_rule(base, result.stop_forecasts, plan) for plan in every]
        books = [book_of(panel, result.stop_forecasts, volatility, split.stop.start, rule, portfolio) for rule in rules]
        scores = [
            sharpe(own, panel.bars_per_year) for own in plan_returns(panel, np.stack(books), split.stop.start, **terms)
        ]
        at = int(np.argmax(scores))
        if best is None or scores[at] > best[0]:
            best = scores[at], result, rules[at]
    assert best is not None
    _, result, rule = best
    free = {**terms, "costs": Costs(0.0, 0.0, 0.0)}
    found = {}
    for group in split.held:
        place = slice(group.start - split.test.start, group.stop - split.test.start)
        held = book_of(panel, result.test_forecasts[place], volatility, group.start, rule, portfolio)
        net, gross = (plan_returns(panel, held[None], group.start, **each)[0] for each in (terms, free))
        found[group.start] = (net, gross)
    return found
