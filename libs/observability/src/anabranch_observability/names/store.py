"""Names of the store library."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import CounterName, GaugeName, HistogramName, LogEvent

__all__ = ["OUTBOX_DELAY_SECONDS", "OUTBOX_PENDING", "OUTBOX_PUBLISHED", "Log"]


class Log(LogEvent):
    """Log events."""

    SCHEMA_MIGRATED = "schema.migrated"
    OUTBOX_REFUSED = "outbox.record.refused"
    OUTBOX_PUBLISH_FAILED = "outbox.publish.failed"
    OUTBOX_RECOVERED = "outbox.publish.recovered"


OUTBOX_PENDING: Final = GaugeName("anabranch_outbox_pending_records", "Events written and not yet published.")
OUTBOX_PUBLISHED: Final = CounterName("anabranch_outbox_published_total", "Events published from the outbox.")
OUTBOX_DELAY_SECONDS: Final = HistogramName(
    "anabranch_outbox_delay_seconds", "Time from writing an event to its acknowledgement."
)
