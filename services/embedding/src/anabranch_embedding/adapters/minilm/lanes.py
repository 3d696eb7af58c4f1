"""Two ways to the processor: an express lane for who waits, and turns for the rest.

Both own their threads. The threads of the turns run at a lower priority (on Linux), so that a query gets a core at
once even when documents keep all of them busy.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Condition, Thread, get_native_id
from typing import Any, Final, Generic, TypeVar

from anabranch_faults import Overloaded

__all__ = ["Express", "Turns"]

In = TypeVar("In")
Out = TypeVar("Out")

_RETRY_EXPRESS: Final = timedelta(milliseconds=100)
_RETRY_TURNS: Final = timedelta(seconds=1)


@dataclass(eq=False, slots=True)
class _Job:
    """Pieces of one caller's work, and where the results go."""

    pieces: Sequence[Callable[[], Any]]
    done: asyncio.Future[list[Any]]
    loop: asyncio.AbstractEventLoop
    results: list[Any] = field(init=False)
    next: int = 0
    open: int = field(init=False)

    def __post_init__(self) -> None:
        self.results = [None] * len(self.pieces)
        self.open = len(self.pieces)


class Turns:
    """Threads that serve jobs piece by piece, every job in its turn: a small job does not wait for a large one to end.

    At most `limit` units of weight are admitted at once; but whatever is alone is admitted, however large.
    """

    def __init__(self, *, threads: int, limit: int, niceness: int = 0) -> None:
        """Starts no thread yet; the first job does."""
        self._limit = limit
        self._niceness = niceness
        self._admitted = 0
        self._jobs: deque[_Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._threads = [
            Thread(target=self._work, name=f"embedding-turns-{number}", daemon=True) for number in range(threads)
        ]

    @property
    def admitted(self) -> int:
        """Weight of what waits or runs."""
        return self._admitted

    @contextmanager
    def admission(self, weight: int) -> Iterator[None]:
        """Hold room for a piece of work. Raises Overloaded when there is none. On the event loop only."""
        if self._admitted and self._admitted + weight > self._limit:
            raise Overloaded(
                f"{self._admitted} texts are waiting to be embedded; the limit is {self._limit}",
                retry_after=_RETRY_TURNS,
            )
        self._admitted += weight
        try:
            yield
        finally:
            self._admitted -= weight

    async def run(self, pieces: Sequence[Callable[[], Out]]) -> list[Out]:
        """Return what the pieces return, in their order. An exception of one ends the job; cancelling ends it, too."""
        if not pieces:
            return []
        loop = asyncio.get_running_loop()
        job = _Job(pieces=pieces, done=loop.create_future(), loop=loop)
        with self._changed:
            if self._closed:
                raise Overloaded("the service is stopping")
            for thread in self._threads:
                if thread.ident is None:
                    thread.start()
            self._jobs.append(job)
            self._changed.notify(len(pieces))
        return await job.done

    def close(self) -> None:
        """End the threads once their present pieces are done; jobs that are not finished never finish. Blocks."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        _lower_priority(self._niceness)
        while True:
            with self._changed:
                while not self._jobs:
                    if self._closed:
                        return
                    self._changed.wait()
                job = self._jobs.popleft()
                number = job.next
                job.next += 1
                if job.next < len(job.pieces) and not job.done.cancelled():
                    self._jobs.append(job)
            if not job.done.done():
                self._run(job, number)

    def _run(self, job: _Job, number: int) -> None:
        try:
            job.results[number] = job.pieces[number]()
        except BaseException as error:  # noqa: BLE001  it is the caller's, who is told
            job.next = len(job.pieces)
            _tell(job.loop, job.done, error=error)
            return
        with self._changed:
            job.open -= 1
            last = job.open == 0
        if last:
            _tell(job.loop, job.done, result=job.results)


@dataclass(eq=False, slots=True)
class _Call(Generic[In, Out]):
    items: Sequence[In]
    done: asyncio.Future[list[Out]]
    loop: asyncio.AbstractEventLoop


class Express(Generic[In, Out]):
    """One thread that takes together whatever came while it was busy.

    A call that finds it idle begins at once; one that does not waits for one round to end, so rounds grow with the
    load and nobody waits for a timer. `process` gets the items of several calls and returns as many results.
    """

    def __init__(
        self,
        process: Callable[[Sequence[In]], Sequence[Out]],
        *,
        limit: int,
        most: int,
        weigh: Callable[[In], int] = lambda _: 1,
    ) -> None:
        """Takes how many items may wait, and what a round may weigh when it is of several calls.

        Starts no thread yet.
        """
        self._process = process
        self._limit = limit
        self._most = most
        self._weigh = weigh
        self._waiting: deque[_Call[In, Out]] = deque()
        self._items = 0
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._work, name="embedding-express", daemon=True)

    async def run(self, items: Sequence[In]) -> list[Out]:
        """Return a result for each item. Raises Overloaded when too many wait, and what `process` raises."""
        loop = asyncio.get_running_loop()
        call = _Call[In, Out](items=items, done=loop.create_future(), loop=loop)
        with self._changed:
            if self._closed:
                raise Overloaded("the service is stopping")
            if self._items and self._items + len(items) > self._limit:
                raise Overloaded(
                    f"{self._items} queries are waiting to be embedded; the limit is {self._limit}",
                    retry_after=_RETRY_EXPRESS,
                )
            if self._thread.ident is None:
                self._thread.start()
            self._waiting.append(call)
            self._items += len(items)
            self._changed.notify()
        return await call.done

    def close(self) -> None:
        """End the thread once its present round is done; calls that wait never return. Blocks."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                calls = self._take()
            if calls:
                self._serve(calls)

    def _take(self) -> list[_Call[In, Out]]:
        calls: list[_Call[In, Out]] = []
        weight = 0
        while self._waiting:
            call = self._waiting[0]
            if not call.done.cancelled():
                weight += sum(map(self._weigh, call.items))
                if calls and weight > self._most:
                    break
                calls.append(call)
            self._waiting.popleft()
            self._items -= len(call.items)
        return calls

    def _serve(self, calls: Sequence[_Call[In, Out]]) -> None:
        try:
            results = list(self._process([item for call in calls for item in call.items]))
        except BaseException as error:  # noqa: BLE001  it is the callers', who are told
            for call in calls:
                _tell(call.loop, call.done, error=error)
            return
        for call in calls:
            _tell(call.loop, call.done, result=results[: len(call.items)])
            del results[: len(call.items)]


def _tell(
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[Any],
    *,
    result: Any = None,
    error: BaseException | None = None,
) -> None:
    def settle() -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop is closed: the process is ending and nobody waits any more.
        return


def _lower_priority(niceness: int) -> None:
    """On Linux a thread has a priority of its own; elsewhere this would change the whole process."""
    if niceness and sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), niceness)
