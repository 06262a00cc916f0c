"""A line in a `Settings` class is a flag with its help and default, a name in files, a printed setting, and a check."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from data.commandline import application, command
from data.errors import InputError
from data.settings import Count, Settings, flags_of, same_as, setting


class Oven(Settings):
    heat_c: Count = setting(180, "Temperature in degrees.", "Baking", le=250)
    shelves: tuple[Count, ...] = setting((2,), "Shelves in use.", "Baking")
    mode: Literal["fan", "grill"] = setting("fan", "fan or grill.", "Baking")
    light: bool = setting(True, "Light inside.")
    trays: tuple[str, ...] = setting((), "Photographs of the trays.", repeat=True)
    seal_mm: float = setting(2.5, "Decided once.", "Baking", flag=False, gt=0)


class Stove(Settings):
    heat_c: Count = same_as(Oven, "heat_c", "Cooking")


def oven(layered: dict[str, Any] | None = None) -> typer.Typer:
    app = application()

    @command(app)
    @flags_of(Oven, groups=("Baking",), layered=layered)
    def bake(**given: Any) -> None:
        """Bake."""
        typer.echo(Oven.read(given).model_dump_json())

    return app


def told(app: typer.Typer, *words: str) -> str:
    done = CliRunner().invoke(app, list(words), terminal_width=120)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_flags_have_the_settings_own_defaults_and_types() -> None:
    asked = told(oven(), "--heat-c", "200", "--shelves", "1,3", "--no-light", "--trays", "a.png", "--trays", "b.png")
    want = Oven(heat_c=200, shelves=(1, 3), light=False, trays=("a.png", "b.png"))
    assert asked.strip() == want.model_dump_json()
    assert told(oven()).strip() == Oven().model_dump_json()


def test_help_tells_default_and_group_and_hides_what_only_a_file_may_say() -> None:
    text = told(oven(), "--help")
    assert "Baking" in text
    assert "[default: 180]" in text
    assert "seal" not in text
    assert "Temperature in degrees (default: 160)." in told(oven({"heat_c": 160}), "--help")  # a preset's


def test_a_file_and_the_printed_settings_hold_the_same_names(tmp_path: Path) -> None:
    file = tmp_path / "oven.toml"
    file.write_text(told(oven(), "--heat-c", "210", "--print-config"))
    assert "heat_c = 210" in file.read_text().splitlines()
    assert '"heat_c":210' in told(oven(), "--config", str(file))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heat_c": 0}, "--heat-c must be at least 1, not 0 (Temperature in degrees)"),
        ({"heat_c": 900}, "--heat-c must be at most 250, not 900 (Temperature in degrees)"),
        ({"shelves": "one"}, "--shelves must be a whole number, not 'one' (Shelves in use)"),
        ({"mode": "steam"}, "--mode must be 'fan' or 'grill', not 'steam' (fan or grill)"),
        ({"seal_mm": 0.0}, "setting seal_mm must be above 0.0, not 0.0 (Decided once)"),
        ({"heat": 3}, "setting heat"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected_and_what_it_means(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        Oven.read(given)
    assert said in str(refused.value)


def test_what_means_the_same_elsewhere_has_its_default_and_help_from_there() -> None:
    field = Stove.model_fields["heat_c"]
    assert (field.default, field.description) == (180, "Temperature in degrees.")
