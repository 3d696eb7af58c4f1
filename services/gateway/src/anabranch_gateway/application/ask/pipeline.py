"""The order in which an answer comes to be."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from anabranch_faults import Transient
from anabranch_gateway.application.ask.conversation import Conversation
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ask.finding import Finding
from anabranch_gateway.application.ask.keeping import Keeping
from anabranch_gateway.application.ask.writing import Writing
from anabranch_gateway.application.gate import Gate
from anabranch_gateway.domain.answers import Answer, AskEvent, Delta, Finished, Retrieved, Started
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.questions import Question
from anabranch_gateway.domain.routing import Routing, unit_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AskQuestion:
    """Answers questions.

    `new_id` makes answers' ids, which tell when they were made: feedback on an old one that nobody knows can then be
    refused at once.
    """

    routing: Routing
    gate: Gate
    new_id: Callable[[], str]
    conversation: Conversation
    finding: Finding
    writing: Writing
    keeping: Keeping
    clock: Callable[[], float] = time.perf_counter

    async def stream(self, caller: Caller, question: Question) -> AsyncGenerator[AskEvent, None]:
        """Started before anything downstream is asked, Retrieved, Deltas, and Finished.

        Closing the generator, or cancelling the task that reads it, stops everything downstream. Raises Denied for a
        label the key does not have, NotFound for an unknown corpus, Overloaded, and Transient when a part is away.
        """
        course = self._begun(caller, question)
        with self.gate.admit(caller.tenant):
            yield Started(answer_id=course.answer_id, variant_id=course.choice.variant.variant_id)
            async with aclosing(self._answered(course)) as events:
                async for event in events:
                    yield event
            await self.conversation.remember(course)
            finished = course.finished()
            await self.keeping.keep(course, finished)
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

    def _begun(self, caller: Caller, question: Question) -> Course:
        began = self.clock()
        labels = caller.claim(question.acl)
        answer_id = self.new_id()
        choice = self.routing.choose(
            tenant=caller.tenant,
            corpus=question.corpus,
            unit=unit_of(user_id=question.user_id, session_id=question.session_id, answer_id=answer_id),
        )
        return Course(
            answer_id=answer_id,
            caller=caller,
            question=question,
            labels=labels,
            choice=choice,
            began=began,
            clock=self.clock,
        )

    async def _answered(self, course: Course) -> AsyncGenerator[AskEvent, None]:
        await self.conversation.recall(course)
        await self.conversation.condense(course)
        await self.finding.find(course)
        assert course.found is not None  # noqa: S101  it was found
        yield Retrieved(search_query=course.query, passages=course.found.passages)
        async with aclosing(self.writing.write(course)) as deltas:
            async for delta in deltas:
                yield delta
