"""A gateway on real sockets, with stand-ins behind it and a bus in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anabranch import topics
from anabranch_bus import Bus, MemoryBus
from anabranch_client import AsyncAnabranch
from anabranch_gateway.bootstrap import build
from anabranch_gateway.settings import Settings
from anabranch_gateway.testing import Downstream, passage, route
from anabranch_runtime import Process
from anabranch_testkit import poll_until


@dataclass(slots=True, kw_only=True)
class Gateway:
    process: Process
    downstream: Downstream
    bus: MemoryBus
    settings: Settings

    @property
    def grpc(self) -> str:
        return self.process.addresses["rpc"]

    @property
    def http(self) -> str:
        return f"http://{self.process.addresses['http']}"

    @property
    def key(self) -> str:
        return self.settings.first_key_file.read_text()

    def client(self, **options: Any) -> AsyncAnabranch:
        return AsyncAnabranch(self.grpc, key=options.pop("key", self.key), **options)


Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts gateways, and stops them after the test."""
    async with AsyncExitStack() as stack:

        async def start_one(
            *, bus: Bus | None = None, downstream: Downstream | None = None, routed: bool = True, **settings: Any
        ) -> Gateway:
            if downstream is None:
                downstream = await stack.enter_async_context(Downstream())
                downstream.retrieval.corpora["default", "handbook"] = [
                    passage("a", "The meeting is in the blue room."),
                    passage("b", "Lunch is at noon."),
                ]
            chosen = Settings(
                **{
                    "listen": "127.0.0.1:0",
                    "http_listen": "127.0.0.1:0",
                    "data": tmp_path,
                    "retrieval": downstream.address,
                    "generation": downstream.address,
                    "ingestion": downstream.address,
                    "key_memory": timedelta(milliseconds=50),
                    **settings,
                }
            )
            memory = MemoryBus()
            process = Process(chosen, name="gateway")
            stack.push_async_callback(process.stop)
            await process.start(build(chosen, bus=bus or memory))
            if routed:
                await memory.deliver(topics.REGISTRY_ROUTING_CHANGED, [route(("v-one", 1))])
                await poll_until(lambda: not process.unready(), deadline=timedelta(seconds=5))
            return Gateway(process=process, downstream=downstream, bus=memory, settings=chosen)

        yield start_one


@pytest.fixture
async def gateway(start: Start) -> Gateway:
    """A gateway that is ready, whose tenant has the corpus `handbook`."""
    return await start()
