"""The contract's messages to and from what the service works with."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.evaluation.v1.events_pb2 import AnswerScored
from anabranch.feedback.v1 import events_pb2 as pb
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_feedback.application.ports import Codec, Feedback, Kept, Rejection
from anabranch_feedback.domain.answers import Answer, DocumentShown
from anabranch_feedback.domain.given import (
    CitationJudgment,
    Correction,
    Given,
    Implicit,
    Preference,
    Rating,
    Review,
    Sign,
    Thumb,
    What,
)
from anabranch_feedback.domain.refusals import Refusal, Refused, invalid
from anabranch_feedback.domain.sampling import Scored

__all__ = [
    "CODEC",
    "answer_from",
    "cause_of",
    "given_from",
    "rating_given",
    "rating_rejected",
    "review_from",
    "scored_from",
    "stamp",
    "time_of",
]

_SECONDS: Final = 10**6
_SHORT: Final = 128
_REASON: Final = 1_000
# Before this the systems that would have given it were not there: a clock that was never set.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def given_from(message: upstream.FeedbackGiven, *, record_key: str | None = None) -> Given:
    """Raises Refused, with the field at fault. `record_key`: what the record's key must agree with."""
    if record_key is not None and record_key != f"{message.tenant}/{message.answer_id}":
        problem = f"the record's key {record_key[:200]!r} is not <tenant>/<answer_id> of the message"
        raise Refused(Refusal.KEY_MISMATCH, problem, field="answer_id")
    if message.consent not in upstream.Consent.values():
        raise invalid("consent", f"{message.consent} is not known")
    return Given(
        tenant=message.tenant,
        answer_id=message.answer_id,
        user_id=message.user_id,
        what=_what(message),
        comment=message.comment,
        given_at=time_of(message.given_at, field="given_at") if message.HasField("given_at") else None,
        consent=message.consent,
    )


def _what(message: upstream.FeedbackGiven) -> What:  # noqa: PLR0911  one for each kind
    match message.WhichOneof("kind"):
        case "thumb":
            return Thumb(up=message.thumb.up)
        case "rating":
            return Rating(stars=message.rating.stars, reasons=tuple(message.rating.reasons))
        case "correction":
            return Correction(text=message.correction.text)
        case "preference":
            one = message.preference
            return Preference(other_answer_id=one.other_answer_id, prefers_other=one.prefers_other)
        case "citation":
            return CitationJudgment(chunk_id=message.citation.chunk_id, relevant=message.citation.relevant)
        case "implicit":
            return _implicit(message.implicit)
        case "review":
            return review_from(message.review)
    raise invalid("kind", "is missing: set one of thumb, rating, correction, preference, citation, implicit, review")


