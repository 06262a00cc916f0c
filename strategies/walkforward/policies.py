"""When to search again: every window, every N windows, when the market has drifted, never. All side by side in one run.

The first policy named is the run's headline and trades as `searched`; the others trade as `policy:<name>`. Searches and trainings
that policies share are computed once: a task is a pure function of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data.panel import FloatArray, InputError
from nas.features.bank import causal_volatility
from nas.network.model import forecasts_of
from nas.network.stretches import Samples
from nas.network.training import TrainingSettings
from nas.search.relaxation import Temperature
from nas.search.settings import SearchSettings
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace
from nas.tasks.drift import BLOCK_BARS, Alarm, alarms, error_stream, volatility_stream
from nas.tasks.engine import Ahead, Engine, nothing
from nas.tasks.windows import Window
from nas.tasks.work import SearchTask, TaskResult, TrainTask, continued, model_of
from strategies.walkforward.config import RunConfig
from strategies.walkforward.contenders import (
    CROSS_VALIDATION,
    RANDOM_VARIANT,
    Candidate,
    Contender,
    Decision,
    Policy,
    PolicyOutcome,
    parse_policy,
)
from strategies.walkforward.trading import judge


class Competition:
    """Runs the policies of one run on an engine. advance(): called once per finished task.

    rehearsals: smaller windows before the first, on which every policy searches and trains too (`nas.tasks.windows.rehearsals`).
    """

    def __init__(
        self,
        config: RunConfig,
        space: SearchSpace,
        windows: Sequence[Window],
        samples: Samples,
        engine: Engine,
        advance: Callable[[], None],
        volatility: FloatArray | None = None,
        rehearsals: Sequence[Window] = (),
    ) -> None:
        self.rehearsals = tuple(rehearsals)
        self.config = config
        self.space = space
        self.windows = list(windows)
        self.samples = samples
        self.engine = engine
        self.advance = advance
        self.volatility = causal_volatility(samples.panel) if volatility is None else volatility
        self.policies = [parse_policy(text) for text in config.policy if text != CROSS_VALIDATION] or [
            parse_policy("every")
        ]
        names = [policy.name for policy in self.policies]
        if len(set(names)) != len(names):
            raise InputError(f"a policy is named twice: {', '.join(names)}")
        self.seeds = range(config.seed, config.seed + config.seeds)
        self.search_settings, self.training = self.settings_of(config)

    @staticmethod
    def settings_of(config: RunConfig) -> tuple[SearchSettings, TrainingSettings]:
        """How a run searches and trains."""
        return (
            SearchSettings(
                device=config.device,
                epochs=config.search_epochs,
                fraction=config.search_fraction,
                loss=config.loss,
                finalists=max(config.finalists, config.mean_of),  # of a mean nothing is chosen: an epoch is enough
                finalist_epochs=config.finalist_epochs if config.finalists > 1 or config.mean_of == 1 else 1,
                finalist_starts=config.finalist_starts if config.finalists > 1 or config.mean_of == 1 else 1,
                finalist_learning_rate=config.finalist_learning_rate,
                length=config.search_length,
                batch=config.search_batch,
                alpha_learning_rate=config.alpha_learning_rate,
                alpha_weight_decay=config.alpha_weight_decay,
                temperature=Temperature(
                    config.temperature, config.temperature_end or config.temperature, config.temperature_schedule
                ),
                repeats=config.search_repeats,
                undecided=config.undecided,
                random_init=config.random_init,
                parameter_cost=config.parameter_cost,
                op_costs=config.op_costs,
            ),
            TrainingSettings(epochs=config.training_epochs, loss=config.loss, device=config.device),
        )

    def searches(self, policy: Policy, window: Window) -> list[SearchTask]:
        """The searches a policy wants of one window: every variant with every seed."""
        variants = policy.variants or self.config.variant
        return [SearchTask(window, v, s, self.space, self.search_settings) for s in self.seeds for v in variants]

    def trainings(self, window: Window, searches: Sequence[SearchTask], found: Sequence[TaskResult]) -> list[TrainTask]:
        """For each finished search of a window, the training of its genotype from scratch; with `mean_of` of its likeliest ones."""
        return [
            TrainTask(window, task.variant, task.seed, self.space, self.training, Genotype.from_dict(told))
            for task, result in zip(searches, found, strict=True)
            for told in self.averaged(result)
        ]

    def averaged(self, found: TaskResult) -> list[Any]:
        """The architectures of one search whose forecasts are averaged, as JSON has them: what it found, alone without `mean_of`."""
        if self.config.mean_of == 1:
            return [found.report["genotype"]]
        likeliest: list[Any] = found.report["likeliest"] or [found.report["genotype"]]
        return likeliest[: self.config.mean_of]

    def expected_tasks(self) -> tuple[int, int]:
        """(searches, trainings) of all policies: exact for static ones, the least for `drift`."""
        searches = trainings = 0
        for policy in self.policies:
            mine = len(self.searches(policy, self.windows[0]))
            networks = mine * self.config.mean_of
            searched = {policy.search_window(w.number) for w in self.windows} if policy.static else {0}
            searches += mine * (len(searched) + len(self.rehearsals))
            trainings += networks * ((1 if policy.frozen_weights else len(self.windows)) + len(self.rehearsals))
        return searches, trainings

    def run(self, rivals: Sequence[TrainTask]) -> tuple[list[PolicyOutcome], list[TaskResult]]:
        """The outcome of every policy, in order, and the results of `rivals`.

        Rehearsals, rivals and searches are computed side by side; a network is trained as soon as its search has ended.
        """
        static = [policy for policy in self.policies if policy.static]
        plans = [
            (policy, number, self.searches(policy, self.windows[number]))
            for policy in static
            for number in sorted({policy.search_window(w.number) for w in self.windows})
        ]
        outcomes = {p.name: PolicyOutcome(p, self._strategy(p)) for p in self.policies}
        rehearsed = [(o, w, self.searches(o.policy, w)) for o in outcomes.values() for w in self.rehearsals]
        # with a warm start each window waits for the one before
        beside = [] if self.config.warm_start else plans
        searches = [(task, [window]) for _, window, tasks in rehearsed for task in tasks]
        for policy, number, tasks in beside:
            windows = [window for window in self._fitted(policy) if policy.search_window(window.number) == number]
            searches += [(task, windows) for task in tasks]

        def next_of(index: int, result: TaskResult) -> list[TrainTask]:
            task, windows = searches[index] if index < len(searches) else (None, [])
            return [each for window in windows if task for each in self.trainings(window, [task], [result])]

        results = iter(self._run([*(task for task, _ in searches), *rivals], next_of))
        self._rehearsed(rehearsed, [[next(results) for _ in tasks] for *_, tasks in rehearsed])
        found: dict[tuple[str, int], tuple[list[SearchTask], list[TaskResult]]] = {}
        before: dict[str, list[TaskResult]] = {}
        for policy, number, tasks in plans:
            if self.config.warm_start and policy.name in before:
                tasks = [continued(task, earlier) for task, earlier in zip(tasks, before[policy.name], strict=True)]
            before[policy.name] = self._run(tasks) if self.config.warm_start else [next(results) for _ in tasks]
            found[policy.name, number] = (tasks, before[policy.name])
        rival_results = list(results)

        jobs: list[tuple[Policy, Window, int, list[TrainTask]]] = []
        for policy in static:
            for window in self._fitted(policy):
                source = policy.search_window(window.number)
                jobs.append((policy, window, source, self.trainings(window, *found[policy.name, source])))
        trained = self._run([task for *_, tasks in jobs for task in tasks])
        at = 0
        for policy, window, source, trainings in jobs:
            outcome = outcomes[policy.name]
            mine = trained[at : at + len(trainings)]
            at += len(trainings)
            outcome.contenders += self._contenders(outcome, window, *found[policy.name, source], mine)
            outcome.decisions.append(Decision(window.number, source == window.number, source))
            if policy.frozen_weights:
                for later in self.windows[1:]:
                    first = [c for c in outcome.contenders if c.window.number == window.number]
                    singles = [single for contender in first for single in contender.members or (contender,)]
                    moved = [self._moved(single, later) for single in singles]
                    outcome.contenders += self._joined(moved)
                    outcome.decisions.append(Decision(later.number, False, source))
        for policy in self.policies:
            if policy.drift:
                self._follow_drift(outcomes[policy.name])
        return [outcomes[policy.name] for policy in self.policies], rival_results

    def _fitted(self, policy: Policy) -> Sequence[Window]:
        """The windows on which a policy trains networks."""
        return self.windows[:1] if policy.frozen_weights else self.windows

    def _rehearsed(
        self, searched: Sequence[tuple[PolicyOutcome, Window, list[SearchTask]]], found: Sequence[list[TaskResult]]
    ) -> None:
        """Every policy as if its first window were each of the rehearsals."""
        wanted = [self.trainings(window, tasks, each) for (_, window, tasks), each in zip(searched, found, strict=True)]
        results = iter(self._run([task for tasks in wanted for task in tasks]))
        for (outcome, window, tasks), each, trainings in zip(searched, found, wanted, strict=True):
            outcome.rehearsed += self._contenders(outcome, window, tasks, each, [next(results) for _ in trainings])

    def _run(self, tasks: Sequence[SearchTask | TrainTask], ahead: Ahead = nothing) -> list[TaskResult]:
        return self.engine.run(tasks, lambda _index, _cached: self.advance(), ahead)

    def _strategy(self, policy: Policy) -> str:
        return "searched" if policy is self.policies[0] else f"policy:{policy.name}"

    def _contenders(
        self,
        outcome: PolicyOutcome,
        window: Window,
        searches: Sequence[SearchTask],
        found: Sequence[TaskResult],
        trained: Sequence[TaskResult],
    ) -> list[Contender]:
        kind = "random" if outcome.policy.variants == (RANDOM_VARIANT,) else "searched"
        sources = [(task, before) for task, before in zip(searches, found, strict=True) for _ in self.averaged(before)]
        singles = [
            Contender(outcome.strategy, kind, window, task.variant, task.seed, after, before)
            for (task, before), after in zip(sources, trained, strict=True)
        ]
        return self._joined(singles)

    def _joined(self, singles: Sequence[Contender]) -> list[Contender]:
        """Means over seeds (`ensemble`), over the likeliest architectures of a search (`mean_of`), or every network by itself."""
        if self.config.ensemble:
            return ensembles(singles)
        if self.config.mean_of == 1:
            return list(singles)
        keys = dict.fromkeys((single.variant, single.seed) for single in singles)
        return [mean for key in keys for mean in ensembles([s for s in singles if (s.variant, s.seed) == key])]

    def _moved(self, contender: Contender, window: Window) -> Contender:
        """The same trained network, forecasting a later window."""
        model = model_of(contender.trained, self.samples.panel.interval_ns, 1.0, {})
        columns = self.samples.columns(model.genotype.features)
        x, known = model.scaler.apply(self.samples.bank.values[:, columns])
        arrays = dict(contender.trained.arrays)
        for name, bars in (("stop_forecasts", window.stop), ("test_forecasts", window.test)):
            arrays[name] = forecasts_of(model.network, x, known, bars, bool(model.genotype.assets))
        return replace(contender, window=window, trained=TaskResult(arrays, contender.trained.report))

    def _follow_drift(self, outcome: PolicyOutcome) -> None:
        chosen: list[Candidate] = []
        searches: list[SearchTask] = []
        found: list[TaskResult] = []
        source = 0
        alarm: int | None = None  # bar of the last alarm while the search data are still mostly older than it
        for window in self.windows:
            heard: tuple[Alarm, ...] = ()
            if window.number > 0:
                heard = tuple(drift_alarms(self.samples, chosen[source:], window.validation.stop))
            alarm = max((a.bar for a in heard), default=alarm)
            # a search right after an alarm learns mostly from the old market: it is repeated until half of the training
            # stretch lies beyond the alarm
            reason = (
                "first" if window.number == 0 else "drift" if heard else "follow-up" if alarm is not None else "none"
            )
            if alarm is not None and window.train.start + window.train.stop >= 2 * alarm:
                alarm = None
            if reason != "none":
                source = window.number
                searches = self.searches(outcome.policy, window)
                if self.config.warm_start and found:
                    searches = [continued(task, earlier) for task, earlier in zip(searches, found, strict=True)]
                found = self._run(searches)
            trained = self._run(self.trainings(window, searches, found))
            mine = self._contenders(outcome, window, searches, found, trained)
            outcome.contenders += mine
            outcome.decisions.append(Decision(window.number, source == window.number, source, heard, reason))
            judged = [judge(self.config, self.samples.panel, self.volatility, contender) for contender in mine]
            chosen.append(max(judged, key=lambda candidate: candidate.score))


def ensembles(singles: Sequence[Contender]) -> list[Contender]:
    """Per variant, one contender that forecasts the mean of its seeds; NaN where any seed has none. The first seed tells its story."""
    found = []
    for variant in dict.fromkeys(single.variant for single in singles):
        members = [single for single in singles if single.variant == variant]
        names = ("stop_forecasts", "test_forecasts")
        arrays = {name: np.mean([member.trained.arrays[name] for member in members], axis=0) for name in names}
        report = {**members[0].trained.report, "parameters": sum(m.trained.report["parameters"] for m in members)}
        for name in ("validation_loss", "validation_correlation"):
            report[name] = float(np.mean([m.trained.report[name] for m in members]))
        mean = TaskResult({**members[0].trained.arrays, **arrays}, report)
        found.append(replace(members[0], trained=mean, members=tuple(members)))
    return found


def drift_alarms(samples: Samples, since: Sequence[Candidate], known_until: int) -> list[Alarm]:
    """Alarms on volatility and forecast error since a search, from what is known at the close of bar `known_until` - 1.

    since: the candidates that traded the windows from the search on. The reference is the stop stretch of the search's window.
    """
    panel, reach = samples.panel, samples.horizons[0] + 1
    first = since[0].contender
    begin = first.window.stop
    label: FloatArray = samples.labels[:, 0].T
    returns = np.diff(np.log(panel.field("close")), axis=0, prepend=np.nan)
    start = first.window.test.start
    heard = []
    if known_until - start >= BLOCK_BARS:
        heard += alarms(
            "volatility", volatility_stream(returns[begin]), volatility_stream(returns[start:known_until]), start
        )
    forecasts = np.concatenate([candidate.contender.trained.test_forecasts for candidate in since])
    bars = np.concatenate([np.arange(c.contender.window.test.start, c.contender.window.test.stop) for c in since])
    usable = bars + reach < known_until
    if usable.sum() >= BLOCK_BARS:
        known = bars[usable]
        reference = error_stream(first.trained.stop_forecasts, label[begin])
        found = alarms("forecast error", reference, error_stream(forecasts[usable], label[known]), 0)
        heard += [replace(alarm, bar=int(known[alarm.bar]) + reach) for alarm in found]
    return sorted(heard, key=lambda alarm: alarm.bar)
