"""Replicas on a real broker: they know every prompt before they are ready, and a label's move reaches them all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import grpc
import pytest

from anabranch import topics
from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2_grpc as stubs
from anabranch.registry.v1 import prompts_pb2 as registry
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage
from anabranch_bus import BusSettings, Event, KafkaBus
from anabranch_generation.adapters.chat import ChatBackend
from anabranch_generation.bootstrap import build
from anabranch_generation.settings import Settings
from anabranch_generation.testing import FakeChatModel
from anabranch_rpc import Server, connect
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

BAR = 2.0
VERSIONS = ("p-0000000000aa", "p-0000000000bb")


def named(unique: Callable[[str], str]) -> str:
    return unique("prompt").lower().replace("_", "-")


class Told:
    """Prompts of one name, as the registry tells them."""

    def __init__(self, bus: KafkaBus, name: str) -> None:
        self.bus = bus
        self.name = name
        self.revision = 0

    async def versions(self) -> None:
        for version in VERSIONS:
            prompt = registry.PromptTemplate(
                name=self.name, prompt_version=version, system=version, template="{{ question }}"
            )
            await self._tell(registry.PromptChanged(prompt=prompt), f"prompt/{self.name}/{version}")

    async def move(self, version: str) -> None:
        self.revision += 1
        label = registry.PromptLabel(name=self.name, label="production", prompt_version=version, revision=self.revision)
        await self._tell(registry.PromptChanged(label=label), f"label/{self.name}/production")

    async def _tell(self, message: registry.PromptChanged, key: str) -> None:
        await self.bus.publish(Event(topic=topics.REGISTRY_PROMPT_CHANGED, message=message, key=key))


@pytest.fixture
async def told(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Told]:
    bus = KafkaBus(BusSettings(bootstrap=kafka, state=tmp_path / "registry"))
    await bus.start()
    try:
        yield Told(bus, named(unique))
    finally:
        await bus.stop()


async def replica(stack: AsyncExitStack, kafka: str, state: Path) -> tuple[stubs.GenerationServiceAsyncStub, KafkaBus]:
    bus = KafkaBus(BusSettings(bootstrap=kafka, state=state))
    service = await build(Settings(), bus=bus, loaded={"fake_chat": ChatBackend(FakeChatModel())})
    server = Server(service.rpc)
    await server.start()
    stack.push_async_callback(server.stop, timedelta(0))
    await bus.start()
    stack.push_async_callback(bus.stop)
    await poll_until(lambda: bus.ready is None or None, deadline=timedelta(seconds=20))
    channel = connect(server.address)
    stack.push_async_callback(channel.close)
    return stubs.GenerationServiceStub(channel), bus


async def rendered(stub: stubs.GenerationServiceAsyncStub, name: str) -> str:
    request = pb.GenerateRequest(
        question="Does it?",
        passages=[Passage(text="It flows back.")],
        settings=pb.GenerationSettings(prompt_ref=f"{name}@production"),
    )
    events = [event async for event in stub.Generate(request, timeout=5)]
    return events[-1].generated.prompt_version


async def test_a_replica_that_is_ready_knows_every_prompt_and_a_rollback_reaches_all_three_within_the_bar(
    told: Told, kafka: str, tmp_path: Path
) -> None:
    await told.versions()
    await told.move(VERSIONS[0])
    async with AsyncExitStack() as stack:
        stubs_ = [(await replica(stack, kafka, tmp_path / str(number)))[0] for number in range(3)]
        # No waiting: a replica that is ready has read all there is.
        assert [await rendered(stub, told.name) for stub in stubs_] == [VERSIONS[0]] * 3
        for version in (VERSIONS[1], VERSIONS[0], VERSIONS[1], VERSIONS[0]):
            began = perf_counter()
            await told.move(version)
            for stub in stubs_:

                async def there(stub: stubs.GenerationServiceAsyncStub = stub, version: str = version) -> bool | None:
                    return await rendered(stub, told.name) == version or None

                await poll_until(there, deadline=timedelta(seconds=BAR), every=timedelta(milliseconds=5))
            assert perf_counter() - began < BAR


async def test_a_prompt_that_nobody_has_told_of_is_invalid_on_a_replica_that_is_ready(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        stub, _ = await replica(stack, kafka, tmp_path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rendered(stub, named(unique))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
