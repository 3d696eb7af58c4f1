"""The record of metered calls, over the bus, behind the caller's back."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from anabranch import topics
from anabranch.gateway.v1 import usage_pb2 as pb
from anabranch_bus import Bus, Encoded, Event
from anabranch_faults import Fault, Transient
from anabranch_gateway.domain.costs import Metered
from anabranch_observability import counter, gauge, get_logger, traceparent
from anabranch_observability.names import gateway as names

log = get_logger()

BATCH: Final = 256
FIRST_WAIT: Final = timedelta(milliseconds=100)
LONGEST_WAIT: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Waiting:
    metered: Metered
    trace: str | None


class BusUsageRecord:
    """gateway.usage.metered, as the UsageRecord port.

    Calls wait in memory, at most `capacity` of them, and are published in batches by `run`, each at the latest after
    `linger`; a broker that is away is tried again until it is back. When there is no room the oldest stay and the new
    are given up, counted and logged with what they cost: answering goes on.
    """

    def __init__(self, bus: Bus, *, capacity: int = 10_000, linger: timedelta = timedelta(milliseconds=100)) -> None:
        """Takes the bus and the bounds."""
        self._bus = bus
        self._capacity = capacity
        self._linger = linger.total_seconds()
        self._queue: deque[_Waiting] = deque()
        self._in_hand = 0
        self._changed = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many calls are not yet acknowledged."""
        return len(self._queue) + self._in_hand

    async def add(self, metered: Sequence[Metered]) -> None:
        """See the port."""
        for each in metered:
            priced = "unknown" if each.price.micros is None else "known"
            counter(names.MODEL_CALLS).labels(purpose=each.call.purpose.name.lower(), price=priced).inc()
        if self.waiting + len(metered) > self._capacity:
            _lost("full", metered)
            return
        self._queue.extend(_Waiting(each, traceparent()) for each in metered)
        gauge(names.USAGES_WAITING).set(self.waiting)
        self._changed.set()
        if len(self._queue) >= min(BATCH, self._capacity):
            self._enough.set()

    async def run(self) -> None:
        """Publishes what comes in, until it is cancelled."""
        while True:
            await self._changed.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger):
                    await self._enough.wait()
            self._changed.clear()
            self._enough.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                self._in_hand = len(batch)
                try:
                    await self._publish(batch)
                finally:
                    self._in_hand = 0
                    gauge(names.USAGES_WAITING).set(self.waiting)
                    self._room.set()

    async def flush(self, limit: timedelta) -> None:
        """Waits until `run` has published everything; what cannot go within `limit` is given up and counted."""
        self._linger = 0.0
        self._enough.set()
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while self.waiting:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            _lost("stopped", [each.metered for each in self._queue], more=self._in_hand)
            self._queue.clear()

    async def _publish(self, batch: Sequence[_Waiting]) -> None:
        encoded = [_encoded(each) for each in batch]
        wait = FIRST_WAIT
        while True:
            try:
                await self._bus.publish_encoded(encoded)
            except Transient as fault:
                log.warning(names.Log.USAGES_DELAYED, calls=self.waiting, problem=str(fault))
                await asyncio.sleep(wait.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret
                wait = min(wait * 2, LONGEST_WAIT)
            except Fault as fault:
                _lost("refused", [each.metered for each in batch], problem=str(fault))
                return
            else:
                return


def _lost(reason: str, metered: Sequence[Metered], *, more: int = 0, problem: str = "") -> None:
    if number := len(metered) + more:
        counter(names.USAGES_LOST).labels(reason=reason).inc(number)
        micros = sum(each.price.micros or 0 for each in metered)
        log.error(names.Log.USAGES_LOST, reason=reason, calls=number, micros=micros, problem=problem)


def _encoded(waiting: _Waiting) -> Encoded:
    metered = waiting.metered
    return Event(
        topic=topics.GATEWAY_USAGE_METERED,
        message=event_from(metered),
        key=f"{metered.payer.tenant}/{metered.payer.answer_id}",
        event_id=metered.usage_id,
        time=metered.metered_at,
        headers={"traceparent": waiting.trace} if waiting.trace else {},
    ).encode()


def event_from(metered: Metered) -> pb.UsageMetered:
    """The event. A price that is not known stays unset."""
    payer, call = metered.payer, metered.call
    event = pb.UsageMetered(
        usage_id=metered.usage_id,
        answer_id=payer.answer_id,
        tenant=payer.tenant,
        corpus=payer.corpus,
        key_id=payer.key_id,
        user_id=payer.user_id,
        session_id=payer.session_id,
        variant_id=payer.variant_id,
        purpose=pb.UsagePurpose.ValueType(call.purpose),
        backend=call.backend,
        model=call.model,
        prompt_tokens=call.usage.prompt_tokens,
        completion_tokens=call.usage.completion_tokens,
        cost_micros=metered.price.micros,
        price_source=metered.price.source.value,
        complete=call.complete,
    )
    event.metered_at.FromDatetime(metered.metered_at)
    return event
