"""How worker processes begin: copies of one process that has loaded what tasks need, where the system can copy processes.

That process begins while this one still reads its market (`prepare`); nothing else ever runs in it, so a copy of it is safe where
one of this process, with its threads, would not be.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from multiprocessing.context import BaseContext

LOADED = "nas.tasks.loaded"


def context() -> BaseContext:
    """For pools: copies of the prepared process, or (Windows) processes that load everything anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    prepare()
    return multiprocessing.get_context("forkserver")


def prepare(*modules: str) -> None:
    """Begin to load what workers need, and these modules, in the process that they are copies of. Returns at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    from multiprocessing import forkserver  # Windows has none

    forkserver.set_forkserver_preload([LOADED, *modules])
    if threading.current_thread() is not threading.main_thread():  # only the main thread may say what Ctrl-C does
        forkserver.ensure_running()
        return
    before = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is this process's to handle; the new one takes this over
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
