"""RetrievalService: parse, call, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as stubs
from anabranch_observability import counter, histogram
from anabranch_observability.names import retrieval as names
from anabranch_retrieval.application import Reindexing, Retrieve
from anabranch_retrieval.domain import (
    FEATURE_SET,
    FEATURES,
    Corpus,
    CorpusKey,
    Passage,
    Question,
    Reindex,
    ReindexState,
    SearchSettings,
)
from anabranch_retrieval.messages import chunk_to_proto
from anabranch_rpc import Servicer

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
ListCorpora = Callable[[str], Awaitable[list[Corpus]]]

_DEFAULT_TOP_K = 5
_EMBED = histogram(names.EMBED_SECONDS)
_SEARCH = histogram(names.SEARCH_SECONDS)
_RERANK = histogram(names.RERANK_SECONDS)
_RERANKED = counter(names.RERANKED)
_STATES = {
    ReindexState.BACKFILLING: pb.REINDEX_STATE_BACKFILLING,
    ReindexState.CATCHING_UP: pb.REINDEX_STATE_CATCHING_UP,
    ReindexState.SWAPPED: pb.REINDEX_STATE_SWAPPED,
    ReindexState.ROLLED_BACK: pb.REINDEX_STATE_ROLLED_BACK,
    ReindexState.FAILED: pb.REINDEX_STATE_FAILED,
}


class RetrievalServicer(stubs.RetrievalServiceServicer):
    """Passages for who asks, and orders for operators."""

    def __init__(self, retrieve: Retrieve, corpora: ListCorpora, reindexing: Reindexing) -> None:
        """Takes the use cases."""
        self._retrieve = retrieve
        self._corpora = corpora
        self._reindexing = reindexing

    async def Retrieve(self, request: pb.RetrieveRequest, context: Context) -> pb.RetrieveResponse:  # noqa: ARG002, N802  the contract's signature
        """Best passages."""
        question = question_from(request)
        answer = await self._retrieve(question)
        _EMBED.observe(answer.embed_seconds)
        _SEARCH.observe(answer.search_seconds)
        if question.settings.reranker_version:
            _RERANK.observe(answer.rerank_seconds)
            _RERANKED.labels(outcome="applied" if answer.reranker_version else "not_applied").inc()
        return pb.RetrieveResponse(
            passages=[passage_to_proto(passage, rank) for rank, passage in enumerate(answer.passages, start=1)],
            index_generation=answer.generation,
            embedding_version=answer.embedding_version,
            embed_time=_duration(answer.embed_seconds),
            search_time=_duration(answer.search_seconds),
            reranker_version=answer.reranker_version,
            feature_set=FEATURE_SET if question.with_features else "",
            feature_names=FEATURES if question.with_features else (),
            rerank_time=_duration(answer.rerank_seconds) if answer.rerank_seconds else None,
            query_vector=answer.query_vector,
        )

    async def ListCorpora(self, request: pb.ListCorporaRequest, context: Context) -> pb.ListCorporaResponse:  # noqa: ARG002, N802  the contract's signature
        """The tenant's corpora."""
        CorpusKey(tenant=request.tenant, corpus="any")
        found = await self._corpora(request.tenant)
        return pb.ListCorporaResponse(corpora=[_corpus(corpus) for corpus in found])

    async def StartReindex(self, request: pb.StartReindexRequest, context: Context) -> pb.StartReindexResponse:  # noqa: ARG002, N802  the contract's signature
        """Begin a run."""
        run = await self._reindexing.start(_key(request), request.to_version)
        return pb.StartReindexResponse(reindex=_reindex(run))

    async def GetReindex(self, request: pb.GetReindexRequest, context: Context) -> pb.GetReindexResponse:  # noqa: ARG002, N802  the contract's signature
        """The last run."""
        return pb.GetReindexResponse(reindex=_reindex(await self._reindexing.last(_key(request))))

    async def RollbackReindex(self, request: pb.RollbackReindexRequest, context: Context) -> pb.RollbackReindexResponse:  # noqa: ARG002, N802  the contract's signature
        """Swap back."""
        return pb.RollbackReindexResponse(reindex=_reindex(await self._reindexing.roll_back(_key(request))))


