"""Runs a handler over records until each has met its fate. Knows no transport: buses lend it a `Port`.

`settle` returns when every record of the batch is done or dead, in an order that keeps these laws:

- a record is settled once, and only after its effects: what it published, or its dead letter, is acknowledged;
- what is published for one key keeps the order of the records of that key;
- progress (`Port.advance`) never passes a record that is not settled;
- when `settle` is cancelled, or halts, what was not settled stays so, and will be delivered again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from anabranch_bus import tracing
from anabranch_bus.dead_letters import Cause, Death, bury, name_of, place_of
from anabranch_bus.events import Encoded, Event
from anabranch_bus.items import Item, is_outage, judge
from anabranch_bus.policy import Backoff, Limits, Policy
from anabranch_bus.records import Batch, Outcome, Raw, Unreadable
from anabranch_bus.subscription import Subscription
from anabranch_faults import Invalid, TooLarge, Transient, Unreachable

__all__ = ["Engine", "Port"]

_WHOLE_TRIES: Final = 2


class Port(Protocol):
    """What the engine needs of a bus, for one partition."""

    async def publish(self, encoded: Sequence[Encoded]) -> None:
        """Return when all are acknowledged; raise Unreachable, or TooLarge."""

    def advance(self, offset: int) -> None:
        """Every record below `offset` is settled: it may be committed."""

    async def wait(self, delay: timedelta, fault: Exception, *, paused: bool) -> None:
        """Wait; `paused` says that a dependency is away or full, not that a record is at fault."""

    def handled(self, count: int, seconds: float) -> None:
        """`count` records were given to the handler, which took `seconds`."""

    def died(self, raw: Raw, death: Death) -> None:
        """A record became a dead letter, or was passed over where there are none."""


@dataclass(slots=True)
class _Waits:
    """How often one piece of work waited, by kind, so that each kind's back-off grows on its own."""

    outages: int = 0
    others: int = 0
    whole: int = 0


