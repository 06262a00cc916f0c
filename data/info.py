"""python -m data.info: what the store holds."""

from __future__ import annotations

import json
import sys

import typer

from data.commandline import Json, application, command
from data.errors import InputError
from data.progress import console_of

app = application()


@command(app, "python -m data.info", "python -m data.info --json")
def main(json_: Json = False) -> None:
    """Per series: rows, first and last time (UTC), missing rows in gaps, size on disk. Every file's checksum is checked."""
    # start-up time: `--help` needs no numpy
    import numpy as np
    from rich.table import Table

    from data.store import Damaged, Store

    store = Store()
    if store.root.exists() and not store.root.is_dir():
        raise InputError(f"{store.root} is no folder; REGIME_CACHE must name the store's folder")
    table = Table("category", "symbol", "kind", "interval", "rows", "first", "last", "gaps", "KiB", box=None)
    listed = []
    for key in store:
        name = (key.category, key.symbol, key.kind, key.interval)
        try:
            held = store.series(key).held()
        except Damaged as damaged:
            table.add_row(*name, f"damaged: {damaged.path.name}; the next download fetches it again")
            listed.append({**key.__dict__, "damaged": str(damaged.path)})
            continue
        if held is None:
            continue
        first, last = (str(np.datetime64(t, "ms").astype("datetime64[m]")) for t in (held.first_ms, held.last_ms))
        gaps = f"{held.missing} missing in {len(held.gaps)}" if held.gaps else "none"
        table.add_row(*name, f"{held.rows:,}", first, last, gaps, f"{held.size / 1024:,.0f}")
        listed.append({
            **key.__dict__, "rows": held.rows, "first": first, "last": last, "missing": held.missing,
            "gaps": [[str(np.datetime64(t, "ms")) for t in gap] for gap in held.gaps], "bytes": held.size,
        })  # fmt: skip
    if json_:
        sys.stdout.write(json.dumps(listed, indent=1) + "\n")
    elif listed:
        console_of().print(table)
    else:
        typer.echo(f"the store {store.root} is empty; python -m data.download --symbol BTCUSDT fills it")


if __name__ == "__main__":
    sys.exit(app())
