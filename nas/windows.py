"""Rolling windows: train, validation and test stretches in time order, purged from each other."""

from __future__ import annotations

from dataclasses import dataclass

from data.panel import InputError


@dataclass(frozen=True)
class Window:
    """One walk-forward step; bounds are bar indices, half-open. The purge lies between each two stretches."""

    number: int
    train: slice
    validation: slice
    test: slice
    purge_bars: int

    def __post_init__(self) -> None:
        for earlier, later, names in (
            (self.train, self.validation, "train and validation"),
            (self.validation, self.test, "validation and test"),
        ):
            if later.start - earlier.stop < self.purge_bars:
                raise ValueError(
                    f"{names} are {later.start - earlier.stop} bars apart: less than the purge of {self.purge_bars}"
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
        for name, value in (
            ("train", self.train),
            ("validation", self.validation),
            ("test", self.test),
            ("step", self.step),
        ):
            if value < 1:
                raise InputError(f"{name} must be at least one bar, not {value}")
        if self.step < self.test:
            raise InputError(
                f"step ({self.step} bars) is shorter than test ({self.test} bars): a bar would be traded twice; lower test"
            )

    def windows(self, bars: int, *, first: int, purge_bars: int) -> tuple[Window, ...]:
        """All windows over bars first..bars. The last test may be cut short by the end of the data, to half at most.

        InputError where not even one fits.
        """
        found: list[Window] = []
        start = first
        while True:
            train = slice(first if self.anchored else start, start + self.train)
            validation = slice(train.stop + purge_bars, train.stop + purge_bars + self.validation)
            test = slice(validation.stop + purge_bars, min(bars, validation.stop + purge_bars + self.test))
            if test.stop - test.start < max(2, self.test // 2):
                break
            found.append(Window(len(found), train, validation, test, purge_bars))
            start += self.step
        if not found:
            needed = first + self.train + self.validation + 2 * purge_bars + max(2, self.test // 2)
            raise InputError(
                f"{bars} bars are too few for one window: {needed} are needed (warm-up {first}, train {self.train}, "
                f"validation {self.validation}, test {self.test}, purge {purge_bars} twice); "
                f"give more history or lower --train, --validation, --test"
            )
        return tuple(found)
