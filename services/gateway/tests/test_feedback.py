from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_client.errors import Failed, fault_from
from anabranch_faults import Conflict, Fault, Invalid, NotFound, Overloaded, TooLarge, Unreachable
from anabranch_gateway.domain.feedback import Feedback, Opinion, TooOften, event_id_of
from anabranch_gateway.testing import Gateway, running

UP = upstream.Thumb(up=True)


def feedback(**changed: Any) -> Feedback:
    whole: dict[str, Any] = {"answer_id": "a", "user_id": "u", "kind": "thumb", "opinion": Opinion(UP), **changed}
    return Feedback(**whole)


class TestTheContract:
    @pytest.mark.parametrize(
        ("broken", "field"),
        [
            ({"answer_id": ""}, "answer_id"),
            ({"answer_id": "a" * 129}, "answer_id"),
            ({"answer_id": "other/a"}, "answer_id"),
            ({"user_id": " "}, "user_id"),
            ({"user_id": "u" * 129}, "user_id"),
            ({"user_id": "a\nb"}, "user_id"),
            ({"kind": "", "opinion": None}, "kind"),
            ({"comment": "c" * 4_097}, "comment"),
            ({"idempotency_key": "k" * 129}, "idempotency_key"),
        ],
    )
    def test_feedback_that_breaks_it_names_the_field(self, broken: dict[str, Any], field: str) -> None:
        with pytest.raises(Invalid) as fault:
            feedback(**broken)
        assert fault.value.field == field

    def test_a_repeated_key_is_the_same_event_and_anything_else_is_another(self) -> None:
        first = event_id_of(feedback(idempotency_key="k"), tenant="t")
        assert first == event_id_of(feedback(idempotency_key="k"), tenant="t")
        others = {
            event_id_of(feedback(idempotency_key="k2"), tenant="t"),
            event_id_of(feedback(idempotency_key="k", answer_id="b"), tenant="t"),
            event_id_of(feedback(idempotency_key="k", user_id="v"), tenant="t"),
            event_id_of(feedback(idempotency_key="k", kind="rating"), tenant="t"),
            event_id_of(feedback(idempotency_key="k"), tenant="x"),
        }
        assert len(others) == 5
        assert first not in others
        assert event_id_of(feedback(), tenant="t") == ""


async def give(gateway: Gateway, **given: Any) -> pb.GiveFeedbackResponse:
    request = pb.GiveFeedbackRequest(**{"answer_id": "a", "user_id": "u", "thumb": UP, **given})
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        try:
            return await stubs.FeedbackServiceStub(channel).GiveFeedback(
                request, metadata=(("authorization", f"Bearer {gateway.key}"),), timeout=5
            )
        except grpc.aio.AioRpcError as error:
            raise fault_from(error) from error


