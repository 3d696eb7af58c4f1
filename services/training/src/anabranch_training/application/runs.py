"""Runs as people see them: begun by hand, looked at, stopped; and data sets."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from anabranch_faults import Invalid, NotFound, TooLarge
from anabranch_training.application.ports import (
    Book,
    Feedback,
    MadeDataset,
    NotEnough,
    Policies,
    Shelf,
    Supply,
    Workshop,
)
from anabranch_training.application.ports import Order as WorkOrder
from anabranch_training.domain.ratings import GoldQuestion
from anabranch_training.domain.runs import FEWEST, DatasetKind, Policy, Recipe, Run, RunState, Trigger, run_id_from

__all__ = [
    "BuildDataset",
    "CancelTraining",
    "GetTraining",
    "ListTrainings",
    "Request",
    "StartTraining",
    "Status",
    "TraceUse",
]

_PAGE: Final = 50
_MAX_PAGE: Final = 100
_MOST_GOLD: Final = 20_000
_MOST_TEXT: Final = 4_096
_MOST_SEED: Final = 2**32
FEWEST_WORDED: Final = 10
"""Feedback about words below which no data set of words can be made."""


def utc_now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A run to be."""

    tenant: str
    corpus: str
    author: str
    reason: str = ""
    seed: int = 0
    gold: Sequence[GoldQuestion] = ()
    reverse_labels: bool = False
    withheld: bool = False
    recipe: Recipe = Recipe.RERANKER


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTraining:
    """Queues a run by hand. `recipes`: those that can be done here."""

    book: Book
    policies: Policies
    feedback: Feedback
    recipes: frozenset[Recipe] = frozenset({Recipe.RERANKER, Recipe.REWARD})
    started: Callable[[], None]
    now: Callable[[], datetime] = utc_now

    async def __call__(self, request: Request) -> Run:
        """Return the run as queued. Raises Invalid, TooLarge, NotEnough."""
        _checked(request)
        ranking = request.recipe.learns_from is DatasetKind.RANKING
        if request.recipe not in self.recipes:
            raise Invalid(
                f"{request.recipe.value} needs ANABRANCH_TRAINING_ADAPTERS_PYTHON and ..._ADAPTERS_BASE, which are not "
                "set here",
                field="recipe",
                reason="UNKNOWN_RECIPE",
            )
        if not ranking and (request.gold or request.reverse_labels):
            raise Invalid(
                f"{request.recipe.value} learns from feedback as it is",
                field="gold" if request.gold else "reverse_labels",
            )
        if not ranking:
            found = await self.feedback.count(request.tenant, request.corpus)
            if found < FEWEST_WORDED:
                raise NotEnough(
                    f"{request.tenant}/{request.corpus} has {found} feedbacks about words and needs {FEWEST_WORDED}",
                    field="corpus",
                    reason="TOO_FEW",
                )
        elif request.gold:
            if len(request.gold) < FEWEST:
                raise NotEnough(f"{len(request.gold)} questions are too few: at least {FEWEST}", field="gold")
        else:
            enough(
                await self.book.supply(request.tenant, request.corpus),
                self.policies.of(request.tenant, request.corpus),
            )
        run = Run(
            run_id=run_id_from(secrets.token_hex(6)),
            tenant=request.tenant,
            corpus=request.corpus,
            recipe=request.recipe,
            trigger=Trigger.BY_HAND,
            author=request.author,
            reason=request.reason or "trained by hand",
            queued_at=self.now(),
            seed=request.seed,
            gold=bool(request.gold),
            reverse_labels=request.reverse_labels,
            # What speaks or scores is put before people by hand only: the gates look at the search.
            withheld=request.withheld or not ranking,
        )
        queued = await self.book.queue(run, request.gold)
        self.started()
        return queued or run


