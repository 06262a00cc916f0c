"""All commands under one name, with completion for the shell: `nextopen --install-completion`.

Every one is also a module of its own (`python -m strategies.walkforward`); this file only gathers them.
"""

from __future__ import annotations

import importlib

from commands.paper import app as paper
from data.commandline import application, command, shown
from lab.__main__ import app as lab
from reports.__main__ import COMMANDS, EXAMPLES

#: name -> module whose `main` is the command
MODULES = {
    "walkforward": "strategies.walkforward.__main__",
    "search": "nas.search.__main__",
    "audit": "strategies.audit",
    "doctor": "strategies.doctor",
    "download": "data.download",
    "record": "data.record",
    "info": "data.info",
    "standin": "data.standin.__main__",
    "mcp": "commands.assistant",
}

app = application(
    add_completion=True,
    no_args_is_help=True,
    help="Search networks on rolling windows, trade them under costs, report honestly.",
    epilog=shown(
        "nextopen doctor",
        "nextopen walkforward --symbol BTCUSDT --preset quick",
        "nextopen report reports/latest",
    ),
)
for _name, _module in MODULES.items():
    _found = importlib.import_module(_module).app.registered_commands[0]
    app.command(_name, cls=_found.cls, epilog=_found.epilog)(_found.callback)
app.add_typer(paper, name="paper")
app.add_typer(lab, name="lab")
for _name, _does in COMMANDS.items():
    command(app, *EXAMPLES[_name], name="report" if _name == "build" else _name)(_does)


if __name__ == "__main__":
    app()
