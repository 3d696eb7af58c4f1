"""The answer's text, as it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from anabranch_faults import Transient
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ask.guarding import Guarding
from anabranch_gateway.application.ports import Generator
from anabranch_gateway.domain.answers import Cited, Delta, Generated
from anabranch_gateway.domain.guards import Guard
from anabranch_gateway.domain.placeholders import Shown, moved, unveiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Has the answer written, and checked while it is."""

    generator: Generator
    guarding: Guarding | None = None

    async def write(self, course: Course) -> AsyncGenerator[Delta | Guard, None]:
        """Text as it may be shown; citations and the end go into the course. Raises Transient when it breaks off."""
        texts = self._drafted(course)
        if self.guarding is None:
            async with aclosing(texts):
                async for text in texts:
                    course.show(text)
                    yield Delta(text=text)
            return
        async with aclosing(self.guarding.answer(course, texts)) as events:
            async for event in events:
                yield event
        if course.drafted:
            course.guard_output = course.since(course.drafted)
        _settle(course)

    async def _drafted(self, course: Course) -> AsyncGenerator[str, None]:
        """What the model says, piece by piece."""
        start = course.clock()
        events = self.generator.generate(
            question=course.model_query,
            passages=course.model_passages,
            history=course.model_history,
            settings=course.choice.variant.generation,
            max_tokens=course.max_tokens,
            variables=course.question.variables,
            canary=course.canary,
            mark_passages=course.mark_passages,
            response_schema=course.question.response_schema,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    match event:
                        case Delta(text=text):
                            course.draft.append(text)
                            yield text
                        case Cited(citation=citation):
                            course.citations.append(citation)
                        case Generated():
                            course.generated = event
        finally:
            course.generate = course.since(start)
        course.drafted = course.clock()
        if course.generated is None:
            raise Transient("the answer broke off")


def _settle(course: Course) -> None:
    """Citations as they are of the passages shown, and of the answer shown; those whose words were cut are dropped."""
    citations = course.citations
    if course.veiled:
        citations = [each for one in citations if (each := unveiled(one, course.veiled)) is not None]
    if (draft := "".join(course.draft)) != course.text:
        place = Shown(draft, course.text, course.vault).place
        citations = [each for one in citations if (each := moved(one, place)) is not None]
    course.citations = citations
