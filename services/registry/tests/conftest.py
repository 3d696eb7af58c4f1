from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anabranch.registry.v1.cost_service_pb2_grpc import CostServiceStub
from anabranch.registry.v1.policy_service_pb2_grpc import PolicyServiceStub
from anabranch.registry.v1.prompt_service_pb2_grpc import PromptServiceStub
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch_bus import MemoryBus
from anabranch_registry.bootstrap import build, database_of
from anabranch_registry.settings import Settings
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_store import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Any]:
    """The whole service on a bus in memory: `policies`, `prompts`, `costs`, `registry` and `bus`."""
    settings, bus = Settings(data=tmp_path), MemoryBus()
    process = Process(settings, name="registry")
    await process.start(build(settings, bus=bus))
    channel = connect(process.addresses["rpc"])
    yield SimpleNamespace(
        policies=PolicyServiceStub(channel),
        prompts=PromptServiceStub(channel),
        costs=CostServiceStub(channel),
        registry=RegistryServiceStub(channel),
        bus=bus,
    )
    await channel.close()
    await process.stop()
