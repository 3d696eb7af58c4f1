"""What is kept, and for how long: runs whose process is gone are failed, what is old is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Protocol

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.application.ports import Runs
from anabranch_faults import Transient


@dataclass(frozen=True, slots=True, kw_only=True)
class TendRuns:
    """Beats for the runs of this process, and fails those of any process that have not beaten for `lease`.

    Time passes by this process's own clock, between what it saw and what it sees: no two clocks need to agree, and a
    run that was left behind is failed one lease after somebody began to look.
    """

    runs: Runs
    own: Callable[[], Collection[str]]
    delayed: Callable[[str], None]
    every: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=60)
    clock: Callable[[], float] = monotonic
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    async def run(self) -> None:
        """Beats and looks again and again. An outage is waited out, and is no run's fault."""
        while True:
            try:
                await self.look()
            except Transient as fault:
                self._seen.clear()
                self.delayed(str(fault))
            await asyncio.sleep(self.every.total_seconds())

    async def look(self) -> None:
        """Once."""
        own = self.own()
        if own:
            await self.runs.beat(own)
        running, now = await self.runs.running(), self.clock()
        for gone in self._seen.keys() - running.keys():
            del self._seen[gone]
        for run_id, beats in running.items():
            seen, since = self._seen.get(run_id, (-1, now))
            if seen != beats or run_id in own:
                self._seen[run_id] = (beats, now)
            elif now - since >= self.lease.total_seconds():
                await self.runs.abandon(run_id, beats=beats, problem="the process that ran it is gone")


class Attic(Protocol):
    """What was seen of answers (exposures, opinions, live scores), and what scoring them keeps (verdicts, vectors)."""

    async def drop(self, *, before: datetime, keeping: Collection[str], most: int) -> int:
        """Drops at most so many of what is older, and of no experiment in `keeping`; how many it were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOld:
    """Drops what is older than `retention` and belongs to no active experiment, a batch at a time."""

    attic: Attic
    active: Callable[[], Collection[str]]
    dropped: Callable[[int], None]
    delayed: Callable[[str], None]
    retention: timedelta
    every: timedelta = timedelta(hours=1)
    batch: int = 1_000
    pause: timedelta = timedelta(milliseconds=100)
    now: Clock = utc_now

    async def run(self) -> None:
        """Looks again and again, first after a while: at a start, the active experiments are not known yet."""
        while True:
            await asyncio.sleep(self.every.total_seconds())
            try:
                await self.look()
            except Transient as fault:
                self.delayed(str(fault))

    async def look(self) -> int:
        """Once, to the end; how many it were. Between batches others have the database."""
        whole, before = 0, self.now() - self.retention
        while count := await self.attic.drop(before=before, keeping=self.active(), most=self.batch):
            whole += count
            await asyncio.sleep(self.pause.total_seconds())
        if whole:
            self.dropped(whole)
        return whole
