"""An experiment: variants compared on the live traffic of one scope."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from anabranch_faults import Invalid
from anabranch_registry.domain.variants import is_variant_id

__all__ = ["WHOLE", "Arm", "Experiment", "Phase", "checked_arms", "pair", "promoted_arms", "reweighed", "without"]

WHOLE: Final = 10_000
"""All traffic of a scope, in hundredths of a percent."""

_ARM: Final = re.compile(r"[a-z0-9-]{1,32}")
_MIN_ARMS: Final = 2
_MAX_ARMS: Final = 10


class Phase(StrEnum):
    """What an experiment is doing."""

    CANARY = "CANARY"
    RUNNING = "RUNNING"
    HOLDOUT = "HOLDOUT"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One variant in an experiment; weight in hundredths of a percent."""

    name: str
    variant_id: str
    weight: int
    control: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """As it now is. `design`, `canary` and `holdout` are the declarations as given, field by field."""

    noun: ClassVar[str] = "experiment"

    experiment_id: str
    name: str
    scope: str
    arms: tuple[Arm, ...]
    design: Mapping[str, Any] = field(default_factory=dict)
    canary: Mapping[str, Any] = field(default_factory=dict)
    holdout: Mapping[str, Any] = field(default_factory=dict)
    phase: Phase
    phase_revision: int
    phase_started_at: datetime
    candidate_id: str = ""
    holdout_until: datetime | None = None
    outcome: str = ""
    winner: str = ""
    # The routing's revision that gave the arms their present weights; 0 in what was kept before it was told.
    arms_revision: int = 0
    revision: int = 1
    author: str
    reason: str
    created_at: datetime

    @property
    def key(self) -> str:
        """Its id."""
        return self.experiment_id

    @property
    def live(self) -> bool:
        """Does it hold its scope's traffic?"""
        return self.phase is not Phase.STOPPED

    @property
    def control(self) -> Arm:
        """The arm the others are compared with."""
        return next(arm for arm in self.arms if arm.control)

    @property
    def serving(self) -> Arm:
        """The arm whose variant the scope is given to now: the winner after a promotion, else the control."""
        return self.arm(self.winner) if self.phase is Phase.HOLDOUT else self.control

    def arm(self, name: str) -> Arm:
        """Return the arm of this name. Raises Invalid."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise Invalid(f"{self.experiment_id} has no arm {name!r}", field="arm", reason="UNKNOWN_ARM")


def _require_different(arms: Sequence[Arm]) -> None:
    # The gateway refuses a routing that names a variant twice: an answer's variant must tell its arm.
    seen: set[str] = set()
    for index, arm in enumerate(arms):
        if arm.variant_id in seen:
            raise Invalid(
                f"{arm.variant_id} is there twice; an experiment compares different variants",
                field=f"arms[{index}].variant_id",
                reason="NOT_UNIQUE",
            )
        seen.add(arm.variant_id)


def checked_arms(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms of an experiment to be. Raises Invalid with the field at fault."""
    if not _MIN_ARMS <= len(arms) <= _MAX_ARMS:
        raise Invalid(f"has {len(arms)} arms; allowed is 2 to {_MAX_ARMS}", field="arms", reason="OUT_OF_RANGE")
    names: set[str] = set()
    for index, arm in enumerate(arms):
        if not _ARM.fullmatch(arm.name):
            raise Invalid(f"{arm.name!r} is not [a-z0-9-]{{1,32}}", field=f"arms[{index}].name", reason="NOT_A_NAME")
        if arm.name in names:
            raise Invalid(f"{arm.name!r} is there twice", field=f"arms[{index}].name", reason="NOT_UNIQUE")
        names.add(arm.name)
        if not is_variant_id(arm.variant_id):
            raise Invalid(
                f"{arm.variant_id!r} is not a variant's id", field=f"arms[{index}].variant_id", reason="NOT_AN_ID"
            )
        if not 0 < arm.weight < WHOLE:
            raise Invalid(
                f"is {arm.weight}; allowed is 1 to {WHOLE - 1}", field=f"arms[{index}].weight", reason="OUT_OF_RANGE"
            )
    total = sum(arm.weight for arm in arms)
    if total != WHOLE:
        raise Invalid(f"the weights sum to {total:,}, not to {WHOLE:,}", field="arms.weight", reason="WRONG_SUM")
    controls = sum(arm.control for arm in arms)
    if controls != 1:
        raise Invalid(f"{controls} arms are the control; one must be", field="arms.control", reason="NOT_ONE_CONTROL")
    _require_different(arms)
    return tuple(replace(arm, stopped=False) for arm in arms)


def pair(*, control: str, treatment: str, percent: int) -> tuple[Arm, ...]:
    """Return two arms, of which the treatment has `percent` of the traffic."""
    return (
        Arm(name="control", variant_id=control, weight=WHOLE - percent * 100, control=True),
        Arm(name="treatment", variant_id=treatment, weight=percent * 100),
    )


def promoted_arms(arms: Sequence[Arm], winner: str, percent: int) -> tuple[Arm, ...]:
    """Return the arms after a promotion: the control keeps `percent`, the winner has the rest, others nothing."""
    weights = {next(arm.name for arm in arms if arm.control): percent * 100, winner: WHOLE - percent * 100}
    return tuple(replace(arm, weight=weights.get(arm.name, 0)) for arm in arms)


def without(arms: Sequence[Arm], name: str) -> tuple[Arm, ...]:
    """Return the arms with one stopped; the control takes over its traffic."""
    freed = sum(arm.weight for arm in arms if arm.name == name)
    return tuple(
        replace(arm, weight=0, stopped=True)
        if arm.name == name
        else replace(arm, weight=arm.weight + freed)
        if arm.control
        else arm
        for arm in arms
    )


def reweighed(arms: Sequence[Arm], weights: Mapping[str, int]) -> tuple[Arm, ...]:
    """Return the arms with new weights. Raises Invalid for unknown or stopped arms, or a wrong sum."""
    live = {arm.name for arm in arms if not arm.stopped}
    for name, weight in weights.items():
        if name not in live or weight < 0:
            raise Invalid(f"{name!r}: {weight} is not a weight of a live arm", field="weights", reason="UNKNOWN_ARM")
    if sum(weights.values()) != WHOLE:
        raise Invalid(f"sum to {sum(weights.values()):,}, not to {WHOLE:,}", field="weights", reason="WRONG_SUM")
    return tuple(replace(arm, weight=weights.get(arm.name, 0)) for arm in arms)
