"""What a call costs the gateway, with stand-ins behind it: `python -m anabranch_gateway.testing.cost [--seconds N]`.

Three processes, as in life: the caller, the gateway, and what is behind it. CPU is the gateway process's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch_gateway.testing.downstream import Downstream, passage
from anabranch_gateway.testing.running import running
from anabranch_observability import configure

QUESTION = "Where is the meeting?"
Call = Callable[[int], Awaitable[None]]


def behind(pipe: Connection) -> None:
    """Serves stand-ins with five passages of 400 characters, until it is told to end."""
    configure(service="behind", level="error")

    async def serve() -> None:
        async with Downstream() as downstream:
            text = "The meeting is in the blue room on the second floor. " * 8
            downstream.retrieval.corpora["default", "handbook"] = [passage(f"d{n}", text) for n in range(5)]
            pipe.send(downstream.address)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


def gateway(pipe: Connection, target: str) -> None:
    """Serves a gateway, and tells the CPU seconds it has used whenever it is asked."""
    configure(service="gateway", level="warning")

    async def serve() -> None:
        with tempfile.TemporaryDirectory() as data:
            async with running(
                Path(data), retrieval=target, generation=target, ingestion=target, feedback=target
            ) as one:
                pipe.send((one.grpc, one.key))
                while await asyncio.to_thread(pipe.recv):
                    pipe.send(time.process_time())

    asyncio.run(serve())


def calls(channel: grpc.aio.Channel, key: str) -> dict[str, Call]:
    """The calls that are measured."""
    answers, searches = stubs.AnswerServiceStub(channel), stubs.SearchServiceStub(channel)
    metadata = (("authorization", f"Bearer {key}"),)

    async def ask(_number: int) -> None:
        await answers.Ask(pb.AskRequest(corpus="handbook", question=QUESTION), metadata=metadata, timeout=30)

    async def session(number: int) -> None:
        request = pb.AskRequest(corpus="handbook", question=QUESTION, session_id=f"s{number % 50}")
        await answers.Ask(request, metadata=metadata, timeout=30)

    async def stream(_number: int) -> None:
        request = pb.AskStreamRequest(ask=pb.AskRequest(corpus="handbook", question=QUESTION))
        async for _ in answers.AskStream(request, metadata=metadata, timeout=30):
            pass

    async def search(_number: int) -> None:
        await searches.Search(pb.SearchRequest(corpus="handbook", query=QUESTION), metadata=metadata, timeout=30)

    return {"ask": ask, "ask_stream": stream, "ask_session": session, "search": search}


async def load(call: Call, *, concurrency: int, seconds: float) -> Sequence[float]:
    """Times of the calls made, in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        while (began := time.perf_counter()) < end:
            await call(len(times))
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return times


async def measure(address: str, key: str, pipe: Connection, seconds: float) -> None:
    """Prints one JSON object a line."""

    def cpu() -> float:
        pipe.send(True)  # noqa: FBT003  a token
        return float(pipe.recv())

    async with grpc.aio.insecure_channel(address) as channel:
        for name, call in calls(channel, key).items():
            await call(0)
            for concurrency in (1, 16):
                before, began = cpu(), time.perf_counter()
                times = await load(call, concurrency=concurrency, seconds=seconds)
                took, used = time.perf_counter() - began, cpu() - before
                shown = {
                    "call": name,
                    "concurrency": concurrency,
                    "n": len(times),
                    "per_second": round(len(times) / took, 1),
                    "p50_ms": round(statistics.median(times) * 1_000, 2),
                    "p95_ms": round(statistics.quantiles(times, n=20)[-1] * 1_000, 2),
                    "gateway_cpu_ms": round(used / len(times) * 1_000, 2),
                }
                sys.stdout.write(json.dumps(shown) + "\n")
                sys.stdout.flush()


def main() -> None:
    """Starts the processes, measures, and ends them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line")
    seconds = parser.parse_args().seconds
    context = multiprocessing.get_context("spawn")  # gRPC and fork do not go together
    to_behind, behind_end = context.Pipe()
    context.Process(target=behind, args=(behind_end,), daemon=True).start()
    to_gateway, gateway_end = context.Pipe()
    context.Process(target=gateway, args=(gateway_end, to_behind.recv()), daemon=True).start()
    address, key = to_gateway.recv()
    asyncio.run(measure(address, key, to_gateway, seconds))
    to_gateway.send(False)  # noqa: FBT003  a token
    to_behind.send(None)


if __name__ == "__main__":
    main()
