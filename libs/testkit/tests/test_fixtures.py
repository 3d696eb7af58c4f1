"""The fixtures give what they say."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from anabranch import topics
from anabranch_local.provisioning import TopicSpec, provision
from anabranch_rpc import Servicer, connect
from anabranch_testkit import poll_until
from anabranch_testkit.plugin import Serve, WeaviateEndpoints


async def test_polling_returns_the_first_true_value() -> None:
    values = iter([0, "", "here"])
    assert await poll_until(lambda: next(values)) == "here"


async def test_polling_waits_for_async_probes_and_failed_assertions() -> None:
    seen: list[int] = []

    async def probe() -> bool:
        seen.append(1)
        assert len(seen) > 2
        return True

    assert await poll_until(probe)


async def test_polling_fails_with_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"two rows; last seen: 0"):
        await poll_until(lambda: 0, deadline=0.05, what="two rows")


def test_unique_names_differ_and_say_whose_they_are(unique: Callable[[str], str]) -> None:
    first, second = unique("group"), unique("group")
    assert first != second
    assert first.startswith("group-test-unique-names")


def test_a_free_port_can_be_listened_on(free_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert 20_000 <= server.getsockname()[1] < 32_768


@pytest.mark.connected
async def test_kafka_has_every_topic_and_takes_records(kafka: str, unique: Callable[[str], str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        names = set(await admin.list_topics())
    finally:
        await admin.close()
    assert {topic.name for topic in topics.ALL} <= names
    name = unique("topic")
    await provision(kafka, [TopicSpec(name=name, partitions=1, configs={})])
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    async with producer:
        sent = await producer.send_and_wait(name, b"x", key=b"k")
    assert sent.offset == 0


@pytest.mark.connected
async def test_weaviate_is_ready_and_empty(weaviate: WeaviateEndpoints) -> None:
    async with httpx.AsyncClient() as client:
        meta = (await client.get(f"http://{weaviate.http}/v1/meta")).json()
        schema = (await client.get(f"http://{weaviate.http}/v1/schema")).json()
    assert meta["version"] == "1.39.0"
    assert schema == {"classes": []}


@pytest.mark.parametrize("round_", [1, 2])
async def test_each_test_gets_an_empty_database(database_url: str, round_: int) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("create table only_here (x integer)"))
        assert (await connection.execute(text("select count(*) from only_here"))).scalar() == 0
    await engine.dispose()


@pytest.mark.connected
async def test_postgres_runs_as_somebody_who_is_not_root(postgres: str) -> None:
    engine = create_async_engine(postgres)
    async with engine.connect() as connection:
        version = (await connection.execute(text("show server_version_num"))).scalar_one()
    await engine.dispose()
    assert int(version) >= 180_000


async def test_a_server_in_this_process_answers_health(grpc_server: Serve) -> None:
    instance, add = health.aio.HealthServicer(), lambda *_: None
    target = await grpc_server(Servicer(instance, add, "test.v1.Nothing"))
    async with connect(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its methods are attributes made at run time
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
