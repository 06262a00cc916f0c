"""What every command of this project shares: settings from a file, wrong input told in one line with exit code 2, examples in its help.

A module with a command begins with `app = application()` and puts `@command(app, "python -m ...")` above its `main`.
"""

from __future__ import annotations

import atexit
import difflib
import errno
import functools
import gc
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from data.errors import InputError
from data.settings_file import check_names, read_settings, to_toml
from data.symbols import parse_symbols

QUIET_HELP = "No progress, only the result."
JSON_HELP = "One JSON document on standard output; all else goes to standard error."
Quiet = Annotated[bool, typer.Option("--quiet", help=QUIET_HELP)]
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]

Symbols = Annotated[str, typer.Option(help="One symbol or several: BTCUSDT,ETHUSDT.")]
Category = Annotated[str, typer.Option(help="linear, inverse or spot.")]

# a process that ends need not look through what it loaded for what could be freed: half a second of the processor after torch
atexit.register(gc.freeze)

#: what a person can mend on the machine, and how
MENDABLE = {
    errno.ENOSPC: "make room, or choose a folder on another disk",
    errno.EDQUOT: "make room, or choose a folder on another disk",
    errno.EFBIG: "the system limits the size of files (ulimit -f)",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a file or folder that you may use",
    errno.EPERM: "choose a file or folder that you may use",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EISDIR: "that is a folder; give a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EADDRINUSE: "another program has that port; choose another one",
    errno.EMFILE: "the system limits open files (ulimit -n)",
}


def application(**how: Any) -> typer.Typer:
    """An application whose errors are one line; how: as of `typer.Typer`."""
    return typer.Typer(
        **{"cls": Group, "add_completion": False, "pretty_exceptions_enable": False, **how}  # a traceback is plain text
    )


def command(
    app: typer.Typer, *examples: str, name: str | None = None, interrupted: str = "interrupted"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as a command of `app` with `--config` and `--print-config` (where it has none of its own).

    interrupted: what is said after Ctrl-C, with exit code 130.
    """

    def register(act: Callable[..., Any]) -> Callable[..., Any]:
        return app.command(name, cls=Command, epilog=shown(*examples))(with_settings(act, interrupted))

    return register


def symbols_of(text: str) -> list[str]:
    """Of `--symbol`, comma separated. InputError where there is none, or one is no symbol."""
    return list(parse_symbols(name for name in text.split(",") if name.strip()))


def shown(*examples: str) -> str | None:
    """Examples as the end of a help page: a line each."""
    return "\n\n".join((f"Example{'s' if len(examples) > 1 else ''}:", *examples)) if examples else None


def with_settings(act: Callable[..., Any], interrupted: str) -> Callable[..., Any]:
    """The function with `--config FILE` (its flags by name) and `--print-config`, unless it has a `config` already."""
    signature = inspect.signature(act, eval_str=True)
    own = "config" in signature.parameters
    contexts = [name for name, p in signature.parameters.items() if p.annotation is typer.Context]

    @functools.wraps(act)
    def run(**given: Any) -> Any:
        if not own:
            del given["config"]
            if given.pop("print_config"):
                sys.stdout.write(to_toml({_plain(n): v for n, v in given.items() if n not in contexts}))
                raise typer.Exit
        try:
            return act(**given)
        except KeyboardInterrupt:
            typer.echo(f"\n{interrupted}", err=True)
            raise typer.Exit(130) from None

    if own:
        return run
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, default, annotation in (("config", None, _ConfigFile), ("print_config", False, _PrintConfig))
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *extra])  # type: ignore[attr-defined]
    return run


def _plain(name: str) -> str:
    """Parameters that would hide a module or a builtin end in an underscore."""
    return name.rstrip("_")


def _from_file(context: typer.Context, file: Path | None) -> Path | None:
    """Flags that were not given come from the file: it becomes the command's defaults before they are read."""
    if file is not None and not context.resilient_parsing:
        names = {_plain(str(p.name)): str(p.name) for p in context.command.params}
        known = {plain: name for plain, name in names.items() if plain not in ("config", "print_config", "help")}
        given = read_settings(file)
        check_names(given, known)
        context.default_map = {known[name]: value for name, value in given.items()}
    return file


_ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", callback=_from_file, is_eager=True, help="TOML file with any of these flags."),
]
_PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print every flag as a file for --config, and stop.")
]


class Command(TyperCommand):
    def main(self, *arguments: Any, standalone_mode: bool = True, **how: Any) -> Any:
        return _in_one_line(functools.partial(super().main, *arguments), standalone_mode, how)


class Group(TyperGroup):
    def main(self, *arguments: Any, standalone_mode: bool = True, **how: Any) -> Any:
        return _in_one_line(functools.partial(super().main, *arguments), standalone_mode, how)


def _in_one_line(main: Callable[..., Any], standalone_mode: bool, how: dict[str, Any]) -> Any:
    """Runs a command and ends the process with its exit code; what the user can mend is one line and exit code 2."""
    if not standalone_mode:
        return main(standalone_mode=False, **how)
    try:
        code = main(standalone_mode=False, **how)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)
            sys.exit(2)
        _end(_usage(error))
    except InputError as error:
        _end(str(error))
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        _end(f"{where}{error.strerror}; {MENDABLE[error.errno]}")
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _end(message: str) -> None:
    line = " ".join(message.split())
    # what a file holds must not reach the terminal as commands to it
    typer.echo("error: " + "".join(c if c.isprintable() else "?" for c in line), err=True)
    sys.exit(2)


def _usage(error: TyperException) -> str:
    """A wrong flag, value or command, with where to look."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "the command"
    wrong = getattr(error, "option_name", None)
    if wrong is not None and hasattr(error, "possibilities"):
        known = [o for p in context.command.params for o in (*p.opts, *p.secondary_opts)] if context is not None else []
        near = difflib.get_close_matches(wrong, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"{path} --help lists them"
        return f"there is no {wrong}; {hint}"
    message = error.format_message().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"
