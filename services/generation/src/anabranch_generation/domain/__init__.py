"""What an answer is: questions, passages, citations, the events of a stream. Standard library only."""

from __future__ import annotations

from anabranch_generation.domain.followups import stand_alone
from anabranch_generation.domain.packing import pack
from anabranch_generation.domain.tokens import estimate_tokens
from anabranch_generation.domain.values import (
    MAX_HISTORY,
    MAX_PASSAGES,
    MAX_QUESTION,
    BackendInfo,
    Citation,
    Condensed,
    Delta,
    DocumentRef,
    Event,
    Finished,
    FinishReason,
    Passage,
    Prompt,
    Request,
    Role,
    Sentence,
    Settings,
    Span,
    Turn,
    Usage,
    check_question,
)

__all__ = [
    "MAX_HISTORY",
    "MAX_PASSAGES",
    "MAX_QUESTION",
    "BackendInfo",
    "Citation",
    "Condensed",
    "Delta",
    "DocumentRef",
    "Event",
    "FinishReason",
    "Finished",
    "Passage",
    "Prompt",
    "Request",
    "Role",
    "Sentence",
    "Settings",
    "Span",
    "Turn",
    "Usage",
    "check_question",
    "estimate_tokens",
    "pack",
    "stand_alone",
]
