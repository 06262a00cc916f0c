"""The one search loop: alternate alpha steps on validation stretches with weight steps on training stretches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.panel import InputError
from nas.network.links import Candidates, lag_preferences, leaders_of, together
from nas.network.lookback import LookbackSpace
from nas.network.stretches import Tensors, alternating
from nas.search.checkpoint import Checkpoint
from nas.search.decisions import Decisions, decisions_of, merged, resolved
from nas.search.finalists import final, likeliest, nominated
from nas.search.penalties import times
from nas.search.result import SearchResult
from nas.search.run import SearchRun, cells_of
from nas.search.scratch import from_scratch
from nas.search.selection import select_by_removal, select_shared
from nas.search.settings import SearchSettings
from nas.search.supernet import Architecture
from nas.search.variants import Variant, get_variant
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace

Weights = tuple[tuple[float, ...], ...]  # relaxed weights, row by row
REPEAT = 7_000_003  # between the seeds of a search's repeats
FEWEST_BARS = 16  # of a training or validation stretch


def search(
    space: SearchSpace,
    tensors: Tensors,
    train_bars: slice | Sequence[slice],
    validation_bars: slice | Sequence[slice],
    settings: SearchSettings,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
    *,
    variant: str = "darts",
    on_record: Callable[[dict[str, Any]], None] = lambda _: None,
    initial: tuple[Weights, Weights] | None = None,
    checkpoint: Path | None = None,
) -> SearchResult:
    """Bilevel search (Liu et al. 2019) on one window. on_record receives every epoch's row of the history as soon as it is known.
    initial: (op_weights, feature_weights) of an earlier search to start from (warm start); random controls have no use for it.
    checkpoint: a file, written after every epoch and gone at the end; a killed search goes on from it, to the same bytes.

    tensors.x holds every candidate pipeline as a column, in the order of `space.features`. InputError for shapes that cannot be
    searched, inputs with NaN and losses that explode.
    """
    chosen = get_variant(variant)
    check(space, tensors, train_bars, validation_bars, chosen, settings)
    if settings.finalists < chosen.finalists:
        settings = replace(settings, finalists=chosen.finalists)
    splits = splits_of(space, train_bars, validation_bars, settings)
    held = None if checkpoint is None else Checkpoint(checkpoint, space, tensors, splits, settings, seed, variant)
    if chosen.scratch:
        return from_scratch(space, tensors, splits, settings, seed, chosen, on_epoch, held)
    if held is not None and settings.repeats > 1:
        raise InputError(
            "what goes on from a checkpoint is one search, and several repeats keep none: leave checkpoint out"
        )
    if settings.repeats > 1:
        results = [
            search(
                space, tensors, train_bars, validation_bars, once, draws, on_epoch if k == 0 else lambda _: None,
                variant=variant, on_record=on_record if k == 0 else lambda _: None, initial=initial,
            )
            for k, (once, draws) in enumerate(repeats_of(settings, seed, variant))
        ]  # fmt: skip
        return best_of_repeats(results, settings, chosen)
    found = result_of(*_staged(chosen, space, tensors, splits, settings, seed, initial, held, on_epoch, on_record))
    if held is not None:
        held.done()
    return found


def splits_of(
    space: SearchSpace, train: slice | Sequence[slice], validation: slice | Sequence[slice], settings: SearchSettings
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """(stretches for weights, stretches for alphas) of a search."""
    if isinstance(train, slice) and isinstance(validation, slice):
        purge = space.receptive_field + max(space.horizons) + 1
        return alternating(train, validation, settings.blocks, purge)
    return parts_of(train), parts_of(validation)


def supernet(
    space: SearchSpace,
    tensors: Tensors,
    train: slice,
    validation: slice,
    settings: SearchSettings,
    seed: int,
    variant: str,
) -> SearchRun:
    """A supernet as a search leaves it, before any cell is read off: what it says of a cell is
    `run.validation(run.architecture.chosen_mix(genotype))`."""
    chosen = get_variant(variant)
    check(space, tensors, train, validation, chosen, settings)
    return _staged(chosen, space, tensors, ((train,), (validation,)), settings, seed)[0]


def _staged(
    variant: Variant,
    space: SearchSpace,
    tensors: Tensors,
    splits: tuple[tuple[slice, ...], tuple[slice, ...]],
    settings: SearchSettings,
    seed: int,
    initial: tuple[Weights, Weights] | None = None,
    held: Checkpoint | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
    on_record: Callable[[dict[str, Any]], None] = lambda _: None,
) -> tuple[SearchRun, list[dict[str, Any]]]:
    """All stages of a search: (the run of the last one, the history). held: where it goes on from, written after every epoch."""
    leaders = leaders_of(space, tensors, splits[0])
    stages, kept = variant.stages, racing(space, variant, leaders)
    before = None if held is None else held.read()
    history: list[dict[str, Any]] = [] if before is None else json.loads(before["history"])
    for row in history:
        on_record(row)
    stage_ends = [round(settings.epochs * (k + 1) / len(stages)) for k in range(len(stages))]
    for k, stage in enumerate(stages):
        first = begin = stage_ends[k - 1] if k else 0
        if first == stage_ends[k] or (before is not None and k < before["stage"]):
            continue  # fewer epochs than stages, or done before
        here = before if before is not None and k == before["stage"] else None
        kept = kept if here is None else here["kept"]
        run = SearchRun(space, tensors, splits, settings, seed + 1_000_003 * k, variant, stage, kept, leaders)
        if here is not None:
            run.restore(here["run"])
            begin = here["epoch"] + 1
        elif initial is not None and k == 0:
            run.architecture.start_from(*initial)
        for epoch in range(begin, stage_ends[k]):
            if run.stopped:
                break
            history.append(run.epoch(epoch, epoch - first, stage_ends[k] - first))
            if held is not None:
                held.write(stage=k, epoch=epoch, kept=kept, history=json.dumps(history), run=run.state())
            on_epoch(epoch)
            on_record(history[-1])
        if stage_ends[k] < settings.epochs:
            kept = _fewer(run.architecture, stages[k + 1].ops)
    return run, history


def racing(space: SearchSpace, variant: Variant, leaders: Candidates | None) -> list[list[bool]] | None:
    """Per edge which ops take part; None where all do."""
    out = set[str]()
    if variant.without_zero and any(name != "zero" for name in space.ops):
        out.add("zero")
    if leaders is not None and not leaders.any:  # nobody leads: the op would pass on zeros
        out.add("lead_lag")
    return [[name not in out for name in space.ops] for _ in space.edges] if out else None


def repeats_of(settings: SearchSettings, seed: int, variant: str) -> list[tuple[SearchSettings, int]]:
    """(settings, seed) of every search that a search of several repeats is made of, which can run side by side; else its own."""
    if settings.repeats == 1 or get_variant(variant).scratch:
        return [(settings, seed)]
    once = replace(settings, repeats=1, undecided="first")
    return [(once, seed + REPEAT * k) for k in range(settings.repeats)]


def best_of_repeats(results: Sequence[SearchResult], settings: SearchSettings, variant: Variant) -> SearchResult:
    """The result of the repeat whose supernet forecasts validation best, with what all of them claim together."""
    results = sorted(results, key=lambda result: float(result.history[-1]["validation_loss"]))
    best = results[0]
    if best.decisions is None:
        return best
    decisions = merged([result.decisions for result in results if result.decisions is not None])
    genotype = best.genotype
    if settings.undecided == "simpler" and max(settings.finalists, variant.finalists) == 1:
        genotype = resolved(genotype, decisions, variant.rule.skip_limit)
    return replace(best, genotype=genotype, decisions=decisions)


def result_of(run: SearchRun, history: list[dict[str, Any]]) -> SearchResult:
    """Reads the genotype off a run that has ended."""
    architecture, variant = run.architecture, run.variant
    architecture.auxiliary_weight = 0.0
    decisions: Decisions | None = None
    if variant.selection == "weights":
        genotype = architecture.genotype()
        decisions = decisions_of(run, genotype)
        if run.settings.undecided == "simpler" and run.settings.finalists == 1:
            genotype = resolved(genotype, decisions, variant.rule.skip_limit)
    elif variant.selection == "removal":
        genotype, decisions = select_by_removal(run)
    else:
        genotype = select_shared(run)
    if run.matching is not None:
        run.note = "; ".join(filter(None, (run.note, run.matching.told)))
    note: str = run.note
    finalists: tuple[tuple[Genotype, float], ...] = ()
    if run.settings.finalists > 1 or (run.leaders is not None and run.leaders.any):
        genotype, note, finalists = _last_round(run, genotype)
    else:
        genotype = _told(run, genotype)
    with torch.no_grad():
        ops, features = architecture.op_weights(), architecture.feature_weights()
    return SearchResult(
        genotype,
        tuple(history),
        tuple(tuple(float(v) for v in row) for row in ops),
        tuple(tuple(float(v) for v in row) for row in features),
        run.space,
        variant.name,
        note,
        finalists,
        decisions=decisions,
    )


def _told(run: SearchRun, genotype: Genotype) -> Genotype:
    """With what a network of several assets needs to know."""
    return together(genotype, run.space, run.leaders, lag_preferences(run.network))


def _last_round(run: SearchRun, genotype: Genotype) -> tuple[Genotype, str, tuple[tuple[Genotype, float], ...]]:
    """(winner, note, scores) of the likeliest architectures, each trained by itself."""
    found = likeliest(run.architecture, genotype, run.settings.finalists)
    trials = nominated(genotype) if run.leaders is not None and run.leaders.any else []
    there = set(run.space.edges)
    trials = [
        each for each in trials if all((c.source, node) in there for node, row in enumerate(each.nodes) for c in row)
    ]
    candidates = [_told(run, each) for each in (*found, *trials)]
    genotype = candidates[0]
    splits = run.train_bars, run.validation_bars
    won, scores = final(candidates, run.space, run.tensors, splits, run.settings, run.seed)
    told = f"best of {len(candidates)} finalists" + ("" if won == genotype else f", before {genotype}")
    if scores[candidates.index(won)] > min(scores):
        told += "; its links have evidence of their own, and validation cannot tell it from the best"
    note = f"{run.note}; {told}" if run.note else told
    return won, note, tuple(zip(candidates, scores, strict=True))


def _fewer(architecture: Architecture, share: float) -> list[list[bool]]:
    """Per edge the strongest `share` of all ops (at least one besides zero), as P-DARTS drops them between stages."""
    ops, count = architecture.space.ops, max(2, round(share * len(architecture.space.ops)))
    kept = []
    for weights in architecture.op_weights().detach():
        order = sorted(range(len(ops)), key=lambda k: -float(weights[k]))
        best = set(order[:count])
        if all(ops[k] == "zero" for k in best):
            best.add(next(k for k in order if ops[k] != "zero"))
        kept.append([k in best for k in range(len(ops))])
    return kept


def check(
    space: SearchSpace,
    tensors: Tensors,
    train: slice | Sequence[slice],
    validation: slice | Sequence[slice],
    variant: Variant,
    settings: SearchSettings,
) -> None:
    """InputError for what cannot be searched, naming what to change."""
    columns = sum(len(p) for _, p in space.features)
    if not space.features:
        raise InputError("the search space has no inputs; give it candidate pipelines with space.with_features(...)")
    if tensors.columns != columns:
        raise InputError(f"the space has {columns} candidate pipelines, the inputs have {tensors.columns} columns")
    if space.together and not (tensors.together and len(space.assets) == tensors.y.shape[0]):
        raise InputError(
            f"the space reads {len(space.assets)} assets together, the tensors hold {tensors.y.shape[0]} "
            f"{'together' if tensors.together else 'one by one'}; make them with Tensors.of(..., together=True)"
        )
    if tensors.y.shape[1] != len(space.horizons):
        raise InputError(f"the space has {len(space.horizons)} horizons, the labels have {tensors.y.shape[1]}")
    channels = space.search_channels or space.channels
    if channels % variant.partial:
        raise InputError(
            f"variant {variant.name} sends 1/{variant.partial} of the channels through the ops, but {channels} channels are "
            f"no multiple of {variant.partial}; give channels that are"
        )
    deepest = max(cells_of(space, stage) or space.search_cells or space.cells for stage in variant.stages)
    if variant.alignment > 0.0 and deepest < 2:
        raise InputError(
            f"variant {variant.name} aligns the cells of the search, which has one; give search_cells of 2 or more, or leave align out"
        )
    if settings.loss == "classes" and len(space.horizons) < 2:
        raise InputError(
            "loss classes tells classes apart, an output each, and there is one output; choose another loss"
        )
    if variant.scratch and isinstance(space, LookbackSpace):
        raise InputError(f"variant {variant.name} trains cells, and a space of lookback maps has none; leave it out")
    if settings.op_costs:
        times(space, settings.op_costs)
    for name, values in (("inputs", tensors.x), ("labels", tensors.y)):
        if not torch.isfinite(values).all():
            raise InputError(f"the {name} hold NaN or infinite values; fill them and give those bars the weight 0")
    stretches = (("training", parts_of(train)), ("validation", parts_of(validation)))
    for a, b in itertools.product(*(parts for _, parts in stretches)):
        if max(a.start, b.start) < min(a.stop, b.stop):
            raise InputError(
                f"training bars {a.start} to {a.stop} and validation bars {b.start} to {b.stop} overlap; "
                f"give stretches that do not"
            )
    for name, parts in stretches:
        size = sum(part.stop - part.start for part in parts)
        if size < FEWEST_BARS:
            raise InputError(
                f"the {name} stretch has {size} bar{'s' * (size != 1)}, a search needs at least {FEWEST_BARS}; make it longer"
            )
        if sum(float(tensors.weight[:, :, part].sum()) for part in parts) == 0.0:
            raise InputError(f"no bar of the {name} stretch has all inputs and a label; begin later or drop an input")


def parts_of(bars: slice | Sequence[slice]) -> tuple[slice, ...]:
    """One stretch or several, as several."""
    return (bars,) if isinstance(bars, slice) else tuple(bars)
