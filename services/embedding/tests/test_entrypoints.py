from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships no stubs
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_status import rpc_status

from anabranch import topics
from anabranch.embedding.v1.embedding_service_pb2 import EmbedTextsRequest, ListModelsRequest, SentenceSpans
from anabranch.ingestion.v1.events_pb2 import Chunk, DocumentChunked, DocumentRef, Provenance, Span
from anabranch_bus import MemoryBus
from anabranch_embedding.bootstrap import build
from anabranch_embedding.settings import Settings
from anabranch_embedding.testing import FakeEncoder, fake_vector
from anabranch_faults import Overloaded, Unreachable


def chunked(document: str, *texts: str, **more: Any) -> DocumentChunked:
    return DocumentChunked(
        document=DocumentRef(tenant="t", corpus="c", document_id=document, version=1),
        parts=more.pop("parts", 1),
        chunk_count=len(texts),
        chunks=[Chunk(chunk_id=f"{document}-{n}", ordinal=n, text=text) for n, text in enumerate(texts)],
        **more,
    )


def service(encoder: FakeEncoder | None = None) -> MemoryBus:
    bus = MemoryBus()
    build(Settings(), bus=bus, encoders={"fake": encoder or FakeEncoder()})
    return bus


def embedded(bus: MemoryBus) -> list[Any]:
    return [event.message for event in bus.published(topics.EMBEDDING_CHUNKS_EMBEDDED)]


async def test_a_part_comes_out_with_vectors_and_everything_it_came_with() -> None:
    bus = service()
    message = chunked("d/1", "one", "two", title="T", parts=3, part=2, caused_by="e", acl=["x"], metadata={"k": "v"})
    message.provenance.CopyFrom(Provenance(source_uri="file:///a", parser="p"))
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [message])
    (event,) = bus.published(topics.EMBEDDING_CHUNKS_EMBEDDED)
    assert event.key == "t/c/d/1"
    out = event.message
    for field in ("document", "caused_by", "deleted", "part", "parts", "chunk_count", "title", "provenance"):
        assert getattr(out, field) == getattr(message, field)
    assert dict(out.metadata) == {"k": "v"}
    assert list(out.acl) == ["x"]
    assert [one.chunk for one in out.chunks] == list(message.chunks)
    assert out.model.version == FakeEncoder().identity.version
    assert out.model.dimension == 4
    vectors = [np.frombuffer(one.vector, "<f4") for one in out.chunks]
    assert vectors[1] == pytest.approx(fake_vector("T\ntwo", 4))


async def test_title_and_headings_stand_before_the_text_and_sentences_count_from_the_text() -> None:
    encoder = FakeEncoder()
    bus = service(encoder)
    message = chunked("d", "First. Second.", title="Rivers")
    message.chunks[0].title_path.extend(["Europe", "Danube"])
    message.chunks[0].sentences.extend([Span(start=0, end=6), Span(start=7, end=14)])
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [message])
    ((text,), urgent) = encoder.calls[0]
    assert (text.whole, urgent) == ("Rivers\nEurope > Danube\nFirst. Second.", False)
    rows = np.frombuffer(embedded(bus)[0].chunks[0].sentence_vectors, np.int8).reshape(-1, 4)
    assert rows[1] / 127 == pytest.approx(fake_vector("Second.", 4), abs=0.01)


async def test_a_deletion_passes_through() -> None:
    bus = service()
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [chunked("d", deleted=True)])
    (out,) = embedded(bus)
    assert out.deleted
    assert not out.chunks


async def test_a_chunk_that_is_empty_goes_to_the_dead_letters_and_its_neighbours_go_on() -> None:
    bus = service()
    messages = [chunked("a", "text"), chunked("b", "good", " "), chunked("c", "more")]
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, messages)
    assert [out.document.document_id for out in embedded(bus)] == ["a", "c"]
    (letter,) = bus.dead(topics.INGESTION_DOCUMENT_CHUNKED, "embedding")
    assert "chunks[1].text: is blank" in letter.reason


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (chunked("d", "text", parts=1, part=1), "part"),
        (chunked("d", "text", deleted=True), "chunks"),
        (chunked("", "text"), "document.document_id"),
        (chunked("d", "x" * 32_769), "chunks[0].text"),
        (
            DocumentChunked(
                document=DocumentRef(tenant="t", corpus="c", document_id="d", version=1),
                parts=1,
                chunks=[Chunk(text="short", sentences=[Span(start=0, end=9)])],
            ),
            "chunks[0].sentences[0]",
        ),
    ],
)
async def test_a_part_that_breaks_its_contract_is_dead_and_the_field_is_named(
    message: DocumentChunked, field: str
) -> None:
    bus = service()
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [message], key="k")
    (letter,) = bus.dead(topics.INGESTION_DOCUMENT_CHUNKED, "embedding")
    assert letter.reason.startswith(f"{field}: ")
    assert embedded(bus) == []


async def test_bytes_that_are_no_message_do_no_harm() -> None:
    bus = service()
    await bus.deliver_bytes(topics.INGESTION_DOCUMENT_CHUNKED, b"\xff\xff\xff", key=b"k")
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [chunked("a", "text")])
    assert len(embedded(bus)) == 1
    assert len(bus.dead(topics.INGESTION_DOCUMENT_CHUNKED, "embedding")) == 1


