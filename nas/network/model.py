"""Networks of cells: one class serves the supernet (mixed weights) and the discrete network of a genotype."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from data.atomic import write_bytes, write_text
from data.panel import InputError, Panel
from nas.features.bank import FeatureBank, build_bank
from nas.network.across import VOLATILE_ABOVE, Leads, Market
from nas.network.cell import Cell, Edge
from nas.network.links import MARKET_VOLATILITY, Candidates, fixed_leads
from nas.network.lookback import LookbackNetwork
from nas.network.model_check import check_digests, check_features, check_size, check_weights, digests, read_object
from nas.network.stretches import Scaler, with_presence
from nas.space.genotype import Genotype
from nas.space.ops import get_op

MODEL_FORMAT = 1
ENSEMBLE_FILE = "ensemble.json"  # in a model folder: several networks whose mean was traded


class CellNetwork(nn.Module):
    """Stem, stacked cells, head. forward(x [batch, input, time]) -> [batch, horizon, time], causal.

    Assets that are read together: x [group, asset, input + 1, time], its last input 1 where the asset is known, gives batch = group *
    asset. assets > 0: a learned vector per asset joins the stem.

    x must be free of NaN. With `mix` (weights per edge and op, or a row of them per cell), `input_mix` (weight per input column) and, with
    partial channels, `bypass` (weight per edge) it is the supernet.
    """

    def __init__(
        self,
        edges: list[Edge],
        *,
        nodes: int,
        channels: int,
        cells: int,
        inputs: int,
        horizons: int,
        receptive_field: int,
        partial: int = 1,
        assets: int = 0,
        cell_inputs: int = 1,
    ) -> None:
        super().__init__()
        self.receptive_field = receptive_field
        self.channels = channels
        self.cell_inputs = cell_inputs
        self.stem = nn.Parameter(torch.randn(inputs, channels) * inputs**-0.5)
        self.stem_bias = nn.Parameter(torch.zeros(channels))
        self.cells = nn.ModuleList(Cell(edges, nodes, channels, partial, cell_inputs) for _ in range(cells))
        width = len({e.node for e in edges}) * channels
        self.joints = nn.ParameterList(
            nn.Parameter(torch.randn(width, channels) * width**-0.5) for _ in range(cells - 1)
        )
        # from what lies before the cell before, where any edge reads it: the features for the first two cells
        self.before, self.before_bias = nn.ParameterList(), None
        if cell_inputs == 2 and any(e.source == 0 for e in edges):
            sizes = [inputs if k < 2 else width for k in range(cells)]
            self.before.extend(nn.Parameter(torch.randn(size, channels) * size**-0.5) for size in sizes)
            self.before_bias = nn.Parameter(torch.zeros(cells, channels))
        self.head = nn.Parameter(torch.randn(width, horizons) * (0.1 * width**-0.5))  # small: forecasts start near zero
        self.head_bias = nn.Parameter(torch.zeros(horizons))
        self.embedding = nn.Parameter(torch.zeros(assets, channels)) if assets else None
        self.volatility_column: int | None = None

    def follow(self, leads: Mapping[int, Leads | Candidates], volatility_column: int | None = None) -> None:
        """Tell the lead-lag ops, per source, who may lead whom, and the network which input says how volatile the market is."""
        self.volatility_column = volatility_column
        for cell in self.cells:
            cell.leads = dict(leads)  # type: ignore[assignment]

    def forward(
        self,
        x: Tensor,
        mix: Tensor | None = None,
        input_mix: Tensor | None = None,
        bypass: Tensor | None = None,
        last: int | None = None,
    ) -> Tensor:
        """Forecasts of every bar in one pass; shapes as above. last: of so many bars at the end only, for which a part of the bars
        before is enough."""
        market: Market | None = None
        if x.dim() == 4:
            volatile = None
            if self.volatility_column is not None:
                volatile = (x[:, :, self.volatility_column] > VOLATILE_ABOVE).to(x.dtype).permute(2, 0, 1)
            market = Market(x[:, :, -1].permute(2, 0, 1), volatile)
            x = x[:, :, :-1].flatten(0, 1)
        batch, inputs, bars = x.shape
        # one plain matrix product: matmul of the permuted x would run one small product per bar where no gradients are taken
        flat = x.permute(2, 0, 1).reshape(bars * batch, inputs)
        asset: Tensor | None = None
        if self.embedding is not None and market is not None:
            asset = self.embedding.repeat(market.present.shape[1], 1)

        def from_features(weight: Tensor, bias: Tensor) -> Tensor:
            mixed = weight if input_mix is None else weight * input_mix[:, None]
            value = torch.addmm(bias, flat, mixed).view(bars, batch, -1)
            return value if asset is None else value + asset

        asked: list[int | None] = [None] * len(self.cells)
        if last is not None and market is None and all(cell.trims for cell in self.cells):
            asked = self._asked(last, bars)
        outputs: list[Tensor] = []
        mixes = mix if mix is not None and mix.dim() == 2 else [mix] * len(self.cells)
        for k, cell in enumerate(self.cells):
            state = outputs[-1] @ self.joints[k - 1] if k else from_features(self.stem, self.stem_bias)
            states: Tensor | tuple[Tensor, Tensor] = state
            if self.cell_inputs == 2:
                before = state  # read by nothing, unless
                if self.before_bias is not None:
                    weight, bias = self.before[k], self.before_bias[k]
                    before = from_features(weight, bias) if k < 2 else outputs[k - 2] @ weight + bias
                states = (before, state)
            if market is not None:
                outputs.append(cell(states, mixes[k], bypass, market))
            else:
                outputs.append(
                    cell(states, mixes[k], bypass)
                    if asked[k] is None
                    else cell(states, mixes[k], bypass, last=asked[k])
                )
        out: Tensor = (outputs[-1] @ self.head + self.head_bias).permute(1, 2, 0)
        return out if last is None else out[:, :, -last:]

    def _asked(self, last: int, bars: int) -> list[int | None]:
        """How many bars at the end every cell has to give: what the last `last` bars of the last cell read of it."""
        asked: list[int | None] = [last] * len(self.cells)
        for k in range(len(self.cells) - 1, 0, -1):
            needed = cast(Cell, self.cells[k]).needed(cast(int, asked[k]), bars)
            asked[k - 1] = max(cast(int, asked[k - 1]), needed[self.cell_inputs - 1])
            if self.before_bias is not None and k > 1:
                asked[k - 2] = max(cast(int, asked[k - 2]), needed[0])
        return asked


class PerAsset(nn.Module):
    """One architecture, every asset with weights of its own: network a makes the forecasts of asset a, x and output as `CellNetwork`.

    Ops across assets inside network a see all assets with a's weights, so their cost grows with the square of the number of assets.
    """

    def __init__(self, networks: Sequence[CellNetwork], across: bool) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.across = across
        self.receptive_field = networks[0].receptive_field
        self.channels = networks[0].channels

    def follow(self, leads: Mapping[int, Leads | Candidates], volatility_column: int | None = None) -> None:
        """As `CellNetwork.follow`, for the network of every asset."""
        for network in self.networks:
            network.follow(leads, volatility_column)  # type: ignore[operator]

    def forward(self, x: Tensor, *weights: Tensor | None) -> Tensor:
        """Forecasts of every bar in one pass, asset by asset."""
        parts = []
        for a, network in enumerate(self.networks):
            if self.across:
                out = network(x, *weights)
                parts.append(out.view(*x.shape[:2], *out.shape[1:])[:, a])
            else:
                parts.append(network(x[:, a, :-1], *weights))
        return torch.stack(parts, 1).flatten(0, 1)


Network = CellNetwork | PerAsset


def last_of(network: nn.Module, bars: int, x: Tensor, *weights: Tensor | None) -> Tensor:
    """Forecasts of the last `bars` bars of x, which is as long as their receptive field asks for, or longer."""
    if isinstance(network, CellNetwork | LookbackNetwork):
        return network(x, *weights, last=bars)  # type: ignore[no-any-return]
    return network(x, *weights)[:, :, -bars:]  # type: ignore[no-any-return]


def shared(make: Callable[[], CellNetwork], share: str, assets: int, across: bool) -> Network:
    """One network for all assets, or one each."""
    return PerAsset([make() for _ in range(assets)], across) if share == "none" else make()


def network_of(genotype: Genotype, seed: int) -> Network:
    """The discrete network of a genotype with fresh weights."""
    edges = [Edge(c.source, node, (c.op,)) for node, connections in enumerate(genotype.nodes) for c in connections]
    across = any(get_op(op).across for edge in edges for op in edge.ops)

    def make() -> CellNetwork:
        return CellNetwork(
            edges,
            nodes=len(genotype.nodes),
            channels=genotype.channels,
            cells=genotype.cells,
            inputs=len(genotype.features),
            horizons=len(genotype.horizons),
            receptive_field=genotype.receptive_field,
            assets=len(genotype.assets) if genotype.share == "embedding" else 0,
            cell_inputs=genotype.inputs,
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = shared(make, genotype.share, len(genotype.assets), across)
    links = {c.source: c.links for connections in genotype.nodes for c in connections if c.op == "lead_lag"}
    leads = {source: fixed_leads(found, genotype.assets) for source, found in links.items()}
    column = None
    if any(link.state for found in links.values() for link in found):
        if MARKET_VOLATILITY not in genotype.features:
            raise InputError(
                f"this genotype has a link that holds in the volatile market only, but not the feature {MARKET_VOLATILITY[0]} "
                f"({MARKET_VOLATILITY[1]}) that tells it; add it to its features"
            )
        column = genotype.features.index(MARKET_VOLATILITY)
    network.follow(leads, column)
    return network


@torch.no_grad()
def forecast_sequence(network: nn.Module, x: npt.NDArray[np.float32], start: int, stop: int) -> npt.NDArray[np.float64]:
    """Forecasts of bars start..stop in one pass over the receptive field before them.

    x: [asset, input, time], free of NaN; with presence (`with_presence`) where assets are read together. Returns
    [asset, horizon, stop - start]. Computed in double precision and rounded to single: matrix products round differently for
    different lengths, and paper trading, which asks for one more bar at a time, must get exactly the forecasts of the backtest.
    """
    network = copy.deepcopy(network).double().eval()
    begin = max(0, start - int(network.receptive_field))  # type: ignore[arg-type]
    out = network(torch.from_numpy(np.ascontiguousarray(x[..., begin:stop], dtype=np.float64)))
    return out[:, :, start - begin :].float().double().numpy()  # type: ignore[no-any-return]


def forecasts_of(
    network: nn.Module, x: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], bars: slice, together: bool
) -> npt.NDArray[np.float64]:
    """First-horizon forecasts of `bars`: [bar, asset], NaN where an input is not known.

    x: [asset, input, time], known: [asset, time], as `Scaler.apply` gives them. together: the network reads all assets at once.
    """
    shown = with_presence(x, known) if together else x
    out = forecast_sequence(network, shown, bars.start, bars.stop)[:, 0]
    return np.where(known[:, bars], out, np.nan).T


@dataclass(frozen=True)
class TrainedModel:
    """A network with all it needs to forecast from a panel.

    Parameters
    ----------
    genotype, network
        The architecture, and it with weights.
    scaler : Scaler
        Of its pipelines, as fitted in training.
    interval_ns : int
        Of the bars it was trained on.
    forecast_scale : float
        Standard deviation of its forecasts on the stretch that stopped the training.
    extra : dict
        What else the folder of the model says; plain JSON.

    Examples
    --------
    >>> import tempfile
    >>> from data import load_panel
    >>> panel = load_panel(["BTCUSDT"], source="simulated", start="2024-01-01", end="2024-03-01")
    >>> from nas import TrainingSettings, load_model
    >>> from nas.search import search
    >>> found = search(panel, ops=("zero", "conv3"), nodes=1, channels=4, epochs=1).train(panel, TrainingSettings(epochs=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found.save(folder)
    ...     model = load_model(folder)
    >>> bool((model.predict(panel, 1000) == found.predict(panel, 1000)).all())
    True
    """

    genotype: Genotype
    network: Network
    scaler: Scaler
    interval_ns: int
    forecast_scale: float
    extra: dict[str, Any]

    def predict(self, panel: Panel, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float64]:
        """First-horizon forecasts of bars start..stop (None: to the last): [bar, asset]; NaN where a feature is not known yet."""
        stop = len(panel) if stop is None else stop
        together = self.genotype.assets
        if not together or panel.assets == together:
            return self.predict_bank(self.bank(panel), start, stop)
        lacking = [name for name in together if name not in panel.assets]
        if lacking:
            raise InputError(
                f"this network reads {', '.join(together)} together, the data lack {', '.join(lacking)}; give all of them"
            )
        order = [panel.assets.index(name) for name in together]
        bank = self.bank(panel)
        out = np.full((stop - start, len(panel.assets)), np.nan)
        out[:, order] = self.predict_bank(replace(bank, values=bank.values[order]), start, stop)
        return out

    def bank(self, panel: Panel) -> FeatureBank:
        """The chosen pipelines of a panel."""
        return build_bank(panel, {name: (pipeline,) for name, pipeline in self.genotype.features})

    def predict_bank(self, bank: FeatureBank, start: int, stop: int) -> npt.NDArray[np.float64]:
        """`predict` from features that are computed already."""
        x, known = self.scaler.apply(bank.values)
        return forecasts_of(self.network, x, known, slice(start, stop), bool(self.genotype.assets))

    def save(self, folder: Path) -> None:
        """Write the folder that `load_model` reads: genotype.json, features.json, weights.safetensors; each file whole or not at all."""
        features = {
            "format": MODEL_FORMAT,
            "interval_ns": self.interval_ns,
            "forecast_scale": self.forecast_scale,
            "pipelines": [list(item) for item in self.genotype.features],
            "mean": self.scaler.mean.tolist(),
            "deviation": self.scaler.deviation.tolist(),
            **self.extra,
        }
        weights = {k: v.contiguous() for k, v in self.network.state_dict().items()}
        write_text(folder / "genotype.json", json.dumps(self.genotype.to_dict(), indent=1, sort_keys=True) + "\n")
        write_bytes(folder / "weights.safetensors", safetensors.torch.save(weights))
        features["digests"] = digests(folder, json.loads(json.dumps(features)))
        write_text(folder / "features.json", json.dumps(features, indent=1, sort_keys=True) + "\n")


def load_model(folder: Path | str) -> TrainedModel:
    """Read a model folder: `SearchResult.save`'s, or `models/<window>` of a run.

    Parameters
    ----------
    folder : Path or str
        With genotype.json, features.json and weights.safetensors.

    Raises
    ------
    InputError
        Saying which file is missing or what does not fit.

    Examples
    --------
    >>> from nas import load_model
    >>> load_model("nowhere")
    Traceback (most recent call last):
    ...
    data.errors.InputError: nowhere holds no model: genotype.json is missing; choose a finished run's models/<window> folder
    """
    folder = Path(folder)
    if (folder / ENSEMBLE_FILE).is_file():
        raise InputError(
            f"{folder} holds an ensemble, and one network is read at a time; rerun the walk-forward without --ensemble, "
            f"or choose a member: {folder / 'members' / '0'}"
        )
    for name in ("genotype.json", "features.json", "weights.safetensors"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} holds no model: {name} is missing; choose a finished run's models/<window> folder"
            )
    with damage_told(folder):
        return _read_model(folder)


@contextmanager
def damage_told(folder: Path) -> Iterator[None]:
    """InputError for whatever goes wrong while the files of a model folder are read."""
    try:
        yield
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SafetensorError,
    ) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"{folder} is damaged ({type(error).__name__}: {reason}); rerun the walk-forward with --fresh"
        ) from None


def read_head(folder: Path) -> tuple[Genotype, dict[str, Any], Scaler, dict[str, Any]]:
    """(genotype, features.json, scaler, its entries that are not a model's own) of a model folder, checked; all but the weights."""
    raw, features = read_object(folder / "genotype.json"), read_object(folder / "features.json")
    if features.get("format") != MODEL_FORMAT or isinstance(features["format"], bool):
        raise InputError(
            f"{folder}: model format {features.get('format')}, this version reads {MODEL_FORMAT}; rerun the walk-forward"
        )
    check_digests(folder, features)
    check_size(raw)
    genotype = Genotype.from_dict(raw)
    check_features(features, genotype)
    scaler = Scaler(np.array(features["mean"], dtype=np.float64), np.array(features["deviation"], dtype=np.float64))
    known = {"format", "interval_ns", "forecast_scale", "pipelines", "mean", "deviation", "digests"}
    return genotype, features, scaler, {k: v for k, v in features.items() if k not in known}


def edge_by_edge(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Saved weights as `wanted` has them: edges from one source once shared the weights of an attention or a gate, gains were of white
    inputs."""
    weights = {**{k: v for k, v in wanted.items() if k.endswith("calibration") and k not in weights}, **weights}
    apart = {name for name, tensor in weights.items() if name in wanted and wanted[name].dim() > tensor.dim()}
    return {k: tensor.expand(wanted[k].shape).clone() if k in apart else tensor for k, tensor in weights.items()}


def _read_model(folder: Path) -> TrainedModel:
    genotype, features, scaler, extra = read_head(folder)
    if "own" in features:  # nas.baselines.own_model
        raise InputError(
            f"{folder} holds a model of the user's own and no network; paper trading takes it with --model"
        )
    network = network_of(genotype, 0)
    weights = safetensors.torch.load((folder / "weights.safetensors").read_bytes())
    wanted = network.state_dict()
    weights = edge_by_edge(weights, wanted)
    check_weights(weights, wanted)
    network.load_state_dict(weights)
    return TrainedModel(genotype, network, scaler, features["interval_ns"], features["forecast_scale"], extra)
