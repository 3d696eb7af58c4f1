"""Retrieval, generation and the registry, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from time import perf_counter
from typing import Final, cast

import grpc

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from anabranch.registry.v1 import events_pb2 as registry_events
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from anabranch_evaluation.application.ports import Written
from anabranch_evaluation.domain.costs import Usage, usage_of
from anabranch_evaluation.domain.ranking import Found, Hit
from anabranch_evaluation.domain.runs import Variant
from anabranch_faults import NotFound, Transient
from anabranch_rpc import fault_from

PATIENCE: Final = timedelta(seconds=30)
_SECONDS: Final = PATIENCE.total_seconds()


def variant_from(message: registry_events.Variant) -> Variant:
    """A bundle, its settings carried as they are."""
    return Variant(
        variant_id=message.variant_id,
        retrieval=message.retrieval,
        generation=message.generation,
        reranker=message.retrieval.reranker_version,
    )


def meaning(error: grpc.aio.AioRpcError) -> Exception:
    """The exception to raise from a failed call: what is late may come in time when it is asked for again."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Transient("a service did not answer in time")
    return fault_from(error)


class GrpcSearch:
    """RetrievalService as the Search port."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Takes a channel of `anabranch_rpc.connect`."""
        self._stub = RetrievalServiceStub(channel)

    async def generation(self, tenant: str, corpus: str) -> int:
        """See the port."""
        try:
            reply = await self._stub.ListCorpora(retrieval.ListCorporaRequest(tenant=tenant), timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        for one in reply.corpora:
            if one.corpus == corpus:
                return int(one.index_generation)
        raise NotFound(f"the tenant {tenant} has no corpus {corpus}", field="corpus")

    async def find(
        self, *, tenant: str, corpus: str, query: str, variant: Variant, depth: int, to_write: bool = False
    ) -> Found:
        """See the port."""
        request = retrieval.RetrieveRequest(
            tenant=tenant,
            corpus=corpus,
            query=query,
            settings=cast("retrieval.RetrievalSettings", variant.retrieval),
            without_sentences=not to_write,
        )
        request.settings.top_k = max(request.settings.top_k, depth)
        began = perf_counter()
        try:
            reply = await self._stub.Retrieve(request, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        return Found(
            hits=[
                Hit(
                    document_id=passage.document.document_id,
                    chunk_id=passage.chunk_id,
                    text=passage.text,
                    passage=passage,
                )
                for passage in reply.passages
            ],
            index_generation=reply.index_generation,
            reranker=reply.reranker_version,
            latency=timedelta(seconds=perf_counter() - began),
        )


class GrpcWriter:
    """GenerationService as the Writer port."""

    def __init__(self, channel: grpc.aio.Channel, *, top_k: int = 5) -> None:
        """Takes a channel of `anabranch_rpc.connect`; `top_k` passages where the variant names no number."""
        self._stub = GenerationServiceStub(channel)
        self._top_k = top_k

    async def write(self, *, question: str, hits: Sequence[Hit], variant: Variant) -> Written:
        """See the port. The passages are those the variant would have had, not all that were asked for."""
        settings = cast("retrieval.RetrievalSettings", variant.retrieval)
        request = generation.GenerateRequest(
            question=question,
            passages=[cast("retrieval.Passage", hit.passage) for hit in hits[: settings.top_k or self._top_k]],
            settings=cast("generation.GenerationSettings", variant.generation),
        )
        text: list[str] = []
        abstained = False
        usage: Usage | None = None
        call = self._stub.Generate(request, timeout=_SECONDS)
        try:
            async for response in call:
                match response.WhichOneof("event"):
                    case "delta":
                        text.append(response.delta)
                    case "generated":
                        end = response.generated
                        abstained = end.abstained
                        usage = usage_of(
                            prompt_tokens=end.usage.prompt_tokens,
                            completion_tokens=end.usage.completion_tokens,
                            model=end.model,
                            backend=end.backend,
                        )
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        finally:
            call.cancel()
        return Written(text="".join(text), abstained=abstained, usage=usage)


class GrpcVariants:
    """RegistryService as the Variants port."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Takes a channel of `anabranch_rpc.connect`."""
        self._stub = RegistryServiceStub(channel)

    async def variant(self, variant_id: str) -> Variant:
        """See the port."""
        try:
            reply = await self._stub.GetVariant(registry.GetVariantRequest(variant_id=variant_id), timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        return variant_from(reply.variant)
