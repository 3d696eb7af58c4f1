"""Gold labels: the questions are searched as the scope's present variant does, and its passages labelled."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from anabranch_faults import Invalid, NotFound
from anabranch_rpc import fault_from
from anabranch_training.domain import GOLD, RF1, Judgment
from anabranch_training.domain.ratings import GoldQuestion
from anabranch_training.domain.runs import Run

__all__ = ["GrpcSearcher"]

_DEPTH: Final = 50
_AT_ONCE: Final = 8
_SECONDS: Final = 10.0
_MOST_ROWS: Final = 200_000


class GrpcSearcher:
    """As the port says. Settings are those of the variant with the greatest share, without its reranker."""

    def __init__(self, *, retrieval_channel: grpc.aio.Channel, registry_channel: grpc.aio.Channel) -> None:
        """Takes channels of `anabranch_rpc.connect`."""
        self._retrieval = RetrievalServiceStub(retrieval_channel)
        self._registry = RegistryServiceStub(registry_channel)

    async def judged(self, run: Run, questions: Sequence[GoldQuestion]) -> Sequence[Judgment]:
        """As in the port. Of very many questions only the first passages are taken, the right ones always."""
        settings = await self._settings(run)
        turns = asyncio.Semaphore(_AT_ONCE)
        depth = max(10, min(_DEPTH, _MOST_ROWS // len(questions)))

        async def one(question: GoldQuestion) -> list[Judgment]:
            async with turns:
                return await self._one(run, question, settings, depth)

        tasks = [asyncio.create_task(one(question)) for question in questions]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [judgment for judgments in found for judgment in judgments]

    async def _settings(self, run: Run) -> retrieval.RetrievalSettings:
        for scope in (f"{run.tenant}/{run.corpus}", run.tenant, "*"):
            try:
                response = await self._registry.GetRouting(registry.GetRoutingRequest(scope=scope), timeout=_SECONDS)
            except AioRpcError as error:
                if error.code() is StatusCode.NOT_FOUND:
                    continue
                raise fault_from(error) from error
            shares = sorted(response.routing.shares, key=lambda share: (-share.weight, share.variant.variant_id))
            settings = retrieval.RetrievalSettings()
            settings.CopyFrom(shares[0].variant.retrieval)
            settings.top_k, settings.reranker_version = _DEPTH, ""
            return settings
        raise Invalid(f"{run.scope} is routed nowhere, not even by the scope *", field="corpus", reason="NO_ROUTE")

    async def _one(
        self, run: Run, question: GoldQuestion, settings: retrieval.RetrievalSettings, depth: int
    ) -> list[Judgment]:
        request = retrieval.RetrieveRequest(
            tenant=run.tenant,
            corpus=run.corpus,
            query=question.question,
            settings=settings,
            with_features=True,
            without_sentences=True,
        )
        try:
            response = await self._retrieval.Retrieve(request, timeout=_SECONDS)
        except AioRpcError as error:
            raise _meaning(error) from error
        if tuple(response.feature_names) != RF1 and response.passages:
            raise Invalid("retrieval and training know different features", field="gold", reason="FEATURES")
        digest = hashlib.sha256(" ".join(question.question.casefold().split()).encode()).hexdigest()
        return [
            Judgment(
                question=digest,
                document=passage.document.document_id,
                chunk=passage.chunk_id,
                user="",
                label=float(passage.document.document_id in question.relevant),
                shown_rank=0,
                randomised=False,
                features=tuple(passage.features),
                at=run.queued_at,
                source=GOLD,
            )
            for number, passage in enumerate(response.passages)
            if number < depth or passage.document.document_id in question.relevant
        ]


def _meaning(error: AioRpcError) -> Any:
    if error.code() is StatusCode.NOT_FOUND:
        return NotFound("the corpus holds nothing", field="corpus")
    return fault_from(error)
