"""The real model, loaded once a run, and a served service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from anabranch.embedding.v1 import embedding_service_pb2_grpc as stubs
from anabranch_bus import MemoryBus
from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.bootstrap import build
from anabranch_embedding.settings import Settings
from anabranch_embedding.testing import FakeEncoder
from anabranch_rpc import connect
from anabranch_runtime import Process


@pytest.fixture(scope="session")
def packaged() -> PackagedModel:
    return PackagedModel.installed()


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> GraphCache:
    return GraphCache(tmp_path_factory.mktemp("graphs"))


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns(threads=2, limit=100)
    yield turns
    turns.close()


@pytest.fixture
async def int8(packaged: PackagedModel, graphs: GraphCache, turns: Turns) -> AsyncIterator[MiniLmEncoder]:
    encoder = MiniLmEncoder(model=packaged, quantisation="int8", cache=graphs, turns=turns)
    yield encoder
    await encoder.close()


@pytest.fixture
async def fp32(packaged: PackagedModel, graphs: GraphCache, turns: Turns) -> AsyncIterator[MiniLmEncoder]:
    encoder = MiniLmEncoder(model=packaged, quantisation="fp32", cache=graphs, turns=turns)
    yield encoder
    await encoder.close()


Serve = Callable[..., Awaitable["stubs.EmbeddingServiceAsyncStub"]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts the service with these encoders; gives a stub that talks to it over a real socket."""
    async with AsyncExitStack() as stack:

        async def start(**encoders: FakeEncoder) -> stubs.EmbeddingServiceAsyncStub:
            settings = Settings(data=tmp_path)
            process = Process(settings, name="embedding")
            await process.start(build(settings, bus=MemoryBus(), encoders=encoders or {"fake": FakeEncoder()}))
            stack.push_async_callback(process.stop)
            channel = connect(process.addresses["rpc"])
            stack.push_async_callback(channel.close)
            return stubs.EmbeddingServiceStub(channel)

        yield start
