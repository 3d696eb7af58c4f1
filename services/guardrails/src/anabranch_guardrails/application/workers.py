"""Threads that checks run in, because nothing in this process can stop one that hangs.

A job is a list of looks, done in order by one worker; the caller waits with a clock in hand. A look is over its time
when it has used that much processor time, or much more on the wall (four times as much, and the grace that the pool is
given): a busy machine is not a slow check. The worker that hangs in it is given up (its later results go nowhere) and
replaced, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from anabranch_faults import Overloaded
from anabranch_guardrails.domain import Finding

__all__ = ["Look", "Looked", "Workers"]

_WALL: Final = 4
_SOON: Final = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One thing to be done. `parts` are done one after the other, so that a long text is left between two of them.

    `limit` holds for each part. What `stops` says yes to leaves all later looks skipped that are not to be done
    `always`; it is called in the worker's thread, or in the caller's where the look is late.
    """

    name: str
    parts: Sequence[Callable[[], Finding]]
    limit: timedelta
    always: bool = False
    stops: Callable[[Looked], bool] = lambda _: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How it went: the parts' findings, or a fault, or neither where it was late."""

    findings: Sequence[Finding] = ()
    fault: Exception | None = None
    late: bool = False
    skipped: bool = False
    took: timedelta = timedelta(0)


@dataclass(slots=True)
class _Job:
    looks: Sequence[Look]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    results: list[Looked] = field(default_factory=list)
    decided: bool = False
    left: bool = False
    at: int = 0
    began: float = 0.0
    used: float = 0.0  # the worker's processor time when the part began
    worker: threading.Thread | None = None
    given_up: bool = False


class Workers:
    """A pool of threads. Raises Overloaded when `waiting` jobs are in line, or too many workers hang."""

    def __init__(
        self,
        *,
        threads: int,
        waiting: int,
        most_hanging: int = 8,
        grace: timedelta = timedelta(seconds=1),
        abandoned: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Starts no thread before the first job."""
        self._threads = threads
        self._waiting = waiting
        self._most_hanging = most_hanging
        self._grace = grace.total_seconds()
        self._abandoned = abandoned
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        self._hanging = 0
        self._open = 0

    @property
    def ready(self) -> str | None:
        """Why no check can be run."""
        return f"{self._hanging} checks hang" if self._hanging >= self._most_hanging else None

    @property
    def jobs(self) -> int:
        """Jobs at work and in line."""
        return self._open

    async def run(self, looks: Sequence[Look], *, patient: bool = False) -> list[Looked]:
        """Does `looks` in order; one that asks to stop leaves the rest skipped. One result for each.

        Who is `patient` is not told Overloaded for the line's length: use it where their number is bounded otherwise.
        """
        if not looks:
            return []
        if not patient and self._open >= self._threads + self._waiting:
            raise Overloaded("too many texts are being checked", retry_after=_SOON)
        self._open += 1
        try:
            return await self._run(looks)
        finally:
            self._open -= 1

    def close(self) -> None:
        """Lets idle workers go."""
        for _ in range(self._alive):
            self._jobs.put(None)

    async def _run(self, looks: Sequence[Look]) -> list[Looked]:
        results: list[Looked] = []
        decided = False
        while len(results) < len(looks):
            if self._hanging >= self._most_hanging:
                raise Overloaded("checks hang, and no worker is left", retry_after=timedelta(seconds=1))
            loop = asyncio.get_running_loop()
            job = _Job(looks[len(results) :], loop, loop.create_future(), decided=decided)
            self._start()
            self._jobs.put(job)
            try:
                late = await self._watch(job)
            except asyncio.CancelledError:
                job.left = True
                raise
            results += job.results
            decided = job.decided
            if late is not None:
                decided = decided or looks[len(results)].stops(late)
                results.append(late)
        return results

    async def _watch(self, job: _Job) -> Looked | None:
        """Waits for the job; the late look's result where one is late."""
        while True:
            wait = self._left(job)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait, 0.001)):
                    await asyncio.shield(job.done)
            with self._lock:
                if job.done.done() or self._finished(job):
                    return None
                if self._left(job) <= 0:
                    job.given_up = True
                    self._hanging += 1
                    self._alive -= 1
                    name, began = job.looks[job.at].name, job.began
                    break
        self._abandoned(name)
        return Looked(late=True, took=timedelta(seconds=time.perf_counter() - began))

    @staticmethod
    def _finished(job: _Job) -> bool:
        return len(job.results) == len(job.looks)

    def _left(self, job: _Job) -> float:
        """Seconds until the present look is late; while the job is in line, as long as it takes."""
        worker, began, at = job.worker, job.began, job.at
        if worker is None or began == 0.0 or at >= len(job.looks):
            return 0.05
        limit = job.looks[at].limit.total_seconds()
        wall = time.perf_counter() - began
        if wall < limit:
            return limit - wall
        used, longest = _processor_time(worker) - job.used, max(limit * _WALL, self._grace)
        if used >= limit or wall >= longest:
            return 0.0
        return min(limit - used, longest - wall)

    def _start(self) -> None:
        with self._lock:
            if self._alive < self._threads:
                self._alive += 1
                threading.Thread(target=self._work, name="check", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
            if job.given_up:
                with self._lock:
                    self._hanging -= 1
                return
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(_finish, job.done)

    def _do(self, job: _Job) -> None:
        job.worker = threading.current_thread()
        for at, look in enumerate(job.looks):
            if job.left or job.given_up:
                return
            looked = Looked(skipped=True) if job.decided and not look.always else self._look(job, at, look)
            with self._lock:
                if job.given_up:
                    return
                job.results.append(looked)
                job.began = 0.0
            job.decided = job.decided or (not looked.skipped and look.stops(looked))

    @staticmethod
    def _look(job: _Job, at: int, look: Look) -> Looked:
        began = time.perf_counter()
        findings: list[Finding] = []
        for part in look.parts:
            if job.left or job.given_up:
                break
            job.used = time.thread_time()
            job.at, job.began = at, time.perf_counter()
            try:
                findings.append(part())
            except Exception as fault:  # noqa: BLE001  whatever a check raises is counted, and handled as the policy says
                return Looked(fault=fault, took=timedelta(seconds=time.perf_counter() - began))
        return Looked(findings=findings, took=timedelta(seconds=time.perf_counter() - began))


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _processor_time(thread: threading.Thread) -> float:
    if thread.ident is None or not thread.is_alive():
        return 0.0
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    except OSError:
        return 0.0
