from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from anabranch import topics
from anabranch_bus import Encoded
from anabranch_ingestion.adapters.store.documents import SqlDocuments
from anabranch_ingestion.adapters.store.watching import StatusWatch
from anabranch_ingestion.application.ports import Dispatch, Parked
from anabranch_ingestion.domain.documents import (
    BodyKind,
    Change,
    Document,
    DocumentKey,
    Provenance,
    Rejection,
    Sent,
    State,
    Status,
)
from anabranch_ingestion.domain.refusals import Reason
from anabranch_store import Database, OutboxRelay

KEY = DocumentKey("acme", "wiki", "a/b")
OTHER = DocumentKey("acme", "wiki", "other")
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url, schema="ingestion", migrations="anabranch_ingestion.adapters.migrations")
    await made.migrate()
    yield made
    await made.close()


def status(key: DocumentKey = KEY, state: State = State.ACCEPTED, version: int = 1) -> Status:
    return Status(key=key, version=version, state=state, caused_by="e1", at=NOW, chunk_count=2)


def sent(version: int = 1, *, at: datetime = NOW, state: State = State.ACCEPTED) -> Sent:
    return Sent(key=KEY, version=version, event_id=f"e{version}", state=state, deleted=False, chunk_count=2, sent_at=at)


FULL = Document(
    key=KEY,
    seen=4,
    version=3,
    live=2,
    state=State.REJECTED,
    event_id="e3",
    request_hash="h" * 64,
    title="A title with 'quotes' and ü",
    metadata={"k": "v"},
    acl=("a", "b"),
    provenance=Provenance(source_uri="u", content_sha256="s", fingerprint="f", parser="p", changed_at=NOW),
    chunk_count=2,
    sent_at=NOW,
    last=Status(
        key=KEY,
        version=3,
        state=State.REJECTED,
        caused_by="e3",
        at=NOW,
        rejection=Rejection(reason=Reason.NO_TEXT, detail="d", field="body"),
    ),
)


async def test_what_is_put_is_found_again_in_every_detail(database: Database) -> None:
    documents = SqlDocuments(database)
    async with documents.change({KEY}) as ledger:
        assert ledger.documents[KEY] == Document(key=KEY)
        ledger.put(FULL)
    assert (await documents.look({KEY, OTHER}, ())).documents == {KEY: FULL}


async def test_an_event_is_fresh_once(database: Database) -> None:
    documents = SqlDocuments(database)
    async with documents.change((), {"e1", "e2"}) as ledger:
        assert ledger.fresh == {"e1", "e2"}
    async with documents.change((), {"e2", "e3"}) as ledger:
        assert ledger.fresh == {"e3"}
    assert (await documents.look((), {"e1", "e3", "e4"})).events == {"e1", "e3"}


