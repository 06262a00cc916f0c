"""Writes docs/features.md from the registries: `python -m nas.features.feature_docs`. So the page cannot say what the code does not do."""

from __future__ import annotations

from pathlib import Path

from data.atomic import write_text
from nas.features.inputs import FIRST_STEPS, INPUTS, SECOND_STEPS
from nas.features.transforms import TRANSFORMS, parse_pipeline

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"

_HEAD = """# Features

Written by `python -m nas.features.feature_docs` from the registries in `nas/features/transforms.py` and `nas/features/inputs.py`.

For every **raw input** (a series per asset) the search weighs candidate **pipelines** against each other and against `none`,
which drops the input; the discrete network computes only what was kept. A pipeline is written as its steps, `log>zscore24`:
first the logarithm, then the z-score over 24 bars.

## Choosing the candidates

A config file (`--config FILE.toml`) says which candidates a search sees; the report and the console name every input that was
left out because the data lack its fields, know them in less than half of the bars, or hold too few assets.

```toml
features = "full"   # every input with every two-step pipeline; "default": the candidates in the second table below
```

```toml
[features]          # or exactly these
return = ["raw", "sum24>ewm32"]
volume = ["log>zscore24", "rank168"]
```

Hand-designed networks read the first candidate of every input.

## Rules

- Value t of a feature depends on bars up to t only, and is the same bits wherever the data end and however many threads run.
- Everything is computed in double precision and stored in single precision.
- **Missing values**: NaN and infinities count as missing. A window with a missing value gives a missing feature, in every transform
  below (the kernels themselves take `min_periods` and leave missing values out). Exponential transforms carry on over a gap:
  the weights age, the last mean stands; the z-score is missing where the newest value is. A bar on which any feature is missing
  carries no loss and gets no forecast.
- A constant window has z-score, rank, place and skewness 0, never a division by zero.
- The logarithm of zero or less is missing; inputs marked *positive* have a floor, so that they always have one.
- **Memory** is the number of earlier bars that a value depends on; exponential weights count until they fall below 1e-9.

## Transforms

N is the number behind the name; without one the default is used.

"""

_INPUTS = """
## Raw inputs

Inputs without candidates take part in the full bank only. Data with another timeframe's candles (fields like `close@240`) also have
`body@240`, `range@240` and `gap@240` (log close over that candle's close), from its last complete candle.

"""

_FULL = """
## The full bank

Every input with each of {first} followed by each of {second}; the logarithm only where the input is positive, and no
pipeline that would hand on the level of a wandering series (marked *level*).
"""


def page() -> str:
    """The whole page as Markdown."""
    lines = ["| step | what | default | memory, bars |", "|---|---|---|---|"]
    for step in TRANSFORMS.values():
        default = "" if step.parameter is None else str(step.parameter)
        lines.append(f"| `{step.name}` | {step.about} | {default} | {step.memory(step.parameter or 0)} |")
    inputs = ["| input | what | fields | default candidates | longest memory |", "|---|---|---|---|---|"]
    for raw in INPUTS.values():
        marks = [word for word, on in (("positive", raw.positive), ("level", raw.level)) if on]
        if raw.assets > 1:
            marks.append(f"{raw.assets} assets or more")
        what = raw.about + (f" ({', '.join(marks)})" if marks else "")
        memory = max(raw.memory + sum(s.memory(n) for s, n in parse_pipeline(p)) for p in raw.candidates or ("raw",))
        fields = ", ".join(f"`{name}`" for name in raw.needs)
        candidates = ", ".join(f"`{p}`" for p in raw.candidates)
        inputs.append(f"| `{raw.name}` | {what} | {fields} | {candidates} | {memory} |")

    def steps(names: tuple[str, ...]) -> str:
        return ", ".join(f"`{name}`" if name else "nothing" for name in names)

    full = _FULL.format(first=steps(FIRST_STEPS), second=steps(SECOND_STEPS))
    return _HEAD + "\n".join(lines) + "\n" + _INPUTS + "\n".join(inputs) + "\n" + full


if __name__ == "__main__":
    write_text(PAGE, page())
