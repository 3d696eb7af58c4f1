"""Guards as they stand for an arm: what was asked for, against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from anabranch_evaluation.domain.costs import in_one_unit
from anabranch_evaluation.domain.experiments import Experiment, Guard, Person
from anabranch_evaluation.domain.statistics import (
    GuardReading,
    Sample,
    mean_guard,
    mean_ratio_guard,
    quantile_ratio_guard,
)

_LESS_IS_BETTER: Final = frozenset({"abstention", "block_rate"})


def guards_of(experiment: Experiment, people: Sequence[Person], arm: str) -> dict[str, GuardReading]:
    """Return every guard of the present phase that something was measured for, by metric."""
    found = {guard.metric: _guard(guard, people, experiment.control.name, arm) for guard in experiment.guards}
    return {metric: reading for metric, reading in found.items() if reading is not None}


def _guard(guard: Guard, people: Sequence[Person], control: str, arm: str) -> GuardReading | None:
    if guard.metric == "cost":
        return _cost_guard(guard, people, control, arm)
    first, second = (
        [value for one in people if one.arm == name and (value := one.value(guard.metric)) is not None]
        for name in (control, arm)
    )
    if not first or not second:
        return None
    if guard.metric == "latency_p95":
        return quantile_ratio_guard(first, second, max_ratio=guard.max_ratio) if guard.max_ratio else None
    if not guard.max_loss:
        return None
    return mean_guard(
        Sample.of(first),
        Sample.of(second),
        max_loss=guard.max_loss,
        higher_is_better=guard.metric not in _LESS_IS_BETTER,
    )


def _cost_guard(guard: Guard, people: Sequence[Person], control: str, arm: str) -> GuardReading | None:
    unit, (first, second) = in_one_unit(*([one.cost for one in people if one.arm == name] for name in (control, arm)))
    if not first or not second or not guard.max_ratio:
        return None
    found = mean_ratio_guard(first, second, max_ratio=guard.max_ratio)
    return replace(found, reason=f"{found.reason}, in {unit}")