async def test_nothing_takes_effect_when_the_transaction_fails(database: Database) -> None:
    documents = SqlDocuments(database)

    async def fail() -> None:
        async with documents.change({KEY}, {"e1"}) as ledger:
            ledger.put(FULL)
            ledger.announce(status(), trace={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    known = await documents.look({KEY}, {"e1"})
    assert (known.documents.get(KEY, Document(key=KEY)).last, known.events) == (None, frozenset())
    async with database.reading() as tx:
        assert (await tx.execute(text("select count(*) from outbox"))).scalar_one() == 0


async def test_what_is_announced_is_published_in_order_once_it_is_committed(database: Database) -> None:
    documents = SqlDocuments(database)
    published: list[Encoded] = []

    async def publish(batch: Sequence[Encoded]) -> None:
        published.extend(batch)

    relay = OutboxRelay(database, publish)
    async with documents.change({KEY}) as ledger:
        ledger.announce(status(), trace={"traceparent": "t"})
        ledger.dispatch(
            Dispatch(
                key=KEY,
                version=1,
                caused_by="e1",
                deleted=False,
                title="T",
                metadata={},
                acl=(),
                provenance=Provenance(),
                parts=((), ()),
            )
        )
        assert not published
    await relay.drain()
    chunked = topics.INGESTION_DOCUMENT_CHUNKED.name
    assert [one.topic for one in published] == [topics.INGESTION_DOCUMENT_STATUS.name, chunked, chunked]
    assert {one.key for one in published} == {b"acme/wiki/a/b"}
    ids = [dict(one.headers)["ce_id"] for one in published]
    assert len(set(ids)) == 3
    assert dict(published[0].headers)["traceparent"] == b"t"


async def test_versions_are_remembered_and_seen_as_the_transaction_changes_them(database: Database) -> None:
    documents = SqlDocuments(database)
    async with documents.change({KEY}) as ledger:
        ledger.sent([sent(1), sent(2)])
    async with documents.change({KEY}) as ledger:
        assert sorted(one.version for one in await ledger.versions(KEY)) == [1, 2]
        ledger.sent([sent(1, state=State.SUPERSEDED)])
        assert {one.version: one.state for one in await ledger.versions(KEY)}[1] is State.SUPERSEDED
        assert await ledger.versions(OTHER) == []


async def test_unanswered_versions_are_overdue_and_the_oldest_come_first(database: Database) -> None:
    documents = SqlDocuments(database)
    async with documents.change({KEY}) as ledger:
        ledger.sent([sent(n, at=NOW - timedelta(minutes=n)) for n in range(4)])
        ledger.sent([sent(9, at=NOW - timedelta(hours=1), state=State.QUERYABLE)])
    count, oldest = await documents.overdue(before=NOW - timedelta(seconds=90), limit=1)
    assert (count, [one.version for one in oldest]) == (2, [3])


async def test_what_is_old_is_forgotten_and_what_is_open_is_not(database: Database) -> None:
    documents = SqlDocuments(database)
    async with documents.change({KEY}, {"e1"}) as ledger:
        ledger.put(FULL)
        ledger.sent([sent(1, state=State.QUERYABLE), sent(2), sent(3, state=State.REJECTED)])
        ledger.announce(status(), trace={})
    await documents.forget(older_than=timedelta(days=-1))
    assert (await documents.look((), {"e1"})).events == frozenset()
    async with documents.change({KEY}) as ledger:
        assert sorted(one.version for one in await ledger.versions(KEY)) == [2, 3]


CHANGE = Change(
    key=KEY,
    event_id="e1",
    record_key=str(KEY),
    body=BodyKind.CONTENT,
    content=b"\x00bytes\xff",
    title="T",
    metadata={"k": "v"},
    acl=("a",),
    changed_at=NOW,
    trace={"traceparent": "t"},
)


async def test_a_parked_change_is_adopted_when_its_process_is_gone_and_not_before(database: Database) -> None:
    mine, theirs = SqlDocuments(database), SqlDocuments(database)
    async with mine.change({KEY}) as ledger:
        ledger.park(Parked(change=CHANGE, version=7))
    assert await theirs.adopt(limit=5) == []
    async with database.transaction() as tx:
        await tx.execute(text("update parked set lease_until = '2020-01-01'"))
    assert await theirs.adopt(limit=5) == [Parked(change=CHANGE, version=7, attempts=2)]
    assert await theirs.adopt(limit=5) == []
    async with theirs.change({KEY}) as ledger:
        taken = await ledger.take_parked("e1")
        assert taken is not None
        assert taken.version == 7
        assert await ledger.take_parked("e1") is None


async def test_a_lease_that_is_renewed_stays(database: Database) -> None:
    mine, theirs = SqlDocuments(database), SqlDocuments(database)
    async with mine.change({KEY}) as ledger:
        ledger.park(Parked(change=CHANGE, version=7))
    async with database.transaction() as tx:
        await tx.execute(text("update parked set lease_until = '2020-01-01'"))
    await mine.renew(["e1"])
    assert await theirs.adopt(limit=5) == []


async def test_a_watcher_sees_what_is_and_what_another_replica_says(database: Database, database_url: str) -> None:
    documents = SqlDocuments(database)
    watching = StatusWatch(database, poll=timedelta(milliseconds=20))
    replica = Database(database_url, schema="ingestion", migrations="anabranch_ingestion.adapters.migrations")
    async with documents.change({KEY}) as ledger:
        ledger.announce(status(state=State.ACCEPTED), trace={})
    seen = watching.watch(KEY)
    assert (await anext(seen)).state is State.ACCEPTED
    for state in (State.QUERYABLE, State.UNCHANGED):
        async with SqlDocuments(replica).change({KEY, OTHER}) as ledger:
            ledger.announce(status(OTHER, State.DELETED), trace={})
            ledger.announce(status(state=state), trace={})
        assert (await asyncio.wait_for(anext(seen), 5)).state is state
    await seen.aclose()
    await watching.close()
    await replica.close()
