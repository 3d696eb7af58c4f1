"""What operators hear of ingestion: log events and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anabranch_ingestion.application.ports import Finding
from anabranch_ingestion.domain.documents import Change, Sent, State, Status
from anabranch_observability import counter, gauge, get_logger
from anabranch_observability.names import ingestion as names

log = get_logger()


class Telemetry:
    """The `Log` port, and what the pool tells."""

    def answered(self, status: Status) -> None:
        """Counts every answer; logs refusals, which somebody has to look at."""
        reason = status.rejection.reason.value if status.rejection else ""
        counter(names.ANSWERS).labels(state=status.state.value, reason=reason).inc()
        if status.state is State.REJECTED and status.rejection is not None:
            log.warning(
                names.Log.DOCUMENT_REJECTED,
                document=str(status.key),
                version=status.version,
                caused_by=status.caused_by,
                reason=reason,
                problem=status.rejection.detail,
            )
        else:
            log.debug(
                names.Log.DOCUMENT_ANSWERED, document=str(status.key), version=status.version, state=status.state.value
            )

    def parked(self, change: Change) -> None:
        """A change takes long."""
        counter(names.PARKED).inc()
        log.info(names.Log.CHANGE_PARKED, document=str(change.key), caused_by=change.event_id)

    def overdue(self, count: int, oldest: Sequence[Sent]) -> None:
        """Accepted and unanswered."""
        gauge(names.OVERDUE).set(count)
        if count:
            log.error(
                names.Log.DOCUMENTS_OVERDUE,
                count=count,
                oldest=[f"{sent.key} version {sent.version} since {sent.sent_at.isoformat()}" for sent in oldest],
            )

    def flagged(self, change: Change, finding: Finding) -> None:
        """Something was found that does not keep it out."""
        counter(names.FLAGGED).labels(check=finding.check).inc()
        log.info(
            names.Log.DOCUMENT_FLAGGED,
            document=str(change.key),
            caused_by=change.event_id,
            check=finding.check,
            problem=finding.reason,
        )

    def unchecked(self, change: Change, error: BaseException, *, taken: bool) -> None:
        """Guardrails were away."""
        then = "open" if taken else "closed"
        counter(names.UNCHECKED).labels(then=then).inc()
        log.warning(
            names.Log.DOCUMENT_UNCHECKED,
            document=str(change.key),
            caused_by=change.event_id,
            then=then,
            problem=str(error),
        )

    def failed(self, change: Change, error: BaseException) -> None:
        """A parked change is left for another try."""
        log.warning(
            names.Log.CHANGE_POSTPONED,
            document=str(change.key),
            caused_by=change.event_id,
            problem=f"{type(error).__name__}: {error}",
        )

    def worker(self, event: str, facts: dict[str, Any]) -> None:
        """What the pool tells of its workers."""
        counter(names.WORKERS).labels(event=event).inc()
        if event == "started":
            log.info(names.Log.WORKER_STARTED, **facts)
        elif event == "retired":
            log.debug(names.Log.WORKER_RETIRED, **facts)
        else:
            log.warning(names.Log.WORKER_LOST if event == "lost" else names.Log.READER_FAILED, **facts)
