"""What every server does, over real sockets: answers, refuses, maps errors, limits sizes, authenticates, stops."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from anabranch.embedding.v1 import embedding_service_pb2 as messages
from anabranch.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from anabranch.generation.v1.generation_service_pb2 import GenerateRequest
from anabranch.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from anabranch.ingestion.v1.ingestion_service_pb2 import WatchDocumentRequest
from anabranch.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from anabranch_faults import Denied, Fault, Invalid, NotFound, TooLarge, Unauthenticated, Unreachable
from anabranch_observability import exposition
from anabranch_rpc import Server, Servicer, fault_from, principal
from anabranch_testkit import poll_until

REQUEST = messages.EmbedTextsRequest(texts=["a"])
METHOD = "/anabranch.embedding.v1.EmbeddingService/EmbedTexts"


async def nothing(request: Any) -> None:
    return None


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_call_is_answered(serve: Any, unary: Any, open_channel: Any, listen: str) -> None:
    async def answer(request: Any) -> Any:
        return messages.EmbedTextsResponse(vectors=[b"1234"] * len(request.texts))

    server = await serve(unary(answer), listen=listen)
    answered = await EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST)
    assert len(answered.vectors) == 1


async def test_a_call_without_a_deadline_is_refused(serve: Any, unary: Any) -> None:
    server = await serve(unary(nothing))
    async with grpc.aio.insecure_channel(server.address) as channel:
        error = await refused(EmbeddingServiceStub(channel).EmbedTexts(REQUEST))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    fault = fault_from(error)
    assert isinstance(fault, Invalid)
    assert fault.reason == "DEADLINE_REQUIRED"


async def test_a_public_server_gives_a_deadline_to_who_sets_none(serve: Any, unary: Any) -> None:
    cancelled = asyncio.Event()

    async def forever(request: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    server = await serve(unary(forever), default_deadline=timedelta(milliseconds=50))
    async with grpc.aio.insecure_channel(server.address) as channel:
        error = await refused(EmbeddingServiceStub(channel).EmbedTexts(REQUEST))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert cancelled.is_set()


async def test_a_watch_needs_no_deadline(serve: Any, watch: Any) -> None:
    async def two(request: Any) -> AsyncIterator[int]:
        yield 1
        yield 2

    server = await serve(watch(two))
    async with grpc.aio.insecure_channel(server.address) as channel:
        seen = [one async for one in IngestionServiceStub(channel).WatchDocument(WatchDocumentRequest())]
    assert len(seen) == 2


async def test_a_fault_names_its_field_to_the_caller(serve: Any, unary: Any, open_channel: Any) -> None:
    async def picky(request: Any) -> None:
        raise Invalid("is empty", field="texts[0]", reason="EMPTY_TEXT")

    server = await serve(unary(picky))
    fault = fault_from(await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST)))
    assert isinstance(fault, Invalid)
    assert (fault.problem, fault.field, fault.reason) == ("is empty", "texts[0]", "EMPTY_TEXT")


async def test_a_table_of_the_service_extends_the_common_one(serve: Any, unary: Any, open_channel: Any) -> None:
    class Weird(Exception):  # noqa: N818  a name as a service might choose it
        pass

    async def weird(request: Any) -> None:
        raise Weird("odd")

    server = await serve(unary(weird), errors={Weird: StatusCode.OUT_OF_RANGE})
    error = await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST))
    assert (error.code(), error.details()) == (StatusCode.OUT_OF_RANGE, "odd")


async def test_a_bug_leaks_nothing_and_its_id_is_in_the_log(
    serve: Any, unary: Any, open_channel: Any, lines: Any
) -> None:
    async def buggy(request: Any) -> None:
        raise KeyError("swordfish")

    server = await serve(unary(buggy))
    error = await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST))
    assert error.code() is StatusCode.INTERNAL
    assert "swordfish" not in str(error)
    assert type(fault_from(error)) is Fault
    (line,) = [one for one in lines() if one["event"] == "rpc.request.failed"]
    assert line["error_id"] in str(error.details())
    assert "swordfish" in line["exception"]


async def test_bytes_that_are_no_message_are_refused_as_such(serve: Any, unary: Any, open_channel: Any) -> None:
    server = await serve(unary(nothing))
    call = open_channel(server.address).unary_unary(METHOD)
    error = await refused(call(b"\xff\xff\xff", timeout=5))
    assert error.code() is StatusCode.INVALID_ARGUMENT


async def test_a_request_over_the_limit_gets_a_sentence(serve: Any, unary: Any, open_channel: Any) -> None:
    server = await serve(unary(nothing), max_message_bytes=1_000)
    big = messages.EmbedTextsRequest(texts=["x" * 2_000])
    fault = fault_from(await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(big)))
    assert type(fault) is TooLarge
    assert "1000" in fault.problem


async def test_a_request_far_over_the_limit_never_reaches_memory(serve: Any, unary: Any, open_channel: Any) -> None:
    server = await serve(unary(nothing), max_message_bytes=1_000)
    huge = messages.EmbedTextsRequest(texts=["x" * 3_000_000])
    error = await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(huge))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert type(fault_from(error)) is TooLarge


async def test_a_method_may_have_a_higher_limit_than_the_others(serve: Any, unary: Any, open_channel: Any) -> None:
    server = await serve(unary(nothing), max_message_bytes=1_000, larger_messages={"EmbedTexts": 5_000_000})
    huge = messages.EmbedTextsRequest(texts=["x" * 3_000_000])
    await EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(huge)


async def test_an_unknown_method_is_unimplemented(serve: Any, unary: Any, open_channel: Any) -> None:
    server = await serve(unary(nothing))
    error = await refused(open_channel(server.address).unary_unary("/no.such.Service/Method")(b"", timeout=5))
    assert error.code() is StatusCode.UNIMPLEMENTED


async def test_health_follows_the_service_and_reflection_lists_it(serve: Any, unary: Any) -> None:
    server = await serve(unary(nothing))
    async with grpc.aio.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "anabranch.embedding.v1.EmbeddingService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(serving=False)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        untyped: Any = channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        listed = [one async for one in stub.ServerReflectionInfo(iter([asked]))]
    names = {service.name for service in listed[0].list_services_response.service}
    assert {"anabranch.embedding.v1.EmbeddingService", "grpc.health.v1.Health"} <= names


async def test_stopping_finishes_what_runs_and_takes_nothing_new(serve: Any, unary: Any, open_channel: Any) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> None:
        entered.set()
        await leave.wait()

    server = await serve(unary(slow))
    stub = EmbeddingServiceStub(open_channel(server.address))
    running = asyncio.ensure_future(stub.EmbedTexts(REQUEST))
    await entered.wait()
    stopping = asyncio.create_task(server.stop(timedelta(seconds=5)))
    await poll_until(lambda: refused_now(server.address), what="new connections are refused")
    assert not stopping.done()
    leave.set()
    await running
    await stopping


async def refused_now(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await EmbeddingServiceStub(channel).ListModels(messages.ListModelsRequest(), timeout=0.5)
        except grpc.aio.AioRpcError as error:
            return error.code() is StatusCode.UNAVAILABLE
        return False


async def test_stopping_cancels_what_does_not_finish_within_the_grace(
    serve: Any, unary: Any, open_channel: Any
) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def stubborn(request: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    server = await serve(unary(stubborn))
    running = asyncio.ensure_future(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST))
    await entered.wait()
    await server.stop(timedelta(milliseconds=100))
    assert isinstance(fault_from(await refused(running)), Unreachable)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_stopping_sends_watchers_elsewhere_at_once(serve: Any, watch: Any, open_channel: Any) -> None:
    closed = asyncio.Event()

    async def endless(request: Any) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            closed.set()

    server = await serve(watch(endless))
    call = IngestionServiceStub(open_channel(server.address)).WatchDocument(WatchDocumentRequest())
    await call.read()
    await asyncio.wait_for(server.stop(timedelta(seconds=30)), 5)
    error = await refused(call.read())
    assert error.code() is StatusCode.UNAVAILABLE
    assert "connect again" in str(error.details())
    assert closed.is_set()


@dataclass(frozen=True)
class Tenant:
    name: str


async def authenticate(metadata: Mapping[str, str | bytes]) -> Tenant:
    found = {"Bearer right": Tenant("acme")}.get(str(metadata.get("authorization")))
    if found is None:
        raise Unauthenticated("the key is not known")
    return found


async def test_a_handler_reads_who_calls(serve: Any, unary: Any, open_channel: Any) -> None:
    seen: list[Tenant] = []

    async def remember(request: Any) -> None:
        seen.append(principal(Tenant))

    server = await serve(unary(remember), authenticate=authenticate)
    channel = open_channel(server.address, metadata={"authorization": "Bearer right"})
    await EmbeddingServiceStub(channel).EmbedTexts(REQUEST)
    assert seen == [Tenant("acme")]


@pytest.mark.parametrize("metadata", [{}, {"authorization": "Bearer wrong"}])
async def test_who_is_not_known_gets_no_further_than_health(
    serve: Any, unary: Any, open_channel: Any, metadata: dict[str, str]
) -> None:
    called: list[Any] = []

    async def remember(request: Any) -> None:
        called.append(request)

    server = await serve(unary(remember), authenticate=authenticate)
    channel = open_channel(server.address, metadata=metadata)
    fault = fault_from(await refused(EmbeddingServiceStub(channel).EmbedTexts(REQUEST)))
    assert type(fault) is Unauthenticated
    assert not called
    health: Any = health_pb2_grpc.HealthStub(channel)
    await health.Check(health_pb2.HealthCheckRequest())


async def test_a_principal_is_not_there_where_nobody_authenticates(serve: Any, unary: Any, open_channel: Any) -> None:
    async def ask(request: Any) -> None:
        with pytest.raises(LookupError):
            principal(Tenant)
        raise Denied("no")

    server = await serve(unary(ask))
    assert type(fault_from(await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST)))) is (
        Denied
    )


async def test_an_address_that_is_taken_is_named(serve: Any, unary: Any) -> None:
    first = await serve(unary(nothing))
    with pytest.raises(OSError, match=first.address):
        await serve(unary(nothing), listen=first.address)


async def test_a_socket_left_behind_by_a_crash_is_taken_over(serve: Any, unary: Any, short_dir: Path) -> None:
    import socket  # noqa: PLC0415  only here

    path = short_dir / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = await serve(unary(nothing), listen=f"unix:{path}")
    assert server.address == f"unix:{path}"


async def test_the_folder_of_a_socket_is_private(serve: Any, unary: Any, short_dir: Path) -> None:
    await serve(unary(nothing), listen=f"unix:{short_dir}/made/rpc.sock")
    assert (short_dir / "made").stat().st_mode & 0o777 == 0o700


async def test_a_socket_path_that_is_too_long_is_named(serve: Any, unary: Any) -> None:
    with pytest.raises(OSError, match="at most 107 bytes"):
        await serve(unary(nothing), listen=f"unix:/{'x' * 120}")


def test_a_handler_that_would_block_the_loop_is_refused_at_start(unary: Any) -> None:
    made = unary(nothing)
    made.instance.ListModels = lambda request, context: None
    with pytest.raises(TypeError, match="ListModels"):
        Server([Servicer(made.instance, made.add, made.name)])


async def test_every_answer_is_counted(serve: Any, unary: Any, open_channel: Any) -> None:
    async def missing(request: Any) -> None:
        raise NotFound("x")

    server = await serve(unary(missing))
    series = (
        'anabranch_rpc_requests_total{code="NOT_FOUND",method="anabranch.embedding.v1.EmbeddingService/EmbedTexts"}'
    )
    before = counted(series)
    await refused(EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(REQUEST))
    # The answer is on its way before it is counted.
    await poll_until(lambda: counted(series) == before + 1)


def counted(series: str) -> float:
    for line in exposition().decode().splitlines():
        if line.startswith(series):
            return float(line.rpartition(" ")[2])
    return 0.0


async def test_stopping_in_the_middle_of_a_flood_of_messages_is_clean(
    serve: Any, watch: Any, stream: Any, open_channel: Any
) -> None:
    async def flood(request: Any) -> AsyncIterator[Any]:
        while True:
            yield "word"
            await asyncio.sleep(0)

    for _ in range(5):
        server = await serve(watch(flood))
        call = IngestionServiceStub(open_channel(server.address)).WatchDocument(WatchDocumentRequest())
        await call.read()
        stopping = asyncio.create_task(server.stop(timedelta(seconds=30)))
        error = await refused(read_all(call))
        assert error.code() is StatusCode.UNAVAILABLE
        await asyncio.wait_for(stopping, 5)


async def test_a_deadline_that_the_server_gave_ends_a_stream_in_full_flow(serve: Any, stream: Any) -> None:
    async def flood(request: Any) -> AsyncIterator[str]:
        while True:
            yield "word"
            await asyncio.sleep(0)

    server = await serve(stream(flood), default_deadline=timedelta(milliseconds=100))
    async with grpc.aio.insecure_channel(server.address) as channel:
        error = await refused(read_all(GenerationServiceStub(channel).Generate(GenerateRequest())))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert error.details() == "took too long"


async def read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass
