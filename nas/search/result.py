"""What a search found: the network, how it got there, what a notebook shows of it, and what follows: train, predict, save."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.panel import FloatArray, InputError, Panel
from nas.network.model import TrainedModel, network_of
from nas.network.stretches import Samples, Scaler, Tensors, for_training
from nas.network.training import TrainingSettings, train
from nas.search.decisions import Decisions
from nas.space.drawing import draw_curves, draw_genotype
from nas.space.genotype import Genotype
from nas.space.search_space import SearchSpace


class Trial(NamedTuple):
    """A cell that was trained by itself, for how long, and the least validation loss it reached."""

    genotype: Genotype
    epochs: int
    loss: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found and how it got there. A notebook shows it as a picture.

    Parameters
    ----------
    genotype : Genotype
        The network that was chosen.
    history : tuple of dict
        One per epoch (docs/variants.md lists the fields).
    op_weights, feature_weights
        The relaxed weights as they were when the genotype was read off: [edge, op] and [input, pipeline or none].
    space : SearchSpace
        What could be chosen.
    variant : str
        Of the search.
    note : str
        Why the search ended where it did.
    finalists : tuple of (Genotype, float)
        All architectures of the last round with their scores, the one that the relaxed weights prefer first.
    trials : tuple of Trial
        Of a search that trains cells from scratch, all of them in order: its anytime curve is their running minimum.
    model : TrainedModel, optional
        The trained network; `train` makes it.

    Examples
    --------
    >>> from data import load_panel
    >>> from nas import TrainingSettings
    >>> from nas.search import search
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> found = search(panel, ops=("zero", "conv3", "ema12"), nodes=1, channels=4, epochs=1)
    >>> found = found.train(panel, TrainingSettings(epochs=1))
    >>> found.predict(panel).shape == (len(panel), 1)
    True

    `found.save("model")` writes the folder that `nas.load_model` reads.
    """

    genotype: Genotype
    history: tuple[dict[str, Any], ...]
    op_weights: tuple[tuple[float, ...], ...]
    feature_weights: tuple[tuple[float, ...], ...]
    space: SearchSpace
    variant: str = "darts"
    note: str = ""
    finalists: tuple[tuple[Genotype, float], ...] = ()
    model: TrainedModel | None = field(default=None, compare=False, repr=False)
    decisions: Decisions | None = None
    trials: tuple[Trial, ...] = ()

    @property
    def text(self) -> str:
        """The network in words: `node1 = ema12(input); ...`."""
        return str(self.genotype)

    @property
    def svg(self) -> str:
        """The network as a picture."""
        return draw_genotype(self.genotype.to_dict())

    def to_json(self) -> str:
        """Genotype, weights and history; `Genotype.from_dict` reads its `genotype`."""
        content = {
            "variant": self.variant,
            "note": self.note,
            "decisions": None if self.decisions is None else self.decisions.to_dict(),
            "finalists": [{"architecture": str(each), "score": score} for each, score in self.finalists],
            "trials": [{"architecture": str(each), "epochs": n, "loss": loss} for each, n, loss in self.trials],
            "genotype": self.genotype.to_dict(),
            "edges": [list(edge) for edge in self.space.edges],
            "ops": list(self.space.ops),
            "op_weights": [list(row) for row in self.op_weights],
            "features": {name: [*pipelines, "none"] for name, pipelines in self.space.features},
            "feature_weights": [list(row) for row in self.feature_weights],
            "history": list(self.history),
        }
        return json.dumps(content, indent=1)

    def train(
        self, panel: Panel, settings: TrainingSettings | None = None, *, seed: int = 0, validation_share: float = 0.25
    ) -> SearchResult:
        """The same result with its network trained from scratch, in `model`.

        panel: of the interval (and, where it reads several together, the assets) that was searched. The last `validation_share` of it says
        when to stop and is not fitted to; what labels and context span is purged before. settings: `TrainingSettings()` unless given.
        InputError for a panel too short.
        """
        samples = Samples.of(panel, self.genotype.horizons, {name: (steps,) for name, steps in self.genotype.features})
        reach, together = max(self.genotype.horizons) + 1, bool(self.genotype.assets)
        fit, stop = for_training(panel, samples.bank, self.space.receptive_field, reach, validation_share)
        scaler, network = Scaler.fit(samples.bank.values, fit), network_of(self.genotype, seed)
        train(network, Tensors.of(samples, scaler, together=together), fit, stop, settings or TrainingSettings(), seed)
        model = TrainedModel(self.genotype, network, scaler, panel.interval_ns, 0.0, {"symbols": list(panel.assets)})
        known = model.predict_bank(samples.bank, stop.start, stop.stop)
        known = known[np.isfinite(known)]
        return replace(self, model=replace(model, forecast_scale=float(known.std()) if known.size else 0.0))

    def predict(self, panel: Panel, start: int = 0, stop: int | None = None) -> FloatArray:
        """First-horizon forecasts of bars start..stop (None: to the last), in standard deviations: [bar, asset]; NaN where a feature is
        not known yet. InputError before `train`."""
        return self._trained().predict(panel, start, stop)

    def save(self, folder: Path | str) -> None:
        """Write the trained network as a folder that `nas.load_model` reads. InputError before `train`."""
        self._trained().save(Path(folder))

    def _trained(self) -> TrainedModel:
        if self.model is None:
            raise InputError("this network has no weights yet: found = found.train(panel) trains it")
        return self.model

    def _repr_html_(self) -> str:
        """What a notebook shows: the network, its text, the curves."""
        curves = draw_curves(self.history) if self.history else ""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<div>{self.svg}<p><code>{html.escape(self.text)}</code></p>{note}{curves}</div>"
