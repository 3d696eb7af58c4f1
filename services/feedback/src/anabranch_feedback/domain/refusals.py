"""Why a feedback will not be used."""

from __future__ import annotations

from enum import IntEnum

from anabranch_faults import Invalid


class Refusal(IntEnum):
    """As in the contract, number for number."""

    UNKNOWN_ANSWER = 1
    INVALID = 2
    RATE_LIMITED = 3
    UNKNOWN_TENANT = 4
    KEY_MISMATCH = 5


class Refused(Invalid):
    """A feedback that will not be used, and why, for people and for programs."""

    def __init__(self, why: Refusal, problem: str, *, field: str = "") -> None:
        """Takes the reason, a sentence and the field at fault."""
        super().__init__(problem, field=field, reason=why.name)
        self.why = why


def invalid(field: str, problem: str) -> Refused:
    """A field's value cannot be."""
    return Refused(Refusal.INVALID, problem, field=field)
