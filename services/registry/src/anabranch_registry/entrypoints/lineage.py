"""Between the messages of models, candidates and experiments, and the domain."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import loop_pb2 as loops
from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch_faults import Invalid
from anabranch_registry.application import Standing
from anabranch_registry.application.records import Lineage
from anabranch_registry.domain.artifacts import Dataset, Model, ModelKind
from anabranch_registry.domain.candidates import Candidate
from anabranch_registry.domain.experiments import Arm, Experiment
from anabranch_registry.domain.notes import Label, Note
from anabranch_registry.domain.policies import Loop
from anabranch_registry.entrypoints.messages import variant_message
from anabranch_registry.entrypoints.policies import message_of

__all__ = [
    "arm_from",
    "candidate_changed",
    "candidate_message",
    "change_message",
    "dataset_from",
    "dataset_message",
    "experiment_message",
    "kind_from",
    "label_message",
    "lineage_message",
    "loop_message",
    "model_from",
    "model_message",
]


def model_from(message: lineage.Model) -> Model:
    """Return the entry as it came, its version from its digest where that is left out. Raises Invalid."""
    kind = kind_from(message.kind)
    if kind is None:
        raise Invalid("is missing", field="model.kind", reason="MISSING")
    return Model(
        model_version=message.model_version or Model.named(kind, message.digest),
        kind=kind,
        digest=message.digest,
        format=message.format,
        algorithm=message.algorithm,
        dataset_version=message.dataset_version,
        base_model=message.base_model,
        feature_set=message.feature_set,
        # JSON has no word for the others.
        metrics={name: value for name, value in message.metrics.items() if math.isfinite(value)},
        provenance=dict(message.provenance),
        card=message.card,
        created_at=_time(message, "created_at") or datetime.now(UTC),
    )


def kind_from(kind: int) -> ModelKind | None:
    """Return the kind, None for any. Raises Invalid."""
    name = _name(lineage.ModelKind, kind, "MODEL_KIND_")
    if kind and name == "UNSPECIFIED":
        raise Invalid(f"there is no kind {kind}", field="kind", reason="UNKNOWN_KIND")
    return ModelKind(name) if kind else None


def model_message(model: Model, *, card: bool = True) -> lineage.Model:
    """Return the entry."""
    message = lineage.Model(
        model_version=model.model_version,
        kind=lineage.ModelKind.Value(f"MODEL_KIND_{model.kind}"),
        digest=model.digest,
        format=model.format,
        algorithm=model.algorithm,
        dataset_version=model.dataset_version,
        base_model=model.base_model,
        feature_set=model.feature_set,
        metrics=model.metrics,
        provenance=model.provenance,
        card=model.card if card else "",
    )
    message.created_at.FromDatetime(model.created_at)
    return message


def dataset_from(message: lineage.Dataset) -> Dataset:
    """Return the entry as it came, its version from its digest where that is left out."""
    return Dataset(
        dataset_version=message.dataset_version or f"ds-{message.digest[:12]}",
        kind=_name(lineage.DatasetKind, message.kind, "DATASET_KIND_"),
        tenant=message.tenant,
        corpus=message.corpus,
        digest=message.digest,
        counts=dict(message.counts),
        first_at=_time(message, "first_at"),
        last_at=_time(message, "last_at"),
        datasheet=message.datasheet,
        created_at=_time(message, "created_at") or datetime.now(UTC),
    )


def dataset_message(dataset: Dataset, *, datasheet: bool = True) -> lineage.Dataset:
    """Return the entry."""
    message = lineage.Dataset(
        dataset_version=dataset.dataset_version,
        kind=lineage.DatasetKind.Value(f"DATASET_KIND_{dataset.kind}"),
        tenant=dataset.tenant,
        corpus=dataset.corpus,
        digest=dataset.digest,
        counts=dataset.counts,
        datasheet=dataset.datasheet if datasheet else "",
    )
    message.created_at.FromDatetime(dataset.created_at)
    if dataset.first_at is not None:
        message.first_at.FromDatetime(dataset.first_at)
    if dataset.last_at is not None:
        message.last_at.FromDatetime(dataset.last_at)
    return message


def candidate_message(candidate: Candidate) -> lineage.Candidate:
    """Return the candidate with its bundles."""
    message = lineage.Candidate(
        candidate_id=candidate.candidate_id,
        scope=candidate.scope,
        model_version=candidate.model_version,
        dataset_version=candidate.dataset_version,
        base=variant_message(candidate.base),
        variant=variant_message(candidate.variant),
        state=lineage.CandidateState.Value(f"CANDIDATE_STATE_{candidate.state}"),
        reason=candidate.reason,
        awaiting=candidate.awaiting,
        experiment_id=candidate.experiment_id,
        revision=candidate.revision,
        author=candidate.author,
    )
    message.created_at.FromDatetime(candidate.created_at)
    message.changed_at.FromDatetime(candidate.changed_at)
    return message


def candidate_changed(standing: Standing) -> lineage.CandidateChanged:
    """Return the candidate with the policy that holds for it."""
    policy = message_of(standing.policy.document, loops.LoopPolicy)
    return lineage.CandidateChanged(candidate=candidate_message(standing.candidate), policy=policy)


def arm_from(message: lineage.Arm) -> Arm:
    """Return the arm as it came."""
    return Arm(name=message.name, variant_id=message.variant_id, weight=message.weight, control=message.control)


def experiment_message(experiment: Experiment) -> lineage.Experiment:
    """Return the experiment."""
    message = lineage.Experiment(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        scope=experiment.scope,
        arms=[
            lineage.Arm(
                name=arm.name,
                variant_id=arm.variant_id,
                weight=arm.weight,
                control=arm.control,
                stopped=arm.stopped,
            )
            for arm in experiment.arms
        ],
        design=message_of(experiment.design, loops.ExperimentDesign),
        canary=message_of(experiment.canary, loops.CanaryPolicy),
        phase=lineage.ExperimentPhase.Value(f"EXPERIMENT_PHASE_{experiment.phase}"),
        phase_revision=experiment.phase_revision,
        arms_revision=experiment.arms_revision,
        candidate_id=experiment.candidate_id,
        holdout=message_of(experiment.holdout, loops.HoldoutPolicy),
        outcome=experiment.outcome,
        winner=experiment.winner,
        revision=experiment.revision,
        author=experiment.author,
        reason=experiment.reason,
    )
    message.phase_started_at.FromDatetime(experiment.phase_started_at)
    message.created_at.FromDatetime(experiment.created_at)
    if experiment.holdout_until is not None:
        message.holdout_until.FromDatetime(experiment.holdout_until)
    return message


def loop_message(loop: Loop) -> loops.LoopChanged:
    """Return the policy of a scope."""
    message = loops.LoopChanged(
        scope=loop.scope,
        revision=loop.revision,
        policy=message_of(loop.policy.document, loops.LoopPolicy),
        author=loop.change.author,
        reason=loop.change.reason,
    )
    message.changed_at.FromDatetime(loop.change.at)
    return message


def label_message(label: Label) -> pb.Label:
    """Return the label."""
    message = pb.Label(
        scope=label.scope,
        name=label.name,
        variant_id=label.variant_id,
        revision=label.revision,
        author=label.change.author,
        reason=label.change.reason,
    )
    message.changed_at.FromDatetime(label.change.at)
    return message


def change_message(note: Note) -> lineage.Change:
    """Return a row of the audit."""
    message = lineage.Change(
        number=note.number,
        subject_kind=note.subject_kind,
        subject=note.subject,
        what=note.what,
        scope=note.scope,
        author=note.author,
        reason=note.reason,
    )
    message.at.FromDatetime(note.at)
    return message


def lineage_message(found: Lineage) -> pb.GetLineageResponse:
    """Return the chain."""
    message = pb.GetLineageResponse()
    for node in found.nodes:
        added = message.nodes.add(id=node.id, kind=node.kind, summary=node.summary)
        if node.at > datetime.min.replace(tzinfo=UTC):
            added.at.FromDatetime(node.at)
    for link in found.links:
        # `from` is a word of Python.
        message.edges.append(pb.LineageEdge(**{"from": link.source, "to": link.target, "how": link.how}))
    return message


def _time(message: Any, field: str) -> datetime | None:
    return getattr(message, field).ToDatetime(tzinfo=UTC) if message.HasField(field) else None


def _name(enum: Any, value: int, prefix: str) -> str:
    return str(enum.Name(value)).removeprefix(prefix) if value in enum.values() else "UNSPECIFIED"