def servicer(retrieve: Retrieve, corpora: ListCorpora, reindexing: Reindexing) -> Servicer:
    """The service for a server."""
    return Servicer(
        RetrievalServicer(retrieve, corpora, reindexing),
        add=stubs.add_RetrievalServiceServicer_to_server,
        name="anabranch.retrieval.v1.RetrievalService",
    )


def question_from(request: pb.RetrieveRequest) -> Question:
    """Raises Invalid, TooLarge with the field at fault."""
    settings = SearchSettings()
    if request.HasField("settings"):
        given = request.settings
        settings = SearchSettings(
            alpha=given.alpha,
            top_k=given.top_k or _DEFAULT_TOP_K,
            embedding_version=given.embedding_version,
            reranker_version=given.reranker_version,
            keep_duplicates=given.keep_duplicates,
        )
    return Question(
        corpus=_key(request),
        text=request.query,
        settings=settings,
        filters=dict(request.filters),
        acl=tuple(request.acl),
        document_ids=tuple(request.document_ids),
        with_features=request.with_features,
        with_sentences=not request.without_sentences,
        with_query_vector=request.with_query_vector,
    )


def passage_to_proto(passage: Passage, rank: int) -> pb.Passage:
    """A passage with all that is known of it, and its place."""
    hit = passage.hit
    document = hit.chunk.document
    chunk = chunk_to_proto(hit.chunk)
    return pb.Passage(
        document=ingestion.DocumentRef(
            tenant=document.corpus.tenant,
            corpus=document.corpus.corpus,
            document_id=document.document_id,
            version=hit.chunk.version,
        ),
        chunk_id=chunk.chunk_id,
        ordinal=chunk.ordinal,
        text=chunk.text,
        span=chunk.span,
        title=hit.chunk.title,
        title_path=chunk.title_path,
        page=chunk.page,
        line=chunk.line,
        kind=chunk.kind,
        source_uri=hit.chunk.source_uri,
        metadata=hit.chunk.metadata,
        score=hit.found.score,
        vector_score=hit.found.vector_score or 0.0,
        keyword_score=hit.found.keyword_score or 0.0,
        sentences=[
            pb.Sentence(
                span=ingestion.Span(start=sentence.start, end=sentence.end),
                similarity=sentence.similarity or 0.0,
                has_similarity=sentence.similarity is not None,
            )
            for sentence in passage.sentences
        ],
        rank=rank,
        rerank_score=passage.rerank_score or 0.0,
        features=passage.features,
    )


def _key(
    request: pb.RetrieveRequest | pb.StartReindexRequest | pb.GetReindexRequest | pb.RollbackReindexRequest,
) -> CorpusKey:
    return CorpusKey(tenant=request.tenant, corpus=request.corpus)


def _corpus(corpus: Corpus) -> pb.Corpus:
    return pb.Corpus(
        corpus=corpus.key.corpus,
        document_count=corpus.document_count,
        chunk_count=corpus.chunk_count,
        index_generation=corpus.generation,
        embedding_version=corpus.live.version,
        changed_at=_timestamp(corpus.changed_at),
    )


def _reindex(run: Reindex) -> pb.Reindex:
    return pb.Reindex(
        corpus=run.corpus.corpus,
        from_version=run.from_version,
        to_version=run.to_version,
        state=_STATES[run.state],
        chunks_done=run.chunks_done,
        chunks_total=run.chunks_total,
        problem=run.problem,
        started_at=_timestamp(run.started_at),
        finished_at=_timestamp(run.finished_at) if run.finished_at is not None else None,
    )


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
