"""Who hears of quotas: metrics, the log, and gateway.budget.crossed."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid5

from anabranch import topics
from anabranch.gateway.v1 import usage_pb2 as pb
from anabranch_bus import Bus, Event
from anabranch_faults import Fault, Transient
from anabranch_gateway.domain.spending import Crossing, Refusal
from anabranch_observability import counter, gauge, get_logger
from anabranch_observability.names import gateway as names

log = get_logger()

CROSSINGS: Final = UUID("b0f9cc3f-9d0f-5f0c-8a3e-6f0a54e2b7d1")
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0


class SpendingReports:
    """The Reports port. Crossings wait in memory, at most `capacity`; `run` publishes them, when Kafka is there."""

    def __init__(self, bus: Bus, *, capacity: int = 1_000) -> None:
        """Takes the bus and the bound."""
        self._bus = bus
        self._capacity = capacity
        self._queue: deque[Crossing] = deque()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def crossed(self, crossing: Crossing) -> None:
        """See the port."""
        bound = "hard" if crossing.hard else "soft"
        counter(names.BUDGETS_CROSSED).labels(bound=bound).inc()
        log.warning(
            names.Log.BUDGET_CROSSED,
            subject=crossing.account,
            window_seconds=int(crossing.window.total_seconds()),
            bound=bound,
            bound_micros=crossing.bound,
            spent_micros=crossing.spent,
            reserved_micros=crossing.reserved,
        )
        if len(self._queue) >= self._capacity:
            counter(names.CROSSINGS_LOST).inc()
            return
        self._queue.append(crossing)
        self._none.clear()
        self._some.set()

    def refused(self, refusal: Refusal) -> None:
        """See the port."""
        counter(names.CALLS_REFUSED).labels(reason=str(refusal.reason).lower()).inc()

    def unchecked(self, operation: str, *, let: bool, problem: str) -> None:
        """See the port."""
        counter(names.QUOTAS_UNCHECKED).labels(operation=operation, outcome="let" if let else "refused").inc()
        log.warning(names.Log.QUOTAS_UNCHECKED, operation=operation, let=let, problem=problem)

    def unsettled(self, number: int) -> None:
        """See the port."""
        gauge(names.CALLS_UNSETTLED).set(number)

    def forgotten(self) -> None:
        """See the port."""
        counter(names.SETTLEMENTS_LOST).inc()

    async def run(self) -> None:
        """Publishes what is told, until it is cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            wait = FIRST_WAIT
            while self._queue:
                try:
                    await self._bus.publish(event_of(self._queue[0]))
                except Transient as fault:
                    log.warning(names.Log.CROSSINGS_DELAYED, waiting=len(self._queue), problem=str(fault))
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, LONGEST_WAIT)
                    continue
                except Fault:
                    counter(names.CROSSINGS_LOST).inc()
                self._queue.popleft()
            self._none.set()

    async def flush(self, limit: timedelta) -> None:
        """Waits until all is published, for `limit` at most."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._none.wait()
        except TimeoutError:
            counter(names.CROSSINGS_LOST).inc(len(self._queue))


def event_of(crossing: Crossing) -> Event[pb.BudgetCrossed]:
    """The event; the same crossing told twice has the same id."""
    seconds, start = int(crossing.window.total_seconds()), int(crossing.start.timestamp())
    message = pb.BudgetCrossed(
        subject=crossing.account,
        hard=crossing.hard,
        bound_micros=crossing.bound,
        spent_micros=max(0, crossing.spent),
        reserved_micros=max(0, crossing.reserved),
    )
    message.window.FromSeconds(seconds)
    message.window_start.FromSeconds(start)
    message.crossed_at.FromDatetime(crossing.at)
    name = f"{crossing.account}\n{seconds}\n{start}\n{crossing.hard}\n{crossing.bound}"
    return Event(
        topic=topics.GATEWAY_BUDGET_CROSSED,
        message=message,
        key=crossing.account,
        event_id=str(uuid5(CROSSINGS, name)),
        time=crossing.at,
    )
