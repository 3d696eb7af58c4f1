"""An event is claimed once for a group, with the effects of the transaction that claimed it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from anabranch_store import Database, Inbox

Replica = Callable[..., Awaitable[Database]]


async def claim(database: Database, *ids: str, group: str = "g") -> set[str]:
    async with database.transaction() as tx:
        return await Inbox.claim(tx, group, ids)


async def test_an_event_is_fresh_once(database: Database) -> None:
    assert await claim(database, "a", "b") == {"a", "b"}
    assert await claim(database, "b", "c") == {"c"}


async def test_groups_do_not_know_of_each_other(database: Database) -> None:
    assert await claim(database, "a", group="one") == {"a"}
    assert await claim(database, "a", group="two") == {"a"}


async def test_a_claim_of_a_transaction_that_failed_never_was(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as tx:
            await Inbox.claim(tx, "g", ["a"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await claim(database, "a") == {"a"}


async def test_one_event_twice_in_a_batch_is_one_event(database: Database) -> None:
    assert await claim(database, "a", "a") == {"a"}


async def test_a_batch_may_be_empty_or_large(database: Database) -> None:
    assert await claim(database) == set()
    many = [f"event-{number}" for number in range(5_000)]
    assert await claim(database, *many) == set(many)
    assert await claim(database, *many) == set()


async def test_of_replicas_that_claim_at_once_each_event_has_one(database: Database, replica: Replica) -> None:
    replicas = [database, await replica(), await replica()]
    ids = [f"event-{number}" for number in range(200)]
    claimed = await asyncio.gather(*(claim(one, *ids) for one in replicas))
    assert sum(len(one) for one in claimed) == len(ids)
    assert set.union(*claimed) == set(ids)


async def test_old_claims_can_be_forgotten(database: Database) -> None:
    await claim(database, "a")
    async with database.transaction() as tx:
        assert await Inbox.forget(tx, older_than=timedelta(hours=1)) == 0
        assert await Inbox.forget(tx, older_than=timedelta(0)) == 1
    assert await claim(database, "a") == {"a"}
