"""What the judge said, as messages."""

from __future__ import annotations

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import events_pb2 as events
from anabranch_evaluation.domain.judging import Judgment, Preference


def judgment_message(one: Judgment | None) -> events.Judgment | None:
    """Of an answer; None where it said nothing."""
    if one is None:
        return None
    return events.Judgment(
        judge=one.judge,
        rubric_digest=one.rubric_digest,
        votes=one.votes,
        parse_failures=one.parse_failures,
        score=one.score,
        agreement=one.agreement,
        from_cache=one.from_cache,
        order_shift=one.order_shift,
    )


def preference_message(one: Preference) -> pb.CompareAnswersResponse:
    """Of two answers."""
    return pb.CompareAnswersResponse(
        judge=one.judge,
        rubric_digest=one.rubric_digest,
        votes=one.votes,
        preference=one.preference,
        agreement=one.agreement,
        parse_failures=one.parse_failures,
        swayed=one.swayed,
        from_cache=one.from_cache,
    )
