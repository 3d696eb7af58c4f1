"""Public test doubles, and ingestion wired on a bus and a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from anabranch import topics
from anabranch.ingestion.v1 import events_pb2 as pb
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Event, MemoryBus
from anabranch_faults import Fault
from anabranch_ingestion.adapters.parsing.reading import ReadLimits
from anabranch_ingestion.adapters.reader import read_in_place
from anabranch_ingestion.application.ports import Body, Reader
from anabranch_ingestion.bootstrap import build
from anabranch_ingestion.domain.chunking import Window
from anabranch_ingestion.domain.documents import Parsed
from anabranch_ingestion.settings import Settings

_TURNS = 200


class InPlaceReader:
    """The real readers without worker processes; for trusted bodies. Counts what it reads.

    A body whose text is a key of `faults` raises that fault; one in `stuck` waits until its event is set.
    """

    version = "in place"

    def __init__(self) -> None:
        """Nothing is stuck, nothing fails."""
        self.reads = 0
        self.faults: dict[str, Fault] = {}
        self.stuck: dict[str, asyncio.Event] = {}

    async def read(self, body: Body, *, title: str) -> Parsed:
        """Reads the body."""
        self.reads += 1
        text = body.text if body.text is not None else body.data.decode("utf-8", "replace")
        if text in self.faults:
            raise self.faults[text]
        if text in self.stuck:
            await self.stuck[text].wait()
        return read_in_place(body, title=title, limits=ReadLimits(), window=Window())


def changed(document_id: str = "d", text: str = "", **fields: Any) -> DocumentChanged:
    """A change of `acme/wiki/<document_id>`."""
    fields = {"tenant": "acme", "corpus": "wiki", **fields}
    if text:
        fields["text"] = text
    return DocumentChanged(document_id=document_id, **fields)


def event(message: DocumentChanged, event_id: str, *, key: str | None = None) -> Event[DocumentChanged]:
    """The change as an event with an id of the test's choice."""
    own = f"{message.tenant}/{message.corpus}/{message.document_id}"
    topic = topics.UPSTREAM_DOCUMENT_CHANGED
    return Event(topic=topic, message=message, key=own if key is None else key, event_id=event_id)


class Ingestion:
    """Ingestion on a MemoryBus: deliver changes, see what is published."""

    def __init__(self, bus: MemoryBus, settings: Settings, reader: Reader) -> None:
        """Takes the parts; `running` makes one."""
        self.bus = bus
        self.settings = settings
        self.reader = reader
        self.service = build(settings, bus=bus, reader=reader)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path, *, reader: Reader | None = None, **settings: Any) -> AsyncIterator[Ingestion]:
        """Started, with its background work, on a database in `folder`."""
        made = cls(MemoryBus(), Settings(data=folder, **settings), reader or InPlaceReader())
        for step in made.service.starting:
            await step()
        tasks = [asyncio.ensure_future(task()) for task in made.service.background]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for step in reversed(made.service.closing):
                await step()

    async def put(self, *events: Event[DocumentChanged] | DocumentChanged) -> None:
        """Delivers changes; returns when they are handled, their answers perhaps still in the outbox."""
        await self.bus.deliver(topics.UPSTREAM_DOCUMENT_CHANGED, list(events))

    async def indexed(self, chunked: pb.DocumentChunked, generation: int = 1) -> None:
        """Says what retrieval says when readers see the version."""
        message = DocumentIndexed(
            document=chunked.document,
            caused_by=chunked.caused_by,
            deleted=chunked.deleted,
            index_generation=generation,
            chunk_count=chunked.chunk_count,
        )
        await self.bus.deliver(topics.RETRIEVAL_DOCUMENT_INDEXED, [message])

    def statuses(self) -> list[pb.DocumentStatusChanged]:
        """What was answered so far."""
        return [one.message for one in self.bus.published(topics.INGESTION_DOCUMENT_STATUS)]

    def chunked(self) -> list[pb.DocumentChunked]:
        """What was sent on so far."""
        return [one.message for one in self.bus.published(topics.INGESTION_DOCUMENT_CHUNKED)]

    async def answers(self, count: int) -> list[tuple[str, str]]:
        """(cause, state) of the first `count` answers, waited for."""
        for _ in range(_TURNS):
            if len(self.statuses()) >= count:
                break
            await asyncio.sleep(0.02)
        return [(one.caused_by, state_of(one)) for one in self.statuses()]


def state_of(status: pb.DocumentStatusChanged) -> str:
    """`ACCEPTED`, or `REJECTED TOO_LARGE`."""
    state = pb.DocumentState.Name(status.state).removeprefix("DOCUMENT_STATE_")
    if status.HasField("rejection"):
        reason = pb.RejectionReason.Name(status.rejection.reason)
        return f"{state} {reason.removeprefix('REJECTION_REASON_')}"
    return state
