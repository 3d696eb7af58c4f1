"""The real wiring over a bus and an index in memory, and over Kafka and Weaviate."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from anabranch import topics
from anabranch.embedding.v1 import embedding_service_pb2 as embedding_pb
from anabranch.embedding.v1 import embedding_service_pb2_grpc as embedding_stubs
from anabranch.embedding.v1.events_pb2 import ChunksEmbedded, EmbeddedChunk, ModelIdentity
from anabranch.ingestion.v1.events_pb2 import Chunk, DocumentRef, Provenance, Span
from anabranch.registry.v1.events_pb2 import RoutingChanged, Share, Variant
from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as stubs
from anabranch_artifacts import Signer, make_keys
from anabranch_bus import Bus, Event, MemoryBus
from anabranch_faults import Unreachable
from anabranch_retrieval.bootstrap import build
from anabranch_retrieval.domain import FEATURES
from anabranch_retrieval.settings import Settings
from anabranch_retrieval.testing import HashEmbedder, MemoryIndex, model, unit
from anabranch_retrieval.testing.models import put, write_linear
from anabranch_rpc import Servicer, connect
from anabranch_runtime import Process

ONE, TWO = model("hash-one"), model("hash-two")
IDENTITY = ModelIdentity(
    name=ONE.name, digest=ONE.digest, dimension=ONE.dimension, quantisation="none", version="hash-one"
)


def embedded(document: str, version: int, *texts: str, tenant: str = "acme", **more: Any) -> ChunksEmbedded:
    chunks = [
        EmbeddedChunk(
            chunk=Chunk(
                chunk_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{document}/{version}/{number}")),
                ordinal=number,
                text=text,
                span=Span(start=0, end=len(text)),
                sentences=[Span(start=0, end=len(text))],
            ),
            vector=unit(text, ONE).tobytes(),
        )
        for number, text in enumerate(texts)
    ]
    values: dict[str, Any] = {"parts": 1, "chunk_count": len(texts), "model": IDENTITY, "caused_by": "up", **more}
    ref = DocumentRef(tenant=tenant, corpus="docs", document_id=document, version=version)
    return ChunksEmbedded(document=ref, chunks=chunks, **values)


def routing(scope: str, *versions: str) -> Event:
    shares = [
        Share(variant=Variant(retrieval=pb.RetrievalSettings(reranker_version=version)), weight=1)
        for version in ("", *versions)
    ]
    message = RoutingChanged(scope=scope, shares=shares)
    return Event(topic=topics.REGISTRY_ROUTING_CHANGED, message=message, key=scope)


@dataclass
class Running:
    """The service in this event loop."""

    bus: MemoryBus
    index: MemoryIndex
    embedder: HashEmbedder
    process: Process
    data: Path
    stub: stubs.RetrievalServiceAsyncStub

    async def deliver(self, *messages: Any) -> None:
        await self.bus.deliver(topics.EMBEDDING_CHUNKS_EMBEDDED, messages)

    def reranker(self, weights: dict[str, float], *, signed: bool = True) -> str:
        """Stores a linear reranker; gives its version."""
        folder = write_linear(self.data / f"model-{uuid.uuid4().hex}", weights)
        return put(str(self.data / "artifacts"), folder, Signer(self.data / "signing.key") if signed else None)

    async def route(self, version: str) -> None:
        await self.bus.deliver(topics.REGISTRY_ROUTING_CHANGED, [routing("acme/docs", version)])

    async def ask(self, query: str, *, tenant: str = "acme", **more: Any) -> pb.RetrieveResponse:
        settings = more.pop("settings", pb.RetrievalSettings(alpha=0.5, top_k=10))
        request = pb.RetrieveRequest(tenant=tenant, corpus="docs", query=query, settings=settings, **more)
        return await self.stub.Retrieve(request, timeout=10)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    make_keys(tmp_path / "signing.key", tmp_path / "signing.pub")
    settings = Settings(data=tmp_path, reader_grace=timedelta(0), public_key=tmp_path / "signing.pub")
    bus, index, embedder = MemoryBus(), MemoryIndex(), HashEmbedder([ONE, TWO])
    process = Process(settings, name="retrieval")
    await process.start(build(settings, bus=bus, index=index, embedder=embedder))
    async with connect(process.addresses["rpc"]) as channel:
        yield Running(bus, index, embedder, process, tmp_path, stubs.RetrievalServiceStub(channel))
    await process.stop()


async def test_what_arrives_is_found_and_announced_under_its_cause(running: Running, poll_until: Any) -> None:
    message = embedded("d/1", 3, "the river floods", title="Wye", metadata={"k": "v"})
    message.provenance.CopyFrom(Provenance(source_uri="file:///wye.txt"))
    event = Event(topic=topics.EMBEDDING_CHUNKS_EMBEDDED, message=message, key="acme/docs/d/1")
    await running.deliver(event, event)
    await poll_until(lambda: len(running.bus.published(topics.RETRIEVAL_DOCUMENT_INDEXED)) == 1)
    (told,) = running.bus.published(topics.RETRIEVAL_DOCUMENT_INDEXED)
    assert (told.key, told.caused_by) == ("acme/docs/d/1", event.event_id)
    assert told.message.document == message.document
    assert (told.message.caused_by, told.message.index_generation, told.message.chunk_count) == ("up", 1, 1)
    assert told.message.embedding_version == "hash-one"
    answer = await running.ask("river")
    (passage,) = answer.passages
    assert passage.document == message.document
    assert passage.chunk_id == message.chunks[0].chunk.chunk_id
    assert (passage.text, passage.title, passage.source_uri) == ("the river floods", "Wye", "file:///wye.txt")
    assert dict(passage.metadata) == {"k": "v"}
    assert not passage.sentences[0].has_similarity
    assert (answer.index_generation, answer.embedding_version) == (1, "hash-one")


async def test_a_deletion_is_announced_after_the_chunks_are_gone(running: Running, poll_until: Any) -> None:
    await running.deliver(embedded("d", 1, "the river floods"))
    await running.deliver(embedded("d", 2, deleted=True))
    assert (await running.ask("river")).passages == []
    await poll_until(lambda: len(running.bus.published(topics.RETRIEVAL_DOCUMENT_INDEXED)) == 2)
    assert running.bus.published(topics.RETRIEVAL_DOCUMENT_INDEXED)[1].message.deleted
    assert list(running.index.editions.values()) == [{}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"chunk_count": 7}, "chunk_count"),
        ({"parts": 0}, "part"),
        ({"model": ModelIdentity()}, "model.version"),
        ({"tenant": "a/b"}, "tenant"),
    ],
)
async def test_a_record_that_breaks_its_contract_is_dead_with_the_field_and_its_neighbours_go_on(
    running: Running, change: dict[str, Any], field: str
) -> None:
    await running.deliver(
        embedded("a", 1, "river a"), embedded("bad", 1, "river", **change), embedded("b", 1, "river b")
    )
    (dead,) = running.bus.dead(topics.EMBEDDING_CHUNKS_EMBEDDED, "retrieval")
    assert field in str(dead)
    assert sorted(passage.text for passage in (await running.ask("river")).passages) == ["river a", "river b"]


async def test_an_outage_of_the_index_pauses_and_kills_no_record(running: Running) -> None:
    running.index.down = True
    with pytest.raises(Unreachable):
        await running.deliver(embedded("a", 1, "river a"))
    running.index.down = False
    await running.deliver()
    assert len((await running.ask("river")).passages) == 1
    assert running.bus.dead(topics.EMBEDDING_CHUNKS_EMBEDDED, "retrieval") == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"query": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"query": "x" * 5000}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"query": "river", "tenant": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"query": "river", "settings": pb.RetrievalSettings(alpha=2, top_k=1)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"query": "river", "settings": pb.RetrievalSettings(top_k=101)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"query": "river", "tenant": "other"}, grpc.StatusCode.NOT_FOUND),
        ({"query": "river", "settings": pb.RetrievalSettings(embedding_version="hash-two")}, grpc.StatusCode.ABORTED),
    ],
)
async def test_a_bad_question_gets_a_clear_status(running: Running, request_: Any, code: grpc.StatusCode) -> None:
    await running.deliver(embedded("a", 1, "river a"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.ask(**request_)
    assert caught.value.code() is code
    assert (await running.ask("river")).passages


async def test_passages_bring_features_ranks_and_scores_where_asked_for(running: Running) -> None:
    await running.deliver(embedded("a", 1, "river a", "river bank b", "the river bank and all that c"))
    plain = await running.ask("river bank")
    assert [passage.rank for passage in plain.passages] == [1, 2, 3]
    assert not plain.feature_names
    assert not plain.feature_set
    assert not plain.HasField("rerank_time")
    answer = await running.ask("river bank", with_features=True, without_sentences=True)
    assert (answer.feature_set, tuple(answer.feature_names)) == ("rf-1", FEATURES)
    assert [len(passage.features) for passage in answer.passages] == [len(FEATURES)] * 3
    assert not any(passage.sentences for passage in answer.passages)
    assert [passage.chunk_id for passage in answer.passages] == [passage.chunk_id for passage in plain.passages]
    assert answer.HasField("rerank_time")


async def test_a_reranker_that_is_not_routed_is_loaded_when_it_is_asked_for(running: Running) -> None:
    await running.deliver(embedded("a", 1, "river a", "river bank b", "the river bank and all that c"))
    version = running.reranker({"length": 1.0})
    settings = pb.RetrievalSettings(alpha=0.5, top_k=10, reranker_version=version)
    answer = await running.ask("river bank", settings=settings)
    assert answer.reranker_version == version
    assert [passage.text[-1] for passage in answer.passages] == ["c", "b", "a"]
    assert [passage.rank for passage in answer.passages] == [1, 2, 3]
    scores = [passage.rerank_score for passage in answer.passages]
    assert scores == sorted(scores, reverse=True)
    assert not answer.passages[0].features


@pytest.mark.parametrize("what", ["unsigned", "tampered", "unknown", "no version"])
async def test_a_reranker_that_does_not_verify_leaves_the_order_of_the_search(running: Running, what: str) -> None:
    await running.deliver(embedded("a", 1, "river a", "river bank b", "the river bank and all that c"))
    version = {"unknown": "rr-0123456789ab", "no version": "../../secret"}.get(what, "")
    if not version:
        version = running.reranker({"length": 1.0}, signed=what != "unsigned")
    if what == "tampered":
        write_linear(running.data / "artifacts" / version, {"length": -1.0})
    await running.route(version)
    plain = await running.ask("river bank")
    settings = pb.RetrievalSettings(alpha=0.5, top_k=10, reranker_version=version)
    answer = await running.ask("river bank", settings=settings)
    assert answer.reranker_version == ""
    assert answer.passages == plain.passages


async def test_rerankers_are_swapped_under_hundreds_of_queries_and_none_of_them_fails(
    running: Running, poll_until: Any
) -> None:
    texts = [f"river bank {' '.join('abcdefgh'[: number + 1])}" for number in range(8)]
    await running.deliver(embedded("a", 1, *texts))
    versions = [("", 0)]
    answers: list[tuple[str, int, pb.RetrieveResponse]] = []
    done = asyncio.Event()

    async def query() -> None:
        while not done.is_set():
            wanted, sign = versions[-1]
            settings = pb.RetrievalSettings(alpha=0.5, top_k=8, reranker_version=wanted, keep_duplicates=True)
            answer = await running.ask("river bank", settings=settings, with_features=len(answers) % 2 == 0)
            answers.append((wanted, sign, answer))

    asking = [asyncio.create_task(query()) for _ in range(16)]
    for number in range(8):
        sign = 1 if number % 2 else -1
        version = await asyncio.to_thread(running.reranker, {"length": sign * (1.0 + number)})
        versions.append((version, sign))  # queries ask for it while it is still being loaded
        await running.route(version)
        enough = len(answers) + 30
        await poll_until(lambda enough=enough: len(answers) >= enough, deadline=20)
    done.set()
    await asyncio.gather(*asking)  # raises what a query failed with
    assert len(answers) >= 240
    assert {wanted for wanted, *_ in answers} == {version for version, _ in versions}
    for wanted, sign, answer in answers:
        lengths = [len(passage.text) for passage in answer.passages]
        assert (answer.reranker_version, len(lengths)) == (wanted, 8)
        assert sign == 0 or lengths == sorted(lengths, reverse=sign > 0)


async def test_corpora_are_listed_and_reindexed_over_grpc(running: Running, poll_until: Any) -> None:
    await running.deliver(embedded("a", 1, "river a", "river b"), embedded("a", 1, "not yours", tenant="other"))
    (corpus,) = (await running.stub.ListCorpora(pb.ListCorporaRequest(tenant="acme"), timeout=5)).corpora
    assert (corpus.corpus, corpus.document_count, corpus.chunk_count) == ("docs", 1, 2)
    where = {"tenant": "acme", "corpus": "docs"}
    with pytest.raises(grpc.aio.AioRpcError, match="never reindexed"):
        await running.stub.GetReindex(pb.GetReindexRequest(**where), timeout=5)
    await running.stub.StartReindex(pb.StartReindexRequest(**where, to_version="hash-two"), timeout=5)

    async def swapped() -> bool:
        run = (await running.stub.GetReindex(pb.GetReindexRequest(**where), timeout=5)).reindex
        return run.state == pb.REINDEX_STATE_SWAPPED

    await poll_until(swapped)
    answer = await running.ask("river")
    assert (answer.embedding_version, len(answer.passages), answer.index_generation) == ("hash-two", 2, 2)
    rolled = (await running.stub.RollbackReindex(pb.RollbackReindexRequest(**where), timeout=5)).reindex
    assert rolled.state == pb.REINDEX_STATE_ROLLED_BACK
    assert (await running.ask("river")).embedding_version == "hash-one"


class HashService(embedding_stubs.EmbeddingServiceServicer):
    """EmbeddingService over the test embedder."""

    def __init__(self, embedder: HashEmbedder) -> None:
        self._embedder = embedder

    async def EmbedTexts(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        of = await self._embedder.resolve(request.version)
        identity = ModelIdentity(
            name=of.name, digest=of.digest, dimension=of.dimension, quantisation="none", version=of.version
        )
        vectors = [unit(text, of).tobytes() for text in request.texts]
        rows = [b"\x01" * of.dimension * len(spans.starts) for spans in request.sentences]
        return embedding_pb.EmbedTextsResponse(model=identity, vectors=vectors, sentence_vectors=rows)

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        return embedding_pb.ListModelsResponse(models=[IDENTITY])


async def test_the_querys_vector_is_given_to_whom_asks_for_it(running: Running) -> None:
    await running.deliver(embedded("d/1", 1, "the river floods"))
    assert (await running.ask("river")).query_vector == b""
    answer = await running.ask("river", with_query_vector=True)
    vector = np.frombuffer(answer.query_vector, dtype=np.int8).astype(np.float32)
    wanted = (await running.embedder.embed_query("river", answer.embedding_version)).vector
    assert vector.size == wanted.size
    assert float(vector @ wanted) / 127 == pytest.approx(1.0, abs=0.01)
    assert (await running.ask("river", with_query_vector=True)).query_vector == answer.query_vector


async def rerankers_follow_the_routing(stub: Any, bus: Bus, tenant: str, folder: Path) -> None:
    """New rerankers are routed while queries run: none fails, and each asks for the newest and gets it."""
    versions: list[str] = [""]
    applied: list[tuple[str, str]] = []

    async def query() -> None:
        wanted = versions[-1]
        settings = pb.RetrievalSettings(alpha=0.5, top_k=3, reranker_version=wanted)
        request = pb.RetrieveRequest(tenant=tenant, corpus="docs", query="river number7", settings=settings)
        answer = await stub.Retrieve(request, timeout=20)
        assert len(answer.passages) == 3
        applied.append((wanted, answer.reranker_version))

    for number in range(3):
        made = write_linear(folder / f"model-{number}", {"dense": -1.0 - number})
        version = await asyncio.to_thread(put, str(folder / "artifacts"), made, Signer(folder / "signing.key"))
        await asyncio.gather(bus.publish(routing(f"{tenant}/docs", version)), *(query() for _ in range(10)))
        versions.append(version)
        await asyncio.gather(*(query() for _ in range(10)))
    assert len(applied) == 60
    assert all(wanted == got for wanted, got in applied)


@pytest.mark.connected
@pytest.mark.parametrize("index", ["lancedb", "weaviate"])
async def test_on_real_parts_documents_become_queryable_are_replaced_and_deleted(  # noqa: PLR0917  fixtures
    request: pytest.FixtureRequest,
    kafka: str,
    unique: Callable[[str], str],
    grpc_server: Any,
    poll_until: Any,
    tmp_path: Path,
    index: str,
) -> None:
    from anabranch_bus.kafka import BusSettings, KafkaBus  # noqa: PLC0415  only for real brokers

    embedder = HashEmbedder([ONE, TWO])
    name = "anabranch.embedding.v1.EmbeddingService"
    target = await grpc_server(
        Servicer(HashService(embedder), add=embedding_stubs.add_EmbeddingServiceServicer_to_server, name=name)
    )
    more: dict[str, Any] = {"index": index}
    if index == "weaviate":
        where = request.getfixturevalue("weaviate")
        prefix = "E" + uuid.uuid4().hex[:12]
        more |= {"weaviate_http": where.http, "weaviate_grpc": where.grpc, "weaviate_prefix": prefix}
    make_keys(tmp_path / "signing.key", tmp_path / "signing.pub")
    more["public_key"] = tmp_path / "signing.pub"
    settings = Settings(kafka=kafka, data=tmp_path, embedding=target, reader_grace=timedelta(0), **more)
    bus: Bus = KafkaBus(BusSettings(bootstrap=kafka))
    process = Process(settings, name="retrieval")
    await process.start(build(settings, bus=bus))
    await poll_until(lambda: process.unready() == [])
    tenant = unique("t")[:40]

    async def texts(query: str) -> list[str]:
        asked = pb.RetrieveRequest(tenant=tenant, corpus="docs", query=query, settings=pb.RetrievalSettings(alpha=0.5))
        return [passage.text for passage in (await stub.Retrieve(asked, timeout=10)).passages]

    async def publish(*messages: ChunksEmbedded) -> None:
        topic = topics.EMBEDDING_CHUNKS_EMBEDDED
        await bus.publish(
            *(Event(topic=topic, message=m, key=f"{tenant}/docs/{m.document.document_id}") for m in messages)
        )

    async with connect(process.addresses["rpc"]) as channel:
        stub: stubs.RetrievalServiceAsyncStub = stubs.RetrievalServiceStub(channel)
        corpora = pb.ListCorporaRequest(tenant=tenant)

        async def generation() -> int:
            found = (await stub.ListCorpora(corpora, timeout=5)).corpora
            return found[0].index_generation if found else 0

        async def reached(number: int) -> None:
            async def there() -> bool:
                return await generation() == number

            await poll_until(there)

        await publish(*(embedded(f"d{n}", 1, f"river number{n} flows", tenant=tenant) for n in range(100)))
        await reached(100)
        assert (await texts("number42"))[0] == "river number42 flows"
        await publish(embedded("d42", 2, "a canal instead", tenant=tenant))
        await reached(101)
        assert "river number42 flows" not in await texts("number42 canal")
        assert (await texts("canal"))[0] == "a canal instead"
        await publish(embedded("d42", 3, deleted=True, tenant=tenant))
        await reached(102)
        assert "a canal instead" not in await texts("canal")

        await rerankers_follow_the_routing(stub, bus, tenant, tmp_path)
    await process.stop()
