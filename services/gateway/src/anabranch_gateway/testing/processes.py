"""Gateways as processes of their own, on a real broker, and how fast a change of routing reaches them all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import grpc

from anabranch import topics
from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch_bus import Bus, Event
from anabranch_gateway.testing.downstream import Downstream, passage, route

READY_WITHIN: Final = timedelta(seconds=60)
STOP_WITHIN: Final = timedelta(seconds=27)
# Asked without any pause, the gateways would be busy with the questions that look whether they know yet.
AGAIN_AFTER: Final = timedelta(milliseconds=10)
# A corpus of its own, so that the routing of others who share the broker is left alone.
CORPUS: Final = "rollback"
SCOPE: Final = f"default/{CORPUS}"


@dataclass(slots=True, kw_only=True)
class GatewayProcess:
    """One `python -m anabranch_gateway`. Replicas share `data`, and with it keys and sessions."""

    process: asyncio.subprocess.Process
    data: Path
    name: str

    @property
    def key(self) -> str:
        """The first key, once it serves."""
        return (self.data / "key").read_text(encoding="utf-8")

    async def addresses(self) -> dict[str, str]:
        """Where it serves, as soon as it does. Raises RuntimeError with its log when it has ended instead."""
        file = self.data / f"{self.name}.addresses"
        async with asyncio.timeout(READY_WITHIN.total_seconds()):
            while True:
                if self.process.returncode is not None:
                    raise RuntimeError((self.data / f"{self.name}.log").read_text(encoding="utf-8")[-3_000:])
                with suppress(FileNotFoundError):
                    return dict(json.loads(file.read_text(encoding="utf-8")))
                await asyncio.sleep(0.02)

    async def stop(self) -> int:
        """Ends it as its operator would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), STOP_WITHIN.total_seconds())


async def start_gateway(kafka: str, downstream: Downstream, data: Path, *, name: str = "gateway") -> GatewayProcess:
    """Starts one. Whoever calls ends it."""
    addresses = data / f"{name}.addresses"
    addresses.unlink(missing_ok=True)
    settings = {
        "KAFKA": kafka,
        "DATA": str(data),
        "ADDRESS_FILE": str(addresses),
        "LISTEN": "127.0.0.1:0",
        "HTTP_LISTEN": "127.0.0.1:0",
        **dict.fromkeys(("RETRIEVAL", "GENERATION", "INGESTION", "FEEDBACK"), downstream.address),
    }
    with (data / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "anabranch_gateway",
            env={**os.environ, **{f"ANABRANCH_GATEWAY_{key}": value for key, value in settings.items()}},
            stderr=log,
            stdout=log,
        )
    return GatewayProcess(process=process, data=data, name=name)


class Replicas:
    """Several gateways behind one routing table."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], key: str) -> None:
        """Takes a channel to each gateway."""
        self._answers = [stubs.AnswerServiceStub(channel) for channel in channels]
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._revision = 0

    async def move(self, bus: Bus, variant_id: str, *, within: timedelta = timedelta(seconds=30)) -> Sequence[float]:
        """Gives the scope to a variant, as the registry would. As `follow`."""
        self._revision += 1
        told = route((variant_id, 1), scope=SCOPE, revision=self._revision)
        event = Event(topic=topics.REGISTRY_ROUTING_CHANGED, message=told, key=SCOPE)
        return await self.follow(lambda: bus.publish(event), variant_id, within=within)

    async def follow(
        self, change: Callable[[], Awaitable[object]], variant_id: str, *, within: timedelta = timedelta(seconds=30)
    ) -> Sequence[float]:
        """Seconds until each gateway answered with the variant, from before `change` was called."""
        asking = [asyncio.create_task(self._until(answers, variant_id)) for answers in self._answers]
        try:
            async with asyncio.timeout(within.total_seconds()):
                began = time.perf_counter()
                await change()
                return [at - began for at in await asyncio.gather(*asking)]
        finally:
            for task in asking:
                task.cancel()

    async def _until(self, answers: stubs.AnswerServiceAsyncStub, variant_id: str) -> float:
        request = pb.AskRequest(corpus=CORPUS, question="Where is the meeting?", user_id="u")
        while True:
            try:
                answer = await answers.Ask(request, metadata=self._metadata, timeout=10, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:  # one that has only begun has no routing yet
                    raise
            else:
                if answer.variant_id == variant_id:
                    return time.perf_counter()
            await asyncio.sleep(AGAIN_AFTER.total_seconds())


@asynccontextmanager
async def replicas(kafka: str, data: Path, *, number: int = 3) -> AsyncIterator[Replicas]:
    """That many gateways; who asks them waits until they know a routing."""
    started: list[GatewayProcess] = []
    channels: list[grpc.aio.Channel] = []
    async with Downstream() as downstream:
        downstream.retrieval.corpora["default", CORPUS] = [passage("a", "The meeting is in the blue room.")]
        try:
            # Appended one by one, so that what was started ends also when the next one fails.
            for place in range(number):
                started.append(await start_gateway(kafka, downstream, data, name=f"gateway-{place}"))  # noqa: PERF401  see above
            for one in started:
                channels.append(grpc.aio.insecure_channel((await one.addresses())["rpc"]))  # noqa: PERF401  see above
            yield Replicas(channels, started[0].key)
        finally:
            for channel in channels:
                await channel.close()
            for one in started:
                if one.process.returncode is None:
                    one.process.kill()
                    await one.process.wait()
