"""Gates: a candidate against what serves now, question by question."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from anabranch_evaluation.domain.comparison import Difference, difference, pairs_of
from anabranch_evaluation.domain.costs import Prices, in_one_unit
from anabranch_evaluation.domain.golden import GoldenSet
from anabranch_evaluation.domain.runs import ANSWER_METRICS, RETRIEVAL_METRICS, SMALLEST_SLICE, Run
from anabranch_evaluation.domain.statistics import GateMode

LATENCY_FLOOR: Final = 0.010
"""Seconds of p95 below which a rise is the clock's noise, whatever the ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """How a candidate is judged. All losses in the metric's unit."""

    datasets: tuple[str, ...]
    metric: str = "ndcg@10"
    mode: GateMode = GateMode.IMPROVEMENT
    margin: float = 0.0
    alpha: float = 0.05
    detectable: float = 0.0
    worst_slice: float = 0.05
    latency_ratio: float = 1.5
    cost_ratio: float = 0.0

    @property
    def fault(self) -> str:
        """Why nothing can be judged by this, empty when it can."""
        if not self.datasets:
            return "the gate names no golden set: put one and name it in the policy's gate.datasets"
        if self.metric not in (*RETRIEVAL_METRICS, *ANSWER_METRICS):
            known = ", ".join((*RETRIEVAL_METRICS, *ANSWER_METRICS))
            return f"the gate asks for the metric {self.metric!r}; known are {known}"
        if not 0 < self.alpha < 1 or self.margin < 0:
            return "the gate's alpha must lie between 0 and 1 and its margin must not be negative"
        return ""

    @property
    def answers(self) -> bool:
        """What is asked for needs answers, not only a search."""
        return self.metric in ANSWER_METRICS or self.cost_ratio > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition of a gate."""

    name: str
    dataset: str
    passed: bool
    reason: str
    baseline: float = 0.0
    candidate: float = 0.0
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p_value: float = 1.0
    minimum_detectable_effect: float = 0.0
    questions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The verdict. `candidate_id` and `scope` are empty for a gate run by hand."""

    gate_id: str
    candidate_id: str
    scope: str
    baseline_variant_id: str
    candidate_variant_id: str
    passed: bool
    checks: Sequence[Check]
    reason: str
    decided_at: datetime


def gate_id(*parts: str) -> str:
    """`gt-` and 12 hex digits: the same gate asked for again has the same id."""
    return f"gt-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}"


def judge(spec: GateSpec, golden: GoldenSet, baseline: Run, candidate: Run) -> list[Check]:
    """The conditions on quality for two finished runs over `golden`."""
    pairs = pairs_of(baseline, candidate, spec.metric)
    if not pairs:
        problem = f"no question of {golden.name} can be scored by {spec.metric}"
        return [Check(name=spec.metric, dataset=golden.name, passed=False, reason=problem)]
    whole = _difference(spec, list(pairs.values()))
    checks = [_of(spec.metric, golden, whole, passed=whole.statistic.passed, reason=_shown(whole))]
    if spec.detectable > 0:
        checks.append(_detectable(spec, golden, whole))
    slices = [
        _difference(spec, [pairs[key] for key in members], group)
        for group, members in golden.groups(pairs).items()
        if len(members) >= SMALLEST_SLICE
    ]
    if slices:
        checks.append(_worst_slice(spec, golden, min(slices, key=lambda one: (one.statistic.difference, one.slice))))
    return checks


def judge_latency(spec: GateSpec, dataset: str, pairs: Sequence[tuple[float, float]]) -> Check:
    """The condition on p95 latency, for (baseline, candidate) seconds measured side by side."""
    before, after = (float(np.percentile([pair[side] for pair in pairs], 95)) for side in (0, 1))
    passed = after <= before * spec.latency_ratio or after - before <= LATENCY_FLOOR
    reason = f"p95 {after * 1e3:.0f} ms against {before * 1e3:.0f} ms, at most {spec.latency_ratio:g} times is allowed"
    return Check(
        name="latency_p95",
        dataset=dataset,
        passed=passed,
        reason=reason,
        baseline=before,
        candidate=after,
        difference=after - before,
        low=after - before,
        high=after - before,
        questions=len(pairs),
    )


def judge_cost(spec: GateSpec, golden: GoldenSet, baseline: Run, candidate: Run, *, prices: Prices) -> Check:
    """The condition on the mean cost of an answer, over the questions that both runs measured it for."""
    both = [
        (first, second)
        for key in sorted(set(baseline.questions) & set(candidate.questions))
        if (first := prices.cost(baseline.questions[key].usage)) is not None
        and (second := prices.cost(candidate.questions[key].usage)) is not None
    ]
    if not both:
        reason = "not measured: no answer of both variants tells how many tokens it took"
        return Check(name="cost", dataset=golden.name, passed=False, reason=reason)
    unit, (old, new) = in_one_unit([one for one, _ in both], [two for _, two in both])
    before, after = float(np.mean(old)), float(np.mean(new))
    whole = difference(list(zip(old, new, strict=True)), name="cost", alpha=spec.alpha).statistic
    return Check(
        name="cost",
        dataset=golden.name,
        passed=after <= before * spec.cost_ratio,
        reason=f"{after:.4g} {unit} an answer against {before:.4g}, at most {spec.cost_ratio:g} times is allowed",
        baseline=before,
        candidate=after,
        difference=after - before,
        low=whole.low,
        high=whole.high,
        questions=len(both),
    )


def verdict(checks: Sequence[Check]) -> tuple[bool, str]:
    """Whether all passed, and a line for people."""
    failed = [check for check in checks if not check.passed]
    if failed:
        return False, "; ".join(f"{check.name} on {check.dataset}: {check.reason}" for check in failed[:3])
    return bool(checks), "; ".join(f"{check.name} on {check.dataset}: {check.reason}" for check in checks[:1])


def _difference(spec: GateSpec, pairs: Sequence[tuple[float, float]], group: str = "") -> Difference:
    return difference(pairs, name=spec.metric, group=group, mode=spec.mode, margin=spec.margin, alpha=spec.alpha)


def _shown(found: Difference) -> str:
    seen = found.statistic
    return f"{seen.difference:+.4f} over {seen.questions} questions; {seen.reason}"


def _detectable(spec: GateSpec, golden: GoldenSet, found: Difference) -> Check:
    seen = found.statistic.minimum_detectable_effect
    passed = seen <= spec.detectable
    word = "a loss that large would be seen" if passed else "undecided: add questions"
    reason = f"a loss of {seen:.4f} can be seen, {spec.detectable:g} is asked for: {word}"
    return _of("detectable", golden, found, passed=passed, reason=reason)


def _worst_slice(spec: GateSpec, golden: GoldenSet, found: Difference) -> Check:
    passed = found.statistic.difference >= -spec.worst_slice
    reason = f"{found.slice} moved by {found.statistic.difference:+.4f}, a loss of {spec.worst_slice:g} is allowed"
    return _of("worst_slice", golden, found, passed=passed, reason=reason)


def _of(name: str, golden: GoldenSet, found: Difference, *, passed: bool, reason: str) -> Check:
    return Check(
        name=name,
        dataset=golden.name,
        passed=passed,
        reason=reason,
        baseline=found.baseline,
        candidate=found.candidate,
        difference=found.statistic.difference,
        low=found.statistic.low,
        high=found.statistic.high,
        p_value=found.statistic.p_value,
        minimum_detectable_effect=found.statistic.minimum_detectable_effect,
        questions=found.statistic.questions,
    )