@pytest.mark.parametrize("fault", [Overloaded("full"), Unreachable("away")])
async def test_while_the_model_cannot_work_nothing_is_lost_or_given_up(fault: Exception) -> None:
    encoder = FakeEncoder(fault=fault)
    bus = service(encoder)
    with pytest.raises(type(fault)):
        await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [chunked("a", "text")])
    encoder.fault = None
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [])
    assert len(embedded(bus)) == 1
    assert bus.dead(topics.INGESTION_DOCUMENT_CHUNKED, "embedding") == []


async def test_a_redelivered_part_publishes_the_same_event() -> None:
    bus = service()
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [chunked("a", "text")])
    (cause,) = bus.published(topics.INGESTION_DOCUMENT_CHUNKED)
    await bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, [cause])
    first, second = bus.published(topics.EMBEDDING_CHUNKS_EMBEDDED)
    assert first.event_id == second.event_id
    assert first.message == second.message


async def test_vectors_come_over_grpc_in_the_order_of_the_texts(serve: Any) -> None:
    stub = await serve()
    response = await stub.EmbedTexts(EmbedTextsRequest(texts=["a b", "c"]), timeout=5)
    assert [np.frombuffer(row, "<f4").tolist() for row in response.vectors] == [
        fake_vector("a b", 4).tolist(),
        fake_vector("c", 4).tolist(),
    ]
    assert response.token_count == 3
    assert list(response.sentence_vectors) == []
    assert response.model.version == FakeEncoder().identity.version


async def test_sentences_and_prefixes_can_be_asked_for_over_grpc(serve: Any) -> None:
    encoder = FakeEncoder()
    stub = await serve(fake=encoder)
    request = EmbedTextsRequest(
        texts=["One. Two.", "Three."],
        prefixes=["Title", ""],
        sentences=[SentenceSpans(starts=[0, 5], ends=[4, 9]), SentenceSpans()],
    )
    response = await stub.EmbedTexts(request, timeout=5)
    assert [len(row) for row in response.sentence_vectors] == [8, 0]
    assert [text.whole for text in encoder.calls[0][0]] == ["Title\nOne. Two.", "Three."]


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (EmbedTextsRequest(), StatusCode.INVALID_ARGUMENT, "texts"),
        (EmbedTextsRequest(texts=["a"] * 257), StatusCode.INVALID_ARGUMENT, "texts"),
        (EmbedTextsRequest(texts=["a", " "]), StatusCode.INVALID_ARGUMENT, "texts[1]"),
        (EmbedTextsRequest(texts=["a" * 32_769]), StatusCode.INVALID_ARGUMENT, "texts[0]"),
        (EmbedTextsRequest(texts=["a"], version="none"), StatusCode.NOT_FOUND, "version"),
        (EmbedTextsRequest(texts=["a"], prefixes=["b", "c"]), StatusCode.INVALID_ARGUMENT, "prefixes"),
        (EmbedTextsRequest(texts=["a"], sentences=[SentenceSpans()] * 2), StatusCode.INVALID_ARGUMENT, "sentences"),
        (
            EmbedTextsRequest(texts=["a"], sentences=[SentenceSpans(starts=[0])]),
            StatusCode.INVALID_ARGUMENT,
            "sentences[0]",
        ),
        (
            EmbedTextsRequest(texts=["a"], sentences=[SentenceSpans(starts=[0], ends=[2])]),
            StatusCode.INVALID_ARGUMENT,
            "sentences[0][0]",
        ),
    ],
)
async def test_a_wrong_request_is_answered_with_the_field_at_fault(
    serve: Any, request_: EmbedTextsRequest, code: StatusCode, field: str
) -> None:
    stub = await serve()
    with pytest.raises(AioRpcError) as raised:
        await stub.EmbedTexts(request_, timeout=5)
    assert raised.value.code() == code
    assert field in str(raised.value.details())
    if code == StatusCode.INVALID_ARGUMENT:
        call: Any = raised.value  # from_call is typed for calls only; errors of calls have what it needs
        status = rpc_status.from_call(call)
        assert status is not None
        (detail,) = (any_ for any_ in status.details if any_.Is(error_details_pb2.BadRequest.DESCRIPTOR))
        bad = error_details_pb2.BadRequest()
        detail.Unpack(bad)
        assert bad.field_violations[0].field == field


async def test_an_overload_says_when_to_come_again(serve: Any) -> None:
    stub = await serve(fake=FakeEncoder(fault=Overloaded("full")))
    with pytest.raises(AioRpcError) as raised:
        await stub.EmbedTexts(EmbedTextsRequest(texts=["a"]), timeout=5)
    assert raised.value.code() == StatusCode.UNAVAILABLE


async def test_models_are_listed_over_grpc(serve: Any) -> None:
    stub = await serve(int8=FakeEncoder(name="b"), fp32=FakeEncoder(name="a"))
    response = await stub.ListModels(ListModelsRequest(), timeout=5)
    assert [model.name for model in response.models] == ["b", "a"]
