"""Settings that are declared once: name, type, default, help, group and bounds of each stand in one line of a `Settings` class.

Flags of commands (`flags_of`), files for `--config`, what `--print-config` prints, the tables of docs/commands.md and every check are
made from it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from data.errors import InputError

Act = TypeVar("Act", bound=Callable[..., Any])

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0)]
#: `180d`, `36h`, `2w` or a number of bars
Duration = Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)]


@dataclass(frozen=True)
class Shown:
    """How a setting is shown. group: heading in `--help` and docs. flag: False for what only a file may say.

    names: the flag's names where they are not the setting's. repeat: the flag is given once per value. envvar: read where the flag is not
    given. choices: what the value may be.
    """

    group: str | None = None
    flag: bool = True
    names: tuple[str, ...] = ()
    repeat: bool = False
    envvar: str | None = None
    choices: tuple[str, ...] = ()


def setting(
    default: Any,
    help: str,
    group: str | None = None,
    *,
    flag: bool = True,
    names: tuple[str, ...] = (),
    repeat: bool = False,
    envvar: str | None = None,
    choices: tuple[str, ...] = (),
    **bounds: Any,
) -> Any:
    """One setting of a `Settings` class; its name and type stand left of it. bounds: ge, le, min_length ... as of pydantic.

    Examples
    --------
    >>> class Oven(Settings):
    ...     heat_c: int = setting(180, "Temperature.", ge=50, le=250)
    >>> Oven.read({"heat_c": 300})
    Traceback (most recent call last):
    data.errors.InputError: --heat-c must be at most 250, not 300 (Temperature)
    """
    shown = Shown(group, flag, names, repeat, envvar, choices)
    return Field(default, description=help, json_schema_extra={"shown": shown}, **bounds)  # type: ignore[dict-item]


def same_as(model: type[Settings], name: str, group: str | None = None, *, flag: bool = True) -> Any:
    """A setting that means the same in another command: its default, help and names from there."""
    field = model.model_fields[name]
    return setting(field.default, str(field.description), group, flag=flag)


class Settings(BaseModel):
    """Checked, unchangeable settings. Lists may be given as one text with commas."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, defer_build=True)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """InputError, one line, for a value that does not fit. What is None was not given."""
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise InputError(first_problem(cls, error)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _lists(cls, value: Any, info: Any) -> Any:
        if get_origin(cls.model_fields[info.field_name].annotation) is not tuple:
            return value
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (
            tuple(str(part) if isinstance(part, Path) else part for part in value) if isinstance(value, list) else value
        )

    @model_validator(mode="after")
    def _choices(self) -> Self:
        for name, field, shown in declared(type(self)):
            value = getattr(self, name) if shown.choices else None
            if shown.choices and value != field.default and value not in shown.choices:
                raise ValueError(f"--{name.replace('_', '-')} must be one of {', '.join(shown.choices)}, not {value!r}")
        return self


def declared(model: type[Settings]) -> Iterator[tuple[str, FieldInfo, Shown]]:
    """Every setting of a class by its name outside, in order."""
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        yield field.alias or name, field, extra["shown"] if isinstance(extra, dict) else Shown()  # type: ignore[misc]


_SAID = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "literal_error": "must be {expected}",
    "tuple_type": "must be a list",
}


def first_problem(model: type[Settings], error: ValidationError) -> str:
    """One line for a person: what was given, what was expected, what the setting means."""
    first = error.errors()[0]
    where = first["loc"]
    message = first["msg"].removeprefix("Value error, ")
    if not where or message.startswith("--"):  # says what it is about
        return message
    said = _SAID.get(first["type"])
    if said is None or any(isinstance(part, str) for part in where[1:]):
        return f"setting {'.'.join(map(str, where))}: {message}, given {first['input']!r}"
    named = {
        name: (f"--{name.replace('_', '-')}" if shown.flag else f"setting {name}", field.description)
        for name, field, shown in declared(model)
    }
    called, meaning = named[str(where[0])]
    return f"{called} {said.format(**first.get('ctx', {}))}, not {first['input']!r} ({str(meaning).removesuffix('.')})"


def flags_of(
    *models: type[Settings], groups: Sequence[str] = (), layered: Mapping[str, Any] | None = None
) -> Callable[[Act], Act]:
    """A command takes a flag for every setting of `models` in its `**given`, group by group.

    layered: None where flags have the settings' own defaults. Else a flag that was not given is None, because a preset or a file may
    say it: these are the values that hold where nobody says anything, told in the help.
    """

    def register(act: Act) -> Act:
        signature = inspect.signature(act, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        found = [one for model in models for one in declared(model) if one[2].flag]
        found.sort(key=lambda one: groups.index(one[2].group) if one[2].group in groups else -1)
        act.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *(_flag(name, field, shown, layered) for name, field, shown in found)]
        )
        return act

    return register


def _flag(name: str, field: FieldInfo, shown: Shown, layered: Mapping[str, Any] | None) -> inspect.Parameter:
    kind, default = kind_of(field, shown), field.default
    how: dict[str, Any] = {"help": field.description, "rich_help_panel": shown.group, "envvar": shown.envvar}
    names = shown.names
    if kind is bool and not names:
        word = name.replace("_", "-")
        names = (f"--{word}/--no-{word}",) if default else (f"--{word}",)
    if layered is not None:
        told = in_words(layered.get(name, default))
        if told and "(default" not in str(field.description):
            how["help"] = f"{str(field.description).removesuffix('.')} (default: {told})."
        default = None
    elif kind in (int, float):
        how |= {"min": _bound(field, "ge"), "max": _bound(field, "le")}
    if not isinstance(default, (bool, int, float, Path)):
        default = in_words(default) or None
    typed: Any = kind if default is not None else kind | None
    annotation: Any = Annotated[typed, typer.Option(*names, **how)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def kind_of(field: FieldInfo, shown: Shown) -> Any:
    """How a setting is written on a command line: bool, int, float, Path, several of them, or text."""
    if shown.repeat:
        return list[Path]
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [part for part in get_args(kind) if part is not type(None)]
        kind = kinds[0] if len(kinds) == 1 else str
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    return kind if kind in (bool, int, float, Path) else str


def in_words(value: Any) -> str:
    """A default as one would type it; empty where there is nothing to type."""
    if isinstance(value, bool) or value is None or value in ((), {}, ""):
        return ""
    return ",".join(map(in_words, value)) if isinstance(value, (list, tuple)) else f"{value}"


def _bound(field: FieldInfo, name: str) -> Any:
    """The least (`ge`) or greatest (`le`) value that a setting may have; None where there is none."""
    parts = [*field.metadata, *(m for part in get_args(field.annotation) for m in getattr(part, "__metadata__", ()))]
    inner = [one for part in parts for one in (part.metadata if isinstance(part, FieldInfo) else [part])]
    return next((getattr(one, name) for one in inner if getattr(one, name, None) is not None), None)
