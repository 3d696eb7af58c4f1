import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anabranch.embedding.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from anabranch.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from anabranch.ingestion.v1 import ingestion_service_pb2, ingestion_service_pb2_grpc
from anabranch_observability import configure
from anabranch_rpc import Server, Servicer, connect

Behavior = Callable[[Any], Awaitable[Any]]
StreamBehavior = Callable[[Any], AsyncIterator[Any]]


class _Unary(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    def __init__(self, behave: Behavior) -> None:
        self._behave = behave

    async def EmbedTexts(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        answer = await self._behave(request)
        return answer if answer is not None else embedding_service_pb2.EmbedTextsResponse()

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return embedding_service_pb2.ListModelsResponse()


class _Stream(generation_service_pb2_grpc.GenerationServiceServicer):
    def __init__(self, behave: StreamBehavior) -> None:
        self._behave = behave

    async def Generate(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        async for delta in self._behave(request):
            yield generation_service_pb2.GenerateResponse(delta=delta)

    async def Condense(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return generation_service_pb2.CondenseResponse()

    async def ListBackends(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return generation_service_pb2.ListBackendsResponse()


class _Watch(ingestion_service_pb2_grpc.IngestionServiceServicer):
    def __init__(self, behave: StreamBehavior) -> None:
        self._behave = behave

    async def GetDocument(self, request: Any, context: Any) -> Any:  # noqa: N802  the generated name
        return ingestion_service_pb2.GetDocumentResponse()

    async def WatchDocument(self, request: Any, context: Any) -> Any:  # type: ignore[override]  # noqa: N802  grpc.aio allows it
        async for _ in self._behave(request):
            await context.write(ingestion_service_pb2.WatchDocumentResponse())


@pytest.fixture
def unary() -> Callable[[Behavior], Servicer]:
    """EmbeddingService; EmbedTexts does what it is given."""
    return lambda behave: Servicer(
        _Unary(behave),
        embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server,
        "anabranch.embedding.v1.EmbeddingService",
    )


@pytest.fixture
def stream() -> Callable[[StreamBehavior], Servicer]:
    """GenerationService; Generate, an async generator, streams what it is given as deltas."""
    return lambda behave: Servicer(
        _Stream(behave),
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server,
        "anabranch.generation.v1.GenerationService",
    )


@pytest.fixture
def watch() -> Callable[[StreamBehavior], Servicer]:
    """IngestionService; WatchDocument, which writes to its context, sends a message for each of what it is given."""
    return lambda behave: Servicer(
        _Watch(behave),
        ingestion_service_pb2_grpc.add_IngestionServiceServicer_to_server,
        "anabranch.ingestion.v1.IngestionService",
    )


@pytest.fixture(params=["tcp", "unix"])
def listen(request: pytest.FixtureRequest, short_dir: Path) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{short_dir}/run/rpc.sock"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """Starts servers that are stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(*servicers: Servicer, **options: Any) -> Server:
            server = Server(servicers, **options)
            await server.start()
            await server.set_serving(serving=True)
            stack.push_async_callback(server.stop, timedelta(0))
            return server

        yield start


@pytest.fixture
async def open_channel() -> AsyncIterator[Callable[..., Any]]:
    """As `connect`; the channels are closed after the test."""
    async with AsyncExitStack() as stack:

        def start(target: str, **options: Any) -> Any:
            channel = connect(target, **options)
            stack.push_async_callback(channel.close)
            return channel

        yield start


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """The log lines written so far, as JSON objects."""
    configure(service="test", level="debug", format="json")
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
