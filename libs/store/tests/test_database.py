"""Transactions and migrations, the same on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import bindparam, text
from sqlalchemy.exc import IntegrityError, StatementError

from anabranch_faults import Unreachable
from anabranch_store import Database, SchemaAhead, UtcDateTime

Replica = Callable[..., Awaitable[Database]]
ADD = text("INSERT INTO account (name, sum) VALUES (:name, 0)")


async def total(database: Database) -> int:
    async with database.reading() as tx:
        return int((await tx.execute(text("SELECT count(*) FROM account"))).scalar_one())


async def test_what_a_transaction_wrote_is_there_when_it_ends(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(ADD, {"name": "a"})
    assert await total(database) == 1


async def test_what_a_failed_transaction_wrote_was_never_there(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as tx:
            await tx.execute(ADD, {"name": "a"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await total(database) == 0


async def test_a_cancelled_transaction_is_rolled_back_and_frees_the_way(database: Database) -> None:
    inside = asyncio.Event()

    async def write_and_wait() -> None:
        async with database.transaction() as tx:
            await tx.execute(ADD, {"name": "a"})
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write_and_wait())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5), database.transaction() as tx:
        await tx.execute(ADD, {"name": "a"})
    assert await total(database) == 1


async def test_a_broken_constraint_is_the_callers_affair(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(ADD, {"name": "a"})
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await tx.execute(ADD, {"name": "a"})


async def test_references_are_enforced(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await tx.execute(text("INSERT INTO entry (id, account) VALUES (1, 'nobody')"))


async def test_writers_of_several_replicas_wait_for_each_other_and_none_is_lost(
    database: Database, replica: Replica
) -> None:
    replicas = [database, await replica(), await replica()]
    async with database.transaction() as tx:
        await tx.execute(ADD, {"name": "a"})

    async def increment(one: Database) -> None:
        async with one.transaction() as tx:
            await tx.execute(text("UPDATE account SET sum = sum + 1 WHERE name = 'a'"))

    await asyncio.gather(*(increment(one) for one in replicas * 10))
    async with database.reading() as tx:
        assert (await tx.execute(text("SELECT sum FROM account"))).scalar_one() == 30


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(ADD, {"name": "a"})
        assert await asyncio.wait_for(total(database), 2) == 0


async def test_a_time_comes_back_in_utc_and_one_without_a_zone_is_refused(database: Database) -> None:
    at = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    insert = text("INSERT INTO entry (id, at) VALUES (1, :at)").bindparams(bindparam("at", type_=UtcDateTime()))
    async with database.transaction() as tx:
        await tx.execute(insert, {"at": at})
    async with database.reading() as tx:
        back = (await tx.execute(text("SELECT at FROM entry").columns(at=UtcDateTime()))).scalar_one()
    assert back == at
    assert back.tzinfo is UTC
    with pytest.raises(StatementError, match="no time zone"):
        async with database.transaction() as tx:
            await tx.execute(insert, {"at": at.replace(tzinfo=None)})


async def test_replicas_that_start_together_migrate_once(replica: Replica) -> None:
    replicas = [await replica(migrated=False) for _ in range(4)]
    await asyncio.gather(*(one.migrate() for one in replicas))
    assert [await total(one) for one in replicas] == [0, 0, 0, 0]


async def test_a_later_revision_is_applied_to_what_is_there(
    database: Database, replica: Replica, add_revision: Callable[[str, str], Path]
) -> None:
    async with database.transaction() as tx:
        await tx.execute(ADD, {"name": "kept"})
    add_revision("0001", "op.add_column('account', sa.Column('owner', sa.String(10), server_default='me'))")
    later = await replica()
    async with later.reading() as tx:
        assert (await tx.execute(text("SELECT name, owner FROM account"))).all() == [("kept", "me")]


async def test_a_revision_that_fails_leaves_nothing_half_done(
    database: Database, replica: Replica, add_revision: Callable[[str, str], Path]
) -> None:
    body = "op.create_table('half', sa.Column('id', sa.Integer)); raise ZeroDivisionError"
    add_revision("0001", body)
    with pytest.raises(ZeroDivisionError):
        await replica()
    add_revision("0001", "op.create_table('half', sa.Column('id', sa.Integer))")
    await replica()


async def test_a_database_of_a_newer_program_is_refused(
    database: Database, replica: Replica, add_revision: Callable[[str, str], Path]
) -> None:
    path = add_revision("0001", "pass")
    await replica()
    path.unlink()
    with pytest.raises(SchemaAhead, match="0002"):
        await replica()


async def test_a_lock_is_held_by_one_replica_at_a_time(database: Database, replica: Replica) -> None:
    inside: list[int] = []
    most: list[int] = []
    other = await replica()

    async def enter(one: Database, number: int) -> None:
        async with one.exclusive("door"):
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0.01)
            inside.remove(number)

    await asyncio.gather(*(enter(one, number) for number, one in enumerate([database, other] * 3)))
    assert most == [1] * 6


@pytest.mark.connected
async def test_services_in_one_postgresql_do_not_see_each_other(postgres: str, package: str) -> None:
    first = Database(postgres, schema="first", migrations=package)
    second = Database(postgres, schema="second", migrations=package)
    try:
        await asyncio.gather(first.migrate(), second.migrate())
        async with first.transaction() as tx:
            await tx.execute(ADD, {"name": "a"})
        assert (await total(first), await total(second)) == (1, 0)
    finally:
        await first.close()
        await second.close()


async def test_sqlite_is_durable_and_does_not_block_readers(tmp_path: Path, package: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/deep/down/things.db", schema="things", migrations=package)
    await database.migrate()
    async with database.reading() as tx:
        settings = {
            name: (await tx.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await database.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


async def test_a_server_that_is_away_is_unreachable(package: str, free_port: Callable[[], int]) -> None:
    database = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/x", schema="things", migrations=package)
    with pytest.raises(Unreachable):
        await database.migrate()
    with pytest.raises(Unreachable):
        await total(database)
    await database.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "http://x"])
def test_a_url_of_another_kind_is_refused_with_its_password_hidden(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite: or postgresql:"):
        Database(url, schema="things", migrations="x")


def test_a_schema_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="schema name"):
        Database("sqlite://", schema='a"; drop', migrations="x")
