"""What this library adds to a hop: `python libs/rpc/tests/bench_hop.py`.

Bare grpc.aio and this library in turns, in one run, over unix sockets, client and servers in processes of their own.
"""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import grpc

from anabranch.embedding.v1 import embedding_service_pb2 as messages
from anabranch.embedding.v1 import embedding_service_pb2_grpc as stubs
from anabranch_observability import configure
from anabranch_rpc import Server, Servicer, connect

REQUEST = messages.EmbedTextsRequest(texts=["hello world"])
ROUNDS, CALLS, CONCURRENCY = 10, 300, 16


class Embedding(stubs.EmbeddingServiceServicer):
    async def EmbedTexts(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return messages.EmbedTextsResponse()

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return messages.ListModelsResponse()


async def bare(path: str) -> None:
    server = grpc.aio.server()
    stubs.add_EmbeddingServiceServicer_to_server(Embedding(), server)
    server.add_insecure_port(path)
    await server.start()
    await asyncio.Event().wait()


async def ours(path: str) -> None:
    add = stubs.add_EmbeddingServiceServicer_to_server
    server = Server([Servicer(Embedding(), add, "anabranch.embedding.v1.EmbeddingService")], listen=path)
    await server.start()
    await asyncio.Event().wait()


async def one_by_one(stub: Any) -> list[float]:
    took = []
    for _ in range(CALLS):
        began = perf_counter()
        await stub.EmbedTexts(REQUEST, timeout=5)
        took.append(perf_counter() - began)
    return took


async def at_once(stub: Any) -> float:
    async def worker() -> None:
        for _ in range(CALLS // 4):
            await stub.EmbedTexts(REQUEST, timeout=5)

    began = perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return CONCURRENCY * (CALLS // 4) / (perf_counter() - began)


async def measure(folder: str) -> None:
    channels = {"bare": grpc.aio.insecure_channel(f"unix:{folder}/bare"), "ours": connect(f"unix:{folder}/ours")}
    clients: dict[str, Any] = {name: stubs.EmbeddingServiceStub(channel) for name, channel in channels.items()}
    latency: dict[str, list[float]] = {name: [] for name in clients}
    rate: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(ROUNDS + 1):
        for name, stub in clients.items():
            latency[name] += await one_by_one(stub)
            rate[name].append(await at_once(stub))
    for name, channel in channels.items():
        took = sorted(latency[name][CALLS:])  # the first round warms up
        rates = sorted(rate[name][1:])
        half, most = took[len(took) // 2] * 1e3, took[len(took) * 95 // 100] * 1e3
        sys.stdout.write(
            f"{name}: p50 {half:.3f} ms, p95 {most:.3f} ms one by one; "
            f"{rates[len(rates) // 2]:.0f}/s (best {rates[-1]:.0f}) at concurrency {CONCURRENCY}\n"
        )
        await channel.close()


def main() -> None:
    configure(service="bench", level="info", format="json")
    with tempfile.TemporaryDirectory(prefix="ab-") as folder:
        children = []
        for name, serve in (("bare", bare), ("ours", ours)):
            child = os.fork()
            if not child:
                asyncio.run(serve(f"unix:{folder}/{name}"))
            children.append(child)
        while not all(Path(folder, name).exists() for name in ("bare", "ours")):
            sleep(0.05)
        try:
            asyncio.run(measure(folder))
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
