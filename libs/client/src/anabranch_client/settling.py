"""When a change has found its end."""

from __future__ import annotations

from anabranch_client.results import DocumentState, DocumentStatus
from anabranch_faults import Conflict, Invalid, NotFound


def settled(status: DocumentStatus, *, event_id: str) -> DocumentStatus | None:
    """The status, once readers see the document as the change left it; None while that is still to come.

    With an `event_id` statuses of other changes are passed over. Raises Invalid with field and reason when the change
    was rejected, NotFound when the document was deleted, Conflict when a newer version was there already.
    """
    if event_id and status.caused_by != event_id:
        return None
    name = f"document {status.document.document_id!r}"
    match status.state:
        case DocumentState.QUERYABLE | DocumentState.UNCHANGED:
            return status
        case DocumentState.REJECTED:
            rejection = status.rejection
            if rejection is None:
                raise Invalid(f"{name} was rejected")
            raise Invalid(rejection.detail or f"{name} was rejected", field=rejection.field, reason=rejection.reason)
        case DocumentState.DELETED:
            raise NotFound(f"{name} was deleted", field="document_id")
        case DocumentState.SUPERSEDED:
            raise Conflict(f"{name} has a newer version", field="version", reason="SUPERSEDED")
        case _:
            return None
