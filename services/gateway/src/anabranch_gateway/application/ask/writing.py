"""The answer's text, as it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from anabranch_faults import Transient
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ports import Generator
from anabranch_gateway.domain.answers import Cited, Delta, Generated


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Has the answer written."""

    generator: Generator

    async def write(self, course: Course) -> AsyncGenerator[Delta, None]:
        """Deltas; citations and the end go into the course. Raises Transient when it breaks off."""
        start = course.clock()
        events = self.generator.generate(
            question=course.query,
            passages=course.found.passages if course.found else (),
            history=course.history,
            settings=course.choice.variant.generation,
            max_tokens=course.question.max_tokens,
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
