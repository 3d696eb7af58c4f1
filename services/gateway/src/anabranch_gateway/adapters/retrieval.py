"""The index, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import grpc

from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from anabranch_gateway.adapters.faults import meaning
from anabranch_gateway.application.ports import Corpus
from anabranch_gateway.domain.answers import Found, Passage
from anabranch_gateway.domain.routing import RetrievalSettings


class GrpcRetriever:
    """RetrievalService as the Retriever port. Settings and passages are the contract's own messages."""

    def __init__(self, channel: grpc.aio.Channel, *, query_vectors: bool = False) -> None:
        """Takes a channel of `anabranch_rpc.connect`, which passes deadline and cancellation on.

        `query_vectors` asks for the vector of every query.
        """
        self._stub = RetrievalServiceStub(channel)
        self._query_vectors = query_vectors

    async def retrieve(
        self,
        *,
        tenant: str,
        corpus: str,
        query: str,
        settings: RetrievalSettings,
        filters: Mapping[str, str],
        acl: Sequence[str],
        limit: int | None = None,
        with_features: bool = False,
    ) -> Found:
        """See the port."""
        request = pb.RetrieveRequest(
            tenant=tenant,
            corpus=corpus,
            query=query,
            settings=cast("pb.RetrievalSettings", settings),
            filters=filters,
            acl=acl,
            with_features=with_features,
            with_query_vector=self._query_vectors,
        )
        if limit is not None:
            request.settings.top_k = limit
        try:
            reply = await self._stub.Retrieve(request)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        for place, passage in enumerate(reply.passages, start=1):
            passage.rank = passage.rank or place  # the order shown may become another; this one is kept
        return Found(
            passages=cast("Sequence[Passage]", reply.passages),
            index_generation=reply.index_generation,
            embedding_version=reply.embedding_version,
            embed_time=reply.embed_time.ToTimedelta(),
            search_time=reply.search_time.ToTimedelta(),
            reranker_version=reply.reranker_version,
            feature_set=reply.feature_set,
            query_vector=reply.query_vector,
        )

    async def corpora(self, tenant: str) -> Sequence[Corpus]:
        """See the port."""
        try:
            reply = await self._stub.ListCorpora(pb.ListCorporaRequest(tenant=tenant))
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        return cast("Sequence[Corpus]", reply.corpora)
