"""Raters' work, and how far they agree."""

from __future__ import annotations

from collections import defaultdict

from anabranch_faults import NotFound
from anabranch_feedback.application.ports import Channel, Codec
from anabranch_feedback.application.reading import Shelf
from anabranch_feedback.application.taking import Arrival, Settled, TakeFeedback
from anabranch_feedback.domain.agreement import Agreement, agreement
from anabranch_feedback.domain.given import Given, Review


class SubmitReview:
    """Stores a rater's judgment as feedback."""

    def __init__(self, *, shelf: Shelf, take: TakeFeedback) -> None:
        """Takes what it works on."""
        self._shelf = shelf
        self._take = take

    async def __call__(
        self, *, tenant: str, review_id: str, rater_id: str, review: Review, comment: str, event_id: str
    ) -> Settled:
        """Raises NotFound for a review nobody asked for, and Refused."""
        answer_id = await self._shelf.review(tenant, review_id)
        if answer_id is None:
            raise NotFound(f"there is no review {review_id[:64]}", field="review_id")
        given = Given(tenant=tenant, answer_id=answer_id, user_id=rater_id, what=review, comment=comment)
        return await self._take.one(Arrival(tenant=tenant, event_id=event_id, given=given), Channel.REVIEW)


class GetAgreement:
    """Tells how far raters agree."""

    def __init__(self, *, shelf: Shelf, codec: Codec) -> None:
        """Takes what it works on."""
        self._shelf = shelf
        self._codec = codec

    async def __call__(self, tenant: str, corpus: str) -> Agreement:
        """Over all reviews in which the rater could tell."""
        stars: dict[str, dict[str, int]] = defaultdict(dict)
        for row in await self._shelf.reviewed(tenant, corpus):
            what = self._codec.given(row.content).what
            if isinstance(what, Review) and not what.skipped:
                stars[row.answer_id][row.user_id] = what.stars
        return agreement(stars)
