"""The Ask pipeline: choose a variant, condense, retrieve, generate, write down."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from anabranch_faults import Transient
from anabranch_gateway.application.gate import Gate
from anabranch_gateway.application.ports import AnswerRecord, Generator, Retriever, Sessions
from anabranch_gateway.domain.answers import (
    ZERO,
    Answer,
    AskEvent,
    Citation,
    Cited,
    Delta,
    Finished,
    Found,
    Generated,
    Retrieved,
    Served,
    Started,
    Timings,
)
from anabranch_gateway.domain.exploration import explored
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.names import QUESTION_CHARACTERS
from anabranch_gateway.domain.questions import TURN_CHARACTERS, Question, Role, Turn
from anabranch_gateway.domain.routing import Choice, Routing, unit_of


@dataclass(slots=True, kw_only=True)
class _Course:
    """What has become known of one answer so far."""

    answer_id: str
    choice: Choice
    began: float
    clock: Callable[[], float]
    history: Sequence[Turn] = ()
    query: str = ""
    found: Found | None = None
    ranks_randomised: bool = False
    pieces: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    generated: Generated | None = None
    condense: timedelta = ZERO
    generate: timedelta = ZERO
    first_token: timedelta = ZERO

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def since(self, start: float) -> timedelta:
        return timedelta(seconds=self.clock() - start)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskQuestion:
    """Answers questions.

    `unrecorded` tenants' answers are written down without content. Of the others, a share of `exploration` has two of
    its passages change places. `new_id` makes answers' ids, which tell when they were made: feedback on an old one that
    nobody knows can then be refused at once.
    """

    routing: Routing
    retriever: Retriever
    generator: Generator
    sessions: Sessions
    record: AnswerRecord
    gate: Gate
    new_id: Callable[[], str]
    unrecorded: frozenset[str] = frozenset()
    exploration: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    async def stream(self, caller: Caller, question: Question) -> AsyncGenerator[AskEvent, None]:
        """Started before anything downstream is asked, Retrieved, Deltas, and Finished.

        Closing the generator, or cancelling the task that reads it, stops everything downstream. Raises Denied for a
        label the key does not have, NotFound for an unknown corpus, Overloaded, and Transient when a part is away.
        """
        began = self.clock()
        labels = caller.claim(question.acl)
        answer_id = self.new_id()
        choice = self.routing.choose(
            tenant=caller.tenant,
            corpus=question.corpus,
            unit=unit_of(user_id=question.user_id, session_id=question.session_id, answer_id=answer_id),
        )
        course = _Course(answer_id=answer_id, choice=choice, began=began, clock=self.clock)
        with self.gate.admit(caller.tenant):
            yield Started(answer_id=answer_id, variant_id=choice.variant.variant_id)
            session = session_of(caller, question, labels) if question.session_id else b""
            course.history = await self.sessions.load(caller.tenant, session) if session else question.history
            course.query = await self._condensed(question, course)
            course.found = await self._found(caller, question, course, labels)
            yield Retrieved(search_query=course.query, passages=course.found.passages)
            async with aclosing(self._generated(question, course)) as deltas:
                async for delta in deltas:
                    yield delta
            if session:
                await self._remember(caller.tenant, session, question, course)
            finished = _finished(course)
            await self.record.add(self._served(caller, question, course, finished))
            yield finished

    async def whole(self, caller: Caller, question: Question) -> Answer:
        """As `stream`, all at once."""
        answer_id = variant_id = search_query = ""
        pieces: list[str] = []
        finished: Finished | None = None
        async with aclosing(self.stream(caller, question)) as events:
            async for event in events:
                match event:
                    case Delta(text=text):
                        pieces.append(text)
                    case Started():
                        answer_id, variant_id = event.answer_id, event.variant_id
                    case Retrieved():
                        search_query = event.search_query
                    case Finished():
                        finished = event
        if finished is None:
            raise Transient("the answer broke off")
        return Answer(
            answer_id=answer_id,
            variant_id=variant_id,
            search_query=search_query,
            text="".join(pieces),
            finished=finished,
        )

    async def _condensed(self, question: Question, course: _Course) -> str:
        if not course.history:
            return question.question
        start = self.clock()
        query = await self.generator.condense(
            question.question, history=course.history, settings=course.choice.variant.generation
        )
        course.condense = course.since(start)
        return query.strip()[:QUESTION_CHARACTERS] or question.question

    async def _found(self, caller: Caller, question: Question, course: _Course, labels: Sequence[str]) -> Found:
        recorded = caller.tenant not in self.unrecorded
        found = await self.retriever.retrieve(
            tenant=caller.tenant,
            corpus=question.corpus,
            query=course.query,
            settings=course.choice.variant.retrieval,
            filters=question.filters,
            acl=labels,
            with_features=recorded,
        )
        if not recorded:
            return found
        shown, course.ranks_randomised = explored(found.passages, answer_id=course.answer_id, share=self.exploration)
        return replace(found, passages=shown)

    async def _generated(self, question: Question, course: _Course) -> AsyncGenerator[Delta, None]:
        start = self.clock()
        events = self.generator.generate(
            question=course.query,
            passages=course.found.passages if course.found else (),
            history=course.history,
            settings=course.choice.variant.generation,
            max_tokens=question.max_tokens,
        )
        async with aclosing(events):
            async for event in events:
                match event:
                    case Delta(text=text):
                        if not course.pieces:
                            course.first_token = course.since(course.began)
                        course.pieces.append(text)
                        yield event
                    case Cited(citation=citation):
                        course.citations.append(citation)
                    case Generated():
                        course.generated = event
        course.generate = course.since(start)
        if course.generated is None:
            raise Transient("the answer broke off")

    async def _remember(self, tenant: str, session: bytes, question: Question, course: _Course) -> None:
        turns = [Turn(role=Role.USER, text=question.question)]
        if text := course.text[:TURN_CHARACTERS]:
            turns.append(Turn(role=Role.ASSISTANT, text=text))
        await self.sessions.append(tenant, session, turns)

    def _served(self, caller: Caller, question: Question, course: _Course, finished: Finished) -> Served:
        assert course.found is not None  # noqa: S101  the pipeline has passed retrieval
        assert course.generated is not None  # noqa: S101  and generation
        served = Served(
            answer_id=course.answer_id,
            tenant=caller.tenant,
            corpus=question.corpus,
            key_id=caller.key_id,
            user_id=question.user_id,
            session_id=question.session_id,
            choice=course.choice,
            question=question.question,
            search_query=course.query,
            answer=course.text,
            found=course.found,
            finished=finished,
            backend=course.generated.backend,
            model=course.generated.model,
            served_at=datetime.now(tz=UTC),
            ranks_randomised=course.ranks_randomised,
        )
        return served.without_content() if caller.tenant in self.unrecorded else served


def session_of(caller: Caller, question: Question, labels: Sequence[str]) -> bytes:
    """The name a session is kept under.

    Tenant, corpus, person and labels are part of it: a session id that is guessed, or used again for someone else,
    opens nothing that was said to another reader.
    """
    parts = (caller.tenant, question.corpus, question.user_id, question.session_id, *labels)
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _finished(course: _Course) -> Finished:
    found, generated = course.found, course.generated
    assert found is not None  # noqa: S101  the pipeline has passed retrieval
    assert generated is not None  # noqa: S101  and generation
    return Finished(
        usage=generated.usage,
        timings=Timings(
            condense=course.condense,
            embed=found.embed_time,
            search=found.search_time,
            generate=course.generate,
            first_token=course.first_token,
            total=course.since(course.began),
        ),
        abstained=generated.abstained,
        citations=tuple(course.citations),
        reason=generated.reason,
    )
