"""TensorBoard while the searches run: rows that workers leave (`nas.search.watch`) become events within seconds."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nas.search.watch import Reader
from reports.export import summary_writer, write_epoch

LOOK_S = 2.0  # between two looks at the workers' files


@contextlib.contextmanager
def live_tensorboard(watch: Path, folder: Path, look_s: float = LOOK_S) -> Iterator[None]:
    """Inside, every search of the folder `watch` is a TensorBoard run `searching-<name>` in `folder`: losses, health, alphas."""
    writer_of = summary_writer()
    shutil.rmtree(watch, ignore_errors=True)  # of a run that was killed
    shutil.rmtree(folder, ignore_errors=True)
    reader, writers, ended = Reader(watch), dict[str, Any](), threading.Event()

    def look() -> None:
        for name, head, row in reader.news():
            if name not in writers:
                writers[name] = writer_of(str(folder / f"searching-{name}"), flush_secs=1)
            write_epoch(writers[name], head, row, int(row["epoch"]))
        for writer in writers.values():
            writer.flush()

    def follow() -> None:
        while not ended.wait(look_s):
            look()

    thread = threading.Thread(target=follow, name="tensorboard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
        for writer in writers.values():
            writer.close()
