"""`Documents` on SQLite or PostgreSQL, with inbox and outbox in the same transaction."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch import topics
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Encoded, Event, derived_id
from anabranch_ingestion import messages
from anabranch_ingestion.adapters.store import tables
from anabranch_ingestion.adapters.store.tables import DOCUMENTS, INBOX, PARKED, STATUSES, VERSIONS
from anabranch_ingestion.application.ports import Dispatch, Known, Parked
from anabranch_ingestion.domain.documents import Document, DocumentKey, Sent, State, Status
from anabranch_store import Database, Inbox, Outbox

GROUP: Final = "ingestion"
STATUS_WRITTEN: Final = "anabranch_ingestion.statuses"
_LEASE: Final = timedelta(seconds=30)
_BATCH = 500


class SqlDocuments:
    """The `Documents` port. Events are encoded here, so that the outbox holds exactly what will be published."""

    def __init__(self, database: Database) -> None:
        """Takes a database, migrated before the first call."""
        self._database = database
        self._owner = str(uuid4())

    async def look(self, keys: Collection[DocumentKey], event_ids: Collection[str]) -> Known:
        """What is known now."""
        found: dict[DocumentKey, Document] = {}
        events: set[str] = set()
        async with self._database.reading() as tx:
            for group in _groups([str(key) for key in keys]):
                for row in await tx.execute(select(DOCUMENTS).where(DOCUMENTS.c.record_key.in_(group))):
                    document = tables.document_from(row)
                    found[document.key] = document
            for group in _groups(list(event_ids)):
                statement = select(INBOX.c.event_id).where(INBOX.c.consumer_group == GROUP, INBOX.c.event_id.in_(group))
                events.update((await tx.execute(statement)).scalars())
        return Known(documents=found, events=frozenset(events))

    @asynccontextmanager
    async def change(self, keys: Collection[DocumentKey], event_ids: Collection[str] = ()) -> AsyncIterator[SqlLedger]:
        """A transaction; its writes go out together when the block ends."""
        async with self._database.transaction() as tx:
            fresh = frozenset(await Inbox.claim(tx, GROUP, event_ids)) if event_ids else frozenset()
            documents = {key: Document(key=key) for key in keys}
            for document in await self._locked(tx, sorted(str(key) for key in keys)):
                documents[document.key] = document
            ledger = SqlLedger(tx, fresh=fresh, documents=documents, owner=self._owner)
            yield ledger
            await ledger.flush()

    async def _locked(self, tx: AsyncSession, keys: list[str]) -> list[Document]:
        found = []
        several = self._database.dialect == "postgresql"
        for group in _groups(keys):
            if several:
                # A row to lock, for documents nobody has written yet.
                blanks = [tables.document_row(Document(key=_key(key))) for key in group]
                await tx.execute(postgresql.insert(DOCUMENTS).on_conflict_do_nothing(), blanks)
            statement = select(DOCUMENTS).where(DOCUMENTS.c.record_key.in_(group)).order_by(DOCUMENTS.c.record_key)
            rows = await tx.execute(statement.with_for_update() if several else statement)
            found += [tables.document_from(row) for row in rows]
        return found

    async def adopt(self, *, limit: int) -> Sequence[Parked]:
        """Parked changes whose lease ran out."""
        now = datetime.now(UTC)
        expired = select(PARKED).where(PARKED.c.lease_until < now).order_by(PARKED.c.lease_until).limit(limit)
        async with self._database.reading() as tx:
            if (await tx.execute(expired)).first() is None:
                return []
        async with self._database.transaction() as tx:
            rows = (await tx.execute(expired.with_for_update(skip_locked=True))).all()
            ids = [row.event_id for row in rows]
            if ids:
                await tx.execute(
                    update(PARKED)
                    .where(PARKED.c.event_id.in_(ids))
                    .values(owner=self._owner, lease_until=now + _LEASE, attempts=PARKED.c.attempts + 1)
                )
        return [_parked_from(row, attempts=row.attempts + 1) for row in rows]

    async def renew(self, event_ids: Collection[str]) -> None:
        """Extends this process's leases."""
        async with self._database.transaction() as tx:
            await tx.execute(
                update(PARKED)
                .where(PARKED.c.event_id.in_(list(event_ids)), PARKED.c.owner == self._owner)
                .values(lease_until=datetime.now(UTC) + _LEASE)
            )

    async def overdue(self, *, before: datetime, limit: int) -> tuple[int, Sequence[Sent]]:
        """Unanswered versions."""
        waiting = (VERSIONS.c.state == State.ACCEPTED.value, VERSIONS.c.sent_at < before)
        async with self._database.reading() as tx:
            count = (await tx.execute(select(func.count()).select_from(VERSIONS).where(*waiting))).scalar_one()
            if not count:
                return 0, []
            rows = await tx.execute(select(VERSIONS).where(*waiting).order_by(VERSIONS.c.sent_at).limit(limit))
            return count, [tables.sent_from(row) for row in rows]

    async def forget(self, *, older_than: timedelta) -> None:
        """Old inbox rows and statuses, and answered versions that are not their document's newest."""
        before = datetime.now(UTC) - older_than
        async with self._database.transaction() as tx:
            await Inbox.forget(tx, older_than=older_than)
            await tx.execute(delete(STATUSES).where(STATUSES.c.at < before))
            newest = (
                select(DOCUMENTS.c.version).where(DOCUMENTS.c.record_key == VERSIONS.c.record_key).scalar_subquery()
            )
            await tx.execute(
                delete(VERSIONS).where(
                    VERSIONS.c.sent_at < before, VERSIONS.c.state != State.ACCEPTED.value, VERSIONS.c.version < newest
                )
            )


