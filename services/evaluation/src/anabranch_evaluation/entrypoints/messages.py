"""Between messages and the domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import events_pb2 as events
from anabranch.registry.v1 import events_pb2 as registry_events
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch_evaluation.application.gating import Candidacy
from anabranch_evaluation.domain.comparison import Difference
from anabranch_evaluation.domain.gates import Gate, GateSpec
from anabranch_evaluation.domain.golden import GoldenEntry, GoldenQuestion, GoldenSet
from anabranch_evaluation.domain.runs import Run, RunState, Variant
from anabranch_evaluation.domain.statistics import GateMode
from anabranch_faults import Invalid

_STATES: Final = {
    RunState.RUNNING: pb.RUN_STATE_RUNNING,
    RunState.DONE: pb.RUN_STATE_DONE,
    RunState.FAILED: pb.RUN_STATE_FAILED,
}
_MODES: Final = {
    loop_pb2.GATE_MODE_UNSPECIFIED: GateMode.IMPROVEMENT,
    loop_pb2.GATE_MODE_IMPROVEMENT: GateMode.IMPROVEMENT,
    loop_pb2.GATE_MODE_NO_REGRESSION: GateMode.NO_REGRESSION,
}


def timestamp(at: datetime | None) -> Timestamp | None:
    """As a message; None where there is none."""
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at)
    return message


def finite(value: float) -> float:
    """A number for a reader: what is unbounded becomes the largest there is."""
    return value if math.isfinite(value) else math.copysign(1e308, value)


def golden_from(request: pb.PutDatasetRequest) -> GoldenSet:
    """The golden set as it came, unchecked."""
    return GoldenSet(
        tenant=request.tenant,
        name=request.name,
        corpus=request.corpus,
        slices=tuple(sorted(set(request.slices))),
        questions=tuple(
            GoldenQuestion(
                question_id=one.question_id,
                text=one.text,
                answers=tuple(one.answers),
                documents=dict(one.relevant_documents),
                chunks=dict(one.relevant_chunks),
                metadata=dict(one.metadata),
                unanswerable=one.unanswerable,
            )
            for one in request.questions
        ),
    )


def entry_message(entry: GoldenEntry) -> pb.GoldenSet:
    """A golden set in a line."""
    return pb.GoldenSet(
        name=entry.name,
        corpus=entry.corpus,
        dataset_version=entry.version,
        questions=entry.questions,
        put_at=timestamp(entry.put_at),
    )


def run_message(run: Run) -> pb.Run:
    """A run with its metrics."""
    return pb.Run(
        run_id=run.run_id,
        tenant=run.key.tenant,
        dataset=run.key.dataset,
        dataset_version=run.key.dataset_version,
        variant_id=run.key.variant_id,
        corpus=run.key.corpus,
        index_generation=run.index_generation,
        state=_STATES[run.state],
        problem=run.problem,
        questions_done=run.done,
        questions_total=run.total,
        metrics=[
            pb.Metric(
                name=one.name,
                value=one.value,
                low=one.low,
                high=one.high,
                questions=one.questions,
                slice=one.slice,
            )
            for one in run.metrics
        ],
        started_at=timestamp(run.started_at),
        finished_at=timestamp(run.finished_at),
        answers=run.key.answers,
    )


def difference_message(one: Difference) -> pb.Difference:
    """One metric of two runs."""
    seen = one.statistic
    return pb.Difference(
        name=one.name,
        slice=one.slice,
        baseline=one.baseline,
        candidate=one.candidate,
        difference=seen.difference,
        low=finite(seen.low),
        high=finite(seen.high),
        p_value=seen.p_value,
        minimum_detectable_effect=finite(seen.minimum_detectable_effect),
        questions=seen.questions,
        better=seen.better,
        worse=seen.worse,
    )


def spec_from(message: loop_pb2.GateSpec) -> GateSpec:
    """What is asked of a candidate, with the contract's defaults."""
    return GateSpec(
        datasets=tuple(message.datasets),
        metric=message.metric or "ndcg@10",
        mode=_MODES.get(message.mode, GateMode.IMPROVEMENT),
        margin=message.margin,
        alpha=message.alpha or 0.05,
        detectable=message.detectable,
        worst_slice=message.worst_slice or 0.05,
        latency_ratio=message.latency_ratio or 1.5,
        cost_ratio=message.cost_ratio,
    )


def variant_from(message: registry_events.Variant) -> Variant:
    """A bundle, its settings carried as they are."""
    return Variant(
        variant_id=message.variant_id,
        retrieval=message.retrieval,
        generation=message.generation,
        reranker=message.retrieval.reranker_version,
    )


def candidacy_from(message: lineage_pb2.CandidateChanged) -> Candidacy | None:
    """The candidate that waits for a gate, None for one that does not. Raises Invalid for one that names nothing."""
    candidate = message.candidate
    if candidate.state != lineage_pb2.CANDIDATE_STATE_TRAINED:
        return None
    for field in ("candidate_id", "scope"):
        if not getattr(candidate, field):
            raise Invalid("is empty", field=f"candidate.{field}")
    for field in ("base", "variant"):
        if not getattr(candidate, field).variant_id:
            raise Invalid("is empty", field=f"candidate.{field}.variant_id")
    return Candidacy(
        candidate_id=candidate.candidate_id,
        scope=candidate.scope,
        baseline=variant_from(candidate.base),
        candidate=variant_from(candidate.variant),
        spec=spec_from(message.policy.gate),
        revision=candidate.revision,
    )


def gate_message(gate: Gate) -> events.GateDecided:
    """The verdict."""
    return events.GateDecided(
        gate_id=gate.gate_id,
        candidate_id=gate.candidate_id,
        scope=gate.scope,
        baseline_variant_id=gate.baseline_variant_id,
        candidate_variant_id=gate.candidate_variant_id,
        passed=gate.passed,
        checks=_checks(gate.checks),
        reason=gate.reason,
        decided_at=timestamp(gate.decided_at),
    )


def _checks(checks: Sequence[Any]) -> list[events.GateCheck]:
    return [
        events.GateCheck(
            name=one.name,
            dataset=one.dataset,
            baseline=one.baseline,
            candidate=one.candidate,
            difference=one.difference,
            low=finite(one.low),
            high=finite(one.high),
            p_value=one.p_value,
            minimum_detectable_effect=finite(one.minimum_detectable_effect),
            questions=one.questions,
            passed=one.passed,
            reason=one.reason,
        )
        for one in checks
    ]
