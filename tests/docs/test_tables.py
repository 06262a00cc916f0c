"""Tables of the pages say what the code has: variants, weightings, kinds of history, files and columns of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from commands.__main__ import MODULES
from data.series import BOOK_COLUMNS, DOWNLOADS
from data.settings import declared
from docs.hooks import settings_tables
from nas.network.losses import LOSSES
from nas.search.request import SearchRequest
from nas.space.ops import ACROSS_OPS
from strategies.backtest.portfolio import WEIGHTINGS
from strategies.paper.settings import PaperSettings
from strategies.walkforward.config import RunConfig
from strategies.walkforward.options import Options

DOCS = Path(__file__).resolve().parents[2] / "docs"


def first_column(page: str, head: str) -> list[str]:
    """Names in backticks in the first column of the table below the heading row that begins with `head`."""
    rows = (DOCS / page).read_text().partition(f"\n| {head} |")[2].splitlines()[2:]
    cells = [row.split("|")[1] for row in rows[: next((k for k, row in enumerate(rows) if not row), len(rows))]]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(
    ("page", "head", "names"),
    [
        ("many-assets.md", "`--weighting`", WEIGHTINGS),
        ("many-assets.md", "op", ACROSS_OPS),
        ("data.md", "`--what`", DOWNLOADS),
    ],
)
def test_table_lists_what_there_is(page: str, head: str, names: object) -> None:
    assert sorted(first_column(page, head)) == sorted(names)  # type: ignore[call-overload]


def test_columns_of_an_order_book_are_told() -> None:
    text = (DOCS / "data.md").read_text()
    assert all(f"`{name}`" in text for name in BOOK_COLUMNS if not name.startswith("ofi"))
    assert max(int(name[4:]) for name in BOOK_COLUMNS if name.startswith("ofi")) == int(re.findall(r"`ofi_(\d)` \|", text)[0])  # fmt: skip


def test_every_command_and_loss_is_on_a_page() -> None:
    commands = (DOCS / "commands.md").read_text()
    names = [m.removesuffix(".__main__") for m in MODULES.values()]
    assert [name for name in names if name not in commands] == []
    everything = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    assert [name for name in LOSSES if f"`{name}`" not in everything] == []


def test_files_and_columns_of_a_run_are_those_of_the_architecture_page(stranger_template: Path) -> None:
    run = stranger_template / "reports/latest"
    text = (DOCS / "architecture.md").read_text().partition("| file | columns |")[2]
    told = {row.split("|")[1].strip(" `"): row.split("|", 2)[2] for row in text.splitlines()[2:] if row.startswith("|")}
    made = {path.name for path in run.iterdir() if path.suffix in (".parquet", ".json")}
    assert made == set(told) - {
        "contributions.parquet",
        "risk.parquet",
        "risk.json",
        "unsealed.json",
        "cpcv.json",
        "judged.json",
    }  # of several assets, of risk targets only, of a holdout that was opened, of --policy cpcv, of --forecasts
    for name in made:
        said = told[name]
        columns = list(pd.read_parquet(run / name).columns) if name.endswith("parquet") else []
        if "one column per" not in said:
            assert [c for c in columns if c not in said] == [], name
    said = re.sub(r"train/validation/test", "train, validation, test", told["windows.json"])
    window = json.loads((run / "windows.json").read_text())[0]
    assert [key for key in window if key not in said] == []
    assert [key for key in json.loads((run / "run.json").read_text()) if key not in told["run.json"]] == []
    history = (DOCS / "variants.md").read_text().partition("## History")[2]
    assert [key for key in window["history"][0] if f"`{key}" not in history] == []


def test_every_setting_has_its_row() -> None:
    text = settings_tables()
    names = [name for model in (RunConfig, Options, SearchRequest, PaperSettings) for name, *_ in declared(model)]
    assert [name for name in names if f"| `{name}` | " not in text] == []
    assert "| `thresholds` | file | 0.5,1.0,2.0 | Plans: \\|forecast\\| that enters" in text
    assert "<!-- settings -->" in (DOCS / "commands.md").read_text()
    assert "<!-- variants -->" in (DOCS / "variants.md").read_text()
