from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no stubs

from anabranch.gateway.v1 import gateway_service_pb2
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_client import (
    Anabranch,
    AsyncAnabranch,
    CheckStatus,
    Conflict,
    Delta,
    DocumentState,
    Failed,
    Fault,
    FeedbackAccepted,
    Finished,
    FinishReason,
    Guard,
    GuardStage,
    GuardVerdict,
    Invalid,
    NotFound,
    Overloaded,
    Retrieved,
    Sign,
    Span,
    Started,
    TimedOut,
    TooLarge,
    Transient,
    Unauthenticated,
    Unreachable,
)
from anabranch_client.connection import resolve
from anabranch_client.guards import stage_of, verdict_of
from anabranch_client.testing import FakeGateway

T = TypeVar("T")
QUICK = timedelta(seconds=5)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as fake:
        yield fake


@pytest.fixture
async def client(gateway: FakeGateway) -> AsyncIterator[AsyncAnabranch]:
    async with AsyncAnabranch(gateway.endpoint, key=gateway.key, timeout=QUICK) as one:
        await one.put_document(
            "rooms",
            corpus="handbook",
            text="The blue room.",
            title="Rooms",
            metadata={"team": "ops"},
            changed_at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        yield one


async def in_thread(gateway: FakeGateway, talk: Callable[[Anabranch], T]) -> T:
    def run() -> T:
        with Anabranch(gateway.endpoint, key=gateway.key, timeout=QUICK) as one:
            return talk(one)

    return await asyncio.to_thread(run)


def details(*messages: Message, code: grpc.StatusCode, problem: str) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=problem)
    for message in messages:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return bytes(status.SerializeToString())


