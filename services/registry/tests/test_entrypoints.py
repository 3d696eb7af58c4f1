from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.registry.v1 import events_pb2 as events
from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch_bus import MemoryBus
from anabranch_registry.bootstrap import build
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.entrypoints.messages import variant_from, variant_message
from anabranch_registry.settings import Settings
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until

WHO: dict[str, Any] = {"author": "ada", "reason": "because"}


@dataclass(slots=True, kw_only=True)
class Registry:
    stub: Any
    bus: MemoryBus

    def told(self) -> list[Any]:
        return [(event.key, event.message.revision) for event in self.bus.published(topics.REGISTRY_ROUTING_CHANGED)]

    async def create(self, top_k: int) -> str:
        variant = events.Variant()
        variant.retrieval.alpha, variant.retrieval.top_k = 0.5, top_k
        response = await self.stub.CreateVariant(pb.CreateVariantRequest(variant=variant, **WHO), timeout=5)
        return str(response.variant.variant_id)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    settings, bus = Settings(data=tmp_path), MemoryBus()
    process = Process(settings, name="registry")
    await process.start(build(settings, bus=bus))
    channel = connect(process.addresses["rpc"])
    yield Registry(stub=RegistryServiceStub(channel), bus=bus)
    await channel.close()
    await process.stop()


def test_a_message_and_its_variant_say_the_same() -> None:
    message = events.Variant(description="d", policy_version="p")
    message.retrieval.CopyFrom(
        type(message.retrieval)(alpha=0.3, top_k=7, embedding_version="e", reranker_version="r", keep_duplicates=True)
    )
    message.generation.CopyFrom(
        type(message.generation)(
            backend="openai",
            model="m",
            adapter="a",
            max_tokens=9,
            temperature=0.5,
            stop=["x", "y"],
            seed=3,
            context_tokens=100,
            max_sentences=4,
            abstain_below=0.25,
        )
    )
    message.generation.prompt.system, message.generation.prompt.template = "s", "t"
    message.generation.prompt_ref = "support@production"
    cascade = message.generation.cascade
    cascade.backend, cascade.model, cascade.skip_above, cascade.escalate_below = "openai", "small", 0.5, 0.25
    cascade.explore = 0.1
    variant = variant_from(message).completed()
    back = variant_message(variant)
    assert back.variant_id == variant.variant_id
    # Every field of the contract is carried: one that is added there and forgotten here fails.
    for part in (message, message.retrieval, message.generation, message.generation.prompt, cascade):
        unset = {field.name for field in part.DESCRIPTOR.fields} - {field.name for field, _ in part.ListFields()}
        assert unset <= {"variant_id", "version"}
    back.variant_id = back.generation.prompt.version = ""
    assert back == message


async def test_a_new_registry_tells_the_default_routing_with_the_whole_bundle(registry: Registry) -> None:
    await poll_until(lambda: registry.told() == [("*", 1)])
    (event,) = registry.bus.published(topics.REGISTRY_ROUTING_CHANGED)
    assert event.message.shares[0].variant == variant_message(DEFAULT_VARIANT)
    assert event.message.shares[0].weight == 1
    assert event.message.author == "registry"
    assert event.message.changed_at.seconds > 0


async def test_variants_are_created_found_and_listed(registry: Registry) -> None:
    ids = [await registry.create(top_k) for top_k in (3, 4)]
    assert await registry.create(3) == ids[0]
    found = await registry.stub.GetVariant(pb.GetVariantRequest(variant_id=ids[1]), timeout=5)
    assert found.variant.retrieval.top_k == 4
    page = await registry.stub.ListVariants(pb.ListVariantsRequest(page_size=2), timeout=5)
    assert [variant.variant_id for variant in page.variants] == ids[::-1]
    rest = await registry.stub.ListVariants(pb.ListVariantsRequest(page_token=page.next_page_token), timeout=5)
    assert [variant.variant_id for variant in rest.variants] == [DEFAULT_VARIANT.variant_id]
    assert rest.next_page_token == ""


async def test_routing_is_set_told_and_read_back(registry: Registry) -> None:
    new = await registry.create(3)
    request = pb.SetRoutingRequest(scope="t/c", weights={new: 1, DEFAULT_VARIANT.variant_id: 9}, **WHO)
    response = await registry.stub.SetRouting(request, timeout=5)
    assert response.routing.revision == 1
    await poll_until(lambda: ("t/c", 1) in registry.told())
    event = registry.bus.published(topics.REGISTRY_ROUTING_CHANGED)[-1]
    assert event.message == response.routing
    read = await registry.stub.GetRouting(pb.GetRoutingRequest(scope="t/c"), timeout=5)
    assert read.routing == response.routing


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (pb.SetRoutingRequest(scope="*", weights={DEFAULT_VARIANT.variant_id: 1}), "ABORTED", "expected_revision"),
        (pb.SetRoutingRequest(scope="a/b/c", weights={DEFAULT_VARIANT.variant_id: 1}), "INVALID_ARGUMENT", "scope"),
        (pb.SetRoutingRequest(scope="t"), "INVALID_ARGUMENT", "weights"),
        (pb.SetRoutingRequest(scope="t", weights={"v-000000000000": 1}), "NOT_FOUND", "weights[v-000000000000]"),
    ],
)
async def test_routing_that_cannot_be_is_refused_and_told_to_nobody(
    registry: Registry, request_: pb.SetRoutingRequest, code: str, field: str
) -> None:
    await poll_until(lambda: registry.told() == [("*", 1)])
    request_.author, request_.reason = WHO["author"], WHO["reason"]
    with pytest.raises(AioRpcError) as raised:
        await registry.stub.SetRouting(request_, timeout=5)
    assert raised.value.code() == StatusCode[code]
    assert field in str(raised.value.details())
    assert registry.told() == [("*", 1)]
    with pytest.raises(AioRpcError):
        await registry.stub.GetRouting(pb.GetRoutingRequest(scope="t"), timeout=5)


async def test_a_variant_out_of_range_is_refused_with_its_path(registry: Registry) -> None:
    variant = events.Variant()
    variant.retrieval.alpha, variant.retrieval.top_k = 2, 5
    with pytest.raises(AioRpcError) as raised:
        await registry.stub.CreateVariant(pb.CreateVariantRequest(variant=variant, **WHO), timeout=5)
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT
    assert "variant.retrieval.alpha: is 2; allowed is 0 to 1" in str(raised.value.details())


async def test_what_nobody_signed_is_refused(registry: Registry) -> None:
    with pytest.raises(AioRpcError) as raised:
        await registry.stub.SetRouting(
            pb.SetRoutingRequest(scope="t", weights={DEFAULT_VARIANT.variant_id: 1}), timeout=5
        )
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT
    assert "author" in str(raised.value.details())


async def test_a_broker_that_is_away_delays_the_telling_and_nothing_else(tmp_path: Path) -> None:
    settings, bus = Settings(data=tmp_path), MemoryBus()
    bus.unreachable = True
    process = Process(settings, name="registry")
    await process.start(build(settings, bus=bus))
    channel = connect(process.addresses["rpc"])
    registry = Registry(stub=RegistryServiceStub(channel), bus=bus)
    await registry.create(3)
    assert registry.told() == []
    bus.unreachable = False
    await poll_until(lambda: registry.told() == [("*", 1)], deadline=10)
    await channel.close()
    await process.stop()
