"""Names of the runtime library."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import GaugeName, HistogramName, LogEvent

__all__ = ["INFO", "LOOP_LAG_MAX_SECONDS", "LOOP_LAG_SECONDS", "READY", "START_SECONDS", "Log"]


class Log(LogEvent):
    """Log events."""

    SERVICE_STARTING = "service.starting"
    SERVICE_LISTENING = "service.listening"
    SERVICE_READY = "service.ready"
    SERVICE_UNREADY = "service.unready"
    SERVICE_DRAINING = "service.draining"
    SERVICE_STOPPED = "service.stopped"
    SERVICE_FAILED = "service.failed"
    TASK_FAILED = "task.failed"
    CLOSING_FAILED = "closing.failed"
    DRAIN_EXPIRED = "drain.expired"
    LOOP_STALLED = "loop.stalled"


INFO: Final = GaugeName("anabranch_service_info", "Always 1; says what runs here.", ("service", "version"))
READY: Final = GaugeName("anabranch_service_ready", "1 when the service takes requests, otherwise 0.")
START_SECONDS: Final = GaugeName("anabranch_service_start_seconds", "Time from start to ready.")
LOOP_LAG_SECONDS: Final = HistogramName("anabranch_loop_lag_seconds", "How late the event loop woke a timer.")
LOOP_LAG_MAX_SECONDS: Final = GaugeName("anabranch_loop_lag_max_seconds", "Greatest lag in the last minute.")
