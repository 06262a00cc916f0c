"""All commands under one name, with completion for the shell: `regime-nas --install-completion`.

Every one is also a module of its own (`python -m strategies.walkforward`); this file only gathers them.
"""

from __future__ import annotations

import importlib

import typer

from reports.__main__ import COMMANDS, guarded
from strategies.paper import app as paper

#: name -> module whose `main` is the command
MODULES = {
    "walkforward": "strategies.walkforward",
    "search": "nas.command",
    "audit": "strategies.audit",
    "doctor": "strategies.doctor",
    "download": "data.download",
    "record": "data.record",
    "info": "data.info",
}

app = typer.Typer(
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Search networks on rolling windows, trade them under costs, report honestly.",
    epilog="Examples:  regime-nas doctor  |  regime-nas walkforward --symbol BTCUSDT --preset quick  |  regime-nas report reports/latest",
)
for _name, _module in MODULES.items():
    _found = importlib.import_module(_module)
    app.command(_name, epilog=_found.app.registered_commands[0].epilog)(_found.main)
app.add_typer(paper, name="paper")
app.command("report")(guarded(COMMANDS["build"]))
for _name in ("compare", "tensorboard", "mlflow"):
    app.command(_name)(guarded(COMMANDS[_name]))


if __name__ == "__main__":
    app()
