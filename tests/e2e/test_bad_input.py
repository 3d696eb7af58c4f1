"""What may come from outside and must not hurt: a clear error or a REJECTED status each, and the service goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from google.protobuf import json_format
from google.rpc.error_details_pb2 import BadRequest  # type: ignore[import-untyped]  # the package ships no types
from grpc_status import rpc_status

from anabranch.gateway.v1 import gateway_service_pb2 as gateway
from anabranch.gateway.v1 import gateway_service_pb2_grpc as gateway_grpc
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_testkit.platform import RunningPlatform

pytestmark = [pytest.mark.connected, pytest.mark.slow]

UPSTREAM, STATUS = "upstream.document.changed.v1", "ingestion.document.status.v1"
QUERYABLE = ingestion.DOCUMENT_STATE_QUERYABLE
REJECTED = ingestion.DOCUMENT_STATE_REJECTED
SUPERSEDED = ingestion.DOCUMENT_STATE_SUPERSEDED
UNCHANGED = ingestion.DOCUMENT_STATE_UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A producer that is not ours, and what it reads of the status topic."""

    platform: RunningPlatform
    producer: AIOKafkaProducer
    consumer: AIOKafkaConsumer

    async def send(
        self, value: bytes, *, key: str, event_id: str | None = None, content_type: str = "application/protobuf"
    ) -> str:
        event_id = event_id or f"outside-{uuid4()}"
        headers = [("ce_id", event_id.encode()), ("content-type", content_type.encode())]
        await self.producer.send_and_wait(UPSTREAM, value, key=key.encode(), headers=headers)
        return event_id

    async def fate(self, event_id: str, *, seconds: float = 30) -> ingestion.DocumentStatusChanged:
        """The first status after ACCEPTED that answers the event."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for records in (await self.consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    status = ingestion.DocumentStatusChanged.FromString(record.value)
                    if status.caused_by == event_id and status.state != ingestion.DOCUMENT_STATE_ACCEPTED:
                        return status
        pytest.fail(f"no status for {event_id} within {seconds} s")

    async def statuses(self, event_id: str, *, seconds: float) -> list[int]:
        """All states that come for the event within the time."""
        states: list[int] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for records in (await self.consumer.getmany(timeout_ms=200)).values():
                states += [
                    status.state
                    for status in (ingestion.DocumentStatusChanged.FromString(record.value) for record in records)
                    if status.caused_by == event_id
                ]
        return states


@asynccontextmanager
async def outside(platform: RunningPlatform) -> AsyncIterator[Outside]:
    producer = AIOKafkaProducer(bootstrap_servers=platform.kafka, acks="all", max_request_size=24 * 1024 * 1024)
    consumer = AIOKafkaConsumer(STATUS, bootstrap_servers=platform.kafka, auto_offset_reset="latest")
    await producer.start()
    await consumer.start()
    for partition in consumer.assignment():
        await consumer.position(partition)  # from here on; resolved before anything is produced
    try:
        yield Outside(platform=platform, producer=producer, consumer=consumer)
    finally:
        await asyncio.gather(producer.stop(), consumer.stop())


def document(corpus: str, name: str, **fields: object) -> DocumentChanged:
    return DocumentChanged(tenant="default", corpus=corpus, document_id=name, **fields)  # type: ignore[arg-type]  # fields of the message, by name


REFUSED: dict[str, tuple[Callable[[str], bytes], str, str, str]] = {
    # what: (value from the corpus, content type, expected reason, a word of the sentence)
    "malformed protobuf": (lambda _: b"\xff\xff\xff not protobuf", "application/protobuf", "MALFORMED", ""),
    "malformed JSON": (lambda _: b'{"tenant": "default", ', "application/json", "MALFORMED", ""),
    "JSON with an unknown field": (lambda _: b'{"tenants": "default"}', "application/json", "MALFORMED", "tenants"),
    "a key that names another document": (
        lambda corpus: document(corpus, "other", text="Some text.").SerializeToString(),
        "application/protobuf",
        "INVALID_FIELD",
        "key",
    ),
    "no text": (
        lambda corpus: document(corpus, "doc", text=" \n\t ").SerializeToString(),
        "application/protobuf",
        "NO_TEXT",
        "",
    ),
    "neither body nor deletion": (
        lambda corpus: document(corpus, "doc").SerializeToString(),
        "application/protobuf",
        "INVALID_FIELD",
        "body",
    ),
    "too large": (
        lambda corpus: document(corpus, "doc", content=b"word " * (21 * 1024 * 1024 // 5)).SerializeToString(),
        "application/protobuf",
        "TOO_LARGE",
        "20",
    ),
    "a program that calls itself a PDF": (
        lambda corpus: document(
            corpus, "doc", content=b"\x7fELF\x02\x01\x01" + bytes(2000), content_type="application/pdf"
        ).SerializeToString(),
        "application/protobuf",
        "UNSUPPORTED_FORMAT",
        "",
    ),
    "path traversal": (
        lambda corpus: document(corpus, "doc", uri="file:///srv/documents/../../etc/passwd").SerializeToString(),
        "application/protobuf",
        "URI_REFUSED",
        "uri",
    ),
    "a scheme that is not allowed": (
        lambda corpus: document(corpus, "doc", uri="http://127.0.0.1/secret").SerializeToString(),
        "application/protobuf",
        "URI_REFUSED",
        "uri",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_bad_record_is_rejected_with_a_reason_and_its_neighbour_goes_on(
    embedded: RunningPlatform, unique: Callable[[str], str], what: str
) -> None:
    value, content_type, reason, word = REFUSED[what]
    corpus = unique("bad")
    async with outside(embedded) as world:
        bad = await world.send(value(corpus), key=f"default/{corpus}/doc", content_type=content_type)
        good = await world.send(
            document(corpus, "good", text="The neighbour is fine.").SerializeToString(), key=f"default/{corpus}/good"
        )
        refused = await world.fate(bad)
        assert refused.state == REJECTED
        assert ingestion.RejectionReason.Name(refused.rejection.reason) == f"REJECTION_REASON_{reason}"
        assert refused.rejection.detail
        assert word in refused.rejection.detail + refused.rejection.field
        # Under its key it is published, and about what its body claims to be; nothing of either document is touched.
        claimed = "other" if what == "a key that names another document" else "doc"
        assert (refused.document.corpus, refused.document.document_id) == (corpus, claimed)
    async with outside(embedded) as world:
        again = await world.send(
            document(corpus, "good", text="The neighbour is fine.").SerializeToString(), key=f"default/{corpus}/good"
        )
        assert (await world.fate(again)).state == UNCHANGED, good


async def test_an_unknown_tenant_is_rejected(embedded: RunningPlatform, unique: Callable[[str], str]) -> None:
    corpus = unique("bad")
    message = DocumentChanged(tenant="nobody", corpus=corpus, document_id="doc", text="Text.")
    async with outside(embedded) as world:
        refused = await world.fate(await world.send(message.SerializeToString(), key=f"nobody/{corpus}/doc"))
    assert refused.state == REJECTED
    assert refused.rejection.reason == ingestion.REJECTION_REASON_UNKNOWN_TENANT


async def test_text_that_is_not_utf_8_is_read_or_rejected_but_never_lost(
    embedded: RunningPlatform, unique: Callable[[str], str]
) -> None:
    corpus = unique("bad")
    latin = "Der Bär schläft im Süden. ".encode("latin-1") * 20
    async with outside(embedded) as world:
        legacy = await world.send(
            document(corpus, "latin", content=latin, filename="a.txt").SerializeToString(),
            key=f"default/{corpus}/latin",
        )
        assert (await world.fate(legacy)).state == QUERYABLE
        raw = (
            document(corpus, "wire", text="placeholder")
            .SerializeToString()
            .replace(b"placeholder", b"\xff\xfe\xfd-utf8-no")
        )
        broken = await world.send(raw, key=f"default/{corpus}/wire")
        refused = await world.fate(broken)
        assert refused.state == REJECTED
        assert refused.rejection.reason == ingestion.REJECTION_REASON_MALFORMED


async def test_the_same_event_twice_has_one_effect(embedded: RunningPlatform, unique: Callable[[str], str]) -> None:
    corpus = unique("bad")
    value = document(corpus, "doc", text="Told twice, heard once.").SerializeToString()
    async with outside(embedded) as world:
        event_id = await world.send(value, key=f"default/{corpus}/doc")
        await world.send(value, key=f"default/{corpus}/doc", event_id=event_id)
        states = await world.statuses(event_id, seconds=5)
    assert states.count(QUERYABLE) == 1
    assert UNCHANGED not in states


async def test_an_older_version_that_arrives_late_is_superseded(
    embedded: RunningPlatform, unique: Callable[[str], str]
) -> None:
    corpus = unique("bad")
    key = f"default/{corpus}/doc"
    async with outside(embedded) as world:
        newer = document(corpus, "doc", version=9, text="The newer text stands.")
        older = document(corpus, "doc", version=3, text="The older text came late.")
        assert (await world.fate(await world.send(newer.SerializeToString(), key=key))).state == QUERYABLE
        assert (await world.fate(await world.send(older.SerializeToString(), key=key))).state == SUPERSEDED
    hits = embedded.json("search", "text", "--corpus", corpus)["hits"]
    assert [hit["version"] for hit in hits] == [9]


async def test_json_of_the_contract_is_as_good_as_protobuf(
    embedded: RunningPlatform, unique: Callable[[str], str]
) -> None:
    corpus = unique("bad")
    body = json_format.MessageToJson(document(corpus, "doc", text="JSON will do.")).encode()
    async with outside(embedded) as world:
        sent = await world.send(body, key=f"default/{corpus}/doc", content_type="application/json")
        assert (await world.fate(sent)).state == QUERYABLE


def call(platform: RunningPlatform, request: gateway.AskRequest, *, key: str | None) -> grpc.RpcError:
    """The error that asking ends in."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(platform.grpc, options=options) as channel:
        metadata = (("authorization", f"Bearer {key}"),) if key is not None else ()
        with pytest.raises(grpc.RpcError) as raised:
            gateway_grpc.AnswerServiceStub(channel).Ask(request, timeout=20, metadata=metadata)
        return raised.value