class TestResults:
    async def test_an_answer_is_whole_and_typed(self, client: AsyncAnabranch) -> None:
        answer = await client.ask("Where?", corpus="handbook")
        assert (answer.text, answer.answer_id, answer.variant_id) == ("The blue room.", "answer-1", "v-test")
        assert answer.finish_reason is FinishReason.STOP
        assert answer.timings.total == timedelta(milliseconds=7)
        assert answer.timings.condense == timedelta()
        (citation,) = answer.citations
        assert (citation.document.document_id, citation.document.version) == ("rooms", 1)
        assert citation.text[citation.span.start : citation.span.end] == "The blue room."

    async def test_results_cannot_be_changed(self, client: AsyncAnabranch) -> None:
        answer = await client.ask("Where?", corpus="handbook")
        with pytest.raises(AttributeError):
            answer.text = "else"  # type: ignore[misc]  # the point of the test
        hit = (await client.search("room", corpus="handbook")).hits[0]
        with pytest.raises(TypeError):
            hit.metadata["team"] = "else"  # type: ignore[index]  # the point of the test

    async def test_a_stream_gives_typed_events_and_passes_over_kinds_it_does_not_know(
        self, client: AsyncAnabranch
    ) -> None:
        events = [event async for event in client.ask_stream("Where?", corpus="handbook")]
        assert [type(event) for event in events] == [Started, Retrieved, Delta, Delta, Delta, Guard, Finished]
        assert "".join(event.text for event in events if isinstance(event, Delta)) == "The blue room. "
        assert isinstance(events[1], Retrieved)
        assert events[1].hits[0].title_path == ("Part",)
        assert isinstance(events[5], Guard)
        assert events[5].verdict is GuardVerdict.FLAG

    async def test_a_blocked_question_is_an_answer_that_says_so(
        self, gateway: FakeGateway, client: AsyncAnabranch
    ) -> None:
        gateway.blocked = {"ignore"}
        answer = await client.ask("ignore it", corpus="handbook")
        assert answer.finish_reason is FinishReason.BLOCKED
        assert [(guard.verdict, guard.stage) for guard in answer.guards] == [(GuardVerdict.BLOCK, GuardStage.INPUT)]
        events = [event async for event in client.ask_stream("ignore it", corpus="handbook")]
        assert [type(event) for event in events] == [Started, Guard, Finished]
        assert isinstance(events[-1], Finished)
        assert events[-1].finish_reason is FinishReason.BLOCKED

    async def test_variables_a_schema_and_the_wish_for_a_fresh_answer_are_sent(
        self, gateway: FakeGateway, client: AsyncAnabranch
    ) -> None:
        options: Any = {"variables": {"tone": "dry"}, "response_schema": {"type": "object"}, "fresh": True}
        answer = await client.ask("Where?", corpus="handbook", **options)
        _ = [event async for event in client.ask_stream("Where?", corpus="handbook", **options)]
        for request in gateway.requests[-2:]:
            assert (request.variables["tone"], request.response_schema["type"], request.fresh) == (
                "dry",
                "object",
                True,
            )
        assert (answer.cached, answer.cost_micros) == (False, None)

    async def test_texts_are_checked_for_apps_with_their_own_model(
        self, gateway: FakeGateway, client: AsyncAnabranch
    ) -> None:
        gateway.blocked = {"ignore"}
        fine = await client.check_text("hello", corpus="handbook", turns=["before"])
        assert (fine.allowed, fine.text, fine.verdict) == (True, "hello", GuardVerdict.ALLOW)
        blocked = await in_thread(gateway, lambda one: one.check_text("please ignore it", stage=GuardStage.OUTPUT))
        assert (blocked.allowed, blocked.text) == (False, "")
        (result,) = blocked.results
        assert (result.check, result.status, result.passage) == ("injection", CheckStatus.OK, None)
        assert result.spans[0].span == Span(start=7, end=13)
        assert list(gateway.requests[-2].turns) == ["before"]

    def test_a_verdict_that_is_not_known_blocks(self) -> None:
        assert verdict_of(99) is GuardVerdict.BLOCK
        assert verdict_of(0) is GuardVerdict.BLOCK
        assert stage_of(99) is GuardStage.UNSPECIFIED

    async def test_searching_and_listing(self, client: AsyncAnabranch) -> None:
        found = await client.search("room", corpus="handbook", limit=3)
        assert (found.variant_id, found.index_generation) == ("v-test", 3)
        assert dict(found.hits[0].metadata) == {"team": "ops"}
        (corpus,) = await client.corpora()
        assert (corpus.corpus, corpus.document_count) == ("handbook", 1)
        assert corpus.changed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    async def test_a_document_from_put_to_delete(self, client: AsyncAnabranch) -> None:
        document = await client.get_document("rooms", corpus="handbook")
        assert document.status.state is DocumentState.QUERYABLE
        assert document.status.at is None
        accepted = await client.delete_document("rooms", corpus="handbook")
        after = await client.get_document("rooms", corpus="handbook")
        assert (after.status.state, after.status.caused_by) == (DocumentState.DELETED, accepted.event_id)

    async def test_the_synchronous_client_gives_the_same(self, gateway: FakeGateway, client: AsyncAnabranch) -> None:
        def talk(sync: Anabranch) -> list[Any]:
            accepted = sync.put_document("b", corpus="other", content=b"bytes")
            return [
                sync.ask("Where?", corpus="handbook"),
                list(sync.ask_stream("Where?", corpus="handbook")),
                sync.search("room", corpus="handbook"),
                sync.corpora()[0],
                sync.get_document("rooms", corpus="handbook"),
                sync.wait_until_queryable("b", corpus="other", event_id=accepted.event_id).caused_by
                == accepted.event_id,
                sync.delete_document("b", corpus="other").document_id,
            ]

        assert await in_thread(gateway, talk) == [
            await client.ask("Where?", corpus="handbook"),
            [event async for event in client.ask_stream("Where?", corpus="handbook")],
            await client.search("room", corpus="handbook"),
            (await client.corpora())[0],
            await client.get_document("rooms", corpus="handbook"),
            True,
            "b",
        ]


