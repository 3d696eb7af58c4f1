"""The order in which an answer comes to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from datetime import timedelta

from anabranch_faults import Invalid, Transient
from anabranch_gateway.application.ask.conversation import Conversation
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ask.finding import Finding
from anabranch_gateway.application.ask.guarding import Guarding
from anabranch_gateway.application.ask.keeping import Keeping
from anabranch_gateway.application.ask.paying import Paying
from anabranch_gateway.application.ask.reusing import Reusing
from anabranch_gateway.application.ask.writing import Writing
from anabranch_gateway.application.gate import Gate
from anabranch_gateway.domain.answers import ZERO, Answer, AskEvent, Delta, Finished, Retrieved, Started
from anabranch_gateway.domain.guards import Guard
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
    guarding: Guarding | None = None
    reusing: Reusing | None = None
    paying: Paying | None = None
    clock: Callable[[], float] = time.perf_counter

    async def stream(self, caller: Caller, question: Question) -> AsyncGenerator[AskEvent, None]:
        """Started before anything downstream is asked, Retrieved, Deltas, and Finished; Guards as they are reached.

        Closing the generator, or cancelling the task that reads it, stops everything downstream. Raises Denied for a
        label the key does not have, NotFound for an unknown corpus, Overloaded, and Transient when a part is away.
        """
        course = self._begun(caller, question)
        with self.gate.admit(caller.tenant):
            async with aclosing(self._paid(course)) as events:
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
        guards: list[Guard] = []
        finished: Finished | None = None
        async with aclosing(self.stream(caller, question)) as events:
            async for event in events:
                match event:
                    case Delta(text=text):
                        pieces.append(text)
                    case Guard():
                        guards.append(event)
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
            text=finished.message or "".join(pieces),
            finished=finished,
            guards=tuple(guards),
        )

    def _begun(self, caller: Caller, question: Question) -> Course:
        began = self.clock()
        if question.response_schema is not None and self.guarding is None:
            raise Invalid("nothing here checks answers: no guardrails", field="response_schema", reason="UNSUPPORTED")
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
            max_tokens=question.max_tokens,
            began=began,
            clock=self.clock,
        )

    async def _paid(self, course: Course) -> AsyncGenerator[AskEvent, None]:
        """All of it, within what may be asked, and with everything metered that models were called for."""
        async with self.paying.admitted(course) if self.paying is not None else nullcontext():
            yield Started(answer_id=course.answer_id, variant_id=course.choice.variant.variant_id)
            try:
                async with aclosing(self._answered(course)) as events:
                    async for event in events:
                        yield event
            finally:
                if self.paying is not None:
                    await self.paying.meter(course)

    async def _answered(self, course: Course) -> AsyncGenerator[AskEvent, None]:
        await self.conversation.recall(course)
        for guard in await self._sought(course):
            yield guard
        if course.blocked is not None:
            return
        yield Retrieved(search_query=course.query, passages=course.shown)
        if self.reusing is not None:
            course.lookup = await self.reusing.look(course)
            if course.lookup.answer is not None:
                yield Delta(text=self.reusing.take(course, course.lookup.answer))
                return
        async with (
            self.paying.writing(course) if self.paying is not None else nullcontext(),
            aclosing(self.writing.write(course)) as events,
        ):
            async for event in events:
                yield event
        if self.reusing is not None and course.lookup is not None:
            await self.reusing.keep(course, course.lookup)

    async def _condense(self, course: Course) -> None:
        if self.paying is None or not course.history:
            await self.conversation.condense(course)
            return
        async with self.paying.condensing(course):
            await self.conversation.condense(course)

    async def _sought(self, course: Course) -> list[Guard]:
        """Passages for a question that was found to be harmless; both are looked at side by side where that can be.

        With turns before it the question is checked first: to make it stand alone is a model's work already.
        """
        if self.guarding is None:
            await self._condense(course)
            await self.finding.find(course, course.query)
            return []
        guards = await (self._one_by_one if course.history else self._side_by_side)(course, self.guarding)
        if course.blocked is None:
            guards += await self.guarding.passages(course)
        return guards

    async def _one_by_one(self, course: Course, guarding: Guarding) -> list[Guard]:
        start = course.clock()
        guards = await guarding.question(course)
        course.guard_input += course.since(start)
        if course.blocked is None:
            await self._condense(course)
            await self.finding.find(course, course.query)
        return guards

    async def _side_by_side(self, course: Course, guarding: Guarding) -> list[Guard]:
        start = course.clock()
        finding = asyncio.create_task(self.finding.find(course, course.asked))
        found: list[timedelta] = []
        finding.add_done_callback(lambda _: found.append(course.since(start)))
        try:
            guards = await guarding.question(course)
            checked = course.since(start)
            if course.blocked is None:
                await finding
                await self._condense(course)
        finally:
            finding.cancel()
            await asyncio.gather(finding, return_exceptions=True)
        course.guard_input += max(checked - found[0], ZERO) if found else checked
        return guards
