"""Whether a feedback and its answers' records fit together."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch_feedback.application.ports import Answers, Codec
from anabranch_feedback.domain.answers import Known
from anabranch_feedback.domain.given import Given
from anabranch_feedback.domain.refusals import Refusal, Refused, invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The answer a feedback is about; None while a record is missing, whose id is `missing`."""

    answer: Known | None
    missing: str = ""


def match(given: Given, answers: Answers, codec: Codec) -> Match:
    """Find what a feedback is about. Raises Refused for another tenant's answer and for chunks that were not shown."""
    own = _own(given.tenant, given.answer_id, answers, field="answer_id")
    other_id = given.other_answer_id
    other = _own(given.tenant, other_id, answers, field="preference.other_answer_id") if other_id else None
    if own is None:
        return Match(answer=None, missing=given.answer_id)
    if given.chunk_ids:
        _check_shown(given, codec.shown(own.cause))
    if other_id and other is None:
        return Match(answer=None, missing=other_id)
    return Match(answer=own)


def unknown(answer_id: str, *, field: str = "answer_id") -> Refused:
    """No such answer; the same words whether it is nobody's or somebody else's."""
    return Refused(Refusal.UNKNOWN_ANSWER, f"there is no answer {answer_id}", field=field)


def _own(tenant: str, answer_id: str, answers: Answers, *, field: str) -> Known | None:
    known = answers.get(answer_id, ())
    for one in known:
        if one.tenant == tenant:
            return one
    if known:
        raise unknown(answer_id, field=field)
    return None


def _check_shown(given: Given, shown: frozenset[str]) -> None:
    for chunk_id in given.chunk_ids:
        if chunk_id not in shown:
            field = {"implicit": "implicit.chunk_id", "review": "review.ranking"}.get(given.kind, "citation.chunk_id")
            raise invalid(field, f"chunk {chunk_id!r} was not shown for this answer")
