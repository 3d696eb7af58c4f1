"""What operators hear of feedback."""

from __future__ import annotations

from datetime import timedelta

from anabranch_feedback.application.ports import Channel
from anabranch_feedback.domain.refusals import Refusal
from anabranch_observability import counter, gauge, histogram
from anabranch_observability.names import feedback as names

__all__ = ["Telemetry"]


class Telemetry:
    """The `Log` port."""

    def taken(self, kind: str, channel: Channel, state: str, count: int) -> None:
        """As in the port."""
        counter(names.TAKEN).labels(kind=kind, channel=channel.name.lower(), state=state).inc(count)

    def refused(self, refusal: Refusal, channel: Channel) -> None:
        """As in the port."""
        counter(names.REFUSED).labels(refusal=refusal.name.lower(), channel=channel.name.lower()).inc()

    def joined_late(self, delay: timedelta) -> None:
        """As in the port."""
        histogram(names.JOIN_DELAY_SECONDS).observe(max(0.0, delay.total_seconds()))

    def waiting(self, count: int) -> None:
        """As in the port."""
        gauge(names.WAITING).set(count)
