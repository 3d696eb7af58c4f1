"""The composition root: the one place that names concrete classes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anabranch_artifacts import ArtifactStore
from anabranch_bus import Bus
from anabranch_faults import Fault
from anabranch_observability import get_logger
from anabranch_observability.names import retrieval as names
from anabranch_retrieval.adapters.analysis import english, numbered
from anabranch_retrieval.adapters.announcements import encoded
from anabranch_retrieval.adapters.catalogue import MIGRATIONS, SCHEMA, SqlCatalogue
from anabranch_retrieval.adapters.embedder import GrpcEmbedder
from anabranch_retrieval.adapters.rerankers import ArtifactRerankers, load
from anabranch_retrieval.application import (
    CheckModels,
    Embedder,
    IndexDocuments,
    Ranking,
    Readiness,
    Reindexing,
    ReindexWorker,
    RemovalWorker,
    Retrieve,
    VectorIndex,
    WarmUp,
)
from anabranch_retrieval.domain import Reranker
from anabranch_retrieval.entrypoints import kafka, rpc
from anabranch_retrieval.settings import Settings
from anabranch_runtime import Service
from anabranch_store import Database, OutboxRelay

log = get_logger()

_MAX_RERANKER = 64 * 2**20

Closing = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """The service, and the use case its Kafka side calls."""

    service: Service
    indexing: IndexDocuments


def build(
    settings: Settings, *, bus: Bus, index: VectorIndex | None = None, embedder: Embedder | None = None
) -> Service:
    """Wire the service. `index` and `embedder` stand in for real ones in tests."""
    return wire(settings, bus=bus, index=index, embedder=embedder).service


def wire(settings: Settings, *, bus: Bus, index: VectorIndex | None = None, embedder: Embedder | None = None) -> Wired:
    """As `build`; for those who would index without a bus."""
    starting: list[Closing] = []
    closing: list[Closing] = []
    if embedder is None:
        remote = GrpcEmbedder(
            settings.embedding,
            query_timeout=settings.embedding_query_timeout,
            batch_timeout=settings.embedding_batch_timeout,
        )
        embedder = remote
        closing.append(remote.close)
    if index is None:
        index, opening, ending = _index(settings)
        starting += opening
        closing += ending
    database = Database(settings.database_url, schema=SCHEMA, migrations=MIGRATIONS)
    relay = OutboxRelay(database, bus.publish_encoded)
    catalogue = SqlCatalogue(database, encoded, previous_kept=settings.previous_kept)
    reindexer = ReindexWorker(index=index, catalogue=catalogue, embedder=embedder, trouble=_told("reindex"))
    remover = RemovalWorker(index=index, catalogue=catalogue, trouble=_told("removal"))
    readiness = Readiness(
        index=index,
        models=CheckModels(catalogue=catalogue, embedder=embedder),
        strict=settings.unserved == "refuse",
    )
    indexing = IndexDocuments(index=index, catalogue=catalogue, embedder=embedder, grace=settings.reader_grace)
    rerankers = _rerankers(settings)
    kafka.register(bus, indexing, rerankers.route)
    reindexing = Reindexing(index=index, catalogue=catalogue, embedder=embedder, worker=reindexer)
    ranking = Ranking(terms=numbered(), rerankers=rerankers)
    retrieve = Retrieve(index=index, catalogue=catalogue, embedder=embedder, ranking=ranking)
    warming = WarmUp(catalogue=catalogue, ranking=ranking, trouble=_told("warm-up"))
    service = Service(
        name="retrieval",
        bus=bus,
        rpc=[rpc.servicer(retrieve, catalogue.corpora, reindexing)],
        starting=[database.migrate, *starting],
        background=[relay.run, remover.run, reindexer.run, readiness.watch, warming.run],
        ready=[lambda: readiness.problem],
        draining=[relay.drain],
        closing=[database.close, catalogue.close, rerankers.close, *closing],
    )
    return Wired(service=service, indexing=indexing)


def _index(settings: Settings) -> tuple[VectorIndex, list[Closing], list[Closing]]:
    # The client libraries cost seconds and 150 MB: only the chosen one is loaded.
    if settings.index == "weaviate":
        from anabranch_retrieval.adapters.weaviate import Address, Timeouts, Weaviate, WeaviateIndex  # noqa: PLC0415  as above

        key = settings.weaviate_api_key
        weaviate = Weaviate(
            Address(
                http=settings.weaviate_http,
                grpc=settings.weaviate_grpc,
                api_key=key.get_secret_value() if key is not None else None,
            ),
            Timeouts(
                connect=settings.weaviate_connect_timeout,
                search=settings.weaviate_search_timeout,
                write=settings.weaviate_write_timeout,
            ),
        )
        return WeaviateIndex(weaviate, analyse=english(), prefix=settings.weaviate_prefix), [], [weaviate.close]
    from anabranch_retrieval.adapters.lance import LanceIndex  # noqa: PLC0415  as above

    lance = LanceIndex(settings.lancedb_folder, analyse=english())
    return lance, [lance.connect], [lance.close]


def _rerankers(settings: Settings) -> ArtifactRerankers:
    store = ArtifactStore(settings.artifact_store, public_key=settings.public_key)

    def fetched(version: str) -> Reranker:
        artifact = store.fetch(version, into=settings.reranker_folder, max_bytes=_MAX_RERANKER)
        return load(version, artifact.folder)

    return ArtifactRerankers(fetched, patience=settings.reranker_timeout, again_after=settings.reranker_retry)


def _told(work: str) -> Callable[[Fault], None]:
    return lambda fault: log.warning(names.Log.WORK_DELAYED, work=work, problem=str(fault))
