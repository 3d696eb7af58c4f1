"""Feedback with its words, from the feedback service."""

from __future__ import annotations

import contextlib
import hashlib
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from grpc.aio import AioRpcError

from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_faults import Invalid
from anabranch_rpc import fault_from
from anabranch_training.application.ports import Material
from anabranch_training.domain.opinions import Answered, Opinion, Said, ShownPassage

__all__ = ["GrpcFeedback", "NoFeedback", "opinion_of"]

_PAGE: Final = 200
"""Each comes with its answer and all that was shown: larger pages would pass the limit of a message."""
_SECONDS: Final = 30.0
_MOST: Final = 100_000
_STARS: Final = 4.0
_WORDED: Final = ("correction", "preference", "thumb-up", "thumb-down", "rating", "review")


class NoFeedback:
    """Where no feedback service is named: refuses, and says what to set."""

    async def count(self, tenant: str, corpus: str) -> int:  # noqa: ARG002  the port's signature
        """As in the port."""
        raise Invalid("needs the feedback service: set ANABRANCH_TRAINING_FEEDBACK", field="recipe")

    async def opinions(
        self,
        tenant: str,  # noqa: ARG002  the port's signature
        corpus: str,  # noqa: ARG002  the port's signature
        *,
        since: datetime | None = None,  # noqa: ARG002  the port's signature
        until: datetime | None = None,  # noqa: ARG002  the port's signature
    ) -> Material:
        """As in the port."""
        raise Invalid("needs the feedback service: set ANABRANCH_TRAINING_FEEDBACK", field="kind")


class GrpcFeedback:
    """As the port says."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Takes a channel of `anabranch_rpc.connect`."""
        self._feedback = FeedbackServiceStub(channel)

    async def count(self, tenant: str, corpus: str) -> int:
        """As in the port."""
        counted = await self._called("CountFeedback", pb.CountFeedbackRequest(tenant=tenant, corpus=corpus))
        return sum(one.count for one in counted.counts if one.kind in _WORDED)

    async def opinions(
        self, tenant: str, corpus: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Material:
        """As in the port."""
        request = pb.ExportRatingsRequest(tenant=tenant, corpus=corpus, page_size=_PAGE, with_content=True)
        if since is not None:
            request.since.FromDatetime(since)
        if until is not None:
            request.until.FromDatetime(until)
        opinions: dict[str, Opinion] = {}
        read = denied = 0
        while read < _MOST:
            page = await self._called("ExportRatings", request)
            for exported in page.ratings:
                read += 1
                if exported.rating.given.consent == upstream.CONSENT_DENIED:
                    denied += 1
                    continue
                # One without words teaches nothing here.
                with contextlib.suppress(Invalid):
                    opinion = opinion_of(exported)
                    if opinion is not None:
                        opinions[opinion.feedback_id] = opinion
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        found = list(opinions.values())
        answers = {one.answer.answer_id for one in found} | {one.other.answer_id for one in found if one.other}
        return Material(judgments=(), opinions=found, answers=frozenset(answers), feedback=read, denied=denied)

    async def _called(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self._feedback, method)(request, timeout=_SECONDS)
        except AioRpcError as error:
            raise fault_from(error) from error


def opinion_of(exported: pb.ExportedRating) -> Opinion | None:
    """What it says about words; None for feedback of another kind. Raises Invalid where the words are not there."""
    rating, given = exported.rating, exported.rating.given
    kind = given.WhichOneof("kind")
    said = _said(given, kind)
    if said is None or rating.withdrawn:
        return None
    return Opinion(
        feedback_id=rating.feedback_id,
        user=rating.user_id,
        at=rating.given_at.ToDatetime(tzinfo=UTC),
        source=str(kind),
        answer=_answered(exported.answer),
        other=_answered(exported.other_answer) if kind == "preference" else None,
        **said,
    )


def _said(given: upstream.FeedbackGiven, kind: str | None) -> Mapping[str, Any] | None:
    if kind == "correction":
        return {"said": Said.CORRECTION, "correction": given.correction.text}
    if kind == "preference":
        return {"said": Said.PREFERENCE, "prefers_other": given.preference.prefers_other}
    if kind == "thumb":
        return {"said": Said.JUDGED, "value": float(given.thumb.up)}
    if kind == "rating":
        return {"said": Said.JUDGED, "value": (given.rating.stars - 1) / _STARS}
    if kind == "review" and not given.review.skipped and given.review.stars:
        return {"said": Said.JUDGED, "value": (given.review.stars - 1) / _STARS}
    return None


def _answered(served: AnswerServed) -> Answered:
    if not served.has_content:
        raise Invalid("was recorded without its words", field="answer", reason="NO_CONTENT")
    query = served.search_query or served.question
    cited = {citation.chunk_id for citation in served.citations}
    return Answered(
        answer_id=served.answer_id,
        key=_digest(query),
        question=query,
        text=served.answer,
        passages=tuple(
            ShownPassage(
                document=one.document.document_id,
                title=" > ".join(part for part in (one.title, *one.title_path) if part),
                text=one.text,
                cited=one.chunk_id in cited,
            )
            for one in served.passages
        ),
    )


def _digest(query: str) -> str:
    """As in `feedback.v1.Cause.question_digest`."""
    folded = " ".join(unicodedata.normalize("NFKC", query).casefold().split())
    return hashlib.sha256(folded.encode(errors="surrogatepass")).hexdigest() if folded else ""
