"""A model folder is checked like input: of hundreds of tampered ones none loads, so none trades; each is refused in one line."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from data.panel import InputError
from nas.network.model_check import digests
from strategies.paper.decisions.strategy import load_strategy
from tests.strategies.paper.rig import market_panel, save_model

NAN, INF = float("nan"), float("inf")
WRONG = (None, "x", True, [], {}, NAN, INF, -INF, -1, 1e400)
Change = Callable[[dict[str, Any]], None]


def _set(*path: Any) -> Callable[[Any], Change]:
    def with_value(value: Any) -> Change:
        def change(raw: dict[str, Any]) -> None:
            at: Any = raw
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value

        return change

    return with_value


def _features() -> Iterator[tuple[str, Change]]:
    """What can be wrong in features.json; its digests are made anew afterwards, as somebody would who knows them."""
    cases: dict[tuple[Any, ...], tuple[Any, ...]] = {
        ("interval_ns",): (*WRONG, 0, 1, 3.6e12, "3600000000000", 10**19, -3_600_000_000_000),
        ("forecast_scale",): (*WRONG, "0.1", 1e9),
        ("mean",): (*WRONG, [0.0], [0.0, 0.0], [0.0] * 4, ["0", 0, 0], [NAN, 0, 0], [INF, 0, 0], [None, 0, 0], [[0], 0, 0], [1e300, 0, 0]),
        ("deviation",): (*WRONG, [1.0], [1.0] * 4, [0.0, 1, 1], [-1.0, 1, 1], [NAN, 1, 1], [1e300, 1, 1], [1e-300, 1, 1], [True, 1, 1]),
        ("pipelines",): (*WRONG, [["return", "zscore24"]], [["no", "such"]] * 3),
        ("format",): (*WRONG, 0, 2, "1", 1.5),
        ("symbols",): (*WRONG, "BTCUSDT", ["BTCUSDT", "BTCUSDT"], ["../../../../evil"], ["BTC/USDT:USDT"], ["btcusdt"], [1], [""], [None],
                       ["A" * 100], ["BTCUSDT\n"], [["BTCUSDT"]]),
        ("category",): (None, "x", True, [], {}, -1, "spot", "inverse"),
        ("rule",): (None, "x", True, [1], NAN, -1, {"unknown": 1}),
        ("portfolio",): (None, "x", True, -1, [1], {"weighting": "x"}, {"unknown": 1}, {"gross_limit": NAN}, {"gross_limit": -1},
                         {"rebalance_bars": 0}, {"rebalance_bars": 1.5}, {"estimation_bars": 1}, {"weighting": None}),
        ("decision_version",): (*WRONG, "0" * 12),
        ("unknown",): (1, None),
        ("mean_",): ([0, 0, 0],),
    }  # fmt: skip
    for name in ("threshold", "forecast_scale", "target_volatility", "no_trade_band", "cost_bps", "smoothing_bars", "cost_hurdle",
                 "horizon_bars", "max_leverage", "brake_bars", "cooldown_bars"):  # fmt: skip
        cases["rule", name] = WRONG
    cases["rule", "brake_bars"] += (0, 1.5)
    cases["rule", "max_leverage"] += (0, 1e9)
    cases["rule", "target_volatility"] += (1e9,)
    cases["rule", "exit_threshold"] = ("x", True, [], {}, NAN, INF, -1, 5.0)
    cases["rule", "drawdown_brake"] = ("x", True, [], {}, NAN, INF, -1, 0, 1, 2.0)
    cases["rule", "allow_short"] = (None, "x", 1, 0, [], {}, NAN)
    cases["rule", "asset_cost_bps"] = (None, "x", True, -1, {"BTCUSDT": NAN}, {"BTCUSDT": "x"}, {"BTCUSDT": -1})
    cases["rule", "unknown"] = (1,)
    for path, values in cases.items():
        for value in values:
            yield f"features {'.'.join(path)} = {str(value)[:30]}", _set(*path)(value)
    for name in (
        "interval_ns",
        "forecast_scale",
        "mean",
        "deviation",
        "pipelines",
        "format",
        "rule",
        "decision_version",
    ):
        yield f"features without {name}", lambda raw, name=name: raw.pop(name)


def _genotype() -> Iterator[tuple[str, Change]]:
    node = ("cells", 0, "nodes", 0, 0)
    cases: dict[tuple[Any, ...], tuple[Any, ...]] = {
        ("channels",): (*WRONG, 0, 2.5, 10**9, "8"),
        ("cells",): (*WRONG, [{}], [{"nodes": []}], [{"nodes": [[]] * 1000}]),
        ("horizons",): (*WRONG, [0], [-1], [1.5], [10**12], ["3"], [NAN], [True], [3] * 1000),
        ("features",): (*WRONG, {"return": "no such"}, {"no": "zscore24"}, {"return": "zscore24"}),
        ("assets",): ("x", True, -1, ["A", "A"], [1, 1], ["BTCUSDT", "ETHUSDT"]),
        (*node, "op"): (None, "x", True, [], {}, -1, "__import__", "zero\n"),
        (*node, "source"): (None, "x", True, [], {}, NAN, -1, 1, 5, 1.5, 10**9),
        (*node, "weight"): (None, "x", True, [], {}, NAN, INF),
    }  # fmt: skip
    for path, values in cases.items():
        for value in values:
            yield f"genotype {'.'.join(map(str, path))} = {str(value)[:30]}", _set(*path)(value)
    for name in ("channels", "cells", "horizons", "features"):
        yield f"genotype without {name}", lambda raw, name=name: raw.pop(name)
    yield "genotype of 100,000 cells", lambda raw: raw.update(cells=raw["cells"] * 100_000)
    yield "genotype of unequal cells", lambda raw: raw["cells"].append({"nodes": []})


def _weights() -> Iterator[tuple[str, Callable[[dict[str, Any]], None]]]:
    def every(change: Callable[[Any], Any]) -> Change:
        return lambda w: w.update({k: change(v) for k, v in w.items()})

    yield "weights all NaN", every(lambda v: np.full_like(v, NAN))
    yield "weights all infinite", every(lambda v: np.full_like(v, INF))
    yield "weights as whole numbers", every(lambda v: v.astype(np.int64))
    yield "weights in double precision", every(lambda v: v.astype(np.float64))
    yield "weights in half precision", every(lambda v: v.astype(np.float16))
    yield "weights absurd", every(lambda v: v * np.float32(1e12))
    yield "weights of other shapes", every(lambda v: v.reshape(-1))
    yield "one weight NaN", lambda w: w["head"].__setitem__((0, 0), NAN)
    yield "weights lacking", lambda w: w.pop("head")
    yield "weights too many", lambda w: w.update(more=np.zeros(1, np.float32))
    yield "no weights", lambda w: w.clear()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "0", market_panel(900))


def _written(folder: Path, sound: Path, file: str, change: Change) -> None:
    """The sound folder with one file changed, and with the digests of what it holds now."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    if file == "weights.safetensors":
        arrays = {k: v.copy() for k, v in safetensors.numpy.load_file(folder / file).items()}
        change(arrays)
        (folder / file).write_bytes(safetensors.numpy.save(arrays))
    else:
        raw = json.loads((folder / file).read_text())
        change(raw)
        (folder / file).write_text(json.dumps(raw))
    features = json.loads((folder / "features.json").read_text())
    features["digests"] = digests(folder, features)
    (folder / "features.json").write_text(json.dumps(features))


