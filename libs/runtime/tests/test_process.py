"""A service in this process: the order of starting and stopping, readiness, crashes, endpoints."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic_settings import SettingsConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from anabranch.embedding.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from anabranch_bus import MemoryBus
from anabranch_rpc import Servicer, connect
from anabranch_runtime import Http, Process, Service, ServiceSettings
from anabranch_testkit import poll_until

Run = Callable[[Service], Awaitable[Process]]


class Settings(ServiceSettings):
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ANABRANCH_THING_")


class Embedding(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    async def EmbedTexts(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return embedding_service_pb2.EmbedTextsResponse()

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return embedding_service_pb2.ListModelsResponse()


EMBEDDING = Servicer(
    Embedding(),
    embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server,
    "anabranch.embedding.v1.EmbeddingService",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(address_file=tmp_path / "run" / "addresses.json")


@pytest.fixture
async def run(settings: Settings) -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:

        async def start(service: Service) -> Process:
            process = Process(settings, name="thing")
            stack.push_async_callback(process.stop)
            await process.start(service)
            return process

        yield start


async def get(address: str, path: str) -> tuple[int, str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split(" ")[1]), answer.partition("\r\n\r\n")[2]


async def serving(address: str) -> bool:
    async with connect(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=EMBEDDING.name))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_a_service_that_started_is_ready_and_says_where_it_listens(run: Run, settings: Settings) -> None:
    process = await run(Service(name="thing", bus=MemoryBus(), rpc=[EMBEDDING]))
    assert settings.address_file is not None
    assert json.loads(settings.address_file.read_text()) == process.addresses
    await poll_until(lambda: serving(process.addresses["rpc"]))
    assert await get(process.addresses["ops"], "/readyz") == (200, '{"ready":true,"reasons":[]}')
    assert (await get(process.addresses["ops"], "/livez"))[0] == 200


async def test_metrics_are_exposed(run: Run) -> None:
    process = await run(Service(name="thing", bus=MemoryBus()))
    await poll_until(lambda: not process.unready())
    status, text = await get(process.addresses["ops"], "/metrics")
    assert status == 200
    assert "anabranch_service_ready" in text
    assert "anabranch_loop_lag_seconds_bucket" in text


async def test_readiness_follows_the_checks_on_http_and_on_grpc(run: Run) -> None:
    reason: str | None = "the model is being loaded"
    process = await run(Service(name="thing", bus=MemoryBus(), rpc=[EMBEDDING], ready=[lambda: reason]))
    status, text = await get(process.addresses["ops"], "/readyz")
    assert (status, json.loads(text)["reasons"]) == (503, ["the model is being loaded"])
    assert (await get(process.addresses["ops"], "/livez"))[0] == 200
    assert not await serving(process.addresses["rpc"])
    reason = None
    await poll_until(lambda: serving(process.addresses["rpc"]))
    reason = "the index went away"
    await poll_until(lambda: not_serving(process.addresses["rpc"]))


async def not_serving(address: str) -> bool:
    return not await serving(address)


async def test_a_readiness_check_that_fails_is_a_reason_and_not_a_crash(run: Run) -> None:
    def broken() -> str | None:
        raise ZeroDivisionError("oops")

    process = await run(Service(name="thing", ready=[broken]))
    assert process.unready() == ["a readiness check failed: ZeroDivisionError: oops"]


async def test_a_bus_that_is_behind_keeps_the_service_from_serving(run: Run) -> None:
    class Behind(MemoryBus):
        @property
        def ready(self) -> str | None:
            return "registry.routing.changed.v1 is being read"

    process = await run(Service(name="thing", bus=Behind(), rpc=[EMBEDDING]))
    assert process.unready() == ["registry.routing.changed.v1 is being read"]


async def test_a_background_task_that_crashes_ends_the_process_with_its_reason(run: Run) -> None:
    async def crash() -> None:
        raise ZeroDivisionError("oops")

    process = await run(Service(name="thing", background=[crash]))
    await asyncio.wait_for(process.ended.wait(), 5)
    assert process.failure is not None
    assert "crash" in process.failure
    assert "ZeroDivisionError: oops" in process.failure


async def test_a_background_task_that_returns_is_simply_done(run: Run) -> None:
    done = asyncio.Event()

    async def once() -> None:
        done.set()

    process = await run(Service(name="thing", background=[once]))
    await done.wait()
    assert not process.ended.is_set()
    assert process.failure is None


async def test_parts_start_in_order_and_close_in_reverse_even_when_one_fails(settings: Settings) -> None:
    seen: list[str] = []

    class Observed(MemoryBus):
        async def start(self) -> None:
            seen.append("bus starts")
            await super().start()

        async def stop(self) -> None:
            seen.append("bus stops")
            await super().stop()

    def step(name: str, *, fails: bool = False) -> Callable[[], Awaitable[object]]:
        async def take() -> None:
            seen.append(name)
            if fails:
                raise ZeroDivisionError

        return take

    async def relay() -> None:
        seen.append("relay runs")
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("relay ends")

    service = Service(
        name="thing",
        bus=Observed(),
        rpc=[EMBEDDING],
        starting=[step("migrate"), step("load")],
        background=[relay],
        draining=[step("publish the rest")],
        closing=[step("close database"), step("close model", fails=True)],
    )
    process = Process(settings, name="thing")
    await process.start(service)
    await poll_until(lambda: "relay runs" in seen)
    await process.stop()
    assert seen == [
        "migrate",
        "load",
        "bus starts",
        "relay runs",
        "publish the rest",
        "bus stops",
        "relay ends",
        "close model",
        "close database",
    ]
    assert settings.address_file is not None
    assert not settings.address_file.exists()


async def test_a_service_may_have_an_http_endpoint_of_its_own(run: Run) -> None:
    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello)])
    process = await run(Service(name="thing", http=Http(app=app, listen="127.0.0.1:0")))
    assert await get(process.addresses["http"], "/") == (200, "hello")


async def test_an_address_that_is_taken_is_named(run: Run, tmp_path: Path) -> None:
    first = await run(Service(name="thing"))
    second = Process(Settings(ops_listen=first.addresses["ops"]), name="thing")
    with pytest.raises(OSError, match=first.addresses["ops"]):
        await second.start_operators()
