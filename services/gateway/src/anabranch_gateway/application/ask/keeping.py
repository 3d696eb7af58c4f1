"""What is written down of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ports import AnswerRecord
from anabranch_gateway.domain.answers import Finished, Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Records answers; those of `unrecorded` tenants without content."""

    record: AnswerRecord
    unrecorded: frozenset[str] = frozenset()

    async def keep(self, course: Course, finished: Finished) -> None:
        """Hands the record over; does not wait until it is written."""
        assert course.found is not None  # noqa: S101  the pipeline has passed retrieval
        assert course.generated is not None  # noqa: S101  and generation
        served = Served(
            answer_id=course.answer_id,
            tenant=course.caller.tenant,
            corpus=course.question.corpus,
            key_id=course.caller.key_id,
            user_id=course.question.user_id,
            session_id=course.question.session_id,
            choice=course.choice,
            question=course.question.question,
            search_query=course.query,
            answer=course.text,
            found=course.found,
            finished=finished,
            backend=course.generated.backend,
            model=course.generated.model,
            served_at=datetime.now(tz=UTC),
            ranks_randomised=course.ranks_randomised,
        )
        await self.record.add(served.without_content() if course.caller.tenant in self.unrecorded else served)
