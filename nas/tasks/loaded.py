"""Imported by the process of which workers are copies (`nas.tasks.processes`): what every task needs, loaded once."""

import gc

gc.disable()  # nothing is freed while modules load, and looking costs a fifth of the time

from numba.core.registry import cpu_target  # noqa: E402

import nas.tasks.work  # noqa: E402, F401

cpu_target.typing_context.refresh()  # what the first call of a compiled function does, for half a second
cpu_target.target_context.refresh()
gc.freeze()
gc.enable()
