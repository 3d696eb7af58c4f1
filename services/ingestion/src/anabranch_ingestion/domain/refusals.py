"""Why a document is refused: the reasons of the contract, and the fault that carries one."""

from __future__ import annotations

from enum import Enum

from anabranch_faults import Invalid


class Reason(Enum):
    """The value is the suffix of the contract's RejectionReason."""

    MALFORMED = "MALFORMED"
    INVALID_FIELD = "INVALID_FIELD"
    UNKNOWN_TENANT = "UNKNOWN_TENANT"
    TOO_LARGE = "TOO_LARGE"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    UNPARSEABLE = "UNPARSEABLE"
    NO_TEXT = "NO_TEXT"
    URI_REFUSED = "URI_REFUSED"
    DEAD_LETTERED = "DEAD_LETTERED"
    ENCRYPTED = "ENCRYPTED"
    QUARANTINED = "QUARANTINED"


class Refused(Invalid):
    """This document, as it stands, will never be queryable. The sentence says the problem and what to do."""

    def __init__(self, why: Reason, problem: str, *, field: str = "") -> None:
        """Takes the reason for programs, the sentence for people and the field at fault."""
        super().__init__(problem, field=field, reason=why.value)
        self.why = why
