"""Rolling windows: train, validation and test stretches in time order, purged from each other."""

from __future__ import annotations

from dataclasses import dataclass

from data.panel import InputError

#: bars beside warm-up, purge and embargo, below which no window is worth a try
FEWEST_FREE = 100
#: bars of validation below which a rehearsal chooses nothing
FEWEST_REHEARSED = 40


@dataclass(frozen=True)
class Window:
    """One walk-forward step; bounds are bar indices, half-open.

    The purge lies between train and validation, the embargo (at least the purge) between validation and test.
    """

    number: int
    train: slice
    validation: slice
    test: slice
    purge_bars: int
    embargo_bars: int | None = None

    def parts(self) -> dict[str, slice]:
        """Its stretches in the order of time."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def __post_init__(self) -> None:
        embargo = self.purge_bars if self.embargo_bars is None else self.embargo_bars
        for earlier, later, names, kind, least in (
            (self.train, self.validation, "train and validation", "purge", self.purge_bars),
            (self.validation, self.test, "validation and test", "embargo", embargo),
        ):
            if later.start - earlier.stop < least:
                raise ValueError(
                    f"{names} are {later.start - earlier.stop} bars apart: less than the {kind} of {least}"
                )

    @property
    def fit(self) -> slice:
        """Bars a network is trained from scratch on: train and the first half of validation, purged before `stop`."""
        return slice(self.train.start, self.stop.start - self.purge_bars)

    @property
    def stop(self) -> slice:
        """Bars early stopping and every choice (variant, seed, threshold) look at: the last half of validation."""
        return slice(self.validation.stop - (self.validation.stop - self.validation.start) // 2, self.validation.stop)


@dataclass(frozen=True)
class WindowPlan:
    """Lengths in bars. anchored: the training stretch always starts at the first usable bar."""

    train: int
    validation: int
    test: int
    step: int
    anchored: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("train", self.train, 1),
            ("validation", self.validation, 1),
            ("test", self.test, 2),  # what is decided at a bar's close fills at the next open: one bar cannot trade
            ("step", self.step, 1),
        ):
            if value < least:
                raise InputError(f"{name} must be at least {least} bar{'s' if least > 1 else ''}, not {value}")
        if self.step < self.test:
            raise InputError(
                f"step ({self.step} bars) is shorter than test ({self.test} bars): a bar would be traded twice; lower test"
            )

    def windows(self, bars: int, *, first: int, purge_bars: int, embargo_bars: int | None = None) -> tuple[Window, ...]:
        """All windows over bars first..bars. The last test may be cut short by the end of the data, to half at most.

        InputError where not even one fits.
        """
        embargo = purge_bars if embargo_bars is None else embargo_bars
        found: list[Window] = []
        start = first
        while True:
            train = slice(first if self.anchored else start, start + self.train)
            validation = slice(train.stop + purge_bars, train.stop + purge_bars + self.validation)
            test = slice(validation.stop + embargo, min(bars, validation.stop + embargo + self.test))
            if test.stop - test.start < max(2, self.test // 2):
                break
            found.append(Window(len(found), train, validation, test, purge_bars, embargo_bars))
            start += self.step
        if not found:
            needed = first + self.train + self.validation + purge_bars + embargo + max(2, self.test // 2)
            raise InputError(
                f"{bars} bars are too few for one window: {needed} are needed (warm-up {first}, train {self.train}, "
                f"validation {self.validation}, test {self.test}, purge {purge_bars}, embargo {embargo}); "
                f"give more history{self._that_fits(bars - first - purge_bars - embargo)}"
            )
        return tuple(found)

    def _that_fits(self, free: int) -> str:
        """What to type for one window of `free` bars, split as this plan is; nothing where too few are left to learn from."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        fitting = {name: bars * free // sum(parts.values()) for name, bars in parts.items()}
        if free < FEWEST_FREE:
            return ""
        return ", or lower " + " ".join(f"--{name} {bars}" for name, bars in fitting.items())


#: share of a window's training and validation bars that rehearsals trade
REHEARSED = 0.35


def rehearsals(window: Window, count: int) -> tuple[Window, ...]:
    """`count` smaller windows inside the training and validation bars of `window`, in its proportions, numbered from -count to -1.

    Their test stretches follow each other and end where its validation ends: bars on which a way of choosing shows what it earns before
    `window` itself is traded. Empty where its bars are too few for them.
    """
    if count == 0:
        return ()
    first, last = window.train.start, window.validation.stop
    purge, embargo = window.purge_bars, window.purge_bars if window.embargo_bars is None else window.embargo_bars
    test = int(REHEARSED * (last - first)) // count
    learnt = last - first - count * test - purge - embargo
    train, validation = window.train.stop - first, last - window.validation.start
    judged = learnt * validation // (train + validation)
    # the stop half of the validation, and what is purged before it, must leave something to fit
    if test < 2 or judged < FEWEST_REHEARSED or learnt - judged < max(FEWEST_FREE, purge):
        return ()
    found = []
    for k in range(count):
        begin = first + k * test
        middle = begin + learnt - judged + purge
        stop = middle + judged
        shown = slice(stop + embargo, stop + embargo + test)
        found.append(
            Window(
                k - count, slice(begin, begin + learnt - judged), slice(middle, stop), shown, purge, window.embargo_bars
            )
        )
    return tuple(found)


def separation(given: str, bars: int | None, least: int) -> int:
    """The purge or embargo in bars: `least` (the label's reach and the receptive field) unless a longer one was given.

    InputError where a shorter one was given: labels or features of one stretch would reach into the next.
    """
    if bars is not None and bars < least:
        raise InputError(
            f"--{given} of {bars} bars is shorter than the label horizon and the receptive field together ({least} bars); "
            f"leave it out or give at least {least}"
        )
    return least if bars is None else bars


def timeline(windows: tuple[Window, ...], bars: int, width: int, rows: int = 14) -> list[tuple[int, str]]:
    """(window number, bar of `width` characters: - train, = validation, # test) for each window, the middle ones left out beyond `rows`."""
    shown = windows if len(windows) <= rows else (*windows[: rows // 2], *windows[-(rows - rows // 2) :])
    lines = []
    for window in shown:
        cells = [" "] * width
        for part, mark in ((window.train, "-"), (window.validation, "="), (window.test, "#")):
            first = part.start * width // bars
            for k in range(first, max(first + 1, -(-part.stop * width // bars))):
                cells[min(k, width - 1)] = mark
        lines.append((window.number, "".join(cells)))
    return lines
