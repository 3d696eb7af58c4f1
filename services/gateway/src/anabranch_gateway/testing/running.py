"""A gateway on real sockets in this process, with stand-ins behind it and a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from anabranch import topics
from anabranch.topics import Topic
from anabranch_bus import Bus, Event, MemoryBus
from anabranch_gateway.bootstrap import build
from anabranch_gateway.settings import Settings
from anabranch_gateway.testing.downstream import Downstream, route
from anabranch_runtime import Process

M = TypeVar("M", bound=Message)


@dataclass(slots=True, kw_only=True)
class Gateway:
    """What a test needs of a running gateway."""

    process: Process
    downstream: Downstream
    bus: MemoryBus
    settings: Settings
    _seen: dict[str, int] = field(default_factory=dict)

    def renew(self) -> None:
        """Forgets what a test before this one has left in the stand-ins and on the bus."""
        self.downstream.renew()
        self.bus.unreachable = False
        for topic in topics.ALL:
            self._seen[topic.name] = len(self.bus.published(topic))

    def published(self, topic: Topic[M]) -> list[Event[M]]:
        """What was published since `renew`."""
        return self.bus.published(topic)[self._seen.get(topic.name, 0) :]

    @property
    def grpc(self) -> str:
        """`host:port`."""
        return self.process.addresses["rpc"]

    @property
    def http(self) -> str:
        """A url."""
        return f"http://{self.process.addresses['http']}"

    @property
    def key(self) -> str:
        """The first key."""
        return self.settings.first_key_file.read_text()


@asynccontextmanager
async def running(
    data: Path, *, bus: Bus | None = None, downstream: Downstream | None = None, routed: bool = True, **settings: Any
) -> AsyncIterator[Gateway]:
    """A gateway whose tenant `default` has the corpus `handbook`; ready unless `routed` is False.

    With a `bus` of its own the caller sees to the routing. `settings` go over the usual ones.
    """
    async with AsyncExitStack() as stack:
        if downstream is None:
            downstream = await stack.enter_async_context(Downstream())
        usual: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "http_listen": "127.0.0.1:0",
            "data": data,
            "retrieval": downstream.address,
            "generation": downstream.address,
            "ingestion": downstream.address,
            "feedback": downstream.address,
            "exploration": 0.0,  # what tests expect is in retrieval's order
            "cache_entries": 0,  # and is made anew for each
            "key_memory": timedelta(milliseconds=50),
        }
        chosen = Settings(**{**usual, **settings})
        memory = MemoryBus()
        process = Process(chosen, name="gateway")
        stack.push_async_callback(process.stop)
        await process.start(build(chosen, bus=bus or memory))
        if routed and bus is None:
            await memory.deliver(topics.REGISTRY_ROUTING_CHANGED, [route(("v-one", 1))])
            async with asyncio.timeout(5):
                while process.unready():  # noqa: ASYNC110  readiness is asked for, here as by a load balancer
                    await asyncio.sleep(0.005)
        yield Gateway(process=process, downstream=downstream, bus=memory, settings=chosen)