def fields(error: grpc.RpcError) -> list[str]:
    """Fields that google.rpc.BadRequest names."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    named: list[str] = []
    for detail in status.details if status else ():
        bad = BadRequest()
        if detail.Unpack(bad):
            named += [violation.field for violation in bad.field_violations]
    return named


@pytest.mark.parametrize("key", [None, "", "not-a-key", "ak_" + "0" * 64])
def test_without_a_valid_key_nobody_gets_in(embedded: RunningPlatform, key: str | None) -> None:
    error = call(embedded, gateway.AskRequest(corpus="x", question="y?"), key=key)
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (gateway.AskRequest(corpus="c", question=""), "question"),
        (gateway.AskRequest(corpus="c", question=" \n "), "question"),
        (gateway.AskRequest(corpus="c", question="x" * 5000), "question"),
        (gateway.AskRequest(corpus="", question="Why?"), "corpus"),
        (gateway.AskRequest(corpus="a b/c", question="Why?"), "corpus"),
    ],
    ids=["empty", "blank", "too long", "no corpus", "corpus with a slash"],
)
def test_a_bad_question_names_the_field_at_fault(
    embedded: RunningPlatform, request_: gateway.AskRequest, field: str
) -> None:
    error = call(embedded, request_, key=embedded.key)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert fields(error) == [field]


def test_a_question_of_ten_mebibytes_is_refused_and_the_next_one_answered(embedded: RunningPlatform) -> None:
    error = call(embedded, gateway.AskRequest(corpus="c", question="x" * (10 * 1024 * 1024)), key=embedded.key)
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert embedded.json("status")["ready"]


def test_an_unknown_corpus_is_not_found(embedded: RunningPlatform, unique: Callable[[str], str]) -> None:
    error = call(embedded, gateway.AskRequest(corpus=unique("nowhere"), question="Why?"), key=embedded.key)
    assert error.code() == grpc.StatusCode.NOT_FOUND
