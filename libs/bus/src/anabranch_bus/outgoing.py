"""Events on their way out behind the caller's back: what is told must not slow down who tells it."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, Protocol, TypeVar

from anabranch_bus.events import Encoded
from anabranch_faults import Fault, Transient

__all__ = ["Outgoing", "Watcher"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

FIRST_WAIT: Final = timedelta(milliseconds=100)
LONGEST_WAIT: Final = timedelta(seconds=5)


class Watcher(Protocol[T_contra]):
    """Who hears what becomes of them. None of these waits or raises."""

    def lost(self, reason: str, items: Sequence[T_contra], *, problem: str = "") -> None:
        """Given up: `full` (no room), `stopped` (not published in time), `refused` (cannot be published)."""
        ...

    def delayed(self, waiting: int, *, problem: str) -> None:
        """The broker is away; they wait."""
        ...

    def held(self, waiting: int) -> None:
        """So many are not yet acknowledged."""
        ...


@dataclass(slots=True, kw_only=True)
class _Bounds:
    capacity: int
    batch: int
    linger: float


class Outgoing(Generic[T]):
    """A bounded queue in memory, published in order and in batches by `run`.

    Each waits for company for at most `linger`. A broker that is away is tried again until it is back. One that can
    never be published is given up, and its neighbours go on. `encode` may say None: there is nothing to publish.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[Encoded]], Awaitable[None]],
        *,
        encode: Callable[[T], Encoded | None],
        watcher: Watcher[T],
        capacity: int,
        batch: int = 64,
        linger: timedelta = timedelta(0),
    ) -> None:
        """Takes `Bus.publish_encoded`, and the bounds."""
        self._send = publish
        self._encode = encode
        self._watcher = watcher
        self._bounds = _Bounds(capacity=capacity, batch=min(batch, capacity), linger=linger.total_seconds())
        self._queue: deque[T] = deque()
        self._in_hand: Sequence[T] = ()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._progress = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many are not yet acknowledged."""
        return len(self._queue) + len(self._in_hand)

    def add(self, items: Sequence[T]) -> bool:
        """Takes all, or none where there is no room for all: then they are still the caller's."""
        if self.waiting + len(items) > self._bounds.capacity:
            return False
        self._queue.extend(items)
        self._watcher.held(self.waiting)
        self._some.set()
        if len(self._queue) >= self._bounds.batch:
            self._enough.set()
        return True

    async def moved(self, patience: timedelta) -> None:
        """Waits until something was published, for `patience` at most."""
        self._progress.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                await self._progress.wait()

    async def run(self) -> None:
        """Publishes what comes in, until it is cancelled."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.linger):
                    await self._enough.wait()
            self._some.clear()
            self._enough.clear()
            while self._queue:
                self._in_hand = [self._queue.popleft() for _ in range(min(self._bounds.batch, len(self._queue)))]
                try:
                    await self._publish(self._in_hand)
                finally:
                    self._in_hand = ()
                    self._watcher.held(self.waiting)
                    self._progress.set()

    async def flush(self, limit: timedelta) -> None:
        """Waits until `run` has published everything; what cannot go within `limit` is given up."""
        self._bounds.linger = 0.0
        self._enough.set()
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while self.waiting:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            self._watcher.lost("stopped", [*self._in_hand, *self._queue])
            self._queue.clear()

    async def _publish(self, items: Sequence[T]) -> None:
        told = [(item, encoded) for item in items if (encoded := self._encode(item)) is not None]
        wait = FIRST_WAIT
        while told:
            try:
                await self._send([encoded for _, encoded in told])
            except Transient as fault:
                self._watcher.delayed(self.waiting, problem=str(fault))
                await asyncio.sleep(wait.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311  jitter, no secret
                wait = min(wait * 2, LONGEST_WAIT)
            except Fault as fault:
                if len(told) == 1:
                    self._watcher.lost("refused", [told[0][0]], problem=str(fault))
                    return
                # One of them can never be published; the others must not be lost with it.
                for item, _ in told:
                    await self._publish([item])
                return
            else:
                return
