"""Between the domain and messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1 import events_pb2 as events
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch_faults import Invalid
from anabranch_training.application.ports import Made, MadeDataset, MadeModel
from anabranch_training.application.runs import Request
from anabranch_training.domain.ratings import GoldQuestion
from anabranch_training.domain.runs import DatasetKind, Recipe, Run

__all__ = [
    "candidate_message",
    "dataset_message",
    "kind_from",
    "moment",
    "recipe_from",
    "request_from",
    "stamp",
    "training_message",
]


_RECIPES: Final[Mapping[Recipe, pb.Recipe.ValueType]] = {
    recipe: pb.Recipe.Value(f"RECIPE_{recipe.value.upper()}") for recipe in Recipe if recipe is not Recipe.DATASET
}


def recipe_from(number: int) -> Recipe:
    """A recipe; unset, the reranker's. Raises Invalid."""
    if number == pb.RECIPE_UNSPECIFIED:
        return Recipe.RERANKER
    for recipe, value in _RECIPES.items():
        if value == number:
            return recipe
    raise Invalid(f"there is no recipe {number}", field="recipe", reason="UNKNOWN_RECIPE")


def kind_from(number: int) -> DatasetKind:
    """A kind of data set; unset, for ranking. Raises Invalid."""
    if number == lineage.DATASET_KIND_UNSPECIFIED:
        return DatasetKind.RANKING
    for kind in DatasetKind:
        if lineage.DatasetKind.Value(f"DATASET_KIND_{kind.value.upper()}") == number:
            return kind
    raise Invalid("data sets for ranking, preferences and SFT are built here", field="kind", reason="UNKNOWN_KIND")


def stamp(target: Timestamp, at: datetime | None) -> None:
    """Sets a time, where there is one."""
    if at is not None:
        target.FromDatetime(at)


def moment(message: Any, name: str) -> datetime | None:
    """The time a field holds, None where it is not set."""
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None


def request_from(message: pb.StartTrainingRequest) -> Request:
    """The run to be, unchecked."""
    return Request(
        tenant=message.tenant,
        corpus=message.corpus,
        author=message.author,
        reason=message.reason,
        seed=message.seed,
        gold=[
            GoldQuestion(
                question=one.question,
                relevant=frozenset(name for name, grade in one.relevant_documents.items() if grade > 0),
            )
            for one in message.gold
        ],
        reverse_labels=message.reverse_labels,
        withheld=message.withheld,
        recipe=recipe_from(message.recipe),
    )


def training_message(run: Run) -> pb.Training:
    """A run as it stands."""
    message = pb.Training(
        run_id=run.run_id,
        tenant=run.tenant,
        corpus=run.corpus,
        recipe=_RECIPES.get(run.recipe, pb.RECIPE_UNSPECIFIED),
        trigger=events.Trigger.Value(f"TRIGGER_{run.trigger.value.upper()}"),
        state=pb.TrainingState.Value(f"TRAINING_STATE_{run.state.value.upper()}"),
        problem=run.problem,
        dataset_version=run.dataset_version,
        model_version=run.model_version,
        parameters=run.parameters,
        metrics=run.metrics,
        author=run.author,
        reason=run.reason,
        withheld=run.withheld,
    )
    stamp(message.queued_at, run.queued_at)
    stamp(message.started_at, run.started_at)
    stamp(message.finished_at, run.finished_at)
    return message


def dataset_message(made: MadeDataset) -> lineage.Dataset:
    """A data set's entry."""
    message = lineage.Dataset(
        dataset_version=made.version,
        kind=lineage.DatasetKind.Value(f"DATASET_KIND_{made.kind.value.upper()}"),
        tenant=made.tenant,
        corpus=made.corpus,
        digest=made.digest,
        counts=made.counts,
        datasheet=made.datasheet,
    )
    stamp(message.first_at, made.first)
    stamp(message.last_at, made.last)
    stamp(message.created_at, made.created_at)
    return message


def candidate_message(run: Run, made: Made) -> events.CandidateTrained:
    """A model that may become a variant."""
    message = events.CandidateTrained(
        run_id=run.run_id,
        scope=run.scope,
        dataset=dataset_message(made.dataset),
        trigger=events.Trigger.Value(f"TRIGGER_{run.trigger.value.upper()}"),
        author=run.author,
        reason=run.reason,
        withheld=run.withheld,
    )
    if made.model is not None:
        message.model.CopyFrom(_model_message(run, made.model, made.dataset))
    stamp(message.trained_at, run.finished_at)
    return message


def _model_message(run: Run, made: MadeModel, dataset: MadeDataset) -> lineage.Model:
    message = lineage.Model(
        model_version=made.version,
        kind=lineage.ModelKind.Value(f"MODEL_KIND_{made.kind.value.upper()}"),
        digest=made.digest,
        format=made.format,
        algorithm=made.algorithm,
        dataset_version=dataset.version,
        base_model=made.base_model,
        feature_set=made.feature_set,
        metrics=made.metrics,
        provenance=made.provenance,
        card=made.card,
    )
    stamp(message.created_at, run.finished_at)
    return message
