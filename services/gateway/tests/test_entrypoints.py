from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from anabranch import topics
from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.registry.v1 import events_pb2 as registry
from anabranch_client import (
    AsyncAnabranch,
    Delta,
    Denied,
    DocumentState,
    Failed,
    Finished,
    FinishReason,
    Invalid,
    NotFound,
    Overloaded,
    Retrieved,
    Role,
    Started,
    TimedOut,
    TooLarge,
    Turn,
    Unauthenticated,
    Unreachable,
)
from anabranch_faults import Invalid as InvalidFault
from anabranch_faults import Unreachable as UnreachableFault
from anabranch_gateway.adapters.keys import SqlKeys
from anabranch_gateway.application.admin import AdministerKeys
from anabranch_gateway.bootstrap import database_of
from anabranch_gateway.testing import Gateway, passage, route, running
from anabranch_observability import exposition
from anabranch_testkit import poll_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHERE = "Where is the meeting?"


def client_of(gateway: Gateway, **options: Any) -> AsyncAnabranch:
    return AsyncAnabranch(gateway.grpc, **{"key": gateway.key, **options})


async def new_key(gateway: Gateway, tenant: str, *labels: str) -> str:
    database = database_of(gateway.settings)
    try:
        return (await AdministerKeys(SqlKeys(database)).create(tenant, labels=labels)).secret
    finally:
        await database.close()


