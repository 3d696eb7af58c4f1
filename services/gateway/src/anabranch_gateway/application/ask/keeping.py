"""What is written down of an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from anabranch_gateway.application.ask.course import NOTHING, Course
from anabranch_gateway.application.ports import AnswerRecord
from anabranch_gateway.domain.answers import Finished, Served
from anabranch_gateway.domain.placeholders import moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Records answers, blocked ones too; those of `unrecorded` tenants without content."""

    record: AnswerRecord
    unrecorded: frozenset[str] = frozenset()

    async def keep(self, course: Course, finished: Finished) -> None:
        """Hands the record over; does not wait until it is written."""
        generated = course.generated
        # What stood for personal data stays in its place: a record is no way around the policy.
        hidden = course.vault.hide(course.text)
        citations = [each for one in finished.citations if (each := moved(one, hidden.place)) is not None]
        served = Served(
            answer_id=course.answer_id,
            tenant=course.caller.tenant,
            corpus=course.question.corpus,
            key_id=course.caller.key_id,
            user_id=course.question.user_id,
            session_id=course.question.session_id,
            choice=course.choice,
            question=course.model_asked,
            search_query=course.model_query,
            answer=hidden.text,
            found=course.found or NOTHING,
            finished=replace(finished, citations=tuple(citations)),
            backend=generated.backend if generated is not None else "",
            model=generated.model if generated is not None else "",
            served_at=datetime.now(tz=UTC),
            ranks_randomised=course.ranks_randomised,
            prompt_version=generated.prompt_version if generated is not None else "",
            policy_version=course.policy_version,
            history=course.model_history,
            variables=course.question.variables,
            guards=tuple(course.guards),
            escalated=generated is not None and generated.escalated,
            cached_from=course.cached_from,
            cascade=generated.cascade if generated is not None else None,
        )
        await self.record.add(served.without_content() if course.caller.tenant in self.unrecorded else served)
