"""Answers given before, in place of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anabranch_gateway.application.ask.course import NOTHING, Course
from anabranch_gateway.application.caching import AnswerCache, CachedAnswer, CacheQuestion, Lookup
from anabranch_gateway.domain.answers import Citation, Generated, Passage, Usage
from anabranch_gateway.domain.caching.features import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Reusing:
    """Looks an answer up once its passages are found, and keeps it when it is complete.

    `sources` reads passages as the cache compares them; `cited` the chunks and the words that citations name.
    """

    cache: AnswerCache
    sources: Callable[[Sequence[Passage]], Sequence[Source]]
    cited: Callable[[Sequence[Citation]], tuple[Sequence[str], Sequence[str]]]

    async def look(self, course: Course) -> Lookup:
        """After retrieval and its checks. With an `answer`, `take` makes it the course's; without, one is made."""
        question, variant, found = course.question, course.choice.variant, course.found or NOTHING
        return await self.cache.find(
            CacheQuestion(
                tenant=course.caller.tenant,
                corpus=question.corpus,
                question=course.query,
                variant_id=variant.variant_id,
                sources=self.sources(course.shown),
                acl=course.labels,
                filters=question.filters,
                variables=question.variables,
                response_schema=question.response_schema,
                prompt_version=variant.prompt_version,
                policy_version=course.policy_version or variant.policy_version,
                embedding_version=found.embedding_version,
                reranker_version=found.reranker_version,
                max_tokens=question.max_tokens,
                vector=found.query_vector,
                fresh=question.fresh,
                history=bool(course.history),
                explored=course.ranks_randomised,
                # A policy that hides or cuts out something of the question has found what is nobody else's.
                personal=bool(course.veiled) or course.asked != question.question,
            )
        )

    def take(self, course: Course, cached: CachedAnswer) -> str:
        """Makes a cached answer the course's, without a call of a model; its text, which is to go out as one piece."""
        course.citations = list(cached.citations)
        course.generated = Generated(
            reason=cached.reason,
            usage=Usage(),
            abstained=False,
            backend=cached.backend,
            model=cached.model,
            prompt_version=cached.prompt_version,
        )
        course.draft.append(cached.text)
        course.show(cached.text)
        return cached.text

    async def keep(self, course: Course, lookup: Lookup) -> None:
        """Keeps the course's own answer, unless it was blocked or cut short, or a check found anything."""
        generated = course.generated
        if generated is None or course.blocked is not None:
            return
        chunks, quotes = self.cited(course.citations)
        await self.cache.keep(
            lookup,
            CachedAnswer(
                answer_id=course.answer_id,
                text=course.text,
                citations=tuple(course.citations),
                cited=chunks,
                quotes=quotes,
                reason=generated.reason,
                abstained=generated.abstained,
                backend=generated.backend,
                model=generated.model,
                prompt_version=generated.prompt_version,
                plain=not course.guards and "".join(course.draft) == course.text,
            ),
        )
