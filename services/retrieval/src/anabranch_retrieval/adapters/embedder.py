"""The embedding service over gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import timedelta

import grpc
import numpy as np
from numpy.typing import NDArray

from anabranch.embedding.v1 import embedding_service_pb2 as pb
from anabranch.embedding.v1 import embedding_service_pb2_grpc as stubs
from anabranch_faults import Transient, Unreachable
from anabranch_retrieval.application.ports import Embedded
from anabranch_retrieval.domain import Chunk, Entry, Model
from anabranch_retrieval.messages import model_from
from anabranch_rpc import connect, fault_from

_AT_ONCE = 64  # texts in one call; the service takes 256


class GrpcEmbedder:
    """The Embedder port on EmbeddingService. query_timeout: for one query; batch_timeout: for one batch of chunks."""

    def __init__(self, target: str, *, query_timeout: timedelta, batch_timeout: timedelta) -> None:
        """Takes host:port or unix:/path, several with commas. Made on the event loop; waits for nothing."""
        self._channel = connect(target)
        self._stub: stubs.EmbeddingServiceAsyncStub = stubs.EmbeddingServiceStub(self._channel)
        self._query_timeout = query_timeout.total_seconds()
        self._batch_timeout = batch_timeout.total_seconds()

    async def embed_query(self, text: str, version: str) -> Embedded:
        """As the port says."""
        request = pb.EmbedTextsRequest(texts=[text], version=version)
        with _translated():
            answer = await self._stub.EmbedTexts(request, timeout=self._query_timeout)
        return Embedded(vector=_vector(answer.vectors[0]), model=model_from(answer.model))

    async def embed_chunks(self, chunks: Sequence[Chunk], version: str) -> list[Entry]:
        """As the port says."""
        entries: list[Entry] = []
        for start in range(0, len(chunks), _AT_ONCE):
            some = chunks[start : start + _AT_ONCE]
            request = pb.EmbedTextsRequest(
                texts=[chunk.text for chunk in some],
                prefixes=[chunk.prefix for chunk in some],
                sentences=[
                    pb.SentenceSpans(
                        starts=[start for start, _ in chunk.sentences], ends=[end for _, end in chunk.sentences]
                    )
                    for chunk in some
                ],
                version=version,
            )
            with _translated():
                answer = await self._stub.EmbedTexts(request, timeout=self._batch_timeout)
            vectors = zip(some, answer.vectors, answer.sentence_vectors, strict=True)
            entries += [
                Entry(chunk=chunk, vector=_vector(vector), sentence_vectors=sentence_vectors)
                for chunk, vector, sentence_vectors in vectors
            ]
        return entries

    async def resolve(self, version: str) -> Model:
        """As the port says. Aliases are the service's own, so it is asked with a text."""
        with _translated():
            request = pb.EmbedTextsRequest(texts=["version"], version=version)
            answer = await self._stub.EmbedTexts(request, timeout=self._batch_timeout)
        return model_from(answer.model)

    async def models(self) -> list[Model]:
        """As the port says."""
        with _translated():
            answer = await self._stub.ListModels(pb.ListModelsRequest(), timeout=self._query_timeout)
        return [model_from(model) for model in answer.models]

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        fault = fault_from(error)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise Unreachable("the embedding service did not answer in time") from error
        if type(fault) is Transient:
            raise Unreachable(f"the embedding service is away: {fault.problem}") from error
        raise fault from error


def _vector(raw: bytes) -> NDArray[np.float32]:
    return np.frombuffer(raw, dtype="<f4")
