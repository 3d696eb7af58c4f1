"""What a phase amounts to now, and what follows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np

from anabranch_evaluation.domain.experiments import (
    ArmSummary,
    Decision,
    Experiment,
    Exposed,
    Phase,
    Verb,
)
from anabranch_evaluation.domain.guarding import guards_of
from anabranch_evaluation.domain.statistics import (
    Bandit,
    Design,
    GuardReading,
    Mode,
    Sample,
    Split,
    Verdict,
    assess,
    confidence_sequence,
    cuped,
    decide,
    fraction,
    sample_ratio,
    whole_shares,
)

WHOLE: Final = 10_000
WORTH_MOVING: Final = 500
"""Hundredths of a percent by which some arm's share must move before traffic is moved: every move mixes some people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A phase now. `verb` is None while nothing follows."""

    arms: Sequence[ArmSummary]
    sample_ratio_p_value: float
    verb: Verb | None
    arm: str
    weights: Mapping[str, int]
    reason: str

    def decision(self, experiment: Experiment, *, at: datetime, discriminator: str) -> Decision:
        """The reading as a decision of the phase."""
        if self.verb is None:
            raise ValueError("nothing follows from this reading")
        return Decision(
            experiment_id=experiment.experiment_id,
            phase=experiment.phase,
            phase_revision=experiment.phase_revision,
            verb=self.verb,
            arm=self.arm,
            weights=self.weights,
            arms=self.arms,
            reason=self.reason,
            decided_at=at,
            discriminator=discriminator,
        )


def samples_of(experiment: Experiment, exposed: Exposed) -> dict[str, Sample]:
    """Arm -> the people with a value of the metric; what was known of them before is taken out where asked for."""
    design = experiment.design
    known = [(one, value) for one in exposed.people if (value := one.value(design.metric)) is not None]
    values = np.array([value for _, value in known])
    if design.covariate == "satisfaction_before" and known:
        before = [math.nan if one.before is None else one.before for one, _ in known]
        values = cuped(values, before).values
    return {
        arm.name: Sample.of([value for (one, _), value in zip(known, values, strict=True) if one.arm == arm.name])
        for arm in experiment.arms
    }


def read(
    experiment: Experiment,
    exposed: Exposed,
    *,
    now: datetime,
    looks: Sequence[float] = (),
    stopped: Collection[str] = (),
    before: float = 1.0,
    weights: Mapping[int, Mapping[str, int]] | None = None,
) -> Reading:
    """What the phase amounts to.

    `looks`: the shares of the horizon at the looks taken, the present one last if one is due. `stopped`: arms already
    told to stop. `before`: the least sample-ratio p-value of the looks before. `weights`: revision of the routing ->
    the arms' weights in it; who was dealt by a routing that is not there is not tested for the split.
    """
    samples = samples_of(experiment, exposed)
    live = [arm for arm in experiment.arms if not arm.stopped and arm.name not in stopped]
    treatments = [arm.name for arm in live if not arm.control]
    readings = {name: guards_of(experiment, exposed.people, name) for name in treatments}
    summaries = _summaries(experiment, exposed, samples, treatments=treatments, readings=readings, looks=looks)
    ratio = _sample_ratio(exposed, weights or {}, before)
    nothing = Reading(
        arms=summaries, sample_ratio_p_value=ratio, verb=None, arm="", weights={}, reason="nothing follows yet"
    )
    if not treatments or experiment.phase is Phase.STOPPED:
        return replace(nothing, reason="no treatment is left")
    if (harm := _harm(nothing, readings)) is not None:
        return harm
    everybody = len(exposed.people)
    match experiment.phase:
        case Phase.CANARY:
            return _canary(experiment, exposed, treatments, nothing, now)
        case Phase.RUNNING if experiment.design.mode is None:
            return _bandit(experiment, {arm.name: samples[arm.name] for arm in live}, nothing, now, everybody)
        case Phase.RUNNING:
            return _running(experiment, samples, treatments, nothing, looks=looks, now=now, people=everybody)
    return replace(nothing, reason=f"the holdout's guards hold{_unmeasured(nothing)}")


def _harm(nothing: Reading, readings: Mapping[str, Mapping[str, GuardReading]]) -> Reading | None:
    """What ends any phase: a split that was not asked for, an arm that harms."""
    ratio = nothing.sample_ratio_p_value
    if ratio < 0.01:  # noqa: PLR2004  the level of the test
        reason = f"people are not split as asked for: p = {ratio:.2g}"
        return replace(nothing, verb=Verb.SAMPLE_RATIO_MISMATCH, reason=reason)
    for name, found in readings.items():
        for metric, reading in found.items():
            if reading.breached:
                return replace(nothing, verb=Verb.STOP_ARM, arm=name, reason=f"{metric}: {reading.reason}")
    return None


def look_due(experiment: Experiment, exposed: Exposed) -> float:
    """Share of the horizon that has been reached, for a group-sequential test; 0 for any other."""
    design = experiment.design
    if experiment.phase is not Phase.RUNNING or design.mode is not Mode.GROUP_SEQUENTIAL:
        return 0.0
    samples = samples_of(experiment, exposed)
    treatments = {arm.name: samples[arm.name] for arm in experiment.arms if not arm.control and not arm.stopped}
    return fraction(samples[experiment.control.name], treatments, _design(experiment)) if treatments else 0.0


