"""The record of metered calls, over the bus, behind the caller's back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from anabranch import topics
from anabranch.gateway.v1 import usage_pb2 as pb
from anabranch_bus import Bus, Encoded, Event, Outgoing
from anabranch_gateway.domain.costs import Metered
from anabranch_observability import counter, gauge, get_logger, traceparent
from anabranch_observability.names import gateway as names

log = get_logger()

BATCH: Final = 256


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
        self._waiting = Outgoing(
            bus.publish_encoded, encode=_encoded, watcher=_Watcher(), capacity=capacity, batch=BATCH, linger=linger
        )

    @property
    def waiting(self) -> int:
        """How many calls are not yet acknowledged."""
        return self._waiting.waiting

    async def add(self, metered: Sequence[Metered]) -> None:
        """See the port."""
        for each in metered:
            priced = "unknown" if each.price.micros is None else "known"
            counter(names.MODEL_CALLS).labels(purpose=each.call.purpose.name.lower(), price=priced).inc()
        trace = traceparent()
        if not self._waiting.add([_Waiting(each, trace) for each in metered]):
            _lost("full", metered)

    async def run(self) -> None:
        """Publishes what comes in, until it is cancelled."""
        await self._waiting.run()

    async def flush(self, limit: timedelta) -> None:
        """Waits until `run` has published everything; what cannot go within `limit` is given up and counted."""
        await self._waiting.flush(limit)


class _Watcher:
    def lost(self, reason: str, items: Sequence[_Waiting], *, problem: str = "") -> None:
        _lost(reason, [each.metered for each in items], problem=problem)

    def delayed(self, waiting: int, *, problem: str) -> None:
        log.warning(names.Log.USAGES_DELAYED, calls=waiting, problem=problem)

    def held(self, waiting: int) -> None:
        gauge(names.USAGES_WAITING).set(waiting)


def _lost(reason: str, metered: Sequence[Metered], *, problem: str = "") -> None:
    if metered:
        counter(names.USAGES_LOST).labels(reason=reason).inc(len(metered))
        micros = sum(each.price.micros or 0 for each in metered)
        log.error(names.Log.USAGES_LOST, reason=reason, calls=len(metered), micros=micros, problem=problem)


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
