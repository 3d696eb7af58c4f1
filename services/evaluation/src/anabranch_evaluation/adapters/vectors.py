"""Vectors of sentences over gRPC, each kept as it first came."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
import numpy as np
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from anabranch.embedding.v1 import embedding_service_pb2 as pb
from anabranch.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from anabranch_evaluation.adapters.neighbours import meaning
from anabranch_evaluation.adapters.tables import VECTORS
from anabranch_faults import Invalid, Unreachable
from anabranch_grounding import Vector, quantised
from anabranch_store import Database

PATIENCE: Final = timedelta(seconds=20)
_AT_ONCE: Final = 128
"""Texts of one call: more than embedding takes for a query, so that none overtakes what people wait for."""
_LONGEST: Final = 8_192
"""Characters of a text. Models read less."""
_ROWS: Final = 400


class GrpcVectors:
    """As the port says, over EmbeddingService.

    What a model makes of a text differs in a bit with what ran beside it, so the first vector of a text is kept and
    serves ever after, in every replica: equal texts, equal bits.
    """

    def __init__(self, channel: grpc.aio.Channel, database: Database, *, version: str = "") -> None:
        """Takes a channel of `anabranch_rpc.connect`, and an embedding version or alias; empty: the service's own."""
        self._stub = EmbeddingServiceStub(channel)
        self._database = database
        self._asked = version
        self._version = ""
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def version(self) -> str:
        """As in the port."""
        if not self._version:
            self._version = (await self._embed(["version"], self._asked)).model.version
        return self._version

    async def of(self, texts: Sequence[str]) -> Mapping[str, Vector]:
        """As in the port."""
        version = await self.version()
        digests = {text: hashlib.sha256(text.encode()).hexdigest() for text in dict.fromkeys(texts) if text.strip()}
        kept = await self._kept(version, list(digests.values()))
        missing = [text for text, digest in digests.items() if digest not in kept]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            reply = await self._embed([text[:_LONGEST] for text in part], version)
            now = datetime.now(UTC)
            rows = [
                {
                    "version": version,
                    "digest": digests[text],
                    "vector": quantised(np.frombuffer(one, "<f4")).tobytes(),
                    "kept_at": now,
                }
                for text, one in zip(part, reply.vectors, strict=True)
            ]
            await self._keep(rows)
        if missing:
            # Read again: another replica may have been first.
            kept |= await self._kept(version, [digests[text] for text in missing])
        return {text: kept[digest] for text, digest in digests.items()}

    async def _embed(self, texts: Sequence[str], version: str) -> pb.EmbedTextsResponse:
        request = pb.EmbedTextsRequest(texts=texts, version=version)
        try:
            return await self._stub.EmbedTexts(request, timeout=PATIENCE.total_seconds())
        except grpc.aio.AioRpcError as error:
            fault = meaning(error)
            if isinstance(fault, Invalid):
                # The version is gone, or never was: nothing an answer could be put right by.
                self._version = ""
                raise Unreachable(f"embedding refuses to embed with {version or 'its default'}: {fault}") from error
            raise fault from error

    async def _kept(self, version: str, digests: Sequence[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        async with self._database.reading() as tx:
            for start in range(0, len(digests), _ROWS):
                statement = select(VECTORS.c.digest, VECTORS.c.vector).where(
                    VECTORS.c.version == version, VECTORS.c.digest.in_(digests[start : start + _ROWS])
                )
                for row in await tx.execute(statement):
                    found[row.digest] = np.frombuffer(row.vector, np.int8)
        return found

    async def _keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        async with self._database.transaction() as tx:
            # In one order everywhere, so that two replicas do not wait for each other.
            ordered = sorted(rows, key=lambda row: str(row["digest"]))
            await tx.execute(self._insert(VECTORS).values(ordered).on_conflict_do_nothing())