class SqlLedger:
    """The `Ledger` port: collects writes, and makes them in one statement a table."""

    def __init__(
        self, tx: AsyncSession, *, fresh: frozenset[str], documents: dict[DocumentKey, Document], owner: str
    ) -> None:
        """Takes the open transaction."""
        self._tx = tx
        self._owner = owner
        self.fresh = fresh
        self.documents = documents
        self._put: dict[DocumentKey, Document] = {}
        self._versions: dict[DocumentKey, dict[int, Sent]] = {}
        self._sent: dict[tuple[DocumentKey, int], Sent] = {}
        self._statuses: list[dict[str, Any]] = []
        self._events: list[Encoded] = []
        self._parked: list[dict[str, Any]] = []

    def put(self, document: Document) -> None:
        """Stores the document."""
        self.documents[document.key] = document
        self._put[document.key] = document

    def sent(self, versions: Iterable[Sent]) -> None:
        """Stores versions."""
        for version in versions:
            self._sent[version.key, version.version] = version
            if version.key in self._versions:
                self._versions[version.key][version.version] = version

    def announce(self, status: Status, *, trace: Mapping[str, str], record_key: str = "", kept: bool = True) -> None:
        """Publishes an answer, under an id that a redelivery of its cause repeats."""
        topic = topics.INGESTION_DOCUMENT_STATUS
        if kept:
            self._statuses.append(
                {"record_key": str(status.key), "status": tables.status_text(status), "at": status.at}
            )
        event = Event(
            topic=topic,
            message=messages.status_to(status),
            key=record_key or str(status.key),
            event_id=derived_id(status.caused_by, topic.name, f"{status.state.value}/{status.version}"),
            caused_by=status.caused_by,
            headers=trace,
        )
        self._events.append(event.encode())

    def dispatch(self, dispatch: Dispatch) -> None:
        """Publishes chunks, a part an event."""
        topic = topics.INGESTION_DOCUMENT_CHUNKED
        for part in messages.chunked_to(dispatch):
            event = Event(
                topic=topic,
                message=part,
                key=str(dispatch.key),
                event_id=derived_id(dispatch.caused_by, topic.name, f"{dispatch.version}/{part.part}"),
                caused_by=dispatch.caused_by,
                headers=dispatch.trace,
            )
            self._events.append(event.encode())

    def park(self, parked: Parked) -> None:
        """Keeps a change, leased to this process."""
        change = parked.change
        self._parked.append(
            {
                "event_id": change.event_id,
                "record_key": change.record_key,
                "version": parked.version,
                "change": messages.change_to(change).SerializeToString(),
                "trace": json.dumps(dict(change.trace)),
                "attempts": parked.attempts,
                "owner": self._owner,
                "lease_until": datetime.now(UTC) + _LEASE,
            }
        )

    async def take_parked(self, event_id: str) -> Parked | None:
        """Ends the keeping of a change."""
        statement = delete(PARKED).where(PARKED.c.event_id == event_id).returning(PARKED)
        row = (await self._tx.execute(statement)).first()
        return _parked_from(row, attempts=row.attempts) if row is not None else None

    async def versions(self, key: DocumentKey) -> Sequence[Sent]:
        """The document's versions, with what this transaction changed."""
        if key not in self._versions:
            rows = await self._tx.execute(select(VERSIONS).where(VERSIONS.c.record_key == str(key)))
            known = {row.version: tables.sent_from(row) for row in rows}
            known.update({version: sent for (k, version), sent in self._sent.items() if k == key})
            self._versions[key] = known
        return list(self._versions[key].values())

    async def flush(self) -> None:
        """Writes everything."""
        if self._put:
            await _upsert(self._tx, DOCUMENTS, [tables.document_row(one) for one in self._put.values()])
        if self._sent:
            await _upsert(self._tx, VERSIONS, [tables.sent_row(one) for one in self._sent.values()])
        if self._statuses:
            await self._tx.execute(insert(STATUSES), self._statuses)
            self._tx.info[STATUS_WRITTEN] = True
        if self._parked:
            await self._tx.execute(insert(PARKED), self._parked)
        await Outbox.add(self._tx, *self._events)


async def _upsert(tx: AsyncSession, table: Table, rows: list[dict[str, Any]]) -> None:
    make: Any = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = make(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    await tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def _parked_from(row: Any, *, attempts: int) -> Parked:
    change = messages.change_from(
        DocumentChanged.FromString(row.change),
        event_id=row.event_id,
        record_key=row.record_key,
        trace=json.loads(row.trace),
    )
    return Parked(change=change, version=row.version, attempts=attempts)


def _groups(values: list[str]) -> Iterable[list[str]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))


def _key(record_key: str) -> DocumentKey:
    return DocumentKey(*record_key.split("/", 2))
