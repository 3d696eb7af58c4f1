from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from anabranch import topics
from anabranch.embedding.v1.events_pb2 import ChunksEmbedded
from anabranch.ingestion.v1 import events_pb2 as pb
from anabranch.ingestion.v1 import ingestion_service_pb2 as api
from anabranch.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from anabranch_bus import Event
from anabranch_bus.dead_letters import Cause, Death, bury
from anabranch_bus.records import Raw
from anabranch_faults import Transient
from anabranch_ingestion.testing import Ingestion, InPlaceReader, changed, event, state_of

if TYPE_CHECKING:
    # Exists for type checkers only.
    from anabranch.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceAsyncStub

Serve = Callable[..., Awaitable[str]]
UPSTREAM = topics.UPSTREAM_DOCUMENT_CHANGED


async def answered(ingestion: Ingestion, *events: Any) -> list[tuple[str, str]]:
    await ingestion.put(*events)
    return await ingestion.answers(len(events))


# -- the ordinary life of a document


async def test_a_new_document_is_accepted_and_sent_on_and_queryable_when_the_index_says_so(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        await ingestion.put(
            event(
                changed(text="Rivers flow. Arms return.", title="Rivers", metadata={"lang": "en"}, acl=["staff"]), "e1"
            )
        )
        assert await ingestion.answers(1) == [("e1", "ACCEPTED")]
        (sent,) = ingestion.chunked()
        assert (sent.document.version, sent.parts, sent.chunk_count, sent.title) == (1, 1, 1, "Rivers")
        assert (dict(sent.metadata), list(sent.acl), sent.caused_by) == ({"lang": "en"}, ["staff"], "e1")
        (chunk,) = sent.chunks
        assert chunk.text == "Rivers flow. Arms return."
        assert [chunk.text[s.start : s.end] for s in chunk.sentences] == ["Rivers flow.", "Arms return."]
        assert sent.provenance.parser == "plain-1"
        await ingestion.indexed(sent, generation=7)
        assert await ingestion.answers(2) == [("e1", "ACCEPTED"), ("e1", "QUERYABLE")]
        status = ingestion.statuses()[-1]
        assert (status.index_generation, status.chunk_count, status.document.version) == (7, 1, 1)
        (published,) = ingestion.bus.published(topics.INGESTION_DOCUMENT_CHUNKED)
        assert published.key == "acme/wiki/d"


async def test_the_same_content_again_is_unchanged_and_costs_nothing_downstream(tmp_path: Path) -> None:
    reader = InPlaceReader()
    async with Ingestion.running(tmp_path, reader=reader) as ingestion:
        await ingestion.put(event(changed(text="Same.", version=1), "e1"))
        await ingestion.put(event(changed(text="Same.", version=2), "e2"), event(changed(text="Same."), "e3"))
        assert await ingestion.answers(3) == [("e1", "ACCEPTED"), ("e2", "UNCHANGED"), ("e3", "UNCHANGED")]
        assert len(ingestion.chunked()) == 1
        assert reader.reads == 1


async def test_bytes_that_differ_and_say_the_same_are_unchanged(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        one = event(changed(text="# A\n\nSame **words** here.", filename="a.md"), "e1")
        two = event(changed(text="# A\n\nSame __words__ here.", filename="a.md"), "e2")
        assert await answered(ingestion, one, two) == [("e1", "ACCEPTED"), ("e2", "UNCHANGED")]


@pytest.mark.parametrize("fields", [{"title": "T"}, {"metadata": {"k": "v"}}, {"acl": ["a"]}, {"source_uri": "u"}])
async def test_what_readers_see_beside_the_text_is_content_too(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        one, two = event(changed(text="Same."), "e1"), event(changed(text="Same.", **fields), "e2")
        assert await answered(ingestion, one, two) == [("e1", "ACCEPTED"), ("e2", "ACCEPTED")]


async def test_an_older_version_that_arrives_late_is_superseded(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        new, old = event(changed(text="New.", version=5), "e5"), event(changed(text="Old.", version=4), "e4")
        assert await answered(ingestion, new, old) == [("e5", "ACCEPTED"), ("e4", "SUPERSEDED")]
        assert [one.document.version for one in ingestion.chunked()] == [5]


async def test_versions_without_numbers_grow_by_one(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        await answered(ingestion, *(event(changed(text=f"Text {n}."), f"e{n}") for n in range(3)))
        assert [one.document.version for one in ingestion.chunked()] == [1, 2, 3]


async def test_a_duplicate_event_has_no_second_effect_and_no_second_answer(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        again = event(changed(text="Once."), "e1")
        await ingestion.put(again, again)
        await ingestion.put(again, event(changed("other", text="Else."), "e2"))
        assert await ingestion.answers(2) == [("e1", "ACCEPTED"), ("e2", "ACCEPTED")]
        assert len(ingestion.chunked()) == 2


async def test_a_deletion_goes_on_and_is_answered_when_it_is_gone_and_older_versions_stay_away(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        await ingestion.put(event(changed(text="Here.", version=1), "e1"))
        await ingestion.put(event(changed(deleted=True, version=3), "e3"))
        await ingestion.answers(2)
        gone = ingestion.chunked()[-1]
        assert (gone.deleted, gone.parts, gone.chunk_count, gone.document.version) == (True, 1, 0, 3)
        await ingestion.indexed(gone)
        await ingestion.put(
            event(changed(text="Late.", version=2), "e2"), event(changed(deleted=True, version=4), "e4")
        )
        answers = await ingestion.answers(6)
        assert answers[2:] == [("e1", "SUPERSEDED"), ("e3", "DELETED"), ("e2", "SUPERSEDED"), ("e4", "DELETED")]


async def test_a_document_can_come_back_after_its_deletion(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        one = event(changed(text="Here."), "e1")
        two, three = event(changed(deleted=True), "e2"), event(changed(text="Here."), "e3")
        assert [state for _, state in await answered(ingestion, one, two, three)] == ["ACCEPTED"] * 3
        assert [one.document.version for one in ingestion.chunked()] == [1, 2, 3]


async def test_a_body_that_is_refused_leaves_the_version_before_live(tmp_path: Path, grpc_server: Serve) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        await ingestion.put(event(changed(text="Good."), "e1"))
        await ingestion.answers(1)
        await ingestion.indexed(ingestion.chunked()[0])
        await ingestion.put(event(changed(content=b"\x89PNG\r\n\x1a\n0000"), "e2"))
        assert (await ingestion.answers(3))[-1] == ("e2", "REJECTED UNSUPPORTED_FORMAT")
        await ingestion.put(event(changed(text="Good."), "e3"))
        assert (await ingestion.answers(4))[-1] == ("e3", "UNCHANGED")
        assert len(ingestion.chunked()) == 1


async def test_a_large_document_goes_in_several_parts_under_one_key(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {n} says something. " * 60 for n in range(100))
    async with Ingestion.running(tmp_path) as ingestion:
        await answered(ingestion, event(changed(text=text), "e1"))
        parts = ingestion.chunked()
        assert len(parts) > 1
        assert [part.part for part in parts] == list(range(len(parts)))
        assert {part.parts for part in parts} == {len(parts)}
        assert {part.chunk_count for part in parts} == {sum(len(part.chunks) for part in parts)}
        assert all(len(part.chunks) <= 64 and part.ByteSize() <= 1 << 20 for part in parts)
        assert {one.key for one in ingestion.bus.published(topics.INGESTION_DOCUMENT_CHUNKED)} == {"acme/wiki/d"}
        ordinals = [chunk.ordinal for part in parts for chunk in part.chunks]
        assert ordinals == list(range(len(ordinals)))


async def test_what_a_document_causes_stays_in_its_trace(tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Ingestion.running(tmp_path) as ingestion:
        message = changed(text="Traced.")
        one = Event(topic=UPSTREAM, message=message, key="acme/wiki/d", headers={"traceparent": trace})
        await answered(ingestion, one)
        (chunked,) = ingestion.bus.published(topics.INGESTION_DOCUMENT_CHUNKED)
        (status,) = ingestion.bus.published(topics.INGESTION_DOCUMENT_STATUS)
        for published in (chunked.headers, status.headers):
            assert published["traceparent"].split("-")[1] == trace.split("-")[1]


# -- bad input: each is answered, and the service goes on


@pytest.mark.parametrize(
    ("bad", "answer", "field"),
    [
        (event(changed(), "bad"), "REJECTED INVALID_FIELD", "body"),
        (event(changed(text=" \n "), "bad"), "REJECTED NO_TEXT", ""),
        (event(changed(content=b"\x00" * 100), "bad"), "REJECTED NO_TEXT", ""),
        (event(changed(content=bytes(range(256)) * 4), "bad"), "REJECTED UNSUPPORTED_FORMAT", ""),
        (
            event(changed(content=b"\x89PNG\r\n\x1a\n....", content_type="text/plain"), "bad"),
            "REJECTED UNSUPPORTED_FORMAT",
            "",
        ),
        (event(changed(text="x", tenant="nobody"), "bad"), "REJECTED UNKNOWN_TENANT", "tenant"),
        (event(changed(text="x", tenant="a b"), "bad"), "REJECTED INVALID_FIELD", "tenant"),
        (event(changed(text="x", corpus=""), "bad"), "REJECTED INVALID_FIELD", "corpus"),
        (event(changed("", text="x"), "bad"), "REJECTED INVALID_FIELD", "document_id"),
        (event(changed("a\nb", text="x"), "bad"), "REJECTED INVALID_FIELD", "document_id"),
        (event(changed(text="x"), "bad", key="acme/wiki/other"), "REJECTED INVALID_FIELD", "key"),
        (event(changed(text="x"), "bad", key=""), "REJECTED INVALID_FIELD", "key"),
        (event(changed(text="x", metadata={"Bad Key": "v"}), "bad"), "REJECTED INVALID_FIELD", "metadata"),
        (event(changed(text="x", deleted=True), "bad"), "REJECTED INVALID_FIELD", "body"),
        (event(changed(text="x" * (1 << 20) + "y"), "bad"), "REJECTED TOO_LARGE", ""),
        (event(changed(uri="file:///etc/passwd"), "bad"), "REJECTED URI_REFUSED", "uri"),
        (event(changed(uri="http://127.0.0.1/x"), "bad"), "REJECTED URI_REFUSED", "uri"),
    ],
)
async def test_bad_input_is_answered_with_a_reason_and_its_neighbours_go_on(
    tmp_path: Path, bad: Any, answer: str, field: str
) -> None:
    async with Ingestion.running(tmp_path, tenants=("acme",), body_mib=1) as ingestion:
        await ingestion.put(
            event(changed("before", text="One."), "e1"), bad, event(changed("after", text="Two."), "e2")
        )
        answers = dict(await ingestion.answers(3))
        assert answers == {"e1": "ACCEPTED", "bad": answer, "e2": "ACCEPTED"}
        (rejected,) = [one for one in ingestion.statuses() if one.caused_by == "bad"]
        assert rejected.rejection.field == field
        assert rejected.rejection.detail
        assert not ingestion.bus.dead(UPSTREAM, "ingestion")


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        (b"\xff\xff\xff\xff\xff", b"application/protobuf"),
        (b'{"tenant": "acme", ', b"application/json"),
        (b'{"tenant": 5}', b"application/json"),
        (b"\x2a\x02\xff\xfe", b"application/protobuf"),  # field 5, text, is not UTF-8
    ],
    ids=["protobuf", "json", "wrong type", "not utf-8"],
)
async def test_a_record_that_is_no_message_is_answered_when_its_key_names_a_document(
    tmp_path: Path, value: bytes, content_type: bytes
) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        headers = [("content-type", content_type), ("ce_id", b"bad")]
        await ingestion.bus.deliver_bytes(UPSTREAM, value, key=b"acme/wiki/d", headers=headers)
        await ingestion.put(event(changed(text="Good."), "e1"))
        assert await ingestion.answers(2) == [("bad", "REJECTED MALFORMED"), ("e1", "ACCEPTED")]
        (letter,) = ingestion.bus.dead(UPSTREAM, "ingestion")
        assert (letter.cause, letter.value) == (Cause.UNREADABLE, value)


async def test_a_record_that_is_no_message_and_has_no_key_goes_to_the_dead_letters(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        await ingestion.bus.deliver_bytes(UPSTREAM, b"\xff\xff\xff\xff")
        await ingestion.put(event(changed(text="Good."), "e1"))
        assert await ingestion.answers(1) == [("e1", "ACCEPTED")]
        assert len(ingestion.bus.dead(UPSTREAM, "ingestion")) == 1


async def test_protobuf_json_is_taken_as_well(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        value = json.dumps({"tenant": "acme", "corpus": "wiki", "document_id": "d", "text": "From kcat."}).encode()
        headers = [("content-type", b"application/json"), ("ce_id", b"e1")]
        await ingestion.bus.deliver_bytes(UPSTREAM, value, key=b"acme/wiki/d", headers=headers)
        assert await ingestion.answers(1) == [("e1", "ACCEPTED")]


# -- bodies by reference


async def test_a_body_is_read_from_an_allowed_root_and_only_from_there(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "a b.md").write_text("# Title\n\nFrom a file.")
    (outside / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(outside / "secret.txt")
    uris = {
        "good": f"file://{root}/a%20b.md",
        "up": f"file://{root}/../outside/secret.txt",
        "encoded": f"file://{root}/%2e%2e/outside/secret.txt",
        "link": f"file://{root}/link.txt",
        "sibling": f"file://{root}-else/x",
        "missing": f"file://{root}/none",
        "folder": f"file://{root}/",
    }
    async with Ingestion.running(tmp_path / "data", uri_roots=(f"file://{root}",)) as ingestion:
        await ingestion.put(*(event(changed(name, uri=uri), name) for name, uri in uris.items()))
        answers = dict(await ingestion.answers(len(uris)))
        assert answers.pop("good") == "ACCEPTED"
        assert set(answers.values()) == {"REJECTED URI_REFUSED"}
        (sent,) = ingestion.chunked()
        assert sent.title == ""
        assert sent.chunks[0].text == "Title\n\nFrom a file."


# -- what takes long, and what fails for a while


async def test_a_document_that_takes_long_does_not_hold_up_its_neighbours_and_is_answered_in_the_end(
    tmp_path: Path,
) -> None:
    reader = InPlaceReader()
    reader.stuck["Slow."] = asyncio.Event()
    slow = timedelta(milliseconds=50)
    async with Ingestion.running(tmp_path, reader=reader, slow_after=slow) as ingestion:
        stuck = event(changed("slow", content=b"Slow."), "slow")
        await ingestion.put(stuck, event(changed("quick", content=b"Quick."), "quick"))
        assert await ingestion.answers(1) == [("quick", "ACCEPTED")]
        await ingestion.put(stuck, event(changed("other", text="Other."), "other"))
        assert await ingestion.answers(2) == [("quick", "ACCEPTED"), ("other", "ACCEPTED")]
        reader.stuck["Slow."].set()
        assert (await ingestion.answers(3))[-1] == ("slow", "ACCEPTED")


async def test_a_change_that_overtakes_a_slow_one_of_its_document_wins(tmp_path: Path) -> None:
    reader = InPlaceReader()
    reader.stuck["Slow."] = asyncio.Event()
    slow = timedelta(milliseconds=50)
    async with Ingestion.running(tmp_path, reader=reader, slow_after=slow) as ingestion:
        await ingestion.put(event(changed(content=b"Slow."), "slow"))
        await ingestion.put(event(changed(text="Newer."), "newer"))
        assert await ingestion.answers(1) == [("newer", "ACCEPTED")]
        reader.stuck["Slow."].set()
        assert await ingestion.answers(2) == [("newer", "ACCEPTED"), ("slow", "SUPERSEDED")]
        assert [one.document.version for one in ingestion.chunked()] == [2]


async def test_a_change_that_cannot_be_read_now_is_tried_again_and_keeps_its_place(tmp_path: Path) -> None:
    reader = InPlaceReader()
    reader.faults["First."] = Transient("not now")
    async with Ingestion.running(tmp_path, reader=reader) as ingestion:
        original = reader.read

        async def recovering(*args: Any, **kwargs: Any) -> Any:
            try:
                return await original(*args, **kwargs)
            finally:
                reader.faults.clear()

        reader.read = recovering  # type: ignore[method-assign]  # a reader that works the second time
        await ingestion.put(event(changed(text="First."), "e1"), event(changed(text="Second."), "e2"))
        assert await ingestion.answers(2) == [("e1", "ACCEPTED"), ("e2", "ACCEPTED")]
        assert [one.chunks[0].text for one in ingestion.chunked()] == ["First.", "Second."]


async def test_nothing_is_lost_while_the_broker_is_away(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        ingestion.bus.unreachable = True
        await ingestion.put(event(changed(text="Kept."), "e1"))
        assert ingestion.statuses() == []
        ingestion.bus.unreachable = False
        assert await ingestion.answers(1) == [("e1", "ACCEPTED")]


# -- dead letters


def buried(topic: Any, group: str, message: Any, *, event_id: str, cause: Cause = Cause.INVALID) -> Raw:
    one = Event(topic=topic, message=message, key="acme/wiki/d", event_id=event_id).encode()
    now = Event(topic=topic, message=message, key="").time
    raw = Raw(topic=topic.name, partition=0, offset=0, timestamp=now, key=one.key, value=one.value, headers=one.headers)
    death = Death(
        cause=cause, error="Invalid", reason="no good", attempts=1, first_seen=now, group=group, code_version="1"
    )
    return Raw(
        topic=topic.dead_letters(group),
        partition=0,
        offset=0,
        timestamp=now,
        key=one.key,
        value=one.value,
        headers=(*one.headers, *bury(raw, death, died_at=now)),
    )


async def test_a_document_that_a_later_stage_gave_up_on_is_rejected_once_and_queryable_after_a_replay(
    tmp_path: Path,
) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        await ingestion.put(event(changed(text="Text."), "e1"))
        await ingestion.answers(1)
        (sent,) = ingestion.chunked()
        embedded = ChunksEmbedded(document=sent.document, caused_by=sent.caused_by)
        letters = [
            buried(topics.INGESTION_DOCUMENT_CHUNKED, "embedding", sent, event_id="x1"),
            buried(topics.EMBEDDING_CHUNKS_EMBEDDED, "retrieval", embedded, event_id="x2"),
        ]
        await ingestion.bus.deliver(topics.INGESTION_DOCUMENT_CHUNKED, letters)
        assert await ingestion.answers(2) == [("e1", "ACCEPTED"), ("e1", "REJECTED DEAD_LETTERED")]
        assert "replay" in ingestion.statuses()[-1].rejection.detail
        # The same content again is no longer unchanged: it is sent once more.
        await ingestion.put(event(changed(text="Text."), "e2"))
        assert (await ingestion.answers(3))[-1] == ("e2", "ACCEPTED")
        await ingestion.indexed(ingestion.chunked()[0])
        assert (await ingestion.answers(4))[-1] == ("e1", "QUERYABLE")
        assert len(ingestion.statuses()) == 4


async def test_a_change_that_ingestion_itself_gave_up_on_is_answered(tmp_path: Path) -> None:
    reader = InPlaceReader()

    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    reader.read = broken  # type: ignore[method-assign]  # a bug
    async with Ingestion.running(tmp_path, reader=reader) as ingestion:
        await ingestion.put(event(changed(text="Text."), "e1"))
        assert await ingestion.answers(1) == [("e1", "REJECTED DEAD_LETTERED")]


async def test_an_index_event_for_a_document_nobody_knows_is_passed_over(tmp_path: Path) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        ref = pb.DocumentRef(tenant="acme", corpus="wiki", document_id="ghost", version=3)
        await ingestion.indexed(pb.DocumentChunked(document=ref))
        await ingestion.put(event(changed("ghost", text="Now real."), "e1"))
        assert await ingestion.answers(1) == [("e1", "ACCEPTED")]


# -- calls


async def connected(ingestion: Ingestion, grpc_server: Serve) -> IngestionServiceAsyncStub:
    return IngestionServiceStub(grpc.aio.insecure_channel(await grpc_server(*ingestion.service.rpc)))


async def test_get_document_tells_where_a_document_stands_and_where_it_came_from(
    tmp_path: Path, grpc_server: Serve
) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        stub = await connected(ingestion, grpc_server)
        change = changed(text="# T\n\nText.", filename="a.md", source_uri="https://x", metadata={"k": "v"}, title="Own")
        await answered(ingestion, event(change, "e1"))
        request = api.GetDocumentRequest(tenant="acme", corpus="wiki", document_id="d")
        found = await stub.GetDocument(request, timeout=5)
        assert state_of(found.status) == "ACCEPTED"
        assert (found.title, dict(found.metadata)) == ("Own", {"k": "v"})
        assert (found.provenance.source_uri, found.provenance.parser) == ("https://x", "markdown-1")
        assert found.provenance.content_type == "text/markdown"
        assert len(found.provenance.content_sha256) == len(found.provenance.fingerprint) == 64


@pytest.mark.parametrize(
    ("document_id", "code"), [("ghost", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)]
)
async def test_get_document_refuses_what_it_cannot_answer(
    tmp_path: Path, grpc_server: Serve, document_id: str, code: grpc.StatusCode
) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        stub = await connected(ingestion, grpc_server)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetDocument(
                api.GetDocumentRequest(tenant="acme", corpus="wiki", document_id=document_id), timeout=5
            )
        assert error.value.code() is code


async def test_watch_document_sends_the_present_state_and_then_every_change(tmp_path: Path, grpc_server: Serve) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        stub = await connected(ingestion, grpc_server)
        await answered(ingestion, event(changed(text="One."), "e1"))
        watch = stub.WatchDocument(api.WatchDocumentRequest(tenant="acme", corpus="wiki", document_id="d"), timeout=20)
        states = (state_of(response.status) async for response in watch)
        seen = [await anext(states)]
        await ingestion.indexed(ingestion.chunked()[0])
        await ingestion.put(event(changed(text="One."), "e2"), event(changed("else", text="Other."), "e3"))
        await ingestion.put(event(changed(text=" "), "e4"))
        seen += [await anext(states) for _ in range(3)]
        watch.cancel()
        assert seen == ["ACCEPTED", "QUERYABLE", "UNCHANGED", "REJECTED NO_TEXT"]


async def test_watch_document_waits_for_a_document_that_does_not_exist_yet(tmp_path: Path, grpc_server: Serve) -> None:
    async with Ingestion.running(tmp_path) as ingestion:
        stub = await connected(ingestion, grpc_server)
        watch = stub.WatchDocument(api.WatchDocumentRequest(tenant="acme", corpus="wiki", document_id="d"), timeout=20)
        states = (state_of(response.status) async for response in watch)
        await ingestion.put(event(changed(text="One."), "e1"))
        assert await anext(states) == "ACCEPTED"
        watch.cancel()
