"""Passages for a question."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ports import Retriever
from anabranch_gateway.domain.exploration import explored


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Asks the index.

    Of tenants that are not `unrecorded`, a share of `exploration` of the answers has two passages change places.
    """

    retriever: Retriever
    unrecorded: frozenset[str] = frozenset()
    exploration: float = 0.0

    async def find(self, course: Course, query: str) -> None:
        """The best passages for the query."""
        recorded = course.caller.tenant not in self.unrecorded
        found = await self.retriever.retrieve(
            tenant=course.caller.tenant,
            corpus=course.question.corpus,
            query=query,
            settings=course.choice.variant.retrieval,
            filters=course.question.filters,
            acl=course.labels,
            with_features=recorded,
        )
        if recorded:
            shown, course.ranks_randomised = explored(
                found.passages, answer_id=course.answer_id, share=self.exploration
            )
            found = replace(found, passages=shown)
        course.found = found
        course.shown = course.model_passages = found.passages
