"""The record of blocked texts, over the bus, behind the caller's back."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from anabranch import topics
from anabranch_bus import Bus, Encoded, Event, new_id
from anabranch_faults import Fault, Transient
from anabranch_guardrails.application.ports import Blocked
from anabranch_guardrails.messages import blocked_message
from anabranch_observability import counter, gauge, get_logger, traceparent
from anabranch_observability.names import guardrails as names

__all__ = ["BusBlockedRecord"]

log = get_logger()

_BATCH: Final = 64
_MOST_SPANS: Final = 100
_FIRST_WAIT: Final = timedelta(milliseconds=100)
_LONGEST_WAIT: Final = timedelta(seconds=5)


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
        self._bus = bus
        self._capacity = capacity
        self._queue: deque[_Waiting] = deque()
        self._in_hand = 0
        self._changed = asyncio.Event()
        self._done = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many records are not yet acknowledged."""
        return len(self._queue) + self._in_hand

    def add(self, blocked: Blocked) -> None:
        """See the port."""
        if self.waiting >= self._capacity:
            _lost("full", 1)
            return
        self._queue.append(_Waiting(blocked, new_id(), traceparent()))
        gauge(names.BLOCKED_WAITING).set(self.waiting)
        self._changed.set()

    async def run(self) -> None:
        """Publishes what comes in, until it is cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                self._in_hand = len(batch)
                try:
                    await self._publish([_encoded(one) for one in batch])
                finally:
                    self._in_hand = 0
                    gauge(names.BLOCKED_WAITING).set(self.waiting)
                    self._done.set()

    async def flush(self, limit: timedelta) -> None:
        """Waits until `run` has published everything; what cannot go within `limit` is given up and counted."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while self.waiting:
                    self._done.clear()
                    await self._done.wait()
        except TimeoutError:
            _lost("stopped", self.waiting)
            self._queue.clear()

    async def _publish(self, encoded: Sequence[Encoded]) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                await self._bus.publish_encoded(encoded)
            except Transient as fault:
                log.warning(names.Log.RECORDS_DELAYED, records=self.waiting, problem=str(fault))
                await asyncio.sleep(wait.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret
                wait = min(wait * 2, _LONGEST_WAIT)
            except Fault as fault:
                # One of them can never be published; the others must not be lost with it.
                if len(encoded) == 1:
                    _lost("refused", 1, problem=str(fault))
                    return
                for each in encoded:
                    await self._publish([each])
                return
            else:
                return


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
