"""What the use cases need of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from anabranch_faults import Invalid
from anabranch_training.domain import Judgment
from anabranch_training.domain.opinions import Opinion
from anabranch_training.domain.ratings import GoldQuestion, Taken
from anabranch_training.domain.runs import DatasetKind, ModelKind, Policy, Run, Trigger


class NotEnough(Invalid):
    """There is too little to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What a corpus has to learn from. `fresh`: not in any data set yet; `positive`, `negative`: by direction."""

    tenant: str
    corpus: str
    usable: int = 0
    fresh: int = 0
    positive: int = 0
    negative: int = 0
    last_run_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a data set is made of, and what was kept out of it."""

    judgments: Sequence[Judgment]
    opinions: Sequence[Opinion] = ()
    answers: frozenset[str] = frozenset()
    feedback: int = 0
    withdrawn: int = 0
    denied: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDataset:
    """A data set: its entry, and the folder its files are in until they are stored."""

    version: str
    digest: str
    tenant: str
    corpus: str
    counts: Mapping[str, int]
    first: datetime
    last: datetime
    datasheet: str
    documents: frozenset[str] = frozenset()
    folder: Path | None = None
    created_at: datetime | None = None
    kind: DatasetKind = DatasetKind.RANKING


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeModel:
    """A model: its entry, and the folder its files are in until they are stored.

    `declined` says why it is not worth a place before people; empty where it is.
    """

    format: str
    algorithm: str
    feature_set: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    provenance: Mapping[str, str]
    card: str
    declined: str = ""
    folder: Path
    version: str = ""
    digest: str = ""
    kind: ModelKind = ModelKind.RERANKER
    base_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a run's process made."""

    dataset: MadeDataset
    model: MadeModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A page of runs, newest first; `following` is the number to list on from, 0 at the end."""

    runs: Sequence[Run]
    following: int = 0


class Book(Protocol):
    """Feedback, runs and data sets, kept for ever. Raises Transient, Unreachable."""

    async def take(self, ratings: Sequence[tuple[str, Taken]]) -> int:
        """Keeps feedback by event id, each event once and the highest revision of each; returns how many were new."""

    async def supply(self, tenant: str, corpus: str) -> Supply:
        """Counts what a corpus has to learn from."""

    async def supplies(self) -> Sequence[Supply]:
        """Of every corpus that has fresh feedback."""

    async def material(self, run: Run, *, most: int) -> Material:
        """Returns the newest `most` usable feedbacks' judgments, and counts them as fresh no longer."""

    async def selection(self, tenant: str, corpus: str, since: datetime | None, until: datetime | None) -> Material:
        """Returns the usable judgments of a time; nothing changes."""

    async def queue(self, run: Run, gold: Sequence[GoldQuestion] = ()) -> Run | None:
        """Keeps a run; None where it is automatic and another automatic one of its corpus has not ended yet.

        Feedback that an automatic run was started for is fresh no longer, whatever becomes of the run.
        """

    async def gold(self, run_id: str) -> Sequence[GoldQuestion]:
        """Returns the labels a run came with."""

    async def run(self, run_id: str) -> Run | None:
        """Returns one run."""

    async def runs(self, *, tenant: str, corpus: str, count: int, before: int = 0) -> Runs:
        """Returns the `count` runs next older than number `before`; empty tenant: all."""

    async def unfinished(self) -> Sequence[Run]:
        """Returns runs that have not ended, those under way first, then by age."""

    async def move(self, run: Run) -> bool:
        """Keeps the run as given, unless it has ended already; tells whether it did."""

    async def finish(self, run: Run, made: Made, answers: frozenset[str]) -> bool:
        """As `move`, keeps the data set and tells everybody of the model, if there is one, all or nothing."""

    async def keep(self, dataset: MadeDataset, answers: frozenset[str]) -> MadeDataset:
        """Keeps a data set's entry; one that is there already stays."""

    async def uses(self, tenant: str, *, answer_id: str, corpus: str, document_id: str) -> Sequence[MadeDataset]:
        """Returns data sets that hold feedback about the answer, or the document, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run's process is to do."""

    run: Run
    material: Material
    per_user_cap: int


class Workshop(Protocol):
    """Where runs are done, each in a process of its own."""

    def ordered(self, run_id: str) -> bool:
        """Tells whether a run's order is written already: it needs no second look at the feedback."""

    async def order(self, order: Order) -> None:
        """Writes down what a run is to do, all or nothing."""

    async def answers(self, run_id: str) -> frozenset[str]:
        """Returns the answers a run's material is about."""

    async def work(self, run_id: str) -> Made:
        """Does what was ordered, going on from where an earlier process stopped; cancelled, it stops the process.

        Raises NotEnough for material that teaches nothing, Invalid when the process failed for good.
        """

    async def clear(self, run_id: str) -> None:
        """Forgets the run's files."""


class Shelf(Protocol):
    """The artifact store."""

    async def put(self, made: Made) -> Made:
        """Stores and signs what was made; returns it with versions and digests. The same content is stored once."""


class Searcher(Protocol):
    """The search that candidates will rerank."""

    async def judged(self, run: Run, questions: Sequence[GoldQuestion]) -> Sequence[Judgment]:
        """Searches as the scope's present variant does, and labels what was found. Raises Unreachable, Invalid."""


class Feedback(Protocol):
    """The feedback service: what people said with the words it is about. Raises Unreachable, Transient."""

    async def count(self, tenant: str, corpus: str) -> int:
        """Counts feedback that may say something about words."""

    async def opinions(
        self, tenant: str, corpus: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Material:
        """Returns what may be used: nothing withdrawn, nothing without consent, nothing whose words were not kept."""


class Tracker(Protocol):
    """Where runs are compared, outside of the platform."""

    async def ended(self, run: Run, made: Made | None) -> None:
        """Tells of a run that ended, and what it made. Never raises: a run does not fail by it."""


class Policies(Protocol):
    """When scopes are trained."""

    def of(self, tenant: str, corpus: str) -> Policy:
        """Returns the policy that holds: the corpus's own, else the tenant's, else everyone's, else the default."""


@dataclass
class LoopPolicies:
    """As the registry tells them."""

    _by_scope: dict[str, Policy] = field(default_factory=dict)

    def put(self, scope: str, policy: Policy | None) -> None:
        """Keeps a scope's policy; None: it has none of its own any more."""
        if policy is None:
            self._by_scope.pop(scope, None)
        else:
            self._by_scope[scope] = policy

    def of(self, tenant: str, corpus: str) -> Policy:
        """As in the port."""
        for scope in (f"{tenant}/{corpus}", tenant, "*"):
            if scope in self._by_scope:
                return self._by_scope[scope]
        return Policy()


AUTOMATIC = frozenset({Trigger.FEEDBACK, Trigger.DRIFT, Trigger.SCHEDULE})
