"""What only one kind of ledger can be asked: crashes, restarts, replicas, and a Redis that is away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis as redis_client
from redis.asyncio import Redis

from anabranch_faults import Unreachable
from anabranch_gateway.adapters.spending import AloneLedger, RedisLedger, SqlGrants
from anabranch_gateway.domain.spending import Bounds, BudgetBound, CallBound, Cost, TokenBound
from anabranch_local.process import Process
from anabranch_local.redis import RedisServer
from anabranch_store import Database
from anabranch_testkit import poll_until

DAY = 86_400
MIGRATIONS = "anabranch_gateway.adapters.migrations"


def some(hard: int | None = 10_000, soft: int = 0, account: str = "acme") -> Bounds:
    return Bounds(budgets=(BudgetBound(account=account, seconds=400 * DAY, soft=soft, hard=hard),))


async def taken(ledger: AloneLedger | RedisLedger, name: str, micros: int, bounds: Bounds) -> bool:
    return (await ledger.reserve(name, bounds, Cost(micros=micros))).refusal is None


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, schema="gateway", migrations=MIGRATIONS)
    await database.migrate()
    yield database
    await database.close()


class TestAlone:
    async def test_a_clean_restart_loses_nothing(self, database_url: str) -> None:
        async with opened(database_url) as database:
            ledger = AloneLedger(SqlGrants(database))
            await ledger.reserve("a", some(), Cost(micros=70))
            await ledger.settle("a", some(), Cost(micros=55))
            await ledger.close()
            again = AloneLedger(SqlGrants(database))
            assert not await taken(again, "b", 10_000 - 54, some())
            assert await taken(again, "c", 10_000 - 55, some())
            await again.close()

    async def test_a_crash_never_frees_what_may_have_been_spent_and_strands_a_hundredth_at_most(
        self, database_url: str
    ) -> None:
        async with opened(database_url) as database:
            crashed = AloneLedger(SqlGrants(database))
            for n in range(20):
                assert await taken(crashed, f"a{n}", 50, some())
                if n % 2:
                    await crashed.settle(f"a{n}", some(), Cost(micros=50))
            again = AloneLedger(SqlGrants(database))
            assert not await taken(again, "b", 10_000 - 999, some())
            assert await taken(again, "c", 10_000 - 1_000 - 200, some())
            await again.close()

    async def test_processes_on_one_database_share_a_budget_exactly(self, database_url: str) -> None:
        async with opened(database_url) as one, opened(database_url) as two:
            ledgers = [AloneLedger(SqlGrants(one)), AloneLedger(SqlGrants(two))]
            spent = 0

            async def spend(ledger: AloneLedger, name: str) -> None:
                nonlocal spent
                for n in range(200):
                    if await taken(ledger, f"{name}{n}", 40, some()):
                        spent += 40
                        await ledger.settle(f"{name}{n}", some(), None)

            await asyncio.gather(*(spend(ledger, str(place)) for place, ledger in enumerate(ledgers)))
            assert 9_800 <= spent <= 10_000
            for ledger in ledgers:
                await ledger.close()

    async def test_processes_on_one_database_tell_of_a_bound_once(self, database_url: str) -> None:
        async with opened(database_url) as one, opened(database_url) as two:
            ledgers = [AloneLedger(SqlGrants(one)), AloneLedger(SqlGrants(two))]
            told = [
                (await ledger.reserve(f"a{place}", some(soft=100), Cost(micros=100))).crossings
                for place, ledger in enumerate(ledgers)
            ]
            assert [len(each) for each in told] == [1, 0]
            for ledger in ledgers:
                await ledger.close()

    async def test_more_than_was_granted_is_written_down_for_the_next_process_too(self, database_url: str) -> None:
        async with opened(database_url) as database:
            ledger = AloneLedger(SqlGrants(database))
            await ledger.reserve("a", some(), Cost(micros=70))
            await ledger.settle("a", some(), Cost(micros=10_500))
            assert not await taken(AloneLedger(SqlGrants(database)), "b", 1, some())
            await ledger.close()

    async def test_what_is_over_is_forgotten(self, tmp_path: Path) -> None:
        now = float(int(time.time()) // DAY * DAY)
        bounds = Bounds(
            budgets=(BudgetBound(account="acme", seconds=60, hard=100),),
            tokens=(TokenBound(account="acme", limit=1_000),),
        )
        calls = [CallBound(account="acme", requests=100, in_flight=10)]
        async with opened(f"sqlite:///{tmp_path / 'g.db'}") as database:
            ledger = AloneLedger(SqlGrants(database), clock=lambda: now)
            for n in range(5):
                await ledger.admit(f"a{n}", calls)
                await ledger.reserve(f"a{n}", bounds, Cost(micros=1, tokens=1))
                if n:
                    await ledger.settle(f"a{n}", bounds, None)
                await ledger.leave(f"a{n}", calls)
            now += 2 * DAY
            await ledger.release("none")
            await poll_until(lambda: ledger._sweeping is not None and ledger._sweeping.done())
            now += 2 * DAY
            await ledger.release("none at all")
            await ledger.close()
            kept = (ledger._accounts, ledger._requests, ledger._tokens, ledger._inside, ledger._open, ledger._lost)
            assert [len(each) for each in kept] == [0] * len(kept)
            assert not ledger._admitted
            async with database.reading() as tx:
                assert (await (await tx.connection()).exec_driver_sql("SELECT * FROM spending_grants")).all() == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis: str) -> Iterator[RedisServer]:
    """One to stop and to freeze; `redis` is there so that it is skipped where there is none."""
    with RedisServer(tmp_path_factory.mktemp("own"), durable=True) as one:
        yield one


@pytest.mark.connected
class TestRedis:
    async def test_scripts_that_the_server_forgot_are_loaded_again(self, server: RedisServer) -> None:
        ledger = RedisLedger(server.url, prefix="{scripts}", timeout=timedelta(seconds=5))
        assert await taken(ledger, "a", 10, some())
        async with Redis.from_url(server.url) as redis:
            await redis.script_flush()
        assert await taken(ledger, "b", 10, some())
        await ledger.close()

    async def test_every_key_ends(self, server: RedisServer) -> None:
        ledger = RedisLedger(server.url, prefix="{ends}", timeout=timedelta(seconds=5))
        bounds = Bounds(budgets=some(soft=5).budgets, tokens=(TokenBound(account="acme", limit=50),))
        calls = [CallBound(account="acme", requests=10, in_flight=2)]
        for n in range(3):
            await ledger.admit(f"a{n}", calls)
            await ledger.reserve(f"a{n}", bounds, Cost(micros=10, tokens=10))
        await ledger.settle("a1", bounds, Cost(micros=1, tokens=1))
        await ledger.release("a2")
        await ledger.release("unheard")
        async with Redis.from_url(server.url) as redis:
            keys = [key async for key in redis.scan_iter(match="{ends}*", count=1_000)]
            assert len(keys) > 8
            assert {key.decode(): await redis.ttl(key) for key in keys if await redis.ttl(key) < 1} == {}
        await ledger.close()

    async def test_a_server_that_is_started_again_is_found_and_what_is_durable_is_remembered(
        self, server: RedisServer
    ) -> None:
        ledger = RedisLedger(server.url, prefix="{again}", timeout=timedelta(seconds=5))
        assert await taken(ledger, "a", 9_000, some())
        server.kill()
        with pytest.raises(Unreachable):
            await taken(ledger, "b", 1, some())
        server.start()
        assert not await taken(ledger, "c", 1_001, some())
        assert await taken(ledger, "d", 1_000, some())
        await ledger.close()

    async def test_a_server_that_does_not_answer_is_not_waited_for(self, server: RedisServer) -> None:
        ledger = RedisLedger(server.url, prefix="{frozen}", timeout=timedelta(milliseconds=200))
        assert await taken(ledger, "a", 1, some())
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            began = time.perf_counter()
            with pytest.raises(Unreachable):
                await taken(ledger, "b", 1, some())
            assert time.perf_counter() - began < 2
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await taken(ledger, "c", 1, some())
                except Unreachable:
                    continue
                break
        await ledger.close()

    async def test_a_call_whose_caller_gave_up_before_it_was_sent_does_not_happen(self, server: RedisServer) -> None:
        ledger = RedisLedger(server.url, prefix="{gone}", timeout=timedelta(seconds=5))
        task = asyncio.create_task(ledger.reserve("a", some(), Cost(micros=10_000)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await taken(ledger, "b", 10_000, some())
        await ledger.close()

    async def test_a_password_may_come_from_a_file(self, server: RedisServer, unique: Callable[[str], str]) -> None:
        bare = f"redis://127.0.0.1:{server.port}"
        stranger = RedisLedger(bare, prefix=f"{{{unique('p')}}}", timeout=timedelta(seconds=5))
        with pytest.raises(Unreachable, match="AuthenticationError"):
            await taken(stranger, "a", 1, some())
        ledger = RedisLedger(bare, password=server.password_file.read_text(), timeout=timedelta(seconds=5))
        assert await taken(ledger, unique("call"), 1, some(account=unique("account")))
        await stranger.close()
        await ledger.close()

    async def test_it_runs_on_a_cluster(self, tmp_path: Path, redis: str) -> None:
        with RedisServer(tmp_path, cluster=True) as server:
            with redis_client.Redis.from_url(server.url) as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
                await poll_until(lambda: client.cluster("INFO")["cluster_state"] == "ok", deadline=20)
            ledger = RedisLedger(server.url, timeout=timedelta(seconds=5))
            bounds = Bounds(budgets=(*some(account="*").budgets, *some(account="acme").budgets))
            assert await taken(ledger, "a", 10_000, bounds)
            assert not await taken(ledger, "b", 1, bounds)
            await ledger.close()
            with redis_client.Redis.from_url(server.url) as client:
                assert len({client.cluster("KEYSLOT", key) for key in client.scan_iter()}) == 1


SPENDER = """
import asyncio, os, sys
from datetime import timedelta
from anabranch_gateway.adapters.spending import AloneLedger, RedisLedger, SqlGrants
from anabranch_gateway.domain.spending import Bounds, BudgetBound, Cost
from anabranch_store import Database

