"""What every change by compare-and-swap has in common."""

from __future__ import annotations

from anabranch_faults import Conflict
from anabranch_registry.domain.notes import Note
from anabranch_registry.domain.routing import Change

__all__ = ["noted", "swap"]


def swap(what: str, present: int, expected: int) -> None:
    """Raise Conflict when somebody was faster."""
    if present != expected:
        raise Conflict(
            f"{what} is at revision {present}, not at {expected}: look at it again, then decide",
            field="expected_revision",
            reason="REVISION_MOVED",
        )


def noted(kind: str, subject: str, what: str, scope: str, change: Change) -> Note:
    """Return the row of the audit."""
    return Note(
        subject_kind=kind,
        subject=subject,
        what=what,
        scope=scope,
        author=change.author,
        reason=change.reason,
        at=change.at,
    )
