"""Two runs side by side, paired by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anabranch_evaluation.domain.golden import GoldenSet
from anabranch_evaluation.domain.runs import SCORER_METRICS, SMALLEST_SLICE, Run, names_of
from anabranch_evaluation.domain.statistics import GateMode, GateStatistic, paired_gate
from anabranch_faults import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One metric of two runs. `low` and `high` each hold at one-sided alpha."""

    name: str
    slice: str
    baseline: float
    candidate: float
    statistic: GateStatistic


def pairs_of(baseline: Run, candidate: Run, name: str) -> dict[str, tuple[float, float]]:
    """Question id -> both scores, in order of ids, of the questions that both runs have the metric for."""
    return {
        key: (baseline.questions[key].scores[name], candidate.questions[key].scores[name])
        for key in sorted(set(baseline.questions) & set(candidate.questions))
        if name in baseline.questions[key].scores and name in candidate.questions[key].scores
    }


def difference(
    pairs: Sequence[tuple[float, float]],
    *,
    name: str,
    group: str = "",
    mode: GateMode = GateMode.NO_REGRESSION,
    margin: float = 0.0,
    alpha: float = 0.05,
) -> Difference:
    """The paired difference."""
    before, after = [one for one, _ in pairs], [two for _, two in pairs]
    return Difference(
        name=name,
        slice=group,
        baseline=float(np.mean(before)) if before else 0.0,
        candidate=float(np.mean(after)) if after else 0.0,
        statistic=paired_gate(before, after, mode=mode, margin=margin, alpha=alpha),
    )


def compare_runs(golden: GoldenSet, baseline: Run, candidate: Run) -> tuple[list[Difference], list[Difference]]:
    """Every metric and slice, and per metric the slice that lost most (of at least 20 questions).

    Intervals are two-sided, 95 %. What two versions of the scorer measured is not compared.

    Raises Conflict when the runs are not over the same questions.
    """
    if baseline.key.dataset_version != candidate.key.dataset_version:
        raise Conflict(
            f"the runs are over {baseline.key.dataset_version} and {candidate.key.dataset_version}: run one again",
            reason="OTHER_DATASET",
        )
    found: list[Difference] = []
    worst: list[Difference] = []
    for name in names_of(baseline.questions):
        if name in SCORER_METRICS and baseline.key.scorer != candidate.key.scorer:
            continue
        pairs = pairs_of(baseline, candidate, name)
        found.append(difference(list(pairs.values()), name=name, alpha=0.025))
        slices = [
            difference([pairs[key] for key in members], name=name, group=group, alpha=0.025)
            for group, members in golden.groups(pairs).items()
        ]
        found += slices
        judged = [one for one in slices if one.statistic.questions >= SMALLEST_SLICE]
        if judged:
            worst.append(min(judged, key=lambda one: (one.statistic.difference, one.slice)))
    return found, worst
