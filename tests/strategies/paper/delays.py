"""python -m tests.strategies.paper.delays: how long until a person hears of an event, and until a change by hand is noticed.

Alerts of every kind go to a loopback server in every form; a position, an order and a stop are changed by hand while no stream is open,
so that only the timer between bars (`Timing.look_s`, as on testnet) can see it. Prints a table.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from strategies.paper.alerts import KINDS, Alerts
from strategies.paper.timing import Timing
from strategies.paper.trader import RUNNING
from tests.strategies.paper.rig import SYMBOL, Hook, Rig


def alert_delays() -> dict[str, list[float]]:
    """Seconds from the event to the body at the service, by form; one of each kind."""
    hook = Hook()
    forms = {
        "discord": f"discord+{hook.url}/d", "slack": f"slack+{hook.url}/s", "telegram": f"telegram+{hook.url}/bot1/sendMessage?chat_id=5",
        "ntfy": f"ntfy+{hook.url}/topic", "json": f"{hook.url}/json",
    }  # fmt: skip
    found: dict[str, list[float]] = {}
    for form, url in forms.items():
        alerts = Alerts("acct", url)
        found[form] = []
        for kind in KINDS:
            before, began = len(hook.told), time.monotonic()
            alerts.tell(kind, f"about {kind}")
            while len(hook.told) == before:
                if time.monotonic() - began > 60:
                    raise TimeoutError(f"{kind} never reached {form}")
                time.sleep(0.001)
            found[form].append(time.monotonic() - began)
        alerts.close()
    hook.shutdown()
    hook.server_close()
    return found


def notice_delay(what: str, folder: Path) -> float:
    """Seconds from a change by hand (position, order, stop) to the trader's answer to it."""
    r = Rig(folder, stop_loss=3.0)
    try:
        r.act()
        r.bar()
        h = r.exchange.account.holding(SYMBOL, 0)
        r.trader.timing = replace(r.trader.timing, look_s=Timing().look_s)
        r.trader.step()
        with r.world.lock:
            if what == "position":
                r.exchange.by_hand(SYMBOL, "Buy", "0.1")
            elif what == "order":
                r.exchange.accept({
                    "category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "price": "9000", "qty": "0.001",
                })  # fmt: skip
            else:
                r.exchange.set_stop(SYMBOL, 0, Decimal(0))
        began = time.monotonic()
        while not h.stop if what == "stop" else r.trader.status == RUNNING:
            if time.monotonic() - began > 120:
                raise TimeoutError(f"a changed {what} was never noticed")
            r.trader.listen(0.2)
            r.trader.step()
        return time.monotonic() - began
    finally:
        r.close()


def main() -> None:
    rows = [(f"{len(d)} alerts as {form}", f"{max(d):.2f}") for form, d in alert_delays().items()]
    with tempfile.TemporaryDirectory() as folder:
        for what in ("position", "order", "stop"):
            rows.append((f"{what} changed by hand", f"{notice_delay(what, Path(folder) / what):.1f}"))
    print("| event | longest s |\n|---|---|")
    print("\n".join(f"| {name} | {seconds} |" for name, seconds in rows))


if __name__ == "__main__":
    main()
