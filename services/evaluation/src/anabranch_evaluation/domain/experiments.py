"""Experiments as they are watched: what was declared, who was exposed, and what it amounts to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from anabranch_evaluation.domain.costs import Cost
from anabranch_evaluation.domain.statistics import Mode, PromoteWhen


class Phase(Enum):
    """What an experiment is doing."""

    CANARY = "canary"
    RUNNING = "running"
    HOLDOUT = "holdout"
    STOPPED = "stopped"


class Verb(StrEnum):
    """What evaluation makes of a phase."""

    CANARY_PASSED = "canary_passed"
    PROMOTE = "promote"
    KEEP_CONTROL = "keep_control"
    STOP_ARM = "stop_arm"
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
    REWEIGH = "reweigh"


FINAL = frozenset({Verb.CANARY_PASSED, Verb.PROMOTE, Verb.KEEP_CONTROL, Verb.SAMPLE_RATIO_MISMATCH})
"""After one of these nothing more is said of a phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One variant in an experiment; weights of live arms sum to 10,000."""

    name: str
    weight: int
    control: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Stops an arm that harms; 0 in a limit: not asked for."""

    metric: str
    max_ratio: float = 0.0
    max_loss: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDesign:
    """How it is decided. `mode` is None for a bandit."""

    mode: Mode | None = Mode.ANYTIME
    metric: str = "satisfaction"
    alpha: float = 0.05
    promote_when: PromoteWhen = PromoteWhen.NOT_WORSE
    margin: float = 0.05
    horizon: int = 0
    looks: int = 10
    min_users: int = 50
    max_users: int = 0
    max_duration: timedelta | None = None
    guards: tuple[Guard, ...] = ()
    minimum_share: float = 0.05
    covariate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment as the registry last told it; `message` is carried for reports, not looked into.

    `arms_revision`: of the routing that gave the arms their present weights; 0: not known.
    """

    experiment_id: str
    arms: tuple[Arm, ...]
    phase: Phase
    phase_revision: int
    phase_started_at: datetime | None
    design: ExperimentDesign
    arms_revision: int = 0
    canary_users: int = 20
    canary_at_least: timedelta = timedelta()
    holdout_guards: tuple[Guard, ...] = ()
    message: object = None

    @property
    def control(self) -> Arm:
        """The arm that the others are held against."""
        return next(arm for arm in self.arms if arm.control)

    @property
    def guards(self) -> tuple[Guard, ...]:
        """Those of the present phase."""
        return (self.holdout_guards or self.design.guards) if self.phase is Phase.HOLDOUT else self.design.guards


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """An answer that showed somebody an arm."""

    tenant: str
    answer_id: str
    experiment_id: str
    routing_revision: int
    arm: str
    unit: str
    served_at: datetime
    latency: timedelta
    abstained: bool
    blocked: bool = False
    tokens: float | None = None
    microdollars: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one feedback says of an answer: a value from 0 to 1, None where it says nothing or was withdrawn."""

    feedback_id: str
    revision: int
    tenant: str
    answer_id: str
    asker: str
    kind: str
    value: float | None
    experiment_id: str
    served_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A unit of analysis: who saw one arm, averaged over that person's answers. None: nothing is known."""

    arm: str
    latency: float
    abstained: float
    satisfaction: float | None = None
    groundedness: float | None = None
    citation_precision: float | None = None
    before: float | None = None
    blocked: float = 0.0
    cost: Cost | None = None

    def value(self, metric: str) -> float | None:
        """The person's value of a metric; None for one that is not measured here, or has no unit of its own: cost."""
        if metric == "answered":
            return 1.0 - self.abstained
        if metric == "abstention":
            return self.abstained
        if metric == "block_rate":
            return self.blocked
        found: Mapping[str, float | None] = {
            "satisfaction": self.satisfaction,
            "groundedness": self.groundedness,
            "citation_precision": self.citation_precision,
            "latency_p95": self.latency,
        }
        return found.get(metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Everybody exposed in a phase; `mixed`: arm -> people who saw it and another, who are left out.

    `dealt`: revision of the routing -> arm -> people, mixed ones too, whom that routing dealt their first answer.
    """

    people: Sequence[Person]
    mixed: Mapping[str, int] = field(default_factory=dict)
    dealt: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """An arm as measured. The difference is to the control, with its interval or sequence.

    `unmeasured`: guards that nothing was measured for.
    """

    arm: str
    exposed: int
    measured: int
    mean: float
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    probability_best: float = 0.0
    guards: Mapping[str, float] = field(default_factory=dict)
    mixed: int = 0
    unmeasured: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from a phase. `discriminator` names it within the phase: it is told once."""

    experiment_id: str
    phase: Phase
    phase_revision: int
    verb: Verb
    arm: str
    weights: Mapping[str, int]
    arms: Sequence[ArmSummary]
    reason: str
    decided_at: datetime
    discriminator: str


def unit_of(tenant: str, *, user: str, session: str, answer: str) -> str:
    """Digest of the person, else the session, else the answer: who it was is not kept."""
    kind, name = ("user", user) if user else ("session", session) if session else ("answer", answer)
    return hashlib.sha256(f"{tenant}\n{kind}\n{name}".encode()).hexdigest()[:40]
