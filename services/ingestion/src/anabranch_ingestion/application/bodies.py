"""Reads the bodies of a batch of changes side by side, and says which of them are held up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from anabranch_faults import Overloaded, Transient
from anabranch_ingestion.application.checking import CheckDocuments
from anabranch_ingestion.application.ports import Body, Clock, Reader, Sources
from anabranch_ingestion.domain import lifecycle
from anabranch_ingestion.domain.documents import (
    BodyKind,
    Change,
    Document,
    DocumentKey,
    Parsed,
    request_hash,
    sha256,
)
from anabranch_ingestion.domain.lifecycle import Verdict
from anabranch_ingestion.domain.refusals import Reason, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ingestion allows, and how patient it is."""

    body_bytes: int = 20 << 20
    part_chunks: int = 64
    part_bytes: int = 512 << 10
    # When nothing of a batch was finished for this long, what holds it up is put aside.
    slow: timedelta = timedelta(seconds=1)
    # As many at once: each holds its body in memory and, mostly, a worker.
    slow_at_once: int = 4
    # A batch that takes longer is cut short, and its rest read again.
    batch: timedelta = timedelta(seconds=15)
    overdue: timedelta = timedelta(minutes=10)
    # What was put aside, and could not be finished because a part is away, is tried again after this.
    outage: timedelta = timedelta(seconds=1)


@dataclass(slots=True, kw_only=True)
class Prepared:
    """A change with what reading its body came to: parsed, refused or postponed; none of these when not needed."""

    change: Change
    request_hash: str = ""
    content_sha256: str = ""
    parsed: Parsed | None = None
    refused: Refused | None = None
    fault: Transient | None = None
    # Which document it is about is certain, and its tenant known: only then anything is remembered of it.
    named: bool = True
    # Still being read; what it comes to is settled later.
    slow: asyncio.Task[Prepared] | None = None


@dataclass(slots=True, kw_only=True)
class ReadBodies:
    """Reads bodies where that is needed. At most `limits.slow_at_once` are handed out as slow at any time."""

    reader: Reader
    sources: Sources
    clock: Clock
    limits: Limits
    # None: nothing is checked.
    check: CheckDocuments | None = None
    _slow: int = field(default=0)

    async def all(self, checked: Sequence[Prepared], documents: Mapping[DocumentKey, Document]) -> list[Prepared]:
        """The batch, read; what holds it up comes back with `slow` set, what it has no time for with a fault."""
        tasks = {
            place: asyncio.create_task(
                self.one(one.change, documents.get(one.change.key, Document(key=one.change.key)))
            )
            for place, one in enumerate(checked)
            if one.refused is None
        }
        try:
            slow, late = await self._wait(list(tasks.values()))
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        prepared = []
        for place, one in enumerate(checked):
            if place not in tasks:
                prepared.append(one)
                continue
            task = tasks[place]
            if task in slow:
                prepared.append(Prepared(change=one.change, slow=task))
            elif task in late:
                prepared.append(Prepared(change=one.change, fault=Overloaded("other documents take long to read")))
            else:
                prepared.append(task.result())
        return prepared

    async def _wait(
        self, tasks: list[asyncio.Task[Prepared]]
    ) -> tuple[set[asyncio.Task[Prepared]], set[asyncio.Task[Prepared]]]:
        """Waits while something is finished now and then; the tasks that hold up, and those there is no time for."""
        slow: set[asyncio.Task[Prepared]] = set()
        pending = tasks
        ends = asyncio.get_running_loop().time() + self.limits.batch.total_seconds()
        while pending:
            before = len(pending)
            await asyncio.wait(pending, timeout=self.limits.slow.total_seconds())
            pending = [task for task in pending if not task.done()]
            over = asyncio.get_running_loop().time() > ends
            if pending and (over or len(pending) == before):
                # Those that came first are at work; the others wait for them.
                for task in pending[: max(0, self.limits.slow_at_once - self._slow)]:
                    self._slow += 1
                    task.add_done_callback(self._done)
                    slow.add(task)
                pending = [task for task in pending if task not in slow]
            if over:
                for task in pending:
                    task.cancel()
                return slow, set(pending)
        return slow, set()

    def _done(self, task: asyncio.Task[Prepared]) -> None:
        self._slow -= 1
        del task

    async def one(self, change: Change, document: Document) -> Prepared:
        """One change, read if it needs to be."""
        prepared = Prepared(change=change)
        if change.deleted or (change.version and change.version < document.seen):
            return prepared
        try:
            body, data = await self._body(change)
            prepared.content_sha256 = sha256(data)
            prepared.request_hash = request_hash(
                change, content_sha256=prepared.content_sha256, readers=self.reader.version
            )
            if self.judge(document, prepared) is Verdict.TAKE:
                parsed = await self.reader.read(body, title=change.title)
                if self.check is not None:
                    await self.check(change, parsed)
                prepared.parsed = parsed
        except Refused as refused:
            prepared.refused = refused
        except Transient as fault:
            prepared.fault = fault
        return prepared

    def judge(self, document: Document, prepared: Prepared) -> Verdict:
        """What to do with the change. Raises Refused."""
        return lifecycle.judge(
            document,
            prepared.change,
            request_hash=prepared.request_hash,
            now=self.clock(),
            overdue=self.limits.overdue,
        )

    async def _body(self, change: Change) -> tuple[Body, bytes]:
        """The body, fetched where it is a reference, and its bytes."""
        if change.body is BodyKind.URI:
            body = await self.sources.fetch(change.uri)
            body = replace(
                body,
                content_type=change.content_type or body.content_type,
                filename=change.filename or body.filename,
            )
        else:
            text = change.text if change.body is BodyKind.TEXT else None
            body = Body(text=text, data=change.content, content_type=change.content_type, filename=change.filename)
        data = body.data if body.text is None else body.text.encode("utf-8", "surrogatepass")
        if len(data) > self.limits.body_bytes:
            raise Refused(Reason.TOO_LARGE, f"the body has {len(data)} bytes, over the limit {self.limits.body_bytes}")
        return body, data