class Engine:
    """Settles batches of one partition, one batch at a time."""

    def __init__(
        self,
        subscription: Subscription,
        port: Port,
        *,
        policy: Policy,
        code_version: str,
        rng: random.Random | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Takes the handler, the transport, and the numbers."""
        self._subscription = subscription
        self._port = port
        self._policy = policy
        self._code_version = code_version
        self._rng = rng or random.Random()  # noqa: S311  jitter, not a secret
        self._clock = clock
        self._limits = Limits(policy)
        self._items: list[Item] = []

    async def settle(self, raws: Sequence[Raw]) -> None:
        """Settle records of one partition, in order. Raises Halted; otherwise every record is done or dead."""
        now = self._clock()
        self._items = [Item(raw=raw, read=self._subscription.decode(raw), first_seen=now) for raw in raws]
        run: list[Item] = []
        for item in self._items:
            if isinstance(item.read, Unreadable):
                await self._run(run)
                run = []
                await self._refuse(item, item.read)
            else:
                run.append(item)
        await self._run(run)

    async def settle_unread(self, raw: Raw, *, times: int) -> None:
        """Send a record that ends the process to the dead letters, without looking at it. Raises Halted."""
        item = Item(raw=raw, read=self._subscription.decode(raw), first_seen=self._clock(), attempts=times)
        self._items = [item]
        reason = f"the process ended {times} times while it handled this record; it was not tried again"
        await self._bury(item, Cause.KILLED, error="ProcessEnded", reason=reason)

    async def _run(self, items: list[Item]) -> None:
        """Settle readable items; returns when all are."""
        todo, waits = items, _Waits()
        while todo:
            try:
                outcome = await self._call(todo)
            except Exception as error:  # noqa: BLE001  whatever a handler raises has a fate, and a record to blame
                todo = await self._raised(todo, error, waits)
            else:
                todo = await self._apply(todo, outcome, waits)

    async def _call(self, items: list[Item]) -> Outcome[Any]:
        records = [item.record for item in items]
        subscription = self._subscription
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            with tracing.handling(subscription.topic, subscription.group, [r.headers for r in records]):
                outcome = await subscription.handler(Batch(records))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this consumer: something inside the handler was cancelled and it let that out.
            raise RuntimeError("the handler ended itself with CancelledError") from error
        finally:
            self._port.handled(len(items), loop.time() - started)
        if not isinstance(outcome, Outcome):
            raise TypeError(f"the handler returned {type(outcome).__name__}, not an Outcome")
        return outcome

    async def _raised(self, items: list[Item], error: Exception, waits: _Waits) -> list[Item]:
        """The handler raised over all of them. Return what is to be handled again, now that the wait is over."""
        if isinstance(error, Transient) and is_outage(error):
            await self._wait(error, waits)
            return items
        if len(items) > 1:
            waits.whole += 1
            if isinstance(error, Transient) and waits.whole < _WHOLE_TRIES:
                await self._wait(error, waits)
                return items
            # One of them is the culprit: halving finds it in few calls, and lets its neighbours through.
            middle = len(items) // 2
            await self._run(items[:middle])
            await self._run(items[middle:])
            return []
        (item,) = items
        item.attempts += 1
        if isinstance(error, Invalid):
            await self._bury_fault(item, error)
            return []
        bug = not isinstance(error, Transient)
        if item.attempts >= (self._policy.bug_attempts if bug else self._policy.attempts):
            await self._bury(
                item,
                Cause.BUG if bug else Cause.EXHAUSTED,
                error=name_of(error),
                reason=f"{error}{place_of(error)}" if bug else str(error),
            )
            return []
        await self._wait(error, waits)
        return items

    async def _apply(self, items: list[Item], outcome: Outcome[Any], waits: _Waits) -> list[Item]:
        """Give each item the fate that the handler named. Return what is to be handled again."""
        verdict = judge(items, outcome, attempts=self._policy.attempts)
        refused = await self._publish_each(verdict.publications(outcome))
        for offset, too_large in refused.items():
            verdict.dead.append((verdict.done.pop(offset), too_large))
        self._limits.done(len(verdict.done))
        for item in verdict.done.values():
            item.settled = True
        self._advance()
        for item, fault in sorted(verdict.dead, key=lambda pair: pair[0].raw.offset):
            if isinstance(fault, Invalid):
                item.attempts += 1
                await self._bury_fault(item, fault)
            else:
                await self._bury(item, Cause.EXHAUSTED, error=name_of(fault), reason=str(fault))
        if verdict.why is not None:
            await self._wait(verdict.why, waits)
        return verdict.again

    async def _refuse(self, item: Item, unreadable: Unreadable) -> None:
        """An unreadable record: say so to whoever asked, then bury it."""
        answer, waits = self._subscription.unreadable, _Waits()
        while answer is not None:
            try:
                events = await answer(unreadable)
                await self._publish([event.encode() for event in events])
                break
            except Exception as error:  # noqa: BLE001  the record is unreadable whatever becomes of its answer
                item.attempts += not is_outage(error)
                if item.attempts >= self._policy.bug_attempts:
                    break
                await self._wait(error, waits)
        await self._bury(
            item,
            Cause.UNREADABLE,
            error="Unreadable",
            reason=unreadable.problem,
            counts=self._subscription.counts_unreadable,
        )

    async def _bury_fault(self, item: Item, fault: Invalid) -> None:
        await self._bury(item, Cause.INVALID, error=name_of(fault), reason=str(fault), reason_code=fault.reason)

    async def _bury(
        self, item: Item, cause: Cause, *, error: str, reason: str, reason_code: str = "", counts: bool = True
    ) -> None:
        if counts:
            self._limits.check()
        death = Death(
            cause=cause,
            error=error,
            reason=reason,
            reason_code=reason_code,
            attempts=item.attempts,
            first_seen=item.first_seen,
            group=self._subscription.group,
            code_version=self._code_version,
        )
        if self._subscription.dead_letters is not None:
            await self._write(item.raw, death, self._subscription.dead_letters)
        if counts:
            self._limits.dead()
        item.settled = True
        self._port.died(item.raw, death)
        self._advance()

    async def _write(self, raw: Raw, death: Death, topic: str) -> None:
        key, died_at = raw.key or b"", self._clock()
        headers = bury(raw, death, died_at=died_at)
        try:
            await self._publish([Encoded(topic=topic, key=key, value=raw.value or b"", headers=headers)])
        except TooLarge:
            # Provenance made it too large for its topic. The record itself stays where it was read.
            headers = bury(raw, death, died_at=died_at, omit_body=True)
            await self._publish([Encoded(topic=topic, key=key, value=b"", headers=headers)])

    async def _publish_each(self, publications: Sequence[tuple[int, Event]]) -> dict[int, TooLarge]:
        """Publish in order; return the causes whose events are over the broker's limit."""
        if not publications:
            return {}
        try:
            await self._publish([event.encode() for _, event in publications])
        except TooLarge:
            pass
        else:
            return {}
        refused: dict[int, TooLarge] = {}
        for offset, event in publications:
            if offset not in refused:
                try:
                    await self._publish([event.encode()])
                except TooLarge as fault:
                    refused[offset] = fault
        return refused

    async def _publish(self, encoded: Sequence[Encoded]) -> None:
        waits = _Waits()
        while True:
            try:
                return await self._port.publish(encoded)
            except Unreachable as fault:
                await self._wait(fault, waits)

    async def _wait(self, fault: Exception, waits: _Waits) -> None:
        paused = is_outage(fault)
        backoff: Backoff = self._policy.pause if paused else self._policy.retry
        hint = fault.retry_after if isinstance(fault, Transient) else None
        delay = backoff.wait(waits.outages if paused else waits.others, rng=self._rng, at_least=hint)
        if paused:
            waits.outages += 1
        else:
            waits.others += 1
        await self._port.wait(delay, fault, paused=paused)

    def _advance(self) -> None:
        offset = None
        for item in self._items:
            if not item.settled:
                break
            offset = item.raw.offset + 1
        if offset is not None:
            self._port.advance(offset)
