"""One shown command in this process."""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path

from docs.executed.pages import Command


def main_of(command: Command) -> tuple[str, list[str]]:
    """Module and arguments of a command of ours."""
    if command[0] in ("nextopen", "regime-nas"):
        return "commands", list(command[1:])
    return command[2], list(command[3:])


def run(command: Command) -> int:
    """One command in this process: importing torch anew would cost more than what it does. Returns its exit code."""
    with contextlib.ExitStack() as stack:
        if ">" in command:
            at = command.index(">")
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(command[at + 1]).open("w"))))
            command = command[:at]
        module, arguments = main_of(command)
        if "PAPER_ID" in arguments:
            arguments[arguments.index("PAPER_ID")] = next(Path("reports/paper").glob("*/journal.sqlite")).parent.name
        before, sys.argv = sys.argv, [module, *arguments]
        stack.callback(setattr, sys, "argv", before)
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
