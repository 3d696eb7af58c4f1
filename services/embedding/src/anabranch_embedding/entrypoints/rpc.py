"""EmbeddingService: parse, call, answer."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from anabranch.embedding.v1 import embedding_service_pb2 as pb
from anabranch.embedding.v1 import embedding_service_pb2_grpc as stubs
from anabranch_embedding.application import EmbedTexts, ListModels
from anabranch_embedding.entrypoints.messages import identity_message, response_from, texts_of
from anabranch_rpc import Servicer

__all__ = ["servicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class EmbeddingServicer(stubs.EmbeddingServiceServicer):
    """Vectors for who asks."""

    def __init__(self, embed: EmbedTexts, models: ListModels) -> None:
        """Takes the use cases."""
        self._embed = embed
        self._models = models

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, context: Context) -> pb.EmbedTextsResponse:  # noqa: ARG002, N802  the contract's signature
        """One vector a text."""
        identity, encodings = await self._embed(texts_of(request), version=request.version)
        return response_from(identity, encodings, sentences=bool(request.sentences))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002, N802  the contract's signature
        """All versions, the default first."""
        return pb.ListModelsResponse(models=[identity_message(identity) for identity in self._models()])


def servicer(embed: EmbedTexts, models: ListModels) -> Servicer:
    """Return the service for a server."""
    return Servicer(
        EmbeddingServicer(embed, models),
        add=stubs.add_EmbeddingServiceServicer_to_server,
        name="anabranch.embedding.v1.EmbeddingService",
    )
