"""What travels from hop to hop: deadline, cancellation, trace; and how calls are spread over several targets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from anabranch.embedding.v1 import embedding_service_pb2 as messages
from anabranch.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from anabranch.generation.v1.generation_service_pb2 import GenerateRequest
from anabranch.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from anabranch_observability import span, traceparent
from anabranch_rpc import connect, deadline, detached
from anabranch_testkit import poll_until

REQUEST = messages.EmbedTextsRequest(texts=["a"])


async def test_a_nested_call_has_what_is_left_of_the_deadline_less_ten_milliseconds(
    serve: Any, unary: Any, open_channel: Any
) -> None:
    outer: list[timedelta | None] = []
    inner: list[timedelta | None] = []

    async def last(request: Any) -> None:
        inner.append(deadline())

    callee = EmbeddingServiceStub(open_channel((await serve(unary(last))).address))

    async def first(request: Any) -> None:
        outer.append(deadline())
        await callee.EmbedTexts(REQUEST, timeout=60)

    caller = EmbeddingServiceStub(open_channel((await serve(unary(first))).address))
    # Below a second gRPC sends deadlines to the millisecond; above, it rounds them up by as much as 1 %.
    await caller.EmbedTexts(REQUEST, timeout=0.9)
    assert outer[0] is not None
    assert inner[0] is not None
    assert timedelta(0) < inner[0] < outer[0] - timedelta(milliseconds=8)


async def test_outside_of_a_call_there_is_no_deadline_and_the_channels_own_applies(
    serve: Any, unary: Any, open_channel: Any
) -> None:
    seen: list[timedelta | None] = []

    async def remember(request: Any) -> None:
        seen.append(deadline())

    server = await serve(unary(remember))
    assert deadline() is None
    await EmbeddingServiceStub(open_channel(server.address, timeout=timedelta(seconds=7))).EmbedTexts(REQUEST)
    assert seen[0] is not None
    assert timedelta(seconds=6) < seen[0] < timedelta(seconds=7.5)


async def test_a_deadline_that_passes_reaches_the_work_two_hops_down(serve: Any, unary: Any, open_channel: Any) -> None:
    cancelled = asyncio.Event()

    async def forever(request: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    callee = EmbeddingServiceStub(open_channel((await serve(unary(forever))).address))

    async def relay(request: Any) -> None:
        await callee.EmbedTexts(REQUEST)

    caller = EmbeddingServiceStub(open_channel((await serve(unary(relay))).address))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.EmbedTexts(REQUEST, timeout=0.2)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(cancelled.wait(), 2)


async def test_a_caller_that_goes_away_stops_the_work_two_hops_down(
    serve: Any, unary: Any, open_channel: Any, listen: str
) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(request: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    callee = EmbeddingServiceStub(open_channel((await serve(unary(forever), listen=listen)).address))

    async def relay(request: Any) -> None:
        await callee.EmbedTexts(REQUEST)

    caller = EmbeddingServiceStub(open_channel((await serve(unary(relay))).address))
    call = caller.EmbedTexts(REQUEST)
    waiting = asyncio.ensure_future(call)
    await asyncio.wait_for(entered.wait(), 5)
    call.cancel()
    await asyncio.wait_for(cancelled.wait(), 2)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_stream_that_its_reader_drops_is_cancelled_with_what_it_started(
    serve: Any, stream: Any, open_channel: Any
) -> None:
    closed: list[str] = []

    async def source(request: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "word "
                await asyncio.sleep(0.001)
        finally:
            closed.append("source")

    upstream = GenerationServiceStub(open_channel((await serve(stream(source))).address))

    async def relay(request: Any) -> AsyncIterator[str]:
        try:
            # The inner call is never cancelled by hand: ending the outer call does it.
            async for piece in upstream.Generate(GenerateRequest()):
                yield piece.delta
        finally:
            closed.append("relay")

    front = await serve(stream(relay))
    call = GenerationServiceStub(open_channel(front.address)).Generate(GenerateRequest(), timeout=30)
    assert (await call.read()).delta == "word "
    call.cancel()
    await poll_until(lambda: sorted(closed) == ["relay", "source"], deadline=2)


async def test_calls_that_a_handler_forgot_are_cancelled_when_it_answers(
    serve: Any, unary: Any, open_channel: Any
) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(request: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    callee = EmbeddingServiceStub(open_channel((await serve(unary(forever))).address))

    async def forgetful(request: Any) -> None:
        callee.EmbedTexts(REQUEST)
        await entered.wait()

    server = await serve(unary(forgetful))
    await EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST)
    await asyncio.wait_for(cancelled.wait(), 2)


async def test_detached_work_outlives_the_call_it_was_started_in(serve: Any, unary: Any, open_channel: Any) -> None:
    seen: list[timedelta | None] = []
    done = asyncio.Event()

    async def slow(request: Any) -> None:
        seen.append(deadline())
        await asyncio.sleep(0.1)
        done.set()

    callee = EmbeddingServiceStub(open_channel((await serve(unary(slow))).address))
    kept: list[Any] = []

    async def starts(request: Any) -> None:
        with detached():
            kept.append(callee.EmbedTexts(REQUEST, timeout=20))

    server = await serve(unary(starts))
    await EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST, timeout=1)
    await asyncio.wait_for(done.wait(), 5)
    assert seen[0] is not None
    assert seen[0] > timedelta(seconds=10)
    await kept[0]


async def test_one_trace_goes_through_two_hops_and_into_the_log(
    serve: Any, unary: Any, open_channel: Any, lines: Any
) -> None:
    seen: list[str | None] = []

    async def last(request: Any) -> None:
        seen.append(traceparent())
        raise TimeoutError

    callee = EmbeddingServiceStub(open_channel((await serve(unary(last))).address))

    async def first(request: Any) -> None:
        await callee.EmbedTexts(REQUEST)

    caller = EmbeddingServiceStub(open_channel((await serve(unary(first))).address))
    with span("test"):
        trace_id = str(traceparent())[3:35]
        with pytest.raises(grpc.aio.AioRpcError):
            await caller.EmbedTexts(REQUEST)
    assert str(seen[0])[3:35] == trace_id
    failed = [line for line in lines() if line["event"] == "rpc.request.failed"]
    assert [line["trace_id"] for line in failed] == [trace_id, trace_id]


async def test_a_call_from_outside_of_any_trace_begins_one(serve: Any, unary: Any) -> None:
    seen: list[str | None] = []

    async def remember(request: Any) -> None:
        seen.append(traceparent())

    server = await serve(unary(remember))
    async with grpc.aio.insecure_channel(server.address) as channel:
        await EmbeddingServiceStub(channel).EmbedTexts(REQUEST, timeout=5, metadata=(("traceparent", "rubbish"),))
        await EmbeddingServiceStub(channel).EmbedTexts(REQUEST, timeout=5)
    assert all(seen)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_calls_are_spread_over_targets_and_pass_over_one_that_is_down(
    serve: Any, unary: Any, short_dir: Path, kind: str
) -> None:
    hits: Counter[int] = Counter()

    def counting(number: int) -> Any:
        async def hit(request: Any) -> None:
            hits[number] += 1

        return unary(hit)

    listens = ["127.0.0.1:0"] * 2 if kind == "tcp" else [f"unix:{short_dir}/{n}.sock" for n in range(2)]
    servers = [await serve(counting(number), listen=listen) for number, listen in enumerate(listens)]
    async with connect(",".join(server.address for server in servers)) as channel:
        stub = EmbeddingServiceStub(channel)
        await poll_until(lambda: both(stub, hits), what="both servers answer")
        await servers[0].stop(timedelta(0))
        hits.clear()
        await poll_until(lambda: answers(stub), what="the other one answers")
        for _ in range(10):
            await stub.EmbedTexts(REQUEST)
        assert hits[1] >= 10
        assert hits[0] == 0


async def both(stub: Any, hits: Counter[int]) -> bool:
    await stub.EmbedTexts(REQUEST)
    return len(hits) == 2


async def answers(stub: Any) -> bool:
    try:
        await stub.EmbedTexts(REQUEST)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_server_that_comes_back_is_found_again_within_seconds(
    serve: Any, unary: Any, open_channel: Any, listen: str
) -> None:
    async def nothing(request: Any) -> None:
        return None

    server = await serve(unary(nothing), listen=listen)
    stub = EmbeddingServiceStub(open_channel(server.address))
    await stub.EmbedTexts(REQUEST)
    await server.stop(timedelta(0))
    assert not await answers(stub)
    await serve(unary(nothing), listen=server.address)
    await poll_until(lambda: answers(stub), deadline=4)


@pytest.mark.parametrize("target", ["", " , ", "nonsense", "host:", ":1", "host:port"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        connect(target)
