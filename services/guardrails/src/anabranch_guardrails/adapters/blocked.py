"""The record of blocked texts, over the bus, behind the caller's back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from anabranch import topics
from anabranch_bus import Bus, Encoded, Event, Outgoing, new_id
from anabranch_guardrails.application.ports import Blocked
from anabranch_guardrails.messages import blocked_message
from anabranch_observability import counter, gauge, get_logger, traceparent
from anabranch_observability.names import guardrails as names

__all__ = ["BusBlockedRecord"]

log = get_logger()

_BATCH: Final = 64
_MOST_SPANS: Final = 100


@dataclass(frozen=True, slots=True)
class _Waiting:
    blocked: Blocked
    event_id: str
    trace: str | None


class BusBlockedRecord:
    """guardrails.request.blocked, as the BlockedRecord port.

    At most `capacity` records wait in memory for `run` to publish them; a broker that is away is tried again until it
    is back. What comes when the queue is full is given up and counted: people must not wait for their refusal.
    """

    def __init__(self, bus: Bus, *, capacity: int = 1_000) -> None:
        """Takes the bus and the bound."""
        self._waiting = Outgoing(
            bus.publish_encoded, encode=_encoded, watcher=_Watcher(), capacity=capacity, batch=_BATCH
        )

    @property
    def waiting(self) -> int:
        """How many records are not yet acknowledged."""
        return self._waiting.waiting

    def add(self, blocked: Blocked) -> None:
        """See the port."""
        if not self._waiting.add([_Waiting(blocked, new_id(), traceparent())]):
            _lost("full", 1)

    async def run(self) -> None:
        """Publishes what comes in, until it is cancelled."""
        await self._waiting.run()

    async def flush(self, limit: timedelta) -> None:
        """Waits until `run` has published everything; what cannot go within `limit` is given up and counted."""
        await self._waiting.flush(limit)


class _Watcher:
    def lost(self, reason: str, items: Sequence[_Waiting], *, problem: str = "") -> None:
        _lost(reason, len(items), problem=problem)

    def delayed(self, waiting: int, *, problem: str) -> None:
        log.warning(names.Log.RECORDS_DELAYED, records=waiting, problem=problem)

    def held(self, waiting: int) -> None:
        gauge(names.BLOCKED_WAITING).set(waiting)


def _lost(reason: str, number: int, *, problem: str = "") -> None:
    if number:
        counter(names.BLOCKED_LOST).labels(reason=reason).inc(number)
        log.error(names.Log.RECORDS_LOST, reason=reason, records=number, problem=problem)


def _encoded(waiting: _Waiting) -> Encoded:
    blocked = waiting.blocked
    message = blocked_message(blocked)
    for result in message.results:
        del result.spans[_MOST_SPANS:]
    return Event(
        topic=topics.GUARDRAILS_REQUEST_BLOCKED,
        message=message,
        key=f"{blocked.tenant}/{blocked.request_id}",
        event_id=waiting.event_id,
        time=blocked.at,
        headers={"traceparent": waiting.trace} if waiting.trace else {},
    ).encode()
