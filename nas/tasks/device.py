"""Where networks are trained: `--device cpu|cuda|auto`."""

from __future__ import annotations

from data.panel import InputError

DEVICES = ("cpu", "cuda", "auto")


def resolve_device(name: str) -> str:
    """cpu or cuda. InputError for a device that is not there; torch is loaded only where it is asked for one."""
    if name not in DEVICES:
        raise InputError(f"no device {name!r}; there are {', '.join(DEVICES)}")
    if name == "cpu":
        return name
    import torch  # start-up time: settings are checked without it

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise InputError("--device cuda: torch finds no CUDA device on this machine; use --device cpu or auto")
    return "cpu"
