"""What happens by itself: feedback is taken, runs are started, done and told."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from anabranch_faults import Fault, Invalid, Transient
from anabranch_training.application.drifting import WatchDrift
from anabranch_training.application.ports import (
    Book,
    Feedback,
    Made,
    Material,
    NotEnough,
    Order,
    Policies,
    Searcher,
    Shelf,
    Supply,
    Tracker,
    Workshop,
)
from anabranch_training.application.runs import enough, utc_now
from anabranch_training.domain.drift import drifted
from anabranch_training.domain.ratings import Taken
from anabranch_training.domain.runs import ACTIVE, SERVICE, DatasetKind, Recipe, Run, RunState, due, run_id_from

__all__ = ["Conductor", "TakeFeedback", "Watcher"]

_MOST_FEEDBACK: Final = 100_000
"""The newest are learned from: what is older says little about the index of today."""


class Watcher(Protocol):
    """Hears what happens to runs."""

    def moved(self, run: Run) -> None:
        """A run is in another state."""

    def postponed(self, problem: str) -> None:
        """Something that is needed is away; it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeFeedback:
    """Keeps joined feedback."""

    book: Book
    taken: Callable[[], None]

    async def __call__(self, ratings: Sequence[tuple[str, Taken]]) -> int:
        """Keep them, by event id; return how many changed something."""
        changed = await self.book.take(ratings) if ratings else 0
        if changed:
            self.taken()
        return changed


@dataclass(kw_only=True)
class Conductor:
    """Starts what is due and does what is queued: one run at a time for a corpus, `at_once` in all."""

    book: Book
    policies: Policies
    workshop: Workshop
    shelf: Shelf
    searcher: Searcher
    feedback: Feedback
    drift: WatchDrift
    watcher: Watcher
    tracker: Tracker | None = None
    at_once: int = 1
    look_every: timedelta = timedelta(seconds=1)
    now: Callable[[], datetime] = utc_now
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _running: dict[str, tuple[Run, asyncio.Task[None]]] = field(default_factory=dict)

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def stop(self, run_id: str) -> None:
        """A run was cancelled."""
        if run_id in self._running:
            self._running[run_id][1].cancel()
        self.wake()

    async def run(self) -> None:
        """Conduct until cancelled; runs under way are left for the next start to go on with."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self.look()
                except Transient as fault:
                    self.watcher.postponed(str(fault))
                    await asyncio.sleep(self.look_every.total_seconds())
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self.look_every.total_seconds())
        finally:
            tasks = [task for _, task in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Queue what is due, then begin what may begin."""
        for supply in await self.book.supplies():
            policy = self.policies.of(supply.tenant, supply.corpus)
            found = due(
                policy,
                fresh=supply.fresh,
                usable=supply.usable,
                last=supply.last_run_at,
                now=self.now(),
                drift=await self._drifted(supply) if policy.on_drift else "",
            )
            if found is not None:
                trigger, reason = found
                run = Run(
                    run_id=run_id_from(secrets.token_hex(6)),
                    tenant=supply.tenant,
                    corpus=supply.corpus,
                    recipe=Recipe.RERANKER,
                    trigger=trigger,
                    author=SERVICE,
                    reason=reason,
                    queued_at=self.now(),
                )
                queued = await self.book.queue(run)
                if queued is not None:
                    self.watcher.moved(queued)
        unfinished = await self.book.unfinished()
        alive = {run.run_id for run in unfinished}
        for run_id, (_, task) in self._running.items():
            if run_id not in alive:  # cancelled, perhaps through another replica
                task.cancel()
        for run in unfinished:
            busy = {(other.tenant, other.corpus) for other, _ in self._running.values()}
            if run.run_id in self._running or (run.tenant, run.corpus) in busy or len(self._running) >= self.at_once:
                continue
            task = asyncio.create_task(self._do(run), name=f"run {run.run_id}")
            self._running[run.run_id] = (run, task)
            task.add_done_callback(partial(self._ended, run.run_id))

    async def _drifted(self, supply: Supply) -> str:
        found = drifted(await self.drift.p_values(supply.tenant, supply.corpus))
        return f"{found[0]} have drifted since the last data set (p = {found[1]:.2g})" if found else ""

    def _ended(self, run_id: str, _task: asyncio.Task[None]) -> None:
        del self._running[run_id]
        self.wake()

    async def _do(self, run: Run) -> None:
        try:
            await self._make(run)
        except Transient as fault:
            # What is needed is away: the run stays where it is, and the next look goes on with it.
            self.watcher.postponed(f"{run.run_id}: {fault}")
            await asyncio.sleep(self.look_every.total_seconds())
            return
        except Fault as fault:
            await self._fail(run, str(fault))
        except Exception as error:  # noqa: BLE001  a bug must not hold up the queue for ever; the run says what it was
            await self._fail(run, f"{type(error).__name__}: {error}")
        await self.workshop.clear(run.run_id)

    async def _make(self, run: Run) -> None:
        if run.state not in ACTIVE:
            run = replace(run, state=RunState.BUILDING_DATASET, started_at=self.now())
            if not await self._moved(run):
                return
        if not self.workshop.ordered(run.run_id):
            cap = self.policies.of(run.tenant, run.corpus).per_user_cap
            await self.workshop.order(Order(run=run, material=await self._material(run), per_user_cap=cap))
        run = replace(run, state=RunState.TRAINING)
        if not await self._moved(run):
            return
        answers = await self.workshop.answers(run.run_id)
        made = await self.workshop.work(run.run_id)
        model = made.model
        if model is None:
            raise Invalid("the run made no model")
        # What unseen labels do not bear out is no candidate. Withheld from people, any model may be kept.
        declined = "" if run.withheld else model.declined
        made = await self.shelf.put(replace(made, model=None) if declined else made)
        run = replace(
            run,
            state=RunState.DONE,
            problem=declined,
            dataset_version=made.dataset.version,
            model_version=made.model.version if made.model is not None else "",
            parameters=model.parameters,
            metrics=model.metrics,
            finished_at=self.now(),
        )
        if await self.book.finish(run, replace(made, dataset=replace(made.dataset, created_at=self.now())), answers):
            self.watcher.moved(run)
            await self._track(run, made)

    async def _material(self, run: Run) -> Material:
        if run.kind is not DatasetKind.RANKING:
            return await self.feedback.opinions(run.tenant, run.corpus)
        if run.gold:
            judgments = await self.searcher.judged(run, await self.book.gold(run.run_id))
            if not judgments:
                raise NotEnough("the search found nothing for any of the questions", field="gold", reason="TOO_FEW")
            return Material(judgments=judgments)
        # Checked again: it may have been withdrawn while the run was waiting.
        enough(await self.book.supply(run.tenant, run.corpus), self.policies.of(run.tenant, run.corpus))
        return await self.book.material(run, most=_MOST_FEEDBACK)

    async def _moved(self, run: Run) -> bool:
        moved = await self.book.move(run)
        if moved:
            self.watcher.moved(run)
        return moved

    async def _fail(self, run: Run, problem: str) -> None:
        present = await self.book.run(run.run_id) or run
        failed = replace(present, state=RunState.FAILED, problem=problem[:2000], finished_at=self.now())
        if await self._moved(failed):
            await self._track(failed, None)

    async def _track(self, run: Run, made: Made | None) -> None:
        if self.tracker is not None:
            await self.tracker.ended(run, made)
