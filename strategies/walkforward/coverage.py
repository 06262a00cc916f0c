"""What the inputs of a run do not cover, said before anything runs and again on the page."""

from __future__ import annotations

import numpy as np

from data.coverage import Coverage, funding_coverage
from data.panel import Panel
from nas.features.bank import FeatureBank

SAID_BELOW = 0.99  # of an asset's bars after the warm-up


def charged_funding(panel: Panel, account: str, start: int, stop: int) -> Coverage:
    """Of the bars start..stop that are traded. `no` where the account pays none by its nature."""
    return funding_coverage(panel, start, stop) if account == "perpetual" else Coverage("no", ())


def unknown_inputs(panel: Panel, bank: FeatureBank) -> list[str]:
    """One line per asset and group of inputs that are unknown in some of its bars: there, networks that read them do not forecast."""
    listed = np.isfinite(panel.field("close"))
    first = np.concatenate([[0], np.cumsum([len(group) for group in bank.pipelines])])
    said = []
    for a, asset in enumerate(panel.assets):
        bars = np.flatnonzero(listed[:, a])[bank.warmup_bars :]
        if not len(bars):
            continue
        shares: dict[str, list[str]] = {}
        for k, name in enumerate(bank.inputs):
            values = bank.values[a, first[k] : first[k + 1]][:, bars]
            known = float(np.isfinite(values).all(axis=0).mean())
            if known < SAID_BELOW:
                words = "all" if known == 0.0 else f"{1.0 - known:.0%}"
                shares.setdefault(words, []).append(name)
        said += [
            f"{asset}: {', '.join(names)} unknown in {words} of its bars: networks that read {'it' if len(names) == 1 else 'them'} "
            f"do not forecast {asset} there"
            for words, names in shares.items()
        ]
    return said
