"""What people make of answers, as a caller hands it in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType
from uuid import UUID, uuid5

from anabranch_faults import Invalid, Overloaded, TooLarge
from anabranch_gateway.domain import names

COMMENT_CHARACTERS: Final = 4_096
IDEMPOTENCY: Final = UUID("f2b1a1f4-6a0b-5d3e-8a57-0c1a4b7b9e21")

# A thumb, a rating, a correction, ...: in the form that the feedback service takes, which also judges what is inside.
Opinion = NewType("Opinion", object)


class TooOften(Overloaded):
    """A person gave more feedback than the limit; gRPC's RESOURCE_EXHAUSTED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What one person made of one answer. Whatever breaks the contract raises Invalid with the field's name.

    `kind` names the opinion: `thumb`, `rating`, ... `consent` is the contract's number.
    """

    answer_id: str
    user_id: str
    kind: str
    opinion: Opinion | None
    comment: str = ""
    given_at: datetime | None = None
    consent: int = 0
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        """Checks who, about what, and that there is an opinion."""
        for name in ("answer_id", "user_id"):
            value = getattr(self, name)
            if not value.strip():
                raise Invalid("is empty", field=name, reason="EMPTY")
            names.handle(value, field=name)
        if "/" in self.answer_id:
            raise Invalid("is the id an answer came with; it holds no /", field="answer_id", reason="INVALID_NAME")
        if self.opinion is None:
            raise Invalid(
                "exactly one of thumb, rating, correction, preference, citation, implicit and review must be set",
                field="kind",
                reason="MISSING",
            )
        if len(self.comment) > COMMENT_CHARACTERS:
            raise TooLarge(
                f"has {len(self.comment)} characters; at most {COMMENT_CHARACTERS} are taken", field="comment"
            )
        names.handle(self.idempotency_key, field="idempotency_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What became of a feedback."""

    feedback_id: str
    revision: int
    joined: bool


def event_id_of(feedback: Feedback, *, tenant: str) -> str:
    """The event a repeated call names again; empty when the caller gave no idempotency key.

    Answer, person and kind are part of it: a key used for two of them by mistake must not make the second one vanish.
    """
    if not feedback.idempotency_key:
        return ""
    parts = (tenant, feedback.answer_id, feedback.user_id, feedback.kind, feedback.idempotency_key)
    return str(uuid5(IDEMPOTENCY, "\n".join(parts)))
