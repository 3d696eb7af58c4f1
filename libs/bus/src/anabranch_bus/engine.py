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
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from anabranch_bus import tracing
from anabranch_bus.dead_letters import Cause, Death, bury
from anabranch_bus.events import Encoded, Event
from anabranch_bus.policy import Limits, Policy
from anabranch_bus.records import Batch, Outcome, Raw, Record, Unreadable
from anabranch_bus.subscription import Subscription
from anabranch_faults import Invalid, Overloaded, TooLarge, Transient, Unreachable

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


@dataclass(slots=True, eq=False)
class _Item:
    raw: Raw
    record: Record[Any] | None
    unreadable: Unreadable | None
    first_seen: datetime
    attempts: int = 0
    settled: bool = False


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
        self._items: list[_Item] = []

    async def settle(self, raws: Sequence[Raw]) -> None:
        """Settle records of one partition, in order. Raises Halted; otherwise every record is done or dead."""
        self._items = [self._item(raw) for raw in raws]
        run: list[_Item] = []
        for item in self._items:
            if item.record is not None:
                run.append(item)
                continue
            await self._run(run)
            run = []
            await self._refuse(item)
        await self._run(run)

    async def settle_unread(self, raw: Raw, *, times: int) -> None:
        """Send a record that ends the process to the dead letters, without looking at it. Raises Halted."""
        item = _Item(raw=raw, record=None, unreadable=None, first_seen=self._clock(), attempts=times)
        self._items = [item]
        reason = f"the process ended {times} times while it handled this record; it was not tried again"
        await self._bury(item, Cause.KILLED, error="ProcessEnded", reason=reason)

    def _item(self, raw: Raw) -> _Item:
        read = self._subscription.decode(raw)
        if isinstance(read, Unreadable):
            return _Item(raw=raw, record=None, unreadable=read, first_seen=self._clock())
        return _Item(raw=raw, record=read, unreadable=None, first_seen=self._clock())

    async def _run(self, items: list[_Item]) -> None:
        """Settle readable items; returns when all are."""
        todo = items
        tries = pauses = waits = 0
        while todo:
            try:
                outcome = await self._call(todo)
            except Invalid as fault:
                if len(todo) == 1:
                    return await self._bury_fault(todo[0], fault)
                return await self._halves(todo)
            except (Overloaded, Unreachable) as fault:
                await self._pause(fault, pauses)
                pauses += 1
                continue
            except Transient as fault:
                if len(todo) > 1:
                    tries += 1
                    if tries >= _WHOLE_TRIES:
                        return await self._halves(todo)
                elif await self._charge(todo[0], fault):
                    return None
                await self._back_off(fault, waits)
                waits += 1
                continue
            except Exception as bug:  # noqa: BLE001  whatever a handler raises has a fate, and a record to blame
                if len(todo) > 1:
                    return await self._halves(todo)
                if await self._charge_bug(todo[0], bug):
                    return None
                await self._back_off(bug, waits)
                waits += 1
                continue
            todo, fault = await self._apply(todo, outcome)
            if fault is None:
                continue
            if isinstance(fault, Overloaded | Unreachable):
                await self._pause(fault, pauses)
                pauses += 1
            elif todo:
                await self._back_off(fault, waits)
                waits += 1
        return None

    async def _halves(self, items: list[_Item]) -> None:
        middle = len(items) // 2
        await self._run(items[:middle])
        await self._run(items[middle:])

    async def _call(self, items: list[_Item]) -> Outcome[Any]:
        records = [item.record for item in items if item.record is not None]
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

    async def _apply(self, items: list[_Item], outcome: Outcome[Any]) -> tuple[list[_Item], Transient | None]:
        """Give each item its fate; return those to handle again, and why."""
        again: list[_Item] = []
        invalid: list[tuple[_Item, Invalid]] = []
        spent: list[tuple[_Item, Transient]] = []
        done: dict[int, _Item] = {}
        waiting: set[str] = set()
        why: Transient | None = None
        for item in items:
            assert item.record is not None  # noqa: S101  only readable items are run
            key, fault = item.record.key, outcome.fault_of(item.raw.offset)
            if isinstance(fault, Invalid):
                # Nothing of this key went ahead of it that should not: a dead letter has no effect to put in order.
                invalid.append((item, fault))
            elif key in waiting:
                again.append(item)
            elif isinstance(fault, Transient):
                free = isinstance(fault, Overloaded | Unreachable)
                item.attempts += not free
                if not free and item.attempts >= self._policy.attempts:
                    spent.append((item, fault))
                    continue
                if key:
                    waiting.add(key)
                again.append(item)
                why = fault if why is None or free else why
            else:
                done[item.raw.offset] = item
        refused = await self._publish_all([(o, e) for o, e in outcome.publications() if o in done])
        for offset, too_large in refused.items():
            invalid.append((done.pop(offset), too_large))
        self._limits.done(len(done))
        for item in done.values():
            item.settled = True
        self._advance()
        for item, fault in sorted([*invalid, *spent], key=lambda pair: pair[0].raw.offset):
            if isinstance(fault, Invalid):
                await self._bury_fault(item, fault)
            else:
                await self._bury(item, Cause.EXHAUSTED, error=_name(fault), reason=str(fault))
        return again, why

    async def _publish_all(self, publications: Sequence[tuple[int, Event]]) -> dict[int, TooLarge]:
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
        n = 0
        while True:
            try:
                return await self._port.publish(encoded)
            except Unreachable as fault:
                await self._pause(fault, n)
                n += 1

    async def _refuse(self, item: _Item) -> None:
        """An unreadable record: say so to whoever asked, then bury it."""
        unreadable, answer = item.unreadable, self._subscription.unreadable
        assert unreadable is not None  # noqa: S101  only unreadable items are refused
        n = 0
        while answer is not None:
            item.attempts += 1
            try:
                events = await answer(unreadable)
                await self._publish([event.encode() for event in events])
                break
            except (Overloaded, Unreachable) as fault:
                item.attempts -= 1
                await self._pause(fault, n)
            except Exception as error:  # noqa: BLE001  the record is unreadable whatever its answer is
                if item.attempts >= self._policy.bug_attempts:
                    break
                await self._back_off(error, n)
            n += 1
        await self._bury(
            item,
            Cause.UNREADABLE,
            error="Unreadable",
            reason=unreadable.problem,
            counts=self._subscription.counts_unreadable,
        )

    async def _charge(self, item: _Item, fault: Transient) -> bool:
        item.attempts += 1
        if item.attempts < self._policy.attempts:
            return False
        await self._bury(item, Cause.EXHAUSTED, error=_name(fault), reason=str(fault))
        return True

    async def _charge_bug(self, item: _Item, bug: Exception) -> bool:
        item.attempts += 1
        if item.attempts < self._policy.bug_attempts:
            return False
        await self._bury(item, Cause.BUG, error=_name(bug), reason=_where(bug))
        return True

    async def _bury_fault(self, item: _Item, fault: Invalid) -> None:
        item.attempts += 1
        await self._bury(item, Cause.INVALID, error=_name(fault), reason=str(fault), reason_code=fault.reason)

    async def _bury(
        self, item: _Item, cause: Cause, *, error: str, reason: str, reason_code: str = "", counts: bool = True
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

    async def _pause(self, fault: Transient, n: int) -> None:
        delay = self._policy.pause.wait(n, rng=self._rng, at_least=fault.retry_after)
        await self._port.wait(delay, fault, paused=True)

    async def _back_off(self, fault: Exception, n: int) -> None:
        hint = fault.retry_after if isinstance(fault, Transient) else None
        await self._port.wait(self._policy.retry.wait(n, rng=self._rng, at_least=hint), fault, paused=False)

    def _advance(self) -> None:
        offset = None
        for item in self._items:
            if not item.settled:
                break
            offset = item.raw.offset + 1
        if offset is not None:
            self._port.advance(offset)


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _where(error: Exception) -> str:
    """The error and the place it was raised: what one needs to find the bug, without the values in the stack."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{error}{place}"
