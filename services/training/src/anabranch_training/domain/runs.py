"""Runs, what starts them, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from anabranch_faults import Invalid

__all__ = [
    "ACTIVE",
    "FEWEST",
    "SERVICE",
    "DatasetKind",
    "ModelKind",
    "Policy",
    "Recipe",
    "Run",
    "RunState",
    "Trigger",
    "due",
    "run_id_from",
]

FEWEST: Final = 20
"""Feedback below which nothing can be learned, whatever a policy says."""


class DatasetKind(StrEnum):
    """What a data set is for."""

    RANKING = "ranking"
    PREFERENCE = "preference"
    SFT = "sft"


class ModelKind(StrEnum):
    """What a model does; also its kind in the artifact store."""

    RERANKER = "reranker"
    REWARD = "reward"
    ADAPTER = "adapter"


class Recipe(StrEnum):
    """What is made."""

    RERANKER = "reranker"
    REWARD = "reward"
    ADAPTER_SFT = "adapter_sft"
    ADAPTER_DPO = "adapter_dpo"
    DATASET = "dataset"

    @property
    def learns_from(self) -> DatasetKind:
        """The kind of data set it takes; of DATASET, the usual one."""
        return _LEARNS_FROM.get(self, DatasetKind.RANKING)

    @property
    def makes(self) -> ModelKind | None:
        """The kind of model it makes."""
        return _MAKES.get(self)


_LEARNS_FROM: Final = {
    Recipe.REWARD: DatasetKind.PREFERENCE,
    Recipe.ADAPTER_DPO: DatasetKind.PREFERENCE,
    Recipe.ADAPTER_SFT: DatasetKind.SFT,
}
_MAKES: Final = {
    Recipe.RERANKER: ModelKind.RERANKER,
    Recipe.REWARD: ModelKind.REWARD,
    Recipe.ADAPTER_SFT: ModelKind.ADAPTER,
    Recipe.ADAPTER_DPO: ModelKind.ADAPTER,
}


class Trigger(StrEnum):
    """Why a run was started."""

    FEEDBACK = "feedback"
    DRIFT = "drift"
    SCHEDULE = "schedule"
    BY_HAND = "by_hand"


class RunState(StrEnum):
    """How far a run is."""

    QUEUED = "queued"
    BUILDING_DATASET = "building_dataset"
    TRAINING = "training"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE: Final = frozenset({RunState.BUILDING_DATASET, RunState.TRAINING})
SERVICE: Final = "service:training"
"""Author of what starts by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `gold`: it learns from labels that came with the request, which the run's keeper holds.

    A run that makes only a data set names its kind; it is never kept, and others' recipes tell it.
    """

    run_id: str
    tenant: str
    corpus: str
    recipe: Recipe
    trigger: Trigger
    author: str
    reason: str
    queued_at: datetime
    seed: int = 0
    gold: bool = False
    reverse_labels: bool = False
    withheld: bool = False
    dataset_kind: DatasetKind | None = None
    state: RunState = RunState.QUEUED
    problem: str = ""
    dataset_version: str = ""
    model_version: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    number: int = 0

    @property
    def kind(self) -> DatasetKind:
        """Of the data set it makes."""
        return self.dataset_kind or self.recipe.learns_from

    @property
    def scope(self) -> str:
        """Whose traffic its candidate is for."""
        return f"{self.tenant}/{self.corpus}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a scope is trained: what of its loop policy concerns training. The default starts nothing by itself."""

    after_feedback: int = 0
    every: timedelta | None = None
    on_drift: bool = False
    per_user_cap: int = 50
    min_feedback: int = 200

    def __post_init__(self) -> None:
        """Refuses a schedule that never rests."""
        if self.every is not None and self.every < timedelta(seconds=1):
            raise Invalid("is shorter than a second", field="policy.training.every")


def due(
    policy: Policy, *, fresh: int, usable: int, last: datetime | None, now: datetime, drift: str = ""
) -> tuple[Trigger, str] | None:
    """Tells whether a scope is to be trained now, and why.

    `fresh` is the usable feedback since the last data set, `usable` all of it, `last` when the last run began, `drift`
    what has drifted, empty for nothing.
    """
    if fresh == 0 or usable < max(policy.min_feedback, FEWEST):
        return None
    if 0 < policy.after_feedback <= fresh:
        return Trigger.FEEDBACK, f"{fresh} new judged answers; {policy.after_feedback} were asked for"
    if policy.on_drift and drift:
        return Trigger.DRIFT, f"{drift}, {fresh} new judged answers"
    if policy.every is not None and (last is None or now - last >= policy.every):
        since = "never trained before" if last is None else f"last trained at {last.isoformat(timespec='seconds')}"
        return Trigger.SCHEDULE, f"every {policy.every}: {since}, {fresh} new judged answers"
    return None


def run_id_from(random: str) -> str:
    """A run's name from 12 or more random hex digits."""
    return f"tr-{random[:12]}"