def enough(supply: Supply, policy: Policy) -> None:
    """Raises NotEnough where feedback is too little, or all of one kind."""
    needed = max(policy.min_feedback, FEWEST)
    where = f"{supply.tenant}/{supply.corpus}"
    if supply.usable < needed:
        raise NotEnough(
            f"{where} has {supply.usable} usable feedbacks and needs {needed}: wait for more, or lower min_feedback in "
            "its loop policy",
            field="corpus",
            reason="TOO_FEW",
        )
    if not supply.positive or not supply.negative:
        kind = "relevant" if supply.positive else "irrelevant"
        raise NotEnough(
            f"all feedback of {where} says {kind}: with one label there is nothing to tell apart",
            field="corpus",
            reason="ONE_LABEL",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTraining:
    """Finds one run."""

    book: Book

    async def __call__(self, run_id: str) -> Run:
        """Return it. Raises NotFound."""
        found = await self.book.run(run_id[:64])
        if found is None:
            raise NotFound(f"there is no run {run_id[:64]!r}", field="run_id")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTrainings:
    """Pages through runs, newest first."""

    book: Book

    async def __call__(
        self, *, tenant: str = "", corpus: str = "", page_size: int = 0, page_token: str = ""
    ) -> tuple[Sequence[Run], str]:
        """Return a page and the token of the next, empty at the end. Raises Invalid."""
        if page_size > _MAX_PAGE:
            raise Invalid(f"is {page_size}; allowed is 1 to {_MAX_PAGE}, or 0 for {_PAGE}", field="page_size")
        page = await self.book.runs(tenant=tenant, corpus=corpus, count=page_size or _PAGE, before=_number(page_token))
        return page.runs, _token(page.following)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTraining:
    """Stops a run."""

    book: Book
    get: GetTraining
    stopped: Callable[[str], None]
    now: Callable[[], datetime] = utc_now

    async def __call__(self, run_id: str) -> Run:
        """Return the run as it now is; one that has ended stays as it ended. Raises NotFound."""
        run = await self.get(run_id)
        if run.finished_at is None:
            await self.book.move(replace(run, state=RunState.CANCELLED, finished_at=self.now(), problem="cancelled"))
            self.stopped(run_id)
        return await self.get(run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildDataset:
    """Makes a data set without training on it."""

    book: Book
    policies: Policies
    workshop: Workshop
    shelf: Shelf
    feedback: Feedback
    now: Callable[[], datetime] = utc_now

    async def __call__(
        self,
        tenant: str,
        corpus: str,
        *,
        kind: DatasetKind = DatasetKind.RANKING,
        since: datetime | None,
        until: datetime | None,
        author: str,
    ) -> MadeDataset:
        """Return its entry. Raises Invalid, NotEnough."""
        request = Request(tenant=tenant, corpus=corpus, author=author)
        _checked(request)
        run = Run(
            run_id=run_id_from(secrets.token_hex(6)),
            tenant=tenant,
            corpus=corpus,
            recipe=Recipe.DATASET,
            trigger=Trigger.BY_HAND,
            author=author,
            reason="",
            queued_at=self.now(),
            dataset_kind=kind,
        )
        if kind is DatasetKind.RANKING:
            material = await self.book.selection(tenant, corpus, since, until)
        else:
            material = await self.feedback.opinions(tenant, corpus, since=since, until=until)
        cap = self.policies.of(tenant, corpus).per_user_cap
        try:
            await self.workshop.order(WorkOrder(run=run, material=material, per_user_cap=cap))
            made = await self.shelf.put(await self.workshop.work(run.run_id))
        finally:
            await self.workshop.clear(run.run_id)
        return await self.book.keep(replace(made.dataset, created_at=self.now()), material.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceUse:
    """Tells what became of feedback."""

    book: Book

    async def __call__(self, tenant: str, *, answer_id: str, corpus: str, document_id: str) -> Sequence[MadeDataset]:
        """Return data sets, newest first. Raises Invalid when neither an answer nor a document is named."""
        if not tenant:
            raise Invalid("is empty", field="tenant")
        if bool(answer_id) == bool(document_id):
            raise Invalid("name either an answer or a document", field="answer_id")
        if document_id and not corpus:
            raise Invalid("is empty: a document is named within its corpus", field="corpus")
        return await self.book.uses(tenant, answer_id=answer_id, corpus=corpus, document_id=document_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Tells how far a corpus's next automatic run is."""

    book: Book
    policies: Policies
    now: Callable[[], datetime] = utc_now

    async def __call__(self, tenant: str, corpus: str) -> tuple[Supply, int, datetime | None]:
        """Return the supply, the feedback still needed in all (0: none is waited for), and when the schedule is due."""
        if not tenant or not corpus:
            raise Invalid("is empty", field="corpus" if tenant else "tenant")
        policy = self.policies.of(tenant, corpus)
        supply = await self.book.supply(tenant, corpus)
        following = None
        if policy.every is not None:
            following = self.now() if supply.last_run_at is None else supply.last_run_at + policy.every
        return supply, policy.after_feedback, following


def _checked(request: Request) -> None:
    for name in ("tenant", "corpus", "author"):
        if not getattr(request, name).strip():
            raise Invalid("is empty", field=name)
    if not 0 <= request.seed < _MOST_SEED:
        raise Invalid(f"is {request.seed}; allowed is 0 to {_MOST_SEED - 1}", field="seed")
    if len(request.reason) > _MOST_TEXT or len(request.author) > _MOST_TEXT:
        raise TooLarge(f"has more than {_MOST_TEXT} characters", field="reason")
    if len(request.gold) > _MOST_GOLD:
        raise TooLarge(f"has {len(request.gold)} questions; at most {_MOST_GOLD}", field="gold")
    for number, one in enumerate(request.gold):
        if not one.question.strip() or len(one.question) > _MOST_TEXT:
            raise Invalid(f"must have 1 to {_MOST_TEXT} characters", field=f"gold[{number}].question")
        if not one.relevant:
            raise Invalid("is empty", field=f"gold[{number}].relevant_documents")


def _token(number: int) -> str:
    return base64.urlsafe_b64encode(f"trainings:{number}".encode()).decode().rstrip("=") if number else ""


def _number(token: str) -> int:
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    kind, _, number = text.partition(":")
    if kind != "trainings" or not number.isascii() or not number.isdigit() or not 0 < int(number) < 2**63:
        raise Invalid("was not given by this service", field="page_token", reason="UNKNOWN_TOKEN")
    return int(number)
