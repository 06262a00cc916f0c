"""Who may trade a window, and why: trained networks, what is known of them before the test stretch, the policy that had them searched.

The first policy named is the run's headline and trades as `searched`; the others trade as `policy:<name>`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data.panel import InputError
from nas.tasks.drift import Alarm
from nas.tasks.windows import Window
from nas.tasks.work import TaskResult
from strategies.walkforward.choice import Tried

RANDOM_VARIANT = "random"
CROSS_VALIDATION = "cpcv"  # beside policies: no account of its own (`strategies.walkforward.cpcv`)


@dataclass(frozen=True, eq=False)
class Contender:
    """One trained network that may trade one window for one strategy.

    found: the search that gave its architecture (None for hand-designed networks); it may be of an earlier window.
    """

    strategy: str
    kind: str
    window: Window
    variant: str
    seed: int
    trained: TaskResult
    found: TaskResult | None = None
    members: tuple[Contender, ...] = ()  # of an ensemble over seeds; `trained` then holds their mean forecasts


@dataclass(frozen=True, eq=False)
class Candidate:
    """A contender with what its window allows to know before the test stretch: every plan on the stop stretch."""

    contender: Contender
    trials: tuple[Tried, ...]

    @property
    def score(self) -> float:
        """Best net Sharpe ratio on the stop stretch."""
        return max(tried.sharpe for tried in self.trials)

    @property
    def key(self) -> str:
        """The configuration this candidate belongs to, the same in every window."""
        return f"{self.contender.strategy}/{self.contender.variant}/seed{self.contender.seed}"


@dataclass(frozen=True)
class Policy:
    """name: as typed. period: windows from search to search (0: only the first). The rest are the exceptions."""

    name: str
    title: str
    period: int = 1
    drift: bool = False
    frozen_weights: bool = False
    variants: tuple[str, ...] | None = None  # instead of the run's

    @property
    def static(self) -> bool:
        """Whether its searches are known before anything has run."""
        return not self.drift

    def search_window(self, number: int) -> int:
        """Which window's search gives the architecture of window `number` (static policies)."""
        return number - number % self.period if self.period else 0


def parse_policy(text: str) -> Policy:
    """`every`, `period:3`, `drift`, `never`, `frozen`, `random`. InputError lists them."""
    name, _, number = text.partition(":")
    if name == "period":
        if not number.isdigit() or int(number) < 1:
            raise InputError(f"policy {text!r}: give the number of windows, e.g. period:3")
        return Policy(text, f"search every {int(number)} windows", int(number))
    known = {
        "every": Policy("every", "search on every window"),
        "drift": Policy("drift", "search when the market has drifted", drift=True),
        "never": Policy("never", "architecture of the first window, weights retrained", 0),
        "frozen": Policy("frozen", "architecture and weights of the first window", 0, frozen_weights=True),
        "random": Policy("random", "a random architecture on every window, trained alike", variants=(RANDOM_VARIANT,)),
    }
    if number or name not in known:
        raise InputError(f"no policy {text!r}; there are {', '.join(known)}, period:N and {CROSS_VALIDATION}")
    return known[name]


@dataclass(frozen=True)
class Decision:
    """What a policy did at one window: whether it searched, whose search it uses, the alarms heard, and the reason in a word."""

    window: int
    searched: bool
    source: int
    alarms: tuple[Alarm, ...] = ()
    reason: str = "schedule"


@dataclass(eq=False)
class PolicyOutcome:
    """Everything a policy's account needs. rehearsed: who would have traded the rehearsals, which no account trades."""

    policy: Policy
    strategy: str
    contenders: list[Contender] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    rehearsed: list[Contender] = field(default_factory=list)