store, place, bill = sys.argv[1], sys.argv[2], os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
bounds = Bounds(
    budgets=tuple(
        BudgetBound(account=name, seconds=400 * 86_400, hard=hard) for name, hard in (("*", 500_000), ("acme", 100_000))
    )
)

async def caller(ledger, number):
    for turn in range(100_000):
        call_id = f"{place}-{number}-{turn}"
        refusal = (await ledger.reserve(call_id, bounds, Cost(micros=60))).refusal
        if refusal is None:
            os.write(bill, b"." * 40)  # what the backend bills: one byte a millionth
            await asyncio.sleep(0.001)
            await ledger.settle(call_id, bounds, Cost(micros=40))
        elif refusal.wait > timedelta(seconds=1):
            return
        else:
            await asyncio.sleep(0.05)
        if refusal is not None and turn > 200:
            return

async def main():
    if store.startswith("redis"):
        ledger = RedisLedger(store, prefix="{crash}", timeout=timedelta(seconds=20))
    else:
        database = Database(store, schema="gateway", migrations="anabranch_gateway.adapters.migrations")
        ledger = AloneLedger(SqlGrants(database))
    await asyncio.gather(*(caller(ledger, number) for number in range(25)))
    await ledger.close()

asyncio.run(main())
"""


@pytest.mark.connected
@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis", "database"])
async def test_gateways_that_share_a_budget_pass_it_by_nothing_though_one_is_killed(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if store == "redis":
        url = request.getfixturevalue("server").url
    else:
        url = f"sqlite:///{tmp_path / 'g.db'}"
        async with opened(url):
            pass
    bills = [tmp_path / f"bill-{place}" for place in range(4)]

    def billed() -> int:
        return sum(bill.stat().st_size for bill in bills if bill.exists())

    running = [
        Process([sys.executable, "-c", SPENDER, url, str(place), str(bill)], log=tmp_path / f"{place}.log")
        for place, bill in enumerate(bills)
    ]
    try:
        await poll_until(lambda: bills[0].exists() and billed() > 30_000, deadline=60)
        running[0].kill()
        await poll_until(lambda: not any(each.alive for each in running), deadline=100)
    finally:
        for each in running:
            each.kill()
    assert [each.returncode for each in running[1:]] == [0, 0, 0], [each.tail() for each in running]
    assert 90_000 <= billed() <= 100_000
