"""What to make of an experiment, by either of the two modes that keep its shares as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from anabranch_evaluation.domain.statistics.anytime import TUNED_TO, confidence_sequence
from anabranch_evaluation.domain.statistics.group_sequential import GroupSequential
from anabranch_evaluation.domain.statistics.samples import Interval, Sample

_CLEAR = 3.2  # standard errors at which a sequence that is tuned to the same time decides, near enough


class Mode(StrEnum):
    """How often one may look."""

    ANYTIME = "anytime"
    GROUP_SEQUENTIAL = "group_sequential"


class PromoteWhen(StrEnum):
    """What a treatment must show."""

    SUPERIOR = "superior"
    NOT_WORSE = "not_worse"


class Verdict(StrEnum):
    """What follows."""

    GO_ON = "go_on"
    PROMOTE = "promote"
    KEEP_CONTROL = "keep_control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Fixed when an experiment starts. `alpha` is two-sided and shared out among the treatments (Bonferroni).

    `min_users`: per arm, before anything is decided. `max_users`: in all, after which the control stays; 0: never.
    `horizon`: per arm, where a group-sequential test ends and, in the anytime mode, where the sequence is tightest; 0:
    chosen. `value_range`: largest less least value possible.
    """

    mode: Mode = Mode.ANYTIME
    promote_when: PromoteWhen = PromoteWhen.SUPERIOR
    alpha: float = 0.05
    margin: float = 0.05
    min_users: int = 50
    max_users: int = 0
    horizon: int = 0
    looks: int = 10
    value_range: float = 1.0

    def __post_init__(self) -> None:
        """Refuses a design that cannot end or cannot begin."""
        if (
            not 0 < self.alpha < 1
            or self.margin < 0
            or self.value_range <= 0
            or min(self.min_users, self.max_users) < 0
        ):
            raise ValueError(f"no design: {self}")
        if self.mode is Mode.GROUP_SEQUENTIAL and self.horizon <= 0:
            raise ValueError("a group-sequential experiment needs its horizon")

    @property
    def tuned_to(self) -> float:
        """People an arm at which a confidence sequence is tightest: the horizon, or where the margin is told from 0."""
        if self.horizon:
            return float(self.horizon)
        if self.promote_when is PromoteWhen.NOT_WORSE and self.margin:
            return float(max(2 * (_CLEAR * self.value_range / 2 / self.margin) ** 2, self.min_users, 1))
        return float(self.max_users / 2 if self.max_users else TUNED_TO)

    @property
    def bar(self) -> float:
        """The difference that a treatment must be shown to be above."""
        return -self.margin if self.promote_when is PromoteWhen.NOT_WORSE else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One treatment against the control."""

    verdict: Verdict
    interval: Interval
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An experiment now: what follows, for which arm, and every treatment's part in it."""

    verdict: Verdict
    arm: str
    arms: Mapping[str, Assessment]
    reason: str


def fraction(control: Sample, treatments: Mapping[str, Sample], design: Design) -> float:
    """Share of the horizon that has been reached: that of the smallest arm."""
    return min(sample.count for sample in (control, *treatments.values())) / design.horizon if design.horizon else 0.0


def assess(
    control: Sample, treatment: Sample, design: Design, *, looks: Sequence[float] = (), treatments: int = 1
) -> Assessment:
    """One treatment against the control, at a look.

    `looks`: GROUP_SEQUENTIAL only: the shares of the horizon (`fraction`) at every look taken so far, this one last.
    Take a look when `GroupSequential.due` says so, and remember it.
    """
    alpha = design.alpha / treatments
    if design.mode is Mode.GROUP_SEQUENTIAL:
        if not looks:
            nothing = Interval(
                difference=treatment.mean - control.mean, low=-float("inf"), high=float("inf"), p_value=1.0
            )
            return Assessment(verdict=Verdict.GO_ON, interval=nothing, reason="no look is due yet")
        test = GroupSequential(alpha=alpha, looks=design.looks)
        interval = test.interval(control, treatment, fractions=looks, value_range=design.value_range)
    else:
        interval = confidence_sequence(
            control, treatment, alpha=alpha, tuned_to=design.tuned_to, value_range=design.value_range
        )
    fewest = min(control.count, treatment.count)
    if fewest < max(design.min_users, 2):
        reason = f"{fewest} people in the smaller arm, asked for {max(design.min_users, 2)}"
        return Assessment(verdict=Verdict.GO_ON, interval=interval, reason=reason)
    if interval.low > design.bar:
        reason = f"lower bound {interval.low:+.4f} is above {design.bar:+.4f}"
        return Assessment(verdict=Verdict.PROMOTE, interval=interval, reason=reason)
    if interval.high < design.bar:
        reason = f"upper bound {interval.high:+.4f} is below {design.bar:+.4f}"
        return Assessment(verdict=Verdict.KEEP_CONTROL, interval=interval, reason=reason)
    if design.mode is Mode.GROUP_SEQUENTIAL and looks[-1] >= 1:
        return Assessment(
            verdict=Verdict.KEEP_CONTROL, interval=interval, reason="the horizon is reached without a winner"
        )
    reason = f"{design.bar:+.4f} lies within {interval.low:+.4f} to {interval.high:+.4f}"
    return Assessment(verdict=Verdict.GO_ON, interval=interval, reason=reason)


def decide(
    control: Sample,
    treatments: Mapping[str, Sample],
    design: Design,
    *,
    looks: Sequence[float] = (),
    people: int | None = None,
) -> Outcome:
    """The whole experiment at a look: the best treatment that may be promoted, or the control when none will be.

    `people`: all who were exposed, for `max_users`; default: those measured.
    """
    if not treatments:
        raise ValueError("an experiment without a treatment")
    arms = {
        name: assess(control, treatments[name], design, looks=looks, treatments=len(treatments))
        for name in sorted(treatments)
    }
    promoted = [name for name, arm in arms.items() if arm.verdict is Verdict.PROMOTE]
    if promoted:
        best = max(promoted, key=lambda name: (arms[name].interval.difference, name))
        return Outcome(verdict=Verdict.PROMOTE, arm=best, arms=arms, reason=f"{best}: {arms[best].reason}")
    if all(arm.verdict is Verdict.KEEP_CONTROL for arm in arms.values()):
        return Outcome(verdict=Verdict.KEEP_CONTROL, arm="", arms=arms, reason=_joined(arms))
    everyone = people if people is not None else control.count + sum(sample.count for sample in treatments.values())
    if design.max_users and everyone >= design.max_users:
        reason = f"no winner after {everyone} people: {_joined(arms)}"
        return Outcome(verdict=Verdict.KEEP_CONTROL, arm="", arms=arms, reason=reason)
    return Outcome(verdict=Verdict.GO_ON, arm="", arms=arms, reason=_joined(arms))


def _joined(arms: Mapping[str, Assessment]) -> str:
    """The reasons of all arms in a line."""
    return "; ".join(f"{name}: {arm.reason}" for name, arm in arms.items())