@pytest.mark.asyncio(loop_scope="module")
class TestGiving:
    @pytest.mark.parametrize(
        ("kind", "opinion"),
        [
            ("thumb", UP),
            ("rating", upstream.Rating(stars=4, reasons=["too-long"])),
            ("correction", upstream.Correction(text="In the red room.")),
            ("preference", upstream.Preference(other_answer_id="b", prefers_other=True)),
            ("citation", upstream.CitationJudgment(chunk_id="c", relevant=True)),
            ("implicit", upstream.Implicit(sign=upstream.SIGN_ANSWER_COPIED)),
            ("review", upstream.Review(stars=5, ranking=["c"])),
        ],
    )
    async def test_every_kind_goes_on_as_it_came_in_the_keys_tenant(
        self, gateway: Gateway, kind: str, opinion: Any
    ) -> None:
        more: dict[str, Any] = {
            "comment": "Thanks.",
            "given_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "consent": upstream.CONSENT_DENIED,
        }
        reply = await give(gateway, **{"thumb": None, kind: opinion}, **more)
        assert (reply.feedback_id, reply.revision, reply.joined) == ("f-1", 1, True)
        (request,) = gateway.downstream.feedback.give.requests
        expected: dict[str, Any] = {"tenant": "default", "answer_id": "a", "user_id": "u", kind: opinion, **more}
        assert request.given == upstream.FeedbackGiven(**expected)
        assert request.event_id == ""
        assert gateway.downstream.feedback.give.deadlines[0] is not None

    async def test_a_repeated_call_with_an_idempotency_key_is_the_same_event(self, gateway: Gateway) -> None:
        gateway.downstream.feedback.joined = False
        replies = [await give(gateway, idempotency_key="k") for _ in range(2)]
        assert not any(reply.joined for reply in replies)
        first, second = (each.event_id for each in gateway.downstream.feedback.give.requests)
        assert first == second == event_id_of(feedback(idempotency_key="k"), tenant="default")

    @pytest.mark.parametrize(
        ("broken", "field"), [({"thumb": None}, "kind"), ({"answer_id": ""}, "answer_id"), ({"user_id": ""}, "user_id")]
    )
    async def test_what_cannot_be_is_refused_at_the_edge(
        self, gateway: Gateway, broken: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(Invalid) as fault:
            await give(gateway, **broken)
        assert fault.value.field == field
        assert gateway.downstream.feedback.give.begun == 0

    async def test_a_time_outside_of_the_calendar_names_its_field(self, gateway: Gateway) -> None:
        with pytest.raises(Invalid) as fault:
            await give(gateway, given_at={"seconds": 2**60})
        assert fault.value.field == "given_at"

    @pytest.mark.parametrize(
        ("raised", "told", "field"),
        [
            (NotFound("there is no such answer", field="answer_id"), NotFound, "answer_id"),
            (Invalid("must be 1 to 5", field="given.rating.stars"), Invalid, "rating.stars"),
            (TooLarge("is too long", field="correction.text"), TooLarge, "correction.text"),
            (Unreachable("the database is away"), Unreachable, None),
        ],
    )
    async def test_what_the_caller_can_change_is_told_with_its_field(
        self, gateway: Gateway, raised: Fault, told: type[Fault], field: str | None
    ) -> None:
        gateway.downstream.feedback.fault = raised
        with pytest.raises(told) as fault:
            await give(gateway)
        assert getattr(fault.value, "field", None) == field

    @pytest.mark.parametrize("raised", [Invalid("is empty", field="given.tenant"), Conflict("moved"), Invalid("what?")])
    async def test_what_the_caller_cannot_change_is_not_blamed_on_the_caller(
        self, gateway: Gateway, raised: Fault
    ) -> None:
        gateway.downstream.feedback.fault = raised
        with pytest.raises(Failed, match="internal error"):
            await give(gateway)

    async def test_a_person_past_the_limit_is_told_to_slow_down(self, gateway: Gateway) -> None:
        gateway.downstream.feedback.fault = TooOften("100 an hour are taken")
        with pytest.raises(Overloaded, match="100 an hour") as fault:
            await give(gateway)
        cause = fault.value.__cause__
        assert isinstance(cause, grpc.aio.AioRpcError)
        assert cause.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    async def test_without_a_key_nothing_is_taken(self, gateway: Gateway) -> None:
        async with grpc.aio.insecure_channel(gateway.grpc) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stubs.FeedbackServiceStub(channel).GiveFeedback(pb.GiveFeedbackRequest(), timeout=5)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_questions_are_answered_while_the_feedback_service_is_down(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async with running(tmp_path, feedback=f"127.0.0.1:{free_port()}") as gateway:
            assert not gateway.process.unready()
            async with grpc.aio.insecure_channel(gateway.grpc) as channel:
                answer = await stubs.AnswerServiceStub(channel).Ask(
                    pb.AskRequest(corpus="handbook", question="Where?"),
                    metadata=(("authorization", f"Bearer {gateway.key}"),),
                    timeout=5,
                )
            assert answer.text
            with pytest.raises(Unreachable):
                await give(gateway)