class TestAsking:
    async def test_a_question_is_answered_with_citations(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            answer = await client.ask(WHERE, corpus="handbook")
        assert answer.text == "In the blue room."
        assert [each.document.document_id for each in answer.citations] == ["a"]
        assert answer.citations[0].source_uri == "https://docs.example/a"
        assert (answer.variant_id, answer.search_query) == ("v-one", WHERE)
        assert answer.finish_reason is FinishReason.STOP
        assert answer.usage.prompt_tokens == 12
        assert answer.timings.embed == timedelta(milliseconds=2)
        assert answer.timings.search == timedelta(milliseconds=3)
        assert timedelta() < answer.timings.first_token <= answer.timings.total
        assert gateway.downstream.generation.condense.begun == 0

    async def test_a_stream_starts_before_anything_downstream_is_asked(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.hold = asyncio.Event()
        async with client_of(gateway) as client, aclosing(client.ask_stream(WHERE, corpus="handbook")) as events:
            first = await anext(events)
            assert isinstance(first, Started)
            assert first.variant_id == "v-one"
            gateway.downstream.retrieval.hold.set()
            assert isinstance(await anext(events), Retrieved)

    async def test_passages_and_first_words_come_before_generation_ends(self, gateway: Gateway) -> None:
        gateway.downstream.generation.hold = asyncio.Event()
        async with client_of(gateway) as client, aclosing(client.ask_stream(WHERE, corpus="handbook")) as events:
            assert isinstance(await anext(events), Started)
            retrieved = await anext(events)
            assert isinstance(retrieved, Retrieved)
            assert [hit.document_id for hit in retrieved.hits] == ["a", "b"]
            assert await anext(events) == Delta(text="In the ")
            gateway.downstream.generation.hold.set()
            rest = [event async for event in events]
        assert rest[:2] == [Delta(text="blue "), Delta(text="room.")]
        assert isinstance(rest[2], Finished)
        assert len(rest) == 3
        assert rest[2].citations[0].chunk_id == "chunk-of-a"

    async def test_the_variants_settings_and_the_callers_filters_go_downstream(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            await client.ask(WHERE, corpus="handbook", filters={"team": "ops"}, acl=["board"], max_tokens=50)
            await client.ask(WHERE, corpus="handbook", max_tokens=5_000)
        asked = gateway.downstream.retrieval.retrieve.requests
        assert asked[0].tenant == "default"
        assert (asked[0].settings.alpha, asked[0].settings.top_k) == (0.5, 5)
        assert (dict(asked[0].filters), list(asked[0].acl)) == ({"team": "ops"}, ["board"])
        written = gateway.downstream.generation.generate.requests
        assert written[0].settings.backend == "extractive"
        assert [each.settings.max_tokens for each in written] == [50, 200], "a caller may only lower it"
        assert [each.document.document_id for each in written[0].passages] == ["a", "b"]
        assert written[0].passages[0].sentences[0].similarity == 0.5

    async def test_no_evidence_is_an_abstention_and_no_error(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.corpora["default", "empty"] = []
        async with client_of(gateway) as client:
            answer = await client.ask(WHERE, corpus="empty")
        assert answer.abstained
        assert answer.finish_reason is FinishReason.ABSTAINED
        assert answer.citations == ()

    async def test_a_person_stays_in_one_variant(self, own: Gateway) -> None:
        await own.bus.deliver(topics.REGISTRY_ROUTING_CHANGED, [route(("v-one", 1), ("v-two", 1), revision=2)])
        async with client_of(own) as client:
            seen = {
                person: {(await client.ask(WHERE, corpus="handbook", user_id=person)).variant_id for _ in range(3)}
                for person in map(str, range(12))
            }
        assert all(len(variants) == 1 for variants in seen.values())
        assert set.union(*seen.values()) == {"v-one", "v-two"}


class TestConversations:
    async def test_history_is_condensed_into_a_question_that_stands_alone(self, gateway: Gateway) -> None:
        history = [Turn(role=Role.USER, text="the offsite"), Turn(role=Role.ASSISTANT, text="In May.")]
        async with client_of(gateway) as client:
            answer = await client.ask("Where is it?", corpus="handbook", history=history)
        assert answer.search_query == "Where is it? (the offsite)"
        assert gateway.downstream.retrieval.retrieve.requests[-1].query == answer.search_query
        assert gateway.downstream.generation.generate.requests[-1].question == answer.search_query
        assert len(gateway.downstream.generation.generate.requests[-1].history) == 2
        assert answer.timings.condense > timedelta()

    async def test_a_session_remembers_what_was_said_before(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            first = await client.ask("the offsite", corpus="handbook", session_id="s", user_id="u")
            second = await client.ask("Where is it?", corpus="handbook", session_id="s", user_id="u")
            other = await client.ask("Where is it?", corpus="handbook", session_id="s", user_id="someone else")
        assert first.search_query == "the offsite"
        assert second.search_query == "Where is it? (the offsite)"
        assert other.search_query == "Where is it?"
        remembered = gateway.downstream.generation.condense.requests[-1].history
        assert [turn.text for turn in remembered] == ["the offsite", "In the blue room."]

    async def test_an_answers_id_tells_when_it_was_made_and_sorts_by_it(self, gateway: Gateway) -> None:
        began = time.time()
        async with client_of(gateway) as client:
            ids = [(await client.ask(WHERE, corpus="handbook")).answer_id for _ in range(3)]
        assert ids == sorted(ids)
        for answer_id in ids:
            assert UUID(answer_id).version == 7
            assert began - 1 < (UUID(answer_id).int >> 80) / 1_000 < time.time() + 1

    async def test_a_session_survives_the_gateway(self, tmp_path: Path) -> None:
        async with running(tmp_path) as before, client_of(before) as client:
            await client.ask("the offsite", corpus="handbook", session_id="s")
        async with running(tmp_path) as after, client_of(after) as client:
            answer = await client.ask("Where is it?", corpus="handbook", session_id="s")
        assert answer.search_query == "Where is it? (the offsite)"

    async def test_a_session_expires(self, tmp_path: Path) -> None:
        async with running(tmp_path, session_lasts=timedelta(seconds=1)) as gateway, client_of(gateway) as client:
            await client.ask("the offsite", corpus="handbook", session_id="s")

            async def forgotten() -> bool:
                answer = await client.ask("Where?", corpus="handbook", session_id="s", timeout=timedelta(seconds=5))
                return answer.search_query == "Where?"

            await asyncio.sleep(1.05)  # every question renews the session, so it cannot be asked meanwhile
            assert await forgotten()


class TestWhoMayAsk:
    @pytest.mark.parametrize("key", ["ab-unknown", "x" * 300])
    async def test_a_wrong_key_is_refused(self, gateway: Gateway, key: str) -> None:
        async with client_of(gateway, key=key) as client:
            with pytest.raises(Unauthenticated) as fault:
                await client.ask(WHERE, corpus="handbook")
        assert fault.value.field == "authorization"
        assert gateway.downstream.retrieval.retrieve.begun == 0

    async def test_a_missing_key_is_refused_on_every_method(self, gateway: Gateway) -> None:
        async with grpc.aio.insecure_channel(gateway.grpc) as channel:
            answers, documents = stubs.AnswerServiceStub(channel), stubs.DocumentServiceStub(channel)
            searches = stubs.SearchServiceStub(channel)
            calls: list[Any] = [
                answers.Ask(pb.AskRequest()),
                searches.Search(pb.SearchRequest()),
                searches.ListCorpora(pb.ListCorporaRequest()),
                documents.PutDocument(pb.PutDocumentRequest()),
                documents.DeleteDocument(pb.DeleteDocumentRequest()),
                documents.GetDocument(pb.GetDocumentRequest()),
                answers.AskStream(pb.AskStreamRequest()).read(),
                documents.WatchDocument(pb.WatchDocumentRequest()).read(),
            ]
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_the_tenant_comes_from_the_key_alone(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.corpora["acme", "secrets"] = [passage("x", "A secret.", tenant="acme")]
        async with client_of(gateway, key=await new_key(gateway, "acme", "*")) as acme, client_of(gateway) as default:
            assert [each.corpus for each in await acme.corpora()] == ["secrets"]
            assert [each.corpus for each in await default.corpora()] == ["handbook"]
            with pytest.raises(NotFound):
                await acme.ask(WHERE, corpus="handbook")
            with pytest.raises(NotFound):
                await default.ask(WHERE, corpus="secrets")

    async def test_labels_beyond_the_keys_are_denied_and_its_own_are_used_by_default(self, gateway: Gateway) -> None:
        key = await new_key(gateway, "default", "hr", "ops")
        async with client_of(gateway, key=key) as client:
            with pytest.raises(Denied) as fault:
                await client.search("pay", corpus="handbook", acl=["board"])
            assert fault.value.field == "acl"
            await client.search("pay", corpus="handbook")
            await client.ask("pay", corpus="handbook", acl=["hr"])
        assert [list(each.acl) for each in gateway.downstream.retrieval.retrieve.requests] == [["hr", "ops"], ["hr"]]

    async def test_a_revoked_key_stops_working(self, gateway: Gateway) -> None:
        key = await new_key(gateway, "default", "*")
        database = database_of(gateway.settings)
        async with client_of(gateway, key=key) as client:
            await client.corpora()
            keys = SqlKeys(database)
            await AdministerKeys(keys).revoke((await keys.of_tenant("default"))[-1].key_id)

            async def refused() -> bool:
                try:
                    await client.corpora()
                except Unauthenticated:
                    return True
                return False

            await poll_until(refused, deadline=timedelta(seconds=5))
        await database.close()


class TestBadInput:
    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.AskRequest(corpus="handbook"), "question"),
            (pb.AskRequest(corpus="handbook", question="q" * 5_000), "question"),
            (pb.AskRequest(question="q"), "corpus"),
            (pb.AskRequest(corpus="../../etc", question="q"), "corpus"),
            (pb.AskRequest(corpus="handbook", question="q", filters={"A": "b"}), "filters"),
        ],
    )
    async def test_what_is_wrong_is_named(self, gateway: Gateway, request_: pb.AskRequest, field: str) -> None:
        async with client_of(gateway) as client:
            with pytest.raises(Invalid) as fault:
                await client._call(stubs.AnswerServiceStub(client._open()).Ask, request_, None)
            assert fault.value.field == field
            with pytest.raises(Invalid) as fault:
                async for _ in client._stream(
                    stubs.AnswerServiceStub(client._open()).AskStream, pb.AskStreamRequest(ask=request_), None
                ):
                    pass
            assert fault.value.field == field
        assert gateway.downstream.retrieval.retrieve.begun == 0

    async def test_an_unknown_corpus_is_not_found(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            with pytest.raises(NotFound) as fault:
                await client.ask(WHERE, corpus="nowhere")
            assert fault.value.field == "corpus"
            with pytest.raises(NotFound):
                await client.search(WHERE, corpus="nowhere")
            with pytest.raises(NotFound):
                _ = [event async for event in client.ask_stream(WHERE, corpus="nowhere")]

    async def test_a_question_of_10_mib_is_refused_and_the_gateway_goes_on(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            with pytest.raises(TooLarge):
                await client.ask("q" * 10 * 1024 * 1024, corpus="handbook")
            assert (await client.ask(WHERE, corpus="handbook")).text

    @pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x12\x03\xff\xfe\xfd", b"\x12\x7fshort"])
    async def test_bytes_that_are_no_message_or_no_utf8_are_refused(self, gateway: Gateway, raw: bytes) -> None:
        async with grpc.aio.insecure_channel(gateway.grpc) as channel:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/anabranch.gateway.v1.AnswerService/Ask"
            )
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await ask(raw, metadata=(("authorization", f"Bearer {gateway.key}"),), timeout=5)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        async with client_of(gateway) as client:
            assert (await client.ask(WHERE, corpus="handbook")).text

    async def test_a_document_over_20_mib_is_refused_and_one_of_20_mib_is_taken(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            with pytest.raises(TooLarge) as fault:
                await client.put_document("d", corpus="c", content=bytes(20 * 1024 * 1024 + 1))
            assert fault.value.field == "content"
            with pytest.raises(TooLarge):
                await client.put_document("d", corpus="c", content=bytes(30 * 1024 * 1024))
            assert (await client.put_document("d", corpus="c", content=bytes(20 * 1024 * 1024))).event_id
        assert len(gateway.published(topics.UPSTREAM_DOCUMENT_CHANGED)) == 1

    async def test_a_time_outside_of_the_calendar_is_refused(self, gateway: Gateway) -> None:
        request = pb.PutDocumentRequest(corpus="c", document_id="d", text="t")
        request.changed_at.seconds = 2**62
        async with client_of(gateway) as client:
            with pytest.raises(Invalid) as fault:
                await client._call(stubs.DocumentServiceStub(client._open()).PutDocument, request, None)
        assert fault.value.field == "changed_at"


class TestTrouble:
    async def test_leaving_a_stream_stops_generation(self, gateway: Gateway) -> None:
        gateway.downstream.generation.hold = asyncio.Event()
        async with client_of(gateway) as client:
            async with aclosing(client.ask_stream(WHERE, corpus="handbook")) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        break
            await poll_until(lambda: gateway.downstream.generation.generate.cancelled == 1)
            gateway.downstream.generation.hold = None
            assert (await client.ask(WHERE, corpus="handbook")).text

    async def test_cancelling_an_ask_stops_retrieval(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.hold = asyncio.Event()
        async with client_of(gateway) as client:
            asking = asyncio.create_task(client.ask(WHERE, corpus="handbook"))
            await poll_until(lambda: gateway.downstream.retrieval.retrieve.begun == 1)
            asking.cancel()
            await poll_until(lambda: gateway.downstream.retrieval.retrieve.cancelled == 1)
        assert gateway.downstream.generation.generate.begun == 0

    async def test_the_callers_deadline_goes_downstream_and_ends_the_work(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.hold = asyncio.Event()
        async with client_of(gateway) as client:
            began = time.monotonic()
            with pytest.raises(TimedOut):
                await client.ask(WHERE, corpus="handbook", timeout=timedelta(milliseconds=300))
            assert time.monotonic() - began < 2
            await poll_until(lambda: gateway.downstream.retrieval.retrieve.cancelled == 1)
        (left,) = gateway.downstream.retrieval.retrieve.deadlines
        assert left is not None
        assert left <= timedelta(milliseconds=400)  # gRPC rounds it up a little on the wire

    async def test_a_call_without_a_deadline_gets_the_default_one(self, tmp_path: Path) -> None:
        async with (
            running(tmp_path, deadline=timedelta(milliseconds=400)) as gateway,
            grpc.aio.insecure_channel(gateway.grpc) as channel,
        ):
            gateway.downstream.retrieval.hold = asyncio.Event()
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stubs.AnswerServiceStub(channel).Ask(
                    pb.AskRequest(corpus="handbook", question=WHERE),
                    metadata=(("authorization", f"Bearer {gateway.key}"),),
                )
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def test_a_part_that_is_away_is_told_as_such(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.fault = UnreachableFault("the index is away", retry_after=timedelta(seconds=7))
        async with client_of(gateway) as client:
            with pytest.raises(Unreachable) as fault:
                await client.ask(WHERE, corpus="handbook")
        assert fault.value.retry_after == timedelta(seconds=7)

    async def test_a_fault_in_the_variants_settings_is_not_blamed_on_the_caller(self, gateway: Gateway) -> None:
        gateway.downstream.generation.fault = InvalidFault("there is no backend 'x'", field="settings.backend")
        async with client_of(gateway) as client:
            with pytest.raises(Failed) as fault:
                await client.ask(WHERE, corpus="handbook")
        assert fault.value.code == "INTERNAL"
        assert "backend" not in str(fault.value)

    async def test_more_questions_than_fit_are_refused_and_the_others_are_answered(self, tmp_path: Path) -> None:
        async with running(tmp_path, questions_at_once=2) as gateway, client_of(gateway) as client:
            gateway.downstream.retrieval.hold = asyncio.Event()
            asking = [asyncio.create_task(client.ask(WHERE, corpus="handbook")) for _ in range(2)]
            await poll_until(lambda: gateway.downstream.retrieval.retrieve.begun == 2)
            with pytest.raises(Overloaded):
                await client.ask(WHERE, corpus="handbook")
            gateway.downstream.retrieval.hold.set()
            assert [answer.text for answer in await asyncio.gather(*asking)] == ["In the blue room."] * 2


class TestDocuments:
    async def test_a_put_is_one_upstream_event_of_the_keys_tenant(self, gateway: Gateway) -> None:
        changed_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        async with client_of(gateway) as client:
            accepted = await client.put_document(
                "guide/a",
                corpus="handbook",
                text="# Rooms",
                version=3,
                title="Rooms",
                content_type="text/markdown",
                filename="a.md",
                source_uri="https://docs.example/a",
                metadata={"team": "ops"},
                acl=["hr"],
                changed_at=changed_at,
            )
        (event,) = gateway.published(topics.UPSTREAM_DOCUMENT_CHANGED)
        assert (event.key, event.event_id) == ("default/handbook/guide/a", accepted.event_id)
        message = event.message
        assert (message.tenant, message.corpus, message.document_id) == ("default", "handbook", "guide/a")
        assert (message.text, message.version, message.title) == ("# Rooms", 3, "Rooms")
        assert (message.content_type, message.filename) == ("text/markdown", "a.md")
        assert (dict(message.metadata), list(message.acl)) == ({"team": "ops"}, ["hr"])
        assert message.changed_at.ToDatetime(tzinfo=UTC) == changed_at

    async def test_a_repeated_put_with_an_idempotency_key_is_the_same_event(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            ids = [
                (await client.put_document("d", corpus="c", text="t", idempotency_key=key)).event_id
                for key in ("one", "one", "two", "")
            ]
        assert ids[0] == ids[1]
        assert len(set(ids)) == 3

    async def test_a_delete_carries_no_body(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            accepted = await client.delete_document("d", corpus="c", version=4)
        (event,) = gateway.published(topics.UPSTREAM_DOCUMENT_CHANGED)
        assert event.event_id == accepted.event_id
        assert event.message.deleted
        assert event.message.version == 4
        assert event.message.WhichOneof("body") is None

    async def test_a_put_that_the_broker_does_not_hold_is_not_accepted(self, gateway: Gateway) -> None:
        gateway.bus.unreachable = True
        async with client_of(gateway, timeout=timedelta(seconds=2)) as client:
            with pytest.raises((Unreachable, TimedOut)):
                await client.put_document("d", corpus="c", text="t")

    async def test_where_a_document_stands_and_came_from(self, gateway: Gateway) -> None:
        await gateway.downstream.ingestion.tell(
            "default", "handbook", "a", state=ingestion.DOCUMENT_STATE_QUERYABLE, caused_by="e", chunk_count=2
        )
        async with client_of(gateway) as client:
            document = await client.get_document("a", corpus="handbook")
            with pytest.raises(NotFound):
                await client.get_document("never", corpus="handbook")
            with pytest.raises(Invalid):
                await client.get_document("", corpus="handbook")
        assert document.status.state is DocumentState.QUERYABLE
        assert (document.title, document.provenance.parser, dict(document.metadata)) == (
            "A title",
            "text/1",
            {"team": "ops"},
        )

    async def test_a_watch_tells_every_change_and_ends_with_the_caller(self, gateway: Gateway) -> None:
        tell = gateway.downstream.ingestion.tell
        await tell("default", "handbook", "a", state=ingestion.DOCUMENT_STATE_ACCEPTED, caused_by="e")
        async with client_of(gateway) as client:
            async with aclosing(client.watch_document("a", corpus="handbook")) as statuses:
                assert (await anext(statuses)).state is DocumentState.ACCEPTED
                await tell("default", "handbook", "a", state=ingestion.DOCUMENT_STATE_QUERYABLE, caused_by="e")
                assert (await anext(statuses)).state is DocumentState.QUERYABLE
            await poll_until(lambda: gateway.downstream.ingestion.watch.cancelled == 1)

    async def test_more_watches_than_fit_are_refused(self, tmp_path: Path) -> None:
        async with running(tmp_path, watches_at_once=1) as gateway, client_of(gateway) as client:
            watching = asyncio.create_task(client.wait_until_queryable("a", corpus="handbook"))
            await poll_until(lambda: gateway.downstream.ingestion.watch.begun == 1)
            with pytest.raises(Overloaded):
                _ = [status async for status in client.watch_document("b", corpus="handbook")]
            watching.cancel()
            await poll_until(lambda: gateway.downstream.ingestion.watch.cancelled == 1)

    @pytest.mark.parametrize(("corpus", "document_id"), [("", "d"), ("c", ""), ("c", "a\x00b"), ("../c", "d")])
    async def test_a_document_that_cannot_be_is_refused(self, gateway: Gateway, corpus: str, document_id: str) -> None:
        async with client_of(gateway) as client:
            with pytest.raises(Invalid):
                await client.get_document(document_id, corpus=corpus)
            with pytest.raises(Invalid):
                _ = [status async for status in client.watch_document(document_id, corpus=corpus)]
            with pytest.raises(Invalid):
                await client.delete_document(document_id, corpus=corpus)
        assert gateway.downstream.ingestion.watch.begun == 0

    async def test_waiting_ends_when_the_change_is_queryable(self, gateway: Gateway) -> None:
        tell = gateway.downstream.ingestion.tell
        await tell("default", "handbook", "a", state=ingestion.DOCUMENT_STATE_QUERYABLE, caused_by="before")
        async with client_of(gateway) as client:
            waiting = asyncio.create_task(client.wait_until_queryable("a", corpus="handbook", event_id="mine"))
            await poll_until(lambda: gateway.downstream.ingestion.watch.begun == 1)
            assert not waiting.done()
            await tell("default", "handbook", "a", state=ingestion.DOCUMENT_STATE_QUERYABLE, caused_by="mine")
            assert (await waiting).caused_by == "mine"


class TestSearching:
    async def test_hits_come_with_everything_people_want_to_see(self, gateway: Gateway) -> None:
        async with client_of(gateway) as client:
            found = await client.search("meeting", corpus="handbook", limit=1)
        (hit,) = found.hits
        assert (hit.document_id, hit.version, hit.text) == ("a", 1, "The meeting is in the blue room.")
        assert (hit.title, hit.title_path, hit.page, hit.line) == ("About a", ("Part",), 1, 2)
        assert (hit.span.end, dict(hit.metadata)) == (32, {"team": "ops"})
        assert (found.variant_id, found.index_generation) == ("v-one", 7)
        assert gateway.downstream.generation.generate.begun == 0

    @pytest.mark.parametrize(("wrong", "field"), [({"limit": 101}, "limit"), ({"query": " "}, "query")])
    async def test_a_search_that_breaks_its_contract_names_the_field(
        self, gateway: Gateway, wrong: dict[str, Any], field: str
    ) -> None:
        async with client_of(gateway) as client:
            with pytest.raises(Invalid) as fault:
                await client.search(**{"query": "q", "corpus": "handbook", **wrong})
        assert fault.value.field == field


def comes_back(gateway: Gateway) -> None:
    gateway.bus.unreachable = False


class TestTheRecord:
    async def test_every_answer_is_recorded_with_what_led_to_it(self, own: Gateway) -> None:
        async with client_of(own) as client:
            answer = await client.ask(WHERE, corpus="handbook", user_id="u", session_id="s")
        await poll_until(lambda: own.published(topics.GATEWAY_ANSWER_SERVED))
        (event,) = own.published(topics.GATEWAY_ANSWER_SERVED)
        served = event.message
        assert event.key == f"default/{answer.answer_id}"
        assert (served.answer_id, served.tenant, served.corpus) == (answer.answer_id, "default", "handbook")
        assert (served.user_id, served.session_id, served.variant_id) == ("u", "s", "v-one")
        assert (served.routing_revision, served.index_generation, served.embedding_version) == (1, 7, "e-1")
        assert (served.question, served.search_query, served.answer) == (WHERE, WHERE, "In the blue room.")
        assert [each.chunk_id for each in served.passages] == ["chunk-of-a", "chunk-of-b"]
        assert served.citations[0].text == "The meeting is in the blue room."
        assert (served.backend, served.model, served.usage.prompt_tokens) == ("extractive", "rules", 12)
        assert served.timings.total.ToTimedelta() == answer.timings.total
        assert served.has_content
        assert served.key_id.startswith("k-")
        assert own.key not in str(served)

    async def test_the_record_tells_the_experiment_and_everything_that_made_the_answer(self, own: Gateway) -> None:
        told = route(("v-old", 1), ("v-new", 0), scope="default/handbook", revision=9)
        for share, arm in zip(told.shares, ("treatment", "control"), strict=True):
            share.experiment_id, share.arm = "ex-1", arm
        variant = told.shares[0].variant
        variant.policy_version = "p-1"
        variant.retrieval.reranker_version = "rr-1"
        variant.generation.adapter, variant.generation.prompt.version = "ad-1", "prompt-1"
        await own.bus.deliver(topics.REGISTRY_ROUTING_CHANGED, [told])
        async with client_of(own) as client:
            await client.ask(WHERE, corpus="handbook", user_id="u")
            await client.ask(WHERE, corpus="handbook", session_id="s")
            await client.ask(WHERE, corpus="handbook")
        await poll_until(lambda: len(own.published(topics.GATEWAY_ANSWER_SERVED)) == 3)
        records = [event.message for event in own.published(topics.GATEWAY_ANSWER_SERVED)]
        served = records[0]
        assert (served.routing_scope, served.routing_revision) == ("default/handbook", 9)
        assert (served.experiment_id, served.arm, served.variant_id) == ("ex-1", "treatment", "v-old")
        assert [each.assignment_unit for each in records] == [1, 2, 3], "person, session, answer"
        assert (served.prompt_version, served.policy_version, served.adapter) == ("prompt-1", "p-1", "ad-1")
        assert (served.reranker_version, served.feature_set) == ("rr-1", "rf-1")
        assert [list(each.features) for each in served.passages] == [[1.0, 1.0], [1.0, 0.5]]
        assert [each.rank for each in served.passages] == [1, 2]
        assert not served.ranks_randomised

    async def test_an_explored_answer_is_drawn_from_the_order_it_shows_and_the_record_has_both(
        self, tmp_path: Path
    ) -> None:
        async with running(tmp_path, exploration=1.0) as gateway, client_of(gateway) as client:
            async with aclosing(client.ask_stream(WHERE, corpus="handbook")) as events:
                (retrieved,) = [event async for event in events if isinstance(event, Retrieved)]
            await poll_until(lambda: gateway.published(topics.GATEWAY_ANSWER_SERVED))
            (event,) = gateway.published(topics.GATEWAY_ANSWER_SERVED)
            (written,) = gateway.downstream.generation.generate.requests
        assert [hit.document_id for hit in retrieved.hits] == ["b", "a"]
        assert [each.document.document_id for each in written.passages] == ["b", "a"]
        assert event.message.ranks_randomised
        assert [(each.document.document_id, each.rank) for each in event.message.passages] == [("b", 2), ("a", 1)]

    async def test_an_answer_that_is_not_learned_from_is_neither_explored_nor_asked_for_features(
        self, tmp_path: Path
    ) -> None:
        async with (
            running(tmp_path, exploration=1.0, unrecorded_tenants="default") as gateway,
            client_of(gateway) as client,
        ):
            await client.ask(WHERE, corpus="handbook")
            await client.search(WHERE, corpus="handbook")
            await poll_until(lambda: gateway.published(topics.GATEWAY_ANSWER_SERVED))
            (event,) = gateway.published(topics.GATEWAY_ANSWER_SERVED)
            asked = gateway.downstream.retrieval.retrieve.requests
        assert not any(request.with_features for request in asked)
        assert not event.message.ranks_randomised
        assert event.message.feature_set == ""
        assert [each.rank for each in event.message.passages] == [1, 2]

    async def test_a_tenant_may_have_its_answers_recorded_without_content(self, tmp_path: Path) -> None:
        async with running(tmp_path, unrecorded_tenants="other, default") as gateway, client_of(gateway) as client:
            await client.ask("a very private question", corpus="handbook")
            await poll_until(lambda: gateway.published(topics.GATEWAY_ANSWER_SERVED))
            (event,) = gateway.published(topics.GATEWAY_ANSWER_SERVED)
        assert not event.message.has_content
        for said in ("private", "blue room", "About a", "ops"):
            assert said not in str(event.message)
        assert [each.chunk_id for each in event.message.passages] == ["chunk-of-a", "chunk-of-b"]
        assert event.message.citations[0].chunk_id == "chunk-of-a"

    async def test_a_broker_that_is_away_delays_records_and_not_answers(self, own: Gateway) -> None:
        own.bus.unreachable = True
        async with client_of(own) as client:
            answers = [await client.ask(WHERE, corpus="handbook") for _ in range(3)]
        assert not own.published(topics.GATEWAY_ANSWER_SERVED)
        own.bus.unreachable = False
        await poll_until(lambda: len(own.published(topics.GATEWAY_ANSWER_SERVED)) == 3)
        recorded = [event.event_id for event in own.published(topics.GATEWAY_ANSWER_SERVED)]
        assert recorded == [answer.answer_id for answer in answers]

    async def test_a_full_queue_gives_records_up_counted_and_answers_go_on(self, tmp_path: Path) -> None:
        def lost() -> float:
            lines = exposition().decode().splitlines()
            return sum(
                float(line.split()[-1])
                for line in lines
                if line.startswith('anabranch_gateway_answers_unrecorded_total{reason="full"}')
            )

        before = lost()
        async with running(tmp_path, answers_waiting=2) as gateway, client_of(gateway) as client:
            gateway.bus.unreachable = True
            for _ in range(4):
                assert (await client.ask(WHERE, corpus="handbook")).text
            assert lost() - before == 2
            gateway.bus.unreachable = False
            await poll_until(lambda: len(gateway.published(topics.GATEWAY_ANSWER_SERVED)) == 2)

    async def test_a_drain_publishes_what_still_waits(self, tmp_path: Path) -> None:
        async with running(tmp_path) as gateway, client_of(gateway) as client:
            gateway.bus.unreachable = True
            answer = await client.ask(WHERE, corpus="handbook")
            asyncio.get_running_loop().call_later(0.3, comes_back, gateway)
        assert [event.event_id for event in gateway.published(topics.GATEWAY_ANSWER_SERVED)] == [answer.answer_id]


class TestRouting:
    async def test_it_is_ready_only_when_a_route_is_known(self, tmp_path: Path) -> None:
        async with running(tmp_path, routed=False) as gateway, grpc.aio.insecure_channel(gateway.grpc) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def serving() -> bool:
                reply = await health.Check(health_pb2.HealthCheckRequest(service="anabranch.gateway.v1.AnswerService"))
                return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

            assert not await serving()
            assert any("route" in reason for reason in gateway.process.unready())
            async with client_of(gateway) as client:
                with pytest.raises(Unreachable):
                    await client.ask(WHERE, corpus="handbook")
            await gateway.bus.deliver(topics.REGISTRY_ROUTING_CHANGED, [route(("v-one", 1))])
            await poll_until(serving, deadline=timedelta(seconds=5))

    async def test_the_most_specific_scope_serves_and_a_tombstone_takes_it_back(self, own: Gateway) -> None:
        changed = topics.REGISTRY_ROUTING_CHANGED
        async with client_of(own) as client:
            await own.bus.deliver(changed, [route(("v-own", 1), scope="default/handbook", revision=4)])
            assert (await client.ask(WHERE, corpus="handbook")).variant_id == "v-own"
            await own.bus.deliver_bytes(changed, None, key=b"default/handbook")
            assert (await client.ask(WHERE, corpus="handbook")).variant_id == "v-one"

    @pytest.mark.parametrize(
        "broken",
        [
            registry.RoutingChanged(scope="*", revision=9),
            route(("v-bad", 0), revision=9),
            route(("v-bad", 1), scope="other", revision=9),
        ],
    )
    async def test_a_broken_route_leaves_the_last_good_one_serving(
        self, own: Gateway, broken: registry.RoutingChanged
    ) -> None:
        await own.bus.deliver(topics.REGISTRY_ROUTING_CHANGED, [broken], key="*")
        async with client_of(own) as client:
            assert (await client.ask(WHERE, corpus="handbook")).variant_id == "v-one"


class TestTheOutside:
    async def test_reflection_lists_the_public_services(self, gateway: Gateway) -> None:
        def listed() -> set[str]:
            with grpc.insecure_channel(gateway.grpc) as channel:
                return set(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert {
            "anabranch.gateway.v1.AnswerService",
            "anabranch.gateway.v1.SearchService",
            "anabranch.gateway.v1.DocumentService",
            "grpc.health.v1.Health",
        } <= await asyncio.to_thread(listed)

    @pytest.mark.parametrize(
        "settings",
        [
            {"listen": "0.0.0.0:0"},
            {"listen": "127.0.0.1:0,[::]:0"},
            {"http_listen": "0.0.0.0:0"},
            {"listen": "gateway:7400"},
        ],
    )
    async def test_an_address_that_others_reach_needs_to_be_allowed(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="EXPOSED"):
            async with running(tmp_path, **settings):
                pass

    async def test_an_allowed_one_is_served(self, tmp_path: Path) -> None:
        async with running(tmp_path, listen="0.0.0.0:0", exposed=True) as gateway:
            assert gateway.grpc.startswith("0.0.0.0:")

    async def test_a_unix_socket_serves_too(self, short_dir: Path, tmp_path: Path) -> None:
        async with running(tmp_path, listen=f"unix:{short_dir}/gateway") as gateway, client_of(gateway) as client:
            assert (await client.ask(WHERE, corpus="handbook")).text

    async def test_grpcs_own_json_of_an_answer_is_what_grpcurl_shows(self, gateway: Gateway) -> None:
        from google.protobuf.json_format import MessageToJson  # noqa: PLC0415  only here

        async with grpc.aio.insecure_channel(gateway.grpc) as channel:
            reply = await stubs.AnswerServiceStub(channel).Ask(
                pb.AskRequest(corpus="handbook", question=WHERE),
                metadata=(("authorization", f"Bearer {gateway.key}"),),
            )
        shown = json.loads(MessageToJson(reply))
        assert shown["finishReason"] == "FINISH_REASON_STOP"
        assert shown["citations"][0]["document"]["documentId"] == "a"
