"""Typed Python client of Anabranch: `Anabranch` for threads, `AsyncAnabranch` for asyncio.

    with Anabranch("127.0.0.1:7400", key_file="key") as client:
        answer = client.ask("Where is the meeting?", corpus="handbook")

Results are frozen values, errors are faults (`anabranch_client.errors` draws the tree), and every call has a deadline.
"""

from __future__ import annotations

from anabranch_client.aio import AsyncAnabranch
from anabranch_client.errors import Failed, TimedOut
from anabranch_client.feedback import FeedbackAccepted, Opinion, Sign
from anabranch_client.guards import CheckedText, CheckResult, CheckSpan, CheckStatus
from anabranch_client.results import (
    Accepted,
    Answer,
    AskEvent,
    Citation,
    Corpus,
    Delta,
    Document,
    DocumentRef,
    DocumentState,
    DocumentStatus,
    Finished,
    FinishReason,
    Guard,
    GuardStage,
    GuardVerdict,
    Hit,
    Provenance,
    Rejection,
    Retrieved,
    Role,
    SearchResult,
    Span,
    Started,
    Timings,
    Turn,
    Usage,
)
from anabranch_client.sync import Anabranch
from anabranch_faults import (
    Conflict,
    Denied,
    Fault,
    Invalid,
    NotFound,
    Overloaded,
    TooLarge,
    Transient,
    Unauthenticated,
    Unreachable,
)

__all__ = [
    "Accepted",
    "Anabranch",
    "Answer",
    "AskEvent",
    "AsyncAnabranch",
    "CheckResult",
    "CheckSpan",
    "CheckStatus",
    "CheckedText",
    "Citation",
    "Conflict",
    "Corpus",
    "Delta",
    "Denied",
    "Document",
    "DocumentRef",
    "DocumentState",
    "DocumentStatus",
    "Failed",
    "Fault",
    "FeedbackAccepted",
    "FinishReason",
    "Finished",
    "Guard",
    "GuardStage",
    "GuardVerdict",
    "Hit",
    "Invalid",
    "NotFound",
    "Opinion",
    "Overloaded",
    "Provenance",
    "Rejection",
    "Retrieved",
    "Role",
    "SearchResult",
    "Sign",
    "Span",
    "Started",
    "TimedOut",
    "Timings",
    "TooLarge",
    "Transient",
    "Turn",
    "Unauthenticated",
    "Unreachable",
    "Usage",
]
