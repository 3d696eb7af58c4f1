from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from anabranch_faults import Overloaded, Unreachable
from anabranch_ingestion.adapters.sources import AllowedSources
from anabranch_ingestion.adapters.store.documents import SqlDocuments, SqlLedger
from anabranch_ingestion.application.answers import LookAfter
from anabranch_ingestion.application.bodies import Limits, ReadBodies
from anabranch_ingestion.application.changes import IngestChanges
from anabranch_ingestion.application.ports import Finding
from anabranch_ingestion.domain.documents import BodyKind, Change, DocumentKey, Sent, State, Status
from anabranch_ingestion.testing import InPlaceReader
from anabranch_store import Database
from anabranch_testkit import poll_until

KEY = DocumentKey("acme", "wiki", "d")


class Heard:
    """The `Log` port, remembering."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []
        self.parks: list[Change] = []
        self.late: list[int] = []
        self.failures: list[BaseException] = []
        self.findings: list[Finding] = []
        self.unlooked: list[bool] = []

    def answered(self, status: Status) -> None:
        self.statuses.append(status)

    def parked(self, change: Change) -> None:
        self.parks.append(change)

    def overdue(self, count: int, oldest: Sequence[Sent]) -> None:
        self.late.append(count)

    def flagged(self, change: Change, finding: Finding) -> None:
        self.findings.append(finding)

    def unchecked(self, change: Change, error: BaseException, *, taken: bool) -> None:
        self.unlooked.append(taken)

    def failed(self, change: Change, error: BaseException) -> None:
        self.failures.append(error)

    @property
    def states(self) -> list[State]:
        return [status.state for status in self.statuses]


def change(event_id: str, body: bytes, key: DocumentKey = KEY) -> Change:
    return Change(key=key, event_id=event_id, record_key=str(key), body=BodyKind.CONTENT, content=body)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'ingestion.db'}"
    made = Database(url, schema="ingestion", migrations="anabranch_ingestion.adapters.migrations")
    await made.migrate()
    yield made
    await made.close()


@pytest.fixture
def reader() -> InPlaceReader:
    return InPlaceReader()


@pytest.fixture
def heard() -> Heard:
    return Heard()


def ingesting(database: Database, reader: InPlaceReader, heard: Heard) -> IngestChanges:
    return IngestChanges(
        documents=SqlDocuments(database),
        bodies=ReadBodies(
            reader=reader,
            sources=AllowedSources((), limit=1_000),
            clock=lambda: datetime.now(UTC),
            limits=Limits(slow=timedelta(milliseconds=20), batch=timedelta(milliseconds=200), slow_at_once=2),
        ),
        clock=lambda: datetime.now(UTC),
        log=heard,
    )


async def expire(database: Database, *, attempts: int = 1) -> None:
    async with database.transaction() as tx:
        await tx.execute(text(f"update parked set lease_until = '2020-01-01', attempts = {attempts}"))  # noqa: S608  a number of the test


async def test_a_slow_document_outlives_the_process_that_read_it(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    reader.stuck["Slow."] = asyncio.Event()
    first = ingesting(database, reader, heard)
    assert await first([change("e1", b"Slow.")]) == {}
    assert [one.event_id for one in heard.parks] == ["e1"]
    await first.close()
    assert heard.statuses == []
    await expire(database)
    reader.stuck.clear()
    second = ingesting(database, reader, heard)
    await second.resume()
    await poll_until(lambda: heard.states == [State.ACCEPTED])
    assert await second([change("e1", b"Slow.")]) == {}
    assert heard.states == [State.ACCEPTED]


async def test_a_document_that_stops_the_process_again_and_again_is_refused(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    reader.stuck["Slow."] = asyncio.Event()
    first = ingesting(database, reader, heard)
    await first([change("e1", b"Slow.")])
    await first.close()
    await expire(database, attempts=3)
    await ingesting(database, reader, heard).resume()
    assert heard.states == [State.REJECTED]
    assert heard.statuses[0].rejection is not None
    assert "3 times" in heard.statuses[0].rejection.detail


async def test_a_slow_document_that_cannot_be_finished_now_is_tried_again_later(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    reader.stuck["Slow."] = asyncio.Event()
    ingest = ingesting(database, reader, heard)
    await ingest([change("e1", b"Slow.")])
    ingest.documents = _Broken(database)
    reader.stuck["Slow."].set()
    await poll_until(lambda: len(heard.failures) == 1)
    assert heard.statuses == []
    ingest.documents = SqlDocuments(database)
    await expire(database)
    await ingest.resume()
    await poll_until(lambda: heard.states == [State.ACCEPTED])


class _Broken(SqlDocuments):
    """A database that is away when something is to be changed."""

    @asynccontextmanager
    async def change(self, keys: Collection[DocumentKey], event_ids: Collection[str] = ()) -> AsyncIterator[SqlLedger]:
        async with super().change(keys, event_ids):
            raise Unreachable("the database is away")
            yield  # unreachable, and what makes this a context manager


async def test_a_fault_holds_back_the_later_changes_of_its_document_and_no_others(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    fault = Unreachable("no worker")
    reader.faults["First."] = fault
    other = DocumentKey("acme", "wiki", "other")
    batch = [change("e1", b"First."), change("e2", b"Second."), change("e3", b"Else.", other)]
    ingest = ingesting(database, reader, heard)
    assert await ingest(batch) == {"e1": fault, "e2": fault}
    assert [status.caused_by for status in heard.statuses] == ["e3"]
    reader.faults.clear()
    assert await ingest(batch) == {}
    assert [status.caused_by for status in heard.statuses] == ["e3", "e1", "e2"]


async def test_documents_that_nobody_answers_are_reported_and_taken_again_when_sent_again(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    ingest = ingesting(database, reader, heard)
    await ingest([change("e1", b"Text.")])
    late = timedelta(minutes=11)
    upkeep = LookAfter(
        documents=ingest.documents,
        clock=lambda: datetime.now(UTC) + late,
        log=heard,
        overdue_after=timedelta(minutes=10),
        keep=timedelta(days=31),
    )
    assert await upkeep.find_overdue() == 1
    assert heard.late == [1]
    ingest.clock = ingest.bodies.clock = lambda: datetime.now(UTC) + late
    await ingest([change("e2", b"Text.")])
    assert heard.states == [State.ACCEPTED, State.ACCEPTED]


async def test_a_batch_of_one_event_twice_takes_effect_once(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    await ingesting(database, reader, heard)([change("e1", b"Text."), change("e1", b"Text.")])
    assert heard.states == [State.ACCEPTED]


async def test_only_so_many_documents_are_put_aside_and_the_rest_waits_its_turn(
    database: Database, reader: InPlaceReader, heard: Heard
) -> None:
    bodies = [f"Stuck {n}." for n in range(4)]
    for body in bodies:
        reader.stuck[body] = asyncio.Event()
    batch = [
        change(f"e{n}", body.encode(), DocumentKey("acme", "wiki", str(n)))
        for n, body in enumerate([*bodies, "Quick."])
    ]
    ingest = ingesting(database, reader, heard)
    postponed = await ingest(batch)
    assert set(postponed) == {"e2", "e3"}
    assert all(isinstance(fault, Overloaded) for fault in postponed.values())
    assert [one.event_id for one in heard.parks] == ["e0", "e1"]
    assert [status.caused_by for status in heard.statuses] == ["e4"]
    for body in bodies:
        reader.stuck[body].set()
    assert await ingest(batch) == {}
    await poll_until(lambda: len(heard.statuses) == 5)
    assert set(heard.states) == {State.ACCEPTED}
