"""Names of the bus. Attributes follow OpenTelemetry's messaging conventions for Kafka."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, HistogramName, LogEvent, SpanName

__all__ = [
    "DEAD_LETTERS",
    "HALTED",
    "HANDLED",
    "HANDLING_SECONDS",
    "LAG",
    "LAG_AGE_SECONDS",
    "PAUSED",
    "PUBLISHED",
    "PUBLISH_SECONDS",
    "RESTARTS",
    "RETRIES",
    "WAITED_SECONDS",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    BUS_STARTED = "bus.started"
    BUS_STOPPED = "bus.stopped"
    BUS_UNREACHABLE = "bus.unreachable"
    ASSIGNMENT_CHANGED = "bus.assignment.changed"
    COMMIT_REFUSED = "bus.commit.refused"
    CONSUMER_FAILED = "bus.consumer.failed"
    CONSUMER_HALTED = "bus.consumer.halted"
    CONSUMER_RESTARTED = "bus.consumer.restarted"
    CONSUMER_STUCK = "bus.consumer.stuck"
    DRAIN_ABANDONED = "bus.drain.abandoned"
    HANDLER_FAILED = "bus.handler.failed"
    MARKER_FAILED = "bus.marker.failed"
    PARTITION_PAUSED = "bus.partition.paused"
    PARTITION_RESUMED = "bus.partition.resumed"
    PRODUCER_RESTARTED = "bus.producer.restarted"
    RECORD_DIED = "bus.record.died"
    RECORD_SUSPECTED = "bus.record.suspected"
    TABLE_ENTRY_SKIPPED = "bus.table.skipped"
    TABLE_READ = "bus.table.read"


class Span(SpanName):
    """Span names."""

    PROCESS = "process records"
    SEND = "send events"


class Attr(Attribute):
    """Span attributes."""

    SYSTEM = "messaging.system"
    OPERATION = "messaging.operation.type"
    DESTINATION = "messaging.destination.name"
    GROUP = "messaging.consumer.group.name"
    BATCH = "messaging.batch.message_count"


HANDLED: Final = CounterName("anabranch_bus_handled_total", "Records given to a handler.", ("group", "topic"))
HANDLING_SECONDS: Final = HistogramName("anabranch_bus_handling_seconds", "Time in a handler.", ("group", "topic"))
WAITED_SECONDS: Final = HistogramName(
    "anabranch_bus_waited_seconds", "From a record's timestamp to its handler.", ("group", "topic")
)
RETRIES: Final = CounterName("anabranch_bus_retries_total", "Back-offs before another try.", ("group", "topic"))
DEAD_LETTERS: Final = CounterName("anabranch_bus_dead_letters_total", "Dead letters.", ("group", "topic", "cause"))
HALTED: Final = GaugeName("anabranch_bus_halted", "1 when past the limits on dead letters.", ("group", "topic"))
PAUSED: Final = GaugeName("anabranch_bus_paused", "Partitions waiting for a dependency.", ("group", "topic"))
LAG: Final = GaugeName("anabranch_bus_lag_records", "Records not yet done.", ("group", "topic", "partition"))
LAG_AGE_SECONDS: Final = GaugeName(
    "anabranch_bus_lag_age_seconds", "Age of the oldest record not yet done.", ("group", "topic")
)
PUBLISHED: Final = CounterName("anabranch_bus_published_total", "Records acknowledged by the broker.", ("topic",))
PUBLISH_SECONDS: Final = HistogramName("anabranch_bus_publish_seconds", "Time to an acknowledgement.", ())
RESTARTS: Final = CounterName("anabranch_bus_restarts_total", "Clients built anew.", ("group", "reason"))