def _implicit(message: upstream.Implicit) -> Implicit:
    try:
        sign = Sign(message.sign)
    except ValueError:
        raise invalid("implicit.sign", f"{message.sign} is no sign") from None
    dwell = message.dwell
    if abs(dwell.seconds) > _SECONDS:
        raise invalid("implicit.dwell", "must be between nothing and a day")
    has_dwell = message.HasField("dwell")
    seconds = timedelta(seconds=dwell.seconds, microseconds=dwell.nanos // 1000)
    return Implicit(sign=sign, chunk_id=message.chunk_id, dwell=seconds if has_dwell else None)


def review_from(message: upstream.Review) -> Review:
    """Raises Refused."""
    return Review(
        stars=message.stars,
        ranking=tuple(message.ranking),
        relevant=tuple(message.relevant),
        skipped=message.skipped,
    )


def given_message(given: Given) -> upstream.FeedbackGiven:
    """The message of a feedback."""
    message = upstream.FeedbackGiven(
        tenant=given.tenant,
        answer_id=given.answer_id,
        user_id=given.user_id,
        comment=given.comment,
        consent=upstream.Consent.ValueType(given.consent),
    )
    if given.given_at is not None:
        message.given_at.FromDatetime(given.given_at)
    match given.what:
        case Thumb(up=up):
            message.thumb.up = up
            message.thumb.SetInParent()
        case Rating(stars=stars, reasons=reasons):
            message.rating.stars = stars
            message.rating.reasons.extend(reasons)
        case Correction(text=text):
            message.correction.text = text
        case Preference(other_answer_id=other, prefers_other=prefers):
            message.preference.other_answer_id = other
            message.preference.prefers_other = prefers
        case CitationJudgment(chunk_id=chunk_id, relevant=relevant):
            message.citation.chunk_id = chunk_id
            message.citation.relevant = relevant
        case Implicit(sign=sign, chunk_id=chunk_id, dwell=dwell):
            message.implicit.sign = upstream.Sign.ValueType(sign)
            message.implicit.chunk_id = chunk_id
            if dwell is not None:
                message.implicit.dwell.FromTimedelta(dwell)
        case Review() as review:
            message.review.stars = review.stars
            message.review.ranking.extend(review.ranking)
            message.review.relevant.extend(review.relevant)
            message.review.skipped = review.skipped
            message.review.SetInParent()
    return message


def cause_of(served: AnswerServed) -> pb.Cause:
    """The whole causal key of an answer."""
    cited = {citation.chunk_id for citation in served.citations}
    return pb.Cause(
        variant_id=served.variant_id,
        prompt_version=served.prompt_version,
        policy_version=served.policy_version,
        embedding_version=served.embedding_version,
        index_generation=served.index_generation,
        reranker_version=served.reranker_version,
        backend=served.backend,
        model=served.model,
        adapter=served.adapter,
        routing_scope=served.routing_scope,
        routing_revision=served.routing_revision,
        experiment_id=served.experiment_id,
        arm=served.arm,
        question_digest=_digest(served.search_query or served.question) or _own_digest(served),
        chunks=[
            pb.RankedChunk(
                chunk_id=passage.chunk_id,
                document=passage.document,
                shown_rank=shown,
                rank=passage.rank or shown,
                score=passage.score,
                vector_score=passage.vector_score,
                keyword_score=passage.keyword_score,
                cited=passage.chunk_id in cited,
                features=passage.features,
            )
            for shown, passage in enumerate(_seen(served), start=1)
        ],
        feature_set=served.feature_set,
        ranks_randomised=served.ranks_randomised,
        abstained=served.abstained,
        served_at=served.served_at,
        asked_by=served.user_id,
    )


def _seen(served: AnswerServed) -> list[Passage]:
    """The passages that people saw: those that guardrails withheld are in the record, and were shown to nobody."""
    stops = (guardrails.VERDICT_BLOCK, guardrails.VERDICT_REVIEW)
    guards = (one for one in served.guards if one.HasField("passage") and not one.shadow)
    withheld = {one.passage for one in guards if one.verdict in stops}
    return [passage for place, passage in enumerate(served.passages) if place not in withheld]


def _digest(query: str) -> str:
    """Equal questions share it, however they were typed; empty where the words were not recorded."""
    if not query:
        return ""
    folded = " ".join(unicodedata.normalize("NFKC", query).casefold().split())
    return hashlib.sha256(folded.encode(errors="surrogatepass")).hexdigest()


def _own_digest(served: AnswerServed) -> str:
    """Of an answer whose question is not known, which may not be taken for anybody else's."""
    return hashlib.sha256(f"{served.tenant}\n{served.answer_id}".encode()).hexdigest()


def answer_from(served: AnswerServed) -> Answer:
    """Raises Invalid for a record that names no answer."""
    if not served.tenant or not served.answer_id or len(served.answer_id) > _SHORT:
        raise invalid("answer_id", "the record names no answer")
    cited = {citation.chunk_id for citation in served.citations}
    documents: dict[tuple[str, str], bool] = {}
    for passage in _seen(served):
        key = (passage.document.corpus or served.corpus, passage.document.document_id)
        documents[key] = documents.get(key, False) or passage.chunk_id in cited
    return Answer(
        tenant=served.tenant,
        answer_id=served.answer_id,
        corpus=served.corpus,
        user_id=served.user_id,
        variant_id=served.variant_id,
        served_at=time_of(served.served_at, field="served_at"),
        abstained=served.abstained,
        has_content=served.has_content,
        documents=tuple(
            DocumentShown(corpus=corpus, document_id=document_id, cited=is_cited)
            for (corpus, document_id), is_cited in documents.items()
        ),
        record=served.SerializeToString(),
        cause=cause_of(served).SerializeToString(),
    )


def scored_from(message: AnswerScored) -> Scored:
    """Raises Invalid for a record that names no answer. The judge's score, if there is one, is the metric `judge`."""
    if not message.tenant or not message.answer_id or len(message.answer_id) > _SHORT:
        raise invalid("answer_id", "the record names no answer")
    votes = message.judgment.votes
    judged = {"judge": message.judgment.score} if votes else {}
    return Scored(
        tenant=message.tenant,
        corpus=message.corpus,
        answer_id=message.answer_id,
        scores={**message.scores, **judged},
        agreement=message.judgment.agreement if votes > 1 else None,
    )


def rating_given(row: Feedback) -> pb.RatingGiven:
    """The event that tells a revision."""
    message = pb.RatingGiven(
        feedback_id=row.feedback_id,
        revision=row.revision,
        tenant=row.tenant,
        corpus=row.corpus,
        answer_id=row.answer_id,
        user_id=row.user_id,
        given_at=stamp(row.given_at),
        joined_at=stamp(row.joined_at) if row.joined_at else None,
        channel=pb.Channel.ValueType(row.channel),
        withdrawn=row.withdrawn,
    )
    if not row.withdrawn:
        message.given.MergeFromString(row.content)
        message.cause.MergeFromString(row.cause)
    return message


def rating_rejected(rejection: Rejection) -> pb.RatingRejected:
    """The event that tells a refusal. What is no name of ours is cut: it may be a megabyte."""
    return pb.RatingRejected(
        tenant=rejection.tenant[:_SHORT],
        answer_id=rejection.answer_id[:_SHORT],
        user_id=rejection.user_id[:_SHORT],
        event_id=rejection.event_id[:_REASON],
        refusal=pb.Refusal.ValueType(rejection.refusal),
        reason=rejection.reason[:_REASON],
        rejected_at=stamp(rejection.at),
    )


def stamp(at: datetime) -> Timestamp:
    """The contract's form of a time."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def time_of(message: Timestamp, *, field: str) -> datetime:
    """Raises Refused for a time no calendar has, or long ago."""
    try:
        at = message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "is no time") from None
    if at < _EPOCH:
        raise invalid(field, f"{at.isoformat()} is too long ago: is the clock set?")
    return at


def _shown(cause: bytes) -> frozenset[str]:
    return frozenset(chunk.chunk_id for chunk in pb.Cause.FromString(cause).chunks)


def _emptied(kept: Kept) -> Kept:
    """Without who asked and what was said, as if content had been switched off; what led to the answer stays."""
    record, cause = AnswerServed.FromString(kept.record), pb.Cause.FromString(kept.cause)
    for field in ("user_id", "session_id", "question", "search_query", "answer", "history", "variables"):
        record.ClearField(field)
    for guard in record.guards:
        guard.ClearField("reason")
    record.has_content = False
    for passage in record.passages:
        passage.ClearField("text")
        passage.ClearField("sentences")
    for citation in record.citations:
        citation.ClearField("text")
        citation.ClearField("answer_span")
    # Equal questions share the digest: whoever guesses a question could tell that it was asked.
    cause.question_digest = _own_digest(record)
    cause.ClearField("asked_by")
    return replace(kept, record=record.SerializeToString(), cause=cause.SerializeToString())


CODEC: Final = Codec(
    content=lambda given: given_message(given).SerializeToString(),
    given=lambda content: given_from(upstream.FeedbackGiven.FromString(content)),
    shown=_shown,
    emptied=_emptied,
)
