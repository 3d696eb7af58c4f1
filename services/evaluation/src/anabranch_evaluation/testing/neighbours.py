"""Retrieval, generation and the registry on one real gRPC server, answering from tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self, TypeAlias

import grpc

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.generation.v1 import generation_service_pb2_grpc as generation_grpc
from anabranch.ingestion.v1 import events_pb2 as ingestion_events
from anabranch.registry.v1 import events_pb2 as registry_events
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as retrieval_grpc
from anabranch_faults import NotFound
from anabranch_rpc import Server, Servicer

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def variant(variant_id: str, reranker: str = "") -> registry_events.Variant:
    """A bundle of the usual settings."""
    return registry_events.Variant(
        variant_id=variant_id,
        retrieval=retrieval.RetrievalSettings(alpha=0.5, top_k=5, reranker_version=reranker),
        generation=generation.GenerationSettings(backend="extractive", max_sentences=2),
    )


def passage(document_id: str, text: str = "", *, chunk: int = 0) -> retrieval.Passage:
    """A passage as retrieval gives it."""
    return retrieval.Passage(
        document=ingestion_events.DocumentRef(tenant="t", corpus="c", document_id=document_id),
        chunk_id=f"{document_id}#{chunk}",
        text=text or f"About {document_id}.",
    )


@dataclass
class Neighbours:
    """`ranked`: (reranker, query) -> document ids, best first. `refuses`: rerankers that cannot be applied.

    An answer takes ten prompt tokens a passage, and says so where `counts_tokens`.
    """

    variants: dict[str, registry_events.Variant] = field(default_factory=dict)
    ranked: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    generation: int = 7
    counts_tokens: bool = True
    asked: int = 0
    _server: Server | None = None

    @property
    def address(self) -> str:
        """Where all three listen."""
        if self._server is None:
            raise RuntimeError("not started")
        return self._server.address

    async def __aenter__(self) -> Self:
        """Serves."""
        self._server = Server(
            [
                Servicer(
                    _Retrieval(self),  # type: ignore[abstract]  # the decorator gives the rest
                    add=retrieval_grpc.add_RetrievalServiceServicer_to_server,
                    name="anabranch.retrieval.v1.RetrievalService",
                ),
                Servicer(
                    _Generation(self),  # type: ignore[abstract]  # the decorator gives the rest
                    add=generation_grpc.add_GenerationServiceServicer_to_server,
                    name="anabranch.generation.v1.GenerationService",
                ),
                Servicer(
                    _Registry(self),  # type: ignore[abstract]  # the decorator gives the rest
                    add=registry_grpc.add_RegistryServiceServicer_to_server,
                    name="anabranch.registry.v1.RegistryService",
                ),
            ],
            listen="127.0.0.1:0",
        )
        await self._server.start()
        await self._server.set_serving(serving=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stops."""
        if self._server is not None:
            await self._server.stop(timedelta(seconds=1))


async def _absent(request: object, context: Context) -> None:  # noqa: ARG001  the contract's signature
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this stand-in does not do that")


def _others_absent(kind: type) -> type:
    """What a stand-in does not do it refuses, as a coroutine: the server takes no other methods."""
    for base in kind.__mro__[1:-1]:
        for name in vars(base):
            if not name.startswith("_") and name not in vars(kind):
                setattr(kind, name, staticmethod(_absent))
    return kind


@_others_absent
class _Retrieval(retrieval_grpc.RetrievalServiceServicer):
    def __init__(self, world: Neighbours) -> None:
        self._world = world

    async def Retrieve(self, request: retrieval.RetrieveRequest, context: Context) -> retrieval.RetrieveResponse:  # noqa: ARG002, N802  the contract's signature
        self._world.asked += 1
        asked = request.settings.reranker_version
        applied = "" if asked in self._world.refuses else asked
        documents = self._world.ranked.get((applied, request.query), [])
        return retrieval.RetrieveResponse(
            passages=[passage(document) for document in documents[: request.settings.top_k]],
            index_generation=self._world.generation,
            reranker_version=applied,
        )

    async def ListCorpora(  # noqa: N802  the contract's signature
        self,
        request: retrieval.ListCorporaRequest,  # noqa: ARG002  as above
        context: Context,  # noqa: ARG002  as above
    ) -> retrieval.ListCorporaResponse:
        return retrieval.ListCorporaResponse(
            corpora=[retrieval.Corpus(corpus="c", index_generation=self._world.generation)]
        )


@_others_absent
class _Generation(generation_grpc.GenerationServiceServicer):
    def __init__(self, world: Neighbours) -> None:
        self._world = world

    async def Generate(  # noqa: N802  the contract's signature
        self,
        request: generation.GenerateRequest,
        context: Context,  # noqa: ARG002  as above
    ) -> AsyncIterator[generation.GenerateResponse]:
        text = request.passages[0].text if request.passages else ""
        yield generation.GenerateResponse(delta=text)
        usage = generation.Usage(prompt_tokens=10 * len(request.passages), completion_tokens=4)
        end = generation.Generated(
            abstained=not text,
            usage=usage if self._world.counts_tokens else None,
            backend="extractive",
        )
        yield generation.GenerateResponse(generated=end)


@_others_absent
class _Registry(registry_grpc.RegistryServiceServicer):
    def __init__(self, world: Neighbours) -> None:
        self._world = world

    async def GetVariant(self, request: registry.GetVariantRequest, context: Context) -> registry.GetVariantResponse:  # noqa: ARG002, N802  the contract's signature
        if request.variant_id not in self._world.variants:
            raise NotFound(f"there is no variant {request.variant_id}", field="variant_id")
        return registry.GetVariantResponse(variant=self._world.variants[request.variant_id])