CASES = [*(("features.json", *case) for case in _features()), *(("genotype.json", *case) for case in _genotype()),
         *(("weights.safetensors", *case) for case in _weights())]  # fmt: skip


def test_no_tampered_model_loads(sound: Path, tmp_path: Path) -> None:
    load_strategy(sound, None, None)
    loaded, lines = [], []
    for file, name, change in CASES:
        folder = tmp_path / "tampered"
        _written(folder, sound, file, copy.deepcopy(change))
        try:
            load_strategy(folder, None, None)
            loaded.append(name)
        except InputError as error:
            lines.append(str(error))
    assert not loaded
    assert len(lines) == len(CASES) >= 322
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("file", ["features.json", "genotype.json", "weights.safetensors"])
def test_no_flipped_byte_is_overlooked(sound: Path, tmp_path: Path, file: str) -> None:
    dice = random.Random(file)
    shutil.copytree(sound, tmp_path / "flipped")
    place = tmp_path / "flipped" / file
    content = place.read_bytes()
    for _ in range(60):
        at = dice.randrange(len(content))
        flipped = bytes([content[at] ^ (1 << dice.randrange(8))])
        place.write_bytes(content[:at] + flipped + content[at + 1 :])
        if file == "features.json" and json.loads(content) == _json_or_none(place.read_text(errors="replace")):
            continue  # white space: the same model
        with pytest.raises(InputError):
            load_strategy(tmp_path / "flipped", None, None)


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_a_model_of_an_older_version_has_no_digests_and_loads(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "old")
    features = json.loads((sound / "features.json").read_text())
    del features["digests"]
    (tmp_path / "old" / "features.json").write_text(json.dumps(features))
    load_strategy(tmp_path / "old", None, None)
