"""A finished run for other tools: TensorBoard event files and an MLflow run. Both are extras, imported only here."""

from __future__ import annotations

import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from data.panel import InputError
from reports.page import flat
from reports.performance import performance
from reports.run_folder import Run
from reports.search_section import HEALTH, LOSSES, edge_names

T = TypeVar("T")

EXPERIMENT = "nextopen"
METRIC_NAME = re.compile(r"[^A-Za-z0-9_. /-]+")  # anything else MLflow does not take in a name


def summary_writer() -> Any:
    """TensorBoard's writer class. InputError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # optional
    except ImportError:
        raise InputError('TensorBoard is not installed: pip install "nextopen[tensorboard]"') from None
    return SummaryWriter


def write_tensorboard(run: Run) -> Path:
    """Losses, entropy, the weight of every op per edge and the traded networks, from the histories of the searches.

    Written to `tensorboard/` of the run folder, one TensorBoard run per window; what was shown while searching
    (`reports.live`) goes.
    """
    writer_of = summary_writer()
    folder = run.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    for position, window in enumerate(run.windows):
        number = int(window.get("window", position))
        with writer_of(str(folder / f"window-{number}")) as writer:
            _write_history(writer, window)
            writer.add_text("architecture", f"`{window.get('text') or 'not recorded'}`", 0)
            _write_graph(writer, run.folder / "models" / str(number))
    return folder


def _write_history(writer: Any, window: Mapping[str, Any]) -> None:
    weights = window.get("weights")
    described = weights if isinstance(weights, Mapping) else {}
    for position, row in enumerate(window.get("history") or []):
        write_epoch(writer, described, row, int(row.get("epoch", position)))


def write_epoch(writer: Any, described: Mapping[str, Any], row: Mapping[str, Any], epoch: int) -> None:
    """One row of a search's history. described: its `edges` and `ops`."""
    for key in (*LOSSES, *HEALTH):
        value = row.get(key)
        if isinstance(value, (int, float)) and math.isfinite(value):
            writer.add_scalar(f"search/{key}", value, epoch)
    for edge, line in zip(edge_names(described.get("edges") or []), row.get("op_weights") or [], strict=False):
        for op, value in zip(described.get("ops") or [], line, strict=False):
            if value is not None and math.isfinite(value):
                writer.add_scalar(f"alpha {edge}/{op}", value, epoch)


def _write_graph(writer: Any, folder: Path) -> None:
    """The network of the window, traced on zeros; left out where its model was not kept."""
    if not (folder / "genotype.json").is_file():
        return
    import torch  # slow to load; MLflow does without

    from nas.baselines.own_model import own_name  # start-up time
    from nas.network.model import load_model

    if own_name(folder):  # no network
        return

    model = load_model(folder)
    network, genotype = model.network, model.genotype
    inputs, assets = len(genotype.features), len(genotype.assets)
    bars = int(network.receptive_field) + 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of shapes that it takes for constants: here they are
        writer.add_graph(network, torch.zeros(1, assets, inputs + 1, bars) if assets else torch.zeros(1, inputs, bars))


def log_mlflow(run: Run, uri: str) -> str:
    """Parameters, metrics per strategy and the run's files as one MLflow run of the experiment `nextopen`; returns its id.

    uri: a tracking server (http...), a local folder (`file:mlruns`) or, with all of MLflow installed, `sqlite:///mlflow.db`.
    """
    client = mlflow_client(uri)
    return _asked(uri, lambda: _log(run, client))


def mlflow_client(uri: str) -> Any:
    """InputError where MLflow is not installed or cannot use the URI; asks no server."""
    if uri.startswith("file:"):
        os.environ.setdefault(
            "MLFLOW_ALLOW_FILE_STORE", "true"
        )  # MLflow prefers a database, which its small package lacks
    # a server that is not there is said after seconds, not after seven tries of growing patience
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        from mlflow import MlflowClient  # optional
    except ImportError:
        raise InputError('MLflow is not installed: pip install "nextopen[mlflow]"') from None
    return _asked(uri, lambda: MlflowClient(tracking_uri=uri))


def _asked(uri: str, act: Callable[[], T]) -> T:
    from mlflow.exceptions import MlflowException  # optional

    try:
        return act()
    except MlflowException as error:
        raise InputError(
            f"MLflow at {uri} refused: {str(error).split('. ')[0].strip()}; give --uri file:mlruns"
        ) from None


def _log(run: Run, client: Any) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
    logged = client.create_run(experiment, run_name=run.run_id).info.run_id
    for name, setting in flat(run.info.get("config") or {}):
        client.log_param(logged, name, setting[:500])
    for strategy in run.strategies:
        figures = performance(run, strategy)
        for name in ("total_return", "sharpe", "sortino", "max_drawdown", "turnover", "fees", "funding"):
            value = float(getattr(figures, name))
            if math.isfinite(value):
                client.log_metric(logged, f"{METRIC_NAME.sub('-', strategy)}.{name}", value)
    for path in sorted(run.folder.iterdir()):
        if path.is_file() and path.suffix in {".json", ".parquet", ".html"}:
            client.log_artifact(logged, str(path))
    client.set_terminated(logged)
    return str(logged)