class TestChanges:
    @pytest.mark.parametrize("bodies", [{}, {"text": "a", "content": b"b"}, {"text": "", "uri": "file:/x"}])
    async def test_exactly_one_body_is_given(self, client: AsyncAnabranch, bodies: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="exactly one"):
            await client.put_document("d", corpus="c", **bodies)

    async def test_an_empty_text_is_a_body(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        await client.put_document("d", corpus="c", text="")
        assert gateway.documents["c", "d"].WhichOneof("body") == "text"

    async def test_a_time_without_a_zone_is_refused(self, client: AsyncAnabranch) -> None:
        with pytest.raises(ValueError, match="time zone"):
            await client.put_document("d", corpus="c", text="t", changed_at=datetime(2026, 1, 2))  # noqa: DTZ001  the point

    async def test_a_put_that_is_repeated_by_the_client_is_one_change(
        self, client: AsyncAnabranch, gateway: FakeGateway
    ) -> None:
        gateway.requests.clear()
        gateway.fail_with = [(grpc.StatusCode.UNAVAILABLE, "restarting", b"")] * 2
        accepted = await client.put_document("d", corpus="c", text="t")
        assert len(gateway.requests) == 3
        assert len({request.idempotency_key for request in gateway.requests}) == 1
        assert accepted.event_id

    async def test_a_question_is_not_repeated(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        gateway.requests.clear()
        gateway.fail_with = [(grpc.StatusCode.UNAVAILABLE, "restarting", b"")]
        with pytest.raises(Unreachable):
            await client.ask("Where?", corpus="handbook")
        assert len(gateway.requests) == 1

    @pytest.mark.parametrize(
        ("state", "fault"),
        [
            (ingestion.DOCUMENT_STATE_REJECTED, Invalid),
            (ingestion.DOCUMENT_STATE_DELETED, NotFound),
            (ingestion.DOCUMENT_STATE_SUPERSEDED, Conflict),
        ],
    )
    async def test_waiting_for_what_will_not_be_queryable_says_why(
        self,
        client: AsyncAnabranch,
        gateway: FakeGateway,
        state: ingestion.DocumentState.ValueType,
        fault: type[Invalid],
    ) -> None:
        rejection = ingestion.Rejection(
            reason=ingestion.REJECTION_REASON_NO_TEXT, detail="the body has no text", field="content"
        )
        more = {"rejection": rejection} if state == ingestion.DOCUMENT_STATE_REJECTED else {}
        await gateway.tell("c", "d", state, caused_by="mine", **more)
        with pytest.raises(fault) as raised:
            await client.wait_until_queryable("d", corpus="c", event_id="mine", timeout=QUICK)
        if fault is Invalid:
            assert (raised.value.field, raised.value.reason) == ("content", "NO_TEXT")
            assert raised.value.problem == "the body has no text"

    async def test_waiting_passes_over_statuses_of_other_changes(
        self, client: AsyncAnabranch, gateway: FakeGateway
    ) -> None:
        await gateway.tell("c", "d", ingestion.DOCUMENT_STATE_QUERYABLE, caused_by="before")
        waiting = asyncio.create_task(client.wait_until_queryable("d", corpus="c", event_id="mine", timeout=QUICK))
        while not any(getattr(request, "document_id", "") == "d" for request in gateway.requests):  # noqa: ASYNC110  the fake has no event for it
            await asyncio.sleep(0.005)
        await gateway.tell("c", "d", ingestion.DOCUMENT_STATE_ACCEPTED, caused_by="mine")
        await gateway.tell("c", "d", ingestion.DOCUMENT_STATE_UNCHANGED, caused_by="mine")
        assert (await waiting).state is DocumentState.UNCHANGED

    async def test_waiting_has_an_end(self, client: AsyncAnabranch) -> None:
        with pytest.raises(TimedOut):
            await client.wait_until_queryable("never", corpus="c", timeout=timedelta(milliseconds=200))

    async def test_waiting_finds_a_gateway_again_that_went_away(
        self, client: AsyncAnabranch, gateway: FakeGateway
    ) -> None:
        gateway.fail_with = [(grpc.StatusCode.UNAVAILABLE, "restarting", b"")]
        assert (await client.wait_until_queryable("rooms", corpus="handbook", timeout=QUICK)).chunk_count == 1


class TestFeedback:
    @pytest.mark.parametrize(
        ("opinion", "kind", "said"),
        [
            ({"up": True}, "thumb", upstream.Thumb(up=True)),
            ({"up": False}, "thumb", upstream.Thumb()),
            ({"rating": 4, "reasons": ["too-long"]}, "rating", upstream.Rating(stars=4, reasons=["too-long"])),
            ({"rating": 0}, "rating", upstream.Rating()),
            ({"correct": "Red."}, "correction", upstream.Correction(text="Red.")),
            ({"relevant": "c"}, "citation", upstream.CitationJudgment(chunk_id="c", relevant=True)),
            ({"irrelevant": "c"}, "citation", upstream.CitationJudgment(chunk_id="c")),
            ({"prefer": "b"}, "preference", upstream.Preference(other_answer_id="b", prefers_other=True)),
            ({"over": "b"}, "preference", upstream.Preference(other_answer_id="b")),
            ({"sign": Sign.ANSWER_COPIED}, "implicit", upstream.Implicit(sign=upstream.SIGN_ANSWER_COPIED)),
            (
                {"sign": Sign.DWELLED, "dwell": timedelta(seconds=9)},
                "implicit",
                upstream.Implicit(sign=upstream.SIGN_DWELLED, dwell=Duration(seconds=9)),
            ),
        ],
    )
    async def test_every_opinion_is_sent_as_the_contract_has_it(
        self, client: AsyncAnabranch, gateway: FakeGateway, opinion: dict[str, Any], kind: str, said: Message
    ) -> None:
        answer = await client.ask("Where?", corpus="handbook", user_id="u")
        given = await client.feedback(answer.answer_id, user_id="u", comment="Hm.", **opinion)
        assert (given.revision, given.joined) == (1, True)
        (request,) = gateway.feedback[answer.answer_id, "u", kind]
        assert request.WhichOneof("kind") == kind
        assert getattr(request, kind) == said
        assert (request.comment, request.consent) == ("Hm.", upstream.CONSENT_GRANTED)
        assert request.idempotency_key

    @pytest.mark.parametrize(
        "opinion",
        [{}, {"up": True, "rating": 4}, {"up": True, "reasons": ["wrong"]}, {"rating": 3, "dwell": timedelta()}],
    )
    async def test_exactly_one_opinion_is_given_with_what_belongs_to_it(
        self, client: AsyncAnabranch, opinion: dict[str, Any]
    ) -> None:
        with pytest.raises(TypeError):
            await client.feedback("answer-1", user_id="u", **opinion)

    async def test_an_answer_that_was_never_given_is_not_found(self, client: AsyncAnabranch) -> None:
        with pytest.raises(NotFound):
            await client.feedback("answer-9", user_id="u", up=True)

    async def test_the_synchronous_client_changes_its_mind_and_keeps_out_of_training(
        self, gateway: FakeGateway, client: AsyncAnabranch
    ) -> None:
        answer = await client.ask("Where?", corpus="handbook")

        def talk(one: Anabranch) -> tuple[FeedbackAccepted, FeedbackAccepted]:
            return (
                one.feedback(answer.answer_id, user_id="u", up=True),
                one.feedback(
                    answer.answer_id,
                    user_id="u",
                    up=False,
                    may_train=False,
                    given_at=datetime(2026, 1, 2, tzinfo=UTC),
                    idempotency_key="k",
                ),
            )

        first, second = await in_thread(gateway, talk)
        assert (first.feedback_id, first.revision) == (second.feedback_id, 1)
        assert second.revision == 2
        last = gateway.feedback[answer.answer_id, "u", "thumb"][-1]
        assert (last.thumb.up, last.consent, last.idempotency_key) == (False, upstream.CONSENT_DENIED, "k")
        assert last.given_at.ToDatetime(tzinfo=UTC) == datetime(2026, 1, 2, tzinfo=UTC)

    async def test_feedback_is_repeated_unseen_as_one_event(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        answer = await client.ask("Where?", corpus="handbook")
        gateway.fail_with = [(grpc.StatusCode.UNAVAILABLE, "restarting", b"")]
        await client.feedback(answer.answer_id, user_id="u", up=True)
        tried = [each for each in gateway.requests if isinstance(each, gateway_service_pb2.GiveFeedbackRequest)]
        assert len(tried) == 2
        assert tried[0] == tried[1]


class TestErrors:
    async def test_a_wrong_key(self, gateway: FakeGateway) -> None:
        async with AsyncAnabranch(gateway.endpoint, key="wrong", timeout=QUICK) as stranger:
            with pytest.raises(Unauthenticated):
                await stranger.corpora()

    @pytest.mark.parametrize(
        ("code", "named", "fault"),
        [
            (grpc.StatusCode.INVALID_ARGUMENT, "Invalid", Invalid),
            (grpc.StatusCode.INVALID_ARGUMENT, "TooLarge", TooLarge),
            (grpc.StatusCode.UNAVAILABLE, "Overloaded", Overloaded),
            (grpc.StatusCode.UNAVAILABLE, "Transient", Transient),
            (grpc.StatusCode.ABORTED, "", Conflict),
            (grpc.StatusCode.NOT_FOUND, "", NotFound),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "", Overloaded),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "", TimedOut),
            (grpc.StatusCode.INTERNAL, "", Failed),
            (grpc.StatusCode.UNKNOWN, "NewerThanThisClient", Failed),
        ],
    )
    async def test_a_status_becomes_the_fault_that_was_raised(
        self,
        client: AsyncAnabranch,
        gateway: FakeGateway,
        code: grpc.StatusCode,
        named: str,
        fault: type[Fault],
    ) -> None:
        info = error_details_pb2.ErrorInfo(domain="anabranch", reason="WHY", metadata={"fault": named})
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(1_500)
        wrong = error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="question", description="is empty")]
        )
        said = details(info, retry, wrong, code=code, problem="question: is empty")

        def ask(sync: Anabranch) -> Fault:
            try:
                sync.ask("q", corpus="c")
            except Fault as raised:
                return raised
            raise AssertionError("nothing was raised")

        gateway.fail_with = [(code, "question: is empty", said)] * 2
        with pytest.raises(fault) as asynchronous:
            await client.ask("q", corpus="c")
        for raised in (asynchronous.value, await in_thread(gateway, ask)):
            assert type(raised) is fault
            if isinstance(raised, Invalid):
                assert (raised.field, raised.reason, raised.problem) == ("question", "WHY", "is empty")
            if isinstance(raised, Transient):
                assert raised.retry_after == timedelta(seconds=1.5)
            if isinstance(raised, Failed):
                assert raised.code == code.name

    async def test_an_error_ends_a_stream_as_the_same_fault(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        gateway.fail_with = [(grpc.StatusCode.NOT_FOUND, "no such corpus", b"")] * 2
        with pytest.raises(NotFound, match="no such corpus"):
            _ = [event async for event in client.ask_stream("q", corpus="c")]
        with pytest.raises(NotFound, match="no such corpus"):
            await in_thread(gateway, lambda sync: list(sync.ask_stream("q", corpus="c")))

    async def test_nobody_there(self, free_port: Callable[[], int]) -> None:
        async with AsyncAnabranch(f"127.0.0.1:{free_port()}", key="k", timeout=QUICK) as client:
            with pytest.raises(Unreachable):
                await client.ask("q", corpus="c")


class TestDeadlinesAndLeaving:
    async def test_every_call_carries_a_deadline(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        gateway.time_remaining.clear()
        await client.ask("q", corpus="c")
        await client.search("q", corpus="c", timeout=timedelta(seconds=2))
        await client.corpora()
        await client.get_document("rooms", corpus="handbook")
        _ = [event async for event in client.ask_stream("q", corpus="handbook")]
        async with aclosing(client.watch_document("rooms", corpus="handbook")) as statuses:
            await anext(statuses)
        left = [each or 0.0 for each in gateway.time_remaining]
        assert all(left)
        # gRPC rounds a deadline up a little on the wire.
        assert left[1] < 2.5
        assert 2.5 < left[0] < 5.5
        assert 3_000 < left[-1] < 3_700

    async def test_a_deadline_that_passes_is_told_as_such(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        gateway.hold = asyncio.Event()
        with pytest.raises(TimedOut):
            _ = [e async for e in client.ask_stream("q", corpus="c", timeout=timedelta(milliseconds=200))]

    async def test_leaving_a_stream_cancels_it(self, client: AsyncAnabranch, gateway: FakeGateway) -> None:
        gateway.hold = asyncio.Event()
        async with aclosing(client.ask_stream("q", corpus="c")) as events:
            assert isinstance(await anext(events), Started)
        await _cancelled(gateway, 1)

        def leave(sync: Anabranch) -> None:
            with closing(sync.ask_stream("q", corpus="c")) as stream:
                assert isinstance(next(stream), Started)

        await in_thread(gateway, leave)
        await _cancelled(gateway, 2)

    async def test_one_synchronous_client_serves_many_threads(
        self, client: AsyncAnabranch, gateway: FakeGateway
    ) -> None:
        def talk(sync: Anabranch) -> list[str]:
            texts: list[str] = []

            def ask() -> None:
                texts.extend(sync.ask("Where?", corpus="handbook").text for _ in range(10))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return texts

        assert await in_thread(gateway, talk) == ["The blue room."] * 80


async def _cancelled(gateway: FakeGateway, times: int) -> None:
    async with asyncio.timeout(5):
        while gateway.cancelled < times:  # noqa: ASYNC110  the fake has no event for it
            await asyncio.sleep(0.005)


class TestConnections:
    def test_arguments_win_over_a_file_and_a_file_over_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("from-file\n")
        environ = {"ANABRANCH_ENDPOINT": "env:1", "ANABRANCH_KEY": "from-env"}

        def found(**given: Any) -> tuple[str, str]:
            whole = {"endpoint": None, "key": None, "key_file": None, "credentials": None, "environ": environ, **given}
            connection = resolve(**whole)
            return connection.target, connection.key

        assert found() == ("env:1", "from-env")
        assert found(endpoint="arg:2", key="from-arg") == ("arg:2", "from-arg")
        assert found(key_file=tmp_path / "key") == ("env:1", "from-file")
        file_only = {"ANABRANCH_KEY_FILE": str(tmp_path / "key"), "ANABRANCH_ENDPOINT": "e:1"}
        assert found(environ=file_only) == ("e:1", "from-file")

    @pytest.mark.parametrize(
        ("endpoint", "target", "secure"),
        [
            ("127.0.0.1:7400", "127.0.0.1:7400", False),
            ("unix:/run/gateway", "unix:/run/gateway", False),
            ("https://api.example", "api.example:443", True),
            ("https://api.example:8443/", "api.example:8443", True),
            ("http://[::1]:7400", "[::1]:7400", False),
        ],
    )
    def test_an_endpoint_says_how_to_connect(self, endpoint: str, target: str, secure: bool) -> None:  # noqa: FBT001  a parameter of the test
        connection = resolve(endpoint=endpoint, key="k", key_file=None, credentials=None, environ={})
        assert connection.target == target
        assert (connection.credentials is not None) is secure

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="ANABRANCH_ENDPOINT"):
            resolve(endpoint=None, key="k", key_file=None, credentials=None, environ={})
        with pytest.raises(Unauthenticated, match="ANABRANCH_KEY"):
            resolve(endpoint="e:1", key=None, key_file=None, credentials=None, environ={})
        with pytest.raises(Unauthenticated, match="cannot be read"):
            resolve(endpoint="e:1", key=None, key_file=tmp_path / "none", credentials=None, environ={})
        with pytest.raises(Unauthenticated, match="characters"):
            resolve(endpoint="e:1", key="a\nb", key_file=None, credentials=None, environ={})
        with pytest.raises(Invalid, match="nothing else"):
            resolve(endpoint="https://host/path", key="k", key_file=None, credentials=None, environ={})

    def test_a_key_is_never_shown(self) -> None:
        connection = resolve(endpoint="e:1", key="a-secret", key_file=None, credentials=None, environ={})
        assert "a-secret" not in repr(connection)


README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"example-{n}" for n in range(1, len(EXAMPLES) + 1)])
async def test_the_examples_of_the_readme_run(
    example: str,
    client: AsyncAnabranch,
    gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ANABRANCH_ENDPOINT", gateway.endpoint)
    monkeypatch.setenv("ANABRANCH_KEY", gateway.key)
    await asyncio.to_thread(exec, compile(example, str(README), "exec"), {})
    assert "blue room" in capsys.readouterr().out
