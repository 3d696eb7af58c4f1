"""Runs: one variant over one golden set, scored question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import numpy as np

from anabranch_evaluation.domain.costs import Usage
from anabranch_evaluation.domain.golden import GoldenSet
from anabranch_evaluation.domain.statistics import mean_interval

RETRIEVAL_METRICS: Final = ("ndcg@10", "mrr@10", "recall@10", "precision@5")
ANSWER_METRICS: Final = ("em", "f1", "rouge_l", "bleu", "chrf", "similarity", "groundedness", "reward", "abstention")
SCORER_METRICS: Final = frozenset({"similarity", "groundedness", "reward"})
"""Those that another version of the scorer gives another meaning."""
DEPTH: Final = 10
"""Passages asked for at least, so that a metric at 10 has ten to look at."""
SMALLEST_SLICE: Final = 20


class RunState(Enum):
    """How far a run is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is run. Settings are carried, not looked into; `reranker` is the model version asked for, empty for none."""

    variant_id: str
    retrieval: object
    generation: object
    reranker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One question's scores, higher is better, how long its search took, and what its answer took, if it has one."""

    scores: Mapping[str, float]
    latency: timedelta
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """What a run is about: equal keys over the same index give equal scores, so one run serves all who ask.

    `scorer`: version of what scores the answers; empty where none are asked for.
    """

    tenant: str
    dataset: str
    dataset_version: str
    variant_id: str
    corpus: str
    answers: bool = False
    scorer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number with its 95 % interval; `slice` is `key=value`, empty for all questions."""

    name: str
    value: float
    low: float
    high: float
    questions: int
    slice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it stands."""

    run_id: str
    key: RunKey
    state: RunState
    started_at: datetime
    index_generation: int = 0
    problem: str = ""
    done: int = 0
    total: int = 0
    metrics: Sequence[Metric] = ()
    finished_at: datetime | None = None
    questions: Mapping[str, Scored] = field(default_factory=dict)
    """By question id; filled where a run is read whole."""


def summary(golden: GoldenSet, questions: Mapping[str, Scored]) -> list[Metric]:
    """Means with bootstrap intervals over questions, by metric and slice. Independent of the order of `questions`."""
    found: list[Metric] = []
    for name in names_of(questions):
        values = {key: questions[key].scores[name] for key in sorted(questions) if name in questions[key].scores}
        found.append(_metric(name, list(values.values())))
        for group, members in golden.groups(values).items():
            found.append(_metric(name, [values[key] for key in members], group))
    latencies = np.sort([one.latency.total_seconds() for one in questions.values()])
    if latencies.size:
        for name, share in (("latency_p50", 50), ("latency_p95", 95)):
            value = float(np.percentile(latencies, share))
            found.append(Metric(name=name, value=value, low=value, high=value, questions=int(latencies.size)))
    return found


def names_of(questions: Mapping[str, Scored]) -> list[str]:
    """The metrics that any question has, in a fixed order."""
    present = {name for one in questions.values() for name in one.scores}
    return [name for name in (*RETRIEVAL_METRICS, *ANSWER_METRICS) if name in present]


def _metric(name: str, values: Sequence[float], group: str = "") -> Metric:
    found = mean_interval(values)
    return Metric(name=name, value=found.mean, low=found.low, high=found.high, questions=found.count, slice=group)
