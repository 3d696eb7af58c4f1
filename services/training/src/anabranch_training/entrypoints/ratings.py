"""What a joined feedback says about the passages it was given for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from anabranch.feedback.v1.events_pb2 import RankedChunk, RatingGiven
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_faults import Invalid
from anabranch_training.application.drifting import Shown
from anabranch_training.domain import FEATURE_SET, RF1, Judgment
from anabranch_training.domain.drift import reading_of
from anabranch_training.domain.ratings import Taken

__all__ = ["shown_from", "taken_from"]

# Labels of what says little about a single passage stay near the middle: they weigh in, and outvote nobody.
_ANSWER_LIKED: Final = 0.65
_ANSWER_DISLIKED: Final = 0.35
_OPENED: Final = 0.6
_GOOD_STARS: Final = 4
_BAD_STARS: Final = 2
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)


def taken_from(message: RatingGiven) -> Taken:
    """Returns what is kept of it. Raises Invalid for one that names no feedback or place."""
    for name in ("feedback_id", "tenant", "corpus"):
        if not getattr(message, name):
            raise Invalid("is empty", field=name)
    given = message.given_at.ToDatetime(tzinfo=UTC) if message.HasField("given_at") else _EARLIEST
    denied = message.given.consent == upstream.CONSENT_DENIED
    out = message.withdrawn or denied or message.cause.feature_set != FEATURE_SET
    return Taken(
        feedback_id=message.feedback_id,
        revision=message.revision,
        tenant=message.tenant,
        corpus=message.corpus,
        answer_id=message.answer_id,
        user=message.user_id,
        at=given,
        judgments=() if out else tuple(_judgments(message, given)),
        withdrawn=message.withdrawn,
        denied=denied and not message.withdrawn,
    )


def shown_from(message: RatingGiven) -> Shown | None:
    """Returns what is read of its answer, for drift; None where there is nothing to keep or forget."""
    if not message.tenant or not message.corpus or not message.answer_id:
        return None
    if message.withdrawn or message.given.consent == upstream.CONSENT_DENIED:
        reading = None
    elif message.cause.feature_set != FEATURE_SET:
        return None
    else:
        found = sorted(message.cause.chunks, key=lambda chunk: chunk.rank)
        reading = reading_of(
            [chunk.document.document_id for chunk in found], [tuple(chunk.features) for chunk in found]
        )
        if reading is None:
            return None
    return Shown(tenant=message.tenant, corpus=message.corpus, answer_id=message.answer_id, reading=reading)


def _judgments(message: RatingGiven, at: datetime) -> Iterable[Judgment]:
    labels, source = _labels(message)
    for chunk in message.cause.chunks:
        if chunk.chunk_id not in labels or not _has_features(chunk):
            continue
        yield Judgment(
            question=message.cause.question_digest,
            document=chunk.document.document_id,
            chunk=chunk.chunk_id,
            user=message.user_id,
            label=labels[chunk.chunk_id],
            shown_rank=chunk.shown_rank,
            rank=chunk.rank,
            randomised=message.cause.ranks_randomised,
            features=tuple(chunk.features),
            at=at,
            source=source,
        )


def _labels(message: RatingGiven) -> tuple[dict[str, float], str]:
    """Chunk id -> label, and the kind of feedback."""
    given = message.given
    kind = given.WhichOneof("kind")
    cited = [chunk.chunk_id for chunk in message.cause.chunks if chunk.cited]
    if kind == "citation":
        return {given.citation.chunk_id: float(given.citation.relevant)}, "citation"
    if kind == "thumb":
        return dict.fromkeys(cited, _ANSWER_LIKED if given.thumb.up else _ANSWER_DISLIKED), "thumb"
    if kind == "rating":
        undecided = _BAD_STARS < given.rating.stars < _GOOD_STARS
        label = _ANSWER_LIKED if given.rating.stars >= _GOOD_STARS else _ANSWER_DISLIKED
        return dict.fromkeys([] if undecided else cited, label), "rating"
    if kind == "implicit" and given.implicit.sign == upstream.SIGN_CITATION_OPENED:
        return {given.implicit.chunk_id: _OPENED}, "opened"
    if kind == "review" and not given.review.skipped:
        relevant = set(given.review.relevant)
        return {name: float(name in relevant) for name in (*given.review.ranking, *relevant)}, "review"
    return {}, ""


def _has_features(chunk: RankedChunk) -> bool:
    return len(chunk.features) == len(RF1) and all(math.isfinite(value) for value in chunk.features)