def _design(experiment: Experiment) -> Design:
    design = experiment.design
    return Design(
        mode=design.mode or Mode.ANYTIME,
        promote_when=design.promote_when,
        alpha=design.alpha,
        margin=design.margin,
        min_users=design.min_users,
        max_users=design.max_users,
        horizon=design.horizon,
        looks=design.looks,
    )


def _canary(
    experiment: Experiment, exposed: Exposed, treatments: Sequence[str], nothing: Reading, now: datetime
) -> Reading:
    people = min(sum(one.arm == name for one in exposed.people) for name in treatments)
    if people < experiment.canary_users:
        return replace(nothing, reason=f"{people} of {experiment.canary_users} people were exposed")
    if experiment.phase_started_at is not None and now - experiment.phase_started_at < experiment.canary_at_least:
        return replace(nothing, reason=f"it goes on for at least {experiment.canary_at_least}")
    return replace(
        nothing,
        verb=Verb.CANARY_PASSED,
        arm=treatments[0],
        reason=f"{people} people were exposed, no guard breached{_unmeasured(nothing)}",
    )


def _unmeasured(reading: Reading) -> str:
    """What no guard could look at, for people; empty when all could."""
    found = sorted({metric for one in reading.arms for metric in one.unmeasured})
    return f"; not measured: {', '.join(found)}" if found else ""


def _running(
    experiment: Experiment,
    samples: Mapping[str, Sample],
    treatments: Sequence[str],
    nothing: Reading,
    *,
    looks: Sequence[float],
    now: datetime,
    people: int,
) -> Reading:
    outcome = decide(
        samples[experiment.control.name],
        {name: samples[name] for name in treatments},
        _design(experiment),
        looks=looks,
        people=people,
    )
    match outcome.verdict:
        case Verdict.PROMOTE:
            return replace(nothing, verb=Verb.PROMOTE, arm=outcome.arm, reason=outcome.reason)
        case Verdict.KEEP_CONTROL:
            return replace(nothing, verb=Verb.KEEP_CONTROL, reason=outcome.reason)
        case _ if _over(experiment, now):
            return replace(nothing, verb=Verb.KEEP_CONTROL, reason=f"its time is over: {outcome.reason}")
        case _:
            return replace(nothing, reason=outcome.reason)


def _bandit(
    experiment: Experiment, samples: Mapping[str, Sample], nothing: Reading, now: datetime, people: int
) -> Reading:
    design = experiment.design
    found = Bandit(minimum_share=design.minimum_share, min_users=design.min_users).allocate(samples)
    arms = [replace(one, probability_best=found.probability_best.get(one.arm, 0.0)) for one in nothing.arms]
    nothing = replace(nothing, arms=arms, reason=found.reason)
    if found.winner == experiment.control.name:
        return replace(nothing, verb=Verb.KEEP_CONTROL)
    if found.winner:
        return replace(nothing, verb=Verb.PROMOTE, arm=found.winner)
    if found.ended or _over(experiment, now) or 0 < design.max_users <= people:
        return replace(nothing, verb=Verb.KEEP_CONTROL, reason=f"it ends without a winner: {found.reason}")
    weights = whole_shares(found.weights, WHOLE)
    moved = max(abs(weights.get(arm.name, 0) - arm.weight) for arm in experiment.arms)
    if min(sample.count for sample in samples.values()) >= design.min_users and moved >= WORTH_MOVING:
        return replace(nothing, verb=Verb.REWEIGH, weights=weights)
    return nothing


def _over(experiment: Experiment, now: datetime) -> bool:
    longest, began = experiment.design.max_duration, experiment.phase_started_at
    return longest is not None and began is not None and now - began >= longest


def _sample_ratio(exposed: Exposed, weights: Mapping[int, Mapping[str, int]], before: float) -> float:
    """The p-value over all stretches of the phase, each against the weights that dealt in it.

    People count once, by their first answer: whoever comes back after the weights moved was dealt before.
    """
    splits = [
        Split(counts=counts, weights={arm: float(weight) for arm, weight in weights[revision].items()})
        for revision, counts in sorted(exposed.dealt.items())
        if any(weights.get(revision, {}).values())
    ]
    return sample_ratio(splits, before=before).p_value


def _summaries(
    experiment: Experiment,
    exposed: Exposed,
    samples: Mapping[str, Sample],
    *,
    treatments: Sequence[str],
    readings: Mapping[str, Mapping[str, GuardReading]],
    looks: Sequence[float],
) -> list[ArmSummary]:
    control, found = samples[experiment.control.name], []
    for arm in experiment.arms:
        sample = samples[arm.name]
        summary = ArmSummary(
            arm=arm.name,
            exposed=sum(one.arm == arm.name for one in exposed.people),
            measured=sample.count,
            mean=sample.mean,
            guards={metric: reading.value for metric, reading in readings.get(arm.name, {}).items()},
            mixed=exposed.mixed.get(arm.name, 0),
            unmeasured=[
                guard.metric
                for guard in experiment.guards
                if arm.name in readings and guard.metric not in readings[arm.name]
            ],
        )
        if not arm.control and control.count and sample.count:
            if experiment.phase is Phase.RUNNING and experiment.design.mode is not None and arm.name in treatments:
                interval = assess(
                    control, sample, _design(experiment), looks=looks, treatments=len(treatments)
                ).interval
            else:
                interval = confidence_sequence(control, sample, alpha=experiment.design.alpha)
            summary = replace(summary, difference=interval.difference, low=interval.low, high=interval.high)
        found.append(summary)
    return found
