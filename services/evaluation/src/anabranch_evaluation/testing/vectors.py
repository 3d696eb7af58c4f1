"""An embedding service on a real gRPC server, whose vectors tremble as those of a quantised model do."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Self, TypeAlias

import grpc
import numpy as np

from anabranch.embedding.v1 import embedding_service_pb2 as pb
from anabranch.embedding.v1 import embedding_service_pb2_grpc as stubs
from anabranch.embedding.v1 import events_pb2 as events
from anabranch_faults import Fault, Invalid
from anabranch_rpc import Server, Servicer

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
DIMENSION: Final = 64


class _Embedding(stubs.EmbeddingServiceServicer):
    def __init__(self, world: VectorServer) -> None:
        self._world = world

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, context: Context) -> pb.EmbedTextsResponse:  # noqa: ARG002, N802  the contract's signature
        world = self._world
        world.calls.append(list(request.texts))
        await asyncio.sleep(world.delay.total_seconds())
        if world.fault is not None:
            raise world.fault
        if request.version not in {"", "default", world.version}:
            raise Invalid(f"there is no version {request.version}", field="version")
        return pb.EmbedTextsResponse(
            model=events.ModelIdentity(version=world.version),
            vectors=[world.vector(text).astype("<f4").tobytes() for text in request.texts],
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002, N802  the contract's signature
        return pb.ListModelsResponse(models=[events.ModelIdentity(version=self._world.version)])


@dataclass
class VectorServer:
    """Texts of the same words have near vectors; each call's differ from the last one's by about `tremor`.

    `same`: words that mean the same. `fault`, when set, is raised, after `delay`. `calls` holds what was asked for.
    """

    version: str = "words-1"
    tremor: float = 0.02
    same: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    delay: timedelta = timedelta()
    calls: list[list[str]] = field(default_factory=list)
    _server: Server | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("not started")
        return self._server.address

    def vector(self, text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Of norm 1: the words' own directions, added up, and the tremor of this call."""
        words = [self.same.get(word, word) for word in re.findall(r"\w+", text.lower())]
        whole = sum((_direction(word) for word in words), np.zeros(DIMENSION)) + _direction(text) * 1e-3
        whole /= np.linalg.norm(whole)
        whole += self.tremor * _direction(f"{len(self.calls)} {text}")
        return np.asarray(whole / np.linalg.norm(whole))

    async def __aenter__(self) -> Self:
        """Serves."""
        servicer = Servicer(
            _Embedding(self),
            add=stubs.add_EmbeddingServiceServicer_to_server,
            name="anabranch.embedding.v1.EmbeddingService",
        )
        self._server = Server([servicer], listen="127.0.0.1:0")
        await self._server.start()
        await self._server.set_serving(serving=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stops."""
        if self._server is not None:
            await self._server.stop(timedelta(seconds=1))


def _direction(word: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return np.asarray(vector / np.linalg.norm(vector))
